package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	perRound = 10                     // injections of a round
	gap      = 2 * time.Second        // most that an injection waits for its moment
	readyIn  = time.Minute            // how long services may take to their first readiness
	stopIn   = 10 * time.Second       // how long a service may take to stop
	drainIn  = 2 * time.Minute        // how long a round may take to come to rest
	checkIn  = 5 * time.Minute        // how long the checks may take
	sampled  = 500 * time.Millisecond // how often memory, readiness and lag are looked at
)

// round is what became of one rig.
type round struct {
	seed       uint64
	injections int
	recoveries []time.Duration // one for each time that the lag was waited for
	noted      map[string]int
	counts     Counts
	found      []Violation
	took       time.Duration
	kept       string // folder of a broken round
	err        error  // the harness itself could not go on: nothing is said about what it could not look at
}

// play is one round of n injections.
func play(ctx context.Context, row Row, n int, seed uint64, p Plan) (out round) {
	began := time.Now()
	out = round{seed: seed}
	dir := filepath.Join(p.Dir, fmt.Sprintf("row%s-seed%d", row.ID, seed))
	tell := func(format string, args ...any) {
		p.Tell("row %s seed %d %5.1f s: %s", row.ID, seed, time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	if err := os.RemoveAll(dir); err != nil {
		out.err = err
		return out
	}
	r, err := newRig(ctx, row, dir, p.Bin, seed, tell)
	r.Previous = p.Previous
	defer func() {
		if v := recover(); v != nil { // a mistake of the harness must not leave brokers behind
			_ = r.close() // the panic says more
			panic(v)
		}
	}()
	if err == nil {
		err = r.play(ctx, row, n, &out)
	}
	for i := range out.found {
		out.found[i].Row = row.ID
		tell("BROKEN: %s", out.found[i])
	}
	out.noted, out.found = r.noted, append(out.found, r.found...) // those were told when they were found
	if out.counts == nil {
		out.counts = Counts{}
	}
	for what, n := range r.counted {
		out.counts[what] += n
	}
	if err := r.close(); err != nil {
		tell("not everything stopped by itself: %v", err)
	}
	out.err, out.took = err, time.Since(began)
	if ctx.Err() == nil && (err != nil || len(out.found) > 0) {
		out.kept = dir
		if b, err := json.MarshalIndent(out.found, "", "  "); err == nil {
			err = os.WriteFile(filepath.Join(dir, "violations.json"), b, 0o644)
			if err != nil {
				tell("%v", err)
			}
		}
		if err != nil {
			tell("GAVE UP: %v", err)
		}
		tell("everything of this round is kept in %s", dir)
	} else if err := os.RemoveAll(dir); err != nil {
		tell("%v", err)
	}
	return out
}

func (r *Rig) play(ctx context.Context, row Row, n int, out *round) error {
	if row.Prepare != nil {
		if err := row.Prepare(ctx, r); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	if err := r.Load.Preload(ctx); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	r.Logf("brokers, redis and history are there")
	r.Mend()
	if err := r.ready(ctx); err != nil {
		return err
	}
	r.Sample.Start(sampled)
	loaded, stop := context.WithCancel(ctx)
	defer stop()
	r.Load.Start(loaded)
	if _, err := r.Recovered(ctx, readyIn); err != nil {
		return fmt.Errorf("before any fault: %w", err)
	}
	r.Logf("services are ready, %d records acknowledged", r.Load.Acked())
	for first := 0; first < n; first += max(row.Overlap, 1) {
		if err := r.wave(ctx, row, first, min(max(row.Overlap, 1), n-first), out); err != nil {
			return err
		}
	}
	r.leaving.Wait()
	r.Mend()
	r.Load.Stop()
	r.Logf("%d injections; %d records acknowledged; draining", out.injections, r.Load.Acked())
	draining, cancel := context.WithTimeout(ctx, drainIn)
	defer cancel()
	err := Drained(draining, r.Evidence())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.Found(Violation{Invariant: "R", What: fmt.Sprintf("it does not come to rest: %v", err)})
	}
	r.Sample.Stop()
	r.found = append(r.found, r.fallen(row.ID)...)
	r.Logf("at rest")
	r.halt()
	r.Logf("stopped; checking")
	checking, cancel := context.WithTimeout(ctx, checkIn)
	defer cancel()
	e := r.Evidence()
	found, counts, err := Check(checking, e, row.Holds)
	out.found, out.counts = append(out.found, found...), counts
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if row.Verify != nil {
		out.found = append(out.found, row.Verify(checking, r, e)...)
	}
	return ctx.Err()
}

// ready waits until every process says that it is.
func (r *Rig) ready(ctx context.Context) error {
	began := time.Now()
	for _, p := range r.all() {
		for !p.Ready() {
			if p.fell() {
				return fmt.Errorf("%s ended by itself with code %d: see %s", p.ID(), p.code, p.Log)
			}
			if time.Since(began) > readyIn {
				return fmt.Errorf("%s is not ready after %s: see %s", p.ID(), readyIn, p.Log)
			}
			if err := sleep(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// wave injects some faults side by side, and waits until the lag has recovered from them.
func (r *Rig) wave(ctx context.Context, row Row, first, n int, out *round) error {
	var all sync.WaitGroup
	errs := make([]error, n)
	began := time.Now()
	var lasted time.Duration // of the longest fault
	var mu sync.Mutex
	for i := range n {
		all.Go(func() {
			if row.Apart > 0 {
				errs[i] = sleep(ctx, time.Duration(i)*row.Apart)
			} else {
				errs[i] = r.Moment(ctx, gap)
			}
			if errs[i] != nil {
				return
			}
			at := time.Now()
			errs[i] = row.Inject(ctx, r, first+i)
			mu.Lock()
			lasted = max(lasted, time.Since(at))
			mu.Unlock()
			r.mu.Lock()
			r.injections = append(r.injections, Injection{From: at, To: time.Now(), What: fmt.Sprintf("row %s, injection %d", row.ID, first+i+1)})
			r.mu.Unlock()
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil || ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	out.injections += n
	bound := lasted/2 + 15*time.Second
	took, err := r.Recovered(ctx, bound+time.Minute)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	out.recoveries = append(out.recoveries, took)
	switch {
	case err != nil:
		r.Found(Violation{Invariant: "R", What: fmt.Sprintf("the lag has not recovered from injection %d: %v", first+n, err)})
		return nil
	case took > bound:
		r.Found(Violation{Invariant: "R", What: fmt.Sprintf("the lag has recovered from injection %d after %s, later than %s (half of the fault's %s, and 15 s)",
			first+n, took.Round(time.Millisecond), bound.Round(time.Millisecond), lasted.Round(time.Millisecond))})
	}
	r.Logf("injection %d: lasted %.1f s, recovered after %.1f s (%.1f s in all)", first+n, lasted.Seconds(), took.Seconds(), time.Since(began).Seconds())
	return nil
}

// halt stops all services as an operator does. One that cannot stop in time, or not well, is a finding.
func (r *Rig) halt() {
	var all sync.WaitGroup
	for _, p := range r.all() {
		if !p.Alive() {
			continue
		}
		all.Go(func() {
			if exit, code := p.Term(); code != 0 || exit > stopIn {
				r.Found(Violation{Invariant: "V", What: fmt.Sprintf("told to stop it ended with code %d after %s: see %s", code, exit.Round(time.Millisecond), p.Log), IDs: []string{p.ID()}})
			}
		})
	}
	all.Wait()
}
