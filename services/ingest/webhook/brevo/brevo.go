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

// Config configures the webhook. One kind of secret is enough.
type Config struct {
	Logins config.Secret `name:"logins" env:"LOGINS" help:"Logins in the URL of Brevo's webhook, each USER:PASSWORD, separated by commas (a password has none in it): more than one while they are exchanged."`
	Tokens config.Secret `name:"tokens" env:"TOKENS" help:"Bearer tokens that Brevo's webhook was made with, separated by commas: more than one while they are exchanged. Neither logins nor tokens: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c != Config{} }

// Source is Brevo's webhook.
type Source struct {
	logins, tokens webhook.Keys
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	s := &Source{}
	var problems []error
	var err error
	if s.logins, err = webhook.NewLogins(string(c.Logins)); err != nil {
		problems = append(problems, fmt.Errorf("LOGINS: %w", err))
	}
	if s.tokens, err = webhook.NewKeys(string(c.Tokens), webhook.LeastSecret); err != nil {
		problems = append(problems, fmt.Errorf("TOKENS: %w: use a long random one", err))
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
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if s.logins.HasLogin(h) || strings.EqualFold(scheme, "Bearer") && s.tokens.Has(strings.TrimSpace(token)) {
		return nil
	}
	return webhook.Unverified("the header Authorization must carry one of the logins or tokens")
}

// Verify is Early: the body is not signed.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error { return s.Early(r.Header) }

// Read returns the events of a request.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	return webhook.Each(r.Body, read)
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

// names are Brevo's of the fields of an event.
var names = map[string]string{
	"subject": "X-Mailin-custom (customer_id) or email", "time": "ts_epoch or ts_event", "data.message": "message-id",
	"data.campaign": "X-Mailin-custom (campaign), camp_id or tags", "data.link": "link", "data.user_agent": "user_agent",
}

// read maps one event.
func read(raw json.RawMessage) webhook.Element {
	m := webhook.Object(raw)
	full := webhook.TextOf(m["event"])
	if full == "" {
		if status := webhook.TextOf(m["msg_status"]); status != "" {
			return webhook.Element{Ignored: "SMS " + status}
		}
		return webhook.Failed("event", "is required")
	}
	name := strings.TrimPrefix(full, "unique_")
	means, ok := meanings[name]
	if !ok {
		return webhook.Element{Ignored: full}
	}
	at, err := when(m)
	if err != nil {
		return webhook.Element{Err: err}
	}
	custom := m["X-Mailin-custom"]
	email := webhook.Address(webhook.TextOf(m["email"]))
	e := engagement.Event{
		Source: "/ingest/brevo", Time: at, Kind: means.kind, Channel: "email", Provider: "brevo",
		Message: strings.Trim(webhook.TextOf(m["message-id"]), " <>"), UserAgent: webhook.TextOf(m["user_agent"]),
	}
	campaign := webhook.TextOf(m["camp_id"])
	if e.Message == "" && campaign != "" {
		e.Message = "campaign-" + campaign
	}
	if means.kind == engagement.Click {
		e.Link = cmp.Or(webhook.TextOf(m["link"]), webhook.TextOf(m["URL"]))
	}
	var address netip.Addr
	if means.kind.Engaged() {
		for _, name := range []string{"sending_ip", "ip"} { // the latter, if there are both
			if from, err := netip.ParseAddr(webhook.TextOf(m[name])); err == nil && !from.IsUnspecified() {
				address = from
			}
		}
	}
	own, _ := argument(custom, "campaign") // one of another form is none
	e.Campaign = cmp.Or(own, campaign, tag(m))
	if e.Subject, err = argument(custom, "customer_id"); err != nil {
		return webhook.Element{Err: err}
	}
	e.Subject = cmp.Or(e.Subject, email)
	if means.kind == engagement.Complaint || means.kind == engagement.Unsubscribe {
		name = means.kind.String() // whatever the spelling
	}
	e.ID = webhook.ID("brevo", e.Message, cmp.Or(email, e.Subject), name, at.Truncate(time.Second), e.Link)
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, names)}
	}
	return webhook.Element{Event: &e, Machine: means.machine, Address: address}
}

// when is the time of an event, from the members that are in UTC.
func when(m map[string]json.RawMessage) (time.Time, error) {
	for _, name := range []string{"ts_epoch", "s_epoch"} {
		raw := m[name]
		if webhook.TextOf(raw) == "" {
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
	header := webhook.TextOf(raw)
	if header == "" {
		header = string(raw)
	}
	if m := webhook.Object(json.RawMessage(header)); m != nil {
		return webhook.Customer(m[name], "X-Mailin-custom ("+name+")")
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
	if s := webhook.First(m["tags"]); s != "" {
		return s
	}
	if s := webhook.First(m["tag"]); s != "" {
		return s
	}
	s := webhook.TextOf(m["tag"])
	if strings.HasPrefix(s, "[") {
		return webhook.First(json.RawMessage(s))
	}
	return s
}
