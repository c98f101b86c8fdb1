package decider

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

// The decider's own state is lost, and its requests no longer go back to the beginning. Whatever the profile is worth, the
// look-up that a decision records says from then on that it was partial, and nothing is triggered.
func TestALookUpOfADeciderThatLostItsPastIsPartial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := stream.Run{ID: "r1"}
		log, store := streamtest.NewLog(), streamtest.NewStore()
		for _, topic := range topics.All {
			log.Create(topic.Name, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
			log.Create(topics.DeadLetter(topic.Name), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 21})
		}
		job := Job(run, noop.Int64Counter{})
		lease, err := store.Claim(t.Context(), run.Group(job.Lookup.Service), 0)
		if err != nil {
			t.Fatal(err)
		}
		profiles := stream.Commit{Next: map[string]int64{topics.Events: 142}, Keys: []string{anna}, Values: [][]byte{reader().Value}, Partitions: 1}
		if err := lease.Commit(t.Context(), &profiles); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- stream.Process(ctx, job, stream.Runtime{Log: log, Store: store, Run: run})
		}()

		plan := func(id string, at time.Time) decision.Decision {
			t.Helper()
			r := request(id, at, preview)
			log.Append(r.Topic, 0, stream.Message{Key: r.Key, Value: r.Value, Time: r.Time})
			time.Sleep(5 * time.Second) // of the bubble: until everything has come through
			decisions := log.Records(topics.Decisions, 0)
			if len(decisions) == 0 {
				t.Fatal("nothing was decided")
			}
			e, err := stream.ParseEvent(decisions[len(decisions)-1].Value)
			if err != nil {
				t.Fatal(err)
			}
			var d decision.Decision
			if err := d.Parse(e.Type, e.Data); err != nil {
				t.Fatal(err)
			}
			if d.Request != id || d.Lookup == nil || d.Lookup.Profile != "engagement.events.v1:0:141" {
				t.Fatalf("decided %s", e.Data)
			}
			return d
		}
		if d := plan("r-1", engaged.Add(-3*time.Hour)); d.Lookup.Partial || d.Score.Level == timing.LevelBusinessHours {
			t.Errorf("nothing is lost, but decided %+v of %+v", d, d.Lookup)
		}
		log.Truncate(topics.Requests, 0, 1)
		store.Lose(run.Group(job.Service), 0)
		time.Sleep(5 * time.Second)
		if d := plan("r-2", engaged.Add(-2*time.Hour)); !d.Lookup.Partial || d.Score.Level != timing.LevelBusinessHours {
			t.Errorf("the past is lost, but decided %+v of %+v", d, d.Lookup)
		}
		before := len(log.Records(topics.Decisions, 0))
		b := burst(engaged, nil)
		log.Append(b.Topic, 0, stream.Message{Key: b.Key, Value: b.Value, Time: b.Time})
		time.Sleep(5 * time.Second)
		if n := len(log.Records(topics.Decisions, 0)); n != before {
			t.Errorf("%d decisions of a deviation, with a past that is lost", n-before)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
