package sandbox

import (
	"encoding/json"
	"net/http"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Webhook is a receiver that follows Standard Webhooks 1.0.0 (see package webhook): it verifies signatures with the given
// secret (base64, after "whsec_" or without it), and drops an id that it has seen.
func Webhook(secret string) (*Fake, error) {
	verify, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	return &Fake{
		name: "webhook", seen: map[string]bool{}, wait: retryAfter,
		answer: func(f *Fake, r *http.Request, body []byte) reply { return receive(f, verify, r, body) },
	}, nil
}

func receive(f *Fake, verify *standardwebhooks.Webhook, r *http.Request, body []byte) reply {
	no := func(status int, message string) reply { return reply{status, map[string]string{"message": message}} }
	switch {
	case r.Method != http.MethodPost:
		return no(http.StatusMethodNotAllowed, "method not allowed")
	case verify.Verify(body, r.Header) != nil:
		return no(http.StatusUnauthorized, "the signature does not fit")
	}
	var in struct {
		Type string
		Data struct{ ID, Customer string }
	}
	if json.Unmarshal(body, &in) != nil || in.Type == "" || in.Data.ID == "" {
		return no(http.StatusBadRequest, "malformed")
	}
	f.take(r.Header.Get(standardwebhooks.HeaderWebhookID), in.Data.ID, in.Data.Customer)
	return reply{code: http.StatusNoContent}
}
