package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/console"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/trainer"
)

// consent is config.Pixels by the name under which a command has it.
type consent struct {
	Consent string `name:"consent" env:"PIXEL_CONSENT" enum:",assumed,required" default:"" help:"Opens of customers who have not said whether tracking pixels may observe them: required, they are not taken; assumed, they are, until somebody refuses. Default: required in a live run, assumed in a simulated one."`
}

// crew is a set of services to be run in this process. Each reads the environment as it would alone; what the command
// has decided goes before it.
type crew struct {
	sys *system
	env map[string]string
	set app.Settings
	run []func(context.Context) error
	err []error
}

func newCrew(sys *system, log *slog.Logger, env map[string]string) *crew {
	mode := "live"
	if sys.run.Simulated {
		mode = "simulated"
	}
	all := map[string]string{"RUN_ID": sys.run.ID, "RUN_MODE": mode}
	for k, v := range env {
		all[k] = v
	}
	return &crew{sys: sys, env: all, set: app.Settings{Log: log}}
}

// lookup is the environment that the services see. Addresses are the command's, and where the pair is embedded the
// environment's other words about Kafka and Redis (TLS, passwords) concern others.
func (c *crew) lookup(name string) (string, bool) {
	if v, ok := c.env[name]; ok {
		return v, true
	}
	if c.sys.dir != "" && (strings.HasPrefix(name, "KAFKA_") || strings.HasPrefix(name, "REDIS_")) {
		return "", false
	}
	return os.LookupEnv(name)
}

// add adds a service. adjust sets what no environment variable can.
func add[C any](c *crew, name string, run func(context.Context, C, app.Settings) error, kafkaOf func(*C) *kafka.Config, redisOf func(*C) *redis.Config, adjust func(*C)) {
	var cfg C
	if err := config.Parse(&cfg, name, nil, c.lookup); err != nil {
		c.err = append(c.err, fmt.Errorf("%s: %w", name, err))
		return
	}
	*kafkaOf(&cfg) = c.sys.kafka
	if redisOf != nil {
		*redisOf(&cfg) = c.sys.redis
	}
	if adjust != nil {
		adjust(&cfg)
	}
	set := c.set
	set.Log = set.Log.With("service", name)
	set.Health = new(app.Health)
	c.run = append(c.run, func(ctx context.Context) error {
		if err := run(ctx, cfg, set); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// pipeline adds what turns events into decisions.
func (c *crew) pipeline() {
	add(c, "profiler", profiler.Run, func(x *profiler.Config) *kafka.Config { return &x.Kafka }, func(x *profiler.Config) *redis.Config { return &x.Redis }, nil)
	add(c, "detector", detector.Run, func(x *detector.Config) *kafka.Config { return &x.Kafka }, func(x *detector.Config) *redis.Config { return &x.Redis }, nil)
	add(c, "decider", decider.Run, func(x *decider.Config) *kafka.Config { return &x.Kafka }, func(x *decider.Config) *redis.Config { return &x.Redis }, nil)
}

func (c *crew) trainer() {
	add(c, "trainer", trainer.Run, func(x *trainer.Config) *kafka.Config { return &x.Kafka }, nil, nil)
}

func (c *crew) ingest(ln net.Listener) {
	add(c, "ingest", ingest.Run, func(x *ingest.Config) *kafka.Config { return &x.Kafka }, func(x *ingest.Config) *redis.Config { return &x.Redis }, func(x *ingest.Config) { x.Listener = ln })
}

func (c *crew) connector() {
	add(c, "connector", connector.Run, func(x *connector.Config) *kafka.Config { return &x.Kafka }, func(x *connector.Config) *redis.Config { return &x.Redis }, nil)
}

func (c *crew) console(pace float64) {
	add(c, "console", console.Run, func(x *console.Config) *kafka.Config { return &x.Kafka }, func(x *console.Config) *redis.Config { return &x.Redis },
		func(x *console.Config) { x.Embedded, x.Pace = c.sys.pair != nil, pace })
}

// ready returns what was added, or everything that is wrong with the configuration.
func (c *crew) ready() ([]func(context.Context) error, error) {
	return c.run, errors.Join(c.err...)
}

// working names the services whose lag tells whether the pipeline has drained, in the order of the flow.
var working = []string{profiler.Service, detector.Service, decider.Service}
