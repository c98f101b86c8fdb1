package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The texts that are replaced are those of today, and what is left of the programs compiles.
func TestSabotagesFit(t *testing.T) {
	for _, s := range Sabotages {
		t.Run(s.Name, func(t *testing.T) {
			overlay, err := s.Overlay(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			const pkg = "github.com/tempismo/tempismo/pkg/"
			if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, pkg+"stream", pkg+"redis").CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if !slices.ContainsFunc(Rows(), func(r Row) bool { return r.ID == s.Row }) {
				t.Errorf("there is no row %s", s.Row)
			}
		})
	}
	other := Sabotage{Name: "none", changes: []Change{{"stream/step.go", "no such text", ""}}}
	if _, err := other.Overlay(t.TempDir()); err == nil || !strings.Contains(err.Error(), "stream/step.go") {
		t.Errorf("a text that is not found: %v, want an error that names the file", err)
	}
}

// Without a rule, something that the checker knows is broken. A round may miss the moment at which the rule is needed, so
// some are played.
func TestRealSabotagesAreNoticed(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") == "" || *sabotageFlag != "all" {
		t.Skip("breaks brokers, stores and services of its own for many minutes: run it with scripts/chaos --sabotage all")
	}
	ctx := interruptible(t)
	const rounds = 4
	for _, s := range Sabotages {
		t.Run(s.Name, func(t *testing.T) {
			dir := t.TempDir()
			overlay, err := s.Overlay(dir)
			if err != nil {
				t.Fatal(err)
			}
			bin := filepath.Join(dir, "bin")
			if err := Build(ctx, bin, Services, "-overlay", overlay); err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(rounds) {
				report, err := Plan{Rows: []string{s.Row}, Runs: s.Runs, Seed: seed + 1, Bin: bin, Dir: filepath.Join(dir, "rounds"), Tell: tell}.Run(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, rr := range report.Rows {
					for _, e := range rr.Errors {
						t.Errorf("the harness: %s", e)
					}
					for _, v := range rr.Violations {
						t.Logf("noticed: %s", v)
						if v.Invariant != "R" && v.Invariant != "V" { // a machine that is short of breath is no proof
							return
						}
					}
				}
			}
			t.Errorf("%d rounds of row %s, and nothing was noticed", rounds, s.Row)
		})
	}
}
