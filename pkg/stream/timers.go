package stream

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// alarm is one pending timer of a state. Due times are Unix milliseconds throughout the runtime; 0 is none.
type alarm struct {
	id  string
	due int64
}

// millis rounds up: a timer never fires early.
func millis(due time.Time) int64 {
	if due.IsZero() {
		return 0
	}
	return due.Add(time.Millisecond - 1).UnixMilli()
}

// timer is when the timer id of the entry is due.
func (e *entry[S]) timer(id string) (due int64) {
	i, ok := slices.BinarySearchFunc(e.timers, id, func(a alarm, id string) int { return cmp.Compare(a.id, id) })
	if !ok {
		return 0
	}
	return e.timers[i].due
}

// list fills s.pending with the timers of a state, by id.
func (s *stepper[I, S, P]) list(st *S) {
	s.pending = s.pending[:0]
	s.job.Timers.Pending(st, func(id string, due time.Time) {
		if !due.IsZero() {
			s.pending = append(s.pending, alarm{id, millis(due)})
		}
	})
	slices.SortFunc(s.pending, func(a, b alarm) int { return cmp.Compare(a.id, b.id) })
}

// arm notes the timers of an entry that was loaded.
func (s *stepper[I, S, P]) arm(e *entry[S]) {
	if s.job.Timers != nil {
		s.list(&e.state)
		e.timers = slices.Clone(s.pending)
	}
}

// rearm finds out which timers of an entry have changed.
func (s *stepper[I, S, P]) rearm(e *entry[S]) {
	s.list(&e.state)
	before, now := e.timers, s.pending
	for len(before) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(before) > 0 && before[0].id < now[0].id:
			s.change(e.key, before[0].id, 0)
			before = before[1:]
		case len(before) == 0 || now[0].id < before[0].id:
			s.change(e.key, now[0].id, now[0].due)
			now = now[1:]
		default:
			if before[0].due != now[0].due {
				s.change(e.key, now[0].id, now[0].due)
			}
			before, now = before[1:], now[1:]
		}
	}
	e.timers = append(e.timers[:0], s.pending...)
}

// change notes that a timer is due at another time, or (0) no longer.
func (s *stepper[I, S, P]) change(key, id string, due int64) {
	s.rearmed.set(key, id, due)
	if s.alarms != nil {
		s.alarms.set(key, id, due)
	}
}

// tick fires the timer that a tick names, or drops the tick.
func (s *stepper[I, S, P]) tick(in *inputInfo, r *Record, e *entry[S]) (touched bool, stage string, err error) {
	t, err := parseTick(r.Value)
	if err != nil {
		return false, "decode", Permanent(err)
	}
	c := &s.ctx
	switch {
	case t.Timer == "" && c.run.Simulated:
		s.horizon = horizon{max(s.horizon.until, millis(t.Due)), max(s.horizon.written, r.Time.UnixMilli())}
		return false, "", nil
	case len(r.Key) == 0:
		return false, "key", errNoKey
	case string(header(r, "source")) != in.source: // of another run
		s.stale++
		return false, "", nil
	}
	due := millis(t.Due)
	if at := e.timer(t.Timer); at != due {
		s.change(e.key, t.Timer, at) // should the index have gone astray, this puts it right
		s.stale++
		return false, "", nil
	}
	if c.run.Simulated && s.alarms != nil && s.alarms.overtaken(e.key, t.Timer, due) {
		s.stale++ // something is to fire before it; it gets another tick
		return false, "", nil
	}
	at := time.UnixMilli(due).UTC()
	c.cause = Cause{ID: tickID(e.key, t.Timer, due), Time: at}
	s.advance(r)
	if at.After(c.now) {
		c.now = at
	}
	if s.job.Lookup != nil {
		c.lookup = s.lookup(r, &e.state, nil)
	}
	if err := s.job.Timers.Fire(c, &e.state, &s.p, t.Timer, at); err != nil {
		return false, "fire", errors.New(err.Error()) // even a Permanent one: the timer would stay
	}
	s.fired++
	if !c.run.Simulated {
		s.late = max(s.late, c.published.Sub(at))
	}
	s.rearm(e)
	if e.timer(t.Timer) == due {
		return false, "fire", fmt.Errorf("timer %q is still pending with the due time %s at which it fired", t.Timer, at.Format(time.RFC3339Nano))
	}
	return true, "fire", nil
}

func header(r *Record, key string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value
		}
	}
	return nil
}

// horizon is what the clock ticks of a simulated run have said: everything up to a time is published. It holds for what
// was written after it.
type horizon struct {
	until   int64 // event time, Unix ms
	written int64 // record time of the clock tick, Unix ms
}

// limit is the time up to which, in a simulated run, timers must have fired before a record is taken: where the clock will
// stand with it. A record that does not move the clock cannot tell, but a clock tick before it can.
func (s *stepper[I, S, P]) limit(i int, r *Record) int64 {
	in := &s.inputs[i]
	limit := s.ctx.now.UnixMilli()
	if s.horizon.written < r.Time.UnixMilli() && in.broadcast {
		return max(limit, s.horizon.until)
	}
	if _, fresh := in.fresh(r); !fresh || in.broadcast {
		return limit
	}
	cause, _, err := s.decode(in, r)
	if err != nil {
		return limit
	}
	return max(limit, cause.Time.UnixMilli())
}

// TickType is the CloudEvents type of ticks.
const TickType = "io.tempismo.tick.v1"

// tickData is the data of a tick.
type tickData struct {
	Timer string           `json:"timer"` // empty: of no timer, a clock tick
	Due   time.Time        `json:"due"`
	After map[string]int64 `json:"after,omitempty"` // positions of the inputs at which the timer stood in committed state
}

func parseTick(b []byte) (t tickData, err error) {
	e, err := ParseEvent(b)
	if err != nil {
		return t, err
	}
	if e.Type != TickType {
		return t, fmt.Errorf("type: %q is not %s", e.Type, TickType)
	}
	if err := json.Unmarshal(e.Data, &t); err != nil {
		return t, fmt.Errorf("data: %w", err)
	}
	if t.Due.IsZero() {
		return t, errors.New("data.due: missing")
	}
	return t, nil
}

// tickID names the firing of one timer: the same however often a tick is appended for it.
func tickID(key, id string, due int64) string {
	b := append(append([]byte(key), 0), id...)
	b = strconv.AppendInt(append(b, 0), due, 10)
	sum := sha256.Sum256(b)
	return "tk-" + hex.EncodeToString(sum[:12])
}

// makeTicks makes the ticks of timers that are due in state committed at positions. A header repeats the positions of the
// other inputs, so that a tick can wait for them without being parsed.
func makeTicks(in *inputInfo, timers []Timer, positions map[string]int64) []Message {
	after := maps.Clone(positions)
	delete(after, in.topic)
	position := formatPositions(after)
	messages := make([]Message, 0, len(timers))
	for _, t := range timers {
		data, err := json.Marshal(tickData{Timer: t.ID, Due: t.Due, After: after})
		if err != nil {
			panic(err) // strings, times of this era and integers
		}
		e := Event{ID: tickID(t.Key, t.ID, t.Due.UnixMilli()), Source: in.source, Type: TickType, Subject: t.Key, Time: t.Due, Data: data}
		messages = append(messages, Message{
			Key: []byte(t.Key), Value: e.Append(nil),
			Headers: []Header{{"content-type", []byte(contentType)}, {"source", []byte(in.source)}, {"after", position}},
		})
	}
	return messages
}

// ClockTick makes a record that the driver of a simulated run writes into every partition of a tick log, after everything
// with an event time up to until has been written: it lets what is due by then fire, although no record comes that moves
// the clock. In a live run it has no effect.
func ClockTick(run Run, until time.Time) Message {
	source := "/tempismo/clock/" + run.ID
	data, err := json.Marshal(tickData{Due: until.UTC()})
	if err != nil {
		panic(err) // it is a time of this era
	}
	e := Event{ID: "ck-" + strconv.FormatInt(until.UnixMilli(), 10), Source: source, Type: TickType, Time: until, Data: data}
	return Message{Value: e.Append(nil), Headers: []Header{{"content-type", []byte(contentType)}, {"source", []byte(source)}}}
}

// timerName is a timer among all of a partition.
type timerName struct{ key, id string }

// changes are the timers that changed since the last commit, each once.
type changes struct {
	index map[timerName]int
	list  []Timer
}

func (c *changes) set(key, id string, due int64) {
	t := Timer{Key: key, ID: id}
	if due != 0 {
		t.Due = time.UnixMilli(due).UTC()
	}
	name := timerName{key, id}
	if i, ok := c.index[name]; ok {
		c.list[i] = t
		return
	}
	if c.index == nil {
		c.index = map[timerName]int{}
	}
	c.index[name] = len(c.list)
	c.list = append(c.list, t)
}

func (c *changes) reset() {
	clear(c.index)
	clear(c.list)
	c.list = c.list[:0]
}

// agenda holds all pending timers of a partition in the order in which they fire: due time, key, id. It is a heap that may
// hold timers which have changed since; the map knows.
type agenda struct {
	due   map[timerName]int64
	queue slots
}

type slot struct {
	due int64
	timerName
}

type slots []slot

func (q slots) Len() int           { return len(q) }
func (q slots) Less(i, j int) bool { return q[i].before(q[j]) }
func (q slots) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *slots) Push(x any)        { *q = append(*q, x.(slot)) } //nolint:forcetypeassert // only agenda pushes
func (q *slots) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = slot{}
	*q = (*q)[:len(*q)-1]
	return last
}

func (a slot) before(b slot) bool {
	return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.key, b.key), cmp.Compare(a.id, b.id)) < 0
}

func newAgenda() *agenda { return &agenda{due: map[timerName]int64{}} }

func (a *agenda) set(key, id string, due int64) {
	name := timerName{key, id}
	switch {
	case due == 0:
		delete(a.due, name)
		return
	case a.due[name] == due:
		return
	}
	a.due[name] = due
	heap.Push(&a.queue, slot{due, name})
	if len(a.queue) > 2*len(a.due)+64 { // mostly what has changed since
		a.queue = slices.DeleteFunc(a.queue, func(x slot) bool { return a.due[x.timerName] != x.due })
		heap.Init(&a.queue)
	}
}

// first is the timer that fires next; due 0: none is pending.
func (a *agenda) first() (next slot) {
	for len(a.queue) > 0 {
		if x := a.queue[0]; a.due[x.timerName] == x.due {
			return x
		}
		heap.Pop(&a.queue)
	}
	return slot{}
}

// overtaken reports whether another timer fires before this one.
func (a *agenda) overtaken(key, id string, due int64) bool {
	first := a.first()
	return first.due != 0 && first.before(slot{due, timerName{key, id}})
}

// take returns the timers that are due at until, at most limit, in order, and leaves them pending.
func (a *agenda) take(until int64, limit int) []Timer {
	var taken []slot
	for len(taken) < limit {
		x := a.first()
		if x.due == 0 || x.due > until {
			break
		}
		heap.Pop(&a.queue)
		if n := len(taken); n == 0 || taken[n-1] != x { // set to another time and back, it is queued twice
			taken = append(taken, x)
		}
	}
	timers := make([]Timer, len(taken))
	for i, x := range taken {
		heap.Push(&a.queue, x)
		timers[i] = Timer{x.key, x.id, time.UnixMilli(x.due).UTC()}
	}
	return timers
}

// formatPositions writes offsets by topic as "topic=offset", sorted, separated by spaces.
func formatPositions(at map[string]int64) []byte {
	var b []byte
	for _, topic := range slices.Sorted(maps.Keys(at)) {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, topic...), '=')
		b = strconv.AppendInt(b, at[topic], 10)
	}
	return b
}

// parsePositions reads what formatPositions wrote; what is no position is left out.
func parsePositions(b []byte) map[string]int64 {
	var at map[string]int64
	for f := range bytes.FieldsSeq(b) {
		topic, offset, _ := bytes.Cut(f, []byte("="))
		if n, err := strconv.ParseInt(string(offset), 10, 64); err == nil {
			if at == nil {
				at = map[string]int64{}
			}
			at[string(topic)] = n
		}
	}
	return at
}
