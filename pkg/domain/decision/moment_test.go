package decision

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// played is a world after some lines of a story.
func played(t testing.TB, lines string) *world {
	t.Helper()
	w := newWorld(t)
	for line := range strings.SplitSeq(lines, "\n") {
		if err := w.play(strings.TrimSpace(line)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// due is what waits, by when it is looked at again.
func (w *world) due(customer string) map[string]time.Time {
	due := map[string]time.Time{}
	w.states[customer].Pending(func(id string, at time.Time) { due[id] = at })
	return due
}

// A zone that nobody knows is passed over, which must not happen in silence: every decision names it.
func TestAZoneThatIsNotKnownIsSaid(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ zone, want string }{
		{"Mars/Olympus", "09:30-14:00 Europe/Rome (Mars/Olympus is not known), now 09:00"},
		{"Europe/Rome", "09:30-14:00 Europe/Rome, now 09:00"},
		{"", "09:30-14:00 Europe/Rome, now 09:00"},
	} {
		got := ""
		w.tell = func(_ string, d *Decision) {
			for _, r := range d.Rules {
				if r.Rule == RuleWindow {
					got = r.Detail
				}
			}
		}
		customer := "customer of " + tt.zone
		w.now = time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
		w.step(customer, false, func(m *Moment, s *State) []Decision {
			out, _ := m.Know(s, []byte(`{"zone":"`+tt.zone+`"}`))
			return out
		})
		w.step(customer, true, func(m *Moment, s *State) []Decision {
			out, _ := m.Place(s, &Request{ID: "r-1", Action: Place, Channel: "email", Message: "m", Deadline: w.now})
			return out
		})
		if got != tt.want {
			t.Errorf("%q: %s", tt.zone, got)
		}
	}
}

func TestKnow(t *testing.T) {
	t.Run("attributes that cannot be read change nothing, and the error names the field", func(t *testing.T) {
		w := played(t, `2026-12-01T15:00 anna place r-1 email deadline=2026-12-05T00:00`)
		before := string(w.states["anna"].Append(nil))
		m, s := w.moment("anna", false), w.states["anna"]
		out, err := m.Know(s, []byte(`{"zone":7}`))
		if err == nil || !strings.Contains(err.Error(), "zone") || len(out) > 0 || string(s.Append(nil)) != before {
			t.Errorf("%v, %v", out, err)
		}
	})
	t.Run("what is known already wakes nobody", func(t *testing.T) {
		w := played(t, `
			2026-12-01T15:00 anna know {"zone":"Europe/Rome","segment":"premium"}
			2026-12-01T15:00 anna place r-1 email deadline=2026-12-05T00:00
			2026-12-01T16:00 run`)
		before := w.due("anna")["r-1"]
		if err := w.play(`2026-12-01T16:01 anna know {"segment":"premium",  "zone":"Europe/Rome"}`); err != nil {
			t.Fatal(err)
		}
		if after := w.due("anna")["r-1"]; after != before {
			t.Errorf("due at %v became %v", before, after)
		}
	})
	t.Run("what is new has what waits looked at again at once", func(t *testing.T) {
		w := played(t, `
			2026-12-01T15:00 anna place r-1 email deadline=2026-12-05T00:00
			2026-12-01T16:00 anna know {"segment":"premium"}`)
		if due := w.due("anna")["r-1"]; !due.Equal(w.now) {
			t.Errorf("due at %v, now %v", due, w.now)
		}
	})
}

// TestSettle: a place under the caps is given back by what says that nothing was sent, and by nothing else.
func TestSettle(t *testing.T) {
	for result, back := range map[Result]bool{
		Refused: true, TooLate: true, Suppressed: true,
		Attempting: false, Accepted: false, Unknown: false, NotLive: false, Delivered: false, Opened: false, Clicked: false, Converted: false,
	} {
		w := played(t, `
			2026-12-01T10:00 anna burst email now=90 best=90
			2026-12-01T10:30 anna burst sms now=90 best=90
			2026-12-01T15:00 anna burst sms now=90 best=90
			2026-12-01T15:01 anna place r-1 email deadline=2026-12-05T00:00`)
		due := w.due("anna")["r-1"]
		for _, id := range []string{"d-9", "", "d-0"} { // d-1 was blocked
			w.step("anna", false, func(m *Moment, s *State) []Decision { m.Settle(s, &Outcome{Decision: id, Result: result}); return nil })
			given := len(w.states["anna"].sent) == 1
			if want := back && id == "d-0"; given != want || want != w.due("anna")["r-1"].Before(due) {
				t.Errorf("%s of %q: given back %v, due at %v", result, id, given, w.due("anna")["r-1"])
			}
		}
	}
}

// TestWithoutALookup: a record that was not given the profile plans nothing; a tick that is given it follows at once.
func TestWithoutALookup(t *testing.T) {
	w := played(t, `
		policy channels.email.gap 24h
		score wed 11 90
		2026-12-01T15:00 anna place r-1 email deadline=2026-12-05T00:00
		2026-12-02T09:40 run`)
	trigger := Trigger{ID: "dv-1", Time: w.now}
	trigger.Deviation.Kind, trigger.Deviation.Channel, trigger.Deviation.Actionable = timing.Burst, "email", true
	w.step("anna", false, func(m *Moment, s *State) []Decision { out, _ := m.Deviate(s, &trigger); return out })
	if due := w.due("anna")["r-1"]; !due.Equal(w.now) {
		t.Errorf("due at %v, now %v", due, w.now)
	}
	w.run(time.Time{})
	if got := w.out.String(); !strings.Contains(got, "Wed 2026-12-02 09:40:00  anna wait fall_back r-1") || !strings.Contains(got, "Fri 2026-12-04") {
		t.Errorf("decided\n%s", got)
	}
}

// TestPartial: while what is remembered may be incomplete, requests are planned by business hours.
func TestPartial(t *testing.T) {
	w := played(t, "score wed 11 90")
	w.now = time.Date(2026, 12, 1, 15, 0, 0, 0, time.UTC)
	for _, partial := range []bool{true, false} {
		w.step("anna", true, func(m *Moment, s *State) []Decision {
			m.Partial = partial
			out, why := m.Place(s, &Request{ID: fmt.Sprint("r-", partial), Action: Place, Channel: "email", Message: "m", Deadline: w.now.Add(3 * day)})
			if level := out[0].Score.Level; why != map[bool]Reason{true: FallBack, false: BestSlot}[partial] || (level == timing.LevelBusinessHours) != partial {
				t.Errorf("partial %v: %s by %s", partial, why, level)
			}
			return out
		})
	}
}

// TestNothingOfTheRecordIsKept: ids are views into a record whose bytes are used again; a state keeps clones.
func TestNothingOfTheRecordIsKept(t *testing.T) {
	w := played(t, "2026-12-01T10:00 run")
	bytes := []byte("r-1 d-0")
	w.raw = true
	w.step("anna", true, func(m *Moment, s *State) []Decision {
		m.ID = func(int) string { return unsafe.String(&bytes[4], 3) }
		out, _ := m.Place(s, &Request{ID: unsafe.String(&bytes[0], 3), Action: Place, Channel: "email", Message: "m", Deadline: w.now.Add(3 * day)})
		v := Trigger{ID: "dv-1", Time: w.now}
		v.Deviation.Kind, v.Deviation.Channel, v.Deviation.Actionable = timing.Burst, "email", true
		m.Deviate(s, &v)
		return out
	})
	copy(bytes, "xxxxxxx")
	if s := w.states["anna"]; s.pending[0].id != "r-1" || s.sent[0].decision != "d-0" {
		t.Errorf("remembers %+v and %+v", s.pending, s.sent)
	}
}

func TestDeviate(t *testing.T) {
	burst := func(w *world) Trigger {
		v := Trigger{ID: "dv-1", Time: w.now}
		v.Deviation.Kind, v.Deviation.Channel, v.Deviation.Actionable, v.Deviation.Zone = timing.Burst, "email", true, "Europe/Rome"
		v.Deviation.Cause.Position, v.Deviation.Model = "engagement.events.v1:7:1842217", "m.0"
		return v
	}
	deviate := func(w *world, v Trigger, lookup bool, change func(*Moment)) (out []Decision, why Reason) {
		w.step("anna", lookup, func(m *Moment, s *State) []Decision {
			if change != nil {
				change(m)
			}
			out, why = m.Deviate(s, &v)
			return out
		})
		return out, why
	}
	const morning = `2026-12-03T10:41:52 run`
	t.Run("a source whose clock runs ahead is taken at its word", func(t *testing.T) {
		w := played(t, morning)
		v := burst(w)
		v.Time = w.now.Add(20 * time.Second)
		if out, why := deviate(w, v, false, nil); why != Burst || !out[0].DecidedAt.Equal(v.Time) {
			t.Errorf("%v %+v", why, out)
		}
	})
	t.Run("what is remembered may be incomplete, so nothing is triggered", func(t *testing.T) {
		w := played(t, morning)
		if out, why := deviate(w, burst(w), false, func(m *Moment) { m.Partial = true }); why != Incomplete || len(out) > 0 {
			t.Errorf("%v %+v", why, out)
		}
	})
	t.Run("a deviation that may not act is passed over", func(t *testing.T) {
		w := played(t, morning)
		v := burst(w)
		v.Deviation.Actionable = false
		if out, why := deviate(w, v, false, nil); why != NotActionable || len(out) > 0 {
			t.Errorf("%v %+v", why, out)
		}
	})
	t.Run("it names the profile and the model behind the deviation", func(t *testing.T) {
		w := played(t, morning)
		for _, lookup := range []bool{false, true} {
			w.states = map[string]*State{}
			out, _ := deviate(w, burst(w), lookup, nil)
			if f := out[0].MadeFrom; f.Profile != "engagement.events.v1:7:1842217" || f.Model != "m.0" || f.Policy != "plain" || f.Calendar != "none" || out[0].Deviation != "dv-1" {
				t.Errorf("%+v", f)
			}
		}
	})
	t.Run("the zone is the deviation's where nobody else knows one", func(t *testing.T) {
		w := played(t, morning)
		v := burst(w)
		v.Deviation.Zone = "Asia/Tokyo"
		if out, why := deviate(w, v, false, nil); why != OutsideWindow || out[0].Zone != "Asia/Tokyo" {
			t.Errorf("%v %+v", why, out)
		}
		v.Deviation.Zone = "Mars/Olympus"
		if out, why := deviate(w, v, false, nil); why != Burst || out[0].Zone != "Europe/Rome" {
			t.Errorf("%v %+v", why, out)
		}
	})
	t.Run("a request whose deadline is over is not released, nor does it keep the burst from sending", func(t *testing.T) {
		w := played(t, "2026-12-03T09:40 anna place r-1 email deadline=2026-12-03T10:00 not_before=2026-12-03T09:50 early")
		w.now = time.Date(2026, 12, 3, 9, 30, 0, 0, time.UTC) // 10:30 in Rome, and no timer has fired
		if out, why := deviate(w, burst(w), true, nil); why != Burst || out[0].Request != "" {
			t.Errorf("%v %+v", why, out)
		}
	})
	t.Run("of the hours of a request the profile is asked, not the deviation", func(t *testing.T) {
		w := played(t, `
			score fri 10 90
			2026-12-02T15:00 anna place r-1 email deadline=2026-12-05T00:00 early
			2026-12-03T10:41:52 run`)
		v := burst(w)
		v.Deviation.Score.Now, v.Deviation.Score.Best = 90, 90
		if out, why := deviate(w, v, true, nil); why != BetterHourAhead || !strings.Contains(out[0].Summary, "score 50 now, 90 on Fri 4 Dec 10:00") {
			t.Errorf("%v %+v", why, out)
		}
	})
	t.Run("what it releases lives as long as the moment, counted from the engagement", func(t *testing.T) {
		w := played(t, `
			2026-12-02T15:00 anna place r-1 email deadline=2026-12-05T00:00 early
			2026-12-03T10:41:52 run`)
		v := burst(w)
		v.Time = w.now.Add(-10 * time.Minute)
		if out, why := deviate(w, v, true, nil); why != Burst || !out[0].ExpiresAt.Equal(w.now.Add(20*time.Minute)) || out[0].Request != "r-1" {
			t.Errorf("%v %+v", why, out)
		}
	})
	t.Run("reading now is worth more of a lesser best hour: that of the request, not of the profile", func(t *testing.T) {
		for best, want := range map[int]Reason{90: BetterHourAhead, 70: Burst} {
			w := played(t, "policy channels.email.threshold 0")
			w.forecast.Scores[3*24+12] = uint8(best) // Thursday at 12
			for _, line := range []string{"2026-12-03T08:00 anna place r-1 email deadline=2026-12-03T14:00 early", "2026-12-03T10:00 run"} {
				if err := w.play(line); err != nil {
					t.Fatal(err)
				}
			}
			v := burst(w)
			v.Deviation.Score = timing.Score{Now: 50, Best: 90, BestAt: w.now.Add(10 * time.Hour), Worth: .7} // 0.7 of 90 is 0.92 of 70
			if out, why := deviate(w, v, true, nil); why != want {
				t.Errorf("best %d: %v %+v", best, why, out)
			}
		}
	})
}

// TestSlots: the hours are listed best first as a request would choose them, and those that are excluded after them with every
// rule that excludes them; to list them changes nothing.
func TestSlots(t *testing.T) {
	w := played(t, `
		policy channels.email.prime ["10:00-11:00"]
		policy channels.email.cap_per_day 1
		policy lead [{"name":"Christmas","before":"12-25","days":1}]
		policy quiet 13:00-13:30
		book 2026-12-22 Closed
		score 10 81
		score 11 95
		score thu 10 40
		2026-12-21T15:00 anna know {"preferred":[{"days":["thu"],"from":"10:00","to":"13:00"}]}
		2026-12-21T15:00 anna place r-1 email deadline=2026-12-22T00:00
		2026-12-21T15:30 run`)
	before := string(w.states["anna"].Append(nil)) + string(w.audiences.Append(nil))
	m := w.moment("anna", true)
	from := time.Date(2026, 12, 21, 23, 0, 0, 0, time.UTC) // Tuesday 00:00 in Rome
	slots := m.Slots(w.states["anna"], "email", from, from.Add(3*day))
	if after := string(w.states["anna"].Append(nil)) + string(w.audiences.Append(nil)); after != before {
		t.Error("to list them has changed something")
	}
	if len(slots) != 72 {
		t.Fatalf("%d hours, want 72", len(slots))
	}
	var got []string
	for _, x := range slots {
		if len(x.Failed) == 0 {
			got = append(got, x.From.In(w.loc).Format("Mon 15:04")+x.To.In(w.loc).Format("-15:04"))
		}
	}
	const want = "Thu 10:00-11:00 Thu 11:00-12:00 Thu 12:00-13:00 Wed 10:00-11:00 Wed 11:00-12:00 Wed 09:30-10:00 Wed 12:00-13:00 Wed 13:30-14:00 Thu 09:30-10:00 Thu 13:30-14:00"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	last := from
	for _, x := range slots[len(got):] {
		if x.From.Before(last) || len(x.Failed) == 0 {
			t.Errorf("%+v after %v", x, last)
		}
		last = x.From
		local := x.From.In(w.loc)
		for _, r := range x.Failed {
			if r.Passed || r.Detail == "" || r.Rule == RuleCalendar && local.Day() != 22 || r.Rule == RuleWindow && local.Hour() >= 10 && local.Hour() < 14 {
				t.Errorf("%v: %+v", local, r)
			}
		}
	}
	if none := m.Slots(w.states["anna"], "fax", from, from.Add(day)); none != nil {
		t.Errorf("a channel that the policy does not have: %v", none)
	}
	if barred := played(t, `2026-12-21T15:00 anna know {"channels":["sms"]}`); true {
		for _, x := range barred.moment("anna", true).Slots(barred.states["anna"], "email", from, from.Add(day)) {
			if len(x.Failed) == 0 {
				t.Errorf("who cannot be reached has the slot %v", x)
			}
		}
	}
}

// TestTheThresholdSaysWhyItDidNotCount: a request goes out below it for one of three reasons, and the rule says for which.
func TestTheThresholdSaysWhyItDidNotCount(t *testing.T) {
	for says, lines := range map[string]string{
		"score 50, threshold 80: no allowed hour reaches the threshold": "2026-12-01T15:00 anna place r-1 email deadline=2026-12-03T00:00",
		"score 50, threshold 80: an hour that the customer has asked for": `
			2026-12-01T15:00 anna know {"preferred":[{"from":"10:00","to":"11:00"}]}
			2026-12-01T15:00 anna place r-1 email deadline=2026-12-03T00:00`,
		"score 50, threshold 80; it was reached when the slot was chosen": `
			score wed 11 90
			2026-12-01T15:00 anna place r-1 email deadline=2026-12-03T00:00
			2026-12-01T16:00 run
			score wed 11 50`,
	} {
		w := played(t, lines)
		var last Decision
		w.tell = func(_ string, d *Decision) { last = *d }
		w.run(time.Time{})
		if r := last.Rules[len(last.Rules)-1]; last.Type != SendNowType || r.Rule != RuleThreshold || !r.Passed || !strings.HasPrefix(r.Detail, says) {
			t.Errorf("%s: %+v", says, r)
		}
	}
}

// TestRecordsOfTheDead: what comes after the end of a request says nothing twice.
func TestRecordsOfTheDead(t *testing.T) {
	w := played(t, `
		2026-12-01T15:00 anna place r-1 email deadline=2026-12-05T00:00
		2026-12-01T15:01 anna cancel r-1
		2026-12-01T15:02 anna cancel r-1
		2026-12-01T15:03 anna place r-1 email deadline=2026-12-05T00:00`)
	w.step("anna", true, func(m *Moment, s *State) []Decision { return m.Tick(s, "r-1") })
	if got := w.out.String(); strings.Count(got, "already_ended") != 2 || strings.Count(got, " cancelled requested") != 1 {
		t.Errorf("decided\n%s", got)
	}
}

// What connectors say of releases that were lost is beyond what the rules let out, and must not make a state that cannot be read.
func TestSendsThatWereLostDoNotOverflowTheState(t *testing.T) {
	w := played(t, "2026-12-01T08:00 run")
	s := new(State)
	w.states["anna"] = s
	for i := range maxSent {
		s.remember(sent{at: w.now.UnixMilli(), channel: "push", decision: fmt.Sprint("d-", i)})
	}
	for _, line := range []string{
		`2026-12-01T08:00 anna place r-1 email deadline=2026-12-05T00:00`,
		`2026-12-01T08:01 anna outcome d-lost accepted request=r-1`,
	} {
		if err := w.play(line); err != nil {
			t.Fatal(err)
		}
	}
	if last := w.states["anna"].sent; len(last) != maxSent || last[maxSent-1].decision != "d-lost" {
		t.Errorf("%d are remembered, the last of them %+v", len(last), last[len(last)-1])
	}
}
