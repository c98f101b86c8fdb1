package detector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

var noon = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)

func scored() timing.Scored {
	return timing.Scored{
		Event: "sg-1", Kind: "open", Channel: "email", Local: "2026-12-03T10:41:52", Zone: "Europe/Rome",
		Tests:    []timing.Test{{Kind: timing.Burst, P: .0037, PAct: .0114, Observed: 5, Expected: .8}},
		Evidence: timing.Evidence{EngagedHours: 34.2, Deliveries: 118, Days: 203, EngagedDays: 60},
		Score:    timing.Score{Now: 83, Best: 84, BestAt: noon.Add(24 * time.Hour), Confidence: 81, Level: timing.LevelOwn}, Model: "builtin.1",
	}
}

func record(t *testing.T, offset int, at time.Time, s timing.Scored) stream.Record {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	e := stream.Event{
		ID: fmt.Sprint("sc-", offset), Source: "/tempismo/profiler/r1/engagement.events.v1/7", Type: timing.ScoredType, Subject: "anna", Time: at,
		Sequence: fmt.Sprintf("%020d.000", offset), Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Data: data,
	}
	return stream.Record{Topic: topics.Scored, Key: []byte("anna"), Value: e.Append(nil)}
}

func driver(t *testing.T, model string) *streamtest.Driver[Input, deviation.Memory, Partition] {
	c := Config{Run: config.Run{ID: "r1", Mode: "live"}, Model: model}
	return streamtest.NewDriver(t, Job(c, noop.Int64Counter{}), run(c))
}

func TestDeviationOnTheWire(t *testing.T) {
	d := driver(t, timing.BuiltinVersion)
	out := d.Pipe(record(t, 1842217, noon, scored()))
	if len(out) != 1 || out[0].Topic != topics.Deviations || string(out[0].Key) != "anna" {
		t.Fatalf("%+v", out)
	}
	e := out[0].Event
	if e.Type != deviation.Type || !strings.HasPrefix(e.ID, "dv-") || e.Subject != "anna" || !e.Time.Equal(noon) || e.Traceparent == "" {
		t.Errorf("envelope %+v", e)
	}
	var dv deviation.Deviation
	if err := json.Unmarshal(e.Data, &dv); err != nil {
		t.Fatal(err)
	}
	if dv.Cause != (deviation.Cause{ID: "sg-1", Position: "engagement.events.v1:7:1842217"}) || dv.Kind != timing.Burst || dv.Actionable || dv.Gate.PStar != timing.Builtin().PStar {
		t.Errorf("%+v", dv)
	}
	if out := d.Pipe(record(t, 1842218, noon.Add(time.Hour), scored())); len(out) != 0 {
		t.Errorf("told again within the cool-down: %+v", out)
	}
}

// TestErasure: what was told is forgotten, so that whoever begins anew can be told of anew.
func TestErasure(t *testing.T) {
	d := driver(t, timing.BuiltinVersion)
	erasure := func(key, typ string) stream.Record {
		e := stream.Event{ID: "er-1", Source: "/tempismo/erase", Type: typ, Subject: "anna", Time: noon, Data: []byte(`{"signals":["open"],"erased_before":"2026-12-03T09:00:00Z"}`)}
		return stream.Record{Topic: topics.Erasures, Key: []byte(key), Value: e.Append(nil)}
	}
	d.Pipe(record(t, 1, noon, scored()))
	for _, bad := range []stream.Record{erasure("bert", customer.ErasureType), erasure("anna", timing.ScoredType)} {
		if out := d.Pipe(bad); len(out) != 1 || out[0].Topic != "customer.erasures.v1.dlq" {
			t.Errorf("%+v", out)
		}
	}
	if out := d.Pipe(record(t, 2, noon.Add(time.Hour), scored())); len(out) != 0 {
		t.Fatalf("told again within the cool-down: %+v", out)
	}
	if out := d.Pipe(erasure("anna", customer.ErasureType)); len(out) != 0 {
		t.Errorf("%+v", out)
	}
	if m := d.State("anna").Append(nil); !bytes.Equal(m, new(deviation.Memory).Append(nil)) {
		t.Errorf("%x is left", m)
	}
	if out := d.Pipe(record(t, 3, noon.Add(2*time.Hour), scored())); len(out) != 1 {
		t.Errorf("not told after everything was forgotten: %+v", out)
	}
}

// TestASilenceOfLongAgoIsForgotten: who was told to have gone silent, and comes back as somebody new because the profile has
// expired, can go silent again.
func TestASilenceOfLongAgoIsForgotten(t *testing.T) {
	silence := scored()
	silence.Tests = []timing.Test{{Kind: timing.Silence, P: .001, Observed: 9, Expected: 5}}
	for _, c := range []struct {
		retention int
		after     time.Duration
		told      int
	}{{0, 1000 * 24 * time.Hour, 0}, {60, 59 * 24 * time.Hour, 0}, {60, 61 * 24 * time.Hour, 1}} {
		config := Config{Run: config.Run{ID: "r1", Mode: "simulated"}, Model: timing.BuiltinVersion, Retention: c.retention}
		d := streamtest.NewDriver(t, Job(config, noop.Int64Counter{}), run(config))
		if out := d.Pipe(record(t, 1, noon, silence)); len(out) != 1 {
			t.Fatalf("%+v", out)
		}
		if out := d.Pipe(record(t, 2, noon.Add(c.after), silence)); len(out) != c.told {
			t.Errorf("retention %d, %s later: %+v", c.retention, c.after, out)
		}
	}
	if err := (Config{Retention: 5}).Validate(); err == nil || !strings.Contains(err.Error(), "RETENTION_DAYS: 5") {
		t.Error(err)
	}
}

// TestModel: a model switches between two records.
func TestModel(t *testing.T) {
	d := driver(t, "")
	m := timing.Builtin()
	m.Version, m.PStar = "2026-12-03.1", .0131
	data, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	actionable := func(offset int, at time.Time) bool {
		out := d.Pipe(record(t, offset, at, scored()))
		var dv deviation.Deviation
		if len(out) != 1 || json.Unmarshal(out[0].Event.Data, &dv) != nil {
			t.Fatalf("%+v", out)
		}
		return dv.Actionable
	}
	if actionable(1, noon) {
		t.Error("p_act .0114 is actionable at p* .01")
	}
	e := stream.Event{ID: "md-1", Source: "/tempismo/trainer/r1", Type: timing.ModelType, Time: noon, Data: data}
	if out := d.Pipe(stream.Record{Topic: topics.Models, Value: e.Append(nil)}); len(out) != 0 {
		t.Fatalf("%+v", out)
	}
	if !actionable(2, noon.Add(48*time.Hour)) {
		t.Error("p_act .0114 is not actionable at p* .0131")
	}
	e.Data = []byte(`{"version":""}`)
	if out := d.Pipe(stream.Record{Topic: topics.Models, Value: e.Append(nil)}); len(out) != 1 || !strings.Contains(out[0].Failed, "version") {
		t.Errorf("a broken model: %+v", out)
	}
	if !actionable(3, noon.Add(96*time.Hour)) {
		t.Error("a broken model took the place of the one in force")
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	good := record(t, 1, noon, scored())
	for _, row := range []struct {
		name   string
		change func(r *stream.Record)
		says   string
	}{
		{"no JSON", func(r *stream.Record) { r.Value = []byte("{") }, ""},
		{"another type", func(r *stream.Record) {
			r.Value = []byte(strings.Replace(string(r.Value), "scored.v1", "digest.v1", 1))
		}, "type:"},
		{"a key that is not the subject", func(r *stream.Record) { r.Key = []byte("bert") }, "subject:"},
		{"a p that is no probability", func(r *stream.Record) {
			r.Value = []byte(strings.Replace(string(r.Value), `"p":0.0037`, `"p":-1`, 1))
		}, "data.tests:"},
	} {
		r := good
		row.change(&r)
		out := driver(t, timing.BuiltinVersion).Pipe(r)
		if len(out) != 1 || out[0].Topic != "engagement.scored.v1.dlq" || !strings.Contains(out[0].Failed, row.says) {
			t.Errorf("%s: %+v", row.name, out)
		}
	}
}

func TestPosition(t *testing.T) {
	for _, row := range [][3]string{
		{"/tempismo/profiler/r1/engagement.events.v1/7", "00000000000001842217.000", "engagement.events.v1:7:1842217"},
		{"/somebody", "00000000000000000001.000", ""},
		{"/tempismo/profiler/r1/engagement.events.v1/7", "", ""},
	} {
		if got := position(row[0], row[1]); got != row[2] {
			t.Errorf("position of %q, %q is %q, want %q", row[0], row[1], got, row[2])
		}
	}
}
