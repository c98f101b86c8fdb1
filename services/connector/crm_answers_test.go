package connector

import (
	"context"
	"net/http"
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
