// Package hubspot takes the webhooks of a HubSpot app, as far as they tell what contacts have done with mail.
//
// It is not HubSpot's list of email events, which has the message, the link and HubSpot's verdict on bots for each event, and
// which must be fetched, as package pull/hubspot does: apps are sent no email events. They can be sent changes of contact properties, and some of those are the traces that email leaves on a contact:
//
//	hs_email_last_send_date       sent, a marketing email
//	hs_email_last_open_date       opened
//	hs_email_last_click_date      a link followed
//	hs_email_last_reply_date      answered
//	hs_sales_email_last_replied   answered, an email of a salesperson
//	hs_email_bounce               bounced, where the number of bounces becomes one above zero
//	hs_email_optout               unsubscribed from everything
//	hs_email_optout_NUMBER        unsubscribed from one type of mail
//
// The app has to subscribe to contact.propertyChange, or to object.propertyChange of contacts, for each of them. HubSpot's
// documentation does not list the properties for which it can, and HubSpot writes these itself: try each of them. Neither
// deliveries nor complaints can be had in this way, nor which message or link it was, nor by which program.
//
// contact.privacyDeletion says that a user of HubSpot has had a contact deleted for ever, as the law may demand: the customer of
// that id is to be forgotten. contact.deletion, which HubSpot sends beside it, is also what a mere tidying up looks like, and
// is ignored like everything else.
//
// It follows, as of 2026-11-29:
//
//	https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation
//	https://developers.hubspot.com/docs/api-reference/2026-03/webhooks/guide
//	https://developers.hubspot.com/docs/apps/developer-platform/add-features/configure-webhooks
//	https://developers.hubspot.com/changelog/now-live-webhooks-now-support-privacy-compliant-contact-deletions
//
// Traps:
//   - The signature is over the URL that HubSpot has called, in which twelve characters, and no others, have to be decoded.
//     HubSpot's own libraries decode none: a URL without a query is the same to both.
//   - HubSpot signs in two older ways as well, without a time. They are not looked at.
//   - HubSpot says that eventId is not unique, that the same event may be told twice, and in any order. The id is made of the
//     account, the contact, the property, its value and the time.
//   - The customer is objectId, the id of the contact in HubSpot: no address is sent. Wherever else the same customer is
//     written about, that id has to be used, or the profiles do not meet.
//   - A privacy deletion has that id as well, and no address: what is held of the same person under the address stays. No page
//     shows one whole; that it has the fields of every other notification is not verified, and of them it needs objectId alone.
package hubspot

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Headers of the third version of the signature.
const (
	signatureHeader = "X-HubSpot-Signature-v3"
	timestampHeader = "X-HubSpot-Request-Timestamp"
)

// tolerance is how old HubSpot says that a request may be.
const tolerance = 5 * time.Minute

// Config is set by operators.
type Config struct {
	Secrets config.Secret `name:"client-secrets" env:"CLIENT_SECRETS" help:"Client secrets of the HubSpot apps whose webhooks are taken, separated by commas. Empty: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c.Secrets != "" }

// Source takes HubSpot's requests.
type Source struct {
	secrets webhook.Keys
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	secrets, err := webhook.NewKeys(string(c.Secrets), webhook.LeastSecret)
	if err != nil {
		return nil, fmt.Errorf("CLIENT_SECRETS: %w: copy the client secret from the settings of the app", err)
	}
	if len(secrets) == 0 {
		return nil, errors.New("CLIENT_SECRETS: is empty: copy the client secret from the settings of the app")
	}
	return &Source{secrets}, nil
}

// Early asks for the headers of a signature.
func (s *Source) Early(h http.Header) error {
	if h.Get(signatureHeader) == "" || h.Get(timestampHeader) == "" {
		return webhook.Unverified("the headers %s and %s must carry a signature", signatureHeader, timestampHeader)
	}
	return nil
}

// decoded are the characters that HubSpot wants decoded in a URL before it is signed.
var decoded = strings.NewReplacer(
	"%3A", ":", "%3a", ":", "%2F", "/", "%2f", "/", "%3F", "?", "%3f", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'",
	"%28", "(", "%29", ")", "%2A", "*", "%2a", "*", "%2C", ",", "%2c", ",", "%3B", ";", "%3b", ";",
)

// Verify checks the HMAC over method, URL, body and time.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error {
	if err := s.Early(r.Header); err != nil {
		return err
	}
	timestamp := r.Header.Get(timestampHeader)
	millis, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return webhook.Unverified("the header %s must be a Unix time in milliseconds", timestampHeader)
	}
	mac := webhook.Base64(r.Header.Get(signatureHeader))
	if !s.secrets.Signed(mac, sha256.New, []byte(r.Method+decoded.Replace(r.URL)), r.Body, []byte(timestamp)) {
		return webhook.Unverified("the signature does not fit the request: the address under which HubSpot calls must be the one configured here")
	}
	return webhook.Fresh(time.UnixMilli(millis), r.Now, tolerance)
}

// Read takes an array of notifications apart.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	return webhook.Each(r.Body, func(raw json.RawMessage) webhook.Element { return read(raw, r.Now) })
}

// text is a webhook.Text that can be true or false as well, as values of properties are.
type text string

// UnmarshalJSON never fails.
func (t *text) UnmarshalJSON(b []byte) error {
	*t = text(webhook.TextOf(b))
	if len(b) > 0 && (b[0] == 't' || b[0] == 'f') {
		*t = text(b)
	}
	return nil
}

type notification struct {
	Type       text            `json:"subscriptionType"`
	ObjectType text            `json:"objectTypeId"`
	Object     text            `json:"objectId"`
	Portal     text            `json:"portalId"`
	OccurredAt json.RawMessage `json:"occurredAt"`
	Property   text            `json:"propertyName"`
	Value      text            `json:"propertyValue"`
}

// contacts is HubSpot's number of that type of object.
const contacts = "0-1"

// dates are the properties whose value is when it happened.
var dates = map[text]engagement.Kind{
	"hs_email_last_send_date": engagement.Sent, "hs_email_last_open_date": engagement.Open, "hs_email_last_click_date": engagement.Click,
	"hs_email_last_reply_date": engagement.Reply, "hs_sales_email_last_replied": engagement.Reply,
}

func read(raw json.RawMessage, now time.Time) webhook.Element {
	var n notification
	if err := webhook.Decode(raw, &n); err != nil {
		return webhook.Element{Err: err}
	}
	switch {
	case n.Type == "":
		return webhook.Failed("subscriptionType", "is required")
	case n.Type == "contact.privacyDeletion":
		return n.erase(now)
	case n.Type != "contact.propertyChange" && (n.Type != "object.propertyChange" || n.ObjectType != contacts):
		return webhook.Element{Ignored: string(n.Type)}
	case n.Property == "":
		return webhook.Failed("propertyName", "is required")
	}
	ignored := webhook.Element{Ignored: string(n.Type + " " + n.Property)}
	kind, dated := dates[n.Property]
	switch {
	case dated && n.Value == "":
		return ignored // cleared
	case dated:
	case n.Property == "hs_email_bounce":
		if count, err := strconv.ParseFloat(string(n.Value), 64); err != nil || !(count > 0) {
			return ignored // counted anew for another address
		}
		kind = engagement.Bounce
	case n.Property == "hs_email_optout" || strings.HasPrefix(string(n.Property), "hs_email_optout_"):
		if n.Value != "true" {
			return ignored // has come back
		}
		kind = engagement.Unsubscribe
	default:
		return ignored
	}
	at, err := webhook.Millis(n.OccurredAt)
	field := "occurredAt"
	if dated {
		field = "propertyValue"
		if at, err = webhook.Millis(json.RawMessage(n.Value)); err != nil {
			at, err = webhook.ISO(string(n.Value)) // as HubSpot's other interfaces write dates
		}
		if err != nil {
			return webhook.Failed(field, "must be a Unix time in milliseconds of this century, or a time such as 2026-03-01T10:00:00Z")
		}
	}
	if err != nil {
		return webhook.Failed(field, "%v", err)
	}
	e := engagement.Event{
		ID:     "hs-" + webhook.ID("hubspot", string(n.Portal), string(n.Object), string(n.Property+"="+n.Value), at, ""),
		Source: "/ingest/hubspot", Provider: "hubspot", Channel: "email", Kind: kind, Time: at, Subject: string(n.Object),
	}
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, map[string]string{"subject": "objectId", "time": field})}
	}
	return webhook.Element{Event: &e}
}

// erase reads a privacy deletion. When it was is taken from the notification, so that one that is told twice is the same; a time
// that is none, or has not come yet, must neither keep a person from being forgotten nor have the future erased.
func (n *notification) erase(now time.Time) webhook.Element {
	id := string(n.Object)
	if id == "" || len(id) > 20 || strings.Trim(id, "0123456789") != "" {
		return webhook.Failed("objectId", "must be the number of the contact that is to be forgotten")
	}
	before, err := webhook.Millis(n.OccurredAt)
	if err != nil || before.After(now) {
		before = now.UTC().Truncate(time.Millisecond)
	}
	return webhook.Element{Erase: &webhook.Erase{Customer: id, Before: before}}
}
