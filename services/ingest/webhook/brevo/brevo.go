// Package brevo reads the webhooks of Brevo (once Sendinblue) for transactional and for marketing mail: one event, or an array of
// them where the webhook is batched, mapped to engagement events.
//
// It is not the reader of received mail, of SMS or WhatsApp, nor of changes of contacts and lists: those are ignored.
//
// It follows, as of 2026-11-29:
//
//	https://developers.brevo.com/docs/secured-webhooks
//	https://developers.brevo.com/docs/transactional-webhooks
//	https://developers.brevo.com/docs/marketing-webhooks
//	https://developers.brevo.com/docs/batch-webhooks
//	https://developers.brevo.com/docs/retry-mechanism
//	https://github.com/anymail/django-anymail/issues/344 (which opens are reported)
//
// Traps:
//   - Nothing is signed. The login in the webhook's URL, or the bearer token that the webhook was made with, is all that tells
//     Brevo from others; there is no time and no token that would show a replay. A repeated event has the same id.
//   - Brevo repeats a request four times within half a day, but its page says that any answer of 5xx, and of 4xx except 429, makes
//     it drop the request. Only 429 surely asks for another attempt.
//   - Events have no id, the member id being that of the webhook. One is made of what an event says.
//   - Brevo reports the first open as unique_opened and later ones as opened; it used to report the first one as both. The same
//     holds for proxy opens. Both names therefore make the same id, with the time to the second: what is reported twice is
//     recognised as one open.
//   - proxy_open and unique_proxy_open are what privacy proxies fetch: machines.
//   - ts_epoch is in milliseconds, though Brevo's example has seconds in it, and one of proxy_open calls it s_epoch. Marketing
//     events have only ts_event, in seconds, which the page says is in UTC; others have seen it in the time zone of the account. ts
//     and date are in that zone in Brevo's own examples and are not read.
//   - message-id comes with and without angle brackets. Marketing events have none: there the campaign is the message, of
//     which a customer gets one.
//   - sending_ip is documented as the address that Brevo has sent from. In events that others have published, those of opens carry
//     the address that has fetched the pixel there, or "::". For opens and clicks it is taken for that: an address of Brevo's
//     own is on no list of machines.
//   - email is empty in some events about opens: without customer_id nobody can tell whose they are, and they are refused.
//   - The spelling of names varies: unsubscribe and unsubscribed, spam and complaint, invalid and invalid_email.
//   - request does not mean that the message was sent; a bounce follows where it was not. deferred is a delay, and ignored;
//     soft_bounce is a bounce.
//   - Events come out of order.
//   - Brevo's pages show neither a batch, which is taken to be an array of events, nor, to us, the name of the link in a marketing
//     click, which is looked for in link and in URL.
//
// The customer's id is customer_id in the header X-Mailin-custom (a JSON object, or key:value|key:value as on Brevo's pages) or else
// the address in lower case; the campaign is campaign in that header, or else camp_id, or else the first tag.
package brevo

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// leastSecret keeps out secrets that can be guessed: nothing else is between a stranger and the events.
const leastSecret = 16

// Config configures the webhook. One kind of secret is enough.
type Config struct {
	Logins config.Secret `name:"logins" env:"LOGINS" help:"Logins in the URL of Brevo's webhook, each USER:PASSWORD, separated by commas (a password has none in it): more than one while they are exchanged."`
	Tokens config.Secret `name:"tokens" env:"TOKENS" help:"Bearer tokens that Brevo's webhook was made with, separated by commas: more than one while they are exchanged. Neither logins nor tokens: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c != Config{} }

// Source is Brevo's webhook.
type Source struct {
	logins, tokens [][sha256.Size]byte
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	s := &Source{}
	var problems []error
	logins, _ := webhook.NewKeys(string(c.Logins), 0) // any length: the passwords are measured below
	for i, login := range logins {
		user, password, ok := strings.Cut(string(login), ":")
		if !ok || user == "" || len(password) < leastSecret {
			problems = append(problems, fmt.Errorf("LOGINS: login %d is not USER:PASSWORD with a password of at least %d characters: use a long random one", i+1, leastSecret))
		}
		s.logins = append(s.logins, sha256.Sum256(login))
	}
	tokens, err := webhook.NewKeys(string(c.Tokens), leastSecret)
	if err != nil {
		problems = append(problems, fmt.Errorf("TOKENS: %w: use a long random one", err))
	}
	for _, token := range tokens {
		s.tokens = append(s.tokens, sha256.Sum256(token))
	}
	if len(problems) == 0 && len(s.logins) == 0 && len(s.tokens) == 0 {
		problems = append(problems, errors.New("LOGINS and TOKENS are empty: give the USER:PASSWORD of the webhook's URL or its bearer token, as Brevo signs nothing"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return s, nil
}

// Early checks the login or the token, which is all there is to be checked.
func (s *Source) Early(h http.Header) error {
	if user, password, ok := (&http.Request{Header: h}).BasicAuth(); ok {
		if among(s.logins, user+":"+password) {
			return nil
		}
	} else if scheme, token, _ := strings.Cut(h.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") && among(s.tokens, strings.TrimSpace(token)) {
		return nil
	}
	return webhook.Unverified("the header Authorization must carry one of the logins or tokens")
}

// Verify is Early: the body is not signed.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error { return s.Early(r.Header) }

// among reports whether a secret is one of those of which only sums are kept. All are compared, each in the same time.
func among(sums [][sha256.Size]byte, secret string) bool {
	sum, found := sha256.Sum256([]byte(secret)), 0
	for _, s := range sums {
		found |= subtle.ConstantTimeCompare(s[:], sum[:])
	}
	return found == 1
}

// Read returns the events of a request.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	all, err := webhook.Objects(r.Body)
	if err != nil {
		return nil, err
	}
	elements := make([]webhook.Element, len(all))
	for i, raw := range all {
		e, ignored, err := read(object(raw))
		elements[i] = webhook.Element{Ignored: ignored, Err: err, Raw: raw}
		if err == nil && ignored == "" {
			elements[i].Event, elements[i].Machine, elements[i].Address = &e.Event, e.machine, e.address
		}
	}
	return elements, nil
}

// meaning is what a type of Brevo's events is to us.
type meaning struct {
	kind    engagement.Kind
	machine bool
}

// meanings maps the types, without the prefix unique_; what is not in it is no engagement.
var meanings = map[string]meaning{
	"request": {kind: engagement.Sent}, "sent": {kind: engagement.Sent}, "delivered": {kind: engagement.Delivered},
	"opened": {kind: engagement.Open}, "proxy_open": {engagement.Open, true}, "click": {kind: engagement.Click},
	"soft_bounce": {kind: engagement.Bounce}, "hard_bounce": {kind: engagement.Bounce},
	"blocked": {kind: engagement.Bounce}, "error": {kind: engagement.Bounce},
	"invalid": {kind: engagement.Bounce}, "invalid_email": {kind: engagement.Bounce},
	"spam": {kind: engagement.Complaint}, "complaint": {kind: engagement.Complaint},
	"unsubscribe": {kind: engagement.Unsubscribe}, "unsubscribed": {kind: engagement.Unsubscribe},
}

// event is an event and what Brevo says of who caused it.
type event struct {
	engagement.Event
	machine bool
	address netip.Addr
}

// read maps one event, or says by what name it is ignored.
func read(m map[string]json.RawMessage) (e event, ignored string, err error) {
	full := text(m["event"])
	if full == "" {
		if status := text(m["msg_status"]); status != "" {
			return e, "SMS " + status, nil
		}
		return e, "", webhook.Wrong("event", "is required")
	}
	name := strings.TrimPrefix(full, "unique_")
	means, ok := meanings[name]
	if !ok {
		return e, full, nil
	}
	at, err := when(m)
	if err != nil {
		return e, "", err
	}
	custom := m["X-Mailin-custom"]
	email := webhook.Address(text(m["email"]))
	e.machine = means.machine
	e.Event = engagement.Event{
		Source: "/ingest/brevo", Time: at, Kind: means.kind, Channel: "email", Provider: "brevo",
		Message: strings.Trim(text(m["message-id"]), " <>"), UserAgent: text(m["user_agent"]),
	}
	campaign := text(m["camp_id"])
	if e.Message == "" && campaign != "" {
		e.Message = "campaign-" + campaign
	}
	if means.kind == engagement.Click {
		e.Link = cmp.Or(text(m["link"]), text(m["URL"]))
	}
	if means.kind.Engaged() {
		for _, name := range []string{"sending_ip", "ip"} { // the latter, if there are both
			if address, err := netip.ParseAddr(text(m[name])); err == nil && !address.IsUnspecified() {
				e.address = address
			}
		}
	}
	own, _ := argument(custom, "campaign") // one of another form is none
	e.Campaign = cmp.Or(own, campaign, tag(m))
	if e.Subject, err = argument(custom, "customer_id"); err != nil {
		return e, "", err
	}
	e.Subject = cmp.Or(e.Subject, email)
	if means.kind == engagement.Complaint || means.kind == engagement.Unsubscribe {
		name = means.kind.String() // whatever the spelling
	}
	e.ID = webhook.ID("brevo", e.Message, cmp.Or(email, e.Subject), name, at.Truncate(time.Second), e.Link)
	return e, "", renamed(e.Validate())
}

// when is the time of an event, from the members that are in UTC.
func when(m map[string]json.RawMessage) (time.Time, error) {
	for _, name := range []string{"ts_epoch", "s_epoch"} {
		raw := m[name]
		if text(raw) == "" {
			continue
		}
		at, err := webhook.Millis(raw)
		if err != nil { // seconds, which are no milliseconds of this century
			at, err = webhook.Seconds(raw)
		}
		if err != nil {
			return at, webhook.Wrong(name, "must be a Unix time in milliseconds")
		}
		return at, nil
	}
	at, err := webhook.Seconds(m["ts_event"])
	if err != nil {
		return at, webhook.Wrong("ts_epoch or ts_event", "must be a Unix time, the first in milliseconds, the second in seconds")
	}
	return at, nil
}

// argument returns what the sender has put under a name into the custom header. In a JSON object, what is neither text nor a number
// is an error: for a customer, the address in its stead would be another one.
func argument(raw json.RawMessage, name string) (string, error) {
	header := text(raw)
	if header == "" {
		header = string(raw)
	}
	if m := object(json.RawMessage(header)); m != nil {
		value := m[name]
		if len(value) > 0 && strings.IndexByte("{[tf", value[0]) >= 0 {
			return "", webhook.Wrong("X-Mailin-custom", "%s must be a string or a number", name)
		}
		return text(value), nil
	}
	for pair := range strings.SplitSeq(header, "|") {
		if key, value, ok := strings.Cut(pair, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value), nil
		}
	}
	return "", nil
}

// tag returns the first tag: of tags, or of tag, which is text, or an array, or an array in a text.
func tag(m map[string]json.RawMessage) string {
	if s := first(m["tags"]); s != "" {
		return s
	}
	if s := first(m["tag"]); s != "" {
		return s
	}
	s := text(m["tag"])
	if strings.HasPrefix(s, "[") {
		return first(json.RawMessage(s))
	}
	return s
}

// renamed gives an error of Validate the name of Brevo's field, which is what the sender can look at.
func renamed(err error) error {
	var field *engagement.FieldError
	if !errors.As(err, &field) {
		return err
	}
	name := field.Field
	switch name {
	case "subject":
		name = "X-Mailin-custom (customer_id) or email"
	case "time":
		name = "ts_epoch or ts_event"
	case "data.message":
		name = "message-id"
	case "data.campaign":
		name = "X-Mailin-custom (campaign), camp_id or tags"
	case "data.user_agent":
		name = "user_agent"
	case "data.link":
		name = "link"
	}
	return &engagement.FieldError{Field: name, Reason: field.Reason}
}

// object returns the members of an object; nil where raw is none, because members that matter to nobody may have any form.
func object(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// text returns a string, or a number as it is written; empty where raw is neither.
func text(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case c == '-' || c >= '0' && c <= '9':
		return string(raw)
	}
	return ""
}

// first returns the first of several strings.
func first(raw json.RawMessage) string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return ""
	}
	return text(list[0])
}
