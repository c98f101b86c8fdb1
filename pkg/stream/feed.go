package stream

import (
	"context"
	"errors"
	"time"
)

// feed is one input's partition being read. A goroutine of its own fetches; what it fetched belongs to the worker until
// the worker asks for more, because the records are views into the cursor's buffers.
type feed struct {
	records []Record
	taken   int   // records of the batch at hand and of those before
	next    int64 // position after records
	end     int64 // of the log, as the last fetch saw it
	waiting bool  // a fetch is under way
	more    chan struct{}
}

// fetched is what the goroutine of an input hands to the worker.
type fetched struct {
	input     int
	records   []Record
	next, end int64
	err       error
}

// position is the offset of the next record to be taken.
func (f *feed) position() int64 {
	if f.taken < len(f.records) {
		return f.records[f.taken].Offset
	}
	return f.next
}

// behind reports that nothing is at hand although the log holds more: nobody knows yet what comes next in order.
func (f *feed) behind() bool { return f.taken == len(f.records) && f.next < f.end }

// fetchWait is how long a fetch waits for the first record. It bounds nothing but the idle chatter with the broker.
const fetchWait = 500 * time.Millisecond

// fetch reads topic from an offset on until ctx ends or the log does not hold the position. Other failures are tried
// again with a new cursor.
func (w *worker[I, S, P]) fetch(ctx context.Context, input int, from int64, more <-chan struct{}, arrivals chan<- fetched) {
	topic := w.step.inputs[input].wire
	var cursor Cursor
	defer func() {
		if cursor != nil {
			cursor.Close()
		}
	}()
	var pause backoff
	for ctx.Err() == nil {
		var records []Record
		var err error
		if cursor == nil {
			cursor, err = w.rt.Log.Open(ctx, topic, w.partition, from)
		}
		if err == nil {
			records, err = cursor.Fetch(ctx, w.rt.BatchBytes, fetchWait)
		}
		switch {
		case err == nil:
			pause.reset()
		case errors.Is(err, ErrOffsetOutOfRange):
			arrivals <- fetched{input: input, err: err}
			return
		case ctx.Err() != nil:
			return
		default:
			w.failed("fetch", err)
			if cursor != nil {
				cursor.Close()
				cursor = nil
			}
			pause.wait(ctx)
			continue
		}
		from = cursor.Next()
		arrivals <- fetched{input, records, from, cursor.End(), nil}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}
