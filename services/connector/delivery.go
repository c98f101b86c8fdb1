package connector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// delivery is one decision that is to be carried out.
type delivery struct {
	id       string
	request  string // that it releases, if any
	channel  string
	segment  string           // the customer's, in the policy that it was made by
	known    map[string]int64 // the last record that the decider had read, by topic
	typ      string
	customer string
	trace    string // traceparent
	time     time.Time
	expires  time.Time
	seen     time.Time // clock of a simulated run when it was read
	data     []byte    // as on the topic
	crmID    string    // the CRM's own, once it took it
}

// parse reads a decision of a run. What it returns does not refer to r, which is reused.
func parse(r *stream.Record, run stream.Run) (*delivery, error) {
	e, err := stream.ParseEvent(r.Value)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(e.Type, "io.tempismo.decision.") {
		return nil, fmt.Errorf("type: %q is no decision", e.Type)
	}
	d := &delivery{id: e.ID, typ: e.Type, customer: e.Subject, trace: e.Traceparent, time: e.Time}
	if d.time.IsZero() {
		return nil, errors.New("time: missing")
	}
	if d.typ != decision.SendNowType {
		return d, nil
	}
	if d.customer == "" {
		return nil, errors.New("subject: missing")
	}
	var data decision.Decision
	if err := data.Parse(e.Type, e.Data); err != nil {
		return nil, err
	}
	// The ledger is rebuilt as far back as a decision can live, so none may live longer.
	if d.expires = data.ExpiresAt; d.expires.Sub(d.time) > decision.MaxExpiry {
		return nil, fmt.Errorf("expires_at: more than %v after time", decision.MaxExpiry)
	}
	d.request, d.channel, d.segment = strings.Clone(data.Request), data.Channel, data.Segment
	if strings.HasPrefix(e.Source, "/tempismo/decider/"+run.ID+"/") { // positions of another run, whose records were copied, mean nothing here
		d.known = positions(data.MadeFrom.Positions, r.Partition)
	}
	d.data = clone(e.Data)
	return d, nil
}

// positions are the offsets in what a decision was made from, as far as they are those of its own partition.
func positions(from map[string]string, partition int32) map[string]int64 {
	known := make(map[string]int64, len(from))
	for topic, at := range from {
		p, offset, _ := strings.Cut(at, ":")
		if n, err := strconv.ParseInt(offset, 10, 64); err == nil && p == strconv.Itoa(int(partition)) {
			known[topic] = n
		}
	}
	return known
}

// send is the decision as a CRM gets it.
func (d *delivery) send() *crm.Send {
	return &crm.Send{ID: d.id, Type: d.typ, Customer: d.customer, Time: d.time, Data: d.data}
}

// news reports whether something was said that the decider had not read. Without a position nothing was read.
func (d *delivery) news(m mark) bool {
	read, ok := d.known[m.feed]
	return !ok || m.offset > read
}

// schedule is how long to wait after each failed attempt, by the Standard Webhooks specification; the last pause repeats.
// A decision expires long before the end of it.
var schedule = [...]time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour}

// deliver carries a decision out and reports whether it has its result, acknowledged. It has none only if ctx ended
// first, that is, if somebody else is to go on with it. Waiting ends with ctx, an attempt that has begun with late.
func (w *worker) deliver(ctx, late context.Context, d *delivery) bool {
	known := w.ledger.get(d.id)
	if known.final {
		count(w.metrics.duplicates)
		return true
	}
	if w.target.crm == nil { // a simulated run without a receiver
		return w.conclude(late, d, decision.NotLive, 0, "")
	}

	// Whoever owned the partition before may have called, and nobody knows what came of it.
	attempts, uncertain, reason := known.attempts, known.attempts > 0, ""
	// drop ends what will not be called any more, and was sent only if a call was taken whose answer is missing.
	drop := func(result decision.Result, why string) bool {
		if uncertain {
			result = decision.Unknown
		}
		return w.conclude(late, d, result, attempts, why)
	}
	tooLate := func() bool { return drop(decision.TooLate, reason) }
	if uncertain && !w.target.traits.Key {
		return w.find(ctx, late, d, attempts, "a call may have been under way when the connector stopped, and the CRM would take a second one for another send")
	}
	// After a loss of state a request can end a second time, under another id.
	if other := w.ledger.released(d.request); other != "" && other != d.id {
		return drop(decision.Suppressed, "the request was released by decision "+other)
	}
	for {
		if ctx.Err() != nil {
			return false
		}
		if w.target.isGone() {
			return w.conclude(late, d, decision.Refused, attempts, "the endpoint is disabled: it answered HTTP 410")
		}
		now := w.now(d, attempts)
		if !now.Before(d.expires) {
			return tooLate()
		}
		if wait := w.target.hold(w.clock.Now()); wait > 0 {
			if !w.wait(ctx, d, now, wait) {
				return ctx.Err() == nil && tooLate()
			}
			continue
		}
		if w.told.catchUp(ctx) != nil {
			return false
		}
		switch why, until := w.forbids(d); {
		case why == "":
		case until.IsZero(), !until.Before(d.expires):
			return drop(decision.Suppressed, why)
		default: // what forbids it is over before it expires, and a new policy may end it earlier
			if w.clock.Sleep(ctx, min(until.Sub(now), askAgain)) != nil {
				return false
			}
			continue
		}

		a, called := w.attempt(ctx, late, d, attempts+1)
		if !called {
			if ctx.Err() != nil || late.Err() != nil {
				return false
			}
			continue // it expired, the target vanished or the customer said no while it waited for its turn
		}
		attempts, reason = attempts+1, a.Detail
		if a.After > 0 {
			w.target.pause(w.clock.Now().Add(a.After))
		}
		switch a.Verdict {
		case crm.Accepted:
			if w.target.denied.CompareAndSwap(true, false) {
				w.health.Set("target", true, "")
			}
			d.crmID = a.ID
			return w.conclude(late, d, decision.Accepted, attempts, a.Detail)
		case crm.Refused:
			return w.conclude(late, d, decision.Refused, attempts, a.Detail)
		case crm.Forbidden:
			w.health.Set("target", false, "its address is forbidden: see ALLOW_PRIVATE among its settings")
			return w.conclude(late, d, decision.Refused, attempts, a.Detail)
		case crm.Gone:
			if w.target.close() {
				w.health.Set("target", false, "it answered HTTP 410 and is disabled until the connector is restarted")
				w.logger.ErrorContext(ctx, "the target answered HTTP 410 and is disabled; correct WEBHOOK_URL and restart")
			}
			return w.conclude(late, d, decision.Refused, attempts, a.Detail)
		case crm.Denied:
			if !w.target.denied.Swap(true) {
				w.health.Set("target", false, "it does not serve us, check its key and its address: "+a.Detail)
				w.logger.ErrorContext(ctx, "the target does not serve us: check its key and its address", "answer", a.Detail)
			}
		case crm.Unknown:
			if !w.target.traits.Key {
				return w.find(ctx, late, d, attempts, a.Detail)
			}
		}
		uncertain = uncertain || a.Verdict == crm.Unknown
		pause := schedule[min(attempts, len(schedule))-1]
		pause += rand.N(pause/10 + 1) // so that those who failed together do not come back together
		if a.After > 0 {
			pause = a.After
		}
		if !w.wait(ctx, d, w.now(d, attempts), pause) {
			return ctx.Err() == nil && tooLate()
		}
	}
}

// looks are the pauses before the CRM is asked whether it has what was called for: it may take a while until it shows it.
var looks = [...]time.Duration{5 * time.Second, time.Minute, 5 * time.Minute}

// find ends a decision whose call may have been taken by a CRM that has no key: as accepted, if it can be asked and has it, or
// else as unknown, for the reason why. The call is not made again, because what is not found may still be on its way. Whoever
// goes on if ctx ends first finds the intent, and asks.
func (w *worker) find(ctx, late context.Context, d *delivery, attempts int, why string) bool {
	looker, ok := w.target.crm.(crm.Looker)
	for i := 0; ok && i < len(looks); i++ {
		if w.clock.Sleep(ctx, looks[i]) != nil {
			return false
		}
		a, asked := w.look(ctx, late, d, looker)
		switch {
		case !asked:
			return false
		case a.Verdict == crm.Accepted:
			d.crmID = a.ID
			return w.conclude(late, d, decision.Accepted, attempts, "the answer to the call was lost; the CRM has it")
		case a.Verdict == crm.Denied:
			return w.conclude(late, d, decision.Unknown, attempts, why+"; the CRM lets nobody look it up: "+a.Detail)
		}
	}
	return w.conclude(late, d, decision.Unknown, attempts, why)
}

// look asks the CRM once, when it may be called. It reports false if ctx ended first.
func (w *worker) look(ctx, late context.Context, d *delivery, looker crm.Looker) (crm.Answer, bool) {
	for wait := w.target.hold(w.clock.Now()); wait > 0; wait = w.target.hold(w.clock.Now()) {
		if w.clock.Sleep(ctx, wait) != nil {
			return crm.Answer{}, false
		}
	}
	select {
	case w.target.slots <- struct{}{}:
		defer func() { <-w.target.slots }()
	case <-ctx.Done():
		return crm.Answer{}, false
	}
	if w.target.turn(ctx, w.clock) != nil || w.target.space(ctx, w.clock) != nil {
		return crm.Answer{}, false
	}
	a := looker.Look(late, d.send(), w.clock.Now())
	if a.After > 0 {
		w.target.pause(w.clock.Now().Add(a.After))
	}
	count(w.metrics.looks, with("verdict", string(a.Verdict)))
	return a, true
}

// askAgain is how often it is asked whether the policy still has a decision wait.
const askAgain = time.Minute

// forbids says why a decision must not be carried out now, by what has been read of customers and policies, and until when; zero: for
// good. An empty reason: it may. Caps, gaps and collisions are those of the policy in force, and go by the times of calls: the decider
// has kept them between decisions, and what comes late would still come at once. A simulated run has nobody who could be written to too
// often.
func (w *worker) forbids(d *delivery) (why string, until time.Time) {
	if why := w.told.forbids(d); why != "" || w.run.Simulated {
		return why, time.Time{}
	}
	got := w.ledger.got(d.customer, d.id)
	if len(got) == 0 {
		return "", time.Time{}
	}
	policy := w.told.inForce()
	until, rule := policy.Again(d.channel, d.segment, got, w.clock.Now())
	if rule == "" {
		return "", time.Time{}
	}
	return fmt.Sprintf("%s of policy %s: of the calls of the last week, %d for this customer, the last ones leave no room for another before %s",
		rule, policy.Version, len(got), until.Format(time.RFC3339)), until
}

// now is the clock that expiry goes by: the wall in a live run, event time in a simulated one, where the first attempt
// sees the time at which the decision was read, however far reading has come since.
func (w *worker) now(d *delivery, attempts int) time.Time {
	switch {
	case !w.run.Simulated:
		return w.clock.Now()
	case attempts == 0:
		return d.seen
	}
	return time.Unix(0, w.seen.Load()).UTC()
}

// wait sleeps, and reports false if ctx ended or the decision does not live long enough for it to make sense.
func (w *worker) wait(ctx context.Context, d *delivery, now time.Time, pause time.Duration) bool {
	if !now.Add(pause).Before(d.expires) {
		return false
	}
	return w.clock.Sleep(ctx, pause) == nil
}

// attempt makes the n-th call of a decision once it is its turn: the intent is acknowledged and the ownership of the
// partition confirmed before. It reports false if there was no call.
func (w *worker) attempt(ctx, late context.Context, d *delivery, n int) (crm.Answer, bool) {
	select {
	case w.target.slots <- struct{}{}:
		defer func() { <-w.target.slots }()
	case <-ctx.Done():
		return crm.Answer{}, false
	}
	if w.target.turn(ctx, w.clock) != nil {
		return crm.Answer{}, false
	}
	if w.target.hold(w.clock.Now()) > 0 { // it has asked to be left alone while this one waited for its turn
		return crm.Answer{}, false
	}
	if !w.target.enter(w.clock.Now()) {
		return crm.Answer{}, false
	}
	called := false
	defer func() {
		if !called {
			w.target.leave()
		}
	}()
	live := func() bool { return ctx.Err() == nil && w.now(d, n-1).Before(d.expires) && !w.target.isGone() }
	if !live() || !w.write(late, d, &decision.Outcome{Decision: d.id, Request: d.request, Connector: w.name, Channel: d.channel, Result: decision.Attempting, Attempts: n}) {
		return crm.Answer{}, false
	}
	// What was said until now is still in time. It is asked before the partition is confirmed, which must not grow old.
	if w.told.catchUp(ctx) != nil || w.target.space(ctx, w.clock) != nil {
		return crm.Answer{}, false
	}
	if why, _ := w.forbids(d); why != "" { // others may have read on meanwhile
		return crm.Answer{}, false
	}
	// An owner who slept through the loss of his partition finds out here, and not by calling.
	if w.retry(ctx, "confirm", func() error { return w.assignment.Confirm(ctx) }) != nil || !live() {
		return crm.Answer{}, false
	}
	if w.target.rests(w.clock.Now()) { // or while the intent was written; it is written again then
		return crm.Answer{}, false
	}

	parent := propagation.TraceContext{}.Extract(late, propagation.MapCarrier{"traceparent": d.trace})
	calling, span := w.tracer.Start(parent, "deliver decision", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("tempismo.decision", d.id), attribute.Int("tempismo.attempt", n)))
	defer span.End()
	began := w.clock.Now()
	called = true
	a := w.target.crm.Send(calling, d.send(), began)
	if w.target.note(a, began, w.clock.Now()) {
		w.logger.WarnContext(ctx, "the target fails again and again: calls are held back, and one at a time tries it", "answer", a.Detail)
	}
	span.SetAttributes(attribute.String("tempismo.verdict", string(a.Verdict)))
	w.metrics.calls.Record(late, w.clock.Now().Sub(began).Seconds(), with("verdict", string(a.Verdict)))
	return a, true
}

// conclude writes a decision's result, and reports whether it was acknowledged.
func (w *worker) conclude(late context.Context, d *delivery, result decision.Result, attempts int, detail string) bool {
	o := &decision.Outcome{Decision: d.id, Request: d.request, Connector: w.name, Channel: d.channel, Result: result, CRMID: d.crmID, Attempts: attempts, Detail: detail}
	if !w.write(late, d, o) {
		return false
	}
	count(w.metrics.outcomes, with("result", string(result)))
	return true
}

// write appends an outcome to the topic and the ledger.
func (w *worker) write(late context.Context, d *delivery, o *decision.Outcome) bool {
	now := w.clock.Now()
	at := now
	if w.run.Simulated {
		at = d.seen
	}
	e := stream.Event{
		ID:     outcomeID(w.run.ID, o),
		Source: "/tempismo/" + Service + "/" + w.run.ID + "/" + w.name,
		Type:   decision.OutcomeType, Subject: d.customer, Time: at, Traceparent: d.trace, Data: o.Append(nil),
	}
	err := w.outcomes.append(late, stream.Message{
		Key: []byte(d.customer), Value: e.Append(nil), Time: now,
		Headers: []stream.Header{{Key: "content-type", Value: []byte("application/cloudevents+json")}},
	})
	if err != nil {
		return false
	}
	forget := d.expires
	if now.After(forget) {
		forget = now
	}
	if day := now.Add(decision.MaxExpiry); o.Result.Final() && day.After(forget) { // what comes of it, and copies
		forget = day
	}
	w.ledger.note(o, d.customer, at, now, forget.Add(margin))
	return true
}

// outcomeID is the same for the same outcome, however often it is written.
func outcomeID(run string, o *decision.Outcome) string {
	sum := sha256.Sum256([]byte(Service + "\x00" + run + "\x00" + o.Connector + "\x00" + o.Decision + "\x00" + string(o.Result) + "\x00" + strconv.Itoa(o.Attempts)))
	return "o-" + hex.EncodeToString(sum[:12])
}
