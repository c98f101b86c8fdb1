package chaos

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The flags of TestRealChaos, which scripts/chaos sets.
var (
	rowsFlag     = flag.String("chaos.rows", "", "rows of the fault matrix, separated by commas; empty: all")
	runsFlag     = flag.Int("chaos.runs", 0, "injections of each row; -1: as many as show a sabotage, else 10")
	seedFlag     = flag.Uint64("chaos.seed", 1, "seed of the first round of each row")
	jsonFlag     = flag.String("chaos.json", "", "file for the report as JSON; empty: none")
	sabotageFlag = flag.String("chaos.sabotage", "", "rule that the programs lack")
	previousFlag = flag.String("chaos.previous", "", "folder of the programs of another version, for row 1b")
)

// TestRealChaos plays the fault matrix: see scripts/chaos.
func TestRealChaos(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") == "" || *runsFlag == 0 {
		t.Skip("breaks brokers, stores and services of its own for many minutes: run it with scripts/chaos")
	}
	ctx := interruptible(t)
	dir, err := os.MkdirTemp("", "tempismo-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	keep := false
	defer func() {
		if !keep {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
	}()
	// What the harness's own clients log of the faults would bury what is told.
	own, err := os.Create(filepath.Join(dir, "harness.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(own, nil)))
	bin := filepath.Join(dir, "bin")
	p := Plan{Runs: *runsFlag, Seed: *seedFlag, Bin: bin, Previous: *previousFlag, Dir: dir, Tell: tell}
	if p.Runs < 0 {
		p.Runs = 10
	}
	if *rowsFlag != "" {
		p.Rows = strings.Split(*rowsFlag, ",")
	}
	var flags []string
	if *sabotageFlag != "" {
		s := sabotaged(t, *sabotageFlag)
		path, err := s.Overlay(dir)
		if err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "-overlay", path)
		if len(p.Rows) == 0 {
			p.Rows = []string{s.Row}
		}
		if *runsFlag < 0 {
			p.Runs = s.Runs
		}
		p.Tell("the programs lack a rule: %s", *sabotageFlag)
	}
	if err := Build(ctx, bin, Services, flags...); err != nil {
		t.Fatal(err)
	}
	report, err := p.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(bin); err != nil {
		t.Error(err)
	}
	if keep = report.broken(); keep {
		p.Tell("what is broken is kept in %s", dir)
	}
	if *jsonFlag != "" {
		b, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*jsonFlag, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := report.Write(os.Stderr); err != nil {
		t.Fatal(err)
	}
	if !report.Held() {
		t.Fail()
	}
}

// interruptible ends with the test, or when the person who watches has seen enough: brokers and services are then ended in
// order.
func interruptible(t *testing.T) context.Context {
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)
	return ctx
}

// tell tells whoever watches at once; a test's log would come at its end.
func tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func sabotaged(t *testing.T, name string) *Sabotage {
	t.Helper()
	var known []string
	for i := range Sabotages {
		if Sabotages[i].Name == name {
			return &Sabotages[i]
		}
		known = append(known, Sabotages[i].Name)
	}
	t.Fatalf("there is no sabotage %q: choose of %v", name, known)
	return nil
}
