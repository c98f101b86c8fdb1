package chaos

import (
	"context"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

func TestScrape(t *testing.T) {
	got := scrape(`# HELP tempismo_stream_retries_total Operations that failed
tempismo_stream_retries_total{operation="commit",partition="1"} 3
tempismo_stream_retries_total{operation="publish",partition="1"} 4
tempismo_stream_retries_total_created 7
tempismo_stream_alarms{kind="lost"} 1
other 9
`)
	if len(got) != 2 || got["tempismo_stream_retries_total"] != 7 || got["tempismo_stream_alarms"] != 1 {
		t.Errorf("got %v, want 7 retries and 1 alarm", got)
	}
	if scrape("") != nil {
		t.Error("who does not answer has metrics")
	}
}

func TestVisible(t *testing.T) {
	began := time.Now()
	at := func(seconds int, ready bool, retries float64) Sample {
		return Sample{At: began.Add(time.Duration(seconds) * time.Second), Process: "decider.1", Ready: ready, Metrics: map[string]float64{"tempismo_stream_retries_total": retries}}
	}
	calm := []Sample{at(0, true, 2), at(5, true, 2), at(9, true, 2)}
	for _, c := range []struct {
		name    string
		samples []Sample
		want    bool
	}{
		{"nothing moves", calm, false},
		{"a process is not ready", append([]Sample{at(0, true, 2)}, at(5, false, 2)), true},
		{"something is tried again", append([]Sample{at(0, true, 2)}, at(5, true, 3)), true},
		{"it moves only afterwards", append(calm, at(30, true, 3)), false},
		{"a process does not answer", []Sample{at(0, true, 2), {At: began.Add(5 * time.Second), Process: "decider.1", Ready: true}}, true},
	} {
		if got := Visible(c.samples, began.Add(time.Second), began.Add(10*time.Second)); got != c.want {
			t.Errorf("%s: visible is %t, want %t", c.name, got, c.want)
		}
	}
}

func TestRecovery(t *testing.T) {
	began := time.Now()
	after := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	for _, c := range []struct {
		name       string
		injections []Injection
		abreast    float64 // when the services have caught up
		broken     int
	}{
		{"at once", []Injection{{after(0), after(4), "kill"}}, 5, 0},
		{"just in time: 4 s of fault, 2 s and 15 s", []Injection{{after(0), after(4), "kill"}}, 20, 0},
		{"too late", []Injection{{after(0), after(4), "kill"}}, 22, 1},
		{"the next fault came first", []Injection{{after(0), after(4), "kill"}, {after(15), after(19), "kill"}}, 30, 0},
		{"the next fault came first, and it took too long", []Injection{{after(0), after(4), "kill"}, {after(15), after(19), "kill"}}, 60, 1},
	} {
		f := &facts{Evidence: &Evidence{Injections: c.injections}}
		for s := 0.5; s < 90; s += 0.5 {
			x := Sample{At: after(s)}
			if s < c.abreast {
				x.Lag, x.Behind = 100, 10*time.Second
			}
			f.Samples = append(f.Samples, x)
		}
		v := &verdict{counts: Counts{}}
		f.recovery(v)
		if len(v.list) != c.broken {
			t.Errorf("%s: %v, want %d violations", c.name, v.list, c.broken)
		}
	}
}

func TestRepeatLooksUntilItIsToldToStop(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	looks := 0
	repeat(ctx, time.Millisecond, func() {
		if looks++; looks == 3 {
			stop()
		}
	})
	if looks < 3 {
		t.Errorf("%d looks, want 3", looks)
	}
}

// The order of a fold is the runtime's: the earliest of the heads of all topics, and within a topic the order of the log,
// whatever its times are; of equals the topic whose name comes first.
func TestInOrder(t *testing.T) {
	began := time.Now()
	var all []*stream.Record
	for i, r := range []struct {
		topic string
		at    int
	}{{"b", 1}, {"b", 9}, {"b", 2}, {"a", 1}, {"a", 3}} {
		all = append(all, &stream.Record{Topic: r.topic, Offset: int64(i), Time: began.Add(time.Duration(r.at) * time.Second)})
	}
	var got []int64
	for _, r := range inOrder(all) {
		got = append(got, r.Offset)
	}
	want := []int64{3, 0, 4, 1, 2}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("order %v, want %v", got, want)
		}
	}
}
