package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// upCmd runs everything in one process.
type upCmd struct {
	Console    string `name:"console-listen" env:"CONSOLE_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where the page is served."`
	Ingest     string `name:"ingest-listen" env:"INGEST_LISTEN" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Where events and requests are taken."`
	KafkaPort  int    `default:"9092" help:"Port of the embedded broker; where it is taken, any that is free."`
	RedisPort  int    `default:"6379" help:"Port of the embedded store; where it is taken, any that is free."`
	Partitions int32  `default:"8" help:"Partitions of topics that do not exist yet."`
	Policy     string `placeholder:"FILE" help:"Policy file to put into force, as tempismo policy apply does. Default: what is in force stays."`
	Demo       demo   `embed:""`
	consent
	target
}

// Help is the example.
func (*upCmd) Help() string {
	return `Without addresses, broker and store run inside this process on a data folder; a second start goes on where the first
ended. That is for laptops: one copy on one disk. Each service reads its own environment variables as it would alone
(see the --help of the services); the connector runs where WEBHOOK_URL is set.

Examples:
  tempismo up --demo
  tempismo up --data ./data --policy docs/examples/policy.yaml
  tempismo up --kafka-brokers localhost:9092 --redis-addr localhost:6379`
}

// Validate checks what can be checked before anything is started.
func (c *upCmd) Validate() error {
	errs := []error{c.target.Validate()}
	if c.addressed() && c.Redis.Addr == "" {
		errs = append(errs, errors.New("--kafka-brokers without --redis-addr: give both addresses (KAFKA_BROKERS, REDIS_ADDR)"))
	}
	if c.Demo.Demo {
		errs = append(errs, c.Demo.validate())
		if c.Mode == "live" {
			errs = append(errs, errors.New("--demo is a simulated run: leave --run-mode out"))
		}
	}
	return errors.Join(errs...)
}

// Run runs everything until ctx ends.
func (c *upCmd) Run(ctx context.Context, t terminal) (err error) {
	s := styleFor(t.out)
	policy, err := c.policy(t)
	if err != nil {
		return err
	}
	page, err := listen("--console-listen", c.Console)
	if err != nil {
		return err
	}
	page.Close() // the console opens it again itself; this was to say now, and not in a log, that the port is taken
	events, err := listen("--ingest-listen", c.Ingest)
	if err != nil {
		return err
	}
	defer events.Close()
	sys, err := c.start(ctx, t, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	if policy != nil {
		if _, err := applyPolicy(ctx, sys.log, sys.run, policy); err != nil {
			return err
		}
		from := c.Policy
		if from == "" {
			from = "the demo's town"
		}
		fmt.Fprintf(t.out, "%s  %s, from %s\n", s.strong.Render("policy"), policy.Version, from)
	}
	log, closeLog, err := c.logger(sys, t)
	if err != nil {
		return err
	}
	defer closeLog()
	var receiver net.Listener
	env := map[string]string{"CONSOLE_LISTEN": c.Console, "LISTEN": c.Ingest, "PIXEL_CONSENT": c.Consent}
	if c.Demo.Demo {
		if receiver, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		env["WEBHOOK_SIMULATED_TARGET"] = "http://" + receiver.Addr().String() + "/crm"
		env["WEBHOOK_SECRET"] = demoSecret
		env["WEBHOOK_ALLOW_PRIVATE"] = "true"
		env["WEBHOOK_NAME"] = "demo"
	}
	crew := newCrew(sys, log, env)
	crew.console(c.Demo.pace())
	crew.pipeline()
	crew.ingest(events)
	crew.trainer()
	if _, ok := crew.lookup("WEBHOOK_URL"); ok || c.Demo.Demo {
		crew.connector()
	}
	run, err := crew.ready()
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "%s  %s\n", s.strong.Render("page"), s.accent.Render("http://"+shown(c.Console)))
	if c.Demo.Demo {
		run = append([]func(context.Context) error{func(ctx context.Context) error { return app.Serve(ctx, receiver, crm()) }}, run...)
		run = append(run, func(ctx context.Context) error { return c.Demo.play(ctx, t, s, sys, c.Partitions) })
	} else {
		fmt.Fprintf(t.out, "%s  http://%s/v1/events\n", s.strong.Render("events"), shown(c.Ingest))
	}
	fmt.Fprintln(t.out, s.faint.Render("Ctrl-C ends it cleanly."))
	err = app.Group(ctx, run...)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		fmt.Fprintln(t.out, s.faint.Render("stopped cleanly"))
		return nil
	}
	return err
}

// policy reads the policy that is to be in force, before anything is started; nil: none was given.
func (c *upCmd) policy(t terminal) (*decision.Policy, error) {
	switch {
	case c.Policy != "":
		p, err := openPolicy(c.Policy, thisYear())
		if err != nil {
			return nil, t.refuse(c.Policy, err)
		}
		return p, nil
	case c.Demo.Demo:
		return readPolicy("demo-policy.yaml", demoPolicy, thisYear())
	}
	return nil, nil
}

// start connects to what the operator named, or starts the embedded pair on a data folder.
func (c *upCmd) start(ctx context.Context, t terminal, s style) (*system, error) {
	sys := &system{kafka: c.Kafka, redis: c.Redis, run: stream.Run{ID: c.target.Run, Simulated: c.Demo.Demo || c.Mode == "simulated"}}
	fresh := sys.run.ID == ""
	if fresh {
		sys.run.ID = "r1"
		if c.Demo.Demo {
			sys.run.ID = "demo-" + time.Now().UTC().Format("20060102-150405")
		}
	}
	if err := runOf(sys.run).Validate(); err != nil {
		return nil, err
	}
	if !c.addressed() {
		dir := c.Data
		if dir == "" {
			dir = filepath.Join(local.State(), "live")
			if c.Demo.Demo {
				dir = filepath.Join(local.State(), "demo")
			}
		}
		if a, ok := local.Running(dir); ok {
			return nil, &local.InUseError{Dir: dir, Address: a}
		}
		if c.Demo.Demo && c.Data == "" && fresh {
			// A demo begins anew, in a folder that is its own; those of earlier ones are of no more use.
			if err := os.RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("clear the demo's folder: %w", err)
			}
		}
		if held, ok := local.Load(dir); ok && fresh && !c.Demo.Demo {
			sys.run = stream.Run{ID: held.Run, Simulated: held.Simulated}
		}
		if err := sys.embed(dir, local.Ports{Kafka: free(c.KafkaPort), Redis: free(c.RedisPort)}); err != nil {
			return nil, err
		}
		if err := local.Save(dir, local.System{Run: sys.run.ID, Simulated: sys.run.Simulated, Partitions: c.Partitions}); err != nil {
			return nil, errors.Join(err, sys.Close())
		}
		fmt.Fprintf(t.out, "%s  Kafka %s, Redis %s, data in %s\n", s.strong.Render("embedded"), sys.pair.Broker.Addr(), sys.pair.Store.Addr(), dir)
		fmt.Fprintln(t.out, s.faint.Render("The embedded broker and store are for laptops: one copy, on this disk. For more, give --kafka-brokers and --redis-addr."))
	}
	fmt.Fprintf(t.out, "%s  %s\n", s.strong.Render("run"), sys.run.ID)
	if err := sys.connect(ctx); err != nil {
		return nil, errors.Join(err, sys.Close())
	}
	if err := kafka.EnsureTopics(ctx, sys.kafka, sys.run, c.Partitions); err != nil {
		return nil, errors.Join(err, sys.Close())
	}
	return sys, nil
}

// logger writes the services' logs into the data folder, and what is worth an interruption to the terminal.
func (c *upCmd) logger(sys *system, t terminal) (*slog.Logger, func(), error) {
	if sys.dir == "" {
		return slog.New(slog.NewJSONHandler(t.err, nil)), func() {}, nil
	}
	f, err := os.OpenFile(filepath.Join(sys.dir, "tempismo.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	h := both{slog.NewJSONHandler(f, nil), slog.NewJSONHandler(t.err, &slog.HandlerOptions{Level: slog.LevelError})}
	return slog.New(h), func() { f.Close() }, nil
}

// both hands records to two handlers, each with a level of its own.
type both [2]slog.Handler

func (b both) Enabled(ctx context.Context, l slog.Level) bool {
	return b[0].Enabled(ctx, l) || b[1].Enabled(ctx, l)
}

func (b both) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range b {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r))
		}
	}
	return errors.Join(errs...)
}

func (b both) WithAttrs(attrs []slog.Attr) slog.Handler {
	return both{b[0].WithAttrs(attrs), b[1].WithAttrs(attrs)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b[0].WithGroup(name), b[1].WithGroup(name)}
}

// listen opens a listener, or says which flag helps.
func listen(flag, addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; choose another address", flag, err)
	}
	return ln, nil
}

// free returns port if nobody listens on it, 0 otherwise.
func free(port int) int {
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0
	}
	ln.Close()
	return port
}

// shown is an address as a browser on this machine takes it.
func shown(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// crm is the demo's own receiver: it takes every message.
func crm() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
}
