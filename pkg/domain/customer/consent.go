package customer

import (
	"cmp"
	"errors"
	"fmt"
)

// ConsentType is the CloudEvents type of customer.consents.v1.
const ConsentType = "io.tempismo.consent.v1"

// Answer is the data of customer.consents.v1: what a customer has answered. It stands for itself: of a signal that it does not
// name it says nothing, and what was answered before stands.
type Answer struct {
	Mailing *Consent `json:"mailing,omitempty"` // nil: not answered here
	Pixel   *Consent `json:"pixel,omitempty"`   // likewise
	Channel string   `json:"channel,omitempty"` // which Mailing is about, as when somebody unsubscribes there; empty: every channel
	Reason  string   `json:"reason,omitempty"`  // how it came about, for those who have to account for it
}

// Parse reads the data object. Fields that this version does not know are ignored. The error names the field and what is wrong
// with it.
func (a *Answer) Parse(data []byte) error {
	*a = Answer{}
	f, err := fieldsOf("data", data)
	if err != nil {
		return err
	}
	var c Consents
	if err := cmp.Or(c.parse(f), f.read("channel", &a.Channel), f.read("reason", &a.Reason)); err != nil {
		return err
	}
	a.Mailing, a.Pixel = c.Mailing, c.Pixel
	switch {
	case a.Mailing == nil && a.Pixel == nil:
		return errors.New(`data: answers nothing: give mailing or pixel, such as "pixel":{"granted":false,"at":"2026-05-12T08:00:00Z"}`)
	case a.Channel != "" && !channel(a.Channel):
		return fmt.Errorf("data.channel: %q must be 1 to %d of a-z, 0-9, hyphen and underscore", a.Channel, maxName)
	case a.Channel != "" && a.Mailing == nil:
		return errors.New("data.channel: says which channel mailing is about, and there is no mailing")
	case len(a.Reason) > maxReason:
		return fmt.Errorf("data.reason: has %d bytes, more than the %d allowed", len(a.Reason), maxReason)
	}
	return nil
}

// Append writes the data object.
func (a *Answer) Append(dst []byte) []byte { return appendJSON(dst, a) }

// Latest is the answer that counts among those given at different places: the one given last and, of two of one instant, the
// refusal. So it does not matter in which order they are read. It is nil if there is none.
func Latest(answers ...*Consent) *Consent {
	var last *Consent
	for _, c := range answers {
		if c != nil && (last == nil || c.At.After(last.At) || c.At.Equal(last.At) && !c.Granted) {
			last = c
		}
	}
	return last
}
