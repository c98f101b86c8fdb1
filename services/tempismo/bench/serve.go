package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/telemetry"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
)

// ServiceConfig is the configuration of the comparison jobs, read from the environment like that of a service.
type ServiceConfig struct {
	Kafka kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis redis.Config `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Run   config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`
}

func (c *ServiceConfig) run() stream.Run {
	return stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}
}

// Serve is the process of a comparison job (light, limit), or that of a service whose profile is wanted, until ctx ends: the
// programs of the services themselves have no debugging endpoint. With a folder for profiles it leaves those of processor and
// allocations there.
func Serve(ctx context.Context, name, profiles string, stderr *os.File) (err error) {
	log := telemetry.NewLogger(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}), name)
	tel, err := telemetry.New(ctx, telemetry.Config{}, name, "bench")
	if err != nil {
		return err
	}
	set := app.Settings{Log: log, Telemetry: tel, Health: &app.Health{}}
	var run func(context.Context) error
	switch name {
	case profiler.Service:
		run, err = configured(name, set, profiler.Run)
	case detector.Service:
		run, err = configured(name, set, detector.Run)
	case decider.Service:
		run, err = configured(name, set, decider.Run)
	case ingestService:
		run, err = configured(name, set, func(ctx context.Context, c ingest.Config, set app.Settings) error {
			c.SES.Get = standIn(os.Getenv(certificateVariable))
			return ingest.Run(ctx, c, set)
		})
	case "light":
		run, err = configured(name, set, runLight)
	case "limit":
		run, err = configured(name, set, runLimit)
	default:
		err = fmt.Errorf("there is no job %q", name)
	}
	if err != nil {
		return err
	}
	if profiles != "" {
		stop, err := profile(profiles, name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	functions := []func(context.Context) error{}
	if admin := os.Getenv("ADMIN_LISTEN"); admin != "" {
		ln, err := net.Listen("tcp", admin)
		if err != nil {
			return fmt.Errorf("open the listener of metrics: %w: choose another ADMIN_LISTEN", err)
		}
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", tel.Handler())
		functions = append(functions, func(ctx context.Context) error { return app.Serve(ctx, ln, mux) })
	}
	running, end := context.WithCancel(ctx)
	defer end()
	functions = append(functions, func(ctx context.Context) error {
		defer end()
		return run(ctx)
	})
	return app.Group(running, functions...)
}

// configured reads a service's configuration from the environment.
func configured[C any](name string, set app.Settings, run func(context.Context, C, app.Settings) error) (func(context.Context) error, error) {
	var c C
	if err := config.Parse(&c, name, nil, nil); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return func(ctx context.Context) error { return run(ctx, c, set) }, nil
}

// profile starts a profile of the processor; stop ends it and writes that of allocations beside.
func profile(dir, name string) (stop func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for profiles: %w", err)
	}
	cpu, err := os.Create(filepath.Join(dir, name+".cpu.pprof"))
	if err != nil {
		return nil, fmt.Errorf("make the profile: %w", err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(fmt.Errorf("start the profile: %w", err), cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(filepath.Join(dir, name+".allocs.pprof"))
		if err != nil {
			return errors.Join(err, cpu.Close())
		}
		runtime.GC() // so that the profile is complete
		return errors.Join(cpu.Close(), pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close())
	}, nil
}
