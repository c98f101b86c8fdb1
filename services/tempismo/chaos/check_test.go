package chaos

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
)

// everything is what all invariants are called.
const everything = "LPOMRNV"

// quiet runs all services in this process on an embedded pair, under a little load, and returns what is left.
func quiet(t *testing.T) *facts {
	t.Helper()
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	store, err := redis.StartEmbedded(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	hook, err := NewReceiver()
	if err != nil {
		t.Fatal(err)
	}
	defer hook.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run := stream.Run{ID: "quiet"}
	e := &Evidence{
		Kafka: kafka.Config{Brokers: []string{broker.Addr()}}, Redis: redis.Config{Addr: store.Addr()}, Run: run, Partitions: 2,
		Env: map[string]string{"MODEL": "builtin.1"},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := kafka.EnsureTopics(ctx, e.Kafka, run, e.Partitions); err != nil {
		t.Fatal(err)
	}
	load, err := NewLoad(ctx, LoadConfig{
		Kafka: e.Kafka, Run: run, Seed: 1, Customers: 24, Rate: 150, Ingest: func() string { return "http://" + listener.Addr().String() },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer load.Close()
	if err := load.Preload(ctx); err != nil {
		t.Fatal(err)
	}
	stopped := serve(ctx, t, e, hook, listener)
	load.Start(ctx)
	for deadline := time.Now().Add(time.Minute); len(hook.Calls()) < 12; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls within a minute, want 12", len(hook.Calls()))
		}
	}
	load.Stop()
	if err := Drained(ctx, e); err != nil {
		t.Fatal(err)
	}
	stopped()
	e.Ledger, e.Calls = load.Ledger(), hook.Calls()
	f, err := gather(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// serve starts all services, and returns what stops them.
func serve(ctx context.Context, t *testing.T, e *Evidence, hook *Receiver, listener net.Listener) (stop func()) {
	env := map[string]string{
		"KAFKA_BROKERS": strings.Join(e.Kafka.Brokers, ","), "REDIS_ADDR": e.Redis.Addr, "RUN_ID": e.Run.ID, "RUN_MODE": "live", "PIXEL_CONSENT": "assumed",
		"WEBHOOK_URL": hook.URL(), "WEBHOOK_SECRET": hook.Secret(), "WEBHOOK_ALLOW_PRIVATE": "true",
	}
	for k, v := range e.Env {
		env[k] = v
	}
	set := app.Settings{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	in, pc, dc := parsed[ingest.Config](t, env), parsed[profiler.Config](t, env), parsed[detector.Config](t, env)
	cc, oc := parsed[decider.Config](t, env), parsed[connector.Config](t, env)
	in.Listener = listener
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- app.Group(ctx,
			func(ctx context.Context) error { return ingest.Run(ctx, in, set) },
			func(ctx context.Context) error { return profiler.Run(ctx, pc, set) },
			func(ctx context.Context) error { return detector.Run(ctx, dc, set) },
			func(ctx context.Context) error { return decider.Run(ctx, cc, set) },
			func(ctx context.Context) error { return connector.Run(ctx, oc, set) },
		)
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("services ended with %v", err)
		}
	}
}

func parsed[C any](t *testing.T, env map[string]string) C {
	var c C
	if err := config.Parse(&c, "test", nil, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	return c
}

// Nothing is found where nothing was done, and everything that somebody could do to the evidence is.
func TestCheck(t *testing.T) {
	if testing.Short() {
		t.Skip("runs all services for some seconds")
	}
	f := quiet(t)
	found, counts, err := f.check(everything)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(counts)
	for _, v := range found {
		t.Errorf("nothing was done to it, and: %s %s %v", v.Invariant, v.What, v.IDs)
	}
	for _, what := range []string{"acknowledged", "profiles counted", "outputs of profiler", "outputs of detector", "decisions made again", "look-ups made again", "sends that reached the receiver"} {
		if counts[what] == 0 {
			t.Errorf("%s: none, so nothing was checked", what)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	for _, c := range doctored {
		t.Run(c.name, func(t *testing.T) {
			g := f.clone()
			id := c.doctor(g)
			found, _, err := g.check(c.invariant)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(found, func(v Violation) bool {
				return v.Invariant == c.invariant && strings.Contains(v.What, c.what) && slices.ContainsFunc(v.IDs, func(x string) bool { return strings.Contains(x, id) })
			}) {
				t.Errorf("no violation of %s says %q and names %q; found: %v", c.invariant, c.what, id, found)
			}
		})
	}
}
