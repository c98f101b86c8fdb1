package ingest

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/pull/hubspot"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// pullService names the group of those who can fetch from HubSpot. Its member that has partition 0 of the events does, and the
// group's offset there is no offset but the time up to which HubSpot's list is settled, in Unix milliseconds (ADR 017).
const pullService = "ingest.hubspot"

// hubspotList is HubSpot where it is asked.
var hubspotList = &provider{name: "hubspot", list: true}

// pull fetches the events of HubSpot's list until ctx ends, whenever it is this instance's turn. What it finds goes the way of a
// webhook.
func (s *server) pull(ctx context.Context, log stream.Log, run stream.Run, client *http.Client, set app.Settings) error {
	m := set.Telemetry.Meter()
	rounds, err := m.Int64Counter("tempismo.ingest.pull.rounds", metric.WithUnit("{round}"),
		metric.WithDescription("Rounds of fetching from a provider by what became of them: complete, throttled (it wants fewer calls), denied (the token, its scope or the interface is wrong), failed (HubSpot or Kafka is away)."))
	if err != nil {
		return err
	}
	p := &hubspot.Puller{Config: s.config.Pull, Client: client}
	defer client.CloseIdleConnections()
	from := hubspotList
	at := func(outcome string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("provider", from.name), attribute.String("outcome", outcome)))
	}
	accepted, ignored, unconsented, dead, known, unacknowledged := at("accepted"), at("ignored"), at("unconsented"), at("dead"), at("known"), at("unacknowledged")
	p.Append = func(ctx context.Context, elements []webhook.Element) error {
		ctx, span := s.tracer.Start(ctx, "fetch "+from.name, trace.WithSpanKind(trace.SpanKindClient))
		defer span.End()
		var b batch
		s.gather(&b, from, elements, nil, nil, parent(ctx, span))
		waiting, cancel := context.WithTimeout(ctx, s.config.Patience)
		defer cancel()
		err := s.withhold(waiting, &b)
		if err == nil {
			err = s.keep(waiting, topics.Events, from, &b)
		}
		if err != nil {
			s.events.Add(ctx, int64(len(b.messages)+b.dead), unacknowledged)
			return err
		}
		s.events.Add(ctx, int64(len(b.messages)), accepted)
		s.events.Add(ctx, int64(b.ignored), ignored)
		s.events.Add(ctx, int64(b.unconsented), unconsented)
		s.events.Add(ctx, int64(b.dead), dead)
		return nil
	}
	p.Again = func(ctx context.Context, events int) { s.events.Add(ctx, int64(events), known) }
	p.Tell = func(ctx context.Context, err error, next time.Duration) {
		outcome := "complete"
		if err != nil {
			outcome = "failed"
			if no := (*hubspot.Refusal)(nil); errors.As(err, &no) {
				switch {
				case no.Denied():
					outcome = "denied"
				case no.Status == http.StatusTooManyRequests:
					outcome = "throttled"
				}
			}
			s.log.WarnContext(ctx, "events cannot be fetched, trying again", "provider", from.name, "reached", p.Reached(), "in", next, "error", err)
		}
		rounds.Add(ctx, 1, at(outcome))
		// It is no reason not to take what others send: an instance that is not ready gets no webhooks.
		detail := "its events are fetched up to " + p.Reached().Format(time.RFC3339)
		if err != nil {
			detail += ", and cannot be fetched now: " + err.Error()
		}
		set.Health.Set(from.name, true, detail)
	}
	var turn atomic.Bool // whether it is ours
	if _, err := m.Float64ObservableGauge("tempismo.ingest.pull.behind", metric.WithUnit("s"), metric.WithDescription("How long ago the time is up to which a provider's events are fetched; only the instance whose turn it is tells."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			if turn.Load() {
				o.Observe(time.Since(p.Reached()).Seconds(), metric.WithAttributes(attribute.String("provider", from.name)))
			}
			return nil
		})); err != nil {
		return err
	}
	idle := func() { set.Health.Set(from.name, true, "its events are another instance's turn") }
	idle()
	topic := run.Topic(topics.Events)
	return log.Consume(ctx, run.Group(pullService), topic, func(ctx context.Context, a stream.Assignment) {
		if a.Partition() != 0 {
			<-ctx.Done()
			return
		}
		settled, err := s.settled(ctx, a, topic)
		if err != nil {
			s.log.WarnContext(ctx, "it cannot be read how far fetching has come, trying again", "provider", from.name, "error", err)
			return
		}
		s.log.InfoContext(ctx, "fetching events", "provider", from.name, "from", settled)
		p.Save = func(ctx context.Context, settled time.Time) error {
			return a.Hint(ctx, map[string]int64{topic: settled.UnixMilli()})
		}
		turn.Store(true)
		p.Run(ctx, settled)
		turn.Store(false)
		idle()
	})
}

// settled is where to begin.
func (s *server) settled(ctx context.Context, a stream.Assignment, topic string) (time.Time, error) {
	now := time.Now().UTC()
	first := now.Add(-s.config.Pull.Since)
	kept, err := a.Hinted(ctx, topic)
	if err != nil {
		return time.Time{}, err
	}
	// What lies before any event of HubSpot's, or has not come yet, is an offset that somebody else has set.
	if at := time.UnixMilli(kept).UTC(); at.After(earliestCursor) && !at.After(now) {
		return at, nil
	}
	s.log.WarnContext(ctx, "it is not known how far fetching from HubSpot has come: it begins HUBSPOT_PULL_SINCE ago", "since", s.config.Pull.Since, "group", pullService, "kept", kept)
	return first, nil
}

// earliestCursor is before HubSpot was.
var earliestCursor = time.Date(2005, 1, 1, 0, 0, 0, 0, time.UTC)
