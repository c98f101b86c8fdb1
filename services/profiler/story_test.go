package profiler

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

var update = flag.Bool("update", false, "rewrite what the stories expect")

// TestStories plays the files in testdata: above the line what one customer did, below what was noticed. A line is
//
//	2026-03-10 20:15 open
//	every 2 days from 2026-01-05 for 60 days at 20:15 open
//
// in the customer's local time; the third word of an event may name its message, "open of m-1".
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 4 {
		t.Fatalf("stories: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			told, want, _ := strings.Cut(string(b), "----\n")
			got := play(t, told)
			if *update {
				if err := os.WriteFile(file, []byte(told+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

var builtin = timing.Builtin()

type moment struct {
	at      time.Time
	kind    string
	message string
}

func play(t *testing.T, told string) string {
	zone, err := calendar.Zone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	var moments []moment
	parse := func(date, clock string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04", date+" "+clock, zone)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for line := range strings.Lines(told) {
		line, _, _ = strings.Cut(line, "#")
		w := strings.Fields(line)
		switch {
		case len(w) == 0:
		case w[0] == "every": // every 2 days from D for 60 days at 20:15 open
			step, err1 := strconv.Atoi(w[1])
			span, err2 := strconv.Atoi(w[6])
			if err1 != nil || err2 != nil {
				t.Fatalf("%q: not understood", line)
			}
			for d := 0; d < span; d += step {
				at := parse(w[4], w[9]).AddDate(0, 0, d)
				moments = append(moments, moment{at, w[10], "m-" + at.Format("0102")})
			}
		default:
			m := moment{at: parse(w[0], w[1]), kind: w[2]}
			m.message = "m-" + m.at.Format("0102")
			if len(w) > 4 {
				m.message = w[4]
			}
			moments = append(moments, m)
		}
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return a.at.Compare(b.at) })

	d := driver(t, Config{ScoredBelow: .1})
	var memory deviation.Memory
	var out strings.Builder
	for i, m := range moments {
		kind, ok := engagement.ParseKind(m.kind)
		if !ok {
			t.Fatalf("%q is no kind of engagement", m.kind)
		}
		e := engagement.Event{ID: fmt.Sprint("e-", i), Source: "/story", Subject: "anna", Time: m.at.UTC(), Kind: kind, Channel: "email", Message: m.message}
		for _, o := range pipe(d, &e) {
			if o.Topic == topics.Digests {
				continue
			}
			if o.Topic != topics.Scored {
				t.Fatalf("%s: %s", o.Topic, o.Failed)
			}
			var s timing.Scored
			if err := json.Unmarshal(o.Event.Data, &s); err != nil {
				t.Fatal(err)
			}
			for _, test := range s.Tests {
				dv, verdict := memory.Judge(builtin, &s, test, o.Event.Time)
				fmt.Fprintf(&out, "%s %s %s", s.Local, test.Kind, verdict)
				if verdict == deviation.Told {
					fmt.Fprintf(&out, ": %s\n    z %.2f, 1 in %d, actionable %v, score %d of %d, confidence %d (%s)", dv.Summary, dv.Z, dv.OneIn, dv.Actionable, s.Score.Now, s.Score.Best, s.Score.Confidence, s.Score.Level)
				}
				out.WriteByte('\n')
			}
		}
	}
	return out.String()
}

// TestStoriesOfTheTown plays three residents of the simulator: what happened to each is told.
func TestStoriesOfTheTown(t *testing.T) {
	for _, row := range []struct{ file, kind, after, says string }{
		{"moves-by-8-hours", timing.Drift, "2026-01-05", "the habit has moved: from around 8h to around 1"}, // 5 or 6
		{"falls-silent", timing.Silence, "2025-12-29", "in a row"},
		{"bursts", timing.Burst, "2026-01-10", "different hours today"},
	} {
		t.Run(row.file, func(t *testing.T) {
			f, err := os.Open("../tempismo/testdata/stories/" + row.file + ".ndjson")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			d := newFold(t)
			var memory deviation.Memory
			var told []string
			found := false
			lines := bufio.NewScanner(f)
			for lines.Scan() {
				var e engagement.Event
				if err := e.Parse(lines.Bytes()); err != nil {
					t.Fatal(err)
				}
				for _, o := range d.pipe(&e) {
					if o.Topic != topics.Scored {
						continue
					}
					var s timing.Scored
					if err := json.Unmarshal(o.Event.Data, &s); err != nil {
						t.Fatal(err)
					}
					for _, test := range s.Tests {
						if dv, verdict := memory.Judge(builtin, &s, test, o.Event.Time); verdict == deviation.Told {
							told = append(told, s.Local+" "+dv.Kind+": "+dv.Summary)
							found = found || dv.Kind == row.kind && dv.LocalDay >= row.after && strings.Contains(dv.Summary, row.says)
						}
					}
				}
			}
			if err := lines.Err(); err != nil {
				t.Fatal(err)
			}
			if !found {
				t.Errorf("no %s %q from %s on:\n%s", row.kind, row.says, row.after, strings.Join(told, "\n"))
			}
		})
	}
}

type profilerDriver = *streamtest.Driver[Input, timing.Profile, Partition]

// driver runs the profiler's Step in a simulated run, with what Config's defaults are.
func driver(t testing.TB, c Config) profilerDriver {
	t.Helper()
	if c.Run.ID == "" {
		c.Run = config.Run{ID: "story", Mode: "simulated"}
	}
	c.Model, c.DefaultZone = timing.BuiltinVersion, "Europe/Rome"
	job, err := Job(c)
	if err != nil {
		t.Fatal(err)
	}
	return streamtest.NewDriver(t, job, run(c))
}

func pipe(d profilerDriver, e *engagement.Event) []streamtest.Output {
	return d.Pipe(stream.Record{Topic: topics.Events, Key: []byte(e.Subject), Value: e.Append(nil)})
}
