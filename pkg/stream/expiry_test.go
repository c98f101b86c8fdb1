package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// album is a state that expires: what was heard, when last, and a mark, which outlives all of it.
type album struct {
	Heard []string  `json:",omitempty"`
	Last  time.Time `json:",omitzero"`
	Mark  string    `json:",omitempty"`
}

const albumRetention = time.Hour

// albumJob quotes in its outputs everything that it knows of the key, so that what was forgotten too early or too late shows.
// A record that begins with mark sets the mark and is nothing heard.
func albumJob() stream.Job[string, album, struct{}] {
	return stream.Job[string, album, struct{}]{
		Service: "album", Inputs: []stream.Input{{Topic: "in"}}, Outputs: []string{"out"},
		Decode: func(r *stream.Record, in *string) (stream.Cause, error) {
			*in = string(r.Value)
			return stream.Cause{ID: fmt.Sprint("id-", r.Offset), Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *album, _ *struct{}, in *string) error {
			if strings.HasPrefix(*in, "refused") {
				return stream.Permanent(errors.New("refused"))
			}
			if mark, ok := strings.CutPrefix(*in, "mark"); ok {
				s.Mark = mark
			} else {
				s.Heard, s.Last = append(s.Heard, *in), c.Now()
			}
			data, err := json.Marshal(fmt.Sprint(s.Heard, s.Mark))
			c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Data: data})
			return err
		},
		State: stream.Codec[album]{
			Append: func(dst []byte, s *album) []byte { b, _ := json.Marshal(s); return append(dst, b...) },
			Decode: func(b []byte, s *album) error { return json.Unmarshal(b, s) },
		},
		Expiry: &stream.Expiry[album]{
			Expired: func(s *album, now time.Time) bool { return len(s.Heard) > 0 && now.Sub(s.Last) > albumRetention },
			Forget:  func(s *album) { s.Heard, s.Last = nil, time.Time{} },
		},
	}
}

// wobbly is a store whose operations fail at random, before they take effect or after it.
type wobbly struct {
	stream.Store
	rng *rand.Rand
}

type wobblyLease struct {
	stream.Lease
	rng *rand.Rand
}

func (s wobbly) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	l, err := s.Store.Claim(ctx, group, partition)
	return wobblyLease{l, s.rng}, err
}

func (l wobblyLease) wobble(fn func() error) error {
	switch l.rng.IntN(20) {
	case 0:
		return errors.New("not sent")
	case 1:
		_ = fn() // the reply is lost
		return errors.New("reply lost")
	}
	return fn()
}

func (l wobblyLease) Load(ctx context.Context, keys []string, values [][]byte) error {
	return l.wobble(func() error { return l.Lease.Load(ctx, keys, values) })
}

func (l wobblyLease) Commit(ctx context.Context, c *stream.Commit) error {
	if l.rng.IntN(20) == 0 { // the request is late: what is sent again may come before it
		d := *c
		d.Base, d.Next = maps.Clone(c.Base), maps.Clone(c.Next)
		d.Keys, d.Gone = slices.Clone(c.Keys), slices.Clone(c.Gone)
		d.Values = nil
		for _, v := range c.Values {
			d.Values = append(d.Values, slices.Clone(v))
		}
		d.Partition, d.Outbox = slices.Clone(c.Partition), slices.Clone(c.Outbox)
		late := streamtest.Late(l.Lease)
		time.AfterFunc(time.Duration(l.rng.IntN(3000))*time.Millisecond, func() { _ = late.Commit(context.WithoutCancel(ctx), &d) })
		return errors.New("no answer")
	}
	return l.wobble(func() error { return l.Lease.Commit(ctx, c) })
}

func (l wobblyLease) Page(ctx context.Context, cursor uint64, limit int) (keys []string, values [][]byte, next uint64, err error) {
	err = l.wobble(func() error { keys, values, next, err = l.Lease.Page(ctx, cursor, 1+l.rng.IntN(3)); return err })
	return keys, values, next, err
}

// TestWhatExpiresIsWhatTheLogSays runs a job whose states expire, with failures, restarts and rollbacks, and pages of the store
// looked at in between. Outputs and states are those of a fold, to which nobody takes anything out of a store; and in the end
// nothing is left in the store that has expired.
func TestWhatExpiresIsWhatTheLogSays(t *testing.T) {
	forgotten := 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) { forgotten += expireInTrouble(t, seed) })
	}
	if forgotten < 1000 {
		t.Errorf("only %d states were forgotten: this test proves little", forgotten)
	}
}

func expireInTrouble(t *testing.T, seed uint64) (forgotten int) {
	rng := rand.New(rand.NewPCG(seed, 7))
	log, store := streamtest.NewLog(), streamtest.NewStore()
	for _, topic := range []string{"in", "in.dlq", "out"} {
		log.Create(topic, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	}
	run := stream.Run{ID: "r1"}
	group := run.Group("album")
	seen := &recorder{record: record{raised: map[string]int{}, causes: map[string]int{}}}
	start := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		rt := stream.Runtime{Log: log, Store: wobbly{store, rand.New(rand.NewPCG(seed, rng.Uint64()))}, Run: run, Observer: seen,
			BatchRecords: 1 + rng.IntN(4), CacheBytes: 500 * (1 + rng.IntN(6)), SweepRest: time.Millisecond, ShutdownTimeout: time.Second}
		go func() { done <- stream.Process(ctx, albumJob(), rt) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	n := 0
	send := func(key, text string) {
		log.Append("in", 0, stream.Message{Key: []byte(key), Value: []byte(text), Time: at})
		n++
	}
	settle := func() {
		time.Sleep(3 * time.Second)
		synctest.Wait()
	}
	drained := func() bool {
		s, err := store.Read(t.Context(), group, 0, nil)
		return err == nil && s.Positions["in"] == int64(n) && log.Offsets(group, "in")[0] == int64(n) // and the outputs acknowledged
	}
	stop := start()
	defer func() { stop() }()
	var restore func()
	for range 60 {
		for range 1 + rng.IntN(5) {
			at = at.Add(time.Duration(rng.IntN(20)) * time.Minute)
			text := fmt.Sprint("e", n)
			switch rng.IntN(12) {
			case 0:
				text = fmt.Sprint("mark", n)
			case 1:
				text = "refused"
			}
			send(fmt.Sprint("k", rng.IntN(8)), text)
		}
		time.Sleep(time.Duration(rng.IntN(2500)) * time.Millisecond)
		switch rng.IntN(10) {
		case 0, 1:
			stop()
			stop = start()
		case 2:
			restore = store.Snapshot(group, 0)
		case 3:
			if restore != nil { // the store loses its last writes
				restore()
				restore = nil
			}
		case 4: // somebody else claims the partition, and does nothing with it
			if _, err := store.Claim(t.Context(), group, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 100 {
		if settle(); drained() {
			break
		}
	}
	if !drained() {
		t.Fatalf("seed %d: the log of %d records was not worked off", seed, n)
	}

	fold, err := stream.NewFold(albumJob(), run, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range log.Records("in", 0) {
		out, err := fold.Apply(&r)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Topic == "out" {
				want = append(want, string(o.Value))
			}
		}
	}
	have := map[string]bool{}
	for _, r := range log.Records("out", 0) {
		if !have[string(r.Value)] {
			got = append(got, string(r.Value))
		}
		have[string(r.Value)] = true
	}
	plain := func(all []string) (texts []string) { // the time of publication is not the fold's
		for _, s := range all {
			e, err := stream.ParseEvent([]byte(s))
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, e.Sequence+" "+string(e.Data))
		}
		slices.Sort(texts)
		return slices.Compact(texts)
	}
	if g, w := plain(got), plain(want); !slices.Equal(g, w) {
		t.Errorf("seed %d: outputs differ from those of the fold:\n%s\nwant\n%s", seed, strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
	now := fold.Context().Now()
	expected := map[string]string{}
	for _, key := range fold.Keys() {
		if s := alive(*fold.State(key), now); s != "{}" {
			expected[key] = s
		}
	}
	if states := stored(t, store, group, now); !maps.Equal(states, expected) {
		t.Errorf("seed %d: states %v, want %v", seed, states, expected)
	}

	// When nothing more is heard of anybody but one, only marks are left.
	at = at.Add(2 * albumRetention)
	left := map[string]string{}
	for key := range expected {
		s := *fold.State(key)
		if s.Heard, s.Last = nil, (time.Time{}); s.Mark != "" && key != "clock" {
			left[key] = alive(s, now)
		}
	}
	var raw map[string]string
	for range 60 {
		send("clock", "refused") // a state that is nothing is not kept either
		settle()
		raw = map[string]string{}
		if err := store.Scan(t.Context(), group, 0, func(key string, value []byte) bool { raw[key] = string(value); return true }); err != nil {
			t.Fatal(err)
		}
		delete(raw, "clock")
		if maps.Equal(raw, left) {
			break
		}
	}
	if !maps.Equal(raw, left) {
		t.Errorf("seed %d: in the end the store holds %v, want %v", seed, raw, left)
	}
	return seen.sum(func(r *stream.Report) int { return r.Expired })
}

// alive is a state as it counts at an instant.
func alive(s album, now time.Time) string {
	job := albumJob()
	if job.Expiry.Expired(&s, now) {
		job.Expiry.Forget(&s)
	}
	return string(job.State.Append(nil, &s))
}

func stored(t *testing.T, store *streamtest.Store, group string, now time.Time) map[string]string {
	t.Helper()
	states := map[string]string{}
	if err := store.Scan(t.Context(), group, 0, func(key string, value []byte) bool {
		var s album
		if err := json.NewDecoder(bytes.NewReader(value)).Decode(&s); err != nil {
			t.Fatal(err)
		}
		if text := alive(s, now); text != "{}" {
			states[key] = text
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return states
}

// TestExpiryIsDeclaredRightly: what cannot be kept is refused at the start.
func TestExpiryIsDeclaredRightly(t *testing.T) {
	for _, wrong := range []func(*stream.Job[string, album, struct{}]){
		func(j *stream.Job[string, album, struct{}]) { j.Expiry.Forget = nil },
		func(j *stream.Job[string, album, struct{}]) {
			j.Timers = &stream.Timers[album, struct{}]{Topic: "ticks", Pending: func(*album, func(string, time.Time)) {},
				Fire: func(*stream.Context, *album, *struct{}, string, time.Time) error { return nil }}
		},
	} {
		job := albumJob()
		wrong(&job)
		if _, err := stream.NewFold(job, stream.Run{ID: "r1"}, 0, 1); err == nil || !strings.Contains(err.Error(), "Expiry") {
			t.Errorf("got %v", err)
		}
	}
}
