package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/services/tempismo/evaluation"
)

// evaluated runs the command and reads its report; what it answers must follow from the bars.
func evaluated(t *testing.T, args ...string) evaluation.Report {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(append([]string{"evaluate", "--json"}, args...), &out, &errs)
	var r evaluation.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	want := 0
	for _, b := range r.Bars {
		if !b.Holds {
			want = 1
			if !strings.Contains(errs.String(), b.Name+" is ") {
				t.Errorf("%s does not hold, and nobody says so: %s", b.Name, errs.String())
			}
		}
	}
	if code != want {
		t.Errorf("exit code %d, want %d: %s", code, want, errs.String())
	}
	return r
}

func TestEvaluateJudgesAFileAsItJudgesTheTownItIsOf(t *testing.T) {
	dir := t.TempDir()
	events, pictures := filepath.Join(dir, "town.ndjson.gz"), filepath.Join(dir, "pictures")
	size := []string{"--customers", "250", "--weeks", "20", "--quiet-weeks", "14", "--seed", "3"}
	var out, errs bytes.Buffer
	if code := run(append([]string{"simulate", "--out", events}, size...), &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	known, err := filepath.Glob(filepath.Join(dir, "*truth*"))
	if err != nil || len(known) != 1 {
		t.Fatal(known, err)
	}
	town := evaluated(t, append([]string{"--simulate"}, size...)...)
	file := evaluated(t, "--file", events, "--truth", known[0], "--seed", "3", "--svg", pictures)
	if !reflect.DeepEqual(town, file) {
		t.Errorf("the town:\n%+v\nits file:\n%+v", town, file)
	}
	if len(town.Bars) < 15 || len(town.Scores) < 200 {
		t.Errorf("%d bars and %d scores", len(town.Bars), len(town.Scores))
	}
	for _, name := range []string{"personas.svg", "reliability.svg", "calibration.svg"} {
		if _, err := os.Stat(filepath.Join(pictures, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestEvaluateReadsWhatImportReads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "commits.csv")
	lines := "author,at\n"
	for i := range 400 {
		lines += []string{"ann", "bob", "cas"}[i%3] + ",2015-0" + string(rune('1'+i%9)) + "-1" + string(rune('0'+i%7)) + "T1" + string(rune('0'+i%8)) + ":05:00+0" + string(rune('1'+i%3)) + ":00\n"
	}
	if err := os.WriteFile(file, []byte(lines+"dan,never\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := evaluated(t, "--file", file, "--customer", "author", "--time", "at", "--kind", "reply", "--zone", "at", "--methods", "population,ours")
	if r.Log.Customers != 3 || r.Log.Engaged == 0 {
		t.Errorf("%+v", r.Log)
	}
	for _, s := range r.Scores {
		if s.Method != "ours" && s.Method != "population" {
			t.Errorf("%s was not asked for", s.Method)
		}
	}
}

func TestEvaluateSaysWhatIsWrongWithItsFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "--simulate or --file"},
		{"--simulate --file x.csv", "want one of them"},
		{"--simulate --truth x", "has its own"},
		{"--simulate --weeks 10 --quiet-weeks 10", "--quiet-weeks, --weeks: 10 of 10"},
		{"--simulate --methods ours,oracle", `no "oracle"`},
		{"--simulate --default-zone Rome", "--default-zone"},
		{"--file /nowhere/x.csv --customer a --time b --kind open", "/nowhere/x.csv"},
	} {
		var out, errs bytes.Buffer
		if code := run(append([]string{"evaluate"}, strings.Fields(c.args)...), &out, &errs); code == 0 || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%q: code %d, %q lacks %q", c.args, code, errs.String(), c.want)
		}
	}
}
