package timing

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestGaps checks the days without a feed against a plain set.
func TestGaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Gaps
		set := map[int64]bool{}
		newest := int64(math.MinInt64)
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			d := 20_000 + rapid.OneOf(rapid.Int64Range(0, 100), rapid.Int64Range(0, 10_000)).Draw(t, "day")
			g.Add(d)
			set[d] = true
			newest = max(newest, d)
		}
		var again Gaps
		rest, err := again.Decode(append(g.Append(nil), 7, 8))
		if err != nil || again != g || len(rest) != 2 {
			t.Fatalf("%+v became %+v, %d bytes left: %v", g, again, len(rest), err)
		}
		n := 0
		for d := newest - gapDays - 5; newest > 0 && d < newest+5; d++ {
			want := set[d] && d > newest-gapDays
			if g.Has(d) != want {
				t.Fatalf("day %d, newest %d: %v, want %v", d, newest, g.Has(d), want)
			}
			if want {
				n++
			}
		}
		if g.Len() != n {
			t.Fatalf("%d days, want %d", g.Len(), n)
		}
	})
	for _, b := range [][]byte{nil, {1}, {2, 4}, {0xff}} {
		if _, err := new(Gaps).Decode(b); err == nil {
			t.Errorf("% x are gaps", b)
		}
	}
}

// diary is a customer who gets mail at 9 h of every day and reads it at 20 h of most.
func diary(w *World, c *Channel, from, days int64, reads func(day int64) bool) (alarms []Test) {
	for d := from; d < from+days; d++ {
		at := simStart + d*Day
		alarms = append(alarms, c.Delivered(w, at+9).Alarms...)
		if reads(d) {
			alarms = append(alarms, c.Engaged(w, at+20, 30).Alarms...)
		}
	}
	return alarms
}

func oftenEnough(day int64) bool { return day%4 != 0 }

// TestOutage: while the feed is down, mail that nobody seems to read is not held against anybody; a customer who is as silent
// for as long although the feed is up has gone silent.
func TestOutage(t *testing.T) {
	const before, down = 120, 14
	none := func(int64) bool { return false }
	tell := func(gaps bool) (alarms []Test, rate, share float64) {
		w := &World{Model: Builtin()}
		var p Profile
		c := p.Channel("email")
		diary(w, c, 0, before, oftenEnough)
		if gaps {
			for d := range int64(down) {
				w.Gaps.Add(dayOf(simStart) + before + d)
			}
		}
		alarms = diary(w, c, before, down, none)
		alarms = append(alarms, diary(w, c, before+down, 8, oftenEnough)...)
		var v View
		w.Derive(&v, &p, "email", c.head, Everything)
		return alarms, v.Rate, float64(c.readDays) / float64(c.mailDays)
	}
	silent, low, few := tell(false)
	if len(silent) != 2 || silent[0].Kind != Silence || silent[1].Kind != Reactivation {
		t.Errorf("a silence of %d days raises %+v; want a silence and a reactivation", down, silent)
	}
	quiet, rate, share := tell(true)
	if len(quiet) > 0 {
		t.Errorf("an outage of %d days raises %+v", down, quiet)
	}
	if rate < .65 || rate > .85 || low > rate-.07 {
		t.Errorf("%.2f engaged hours per mail with the outage known, %.2f with it unknown; three of four were read", rate, low)
	}
	if share < .74 || few > share-.04 {
		t.Errorf("%.2f of the mail days were read with the outage known, %.2f with it unknown", share, few)
	}
}

// TestLateStart: an export whose deliveries begin half a year after its engagements does not make a customer look as if they
// read mail that was never sent.
func TestLateStart(t *testing.T) {
	w := &World{Model: Builtin()}
	const half = 180
	var late, whole Profile
	for p, sent := range map[*Profile]int64{&late: half, &whole: 0} {
		c := p.Channel("email")
		for d := range int64(2 * half) {
			at := simStart + d*Day
			if d >= sent {
				c.Delivered(w, at+9)
			}
			if d%4 == 0 {
				c.Engaged(w, at+20, 30)
			}
		}
	}
	now := int64(simStart + 2*half*Day)
	a, b := late.View(w.Model, "email", now), whole.View(w.Model, "email", now)
	if math.Abs(a.Rate-b.Rate) > .02 || a.Rate > .35 {
		t.Errorf("%.3f engaged hours per mail where deliveries start late, %.3f where all are known; one in four mails was read", a.Rate, b.Rate)
	}
	if a.Evidence.EngagedHours != b.Evidence.EngagedHours || late.Channels[0].n != whole.Channels[0].n {
		t.Error("the hours of before are forgotten")
	}
}

// TestHole: a year without any event says nothing, neither of a customer whose mail is known nor of one whose is not.
func TestHole(t *testing.T) {
	for _, sent := range []bool{true, false} {
		w := &World{Model: Builtin()}
		var p Profile
		c := p.Channel("email")
		rate := func() float64 {
			var v View
			w.Derive(&v, &p, "email", c.head, Everything)
			return v.Rate
		}
		live := func(from int64) (alarms []Test) {
			for d := from; d < from+200; d++ {
				at := simStart + d*Day
				if sent {
					alarms = append(alarms, c.Delivered(w, at+9).Alarms...)
				}
				if d%2 == 0 {
					alarms = append(alarms, c.Engaged(w, at+20, 30).Alarms...)
				}
			}
			return alarms
		}
		live(0)
		before := rate()
		alarms := live(200 + 365)
		if len(alarms) > 0 {
			t.Errorf("mail known %v: %+v after the hole", sent, alarms)
		}
		if after := rate(); math.Abs(after-before) > .1*before {
			t.Errorf("mail known %v: %.3f engaged hours per mail before the hole, %.3f after it", sent, before, after)
		}
	}
}

// TestSeason: who reads three times as much in December, as everybody does, has not become another customer: neither the level
// nor the expectation of January moves, and December is no burst. A customer who reads little while nobody does has not gone
// silent.
func TestSeason(t *testing.T) {
	const before, month = 150, 30
	first := dayOf(simStart) + before
	run := func(factor float64, reads func(day int64) int) (alarms []Test, v View, expected float64) {
		m := Builtin()
		m.Season = Season{First: first}
		for range month {
			m.Season.Factors = append(m.Season.Factors, factor)
		}
		w := &World{Model: m}
		var p Profile
		c := p.Channel("email")
		for d := range int64(before + month) {
			at := simStart + d*Day
			alarms = append(alarms, c.Delivered(w, at+9).Alarms...)
			for k := range reads(d) {
				alarms = append(alarms, c.Engaged(w, at+14+int64(k), 30).Alarms...)
			}
		}
		w.Derive(&v, &p, "email", c.head, Everything)
		return alarms, v, v.expected(&c.State, first+month-1)
	}
	december := func(day int64) int {
		if day >= before {
			return 3
		}
		return int(day+1) % 2 * 2 // one a day on average
	}
	_, usual, ordinary := run(1, func(day int64) int { return int(day+1) % 2 * 2 })
	_, known, many := run(3, december)
	_, unknown, _ := run(1, december)
	if math.Abs(known.Rate-usual.Rate) > .05*usual.Rate || unknown.Rate < 1.3*usual.Rate {
		t.Errorf("%.2f engaged hours per mail, %.2f after a December known as one, %.2f after one that is not", usual.Rate, known.Rate, unknown.Rate)
	}
	if math.Abs(many-3*ordinary) > .3*ordinary {
		t.Errorf("%.2f engaged hours are expected of a day in December, %.2f of another", many, ordinary)
	}

	august := func(day int64) int {
		if day >= before {
			return 0
		}
		return int(day) % 2
	}
	if alarms, _, _ := run(.3, august); len(alarms) > 0 {
		t.Errorf("nobody reads in August, and one customer who does not is told of: %+v", alarms)
	}
	if alarms, _, _ := run(1, august); len(alarms) != 1 || alarms[0].Kind != Silence {
		t.Errorf("a month without an engagement raises %+v; want a silence", alarms)
	}
}

// TestLevels: whose habits a view shows, and that it says so.
func TestLevels(t *testing.T) {
	m := fitted()
	m.Segments = append(m.Segments, Segment{Name: "like everybody", Share: .1, Attention: m.Population})
	w := &World{Model: m}
	now := int64(simStart + 400*Day)
	with := func(segment string, sent, engaged int) *Profile {
		p := &Profile{Segment: segment}
		var events []happening
		for i := range sent {
			events = append(events, happening{now - int64(sent-i)*2*Day, 0, false})
		}
		for i := range engaged {
			events = append(events, happening{now - int64(3*engaged-3*i)*Day + 18, 30, true})
		}
		order(events)
		apply(w, p.Channel("email"), events)
		return p
	}
	for _, row := range []struct {
		name string
		m    *Model
		p    *Profile
		want string
	}{
		{"nothing known, nothing fitted", Builtin(), with("", 0, 0), LevelBusinessHours},
		{"nothing known", m, with("", 0, 0), LevelPopulation},
		{"mail but no engagement", m, with("", 10, 0), LevelPopulation},
		{"nothing known but the segment", m, with("night shift", 0, 0), LevelSegment},
		{"a segment that the model does not know", m, with("day shift", 0, 0), LevelPopulation},
		{"two engagements", m, with("", 10, 2), LevelPersona},
		{"a segment that tells more than one engagement", m, with("night shift", 10, 1), LevelSegment},
		{"a segment that tells more than two", m, with("night shift", 10, 2), LevelSegment},
		{"a segment that tells less than two", m, with("like everybody", 10, 2), LevelPersona},
		{"many engagements", m, with("night shift", 10, 20), LevelOwn},
	} {
		v := row.p.View(row.m, "email", now)
		if v.Level != row.want {
			t.Errorf("%s: level %s, want %s", row.name, v.Level, row.want)
		}
	}

	night, nobody := with("night shift", 0, 0).View(m, "email", now), with("", 0, 0).View(m, "email", now)
	if night.Phi[3] < 2*nobody.Phi[3] || len(night.Reasons) == 0 {
		t.Errorf("attention at 3 h is %.2f for the night shift and %.2f for everybody", night.Phi[3], nobody.Phi[3])
	}
	if evening := with("", 10, 20).View(m, "email", now); evening.Persona != "evening readers" || evening.Likeness < .9 {
		t.Errorf("twenty engagements at 18 h are like %q, %.2f", evening.Persona, evening.Likeness)
	}
}

// TestUsual: what a view tells of a week and of an answer are distributions, and a week without mail of one's own is
// everybody's.
func TestUsual(t *testing.T) {
	m := fitted()
	w := &World{Model: m}
	rapid.Check(t, func(t *rapid.T) {
		var p Profile
		apply(w, p.Channel("email"), draw(t))
		v := p.View(m, "email", p.Channels[0].head)
		sent := rapid.Int64Range(0, Week).Draw(t, "sent")
		usual, answers := v.Usual(), v.Answers(sent)
		sum := 0.0
		for how, x := range usual {
			if sum += x; !(x > 0) {
				t.Fatalf("hour %d of the week: %v", how, x)
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("the week adds up to %v", sum)
		}
		sum = 0
		for a, x := range answers {
			sum += x
			if want := m.Kernel[a] / m.Kernel[0] * v.Phi[HourOfWeek(sent+int64(a))] / v.Phi[HourOfWeek(sent)] * answers[0]; math.Abs(x-want) > 1e-9 {
				t.Fatalf("after %d hours %v, want %v", a, x, want)
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("the answers add up to %v", sum)
		}
	})
}

// TestWorth: right after an engagement, a send is worth what its hour is and what everybody does after an engagement.
func TestWorth(t *testing.T) {
	m := fitted()
	m.Boost[0] = 1.5
	v := history(200, 9, 20).View(m, "email", simStart+200*Day)
	now, best := int64(simStart+210*Day+15), int64(simStart+210*Day+19)
	want := 1.5 * math.Exp2(float64(v.Score(now)-v.Score(best))/50)
	if got := v.Worth(now, best); math.Abs(got-want) > .03*want {
		t.Errorf("a send at 15 h is worth %.3f of one at 19 h, by the scores %.3f", got, want)
	}
}
