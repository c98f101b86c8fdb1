package decision

import (
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Decide applies the policy to a deviation at the instant now of the partition's clock, and remembers in s what it sent.
//
// Only what a user would ask about becomes a Decision: a burst that may act, or a reactivation, on the policy's channel.
// For every other deviation the answer is false and the Reason that it was passed over for, to be counted: a silence or a
// burst beyond the gate was never going to move a send.
//
// Of the other deviations every rule is evaluated and listed, whether or not one before it failed. The Reason is that of
// the first that failed or, if all passed, what triggered the send. The error names a field of the deviation that no
// decision can be made from, and s is then as it was.
func Decide(p *OldPolicy, s *State, t *Trigger, now time.Time) (Decision, bool, error) {
	d := &t.Deviation
	switch {
	case !d.Actionable || d.Kind != timing.Burst && d.Kind != timing.Reactivation:
		return Decision{Reason: NotActionable}, false, nil
	case d.Channel != p.Channel:
		return Decision{Reason: OtherChannel}, false, nil
	}
	loc, err := calendar.Zone(d.Zone)
	if err != nil {
		return Decision{}, false, err
	}
	if now.Before(t.Time) {
		now = t.Time // a source's clock may run ahead of ours by a little
	}

	expires := t.Time.Add(p.Expiry)
	rules := []Rule{
		p.expiry(t.Time, now, expires),
		bestHour(d.Score, loc),
		p.calendar(now, loc),
		p.window(now, loc),
		p.quiet(now, loc),
		p.frequency(s, now),
		p.gap(s, now),
	}
	out := Decision{
		Type:       SendNowType,
		DecidedAt:  now.UTC(),
		Channel:    d.Channel,
		Zone:       d.Zone,
		Score:      Score{Now: d.Score.Now, Best: d.Score.Best, BestAt: d.Score.BestAt, Confidence: d.Score.Confidence, Level: d.Score.Level},
		NotBefore:  t.Time.UTC(),
		ExpiresAt:  expires.UTC(),
		Deviation:  t.ID,
		Arm:        Treatment,
		Propensity: 1,
		Rules:      rules,
		MadeFrom: MadeFrom{
			Positions: t.Positions,

			Profile:  d.Cause.Position,
			Model:    d.Model,
			Policy:   p.Version,
			Calendar: p.Closed.Name,
		},
	}
	for _, r := range rules {
		if !r.Passed {
			out.Reason = reasons[r.Rule]
			out.Type = BlockedType
			if out.Reason == Expired {
				out.Type = ExpiredType
			}
			out.Summary = blocked(p, &r)
			return out, true, nil
		}
	}
	out.Reason, out.Summary = Burst, "unusually attentive, and no clearly better hour lies ahead"
	if d.Kind == timing.Reactivation {
		out.Reason, out.Summary = Reactivation, "back after a long silence, and no clearly better hour lies ahead"
	}
	out.ExpiresAt = p.until(now, expires, loc).UTC()
	s.remember(sent{at: now.UnixMilli(), channel: d.Channel})
	return out, true, nil
}

// blocked is the sentence for a decision that the rule r prevented.
func blocked(p *OldPolicy, r *Rule) string {
	switch r.Rule {
	case RuleExpiry:
		return span(p.Expiry) + " after the engagement the moment is over; nothing was sent"
	case RuleBestHour:
		return "a better hour lies ahead: " + r.Detail
	case RuleCalendar:
		return "closed today: " + r.Detail
	case RuleWindow:
		return "outside the window: " + r.Detail
	case RuleQuiet:
		return "within quiet hours: " + r.Detail
	case RuleFrequency:
		return "enough messages already: " + r.Detail
	default:
		return "too soon after the last message: " + r.Detail
	}
}

func (p *OldPolicy) expiry(engaged, now, expires time.Time) Rule {
	return Rule{RuleExpiry, now.Before(expires), fmt.Sprintf("%s after the engagement, at most %s", span(now.Sub(engaged)), span(p.Expiry))}
}

func (p *OldPolicy) calendar(now time.Time, loc *time.Location) Rule {
	if h, closed := p.Closed.Closed(calendar.DayOf(now, loc), calendar.Place{}); closed {
		return Rule{RuleCalendar, false, h.Name + " in " + h.In}
	}
	return Rule{RuleCalendar, true, "no closed day in " + p.Closed.Name}
}

func (p *OldPolicy) window(now time.Time, loc *time.Location) Rule {
	return Rule{RuleWindow, p.Window.Contains(calendar.Minute(now, loc)), fmt.Sprintf("%s %s, now %s", p.Window, loc, now.In(loc).Format("15:04"))}
}

func (p *OldPolicy) quiet(now time.Time, loc *time.Location) Rule {
	if p.Quiet.Empty() {
		return Rule{RuleQuiet, true, "no quiet hours"}
	}
	return Rule{RuleQuiet, !p.Quiet.Contains(calendar.Minute(now, loc)), fmt.Sprintf("%s %s, now %s", p.Quiet, loc, now.In(loc).Format("15:04"))}
}

func (p *OldPolicy) frequency(s *State, now time.Time) Rule {
	list := s.list()
	inDay, inWeek := most(list, "", now.UnixMilli(), day.Milliseconds()), most(list, "", now.UnixMilli(), week.Milliseconds())
	passed := (p.CapPerDay == 0 || inDay < p.CapPerDay) && (p.CapPerWeek == 0 || inWeek < p.CapPerWeek)
	return Rule{RuleFrequency, passed, fmt.Sprintf("%s in 24 hours, %s in 7 days", of(inDay, p.CapPerDay), of(inWeek, p.CapPerWeek))}
}

func (p *OldPolicy) gap(s *State, now time.Time) Rule {
	list := s.list()
	if len(list) == 0 {
		return Rule{RuleGap, true, "none sent before"}
	}
	last := instant(list[len(list)-1].at)
	return Rule{RuleGap, now.Sub(last) >= p.MinGap, fmt.Sprintf("last one %s ago, at least %s apart", span(now.Sub(last)), span(p.MinGap))}
}

// until shortens a decision's life to the minutes in which it is allowed without a break: a decision of the last minute
// of the window must not be carried out after it. It asks minute by minute, which makes no assumption about how windows,
// quiet hours, closed days and changes of the clock fall together; a life is short.
func (p *OldPolicy) until(now, expires time.Time, loc *time.Location) time.Time {
	for u := now.Truncate(time.Minute).Add(time.Minute); u.Before(expires); u = u.Add(time.Minute) {
		minute := calendar.Minute(u, loc)
		_, closed := p.Closed.Closed(calendar.DayOf(u, loc), calendar.Place{})
		if closed || !p.Window.Contains(minute) || p.Quiet.Contains(minute) {
			return u
		}
	}
	return expires
}

func (s *State) list() (list []commitment) {
	for _, t := range s.sent {
		list = append(list, commitment{at: t.at})
	}
	return list
}
