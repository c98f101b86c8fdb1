package customer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// ErasureType is the CloudEvents type of customer.erasures.v1.
const ErasureType = "io.tempismo.erasure.v1"

// Signals that can be erased.
const (
	SignalOpen = "open" // what tracking pixels told
	SignalAll  = "all"  // everything that is held of the customer
)

// Erasure is the data of customer.erasures.v1: what was learned from signals of before an instant is to be forgotten, and
// events of before it are ignored for ever, also in a replay.
type Erasure struct {
	Signals []string  `json:"signals"`          // SignalOpen, SignalAll
	Before  time.Time `json:"erased_before"`    // events of before this instant
	Reason  string    `json:"reason,omitempty"` // why, for those who have to account for it
}

// maxReason is how many bytes a reason may have.
const maxReason = 256

// Parse reads the data object. Fields that this version does not know are ignored. The error names the field and what is wrong
// with it.
func (e *Erasure) Parse(data []byte) error {
	*e = Erasure{}
	f, err := fieldsOf("data", data)
	if err != nil {
		return err
	}
	var before string
	if err := cmp.Or(f.read("signals", &e.Signals), f.read("erased_before", &before), f.read("reason", &e.Reason)); err != nil {
		return err
	}
	if len(e.Signals) == 0 {
		return fmt.Errorf("data.signals: is required: %s or %s", SignalOpen, SignalAll)
	}
	for i, s := range e.Signals {
		if s != SignalOpen && s != SignalAll {
			return fmt.Errorf("data.signals[%d]: %q is neither %s nor %s", i, s, SignalOpen, SignalAll)
		}
	}
	if len(e.Reason) > maxReason {
		return fmt.Errorf("data.reason: has %d bytes, more than the %d allowed", len(e.Reason), maxReason)
	}
	e.Before, err = instant("data.erased_before", before)
	return err
}

// Append writes the data object.
func (e *Erasure) Append(dst []byte) []byte { return appendJSON(dst, e) }

// All reports whether everything that is held of the customer is to be forgotten, and not only what was learned.
func (e *Erasure) All() bool { return slices.Contains(e.Signals, SignalAll) }
