package fit

import (
	"math"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

const day = timing.Day

// Config is how a Learner learns. The zero value is fit to use.
type Config struct {
	Seed uint64 // of the generator that starts the personas
}

// Learner learns customers and what they have in common, event by event, in order of time: at every moment it knows only
// what came before. Customers are numbered by the caller, densely from 0.
//
// What is refitted as days close: when deliveries are answered, the days of the week, the population's attention by hour of
// the day and its trends, the bases made of them, the habits, the personas and how much each expert counts. Where no
// delivery was ever told of, every hour is taken to be as exposed as every other.
type Learner struct {
	from      *timing.Model
	model     *timing.Model
	customers []customer
	exposed   [day]float64 // exposure of customers of whom no delivery is known
	carry     [4]float64   // share of the answers by days since delivery
	days      [7]float64   // engagements by day of the week

	population population
	response   response
	pairs      pairs
	personas   personas
	experts    [timing.Buckets][timing.Experts]float64
	fresh      int // engagements since the last close
}

// customer is what is remembered of one.
type customer struct {
	rhythm   timing.Rhythm
	reported bool         // whether a delivery is known
	stale    bool         // whether exposure is older than sent
	recent   recent       // deliveries
	week     int64        // at which a delivery weighs 1 in sent
	sent     [day]float32 // deliveries by hour of the day, half-life 13 weeks
	exposure [day]float32 // where answers to them would fall, were every hour like every other, sum 1
	sentDays [7]uint32    // deliveries by day of the week
	days     [7]uint32    // engagements by day of the week
}

// NewLearner starts from nothing but what from assumes of things that a Learner does not learn (kernel, priors, weekdays).
func NewLearner(from *timing.Model, c Config) *Learner {
	l := &Learner{from: from}
	for h := range l.exposed {
		l.exposed[h] = 1. / day
	}
	l.personas.rng = generator(c.Seed)
	l.population.start()
	l.response.start(from)
	for b := range l.experts {
		for e := range l.experts[b] {
			l.experts[b][e] = 100. / timing.Experts
		}
	}
	l.publish()
	return l
}

func (l *Learner) customer(i int) *customer {
	for i >= len(l.customers) {
		l.customers = append(l.customers, customer{})
	}
	return &l.customers[i]
}

// Delivered notes that a message reached customer in hour h.
func (l *Learner) Delivered(customer int, h timing.Hour) {
	c := l.customer(customer)
	week := weekOf(h)
	if !c.reported {
		c.reported, c.week = true, week
	}
	w := math.Exp2(float64(week-c.week) / 13)
	if w > 1e6 { // before the numbers run out of digits
		for i := range c.sent {
			c.sent[i] /= float32(w)
		}
		c.week, w = week, 1
	}
	c.sent[hourOfDay(h)] += float32(w)
	c.sentDays[mod(dayOf(h), 7)]++
	c.recent.add(h)
	c.stale = true
	l.pairs.exposed = true
	l.response.delivered(h)
}

// exposure is where the mail of customer c lets engagements fall.
func (l *Learner) exposure(c *customer) (exposure [day]float64) {
	if !c.reported {
		return l.exposed
	}
	if c.stale {
		for h, x := range l.fold(func(h int) float64 { return float64(c.sent[h]) }) {
			c.exposure[h] = float32(x)
		}
		c.stale = false
	}
	for h, x := range &c.exposure {
		exposure[h] = float64(x)
	}
	return exposure
}

// fold is where answers to deliveries sent by hour of the day fall, sum 1.
func (l *Learner) fold(sent func(hour int) float64) (exposure [day]float64) {
	total := 0.0
	for s := range day {
		n := sent(s)
		if n == 0 {
			continue
		}
		total += n
		for a, k := range &l.response.folded {
			exposure[(s+a)%day] += n * k
		}
	}
	for h := range exposure {
		exposure[h] /= total
	}
	return exposure
}

// Predict is what the model in force expects of the next engagement of customer, were it in the week of h.
func (l *Learner) Predict(customer int, h timing.Hour, p *timing.Prediction) {
	c := l.customer(customer)
	exposure := l.exposure(c)
	l.model.Predict(p, &c.rhythm, weekOf(h), &exposure)
}

// Answer is where answers to the latest message of customer would fall by hour of the day, were every hour like every other
// (sum 1): the answer of timing.Prediction.Likelihoods; false where no message came in the timing.Response hours before h.
func (l *Learner) Answer(customer int, h timing.Hour) (answer [day]float64, ok bool) {
	c := l.customer(customer)
	if !c.reported || h-c.recent.latest >= timing.Response {
		return answer, false
	}
	for a, k := range &l.response.folded {
		answer[(hourOfDay(c.recent.latest)+a)%day] = k
	}
	return answer, true
}

// Known is the number of engagements of customer so far.
func (l *Learner) Known(customer int) int { return l.customer(customer).rhythm.N() }

// Engaged notes an engagement of customer: it predicts, learns for the model how good the prediction was, and then learns
// the customer. What is one engagement, an engaged hour or a sitting, is for the caller to say.
func (l *Learner) Engaged(customer int, h timing.Hour, minute int) { l.engaged(customer, h, minute) }

func (l *Learner) engaged(customer int, h timing.Hour, minute int) (p timing.Prediction) {
	c := l.customer(customer)
	n, y := c.rhythm.N(), hourOfDay(h)
	slow, known := c.rhythm.Slow()
	answer, answers := l.Answer(customer, h)
	p = l.notice(customer, h, minute)

	bucket := timing.Bucket(n)
	exposure := l.exposure(c)
	l.population.note(bucket, y, h, &exposure)
	if known {
		l.pairs.note(y, &slow, &p.Experts[0], 1/(1+float64(n)/100))
	}
	l.response.note(h, c.recent)
	l.days[mod(dayOf(h), 7)]++
	where := &answer
	if !answers {
		where = nil
	}
	experts, mixed, _ := p.Likelihoods(y, where)
	for e, x := range experts {
		l.experts[bucket][e] += p.Weights[e] * x / mixed
	}
	l.fresh++
	return p
}

// notice predicts an engagement and learns the customer, not the model.
func (l *Learner) notice(customer int, h timing.Hour, minute int) (p timing.Prediction) {
	c := l.customer(customer)
	exposure := l.exposure(c)
	l.model.Predict(&p, &c.rhythm, weekOf(h), &exposure)
	if answer, ok := l.Answer(customer, h); ok {
		c.rhythm.Learn(&p.Outline, h, minute, &answer)
	} else {
		c.rhythm.Learn(&p.Outline, h, minute, nil)
	}
	c.days[mod(dayOf(h), 7)]++
	return p
}

// Close ends a local day (Hour/24) of the population: the model is fitted to everything noted so far, and is in force from
// now on. A day on which nothing happened may be closed, too, and costs little; days that are left out are taken to have
// been such days, once a later one is closed.
func (l *Learner) Close(day int64) {
	l.population.close(day)
	attention := l.population.published()
	l.response.close(day, &attention)
	if l.pairs.exposed {
		l.expose()
	}
	if l.fresh > 0 {
		l.pairs.fit()
		l.personas.fit(l, l.fresh)
		l.fresh = 0
	}
	l.publish()
}

// expose is what follows from everybody's deliveries.
func (l *Learner) expose() {
	l.carry = [4]float64{}
	sent := l.response.deliveries(timing.Deliveries{}).Hours
	l.exposed = l.fold(func(h int) float64 { return sent[h] })
	for h, n := range sent {
		for a, k := range l.response.kernel {
			l.carry[(h+a)/day] += n * k
		}
	}
}

// Model is the model in force. Later days do not change it.
func (l *Learner) Model() *timing.Model { return l.model }

// publish makes the model of what is known.
func (l *Learner) publish() {
	m := *l.from
	m.Kernel = l.response.kernel
	m.Weekdays = l.response.weekday
	m.Deliveries = l.response.deliveries(l.from.Deliveries)
	m.Population = l.population.published()
	m.Bases = l.population.bases()
	m.Habits = l.pairs.habits
	m.Personas = l.personas.list
	m.Experts = make([][timing.Experts]float64, timing.Buckets)
	for b, weights := range l.experts {
		total := sum(weights[:])
		for e, w := range weights {
			m.Experts[b][e] = w / total
		}
	}
	if err := m.Prepare(); err != nil {
		panic(err) // from was not ready itself: there is no model that may be told
	}
	l.model = &m
}

func sum(v []float64) (total float64) {
	for _, x := range v {
		total += x
	}
	return total
}

func scale(v []float64, by float64) {
	for i := range v {
		v[i] *= by
	}
}

func normalise(v []float64, to float64) {
	scale(v, to/sum(v))
}

func mod(a, n int64) int64 {
	if a %= n; a < 0 {
		a += n
	}
	return a
}

func floorDiv(a, n int64) int64 { return (a - mod(a, n)) / n }

func hourOfDay(h timing.Hour) int { return int(mod(h, day)) }

func dayOf(h timing.Hour) int64 { return floorDiv(h, day) }

func weekOf(h timing.Hour) int64 { return floorDiv(h, timing.Week) }
