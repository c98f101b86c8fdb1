// Package console serves the page that shows, live, when customers read, who steps out of their rhythm, and what was
// decided and waits to be sent: the Now page, one customer's week and requests, and the latest decisions with their rules,
// in English and Italian.
//
// It reads topics and profiles and writes nothing. Every number on the page is counted by the profiler, judged by the
// detector or decided by the decider; the console only adds them up (package board), draws them (package chart) and puts
// them into words (package words). It keeps nothing on disk: at a start it reads the last weeks of digests again.
package console

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Config is what an operator sets.
type Config struct {
	Kafka  kafka.Config  `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis  redis.Config  `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Run    config.Run    `embed:"" prefix:"run-" envprefix:"RUN_"`
	Pixels config.Pixels `embed:""`
	Listen string        `name:"listen" env:"CONSOLE_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where the page is served. Beyond this machine it needs a token."`
	Token  config.Secret `name:"token" env:"CONSOLE_TOKEN" help:"Token that viewers enter once; required unless CONSOLE_LISTEN is loopback."`
	Zone   string        `name:"zone" env:"CONSOLE_ZONE" default:"Europe/Rome" help:"Zone of the page's clock and of its days. Cells of the map are in each customer's own."`
	Name   string        `name:"name" env:"CONSOLE_NAME" default:"" help:"Name in the badge beside the title, e.g. the cluster's. Empty: the run's mode."`

	// What the program that starts the console knows, rather than its operator. The badge says it.
	Embedded bool    `kong:"-"` // broker and store run inside this process
	Pace     float64 `kong:"-"` // time-lapse factor of a simulated run; 0: none

	// Listener is served instead of Listen by a program that must know first whether the port is free.
	Listener net.Listener `kong:"-"`
}

// minToken is the shortest token that is accepted: 16 characters of a random generator cannot be guessed over a network.
const minToken = 16

// Validate names everything that is wrong.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Redis.Validate(), c.Run.Validate()}
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("CONSOLE_LISTEN: %q: want HOST:PORT, e.g. 127.0.0.1:8080", c.Listen))
	case !loopback(host) && c.Token == "":
		errs = append(errs, fmt.Errorf("CONSOLE_TOKEN: required, because CONSOLE_LISTEN %q is reached from other machines; or listen on 127.0.0.1", c.Listen))
	}
	if c.Token != "" && len(c.Token) < minToken {
		errs = append(errs, fmt.Errorf("CONSOLE_TOKEN: %d characters; use at least %d, e.g. from openssl rand -hex 16", len(c.Token), minToken))
	}
	if _, err := calendar.Zone(c.Zone); err != nil {
		errs = append(errs, fmt.Errorf("CONSOLE_ZONE: %w", err))
	}
	return errors.Join(errs...)
}

// loopback reports whether host is this machine alone.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// run is the lineage that the page shows.
func (c Config) run() stream.Run { return stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()} }

// Run serves the console until ctx ends. The page is there before the topics are: it says what is missing.
func Run(ctx context.Context, c Config, s app.Settings) error {
	s = s.WithDefaults()
	zone, err := calendar.Zone(c.Zone)
	if err != nil {
		return fmt.Errorf("CONSOLE_ZONE: %w", err)
	}
	ln := c.Listener
	if ln == nil {
		if ln, err = net.Listen("tcp", c.Listen); err != nil {
			return fmt.Errorf("serve the console: choose another CONSOLE_LISTEN: %w", err)
		}
	}
	v := newServer(c, s, zone)
	if err := v.measure(); err != nil {
		return fmt.Errorf("make the console's instruments: %w", errors.Join(err, ln.Close()))
	}
	return serve(ctx, v, ln)
}

// serve runs the parts of the console side by side on an open listener.
func serve(ctx context.Context, v *server, ln net.Listener) error {
	return app.Group(ctx,
		func(ctx context.Context) error {
			v.done = ctx.Done()
			return app.Serve(ctx, ln, v.handler())
		},
		v.pulse,
		v.follow,
	)
}
