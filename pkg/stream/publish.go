package stream

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"
	"time"
)

// segmentBytes bounds the messages of one produce request: below a broker's default message.max.bytes of 1 MiB.
const segmentBytes = 900 << 10

// deliver publishes stored outbox bytes and returns when every output is acknowledged, or with the error of ctx. Within an
// output partition nothing overtakes anything: a consumer that drops what is not above the highest position it has seen
// would lose it.
func (w *worker[I, S, P]) deliver(ctx context.Context, b []byte) error {
	todo, err := parcels(b)
	if err != nil {
		return err
	}
	return w.ship(ctx, todo)
}

// deliverAgain publishes the outbox that a takeover finds, unless this worker has done so before: a partition that waits for
// somebody to decide, or for a mistake to be mended, is taken over every few seconds, and nobody needs a copy of each.
func (w *worker[I, S, P]) deliverAgain(b []byte) error {
	sum := sha256.Sum256(b)
	if sum == w.again {
		return nil
	}
	if err := w.deliver(w.ctx, b); err != nil {
		return err
	}
	w.again = sum
	return nil
}

// ship publishes parcels and returns when all is acknowledged.
func (w *worker[I, S, P]) ship(ctx context.Context, todo []parcel) error {
	return w.retry(ctx, "publish", func() error {
		if w.producer == nil {
			p, err := w.rt.Log.Producer(ctx)
			if err != nil {
				return err
			}
			w.producer = p
		}
		errs := make([]error, len(todo))
		var all sync.WaitGroup
		for i := range todo[min(1, len(todo)):] {
			all.Go(func() { errs[i+1] = w.send(ctx, &todo[i+1]) })
		}
		if len(todo) > 0 {
			errs[0] = w.send(ctx, &todo[0])
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				w.producer.Close() // spent
				w.producer = nil
				return err
			}
		}
		return nil
	})
}

// send publishes the messages of a parcel, in requests of bounded size, and drops from it what is acknowledged.
func (w *worker[I, S, P]) send(ctx context.Context, p *parcel) error {
	limit := segmentBytes
	if t := w.wire[p.topic]; t != nil && t.max > 0 {
		limit = min(limit, t.max)
	}
	for len(p.messages) > 0 {
		n, size := 0, 0
		for n < len(p.messages) {
			if size += recordSize(&p.messages[n]); size > limit && n > 0 {
				break
			}
			n++
		}
		base, err := w.producer.Produce(ctx, p.topic, p.partition, p.messages[:n])
		if err != nil {
			return err
		}
		p.messages, p.end = p.messages[n:], base+int64(n)
	}
	return nil
}

// recordSize bounds from above what the broker will count for a message.
func recordSize(m *Message) int {
	n := recordOverhead + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += headerOverhead + len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

// hinter writes group offsets beside the worker, at once when nothing was written lately and else at most every
// hintInterval: lag tools wait for them.
type hinter struct {
	mu      sync.Mutex
	offsets map[string]int64 // acknowledged and not yet written
	wake    chan struct{}
	done    chan struct{}
	stop    context.CancelFunc
}

const hintInterval = 200 * time.Millisecond

func (w *worker[I, S, P]) startHints(ctx context.Context) *hinter {
	h := &hinter{wake: make(chan struct{}, 1), done: make(chan struct{}), offsets: map[string]int64{}}
	ctx, h.stop = context.WithCancel(ctx)
	go func() {
		defer close(h.done)
		var pause backoff
		for {
			select {
			case <-h.wake:
			case <-ctx.Done():
				return
			}
			offsets := h.take()
			if len(offsets) == 0 {
				continue
			}
			if err := w.a.Hint(ctx, offsets); err != nil && ctx.Err() == nil {
				w.failed("hint", err)
				h.put(offsets)
				if !pause.wait(ctx) {
					return
				}
				continue
			}
			pause.reset()
			t := time.NewTimer(hintInterval)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
	}()
	return h
}

// put notes offsets to be written; a higher one that came meanwhile stays.
func (h *hinter) put(offsets map[string]int64) {
	h.mu.Lock()
	for topic, o := range offsets {
		h.offsets[topic] = max(h.offsets[topic], o)
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hinter) take() map[string]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := maps.Clone(h.offsets)
	clear(h.offsets)
	return o
}

// finish ends the goroutine.
func (h *hinter) finish() {
	h.stop()
	<-h.done
}
