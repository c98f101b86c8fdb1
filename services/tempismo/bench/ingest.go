package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	told "github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/profiler"
)

const ingestService = "ingest"

// IngestOptions say how ingest is put under load.
type IngestOptions struct {
	Connections int
	Customers   int
	Rounds      int           // of which each has a slice of every provider, and beside it one of the bare endpoint
	Slice       time.Duration // how long one sender sends at a stretch
	Settle      time.Duration // of load on the bare endpoint before the first round
}

// IngestFigures are what was measured.
type IngestFigures struct {
	Connections int         `json:"connections"`
	Rounds      int         `json:"rounds"`
	Slice       float64     `json:"slice_s"`
	Bare        []IngestRow `json:"bare"`
	Providers   []IngestRow `json:"providers"`
}

// IngestRow is one sender. Rates and costs are medians of its slices.
type IngestRow struct {
	Sender    string  `json:"sender"`
	Each      int     `json:"events_per_request"`
	Bytes     float64 `json:"bytes_per_request"`
	PerSecond float64 `json:"events_per_s"`     // acknowledged
	CPU       float64 `json:"cpu_us_per_event"` // of ingest, user and system
	Broker    float64 `json:"broker_us_per_event"`
	Generator float64 `json:"generator_share"` // of the processors of the machine
	Idle      float64 `json:"idle_share"`      // of them, while this sender sent
	// Against the bare endpoint with as many events in a request, in the slice beside: what an event costs, and how many are taken. Costs are left
	// out where slices are too short for the kernel's clock.
	Cost  *Spread `json:"cost_of_bare,omitempty"`
	Speed *Spread `json:"speed_of_bare,omitempty"`
	// Against the bare endpoint with together events in a request, in the same round: what an event costs.
	Batches *Spread `json:"cost_of_bare_in_batches,omitempty"`
}

// Spread is the middle of the rounds, and their ends.
type Spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spread(values []float64) *Spread {
	if len(values) == 0 {
		return nil
	}
	return &Spread{median(values), slices.Min(values), slices.Max(values)}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[n/2] + sorted[(n-1)/2]) / 2
}

// MeasureIngest measures what it costs to take events over HTTP: from each provider's webhook with its signatures, and from the bare endpoint,
// each for a slice of time in turn, so that what the machine does meanwhile meets both.
func MeasureIngest(ctx context.Context, s *System, o IngestOptions) (_ *IngestFigures, err error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	g := &load{System: s, IngestOptions: o, rng: mathrand.New(mathrand.NewPCG(1, 0x1e6e57))}
	if err := g.consent(ctx); err != nil {
		return nil, fmt.Errorf("have the customers consent: %w", err)
	}
	if err := g.start(ctx); err != nil {
		return nil, err
	}
	defer g.proc.stop()
	if err := g.settle(ctx); err != nil {
		return nil, err
	}
	var rounds []map[string]turn
	for i := range o.Rounds {
		s.say("round %d of %d", i+1, o.Rounds)
		round := map[string]turn{}
		for _, sender := range senders {
			one := turn{}
			if one.bare, err = g.slice(ctx, bare(sender.each), o.Slice); err != nil {
				return nil, err
			}
			if one.provider, err = g.slice(ctx, sender, o.Slice); err != nil {
				return nil, err
			}
			round[sender.name] = one
		}
		rounds = append(rounds, round)
	}
	if err := g.verify(ctx); err != nil {
		return nil, err
	}
	f := figures(rounds, !s.Embedded)
	f.Connections, f.Rounds, f.Slice = o.Connections, o.Rounds, o.Slice.Seconds()
	return f, nil
}

// load is a measurement under way.
type load struct {
	*System
	IngestOptions
	rng   *mathrand.Rand
	keys  *keys
	host  string
	proc  *process
	acked int64 // events, so far
}

// consent has every customer consent to pixels, and the profiler take it in, which keeps the table that ingest looks it up in: of the others no
// open would be taken. Then the profiler has had its part.
func (g *load) consent(ctx context.Context) error {
	g.say("%d customers consent", g.Customers)
	w, err := kafka.NewWriter(ctx, g.Log, g.Run)
	if err != nil {
		return err
	}
	defer w.Close()
	now := time.Now()
	answer := told.Answer{Pixel: &told.Consent{Granted: true, At: now.AddDate(-1, 0, 0)}}
	const each = 5000
	for from := 0; from < g.Customers; from += each {
		var msgs []stream.Message
		for i := from; i < min(from+each, g.Customers); i++ {
			who := number(i)
			e := stream.Event{ID: "co-" + who, Source: "/tempismo/bench", Type: told.ConsentType, Subject: who, Time: now, Data: answer.Append(nil)}
			msgs = append(msgs, stream.Message{Key: []byte(who), Value: e.Append(nil)})
		}
		if err := w.WriteAll(ctx, topics.Consents, msgs); err != nil {
			return err
		}
	}
	cmd, err := g.service(profiler.Service)
	if err != nil {
		return err
	}
	proc, err := start(cmd)
	if err != nil {
		return err
	}
	defer proc.stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for p := int32(0); p < g.Partitions; {
		_, end, err := g.Log.Bounds(ctx, g.Run.Topic(topics.Consents), p)
		if err != nil {
			return err
		}
		snap, err := g.Store.Read(ctx, g.Run.Group(profiler.Service), p, nil)
		at := int64(0)
		if err == nil {
			at = snap.Positions[topics.Consents]
		}
		if at >= end {
			p++
			late.Reset(patience)
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return errors.Join(err, fmt.Errorf("the profiler has taken in %d of %d answers of partition %d, and it says:\n%s", at, end, p, proc.out.String()))
		case <-proc.dead:
			return proc.ended()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// start runs ingest as a process of its own, with the keys of all senders.
func (g *load) start(ctx context.Context) (err error) {
	if g.host, err = freePort(); err != nil {
		return err
	}
	if g.keys, err = newKeys("http://" + g.host); err != nil {
		return err
	}
	cmd, err := g.service(ingestService)
	if err != nil {
		return err
	}
	settings, err := g.keys.environment()
	if err != nil {
		return err
	}
	cmd.Env = append(append(cmd.Env, "LISTEN="+g.host), settings...)
	if g.proc, err = start(cmd); err != nil {
		return err
	}
	for {
		c, err := net.Dial("tcp", g.host)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			g.proc.stop()
			return ctx.Err()
		case <-g.proc.dead:
			return g.proc.ended()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settle has every sender taken once, and then loads the bare endpoint for a while: the broker's compiler takes a minute.
func (g *load) settle(ctx context.Context) error {
	for _, one := range append([]sender{bare(1), bare(together)}, senders...) {
		if _, err := g.slice(ctx, one, 0); err != nil {
			return err
		}
	}
	if g.Settle == 0 {
		return nil
	}
	g.say("settling for %v", g.Settle)
	_, err := g.slice(ctx, bare(1), g.Settle)
	return err
}

// sample is what one sender did in one slice.
type sample struct {
	each                     int
	requests                 int64
	seconds                  float64
	ingest, broker, gen, all float64 // CPU-seconds; all: of the machine, those in which it was idle left out
	cores                    float64
	bytes                    float64 // of a request
}

// measured reports whether the slice was long enough for what the kernel counts the time of processors by, which is a hundredth of a second.
func (s sample) measured() bool { return s.ingest >= 10./ticks }

func (s sample) events() float64 { return float64(s.requests) * float64(s.each) }
func (s sample) cost() float64   { return s.ingest / s.events() * 1e6 }
func (s sample) speed() float64  { return s.events() / s.seconds }

// turn is a slice of a provider, and that of the bare endpoint just before it.
type turn struct{ bare, provider sample }

// pool is how many different events the requests of a slice are made of. They are signed before it begins, which is no part of it, and sent over
// and over: ingest remembers no events.
const pool = 2000

// slice has one sender send for a while over all connections, one request after the other on each. Where the time is nothing, each of them sends
// one.
func (g *load) slice(ctx context.Context, who sender, length time.Duration) (sample, error) {
	requests, size, err := g.prepare(who)
	if err != nil {
		return sample{}, err
	}
	var lines []*line
	defer func() {
		for _, l := range lines {
			_ = l.conn.Close() // everything was answered, or has failed already
		}
	}()
	for range g.Connections {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", g.host)
		if err != nil {
			return sample{}, fmt.Errorf("call ingest: %w", err)
		}
		lines = append(lines, &line{conn: conn, answers: bufio.NewReader(conn), want: fmt.Appendf(nil, `{"accepted":%d,`, who.each)})
	}
	var next atomic.Int64
	failed := make([]error, len(lines))
	before, idle := g.sample(), idleTime()
	began := time.Now()
	var all sync.WaitGroup
	for i, l := range lines {
		all.Go(func() {
			for failed[i] == nil {
				failed[i] = l.send(requests[next.Add(1)%int64(len(requests))])
				if time.Since(began) >= length || ctx.Err() != nil {
					return
				}
			}
		})
	}
	all.Wait()
	seconds := time.Since(began).Seconds()
	after := g.sample()
	if err := errors.Join(append(failed, ctx.Err())...); err != nil {
		return sample{}, fmt.Errorf("%s: %w\n%s", who.name, err, g.proc.out.String())
	}
	n := next.Load()
	g.acked += n * int64(who.each)
	cores := float64(runtime.NumCPU())
	return sample{each: who.each, requests: n, seconds: seconds, ingest: after[0] - before[0], broker: after[1] - before[1], gen: after[2] - before[2],
		all: cores*seconds - (idleTime() - idle), cores: cores, bytes: size}, nil
}

// prepare makes the requests of a slice, as they go over the wire.
func (g *load) prepare(who sender) (requests [][]byte, size float64, err error) {
	now := time.Now()
	for range max(pool/who.each, 1) {
		events := make([]*engagement.Event, who.each)
		for i := range events {
			events[i] = draw(g.rng, g.Customers, now)
		}
		body, header, err := who.request(g.keys, events, now)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: make a request: %w", who.name, err)
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", who.path, g.host, len(body))
		if header["Content-Type"] == "" {
			header["Content-Type"] = "application/json"
		}
		for name, value := range header {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
		b.WriteString("\r\n")
		b.Write(body)
		requests = append(requests, b.Bytes())
		size += float64(len(body))
	}
	return requests, size / float64(len(requests)), nil
}

// sample is the CPU of ingest, of the broker and of this process, in seconds.
func (g *load) sample() [3]float64 {
	return [3]float64{usage(g.proc.pid()).CPU, usage(g.broker).CPU, usage(os.Getpid()).CPU}
}

// line is one connection.
type line struct {
	conn    net.Conn
	answers *bufio.Reader
	want    []byte // what the answer begins with
}

// answerTimeout is how long an answer may take, which is longer than ingest waits for Kafka.
const answerTimeout = 30 * time.Second

// send makes one request and waits for its answer, which has to say that everything was taken.
func (l *line) send(request []byte) error {
	_ = l.conn.SetDeadline(time.Now().Add(answerTimeout)) // the next call says it
	if _, err := l.conn.Write(request); err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	response, err := http.ReadResponse(l.answers, nil)
	if err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	if response.StatusCode >= 300 || !bytes.HasPrefix(body, l.want) {
		return fmt.Errorf("answered %s, not %s...: %s", response.Status, l.want, body)
	}
	return nil
}

// verify compares what was acknowledged with what is in Kafka.
func (g *load) verify(ctx context.Context) error {
	var kept int64
	for p := range g.Partitions {
		begin, end, err := g.Log.Bounds(ctx, g.events(), p)
		if err != nil {
			return err
		}
		kept += end - begin
	}
	if kept != g.acked {
		return fmt.Errorf("%d events were acknowledged, and Kafka has %d", g.acked, kept)
	}
	return nil
}

// figures puts the rounds together.
func figures(rounds []map[string]turn, real bool) *IngestFigures {
	f := &IngestFigures{}
	alike := map[int][]sample{} // of the bare endpoint
	for _, who := range senders {
		var own []sample
		var cost, speed, batches []float64
		for _, round := range rounds {
			t := round[who.name]
			own = append(own, t.provider)
			alike[who.each] = append(alike[who.each], t.bare)
			speed = append(speed, t.provider.speed()/t.bare.speed())
			if !t.provider.measured() {
				continue
			}
			if t.bare.measured() {
				cost = append(cost, t.provider.cost()/t.bare.cost())
			}
			if of := inBatches(round); len(of) > 0 {
				batches = append(batches, t.provider.cost()/median(of))
			}
		}
		row := rowOf(who.name, own, real)
		row.Cost, row.Speed, row.Batches = spread(cost), spread(speed), spread(batches)
		f.Providers = append(f.Providers, row)
	}
	for _, each := range []int{1, together} {
		f.Bare = append(f.Bare, rowOf(Bare, alike[each], real))
	}
	return f
}

// inBatches is what an event costs at the bare endpoint in the batches of a round.
func inBatches(round map[string]turn) (costs []float64) {
	for _, t := range round {
		if t.bare.each == together && t.bare.measured() {
			costs = append(costs, t.bare.cost())
		}
	}
	return costs
}

func rowOf(name string, samples []sample, real bool) IngestRow {
	of := func(value func(sample) float64) float64 {
		var all []float64
		for _, s := range samples {
			all = append(all, value(s))
		}
		return median(all)
	}
	row := IngestRow{Sender: name, Each: samples[0].each, Bytes: of(func(s sample) float64 { return s.bytes }), PerSecond: of(sample.speed), CPU: of(sample.cost),
		Generator: of(func(s sample) float64 { return s.gen / (s.seconds * s.cores) }), Idle: of(func(s sample) float64 { return max(0, 1-s.all/(s.seconds*s.cores)) })}
	if real { // else the broker is in the process of the generator
		row.Broker = of(func(s sample) float64 { return s.broker / s.events() * 1e6 })
	}
	return row
}

// saturated reports whether the rate is rather the generator's than ingest's: it takes a quarter of the machine, and nothing of it is left.
func (r *IngestRow) saturated() bool { return r.Generator > .25 && r.Idle < .1 }

// Print writes the figures for people.
func (f *IngestFigures) Print(w io.Writer) {
	fmt.Fprintf(w, "%d connections, %d rounds of %.1f s for each sender; medians, and of ratios the ends\n\n", f.Connections, f.Rounds, f.Slice)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tevents/request\tbytes\tevents/s\tCPU us/event\tus/request\tbroker us/event\tcost of bare, alike\t\tspeed of bare\tcost of bare, batches\tgenerator\tidle\t")
	full := []string{}
	for _, r := range slices.Concat(f.Bare, f.Providers) {
		mark := ""
		if r.saturated() {
			mark = "*"
			full = append(full, r.Sender)
		}
		broker := "-"
		if r.Broker > 0 {
			broker = fmt.Sprintf("%.1f", r.Broker)
		}
		cost, ends, speed, batches := "", "", "", ""
		if r.Speed != nil {
			speed = fmt.Sprintf("%.2f", r.Speed.Median)
		}
		if r.Cost != nil {
			cost, ends = fmt.Sprintf("%.2f", r.Cost.Median), fmt.Sprintf("%.2f-%.2f", r.Cost.Least, r.Cost.Most)
		}
		if r.Batches != nil {
			batches = fmt.Sprintf("%.2f", r.Batches.Median)
		}
		fmt.Fprintf(table, "%s\t%d\t%.0f\t%.0f%s\t%.1f\t%.0f\t%s\t%s\t%s\t%s\t%s\t%.0f %%\t%.0f %%\t\n", r.Sender, r.Each, r.Bytes, r.PerSecond, mark, r.CPU, r.CPU*float64(r.Each), broker, cost, ends, speed, batches, 100*r.Generator, 100*r.Idle)
	}
	_ = table.Flush() // to where everything is written
	if len(full) > 0 {
		fmt.Fprintf(w, "\n* The machine is full, and the generator is a good part of it: the rate is what is left beside it. What an event costs is not touched by that.\n")
	}
}
