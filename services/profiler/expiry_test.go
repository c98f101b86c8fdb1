package profiler

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

// TestInactiveCustomersAreForgotten: what comes after a silence longer than the retention finds a customer of whom nothing was
// learned, but all that was told: to the byte the profile of one who never did anything before.
func TestInactiveCustomersAreForgotten(t *testing.T) {
	told := attributes("anna", `{"zone":"Asia/Tokyo","segment":"premium"}`)
	erased := erasure("anna", customer.SignalAll, 5*day)
	history := func(d *streamtest.Driver[Input, timing.Profile, Partition]) {
		d.Pipe(told)
		for i := range 40 {
			pipe(d, event(engagement.Delivered, "anna", fmt.Sprint("m-", i), time.Duration(i)*day))
			pipe(d, event(engagement.Open, "anna", fmt.Sprint("m-", i), time.Duration(i)*day+11*time.Hour))
		}
		d.Pipe(erased)
		d.Pipe(told)
		for i := range 40 {
			pipe(d, event(engagement.Delivered, "anna", fmt.Sprint("n-", i), time.Duration(50+i)*day))
		}
	}
	for _, c := range []struct {
		name      string
		retention int
		after     time.Duration // of the last event
		forgotten bool
	}{
		{"a day before", 60, 59 * day, false},
		{"a day after", 60, 61 * day, true},
		{"years after, without a retention", 0, 1000 * day, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := driver(t, Config{ScoredBelow: .1, Retention: c.retention})
			history(d)
			at := 89*day + c.after
			pipe(d, event(engagement.Open, "bert", "", at)) // only the partition's clock tells how late it is
			last := event(engagement.Delivered, "anna", "late", at)
			pipe(d, last)

			fresh := driver(t, Config{ScoredBelow: .1})
			fresh.Pipe(told)
			fresh.Pipe(erased)
			fresh.Pipe(told)
			pipe(fresh, last)
			if same := bytes.Equal(d.State("anna").Append(nil), fresh.State("anna").Append(nil)); same != c.forgotten {
				t.Errorf("the profile is that of somebody new: %v, want %v", same, c.forgotten)
			}
			before := d.State("anna").Append(nil)
			pipe(d, event(engagement.Click, "anna", "m-2", 4*day))
			if !bytes.Equal(before, d.State("anna").Append(nil)) {
				t.Error("what was erased is learned again")
			}
		})
	}
}

// TestWhatIsLeftOfInactiveCustomers runs the job on a store: of who was never told of nothing is left, of the others what was told
// and what was erased.
func TestWhatIsLeftOfInactiveCustomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{ScoredBelow: .1, Model: timing.BuiltinVersion, DefaultZone: "Europe/Rome", Retention: 90, Run: config.Run{ID: "t1", Mode: "simulated"}}
		job, err := Job(c)
		if err != nil {
			t.Fatal(err)
		}
		log, store := streamtest.NewLog(), streamtest.NewStore()
		for _, in := range job.Inputs {
			log.Create(run(c).Topic(in.Topic), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
			log.Create(run(c).Topic(topics.DeadLetter(in.Topic)), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
		}
		for _, out := range []string{topics.Scored, topics.Digests} {
			log.Create(run(c).Topic(out), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
		}
		send := func(r stream.Record) {
			log.Append(run(c).Topic(r.Topic), 0, stream.Message{Key: r.Key, Value: r.Value, Time: start})
		}
		happen := func(e *engagement.Event) {
			send(stream.Record{Topic: topics.Events, Key: []byte(e.Subject), Value: e.Append(nil)})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- stream.Process(ctx, job, stream.Runtime{Log: log, Store: store, Run: run(c), SweepRest: time.Millisecond})
		}()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		held := func() (keys []string) {
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if err := store.Scan(t.Context(), run(c).Group(Service), 0, func(key string, value []byte) bool {
				var p timing.Profile
				if err := p.Decode(value); err != nil {
					t.Fatal(err)
				}
				keys = append(keys, fmt.Sprintf("%s:%d:%s:%v", key, len(p.Channels), p.Segment, p.Erased(start)))
				return true
			}); err != nil {
				t.Fatal(err)
			}
			return keys
		}
		send(attributes("told", `{"segment":"premium"}`))
		send(erasure("erased", customer.SignalOpen, day))
		for _, who := range []string{"told", "erased", "unknown"} {
			happen(event(engagement.Delivered, who, "m-1", 2*day))
		}
		if got := strings.Join(held(), " "); got != "erased:1::true told:1:premium:false unknown:1::false" {
			t.Fatalf("held before: %s", got)
		}
		happen(event(engagement.Delivered, "active", "m-2", 95*day))
		held()
		happen(event(engagement.Delivered, "active", "m-3", 96*day)) // pages are looked at with the batches that there are
		if got := strings.Join(held(), " "); got != "active:1::false erased:0::true told:0:premium:false" {
			t.Errorf("held after: %s", got)
		}
	})
}
