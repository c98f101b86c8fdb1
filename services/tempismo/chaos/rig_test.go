package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRowsAreTheMatrix(t *testing.T) {
	rows := Rows()
	for i, r := range rows {
		if !slices.Contains(matrix, r.ID) {
			t.Errorf("row %s is not in the matrix", r.ID)
		}
		if r.Inject == nil || r.Fault == "" || r.Holds == "" || strings.Trim(r.Holds, "LPOMRNV") != "" {
			t.Errorf("row %s is not complete: %+v", r.ID, r)
		}
		if i > 0 && slices.Index(matrix, rows[i-1].ID) >= slices.Index(matrix, r.ID) {
			t.Errorf("row %s stands after row %s", r.ID, rows[i-1].ID)
		}
	}
	if len(rows) != len(matrix) {
		t.Errorf("%d rows for %d of the matrix", len(rows), len(matrix))
	}
}

func TestAPlanThatCannotBePlayedSaysWhy(t *testing.T) {
	for want, p := range map[string]Plan{
		`there is no row "99": choose of [1 1b`: {Runs: 1, Rows: []string{"1", "99"}, Dir: t.TempDir()},
		"choose a positive number":              {Dir: t.TempDir()},
	} {
		if _, err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

// A report holds only if everything was played, checked and found whole.
func TestReport(t *testing.T) {
	whole := func() *Report {
		rr := RowReport{ID: "1", Fault: "kill -9", Holds: "LP", Noted: map[string]int{}, Counts: Counts{}}
		rr.add(round{seed: 7, injections: 10, recoveries: []time.Duration{time.Second, 3 * time.Second}, noted: map[string]int{"kill": 10}, counts: Counts{"events": 4}})
		rr.add(round{seed: 8, injections: 5, recoveries: []time.Duration{2 * time.Second}, noted: map[string]int{"kill": 5}, counts: Counts{"events": 3}})
		return &Report{Rows: []RowReport{rr}}
	}
	r := whole()
	if !r.Held() {
		t.Error("a report without findings does not hold")
	}
	const line = "| 1 | kill -9 | L P | 15 | 7-8 | held | 3.0 s |\n"
	var text bytes.Buffer
	if err := r.Write(&text); err != nil || !strings.Contains(text.String(), line) || !strings.Contains(text.String(), "checked 7 events") || !strings.Contains(text.String(), "15 kill") {
		t.Errorf("%v: %s", err, &text)
	}
	b, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(b), `"recoveries_s":[1.000,3.000,2.000]`) {
		t.Errorf("%v: %s", err, b)
	}
	for says, change := range map[string]func(*Report){
		"BROKEN: L P": func(r *Report) {
			r.Rows[0].add(round{seed: 9, found: []Violation{{"P", "1", "sent twice", []string{"d-1"}}, {"L", "1", "lost", []string{"e-1", "e-2", "e-3", "e-4", "e-5", "e-6"}}}, kept: "/somewhere"})
		},
		"not checked": func(r *Report) { r.Rows[0].add(round{seed: 9, err: errors.New("no broker")}) },
		"interrupted": func(r *Report) { r.Interrupted = true },
		"| not played |": func(r *Report) {
			r.Interrupted, r.Rows = true, append(r.Rows, RowReport{ID: "2", Fault: "SIGSTOP", Holds: "L"})
		},
	} {
		r := whole()
		change(r)
		text.Reset()
		if err := r.Write(&text); err != nil || r.Held() || !strings.Contains(text.String(), says) {
			t.Errorf("it holds, or does not say %q (%v): %s", says, err, &text)
		}
		if says == "BROKEN: L P" && !strings.Contains(text.String(), "(6: e-1, e-2, e-3, e-4, e-5, ...)") {
			t.Errorf("the offending ids are not shown: %s", &text)
		}
	}
}

// A process does what it is told, and one that ends by itself is told apart from one that was ended.
func TestProcess(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	start := func(name string, env ...string) *Process {
		t.Helper()
		p, err := Launch(dir, dir, name, 1, env)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	says := func(p *Process, want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			b, err := os.ReadFile(p.Log)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s says %q, not %q", p.ID(), b, want)
			}
		}
	}
	t.Setenv("KAFKA_BROKERS", "of somebody else")
	script("polite", `trap 'exit 3' TERM; echo "up with $KAFKA_BROKERS, $MODEL"; while :; do sleep 0.01; done`)
	script("brief", `exit 4`)

	p := start("polite", "MODEL=m")
	says(p, "up with , m")
	if !p.Alive() || p.Ready() || p.Metrics() != "" || p.leaving() {
		t.Error("a process that just lives is not seen so")
	}
	if _, err := os.Stat("/proc/self"); err == nil && p.RSS() == 0 {
		t.Error("a process has no memory")
	}
	if _, code := p.Term(); code != 3 || p.Alive() || p.fell() || p.RSS() != 0 {
		t.Errorf("SIGTERM: code %d, alive %t, fell %t", code, p.Alive(), p.fell())
	}
	p = start("polite")
	says(p, "up with")
	p.Freeze()
	if !p.Alive() {
		t.Error("a frozen process is not alive")
	}
	p.Thaw()
	p.Kill()
	if p.Alive() || p.fell() || !p.leaving() {
		t.Error("a killed process is alive, or fell by itself")
	}
	p = start("brief")
	<-p.done
	if !p.fell() || p.code != 4 {
		t.Errorf("a process that ended by itself with code %d did not fall", p.code)
	}
	if _, err := Launch(dir, dir, "missing", 1, nil); err == nil {
		t.Error("a program that is not there starts")
	}
}
