package crmfaults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/tempismo/chaos"
)

// Services are the programs that a run needs.
var Services = []string{connector.Service, decider.Service}

// Config says what is played.
type Config struct {
	Mode      Mode
	Decisions int
	Seed      uint64
	Processes int     // of the connector
	Rate      float64 // calls a second of all of them together, and the CRM's limits with it; 0: as declared
	Kills     int
	Faulty    int           // attempts of a decision that may fail
	Life      time.Duration // of most decisions, from the beginning
	Embedded  bool          // the broker is the embedded one, in this process
	Bin       string        // folder of the programs
	Dir       string        // for everything of the run: logs, Kafka's and Redis's data
	Tell      func(format string, args ...any)
}

// Report is what came of a run.
type Report struct {
	Mode      string         `json:"mode"`
	Seed      uint64         `json:"seed"`
	Processes int            `json:"processes"`
	Rate      float64        `json:"rate"`
	Took      time.Duration  `json:"took_ns"`
	Found     []Finding      `json:"found"`
	Counts    map[string]int `json:"counts"`
}

const (
	partitions  = 8 // so that what waits for minutes fills none of them
	concurrency = 50
	timeout     = 5 * time.Second  // of a call
	slow        = 7 * time.Second  // how late a late answer is
	rest        = 4 * time.Second  // that a CRM asks for, where it says how long
	gap         = 20 * time.Second // between two messages to a customer, by the policy
	patience    = 10 * time.Minute // beyond the life of the decisions: what was called at its end is looked up for six
)

// run is one run under way.
type run struct {
	Config
	run       stream.Run
	random    *rand.Rand
	front     *front
	url       string
	brokers   []string
	redis     *chaos.RedisServers
	log       *kafka.Log
	started   int
	processes []*chaos.Process
	kills     []time.Time
}

// Run plays a run and judges it. The error says that it could not be played.
func Run(ctx context.Context, c Config) (report *Report, err error) {
	began := time.Now()
	r := &run{Config: c, run: stream.Run{ID: "crm-faults"}, random: rand.New(rand.NewPCG(c.Seed, 1))}
	ctx, cancel := context.WithTimeout(ctx, c.Life+patience)
	defer cancel()
	if err := os.MkdirAll(r.logs(), 0o755); err != nil {
		return nil, err
	}
	fake := c.Mode.fake()
	fake.Late, fake.Rest = slow, rest
	declared := c.Mode.Rate
	if c.Rate > 0 && declared > 0 {
		fake.Scale(c.Rate / declared)
	}
	r.front = newFront(fake, c.Faulty, rand.New(rand.NewPCG(c.Seed, 2)))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: r.front, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // it returns at Close
	defer server.Close()
	r.url = "http://" + listener.Addr().String()

	var broker io.Closer
	if c.Embedded {
		b, err := kafka.StartEmbedded(kafka.EmbeddedConfig{}) // in memory: it is not what is killed
		if err != nil {
			return nil, err
		}
		broker, r.brokers = b, []string{b.Addr()}
	} else {
		b, err := chaos.StartBrokers(ctx, c.Dir, 1)
		if err != nil {
			return nil, err
		}
		broker, r.brokers = b, b.Direct()
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	if r.redis, err = chaos.StartRedis(ctx, c.Dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.redis.Close()) }()
	defer func() {
		for _, p := range r.processes {
			p.Kill()
		}
	}()
	if err := kafka.EnsureTopics(ctx, r.kafka(), r.run, partitions); err != nil {
		return nil, err
	}
	if r.log, err = kafka.Open(ctx, r.kafka()); err != nil {
		return nil, err
	}
	defer r.log.Close()
	if err := r.policy(ctx); err != nil {
		return nil, err
	}
	if err := r.play(ctx); err != nil {
		return nil, err
	}
	e, err := r.evidence(ctx)
	if err != nil {
		return nil, err
	}
	_, e.Limited = fake.Calls()
	e.Sent = fake.Sent()
	report = &Report{Mode: c.Mode.Name, Seed: c.Seed, Processes: c.Processes, Rate: r.rate(), Took: time.Since(began)}
	report.Found, report.Counts = e.check()
	return report, nil
}

func (r *run) logs() string        { return filepath.Join(r.Dir, "logs") }
func (r *run) kafka() kafka.Config { return kafka.Config{Brokers: r.brokers} }

// rate is the calls a second of all processes together; 0: no limit.
func (r *run) rate() float64 {
	if r.Rate > 0 {
		return r.Rate
	}
	return r.Mode.Rate
}

// policy puts the one of package chaos in force, which lets everything out at any hour, if not too soon after the last.
func (r *run) policy(ctx context.Context) error {
	l, err := chaos.NewLoad(ctx, chaos.LoadConfig{Kafka: r.kafka(), Run: r.run, Seed: r.Seed, Gap: gap})
	if err != nil {
		return err
	}
	return errors.Join(l.ApplyPolicy(ctx, "crm-faults.1", time.Time{}), l.Close())
}

// spawn starts one more process of a service.
func (r *run) spawn(name string) error {
	env := append([]string{
		"KAFKA_BROKERS=" + strings.Join(r.brokers, ","), "REDIS_ADDR=" + r.redis.Direct(), "RUN_ID=" + r.run.ID, "RUN_MODE=live",
		r.Mode.prefix + "URL=" + r.url, r.Mode.prefix + "ALLOW_PRIVATE=true", r.Mode.prefix + "TIMEOUT=" + timeout.String(),
		r.Mode.prefix + "CONCURRENCY=" + strconv.Itoa(concurrency),
	}, r.Mode.env...)
	if rate := r.rate(); rate > 0 {
		env = append(env, r.Mode.prefix+"RATE="+strconv.FormatFloat(rate, 'g', -1, 64))
	}
	r.started++
	p, err := chaos.Launch(r.Bin, r.logs(), name, r.started, env)
	if err == nil {
		r.processes = append(r.processes, p)
	}
	return err
}

// alive are the processes of a service that have not ended.
func (r *run) alive(name string) (alive []*chaos.Process) {
	for _, p := range r.processes {
		if p.Name == name && p.Alive() {
			alive = append(alive, p)
		}
	}
	return alive
}

// play lets everything happen, and returns when there is nothing left to do.
func (r *run) play(ctx context.Context) error {
	writer, err := kafka.NewWriter(ctx, r.log, r.run)
	if err != nil {
		return err
	}
	defer writer.Close()
	perSecond := r.rate()
	if perSecond == 0 {
		perSecond = 100
	}
	l := &load{mode: r.Mode, writer: writer, random: rand.New(rand.NewPCG(r.Seed, 3)), decisions: r.Decisions, perSecond: perSecond, life: r.Life}
	if err := r.spawn(decider.Service); err != nil {
		return err
	}
	for range r.Processes {
		if err := r.spawn(connector.Service); err != nil {
			return err
		}
	}
	written := make(chan error, 1)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	go func() { written <- l.write(loading) }()

	if err := r.faults(ctx, l); err != nil {
		return err
	}
	if err := <-written; err != nil {
		return fmt.Errorf("write decisions: %w", err)
	}
	if err := sleep(ctx, latest); l.requests() > 0 && err != nil {
		return err
	}
	if err := r.drained(ctx); err != nil {
		return err
	}
	for _, p := range slices.Concat(r.alive(connector.Service), r.alive(decider.Service)) {
		if _, code := p.Term(); code != 0 {
			return fmt.Errorf("%s ended with code %d when it was told to stop: see %s", p.ID(), code, p.Log)
		}
	}
	return nil
}

// faults kills the connector and empties Redis, each at a moment that lies in a part of the work of its own, and when whoever
// was started after the last kill has begun to call.
func (r *run) faults(ctx context.Context, l *load) error {
	parts := r.Kills + 1
	empty := r.random.IntN(parts)
	for i := range parts {
		at := (float64(i) + r.random.Float64()) / float64(parts) * float64(r.Decisions)
		called := r.front.counted()
		if err := r.until(ctx, func() bool { return l.written.Load() >= int64(at) && r.front.counted() > called }); err != nil {
			return err
		}
		if err := sleep(ctx, time.Duration(r.random.Int64N(int64(500*time.Millisecond)))); err != nil {
			return err
		}
		if i == empty {
			r.Tell("%s: Redis is emptied after %d calls", r.Mode.Name, r.front.counted())
			if err := r.redis.Client().FlushAll(ctx).Err(); err != nil {
				return fmt.Errorf("empty Redis: %w", err)
			}
		}
		if i == r.Kills {
			return nil
		}
		alive := r.alive(connector.Service)
		if len(alive) == 0 {
			return errors.New("the connector has ended by itself: see its log")
		}
		p := alive[r.random.IntN(len(alive))]
		r.Tell("%s: %s is killed after %d calls", r.Mode.Name, p.ID(), r.front.counted())
		r.kills = append(r.kills, time.Now())
		p.Kill()
		if err := sleep(ctx, time.Duration(r.random.Int64N(int64(time.Second)))); err != nil {
			return err
		}
		if err := r.spawn(connector.Service); err != nil {
			return err
		}
	}
	return nil
}

// until waits for something, while all processes live.
func (r *run) until(ctx context.Context, so func() bool) error {
	for !so() {
		if err := r.unharmed(); err != nil {
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("wait for work, after %d calls: %w", r.front.counted(), err)
		}
	}
	return nil
}

// unharmed reports a process that has ended without being told to.
func (r *run) unharmed() error {
	if n := len(r.alive(connector.Service)); n != r.Processes {
		return fmt.Errorf("%d of %d connectors live: see their logs", n, r.Processes)
	}
	if len(r.alive(decider.Service)) == 0 {
		return errors.New("the decider has ended by itself: see its log")
	}
	return nil
}

// drained waits until nothing is behind. Twice, because the one writes what the other reads.
func (r *run) drained(ctx context.Context) error {
	told := time.Now()
	for still := 0; still < 2; {
		if err := r.unharmed(); err != nil {
			return err
		}
		var left int64
		lags, err := r.log.Lag(ctx, r.run, Services)
		waits := map[string]int64{}
		for _, l := range lags {
			if l.Service != connector.Service || l.Topic == topics.Decisions { // it keeps no position of its own outcomes
				left += l.Records
				waits[l.Service+" "+l.Topic] += l.Records
			}
		}
		if still++; left > 0 || err != nil || len(lags) == 0 {
			still = 0
		}
		if time.Since(told) > time.Minute {
			told = time.Now()
			r.Tell("%s: %d calls, unread: %v", r.Mode.Name, r.front.counted(), waits)
		}
		if err := sleep(ctx, time.Second); err != nil {
			return fmt.Errorf("wait for the end of %d records, after %d calls: %w", left, r.front.counted(), err)
		}
	}
	return nil
}

// evidence reads what is left.
func (r *run) evidence(ctx context.Context) (*Evidence, error) {
	e := &Evidence{
		Key: r.Mode.Key, Rate: r.rate(), Ahead: concurrency * r.Processes, Processes: r.Processes, Patience: timeout, Gap: gap,
		Requests: (r.Decisions + 5) / 10, Calls: r.front.log(), Kills: r.kills, Ended: map[string]int{},
	}
	known := map[string]bool{}
	err := r.read(ctx, topics.Decisions, func(s *stream.Event) error {
		if known[s.ID] {
			return nil
		}
		known[s.ID] = true
		var d decision.Decision
		if err := d.Parse(s.Type, s.Data); err != nil {
			return err
		}
		if d.Request != "" && s.Type != decision.WaitType {
			e.Ended[strings.Clone(d.Request)]++
		}
		if s.Type != decision.SendNowType {
			e.Passed = append(e.Passed, strings.Clone(s.ID))
			return nil
		}
		e.Decided = append(e.Decided, Decided{strings.Clone(s.ID), strings.Clone(d.Request), strings.Clone(s.Subject), s.Time, d.ExpiresAt})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, r.read(ctx, topics.Outcomes, func(s *stream.Event) error {
		var o decision.Outcome
		if err := o.Parse(s.Data); err != nil {
			return err
		}
		e.Outcomes = append(e.Outcomes, Outcome{s.Time, o.Decision, o.Result, o.Attempts})
		return nil
	})
}

// read reads a topic, each partition in its order.
func (r *run) read(ctx context.Context, topic string, each func(*stream.Event) error) error {
	return kafka.Range(ctx, r.log, r.run.Topic(topic), kafka.Earliest, kafka.Latest, func(rec *stream.Record) error {
		e, err := stream.ParseEvent(rec.Value)
		if err == nil {
			err = each(&e)
		}
		if err != nil {
			return fmt.Errorf("%s, partition %d, offset %d: %w", topic, rec.Partition, rec.Offset, err)
		}
		return nil
	})
}

// sleep returns ctx's error if ctx ends first.
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

// String is the report in a few lines.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seed %d, %d processes, %g calls/s: %d findings after %v", r.Mode, r.Seed, r.Processes, r.Rate, len(r.Found), r.Took.Round(time.Second))
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "\n  %-28s %d", name, r.Counts[name])
	}
	for _, f := range r.Found {
		fmt.Fprintf(&b, "\n  FOUND %s", f)
	}
	return b.String()
}
