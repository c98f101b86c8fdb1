package stream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"
)

// worker owns one partition number of all inputs for the length of an assignment.
type worker[I, S, P any] struct {
	rt         *Runtime
	job        *Job[I, S, P]
	topics     []outTopic
	wire       map[string]*outTopic
	partitions int32
	partition  int32
	a          Assignment
	log        *slog.Logger

	ctx    context.Context // ends at revocation and at shutdown
	late   context.Context // ends ShutdownTimeout later: what has begun is finished in it
	alarms map[string]bool
	pause  backoff           // between takeovers
	again  [sha256.Size]byte // the outbox that a takeover has published last
	caches *budget

	// What follows is made anew by every takeover.
	lease      Lease
	producer   Producer
	step       *stepper[I, S, P]
	cache      cache[S]
	sweeper    sweeper
	feeds      []feed // as the inputs
	arrivals   chan fetched
	positions  map[string]int64 // as stored
	published  map[string]int64 // as acknowledged
	hinted     []int64          // group offsets at the claim, -1: none; as the inputs
	rebuilding map[string]int64 // log ends at which a lost state is whole again
	hints      *hinter
	dirtyBox   bool // the stored outbox is not empty
	boxes      [2]*outbox
	reports    [2]Report
	turn       int        // which of boxes and reports the batch at hand fills
	acks       chan error // of the batch before, if inFlight
	inFlight   bool
	batch      batch[S]
	bell       bell
}

// refusal ends Process: going on would do harm, and trying again cannot help.
type refusal struct{ error }

// run works until the assignment ends. Everything that is not OK leads to a takeover.
func (w *worker[I, S, P]) run() error {
	defer func() {
		for kind := range w.alarms {
			w.alarm(kind, false)
		}
	}()
	cause := TakeoverAssigned
	for {
		w.rt.Observer.Takeover(w.partition, cause)
		err := w.own()
		if w.ctx.Err() != nil {
			return nil
		}
		var no refusal
		if errors.As(err, &no) {
			return no.error
		}
		cause = w.explain(err)
		if !w.pause.wait(w.ctx) {
			return nil
		}
	}
}

// explain says why the partition must be taken over again, in the log and as a cause.
func (w *worker[I, S, P]) explain(err error) string {
	switch {
	case errors.Is(err, ErrFenced):
		w.log.Warn("partition was claimed by another owner; claiming it again, for it is still assigned to us")
		return TakeoverFenced
	case errors.Is(err, ErrOffset):
		w.log.Warn("stored positions are not ours; starting again from what is stored")
		return TakeoverOffset
	case errors.Is(err, ErrLost):
		w.log.Error("the stored state vanished; rebuilding it from the log")
		return TakeoverLost
	case errors.Is(err, ErrOffsetOutOfRange):
		w.alarm(AlarmRange, true)
		w.log.Error("the log does not hold the stored position, and nothing is processed until it does or somebody decides: "+
			"if records were lost by retention or by re-creating the topic, start a new run (RUN_ID) or delete this group's state to rebuild it from what is left", "error", err)
		return TakeoverRange
	}
	w.alarm(AlarmStep, true)
	attrs := []any{"error", err}
	if p := (*PanicError)(nil); errors.As(err, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	w.log.Error("processing fails, and it is no fault of the record; the partition waits and tries again: fix the program or its configuration, or run the newer version", attrs...)
	return TakeoverStep
}

// own takes the partition over and processes it until the assignment ends or something is not OK.
func (w *worker[I, S, P]) own() error {
	late, cancel := context.WithCancel(w.late)
	w.acks, w.inFlight = make(chan error, 1), false
	owned := false
	w.caches.owned.Add(1)
	defer func() {
		w.caches.owned.Add(-1)
		cancel()
		if w.inFlight {
			<-w.acks //nolint:errcheck // its error is that of late, or the next owner publishes what is left
		}
		if owned {
			w.rt.Observer.Owned(w.partition, false)
		}
		if w.producer != nil {
			w.producer.Close()
			w.producer = nil
		}
		if w.lease != nil {
			w.lease.Close()
			w.lease = nil
		}
	}()
	if err := w.takeOver(); err != nil {
		return err
	}
	w.alarm(AlarmRange, false)

	w.hints = w.startHints(late)
	defer w.hints.finish()
	w.hints.put(w.offsets()) // the owner before may have ended between publishing and hinting
	stop := w.startFeeds()
	owned = true
	w.rt.Observer.Owned(w.partition, true)
	err := w.serve(late)
	stop()
	if err == nil {
		w.leave(late)
	}
	return err
}

// takeOver makes this worker the partition's owner: confirm the assignment, claim, publish the stored outbox again, and
// go on from the stored positions with nothing that was in memory.
func (w *worker[I, S, P]) takeOver() error {
	w.step = newStepper(w.job, w.rt.Run, w.partition, w.topics)
	w.cache = newCache(w.job.State.Size)
	w.sweeper = sweeper{}
	for i := range w.boxes {
		w.boxes[i] = newOutbox(w.topics)
	}
	if err := w.retry(w.ctx, "confirm", func() error { return w.a.Confirm(w.ctx) }); err != nil {
		return err
	}
	err := w.retry(w.ctx, "claim", func() (err error) {
		w.lease, err = w.rt.Store.Claim(w.ctx, w.rt.Run.Group(w.job.Service), w.partition)
		return err
	})
	if err != nil {
		return err
	}
	// Not before the claim: whoever was frozen between the two would not know of what others have published since.
	if err := w.readHints(); err != nil {
		return err
	}
	m := w.lease.Meta()
	if w.partition >= w.partitions {
		return refusal{fmt.Errorf("stream: %s has got more partitions than the %d it had when this began, and keys have moved: restore the partition count, or start a new run (RUN_ID) that builds its state from the log; the next time let `tempismo repartition` do it",
			w.step.inputs[0].wire, w.partitions)}
	}
	if m.Partitions != 0 && m.Partitions != w.partitions {
		return refusal{fmt.Errorf("stream: the state of %s was made with %d partitions, but %s has %d: restore the partition count, or start a new run (RUN_ID) that builds its state from the log; `tempismo repartition` changes the number and keeps the state",
			w.rt.Run.Group(w.job.Service), m.Partitions, w.step.inputs[0].wire, w.partitions)}
	}
	if err := w.deliverAgain(m.Outbox); err != nil {
		return err
	}
	if err := w.restore(&m); err != nil {
		return err
	}
	if err := w.locate(&m); err != nil {
		return err
	}
	return w.windUp()
}

func (w *worker[I, S, P]) readHints() error {
	w.hinted = make([]int64, len(w.step.inputs))
	for i := range w.step.inputs {
		err := w.retry(w.ctx, "hinted", func() (err error) {
			w.hinted[i], err = w.a.Hinted(w.ctx, w.step.inputs[i].wire)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// restore brings the partition's state to where it was.
func (w *worker[I, S, P]) restore(m *Meta) error {
	return guard(func() error {
		if err := w.step.setPartition(m.Partition); err != nil {
			return err
		}
		for i := range w.step.inputs {
			topic := w.step.inputs[i].topic
			if v, ok := m.Broadcast[topic]; ok && w.step.inputs[i].broadcast {
				if err := w.step.adopt(topic, v); err != nil {
					return fmt.Errorf("adopt the stored record of %s: %w", topic, err)
				}
			}
		}
		return nil
	})
}

// locate finds where to go on in each input. What was never stored, or was lost, starts at the earliest retained record.
func (w *worker[I, S, P]) locate(m *Meta) error {
	w.positions = maps.Clone(m.Positions)
	w.dirtyBox = len(m.Outbox) > 0
	w.rebuilding = parsePositions(m.Rebuilding)
	next := maps.Clone(m.Positions)
	if next == nil {
		next = map[string]int64{}
	}
	ends := map[string]int64{}
	rolledBack, trimmed, hinted := false, false, false
	w.feeds = make([]feed, len(w.step.inputs))
	for i := range w.step.inputs {
		in := &w.step.inputs[i]
		var start, end int64
		err := w.retry(w.ctx, "bounds", func() (err error) {
			start, end, err = w.rt.Log.Bounds(w.ctx, in.wire, w.partition)
			return err
		})
		if err != nil {
			return err
		}
		at, stored := m.Positions[in.topic]
		if !stored {
			at = start
			next[in.topic] = at
			if end > start {
				ends[in.topic] = end
			}
			trimmed = trimmed || start > 0 && !in.broadcast
		} else if at < start || at > end {
			return fmt.Errorf("%s %d: stored position %d, the log holds %d to %d: %w", in.wire, w.partition, at, start, end, ErrOffsetOutOfRange)
		}
		if hint := w.hinted[i]; hint > at {
			in.mute = hint
			rolledBack = true
		}
		hinted = hinted || w.hinted[i] >= 0
		w.feeds[i] = feed{next: at, end: end, waiting: true, more: make(chan struct{}, 1)}
	}
	switch {
	case m.Lost && hinted:
		w.alarm(AlarmLost, true)
		w.step.ctx.partial = trimmed
		w.log.Error("the group has read before, but its state is gone: rebuilding it from the earliest retained records, without publishing again what was published", "until", ends)
	case rolledBack && len(w.rebuilding) > 0:
		w.alarm(AlarmLost, true)
		w.log.Warn("going on with rebuilding the lost state", "until", w.rebuilding)
	case rolledBack:
		w.alarm(AlarmRollback, true)
		w.log.Error("the group offset is ahead of the stored position: the store lost its last writes; going on from what is stored, without publishing again what was published",
			"stored", m.Positions, "hinted", w.hinted)
	}
	w.published = next
	if !m.Lost {
		return nil
	}
	if len(ends) > 0 {
		w.rebuilding = ends
	}
	// Written before the first record is read, so that readers of the state are warned and a next claim finds positions.
	c := Commit{Next: next, Partition: w.step.appendPartition(nil), Partitions: w.partitions, Rebuilding: formatPositions(w.rebuilding), Partial: w.step.ctx.partial}
	if err := w.retry(w.ctx, "commit", func() error { return w.lease.Commit(w.ctx, &c) }); err != nil {
		return err
	}
	w.positions = next
	return nil
}

// startFeeds starts reading; the returned function ends it and waits.
func (w *worker[I, S, P]) startFeeds() (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	w.arrivals = make(chan fetched, len(w.feeds))
	done := make(chan struct{}, len(w.feeds))
	for i := range w.feeds {
		go func(from int64, more <-chan struct{}) {
			defer func() { done <- struct{}{} }()
			w.fetch(ctx, i, from, more, w.arrivals)
		}(w.feeds[i].next, w.feeds[i].more)
	}
	return func() {
		cancel()
		for range w.feeds {
			<-done
		}
	}
}

// serve processes batch after batch until the assignment ends.
func (w *worker[I, S, P]) serve(late context.Context) error {
	for {
		ok, err := w.gather(late)
		if !ok || err != nil {
			return err
		}
		if err := w.process(late); err != nil {
			return err
		}
	}
}

// leave ends an ownership in order: everything published, and the outbox cleared so that nobody publishes it again.
// Whatever fails is left to the next owner.
func (w *worker[I, S, P]) leave(late context.Context) {
	if err := w.acknowledged(late); err != nil {
		w.log.Warn("the last outputs were not acknowledged in time; the next owner publishes them", "error", err)
		return
	}
	if w.dirtyBox {
		c := Commit{Base: w.positions, Next: w.positions, Partition: w.step.appendPartition(nil), Partitions: w.partitions, Rebuilding: formatPositions(w.rebuilding), Partial: w.step.ctx.partial}
		if err := w.retry(late, "commit", func() error { return w.lease.Commit(late, &c) }); err != nil {
			w.log.Warn("the outbox was not cleared; the next owner publishes it again", "error", err)
			return
		}
	}
	w.hints.finish()
	if offsets := w.offsets(); len(offsets) > 0 {
		if err := w.a.Hint(late, offsets); err != nil {
			w.log.Debug("the last group offsets were not written", "error", err)
		}
	}
}

// offsets returns what may be written as group offsets: the acknowledged positions, but never less than what stood there
// at the claim, for that is the proof of a rollback. While timers must fire, in a simulated run, that of the tick log stands
// still: whoever waits for a group without lag waits for what a clock tick brings about.
func (w *worker[I, S, P]) offsets() map[string]int64 {
	offsets := map[string]int64{}
	for i := range w.step.inputs {
		in := &w.step.inputs[i]
		if in.ticks && w.holding() {
			continue
		}
		if p, ok := w.published[in.topic]; ok && p > w.hinted[i] {
			offsets[in.wire] = p
		}
	}
	return offsets
}

// retry tries fn until it succeeds, its error needs a takeover, or ctx ends.
func (w *worker[I, S, P]) retry(ctx context.Context, op string, fn func() error) error {
	var pause backoff
	for {
		err := fn()
		if err == nil || terminal(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.failed(op, err)
		if !pause.wait(ctx) {
			return ctx.Err()
		}
	}
}

// failed shows an attempt that will be repeated.
func (w *worker[I, S, P]) failed(op string, err error) {
	w.rt.Observer.Retry(w.partition, op, err)
	w.log.Warn("trying again", "operation", op, "error", err)
}

func (w *worker[I, S, P]) alarm(kind string, raised bool) {
	if w.alarms[kind] == raised {
		return
	}
	if raised {
		w.alarms[kind] = true
	} else {
		delete(w.alarms, kind)
	}
	w.rt.Observer.Alarm(w.partition, kind, raised)
}

// idleCheck is how long an owner goes without asking the store whether the partition is still his.
const idleCheck = time.Second
