package trainer

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// TestPublish: the model stands in every partition once, however often the trainer starts.
func TestPublish(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c := Config{Kafka: kafka.Config{Brokers: []string{broker.Addr()}}, Run: config.Run{ID: "r1", Mode: "live"}}
	run := stream.Run{ID: "r1"}
	const partitions = 3
	if err := kafka.EnsureTopics(ctx, c.Kafka, run, partitions); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		start(ctx, t, c)
	}

	log, err := kafka.Open(ctx, c.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	versions := map[int32][]string{}
	err = kafka.Range(ctx, log, topics.Models, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		m, err := timing.ParseModelRecord(r.Value)
		if err != nil {
			return err
		}
		if r.Key != nil {
			t.Errorf("a model has the key %q", r.Key)
		}
		versions[r.Partition] = append(versions[r.Partition], m.Version)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		if v := versions[p]; len(v) != 1 || v[0] != timing.BuiltinVersion {
			t.Errorf("partition %d holds the models %v", p, v)
		}
	}
}

// start runs the trainer until its model is in force.
func start(ctx context.Context, t *testing.T, c Config) {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	set, done := app.Settings{Health: &app.Health{}}, make(chan error, 1)
	go func() { done <- Run(ctx, c, set) }()
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if ready, _ := set.Health.State(); ready {
			tick.Stop()
			break
		}
		select {
		case err := <-done:
			t.Fatalf("the trainer ended: %v", err)
		default:
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
