package connector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
)

// worker carries out the decisions of one partition for as long as this process owns it.
//
// Decisions are dealt with concurrently, each on a goroutine of its own, but those of one customer one after the other.
// The group's offset follows the first decision that has no acknowledged result yet: it is where the next owner begins.
type worker struct {
	*service
	assignment    stream.Assignment
	decisions     string // topic on the wire
	outcomesTopic string // topic on the wire
	outcomes      *writer
	letters       *writer
	ledger        *ledger
	told          *told
	logger        *slog.Logger

	room     chan struct{}            // decisions under way
	last     map[string]chan struct{} // by customer: closed when the last decision taken up so far is done
	progress progress
	seen     atomic.Int64 // highest event time of a decision read, Unix nanoseconds: the clock of a simulated run
}

// maxPending bounds the decisions of a partition that are under way or wait for another attempt.
const maxPending = 1024

// skew is by how much clocks of different machines may differ.
const skew = 5 * time.Minute

func (w *worker) writer(topic string, partition int32) *writer {
	return &writer{log: w.log, topic: topic, partition: partition, queue: make(chan write), retrying: w.retrying, sleep: w.clock.Sleep}
}

// follow prepares the reading of what customers say.
func (w *worker) follow() {
	w.told = newTold(w.log, w.run, w.assignment.Partition())
	deaf := false // owned by whoever reads
	w.told.retry = func(ctx context.Context, op string, f func() error) error {
		return w.retry(ctx, op, func() error {
			err := f()
			switch {
			case err != nil && ctx.Err() == nil:
				w.health.Set("consents", false, "it cannot be read what customers have said, and the policy, so nobody is called")
				deaf = true
			case err == nil && deaf:
				w.health.Set("consents", true, "")
				deaf = false
			}
			return err
		})
	}
	w.told.now = w.clock.Now
	if w.run.Simulated { // its records have times of their own: everything is read, and nothing forgotten
		w.told.now = func() time.Time { return time.Time{} }
	}
	w.told.unread = func(topic string) { count(w.metrics.unread, with("topic", topic)) }
}

// work deals with decisions until ctx ends.
func (w *worker) work(ctx context.Context) error {
	offset, err := w.takeover(ctx)
	if err != nil {
		return err
	}
	w.progress.start(offset)

	// What is under way when ctx ends gets a little longer: a call that is cut off may have been a message sent.
	late, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		if w.clock.Sleep(late, grace) == nil {
			stop()
		}
	})()

	var deliveries, writers, joining sync.WaitGroup
	writers.Go(func() { w.outcomes.run(late) })
	writers.Go(func() { w.letters.run(late) })
	if w.target.crm != nil {
		joining.Go(func() { w.join(ctx, late) })
	}
	err = w.read(ctx, late, offset, &deliveries)
	deliveries.Wait()
	joining.Wait()
	w.hint(late)
	stop()
	writers.Wait()
	w.told.close()
	return err
}

// takeover finds where to begin, and rebuilds the ledger: from the time of the first record not known to be done, and
// further back by as much as a decision can live, for copies of decisions from before, and by as much as caps look back, for those.
func (w *worker) takeover(ctx context.Context) (offset int64, err error) {
	partition := w.assignment.Partition()
	err = w.retry(ctx, "takeover", func() error {
		start, end, err := w.log.Bounds(ctx, w.decisions, partition)
		if err != nil {
			return fmt.Errorf("bounds of %s/%d: %w", w.decisions, partition, err)
		}
		if offset, err = w.assignment.Hinted(ctx, w.decisions); err != nil {
			return fmt.Errorf("stored offset of %s/%d: %w", w.decisions, partition, err)
		}
		if offset >= 0 && (offset < start || offset > end) {
			w.logger.ErrorContext(ctx, "the stored offset is outside the log; beginning at its start, where all that was sent is in the ledger and the rest has expired",
				"offset", offset, "log_start", start, "log_end", end)
		}
		if offset < start || offset > end {
			offset = start // -1, no offset stored, too
		}
		now := w.clock.Now()
		since := now
		if offset < end {
			t, err := timeAt(ctx, w.log, w.decisions, partition, offset)
			if err != nil {
				return err
			}
			if !t.IsZero() && t.Before(since) {
				since = t
			}
		}
		if life := now.Add(-decision.MaxExpiry); life.Before(since) {
			since = life
		}
		before := since
		if caps := now.Add(-decision.Memory); !w.run.Simulated && caps.Before(before) {
			before = caps
		}
		w.ledger = newLedger()
		return rebuild(ctx, w.log, w.outcomesTopic, partition, w.name, before.Add(-skew), since.Add(-skew), now, w.ledger)
	})
	return offset, err
}

// read reads decisions from offset on and starts a delivery for each, until ctx ends.
func (w *worker) read(ctx, late context.Context, offset int64, deliveries *sync.WaitGroup) error {
	var cursor stream.Cursor
	defer func() {
		if cursor != nil {
			cursor.Close()
		}
	}()
	for b := (backoff{}); ctx.Err() == nil; {
		records, err := []stream.Record(nil), error(nil)
		if cursor == nil {
			cursor, err = w.log.Open(ctx, w.decisions, w.assignment.Partition(), offset)
		}
		if err == nil {
			records, err = cursor.Fetch(ctx, 256<<10, 200*time.Millisecond)
		}
		if errors.Is(err, stream.ErrOffsetOutOfRange) {
			return fmt.Errorf("read %s at %d: %w", w.decisions, offset, err)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if cursor != nil {
				cursor.Close()
				cursor = nil
			}
			w.retrying("fetch", err)
			if w.clock.Sleep(ctx, b.next()) != nil {
				return nil
			}
			continue
		}
		b = backoff{}
		w.health.Set("kafka", true, "")
		for i := range records {
			if !w.take(ctx, late, &records[i], deliveries) {
				return nil
			}
		}
		offset = cursor.Next()
		w.hint(ctx)
	}
	return nil
}

// take starts what one record asks for, once there is room. It reports false when ctx ended first.
func (w *worker) take(ctx, late context.Context, r *stream.Record, deliveries *sync.WaitGroup) bool {
	d, err := parse(r, w.run)
	switch {
	case err != nil:
	case d.typ != decision.SendNowType:
		w.see(d.time)
		count(w.metrics.ignored, with("type", d.typ))
		w.progress.finish(w.progress.begin(r.Offset))
		return true
	default:
		d.seen = w.see(d.time)
	}

	select {
	case w.room <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	position := w.progress.begin(r.Offset)
	w.metrics.pending.Add(ctx, 1)
	release := func() {
		<-w.room
		w.metrics.pending.Add(context.Background(), -1)
	}
	if err != nil {
		letter := setAside(r, err)
		deliveries.Go(func() {
			defer release()
			if w.letters.append(late, letter) == nil {
				count(w.metrics.letters)
				w.logger.WarnContext(ctx, "a decision was set aside", "offset", position, "error", err)
				w.progress.finish(position)
			}
		})
		return true
	}
	before, done := w.last[d.customer], make(chan struct{})
	w.last[d.customer] = done
	if len(w.last) > 2*maxPending {
		w.forgetDone()
	}
	deliveries.Go(func() {
		defer release()
		defer close(done)
		if before != nil {
			select {
			case <-before:
			case <-ctx.Done():
				return
			}
		}
		if w.deliver(ctx, late, d) {
			w.progress.finish(position)
		}
	})
	return true
}

// forgetDone takes customers out of last for whom nothing is under way.
func (w *worker) forgetDone() {
	for customer, done := range w.last {
		select {
		case <-done:
			delete(w.last, customer)
		default:
		}
	}
}

// see advances the clock of a simulated run, and returns it.
func (w *worker) see(t time.Time) time.Time {
	if n := t.UnixNano(); n > w.seen.Load() { // only the reader writes it
		w.seen.Store(n)
	}
	return time.Unix(0, w.seen.Load()).UTC()
}

// hint tells the group how far everything is done. It serves the next owner, who may well begin earlier than he must: a
// failure is repeated at the next call.
func (w *worker) hint(ctx context.Context) {
	next, news := w.progress.done()
	if !news {
		return
	}
	if err := w.assignment.Hint(ctx, map[string]int64{w.decisions: next}); err != nil {
		if ctx.Err() == nil {
			w.retrying("hint", err)
		}
		return
	}
	w.progress.told(next)
}

// progress finds the offset before which everything is done, while records finish in any order.
type progress struct {
	mu    sync.Mutex
	open  []int64        // offsets begun and not known to be done before the first one open, in order
	ended map[int64]bool // those of them that are done
	next  int64          // everything before is done
	hint  int64          // last one told to the group
}

func (p *progress) start(offset int64) {
	p.next, p.hint, p.ended = offset, offset, map[int64]bool{}
}

func (p *progress) begin(offset int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = append(p.open, offset)
	return offset
}

func (p *progress) finish(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended[offset] = true
	for len(p.open) > 0 && p.ended[p.open[0]] {
		delete(p.ended, p.open[0])
		p.next = p.open[0] + 1
		p.open = p.open[1:]
	}
}

// done returns the offset before which everything is done, and whether the group has not been told yet.
func (p *progress) done() (next int64, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next, p.next != p.hint
}

func (p *progress) told(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hint = next
}

// setAside is the dead letter of a record: its bytes and headers, and headers that say why, as the runtime writes them.
func setAside(r *stream.Record, why error) stream.Message {
	header := func(key, value string) stream.Header {
		return stream.Header{Key: "__connect.errors." + key, Value: []byte(value)}
	}
	m := stream.Message{Key: clone(r.Key), Value: clone(r.Value)}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, stream.Header{Key: h.Key, Value: clone(h.Value)})
	}
	m.Headers = append(m.Headers,
		header("topic", r.Topic),
		header("partition", strconv.Itoa(int(r.Partition))),
		header("offset", strconv.FormatInt(r.Offset, 10)),
		header("class.name", "decision"),
		header("exception.message", why.Error()),
		header("stage", "decode"),
	)
	return m
}

// clone copies what lives only until the next fetch; nil stays nil.
func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}
