package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// finish ends the i-th request without a send.
func (d *desk) finish(i int, typ string, why Reason) {
	r := d.s.pending[i]
	c, _, ok := d.Policy.For(r.channel, d.a)
	out := Decision{Type: typ, Reason: why, NotBefore: instant(max(r.notBefore, d.now)), ExpiresAt: instant(r.deadline), Slot: r.slot(), Summary: endings[why]}
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
	switch {
	case score >= c.Threshold:
	case r.why == BestSlot: // a newer profile, or a newer policy: what was chosen stays chosen
		reached.Detail += "; it was reached when the slot was chosen"
	default:
		reached.Detail += ": " + because[r.why]
	}
	return append(rules, lead, reached)
}

// release sends the i-th request, which has been allowed: by its slot, or because of a deviation.
func (d *desk) release(i int, c *Channel, rules []Rule, t *Trigger) {
	r := d.s.pending[i]
	out := Decision{Reason: r.why, Rules: rules, NotBefore: instant(d.now), Slot: r.slot()}
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
	d.s.remember(sent{at: d.now, hour: hour, channel: r.channel, decision: strings.Clone(d.ID(len(d.out))), audience: r.audience, priority: r.priority})
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

// because begins the sentence about what was sent.
var because = map[Reason]string{
	Burst:        "unusually attentive, and no clearly better hour lies ahead",
	Reactivation: "back after a long silence, and no clearly better hour lies ahead",
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
