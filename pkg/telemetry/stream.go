package telemetry

import (
	"context"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tempismo/tempismo/pkg/stream"
)

// instruments are all that the runtime measures. Names follow OpenTelemetry's messaging conventions (v1.43) where they
// have one, with tempismo.stream before what is ours.
type instruments struct {
	consumed  metric.Int64Counter     // by topic
	sent      metric.Int64Counter     // by service
	processed metric.Float64Histogram // one batch, from its first record at hand to the last acknowledgement
	phase     metric.Float64Histogram // by phase of the batch

	bytes, suppressed, deadLetters, duplicates, keys, misses, expired metric.Int64Counter
	takeovers, retries                                                metric.Int64Counter
	ticks, fired, stale                                               metric.Int64Counter
	firing                                                            metric.Float64Histogram // live: how late timers fire
	alarms                                                            metric.Int64UpDownCounter
	owned                                                             metric.Int64UpDownCounter
	lagRecords                                                        metric.Int64ObservableGauge
	lagSeconds                                                        metric.Float64ObservableGauge
}

// Bounds of the histograms in seconds: those that the messaging conventions give, and finer ones below for phases.
var (
	durations = metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10)
	delays    = metric.WithExplicitBucketBoundaries(.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
	phases    = metric.WithExplicitBucketBoundaries(.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)
)

func newInstruments(m metric.Meter) (instruments, error) {
	var in instruments
	b := &builder{meter: m}
	in.consumed = b.counter("messaging.client.consumed.messages", "{message}", "Records taken from an input topic.")
	in.sent = b.counter("messaging.client.sent.messages", "{message}", "Records published, dead letters included.")
	in.processed = b.histogram("messaging.process.duration", "From a batch's first record at hand to the acknowledgement of its last output.", durations)
	in.phase = b.histogram("tempismo.stream.phase.duration", "Time of one batch in load, step, wait, commit and publish.", phases)
	in.bytes = b.counter("tempismo.stream.consumed.size", "By", "Bytes of keys and values taken from input topics.")
	in.suppressed = b.counter("tempismo.stream.suppressed", "{message}", "Outputs not emitted because they had been before a rollback or loss of the store.")
	in.deadLetters = b.counter("tempismo.stream.dead_letters", "{message}", "Records set aside in a dead-letter topic.")
	in.duplicates = b.counter("tempismo.stream.duplicates", "{message}", "Records dropped because their source position had been seen.")
	in.keys = b.counter("tempismo.stream.states.written", "{state}", "States written to the store.")
	in.misses = b.counter("tempismo.stream.states.loaded", "{state}", "States that were not in the cache and were loaded from the store.")
	in.expired = b.counter("tempismo.stream.states.expired", "{state}", "States forgotten because nothing had been heard of their key for as long as they are kept.")
	in.ticks = b.counter("tempismo.stream.ticks", "{tick}", "Ticks appended for timers that were due.")
	in.fired = b.counter("tempismo.stream.timers.fired", "{timer}", "Timers that fired.")
	in.stale = b.counter("tempismo.stream.ticks.stale", "{tick}", "Ticks dropped: their timer had fired, was taken away or set anew, or is of another run.")
	in.firing = b.histogram("tempismo.stream.timers.delay", "From a timer's due time to its firing: of the most late one in a batch of a live run.", delays)
	in.takeovers = b.counter("tempismo.stream.takeovers", "{takeover}", "Claims of a partition, by cause.")
	in.retries = b.counter("tempismo.stream.retries", "{retry}", "Operations that failed and are tried again, by operation.")
	in.alarms = b.upDown("tempismo.stream.alarms", "{alarm}", "Conditions that an operator must know of, as long as they stand, by kind.")
	in.owned = b.upDown("tempismo.stream.partitions", "{partition}", "Partitions owned.")
	if b.err == nil {
		in.lagRecords, b.err = m.Int64ObservableGauge("tempismo.stream.lag.records", metric.WithUnit("{message}"), metric.WithDescription("Records behind the last batch of an owned partition, over all inputs."))
	}
	if b.err == nil {
		in.lagSeconds, b.err = m.Float64ObservableGauge("tempismo.stream.lag.time", metric.WithUnit("s"), metric.WithDescription("Age of the newest record of the last batch of an owned partition; 0 when nothing is behind it."))
	}
	return in, b.err
}

// builder keeps the first error, so that a list of instruments reads as a list.
type builder struct {
	meter metric.Meter
	err   error
}

func (b *builder) counter(name, unit, help string) (c metric.Int64Counter) {
	if b.err == nil {
		c, b.err = b.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(help))
	}
	return c
}

func (b *builder) upDown(name, unit, help string) (c metric.Int64UpDownCounter) {
	if b.err == nil {
		c, b.err = b.meter.Int64UpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(help))
	}
	return c
}

func (b *builder) histogram(name, help string, bounds metric.HistogramOption) (h metric.Float64Histogram) {
	if b.err == nil {
		h, b.err = b.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help), bounds)
	}
	return h
}

// Observer returns a stream.Observer that turns what the runtime of a service reports into metrics and spans. Attributes
// are built once and kept: building them anew costs four times as much as counting.
func (t *Telemetry) Observer(service string) (stream.Observer, error) {
	in, err := newInstruments(t.Meter())
	if err != nil {
		return nil, err
	}
	o := &observer{
		instruments: in, tracer: t.Tracer(), service: service, names: attribute.String("tempismo.service", service),
		options: map[string]metric.MeasurementOption{}, lags: map[int32]lag{},
	}
	o.phase = [...]metric.MeasurementOption{
		o.attributes(attribute.String("phase", "load")), o.attributes(attribute.String("phase", "step")),
		o.attributes(attribute.String("phase", "wait")), o.attributes(attribute.String("phase", "commit")),
		o.attributes(attribute.String("phase", "publish")),
	}
	o.plain = o.attributes()
	if _, err := t.Meter().RegisterCallback(o.observeLag, in.lagRecords, in.lagSeconds); err != nil {
		return nil, err
	}
	return o, nil
}

// observer implements stream.Observer.
type observer struct {
	instruments
	tracer  trace.Tracer
	service string
	names   attribute.KeyValue
	plain   metric.MeasurementOption
	phase   [5]metric.MeasurementOption

	mu      sync.Mutex
	options map[string]metric.MeasurementOption // by "key=value"
	lags    map[int32]lag
}

// lag is that of one owned partition after its last batch.
type lag struct {
	records int64
	age     time.Duration
	option  metric.MeasurementOption
}

func (o *observer) attributes(kv ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(kv, o.names)...))
}

// with is the option of one more attribute, kept.
func (o *observer) with(key, value string) metric.MeasurementOption {
	o.mu.Lock()
	defer o.mu.Unlock()
	// Keys are constants and values topics, causes, operations and kinds: the map stays small.
	name := key + "=" + value
	opt, ok := o.options[name]
	if !ok {
		opt = o.attributes(attribute.String(key, value))
		o.options[name] = opt
	}
	return opt
}

func (o *observer) Owned(partition int32, owned bool) {
	n := int64(1)
	if !owned {
		n = -1
		o.mu.Lock()
		delete(o.lags, partition)
		o.mu.Unlock()
	}
	o.owned.Add(context.Background(), n, o.plain)
}

func (o *observer) Takeover(_ int32, cause string) {
	o.takeovers.Add(context.Background(), 1, o.with("cause", cause))
}

func (o *observer) Retry(_ int32, op string, _ error) {
	o.retries.Add(context.Background(), 1, o.with("operation", op))
}

func (o *observer) Alarm(_ int32, kind string, raised bool) {
	n := int64(1)
	if !raised {
		n = -1
	}
	o.alarms.Add(context.Background(), n, o.with("kind", kind))
}

func (o *observer) Batch(r *stream.Report) {
	ctx, end := context.Background(), time.Now()
	for _, i := range r.Inputs {
		if i.Records > 0 {
			o.consumed.Add(ctx, int64(i.Records), o.with("messaging.destination.name", i.Topic))
		}
	}
	o.sent.Add(ctx, int64(r.Outputs), o.plain)
	o.bytes.Add(ctx, int64(r.Bytes), o.plain)
	o.suppressed.Add(ctx, int64(r.Suppressed), o.plain)
	o.deadLetters.Add(ctx, int64(r.DeadLetters), o.plain)
	o.duplicates.Add(ctx, int64(r.Duplicates), o.plain)
	o.keys.Add(ctx, int64(r.Keys), o.plain)
	o.misses.Add(ctx, int64(r.Misses), o.plain)
	o.expired.Add(ctx, int64(r.Expired), o.plain)
	o.ticks.Add(ctx, int64(r.Ticks), o.plain)
	o.fired.Add(ctx, int64(r.Fired), o.plain)
	o.stale.Add(ctx, int64(r.Stale), o.plain)
	if r.Late > 0 {
		o.firing.Record(ctx, r.Late.Seconds(), o.plain)
	}
	o.processed.Record(ctx, end.Sub(r.Start).Seconds(), o.plain)
	for i, d := range [...]time.Duration{r.Load, r.Step, r.Wait, r.Commit, r.Publish} {
		o.instruments.phase.Record(ctx, d.Seconds(), o.phase[i])
	}

	o.mu.Lock()
	l := o.lags[r.Partition]
	if l.option == nil {
		l.option = o.attributes(attribute.String("messaging.destination.partition.id", strconv.Itoa(int(r.Partition))))
	}
	l.records, l.age = r.LagRecords, r.Lag
	o.lags[r.Partition] = l
	o.mu.Unlock()

	if len(r.Links) > 0 {
		o.span(ctx, r, end)
	}
}

func (o *observer) observeLag(_ context.Context, to metric.Observer) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.lags {
		to.ObserveInt64(o.lagRecords, l.records, l.option)
		to.ObserveFloat64(o.lagSeconds, l.age.Seconds(), l.option)
	}
	return nil
}

// span makes one span of the batch, linked to every sampled trace in it, and below it one for the commit and one for
// publishing. Batches without a sampled record, nearly all of them, make none.
func (o *observer) span(ctx context.Context, r *stream.Report, end time.Time) {
	links := make([]trace.Link, 0, len(r.Links))
	for _, l := range r.Links[:min(len(r.Links), stream.MaxLinks)] {
		if sc, ok := ParseTraceparent(l); ok {
			links = append(links, trace.Link{SpanContext: sc})
		}
	}
	topic := ""
	if len(r.Inputs) > 0 {
		topic = r.Inputs[0].Topic
	}
	partition := strconv.Itoa(int(r.Partition))
	system := attribute.String("messaging.system", "kafka")
	ctx, batch := o.tracer.Start(ctx, "process "+topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(r.Start), trace.WithLinks(links...),
		trace.WithAttributes(system, o.names, attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", topic), attribute.String("messaging.destination.partition.id", partition),
			attribute.Int("messaging.batch.message_count", r.Records), attribute.Int("tempismo.outputs", r.Outputs), attribute.Int("tempismo.states", r.Keys)))
	published := end.Add(-r.Publish)
	_, commit := o.tracer.Start(ctx, "commit "+topic, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(published.Add(-r.Commit)),
		trace.WithAttributes(attribute.String("messaging.destination.partition.id", partition)))
	commit.End(trace.WithTimestamp(published))
	if r.Outputs > 0 {
		_, send := o.tracer.Start(ctx, "send", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(published),
			trace.WithAttributes(system, attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
				attribute.Int("messaging.batch.message_count", r.Outputs)))
		send.End(trace.WithTimestamp(end))
	}
	batch.End(trace.WithTimestamp(end))
}

// ParseTraceparent reads a W3C traceparent (version 00 and what later versions keep of it); ok is false for anything
// else. https://www.w3.org/TR/trace-context/#traceparent-header
func ParseTraceparent(s string) (sc trace.SpanContext, ok bool) {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || len(s) > 55 && (s[:2] == "00" || s[55] != '-') {
		return sc, false
	}
	traceID, err1 := trace.TraceIDFromHex(s[3:35])
	spanID, err2 := trace.SpanIDFromHex(s[36:52])
	flags, err3 := strconv.ParseUint(s[53:55], 16, 8)
	if err1 != nil || err2 != nil || err3 != nil {
		return sc, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.TraceFlags(flags), Remote: true}), true
}
