// Package trainer is the service that fits models: it reads engagement.events.v1 (of a sample of customers, as much as fits
// into bounded memory, and without what customer.erasures.v1 and refusals of pixels take out), customer.attributes.v1 and
// timing.digests.v1, fits a model once a day, and publishes it on
// timing.models.v1 if it predicts customers that it was not fitted on no worse than the model in force. Every version goes
// into every partition, so that each reader switches between two records, and a replay switches at the same ones.
//
// It keeps no state. The topic says which model is in force, whether an operator holds it and when the last one was fitted,
// and the log can be read again. Therefore whoever can reach Kafka can train on demand (Train, `tempismo models train`), and
// a restart changes nothing. The mathematics are in pkg/domain/timing/fit; deciding when to fit, on what and whether the
// outcome is good enough is all that is here.
package trainer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Service is the trainer's name in logs and sources.
const Service = "trainer"

// Config is set by operators.
type Config struct {
	Kafka   kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Run     config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`
	Fitting Fitting      `embed:""`
	At      int          `name:"train-at" env:"TRAIN_AT" default:"4" placeholder:"HOUR" help:"Hour of the day (0 to 23), in the default zone, at which a model is fitted; -1: only on demand (tempismo models train). A simulated run is trained on demand only: its days are not ours."`
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Run.Validate(), c.Fitting.Validate()}
	if c.At < -1 || c.At > 23 {
		errs = append(errs, fmt.Errorf("TRAIN_AT: %d: choose an hour from 0 to 23, or -1", c.At))
	}
	return errors.Join(errs...)
}

// Pauses between attempts to reach Kafka, and between attempts to train.
const (
	firstPause   = time.Second
	lastPause    = 30 * time.Second
	trainPause   = time.Minute
	trainLongest = time.Hour
	tellEvery    = 30 * time.Second
)

// Run sees to it that a model is in force, and fits a new one every day until ctx ends.
func Run(ctx context.Context, c Config, set app.Settings) error {
	set = set.WithDefaults()
	set.Health.Set("model", false, "not looked up yet")
	zone, err := calendar.Zone(c.Fitting.Zone)
	if err != nil {
		return fmt.Errorf("DEFAULT_ZONE: %w", err)
	}
	m, err := newMetrics(set.Telemetry)
	if err != nil {
		return fmt.Errorf("instruments of %s: %w", Service, err)
	}
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return fmt.Errorf("open kafka: %w", err)
	}
	defer log.Close()
	t := trainer{config: c, run: stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}, set: set, log: log, metrics: m}
	trained, err := t.begin(ctx)
	if err != nil || c.At < 0 || t.run.Simulated {
		<-ctx.Done()
		return nil
	}
	for pause := trainPause; ; {
		due := lastDue(time.Now(), c.At, zone)
		if !trained.Before(due) {
			// By the hour, so that a machine that slept does not sleep on.
			next := calendar.DayOf(due, zone).Next().At(c.At*60, zone)
			if wait(ctx, min(time.Until(next), time.Hour)) != nil {
				return nil
			}
			continue
		}
		if err := t.train(ctx); err == nil {
			trained, pause = time.Now(), trainPause
			continue
		} else if ctx.Err() == nil {
			set.Log.WarnContext(ctx, "training failed, trying again", "error", err, "pause", pause)
		}
		if wait(ctx, pause) != nil {
			return nil
		}
		pause = min(2*pause, trainLongest)
	}
}

// lastDue is when the clock in zone showed the full hour last.
func lastDue(now time.Time, hour int, zone *time.Location) time.Time {
	day := calendar.DayOf(now, zone)
	if at := day.At(hour*60, zone); !at.After(now) {
		return at
	}
	return day.Add(-1).At(hour*60, zone)
}

// wait sleeps; the error is that of ctx.
func wait(ctx context.Context, pause time.Duration) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// trainer is a running service.
type trainer struct {
	config  Config
	run     stream.Run
	set     app.Settings
	log     *kafka.Log
	metrics *metrics
}

// begin sees to it that a model is in force, and returns when the last one was fitted. The error is that of ctx.
func (t *trainer) begin(ctx context.Context) (trained time.Time, err error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		shelf, err := settle(ctx, t.log, t.run, time.Now().UTC().Truncate(time.Millisecond))
		if err == nil {
			m := shelf.InForce()
			t.set.Health.Set("model", true, m.Version)
			t.set.Log.InfoContext(ctx, "model in force", "version", m.Version, "pinned", m.Pinned)
			return shelf.trained(), nil
		}
		if ctx.Err() != nil {
			return trained, ctx.Err()
		}
		t.set.Health.Set("model", false, err.Error())
		t.set.Log.WarnContext(ctx, "no model in force yet, trying again", "error", err, "pause", pause)
		if err := wait(ctx, pause); err != nil {
			return trained, err
		}
	}
}

// train fits once, and says what came of it.
func (t *trainer) train(ctx context.Context) error {
	began, told := time.Now(), time.Now()
	t.set.Log.InfoContext(ctx, "training begins")
	o, err := Train(ctx, t.log, t.run, t.config.Fitting, func(p Progress) {
		if time.Since(told) >= tellEvery {
			told = time.Now()
			t.set.Log.InfoContext(ctx, "training", "stage", p.Stage, "done", p.Done, "total", p.Total)
		}
	})
	took := time.Since(began)
	if err != nil {
		t.metrics.failed()
		return err
	}
	t.metrics.trained(o, took)
	level := slog.LevelInfo
	if o.Result == Refused || o.Result == Renewed {
		level = slog.LevelWarn
	}
	t.set.Log.Log(ctx, level, "training ended", "result", o.Result,
		"why", o.Why, "version", o.Model, "before", o.Before, "took", took,
		"customers", o.Sample.Customers, "events", o.Sample.Events, "from", o.Sample.From, "to", o.Sample.To, "records", o.Sample.Records, "unreadable", o.Sample.Unreadable, "erased", o.Sample.Erased,
		"bits", o.Judged.Bits, "bits_before", o.Judged.Before, "held_out_customers", o.Judged.Customers, "held_out_engaged_hours", o.Judged.Hours,
		"p_star", o.Gate.PStar, "p_star_from", o.Gate.From, "taken_over", o.Report.Defaults)
	if o.Model != "" {
		t.set.Health.Set("model", true, o.Model)
	}
	return nil
}
