package trainer

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Bounds of what a model is fitted on.
const (
	months   = 13            // of history: a year, and a month in which this year's season can be held against last year's
	heldOut  = 0.2           // share of the customers that no model is fitted on, so that every model can be judged by them
	ahead    = time.Minute   // how far an event's time may lie after ours in a live run, as in the profiler
	tooLate  = timing.Memory // hours behind a channel's newest event from which on the profiler counts an event no more
	maxZones = 255           // zones told apart
	quarter  = 15            // minutes: the hours of every zone begin with one
	slack    = 4             // so many-th part of the bound is held beyond it, before the oldest events are dropped
)

// Salts of the hashes by which customers are sampled and held out: one says nothing about the other.
const (
	sampling = "trainer-sample"
	judging  = "trainer-judge"
)

// epoch is where moments count from, Unix seconds: no valid event is older.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()

// Counted says what a sample was made of.
type Counted struct {
	Records    int64     `json:"records"`    // read from the log
	Unreadable int64     `json:"unreadable"` // of these, as far as they were looked at: no event, or one that the profiler sets aside too
	Machine    int64     `json:"machine"`    // engagements that machines made, certainly or probably
	Late       int64     `json:"late"`       // older than what a profile still counts
	Dropped    int64     `json:"dropped"`    // older than the newest that are kept of one customer
	Erased     int64     `json:"erased"`     // of before an erasure, or of customers who have not consented to pixels
	Customers  int       `json:"customers"`
	Events     int       `json:"events"` // deliveries and engagements kept, at most one of each kind in a quarter of an hour
	From       time.Time `json:"from"`   // first of them
	To         time.Time `json:"to"`     // last
}

// sample is the newest events of a bounded number of customers: those whose ids have the smallest hashes among all that the
// log tells of. A customer that is in the sample at the end was so from the beginning, so nothing of theirs is missing,
// and which customers are in it does not depend on the order in which partitions are read.
type sample struct {
	customers, events int            // bounds
	fallback          *time.Location // zone of customers whose events name none
	latest            time.Time      // later events are mistakes; zero: none are
	assumed           bool           // who has not answered may be observed by tracking pixels

	by     map[string]*person
	heap   []*person // the largest hash first
	zones  []*time.Location
	named  map[string]uint8 // place in zones, counted from 1
	counts Counted
	event  engagement.Event // scratch
}

// person is one customer of the sample.
type person struct {
	id       string
	hash     float64
	memory   timing.Profile // no channels: only what tells machines from people, and what was answered
	zone     uint8          // last zone that an event named; 0: none did
	home     uint8          // zone by the customer's attributes; 0: none
	segment  string
	channels []channel
	moments  []moment // in order of time

	machine, late, dropped, erased int64 // see Counted
}

// channel is what is remembered of a channel while the log is read.
type channel struct {
	name string
	head int64 // newest hour, UTC
}

// moment is an event in eight bytes.
type moment struct {
	minute uint32 // since epoch
	age    int16  // see fit.Event
	zone   uint8  // in which it happened; 0: in the customer's
	what   uint8  // place of the channel; delivered is added for a delivery
}

const delivered = 1 << 7

func newSample(f Fitting, zone *time.Location, latest time.Time, assumed bool) *sample {
	return &sample{
		customers: f.Customers, events: f.Events, fallback: zone, latest: latest, assumed: assumed,
		by: map[string]*person{}, named: map[string]uint8{},
	}
}

// add takes one record of the events topic. It counts exactly the events that the profiler counts.
func (s *sample) add(r *stream.Record) {
	s.counts.Records++
	hash := timing.Hash(string(r.Key), 0, sampling)
	if len(s.heap) == s.customers && hash > s.heap[0].hash {
		return // by far the most frequent end where there are many customers
	}
	e := &s.event
	if err := e.Parse(r.Value); err != nil || e.Subject != string(r.Key) {
		s.counts.Unreadable++
		return
	}
	if e.Kind != engagement.Delivered && !e.Kind.Engaged() {
		return
	}
	zone, ok := s.zone(e.Zone)
	if !ok || !s.latest.IsZero() && e.Time.After(s.latest.Add(ahead)) {
		s.counts.Unreadable++
		return
	}
	c := s.customer(e.Subject, hash)
	if c == nil {
		return
	}
	i := slices.IndexFunc(c.channels, func(ch channel) bool { return ch.name == e.Channel })
	if i < 0 && len(c.channels) == timing.MaxChannels {
		s.counts.Unreadable++
		return
	}
	age := int16(fit.UnknownAge)
	if e.Kind.Engaged() {
		a := c.memory.Answered(e)
		if a.Actor != engagement.Human {
			c.machine++
			return
		}
		if a.Known && a.Seconds >= 0 {
			age = int16(min(a.Seconds/3600, 1<<15-1))
		}
	}
	hour := e.Time.Unix() / 3600
	if i < 0 {
		i = len(c.channels)
		c.channels = append(c.channels, channel{strings.Clone(e.Channel), hour})
	} else if hour <= c.channels[i].head-tooLate {
		c.late++
		return
	}
	ch := &c.channels[i]
	if zone != 0 && !c.dated(hour) {
		c.zone = zone
	}
	if zone == 0 {
		zone = c.zone
	}
	ch.head = max(ch.head, hour)
	m := moment{minute: uint32((e.Time.Unix() - epoch) / 60), age: age, zone: zone, what: uint8(i)}
	if e.Kind == engagement.Delivered {
		c.memory.Sent(e)
		m.what |= delivered
	}
	c.note(m)
	if over := len(c.moments) - s.events; over > s.events/slack {
		s.drop(c)
	}
}

// know takes one record of the attributes topic, after all events. Zones that events name go before what is known of the
// customer.
func (s *sample) know(r *stream.Record) {
	c := s.by[string(r.Key)]
	if c == nil {
		return
	}
	var a customer.Attributes
	if len(r.Value) > 0 { // otherwise nothing is known of them any more
		e, err := stream.ParseEvent(r.Value)
		if err == nil {
			err = a.Parse(e.Data)
		}
		if err != nil {
			s.counts.Unreadable++
			return
		}
	}
	c.segment, c.home = a.Segment, 0
	if home, ok := s.zone(a.Zone); ok {
		c.home = home
	}
	c.memory.Told = answerOf(a.Consents.Pixel)
}

// hear takes one record of the consents topic, after all events.
func (s *sample) hear(r *stream.Record) {
	c := s.by[string(r.Key)]
	if c == nil {
		return
	}
	var a customer.Answer
	e, err := stream.ParseEvent(r.Value)
	if err == nil {
		err = a.Parse(e.Data)
	}
	if err != nil {
		s.counts.Unreadable++
	} else if a.Pixel != nil {
		c.memory.Say(answerOf(a.Pixel))
	}
}

func answerOf(c *customer.Consent) timing.Pixel {
	if c == nil {
		return timing.Pixel{}
	}
	return timing.Pixel{At: max(1, timing.Millis(c.At)), Granted: c.Granted}
}

// forget takes one record of the erasures topic, after all events.
func (s *sample) forget(r *stream.Record) {
	c := s.by[string(r.Key)]
	if c == nil {
		return
	}
	var x customer.Erasure
	e, err := stream.ParseEvent(r.Value)
	if err == nil {
		err = x.Parse(e.Data)
	}
	if err != nil {
		s.counts.Unreadable++
		return
	}
	if x.All() {
		c.memory.EraseAll(x.Before)
	}
	c.eraseBefore(x.Before)
}

// eraseBefore leaves out what is of before an instant.
func (c *person) eraseBefore(at time.Time) {
	n, _ := slices.BinarySearchFunc(c.moments, at, func(m moment, at time.Time) int { return instant(m.minute).Compare(at) })
	c.erase(n)
}

// erase leaves out the oldest moments, whatever their kind, as the profiler does.
func (c *person) erase(n int) {
	c.erased += int64(n)
	c.moments = slices.Delete(c.moments, 0, n)
}

// dated reports whether something later than hour is known of the customer.
func (c *person) dated(hour int64) bool {
	return slices.ContainsFunc(c.channels, func(ch channel) bool { return ch.head > hour })
}

// note inserts a moment in order of time. One that repeats what is there within a quarter of an hour, and so within an hour of
// every zone, adds nothing but an earlier minute.
func (c *person) note(m moment) {
	i := len(c.moments)
	for ; i > 0 && (c.moments[i-1].minute > m.minute || c.moments[i-1].minute == m.minute && c.moments[i-1].what > m.what); i-- {
	}
	near := func(j int) bool {
		return j >= 0 && j < len(c.moments) && c.moments[j].minute/quarter == m.minute/quarter
	}
	for j := i - 1; near(j); j-- {
		if c.moments[j].what == m.what {
			return // the earlier one stands for both
		}
	}
	for j := i; near(j); j++ {
		if c.moments[j].what == m.what {
			c.moments = slices.Delete(c.moments, j, j+1)
			break
		}
	}
	c.moments = slices.Insert(c.moments, i, m)
}

// drop forgets the oldest moments of c beyond the bound.
func (s *sample) drop(c *person) {
	if over := len(c.moments) - s.events; over > 0 {
		c.dropped += int64(over)
		c.moments = c.moments[:copy(c.moments, c.moments[over:])]
	}
}

// zone is the place of a zone among those that were met; false if there is no such zone.
func (s *sample) zone(name string) (uint8, bool) {
	if name == "" {
		return 0, true
	}
	if i, ok := s.named[name]; ok {
		return i, true
	}
	loc, err := calendar.Zone(name)
	if err != nil {
		return 0, false
	}
	if len(s.zones) == maxZones { // more than there are in the world's mail: the customer's own stands in
		return 0, true
	}
	s.zones = append(s.zones, loc)
	i := uint8(len(s.zones))
	s.named[strings.Clone(name)] = i
	return i, true
}

// customer returns the customer of that id, who takes the place of the one with the largest hash where the sample is full.
func (s *sample) customer(id string, hash float64) *person {
	if c := s.by[id]; c != nil {
		return c
	}
	c := &person{id: strings.Clone(id), hash: hash}
	if len(s.heap) == s.customers {
		last := s.heap[0]
		if !c.before(last) {
			return nil
		}
		delete(s.by, last.id)
		s.heap[0] = c
		heap.Fix((*largest)(&s.heap), 0)
	} else {
		heap.Push((*largest)(&s.heap), c)
	}
	s.by[c.id] = c
	return c
}

func (c *person) before(o *person) bool {
	return cmp.Or(cmp.Compare(c.hash, o.hash), cmp.Compare(c.id, o.id)) < 0
}

// largest is a heap of customers with the largest hash at its root.
type largest []*person

func (l largest) Len() int           { return len(l) }
func (l largest) Less(i, j int) bool { return l[j].before(l[i]) }
func (l largest) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *largest) Push(x any)        { *l = append(*l, x.(*person)) }

func (l *largest) Pop() any {
	old := *l
	c := old[len(old)-1]
	*l = old[:len(old)-1]
	return c
}

// histories turns the sample into what models are fitted on and what they are judged by, and is the end of it. Which of
// both a customer belongs to is the same for every model, so that none is judged by customers that it has seen.
func (s *sample) histories() (learn, judge []fit.History, counts Counted) {
	customers := slices.SortedFunc(slices.Values(s.heap), func(a, b *person) int { return cmp.Compare(a.id, b.id) })
	newest := uint32(0)
	for _, c := range customers {
		// Mail whose opens nobody may see would look ignored.
		if pixel := c.memory.Pixel(); pixel.At == 0 && !s.assumed || pixel.At != 0 && !pixel.Granted {
			c.erase(len(c.moments))
		} else if !s.assumed {
			c.eraseBefore(time.UnixMilli(pixel.At))
		}
		s.drop(c)
		if n := len(c.moments); n > 0 {
			newest = max(newest, c.moments[n-1].minute)
		}
	}
	oldest := uint32(max(0, instant(newest).AddDate(0, -months, 0).Unix()-epoch) / 60)
	first := newest
	for _, c := range customers {
		from, _ := slices.BinarySearchFunc(c.moments, oldest, func(m moment, at uint32) int { return cmp.Compare(m.minute, at) })
		c.moments = c.moments[from:]
		s.counts.Erased += c.erased
		if len(c.moments) == 0 {
			continue
		}
		first = min(first, c.moments[0].minute)
		s.counts.Customers++
		s.counts.Machine += c.machine
		s.counts.Late += c.late
		s.counts.Dropped += c.dropped
		s.counts.Events += len(c.moments)
		to := &learn
		if timing.Hash(c.id, 0, judging) < heldOut {
			to = &judge
		}
		for i := range c.channels {
			if h := s.history(c, uint8(i)); len(h.Events) > 0 {
				*to = append(*to, h)
			}
		}
		c.moments = nil
	}
	if s.counts.Events > 0 {
		s.counts.From, s.counts.To = instant(first), instant(newest)
	}
	counts = s.counts
	*s = sample{}
	return learn, judge, counts
}

func instant(minute uint32) time.Time { return time.Unix(epoch+int64(minute)*60, 0).UTC() }

// history is one channel of a customer on the customer's own clock: at most one delivery and one engagement in an hour.
func (s *sample) history(c *person, ch uint8) fit.History {
	h := fit.History{Customer: c.id, Segment: c.segment}
	for _, m := range c.moments {
		if m.what&^delivered != ch {
			continue
		}
		zone := s.fallback
		if i := cmp.Or(m.zone, c.zone, c.home); i != 0 {
			zone = s.zones[i-1]
		}
		hour, minute := calendar.LocalHour(instant(m.minute), zone)
		e := fit.Event{Hour: hour, Minute: uint8(minute), Age: m.age, Delivered: m.what&delivered != 0}
		if e.Delivered {
			e.Minute, e.Age = 0, 0
		}
		h.Events = append(h.Events, e)
	}
	// Clocks are put back, and people travel: local time need not have gone forward. A delivery goes before the engagements
	// of its hour.
	slices.SortStableFunc(h.Events, func(a, b fit.Event) int {
		if order := cmp.Compare(a.Hour, b.Hour); order != 0 || a.Delivered == b.Delivered {
			return cmp.Or(order, cmp.Compare(a.Minute, b.Minute))
		}
		if a.Delivered {
			return -1
		}
		return 1
	})
	h.Events = slices.CompactFunc(h.Events, func(a, b fit.Event) bool { return a.Hour == b.Hour && a.Delivered == b.Delivered })
	return h
}
