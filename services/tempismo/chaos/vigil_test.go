package chaos

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAssignmentsAreReadFromMetrics(t *testing.T) {
	text := `# TYPE tempismo_stream_takeovers_total counter
tempismo_stream_takeovers_total{cause="assigned",tempismo_service="decider"} 3
tempismo_stream_takeovers_total{cause="fenced",tempismo_service="decider"} 5
tempismo_stream_takeovers_total{cause="assigned",tempismo_service="detector"} 1
`
	if n, ok := assigned(text); n != 4 || !ok {
		t.Errorf("%v, %v", n, ok)
	}
	if _, ok := assigned(""); ok {
		t.Error("a process that does not answer has no number")
	}
}

// A power failure takes back what was written within the last second, and no file that was complete before.
func TestAPowerFailureCutsTheFileBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "appendonly.aof.2.incr.aof")
	if err := os.WriteFile(file, make([]byte, 300), 0o644); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	older := filepath.Join(filepath.Dir(file), "appendonly.aof.1.incr.aof")
	recorded := &tape{sizes: []mark{{now.Add(-5 * time.Second), older, 900}, {now.Add(-3 * time.Second), file, 100}, {now.Add(-2 * time.Second), file, 200}, {now, file, 300}}}
	for _, c := range []struct {
		ago  time.Duration
		want int64
	}{{time.Second, 200}, {2500 * time.Millisecond, 100}, {4 * time.Second, 100}} {
		if err := recorded.cut(now.Add(-c.ago)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(file); err != nil || info.Size() != c.want {
			t.Errorf("%s before: %v, %v", c.ago, info.Size(), err)
		}
	}
	if (&tape{}).cut(now) == nil {
		t.Error("without a file there is nothing to be cut, which is said")
	}
}
