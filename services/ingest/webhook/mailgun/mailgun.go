// Package mailgun reads the webhooks of Mailgun: one event in each request, mapped to an engagement event.
//
// It is not the reader of the form fields that Mailgun sent before 2018, which carry their signature elsewhere, nor of received
// mail (routes).
//
// It follows, as of 2026-11-29:
//
//	https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks
//	https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-retries
//	https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-payloads
//	https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure
//	https://documentation.mailgun.com/docs/mailgun/user-manual/tracking-messages/open-click-bot-detect
//	https://help.mailgun.com/hc/en-us/articles/28956111811355-Will-Mailgun-retry-my-failed-messages
//
// Traps:
//   - The signature is in the body, so the body has to be parsed for it. It is over a time and a random token only: nothing
//     ties it to the event beside it. Whoever reads one request could send any event with its signature. So a token is
//     remembered together with the event that it came with, and refused with another one.
//   - The same event with the same token is taken again: Mailgun repeats what was not answered with 200, for eight hours, and
//     does not say whether it signs anew (others have seen the same signature on each attempt). To refuse a known token
//     would lose every event that we had no room for at first. The repeated event has the same id and is recognised by it.
//   - For the same reason a signature is fresh for nine hours and not for five minutes.
//   - What is remembered is bounded and belongs to one process: beyond the bound, after a restart, or in another replica a
//     signature that is still fresh can be used once more. TLS is what keeps it from others.
//   - Mailgun counts only the answer 200 as taken, and only 406 as refused for good. Any other one is repeated.
//   - event-data.id is unique within a day only, so the day is part of our id.
//   - The events of a subaccount are signed with its own key, and with that of the parent account in parent-signature.
//   - client-info.bot says apple, gmail or generic. Whether gmail means only what Gmail fetches ahead, or also what its proxy
//     fetches for a reader, is not documented: all of them count as machines. It has been seen as a boolean, too.
//   - Test mode reports messages that nobody has sent, and routed messages are mail that came in: neither is engagement.
//   - rejected has no recipient: it is taken from the header To.
//   - A temporary failure is a delay, and ignored: Mailgun tries for eight hours, and its help says that a permanent one follows.
//     Others have seen the last one called temporary as well, with the reason old: that is a bounce.
//
// The customer's id is the user variable customer_id (v:customer_id) or else the address in lower case; the campaign is the user
// variable campaign or else the first tag.
package mailgun

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// window is how long ago a signature may have been made: Mailgun's attempts end after eight hours, and begin some time after
// the event where its queues are long.
const window = 9 * time.Hour

// Config configures the webhook.
type Config struct {
	Keys config.Secret `name:"signing-keys" env:"SIGNING_KEYS" help:"HTTP webhook signing keys of Mailgun (not its API keys), separated by commas: more than one while keys are exchanged, or for several accounts. Empty: the webhook is not served."`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return c.Keys != "" }

// Source is Mailgun's webhook.
type Source struct {
	keys   webhook.Keys
	tokens tokens
}

var _ webhook.Source = (*Source)(nil)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	keys, err := webhook.NewKeys(string(c.Keys), webhook.LeastSecret)
	if err == nil && len(keys) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, fmt.Errorf("SIGNING_KEYS: %w: copy the HTTP webhook signing key from Mailgun's API security settings", err)
	}
	return &Source{keys: keys, tokens: tokens{limit: maxTokens}}, nil
}

// request is a webhook as it comes. The event is decoded only after the signature has been verified.
type request struct {
	Signature struct {
		Timestamp json.RawMessage `json:"timestamp"` // documented as an integer, sent as a string
		Token     string          `json:"token"`
		Signature string          `json:"signature"`
		Parent    string          `json:"parent-signature"`
	} `json:"signature"`
	Event json.RawMessage `json:"event-data"`
}

// Early can tell nothing: Mailgun's signature is in the body.
func (s *Source) Early(http.Header) error { return nil }

// Verify checks the signature, its age, and that its token has not come with another event.
func (s *Source) Verify(_ context.Context, r *webhook.Request) error {
	var q request
	if err := json.Unmarshal(r.Body, &q); err != nil {
		return webhook.Unverified("the body is no JSON object with a signature in it: %v", err)
	}
	signature, timestamp := q.Signature, webhook.TextOf(q.Signature.Timestamp)
	if timestamp == "" || signature.Token == "" || signature.Signature == "" {
		return webhook.Unverified("signature must have timestamp, token and signature")
	}
	own := s.keys.Signed(webhook.Hex(signature.Signature), sha256.New, []byte(timestamp), []byte(signature.Token))
	parent := s.keys.Signed(webhook.Hex(signature.Parent), sha256.New, []byte(timestamp), []byte(signature.Token))
	if !own && !parent {
		return webhook.Unverified("neither signature nor parent-signature fits the token: look at the signing keys")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return webhook.Unverified("signature.timestamp must be a Unix time in seconds")
	}
	if err := webhook.Fresh(time.Unix(seconds, 0), r.Now, window); err != nil {
		return err
	}
	if !s.tokens.belongs(timestamp+signature.Token, q.Event, r.Now) {
		return webhook.Unverified("the token has come before with another event")
	}
	return nil
}

// maxTokens is how many tokens a generation holds, of which there are two. One takes some 50 bytes.
const maxTokens = 1 << 17

// tokens remembers which event a token came with, for as long as its signature is fresh and there is room. The older of two
// generations is forgotten when the younger is full or has been open for the time of freshness.
type tokens struct {
	limit int // of a generation

	mu         sync.Mutex
	young, old map[digest]digest
	opened     time.Time
}

// digest is the beginning of a SHA-256, enough to find no second one for.
type digest [16]byte

func digestOf(b []byte) digest {
	sum := sha256.Sum256(b)
	return digest(sum[:16])
}

// belongs reports whether the token has come with no other event than this one.
func (t *tokens) belongs(token string, event []byte, now time.Time) bool {
	key, sum := digestOf([]byte(token)), digestOf(event)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.young == nil || len(t.young) >= t.limit || now.Sub(t.opened) > window+webhook.Tolerance {
		t.young, t.old, t.opened = map[digest]digest{}, t.young, now
	}
	for _, generation := range []map[digest]digest{t.young, t.old} {
		if known, ok := generation[key]; ok {
			return known == sum
		}
	}
	t.young[key] = sum
	return true
}

// Read returns the one event of a request.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	var q request
	if err := json.Unmarshal(r.Body, &q); err != nil {
		return nil, fmt.Errorf("the body is no webhook of Mailgun: %w", err)
	}
	m := webhook.Object(q.Event)
	if m == nil {
		return nil, webhook.Wrong("event-data", "must be an object")
	}
	element := read(m)
	// Without the signature: whoever reads the dead letters could use it for other events, see the package comment.
	element.Raw = slices.Concat([]byte(`{"event-data":`), q.Event, []byte("}"))
	return []webhook.Element{element}, nil
}

// kinds maps the types of Mailgun's events; what is not in it is no engagement.
var kinds = map[string]engagement.Kind{
	"accepted": engagement.Sent, "delivered": engagement.Delivered, "opened": engagement.Open, "clicked": engagement.Click,
	"failed": engagement.Bounce, "rejected": engagement.Bounce, "complained": engagement.Complaint, "unsubscribed": engagement.Unsubscribe,
}

// names are Mailgun's of the fields of an event.
var names = map[string]string{
	"id": "event-data.id", "subject": "event-data.user-variables.customer_id or event-data.recipient", "time": "event-data.timestamp",
	"data.message":  "event-data.message.headers.message-id",
	"data.campaign": "event-data.user-variables.campaign or event-data.tags",
	"data.link":     "event-data.url", "data.user_agent": "event-data.client-info.user-agent",
}

// read maps one event.
func read(m map[string]json.RawMessage) webhook.Element {
	name := webhook.TextOf(m["event"])
	if name == "" {
		return webhook.Failed("event-data.event", "is required")
	}
	kind, ok := kinds[name]
	if !ok {
		return webhook.Element{Ignored: name}
	}
	if kind == engagement.Sent || kind == engagement.Delivered || kind == engagement.Bounce {
		flags := webhook.Object(m["flags"])
		switch {
		case webhook.True(flags["is-test-mode"]):
			return webhook.Element{Ignored: name + " (test mode)"}
		case webhook.True(flags["is-routed"]):
			return webhook.Element{Ignored: name + " (routed)"}
		case name == "failed" && webhook.TextOf(m["severity"]) == "temporary" && webhook.TextOf(m["reason"]) != "old":
			return webhook.Element{Ignored: name + " (temporary)"}
		}
	}
	at, err := webhook.Seconds(m["timestamp"])
	if err != nil {
		return webhook.Failed("event-data.timestamp", "%v", err)
	}
	headers := webhook.Object(webhook.Object(m["message"])["headers"])
	recipient := webhook.Address(webhook.TextOf(m["recipient"]))
	if recipient == "" && kind == engagement.Bounce {
		if to, err := mail.ParseAddress(webhook.TextOf(headers["to"])); err == nil { // one address, not a list of them
			recipient = webhook.Address(to.Address)
		}
	}
	vars, client := webhook.Object(m["user-variables"]), webhook.Object(m["client-info"])
	e := engagement.Event{
		Source: "/ingest/mailgun", Time: at, Kind: kind, Channel: "email", Provider: "mailgun",
		Message: strings.Trim(webhook.TextOf(headers["message-id"]), " <>"), Campaign: cmp.Or(webhook.TextOf(vars["campaign"]), webhook.First(m["tags"])),
		UserAgent: webhook.TextOf(client["user-agent"]),
	}
	if kind == engagement.Click {
		e.Link = webhook.TextOf(m["url"])
	}
	if e.Subject, err = webhook.Customer(vars["customer_id"], "event-data.user-variables.customer_id"); err != nil {
		return webhook.Element{Err: err}
	}
	e.Subject = cmp.Or(e.Subject, recipient)
	if id := webhook.TextOf(m["id"]); id != "" {
		e.ID = "mg-" + at.Format("20060102") + "-" + id
	} else {
		e.ID = webhook.ID("mailgun", e.Message, cmp.Or(recipient, e.Subject), name, at, e.Link)
	}
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, names)}
	}
	address, _ := netip.ParseAddr(webhook.TextOf(m["ip"])) // what is none tells nothing
	return webhook.Element{Event: &e, Machine: bot(client["bot"]), Address: address}
}

// bot reads a flag that is documented as a name, empty where there is no bot, and has been seen as a boolean.
func bot(raw json.RawMessage) bool {
	return webhook.True(raw) || webhook.TextOf(raw) != ""
}
