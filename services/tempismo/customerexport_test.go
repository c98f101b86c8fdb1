package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector"
	crmattributes "github.com/tempismo/tempismo/services/connector/attributes" // attributes is a function of this package
)

// exportDoc is what a reader of an export sees.
type exportDoc struct {
	Customer string
	Run      string
	States   []struct {
		Service string
		Summary map[string]any
		Held    map[string]any
		Stored  []byte
	}
	Records []struct {
		Topic     string
		Partition int32
		Offset    int64
		Time      time.Time
		Key       *string
		Headers   map[string]string
		Body      *struct {
			Type, Subject string
			Data          map[string]any
		}
		Text  string
		Bytes []byte
	}
	Report exportReport
}

// on are the records of a topic.
func (d *exportDoc) on(topic string) (n int) {
	for _, r := range d.Records {
		if r.Topic == topic {
			n++
		}
	}
	return n
}

// held is what a service holds; nil: nothing.
func (d *exportDoc) held(service string) map[string]any {
	for _, s := range d.States {
		if s.Service == service && len(s.Stored) > 0 {
			return s.Held
		}
	}
	return nil
}

func (r *eraseRig) export(run, who string, args ...string) (d exportDoc) {
	r.t.Helper()
	out := must(r.t, append([]string{"export", who, "--out", "-", "--data", r.dir, "--run", run}, args...)...)
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		r.t.Fatalf("%v in\n%s", err, out)
	}
	return d
}

// requestOf asks for a message that waits.
func requestOf(who, id string, day int) [2]string {
	data := fmt.Sprintf(`{"action":"place","channel":"email","message":"winter","audience":"milano","priority":2,"deadline":%q}`, onDay(day+20, 0).Format(time.RFC3339))
	e := stream.Event{ID: id, Source: "/crm", Type: decision.RequestType, Subject: who, Time: onDay(day, 0), Data: []byte(data)}
	return [2]string{who, string(e.Append(nil))}
}

// TestEverythingOfACustomerIsExported has anna leave something everywhere, and somebody else beside her on the same topics.
func TestEverythingOfACustomerIsExported(t *testing.T) {
	r := newEraseRig(t)
	const run = "r1"
	r.write(run, topics.Attributes, saidOfPixels("anna", "true", 0), saidOfPixels("bert", "true", 0))
	var events [][2]string
	for day := range 40 {
		for _, who := range []string{"anna", "bert"} {
			events = append(events, did(engagement.Delivered, who, day, 0), did(engagement.Open, who, day, 11*time.Hour))
		}
	}
	events = append(events, [2]string{"anna", "\xff\xfe no event"}) // goes to the dead letters
	r.write(run, topics.Events, events...)
	r.write(run, topics.Requests, requestOf("anna", "req-1", 40))
	outcome, err := json.Marshal(decision.Outcome{Decision: "d-1", Connector: "webhook", Result: decision.Accepted, CRMID: "crm-1", Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	told := stream.Event{ID: "o-1", Source: "/connector", Type: decision.OutcomeType, Subject: "anna", Time: onDay(39, 0), Data: outcome}
	r.write(run, topics.Outcomes, [2]string{"anna", string(told.Append(nil))})
	r.work(run)
	r.with(run, func(sys *system) error { // what a CRM was told of her
		lease, err := sys.store.Claim(t.Context(), sys.run.Group(connector.Sweep), stream.Partition([]byte("anna"), 2))
		if err != nil {
			return err
		}
		defer lease.Close()
		entry := crmattributes.Written{Values: crmattributes.Values{Best: 34, Confidence: 80, Level: timing.LevelOwn, Persona: "early readers"}}
		return lease.Commit(t.Context(), &stream.Commit{Next: map[string]int64{topics.Events: 1}, Partitions: 2, Keys: []string{"anna"}, Values: [][]byte{entry.Append(nil)}})
	})

	file, audits := filepath.Join(t.TempDir(), "anna.json"), filepath.Join(t.TempDir(), "audit.jsonl")
	args := []string{"export", "anna", "--out", file, "--data", r.dir, "--run", run, "--by", "Bea", "--reason", "ticket 7", "--audit", audits}
	out, errs, code := tempismo(t, append(args, "--json")...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d exportDoc
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	var report exportReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	sim := stream.Run{ID: run, Simulated: true}.Topic
	for _, topic := range []string{topics.Events, topics.Attributes, topics.Scored, topics.Requests, topics.Outcomes, topics.DeadLetter(topics.Events)} {
		if got, want := d.on(sim(topic)), r.count(run, topic, "anna"); got != want || want == 0 {
			t.Errorf("%s: %d records are exported, and it has %d", topic, got, want)
		}
	}
	if d.Customer != "anna" || d.Report.Records != int64(len(d.Records)) || report.Records != d.Report.Records || report.By != "Bea" || len(report.Unknown) == 0 {
		t.Errorf("%+v", report)
	}
	for _, e := range d.Records {
		switch {
		case e.Key == nil || *e.Key != "anna" || e.Time.IsZero() || e.Partition != stream.Partition([]byte("anna"), 2):
			t.Errorf("%+v", e)
		case e.Topic == sim(topics.DeadLetter(topics.Events)):
			if string(e.Bytes) != "\xff\xfe no event" || e.Headers["__connect.errors.topic"] == "" {
				t.Errorf("the dead letter is %+v", e)
			}
		case e.Topic == sim(topics.Events) && e.Body == nil:
			if string(e.Bytes) != "\xff\xfe no event" {
				t.Errorf("%+v", e)
			}
		case e.Body == nil || e.Body.Subject != "anna":
			t.Errorf("%+v", e)
		}
	}
	for _, topic := range report.Topics {
		if topic.Found > 0 && topic.Until == nil && topic.Topic != sim(topics.Attributes) {
			t.Errorf("it is not said how long is kept: %+v", topic)
		}
		if topic.Topic == sim(topics.Attributes) && !strings.Contains(topic.Kept, "for ever") {
			t.Errorf("%+v", topic)
		}
	}

	profile, waiting := d.held("profiler"), d.held("decider")
	if channels, _ := profile["channels"].([]any); len(channels) != 1 {
		t.Errorf("of the profile is told %v", profile)
	} else if hours, _ := channels[0].(map[string]any)["engaged"].([]any); len(hours) == 0 || !strings.HasSuffix(fmt.Sprint(hours[0]), "h") {
		t.Errorf("engaged hours are %v", hours)
	}
	pending, _ := waiting["pending"].([]any)
	if len(pending) != 1 {
		t.Fatalf("of the decider's memory is told %v", waiting)
	}
	if p := pending[0].(map[string]any); p["id"] != "req-1" || p["message"] != "winter" || p["deadline"] != onDay(60, 0).Format(time.RFC3339) {
		t.Errorf("the request that waits is %v", p)
	}
	if of, _ := d.held(connector.Sweep)["values"].(map[string]any); of["persona"] != "early readers" || of["confidence"] != 80. {
		t.Errorf("of what the CRM was told is told %v", of)
	}
	if known, _ := waiting["attributes"].(map[string]any); known["consents"] == nil {
		t.Errorf("the attributes are %v", waiting["attributes"])
	}

	// A second export does not write over the first, and leaves it alone.
	if _, errs, code := tempismo(t, args...); code != 1 || !strings.Contains(errs, "exists") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if again, err := os.ReadFile(file); err != nil || string(again) != string(b) {
		t.Error("the first export is not what it was")
	}
	var lines []audited
	text, err := os.ReadFile(audits)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var a audited
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, a)
	}
	if len(lines) != 3 || lines[0].Action != "export" || lines[0].Customer != "anna" || lines[0].By != "Bea" || lines[0].Reason != "ticket 7" || lines[0].Failed != "" || lines[2].Failed == "" || time.Since(lines[0].Time) > time.Hour {
		t.Errorf("%+v", lines)
	}
	if info, err := os.Stat(audits); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// What remains of who is erased is exported, too.
	must(t, "erase", "anna", "--before", onDay(41, 0).Format(time.RFC3339), "--data", r.dir, "--run", run, "--by", "Bea", "--audit", audits)
	r.work(run)
	left := r.export(run, "anna")
	profile, waiting = left.held("profiler"), left.held("decider")
	if len(profile) == 0 || profile["channels"] != nil || profile["erased"] != onDay(41, 0).Format(time.RFC3339) {
		t.Errorf("of the profile is left %v", profile)
	}
	if waiting["pending"] != nil || waiting["attributes"] != nil {
		t.Errorf("of the decider's memory is left %v", waiting)
	}
	if left.on(sim(topics.Erasures)) != 1 || left.on(sim(topics.Events)) != d.on(sim(topics.Events)) {
		t.Errorf("of the records are left %+v", left.Report.Topics)
	}
	if text, err := os.ReadFile(audits); err != nil || strings.Count(string(text), "\n") != 4 || !strings.Contains(string(text), `"action":"erase"`) || !strings.Contains(string(text), "request of the customer") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestNobodyIsExported(t *testing.T) {
	r := newEraseRig(t)
	r.write("r1", topics.Attributes, saidOfPixels("anna", "true", 0))
	file := filepath.Join(t.TempDir(), "nobody.json")
	out, errs, code := tempismo(t, "export", "nobody", "--out", file, "--data", r.dir, "--run", "r1")
	if code != 1 || out != "" || !strings.Contains(errs, `nothing is held of "nobody" in run "r1"`) {
		t.Errorf("exit code %d, %q, %s", code, out, errs)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a file was left: %v", err)
	}
	if _, errs, code := tempismo(t, "export", "anna", "--data", r.dir, "--run", "r1"); code != 2 || !strings.Contains(errs, "--out") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if _, errs, code := tempismo(t, "erase", "anna", "--reason", strings.Repeat("x", 257), "--data", r.dir, "--run", "r1"); code != 2 || !strings.Contains(errs, "--reason") {
		t.Errorf("an erasure that no reader takes: exit code %d, %s", code, errs)
	}
	// What cannot be noted is not done.
	if _, errs, code := tempismo(t, "export", "anna", "--out", file, "--audit", filepath.Join(file, "audit"), "--data", r.dir, "--run", "r1"); code != 1 || !strings.Contains(errs, "nothing was done") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("a file was written: %v", err)
	}
	if d := r.export("r1", "anna"); len(d.States) != 0 || len(d.Records) != 1 || len(d.Report.States) != 4 || d.Report.States[0].Warning == "" {
		t.Errorf("%+v", d)
	}
}

// TestWhoseARecordIs holds the rule: by key, or by subject however it is written.
func TestWhoseARecordIs(t *testing.T) {
	for _, c := range []struct {
		sentence, key, value string
		want                 bool
	}{
		{"the key is the id", "anna", "", true},
		{"the key is another's", "annabel", `{"subject":"annabel"}`, false},
		{"the subject is the id", "", `{"subject":"anna"}`, true},
		{"the subject is escaped", "x", `{"subject":"\u0061nna"}`, true},
		{"the id stands elsewhere", "x", `{"subject":"bert","source":"anna"}`, false},
		{"it is no JSON", "x", `anna`, false},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			if got := concerns(&stream.Record{Key: []byte(c.key), Value: []byte(c.value)}, "anna"); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestEveryTimeOfAStateIsLegible holds the names in units to fields that exist, so that none that is renamed becomes a number.
func TestEveryTimeOfAStateIsLegible(t *testing.T) {
	fields := fieldsOfStates(new(timing.Profile), new(deviation.Memory), new(decision.State))
	for name := range units {
		if !fields[name] {
			t.Errorf("%s is no field of a state", name)
		}
	}
}

// fieldsOfStates names the fields of all structs that the states are made of.
func fieldsOfStates(states ...any) map[string]bool {
	names := map[string]bool{}
	var visit func(reflect.Type)
	visit = func(s reflect.Type) {
		switch s.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			visit(s.Elem())
		case reflect.Struct:
			for i := range s.NumField() {
				name := s.String() + "." + s.Field(i).Name
				if !names[name] {
					names[name] = true
					visit(s.Field(i).Type)
				}
			}
		}
	}
	for _, s := range states {
		visit(reflect.TypeOf(s))
	}
	return names
}

// stopping is a reader who stops the command with the first that it gets.
type stopping struct{ stop context.CancelFunc }

func (s stopping) Write(b []byte) (int, error) { s.stop(); return len(b), nil }

// TestAnExportThatIsStoppedIsNone: a reader of a topic that is told to stop ends without an error.
func TestAnExportThatIsStoppedIsNone(t *testing.T) {
	r := newEraseRig(t)
	var events [][2]string
	for day := range 1000 {
		events = append(events, did(engagement.Delivered, "anna", day, 0))
	}
	r.write("r1", topics.Events, events...)
	r.with("r1", func(sys *system) error {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		c := &exportCmd{Customer: "anna", Out: "-"}
		if err := c.export(ctx, sys, terminal{out: stopping{stop}, err: io.Discard}, &exportReport{Customer: "anna"}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		return nil
	})
}
