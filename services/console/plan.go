package console

import (
	"html/template"
	"slices"
	"strings"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// planView is what waits for its moment, and the policy that decides about it.
type planView struct {
	Finding, Lead     string
	Hours, HoursTall  template.HTML
	Rows              []tableRow // by day
	Policy, PolicySay string
	PolicyFacts       [][2]string
}

// viewPlan computes it; the caller holds the board's lock.
func viewPlan(l *words.Lang, b *board.Board, simulated bool) planView {
	w := b.Waiting()
	var v planView
	v.Finding = sayWaiting(l, &w)
	v.Lead = sayPlan(l, &w)
	if w.Count > 0 && !simulated { // of a simulated run everything is read
		v.Lead += " " + l.T("plan.since", l.Moment(w.Since.In(b.Zone())))
	}
	label := l.T("plan.label", l.Int(board.Ahead))
	v.Hours, v.HoursTall = chart.Ahead(w.Hours[:], w.From, l, label, false), chart.Ahead(w.Hours[:], w.From, l, label, true)
	v.table(l, &w)
	p, applied := b.Policy()
	v.sayPolicy(l, p, applied)
	return v
}

// table has the numbers behind the picture, a day in a row. It always has as many.
func (v *planView) table(l *words.Lang, w *board.Waiting) {
	first := w.From - int64(calendar.HourOfWeek(w.From)%24)
	for day := first; day <= first+board.Ahead; day += 24 {
		r := tableRow{Name: l.Day(board.DateOf(day))}
		for h := day; h < day+24; h++ {
			var c tableCell
			if i := h - w.From; i >= 0 && i < board.Ahead {
				c.Text = l.Int(w.Hours[i])
			}
			r.Cells = append(r.Cells, c)
		}
		v.Rows = append(v.Rows, r)
	}
}

// sayWaiting says how many wait.
func sayWaiting(l *words.Lang, w *board.Waiting) string {
	switch {
	case w.AtLeast:
		return l.T("plan.atleast", l.Int(w.Count))
	case w.Count > 0:
		return l.N("plan.waiting", w.Count)
	}
	return l.T("plan.none")
}

// hourOf names a local hour of the page.
func hourOf(l *words.Lang, h int64) string {
	hour := calendar.HourOfWeek(h) % 24
	return l.Day(board.DateOf(h)) + ", " + say.Hour(hour) + "–" + say.Hour(hour+1)
}

// sayPlan says when most goes out, and what the picture does not show.
func sayPlan(l *words.Lang, w *board.Waiting) string {
	if w.Count == 0 {
		return l.T("plan.none.lead")
	}
	var s []string
	if most := slices.Max(w.Hours[:]); most > 0 {
		s = append(s, l.N("plan.most", most, hourOf(l, w.From+int64(slices.Index(w.Hours[:], most)))))
	}
	if w.Later > 0 {
		s = append(s, l.N("plan.later", w.Later))
	}
	if w.Unplanned > 0 {
		s = append(s, l.N("plan.unplanned", w.Unplanned))
	}
	return strings.Join(s, " ")
}

// sayPolicy sums the policy up; what holds for a segment alone is not in it.
func (v *planView) sayPolicy(l *words.Lang, p *decision.Policy, applied bool) {
	v.Policy = l.T("foot.policy", p.Version)
	if !applied {
		v.PolicySay = l.T("pol.default")
	}
	names := make([]string, 0, len(p.Channels))
	for name := range p.Channels {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v.PolicyFacts = append(v.PolicyFacts, [2]string{name, openings(p.Channels[name].Windows)})
	}
	quiet := l.T("pol.none")
	if !p.Quiet.Empty() {
		quiet = p.Quiet.String()
	}
	limit := func(n int, key string) string {
		if n == 0 {
			return l.T("pol.nocap")
		}
		return l.T(key, l.Int(n))
	}
	v.PolicyFacts = append(v.PolicyFacts,
		[2]string{l.T("rule.quiet_hours"), quiet},
		[2]string{l.T("pol.caps"), limit(p.CapPerDay, "pol.day") + ", " + limit(p.CapPerWeek, "pol.week")},
		[2]string{l.T("pol.holdout"), l.T("pol.holdout.share", l.Pct(p.Experiment.Holdout, 0))},
		[2]string{l.T("pol.exploration"), l.T("pol.exploration.share", l.Pct(p.Experiment.Exploration, 0))},
	)
}

func openings(list []calendar.Opening) string {
	var s []string
	for _, o := range list {
		s = append(s, o.String())
	}
	return strings.Join(s, ", ")
}
