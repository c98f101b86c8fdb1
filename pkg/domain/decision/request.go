package decision

import "time"

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

// MaxWait is the longest time from the placing of a request to its deadline.
const MaxWait = 90 * day

// MaxPending is how many requests of one customer may wait at a time. One more is refused: it expires at once, with the
// reason TooManyPending.
const MaxPending = 16
