// Package decider is the service that decides when to write to whom: messages that wait (send.requests.v1) are released at
// their best allowed slot, by a tick (send.ticks.v1) or earlier by a deviation (timing.deviations.v1); a deviation may also
// send without a request. It writes send.decisions.v1.
//
// The rules are those of the policy in force (send.policies.v1), and are applied in pkg/domain/decision; the care for
// crashes and timers is in pkg/stream. Here they meet. It learns nothing about customers: their profiles are the
// profiler's, and are looked up.
package decider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Service is the decider's name in groups, sources and keys.
const Service = "decider"

// profiler is the service whose profiles are looked up.
const profiler = "profiler"

// Config is set by operators. What is decided by is no part of it: policies have a topic.
type Config struct {
	Kafka kafka.Config `embed:"" prefix:"kafka-" envprefix:"KAFKA_"`
	Redis redis.Config `embed:"" prefix:"redis-" envprefix:"REDIS_"`
	Run   config.Run   `embed:"" prefix:"run-" envprefix:"RUN_"`

	CacheMiB int `name:"cache-mib" env:"CACHE_MIB" default:"256" help:"Mebibytes of states that are kept in memory, of all partitions of this process together. Fewer cost more round trips to Redis."`
}

// Validate names everything that is wrong with the configuration.
func (c Config) Validate() error {
	errs := []error{c.Kafka.Validate(), c.Redis.Validate(), c.Run.Validate()}
	if c.CacheMiB < 0 {
		errs = append(errs, fmt.Errorf("CACHE_MIB: %d: choose a positive number", c.CacheMiB))
	}
	return errors.Join(errs...)
}

// Run decides until ctx ends.
func Run(ctx context.Context, c Config, set app.Settings) error {
	set = set.WithDefaults()
	count, err := set.Telemetry.Meter().Int64Counter("tempismo.decider.decisions", metric.WithUnit("{decision}"),
		metric.WithDescription("What was decided, by the topic of what caused it, the type of the decision (none: nothing was written) and its reason. Batches that are done again after a crash are counted again."))
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
	set.Log.InfoContext(ctx, "deciding", "run", c.Run.ID)
	run := stream.Run{ID: c.Run.ID, Simulated: c.Run.Simulated()}
	return stream.Process(ctx, Job(run, count), stream.Runtime{
		Log: log, Store: store, Run: run, Logger: set.Log, Observer: observer, CacheBytes: c.CacheMiB << 20,
	})
}

// Partition is what the decider knows beside its customers: whom messages are for, and what it decides by.
type Partition struct {
	audiences decision.Audiences
	policy    *decision.Policy // in force; nil: the default
	model     *timing.Model    // in force; nil: the built-in one
}

// Job declares the decider of a run. count counts what becomes of its inputs.
func Job(run stream.Run, count metric.Int64Counter) stream.Job[Input, decision.State, Partition] {
	d := decider{count: count, policy: decision.Default(), model: timing.Builtin()}
	return stream.Job[Input, decision.State, Partition]{
		Service: Service,
		Inputs: []stream.Input{
			{Topic: topics.Deviations}, {Topic: topics.Requests}, {Topic: topics.Attributes, Table: true}, {Topic: topics.Consents}, {Topic: topics.Erasures}, {Topic: topics.Outcomes},
			{Topic: topics.Policies, Broadcast: true}, {Topic: topics.Models, Broadcast: true},
		},
		Outputs: []string{topics.Decisions},
		Decode: func(r *stream.Record, in *Input) (stream.Cause, error) {
			cause, err := decode(r, in, run.Base(r.Topic))
			return cause, stream.Permanent(err)
		},
		Step: d.step,
		State: stream.Codec[decision.State]{
			Append: func(dst []byte, s *decision.State) []byte { return s.Append(dst) },
			Decode: func(b []byte, s *decision.State) error { return s.Decode(b) },
			Size:   (*decision.State).Size,
		},
		Partition: stream.Codec[Partition]{
			Append: func(dst []byte, p *Partition) []byte { return p.audiences.Append(dst) },
			Decode: func(b []byte, p *Partition) error { return p.audiences.Decode(b) },
		},
		Adopt: adopt,
		Timers: &stream.Timers[decision.State, Partition]{
			Topic:   topics.Ticks,
			Pending: func(s *decision.State, each func(string, time.Time)) { s.Pending(each) },
			Fire:    d.fire,
		},
		Lookup: &stream.Lookup[Input, decision.State, Partition]{
			Service: profiler,
			Input:   topics.Events,
			Wanted:  func(in *Input) bool { return in.wantsLookup() },
			Result:  d.lookUp,
		},
	}
}

// adopt puts a policy or a model in force.
func adopt(p *Partition, topic string, value []byte) (err error) {
	switch topic {
	case topics.Policies:
		var policy *decision.Policy
		if policy, err = decision.ParsePolicyRecord(value); err == nil {
			p.policy = policy
		}
	case topics.Models:
		var model *timing.Model
		if model, err = timing.ParseModelRecord(value); err == nil {
			p.model = model
		}
	}
	return stream.Permanent(err)
}

// decider is what the Step has at hand.
type decider struct {
	count  metric.Int64Counter
	policy decision.Policy // in force until one is applied
	model  *timing.Model   // likewise
}

func (d *decider) inForce(p *Partition) *decision.Policy {
	if p.policy == nil {
		return &d.policy
	}
	return p.policy
}

// lookUp boils a profile down to what decisions take from it. One that is being rebuilt is not looked at: it knows less
// than it did.
func (d *decider) lookUp(c *stream.Context, _ *decision.State, p *Partition, _ *Input, seen stream.Seen) []byte {
	var profile *timing.Profile
	if len(seen.Value) > 0 && !seen.Rebuilding {
		profile = new(timing.Profile)
		if err := profile.Decode(seen.Value); err != nil {
			panic(fmt.Errorf("profile of %s: %w", c.Key(), err)) // a newer profiler's: tried again, visibly, until this binary is as new
		}
	}
	model := p.model
	if model == nil {
		model = d.model
	}
	l := decision.NewLookup(profile, model, slices.Sorted(maps.Keys(d.inForce(p).Channels)), c.Now())
	if profile != nil {
		l.Profile = seen.Position
	}
	l.Partial = seen.Rebuilding || c.Partial()
	b, err := json.Marshal(l)
	if err != nil {
		panic(err) // it always encodes
	}
	return b
}

// moment is what is decided with.
func (d *decider) moment(c *stream.Context, p *Partition) (*decision.Moment, error) {
	m := &decision.Moment{
		Policy: d.inForce(p), Now: c.Now(), Time: c.Time(), Customer: c.Key(), Audiences: &p.audiences, Positions: c.Positions(), Partial: c.Partial(),
		ID: func(n int) string { return c.ID(decision.Prefix, n) },
	}
	if raw := c.Lookup(); raw != nil {
		m.Lookup = new(decision.Lookup)
		if err := json.Unmarshal(raw, m.Lookup); err != nil {
			return nil, fmt.Errorf("look-up: %w", err)
		}
	}
	return m, nil
}

// step takes one record.
func (d *decider) step(c *stream.Context, s *decision.State, p *Partition, in *Input) error {
	if s == nil { // adopted
		return nil
	}
	m, err := d.moment(c, p)
	if err != nil {
		return err
	}
	topic, _, _ := c.Position()
	var out []decision.Decision
	var reason decision.Reason
	switch topic {
	case topics.Deviations:
		out, reason = m.Deviate(s, &decision.Trigger{ID: c.Cause().ID, Time: c.Cause().Time, Deviation: in.deviation})
	case topics.Requests:
		out, reason = m.Place(s, &in.request)
	case topics.Attributes:
		out, err = m.Know(s, in.attributes)
	case topics.Consents:
		out = m.Answer(s, &in.answer)
	case topics.Erasures:
		if in.erasure.All() {
			out = m.Erase(s)
		}
	case topics.Outcomes:
		m.Settle(s, &in.outcome)
	}
	if err != nil {
		return stream.Permanent(err)
	}
	d.emit(c, topic, c.Cause().Time, out)
	if len(out) == 0 && reason != "" {
		d.tell(topic, "none", reason)
	}
	return nil
}

// fire takes the timer of a request. Its decisions are of the time at which they are made, which is that from which they
// expire: the tick comes after the timer was due, much later where nobody was there.
func (d *decider) fire(c *stream.Context, s *decision.State, p *Partition, request string, _ time.Time) error {
	m, err := d.moment(c, p)
	if err != nil {
		return err
	}
	d.emit(c, topics.Ticks, c.Now(), m.Tick(s, request))
	return nil
}

// emit writes decisions in the order in which they were made.
func (d *decider) emit(c *stream.Context, cause string, at time.Time, out []decision.Decision) {
	for i := range out {
		c.Emit(stream.Emission{Topic: topics.Decisions, Type: out[i].Type, Prefix: decision.Prefix, Subject: c.Key(), Time: at, Data: out[i].Append(nil)})
		d.tell(cause, strings.TrimSuffix(strings.TrimPrefix(out[i].Type, "io.tempismo.decision."), ".v1"), out[i].Reason)
	}
}

// tell counts a decision, or why there was none.
func (d *decider) tell(cause, kind string, reason decision.Reason) {
	d.count.Add(context.Background(), 1, metric.WithAttributeSet(attribute.NewSet(
		attribute.String("cause", cause), attribute.String("type", kind), attribute.String("reason", string(reason)))))
}
