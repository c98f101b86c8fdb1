package crmfaults

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tempismo/tempismo/services/tempismo/chaos"
)

// The flags of TestRealCRMFaults, which scripts/crm-faults sets.
var (
	connectorFlag = flag.String("crmfaults.connector", "", "ways to carry decisions out, separated by commas; empty: all")
	decisionsFlag = flag.Int("crmfaults.decisions", 0, "decisions of each run")
	seedFlag      = flag.Uint64("crmfaults.seed", 1, "seed")
	processesFlag = flag.Int("crmfaults.processes", 1, "processes of the connector")
	rateFlag      = flag.Float64("crmfaults.rate", 0, "calls a second; 0: as declared")
	lifeFlag      = flag.Duration("crmfaults.life", 25*time.Minute, "how long most decisions live, from the beginning of their run")
	parallelFlag  = flag.Int("crmfaults.parallel", 1, "runs at a time")
	embeddedFlag  = flag.Bool("crmfaults.embedded", false, "on the embedded broker")
	jsonFlag      = flag.String("crmfaults.json", "", "file for the reports as JSON; empty: none")
	sabotageFlag  = flag.Bool("crmfaults.sabotage", false, "play the sabotages")
)

// TestRealCRMFaults plays a run for each connector: see scripts/crm-faults.
func TestRealCRMFaults(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") == "" || *decisionsFlag == 0 || *sabotageFlag {
		t.Skip("carries thousands of decisions out, for many minutes: run it with scripts/crm-faults")
	}
	modes := Modes
	if *connectorFlag != "" {
		modes = nil
		for name := range strings.SplitSeq(*connectorFlag, ",") {
			modes = append(modes, mode(t, name))
		}
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, bin := folder(t)
	if err := chaos.Build(ctx, bin, Services); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var reports []*Report
	var all sync.WaitGroup
	room := make(chan struct{}, *parallelFlag)
	for i, m := range modes {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			c := Config{
				Mode: m, Decisions: *decisionsFlag, Seed: *seedFlag + uint64(i), Processes: *processesFlag, Rate: *rateFlag, Kills: 3, Faulty: 2,
				Life: *lifeFlag, Embedded: *embeddedFlag, Bin: bin, Dir: filepath.Join(dir, m.Name), Tell: tell,
			}
			r, err := Run(ctx, c)
			if err != nil {
				t.Errorf("%s: %v", m.Name, err)
				return
			}
			for _, f := range r.Found {
				t.Errorf("%s: %s", m.Name, f)
			}
			tell("%s", r)
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, r)
		})
	}
	all.Wait()
	slices.SortFunc(reports, func(a, b *Report) int { return cmp.Compare(a.Seed, b.Seed) })
	if *jsonFlag != "" {
		b, err := json.MarshalIndent(reports, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(*jsonFlag, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRealSabotagedConnectorsAreNoticed: without a rule, what the rule was for is found.
func TestRealSabotagedConnectorsAreNoticed(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") == "" || !*sabotageFlag {
		t.Skip("plays a run for every rule of the connector: run it with scripts/crm-faults --sabotage")
	}
	for _, s := range Sabotages {
		t.Run(s.Name, func(t *testing.T) {
			dir, bin := folder(t)
			overlay, err := s.Overlay(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := chaos.Build(t.Context(), bin, Services, "-overlay", overlay); err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), Config{
				Mode: mode(t, s.Mode), Decisions: 600, Seed: *seedFlag, Processes: 1, Rate: 50, Kills: 3, Faulty: 1, Life: 15 * time.Minute, Embedded: *embeddedFlag,
				Bin: bin, Dir: filepath.Join(dir, "run"), Tell: tell,
			})
			if err != nil {
				t.Fatal(err)
			}
			tell("without %s: %v", s.Name, r.Found)
			if !slices.ContainsFunc(r.Found, func(f Finding) bool { return f.What == s.Finds }) {
				t.Errorf("found %v, and not: %s", r.Found, s.Finds)
			}
		})
	}
}

// folder makes one for a test and its programs. It is kept if the test fails. What clients of the harness log would bury what
// is told.
func folder(t *testing.T) (dir, bin string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tempismo-crm-faults-")
	if err != nil {
		t.Fatal(err)
	}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		slog.SetDefault(before)
		if t.Failed() {
			tell("logs and data are kept in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir, filepath.Join(dir, "bin")
}

// tell tells whoever watches at once; a test's log would come at its end.
func tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func mode(t *testing.T, name string) Mode {
	t.Helper()
	i := slices.IndexFunc(Modes, func(m Mode) bool { return m.Name == name })
	if i < 0 {
		t.Fatalf("there is no connector %q", name)
	}
	return Modes[i]
}

// TestModesAreThoseOfTheDocs: every row of the table is played, and what is demanded is what the table says.
func TestModesAreThoseOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- traits -->\n")
	table, _, _ = strings.Cut(table, "<!-- /traits -->")
	var want, got []string
	for _, row := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(row, "|")
		name := strings.NewReplacer("`", "", ", ", "-", " ", "-").Replace(strings.ToLower(strings.TrimSpace(cells[1])))
		want = append(want, fmt.Sprint(name, " ", strings.TrimSpace(cells[2]) != "none", " ", strings.TrimSpace(cells[4])))
	}
	for _, m := range Modes {
		rate := "no limit"
		if m.Rate > 0 {
			rate = strconv.FormatFloat(m.Rate, 'g', -1, 64)
		}
		got = append(got, fmt.Sprint(m.Name, " ", m.Key, " ", rate))
	}
	if !slices.Equal(got, want) {
		t.Errorf("modes are\n%s\nand docs/connectors.md has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestSabotagesFit: the texts that are replaced are those of today, and what is left of the connector compiles.
func TestSabotagesFit(t *testing.T) {
	for _, s := range Sabotages {
		overlay, err := s.Overlay(t.TempDir())
		if err != nil {
			t.Error(err)
			continue
		}
		mode(t, s.Mode)
		build := []string{"build", "-overlay", overlay}
		for _, c := range s.changes {
			build = append(build, path.Join("github.com/tempismo/tempismo/services/connector", path.Dir(c.File)))
		}
		if out, err := exec.CommandContext(t.Context(), "go", build...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", s.Name, err, out)
		}
	}
}
