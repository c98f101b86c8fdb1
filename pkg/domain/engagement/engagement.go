// Package engagement is what a customer did with a message: the canonical event, its kinds, who caused it, and its form
// on the wire (a CloudEvent in structured JSON, see schemas/engagement.events.v1.json).
//
// It is not a memory: rules that look at one event alone are here (a provider's own flag, the user agent), rules that
// compare an event with earlier ones belong to the profile in domain/timing. It reads no zone database and no clock, so
// whether a zone exists, or a time lies in the future, is for its callers to ask.
package engagement

import (
	"fmt"
	"time"
)

// Type is the CloudEvents type of an engagement event.
const Type = "io.tempismo.engagement.v1"

// Kind says what happened.
type Kind uint8

// Kinds of engagement. The zero Kind is none of them: an event without a kind is not valid.
const (
	Sent        Kind = iota + 1 // handed to the provider
	Delivered                   // taken by the receiving server
	Open                        // shown, as far as a tracking pixel can tell
	Click                       // a link followed
	Reply                       // answered
	Bounce                      // not delivered, and no longer tried
	Complaint                   // marked as spam
	Unsubscribe                 // wants no more
)

var kinds = [...]string{Sent: "sent", Delivered: "delivered", Open: "open", Click: "click", Reply: "reply", Bounce: "bounce", Complaint: "complaint", Unsubscribe: "unsubscribe"}

// String returns the kind's name on the wire, or "unknown".
func (k Kind) String() string {
	if int(k) < len(kinds) && k != 0 {
		return kinds[k]
	}
	return "unknown"
}

// ParseKind returns the kind of that name on the wire; false if there is none.
func ParseKind(name string) (Kind, bool) {
	switch name {
	case "sent":
		return Sent, true
	case "delivered":
		return Delivered, true
	case "open":
		return Open, true
	case "click":
		return Click, true
	case "reply":
		return Reply, true
	case "bounce":
		return Bounce, true
	case "complaint":
		return Complaint, true
	case "unsubscribe":
		return Unsubscribe, true
	}
	return 0, false
}

// Engaged reports whether the kind shows attention: open, click or reply.
func (k Kind) Engaged() bool { return k == Open || k == Click || k == Reply }

// Actor says who caused an event, as far as a rule can tell.
type Actor uint8

// Actors. Machine is certain; Probable means that a person cannot be excluded (a scanner's network may hide a browser).
const (
	Human Actor = iota
	Probable
	Machine
)

var actors = [...]string{Human: "human", Probable: "probable", Machine: "machine"}

// String returns the actor's name on the wire, or "unknown".
func (a Actor) String() string {
	if int(a) < len(actors) {
		return actors[a]
	}
	return "unknown"
}

// ParseActor returns the actor of that name on the wire; false if there is none.
func ParseActor(name string) (Actor, bool) {
	switch name {
	case "human":
		return Human, true
	case "probable":
		return Probable, true
	case "machine":
		return Machine, true
	}
	return 0, false
}

// Event is one engagement event.
type Event struct {
	ID      string    // unique within its source; a repeated id is the same event
	Source  string    // who says so, a URI reference
	Subject string    // the customer; the key of the record
	Trace   string    // W3C traceparent, or empty
	Time    time.Time // when it happened, UTC

	Kind      Kind
	Channel   string // email, sms, push ...
	Message   string // the message's id, as the provider knows it; may be empty
	Campaign  string // may be empty
	Actor     Actor
	ActorRule string // which rule named the actor; empty for a human
	Link      string // of a click
	UserAgent string
	Provider  string // the service that delivered the message; may be empty
	Zone      string // IANA zone of the customer, where the source knows it
}

// Limits, in bytes. They keep a single event from filling a batch, and keys from filling a store.
const (
	MaxEvent     = 64 << 10 // the whole event as JSON
	maxID        = 256      // id, source, subject, message, campaign
	maxName      = 64       // channel, provider, zone, actor_rule
	maxUserAgent = 4 << 10
	maxLink      = 16 << 10
)

// Times outside these bounds are mistakes of units or of clocks, not events.
var (
	minTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	maxTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// FieldError says which field of an event is wrong, and why.
type FieldError struct {
	Field  string // as a path in the JSON document, for example "data.kind"; empty: the document itself
	Reason string // what is wrong and what is expected
}

// Error joins field and reason.
func (e *FieldError) Error() string {
	if e.Field == "" {
		return "engagement event: " + e.Reason
	}
	return "engagement event: " + e.Field + ": " + e.Reason
}

// Validate checks required fields, sizes and bounds. The error is a *FieldError naming the first field that is wrong.
func (e *Event) Validate() error {
	for _, f := range [...]struct{ name, value string }{
		{"id", e.ID}, {"source", e.Source}, {"subject", e.Subject}, {"traceparent", e.Trace}, {"data.message", e.Message},
	} {
		if i := control(f.value); i >= 0 {
			return &FieldError{f.name, fmt.Sprintf("must not contain control characters, but byte %d is 0x%02x", i, f.value[i])}
		}
	}
	return e.check()
}

// check is Validate for an event whose strings are known to hold no control characters.
func (e *Event) check() error {
	switch {
	case e.ID == "":
		return missing("id")
	case len(e.ID) > maxID:
		return tooLong("id", maxID)
	case e.Source == "":
		return missing("source")
	case len(e.Source) > maxID:
		return tooLong("source", maxID)
	case e.Subject == "":
		return missing("subject")
	case len(e.Subject) > maxID:
		return tooLong("subject", maxID)
	case len(e.Trace) > maxID:
		return tooLong("traceparent", maxID)
	case e.Time.IsZero():
		return missing("time")
	case e.Time.Unix() < minTime || e.Time.Unix() >= maxTime:
		return &FieldError{"time", "must lie in the years 2000 to 9999"}
	case e.Kind == 0:
		return missing("data.kind")
	case int(e.Kind) >= len(kinds):
		return &FieldError{"data.kind", "is not a known kind"}
	case int(e.Actor) >= len(actors):
		return &FieldError{"data.actor", "is not a known actor"}
	case e.Channel == "":
		return missing("data.channel")
	case !name(e.Channel):
		return &FieldError{"data.channel", "must be 1 to 64 of a-z, 0-9, hyphen and underscore"}
	case len(e.Message) > maxID:
		return tooLong("data.message", maxID)
	case len(e.Campaign) > maxID:
		return tooLong("data.campaign", maxID)
	case len(e.ActorRule) > maxName:
		return tooLong("data.actor_rule", maxName)
	case len(e.Provider) > maxName:
		return tooLong("data.provider", maxName)
	case len(e.Zone) > maxName:
		return tooLong("data.zone", maxName)
	case len(e.UserAgent) > maxUserAgent:
		return tooLong("data.user_agent", maxUserAgent)
	case len(e.Link) > maxLink:
		return tooLong("data.link", maxLink)
	}
	return nil
}

func missing(field string) error { return &FieldError{field, "is required"} }

func tooLong(field string, limit int) error {
	return &FieldError{field, fmt.Sprintf("must not be longer than %d bytes", limit)}
}

// control finds the first control character; -1 if none. CloudEvents 1.0, section 3.1, forbids them in attributes, and
// ids are hashed with a zero byte between them.
func control(s string) int {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 {
			return i
		}
	}
	return -1
}

// name reports whether s can serve as a label: channels are keys of the profile and of metrics.
func name(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(s) <= maxName
}
