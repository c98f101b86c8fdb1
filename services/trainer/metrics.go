package trainer

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/telemetry"
)

// metrics are the trainer's instruments.
type metrics struct {
	trainings  metric.Int64Counter
	duration   metric.Float64Histogram
	read       metric.Int64Counter
	unreadable metric.Int64Counter
	dropped    metric.Int64Counter
	customers  metric.Int64Gauge
	bits       metric.Float64Gauge
	gate       metric.Float64Gauge
}

func newMetrics(t *telemetry.Telemetry) (*metrics, error) {
	m, meter := &metrics{}, t.Meter()
	var errs []error
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := meter.Int64Counter("tempismo.trainer."+name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	gauge := func(name, unit, description string) metric.Float64Gauge {
		g, err := meter.Float64Gauge("tempismo.trainer."+name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return g
	}
	m.trainings = counter("trainings", "{training}", "Trainings by result: published, renewed, refused, held or failed.")
	m.read = counter("records", "{record}", "Records of the events topic that were read.")
	m.unreadable = counter("unreadable", "{record}", "Of these, those that are no event and were left out.")
	m.dropped = counter("dropped", "{event}", "Events of sampled customers that were left out because newer ones filled their bound.")
	m.bits = gauge("bits", "bit", "What the last fitted model, and the one that was in force, needed to tell an hour of the customers that are held out.")
	m.gate = gauge("p_star", "1", "The largest p that may act, as it was set last.")
	var err error
	m.duration, err = meter.Float64Histogram("tempismo.trainer.duration", metric.WithUnit("s"), metric.WithDescription("Duration of trainings."),
		metric.WithExplicitBucketBoundaries(1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500))
	errs = append(errs, err)
	m.customers, err = meter.Int64Gauge("tempismo.trainer.customers", metric.WithUnit("{customer}"), metric.WithDescription("Customers in the last sample."))
	return m, errors.Join(append(errs, err)...)
}

func result(name string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("result", name))
}

func (m *metrics) failed() { m.trainings.Add(context.Background(), 1, result("failed")) }

func (m *metrics) trained(o *Outcome, took time.Duration) {
	ctx := context.Background()
	m.trainings.Add(ctx, 1, result(string(o.Result)))
	m.duration.Record(ctx, took.Seconds())
	m.read.Add(ctx, o.Sample.Records)
	m.unreadable.Add(ctx, o.Sample.Unreadable)
	m.dropped.Add(ctx, o.Sample.Dropped)
	m.customers.Record(ctx, int64(o.Sample.Customers))
	if o.Judged.Hours > 0 {
		m.bits.Record(ctx, o.Judged.Bits, metric.WithAttributes(attribute.String("model", "fitted")))
		m.bits.Record(ctx, o.Judged.Before, metric.WithAttributes(attribute.String("model", "before")))
	}
	m.gate.Record(ctx, o.Gate.PStar)
}
