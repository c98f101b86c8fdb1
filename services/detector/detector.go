// Package detector is the service that turns surprises into deviations: it reads engagement.scored.v1, keeps what is beyond
// two sigma, has enough evidence and was not told already, and writes timing.deviations.v1. What it remembers of customers whom
// customer.erasures.v1 names it forgets, whatever the signals: all of it follows from what they did.
//
// It measures nothing, the profiler does, and moves nothing, the decider does. The rules are in pkg/domain/deviation, the
// care for crashes is in pkg/stream; here they meet.
package detector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Service is the detector's name in groups, sources and keys.
const Service = "detector"

// Config is set by operators.
type Config struct {
	Kafka     kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis     redis.Config `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Run       config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`
	Retention int          `name:"retention-days" env:"RETENTION_DAYS" default:"0" help:"Forget what was told of customers of whom nothing was told for so many days, as the profiler does with profiles; 0 keeps it for ever."`
	CacheMiB  int          `name:"cache-mib" env:"CACHE_MIB" default:"256" help:"Mebibytes of states that are kept in memory, of all partitions of this process together. Fewer cost more round trips to Redis."`
	Model     string       `name:"model" env:"MODEL" enum:",builtin.1" default:"" help:"Pin calibration and threshold of this model (builtin.1) and read none. Empty: the model that timing.models.v1 has last, builtin.1 before the first."`
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Redis.Validate(), c.Run.Validate()}
	if c.Retention != 0 && c.Retention < shortest {
		errs = append(errs, fmt.Errorf("RETENTION_DAYS: %d: choose %d or more, or 0 to forget nobody", c.Retention, shortest))
	}
	if c.CacheMiB < 0 {
		errs = append(errs, fmt.Errorf("CACHE_MIB: %d: choose a positive number", c.CacheMiB))
	}
	return errors.Join(errs...)
}

// shortest is the least number of days for which is remembered what was told. It is the profiler's, and longer than any cool-down.
const shortest = 60

// Run detects until ctx ends.
func Run(ctx context.Context, c Config, set app.Settings) error {
	set = set.WithDefaults()
	observer, err := set.Observer(Service)
	if err != nil {
		return err
	}
	verdicts, err := set.Telemetry.Meter().Int64Counter("tempismo.detector.tests", metric.WithUnit("{test}"),
		metric.WithDescription("Tests of scored events by kind and by what became of them. Batches that are done again after a crash are counted again."))
	if err != nil {
		return fmt.Errorf("make the instruments: %w", err)
	}
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return fmt.Errorf("open kafka: %w", err)
	}
	defer log.Close()
	store, err := redis.Open(ctx, c.Redis)
	if err != nil {
		return fmt.Errorf("open redis: %w", err)
	}
	defer store.Close()
	set.Log.InfoContext(ctx, "detecting", "model", c.Model)
	return stream.Process(ctx, Job(c, verdicts), stream.Runtime{Log: log, Store: store, Run: run(c), Logger: set.Log, Observer: observer, CacheBytes: c.CacheMiB << 20})
}

func run(c Config) stream.Run { return stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()} }

// Input is a scored event as it stands on the topic, or an erasure.
type Input struct {
	erased   bool
	scored   timing.Scored
	subject  string
	position string // of the engagement event behind it
}

// Partition is what the detector keeps of a partition: the model in force, which the runtime stores.
type Partition struct{ model *timing.Model }

// Job declares the detector that c describes. verdicts counts what became of tests.
func Job(c Config, verdicts metric.Int64Counter) stream.Job[Input, deviation.Memory, Partition] {
	builtin, run := timing.Builtin(), run(c)
	job := stream.Job[Input, deviation.Memory, Partition]{
		Service: Service,
		Inputs:  []stream.Input{{Topic: topics.Scored}, {Topic: topics.Erasures}},
		Outputs: []string{topics.Deviations},
		Decode:  func(r *stream.Record, in *Input) (stream.Cause, error) { return decode(r, in, run.Base(r.Topic)) },
		Step: func(c *stream.Context, m *deviation.Memory, p *Partition, in *Input) error {
			switch {
			case m == nil: // a model
				return nil
			case in.erased:
				*m = deviation.Memory{}
				return nil
			}
			model := p.model
			if model == nil {
				model = builtin
			}
			return step(c, m, model, in, verdicts)
		},
		State: stream.Codec[deviation.Memory]{
			Append: func(dst []byte, m *deviation.Memory) []byte { return m.Append(dst) },
			Decode: func(b []byte, m *deviation.Memory) error { return m.Decode(b) },
			Size:   (*deviation.Memory).Size,
		},
	}
	if kept := time.Duration(c.Retention) * 24 * time.Hour; kept > 0 {
		job.Expiry = &stream.Expiry[deviation.Memory]{
			Expired: func(m *deviation.Memory, now time.Time) bool { return m.Idle(now.Add(-kept)) },
			Forget:  func(m *deviation.Memory) { *m = deviation.Memory{} },
		}
	}
	if c.Model == "" {
		job.Inputs = append(job.Inputs, stream.Input{Topic: topics.Models, Broadcast: true})
		job.Adopt = func(p *Partition, _ string, value []byte) error {
			m, err := timing.ParseModelRecord(value)
			if err != nil {
				return stream.Permanent(err) // the one in force stays
			}
			p.model = m
			return nil
		}
	}
	return job
}

// decode reads a record. All its errors are permanent: the bytes will not change.
func decode(r *stream.Record, in *Input, topic string) (stream.Cause, error) {
	e, err := stream.ParseEvent(r.Value)
	if err != nil {
		return stream.Cause{}, stream.Permanent(err)
	}
	cause := stream.Cause{ID: e.ID, Time: e.Time, Trace: e.Traceparent}
	if topic == topics.Models { // Adopt reads it
		return cause, nil
	}
	want := timing.ScoredType
	if topic == topics.Erasures {
		want = customer.ErasureType
	}
	switch {
	case e.Type != want:
		return stream.Cause{}, stream.Permanent(fmt.Errorf("type: %q is not %s", e.Type, want))
	case e.Subject != string(r.Key):
		return stream.Cause{}, stream.Permanent(errors.New("subject: is not the key of the record"))
	case e.Time.IsZero():
		return stream.Cause{}, stream.Permanent(errors.New("time: missing"))
	}
	if topic == topics.Erasures {
		*in = Input{erased: true}
		return stream.Cause{ID: e.ID, Trace: e.Traceparent}, nil // of no time: see package profiler
	}
	*in = Input{subject: e.Subject, position: position(e.Source, e.Sequence)}
	if err := json.Unmarshal(e.Data, &in.scored); err != nil {
		return stream.Cause{}, stream.Permanent(fmt.Errorf("data: %w", err))
	}
	for _, t := range in.scored.Tests {
		if !(t.P > 0 && t.P <= 1 && t.PAct >= 0 && t.PAct <= 1) {
			return stream.Cause{}, stream.Permanent(fmt.Errorf("data.tests: p of %s is no probability", t.Kind))
		}
	}
	return cause, nil
}

// position is where the engagement event stands that the profiler worked on: its source names topic and partition, its
// sequence the offset. Empty if the scored event was not written by a Step.
func position(source, sequence string) string {
	parts := strings.Split(source, "/") // "", tempismo, service, run, topic, partition
	digits, _, _ := strings.Cut(sequence, ".")
	offset, err := strconv.ParseInt(digits, 10, 64)
	if len(parts) != 6 || err != nil {
		return ""
	}
	return parts[4] + ":" + parts[5] + ":" + strconv.FormatInt(offset, 10)
}

func step(c *stream.Context, m *deviation.Memory, model *timing.Model, in *Input, verdicts metric.Int64Counter) error {
	for _, t := range in.scored.Tests {
		d, v := m.Judge(model, &in.scored, t, c.Cause().Time)
		verdicts.Add(context.Background(), 1, metric.WithAttributes(attribute.String("kind", t.Kind), attribute.String("verdict", string(v))))
		if v != deviation.Told {
			continue
		}
		d.Cause.Position = in.position
		data, err := json.Marshal(&d)
		if err != nil {
			return fmt.Errorf("encode deviation: %w", err)
		}
		c.Emit(stream.Emission{Topic: topics.Deviations, Type: deviation.Type, Prefix: "dv-", Subject: in.subject, Data: data})
	}
	return nil
}
