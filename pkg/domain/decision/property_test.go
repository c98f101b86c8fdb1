package decision

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
)

// witness holds every decision of a world against the policy, minute by minute and without the planner's means: no sets of
// minutes, no bans, no hours.
type witness struct {
	t         *rapid.T
	w         *world
	closed    map[string]bool // days
	sends     map[string][]made
	known     map[string]customer.Attributes
	waiting   map[string]*Request // by customer and id
	endings   map[string]string
	forgotten map[string]time.Time // when an ended request is not known as such any more
	holds     map[string]holding   // of a request that waits, by customer and id
	audiences map[string]map[string]int64
}

// made is a send, or one that was held out.
type made struct {
	at       time.Time
	channel  string
	decision string
	holding
}

// holding is a send of an audience and priority in a local hour.
type holding struct {
	audience string
	priority int
	hour     int64
}

func witnessOf(t *rapid.T, w *world) *witness {
	v := &witness{
		t: t, w: w, closed: map[string]bool{}, sends: map[string][]made{}, known: map[string]customer.Attributes{}, waiting: map[string]*Request{},
		endings: map[string]string{}, forgotten: map[string]time.Time{}, holds: map[string]holding{}, audiences: map[string]map[string]int64{},
	}
	w.tell = v.see
	return v
}

// see takes every decision.
func (v *witness) see(who string, d *Decision) {
	id := who + "/" + d.Request
	switch d.Type {
	case SendNowType, HeldOutType:
		v.sent(who, d)
	case WaitType:
		delete(v.holds, id)
		if d.Slot != nil {
			v.holds[id] = holding{d.Audience, v.waiting[id].Priority, v.hour(d.Slot.From, d)}
			local := d.Slot.From.In(v.zone(d))
			score := int(v.w.forecast.Scores[(int(local.Weekday())+6)%7*24+local.Hour()])
			if d.Reason == BestSlot && !v.w.partial && (score < d.Score.Threshold || score != d.Score.Now) {
				v.t.Fatalf("planned for its score of %d, said to be %d, threshold %d", score, d.Score.Now, d.Score.Threshold)
			}
		}
		return
	case BlockedType:
		return
	}
	if d.Request == "" {
		return
	}
	if before, twice := v.endings[id]; twice {
		v.t.Fatalf("%s ended as %s and as %s", id, before, d.Type)
	}
	if v.waiting[id] == nil {
		v.t.Fatalf("%s ended without having begun", id)
	}
	v.endings[id], v.forgotten[id] = d.Type, v.waiting[id].Deadline.Add(7*24*time.Hour)
	delete(v.waiting, id)
	delete(v.holds, id)
}

func (v *witness) zone(d *Decision) *time.Location {
	loc, err := time.LoadLocation(d.Zone)
	if err != nil {
		v.t.Fatal(err)
	}
	return loc
}

// zoneOf is the first zone that exists of the customer's, the profile's and the policy's.
func (v *witness) zoneOf(who string) string {
	for _, name := range []string{v.known[who].Zone, v.w.zone} {
		if _, err := time.LoadLocation(name); err == nil && name != "" {
			return name
		}
	}
	return v.w.policy.Zone
}

func (v *witness) hour(at time.Time, d *Decision) int64 {
	local := at.In(v.zone(d))
	return time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), 0, 0, 0, time.UTC).Unix() / 3600
}

// sent checks a send against everything that the policy says.
func (v *witness) sent(who string, d *Decision) {
	at, p := d.DecidedAt, v.w.policy
	a := v.known[who]
	c, _, ok := p.For(d.Channel, &a)
	if !ok {
		v.t.Fatalf("sent in %s, which the policy does not have", d.Channel)
	}
	if want := v.zoneOf(who); d.Zone != want {
		v.t.Fatalf("decided in %s, and %s lives in %s", d.Zone, who, want)
	}
	if h := p.Experiment.Holdout; d.Type == HeldOutType && d.Propensity != h || d.Type == SendNowType && (d.Propensity <= 0 || d.Propensity > 1-h) {
		v.t.Fatalf("%s with the probability %v, hold-outs %v", d.Type, d.Propensity, h)
	}
	v.allowed(at, d, c)
	if !d.ExpiresAt.After(at) || d.ExpiresAt.After(at.Add(time.Duration(c.Expiry))) {
		v.t.Fatalf("sent at %v, expires at %v", at, d.ExpiresAt)
	}
	v.allowed(d.ExpiresAt.Add(-time.Millisecond), d, c)
	if m := a.Consents.Mailing; m == nil && p.Consent == Required || m != nil && !m.Granted {
		v.t.Fatalf("sent to %s without consent", who)
	}
	if len(a.Channels) > 0 && !slices.Contains(a.Channels, d.Channel) {
		v.t.Fatalf("sent by %s to %s, who has %v", d.Channel, who, a.Channels)
	}
	this := made{at: at, channel: d.Channel, holding: holding{d.Audience, 0, v.hour(at, d)}}
	if d.Request != "" {
		r := v.waiting[who+"/"+d.Request]
		if r == nil || at.Before(r.NotBefore) || !at.Before(r.Deadline) || d.ExpiresAt.After(r.Deadline) {
			v.t.Fatalf("%s of %s sent at %v, until %v, request %+v", d.Request, who, at, d.ExpiresAt, r)
		}
		this.priority = r.Priority
		v.overlap(who, r, this.hour)
	} else {
		this.priority = c.Priority
	}
	for _, b := range v.sends[who] {
		apart := at.Sub(b.at)
		if apart < time.Duration(p.Gap) || b.channel == d.Channel && apart < time.Duration(c.Gap) || b.channel != d.Channel && apart < time.Duration(p.Collision) {
			v.t.Fatalf("%s sent at %v, %v after %s", d.Channel, at, apart, b.channel)
		}
	}
	all := append(slices.Clone(v.sends[who]), this)
	for _, k := range []struct {
		limit   int
		span    time.Duration
		channel string
	}{{p.CapPerDay, 24 * time.Hour, ""}, {p.CapPerWeek, 7 * 24 * time.Hour, ""}, {c.CapPerDay, 24 * time.Hour, d.Channel}, {c.CapPerWeek, 7 * 24 * time.Hour, d.Channel}} {
		n := 0
		for _, b := range all {
			if at.Sub(b.at) < k.span && (k.channel == "" || b.channel == k.channel) {
				n++
			}
		}
		if k.limit > 0 && n > k.limit {
			v.t.Fatalf("%d sent in %v, cap %d", n, k.span, k.limit)
		}
	}
	this.decision = fmt.Sprint("d-", v.w.seq)
	v.sends[who] = append(v.sends[who], this)
}

// allowed checks the wall clock and the calendar.
func (v *witness) allowed(at time.Time, d *Decision, c *Channel) {
	local := at.In(v.zone(d))
	minute, weekday := local.Hour()*60+local.Minute(), (int(local.Weekday())+6)%7
	in := func(w calendar.Window, days uint8) bool {
		on := func(d int) bool { return days == 0 || days>>((d+7)%7)&1 == 1 }
		if w.From <= w.To {
			return on(weekday) && w.From <= minute && minute < w.To
		}
		return on(weekday) && minute >= w.From || on(weekday-1) && minute < w.To
	}
	open := false
	for _, o := range c.Windows {
		open = open || in(o.Window, o.Days)
	}
	if !open {
		v.t.Fatalf("%s at %v is outside of %v", d.Channel, local, c.Windows)
	}
	if in(v.w.policy.Quiet, 0) {
		v.t.Fatalf("%v is within %v", local, v.w.policy.Quiet)
	}
	if v.closed[local.Format(time.DateOnly)] {
		v.t.Fatalf("%v is closed", local)
	}
}

// overlap counts, for the request's audience and for every other of the customer's, who else of it holds another send in the hour.
func (v *witness) overlap(who string, r *Request, hour int64) {
	limit, today := v.w.policy.Overlap, v.w.now.Unix()/86400
	if limit >= 1 {
		return
	}
	for _, audience := range slices.Sorted(maps.Keys(v.audiences[who])) {
		if v.audiences[who][audience] < today {
			continue
		}
		members, own, competing, others := 1, 0, 0, 0
		for _, other := range slices.Sorted(maps.Keys(v.audiences)) {
			if v.audiences[other][audience] < today || other == who {
				continue
			}
			members++
			for _, h := range v.held(other) {
				switch {
				case h.hour != hour:
				case h.audience == audience && h.priority >= r.Priority:
					own++
				case h.audience != audience:
					others++
					if h.priority >= r.Priority {
						competing++
					}
				}
			}
		}
		if audience != r.Audience {
			if competing = others + 1; own == 0 {
				competing = 0
			}
		}
		if float64(competing) > limit*float64(members) {
			v.t.Fatalf("%d of %d in %s hold another send in the hour in which %s is sent to %s, at most %g may", competing, members, audience, r.ID, who, limit)
		}
	}
}

// held is what a customer has been sent, and what is planned.
func (v *witness) held(who string) (list []holding) {
	for id, h := range v.holds {
		if strings.HasPrefix(id, who+"/") {
			list = append(list, h)
		}
	}
	for _, b := range v.sends[who] {
		list = append(list, b.holding)
	}
	return list
}

// dice draws what stories are made of. The generators of rapid prefer what is small, and hardly anything would ever be sent.
type dice struct{ *rand.Rand }

func (t dice) between(least, most int) int { return least + t.IntN(most-least+1) }

func oneOf[T any](t dice, list []T) T { return list[t.IntN(len(list))] }

// drawPolicy is any policy.
func drawPolicy(t dice) *Policy {
	openings := func(least int) (list []calendar.Opening) {
		for range t.between(least, 2) {
			from := t.between(0, 1439)
			length := oneOf(t, []int{15, 60, 270, 600, 1439, 1439})
			list = append(list, calendar.Opening{Days: uint8(t.between(0, 126)), Window: calendar.Window{From: from, To: (from + length) % 1440}})
		}
		return list
	}
	few := func(most int) int { // none half of the time, so that no rule hides behind another
		return oneOf(t, []int{0, 1}) * t.between(1, most)
	}
	hours := func(most int) Duration { return Duration(time.Duration(few(most)) * time.Hour) }
	p := plain()
	p.Zone = "Europe/Rome"
	p.Consent = oneOf(t, []Consent{Assumed, Assumed, Assumed, Required})
	if t.between(0, 1) == 0 {
		p.Quiet = calendar.Window{From: t.between(1200, 1439), To: t.between(0, 540)}
	}
	p.CapPerDay, p.CapPerWeek = few(3), few(5)
	p.Gap, p.Collision = hours(30), hours(12)
	p.Overlap = oneOf(t, []float64{1, .15, .5})
	p.Experiment.Holdout = oneOf(t, []float64{0, .3})
	p.Experiment.Exploration = oneOf(t, []float64{0, .5})
	if t.between(0, 1) == 0 {
		p.Lead = []Lead{{"Christmas", "12-25", 3}}
	}
	delete(p.Channels, "push")
	for _, name := range []string{"email", "sms"} {
		c := p.Channels[name]
		c.Windows, c.Prime, c.FallBack = openings(1), openings(0), openings(0)
		c.CapPerDay, c.CapPerWeek = few(2), few(4)
		c.Gap, c.Expiry = hours(40), Duration(time.Duration(t.between(1, 120))*time.Minute)
		c.Threshold, c.Priority = t.between(0, 100), t.between(0, 3)
		p.Channels[name] = c
	}
	return p
}

// zones have clocks that change in both hemispheres, by half an hour, never, and by halves of hours.
var zones = []string{"Europe/Rome", "America/New_York", "Australia/Sydney", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago", "Pacific/Apia", "UTC", "Mars/Olympus"}

// starts lie before changes of the clock, feasts and nothing in particular.
var starts = []string{"2026-03-27T09:00:00Z", "2026-10-23T22:00:00Z", "2026-04-03T11:00:00Z", "2026-10-02T17:00:00Z", "2026-12-21T08:00:00Z", "2026-06-10T12:34:56Z"}

// TestNoRuleIsBroken says of any policy, calendar, zones, requests, deviations, changes and outages: no decision breaks a rule,
// none is made twice, and every request ends. What states remember is all that matters: nothing is another if they go through
// their encoding between any two steps.
func TestNoRuleIsBroken(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dice := dice{rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))}
		policy, script := drawPolicy(dice), drawScript(dice)
		w := play(t, rt, policy, script, false)
		if again := play(t, rt, policy, script, true); again != w {
			rt.Fatalf("through their encoding states decided\n%s\nand without\n%s", w, again)
		}
	})
}

// event is a step of a script.
type event struct {
	after time.Duration
	late  time.Duration // of the timers before it
	out   bool          // no timer fires before it
	who   string
	do    func(v *witness, who string)
}

type script struct {
	start  time.Time
	scores [168]uint8
	closed []int // days after the start
	events []event
}

func drawScript(t dice) (s script) {
	start, err := time.Parse(time.RFC3339, oneOf(t, starts))
	if err != nil {
		panic(err)
	}
	s.start = start
	for i := range s.scores {
		s.scores[i] = uint8(t.between(0, 100))
	}
	for range t.between(0, 4) {
		s.closed = append(s.closed, t.between(0, 12))
	}
	for range t.between(1, 80) {
		s.events = append(s.events, event{
			after: time.Duration(t.between(0, oneOf(t, []int{0, 90, 2000}))) * time.Minute,
			late:  time.Duration(t.between(0, 90_000)) * time.Millisecond,
			out:   t.between(0, 9) == 0,
			who:   oneOf(t, []string{"anna", "ben", "cleo"}),
			do:    drawStep(t),
		})
	}
	return s
}

// drawStep is anything that may happen to a customer.
func drawStep(t dice) func(v *witness, who string) {
	switch oneOf(t, []string{"place", "place", "place", "place", "place", "place", "cancel", "deviate", "deviate", "know", "outcome", "erase", "profile", "policy"}) {
	case "place":
		return drawRequest(t)
	case "cancel":
		id := fmt.Sprint("r-", t.between(0, 30))
		return func(v *witness, who string) {
			v.w.step(who, true, func(m *Moment, s *State) []Decision {
				out, _ := m.Place(s, &Request{ID: id, Action: Cancel})
				return out
			})
		}
	case "deviate":
		args := map[string]string{"now": fmt.Sprint(t.between(0, 100)), "best": "80"}
		channel, late := oneOf(t, []string{"email", "sms"}), t.between(0, 100)
		args["late"] = fmt.Sprint(late, "m")
		return func(v *witness, who string) { _ = v.w.deviate(who, "burst", channel, args) }
	case "know":
		a := customer.Attributes{Zone: oneOf(t, zones)}
		if granted := t.between(0, 7); granted < 5 {
			a.Consents.Mailing = &customer.Consent{Granted: granted > 0, At: time.Unix(1_700_000_000, 0).UTC()}
		}
		a.Channels = oneOf(t, [][]string{nil, {"email"}, {"email", "sms"}})
		if t.between(0, 1) == 0 {
			a.Preferred = []customer.Preference{{From: "10:00", To: "12:00"}}
		}
		return func(v *witness, who string) {
			v.known[who] = a
			v.w.step(who, false, func(m *Moment, s *State) []Decision {
				out, err := m.Know(s, a.Append(nil))
				if err != nil {
					v.t.Fatal(err)
				}
				return out
			})
		}
	case "profile":
		zone, partial := oneOf(t, zones), t.between(0, 3) == 0
		return func(v *witness, _ string) { v.w.zone, v.w.partial = zone, partial }
	case "policy":
		next := drawPolicy(t)
		return func(v *witness, _ string) {
			next := *next // it is played twice
			next.Closed = v.w.policy.Closed
			v.w.policy = &next
		}
	case "outcome":
		result := oneOf(t, []Result{Refused, TooLate, Suppressed, Accepted, Unknown, NotLive})
		return func(v *witness, who string) { v.settle(who, result) }
	}
	return func(v *witness, who string) {
		v.w.step(who, false, func(m *Moment, s *State) []Decision { return m.Erase(s) })
		delete(v.sends, who)
		delete(v.known, who)
		delete(v.audiences, who)
	}
}

// settle tells of the last send what became of it.
func (v *witness) settle(who string, result Result) {
	list := v.sends[who]
	if len(list) == 0 {
		return
	}
	last := list[len(list)-1]
	if result == Refused || result == TooLate || result == Suppressed {
		v.sends[who] = list[:len(list)-1]
	}
	v.w.step(who, false, func(m *Moment, s *State) []Decision {
		m.Settle(s, &Outcome{Decision: last.decision, Result: result})
		return nil
	})
}

func drawRequest(t dice) func(v *witness, who string) {
	r := Request{
		ID: fmt.Sprint("r-", t.between(0, 30)), Action: oneOf(t, []Action{Place, Replace}),
		Channel: oneOf(t, []string{"email", "email", "sms", "fax"}), Message: "m",
		Audience: oneOf(t, []string{"", "vips", "spring"}), Priority: t.between(0, 3),
		OnDeviation: t.between(0, 1) == 0,
	}
	wait, from := t.between(-60, oneOf(t, []int{1500, 20_000})), t.between(-1, 3000)
	return func(v *witness, who string) {
		r := r
		r.Deadline = v.w.now.Add(time.Duration(wait) * time.Minute)
		if r.NotBefore = v.w.now.Add(time.Duration(from) * time.Minute); from < 0 || !r.NotBefore.Before(r.Deadline) {
			r.NotBefore = time.Time{}
		}
		id := who + "/" + r.ID
		before := v.waiting[id]
		if v.endings[id] != "" && !v.w.now.Before(v.forgotten[id]) {
			delete(v.endings, id) // the name may be used again
		}
		if v.endings[id] == "" {
			v.waiting[id] = &r
		}
		v.w.step(who, true, func(m *Moment, s *State) []Decision {
			out, why := m.Place(s, &r)
			switch {
			case why == Unchanged:
				v.waiting[id] = before
			case why == AlreadyEnded && v.endings[id] == "":
				v.t.Fatalf("%s was passed over as ended, and has not", id)
			case why != AlreadyEnded && r.Audience != "" && slices.ContainsFunc(out, func(d Decision) bool { return d.Request == r.ID && d.Type == WaitType }):
				v.join(who, r.Audience, r.Deadline)
			}
			return out
		})
	}
}

func (v *witness) join(who, audience string, until time.Time) {
	if v.audiences[who] == nil {
		v.audiences[who] = map[string]int64{}
	}
	v.audiences[who][audience] = max(v.audiences[who][audience], until.Unix()/86400)
}

// play plays a script to its end and returns all that was decided.
func play(t *testing.T, rt *rapid.T, policy *Policy, s script, raw bool) string {
	w := newWorld(t)
	w.raw, w.policy, w.now, w.forecast.Scores = raw, policy, s.start, s.scores
	v := witnessOf(rt, w)
	for _, n := range s.closed {
		day := s.start.AddDate(0, 0, n)
		v.closed[day.Format(time.DateOnly)] = true
		w.closed(calendar.Rule{Name: "closed", Kind: calendar.Custom, Days: []calendar.Day{calendar.DayOf(day, time.UTC)}})
	}
	for _, e := range s.events {
		at := w.now.Add(e.after)
		w.late = func() time.Duration { return e.late }
		if e.out {
			w.outage = at
		}
		w.run(at)
		e.do(v, e.who)
	}
	w.run(time.Time{})
	for id := range v.waiting {
		if v.waiting[id] != nil {
			rt.Fatalf("%s has not ended", id)
		}
	}
	return w.out.String()
}
