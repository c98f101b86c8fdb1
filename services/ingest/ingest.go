// Package ingest is the way in: over HTTP it takes engagement events, as CloudEvents or as webhooks of email service
// providers, messages that are to wait for their moment, and what is known of customers and was answered by them, and appends them to
// engagement.events.v1, send.requests.v1, customer.attributes.v1 and customer.consents.v1; whom a provider was told to erase, to
// customer.erasures.v1. It also answers when a customer is best written to. Events on topics of others, as a file declares them, and
// what HubSpot tells nobody it fetches itself.
//
// What is sent is answered with 202 only after Kafka has acknowledged all of it; whatever else happens, the answer
// says that the sender still owns it. It is taken whole or not at all. A webhook's is another matter: its sender would send
// it again for days and change nothing, so what can be mapped is taken, and what cannot goes to the dead letters as it came.
// Opens that customers have not consented to, and their user agents, are left out: it looks that up among what the profiler knows.
// It is not a queue: what it has in flight is bounded, and beyond that it says 503. It does not drop duplicates, which are
// normal and which are recognised by their ids, and it remembers nothing from one event to the next: rules that compare
// events are the profiler's.
// It decides nothing: of the best times it tells what the decider would think of them, with the same code.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	pull "github.com/tempismo/tempismo/services/ingest/pull/hubspot"
	"github.com/tempismo/tempismo/services/ingest/webhook/brevo"
	"github.com/tempismo/tempismo/services/ingest/webhook/customerio"
	"github.com/tempismo/tempismo/services/ingest/webhook/hubspot"
	"github.com/tempismo/tempismo/services/ingest/webhook/mailgun"
	"github.com/tempismo/tempismo/services/ingest/webhook/postmark"
	"github.com/tempismo/tempismo/services/ingest/webhook/resend"
	"github.com/tempismo/tempismo/services/ingest/webhook/segment"
	"github.com/tempismo/tempismo/services/ingest/webhook/sendgrid"
	"github.com/tempismo/tempismo/services/ingest/webhook/ses"
	"github.com/tempismo/tempismo/services/ingest/webhook/sfmc"
)

// Config is set by operators.
type Config struct {
	Kafka kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis redis.Config `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Run   config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`

	Pixels config.Pixels `embed:""`

	Listen    string        `name:"listen" env:"LISTEN" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Where the API and the webhooks are served."`
	Tokens    config.Secret `name:"api-tokens" env:"API_TOKENS" help:"Bearer tokens of which the API wants one, separated by commas or lines: NAME:TOKEN, or TOKEN alone. Metrics and traces tell by the name who has sent something; a name may have several tokens, while they are exchanged."`
	Anonymous bool          `name:"anonymous" env:"ANONYMOUS" help:"Serve the API without a token beyond this machine; for a listener that something else guards."`
	Pseudonym config.Secret `name:"pseudonym-key" env:"PSEUDONYM_KEY" help:"Replace customer ids by a keyed hash (HMAC-SHA256) of them. Everybody who writes customer ids has to use the same key. Several, separated by commas or lines: the first is for new customers; who is known under another one keeps his pseudonym (docs/edges.md, Pseudonyms)."`
	PublicURL string        `name:"public-url" env:"PUBLIC_URL" placeholder:"URL" help:"What the URLs of the webhooks begin with where their providers call them, such as https://mail.example.com; some sign it. Empty: as a request says, which is not what the provider has called where a proxy stands before this service."`
	Machines  string        `name:"machine-lists" env:"MACHINE_LISTS" placeholder:"FILE" help:"Lists of machines that open and click (docs/machine-opens.md), in place of those that come with this version. Read at the start."`
	Sources   string        `name:"sources" env:"SOURCES" placeholder:"FILE" help:"Topics of others on the same Kafka that hold engagement, and how their records are read (docs/sources.md). Read at the start."`

	SendGrid   sendgrid.Config   `embed:"" prefix:"sendgrid-" envprefix:"SENDGRID_"`
	SES        ses.Config        `embed:"" prefix:"ses-" envprefix:"SES_"`
	CustomerIO customerio.Config `embed:"" prefix:"customerio-" envprefix:"CUSTOMERIO_"`
	Segment    segment.Config    `embed:"" prefix:"segment-" envprefix:"SEGMENT_"`
	HubSpot    hubspot.Config    `embed:"" prefix:"hubspot-" envprefix:"HUBSPOT_"`
	Mailgun    mailgun.Config    `embed:"" prefix:"mailgun-" envprefix:"MAILGUN_"`
	Postmark   postmark.Config   `embed:"" prefix:"postmark-" envprefix:"POSTMARK_"`
	Brevo      brevo.Config      `embed:"" prefix:"brevo-" envprefix:"BREVO_"`
	Resend     resend.Config     `embed:"" prefix:"resend-" envprefix:"RESEND_"`
	SFMC       sfmc.Config       `embed:"" prefix:"sfmc-" envprefix:"SFMC_"`

	Pull pull.Config `embed:"" prefix:"hubspot-" envprefix:"HUBSPOT_"` // HubSpot's list of events, beside its webhooks

	MaxBody   int64         `name:"max-body" env:"MAX_BODY" default:"4194304" placeholder:"BYTES" help:"Largest request."`
	MaxFlight int64         `name:"max-in-flight" env:"MAX_IN_FLIGHT" default:"67108864" placeholder:"BYTES" help:"Most that may wait for Kafka; beyond it requests are answered 503."`
	Patience  time.Duration `name:"patience" env:"PATIENCE" default:"10s" help:"How long a request waits for Kafka's acknowledgement before it is answered 503."`

	Listener net.Listener `kong:"-"` // set by programs that open the listener themselves; Listen is then not used
}

// withDefaults fills limits that are zero because no flags were parsed.
func (c Config) withDefaults() Config {
	if c.MaxBody == 0 {
		c.MaxBody = 4 << 20
	}
	if c.MaxFlight == 0 {
		c.MaxFlight = 64 << 20
	}
	if c.Patience == 0 {
		c.Patience = 10 * time.Second
	}
	c.Pull = c.Pull.WithDefaults()
	return c
}

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	c = c.withDefaults()
	problems := []error{c.Kafka.Validate(), c.Redis.Validate(), c.Run.Validate(), c.Pull.Validate()}
	if c.Listener == nil {
		host, _, err := net.SplitHostPort(c.Listen)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("LISTEN: %q: give HOST:PORT: %w", c.Listen, err))
		case c.Tokens == "" && !c.Anonymous && !loopback(host):
			problems = append(problems, fmt.Errorf("API_TOKENS: %q can be reached from other machines: set tokens, or ANONYMOUS=true where something else guards it", c.Listen))
		}
	}
	if _, err := c.clients(); err != nil {
		problems = append(problems, err)
	}
	problems = append(problems, ValidatePseudonyms(c.Pseudonym))
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			problems = append(problems, fmt.Errorf("PUBLIC_URL: %q: give scheme and host, such as https://mail.example.com", c.PublicURL))
		}
	}
	if _, err := c.machines(); err != nil {
		problems = append(problems, err)
	}
	if _, err := c.providers(); err != nil {
		problems = append(problems, err)
	}
	if _, err := c.sources(); err != nil {
		problems = append(problems, err)
	}
	if c.MaxBody < 1<<10 {
		problems = append(problems, fmt.Errorf("MAX_BODY: %d bytes do not hold an event: give at least 1024", c.MaxBody))
	}
	if c.MaxFlight < c.MaxBody {
		problems = append(problems, fmt.Errorf("MAX_IN_FLIGHT: %d is less than one request of MAX_BODY, %d", c.MaxFlight, c.MaxBody))
	}
	if c.Patience < 0 {
		problems = append(problems, fmt.Errorf("PATIENCE: %v: give a positive duration", c.Patience))
	}
	return errors.Join(problems...)
}

// minToken keeps out secrets that can be guessed.
const minToken = 16

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// machines reads the lists of machines.
func (c Config) machines() (*engagement.Lists, error) {
	if c.Machines == "" {
		return engagement.DefaultLists(), nil
	}
	text, err := os.ReadFile(c.Machines)
	if err != nil {
		return nil, fmt.Errorf("MACHINE_LISTS: read the lists: %w", err)
	}
	lists, err := engagement.ParseLists(string(text))
	if err != nil {
		return nil, fmt.Errorf("MACHINE_LISTS: %s: %w", c.Machines, err)
	}
	return lists, nil
}

// Run serves until ctx ends; then it lets the requests that are being answered finish.
func Run(ctx context.Context, c Config, set app.Settings) error {
	c, set = c.withDefaults(), set.WithDefaults()
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return fmt.Errorf("open kafka: %w", err)
	}
	defer log.Close()
	run := stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}
	infos, err := log.Topics(ctx, run.Topic(topics.Events), run.Topic(topics.DeadLetter(topics.Events)), run.Topic(topics.Requests), run.Topic(topics.Attributes), run.Topic(topics.Consents), run.Topic(topics.Erasures))
	if err != nil {
		return fmt.Errorf("look up the topics (tempismo topics creates what is missing): %w", err)
	}
	out, err := kafka.NewWriter(ctx, log, run)
	if err != nil {
		return fmt.Errorf("open a writer: %w", err)
	}
	defer out.Close() // after the server, whose last requests still wait for it
	store := &shelf{config: c.Redis}
	defer store.close()
	s, err := newServer(c, out, store, infos[run.Topic(topics.Requests)].Partitions, set, time.Now)
	if err != nil {
		return err
	}
	feeds, err := s.feeds(log, set)
	if err != nil {
		return err
	}
	ln := c.Listener
	if ln == nil {
		if ln, err = net.Listen("tcp", c.Listen); err != nil {
			return fmt.Errorf("listen: %w: choose another LISTEN", err)
		}
	}
	work := []func(context.Context) error{
		func(ctx context.Context) error {
			watch(ctx, log, run.Topic(topics.Events), set)
			return nil
		},
		func(ctx context.Context) error { return app.Serve(ctx, ln, s.handler()) },
	}
	for _, f := range feeds {
		work = append(work, f.run)
	}
	if c.Pull.Enabled() && !run.Simulated { // which calls nobody
		work = append(work, func(ctx context.Context) error { return s.pull(ctx, log, run, c.Pull.Client(), set) })
	}
	set.Log.InfoContext(ctx, "taking events and requests", "address", ln.Addr().String(), "run", c.Run.ID, "webhooks", strings.Join(s.served(), " "), "sources", len(feeds), "clients", strings.Join(s.known(), " "), "machines", s.machines)
	return app.Group(ctx, work...)
}

// watchEvery is how often Kafka is asked whether it is there.
const watchEvery = 5 * time.Second

// watch keeps the readiness true to Kafka until ctx ends. It asks by itself: an instance that is not ready gets no
// requests by which it could notice that Kafka is back.
func watch(ctx context.Context, log stream.Log, topic string, set app.Settings) {
	defer set.Health.Set("kafka", false, "stopped")
	for up := true; ; {
		asking, cancel := context.WithTimeout(ctx, watchEvery)
		_, err := log.Topics(asking, topic)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			set.Health.Set("kafka", true, "")
		} else {
			set.Health.Set("kafka", false, err.Error())
		}
		if was := up; was != (err == nil) {
			up = !was
			set.Log.WarnContext(ctx, "kafka has gone or come back", "there", up, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
	}
}
