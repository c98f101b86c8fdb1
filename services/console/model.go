package console

import (
	"html/template"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// modelView is the page of the model in force.
type modelView struct {
	frame
	Known                bool
	Finding, Say         string
	Attributes           []string
	Population, Answers  template.HTML
	KernelLead           string
	PersonasLead         string
	Groups               []group
	HourNames, HourTicks []string
	Tests                []calibration
	Strata               []strokeView
	Nominal              []string
	CalibrationRows      [][]string
	Weekdays, Boost      template.HTML
	Season               template.HTML
	SeasonLead           string
	Priors               [][2]string
	Versions             [][]string
	Metrics              [][2]string
	Defaults             [][2]string
}

// Swatches is for templates.
func (modelView) Swatches(class string, n int) template.HTML { return chart.Swatches(class, n) }

// DefaultsSay counts what the sample could not tell.
func (v *modelView) DefaultsSay() string { return v.L.N("model.defaults", len(v.Defaults)) }

// group is everybody, a persona or a segment.
type group struct {
	Name, Share string
	Strip       template.HTML
	Cells       []string
}

type calibration struct {
	Name           string
	Glyph, Picture template.HTML
}

type strokeView struct {
	Name   string
	Stroke template.HTML
}

func (s *server) getModel(w http.ResponseWriter, r *http.Request) {
	l := choose(w, r)
	s.state.mu.Lock()
	v := &modelView{frame: s.frame(l, "model", l.T("nav.model"), r.URL), HourNames: hourNames}
	versions, tails := s.state.board.Models(), s.state.board.Tails()
	s.state.mu.Unlock()
	v.Stream = s.live.address(l, query{})
	if len(versions) == 0 {
		v.Finding, v.Say = l.T("model.none"), l.T("model.none.lead")
	} else {
		v.fill(versions, tails)
	}
	render(w, http.StatusOK, "model", v)
}

// fill puts the model in force, the first of versions, into pictures and words.
func (v *modelView) fill(versions []board.Version, tails []board.Tail) {
	l, m := v.L, versions[0].Model
	v.Known = true
	v.Attributes = []string{l.T("foot.model", m.Version)}
	if f := m.FittedOn; f != nil {
		for _, name := range slices.Sorted(maps.Keys(f.Defaults)) {
			v.Defaults = append(v.Defaults, [2]string{name, f.Defaults[name]})
		}
		v.Attributes = append(v.Attributes, l.T("model.span", l.Date(f.From)+" "+strconv.Itoa(f.From.Year()), l.Date(f.To)+" "+strconv.Itoa(f.To.Year())), l.N("model.customers", f.Customers))
	}
	if m.Pinned {
		v.Attributes = append(v.Attributes, l.T("model.pinned"))
	}
	v.say(m)

	var names, since []string
	for h := range timing.Day {
		name, after := "", ""
		if h%3 == 0 {
			name, after = say.Hour(h), strconv.Itoa(h)
		}
		names, since = append(names, name), append(since, after)
		if h%6 == 0 {
			v.HourTicks = append(v.HourTicks, say.Hour(h))
		}
	}
	v.Population = chart.Bars(m.Population[:], names, l.T("model.population"))
	v.Answers = chart.Answers(&m.Kernel, l)
	v.KernelLead = l.T("model.kernel.lead", l.Num(chart.Half(&m.Kernel), 1))
	var days []string
	for d := range 7 {
		days = append(days, l.Weekday(d))
	}
	v.Weekdays = chart.Bars(m.Weekdays[:], days, l.T("model.weekdays"))
	v.Boost = chart.Bars(m.Boost[:], since, l.T("model.boost"))
	v.season(m)

	v.group(l.T("cust.level.population"), math.NaN(), &m.Population)
	v.PersonasLead = l.T("model.personas.none")
	if len(m.Personas) > 0 {
		v.PersonasLead = l.N("model.personas.lead", len(m.Personas))
	}
	for i := range m.Personas {
		p := &m.Personas[i]
		v.group(say.Persona(l, p.Name), p.Share, &p.Attention)
	}
	for i := range m.Segments {
		s := &m.Segments[i]
		v.group(l.T("model.segment", s.Name), s.Share, &s.Attention)
	}
	v.calibration(tails)

	p := &m.Priors
	v.Priors = [][2]string{
		{l.T("model.prior.rate"), l.Num(10*p.EngagedHours/p.Deliveries, 1)},
		{l.T("model.prior.read"), l.Num(10*p.Read/(p.Read+p.Ignored), 1)},
		{l.T("model.prior.weight"), l.Num(p.EngagedHours, 1)},
		{l.T("model.prior.dispersion"), l.Num(p.Dispersion, 2)},
		{l.T("model.prior.habits"), l.Int(len(m.Habits))},
		{l.T("model.prior.pstar"), rarer(l, m.PStar)},
	}
	for _, x := range versions {
		row := []string{x.Model.Version, l.Date(x.At.In(v.Clock.Location())) + " " + x.At.In(v.Clock.Location()).Format("15:04"), "–", "–"}
		if f := x.Model.FittedOn; f != nil {
			row[2] = l.Int(f.Customers)
		}
		if bits, ok := x.Model.Metrics["bits"]; ok {
			row[3] = l.Num(bits, 3)
		}
		v.Versions = append(v.Versions, row)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Metrics)) {
		v.Metrics = append(v.Metrics, [2]string{name, digits(l, m.Metrics[name])})
	}
}

// say is the finding, and the model in a few sentences.
func (v *modelView) say(m *timing.Model) {
	l := v.L
	first := 0
	for h, a := range m.Population {
		if a > m.Population[first] {
			first = h
		}
	}
	builtin := m.Version == timing.BuiltinVersion
	switch {
	case builtin:
		v.Finding = l.T("model.finding.builtin")
		v.Say = l.T("model.say.builtin")
	case len(m.Personas) > 0:
		v.Finding = l.T("model.finding.personas", say.Hour(first), l.Num(m.Population[first], 1), l.Int(len(m.Personas)))
	default:
		v.Finding = l.T("model.finding", say.Hour(first), l.Num(m.Population[first], 1))
	}
	if !builtin {
		v.Say = l.T("model.say")
		if bits, ok := m.Metrics["bits"]; ok {
			if before, ok := m.Metrics["bits_before"]; ok && before > 0 {
				v.Say += " " + l.T("model.say.bits.before", l.Num(bits, 3), l.Num(before, 3))
			} else {
				v.Say += " " + l.T("model.say.bits", l.Num(bits, 3))
			}
		}
	}
}

func (v *modelView) group(name string, share float64, attention *[timing.Day]float64) {
	g := group{Name: name, Strip: chart.Strip(attention)}
	if !math.IsNaN(share) {
		g.Share = v.L.Pct(share, 0)
	}
	for _, a := range attention {
		g.Cells = append(g.Cells, v.L.Num(a, 2))
	}
	v.Groups = append(v.Groups, g)
}

// season draws the factors of the days that the model tells of.
func (v *modelView) season(m *timing.Model) {
	l, s := v.L, &m.Season
	if len(s.Factors) < 2 {
		return
	}
	low, high := 0, 0
	for i, f := range s.Factors {
		if f < s.Factors[low] {
			low = i
		}
		if f > s.Factors[high] {
			high = i
		}
	}
	if s.Factors[high] == s.Factors[low] {
		return
	}
	date := func(i int) string { return l.Day(board.DateOf((s.First + int64(i)) * timing.Day)) }
	v.SeasonLead = l.T("model.season.lead", date(high), l.Num(s.Factors[high], 2), date(low), l.Num(s.Factors[low], 2), date(0), date(len(s.Factors)-1))
	v.Season = chart.Line{Values: s.Factors, W: 1376, H: 90, Ref: 1, Zero: true, Label: l.T("model.season")}.SVG()
}

// nominal are the p-values of the table behind the calibration.
var nominal = []float64{.1, .05, timing.TwoSigma, .01, .001}

// calibration draws the tests that the digests tell of, by kind.
func (v *modelView) calibration(tails []board.Tail) {
	l := v.L
	for _, p := range nominal {
		v.Nominal = append(v.Nominal, l.T("model.below", share(l, p)))
	}
	for len(tails) > 0 {
		n := 1
		for n < len(tails) && tails[n].Kind == tails[0].Kind {
			n++
		}
		kind := tails[:n]
		name := say.Named(l, "kind.", kind[0].Kind)
		v.Tests = append(v.Tests, calibration{name, chart.Glyph(kind[0].Kind), chart.Calibration(kind, l, l.T("model.calibration.label", name))})
		for i := range kind {
			t := &kind[i]
			row := []string{name, t.Stratum, l.Num(float64(t.Tests), 0)}
			for _, p := range nominal {
				row = append(row, share(l, t.Below(p)))
			}
			v.CalibrationRows = append(v.CalibrationRows, row)
		}
		tails = tails[n:]
	}
	for _, s := range timing.Strata {
		v.Strata = append(v.Strata, strokeView{s, chart.Stroke(s)})
	}
}

// rarer says a probability as odds.
func rarer(l *words.Lang, p float64) string {
	if p <= 0 {
		return l.T("model.never")
	}
	return l.T("model.onein", l.Num(1/p, 0))
}

// digits writes a number with four digits that count; whole numbers whole.
func digits(l *words.Lang, x float64) string {
	if x == math.Trunc(x) {
		return l.Num(x, 0)
	}
	return l.Num(x, min(max(3-int(math.Floor(math.Log10(math.Abs(x)))), 0), 9))
}

// share writes a share with two digits that count.
func share(l *words.Lang, p float64) string {
	switch {
	case p >= .1:
		return l.Pct(p, 0)
	case p >= .01:
		return l.Pct(p, 1)
	}
	return l.Pct(p, 2)
}
