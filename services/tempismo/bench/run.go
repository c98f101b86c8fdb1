package bench

import (
	"context"
	"fmt"
	"io"

	"slices"
	"text/tabwriter"

	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/profiler"
)

// Parts of a measurement, in the order in which they are taken, all on the same data.
const (
	Limit   = "limit"   // the bare loop
	Light   = "light"   // the comparison job on our runtime
	Peers   = "peers"   // the comparison job on other engines
	Profile = "profile" // the profiler
	Latency = "latency" // an open loop through profiler, detector and decider
	Rebuild = "rebuild" // the profiler again, after the loss of its state
)

// Options say what is measured.
type Options struct {
	Load    Load
	Parts   []string
	Engines Engines // for Peers
	Against int     // customers of a second load for Profile; 0: there is none
	Rate    int     // events a second for Latency; 0: half of what Profile has reached
	Settle  int     // seconds of Latency that are not counted
	Seconds int     // of Latency that are
}

// Figures are what was measured. What was not is left out.
type Figures struct {
	Load       Load    `json:"load"`
	EventBytes float64 `json:"event_bytes"` // key and value, on average
	Customers  int64   `json:"customers"`   // that had an event
	Limit      *Drain  `json:"limit,omitempty"`
	Light      *Drain  `json:"light,omitempty"`
	Profile    *Drain  `json:"profile,omitempty"`

	Peers map[string]*Peer `json:"peers,omitempty"`

	RedisBytes     float64 `json:"redis_bytes_per_customer,omitempty"`         // used_memory, the services running
	RedisAtRest    float64 `json:"redis_bytes_per_customer_at_rest,omitempty"` // after they have ended in order: without outboxes
	StateBytes     float64 `json:"state_bytes_per_customer,omitempty"`         // keys and values
	Latency        *Delays `json:"latency_ms,omitempty"`
	RebuildSeconds float64 `json:"rebuild_s,omitempty"`

	Against *Against `json:"against,omitempty"`
}

// Measure takes the figures.
func Measure(ctx context.Context, s *System, o Options) (*Figures, error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	g := NewGenerator(o.Load)
	pre, err := s.preload(ctx, g)
	if err != nil {
		return nil, err
	}
	f := &Figures{Load: o.Load, EventBytes: float64(pre.Bytes) / float64(pre.records()), Customers: pre.Customers}
	for _, part := range []struct {
		name string
		take func() error
	}{
		{Limit, func() error { return s.limit(ctx, pre, f) }},
		{Light, func() error { return s.light(ctx, pre, f) }},
		{Peers, func() (err error) { f.Peers, err = s.peers(ctx, o.Engines, pre, f.Light != nil); return err }},
		{Profile, func() error { return s.profile(ctx, pre, f) }},
		{Latency, func() error { return s.latency(ctx, g, o, f) }},
		{Rebuild, func() error { return s.rebuild(ctx, pre, f) }},
	} {
		if !slices.Contains(o.Parts, part.name) {
			continue
		}
		s.say("%s ...", part.name)
		if err := part.take(); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if o.Against == 0 || f.Profile == nil {
		return f, nil
	}
	if err := s.against(ctx, o, f); err != nil {
		return nil, fmt.Errorf("against %d customers: %w", o.Against, err)
	}
	return f, nil
}

func (s *System) limit(ctx context.Context, pre *Preloaded, f *Figures) error {
	topic := s.Run.Topic(limitTopic)
	if err := s.createTopic(ctx, topic); err != nil {
		return err
	}
	cmd, err := s.service("limit")
	if err != nil {
		return err
	}
	p, d, err := s.drain(ctx, cmd, &watch{topic: topic, sizes: pre.Sizes, mark: byCount(pre.Sizes)})
	if err != nil {
		return err
	}
	p.stop()
	f.Limit = d
	s.tell("limit", d)
	return nil
}

func (s *System) light(ctx context.Context, pre *Preloaded, f *Figures) error {
	topic := s.Run.Topic(LightTopic)
	if err := s.createTopic(ctx, topic); err != nil {
		return err
	}
	cmd, err := s.service("light")
	if err != nil {
		return err
	}
	p, d, err := s.drain(ctx, cmd, &watch{topic: topic, sizes: pre.Sizes, mark: byEvent(pre.Events)})
	if err != nil {
		return err
	}
	p.stop()
	f.Light = d
	s.tell("light", d)
	return s.verifyLight(ctx, pre)
}

// verifyLight counts the events in the states.
func (s *System) verifyLight(ctx context.Context, pre *Preloaded) error {
	var counted int64
	for p := range s.Partitions {
		err := s.Store.Scan(ctx, s.Run.Group("light"), p, func(_ string, value []byte) bool {
			var state lightState
			copy(state[:], value)
			for at := lightDelivered; at < lightWeekday; at += 4 {
				counted += int64(state.int(at))
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	if counted != pre.records() {
		return fmt.Errorf("the states count %d events of %d", counted, pre.records())
	}
	return nil
}

func (s *System) profile(ctx context.Context, pre *Preloaded, f *Figures) error {
	before, _ := s.memory(ctx)
	cmd, err := s.service(profiler.Service)
	if err != nil {
		return err
	}
	p, d, err := s.drain(ctx, cmd, &watch{topic: s.Run.Topic(topics.Digests), sizes: pre.Sizes, mark: bySequence(pre.Sizes)})
	if err != nil {
		return err
	}
	running, ok := s.memory(ctx)
	p.stop()
	resting, _ := s.memory(ctx)
	f.Profile = d
	s.tell("profile", d)
	customers, size, err := s.verifyProfiles(ctx, pre)
	if err != nil {
		return err
	}
	f.StateBytes = float64(size) / float64(customers)
	if ok {
		f.RedisBytes, f.RedisAtRest = float64(running-before)/float64(customers), float64(resting-before)/float64(customers)
	}
	return nil
}

// verifyProfiles compares what the profiler has counted with what was written, and counts its customers.
func (s *System) verifyProfiles(ctx context.Context, pre *Preloaded) (customers, size int64, err error) {
	var counted int64
	for p := range s.Partitions {
		group := s.Run.Group(profiler.Service)
		snap, err := s.Store.Read(ctx, group, p, nil)
		if err != nil {
			return 0, 0, err
		}
		if at := snap.Positions[topics.Events]; at < pre.Sizes[p] {
			return 0, 0, fmt.Errorf("partition %d: the position is %d of %d", p, at, pre.Sizes[p])
		}
		totals, err := profiler.ReadTotals(snap)
		if err != nil {
			return 0, 0, err
		}
		for _, n := range totals.Kinds {
			counted += int64(n)
		}
		err = s.Store.Scan(ctx, group, p, func(key string, value []byte) bool {
			customers++
			size += int64(len(key) + len(value))
			return true
		})
		if err != nil {
			return 0, 0, err
		}
	}
	if counted != pre.records() || customers != pre.Customers+int64(len(pre.Sizes)) {
		return 0, 0, fmt.Errorf("the profiler counts %d events of %d customers, but %d of %d were written", counted, customers, pre.records(), pre.Customers+int64(len(pre.Sizes)))
	}
	return customers, size, nil
}

func (s *System) tell(what string, d *Drain) {
	s.say("%-8s %9.0f events/s warm, %9.0f wall; CPU-s/M warm: %.2f service, %.2f broker, %.2f Redis; %d MB; %.1f allocations/event; %d outputs",
		what, d.PerSecond, d.Wall, d.CPU.Service, d.CPU.Broker, d.CPU.Redis, d.PeakRSS>>20, d.Allocs, d.Outputs)
}

// Print writes the figures for people.
func (f *Figures) Print(w io.Writer) {
	fmt.Fprintf(w, "%d events of %.0f bytes, %d customers\n\n", f.Load.Events, f.EventBytes, f.Customers)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\twarm, events/s\twall\tof the limit\tCPU-s/M service\tbroker\tRedis\tpeak MB\tallocations/event\t")
	for _, row := range []struct {
		name string
		d    *Drain
	}{{"bare loop", f.Limit}, {"light job", f.Light}, {"profiler", f.Profile}} {
		if d := row.d; d != nil {
			of := "-"
			if f.Limit != nil {
				of = fmt.Sprintf("%.2f", d.PerSecond/f.Limit.PerSecond)
			}
			fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%s\t%.2f\t%.2f\t%.2f\t%d\t%.2f\t\n", row.name, d.PerSecond, d.Wall, of, d.CPU.Service, d.CPU.Broker, d.CPU.Redis, d.PeakRSS>>20, d.Allocs)
		}
	}
	_ = table.Flush() // to where everything is written
	f.printPeers(w)
	if f.RedisBytes > 0 {
		fmt.Fprintf(w, "\nRedis: %.0f bytes per customer all in, %.0f at rest", f.RedisBytes, f.RedisAtRest)
	}
	if f.StateBytes > 0 {
		fmt.Fprintf(w, "\nkeys and values: %.0f bytes per customer\n", f.StateBytes)
	}
	if d := f.Latency; d != nil {
		fmt.Fprintf(w, "\nat %.0f events/s, in ms:\n", d.Rate)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(table, "event ->\tp50\tp99\tp99.9\tmax\tcount\t")
		for _, row := range []struct {
			name string
			q    *Quantiles
		}{{"scored", d.Scored}, {"deviation", d.Deviation}, {"decision", d.Decision}} {
			fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t%d\t\n", row.name, row.q.P50, row.q.P99, row.q.P999, row.q.Max, row.q.Count)
		}
		_ = table.Flush()
	}
	if f.RebuildSeconds > 0 {
		fmt.Fprintf(w, "\nrebuilt from the log in %.1f s\n", f.RebuildSeconds)
	}
	if a := f.Against; a != nil {
		fmt.Fprintf(w, "\nof %d customers, %d seen: an event costs %.2f of what it costs with %d, %d seen\n", f.Load.Customers, f.Customers, a.Ratio, a.Customers, a.Seen)
	}
}
