package trainer

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// lines is a log that several goroutines may write and read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs the service until its log says what is waited for, and returns the log.
func start(t *testing.T, k kafka.Config, run stream.Run, says string) string {
	t.Helper()
	c := Config{Kafka: k, Run: config.Run{ID: run.ID, Mode: "live"}, Fitting: fitting(t), At: time.Now().In(time.UTC).Hour()}
	c.Fitting.Zone, c.Fitting.Pixels.Consent = "UTC", "assumed"
	if run.Simulated {
		c.Run.Mode = "simulated"
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var out lines
	set, done := app.Settings{Health: &app.Health{}, Log: slog.New(slog.NewJSONHandler(&out, nil))}, make(chan error, 1)
	go func() { done <- Run(ctx, c, set) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(out.String(), says) {
		select {
		case err := <-done:
			t.Fatalf("the trainer ended: %v\n%s", err, &out)
		case <-ctx.Done():
			t.Fatalf("it never said %q:\n%s", says, &out)
		case <-tick.C:
		}
	}
	if ready, components := set.Health.State(); !ready {
		t.Errorf("it is not ready: %+v", components)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return out.String()
}

// TestRun: a new installation has the built-in model at once, in every partition; what is due is fitted; a restart publishes
// nothing twice, neither the built-in model nor what was fitted today.
func TestRun(t *testing.T) {
	run := stream.Run{ID: "r1"}
	log, k := broker(t, run)
	for range 2 {
		said := start(t, k, run, "no engagement in the sample")
		if !strings.Contains(said, `"result":"refused"`) {
			t.Errorf("it does not say that there is nothing to learn from:\n%s", said)
		}
	}
	if got := values(t.Context(), t, log, run); len(got[0]) != 1 || !strings.Contains(got[0][0], `"version":"`+timing.BuiltinVersion+`"`) {
		t.Errorf("a new installation holds %d models", len(got[0]))
	}

	write(t, log, run, readers(named("many", 120, false), 2, time.Now(), 8, 11, 20))
	said := start(t, k, run, `"result":"published"`)
	var line struct {
		Version, Before  string
		Bits, BitsBefore float64
		Customers        int
	}
	for l := range strings.Lines(said) {
		if strings.Contains(l, `"result":"published"`) {
			if err := json.Unmarshal([]byte(l), &line); err != nil || line.Customers != 120 || line.Before != timing.BuiltinVersion || !strings.HasSuffix(line.Version, ".1") {
				t.Errorf("%s: %v", l, err)
			}
		}
	}
	published := values(t.Context(), t, log, run)
	said = start(t, k, run, `"msg":"model in force"`)
	if again := values(t.Context(), t, log, run); len(again[0]) != len(published[0]) || len(again[0]) != 2 || strings.Contains(said, "training begins") {
		t.Errorf("%d models after a restart, %d before:\n%s", len(again[0]), len(published[0]), said)
	}
}

// TestSimulatedRunsAreTrainedOnDemand only: their days are not ours.
func TestSimulatedRunsAreTrainedOnDemand(t *testing.T) {
	_, k := broker(t, simulated)
	if said := start(t, k, simulated, `"msg":"model in force"`); strings.Contains(said, "training") {
		t.Errorf("it trains:\n%s", said)
	}
}

func TestLastDue(t *testing.T) {
	rome, err := calendar.Zone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sentence, now string
		hour          int
		want          string
	}{
		{"in the afternoon it was this morning", "2026-11-24T15:00:00+01:00", 4, "2026-11-24T04:00:00+01:00"},
		{"in the night it was yesterday", "2026-11-24T03:59:59+01:00", 4, "2026-11-23T04:00:00+01:00"},
		{"at the hour it is now", "2026-11-24T04:00:00+01:00", 4, "2026-11-24T04:00:00+01:00"},
		{"an hour that summer time skips is the next valid one", "2026-03-29T12:00:00+02:00", 2, "2026-03-29T03:00:00+02:00"},
		{"an hour that comes twice is the first", "2026-10-25T12:00:00+01:00", 2, "2026-10-25T02:00:00+02:00"},
	} {
		now, err := time.Parse(time.RFC3339, c.now)
		if err != nil {
			t.Fatal(err)
		}
		if got := lastDue(now, c.hour, rome).In(rome).Format(time.RFC3339); got != c.want {
			t.Errorf("%s: %s, want %s", c.sentence, got, c.want)
		}
	}
}

func TestValidateNamesEverything(t *testing.T) {
	c := Config{Kafka: kafka.Config{Brokers: []string{"x:1"}}, Run: config.Run{ID: "r1", Mode: "live"}, Fitting: Fitting{Customers: 1, Events: 1, Zone: "Mars", ClosedDays: "it"}, At: 24}
	err := c.Validate()
	for _, name := range []string{"SAMPLE_CUSTOMERS", "SAMPLE_EVENTS", "DEFAULT_ZONE", "TRAIN_AT"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}
