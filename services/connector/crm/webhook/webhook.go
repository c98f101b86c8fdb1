// Package webhook carries decisions out at any endpoint that verifies Standard Webhooks 1.0.0 (standardwebhooks.com): the
// message has the decision's id in every attempt, and a receiver drops an id that it has seen.
//
// What a decision is to the receiver stands in the body as on the topic; what becomes of it is the receiver's. Its answers
// are sorted as the specification wants: 410 disables the endpoint, redirects and server errors are failures, other
// 4xx are a no.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/propagation"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/outbound"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Name of the target, and what its variables begin with.
const (
	Name   = "webhook"
	Prefix = "WEBHOOK_"
)

// Config says whom to call, and how hard.
type Config struct {
	URL    string        `name:"url" env:"URL" placeholder:"URL" help:"Endpoint that is called for every send_now of a live run."`
	Secret config.Secret `name:"secret" env:"SECRET" placeholder:"whsec_..." help:"Signing secret by Standard Webhooks; while it is being rotated several, separated by a space."`
	crm.Calls
}

// Validate names everything that is wrong with the settings for a run of this kind.
func (c Config) Validate(simulated bool) error {
	err := c.Calls.Validate(Prefix, c.URL, "https://crm.example.com/hooks/tempismo", simulated)
	if c.Secret != "" || c.Called(simulated) {
		_, wrong := signers(c.Secret)
		err = errors.Join(err, wrong)
	}
	return err
}

// signers reads the secrets. The specification asks for 24 to 64 random bytes in base64 after "whsec_".
func signers(secrets config.Secret) ([]*standardwebhooks.Webhook, error) {
	var all []*standardwebhooks.Webhook
	for i, text := range strings.Fields(string(secrets)) {
		encoded, ok := strings.CutPrefix(text, "whsec_")
		w, err := standardwebhooks.NewWebhook(encoded)
		// Three bytes stand in four characters.
		if size := len(strings.TrimRight(encoded, "=")) * 3 / 4; !ok || err != nil || size < 24 || size > 64 {
			return nil, fmt.Errorf("WEBHOOK_SECRET: secret %d is not whsec_ and 24 to 64 bytes in base64; `echo whsec_$(openssl rand -base64 32)` makes one", i+1)
		}
		all = append(all, w)
	}
	if len(all) == 0 {
		return nil, errors.New("WEBHOOK_SECRET: must be set; `echo whsec_$(openssl rand -base64 32)` makes one")
	}
	return all, nil
}

// Webhook is one endpoint.
type Webhook struct {
	url     string
	signers []*standardwebhooks.Webhook
	client  *http.Client
}

var _ crm.CRM = (*Webhook)(nil)

// New makes the endpoint at url.
func New(c Config, client *http.Client, url string) (*Webhook, error) {
	s, err := signers(c.Secret)
	if err != nil {
		return nil, err
	}
	return &Webhook{url: url, signers: s, client: client}, nil
}

// Traits of a receiver that follows the specification. Each decision follows the specification's schedule by itself.
func (w *Webhook) Traits() crm.Traits { return crm.Traits{Key: true, Batch: 1} }

// Send makes one attempt to hand the message over.
func (w *Webhook) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	if strings.ContainsFunc(s.ID, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision's id has control characters, which no header can carry"}
	}
	body, err := payload(s)
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the message cannot be written"}
	}
	return w.post(ctx, s.ID, body, now)
}

// post makes one attempt to hand over the message with that id.
func (w *Webhook) post(ctx context.Context, id string, body []byte, now time.Time) crm.Answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, strings.NewReader(string(body)))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the target's URL is not usable"}
	}
	signatures := make([]string, len(w.signers))
	for i, signer := range w.signers {
		if signatures[i], err = signer.Sign(id, now, body); err != nil {
			return crm.Answer{Verdict: crm.Refused, Detail: "the message cannot be signed"}
		}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	return crm.Do(w.client, req, func(code int, header http.Header, _ []byte) crm.Answer { return sort(code, header, now) })
}

// sort sorts answers as the specification does, which is not how CRMs are sorted: the receiver has a key, so a server error may
// be repeated.
func sort(code int, header http.Header, now time.Time) crm.Answer {
	a := crm.Answer{Detail: "HTTP " + strconv.Itoa(code)}
	switch {
	case code >= 200 && code < 300:
		a.Verdict, a.Detail = crm.Accepted, ""
	case code == http.StatusGone:
		a.Verdict = crm.Gone
	case code == http.StatusRequestTimeout, code >= 500:
		a.Verdict = crm.Unknown // it is asked again; if it never is answered, the receiver may have the message all the same
	case code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		a.Verdict = crm.Retry
	case code >= 400 && code < 500:
		a.Verdict = crm.Refused
	default: // redirects
		a.Verdict = crm.Retry
	}
	if a.Verdict == crm.Retry || a.Verdict == crm.Unknown {
		a.After = outbound.RetryAfter(header.Get("Retry-After"), now)
	}
	return a
}

// payload is the body of the call: type, timestamp and data, as the specification recommends. It is the same in every
// attempt.
func payload(s *crm.Send) ([]byte, error) {
	type data struct {
		ID       string          `json:"id"`
		Customer string          `json:"customer"`
		Decision json.RawMessage `json:"decision"`
	}
	return json.Marshal(struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      data      `json:"data"`
	}{s.Type, s.Time, data{s.ID, s.Customer, s.Data}})
}
