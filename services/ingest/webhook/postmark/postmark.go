// Package postmark reads the webhooks of Postmark: one object in each request, mapped to an engagement event.
//
// It is not the reader of received mail (Postmark's inbound webhook).
//
// It follows, as of 2026-11-29:
//
//	https://postmarkapp.com/developer/webhooks/webhooks-overview
//	https://postmarkapp.com/developer/webhooks/open-tracking-webhook
//	https://postmarkapp.com/developer/webhooks/click-webhook
//	https://postmarkapp.com/developer/webhooks/delivery-webhook
//	https://postmarkapp.com/developer/webhooks/bounce-webhook
//	https://postmarkapp.com/developer/webhooks/spam-complaint-webhook
//	https://postmarkapp.com/developer/webhooks/subscription-change-webhook
//	https://postmarkapp.com/developer/api/bounce-api
//	https://github.com/ActiveCampaign/postmark-skills (postmark-webhooks: verification, retries, security)
//
// Traps:
//   - Nothing is signed. The login of the webhook's URL, and a header that Postmark can be told to send, are all that tells
//     Postmark from others; there is no time and no token that would show a replay. A repeated event has the same id.
//   - Postmark repeats an event after 408, 429 and 5xx, for 70 minutes. Any other answer of 4xx, 401 included, loses it.
//   - Before a webhook is saved, Postmark sends samples of all its types and wants the answer 200 to each.
//   - Only bounces and complaints have an id. For the others one is made of what they say.
//   - Times have seven decimals, and some an offset.
//   - A bounce is not always one: Type says also that somebody is away, or wants no more, or has complained. Postmark
//     has no event of a delay: the types Transient and SoftBounce are bounces.
//   - SubscriptionChange tells of suppressions for any reason. It is an unsubscription only where the recipient has asked for it
//     (Origin), and none where sending is allowed again.
//   - Message streams have their own webhooks and their own suppressions: an unsubscription is from a stream.
//   - Postmark does not say whether a machine has opened a message.
//
// The customer's id is the metadata customer_id or else the address in lower case; the campaign is the metadata campaign or else
// the tag.
package postmark

import (
	"bytes"
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

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// leastSecret keeps out secrets that can be guessed: nothing else is between a stranger and the events.
const leastSecret = 16

// Config configures the webhook.
type Config struct {
	Logins config.Secret `name:"logins" env:"LOGINS" help:"Logins of Postmark's webhook, each USER:PASSWORD, separated by commas (a password has none in it): more than one while they are exchanged. Empty: the webhook is not served."`
	Header string        `name:"header" env:"HEADER" placeholder:"NAME" help:"Custom header that Postmark's webhook has to carry beside its login. Empty: none."`
	Values config.Secret `name:"header-values" env:"HEADER_VALUES" help:"Values of the custom header of which one will do, separated by commas."`
}

// Enabled reports whether the webhook is to be served. One setting is enough, so that New can say which others are missing.
func (c Config) Enabled() bool { return c != Config{} }

// Source is Postmark's webhook.
type Source struct {
	logins [][sha256.Size]byte
	header string // canonical; empty: none is wanted
	values [][sha256.Size]byte
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	s := &Source{header: http.CanonicalHeaderKey(strings.TrimSpace(c.Header))}
	var problems []error
	logins, _ := webhook.NewKeys(string(c.Logins), 0) // any length: the passwords are measured below
	for i, login := range logins {
		user, password, ok := strings.Cut(string(login), ":")
		if !ok || user == "" || len(password) < leastSecret {
			problems = append(problems, fmt.Errorf("LOGINS: login %d is not USER:PASSWORD with a password of at least %d characters: use a long random one", i+1, leastSecret))
		}
		s.logins = append(s.logins, sha256.Sum256(login))
	}
	if len(logins) == 0 {
		problems = append(problems, errors.New("LOGINS: is empty: give the USER:PASSWORD of the webhook's URL, as Postmark signs nothing"))
	}
	values, err := webhook.NewKeys(string(c.Values), leastSecret)
	if err != nil {
		problems = append(problems, fmt.Errorf("HEADER_VALUES: %w: use a long random one", err))
	}
	for _, value := range values {
		s.values = append(s.values, sha256.Sum256(value))
	}
	switch {
	case s.header == "" && c.Values != "":
		problems = append(problems, errors.New("HEADER: is empty: give the name of the header that carries one of HEADER_VALUES"))
	case s.header != "" && err == nil && len(values) == 0:
		problems = append(problems, fmt.Errorf("HEADER_VALUES: is empty: give what the header %s carries", s.header))
	case s.header == "Authorization":
		problems = append(problems, errors.New("HEADER: Authorization carries the login: choose another header"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return s, nil
}

// Early checks the login and the header, which is all there is to be checked.
func (s *Source) Early(h http.Header) error {
	user, password, ok := (&http.Request{Header: h}).BasicAuth()
	if !ok || !among(s.logins, user+":"+password) {
		return webhook.Unverified("the header Authorization must carry one of the logins")
	}
	if s.header != "" && !among(s.values, strings.TrimSpace(h.Get(s.header))) {
		return webhook.Unverified("the header %s must carry one of the values", s.header)
	}
	return nil
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

// Read returns the one event of a request.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	all, err := webhook.Objects(r.Body)
	if err != nil {
		return nil, err
	}
	elements := make([]webhook.Element, len(all))
	for i, raw := range all {
		m := object(raw)
		e, ignored, err := read(m)
		elements[i] = webhook.Element{Ignored: ignored, Err: err, Raw: raw}
		if err == nil && ignored == "" {
			elements[i].Event = &e
			elements[i].Address, _ = netip.ParseAddr(text(object(m["Geo"])["IP"])) // the zero address where there is none
		}
	}
	return elements, nil
}

// fields says where an event of a record type has its time and its recipient.
type fields struct {
	kind     engagement.Kind
	at, whom string
}

// records are the record types that are engagement.
var records = map[string]fields{
	"Delivery":           {engagement.Delivered, "DeliveredAt", "Recipient"},
	"Open":               {engagement.Open, "ReceivedAt", "Recipient"},
	"Click":              {engagement.Click, "ReceivedAt", "Recipient"},
	"Bounce":             {engagement.Bounce, "BouncedAt", "Email"},
	"SpamComplaint":      {engagement.Complaint, "BouncedAt", "Email"},
	"SubscriptionChange": {engagement.Unsubscribe, "ChangedAt", "Recipient"},
}

// bounces are the types of bounces that are something else; all the others, whatever Postmark adds included, say that the message
// was not delivered. The zero kind is no engagement.
var bounces = map[string]engagement.Kind{
	"Unsubscribe": engagement.Unsubscribe, "SpamComplaint": engagement.Complaint,
	"AutoResponder": 0, "Subscribe": 0, "AddressChange": 0, "ChallengeVerification": 0, "OpenRelayTest": 0, "InboundError": 0,
}

// read maps one object, or says by what name it is ignored.
func read(m map[string]json.RawMessage) (e engagement.Event, ignored string, err error) {
	name := text(m["RecordType"])
	if name == "" {
		return e, "", webhook.Wrong("RecordType", "is required")
	}
	f, ok := records[name]
	if !ok {
		return e, name, nil
	}
	switch name {
	case "Bounce":
		if kind, ok := bounces[text(m["Type"])]; ok {
			f.kind = kind
		}
		if f.kind == 0 {
			return e, "Bounce (" + text(m["Type"]) + ")", nil
		}
	case "SubscriptionChange":
		if f.kind, ignored = change(m); ignored != "" {
			return e, ignored, nil
		}
	}
	at, err := webhook.ISO(text(m[f.at]))
	if err != nil {
		return e, "", webhook.Wrong(f.at, "%v", err)
	}
	metadata := object(m["Metadata"])
	recipient := webhook.Address(text(m[f.whom]))
	e = engagement.Event{
		Source: "/ingest/postmark", Time: at, Kind: f.kind, Channel: "email", Provider: "postmark",
		Message: text(m["MessageID"]), Campaign: cmp.Or(text(metadata["campaign"]), text(m["Tag"])), UserAgent: text(m["UserAgent"]),
	}
	if f.kind == engagement.Click {
		e.Link = text(m["OriginalLink"])
	}
	if e.Subject, err = customer(metadata["customer_id"]); err != nil {
		return e, "", err
	}
	e.Subject = cmp.Or(e.Subject, recipient)
	if id := text(m["ID"]); id != "" && id != "0" {
		e.ID = "pm-" + id
	} else {
		e.ID = webhook.ID("postmark", e.Message, cmp.Or(recipient, e.Subject), f.kind.String(), at, e.Link)
	}
	return e, "", renamed(e.Validate(), f)
}

// change says what a change of a stream's suppressions means, or by what name it is ignored. A complaint is one whatever else is
// said; a bounce is told by the webhook for bounces.
func change(m map[string]json.RawMessage) (engagement.Kind, string) {
	origin, reason := text(m["Origin"]), text(m["SuppressionReason"])
	switch {
	case !bytes.Equal(m["SuppressSending"], []byte("true")):
		return 0, "SubscriptionChange (reactivated)"
	case reason == "SpamComplaint":
		return engagement.Complaint, ""
	case reason == "HardBounce":
		return 0, "SubscriptionChange (HardBounce)"
	case origin != "Recipient":
		return 0, "SubscriptionChange (by " + origin + ")"
	}
	return engagement.Unsubscribe, ""
}

// customer is the sender's id of the customer. One that is neither text nor a number is an error: the address in its stead would
// be another customer.
func customer(raw json.RawMessage) (string, error) {
	if len(raw) > 0 && strings.IndexByte("{[tf", raw[0]) >= 0 {
		return "", webhook.Wrong("Metadata.customer_id", "must be a string or a number")
	}
	return text(raw), nil
}

// renamed gives an error of Validate the name of Postmark's field, which is what the sender can look at.
func renamed(err error, f fields) error {
	var field *engagement.FieldError
	if !errors.As(err, &field) {
		return err
	}
	name := field.Field
	switch name {
	case "id":
		name = "ID"
	case "subject":
		name = "Metadata.customer_id or " + f.whom
	case "time":
		name = f.at
	case "data.message":
		name = "MessageID"
	case "data.campaign":
		name = "Metadata.campaign or Tag"
	case "data.user_agent":
		name = "UserAgent"
	case "data.link":
		name = "OriginalLink"
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
