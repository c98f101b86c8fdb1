package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	nooptrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/braze"
	"github.com/tempismo/tempismo/services/connector/crm/customerio"
	"github.com/tempismo/tempismo/services/connector/crm/hubspot"
	"github.com/tempismo/tempismo/services/connector/crm/klaviyo"
	"github.com/tempismo/tempismo/services/connector/crm/mautic"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
	"github.com/tempismo/tempismo/services/connector/crm/sfmc"
)

// targets are the CRMs, each with the fake that imitates it.
var targets = []struct {
	name string
	fake func() *sandbox.Fake
	open func(*http.Client) crm.CRM
}{
	{"klaviyo", func() *sandbox.Fake { return sandbox.Klaviyo("pk_test") }, func(c *http.Client) crm.CRM {
		return klaviyo.New(klaviyo.Config{APIKey: "pk_test", Metric: "Send now"}, c, "http://crm")
	}},
	{"braze campaign", func() *sandbox.Fake { return sandbox.Braze("key") }, func(c *http.Client) crm.CRM {
		return braze.New(braze.Config{APIKey: "key", CampaignID: "campaign"}, c, "http://crm")
	}},
	{"braze canvas", func() *sandbox.Fake { return sandbox.Braze("key") }, func(c *http.Client) crm.CRM {
		return braze.New(braze.Config{APIKey: "key", CanvasID: "canvas"}, c, "http://crm")
	}},
	{"customer.io event", func() *sandbox.Fake { return sandbox.CustomerIO("site", "key", "app") }, func(c *http.Client) crm.CRM {
		return customerio.New(customerio.Config{SiteID: "site", TrackKey: "key", Event: "send now"}, c, "http://crm")
	}},
	{"customer.io transactional", func() *sandbox.Fake { return sandbox.CustomerIO("site", "key", "app") }, func(c *http.Client) crm.CRM {
		return customerio.New(customerio.Config{AppKey: "app", TransactionalID: "3"}, c, "http://crm")
	}},
	{"hubspot single send", func() *sandbox.Fake { return sandbox.HubSpot("token") }, func(c *http.Client) crm.CRM {
		return hubspot.New(hubspot.Config{Token: "token", EmailID: 7}, c, "http://crm")
	}},
	{"hubspot property", func() *sandbox.Fake { return sandbox.HubSpot("token") }, func(c *http.Client) crm.CRM {
		return hubspot.New(hubspot.Config{Token: "token", Property: "tempismo", IDProperty: "email"}, c, "http://crm")
	}},
	{"mautic", func() *sandbox.Fake { return sandbox.Mautic("u", "p") }, func(c *http.Client) crm.CRM {
		return numbered{mautic.New(mautic.Config{User: "u", Password: "p", EmailID: 7}, c, "http://crm")}
	}},
	{"sfmc journey", func() *sandbox.Fake { return sandbox.SFMC("id", "secret") }, func(c *http.Client) crm.CRM {
		return sfmc.New(sfmc.Config{ClientID: "id", ClientSecret: "secret", EventKey: "e"}, c, "http://crm")
	}},
	{"sfmc transactional", func() *sandbox.Fake { return sandbox.SFMC("id", "secret") }, func(c *http.Client) crm.CRM {
		return sfmc.New(sfmc.Config{ClientID: "id", ClientSecret: "secret", DefinitionKey: "d"}, c, "http://crm")
	}},
}

// numbered is a CRM whose customers are the numbers in those of the test.
type numbered struct{ crm.CRM }

func (n numbered) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	other := *s
	other.Customer = "1" + strings.TrimSuffix(strings.TrimPrefix(s.Customer, "c"), "@example.com") // 0 is nobody
	return n.CRM.Send(ctx, &other, now)
}

func (n numbered) Look(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	other := *s
	other.Customer = "1" + strings.TrimSuffix(strings.TrimPrefix(s.Customer, "c"), "@example.com")
	return n.CRM.(crm.Looker).Look(ctx, &other, now)
}

// TestAThousandDecisions: a thousand decisions go through each CRM while a tenth of the calls suffers from each fault, and
// the connector is stopped and killed again and again; the first time without faults, at the full rate. Nothing is sent twice, late or out of order, whatever is said of a decision is true,
// no limit is exceeded, and where the CRM has a key everything that lives long enough is sent.
func TestAThousandDecisions(t *testing.T) {
	for _, target := range targets {
		t.Run(target.name, func(t *testing.T) {
			for seed := range uint64(3) {
				synctest.Test(t, func(t *testing.T) { aThousandDecisions(t, target.fake(), target.open, seed) })
			}
		})
	}
}

func aThousandDecisions(t *testing.T, fake *sandbox.Fake, open func(*http.Client) crm.CRM, seed uint64) {
	const decisions, customers = 1000, 300
	r, fate := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)) // fate: of calls, under mu
	began := time.Now()
	var mu sync.Mutex
	fake.Late = 20 * time.Second // more than the timeout
	fake.Fault = func(*http.Request) sandbox.Fault {
		mu.Lock()
		defer mu.Unlock()
		if kind := 1 + fate.IntN(10); seed > 0 && kind <= sandbox.Kinds && time.Since(began) < time.Hour {
			return sandbox.Fault(kind)
		}
		return sandbox.None
	}
	network := newPipes(fake)
	defer network.close()

	log := streamtest.NewLog()
	for _, name := range needed {
		log.Create(name, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	}
	log.Append(topics.Policies, partition, stream.Message{Value: policyRecord(uncapped), Time: began})
	expires := map[string]time.Time{}
	for i := range decisions {
		life := 12 * time.Hour
		switch i % 20 {
		case 7:
			life = 0
		case 13: // some of these expire while they wait
			life = time.Duration(1+r.IntN(60)) * time.Second
		}
		id, customer := fmt.Sprintf("d-%d", i), fmt.Sprintf("c%d@example.com", i%customers)
		expires[id] = began.Add(life)
		d := decision.Decision{Reason: decision.BestSlot, Request: "r-" + id, NotBefore: began, ExpiresAt: expires[id], Channel: "email", Message: "winter"}
		e := stream.Event{ID: id, Source: "/test", Type: decision.SendNowType, Subject: customer, Time: began, Data: d.Append(nil)}
		log.Append(topics.Decisions, partition, stream.Message{Key: []byte(customer), Value: e.Append(nil), Time: began})
	}
	done := func() bool { return log.Offsets(live().Group(Service), topics.Decisions)[partition] == decisions }

	var zombies sync.WaitGroup
	lives := 0
	for ; !done(); lives++ {
		client := network.client()
		m, err := newMetrics(nil)
		if err != nil {
			t.Fatal(err)
		}
		mortal := &mortal{Log: log, killed: make(chan struct{})}
		s := &service{
			log: mortal, run: live(), name: "crm", target: aim(open(client), crm.Calls{Concurrency: 16}), metrics: m, tracer: nooptrace.Tracer{},
			health: &app.Health{}, logger: slog.New(slog.DiscardHandler), clock: wall{},
		}
		ctx, cancel := context.WithCancel(t.Context())
		zombies.Go(func() {
			defer client.CloseIdleConnections()
			if err := s.serve(ctx); err != nil {
				t.Error(err)
			}
		})
		if lives < 12 {
			time.Sleep(time.Duration(1+r.IntN(20_000)) * time.Millisecond)
		}
		for wait := time.Minute; lives >= 12 && !done(); {
			time.Sleep(wait)
		}
		if lives%2 == 0 {
			mortal.kill() // the successor begins while what is left of it still calls
			cancel()
			continue
		}
		cancel()
		zombies.Wait()
	}
	zombies.Wait()

	sent, last := map[string]int{}, map[string]int{}
	for _, s := range fake.Sent() {
		sent[s.Decision]++
		var i int
		if _, err := fmt.Sscanf(s.Decision, "d-%d", &i); err != nil {
			t.Fatal(err)
		}
		if before, ok := last[s.Customer]; ok && i < before {
			t.Errorf("%s got d-%d after d-%d", s.Customer, i, before)
		}
		last[s.Customer] = i
		if s.Customer == sandbox.Everybody {
			t.Error("a message went to everybody")
		}
		if !s.At.Before(expires[s.Decision]) {
			t.Errorf("%s was sent %v after its expiry", s.Decision, s.At.Sub(expires[s.Decision]))
		}
	}
	final := map[string]decision.Result{}
	for _, r := range log.Records(topics.Outcomes, partition) {
		var o decision.Outcome
		e, err := stream.ParseEvent(r.Value)
		if err = errors.Join(err, o.Parse(e.Data)); err != nil {
			t.Fatal(err)
		}
		if before, ok := final[o.Decision]; ok && o.Result.Final() {
			t.Errorf("%s ends twice, as %s and as %s", o.Decision, before, o.Result)
		}
		if o.Result.Final() {
			final[o.Decision] = o.Result
		}
	}
	key, results := open(nil).Traits().Key, map[decision.Result]int{}
	for i := range decisions {
		id := fmt.Sprintf("d-%d", i)
		n, result := sent[id], final[id]
		results[result]++
		switch {
		case n > 1:
			t.Errorf("%s was sent %d times", id, n)
		case result == decision.Accepted && n != 1, result == decision.TooLate && n != 0:
			t.Errorf("%s was sent %d times, and ended as %s", id, n, result)
		case result != decision.Accepted && result != decision.TooLate && result != decision.Unknown:
			t.Errorf("%s ended as %q", id, result)
		case key && expires[id].Sub(began) > time.Hour && (n != 1 || result != decision.Accepted):
			t.Errorf("%s lived long enough, was sent %d times, and ended as %s", id, n, result)
		}
	}
	calls, limited := fake.Calls()
	if limited != 0 {
		t.Errorf("%d of %d calls were beyond a limit", limited, calls)
	}
	t.Logf("%d calls in %d lives and %v, %d messages, %v", calls, lives, time.Since(began).Round(time.Second), len(fake.Sent()), results)
}

// mortal is the log as a process sees it that is killed: it is out of the group, and nothing that it writes arrives any more.
type mortal struct {
	*streamtest.Log
	killed chan struct{}

	mu       sync.Mutex
	assigned stream.Assignment
}

func (m *mortal) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return m.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) {
		m.mu.Lock()
		m.assigned = a
		m.mu.Unlock()
		work(ctx, a)
	})
}

func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.killed)
	if m.assigned != nil {
		m.Expel(m.assigned)
	}
}

func (m *mortal) Producer(ctx context.Context) (stream.Producer, error) {
	p, err := m.Log.Producer(ctx)
	return mortalProducer{p, m}, err
}

type mortalProducer struct {
	stream.Producer
	m *mortal
}

func (p mortalProducer) Produce(ctx context.Context, topic string, pt int32, messages []stream.Message) (int64, error) {
	select {
	case <-p.m.killed:
		<-ctx.Done()
		return 0, ctx.Err()
	default:
		return p.Producer.Produce(ctx, topic, pt, messages)
	}
}

// pipes is a network in memory, on which virtual time passes.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	server   *http.Server
	served   sync.WaitGroup
}

func newPipes(h http.Handler) *pipes {
	p := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{}), server: &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}}
	p.served.Go(func() { _ = p.server.Serve(p) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, io.EOF
	}
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) close() {
	close(p.closed)
	_ = p.server.Close()
	p.served.Wait()
}

func (p *pipes) client() *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			here, there := net.Pipe()
			select {
			case p.accepted <- there:
				return here, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		MaxIdleConnsPerHost: 16,
	}}
}
