package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
)

// Delays are in milliseconds, from the moment at which an event was to be sent, whether or not the sender was in time, to
// the arrival at a consumer of what follows from it.
type Delays struct {
	Rate      float64            `json:"rate"`    // events a second that were sent
	Seconds   float64            `json:"seconds"` // counted: those before are not
	Scored    *Quantiles         `json:"scored"`
	Deviation *Quantiles         `json:"deviation"`
	Decision  *Quantiles         `json:"decision"`
	Cores     map[string]float64 `json:"cores"` // processors kept busy, by process
}

// Quantiles of delays in milliseconds.
type Quantiles struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
}

func quantiles(ms []float64) *Quantiles {
	if len(ms) == 0 {
		return &Quantiles{}
	}
	slices.Sort(ms)
	at := func(q float64) float64 { return ms[min(len(ms)-1, int(q*float64(len(ms))))] }
	return &Quantiles{Count: len(ms), P50: at(.5), P99: at(.99), P999: at(.999), Max: ms[len(ms)-1]}
}

const linger = time.Millisecond // of the sender's batches

// latency goes on with the load where the preload ended, at a constant rate, through three services.
func (s *System) latency(ctx context.Context, g *Generator, o Options, f *Figures) error {
	rate := float64(o.Rate)
	if rate == 0 {
		if f.Profile == nil {
			return errors.New("half of the drain rate is not known: give --rate, or take the part profile, too")
		}
		rate = f.Profile.PerSecond / 2
	}
	processes := map[string]*process{}
	defer func() {
		for _, name := range []string{decider.Service, detector.Service, profiler.Service} {
			if p := processes[name]; p != nil {
				p.stop()
			}
		}
	}()
	for _, name := range []string{profiler.Service, detector.Service, decider.Service} {
		cmd, err := s.service(name)
		if err != nil {
			return err
		}
		if processes[name], err = start(cmd); err != nil {
			return err
		}
	}
	if err := s.idle(ctx, processes); err != nil {
		return err
	}

	w, err := s.newLoader(g.load.LZ4, linger)
	if err != nil {
		return err
	}
	defer w.client.Close()
	a := &arrivals{first: g.n, at: map[string][]arrival{}, deviations: map[string]int64{}}
	tctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var tails sync.WaitGroup
	failed := make(chan error, 3)
	for _, name := range []string{topics.Scored, topics.Deviations, topics.Decisions} {
		topic := s.Run.Topic(name)
		at, err := kafka.Latest(ctx, s.Log, topic)
		if err != nil {
			return err
		}
		tails.Go(func() {
			failed <- kafka.Tail(tctx, s.Log, topic, kafka.Offsets(at), func(r *stream.Record) error { a.take(name, r, time.Now()); return nil })
		})
	}

	pids := map[string]int{"broker": s.broker, "redis": s.store}
	for name, p := range processes {
		pids[name] = p.pid()
	}
	used := func() map[string]float64 {
		all := map[string]float64{}
		for name, pid := range pids {
			all[name] = usage(pid).CPU
		}
		return all
	}
	var before map[string]float64
	settle := time.Duration(o.Settle) * time.Second
	step := float64(time.Second) / rate
	total := int(rate * float64(o.Settle+o.Seconds))
	began := time.Now()
	for i := 0; i < total; {
		if before == nil && time.Since(began) >= settle {
			before = used()
		}
		for due := min(total, int(float64(time.Since(began))/step)+1); i < due; i++ {
			w.produce(ctx, s.record(g.Next()))
		}
		if err := w.err(); err != nil {
			return err
		}
		for name, p := range processes {
			select {
			case <-p.dead:
				return fmt.Errorf("%s: %w", name, p.ended())
			default:
			}
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	took := time.Since(began).Seconds()
	d := &Delays{Rate: float64(total) / took, Seconds: float64(o.Seconds), Cores: map[string]float64{}}
	for name, at := range used() {
		if spent := at - before[name]; spent > 0 && (!s.Embedded || processes[name] != nil) {
			d.Cores[name] = spent / (took - settle.Seconds())
		}
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := s.idle(ctx, processes); err != nil { // so that nothing is on its way
		return err
	}
	cancel()
	tails.Wait()
	for range 3 {
		if err := <-failed; err != nil {
			return err
		}
	}
	due := func(n int64) (time.Time, bool) { // events are numbered in the order in which they were to be sent
		i := n - a.first
		at := began.Add(time.Duration(float64(i) * step))
		return at, i >= 0 && at.Sub(began) >= settle
	}
	d.Scored, d.Deviation, d.Decision = a.delays(topics.Scored, due), a.delays(topics.Deviations, due), a.delays(topics.Decisions, due)
	for name, q := range map[string]*Quantiles{"scored": d.Scored, "deviation": d.Deviation, "decision": d.Decision} {
		s.say("event -> %-9s p50 %.1f ms, p99 %.1f, p99.9 %.1f, max %.1f (%d at %.0f events/s)", name, q.P50, q.P99, q.P999, q.Max, q.Count, d.Rate)
	}
	f.Latency = d
	return nil
}

// arrival is when something was seen of an event, or of a deviation.
type arrival struct {
	event     int64  // number; -1: by deviation
	deviation string // id
	at        time.Time
}

// arrivals notes what comes by topic.
type arrivals struct {
	first int64 // number of the first event that was sent

	mu         sync.Mutex
	at         map[string][]arrival
	deviations map[string]int64 // id to the number of the event behind it
}

// take notes a record, which is one of ours.
func (a *arrivals) take(topic string, r *stream.Record, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch topic {
	case topics.Decisions:
		if id, ok := between(r.Value, `"deviation":"`); ok {
			a.at[topic] = append(a.at[topic], arrival{event: -1, deviation: id, at: at})
		}
	default:
		id, ok := between(r.Value, map[string]string{topics.Scored: `"event":"e-`, topics.Deviations: `"cause":{"id":"e-`}[topic])
		n, err := strconv.ParseInt(id, 10, 64)
		if !ok || err != nil {
			return // of the record that ended a partition
		}
		a.at[topic] = append(a.at[topic], arrival{event: n, at: at})
		if id, ok := between(r.Value, `"id":"`); ok && topic == topics.Deviations {
			a.deviations[id] = n
		}
	}
}

// between is the string that follows a prefix.
func between(b []byte, prefix string) (string, bool) {
	_, rest, ok := bytes.Cut(b, []byte(prefix))
	text, _, closed := bytes.Cut(rest, []byte(`"`))
	return string(text), ok && closed
}

// delays are those of one topic, of what was due after the settling.
func (a *arrivals) delays(topic string, due func(int64) (time.Time, bool)) *Quantiles {
	var ms []float64
	for _, x := range a.at[topic] {
		if x.event < 0 {
			n, ok := a.deviations[x.deviation]
			if !ok {
				continue
			}
			x.event = n
		}
		if at, ok := due(x.event); ok {
			ms = append(ms, float64(x.at.Sub(at).Microseconds())/1000)
		}
	}
	return quantiles(ms)
}

// idle waits until the services have read everything.
func (s *System) idle(ctx context.Context, processes map[string]*process) error {
	for quiet := 0; quiet < 3; {
		lags, err := s.Log.Lag(ctx, s.Run, []string{profiler.Service, detector.Service, decider.Service})
		if err != nil {
			return err
		}
		var unread int64
		for _, l := range lags {
			if l.Topic != topics.Models && l.Topic != topics.Outcomes { // nothing is on them
				unread += l.Records
			}
		}
		quiet++
		if unread > 0 {
			quiet = 0
		}
		for name, p := range processes {
			select {
			case <-p.dead:
				return fmt.Errorf("%s: %w", name, p.ended())
			default:
			}
		}
		if err := sleep(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
