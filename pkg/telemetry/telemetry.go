// Package telemetry is what a process tells about itself: logs (slog, JSON), metrics and traces (OpenTelemetry).
//
// Metrics are always kept and served to Prometheus; metrics and traces are also pushed by OTLP over HTTP where an
// endpoint is configured. Everything on the way of records is counted once per batch, never per record, and nothing here
// waits for a backend: exporters work behind bounded queues and drop what does not fit. It is not a framework: services
// hold no global provider, they are handed a *Telemetry, and a nil one is silent.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
)

const scope = "github.com/tempismo/tempismo"

// Config is set by operators. The exporters also read OpenTelemetry's other OTEL_EXPORTER_OTLP_* variables (headers,
// certificates), which need no declaration here.
type Config struct {
	Endpoint string  `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"OTLP over HTTP endpoint for traces and metrics, e.g. http://localhost:4318. Empty: push nothing."`
	Sample   float64 `name:"trace-sample" env:"TRACE_SAMPLE" default:"0.001" help:"Share of new traces that are recorded; a trace that arrives sampled always is."`
}

// Validate reports every unusable setting.
func (c Config) Validate() error {
	var problems []error
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		problems = append(problems, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %q: give a URL such as http://localhost:4318", c.Endpoint))
	}
	if !(c.Sample >= 0 && c.Sample <= 1) {
		problems = append(problems, fmt.Errorf("TRACE_SAMPLE: %v: give a share from 0 to 1", c.Sample))
	}
	return errors.Join(problems...)
}

// Telemetry hands out a service's meter and tracer. Nil is silent.
type Telemetry struct {
	meter    metric.Meter
	tracer   trace.Tracer
	handler  http.Handler
	shutdown []func(context.Context) error
}

// exportTimeout bounds one push; the queue in front of it is bounded too, so a backend that hangs costs spans, not speed.
const exportTimeout = 5 * time.Second

// New starts the telemetry of a service. Shutdown must be called to push what is queued.
func New(ctx context.Context, c Config, service, version string) (*Telemetry, error) {
	res := resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.namespace", "tempismo"),
		attribute.String("service.version", version))
	if fromEnv, err := resource.New(ctx, resource.WithFromEnv()); err == nil {
		if merged, err := resource.Merge(res, fromEnv); err == nil {
			res = merged
		}
	}

	// A registry of our own: two services in one process do not register into each other's.
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, fmt.Errorf("prometheus exporter: %w", err)
	}
	metrics := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(reader)}
	traces := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithSampler(sampler(c.Sample))}
	if base := strings.TrimRight(c.Endpoint, "/"); base != "" {
		spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(base+"/v1/traces"), otlptracehttp.WithTimeout(exportTimeout))
		if err != nil {
			return nil, fmt.Errorf("otlp traces to %s: %w", c.Endpoint, err)
		}
		points, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(base+"/v1/metrics"), otlpmetrichttp.WithTimeout(exportTimeout))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("otlp metrics to %s: %w", c.Endpoint, err), spans.Shutdown(ctx))
		}
		traces = append(traces, sdktrace.WithBatcher(spans, sdktrace.WithExportTimeout(exportTimeout)))
		metrics = append(metrics, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points, sdkmetric.WithTimeout(exportTimeout))))
	}
	mp, tp := sdkmetric.NewMeterProvider(metrics...), sdktrace.NewTracerProvider(traces...)
	return &Telemetry{
		meter:    mp.Meter(scope),
		tracer:   tp.Tracer(scope),
		handler:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		shutdown: []func(context.Context) error{tp.Shutdown, mp.Shutdown},
	}, nil
}

// Nop is a Telemetry that keeps nothing.
func Nop() *Telemetry { return nil }

// Meter makes instruments. It never fails, whatever t is.
func (t *Telemetry) Meter() metric.Meter {
	if t == nil {
		return noopmetric.Meter{}
	}
	return t.meter
}

// Tracer starts spans.
func (t *Telemetry) Tracer() trace.Tracer {
	if t == nil {
		return nooptrace.Tracer{}
	}
	return t.tracer
}

// Handler serves the metrics in Prometheus's text format.
func (t *Telemetry) Handler() http.Handler {
	if t == nil {
		return http.NotFoundHandler()
	}
	return t.handler
}

// Shutdown pushes what is queued, as far as ctx allows, and ends the exporters.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	var problems []error
	for _, f := range t.shutdown {
		problems = append(problems, f(ctx))
	}
	return errors.Join(problems...)
}

// sampler keeps what its parent kept, a batch that a kept trace links to, and a share of the rest.
func sampler(share float64) sdktrace.Sampler {
	return sdktrace.ParentBased(linked{sdktrace.TraceIDRatioBased(share)})
}

type linked struct{ otherwise sdktrace.Sampler }

func (s linked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	for _, l := range p.Links {
		if l.SpanContext.IsSampled() {
			return sdktrace.AlwaysSample().ShouldSample(p)
		}
	}
	return s.otherwise.ShouldSample(p)
}

func (s linked) Description() string { return "Linked{" + s.otherwise.Description() + "}" }

// NewLogger writes JSON lines, each with the service's name and, where the context carries a span, its ids.
func NewLogger(h slog.Handler, service string) *slog.Logger {
	return slog.New(withTrace{h}).With("service", service)
}

type withTrace struct{ slog.Handler }

func (h withTrace) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withTrace) WithAttrs(as []slog.Attr) slog.Handler { return withTrace{h.Handler.WithAttrs(as)} }
func (h withTrace) WithGroup(name string) slog.Handler    { return withTrace{h.Handler.WithGroup(name)} }

// LogErrors sends what OpenTelemetry itself has to complain about (a backend that does not answer) to log, at most once a
// minute. It sets a global of the process, OpenTelemetry has no other way; only app.Main calls it.
func LogErrors(log *slog.Logger) {
	var last atomic.Int64
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		now, before := time.Now().Unix(), last.Load()
		if now-before >= 60 && last.CompareAndSwap(before, now) {
			log.Warn("telemetry is being lost", "error", err)
		}
	}))
}
