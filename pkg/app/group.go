package app

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// StopTimeout bounds how long a Group waits for its functions after ctx has ended.
const StopTimeout = 15 * time.Second

// Group runs functions side by side until ctx ends or one of them fails, then stops them one after the other, the last
// first: what is started first (a listener, a broker) is what the later ones need. A function that returns nil just has
// nothing more to do. The error is the first failure, joined with what went wrong while stopping; functions that have
// not returned within StopTimeout are named in it and left behind.
func Group(ctx context.Context, functions ...func(context.Context) error) error {
	return group(ctx, StopTimeout, functions)
}

func group(ctx context.Context, patience time.Duration, functions []func(context.Context) error) error {
	type member struct {
		stop context.CancelFunc
		done chan struct{}
		err  error // to be read after done
	}
	members := make([]*member, len(functions))
	failed := make(chan struct{}, len(functions))
	finished := make(chan struct{}, len(functions))
	for i, f := range functions {
		mctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		m := &member{stop: stop, done: make(chan struct{})}
		members[i] = m
		go func() {
			defer close(m.done)
			if m.err = f(mctx); m.err != nil && !errors.Is(m.err, context.Canceled) {
				failed <- struct{}{}
			}
			finished <- struct{}{}
		}()
	}
	for left := len(members); left > 0; {
		select {
		case <-ctx.Done():
			left = 0
		case <-failed:
			left = 0
		case <-finished:
			left--
		}
	}

	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	var problems []error
	late := false
	for i := len(members) - 1; i >= 0; i-- {
		m := members[i]
		m.stop()
		if late {
			select {
			case <-m.done:
			default:
				problems = append(problems, fmt.Errorf("function %d of the group does not stop", i))
				continue
			}
		}
		select {
		case <-m.done:
			if m.err != nil && !errors.Is(m.err, context.Canceled) {
				problems = append(problems, m.err)
			}
		case <-deadline.C:
			late = true
			problems = append(problems, fmt.Errorf("function %d of the group does not stop within %s", i, patience))
		}
	}
	return errors.Join(problems...)
}
