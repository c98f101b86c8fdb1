package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
)

// RequestOptions say how many requests wait.
type RequestOptions struct {
	Requests int
	Due      int // further ones that are due within one minute; 0: firing is not measured
}

// RequestFigures are what was measured.
type RequestFigures struct {
	Requests   int     `json:"requests"`
	Seconds    float64 `json:"seconds"` // from the first request to the last decision
	PerSecond  float64 `json:"requests_per_second"`
	Memory     float64 `json:"redis_bytes_per_request,omitempty"` // used_memory; 0: the store does not say
	State      float64 `json:"state_bytes_per_request"`           // keys and values, without the index of timers
	RSS        int64   `json:"decider_rss_bytes,omitempty"`       // with everything waiting; 0: this system does not say
	RestartRSS int64   `json:"restarted_rss_bytes,omitempty"`
	Restart    float64 `json:"restart_seconds"` // from the start of the process until every partition has decided something new
	Due        int     `json:"due"`
	DelayP50   float64 `json:"firing_delay_p50_ms,omitempty"` // from the time at which it was due to its decision's arrival at a consumer
	DelayP99   float64 `json:"firing_delay_p99_ms,omitempty"`
	DelayMax   float64 `json:"firing_delay_max_ms,omitempty"`
}

// MeasureRequests measures the decider with many requests that wait. It needs a live run, because requests wait for the time
// of day.
func MeasureRequests(ctx context.Context, s *System, o RequestOptions) (f *RequestFigures, err error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	b := &requests{System: s, RequestOptions: o, arrived: map[string]time.Time{}}
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	defer b.w.Close()
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- b.watch(ctx) }()
	defer func() { cancel(); err = errors.Join(err, <-watched) }()
	defer b.stop()
	if err := b.measure(ctx); err != nil {
		return nil, err
	}
	return &b.f, nil
}

// requests is a measurement under way.
type requests struct {
	*System
	RequestOptions
	w    *kafka.Writer
	f    RequestFigures
	proc *process

	mu      sync.Mutex
	decided int64
	arrived map[string]time.Time // decisions on requests that were asked after, and when they came
	due     map[string]time.Time // of the latter, when they were due
}

// prepare opens the writer and puts a policy into force that lets requests wait for days: every day is open.
func (b *requests) prepare(ctx context.Context) (err error) {
	if b.w, err = kafka.NewWriter(ctx, b.Log, b.Run); err != nil {
		return err
	}
	p := decision.Default()
	p.Version, p.Quiet, p.Lead, p.Closed = "bench", calendar.Window{}, nil, calendar.None
	email := p.Channels["email"]
	email.Windows = []calendar.Opening{{Window: calendar.Window{To: 24 * 60}}}
	p.Channels["email"] = email
	e := stream.Event{ID: "bench", Source: "/tempismo/bench", Type: decision.PolicyType, Time: time.Now(), Data: p.Append(nil)}
	return b.w.Broadcast(ctx, topics.Policies, e.Append(nil), time.Time{})
}

// measure takes one figure after the other.
func (b *requests) measure(ctx context.Context) error {
	before, _ := b.memory(ctx)
	if err := b.start(); err != nil {
		return err
	}
	if err := b.probe(ctx, "first"); err != nil { // so that starting is no part of placing
		return err
	}
	if err := b.place(ctx); err != nil {
		return err
	}
	b.f.RSS = b.rss()
	if after, ok := b.memory(ctx); ok {
		b.f.Memory = float64(after-before) / float64(b.Requests)
	}
	if err := b.states(ctx); err != nil {
		return err
	}
	if err := b.restart(ctx); err != nil {
		return err
	}
	return b.fire(ctx)
}

// place writes the requests, a month of deadlines, and waits for their decisions.
func (b *requests) place(ctx context.Context) error {
	b.say("placing %d requests", b.Requests)
	b.mu.Lock()
	already := b.decided
	b.mu.Unlock()
	began := time.Now()
	const each = 5000
	for from := 0; from < b.Requests; from += each {
		var msgs []stream.Message
		for i := from; i < min(from+each, b.Requests); i++ {
			now := time.Now()
			msgs = append(msgs, request(fmt.Sprint("r-", i), fmt.Sprint("c-", i), now, time.Time{}, now.Add(24*time.Hour+time.Duration(i%720)*time.Hour)))
		}
		if err := b.w.WriteAll(ctx, topics.Requests, msgs); err != nil {
			return err
		}
	}
	err := b.until(ctx, func() bool { return b.decided-already >= int64(b.Requests) })
	b.f.Requests, b.f.Seconds = b.Requests, time.Since(began).Seconds()
	b.f.PerSecond = float64(b.Requests) / b.f.Seconds
	return err
}

func request(id, customer string, now, notBefore, deadline time.Time) stream.Message {
	r := decision.Request{Action: decision.Place, Channel: "email", Message: "winter-preview", Audience: "audience-" + id[len(id)-1:], Priority: 2, NotBefore: notBefore, Deadline: deadline, OnDeviation: true}
	data, err := json.Marshal(r)
	if err != nil {
		panic(err) // it is made of strings and times
	}
	e := stream.Event{ID: id, Source: "/tempismo/bench", Type: decision.RequestType, Subject: customer, Time: now, Data: data}
	return stream.Message{Key: []byte(customer), Value: e.Append(nil)}
}

// restart ends the decider as an operator does, starts it anew, and waits until every partition has decided something.
func (b *requests) restart(ctx context.Context) error {
	b.say("restarting")
	b.stop()
	began := time.Now()
	if err := b.start(); err != nil {
		return err
	}
	if err := b.probe(ctx, "again"); err != nil {
		return err
	}
	b.f.Restart, b.f.RestartRSS = time.Since(began).Seconds(), b.rss()
	return nil
}

// probe places a request in every partition and waits for the decisions.
func (b *requests) probe(ctx context.Context, name string) error {
	var ids []string
	var msgs []stream.Message
	for p, i := int32(0), 0; p < b.Partitions; i++ {
		customer := fmt.Sprintf("%s-%d", name, i)
		if stream.Partition([]byte(customer), b.Partitions) != p {
			continue
		}
		now := time.Now()
		msgs = append(msgs, request("p-"+customer, customer, now, time.Time{}, now.Add(48*time.Hour)))
		ids = append(ids, "p-"+customer)
		p++
	}
	b.ask(ids, nil)
	if err := b.w.WriteAll(ctx, topics.Requests, msgs); err != nil {
		return err
	}
	return b.until(ctx, func() bool {
		return !slices.ContainsFunc(ids, func(id string) bool { return b.arrived[id].IsZero() })
	})
}

// ask has decisions on these requests noted: the first, or where they are due, the one by which they end.
func (b *requests) ask(ids []string, due map[string]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.arrived[id] = time.Time{}
	}
	b.due = due
}

// fire places requests that can go out within one minute only, and measures how late they do.
func (b *requests) fire(ctx context.Context) error {
	if b.Due == 0 {
		return nil
	}
	minute := time.Now().Truncate(time.Minute).Add(2 * time.Minute)
	b.say("firing %d timers between %s and a minute later", b.Due, minute.Format("15:04"))
	var ids []string
	var msgs []stream.Message
	for i := range b.Due {
		id := fmt.Sprint("f-", i)
		ids = append(ids, id)
		msgs = append(msgs, request(id, fmt.Sprint("due-", i), time.Now(), minute, minute.Add(time.Minute)))
	}
	b.ask(ids, map[string]time.Time{})
	if err := b.w.WriteAll(ctx, topics.Requests, msgs); err != nil {
		return err
	}
	err := b.until(ctx, func() bool { return len(b.due) == b.Due })
	if err != nil {
		return err
	}
	delays := make([]float64, 0, b.Due)
	for id, due := range b.due {
		delays = append(delays, float64(b.arrived[id].Sub(due).Microseconds())/1000)
	}
	slices.Sort(delays)
	b.f.Due = b.Due
	b.f.DelayP50, b.f.DelayP99, b.f.DelayMax = delays[len(delays)/2], delays[len(delays)*99/100], delays[len(delays)-1]
	return nil
}

// watch counts decisions as they arrive at a consumer.
func (b *requests) watch(ctx context.Context) error {
	ended := []byte(`"type":"` + decision.WaitType + `"`)
	return kafka.Tail(ctx, b.Log, b.Run.Topic(topics.Decisions), kafka.Earliest, func(r *stream.Record) error {
		now := time.Now()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.decided++
		if strings.HasPrefix(string(r.Key), "c-") {
			return nil
		}
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return err
		}
		var d decision.Decision
		if err := d.Parse(e.Type, e.Data); err != nil {
			return err
		}
		at, asked := b.arrived[d.Request]
		switch {
		case !asked || !at.IsZero():
		case b.due == nil:
			b.arrived[d.Request] = now
		case !bytes.Contains(r.Value, ended):
			b.arrived[d.Request], b.due[d.Request] = now, e.Time
		}
		return nil
	})
}

// until waits for what watch counts, as long as the decider lives.
func (b *requests) until(ctx context.Context, ok func() bool) error {
	for {
		b.mu.Lock()
		done := ok()
		b.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.proc.dead:
			return b.proc.ended()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// start runs the decider as a process of its own.
func (b *requests) start() error {
	cmd, err := b.service(decider.Service)
	if err == nil {
		b.proc, err = start(cmd)
	}
	return err
}

func (b *requests) stop() {
	if b.proc != nil {
		b.proc.stop()
		b.proc = nil
	}
}

// rss is the resident memory of the decider.
func (b *requests) rss() int64 { return usage(b.proc.pid()).RSS }

// states measures what is stored by customer.
func (b *requests) states(ctx context.Context) error {
	var size, n int64
	for p := range b.Partitions {
		err := b.Store.Scan(ctx, b.Run.Group(decider.Service), p, func(key string, value []byte) bool {
			size += int64(len(key) + len(value))
			n++
			return true
		})
		if err != nil {
			return err
		}
	}
	if n > 0 {
		b.f.State = float64(size) / float64(n)
	}
	return nil
}

// Print writes the figures for people.
func (f *RequestFigures) Print(w io.Writer) {
	const mb = 1 << 20
	fmt.Fprintf(w, "%d requests wait: placed in %.1f s, %.0f a second\n", f.Requests, f.Seconds, f.PerSecond)
	fmt.Fprintf(w, "of each: %.0f bytes of state", f.State)
	if f.Memory > 0 {
		fmt.Fprintf(w, ", %.0f bytes in Redis", f.Memory)
	}
	fmt.Fprintln(w)
	if f.RSS > 0 {
		fmt.Fprintf(w, "decider: %d MB with everything waiting, %d MB after a restart\n", f.RSS/mb, f.RestartRSS/mb)
	}
	fmt.Fprintf(w, "restart: %.2f s until every partition decides\n", f.Restart)
	if f.Due > 0 {
		fmt.Fprintf(w, "%d timers of one minute fire late by %.0f ms (median), %.0f ms (p99), %.0f ms (at most)\n", f.Due, f.DelayP50, f.DelayP99, f.DelayMax)
	}
}
