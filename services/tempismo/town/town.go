// Package town simulates the mail of a town: campaigns that go out, inboxes that are opened a few times a day and read
// newest first, habits that differ from person to person, machines that open before any human does, and people who for
// two days read everything, fall silent, or come back.
//
// It is mechanistic: nobody in it opens mail "with probability p at hour h", and nothing in it is the model that the
// profiler fits. That makes it a fair opponent. It is also deterministic: the same Config gives the same events, and what
// one customer does depends on nobody else. It is not a load generator, and its numbers are invented: they are of the
// right order of magnitude, no more.
package town

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// Source is the CloudEvents source of the town's events.
const Source = "/tempismo/town"

// Config is what a town is made from.
type Config struct {
	Seed      uint64
	Customers int
	Start     time.Time // the first day that is lived, from its midnight in each customer's zone on
}

// Kinds of episodes.
const (
	Burst   = "burst"   // two days of reading everything, again and again
	Silent  = "silent"  // mail is ignored
	Back    = "back"    // the first mail that is read after a silence
	Shifted = "shifted" // from here on the habit of another persona
)

// Episode is something that happened to a customer and that a good detector notices.
type Episode struct {
	Customer string
	Kind     string
	From, To time.Time // To is zero where it does not end
}

// Town is a stream of events.
type Town struct {
	people   []*person
	queue    []*person // a heap by the time of what each does next
	episodes map[string][]Episode
}

// New founds a town.
func New(c Config) (*Town, error) {
	if c.Customers < 1 {
		return nil, fmt.Errorf("town of %d customers: want at least one", c.Customers)
	}
	zones := make([]*time.Location, len(places))
	for i, p := range places {
		z, err := calendar.Zone(p.zone)
		if err != nil {
			return nil, fmt.Errorf("found the town: %w", err)
		}
		zones[i] = z
	}
	t := &Town{people: make([]*person, c.Customers), queue: make([]*person, 0, c.Customers), episodes: map[string][]Episode{}}
	for i := range t.people {
		p := born(c, i, zones)
		p.tell = func(e Episode) { t.episodes[e.Customer] = append(t.episodes[e.Customer], e) }
		t.people[i] = p
		t.push(p)
	}
	return t, nil
}

// Next fills e with the next event of the town; times never go back. The town never ends.
func (t *Town) Next(e *engagement.Event) {
	for {
		p := t.queue[0]
		if p.ready() {
			p.take(e)
			t.sink()
			return
		}
		p.live()
		t.sink()
	}
}

// Episodes returns what has happened to a customer so far.
func (t *Town) Episodes(customer string) []Episode { return t.episodes[customer] }

// Knows reports whether the town agrees that the customer was in an episode of that kind at that time.
func (t *Town) Knows(customer, kind string, at time.Time) bool {
	for _, e := range t.episodes[customer] {
		if e.Kind == kind && !at.Before(e.From) && (e.To.IsZero() || at.Before(e.To)) {
			return true
		}
	}
	return false
}

func (t *Town) push(p *person) {
	t.queue = append(t.queue, p)
	for i := len(t.queue) - 1; i > 0; {
		up := (i - 1) / 2
		if !t.queue[i].before(t.queue[up]) {
			return
		}
		t.queue[i], t.queue[up] = t.queue[up], t.queue[i]
		i = up
	}
}

// sink restores the heap after the first in it has moved on in time.
func (t *Town) sink() {
	q, i := t.queue, 0
	for {
		down := 2*i + 1
		if down >= len(q) {
			return
		}
		if down+1 < len(q) && q[down+1].before(q[down]) {
			down++
		}
		if !q[down].before(q[i]) {
			return
		}
		q[i], q[down] = q[down], q[i]
		i = down
	}
}

// random gives each person a generator of their own.
func random(seed uint64, person int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(person)*0x9e3779b97f4a7c15+1))
}
