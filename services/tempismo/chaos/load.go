package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// LoadConfig says what a Load writes.
type LoadConfig struct {
	Kafka     kafka.Config
	Run       stream.Run
	Seed      uint64
	Customers int           // who have a history; 0: 384
	Rate      int           // events a second to begin with; 0: 500
	Gap       time.Duration // least time between two sends to a customer, by the policy
	Ingest    func() string // address (http://host:port) of an ingest to send a share of the events to; nil, or empty: none
}

// Acked is what was acknowledged, and must not be lost.
type Acked struct {
	Topic    string // declared name
	ID       string // of the event or the request
	Customer string
	Time     time.Time // of the event
	At       time.Time // of the acknowledgement
	Kind     string    // of an engagement
	Deadline time.Time // of a request
}

// Load writes what happens to the customers of a round: their history, then engagements, requests and unusual days at a
// steady rate. What was acknowledged stands in its ledger.
type Load struct {
	config LoadConfig
	log    *kafka.Log
	writer *kafka.Writer
	zone   string
	rate   atomic.Int64
	shape  atomic.Pointer[Shape]

	// Of the goroutine that makes the load up.
	random *rand.Rand
	serial int // names what is made up
	bursts int // customers who have had an unusual day
	order  []int

	stop   context.CancelFunc
	pump   sync.WaitGroup
	flying sync.WaitGroup
	room   chan struct{}

	mu     sync.Mutex
	ledger []Acked
}

// Shape is how the live load differs from the ordinary. The zero Shape is the ordinary load.
type Shape struct {
	Hot        float64       // share of all events that one customer has
	Distinct   float64       // share of events of customers never seen before
	Duplicates float64       // share of events that are written twice
	Reorder    time.Duration // events are written with times up to so long ago, in any order
	Late       float64       // share of events older than a profile remembers
	DST        bool          // some events around the changes of daylight saving time, and in a leap second
}

const (
	historyDays   = 40
	perBurst      = 300 * time.Millisecond // a customer has an unusual day
	perRequest    = 200 * time.Millisecond // a message is to wait for its moment
	shortest      = 12 * time.Second       // wait for its deadline
	longest       = 35 * time.Second
	mostInFlight  = 64 // writes that wait for their acknowledgement
	viaIngest     = 0.3
	heartbeatLoad = 20 * time.Millisecond
)

// NewLoad connects, and writes nothing.
func NewLoad(ctx context.Context, c LoadConfig) (*Load, error) {
	if c.Customers == 0 {
		c.Customers = 384
	}
	if c.Rate == 0 {
		c.Rate = 500
	}
	l := &Load{
		config: c, zone: aroundNoon(time.Now().UTC()), random: rand.New(rand.NewPCG(c.Seed, 2)),
		room: make(chan struct{}, mostInFlight), stop: func() {},
	}
	l.rate.Store(int64(c.Rate))
	l.shape.Store(&Shape{})
	l.order = l.random.Perm(c.Customers)
	var err error
	if l.log, err = kafka.Open(ctx, c.Kafka); err != nil {
		return nil, err
	}
	if l.writer, err = kafka.NewWriter(ctx, l.log, c.Run); err != nil {
		return nil, errors.Join(err, l.log.Close())
	}
	return l, nil
}

// aroundNoon names a zone of whole hours in which it is about noon now: an unusual day fits into a local day at any hour at
// which a round runs.
func aroundNoon(now time.Time) string {
	switch offset := 12 - now.Hour(); {
	case offset > 0:
		return fmt.Sprintf("Etc/GMT-%d", offset) // POSIX: west is positive
	case offset < 0:
		return fmt.Sprintf("Etc/GMT+%d", -offset)
	}
	return "Etc/GMT"
}

// name of the i-th customer with a history.
func name(i int) string { return fmt.Sprintf("c-%04d", i) }

// item is one record to be written.
type item struct {
	acked Acked
	value []byte
}

func (l *Load) event(kind, id, who, zone, message string, at time.Time) item {
	v := fmt.Appendf(nil, `{"specversion":"1.0","id":%q,"source":"/chaos","type":"io.tempismo.engagement.v1","subject":%q,"time":%q,"data":{"kind":%q,"channel":"email","message":%q,"zone":%q}}`,
		id, who, at.UTC().Format(time.RFC3339), kind, message, zone)
	return item{Acked{Topic: topics.Events, ID: id, Customer: who, Time: at.UTC().Truncate(time.Second), Kind: kind}, v}
}

// Preload writes the policy, what is known of the customers and their history, with record times in the past. It comes
// before the services start.
func (l *Load) Preload(ctx context.Context) error {
	hour := time.Now().UTC().Truncate(time.Hour)
	first := hour.AddDate(0, 0, -historyDays-2)
	if err := l.ApplyPolicy(ctx, "chaos.1", first); err != nil {
		return err
	}
	var known []stream.Message
	for i := range l.config.Customers {
		if i%2 == 0 {
			continue // of the others only what events say is known
		}
		e := stream.Event{
			ID: "k-" + name(i), Source: "/chaos", Type: customer.Type, Subject: name(i), Time: first,
			Data: fmt.Appendf(nil, `{"zone":%q,"segment":%q,"channels":["email"],"consents":{"mailing":{"granted":true,"at":%q}}}`, l.zone, []string{"premium", "plain"}[i/2%2], first.Format(time.RFC3339)),
		}
		known = append(known, stream.Message{Key: []byte(name(i)), Value: e.Append(nil), Time: first})
	}
	if err := l.writer.WriteAll(ctx, topics.Attributes, known); err != nil {
		return err
	}
	// Everybody gets mail in the hour before this one, and reads it in this hour or in one of the two that follow.
	for day := historyDays; day >= 1; day-- {
		var items []item
		for i := range l.config.Customers {
			at := hour.Add(30*time.Minute).AddDate(0, 0, -day).Add(time.Duration(i%60) * 10 * time.Second)
			message := fmt.Sprintf("h%d-%d", day, i)
			items = append(items, l.event("delivered", "d"+message, name(i), l.zone, message, at.Add(-time.Hour)))
			items = append(items, l.event("open", "o"+message, name(i), l.zone, message, at.Add([]time.Duration{0, 0, time.Hour, 2 * time.Hour}[(day+i)%4])))
		}
		slices.SortStableFunc(items, func(a, b item) int { return a.acked.Time.Compare(b.acked.Time) })
		if err := l.write(ctx, topics.Events, items, true); err != nil {
			return err
		}
		l.note(items)
	}
	return nil
}

// ApplyPolicy puts a policy in force in which every hour is open, no day is closed and nothing is capped but by the gap, and a tenth of the
// customers is held out. at is the time of the record; zero: now.
func (l *Load) ApplyPolicy(ctx context.Context, version string, at time.Time) error {
	p := decision.Default()
	p.Version, p.Zone, p.Quiet, p.Lead, p.Closed = version, "UTC", calendar.Window{}, nil, calendar.None
	p.CapPerDay, p.CapPerWeek, p.Gap, p.Collision, p.Overlap = 0, 0, decision.Duration(l.config.Gap), 0, 1
	p.Experiment.Holdout = .1
	for name, c := range p.Channels {
		c.Windows, c.Prime = []calendar.Opening{{Window: calendar.Window{To: 24 * 60}}}, nil
		c.CapPerDay, c.CapPerWeek, c.Gap = 0, 0, 0
		c.Expiry = decision.Duration(8 * time.Hour) // the hour that makes a day unusual may be one of those before
		p.Channels[name] = c
	}
	when := at
	if when.IsZero() {
		when = time.Now()
	}
	e := stream.Event{ID: "pl-" + version, Source: "/chaos", Type: decision.PolicyType, Time: when, Data: p.Append(nil)}
	return l.writer.Broadcast(ctx, topics.Policies, e.Append(nil), at)
}

// write appends items to Kafka. past: the records are as old as the events.
func (l *Load) write(ctx context.Context, topic string, items []item, past bool) error {
	msgs := make([]stream.Message, len(items))
	for i := range items {
		msgs[i] = stream.Message{Key: []byte(items[i].acked.Customer), Value: items[i].value}
		if past {
			msgs[i].Time = items[i].acked.Time
		}
	}
	return l.writer.WriteAll(ctx, topic, msgs)
}

func (l *Load) note(items []item) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range items {
		if a := items[i].acked; a.ID != "" {
			a.At = now
			l.ledger = append(l.ledger, a)
		}
	}
}

// Start begins the live load; it goes on until Stop. What fails is tried again under the same id.
func (l *Load) Start(ctx context.Context) {
	pumping, stop := context.WithCancel(ctx)
	l.stop = stop
	l.pump.Go(func() {
		tick := time.NewTicker(heartbeatLoad)
		defer tick.Stop()
		last := time.Now()
		var events, bursts, requests float64
		for {
			select {
			case <-tick.C:
			case <-pumping.Done():
				return
			}
			now := time.Now()
			passed := min(now.Sub(last), time.Second) // what could not be written meanwhile is not made up for
			last = now
			events += passed.Seconds() * float64(l.rate.Load())
			bursts += passed.Seconds() / perBurst.Seconds()
			requests += passed.Seconds() / perRequest.Seconds()
			var batch []item
			for ; events >= 1; events-- {
				batch = append(batch, l.ordinary(now)...)
			}
			l.send(ctx, topics.Events, batch)
			for ; bursts >= 1; bursts-- {
				l.send(ctx, topics.Events, l.burst(now))
			}
			for ; requests >= 1; requests-- {
				l.send(ctx, topics.Requests, l.request(now))
			}
		}
	})
}

// Stop ends the live load and returns when everything under way is acknowledged, or ctx of Start has ended.
func (l *Load) Stop() {
	l.stop()
	l.pump.Wait()
	l.flying.Wait()
}

// send writes items until they are acknowledged; it waits only where too many wait already.
func (l *Load) send(ctx context.Context, topic string, items []item) {
	if len(items) == 0 {
		return
	}
	ingest := l.random.Float64() < viaIngest && !slices.ContainsFunc(items, func(i item) bool { return i.acked.ID == "" })
	select {
	case l.room <- struct{}{}:
	case <-ctx.Done():
		return
	}
	l.flying.Go(func() {
		defer func() { <-l.room }()
		for {
			var err error
			if url := l.ingest(); ingest && url != "" {
				err = post(ctx, url, topic, items)
			} else {
				err = l.write(ctx, topic, items, false)
			}
			if err == nil {
				l.note(items)
				return
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	})
}

func (l *Load) ingest() string {
	if l.config.Ingest == nil {
		return ""
	}
	return l.config.Ingest()
}

func (l *Load) name(prefix string) string {
	l.serial++
	return prefix + strconv.Itoa(l.serial)
}

// ordinary makes up an event, or an event and its double.
func (l *Load) ordinary(now time.Time) []item {
	shape := l.shape.Load()
	who, zone, id := name(l.random.IntN(l.config.Customers)), l.zone, l.name("e")
	at := now.Add(-time.Duration(l.random.Int64N(int64(2 * time.Minute))))
	kind := "open"
	switch p := l.random.Float64(); {
	case p < .5:
		kind = "delivered"
	case p < .6:
		kind = "click"
	}
	switch p := l.random.Float64(); {
	case p < shape.Hot:
		who = name(0)
	case p < shape.Hot+shape.Distinct:
		who = "n-" + id
	}
	switch p := l.random.Float64(); {
	case p < shape.Late:
		at = at.AddDate(0, 0, -120)
	case shape.Reorder > 0:
		at = now.Add(-time.Duration(l.random.Int64N(int64(shape.Reorder))))
	case shape.DST && p < .3:
		return []item{l.clockChange(id, kind)}
	}
	x := l.event(kind, id, who, zone, "m-"+id, at)
	if l.random.Float64() < shape.Duplicates {
		return []item{x, x}
	}
	return []item{x}
}

// clockChange makes up an event around a change of the clocks, or in a leap second.
func (l *Load) clockChange(id, kind string) item {
	changes := [...]time.Time{time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)}
	n := l.random.IntN(len(changes))
	at := changes[n].Add(time.Duration(l.random.Int64N(int64(12*time.Hour))) - 6*time.Hour)
	x := l.event(kind, id, fmt.Sprintf("dst-%d-%d", n, l.random.IntN(32)), "Europe/Rome", "m-"+id, at)
	if l.random.IntN(20) == 0 {
		leap := l.event(kind, id, x.acked.Customer, "Europe/Rome", "m-"+id, time.Date(2016, 12, 31, 23, 59, 59, 0, time.UTC))
		leap.value = []byte(strings.Replace(string(leap.value), "23:59:59Z", "23:59:60Z", 1))
		leap.acked.ID = "" // it may be refused
		return leap
	}
	return x
}

// burst makes up an unusual day: somebody has read in the six hours before this one, too, and we learn of it now. The sixth
// or the seventh hour may move a send.
func (l *Load) burst(now time.Time) []item {
	who := name(l.order[l.bursts%len(l.order)])
	l.bursts++
	var items []item
	for back := 6; back >= 0; back-- {
		id := l.name("b")
		items = append(items, l.event("open", id, who, l.zone, "m-"+id, now.Add(-time.Duration(back)*time.Hour)))
	}
	return items
}

// request makes up a message that waits for its moment, sometimes one that an unusual day may hasten, and sometimes one that
// is taken back at once.
func (l *Load) request(now time.Time) []item {
	who, hasten := name(l.random.IntN(l.config.Customers)), l.random.IntN(2) == 0
	if hasten {
		who = name(l.order[(l.bursts+l.random.IntN(20))%len(l.order)])
	}
	id := l.name("r")
	deadline := now.Add(shortest + time.Duration(l.random.Int64N(int64(longest-shortest)))).UTC().Truncate(time.Second)
	record := func(data string) item {
		e := stream.Event{ID: id, Source: "/chaos", Type: decision.RequestType, Subject: who, Time: now.UTC(), Data: []byte(data)}
		return item{Acked{Topic: topics.Requests, ID: id, Customer: who, Time: now, Deadline: deadline}, e.Append(nil)}
	}
	waits := ""
	if !hasten { // the others may go out at once: every hour is as good
		waits = fmt.Sprintf(`,"not_before":%q`, now.Add(time.Duration(l.random.Int64N(int64(shortest-time.Second)))).UTC().Format(time.RFC3339))
	}
	items := []item{record(fmt.Sprintf(`{"action":"place","channel":"email","message":"m-%s"%s,"deadline":%q,"on_deviation":%t}`, id, waits, deadline.Format(time.RFC3339), hasten))}
	if l.random.IntN(20) == 0 {
		cancel := record(`{"action":"cancel"}`)
		cancel.acked.ID = "" // the request ends once all the same
		items = append(items, cancel)
	}
	return items
}

// SetRate changes the events a second.
func (l *Load) SetRate(perSecond int) { l.rate.Store(int64(perSecond)) }

// SetShape changes the load from now on.
func (l *Load) SetShape(s Shape) { l.shape.Store(&s) }

// Acked counts what was acknowledged so far.
func (l *Load) Acked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ledger)
}

// Ledger is everything that was acknowledged so far.
func (l *Load) Ledger() []Acked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ledger)
}

// Close gives up what is under way.
func (l *Load) Close() error {
	l.stop()
	return errors.Join(l.writer.Close(), l.log.Close())
}
