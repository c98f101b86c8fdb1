package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The runtime on a broker that misbehaves: whatever requests fail, are answered too late or find no leader, every record
// is applied once and in order, and a consumer that drops what it has seen gets every output once.
func TestTheRuntimeOnABrokerThatMisbehaves(t *testing.T) {
	c, config := cluster(t, kfake.NumBrokers(3))
	every := func(key kmsg.Key, nth int64, err *kerr.Error) {
		var n atomic.Int64
		c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: -1, When: func(kmsg.Request) bool { return n.Add(1)%nth == 0 }})
	}
	runtimeStory(t, config, func(step int) {
		switch step {
		case 1:
			every(kmsg.Produce, 5, kerr.RequestTimedOut) // appended all the same
			every(kmsg.Fetch, 11, kerr.NotLeaderForPartition)
			every(kmsg.OffsetCommit, 4, kerr.CoordinatorNotAvailable)
		case 2:
			c.ShufflePartitionLeaders()
		case 3:
			every(kmsg.Heartbeat, 9, kerr.UnknownMemberID) // the coordinator has forgotten a member
			c.RehashCoordinators()
		case 4:
			every(kmsg.Produce, 7, kerr.NotLeaderForPartition) // not appended
			every(kmsg.Fetch, 13, kerr.UnknownServerError)
		}
	})
}

func TestRealRuntime(t *testing.T) {
	runtimeStory(t, realBroker(t), func(int) {})
}

// chain is a key's state: the ids applied, in order.
type chain struct{ ids []string }

// runtimeStory feeds a job step by step, with members that come and go, and checks states and outputs.
func runtimeStory(t *testing.T, config Config, disturb func(step int)) {
	const partitions, steps, each = 4, 5, 120
	l := open(t, config)
	run := stream.Run{ID: fmt.Sprint("t", time.Now().UnixNano()), Simulated: true}
	out := create(t, l, run.Topic("out"), partitions)
	create(t, l, run.Topic("in"), partitions)
	create(t, l, run.Topic("in.dlq"), partitions)
	store := streamtest.NewStore()
	job := stream.Job[string, chain, struct{}]{
		Service: "chain", Inputs: []stream.Input{{Topic: "in"}}, Outputs: []string{"out"},
		Decode: func(r *stream.Record, in *string) (stream.Cause, error) {
			*in = string(r.Value)
			return stream.Cause{ID: *in, Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *chain, _ *struct{}, in *string) error {
			s.ids = append(s.ids, *in)
			key, _, _ := strings.Cut(*in, "/")
			data, err := json.Marshal(s.ids)
			c.Emit(stream.Emission{Topic: "out", Type: "t", Prefix: "o-", Subject: key, Data: data})
			return err
		},
		State: stream.Codec[chain]{
			Append: func(dst []byte, s *chain) []byte { return append(dst, strings.Join(s.ids, " ")...) },
			Decode: func(b []byte, s *chain) error { s.ids = strings.Fields(string(b)); return nil },
		},
	}
	progress := &progress{next: map[int32]int64{}, changed: make(chan struct{}, 1)}
	member := func() (stop func()) {
		log := open(t, config)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- stream.Process(ctx, job, stream.Runtime{Log: log, Store: store, Run: run, Observer: progress, BatchRecords: 7})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Process: %v", err)
			}
		}
	}

	w, err := NewWriter(t.Context(), l, run)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	want := map[string][]string{}
	ends := map[int32]int64{}
	stop := member()
	for step := range steps {
		disturb(step)
		var messages []stream.Message
		for i := range each {
			key := fmt.Sprintf("k%d", i%9)
			id := fmt.Sprintf("%s/%d", key, step*each+i)
			want[key] = append(want[key], id)
			ends[stream.Partition([]byte(key), partitions)]++
			messages = append(messages, stream.Message{Key: []byte(key), Value: []byte(id)})
		}
		if err := w.WriteAll(within(t, time.Minute), "in", messages); err != nil {
			t.Fatal(err)
		}
		if step == 2 { // another takes over in the middle
			next := member()
			stop()
			stop = next
		}
		progress.wait(within(t, 2*time.Minute), t, ends)
	}
	stop()

	got := map[string][]string{}
	for p := range int32(partitions) {
		s, err := store.Read(t.Context(), run.Group("chain"), p, nil)
		if err != nil || s.Positions["in"] != ends[p] || len(s.Outbox) > 0 {
			t.Errorf("partition %d: position %d of %d, %d bytes in the outbox, %v", p, s.Positions["in"], ends[p], len(s.Outbox), err)
		}
		if err := store.Scan(t.Context(), run.Group("chain"), p, func(key string, value []byte) bool {
			got[key] = strings.Fields(string(value))
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("states:\n have %v\n want %v", got, want)
	}

	seen, highest := map[string]int{}, map[string]string{}
	if err := Range(within(t, time.Minute), l, out, Earliest, Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return err
		}
		if place := fmt.Sprint(r.Partition, e.Source); e.Sequence > highest[place] {
			highest[place] = e.Sequence
			seen[e.Subject]++
			if data, _ := json.Marshal(want[e.Subject][:seen[e.Subject]]); string(data) != string(e.Data) {
				return fmt.Errorf("output %d of %s: %s, want %s", seen[e.Subject], e.Subject, e.Data, data)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for key, ids := range want {
		if seen[key] != len(ids) {
			t.Errorf("%d outputs of %s, want %d", seen[key], key, len(ids))
		}
	}
}

// progress is an Observer that knows how far the partitions are.
type progress struct {
	mu      sync.Mutex
	next    map[int32]int64
	changed chan struct{}
}

func (p *progress) Owned(int32, bool)          {}
func (p *progress) Takeover(int32, string)     {}
func (p *progress) Retry(int32, string, error) {}
func (p *progress) Alarm(int32, string, bool)  {}

func (p *progress) Batch(r *stream.Report) {
	p.mu.Lock()
	p.next[r.Partition] = max(p.next[r.Partition], r.Inputs[0].Next)
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// wait returns when every partition is at its end.
func (p *progress) wait(ctx context.Context, t *testing.T, ends map[int32]int64) {
	t.Helper()
	for {
		p.mu.Lock()
		there := maps.Equal(p.next, ends)
		p.mu.Unlock()
		if there {
			return
		}
		select {
		case <-p.changed:
		case <-ctx.Done():
			t.Fatalf("positions %v, want %v", p.next, ends)
		}
	}
}
