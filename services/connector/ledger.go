package connector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
)

// ledger is what one partition's owner knows of the decisions that it or an owner before it dealt with. It is read from
// send.outcomes.v1 at every takeover and kept by the owner from then on.
type ledger struct {
	mu      sync.Mutex
	entries map[string]entry
	sent    map[string]string   // by request: the decision under which it was released, or may have been
	written map[string][]string // by customer: decisions that were called for
	week    week
	sweepAt int // number of entries at which the forgotten ones are taken out
}

// entry is one decision.
type entry struct {
	request  string            // that it releases, if any
	customer string            // who was to get it, once it was called for
	out      bool              // a message went out, or may have
	crmID    string            // the CRM's own of the send, if it gave one
	attempts int               // calls that were intended
	final    bool              // it has its result
	then     []decision.Result // what providers have told of it
	forget   time.Time         // on the wall clock, when no copy of the decision can matter any more
}

// margin is how long a decision is remembered beyond its life, for copies of it that come late.
const margin = time.Hour

func newLedger() *ledger {
	return &ledger{entries: map[string]entry{}, sent: map[string]string{}, written: map[string][]string{}, week: newWeek(), sweepAt: 4096}
}

func (l *ledger) get(id string) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[id]
}

// released names the decision under which a request was called for, unless that one ended without a message; empty: none.
func (l *ledger) released(request string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent[request]
}

// wrote reports whether a decision about a customer was called for.
func (l *ledger) wrote(customer []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.written[string(customer)]) > 0
}

// sends are the decisions, as the beginnings of outcomes, whose message to a customer has that id, and no such result yet.
func (l *ledger) sends(customer, message string, result decision.Result) (of []decision.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.written[customer] {
		e := l.entries[id]
		if e.out && (message == id || message == e.crmID) && !slices.Contains(e.then, result) {
			of = append(of, decision.Outcome{Decision: id, Request: e.request, Attempts: e.attempts})
		}
	}
	return of
}

// got is what a customer has got in the last week, or may have, apart from a decision.
func (l *ledger) got(customer, apart string) []decision.Sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.week.but(apart, customer)
}

// called notes of an outcome about a customer, which is of a time, only what caps go by.
func (l *ledger) called(o *decision.Outcome, customer string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.week.note(o, customer, at)
}

// note keeps an outcome about a customer, which is of a time, in mind. A final result stays final, whatever comes after it.
func (l *ledger) note(o *decision.Outcome, customer string, at, now, forget time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.week.note(o, customer, at)
	e := l.entries[o.Decision]
	e.attempts = max(e.attempts, o.Attempts)
	e.final = e.final || o.Result.Final()
	if forget.After(e.forget) {
		e.forget = forget
	}
	l.release(&e, o)
	l.went(&e, o, customer)
	l.entries[o.Decision] = e
	if len(l.entries) < l.sweepAt {
		return
	}
	for id, e := range l.entries {
		if e.forget.Before(now) {
			delete(l.entries, id)
			l.written[e.customer] = slices.DeleteFunc(l.written[e.customer], func(d string) bool { return d == id })
			if len(l.written[e.customer]) == 0 {
				delete(l.written, e.customer)
			}
			if l.sent[e.request] == id {
				delete(l.sent, e.request)
			}
		}
	}
	// Sweeping again only after as many new entries keeps it cheap however many are alive.
	l.sweepAt = max(4096, 2*len(l.entries))
}

// release keeps in mind under which decision a request goes out.
func (l *ledger) release(e *entry, o *decision.Outcome) {
	if o.Request == "" {
		return
	}
	by, taken := l.sent[o.Request]
	switch o.Result {
	case decision.Refused, decision.TooLate, decision.Suppressed, decision.NotLive:
		if by == o.Decision {
			delete(l.sent, o.Request)
		}
	default:
		if !taken {
			e.request = strings.Clone(o.Request)
			l.sent[e.request] = o.Decision
		}
	}
}

// went keeps in mind to whom a message went out, and what came of it.
func (l *ledger) went(e *entry, o *decision.Outcome, customer string) {
	switch o.Result {
	case decision.Attempting, decision.Accepted, decision.Unknown:
		if e.customer == "" {
			e.customer = strings.Clone(customer)
			l.written[e.customer] = append(l.written[e.customer], o.Decision)
		}
		e.out = e.out || o.Result != decision.Attempting
		if o.CRMID != "" {
			e.crmID = strings.Clone(o.CRMID)
		}
	case decision.Delivered, decision.Opened, decision.Clicked:
		if !slices.Contains(e.then, o.Result) {
			e.then = append(e.then, o.Result)
		}
	}
}

// rebuild reads the outcomes of one partition from since on up to its end into the ledger, and what caps go by from a time before on.
func rebuild(ctx context.Context, log stream.Log, topic string, partition int32, connector string, before, since, now time.Time, l *ledger) error {
	_, end, err := log.Bounds(ctx, topic, partition)
	if err != nil {
		return fmt.Errorf("bounds of %s/%d: %w", topic, partition, err)
	}
	from, err := firstSince(ctx, log, topic, partition, since)
	if err != nil {
		return err
	}
	first, err := firstSince(ctx, log, topic, partition, before)
	if err != nil {
		return err
	}
	return read(ctx, log, topic, partition, min(first, from), end, func(r *stream.Record) {
		if r.Offset < from && !ofCalls(r.Value) {
			return
		}
		e, err := stream.ParseEvent(r.Value)
		if err != nil || e.Type != decision.OutcomeType {
			return // not written by a connector: no intent of ours
		}
		var o decision.Outcome
		if o.Parse(e.Data) != nil || o.Connector != connector {
			return
		}
		if r.Offset < from {
			l.called(&o, e.Subject, e.Time)
			return
		}
		l.note(&o, e.Subject, e.Time, now, r.Time.Add(decision.MaxExpiry+margin))
	})
}

// ofCalls reports whether an outcome may say when somebody was called or that he was not, without parsing it: three of four do not. An
// attempt stands before what was accepted.
func ofCalls(value []byte) bool {
	_, result, ok := bytes.Cut(value, []byte(`"result":"`)) // as Outcome.Append writes it
	for _, other := range [...]decision.Result{decision.Accepted, decision.Delivered, decision.Opened, decision.Clicked, decision.Converted} {
		if ok && bytes.HasPrefix(result, []byte(other)) {
			return false
		}
	}
	return true
}

// read calls each for the records of a partition in [from, end).
func read(ctx context.Context, log stream.Log, topic string, partition int32, from, end int64, each func(*stream.Record)) error {
	if from >= end {
		return nil
	}
	cursor, err := log.Open(ctx, topic, partition, from)
	if err != nil {
		return fmt.Errorf("open %s/%d at %d: %w", topic, partition, from, err)
	}
	defer cursor.Close()
	for cursor.Next() < end {
		records, err := cursor.Fetch(ctx, 1<<20, time.Second)
		if err != nil {
			return fmt.Errorf("fetch %s/%d at %d: %w", topic, partition, cursor.Next(), err)
		}
		for i := range records {
			if records[i].Offset < end {
				each(&records[i])
			}
		}
	}
	return nil
}

// firstSince finds an offset before which no record is younger than since, by bisection: a partition's records are in
// the order of their timestamps but for what clocks of different owners differ, and since allows for that.
func firstSince(ctx context.Context, log stream.Log, topic string, partition int32, since time.Time) (int64, error) {
	lo, hi, err := log.Bounds(ctx, topic, partition)
	if err != nil {
		return 0, fmt.Errorf("bounds of %s/%d: %w", topic, partition, err)
	}
	for lo < hi {
		mid := lo + (hi-lo)/2
		t, err := timeAt(ctx, log, topic, partition, mid)
		switch {
		case errors.Is(err, stream.ErrOffsetOutOfRange):
			lo = mid + 1 // retention has just taken it
		case err != nil:
			return 0, err
		case t.IsZero() || !t.Before(since):
			hi = mid
		default:
			lo = mid + 1
		}
	}
	return lo, nil
}

// timeAt is the timestamp of the first record at or after offset, zero if there is none.
func timeAt(ctx context.Context, log stream.Log, topic string, partition int32, offset int64) (time.Time, error) {
	cursor, err := log.Open(ctx, topic, partition, offset)
	if err != nil {
		return time.Time{}, fmt.Errorf("open %s/%d at %d: %w", topic, partition, offset, err)
	}
	defer cursor.Close()
	records, err := cursor.Fetch(ctx, 1, time.Second)
	if err != nil {
		return time.Time{}, fmt.Errorf("fetch %s/%d at %d: %w", topic, partition, offset, err)
	}
	if len(records) == 0 {
		return time.Time{}, nil
	}
	return records[0].Time, nil
}
