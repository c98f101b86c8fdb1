package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// HubSpot imitates HubSpot's single send, and contacts whose property "tempismo" enrols them in a workflow (see package
// hubspot), for an account with the given token. Contacts are addresses; it knows all of them.
func HubSpot(token string) *Fake {
	var mu sync.Mutex
	values := map[string][]string{} // that the property has had, by contact
	return &Fake{
		name: "hubspot", seen: map[string]bool{}, limit: []window{{most: 100, per: 10 * time.Second}},
		answer: func(f *Fake, r *http.Request, body []byte) reply {
			who, contact := strings.CutPrefix(r.URL.EscapedPath(), "/crm/v3/objects/contacts/")
			switch {
			case !contact && r.URL.Path != "/marketing/v4/email/single-send", contact && strings.Contains(who, "/"):
				return reply{http.StatusNotFound, "no such page"}
			case contact && r.Method != http.MethodPatch && r.Method != http.MethodGet, !contact && r.Method != http.MethodPost:
				return hubspotError(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
			case r.Header.Get("Authorization") != "Bearer "+token:
				return hubspotError(http.StatusUnauthorized, "INVALID_AUTHENTICATION")
			case !contact:
				return singleSend(f, body)
			}
			mu.Lock()
			defer mu.Unlock()
			id, err := url.PathUnescape(who)
			if err != nil || r.URL.Query().Get("idProperty") != "email" || !strings.Contains(id, "@") {
				return hubspotError(http.StatusNotFound, "OBJECT_NOT_FOUND")
			}
			if r.Method == http.MethodGet {
				return property(values[id], r.URL.Query().Get("propertiesWithHistory"))
			}
			return enrol(f, values, id, body)
		},
	}
}

func hubspotError(status int, category string) reply {
	return reply{status, map[string]string{"status": "error", "message": "something about what was sent", "category": category, "correlationId": "c"}}
}

func singleSend(f *Fake, text []byte) reply {
	var in struct {
		EmailID int64
		Message struct{ To, SendID string }
		Custom  struct {
			Decision string `json:"tempismo_decision"`
		} `json:"customProperties"`
	}
	if json.Unmarshal(text, &in) != nil || in.EmailID <= 0 || !strings.Contains(in.Message.To, "@") {
		return hubspotError(http.StatusBadRequest, "VALIDATION_ERROR")
	}
	f.take(in.Message.SendID, in.Custom.Decision, in.Message.To)
	calls, _ := f.Calls()
	return reply{http.StatusOK, map[string]string{"statusId": fmt.Sprintf("sandbox-%d", calls), "status": "PENDING", "requestedAt": f.now().UTC().Format(time.RFC3339)}}
}

// property shows what the property has had, the last value first.
func property(values []string, wanted string) reply {
	had := []map[string]string{}
	for _, v := range slices.Backward(values) {
		had = append(had, map[string]string{"value": v, "sourceType": "INTEGRATION"})
	}
	history := map[string]any{}
	if wanted == "tempismo" {
		history[wanted] = had
	}
	return reply{http.StatusOK, map[string]any{"id": "1", "properties": map[string]string{}, "propertiesWithHistory": history}}
}

func enrol(f *Fake, values map[string][]string, id string, text []byte) reply {
	var in struct{ Properties map[string]string }
	if json.Unmarshal(text, &in) != nil || in.Properties["tempismo"] == "" {
		return hubspotError(http.StatusBadRequest, "VALIDATION_ERROR")
	}
	value, had := in.Properties["tempismo"], values[id]
	if len(had) == 0 || had[len(had)-1] != value { // a value that does not change enrols nobody
		values[id] = append(had, value)
		f.take("", value, id)
	}
	return reply{http.StatusOK, map[string]any{"id": "1", "properties": in.Properties}}
}
