package decision

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
)

// Moment is everything that is decided with, beside what is known of the customer: the arguments of a Step. Each of its
// methods changes the State and returns the decisions to emit, in order.
type Moment struct {
	Policy    *Policy
	Now       time.Time          // the partition's clock
	Time      time.Time          // of the record on that clock, whatever else was taken before it; zero: Now
	Customer  string             // for hold-outs, exploration and jitter, which are drawn by hash
	Lookup    *Lookup            // the profile; nil where the record did not ask for it
	Audiences *Audiences         // of the partition; nil: overlap is not bounded
	Positions map[string]string  // where this is decided, for MadeFrom: "partition:offset" by input topic
	ID        func(n int) string // the id that the n-th decision of this step will have
	Partial   bool               // nothing may be triggered: what is remembered of the customer may be incomplete
}

// desk is a Moment at work on one customer.
type desk struct {
	*Moment
	s    *State
	a    *customer.Attributes
	now  int64
	loc  *time.Location
	zone string // its name
	lost string // the first name of a zone that was passed over, because nobody knows it
	out  []Decision
}

// open begins the work on a customer at an instant. The zone is the first that anybody knows: what the customer's attributes say, what the
// profile has learned, what a deviation was measured in, the policy's.
func (m *Moment) open(s *State, now int64, deviation string) *desk {
	d := &desk{Moment: m, s: s, a: s.known(), now: now, loc: time.UTC, zone: "UTC"}
	learned := ""
	if m.Lookup != nil {
		learned = m.Lookup.Zone
	}
	for _, name := range [...]string{d.a.Zone, learned, deviation, m.Policy.Zone} {
		if loc, err := calendar.Zone(name); err == nil {
			d.loc, d.zone = loc, loc.String()
			break
		}
		d.lost = cmp.Or(d.lost, name)
	}
	m.Audiences.count(s, d.now, -1)
	s.forget(d.now)
	return d
}

// done ends the work.
func (d *desk) done() []Decision {
	d.Audiences.count(d.s, d.now, +1)
	return d.out
}

// Place takes a record of send.requests.v1: it places, replaces or cancels a request, and plans anew whatever of the
// customer's waits. The reason is for counting, where nothing is to be told.
func (m *Moment) Place(s *State, r *Request) ([]Decision, Reason) {
	at := s.find(r.ID)
	next := pendingOf(r)
	switch over := at < 0 && s.isOver(r.ID, m.Now.UnixMilli()); {
	case over:
		return nil, AlreadyEnded
	case at < 0 && r.Action == Cancel:
		return nil, UnknownRequest
	case at >= 0 && r.Action != Cancel && s.pending[at].same(&next):
		return nil, Unchanged
	}
	d := m.open(s, m.Now.UnixMilli(), "")
	if r.Action == Cancel {
		d.finish(at, CancelledType, Requested)
		d.plan("", "")
		return d.done(), Requested
	}
	if at >= 0 {
		s.pending = slices.Delete(s.pending, at, at+1)
	}
	typ, why := d.refuse(&next)
	s.insert(next)
	if why != "" {
		d.finish(s.find(r.ID), typ, why)
	} else if r.Audience != "" {
		s.join(r.Audience, dayOf(next.deadline))
	}
	d.plan(r.ID, "")
	for i := range d.out {
		if d.out[i].Request == r.ID {
			why = d.out[i].Reason
		}
	}
	return d.done(), why
}

func pendingOf(r *Request) pending {
	p := pending{
		id: strings.Clone(r.ID), channel: r.Channel, message: r.Message, audience: r.Audience, priority: r.Priority,
		deadline: r.Deadline.UnixMilli(), onDeviation: r.OnDeviation,
	}
	if !r.NotBefore.IsZero() {
		p.notBefore = r.NotBefore.UnixMilli()
	}
	return p
}

// same reports whether both ask for the same.
func (p *pending) same(o *pending) bool {
	return p.channel == o.channel && p.message == o.message && p.audience == o.audience && p.priority == o.priority &&
		p.notBefore == o.notBefore && p.deadline == o.deadline && p.onDeviation == o.onDeviation
}

// refuse says why a request ends where it begins.
func (d *desk) refuse(p *pending) (typ string, why Reason) {
	switch _, _, known := d.Policy.For(p.channel, d.a); {
	case d.now >= p.deadline:
		return ExpiredType, Deadline
	case p.deadline-d.now > MaxWait.Milliseconds():
		return ExpiredType, TooFar
	case !known:
		return ExpiredType, UnknownChannel
	case len(d.s.pending) >= MaxPending:
		return ExpiredType, TooManyPending
	case d.s.MailingRefused(p.channel):
		return CancelledType, NoConsent
	}
	return "", ""
}

// Tick takes the timer of a request: the request is released, or planned anew, or ends. There is always a decision: what was
// seen of the profile must be recorded even where it changed nothing.
func (m *Moment) Tick(s *State, request string) []Decision {
	i := s.find(request)
	if i < 0 {
		return nil
	}
	d := m.open(s, m.Now.UnixMilli(), "")
	r := &s.pending[i]
	by := Reason("")
	c, _, ok := m.Policy.For(r.channel, d.a)
	if ok && r.at != 0 && r.at <= d.now && d.now < r.to {
		rules := d.slotRules(r, c, d.commitments(i), d.now)
		why := failed(rules)
		if why == nil {
			d.release(i, c, rules, nil)
			d.plan("", "")
			return d.done()
		}
		by = reasons[why.Rule]
	}
	d.plan(request, by)
	return d.done()
}

// Know takes what is known of the customer from now on, the data of customer.attributes.v1; nil: nothing any more. Who has
// refused mail waits for none: the requests end. Others they are looked at again at once. The error names the field, and
// then nothing has changed.
func (m *Moment) Know(s *State, data []byte) ([]Decision, error) {
	a, canonical := new(customer.Attributes), []byte(nil)
	if data != nil {
		if err := a.Parse(data); err != nil {
			return nil, err
		}
		canonical = a.Append(nil)
	}
	if bytes.Equal(canonical, s.attributes) {
		return nil, nil
	}
	s.learn(canonical)
	return m.consented(s), nil
}

// Answer takes what the customer has answered, as Know does.
func (m *Moment) Answer(s *State, a *customer.Answer) []Decision {
	if a.Mailing == nil || !s.answer(a.Channel, a.Mailing) {
		return nil
	}
	return m.consented(s)
}

// consented ends the requests that the customer does not consent to any more, and has the others looked at again.
func (m *Moment) consented(s *State) []Decision {
	d := m.open(s, m.Now.UnixMilli(), "")
	for i := 0; i < len(s.pending); {
		if s.MailingRefused(s.pending[i].channel) {
			d.finish(i, CancelledType, NoConsent)
		} else {
			i++
		}
	}
	d.wake()
	return d.done()
}

// Erase forgets the customer: requests end, and nothing is remembered but that they have.
func (m *Moment) Erase(s *State) []Decision {
	d := m.open(s, m.Now.UnixMilli(), "")
	d.cancel(Erased)
	*s = State{ended: s.ended}
	return d.done()
}

// Settle takes what a connector made of a decision: a send that did not happen gives its place under the caps back. Where
// the request still waits whose release the connector has dealt with, the state in which it had ended was lost and made
// again, with other slots: it ends here, since it must not go out twice. Its end was told by that decision.
func (m *Moment) Settle(s *State, o *Outcome) {
	undone := o.Result == Refused || o.Result == TooLate || o.Result == Suppressed
	if i := s.find(o.Request); i >= 0 {
		d := m.open(s, m.Now.UnixMilli(), "")
		r := s.pending[i]
		s.end(i)
		if !undone {
			hour, _ := calendar.LocalHour(m.Now, d.loc)
			s.remember(sent{at: d.now, hour: hour, channel: r.channel, decision: strings.Clone(o.Decision), audience: r.audience, priority: r.priority})
		}
		d.wake()
		d.done()
		return
	}
	if !undone {
		return
	}
	i := slices.IndexFunc(s.sent, func(t sent) bool { return t.decision == o.Decision && o.Decision != "" })
	if i < 0 {
		return
	}
	d := m.open(s, m.Now.UnixMilli(), "")
	if i = slices.IndexFunc(s.sent, func(t sent) bool { return t.decision == o.Decision }); i >= 0 { // open forgets
		s.sent = slices.Delete(s.sent, i, i+1)
		d.wake()
	}
	d.done()
}

// wake has every request looked at again at once: what is decided with has changed, and the profile is not at hand. The time is
// the record's. The clock would say as well that it is due, but where nothing is told of it, the logs do not say where the clock
// stood, and whoever decides again would not know the tick.
func (d *desk) wake() {
	at := d.now
	if !d.Time.IsZero() {
		at = min(at, d.Time.UnixMilli())
	}
	for i := range d.s.pending {
		r := &d.s.pending[i]
		r.due = min(r.due, at)
	}
}

// after plans what waits anew after a send.
func (d *desk) after() {
	if d.Lookup == nil {
		d.wake()
		return
	}
	d.plan("", "")
}

// cancel ends every request.
func (d *desk) cancel(why Reason) {
	for len(d.s.pending) > 0 {
		d.finish(0, CancelledType, why)
	}
}
