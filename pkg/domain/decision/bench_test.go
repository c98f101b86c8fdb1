package decision

import (
	"testing"
	"time"
)

// benched is a customer with a policy as a business has it, and a profile.
func benched(b *testing.B, pending int) (*Moment, *State) {
	p := Default()
	w := newWorld(b)
	w.policy = &p
	for i := range w.forecast.Scores {
		w.forecast.Scores[i] = uint8(i * 7 % 79)
	}
	w.now = time.Date(2026, 12, 3, 7, 0, 0, 0, time.UTC)
	m, s := w.moment("C-20417", true), new(State)
	if _, err := m.Know(s, []byte(`{"zone":"Europe/Rome","place":{"country":"IT","comune":"Milano"},"consents":{"mailing":{"granted":true,"at":"2026-05-12T08:00:00Z"}}}`)); err != nil {
		b.Fatal(err)
	}
	for i := range pending {
		m.Place(s, &Request{ID: string(rune('a' + i)), Action: Place, Channel: "email", Message: "m", Audience: "all", Deadline: w.now.Add(14 * day)})
	}
	return m, s
}

func BenchmarkPlan(b *testing.B) {
	m, s := benched(b, 1)
	d, c := m.open(s, m.Now.UnixMilli(), ""), m.Policy.Channels["email"]
	b.ReportAllocs()
	for b.Loop() {
		d.slot(&s.pending[0], &c, nil)
	}
}

func BenchmarkPlace(b *testing.B) {
	m, s := benched(b, 0)
	before := s.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		var s State
		if err := s.Decode(before); err != nil {
			b.Fatal(err)
		}
		m.Place(&s, &Request{ID: "r", Action: Place, Channel: "email", Message: "m", Audience: "all", Deadline: m.Now.Add(14 * day)})
		s.Append(nil)
	}
}

func BenchmarkTick(b *testing.B) {
	m, s := benched(b, 1)
	before := s.Append(nil)
	m.Now = instant(s.pending[0].at)
	b.ReportAllocs()
	for b.Loop() {
		var s State
		if err := s.Decode(before); err != nil {
			b.Fatal(err)
		}
		if out := m.Tick(&s, "a"); out[0].Type != SendNowType {
			b.Fatal(out[0])
		}
		s.Append(nil)
	}
}

func BenchmarkTickAmongSixteen(b *testing.B) {
	m, s := benched(b, MaxPending)
	before := s.Append(nil)
	first := 0
	for i := range s.pending {
		if s.pending[i].at != 0 && (s.pending[first].at == 0 || s.pending[i].at < s.pending[first].at) {
			first = i
		}
	}
	m.Now = instant(s.pending[first].at)
	id := s.pending[first].id
	b.ReportAllocs()
	for b.Loop() {
		var s State
		if err := s.Decode(before); err != nil {
			b.Fatal(err)
		}
		m.Tick(&s, id)
	}
}

func BenchmarkSlots(b *testing.B) {
	m, s := benched(b, 1)
	for b.Loop() {
		m.Slots(s, "email", m.Now, m.Now.Add(14*day))
	}
}

func BenchmarkState(b *testing.B) {
	_, s := benched(b, 1)
	buf := s.Append(nil)
	b.ReportMetric(float64(len(buf)), "bytes")
	for b.Loop() {
		if err := new(State).Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}
