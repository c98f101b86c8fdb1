package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/profiler"
)

// Whatever is stored says of which version it is, and a program that does not know it says so, and what to do. The runtime's
// own codecs are held to the same in pkg/stream and pkg/redis.
func TestStatesOfAnUnknownVersionAreRefused(t *testing.T) {
	own, err := profiler.Job(profiler.Config{DefaultZone: "UTC"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		written []byte
		read    func([]byte) error
	}{
		"profile":              {new(timing.Profile).Append(nil), func(b []byte) error { return new(timing.Profile).Decode(b) }},
		"profiler's partition": {own.Partition.Append(nil, new(profiler.Partition)), func(b []byte) error { return own.Partition.Decode(b, new(profiler.Partition)) }},
		"memory of deviations": {new(deviation.Memory).Append(nil), func(b []byte) error { return new(deviation.Memory).Decode(b) }},
		"requests and sends":   {new(decision.State).Append(nil), func(b []byte) error { return new(decision.State).Decode(b) }},
		"audiences":            {new(decision.Audiences).Append(nil), func(b []byte) error { return new(decision.Audiences).Decode(b) }},
	} {
		if err := c.read(c.written); err != nil {
			t.Errorf("%s: its own version: %v", name, err)
		}
		for _, version := range []byte{0, c.written[0] + 1, 255} {
			b := append([]byte{version}, c.written[1:]...)
			err := c.read(b)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d is unknown", version)) || !strings.Contains(err.Error(), "docs/operations.md") {
				t.Errorf("%s of version %d: %v", name, version, err)
			}
		}
	}
}

func TestRollingUpgradeAndRollback(t *testing.T) {
	brokers, store := embedded(t)
	rollingUpgrade(t, brokers, store)
}

func TestRealRollingUpgradeAndRollback(t *testing.T) {
	brokers, store := onRealOnes(t)
	rollingUpgrade(t, brokers, store)
}

// diary is the state of the service that is upgraded: what came, in order.
type diary struct{ entries []string }

// versionOf declares the service as its version writes states: it reads its own and all before.
func versionOf(version byte) stream.Job[string, diary, struct{}] {
	return stream.Job[string, diary, struct{}]{
		Service: "diary", Inputs: []stream.Input{{Topic: "in"}}, Outputs: []string{"out"},
		Decode: func(r *stream.Record, in *string) (stream.Cause, error) {
			*in = string(r.Value)
			return stream.Cause{ID: *in, Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *diary, _ *struct{}, in *string) error {
			s.entries = append(s.entries, *in)
			c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: c.Key(), Data: fmt.Appendf(nil, "%q", *in)})
			return nil
		},
		State: stream.Codec[diary]{
			Append: func(dst []byte, s *diary) []byte {
				return append(append(dst, version), strings.Join(s.entries, " ")...)
			},
			Decode: func(b []byte, s *diary) error {
				if b[0] > version {
					return fmt.Errorf("diary: version %d is unknown to this program, which reads versions 1 to %d", b[0], version)
				}
				s.entries = strings.Fields(string(b[1:]))
				return nil
			},
		},
	}
}

// alarms is an observer that knows which partitions stand still.
type alarms struct {
	mu       sync.Mutex
	standing map[int32]string
}

func (*alarms) Owned(int32, bool)          {}
func (*alarms) Takeover(int32, string)     {}
func (*alarms) Retry(int32, string, error) {}
func (*alarms) Batch(*stream.Report)       {}
func (a *alarms) Alarm(p int32, kind string, raised bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if raised {
		a.standing[p] = kind
	} else {
		delete(a.standing, p)
	}
}

func (a *alarms) now() map[int32]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.standing)
}

// rollingUpgrade replaces one member of a group after the other, goes back, rebuilds, and goes forth again. While the old version meets
// states of the new one it stands still on these partitions, with an alarm, and harms nothing; what it can read goes on.
func rollingUpgrade(t *testing.T, brokers, storeAddr string) {
	const partitions, keys = 4, 20
	run := stream.Run{ID: fmt.Sprint("u", time.Now().UnixNano()), Simulated: true}
	open := func() *kafka.Log {
		log, err := kafka.Open(t.Context(), kafka.Config{Brokers: strings.Split(brokers, ",")}, kafka.Logger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		return log
	}
	log := open()
	defer log.Close()
	for _, name := range []string{"in", "in.dlq", "out"} {
		if err := log.Create(t.Context(), run.Topic(name), partitions, -1, nil); err != nil {
			t.Fatal(err)
		}
	}
	store, err := redis.Open(t.Context(), redis.Config{Addr: storeAddr})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	member := func(version byte) (*alarms, func()) {
		seen := &alarms{standing: map[int32]string{}}
		own := open()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- stream.Process(ctx, versionOf(version), stream.Runtime{Log: own, Store: store, Run: run, Observer: seen})
		}()
		var once sync.Once
		stop := func() {
			once.Do(func() {
				cancel()
				if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("version %d: %v", version, err)
				}
				own.Close()
			})
		}
		t.Cleanup(stop)
		return seen, stop
	}

	w, err := kafka.NewWriter(t.Context(), log, run)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	want := map[string][]string{}
	ends := map[int32]int64{}
	round := 0
	write := func() {
		t.Helper()
		round++
		var msgs []stream.Message
		for k := range keys {
			key, id := fmt.Sprint("k", k), fmt.Sprintf("%d-k%d", round, k)
			want[key] = append(want[key], id)
			ends[stream.Partition([]byte(key), partitions)]++
			msgs = append(msgs, stream.Message{Key: []byte(key), Value: []byte(id)})
		}
		if err := w.WriteAll(t.Context(), "in", msgs); err != nil {
			t.Fatal(err)
		}
	}
	at := func(p int32) int64 {
		snap, err := store.Read(t.Context(), run.Group("diary"), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		return snap.Positions["in"]
	}
	held := func(p int32) map[string]string { // what is stored, by key
		all := map[string]string{}
		if err := store.Scan(t.Context(), run.Group("diary"), p, func(k string, v []byte) bool { all[k] = string(v); return true }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	upgraded := func() (list []int32) {
		for p := range int32(partitions) {
			if slices.ContainsFunc(slices.Collect(maps.Values(held(p))), func(v string) bool { return v[0] == 2 }) {
				list = append(list, p)
			}
		}
		return list
	}
	drained := func(but ...int32) bool {
		for p, end := range ends {
			if !slices.Contains(but, p) && at(p) != end {
				return false
			}
		}
		return true
	}

	_, stopA := member(1)
	old, stopB := member(1)
	write()
	eventually(t, "version 1 does not get through", func() bool { return drained() })
	stopA()
	_, stopNew := member(2) // side by side with the other old one
	eventually(t, "version 2 gets no partition", func() bool { write(); return len(upgraded()) > 0 })
	eventually(t, "they do not get through side by side", func() bool { return drained() || len(old.now()) > 0 })
	stopNew() // back: the old one gets everything
	mixed := upgraded()
	was := map[int32]map[string]string{}
	positions := map[int32]int64{}
	for _, p := range mixed {
		was[p], positions[p] = held(p), at(p)
	}
	write()
	eventually(t, "the old version does not stand still on states of the new one", func() bool { return len(old.now()) == len(mixed) })
	eventually(t, "what the old version can read does not go on", func() bool { return drained(mixed...) })
	for _, p := range mixed {
		if old.now()[p] != stream.AlarmStep || !maps.Equal(held(p), was[p]) || at(p) != positions[p] {
			t.Errorf("partition %d: alarm %q; states or positions have changed", p, old.now()[p])
		}
	}
	// Or back for good, as docs/operations.md has it: the old version rebuilds what it cannot read.
	r := goredis.NewClient(&goredis.Options{Addr: storeAddr})
	defer r.Close()
	for _, p := range mixed {
		if n, err := r.Unlink(t.Context(), fmt.Sprintf("{%s.%d}:meta", run.Group("diary"), p)).Result(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	eventually(t, "the old version does not rebuild what it cannot read", func() bool { return drained() && len(upgraded()) == 0 })
	write()
	eventually(t, "the old version does not go on", func() bool { return drained() })

	_, stopNew = member(2) // forth again
	stopB()
	write()
	eventually(t, "version 2 does not get through", func() bool { return drained() })
	stopNew()

	for k, entries := range want {
		b := held(stream.Partition([]byte(k), partitions))[k]
		if b[1:] != strings.Join(entries, " ") {
			t.Errorf("%s holds %q, want %q", k, b[1:], entries)
		}
	}
	// Consumers take each output once, in order: by position, as the runtime does.
	got, last := map[string][]string{}, map[string]string{}
	if err := kafka.Range(t.Context(), log, run.Topic("out"), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(bytes.Clone(r.Value))
		if err == nil && e.Sequence > last[e.Source] {
			last[e.Source] = e.Sequence
			got[e.Subject] = append(got[e.Subject], strings.Trim(string(e.Data), `"`))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for k, entries := range want {
		if !slices.Equal(got[k], entries) {
			t.Errorf("of %s came out %q, want %q", k, got[k], entries)
		}
	}
}
