package connector

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// event writes what a provider tells of a message to C-1.
func (f *fixture) event(kind engagement.Kind, message string, actor engagement.Actor) {
	f.events++
	e := engagement.Event{
		ID: fmt.Sprintf("e-%d", f.events), Source: "/test", Subject: "C-1", Trace: traceparent, Time: f.clock.Now(), Kind: kind, Channel: "email", Message: message, Actor: actor,
	}
	f.log.Append(topics.Events, partition, stream.Message{Key: []byte("C-1"), Value: e.Append(nil), Time: f.clock.Now()})
}

// heard is how many events the group has read.
func (f *fixture) heard() int64 { return f.log.Offsets(f.run.Group(Service), topics.Events)[partition] }

func TestEventsJoinTheirSend(t *testing.T) {
	rows := []struct {
		name     string
		answer   crm.Answer
		events   func(f *fixture)
		outcomes string
	}{
		{"by the CRM's id", crm.Answer{Verdict: crm.Accepted, ID: "crm-1"}, func(f *fixture) {
			f.event(engagement.Delivered, "crm-1", engagement.Human)
			f.event(engagement.Open, "crm-1", engagement.Human)
			f.event(engagement.Click, "crm-1", engagement.Human)
		}, "attempting/1 accepted/1 delivered/1 opened/1 clicked/1"},
		{"by the decision's", crm.Answer{Verdict: crm.Accepted}, func(f *fixture) { f.event(engagement.Delivered, "d-1", engagement.Human) }, "attempting/1 accepted/1 delivered/1"},
		{"of which nobody knew whether it was taken", crm.Answer{Verdict: crm.Unknown}, func(f *fixture) { f.event(engagement.Delivered, "d-1", engagement.Human) }, "attempting/1 unknown/1 delivered/1"},
		{"each result once", crm.Answer{Verdict: crm.Accepted, ID: "crm-1"}, func(f *fixture) {
			for range 3 {
				f.event(engagement.Open, "crm-1", engagement.Human)
			}
		}, "attempting/1 accepted/1 opened/1"},
		{"not by machines, nor of other messages or kinds", crm.Answer{Verdict: crm.Accepted, ID: "crm-1"}, func(f *fixture) {
			f.event(engagement.Open, "crm-1", engagement.Machine)
			f.event(engagement.Open, "crm-1", engagement.Probable)
			f.event(engagement.Open, "crm-2", engagement.Human)
			f.event(engagement.Open, "", engagement.Human)
			f.event(engagement.Bounce, "crm-1", engagement.Human)
		}, "attempting/1 accepted/1"},
		{"not of a send without an id", crm.Answer{Verdict: crm.Accepted}, func(f *fixture) { f.event(engagement.Open, "", engagement.Human) }, "attempting/1 accepted/1"},
		{"not of what was refused", crm.Answer{Verdict: crm.Refused}, func(f *fixture) { f.event(engagement.Open, "d-1", engagement.Human) }, "attempting/1 refused/1"},
		{"what cannot be read is left to others", crm.Answer{Verdict: crm.Accepted, ID: "crm-1"}, func(f *fixture) {
			f.log.Append(topics.Events, partition, stream.Message{Key: []byte("C-1"), Value: []byte("{"), Time: f.clock.Now()})
			f.event(engagement.Delivered, "crm-1", engagement.Human)
		}, "attempting/1 accepted/1 delivered/1"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting for the next fetch
			f := newFixture(t, live(), nil)
			f.target = aim(&scripted{answers: []crm.Answer{r.answer}}, crm.Calls{Concurrency: 1})
			f.write("d-1", "C-1", decision.SendNowType, start, decision.Decision{Reason: decision.BestSlot, Request: "r-1", NotBefore: start, ExpiresAt: start.Add(30 * time.Minute)})
			f.serve()
			r.events(f)
			_, end, err := f.log.Bounds(t.Context(), topics.Events, partition)
			if err != nil {
				t.Fatal(err)
			}
			f.serveUntil(f.service(), func() bool { return f.heard() == end })
			if got := f.outcomes("d-1"); got != r.outcomes {
				t.Errorf("outcomes %s, want %s", got, r.outcomes)
			}
			for _, o := range f.all() {
				if o.Request != "r-1" {
					t.Errorf("an outcome of another request: %+v", o)
				}
			}

			t.Log("an owner who reads them again writes nothing twice")
			before := len(f.all())
			f.log.Create(topics.Events, stream.TopicInfo{Partitions: 1})
			r.events(f)
			r.events(f)
			f.serveUntil(f.service(), func() bool { return f.heard() == 2*end })
			if got := len(f.all()); got != before {
				t.Errorf("%d outcomes became %d", before, got)
			}
		})
	}
}

// TestAnEventThatIsFasterThanTheAnswer: the provider tells of a message while the call for it is still under way.
func TestAnEventThatIsFasterThanTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, log: streamtest.NewLog(), clock: &fakeClock{now: time.Now()}, run: live()}
		for _, name := range needed {
			f.log.Create(name, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
		}
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &service{
			log: f.log, run: f.run, name: "crm", target: aim(slow{f}, crm.Calls{Concurrency: 1}), metrics: m, tracer: nooptrace.Tracer{},
			health: &app.Health{}, logger: slog.New(slog.DiscardHandler), clock: wall{},
		}
		f.decide("d-1", "C-1", f.clock.Now())
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := s.serve(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2 * time.Minute)
		cancel()
		serving.Wait()
		if got := f.outcomes("d-1"); got != "attempting/1 accepted/1 delivered/1" {
			t.Errorf("outcomes %s", got)
		}
	})
}

// slow is a CRM whose message arrives before its answer.
type slow struct{ f *fixture }

func (slow) Traits() crm.Traits { return crm.Traits{} }

func (s slow) Send(context.Context, *crm.Send, time.Time) crm.Answer {
	s.f.event(engagement.Delivered, "crm-1", engagement.Human)
	time.Sleep(20 * time.Second)
	return crm.Answer{Verdict: crm.Accepted, ID: "crm-1"}
}
