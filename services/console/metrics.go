package console

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// measure registers the console's instruments; they are read when the exporters ask, so records cost nothing more.
func (s *server) measure() error {
	meter := s.settings.Telemetry.Meter()
	var errs []error
	counter := func(name, unit, description string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter("tempismo.console."+name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	read := counter("records", "{record}", "Records that were folded into the board.")
	again := counter("duplicates", "{record}", "Records that were read again and dropped.")
	unreadable := counter("unreadable", "{record}", "Records that could not be read and are not shown.")
	restarts := counter("restarts", "{restart}", "Times that the reading of a topic was interrupted and began anew.")
	viewers, err := meter.Int64ObservableGauge("tempismo.console.viewers", metric.WithUnit("{viewer}"), metric.WithDescription("Live streams that are open."))
	errs = append(errs, err)
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s.state.mu.Lock()
		o.ObserveInt64(read, int64(s.state.version))
		o.ObserveInt64(again, int64(s.state.board.Duplicates()))
		o.ObserveInt64(unreadable, int64(s.state.unreadable))
		o.ObserveInt64(restarts, int64(s.state.restarts))
		s.state.mu.Unlock()
		s.live.mu.Lock()
		o.ObserveInt64(viewers, int64(s.live.viewers))
		s.live.mu.Unlock()
		return nil
	}, read, again, unreadable, restarts, viewers)
	return errors.Join(append(errs, err)...)
}
