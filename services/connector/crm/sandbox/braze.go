package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Everybody is the customer of a message that goes to a whole segment, which no connector may ever send.
const Everybody = "*"

// Braze imitates the triggers and the user attributes of Braze (see package braze) for a workspace with the given REST key.
func Braze(key string) *Fake {
	return &Fake{
		name: "braze", limit: []window{{path: "/ca", most: 250_000, per: time.Hour}, {path: brazeTrack, most: 3000, per: 3 * time.Second}},
		wait: func(h http.Header, wait time.Duration, now time.Time) {
			h.Set("X-RateLimit-Limit", "250000")
			h.Set("X-RateLimit-Remaining", "0")
			h.Set("X-RateLimit-Reset", strconv.FormatInt(now.Add(wait).Unix()+1, 10))
		},
		answer: func(f *Fake, r *http.Request, body []byte) reply { return braze(f, key, r, body) },
	}
}

const brazeTrack = "/users/track"

func braze(f *Fake, key string, r *http.Request, text []byte) reply {
	no := func(status int, message string) reply { return reply{status, map[string]string{"message": message}} }
	canvas := r.URL.Path == "/canvas/trigger/send"
	switch {
	case !canvas && r.URL.Path != "/campaigns/trigger/send" && r.URL.Path != brazeTrack:
		return no(http.StatusNotFound, "Invalid URL")
	case r.Method != http.MethodPost:
		return no(http.StatusMethodNotAllowed, "Method not allowed")
	case r.Header.Get("Authorization") != "Bearer "+key:
		return no(http.StatusUnauthorized, "Invalid API key")
	}
	if r.URL.Path == brazeTrack {
		return attributes(f, text, no)
	}
	type facts struct {
		Decision string `json:"tempismo_decision"`
	}
	var in struct {
		Campaign   string `json:"campaign_id"`
		Canvas     string `json:"canvas_id"`
		Broadcast  bool
		Recipients []struct {
			User       string          `json:"external_user_id"`
			Alias      json.RawMessage `json:"user_alias"`
			Email      string
			Properties facts `json:"trigger_properties"`
			Context    facts
		}
	}
	if r.Header.Get("Content-Type") != "application/json" || json.Unmarshal(text, &in) != nil {
		return no(http.StatusBadRequest, "Malformed JSON")
	}
	switch {
	case canvas && in.Canvas == "":
		return no(http.StatusBadRequest, "Invalid canvas ID")
	case !canvas && in.Campaign == "":
		return no(http.StatusBadRequest, "Invalid campaign ID")
	case len(in.Recipients) > 50:
		return no(http.StatusBadRequest, "Recipients exceeds the limit of 50")
	case in.Broadcast, len(in.Recipients) == 0:
		f.take("", "", Everybody)
	}
	for _, to := range in.Recipients {
		given := 0
		for _, is := range []bool{to.User != "", to.Alias != nil, to.Email != ""} {
			if is {
				given++
			}
		}
		if given != 1 {
			return no(http.StatusBadRequest, "Recipients must specify exactly one identifier")
		}
	}
	for _, to := range in.Recipients {
		decision := to.Properties.Decision
		if canvas {
			decision = to.Context.Decision
		}
		f.take("", decision, to.User+to.Email+string(to.Alias))
	}
	calls, _ := f.Calls()
	return reply{http.StatusCreated, map[string]string{"dispatch_id": fmt.Sprintf("%032x", calls), "message": "success"}}
}

// attributes writes attributes of users. Of those that it does not know it makes none where that is not wanted, and does not say so.
func attributes(f *Fake, text []byte, no func(status int, message string) reply) reply {
	var in struct{ Attributes []map[string]any }
	switch {
	case json.Unmarshal(text, &in) != nil:
		return no(http.StatusBadRequest, "Malformed JSON")
	case len(in.Attributes) > 75:
		return no(http.StatusBadRequest, "Attributes exceeds the limit of 75")
	}
	f.batch(len(in.Attributes))
	errors, taken := []any{}, 0
	for i, a := range in.Attributes {
		who, _ := a["external_id"].(string)
		existing, _ := a["_update_existing_only"].(bool)
		delete(a, "external_id")
		delete(a, "_update_existing_only")
		if who == "" {
			errors = append(errors, map[string]any{"type": "'external_id' is required", "input_array": "attributes", "index": i})
			continue
		}
		taken++
		if !existing || !f.unknown(who) {
			f.update(who, a)
		}
	}
	answer := map[string]any{"message": "success", "attributes_processed": taken}
	if len(errors) > 0 {
		answer["errors"] = errors
	}
	return reply{http.StatusCreated, answer}
}
