package decision

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
)

// TestNothingIsDropped says of a request that has no others beside it: if any whole minute until its deadline is allowed, it goes
// out. (That nothing goes out that is not allowed, TestNoRuleIsBroken says.)
func TestNothingIsDropped(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dice := dice{rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))}
		p := drawPolicy(dice)
		p.Consent = Assumed
		w := newWorld(t)
		w.policy, w.zone = p, oneOf(dice, zones)
		start, err := time.Parse(time.RFC3339, oneOf(dice, starts))
		if err != nil {
			rt.Fatal(err)
		}
		w.now = start.Add(time.Duration(dice.between(0, 3000)) * time.Minute).Add(time.Duration(dice.between(0, 59_999)) * time.Millisecond)
		closed := map[string]bool{}
		for range dice.between(0, 4) {
			day := start.AddDate(0, 0, dice.between(0, 5))
			closed[day.Format(time.DateOnly)] = true
			w.closed(calendar.Rule{Name: "closed", Kind: calendar.Custom, Days: []calendar.Day{calendar.DayOf(day, time.UTC)}})
		}
		r := Request{ID: "r-1", Action: Place, Channel: "email", Message: "m", Deadline: w.now.Add(time.Duration(dice.between(1, 6000)) * time.Minute)}
		if dice.between(0, 1) == 0 {
			r.NotBefore = w.now.Add(time.Duration(dice.between(0, 1000)) * time.Minute)
			r.Deadline = r.Deadline.Add(1000 * time.Minute)
		}
		want := ExpiredType
		zone := w.zone
		if _, err := calendar.Zone(zone); err != nil {
			zone = p.Zone
		}
		loc, _ := time.LoadLocation(zone)
		c := p.Channels["email"]
		for at := maxTime(w.now, r.NotBefore).Truncate(time.Minute).Add(time.Minute); !at.Add(time.Minute).After(r.Deadline); at = at.Add(time.Minute) {
			local := at.In(loc)
			minute := local.Hour()*60 + local.Minute()
			open := false
			for _, o := range c.Windows {
				open = open || o.Contains(local.Weekday(), minute)
			}
			// Of an hour that is lived through twice the second pass is no slot of its own.
			again := local.Add(-time.Hour).Hour() == local.Hour() || local.Add(-30*time.Minute).Hour() == local.Hour() && local.Add(-30*time.Minute).Minute() == local.Minute()
			if open && !p.Quiet.Contains(minute) && !closed[local.Format(time.DateOnly)] && !again {
				want = SendNowType
				break
			}
		}
		var got string
		w.tell = func(_ string, d *Decision) {
			if got = d.Type; got == HeldOutType {
				got = SendNowType
			}
		}
		w.step("anna", true, func(m *Moment, s *State) []Decision { out, _ := m.Place(s, &r); return out })
		w.run(time.Time{})
		if got == "" || want == SendNowType && got != want {
			rt.Fatalf("ended as %q, want %s:\n%s", got, want, w.out.String())
		}
	})
}

// TestShares holds what is drawn against the shares that were asked for: within four standard deviations, and the probabilities
// that decisions name against how often each thing was done.
func TestShares(t *testing.T) {
	t.Run("of what is planned once", func(t *testing.T) { testShares(t, false) })
	t.Run("of what is planned anew when few hours are left", func(t *testing.T) { testShares(t, true) })
}

func testShares(t *testing.T, anew bool) {
	const n, holdout, exploration = 6000, .2, .3
	p := plain()
	p.Experiment = Experiment{Name: "shares", Holdout: holdout, Exploration: exploration}
	within := func(what string, got int, of int, share float64) {
		t.Helper()
		if d := math.Abs(float64(got) - share*float64(of)); d > 4*math.Sqrt(float64(of)*share*(1-share)) {
			t.Errorf("%s: %d of %d, want a share of %.3f", what, got, of, share)
		}
	}
	done := map[string]int{} // by arm and slot
	named := map[string]float64{}
	held, explored := 0, 0
	for i := range n {
		w := newWorld(t)
		w.policy, w.now = p, time.Date(2026, 12, 1, 7, 0, 0, 0, time.UTC)
		for h := range w.forecast.Scores {
			w.forecast.Scores[h] = uint8(50 + 40*btoi(h%24 == 11))
		}
		w.tell = func(_ string, d *Decision) {
			if d.Arm == "" {
				return
			}
			key := d.Arm
			if d.Arm == Treatment {
				key += d.Slot.From.Format(" 15:04")
			} else {
				held++
			}
			if d.Reason == Exploration {
				explored++
			}
			if was, ok := named[key]; ok && was != d.Propensity {
				t.Fatalf("%s has the probabilities %v and %v", key, was, d.Propensity)
			}
			named[key] = d.Propensity
			done[key]++
		}
		customer := fmt.Sprint("C-", i)
		w.step(customer, true, func(m *Moment, s *State) []Decision {
			out, _ := m.Place(s, &Request{ID: fmt.Sprint("r-", i), Action: Place, Channel: "email", Message: "m", Deadline: w.now.Add(10 * time.Hour)})
			return out
		})
		if anew {
			w.run(w.now.Add(4 * time.Hour))
			w.step(customer, false, func(m *Moment, s *State) []Decision { out, _ := m.Know(s, []byte(`{"segment":"premium"}`)); return out })
		}
		w.run(time.Time{})
	}
	within("held out", held, n, holdout)
	within("explored", explored, n, exploration)
	sum := 0.
	for key, p := range named {
		within(key, done[key], n, p)
		sum += p
	}
	if len(named) != 1+5 || math.Abs(sum-1) > 1e-9 {
		t.Errorf("the probabilities of what may be done, %v, sum to %v", named, sum)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestADrawStaysWhenOthersFallAway: what was drawn among many is what is drawn among those that are left.
func TestADrawStaysWhenOthersFallAway(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		var set []candidate
		for i := range rapid.IntRange(1, 50).Draw(rt, "hours") {
			set = append(set, candidate{hour: 496_000 + int64(i)})
		}
		x := drawn(set, seed)
		if left := set[rapid.IntRange(0, int(x.hour-set[0].hour)).Draw(rt, "gone"):]; drawn(left, seed) != x {
			rt.Fatalf("of %d hours %d was drawn, of the last %d another", len(set), x.hour, len(left))
		}
	})
}

// TestMinutesAreSpread: messages go out at any minute that is not near the full or the half hour, none much more often than
// others, and only where that is not allowed near them.
func TestMinutesAreSpread(t *testing.T) {
	count := func(in minutes) (n [60]int) {
		for i := range 20_000 {
			d := &desk{Moment: &Moment{Customer: fmt.Sprint("C-", i)}}
			r := &pending{id: "r", deadline: math.MaxInt64}
			x := &candidate{hour: 500_000, start: 0, in: in}
			n[d.moment(r, x)/minutely]++
		}
		return n
	}
	full := count(wholeHour)
	for m, n := range full {
		near := m < 4 || m > 26 && m < 34 || m > 56
		if near && n > 0 || !near && (n < 300 || n > 580) {
			t.Errorf("minute %d: %d of 20000", m, n)
		}
	}
	if first := count(between(0, 4)); first[0] < 4000 || first[3] < 4000 {
		t.Errorf("where nothing else is allowed: %v", first)
	}
	for i := range 200 { // what was chosen stays when minutes fall away
		d := &desk{Moment: &Moment{Customer: fmt.Sprint("C-", i)}}
		r, x := &pending{id: "r", deadline: math.MaxInt64}, &candidate{hour: 500_000, in: wholeHour}
		at := d.moment(r, x)
		x.in &^= between(0, at/minutely)
		d.now = at
		if again := d.moment(r, x); again != at {
			t.Fatalf("%d became %d", at, again)
		}
		// Of a minute that is not whole, what is left.
		one := &candidate{hour: 500_000, in: between(10, 11)}
		d.now = 10*minutely + 59_000
		if at := d.moment(r, one); at < d.now || at >= 11*minutely {
			t.Fatalf("in the last second of the tenth minute: %d", at)
		}
		d.now, r.deadline = 0, 10*minutely+1
		if at := d.moment(r, one); at >= r.deadline {
			t.Fatalf("%d is beyond the deadline", at)
		}
		r.deadline, r.notBefore = math.MaxInt64, 10*minutely+59_999
		if at := d.moment(r, one); at < r.notBefore {
			t.Fatalf("%d is too early", at)
		}
	}
}

// wholeHour is every minute of an hour.
var wholeHour = between(0, 60)

// TestWhyNothingIsOpen: the rule that excludes most is named, of equals the first in the order of rules.
func TestWhyNothingIsOpen(t *testing.T) {
	for _, x := range []struct {
		v    survey
		want Reason
	}{
		{survey{shut: map[string]int{RuleOverlap: 2, RuleCalendar: 2, RuleGap: 1}}, ClosedDay},
		{survey{shut: map[string]int{RuleOverlap: 3, RuleCalendar: 2}}, Overlap},
		{survey{outside: RuleQuiet}, QuietHours},
	} {
		if got := x.v.why(); got != x.want {
			t.Errorf("%v: %s", x.v.shut, got)
		}
	}
}

// TestBans: what is forbidden around a commitment has no ends: exactly the gap before it and after it a send is allowed.
func TestBans(t *testing.T) {
	p := plain()
	p.Gap, p.CapPerDay = Duration(time.Hour), 1
	d, c := &desk{Moment: &Moment{Policy: p}}, p.Channels["email"]
	bans := d.bans("email", &c, []commitment{{at: 0, channel: "email"}})
	for _, x := range []struct {
		rule string
		at   time.Duration
		ban  bool
	}{
		{RuleGap, -time.Hour, false}, {RuleGap, -time.Hour + time.Millisecond, true}, {RuleGap, time.Hour - time.Millisecond, true}, {RuleGap, time.Hour, false},
		{RuleFrequency, -day, false}, {RuleFrequency, -day + time.Millisecond, true}, {RuleFrequency, day - time.Millisecond, true}, {RuleFrequency, day, false},
	} {
		if banned(bans, x.rule, x.at.Milliseconds()) != x.ban {
			t.Errorf("%s at %v: want %v", x.rule, x.at, x.ban)
		}
	}
}

// TestPlanAndReleaseAgree: where the planner sees room, the rules at an instant see it as well.
func TestPlanAndReleaseAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dice := dice{rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))}
		p := drawPolicy(dice)
		d := &desk{Moment: &Moment{Policy: p}, s: &State{}, a: &customer.Attributes{}, loc: time.UTC}
		var list []commitment
		at := int64(1_796_000_000_000)
		for range dice.between(0, 12) {
			at += int64(dice.between(0, 40*60)) * minutely
			list = append(list, commitment{at: at, channel: oneOf(dice, []string{"email", "sms", ""})})
		}
		c := p.Channels["email"]
		bans := d.bans("email", &c, list)
		u := 1_796_000_000_000 + int64(dice.between(-3*24*60, 21*24*60))*minutely
		start := floorDiv(u, hourly) * hourly
		for _, k := range []struct {
			rule    string
			channel string
			limit   int
			span    time.Duration
		}{{RuleFrequency, "", p.CapPerDay, day}, {RuleFrequency, "", p.CapPerWeek, week}, {RuleFrequency, "email", c.CapPerDay, day}, {RuleFrequency, "email", c.CapPerWeek, week}} {
			if n := most(list, k.channel, u, k.span.Milliseconds()); k.limit > 0 && n >= k.limit && !banned(bans, RuleFrequency, u) {
				rt.Fatalf("%d within %v of %d, cap %d, and room", n, k.span, u, k.limit)
			}
		}
		for _, rule := range []string{RuleFrequency, RuleGap, RuleCollision} {
			m := (u - start) / minutely
			if wholeHour.without(bans, rule, start).has(int(m)) && (banned(bans, rule, u) || banned(bans, rule, u+minutely-1)) {
				rt.Fatalf("%s: the planner sees room at %d", rule, u)
			}
		}
	})
}

// TestWeekSet: the sets of minutes hold what calendar.Opening says, minute by minute.
func TestWeekSet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := calendar.Opening{Days: uint8(rapid.IntRange(0, 127).Draw(rt, "days")), Window: calendar.Window{From: rapid.IntRange(0, 1439).Draw(rt, "from"), To: rapid.IntRange(0, 1440).Draw(rt, "to")}}
		if o.Window.Empty() {
			return
		}
		var w weekSet
		w.add([]calendar.Opening{o})
		for m := range 7 * 24 * 60 {
			weekday := time.Weekday((m/(24*60) + 1) % 7)
			if in := w[m/60].has(m % 60); in != o.Contains(weekday, m%(24*60)) {
				rt.Fatalf("%s %v: minute %d of the week is %v in the set", o, weekday, m, in)
			}
		}
	})
}

// TestEachHour: every minute of a span is in the hour that package calendar says, and each hour is visited once, in order.
func TestEachHour(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		loc, err := calendar.Zone(rapid.SampledFrom(zones[:8]).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		start, err := time.Parse(time.RFC3339, rapid.SampledFrom(starts).Draw(rt, "start"))
		if err != nil {
			rt.Fatal(err)
		}
		from := start.UnixMilli() + int64(rapid.IntRange(0, 2*24*3600_000).Draw(rt, "from"))
		to := from + int64(rapid.IntRange(0, 4*24*3600_000).Draw(rt, "length"))
		seen := map[int64]minutes{}
		starts := map[int64]int64{}
		last := int64(math.MinInt64)
		eachHour(from, to, loc, func(hour, start int64, in minutes) {
			if hour <= last {
				rt.Fatalf("hour %d after %d", hour, last)
			}
			last, seen[hour], starts[hour] = hour, in, start
		})
		for at := floorDiv(from, minutely) * minutely; max(at, from) < to; at += minutely {
			u := max(at, from)
			hour, minute := calendar.LocalHour(instant(u), loc)
			first := calendar.Instant(hour, loc).UnixMilli() // of the first pass
			switch in := seen[hour]; {
			case in.has(minute) && starts[hour]+int64(minute)*minutely == at: // visited
			case u-first >= hourly || first < from && seen[hour] != 0: // the second pass
			default:
				rt.Fatalf("%v is in no hour", instant(u).In(loc))
			}
		}
	})
}

// TestAPlanDoesNotHangOnTheMillisecond: a state that was lost is made again from the log with a clock that stands a little
// elsewhere, and ticks that were written before must still be those of its timers.
func TestAPlanDoesNotHangOnTheMillisecond(t *testing.T) {
	for i := range 200 {
		var plans []plan
		for _, late := range []time.Duration{733 * time.Millisecond, 907 * time.Millisecond} {
			w := newWorld(t)
			w.now = time.Date(2026, 12, 1, 9, 1, 11, 0, time.UTC).Add(late)
			w.step("anna", true, func(m *Moment, s *State) []Decision {
				out, _ := m.Place(s, &Request{ID: fmt.Sprint("r-", i), Action: Place, Channel: "push", Message: "m", Deadline: time.Date(2026, 12, 1, 9, 4, 0, 0, time.UTC)})
				return out
			})
			plans = append(plans, w.states["anna"].pending[0].plan)
		}
		if plans[0] != plans[1] {
			t.Fatalf("r-%d: %+v became %+v", i, plans[0], plans[1])
		}
	}
}
