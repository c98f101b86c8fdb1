package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// maxPending bounds, for one partition, the bytes of records that wait for a request in flight; more wait outside.
const maxPending = 8 << 20

var errWriterClosed = errors.New("kafka: writer is closed")

// contentType is the header that the Kafka protocol binding of CloudEvents asks for in structured mode.
var contentType = []stream.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}}

// Writer writes records of a run for programs that are no Job: at the edges, in imports, in tests. Every call returns only
// when its records are acknowledged by all in-sync replicas. Calls may come from many goroutines: what comes while a
// request is in flight to a partition goes together with the next. An error leaves open whether a record was written, and
// whoever writes it again may write it twice; readers drop what repeats an id.
type Writer struct {
	log    *Log
	run    stream.Run
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	all    sync.WaitGroup

	making   sync.Mutex // held while a producer is made
	producer stream.Producer

	mu     sync.Mutex
	closed bool
	topics map[string]stream.TopicInfo // by name on the wire
	queues map[lane]*queue
}

// queue is what waits for one partition.
type queue struct {
	busy    bool
	bytes   int
	waiting []*batch
	room    chan struct{} // closed when the queue was taken
}

// batch is what one call writes into one partition.
type batch struct {
	msgs []stream.Message
	size int
	done chan error
}

// NewWriter opens a writer for a run. ctx is for opening only.
func NewWriter(ctx context.Context, l *Log, run stream.Run) (*Writer, error) {
	p, err := l.Producer(ctx)
	if err != nil {
		return nil, err
	}
	w := &Writer{log: l, run: run, producer: p, topics: map[string]stream.TopicInfo{}, queues: map[lane]*queue{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w, nil
}

// Write writes one CloudEvent in structured JSON. topic is a declared name, t the record's timestamp: zero is now.
// ErrTooLarge answers a record that the topic does not accept, stream.ErrUnknownTopic a topic that does not exist.
func (w *Writer) Write(ctx context.Context, topic string, key, value []byte, t time.Time) error {
	return w.WriteAll(ctx, topic, []stream.Message{{Key: key, Value: value, Headers: contentType, Time: t}})
}

// WriteAll writes msgs, each to the partition of its key and in order within it. Messages without a key go to partition 0.
// They must not be changed until it returns, and never where ctx ended first. Where one of them is too large, none is
// written.
func (w *Writer) WriteAll(ctx context.Context, topic string, msgs []stream.Message) error {
	name := w.run.Topic(topic)
	info, err := w.info(ctx, name)
	if err != nil {
		return fmt.Errorf("write to %s: %w", name, err)
	}
	by := make(map[int32]*batch)
	for i := range msgs {
		m := &msgs[i]
		body := recordBody(m, 0, 0)
		size := batchHeader + varintLen(int64(body)) + body
		if size > info.MaxMessageBytes {
			return fmt.Errorf("write to %s: %w: %d bytes, %d are accepted", name, ErrTooLarge, size, info.MaxMessageBytes)
		}
		p := int32(0)
		if m.Key != nil {
			p = stream.Partition(m.Key, info.Partitions)
		}
		b := by[p]
		if b == nil {
			b = &batch{done: make(chan error, 1)}
			by[p] = b
		}
		b.msgs = append(b.msgs, *m)
		b.size += size
	}
	return w.write(ctx, name, by)
}

// Broadcast writes one CloudEvent, without a key, into every partition of topic (a declared name).
func (w *Writer) Broadcast(ctx context.Context, topic string, value []byte, t time.Time) error {
	name := w.run.Topic(topic)
	info, err := w.info(ctx, name)
	if err != nil {
		return fmt.Errorf("write to %s: %w", name, err)
	}
	m := stream.Message{Value: value, Headers: contentType, Time: t}
	by := make(map[int32]*batch, info.Partitions)
	for p := range info.Partitions {
		by[p] = &batch{msgs: []stream.Message{m}, size: len(value), done: make(chan error, 1)}
	}
	return w.write(ctx, name, by)
}

func (w *Writer) write(ctx context.Context, topic string, by map[int32]*batch) error {
	var problems []error
	for p, b := range by {
		if err := w.enqueue(ctx, lane{topic, p}, b); err != nil {
			problems = append(problems, err)
			delete(by, p)
		}
	}
	for _, b := range by {
		select {
		case err := <-b.done:
			problems = append(problems, err)
		case <-ctx.Done():
			problems = append(problems, ctx.Err())
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("write to %s: %w", topic, err)
	}
	return nil
}

// enqueue hands b to the partition's queue, and starts a goroutine on it where none is at work.
func (w *Writer) enqueue(ctx context.Context, k lane, b *batch) error {
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return errWriterClosed
		}
		q := w.queues[k]
		if q == nil {
			q = &queue{room: make(chan struct{})}
			w.queues[k] = q
		}
		if q.bytes < maxPending {
			q.waiting = append(q.waiting, b)
			q.bytes += b.size
			if !q.busy {
				q.busy = true
				w.all.Go(func() { w.flush(k, q) })
			}
			w.mu.Unlock()
			return nil
		}
		room := q.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flush writes what waits in q until nothing does.
func (w *Writer) flush(k lane, q *queue) {
	var msgs []stream.Message
	for {
		w.mu.Lock()
		batches := q.waiting
		if len(batches) == 0 {
			q.busy = false
			w.mu.Unlock()
			return
		}
		q.waiting, q.bytes = nil, 0
		close(q.room)
		q.room = make(chan struct{})
		w.mu.Unlock()
		msgs = msgs[:0]
		for _, b := range batches {
			msgs = append(msgs, b.msgs...)
		}
		err := w.produce(k, msgs)
		for _, b := range batches {
			b.done <- err
		}
	}
}

// produce writes to one partition. A producer that failed is replaced for whoever comes next.
func (w *Writer) produce(k lane, msgs []stream.Message) error {
	p, err := w.current()
	if err != nil {
		return err
	}
	if _, err = p.Produce(w.ctx, k.topic, k.partition, msgs); err == nil {
		return nil
	}
	if w.ctx.Err() != nil {
		return errWriterClosed
	}
	w.making.Lock()
	defer w.making.Unlock()
	if w.producer == p {
		w.producer = nil
	}
	return err
}

func (w *Writer) current() (stream.Producer, error) {
	w.making.Lock()
	defer w.making.Unlock()
	if w.producer == nil {
		p, err := w.log.Producer(w.ctx)
		if err != nil {
			return nil, err
		}
		w.producer = p
	}
	return w.producer, nil
}

func (w *Writer) info(ctx context.Context, topic string) (stream.TopicInfo, error) {
	w.mu.Lock()
	info, ok := w.topics[topic]
	w.mu.Unlock()
	if ok {
		return info, nil
	}
	infos, err := w.log.Topics(ctx, topic)
	if err != nil {
		return stream.TopicInfo{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.topics[topic] = infos[topic]
	return infos[topic], nil
}

// Close gives up what is still being written: callers that wait get an error.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel()
	w.all.Wait()
	return nil
}
