package decision

import (
	"cmp"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// commitment is a send that was made, or is planned.
type commitment struct {
	at      int64
	channel string // empty: not known, so it counts in each
	request string // that it is planned for; empty: it was made
}

// ban is a span of time, without both ends, in which a rule forbids a send because of commitments.
type ban struct {
	from, to int64
	rule     string
}

// commitments are the sends that were made and those planned for the first n requests, in order of time.
func (d *desk) commitments(n int) []commitment {
	list := make([]commitment, 0, len(d.s.sent)+n)
	for i := range d.s.sent {
		list = append(list, commitment{at: d.s.sent[i].at, channel: d.s.sent[i].channel})
	}
	for i := range d.s.pending[:n] {
		if p := &d.s.pending[i]; p.at != 0 {
			list = commit(list, p)
		}
	}
	return list
}

// commit puts a planned request into a list of commitments.
func commit(list []commitment, p *pending) []commitment {
	at, _ := slices.BinarySearchFunc(list, p.at, func(c commitment, at int64) int { return cmp.Compare(c.at, at) })
	return slices.Insert(list, at, commitment{p.at, p.channel, p.id})
}

// bans is what commitments forbid to a send in a channel, and what the state cannot remember.
func (d *desk) bans(channel string, c *Channel, list []commitment) []ban {
	bans, all := d.Policy.bans(channel, c, list)
	return crowded(bans, all, maxSent, week)
}

// bans is what commitments, in order of time, forbid to a send in a channel with these rules. It returns their times, too.
func (p *Policy) bans(channel string, c *Channel, list []commitment) ([]ban, []int64) {
	if len(list) == 0 {
		return nil, nil
	}
	all, own := make([]int64, 0, len(list)), make([]int64, 0, len(list))
	var bans []ban
	around := func(at int64, span Duration, rule string) {
		if ms := time.Duration(span).Milliseconds(); ms > 0 {
			bans = append(bans, ban{at - ms, at + ms, rule})
		}
	}
	for _, x := range list {
		all = append(all, x.at)
		around(x.at, p.Gap, RuleGap)
		if x.channel == channel || x.channel == "" {
			own = append(own, x.at)
			around(x.at, c.Gap, RuleGap)
		} else {
			around(x.at, p.Collision, RuleCollision)
		}
	}
	bans = crowded(bans, all, p.CapPerDay, day)
	bans = crowded(bans, all, p.CapPerWeek, week)
	bans = crowded(bans, own, c.CapPerDay, day)
	return crowded(bans, own, c.CapPerWeek, week), all
}

// crowded adds where one more of the times would be more than limit within a span: any limit of them in a row, if they lie
// within it, leave no room from the span before the last of them to the span after the first.
func crowded(bans []ban, times []int64, limit int, span time.Duration) []ban {
	ms := span.Milliseconds()
	for i := 0; limit > 0 && i+limit <= len(times); i++ {
		if first, last := times[i], times[i+limit-1]; last-first < ms {
			bans = append(bans, ban{last - ms, first + ms, RuleFrequency})
		}
	}
	return bans
}

// banned reports whether a rule forbids a send at an instant.
func banned(bans []ban, rule string, at int64) bool {
	return slices.ContainsFunc(bans, func(b ban) bool { return b.rule == rule && b.from < at && at < b.to })
}

// without is the minutes of the hour that begins at start in which the rule forbids no instant.
func (m minutes) without(bans []ban, rule string, start int64) minutes {
	for i := range bans {
		if b := &bans[i]; b.rule == rule && b.from < start+hourly && start < b.to {
			m &^= between(floorDiv(b.from+1-start, minutely), floorDiv(b.to-1-start, minutely)+1)
		}
	}
	return m
}

// candidate is an hour in which a request may go out.
type candidate struct {
	hour, start int64   // as eachHour says
	in          minutes // that are allowed
	score       uint8
	lead        bool // it lies on a day that is kept free before a feast
	prime       bool // in is within the channel's prime hours
}

// survey is what the rules make of the hours of a request.
type survey struct {
	open     []candidate    // in order of time
	shut     map[string]int // hours that a rule excludes, of those within the windows
	hours    int            // within the windows
	outside  string         // the rule that excludes where there are none
	better   candidate      // the best hour that is excluded
	betterBy string         // the rule that excludes it; empty: there is none
}

// rulesOfHours are the rules about an hour within the windows in the order in which they are asked.
var rulesOfHours = [...]string{RuleCalendar, RuleFrequency, RuleGap, RuleCollision, RuleOverlap}

// hours is a channel's policy for a customer as sets of minutes.
type hours struct {
	windows, prime, fallBack, quiet weekSet
}

func (d *desk) hours(c *Channel) *hours {
	var h hours
	h.windows.add(c.Windows)
	h.prime.add(c.Prime)
	h.fallBack.add(c.FallBack)
	h.quiet.add(everyDay(d.Policy.Quiet))
	return &h
}

// survey asks every rule about every hour from now to the request's deadline.
func (d *desk) survey(r *pending, h *hours, f *Forecast, bans []ban) *survey {
	v := &survey{outside: RuleWindow}
	var today closedDay
	eachHour(max(d.now, r.notBefore), r.deadline, d.loc, func(hour, start int64, in minutes) {
		how := calendar.HourOfWeek(hour)
		in &= h.windows[how]
		if in == 0 {
			return
		}
		x := candidate{hour: hour, start: start, in: in &^ h.quiet[how], score: f.Scores[how]}
		if x.in == 0 {
			v.outside = RuleQuiet
			return
		}
		v.hours++
		if rule := d.exclude(&x, r, bans, &today); rule != "" {
			v.exclude(&x, rule)
			return
		}
		v.open = append(v.open, x)
	})
	return v
}

// exclude takes the minutes out of an hour that rules forbid and names the rule that leaves none.
func (d *desk) exclude(x *candidate, r *pending, bans []ban, today *closedDay) string {
	if today.ask(d, x.hour); today.closed {
		return RuleCalendar
	}
	x.lead = today.lead
	for _, rule := range [...]string{RuleFrequency, RuleGap, RuleCollision} {
		if x.in = x.in.without(bans, rule, x.start); x.in == 0 {
			return rule
		}
	}
	if !d.overlap(r, x.hour).ok {
		return RuleOverlap
	}
	return ""
}

func (v *survey) exclude(x *candidate, rule string) {
	if v.shut == nil {
		v.shut = make(map[string]int)
	}
	v.shut[rule]++
	if v.betterBy == "" || x.score > v.better.score {
		v.better, v.betterBy = *x, rule
	}
}

// why is the rule because of which no hour is open.
func (v *survey) why() Reason {
	most, by := 0, ""
	for _, rule := range rulesOfHours {
		if n := v.shut[rule]; n > most {
			most, by = n, rule
		}
	}
	if most == 0 {
		by = v.outside
	}
	return reasons[by]
}

// closedDay is a local day and what calendars say of it: days are asked for hour by hour.
type closedDay struct {
	day    int64
	known  bool
	closed bool
	lead   bool
}

func (c *closedDay) ask(d *desk, hour int64) {
	n := floorDiv(hour, 24)
	if c.known && c.day == n {
		return
	}
	day := localDay(hour)
	_, closed := d.Policy.Closed.Closed(day, d.a.Place)
	*c = closedDay{day: n, known: true, closed: closed, lead: d.lead(day) != nil}
}

// lead is the feast before which a day is kept free.
func (d *desk) lead(x calendar.Day) *Lead {
	for i := range d.Policy.Lead {
		l := &d.Policy.Lead[i]
		month, dayOfMonth, ok := parseMonthDay(l.Before)
		for n := 1; ok && n <= l.Days; n++ {
			if y := x.Add(n); y.Month == month && y.Day == dayOfMonth {
				return l
			}
		}
	}
	return nil
}

// choose picks the slot of a request among the hours that are open, and says why; false if none is.
//
// Hours that the customer has asked for outrank all others, and what is inferred does not count among them. Days before a
// feast are for those who have no others. Of the rest the first are prime hours that reach the threshold, then others that
// do, the best first and the earliest of equals. Where none reaches it the request falls back: on the last day on which it
// may, it takes the best hour.
func (d *desk) choose(r *pending, c *Channel, h *hours, v *survey) (x candidate, why Reason, propensity float64, ok bool) {
	if len(v.open) == 0 {
		return candidate{}, v.why(), 0, false
	}
	set, preferred := d.preferred(v.open)
	if slices.ContainsFunc(set, func(x candidate) bool { return !x.lead }) {
		set = slices.DeleteFunc(slices.Clone(set), func(x candidate) bool { return x.lead })
	}
	best, why := pick(set, c, h, preferred)
	x = best
	e := &d.Policy.Experiment
	if below(draw(d.Customer, e.Name, "exploration", r.id), e.Exploration) {
		x, why = drawn(set, draw(d.Customer, e.Name, "slot", r.id)), Exploration
	}
	propensity = e.Exploration / float64(len(set))
	if x.hour == best.hour {
		propensity += 1 - e.Exploration
	}
	return x, why, propensity, true
}

// preferred keeps of the hours those that the customer has asked for, if there are such.
func (d *desk) preferred(open []candidate) ([]candidate, bool) {
	openings := d.a.Openings()
	if len(openings) == 0 {
		return open, false
	}
	var asked weekSet
	asked.add(openings)
	var set []candidate
	for _, x := range open {
		if x.in &= asked[calendar.HourOfWeek(x.hour)]; x.in != 0 {
			set = append(set, x)
		}
	}
	if len(set) == 0 {
		return open, false
	}
	return set, true
}

// pick is the best of set.
func pick(set []candidate, c *Channel, h *hours, preferred bool) (candidate, Reason) {
	var best candidate
	found := false
	for _, x := range set {
		if !preferred && int(x.score) < c.Threshold {
			continue
		}
		if prime := x.in & h.prime[calendar.HourOfWeek(x.hour)]; prime != 0 {
			x.in, x.prime = prime, true
		}
		if !found || x.prime && !best.prime || x.prime == best.prime && x.score > best.score {
			best, found = x, true
		}
	}
	switch {
	case found && preferred:
		return best, Preferred
	case found:
		return best, BestSlot
	}
	return fallBack(set, h), FallBack
}

// fallBack is the best hour of the last day that has one within the hours for it or, if no day has, of the last day.
func fallBack(set []candidate, h *hours) candidate {
	last := func(within *weekSet) (best candidate, found bool) {
		for i := len(set) - 1; i >= 0; i-- {
			x := set[i]
			if within != nil {
				x.in &= within[calendar.HourOfWeek(x.hour)]
			}
			if found && floorDiv(x.hour, 24) != floorDiv(best.hour, 24) {
				break
			}
			if x.in != 0 && (!found || x.score >= best.score) {
				best, found = x, true
			}
		}
		return best, found
	}
	best, found := last(&h.fallBack)
	if !found {
		best, _ = last(nil)
	}
	return best
}

// drawn picks one of set by hash: each is as likely, and the one that was picked stays so when others fall away.
func drawn(set []candidate, seed uint64) candidate {
	return slices.MinFunc(set, func(x, y candidate) int {
		return cmp.Compare(mix(seed^uint64(x.hour)), mix(seed^uint64(y.hour)))
	})
}

// gentle are the minutes of an hour that are not near :00 and :30, when everybody else's messages arrive.
var gentle = between(4, 27) | between(34, 57)

// moment chooses the instant in an hour, by hash, so that messages do not all go out at once: away from the full and the
// half hour where that is allowed.
func (d *desk) moment(r *pending, x *candidate) int64 {
	seed := draw(d.Customer, r.id, "minute") ^ uint64(x.hour)
	second := int64(seed%60) * 1000
	in := x.in
	if rest := in &^ between(0, floorDiv(d.now-x.start-second+minutely-1, minutely)); rest != 0 {
		in = rest // without the minute whose second is over: the instant would be now, to the millisecond, and another one in a replay
	}
	if in&gentle != 0 {
		in &= gentle
	}
	var minute int64
	var least uint64
	for first := true; in != 0; in &= in - 1 { // each is as likely, and the one that is chosen stays so when others fall away
		m := int64(in.first())
		if n := mix(seed ^ uint64(m)<<48); first || n < least {
			minute, least, first = m, n, false
		}
	}
	at := x.start + minute*minutely
	if at+minutely <= r.deadline {
		at += second
	}
	return max(at, d.now, r.notBefore)
}

// plan gives every request that waits its slot anew, each knowing those before it. It tells where a slot
// is another than before; of the request named moved, in any case, and that a rule has moved it.
func (d *desk) plan(moved string, by Reason) {
	list := d.commitments(0)
	for i := 0; i < len(d.s.pending); i++ {
		r := &d.s.pending[i]
		c, _, ok := d.Policy.For(r.channel, d.a)
		switch {
		case !ok:
			d.finish(i, ExpiredType, UnknownChannel)
			i--
			continue
		case d.now >= r.deadline:
			d.finish(i, ExpiredType, d.lateness(r))
			i--
			continue
		}
		before, why := r.plan, r.why
		s := d.slot(r, c, list)
		if r.at != 0 {
			list = commit(list, r)
		}
		if r.id == moved || r.at != before.at || r.why != why {
			d.wait(r, c, s, list, moved, by)
		}
	}
}

// slot plans one request.
func (d *desk) slot(r *pending, c *Channel, list []commitment) *survey {
	before, was := r.plan, r.why
	r.plan = plan{}
	if why := d.barred(r); why != "" {
		r.why, r.due = why, min(r.deadline, d.now+again.Milliseconds())
		return &survey{}
	}
	h := d.hours(c)
	v := d.survey(r, h, d.forecast(r.channel), d.bans(r.channel, c, list))
	x, why, propensity, ok := d.choose(r, c, h, v)
	r.why = why
	if !ok {
		r.due = min(r.deadline, d.now+again.Milliseconds())
		if v.hours == 0 && was != "" { // time has run out: what had kept it from going out is told, and not the clock
			if r.why = was; before.at != 0 {
				r.why = NoAllowedSlot
			}
		}
		return v
	}
	r.at = d.moment(r, &x)
	r.due, r.hour, r.propensity = r.at, x.hour, propensity
	if r.at == before.at && why == was { // it was chosen when more hours were ahead, with the probability that it had then
		r.propensity = before.propensity
	}
	r.from = max(x.start+int64(x.in.first())*minutely, r.notBefore) // not now: a state that is made again has another one
	r.to = min(x.start+int64(x.in.last()+1)*minutely, r.deadline)
	for i := range v.open {
		if y := &v.open[i]; r.bestAt == 0 || y.score > r.best {
			r.best, r.bestAt = y.score, max(y.start+int64(y.in.first())*minutely, r.notBefore)
		}
	}
	return v
}

// barred is why a customer may not be written to in a channel at all, whatever the hour.
func (d *desk) barred(r *pending) Reason {
	if ok, _ := d.consent(r.channel); !ok {
		return NoConsent
	}
	if ok, _ := d.reachable(r.channel); !ok {
		return Unreachable
	}
	return ""
}

// lateness is why a request ends at its deadline.
func (d *desk) lateness(r *pending) Reason {
	if r.at == 0 && r.why != "" {
		return r.why
	}
	return Deadline
}
