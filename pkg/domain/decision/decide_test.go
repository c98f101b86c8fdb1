package decision

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

func at(t testing.TB, s string) time.Time {
	t.Helper()
	u, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return u.UTC()
}

// burst is a deviation that a default policy acts on: Thursday 3 December 2026, 10:41:52 in Rome.
func burst(t testing.TB) *Trigger {
	return &Trigger{
		ID:        "dv-1",
		Time:      at(t, "2026-12-03T09:41:52Z"),
		Positions: map[string]string{"timing.deviations.v1": "7:20931"},
		Deviation: deviation.Deviation{
			Kind: timing.Burst, Channel: "email", Zone: "Europe/Rome", Actionable: true,
			Score: timing.Score{Now: 83, Best: 84, BestAt: at(t, "2026-12-04T09:00:00Z"), Confidence: 81, Level: timing.LevelOwn},
			Cause: deviation.Cause{ID: "sg-1", Position: "engagement.events.v1:7:1842217"}, Model: "builtin.1",
		},
	}
}

func TestDecide(t *testing.T) {
	rows := []struct {
		name   string
		change func(p *OldPolicy, s *State, d *Trigger)
		after  time.Duration // of the partition's clock after the engagement
		typ    string
		reason Reason
		says   string // part of the summary
	}{
		{"an actionable burst in the window is a reason to send now", nil, 0, SendNowType, Burst, "unusually attentive"},
		{"a reactivation is a reason to send now", func(_ *OldPolicy, _ *State, d *Trigger) { d.Deviation.Kind = timing.Reactivation }, 0, SendNowType, Reactivation, "back after a long silence"},
		{"a decision is still possible just before the moment is over", nil, 30*time.Minute - time.Second, SendNowType, Burst, ""},
		{"half an hour later it is not", nil, 30 * time.Minute, ExpiredType, Expired, "30 minutes after the engagement"},
		{"an hour worth 0.8 of the best is good enough", func(_ *OldPolicy, _ *State, d *Trigger) { d.Deviation.Score.Now = 68 }, 0, SendNowType, Burst, ""},
		{"an hour worth less waits for the better one", func(_ *OldPolicy, _ *State, d *Trigger) { d.Deviation.Score.Now = 67 }, 0, BlockedType, BetterHourAhead, "score 67 now, 84 on Fri 4 Dec 10:00"},
		{"nothing is sent on a national holiday", func(_ *OldPolicy, _ *State, d *Trigger) { d.Time = d.Time.AddDate(0, 0, 5) }, 0, BlockedType, ClosedDay, "Immacolata Concezione in Italy"},
		{"with no calendar a holiday is like any day", func(p *OldPolicy, _ *State, d *Trigger) {
			p.Closed = calendar.None
			d.Time = d.Time.AddDate(0, 0, 5)
		}, 0, SendNowType, Burst, ""},
		{"nothing is sent before the window", func(_ *OldPolicy, _ *State, d *Trigger) { d.Time = d.Time.Add(-2 * time.Hour) }, 0, BlockedType, OutsideWindow, "09:30-14:00 Europe/Rome, now 08:41"},
		{"the window is the customer's, not ours", func(_ *OldPolicy, _ *State, d *Trigger) { d.Deviation.Zone = "Asia/Tokyo" }, 0, BlockedType, OutsideWindow, "Asia/Tokyo, now 18:41"},
		{"quiet hours hold whatever the window says", func(p *OldPolicy, _ *State, d *Trigger) {
			p.Window = calendar.Window{To: 1440}
			d.Time = d.Time.Add(12 * time.Hour)
		}, 0, BlockedType, QuietHours, "21:00-08:00 Europe/Rome, now 22:41"},
		{"with every hour open a night is like a day", func(p *OldPolicy, _ *State, d *Trigger) {
			p.Window, p.Quiet = calendar.Window{To: 1440}, calendar.Window{}
			d.Time = d.Time.Add(12 * time.Hour)
		}, 0, SendNowType, Burst, ""},
		{"nobody gets two messages in a day", func(_ *OldPolicy, s *State, d *Trigger) { s.add(d.Time.Add(-23 * time.Hour)) }, 0, BlockedType, FrequencyCap, "1 of 1 in 24 hours"},
		{"nobody gets four messages in a week", func(_ *OldPolicy, s *State, d *Trigger) {
			for _, ago := range []time.Duration{6 * day, 4 * day, 2 * day} {
				s.add(d.Time.Add(-ago))
			}
		}, 0, BlockedType, FrequencyCap, "3 of 3 in 7 days"},
		{"a message of more than a week ago does not count", func(_ *OldPolicy, s *State, d *Trigger) {
			for _, ago := range []time.Duration{7 * day, 4 * day, 2 * day} {
				s.add(d.Time.Add(-ago))
			}
		}, 0, SendNowType, Burst, ""},
		{"without caps the gap still holds", func(p *OldPolicy, s *State, d *Trigger) {
			p.CapPerDay, p.CapPerWeek = 0, 0
			s.add(d.Time.Add(-90 * time.Minute))
		}, 0, BlockedType, MinimumGap, "last one 1 hour 30 minutes ago, at least 24 hours apart"},
		{"exactly the gap later the next message may go", func(_ *OldPolicy, s *State, d *Trigger) { s.add(d.Time.Add(-day)) }, 0, SendNowType, Burst, ""},
		{"the first rule that failed is the reason", func(_ *OldPolicy, s *State, d *Trigger) {
			s.add(d.Time.Add(-time.Hour))
			d.Deviation.Score.Now = 10
		}, 0, BlockedType, BetterHourAhead, ""},
		{"what reading now is worth is believed before the scores", func(_ *OldPolicy, _ *State, d *Trigger) {
			d.Deviation.Score.Now, d.Deviation.Score.Worth = 60, .8
		}, 0, SendNowType, Burst, ""},
		{"and where it is not enough the better hour is waited for", func(_ *OldPolicy, _ *State, d *Trigger) {
			d.Deviation.Score.Worth = .79
		}, 0, BlockedType, BetterHourAhead, "score 83 now, 84 on Fri 4 Dec 10:00, and reading now it is worth 0.79 of that"},
		{"a source whose clock runs ahead is taken at its word", nil, -20 * time.Second, SendNowType, Burst, ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			p, s, d := OldDefault(), State{}, burst(t)
			if r.change != nil {
				r.change(&p, &s, d)
			}
			before := s
			got, ok, err := Decide(&p, &s, d, d.Time.Add(r.after))
			if err != nil || !ok {
				t.Fatalf("no decision: %v, %v", ok, err)
			}
			if got.Type != r.typ || got.Reason != r.reason {
				t.Fatalf("got %s because of %s, want %s because of %s", got.Type, got.Reason, r.typ, r.reason)
			}
			if !strings.Contains(got.Summary, r.says) {
				t.Errorf("summary %q does not say %q", got.Summary, r.says)
			}
			if len(got.Rules) != 7 {
				t.Errorf("%d rules listed, want all 7", len(got.Rules))
			}
			if sent := got.Type == SendNowType; sent == (s == before) {
				t.Errorf("the customer's memory changed: %v, although sent: %v", s != before, sent)
			}
		})
	}
}

func TestDecidePassesOver(t *testing.T) {
	rows := []struct {
		name   string
		change func(d *deviation.Deviation)
		reason Reason
	}{
		{"a burst beyond the gate", func(d *deviation.Deviation) { d.Actionable = false }, NotActionable},
		{"a silence, whatever it says of itself", func(d *deviation.Deviation) { d.Kind = timing.Silence }, NotActionable},
		{"another channel", func(d *deviation.Deviation) { d.Channel = "sms" }, OtherChannel},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			p, s, d := OldDefault(), State{}, burst(t)
			r.change(&d.Deviation)
			got, ok, err := Decide(&p, &s, d, d.Time)
			if ok || err != nil || got.Reason != r.reason {
				t.Errorf("got %q, %v, %v; want no record, counted as %q", got.Reason, ok, err, r.reason)
			}
		})
	}
	t.Run("a zone that nobody knows is an error that names it", func(t *testing.T) {
		p, s, d := OldDefault(), State{}, burst(t)
		d.Deviation.Zone = "Mars/Olympus"
		if _, _, err := Decide(&p, &s, d, d.Time); err == nil || !strings.Contains(err.Error(), `zone "Mars/Olympus"`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestExpiry(t *testing.T) {
	rows := []struct {
		name, engaged, expires string
		change                 func(*OldPolicy)
	}{
		{"a decision lives half an hour", "2026-12-03T09:41:52Z", "2026-12-03T10:11:52Z", nil},
		{"but never beyond the window", "2026-12-03T12:45:10Z", "2026-12-03T13:00:00Z", nil},
		{"nor into quiet hours", "2026-12-03T19:45:10Z", "2026-12-03T20:00:00Z", func(p *OldPolicy) { p.Window = calendar.Window{To: 1440} }},
		{"nor into a closed day", "2026-12-07T22:45:10Z", "2026-12-07T23:00:00Z", func(p *OldPolicy) { p.Window, p.Quiet = calendar.Window{To: 1440}, calendar.Window{} }},
		{"a day without end leaves it alone", "2026-12-03T22:45:10Z", "2026-12-03T23:15:10Z", func(p *OldPolicy) { p.Window, p.Quiet = calendar.Window{To: 1440}, calendar.Window{} }},
		{"a window that is entered again when clocks are put back ends at its first end", "2026-10-25T00:20:00Z", "2026-10-25T00:30:00Z", func(p *OldPolicy) {
			p.Window, p.Quiet = calendar.Window{From: 60, To: 150}, calendar.Window{}
		}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			p, s, d := OldDefault(), State{}, burst(t)
			if r.change != nil {
				r.change(&p)
			}
			d.Time = at(t, r.engaged)
			got, _, err := Decide(&p, &s, d, d.Time)
			if err != nil || got.Type != SendNowType {
				t.Fatalf("got %s because of %s, %v", got.Type, got.Reason, err)
			}
			if want := at(t, r.expires); !got.ExpiresAt.Equal(want) {
				t.Errorf("expires at %v, want %v", got.ExpiresAt, want)
			}
		})
	}
}

// TestCapsHold says of any stream of deviations that no customer is ever written to more often than the policy allows,
// closer together, or at an hour that it forbids.
func TestCapsHold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := OldDefault()
		p.CapPerDay = rapid.IntRange(0, 3).Draw(rt, "cap per day")
		p.CapPerWeek = rapid.IntRange(0, 5).Draw(rt, "cap per week")
		p.MinGap = time.Duration(rapid.IntRange(0, 30).Draw(rt, "gap")) * time.Hour
		p.Window.From = rapid.IntRange(0, 600).Draw(rt, "from")
		loc, err := calendar.Zone("Europe/Rome")
		if err != nil {
			rt.Fatal(err)
		}
		now := at(t, "2026-03-01T00:00:00Z")
		var s State
		var sent []time.Time
		for range rapid.IntRange(1, 60).Draw(rt, "deviations") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1200).Draw(rt, "minutes")) * time.Minute)
			d := burst(t)
			d.Time = now
			got, ok, err := Decide(&p, &s, d, now)
			if err != nil || !ok {
				rt.Fatalf("no decision: %v", err)
			}
			// What is stored between two deviations must be all that matters.
			var again State
			if err := again.Decode(s.Append(nil)); err != nil || again.n != s.n {
				rt.Fatalf("the memory does not survive its encoding: %v", err)
			}
			s = again
			if got.Type != SendNowType {
				continue
			}
			inDay, inWeek := 1, 1
			for _, u := range sent {
				if now.Sub(u) < day {
					inDay++
				}
				if now.Sub(u) < week {
					inWeek++
				}
				if now.Sub(u) < p.MinGap {
					rt.Fatalf("sent at %v and %v, gap %v", u, now, p.MinGap)
				}
			}
			if p.CapPerDay > 0 && inDay > p.CapPerDay || p.CapPerWeek > 0 && inWeek > p.CapPerWeek {
				rt.Fatalf("%d sent in a day and %d in a week, caps are %d and %d", inDay, inWeek, p.CapPerDay, p.CapPerWeek)
			}
			if m := calendar.Minute(now, loc); !p.Window.Contains(m) || p.Quiet.Contains(m) {
				rt.Fatalf("sent at %s", calendar.Clock(m))
			}
			sent = append(sent, now)
		}
	})
}

func TestStateDecodeRefuses(t *testing.T) {
	var full State
	for i := range 40 {
		full.add(time.Unix(1_796_000_000+int64(i), 0))
	}
	b := full.Append(nil)
	if full.n != MaxCap {
		t.Fatalf("remembers %d, want the last %d", full.n, MaxCap)
	}
	for name, bad := range map[string][]byte{
		"nothing":           {},
		"another version":   append([]byte{9}, b[1:]...),
		"a truncated state": b[:len(b)-1],
		"bytes left over":   append(b[:len(b):len(b)], 0),
		"too many times":    {1, MaxCap + 1},
	} {
		if err := new(State).Decode(bad); err == nil {
			t.Errorf("%s was decoded", name)
		}
	}
}

func FuzzStateDecode(f *testing.F) {
	var s State
	s.add(time.Unix(1_796_000_000, 0))
	f.Add(s.Append(nil))
	f.Add([]byte{1, 2, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again State
		if s.Decode(b) != nil {
			return
		}
		if err := again.Decode(s.Append(nil)); err != nil || again != s {
			t.Fatalf("%v became %v: %v", s, again, err)
		}
	})
}

func TestDecisionOnTheWire(t *testing.T) {
	p, s, d := OldDefault(), State{}, burst(t)
	got, _, err := Decide(&p, &s, d, d.Time.Add(212*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"reason":"burst","decided_at":"2026-12-03T09:41:52.212Z","channel":"email","zone":"Europe/Rome",` +
		`"score":{"now":83,"best":84,"best_at":"2026-12-04T09:00:00Z","confidence":81,"level":"own"},` +
		`"not_before":"2026-12-03T09:41:52Z","expires_at":"2026-12-03T10:11:52Z","deviation":"dv-1","arm":"treatment","propensity":1,` +
		`"rules":[{"rule":"expiry","passed":true,"detail":"0 seconds after the engagement, at most 30 minutes"},` +
		`{"rule":"best_hour","passed":true,"detail":"score 83 now, 84 on Fri 4 Dec 10:00"},` +
		`{"rule":"calendar","passed":true,"detail":"no closed day in IT-2026.c19711"},` +
		`{"rule":"window","passed":true,"detail":"09:30-14:00 Europe/Rome, now 10:41"},` +
		`{"rule":"quiet_hours","passed":true,"detail":"21:00-08:00 Europe/Rome, now 10:41"},` +
		`{"rule":"frequency_cap","passed":true,"detail":"0 of 1 in 24 hours, 0 of 3 in 7 days"},` +
		`{"rule":"minimum_gap","passed":true,"detail":"none sent before"}],` +
		`"made_from":{"positions":{"timing.deviations.v1":"7:20931"},"profile":"engagement.events.v1:7:1842217","model":"builtin.1","policy":"default.1","calendar":"IT-2026.c19711"},` +
		`"summary":"unusually attentive, and no clearly better hour lies ahead"}`
	b := got.Append(nil)
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back Decision
	if err := back.Parse(SendNowType, b); err != nil || string(back.Append(nil)) != want {
		t.Errorf("read back as %s: %v", back.Append(nil), err)
	}
}

func TestParseRefuses(t *testing.T) {
	rows := []struct{ name, data, says string }{
		{"what is no JSON", `{`, "parse decision"},
		{"a decision without a reason", `{}`, "reason"},
		{"a send-now that would live for ever", `{"reason":"burst"}`, "expires_at"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if err := new(Decision).Parse(SendNowType, []byte(r.data)); err == nil || !strings.Contains(err.Error(), r.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("an outcome without its decision", func(t *testing.T) {
		if err := new(Outcome).Parse([]byte(`{"result":"accepted"}`)); err == nil {
			t.Error("was read")
		}
	})
}

func TestOutcomeOnTheWire(t *testing.T) {
	o := Outcome{Decision: "d-1", Connector: "webhook", Result: Accepted, Attempts: 1}
	const want = `{"decision":"d-1","connector":"webhook","result":"accepted","crm_id":"","attempts":1,"detail":""}`
	b := o.Append(nil)
	if string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	var back Outcome
	if err := back.Parse(b); err != nil || back != o {
		t.Errorf("read back as %+v: %v", back, err)
	}
	if !json.Valid(b) || Attempting.Final() || !Unknown.Final() {
		t.Error("only attempting leaves something to do")
	}
}

func TestPolicyValidate(t *testing.T) {
	if p := OldDefault(); p.Validate() != nil {
		t.Fatalf("the default is refused: %v", p.Validate())
	}
	p := OldPolicy{Quiet: calendar.Window{To: 1440}, CapPerDay: -1, CapPerWeek: 99, MinGap: -1, Expiry: 48 * time.Hour}
	err := p.Validate()
	for _, part := range []string{"version", "channel", "window", "quiet hours", "cap per day", "cap per week", "minimum gap", "expiry"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not named in: %v", part, err)
		}
	}
}
