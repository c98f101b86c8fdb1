package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Pauses between attempts: they double from the first to the last, each lengthened by up to a quarter at random so that
// the partitions of a worker do not knock in step.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// backoff counts the failed attempts of one operation.
type backoff struct{ pause time.Duration }

// wait pauses before the next attempt. It returns false if ctx ends first.
func (b *backoff) wait(ctx context.Context) bool {
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	t := time.NewTimer(b.pause + rand.N(b.pause/4))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *backoff) reset() { b.pause = 0 }

// terminal reports whether trying the same again cannot help: the answer needs a takeover.
func terminal(err error) bool {
	return errors.Is(err, ErrFenced) || errors.Is(err, ErrOffset) || errors.Is(err, ErrLost) || errors.Is(err, ErrFormat) || errors.Is(err, ErrOffsetOutOfRange)
}

// errorClass names the type of the innermost error that is more than a wrapper: a header with few values.
func errorClass(err error) string {
	for {
		class := fmt.Sprintf("%T", err)
		if class != "stream.permanent" && class != "*fmt.wrapError" {
			return class
		}
		inner := errors.Unwrap(err)
		if inner == nil {
			return class
		}
		err = inner
	}
}
