package ingest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// span starts the request's span and returns the traceparent (W3C Trace Context) that its events carry from here to the
// CRM: that of the span, which continues the caller's trace if the request names one. A process that records no traces
// hands the caller's on, or makes one up, so that a decision can be followed back in the logs all the same.
func span(tracer trace.Tracer, r *http.Request, name string) (context.Context, trace.Span, string) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, s := tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, s, parent(ctx, s)
}

// parent is the traceparent of what happens in span s, which ctx carries.
func parent(ctx context.Context, s trace.Span) string {
	if !s.SpanContext().IsValid() {
		var random [24]byte
		rand.Read(random[:]) // never fails, see its documentation
		return "00-" + hex.EncodeToString(random[:16]) + "-" + hex.EncodeToString(random[16:]) + "-00"
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// validTrace reports whether t is a traceparent of version 00.
func validTrace(t string) bool {
	const shape = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if len(t) != len(shape) || t[:3] != "00-" || t[35] != '-' || t[52] != '-' {
		return false
	}
	digits := t[3:35] + t[36:52] + t[53:]
	return strings.Trim(digits, "0123456789abcdef") == "" && strings.Trim(t[3:35], "0") != "" && strings.Trim(t[36:52], "0") != ""
}
