package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// LogHarness says how the suite gets at a Log.
type LogHarness struct {
	// Open returns a client of the one log that all of a test's clients share.
	Open func(t *testing.T) stream.Log
	// Create adds a topic and returns when it can be used.
	Create func(t *testing.T, topic string, info stream.TopicInfo)
	// Truncate drops the records below start, as retention does. nil: those tests are skipped.
	Truncate func(t *testing.T, topic string, partition int32, start int64)
}

// TestLog is what every stream.Log must pass. It uses topics and groups with random names and leaves them behind.
func TestLog(t *testing.T, h LogHarness) {
	for _, c := range []struct {
		name string
		run  func(f *logFixture)
	}{
		{"topics are described, and one that does not exist is named", func(f *logFixture) {
			infos, err := f.Topics(f.ctx, f.topic)
			if err != nil || infos[f.topic].Partitions != 4 || infos[f.topic].MaxMessageBytes != 1<<20 {
				f.Errorf("%+v, %v", infos, err)
			}
			missing := f.topic + "-missing"
			if _, err := f.Topics(f.ctx, f.topic, missing); !errors.Is(err, stream.ErrUnknownTopic) || !strings.Contains(err.Error(), missing) {
				f.Errorf("a missing topic: %v", err)
			}
		}},
		{"a record comes back with key, value, headers and the time it was given, in milliseconds", func(f *logFixture) {
			at := time.Date(2026, 3, 29, 1, 59, 59, 123_456_789, time.UTC)
			in := []stream.Message{
				{Key: []byte("k\x00"), Value: []byte("v\xff\n"), Time: at, Headers: []stream.Header{{Key: "source", Value: []byte("/x")}, {Key: "empty", Value: nil}, {Key: "source", Value: []byte("again")}}},
				{Key: nil, Value: []byte("no key, an earlier time"), Time: at.Add(-time.Hour)},
				{Key: []byte("tombstone"), Value: nil, Time: at},
			}
			if base := f.produce(1, in...); base != 0 {
				f.Errorf("the first offset is %d", base)
			}
			if base := f.produce(1, stream.Message{Value: []byte("now")}); base != 3 {
				f.Errorf("the fourth offset is %d", base)
			}
			got := f.read(1, 0, 4)
			for i, m := range in {
				r := got[i]
				if r.Topic != f.topic || r.Partition != 1 || r.Offset != int64(i) || !bytes.Equal(r.Key, m.Key) || !bytes.Equal(r.Value, m.Value) ||
					!r.Time.Equal(m.Time.Truncate(time.Millisecond)) || r.Time.Location() != time.UTC || len(r.Headers) != len(m.Headers) {
					f.Errorf("record %d: %+v", i, r)
					continue
				}
				for j, hd := range m.Headers {
					if r.Headers[j].Key != hd.Key || !bytes.Equal(r.Headers[j].Value, hd.Value) {
						f.Errorf("record %d header %d: %+v", i, j, r.Headers[j])
					}
				}
			}
			if got[1].Key != nil || got[2].Value != nil {
				f.Errorf("nil became empty: key %v, value %v", got[1].Key, got[2].Value)
			}
			if age := time.Since(got[3].Time); age < -time.Minute || age > time.Hour {
				f.Errorf("a record without time got %v", got[3].Time)
			}
		}},
		{"reading may begin inside a stored batch", func(f *logFixture) {
			f.produce(0, numbered(0, 200)...)
			for _, from := range []int64{0, 1, 37, 199} {
				if r := f.read(0, from, int(200-from)); r[0].Offset != from || string(r[0].Value) != fmt.Sprint(from) {
					f.Errorf("from %d: first is %d %q", from, r[0].Offset, r[0].Value)
				}
			}
		}},
		{"at the log's end a fetch waits, gives nothing, and goes on with what comes", func(f *logFixture) {
			c := f.open(2, 0)
			for i := range 5 {
				r, err := c.Fetch(f.ctx, 1<<20, 20*time.Millisecond)
				if err != nil || len(r) != 0 || c.End() != int64(i) || c.Next() != int64(i) {
					f.Fatalf("at the end: %d records, next %d, end %d, %v", len(r), c.Next(), c.End(), err)
				}
				f.produce(2, numbered(i, 1)...)
				if got := f.readOn(c, 1); got[0].Offset != int64(i) || string(got[0].Value) != fmt.Sprint(i) {
					f.Fatalf("after the end: %+v", got[0])
				}
			}
		}},
		{"a fetch that waits is woken by a record", func(f *logFixture) {
			c := f.open(0, 0)
			done := make(chan error, 1)
			go func() {
				r, err := c.Fetch(f.ctx, 1<<20, time.Hour)
				if err == nil && len(r) != 1 {
					err = fmt.Errorf("%d records", len(r))
				}
				done <- err
			}()
			f.produce(0, numbered(0, 1)...)
			if err := <-done; err != nil {
				f.Error(err)
			}
		}},
		{"readers racing a writer miss and repeat nothing", func(f *logFixture) {
			const n = 3000
			var readers sync.WaitGroup
			for range 3 {
				readers.Go(func() {
					c := f.open(3, 0)
					defer c.Close()
					for next := int64(0); next < n; {
						rs, err := c.Fetch(f.ctx, 8<<10, 100*time.Millisecond)
						if err != nil {
							f.Errorf("fetch at %d: %v", next, err)
							return
						}
						for _, r := range rs {
							if r.Offset != next || string(r.Value) != fmt.Sprint(next) {
								f.Errorf("at %d came %d %q", next, r.Offset, r.Value)
								return
							}
							next++
						}
					}
				})
			}
			p := f.producer()
			for i := 0; i < n; {
				k := min(1+rand.IntN(7), n-i)
				if _, err := p.Produce(f.ctx, f.topic, 3, numbered(i, k)); err != nil {
					f.Fatal(err)
				}
				i += k
			}
			readers.Wait()
		}},
		{"a fetch gives about what it was asked for, and a record larger than that all the same", func(f *logFixture) {
			big := bytes.Repeat([]byte("x"), 900<<10)
			f.produce(0, stream.Message{Value: big})
			f.produce(0, numbered(1, 1)...)
			f.produce(0, stream.Message{Value: big})
			c := f.open(0, 0)
			rs, err := c.Fetch(f.ctx, 1000, time.Minute)
			for err == nil && len(rs) == 0 {
				rs, err = c.Fetch(f.ctx, 1000, time.Minute)
			}
			if err != nil || !bytes.Equal(rs[0].Value, big) {
				f.Fatalf("%d records, %v", len(rs), err)
			}
			if c.Next() == 3 {
				f.Error("asked for 1,000 bytes, got 1.8 MB")
			}
			if rest := f.readOn(c, 3-int(c.Next())); len(rest[len(rest)-1].Value) != len(big) {
				f.Error("the last record is not the large one")
			}
		}},
		{"a position that the log does not hold is an error, never another position", func(f *logFixture) {
			f.produce(0, numbered(0, 10)...)
			outside := func(from int64) {
				f.Helper()
				c, err := f.Log.Open(f.ctx, f.topic, 0, from)
				if err == nil {
					defer c.Close()
					var r []stream.Record
					if r, err = c.Fetch(f.ctx, 1<<20, 10*time.Millisecond); err == nil {
						f.Errorf("from %d: %d records and no error", from, len(r))
					}
				}
				if !errors.Is(err, stream.ErrOffsetOutOfRange) {
					f.Errorf("from %d: %v", from, err)
				}
			}
			outside(11)
			if h.Truncate == nil {
				return
			}
			h.Truncate(f.T, f.topic, 0, 4)
			outside(3)
			if r := f.read(0, 4, 6); r[0].Offset != 4 {
				f.Errorf("first is %d", r[0].Offset)
			}
		}},
		{"bounds are those of what is retained", func(f *logFixture) {
			bounds := func(wantStart, wantEnd int64) {
				f.Helper()
				if s, e, err := f.Bounds(f.ctx, f.topic, 0); s != wantStart || e != wantEnd || err != nil {
					f.Errorf("bounds %d %d %v, want %d %d", s, e, err, wantStart, wantEnd)
				}
			}
			bounds(0, 0)
			f.produce(0, numbered(0, 10)...)
			bounds(0, 10)
			if h.Truncate != nil {
				h.Truncate(f.T, f.topic, 0, 10)
				bounds(10, 10)
			}
		}},
		{"a record that the topic refuses is an error, and a new producer goes on", func(f *logFixture) {
			p := f.producer()
			ctx, cancel := context.WithTimeout(f.ctx, 20*time.Second)
			defer cancel()
			_, err := p.Produce(ctx, f.topic, 0, []stream.Message{{Value: bytes.Repeat([]byte("x"), 1<<20+1000)}})
			if err == nil || ctx.Err() != nil {
				f.Errorf("a record of more than max.message.bytes: %v", err)
			}
			f.produce(0, numbered(0, 1)...)
			if r := f.read(0, 0, 1); string(r[0].Value) != "0" {
				f.Errorf("%q", r[0].Value)
			}
		}},
		{"one producer serves several partitions at once, each in order", func(f *logFixture) {
			p := f.producer()
			var all sync.WaitGroup
			for part := range int32(4) {
				all.Go(func() {
					for i := 0; i < 300; i += 3 {
						if base, err := p.Produce(f.ctx, f.topic, part, numbered(i, 3)); err != nil || base != int64(i) {
							f.Errorf("partition %d: base %d, want %d, %v", part, base, i, err)
							return
						}
					}
				})
			}
			all.Wait()
			for part := range int32(4) {
				for i, r := range f.read(part, 0, 300) {
					if string(r.Value) != fmt.Sprint(i) {
						f.Fatalf("partition %d offset %d holds %q", part, i, r.Value)
					}
				}
			}
		}},
		{"a fetch ends with its context", func(f *logFixture) {
			c := f.open(0, 0)
			ctx, cancel := context.WithCancel(f.ctx)
			done := make(chan error, 1)
			go func() {
				_, err := c.Fetch(ctx, 1<<20, time.Hour)
				done <- err
			}()
			cancel()
			if err := <-done; err == nil {
				f.Error("no error")
			}
		}},
		{"one member owns every partition, two share them, and never two at once", func(f *logFixture) {
			owners := newOwners(f)
			stopA, doneA := owners.join("a", f.Log)
			owners.wait(func(o map[int32]string) bool { return allOf(o, 4, "a") })
			stopB, doneB := owners.join("b", h.Open(f.T))
			owners.wait(func(o map[int32]string) bool { return len(o) == 4 && count(o, "a") == 2 && count(o, "b") == 2 })
			stopA()
			if err := <-doneA; err != nil {
				f.Errorf("leaving: %v", err)
			}
			owners.wait(func(o map[int32]string) bool { return allOf(o, 4, "b") })
			stopB()
			if err := <-doneB; err != nil {
				f.Errorf("leaving: %v", err)
			}
		}},
		{"work that returns is called again while the partition is ours", func(f *logFixture) {
			ctx, cancel := context.WithCancel(f.ctx)
			defer cancel()
			var mu sync.Mutex
			calls := map[int32]int{}
			done := make(chan error, 1)
			go func() {
				done <- f.Consume(ctx, f.group, f.topic, func(ctx context.Context, a stream.Assignment) {
					mu.Lock()
					defer mu.Unlock()
					calls[a.Partition()]++
					if len(calls) == 4 && calls[0] > 1 && calls[1] > 1 && calls[2] > 1 && calls[3] > 1 {
						cancel()
					}
				})
			}()
			if err := <-done; err != nil || f.ctx.Err() != nil {
				f.Errorf("%v, calls %v", err, calls)
			}
		}},
		{"hints are kept by the group, and an assignment can be confirmed", func(f *logFixture) {
			other := f.create(4)
			once := func(work func(ctx context.Context, a stream.Assignment) error) {
				f.Helper()
				ctx, cancel := context.WithCancel(f.ctx)
				defer cancel()
				failed := make(chan error, 4)
				if err := f.Consume(ctx, f.group, f.topic, func(wctx context.Context, a stream.Assignment) {
					if a.Partition() == 2 {
						failed <- work(wctx, a)
						cancel()
					}
					<-wctx.Done()
				}); err != nil {
					f.Fatal(err)
				}
				if err := <-failed; err != nil {
					f.Fatal(err)
				}
			}
			hinted := func(ctx context.Context, a stream.Assignment, topic string, want int64) error {
				got, err := a.Hinted(ctx, topic)
				if err == nil && got != want {
					err = fmt.Errorf("hint of %s is %d, want %d", topic, got, want)
				}
				return err
			}
			once(func(ctx context.Context, a stream.Assignment) error {
				return errors.Join(a.Confirm(ctx), hinted(ctx, a, f.topic, -1), hinted(ctx, a, other, -1),
					a.Hint(ctx, map[string]int64{f.topic: 7, other: 9}), hinted(ctx, a, f.topic, 7), a.Hint(ctx, map[string]int64{f.topic: 8}))
			})
			once(func(ctx context.Context, a stream.Assignment) error {
				return errors.Join(a.Confirm(ctx), hinted(ctx, a, f.topic, 8), hinted(ctx, a, other, 9))
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			t.Cleanup(cancel)
			f := &logFixture{T: t, Log: h.Open(t), h: h, ctx: ctx, group: fmt.Sprintf("test.%x", rand.Uint64())}
			f.topic = f.create(4)
			c.run(f)
		})
	}
}

type logFixture struct {
	*testing.T
	stream.Log
	h            LogHarness
	ctx          context.Context
	topic, group string
}

func (f *logFixture) create(partitions int32) string {
	topic := fmt.Sprintf("test.%x", rand.Uint64())
	f.h.Create(f.T, topic, stream.TopicInfo{Partitions: partitions, MaxMessageBytes: 1 << 20})
	return topic
}

func (f *logFixture) producer() stream.Producer {
	f.Helper()
	p, err := f.Producer(f.ctx)
	if err != nil {
		f.Fatalf("producer: %v", err)
	}
	f.Cleanup(func() { p.Close() })
	return p
}

func (f *logFixture) produce(partition int32, messages ...stream.Message) int64 {
	f.Helper()
	base, err := f.producer().Produce(f.ctx, f.topic, partition, messages)
	if err != nil {
		f.Fatalf("produce: %v", err)
	}
	return base
}

func (f *logFixture) open(partition int32, from int64) stream.Cursor {
	f.Helper()
	c, err := f.Log.Open(f.ctx, f.topic, partition, from)
	if err != nil {
		f.Fatalf("open at %d: %v", from, err)
	}
	f.Cleanup(func() { c.Close() })
	return c
}

// read returns copies of n records from an offset on.
func (f *logFixture) read(partition int32, from int64, n int) []stream.Record {
	f.Helper()
	return f.readOn(f.open(partition, from), n)
}

func (f *logFixture) readOn(c stream.Cursor, n int) []stream.Record {
	f.Helper()
	var out []stream.Record
	for len(out) < n {
		rs, err := c.Fetch(f.ctx, 1<<20, 500*time.Millisecond)
		if err != nil {
			f.Fatalf("fetch after %d of %d records: %v", len(out), n, err)
		}
		for _, r := range rs {
			r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
			r.Headers = slices.Clone(r.Headers)
			for i := range r.Headers {
				r.Headers[i].Value = slices.Clone(r.Headers[i].Value)
			}
			if len(out) > 0 && r.Offset != out[len(out)-1].Offset+1 {
				f.Fatalf("after offset %d came %d", out[len(out)-1].Offset, r.Offset)
			}
			out = append(out, r)
		}
	}
	if len(out) > n {
		f.Fatalf("%d records, want %d", len(out), n)
	}
	if c.Next() != out[n-1].Offset+1 || c.End() < c.Next() {
		f.Fatalf("after offset %d: next %d, end %d", out[n-1].Offset, c.Next(), c.End())
	}
	return out
}

// numbered returns n messages whose values are the numbers from first on.
func numbered(first, n int) []stream.Message {
	m := make([]stream.Message, n)
	for i := range m {
		m[i] = stream.Message{Key: fmt.Appendf(nil, "key-%d", (first+i)%7), Value: fmt.Append(nil, first+i)}
	}
	return m
}

// owners watches who works on which partition.
type owners struct {
	f  *logFixture
	mu sync.Mutex
	by map[int32]string
	ch chan struct{}
}

func newOwners(f *logFixture) *owners {
	return &owners{f: f, by: map[int32]string{}, ch: make(chan struct{}, 1)}
}

func (o *owners) set(partition int32, who string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if who != "" && o.by[partition] != "" {
		o.f.Errorf("partition %d: %s began while %s was at work", partition, who, o.by[partition])
	}
	if o.by[partition] = who; who == "" {
		delete(o.by, partition)
	}
	select {
	case o.ch <- struct{}{}:
	default:
	}
}

func (o *owners) join(who string, log stream.Log) (stop func(), done chan error) {
	ctx, cancel := context.WithCancel(o.f.ctx)
	done = make(chan error, 1)
	go func() {
		done <- log.Consume(ctx, o.f.group, o.f.topic, func(ctx context.Context, a stream.Assignment) {
			o.set(a.Partition(), who)
			<-ctx.Done()
			o.set(a.Partition(), "")
		})
	}()
	o.f.Cleanup(cancel)
	return cancel, done
}

func (o *owners) wait(settled func(map[int32]string) bool) {
	o.f.Helper()
	for {
		o.mu.Lock()
		ok := settled(o.by)
		o.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-o.ch:
		case <-o.f.ctx.Done():
			o.f.Fatalf("the group did not settle: %v", o.by)
		}
	}
}

func count(by map[int32]string, who string) (n int) {
	for _, w := range by {
		if w == who {
			n++
		}
	}
	return n
}

func allOf(by map[int32]string, n int, who string) bool {
	return len(by) == n && count(by, who) == n
}
