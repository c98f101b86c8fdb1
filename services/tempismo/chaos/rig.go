package chaos

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Rig is one round's system: brokers, Redis, the proxies before them, service processes, load and receiver.
type Rig struct {
	Dir        string // everything of this round: logs, data
	Bin        string // folder of the service binaries
	Run        stream.Run
	Seed       uint64
	Rand       *rand.Rand
	Partitions int32
	Brokers    *Brokers
	Redis      *RedisServers
	Load       *Load
	Hook       *Receiver
	Sample     *Sampler

	// Instances is how many processes of each service the rig keeps; Env is added to the environment of each process of a
	// service ("" is all of them). Prepare may change both.
	Instances map[string]int
	Env       map[string][]string
}

// Services are the programs that run, in the order in which data flows.
var Services = []string{"ingest", "profiler", "detector", "decider", "connector"}

// Kafka leads directly to the brokers, past the proxies: for load and checks.
func (r *Rig) Kafka() kafka.Config { return kafka.Config{Brokers: r.Brokers.Direct()} }

// Store leads directly to the Redis that is the primary now.
func (r *Rig) Store() redis.Config { return redis.Config{Addr: r.Redis.Direct()} }

// IngestURL is where the API of a living instance of ingest is served; "" if none lives.
func (r *Rig) IngestURL() string { panic("to be written") }

// Service returns the living instances of a service.
func (r *Rig) Service(name string) []*Process { panic("to be written") }

// Spawn starts one more instance of a service.
func (r *Rig) Spawn(name string, env ...string) *Process { panic("to be written") }

// Mend spawns what is missing of Instances.
func (r *Rig) Mend() { panic("to be written") }

// Logf tells who watches what happens.
func (r *Rig) Logf(format string, args ...any) { panic("to be written") }

// Recovered waits until no service is behind by more than a moment, and returns how long that took.
func (r *Rig) Recovered(ctx context.Context, patience time.Duration) (time.Duration, error) {
	panic("to be written")
}

// start builds the rig. These are the calls that it makes of its parts, in order:
func start(ctx context.Context, row Row, dir, bin string, seed uint64) (r *Rig, err error) {
	r = &Rig{Dir: dir, Bin: bin, Seed: seed, Rand: rand.New(rand.NewPCG(seed, 1))}
	if r.Brokers, err = StartBrokers(ctx, dir, max(row.Brokers, 1)); err != nil { // real brokers, each behind a proxy
		return r, err
	}
	if r.Redis, err = StartRedis(ctx, dir); err != nil { // a primary behind a proxy
		return r, err
	}
	if r.Hook, err = StartReceiver(); err != nil { // serves Hook.URL(), with Hook.Secret()
		return r, err
	}
	r.Load, r.Sample = NewLoad(r), NewSampler(r)
	// EnsureTopics, row.Prepare, then
	if err = r.Load.Preload(ctx); err != nil {
		return r, err
	}
	// the services start, with KAFKA_BROKERS = r.Brokers.Addrs() and REDIS_ADDR = r.Redis.Addr(), through the proxies; then
	r.Sample.Start(ctx)
	r.Load.Start(ctx)
	// injections; then
	r.Load.Stop()
	// lag is zero; then the load says when every request has ended (or that this takes too long)
	if err = r.Load.Settled(ctx); err != nil {
		return r, err
	}
	r.Sample.Stop()
	// the services are stopped by SIGTERM; then
	_, _, err = Check(ctx, r.evidence(), row.Holds)
	return r, err
}

// stop ends everything, in whatever state it is.
func (r *Rig) stop() {
	r.Hook.Close()
	r.Redis.Close()
	r.Brokers.Close()
}

func (r *Rig) evidence() *Evidence {
	return &Evidence{
		Kafka: r.Kafka(), Redis: r.Store(), Run: r.Run, Partitions: r.Partitions,
		Ledger: r.Load.Ledger(), Calls: r.Hook.Calls(), Samples: r.Sample.Samples(),
	}
}
