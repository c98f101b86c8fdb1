package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/trainer"
)

// TestModels goes through the commands on a data folder on which nothing runs: a model is fitted to what was imported, shown,
// held and let go.
func TestModels(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	must(t, importArgs(readers(t, 120, 80), "--data", dir)...)
	list := func() (lines []modelLine) {
		t.Helper()
		if err := json.Unmarshal([]byte(must(t, "models", "--json", "--data", dir)), &lines); err != nil {
			t.Fatal(err)
		}
		return lines
	}
	if out := must(t, "models", "--data", dir); len(list()) != 0 || !strings.Contains(out, "tempismo models train") {
		t.Errorf("before anything was fitted:\n%s", out)
	}
	if out := must(t, "models", "show", "--data", dir); !strings.Contains(out, "builtin.1") || !strings.Contains(out, "fitted on nothing") {
		t.Errorf("the built-in model:\n%s", out)
	}

	var o trainer.Outcome
	if err := json.Unmarshal([]byte(must(t, "models", "train", "--json", "--data", dir)), &o); err != nil || o.Result != trainer.Published || o.Sample.Customers != 120 {
		t.Fatalf("%+v, %v", o, err)
	}
	if !strings.HasPrefix(o.Model, "2026-03-2") {
		t.Errorf("a simulated run's model is named %s, not by the day of its last event", o.Model)
	}
	lines := list()
	if len(lines) != 2 || lines[0].Version != o.Model || !lines[0].InForce || lines[0].Pinned || lines[1].InForce || lines[0].Bits != o.Judged.Bits || !(lines[0].Bits < lines[0].Before) {
		t.Errorf("%+v", lines)
	}
	out := must(t, "models", "show", "--data", dir)
	for _, want := range []string{o.Model + "  in force", "kernel", "population", "personas", "readers", "habits", "calibration", "taken from the version before", "kernel: no deliveries"} {
		if !strings.Contains(out, want) {
			t.Errorf("the picture lacks %q:\n%s", want, out)
		}
	}
	var m timing.Model
	if err := json.Unmarshal([]byte(must(t, "models", "show", o.Model, "--json", "--data", dir)), &m); err != nil || m.Version != o.Model || len(m.Personas) == 0 {
		t.Errorf("%+v, %v", m.Version, err)
	}

	must(t, "models", "pin", "builtin.1", "--data", dir)
	if out := must(t, "models", "--data", dir); !strings.Contains(out, "in force, pinned") || strings.Count(out, "in force") != 1 {
		t.Errorf("the pin does not show:\n%s", out)
	}
	if out := must(t, "models", "train", "--data", dir); !strings.Contains(out, "not published: builtin.1 is pinned") {
		t.Errorf("trained against a pin:\n%s", out)
	}
	must(t, "models", "unpin", "--data", dir)
	if out := must(t, "models", "train", "--data", dir); !strings.Contains(out, strings.TrimSuffix(o.Model, "1")+"2 is in force") {
		t.Errorf("trained after the pin was let go:\n%s", out)
	}
	if _, errs, code := tempismo(t, "models", "unpin", "--data", dir); code != 1 || !strings.Contains(errs, "no model is pinned") {
		t.Errorf("%d, %s", code, errs)
	}
	if _, errs, code := tempismo(t, "models", "pin", "2000-01-01.1", "--data", dir); code != 1 || !strings.Contains(errs, "lists those that are") {
		t.Errorf("%d, %s", code, errs)
	}
}

func TestChart(t *testing.T) {
	for _, row := range []struct {
		sentence      string
		values        []float64
		rows, columns int
		want          string
	}{
		{"the largest is as high as the chart", []float64{0, 1, 2, 4, 8}, 1, 1, " ▁▂▄█"},
		{"rows are filled from below", []float64{4, 16, 12}, 2, 1, " █▄|▄██"},
		{"columns can be wide", []float64{8, 4}, 1, 2, "██▄▄"},
		{"nothing is nothing", []float64{0, 0}, 1, 1, "  "},
	} {
		if got := strings.Join(chart(row.values, row.rows, row.columns), "|"); got != row.want {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
	}
}
