package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// calendarCmd shows on which days nothing is sent.
type calendarCmd struct {
	Place  string `placeholder:"PLACE" help:"A comune (Milano), a province (MI), a region (Lombardia) or a country (IT). Where letters are a province's and a country's, IT-FR is the province."`
	Year   int    `placeholder:"YEAR" help:"Default: this year."`
	Policy string `type:"path" placeholder:"FILE" help:"Policy file. Default: the policy in force."`
	JSON   bool   `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*calendarCmd) Help() string {
	return "A customer's place is known from attributes; without --place, it is that of somebody of whom nothing is known.\n\nExample:\n  tempismo calendar --place Milano\n  tempismo calendar --place BZ --year 2027 --policy policy.yaml"
}

// calendarView is a year in a place.
type calendarView struct {
	Year     int                `json:"year"`
	Place    calendar.Place     `json:"place"`
	Policy   string             `json:"policy"`   // version, or the file
	Calendar string             `json:"calendar"` // as it stands in decisions
	Days     []calendar.Holiday `json:"days"`
	Ordinary bool               `json:"ordinary"` // a place was asked for, and its days are those of a place that is not known
}

// Run shows.
func (c *calendarCmd) Run(ctx context.Context, t terminal) error {
	year := cmp.Or(c.Year, thisYear())
	p, name, err := c.policy(ctx, year)
	if err != nil {
		return err
	}
	first, last := p.Closed.Years()
	if first != 0 && (year < first || year > last) {
		return fmt.Errorf("%w: --year %d: the days of policy %s are known from %d to %d; put it into force again to move them", config.ErrUsage, year, name, first, last)
	}
	place := p.Closed.Find(c.Place)
	v := calendarView{Year: year, Place: place, Policy: name, Calendar: p.Closed.Name, Days: slices.Concat([]calendar.Holiday{}, p.Closed.Year(year, place))}
	v.Ordinary = c.Place != "" && slices.Equal(v.Days, p.Closed.Year(year, calendar.Place{}))
	if c.JSON {
		return t.json(v)
	}
	v.draw(t.out)
	return nil
}

// policy is that of the file, or the one in force, or the default where there is no system that could have another.
func (c *calendarCmd) policy(ctx context.Context, year int) (p *decision.Policy, name string, err error) {
	if c.Policy != "" {
		p, err := openPolicy(c.Policy, year)
		return p, c.Policy, err
	}
	p = new(decision.Policy)
	*p = decision.Default()
	if c.addressed() || c.Data != "" || local.Last() != "" {
		err = c.with(ctx, func(sys *system) error {
			policies, err := readPolicies(ctx, sys.log, sys.run)
			if err == nil {
				p, err = policies.find("")
			}
			return err
		})
	}
	if err != nil {
		return nil, "", err
	}
	return p, p.Version, nil
}

// marks tell the kinds of closed days apart where there is no colour.
var marks = []struct {
	kind       calendar.Kind
	mark, name string
}{
	{calendar.Custom, "x", "closure"},
	{calendar.Municipal, "+", "patron saint"},
	{calendar.Regional, "~", "region"},
	{calendar.National, "*", "nation"},
	{calendar.Bank, "=", "bank"},
}

// Sizes of the picture.
const (
	monthsInRow = 3
	dayWidth    = 3 // two digits and a mark
	monthGap    = 4 // between months
)

// draw shows the year at a glance, and lists its closed days.
func (v *calendarView) draw(w io.Writer) {
	s := styleFor(w)
	where := cmp.Or(v.Place.String(), "a place that is not known")
	fmt.Fprintf(w, "%s  %s\n", s.strong.Render(fmt.Sprintf("%d, %s", v.Year, where)), s.faint.Render(fmt.Sprintf("%s closed, by policy %s, calendar %s", counted(len(v.Days), "day"), v.Policy, v.Calendar)))
	closed := map[calendar.Day]calendar.Kind{}
	for _, h := range v.Days {
		closed[h.Day] = h.Kind
	}
	for first := 1; first <= 12; first += monthsInRow {
		var months [][]string
		for m := first; m < first+monthsInRow; m++ {
			months = append(months, month(s, v.Year, time.Month(m), closed))
		}
		fmt.Fprintln(w)
		for line := range months[0] {
			var row []string
			for _, m := range months {
				row = append(row, m[line])
			}
			if text := strings.TrimRight(strings.Join(row, strings.Repeat(" ", monthGap)), " "); text != "" {
				fmt.Fprintln(w, " ", text)
			}
		}
	}
	v.list(w, s)
}

// weeksShown are the lines that a month needs at most.
const weeksShown = 6

// month is a month as lines of equal width, Monday first.
func month(s style, year int, m time.Month, closed map[calendar.Day]calendar.Kind) []string {
	const width = 7 * dayWidth
	lines := []string{s.strong.Render(fmt.Sprintf("%-*s", width, m)), s.faint.Render(fmt.Sprintf("%-*s", width, "Mo Tu We Th Fr Sa Su"))}
	d := calendar.Day{Year: year, Month: m, Day: 1}
	d = d.Add(-(int(d.Weekday()+6) % 7))
	for range weeksShown {
		var b strings.Builder
		for range 7 {
			switch kind, is := closed[d]; {
			case d.Month != m:
				b.WriteString(strings.Repeat(" ", dayWidth))
			case is:
				b.WriteString(s.warm.Render(fmt.Sprintf("%2d%s", d.Day, markOf(kind))))
			default:
				fmt.Fprintf(&b, "%2d ", d.Day)
			}
			d = d.Next()
		}
		lines = append(lines, b.String())
	}
	return lines
}

func markOf(kind calendar.Kind) string {
	for _, m := range marks {
		if m.kind == kind {
			return m.mark
		}
	}
	return "?"
}

// list names the closed days.
func (v *calendarView) list(w io.Writer, s style) {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table)
	for _, h := range calendar.Spans(v.Days) {
		when, kind := date(h.Day), string(h.Kind)
		switch {
		case !h.InARow():
			when = counted(h.Days, "day")
		case h.Days > 1:
			when += " to " + date(h.Last)
		}
		for _, m := range marks {
			if m.kind == h.Kind {
				kind = m.mark + " " + m.name
			}
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\n", when, h.Name, kind, h.In)
	}
	_ = table.Flush() // a Builder takes everything
	for line := range strings.Lines(text.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
	if v.Ordinary {
		fmt.Fprintf(w, "\n  %s\n", s.faint.Render(fmt.Sprintf("%s has no days of its own here: these hold for everybody of whom no place is known", v.Place)))
	}
}

func date(d calendar.Day) string {
	return fmt.Sprintf("%s %2d %s", d.Weekday().String()[:3], d.Day, d.Month.String()[:3])
}
