package decision

import (
	"fmt"
	"math"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Trigger is a deviation with what its envelope and its place in the log say of it.
type Trigger struct {
	ID        string            // of the deviation
	Time      time.Time         // of the engagement behind it
	Positions map[string]string // where it stood, for MadeFrom
	Deviation deviation.Deviation
}

// share is how much of the best hour's worth this hour must have: sending at once saves waiting. That a customer who is
// reading now answers sooner than the profile says is in Score.Worth.
const share = 0.8

// margin is share on the scale of scores, 50 points for each factor of two (package timing), for deviations that do not say
// what the hour is worth. The scale ends at 100, twice the average hour: beyond it, hours no longer differ.
var margin = 50 * math.Log2(share)

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
		Score:      d.Score,
		NotBefore:  t.Time.UTC(),
		ExpiresAt:  expires.UTC(),
		Deviation:  t.ID,
		Arm:        Treatment,
		Propensity: 1,
		Rules:      rules,
		MadeFrom: MadeFrom{
			Positions: t.Positions,
			Profile:   d.Cause.Position,
			Model:     d.Model,
			Policy:    p.Version,
			Calendar:  p.Closed.Name,
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
	s.add(now)
	return out, true, nil
}

// reasons names what each rule blocks for.
var reasons = map[string]Reason{
	RuleExpiry:    Expired,
	RuleBestHour:  BetterHourAhead,
	RuleCalendar:  ClosedDay,
	RuleWindow:    OutsideWindow,
	RuleQuiet:     QuietHours,
	RuleFrequency: FrequencyCap,
	RuleGap:       MinimumGap,
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

func bestHour(s timing.Score, loc *time.Location) Rule {
	detail := fmt.Sprintf("score %d now, %d on %s", s.Now, s.Best, s.BestAt.In(loc).Format("Mon 2 Jan 15:04"))
	if s.Worth > 0 {
		return Rule{RuleBestHour, s.Worth >= share, fmt.Sprintf("%s, and reading now it is worth %.2f of that", detail, s.Worth)}
	}
	return Rule{RuleBestHour, float64(s.Now-s.Best) >= margin, detail}
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
	inDay, inWeek := s.since(now.Add(-day)), s.since(now.Add(-week))
	passed := (p.CapPerDay == 0 || inDay < p.CapPerDay) && (p.CapPerWeek == 0 || inWeek < p.CapPerWeek)
	return Rule{RuleFrequency, passed, fmt.Sprintf("%s in 24 hours, %s in 7 days", of(inDay, p.CapPerDay), of(inWeek, p.CapPerWeek))}
}

// of writes a count beside its cap.
func of(n, limit int) string {
	if limit == 0 {
		return fmt.Sprintf("%d, no cap,", n)
	}
	return fmt.Sprintf("%d of %d", n, limit)
}

func (p *OldPolicy) gap(s *State, now time.Time) Rule {
	last, ok := s.last()
	if !ok {
		return Rule{RuleGap, true, "none sent before"}
	}
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

// span writes a duration for people, in its two largest units.
func span(d time.Duration) string {
	unit := func(n time.Duration, name string) string {
		if n == 1 {
			return "1 " + name
		}
		return fmt.Sprintf("%d %ss", n, name)
	}
	d = max(d, 0)
	switch days, hours, minutes := d/day, d/time.Hour, d/time.Minute; {
	case days >= 2 && hours%24 != 0:
		return unit(days, "day") + " " + unit(hours%24, "hour")
	case days >= 2:
		return unit(days, "day")
	case hours >= 1 && minutes%60 != 0:
		return unit(hours, "hour") + " " + unit(minutes%60, "minute")
	case hours >= 1:
		return unit(hours, "hour")
	case minutes >= 1:
		return unit(minutes, "minute")
	default:
		return unit(d/time.Second, "second")
	}
}
