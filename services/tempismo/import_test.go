package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/services/tempismo/local"
)

// readers writes a file of opens by customers who read about every other day at an hour of their own; customer c0 has, at
// the end, a day of many hours. Lines are not in order of time.
func readers(t *testing.T, customers, days int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("who,at,message\n")
	start := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	for c := range customers {
		for d := range days {
			if (d*7+c*3)%5 < 2 {
				at := start.AddDate(0, 0, d).Add(time.Duration(7+c%12)*time.Hour + time.Duration(d*13%60)*time.Minute)
				fmt.Fprintf(&b, "c%d,%s,m%d\n", c, at.Format(time.RFC3339), d)
			}
		}
	}
	for h := 8; h < 18; h++ {
		fmt.Fprintf(&b, "c0,%s,again\n", start.AddDate(0, 0, days).Add(time.Duration(h)*time.Hour).Format("2006-01-02 15:04:05 UTC"))
	}
	path := filepath.Join(t.TempDir(), "opens.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func importArgs(file string, more ...string) []string {
	return append([]string{"import", file, "--customer", "who", "--time", "at", "--kind", "open", "--zone", "Europe/Rome", "--message", "message", "--json"}, more...)
}

func summarised(t *testing.T, out string) summary {
	t.Helper()
	var s summary
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || d.More() {
		t.Fatalf("not exactly one summary: %v\n%s", err, out)
	}
	return s
}

var compared = []string{"engagement.events.v1", "engagement.scored.v1", "timing.digests.v1", "timing.deviations.v1", "send.decisions.v1", "profiles"}

// TestImport goes all the way on the embedded pair: numbers, dumps, what the reading commands say, and a replay.
func TestImport(t *testing.T) {
	alone(t)
	file := readers(t, 40, 80)
	lines := strings.Count(string(read(t, file)), "\n") - 1
	one, two := t.TempDir(), t.TempDir()
	s := summarised(t, must(t, importArgs(file, "--data", one)...))
	if s.Read != int64(lines) || s.Accepted != s.Read || s.Rejected != 0 || s.Late != 0 || s.Customers != 40 || s.DeadLetters != 0 {
		t.Errorf("summary of %d lines by 40 customers: %+v", lines, s)
	}
	if s.Deviations["burst"] == 0 {
		t.Errorf("nobody noticed the day of many hours: %+v", s)
	}
	must(t, importArgs(file, "--data", two)...)
	dumps := map[string]string{}
	for _, what := range compared {
		dumps[what] = must(t, "dump", what, "--data", one)
		if dumps[what] == "" && what != "send.decisions.v1" {
			t.Errorf("dump of %s is empty: nothing is compared", what)
		}
		if other := must(t, "dump", what, "--data", two); other != dumps[what] {
			t.Errorf("%s differs between two imports of the same file", what)
		}
	}

	t.Run("the same file again changes nothing", func(t *testing.T) {
		again := summarised(t, must(t, importArgs(file, "--data", one)...))
		if again.Known != s.Read {
			t.Errorf("%d events were known, want all %d", again.Known, s.Read)
		}
		if again.Known = s.Known; fmt.Sprint(again) != fmt.Sprint(s) {
			t.Errorf("summary %+v, want %+v", again, s)
		}
		for _, what := range compared {
			if must(t, "dump", what, "--data", one) != dumps[what] {
				t.Errorf("%s is another", what)
			}
		}
	})
	t.Run("what was imported can be looked at", func(t *testing.T) {
		if out := must(t, "profile", "c0", "--data", one); !strings.Contains(out, "c0  Europe/Rome, model builtin.1") || strings.Count(out, "best") < 7 {
			t.Errorf("profile:\n%s", out)
		}
		var view customerView
		if err := json.Unmarshal([]byte(must(t, "profile", "c0", "--data", one, "--json")), &view); err != nil || len(view.Channels) != 1 || len(view.Channels[0].Hours) != 168 {
			t.Errorf("profile --json: %v, %+v", err, view)
		}
		if _, errs, code := tempismo(t, "profile", "nobody", "--data", one); code != 1 || !strings.Contains(errs, `nothing is known of "nobody"`) {
			t.Errorf("profile of nobody: %d, %s", code, errs)
		}
		if out := must(t, "watch", "deviations", "--from-beginning", "--count", "1", "--data", one); !strings.Contains(out, "burst") || strings.Count(out, "\n") != 1 {
			t.Errorf("watch: %q", out)
		}
		if out := must(t, "topics", "--data", one); !strings.Contains(out, "sim.import.engagement.events.v1") {
			t.Errorf("topics:\n%s", out)
		}
		if out := must(t, "lag", "--data", one); !strings.Contains(out, "profiler") {
			t.Errorf("lag:\n%s", out)
		}
		if out := must(t, "doctor", "--data", one); !strings.Contains(out, "all 25 of run") {
			t.Errorf("doctor:\n%s", out)
		}
	})
	t.Run("a replay into another run and through its services comes to the same", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "events.ndjson")
		must(t, "replay", "--data", one, "--out", out)
		if got := strings.Count(string(read(t, out)), "\n"); got != lines {
			t.Errorf("%d records in the file, want %d", got, lines)
		}
		if _, errs, _ := tempismo(t, "replay", "--data", one, "--in", out, "--into", "again", "--dry-run"); !strings.Contains(errs, "would copy "+grouped(int64(lines))+" records") {
			t.Errorf("dry run: %s", errs)
		}
		must(t, "replay", "--data", one, "--in", out, "--into", "again")
		if must(t, "dump", "engagement.events.v1", "--data", one, "--run", "again") != dumps["engagement.events.v1"] {
			t.Error("the events of the new run are not those of the old")
		}
		if _, errs, code := tempismo(t, "replay", "--data", one, "--out", out); code != 1 || !strings.Contains(errs, "exists") {
			t.Errorf("a file was overwritten: %d, %s", code, errs)
		}
	})
}

func TestImportNamesBadLinesAndCountsThem(t *testing.T) {
	alone(t)
	var b strings.Builder
	b.WriteString("who,at,message\nann,2026-01-05T10:00:00Z,m\n")
	for range 12 {
		b.WriteString("ann,soon,m\n")
	}
	file := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := tempismo(t, importArgs(file)...)
	if s := summarised(t, out); code != 0 || s.Read != 13 || s.Rejected != 12 || s.Accepted != 1 || s.Customers != 1 {
		t.Errorf("exit code %d, %+v", code, s)
	}
	if !strings.Contains(errs, "line 3: at:") || !strings.Contains(errs, "and 2 more") || strings.Contains(errs, "line 13:") {
		t.Errorf("bad lines:\n%s", errs)
	}
}

// TestImportOfFilesThatOverlap imports three files into one run, of which each has what the one before it had last, and the last
// one also twice. The run is that of one import of everything.
func TestImportOfFilesThatOverlap(t *testing.T) {
	alone(t)
	all := strings.SplitAfter(string(read(t, readers(t, 20, 40))), "\n")
	header, lines := all[0], all[1:len(all)-1]
	// By time, so that no file brings what is older than what came before it: the runs are to be the same to the byte.
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(timeOf(a), timeOf(b)) })
	part := func(from, to int) string {
		path := filepath.Join(t.TempDir(), "part.csv")
		if err := os.WriteFile(path, []byte(header+strings.Join(lines[from:to], "")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n := len(lines)
	one, two := t.TempDir(), t.TempDir()
	want := summarised(t, must(t, importArgs(part(0, n), "--data", one)...))
	var accepted, known int64
	for i, files := range [][]string{{part(0, n/2)}, {part(n/3, 2*n/3)}, {part(n/2, n), part(n/2, n)}} {
		s := summarised(t, must(t, slices.Insert(importArgs(files[0], "--data", two), 1, files[1:]...)...))
		if s.Read != s.Accepted+s.Known || s.Rejected != 0 || s.DeadLetters != 0 {
			t.Errorf("file %d: %+v", i, s)
		}
		accepted, known = accepted+s.Accepted, known+s.Known
	}
	if accepted != want.Accepted || known != int64(n/2-n/3+(2*n/3-n/2)+(n-n/2)) {
		t.Errorf("%d accepted and %d known, of %d", accepted, known, n)
	}
	for _, what := range []string{"engagement.events.v1", "profiles"} {
		if must(t, "dump", what, "--data", two) != must(t, "dump", what, "--data", one) {
			t.Errorf("%s differs", what)
		}
	}
}

func timeOf(line string) string {
	fields := strings.Split(strings.TrimSpace(line), ",")
	return strings.Replace(strings.TrimSuffix(strings.TrimSuffix(fields[1], " UTC"), "Z"), " ", "T", 1)
}

// TestImportElsewhereIsRepeated imports into brokers of which this command has no folder, and so no memory beside the topic.
func TestImportElsewhereIsRepeated(t *testing.T) {
	alone(t)
	pair, err := local.Start(t.TempDir(), local.Ports{})
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	there := []string{"--kafka-brokers", pair.Broker.Addr(), "--redis-addr", pair.Store.Addr(), "--run", "import"}
	file := readers(t, 5, 20)
	first := summarised(t, must(t, importArgs(file, there...)...))
	events := must(t, append([]string{"dump", "engagement.events.v1"}, there...)...)
	again := summarised(t, must(t, importArgs(file, there...)...))
	if first.Known != 0 || first.Accepted != first.Read || again.Known != again.Read || again.Accepted != 0 {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if must(t, append([]string{"dump", "engagement.events.v1"}, there...)...) != events {
		t.Error("events came twice")
	}
}

// TestImportIsKilled kills an import three times while it writes, twice as a power cut would and once as Ctrl-C does, and then
// lets it end. Nothing is missing and nothing is there twice: every topic and every profile is that of an import that nobody disturbed.
func TestImportIsKilled(t *testing.T) {
	if args := os.Getenv("TEMPISMO_IMPORT"); args != "" { // the process that is killed
		os.Exit(run(strings.Split(args, "\n"), os.Stdout, os.Stderr))
	}
	alone(t)
	file := readers(t, 2_000, 60) // some 48,000 events, which are written in a dozen batches
	calm, data := t.TempDir(), t.TempDir()
	want := summarised(t, must(t, importArgs(file, "--data", calm)...))
	for round := 1; round <= 3; round++ {
		cmd := exec.Command(os.Args[0], "-test.run=^TestImportIsKilled$")
		cmd.Env = append(os.Environ(), "TEMPISMO_IMPORT="+strings.Join(importArgs(file, "--data", data), "\n"))
		var told strings.Builder
		cmd.Stderr = &told
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		before := eventBytes(t, data)
		for killed := false; !killed; {
			select {
			case <-ended:
				t.Fatalf("round %d: the import ended before it was killed", round)
			case <-time.After(time.Millisecond):
				killed = eventBytes(t, data) > before
			}
		}
		if round == 3 {
			cmd.Process.Signal(os.Interrupt)
		} else {
			cmd.Process.Kill()
		}
		<-ended
		if round == 3 && !strings.Contains(told.String(), "the same command goes on") {
			t.Errorf("Ctrl-C: %s", told.String())
		}
		t.Logf("killed with %d bytes of events", eventBytes(t, data))
	}
	got := summarised(t, must(t, importArgs(file, "--data", data)...))
	if got.Known == 0 || got.Known == got.Read {
		t.Errorf("%d of %d events were known: the import was not interrupted while it wrote", got.Known, got.Read)
	}
	if got.Known = want.Known; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("summary %+v, want %+v", got, want)
	}
	for _, what := range compared {
		if must(t, "dump", what, "--data", data) != must(t, "dump", what, "--data", calm) {
			t.Errorf("%s differs from that of an import that nobody disturbed", what)
		}
	}
}

// TestImportByPreset imports what two vendors export, bad lines included.
func TestImportByPreset(t *testing.T) {
	alone(t)
	in := func(name string) string { return filepath.Join("rows", "testdata", name) }
	data := t.TempDir()
	out, errs, code := tempismo(t, "import", "--preset", "hubspot", in("hubspot.json"), in("hubspot.csv"), "--zone", "Europe/Rome", "--data", data, "--json")
	// The CSV has three events that the JSON has, too.
	if s := summarised(t, out); code != 0 || s.Read != 19 || s.Rejected != 2 || s.Ignored != 4 || s.Known != 3 || s.Accepted != 10 || s.Customers != 2 {
		t.Errorf("exit code %d, %+v", code, s)
	}
	for _, want := range []string{"line 1: events[8]: created: is empty", `line 4: created: "soon" is no time`} {
		if !strings.Contains(errs, want) {
			t.Errorf("bad lines:\n%s\nwant %s", errs, want)
		}
	}
	if events := must(t, "dump", "engagement.events.v1", "--data", data); strings.Count(events, `"actor_rule":"provider"`) != 1 || strings.Count(events, `"actor_rule":"user_agent"`) != 1 {
		t.Errorf("not one machine by HubSpot's flag and one by its user agent among\n%s", events)
	}
	if _, errs, code := tempismo(t, "import", "--preset", "mautic", in("mautic.csv"), "--json"); code != 1 || !strings.Contains(errs, "give --times-in") {
		t.Errorf("times of no zone: %d, %s", code, errs)
	}
	if _, errs, code := tempismo(t, "import", "--preset", "mailchimp", in("hubspot.csv")); code != 1 || !strings.Contains(errs, "found are id, created, type") {
		t.Errorf("columns of another vendor: %d, %s", code, errs)
	}
	for _, args := range [][]string{{"--preset", "hubspott", "x"}, {"--times-in", "Mars/Base", "x"}, {"-", "-"}, {}} {
		if _, _, code := tempismo(t, append([]string{"import"}, args...)...); code != 2 {
			t.Errorf("%v: exit code %d, want 2", args, code)
		}
	}
	if list := must(t, "import", "--preset", "list"); !strings.Contains(list, "hubspot") || !strings.Contains(list, "FirstOpenedDate") {
		t.Errorf("list:\n%s", list)
	}
}

// TestRealImport is TestImport's comparison between the embedded pair and Apache Kafka with Redis.
func TestRealImport(t *testing.T) {
	brokers, redis := onRealOnes(t)
	alone(t)
	file, dir := readers(t, 40, 80), t.TempDir()
	id := "imp-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	real := []string{"--kafka-brokers", brokers, "--redis-addr", redis, "--run", id}
	here := summarised(t, must(t, importArgs(file, "--data", dir, "--run", id)...))
	there := summarised(t, must(t, importArgs(file, real...)...))
	if fmt.Sprint(here) != fmt.Sprint(there) {
		t.Errorf("embedded %+v, real %+v", here, there)
	}
	for _, what := range compared {
		if must(t, "dump", what, "--data", dir) != must(t, append([]string{"dump", what}, real...)...) {
			t.Errorf("%s differs between the embedded pair and real brokers", what)
		}
	}
	if out := must(t, append([]string{"doctor"}, real...)...); !strings.Contains(out, "redis version") {
		t.Errorf("doctor:\n%s", out)
	}
}

// TestOutspot imports the real opens that the design names, where the data is at hand.
func TestOutspot(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("needs third-party data: set TEMPISMO_DATA")
	}
	alone(t)
	s := summarised(t, must(t, "import", filepath.Join(data, "engagement/outspot_opens.csv"), "--customer", "user_id", "--time", "opened", "--kind", "open", "--zone", "Europe/Brussels", "--json"))
	// 435 lines tell the same as another, to the second.
	if s.Read != 19_988 || s.Known != 435 || s.Accepted != 19_988-435 || s.Late != 0 || s.Customers != 1_000 || s.DeadLetters != 0 || s.Deviations["burst"] == 0 {
		t.Errorf("summary %+v", s)
	}
}

// eventBytes is how much of the events topic is on disk in a data folder, whose files come and go.
func eventBytes(t *testing.T, data string) (n int64) {
	t.Helper()
	filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, "engagement.events.v1") || strings.Contains(path, "dlq") || !strings.HasSuffix(path, ".dat") {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
