// Package customer is what is known of a customer beside engagement: the data of customer.attributes.v1 and of
// customer.erasures.v1.
//
// It is not the customer's profile (package timing), which is learned from engagement, and decides nothing: it says what was
// consented to, not what follows from that.
package customer

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// Type is the CloudEvents type of customer.attributes.v1.
const Type = "io.tempismo.customer.v1"

// Attributes is the data of customer.attributes.v1. The last record of a customer is what is true; a field that it does not
// name is not known any more.
type Attributes struct {
	Zone      string                     `json:"zone,omitempty"`     // IANA name of the customer's time zone
	Place     calendar.Place             `json:"place,omitzero"`     // where the customer lives
	Segment   string                     `json:"segment,omitempty"`  // group of customers, as the operator names it
	Value     *float64                   `json:"value,omitempty"`    // what the customer is worth, in the operator's unit
	Channels  []string                   `json:"channels,omitempty"` // by which the customer can be reached; absent: not known
	Consents  Consents                   `json:"consents,omitzero"`
	Preferred []Preference               `json:"preferred,omitempty"`  // times that the customer has asked for; they outrank what is inferred
	More      map[string]json.RawMessage `json:"attributes,omitempty"` // whatever else the operator knows, for the rules of a policy: text, numbers, truth values
}

// Consents is what the customer has agreed to.
type Consents struct {
	Mailing *Consent `json:"mailing,omitempty"` // being written to; nil: never asked
	Pixel   *Consent `json:"pixel,omitempty"`   // being observed by tracking pixels: opens; nil: never asked
}

// Consent is one answer.
type Consent struct {
	Granted bool      `json:"granted"`
	At      time.Time `json:"at"` // when it was given
}

// Preference is a time that the customer has asked for.
type Preference struct {
	Days []string `json:"days,omitempty"` // mon to sun; absent: every day
	From string   `json:"from"`           // HH:MM
	To   string   `json:"to"`
}

// MaxSegment is how many bytes the name of a segment may have.
const MaxSegment = 64

// MaxBytes is how large the data object may be: services keep it beside their state.
const MaxBytes = 8 << 10

// Parse reads the data object. Fields that this version does not know are ignored. The error names the field.
func (a *Attributes) Parse(data []byte) error {
	*a = Attributes{}
	if err := json.Unmarshal(data, a); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if len(a.Segment) > MaxSegment {
		return fmt.Errorf("data.segment: has %d bytes, more than the %d allowed", len(a.Segment), MaxSegment)
	}
	return nil
}

// ErasureType is the CloudEvents type of customer.erasures.v1.
const ErasureType = "io.tempismo.erasure.v1"

// Erasure is the data of customer.erasures.v1: what was learned from signals of before an instant is to be forgotten, and
// events of before it are ignored for ever, also in a replay.
type Erasure struct {
	Signals []string  `json:"signals"`       // open: what pixels told; all: everything that is held of the customer
	Before  time.Time `json:"erased_before"` // events of before this instant
	Reason  string    `json:"reason"`        // pixel consent withdrawn, request of the customer ...
}
