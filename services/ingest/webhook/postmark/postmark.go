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
	"cmp"
	"context"
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
	logins webhook.Keys
	header string // canonical; empty: none is wanted
	values webhook.Keys
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	s := &Source{header: http.CanonicalHeaderKey(strings.TrimSpace(c.Header))}
	var problems []error
	var err error
	if s.logins, err = webhook.NewLogins(string(c.Logins)); err != nil {
		problems = append(problems, fmt.Errorf("LOGINS: %w", err))
	}
	if len(s.logins) == 0 {
		problems = append(problems, errors.New("LOGINS: is empty: give the USER:PASSWORD of the webhook's URL, as Postmark signs nothing"))
	}
	if s.values, err = webhook.NewKeys(string(c.Values), webhook.LeastSecret); err != nil {
		problems = append(problems, fmt.Errorf("HEADER_VALUES: %w: use a long random one", err))
	}
	switch {
	case s.header == "" && c.Values != "":
		problems = append(problems, errors.New("HEADER: is empty: give the name of the header that carries one of HEADER_VALUES"))
	case s.header != "" && err == nil && len(s.values) == 0:
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
	if !s.logins.HasLogin(h) {
		return webhook.Unverified("the header Authorization must carry one of the logins")
	}
	if s.header != "" && !s.values.Has(strings.TrimSpace(h.Get(s.header))) {
		return webhook.Unverified("the header %s must carry one of the values", s.header)
	}
	return nil
}

// Verify is Early: the body is not signed.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error { return s.Early(r.Header) }

// Read returns the one event of a request.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	return webhook.Each(r.Body, read)
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

// read maps one object.
func read(raw json.RawMessage) webhook.Element {
	m := webhook.Object(raw)
	name := webhook.TextOf(m["RecordType"])
	if name == "" {
		return webhook.Failed("RecordType", "is required")
	}
	f, ok := records[name]
	if !ok {
		return webhook.Element{Ignored: name}
	}
	switch name {
	case "Bounce":
		if kind, ok := bounces[webhook.TextOf(m["Type"])]; ok {
			f.kind = kind
		}
		if f.kind == 0 {
			return webhook.Element{Ignored: "Bounce (" + webhook.TextOf(m["Type"]) + ")"}
		}
	case "SubscriptionChange":
		kind, ignored := change(m)
		if ignored != "" {
			return webhook.Element{Ignored: ignored}
		}
		f.kind = kind
	}
	at, err := webhook.ISO(webhook.TextOf(m[f.at]))
	if err != nil {
		return webhook.Failed(f.at, "%v", err)
	}
	metadata := webhook.Object(m["Metadata"])
	recipient := webhook.Address(webhook.TextOf(m[f.whom]))
	e := engagement.Event{
		Source: "/ingest/postmark", Time: at, Kind: f.kind, Channel: "email", Provider: "postmark",
		Message: webhook.TextOf(m["MessageID"]), Campaign: cmp.Or(webhook.TextOf(metadata["campaign"]), webhook.TextOf(m["Tag"])), UserAgent: webhook.TextOf(m["UserAgent"]),
	}
	if f.kind == engagement.Click {
		e.Link = webhook.TextOf(m["OriginalLink"])
	}
	if e.Subject, err = webhook.Customer(metadata["customer_id"], "Metadata.customer_id"); err != nil {
		return webhook.Element{Err: err}
	}
	e.Subject = cmp.Or(e.Subject, recipient)
	if id := webhook.TextOf(m["ID"]); id != "" && id != "0" {
		e.ID = "pm-" + id
	} else {
		e.ID = webhook.ID("postmark", e.Message, cmp.Or(recipient, e.Subject), f.kind.String(), at, e.Link)
	}
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, map[string]string{
			"id": "ID", "subject": "Metadata.customer_id or " + f.whom, "time": f.at, "data.message": "MessageID",
			"data.campaign": "Metadata.campaign or Tag", "data.link": "OriginalLink", "data.user_agent": "UserAgent",
		})}
	}
	address, _ := netip.ParseAddr(webhook.TextOf(webhook.Object(m["Geo"])["IP"])) // what is none tells nothing
	return webhook.Element{Event: &e, Address: address}
}

// change says what a change of a stream's suppressions means, or by what name it is ignored. A complaint is one whatever else is
// said; a bounce is told by the webhook for bounces.
func change(m map[string]json.RawMessage) (engagement.Kind, string) {
	origin, reason := webhook.TextOf(m["Origin"]), webhook.TextOf(m["SuppressionReason"])
	switch {
	case !webhook.True(m["SuppressSending"]):
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
