package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// emptyFolder makes a data folder on which nothing runs, with topics of three partitions.
func emptyFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at(t, dir, func(context.Context, *system) {})
	return dir
}

// at starts the embedded pair on a folder for as long as do needs it.
func at(t *testing.T, dir string, do func(context.Context, *system)) {
	t.Helper()
	sys := &system{run: stream.Run{ID: "r1"}}
	if err := sys.embed(dir, local.Ports{}); err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	if err := local.Save(dir, local.System{Run: sys.run.ID, Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	if err := kafka.EnsureTopics(t.Context(), sys.kafka, sys.run, 3); err != nil {
		t.Fatal(err)
	}
	if err := sys.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(t.Context(), sys)
}

// file writes a policy file.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPolicy goes through the commands on a data folder on which nothing runs.
func TestPolicy(t *testing.T) {
	alone(t)
	dir := emptyFolder(t)
	on := func(args ...string) string {
		return must(t, append(append([]string{"policy"}, args...), "--data", dir)...)
	}
	list := func() (lines []policyLine) {
		if err := json.Unmarshal([]byte(on("list", "--json")), &lines); err != nil {
			t.Fatal(err)
		}
		return lines
	}
	if out := on(); len(list()) != 0 || !strings.Contains(out, "default.2 decides") {
		t.Errorf("before any was put into force:\n%s", out)
	}
	begin := on("show")
	if !strings.Contains(begin, "# Policy default.2\n") || !strings.Contains(begin, "windows:\n    - 09:30-14:00\n") || strings.Contains(begin, "version") {
		t.Errorf("the default policy:\n%s", begin)
	}
	if out := on("apply", file(t, begin), "--dry-run"); !strings.Contains(out, "closed  "+decision.Default().Closed.Name+" → IT-") || strings.Count(out, "\n") != 2 {
		t.Errorf("the default, shown and applied, changes more than the years of its calendar:\n%s", out)
	}

	if out := on("apply", examplePolicy, "--dry-run"); !strings.Contains(out, "cap_per_week  6 → 5") || len(list()) != 0 {
		t.Errorf("a dry run:\n%s", out)
	}
	out := on("apply", examplePolicy)
	for _, want := range []string{"policy 1 is in force", "what is different from default.2", "cap_per_week  6 → 5", "channels.sms.windows  14:30-18:00 → mon-fri 14:30-18:00", "+ segments", "calendars.municipal  true", "experiment.holdout  0 → 0.05"} {
		if !strings.Contains(out, want) {
			t.Errorf("what was applied is told without %q:\n%s", want, out)
		}
	}
	if out := on("apply", examplePolicy); !strings.Contains(out, "policy 1 is in force already") || len(list()) != 1 {
		t.Errorf("applied again:\n%s", out)
	}
	shown := on("show")
	changed := strings.Replace(shown, "threshold: 80", "threshold: 75", 1)
	out = on("apply", file(t, changed))
	if !strings.Contains(out, "policy 2 is in force") || !strings.Contains(out, "channels.email.threshold  80 → 75") || strings.Count(out, "\n") != 3 {
		t.Errorf("one number was changed:\n%s", out)
	}
	lines := list()
	if len(lines) != 2 || lines[0].Version != "2" || !lines[0].InForce || lines[1].InForce || lines[0].Segments != 2 || len(lines[0].Channels) != 3 || !strings.HasPrefix(lines[0].Calendar, "IT-") {
		t.Errorf("%+v", lines)
	}
	if out := on("list"); strings.Count(out, "in force") != 1 || strings.Index(out, "\n2 ") > strings.Index(out, "\n1 ") {
		t.Errorf("the list:\n%s", out)
	}
	if on("show", "1") != shown {
		t.Error("version 1 is another by now")
	}
	var p decision.Policy
	if err := p.Parse([]byte(on("show", "--json"))); err != nil || p.Version != "2" || p.Channels["email"].Threshold != 75 {
		t.Errorf("%v, %+v", err, p)
	}

	broken := file(t, "quiet: 21:00-08:00\noverlap: 15\n")
	if _, errs, code := tempismo(t, "policy", "apply", broken, "--data", dir); code != 2 || !strings.HasPrefix(errs, broken+":2:10: overlap: 15 is no share") || !strings.Contains(errs, "has 1 problem") || len(list()) != 2 {
		t.Errorf("%d, %s", code, errs)
	}
	if _, errs, code := tempismo(t, "policy", "show", "9", "--data", dir); code != 1 || !strings.Contains(errs, "tempismo policy list") {
		t.Errorf("%d, %s", code, errs)
	}
}

func TestPolicyCheck(t *testing.T) {
	alone(t)
	out := must(t, "policy", "check", examplePolicy)
	for _, want := range []string{"is a policy", "email", "at most 1 in 24 hours and 3 in 7 days", "segment Milano offices", "prime none", "5 % of the customers are held out", "before Christmas"} {
		if !strings.Contains(out, want) {
			t.Errorf("it is said without %q:\n%s", want, out)
		}
	}
	if out := must(t, "policy", "check", examplePolicy, "--json"); out != "[]\n" {
		t.Errorf("as JSON: %s", out)
	}
	broken := file(t, "zone: Rome\noverlap: 15\n")
	var fs []fault
	out, errs, code := tempismo(t, "policy", "check", broken, "--json")
	if err := json.Unmarshal([]byte(out), &fs); err != nil || code != 2 || len(fs) != 2 || fs[1].Line != 2 || fs[1].Path != "overlap" || fs[1].File != broken {
		t.Errorf("%v, %d, %+v, %s", err, code, fs, errs)
	}
	if out, errs, code := tempismo(t, "policy", "check", broken); code != 2 || out != "" || strings.Count(errs, broken) != 3 {
		t.Errorf("%d, %s, %s", code, out, errs)
	}
	if _, errs, code := tempismo(t, "policy", "check", "no-such-file.yaml"); code != 1 || !strings.Contains(errs, "no such file") {
		t.Errorf("%d, %s", code, errs)
	}
}

// Who dies while a policy is written leaves partitions behind that lack it; whoever applies it again mends that.
func TestApplyMendsWhatWasLeftHalfDone(t *testing.T) {
	alone(t)
	dir := emptyFolder(t)
	p, err := openPolicy(examplePolicy, 2026)
	if err != nil {
		t.Fatal(err)
	}
	p.Version = "7"
	at(t, dir, func(ctx context.Context, sys *system) {
		ahead := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
		e := stream.Event{ID: "po-7", Source: "/tempismo/operator/r1", Type: decision.PolicyType, Time: ahead, Data: p.Append(nil)}
		w, err := kafka.NewWriter(ctx, sys.log, sys.run)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, value := range [][]byte{[]byte("no policy"), e.Append(nil)} {
			if err := w.Write(ctx, topics.Policies, nil, value, time.Time{}); err != nil { // without a key: into partition 0
				t.Fatal(err)
			}
		}
		s, err := readPolicies(ctx, sys.log, sys.run)
		if err != nil || s.even || len(s.copies) != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		again := *p
		if applied, err := applyPolicy(ctx, sys.log, sys.run, &again); err != nil || applied || again.Version != "7" {
			t.Errorf("%v, %v, version %s", applied, err, again.Version)
		}
		if s, err = readPolicies(ctx, sys.log, sys.run); err != nil || !s.even || len(s.copies) != 1 {
			t.Errorf("it was not mended: %+v, %v", s, err)
		}
		again.Overlap = 1
		if applied, err := applyPolicy(ctx, sys.log, sys.run, &again); err != nil || !applied || again.Version != "8" {
			t.Errorf("%v, %v, version %s", applied, err, again.Version)
		}
		if s, err = readPolicies(ctx, sys.log, sys.run); err != nil || !s.even || s.inForce().policy.Version != "8" || !s.inForce().at.After(ahead) {
			t.Errorf("a clock that ran ahead hides the newest policy: %+v, %v", s, err)
		}
	})
}

// Two who apply policies at the same time never both hear that theirs is in force under one number; who applies his again gets one
// of his own.
func TestTwoWhoApplyAtTheSameTime(t *testing.T) {
	alone(t)
	at(t, t.TempDir(), func(ctx context.Context, sys *system) {
		var both [2]*decision.Policy
		var errs [2]error
		var all sync.WaitGroup
		for i := range both {
			p := decision.Default()
			p.CapPerWeek = i + 1
			both[i] = &p
			all.Go(func() { _, errs[i] = applyPolicy(ctx, sys.log, sys.run, &p) })
		}
		all.Wait()
		if errs[0] == nil && errs[1] == nil && both[0].Version == both[1].Version {
			t.Errorf("both are told that theirs is version %s", both[0].Version)
		}

		clash := policyCopy{both[0], time.Now().Add(time.Minute).UTC().Truncate(time.Millisecond)}
		clash.policy.Version = "9"
		other := policyCopy{both[1], clash.at.Add(time.Second)}
		other.policy.Version = "9"
		for _, c := range []policyCopy{clash, other} {
			if err := c.publish(ctx, sys.log, sys.run); err != nil {
				t.Fatal(err)
			}
		}
		again := *both[1]
		if applied, err := applyPolicy(ctx, sys.log, sys.run, &again); err != nil || !applied || again.Version != "10" {
			t.Errorf("%v, %v, version %s", applied, err, again.Version)
		}
	})
}

func TestPolicyExplain(t *testing.T) {
	alone(t)
	dir := emptyFolder(t)
	must(t, "policy", "apply", examplePolicy, "--data", dir)
	at(t, dir, func(ctx context.Context, sys *system) {
		w, err := kafka.NewWriter(ctx, sys.log, sys.run)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, data := range []string{`{"segment":"private"}`,
			`{"zone":"Europe/Rome","segment":"business","value":900,"place":{"province":"MI","comune":"Milano"},"channels":["email"],"consents":{"mailing":{"granted":true,"at":"2026-05-12T08:00:00Z"}}}`} {
			e := stream.Event{ID: "a", Source: "/crm", Subject: "C-1", Type: customer.Type, Time: time.Date(2026, 5, 12, 8, 0, 0, 0, time.UTC), Data: []byte(data)}
			if err := w.Write(ctx, topics.Attributes, []byte("C-1"), e.Append(nil), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	})
	defer func() {
		at(t, dir, func(ctx context.Context, sys *system) {
			w, err := kafka.NewWriter(ctx, sys.log, sys.run)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			e := stream.Event{ID: "pc", Source: "/form", Subject: "C-1", Type: customer.ConsentType, Time: time.Date(2026, 11, 12, 8, 0, 0, 0, time.UTC), Data: []byte(`{"mailing":{"granted":false,"at":"2026-11-12T08:00:00Z"}}`)}
			if err := w.Write(ctx, topics.Consents, []byte("C-1"), e.Append(nil), time.Time{}); err != nil {
				t.Fatal(err)
			}
		})
		if out := must(t, "policy", "explain", "--customer", "C-1", "--at", "2026-12-07T10:41:00+01:00", "--data", dir); !strings.Contains(out, "refused on 2026-11-12: nothing is sent") || !strings.Contains(out, "because of consent") {
			t.Errorf("what was answered later is not taken into account:\n%s", out)
		}
	}()
	out := must(t, "policy", "explain", "--customer", "C-1", "--at", "2026-12-07T10:41:00+01:00", "--data", dir)
	for _, want := range []string{
		"C-1, Milano offices  by policy 1", "Europe/Rome, the customer's own", "Milano, MI", "consented on 2026-05-12", "by email",
		"best customers does not fit: clv is not known; value is 900",
		`Milano offices fits: comune is "Milano"; segment is "business"`,
		"mon-fri 08:30-18:00; waits for a score of 80, at last mon-fri 09:30-14:00",
		"Mon 7 Dec 10:41: no, because of calendar (Sant'Ambrogio in Milano)", "next Tue 8 Dec 08:30",
		"Fri 25 Dec 2026  Natale (national, Italy)",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it is said without %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "Immacolata (") {
		t.Errorf("a day that is opened counts as closed:\n%s", out)
	}

	var v explained
	out = must(t, "policy", "explain", examplePolicy, "--attributes", `{"consents":{"mailing":{"granted":false,"at":"2026-05-12T08:00:00Z"}},"zone":"Mars/Olympus"}`, "--channel", "sms", "--at", "2026-12-03T14:30:00Z", "--json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Zone != "Europe/Rome" || v.Segment != "" || len(v.Channels) != 1 || v.Channels[0].Next != nil || len(v.Channels[0].Against) != 1 || v.Channels[0].Against[0].Rule != decision.RuleConsent {
		t.Errorf("%v, %+v", err, v)
	}
	out = must(t, "policy", "explain", examplePolicy, "--attributes", `{}`, "--at", "2026-12-03T10:00:00+01:00")
	for _, want := range []string{"a customer  by policy " + examplePolicy, "the policy's, unless the profile has learned another", "not known, so only days that are closed everywhere are", "the policy assumes consent", "Thu 3 Dec 10:00: nothing is against it"} {
		if !strings.Contains(out, want) {
			t.Errorf("it is said without %q:\n%s", want, out)
		}
	}
	if _, errs, _ := tempismo(t, "policy", "explain", "--customer", "C-2", "--data", dir); !strings.Contains(errs, `have nothing about "C-2"`) {
		t.Errorf("a customer of whom nothing is known: %s", errs)
	}
	for _, row := range []struct {
		sentence, want string
		args           []string
	}{
		{"two customers", "give one of them", []string{"--customer", "C-1", "--attributes", "{}"}},
		{"no instant", "no instant such as", []string{"--at", "tomorrow"}},
		{"no channel", "it has email, push, sms", []string{examplePolicy, "--channel", "fax", "--attributes", "{}"}},
	} {
		if _, errs, code := tempismo(t, append([]string{"policy", "explain"}, row.args...)...); code != 2 || !strings.Contains(errs, row.want) {
			t.Errorf("%s: %d, %s", row.sentence, code, errs)
		}
	}
	if _, errs, code := tempismo(t, "policy", "explain", examplePolicy, "--attributes", `{"value":"much"}`); code == 0 || !strings.Contains(errs, "value") {
		t.Errorf("%d, %s", code, errs)
	}
}

func TestRefusedFilesAreTheOperatorsAffair(t *testing.T) {
	if err := (faults{{}}).count("p.yaml"); !errors.Is(err, config.ErrUsage) || err.Error() != "p.yaml has 1 problem" {
		t.Error(err)
	}
}

func TestUpPutsAPolicyIntoForce(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	args := []string{"--data", dir, "--policy", examplePolicy, "--partitions", "2"}
	for range 2 {
		s := newScreen("Ctrl-C ends it cleanly")
		up(t, s, append(args, "--console-listen", address(t), "--ingest-listen", address(t))...)()
		if !strings.Contains(s.String(), "policy  1, from "+examplePolicy) {
			t.Errorf("the terminal does not say what is in force:\n%s", s)
		}
	}
	if out := must(t, "policy", "--data", dir); strings.Count(out, "\n") != 2 || !strings.Contains(out, "in force") {
		t.Errorf("a second start puts it into force again:\n%s", out)
	}
	never := t.TempDir()
	if _, errs, code := tempismo(t, "up", "--data", never, "--policy", file(t, "overlap: 15\n")); code != 2 || !strings.Contains(errs, ":1:10: overlap:") {
		t.Errorf("%d, %s", code, errs)
	}
	if _, ok := local.Load(never); ok {
		t.Error("a policy that cannot be used was found out too late: the folder was made")
	}
}
