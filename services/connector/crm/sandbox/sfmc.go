package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// SFMC imitates the tokens, the entry events, the transactional messages and the rows of data extensions of Salesforce Marketing Cloud (see
// package sfmc) for an integration with the given client id and secret. It knows all contacts, definitions and data extensions.
func SFMC(client, secret string) *Fake {
	s := &sfmc{client: client, secret: secret, tokens: map[string]time.Time{}}
	return &Fake{name: "sfmc", seen: map[string]bool{}, wait: retryAfter, answer: s.answer}
}

type sfmc struct {
	client, secret string

	mu     sync.Mutex
	tokens map[string]time.Time // until when
}

func (s *sfmc) answer(f *Fake, r *http.Request, text []byte) reply {
	no := func(status, code int) reply {
		return reply{status, map[string]any{"message": "something about what was sent", "errorcode": code, "documentation": ""}}
	}
	if r.Method != http.MethodPost {
		return no(http.StatusMethodNotAllowed, 20000)
	}
	if r.URL.Path == "/v2/token" {
		return s.issue(f, text)
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	until := s.tokens[token]
	s.mu.Unlock()
	if !f.now().Before(until) {
		return no(http.StatusUnauthorized, 0)
	}
	type facts struct {
		Decision string `json:"tempismo_decision"`
	}
	calls, _ := f.Calls()
	if r.URL.Path == "/interaction/v1/events" {
		var in struct {
			ContactKey, EventDefinitionKey string
			Data                           facts
		}
		if json.Unmarshal(text, &in) != nil || in.ContactKey == "" || in.EventDefinitionKey == "" {
			return no(http.StatusBadRequest, 30000)
		}
		f.take("", in.Data.Decision, in.ContactKey)
		return reply{http.StatusCreated, map[string]string{"eventInstanceId": fmt.Sprintf("event-%d", calls)}}
	}
	if where, ok := strings.CutPrefix(r.URL.Path, "/hub/v1/dataevents/key:"); ok && strings.HasSuffix(where, "/rowset") {
		return rowset(f, text, no)
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/messaging/v1/email/messages/")
	if !ok || key == "" || len(key) > 100 {
		return no(http.StatusNotFound, 30003)
	}
	var in struct {
		DefinitionKey string
		Recipient     struct {
			ContactKey, To string
			Attributes     facts
		}
	}
	switch {
	case json.Unmarshal(text, &in) != nil:
		return no(http.StatusBadRequest, 10001)
	case in.DefinitionKey == "":
		return no(http.StatusBadRequest, 109107)
	case in.Recipient.ContactKey == "":
		return no(http.StatusBadRequest, 109105)
	case !strings.Contains(in.Recipient.To, "@"):
		return no(http.StatusBadRequest, 109121)
	}
	f.mu.Lock()
	used := f.seen[key]
	f.mu.Unlock()
	if used {
		return no(http.StatusBadRequest, 109110)
	}
	f.take(key, in.Recipient.Attributes.Decision, in.Recipient.To)
	return reply{http.StatusAccepted, map[string]any{"requestId": fmt.Sprintf("request-%d", calls), "errorcode": 0, "responses": []any{map[string]string{"messageKey": key}}}}
}

// issue issues a token, which lives for 20 minutes and says 18.
func (s *sfmc) issue(f *Fake, text []byte) reply {
	var in struct {
		Grant  string `json:"grant_type"`
		Client string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if json.Unmarshal(text, &in) != nil || in.Grant != "client_credentials" {
		return reply{http.StatusBadRequest, map[string]string{"error": "unsupported_grant_type"}}
	}
	if in.Client != s.client || in.Secret != s.secret {
		return reply{http.StatusUnauthorized, map[string]string{"error": "invalid_client"}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	token := fmt.Sprintf("token-%d", len(s.tokens)+1)
	s.tokens[token] = f.now().Add(20 * time.Minute)
	return reply{http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 1079, "rest_instance_url": "https://elsewhere.example.com/"}}
}

// rowset writes rows, or none of them where one is wrong.
func rowset(f *Fake, text []byte, no func(status, code int) reply) reply {
	var in []struct {
		Keys   map[string]string
		Values map[string]any
	}
	if json.Unmarshal(text, &in) != nil || len(in) == 0 || len(in) > 50 {
		return no(http.StatusBadRequest, 10000)
	}
	for _, row := range in {
		if who := row.Keys["ContactKey"]; len(row.Keys) != 1 || who == "" || len(who) > 254 { // as long as the column
			return no(http.StatusBadRequest, 10006)
		}
	}
	f.batch(len(in))
	for _, row := range in {
		f.update(row.Keys["ContactKey"], row.Values)
	}
	return reply{http.StatusOK, in}
}
