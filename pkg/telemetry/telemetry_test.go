package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

func report(links ...string) *stream.Report {
	return &stream.Report{
		Service: "profiler", Partition: 3, Start: time.Now().Add(-20 * time.Millisecond), Records: 12, Bytes: 400, Outputs: 5, Suppressed: 1, DeadLetters: 2,
		Duplicates: 4, Ticks: 9, Fired: 7, Stale: 8, Late: 300 * time.Millisecond, Keys: 6, Misses: 3, Expired: 11, Commit: 5 * time.Millisecond, Publish: 2 * time.Millisecond, LagRecords: 77, Lag: 1500 * time.Millisecond,
		Inputs: []stream.InputReport{{Topic: "engagement.events.v1", Records: 10}, {Topic: "timing.models.v1", Records: 2}}, Links: links,
	}
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func TestTheObserverCountsOncePerBatch(t *testing.T) {
	tel, err := New(t.Context(), Config{}, "profiler", "v1")
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(t.Context())
	o, err := tel.Observer("profiler")
	if err != nil {
		t.Fatal(err)
	}
	o.Owned(3, true)
	o.Owned(4, true)
	o.Owned(4, false)
	o.Takeover(3, stream.TakeoverFenced)
	o.Retry(3, "commit", io.EOF)
	o.Alarm(3, stream.AlarmLost, true)
	o.Alarm(3, stream.AlarmRange, true)
	o.Alarm(3, stream.AlarmRange, false)
	o.Batch(report())
	o.Batch(report())

	got := scrape(t, tel)
	for _, want := range []string{
		`messaging_client_consumed_messages_total{messaging_destination_name="engagement.events.v1",tempismo_service="profiler"} 20`,
		`messaging_client_consumed_messages_total{messaging_destination_name="timing.models.v1",tempismo_service="profiler"} 4`,
		`messaging_client_sent_messages_total{tempismo_service="profiler"} 10`,
		`messaging_process_duration_seconds_count{tempismo_service="profiler"} 2`,
		`tempismo_stream_phase_duration_seconds_count{phase="commit",tempismo_service="profiler"} 2`,
		`tempismo_stream_consumed_size_bytes_total{tempismo_service="profiler"} 800`,
		`tempismo_stream_suppressed_total{tempismo_service="profiler"} 2`,
		`tempismo_stream_dead_letters_total{tempismo_service="profiler"} 4`,
		`tempismo_stream_duplicates_total{tempismo_service="profiler"} 8`,
		`tempismo_stream_states_written_total{tempismo_service="profiler"} 12`,
		`tempismo_stream_states_loaded_total{tempismo_service="profiler"} 6`,
		`tempismo_stream_states_expired_total{tempismo_service="profiler"} 22`,
		`tempismo_stream_ticks_total{tempismo_service="profiler"} 18`,
		`tempismo_stream_timers_fired_total{tempismo_service="profiler"} 14`,
		`tempismo_stream_ticks_stale_total{tempismo_service="profiler"} 16`,
		`tempismo_stream_timers_delay_seconds_bucket{tempismo_service="profiler",le="0.5"} 2`,
		`tempismo_stream_timers_delay_seconds_bucket{tempismo_service="profiler",le="0.25"} 0`,
		`tempismo_stream_takeovers_total{cause="fenced",tempismo_service="profiler"} 1`,
		`tempismo_stream_retries_total{operation="commit",tempismo_service="profiler"} 1`,
		`tempismo_stream_alarms{kind="lost",tempismo_service="profiler"} 1`,
		`tempismo_stream_alarms{kind="out-of-range",tempismo_service="profiler"} 0`,
		`tempismo_stream_partitions{tempismo_service="profiler"} 1`,
		`tempismo_stream_lag_records{messaging_destination_partition_id="3",tempismo_service="profiler"} 77`,
		`tempismo_stream_lag_time_seconds{messaging_destination_partition_id="3",tempismo_service="profiler"} 1.5`,
		`target_info{service_name="profiler",service_namespace="tempismo",service_version="v1"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("missing %s", want)
		}
	}
	o.Owned(3, false)
	if strings.Contains(scrape(t, tel), "lag_records{") {
		t.Error("the lag of a partition that was given up is still told")
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestABatchIsASpanOnlyIfARecordInItIsSampled(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler(0)), sdktrace.WithSyncer(exporter))
	tel := &Telemetry{meter: Nop().Meter(), tracer: tp.Tracer(scope)}
	o, err := tel.Observer("profiler")
	if err != nil {
		t.Fatal(err)
	}
	o.Batch(report())
	o.Batch(report(unsampled))
	o.Batch(report("nonsense"))
	if got := exporter.GetSpans(); len(got) != 0 {
		t.Fatalf("spans of batches without a sampled record: %v", got)
	}
	many := make([]string, 500)
	for i := range many {
		many[i] = sampled
	}
	o.Batch(report(many...))
	spans := exporter.GetSpans()
	var names []string
	for _, s := range spans {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, ", "); got != "commit engagement.events.v1, send, process engagement.events.v1" {
		t.Fatalf("spans %s", got)
	}
	batch := spans[2]
	if len(batch.Links) != stream.MaxLinks || batch.Links[0].SpanContext.TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("%d links, the first %+v", len(batch.Links), batch.Links[0].SpanContext)
	}
	if batch.SpanKind != trace.SpanKindConsumer || spans[0].Parent.SpanID() != batch.SpanContext.SpanID() {
		t.Errorf("kind %v, parent of the commit %v", batch.SpanKind, spans[0].Parent)
	}
}

func TestParseTraceparent(t *testing.T) {
	for _, c := range []struct {
		name, in    string
		ok, sampled bool
	}{
		{"sampled", sampled, true, true},
		{"not sampled", unsampled, true, false},
		{"a later version may be longer", "01" + sampled[2:] + "-more", true, true},
		{"version 00 may not", sampled + "-more", false, false},
		{"version ff does not exist", "ff" + sampled[2:], false, false},
		{"an all-zero trace id is invalid", "00-00000000000000000000000000000000-b7ad6b7169203331-01", false, false},
		{"an all-zero span id is invalid", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false, false},
		{"flags are hexadecimal", sampled[:53] + "zz", false, false},
		{"empty", "", false, false},
	} {
		if sc, ok := ParseTraceparent(c.in); ok != c.ok || sc.IsSampled() != c.sampled {
			t.Errorf("%s: got %+v, %t", c.name, sc, ok)
		}
	}
}

// TestABackendThatHangsCostsNoTime pushes to a server that takes requests and never answers.
func TestABackendThatHangsCostsNoTime(t *testing.T) {
	release, asked := make(chan struct{}), make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-release
	}))
	defer server.Close()
	before := goleak.IgnoreCurrent()
	tel, err := New(t.Context(), Config{Endpoint: server.URL, Sample: 1}, "profiler", "v1")
	if err != nil {
		t.Fatal(err)
	}
	o, err := tel.Observer("profiler")
	if err != nil {
		t.Fatal(err)
	}
	// More spans than the queue holds; were one of them to wait, the test would hang.
	for range 3000 {
		o.Batch(report(sampled))
	}
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := tel.Shutdown(ctx); err == nil {
		t.Error("nothing could be pushed, and Shutdown does not say so")
	}
	close(release)
	// The exporter drains its queue, then only idle connections are left, and they end with the server.
	idle := []goleak.Option{before, goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop")}
	for goleak.Find(idle...) != nil && t.Context().Err() == nil {
	}
}

func TestTracesAndMetricsArePushed(t *testing.T) {
	var traces, metrics atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/traces":
			traces.Add(1)
		case "/v1/metrics":
			metrics.Add(1)
		}
	}))
	defer server.Close()
	tel, err := New(t.Context(), Config{Endpoint: server.URL + "/"}, "profiler", "v1")
	if err != nil {
		t.Fatal(err)
	}
	o, err := tel.Observer("profiler")
	if err != nil {
		t.Fatal(err)
	}
	o.Batch(report(sampled))
	if err := tel.Shutdown(t.Context()); err != nil || traces.Load() == 0 || metrics.Load() == 0 {
		t.Errorf("traces %d, metrics %d, %v", traces.Load(), metrics.Load(), err)
	}
}

func TestANilTelemetryIsSilent(t *testing.T) {
	o, err := Nop().Observer("profiler")
	if err != nil {
		t.Fatal(err)
	}
	o.Owned(1, true)
	o.Batch(report(sampled))
	_, span := Nop().Tracer().Start(t.Context(), "anything")
	span.End()
	if err := Nop().Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		wrong  string
	}{
		{"nothing set", Config{}, ""},
		{"an endpoint", Config{Endpoint: "http://collector:4318", Sample: 1}, ""},
		{"an endpoint without scheme", Config{Endpoint: "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"a share above one", Config{Sample: 1.5}, "TRACE_SAMPLE"},
	} {
		if err := c.config.Validate(); (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func TestLogLinesCarryServiceAndTrace(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(slog.NewJSONHandler(&out, nil), "profiler").With("partition", 3)
	sc, _ := ParseTraceparent(sampled)
	log.InfoContext(trace.ContextWithSpanContext(t.Context(), sc), "taken over")
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got["service"] != "profiler" || got["trace_id"] != "0af7651916cd43dd8448eb211c80319c" || got["span_id"] != "b7ad6b7169203331" || got["partition"] != 3.0 {
		t.Errorf("got %s", &out)
	}
	out.Reset()
	log.Info("without a span")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("got %s", &out)
	}
}
