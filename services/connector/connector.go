// Package connector is the service that carries decisions out: it reads send.decisions.v1, calls a webhook for every
// send_now, and writes what came of it to send.outcomes.v1.
//
// A call is an effect on somebody else, so this is no Step of pkg/stream: a state that rolls back would call again. Its
// memory is send.outcomes.v1 itself. The intent to call is acknowledged there before the call and the result after it;
// whoever takes a partition over reads both before calling anybody. What is left is a crash between intent and result.
// The webhook knows the message by its id, so it is called again with the same id, and a receiver that follows Standard
// Webhooks drops the second one.
//
// It decides nothing, and it knows one kind of target: a webhook by the Standard Webhooks specification 1.0.0. A simulated
// run calls nobody, unless it has a receiver of its own on this machine.
package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Service is the connector's name in groups and sources.
const Service = "connector"

// Config is set by operators.
type Config struct {
	Kafka   kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Run     config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`
	Webhook Webhook      `embed:"" prefix:"webhook-" envprefix:"WEBHOOK_"`
}

// Webhook says whom to call, and how hard.
type Webhook struct {
	URL             string        `name:"url" env:"URL" placeholder:"URL" help:"Endpoint that is called for every send_now of a live run."`
	Secret          config.Secret `name:"secret" env:"SECRET" placeholder:"whsec_..." help:"Signing secret by Standard Webhooks; while it is being rotated several, separated by a space."`
	Name            string        `name:"name" env:"NAME" default:"webhook" help:"Name of this connector in outcomes."`
	Timeout         time.Duration `name:"timeout" env:"TIMEOUT" default:"15s" help:"How long one call may take; 1s to 30s."`
	Concurrency     int           `name:"concurrency" env:"CONCURRENCY" default:"16" help:"Most calls at once; those for one customer always come one after the other."`
	Rate            float64       `name:"rate" env:"RATE" default:"0" help:"Most calls per second; 0: no limit."`
	AllowPrivate    bool          `name:"allow-private" env:"ALLOW_PRIVATE" help:"Allow a target on this machine or in a private network, and plain http."`
	SimulatedTarget string        `name:"simulated-target" env:"SIMULATED_TARGET" placeholder:"URL" help:"Receiver on this machine (a loopback address) that a simulated run calls. Empty: a simulated run calls nobody."`
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	return errors.Join(c.Kafka.Validate(), c.Run.Validate(), c.Webhook.validate(c.Run.Simulated()))
}

// Run carries decisions out until ctx ends. Calls that are under way then may finish, within a few seconds.
func Run(ctx context.Context, c Config, set app.Settings) error {
	set = set.WithDefaults()
	m, err := newMetrics(set.Telemetry)
	if err != nil {
		return fmt.Errorf("make the instruments: %w", err)
	}
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return fmt.Errorf("open kafka: %w", err)
	}
	defer log.Close()
	t, err := newTarget(c.Webhook, c.Run.Simulated())
	if err != nil {
		return err
	}
	s := &service{
		log: log, run: stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}, name: c.Webhook.Name, target: t,
		metrics: m, tracer: set.Telemetry.Tracer(), health: set.Health, logger: set.Log, clock: wall{},
	}
	set.Health.Set("kafka", true, "")
	set.Health.Set("target", true, "")
	return s.serve(ctx)
}
