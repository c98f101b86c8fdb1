package connector

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/webhook"
)

// wrote has an owner before this one have written outcomes, each "result" or "result channel", of one decision and of a time.
func (f *fixture) wrote(connector, id, who string, at time.Time, results ...string) {
	for _, r := range results {
		result, channel, _ := strings.Cut(r, " ")
		o := decision.Outcome{Decision: id, Connector: connector, Channel: channel, Result: decision.Result(result), Attempts: 1}
		e := stream.Event{ID: "o-" + id + result, Source: "/test", Type: decision.OutcomeType, Subject: who, Time: at, Traceparent: traceparent, Data: o.Append(nil)}
		f.log.Append(f.run.Topic(topics.Outcomes), partition, stream.Message{Key: []byte(who), Value: e.Append(nil), Time: at})
	}
}

// only has a policy of one rule.
func only(change func(p *decision.Policy)) func(p *decision.Policy) {
	return func(p *decision.Policy) {
		uncapped(p)
		change(p)
	}
}

func gap(d time.Duration) func(p *decision.Policy) {
	return only(func(p *decision.Policy) { p.Gap = decision.Duration(d) })
}

// TestCapsAtTheLastMoment: who has been written to lately is not written to again before the policy in force has it. It goes by calls and
// not by decisions, whoever made them.
func TestCapsAtTheLastMoment(t *testing.T) {
	const sent = "attempting/1 accepted/1"
	ago := func(d time.Duration) time.Time { return start.Add(-d) }
	rows := []struct {
		name   string
		policy func(p *decision.Policy)
		before func(f *fixture)
		want   string
		detail string
	}{
		{"nothing was sent", func(*decision.Policy) {}, func(*fixture) {}, sent, ""},
		{"a day's cap", only(func(p *decision.Policy) { p.CapPerDay = 2 }), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(23*time.Hour), "attempting email", "accepted email")
			f.wrote("webhook", "d-b", "C-1", ago(time.Hour), "attempting sms", "accepted sms")
		}, "suppressed/0", "frequency_cap of policy default.2"},
		{"a day's cap that has room", only(func(p *decision.Policy) { p.CapPerDay = 2 }), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(25*time.Hour), "attempting email", "accepted email")
			f.wrote("webhook", "d-b", "C-1", ago(time.Hour), "attempting sms", "accepted sms")
		}, sent, ""},
		{"a week's cap", only(func(p *decision.Policy) { p.CapPerWeek = 2 }), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(167*time.Hour), "attempting email", "accepted email")
			f.wrote("webhook", "d-b", "C-1", ago(90*time.Hour), "attempting email", "accepted email")
		}, "suppressed/0", "before 2026-12-03T10:41:52Z"},
		{"a week's cap that has room", only(func(p *decision.Policy) { p.CapPerWeek = 2 }), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(169*time.Hour), "attempting email", "accepted email")
			f.wrote("webhook", "d-b", "C-1", ago(90*time.Hour), "attempting email", "accepted email")
		}, sent, ""},
		{"the cap of another channel", only(func(p *decision.Policy) {
			c := p.Channels["sms"]
			c.CapPerDay = 1
			p.Channels["sms"] = c
		}), func(f *fixture) { f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting sms", "accepted sms") }, sent, ""},
		{"the cap of the channel", only(func(p *decision.Policy) {
			c := p.Channels["email"]
			c.CapPerDay = 1
			p.Channels["email"] = c
		}), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email", "accepted email")
		}, "suppressed/0", "frequency_cap"},
		{"a collision", only(func(p *decision.Policy) { p.Collision = decision.Duration(2 * time.Hour) }), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting sms", "accepted sms")
		}, "suppressed/0", "collision"},
		{"none with the same channel", only(func(p *decision.Policy) { p.Collision = decision.Duration(2 * time.Hour) }), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email", "accepted email")
		}, sent, ""},
		{"an older connector's, who wrote no channel", only(func(p *decision.Policy) {
			c := p.Channels["email"]
			c.Gap = decision.Duration(2 * time.Hour)
			p.Channels["email"] = c
		}), func(f *fixture) { f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting", "accepted") }, "suppressed/0", "minimum_gap"},
		{"a call of which nobody knows", gap(2 * time.Hour), func(f *fixture) { f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email") }, "suppressed/0", "minimum_gap"},
		{"one that the CRM has refused", gap(2 * time.Hour), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email", "refused email")
		}, sent, ""},
		{"the time of a call is that of the last attempt", gap(90 * time.Minute), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(2*time.Hour), "attempting email")
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email", "accepted email")
		}, "suppressed/0", "before 2026-12-03T10:11:52Z"},
		{"what the customer did next is no call", gap(2 * time.Hour), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(3*time.Hour), "attempting email", "accepted email")
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "opened")
		}, sent, ""},
		{"another customer", gap(2 * time.Hour), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-2", ago(time.Hour), "attempting email", "accepted email")
		}, sent, ""},
		{"another connector, with a copy of all decisions", gap(2 * time.Hour), func(f *fixture) { f.wrote("crm", "d-a", "C-1", ago(time.Hour), "attempting email", "accepted email") }, sent, ""},
		{"another policy since", gap(2 * time.Hour), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email", "accepted email")
			f.inForce(uncapped)
		}, sent, ""},
		{"another policy since that cannot be read", gap(2 * time.Hour), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email", "accepted email")
			f.inForce(func(p *decision.Policy) { p.Version = "" })
		}, "suppressed/0", "before 2026-12-03T10:41:52Z"},
		{"the rules of a segment", only(func(p *decision.Policy) {
			own := p.Channels["email"]
			own.Gap = decision.Duration(2 * time.Hour)
			p.Segments = []decision.Segment{{Name: "premium", When: map[string]decision.Condition{"segment": {Is: []string{"premium"}}}, Channels: map[string]decision.Channel{"email": own}}}
		}), func(f *fixture) {
			f.wrote("webhook", "d-a", "C-1", ago(time.Hour), "attempting email", "accepted email")
		}, "suppressed/0", "minimum_gap"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, live(), nil)
			f.inForce(r.policy)
			r.before(f)
			f.write("d-1", "C-1", decision.SendNowType, start, decision.Decision{
				Reason: decision.Burst, NotBefore: start, ExpiresAt: start.Add(30 * time.Minute), Channel: "email", Segment: "premium",
			})
			f.serve()
			calls := len(f.receiver.received())
			if got := f.outcomes("d-1"); got != r.want || !strings.Contains(f.detail(), r.detail) || calls != strings.Count(got, "accepted") {
				t.Errorf("outcomes %s, detail %q, %d calls", got, f.detail(), calls)
			}
			for _, o := range f.all() {
				if o.Decision == "d-1" && o.Channel != "email" {
					t.Errorf("%s is in channel %q", o.Result, o.Channel)
				}
			}
		})
	}
}

// Of who was not called about for a week nothing is held, however many they are.
func TestTheWeekForgets(t *testing.T) {
	w := newWeek()
	note := func(id, who string, at time.Time) {
		w.note(&decision.Outcome{Decision: id, Channel: "email", Result: decision.Attempting}, who, at)
	}
	for i := range 5000 {
		note("d-old", fmt.Sprint("C-", i), start)
	}
	note("d-kept", "C-kept", start.Add(24*time.Hour))
	for i := range 5000 {
		note(fmt.Sprint("d-", i), "C-often", start.Add(decision.Memory+time.Hour+time.Duration(i)*time.Hour))
		note(fmt.Sprint("d-", i), fmt.Sprint("C-new-", i), start.Add(decision.Memory+time.Hour))
	}
	if _, held := w.customers["C-17"]; held || len(w.customers) > 3*4096 {
		t.Errorf("%d customers are held", len(w.customers))
	}
	if n := len(w.but("", "C-often")); n != 169 {
		t.Errorf("%d calls of a week with one an hour", n)
	}
}

// In a simulated run time stands still while something is carried out, and it has nobody who could be written to too often.
func TestASimulatedRunHasNoLastMoment(t *testing.T) {
	f := newFixture(t, stream.Run{ID: "r1", Simulated: true}, nil)
	f.webhook.SimulatedTarget = f.receiver.server.URL
	f.inForce(gap(2 * time.Hour))
	f.decide("d-1", "C-1", start)
	f.decide("d-2", "C-1", start)
	f.serve()
	if got := f.outcomes("d-1") + " " + f.outcomes("d-2"); got != "attempting/1 accepted/1 attempting/1 accepted/1" {
		t.Error(got)
	}
}

// notes is a CRM that takes everything and notes when.
type notes struct {
	mu sync.Mutex
	at []time.Time
}

func (*notes) Traits() crm.Traits { return crm.Traits{Key: true} }

func (n *notes) Send(_ context.Context, _ *crm.Send, now time.Time) crm.Answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at = append(n.at, now)
	return crm.Answer{Verdict: crm.Accepted}
}

// after is when it was called.
func (n *notes) after(began time.Time) (all []time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range n.at {
		all = append(all, at.Sub(began).Round(time.Minute))
	}
	return all
}

// bubble is a fixture on the clock of a synctest bubble.
func bubble(t *testing.T, policy func(p *decision.Policy)) (*fixture, *notes) {
	n := &notes{}
	f := &fixture{t: t, log: streamtest.NewLog(), clock: &fakeClock{now: time.Now()}, run: live(), target: aim(n, crm.Calls{Concurrency: 4})}
	for _, name := range needed {
		f.log.Create(name, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	}
	f.inForce(policy)
	return f, n
}

// lives runs a connector for so long.
func (f *fixture) lives(d time.Duration) {
	s := f.service()
	s.clock = wall{}
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx) }()
	time.Sleep(d)
	cancel()
	if err := <-ended; err != nil {
		f.t.Error(err)
	}
}

// late writes decisions about one customer that all come now.
func (f *fixture) late(n int, life time.Duration) {
	now := time.Now()
	for i := range n {
		f.write(fmt.Sprint("d-", i), "C-1", decision.SendNowType, now, decision.Decision{Reason: decision.Burst, NotBefore: now, ExpiresAt: now.Add(life), Channel: "email"})
	}
}

// What comes late comes at once, and is called one gap after the other as long as it lives; after a restart as before.
func TestWhatComesLateKeepsItsGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := bubble(t, gap(20*time.Minute))
		began := time.Now()
		f.late(4, time.Hour)
		f.lives(30 * time.Minute)
		f.lives(2 * time.Hour)
		if at := fmt.Sprint(n.after(began)); at != "[0s 20m0s 40m0s]" {
			t.Errorf("calls after %v", at)
		}
		if got := f.outcomes("d-3"); got != "suppressed/0" {
			t.Errorf("the last one: %s", got)
		}
	})
}

// Whoever puts a policy in force need not wait for what waits under the one before.
func TestANewPolicyEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := bubble(t, gap(12*time.Hour))
		began := time.Now()
		f.late(2, 20*time.Hour)
		time.AfterFunc(time.Hour, func() { f.inForce(uncapped) })
		f.lives(4 * time.Hour)
		if at := fmt.Sprint(n.after(began)); at != "[0s 1h0m0s]" && at != "[0s 1h1m0s]" {
			t.Errorf("calls after %v", at)
		}
	})
}

// A policy that comes while a decision waits for its turn counts.
func TestAPolicyWhileItWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := bubble(t, uncapped)
		f.target = aim(n, crm.Calls{Concurrency: 4, Rate: 1. / 600})
		began := time.Now()
		f.late(2, 20*time.Hour)
		time.AfterFunc(5*time.Minute, func() { f.inForce(gap(2 * time.Hour)) })
		f.lives(10 * time.Hour)
		if all := n.after(began); len(all) != 2 || all[1] < 2*time.Hour {
			t.Errorf("calls after %v", all)
		}
	})
}

// Two decisions about each of 40 customers are carried out by a live run on a broker, of which the second is one too many until another
// policy is in force. On Apache Kafka scripts/crm-faults does it: live runs on one broker share their topics.
func TestCapsOnAnEmbeddedBroker(t *testing.T) {
	const id = "r1"
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	brokers := broker.Config()
	ctx, run := t.Context(), stream.Run{ID: id}
	if err := kafka.EnsureTopics(ctx, brokers, run, 4); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	calls := map[string]int{}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls[r.Header.Get("webhook-id")]++
	}))
	defer receiver.Close()
	log, err := kafka.Open(ctx, brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	writer, err := kafka.NewWriter(ctx, log, run)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	round := 0
	serve := func() { // decides once about everybody, and carries it out
		var all []stream.Message
		now := time.Now()
		for i := range 40 {
			d := decision.Decision{Reason: decision.Burst, NotBefore: now, ExpiresAt: now.Add(30 * time.Minute), Channel: "email"}
			who := fmt.Sprintf("C-%d", i)
			e := stream.Event{ID: fmt.Sprintf("d-%d-%d", round, i), Source: "/test", Type: decision.SendNowType, Subject: who, Time: now, Data: d.Append(nil)}
			all = append(all, stream.Message{Key: []byte(who), Value: e.Append(nil)})
		}
		round++
		if err := writer.WriteAll(ctx, topics.Decisions, all); err != nil {
			t.Fatal(err)
		}
		carryOut(t, log, run, Config{
			Kafka: brokers, Run: config.Run{ID: id, Mode: "live"},
			Webhook: webhook.Config{URL: receiver.URL, Secret: secret, Calls: crm.Calls{Name: "webhook", Timeout: 15 * time.Second, Concurrency: 8, AllowPrivate: true}},
		}, topics.Decisions)
	}
	check := func(want ...int) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		got := make([]int, round)
		for id, n := range calls {
			var r, i int
			if _, err := fmt.Sscanf(id, "d-%d-%d", &r, &i); err != nil || n != 1 {
				t.Errorf("%s: %d calls, %v", id, n, err)
			}
			got[r]++
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d calls in the rounds, want %d", got, want)
		}
	}
	serve()
	check(40)
	serve()
	check(40, 0)
	if err := writer.Broadcast(ctx, topics.Policies, policyRecord(uncapped), time.Time{}); err != nil {
		t.Fatal(err)
	}
	serve()
	check(40, 0, 40)
}
