// Package trainer is the service that publishes models on timing.models.v1, every version into every partition, so that
// each reader switches between two records and a replay switches at the same ones.
//
// It fits nothing: the model it publishes is the built-in one. It keeps no state: the topic says what was published last.
package trainer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Service is the trainer's name in logs and sources.
const Service = "trainer"

// Config is set by operators.
type Config struct {
	Kafka kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Run   config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error { return errors.Join(c.Kafka.Validate(), c.Run.Validate()) }

// Pauses between attempts to publish.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Run publishes the model, if it is not the last one on the topic, and then waits until ctx ends.
func Run(ctx context.Context, c Config, set app.Settings) error {
	set = set.WithDefaults()
	set.Health.Set("model", false, "not published yet")
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return fmt.Errorf("open kafka: %w", err)
	}
	defer log.Close()
	run, model := stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}, timing.Builtin()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		published, err := publish(ctx, log, run, model)
		if err == nil {
			set.Health.Set("model", true, model.Version)
			set.Log.InfoContext(ctx, "model in force", "version", model.Version, "published", published)
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		set.Health.Set("model", false, err.Error())
		set.Log.WarnContext(ctx, "model not published, trying again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
	<-ctx.Done()
	return nil
}

// publish writes the model into every partition, unless every partition has it last.
func publish(ctx context.Context, log *kafka.Log, run stream.Run, model *timing.Model) (published bool, err error) {
	topic := run.Topic(topics.Models)
	described, err := log.Topics(ctx, topic)
	if err != nil {
		return false, err
	}
	last := map[int32]string{}
	err = kafka.Range(ctx, log, topic, kafka.Last(1), kafka.Latest, func(r *stream.Record) error {
		if m, err := timing.ParseModelRecord(r.Value); err == nil { // what cannot be read is superseded
			last[r.Partition] = m.Version
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read the last model: %w", err)
	}
	current := true
	for p := range described[topic].Partitions {
		current = current && last[p] == model.Version
	}
	if current {
		return false, nil
	}
	now := time.Now().UTC()
	value, err := record(model, run, now)
	if err != nil {
		return false, err
	}
	w, err := kafka.NewWriter(ctx, log, run)
	if err != nil {
		return false, fmt.Errorf("open writer: %w", err)
	}
	defer w.Close()
	if err := w.Broadcast(ctx, topics.Models, value, now); err != nil {
		return false, fmt.Errorf("publish model %q: %w", model.Version, err)
	}
	return true, nil
}

// record is the CloudEvent of a model: the same in every partition.
func record(model *timing.Model, run stream.Run, now time.Time) ([]byte, error) {
	data, err := model.Append(nil)
	if err != nil {
		return nil, err
	}
	e := stream.Event{
		ID: "md-" + model.Version, Source: "/tempismo/" + Service + "/" + run.ID, Type: timing.ModelType, Time: now, Data: data,
	}
	return e.Append(nil), nil
}
