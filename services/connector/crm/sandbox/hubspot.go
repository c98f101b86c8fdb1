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

// HubSpot imitates HubSpot's single send, contacts whose property "tempismo" enrols them in a workflow, and batches of contacts (see
// package hubspot), for an account with the given token. Contacts are addresses.
func HubSpot(token string) *Fake {
	var mu sync.Mutex
	values := map[string][]string{} // that the property has had, by contact
	ids, addresses := map[string]string{}, map[string]string{}
	return &Fake{
		name: "hubspot", seen: map[string]bool{}, limit: []window{{most: 100, per: 10 * time.Second}},
		answer: func(f *Fake, r *http.Request, body []byte) reply {
			who, contact := strings.CutPrefix(r.URL.EscapedPath(), "/crm/v3/objects/contacts/")
			switch {
			case who == "batch/read", who == "batch/update":
				mu.Lock()
				defer mu.Unlock()
				return batches(f, token, ids, addresses, who == "batch/read", r, body)
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

// batches finds contacts, whose ids it makes up as they are asked for, or writes properties of those it has found.
func batches(f *Fake, token string, ids, addresses map[string]string, read bool, r *http.Request, text []byte) reply {
	var in struct {
		Properties []string
		IDProperty string
		Inputs     []struct {
			ID         string
			Properties map[string]string
		}
	}
	switch {
	case r.Method != http.MethodPost:
		return hubspotError(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
	case r.Header.Get("Authorization") != "Bearer "+token:
		return hubspotError(http.StatusUnauthorized, "INVALID_AUTHENTICATION")
	case json.Unmarshal(text, &in) != nil, len(in.Inputs) == 0, len(in.Inputs) > 100, read != (in.IDProperty == "email"):
		return hubspotError(http.StatusBadRequest, "VALIDATION_ERROR")
	}
	results, missing := []any{}, []string{}
	if read {
		for _, c := range in.Inputs {
			if !strings.Contains(c.ID, "@") || f.unknown(c.ID) {
				missing = append(missing, c.ID)
				continue
			}
			who := strings.ToLower(c.ID)
			if ids[who] == "" {
				ids[who] = fmt.Sprint(1000 + len(ids))
				addresses[ids[who]] = c.ID
			}
			results = append(results, map[string]any{"id": ids[who], "properties": map[string]string{"email": who}})
		}
	} else {
		seen := map[string]bool{}
		for _, c := range in.Inputs {
			for name := range c.Properties {
				if !strings.HasPrefix(name, "tempismo_") {
					return reply{http.StatusBadRequest, map[string]string{"status": "error", "message": `Property values were not valid: [{"error":"PROPERTY_DOESNT_EXIST"}]`, "category": "VALIDATION_ERROR"}}
				}
			}
			if seen[c.ID] {
				return hubspotError(http.StatusBadRequest, "VALIDATION_ERROR")
			}
			seen[c.ID] = true
		}
		f.batch(len(in.Inputs))
		for _, c := range in.Inputs {
			who := addresses[c.ID]
			if who == "" {
				missing = append(missing, c.ID)
				continue
			}
			properties := map[string]any{}
			for name, v := range c.Properties {
				properties[name] = v
			}
			f.update(who, properties)
			results = append(results, map[string]any{"id": c.ID, "properties": c.Properties})
		}
	}
	answer := map[string]any{"status": "COMPLETE", "results": results}
	if len(missing) == 0 {
		return reply{http.StatusOK, answer}
	}
	answer["numErrors"] = len(missing)
	answer["errors"] = []any{map[string]any{"status": "error", "category": "OBJECT_NOT_FOUND", "message": "something about what was sent", "context": map[string]any{"ids": missing}}}
	return reply{http.StatusMultiStatus, answer}
}
