package main

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// create makes a topic as t is to be, or a copy of it, from which nothing leaves by age. partitions is one number, if it is not
// that of the new run.
func (m *move) create(ctx context.Context, name string, t plannedTopic, beside bool, partitions ...int32) error {
	settings := map[string]*string{}
	for k, v := range t.Settings {
		settings[k] = v
	}
	if beside {
		forever, drop := "-1", "delete"
		settings["retention.ms"], settings["retention.bytes"], settings["cleanup.policy"] = &forever, &forever, &drop
	}
	n := m.after
	if len(partitions) > 0 {
		n = partitions[0]
	}
	return m.sys.log.Create(ctx, name, n, t.Replicas, settings)
}

// rekey copies a topic, each record to the partition that its key has among the new ones, in order of their timestamps. note,
// where it is given, is told of each record and of its new position. It returns the ends of the copy.
func (m *move) rekey(ctx context.Context, topic string, ends []int64, note func(r *stream.Record, q int32, at int64)) ([]int64, error) {
	out, err := newSpread(ctx, m.sys.log, m.copyOf(topic), m.after)
	if err != nil {
		return nil, err
	}
	broadcast := isBroadcast(topic)
	seen := map[[sha256.Size]byte]bool{}
	err = inOrder(ctx, m.sys.log, topic, ends, func(r *stream.Record) error {
		msg := stream.Message{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Time: r.Time}
		for _, h := range r.Headers {
			msg.Headers = append(msg.Headers, stream.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		if broadcast { // every version stands in every partition: the first copy of it goes into every new one
			if sum := sha256.Sum256(r.Value); seen[sum] {
				return nil
			} else {
				seen[sum] = true
			}
			for q := range m.after {
				if err := out.put(ctx, q, msg); err != nil {
					return err
				}
			}
			return nil
		}
		q := r.Partition % m.after // what has no key belongs to no customer
		if len(r.Key) > 0 {
			q = stream.Partition(r.Key, m.after)
		}
		if note != nil {
			note(r, q, out.ends[q])
		}
		return out.put(ctx, q, msg)
	})
	if err != nil {
		return nil, errors.Join(err, out.close())
	}
	if err := errors.Join(out.flush(ctx), out.close()); err != nil {
		return nil, err
	}
	return out.ends, m.complete(ctx, m.copyOf(topic), out.ends)
}

// restore copies a copy back, partition by partition.
func (m *move) restore(ctx context.Context, topic string) error {
	out, err := newSpread(ctx, m.sys.log, topic, m.after)
	if err != nil {
		return err
	}
	by, err := kafka.Latest(ctx, m.sys.log, m.copyOf(topic))
	if err != nil {
		return errors.Join(err, out.close())
	}
	ends := make([]int64, m.after)
	for q := range ends {
		ends[q] = by[int32(q)]
	}
	err = inOrder(ctx, m.sys.log, m.copyOf(topic), ends, func(r *stream.Record) error {
		msg := stream.Message{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value), Time: r.Time}
		for _, h := range r.Headers {
			msg.Headers = append(msg.Headers, stream.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
		return out.put(ctx, r.Partition, msg)
	})
	if err := errors.Join(err, out.flush(ctx), out.close()); err != nil {
		return err
	}
	if !slices.Equal(out.ends, ends) {
		return fmt.Errorf("the copy ends at %v, but %v were read", ends, out.ends)
	}
	return m.complete(ctx, topic, out.ends)
}

// complete checks that a topic that was written holds what was written.
func (m *move) complete(ctx context.Context, topic string, want []int64) error {
	by, err := kafka.Latest(ctx, m.sys.log, topic)
	if err != nil {
		return err
	}
	for q, n := range want {
		if by[int32(q)] != n {
			return fmt.Errorf("%s ends at %d in partition %d, %d records were written: somebody else writes to it", topic, by[int32(q)], q, n)
		}
	}
	return nil
}

func isBroadcast(topic string) bool {
	return slices.ContainsFunc(topics.All, func(t topics.Topic) bool { return t.Name == topic && t.Kind == topics.Broadcast })
}

// spread writes records to the partitions of a topic.
type spread struct {
	producer stream.Producer
	topic    string
	waiting  [][]stream.Message
	sizes    []int
	ends     []int64 // where the next record will stand
}

// spreadBytes is how much waits for a partition before it is written.
const spreadBytes = 512 << 10

func newSpread(ctx context.Context, log *kafka.Log, topic string, partitions int32) (*spread, error) {
	p, err := log.Producer(ctx)
	if err != nil {
		return nil, err
	}
	return &spread{p, topic, make([][]stream.Message, partitions), make([]int, partitions), make([]int64, partitions)}, nil
}

func (s *spread) put(ctx context.Context, q int32, m stream.Message) error {
	s.waiting[q] = append(s.waiting[q], m)
	s.ends[q]++
	if s.sizes[q] += len(m.Key) + len(m.Value) + 64; s.sizes[q] < spreadBytes {
		return nil
	}
	return s.write(ctx, q)
}

func (s *spread) write(ctx context.Context, q int32) error {
	if len(s.waiting[q]) == 0 {
		return nil
	}
	_, err := s.producer.Produce(ctx, s.topic, q, s.waiting[q])
	s.waiting[q], s.sizes[q] = nil, 0
	return err
}

func (s *spread) flush(ctx context.Context) error {
	var errs []error
	for q := range s.waiting {
		errs = append(errs, s.write(ctx, int32(q)))
	}
	return errors.Join(errs...)
}

func (s *spread) close() error { return s.producer.Close() }

// inOrder calls each for the records of all partitions of a topic up to ends, in order of time; within a partition the order
// stays, since services have seen it so. The record lives until each returns.
func inOrder(ctx context.Context, log *kafka.Log, topic string, ends []int64, each func(*stream.Record) error) error {
	var q lanes
	defer func() {
		for _, l := range q {
			l.cursor.Close()
		}
	}()
	for p, end := range ends {
		start, _, err := log.Bounds(ctx, topic, int32(p))
		if err != nil {
			return err
		}
		if start >= end {
			continue
		}
		c, err := log.Open(ctx, topic, int32(p), start)
		if err != nil {
			return err
		}
		l := &lane{cursor: c, partition: int32(p), end: end}
		q = append(q, l)
		if err := l.fill(ctx); err != nil {
			return err
		}
	}
	q = slices.DeleteFunc(q, func(l *lane) bool {
		if l.finished() {
			l.cursor.Close()
		}
		return l.finished()
	})
	heap.Init(&q)
	for len(q) > 0 {
		l := q[0]
		if err := each(&l.records[0]); err != nil {
			return err
		}
		l.records = l.records[1:]
		if err := l.fill(ctx); err != nil {
			return err
		}
		if l.finished() {
			l.cursor.Close()
			heap.Pop(&q)
		} else {
			heap.Fix(&q, 0)
		}
	}
	return nil
}

// lane is one partition that is being read.
type lane struct {
	cursor    stream.Cursor
	partition int32
	end       int64
	records   []stream.Record
	latest    time.Time // of what was read of it
}

// fill makes sure that there is a record, if one is left.
func (l *lane) fill(ctx context.Context) error {
	for len(l.records) == 0 && l.cursor.Next() < l.end {
		records, err := l.cursor.Fetch(ctx, 1<<20, time.Second)
		if err != nil {
			return err
		}
		for len(records) > 0 && records[len(records)-1].Offset >= l.end {
			records = records[:len(records)-1]
		}
		l.records = records
	}
	if len(l.records) > 0 && l.records[0].Time.After(l.latest) {
		l.latest = l.records[0].Time
	}
	return nil
}

func (l *lane) finished() bool { return len(l.records) == 0 }

// lanes are in order of the time of their next record, then of the partition.
type lanes []*lane

func (q lanes) Len() int      { return len(q) }
func (q lanes) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q lanes) Less(i, j int) bool {
	if c := q[i].latest.Compare(q[j].latest); c != 0 {
		return c < 0
	}
	return q[i].partition < q[j].partition
}
func (q *lanes) Push(x any) { *q = append(*q, x.(*lane)) } //nolint:forcetypeassert // nobody pushes anything else
func (q *lanes) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
