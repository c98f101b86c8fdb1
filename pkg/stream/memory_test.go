package stream_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// flood is a log whose inputs hold more records than anybody could take, made when they are fetched, and which forgets what is
// produced: nothing but the runtime keeps anything.
type flood struct {
	key      func(offset int64) []byte
	value    []byte
	slow     time.Duration // of each request to produce
	produced atomic.Int64
}

const floodEnd = 1 << 40

func (f *flood) Topics(_ context.Context, names ...string) (map[string]stream.TopicInfo, error) {
	all := map[string]stream.TopicInfo{}
	for _, n := range names {
		all[n] = stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20}
	}
	return all, nil
}

func (f *flood) Consume(ctx context.Context, _, _ string, work func(context.Context, stream.Assignment)) error {
	work(ctx, floodAssignment{})
	<-ctx.Done()
	return nil
}

func (f *flood) Open(_ context.Context, topic string, _ int32, offset int64) (stream.Cursor, error) {
	return &floodCursor{f, topic, offset}, nil
}

func (f *flood) Bounds(context.Context, string, int32) (start, end int64, err error) {
	return 0, floodEnd, nil
}

func (f *flood) Producer(context.Context) (stream.Producer, error) { return f, nil }

func (f *flood) Close() error { return nil }

func (f *flood) Produce(_ context.Context, _ string, _ int32, msgs []stream.Message) (int64, error) {
	time.Sleep(f.slow)
	n := int64(len(msgs))
	return f.produced.Add(n) - n, nil
}

type floodAssignment struct{}

func (floodAssignment) Partition() int32                              { return 0 }
func (floodAssignment) Confirm(context.Context) error                 { return nil }
func (floodAssignment) Hinted(context.Context, string) (int64, error) { return -1, nil }
func (floodAssignment) Hint(context.Context, map[string]int64) error  { return nil }

type floodCursor struct {
	f     *flood
	topic string
	next  int64
}

func (c *floodCursor) Fetch(_ context.Context, maxBytes int, _ time.Duration) (records []stream.Record, err error) {
	for n := 0; n < maxBytes; c.next++ {
		k := c.f.key(c.next)
		v := append([]byte(nil), c.f.value...)
		records = append(records, stream.Record{Topic: c.topic, Offset: c.next, Time: time.UnixMilli(1_790_000_000_000 + c.next), Key: k, Value: v})
		n += len(k) + len(v)
	}
	return records, nil
}

func (c *floodCursor) Next() int64  { return c.next }
func (c *floodCursor) End() int64   { return floodEnd }
func (c *floodCursor) Close() error { return nil }

// sieve is a store that keeps everything but states.
type sieve struct{ stream.Store }

type sieveLease struct{ stream.Lease }

func (s sieve) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l, err := s.Store.Claim(ctx, group, partition)
	return sieveLease{l}, err
}

func (l sieveLease) Commit(ctx context.Context, c *stream.Commit) error {
	small := *c
	small.Keys, small.Values = nil, nil
	return l.Lease.Commit(ctx, &small)
}

// gauge measures what is in use, after a collection, every so many batches.
type gauge struct {
	recorder
	stop    context.CancelFunc
	batches int
	records int
	inUse   []int
}

func (g *gauge) Batch(r *stream.Report) {
	g.records += r.Records
	if g.batches++; g.batches%4 == 0 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		g.inUse = append(g.inUse, int(m.HeapAlloc))
	}
	if g.batches == 120 {
		g.stop()
	}
}

// TestMemoryIsBounded drains a backlog without end in four shapes. Whatever flows by, what the runtime holds stays what its
// settings say.
func TestMemoryIsBounded(t *testing.T) {
	const batch, outbox, cache = 1 << 20, 1 << 20, 4 << 20
	anyone := func(offset int64) []byte { return fmt.Appendf(nil, "customer-%012d", offset) }
	one := func(int64) []byte { return []byte("the hot one") }
	for _, c := range []struct {
		name   string
		flood  *flood
		poison bool
		inputs []stream.Input
	}{
		{"a hot key", &flood{key: one}, false, []stream.Input{{Topic: "in"}}},
		{"everybody is new", &flood{key: anyone}, false, []stream.Input{{Topic: "in"}}},
		{"every record is a dead letter", &flood{key: anyone}, true, []stream.Input{{Topic: "in"}}},
		{"three inputs, and a broker that is slow", &flood{key: anyone, slow: 2 * time.Millisecond}, false, []stream.Input{{Topic: "in"}, {Topic: "more"}, {Topic: "third"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.flood.value = make([]byte, 400)
			data := fmt.Appendf(nil, "%q", make([]byte, 100))
			job := stream.Job[int, counter, struct{}]{
				Service: "flooded", Inputs: c.inputs, Outputs: []string{"out"},
				Decode: func(r *stream.Record, _ *int) (stream.Cause, error) {
					if c.poison {
						return stream.Cause{}, stream.Permanent(errors.New("poison"))
					}
					return stream.Cause{ID: "id", Time: r.Time}, nil
				},
				Step: func(c *stream.Context, s *counter, _ *struct{}, _ *int) error {
					s.n++
					c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: "x", Data: data})
					return nil
				},
				State: stream.Codec[counter]{
					Append: func(dst []byte, s *counter) []byte { return binary.LittleEndian.AppendUint64(dst, s.n) },
					Decode: func(p []byte, s *counter) error { s.n = binary.LittleEndian.Uint64(p); return nil },
				},
			}
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			g := &gauge{stop: cancel}
			g.causes, g.raised = map[string]int{}, map[string]int{}
			err := stream.Process(ctx, job, stream.Runtime{Log: c.flood, Store: sieve{streamtest.NewStore()}, Run: stream.Run{ID: "r1"}, Observer: g,
				BatchBytes: batch, OutboxBytes: outbox, CacheBytes: cache})
			if err != nil {
				t.Fatal(err)
			}
			if len(g.inUse) < 20 || g.records < 100_000 || c.flood.produced.Load() < int64(g.records)/2 {
				t.Fatalf("%d measurements, %d records, %d produced: this proves nothing", len(g.inUse), g.records, c.flood.produced.Load())
			}
			highest := func(all []int) (h int) {
				for _, v := range all {
					h = max(h, v-int(before.HeapAlloc))
				}
				return h
			}
			half := len(g.inUse) / 2
			first, second := highest(g.inUse[:half]), highest(g.inUse[half:])
			t.Logf("%d records; in use at most %.1f MiB in the first half, %.1f MiB in the second", g.records, float64(first)/(1<<20), float64(second)/(1<<20))
			// For every input the records at hand and the next; two outboxes, what is made of one to be sent, and a copy in the store; the
			// cache, and the keys and states of the batch.
			if bound := cache + len(c.inputs)*2*batch*3/2 + 8*outbox; second > bound {
				t.Errorf("%.1f MiB are in use, more than %.1f MiB", float64(second)/(1<<20), float64(bound)/(1<<20))
			}
			if second > first+first/4+1<<20 {
				t.Errorf("what is in use grows from %.1f to %.1f MiB", float64(first)/(1<<20), float64(second)/(1<<20))
			}
		})
	}
}
