// Package holidays turns the calendars that an operator chose for a policy into a Book: days with names and places.
//
// It is not asked when something is decided. What it finds travels with the policy, so a decision depends neither on the
// version of the library behind it nor on the machine that took it. National days and those of the bank system T2 come from
// that library; the saints of the Italian province capitals stand in patrons.csv, which is a table of commonly given days
// without any authority: calendars.patrons of a policy outranks it.
package holidays

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rickar/cal/v2"
	"github.com/rickar/cal/v2/aa"
	"github.com/rickar/cal/v2/ecb"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// around is how many years before and after the one in which a policy is put into force its days are known: what is simulated
// lies before it, and no policy is in force for longer.
const around = 10

// Resolve lists the days that the calendars close in the ten years before and after a year. The error is decision.Problems:
// everything that is wrong at once. Calendars that close nothing come to calendar.None.
func Resolve(c decision.Calendars, year int) (*calendar.Book, error) {
	return between(c, year, year-around, year+around)
}

// between lists the days of the years first to last, as they are known in a year.
func between(c decision.Calendars, year, first, last int) (*calendar.Book, error) {
	r := resolver{first: first, last: last}
	r.national(c.National)
	if c.Regional {
		r.rules = append(r.rules, calendar.Rule{Name: "Lunedì di Pentecoste", Kind: calendar.Regional, In: "Bolzano",
			Places: wide(calendar.Place{Country: italy, Province: "BZ"}), Days: r.yearly(func(y int) calendar.Day { return easter(y).Add(whitMonday) })})
	}
	if c.Municipal {
		r.municipal(c.Patrons)
	}
	if c.Bank {
		r.bank()
	}
	r.closures("closures", calendar.Custom, c.Closures)
	r.closures("open", calendar.Open, c.Open)
	switch {
	case len(r.problems) > 0:
		return nil, r.problems
	case len(r.rules) == 0:
		return calendar.None, nil
	}
	label := cmp.Or(strings.Join(c.National, "+"), "custom")
	return calendar.NewBook(fmt.Sprintf("%s-%d", label, year), home(c), r.first, r.last, r.rules)
}

const (
	italy      = "IT"
	whitMonday = 50 // days after Easter Sunday
)

func easter(year int) calendar.Day {
	t, _ := aa.Easter.Calc(year)
	return calendar.DayOf(t, time.UTC)
}

// home is the country of places that name none.
func home(c decision.Calendars) string {
	if len(c.National) > 0 {
		return c.National[0]
	}
	return italy
}

type resolver struct {
	first, last int
	rules       []calendar.Rule
	problems    decision.Problems
}

func (r *resolver) problem(path, format string, args ...any) {
	r.problems = append(r.problems, decision.Problem{Path: "calendars." + path, What: fmt.Sprintf(format, args...)})
}

// yearly is a day of each year.
func (r *resolver) yearly(day func(year int) calendar.Day) (days []calendar.Day) {
	for y := r.first; y <= r.last; y++ {
		days = append(days, day(y))
	}
	return days
}

func (r *resolver) national(chosen []string) {
	for i, code := range chosen {
		path := fmt.Sprintf("national[%d]", i)
		n, ok := countries[code]
		switch {
		case !ok:
			r.problem(path, "the days of %q are not known; choose among %s, or list them under closures", code, strings.Join(slices.Sorted(maps.Keys(countries)), ", "))
			continue
		case slices.Contains(chosen[:i], code):
			r.problem(path, "%s is there twice", code)
			continue
		}
		for _, h := range n.days {
			r.holiday(h, calendar.Rule{Kind: calendar.National, In: n.name, Places: []calendar.Place{{Country: code}}})
		}
	}
}

// holiday adds a day of the library. Where it is made up for on another day, both are closed.
func (r *resolver) holiday(h *cal.Holiday, rule calendar.Rule) {
	rule.Name = h.Name
	for y := r.first - 1; y <= r.last+1; y++ { // a day may be made up for in the year before, or after
		for _, t := range slices.Concat(both(h.Calc(y))) {
			if !t.IsZero() {
				rule.Days = append(rule.Days, calendar.DayOf(t, t.Location()))
			}
		}
	}
	r.rules = append(r.rules, rule)
}

func both(a, b time.Time) []time.Time { return []time.Time{a, b} }

// The library would otherwise compute in the zone of the machine, where a midnight may not exist.
func init() { cal.DefaultLoc = time.UTC }

// bank closes the days on which T2, the settlement system of the Eurosystem, is closed: every weekend, and six days of a year.
func (r *resolver) bank() {
	const t2 = "T2"
	for _, h := range ecb.Holidays {
		r.holiday(h, calendar.Rule{Kind: calendar.Bank, In: t2})
	}
	weekend := calendar.Rule{Name: "weekend", Kind: calendar.Bank, In: t2}
	for d := (calendar.Day{Year: r.first, Month: time.January, Day: 1}); d.Year <= r.last; d = d.Next() {
		if w := d.Weekday(); w == time.Saturday || w == time.Sunday {
			weekend.Days = append(weekend.Days, d)
		}
	}
	r.rules = append(r.rules, weekend)
}

// municipal closes the days of patron saints: those that the operator gives, and those of the table for other capitals.
func (r *resolver) municipal(own map[string]string) {
	given := slices.Sorted(maps.Keys(own))
	for _, comune := range given {
		d, err := parseYearly(own[comune])
		if err != nil || strings.Contains(own[comune], " ") {
			r.problem("patrons."+comune, "%q is no day of the year, MM-DD, e.g. 12-07", own[comune])
			continue
		}
		rule := calendar.Rule{Name: "Santo patrono", Kind: calendar.Municipal, In: comune, Places: []calendar.Place{{Comune: comune}}, Days: r.yearly(d)}
		if p := capital(comune); p != nil {
			rule.Places = p.places()
		}
		r.rules = append(r.rules, rule)
	}
	for i := range patrons {
		p := &patrons[i]
		if !slices.ContainsFunc(given, p.named) {
			r.rules = append(r.rules, calendar.Rule{Name: p.saint, Kind: calendar.Municipal, In: p.comune, Places: p.places(), Days: r.yearly(p.day)})
		}
	}
}

func (r *resolver) closures(field string, kind calendar.Kind, list []decision.Closure) {
	for i := range list {
		c := &list[i]
		path := fmt.Sprintf("%s[%d]", field, i)
		rule := calendar.Rule{Name: c.Name, Kind: kind, In: c.Where.String(), Days: r.days(path, c)}
		if c.Where != (calendar.Place{}) {
			rule.Places = wide(c.Where)
		}
		r.rules = append(r.rules, rule)
	}
}

// days lists the days of a closure. What recurs each month or year is left out where there is no such day, as in RFC 5545,
// section 3.3.10.
func (r *resolver) days(path string, c *decision.Closure) (days []calendar.Day) {
	day := func(field, text, otherwise string) calendar.Day {
		d, err := calendar.ParseDay(cmp.Or(text, otherwise))
		if err != nil {
			r.problem(path+"."+field, "%v", err)
		}
		return d
	}
	before := len(r.problems)
	from := day("from", c.From, "")
	to := day("to", c.To, c.From)
	until := day("until", c.Until, calendar.Day{Year: r.last, Month: time.December, Day: 31}.String())
	if len(r.problems) > before {
		return nil
	}
	begin, ok := recurrences[c.Every]
	if !ok {
		r.problem(path+".every", "%q is none of week, month and year", c.Every)
		return nil
	}
	for n := 0; ; n++ {
		d, exists := begin(from, n)
		if d.Compare(until) > 0 || n > 0 && c.Every == "" {
			return days
		}
		if !exists || d.Year < r.first-1 {
			continue
		}
		for k := 0; ; k++ {
			e := d.Add(k)
			if from.Add(k).Compare(to) > 0 || c.Every != "" && e.Compare(until) > 0 || e.Year > r.last {
				break
			}
			days = append(days, e)
		}
	}
}

// recurrences tell when a closure begins for the n-th time, and whether there is such a day.
var recurrences = map[string]func(from calendar.Day, n int) (calendar.Day, bool){
	"":      func(from calendar.Day, _ int) (calendar.Day, bool) { return from, true },
	"week":  func(from calendar.Day, n int) (calendar.Day, bool) { return from.Add(7 * n), true },
	"month": func(from calendar.Day, n int) (calendar.Day, bool) { return later(from, 0, n) },
	"year":  func(from calendar.Day, n int) (calendar.Day, bool) { return later(from, n, 0) },
}

// later is the day of the same number some years and months later.
func later(d calendar.Day, years, months int) (calendar.Day, bool) {
	t := time.Date(d.Year+years, d.Month+time.Month(months), d.Day, 0, 0, 0, 0, time.UTC)
	return calendar.DayOf(t, time.UTC), t.Day() == d.Day
}

// Doubts are what may be a slip of the pen in calendars that can be resolved: it is not wrong, and may do nothing.
func Doubts(c decision.Calendars) (doubts decision.Problems) {
	r := resolver{}
	if len(c.Patrons) > 0 && !c.Municipal {
		r.problem("patrons", "has no effect without municipal: true")
	}
	for _, comune := range slices.Sorted(maps.Keys(c.Patrons)) {
		r.spelling("patrons."+comune, comune)
	}
	for _, f := range []struct {
		name string
		list []decision.Closure
	}{{"closures", c.Closures}, {"open", c.Open}} {
		for i := range f.list {
			path, where := fmt.Sprintf("%s[%d].where", f.name, i), f.list[i].Where
			if cmp.Or(where.Country, home(c)) != italy {
				continue
			}
			r.spelling(path+".comune", where.Comune)
			if where.Province != "" && !slices.ContainsFunc(provinces, func(p province) bool { return calendar.SameName(p.code, where.Province) }) {
				r.problem(path+".province", "no Italian province is known as %s; its abbreviation is meant, e.g. MI", where.Province)
			}
			if where.Region != "" && !slices.ContainsFunc(provinces, func(p province) bool { return p.in(where.Region) }) {
				r.problem(path+".region", "no Italian region is known as %s; e.g. Lombardia", where.Region)
			}
		}
	}
	return r.problems
}

// spelling doubts a comune that is no capital, and nearly one.
func (r *resolver) spelling(path, comune string) {
	if comune == "" || capital(comune) != nil {
		return
	}
	for i := range patrons {
		if near(comune, patrons[i].comune) {
			r.problem(path, "is %s meant? No capital is known as %s", patrons[i].comune, comune)
			return
		}
	}
}

// near reports whether one letter was left out, added, or taken for another.
func near(a, b string) bool {
	x, y := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	if len(x) > len(y) {
		x, y = y, x
	}
	if len(y)-len(x) > 1 || len(y) < 5 {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			rest := x[i:]
			if len(x) == len(y) {
				rest = x[i+1:]
			}
			return slices.Equal(rest, y[i+1:])
		}
	}
	return true
}

// country is what the library knows of one.
type country struct {
	name string
	days []*cal.Holiday
}

// pasqua is kept in Italy, by the same law as the Monday after it; the library leaves it out since it is a Sunday.
var pasqua = aa.Easter.Clone(&cal.Holiday{Name: "Pasqua", Type: cal.ObservancePublic})
