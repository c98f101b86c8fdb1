package decision

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Moment is everything that is decided with, beside what is known of the customer: the arguments of a Step. Each of its
// methods changes the State and returns the decisions to emit, in order.
type Moment struct {
	Policy    *Policy
	Now       time.Time          // the partition's clock
	Customer  string             // for hold-outs, exploration and jitter, which are drawn by hash
	Lookup    *Lookup            // the profile; nil where the record did not ask for it
	Audiences *Audiences         // of the partition; nil: overlap is not bounded
	Positions map[string]string  // where this is decided, for MadeFrom: "partition:offset" by input topic
	ID        func(n int) string // the id that the n-th decision of this step will have
	Partial   bool               // nothing may be triggered: what is remembered of the customer may be incomplete
}

// Trigger is a deviation with what its envelope says of it.
type Trigger struct {
	ID        string            // of the deviation
	Time      time.Time         // of the engagement behind it
	Positions map[string]string // of OldPolicy alone
	Deviation deviation.Deviation
}

// desk is a Moment at work on one customer.
type desk struct {
	*Moment
	s    *State
	a    *customer.Attributes
	now  int64
	loc  *time.Location
	zone string // its name
	out  []Decision
}

// open begins the work on a customer. The zone is the first that anybody knows: what the customer's attributes say, what the
// profile has learned, what a deviation was measured in, the policy's.
func (m *Moment) open(s *State, deviation string) *desk {
	d := &desk{Moment: m, s: s, a: s.known(), now: m.Now.UnixMilli(), loc: time.UTC, zone: "UTC"}
	learned := ""
	if m.Lookup != nil {
		learned = m.Lookup.Zone
	}
	for _, name := range [...]string{d.a.Zone, learned, deviation, m.Policy.Zone} {
		if loc, err := calendar.Zone(name); err == nil {
			d.loc, d.zone = loc, loc.String()
			break
		}
	}
	s.forget(d.now)
	m.Audiences.count(s, d.now, -1)
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
	switch over := at < 0 && s.isOver(r.ID); {
	case over:
		return nil, AlreadyEnded
	case at < 0 && r.Action == Cancel:
		return nil, UnknownRequest
	case at >= 0 && r.Action != Cancel && s.pending[at].same(&next):
		return nil, Unchanged
	}
	d := m.open(s, "")
	if r.Action == Cancel {
		d.finish(at, CancelledType, Requested)
		d.plan(d.now, "", "")
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
	d.plan(d.now, r.ID, "")
	for i := range d.out {
		if d.out[i].Request == r.ID {
			why = d.out[i].Reason
		}
	}
	return d.done(), why
}

func pendingOf(r *Request) pending {
	p := pending{
		id: r.ID, channel: r.Channel, message: r.Message, audience: r.Audience, priority: r.Priority,
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
	case d.a.MailingRefused():
		return CancelledType, NoConsent
	}
	return "", ""
}

// Tick takes the timer of a request: the request is released, or planned anew, or ends.
func (m *Moment) Tick(s *State, request string) []Decision {
	i := s.find(request)
	if i < 0 {
		return nil
	}
	d := m.open(s, "")
	r := &s.pending[i]
	from, moved, by := d.now, "", Reason("")
	c, _, ok := m.Policy.For(r.channel, d.a)
	if ok && r.at != 0 && r.at <= d.now && d.now < r.to {
		rules := d.slotRules(r, c, d.commitments(i), d.now)
		why := failed(rules)
		if why == nil {
			d.release(i, c, rules, nil)
			d.plan(d.now, "", "")
			return d.done()
		}
		from, moved, by = (floorDiv(d.now, minutely)+1)*minutely, request, reasons[why.Rule]
	} else if r.at == 0 {
		moved = request // it has waited for a chance: say where it stands
	}
	d.plan(from, moved, by)
	return d.done()
}

// share is how much of the best hour's worth this hour must have: sending at once saves waiting.
const share = 0.8

// margin is share on the scale of scores, 50 points for each factor of two (package timing), for deviations that do not say
// what the hour is worth. The scale ends at 100, twice the average hour: beyond it, hours no longer differ.
var margin = 50 * math.Log2(share)

// Deviate takes a deviation: it releases a request that waits for one, or sends without a request, or says why not. Only what
// a user would ask about becomes a Decision: a burst that may act, or a reactivation, that a request waits for or on which
// the policy acts. For any other the reason says what it was passed over for, to be counted.
func (m *Moment) Deviate(s *State, t *Trigger) ([]Decision, Reason) {
	v := &t.Deviation
	if !v.Actionable || v.Kind != timing.Burst && v.Kind != timing.Reactivation {
		return nil, NotActionable
	}
	if m.Partial || m.Lookup != nil && m.Lookup.Partial {
		return nil, Incomplete
	}
	c, _, ok := m.Policy.For(v.Channel, s.known())
	if !ok {
		return nil, OtherChannel
	}
	now := max(m.Now.UnixMilli(), t.Time.UnixMilli()) // a source's clock may run ahead of ours by a little
	waits := slices.IndexFunc(s.pending, func(p pending) bool {
		return p.channel == v.Channel && p.onDeviation && p.notBefore <= now && now < p.deadline
	})
	if waits < 0 && !slices.Contains(c.Triggers, v.Kind) {
		return nil, NoTrigger
	}
	d := m.open(s, v.Zone)
	d.now = now
	if waits >= 0 {
		d.hasten(waits, c, t)
	} else {
		d.trigger(c, t)
	}
	return d.done(), d.out[0].Reason
}

// hasten releases a request because of a deviation, if this moment is nearly as good as the best ahead.
func (d *desk) hasten(i int, c *Channel, t *Trigger) {
	r := &d.s.pending[i]
	list := d.commitments(i)
	rules := []Rule{d.expiry(c, t), d.bestOfRequest(r, c, list, t)}
	rules = append(rules, d.rules(r, c, list, d.now)...)
	if why := failed(rules); why != nil {
		d.emit(d.about(r, c, Decision{
			Type: WaitType, Reason: reasons[why.Rule], Deviation: t.ID, Rules: rules, Due: instant(r.due),
			NotBefore: instant(max(r.notBefore, d.now)), ExpiresAt: instant(r.deadline), Slot: r.slot(),
			Summary: "a " + t.Deviation.Kind + " did not release it: " + sentence(why),
		}))
		return
	}
	d.release(i, c, rules, t)
	d.after()
}

// trigger sends without a request, or says what forbids it.
func (d *desk) trigger(c *Channel, t *Trigger) {
	v := &t.Deviation
	r := pending{channel: v.Channel, priority: c.Priority}
	list := d.commitments(0)
	rules := append([]Rule{d.expiry(c, t), bestHour(v.Score, d.loc)}, d.rules(&r, c, list, d.now)...)
	d.yield(rules, &r, c)
	out := Decision{
		Deviation: t.ID, Rules: rules, NotBefore: t.Time.UTC(), ExpiresAt: instant(d.expires(c, t)),
	}
	if why := failed(rules); why != nil {
		out.Type, out.Reason, out.Summary = BlockedType, reasons[why.Rule], sentence(why)
		if why.Rule == RuleExpiry {
			out.Type = ExpiredType
		}
		d.emit(d.about(&r, c, d.scored(out, v)))
		return
	}
	out.Reason = Reason(v.Kind)
	out.Summary = because[out.Reason] + ", and no clearly better hour lies ahead"
	d.send(&r, c, d.scored(out, v), 1)
	d.after()
}

// scored fills in what the deviation says of the hour and of the profile.
func (d *desk) scored(out Decision, v *deviation.Deviation) Decision {
	s := &v.Score
	out.Score = Score{Now: s.Now, Best: s.Best, BestAt: s.BestAt, Confidence: s.Confidence, Level: s.Level}
	out.MadeFrom.Profile, out.MadeFrom.Model = v.Cause.Position, v.Model
	return out
}

// yield lets a send without a request make room for requests of a higher priority that are planned nearby.
func (d *desk) yield(rules []Rule, r *pending, c *Channel) {
	var above []commitment
	for i := range d.s.pending {
		if p := &d.s.pending[i]; p.at != 0 && p.priority > r.priority {
			above = commit(above, p)
		}
	}
	if len(above) == 0 {
		return
	}
	all := slices.Concat(d.commitments(0), above)
	slices.SortStableFunc(all, func(x, y commitment) int { return cmp.Compare(x.at, y.at) })
	for _, b := range d.bans(r.channel, c, all) {
		if b.from < d.now && d.now < b.to {
			i := slices.IndexFunc(rules, func(x Rule) bool { return x.Rule == RuleCollision })
			if failed(rules) == nil {
				near := nearest(above, d.now, func(*commitment) bool { return true })
				rules[i] = Rule{RuleCollision, false, "of a higher priority, " + d.distance(near, d.now)}
			}
			return
		}
	}
}

// expires is when the moment of a deviation is over.
func (d *desk) expires(c *Channel, t *Trigger) int64 {
	return t.Time.Add(time.Duration(c.Expiry)).UnixMilli()
}

func (d *desk) expiry(c *Channel, t *Trigger) Rule {
	late := time.Duration(d.now-t.Time.UnixMilli()) * time.Millisecond
	return Rule{RuleExpiry, d.now < d.expires(c, t), fmt.Sprintf("%s after the engagement, at most %s", span(late), span(time.Duration(c.Expiry)))}
}

func bestHour(s timing.Score, loc *time.Location) Rule {
	detail := fmt.Sprintf("score %d now, %d on %s", s.Now, s.Best, s.BestAt.In(loc).Format("Mon 2 Jan 15:04"))
	if s.Worth > 0 {
		return Rule{RuleBestHour, s.Worth >= share, fmt.Sprintf("%s, and reading now it is worth %.2f of that", detail, s.Worth)}
	}
	return Rule{RuleBestHour, float64(s.Now-s.Best) >= margin, detail}
}

// bestOfRequest compares this hour with the best of those in which the request may still go out. A deviation says what reading
// now is worth of the best hour of the profile, whether or not that is allowed; it is worth so much more of a lesser one.
func (d *desk) bestOfRequest(r *pending, c *Channel, list []commitment, t *Trigger) Rule {
	f := d.forecast(r.channel)
	v := d.survey(r, d.hours(c), f, d.bans(r.channel, c, list), d.now)
	s := t.Deviation.Score
	if d.Lookup != nil {
		hour, _ := calendar.LocalHour(instant(d.now), d.loc)
		s.Now = int(f.Scores[calendar.HourOfWeek(hour)])
	}
	best := candidate{score: uint8(s.Now), start: d.now}
	for _, x := range v.open {
		if x.score > best.score {
			best = x
		}
	}
	if s.Worth > 0 {
		s.Worth *= math.Exp2(float64(s.Best-int(best.score)) / 50)
	}
	s.Best, s.BestAt = int(best.score), instant(best.start)
	return bestHour(s, d.loc)
}

// because begins the sentence about what was sent.
var because = map[Reason]string{
	Burst:        "unusually attentive",
	Reactivation: "back after a long silence",
	BestSlot:     "the best allowed hour",
	Preferred:    "an hour that the customer has asked for",
	FallBack:     "no allowed hour reaches the threshold: the best of the last day",
	Exploration:  "an hour drawn among all allowed ones",
}

// sentence says what a rule that failed means.
func sentence(r *Rule) string {
	switch r.Rule {
	case RuleExpiry:
		return "the moment is over: " + r.Detail
	case RuleBestHour:
		return "a better hour lies ahead: " + r.Detail
	case RuleDeadline:
		return "not within its time: " + r.Detail
	case RuleConsent:
		return "no consent to mailing: " + r.Detail
	case RuleChannel:
		return "the channel does not reach the customer: " + r.Detail
	case RuleCalendar:
		return "closed that day: " + r.Detail
	case RuleWindow:
		return "outside the window: " + r.Detail
	case RuleQuiet:
		return "within quiet hours: " + r.Detail
	case RuleFrequency:
		return "enough messages already: " + r.Detail
	case RuleGap:
		return "too close to another message: " + r.Detail
	case RuleCollision:
		return "collides with another message: " + r.Detail
	default:
		return "too many of the audience are written to: " + r.Detail
	}
}

// Know takes what is known of the customer from now on, the data of customer.attributes.v1; nil: nothing any more. Who has
// refused mail waits for none: all requests end. Otherwise they are looked at again at once. The error names the field, and
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
	d := m.open(s, "")
	s.learn(canonical, a)
	d.a = a
	if a.MailingRefused() {
		d.cancel(NoConsent)
	}
	d.wake()
	return d.done(), nil
}

// Erase forgets the customer: requests end, and nothing is remembered but that they have.
func (m *Moment) Erase(s *State) []Decision {
	d := m.open(s, "")
	d.cancel(Erased)
	*s = State{ended: s.ended}
	return d.done()
}

// Settle takes what a connector made of a decision: a send that did not happen gives its place under the caps back.
func (m *Moment) Settle(s *State, o *Outcome) {
	if o.Result != Refused && o.Result != TooLate && o.Result != Suppressed {
		return
	}
	i := slices.IndexFunc(s.sent, func(t sent) bool { return t.decision == o.Decision && o.Decision != "" })
	if i < 0 {
		return
	}
	d := m.open(s, "")
	if i = slices.IndexFunc(s.sent, func(t sent) bool { return t.decision == o.Decision }); i >= 0 { // open forgets
		s.sent = slices.Delete(s.sent, i, i+1)
		d.wake()
	}
	d.done()
}

// wake has every request looked at again at once: what is decided with has changed, and the profile is not at hand.
func (d *desk) wake() {
	for i := range d.s.pending {
		r := &d.s.pending[i]
		r.due = min(r.due, d.now)
	}
}

// after plans what waits anew after a send.
func (d *desk) after() {
	if d.Lookup == nil {
		d.wake()
		return
	}
	d.plan(d.now, "", "")
}

// cancel ends every request.
func (d *desk) cancel(why Reason) {
	for len(d.s.pending) > 0 {
		d.finish(0, CancelledType, why)
	}
}

// endings are the sentences about requests that end without a send.
var endings = map[Reason]string{
	Deadline:       "its deadline was over before it could go out",
	NoConsent:      "the customer has not agreed to mailing",
	Unreachable:    "the customer cannot be reached by this channel",
	ClosedDay:      "every day until its deadline was closed",
	OutsideWindow:  "no hour until its deadline was within the windows",
	QuietHours:     "every hour until its deadline was within quiet hours",
	FrequencyCap:   "the caps left no room until its deadline",
	MinimumGap:     "every hour until its deadline was too close to another message",
	Collision:      "every hour until its deadline was too close to a message in another channel",
	Overlap:        "in every hour until its deadline too many of the audience held another send",
	NoAllowedSlot:  "no hour until its deadline was allowed",
	UnknownChannel: "the policy does not have this channel",
	TooFar:         "its deadline is more than 90 days away",
	TooManyPending: "too many requests of this customer wait already",
	Requested:      "cancelled by whoever placed it",
	Erased:         "everything of the customer was erased",
}

// finish ends the i-th request without a send.
func (d *desk) finish(i int, typ string, why Reason) {
	r := d.s.pending[i]
	c, _, ok := d.Policy.For(r.channel, d.a)
	out := Decision{Type: typ, Reason: why, NotBefore: instant(max(r.notBefore, 0)), ExpiresAt: instant(r.deadline), Slot: r.slot(), Summary: endings[why]}
	if ok {
		out.Rules = d.rules(&r, c, d.commitments(i), d.now)
	} else {
		c, out.Rules = &Channel{}, []Rule{{RuleChannel, false, "the policy does not have " + r.channel}}
	}
	d.s.end(i)
	d.emit(d.about(&r, c, out))
}

// wait tells where a request stands.
func (d *desk) wait(r *pending, c *Channel, v *survey, list []commitment, moved string, by Reason) {
	out := Decision{
		Type: WaitType, Reason: r.why, Slot: r.slot(), Due: instant(r.due),
		NotBefore: instant(max(r.notBefore, d.now)), ExpiresAt: instant(r.deadline),
	}
	if r.at == 0 {
		out.Rules = d.rules(r, c, list, max(d.now, r.notBefore))
		out.Summary = "no slot: " + endings[r.why]
		for _, rule := range rulesOfHours {
			if n := v.shut[rule]; n > 0 {
				out.Summary += fmt.Sprintf("; %s excludes %d of %d hours", rule, n, v.hours)
			}
		}
		d.emit(d.about(r, c, out))
		return
	}
	// list holds the request itself, which is no commitment beside itself.
	out.Rules = d.slotRules(r, c, slices.DeleteFunc(slices.Clone(list), func(x commitment) bool { return x.request == r.id }), r.at)
	out.Summary = because[r.why] + ": " + d.local(r.from)
	if r.id == moved && by != "" {
		out.Reason = by
		out.Summary = string(by) + " moved it to " + d.local(r.from) + ", " + because[r.why]
	}
	if v.betterBy != "" && v.better.score > d.scoreAt(r) {
		out.Summary += fmt.Sprintf("; a better hour, %s with %d, is excluded by %s", d.local(v.better.start), v.better.score, v.betterBy)
	}
	d.emit(d.about(r, c, out))
}

// scoreAt is the score of the slot of a request.
func (d *desk) scoreAt(r *pending) uint8 {
	return d.forecast(r.channel).Scores[calendar.HourOfWeek(r.hour)]
}

// slotRules are the rules of a request at an instant in its slot, with those that only choose.
func (d *desk) slotRules(r *pending, c *Channel, list []commitment, at int64) []Rule {
	rules := d.rules(r, c, list, at)
	lead := Rule{RuleLead, true, "no day before a feast"}
	if l := d.lead(localDay(r.hour)); l != nil {
		lead.Detail = "before " + l.Name + ", and no other day is left"
	}
	score := int(d.scoreAt(r))
	reached := Rule{RuleThreshold, true, fmt.Sprintf("score %d, threshold %d", score, c.Threshold)}
	if score < c.Threshold {
		reached.Detail += ": " + because[r.why]
	}
	return append(rules, lead, reached)
}

// release sends the i-th request, which has been allowed: by its slot, or because of a deviation.
func (d *desk) release(i int, c *Channel, rules []Rule, t *Trigger) {
	r := d.s.pending[i]
	out := Decision{Reason: r.why, Rules: rules, NotBefore: d.Now.UTC(), Slot: r.slot()}
	expires, propensity := d.now+time.Duration(c.Expiry).Milliseconds(), r.propensity
	if t != nil {
		out.Reason, out.Deviation, out.Slot = Reason(t.Deviation.Kind), t.ID, nil
		expires, propensity = d.expires(c, t), 1
	}
	out.ExpiresAt = instant(min(expires, r.deadline))
	out.Summary = because[out.Reason]
	d.s.end(i)
	d.send(&r, c, out, propensity)
}

// send lets a decision out, or holds it out, and counts it.
func (d *desk) send(r *pending, c *Channel, out Decision, propensity float64) {
	e := &d.Policy.Experiment
	out.Type, out.Arm, out.Experiment, out.Propensity = SendNowType, Treatment, e.Name, propensity*(1-e.Holdout)
	if below(draw(d.Customer, e.Name, "holdout"), e.Holdout) {
		out.Type, out.Arm, out.Propensity = HeldOutType, Holdout, e.Holdout
	}
	out.ExpiresAt = instant(d.until(c, d.now, out.ExpiresAt.UnixMilli()))
	hour, _ := calendar.LocalHour(instant(d.now), d.loc)
	d.s.remember(sent{at: d.now, hour: hour, channel: r.channel, decision: d.ID(len(d.out)), audience: r.audience, priority: r.priority})
	d.emit(d.about(r, c, out))
}

// about fills in what every decision says.
func (d *desk) about(r *pending, c *Channel, out Decision) Decision {
	out.DecidedAt, out.Zone = instant(d.now), d.zone
	out.Request, out.Channel, out.Message, out.Audience = r.id, r.channel, r.message, r.audience
	_, out.Segment, _ = d.Policy.For(r.channel, d.a)
	if r.id != "" {
		f := d.forecast(r.channel)
		hour := r.hour
		if r.at == 0 || out.Type != WaitType {
			hour, _ = calendar.LocalHour(instant(d.now), d.loc)
		}
		now := f.Scores[calendar.HourOfWeek(hour)]
		out.Score = Score{Now: int(now), Best: int(r.best), BestAt: instant(r.bestAt), Threshold: c.Threshold, Confidence: f.Confidence, Level: f.Level}
		if r.at == 0 || now > r.best {
			out.Score.Best, out.Score.BestAt = int(now), instant(d.now)
		}
	}
	if d.Lookup != nil && (r.id != "" || out.MadeFrom.Model == "") {
		out.MadeFrom.Profile, out.MadeFrom.Model = d.Lookup.Profile, d.Lookup.Model
	}
	out.MadeFrom.Positions, out.MadeFrom.Policy = d.Positions, d.Policy.Version
	if d.Policy.Closed != nil {
		out.MadeFrom.Calendar = d.Policy.Closed.Name
	}
	return out
}

// emit appends a decision; the first of a step holds what was seen of the profile.
func (d *desk) emit(out Decision) {
	if len(d.out) == 0 {
		out.Lookup = d.Lookup
	}
	d.out = append(d.out, out)
}

// forecast is what the profile says of a channel, or what is assumed of everybody where it says nothing or may not be believed.
func (d *desk) forecast(channel string) *Forecast {
	if d.Lookup != nil && !d.Partial && !d.Lookup.Partial {
		if f, ok := d.Lookup.Channels[channel]; ok {
			return &f
		}
	}
	return businessHours()
}

// slot is the slot of a request on the wire.
func (p *plan) slot() *Interval {
	if p.at == 0 {
		return nil
	}
	return &Interval{instant(p.from), instant(p.to)}
}

// Slot is one hour, or the allowed part of it, in which a message could go out.
type Slot struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Score  int       `json:"score"`
	Prime  bool      `json:"prime"`
	Failed []Rule    `json:"excluded_by,omitempty"` // rules that exclude it
}

// Slots lists the hours between from and to in a channel, best first, those that a rule excludes last and in order of time.
// It looks at them as at the slots of one more request, of the lowest priority.
func (m *Moment) Slots(s *State, channel string, from, to time.Time) []Slot {
	d := m.open(s, "")
	defer d.done()
	c, _, ok := m.Policy.For(channel, d.a)
	if !ok {
		return nil
	}
	list := d.commitments(len(s.pending))
	bans := d.bans(channel, c, list)
	r := pending{channel: channel, notBefore: max(from.UnixMilli(), d.now), deadline: to.UnixMilli()}
	h, f := d.hours(c), d.forecast(channel)
	barred := d.barred(&r) != ""
	var today closedDay
	var open, shut []Slot
	var asked weekSet
	asked.add(d.a.Openings())
	rank := map[int64][3]bool{} // by beginning: asked for, not kept free, prime
	eachHour(r.notBefore, r.deadline, d.loc, func(hour, start int64, in minutes) {
		how := calendar.HourOfWeek(hour)
		x := candidate{hour: hour, start: start, in: in & h.windows[how] &^ h.quiet[how], score: f.Scores[how]}
		excluded := x.in == 0 || barred || d.exclude(&x, &r, bans, &today) != ""
		if excluded {
			x.in = in
		}
		slot := Slot{
			From:  instant(max(x.start+int64(x.in.first())*minutely, r.notBefore)),
			To:    instant(min(x.start+int64(x.in.last()+1)*minutely, r.deadline)),
			Score: int(x.score), Prime: x.in&h.prime[how] != 0,
		}
		if excluded {
			slot.Failed = slices.DeleteFunc(d.rules(&r, c, list, slot.From.UnixMilli()), func(x Rule) bool { return x.Passed })
			shut = append(shut, slot)
			return
		}
		rank[slot.From.UnixMilli()] = [3]bool{x.in&asked[how] != 0, !x.lead, slot.Prime && slot.Score >= c.Threshold}
		open = append(open, slot)
	})
	slices.SortStableFunc(open, func(x, y Slot) int {
		a, b := rank[x.From.UnixMilli()], rank[y.From.UnixMilli()]
		for i := range a {
			if a[i] != b[i] {
				if a[i] {
					return -1
				}
				return 1
			}
		}
		return cmp.Compare(y.Score, x.Score)
	})
	return append(open, shut...)
}
