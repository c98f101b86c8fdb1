package connector

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/tempismo/tempismo/services/connector/crm"
)

// target is the CRM that is called. It is shared by all partitions: what it says about itself, that it is gone or wants to
// be left alone for a while, holds for all of them, and so does the rate.
type target struct {
	crm     crm.CRM // nil: nobody is called
	traits  crm.Traits
	client  *http.Client
	slots   chan struct{} // calls under way
	limiter *rate.Limiter
	breaker breaker
	denied  atomic.Bool // it last said that the key or the address is wrong

	mu     sync.Mutex
	gone   bool      // it answered 410
	paused time.Time // it asked, with Retry-After, not to be called before
}

// newTarget makes the target of a run. A simulated one is never the CRM.
func newTarget(c Config) (*target, error) {
	simulated, to := c.Run.Simulated(), c.chosen()
	url := to.url
	if simulated {
		url = to.calls.SimulatedTarget
	}
	if url == "" {
		return aim(nil, to.calls), nil
	}
	client := to.calls.Client(to.prefix, simulated)
	called, err := to.open(client, url)
	if err != nil {
		return nil, err
	}
	t := aim(called, to.calls)
	t.client = client
	return t, nil
}

// aim makes a target of a CRM, or of nobody.
func aim(to crm.CRM, c crm.Calls) *target {
	t := &target{crm: to, slots: make(chan struct{}, c.Concurrency), limiter: rate.NewLimiter(rate.Inf, 1)}
	if to == nil {
		return t
	}
	t.traits = to.Traits()
	if most := cmp.Or(c.Rate, t.traits.Rate); most > 0 {
		t.limiter = rate.NewLimiter(rate.Limit(most), 1)
	}
	return t
}

// turn waits until the rate allows another call, on the connector's clock.
func (t *target) turn(ctx context.Context, c clock) error {
	now := c.Now()
	if wait := t.limiter.ReserveN(now, 1).DelayFrom(now); wait > 0 {
		return c.Sleep(ctx, wait)
	}
	return ctx.Err()
}

// pause notes that the target wants to be left alone until then.
func (t *target) pause(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until.After(t.paused) {
		t.paused = until
	}
}

// hold is how long the target is not to be called, by its own wish or because it fails.
func (t *target) hold(now time.Time) time.Duration {
	t.mu.Lock()
	wait := t.paused.Sub(now)
	t.mu.Unlock()
	if t.traits.Breaker {
		wait = max(wait, t.breaker.wait(now))
	}
	return max(wait, 0)
}

// enter reports whether a call may be made now. Who was let in has to leave, or to note what became of it.
func (t *target) enter(now time.Time) bool { return !t.traits.Breaker || t.breaker.enter(now) }

func (t *target) leave() { t.breaker.leave() }

// note notes what became of a call, and reports whether calls are held back from now on. A no is an answer: the target
// works; and so is the wish to be left alone, which is followed by itself.
func (t *target) note(a crm.Answer, now time.Time) (opens bool) {
	if !t.traits.Breaker {
		return false
	}
	if a.Verdict == crm.Retry && a.After > 0 {
		t.breaker.leave()
		return false
	}
	return t.breaker.note(a.Verdict == crm.Accepted || a.Verdict == crm.Refused, now)
}

// close notes that the target is gone, and reports whether that is new.
func (t *target) close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.gone
	t.gone = true
	return !was
}

func (t *target) isGone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone
}
