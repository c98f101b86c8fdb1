package streamtest

import (
	"cmp"
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// Store is a stream.Store in memory, safe for concurrent use.
type Store struct {
	mu     sync.Mutex
	parts  map[place]*part
	tokens uint64
}

type place struct {
	group     string
	partition int32
}

type part struct {
	meta   stream.Meta
	token  uint64
	states map[string][]byte
	timers map[[2]string]time.Time // by key and id
}

func (p *part) clone() *part {
	c := &part{meta: cloneMeta(p.meta), token: p.token, states: make(map[string][]byte, len(p.states))}
	for k, v := range p.states {
		c.states[k] = slices.Clone(v)
	}
	c.timers = maps.Clone(p.timers)
	return c
}

func cloneMeta(m stream.Meta) stream.Meta {
	m.Positions = maps.Clone(m.Positions)
	m.Partition = slices.Clone(m.Partition)
	m.Broadcast = maps.Clone(m.Broadcast)
	m.Outbox = slices.Clone(m.Outbox)
	m.Rebuilding = slices.Clone(m.Rebuilding)
	m.Lost = len(m.Positions) == 0
	return m
}

// NewStore returns a store that holds nothing.
func NewStore() *Store { return &Store{parts: map[place]*part{}} }

// Lose forgets everything about a partition.
func (s *Store) Lose(group string, partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parts, place{group, partition})
}

// Snapshot remembers what the store holds of a partition. The returned function puts it back: a rollback, token and all.
func (s *Store) Snapshot(group string, partition int32) (restore func()) {
	return s.Replicate(group, partition, group)
}

// Replicate is Snapshot, but the returned function puts what was held under the name of another group, beside what has
// become of it: a replica that lags is promoted, and the old primary lives on.
func (s *Store) Replicate(group string, partition int32, as string) (promote func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := place{as, partition}
	var saved *part
	if p := s.parts[place{group, partition}]; p != nil {
		saved = p.clone()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if saved == nil {
			delete(s.parts, to)
		} else {
			s.parts[to] = saved.clone()
		}
	}
}

// Claim makes the caller the only writer; see stream.Store.
func (s *Store) Claim(_ context.Context, group string, partition int32) (stream.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := place{group, partition}
	p := s.parts[at]
	if p == nil {
		p = &part{states: map[string][]byte{}, timers: map[[2]string]time.Time{}}
		s.parts[at] = p
	}
	s.tokens++
	p.token = s.tokens
	p.meta.Epoch++
	return &lease{store: s, at: at, token: p.token, meta: cloneMeta(p.meta), positions: maps.Clone(p.meta.Positions)}, nil
}

// Read returns values and meta, unfenced.
func (s *Store) Read(_ context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[place{group, partition}]
	snap := stream.Snapshot{Values: make([][]byte, len(keys))}
	if p == nil {
		snap.Lost = true
		return snap, nil
	}
	snap.Meta = cloneMeta(p.meta)
	for i, k := range keys {
		snap.Values[i] = slices.Clone(p.states[k])
	}
	return snap, nil
}

// Peek returns values and the small part of meta, unfenced.
func (s *Store) Peek(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	snap, err := s.Read(ctx, group, partition, keys)
	snap.Partition, snap.Broadcast, snap.Outbox = nil, nil, nil
	return snap, err
}

// Scan visits every key in the order of keys.
func (s *Store) Scan(_ context.Context, group string, partition int32, each func(string, []byte) bool) error {
	s.mu.Lock()
	p := s.parts[place{group, partition}]
	if p != nil {
		p = p.clone()
	}
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(p.states)) {
		if !each(k, p.states[k]) {
			return nil
		}
	}
	return nil
}

// Page shows some of the states to whoever asks.
func (s *Store) Page(_ context.Context, group string, partition int32, cursor uint64, limit int) (keys []string, values [][]byte, next uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[place{group, partition}]
	if p == nil {
		return nil, nil, 0, nil
	}
	keys, values, next = p.page(cursor, limit)
	return keys, values, next, nil
}

type lease struct {
	store     *Store
	at        place
	token     uint64
	meta      stream.Meta
	positions map[string]int64
}

// Late is the right that a lease of a Store gives, for a request that arrives late: the answer reaches nobody, so that the lease
// itself learns nothing from it.
func Late(of stream.Lease) stream.Lease {
	l := *of.(*lease)
	l.positions = maps.Clone(l.positions)
	return &l
}

func (l *lease) Meta() stream.Meta { return l.meta }
func (l *lease) Close() error      { return nil }

// check returns the partition if it is still the caller's.
func (l *lease) check() (*part, error) {
	p := l.store.parts[l.at]
	switch {
	case p == nil:
		return nil, stream.ErrLost
	case p.token != l.token:
		return nil, stream.ErrFenced
	}
	return p, nil
}

func (l *lease) Check(context.Context) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	p, err := l.check()
	if err == nil && !maps.Equal(p.meta.Positions, l.positions) {
		err = stream.ErrOffset
	}
	return err
}

func (l *lease) Due(_ context.Context, until time.Time, limit int) (due []stream.Timer, next time.Time, err error) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	p, err := l.check()
	if err != nil {
		return nil, next, err
	}
	if !maps.Equal(p.meta.Positions, l.positions) {
		return nil, next, stream.ErrOffset
	}
	all := p.pending()
	n := 0
	for n < len(all) && n < limit && !all[n].Due.After(until) {
		n++
	}
	if n < len(all) {
		next = all[n].Due
	}
	return all[:n], next, nil
}

func (l *lease) Load(_ context.Context, keys []string, values [][]byte) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	p, err := l.check()
	if err != nil {
		return err
	}
	if !maps.Equal(p.meta.Positions, l.positions) {
		return stream.ErrOffset
	}
	for i, k := range keys {
		values[i] = slices.Clone(p.states[k])
	}
	return nil
}

// Page is that of the owner.
func (l *lease) Page(_ context.Context, cursor uint64, limit int) (keys []string, values [][]byte, next uint64, err error) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	p, err := l.check()
	if err != nil {
		return nil, nil, 0, err
	}
	if !maps.Equal(p.meta.Positions, l.positions) {
		return nil, nil, 0, stream.ErrOffset
	}
	keys, values, next = p.page(cursor, limit)
	return keys, values, next, nil
}

// page goes through the keys in the order of their hashes, so that keys that come and go move no others from page to page.
func (p *part) page(cursor uint64, limit int) (keys []string, values [][]byte, next uint64) {
	hash := func(k string) uint64 {
		h := fnv.New64a()
		h.Write([]byte(k))
		return max(1, h.Sum64())
	}
	all := slices.SortedFunc(maps.Keys(p.states), func(a, b string) int { return cmp.Compare(hash(a), hash(b)) })
	for _, k := range all {
		if hash(k) < cursor {
			continue
		}
		if len(keys) >= limit && hash(k) != hash(keys[len(keys)-1]) {
			return keys, values, hash(k)
		}
		keys, values = append(keys, k), append(values, slices.Clone(p.states[k]))
	}
	return keys, values, 0
}

func (l *lease) Commit(_ context.Context, c *stream.Commit) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	p, err := l.check()
	if err != nil {
		return err
	}
	if maps.Equal(p.meta.Positions, c.Next) && !maps.Equal(c.Base, c.Next) {
		l.positions = maps.Clone(c.Next)
		return nil
	}
	if !maps.Equal(p.meta.Positions, c.Base) {
		return stream.ErrOffset
	}
	for i, k := range c.Keys {
		p.states[k] = slices.Clone(c.Values[i])
	}
	for _, k := range c.Gone {
		delete(p.states, k)
	}
	for _, t := range c.Timers {
		if name := [2]string{t.Key, t.ID}; t.Due.IsZero() {
			delete(p.timers, name)
		} else {
			p.timers[name] = t.Due
		}
	}
	m := &p.meta
	m.Positions, m.Partitions, m.Partial = maps.Clone(c.Next), c.Partitions, c.Partial
	m.Partition, m.Outbox, m.Rebuilding = slices.Clone(c.Partition), slices.Clone(c.Outbox), slices.Clone(c.Rebuilding)
	if len(c.Broadcast) > 0 {
		b := maps.Clone(m.Broadcast)
		if b == nil {
			b = map[string][]byte{}
		}
		for topic, v := range c.Broadcast {
			b[topic] = slices.Clone(v)
		}
		m.Broadcast = b
	}
	l.positions = maps.Clone(c.Next)
	return nil
}

// Timers lists the pending timers of a partition, in order of due time, unfenced.
func (s *Store) Timers(group string, partition int32) []stream.Timer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.parts[place{group, partition}]
	if p == nil {
		return nil
	}
	return p.pending()
}

func (p *part) pending() []stream.Timer {
	all := make([]stream.Timer, 0, len(p.timers))
	for name, at := range p.timers {
		all = append(all, stream.Timer{Key: name[0], ID: name[1], Due: at})
	}
	slices.SortFunc(all, func(a, b stream.Timer) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Key, b.Key), cmp.Compare(a.ID, b.ID))
	})
	return all
}
