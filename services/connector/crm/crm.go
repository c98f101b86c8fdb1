// Package crm is the seam between the connector and whoever carries its decisions out: one call, one answer, and what is
// declared about them. Each CRM is a package below this one; the connector knows them by the interface alone.
//
// An implementation makes one call and sorts its answer. It neither waits nor tries again, and it remembers nothing: when
// to call, how often, and whether at all after an answer was lost, the connector decides by what is declared here.
package crm

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// CRM carries decisions out.
type CRM interface {
	// Traits are the same for as long as it lives.
	Traits() Traits
	// Send makes one call. now is the time of it, for whoever signs. It must send the same for the same Send, however
	// often it is called, but for what proves that it is us.
	Send(ctx context.Context, s *Send, now time.Time) Answer
}

// Looker is a CRM without a key that can be asked whether it has a decision, after an answer was lost.
type Looker interface {
	// Look asks once. Accepted: the CRM has it. Denied: a setting forbids to ask. Everything else leaves the question open, also that
	// nothing was found: the call may still be on its way.
	Look(ctx context.Context, s *Send, now time.Time) Answer
}

// Traits are what a CRM's documentation says about its calls.
type Traits struct {
	// Key says that the CRM drops a second call for the same decision. Where it does not, a call whose answer was lost is
	// never made again: the decision ends as unknown.
	Key bool
	// Rate is how many calls a second keep one connector within the account's limits; 0: no limit. Calls are spread evenly, so that
	// a restart does not begin with a burst.
	Rate float64
	// Batch is how many customers the CRM takes in a call. The connector sends one: an answer is then about one decision.
	Batch int
	// Breaker says that calls are held back for all while the CRM fails for all. Without it each decision follows its
	// own schedule.
	Breaker bool
}

// Send is a decision to be carried out.
type Send struct {
	ID       string // of the decision
	Type     string // of its envelope
	Customer string
	Time     time.Time // of the decision
	Data     []byte    // the decision as it stands on the topic
}

// Facts are what a CRM is told of a decision, for its templates and filters. The rules and look-ups stay here: they are long
// and say more about a customer than a message needs.
type Facts struct {
	Decision  string    `json:"tempismo_decision"`
	Reason    string    `json:"tempismo_reason"`
	Request   string    `json:"tempismo_request,omitempty"`
	Channel   string    `json:"tempismo_channel,omitempty"`
	Message   string    `json:"tempismo_message,omitempty"`
	Audience  string    `json:"tempismo_audience,omitempty"`
	Arm       string    `json:"tempismo_arm,omitempty"`
	ExpiresAt time.Time `json:"tempismo_expires_at"`
}

// Facts reads them from the decision.
func (s *Send) Facts() (Facts, error) {
	var d decision.Decision
	if err := json.Unmarshal(s.Data, &d); err != nil {
		return Facts{}, err
	}
	return Facts{s.ID, string(d.Reason), d.Request, d.Channel, d.Message, d.Audience, d.Arm, d.ExpiresAt}, nil
}

// Answer is what became of one call.
type Answer struct {
	Verdict Verdict
	Detail  string        // for people; bounded, and without what the call said about the customer
	ID      string        // the CRM's own id of the send, if it gave one
	After   time.Duration // how long the CRM wants to be left alone; 0: it said nothing
}

// Verdict sorts answers by what has to be done next.
type Verdict string

// Verdicts. Only Unknown leaves open whether the message was taken.
const (
	Accepted  Verdict = "accepted"
	Refused   Verdict = "refused"   // will never take this message
	Gone      Verdict = "gone"      // will never take any message
	Retry     Verdict = "failed"    // did not take it; may take it later
	Denied    Verdict = "denied"    // did not take it because a setting is wrong, the key or the address; somebody has to act
	Unknown   Verdict = "silent"    // may have taken it
	Forbidden Verdict = "forbidden" // was not called: the guard forbids the address
)
