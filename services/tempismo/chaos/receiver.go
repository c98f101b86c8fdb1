package chaos

import "time"

// Receiver is the CRM of a round: a webhook that verifies signatures, answers as it is told, and keeps a log of every call.
type Receiver struct{}

// Call is one call that the receiver saw.
type Call struct {
	WebhookID string
	Decision  string // id in the body
	Request   string // that the decision releases; empty: none
	Customer  string
	Time      time.Time // of the body
	Arrived   time.Time
	Status    int // what it answered; 0: it cut the connection
}

// NewReceiver starts a receiver on a free port of this machine.
func NewReceiver() (*Receiver, error) { panic("to be written") }

// URL is WEBHOOK_URL of the connector, Secret its WEBHOOK_SECRET. WEBHOOK_ALLOW_PRIVATE must be true.
func (h *Receiver) URL() string { panic("to be written") }

// Secret is the signing secret.
func (h *Receiver) Secret() string { panic("to be written") }

// Calls is the log so far.
func (h *Receiver) Calls() []Call { panic("to be written") }

// Answer sets what is answered from now on: an HTTP status; nil: 200. What it returns as 0 cuts the connection after the
// call was taken.
func (h *Receiver) Answer(status func(c *Call) int) { panic("to be written") }

// Close ends it.
func (h *Receiver) Close() error { panic("to be written") }
