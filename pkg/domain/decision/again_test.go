package decision

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAgain: from when on one more send is allowed, and by which rule not before.
func TestAgain(t *testing.T) {
	noon := time.Date(2026, 12, 3, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration, channel string) Sent { return Sent{noon.Add(-d), channel} }
	rows := []struct {
		name    string
		change  func(p *Policy)
		channel string
		got     []Sent
		want    string // hours from noon and the rule
	}{
		{"nothing was sent", func(p *Policy) { p.Gap = Duration(day) }, "email", nil, "0 "},
		{"no rules", func(*Policy) {}, "email", []Sent{ago(0, "email")}, "0 "},
		{"a gap", func(p *Policy) { p.Gap = Duration(3 * time.Hour) }, "email", []Sent{ago(time.Hour, "sms")}, "2 minimum_gap"},
		{"a gap that is over at this instant", func(p *Policy) { p.Gap = Duration(3 * time.Hour) }, "email", []Sent{ago(3*time.Hour, "sms")}, "0 "},
		{"a collision with a channel that nobody knows", func(p *Policy) { p.Collision = Duration(3 * time.Hour) }, "email", []Sent{ago(time.Hour, "")}, "0 "},
		{"a collision", func(p *Policy) { p.Collision = Duration(3 * time.Hour) }, "email", []Sent{ago(time.Hour, "sms")}, "2 collision"},
		{"one rule after the other, in any order", func(p *Policy) { p.CapPerDay, p.Gap = 2, Duration(3*time.Hour) }, "email",
			[]Sent{ago(time.Hour, "sms"), ago(21*time.Hour, "sms")}, "3 frequency_cap"},
		{"a week", func(p *Policy) { p.CapPerWeek = 1 }, "email", []Sent{ago(6*day, "sms")}, "24 frequency_cap"},
		{"a clock that is behind", func(p *Policy) { p.Gap = Duration(3 * time.Hour) }, "email", []Sent{ago(-time.Hour, "email")}, "4 minimum_gap"},
		{"a channel that the policy does not have", func(p *Policy) { p.Gap = Duration(3 * time.Hour) }, "fax", []Sent{ago(time.Hour, "email")}, "2 minimum_gap"},
		{"the channel's rules for a segment", func(p *Policy) {
			c := p.Channels["email"]
			c.Gap = Duration(3 * time.Hour)
			p.Segments = []Segment{{Name: "other"}, {Name: "premium", Channels: map[string]Channel{"email": c}}}
		}, "email", []Sent{ago(time.Hour, "email")}, "2 minimum_gap"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			p := plain()
			r.change(p)
			again, rule := p.Again(r.channel, "premium", r.got, noon)
			if got := fmt.Sprint(again.Sub(noon).Hours(), " ", rule); got != r.want {
				t.Errorf("%s, want %s", got, r.want)
			}
		})
	}
}

// TestAgainBreaksNoRule: at the instant no rule is broken, counted one by one, and at none before it all hold.
func TestAgainBreaksNoRule(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dice := dice{rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3))}
		p := drawPolicy(dice)
		at := time.UnixMilli(1_796_000_000_000).UTC()
		var got []Sent
		for range dice.between(0, 9) {
			got = append(got, Sent{at.Add(-time.Duration(dice.between(0, 8*24*60)) * time.Minute), oneOf(dice, []string{"email", "sms", ""})})
		}
		allowed := func(u time.Time) bool {
			c := p.Channels["email"]
			full := func(limit int, span time.Duration, own bool) bool {
				times := []time.Time{u}
				for _, s := range got {
					if !own || s.Channel != "sms" {
						times = append(times, s.At)
					}
				}
				slices.SortFunc(times, time.Time.Compare)
				for i := 0; limit > 0 && i+limit < len(times); i++ { // limit+1 in a row, among them u
					if first, last := times[i], times[i+limit]; last.Sub(first) < span && !u.Before(first) && !u.After(last) {
						return true
					}
				}
				return false
			}
			for _, s := range got {
				apart := u.Sub(s.At).Abs()
				if apart < time.Duration(p.Gap) || s.Channel != "sms" && apart < time.Duration(c.Gap) || s.Channel == "sms" && apart < time.Duration(p.Collision) {
					return false
				}
			}
			return !full(p.CapPerDay, day, false) && !full(p.CapPerWeek, week, false) && !full(c.CapPerDay, day, true) && !full(c.CapPerWeek, week, true)
		}
		again, rule := p.Again("email", "", got, at)
		if !allowed(again) || again.Before(at) || (rule == "") != again.Equal(at) {
			rt.Fatalf("%v, %q after %v of %v by %+v", again.Sub(at), rule, at, got, p)
		}
		for u := at; u.Before(again); u = u.Add(time.Minute) {
			if allowed(u) {
				rt.Fatalf("%v, %q: but after %v it is allowed already; got %v", again.Sub(at), rule, u.Sub(at), got)
			}
		}
	})
}
