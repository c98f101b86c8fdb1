package decision

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// filled is a state that has something of everything.
func filled(t testing.TB) (*State, *Audiences) {
	w := newWorld(t)
	w.raw = true
	for _, line := range strings.Split(`
policy channels.email.cap_per_day 1
policy overlap 0.15
policy experiment.exploration 0.5
score thu 10 95
2026-12-01T10:00 anna know {"zone":"Europe/Rome","segment":"premium","channels":["email","sms"]}
2026-12-01T10:00 anna burst email now=90 best=90
2026-12-01T11:00 anna place r-1 email deadline=2026-12-05T00:00 audience=vips priority=3
2026-12-01T11:01 anna place r-2 sms not_before=2026-12-02T00:00 deadline=2026-12-04T00:00 audience=spring early
2026-12-01T11:02 anna place r-3 email deadline=2026-12-02T00:00
2026-12-01T11:03 anna place r-4 fax deadline=2026-12-02T00:00
`, "\n") {
		if err := w.play(line); err != nil {
			t.Fatal(err)
		}
	}
	return w.states["anna"], &w.audiences
}

// TestStateOnDisk holds the bytes of today's version: states that were written must be read for ever.
func TestStateOnDisk(t *testing.T) {
	s, a := filled(t)
	got := fmt.Sprintf("state %x\naudiences %x\n", s.Append(nil), a.Append(nil))
	const file = "testdata/state.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("got\n%s\nwant\n%s\n%v", got, want, err)
	}
	var again State
	if err := again.Decode(s.Append(nil)); err != nil {
		t.Fatal(err)
	}
	again.parsed, s.parsed = nil, nil
	if !reflect.DeepEqual(&again, s) {
		t.Errorf("%+v became %+v", s, again)
	}
	if len(s.pending) != 3 || len(s.sent) != 1 || len(s.ended) != 1 || len(s.members) != 2 {
		t.Errorf("the golden state holds %d, %d, %d and %d", len(s.pending), len(s.sent), len(s.ended), len(s.members))
	}
}

// TestStateOfVersion2: it had no answers; what is written now ends with their number.
func TestStateOfVersion2(t *testing.T) {
	s, _ := filled(t)
	now := s.Append(nil)
	then := append([]byte{2}, now[1:len(now)-1]...)
	var again State
	if err := again.Decode(then); err != nil || !bytes.Equal(again.Append(nil), now) {
		t.Errorf("%x is read as %x, %v", then, again.Append(nil), err)
	}
}

// TestStateOfVersion1: the sends of a decider that knew nothing else count in every channel, and collide with none.
func TestStateOfVersion1(t *testing.T) {
	e := encoder{[]byte{1, 2}}
	first := time.Date(2026, 12, 2, 10, 0, 0, 0, time.UTC)
	e.number(first.Unix())
	e.number(86400)
	var s State
	if err := s.Decode(e.b); err != nil {
		t.Fatal(err)
	}
	if len(s.sent) != 2 || s.sent[0].at != first.UnixMilli() || s.sent[1].at != first.Add(day).UnixMilli() {
		t.Fatalf("read as %+v", s.sent)
	}
	w := newWorld(t)
	w.states["anna"] = &s
	for _, line := range []string{
		"policy channels.sms.cap_per_week 2",
		"policy channels.push.gap 60m",
		"policy collision 1h",
		"2026-12-03T11:30 anna burst push now=90 best=90",
		"2026-12-03T15:30 anna burst sms now=90 best=90",
	} {
		if err := w.play(line); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.out.String(); !strings.Contains(got, "blocked minimum_gap push") || !strings.Contains(got, "blocked frequency_cap sms") || strings.Contains(got, "against it: collision") {
		t.Errorf("decided\n%s", got)
	}
}

func TestStateDecodeRefuses(t *testing.T) {
	s, a := filled(t)
	b, c := s.Append(nil), a.Append(nil)
	for name, bad := range map[string][]byte{
		"nothing":           {},
		"another version":   append([]byte{9}, b[1:]...),
		"a truncated state": b[:len(b)-1],
		"bytes left over":   append(bytes.Clone(b), 0),
		"too many requests": {2, 0, MaxPending + 1},
	} {
		var s State
		if err := s.Decode(bad); err == nil || !reflect.DeepEqual(s, State{}) {
			t.Errorf("%s was decoded", name)
		}
	}
	for name, bad := range map[string][]byte{
		"nothing":              {},
		"another version":      append([]byte{9}, c[1:]...),
		"truncated audiences":  c[:len(c)-1],
		"bytes left over":      append(bytes.Clone(c), 0),
		"an audience twice":    append(append([]byte{1, 2}, "\x01a\x01\x02\x02\x00"...), "\x01a\x01\x02\x02\x00"...),
		"too many of them all": {1, maxAudiences + 1},
	} {
		var a Audiences
		if err := a.Decode(bad); err == nil || !reflect.DeepEqual(a, Audiences{}) {
			t.Errorf("%s was decoded", name)
		}
	}
}

func FuzzStateDecode(f *testing.F) {
	s, _ := filled(f)
	f.Add(s.Append(nil))
	f.Add([]byte{1, 2, 0x80, 0x01, 0x02})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again State
		if s.Decode(b) != nil {
			return
		}
		once := s.Append(nil)
		if err := again.Decode(once); err != nil || !bytes.Equal(again.Append(nil), once) {
			t.Fatalf("%x became %x: %v", once, again.Append(nil), err)
		}
	})
}

func FuzzAudiencesDecode(f *testing.F) {
	_, a := filled(f)
	f.Add(a.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a, again Audiences
		if a.Decode(b) != nil {
			return
		}
		once := a.Append(nil)
		if err := again.Decode(once); err != nil || !bytes.Equal(again.Append(nil), once) {
			t.Fatalf("%x became %x: %v", once, again.Append(nil), err)
		}
	})
}

// TestWhatIsRememberedIsBounded: whatever is placed and sent, a state does not grow beyond its bounds, and the oldest goes first.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	w := newWorld(t)
	w.now = time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	for i := range 300 {
		w.now = w.now.Add(time.Minute)
		if err := w.deviate("anna", "burst", "push", map[string]string{"now": "90", "best": "90"}); err != nil {
			t.Fatal(err)
		}
		w.step("anna", true, func(m *Moment, s *State) []Decision {
			out, _ := m.Place(s, &Request{ID: fmt.Sprint("r-", i), Action: Place, Channel: "fax", Message: "m", Deadline: w.now.Add(time.Hour)})
			return out
		})
	}
	s := w.states["anna"]
	if len(s.sent) != maxSent || len(s.ended) != maxEnded || s.isOver("r-0", w.now.UnixMilli()) || !s.isOver("r-299", w.now.UnixMilli()) {
		t.Errorf("remembers %d sends and %d requests that ended", len(s.sent), len(s.ended))
	}
	if !strings.Contains(w.out.String(), "blocked frequency_cap") {
		t.Error("more were sent than can be remembered")
	}
	for i := range 40 {
		s.join(fmt.Sprint("a-", i), 20_000)
	}
	if len(s.members) != maxMembers {
		t.Errorf("belongs to %d audiences", len(s.members))
	}
	if s.forget(w.now.Add(8 * day).UnixMilli()); len(s.sent) != 0 || len(s.ended) != 0 || len(s.members) != 0 {
		t.Errorf("8 days later %d sends, %d requests and %d audiences are remembered", len(s.sent), len(s.ended), len(s.members))
	}
}

// TestYearsGoBy: what is a week old is forgotten whenever a state is touched, so that it can always be read.
func TestYearsGoBy(t *testing.T) {
	w := newWorld(t)
	w.now = time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
	for range 2 * maxSent {
		w.now = w.now.Add(3 * day)
		if err := w.deviate("anna", "burst", "push", map[string]string{"now": "90", "best": "90"}); err != nil {
			t.Fatal(err)
		}
	}
	if s := w.states["anna"]; len(s.sent) != 3 || strings.Count(w.out.String(), "send_now") != 2*maxSent {
		t.Errorf("remembers %d sends", len(s.sent))
	}
}

// TestPending: the timers of a state are those of its requests.
func TestPending(t *testing.T) {
	s, _ := filled(t)
	got := map[string]time.Time{}
	s.Pending(func(id string, due time.Time) { got[id] = due })
	for _, p := range s.pending {
		if !got[p.id].Equal(time.UnixMilli(p.due)) || got[p.id].Location() != time.UTC {
			t.Errorf("%s is due at %v", p.id, got[p.id])
		}
	}
	if len(got) != 3 {
		t.Errorf("timers %v", got)
	}
}

// TestAudiencesAreForgotten: what no hour and no day needs any more is not kept, and more audiences than are counted bound
// nothing, which the rule says.
func TestAudiencesAreForgotten(t *testing.T) {
	_, a := filled(t)
	if x, ok := a.sharing("spring", 0, 0); !ok || x != (sharing{members: 1}) {
		t.Errorf("%+v, %v", x, ok)
	}
	s, b := filled(t)
	now := time.Date(2026, 12, 1, 11, 3, 0, 0, time.UTC)
	if b.count(s, now.UnixMilli(), -1); len(b.byName) != 0 {
		t.Errorf("left over of the only customer: %v", b.byName)
	}
	a.count(&State{members: []member{{"later", 20_900}}}, time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), 1)
	if len(a.byName) != 1 || a.byName["later"] == nil {
		t.Errorf("left over: %v", a.byName)
	}
	now = time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
	for i := range maxAudiences + 5 {
		a.count(&State{members: []member{{fmt.Sprint("a-", i), 20_900}}}, now.UnixMilli(), 1)
	}
	if len(a.byName) != maxAudiences {
		t.Errorf("%d audiences are counted", len(a.byName))
	}
	d := &desk{Moment: &Moment{Policy: &Policy{Overlap: .1}, Audiences: a}, s: &State{}}
	if x := d.overlap(&pending{id: "r", audience: "a-68"}, 1); !x.ok || x.counted || !strings.Contains(d.share(x), "too many audiences") {
		t.Error("an audience that is not counted was bounded")
	}
}

// TestWhoLeavesAnAudienceIsNotCountedInIt: nor is what they hold after they have left.
func TestWhoLeavesAnAudienceIsNotCountedInIt(t *testing.T) {
	w := played(t, `
		2026-12-01T10:00 anna place r-1 email deadline=2026-12-02T20:00 audience=spring
		2026-12-01T10:00 anna place r-2 push not_before=2026-12-08T10:00 deadline=2026-12-08T11:00 audience=vips
		2026-12-01T10:00 ben place r-3 email not_before=2026-12-15T10:00 deadline=2026-12-16T20:00 audience=spring
		2026-12-05T10:00 anna know {"segment":"premium"}
		2026-12-05T11:00 run`)
	hour, _ := calendar.LocalHour(time.Date(2026, 12, 8, 9, 0, 0, 0, time.UTC), w.loc)
	if x, ok := w.audiences.sharing("spring", hour, 0); !ok || x != (sharing{members: 1}) {
		t.Errorf("spring, which only Ben belongs to, holds %+v in the hour of Anna's %+v", x, w.states["anna"].pending)
	}
	if x, _ := w.audiences.sharing("vips", hour, 0); x.own != 1 {
		t.Errorf("vips hold %+v", x)
	}
}
