package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// Position says, for each partition of a topic (its name on the wire), an offset: where a reader begins or ends.
type Position func(ctx context.Context, l *Log, topic string) (map[int32]int64, error)

// Earliest is the first retained record.
func Earliest(ctx context.Context, l *Log, topic string) (map[int32]int64, error) {
	return l.offsets(ctx, topic, l.admin.ListStartOffsets)
}

// Latest is after the last record, as it stands at the call.
func Latest(ctx context.Context, l *Log, topic string) (map[int32]int64, error) {
	return l.offsets(ctx, topic, l.admin.ListCommittedOffsets)
}

// Since is the first record whose timestamp (when it was published) is at or after t; the end where there is none.
func Since(t time.Time) Position {
	return func(ctx context.Context, l *Log, topic string) (map[int32]int64, error) {
		ends, err := Latest(ctx, l, topic)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, netTimeout)
		defer cancel()
		after := t.Add(time.Millisecond - 1).UnixMilli() // timestamps are whole milliseconds
		listed, err := l.admin.ListOffsetsAfterMilli(ctx, after, topic)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("list offsets of %s since %s: %w", topic, t.Format(time.RFC3339), err)
		}
		for p, o := range listed[topic] {
			if o.Offset >= 0 {
				ends[p] = min(o.Offset, ends[p])
			}
		}
		return ends, nil
	}
}

// Last is n offsets before the end of each partition, or the first retained record.
func Last(n int64) Position {
	return func(ctx context.Context, l *Log, topic string) (map[int32]int64, error) {
		starts, err := Earliest(ctx, l, topic)
		if err != nil {
			return nil, err
		}
		ends, err := Latest(ctx, l, topic)
		if err != nil {
			return nil, err
		}
		for p, end := range ends {
			ends[p] = max(end-n, starts[p])
		}
		return ends, nil
	}
}

// Offsets names the offsets outright. Partitions that are not named are at their end.
func Offsets(by map[int32]int64) Position {
	return func(ctx context.Context, l *Log, topic string) (map[int32]int64, error) {
		at, err := Latest(ctx, l, topic)
		if err != nil {
			return nil, err
		}
		for p, o := range by {
			if _, ok := at[p]; !ok {
				return nil, fmt.Errorf("%s has no partition %d", topic, p)
			}
			at[p] = o
		}
		return at, nil
	}
}

const (
	readBytes = 1 << 20
	readWait  = 500 * time.Millisecond
)

// Tail calls fn with the records of every partition of topic (its name on the wire) from a position on, until ctx ends
// (it then returns nil) or fn returns an error. Records of one partition come in order; fn is called by one goroutine at
// a time, and r lives until fn returns. Tail belongs to no group and keeps no position. What fails on the way is tried
// again with back-off, and logged; a position that retention has overtaken goes on at the first retained record, with a
// warning that says how many offsets were skipped.
func Tail(ctx context.Context, l *Log, topic string, from Position, fn func(r *stream.Record) error) error {
	return l.read(ctx, topic, from, nil, fn)
}

// Range is a Tail that ends, with nil, when every partition has reached to, as it was when Range was called.
func Range(ctx context.Context, l *Log, topic string, from, to Position, fn func(r *stream.Record) error) error {
	if err := l.read(ctx, topic, from, to, fn); err != nil {
		return err
	}
	return ctx.Err()
}

func (l *Log) read(ctx context.Context, topic string, from, to Position, fn func(r *stream.Record) error) error {
	starts, err := from(ctx, l, topic)
	if err != nil {
		return err
	}
	var stops map[int32]int64
	if to != nil {
		if stops, err = to(ctx, l, topic); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var one sync.Mutex
	deliver := func(r *stream.Record) error {
		one.Lock()
		defer one.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fn(r)
	}
	var all sync.WaitGroup
	for p, start := range starts {
		stop := int64(-1)
		if to != nil {
			if stop = stops[p]; stop <= start {
				continue
			}
		}
		all.Go(func() {
			if err := l.readPartition(ctx, topic, p, start, stop, deliver); err != nil && ctx.Err() == nil {
				cancel(failed{err})
			}
		})
	}
	all.Wait()
	if f, ok := context.Cause(ctx).(failed); ok { //nolint:errorlint // our own cause, never wrapped
		return f.error
	}
	return nil
}

// failed tells what fn returned from the end of the caller's context.
type failed struct{ error }

// readPartition delivers the records from offset on, up to stop (-1: for ever). Its error is that of deliver or of ctx.
func (l *Log) readPartition(ctx context.Context, topic string, partition int32, offset, stop int64, deliver func(*stream.Record) error) error {
	var pause backoff
	var c stream.Cursor
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for stop < 0 || offset < stop {
		records, err := []stream.Record(nil), error(nil)
		if c == nil {
			c, err = l.Open(ctx, topic, partition, offset)
		}
		if err == nil {
			records, err = c.Fetch(ctx, readBytes, readWait)
		}
		if errors.Is(err, stream.ErrOffsetOutOfRange) {
			var start, end int64
			if start, end, err = l.Bounds(ctx, topic, partition); err == nil {
				next := min(max(offset, start), end)
				l.logger.Warn("position is not in the log, reading on elsewhere", "topic", topic, "partition", partition, "offset", offset, "next", next)
				offset = next
				c.Close()
				c = nil
				continue
			}
		}
		if err != nil {
			if ctx.Err() == nil && pause.due() {
				l.logger.Warn("cannot read, trying again", "topic", topic, "partition", partition, "offset", offset, "error", err)
			}
			if err := pause.wait(ctx); err != nil {
				return err
			}
			continue
		}
		for i := range records {
			if stop >= 0 && records[i].Offset >= stop {
				return nil
			}
			if err := deliver(&records[i]); err != nil {
				return err
			}
		}
		offset = c.Next()
		pause.reset()
	}
	return nil
}
