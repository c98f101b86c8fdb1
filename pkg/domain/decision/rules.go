package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// rules asks every rule about a send of r at an instant, given what else was sent and is planned.
func (d *desk) rules(r *pending, c *Channel, list []commitment, at int64) []Rule {
	bans := d.bans(r.channel, c, list)
	out := make([]Rule, 0, 16)
	add := func(rule string, passed bool, detail string) { out = append(out, Rule{rule, passed, detail}) }
	if r.deadline != 0 {
		add(RuleDeadline, r.notBefore <= at && at < r.deadline, d.term(r))
	}
	ok, detail := d.consent(r.channel)
	add(RuleConsent, ok, detail)
	ok, detail = d.reachable(r.channel)
	add(RuleChannel, ok, detail)

	local := instant(at).In(d.loc)
	minute, clock := local.Hour()*60+local.Minute(), local.Format("15:04")
	day := calendar.DayOf(local, d.loc)
	ok, detail = d.calendar(day)
	add(RuleCalendar, ok, detail)
	add(RuleWindow, slices.ContainsFunc(c.Windows, func(o calendar.Opening) bool { return o.Contains(local.Weekday(), minute) }),
		d.windows(c)+", now "+clock)
	if q := d.Policy.Quiet; q.Empty() {
		add(RuleQuiet, true, "no quiet hours")
	} else {
		add(RuleQuiet, !q.Contains(minute), q.String()+" "+d.zone+", now "+clock)
	}
	add(RuleFrequency, !banned(bans, RuleFrequency, at), d.frequency(r.channel, c, list, at))
	add(RuleGap, !banned(bans, RuleGap, at), d.gap(r.channel, c, list, at))
	add(RuleCollision, !banned(bans, RuleCollision, at), d.collision(r.channel, list, at))
	hour, _ := calendar.LocalHour(local, d.loc)
	crowd := d.overlap(r, hour)
	add(RuleOverlap, crowd.ok, d.share(crowd))
	return out
}

// failed is the first rule that failed.
func failed(rules []Rule) *Rule {
	for i := range rules {
		if !rules[i].Passed {
			return &rules[i]
		}
	}
	return nil
}

// allowed reports whether the calendar, the windows and quiet hours allow an instant: what bounds the life of a decision.
func (d *desk) allowed(c *Channel, at int64) bool {
	local := instant(at).In(d.loc)
	minute := local.Hour()*60 + local.Minute()
	ok, _ := d.calendar(calendar.DayOf(local, d.loc))
	return ok && !d.Policy.Quiet.Contains(minute) &&
		slices.ContainsFunc(c.Windows, func(o calendar.Opening) bool { return o.Contains(local.Weekday(), minute) })
}

// until shortens a decision's life to the minutes in which it is allowed without a break: a decision of the last minute
// of the window must not be carried out after it. It asks minute by minute, which makes no assumption about how windows,
// quiet hours, closed days and changes of the clock fall together; a life is short.
func (d *desk) until(c *Channel, now, expires int64) int64 {
	for u := (floorDiv(now, minutely) + 1) * minutely; u < expires; u += minutely {
		if !d.allowed(c, u) {
			return u
		}
	}
	return expires
}

func (d *desk) term(r *pending) string {
	to := d.local(r.deadline)
	if r.notBefore == 0 {
		return "until " + to
	}
	return "from " + d.local(r.notBefore) + " until " + to
}

func (d *desk) consent(channel string) (bool, string) {
	switch m := d.s.mailing(channel); {
	case m == nil && d.Policy.Consent == Required:
		return false, "never given, and the policy asks for it"
	case m == nil:
		return true, "never asked for; the policy assumes it"
	case !m.Granted:
		return false, "refused on " + m.At.UTC().Format(time.DateOnly)
	default:
		return true, "given on " + m.At.UTC().Format(time.DateOnly)
	}
}

func (d *desk) reachable(channel string) (bool, string) {
	switch {
	case len(d.a.Channels) == 0:
		return true, "nothing is known against " + channel
	case slices.Contains(d.a.Channels, channel):
		return true, "can be reached by " + channel
	}
	return false, "can be reached by " + strings.Join(d.a.Channels, ", ") + " only"
}

func (d *desk) calendar(x calendar.Day) (bool, string) {
	book := d.Policy.Closed
	if h, closed := book.Closed(x, d.a.Place); closed {
		return false, h.Name + " in " + h.In
	}
	if first, _ := book.Years(); first == 0 {
		return true, "no day is closed"
	}
	return true, "no closed day in " + book.Name
}

func (d *desk) windows(c *Channel) string {
	list := make([]string, len(c.Windows))
	for i, o := range c.Windows {
		list[i] = o.String()
	}
	text := strings.Join(list, ", ") + " " + d.zone
	if d.lost != "" {
		text += " (" + d.lost + " is not known)"
	}
	return text
}

// frequency counts within the spans of the caps, before and after.
func (d *desk) frequency(channel string, c *Channel, list []commitment, at int64) string {
	count := func(channel string, span time.Duration) int { return most(list, channel, at, span.Milliseconds()) }
	text := fmt.Sprintf("%s in 24 hours, %s in 7 days", of(count(channel, day), c.CapPerDay), of(count(channel, week), c.CapPerWeek))
	if p := d.Policy; p.CapPerDay > 0 || p.CapPerWeek > 0 {
		text += fmt.Sprintf("; over all channels %s in 24 hours, %s in 7 days", of(count("", day), p.CapPerDay), of(count("", week), p.CapPerWeek))
	}
	return text
}

// most is the largest number of commitments in the channel (empty: in any) within a span that holds the instant as well.
func most(list []commitment, channel string, at, span int64) int {
	counts := func(c *commitment) bool { return channel == "" || c.channel == channel || c.channel == "" }
	result := 0
	for i := range list {
		first := &list[i]
		if !counts(first) || first.at <= at-span || first.at >= at+span {
			continue
		}
		n := 0
		for j := i; j < len(list) && list[j].at-min(first.at, at) < span; j++ {
			if counts(&list[j]) {
				n++
			}
		}
		result = max(result, n)
	}
	return result
}

// of writes a count beside its cap.
func of(n, limit int) string {
	if limit == 0 {
		return fmt.Sprintf("%d, no cap,", n)
	}
	return fmt.Sprintf("%d of %d", n, limit)
}

// gap names the nearest other send and the least distance.
func (d *desk) gap(channel string, c *Channel, list []commitment, at int64) string {
	least := d.Policy.Gap
	x := nearest(list, at, func(x *commitment) bool { return x.channel == channel || x.channel == "" })
	if x != nil {
		least = max(least, c.Gap)
	} else if x = nearest(list, at, func(*commitment) bool { return true }); x == nil {
		return "none sent before"
	}
	return d.distance(x, at) + ", at least " + span(time.Duration(least)) + " apart"
}

// collision names the nearest send in another channel.
func (d *desk) collision(channel string, list []commitment, at int64) string {
	x := nearest(list, at, func(x *commitment) bool { return x.channel != channel && x.channel != "" })
	if x == nil {
		return "none in another channel"
	}
	return x.channel + ": " + d.distance(x, at) + ", at least " + span(time.Duration(d.Policy.Collision)) + " apart"
}

func nearest(list []commitment, at int64, counts func(*commitment) bool) *commitment {
	var near *commitment
	for i := range list {
		if x := &list[i]; counts(x) && (near == nil || abs(x.at-at) < abs(near.at-at)) {
			near = x
		}
	}
	return near
}

func abs(n int64) int64 { return max(n, -n) }

// distance says how far a commitment is.
func (d *desk) distance(x *commitment, at int64) string {
	apart := time.Duration(abs(x.at-at)) * time.Millisecond
	switch {
	case x.request == "":
		return "last one " + span(apart) + " ago"
	case x.at < at:
		return x.request + " is planned " + span(apart) + " before"
	default:
		return x.request + " is planned " + span(apart) + " after"
	}
}

// crowd is what the rule about overlap finds.
type crowd struct {
	ok         bool
	counted    bool   // whether there was anything to count
	audience   string // that of the request or, where that is none or has room, the first that has none
	n, members int64  // holds another send, of so many
}

// overlap reports whether few enough of an audience hold another send in a local hour, from both sides: others' sends of at
// least the same priority in the request's own audience; and the request, as another send, in every other audience of the customer
// for which sends of at least its priority are held in that hour. What has no request is not asked.
func (d *desk) overlap(r *pending, hour int64) crowd {
	limit, found := d.Policy.Overlap, crowd{ok: true, audience: r.audience}
	if limit >= 1 || r.id == "" {
		return found
	}
	if r.audience != "" {
		var x sharing
		x, found.counted = d.Audiences.sharing(r.audience, hour, r.priority)
		found.n, found.members = x.competing, x.members+1 // with this customer
		if float64(found.n) > limit*float64(found.members) {
			found.ok = false
			return found
		}
	}
	for _, m := range d.s.members {
		x, counted := d.Audiences.sharing(m.audience, hour, r.priority)
		if m.audience != r.audience && counted && x.own > 0 && float64(x.others+1) > limit*float64(x.members+1) {
			return crowd{counted: true, audience: m.audience, n: x.others + 1, members: x.members + 1}
		}
	}
	return found
}

func (d *desk) share(x crowd) string {
	switch {
	case d.Policy.Overlap >= 1:
		return "no limit"
	case x.audience == "":
		return "no audience named"
	case !x.counted:
		return "too many audiences to count this one"
	}
	return fmt.Sprintf("%d of %d in %s hold another send in this hour, at most %g %%", x.n, x.members, x.audience, 100*d.Policy.Overlap)
}

// local writes an instant in the customer's time.
func (d *desk) local(at int64) string { return instant(at).In(d.loc).Format("Mon 2 Jan 15:04") }

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
