// Package customer is what is known of a customer beside engagement: the data of customer.attributes.v1, of customer.consents.v1
// and of customer.erasures.v1.
//
// It is not the customer's profile (package timing), which is learned from engagement, and decides nothing: it says what was
// consented to, not what follows from that.
package customer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// Type is the CloudEvents type of customer.attributes.v1.
const Type = "io.tempismo.customer.v1"

// Attributes is the data of customer.attributes.v1. The last record of a customer is what is true; a field that it does not
// name is not known any more.
type Attributes struct {
	Zone      string                     `json:"zone,omitempty"`    // IANA name of the customer's time zone, as it was told: a reader that does not know it knows none
	Place     calendar.Place             `json:"place,omitzero"`    // where the customer lives
	Segment   string                     `json:"segment,omitempty"` // group of customers, as the operator names it
	Value     *float64                   `json:"value,omitempty"`   // what the customer is worth, in the operator's unit
	Channels  []string                   `json:"channels,omitzero"` // by which the customer can be reached: nil: not known, empty: by none
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
	To   string   `json:"to"`             // HH:MM; before From: past midnight
}

// MaxBytes is how large the data object may be: services keep it beside their state.
const MaxBytes = 8 << 10

// maxName is how many bytes a name may have: that of a segment, a zone, a place or a channel.
const maxName = 64

// days of the week in the order of calendar.Opening.
var days = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// Parse reads the data object. Fields that this version does not know are ignored, and null is as good as absent. The error
// names the field and what is wrong with it.
func (a *Attributes) Parse(data []byte) error {
	*a = Attributes{}
	if len(data) > MaxBytes {
		return fmt.Errorf("data: has %d bytes, more than the %d allowed", len(data), MaxBytes)
	}
	f, err := fieldsOf("data", data)
	if err != nil {
		return err
	}
	consents := fields{path: "data.consents"}
	err = cmp.Or(
		f.read("zone", &a.Zone), f.read("place", &a.Place), f.read("segment", &a.Segment), f.read("value", &a.Value), f.read("channels", &a.Channels),
		f.read("preferred", &a.Preferred), f.read("attributes", &a.More), f.read("consents", &consents.raw),
	)
	if err == nil {
		err = a.Consents.parse(consents)
	}
	if err != nil {
		return err
	}
	return a.check()
}

// check is what Parse checks beyond the types.
func (a *Attributes) check() error {
	for _, name := range [...]struct{ field, value string }{
		{"zone", a.Zone}, {"segment", a.Segment}, {"place.region", a.Place.Region}, {"place.province", a.Place.Province}, {"place.comune", a.Place.Comune},
	} {
		if len(name.value) > maxName {
			return fmt.Errorf("data.%s: has %d bytes, more than the %d allowed", name.field, len(name.value), maxName)
		}
	}
	if c := a.Place.Country; c != "" && (len(c) != 2 || strings.ToUpper(c) != c) {
		return fmt.Errorf("data.place.country: %q is not two capital letters such as IT (ISO 3166-1)", c)
	}
	for i, c := range a.Channels {
		if !channel(c) {
			return fmt.Errorf("data.channels[%d]: %q must be 1 to %d of a-z, 0-9, hyphen and underscore", i, c, maxName)
		}
	}
	for i := range a.Preferred {
		if _, err := a.Preferred[i].opening(); err != nil {
			return fmt.Errorf("data.preferred[%d].%w", i, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.More)) {
		switch a.More[name][0] {
		case 'n': // null
			delete(a.More, name)
		case '{', '[':
			return fmt.Errorf("data.attributes.%s: is neither text, a number nor a truth value", name)
		}
	}
	if len(a.More) == 0 {
		a.More = nil
	}
	return nil
}

// channel reports whether s can be the channel of an engagement.
func channel(s string) bool {
	return len(s) > 0 && len(s) <= maxName && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// parse reads the answers, which are members of f.
func (c *Consents) parse(f fields) error {
	for _, to := range [...]struct {
		name    string
		consent **Consent
	}{{"mailing", &c.Mailing}, {"pixel", &c.Pixel}} {
		var answer map[string]json.RawMessage
		if err := f.read(to.name, &answer); err != nil {
			return err
		}
		if answer == nil {
			continue
		}
		var granted *bool
		var at string
		one := fields{f.path + "." + to.name, answer}
		if err := cmp.Or(one.read("granted", &granted), one.read("at", &at)); err != nil {
			return err
		}
		if granted == nil {
			return fmt.Errorf("%s.granted: is required: true or false", one.path)
		}
		when, err := instant(one.path+".at", at)
		if err != nil {
			return err
		}
		*to.consent = &Consent{Granted: *granted, At: when}
	}
	return nil
}

// instant reads a time that must be there, and be one that can be counted with.
func instant(path, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, fmt.Errorf("%s: is required: a time such as 2026-05-12T08:00:00Z", path)
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is no time such as 2026-05-12T08:00:00Z (RFC 3339)", path, s)
	}
	if at = at.UTC(); at.Year() < 1970 || at.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%s: must lie in the years 1970 to 9999", path)
	}
	return at, nil
}

// Append writes the data object in its one canonical form: equal attributes have equal bytes.
func (a *Attributes) Append(dst []byte) []byte { return appendJSON(dst, a) }

// Openings are the times that the customer has asked for, in the order told.
func (a *Attributes) Openings() []calendar.Opening {
	var all []calendar.Opening
	for i := range a.Preferred {
		if o, err := a.Preferred[i].opening(); err == nil { // Parse lets no other pass
			all = append(all, o)
		}
	}
	return all
}

// opening is p as a calendar reads it. The error begins with the field.
func (p *Preference) opening() (o calendar.Opening, err error) {
	for i, name := range p.Days {
		day := slices.Index(days[:], name)
		if day < 0 {
			return o, fmt.Errorf("days[%d]: %q is none of %s", i, name, strings.Join(days[:], ", "))
		}
		o.Days |= 1 << day
	}
	if p.From == "" || p.To == "" {
		return o, errors.New("from: and to are required: two times of day such as 10:00 and 12:00")
	}
	if o.Window, err = calendar.ParseWindow(p.From + "-" + p.To); err != nil {
		return o, fmt.Errorf("from: %w", err)
	}
	return o, nil
}
