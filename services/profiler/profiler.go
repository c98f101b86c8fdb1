// Package profiler is the service that keeps the time profile of every customer: it reads engagement.events.v1, tests each
// event against the customer's profile as it was, notes it (customer.attributes.v1 tells zones and segments), and publishes what was surprising (engagement.scored.v1) and
// what was counted (timing.digests.v1). Opens of customers who have not consented to pixels (customer.consents.v1) it does not learn
// from, and it forgets what customer.erasures.v1 names, to which it adds the refusals that it finds. Who unsubscribes or complains
// refuses mail: it says so on customer.consents.v1.
//
// It measures. Whether a surprise is worth a word is the detector's to say; the mathematics are in pkg/domain/timing, the
// care for crashes is in pkg/stream.
package profiler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Service is the profiler's name in groups, sources and keys.
const Service = "profiler"

// Config is set by operators.
type Config struct {
	Kafka       kafka.Config  `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis       redis.Config  `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Run         config.Run    `embed:"" prefix:"run-" envprefix:"RUN_"`
	Pixels      config.Pixels `embed:""`
	Model       string        `name:"model" env:"MODEL" enum:",builtin.1" default:"" help:"Pin this model (builtin.1) and read none. Empty: the model that timing.models.v1 has last, builtin.1 before the first."`
	DefaultZone string        `name:"default-zone" env:"DEFAULT_ZONE" default:"Europe/Rome" placeholder:"ZONE" help:"IANA zone of customers whose events name none."`
	ScoredBelow float64       `name:"scored-below" env:"SCORED_BELOW" default:"0.1" help:"Publish tests whose p is below this; 1 publishes every test."`
	Batch       int           `name:"batch-records" env:"BATCH_RECORDS" default:"16384" help:"Most events that are committed at once. Fewer bound the memory and the work that a crash repeats, and cost more round trips."`
	Retention   int           `name:"retention-days" env:"RETENTION_DAYS" default:"0" help:"Forget what was learned of customers of whom nothing was heard for so many days; 0 keeps it for ever."`
	CacheMiB    int           `name:"cache-mib" env:"CACHE_MIB" default:"256" help:"Mebibytes of states that are kept in memory, of all partitions of this process together. Fewer cost more round trips to Redis."`
	DigestEvery time.Duration `name:"digest-every" env:"DIGEST_EVERY" default:"0s" help:"Event time that one digest covers; 0 is a minute in a live run and an hour in a simulated one."`
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Redis.Validate(), c.Run.Validate()}
	if _, err := calendar.Zone(c.DefaultZone); err != nil {
		errs = append(errs, fmt.Errorf("DEFAULT_ZONE: %w", err))
	}
	if !(c.ScoredBelow >= 0 && c.ScoredBelow <= 1) {
		errs = append(errs, fmt.Errorf("SCORED_BELOW: %v is no probability: choose one from 0 to 1", c.ScoredBelow))
	}
	if c.Batch < 0 {
		errs = append(errs, fmt.Errorf("BATCH_RECORDS: %d: choose a positive number", c.Batch))
	}
	if c.Retention != 0 && c.Retention < shortest {
		errs = append(errs, fmt.Errorf("RETENTION_DAYS: %d: choose %d or more, or 0 to forget nobody", c.Retention, shortest))
	}
	if c.CacheMiB < 0 {
		errs = append(errs, fmt.Errorf("CACHE_MIB: %d: choose a positive number", c.CacheMiB))
	}
	if c.DigestEvery < 0 || c.DigestEvery > 24*time.Hour || c.DigestEvery%time.Second != 0 {
		errs = append(errs, fmt.Errorf("DIGEST_EVERY: %s: choose whole seconds, at most 24h", c.DigestEvery))
	}
	return errors.Join(errs...)
}

// Run profiles until ctx ends.
func Run(ctx context.Context, c Config, set app.Settings) error {
	set = set.WithDefaults()
	job, err := Job(c)
	if err != nil {
		return err
	}
	observer, err := set.Observer(Service)
	if err != nil {
		return err
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
	set.Log.InfoContext(ctx, "profiling", "default_zone", c.DefaultZone, "scored_below", c.ScoredBelow, "model", c.Model)
	return stream.Process(ctx, job, stream.Runtime{Log: log, Store: store, Run: run(c), Logger: set.Log, Observer: observer, BatchRecords: c.Batch, CacheBytes: c.CacheMiB << 20})
}

func run(c Config) stream.Run { return stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()} }

// Job declares the profiler that c describes.
func Job(c Config) (stream.Job[Input, timing.Profile, Partition], error) {
	zone, err := calendar.Zone(c.DefaultZone)
	if err != nil {
		return stream.Job[Input, timing.Profile, Partition]{}, fmt.Errorf("DEFAULT_ZONE: %w", err)
	}
	every := int64(c.DigestEvery / time.Second)
	if every == 0 {
		every = 60
		if c.Run.Simulated() {
			every = 3600
		}
	}
	s := stepper{run: run(c), builtin: timing.Builtin(), zone: zone, zoneName: c.DefaultZone, below: c.ScoredBelow, assumed: c.Pixels.Assumed(c.Run.Simulated()), every: every}
	job := stream.Job[Input, timing.Profile, Partition]{
		Service: Service,
		Inputs:  []stream.Input{{Topic: topics.Events}, {Topic: topics.Attributes, Table: true}, {Topic: topics.Consents}, {Topic: topics.Erasures}},
		Outputs: []string{topics.Scored, topics.Digests, topics.Consents, topics.Erasures},
		Decode:  s.decode,
		Step:    s.step,
		State: stream.Codec[timing.Profile]{
			Append: func(dst []byte, p *timing.Profile) []byte { return p.Append(dst) },
			Decode: func(b []byte, p *timing.Profile) error { return p.Decode(b) },
			Size:   (*timing.Profile).Size,
		},
		Partition: stream.Codec[Partition]{
			Append: func(dst []byte, p *Partition) []byte { return p.append(dst) },
			Decode: func(b []byte, p *Partition) error { return p.decode(b) },
		},
	}
	if c.Retention > 0 {
		job.Expiry = expiry(c.Retention)
	}
	if c.Model == "" {
		job.Inputs = append(job.Inputs, stream.Input{Topic: topics.Models, Broadcast: true})
		job.Adopt = adopt
	}
	return job, nil
}

// adopt puts a model in force.
func adopt(p *Partition, _ string, value []byte) error {
	m, err := timing.ParseModelRecord(value)
	if err != nil {
		return stream.Permanent(err)
	}
	p.world.Model = m
	return nil
}
