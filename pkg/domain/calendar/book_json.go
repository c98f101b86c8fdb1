package calendar

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// bookJSON is the JSON form of a Book. It travels in every record of a policy, so the days of a rule are as short as can be:
// 12-25 is that day in each of the years, 2026-08-10..2026-08-21 is all days of a span, and ..2026-12-26/7 at its end is every
// seventh of them.
type bookJSON struct {
	Name  string     `json:"name"`
	Home  string     `json:"home,omitempty"`
	Years [2]int     `json:"years"`
	Rules []ruleJSON `json:"rules,omitempty"`
}

type ruleJSON struct {
	Name   string   `json:"name"`
	Kind   Kind     `json:"kind"`
	In     string   `json:"in,omitempty"`
	Places []Place  `json:"places,omitempty"`
	Days   []string `json:"days"`
}

// MarshalJSON writes all days of the Book.
func (b *Book) MarshalJSON() ([]byte, error) {
	j := bookJSON{Name: b.Name, Home: b.home, Years: [2]int{b.first, b.last}}
	for i := range b.rules {
		r := &b.rules[i]
		j.Rules = append(j.Rules, ruleJSON{r.Name, r.Kind, r.In, r.Places, writeDays(r.Days, b.first, b.last)})
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes. The error names the field.
func (b *Book) UnmarshalJSON(data []byte) error {
	*b = Book{}
	var j bookJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	if len(j.Rules) == 0 && j.Years == [2]int{} {
		b.Name = j.Name
		return nil
	}
	total := 0
	read := Book{Name: j.Name, home: j.Home, first: j.Years[0], last: j.Years[1]}
	for i, r := range j.Rules {
		var days []Day
		for k, text := range r.Days {
			more, err := readDays(text, j.Years[0], j.Years[1])
			if err != nil {
				return fmt.Errorf("rules[%d].days[%d]: %w", i, k, err)
			}
			if total += len(more); total > maxDays { // a few bytes can mean all days of a century
				return fmt.Errorf("rules[%d].days[%d]: there are more than %d days", i, k, maxDays)
			}
			days = append(days, more...)
		}
		slices.SortFunc(days, Day.Compare)
		read.rules = append(read.rules, Rule{r.Name, r.Kind, r.In, r.Places, days})
	}
	if err := read.index(); err != nil {
		return err
	}
	*b = read
	return nil
}

// The steps of spans that are looked for, and the fewest days that are worth one.
const (
	daily, weekly = 1, 7
	fewest        = 3
)

// writeDays writes days, which are in order.
func writeDays(days []Day, first, last int) []string {
	left := make(map[Day]bool, len(days))
	for _, d := range days {
		left[d] = true
	}
	var texts []string
	for _, d := range days {
		if d.Year > first || first == last {
			break
		}
		every := true
		for y := first; y <= last && every; y++ {
			every = left[Day{y, d.Month, d.Day}]
		}
		if !every {
			continue
		}
		for y := first; y <= last; y++ {
			delete(left, Day{y, d.Month, d.Day})
		}
		texts = append(texts, d.String()[len("2006-"):])
	}
	for _, d := range days {
		if !left[d] {
			continue
		}
		step, n := daily, run(left, d, daily)
		if w := run(left, d, weekly); w > n {
			step, n = weekly, w
		}
		if n < fewest {
			n = 1
		}
		for k := range n {
			delete(left, d.Add(k*step))
		}
		text := d.String()
		if n > 1 {
			text += ".." + d.Add((n-1)*step).String()
		}
		if n > 1 && step == weekly {
			text += "/7"
		}
		texts = append(texts, text)
	}
	return texts
}

// run counts the days of a set from d on, step by step.
func run(set map[Day]bool, d Day, step int) (n int) {
	for ; set[d]; d = d.Add(step) {
		n++
	}
	return n
}

// readDays reads one text of writeDays. Days outside of the years are left out.
func readDays(text string, first, last int) (days []Day, err error) {
	if first < 1 || last < first || last-first >= maxYears {
		return nil, nil // index says what is wrong with the years
	}
	if len(text) == len("01-02") {
		leap, err := ParseDay("2024-" + text)
		if err != nil {
			return nil, fmt.Errorf("%q is no day of the year such as 12-25", text)
		}
		for y := first; y <= last; y++ {
			if d := (Day{y, leap.Month, leap.Day}); d.Add(0) == d {
				days = append(days, d)
			}
		}
		return days, nil
	}
	span, step := text, daily
	if s, ok := strings.CutSuffix(text, "/7"); ok {
		span, step = s, weekly
	}
	from, to, spans := strings.Cut(span, "..")
	if !spans {
		to = from
	}
	d, err := ParseDay(from)
	if err != nil {
		return nil, err
	}
	end, err := ParseDay(to)
	if err != nil {
		return nil, err
	}
	for ; d.Compare(end) <= 0 && d.Year <= last; d = d.Add(step) {
		if d.Year >= first {
			days = append(days, d)
		} else if d.Year < first-maxYears {
			return nil, fmt.Errorf("%q begins long before the year %d", text, first)
		}
	}
	return days, nil
}
