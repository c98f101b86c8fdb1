package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// CustomerIO imitates Customer.io's Track API, its batches and its transactional messages (see package customerio) for a workspace with
// the given keys.
func CustomerIO(site, trackKey, appKey string) *Fake {
	return &Fake{
		name: "customerio", seen: map[string]bool{}, limit: []window{{most: 100, per: time.Second}},
		answer: func(f *Fake, r *http.Request, body []byte) reply {
			path := r.URL.EscapedPath()
			if path == "/v1/send/email" {
				return transactional(f, appKey, r, body)
			}
			if path == "/api/v2/batch" {
				return people(f, site, trackKey, r, body)
			}
			who, ok := strings.CutPrefix(path, "/api/v1/customers/")
			who, ok2 := strings.CutSuffix(who, "/events")
			if !ok || !ok2 || who == "" || strings.Contains(who, "/") {
				return wrong(http.StatusNotFound, "not found")
			}
			return track(f, site, trackKey, who, r, body)
		},
	}
}

func wrong(status int, text string) reply {
	return reply{status, map[string]any{"meta": map[string]string{"error": text}}}
}

// ulids are the ids that an event may have.
var ulids = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)

func track(f *Fake, site, key, who string, r *http.Request, text []byte) reply {
	user, password, _ := r.BasicAuth()
	switch {
	case r.Method != http.MethodPost:
		return wrong(http.StatusMethodNotAllowed, "method not allowed")
	case user != site || password != key:
		return wrong(http.StatusUnauthorized, "Unauthorized")
	}
	var in struct {
		Name, ID  string
		Timestamp int64
		Data      struct {
			Decision string `json:"tempismo_decision"`
		}
	}
	id, err := url.PathUnescape(who)
	switch {
	case err != nil, json.Unmarshal(text, &in) != nil:
		return wrong(http.StatusBadRequest, "malformed")
	case strings.TrimSpace(in.Name) == "":
		return wrong(http.StatusBadRequest, "name: cannot be blank")
	case in.ID != "" && !ulids.MatchString(in.ID):
		return wrong(http.StatusBadRequest, "id: must be a ULID")
	}
	f.take(in.ID, in.Data.Decision, id)
	return reply{http.StatusOK, struct{}{}}
}

func transactional(f *Fake, key string, r *http.Request, text []byte) reply {
	switch {
	case r.Method != http.MethodPost:
		return wrong(http.StatusMethodNotAllowed, "method not allowed")
	case r.Header.Get("Authorization") != "Bearer "+key:
		return wrong(http.StatusUnauthorized, "Unauthorized")
	}
	var in struct {
		Template    any `json:"transactional_message_id"`
		To          string
		Identifiers map[string]any
		Data        struct {
			Decision string `json:"tempismo_decision"`
		} `json:"message_data"`
	}
	switch {
	case json.Unmarshal(text, &in) != nil || len(text) > 2048<<10:
		return wrong(http.StatusBadRequest, "Request entity must be JSON encoded and not exceed 2048 KB.")
	case in.Template == nil || in.Template == "":
		return wrong(http.StatusBadRequest, `"transactional_message_id" not found.`)
	case !strings.Contains(in.To, "@"):
		return wrong(http.StatusBadRequest, `Missing required field: "to"`)
	case len(in.Identifiers) != 1:
		return wrong(http.StatusBadRequest, `Missing required field: "identifiers"`)
	}
	f.take("", in.Data.Decision, in.To)
	calls, _ := f.Calls()
	return reply{http.StatusOK, map[string]any{"delivery_id": fmt.Sprintf("sandbox%d", calls), "queued_at": f.now().Unix()}}
}

// people identifies people. It makes those that it does not know.
func people(f *Fake, site, key string, r *http.Request, text []byte) reply {
	user, password, _ := r.BasicAuth()
	var in struct {
		Batch []struct {
			Type, Action string
			Identifiers  struct{ ID string }
			Attributes   map[string]any
		}
	}
	switch {
	case r.Method != http.MethodPost:
		return wrong(http.StatusMethodNotAllowed, "method not allowed")
	case user != site || password != key:
		return wrong(http.StatusUnauthorized, "Unauthorized")
	case len(text) > 500<<10:
		return wrong(http.StatusRequestEntityTooLarge, "too large")
	case json.Unmarshal(text, &in) != nil:
		return wrong(http.StatusBadRequest, "malformed")
	}
	f.batch(len(in.Batch))
	var errors []any
	for i, e := range in.Batch {
		if e.Type != "person" || e.Action != "identify" || e.Identifiers.ID == "" {
			errors = append(errors, map[string]any{"batch_index": i, "reason": "required", "field": "identifiers", "message": "something about what was sent"})
			continue
		}
		f.update(e.Identifiers.ID, e.Attributes)
	}
	if len(errors) > 0 {
		return reply{http.StatusMultiStatus, map[string]any{"errors": errors}}
	}
	return reply{http.StatusOK, struct{}{}}
}
