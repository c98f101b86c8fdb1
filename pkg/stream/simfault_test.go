package stream_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// misfortune says what may happen, as chances in a thousand for each operation, within a budget.
type misfortune struct {
	fail, loseReply, crash, freeze, late, steal int
	budget                                      int
	crisis                                      crisis // of the store, at a random operation
	crises                                      int    // how many; 0: one
	haunted                                     bool   // the crisis is that of a frozen process: the store goes back to when it froze, soon after it wakes up, or to a bit before, at once
	live                                        bool   // records arrive while the processes run
	storm                                       bool   // processes come and go all the time
	versions                                    int    // a process that starts is of one of so many, which do not do the same
	sabotage                                    sabotage
}

// crisis is what happens to the whole store at once, in the middle of everything.
type crisis string

const (
	rolledBack crisis = "rolled back" // to what it was a while before, token, outbox and all
	emptied    crisis = "emptied"
	split      crisis = "split"     // a replica that lags becomes the primary, and some processes stay with the old one for a while
	shortened  crisis = "shortened" // emptied, and the log no longer holds the beginning
)

// counts says what has happened, so that a simulation in which nothing does is seen.
type counts [happenings]atomic.Int64

const (
	schedules = iota
	records
	operations
	failures
	lostReplies
	crashes
	zombies
	lateCommits
	thefts
	halfAppends
	restarts
	crises
	takeovers
	fenced
	displaced // OFFSET
	gone      // LOST
	revived   // commits of owners who have claimed before a crisis, sent after it or before: the store went back to where they stood
	outputs
	repeated
	duplicates
	suppressed
	letters
	ticks
	staleTicks
	happenings
)

var happening = [happenings]string{
	"schedules", "records", "operations", "failures", "lost replies", "crashes", "zombies", "late commits", "thefts", "half appends", "restarts", "crises",
	"takeovers", "fenced", "offset", "lost", "revived", "outputs", "repeated", "duplicates", "suppressed", "dead letters", "ticks", "stale ticks",
}

func (c *counts) add(what int, n int) { c[what].Add(int64(n)) }

// dice are what befalls one thing that operates. They are thrown by seed and name, so that what happens to one does not
// hang on the order in which others come.
type dice struct{ state atomic.Uint64 }

func (d *dice) roll(n int) int {
	z := d.state.Add(0x9e3779b97f4a7c15) // splitmix64
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int(uint64(uint32(z^z>>31)) * uint64(n) >> 32)
}

func (d *dice) millis(n int) time.Duration { return time.Duration(d.roll(n)) * time.Millisecond }

var (
	errDead     = errors.New("the process is dead")
	errInjected = errors.New("injected")
)

// proc is one process that runs a job, between the runtime and the memory log and store.
type proc struct {
	*world
	service int
	name    string // of the service
	number  int
	dead    atomic.Bool
	owned   atomic.Int32 // partitions
	cancel  context.CancelFunc
	done    chan struct{}

	mu     sync.Mutex
	last   stream.Assignment
	thrown map[string]int
	at     int64 // the era of the store that it is connected to
}

func (w *world) start(service int) *proc {
	ctx, cancel := context.WithCancel(w.t.Context())
	s := &w.services[service]
	w.counts.add(restarts, 1)
	p := &proc{world: w, service: service, name: s.name, number: len(w.procs) + len(w.former), cancel: cancel, done: make(chan struct{}), thrown: map[string]int{}}
	w.mu.Lock()
	p.at = w.era.Load()
	w.procs = append(w.procs, p)
	w.mu.Unlock()
	d := p.dice("start", 0)
	rt := stream.Runtime{
		Log: simLog{w.log, p}, Store: simStore{w.store, p}, Run: w.run, Observer: simObserver{p},
		BatchRecords: 1 + d.roll(4), CacheBytes: 500 * (1 + d.roll(6)), OutboxBytes: 200 + d.roll(2000), ShutdownTimeout: 2 * time.Second,
	}
	version := 1 + d.roll(max(1, w.m.versions))
	go func() {
		defer close(p.done)
		if err := s.process(ctx, rt, version); err != nil {
			w.note(fmt.Sprintf("Process: %v", err))
		}
	}()
	return p
}

// dice returns new ones for the n-th thing of a name in this process.
func (p *proc) dice(name string, partition int32) *dice {
	p.mu.Lock()
	n := p.thrown[name]
	p.thrown[name]++
	p.mu.Unlock()
	h := p.seed
	for _, x := range [...]uint64{uint64(p.number), uint64(partition), uint64(n)} {
		h = (h ^ x) * 0x100000001b3 // FNV-1a
	}
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	d := new(dice)
	d.state.Store(h)
	return d
}

// spend says whether one more thing may happen.
func (w *world) spend(what int) bool {
	if w.over.Load() || w.budget.Add(-1) < 0 {
		return false
	}
	w.counts.add(what, 1)
	return true
}

// later does something at another time, which the end of the schedule waits for.
func (w *world) later(pause time.Duration, do func()) {
	w.outstanding.Add(1)
	go func() {
		defer w.outstanding.Add(-1)
		time.Sleep(pause)
		do()
	}()
}

func (p *proc) kill() {
	if p.dead.Swap(true) {
		return
	}
	p.mu.Lock()
	a := p.last
	p.mu.Unlock()
	if a != nil {
		p.log.Expel(a)
	}
	p.cancel()
}

// freeze stops the caller for a while; meanwhile the group gives the partitions to others.
func (p *proc) freeze(d *dice) {
	p.mu.Lock()
	a := p.last
	p.mu.Unlock()
	if a == nil {
		return
	}
	readmit := p.log.Expel(a)
	p.outstanding.Add(1)
	haunted := p.m.haunted && p.haunt()
	time.Sleep(d.millis(1 + d.roll(6000)))
	if haunted {
		p.world.mu.Lock()
		p.strike = p.operated + d.roll(3)
		p.world.mu.Unlock()
	}
	p.outstanding.Add(-1)
	p.later(d.millis(2500), readmit) // the zombie goes on until its next heartbeat
}

// haunt rolls the store back with the next operation, to where it was a bit before; or else it has it remembered as it is
// now, to be rolled back when the process wakes up.
func (w *world) haunt() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.crises == 0 || w.strike != never {
		return false
	}
	if w.restore != nil && w.fate.roll(2) == 0 {
		w.remember, w.strike = never, w.operated
		return false
	}
	w.remember, w.strike = w.operated, never-1
	return true
}

// do performs an operation under the world's misfortune.
func (p *proc) do(d *dice, fn func() error) error {
	if p.dead.Load() {
		return errDead
	}
	p.counts.add(operations, 1)
	m := &p.m
	switch r := d.roll(1000); {
	case r < m.fail:
		if p.spend(failures) {
			return errInjected
		}
	case r < m.fail+m.loseReply:
		if p.spend(lostReplies) {
			_ = fn()
			return errInjected
		}
	case r < m.fail+m.loseReply+m.crash:
		if p.spend(crashes) {
			p.outstanding.Add(1)
			if d.roll(2) == 0 {
				_ = fn()
			}
			p.kill()
			p.outstanding.Add(-1)
			return errDead
		}
	case r < m.fail+m.loseReply+m.crash+m.freeze:
		if p.spend(zombies) {
			p.freeze(d)
			if p.dead.Load() {
				return errDead
			}
		}
	}
	return fn()
}

type simLog struct {
	*streamtest.Log
	p *proc
}

func (l simLog) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return l.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) {
		l.p.mu.Lock()
		l.p.last = a
		l.p.mu.Unlock()
		work(ctx, &simAssignment{a, l.p, l.p.dice("assignment", a.Partition())})
	})
}

func (l simLog) Open(ctx context.Context, topic string, partition int32, offset int64) (c stream.Cursor, err error) {
	d := l.p.dice(topic, partition)
	err = l.p.do(d, func() error { c, err = l.Log.Open(ctx, topic, partition, offset); return err })
	if err != nil {
		return nil, err
	}
	return &simCursor{c, l.p, d}, nil
}

func (l simLog) Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	err = l.p.do(l.p.dice("bounds", partition), func() error { start, end, err = l.Log.Bounds(ctx, topic, partition); return err })
	return
}

func (l simLog) Producer(ctx context.Context) (p stream.Producer, err error) {
	d := l.p.dice("producer", 0)
	err = l.p.do(d, func() error { p, err = l.Log.Producer(ctx); return err })
	if err != nil {
		return nil, err
	}
	return &simProducer{Producer: p, p: l.p, d: d}, nil
}

type simAssignment struct {
	stream.Assignment
	p *proc
	d *dice
}

func (a *simAssignment) Confirm(ctx context.Context) error {
	return a.p.do(a.d, func() error { return a.Assignment.Confirm(ctx) })
}

func (a *simAssignment) Hinted(ctx context.Context, topic string) (o int64, err error) {
	if a.p.m.sabotage == offsetsNotRead {
		return -1, nil
	}
	err = a.p.do(a.d, func() error { o, err = a.Assignment.Hinted(ctx, topic); return err })
	return o, err
}

func (a *simAssignment) Hint(ctx context.Context, offsets map[string]int64) error {
	for topic, o := range offsets {
		if before := a.p.log.Offsets(a.p.run.Group(a.p.name), topic)[a.Partition()]; o < before && a.Confirm(ctx) == nil {
			a.p.note(fmt.Sprintf("partition %d: the hint of %s went back from %d to %d", a.Partition(), topic, before, o))
		}
	}
	return a.p.do(a.d, func() error { return a.Assignment.Hint(ctx, offsets) })
}

type simCursor struct {
	stream.Cursor
	p *proc
	d *dice
}

func (c *simCursor) Fetch(ctx context.Context, maxBytes int, wait time.Duration) (r []stream.Record, err error) {
	if c.d.roll(2) == 0 {
		maxBytes = 10
	}
	wait = 10 * wait // waking up for nothing costs time and shows nothing
	err = c.p.do(c.d, func() error { r, err = c.Cursor.Fetch(ctx, maxBytes, wait); return err })
	if err != nil {
		return nil, err
	}
	if c.p.m.sabotage == notFiltered {
		for i := range r {
			r[i].Headers = nil
		}
	}
	return r, nil
}

type simProducer struct {
	stream.Producer
	p     *proc
	d     *dice
	spent atomic.Bool
}

func (s *simProducer) Produce(ctx context.Context, topic string, partition int32, m []stream.Message) (base int64, err error) {
	switch s.p.m.sabotage {
	case acknowledgedEarly:
		// What the outbox's bytes become after the answer is not the producer's business: keep copies.
		for i := range m {
			m[i].Key, m[i].Value = slices.Clone(m[i].Key), slices.Clone(m[i].Value)
			m[i].Headers = slices.Clone(m[i].Headers)
			for j := range m[i].Headers {
				m[i].Headers[j].Value = slices.Clone(m[i].Headers[j].Value)
			}
		}
		s.p.later(s.d.millis(100), func() {
			_ = s.p.do(s.d, func() error { _, err := s.Producer.Produce(s.p.t.Context(), topic, partition, m); return err })
		})
		return 0, nil
	case overtaking:
		if n := len(m) / 2; n > 0 {
			m = append(slices.Clone(m[n:]), m[:n]...)
		}
	case ticksWaitForNothing:
		for i := range m {
			m[i].Headers = slices.DeleteFunc(slices.Clone(m[i].Headers), func(h stream.Header) bool { return h.Key == "after" })
		}
	}
	if s.spent.Load() {
		return 0, errors.New("this producer is spent")
	}
	defer func() {
		if err != nil {
			s.spent.Store(true)
		}
	}()
	if n := 1 + s.d.roll(4); n < len(m) && s.d.roll(1000) < 2*s.p.m.fail && s.p.spend(halfAppends) { // then the connection breaks
		_ = s.p.do(s.d, func() error { _, err := s.Producer.Produce(ctx, topic, partition, m[:n]); return err })
		return 0, errInjected
	}
	err = s.p.do(s.d, func() error { base, err = s.Producer.Produce(ctx, topic, partition, m); return err })
	return base, err
}

type simStore struct {
	*streamtest.Store
	p *proc
}

// connected returns the era of the store that the process is connected to.
func (p *proc) connected() int64 {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	return p.at
}

func (s simStore) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l := &simLease{s: s, d: s.p.dice("lease", partition), group: group, partition: partition}
	s.p.befall()
	l.era, l.struck = s.p.connected(), s.p.counts[crises].Load()
	err := s.p.do(l.d, func() (err error) { l.Lease, err = s.Store.Claim(ctx, inEra(group, l.era), partition); return err })
	if err != nil {
		return nil, err
	}
	l.at = l.Lease.Meta().Positions
	return l, nil
}

func (s simStore) Peek(ctx context.Context, group string, partition int32, keys []string) (seen stream.Snapshot, err error) {
	s.p.befall()
	err = s.p.do(s.p.dice("peek", partition), func() error {
		seen, err = s.Store.Peek(ctx, inEra(group, s.p.connected()), partition, keys)
		return err
	})
	return seen, err
}

type simLease struct {
	stream.Lease
	s         simStore
	d         *dice
	group     string
	partition int32
	era       int64
	at        map[string]int64 // positions, as far as the owner knows
	struck    int64            // crises before the claim
}

func (l *simLease) Meta() stream.Meta {
	m := l.Lease.Meta()
	if l.s.p.m.sabotage == notPublishedAgain {
		m.Outbox = nil
	}
	return m
}

// ask performs an operation of the owner. Whoever has found another primary is not its owner: positions or token differ.
func (l *simLease) ask(fn func() error) error {
	p := l.s.p
	p.befall()
	if l.d.roll(1000) < p.m.steal && p.spend(thefts) { // late claims of others, which they then do nothing with
		for range 1 + l.d.roll(3) {
			p.later(l.d.millis(300), func() { _, _ = l.s.Store.Claim(p.t.Context(), inEra(l.group, l.era), l.partition) })
		}
	}
	return p.do(l.d, func() error {
		if p.connected() != l.era {
			return stream.ErrFenced
		}
		err := fn()
		if (p.m.sabotage == notFenced || p.m.sabotage == fencedByNothing) && errors.Is(err, stream.ErrFenced) {
			stolen, err := l.s.Store.Claim(p.t.Context(), inEra(l.group, l.era), l.partition)
			switch {
			case err != nil:
				return err
			case stolen.Meta().Lost:
				return stream.ErrLost
			case !maps.Equal(stolen.Meta().Positions, l.at) && p.m.sabotage == notFenced:
				return stream.ErrOffset
			}
			l.Lease, l.struck = stolen, p.counts[crises].Load()
			return fn()
		}
		return err
	})
}

func (l *simLease) Load(ctx context.Context, keys []string, values [][]byte) error {
	return l.ask(func() error {
		if l.s.p.m.sabotage == loadsNotFenced {
			seen, err := l.s.Store.Read(ctx, inEra(l.group, l.era), l.partition, keys)
			copy(values, seen.Values)
			return err
		}
		return l.Lease.Load(ctx, keys, values)
	})
}

func (l *simLease) Due(ctx context.Context, until time.Time, limit int) (due []stream.Timer, next time.Time, err error) {
	err = l.ask(func() error { due, next, err = l.Lease.Due(ctx, until, limit); return err })
	return due, next, err
}

func (l *simLease) Check(ctx context.Context) error {
	if l.s.p.m.sabotage == neverAsking {
		l.s.p.befall()
		return nil
	}
	return l.ask(func() error { return l.Lease.Check(ctx) })
}

func (l *simLease) Commit(ctx context.Context, c *stream.Commit) error {
	p := l.s.p
	if l.d.roll(1000) < p.m.late && p.spend(lateCommits) { // the request is delayed; what the client repeats may come before it
		d := *c
		d.Base, d.Next, d.Broadcast = maps.Clone(c.Base), maps.Clone(c.Next), maps.Clone(c.Broadcast)
		d.Keys, d.Values = slices.Clone(c.Keys), slices.Clone(c.Values)
		for i := range d.Values {
			d.Values[i] = slices.Clone(d.Values[i])
		}
		d.Timers = slices.Clone(c.Timers)
		d.Partition, d.Outbox, d.Rebuilding = slices.Clone(c.Partition), slices.Clone(c.Outbox), slices.Clone(c.Rebuilding)
		lease := streamtest.Late(l.Lease) // under whose token the request was sent; sabotage may take another meanwhile
		p.later(l.d.millis(4000), func() { _ = l.commit(context.WithoutCancel(ctx), lease, &d) })
		return errInjected
	}
	err := l.ask(func() error { return l.commit(ctx, l.Lease, c) })
	if err == nil {
		l.at = c.Next
	}
	return err
}

func (l *simLease) commit(ctx context.Context, lease stream.Lease, c *stream.Commit) error {
	extends := l.s.p.services[l.s.p.service].extends
	var before stream.Snapshot
	if extends != nil {
		before, _ = l.s.Store.Peek(ctx, inEra(l.group, l.era), l.partition, c.Keys)
	}
	err := lease.Commit(ctx, c)
	if err == nil && l.struck != l.s.p.counts[crises].Load() {
		l.s.p.counts.add(revived, 1)
	}
	if err == nil && l.s.p.service == 0 {
		l.s.p.reached(l, c.Next)
	}
	for i := range before.Values {
		if err == nil && maps.Equal(before.Positions, c.Base) && !extends(before.Values[i], c.Values[i]) {
			l.s.p.note(fmt.Sprintf("partition %d key %s: stored was %q, committed upon it %q", l.partition, c.Keys[i], before.Values[i], c.Values[i]))
		}
	}
	for (l.s.p.m.sabotage == notCompared || l.s.p.m.sabotage == fencedByNothing) && errors.Is(err, stream.ErrOffset) {
		forced := *c
		seen, _ := l.s.Store.Read(ctx, inEra(l.group, l.era), l.partition, nil)
		forced.Base = seen.Positions
		err = lease.Commit(ctx, &forced)
	}
	return err
}

// reached takes note of a commit. One of an owner who has claimed before a crisis, or a primary that is none any more, may be
// lost in it.
func (w *world) reached(l *simLease, next map[string]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := w.current
	if l.struck != w.counts[crises].Load() || l.era != w.era.Load() {
		to = w.reach
	}
	for topic, o := range next {
		to[topic][l.partition] = max(to[topic][l.partition], o)
	}
}

// never is no operation.
const never = 1 << 60

// schedule says at which of the store's next operations it is remembered, and at which the crisis comes.
func (w *world) schedule() {
	if w.m.haunted {
		w.remember, w.strike = never, never
		return
	}
	w.remember = w.operated + w.fate.roll(24)
	w.strike = w.remember + 1 + w.fate.roll(16)
}

// befall counts the operations of the store and brings the crisis.
func (w *world) befall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.crises == 0 || w.over.Load() {
		return
	}
	if w.operated == w.remember || w.m.haunted && w.strike == never && w.operated%4 == 3 {
		w.restore = nil
		w.each(func(s service, p int32) {
			group := w.group(s.name, w.era.Load())
			if w.m.crisis == split {
				w.restore = append(w.restore, w.store.Replicate(group, p, w.group(s.name, w.era.Load()+1)))
			} else {
				w.restore = append(w.restore, w.store.Snapshot(group, p))
			}
		})
	}
	w.operated++
	if w.operated <= w.strike {
		return
	}
	if w.counts[crises].Add(1) == 1 {
		w.each(func(s service, p int32) {
			for _, topic := range s.inputs {
				w.floor[topic][p] = w.log.Offsets(w.run.Group(s.name), w.run.Topic(topic))[p]
			}
		})
	}
	for topic := range w.reach {
		for p := range w.reach[topic] {
			w.reach[topic][p] = max(w.reach[topic][p], w.current[topic][p])
		}
	}
	switch w.m.crisis {
	case rolledBack, split:
		for _, restore := range w.restore {
			restore()
		}
	case shortened:
		w.shorten()
		fallthrough
	case emptied:
		w.each(func(s service, p int32) { w.store.Lose(w.group(s.name, w.era.Load()), p) })
	}
	if w.m.crisis == split {
		era := w.era.Add(1)
		for _, p := range w.procs {
			d := p.dice("split", 0)
			if d.roll(2) == 0 {
				p.at = era
				continue
			}
			w.later(d.millis(4000), func() {
				w.mu.Lock()
				p.at = max(p.at, era)
				w.mu.Unlock()
			})
		}
	}
	if w.crises--; w.crises > 0 {
		w.schedule()
	}
}

func (w *world) each(visit func(s service, p int32)) {
	for _, s := range w.services {
		for p := range int32(simPartitions) {
			visit(s, p)
		}
	}
}

// shorten takes from the log some of what is read and acknowledged. What is broadcast stays: retention is to be longer.
func (w *world) shorten() {
	for _, topic := range []string{"a", "b"} {
		for p := range int32(simPartitions) {
			to := w.floor[topic][p] * 2 / 3
			w.log.Truncate(topic, p, to)
			w.kept[topic][p] = to
		}
	}
}

// simObserver counts.
type simObserver struct{ *proc }

func (simObserver) Retry(int32, string, error) {}
func (simObserver) Alarm(int32, string, bool)  {}

func (o simObserver) Owned(_ int32, owned bool) {
	if owned {
		o.owned.Add(1)
	} else {
		o.owned.Add(-1)
	}
}

func (o simObserver) Takeover(_ int32, cause string) {
	o.counts.add(takeovers, 1)
	switch cause {
	case stream.TakeoverFenced:
		o.counts.add(fenced, 1)
	case stream.TakeoverOffset:
		o.counts.add(displaced, 1)
	case stream.TakeoverLost:
		o.counts.add(gone, 1)
	case stream.TakeoverStep:
		o.note("a step failed")
	}
}

func (o simObserver) Batch(r *stream.Report) {
	o.counts.add(records, r.Records)
	o.counts.add(duplicates, r.Duplicates)
	o.counts.add(suppressed, r.Suppressed)
	o.counts.add(letters, r.DeadLetters)
	o.counts.add(ticks, r.Fired)
	o.counts.add(staleTicks, r.Stale)
}
