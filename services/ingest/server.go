package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/webhook/sfmc"
)

// writer appends messages to a topic and returns when all are acknowledged. A kafka.Writer is one; tests hold theirs up.
type writer interface {
	WriteAll(ctx context.Context, topic string, messages []stream.Message) error
}

// budget bounds the bytes of requests that are being answered.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes, if there is room.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// server answers requests.
type server struct {
	config     Config
	out        writer
	almanac    almanac
	register   register
	blind      atomic.Bool // the register cannot be asked
	room       budget
	clients    []client
	providers  []provider
	keys       []string // of pseudonyms, the newest first
	machines   *engagement.Lists
	now        func() time.Time
	log        *slog.Logger
	tracer     trace.Tracer
	events     metric.Int64Counter
	pseudonyms metric.Int64Counter
	requests   metric.Float64Histogram
}

func newServer(c Config, out writer, store snapshots, partitions int32, set app.Settings, now func() time.Time) (*server, error) {
	run := stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}
	s := &server{config: c, keys: pseudonymKeys(c.Pseudonym), out: out, almanac: almanac{store: store, run: run, partitions: partitions},
		register: register{store: store, run: run, partitions: partitions, assumed: c.Pixels.Assumed(run.Simulated)}, room: budget{limit: c.MaxFlight}, now: now, log: set.Log, tracer: set.Telemetry.Tracer()}
	var problems [7]error
	s.clients, problems[5] = c.clients()
	s.providers, problems[0] = c.providers()
	m := set.Telemetry.Meter()
	s.events, problems[1] = m.Int64Counter("tempismo.ingest.events", metric.WithUnit("{event}"),
		metric.WithDescription("Events, requests and customers by endpoint, provider, client (the name of its token) and what became of them: accepted, ignored (not engagement), unconsented (opens that the customer has not consented to), dead (of a webhook, and could not be mapped), erased (a customer who is to be forgotten), rejected (not valid; a webhook that is not the provider's counts as one), unacknowledged (the sender was told to try again); of topics of others by source: unknown (ignored, and the file does not name the kind), missed (no longer there when it was to be read)."))
	s.pseudonyms, problems[6] = m.Int64Counter("tempismo.ingest.pseudonyms", metric.WithUnit("{message}"),
		metric.WithDescription("While PSEUDONYM_KEY has several keys: messages of customers by the place of the key under which they are known, 1 for the newest."))
	s.requests, problems[2] = m.Float64Histogram("http.server.request.duration", metric.WithUnit("s"), metric.WithDescription("Duration of requests by route and status."))
	for _, p := range s.providers {
		if source, ok := p.source.(*sfmc.Source); ok { // which has to tell the operator a key
			source.Log = set.Log
		}
	}
	s.machines, problems[4] = c.machines()
	_, problems[3] = m.Int64ObservableGauge("tempismo.ingest.in_flight", metric.WithUnit("By"), metric.WithDescription("Bytes of requests that are being answered."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error { o.Observe(s.room.used.Load()); return nil }))
	return s, errors.Join(problems[:]...)
}

// batch is what a request says.
type batch struct {
	messages    []stream.Message
	ids         []string // by which its elements are known, where the sender is to be told
	ignored     int      // valid, but not engagement
	watched     []watched
	doubts      []doubt
	unconsented int // opens that were withheld
	wrong       []wrong
	erasures    []stream.Message // of customers who are to be forgotten, one for each key of pseudonyms
	erased      int              // such customers
	dead        int              // elements that cannot be taken, where the rest is taken all the same
	letters     []stream.Message // with the bytes of those, once where several have the same
	answer      []byte           // of a request that is no batch but wants this answer
	shaken      bool             // whether it is one
}

// wrong names one mistake in a request.
type wrong struct {
	Index  int    `json:"index"` // of the element in the request
	Field  string `json:"field"` // empty: the element as a whole
	Reason string `json:"reason"`
}

// maxWrong bounds the mistakes that an answer lists.
const maxWrong = 20

// refuse keeps err as a mistake in element i of the request.
func (b *batch) refuse(i int, err error) {
	w := wrong{Index: i, Reason: err.Error()}
	if f := (*engagement.FieldError)(nil); errors.As(err, &f) {
		w.Field, w.Reason = f.Field, f.Reason
	} else if field, reason, ok := strings.Cut(w.Reason, ": "); ok && path.MatchString(field) {
		w.Field, w.Reason = field, reason
	}
	b.wrong = append(b.wrong, w)
}

// path is how the domain's errors begin: with the field that is wrong.
var path = regexp.MustCompile(`^(id|data)[a-z0-9_.[\]]*$`)

// refusal is an answer other than 202.
type refusal struct {
	status    int
	detail    string
	wrong     []wrong
	challenge string // how 401 is to be answered; empty: with a bearer token
}

func (r *refusal) Error() string { return r.detail }

// endpoint is a way in.
type endpoint struct {
	route, topic string
	noun         string                  // what one element is
	allow        func(http.Header) error // looks at a request before room is made for its body
	read         reader
	answer       func(b *batch) any // of a request that was taken
	provider     *provider          // whose webhook it is; nil: the API's
}

// reader turns a request into a batch. A mistake in an element is kept in the batch; the error, a *refusal, concerns the
// whole. The elements' trace is traceparent where they name none.
type reader func(r *http.Request, body []byte, traceparent string) (batch, error)

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, e := range s.endpoints() {
		mux.Handle("POST "+e.route, s.take(&e))
	}
	mux.Handle("GET "+bestTimesRoute, s.bestTimes())
	return mux
}

func (s *server) endpoints() []endpoint {
	counts := func(b *batch) any {
		return map[string]int{"accepted": len(b.messages), "ignored": b.ignored, "unconsented": b.unconsented}
	}
	accepted := func(b *batch) any { return map[string]int{"accepted": len(b.messages)} }
	all := []endpoint{
		{"/v1/events", topics.Events, "event", s.authorized, s.readEvents, counts, nil},
		{"/v1/requests", topics.Requests, "request", s.authorized, s.readRequests, func(b *batch) any {
			return map[string]any{"accepted": len(b.messages), "ids": b.ids}
		}, nil},
		{"/v1/customers", topics.Attributes, "customer", s.authorized, s.readCustomers, accepted, nil},
		{"/v1/consents", topics.Consents, "answer", s.authorized, s.readConsents, accepted, nil},
	}
	for i := range s.providers {
		if s.providers[i].source != nil {
			all = append(all, s.webhook(&s.providers[i]))
		}
	}
	return all
}

// outcomes are what may become of what is sent to an endpoint, as its counter has them.
type outcomes struct {
	accepted, ignored, unconsented, dead, erased, rejected, unacknowledged metric.MeasurementOption
}

// outcomes are those of a client; empty: of a provider, or of everybody.
func (e *endpoint) outcomes(client string) *outcomes {
	at := func(outcome string) metric.MeasurementOption {
		set := []attribute.KeyValue{attribute.String("http.route", e.route), attribute.String("outcome", outcome)}
		if e.provider != nil {
			set = append(set, attribute.String("provider", e.provider.name))
		}
		if client != "" {
			set = append(set, attribute.String("client", client))
		}
		return metric.WithAttributeSet(attribute.NewSet(set...))
	}
	return &outcomes{at("accepted"), at("ignored"), at("unconsented"), at("dead"), at("erased"), at("rejected"), at("unacknowledged")}
}

// take is everything that the ways in have in common.
func (s *server) take(e *endpoint) http.Handler {
	by := map[string]*outcomes{"": e.outcomes("")}
	if e.provider == nil {
		for _, name := range s.known() {
			by[name] = e.outcomes(name)
		}
	}
	taken, later := http.StatusAccepted, http.StatusServiceUnavailable
	if e.provider != nil {
		taken, later = e.provider.taken, e.provider.later
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ctx, span, traceparent := span(s.tracer, r, "POST "+e.route)
		defer span.End()
		r = r.WithContext(ctx)
		sent := by[""]
		if e.provider == nil {
			if name := s.client(r.Header); name != "" {
				sent = by[name]
				span.SetAttributes(attribute.String("tempismo.client", name))
			}
		}
		var b batch
		err := e.allow(r.Header)
		if err == nil {
			b, err = s.append(ctx, w, r, e, traceparent)
		}
		status := taken
		var no *refusal
		switch {
		case err == nil && b.shaken:
			status = http.StatusOK
			shake(w, b.answer)
		case err == nil:
			s.events.Add(ctx, int64(len(b.messages)), sent.accepted)
			s.events.Add(ctx, int64(b.ignored), sent.ignored)
			s.events.Add(ctx, int64(b.unconsented), sent.unconsented)
			if e.provider != nil {
				s.events.Add(ctx, int64(b.dead), sent.dead)
				s.events.Add(ctx, int64(b.erased), sent.erased)
			}
			reply(w, status, "application/json", e.answer(&b))
		case errors.As(err, &no):
			switch {
			case len(no.wrong) > 0:
				s.events.Add(ctx, int64(len(b.messages)+b.ignored+len(b.wrong)), sent.rejected)
			case no.status == http.StatusServiceUnavailable:
				s.events.Add(ctx, int64(len(b.messages)+b.erased+b.dead), sent.unacknowledged)
				no.status = later
			case e.provider != nil:
				s.events.Add(ctx, 1, sent.rejected)
			}
			status = no.status
			refuse(w, no)
		default: // the client has gone
			status = 499
			s.events.Add(ctx, int64(len(b.messages)+b.erased+b.dead), sent.unacknowledged)
		}
		if status >= 500 {
			span.SetStatus(codes.Error, err.Error())
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status), attribute.Int("tempismo.records", len(b.messages)))
		s.requests.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(attribute.String("http.route", e.route), attribute.Int("http.response.status_code", status)))
	})
}

// append reads a request and has its elements appended. The room for a body is reserved while it comes; app.Serve bounds for how
// long. Errors are a *refusal, or that of a client that has gone.
func (s *server) append(ctx context.Context, w http.ResponseWriter, r *http.Request, e *endpoint, traceparent string) (batch, error) {
	size := r.ContentLength
	if size < 0 {
		size = s.config.MaxBody
	}
	if size > s.config.MaxBody {
		return batch{}, s.tooLarge()
	}
	if !s.room.take(size) {
		return batch{}, &refusal{status: http.StatusServiceUnavailable, detail: "too many requests wait for Kafka; nothing of this one was taken, send it again later"}
	}
	defer s.room.give(size)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.config.MaxBody))
	if err != nil {
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return batch{}, s.tooLarge()
		}
		return batch{}, &refusal{status: http.StatusBadRequest, detail: "the body ends too early: " + err.Error()}
	}
	b, err := e.read(r, body, traceparent)
	if err != nil {
		return b, err
	}
	if e.provider == nil && len(b.wrong) > 0 {
		return b, invalid(&b, e.noun)
	}
	waiting, cancel := context.WithTimeout(ctx, s.config.Patience)
	defer cancel()
	if err := s.withhold(waiting, &b); err != nil {
		return b, err
	}
	err = s.keep(waiting, e.topic, e.provider, &b)
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil:
		return b, ctx.Err()
	case errors.Is(err, kafka.ErrTooLarge):
		return b, &refusal{status: http.StatusRequestEntityTooLarge, detail: err.Error()}
	}
	return b, &refusal{status: http.StatusServiceUnavailable, detail: fmt.Sprintf("Kafka has not acknowledged the %ss; send them again with the same ids, one that was appended after all counts once", e.noun)}
}

func (s *server) tooLarge() *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("the body is larger than %d bytes: send less at once", s.config.MaxBody)}
}

// invalid refuses a batch for its mistakes.
func invalid(b *batch, noun string) *refusal {
	if noun += " is"; len(b.wrong) > 1 {
		noun = strings.TrimSuffix(noun, " is") + "s are"
	}
	return &refusal{
		status: http.StatusBadRequest,
		detail: fmt.Sprintf("%d %s not valid, therefore none of the request was taken", len(b.wrong), noun),
		wrong:  b.wrong[:min(len(b.wrong), maxWrong)],
	}
}

// maxAhead is how far ahead of this machine's clock the time of an element may be; beyond it a clock is wrong, and an event
// would hold the customer's profile back until that time has come.
const maxAhead = 60 * time.Second

var headers = []stream.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}}

// ahead reports whether t lies further ahead of the time here than clocks differ. In a simulated run any time is as good
// as another.
func (s *server) ahead(t time.Time) bool {
	return !s.config.Run.Simulated() && t.After(s.now().Add(maxAhead))
}

var errAhead = fmt.Sprintf("lies more than %v ahead of the time here", maxAhead)

// retryAfter is what senders are told when Kafka is behind, in seconds.
const retryAfter = 5

// refuse answers with problem details (RFC 9457).
func refuse(w http.ResponseWriter, r *refusal) {
	switch r.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", cmp.Or(r.challenge, "Bearer"))
	}
	reply(w, r.status, "application/problem+json", struct {
		Type   string  `json:"type"`
		Title  string  `json:"title"`
		Status int     `json:"status"`
		Detail string  `json:"detail"`
		Errors []wrong `json:"errors,omitempty"`
	}{"about:blank", http.StatusText(r.status), r.status, r.detail, r.wrong})
}

func reply(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone; there is nobody left to tell
}
