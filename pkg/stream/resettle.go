package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// Resettling moves the states of a Job into a run whose topics have another number of partitions and hold the same records,
// each in the partition that its key has now. States by key are copied as they are, with their timers. What belongs to a
// partition cannot be copied, since it is of many keys: the Job says what becomes of it.
type Resettling[S, P any] struct {
	From, To      Run
	Before, After int32 // numbers of partitions

	// Ends are, for each new partition, the ends of the inputs by declared topic: everything before has been taken.
	Ends []map[string]int64

	// Begin makes the state of a new partition from those of all old ones. Nil: the zero state.
	Begin func(partition int32, old []P) P

	// Note takes a state that belongs to the new partition into its state. Nil: it need not be.
	Note func(p *P, s *S, now time.Time)
}

// settled bounds, for each new partition, the states that are written at once.
const settled = 2000

// Resettle moves the states of job. Nobody may work on either run: owners of the old one are fenced, and the inputs must have
// been taken to their ends and the outputs published, which it checks as far as the store knows. The old run's states stay
// where they are. It may be repeated. states is how many it has copied.
func Resettle[I, S, P any](ctx context.Context, job Job[I, S, P], store Store, r Resettling[S, P]) (states int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("move the states of %s: %w", job.Service, err)
		}
	}()
	old := make([]*stepper[I, S, P], r.Before)
	broadcast := map[string][]byte{}
	for p := range r.Before {
		lease, err := store.Claim(ctx, r.From.Group(job.Service), p)
		if err != nil {
			return 0, err
		}
		m := lease.Meta()
		lease.Close()
		if old[p], err = leaving(&job, r.From, p, r.Before, &m); err != nil {
			return 0, err
		}
		for topic, v := range m.Broadcast {
			if have, ok := broadcast[topic]; ok && !bytes.Equal(have, v) {
				return 0, fmt.Errorf("partitions 0 and %d differ in what they have taken last from %s: write it anew into every partition, and let the service read it", p, topic)
			}
			broadcast[topic] = v
		}
	}
	all := make([]*arrival[I, S, P], r.After)
	defer func() {
		for _, a := range all {
			if a != nil {
				a.lease.Close()
			}
		}
	}()
	for q := range r.After {
		if all[q], err = arriving(ctx, &job, store, &r, q, old); err != nil {
			return 0, err
		}
	}
	for p := range r.Before {
		var failed error
		err := store.Scan(ctx, r.From.Group(job.Service), p, func(key string, value []byte) bool {
			if len(value) == 0 {
				return true
			}
			q := Partition([]byte(key), r.After)
			if failed = all[q].take(&job, &r, key, bytes.Clone(value)); failed == nil && len(all[q].commit.Keys) >= settled {
				failed = all[q].write(ctx)
			}
			states++
			return failed == nil
		})
		if err := errors.Join(failed, err); err != nil {
			return states, err
		}
	}
	for _, a := range all {
		a.commit.Broadcast = broadcast
		if err := a.write(ctx); err != nil {
			return states, err
		}
	}
	return states, counted(ctx, store, r.To.Group(job.Service), r.After, states)
}

// leaving reads what is stored of an old partition, and refuses it where something is under way.
func leaving[I, S, P any](job *Job[I, S, P], run Run, p, partitions int32, m *Meta) (*stepper[I, S, P], error) {
	switch {
	case m.Lost:
		return nil, fmt.Errorf("nothing is stored of partition %d: let the service run until it has read everything", p)
	case m.Partitions != partitions:
		return nil, fmt.Errorf("the state of partition %d is one of %d partitions, not of %d", p, m.Partitions, partitions)
	case len(m.Outbox) > 0:
		return nil, fmt.Errorf("partition %d was not left in order, and may have outputs that are not published: start the service, and stop it with SIGTERM", p)
	case len(m.Rebuilding) > 0:
		return nil, fmt.Errorf("partition %d is being rebuilt: let the service run until it is whole", p)
	}
	s := newStepper(job, run, p, make([]outTopic, len(job.outputs())))
	if err := s.setPartition(m.Partition); err != nil {
		return nil, fmt.Errorf("partition %d: %w", p, err)
	}
	s.ctx.partial = s.ctx.partial || m.Partial
	return s, nil
}

// arrival is a new partition while states are moved into it.
type arrival[I, S, P any] struct {
	step   *stepper[I, S, P]
	lease  Lease
	commit Commit
}

func arriving[I, S, P any](ctx context.Context, job *Job[I, S, P], store Store, r *Resettling[S, P], q int32, old []*stepper[I, S, P]) (*arrival[I, S, P], error) {
	s := newStepper(job, r.To, q, make([]outTopic, len(job.outputs())))
	var parts []P
	for _, o := range old {
		parts = append(parts, o.p)
		s.ctx.partial = s.ctx.partial || o.ctx.partial
		if o.ctx.now.After(s.ctx.now) {
			s.ctx.now = o.ctx.now
		}
	}
	if r.Begin != nil {
		s.p = r.Begin(q, parts)
	}
	for i := range s.inputs {
		s.inputs[i].taken = r.Ends[q][s.inputs[i].topic]
	}
	lease, err := store.Claim(ctx, r.To.Group(job.Service), q)
	if err != nil {
		return nil, err
	}
	m := lease.Meta()
	if !m.Lost && !maps.Equal(m.Positions, r.Ends[q]) {
		lease.Close()
		return nil, fmt.Errorf("run %s has states of its own: choose another one", r.To.ID)
	}
	return &arrival[I, S, P]{step: s, lease: lease, commit: Commit{Base: m.Positions, Next: r.Ends[q], Partitions: r.After, Partial: s.ctx.partial}}, nil
}

func (a *arrival[I, S, P]) take(job *Job[I, S, P], r *Resettling[S, P], key string, value []byte) error {
	var state S
	if err := job.State.Decode(value, &state); err != nil {
		return fmt.Errorf("state of %q: %w", key, err)
	}
	if job.Timers != nil {
		a.step.list(&state)
		for _, t := range a.step.pending {
			a.commit.Timers = append(a.commit.Timers, Timer{Key: key, ID: t.id, Due: time.UnixMilli(t.due).UTC()})
		}
	}
	if r.Note != nil {
		r.Note(&a.step.p, &state, a.step.ctx.now)
	}
	a.commit.Keys, a.commit.Values = append(a.commit.Keys, key), append(a.commit.Values, value)
	return nil
}

// write commits what was taken. What is written before the last time is not whole; nobody works on the run yet.
func (a *arrival[I, S, P]) write(ctx context.Context) error {
	c := &a.commit
	c.Partition = a.step.appendPartition(nil)
	if err := a.lease.Commit(ctx, c); err != nil {
		return err
	}
	c.Base, c.Keys, c.Values, c.Timers = c.Next, nil, nil, nil
	return nil
}

// counted checks that there are as many states as were written.
func counted(ctx context.Context, store Store, group string, partitions int32, want int) error {
	found := 0
	for q := range partitions {
		if err := store.Scan(ctx, group, q, func(string, []byte) bool { found++; return true }); err != nil {
			return err
		}
	}
	if found != want {
		return fmt.Errorf("%d states were moved, but %s holds %d: choose another run to move them into", want, group, found)
	}
	return nil
}
