// Package truth is the format in which a simulator tells what it knows of its customers: when each of them pays attention,
// how likely they are to answer, and what has happened to them. Whoever judges a method compares it with this.
//
// A truth is NDJSON: a header, then one line a customer; schemas/truth.schema.json describes both. The format does not belong
// to one simulator. Of a customer only the id is required, because another simulator may know less than ours; what is absent
// is nil, zero or empty here, and means "not told".
//
// The package reads and writes. It simulates nothing, scores nothing, and holds no events: those stand in a file of their own.
package truth

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// Version is the version of the format, as the header carries it.
const Version = 1

// Kinds of episodes that our simulator tells of. Others may have further ones.
const (
	Burst   = "burst"   // reads far more than ever
	Silent  = "silent"  // ignores mail
	Back    = "back"    // reads again after a silence: from the day on which it may be noticed
	Shift   = "shift"   // from here on other habits
	Holiday = "holiday" // away: reads less, and at other hours; no kind that a detector is asked to find
)

// Header is the first line.
type Header struct {
	Version    int       `json:"truth"`
	Simulator  string    `json:"simulator,omitempty"`
	Seed       uint64    `json:"seed,omitempty"`
	Customers  int       `json:"customers,omitempty"` // lines that follow; 0: not told
	From       time.Time `json:"from,omitzero"`       // the events' span
	QuietUntil time.Time `json:"quiet_until,omitzero"`
	To         time.Time `json:"to,omitzero"`
	Outages    []Span    `json:"outages,omitempty"` // when no event reached anybody, whoever it was of
}

// Span is a time from an instant up to another, exclusively. A zero To does not end.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"`
}

// Holds reports whether an instant lies in the span.
func (s Span) Holds(at time.Time) bool {
	return !at.Before(s.From) && (s.To.IsZero() || at.Before(s.To))
}

// Week is a number for each local hour of the week, 0 Monday 00:00 to 167 Sunday 23:00; empty where it is not told.
type Week []float64

// Customer is what a simulator knows of one customer.
type Customer struct {
	Customer string `json:"customer"`
	Zone     string `json:"zone,omitempty"`
	Persona  string `json:"persona,omitempty"`

	// Null says that nothing happens to the customer from Header.QuietUntil on; nil where it is not told.
	Null *bool `json:"null,omitempty"`

	// Since is the first instant of which the customer's events were exported, where that is later than the header's From.
	Since time.Time `json:"since,omitzero"`

	// Attention is where the customer's engagements would fall were every hour mailed alike, mean 1, by local hour of the
	// week. Response is the probability that the customer opens, within 24 hours, a message that is delivered at a uniform
	// moment of that hour, in ordinary times. Both hold until the first shift.
	Attention Week `json:"attention,omitempty"`
	Response  Week `json:"response,omitempty"`

	Episodes []Episode `json:"episodes,omitempty"` // in order of their beginning
}

// Episode is something that happened to a customer.
type Episode struct {
	Kind string `json:"kind"`
	Span
	Hours     int  `json:"hours,omitempty"` // of a shift: how much later in the day the habits lie than before, -12 to 12; 0: other habits
	Attention Week `json:"attention,omitempty"`
	Response  Week `json:"response,omitempty"`
}

// IsNull reports whether nothing happens to the customer from quietUntil on: what Null says or, where it is not told,
// whether no episode reaches beyond it. A shift does not reach: it is over when the habits have changed.
func (c *Customer) IsNull(quietUntil time.Time) bool {
	if c.Null != nil {
		return *c.Null
	}
	for i := range c.Episodes {
		e := &c.Episodes[i]
		if !e.From.Before(quietUntil) || e.Kind != Shift && (e.To.IsZero() || e.To.After(quietUntil)) {
			return false
		}
	}
	return true
}

// At returns the attention and the response that hold at an instant, after the shifts up to then. A shift that does not tell
// its new habits leaves them unknown.
func (c *Customer) At(at time.Time) (attention, response Week) {
	attention, response = c.Attention, c.Response
	for i := range c.Episodes {
		if e := &c.Episodes[i]; e.Kind == Shift && !at.Before(e.From) {
			attention, response = e.Attention, e.Response
		}
	}
	return attention, response
}

// Write writes the header, with the format's version in it, and the customers.
func Write(w io.Writer, h Header, customers iter.Seq[Customer]) error {
	h.Version = Version
	b := bufio.NewWriterSize(w, 1<<16)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(h); err != nil {
		return fmt.Errorf("write the header of the truth: %w", err)
	}
	for c := range customers {
		if err := e.Encode(c); err != nil {
			return fmt.Errorf("write the truth of %q: %w", c.Customer, err)
		}
	}
	return b.Flush()
}

// Read reads a truth, gzipped or not. Errors name the line and the field.
func Read(r io.Reader) (Header, []Customer, error) {
	var h Header
	b := bufio.NewReaderSize(r, 1<<20)
	if magic, _ := b.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return h, nil, fmt.Errorf("truth: %w", err)
		}
		b = bufio.NewReaderSize(z, 1<<20)
	}
	var customers []Customer
	seen := map[string]int{}
	line := 0
	for {
		text, err := b.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return h, nil, fmt.Errorf("truth: line %d: %w", line+1, err)
		}
		end := err != nil
		line++
		switch text = bytes.TrimSpace(text); {
		case len(text) == 0:
		case h.Version == 0:
			if err := decode(text, &h); err != nil {
				return h, nil, fmt.Errorf("truth: line %d: %w", line, err)
			}
			if h.Version != Version {
				return h, nil, fmt.Errorf("truth: line %d: truth: want %d, the version of the format, in the first line; got %d", line, Version, h.Version)
			}
		default:
			var c Customer
			err := decode(text, &c)
			if err == nil {
				err = c.check()
			}
			if err != nil {
				return h, nil, fmt.Errorf("truth: line %d: %w", line, err)
			}
			if first, ok := seen[c.Customer]; ok {
				return h, nil, fmt.Errorf("truth: line %d: customer: %q is in line %d already", line, c.Customer, first)
			}
			seen[c.Customer] = line
			customers = append(customers, c)
		}
		if end {
			break
		}
	}
	switch {
	case h.Version == 0:
		return h, nil, errors.New("truth: is empty; want a header in the first line")
	case h.Customers != 0 && h.Customers != len(customers):
		return h, nil, fmt.Errorf("truth: line 1: customers: %d, but %d lines follow: was the file cut off?", h.Customers, len(customers))
	}
	return h, customers, nil
}

// decode reads one line; errors name the field.
func decode(text []byte, v any) error {
	err := json.Unmarshal(text, v)
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("%s: want %s, got a %s", strings.TrimSuffix(typ.Field, "."), typ.Type, typ.Value)
	}
	return err
}

// check holds a customer to the format.
func (c *Customer) check() error {
	if c.Customer == "" {
		return errors.New("customer: is required")
	}
	if c.Zone != "" {
		if _, err := calendar.Zone(c.Zone); err != nil {
			return fmt.Errorf("zone: %w", err)
		}
	}
	if err := habits(c.Attention, c.Response); err != nil {
		return err
	}
	for i := range c.Episodes {
		e := &c.Episodes[i]
		var err error
		switch {
		case e.Kind == "":
			err = errors.New("kind: is required")
		case e.From.IsZero():
			err = errors.New("from: is required")
		case !e.To.IsZero() && e.To.Before(e.From):
			err = errors.New("to: lies before from")
		case i > 0 && e.From.Before(c.Episodes[i-1].From):
			err = errors.New("from: lies before that of the episode before; want them in order")
		case e.Hours < -12 || e.Hours > 12:
			err = fmt.Errorf("hours: %d; want -12 to 12", e.Hours)
		default:
			err = habits(e.Attention, e.Response)
		}
		if err != nil {
			return fmt.Errorf("episodes[%d].%w", i, err)
		}
	}
	return nil
}

func habits(attention, response Week) error {
	if err := attention.check(math.MaxFloat64); err != nil {
		return fmt.Errorf("attention: %w", err)
	}
	if len(attention) > 0 && slices.Max(attention) == 0 {
		return errors.New("attention: is 0 at every hour; leave it out where it is not known")
	}
	if err := response.check(1); err != nil {
		return fmt.Errorf("response: %w", err)
	}
	return nil
}

func (w Week) check(most float64) error {
	if len(w) != 0 && len(w) != 168 {
		return fmt.Errorf("has %d numbers; want 168, one for each hour of the week, or none", len(w))
	}
	for h, v := range w {
		if v < 0 || v > most {
			return fmt.Errorf("hour %d is %g; want 0 to %g", h, v, most)
		}
	}
	return nil
}
