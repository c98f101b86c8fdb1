// Package attributes says what a CRM is told of a customer's timing, and whether what it was told last still stands: best hour of
// the week, confidence, level of evidence, persona and zone.
//
// What is told is made to stay: a contact that is written every day for a jitter costs calls, and in some CRMs money. It is pure: it
// reads no store and calls nobody.
package attributes

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Values are what is told of a customer. The zero value is nothing.
type Values struct {
	Best       int    // hour of the local week, 0 = Monday 00
	Confidence int    // 0 to 100 in steps of Step
	Level      string // timing.LevelOwn or timing.LevelPersona; empty: nothing is told
	Persona    string // name; empty: none that is likely
	Zone       string // IANA name; empty: not known
}

// What has to change for it to be told.
const (
	Step   = 10 // of confidence
	Margin = 5  // of score, by which another hour has to be better: about 7 % more attention
	// likely is the probability from which on a persona is the customer's.
	likely = 0.5
	// enough is the evidence down to which a customer who had hours of their own keeps them; it takes 5 to get them.
	enough = 4.0
)

var days = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// Of is what is to be told of a customer in one channel, where before was told last. at is the time at which it is told; where it is
// zero, that of the latest event in the profile: a simulated run knows no other.
//
// Of customers with hardly any evidence of their own nothing is told: it would be everybody's, and change for all of them with every
// model. What was told of them when there was more stays.
func Of(p *timing.Profile, m *timing.Model, channel string, at time.Time, before Values) Values {
	ch := p.Find(channel)
	if pixel := p.Pixel(); ch == nil || pixel.At != 0 && !pixel.Granted {
		return Values{}
	}
	now, seen := ch.Head()
	if !seen {
		return Values{}
	}
	if !at.IsZero() {
		zone, err := calendar.Zone(p.Zone)
		if err != nil {
			zone = time.UTC // the hour only says how old the profile is
		}
		now, _ = calendar.LocalHour(at, zone)
	}
	view := p.View(m, channel, now)
	if view.Level != timing.LevelOwn && view.Level != timing.LevelPersona {
		return before
	}
	v := Values{Best: best(&view), Confidence: nearest(view.Confidence), Level: view.Level, Persona: persona(&view, m, before.Persona), Zone: p.Zone}
	if before == (Values{}) {
		return v
	}
	if int(view.Scores[before.Best])+Margin >= int(view.Scores[v.Best]) {
		v.Best = before.Best
	}
	if off := view.Confidence - before.Confidence; -Step < off && off < Step {
		v.Confidence = before.Confidence
	}
	if before.Level == timing.LevelOwn && view.Evidence.EngagedHours >= enough {
		v.Level = timing.LevelOwn
	}
	return v
}

// best is the hour of the week with the highest score. Scores end at 100, which several hours in a row may have: of those, the one whose
// answers meet the most attention.
func best(v *timing.View) (how int) {
	for h, s := range v.Scores {
		at, best := timing.Hour(h), timing.Hour(how) // hour 0 is of a Monday
		if s > v.Scores[how] || s == v.Scores[how] && v.Worth(at, best) > v.Worth(best, best) {
			how = h
		}
	}
	return how
}

// nearest is the step of confidence that is nearest.
func nearest(confidence int) int { return (confidence + Step/2) / Step * Step }

// persona is the one that most likely is the customer's, or the one told before as long as none is likely.
func persona(v *timing.View, m *timing.Model, before string) string {
	if v.Persona != "" && v.Likeness >= likely {
		return crm.Clip(v.Persona)
	}
	for i := range m.Personas {
		if crm.Clip(m.Personas[i].Name) == before {
			return before
		}
	}
	return ""
}

// Contact is the customer as the CRM is told of them; of no values that the properties are to be emptied.
func (v Values) Contact(customer string, at time.Time) crm.Contact {
	c := crm.Contact{Customer: customer}
	if v != (Values{}) {
		c.Timing = &crm.Timing{
			BestDay: days[v.Best/timing.Day], BestHour: v.Best % timing.Day, Confidence: v.Confidence, Level: v.Level, Persona: v.Persona, Zone: v.Zone, ComputedAt: at.UTC().Truncate(time.Second),
		}
	}
	return c
}

// Written is what a CRM was told last of one customer, as the store keeps it.
type Written struct {
	Values  Values
	Refused bool // the CRM would not take them; it is not asked again before they change
}

// version stands first in an encoded Written.
const version = 1

// levels are written as their index.
var levels = [...]string{"", timing.LevelOwn, timing.LevelPersona}

// Append writes w as Decode reads it: some thirty bytes, for there is one of every customer.
func (w *Written) Append(dst []byte) []byte {
	v := &w.Values
	flags := byte(slices.Index(levels[:], v.Level)) << 1
	if w.Refused {
		flags |= 1
	}
	dst = append(dst, version, flags, byte(v.Best), byte(v.Confidence), byte(len(v.Persona)))
	dst = append(dst, v.Persona...)
	return append(dst, v.Zone...)
}

var errWritten = errors.New("attributes: not what was written")

// Decode reads what Append wrote.
func (w *Written) Decode(b []byte) error {
	*w = Written{}
	switch {
	case len(b) == 0:
		return fmt.Errorf("%w: cut off", errWritten)
	case b[0] == 0 || b[0] > version:
		return fmt.Errorf("%w: version %d is unknown to this program, which reads version %d: run the newer one (docs/operations.md, Upgrades and rollback)", errWritten, b[0], version)
	case len(b) < 5 || int(b[1]>>1) >= len(levels) || b[2] >= timing.Week || b[3] > 100 || len(b) < 5+int(b[4]):
		return fmt.Errorf("%w: damaged", errWritten)
	}
	persona := 5 + int(b[4])
	w.Refused = b[1]&1 != 0
	w.Values = Values{Best: int(b[2]), Confidence: int(b[3]), Level: levels[b[1]>>1], Persona: string(b[5:persona]), Zone: string(b[persona:])}
	return nil
}
