package evaluation

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Promise is a bar before it is measured. Its bounds are the design's; how far chance may carry a value past them is in the
// interval.
type Promise struct {
	Name   string // with strata, a bar for each follows, named Name-STRATUM, and Name-all for everybody together
	About  string
	Unit   string
	Low    float64
	High   float64
	Strata [2]float64 // bounds in each stratum of evidence; zero: none
	Whole  bool       // whether there is a bar for everybody together

	value   func(sums [4]float64) float64
	at      float64 // instead of value: this quantile of the values noted
	least   float64 // of what is counted (the second of the sums, or the customers), for there to be something to say
	people  bool    // whether customers are counted
	explain bool    // no bar, but a number that explains one
}

// rare is how many chances there have to be for two sigma to be looked for: ten would be beyond.
const rare = 10 / timing.TwoSigma

func share(s [4]float64) float64 { return s[0] / s[1] }

// Promises are the bars.
var Promises = []Promise{
	{Name: "burst-false-alarms", About: "customer-days of ordinary customers that are called a burst (p below two sigma, two engaged hours or more)",
		Unit: "share", Strata: [2]float64{0, timing.TwoSigma}, value: share, least: rare},
	{Name: "burst-tail", About: "days on which ordinary customers could have answered mail, with a randomised p below two sigma",
		Unit: "share", Low: .016, High: .026, Whole: true, Strata: [2]float64{.014, .028}, value: share, least: rare},
	{Name: "timing-false-alarms", About: "answers of ordinary customers that are called odd for their hour, by the calibrated p",
		Unit: "share", Low: .019, High: .027, Whole: true, Strata: [2]float64{0, .027}, value: share, least: rare},
	{Name: "silence-false-alarms", About: "streaks of ignored mail of ordinary customers that are called a silence",
		Unit: "share", Low: .015, High: .023, Whole: true, Strata: [2]float64{0, .023}, value: share, least: rare},
	{Name: "drift-false-alarms", About: "answers of ordinary customers that raise a drift; a correct null guarantees at most one in 44",
		Unit: "share", Strata: [2]float64{0, 1. / 44}, value: share, least: 440},
	{Name: "drift-answers-per-false-alarm", About: "answers of ordinary customers for each that raises a drift",
		Unit: "answers", Low: 250, High: Unbounded, Whole: true, least: 250,
		value: func(s [4]float64) float64 { return s[1] / max(s[0], 1) }},
	{Name: "drift-power", About: "customers whose habits move by 8 hours, with 6 answers or more afterwards, in whom it is noticed",
		Unit: "share", Low: .5, High: 1, Whole: true, value: share, least: 20},
	{Name: "drift-answers-to-alarm", About: "answers from such a move to its alarm, in the median",
		Unit: "answers", High: 6, Whole: true, at: .5, least: 20},
	{Name: "burst-power", About: "bursts of 48 hours that are noticed while they last",
		Unit: "share", Low: .8, High: 1, Whole: true, value: share, least: 20},
	{Name: "silence-power", About: "customers going silent in whom it is noticed within 6 weeks",
		Unit: "share", Low: .7, High: 1, Whole: true, value: share, least: 20},
	{Name: "silence-mails-to-alarm", About: "messages from the beginning of a silence to its alarm, in the median",
		Unit: "messages", High: 9, Whole: true, at: .5, least: 20},
	{Name: "action-gate-false-share", About: "of the bursts that may act, those on ordinary days",
		Unit: "share", High: .1, Whole: true, value: share, least: 10},
	{Name: "action-gate-power", About: "bursting days that may act",
		Unit: "share", High: 1, Whole: true, value: share, least: 20, explain: true},
	{Name: "week-nats-below-laplace", About: "log-loss of the hour of the week, below that of the customer's own 168 hours with one added",
		Unit: "nats", Low: .25, High: Unbounded, Whole: true, value: share, least: 200},
	{Name: "week-nats-below-population", About: "the same, below that of everybody's 168 hours",
		Unit: "nats", Low: .12, High: Unbounded, Whole: true, value: share, least: 200},
	{Name: "response-nats-below-laplace", About: "log-loss of the hour given the message before, below that by the customer's own 168 hours",
		Unit: "nats", Low: .15, High: Unbounded, Whole: true, value: share, least: 200},
	{Name: "response-nats-below-population", About: "the same, below that by everybody's 168 hours",
		Unit: "nats", Low: .15, High: Unbounded, Whole: true, value: share, least: 200},
	{Name: "top3-above-histogram", About: "engaged hours in the best 3 of 24, beyond those in the best 3 of the customer's own histogram",
		Unit: "share", Low: .03, High: 1, Whole: true, value: share, least: 200},
	{Name: "lift-over-naive", About: "gain in the true chance of an open within 24 hours over business as usual, as a multiple of the gain by the customer's most frequent hour",
		Unit: "ratio", Low: 1.6, High: Unbounded, Whole: true, least: 50, people: true,
		value: func(s [4]float64) float64 { return (s[0] - s[2]) / (s[1] - s[2]) }},
	{Name: "lift-above-naive", About: "gain in that chance, less the gain by the most frequent hour",
		Unit: "share", Strata: [2]float64{0, Unbounded}, least: 50, people: true,
		value: func(s [4]float64) float64 { return (s[0] - s[1]) / s[2] }},
	{Name: "lift", About: "gain in that chance over business as usual", Unit: "share", explain: true,
		Whole: true, Strata: [2]float64{-Unbounded, Unbounded}, people: true, least: 50, value: func(s [4]float64) float64 { return s[0]/s[2] - 1 }},
	{Name: "lift-naive", About: "gain in that chance by the most frequent hour", Unit: "share", explain: true,
		Whole: true, Strata: [2]float64{-Unbounded, Unbounded}, people: true, least: 50, value: func(s [4]float64) float64 { return s[1]/s[2] - 1 }},
	{Name: "lift-oracle", About: "gain in that chance by the true best hour", Unit: "share", explain: true,
		Whole: true, Strata: [2]float64{-Unbounded, Unbounded}, people: true, least: 50, value: func(s [4]float64) float64 { return s[3]/s[2] - 1 }},
	{Name: "bytes-p50", About: "size of a profile, in the median", Unit: "bytes", High: 200, Whole: true, at: .5, least: 1},
	{Name: "bytes-p95", About: "size of a profile", Unit: "bytes", High: 256, Whole: true, at: .95, least: 1},
	{Name: "bytes-max", About: "size of the largest profile", Unit: "bytes", High: 352, Whole: true, at: 1, least: 1},
	{Name: "any-order", About: "profiles that are the same, byte for byte, when events come up to 48 hours late",
		Unit: "share", Low: 1, High: 1, Whole: true, value: share, least: 1},
	{Name: "any-split", About: "profiles that are the same, byte for byte, when they are stored and read back in between",
		Unit: "share", Low: 1, High: 1, Whole: true, value: share, least: 1},
	{Name: "guard", About: "what our predictions have cost the customer worst off, in total, against the published population",
		Unit: "bits", Low: -Unbounded, High: 5.645, Whole: true, at: 1, least: 1},
	{Name: "hour-tail", About: "sittings at hours of the day with a randomised p below two sigma",
		Unit: "share", Strata: [2]float64{.015, .028}, value: share, least: rare},
}

// sample is what was noted for a bar, by customer.
type sample struct {
	promise   *Promise
	name      string
	stratum   int // strata for everybody
	low, high float64
	explain   bool // no bar here
	rows      []noted
}

type noted struct {
	customer int32
	v        [4]float64
}

// ledger collects what bars are measured from.
type ledger struct {
	samples []*sample
	index   map[string][]*sample // by the promise's name
}

func newLedger() *ledger {
	l := &ledger{index: map[string][]*sample{}}
	for i := range Promises {
		p := &Promises[i]
		add := func(name string, stratum int, low, high float64) {
			s := &sample{promise: p, name: name, stratum: stratum, low: low, high: high, explain: p.explain}
			l.samples = append(l.samples, s)
			l.index[p.Name] = append(l.index[p.Name], s)
		}
		split := p.Strata != [2]float64{}
		switch {
		case p.Whole && split:
			add(p.Name+"-"+All, strata, p.Low, p.High)
		case p.Whole:
			add(p.Name, strata, p.Low, p.High)
		}
		if split {
			for st, stratum := range timing.Strata {
				add(p.Name+"-"+stratum, st, p.Strata[0], p.Strata[1])
			}
		}
	}
	return l
}

// note adds v to what is known of a customer in a stratum; strata says that it counts for everybody together alone.
func (l *ledger) note(name string, customer, stratum int, v ...float64) {
	for _, s := range l.index[name] {
		if s.stratum != strata && s.stratum != stratum {
			continue
		}
		last := len(s.rows) - 1
		if last < 0 || s.rows[last].customer != int32(customer) || s.promise.value == nil {
			s.rows = append(s.rows, noted{customer: int32(customer)})
			last++
		}
		for i, x := range v {
			s.rows[last].v[i] += x
		}
	}
}

// bars measures what was noted. why says, by promise, why nothing could be noted.
func (l *ledger) bars(seed uint64, customers int, why map[string]string) (bars []Bar, details []Info, left []Left) {
	measured := make([]*sample, 0, len(l.samples))
	for _, s := range l.samples {
		switch n := s.n(); {
		case s.explain && n < s.promise.least:
		case why[s.promise.Name] != "":
			left = append(left, Left{s.name, why[s.promise.Name]})
		case n < s.promise.least:
			left = append(left, Left{s.name, fmt.Sprintf("there are %.0f of what it counts; it takes %.0f", n, math.Ceil(s.promise.least))})
		default:
			if s.promise.value == nil {
				slices.SortFunc(s.rows, func(a, b noted) int { return cmp.Compare(a.v[0], b.v[0]) })
			}
			measured = append(measured, s)
		}
	}
	drawn := make([][]float64, len(measured))
	if len(measured) > 0 {
		resample(seed, customers, func(_ int, times []uint8) {
			for i, s := range measured {
				drawn[i] = append(drawn[i], s.draw(times))
			}
		})
	}
	for i, s := range measured {
		value := s.draw(nil)
		if s.explain {
			details = append(details, Info{s.name, value, s.promise.Unit})
			continue
		}
		b := Bar{Name: s.name, Value: value, Low: s.low, High: s.high, Lo: value, Hi: value, N: int(s.n()), Unit: s.promise.Unit}
		if lo, hi := interval(drawn[i], .99); s.promise.at != 1 && !math.IsNaN(lo) { // a maximum is what it is
			b.Lo, b.Hi = min(lo, value), max(hi, value)
		}
		b.Holds = b.Lo <= b.High && b.Hi >= b.Low
		for _, v := range [...]*float64{&b.Value, &b.Lo, &b.Hi} { // JSON knows no infinity
			*v = min(max(*v, -Unbounded), Unbounded)
		}
		bars = append(bars, b)
	}
	return bars, details, left
}

// n is how much was noted.
func (s *sample) n() (n float64) {
	if s.promise.people || s.promise.value == nil {
		return float64(len(s.rows))
	}
	for i := range s.rows {
		n += s.rows[i].v[1]
	}
	return n
}

// draw is the value where each customer is taken so many times; nil: once.
func (s *sample) draw(times []uint8) float64 {
	if s.promise.value == nil {
		return s.quantile(times)
	}
	var sums [4]float64
	for i := range s.rows {
		k := 1.
		if times != nil {
			k = float64(times[s.rows[i].customer])
		}
		for j, x := range s.rows[i].v {
			sums[j] += k * x
		}
	}
	return s.promise.value(sums)
}

// quantile is the smallest value at or below which the share lies.
func (s *sample) quantile(times []uint8) float64 {
	total := len(s.rows)
	if times != nil {
		total = 0
		for i := range s.rows {
			total += int(times[s.rows[i].customer])
		}
	}
	if total == 0 {
		return math.NaN()
	}
	rest := max(1, int(math.Ceil(s.promise.at*float64(total))))
	for i := range s.rows {
		k := 1
		if times != nil {
			k = int(times[s.rows[i].customer])
		}
		if rest -= k; rest <= 0 {
			return s.rows[i].v[0]
		}
	}
	return s.rows[len(s.rows)-1].v[0]
}
