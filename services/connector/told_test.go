package connector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// say writes what a customer has said, as of the clock.
func (f *fixture) say(topic, who, typ string, data []byte) {
	e := stream.Event{ID: "s-" + who, Source: "/test", Type: typ, Subject: who, Time: f.clock.Now(), Data: data}
	f.log.Append(f.run.Topic(topic), partition, stream.Message{Key: []byte(who), Value: e.Append(nil), Time: f.clock.Now()})
}

// mailing tells an answer of the instant at by customer.consents.v1.
func (f *fixture) mailing(who, channel string, granted bool, at time.Time) {
	a := customer.Answer{Mailing: &customer.Consent{Granted: granted, At: at}, Channel: channel}
	f.say(topics.Consents, who, customer.ConsentType, a.Append(nil))
}

// attributes tells an answer by customer.attributes.v1.
func (f *fixture) attributes(who string, granted bool, at time.Time) {
	a := customer.Attributes{Consents: customer.Consents{Mailing: &customer.Consent{Granted: granted, At: at}}}
	f.say(topics.Attributes, who, customer.Type, a.Append(nil))
}

func (f *fixture) erase(who string, signals ...string) {
	e := customer.Erasure{Signals: signals, Before: f.clock.Now()}
	f.say(topics.Erasures, who, customer.ErasureType, e.Append(nil))
}

// decideBy writes a decision whose decider had read the topics up to the given positions.
func (f *fixture) decideBy(id, who string, positions map[string]string) {
	at := f.clock.Now()
	f.write(id, who, decision.SendNowType, at, decision.Decision{
		Reason: decision.Burst, NotBefore: at, ExpiresAt: at.Add(30 * time.Minute), Channel: "email", MadeFrom: decision.MadeFrom{Positions: positions},
	})
}

func TestTheLastMoment(t *testing.T) {
	earlier := start.Add(-time.Hour)
	rows := []struct {
		name   string
		said   func(f *fixture)
		known  map[string]string // how far the decider had read
		detail string            // part of it; empty: it is sent
	}{
		{"nothing was said", func(*fixture) {}, nil, ""},
		{"a refusal of every channel", func(f *fixture) { f.mailing("C-1", "", false, start) }, nil, "mail was refused at 2026-12-03T09:41:52Z, for every channel"},
		{"a refusal of this channel", func(f *fixture) { f.mailing("C-1", "email", false, start) }, nil, "for email"},
		{"of another channel", func(f *fixture) { f.mailing("C-1", "sms", false, start) }, nil, ""},
		{"of another customer", func(f *fixture) { f.mailing("C-2", "", false, start) }, nil, ""},
		{"among the attributes", func(f *fixture) { f.attributes("C-1", false, start) }, nil, "every channel"},
		{"taken back later", func(f *fixture) { f.mailing("C-1", "", false, earlier); f.attributes("C-1", true, start) }, nil, ""},
		{"of later than a yes that is told after it", func(f *fixture) { f.mailing("C-1", "email", false, start); f.attributes("C-1", true, earlier) }, nil, "for email"},
		{"of the same instant as a yes", func(f *fixture) { f.mailing("C-1", "email", true, start); f.attributes("C-1", false, start) }, nil, "every channel"},
		{"of pixels", func(f *fixture) {
			a := customer.Answer{Pixel: &customer.Consent{At: start}}
			f.say(topics.Consents, "C-1", customer.ConsentType, a.Append(nil))
		}, nil, ""},
		{"which the decider knew, and a yes that came before", func(f *fixture) { f.mailing("C-1", "", false, start) }, map[string]string{topics.Consents: "0:0"}, ""},
		{"of after what the decider had read", func(f *fixture) { f.mailing("C-2", "", false, start); f.mailing("C-1", "", false, start) }, map[string]string{topics.Consents: "0:0"}, "every channel"},
		{"positions of another partition say nothing", func(f *fixture) { f.mailing("C-1", "", false, start) }, map[string]string{topics.Consents: "1:9"}, "every channel"},
		{"an erasure", func(f *fixture) { f.erase("C-1", customer.SignalAll) }, nil, "was erased"},
		{"an erasure that the decider knew", func(f *fixture) { f.erase("C-1", customer.SignalAll) }, map[string]string{topics.Erasures: "0:0"}, ""},
		{"an erasure of what pixels told", func(f *fixture) { f.erase("C-1", customer.SignalOpen) }, nil, ""},
		{"attributes that are deleted", func(f *fixture) {
			f.log.Append(topics.Attributes, partition, stream.Message{Key: []byte("C-1"), Time: start})
		}, nil, ""},
		{"what cannot be read is not heeded", func(f *fixture) { f.say(topics.Consents, "C-1", customer.ConsentType, []byte(`{"mailing":"no"}`)) }, nil, ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting for the next fetch
			f := newFixture(t, live(), nil)
			r.said(f)
			f.decideBy("d-1", "C-1", r.known)
			f.serve()
			want, calls := "suppressed/0", 0
			if r.detail == "" {
				want, calls = "attempting/1 accepted/1", 1
			}
			if got := f.outcomes("d-1"); got != want || len(f.receiver.received()) != calls || !strings.Contains(f.detail(), r.detail) {
				t.Errorf("outcomes %s, detail %q, %d calls", got, f.detail(), len(f.receiver.received()))
			}
		})
	}
}

// A run that was moved to other partitions has decisions of the run before it, whose positions are of other topics.
func TestPositionsOfAnotherRunSayNothing(t *testing.T) {
	f := newFixture(t, stream.Run{ID: "r2"}, nil)
	f.mailing("C-1", "", false, start)
	f.decideBy("d-1", "C-1", map[string]string{topics.Consents: "0:9"})
	f.serve()
	if got := f.outcomes("d-1"); got != "suppressed/0" {
		t.Errorf("outcomes %s", got)
	}
}

// TestWhatIsSaidWhileItWaits: a refusal that comes between two attempts is heeded, and so is one that comes between the
// intent and the call.
func TestWhatIsSaidWhileItWaits(t *testing.T) {
	t.Run("between two attempts", func(t *testing.T) {
		var f *fixture
		f = newFixture(t, live(), func(n int, w http.ResponseWriter, _ *http.Request) {
			f.mailing("C-1", "email", false, f.clock.Now())
			w.WriteHeader(429) // nothing was taken
		})
		f.decide("d-1", "C-1", start)
		f.serve()
		if got := f.outcomes("d-1"); got != "attempting/1 suppressed/1" {
			t.Errorf("outcomes %s", got)
		}
	})
	t.Run("after a call of which nobody knows whether it was taken", func(t *testing.T) {
		var f *fixture
		f = newFixture(t, live(), func(int, http.ResponseWriter, *http.Request) {
			f.mailing("C-1", "email", false, f.clock.Now())
			panic(http.ErrAbortHandler)
		})
		f.decide("d-1", "C-1", start)
		f.serve()
		if got := f.outcomes("d-1"); got != "attempting/1 unknown/1" || !strings.Contains(f.detail(), "for email") {
			t.Errorf("outcomes %s, detail %q", got, f.detail())
		}
	})
	t.Run("between the intent and the call", func(t *testing.T) {
		f := newFixture(t, live(), nil)
		s := f.service()
		s.log = &answering{Log: f.log, said: func() { f.mailing("C-1", "", false, f.clock.Now()) }}
		f.decide("d-1", "C-1", start)
		f.serveAs(s)
		if got := f.outcomes("d-1"); got != "attempting/1 suppressed/0" || len(f.receiver.received()) != 0 {
			t.Errorf("outcomes %s, %d calls", got, len(f.receiver.received()))
		}
	})
}

// answering is a log on which somebody says something while the first outcome is written.
type answering struct {
	*streamtest.Log
	said func()
	once sync.Once
}

func (a *answering) Producer(ctx context.Context) (stream.Producer, error) {
	p, err := a.Log.Producer(ctx)
	return answeringProducer{p, a}, err
}

type answeringProducer struct {
	stream.Producer
	a *answering
}

func (p answeringProducer) Produce(ctx context.Context, topic string, pt int32, m []stream.Message) (int64, error) {
	p.a.once.Do(p.a.said)
	return p.Producer.Produce(ctx, topic, pt, m)
}

// TestWhatWasSaidBeforeATakeover: the window reaches as far back as a decision can live, whatever was said in between.
func TestWhatWasSaidBeforeATakeover(t *testing.T) {
	f := newFixture(t, live(), nil)
	f.mailing("C-1", "", false, start)
	f.clock.advance(20 * time.Hour)
	for i := range 200 {
		f.mailing(fmt.Sprintf("C-%d", 100+i), "", true, f.clock.Now())
	}
	f.write("d-1", "C-1", decision.SendNowType, start.Add(-time.Hour), decision.Decision{Reason: decision.Burst, ExpiresAt: start.Add(23 * time.Hour), Channel: "email"})
	f.serve()
	if got := f.outcomes("d-1"); got != "suppressed/0" {
		t.Errorf("outcomes %s", got)
	}
}

// TestNothingIsSentUnheard: while it cannot be read what customers say nobody is called, and once it can be, what was said
// in the meantime counts.
func TestNothingIsSentUnheard(t *testing.T) {
	f := newFixture(t, live(), nil)
	s := f.service()
	log := &deaf{Log: f.log}
	s.log = log
	f.decide("d-1", "C-1", start)
	f.decide("d-2", "C-2", start)
	log.until = func() bool { // after some vain attempts
		if log.asked == 5 {
			if len(f.receiver.received()) != 0 || f.outcomes("d-1") != "" {
				t.Errorf("%d calls and outcomes %q", len(f.receiver.received()), f.outcomes("d-1"))
			}
			if ready, components := s.health.State(); ready || components["consents"].OK {
				t.Errorf("health %+v", components)
			}
			f.mailing("C-1", "", false, start)
		}
		return log.asked > 5
	}
	f.serveAs(s)
	if _, components := s.health.State(); !components["consents"].OK {
		t.Errorf("health %+v", components)
	}
	if got := f.outcomes("d-1"); got != "suppressed/0" {
		t.Errorf("outcomes %s", got)
	}
	if got := f.outcomes("d-2"); got != "attempting/1 accepted/1" {
		t.Errorf("outcomes %s", got)
	}
}

// deaf is a log whose consents cannot be read for a while.
type deaf struct {
	*streamtest.Log
	mu    sync.Mutex
	asked int
	until func() bool
}

func (d *deaf) Open(ctx context.Context, topic string, p int32, offset int64) (stream.Cursor, error) {
	if topic == topics.Consents {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked++
		if !d.until() {
			return nil, errors.New("the broker is gone")
		}
	}
	return d.Log.Open(ctx, topic, p, offset)
}

// TestRetentionAndIdleConnections: what is said is found again when the log has moved on, and a connection that was closed
// is no failure.
func TestRetentionAndIdleConnections(t *testing.T) {
	f := newFixture(t, live(), nil)
	log := &closing{Log: f.log}
	told := newTold(log, f.run, partition)
	told.now = f.clock.Now
	told.unread = func(topic string) { t.Errorf("%s could not be read", topic) }
	failures := 0
	told.retry = func(_ context.Context, _ string, do func() error) error {
		err := do()
		for ; err != nil && failures < 10; failures++ {
			err = do()
		}
		return err
	}
	d := &delivery{customer: "C-1", channel: "email"}
	for i := range 3 {
		if err := told.catchUp(t.Context()); err != nil || told.forbids(d) != "" {
			t.Fatalf("round %d: %q, %v", i, told.forbids(d), err)
		}
		f.mailing("C-2", "", false, start)
		log.close()
	}
	if failures != 0 {
		t.Errorf("%d failures where connections were closed", failures)
	}
	for range 5 {
		f.mailing("C-3", "", false, start)
	}
	f.mailing("C-1", "", false, start)
	f.log.Truncate(topics.Consents, partition, 8)
	if err := told.catchUp(t.Context()); err != nil || told.forbids(d) == "" {
		t.Errorf("%q, %v", told.forbids(d), err)
	}
	told.close()
}

// closing is a log whose cursors fail once after close, as idle connections do.
type closing struct {
	*streamtest.Log
	n int
}

func (c *closing) close() { c.n++ }

func (c *closing) Open(ctx context.Context, topic string, p int32, offset int64) (stream.Cursor, error) {
	cursor, err := c.Log.Open(ctx, topic, p, offset)
	return &closingCursor{cursor, c, c.n}, err
}

type closingCursor struct {
	stream.Cursor
	c *closing
	n int // of the log when it was opened
}

func (c *closingCursor) Fetch(ctx context.Context, n int, wait time.Duration) ([]stream.Record, error) {
	if c.n != c.c.n {
		return nil, errors.New("EOF")
	}
	return c.Cursor.Fetch(ctx, n, wait)
}

// TestWhatIsSaidIsForgotten: memory holds what can be news to a decision, and no more.
func TestWhatIsSaidIsForgotten(t *testing.T) {
	f := newFixture(t, live(), nil)
	told := newTold(f.log, f.run, partition)
	told.now = f.clock.Now
	told.retry = func(_ context.Context, _ string, do func() error) error { return do() }
	for day := range 4 {
		for i := range 5000 {
			f.mailing(fmt.Sprintf("C-%d-%d", day, i), "", i%2 == 0, f.clock.Now())
		}
		if err := told.catchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.clock.advance(26 * time.Hour)
	}
	if n := len(told.customers); n > 10_000 {
		t.Errorf("%d customers of 20000 are kept", n)
	}
}

// TestOneReadingForAll: who asks while somebody reads waits for a reading that begins after the question, and shares it.
func TestOneReadingForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, log: streamtest.NewLog(), clock: &fakeClock{now: start}, run: live()}
		for _, name := range needed {
			f.log.Create(name, stream.TopicInfo{Partitions: 1})
		}
		told := newTold(f.log, f.run, partition)
		told.now = f.clock.Now
		rounds, goOn := 0, make(chan struct{})
		told.retry = func(_ context.Context, op string, do func() error) error { // by one at a time
			if op == "follow "+topics.Attributes {
				rounds++
			}
			if op == "follow "+topics.Erasures && rounds == 1 { // the consents have been read
				<-goOn
			}
			return do()
		}
		var all sync.WaitGroup
		all.Go(func() {
			if err := told.catchUp(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		f.mailing("C-1", "", false, start)
		for range 100 {
			all.Go(func() {
				if err := told.catchUp(t.Context()); err != nil || told.forbids(&delivery{customer: "C-1", channel: "email"}) == "" {
					t.Errorf("what was said before the question is not in the answer: %v", err)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		all.Wait()
		if rounds != 2 {
			t.Errorf("%d rounds", rounds)
		}
		told.close()
	})
}

// TestARequestGoesOutOnce: a decider that lost what it knew may release a request again, under another decision.
func TestARequestGoesOutOnce(t *testing.T) {
	release := func(f *fixture, id, request string) {
		f.write(id, "C-1", decision.SendNowType, start, decision.Decision{Reason: decision.BestSlot, Request: request, NotBefore: start, ExpiresAt: start.Add(30 * time.Minute), Channel: "email"})
	}
	t.Run("in one life", func(t *testing.T) {
		f := newFixture(t, live(), nil)
		release(f, "d-1", "r-1")
		release(f, "d-2", "r-1")
		release(f, "d-3", "r-2")
		f.serve()
		if got := f.outcomes("d-2"); got != "suppressed/0" || len(f.receiver.received()) != 2 {
			t.Errorf("outcomes %s, %d calls", got, len(f.receiver.received()))
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		f := newFixture(t, live(), nil)
		release(f, "d-1", "r-1")
		f.serve()
		release(f, "d-2", "r-1")
		f.serve()
		if got := f.outcomes("d-2"); got != "suppressed/0" || f.detail() != "the request was released by decision d-1" {
			t.Errorf("outcomes %s, detail %q", got, f.detail())
		}
	})
	t.Run("unless the first did not go out", func(t *testing.T) {
		f := newFixture(t, live(), func(n int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader([]int{400, 200}[min(n, 2)-1]) })
		release(f, "d-1", "r-1")
		release(f, "d-2", "r-1")
		f.serve()
		if got := f.outcomes("d-1") + ", " + f.outcomes("d-2"); got != "attempting/1 refused/1, attempting/1 accepted/1" {
			t.Errorf("outcomes %s", got)
		}
	})
	t.Run("nor where nobody knows whether the first did", func(t *testing.T) {
		f := newFixture(t, live(), nil)
		f.target = aim(&scripted{answers: []crm.Answer{{Verdict: crm.Unknown}, {Verdict: crm.Accepted}}}, crm.Calls{Concurrency: 1})
		release(f, "d-1", "r-1")
		release(f, "d-2", "r-1")
		f.serve()
		if got := f.outcomes("d-1") + ", " + f.outcomes("d-2"); got != "attempting/1 unknown/1, suppressed/0" {
			t.Errorf("outcomes %s", got)
		}
	})
}
