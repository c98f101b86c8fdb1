package stream_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// waiting is a state with a timer for each of its names.
type waiting struct{ names []string }

// waitingJob counts the names of a partition in its state.
func waitingJob() stream.Job[string, waiting, int] {
	return stream.Job[string, waiting, int]{
		Service: "waiting", Inputs: []stream.Input{{Topic: "a"}, {Topic: "models", Broadcast: true}}, Outputs: []string{"out"},
		State: stream.Codec[waiting]{
			Append: func(dst []byte, s *waiting) []byte { return append(dst, strings.Join(s.names, " ")...) },
			Decode: func(b []byte, s *waiting) error { s.names = strings.Fields(string(b)); return nil },
		},
		Partition: stream.Codec[int]{
			Append: func(dst []byte, n *int) []byte { return append(dst, byte(*n)) },
			Decode: func(b []byte, n *int) error { *n = int(b[0]); return nil },
		},
		Timers: &stream.Timers[waiting, int]{
			Topic: "ticks",
			Pending: func(s *waiting, each func(string, time.Time)) {
				for i, name := range s.names {
					each(name, time.UnixMilli(int64(1000+i)))
				}
			},
		},
	}
}

const wasPartitions, newPartitions = 3, 5

// settledRun is a run with ten keys that can be moved. change makes of partition 1 what it is to be.
func settledRun(t *testing.T, change func(*stream.Commit)) *streamtest.Store {
	t.Helper()
	store := streamtest.NewStore()
	from := stream.Run{ID: "r1"}
	for p := range int32(wasPartitions) {
		lease, err := store.Claim(t.Context(), from.Group("waiting"), p)
		if err != nil {
			t.Fatal(err)
		}
		c := &stream.Commit{Next: map[string]int64{"a": 7, "models": 1, "ticks": 2}, Partitions: wasPartitions, Broadcast: map[string][]byte{"models": []byte("m1")}}
		for k := range 10 {
			if key := fmt.Sprint("k", k); stream.Partition([]byte(key), wasPartitions) == p {
				c.Keys, c.Values = append(c.Keys, key), append(c.Values, fmt.Appendf(nil, "x%d y%d", k, k))
			}
		}
		if p == 1 && change != nil {
			change(c)
		}
		if err := lease.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		lease.Close()
	}
	return store
}

func resettling() stream.Resettling[waiting, int] {
	r := stream.Resettling[waiting, int]{
		From: stream.Run{ID: "r1"}, To: stream.Run{ID: "r2"}, Before: wasPartitions, After: newPartitions,
		Note: func(p *int, s *waiting, _ time.Time) { *p += len(s.names) },
	}
	for q := range int64(newPartitions) {
		r.Ends = append(r.Ends, map[string]int64{"a": q, "models": 1, "ticks": 10 + q})
	}
	return r
}

func TestStatesMoveWithTheirTimers(t *testing.T) {
	store := settledRun(t, func(c *stream.Commit) { c.Partial = true })
	r := resettling()
	for range 2 { // it may be repeated
		n, err := stream.Resettle(t.Context(), waitingJob(), store, r)
		if err != nil || n != 10 {
			t.Fatalf("%d states, %v", n, err)
		}
	}
	found := map[string]string{}
	for q := range int32(newPartitions) {
		var names, due []string
		if err := store.Scan(t.Context(), r.To.Group("waiting"), q, func(k string, v []byte) bool {
			found[k] = string(v)
			names = append(names, strings.Fields(string(v))...)
			if stream.Partition([]byte(k), newPartitions) != q {
				t.Errorf("%s is in partition %d", k, q)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		lease, err := store.Claim(t.Context(), r.To.Group("waiting"), q)
		if err != nil {
			t.Fatal(err)
		}
		m := lease.Meta()
		timers, _, err := lease.Due(t.Context(), time.UnixMilli(5000), 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range timers {
			due = append(due, x.ID)
		}
		lease.Close()
		slices.Sort(names)
		if slices.Sort(due); !slices.Equal(due, names) {
			t.Errorf("partition %d: timers %q, states with %q", q, due, names)
		}
		own, err := m.JobPartition()
		if err != nil || int(own[0]) != len(names) {
			t.Errorf("partition %d: it counts %v names of %d (%v)", q, own, len(names), err)
		}
		if !maps.Equal(m.Positions, r.Ends[q]) || m.Partitions != newPartitions || string(m.Broadcast["models"]) != "m1" || len(m.Outbox) > 0 || !m.Partial {
			t.Errorf("partition %d: %+v", q, m)
		}
	}
	if len(found) != 10 || found["k3"] != "x3 y3" {
		t.Errorf("moved: %v", found)
	}
	if left, err := store.Read(t.Context(), r.From.Group("waiting"), 0, nil); err != nil || left.Lost {
		t.Errorf("the old run: %+v, %v", left, err)
	}
}

func TestWhatIsUnderWayIsNotMoved(t *testing.T) {
	for says, change := range map[string]func(*stream.Commit){
		"was not left in order":    func(c *stream.Commit) { c.Outbox = []byte{1, 0} },
		"is being rebuilt":         func(c *stream.Commit) { c.Rebuilding = []byte("a=9") },
		"one of 4 partitions":      func(c *stream.Commit) { c.Partitions = 4 },
		"differ in what they have": func(c *stream.Commit) { c.Broadcast["models"] = []byte("m2") },
		"version 99 is unknown":    func(c *stream.Commit) { c.Partition = []byte{99} },
	} {
		if _, err := stream.Resettle(t.Context(), waitingJob(), settledRun(t, change), resettling()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, not %q", err, says)
		}
	}
	r := resettling()
	r.Before = wasPartitions + 1
	if _, err := stream.Resettle(t.Context(), waitingJob(), settledRun(t, nil), r); err == nil {
		t.Error("a partition of which nothing is stored was moved")
	}
	store := settledRun(t, nil)
	lease, err := store.Claim(t.Context(), stream.Run{ID: "r2"}.Group("waiting"), 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.Commit(t.Context(), &stream.Commit{Next: map[string]int64{"a": 99}, Partitions: newPartitions}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Resettle(t.Context(), waitingJob(), store, resettling()); err == nil || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("into a run that has states: %v", err)
	}
}
