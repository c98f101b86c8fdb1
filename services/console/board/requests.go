package board

import (
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Bounds of what is kept of requests.
const (
	Ahead      = 72      // hours ahead that are told apart
	maxWaiting = 1 << 20 // requests that are counted
	keptWays   = 1 << 13 // requests whose way is kept, the latest
	maxSteps   = 6       // of a way: the first, and the latest
)

// Request is the way of a request, as its decisions tell it.
type Request struct {
	ID, Customer string
	Steps        []Row // oldest first; of their decisions only what a sentence needs is kept
	Left         int   // steps between the first and the second that are no longer kept
	Ended        bool
}

// requests are the requests that wait, by the hour in which they are due, and the ways of the latest ones.
type requests struct {
	waiting map[uint64]due
	hours   map[timing.Hour]int // those that have a slot
	beyond  bool                // some were not counted
	since   time.Time           // of the earliest decision
	ways    map[string]*Request
	order   []string // the keys of ways, a ring
	next    int
}

// due is when a request goes out, in the board's zone.
type due struct {
	hour    timing.Hour
	planned bool // false: no hour is allowed as things are
}

func (q *requests) add(r Row, zone *time.Location) {
	if q.since.IsZero() || r.Time.Before(q.since) {
		q.since = r.Time
	}
	d := r.Decision
	if d.Request == "" {
		return
	}
	if q.waiting == nil {
		q.waiting, q.hours, q.ways = map[uint64]due{}, map[timing.Hour]int{}, map[string]*Request{}
	}
	key := r.Customer + "\x00" + d.Request
	q.count(hash(key), r, zone)
	q.follow(key, r)
}

// count keeps the numbers of what waits.
func (q *requests) count(id uint64, r Row, zone *time.Location) {
	old, waits := q.waiting[id]
	if waits && old.planned {
		if q.hours[old.hour]--; q.hours[old.hour] == 0 {
			delete(q.hours, old.hour)
		}
	}
	if r.Kind != "wait" {
		delete(q.waiting, id)
		return
	}
	if !waits && len(q.waiting) >= maxWaiting {
		q.beyond = true
		return
	}
	hour, _ := calendar.LocalHour(r.Decision.Due, zone)
	q.waiting[id] = due{hour, r.Decision.Slot != nil}
	if r.Decision.Slot != nil {
		q.hours[hour]++
	}
}

// follow keeps the way of the request. A look that changed nothing is no step.
func (q *requests) follow(key string, r Row) {
	w := q.ways[key]
	if w == nil || w.Ended {
		if w == nil {
			q.remember(key)
		}
		w = &Request{ID: r.Decision.Request, Customer: r.Customer}
		q.ways[key] = w
	}
	r.Decision = brief(r.Decision)
	w.Ended = r.Kind != "wait"
	if n := len(w.Steps); n > 0 && !w.Ended && alike(w.Steps[n-1].Decision, r.Decision) {
		w.Steps[n-1].ID = r.ID
		return
	}
	if w.Steps = append(w.Steps, r); len(w.Steps) > maxSteps {
		w.Steps = slices.Delete(w.Steps, 1, 2)
		w.Left++
	}
}

// remember makes room for a way.
func (q *requests) remember(key string) {
	if len(q.order) < keptWays {
		q.order = append(q.order, key)
		return
	}
	delete(q.ways, q.order[q.next])
	q.order[q.next] = key
	q.next = (q.next + 1) % keptWays
}

// brief is a decision without what it was made from, which is most of it.
func brief(d *decision.Decision) *decision.Decision {
	short := *d
	short.Rules, short.Lookup, short.MadeFrom = nil, nil, decision.MadeFrom{}
	return &short
}

// alike reports whether two waits stand for the same plan.
func alike(a, b *decision.Decision) bool {
	return a.Reason == b.Reason && a.Due.Equal(b.Due) && (a.Slot == nil) == (b.Slot == nil) && b.Deviation == ""
}

// Waiting is what waits for its moment.
type Waiting struct {
	Count     int         // requests that wait
	Unplanned int         // those among them for which no hour is allowed as things are
	Hours     [Ahead]int  // due in each of the hours from From on; what is overdue counts in the first
	Later     int         // due after them
	From      timing.Hour // local hour of the board's clock
	Since     time.Time   // of the earliest decision that was read: what was placed before and not decided about since is not counted
	AtLeast   bool        // there are more than can be counted
}

// Waiting counts the requests that wait. A request waits from its first decision on, until the one that ends it.
func (b *Board) Waiting() Waiting {
	q := &b.requests
	now, _ := calendar.LocalHour(b.clock, b.zone)
	w := Waiting{Count: len(q.waiting), Unplanned: len(q.waiting), From: now, Since: q.since, AtLeast: q.beyond}
	for hour, n := range q.hours {
		w.Unplanned -= n
		if i := max(hour-now, 0); i < Ahead {
			w.Hours[i] += n
		} else {
			w.Later += n
		}
	}
	return w
}

// Requests are the ways of a customer's requests: first those that wait, the next one first; then those that have ended, the latest
// first.
func (b *Board) Requests(customer string) []Request {
	var out []Request
	for key, w := range b.requests.ways {
		if strings.HasPrefix(key, customer+"\x00") {
			out = append(out, *w)
		}
	}
	slices.SortFunc(out, func(x, y Request) int {
		p, r := &x.Steps[len(x.Steps)-1], &y.Steps[len(y.Steps)-1]
		switch {
		case x.Ended != y.Ended && y.Ended:
			return -1
		case x.Ended != y.Ended:
			return 1
		case x.Ended:
			return before(*p, *r)
		}
		if c := p.Decision.Due.Compare(r.Decision.Due); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return out
}

// Decision is one of the latest decisions by its id.
func (b *Board) Decision(id string) (Row, bool) {
	for _, g := range b.decisions.recent {
		for _, r := range g.rows {
			if r.ID == id {
				return r, true
			}
		}
	}
	return Row{}, false
}
