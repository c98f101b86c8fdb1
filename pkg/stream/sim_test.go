package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// The simulation: workers process a small log while a seeded source of misfortune makes operations fail, lose their
// replies, arrive late, kill or freeze the worker, and roll the store back or empty it. Afterwards everything must be as
// if nothing had happened. It runs in synctest bubbles, so that pauses and time-outs cost nothing.

// journal is a key's state: the records applied, in order, each with the model in force. Any double, lost or reordered
// application shows in it, and in the outputs, which quote it.
type journal struct{ entries []string }

// tally is the partition's state; the model is not stored with it but adopted anew.
type tally struct {
	applied int
	model   string
}

type line struct{ id string }

var errPoison = stream.Permanent(errors.New("poison"))

func journalJob() stream.Job[line, journal, tally] {
	return stream.Job[line, journal, tally]{
		Service: "journal",
		Inputs:  []stream.Input{{Topic: "a"}, {Topic: "b"}, {Topic: "models", Broadcast: true}},
		Outputs: []string{"out", "sums"},
		Decode: func(r *stream.Record, in *line) (stream.Cause, error) {
			if bytes.HasPrefix(r.Value, []byte("poison")) {
				return stream.Cause{}, errPoison
			}
			in.id = string(r.Value)
			return stream.Cause{ID: in.id, Time: r.Time}, nil
		},
		Adopt: func(p *tally, topic string, value []byte) error {
			p.model = string(value)
			return nil
		},
		Step: func(c *stream.Context, s *journal, p *tally, in *line) error {
			if s == nil {
				return nil
			}
			if strings.HasPrefix(in.id, "refused") {
				return stream.Permanent(errors.New("refused"))
			}
			s.entries = append(s.entries, in.id+p.model)
			p.applied++
			for i := range outputsOf(s.entries) {
				c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: keyOf(in.id), Data: quote(s.entries, i)})
			}
			if p.applied%3 == 0 {
				c.Emit(stream.Emission{Topic: "sums", Type: "sum", Prefix: "s-", Data: fmt.Append(nil, p.applied)})
			}
			return nil
		},
		State: stream.Codec[journal]{
			Append: func(dst []byte, s *journal) []byte { return append(dst, strings.Join(s.entries, " ")...) },
			Decode: func(b []byte, s *journal) error { s.entries = strings.Fields(string(b)); return nil },
		},
		Partition: stream.Codec[tally]{
			Append: func(dst []byte, p *tally) []byte { return append(dst, byte(p.applied)) },
			Decode: func(b []byte, p *tally) error { p.applied = int(b[0]); return nil },
		},
	}
}

// keyOf: ids are input-key-number.
func keyOf(id string) string { return strings.Split(id, "-")[1] }

// outputsOf is 0, 1 or 2, depending on everything that was applied.
func outputsOf(entries []string) int {
	h := fnv.New32a()
	for _, e := range entries {
		h.Write([]byte(e))
	}
	return int(h.Sum32()>>8) % 3
}

func quote(entries []string, i int) []byte {
	b, _ := json.Marshal(fmt.Sprintf("%d: %s", i, strings.Join(entries, " ")))
	return b
}

const simPartitions = 2

// misfortune says what may happen, as chances in a thousand for each operation, within budgets.
type misfortune struct {
	fail, loseReply, crash, freeze, late int
	rollback, lose                       bool // once each, at a random commit
	live                                 bool // records arrive while the workers run
	budget                               int
	sabotage                             string // a rule of the runtime that is broken: the check must notice
}

type world struct {
	plot
	t     *testing.T
	m     misfortune
	log   *streamtest.Log
	store *streamtest.Store

	mu       sync.Mutex
	rng      *rand.Rand
	budget   int
	restores []func()
	crises   int    // commits until the rollback or loss
	noted    string // the first violation seen on the way
	over     atomic.Bool
}

// plot is what is being simulated.
type plot struct {
	run     stream.Run
	service string
	inputs  []string // declared names of everything that is read
	outputs []string
	process func(context.Context, stream.Runtime) error
	write   func(g *writer, n int) // appends n more records to the inputs
	settled func(w *world) bool    // nil, or whether nothing is left to wait for when everything is read
	check   func(w *world) string  // what is wrong afterwards
}

// journalPlot is a job without timers.
func journalPlot() plot {
	return plot{
		run: stream.Run{ID: "r1"}, service: "journal", inputs: []string{"a", "b", "models"}, outputs: []string{"out", "sums"},
		process: func(ctx context.Context, rt stream.Runtime) error { return stream.Process(ctx, journalJob(), rt) },
		write:   (*writer).write,
		check:   (*world).checkJournal,
	}
}

func (w *world) chance(thousandth int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if thousandth == 0 || w.budget == 0 || w.over.Load() || w.rng.IntN(1000) >= thousandth {
		return false
	}
	w.budget--
	return true
}

func (w *world) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

func (w *world) note(problem string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noted == "" {
		w.noted = problem
	}
}

var (
	errDead     = errors.New("the process is dead")
	errInjected = errors.New("injected")
)

// proc is one process that runs the job, between the runtime and the memory log and store.
type proc struct {
	*world
	dead   atomic.Bool
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	asMu   sync.Mutex
	last   stream.Assignment
}

func (w *world) start() *proc {
	ctx, cancel := context.WithCancel(w.t.Context())
	p := &proc{world: w, cancel: cancel, done: make(chan struct{})}
	rt := stream.Runtime{
		Log: simLog{w.log, p}, Store: simStore{w.store, p}, Run: w.run,
		BatchRecords: 1 + w.roll(4), CacheBytes: 500 * (1 + w.roll(6)), OutboxBytes: 200 + w.roll(2000), ShutdownTimeout: 2 * time.Second,
	}
	go func() {
		defer close(p.done)
		p.err = w.process(ctx, rt)
	}()
	return p
}

func (p *proc) kill() {
	if p.dead.Swap(true) {
		return
	}
	p.asMu.Lock()
	a := p.last
	p.asMu.Unlock()
	if a != nil {
		p.log.Expel(a)
	}
	p.cancel()
}

// freeze stops the caller for a while; meanwhile the group gives the partitions to others.
func (p *proc) freeze() {
	p.asMu.Lock()
	a := p.last
	p.asMu.Unlock()
	if a == nil {
		return
	}
	readmit := p.log.Expel(a)
	time.Sleep(time.Duration(p.roll(9000)) * time.Millisecond)
	go func() {
		time.Sleep(time.Duration(p.roll(3000)) * time.Millisecond) // the zombie goes on until its next heartbeat
		readmit()
	}()
}

// do performs an operation under the world's misfortune.
func (p *proc) do(fn func() error) error {
	if p.dead.Load() {
		return errDead
	}
	switch {
	case p.chance(p.m.fail):
		return errInjected
	case p.chance(p.m.loseReply):
		fn()
		return errInjected
	case p.chance(p.m.crash):
		if p.roll(2) == 0 {
			fn()
		}
		p.kill()
		return errDead
	case p.chance(p.m.freeze):
		p.freeze()
		if p.dead.Load() {
			return errDead
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
		l.p.asMu.Lock()
		l.p.last = a
		l.p.asMu.Unlock()
		work(ctx, simAssignment{a, l.p})
	})
}

func (l simLog) Open(ctx context.Context, topic string, partition int32, offset int64) (c stream.Cursor, err error) {
	err = l.p.do(func() error { c, err = l.Log.Open(ctx, topic, partition, offset); return err })
	if err != nil {
		return nil, err
	}
	return simCursor{c, l.p}, nil
}

func (l simLog) Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	err = l.p.do(func() error { start, end, err = l.Log.Bounds(ctx, topic, partition); return err })
	return
}

func (l simLog) Producer(ctx context.Context) (p stream.Producer, err error) {
	err = l.p.do(func() error { p, err = l.Log.Producer(ctx); return err })
	if err != nil {
		return nil, err
	}
	return &simProducer{Producer: p, p: l.p}, nil
}

type simAssignment struct {
	stream.Assignment
	p *proc
}

func (a simAssignment) Confirm(ctx context.Context) error {
	return a.p.do(func() error { return a.Assignment.Confirm(ctx) })
}

func (a simAssignment) Hint(ctx context.Context, offsets map[string]int64) error {
	for topic, o := range offsets {
		if before := a.p.log.Offsets(a.p.run.Group(a.p.service), topic)[a.Partition()]; o < before && a.Confirm(ctx) == nil {
			a.p.note(fmt.Sprintf("partition %d: the hint of %s went back from %d to %d", a.Partition(), topic, before, o))
		}
	}
	return a.p.do(func() error { return a.Assignment.Hint(ctx, offsets) })
}

type simCursor struct {
	stream.Cursor
	p *proc
}

func (c simCursor) Fetch(ctx context.Context, maxBytes int, wait time.Duration) (r []stream.Record, err error) {
	if c.p.roll(2) == 0 {
		maxBytes = 10
	}
	err = c.p.do(func() error { r, err = c.Cursor.Fetch(ctx, maxBytes, wait); return err })
	if err != nil {
		return nil, err
	}
	return r, nil
}

type simProducer struct {
	stream.Producer
	p     *proc
	spent atomic.Bool
}

func (s *simProducer) Produce(ctx context.Context, topic string, partition int32, m []stream.Message) (base int64, err error) {
	if s.p.m.sabotage == "acknowledged before it is published" {
		// What the outbox's bytes become after the answer is not the producer's business: keep copies.
		for i := range m {
			m[i].Key, m[i].Value = slices.Clone(m[i].Key), slices.Clone(m[i].Value)
			m[i].Headers = slices.Clone(m[i].Headers)
			for j := range m[i].Headers {
				m[i].Headers[j].Value = slices.Clone(m[i].Headers[j].Value)
			}
		}
		go func() {
			time.Sleep(time.Duration(s.p.roll(100)) * time.Millisecond)
			_ = s.p.do(func() error { _, err := s.Producer.Produce(s.p.t.Context(), topic, partition, m); return err })
		}()
		return 0, nil
	}
	if s.p.m.sabotage == "ticks wait for nothing" {
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
	if s.p.chance(3 * s.p.m.fail) {
		return 0, errInjected
	}
	if n := 1 + s.p.roll(4); n < len(m) && s.p.chance(s.p.m.fail) { // a part of it is appended, then the connection breaks
		_ = s.p.do(func() error { _, err := s.Producer.Produce(ctx, topic, partition, m[:n]); return err })
		return 0, errInjected
	}
	err = s.p.do(func() error { base, err = s.Producer.Produce(ctx, topic, partition, m); return err })
	return base, err
}

type simStore struct {
	*streamtest.Store
	p *proc
}

func (s simStore) Claim(ctx context.Context, group string, partition int32) (l stream.Lease, err error) {
	err = s.p.do(func() error { l, err = s.Store.Claim(ctx, group, partition); return err })
	if err != nil {
		return nil, err
	}
	return &simLease{l, s, group, partition}, nil
}

type simLease struct {
	stream.Lease
	s         simStore
	group     string
	partition int32
}

func (l *simLease) Meta() stream.Meta {
	m := l.Lease.Meta()
	if l.s.p.m.sabotage == "outbox not published again" {
		m.Outbox = nil
	}
	return m
}

func (l *simLease) Load(ctx context.Context, keys []string, values [][]byte) error {
	return l.s.p.do(func() error { return l.Lease.Load(ctx, keys, values) })
}

func (l *simLease) Due(ctx context.Context, until time.Time, limit int) (due []stream.Timer, next time.Time, err error) {
	err = l.s.p.do(func() error { due, next, err = l.Lease.Due(ctx, until, limit); return err })
	return due, next, err
}

func (l *simLease) Check(ctx context.Context) error {
	return l.s.p.do(func() error { return l.Lease.Check(ctx) })
}

func (l *simLease) Commit(ctx context.Context, c *stream.Commit) error {
	p := l.s.p
	p.crisis(l.group, l.partition)
	if p.chance(p.m.late) { // the request is delayed; what the client repeats may come before it
		d := *c
		d.Base, d.Next, d.Broadcast = maps.Clone(c.Base), maps.Clone(c.Next), maps.Clone(c.Broadcast)
		d.Keys, d.Values = slices.Clone(c.Keys), slices.Clone(c.Values)
		for i := range d.Values {
			d.Values[i] = slices.Clone(d.Values[i])
		}
		d.Timers = slices.Clone(c.Timers)
		d.Partition, d.Outbox, d.Rebuilding = slices.Clone(c.Partition), slices.Clone(c.Outbox), slices.Clone(c.Rebuilding)
		lease := l.Lease // under whose token the request was sent; sabotage may take another meanwhile
		go func() {
			time.Sleep(time.Duration(p.roll(5000)) * time.Millisecond)
			_ = lease.Commit(context.WithoutCancel(ctx), &d)
		}()
		return errInjected
	}
	return p.do(func() error {
		err := l.Lease.Commit(ctx, c)
		if p.m.sabotage == "commits not fenced" && (errors.Is(err, stream.ErrFenced) || errors.Is(err, stream.ErrOffset)) {
			if l.Lease, err = l.s.Store.Claim(ctx, l.group, l.partition); err != nil {
				return err
			}
			forced := *c
			forced.Base = l.Lease.Meta().Positions
			return l.Lease.Commit(ctx, &forced)
		}
		return err
	})
}

// crisis counts commits and, once, rolls the store back or empties it.
func (w *world) crisis(group string, partition int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.m.rollback && !w.m.lose || w.over.Load() {
		return
	}
	w.crises--
	switch {
	case w.crises > 0 && w.m.rollback && w.rng.IntN(3) == 0:
		w.restores = nil
		for p := range int32(simPartitions) {
			w.restores = append(w.restores, w.store.Snapshot(group, p))
		}
	case w.crises == 0 && w.m.lose:
		for p := range int32(simPartitions) {
			w.store.Lose(group, p)
		}
	case w.crises == 0:
		for _, restore := range w.restores {
			restore()
		}
	}
}

// records appends n more records to the inputs: of several keys, some from an upstream Step that repeats itself, some
// poisonous, some models.
type writer struct {
	*world
	rng  *rand.Rand
	n    int
	at   time.Time
	sent [simPartitions][]stream.Message // by the upstream Step, for repetitions
}

func (g *writer) write(n int) {
	for range n {
		g.n++
		g.at = g.at.Add(time.Duration(g.rng.IntN(3)) * time.Millisecond)
		key := fmt.Sprintf("k%d", g.rng.IntN(5))
		id := fmt.Sprintf("a-%s-%d", key, g.n)
		p := stream.Partition([]byte(key), simPartitions)
		m := stream.Message{Key: []byte(key), Value: []byte(id), Time: g.at}
		switch r := g.rng.IntN(20); {
		case r == 0:
			m.Value = []byte(fmt.Sprintf("poison-%s-%d", key, g.n))
			g.log.Append("a", p, m)
		case r == 1:
			m.Value = []byte(fmt.Sprintf("refused-%s-%d", key, g.n))
			g.log.Append("a", p, m)
		case r == 2:
			for part := range int32(simPartitions) {
				g.log.Append("models", part, stream.Message{Value: fmt.Appendf(nil, "/m%d", g.n), Time: g.at})
			}
		case r < 9:
			m.Value = []byte(fmt.Sprintf("b-%s-%d", key, g.n))
			m.Headers = []stream.Header{{Key: "source", Value: []byte("/tempismo/up/r1/x/0")}, {Key: "sequence", Value: fmt.Appendf(nil, "%020d.000", g.n)}}
			g.log.Append("b", p, m)
			g.sent[p] = append(g.sent[p], m)
		case r == 9 && len(g.sent[p]) > 0: // the upstream published its last outbox again
			again := g.sent[p][max(0, len(g.sent[p])-3):]
			for _, m := range again {
				m.Time = g.at
				g.log.Append("b", p, m)
			}
		default:
			g.log.Append("a", p, m)
		}
	}
}

// simulate returns what is wrong afterwards.
func simulate(t *testing.T, seed uint64, m misfortune) (problem string) {
	synctest.Test(t, func(t *testing.T) {
		problem = newWorld(t, seed, m, journalPlot()).play()
	})
	return problem
}

func newWorld(t *testing.T, seed uint64, m misfortune, p plot) *world {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &world{plot: p, t: t, m: m, log: streamtest.NewLog(), store: streamtest.NewStore(), rng: rng, budget: m.budget, crises: 2 + rng.IntN(12)}
	topics := slices.Clone(p.outputs)
	for _, topic := range p.inputs {
		topics = append(topics, topic, topic+".dlq")
	}
	for _, topic := range topics {
		w.log.Create(p.run.Topic(topic), stream.TopicInfo{Partitions: simPartitions, MaxMessageBytes: 1 << 20})
	}
	return w
}

func (w *world) play() string {
	g := &writer{world: w, rng: rand.New(rand.NewPCG(w.rng.Uint64(), 9)), at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	const records = 40
	if !w.m.live {
		w.write(g, records)
	}
	procs := []*proc{w.start()}
	if w.roll(2) == 0 {
		procs = append(procs, w.start())
	}
	for turn := range 60 {
		time.Sleep(time.Duration(w.roll(400)) * time.Millisecond)
		if w.m.live && g.n < records {
			w.write(g, 1+w.roll(4))
		}
		for i, p := range procs {
			if p.dead.Load() || w.roll(15) == 0 && turn < 50 { // replace the dead; now and then stop one in order
				p.cancel()
				if w.roll(2) == 0 {
					<-p.done
				}
				procs[i] = w.start()
				go func() { <-p.done }()
			}
		}
	}
	if w.m.live {
		w.write(g, max(0, records-g.n))
	}
	w.over.Store(true) // from here on nothing more happens
	deadline := time.Now().Add(10 * time.Minute)
	for !w.drained() {
		if time.Now().After(deadline) {
			for _, p := range procs {
				p.cancel()
				<-p.done
			}
			return "not drained: " + w.positions()
		}
		for i, p := range procs {
			if p.dead.Load() {
				procs[i] = w.start()
			}
		}
		time.Sleep(time.Second)
	}
	time.Sleep(15 * time.Second) // zombies and delayed requests come to their end
	for _, p := range procs {
		p.cancel()
		<-p.done
		if p.err != nil {
			return fmt.Sprintf("Process: %v", p.err)
		}
	}
	if w.noted != "" {
		return w.noted
	}
	return w.check(w)
}

func (w *world) each(visit func(p int32, s stream.Snapshot)) {
	for p := range int32(simPartitions) {
		s, _ := w.store.Read(w.t.Context(), w.run.Group(w.service), p, nil)
		visit(p, s)
	}
}

func (w *world) drained() bool {
	ok := true
	w.each(func(p int32, s stream.Snapshot) {
		for _, topic := range w.inputs {
			_, end, _ := w.log.Bounds(w.t.Context(), w.run.Topic(topic), p)
			at, stored := s.Positions[topic]
			ok = ok && stored && at == end
		}
	})
	return ok && (w.settled == nil || w.settled(w))
}

func (w *world) positions() string {
	var b strings.Builder
	w.each(func(p int32, s stream.Snapshot) { fmt.Fprintf(&b, "%d: %v ", p, s.Positions) })
	return b.String()
}

// checkJournal compares states with a plain fold of the log, and what a deduplicating consumer accepts with the fold's outputs.
func (w *world) checkJournal() string {
	for p := range int32(simPartitions) {
		states := map[string][]string{}
		err := w.store.Scan(w.t.Context(), w.run.Group(w.service), p, func(k string, v []byte) bool {
			states[k] = strings.Fields(string(v))
			return true
		})
		if err != nil {
			return err.Error()
		}
		want, bad := w.fold(p)
		if !w.m.live {
			for k, entries := range want {
				if !slices.Equal(entries, states[k]) {
					return fmt.Sprintf("partition %d key %s:\n have %v\n want %v", p, k, states[k], entries)
				}
			}
		} else if s := sameRecords(states, want); s != "" {
			return fmt.Sprintf("partition %d: %s", p, s)
		}
		// An output quotes the state after its record, so the final states tell all of them.
		expected := map[string][]string{}
		for k, entries := range states {
			for n := range entries {
				for i := range outputsOf(entries[:n+1]) {
					expected[k] = append(expected[k], string(quote(entries[:n+1], i)))
				}
			}
		}
		got, problem := w.accepted("out", p)
		if problem != "" {
			return problem
		}
		for _, k := range slices.Sorted(maps.Keys(states)) {
			if !slices.Equal(got[k], expected[k]) {
				return fmt.Sprintf("partition %d outputs of %s:\n have %v\n want %v", p, k, got[k], expected[k])
			}
		}
		applied := 0
		for _, entries := range states {
			applied += len(entries)
		}
		sums, problem := w.accepted("sums", p)
		if problem != "" {
			return problem
		}
		if len(sums[""]) != applied/3 {
			return fmt.Sprintf("partition %d: %d records applied, sums %v", p, applied, sums[""])
		}
		if s := w.letters(p, bad); s != "" {
			return s
		}
	}
	problem := ""
	w.each(func(p int32, s stream.Snapshot) {
		if len(s.Outbox) > 0 {
			problem = fmt.Sprintf("partition %d: a clean shutdown left an outbox", p)
		}
		if len(s.Rebuilding) > 0 {
			problem = fmt.Sprintf("partition %d: still rebuilding %s", p, s.Rebuilding)
		}
		for _, topic := range []string{"a", "b", "models"} {
			if hint, ok := w.log.Offsets(w.run.Group(w.service), topic)[p]; !ok || hint != s.Positions[topic] {
				problem = fmt.Sprintf("partition %d: hint of %s is %d, position %d", p, topic, hint, s.Positions[topic])
			}
		}
	})
	return problem
}

// fold is the independent reference: the records of a partition in order of time, topic and offset, applied once.
func (w *world) fold(p int32) (states map[string][]string, bad map[string]bool) {
	var all []stream.Record
	for _, topic := range []string{"a", "b", "models"} {
		all = append(all, w.log.Records(topic, p)...)
	}
	slices.SortStableFunc(all, func(a, b stream.Record) int { return a.Time.Compare(b.Time) })
	states, bad = map[string][]string{}, map[string]bool{}
	model, seen := "", map[string]bool{}
	for _, r := range all {
		id := string(r.Value)
		switch {
		case r.Topic == "models":
			model = id
		case strings.HasPrefix(id, "poison"), strings.HasPrefix(id, "refused"):
			bad[id] = true
		case !seen[id]:
			seen[id] = true
			states[string(r.Key)] = append(states[string(r.Key)], id+model)
		}
	}
	return states, bad
}

// sameRecords compares states with the fold where the interleaving of the inputs is free: the same records once each,
// those of one input in its order, and models only going forward.
func sameRecords(have, want map[string][]string) string {
	for k := range want {
		for _, input := range []string{"a", "b"} {
			of := func(entries []string) (ids []string) {
				for _, e := range entries {
					if id, _, _ := strings.Cut(e, "/"); strings.HasPrefix(id, input) {
						ids = append(ids, id)
					}
				}
				return ids
			}
			if h, w := of(have[k]), of(want[k]); !slices.Equal(h, w) {
				return fmt.Sprintf("key %s input %s:\n have %v\n want %v", k, input, h, w)
			}
		}
	}
	return ""
}

// accepted reads an output partition as a consumer does that drops what is not above the highest position of its source.
func (w *world) accepted(topic string, p int32) (byKey map[string][]string, problem string) {
	byKey = map[string][]string{}
	highest, ids := map[string]string{}, map[string]string{}
	for _, r := range w.log.Records(w.run.Topic(topic), p) {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return nil, err.Error()
		}
		var source, sequence string
		for _, h := range r.Headers {
			switch h.Key {
			case "source":
				source = string(h.Value)
			case "sequence":
				sequence = string(h.Value)
			}
		}
		if source != e.Source || sequence != e.Sequence || e.Subject != string(r.Key) {
			return nil, fmt.Sprintf("headers and envelope differ: %s %s %s", source, sequence, r.Value)
		}
		if sequence <= highest[source] && w.m.sabotage != "consumer does not deduplicate" {
			continue
		}
		highest[source] = sequence
		if other, ok := ids[e.ID]; ok {
			return nil, fmt.Sprintf("id %s stands for %s and %s", e.ID, other, sequence)
		}
		ids[e.ID] = sequence
		byKey[e.Subject] = append(byKey[e.Subject], string(e.Data))
	}
	return byKey, ""
}

func (w *world) letters(p int32, bad map[string]bool) string {
	got := map[string]bool{}
	for _, r := range w.log.Records("a.dlq", p) {
		got[string(r.Value)] = true
	}
	if !maps.Equal(got, bad) {
		return fmt.Sprintf("partition %d dead letters:\n have %v\n want %v", p, got, bad)
	}
	return ""
}

var seeds = flag.Uint64("seeds", 250, "schedules of each kind in TestSimulation")

func TestSimulation(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 40)
	}
	all := misfortune{fail: 30, loseReply: 30, crash: 15, freeze: 10, late: 15, budget: 12}
	with := func(change func(*misfortune)) misfortune { m := all; change(&m); return m }
	for _, c := range []struct {
		name string
		m    misfortune
	}{
		{"nothing happens", misfortune{}},
		{"crashes, zombies, lost replies and late requests", all},
		{"the same while records arrive", with(func(m *misfortune) { m.live = true })},
		{"the store is rolled back", with(func(m *misfortune) { m.rollback = true })},
		{"the store is emptied", with(func(m *misfortune) { m.lose = true })},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range n {
				if problem := simulate(t, seed, c.m); problem != "" {
					t.Fatalf("seed %d: %s", seed, problem)
				}
			}
		})
	}
}

func TestSimulationNoticesBrokenRules(t *testing.T) {
	for _, c := range []string{
		"outbox not published again",
		"acknowledged before it is published",
		"commits not fenced",
		"consumer does not deduplicate",
	} {
		t.Run(c, func(t *testing.T) {
			m := misfortune{fail: 30, loseReply: 30, crash: 15, freeze: 10, late: 15, budget: 12, sabotage: c}
			for seed := range uint64(2000) {
				if problem := simulate(t, seed, m); problem != "" {
					t.Logf("seed %d: %s", seed, problem)
					return
				}
			}
			t.Error("the simulation did not notice")
		})
	}
}
