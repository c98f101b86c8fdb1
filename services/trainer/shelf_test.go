package trainer

import (
	"errors"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// version is a model that differs from the built-in one by its name only.
func version(name string) *timing.Model {
	m := *timing.Builtin()
	m.Version = name
	return &m
}

func TestPinAndUnpin(t *testing.T) {
	log, _ := broker(t, simulated)
	ctx := t.Context()
	if _, err := Unpin(ctx, log, simulated); err == nil {
		t.Error("something was let go although nothing was published")
	}
	for i, name := range []string{"2026-05-01.1", "2026-05-02.1"} {
		if err := (&Copy{Model: version(name), At: noon.Add(time.Duration(i) * time.Hour)}).publish(ctx, log, simulated); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Pin(ctx, log, simulated, "2026-05-03.1"); !errors.Is(err, ErrUnknownVersion) {
		t.Errorf("a version that does not exist: %v", err)
	}
	if _, err := Unpin(ctx, log, simulated); err == nil {
		t.Error("something was let go although nothing was held")
	}
	for range 2 { // the second time changes nothing
		if m, err := Pin(ctx, log, simulated, "2026-05-01.1"); err != nil || m.Version != "2026-05-01.1" || !m.Pinned {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	s := shelfOf(t, log, simulated)
	if m := s.InForce(); m.Version != "2026-05-01.1" || !m.Pinned || len(s.Copies) != 3 {
		t.Errorf("in force is %s, pinned: %v, after %d records", m.Version, m.Pinned, len(s.Copies))
	}
	if at := s.trained(); !at.Equal(noon.Add(time.Hour)) {
		t.Errorf("a pin is taken for a training: %s", at)
	}
	if m, err := Unpin(ctx, log, simulated); err != nil || m.Version != "2026-05-01.1" || m.Pinned {
		t.Errorf("%+v, %v", m, err)
	}
	if m := shelfOf(t, log, simulated).InForce(); m.Version != "2026-05-01.1" || m.Pinned {
		t.Errorf("after it was let go %s is in force, pinned: %v", m.Version, m.Pinned)
	}
	if n := len(values(ctx, t, log, simulated)[0]); n != 4 {
		t.Errorf("%d records", n)
	}
}

// TestSettle: a trainer that died after it had published into some partitions leaves the others behind; whoever comes next
// completes what it began, and does so once.
func TestSettle(t *testing.T) {
	log, _ := broker(t, simulated)
	ctx := t.Context()
	if err := (&Copy{Model: version("2026-05-01.1"), At: noon}).publish(ctx, log, simulated); err != nil {
		t.Fatal(err)
	}
	newer := Copy{Model: version("2026-05-02.1"), At: noon.Add(24 * time.Hour)}
	data, err := newer.Model.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := stream.Event{ID: "md-2026-05-02.1", Source: trainerSource + simulated.ID, Type: timing.ModelType, Time: newer.At, Data: data}
	p, err := log.Producer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, partition := range []int32{0, 2} {
		if _, err := p.Produce(ctx, simulated.Topic(topics.Models), partition, []stream.Message{{Value: e.Append(nil)}}); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := ReadShelf(ctx, log, simulated); err != nil || s.even || s.InForce().Version != "2026-05-02.1" {
		t.Fatalf("%+v, %v", s, err)
	}
	var ends [2]int
	for i := range ends {
		s, err := settle(ctx, log, simulated, noon)
		if err != nil || !s.even || s.InForce().Version != "2026-05-02.1" {
			t.Fatalf("%+v, %v", s, err)
		}
		ends[i] = len(s.Copies)
	}
	if ends[0] != ends[1] {
		t.Errorf("settled partitions are settled again: %v", ends)
	}
}

func TestWhatIsNoModelIsNotInForce(t *testing.T) {
	log, _ := broker(t, simulated)
	ctx := t.Context()
	if _, err := settle(ctx, log, simulated, noon); err != nil {
		t.Fatal(err)
	}
	p, err := log.Producer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for partition := range int32(partitions) {
		if _, err := p.Produce(ctx, simulated.Topic(topics.Models), partition, []stream.Message{{Value: []byte(`{"type":"io.tempismo.model.v1"}`)}}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := settle(ctx, log, simulated, noon)
	if err != nil || !s.even || s.Unreadable == 0 || s.InForce() == nil || s.InForce().Version != timing.BuiltinVersion {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestVersionsCountUpInADay(t *testing.T) {
	s := Shelf{}
	for _, v := range []string{timing.BuiltinVersion, "2026-05-01.1", "2026-05-02.9", "2026-05-02.10", "2026-05-02.x", "2026-05-02.3"} {
		s.Copies = append(s.Copies, Copy{Model: version(v)})
	}
	for day, want := range map[string]string{"2026-05-01": "2026-05-01.2", "2026-05-02": "2026-05-02.11", "2026-05-03": "2026-05-03.1"} {
		if got := s.next(day); got != want {
			t.Errorf("after those of %s comes %s, want %s", day, got, want)
		}
	}
}

func TestFittedSince(t *testing.T) {
	at := func(h int) time.Time { return noon.Add(time.Duration(h) * time.Hour) }
	for _, row := range []struct {
		sentence string
		versions []string
		want     time.Time
	}{
		{"nothing was published", nil, time.Time{}},
		{"the built-in model is in force", []string{timing.BuiltinVersion}, time.Time{}},
		{"since the first fitted one", []string{timing.BuiltinVersion, "a", "b"}, at(1)},
		{"not while the built-in one was held", []string{"a", timing.BuiltinVersion, "b", "c"}, at(2)},
	} {
		s := Shelf{}
		for i, v := range row.versions {
			s.Copies = append(s.Copies, Copy{Model: version(v), At: at(i)})
		}
		if got := s.fittedSince(); !got.Equal(row.want) {
			t.Errorf("%s: %s, want %s", row.sentence, got, row.want)
		}
	}
}
