package decision

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Trigger is a deviation with what its envelope says of it.
type Trigger struct {
	ID        string    // of the deviation
	Time      time.Time // of the engagement behind it
	Deviation deviation.Deviation
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
	d := m.open(s, now, v.Zone)
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
	rules := d.hurried(d.rules(r, c, list, d.now), d.expiry(c, t), d.bestOfRequest(r, c, list, t))
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
	rules := d.hurried(d.rules(&r, c, list, d.now), d.expiry(c, t), bestHour(v.Score, d.loc))
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
	out.Summary = because[out.Reason]
	d.send(&r, c, d.scored(out, v), 1)
	d.after()
}

// hurried adds the rules about a deviation to those about any send, where they stand in the order of rules.
func (d *desk) hurried(rules []Rule, expiry, best Rule) []Rule {
	at := slices.IndexFunc(rules, func(r Rule) bool { return r.Rule == RuleCalendar })
	return slices.Insert(slices.Insert(rules, at, best), 0, expiry)
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
	v := d.survey(r, d.hours(c), f, d.bans(r.channel, c, list))
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
