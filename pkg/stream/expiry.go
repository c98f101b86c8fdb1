package stream

import (
	"bytes"
	"context"
	"time"
)

// Expiry lets the states of keys be forgotten of which nothing has been heard for long. Whether a state has expired is said by
// the state and the partition's clock alone, and it is asked before each record of the key: one that has is replaced by what
// Forget leaves of it. So a state that has expired and what Forget leaves are the same to every Step, and it does not matter
// when the store is rid of it: the runtime does so page by page, as part of the commits that there are anyway. Readers who are
// not the owner may find it until then. A Job with Timers cannot have an Expiry.
type Expiry[S any] struct {
	// Expired must hold at every later clock as well, until a Step changes s, and must not hold of what Forget leaves.
	Expired func(s *S, now time.Time) bool

	// Forget takes everything out of s but what must outlive it. What is left is deleted if it is the zero value, by its bytes.
	Forget func(s *S)
}

// expire makes a state new again that has expired by the record at hand.
func (s *stepper[I, S, P]) expire(e *entry[S]) {
	if x := s.job.Expiry; x != nil && x.Expired(&e.state, s.ctx.now) {
		x.Forget(&e.state)
		s.expired++
	}
}

const (
	sweepPage  = 500         // states looked at for one commit
	sweepEvery = time.Second // between pages
)

// sweeper goes through all states of a partition, again and again.
type sweeper struct {
	cursor uint64
	next   time.Time // the next page; of the wall clock, for it does not matter when
}

// sweep adds to a commit what is to become of states that have expired. What it reads is what the owner may read, so a state that
// the batch does not change is in the store as it was read when the commit takes place. A failure is shown and costs nothing.
func (w *worker[I, S, P]) sweep(ctx context.Context, c *Commit, report *Report) {
	x := w.job.Expiry
	if x == nil || time.Now().Before(w.sweeper.next) {
		return
	}
	w.sweeper.next = time.Now().Add(sweepEvery)
	keys, values, cursor, err := w.lease.Page(ctx, w.sweeper.cursor, sweepPage)
	if err != nil {
		w.failed("sweep", err)
		return
	}
	if w.sweeper.cursor = cursor; cursor == 0 {
		w.sweeper.next = time.Now().Add(w.rt.SweepRest)
	}
	err = guard(func() error {
		empty := w.job.State.Append(nil, new(S))
		for i, key := range keys {
			if e := w.cache.peek(key); e != nil && e.dirty {
				continue // the batch has dealt with it
			}
			var s S
			if err := w.job.State.Decode(values[i], &s); err != nil {
				return err
			}
			expired := x.Expired(&s, w.step.ctx.now)
			if expired {
				x.Forget(&s)
				report.Expired++
			}
			switch left := w.job.State.Append(nil, &s); {
			case bytes.Equal(left, empty): // no state, and this one, are the same
				c.Gone = append(c.Gone, key)
			case expired:
				c.Keys, c.Values = append(c.Keys, key), append(c.Values, left)
			default:
				continue
			}
			w.cache.forget(key)
		}
		return nil
	})
	if err != nil {
		w.failed("sweep", err)
	}
}
