package connector

import (
	"sync"
	"time"
)

// breaker holds calls back while the CRM fails for everybody. Where a lost answer ends a decision as unknown, every call into
// an outage costs one; while it is open a single call at a time finds out whether the outage is over.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	worked   time.Time // when a call last worked
	opened   time.Time // when it opened, or a probe failed
	until    time.Time // open until then, and half open from then on
	probing  bool      // the one call of a half open breaker is under way
}

const (
	breakAfter = 5               // failures in a row that open it
	breakFirst = 5 * time.Second // how long it stays open at first; it doubles with every probe that fails
	breakMost  = 2 * time.Minute // at most
	breakProbe = 1 * time.Second // how long others wait while a probe is under way
)

// wait is how long no call makes sense; 0 if one may be made.
func (b *breaker) wait(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failures < breakAfter:
		return 0
	case now.Before(b.until):
		return b.until.Sub(now)
	case b.probing:
		return breakProbe
	}
	return 0
}

// enter reports whether a call may be made now. Who was let in has to leave.
func (b *breaker) enter(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakAfter {
		return true
	}
	if now.Before(b.until) || b.probing {
		return false
	}
	b.probing = true
	return true
}

// leave notes that the call was not made after all.
func (b *breaker) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// note notes what became of a call that began then, and leaves. It reports whether the breaker opens by it, after it was closed.
//
// Calls that are not answered in time end long after they began. One that has worked since says more of the CRM than they do, and
// what was under way when the breaker opened is no probe.
func (b *breaker) note(worked bool, began, now time.Time) (opens bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := b.failures >= breakAfter
	switch {
	case worked:
		b.probing, b.failures, b.worked = false, 0, now
		return false
	case began.Before(b.worked), open && !began.After(b.opened):
		return false
	}
	b.probing = false
	b.failures++
	if over := b.failures - breakAfter; over >= 0 {
		b.opened, b.until = now, now.Add(min(breakMost, breakFirst<<min(over, 10)))
	}
	return b.failures == breakAfter
}
