package evaluation

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
)

// Metric is a way to score a prediction.
type Metric struct {
	Name  string
	About string
}

// Places of the metrics in Metrics.
const (
	weekBits = iota
	dayBits
	responseBits
	top1
	top3
	circular
	metrics
)

// Metrics are what predictions are scored by.
var Metrics = [metrics]Metric{
	weekBits:     {"week-bits", "log-loss of the hour of the week, in bits"},
	dayBits:      {"day-bits", "log-loss of the hour of the day, in bits"},
	responseBits: {"response-bits", "log-loss of the hour, given that the latest message came at its hour and that it is answered within 72, in bits"},
	top1:         {"top1", "share of sittings in the best hour of 24"},
	top3:         {"top3", "share of sittings in the best three hours of 24"},
	circular:     {"crps", "circular continuous ranked probability score of the hour of the day, in hours"},
}

// All is the stratum of everybody.
const All = "all"

const strata = len(timing.Strata)

// scoring is a run through a log in order of time.
type scoring struct {
	log     *Log
	seed    uint64
	wanted  [methods]bool
	sends   bool // whether the log knows of deliveries
	crowd   *crowd
	people  []reader
	usual   func(customer int, second int64) bool // whether nothing unusual is known of a customer at that time
	learner *fit.Learner                          // ours
	blind   *fit.Learner                          // ours, not told of deliveries; nil where there are none
	noOne   *timing.Model
	model   *timing.Model // of the last close
	blinded *timing.Model

	rows  []row
	tails [strata][timing.TailBins]uint32 // randomised tail of ours, of sittings in which nothing was unusual
	loss  []float64                       // by customer: bits that ours has lost to the published population
	guess guess
	p     timing.Prediction
	view  timing.View
}

// reader is what is known of a customer besides what the learners know.
type reader struct {
	counts
	rows    [strata]int32 // into scoring.rows, from 1; 0: none
	last    int64         // second of the latest engagement
	latest  timing.Hour   // latest delivery
	mailed  bool
	whole   timing.Profile // tells the days of the week
	blind   timing.Profile
	unnamed timing.Rhythm // learned without personas
	undying timing.Rhythm // learned without decay
}

// row is what is summed up of one customer in one stratum.
type row struct {
	customer int32
	stratum  uint8
	n, given float64 // sittings; of these, with a message in the 72 hours before
	sums     [methods][metrics]float64

	ordinary, beyond float64 // sittings in which nothing was unusual; of these, with a randomised p below two sigma
}

const channel = "email" // profiles hold one channel here, whatever its name is in the log

// scores goes through the log.
func (l *Log) scores(ctx context.Context, wanted []string, seed uint64, usual func(customer int, second int64) bool, progress func(done, total int)) (*scoring, error) {
	s := &scoring{
		log: l, seed: seed, crowd: newCrowd(), people: make([]reader, len(l.people)), loss: make([]float64, len(l.people)),
		sends: l.summary.Deliveries > 0, usual: usual,
	}
	for m := range Methods {
		s.wanted[m] = len(wanted) == 0 || slices.Contains(wanted, Methods[m].Name)
	}
	s.learner = fit.NewLearner(timing.Builtin(), fit.Config{Seed: seed})
	if s.sends && s.wanted[noExposure] {
		s.blind = fit.NewLearner(timing.Builtin(), fit.Config{Seed: seed})
	}
	for i := range s.people {
		s.people[i].last = math.MinInt64
	}
	s.adopt()
	order := l.order()
	day := int64(math.MinInt64)
	for i, at := range order {
		c, e := l.at(at)
		if i%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			progress(i, len(order))
		}
		if d := s.day(e.second); d > day {
			if day != math.MinInt64 {
				s.crowd.close()
				s.learner.Close(day)
				if s.blind != nil {
					s.blind.Close(day)
				}
				s.adopt()
			}
			day = d
		}
		if e.delivered() {
			s.delivered(c, e)
		} else {
			s.engaged(c, e, i)
		}
	}
	progress(len(order), len(order))
	return s, nil
}

// day is the local day of an instant where most of the population lives.
func (s *scoring) day(second int64) int64 {
	h, _ := calendar.LocalHour(time.Unix(second, 0), s.log.zone)
	return floorDiv(h, hours)
}

// adopt takes over the models of a day that was closed.
func (s *scoring) adopt() {
	s.model = s.learner.Model()
	if s.wanted[noPersonas] {
		m := *s.model
		m.Personas = nil
		s.noOne = ready(&m)
	}
	if s.blind != nil {
		m := *s.blind.Model()
		fill(m.Deliveries.Hours[:], 1./hours)
		fill(m.Deliveries.Days[:], 1./7)
		s.blinded = ready(&m)
	}
}

// ready makes a variant of a model fit to use; it was before.
func ready(m *timing.Model) *timing.Model {
	if err := m.Prepare(); err != nil {
		panic(err)
	}
	return m
}

func (s *scoring) delivered(c int, e *event) {
	r := &s.people[c]
	s.learner.Delivered(c, e.at())
	world := timing.World{Model: s.model}
	r.whole.Channel(channel).Delivered(&world, e.at())
	r.mailed, r.latest = true, max(r.latest, e.at())
}

func (s *scoring) engaged(c int, e *event, i int) {
	r := &s.people[c]
	sitting := sits(r.last, e.second)
	r.last = e.second
	if !sitting {
		return
	}
	h := e.at()
	how := timing.HourOfWeek(h)
	y := how % hours
	stratum := timing.Stratum(float64(r.n))
	if r.rows[stratum] == 0 {
		s.rows = append(s.rows, row{customer: int32(c), stratum: uint8(stratum)})
		r.rows[stratum] = int32(len(s.rows))
	}
	at := &s.rows[r.rows[stratum]-1]
	at.n++
	given := r.mailed && h-r.latest >= 0 && h-r.latest < timing.Response
	if given {
		at.given++
	}

	s.learner.Predict(c, h, &s.p)
	answer, answers := s.learner.Answer(c, h)
	told := &answer
	if !answers {
		told = nil
	}
	s.watch(at, c, e, told, i)
	s.model.Derive(&s.view, &r.whole, channel, h, timing.Everything)
	days := weekdays(&s.view)

	note := func(method int) {
		if !s.wanted[method] {
			return
		}
		g, sums := &s.guess, &at.sums[method]
		sums[weekBits] += bits(g.week[how])
		sums[dayBits] += bits(g.day[y])
		sums[top1] += hit(&g.day, y, 1)
		sums[top3] += hit(&g.day, y, 3)
		sums[circular] += crps(&g.day, y)
		if given {
			sums[responseBits] += bits(answering(&s.model.Kernel, &g.attention, r.latest, h))
		}
	}
	for m := range noExposure {
		if s.wanted[m] {
			s.crowd.simple(&s.guess, m, &r.counts)
			note(m)
		}
	}
	days.guess(&s.guess, &s.p)
	note(ours)
	if s.wanted[noExposure] && s.blind == nil {
		note(noExposure) // nothing was known of deliveries: the same
	}
	exposure := exposed(&s.p)
	var p timing.Prediction
	if s.wanted[noPersonas] {
		s.noOne.Predict(&p, &r.unnamed, floorDiv(h, week), &exposure)
		days.guess(&s.guess, &p)
		note(noPersonas)
		r.unnamed.Learn(&p.Outline, h, int(e.minute), told)
	}
	if s.wanted[noDecay] {
		// In a world of one week nothing grows old.
		timeless := timing.Hour(how)
		s.model.Predict(&p, &r.undying, 0, &exposure)
		days.guess(&s.guess, &p)
		note(noDecay)
		r.undying.Learn(&p.Outline, timeless, int(e.minute), told)
	}
	if s.blind != nil {
		s.blind.Predict(c, h, &p)
		s.blinded.Derive(&s.view, &r.blind, channel, h, timing.Everything)
		blind := weekdays(&s.view)
		blind.guess(&s.guess, &p)
		note(noExposure)
		s.blind.Engaged(c, h, int(e.minute))
		world := timing.World{Model: s.blinded}
		r.blind.Channel(channel).Engaged(&world, h, int(e.minute))
	}

	s.learner.Engaged(c, h, int(e.minute))
	world := timing.World{Model: s.model}
	r.whole.Channel(channel).Engaged(&world, h, int(e.minute))
	s.crowd.tried(&r.counts, h)
	s.crowd.add(h)
	r.add(h)
}

// watch keeps what the bars on the predictor need: the randomised tail of what is predicted, and what the customer has lost
// by it against the published population. The tail of a prediction at y is the mass of hours that are less likely, and of
// those as likely, a random share.
func (s *scoring) watch(at *row, c int, e *event, told *[hours]float64, i int) {
	y := timing.HourOfWeek(e.at()) % hours
	_, mixed, published := s.p.Likelihoods(y, told)
	s.loss[c] += math.Log2(published / ((1-s.p.Guard)*mixed + s.p.Guard*published))
	if !s.usual(c, e.second) {
		return
	}
	below, ties := 0., 0.
	for _, x := range s.p.Hours {
		switch {
		case x < s.p.Hours[y]:
			below += x
		case x == s.p.Hours[y]:
			ties += x
		}
	}
	p := below + timing.Hash(s.log.people[c].customer, int64(i), "hour")*ties
	s.tails[at.stratum][timing.TailBin(p)]++
	at.ordinary++
	if p < timing.TwoSigma {
		at.beyond++
	}
}

// exposed is the exposure that a prediction was made under: hours over attention.
func exposed(p *timing.Prediction) (exposure [hours]float64) {
	attention := p.Attention()
	for h, x := range p.Hours {
		exposure[h] = x / attention[h]
	}
	normalise(exposure[:])
	return exposure
}

// splitDays is what a view knows of the days of the week.
type splitDays struct {
	share     [7]float64 // of engagements, sum 1
	attention [7]float64
}

func weekdays(v *timing.View) (d splitDays) {
	for how, x := range v.Usual() {
		d.share[how/hours] += x
	}
	for how, x := range v.Phi {
		d.attention[how/hours] += x / hours
	}
	return d
}

// guess makes a guess of the hours that p predicts and the days of d. In a view the two are independent.
func (d *splitDays) guess(g *guess, p *timing.Prediction) {
	g.day = p.Hours
	attention := p.Attention()
	for how := range g.week {
		g.week[how] = p.Hours[how%hours] * d.share[how/hours]
		g.attention[how] = attention[how%hours] * d.attention[how/hours]
	}
}

// answering is the probability that a message delivered in hour sent, if it is answered, is answered in hour h.
func answering(kernel *[timing.Response]float64, attention *[week]float64, sent, h timing.Hour) float64 {
	total := 0.0
	how := timing.HourOfWeek(sent)
	for a, k := range kernel {
		total += k * attention[(how+a)%week]
	}
	return kernel[h-sent] * attention[timing.HourOfWeek(h)] / total
}

// order is every event of the log in order of time.
func (l *Log) order() []uint64 {
	n := 0
	for i := range l.people {
		n += len(l.people[i].events)
	}
	type key struct {
		second int64
		place  uint64
	}
	keys := make([]key, 0, n)
	for i := range l.people {
		for j := range l.people[i].events {
			keys = append(keys, key{l.people[i].events[j].second, uint64(i)<<32 | uint64(j)})
		}
	}
	slices.SortFunc(keys, func(a, b key) int {
		switch {
		case a.second != b.second && a.second < b.second, a.second == b.second && a.place < b.place:
			return -1
		case a == b:
			return 0
		}
		return 1
	})
	places := make([]uint64, n)
	for i, k := range keys {
		places[i] = k.place
	}
	return places
}

func (l *Log) at(place uint64) (customer int, e *event) {
	customer = int(place >> 32)
	return customer, &l.people[customer].events[uint32(place)]
}

// report sums up, with intervals.
func (s *scoring) report() []Score {
	type sum struct {
		n, given float64
		sums     [methods][metrics]float64
	}
	add := func(to *sum, r *row, times float64) {
		to.n += times * r.n
		to.given += times * r.given
		for m := range r.sums {
			for k, x := range r.sums[m] {
				to.sums[m][k] += times * x
			}
		}
	}
	value := func(t *sum, m, k int) float64 {
		if k == responseBits {
			return t.sums[m][k] / t.given
		}
		return t.sums[m][k] / t.n
	}
	total := func(each *[strata]sum) (all sum) {
		for i := range each {
			all.n += each[i].n
			all.given += each[i].given
			for m := range all.sums {
				for k := range all.sums[m] {
					all.sums[m][k] += each[i].sums[m][k]
				}
			}
		}
		return all
	}
	var found [strata + 1]sum
	for i := range s.rows {
		add(&found[s.rows[i].stratum], &s.rows[i], 1)
	}
	found[strata] = total((*[strata]sum)(found[:]))
	var drawn [strata + 1][methods][metrics][]float64
	resample(s.seed, len(s.people), func(_ int, times []uint8) {
		var sums [strata + 1]sum
		for i := range s.rows {
			if k := times[s.rows[i].customer]; k > 0 {
				add(&sums[s.rows[i].stratum], &s.rows[i], float64(k))
			}
		}
		sums[strata] = total((*[strata]sum)(sums[:]))
		for st := range drawn {
			for m := range methods {
				for k := range metrics {
					if sums[st].n > 0 {
						drawn[st][m][k] = append(drawn[st][m][k], value(&sums[st], m, k))
					}
				}
			}
		}
	})
	var scores []Score
	for m := range methods {
		if !s.wanted[m] {
			continue
		}
		for k := range metrics {
			for st := range found {
				t := &found[st]
				n := t.n
				if k == responseBits {
					n = t.given
				}
				if n == 0 {
					continue
				}
				name := All
				if st < strata {
					name = timing.Strata[st]
				}
				lo, hi := interval(drawn[st][m][k], .95)
				scores = append(scores, Score{Methods[m].Name, Metrics[k].Name, name, int(n), value(t, m, k), lo, hi})
			}
		}
	}
	return scores
}

func floorDiv(a, n int64) int64 {
	q := a / n
	if a%n < 0 {
		q--
	}
	return q
}
