package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// settled is how old an event is when it is looked at: it may have come before the answer to the call that led to it, and that
// answer is here, or lost, after the longest time that a call may take.
const settled = 45 * time.Second

// results are what events of a person make of a send.
var results = map[engagement.Kind]decision.Result{engagement.Delivered: decision.Delivered, engagement.Open: decision.Opened, engagement.Click: decision.Clicked}

// join reads what providers tell of customers, and writes an outcome where it concerns a send of the last day: delivered, opened
// and clicked, once each. An event and a send belong together by an id alone: the event's message is the CRM's id of the send, or
// the decision's. Names of campaigns prove nothing, since others send them, too.
//
// It goes on where the group's offset says, so that nothing is missed while partitions move; what is read twice is written
// once. It holds nothing up: a CRM's events may come days late, or never.
func (w *worker) join(ctx, late context.Context) {
	topic, offset, hinted, at := w.run.Topic(topics.Events), int64(-1), int64(-1), time.Time{}
	hint := func(ctx context.Context) {
		if offset < 0 || offset == hinted {
			return
		}
		if err := w.assignment.Hint(ctx, map[string]int64{topic: offset}); err != nil {
			w.retrying("hint", err)
			return
		}
		hinted = offset
	}
	var cursor stream.Cursor
	shut := func() {
		if cursor != nil {
			cursor.Close()
			cursor = nil
		}
	}
	defer shut()
	for b := (backoff{}); ctx.Err() == nil; {
		err := error(nil)
		if offset < 0 {
			offset, err = w.joinFrom(ctx, topic)
		}
		if err == nil && cursor == nil {
			cursor, err = w.log.Open(ctx, topic, w.assignment.Partition(), offset)
		}
		var records []stream.Record
		if err == nil {
			records, err = cursor.Fetch(ctx, 1<<20, time.Second)
		}
		if err != nil {
			shut()
			if errors.Is(err, stream.ErrOffsetOutOfRange) { // retention was faster
				offset = -1
			}
			if ctx.Err() == nil {
				w.retrying("fetch events", err)
			}
			_ = w.clock.Sleep(ctx, b.next())
			continue
		}
		b = backoff{}
		for i := range records {
			if !w.hear(ctx, late, &records[i]) {
				hint(late)
				return
			}
			offset = records[i].Offset + 1
		}
		offset = cursor.Next()
		if now := w.clock.Now(); offset != hinted && now.Sub(at) >= joinPause*5 {
			hint(ctx)
			at = now
		}
		if len(records) > 0 && offset >= cursor.End() { // or each event of a busy topic would be a request
			_ = w.clock.Sleep(ctx, joinPause)
		}
	}
	hint(late)
}

// joinPause is how long events are let gather; nothing is looked at before settled anyway.
const joinPause = time.Second

// joinFrom finds where to begin: where the owner before was or, if nobody was, with what a send of the last day can have led to.
func (w *worker) joinFrom(ctx context.Context, topic string) (int64, error) {
	start, end, err := w.log.Bounds(ctx, topic, w.assignment.Partition())
	if err != nil {
		return -1, fmt.Errorf("bounds of %s/%d: %w", topic, w.assignment.Partition(), err)
	}
	offset, err := w.assignment.Hinted(ctx, topic)
	if err != nil {
		return -1, fmt.Errorf("stored offset of %s/%d: %w", topic, w.assignment.Partition(), err)
	}
	if offset >= start && offset <= end {
		return offset, nil
	}
	if offset, err = firstSince(ctx, w.log, topic, w.assignment.Partition(), w.clock.Now().Add(-decision.MaxExpiry-skew)); err != nil {
		return -1, err
	}
	return offset, nil
}

// hear takes one event. It reports false if it has to be read again by whoever owns the partition next.
func (w *worker) hear(ctx, late context.Context, r *stream.Record) bool {
	if !w.ledger.wrote(r.Key) { // as almost always
		return true
	}
	var e engagement.Event
	if e.Parse(r.Value) != nil { // a dead letter of the profiler
		return true
	}
	result := results[e.Kind]
	if result == "" || e.Actor != engagement.Human || e.Message == "" {
		return true
	}
	if wait := r.Time.Add(settled).Sub(w.clock.Now()); wait > 0 && w.clock.Sleep(ctx, min(wait, settled)) != nil {
		return false
	}
	for _, o := range w.ledger.sends(e.Subject, e.Message, result) {
		o.Connector, o.Result, o.CRMID, o.Detail = w.name, result, e.Message, "event "+e.ID
		if !w.write(late, &delivery{id: o.Decision, customer: e.Subject, trace: e.Trace, seen: e.Time}, &o) {
			return false
		}
		count(w.metrics.joined, with("result", string(result)))
	}
	return true
}
