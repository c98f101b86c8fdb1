package trainer

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

var ended = time.Date(2026, 5, 30, 0, 0, 0, 0, time.UTC)

// TestTrain is the life of a run's models: nothing to learn, a first model, the same log again, a log that misleads, an
// operator who holds a version and lets it go.
func TestTrain(t *testing.T) {
	log, _ := broker(t, simulated)
	f := fitting(t)

	o := train(t, log, simulated, f)
	if o.Result != Refused || !strings.Contains(o.Why, "no engagement") {
		t.Errorf("trained on an empty log: %s, %s", o.Result, o.Why)
	}
	if m := shelfOf(t, log, simulated).InForce(); m.Version != timing.BuiltinVersion {
		t.Errorf("in force is %s before anything was fitted", m.Version)
	}

	write(t, log, simulated, readers(named("few", 12, false), 1, ended, 8, 11, 20))
	if o = train(t, log, simulated, f); o.Result != Refused || !strings.Contains(o.Why, "are needed to tell") {
		t.Errorf("trained on twelve customers: %s, %s", o.Result, o.Why)
	}

	write(t, log, simulated, readers(named("many", 120, false), 2, ended, 8, 11, 20))
	o = train(t, log, simulated, f)
	if o.Result != Published || o.Model != "2026-05-29.1" || !(o.Judged.Bits < o.Judged.Before-.3) {
		t.Fatalf("a model that knows the hours of readers is not published: %+v", o)
	}
	m := shelfOf(t, log, simulated).InForce()
	if m.Version != o.Model || m.FittedOn == nil || m.FittedOn.Customers != o.Sample.Customers-o.Judged.Customers || m.Metrics["bits"] != o.Judged.Bits || m.FittedOn.Defaults == nil {
		t.Errorf("the model in force is %s, fitted on %+v, with %v", m.Version, m.FittedOn, m.Metrics)
	}
	if p := m.Population; p[20] < 2*p[3] || p[11] < 2*p[3] {
		t.Errorf("the population reads at 11 and at 20, the model says %v", p)
	}

	// Customers who read in the middle of the night, and none of whom is held out: for those who are, the model gets worse.
	log2, _ := broker(t, simulated)
	write(t, log2, simulated, readers(named("few", 12, false), 1, ended, 8, 11, 20))
	write(t, log2, simulated, readers(named("many", 120, false), 2, ended, 8, 11, 20))
	if o2 := train(t, log2, simulated, f); o2.Result != Published {
		t.Fatalf("the same log elsewhere: %+v", o2)
	}
	a, _ := m.Append(nil)
	b, _ := shelfOf(t, log2, simulated).InForce().Append(nil)
	if !bytes.Equal(a, b) {
		t.Errorf("the same log gave two models:\n%s\n%s", a, b)
	}
	write(t, log2, simulated, readers(named("night", 200, true), 3, ended.AddDate(0, 0, -1), 3, 4, 8))
	o = train(t, log2, simulated, f)
	if o.Result != Refused || o.Model != "" || !(o.Judged.Bits > o.Judged.Before) || !strings.Contains(o.Why, "2026-05-29.1 needs") {
		t.Errorf("a worse model is not refused: %+v", o)
	}
	if m := shelfOf(t, log2, simulated).InForce(); m.Version != "2026-05-29.1" {
		t.Errorf("after a refusal %s is in force", m.Version)
	}

	if m, err := Pin(t.Context(), log2, simulated, timing.BuiltinVersion); err != nil || !m.Pinned {
		t.Fatalf("pin: %+v, %v", m, err)
	}
	if o = train(t, log2, simulated, f); o.Result != Held || o.Model != "" || !(o.Judged.Bits < o.Judged.Before) {
		t.Errorf("trained while the built-in model is held: %+v", o)
	}
	if m := shelfOf(t, log2, simulated).InForce(); m.Version != timing.BuiltinVersion || !m.Pinned {
		t.Errorf("the pin did not last: %s", m.Version)
	}
	if _, err := Unpin(t.Context(), log2, simulated); err != nil {
		t.Fatal(err)
	}
	if o = train(t, log2, simulated, f); o.Result != Published || o.Model != "2026-05-29.2" {
		t.Errorf("trained after the pin was let go: %+v", o)
	}
	values(t.Context(), t, log2, simulated)
}

// TestTrainEndsWithItsContext: a training is given up where it stands.
func TestTrainEndsWithItsContext(t *testing.T) {
	log, _ := broker(t, simulated)
	write(t, log, simulated, readers(named("many", 60, false), 2, ended, 8, 11, 20))
	for _, stage := range []string{"reading", "fitting"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Train(ctx, log, simulated, fitting(t), func(p Progress) {
			if p.Stage == stage {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while %s: %v", stage, err)
		}
	}
}

// TestTrainYieldsToOthers: what another trainer publishes meanwhile stays.
func TestTrainYieldsToOthers(t *testing.T) {
	log, _ := broker(t, simulated)
	write(t, log, simulated, readers(named("many", 120, false), 2, ended, 8, 11, 20))
	var other *Outcome
	o, err := Train(t.Context(), log, simulated, fitting(t), func(p Progress) {
		if p.Stage == "judging" {
			other = train(t, log, simulated, fitting(t))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if other.Result != Published || o.Result != Refused || !strings.Contains(o.Why, other.Model+" came in force") {
		t.Errorf("two trainers at once: %s %s, %s %s", other.Result, other.Why, o.Result, o.Why)
	}
}

// TestAttributesReachTheSample through the topic.
func TestAttributesReachTheSample(t *testing.T) {
	log, _ := broker(t, simulated)
	w, err := kafka.NewWriter(t.Context(), log, simulated)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ids := named("many", 120, false)
	write(t, log, simulated, readers(ids, 2, ended, 8, 11, 20))
	for i, id := range ids {
		e := stream.Event{ID: "c-" + id, Source: "/test", Type: "io.tempismo.customer.v1", Subject: id, Time: ended, Data: []byte(`{"segment":"` + []string{"morning", "evening"}[i%2] + `"}`)}
		if err := w.Write(t.Context(), topics.Attributes, []byte(id), e.Append(nil), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if o := train(t, log, simulated, fitting(t)); o.Result != Published {
		t.Fatalf("%+v", o)
	}
	at := map[string]float64{}
	for _, s := range shelfOf(t, log, simulated).InForce().Segments {
		at[s.Name] = s.Attention[20]
	}
	if len(at) != 2 || at["evening"] < 2*at["morning"] {
		t.Errorf("segments and their attention at 20: %v", at)
	}
}

// TestErasuresReachTheSample through the topic.
func TestErasuresReachTheSample(t *testing.T) {
	log, _ := broker(t, simulated)
	w, err := kafka.NewWriter(t.Context(), log, simulated)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ids := named("many", 30, false)
	write(t, log, simulated, readers(ids, 2, ended, 8, 11, 20))
	x := customer.Erasure{Signals: []string{customer.SignalAll}, Before: ended.AddDate(1, 0, 0)}
	for _, id := range ids {
		e := stream.Event{ID: "er-" + id, Source: "/test", Type: customer.ErasureType, Subject: id, Time: ended, Data: x.Append(nil)}
		if err := w.Write(t.Context(), topics.Erasures, []byte(id), e.Append(nil), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if o := train(t, log, simulated, fitting(t)); o.Result != Refused || o.Sample.Customers != 0 || o.Sample.Erased == 0 {
		t.Errorf("a model of erased customers: %+v", o)
	}
}
