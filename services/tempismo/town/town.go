// Package town simulates the mail of a town: campaigns that go out, inboxes that are opened a few times a day and read
// newest first, habits that differ from person to person, machines that open before any human does, and people who for two
// days read everything, fall silent, come back, go away for a holiday, or take up other habits. It knows the truth about
// them (package truth), which makes it the judge of what the services find.
//
// It is mechanistic, and not the model that the profiler fits turned around. Nowhere in it is an intensity of engagement,
// let alone one that is a product of a person's rate, an attention by hour and a kernel of delays:
//
//   - What is drawn are visits to the inbox, whether or not there is mail. A visit goes through the inbox from the newest
//     message down; what is found is opened with a chance that falls with the message's age, exp(-age/20 h), until the
//     reader has had enough. Response times, the response kernel and the repulsion between messages come out of that.
//   - A message is opened once, and now and then read again. One in ten is put off and read hours later, between visits.
//   - Weekends have hours of their own, so a week is no product of hours and days. Mail goes out by the company's clock.
//   - Days differ by more than chance (Gamma distributed, variance 1/2), good and bad days come in weeks (variance 1/16),
//     and an issue of a campaign appeals to all of its readers or to none (standard deviation 1/4): neither a customer's
//     days nor the customers of a day are independent.
//   - A habit is one of eight personas with a bump of one's own, and for one person in ten nothing that anybody shares.
//   - There are seasons, public holidays, private ones, hours in which the feed is down, and customers whose export starts
//     late. Machines hide some humans, and imitate others.
//
// A town is deterministic: the same Config gives the same events, and what one customer does depends on nobody else, so a
// larger town has the smaller one in it. It is not a load generator, and its numbers are invented: they are of the right
// order of magnitude, no more.
package town

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// Source is the CloudEvents source of the town's events.
const Source = "/tempismo/town"

// Config is what a town is made from.
type Config struct {
	Seed      uint64
	Customers int
	Start     time.Time // the first day that is lived, from its midnight in each customer's zone on

	// QuietUntil and Until make the town an experiment. Up to QuietUntil nothing happens to anybody but holidays and, well
	// before it, habits that move; from then to Until half of the customers are left alone, and each of the others has its
	// fate. Without them things happen to everybody, at any time, for ever.
	QuietUntil, Until time.Time

	// Stories adds the residents of Stories, to whom it happens in the two weeks before; zero leaves them out.
	Stories time.Time

	// Lively multiplies the visits to the inbox. 0 is 1: a median of some 19 engaged hours in half a year.
	Lively float64
}

// validate joins all that is wrong with a Config.
func (c *Config) validate() error {
	var errs []error
	if c.Customers < 1 && c.Stories.IsZero() {
		errs = append(errs, fmt.Errorf("town of %d customers: want at least one", c.Customers))
	}
	if c.Start.IsZero() {
		errs = append(errs, errors.New("town without a beginning: want a start"))
	}
	if c.QuietUntil.IsZero() != c.Until.IsZero() {
		errs = append(errs, errors.New("an experiment has both an end of its quiet time and an end"))
	}
	if !c.Until.IsZero() && (c.QuietUntil.Before(c.Start) || !c.QuietUntil.Before(c.Until)) {
		errs = append(errs, errors.New("an experiment begins, is quiet, and ends, in this order"))
	}
	if c.Lively < 0 {
		errs = append(errs, errors.New("a town cannot be less lively than not at all"))
	}
	return errors.Join(errs...)
}

// Town is a stream of events in order of time, and every customer's life one by one. It serves one goroutine.
type Town struct {
	config  Config
	almanac *almanac
	people  []*person // nil until the stream is asked for its first event
	queue   []turn    // a heap by the time of what each does next
	byID    map[string]*person
}

// New founds a town.
func New(c Config) (*Town, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Lively == 0 {
		c.Lively = 1
	}
	c.Start = c.Start.UTC()
	a, err := newAlmanac(&c)
	if err != nil {
		return nil, fmt.Errorf("found the town: %w", err)
	}
	return &Town{config: c, almanac: a}, nil
}

// Next fills e with the next event of the town; times never go back. The town never ends.
func (t *Town) Next(e *engagement.Event) {
	if t.people == nil {
		t.settle()
	}
	for {
		p := t.queue[0].person
		if p.ready() {
			p.take(e)
			t.sink()
			return
		}
		p.live()
		t.sink()
	}
}

// settle lets everybody move in.
func (t *Town) settle() {
	t.byID = map[string]*person{}
	for i := range t.config.Customers {
		t.people = append(t.people, t.born(i))
	}
	if !t.config.Stories.IsZero() {
		for i := range Stories {
			t.people = append(t.people, t.resident(i))
		}
	}
	for _, p := range t.people {
		t.byID[p.id] = p
		t.push(p)
	}
}

// Each lives one customer of an experiment alone, from 0 on, and returns its events in order of time and the truth about it.
// It leaves the stream alone, and gives the same events.
func (t *Town) Each(i int) ([]engagement.Event, truth.Customer) { return t.alone(t.born(i)) }

// Story is Each for a resident of Stories.
func (t *Town) Story(i int) ([]engagement.Event, truth.Customer) { return t.alone(t.resident(i)) }

func (t *Town) alone(p *person) ([]engagement.Event, truth.Customer) {
	events := make([]engagement.Event, 0, 256)
	end := t.config.Until.UnixMilli()
	for {
		switch {
		case p.next() >= end:
			return events, p.truth()
		case p.ready():
			events = append(events, engagement.Event{})
			p.take(&events[len(events)-1])
		default:
			p.live()
		}
	}
}

// Header is the header of the truth about an experiment.
func (t *Town) Header() truth.Header {
	c := &t.config
	h := truth.Header{Version: truth.Version, Simulator: "tempismo town", Seed: c.Seed, Customers: c.Customers, From: c.Start, QuietUntil: c.QuietUntil, To: c.Until}
	if !c.Stories.IsZero() {
		h.Customers += len(Stories)
	}
	h.Outages = t.almanac.outagesUntil(c.Until)
	return h
}

// Truths is the truth about everybody, in the order in which they were born: in an experiment, what will have happened by
// its end; otherwise what has happened so far.
func (t *Town) Truths() iter.Seq[truth.Customer] {
	if t.people == nil {
		t.settle()
	}
	return func(yield func(truth.Customer) bool) {
		for _, p := range t.people {
			if !yield(p.truth()) {
				return
			}
		}
	}
}

// Episodes returns what has happened to a customer so far.
func (t *Town) Episodes(customer string) []truth.Episode {
	p := t.byID[customer]
	if p == nil {
		return nil
	}
	var past []truth.Episode
	for i := range p.episodes {
		if e := &p.episodes[i]; e.from < p.until {
			past = append(past, e.told())
		}
	}
	return past
}

// Knows reports whether the town agrees that the customer was in an episode of that kind at that time. A habit has moved for
// eight weeks; then it is the habit.
func (t *Town) Knows(customer, kind string, at time.Time) bool {
	for _, e := range t.Episodes(customer) {
		if e.Kind == kind && e.Holds(at) && (kind != truth.Shift || at.Before(e.From.AddDate(0, 0, settled))) {
			return true
		}
	}
	return false
}

// turn is when a person is next to be looked at. The heap would otherwise look at every person to compare two of them.
type turn struct {
	at     int64
	person *person
}

func (t *turn) before(o *turn) bool {
	return t.at < o.at || t.at == o.at && t.person.index < o.person.index
}

func (t *Town) push(p *person) {
	t.queue = append(t.queue, turn{p.next(), p})
	for i := len(t.queue) - 1; i > 0; {
		up := (i - 1) / 2
		if !t.queue[i].before(&t.queue[up]) {
			return
		}
		t.queue[i], t.queue[up] = t.queue[up], t.queue[i]
		i = up
	}
}

// sink restores the heap after the first in it has moved on in time.
func (t *Town) sink() {
	q, i := t.queue, 0
	q[0].at = q[0].person.next()
	for {
		down := 2*i + 1
		if down >= len(q) {
			return
		}
		if down+1 < len(q) && q[down+1].before(&q[down]) {
			down++
		}
		if !q[down].before(&q[i]) {
			return
		}
		q[i], q[down] = q[down], q[i]
		i = down
	}
}

// random gives each person a generator of their own.
func random(seed, person uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, person*0x9e3779b97f4a7c15+1))
}

// hash is a number of what all people share, such as an issue of a campaign, or of what must not depend on the order in
// which it is asked for (the finalizer of SplitMix64; Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
// OOPSLA 2014).
func hash(parts ...uint64) uint64 {
	var h uint64
	for _, p := range parts {
		h = (h ^ p) + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// share turns a hash into a number from 0 to below 1.
func share(h uint64) float64 { return float64(h>>11) / (1 << 53) }

func number(i int) string {
	s := strconv.Itoa(i)
	for len(s) < 5 {
		s = "0" + s
	}
	return s
}
