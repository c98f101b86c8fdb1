// Package segment takes track calls of the email part of the Segment specification, as Segment's Webhooks destination sends
// them. Customer.io's data pipelines send the same, signed in the same way.
//
// It is no analytics endpoint: calls other than track, and events that are not of the email specification, are ignored.
//
// It follows, as of 2026-11-29:
//
//	https://www.twilio.com/docs/segment/connections/destinations/catalog/actions-webhook
//	https://www.twilio.com/docs/segment/connections/destinations/catalog/webhooks
//	https://segment.com/docs/connections/spec/email/
//	https://segment.com/docs/connections/spec/common/
//
// Traps:
//   - The documentation says that the signature is over the body. Of a batch, Segment's published code signs the first event
//     alone, or nothing, depending on its version. What is not signed is not believed: batching must be switched off in the
//     mapping of the destination. A batch of one is taken.
//   - The signature carries no time. What counts as the time of the request is receivedAt, when Segment took the call, or else
//     sentAt or timestamp; a request that is more than a day old is refused, which leaves room for Segment's retries. A copy
//     that comes sooner does no harm: its messageId, which is signed, makes it the same event.
//   - The specification of email events writes user_id and user_agent, the common one userId and userAgent. Both are taken.
//   - The customer is the user id, or else the address in context.traits.email.
package segment

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

const signatureHeader = "X-Signature"

// oldest is how long ago Segment may have taken the call.
const oldest = 24 * time.Hour

// Config is set by operators.
type Config struct {
	Secrets config.Secret `name:"shared-secrets" env:"SHARED_SECRETS" help:"Shared secrets of Segment's Webhooks destination, separated by commas while they are exchanged. Batching must be off in its mapping, because Segment does not sign whole batches. Empty: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c.Secrets != "" }

// Source takes Segment's requests.
type Source struct {
	secrets webhook.Keys
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	secrets, err := webhook.NewKeys(string(c.Secrets), webhook.LeastSecret)
	if err != nil {
		return nil, fmt.Errorf("SHARED_SECRETS: %w: set a long random one here and in the destination", err)
	}
	if len(secrets) == 0 {
		return nil, errors.New("SHARED_SECRETS: is empty: set a long random one here and in the destination")
	}
	return &Source{secrets}, nil
}

// Early asks for the header of a signature.
func (s *Source) Early(h http.Header) error {
	if h.Get(signatureHeader) == "" {
		return webhook.Unverified("the header %s must carry a signature: set a shared secret in the destination", signatureHeader)
	}
	return nil
}

// Verify checks the HMAC over the body, and that the request is not old.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error {
	if err := s.Early(r.Header); err != nil {
		return err
	}
	mac := webhook.Hex(r.Header.Get(signatureHeader))
	if !s.secrets.Signed(mac, sha1.New, r.Body) {
		var batch []json.RawMessage
		if json.Unmarshal(r.Body, &batch) != nil || len(batch) == 0 || !s.secrets.Signed(mac, sha1.New, batch[0]) {
			return webhook.Unverified("the signature does not fit the body")
		}
		if len(batch) > 1 {
			return webhook.Unverified("the signature is that of the first event of a batch, and not of the others: switch off batching in the mapping of the destination")
		}
	}
	return fresh(r)
}

// fresh refuses what is old, by the times in the body.
func fresh(r *webhook.Request) error {
	objects, err := webhook.Objects(r.Body)
	if err != nil {
		return nil // which Read will say
	}
	timed := false
	for _, raw := range objects {
		var m struct{ ReceivedAt, SentAt, Timestamp webhook.Text }
		if json.Unmarshal(raw, &m) != nil {
			continue
		}
		for _, t := range []webhook.Text{m.ReceivedAt, m.SentAt, m.Timestamp} {
			at, err := webhook.ISO(string(t))
			if err != nil {
				continue
			}
			if err := webhook.Fresh(at, r.Now, oldest); err != nil {
				return err
			}
			timed = true
			break
		}
	}
	if !timed {
		return webhook.Unverified("the body carries no time, as receivedAt: send the whole event")
	}
	return nil
}

// Read takes a call apart, or an array of them.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	return webhook.Each(r.Body, read)
}

type call struct {
	Type      webhook.Text `json:"type"`
	Action    webhook.Text `json:"action"` // the specification's older name of it
	Event     webhook.Text `json:"event"`
	MessageID webhook.Text `json:"messageId"`
	Timestamp webhook.Text `json:"timestamp"`
	UserID    webhook.Text `json:"userId"`
	UserIDOld webhook.Text `json:"user_id"`
	Context   struct {
		IP           webhook.Text `json:"ip"`
		UserAgent    webhook.Text `json:"userAgent"`
		UserAgentOld webhook.Text `json:"user_agent"`
		Traits       struct {
			Email webhook.Text `json:"email"`
		} `json:"traits"`
	} `json:"context"`
	Properties struct {
		EmailID      webhook.Text `json:"email_id"`
		CampaignID   webhook.Text `json:"campaign_id"`
		CampaignName webhook.Text `json:"campaign_name"`
		LinkURL      webhook.Text `json:"link_url"`
	} `json:"properties"`
}

// kinds maps the events of the email specification, and Email Unsubscribed, which is Customer.io's name of Unsubscribed.
var kinds = map[webhook.Text]engagement.Kind{
	"Email Delivered": engagement.Delivered, "Email Opened": engagement.Open, "Email Link Clicked": engagement.Click,
	"Email Bounced": engagement.Bounce, "Email Marked as Spam": engagement.Complaint,
	"Unsubscribed": engagement.Unsubscribe, "Email Unsubscribed": engagement.Unsubscribe,
}

// names are the specification's of the fields of an event.
var names = map[string]string{
	"id": "messageId", "subject": "userId or context.traits.email", "time": "timestamp", "data.message": "properties.email_id",
	"data.campaign": "properties.campaign_id", "data.link": "properties.link_url", "data.user_agent": "context.userAgent",
}

func read(raw json.RawMessage) webhook.Element {
	var m call
	if err := webhook.Decode(raw, &m); err != nil {
		return webhook.Element{Err: err}
	}
	typ := cmp.Or(m.Type, m.Action)
	switch {
	case typ == "":
		return webhook.Failed("type", "is required")
	case typ != "track":
		return webhook.Element{Ignored: string(typ)}
	case m.Event == "":
		return webhook.Failed("event", "is required")
	}
	kind, ok := kinds[m.Event]
	if !ok {
		return webhook.Element{Ignored: string(m.Event)}
	}
	at, err := webhook.ISO(string(m.Timestamp))
	if err != nil {
		return webhook.Failed("timestamp", "%v", err)
	}
	e := engagement.Event{
		Source: "/ingest/segment", Provider: "segment", Channel: "email", Kind: kind, Time: at,
		Subject: string(cmp.Or(m.UserID, m.UserIDOld)), Message: string(m.Properties.EmailID),
		Campaign: string(cmp.Or(m.Properties.CampaignID, m.Properties.CampaignName)), UserAgent: string(cmp.Or(m.Context.UserAgent, m.Context.UserAgentOld)),
	}
	if kind == engagement.Click {
		e.Link = string(m.Properties.LinkURL)
	}
	if e.Subject == "" {
		e.Subject = webhook.Address(string(m.Context.Traits.Email))
	}
	e.ID = "segment-" + string(m.MessageID)
	if m.MessageID == "" {
		e.ID = "segment-" + webhook.ID("segment", e.Message, e.Subject, string(m.Event), at, e.Link)
	}
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, names)}
	}
	address, _ := netip.ParseAddr(string(m.Context.IP)) // what is none tells nothing
	return webhook.Element{Event: &e, Address: address}
}
