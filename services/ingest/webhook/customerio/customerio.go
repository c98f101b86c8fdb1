// Package customerio takes the reporting webhooks of Customer.io: one JSON object for each thing that happened to a message or
// to a person's subscriptions.
//
// It is not Customer.io's webhook action of a campaign, whose body the sender writes, and no data pipeline: those follow the
// Segment specification, see package segment.
//
// It follows, as of 2026-11-29:
//
//	https://docs.customer.io/api/webhooks
//	https://docs.customer.io/integrations/data-out/connections/webhooks/
//
// Traps:
//   - What happened is object_type and metric together: "unsubscribed" is said of a message and of a customer.
//   - Customer.io tries again for days, and holds back what comes later while it does: an element that cannot be mapped must not
//     fail the request.
//   - prefetched (opens) and machine (clicks) are Customer.io's verdict that no person did it. proxied is not: Gmail shows every
//     picture through a proxy, and those opens are people's.
//   - cio_subscription_preferences_changed tells all preferences and not the change. Whoever has left a channel or any topic
//     counts as unsubscribed, also where this time another topic was changed: to write too seldom is the lesser harm.
//   - The customer is data.customer_id, the id that the sender has given to the person; without one it is the address, or of a
//     text message the number. A message is data.delivery_id throughout.
package customerio

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Headers of the signature.
const (
	signatureHeader = "X-CIO-Signature"
	timestampHeader = "X-CIO-Timestamp"
)

// Config is set by operators.
type Config struct {
	Keys config.Secret `name:"signing-keys" env:"SIGNING_KEYS" help:"Signing keys of Customer.io's reporting webhooks, as their settings show them, separated by commas while they are exchanged. Empty: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c.Keys != "" }

// Source takes Customer.io's requests.
type Source struct {
	keys webhook.Keys
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	keys, err := webhook.NewKeys(string(c.Keys), webhook.LeastSecret)
	if err != nil {
		return nil, fmt.Errorf("SIGNING_KEYS: %w: copy the signing key from the settings of the reporting webhook", err)
	}
	if len(keys) == 0 {
		return nil, errors.New("SIGNING_KEYS: is empty: copy the signing key from the settings of the reporting webhook")
	}
	return &Source{keys}, nil
}

// Early asks for the headers of a signature.
func (s *Source) Early(h http.Header) error {
	if h.Get(signatureHeader) == "" || h.Get(timestampHeader) == "" {
		return webhook.Unverified("the headers %s and %s must carry a signature", signatureHeader, timestampHeader)
	}
	return nil
}

// Verify checks the HMAC over version, time and body. Customer.io documents no age beyond which a request is stale.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error {
	if err := s.Early(r.Header); err != nil {
		return err
	}
	timestamp := r.Header.Get(timestampHeader)
	if !s.keys.Signed(webhook.Hex(r.Header.Get(signatureHeader)), sha256.New, []byte("v0:"+timestamp+":"), r.Body) {
		return webhook.Unverified("the signature does not fit the body")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return webhook.Unverified("the header %s must be a Unix time in seconds", timestampHeader)
	}
	return webhook.Fresh(time.Unix(seconds, 0), r.Now, webhook.Tolerance)
}

// Read takes the one event of a request apart. An array of them, which is not documented, is taken as well.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	objects, err := webhook.Objects(r.Body)
	if err != nil {
		return nil, err
	}
	var all []webhook.Element
	for _, raw := range objects {
		for _, e := range read(raw) {
			e.Raw = raw
			all = append(all, e)
		}
	}
	return all, nil
}

type report struct {
	EventID    webhook.Text    `json:"event_id"`
	ObjectType webhook.Text    `json:"object_type"`
	Metric     webhook.Text    `json:"metric"`
	Timestamp  json.RawMessage `json:"timestamp"`
	Data       details         `json:"data"`
}

type details struct {
	CustomerID  webhook.Text `json:"customer_id"`
	Identifiers struct {
		ID    webhook.Text `json:"id"`
		Email webhook.Text `json:"email"`
	} `json:"identifiers"`
	EmailAddress    webhook.Text    `json:"email_address"`
	Recipient       webhook.Text    `json:"recipient"`
	DeliveryID      webhook.Text    `json:"delivery_id"`
	CampaignID      webhook.Text    `json:"campaign_id"`
	NewsletterID    webhook.Text    `json:"newsletter_id"`
	BroadcastID     webhook.Text    `json:"broadcast_id"`
	TransactionalID webhook.Text    `json:"transactional_message_id"`
	Href            webhook.Text    `json:"href"`
	Prefetched      json.RawMessage `json:"prefetched"`
	Machine         json.RawMessage `json:"machine"`
	Content         webhook.Text    `json:"content"` // of preferences: JSON
}

// channels maps the types of objects that are messages to people; the others (slack, webhook) go to machines.
var channels = map[webhook.Text]string{
	"email": "email", "sms": "sms", "push": "push", "in_app": "in_app", "whatsapp": "whatsapp",
}

// kinds maps what happened to a message. What is not in it is no engagement: drafted comes before sending, attempted is what is
// tried again, converted is what a goal of the sender's says.
var kinds = map[webhook.Text]engagement.Kind{
	"sent": engagement.Sent, "delivered": engagement.Delivered, "opened": engagement.Open, "clicked": engagement.Click,
	"replied": engagement.Reply, "bounced": engagement.Bounce, "dropped": engagement.Bounce, "failed": engagement.Bounce,
	"undeliverable": engagement.Bounce, "spammed": engagement.Complaint, "unsubscribed": engagement.Unsubscribe,
}

// names are Customer.io's of the fields of an event.
var names = map[string]string{
	"id": "event_id", "subject": "data.customer_id or data.recipient", "time": "timestamp", "data.message": "data.delivery_id",
	"data.campaign": "data.campaign_id", "data.link": "data.href",
}

func read(raw json.RawMessage) []webhook.Element {
	var m report
	if err := webhook.Decode(raw, &m); err != nil {
		return []webhook.Element{{Err: err}}
	}
	switch {
	case m.ObjectType == "":
		return []webhook.Element{webhook.Failed("object_type", "is required")}
	case m.Metric == "":
		return []webhook.Element{webhook.Failed("metric", "is required")}
	}
	kind, known := kinds[m.Metric]
	channel, ok := channels[m.ObjectType]
	switch {
	case m.ObjectType == "customer" && m.Metric == "unsubscribed":
		return []webhook.Element{m.element(kind, "email", "")} // the customer's own switch, which is about messages at large
	case m.ObjectType == "customer" && m.Metric == "cio_subscription_preferences_changed":
		return m.preferences()
	case !ok || !known:
		return []webhook.Element{{Ignored: string(m.ObjectType + " " + m.Metric)}}
	}
	return []webhook.Element{m.element(kind, channel, "")}
}

// preferences are all that a person has chosen, by topic and by channel.
func (m *report) preferences() []webhook.Element {
	var chosen struct{ Topics, Channels map[string]bool }
	if err := json.Unmarshal([]byte(m.Data.Content), &chosen); err != nil {
		return []webhook.Element{webhook.Failed("data.content", "must be JSON with topics and channels")}
	}
	left := map[string]bool{}
	for name, on := range chosen.Channels {
		if channel, ok := channels[webhook.Text(name)]; ok && !on {
			left[channel] = true
		}
	}
	for _, on := range chosen.Topics {
		if !on {
			left["email"] = true // topics are not of one channel; email is what we are about
		}
	}
	var all []webhook.Element
	for _, channel := range slices.Sorted(maps.Keys(left)) {
		part := ""
		if len(left) > 1 {
			part = "-" + channel
		}
		all = append(all, m.element(engagement.Unsubscribe, channel, part))
	}
	if len(all) == 0 {
		return []webhook.Element{{Ignored: string(m.ObjectType + " " + m.Metric)}}
	}
	return all
}

// element is one event; part tells several of the same report apart.
func (m *report) element(kind engagement.Kind, channel, part string) webhook.Element {
	d := &m.Data
	at, err := webhook.Seconds(m.Timestamp)
	if err != nil {
		return webhook.Failed("timestamp", "%v", err)
	}
	e := engagement.Event{
		Source: "/ingest/customerio", Provider: "customerio", Channel: channel, Kind: kind, Time: at,
		Message: string(d.DeliveryID), Campaign: d.campaign(),
	}
	if kind == engagement.Click {
		e.Link = string(d.Href)
	}
	for _, id := range []webhook.Text{d.CustomerID, d.Identifiers.ID} {
		if e.Subject == "" {
			e.Subject = string(id)
		}
	}
	for _, address := range []webhook.Text{d.Identifiers.Email, d.EmailAddress, d.Recipient} {
		if e.Subject == "" {
			e.Subject = webhook.Address(string(address))
		}
	}
	e.ID = "cio-" + string(m.EventID)
	if m.EventID == "" {
		e.ID = "cio-" + webhook.ID("customerio", e.Message, e.Subject, string(m.ObjectType+" "+m.Metric), at, e.Link)
	}
	e.ID += part
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, names)}
	}
	return webhook.Element{Event: &e, Machine: webhook.True(d.Prefetched) || webhook.True(d.Machine)}
}

// campaign names what the message belongs to. Their ids are counted apart, so all but a campaign's say whose they are.
func (d *details) campaign() string {
	switch {
	case d.CampaignID != "":
		return string(d.CampaignID)
	case d.NewsletterID != "":
		return "newsletter-" + string(d.NewsletterID)
	case d.BroadcastID != "":
		return "broadcast-" + string(d.BroadcastID)
	case d.TransactionalID != "":
		return "transactional-" + string(d.TransactionalID)
	}
	return ""
}
