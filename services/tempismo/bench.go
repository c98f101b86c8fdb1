package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/bench"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// benchCmd measures. scripts/bench builds what it needs and runs it.
type benchCmd struct {
	bench.Load  `embed:""`
	Parts       []string      `default:"limit,light,profile,latency,rebuild" enum:"limit,light,profile,latency,rebuild" help:"What is measured on these events: the bare loop, the light job that stands for the cost of the runtime, the profiler, the delays through three services, the profiler after a loss of its state."`
	Peers       string        `type:"existingfile" placeholder:"FILE" help:"Run the light job on other engines as well, by this program (scripts/peers/peers)."`
	Against     int           `help:"Drain as many events of so many customers as well, and compare what one costs; 0: no."`
	Rate        int           `default:"20000" help:"Events a second of the delays; 0: half of what the profiler reached."`
	Settle      int           `default:"90" help:"Seconds of load before delays, or slices of --ingest, are counted: the broker's compiler takes a minute to get to small requests."`
	Seconds     int           `default:"30" help:"How long delays are counted."`
	Requests    int           `help:"Measure the decider with so many requests that wait, and nothing else."`
	Due         int           `default:"10000" help:"Further requests that are due within one minute; 0: firing is not measured."`
	Ingest      bool          `help:"Measure ingest and nothing else: each provider's webhook with its signatures, beside the bare endpoint."`
	Connections int           `default:"32" help:"Connections over which ingest is called, one request at a time on each."`
	Rounds      int           `default:"5" help:"Rounds of --ingest: in each, every provider and the bare endpoint have a slice of time in turn."`
	Slice       time.Duration `default:"4s" help:"Length of a slice."`
	Partitions  int32         `default:"8" help:"Partitions of the topics."`
	Programs    string        `required:"" type:"path" placeholder:"DIR" help:"Folder with the programs of the services and tempismo itself."`
	Profiles    string        `type:"path" placeholder:"DIR" help:"Leave profiles (pprof) of the services there. They then run in a process of this program."`
	JSON        bool          `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*benchCmd) Help() string {
	return "Without addresses it starts an embedded broker and store, which say what works and not what it costs.\n\nExample:\n  tempismo bench --programs . --events 300000"
}

// Validate names everything that is wrong.
func (c *benchCmd) Validate() error {
	var wrong error
	if c.Ingest && (c.Connections < 1 || c.Rounds < 1 || c.Slice <= 0) {
		wrong = errors.New("--connections, --rounds and --slice: give positive ones")
	}
	if c.Ingest && c.Requests > 0 {
		wrong = errors.Join(wrong, errors.New("--ingest and --requests: give one of them"))
	}
	return errors.Join(wrong, c.Load.Validate(), c.target.Validate())
}

// Run measures.
func (c *benchCmd) Run(ctx context.Context, t terminal) (err error) {
	s := &bench.System{Partitions: c.Partitions, Programs: c.Programs, Profiles: c.Profiles, Say: t.err,
		Run: stream.Run{ID: "bench-" + strconv.FormatInt(time.Now().Unix(), 36), Simulated: c.Requests == 0 && !c.Ingest}}
	sys, err := c.begin(ctx, s.Run)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, sys.Close())
		if sys.pair != nil {
			err = errors.Join(err, os.RemoveAll(sys.dir))
		}
	}()
	s.KafkaConfig, s.RedisConfig, s.Log, s.Store, s.Embedded = sys.kafka, sys.redis, sys.log, sys.store, sys.pair != nil
	if c.Requests > 0 {
		f, err := bench.MeasureRequests(ctx, s, bench.RequestOptions{Requests: c.Requests, Due: c.Due})
		if err != nil {
			return err
		}
		if c.JSON {
			return t.json(f)
		}
		f.Print(t.out)
		return nil
	}
	if c.Ingest {
		f, err := bench.MeasureIngest(ctx, s, bench.IngestOptions{Connections: c.Connections, Customers: c.Customers, Rounds: c.Rounds, Slice: c.Slice, Settle: time.Duration(c.Settle) * time.Second})
		if err != nil {
			return err
		}
		if c.JSON {
			return t.json(f)
		}
		f.Print(t.out)
		return nil
	}
	if c.Peers != "" {
		c.Parts = append(c.Parts, bench.Peers)
	}
	f, err := bench.Measure(ctx, s, bench.Options{Load: c.Load, Parts: c.Parts, Engines: bench.Engines(c.Peers), Against: c.Against, Rate: c.Rate, Settle: c.Settle, Seconds: c.Seconds})
	if err != nil {
		return err
	}
	if c.JSON {
		return t.json(f)
	}
	f.Print(t.out)
	return nil
}

// begin opens the system, which must be a new one: records are written by the million, and requests would go out.
func (c *benchCmd) begin(ctx context.Context, run stream.Run) (*system, error) {
	s := &system{kafka: c.Kafka, redis: c.Redis, run: run}
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
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// benchServiceCmd is the process of a comparison job.
type benchServiceCmd struct {
	Job     string `arg:"" help:"light, limit, profiler, detector, decider or ingest."`
	Profile string `type:"path" placeholder:"DIR" help:"Leave profiles (pprof) there."`
}

// Help is the example.
func (*benchServiceCmd) Help() string {
	return "It reads the environment as services do.\n\nExample:\n  tempismo bench-service light"
}

// Run serves until it is told to stop.
func (c *benchServiceCmd) Run(ctx context.Context) error {
	return bench.Serve(ctx, c.Job, c.Profile, os.Stderr)
}
