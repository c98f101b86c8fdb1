package stream

import (
	"context"
	"maps"
	"runtime/debug"
	"strings"
	"time"
)

// batch is what is committed at once. Its slices are reused.
type batch[S any] struct {
	items   []item[S]
	dirty   []*entry[S]
	missing []*entry[S]
	keys    []string
	values  [][]byte
	states  []byte // the encoded states, one after the other
	ends    []int  // of each
	part    []byte

	wanted []string // keys to look up in the state of another service
	seen   map[string]Seen
}

// item is one record and the state of its key (nil for a broadcast input).
type item[S any] struct {
	input  int
	record *Record
	entry  *entry[S]
}

// gather waits until there is something to do and takes what is at hand, in order. ok is false when the assignment ends.
func (w *worker[I, S, P]) gather(late context.Context) (ok bool, err error) {
	idle := time.NewTimer(idleCheck)
	defer idle.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return false, nil
		case f := <-w.arrivals:
			if err := w.arrived(f); err != nil {
				return false, err
			}
			continue
		default:
		}
		if err := w.ring(late); err != nil {
			return false, err
		}
		if w.take() {
			return true, nil
		}
		var acks chan error
		if w.inFlight {
			acks = w.acks
		}
		select {
		case <-w.ctx.Done():
			return false, nil
		case f := <-w.arrivals:
			if err := w.arrived(f); err != nil {
				return false, err
			}
		case err := <-acks:
			if err := w.settle(err); err != nil {
				return false, err
			}
		case <-idle.C:
			if err := w.retry(late, "check", func() error { return w.lease.Check(late) }); err != nil {
				return false, err
			}
			w.pause.reset()
			w.cache.trim(w.caches.share()) // others may have come to be owned
			idle.Reset(idleCheck)
		case <-w.alarmClock():
		}
	}
}

func (w *worker[I, S, P]) arrived(a fetched) error {
	if a.err != nil {
		return a.err
	}
	f := &w.feeds[a.input]
	f.records, f.taken, f.next, f.end, f.waiting = a.records, 0, a.next, max(a.end, f.end), false
	if len(f.records) == 0 {
		f.release()
	}
	return w.heed(a)
}

// release lets the goroutine fetch the next records: nobody looks at these any more.
func (f *feed) release() {
	if !f.waiting && f.taken == len(f.records) {
		f.records, f.taken, f.waiting = nil, 0, true
		f.more <- struct{}{}
	}
}

// take fills the batch with the records at hand, in order of record time, topic and offset. It takes nothing while an
// input whose log holds more has nothing at hand: otherwise the order would depend on who fetched first. A tick of ours is
// passed over until the positions are reached at which it was made.
func (w *worker[I, S, P]) take() bool {
	b := &w.batch
	b.items = b.items[:0]
	if w.holding() {
		return w.takeTicks()
	}
	bytes := 0
	for len(b.items) < w.rt.BatchRecords && bytes < w.rt.BatchBytes {
		best := -1
		for i := range w.feeds {
			f := &w.feeds[i]
			if f.behind() {
				best = -1
				break
			}
			if f.taken < len(f.records) && (best < 0 || w.before(i, best)) && (!w.step.inputs[i].ticks || w.reached(&f.records[f.taken])) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		f := &w.feeds[best]
		r := &f.records[f.taken]
		f.taken++
		b.items = append(b.items, item[S]{input: best, record: r})
		bytes += len(r.Key) + len(r.Value)
	}
	if len(b.items) > 0 {
		return true
	}
	for i := range w.feeds { // a position may move without records: offsets have gaps
		if f := &w.feeds[i]; f.position() > w.positions[w.step.inputs[i].topic] {
			return true
		}
	}
	return false
}

// before reports whether the next record of input i comes before that of input j.
func (w *worker[I, S, P]) before(i, j int) bool {
	a, b := &w.feeds[i], &w.feeds[j]
	if d := a.records[a.taken].Time.Compare(b.records[b.taken].Time); d != 0 {
		return d < 0
	}
	return w.step.inputs[i].rank < w.step.inputs[j].rank
}

// process loads, steps, commits and publishes the batch. Its outputs are being published when it returns.
func (w *worker[I, S, P]) process(late context.Context) error {
	b := &w.batch
	report := &w.reports[w.turn]
	report.reset(w.job.Service, w.partition)
	began := time.Now()
	report.Start = began

	if err := w.load(late, report); err != nil {
		return err
	}
	if err := w.look(late); err != nil {
		return err
	}
	loaded := time.Now()
	report.Load = loaded.Sub(began)

	box := w.boxes[w.turn]
	if err := w.stepAll(box, loaded, report); err != nil {
		return err
	}
	next := map[string]int64{}
	for topic, o := range w.positions {
		next[topic] = o // those of former inputs stay
	}
	whole := len(w.rebuilding) > 0
	for i := range w.feeds {
		topic := w.step.inputs[i].topic
		next[topic] = w.feeds[i].position()
		whole = whole && next[topic] >= w.rebuilding[topic]
		report.Inputs[i].Next, report.Inputs[i].Lag = next[topic], max(w.feeds[i].end-next[topic], 0)
		report.LagRecords += report.Inputs[i].Lag
	}
	if report.LagRecords > 0 && len(b.items) > 0 {
		report.Lag = max(loaded.Sub(b.items[len(b.items)-1].record.Time), 0)
	}
	if whole {
		w.rebuilding = nil
	}
	c := &Commit{Base: w.positions, Next: next, Keys: b.keys, Values: b.values, Timers: w.step.rearmed.list, Partition: b.part, Broadcast: w.step.broadcast,
		Outbox: box.bytes(), Partitions: w.partitions, Rebuilding: formatPositions(w.rebuilding), Partial: w.step.ctx.partial}
	for i := range w.feeds {
		w.feeds[i].release() // from here on only encoded bytes are needed, so fetching goes on
	}
	if maps.Equal(next, w.positions) {
		return nil // timers are to fire before the first record
	}
	report.Ticks, w.bell.appended = w.bell.appended, 0
	w.sweep(late, c, report)
	stepped := time.Now()
	report.Step = stepped.Sub(loaded)

	if err := w.acknowledged(late); err != nil {
		return err
	}
	acked := time.Now()
	report.Wait = acked.Sub(stepped)

	if err := w.retry(late, "commit", func() error { return w.lease.Commit(late, c) }); err != nil {
		return err
	}
	report.Commit = time.Since(acked)
	w.positions, w.dirtyBox = next, box.count > 0
	clear(w.step.broadcast)
	w.bell.set(w.step.rearmed.list)
	w.step.rearmed.reset()
	for _, e := range b.dirty {
		e.dirty = false
		w.cache.weigh(e)
	}
	w.cache.trim(w.caches.share())
	w.pause.reset()
	w.recovered(whole)
	w.publish(late, box)
	return nil
}

// load finds the state of every item, in the cache or else in the store, with one request for all that the cache lacks.
func (w *worker[I, S, P]) load(late context.Context, report *Report) error {
	b := &w.batch
	b.missing, b.keys, b.values = b.missing[:0], b.keys[:0], b.values[:0]
	for i := range b.items {
		it := &b.items[i]
		r := it.record
		report.Bytes += len(r.Key) + len(r.Value)
		report.Inputs[it.input].Records++
		if w.step.inputs[it.input].broadcast || len(r.Key) == 0 {
			continue // no key, no state
		}
		if it.entry = w.cache.get(r.Key); it.entry == nil {
			it.entry = w.cache.add(r.Key)
			b.missing = append(b.missing, it.entry)
			b.keys = append(b.keys, it.entry.key)
			b.values = append(b.values, nil)
		}
	}
	report.Records, report.Misses = len(b.items), len(b.missing)
	if len(b.missing) == 0 {
		return nil
	}
	if err := w.retry(late, "load", func() error { return w.lease.Load(late, b.keys, b.values) }); err != nil {
		return err
	}
	return guard(func() error {
		for i, e := range b.missing {
			if len(b.values[i]) > 0 {
				if err := w.job.State.Decode(b.values[i], &e.state); err != nil {
					return err
				}
			}
			w.step.arm(e)
			w.cache.weigh(e)
		}
		return nil
	})
}

// stepAll applies the items and encodes what they changed. If the outbox fills up, the rest of the items is given back.
func (w *worker[I, S, P]) stepAll(box *outbox, now time.Time, report *Report) error {
	b, c := &w.batch, &w.step.ctx
	box.reset()
	c.out, c.published, c.suppressed, c.letters, w.step.duplicates = box, now, 0, 0, 0
	w.step.fired, w.step.stale, w.step.late, w.step.expired = 0, 0, 0, 0
	b.dirty = b.dirty[:0]
	_, unobserved := w.rt.Observer.(nobody)
	for i := range b.items {
		it := &b.items[i]
		if wait, err := w.mustWait(it); err != nil {
			return err
		} else if wait {
			w.giveBack(i, report)
			break
		}
		touched, err := w.step.apply(it.input, it.record, it.entry)
		if err != nil {
			return err
		}
		if touched && it.entry != nil && !it.entry.dirty {
			it.entry.dirty = true
			b.dirty = append(b.dirty, it.entry)
		}
		if !unobserved {
			report.link(c.cause.Trace)
		}
		if len(box.buf) >= w.rt.OutboxBytes || w.ticksMustWait(i) {
			w.giveBack(i+1, report)
			break
		}
	}
	report.Fired, report.Stale, report.Late, report.Expired = w.step.fired, w.step.stale, w.step.late, w.step.expired
	report.Outputs, report.Suppressed, report.DeadLetters, report.Duplicates, report.Keys = box.count, c.suppressed, c.letters, w.step.duplicates, len(b.dirty)
	return guard(func() error {
		b.keys, b.values, b.states, b.ends = b.keys[:0], b.values[:0], b.states[:0], b.ends[:0]
		for _, e := range b.dirty {
			b.states = w.job.State.Append(b.states, &e.state)
			b.ends = append(b.ends, len(b.states))
		}
		start := 0
		for i, e := range b.dirty {
			b.keys, b.values = append(b.keys, e.key), append(b.values, b.states[start:b.ends[i]:b.ends[i]])
			start = b.ends[i]
		}
		b.part = w.step.appendPartition(b.part[:0])
		return nil
	})
}

// giveBack returns the items from the n-th on to their feeds.
func (w *worker[I, S, P]) giveBack(n int, report *Report) {
	b := &w.batch
	for _, it := range b.items[n:] {
		w.feeds[it.input].taken--
		report.Records--
		report.Inputs[it.input].Records--
		report.Bytes -= len(it.record.Key) + len(it.record.Value)
	}
	b.items = b.items[:n]
}

// publish starts the publication of a committed outbox. The other outbox and report are for the next batch.
func (w *worker[I, S, P]) publish(late context.Context, box *outbox) {
	w.inFlight = true
	stored := box.bytes()
	if len(stored) == 0 {
		w.acks <- nil
	} else {
		report, began := &w.reports[w.turn], time.Now()
		go func() {
			err := w.deliver(late, stored)
			report.Publish = time.Since(began)
			w.acks <- err
		}()
	}
	w.turn = 1 - w.turn
}

// acknowledged waits until the outputs of the batch before are.
func (w *worker[I, S, P]) acknowledged(late context.Context) error {
	if !w.inFlight {
		return nil
	}
	select {
	case err := <-w.acks:
		return w.settle(err)
	case <-late.Done(): // deliver ends with it, and own waits for that
		return late.Err()
	}
}

// settle takes note of the end of a publication.
func (w *worker[I, S, P]) settle(err error) error {
	w.inFlight = false
	if err != nil {
		return err
	}
	w.published = w.positions
	if offsets := w.offsets(); len(offsets) > 0 {
		w.hints.put(offsets)
	}
	w.rt.Observer.Batch(&w.reports[1-w.turn])
	return nil
}

// recovered ends the alarms whose reason is gone.
func (w *worker[I, S, P]) recovered(whole bool) {
	if len(w.alarms) == 0 {
		return
	}
	w.alarm(AlarmStep, false)
	if whole {
		w.log.Info("the lost state is whole again")
	}
	if len(w.rebuilding) == 0 {
		w.alarm(AlarmLost, false)
	}
	for i := range w.step.inputs {
		if w.positions[w.step.inputs[i].topic] < w.step.inputs[i].mute {
			return
		}
	}
	w.alarm(AlarmRollback, false)
}

// guard turns a panic of a codec into an error.
func guard(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return fn()
}

// reset empties a report but keeps its slices.
func (r *Report) reset(service string, partition int32) {
	inputs, links := r.Inputs, r.Links[:0]
	for i := range inputs {
		inputs[i] = InputReport{Topic: inputs[i].Topic}
	}
	*r = Report{Service: service, Partition: partition, Inputs: inputs, Links: links}
}

// link adds a traceparent whose sampled flag is set (W3C Trace Context: the last bit of the last byte of version 00).
func (r *Report) link(trace string) {
	if len(trace) != 55 || (trace[54]-'0')&1 == 0 || len(r.Links) >= MaxLinks {
		return
	}
	for _, l := range r.Links {
		if l == trace {
			return
		}
	}
	r.Links = append(r.Links, strings.Clone(trace))
}
