// Package app turns a service's Run function into a process: flags and environment, signals, logs, telemetry, health,
// exit code.
//
// It is not a framework: it starts nothing that it was not handed, there is no registry and no life-cycle to implement.
// A service is a function that returns when its context ends.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/telemetry"
)

// Exit codes of Main.
const (
	exitOK     = 0
	exitFailed = 1 // the service failed, or --health found it not ready
	exitUsage  = 2 // flags or environment are not usable; nothing was started
)

// Config is what every service understands beside its own Config.
type Config struct {
	Admin     string           `name:"admin-listen" env:"ADMIN_LISTEN" default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Listener of /livez, /readyz and /metrics, apart from what the service itself serves. Empty: none."`
	Level     slog.Level       `name:"log-level" env:"LOG_LEVEL" default:"INFO" help:"Least level that is logged: DEBUG, INFO, WARN or ERROR."`
	Telemetry telemetry.Config `embed:""`
	Check     bool             `name:"validate" help:"Check flags and environment, start nothing."`
	Ready     bool             `name:"health" help:"Ask the instance at --admin-listen whether it is ready; exit 0 if so. For containers without a shell."`
	Version   bool             `name:"version" help:"Print the version."`
}

// Settings is what the process gives to a service beside its configuration. The zero value is usable.
type Settings struct {
	Log       *slog.Logger
	Telemetry *telemetry.Telemetry
	Health    *Health
}

// WithDefaults fills what is missing with what stays silent.
func (s Settings) WithDefaults() Settings {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Health == nil {
		s.Health = &Health{}
	}
	return s
}

// Main runs a service until it fails or SIGINT or SIGTERM tells it to stop. It is the only place that exits.
func Main[C any](name string, run func(context.Context, C, Settings) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal kills at once.
	context.AfterFunc(ctx, stop)
	os.Exit(process(ctx, name, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr, run))
}

// process is Main without the process: signals are ctx, the exit code is returned.
func process[C any](ctx context.Context, name string, args []string, env config.Lookup, stdout, stderr io.Writer, run func(context.Context, C, Settings) error) int {
	var c struct {
		App     Config `embed:""`
		Service C      `embed:""`
	}
	err := config.Parse(&c, name, args, env)
	switch {
	case errors.Is(err, config.ErrHelp):
		return exitOK
	// Asked for the version or for health, the service's own settings do not matter.
	case c.App.Version:
		fmt.Fprintln(stdout, name, version())
		return exitOK
	case c.App.Ready:
		return ready(ctx, c.App.Admin, stderr)
	case err != nil:
		fmt.Fprintf(stderr, "%s: the configuration is not usable:\n%v\nSee %s --help.\n", name, err, name)
		return exitUsage
	case c.App.Check:
		fmt.Fprintln(stdout, name+": the configuration is valid")
		return exitOK
	}

	log := telemetry.NewLogger(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: c.App.Level}), name)
	telemetry.LogErrors(log)
	tel, err := telemetry.New(ctx, c.App.Telemetry, name, version())
	if err != nil {
		log.Error("telemetry does not start", "error", err)
		return exitFailed
	}
	health := &Health{}
	functions := []func(context.Context) error{}
	if c.App.Admin != "" {
		ln, err := net.Listen("tcp", c.App.Admin)
		if err != nil {
			log.Error("the admin listener does not open: choose another ADMIN_LISTEN", "error", err)
			return exitFailed
		}
		functions = append(functions, func(ctx context.Context) error { return Serve(ctx, ln, admin(health, tel)) })
	}
	// Whatever ends the service ends the process: an admin listener alone is of no use.
	running, end := context.WithCancel(ctx)
	defer end()
	functions = append(functions, func(ctx context.Context) error {
		defer end()
		return run(ctx, c.Service, Settings{Log: log, Telemetry: tel, Health: health})
	})
	log.Info("starting", "version", version(), "admin", c.App.Admin)
	failed := Group(running, functions...)
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := tel.Shutdown(flush); err != nil {
		log.Warn("not all telemetry was pushed", "error", err)
	}
	if failed != nil {
		log.Error("stopped", "error", failed)
		return exitFailed
	}
	log.Info("stopped")
	return exitOK
}

const flushTimeout = 3 * time.Second

// admin is the handler of the admin listener.
func admin(h *Health, t *telemetry.Telemetry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h.Handler())
	mux.Handle("GET /metrics", t.Handler())
	return mux
}

// version is the module's version, or the commit that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value
		}
	}
	return info.Main.Version
}
