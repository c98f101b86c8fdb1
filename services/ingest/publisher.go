package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// publisher appends messages of many requests to the events topic. Each partition has one lane, which produces whatever
// has gathered while its last produce was under way: one message when it is quiet, many under load, and always in the
// order of arrival, so that a customer's events keep theirs.
type publisher struct {
	log    stream.Log
	topic  string
	lanes  []*lane
	room   budget
	health *app.Health
	logger *slog.Logger
}

// lane is one partition's queue.
type lane struct {
	mu    sync.Mutex
	queue []waiting
	wake  chan struct{} // holds one: something was queued
}

// waiting is a message with the request that waits for it.
type waiting struct {
	message stream.Message
	receipt *receipt
}

// receipt is what a request waits for.
type receipt struct {
	left     atomic.Int64
	done     chan struct{} // closed when Kafka has acknowledged all messages of the request
	released func()
}

// budget bounds the bytes that wait for Kafka, whoever has given up waiting with them.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take reserves n bytes, if there is room.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// give returns n reserved bytes; a negative n takes more than was reserved before, without asking.
func (b *budget) give(n int64) { b.used.Add(-n) }

// maxProduce bounds one produce, so that a backlog becomes several appends that Kafka accepts.
const maxProduce = 512 << 10

func newPublisher(ctx context.Context, log stream.Log, run stream.Run, limit int64, set app.Settings) (*publisher, error) {
	topic := run.Topic(topics.Events)
	infos, err := log.Topics(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("look up topic %s (tempismo topics creates what is missing): %w", topic, err)
	}
	p := &publisher{log: log, topic: topic, room: budget{limit: limit}, health: set.Health, logger: set.Log}
	for range infos[topic].Partitions {
		p.lanes = append(p.lanes, &lane{wake: make(chan struct{}, 1)})
	}
	if len(p.lanes) == 0 {
		return nil, fmt.Errorf("topic %s has no partitions", topic)
	}
	return p, nil
}

// run produces until ctx ends.
func (p *publisher) run(ctx context.Context) {
	var all sync.WaitGroup
	for i, l := range p.lanes {
		all.Go(func() { p.serve(ctx, l, int32(i)) })
	}
	all.Wait()
}

// publish queues messages; released is called when all are acknowledged, which may be long after the request has given up.
func (p *publisher) publish(messages []stream.Message, released func()) *receipt {
	r := &receipt{done: make(chan struct{}), released: released}
	r.left.Store(int64(len(messages)))
	if len(messages) == 0 {
		r.acknowledge(0)
	}
	for _, m := range messages {
		l := p.lanes[stream.Partition(m.Key, int32(len(p.lanes)))]
		l.mu.Lock()
		l.queue = append(l.queue, waiting{m, r})
		l.mu.Unlock()
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return r
}

func (r *receipt) acknowledge(n int64) {
	if r.left.Add(-n) == 0 {
		close(r.done)
		r.released()
	}
}

// take removes the messages that the next produce shall carry.
func (l *lane) take(batch []waiting) []waiting {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, n := 0, 0
	for n < len(l.queue) && (n == 0 || size+len(l.queue[n].message.Value) <= maxProduce) {
		size += len(l.queue[n].message.Value)
		n++
	}
	batch = append(batch[:0], l.queue[:n]...)
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:]) // else the bytes of what was taken stay reachable
	l.queue = l.queue[:rest]
	return batch
}

// serve is the only writer of its partition. It retries for ever: messages leave the lane acknowledged or not at all.
func (p *publisher) serve(ctx context.Context, l *lane, partition int32) {
	var (
		producer stream.Producer
		batch    []waiting
		messages []stream.Message
	)
	defer func() {
		if producer != nil {
			producer.Close()
		}
	}()
	for {
		if batch = l.take(batch); len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-l.wake:
			}
			continue
		}
		messages = messages[:0]
		for _, w := range batch {
			messages = append(messages, w.message)
		}
		for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
			var err error
			if producer == nil {
				producer, err = p.log.Producer(ctx)
			}
			if err == nil {
				if _, err = producer.Produce(ctx, p.topic, partition, messages); err == nil {
					break
				}
				// After an error a producer is spent. What it may have appended nevertheless is appended once more:
				// an event twice is one event to everybody who reads it.
				err = errors.Join(err, producer.Close())
				producer = nil
			}
			if ctx.Err() != nil {
				return
			}
			p.health.Set("kafka", false, "events cannot be appended")
			p.logger.Warn("events cannot be appended, trying again", "topic", p.topic, "partition", partition, "waiting", len(batch), "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause/2 + rand.N(pause/2)):
			}
		}
		p.health.Set("kafka", true, "")
		for _, w := range batch {
			w.receipt.acknowledge(1)
		}
		clear(batch)
		clear(messages)
	}
}
