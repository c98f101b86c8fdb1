package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/holidays"
)

var update = flag.Bool("update", false, "write the pictures of testdata again")

// policyOf writes a policy file with calendars.
func policyOf(t *testing.T, calendars string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(name, []byte("calendars:\n"+calendars), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCalendarDrawsAYear(t *testing.T) {
	alone(t)
	file := policyOf(t, `  national: [IT]
  regional: true
  municipal: true
  bank: true
  closures:
    - {name: summer, from: 2026-08-10, to: 2026-08-21, every: year}
  open:
    - {name: shop, from: 2026-11-01}
`)
	out := must(t, "calendar", "--year", "2026", "--place", "Bozen", "--policy", file)
	out = strings.ReplaceAll(out, file, "FILE")
	const golden = "testdata/calendar.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out != string(want) {
		t.Errorf("run the test with -update if this is as it should be:\n%s", out)
	}
}

func TestCalendar(t *testing.T) {
	alone(t)
	view := func(args ...string) (v calendarView) {
		t.Helper()
		if err := json.Unmarshal([]byte(must(t, append([]string{"calendar", "--json"}, args...)...)), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	t.Run("where there is no system the default policy is shown", func(t *testing.T) {
		v := view("--year", "2026")
		if v.Policy != decision.Default().Version || v.Calendar != calendar.Italy.Name || len(v.Days) != 13 || v.Ordinary {
			t.Errorf("%+v", v)
		}
	})
	t.Run("this year is the default", func(t *testing.T) {
		if v := view(); v.Year < 2026 || v.Days[0].Day.Year != v.Year {
			t.Errorf("%+v", v)
		}
	})
	t.Run("a place has its own days", func(t *testing.T) {
		file := policyOf(t, "  national: [IT]\n  municipal: true\n")
		v := view("--year", "2026", "--place", "mi", "--policy", file)
		if len(v.Days) != 14 || v.Ordinary || v.Place != (calendar.Place{Province: "MI"}) {
			t.Errorf("%+v", v)
		}
		if v = view("--year", "2026", "--place", "Milnao", "--policy", file); len(v.Days) != 13 || !v.Ordinary {
			t.Errorf("%+v", v)
		}
		if out := must(t, "calendar", "--year", "2026", "--place", "Milnao", "--policy", file); !strings.Contains(out, "Milnao has no days of its own here") {
			t.Errorf("a place that nothing is known of:\n%s", out)
		}
	})
	t.Run("calendars that close nothing", func(t *testing.T) {
		if v := view("--policy", policyOf(t, "  national: []\n")); len(v.Days) != 0 || v.Calendar != "none" {
			t.Errorf("%+v", v)
		}
	})
	t.Run("a slip of the pen is doubted where a policy is checked, and no error", func(t *testing.T) {
		file := policyOf(t, "  closures: [{name: works, from: 2026-12-03, where: {comune: Miano}}]\n")
		if out, errs, code := tempismo(t, "policy", "check", file); code != 0 || !strings.Contains(errs, "calendars.closures[0].where.comune: is Milano meant?") || !strings.Contains(out, "is a policy") {
			t.Errorf("exit code %d: %s%s", code, errs, out)
		}
	})
	t.Run("a year of which nothing is known is an error of usage", func(t *testing.T) {
		if _, errs, code := tempismo(t, "calendar", "--year", "2080"); code != 2 || !strings.Contains(errs, "from 2010 to 2045") {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
	t.Run("a file that is no policy says where", func(t *testing.T) {
		if _, errs, code := tempismo(t, "calendar", "--policy", policyOf(t, "  national: [XX]\n")); code != 2 || !strings.Contains(errs, "policy.yaml:2:") {
			t.Errorf("exit code %d: %s", code, errs)
		}
	})
}

// The policy in force is the one that was put into force last, and an unreadable record is none.
func TestCalendarOfThePolicyInForce(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	must(t, importArgs(readers(t, 3, 3), "--data", dir)...)
	if out := must(t, "calendar", "--data", dir, "--year", "2026"); !strings.Contains(out, "by policy "+decision.Default().Version) {
		t.Errorf("before a policy was put into force:\n%s", out)
	}
	c := target{Data: dir, Mode: "auto"}
	if err := c.with(t.Context(), func(sys *system) error {
		w, err := kafka.NewWriter(t.Context(), sys.log, sys.run)
		if err != nil {
			return err
		}
		defer w.Close()
		at := time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC)
		for i, version := range []string{"1", "2", ""} {
			if err := w.Broadcast(t.Context(), topics.Policies, record(t, version, at.Add(time.Duration(i)*time.Hour)), time.Time{}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "calendar", "--data", dir, "--year", "2026", "--place", "MI"); !strings.Contains(out, "14 days closed, by policy 2,") || !strings.Contains(out, "Sant'Ambrogio") {
		t.Errorf("the policy in force:\n%s", out)
	}
}

// record puts a policy with patron saints into force; without a version it is unreadable.
func record(t *testing.T, version string, at time.Time) []byte {
	t.Helper()
	p := decision.Default()
	p.Version, p.Calendars.Municipal = version, version == "2"
	var err error
	if p.Closed, err = holidays.Resolve(p.Calendars, 2026); err != nil {
		t.Fatal(err)
	}
	e := stream.Event{ID: "policy-" + version, Source: "/tempismo/operator/r1", Type: decision.PolicyType, Time: at, Data: p.Append(nil)}
	return e.Append(nil)
}

// The policy of docs/calendars.md can be put into force, and does what the page says.
func TestTheCalendarsOfTheDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/calendars.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/calendars.md has no example")
	}
	p, err := readPolicy("docs/calendars.md", []byte(example), 2026)
	if err != nil {
		t.Fatal(err)
	}
	if doubts := holidays.Doubts(p.Calendars); len(doubts) > 0 {
		t.Errorf("doubtful: %v", doubts)
	}
	for day, names := range map[string][3]string{ // in a place that is not known, in Milano, and in Sesto San Giovanni
		"2026-12-08": {"Immacolata Concezione", "", "Immacolata Concezione"},
		"2026-12-07": {"", "Santo patrono", ""},
		"2026-06-24": {"", "", "Santo patrono"},
		"2027-08-12": {"summer", "summer", "summer"},
		"2026-12-30": {"", "inventory", ""},
		"2026-12-05": {"weekend", "weekend", "weekend"},
	} {
		d, err := calendar.ParseDay(day)
		if err != nil {
			t.Fatal(err)
		}
		for i, in := range []calendar.Place{{}, {Comune: "Milano"}, {Comune: "Sesto San Giovanni"}} {
			if h, _ := p.Closed.Closed(d, in); h.Name != names[i] {
				t.Errorf("%s in %q is closed by %q, want %q", day, in, h.Name, names[i])
			}
		}
	}
}
