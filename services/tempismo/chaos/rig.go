package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Services are the programs that run, in the order in which data flows.
var Services = []string{"ingest", "profiler", "detector", "decider", "connector"}

// grouped are those that read, each as a consumer group: those that can be behind.
var grouped = Services[1:]

// Rig is one round's system: brokers, Redis, the proxies before them, service processes, load and receiver.
type Rig struct {
	Dir        string // everything of this round: logs, data
	Bin        string // folder of the service programs
	Run        stream.Run
	Seed       uint64
	Rand       *rand.Rand // safe for concurrent use
	Partitions int32
	Brokers    *Brokers
	Redis      *RedisServers
	Load       *Load
	Hook       *Receiver
	Sample     *Sampler

	// Instances is how many processes of each service the rig keeps; Env is added to the environment of each process of a
	// service ("" is all of them). Prepare may change both; later they are changed by Configure and Scale.
	Instances map[string]int
	Env       map[string][]string

	// Previous is a folder of programs of another version, "" if there is none.
	Previous string

	row  string
	log  *kafka.Log // direct
	tell func(format string, args ...any)

	leaving sync.WaitGroup // processes that were told to stop

	mu         sync.Mutex
	traps      []*trap
	counted    Counts
	processes  []*Process // all that ever were
	injections []Injection
	renewed    []string
	found      []Violation
	noted      map[string]int
}

// partitions of every topic: few, so that each has much to do, and more than instances, so that a rebalance moves some.
const partitions = 4

// newRig builds brokers, Redis, receiver and topics. Whatever it returns must be closed.
func newRig(ctx context.Context, row Row, dir, bin string, seed uint64, tell func(string, ...any)) (r *Rig, err error) {
	r = &Rig{
		Dir: dir, Bin: bin, Seed: seed, Rand: rand.New(&lockedSource{source: rand.NewPCG(seed, 1)}), Partitions: partitions,
		Run:       stream.Run{ID: "chaos-" + strconv.FormatUint(seed, 36)},
		Instances: map[string]int{"ingest": 1, "profiler": 2, "detector": 2, "decider": 2, "connector": 2},
		Env:       map[string][]string{}, row: row.ID, tell: tell, noted: map[string]int{}, counted: Counts{},
	}
	if err := os.MkdirAll(r.logs(), 0o755); err != nil {
		return r, err
	}
	var brokers, store error
	var both sync.WaitGroup
	both.Go(func() { r.Brokers, brokers = StartBrokers(ctx, dir, max(row.Brokers, 1)) })
	both.Go(func() { r.Redis, store = StartRedis(ctx, dir) })
	both.Wait()
	if err := errors.Join(brokers, store); err != nil {
		return r, err
	}
	if r.Hook, err = NewReceiver(); err != nil {
		return r, err
	}
	if err := kafka.EnsureTopics(ctx, r.Kafka(), r.Run, r.Partitions); err != nil {
		return r, err
	}
	if r.log, err = kafka.Open(ctx, r.Kafka()); err != nil {
		return r, err
	}
	r.Load, err = NewLoad(ctx, LoadConfig{Kafka: r.Kafka(), Run: r.Run, Seed: seed, Ingest: r.IngestURL})
	r.Sample = NewSampler(r.Kafka(), r.Run, r.probes)
	return r, err
}

func (r *Rig) logs() string { return filepath.Join(r.Dir, "logs") }

// close ends everything, in whatever state it is.
func (r *Rig) close() error {
	for _, p := range r.all() {
		p.Kill()
	}
	var errs []error
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	// What was never started is nil.
	if r.Load != nil {
		errs = append(errs, r.Load.Close())
	}
	if r.Hook != nil {
		errs = append(errs, r.Hook.Close())
	}
	if r.Redis != nil {
		errs = append(errs, r.Redis.Close())
	}
	if r.Brokers != nil {
		errs = append(errs, r.Brokers.Close())
	}
	return errors.Join(errs...)
}

// Kafka leads directly to the brokers, past the proxies: for load and checks.
func (r *Rig) Kafka() kafka.Config { return kafka.Config{Brokers: r.Brokers.Direct()} }

// Store leads directly to the Redis that is the primary now.
func (r *Rig) Store() redis.Config { return redis.Config{Addr: r.Redis.Direct()} }

// IngestURL is where the API of a living instance of ingest is served; "" if none lives.
func (r *Rig) IngestURL() string {
	alive := r.Service("ingest")
	if len(alive) == 0 {
		return ""
	}
	return "http://" + alive[r.Rand.IntN(len(alive))].listen
}

func (r *Rig) all() []*Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.processes)
}

// Service returns the living instances of a service, the oldest first.
func (r *Rig) Service(name string) (alive []*Process) {
	for _, p := range r.all() {
		if p.Name == name && p.Alive() {
			alive = append(alive, p)
		}
	}
	return alive
}

// Spawn starts one more instance of a service.
func (r *Rig) Spawn(name string, env ...string) *Process { return r.spawn(r.Bin, name, env...) }

func (r *Rig) spawn(bin, name string, env ...string) *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []string{
		"KAFKA_BROKERS=" + strings.Join(r.Brokers.Addrs(), ","), "REDIS_ADDR=" + r.Redis.Addr(), "RUN_ID=" + r.Run.ID, "RUN_MODE=live",
		"PIXEL_CONSENT=assumed", // every open is work
		"WEBHOOK_URL=" + r.Hook.URL(), "WEBHOOK_SECRET=" + r.Hook.Secret(), "WEBHOOK_ALLOW_PRIVATE=true",
	}
	all = append(append(append(all, r.Env[""]...), r.Env[name]...), env...)
	p, err := Launch(bin, r.logs(), name, len(r.processes)+1, all)
	if err != nil {
		panic(err) // the machine is out of processes or ports: nothing that follows would mean anything
	}
	r.processes = append(r.processes, p)
	return p
}

// Mend spawns what is missing of Instances.
func (r *Rig) Mend() {
	for _, name := range Services {
		for range r.Instances[name] - len(r.Service(name)) {
			r.Spawn(name)
		}
	}
}

// Logf tells who watches what happens.
func (r *Rig) Logf(format string, args ...any) { r.tell(format, args...) }

// Note counts what a row did, for the report: "kill profiler between commit and publish".
func (r *Rig) Note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noted[what]++
}

// count adds to what was checked, for the report.
func (r *Rig) count(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted[what] += int64(n)
}

// Found adds a violation that an injection saw itself.
func (r *Rig) Found(v Violation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.Row = r.row
	r.found = append(r.found, v)
	r.tell("BROKEN: %s", v)
}

// fallen names the processes that ended without being told to: a service does not give up.
func (r *Rig) fallen(row string) (found []Violation) {
	for _, p := range r.all() {
		if p.fell() {
			found = append(found, Violation{"V", row, fmt.Sprintf("a process ended by itself with code %d: see %s", p.code, p.Log), []string{p.ID()}})
		}
	}
	return found
}

// A service has caught up when the oldest record that it has not acknowledged is younger than this. Load goes on, so
// there is always one.
const caughtUp = 2 * time.Second

// Recovered waits until no service is behind by more than a moment, and returns how long that took.
func (r *Rig) Recovered(ctx context.Context, patience time.Duration) (time.Duration, error) {
	began := time.Now()
	for {
		asking, cancel := context.WithTimeout(ctx, 20*time.Second)
		lags, err := r.log.Lag(asking, r.Run, grouped)
		cancel()
		i := slices.IndexFunc(lags, func(l kafka.PartitionLag) bool { return l.Behind > caughtUp && works(&l) })
		took := time.Since(began)
		switch {
		case ctx.Err() != nil:
			return took, ctx.Err()
		case err == nil && i < 0:
			return took, nil
		case took > patience && err != nil:
			return took, fmt.Errorf("how far the services are behind is not known after %s: %w", took.Round(time.Second), err)
		case took > patience:
			l := lags[i]
			return took, fmt.Errorf("after %s the %s is behind by %d records and %s in partition %d of %s", took.Round(time.Second), l.Service, l.Records, l.Behind.Round(time.Millisecond), l.Partition, l.Topic)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return took, err
		}
	}
}

// probes are the processes of the moment.
func (r *Rig) probes() (probes []Probe) {
	for _, p := range r.all() {
		if p.Alive() {
			probes = append(probes, Probe{Process: p.ID(), RSS: p.RSS, Ready: p.Ready, Metrics: p.Metrics})
		}
	}
	return probes
}

// Evidence is all that the round leaves to be checked.
func (r *Rig) Evidence() *Evidence {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &Evidence{
		Kafka: r.Kafka(), Redis: r.Store(), Run: r.Run, Partitions: r.Partitions,
		Ledger: r.Load.Ledger(), Calls: r.Hook.Calls(), Samples: r.Sample.Samples(),
		Injections: slices.Clone(r.injections), Renewed: slices.Clone(r.renewed), Forgot: r.row == "7", Env: map[string]string{},
	}
	for _, env := range [][]string{r.Env[""], r.Env["profiler"]} {
		for _, v := range env {
			name, value, _ := strings.Cut(v, "=")
			e.Env[name] = value
		}
	}
	return e
}

// Renew tells that services came back, or will, as another version.
func (r *Rig) Renew(services ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range services {
		if !slices.Contains(r.renewed, s) {
			r.renewed = append(r.renewed, s)
		}
	}
}

// Moment waits for a random while below most.
func (r *Rig) Moment(ctx context.Context, most time.Duration) error {
	return sleep(ctx, time.Duration(r.Rand.Int64N(int64(most))))
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

// lockedSource lets several injections draw at once.
type lockedSource struct {
	mu     sync.Mutex
	source rand.Source
}

func (s *lockedSource) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.source.Uint64()
}
