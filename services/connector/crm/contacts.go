package crm

import (
	"context"
	"time"
)

// Updater is a CRM that takes properties of its contacts.
type Updater interface {
	// UpdateTraits are the same for as long as it lives.
	UpdateTraits() UpdateTraits
	// Update writes the properties of contacts, at most as many as UpdateTraits says, each once. The answer is about the call: if it is
	// Accepted, refused names the contacts that were not taken, by their index, and why; any other answer is about all of them. The
	// same properties may be written again.
	Update(ctx context.Context, contacts []Contact, now time.Time) (a Answer, refused map[int]string)
}

// UpdateTraits are what a CRM's documentation says about writing properties.
type UpdateTraits struct {
	// Rate is how many calls of Update a second are left for properties by what sends need of the account's limits.
	Rate float64
	// Batch is how many contacts a call takes.
	Batch int
	// Creates says that a contact that the CRM does not know is made. Nobody is written then of whom nothing is known any more: it
	// would make again who was deleted.
	Creates bool
}

// Contact is a customer whose properties are to be written.
type Contact struct {
	Customer string
	Timing   *Timing // nil: nothing is known any more, and the properties are to be emptied
}

// Timing is what a CRM is told of a customer, as properties of the contact.
type Timing struct {
	BestDay    string    `json:"tempismo_best_day"`    // mon to sun
	BestHour   int       `json:"tempismo_best_hour"`   // 0 to 23, in the customer's zone
	Confidence int       `json:"tempismo_confidence"`  // 0 to 100
	Level      string    `json:"tempismo_level"`       // of evidence: own or persona
	Persona    string    `json:"tempismo_persona"`     // empty: none that can be told
	Zone       string    `json:"tempismo_zone"`        // IANA name; empty: not known
	ComputedAt time.Time `json:"tempismo_computed_at"` // when it was worked out
}

// Property is one of a contact's.
type Property struct {
	Name  string
	Value any // a text or an int; nil: it is to be emptied
}

// Properties are all of a contact's, in a fixed order.
func (c *Contact) Properties() []Property {
	all := []Property{
		{"tempismo_best_day", nil}, {"tempismo_best_hour", nil}, {"tempismo_confidence", nil}, {"tempismo_level", nil},
		{"tempismo_persona", nil}, {"tempismo_zone", nil}, {"tempismo_computed_at", nil},
	}
	t := c.Timing
	if t == nil {
		return all
	}
	for i, v := range [...]any{t.BestDay, t.BestHour, t.Confidence, t.Level, t.Persona, t.Zone, t.ComputedAt.UTC().Format(time.RFC3339)} {
		if v != "" {
			all[i].Value = v
		}
	}
	return all
}
