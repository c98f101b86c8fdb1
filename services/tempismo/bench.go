package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// benchCmd measures the decider with many requests that wait. scripts/bench builds what it needs and runs it.
type benchCmd struct {
	Requests   int    `default:"1000000" help:"Requests that wait, of as many customers."`
	Due        int    `default:"10000" help:"Further requests that are due within one minute; 0: firing is not measured."`
	Partitions int32  `default:"8" help:"Partitions of the topics."`
	Decider    string `required:"" type:"path" placeholder:"FILE" help:"The decider's program."`
	JSON       bool   `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*benchCmd) Help() string {
	return "Without addresses it starts an embedded broker and store, of which the store keeps no figures of memory.\n\nExample:\n  tempismo bench --decider ./decider --requests 100000"
}

// figures are what was measured.
type figures struct {
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

// Run measures.
func (c *benchCmd) Run(ctx context.Context, t terminal) (err error) {
	b := &bench{benchCmd: c, say: t.err, arrived: map[string]time.Time{}}
	if b.sys, err = c.begin(ctx); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.sys.Close())
		if b.sys.pair != nil {
			err = errors.Join(err, os.RemoveAll(b.sys.dir))
		}
	}()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.w.Close()
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- b.watch(ctx) }()
	defer func() { cancel(); err = errors.Join(err, <-watched) }()
	defer b.stop()
	if err := b.measure(ctx); err != nil {
		return err
	}
	if c.JSON {
		return t.json(b.f)
	}
	b.print(t.out)
	return nil
}

// begin opens the system, which must be a new one: the requests would go out.
func (c *benchCmd) begin(ctx context.Context) (*system, error) {
	s := &system{kafka: c.Kafka, redis: c.Redis, run: stream.Run{ID: "bench-" + strconv.FormatInt(time.Now().Unix(), 36)}}
	if !c.addressed() {
		dir, err := os.MkdirTemp("", "tempismo-bench-")
		if err != nil {
			return nil, err
		}
		if s.pair, err = local.Start(dir, local.Ports{}); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		s.dir = dir
		s.at(s.pair.Broker.Addr(), s.pair.Store.Addr())
	}
	err := s.connect(ctx)
	if err == nil {
		err = s.needStore()
	}
	if err == nil {
		if _, unknown := s.log.Topics(ctx, topics.Requests); unknown == nil {
			err = errors.New("there are live topics: the bench needs a Kafka and a Redis of its own, such as `scripts/real scripts/bench` starts")
		}
	}
	if err == nil {
		err = kafka.EnsureTopics(ctx, s.kafka, s.run, c.Partitions)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// bench is a measurement under way.
type bench struct {
	*benchCmd
	sys  *system
	w    *kafka.Writer
	say  io.Writer
	f    figures
	proc *exec.Cmd
	dead chan struct{} // closed when the process has ended
	out  bytes.Buffer  // of the process

	mu      sync.Mutex
	decided int64
	arrived map[string]time.Time // decisions on requests that were asked after, and when they came
	due     map[string]time.Time // of the latter, when they were due
}

// prepare opens the writer and puts a policy into force that lets requests wait for days: every day is open.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.w, err = kafka.NewWriter(ctx, b.sys.log, b.sys.run); err != nil {
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
func (b *bench) measure(ctx context.Context) error {
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
func (b *bench) place(ctx context.Context) error {
	fmt.Fprintf(b.say, "placing %s requests\n", grouped(int64(b.Requests)))
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
func (b *bench) restart(ctx context.Context) error {
	fmt.Fprintln(b.say, "restarting")
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
func (b *bench) probe(ctx context.Context, name string) error {
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
func (b *bench) ask(ids []string, due map[string]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.arrived[id] = time.Time{}
	}
	b.due = due
}

// fire places requests that can go out within one minute only, and measures how late they do.
func (b *bench) fire(ctx context.Context) error {
	if b.Due == 0 {
		return nil
	}
	minute := time.Now().Truncate(time.Minute).Add(2 * time.Minute)
	fmt.Fprintf(b.say, "firing %s timers between %s and a minute later\n", grouped(int64(b.Due)), minute.Format("15:04"))
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
func (b *bench) watch(ctx context.Context) error {
	ended := []byte(`"type":"` + decision.WaitType + `"`)
	return kafka.Tail(ctx, b.sys.log, b.sys.run.Topic(topics.Decisions), kafka.Earliest, func(r *stream.Record) error {
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
func (b *bench) until(ctx context.Context, ok func() bool) error {
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
		case <-b.dead:
			return fmt.Errorf("the decider has ended: %s", b.out.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// start runs the decider as a process of its own.
func (b *bench) start() error {
	b.out.Reset()
	b.proc = exec.Command(b.Decider)
	b.proc.Stdout, b.proc.Stderr = &b.out, &b.out
	b.proc.Env = append(os.Environ(), "KAFKA_BROKERS="+strings.Join(b.sys.kafka.Brokers, ","), "REDIS_ADDR="+b.sys.redis.Addr,
		"RUN_ID="+b.sys.run.ID, "RUN_MODE=live", "ADMIN_LISTEN=")
	b.dead = make(chan struct{})
	if err := b.proc.Start(); err != nil {
		return fmt.Errorf("start the decider: %w", err)
	}
	go func(p *exec.Cmd, dead chan struct{}) {
		_ = p.Wait() // until says how it ended
		close(dead)
	}(b.proc, b.dead)
	return nil
}

func (b *bench) stop() {
	if b.proc == nil {
		return
	}
	_ = b.proc.Process.Signal(syscall.SIGTERM) // it may have ended
	<-b.dead
	b.proc = nil
}

// rss is the resident memory of the decider.
func (b *bench) rss() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.proc.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64) // of the kernel
			return kb << 10
		}
	}
	return 0
}

// memory is what Redis uses; false where it does not say.
func (b *bench) memory(ctx context.Context) (int64, bool) {
	c := &b.sys.redis
	r := redis.NewClient(&redis.Options{Addr: c.Addr, Username: c.Username, Password: string(c.Password), DB: c.DB,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer r.Close()
	info, err := r.Info(ctx, "memory").Result()
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// states measures what is stored by customer.
func (b *bench) states(ctx context.Context) error {
	var size, n int64
	for p := range b.Partitions {
		err := b.sys.store.Scan(ctx, b.sys.run.Group(decider.Service), p, func(key string, value []byte) bool {
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

func (b *bench) print(w io.Writer) {
	f := &b.f
	const mb = 1 << 20
	fmt.Fprintf(w, "%s requests wait: placed in %.1f s, %s a second\n", grouped(int64(f.Requests)), f.Seconds, grouped(int64(f.PerSecond)))
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
		fmt.Fprintf(w, "%s timers of one minute fire late by %.0f ms (median), %.0f ms (p99), %.0f ms (at most)\n", grouped(int64(f.Due)), f.DelayP50, f.DelayP99, f.DelayMax)
	}
}
