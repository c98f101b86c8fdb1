package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// HubSpot imitates HubSpot's single send, and contacts whose property "tempismo" enrols them in a workflow (see package
// hubspot), for an account with the given token. Contacts are addresses; it knows all of them.
func HubSpot(token string) *Fake {
	var mu sync.Mutex
	values := map[string]string{} // of the property, by contact
	return &Fake{
		name: "hubspot", seen: map[string]bool{}, limit: []window{{most: 100, per: 10 * time.Second}},
		answer: func(f *Fake, r *http.Request, body []byte) reply {
			who, contact := strings.CutPrefix(r.URL.EscapedPath(), "/crm/v3/objects/contacts/")
			switch {
			case !contact && r.URL.Path != "/marketing/v4/email/single-send", contact && strings.Contains(who, "/"):
				return reply{http.StatusNotFound, "no such page"}
			case contact && r.Method != http.MethodPatch, !contact && r.Method != http.MethodPost:
				return hubspotError(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
			case r.Header.Get("Authorization") != "Bearer "+token:
				return hubspotError(http.StatusUnauthorized, "INVALID_AUTHENTICATION")
			case !contact:
				return singleSend(f, body)
			}
			mu.Lock()
			defer mu.Unlock()
			return enrol(f, values, who, r.URL.Query().Get("idProperty"), body)
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

func enrol(f *Fake, values map[string]string, who, by string, text []byte) reply {
	var in struct{ Properties map[string]string }
	if json.Unmarshal(text, &in) != nil || in.Properties["tempismo"] == "" {
		return hubspotError(http.StatusBadRequest, "VALIDATION_ERROR")
	}
	id, err := url.PathUnescape(who)
	if err != nil || by != "email" || !strings.Contains(id, "@") {
		return hubspotError(http.StatusNotFound, "OBJECT_NOT_FOUND")
	}
	if value := in.Properties["tempismo"]; values[id] != value { // a value that does not change enrols nobody
		values[id] = value
		f.take("", value, id)
	}
	return reply{http.StatusOK, map[string]any{"id": "1", "properties": in.Properties}}
}
