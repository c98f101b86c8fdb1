package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/services/tempismo/local"
)

// screen is a terminal that tells when something has been written to it.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	seen chan struct{}
}

func newScreen(want string) *screen { return &screen{want: want, seen: make(chan struct{})} }

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(b)
	if s.want != "" && strings.Contains(s.text.String(), s.want) {
		s.want = ""
		close(s.seen)
	}
	return len(b), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// address is one that is free.
func address(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// up starts the command and returns what stops it.
func up(t *testing.T, s *screen, args ...string) (stop func()) {
	t.Helper()
	c := new(commands)
	k, err := parser(c, io.Discard, io.Discard, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Parse(append([]string{"up", "--kafka-port", "0", "--redis-port", "0"}, args...)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Up.Run(ctx, terminal{out: s, err: s}) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("up ended with %v\n%s", err, s)
			}
		})
	}
	t.Cleanup(stop)
	select {
	case <-s.seen:
	case err := <-ended:
		ended <- err
		t.Fatalf("up ended before it said what was waited for: %v\n%s", err, s)
	case <-time.After(2 * time.Minute):
		t.Fatalf("up never said what was waited for:\n%s", s)
	}
	return stop
}

// TestDemo starts a small town, looks at the page, stops, and starts again: the town goes on, and no event is there twice.
func TestDemo(t *testing.T) {
	alone(t)
	dir, page := t.TempDir(), address(t)
	args := []string{"--demo", "--data", dir, "--run", "d1", "--customers", "40", "--pace", "40000", "--start", "2026-06-01T07:00:00Z", "--console-listen", page, "--ingest-listen", address(t)}
	s := newScreen(" sigma  ")
	stop := up(t, s, args...)
	for _, want := range []string{"http://localhost:", "are for laptops", "run  d1", "From here on, live"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("the terminal lacks %q:\n%s", want, s)
		}
	}
	answer, err := http.Get("http://" + page + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("<svg")) {
		t.Errorf("the page answers %d with %d bytes", answer.StatusCode, len(body))
	}
	if out := must(t, "profile", "C-00001", "--data", dir); !strings.Contains(out, "C-00001") {
		t.Errorf("a profile of the running system:\n%s", out)
	}
	if _, errs, code := tempismo(t, "up", "--data", dir, "--console-listen", address(t), "--ingest-listen", address(t)); code != 1 || !strings.Contains(errs, "works in "+dir) {
		t.Errorf("a second process on the folder: %d, %s", code, errs)
	}
	stop()
	before := ids(t, dir)

	if _, errs, code := tempismo(t, append([]string{"up"}, append(args, "--seed", "2")...)...); code != 1 || !strings.Contains(errs, "began with --customers 40") {
		t.Errorf("another town in the same run: %d, %s", code, errs)
	}
	args[len(args)-3], args[len(args)-1] = address(t), address(t)
	up(t, newScreen(" sigma  "), args...)()
	after := ids(t, dir)
	if len(after) <= len(before) {
		t.Errorf("%d events after the second start, %d before: the town did not go on", len(after), len(before))
	}
	for id, n := range after {
		if n != 1 {
			t.Fatalf("event %q is there %d times", id, n)
		}
	}
}

// ids counts the events of a stopped folder by id.
func ids(t *testing.T, dir string) map[string]int {
	t.Helper()
	if _, ok := local.Running(dir); ok {
		t.Fatal("the folder is still in use")
	}
	counts := map[string]int{}
	for line := range strings.Lines(must(t, "dump", "engagement.events.v1", "--data", dir)) {
		_, after, _ := strings.Cut(line, `"id":"`)
		id, _, _ := strings.Cut(after, `"`)
		counts[id]++
	}
	return counts
}

func TestATakenPortIsNamedWithItsFlag(t *testing.T) {
	alone(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, errs, code := tempismo(t, "up", "--data", t.TempDir(), "--console-listen", ln.Addr().String(), "--ingest-listen", address(t))
	if code != 1 || !strings.Contains(errs, "--console-listen") || !strings.Contains(errs, "choose another") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
