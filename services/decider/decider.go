// Package decider is the service that turns deviations into decisions: it reads timing.deviations.v1, applies the policy
// and writes send.decisions.v1.
//
// It works in trigger mode: what moves it is a deviation, and it keeps no message waiting for a better hour. The rules are
// in pkg/domain/decision, the care for crashes in pkg/stream; here they meet.
package decider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Service is the decider's name in groups, sources and keys.
const Service = "decider"

// Config is set by operators.
type Config struct {
	Kafka  kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis  redis.Config `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Run    config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`
	Policy Policy       `embed:""`
}

// Policy is the policy as operators write it. Its defaults are those of decision.OldDefault.
type Policy struct {
	Version    string        `name:"policy-version" env:"POLICY_VERSION" placeholder:"NAME" help:"Name of this policy in decisions. Empty: a short hash of its rules."`
	Channel    string        `name:"channel" env:"CHANNEL" default:"email" help:"Channel that is decided about."`
	Window     string        `name:"window" env:"WINDOW" default:"09:30-14:00" placeholder:"HH:MM-HH:MM" help:"Local hours in which messages may go out; 00:00-24:00 opens the whole day."`
	Quiet      string        `name:"quiet" env:"QUIET" default:"21:00-08:00" placeholder:"HH:MM-HH:MM" help:"Local hours in which none may, whatever the window says. Empty: none."`
	ClosedDays string        `name:"closed-days" env:"CLOSED_DAYS" enum:"it,none" default:"it" help:"Days on which none may: it (Italian national holidays) or none."`
	CapPerDay  int           `name:"cap-per-day" env:"CAP_PER_DAY" default:"1" help:"Most messages to one customer in any 24 hours; 0: no cap."`
	CapPerWeek int           `name:"cap-per-week" env:"CAP_PER_WEEK" default:"3" help:"Most messages to one customer in any 7 days; 0: no cap."`
	MinGap     time.Duration `name:"min-gap" env:"MIN_GAP" default:"24h" help:"Least time between two messages to one customer."`
	Expiry     time.Duration `name:"expiry" env:"EXPIRY" default:"30m" help:"How long after the engagement a decision may be carried out; at most 24h."`
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	_, err := c.Policy.policy()
	return errors.Join(c.Kafka.Validate(), c.Redis.Validate(), c.Run.Validate(), err)
}

// policy builds the policy of the domain.
func (c Policy) policy() (decision.OldPolicy, error) {
	var errs []error
	window := func(name, text string) calendar.Window {
		w, err := calendar.ParseWindow(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return w
	}
	p := decision.OldPolicy{
		Version: c.Version, Channel: c.Channel,
		Window: window("WINDOW", c.Window), Quiet: window("QUIET", c.Quiet), Closed: calendar.None,
		CapPerDay: c.CapPerDay, CapPerWeek: c.CapPerWeek, MinGap: c.MinGap, Expiry: c.Expiry,
	}
	if c.ClosedDays == "it" {
		p.Closed = calendar.Italy
	}
	if p.Version == "" {
		p.Version = fingerprint(&p)
	}
	if len(errs) == 0 {
		errs = append(errs, p.Validate())
	}
	return p, errors.Join(errs...)
}

// fingerprint names a policy that nobody has named: the same rules have the same name everywhere.
func fingerprint(p *decision.OldPolicy) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%s|%s|%s|%d|%d|%s|%s",
		p.Channel, p.Window, p.Quiet, p.Closed.Name, p.CapPerDay, p.CapPerWeek, p.MinGap, p.Expiry))
	return "p-" + hex.EncodeToString(sum[:4])
}

// Run decides until ctx ends.
func Run(ctx context.Context, c Config, set app.Settings) error {
	set = set.WithDefaults()
	policy, err := c.Policy.policy()
	if err != nil {
		return err
	}
	count, err := set.Telemetry.Meter().Int64Counter("tempismo.decider.deviations", metric.WithUnit("{deviation}"),
		metric.WithDescription("Deviations by what became of them: the reason of the decision, or why there was none. Batches that are done again after a crash are counted again."))
	if err != nil {
		return fmt.Errorf("make the instruments: %w", err)
	}
	observer, err := set.Observer(Service)
	if err != nil {
		return fmt.Errorf("make the instruments: %w", err)
	}
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return fmt.Errorf("open kafka: %w", err)
	}
	defer log.Close()
	store, err := redis.Open(ctx, c.Redis)
	if err != nil {
		return fmt.Errorf("open redis: %w", err)
	}
	defer store.Close()
	set.Log.InfoContext(ctx, "deciding", "policy", policy.Version, "window", policy.Window.String(), "quiet", policy.Quiet.String(), "closed_days", policy.Closed.Name)
	return stream.Process(ctx, Job(policy, count), stream.Runtime{
		Log: log, Store: store, Run: stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}, Logger: set.Log, Observer: observer,
	})
}

// input is a deviation as it stands on the topic.
type input struct {
	subject   string
	deviation deviation.Deviation
}

// none is the state of a partition: the decider needs none.
type none struct{}

// Job declares the decider.
func Job(policy decision.OldPolicy, count metric.Int64Counter) stream.Job[input, decision.State, none] {
	return stream.Job[input, decision.State, none]{
		Service: Service,
		Inputs:  []stream.Input{{Topic: topics.Deviations}},
		Outputs: []string{topics.Decisions},
		Decode:  decode,
		Step: func(c *stream.Context, s *decision.State, _ *none, in *input) error {
			return step(c, s, in, &policy, count)
		},
		State: stream.Codec[decision.State]{
			Append: func(dst []byte, s *decision.State) []byte { return s.Append(dst) },
			Decode: func(b []byte, s *decision.State) error { return s.Decode(b) },
		},
		Partition: stream.Codec[none]{
			Append: func(dst []byte, _ *none) []byte { return dst },
			Decode: func([]byte, *none) error { return nil },
		},
	}
}

// decode reads a deviation. All its errors are permanent: the bytes will not change.
func decode(r *stream.Record, in *input) (stream.Cause, error) {
	e, err := stream.ParseEvent(r.Value)
	if err != nil {
		return stream.Cause{}, stream.Permanent(err)
	}
	switch {
	case e.Type != deviation.Type:
		return stream.Cause{}, stream.Permanent(fmt.Errorf("type: %q is not %s", e.Type, deviation.Type))
	case e.Subject != string(r.Key):
		return stream.Cause{}, stream.Permanent(errors.New("subject: is not the key of the record"))
	case e.Time.IsZero():
		return stream.Cause{}, stream.Permanent(errors.New("time: missing"))
	}
	*in = input{subject: e.Subject}
	if err := json.Unmarshal(e.Data, &in.deviation); err != nil {
		return stream.Cause{}, stream.Permanent(fmt.Errorf("data: %w", err))
	}
	return stream.Cause{ID: e.ID, Time: e.Time, Trace: e.Traceparent}, nil
}

// step decides about one deviation.
func step(c *stream.Context, s *decision.State, in *input, policy *decision.OldPolicy, count metric.Int64Counter) error {
	cause := c.Cause()
	topic, partition, offset := c.Position()
	d, ok, err := decision.Decide(policy, s, &decision.Trigger{
		ID:        cause.ID,
		Time:      cause.Time,
		Positions: map[string]string{topic: strconv.Itoa(int(partition)) + ":" + strconv.FormatInt(offset, 10)},
		Deviation: in.deviation,
	}, c.Now())
	if err != nil {
		return stream.Permanent(err)
	}
	count.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", string(d.Reason))))
	if ok {
		c.Emit(stream.Emission{Topic: topics.Decisions, Type: d.Type, Prefix: decision.Prefix, Subject: in.subject, Data: d.Append(nil)})
	}
	return nil
}
