package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// eraseRig is an embedded system on which services run as long as somebody wants them to.
type eraseRig struct {
	t   *testing.T
	dir string
}

func newEraseRig(t *testing.T) *eraseRig {
	t.Helper()
	alone(t)
	r := &eraseRig{t, t.TempDir()}
	pair, err := local.Start(r.dir, local.Ports{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pair.Close() })
	return r
}

// with opens the system for a simulated run.
func (r *eraseRig) with(run string, do func(*system) error) {
	r.t.Helper()
	if err := (&target{Data: r.dir, Run: run, Mode: "simulated"}).with(r.t.Context(), do); err != nil {
		r.t.Fatal(err)
	}
}

// write writes records, key and value, to a topic of the run.
func (r *eraseRig) write(run, topic string, records ...[2]string) {
	r.t.Helper()
	r.with(run, func(sys *system) error {
		if err := kafka.EnsureTopics(r.t.Context(), sys.kafka, sys.run, 2); err != nil {
			return err
		}
		w, err := kafka.NewWriter(r.t.Context(), sys.log, sys.run)
		if err != nil {
			return err
		}
		var msgs []stream.Message
		for _, m := range records {
			msgs = append(msgs, stream.Message{Key: []byte(m[0]), Value: []byte(m[1])})
		}
		return errors.Join(w.WriteAll(r.t.Context(), topic, msgs), w.Close())
	})
}

// work runs the services that turn events into decisions until they have read everything.
func (r *eraseRig) work(run string) {
	r.t.Helper()
	r.with(run, func(sys *system) error {
		crew := newCrew(sys, slog.New(slog.DiscardHandler), map[string]string{"SCORED_BELOW": "1", "MODEL": timing.BuiltinVersion})
		crew.pipeline()
		services, err := crew.ready()
		if err != nil {
			return err
		}
		ctx, stop := context.WithTimeout(r.t.Context(), time.Minute)
		defer stop()
		drained := errors.New("drained")
		err = app.Group(ctx, append(services, func(ctx context.Context) error {
			return errors.Join(drain(ctx, sys, working, newProgress(io.Discard)), drained)
		})...)
		if !errors.Is(err, drained) || ctx.Err() != nil {
			return fmt.Errorf("services did not get through: %w", err)
		}
		return nil
	})
}

// profile is what the run holds of a customer.
func (r *eraseRig) profile(run, who string) (p timing.Profile, stored []byte) {
	r.t.Helper()
	r.with(run, func(sys *system) error {
		snap, err := sys.store.Read(r.t.Context(), sys.run.Group(profiler.Service), stream.Partition([]byte(who), 2), []string{who})
		if err != nil {
			return err
		}
		stored = snap.Values[0]
		return p.Decode(stored)
	})
	return p, stored
}

// count counts the records of a customer on a topic of the run.
func (r *eraseRig) count(run, topic, who string) (n int) {
	r.t.Helper()
	r.with(run, func(sys *system) error {
		return kafka.Range(r.t.Context(), sys.log, sys.run.Topic(topic), kafka.Earliest, kafka.Latest, func(m *stream.Record) error {
			if string(m.Key) == who {
				n++
			}
			return nil
		})
	})
	return n
}

var begun = time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)

func onDay(day int, after time.Duration) time.Time { return begun.AddDate(0, 0, day).Add(after) }

func did(kind engagement.Kind, who string, day int, after time.Duration) [2]string {
	at := onDay(day, after)
	e := engagement.Event{ID: fmt.Sprint(kind, who, at.Unix()), Source: "/test", Subject: who, Time: at, Kind: kind, Channel: "email", Message: fmt.Sprint("m-", day)}
	return [2]string{who, string(e.Append(nil))}
}

func saidOfPixels(who, granted string, day int) [2]string {
	data := fmt.Sprintf(`{"consents":{"pixel":{"granted":%s,"at":%q}}}`, granted, onDay(day, 0).Format(time.RFC3339))
	e := stream.Event{ID: fmt.Sprint("crm-", who, day), Source: "/crm", Type: customer.Type, Subject: who, Time: onDay(day, 0), Data: []byte(data)}
	return [2]string{who, string(e.Append(nil))}
}

// TestWhatIsErasedStaysErased goes through the services: a refusal and an erasure, and a replay of all events into another run, in
// which neither comes back.
func TestWhatIsErasedStaysErased(t *testing.T) {
	r := newEraseRig(t)
	const first, again = "first", "again"
	everybody := []string{"anna", "bert", "carl", "dora"}
	r.write(first, topics.Attributes, saidOfPixels("anna", "true", 0))
	var events [][2]string
	for day := range 40 {
		for _, who := range everybody {
			events = append(events, did(engagement.Delivered, who, day, 0), did(engagement.Open, who, day, 11*time.Hour))
		}
	}
	r.write(first, topics.Events, events...)
	r.work(first)
	for _, who := range everybody {
		if p, _ := r.profile(first, who); len(p.Channels) != 1 || r.count(first, topics.Scored, who) < 20 {
			t.Fatalf("of %s too little is known to be forgotten: %+v", who, p)
		}
	}

	r.write(first, topics.Attributes, saidOfPixels("anna", "false", 40), saidOfPixels("dora", "false", 38)) // dora's answer comes late
	r.work(first)
	for _, who := range []string{"anna", "dora"} {
		if p, _ := r.profile(first, who); len(p.Channels) != 0 || p.Observable(onDay(50, 0), true) || r.count(first, topics.Erasures, who) != 1 {
			t.Fatalf("after the refusal of %s is known: %+v", who, p)
		}
	}
	r.write(first, topics.Events, did(engagement.Click, "anna", 41, 0), did(engagement.Open, "anna", 41, 2*time.Hour))

	var e erased
	if err := json.Unmarshal([]byte(must(t, "erase", "bert", "--before", onDay(41, 0).Format(time.RFC3339), "--data", r.dir, "--run", first, "--json")), &e); err != nil {
		t.Fatal(err)
	}
	if !e.Erasure.All() || !e.Erasure.Before.Equal(onDay(41, 0)) || len(e.Records) != 2 || len(e.Remains) == 0 {
		t.Errorf("%+v", e)
	}
	r.work(first)
	if p, _ := r.profile(first, "bert"); len(p.Channels) != 0 {
		t.Errorf("bert is still known: %+v", p)
	}

	must(t, "replay", "--data", r.dir, "--run", first, "--into", again)
	r.work(again)
	for _, who := range []string{"anna", "bert", "carl"} {
		_, want := r.profile(first, who)
		if _, got := r.profile(again, who); !bytes.Equal(got, want) {
			t.Errorf("the profile of %s is %x, and replayed %x", who, want, got)
		}
	}
	if p, _ := r.profile(again, "anna"); len(p.Channels) != 1 {
		t.Error("a click after the refusal is not known")
	}
	if p, _ := r.profile(again, "dora"); len(p.Channels) != 1 || p.View(timing.Builtin(), "email", timing.Week*2930).Evidence.EngagedDays != 0 {
		t.Error("of dora more is known than what was delivered after her refusal")
	}
	for _, topic := range []string{topics.Scored, topics.Deviations, topics.Decisions} {
		for _, who := range []string{"bert", "dora"} {
			if n := r.count(again, topic, who); n != 0 {
				t.Errorf("%s says %d times what %s did", topic, n, who)
			}
		}
		if n, most := r.count(again, topic, "anna"), 1; n > most { // the click
			t.Errorf("%s says %d times what anna did", topic, n)
		}
	}
	if was, is := r.count(first, topics.Scored, "carl"), r.count(again, topics.Scored, "carl"); was != is {
		t.Errorf("carl, whom nobody has erased, was scored %d times, and in the replay %d", was, is)
	}
}

func TestErasingSaysWhatRemains(t *testing.T) {
	r := newEraseRig(t)
	r.write("r1", topics.Attributes, saidOfPixels("anna", "true", 0))
	if _, errs, code := tempismo(t, "erase", "anna", "--data", r.dir, "--run", "r1"); code != 1 || !strings.Contains(errs, "say with --before") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if _, errs, code := tempismo(t, "erase", "", "--data", r.dir, "--run", "r1", "--before", "2026-02-01T00:00:00Z"); code == 0 || !strings.Contains(errs, "<customer>") {
		t.Errorf("nobody was erased: exit code %d, %s", code, errs)
	}
	out, errs, code := tempismo(t, "erase", "anna", "--data", r.dir, "--run", "r1", "--signals", "open", "--before", "2026-02-01T00:00:00Z")
	if code != 0 || !strings.Contains(errs, `no profile of "anna" is held`) {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, want := range []string{"what was learned of anna by pixels", "of before 2026-02-01T00:00:00Z is erased", "sim.r1.customer.erasures.v1:", "sim.r1.engagement.events.v1", "in 400 days", "sim.r1.customer.erasures.v1  ", "in 3650 days"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "sim.r1.customer.attributes.v1:") || strings.Contains(out, "timing.digests") || strings.Contains(out, "send.policies") {
		t.Errorf("attributes are deleted, or a topic that names nobody is said to name anna:\n%s", out)
	}
	var records []string
	r.with("r1", func(sys *system) error {
		return kafka.Range(t.Context(), sys.log, sys.run.Topic(topics.Erasures), kafka.Earliest, kafka.Latest, func(m *stream.Record) error {
			e, err := stream.ParseEvent(m.Value)
			if err != nil || e.Subject != "anna" || string(m.Key) != "anna" || m.Partition != stream.Partition(m.Key, 2) {
				t.Errorf("%+v, %v", e, err)
			}
			records = append(records, string(e.Data))
			return nil
		})
	})
	if want := []string{`{"signals":["open"],"erased_before":"2026-02-01T00:00:00Z","reason":"request of the customer"}`}; !slices.Equal(records, want) {
		t.Errorf("%q", records)
	}
}
