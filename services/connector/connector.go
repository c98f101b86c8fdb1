// Package connector is the service that carries decisions out: it reads send.decisions.v1, calls a webhook for every
// send_now, and writes what came of it to send.outcomes.v1.
//
// A call is an effect on somebody else, so this is no Step of pkg/stream: a state that rolls back would call again. Its
// memory is send.outcomes.v1 itself. The intent to call is acknowledged there before the call and the result after it;
// whoever takes a partition over reads both before calling anybody. What is left is a crash between intent and result.
// The webhook knows the message by its id, so it is called again with the same id, and a receiver that follows Standard
// Webhooks drops the second one; so do CRMs that have a key for it.
//
// Between a decision and its call a customer may refuse or be erased. So what customers have said since is read to the end of
// the topics right before each call, and what cannot be read stops it.
//
// What providers tell of a send is joined to it by its id, and becomes a further outcome.
//
// It decides nothing, and it knows its target, a CRM or a webhook, by the interface of package crm alone: where a target
// has no key, a call whose answer was lost is not made again: it is looked up, or the decision ends as unknown. A simulated run calls
// nobody, unless it has a receiver of its own on this machine.
//
// If it is told to, it also keeps properties of the target's contacts in step with what the profiler knows of them (sweeper).
package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/braze"
	"github.com/tempismo/tempismo/services/connector/crm/customerio"
	"github.com/tempismo/tempismo/services/connector/crm/hubspot"
	"github.com/tempismo/tempismo/services/connector/crm/klaviyo"
	"github.com/tempismo/tempismo/services/connector/crm/mautic"
	"github.com/tempismo/tempismo/services/connector/crm/sfmc"
	"github.com/tempismo/tempismo/services/connector/crm/webhook"
)

// Service is the connector's name in groups and sources.
const Service = "connector"

// Config is set by operators.
type Config struct {
	Kafka   kafka.Config   `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Run     config.Run     `embed:"" prefix:"run-" envprefix:"RUN_"`
	Target  string         `name:"target" env:"CONNECTOR_TARGET" enum:"webhook,klaviyo,braze,customerio,hubspot,mautic,sfmc" default:"webhook" help:"Who carries decisions out: webhook, klaviyo, braze, customerio, hubspot, mautic or sfmc. Only its settings count."`
	Webhook webhook.Config `embed:"" prefix:"webhook-" envprefix:"WEBHOOK_"`
	Klaviyo klaviyo.Config `embed:"" prefix:"klaviyo-" envprefix:"KLAVIYO_"`
	Braze   braze.Config   `embed:"" prefix:"braze-" envprefix:"BRAZE_"`
	HubSpot hubspot.Config `embed:"" prefix:"hubspot-" envprefix:"HUBSPOT_"`
	Mautic  mautic.Config  `embed:"" prefix:"mautic-" envprefix:"MAUTIC_"`
	SFMC    sfmc.Config    `embed:"" prefix:"sfmc-" envprefix:"SFMC_"`

	CustomerIO customerio.Config `embed:"" prefix:"customerio-" envprefix:"CUSTOMERIO_"`

	Attributes bool          `name:"attributes" env:"CONNECTOR_ATTRIBUTES" help:"Write best hour, confidence, persona and zone of customers into properties of the target's contacts, when they have changed. It needs Redis."`
	Channel    string        `name:"attributes-channel" env:"CONNECTOR_ATTRIBUTES_CHANNEL" default:"email" help:"Channel whose hours are written."`
	Every      time.Duration `name:"attributes-every" env:"CONNECTOR_ATTRIBUTES_EVERY" default:"24h" help:"How often all customers are looked at; 1h to 720h."`
	Redis      redis.Config  `embed:"" prefix:"redis-" envprefix:"REDIS_"`
}

// chosen is the target that is configured.
type chosen struct {
	name, prefix string // prefix: of its variables
	url          string // of a live run
	calls        crm.Calls
	validate     func(simulated bool) error
	open         func(client *http.Client, url string) (crm.CRM, error)
}

func (c Config) chosen() chosen {
	switch c.Target {
	case klaviyo.Name:
		return chosen{c.Target, klaviyo.Prefix, c.Klaviyo.URL, c.Klaviyo.Calls, c.Klaviyo.Validate, func(client *http.Client, url string) (crm.CRM, error) {
			return klaviyo.New(c.Klaviyo, client, url), nil
		}}
	case braze.Name:
		return chosen{c.Target, braze.Prefix, c.Braze.URL, c.Braze.Calls, c.Braze.Validate, func(client *http.Client, url string) (crm.CRM, error) {
			return braze.New(c.Braze, client, url), nil
		}}
	case customerio.Name:
		return chosen{c.Target, customerio.Prefix, c.CustomerIO.Base(), c.CustomerIO.Calls, c.CustomerIO.Validate, func(client *http.Client, url string) (crm.CRM, error) {
			return customerio.New(c.CustomerIO, client, url), nil
		}}
	case hubspot.Name:
		return chosen{c.Target, hubspot.Prefix, c.HubSpot.URL, c.HubSpot.Calls, c.HubSpot.Validate, func(client *http.Client, url string) (crm.CRM, error) {
			return hubspot.New(c.HubSpot, client, url), nil
		}}
	case mautic.Name:
		return chosen{c.Target, mautic.Prefix, c.Mautic.URL, c.Mautic.Calls, c.Mautic.Validate, func(client *http.Client, url string) (crm.CRM, error) {
			return mautic.New(c.Mautic, client, url), nil
		}}
	case sfmc.Name:
		return chosen{c.Target, sfmc.Prefix, c.SFMC.Base(), c.SFMC.Calls, c.SFMC.Validate, func(client *http.Client, url string) (crm.CRM, error) {
			return sfmc.New(c.SFMC, client, url), nil
		}}
	default:
		return chosen{webhook.Name, webhook.Prefix, c.Webhook.URL, c.Webhook.Calls, c.Webhook.Validate, func(client *http.Client, url string) (crm.CRM, error) {
			return webhook.New(c.Webhook, client, url)
		}}
	}
}

// name is that of this connector in outcomes.
func (c Config) name() string {
	t := c.chosen()
	return cmp.Or(t.calls.Name, t.name)
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Run.Validate(), c.chosen().validate(c.Run.Simulated())}
	if !c.Attributes {
		return errors.Join(errs...)
	}
	errs = append(errs, c.Redis.Validate())
	if c.Channel == "" {
		errs = append(errs, errors.New("CONNECTOR_ATTRIBUTES_CHANNEL: is empty: name a channel, such as email"))
	}
	if c.Every < time.Hour || c.Every > 720*time.Hour {
		errs = append(errs, fmt.Errorf("CONNECTOR_ATTRIBUTES_EVERY: %v is not between 1h and 720h", c.Every))
	}
	if c.chosen().calls.Called(c.Run.Simulated()) {
		switch c.Target {
		case customerio.Name:
			errs = append(errs, c.CustomerIO.ValidateUpdates())
		case sfmc.Name:
			errs = append(errs, c.SFMC.ValidateUpdates())
		}
	}
	return errors.Join(errs...)
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
	t, err := newTarget(c)
	if err != nil {
		return err
	}
	s := &service{
		log: log, run: stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}, name: c.name(), target: t,
		metrics: m, tracer: set.Telemetry.Tracer(), health: set.Health, logger: set.Log, clock: wall{},
	}
	set.Health.Set("kafka", true, "")
	set.Health.Set("target", true, "")
	if !c.Attributes || t.updater == nil { // a simulated run without a receiver has nobody to tell
		return s.serve(ctx)
	}
	return app.Group(ctx, s.serve, func(ctx context.Context) error { return sweepContacts(ctx, c, s) })
}

// sweepContacts keeps contacts up to date until ctx ends. That Redis is away holds no decision up.
func sweepContacts(ctx context.Context, c Config, s *service) error {
	for b := (backoff{}); ; {
		store, err := redis.Open(ctx, c.Redis)
		if err == nil {
			defer store.Close()
			w := &sweeper{service: s, store: store, channel: c.Channel, every: c.Every, calling: make(chan struct{}, 1)}
			return w.serve(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		count(s.metrics.retries, with("op", "attributes"))
		s.health.Set("attributes", false, "trying again to open Redis")
		s.logger.WarnContext(ctx, "contacts wait for Redis", "error", err)
		if s.clock.Sleep(ctx, b.next()) != nil {
			return nil
		}
	}
}
