package profiler

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

// A state that was lost, and rebuilt from a log which no longer holds its beginning, says so in everything that is
// measured against it, until the part that is missing would weigh less than half.
func TestProfilesOfAShortenedLogArePartialUntilTheyHaveAged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := stream.Run{ID: "r1", Simulated: true}
		log, store := streamtest.NewLog(), streamtest.NewStore()
		for _, topic := range topics.All {
			log.Create(run.Topic(topic.Name), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
			log.Create(run.Topic(topics.DeadLetter(topic.Name)), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 21})
		}
		c := Config{DefaultZone: "Europe/Rome", ScoredBelow: .1, Model: "builtin.1"}
		c.Run.ID, c.Run.Mode = run.ID, "simulated"
		job, err := Job(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- stream.Process(ctx, job, stream.Runtime{Log: log, Store: store, Run: run}) }()

		const day = 24 * time.Hour
		send := func(e *engagement.Event) {
			log.AppendKeyed(run.Topic(topics.Events), stream.Message{Key: []byte(e.Subject), Value: e.Append(nil)})
		}
		habit := func(from, to int) { // one message a day, read in the evening
			for i := from; i < to; i++ {
				message := fmt.Sprint("m-", i)
				send(event(engagement.Delivered, "anna", message, time.Duration(i)*day))
				send(event(engagement.Open, "anna", message, time.Duration(i)*day+11*time.Hour))
			}
		}
		burst := func(on int) (partial bool) {
			t.Helper()
			for _, hour := range []int{1, 3, 5, 8} {
				send(event(engagement.Open, "anna", "", time.Duration(on)*day+time.Duration(hour)*time.Hour))
			}
			time.Sleep(5 * time.Second) // of the bubble: until everything has come through
			synctest.Wait()
			scored := log.Records(run.Topic(topics.Scored), 0)
			if len(scored) == 0 {
				t.Fatal("a burst was not measured")
			}
			e, err := stream.ParseEvent(scored[len(scored)-1].Value)
			if err != nil {
				t.Fatal(err)
			}
			var s timing.Scored
			if err := json.Unmarshal(e.Data, &s); err != nil {
				t.Fatal(err)
			}
			if s.Local[:10] != event(engagement.Open, "anna", "", time.Duration(on)*day).Time.Format("2006-01-02") {
				t.Fatalf("the last measured event is of %s, not of day %d", s.Local, on)
			}
			return s.Evidence.Partial
		}
		habit(0, 60)
		if burst(60) {
			t.Error("a profile that was never lost is called partial")
		}
		log.Truncate(run.Topic(topics.Events), 0, 20)
		store.Lose(run.Group(Service), 0)
		time.Sleep(5 * time.Second)
		habit(61, 70)
		if !burst(70) {
			t.Error("a profile that lost its first ten days is not called partial")
		}
		habit(71, 110)
		if burst(110) {
			t.Error("a profile is still partial after a half-life")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
