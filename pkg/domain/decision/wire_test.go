package decision

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

func TestRequestParse(t *testing.T) {
	const good = `{"action":"place","channel":"email","message":"winter-preview","audience":"premium-milano","priority":2,"not_before":"2026-12-03T09:00:00Z","deadline":"2026-12-05T09:00:00Z","on_deviation":true}`
	change := func(field, value string) string {
		var all map[string]json.RawMessage
		if err := json.Unmarshal([]byte(good), &all); err != nil {
			t.Fatal(err)
		}
		if all[field] = json.RawMessage(value); value == "" {
			delete(all, field)
		}
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	long := `"` + strings.Repeat("x", MaxText+1) + `"`
	for _, row := range []struct{ name, id, data, says string }{
		{"a request", "r-1", good, ""},
		{"without what is optional", "r-1", `{"action":"place","channel":"email","message":"m","deadline":"2026-12-05T09:00:00Z"}`, ""},
		{"with fields of a later version", "r-1", change("later", `1`), ""},
		{"a cancellation needs nothing else", "r-1", `{"action":"cancel"}`, ""},
		{"no JSON", "r-1", `{`, "data:"},
		{"no id", "", good, "id:"},
		{"an id that is too long", strings.Repeat("x", MaxText+1), good, "id:"},
		{"no action", "r-1", change("action", ""), "data.action"},
		{"another action", "r-1", change("action", `"send"`), `data.action: "send"`},
		{"no channel", "r-1", change("channel", ""), "data.channel"},
		{"a channel that is no name", "r-1", change("channel", `"E-Mail"`), "data.channel"},
		{"no message", "r-1", change("message", ""), "data.message"},
		{"a message that is too long", "r-1", change("message", long), "data.message"},
		{"an audience that is too long", "r-1", change("audience", long), "data.audience"},
		{"a priority that is too high", "r-1", change("priority", `10`), "data.priority"},
		{"a priority below none", "r-1", change("priority", `-1`), "data.priority"},
		{"a priority that is text", "r-1", change("priority", `"high"`), "priority"},
		{"no deadline", "r-1", change("deadline", ""), "data.deadline: is required"},
		{"a deadline that is no time", "r-1", change("deadline", `"tomorrow"`), "tomorrow"},
		{"a deadline at not_before", "r-1", change("deadline", `"2026-12-03T09:00:00Z"`), "data.deadline: 2026-12-03T09:00:00Z is not after not_before"},
		{"a deadline out of all time", "r-1", change("deadline", `"0026-12-03T09:00:00Z"`), "data.deadline"},
		{"a beginning out of all time", "r-1", change("not_before", `"0026-12-03T09:00:00Z"`), "data.not_before"},
		{"a deadline that is too far", "r-1", change("deadline", `"2027-03-05T09:00:00Z"`), "data.deadline: is more than 90 days"},
	} {
		r := Request{Message: "left over"}
		switch err := r.Parse(row.id, []byte(row.data)); {
		case row.says == "" && err != nil:
			t.Errorf("%s: %v", row.name, err)
		case row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)):
			t.Errorf("%s: %v does not say %q", row.name, err, row.says)
		case err == nil && (r.ID != "r-1" || r.Message == "left over"):
			t.Errorf("%s: %+v", row.name, r)
		}
	}
}

func FuzzRequestParse(f *testing.F) {
	f.Add("r-1", []byte(`{"action":"place","channel":"email","message":"m","deadline":"2026-12-05T09:00:00Z"}`))
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		var r Request
		if r.Parse(id, data) != nil {
			return
		}
		w := newWorld(t) // what was read can be placed, and what is remembered of it can be read
		w.now = time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)
		w.step("anna", true, func(m *Moment, s *State) []Decision { out, _ := m.Place(s, &r); return out })
		w.run(w.now.Add(day))
	})
}

// TestLookupOnTheWire: a look-up is read back as it was, whoever writes one by hand is told what is wrong, and what it says is
// what the profile and the model do.
func TestLookupOnTheWire(t *testing.T) {
	now := time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC)
	p := timing.Profile{Zone: "Europe/Rome"}
	l := NewLookup(&p, timing.Builtin(), []string{"email", "sms"}, now)
	l.Profile, l.Partial = "engagement.events.v1:7:1842217", true
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var back Lookup
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(&back, l) {
		t.Errorf("%s was read as %+v: %v", b, back, err)
	}
	view := p.View(timing.Builtin(), "email", 0)
	if f := l.Channels["email"]; f.Scores != view.Scores || f.Level != timing.LevelBusinessHours || l.Zone != "Europe/Rome" || l.Model != timing.Builtin().Version || len(l.Channels) != 2 {
		t.Errorf("%+v", l)
	}
	if none := NewLookup(nil, timing.Builtin(), []string{"email"}, now); none.Zone != "" || none.Channels["email"] != *businessHours() {
		t.Error("who is not known is not read by business hours")
	}
	for data, says := range map[string]string{
		`{"channels":{"email":{"scores":"AAAA"}}}`:                               "3 hours",
		`{"channels":{"email":{"scores":"` + strings.Repeat("ZWVm", 56) + `"}}}`: "101 at hour 0",
		`{"channels":{"email":{"scores":7}}}`:                                    "scores",
	} {
		if err := json.Unmarshal([]byte(data), new(Lookup)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// TestDecisionOnTheWire holds what a wait and a send look like to those who read them.
func TestDecisionOnTheWire(t *testing.T) {
	w := newWorld(t)
	var got []string
	w.tell = func(_ string, d *Decision) {
		b := d.Append(nil)
		var back Decision
		if err := back.Parse(d.Type, b); err != nil || string(back.Append(nil)) != string(b) {
			t.Errorf("%s was read as %+v: %v", b, back, err)
		}
		without := *d
		without.Lookup = nil
		got = append(got, string(without.Append(nil)))
	}
	for _, line := range []string{"policy experiment.holdout 0.25", "score 10 83", "2026-12-03T08:41:52 C-20417 place r-5512 email deadline=2026-12-03T12:00 audience=premium"} {
		if err := w.play(line); err != nil {
			t.Fatal(err)
		}
	}
	w.run(time.Time{})
	const file = "testdata/decision.golden"
	text := strings.Join(got, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || text != string(want) {
		t.Errorf("got\n%s\nwant\n%s\n%v", text, want, err)
	}
}

func TestDecisionParseRefuses(t *testing.T) {
	for _, row := range []struct{ name, data, says string }{
		{"what is no JSON", `{`, "parse decision"},
		{"a decision without a reason", `{}`, "reason"},
		{"a send-now that would live for ever", `{"reason":"burst"}`, "expires_at"},
	} {
		if err := new(Decision).Parse(SendNowType, []byte(row.data)); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
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
	if Attempting.Final() || !Unknown.Final() {
		t.Error("only attempting leaves something to do")
	}
	if err := new(Outcome).Parse([]byte(`{"result":"accepted"}`)); err == nil {
		t.Error("an outcome without its decision was read")
	}
}
