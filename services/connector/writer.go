package connector

import (
	"context"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// writer appends records to one partition of one topic for many goroutines: what arrives while a request is under way
// goes into the next one together, so that an intent costs no round trip of its own when there are many.
type writer struct {
	log       stream.Log
	topic     string // on the wire
	partition int32
	queue     chan write
	retrying  func(op string, err error)
	sleep     func(ctx context.Context, d time.Duration) error
}

type write struct {
	message stream.Message
	done    chan struct{} // closed when it is acknowledged
}

// writeBatch bounds one request.
const writeBatch = 500

// append returns nil when the message is acknowledged by all in-sync replicas. Failures are retried until ctx ends.
func (w *writer) append(ctx context.Context, m stream.Message) error {
	job := write{m, make(chan struct{})}
	select {
	case w.queue <- job:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-job.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run serves append until ctx ends.
func (w *writer) run(ctx context.Context) {
	var producer stream.Producer
	defer func() {
		if producer != nil {
			producer.Close()
		}
	}()
	for {
		var batch []write
		select {
		case job := <-w.queue:
			batch = append(batch, job)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(batch) < writeBatch; {
			select {
			case job := <-w.queue:
				batch = append(batch, job)
			default:
				more = false
			}
		}
		messages := make([]stream.Message, len(batch))
		for i := range batch {
			messages[i] = batch[i].message
		}
		for b := (backoff{}); ; {
			err := error(nil)
			if producer == nil {
				producer, err = w.log.Producer(ctx)
			}
			if err == nil {
				_, err = producer.Produce(ctx, w.topic, w.partition, messages)
			}
			if err == nil {
				break
			}
			if producer != nil { // after an error it is spent
				producer.Close()
				producer = nil
			}
			w.retrying("produce", err)
			if w.sleep(ctx, b.next()) != nil {
				return
			}
		}
		for i := range batch {
			close(batch[i].done)
		}
	}
}

// backoff is a pause that doubles from a quarter of a second up to ten seconds.
type backoff struct{ last time.Duration }

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, 250*time.Millisecond), 10*time.Second)
	return b.last
}
