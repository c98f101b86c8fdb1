package profiler

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// TestRun runs the service on the embedded pair, stops it in between, and reads what others read: profiles and totals in
// the store, a burst and digests on the topics.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	memory, err := redis.StartEmbedded(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	c := Config{
		Kafka: kafka.Config{Brokers: []string{broker.Addr()}}, Redis: redis.Config{Addr: memory.Addr()}, Run: config.Run{ID: "t1", Mode: "simulated"},
		DefaultZone: "Europe/Rome", ScoredBelow: .1,
	}
	const partitions = 2
	if err := kafka.EnsureTopics(ctx, c.Kafka, run(c), partitions); err != nil {
		t.Fatal(err)
	}
	log, err := kafka.Open(ctx, c.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	store, err := redis.Open(ctx, c.Redis)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	day := 24 * time.Hour
	var first, second []*engagement.Event
	for i := range 60 {
		for _, customer := range []string{"anna", "bert"} {
			message := fmt.Sprint("m-", customer, i)
			first = append(first, event(engagement.Delivered, customer, message, time.Duration(i)*day))
			if i%2 == 0 {
				first = append(first, event(engagement.Open, customer, message, time.Duration(i)*day+11*time.Hour))
			}
		}
	}
	for _, hour := range []int{1, 3, 5, 8} {
		second = append(second, event(engagement.Open, "anna", "", 61*day+time.Duration(hour)*time.Hour))
	}
	write := func(events []*engagement.Event) {
		t.Helper()
		w, err := kafka.NewWriter(ctx, log, run(c))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, e := range events {
			if err := w.Write(ctx, topics.Events, []byte(e.Subject), e.Append(nil), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	totals := func() (sum Totals) {
		t.Helper()
		for p := range int32(partitions) {
			snap, err := store.Read(ctx, run(c).Group(Service), p, nil)
			if err != nil {
				t.Fatal(err)
			}
			one, err := ReadTotals(snap)
			if err != nil {
				t.Fatal(err)
			}
			sum.Add(one)
		}
		return sum
	}
	until := func(accepted int) { // runs the service until so many events are in profiles
		t.Helper()
		running, stop := context.WithCancel(ctx)
		defer stop()
		done := make(chan error, 1)
		go func() { done <- Run(running, c, app.Settings{}) }()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for totals().Accepted < uint64(accepted) {
			select {
			case <-tick.C:
			case err := <-done:
				t.Fatalf("the service ended: %v", err)
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	write(first)
	until(len(first))
	write(second)
	until(len(first) + len(second))

	if got := totals(); got.Accepted != uint64(len(first)+len(second)) || got.Late != 0 {
		t.Errorf("totals %+v", got)
	}
	p := stream.Partition([]byte("anna"), partitions)
	snap, err := store.Read(ctx, run(c).Group(Service), p, []string{"anna"})
	if err != nil {
		t.Fatal(err)
	}
	var profile timing.Profile
	if err := profile.Decode(snap.Values[0]); err != nil {
		t.Fatal(err)
	}
	if v := profile.View(timing.Builtin(), "email", 2932*timing.Week); v.Level != timing.LevelOwn || v.Evidence.Deliveries != 60 {
		t.Errorf("level %s, evidence %+v", v.Level, v.Evidence)
	}
	count := func(topic string) (n int) {
		err := kafka.Range(ctx, log, run(c).Topic(topic), kafka.Earliest, kafka.Latest, func(r *stream.Record) error { n++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if scored, digests := count(topics.Scored), count(topics.Digests); scored == 0 || digests < 90 {
		t.Errorf("%d scored events and %d digests", scored, digests)
	}
}
