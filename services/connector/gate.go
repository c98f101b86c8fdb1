package connector

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/tempismo/tempismo/services/connector/crm"
)

// gate holds calls back: to keep a rate, because the CRM asked for it, and while it fails for all.
type gate struct {
	most    float64 // calls a second of all processes together; 0: as many as come
	limiter *rate.Limiter
	spacing *rate.Limiter // of the calls themselves
	breaks  bool          // calls are held back while the CRM fails
	breaker breaker

	mu     sync.Mutex
	paused time.Time // it asked, with Retry-After, not to be called before
	owned  int32     // partitions of this process
}

// newGate makes a gate that lets so many calls a second through, until it has to share them; 0: as many as come.
func newGate(most float64, breaks bool) *gate {
	limit := rate.Inf
	if most > 0 {
		limit = rate.Limit(most)
	}
	return &gate{most: most, limiter: rate.NewLimiter(limit, 1), spacing: rate.NewLimiter(limit, 1), breaks: breaks}
}

// turn waits until the rate allows another call, on the connector's clock.
func (g *gate) turn(ctx context.Context, c clock) error { return await(ctx, c, g.limiter) }

// space waits until the rate allows the call itself. Between a turn and its call something is written, and where Kafka is slow many
// are acknowledged at once: they would be called at once.
func (g *gate) space(ctx context.Context, c clock) error { return await(ctx, c, g.spacing) }

func await(ctx context.Context, c clock, l *rate.Limiter) error {
	now := c.Now()
	if wait := l.ReserveN(now, 1).DelayFrom(now); wait > 0 {
		return c.Sleep(ctx, wait)
	}
	return ctx.Err()
}

// spare takes a turn that nobody waits for; if there is none, it says how long to wait before asking again.
func (g *gate) spare(now time.Time) (wait time.Duration) {
	if g.limiter.AllowN(now, 1) {
		return 0
	}
	return time.Duration(float64(time.Second) / float64(g.limiter.Limit()))
}

// own notes that the process has so many partitions more, of all that there are. It has as much of the rate as it has of them:
// the processes of a run keep the account's rate together, and none has to know of the others.
func (g *gate) own(now time.Time, more, all int32) {
	if g == nil || g.most <= 0 { // nobody is called, or as often as one likes
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owned += more; g.owned == 0 {
		return // nobody calls
	}
	part := rate.Limit(g.most * float64(g.owned) / float64(all))
	g.limiter.SetLimitAt(now, part)
	g.spacing.SetLimitAt(now, part)
}

// pause notes that the target wants to be left alone until then.
func (g *gate) pause(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.paused) {
		g.paused = until
	}
}

// rests reports whether the target has asked to be left alone now.
func (g *gate) rests(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return now.Before(g.paused)
}

// hold is how long the target is not to be called, by its own wish or because it fails.
func (g *gate) hold(now time.Time) time.Duration {
	g.mu.Lock()
	wait := g.paused.Sub(now)
	g.mu.Unlock()
	if g.breaks {
		wait = max(wait, g.breaker.wait(now))
	}
	return max(wait, 0)
}

// enter reports whether a call may be made now. Who was let in has to leave, or to note what became of it.
func (g *gate) enter(now time.Time) bool { return !g.breaks || g.breaker.enter(now) }

func (g *gate) leave() { g.breaker.leave() }

// note notes what became of a call that began then, and reports whether calls are held back from now on. A no is an answer: the target
// works; and so is the wish to be left alone, which is followed by itself.
func (g *gate) note(a crm.Answer, began, now time.Time) (opens bool) {
	if !g.breaks {
		return false
	}
	if a.Verdict == crm.Retry && a.After > 0 {
		g.breaker.leave()
		return false
	}
	return g.breaker.note(a.Verdict == crm.Accepted || a.Verdict == crm.Refused, began, now)
}
