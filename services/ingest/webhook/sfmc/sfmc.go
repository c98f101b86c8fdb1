// Package sfmc takes the notifications of Salesforce Marketing Cloud Engagement's Event Notification Service: arrays of what
// happened to emails.
//
// It is no client of Marketing Cloud: it holds no OAuth credentials, creates no callback and no subscription, and does not
// complete the verification of a callback by itself (see Setup). Events of text messages and of automations are ignored.
//
// It follows, as of 2026-11-29:
//
//	https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/ens-get-started.html
//	https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/ens-notification-signing.html
//	https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/ens-supported-events.html
//	https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/engagement_email_events.html
//	https://developer.salesforce.com/docs/marketing/marketing-cloud/references/mc_rest_event_notification/verifyCallback.html
//
// Traps:
//   - A callback must answer an unsigned request before there is a key with which requests could be signed: hence Setup.
//   - The key looks like base64, and whether the HMAC takes its text or what it decodes to is not documented; public
//     implementations do the one or the other. Both are tried: whoever can sign with either knows the key.
//   - The signature carries no time, and Marketing Cloud tries again for up to a week. A request of which the newest event is
//     more than eight days old is refused. A copy that comes sooner does no harm, because the id is made of what is signed.
//   - Opens and clicks name the subscriber only by the number that Marketing Cloud gives, composite.subscriberId. The
//     subscriber key, which is the sender's, is only in events of transactional sending. So that a customer's opens and sends
//     meet, the customer is the number, and the key, or the address, only where there is no number. The numbers of subscriber
//     keys are in the data view _Subscribers.
//   - compositeId has another form in events of transactional sending, and is deprecated. The message is put together from
//     composite, which is the same in all.
//   - unsubscribeDate is in Marketing Cloud's own time zone. timestampUTC is taken, which is in milliseconds.
//   - Neither deliveries nor complaints are told, nor which opens are machines'.
package sfmc

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

const signatureHeader = "X-Sfmc-Ens-Signature"

// oldest is how long ago the newest event of a request may have been: a week of retries, and a day for what is late.
const oldest = 8 * 24 * time.Hour

// Config is set by operators.
type Config struct {
	Keys  config.Secret `name:"signature-keys" env:"SIGNATURE_KEYS" help:"Signature keys that Marketing Cloud has returned when callbacks were created, separated by commas. Empty, and without setup: the webhook is not served."`
	Setup bool          `name:"setup" env:"SETUP" help:"While a callback is created in Marketing Cloud: answer its request for verification, which is not signed, and log the key with which an administrator completes it (POST /platform/v1/ens-verify). Switch it off afterwards."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c.Keys != "" || c.Setup }

// Source takes Marketing Cloud's requests.
type Source struct {
	keys  webhook.Keys
	setup bool

	// Log is told the key that completes the verification of a callback, which is of no use without credentials for
	// Marketing Cloud.
	Log *slog.Logger
}

var (
	_ webhook.Source    = (*Source)(nil)
	_ webhook.Handshake = (*Source)(nil)
)

// New returns the source that c describes, with the default logger.
func New(c Config) (*Source, error) {
	keys, err := webhook.NewKeys(string(c.Keys), webhook.LeastSecret)
	if err != nil {
		return nil, fmt.Errorf("SIGNATURE_KEYS: %w: give the signatureKey that was returned when the callback was created", err)
	}
	if len(keys) == 0 && !c.Setup {
		return nil, errors.New("SIGNATURE_KEYS: is empty: give the signatureKey that was returned when the callback was created, or SETUP=true to create one")
	}
	for _, key := range keys {
		if decoded := webhook.Base64(string(key)); len(decoded) >= webhook.LeastSecret {
			keys = append(keys, decoded)
		}
	}
	return &Source{keys: keys, setup: c.Setup, Log: slog.Default()}, nil
}

// Early asks for the header of a signature, unless a callback is being set up.
func (s *Source) Early(h http.Header) error {
	if h.Get(signatureHeader) == "" && !s.setup {
		return webhook.Unverified("the header %s must carry a signature", signatureHeader)
	}
	return nil
}

// challenge is what Marketing Cloud sends to a new callback.
type challenge struct {
	CallbackID      string `json:"callbackId"`
	VerificationKey string `json:"verificationKey"`
}

// asked reports whether a request is the one by which Marketing Cloud tries a new callback, and may be answered.
func (s *Source) asked(r *webhook.Request) (challenge, bool) {
	var c challenge
	if !s.setup || r.Header.Get(signatureHeader) != "" || json.Unmarshal(r.Body, &c) != nil {
		return challenge{}, false
	}
	const most = 256 // an identifier each
	return c, c.CallbackID != "" && c.VerificationKey != "" && len(c.CallbackID) <= most && len(c.VerificationKey) <= most
}

// Verify checks the HMAC over the body, and that what it tells is not old.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error {
	if _, ok := s.asked(r); ok {
		return nil // carries no events; Shake answers it
	}
	header := r.Header.Get(signatureHeader)
	if header == "" {
		return webhook.Unverified("the header %s must carry a signature", signatureHeader)
	}
	if !s.keys.Signed(webhook.Base64(header), sha256.New, r.Body) {
		return webhook.Unverified("the signature does not fit the body")
	}
	return fresh(r)
}

// fresh refuses what is old, by the newest time in the body.
func fresh(r *webhook.Request) error {
	objects, err := webhook.Objects(r.Body)
	if err != nil {
		return nil // which Read will say
	}
	var newest time.Time
	for _, raw := range objects {
		var m struct {
			At json.RawMessage `json:"timestampUTC"`
		}
		if json.Unmarshal(raw, &m) != nil {
			continue
		}
		if at, err := webhook.Millis(m.At); err == nil && at.After(newest) {
			newest = at
		}
	}
	switch {
	case len(objects) == 0:
		return nil
	case newest.IsZero():
		return webhook.Unverified("no event carries a timestampUTC")
	}
	return webhook.Fresh(newest, r.Now, oldest)
}

// Shake answers the request by which Marketing Cloud tries a new callback, and logs what an administrator needs to complete the
// verification.
func (s *Source) Shake(ctx context.Context, r *webhook.Request) ([]byte, bool, error) {
	c, ok := s.asked(r)
	if !ok {
		return nil, false, nil
	}
	s.Log.WarnContext(ctx, "marketing cloud asks to verify a callback: if you have just created it, send both values to POST /platform/v1/ens-verify",
		"callback_id", c.CallbackID, "verification_key", c.VerificationKey)
	return nil, true, nil
}

// Read takes an array of events apart.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	return webhook.Each(r.Body, read)
}

type notification struct {
	Type        webhook.Text    `json:"eventCategoryType"`
	At          json.RawMessage `json:"timestampUTC"`
	CompositeID webhook.Text    `json:"compositeId"`
	Composite   composite       `json:"composite"`
	Enterprise  webhook.Text    `json:"eid"`
	Info        struct {
		To            webhook.Text `json:"to"`
		SubscriberKey webhook.Text `json:"subscriberKey"`
		IPAddress     webhook.Text `json:"ipAddress"`
		UserAgent     webhook.Text `json:"userAgent"`
		ContentLink   webhook.Text `json:"contentLink"`
	} `json:"info"`
}

type composite struct {
	Job        webhook.Text `json:"jobId"`
	List       webhook.Text `json:"listId"`
	Batch      webhook.Text `json:"batchId"`
	Subscriber webhook.Text `json:"subscriberId"`
}

// kinds maps the events of email. EmailNotSent is of what Marketing Cloud did not try to send, as to the unsubscribed.
var kinds = map[webhook.Text]engagement.Kind{
	"EngagementEvents.EmailOpen": engagement.Open, "EngagementEvents.EmailClick": engagement.Click,
	"EngagementEvents.EmailUnsubscribe":    engagement.Unsubscribe,
	"TransactionalSendEvents.EmailSent":    engagement.Sent,
	"TransactionalSendEvents.EmailNotSent": engagement.Bounce, "TransactionalSendEvents.EmailBounced": engagement.Bounce,
}

// names are Marketing Cloud's of the fields of an event.
var names = map[string]string{
	"subject": "composite.subscriberId or info.subscriberKey", "time": "timestampUTC", "data.message": "composite",
	"data.campaign": "composite.jobId", "data.link": "info.contentLink", "data.user_agent": "info.userAgent",
}

func read(raw json.RawMessage) webhook.Element {
	var n notification
	if err := webhook.Decode(raw, &n); err != nil {
		return webhook.Element{Err: err}
	}
	if n.Type == "" {
		return webhook.Failed("eventCategoryType", "is required")
	}
	kind, ok := kinds[n.Type]
	if !ok {
		return webhook.Element{Ignored: string(n.Type)}
	}
	at, err := webhook.Millis(n.At)
	if err != nil {
		return webhook.Failed("timestampUTC", "%v", err)
	}
	parts := n.parts()
	e := engagement.Event{
		Source: "/ingest/sfmc", Provider: "sfmc", Channel: "email", Kind: kind, Time: at,
		Message: parts.message(), Campaign: string(parts.Job), UserAgent: string(n.Info.UserAgent),
	}
	if kind == engagement.Click {
		e.Link = string(n.Info.ContentLink)
	}
	switch {
	case parts.Subscriber != "" && parts.Subscriber != "0": // what was not sent may have no subscriber
		e.Subject = string(parts.Subscriber)
	case n.Info.SubscriberKey != "":
		e.Subject = string(n.Info.SubscriberKey)
	default:
		e.Subject = webhook.Address(string(n.Info.To))
	}
	e.ID = "sfmc-" + webhook.ID("sfmc", string(n.Enterprise)+" "+e.Message, e.Subject, string(n.Type), at, e.Link)
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, names)}
	}
	address, _ := netip.ParseAddr(string(n.Info.IPAddress)) // what is none tells nothing
	return webhook.Element{Event: &e, Address: address}
}

// parts are those of the composite id, from its text where the object is missing: job, list, batch and subscriber come last in
// all its forms.
func (n *notification) parts() composite {
	if n.Composite.Job != "" {
		return n.Composite
	}
	p := strings.Split(string(n.CompositeID), ".")
	if len(p) < 4 {
		return n.Composite
	}
	p = p[len(p)-4:]
	return composite{Job: webhook.Text(p[0]), List: webhook.Text(p[1]), Batch: webhook.Text(p[2]), Subscriber: webhook.Text(p[3])}
}

// message is one email to one subscriber.
func (c composite) message() string {
	if c.Job == "" {
		return ""
	}
	return string(c.Job + "." + c.List + "." + c.Batch + "." + c.Subscriber)
}
