package stream

import (
	"context"
	"fmt"
	"math"
	"time"
)

// bell is what an owner knows of the timers of his partition beside their states. In a live run it is when the next one is
// due: the store has the rest. In a simulated run all of them are in memory (stepper.alarms), for before every record
// it must be known whether one fires first.
type bell struct {
	next     int64 // live: no timer of committed state is due before; 0: none is pending
	awaited  int64 // live: position in the tick log at which all ticks of ours are taken
	limit    int64 // simulated: what is due at it must fire before the record that is next
	appended int   // ticks, since the last report

	after  map[string]int64 // positions that the tick at offset waits for
	offset int64
}

const (
	// liveTicks and simulatedTicks are how many ticks are appended at once. In a simulated run a timer that is set meanwhile
	// may come first, and all ticks behind it are made again.
	liveTicks      = 5000
	simulatedTicks = 500
)

// windUp finds out what is pending.
func (w *worker[I, S, P]) windUp() error {
	w.bell = bell{offset: -1}
	if w.job.Timers == nil {
		return nil
	}
	if !w.rt.Run.Simulated {
		return w.retry(w.ctx, "due", func() error {
			_, next, err := w.lease.Due(w.ctx, time.Time{}, 0)
			w.bell.next = millis(next)
			return err
		})
	}
	w.step.alarms = newAgenda()
	return w.retry(w.ctx, "due", func() error {
		all, _, err := w.lease.Due(w.ctx, time.UnixMilli(math.MaxInt64/2), math.MaxInt32)
		for _, t := range all {
			w.step.alarms.set(t.Key, t.ID, t.Due.UnixMilli())
		}
		return err
	})
}

// set takes note of timers that were committed.
func (b *bell) set(changed []Timer) {
	for _, t := range changed {
		if !t.Due.IsZero() && (b.next == 0 || t.Due.UnixMilli() < b.next) {
			b.next = t.Due.UnixMilli()
		}
	}
}

// silent reports that no ticks may be appended in a live run: while a lost state is being rebuilt, and until those that were
// appended are taken.
func (w *worker[I, S, P]) silent() bool {
	return w.bell.next == 0 || len(w.rebuilding) > 0 || w.positions[w.job.Timers.Topic] < w.bell.awaited
}

// alarmClock returns a channel that tells when the next timer of a live run is due.
func (w *worker[I, S, P]) alarmClock() <-chan time.Time {
	if w.job.Timers == nil || w.rt.Run.Simulated || w.silent() {
		return nil
	}
	return time.After(time.Until(time.UnixMilli(w.bell.next)))
}

// ring appends ticks for timers that are due, unless it has done so and they are not taken yet.
func (w *worker[I, S, P]) ring(late context.Context) error {
	switch {
	case w.job.Timers == nil:
		return nil
	case w.rt.Run.Simulated:
		return w.ringSimulated(late)
	}
	now := time.Now()
	if w.silent() || now.UnixMilli() < w.bell.next {
		return nil
	}
	var due []Timer
	var next time.Time
	err := w.retry(late, "due", func() (err error) {
		due, next, err = w.lease.Due(late, now, liveTicks)
		return err
	})
	if err != nil {
		return err
	}
	if w.bell.next = millis(next); len(due) == 0 {
		return nil
	}
	w.bell.awaited, err = w.appendTicks(late, due)
	return err
}

// ringSimulated appends ticks for what must fire now. Those that are in the log already, from before a takeover, are
// taken first: so that what they fire has the source position that it had.
func (w *worker[I, S, P]) ringSimulated(late context.Context) error {
	f := &w.feeds[len(w.feeds)-1]
	if !w.holding() || f.taken < len(f.records) || f.behind() {
		return nil
	}
	_, err := w.appendTicks(late, w.step.alarms.take(w.due(), simulatedTicks))
	return err
}

// appendTicks publishes ticks and returns the end of the tick log behind them.
func (w *worker[I, S, P]) appendTicks(late context.Context, timers []Timer) (end int64, err error) {
	if err := w.acknowledged(late); err != nil { // the producer is one
		return 0, err
	}
	last := len(w.feeds) - 1
	in := &w.step.inputs[last]
	todo := []parcel{{topic: in.wire, partition: w.partition, messages: makeTicks(in, timers, w.positions)}}
	if err := w.ship(late, todo); err != nil {
		return 0, err
	}
	w.bell.appended += len(timers)
	f := &w.feeds[last]
	f.end = max(f.end, todo[0].end)
	return todo[0].end, nil
}

// holding reports that timers must fire before any other record is taken, in a simulated run.
func (w *worker[I, S, P]) holding() bool {
	if w.step.alarms == nil {
		return false
	}
	next := w.step.alarms.first().due
	return next != 0 && next <= w.due()
}

// due is the time up to which timers fire now: the clock's, that of the record which waits for them, or, when nothing
// else is at hand, that of the last clock tick.
func (w *worker[I, S, P]) due() int64 {
	until := max(w.step.ctx.now.UnixMilli(), w.bell.limit)
	for i := range w.feeds[:len(w.feeds)-1] {
		if f := &w.feeds[i]; f.taken < len(f.records) || f.behind() {
			return until
		}
	}
	return max(until, w.step.horizon.until)
}

// takeTicks fills the batch from the tick log alone. A first tick whose positions are not reached is taken nevertheless: it
// comes from a history in which the inputs were read in another order, and what must fire now stands behind it. It is
// dropped, and made anew when its timer is due.
func (w *worker[I, S, P]) takeTicks() bool {
	b, i := &w.batch, len(w.feeds)-1
	f, bytes := &w.feeds[i], 0
	for f.taken < len(f.records) && len(b.items) < w.rt.BatchRecords && bytes < w.rt.BatchBytes {
		r := &f.records[f.taken]
		if len(b.items) > 0 && !w.reached(r) {
			break
		}
		f.taken++
		b.items = append(b.items, item[S]{input: i, record: r})
		bytes += len(r.Key) + len(r.Value)
	}
	return len(b.items) > 0
}

// mustWait reports that, in a simulated run, timers must fire before the item.
func (w *worker[I, S, P]) mustWait(it *item[S]) (wait bool, err error) {
	if w.step.alarms == nil || w.step.inputs[it.input].ticks {
		return false, nil
	}
	next := w.step.alarms.first().due
	if next == 0 {
		w.bell.limit = 0 // that of a record before, which says nothing about what this one sets
		return false, nil
	}
	err = guard(func() error {
		w.bell.limit = w.step.limit(it.input, it.record)
		return nil
	})
	return next <= w.bell.limit, err
}

// ticksMustWait reports that the i-th item was a tick after which, in a simulated run, no more timers fire for now. The log may
// hold another tick of the same timer, for one whose acknowledgement was lost is appended again: in this batch it would be
// stale, but behind a record that sets the timer again it lets it fire, and where a batch ends must not show.
func (w *worker[I, S, P]) ticksMustWait(i int) bool {
	return w.step.alarms != nil && w.step.inputs[w.batch.items[i].input].ticks && !w.holding()
}

// reached reports whether the tick need not wait any longer for the positions at which it was made.
func (w *worker[I, S, P]) reached(r *Record) bool {
	after := header(r, "after")
	if len(after) == 0 || string(header(r, "source")) != w.step.inputs[len(w.feeds)-1].source {
		return true
	}
	if w.bell.offset != r.Offset {
		w.bell.offset, w.bell.after = r.Offset, parsePositions(after)
	}
	for i := range w.feeds[:len(w.feeds)-1] {
		if w.feeds[i].position() < w.bell.after[w.step.inputs[i].topic] {
			return false
		}
	}
	return true
}

// heed makes sure that nothing which was published before a clock tick is overlooked when it has been taken.
func (w *worker[I, S, P]) heed(a fetched) error {
	if w.step.alarms == nil || !w.step.inputs[a.input].ticks {
		return nil
	}
	clock := false
	for i := range a.records {
		clock = clock || len(a.records[i].Key) == 0
	}
	for i := range w.feeds[:len(w.feeds)-1] {
		if !clock {
			break
		}
		err := w.retry(w.ctx, "bounds", func() error {
			_, end, err := w.rt.Log.Bounds(w.ctx, w.step.inputs[i].wire, w.partition)
			w.feeds[i].end = max(w.feeds[i].end, end)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// look reads what the other service knows of the keys of the batch, where the Job asks for it.
func (w *worker[I, S, P]) look(late context.Context) error {
	b, l := &w.batch, w.job.Lookup
	if l == nil {
		return nil
	}
	if b.seen == nil {
		b.seen = map[string]Seen{}
	}
	clear(b.seen)
	b.wanted = b.wanted[:0]
	w.step.seen = func(r *Record) Seen { return b.seen[string(r.Key)] }
	if err := guard(w.want); err != nil {
		return err
	}
	if len(b.wanted) == 0 {
		return nil
	}
	var s Snapshot
	err := w.retry(late, "look up", func() (err error) {
		s, err = w.rt.Store.Peek(late, w.rt.Run.Group(l.Service), w.partition, b.wanted)
		return err
	})
	if err != nil {
		return err
	}
	seen := Seen{Rebuilding: s.Lost || len(s.Rebuilding) > 0, Partial: s.Partial}
	if at := s.Positions[l.Input]; at > 0 {
		seen.Position = fmt.Sprintf("%s:%d:%d", l.Input, w.partition, at-1)
	}
	for i, key := range b.wanted {
		seen.Value = s.Values[i]
		b.seen[key] = seen
	}
	return nil
}

// want lists the keys of records that need a look-up.
func (w *worker[I, S, P]) want() error {
	b := &w.batch
	for i := range b.items {
		it := &b.items[i]
		in := &w.step.inputs[it.input]
		if it.entry == nil {
			continue
		}
		if _, listed := b.seen[it.entry.key]; listed {
			continue
		}
		if !in.ticks {
			if _, _, err := w.step.decode(in, it.record); err != nil || !w.job.Lookup.Wanted(&w.step.in) {
				continue
			}
		}
		b.seen[it.entry.key] = Seen{}
		b.wanted = append(b.wanted, it.entry.key)
	}
	return nil
}
