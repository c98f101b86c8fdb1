package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// policyShelf is the policies of a run, as they stand on send.policies.v1. The decider takes the last record of its partition,
// so the last record of all partitions is the policy in force.
type policyShelf struct {
	copies []policyCopy // every version, oldest first
	even   bool         // every partition ends with the same one
}

// policyCopy is a policy that was put into force.
type policyCopy struct {
	policy *decision.Policy
	at     time.Time
}

// readPolicies reads the policies of a run.
func readPolicies(ctx context.Context, log *kafka.Log, run stream.Run) (*policyShelf, error) {
	topic := run.Topic(topics.Policies)
	described, err := log.Topics(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("run %q: `tempismo topics create` makes the topics: %w", run.ID, err)
	}
	s := &policyShelf{}
	ends := map[int32]policyCopy{}
	err = kafka.Range(ctx, log, topic, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return nil // what cannot be read is not in force anywhere: the decider sets it aside
		}
		p, err := decision.ParsePolicyRecord(r.Value)
		if err != nil {
			return nil // likewise
		}
		c := policyCopy{p, e.Time}
		ends[r.Partition] = c
		if !slices.ContainsFunc(s.copies, c.same) {
			s.copies = append(s.copies, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	slices.SortFunc(s.copies, func(a, b policyCopy) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.number(), b.number()))
	})
	s.even = true
	for p := range described[topic].Partitions {
		end, there := ends[p]
		s.even = s.even && (len(s.copies) == 0 || there && end.same(*s.inForce()))
	}
	return s, nil
}

// same reports whether two records tell of the same putting into force.
func (c policyCopy) same(o policyCopy) bool {
	return c.at.Equal(o.at) && c.policy.Version == o.policy.Version && samePolicy(c.policy, o.policy)
}

// samePolicy reports whether two policies say the same, whatever they are called.
func samePolicy(a, b *decision.Policy) bool {
	x, y := *a, *b
	x.Version, y.Version = "", ""
	return string(x.Append(nil)) == string(y.Append(nil))
}

// number is the version as a number, 0 where it is none.
func (c policyCopy) number() int {
	n, err := strconv.Atoi(c.policy.Version)
	if err != nil {
		return 0
	}
	return n
}

// inForce is the policy in force, or nil where none was ever applied.
func (s *policyShelf) inForce() *policyCopy {
	if len(s.copies) == 0 {
		return nil
	}
	return &s.copies[len(s.copies)-1]
}

// alone reports whether no other policy has the version of c: two that were applied at the same time may have.
func (s *policyShelf) alone(c policyCopy) bool {
	return !slices.ContainsFunc(s.copies, func(o policyCopy) bool { return o.policy.Version == c.policy.Version && !o.same(c) })
}

// find returns a version; without one, the policy in force. The default policy is always there.
func (s *policyShelf) find(version string) (*decision.Policy, error) {
	for i := len(s.copies) - 1; i >= 0; i-- {
		if p := s.copies[i].policy; version == "" || p.Version == version {
			return p, nil
		}
	}
	if p := decision.Default(); version == "" || version == p.Version {
		return &p, nil
	}
	return nil, fmt.Errorf("there is no policy %q: `tempismo policy list` names those that there are", version)
}

// applyPolicy puts a policy into force, unless the one in force says the same, and reports which of the two it did. Every
// reader switches at a record, as to any other policy.
func applyPolicy(ctx context.Context, log *kafka.Log, run stream.Run, p *decision.Policy) (applied bool, err error) {
	s, err := readPolicies(ctx, log, run)
	if err != nil {
		return false, err
	}
	c := policyCopy{p, time.Now().UTC().Truncate(time.Millisecond)}
	if f := s.inForce(); f != nil && samePolicy(f.policy, p) && s.alone(*f) {
		p.Version = f.policy.Version
		if s.even {
			return false, nil
		}
		return false, f.publish(ctx, log, run) // a process died while it wrote: some partitions lack it
	} else if f != nil && !c.at.After(f.at) {
		c.at = f.at.Add(time.Millisecond) // another machine's clock runs ahead
	}
	p.Version = "1"
	for _, old := range s.copies {
		p.Version = strconv.Itoa(max(c.number(), old.number()+1))
	}
	if err := c.publish(ctx, log, run); err != nil {
		return false, err
	}
	if s, err = readPolicies(ctx, log, run); err != nil {
		return false, err
	}
	if f := s.inForce(); f == nil || !f.same(c) || !s.alone(c) || !s.even {
		return false, errors.New("somebody else has put a policy into force at the same time: see `tempismo policy list`, and apply yours again")
	}
	return true, nil
}

// publish writes a policy into every partition. The record is the same in each of them, and when it is written again.
func (c *policyCopy) publish(ctx context.Context, log *kafka.Log, run stream.Run) error {
	e := stream.Event{ID: "po-" + c.policy.Version, Source: "/tempismo/operator/" + run.ID, Type: decision.PolicyType, Time: c.at, Data: c.policy.Append(nil)}
	w, err := kafka.NewWriter(ctx, log, run)
	if err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	defer w.Close()
	if err := w.Broadcast(ctx, topics.Policies, e.Append(nil), time.Time{}); err != nil {
		return fmt.Errorf("put policy %s into force: %w", c.policy.Version, err)
	}
	return nil
}
