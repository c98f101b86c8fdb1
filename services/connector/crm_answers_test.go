package connector

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// scripted is a CRM that answers as it is told, the last answer for ever.
type scripted struct {
	traits  crm.Traits
	answers []crm.Answer
	calls   int
}

func (s *scripted) Traits() crm.Traits { return s.traits }

func (s *scripted) Send(context.Context, *crm.Send, time.Time) crm.Answer {
	s.calls++
	return s.answers[min(s.calls, len(s.answers))-1]
}

// TestWhatIsDoneWithAnAnswer: with a key an open question is asked again, without one it ends the decision.
func TestWhatIsDoneWithAnAnswer(t *testing.T) {
	yes, lost := crm.Answer{Verdict: crm.Accepted, ID: "crm-1"}, crm.Answer{Verdict: crm.Unknown, Detail: "connection lost"}
	later, denied := crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: time.Minute}, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 401"}
	rows := []struct {
		name     string
		key      bool
		begun    bool // an owner before left an intent
		answers  []crm.Answer
		outcomes string
		healthy  bool
	}{
		{"a yes", false, false, []crm.Answer{yes}, "attempting/1 accepted/1", true},
		{"a lost answer, with a key", true, false, []crm.Answer{lost, yes}, "attempting/1 attempting/2 accepted/2", true},
		{"a lost answer, without one", false, false, []crm.Answer{lost, yes}, "attempting/1 unknown/1", true},
		{"what was certainly not taken, without one", false, false, []crm.Answer{later, yes}, "attempting/1 attempting/2 accepted/2", true},
		{"an intent of the owner before, with a key", true, true, []crm.Answer{yes}, "attempting/1 attempting/2 accepted/2", true},
		{"an intent of the owner before, without one", false, true, []crm.Answer{yes}, "attempting/1 unknown/1", true},
		{"a wrong setting that is put right", false, false, []crm.Answer{denied, yes}, "attempting/1 attempting/2 accepted/2", true},
		{"a wrong setting that stays", false, false, []crm.Answer{denied}, "attempting/1 attempting/2 attempting/3 expired/3", false},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t, live(), func(int, http.ResponseWriter, *http.Request) { t.Error("the webhook is called") })
			to := &scripted{traits: crm.Traits{Key: r.key, Breaker: true}, answers: r.answers}
			f.target = aim(to, crm.Calls{Concurrency: 1})
			f.decide("d-1", "C-1", start)
			if r.begun {
				o := decision.Outcome{Decision: "d-1", Connector: "webhook", Result: decision.Attempting, Attempts: 1}
				e := stream.Event{ID: "o-1", Source: "/test", Type: decision.OutcomeType, Subject: "C-1", Time: start, Traceparent: traceparent, Data: o.Append(nil)}
				f.log.Append(topics.Outcomes, partition, stream.Message{Key: []byte("C-1"), Value: e.Append(nil), Time: start})
			}
			s := f.serve()
			if got := f.outcomes("d-1"); got != r.outcomes {
				t.Errorf("outcomes %s, want %s", got, r.outcomes)
			}
			all := f.all()
			if last := all[len(all)-1]; (last.CRMID == "crm-1") != (last.Result == decision.Accepted) {
				t.Errorf("the CRM's id is %q", last.CRMID)
			}
			if _, components := s.health.State(); r.healthy != (components["target"].Detail == "") {
				t.Errorf("health %+v", components)
			}
		})
	}
}

// looked is a CRM without a key that can be asked, and answers as it is told, the last answer for ever.
type looked struct {
	scripted
	looks []crm.Answer
	asked []time.Time
	clock *fakeClock
}

func (l *looked) Look(context.Context, *crm.Send, time.Time) crm.Answer {
	l.asked = append(l.asked, l.clock.Now())
	return l.looks[min(len(l.asked), len(l.looks))-1]
}

// TestALostAnswerIsLookedUp: a CRM that can be asked is asked, and called once whatever it says.
func TestALostAnswerIsLookedUp(t *testing.T) {
	yes, open, denied := crm.Answer{Verdict: crm.Accepted, ID: "crm-1"}, crm.Answer{Verdict: crm.Unknown, Detail: "not there"}, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 403"}
	rows := []struct {
		name     string
		begun    bool // an owner before left an intent
		looks    []crm.Answer
		outcomes string
		detail   string
		asked    []time.Duration // since the start
	}{
		{"it has it", false, []crm.Answer{yes}, "attempting/1 accepted/1", "the answer to the call was lost; the CRM has it", []time.Duration{5 * time.Second}},
		{"it shows it later", false, []crm.Answer{open, {Verdict: crm.Retry, Detail: "HTTP 429"}, yes}, "attempting/1 accepted/1", "the answer to the call was lost; the CRM has it", []time.Duration{5 * time.Second, 65 * time.Second, 365 * time.Second}},
		{"it never shows it", false, []crm.Answer{open}, "attempting/1 unknown/1", "connection lost", []time.Duration{5 * time.Second, 65 * time.Second, 365 * time.Second}},
		{"it must not be asked", false, []crm.Answer{denied}, "attempting/1 unknown/1", "connection lost; the CRM lets nobody look it up: HTTP 403", []time.Duration{5 * time.Second}},
		{"an intent of the owner before", true, []crm.Answer{yes}, "attempting/1 accepted/1", "the answer to the call was lost; the CRM has it", []time.Duration{5 * time.Second}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFixture(t, live(), nil)
			to := &looked{scripted: scripted{answers: []crm.Answer{{Verdict: crm.Unknown, Detail: "connection lost"}}}, looks: r.looks, clock: f.clock}
			f.target = aim(to, crm.Calls{Concurrency: 1})
			f.decide("d-1", "C-1", start)
			calls := 1
			if r.begun {
				calls = 0
				o := decision.Outcome{Decision: "d-1", Connector: "webhook", Result: decision.Attempting, Attempts: 1}
				e := stream.Event{ID: "o-1", Source: "/test", Type: decision.OutcomeType, Subject: "C-1", Time: start, Traceparent: traceparent, Data: o.Append(nil)}
				f.log.Append(topics.Outcomes, partition, stream.Message{Key: []byte("C-1"), Value: e.Append(nil), Time: start})
			}
			f.serve()
			if got := f.outcomes("d-1"); got != r.outcomes || f.detail() != r.detail || to.calls != calls {
				t.Errorf("outcomes %s, detail %q, %d calls", got, f.detail(), to.calls)
			}
			var asked []time.Duration
			for _, at := range to.asked {
				asked = append(asked, at.Sub(start))
			}
			if !slices.Equal(asked, r.asked) {
				t.Errorf("asked after %v, want %v", asked, r.asked)
			}
		})
	}
}
