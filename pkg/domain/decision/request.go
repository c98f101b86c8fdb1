package decision

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// RequestType is the CloudEvents type of send.requests.v1. The id of the envelope is the id of the request.
const RequestType = "io.tempismo.send.request.v1"

// Action is what a record on send.requests.v1 wants.
type Action string

// Actions. The last one on a request counts; what comes after its end is passed over and counted.
const (
	Place   Action = "place"
	Replace Action = "replace"
	Cancel  Action = "cancel"
)

// Request is the data of send.requests.v1: a message to one customer that waits for its moment.
type Request struct {
	ID          string    `json:"-"` // of the envelope
	Action      Action    `json:"action"`
	Channel     string    `json:"channel,omitempty"`      // as in the policy, e.g. email
	Message     string    `json:"message,omitempty"`      // what is to be sent, in the words of the CRM
	Audience    string    `json:"audience,omitempty"`     // whom the message is for; bounds overlap
	Priority    int       `json:"priority,omitempty"`     // 0 to 9, the higher goes first
	NotBefore   time.Time `json:"not_before,omitzero"`    // absent: at once
	Deadline    time.Time `json:"deadline,omitzero"`      // from this instant on it must not be sent
	OnDeviation bool      `json:"on_deviation,omitempty"` // whether an unusually attentive moment may release it early
}

// Bounds of requests, which a customer's state must hold.
const (
	// MaxWait is the longest time from the placing of a request to its deadline.
	MaxWait = 90 * day

	// MaxPending is how many requests of one customer may wait at a time. One more is refused: it expires at once, with the
	// reason TooManyPending.
	MaxPending = 16

	// MaxText is how many bytes the id, the message and the audience of a request may have each.
	MaxText = 256
)

// Parse reads the data object of the request with this id. A cancellation needs nothing but its action. The error names the
// field; whether the request can be met is not asked here (Moment.Place).
func (r *Request) Parse(id string, data []byte) error {
	*r = Request{}
	if err := json.Unmarshal(data, r); err != nil {
		return unreadable(data, err)
	}
	if r.ID = id; id == "" || len(id) > MaxText {
		return fmt.Errorf("id: must have 1 to %d bytes: it is the name of the request", MaxText)
	}
	switch r.Action {
	case Cancel:
		*r = Request{ID: id, Action: Cancel}
		return nil
	case Place, Replace:
		return r.check()
	}
	return fmt.Errorf("data.action: %q is none of place, replace and cancel", r.Action)
}

// unreadable names the field at which reading the data came to its end.
func unreadable(data []byte, err error) error {
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("data.%s: is %s, want %s", wrong.Field, wrong.Value, wrong.Type)
	}
	// Of times encoding/json says what is wrong, and not where.
	var raw map[string]json.RawMessage
	if json.Unmarshal(data, &raw) == nil {
		for _, name := range [...]string{"not_before", "deadline"} {
			if v, ok := raw[name]; ok && new(time.Time).UnmarshalJSON(v) != nil {
				return fmt.Errorf("data.%s: %s is no time such as 2026-12-03T09:00:00Z", name, v)
			}
		}
	}
	return fmt.Errorf("data: %w", err)
}

func (r *Request) check() error {
	switch {
	case r.Channel == "" || len(r.Channel) > MaxName || strings.Trim(r.Channel, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "":
		return fmt.Errorf("data.channel: %q must be 1 to %d of a-z, 0-9, hyphen and underscore, e.g. email", r.Channel, MaxName)
	case r.Message == "" || len(r.Message) > MaxText:
		return fmt.Errorf("data.message: must have 1 to %d bytes: what is to be sent, in the words of the CRM", MaxText)
	case len(r.Audience) > MaxText:
		return fmt.Errorf("data.audience: has %d bytes, more than the %d allowed", len(r.Audience), MaxText)
	case r.Priority < 0 || r.Priority > MaxPriority:
		return fmt.Errorf("data.priority: %d is not between 0 and %d", r.Priority, MaxPriority)
	case !r.NotBefore.IsZero() && (r.NotBefore.Year() < 1970 || r.NotBefore.Year() > 9999):
		return fmt.Errorf("data.not_before: must lie in the years 1970 to 9999")
	case r.Deadline.IsZero():
		return fmt.Errorf("data.deadline: is required: from this instant on the message must not be sent")
	case r.Deadline.Year() < 1970 || r.Deadline.Year() > 9999:
		return fmt.Errorf("data.deadline: must lie in the years 1970 to 9999")
	case !r.NotBefore.Before(r.Deadline):
		return fmt.Errorf("data.deadline: %s is not after not_before %s", r.Deadline.Format(time.RFC3339), r.NotBefore.Format(time.RFC3339))
	case !r.NotBefore.IsZero() && r.Deadline.Sub(r.NotBefore) > MaxWait:
		return fmt.Errorf("data.deadline: is more than %d days after not_before", MaxWait/day)
	}
	return nil
}
