package trainer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 3

// broker is an embedded broker with the topics of a run.
func broker(t *testing.T, run stream.Run) (*kafka.Log, kafka.Config) {
	t.Helper()
	b, err := kafka.StartEmbedded(kafka.EmbeddedConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if err := kafka.EnsureTopics(t.Context(), b.Config(), run, partitions); err != nil {
		t.Fatal(err)
	}
	log, err := kafka.Open(t.Context(), b.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log, b.Config()
}

// write writes events in order of time.
func write(t *testing.T, log *kafka.Log, run stream.Run, events []engagement.Event) {
	t.Helper()
	w, err := kafka.NewWriter(t.Context(), log, run)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	slices.SortStableFunc(events, func(a, b engagement.Event) int { return a.Time.Compare(b.Time) })
	var msgs []stream.Message
	for i := range events {
		msgs = append(msgs, stream.Message{Key: []byte(events[i].Subject), Value: events[i].Append(nil)})
	}
	if err := w.WriteAll(t.Context(), topics.Events, msgs); err != nil {
		t.Fatal(err)
	}
}

// readers are customers who get mail three times a week at nine and read it when they look into their inbox: half of them
// around hour a, half around hour b.
func readers(ids []string, seed uint64, end time.Time, weeks, a, b int) (events []engagement.Event) {
	for i, id := range ids {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		hour := []int{a, b}[i%2]
		for d := -7 * weeks; d < 0; d++ {
			day := end.Truncate(24*time.Hour).AddDate(0, 0, d)
			if d%7 != -1 && d%7 != -3 && d%7 != -5 {
				continue
			}
			message := fmt.Sprintf("m-%d", d)
			sent := day.Add(9 * time.Hour)
			events = append(events, event(id, message, engagement.Delivered, sent))
			if r.Float64() < .6 {
				at := day.Add(time.Duration(hour)*time.Hour + time.Duration(r.NormFloat64()*60)*time.Minute)
				for at.Before(sent.Add(5 * time.Minute)) {
					at = at.AddDate(0, 0, 1)
				}
				events = append(events, event(id, message, engagement.Open, at))
			}
		}
	}
	return events
}

func event(id, message string, kind engagement.Kind, at time.Time) engagement.Event {
	return engagement.Event{
		ID: fmt.Sprintf("%s-%s-%s-%d", id, message, kind, at.UnixMilli()), Source: "/test", Subject: id, Time: at.UTC(),
		Kind: kind, Channel: "email", Message: message, Zone: "Europe/Rome",
	}
}

// named are ids of customers, all of them or only those whom models are fitted on.
func named(prefix string, n int, learnt bool) (ids []string) {
	for i := 0; len(ids) < n; i++ {
		if id := fmt.Sprintf("%s-%04d", prefix, i); !learnt || timing.Hash(id, 0, judging) >= heldOut {
			ids = append(ids, id)
		}
	}
	return ids
}

var simulated = stream.Run{ID: "s1", Simulated: true}

// fitting is the default configuration.
func fitting(t *testing.T) Fitting {
	t.Helper()
	var f Fitting
	if err := config.Parse(&f, "trainer", nil, func(string) (string, bool) { return "", false }); err != nil {
		t.Fatal(err)
	}
	return f
}

func train(t *testing.T, log *kafka.Log, run stream.Run, f Fitting) *Outcome {
	t.Helper()
	o, err := Train(t.Context(), log, run, f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func shelfOf(t *testing.T, log *kafka.Log, run stream.Run) *Shelf {
	t.Helper()
	s, err := ReadShelf(t.Context(), log, run)
	if err != nil {
		t.Fatal(err)
	}
	if !s.even {
		t.Error("partitions end with different models")
	}
	return s
}

// values are the records of the models topic by partition.
func values(ctx context.Context, t *testing.T, log *kafka.Log, run stream.Run) map[int32][]string {
	t.Helper()
	got := map[int32][]string{}
	err := kafka.Range(ctx, log, run.Topic(topics.Models), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		if r.Key != nil {
			t.Errorf("a model has the key %q", r.Key)
		}
		got[r.Partition] = append(got[r.Partition], string(r.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		if !slices.Equal(got[p], got[0]) {
			t.Errorf("partition %d holds other models than partition 0", p)
		}
	}
	return got
}
