package calendar

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Book is the closed days of a policy: everything that its calendars come to, as data, so that every reader finds the same
// days whatever version of a library it has. It is made once (NewBook, or from JSON) and never changed. A nil Book, like the
// zero one, closes no day; so does every Book outside of its years.
//
// Where several rules speak of a day, an open day outranks every closed one, and then the order of Kinds counts: a closure of
// the operator's, the municipality's patron saint, the region's day, the nation's, the bank's. All of them close the day alike;
// the order says which one a decision names.
type Book struct {
	Name string // stands in decisions as the version they were made with, e.g. IT-2026.5f0c1a

	home        string // country of places that name none
	first, last int    // years
	rules       []Rule // in the order in which they are asked
	// For the n-th day from 1 January of the first year, the rules that speak of it are days[starts[n]:starts[n+1]], by index
	// and in order: a planner asks for every day of every customer.
	starts []uint32
	days   []uint16
}

// Kind says which calendar speaks of a day.
type Kind string

// Kinds, in the order in which they are asked.
const (
	Open      Kind = "open" // not closed, whatever else says so
	Custom    Kind = "closure"
	Municipal Kind = "municipal"
	Regional  Kind = "regional"
	National  Kind = "national"
	Bank      Kind = "bank"
)

var kinds = []Kind{Open, Custom, Municipal, Regional, National, Bank}

// Rule closes days in places, or opens them.
type Rule struct {
	Name   string
	Kind   Kind
	In     string  // where, for sentences: Italy, Milano
	Places []Place // it holds in any of these; none: everywhere
	Days   []Day
}

// Holiday is a closed day of a Book.
type Holiday struct {
	Day  Day    `json:"day"`
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	In   string `json:"in"` // where, for sentences: Italy, Milano
}

// None closes no day.
var None = &Book{Name: "none"}

// Bounds of a Book, which comes from a topic.
const (
	maxYears = 100
	maxRules = 1 << 16
	maxDays  = 1 << 20 // over all rules
)

// NewBook makes the Book of the years first to last from rules, whose days outside of them are left out. Places that name no
// country are taken to be in home. Its Name is the label and a hash of all of it: the same days have the same name.
// The error says which rule cannot be used.
func NewBook(label, home string, first, last int, rules []Rule) (*Book, error) {
	b := &Book{home: home, first: first, last: last}
	for _, r := range rules {
		r.Days = slices.DeleteFunc(slices.Clone(r.Days), func(d Day) bool { return d.Year < first || d.Year > last })
		slices.SortFunc(r.Days, Day.Compare)
		if len(r.Days) > 0 {
			b.rules = append(b.rules, r)
		}
	}
	if err := b.index(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(text)
	b.Name = label + "." + hex.EncodeToString(hash[:3])
	return b, nil
}

// index orders the rules and fills starts and days.
func (b *Book) index() error {
	if b.first < 1 || b.last < b.first || b.last-b.first >= maxYears {
		return fmt.Errorf("years %d to %d: want 1 to %d years in order", b.first, b.last, maxYears)
	}
	if len(b.rules) > maxRules {
		return fmt.Errorf("there are %d rules, at most %d are allowed", len(b.rules), maxRules)
	}
	total := 0
	for i := range b.rules {
		r := &b.rules[i]
		if !slices.Contains(kinds, r.Kind) {
			return fmt.Errorf("rule %q: kind %q is none of %v", r.Name, r.Kind, kinds)
		}
		total += len(r.Days)
	}
	slices.SortStableFunc(b.rules, func(x, y Rule) int {
		return cmp.Compare(slices.Index(kinds, x.Kind), slices.Index(kinds, y.Kind))
	})
	// Counted first and then filled, so that the days of a rule stand behind those of the rules before it.
	zero := Day{b.first, 1, 1}.number()
	b.starts = make([]uint32, Day{b.last + 1, 1, 1}.number()-zero+1)
	for i := range b.rules {
		for _, d := range b.rules[i].Days {
			b.starts[d.number()-zero+1]++
		}
	}
	for n := 1; n < len(b.starts); n++ {
		b.starts[n] += b.starts[n-1]
	}
	b.days = make([]uint16, total)
	next := slices.Clone(b.starts)
	for i := range b.rules {
		for _, d := range b.rules[i].Days {
			at := &next[d.number()-zero]
			b.days[*at] = uint16(i)
			*at++
		}
	}
	return nil
}

// Closed reports whether d is closed in a place, and by what.
func (b *Book) Closed(d Day, in Place) (Holiday, bool) {
	if b == nil || len(b.starts) == 0 || d.Year < b.first || d.Year > b.last {
		return Holiday{}, false
	}
	n := d.number() - Day{b.first, 1, 1}.number()
	for _, i := range b.days[b.starts[n]:b.starts[n+1]] {
		r := &b.rules[i]
		if !r.holds(&in, b.home) {
			continue
		}
		if r.Kind == Open {
			break
		}
		return Holiday{Day: d, Name: r.Name, Kind: r.Kind, In: r.In}, true
	}
	return Holiday{}, false
}

// Year lists the closed days of a year in a place, in order.
func (b *Book) Year(year int, in Place) []Holiday {
	var list []Holiday
	for d := (Day{year, 1, 1}); d.Year == year; d = d.Next() {
		if h, closed := b.Closed(d, in); closed {
			list = append(list, h)
		}
	}
	return list
}

// Years are the first and the last year of which the Book speaks; zero where it speaks of none.
func (b *Book) Years() (first, last int) {
	if b == nil {
		return 0, 0
	}
	return b.first, b.last
}

// Places lists the places that differ in this Book, by the name under which its rules speak of them, without those that are
// spellings of one of the others: what a page offers to choose from.
func (b *Book) Places() []Place {
	var list []Place
	if b == nil {
		return nil
	}
	for i := range b.rules {
		if r := &b.rules[i]; len(r.Places) > 0 && !slices.Contains(list, r.Places[0]) {
			list = append(list, r.Places[0])
		}
	}
	slices.SortFunc(list, func(x, y Place) int { return strings.Compare(x.String(), y.String()) })
	return list
}

// Find reads the name of a place as people write it: a country of this Book (IT), a province (MI; or IT-FR where a country
// has the same letters), a region, or else a comune. Empty text is no place in particular.
func (b *Book) Find(name string) Place {
	country, province, both := strings.Cut(name, "-")
	switch {
	case name == "":
		return Place{}
	case both && len(country) == 2 && len(province) == 2:
		return Place{Country: strings.ToUpper(country), Province: strings.ToUpper(province)}
	case len(name) == 2 && b.names(func(p *Place) string { return p.Country }, name):
		return Place{Country: strings.ToUpper(name)}
	case len(name) == 2:
		return Place{Province: strings.ToUpper(name)}
	case b.names(func(p *Place) string { return p.Region }, name):
		return Place{Region: name}
	}
	return Place{Comune: name}
}

// names reports whether a field of any place of any rule has this name.
func (b *Book) names(field func(*Place) string, name string) bool {
	if b == nil {
		return false
	}
	return slices.ContainsFunc(b.rules, func(r Rule) bool {
		return slices.ContainsFunc(r.Places, func(p Place) bool { return SameName(field(&p), name) })
	})
}
