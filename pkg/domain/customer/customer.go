// Package customer is what is known of a customer beside engagement: the data of customer.attributes.v1.
//
// It is not the customer's profile (package timing), which is learned from engagement, and holds no consent yet.
package customer

import (
	"encoding/json"
	"fmt"
)

// Type is the CloudEvents type of customer.attributes.v1.
const Type = "io.tempismo.customer.v1"

// Attributes is the data of customer.attributes.v1. The last record of a customer is what is true; a field that it does not
// name is not known any more.
type Attributes struct {
	Zone    string `json:"zone,omitempty"`    // IANA name of the customer's time zone
	Segment string `json:"segment,omitempty"` // group of customers, as the operator names it
}

// MaxSegment is how many bytes the name of a segment may have.
const MaxSegment = 64

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
