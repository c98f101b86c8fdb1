package history

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Scenario is a past as it could have been.
type Scenario struct {
	From   time.Time             // when Policy comes into force; until then those decide that did
	Policy *decision.Policy      // nil: those that were in force go on
	Each   func(*Decision) error // is told every decision, those before From included
}

// Looks counts what profiles were seen in a simulation, over all of its scenarios.
type Looks struct {
	Same    int64 `json:"same"`    // of the very step
	Earlier int64 `json:"earlier"` // of an earlier step of the customer
	Later   int64 `json:"later"`   // of a later one: the customer had not been looked at before
	None    int64 `json:"none"`    // of none: the customer never was
}

// Simulate folds everything that was taken in each of the scenarios, in order of time and as a run without any delay: timers
// fire when they are due, and ticks that there were count for nothing. What is seen of a profile is what was last seen of it. It
// ends at a time, or with the logs. was is told what was decided in truth.
func (p *Past) Simulate(ctx context.Context, to time.Time, was func(*Decision) error, scenarios ...Scenario) (Looks, error) {
	s := &simulation{past: p, exact: map[record]json.RawMessage{}, looks: map[string][]look{}}
	if err := s.readDecisions(ctx, was); err != nil {
		return Looks{}, err
	}
	for i := range scenarios {
		if err := s.open(&scenarios[i]); err != nil {
			return Looks{}, err
		}
	}
	apply := func(topic string, r *stream.Record) error { return s.record(topic, r, to) }
	if err := p.until(ctx, nil, apply); err != nil {
		return Looks{}, err
	}
	if !to.IsZero() && s.end.After(to) {
		s.end = to
	}
	for _, b := range s.branches {
		if err := b.advance(s.end); err != nil {
			return Looks{}, err
		}
	}
	return s.seen, nil
}

type simulation struct {
	past     *Past
	branches []*branch
	exact    map[record]json.RawMessage
	looks    map[string][]look // by customer, in order of time
	seen     Looks
	end      time.Time // of the logs
}

// record names one.
type record struct {
	topic  string
	offset int64
}

// look is what was seen of a profile.
type look struct {
	at  time.Time
	raw json.RawMessage
}

// branch is a scenario that is being played.
type branch struct {
	*Scenario
	fold     *Fold
	run      stream.Run
	switched bool
}

// readDecisions reads what was decided, and notes what was seen of profiles.
func (s *simulation) readDecisions(ctx context.Context, was func(*Decision) error) error {
	for {
		step, err := s.past.nextStep(ctx)
		if err != nil || step == nil {
			return err
		}
		var data struct {
			DecidedAt time.Time `json:"decided_at"`
		}
		first := &step.Decisions[0]
		if err := json.Unmarshal(first.Data, &data); err != nil {
			return fmt.Errorf("decision %s: data: %w", first.ID, err)
		}
		if data.DecidedAt.After(s.end) {
			s.end = data.DecidedAt
		}
		if step.Lookup != nil {
			list := s.looks[first.Subject]
			raw := step.Lookup
			if n := len(list); n > 0 && bytes.Equal(list[n-1].raw, raw) {
				raw = list[n-1].raw
			}
			s.looks[first.Subject] = append(list, look{data.DecidedAt, raw})
			if step.Topic != s.past.ticks.topic {
				s.exact[record{step.Topic, step.Offset}] = raw
			}
		}
		for i := range step.Decisions {
			if err := was(&step.Decisions[i]); err != nil {
				return err
			}
		}
	}
}

func (s *simulation) open(x *Scenario) error {
	fold, err := s.past.NewFold()
	if err != nil {
		return err
	}
	b := &branch{Scenario: x, fold: fold, run: s.past.run}
	fold.Recorded(func(r *stream.Record) []byte {
		return s.look(s.past.run.Base(r.Topic), r, fold.Context().Now())
	})
	s.branches = append(s.branches, b)
	return nil
}

// look is what was seen for the very record, or else last before now, or else first.
func (s *simulation) look(topic string, r *stream.Record, now time.Time) []byte {
	if raw, ok := s.exact[record{topic, r.Offset}]; ok && topic != s.past.ticks.topic {
		s.seen.Same++
		return raw
	}
	list := s.looks[string(r.Key)]
	i, _ := slices.BinarySearchFunc(list, now, func(l look, now time.Time) int {
		if l.at.After(now) {
			return 1
		}
		return -1
	})
	switch {
	case i > 0:
		s.seen.Earlier++
		return list[i-1].raw
	case len(list) > 0:
		s.seen.Later++
		return list[0].raw
	}
	s.seen.None++
	return nobody
}

// record applies a record to all scenarios.
func (s *simulation) record(topic string, r *stream.Record, to time.Time) error {
	at, err := s.timeOf(topic, r)
	if err != nil || !to.IsZero() && at.After(to) {
		return err
	}
	if at.After(s.end) {
		s.end = at
	}
	for _, b := range s.branches {
		if err := b.advance(at); err != nil {
			return err
		}
		if b.switched && topic == topics.Policies {
			continue
		}
		out, err := b.fold.Apply(r)
		if err == nil {
			err = b.tell(out)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// timeOf is where the clock stands with a record; zero: the record does not move it.
func (s *simulation) timeOf(topic string, r *stream.Record) (time.Time, error) {
	if !s.past.run.Simulated {
		return r.Time, nil
	}
	if len(r.Value) == 0 || topic == topics.Policies || topic == topics.Models {
		return time.Time{}, nil
	}
	e, err := stream.ParseEvent(r.Value)
	if err != nil {
		return time.Time{}, nil //nolint:nilerr // it becomes a dead letter
	}
	return e.Time, nil
}

// advance lets timers fire up to a time, and puts the policy into force on the way.
func (b *branch) advance(until time.Time) error {
	if b.Policy != nil && !b.switched && !until.Before(b.From) {
		if err := b.fire(b.From); err != nil {
			return err
		}
		b.switched = true
		if err := b.enforce(); err != nil {
			return err
		}
	}
	return b.fire(until)
}

// enforce puts the policy into force.
func (b *branch) enforce() error {
	at := b.From
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	e := stream.Event{ID: "simulated", Source: "/tempismo/simulation", Type: decision.PolicyType, Time: at, Data: b.Policy.Append(nil)}
	out, err := b.fold.Apply(&stream.Record{Topic: b.run.Topic(topics.Policies), Time: at, Value: e.Append(nil)})
	if err == nil && len(out) > 0 {
		err = fmt.Errorf("the decider does not take the policy: %s", out[0].Value)
	}
	return err
}

func (b *branch) fire(until time.Time) error {
	out, err := b.fold.Advance(until)
	if err != nil {
		return err
	}
	return b.tell(out)
}

func (b *branch) tell(out []stream.Output) error {
	list, err := decisions(out)
	if err != nil {
		return err
	}
	for i := range list {
		if err := b.Each(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
