package console

import (
	"html/template"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// query is what a viewer of the Now page asks for; it lives in the URL.
type query struct {
	View    string // r, e or d
	Filter  board.Filter
	segment string // as in the URL; noSegment: customers without one
}

const noSegment = "-"

func parseQuery(v url.Values) query {
	q := query{View: v.Get("view"), segment: v.Get("segment")}
	if q.View != "e" && q.View != "d" {
		q.View = "r"
	}
	q.Filter = board.Filter{Channel: v.Get("channel"), Segment: q.segment, Unnamed: q.segment == noSegment}
	return q
}

// with is the query as it stands in an address, with one parameter changed.
func (q query) with(key, value string) string {
	v := url.Values{}
	for k, s := range map[string]string{"view": q.View, "segment": q.segment, "channel": q.Filter.Channel, key: value} {
		if s != "" && !(k == "view" && s == "r") {
			v.Set(k, s)
		}
	}
	return "/?" + v.Encode()
}

// option is one choice of a control.
type option struct {
	Code, Name, URL string
	Current         bool
}

// cellWire is one cell as the page's script wants it: [day, engaged, expected, model, z, state].
type cellWire [6]float64

// States of a cell on the wire.
const (
	stateWeak    = 1
	stateFilling = 2
)

type cellsWire struct {
	Days  []string              `json:"days"`
	Cells [timing.Week]cellWire `json:"cells"`
}

type tableRow struct {
	Name  string
	Cells []tableCell
	All   string
}

type tableCell struct {
	Text string
	Flag bool
}

type kpi struct {
	Name  string
	Value []words.Amount
	Line  template.HTML
	Text  string
}

// nowView is the Now page. Templates of its parts take it as well.
type nowView struct {
	frame
	Finding, Lead, LeadFlags, LeadGaps string
	View                               string
	Views, Segments, Channels          []option
	Week                               *chart.Week
	Map, MapTall                       template.HTML
	Read, LastDay                      string
	Cells                              cellsWire
	HourNames                          []string
	Table                              []tableRow
	TableFoot                          []string
	FlagRows                           [][]string
	KPIs                               []kpi
	KPIRows                            [][]string
	HeadDeviations, HeadDecisions      string
	Deviations, Decisions              []rowView
	Stories                            []storyView // in simulated runs
	Plan                               planView
}

// Swatches is for templates.
func (nowView) Swatches(class string, n int) template.HTML { return chart.Swatches(class, n) }

// hourNames are the column heads of every table by hour.
var hourNames = func() []string {
	var h []string
	for i := range 24 {
		h = append(h, say.Hour(i))
	}
	return h
}()

// viewNow computes the page. rows says how many of each feed are put into it; the caller holds the board's lock.
func viewNow(f frame, b *board.Board, q query, figures board.Figures, d dials, rows int) *nowView {
	l := f.L
	w := b.Week(q.Filter)
	v := &nowView{frame: f, View: q.View, Week: chart.NewWeek(w, l), HourNames: hourNames}
	v.Views = []option{}
	for _, code := range []string{"r", "e", "d"} {
		v.Views = append(v.Views, option{code, l.T("view." + code), q.with("view", code), code == q.View})
	}
	v.Segments = options(l.T("segment.all"), b.Segments(), q.segment, func(s string) (string, string) {
		if s == "" {
			return noSegment, l.T("segment.none")
		}
		return s, s
	})
	v.Channels = options(l.T("channel.all"), b.Channels(), q.Filter.Channel, func(s string) (string, string) { return s, s })
	v.sayWeek(&w)
	if days := b.Gaps(); len(days) > 0 {
		v.LeadGaps = l.T("now.lead.gaps", say.Days(l, days))
	}
	v.table(&w)
	v.figures(figures)
	dev, dec := b.Deviations(), b.Decisions()
	v.HeadDeviations, v.HeadDecisions = sayHead(l, dev, false), sayHead(l, dec, true)
	v.Deviations = sayRows(l, dev.Rows, rows, b)
	v.Decisions = sayRows(l, dec.Rows, rows, b)
	v.Plan = viewPlan(l, b, f.Simulated)
	if f.Simulated {
		v.tell(b, d)
	}
	return v
}

func sayRows(l *words.Lang, rows []board.Row, n int, b *board.Board) []rowView {
	var out []rowView
	for _, r := range rows[:min(n, len(rows))] {
		out = append(out, sayRow(l, r, b.Clock(), b.Zone()))
	}
	return out
}

// options lists all and each value; a value that the URL names and nobody has is listed too, so that the control shows
// what is asked for.
func options(all string, values []string, current string, say func(string) (code, name string)) []option {
	out := []option{{Code: "", Name: all, Current: current == ""}}
	found := current == ""
	for _, s := range values {
		code, name := say(s)
		out = append(out, option{Code: code, Name: name, Current: code == current})
		found = found || code == current
	}
	if !found {
		out = append(out, option{Code: current, Name: current, Current: true})
	}
	return out
}

func (v *nowView) sayWeek(w *board.Week) {
	l := v.L
	switch {
	case w.Now == 0:
		v.Finding, v.Lead = l.T("now.finding.none"), l.T("now.lead.none")
	case w.Best < 0:
		v.Finding = l.T("now.finding.little")
	case w.Flat:
		v.Finding = l.T("now.finding.flat")
	default:
		v.Finding = l.T("now.finding", strconv.Itoa(w.Best), strconv.Itoa((w.Best+3)%24), l.Num(w.Peak, 1))
	}
	if w.Now != 0 {
		if w.All.Delivered > 0 {
			v.Lead = l.T("now.lead", l.Num(w.All.Engaged, 0), l.Num(w.All.Delivered, 0))
		} else {
			v.Lead = l.T("now.lead.nosends", l.Num(w.All.Engaged, 0))
		}
		v.LeadFlags = l.N("now.lead.flags", w.Flags)
		v.LastDay = l.LongWeekday(timing.HourOfWeek(w.Now) / 24)
	}
	v.Map, v.MapTall = v.Week.SVG(false), v.Week.SVG(true)
	// The dates of the seven rows, and of the part of today's row that is a week old.
	if w.Now != 0 {
		for d := range 7 {
			v.Cells.Days = append(v.Cells.Days, l.Day(board.DateOf(w.Cells[d*24].Hour)))
		}
		v.Cells.Days = append(v.Cells.Days, l.Day(board.DateOf(w.Now-timing.Week)))
	} else {
		for d := range 7 {
			v.Cells.Days = append(v.Cells.Days, l.LongWeekday(d))
		}
	}
	today := timing.HourOfWeek(w.Now)
	for i := range w.Cells {
		c := &w.Cells[i]
		day := i / 24
		if w.Now != 0 && day == today/24 && i > today {
			day = 7
		}
		state := 0
		if c.Weak {
			state |= stateWeak
		}
		if c.Filling {
			state |= stateFilling
		}
		v.Cells.Cells[i] = cellWire{float64(day), c.Engaged, decimals(c.Expected), decimals(c.Model), decimals(c.Z), float64(state)}
	}
	v.Read = v.readCell(w, v.Week.Furthest())
}

// decimals cuts a number to one decimal, which is all that is said of it.
func decimals(x float64) float64 { return math.Round(10*x) / 10 }

// readCell is the sentence of a cell, as the page's script says it for the others.
func (v *nowView) readCell(w *board.Week, i int) string {
	l, c := v.L, v.Cells.Cells[i]
	day, hour := v.Cells.Days[int(c[0])], say.Hour(i)+"–"+say.Hour(i+1)
	engaged, expected, model := c[1], c[2], c[3]
	few := func(x float64) int {
		if x < 20 {
			return 1
		}
		return 0
	}
	switch {
	case int(c[5])&stateFilling != 0:
		return l.T("map.say.filling", day, hour, l.Num(engaged, 0))
	case expected == 0 && engaged == 0:
		return l.T("map.say.empty", day, hour)
	}
	ratio := math.NaN()
	if expected > 0 {
		ratio = engaged / expected
	}
	s := l.T("map.say", day, hour, l.Num(engaged, 0), l.Num(expected, few(expected)), l.Num(ratio, 2), l.Num(model, few(model)), l.Signed(c[4], 1))
	if int(c[5])&stateWeak != 0 {
		s += " " + l.T("map.say.weak")
	}
	return s
}

func (v *nowView) table(w *board.Week) {
	l := v.L
	for d := range 7 {
		r := tableRow{Name: l.LongWeekday(d), All: l.Num(w.Days[d].Ratio(), 2)}
		for h := range 24 {
			c := &w.Cells[d*24+h]
			r.Cells = append(r.Cells, tableCell{l.Num(c.Ratio(), 2), c.Flag() > 0})
		}
		v.Table = append(v.Table, r)
	}
	for h := range 24 {
		v.TableFoot = append(v.TableFoot, l.Num(w.Hours[h].Ratio(), 2))
	}
	var flagged []int
	for i := range w.Cells {
		if w.Cells[i].Flag() > 0 {
			flagged = append(flagged, i)
		}
	}
	slices.SortStableFunc(flagged, func(a, b int) int {
		x, y := math.Abs(w.Cells[a].Z), math.Abs(w.Cells[b].Z)
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	for _, i := range flagged {
		c := &w.Cells[i]
		v.FlagRows = append(v.FlagRows, []string{l.LongWeekday(i/24) + " " + say.Hour(i), l.Num(c.Delivered, 0), l.Num(c.Engaged, 0), l.Num(c.Expected, 0), l.Num(c.Model, 0), l.Signed(c.Z, 1)})
	}
}

// figures puts the three figures into words and lines.
func (v *nowView) figures(f board.Figures) {
	l := v.L
	minutes := func(s float64) string { return l.Duration(time.Duration(s) * time.Second) }
	mean := ""
	if f.Mean > 0 {
		mean = " " + l.T("kpi.arithmetic", minutes(f.Mean))
	}
	forms := []struct {
		key   string
		fig   *board.Figure
		value func(float64) []words.Amount
		say   func(float64) string
		cell  func(float64) string
		more  string
	}{
		{"optimal", &f.Optimal,
			func(x float64) []words.Amount { return []words.Amount{{Number: l.Num(100*x, 1), Unit: l.Percent()}} },
			func(x float64) string { return l.Num(100*x, 1) },
			func(x float64) string { return l.Num(100*x, 1) }, ""},
		{"response", &f.Response,
			func(x float64) []words.Amount { return l.DurationParts(time.Duration(x) * time.Second) },
			minutes,
			func(x float64) string { return l.Num(x/60, 0) }, mean},
		{"deviation", &f.Deviation,
			func(x float64) []words.Amount {
				return []words.Amount{{Number: l.Num(x, 1), Unit: " " + l.T("kpi.per1000")}}
			},
			func(x float64) string { return l.Num(x, 1) },
			func(x float64) string { return l.Num(x, 1) }, " " + l.T("kpi.bands")},
	}
	for _, form := range forms {
		k := kpi{Name: l.T("kpi." + form.key)}
		last := form.fig.Last()
		line := chart.Line{W: 276, H: 44, Ref: math.NaN()}
		for _, p := range form.fig.Points {
			if !p.Known {
				p = board.Point{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
			}
			line.Values, line.Low, line.High = append(line.Values, p.Value), append(line.Low, p.Low), append(line.High, p.High)
		}
		if last.Known {
			line.Ref = form.fig.Mean
			k.Value = form.value(last.Value)
			k.Text = l.T("kpi.interval", form.say(last.Low), form.say(last.High)) + " " + l.T("kpi.mean", form.say(form.fig.Mean)) + form.more
		} else {
			k.Value = []words.Amount{{Number: "–"}}
			k.Text = l.T("kpi.none." + form.key)
		}
		k.Line = line.SVG()
		v.KPIs = append(v.KPIs, k)
	}
	if v.Clock.IsZero() {
		return
	}
	for i := board.Days - 1; i >= 0; i-- {
		row := []string{l.Date(board.DateOf((f.Today - int64(board.Days-1-i)) * 24))}
		for _, form := range forms {
			if p := form.fig.Points[i]; p.Known {
				row = append(row, form.cell(p.Value), form.cell(p.Low)+"–"+form.cell(p.High))
			} else {
				row = append(row, "–", "–")
			}
		}
		v.KPIRows = append(v.KPIRows, row)
	}
}
