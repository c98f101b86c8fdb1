package decider

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

var engaged = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC) // a Thursday, 10:41:52 in Rome

// record is a burst of C-20417 at t, as the detector writes it, changed by change.
func record(t time.Time, change func(e *stream.Event, d *deviation.Deviation)) stream.Record {
	d := deviation.Deviation{
		Kind: timing.Burst, Channel: "email", Zone: "Europe/Rome", Actionable: true,
		Score: timing.Score{Now: 83, Best: 84, BestAt: t.Add(24 * time.Hour)},
		Cause: deviation.Cause{ID: "sg-1", Position: "engagement.events.v1:0:17"}, Model: "builtin.1",
	}
	e := stream.Event{
		ID: "dv-" + t.Format("150405.000"), Source: "/tempismo/detector/r1/engagement.scored.v1/0", Type: deviation.Type,
		Subject: "C-20417", Time: t, Traceparent: traceparent,
	}
	key := e.Subject
	if change != nil {
		change(&e, &d)
	}
	data, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	e.Data = data
	return stream.Record{Topic: topics.Deviations, Time: t.Add(200 * time.Millisecond), Key: []byte(key), Value: e.Append(nil)}
}

// driver runs the decider with the policy that flags and environment give.
func driver(t *testing.T, run stream.Run, args ...string) *streamtest.Driver[input, decision.State, none] {
	t.Helper()
	var c Config
	if err := config.Parse(&c, "decider", args, func(string) (string, bool) { return "", false }); err != nil {
		t.Fatal(err)
	}
	policy, err := c.Policy.policy()
	if err != nil {
		t.Fatal(err)
	}
	return streamtest.NewDriver(t, Job(policy, noop.Int64Counter{}), run)
}

func TestABurstBecomesADecision(t *testing.T) {
	d := driver(t, stream.Run{ID: "r1"})
	out := d.Pipe(record(engaged, nil))
	if len(out) != 1 {
		t.Fatalf("%d outputs, want 1", len(out))
	}
	e := out[0].Event
	if out[0].Topic != topics.Decisions || string(out[0].Key) != "C-20417" || e.Subject != "C-20417" {
		t.Errorf("went to %s with key %q and subject %q", out[0].Topic, out[0].Key, e.Subject)
	}
	if e.Type != decision.SendNowType || !strings.HasPrefix(e.ID, "d-") || !e.Time.Equal(engaged) || e.Traceparent != traceparent {
		t.Errorf("envelope %+v", e)
	}
	var got decision.Decision
	if err := got.Parse(e.Type, e.Data); err != nil {
		t.Fatal(err)
	}
	if got.Reason != decision.Burst || !got.ExpiresAt.Equal(engaged.Add(30*time.Minute)) || got.Deviation != "dv-094152.000" {
		t.Errorf("decision %+v", got)
	}
	if !got.DecidedAt.Equal(engaged.Add(200 * time.Millisecond)) {
		t.Errorf("decided at %v: in a live run the clock is that of the records", got.DecidedAt)
	}
	if p := got.MadeFrom.Positions[topics.Deviations]; p != "0:0" || got.MadeFrom.Profile != "engagement.events.v1:0:17" {
		t.Errorf("made from %+v", got.MadeFrom)
	}
}

func TestWhatBecomesOfDeviations(t *testing.T) {
	type change = func(e *stream.Event, d *deviation.Deviation)
	rows := []struct {
		name   string
		args   []string
		change change
		typ    string // empty: nothing is written
		failed string // part of the dead letter's reason
	}{
		{"an actionable burst is a send-now", nil, nil, decision.SendNowType, ""},
		{"a burst beyond the gate leaves no record", nil, func(_ *stream.Event, d *deviation.Deviation) { d.Actionable = false }, "", ""},
		{"a silence leaves no record", nil, func(_ *stream.Event, d *deviation.Deviation) { d.Kind, d.Actionable = timing.Silence, false }, "", ""},
		{"another channel leaves no record", []string{"--channel=sms"}, nil, "", ""},
		{"outside the configured window it is blocked", []string{"--window=15:00-16:00"}, nil, decision.BlockedType, ""},
		{"an engagement of twelve hours ago is past acting on", nil, func(e *stream.Event, _ *deviation.Deviation) { e.Time = engaged.Add(-12 * time.Hour) }, decision.ExpiredType, ""},
		{"an unknown zone is a dead letter", nil, func(_ *stream.Event, d *deviation.Deviation) { d.Zone = "Mars/Olympus" }, "", "zone"},
		{"another type is a dead letter", nil, func(e *stream.Event, _ *deviation.Deviation) { e.Type = "io.tempismo.scored.v1" }, "", "type"},
		{"a subject that is not the key is a dead letter", nil, func(e *stream.Event, _ *deviation.Deviation) { e.Subject = "C-1" }, "", "subject"},
		{"a deviation without a time is a dead letter", nil, func(e *stream.Event, _ *deviation.Deviation) { e.Time = time.Time{} }, "", "time"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			out := driver(t, stream.Run{ID: "r1"}, r.args...).Pipe(record(engaged, r.change))
			switch {
			case r.failed != "":
				if len(out) != 1 || out[0].Topic != topics.DeadLetter(topics.Deviations) || !strings.Contains(out[0].Failed, r.failed) {
					t.Errorf("got %+v, want a dead letter that names the %s", out, r.failed)
				}
			case r.typ == "":
				if len(out) != 0 {
					t.Errorf("got %s, want nothing", out[0].Event.Type)
				}
			case len(out) != 1 || out[0].Event.Type != r.typ:
				t.Errorf("got %+v, want one %s", out, r.typ)
			}
		})
	}
	t.Run("data that is no deviation is a dead letter", func(t *testing.T) {
		r := record(engaged, nil)
		r.Value = []byte(strings.Replace(string(r.Value), `"kind":"burst"`, `"kind":7`, 1))
		if out := driver(t, stream.Run{ID: "r1"}).Pipe(r); len(out) != 1 || !strings.Contains(out[0].Failed, "data") {
			t.Errorf("got %+v", out)
		}
	})
}

// TestAWeekOfBursts tells what one customer gets who bursts every morning: a message a day until three are out, and
// nothing on a holiday.
func TestAWeekOfBursts(t *testing.T) {
	for _, run := range []stream.Run{{ID: "r1"}, {ID: "import", Simulated: true}} {
		d := driver(t, run)
		var got []string
		for day := range 8 { // Thursday 3 to Thursday 10 December; Tuesday 8 is the Immaculate Conception
			for _, out := range d.Pipe(record(engaged.AddDate(0, 0, day), nil)) {
				var data decision.Decision
				if err := data.Parse(out.Event.Type, out.Event.Data); err != nil {
					t.Fatal(err)
				}
				got = append(got, out.Event.Time.Format("Mon")+" "+string(data.Reason))
			}
		}
		const want = "Thu burst, Fri burst, Sat burst, Sun frequency_cap, Mon frequency_cap, Tue closed_day, Wed frequency_cap, Thu burst"
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("run %s:\n got %s\nwant %s", run.ID, s, want)
		}
	}
}

// TestALateDeviationExpires: what comes out of a backlog is never acted on late.
func TestALateDeviationExpires(t *testing.T) {
	d := driver(t, stream.Run{ID: "r1"})
	r := record(engaged, nil)
	r.Time = engaged.Add(31 * time.Minute)
	out := d.Pipe(r)
	if len(out) != 1 || out[0].Event.Type != decision.ExpiredType {
		t.Fatalf("got %+v", out)
	}
}

func TestAllHoursOpen(t *testing.T) {
	d := driver(t, stream.Run{ID: "r1"}, "--window=00:00-24:00", "--quiet=", "--closed-days=none")
	night := time.Date(2026, 12, 25, 2, 0, 0, 0, time.UTC)
	if out := d.Pipe(record(night, nil)); len(out) != 1 || out[0].Event.Type != decision.SendNowType {
		t.Fatalf("got %+v, want a send-now in the night of Christmas", out)
	}
}

func TestConfig(t *testing.T) {
	parse := func(env map[string]string) (Config, error) {
		var c Config
		err := config.Parse(&c, "decider", nil, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		return c, err
	}
	t.Run("the defaults are the default policy of the domain", func(t *testing.T) {
		c, err := parse(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Policy.policy()
		want := decision.OldDefault()
		want.Version = got.Version
		g, w := mustJSON(got), mustJSON(want)
		if err != nil || g != w {
			t.Errorf("got %s, %v, want %s", g, err, w)
		}
	})
	t.Run("every problem is named at once", func(t *testing.T) {
		_, err := parse(map[string]string{"WINDOW": "always", "QUIET": "never", "EXPIRY": "48h", "RUN_ID": "Run 1"})
		for _, part := range []string{"WINDOW", "QUIET", "RUN_ID"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s is not named in %v", part, err)
			}
		}
		if _, err := parse(map[string]string{"EXPIRY": "48h", "CAP_PER_WEEK": "-1"}); err == nil || !strings.Contains(err.Error(), "expiry") || !strings.Contains(err.Error(), "cap per week") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a policy without a name is named by its rules", func(t *testing.T) {
		version := func(env map[string]string) string {
			c, err := parse(env)
			if err != nil {
				t.Fatal(err)
			}
			p, err := c.Policy.policy()
			if err != nil {
				t.Fatal(err)
			}
			return p.Version
		}
		seen := map[string]string{}
		for _, env := range []map[string]string{
			nil, {"CHANNEL": "sms"}, {"WINDOW": "09:00-14:00"}, {"QUIET": ""}, {"CLOSED_DAYS": "none"},
			{"CAP_PER_DAY": "2"}, {"CAP_PER_WEEK": "2"}, {"MIN_GAP": "1h"}, {"EXPIRY": "1h"},
		} {
			v := version(env)
			if before, twice := seen[v]; twice {
				t.Errorf("%v and %s are both %s", env, before, v)
			}
			if seen[v] = mustJSON(env); v != version(env) {
				t.Errorf("%v has two names", env)
			}
		}
		if v := version(map[string]string{"POLICY_VERSION": "14"}); v != "14" {
			t.Errorf("a given name became %s", v)
		}
	})
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
