package fit

import (
	"fmt"
	"math"
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

const channel = "sample"

// trials runs timing's own code, with the model as far as it is fitted, over the last weeks of the histories, everything
// before being known, and finds what can only be seen there: how firm the prior of the rates should be, how much days differ
// (Priors.Dispersion), how much more everybody engages in the hours after an engagement (Boost), how often a p is met where nothing happens (Calibration), and
// which p may act (PStar).
//
// The histories hold real deviations, too, and the tables are for ordinary days. Therefore customers are left out who are
// surprising again and again: those with so many p beyond two sigma that, were they like the others, fewer than one customer
// in a thousand would have as many.
func (s *sample) trials(m *timing.Model, report *Report) error {
	const weeks, some, most = 8, 2000, 4000
	first, last := dayOf(s.first), dayOf(s.last)
	since := max(last-7*weeks+1, first+(last-first+1)/2)

	var past days
	s.walk(m, some, since, func(int) visitor {
		past.customers = append(past.customers, nil)
		return visitor{day: past.note}
	})
	past.rates(m, report)
	past.dispersion(m, report)
	if err := m.Prepare(); err != nil {
		return err
	}

	tails := map[string]*tail{timing.Burst: {}, timing.Timing: {}}
	var b boost
	act := make([]uint64, timing.ActBins)
	active := 0.
	s.walk(m, most, since, func(customer int) visitor {
		b.begin(&s.histories[customer], m, since)
		return visitor{
			day: func(d int64, v *timing.View, t timing.Test) {
				tails[timing.Burst].add(customer, v, t.P)
				if t.Observed > 0 && d > last-7 {
					act[timing.ActBin(t.PAct)]++
					active++
				}
			},
			answer: func(h timing.Hour, v *timing.View, t timing.Test, ok bool) {
				if ok {
					tails[timing.Timing].add(customer, v, t.P)
				}
				b.note(h, v)
			},
		}
	})
	b.set(m, report)
	m.Calibration = timing.Calibration{}
	for _, kind := range []string{timing.Burst, timing.Timing} {
		if table, ok := tails[kind].table(kind, report); ok {
			m.Calibration[kind] = table
		}
	}
	if s.deliveries > 0 {
		all := s.streaks(m, most, true)
		if table, ok := all.table(); ok {
			m.Calibration[timing.Silence] = table
		}
		report.Estimates["calibration.silence.tests"] = all.total()
		report.Estimates["calibration.silence.beyond_two_sigma"] = all.share()
	} else {
		report.keep("calibration.silence", "no deliveries in the sample: nobody is silent")
	}
	if active == 0 {
		report.keep("p_star", "nobody engaged in the last week")
		return nil
	}
	m.PStar = PStar(act, active, .05, .005)
	report.Estimates["p_star"] = m.PStar
	return nil
}

// visitor is called for what happens to one customer. Either function may be nil.
type visitor struct {
	day    func(d int64, v *timing.View, t timing.Test)                // a day on which mail could have been answered is over
	answer func(h timing.Hour, v *timing.View, t timing.Test, ok bool) // an engaged hour; ok: it answers a message, and t is its test
}

// walk takes at most so many of the customers through their histories, and lets visitors see what the days from since on
// would have been tested against.
func (s *sample) walk(m *timing.Model, most int, since int64, visit func(customer int) visitor) {
	w := &timing.World{Model: m}
	step := max(1, (len(s.histories)+most-1)/most)
	var v timing.View
	for i := 0; i < len(s.histories); i += step {
		h := &s.histories[i]
		if len(h.Events) == 0 {
			continue
		}
		to := visit(i)
		p := timing.Profile{Segment: h.Segment}
		c := p.Channel(channel)
		next, engaged, exposed := since, int64(math.MinInt64), int64(math.MinInt64)
		closeDays := func(end int64) {
			for ; next < end; next++ {
				if c.Reported() && next > exposed && next != engaged || to.day == nil {
					continue
				}
				if _, seen := c.Head(); !seen {
					continue
				}
				w.Derive(&v, &p, channel, next*day+day-1, next)
				to.day(next, &v, m.Burst(&c.State, &v, next))
			}
		}
		for _, e := range h.Events {
			d := dayOf(e.Hour)
			if d > next {
				closeDays(d)
			}
			if e.Delivered {
				exposed = d + timing.Response/day
				c.Delivered(w, e.Hour)
				continue
			}
			engaged = d
			if r := c.Engaged(w, e.Hour, int(e.Minute)).Result; r == timing.Counted && d >= since && to.answer != nil {
				w.Derive(&v, &p, channel, e.Hour, d)
				t, _, ok := m.Timing(&c.State, &v, e.Hour)
				to.answer(e.Hour, &v, t, ok)
			}
		}
		end := dayOf(s.last) + 1
		if !c.Reported() {
			end = dayOf(h.Events[len(h.Events)-1].Hour) + 1 // who engages no more may have left
		}
		closeDays(end)
	}
}

// days are what was expected of the days of customers, and what came.
type days struct{ customers [][]pastDay }

type pastDay struct {
	observed, expected float64
	known, mail        float64 // engaged hours and deliveries behind the rate, without the prior's
	rate               float64
	extreme            bool // no chance explains it
}

func (d *days) note(_ int64, v *timing.View, t timing.Test) {
	if t.Expected <= 0 || v.Rate <= 0 {
		return
	}
	last := &d.customers[len(d.customers)-1]
	*last = append(*last, pastDay{
		observed: t.Observed, expected: t.Expected, known: v.Evidence.EngagedHours, rate: v.Rate,
		extreme: t.Observed > 0 && t.PAct < 1e-4,
	})
}

// rates makes the prior of the rates firmer or weaker, around the same mean, until customers of whom little is known engage
// as often, of what is expected of them, as everybody does: it is for them that there is a prior, and what a Gamma law that
// fits the many says of the few who hardly ever engage can be far off.
func (d *days) rates(m *timing.Model, report *Report) {
	const least = 100 // engaged hours of customers of whom little is known
	shape, mail := m.Priors.EngagedHours, m.Priors.Deliveries
	for _, c := range d.customers {
		for i := range c {
			c[i].mail = max(0, (shape+c[i].known)/c[i].rate-mail)
		}
	}
	compare := func(by float64) (ratio, seen float64) { // observed over expected with little known, over the same of all
		var few, all struct{ observed, expected float64 }
		for _, c := range d.customers {
			for i := range c {
				x := &c[i]
				expected := x.expected * (by*shape + x.known) / (by*mail + x.mail) / x.rate
				all.observed += x.observed
				all.expected += expected
				if timing.Stratum(x.known) == 0 {
					few.observed += x.observed
					few.expected += expected
				}
			}
		}
		return few.observed * all.expected / (few.expected * all.observed), few.observed
	}
	if _, seen := compare(1); seen < least {
		return
	}
	low, high := -math.Ln2*2, math.Ln2*2 // a quarter to four times as firm
	for range 10 {
		middle := (low + high) / 2
		if ratio, _ := compare(math.Exp(middle)); ratio < 1 { // less than expected: they are held to be too much like everybody
			high = middle
		} else {
			low = middle
		}
	}
	by := math.Exp((low + high) / 2)
	m.Priors.EngagedHours, m.Priors.Deliveries = by*shape, by*mail
	for _, c := range d.customers {
		for i := range c {
			x := &c[i]
			rate := (by*shape + x.known) / (by*mail + x.mail)
			x.expected, x.rate = x.expected*rate/x.rate, rate
		}
	}
	report.Estimates["priors.engaged_hours"], report.Estimates["priors.deliveries"] = m.Priors.EngagedHours, m.Priors.Deliveries
	report.Estimates["priors.engaged_hours.moments"] = shape
}

// dispersion is the moment estimate of how much days differ beyond chance and beyond what is not known of a customer's rate,
// relative to the squared mean. Customers who engage no more at all, and days that no chance explains, are left out.
func (d *days) dispersion(m *timing.Model, report *Report) {
	const fewest = 1000
	const gone = 7 // expected of somebody who engaged not once: exp(-7) is less than one in a thousand
	n, excess, squares := 0, 0., 0.
	for _, c := range d.customers {
		observed, expected := 0., 0.
		for _, x := range c {
			observed += x.observed
			expected += x.expected
		}
		if observed == 0 && expected > gone {
			continue
		}
		for _, x := range c {
			if !x.extreme {
				n++
				mean := x.expected
				excess += (x.observed-mean)*(x.observed-mean) - mean - mean*mean/(m.Priors.EngagedHours+x.known)
				squares += mean * mean
			}
		}
	}
	if n < fewest {
		report.keep("priors.dispersion", fmt.Sprintf("only %d days of customers with mail to answer; %d are needed", n, fewest))
		return
	}
	m.Priors.Dispersion = max(excess/squares, .3)
	report.Estimates["priors.dispersion.moments"], report.Estimates["priors.dispersion"] = excess/squares, m.Priors.Dispersion
}

// boost is engaged hours so many hours after an engaged hour, over those that mail and the customer's own habits explain.
type boost struct {
	observed, expected [day]float64
	start              timing.Hour
	mail               []float64 // kernel of the deliveries of the customer at hand, by hour from start
	engaged            []bool
}

func (b *boost) begin(h *History, m *timing.Model, since int64) {
	b.start = since * day
	end := h.Events[len(h.Events)-1].Hour + 1
	n := max(0, end-b.start)
	b.mail, b.engaged = slices.Grow(b.mail[:0], int(n))[:n], slices.Grow(b.engaged[:0], int(n))[:n]
	clear(b.mail)
	clear(b.engaged)
	for _, e := range h.Events {
		at := e.Hour - b.start
		switch {
		case !e.Delivered && at >= 0:
			b.engaged[at] = true
		case e.Delivered:
			for a := max(0, -at); a < timing.Response && at+a < n; a++ {
				b.mail[at+a] += m.Kernel[a]
			}
		}
	}
}

func (b *boost) note(h timing.Hour, v *timing.View) {
	if !v.Reported() {
		return
	}
	for u := timing.Hour(1); u < day; u++ {
		at := h + u - b.start
		if at >= timing.Hour(len(b.mail)) {
			return
		}
		b.expected[u] += v.Rate * b.mail[at] * v.Phi[timing.HourOfWeek(h+u)]
		if b.engaged[at] {
			b.observed[u]++
		}
	}
}

func (b *boost) set(m *timing.Model, report *Report) {
	const weight, least = 30, 100 // engaged hours
	if sum(b.observed[:]) < least {
		report.keep("boost", fmt.Sprintf("only %.0f engaged hours within a day of another", sum(b.observed[:])))
		return
	}
	for u := 1; u < day; u++ {
		m.Boost[u] = (b.observed[u] + weight) / (b.expected[u] + weight)
	}
	m.Boost[0] = m.Boost[1] // within an hour of an engagement is mostly the same engaged hour: the next tells how it goes on
	report.Estimates["boost.0"], report.Estimates["boost.23"] = m.Boost[0], m.Boost[day-1]
}

// tail is the p of one kind of test, as they were found.
type tail struct{ tests []trial }

type trial struct {
	customer int32
	stratum  uint8
	p        float32
}

func (t *tail) add(customer int, v *timing.View, p float64) {
	t.tests = append(t.tests, trial{int32(customer), uint8(timing.Stratum(v.Evidence.EngagedHours)), float32(p)})
}

// table is the share of tests below the upper bound of each bin, by stratum, of customers who are not surprising again and
// again. Strata are shrunk to all of them, these to what p says, and where fewer than 20 tests are left in the tail, it goes
// on in proportion to p.
func (t *tail) table(kind string, report *Report) (table [len(timing.Strata)][]float64, ok bool) {
	const fewest, weight, reliable = 300, 300, 20
	tests := t.ordinary()
	if len(tests) < fewest {
		report.keep("calibration."+kind, fmt.Sprintf("only %d tests; %d are needed", len(tests), fewest))
		return table, false
	}
	var counts [len(timing.Strata) + 1][timing.TailBins]float64
	for _, x := range tests {
		bin := timing.TailBin(float64(x.p))
		counts[x.stratum][bin]++
		counts[len(timing.Strata)][bin]++
	}
	below := func(count *[timing.TailBins]float64, prior func(bin int) float64) []float64 {
		n, least := sum(count[:]), 0
		f := make([]float64, timing.TailBins)
		tail := 0.
		for bin := timing.TailBins - 1; bin >= 0; bin-- {
			tail += count[bin]
			if tail >= reliable && least == 0 {
				least = bin
			}
			f[bin] = (tail + weight*prior(bin)) / (n + weight)
		}
		_, edge := timing.TailBounds(least)
		for bin := least + 1; bin < timing.TailBins; bin++ {
			_, high := timing.TailBounds(bin)
			f[bin] = f[least] * high / edge
		}
		return f
	}
	all := below(&counts[len(timing.Strata)], func(bin int) float64 { _, high := timing.TailBounds(bin); return high })
	beyond, of := 0., 0.
	for s := range table {
		table[s] = below(&counts[s], func(bin int) float64 { return all[bin] })
	}
	for _, x := range tests {
		of++
		if x.p < timing.TwoSigma {
			beyond++
		}
	}
	report.Estimates["calibration."+kind+".tests"] = of
	report.Estimates["calibration."+kind+".beyond_two_sigma"] = beyond / of
	return table, true
}

// ordinary leaves out the customers who are surprising again and again. Tests stand customer by customer.
func (t *tail) ordinary() []trial {
	const rare = .001
	kept := t.tests
	for range 2 { // the second time against those who were left
		beyond := 0.
		for _, x := range kept {
			if x.p < timing.TwoSigma {
				beyond++
			}
		}
		share := beyond / float64(max(1, len(kept)))
		kept = kept[:0:0]
		for from := 0; from < len(t.tests); {
			to, k := from, 0
			for ; to < len(t.tests) && t.tests[to].customer == t.tests[from].customer; to++ {
				if t.tests[to].p < timing.TwoSigma {
					k++
				}
			}
			if k < 2 || binomialTail(k, to-from, share) >= rare {
				kept = append(kept, t.tests[from:to]...)
			}
			from = to
		}
	}
	return kept
}

// binomialTail is the probability of at least k of n at probability p each.
func binomialTail(k, n int, p float64) (tail float64) {
	for i := k; i <= n; i++ {
		x := math.Exp(lgamma(float64(n)+1) - lgamma(float64(i)+1) - lgamma(float64(n-i)+1) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
		tail += x
		if x < tail*1e-9 {
			break
		}
	}
	return tail
}

// PStar is the largest p_act that may act: the largest p at which the share of false alarms among the alarms is expected to
// stay below q (Benjamini and Hochberg, 1995, on the histogram bins of timing.ActBin), and at which no more than budget of
// the active customer-days raise one. bins counts customer-days with engagements by their p_act; active is how many
// customer-days the budget is of. It is never less than q over the number of days, at which even a single one would pass.
func PStar(bins []uint64, active float64, q, budget float64) float64 {
	n := 0.
	for _, k := range bins {
		n += float64(k)
	}
	if n == 0 {
		return 0
	}
	found := 0.
	best := 0.
	for i := min(len(bins), timing.ActBins) - 1; i >= 0; i-- {
		found += float64(bins[i])
		_, p := timing.ActBounds(i)
		if found > budget*active {
			break
		}
		if found > 0 && p*n/found <= q {
			best = p
		}
	}
	return max(best, q/n)
}
