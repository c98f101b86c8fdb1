// Package sendgrid reads SendGrid's signed event webhook: a JSON array of events, mapped to engagement events.
//
// It follows https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event and
// https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features as of
// 2026-11-29. It is not the unsigned webhook, which anybody could call, nor the one with OAuth alone.
//
// Traps: the signature is over the timestamp and the raw body, which has line ends of its own. The key is base64 of a DER
// SubjectPublicKeyInfo, without the lines of PEM. Custom arguments are members beside SendGrid's own, with names and types
// of the sender's choice. The same event may come twice, with the same sg_event_id. SendGrid documents no age beyond which
// a signature is stale; the usual one of webhooks is taken.
package sendgrid

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Headers of the signature.
const (
	signatureHeader = "X-Twilio-Email-Event-Webhook-Signature"
	timestampHeader = "X-Twilio-Email-Event-Webhook-Timestamp"
)

// Config configures the webhook.
type Config struct {
	Keys []string `name:"public-keys" env:"PUBLIC_KEYS" placeholder:"KEY" help:"Verification keys of SendGrid's signed event webhook, as its settings page shows them; more than one while keys are exchanged. Empty: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return len(c.Keys) > 0 }

// Source is SendGrid's webhook.
type Source struct {
	keys []*ecdsa.PublicKey
}

var _ webhook.Source = (*Source)(nil)

// New reads the keys: base64 of a DER SubjectPublicKeyInfo, on P-256.
func New(c Config) (*Source, error) {
	s := &Source{}
	var problems []error
	for i, text := range c.Keys {
		wrong := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("PUBLIC_KEYS: key %d %s: copy it from the settings of the event webhook", i+1, fmt.Sprintf(format, args...)))
		}
		der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			wrong("is not base64 (%v)", err)
			continue
		}
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			wrong("is not a public key (%v)", err)
			continue
		}
		public, ok := key.(*ecdsa.PublicKey)
		if !ok || public.Curve != elliptic.P256() {
			wrong("is not an ECDSA key on P-256")
			continue
		}
		s.keys = append(s.keys, public)
	}
	if len(c.Keys) == 0 {
		problems = append(problems, errors.New("PUBLIC_KEYS: give the verification key of the signed event webhook"))
	}
	return s, errors.Join(problems...)
}

// Early asks for the headers of a signature.
func (s *Source) Early(h http.Header) error {
	if h.Get(timestampHeader) == "" || h.Get(signatureHeader) == "" {
		return webhook.Unverified("the headers %s and %s must carry a signature", signatureHeader, timestampHeader)
	}
	return nil
}

// Verify checks an ECDSA signature over the timestamp and the raw body. Any of the keys will do, so that they can be exchanged
// without a gap.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error {
	timestamp := r.Header.Get(timestampHeader)
	signature := webhook.Base64(r.Header.Get(signatureHeader))
	hash := sha256.New()
	hash.Write([]byte(timestamp))
	hash.Write(r.Body)
	digest := hash.Sum(nil)
	fits := false
	for _, key := range s.keys {
		fits = fits || ecdsa.VerifyASN1(key, digest, signature)
	}
	if !fits {
		return webhook.Unverified("the signature does not fit the body")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return webhook.Unverified("the header %s must be a Unix time in seconds", timestampHeader)
	}
	return webhook.Fresh(time.Unix(seconds, 0), r.Now, webhook.Tolerance)
}

// Read takes the array apart.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	return webhook.Each(r.Body, read)
}

// kinds maps the types of events; what is not in it is no engagement: deferred, which SendGrid still tries to deliver,
// group_resubscribe, account_status_change, and whatever SendGrid adds.
var kinds = map[string]engagement.Kind{
	"processed": engagement.Sent, "delivered": engagement.Delivered, "open": engagement.Open, "click": engagement.Click,
	"bounce": engagement.Bounce, "dropped": engagement.Bounce, "spamreport": engagement.Complaint,
	"unsubscribe": engagement.Unsubscribe, "group_unsubscribe": engagement.Unsubscribe,
}

// names are SendGrid's of the fields of an event.
var names = map[string]string{
	"id": "sg_event_id", "subject": "customer_id or email", "time": "timestamp", "data.message": "sg_message_id",
	"data.campaign": "campaign or category", "data.link": "url", "data.user_agent": "useragent", "data.zone": "zone",
}

// read maps one event. The customer is the custom argument customer_id or, without it, the address in lower case; the custom
// arguments campaign and zone are kept.
func read(raw json.RawMessage) webhook.Element {
	m := webhook.Object(raw) // which keeps "Email" apart from "email"
	if m == nil {
		return webhook.Failed("", "must be a JSON object")
	}
	name, err := text(m, "event")
	if err != nil {
		return webhook.Element{Err: err}
	}
	if name == "" {
		return webhook.Failed("event", "is required")
	}
	kind, ok := kinds[name]
	if !ok {
		return webhook.Element{Ignored: name}
	}
	at, err := webhook.Seconds(m["timestamp"])
	if err != nil {
		return webhook.Failed("timestamp", "%v", err)
	}
	e := &engagement.Event{Source: "/ingest/sendgrid", Time: at, Kind: kind, Channel: "email", Provider: "sendgrid"}
	var id, email, category, address string
	for _, f := range []struct {
		name string
		into *string
	}{
		{"sg_event_id", &id}, {"email", &email}, {"customer_id", &e.Subject}, {"sg_message_id", &e.Message},
		{"useragent", &e.UserAgent}, {"url", &e.Link}, {"zone", &e.Zone},
		{"category", &category}, {"singlesend_id", &e.Campaign}, {"campaign", &e.Campaign},
	} {
		value, err := text(m, f.name)
		if err != nil {
			return webhook.Element{Err: err}
		}
		if value != "" {
			*f.into = value
		}
	}
	if id == "" {
		return webhook.Failed("sg_event_id", "is required")
	}
	e.ID = "sg-" + id
	if e.Subject == "" {
		if email == "" {
			return webhook.Failed("email", "is required where there is no customer_id")
		}
		e.Subject = webhook.Address(email)
	}
	if e.Campaign == "" {
		e.Campaign = category
	}
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, names)}
	}
	element := webhook.Element{Event: e, Machine: webhook.True(m["sg_machine_open"])}
	// The address only helps to judge, so one that cannot be read is none.
	if address, err = text(m, "ip"); err == nil {
		element.Address, _ = netip.ParseAddr(address)
	}
	return element
}

// text returns a member that is a string, a number or, for categories, the first of several strings; empty if there is none.
func text(m map[string]json.RawMessage, name string) (string, error) {
	raw := m[name]
	if len(raw) == 0 {
		return "", nil
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		return s, json.Unmarshal(raw, &s)
	case c == '-' || c >= '0' && c <= '9':
		return string(raw), nil
	case c == 'n':
		return "", nil
	case c == '[':
		var list []string
		if err := json.Unmarshal(raw, &list); err == nil {
			if len(list) == 0 {
				return "", nil
			}
			return list[0], nil
		}
	}
	return "", webhook.Wrong(name, "must be a string")
}
