// Package resend reads the webhooks of Resend: one event in each request, mapped to an engagement event for each recipient that it
// is about.
//
// Resend sends through Svix, whose scheme is that of Standard Webhooks with other names of headers. It is not the reader of received
// mail (email.received), nor of what happens to domains and suppression lists.
//
// It follows, as of 2026-11-29:
//
//	https://resend.com/docs/webhooks/verify-webhooks-requests
//	https://resend.com/docs/webhooks/event-types and the pages below https://resend.com/docs/webhooks/emails/
//	https://resend.com/docs/webhooks/retries-and-replays
//	https://resend.com/changelog/new-contact-webhooks
//	https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
//
// Traps:
//   - The key is what stands in base64 behind whsec_. It signs id, time and raw body with dots between them; the header of
//     signatures may hold several, and some of other versions.
//   - svix-id is the id of the event: the same for each attempt and each manual replay. The time of the signature is of the attempt.
//   - created_at beside type is when the event was made, the one in data when the message was. A click has a time of its own.
//   - data.to holds all recipients of a message. Whose pixel or link it was cannot be told, so an open or a click of a message to
//     several is refused, unless the sender has said who the customer is: send one message per recipient.
//   - Opens have neither a user agent nor an address, and Resend does not say whether a machine has opened a message: those of
//     privacy proxies cannot be told from others here.
//   - tags come as an object, or as an array of names and values.
//   - Nobody's unsubscription is an event of its own: it is contact.updated with unsubscribed true, which comes again whenever
//     anything else of that contact changes. It knows the address only and no tags: a sender that attaches a customer_id to
//     its mail has to tell of such wishes by that id itself.
//   - delivery_delayed is a delay, and ignored; failed and suppressed were never sent, and are bounces.
//
// The customer's id is the tag customer_id or else the address in lower case; the campaign is the tag campaign or else the
// broadcast.
package resend

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Headers of a signature.
const (
	idHeader        = "Svix-Id"
	timestampHeader = "Svix-Timestamp"
	signatureHeader = "Svix-Signature"
)

// maxSignatures is how many signatures of a request are looked at: each costs a pass over the body. Svix sends one for each
// secret that is valid while they are exchanged.
const maxSignatures = 8

// Config configures the webhook.
type Config struct {
	Secrets config.Secret `name:"signing-secrets" env:"SIGNING_SECRETS" help:"Signing secrets of Resend's webhooks (whsec_...), separated by commas: each webhook has its own, and more than one while they are exchanged. Empty: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c.Secrets != "" }

// Source is Resend's webhook.
type Source struct {
	keys webhook.Keys
}

var (
	_ webhook.Source  = (*Source)(nil)
	_ webhook.Wanting = (*Source)(nil)
)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	const advice = "copy it from the page of the webhook"
	s := &Source{}
	var problems []error
	secrets, _ := webhook.NewKeys(string(c.Secrets), 0) // any length: the keys in them are measured below
	for i, secret := range secrets {
		encoded, ok := strings.CutPrefix(string(secret), "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < webhook.LeastSecret {
			problems = append(problems, fmt.Errorf("SIGNING_SECRETS: secret %d is not whsec_ and at least %d bytes in base64: %s", i+1, webhook.LeastSecret, advice))
			continue
		}
		s.keys = append(s.keys, key)
	}
	if len(secrets) == 0 {
		problems = append(problems, errors.New("SIGNING_SECRETS: there is none: "+advice))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return s, nil
}

// Early asks for the headers of a signature.
func (s *Source) Early(h http.Header) error {
	if h.Get(idHeader) == "" || h.Get(timestampHeader) == "" || h.Get(signatureHeader) == "" {
		return webhook.Unverified("the headers %s, %s and %s must carry a signature", idHeader, timestampHeader, signatureHeader)
	}
	return nil
}

// Verify checks the signature and its age.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error {
	if err := s.Early(r.Header); err != nil {
		return err
	}
	id, timestamp := r.Header.Get(idHeader), r.Header.Get(timestampHeader)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return webhook.Unverified("the header %s must be a Unix time in seconds", timestampHeader)
	}
	if err := webhook.Fresh(time.Unix(seconds, 0), r.Now, webhook.Tolerance); err != nil {
		return err
	}
	seen := 0
	for part := range strings.FieldsSeq(r.Header.Get(signatureHeader)) {
		encoded, ok := strings.CutPrefix(part, "v1,")
		if !ok {
			continue
		}
		if seen++; seen > maxSignatures {
			break
		}
		if s.keys.Signed(webhook.Base64(encoded), sha256.New, []byte(id+"."+timestamp+"."), r.Body) {
			return nil
		}
	}
	return webhook.Unverified("none of the signatures in %s fits the body: look at the signing secrets", signatureHeader)
}

// request is a webhook as it comes.
type request struct {
	Type      string          `json:"type"`
	CreatedAt string          `json:"created_at"`
	Data      json.RawMessage `json:"data"`
}

// Wants names the header that has the id of the event.
func (s *Source) Wants() []string { return []string{idHeader} }

// Read returns the event of a request, once for each recipient.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	var q request
	if err := json.Unmarshal(r.Body, &q); err != nil {
		return nil, fmt.Errorf("the body is no webhook of Resend: %w", err)
	}
	elements := read(q, "rs-"+r.Header.Get(idHeader))
	for i := range elements {
		elements[i].Raw = r.Body
	}
	return elements, nil
}

// kinds maps the types of events about messages; what is not in it is no engagement, but for contacts.
var kinds = map[string]engagement.Kind{
	"email.sent": engagement.Sent, "email.delivered": engagement.Delivered, "email.opened": engagement.Open, "email.clicked": engagement.Click,
	"email.bounced": engagement.Bounce, "email.failed": engagement.Bounce, "email.suppressed": engagement.Bounce,
	"email.complained": engagement.Complaint,
}

// names are Resend's of the fields of an event.
var names = map[string]string{
	"id": idHeader, "subject": "data.tags.customer_id, data.to or data.email", "time": "created_at", "data.message": "data.email_id",
	"data.campaign": "data.tags.campaign or data.broadcast_id", "data.link": "data.click.link", "data.user_agent": "data.click.userAgent",
}

func read(q request, id string) []webhook.Element {
	refuse := func(field, format string, args ...any) []webhook.Element {
		return []webhook.Element{webhook.Failed(field, format, args...)}
	}
	if q.Type == "" {
		return refuse("type", "is required")
	}
	data := webhook.Object(q.Data)
	kind, ok := kinds[q.Type]
	if (q.Type == "contact.updated" || q.Type == "contact.created") && webhook.True(data["unsubscribed"]) {
		kind, ok = engagement.Unsubscribe, true
	}
	if !ok {
		return []webhook.Element{{Ignored: q.Type}}
	}
	at, err := webhook.ISO(q.CreatedAt)
	if err != nil {
		return refuse("created_at", "%v", err)
	}
	if data == nil {
		return refuse("data", "must be an object")
	}
	tags := tagsOf(data["tags"])
	e := engagement.Event{
		ID: id, Source: "/ingest/resend", Time: at, Kind: kind, Channel: "email", Provider: "resend",
		Message: webhook.TextOf(data["email_id"]), Campaign: cmp.Or(webhook.TextOf(tags["campaign"]), webhook.TextOf(data["broadcast_id"])),
	}
	var address netip.Addr
	if kind == engagement.Click {
		click := webhook.Object(data["click"])
		if at, err := webhook.ISO(webhook.TextOf(click["timestamp"])); err == nil {
			e.Time = at
		}
		e.Link, e.UserAgent = webhook.TextOf(click["link"]), webhook.TextOf(click["userAgent"])
		address, _ = netip.ParseAddr(webhook.TextOf(click["ipAddress"])) // the zero address where there is none
	}
	customer, err := webhook.Customer(tags["customer_id"], "data.tags.customer_id")
	if err != nil {
		return []webhook.Element{{Err: err}}
	}
	whom := []string{customer}
	if customer == "" {
		field := "data.to"
		whom = recipients(data["to"])
		if kind == engagement.Unsubscribe {
			field, whom = "data.email", recipients(data["email"])
		}
		switch {
		case len(whom) == 0:
			return refuse(field, "is required where there is no tag customer_id")
		case len(whom) > 1 && kind.Engaged():
			return refuse(field, "has %d recipients, of whom any may have done it: send one message per recipient, or attach the tag customer_id", len(whom))
		}
	}
	elements := make([]webhook.Element, len(whom))
	for i, subject := range whom {
		e := e
		e.Subject = subject
		if len(whom) > 1 {
			e.ID += "-" + strconv.Itoa(i+1)
		}
		if err := webhook.Renamed(e.Validate(), names); err != nil {
			elements[i].Err = err
			continue
		}
		elements[i].Event, elements[i].Address = &e, address
	}
	return elements
}

// recipients returns the addresses of a list, or of a single text, as ids of customers: empty where there is no address.
func recipients(raw json.RawMessage) []string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	var all []string
	for _, raw := range list {
		var address string
		if json.Unmarshal(raw, &address) != nil {
			address = "" // of another form, and thus refused
		}
		if parsed, err := mail.ParseAddress(address); err == nil { // with a name, or without one
			address = parsed.Address
		}
		all = append(all, webhook.Address(address))
	}
	return all
}

// tagsOf reads tags: an object, or an array of objects with name and value.
func tagsOf(raw json.RawMessage) map[string]json.RawMessage {
	if m := webhook.Object(raw); m != nil {
		return m
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	m := map[string]json.RawMessage{}
	for _, raw := range list {
		tag := webhook.Object(raw)
		m[webhook.TextOf(tag["name"])] = tag["value"]
	}
	return m
}
