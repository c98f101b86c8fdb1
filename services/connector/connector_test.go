package connector

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	partition   = 0
)

var (
	start  = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)
	secret = config.Secret("whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")))
)

// fakeClock passes only when somebody sleeps: a pause of five minutes takes no time, and the time after it has come.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() == nil {
		c.advance(d)
	}
	return ctx.Err()
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// receiver is a CRM that checks signatures and answers as it is told.
type receiver struct {
	t       *testing.T
	clock   *fakeClock
	server  *httptest.Server
	answers func(n int, w http.ResponseWriter, r *http.Request) // n counts the calls from 1

	mu    sync.Mutex
	calls []call
}

type call struct {
	id, trace string
	customer  string
	at        time.Time
	body      string
}

func newReceiver(t *testing.T, c *fakeClock, answers func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	r := &receiver{t: t, clock: c, answers: answers}
	verify, err := standardwebhooks.NewWebhook(string(secret))
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		if err := verify.VerifyIgnoringTimestamp(body, req.Header); err != nil {
			t.Errorf("the signature does not verify: %v", err)
		}
		// While this call is under way others sleep, and the clock goes on.
		signed, err := strconv.ParseInt(req.Header.Get("webhook-timestamp"), 10, 64)
		if age := c.Now().Unix() - signed; err != nil || age < 0 || age > 1800 {
			t.Errorf("signed %d seconds before the call: %v", age, err)
		}
		var message struct {
			Data struct{ Customer string }
		}
		if err := json.Unmarshal(body, &message); err != nil {
			t.Errorf("the body is no JSON: %v", err)
		}
		r.mu.Lock()
		r.calls = append(r.calls, call{req.Header.Get("webhook-id"), req.Header.Get("traceparent"), message.Data.Customer, c.Now(), string(body)})
		n := len(r.calls)
		r.mu.Unlock()
		if r.answers != nil {
			r.answers(n, w, req)
		}
	}))
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) received() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call{}, r.calls...)
}

// statuses answers the calls with one status after the other, the last one for ever.
func statuses(codes ...int) func(int, http.ResponseWriter, *http.Request) {
	return func(n int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(codes[min(n, len(codes))-1]) }
}

// needed are the topics that a connector needs.
var needed = []string{topics.Decisions, topics.Outcomes, topics.DeadLetter(topics.Decisions), topics.Events, topics.Attributes, topics.Consents, topics.Erasures, topics.Policies}

// fixture is a connector on a log in memory with one partition.
type fixture struct {
	t        *testing.T
	log      *streamtest.Log
	clock    *fakeClock
	receiver *receiver
	run      stream.Run
	webhook  webhook.Config
	target   *target // nil: the webhook
	events   int     // written so far
}

func newFixture(t *testing.T, run stream.Run, answers func(n int, w http.ResponseWriter, r *http.Request)) *fixture {
	f := &fixture{t: t, log: streamtest.NewLog(), clock: &fakeClock{now: start}, run: run}
	f.receiver = newReceiver(t, f.clock, answers)
	for _, name := range needed {
		f.log.Create(run.Topic(name), stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	}
	f.inForce(uncapped)
	f.webhook = webhook.Config{URL: f.receiver.server.URL, Secret: secret, Calls: crm.Calls{Name: "webhook", Timeout: 15 * time.Second, Concurrency: 4, AllowPrivate: true}}
	if run.Simulated {
		f.webhook.URL, f.webhook.AllowPrivate = "", false
	}
	return f
}

// uncapped is a policy under which customers may be written to again at once: most tests are of something else.
func uncapped(p *decision.Policy) {
	p.CapPerDay, p.CapPerWeek, p.Gap, p.Collision = 0, 0, 0, 0
	for name, c := range p.Channels {
		c.CapPerDay, c.CapPerWeek, c.Gap = 0, 0, 0
		p.Channels[name] = c
	}
}

// policyRecord is the default policy with a change, as it stands on send.policies.v1.
func policyRecord(change func(p *decision.Policy)) []byte {
	p := decision.Default()
	change(&p)
	e := stream.Event{ID: "pl-" + p.Version, Source: "/test", Type: decision.PolicyType, Time: start, Data: p.Append(nil)}
	return e.Append(nil)
}

// inForce puts the default policy with a change in force.
func (f *fixture) inForce(change func(p *decision.Policy)) {
	f.log.Append(f.run.Topic(topics.Policies), partition, stream.Message{Value: policyRecord(change), Time: start.Add(-1000 * time.Hour)})
}

// service makes a connector as Run does.
func (f *fixture) service() *service {
	f.t.Helper()
	mode := "live"
	if f.run.Simulated {
		mode = "simulated"
	}
	target, err := newTarget(Config{Webhook: f.webhook, Run: config.Run{Mode: mode}})
	if err != nil {
		f.t.Fatal(err)
	}
	if target.client != nil {
		f.t.Cleanup(target.client.CloseIdleConnections)
	}
	if f.target != nil {
		target = f.target
	}
	m, err := newMetrics(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return &service{
		log: f.log, run: f.run, name: f.webhook.Name, target: target, metrics: m, tracer: nooptrace.Tracer{},
		health: &app.Health{}, logger: slog.New(slog.DiscardHandler), clock: f.clock,
	}
}

// decide writes a decision about a customer, which lives for half an hour from at.
func (f *fixture) decide(id, customer string, at time.Time) {
	f.write(id, customer, decision.SendNowType, at, decision.Decision{Reason: decision.Burst, NotBefore: at, ExpiresAt: at.Add(30 * time.Minute), Channel: "email"})
}

func (f *fixture) write(id, customer, typ string, at time.Time, d decision.Decision) {
	e := stream.Event{ID: id, Source: "/tempismo/decider/r1/timing.deviations.v1/0", Type: typ, Subject: customer, Time: at, Traceparent: traceparent, Data: d.Append(nil)}
	f.log.Append(f.run.Topic(topics.Decisions), partition, stream.Message{Key: []byte(customer), Value: e.Append(nil), Time: f.clock.Now()})
}

// serve runs the connector until all decisions are done, as the group's offset says, and stops it.
func (f *fixture) serve() *service {
	f.t.Helper()
	s := f.service()
	f.serveAs(s)
	return s
}

// serveAs is serve for a connector that differs from that of Run.
func (f *fixture) serveAs(s *service) {
	f.t.Helper()
	f.serveUntil(s, func() bool {
		_, end, err := f.log.Bounds(f.t.Context(), f.run.Topic(topics.Decisions), partition)
		return err == nil && f.offset() == end
	})
}

// serveUntil runs a connector until ok holds.
func (f *fixture) serveUntil(s *service, ok func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	f.await(ok)
	cancel()
	if err := <-ended; err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) offset() int64 {
	return f.log.Offsets(f.run.Group(Service), f.run.Topic(topics.Decisions))[partition]
}

// await waits until ok holds; what it waits for happens on other goroutines.
func (f *fixture) await(ok func() bool) {
	f.t.Helper()
	for range 10_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	f.t.Fatal("it never happened")
}

// outcomes reads what the connector wrote about a decision, as "result/attempts".
func (f *fixture) outcomes(id string) string {
	f.t.Helper()
	var all []string
	for _, o := range f.all() {
		if o.Decision == id {
			all = append(all, fmt.Sprintf("%s/%d", o.Result, o.Attempts))
		}
	}
	return strings.Join(all, " ")
}

// A decider that has lost what it knew learns from outcomes which requests are over.
func TestOutcomesNameTheRequestThatWasReleased(t *testing.T) {
	f := newFixture(t, live(), nil)
	f.write("d-1", "C-1", decision.SendNowType, start, decision.Decision{Reason: decision.BestSlot, Request: "r-1", NotBefore: start, ExpiresAt: start.Add(30 * time.Minute), Channel: "email"})
	f.serve()
	all := f.all()
	if len(all) != 2 || all[0].Request != "r-1" || all[1].Request != "r-1" {
		t.Errorf("got %+v", all)
	}
}

func (f *fixture) all() []decision.Outcome {
	f.t.Helper()
	var all []decision.Outcome
	for _, r := range f.log.Records(f.run.Topic(topics.Outcomes), partition) {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			f.t.Fatal(err)
		}
		var o decision.Outcome
		if err := o.Parse(e.Data); err != nil || e.Type != decision.OutcomeType || e.Subject != string(r.Key) || e.Traceparent != traceparent {
			f.t.Errorf("outcome %s: %v", r.Value, err)
		}
		all = append(all, o)
	}
	return all
}

// detail is that of the last outcome.
func (f *fixture) detail() string {
	all := f.all()
	return all[len(all)-1].Detail
}

func live() stream.Run { return stream.Run{ID: "r1"} }

func TestADecisionReachesTheWebhookOnce(t *testing.T) {
	f := newFixture(t, live(), nil)
	f.decide("d-1", "C-1", start)
	f.serve()
	calls := f.receiver.received()
	if len(calls) != 1 || calls[0].id != "d-1" || calls[0].customer != "C-1" {
		t.Fatalf("got %+v", calls)
	}
	if !strings.HasPrefix(calls[0].trace, "00-0af7651916cd43dd8448eb211c80319c-") {
		t.Errorf("traceparent %q does not go on with the trace of the decision", calls[0].trace)
	}
	const body = `{"type":"io.tempismo.decision.send_now.v1","timestamp":"2026-12-03T09:41:52Z","data":{"id":"d-1","customer":"C-1","decision":{"reason":"burst",`
	if !strings.HasPrefix(calls[0].body, body) {
		t.Errorf("body %s", calls[0].body)
	}
	if got := f.outcomes("d-1"); got != "attempting/1 accepted/1" {
		t.Errorf("outcomes %s", got)
	}
}

func TestTheIntentIsThereBeforeTheCall(t *testing.T) {
	var f *fixture
	f = newFixture(t, live(), func(int, http.ResponseWriter, *http.Request) {
		if got := f.outcomes("d-1"); got != "attempting/1" {
			t.Errorf("called when the outcomes were %q", got)
		}
	})
	f.decide("d-1", "C-1", start)
	f.serve()
}

func TestAnswers(t *testing.T) {
	wait := func(header string, codes ...int) func(int, http.ResponseWriter, *http.Request) {
		return func(n int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", header)
			statuses(codes...)(n, w, r)
		}
	}
	rows := []struct {
		name     string
		answers  func(int, http.ResponseWriter, *http.Request)
		outcomes string
		detail   string
		last     time.Duration // from the start to the last call: at least, and at most a tenth more
	}{
		{"a yes is accepted", statuses(204), "attempting/1 accepted/1", "", 0},
		{"a server error is tried again after five seconds", statuses(500, 200), "attempting/1 attempting/2 accepted/2", "", 5 * time.Second},
		{"and again after five minutes", statuses(500, 503, 200), "attempting/1 attempting/2 attempting/3 accepted/3", "", 5*time.Minute + 5*time.Second},
		{"a next pause beyond the expiry ends it at once, and who answered with an error may have it", statuses(500), "attempting/1 attempting/2 attempting/3 unknown/3", "HTTP 500", 5*time.Minute + 5*time.Second},
		{"Retry-After in seconds is honoured", wait("90", 429, 200), "attempting/1 attempting/2 accepted/2", "", 90 * time.Second},
		{"Retry-After as a date is honoured", wait("Thu, 03 Dec 2026 09:43:52 GMT", 503, 200), "attempting/1 attempting/2 accepted/2", "", 2 * time.Minute},
		{"Retry-After beyond the expiry ends it", wait("3600", 429, 200), "attempting/1 expired/1", "HTTP 429", 0},
		{"a no is final", statuses(400), "attempting/1 refused/1", "HTTP 400", 0},
		{"an unknown caller is refused", statuses(401), "attempting/1 refused/1", "HTTP 401", 0},
		{"a redirect is a failure and is not followed", func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			}
		}, "attempting/1 attempting/2 accepted/2", "", 5 * time.Second},
		{"a request timeout is tried again", statuses(408, 200), "attempting/1 attempting/2 accepted/2", "", 5 * time.Second},
		{"a connection that breaks is tried again with the same id", func(n int, _ http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
		}, "attempting/1 attempting/2 accepted/2", "", 5 * time.Second},
		{"one that always breaks ends unknown: it may have been taken", func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"attempting/1 attempting/2 attempting/3 unknown/3", "connection lost", 5*time.Minute + 5*time.Second},
		{"one that broke once and was then answered no more stays unknown", func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(500)
		}, "attempting/1 attempting/2 attempting/3 unknown/3", "HTTP 500", 5*time.Minute + 5*time.Second},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting for the next fetch
			f := newFixture(t, live(), r.answers)
			f.decide("d-1", "C-1", start)
			f.serve()
			if got := f.outcomes("d-1"); got != r.outcomes {
				t.Fatalf("outcomes %s, want %s", got, r.outcomes)
			}
			if got := f.detail(); got != r.detail {
				t.Errorf("detail %q, want %q", got, r.detail)
			}
			calls := f.receiver.received()
			for _, c := range calls {
				if c.id != "d-1" || c.body != calls[0].body {
					t.Errorf("an attempt differs from the first: %+v", c)
				}
			}
			if after := calls[len(calls)-1].at.Sub(start); after < r.last || after > r.last+r.last/10 {
				t.Errorf("the last call came after %v, want %v and at most a tenth more", after, r.last)
			}
		})
	}
}

// TestARestHoldsForWhoWaitsForHisTurn: a target that has asked to be left alone is not called by those who waited for the rate,
// or for others' calls to end, when it did.
func TestARestHoldsForWhoWaitsForHisTurn(t *testing.T) {
	f := newFixture(t, live(), func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	f.webhook.Concurrency, f.webhook.Rate = 1, 1 // one is called, one may wait for the rate, and the others for him
	for i := range 5 {
		f.decide(fmt.Sprintf("d-%d", i), fmt.Sprintf("C-%d", i), start)
	}
	f.serve()
	calls := f.receiver.received()
	if len(calls) != 6 {
		t.Fatalf("%d calls, want one for each of five decisions and one again", len(calls))
	}
	for i, c := range calls[1:] {
		if after := c.at.Sub(calls[0].at); after < 60*time.Second {
			t.Errorf("call %d came %v after the target had asked for a minute", i+2, after)
		}
	}
}

// TestCallsAreSpacedWhateverTheirIntentsTake: turns that were given one after the other, and whose intents were acknowledged together,
// are not calls at one time.
func TestCallsAreSpacedWhateverTheirIntentsTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, began := newGate(2, false), time.Now()
		acknowledged := make(chan struct{})
		var at []time.Duration
		var mu sync.Mutex
		var calls sync.WaitGroup
		for range 5 {
			if err := g.turn(t.Context(), wall{}); err != nil {
				t.Fatal(err)
			}
			calls.Go(func() {
				<-acknowledged
				if err := g.space(t.Context(), wall{}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				at = append(at, time.Since(began))
				mu.Unlock()
			})
		}
		close(acknowledged)
		calls.Wait()
		for i := range at[1:] {
			if apart := at[i+1] - at[i]; apart < 499*time.Millisecond {
				t.Errorf("call %d comes %v after the one before, at most two a second are allowed", i+1, apart)
			}
		}
	})
}

// TestProcessesShareTheRate: whatever partitions go from one process to the other, together they call as often as one alone may.
func TestProcessesShareTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all, most, lasts = 8, 40, 10 * time.Second
		gates := []*gate{newGate(most, false), newGate(most, false), newGate(most, false)}
		for p := range all {
			gates[p%2].own(time.Now(), 1, all) // the third has nothing yet
		}
		count := func(busy ...*gate) (calls int) {
			ctx, cancel := context.WithTimeout(t.Context(), lasts)
			defer cancel()
			var mu sync.Mutex
			var group sync.WaitGroup
			for _, g := range busy {
				group.Go(func() {
					for g.turn(ctx, wall{}) == nil && g.space(ctx, wall{}) == nil {
						mu.Lock()
						calls++
						mu.Unlock()
					}
				})
			}
			group.Wait()
			return calls
		}
		const want = int(most * lasts / time.Second)
		if got := count(gates[:2]...); got < want*95/100 || got > want+2 {
			t.Errorf("two processes made %d calls, want %d", got, want)
		}
		for range 3 {
			gates[0].own(time.Now(), -1, all)
			gates[2].own(time.Now(), 1, all)
		}
		if got := count(gates...); got < want*95/100 || got > want+3 {
			t.Errorf("three processes made %d calls, want %d", got, want)
		}
		if got := count(gates[0]); got < want/all*95/100 || got > want/all+1 {
			t.Errorf("the process with one partition made %d calls, want %d", got, want/all)
		}
		var nobody *gate
		nobody.own(time.Now(), 1, all)
		free := newGate(0, false)
		free.own(time.Now(), 1, all)
		if wait := free.spare(time.Now()); wait != 0 {
			t.Errorf("a target without a limit has to be waited for: %v", wait)
		}
	})
}

// TestARestIsHeededBetweenIntentAndCall: a target that asks to be left alone while an intent is being written is not called for it.
func TestARestIsHeededBetweenIntentAndCall(t *testing.T) {
	g := newGate(0, true)
	for range breakAfter { // it is broken as well, which is no reason for the one who tries it not to
		g.enter(start)
		g.note(crm.Answer{Verdict: crm.Unknown}, start, start)
	}
	later := start.Add(breakMost)
	if !g.enter(later) || g.rests(later) {
		t.Error("who was let in to try the target is kept from it")
	}
	g.pause(later.Add(time.Minute))
	if !g.rests(later) || g.rests(later.Add(time.Minute)) {
		t.Error("a rest that was asked for meanwhile does not count")
	}
}

func TestAnAnswerThatDoesNotComeInTime(t *testing.T) {
	release := make(chan struct{})
	f := newFixture(t, live(), func(n int, _ http.ResponseWriter, r *http.Request) {
		if n == 1 {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	})
	defer close(release)
	f.webhook.Timeout = 100 * time.Millisecond
	f.decide("d-1", "C-1", start)
	f.serve()
	if got := f.outcomes("d-1"); got != "attempting/1 attempting/2 accepted/2" {
		t.Errorf("outcomes %s", got)
	}
}

func TestNobodyListens(t *testing.T) {
	f := newFixture(t, live(), nil)
	f.receiver.server.Close()
	f.decide("d-1", "C-1", start)
	f.serve()
	if got := f.outcomes("d-1"); got != "attempting/1 attempting/2 attempting/3 expired/3" || f.detail() != "no connection" {
		t.Errorf("outcomes %s, detail %s: where nobody could be reached nothing was sent", got, f.detail())
	}
}

func TestGoneDisablesTheTarget(t *testing.T) {
	f := newFixture(t, live(), statuses(410))
	f.webhook.Concurrency = 1
	f.decide("d-1", "C-1", start)
	s := f.serve()
	f.decide("d-2", "C-2", start)
	if got := f.outcomes("d-1"); got != "attempting/1 refused/1" {
		t.Errorf("outcomes %s", got)
	}
	if ready, components := s.health.State(); ready || components["target"].OK {
		t.Errorf("health %+v", components)
	}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	f.await(func() bool { return f.outcomes("d-2") != "" })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := f.outcomes("d-2"); got != "refused/0" {
		t.Errorf("after a 410 the next decision has the outcomes %s", got)
	}
	if calls := f.receiver.received(); len(calls) != 1 {
		t.Errorf("%d calls, want none after the first", len(calls))
	}
}

func TestOnlyWhatIsDueIsCalled(t *testing.T) {
	rows := []struct {
		name     string
		write    func(f *fixture)
		outcomes string
		letter   string // part of the reason
	}{
		{"an expired decision is not carried out", func(f *fixture) { f.decide("d-1", "C-1", start.Add(-30*time.Minute)) }, "expired/0", ""},
		{"a blocked decision asks for nothing", func(f *fixture) {
			f.write("d-1", "C-1", decision.BlockedType, start, decision.Decision{Reason: decision.QuietHours})
		}, "", ""},
		{"nor does one that waits, is held out or has ended", func(f *fixture) {
			for _, typ := range []string{decision.WaitType, decision.HeldOutType, decision.ExpiredType, decision.CancelledType} {
				f.write("d-1", "C-1", typ, start, decision.Decision{Reason: decision.BestSlot, Request: "r-1", ExpiresAt: start.Add(30 * time.Minute)})
			}
		}, "", ""},
		{"an unreadable decision is a dead letter", func(f *fixture) {
			f.log.Append(f.run.Topic(topics.Decisions), partition, stream.Message{Key: []byte("C-1"), Value: []byte("{"), Headers: []stream.Header{{Key: "sequence", Value: []byte("7")}}})
		}, "", "cloudevent"},
		{"a send-now without expiry is a dead letter", func(f *fixture) {
			f.write("d-1", "C-1", decision.SendNowType, start, decision.Decision{Reason: decision.Burst})
		}, "", "expires_at"},
		{"a send-now that outlives the ledger is a dead letter", func(f *fixture) {
			f.write("d-1", "C-1", decision.SendNowType, start, decision.Decision{Reason: decision.Burst, ExpiresAt: start.Add(25 * time.Hour)})
		}, "", "expires_at"},
		{"a send-now to nobody is a dead letter", func(f *fixture) { f.decide("d-1", "", start) }, "", "subject"},
		{"what is no decision is a dead letter", func(f *fixture) {
			f.write("d-1", "C-1", "io.tempismo.deviation.v1", start, decision.Decision{Reason: decision.Burst})
		}, "", "type"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel() // as above
			f := newFixture(t, live(), nil)
			r.write(f)
			f.serve()
			if got := f.outcomes("d-1"); got != r.outcomes {
				t.Errorf("outcomes %q, want %q", got, r.outcomes)
			}
			if calls := f.receiver.received(); len(calls) != 0 {
				t.Errorf("was called: %+v", calls)
			}
			letters := f.log.Records(topics.DeadLetter(topics.Decisions), partition)
			if r.letter == "" && len(letters) != 0 || r.letter != "" && len(letters) != 1 {
				t.Fatalf("%d dead letters", len(letters))
			}
			if r.letter == "" {
				return
			}
			in := f.log.Records(topics.Decisions, partition)[0]
			if string(letters[0].Value) != string(in.Value) || string(letters[0].Key) != string(in.Key) {
				t.Errorf("the dead letter is not the original: %s", letters[0].Value)
			}
			headers := map[string]string{}
			for _, h := range letters[0].Headers {
				headers[h.Key] = string(h.Value)
			}
			if len(in.Headers) > 0 && headers["sequence"] != "7" {
				t.Errorf("the original's headers are missing: %v", headers)
			}
			if !strings.Contains(headers["__connect.errors.exception.message"], r.letter) || headers["__connect.errors.topic"] != topics.Decisions || headers["__connect.errors.offset"] != "0" {
				t.Errorf("headers %v", headers)
			}
		})
	}
}

func TestCopiesOfADecision(t *testing.T) {
	f := newFixture(t, live(), nil)
	f.decide("d-1", "C-1", start)
	f.decide("d-1", "C-1", start)
	f.serve()
	t.Log("a third copy comes after a restart, and long after the decision's life")
	f.clock.advance(time.Hour)
	f.decide("d-1", "C-1", start)
	f.serve()
	if calls := f.receiver.received(); len(calls) != 1 {
		t.Errorf("%d calls, want 1", len(calls))
	}
	if got := f.outcomes("d-1"); got != "attempting/1 accepted/1" {
		t.Errorf("outcomes %s", got)
	}
}

// TestTheLedgerIsAllThatCounts: the group's offset is lost, every decision is read again, and nobody is called again.
func TestTheLedgerIsAllThatCounts(t *testing.T) {
	f := newFixture(t, live(), nil)
	for i := range 40 {
		f.decide(fmt.Sprintf("d-%d", i), fmt.Sprintf("C-%d", i%7), start)
	}
	f.serve()
	decisions := f.log.Records(topics.Decisions, partition)
	f.log.Create(topics.Decisions, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	for _, r := range decisions[:30] { // shorter than the offset, too: it lies outside the log now
		f.log.Append(topics.Decisions, partition, stream.Message{Key: r.Key, Value: r.Value, Time: r.Time})
	}
	f.serve()
	if calls := f.receiver.received(); len(calls) != 40 {
		t.Errorf("%d calls for 40 decisions", len(calls))
	}
}

func TestACrashBetweenIntentAndResult(t *testing.T) {
	intent := func(f *fixture, attempts int) {
		o := decision.Outcome{Decision: "d-1", Connector: "webhook", Result: decision.Attempting, Attempts: attempts}
		e := stream.Event{ID: "o-1", Source: "/tempismo/connector/r1/webhook", Type: decision.OutcomeType, Subject: "C-1", Time: f.clock.Now(), Traceparent: traceparent, Data: o.Append(nil)}
		f.log.Append(topics.Outcomes, partition, stream.Message{Key: []byte("C-1"), Value: e.Append(nil), Time: f.clock.Now()})
	}
	t.Run("the successor calls again with the same id", func(t *testing.T) {
		f := newFixture(t, live(), nil)
		f.decide("d-1", "C-1", start)
		intent(f, 1)
		f.clock.advance(time.Minute)
		f.serve()
		if got := f.outcomes("d-1"); got != "attempting/1 attempting/2 accepted/2" {
			t.Errorf("outcomes %s", got)
		}
		if calls := f.receiver.received(); len(calls) != 1 || calls[0].id != "d-1" {
			t.Errorf("calls %+v", calls)
		}
	})
	t.Run("once it has expired nobody can know what happened", func(t *testing.T) {
		f := newFixture(t, live(), nil)
		f.decide("d-1", "C-1", start)
		intent(f, 1)
		f.clock.advance(30 * time.Minute)
		f.serve()
		if got := f.outcomes("d-1"); got != "attempting/1 unknown/1" || len(f.receiver.received()) != 0 {
			t.Errorf("outcomes %s, %d calls", got, len(f.receiver.received()))
		}
	})
	t.Run("another connector's intent is not ours", func(t *testing.T) {
		f := newFixture(t, live(), nil)
		f.decide("d-1", "C-1", start)
		intent(f, 1)
		f.webhook.Name = "crm2"
		f.serve()
		if got := f.outcomes("d-1"); got != "attempting/1 attempting/1 accepted/1" {
			t.Errorf("outcomes %s", got)
		}
	})
}

// TestAZombieDoesNotCall: an owner who slept through the loss of his partition finds out before he calls, although his
// intent was already written.
func TestAZombieDoesNotCall(t *testing.T) {
	f := newFixture(t, live(), nil)
	zombie := f.service()
	zombie.clock = patient{f.clock}
	zombie.log = &sleeper{Log: f.log}
	f.decide("d-1", "C-1", start)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- zombie.serve(ctx) }()
	f.await(func() bool { return f.outcomes("d-1") == "attempting/1" })

	t.Log("the successor carries the decision out")
	f.serve()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if calls := f.receiver.received(); len(calls) != 1 {
		t.Errorf("%d calls, want the successor's only", len(calls))
	}
	if got := f.outcomes("d-1"); got != "attempting/1 attempting/2 accepted/2" {
		t.Errorf("outcomes %s", got)
	}
}

// sleeper loses its partition just before the first outcome is written, without being told.
type sleeper struct {
	*streamtest.Log
	assigned stream.Assignment
	once     sync.Once
}

func (s *sleeper) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return s.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) {
		s.assigned = a
		work(ctx, a)
	})
}

func (s *sleeper) Producer(ctx context.Context) (stream.Producer, error) {
	p, err := s.Log.Producer(ctx)
	return sleepingProducer{p, s}, err
}

type sleepingProducer struct {
	stream.Producer
	s *sleeper
}

func (p sleepingProducer) Produce(ctx context.Context, topic string, pt int32, m []stream.Message) (int64, error) {
	p.s.once.Do(func() { p.s.Expel(p.s.assigned) })
	return p.Producer.Produce(ctx, topic, pt, m)
}

// TestOneCustomerOneAfterTheOther: the calls of one customer keep their order although the first has to be repeated, and
// other customers do not wait for it.
func TestOneCustomerOneAfterTheOther(t *testing.T) {
	f := newFixture(t, live(), func(n int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-id") == "d-0" && n < 10 {
			w.WriteHeader(500)
		}
	})
	for i := range 60 {
		f.decide(fmt.Sprintf("d-%d", i), fmt.Sprintf("C-%d", i%6), start)
	}
	f.serve()
	last := map[string]int{}
	for _, c := range f.receiver.received() {
		var i int
		if _, err := fmt.Sscanf(c.id, "d-%d", &i); err != nil {
			t.Fatal(err)
		}
		if before, ok := last[c.customer]; ok && i < before {
			t.Errorf("%s got d-%d after d-%d", c.customer, i, before)
		}
		last[c.customer] = i
	}
	for i := range 60 {
		if got := f.outcomes(fmt.Sprintf("d-%d", i)); !strings.HasSuffix(got, "accepted/1") && i > 0 {
			t.Errorf("d-%d has the outcomes %s", i, got)
		}
	}
}

// TestShutdownDuringACall: a call that is under way when the service is told to stop gets its result.
func TestShutdownDuringACall(t *testing.T) {
	calling, answer := make(chan struct{}), make(chan struct{})
	f := newFixture(t, live(), func(int, http.ResponseWriter, *http.Request) {
		close(calling)
		<-answer
	})
	s := f.service()
	s.clock = patient{f.clock}
	f.decide("d-1", "C-1", start)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	<-calling
	cancel()
	close(answer)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := f.outcomes("d-1"); got != "attempting/1 accepted/1" {
		t.Errorf("outcomes %s", got)
	}
}

// patient is a clock on which no pause ends by itself, the grace period neither.
type patient struct{ *fakeClock }

func (p patient) Sleep(ctx context.Context, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestASimulatedRun(t *testing.T) {
	run := stream.Run{ID: "town", Simulated: true}
	t.Run("calls nobody", func(t *testing.T) {
		f := newFixture(t, run, nil)
		f.webhook.URL, f.webhook.AllowPrivate = f.receiver.server.URL, true
		f.decide("d-1", "C-1", start)
		f.serve()
		if got := f.outcomes("d-1"); got != "not_live/0" || len(f.receiver.received()) != 0 {
			t.Errorf("outcomes %s, %d calls", got, len(f.receiver.received()))
		}
	})
	t.Run("calls its own receiver, by the clock of its events", func(t *testing.T) {
		f := newFixture(t, run, nil)
		f.webhook.SimulatedTarget = f.receiver.server.URL
		f.clock.advance(365 * 24 * time.Hour) // the town lives in the past
		for i := range 5 {
			f.decide(fmt.Sprintf("d-%d", i), "C-1", start.AddDate(0, 0, i))
		}
		f.decide("d-late", "C-2", start)
		f.serve()
		for i := range 5 {
			if got := f.outcomes(fmt.Sprintf("d-%d", i)); got != "attempting/1 accepted/1" {
				t.Errorf("d-%d: outcomes %s", i, got)
			}
		}
		if got := f.outcomes("d-late"); got != "expired/0" {
			t.Errorf("what comes days late in event time has the outcomes %s", got)
		}
	})
}

func TestPartitionCountsMustAgree(t *testing.T) {
	f := newFixture(t, live(), nil)
	f.log.Create(topics.Outcomes, stream.TopicInfo{Partitions: 2})
	if err := f.service().serve(t.Context()); err == nil || !strings.Contains(err.Error(), "2") {
		t.Errorf("got %v", err)
	}
}

// TestFaultsOfTheLog: produce, fetch and open fail now and then, and every decision is still carried out once.
func TestFaultsOfTheLog(t *testing.T) {
	f := newFixture(t, live(), nil)
	s := f.service()
	s.log = &faulty{Log: f.log}
	for i := range 50 {
		f.decide(fmt.Sprintf("d-%d", i), fmt.Sprintf("C-%d", i%9), start)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	f.await(func() bool { return f.offset() == 50 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if calls := f.receiver.received(); len(calls) != 50 {
		t.Errorf("%d calls for 50 decisions", len(calls))
	}
}

// faulty fails every third time that something is asked of the log.
type faulty struct {
	*streamtest.Log
	mu sync.Mutex
	n  int
}

func (f *faulty) fail() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.n%3 == 0 {
		return fmt.Errorf("fault %d", f.n)
	}
	return nil
}

func (f *faulty) Open(ctx context.Context, topic string, p int32, offset int64) (stream.Cursor, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	c, err := f.Log.Open(ctx, topic, p, offset)
	return faultyCursor{c, f}, err
}

func (f *faulty) Producer(ctx context.Context) (stream.Producer, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	p, err := f.Log.Producer(ctx)
	return faultyProducer{p, f}, err
}

type faultyCursor struct {
	stream.Cursor
	f *faulty
}

func (c faultyCursor) Fetch(ctx context.Context, n int, wait time.Duration) ([]stream.Record, error) {
	if err := c.f.fail(); err != nil {
		return nil, err
	}
	return c.Cursor.Fetch(ctx, n, wait)
}

type faultyProducer struct {
	stream.Producer
	f *faulty
}

func (p faultyProducer) Produce(ctx context.Context, topic string, pt int32, m []stream.Message) (int64, error) {
	if err := p.f.fail(); err != nil {
		return 0, err
	}
	return p.Producer.Produce(ctx, topic, pt, m)
}
