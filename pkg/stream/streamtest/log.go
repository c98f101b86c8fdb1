// Package streamtest holds what tests of the runtime and of its adapters need: a Log and a Store in memory, the
// conformance suites that every adapter passes, and a Driver that feeds a Job without either.
//
// It is not for production: nothing in it survives the process, and its consumer group knows no timeouts.
package streamtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// Log is a stream.Log in memory, safe for concurrent use. Records that a Cursor handed out are overwritten by its next
// Fetch, so that a view kept too long shows.
type Log struct {
	mu     sync.Mutex
	topics map[string]*topic
	groups map[string]*group
}

type topic struct {
	info       stream.TopicInfo
	partitions []*partition
}

type partition struct {
	start   int64
	records []stream.Record // the first has offset start
	grown   chan struct{}   // closed at the next append
}

func (p *partition) end() int64 { return p.start + int64(len(p.records)) }

// NewLog returns a log without topics.
func NewLog() *Log { return &Log{topics: map[string]*topic{}, groups: map[string]*group{}} }

// Create adds a topic; a topic that exists is replaced.
func (l *Log) Create(name string, info stream.TopicInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &topic{info: info}
	for range info.Partitions {
		t.partitions = append(t.partitions, &partition{grown: make(chan struct{})})
	}
	l.topics[name] = t
}

// Append adds records to a partition and returns the offset of the first.
func (l *Log) Append(name string, p int32, messages ...stream.Message) int64 {
	base, err := l.append(name, p, messages)
	if err != nil {
		panic(err)
	}
	return base
}

// AppendKeyed adds a record to the partition of its key.
func (l *Log) AppendKeyed(name string, m stream.Message) (p int32, offset int64) {
	l.mu.Lock()
	n := l.topics[name].info.Partitions
	l.mu.Unlock()
	p = stream.Partition(m.Key, n)
	return p, l.Append(name, p, m)
}

func (l *Log) append(name string, p int32, messages []stream.Message) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, pt, err := l.partition(name, p)
	if err != nil {
		return 0, err
	}
	size := 61
	for _, m := range messages {
		size += 20 + len(m.Key) + len(m.Value)
		for _, h := range m.Headers {
			size += 2 + len(h.Key) + len(h.Value)
		}
	}
	if t.info.MaxMessageBytes > 0 && size > t.info.MaxMessageBytes {
		return 0, fmt.Errorf("produce %d bytes to %s: message too large", size, name)
	}
	base := pt.end()
	for _, m := range messages {
		at := m.Time
		if at.IsZero() {
			at = time.Now()
		}
		r := stream.Record{
			Topic: name, Partition: p, Offset: pt.end(), Time: at.Truncate(time.Millisecond).UTC(),
			Key: slices.Clone(m.Key), Value: slices.Clone(m.Value),
		}
		for _, h := range m.Headers {
			r.Headers = append(r.Headers, stream.Header{Key: h.Key, Value: slices.Clone(h.Value)})
		}
		pt.records = append(pt.records, r)
	}
	close(pt.grown)
	pt.grown = make(chan struct{})
	return base, nil
}

// Records returns what a partition holds.
func (l *Log) Records(name string, p int32) []stream.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, pt, err := l.partition(name, p)
	if err != nil {
		panic(err)
	}
	return slices.Clone(pt.records)
}

// Truncate drops the records below start, as retention does.
func (l *Log) Truncate(name string, p int32, start int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, pt, err := l.partition(name, p)
	if err != nil {
		panic(err)
	}
	n := min(max(start-pt.start, 0), int64(len(pt.records)))
	pt.records = pt.records[n:]
	pt.start += n
}

// Cut drops the records from end on, as a broker does that lost its disk.
func (l *Log) Cut(name string, p int32, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, pt, err := l.partition(name, p)
	if err != nil {
		panic(err)
	}
	pt.records = pt.records[:end-pt.start]
}

func (l *Log) partition(name string, p int32) (*topic, *partition, error) {
	t := l.topics[name]
	if t == nil {
		return nil, nil, fmt.Errorf("%w: %s", stream.ErrUnknownTopic, name)
	}
	if p < 0 || int(p) >= len(t.partitions) {
		return nil, nil, fmt.Errorf("%w: %s has no partition %d", stream.ErrUnknownTopic, name, p)
	}
	return t, t.partitions[p], nil
}

// Topics describes the named topics.
func (l *Log) Topics(_ context.Context, names ...string) (map[string]stream.TopicInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	infos := map[string]stream.TopicInfo{}
	for _, n := range names {
		t := l.topics[n]
		if t == nil {
			return nil, fmt.Errorf("%w: %s", stream.ErrUnknownTopic, n)
		}
		infos[n] = t.info
	}
	return infos, nil
}

// Bounds returns the first offset and the one after the last.
func (l *Log) Bounds(_ context.Context, name string, p int32) (int64, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, pt, err := l.partition(name, p)
	if err != nil {
		return 0, 0, err
	}
	return pt.start, pt.end(), nil
}

// Open starts reading at offset.
func (l *Log) Open(_ context.Context, name string, p int32, offset int64) (stream.Cursor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, _, err := l.partition(name, p); err != nil {
		return nil, err
	}
	return &cursor{log: l, topic: name, partition: p, next: offset}, nil
}

type cursor struct {
	log       *Log
	topic     string
	partition int32
	next, hi  int64
	arena     []byte
	headers   []stream.Header
	records   []stream.Record
}

func (c *cursor) Next() int64  { return c.next }
func (c *cursor) End() int64   { return c.hi }
func (c *cursor) Close() error { return nil }

func (c *cursor) Fetch(ctx context.Context, maxBytes int, wait time.Duration) ([]stream.Record, error) {
	var timeout <-chan time.Time
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		records, grown, err := c.take(maxBytes)
		if err != nil || len(records) > 0 {
			return records, err
		}
		if wait <= 0 { // without a timer: of very many in virtual time the race detector of Go 1.26 dies
			return nil, nil
		}
		if timeout == nil {
			t := time.NewTimer(wait)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-grown:
		case <-timeout:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *cursor) take(maxBytes int) ([]stream.Record, <-chan struct{}, error) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	_, pt, err := c.log.partition(c.topic, c.partition)
	if err != nil {
		return nil, nil, err
	}
	if c.next < pt.start || c.next > pt.end() {
		return nil, nil, fmt.Errorf("fetch %s %d at %d, log holds %d to %d: %w", c.topic, c.partition, c.next, pt.start, pt.end(), stream.ErrOffsetOutOfRange)
	}
	c.hi = pt.end()
	for i := range c.arena {
		c.arena[i] = '#'
	}
	c.arena, c.headers, c.records = c.arena[:0], c.headers[:0], c.records[:0]
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		n := len(c.arena)
		c.arena = append(c.arena, b...)
		return c.arena[n:len(c.arena):len(c.arena)]
	}
	bytes := 0
	for _, r := range pt.records[c.next-pt.start:] {
		if bytes += len(r.Key) + len(r.Value); bytes > maxBytes && len(c.records) > 0 {
			break
		}
		n := len(c.headers)
		for _, h := range r.Headers {
			c.headers = append(c.headers, stream.Header{Key: h.Key, Value: keep(h.Value)})
		}
		r.Key, r.Value, r.Headers = keep(r.Key), keep(r.Value), c.headers[n:len(c.headers):len(c.headers)]
		c.records = append(c.records, r)
		c.next = r.Offset + 1
	}
	return c.records, pt.grown, nil
}

// Producer returns a producer whose appends are acknowledged at once.
func (l *Log) Producer(context.Context) (stream.Producer, error) { return producer{l}, nil }

type producer struct{ log *Log }

func (p producer) Close() error { return nil }

func (p producer) Produce(ctx context.Context, name string, pt int32, messages []stream.Message) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return p.log.append(name, pt, messages)
}

// group is one consumer group. A rebalance cancels every member's work and waits until all of it has returned.
type group struct {
	generation  int
	rebalancing bool
	members     []*member
	offsets     map[string]map[int32]int64
	changed     chan struct{} // closed when a generation begins
}

type member struct {
	of         int32 // partitions of the topic
	ready      bool  // has no work running and waits for a generation
	generation int
	partitions []int32
	cancel     context.CancelFunc // ends the work of the generation
}

func (l *Log) group(name string) *group {
	g := l.groups[name]
	if g == nil {
		g = &group{offsets: map[string]map[int32]int64{}, changed: make(chan struct{})}
		l.groups[name] = g
	}
	return g
}

// rebalance ends the generation; the next begins when every member is ready.
func (g *group) rebalance() {
	g.rebalancing = true
	for _, m := range g.members {
		if m.cancel != nil {
			m.cancel()
		}
	}
}

// settle begins a generation if every member is ready.
func (g *group) settle() {
	if !g.rebalancing || slices.ContainsFunc(g.members, func(m *member) bool { return !m.ready }) {
		return
	}
	g.generation++
	g.rebalancing = false
	n := int32(len(g.members))
	for i, m := range g.members {
		m.ready, m.generation, m.partitions = false, g.generation, nil
		for p := int32(i) * m.of / n; p < int32(i+1)*m.of/n; p++ {
			m.partitions = append(m.partitions, p)
		}
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// Consume joins the group; see stream.Log.
func (l *Log) Consume(ctx context.Context, name, topic string, work func(context.Context, stream.Assignment)) error {
	l.mu.Lock()
	if l.topics[topic] == nil {
		l.mu.Unlock()
		return fmt.Errorf("%w: %s", stream.ErrUnknownTopic, topic)
	}
	partitions := l.topics[topic].info.Partitions
	g := l.group(name)
	m := &member{of: partitions}
	l.mu.Unlock()

	for ctx.Err() == nil {
		l.mu.Lock()
		if !slices.Contains(g.members, m) { // at first, and after Expel
			g.members = append(g.members, m)
			g.rebalance()
		}
		m.ready = true
		before := m.generation
		g.settle()
		for m.generation == before && ctx.Err() == nil {
			changed := g.changed
			l.mu.Unlock()
			select {
			case <-changed:
			case <-ctx.Done():
			}
			l.mu.Lock()
		}
		if ctx.Err() != nil {
			l.mu.Unlock()
			break
		}
		gctx, cancel := context.WithCancel(ctx)
		m.cancel = cancel
		if g.rebalancing { // the next rebalance began before we woke up
			cancel()
		}
		mine, generation := m.partitions, m.generation
		l.mu.Unlock()

		var running sync.WaitGroup
		for _, p := range mine {
			running.Go(func() {
				a := &assignment{l, g, m, generation, p}
				for gctx.Err() == nil {
					work(gctx, a)
				}
			})
		}
		<-gctx.Done()
		running.Wait()
		cancel()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(g.members, m); i >= 0 {
		g.members = slices.Delete(g.members, i, i+1)
		g.rebalance()
		g.settle()
	}
	return nil
}

// Expel takes the member behind an assignment out of its group without telling it, as a session timeout does to a
// frozen process: its partitions go to the others while its work goes on. readmit ends that work, and the member joins
// again.
func (l *Log) Expel(a stream.Assignment) (readmit func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, m := a.(*assignment).group, a.(*assignment).member
	if i := slices.Index(g.members, m); i >= 0 {
		g.members = slices.Delete(g.members, i, i+1)
		g.rebalance()
		g.settle()
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if m.generation == a.(*assignment).generation {
			m.cancel()
		}
	}
}

// Offsets returns the group's stored offsets of a topic by partition.
func (l *Log) Offsets(group, topic string) map[int32]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.group(group).offsets[topic])
}

type assignment struct {
	log        *Log
	group      *group
	member     *member
	generation int
	partition  int32
}

func (a *assignment) Partition() int32 { return a.partition }

func (a *assignment) current() error {
	if a.group.generation != a.generation || !slices.Contains(a.group.members, a.member) {
		return fmt.Errorf("generation %d is over", a.generation)
	}
	return nil
}

func (a *assignment) Confirm(ctx context.Context) error {
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	if err := a.current(); err != nil {
		return err
	}
	if a.group.rebalancing {
		return fmt.Errorf("generation %d is ending", a.generation)
	}
	return ctx.Err()
}

func (a *assignment) Hinted(_ context.Context, topic string) (int64, error) {
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	if o, ok := a.group.offsets[topic][a.partition]; ok {
		return o, nil
	}
	return -1, nil
}

func (a *assignment) Hint(_ context.Context, offsets map[string]int64) error {
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	if err := a.current(); err != nil {
		return err
	}
	for topic, o := range offsets {
		if a.group.offsets[topic] == nil {
			a.group.offsets[topic] = map[int32]int64{}
		}
		a.group.offsets[topic][a.partition] = o
	}
	return nil
}
