package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// said is a line about something: a name, and a sentence.
type said struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// policyWords says what a policy means, on one screen.
func policyWords(p *decision.Policy, year int) []said {
	lines := []said{
		{"zone", p.Zone + ", where nobody knows the customer's"},
		{"consent", consentWords(p.Consent)},
	}
	for _, name := range slices.Sorted(maps.Keys(p.Channels)) {
		c := p.Channels[name]
		lines = append(lines, said{name, channelWords(&c)})
	}
	lines = append(lines, said{"over all", overAllWords(p)})
	for _, l := range p.Lead {
		lines = append(lines, said{"before " + l.Name, fmt.Sprintf("what can go earlier, or after, does not go on the %s before %s", counted(l.Days, "day"), l.Before)})
	}
	for i := range p.Segments {
		lines = append(lines, said{"segment " + p.Segments[i].Name, segmentWords(p, &p.Segments[i])})
	}
	return append(lines, said{"experiment", experimentWords(&p.Experiment)}, said{"closed", closedWords(p, year)})
}

func consentWords(c decision.Consent) string {
	if c == decision.Required {
		return "who has said nothing about mailing is not written to"
	}
	return "who has said nothing about mailing may be written to"
}

func channelWords(c *decision.Channel) string {
	s := openingWords(c.Windows)
	if len(c.Prime) > 0 {
		s += ", golden " + openingWords(c.Prime)
	}
	s += fmt.Sprintf("; waits for a score of %d", c.Threshold)
	if len(c.FallBack) > 0 {
		s += ", at last " + openingWords(c.FallBack)
	}
	if caps := capWords(c.CapPerDay, c.CapPerWeek); caps != "" {
		s += "; " + caps
	}
	if c.Gap > 0 {
		s += fmt.Sprintf("; %s apart", c.Gap)
	}
	s += fmt.Sprintf("; carried out within %s", c.Expiry)
	if len(c.Triggers) > 0 {
		s += fmt.Sprintf("; without a request on %s, with priority %d", strings.Join(c.Triggers, " or "), c.Priority)
	}
	return s
}

func openingWords(list []calendar.Opening) string {
	words := make([]string, len(list))
	for i, o := range list {
		words[i] = o.String()
	}
	return strings.Join(words, " and ")
}

// capWords is empty where there is no cap.
func capWords(perDay, perWeek int) string {
	var caps []string
	if perDay > 0 {
		caps = append(caps, fmt.Sprintf("%d in 24 hours", perDay))
	}
	if perWeek > 0 {
		caps = append(caps, fmt.Sprintf("%d in 7 days", perWeek))
	}
	if len(caps) == 0 {
		return ""
	}
	return "at most " + strings.Join(caps, " and ")
}

func overAllWords(p *decision.Policy) string {
	parts := []string{"never " + p.Quiet.String()}
	if p.Quiet.Empty() {
		parts[0] = "no quiet hours"
	}
	if caps := capWords(p.CapPerDay, p.CapPerWeek); caps != "" {
		parts = append(parts, caps)
	}
	if p.Gap > 0 {
		parts = append(parts, fmt.Sprintf("%s apart", p.Gap))
	}
	if p.Collision > 0 {
		parts = append(parts, fmt.Sprintf("%s between channels", p.Collision))
	}
	if p.Overlap < 1 {
		parts = append(parts, fmt.Sprintf("at most %s of an audience hold another send in the same hour", percent(p.Overlap)))
	}
	return strings.Join(parts, "; ")
}

func segmentWords(p *decision.Policy, s *decision.Segment) string {
	var when []string
	for _, name := range slices.Sorted(maps.Keys(s.When)) {
		c := s.When[name]
		when = append(when, name+" "+conditionWords(&c))
	}
	text := strings.Join(when, " and ")
	for _, name := range slices.Sorted(maps.Keys(s.Channels)) {
		base, own := p.Channels[name], s.Channels[name]
		var differs []string
		for _, d := range difference(tree(&base), tree(&own)) {
			differs = append(differs, d.path+" "+cmp.Or(d.after, "none"))
		}
		if len(differs) > 0 {
			text += fmt.Sprintf("; %s: %s", name, strings.Join(differs, ", "))
		}
	}
	return text
}

func conditionWords(c *decision.Condition) string {
	var parts []string
	if len(c.Is) > 0 {
		parts = append(parts, "is "+strings.Join(c.Is, " or "))
	}
	if c.Min != nil {
		parts = append(parts, fmt.Sprintf("is at least %v", *c.Min))
	}
	if c.Max != nil {
		parts = append(parts, fmt.Sprintf("is below %v", *c.Max))
	}
	return strings.Join(parts, " and ")
}

func experimentWords(e *decision.Experiment) string {
	switch {
	case e.Holdout == 0 && e.Exploration == 0:
		return "none: nobody is held out, and no hour is tried that is not the best"
	case e.Holdout == 0:
		return fmt.Sprintf("%s: nobody is held out; %s of the requests go out at any allowed hour", e.Name, percent(e.Exploration))
	case e.Exploration == 0:
		return fmt.Sprintf("%s: %s of the customers are held out; no hour is tried that is not the best", e.Name, percent(e.Holdout))
	}
	return fmt.Sprintf("%s: %s of the customers are held out, %s of the requests go out at any allowed hour", e.Name, percent(e.Holdout), percent(e.Exploration))
}

func closedWords(p *decision.Policy, year int) string {
	days := p.Closed.Year(year, calendar.Place{})
	if len(days) == 0 {
		return fmt.Sprintf("no day of %d in general; places may have theirs", year)
	}
	return fmt.Sprintf("%s of %d, wherever a customer lives, from %s (%s) on; `tempismo calendar` shows the others", counted(len(days), "day"), year, days[0].Day, days[0].Name)
}

func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }

// change is one difference between two policies.
type change struct {
	path          string
	before, after string // empty: there was, or is, none
}

func (c *change) String() string {
	switch {
	case c.before == "":
		return fmt.Sprintf("+ %s  %s", c.path, c.after)
	case c.after == "":
		return fmt.Sprintf("- %s  %s", c.path, c.before)
	}
	return fmt.Sprintf("  %s  %s → %s", c.path, c.before, c.after)
}

// policyChanges lists what one policy says differently from another.
func policyChanges(before, after *decision.Policy) []change {
	a, b := tree(before), tree(after)
	for _, t := range []any{a, b} {
		fields := t.(map[string]any)
		delete(fields, "version")
		fields["closed"] = bookName(fields["closed"])
	}
	changes := difference(a, b)
	if names := segmentNames(after); !slices.Equal(names, segmentNames(before)) && len(after.Segments) == len(before.Segments) && len(names) > 1 {
		changes = append(changes, change{"segments", strings.Join(segmentNames(before), ", "), strings.Join(names, ", ") + " (the first that fits counts)"})
	}
	return changes
}

func bookName(book any) any {
	if fields, ok := book.(map[string]any); ok {
		return fields["name"]
	}
	return book
}

func segmentNames(p *decision.Policy) (names []string) {
	for i := range p.Segments {
		names = append(names, p.Segments[i].Name)
	}
	return names
}

// tree is v as JSON has it.
func tree(v any) (t any) {
	var data []byte
	var err error
	if p, ok := v.(*decision.Policy); ok {
		data = p.Append(nil)
	} else {
		data, err = json.Marshal(v)
	}
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil {
		panic(err) // parts of a policy are always JSON
	}
	return t
}

// difference compares two trees of JSON, field by field; items of lists that have names are compared by name.
func difference(a, b any) []change {
	x, named := fieldsOf(a)
	y, also := fieldsOf(b)
	if !named || !also {
		if s, t := leaf(a), leaf(b); s != t {
			return []change{{"", s, t}}
		}
		return nil
	}
	all := maps.Clone(x)
	maps.Copy(all, y)
	var changes []change
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, c := range difference(x[name], y[name]) {
			c.path = strings.TrimSuffix(name+"."+c.path, ".")
			changes = append(changes, c)
		}
	}
	return changes
}

// fieldsOf is an object, or a list of objects with names as one.
func fieldsOf(t any) (map[string]any, bool) {
	switch t := t.(type) {
	case map[string]any:
		return t, true
	case []any:
		fields := map[string]any{}
		for _, item := range t {
			o, _ := item.(map[string]any)
			name, ok := o["name"].(string)
			if !ok {
				return nil, false
			}
			fields[name] = item
		}
		return fields, len(t) > 0
	}
	return nil, false
}

// leaf writes what is not compared field by field; empty: nothing.
func leaf(t any) string {
	switch t := t.(type) {
	case nil:
		return ""
	case string:
		if t == "" {
			return "none"
		}
		return t
	case []any:
		words := make([]string, len(t))
		for i, item := range t {
			words[i] = leaf(item)
		}
		if len(words) == 0 {
			return "none"
		}
		return strings.Join(words, ", ")
	}
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // it was JSON before
	}
	return string(data)
}

// dateWords is a day as people write it.
func dateWords(d calendar.Day) string {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Format("Mon 2 Jan 2006")
}
