package connector

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/telemetry"
)

// metrics are the connector's instruments.
type metrics struct {
	outcomes   metric.Int64Counter
	calls      metric.Float64Histogram
	ignored    metric.Int64Counter
	duplicates metric.Int64Counter
	letters    metric.Int64Counter
	unread     metric.Int64Counter
	looks      metric.Int64Counter
	joined     metric.Int64Counter
	retries    metric.Int64Counter
	pending    metric.Int64UpDownCounter
	contacts   metric.Int64Counter
	passes     metric.Int64Counter
	updates    metric.Float64Histogram
}

func newMetrics(t *telemetry.Telemetry) (*metrics, error) {
	var errs []error
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := t.Meter().Int64Counter("tempismo.connector."+name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	m := &metrics{
		outcomes:   counter("outcomes", "{outcome}", "Final results by result."),
		ignored:    counter("ignored", "{decision}", "Decisions that ask for no call, by type."),
		duplicates: counter("duplicates", "{decision}", "Decisions that had been dealt with before."),
		letters:    counter("dead_letters", "{record}", "Decisions that could not be read and were set aside."),
		joined:     counter("joined", "{outcome}", "Outcomes that follow from what providers tell of a send, by result."),
		looks:      counter("looks", "{request}", "Questions to the CRM whether it has a decision whose answer was lost, by verdict."),
		unread:     counter("unread", "{record}", "Records of what customers have said that could not be read and are not heeded, by topic."),
		retries:    counter("retries", "{retry}", "Failed operations on Kafka and Redis that are tried again, by operation."),
		contacts:   counter("contacts", "{contact}", "Contacts whose properties are not what the CRM was told last, by what became of that: written, emptied, refused, unconsented or unreadable."),
		passes:     counter("passes", "{pass}", "Times that all profiles of a partition were compared with what the CRM was told."),
	}
	var err error
	m.calls, err = t.Meter().Float64Histogram("tempismo.connector.calls", metric.WithUnit("s"), metric.WithDescription("Duration of calls by verdict."))
	errs = append(errs, err)
	m.pending, err = t.Meter().Int64UpDownCounter("tempismo.connector.pending", metric.WithUnit("{decision}"), metric.WithDescription("Decisions that are being carried out or wait for their next attempt."))
	errs = append(errs, err)
	m.updates, err = t.Meter().Float64Histogram("tempismo.connector.updates", metric.WithUnit("s"), metric.WithDescription("Duration of calls that write properties of contacts, by verdict."))
	errs = append(errs, err)
	return m, errors.Join(errs...)
}

// with labels one measurement.
func with(key, value string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String(key, value))
}

// count adds one to a counter.
func count(c metric.Int64Counter, options ...metric.AddOption) {
	c.Add(context.Background(), 1, options...)
}
