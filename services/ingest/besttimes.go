package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

const bestTimesRoute = "/v1/customers/{id}/best-times"

// Bounds of what is asked of best times.
const (
	usualSpan = 7 * 24 * time.Hour
	maxSpan   = 31 * 24 * time.Hour
)

// Services whose states are read. Their names are part of the run's keys in the store.
const (
	deciderService  = "decider"
	profilerService = "profiler"
)

// snapshots reads what services have stored. A redis.Store is one; tests have theirs in memory.
type snapshots interface {
	Read(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error)
	Peek(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error)
}

// shelf opens the store when it is first asked for: that Redis is away must not keep events out.
type shelf struct {
	config redis.Config
	mu     sync.Mutex
	store  *redis.Store
}

func (s *shelf) open(ctx context.Context) (*redis.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		store, err := redis.Open(ctx, s.config)
		if err != nil {
			return nil, err
		}
		s.store = store
	}
	return s.store, nil
}

func (s *shelf) Read(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	store, err := s.open(ctx)
	if err != nil {
		return stream.Snapshot{}, err
	}
	return store.Read(ctx, group, partition, keys)
}

func (s *shelf) Peek(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	store, err := s.open(ctx)
	if err != nil {
		return stream.Snapshot{}, err
	}
	return store.Peek(ctx, group, partition, keys)
}

func (s *shelf) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store != nil {
		s.store.Close()
	}
}

// parsed keeps what a record, or none, says as long as it stays the same.
type parsed[T any] struct {
	mu    sync.Mutex
	known bool
	raw   []byte
	value T
}

func (p *parsed[T]) of(raw []byte, parse func([]byte) (T, error)) (T, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known && bytes.Equal(p.raw, raw) {
		return p.value, nil
	}
	v, err := parse(raw)
	if err == nil {
		p.known, p.raw, p.value = true, raw, v
	}
	return v, err
}

// almanac says when a customer is best written to. It decides nothing: it asks the code that decides, with what the decider
// and the profiler have stored, what it would think of each hour.
type almanac struct {
	store      snapshots
	run        stream.Run
	partitions int32
	policy     parsed[*decision.Policy]
	model      parsed[*timing.Model]
}

// bestTimes is the answer.
type bestTimes struct {
	Customer   string            `json:"customer"`
	Channel    string            `json:"channel"`
	Confidence int               `json:"confidence"`
	Level      string            `json:"level"`
	Slots      []decision.Slot   `json:"slots"`
	MadeFrom   decision.MadeFrom `json:"made_from"`
}

// moment gathers what the decider would decide with. Whom messages are for is left out: the question names no audience, so
// overlap excludes nothing.
func (a *almanac) moment(ctx context.Context, customer string, now time.Time) (*decision.Moment, *decision.State, error) {
	partition := stream.Partition([]byte(customer), a.partitions)
	keys := []string{customer}
	decider, err := a.store.Read(ctx, a.run.Group(deciderService), partition, keys)
	if err != nil {
		return nil, nil, err
	}
	profiler, err := a.store.Peek(ctx, a.run.Group(profilerService), partition, keys)
	if err != nil {
		return nil, nil, err
	}
	known, learned := decider.Values[0], profiler.Values[0]
	m := &decision.Moment{Now: now, Customer: customer, Positions: map[string]string{}}
	for topic, offset := range decider.Positions {
		m.Positions[topic] = strconv.Itoa(int(partition)) + ":" + strconv.FormatInt(offset-1, 10)
	}
	if m.Policy, err = a.policy.of(decider.Broadcast[topics.Policies], policyIn); err != nil {
		return nil, nil, fmt.Errorf("policy in force: %w", err)
	}
	state := new(decision.State)
	if len(known) > 0 {
		if err := state.Decode(known); err != nil {
			return nil, nil, fmt.Errorf("state of the customer: %w", err)
		}
	}
	m.Lookup, err = a.lookup(&profiler, &decider, learned, partition, m)
	return m, state, err
}

// lookup is what the decider's Lookup would be given now.
func (a *almanac) lookup(profiler, decider *stream.Snapshot, learned []byte, partition int32, m *decision.Moment) (*decision.Lookup, error) {
	model, err := a.model.of(decider.Broadcast[topics.Models], modelIn)
	if err != nil {
		return nil, fmt.Errorf("model in force: %w", err)
	}
	var profile *timing.Profile
	switch {
	case profiler.Lost || len(profiler.Rebuilding) > 0: // it knows less than it did: business hours are assumed
		model = timing.Builtin()
	case len(learned) > 0:
		profile = new(timing.Profile)
		if err := profile.Decode(learned); err != nil {
			return nil, fmt.Errorf("profile of the customer: %w", err)
		}
	}
	l := decision.NewLookup(profile, model, slices.Sorted(maps.Keys(m.Policy.Channels)), m.Now)
	if n := profiler.Positions[topics.Events]; n > 0 && profile != nil {
		l.Profile = topics.Events + ":" + strconv.Itoa(int(partition)) + ":" + strconv.FormatInt(n-1, 10)
	}
	return l, nil
}

// policyIn reads a policy record; where none was written the default is in force.
func policyIn(record []byte) (*decision.Policy, error) {
	if len(record) == 0 {
		p := decision.Default()
		return &p, nil
	}
	return decision.ParsePolicyRecord(record)
}

// modelIn reads a model record; where none was written the built-in model is in force.
func modelIn(record []byte) (*timing.Model, error) {
	if len(record) == 0 {
		return timing.Builtin(), nil
	}
	return timing.ParseModelRecord(record)
}

// span of time that is asked for, and the channel.
type question struct {
	channel  string
	from, to time.Time
}

// question reads the query.
func (s *server) question(r *http.Request) (question, error) {
	query, now := r.URL.Query(), s.now()
	q := question{channel: query.Get("channel"), from: now}
	var wrongs []wrong
	refuse := func(field, reason string) { wrongs = append(wrongs, wrong{Field: field, Reason: reason}) }
	at := func(name string, to *time.Time) {
		if text := query.Get(name); text != "" {
			var err error
			if *to, err = time.Parse(time.RFC3339, text); err != nil || to.Year() < 1970 || to.Year() > 9998 {
				refuse(name, "must be a time such as 2026-12-03T09:00:00Z")
			}
		}
	}
	at("from", &q.from)
	q.to = q.from.Add(usualSpan)
	at("to", &q.to)
	if q.channel == "" {
		refuse("channel", "is required, e.g. email")
	}
	switch {
	case len(wrongs) > 0:
	case !q.to.After(q.from):
		refuse("to", "must be later than from")
	case q.to.Sub(q.from) > maxSpan:
		refuse("to", fmt.Sprintf("must be at most %d days after from", int(maxSpan.Hours()/24)))
	}
	if len(wrongs) > 0 {
		return q, &refusal{status: http.StatusBadRequest, detail: "the query is not valid", wrong: wrongs}
	}
	return q, nil
}

// answer looks for the best times of a customer.
func (s *server) answer(ctx context.Context, r *http.Request) (*bestTimes, error) {
	if err := s.authorized(r.Header); err != nil {
		return nil, err
	}
	q, err := s.question(r)
	if err != nil {
		return nil, err
	}
	now := s.now()
	if s.config.Run.Simulated() {
		now = q.from // its clock is not ours
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Patience)
	defer cancel()
	customer, err := s.customer(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	m, state, err := s.almanac.moment(ctx, customer, now)
	if err != nil {
		return nil, &refusal{status: http.StatusServiceUnavailable, detail: "the profiles cannot be read: " + err.Error()}
	}
	if _, ok := m.Policy.Channels[q.channel]; !ok {
		return nil, &refusal{status: http.StatusBadRequest, detail: "the query is not valid",
			wrong: []wrong{{Field: "channel", Reason: fmt.Sprintf("is none of the policy in force, which has %v", slices.Sorted(maps.Keys(m.Policy.Channels)))}}}
	}
	forecast := m.Lookup.Channels[q.channel]
	return &bestTimes{
		Customer: customer, Channel: q.channel, Confidence: forecast.Confidence, Level: forecast.Level,
		Slots:    append([]decision.Slot{}, m.Slots(state, q.channel, q.from, q.to)...), // none is a list, too
		MadeFrom: decision.MadeFrom{Positions: m.Positions, Profile: m.Lookup.Profile, Model: m.Lookup.Model, Policy: m.Policy.Version, Calendar: m.Policy.Closed.Name},
	}, nil
}

// bestTimes serves the question when a customer is best written to.
func (s *server) bestTimes() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, status := time.Now(), http.StatusOK
		ctx, span, _ := span(s.tracer, r, "GET "+bestTimesRoute)
		defer span.End()
		best, err := s.answer(ctx, r)
		if no := (*refusal)(nil); errors.As(err, &no) {
			status = no.status
			refuse(w, no)
		} else {
			reply(w, status, "application/json", best)
		}
		if status >= 500 {
			span.SetStatus(codes.Error, err.Error())
		}
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		s.requests.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(attribute.String("http.route", bestTimesRoute), attribute.Int("http.response.status_code", status)))
	})
}
