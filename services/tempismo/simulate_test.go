package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/tempismo/town"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

func simulate(t *testing.T, args ...string) (s simulated) {
	t.Helper()
	if err := json.Unmarshal([]byte(must(t, append([]string{"simulate", "--json"}, args...)...)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func known(t *testing.T, path string) (truth.Header, []truth.Customer) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, customers, err := truth.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return h, customers
}

// TestSimulate writes a town, compressed, and imports it: nothing of it is refused, and nobody is missing.
func TestSimulate(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "town.ndjson.gz")
	args := []string{"--customers", "30", "--weeks", "12", "--quiet-weeks", "8", "--seed", "3"}
	s := simulate(t, append(args, "--out", out)...)
	if want := filepath.Join(dir, "town.truth.ndjson.gz"); s.Truth != want || s.Out != out {
		t.Errorf("written to %q and %q, want %q beside", s.Out, s.Truth, want)
	}
	if total(s.Kinds) != s.Events || s.Kinds["delivered"] == 0 || s.Kinds["open"] == 0 || s.Customers != 30 {
		t.Errorf("summary %+v", s)
	}
	h, customers := known(t, s.Truth)
	nulls := int64(0)
	for i := range customers {
		if customers[i].IsNull(h.QuietUntil) {
			nulls++
		}
	}
	if len(customers) != 30 || nulls != s.Null || nulls == 0 || nulls == 30 || h.Seed != 3 || !h.To.Equal(s.To) {
		t.Errorf("%d customers, %d of them null, header %+v; summary %+v", len(customers), nulls, h, s)
	}
	imported := summarised(t, must(t, "import", out, "--json"))
	if imported.Read != s.Events || imported.Accepted != s.Events || imported.Rejected != 0 || imported.DeadLetters != 0 || imported.Customers != 30 {
		t.Errorf("imported %+v of %+v", imported, s)
	}

	t.Run("the same command line writes the same", func(t *testing.T) {
		plain := filepath.Join(dir, "again.ndjson")
		again := simulate(t, append(args, "--out", plain, "--truth", filepath.Join(dir, "known"))...)
		_, others := known(t, again.Truth)
		if again.Out, again.Truth = s.Out, s.Truth; !reflect.DeepEqual(again, s) || !reflect.DeepEqual(others, customers) {
			t.Errorf("%+v, before %+v", again, s)
		}
		if first := strings.SplitN(must(t, append(append([]string{"simulate"}, args...), "--out", "-")...), "\n", 2)[0]; !strings.HasPrefix(string(read(t, plain)), first+"\n") {
			t.Errorf("standard output begins with another event: %s", first)
		}
	})
	t.Run("nothing is overwritten, and half a file is none", func(t *testing.T) {
		if _, errs, code := tempismo(t, append([]string{"simulate", "--out", out}, args...)...); code != 1 || !strings.Contains(errs, "choose another name") {
			t.Errorf("exit code %d, %s", code, errs)
		}
		fresh := filepath.Join(dir, "fresh.ndjson")
		if _, _, code := tempismo(t, append([]string{"simulate", "--out", fresh, "--truth", s.Truth}, args...)...); code != 1 {
			t.Errorf("exit code %d with a truth that exists", code)
		}
		if _, err := os.Stat(fresh); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", fresh, err)
		}
	})
	t.Run("people read a summary", func(t *testing.T) {
		text := must(t, append([]string{"simulate", "--out", filepath.Join(dir, "words.ndjson")}, args...)...)
		for _, want := range []string{"events", "delivered ", "quiet until 2025-10-27", "truth in   " + filepath.Join(dir, "words.truth.ndjson")} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	})
}

// TestStoryFiles holds the stories in testdata to the command lines in their README.
func TestStoryFiles(t *testing.T) {
	alone(t)
	const dir = "testdata/stories"
	for name, id := range map[string]string{"moves-by-8-hours": town.Stories[0], "falls-silent": town.Stories[1], "bursts": town.Stories[3]} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), name+".ndjson")
			simulate(t, "--story", id, "--weeks", "22", "--quiet-weeks", "14", "--out", out)
			got, want := string(read(t, out)), string(read(t, filepath.Join(dir, name+".ndjson")))
			if got != want {
				t.Errorf("%s.ndjson is not what the simulator writes: make it anew by its README, and look at the tests that use it", name)
			}
			if lines := strings.Count(want, "\n"); lines < 200 || lines > 900 {
				t.Errorf("%d lines", lines)
			}
			var e engagement.Event
			for line := range strings.Lines(want) {
				if err := e.Parse([]byte(strings.TrimSpace(line))); err != nil || e.Subject != id {
					t.Fatalf("%v, of %q", err, e.Subject)
				}
			}
		})
	}
}
