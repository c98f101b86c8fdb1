package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
)

func TestRepartition(t *testing.T) {
	brokers, store := embedded(t)
	repartition(t, brokers, store, 10*time.Second)
}

// TestRealRepartition starts a broker of its own, because topics of live runs are everybody's.
func TestRealRepartition(t *testing.T) {
	_, store := onRealOnes(t)
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no Java: this test starts a broker by deployments/kafka/brokers")
	}
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(freeAddresses(t, 2)[0]) // the one above is the controller's
	script := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("../../deployments/kafka/brokers", args...).CombinedOutput(); err != nil {
			t.Fatalf("brokers %v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() { script("down", dir) })
	script("up", dir, "1", port)
	repartition(t, "127.0.0.1:"+port, store, 90*time.Second)
}

// mover is a live run that moves from partitions to partitions.
type mover struct {
	t              *testing.T
	brokers, store string
	log            *kafka.Log
	crm            *httptest.Server

	mu    sync.Mutex
	calls map[string]int // by request
}

// repartition moves a run with a request that is sent and one that waits from 3 partitions to 5, and, interrupted at the
// worst moment, to 2. pause is longer than a move takes.
func repartition(t *testing.T, brokers, store string, pause time.Duration) {
	alone(t)
	m := &mover{t: t, brokers: brokers, store: store, calls: map[string]int{}}
	m.crm = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var call struct {
			Data struct{ Decision struct{ Request string } }
		}
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
			t.Error(err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.calls[call.Data.Decision.Request]++
	}))
	t.Cleanup(m.crm.Close)
	config := kafka.Config{Brokers: strings.Split(brokers, ",")}
	unique := fmt.Sprint(time.Now().UnixNano())
	runs := []stream.Run{{ID: "a" + unique}, {ID: "b" + unique}, {ID: "c" + unique}}
	if err := kafka.EnsureTopics(t.Context(), config, runs[0], 3); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.log, err = kafka.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.log.Close() })

	allowAlways(t, brokers, runs[0])
	stop := m.serve(runs[0])
	m.history(runs[0])
	now := time.Now().UTC().Truncate(time.Second)
	m.request(runs[0], "sent", decision.Request{Action: decision.Place, Channel: "email", Message: "sent", Audience: "all", Deadline: now.Add(3 * time.Second)})
	m.request(runs[0], "waits", decision.Request{Action: decision.Place, Channel: "email", Message: "waits", Audience: "all", NotBefore: now.Add(pause), Deadline: now.Add(pause + 20*time.Second)})
	eventually(t, "the request that is due is not sent", func() bool { return m.called("sent") == 1 })
	m.drained(runs[0])
	if _, errs, code := tempismo(t, m.command(runs[0], runs[1], 5)...); code != 1 || !strings.Contains(errs, "is at work") {
		t.Errorf("while services work: exit code %d, %s", code, errs)
	}
	stop()

	before := m.everything(runs[0], 3)
	if out := must(t, append(m.command(runs[0], runs[1], 5), "--dry-run")...); !strings.Contains(out, "It can be done") {
		t.Error(out)
	}
	var sum resettled
	if err := json.Unmarshal([]byte(must(t, append(m.command(runs[0], runs[1], 5), "--json")...)), &sum); err != nil || sum.States[profiler.Service] != 12 || sum.States[decider.Service] < 12 {
		t.Errorf("%+v, %v", sum, err)
	}
	m.same(before, m.everything(runs[1], 5))
	if lag := m.lag(runs[1]); lag != 0 {
		t.Errorf("after the move %d records are unread", lag)
	}

	// The same again, interrupted after a topic was deleted and before it was made anew.
	if err := (&target{Kafka: config, Redis: m.redis(), Run: runs[1].ID, Mode: "live"}).with(t.Context(), func(sys *system) error {
		move := &move{sys: sys, into: runs[2], after: 2, say: func(string, ...any) {}}
		if _, err := move.prepare(t.Context(), false); err != nil {
			return err
		}
		return sys.log.Delete(t.Context(), topics.Events)
	}); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := tempismo(t, m.command(runs[1], runs[2], 7)...); code != 1 || !strings.Contains(errs, "--partitions 2") {
		t.Errorf("another number in the middle: exit code %d, %s", code, errs)
	}
	must(t, m.command(runs[1], runs[2], 2)...)
	m.same(before, m.everything(runs[2], 2))

	if n := m.called("waits"); n != 0 {
		t.Fatalf("the request that waits was sent %d times before its time: the test is too slow", n)
	}
	stop = m.serve(runs[2])
	defer func() { stop() }()
	for deadline := time.Now().Add(pause + 2*time.Minute); m.called("waits") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request that waits is not sent")
		}
	}
	m.drained(runs[2])
	if m.called("sent") != 1 || m.called("waits") != 1 {
		t.Errorf("the CRM was called %v times", m.calls)
	}

	// What is lost after a move is rebuilt from the records as they stand now.
	stop()
	want := must(t, append([]string{"dump", "profiles"}, m.where(runs[2])...)...)
	r := goredis.NewClient(&goredis.Options{Addr: store})
	defer r.Close()
	for p := range 2 {
		if n, err := r.Del(t.Context(), fmt.Sprintf("{%s.%d}:meta", runs[2].Group(profiler.Service), p)).Result(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	stop = m.serve(runs[2])
	eventually(t, "the profiles are not rebuilt", func() bool {
		return must(t, append([]string{"dump", "profiles"}, m.where(runs[2])...)...) == want
	})
	if m.called("sent") != 1 || m.called("waits") != 1 {
		t.Errorf("after a loss the CRM was called %v times", m.calls)
	}
}

func (m *mover) where(run stream.Run) []string {
	return []string{"--kafka-brokers", m.brokers, "--redis-addr", m.store, "--run", run.ID, "--run-mode", "live"}
}

func (m *mover) command(from, into stream.Run, n int) []string {
	return append([]string{"repartition", "--partitions", fmt.Sprint(n), "--into", into.ID}, m.where(from)...)
}

func (m *mover) called(request string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[request]
}

// serve runs the services until stop is called.
func (m *mover) serve(run stream.Run) (stop func()) {
	t := m.t
	env := map[string]string{
		"KAFKA_BROKERS": m.brokers, "REDIS_ADDR": m.store, "RUN_ID": run.ID, "RUN_MODE": "live", "MODEL": "builtin.1", "PIXEL_CONSENT": "assumed",
		"WEBHOOK_URL": m.crm.URL, "WEBHOOK_SECRET": webhookSecret, "WEBHOOK_ALLOW_PRIVATE": "true",
	}
	set := app.Settings{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.Group(ctx,
			func(ctx context.Context) error { return profiler.Run(ctx, parsed[profiler.Config](t, env), set) },
			func(ctx context.Context) error { return detector.Run(ctx, parsed[detector.Config](t, env), set) },
			func(ctx context.Context) error { return decider.Run(ctx, parsed[decider.Config](t, env), set) },
			func(ctx context.Context) error { return connector.Run(ctx, parsed[connector.Config](t, env), set) },
		)
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("services ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// write writes events, keyed by subject.
func (m *mover) write(run stream.Run, topic string, events ...stream.Event) {
	m.t.Helper()
	w, err := kafka.NewWriter(m.t.Context(), m.log, run)
	if err != nil {
		m.t.Fatal(err)
	}
	defer w.Close()
	var msgs []stream.Message
	for _, e := range events {
		msgs = append(msgs, stream.Message{Key: []byte(e.Subject), Value: e.Append(nil)})
	}
	if err := w.WriteAll(m.t.Context(), topic, msgs); err != nil {
		m.t.Fatal(err)
	}
}

// history lets twelve customers be known.
func (m *mover) history(run stream.Run) {
	now := time.Now().UTC().Truncate(time.Second)
	var events, attributes []stream.Event
	for day := 60; day > 0; day-- {
		for c := range 12 {
			at := now.AddDate(0, 0, -day).Add(-time.Duration(c%5) * time.Hour)
			for _, kind := range []string{"delivered", "open"} {
				events = append(events, stream.Event{ID: fmt.Sprintf("%s-%d-%d", kind, day, c), Source: "/test", Type: "io.tempismo.engagement.v1", Subject: fmt.Sprint("c", c), Time: at,
					Data: fmt.Appendf(nil, `{"kind":%q,"channel":"email","message":"m-%d","zone":"Europe/Rome"}`, kind, day)})
				at = at.Add(20 * time.Minute)
			}
		}
	}
	for c := range 12 {
		attributes = append(attributes, stream.Event{ID: fmt.Sprint("a-", c), Source: "/test", Type: "io.tempismo.customer.v1", Subject: fmt.Sprint("c", c), Time: now,
			Data: []byte(`{"zone":"Europe/Rome","segment":"premium","channels":["email"],"consents":{"mailing":{"granted":true,"at":"2025-05-12T08:00:00Z"}}}`)})
	}
	m.write(run, topics.Events, events...)
	m.write(run, topics.Attributes, attributes...)
	m.write(run, topics.Events, stream.Event{ID: "bad", Source: "/test", Type: "io.tempismo.engagement.v1", Subject: "c1", Time: now, Data: []byte(`{"kind":"nonsense"}`)})
	m.drained(run)
}

// request places a request of a customer of its own.
func (m *mover) request(run stream.Run, id string, r decision.Request) {
	m.t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(run, topics.Requests, stream.Event{ID: id, Source: "/test", Type: decision.RequestType, Subject: map[string]string{"sent": "c3", "waits": "c7"}[id], Time: time.Now().UTC(), Data: b})
}

func (m *mover) redis() redis.Config { return redis.Config{Addr: m.store} }

// lag is how much the services have not read.
func (m *mover) lag(run stream.Run) (n int64) {
	m.t.Helper()
	sys := &system{log: m.log, run: run}
	lag, err := backlog(m.t.Context(), sys, append(slices.Clone(working), connector.Service))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, l := range lag {
		n += l.Records
	}
	return n
}

// drained waits until everything is read.
func (m *mover) drained(run stream.Run) {
	m.t.Helper()
	quiet := 0
	eventually(m.t, "the services do not come to rest", func() bool {
		if quiet++; m.lag(run) > 0 {
			quiet = 0
		}
		return quiet > 10
	})
}

// everything is what a run holds: profiles, totals, and of each topic the records of each key in order; those without a key in
// no order, and broadcast ones once.
func (m *mover) everything(run stream.Run, partitions int32) map[string]string {
	m.t.Helper()
	all := map[string]string{"profiles": must(m.t, append([]string{"dump", "profiles"}, m.where(run)...)...)}
	if err := (&target{Kafka: kafka.Config{Brokers: strings.Split(m.brokers, ",")}, Redis: m.redis(), Run: run.ID, Mode: "live"}).with(m.t.Context(), func(sys *system) error {
		n, err := sys.partitions(m.t.Context())
		if err != nil {
			return err
		}
		if n != partitions {
			return fmt.Errorf("%d partitions", n)
		}
		sum, err := totals(m.t.Context(), sys, partitions)
		all["totals"] = fmt.Sprint(sum)
		return err
	}); err != nil {
		m.t.Fatal(err)
	}
	for _, name := range kafka.Names(run) {
		by, broadcast := map[string][]string{}, map[string]bool{}
		err := kafka.Range(m.t.Context(), m.log, name, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			line := fmt.Sprintf("%s %s %v", r.Time, r.Value, r.Headers)
			if isBroadcast(name) { // written into each partition a moment later
				line = string(r.Value)
				broadcast[fmt.Sprintf("%d %s", r.Partition, line)] = true
				by["once"] = append(by["once"], line)
				slices.Sort(by["once"])
				by["once"] = slices.Compact(by["once"])
				return nil
			}
			by[string(r.Key)] = append(by[string(r.Key)], line)
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
		if isBroadcast(name) && len(broadcast) != len(by["once"])*int(partitions) {
			m.t.Errorf("%s: %d records, %d of them in %d partitions", name, len(broadcast), len(by["once"]), partitions)
		}
		slices.Sort(by[""])
		all[name] = fmt.Sprint(by)
	}
	return all
}

func (m *mover) same(before, after map[string]string) {
	m.t.Helper()
	for what, want := range before {
		if got := after[what]; got != want {
			m.t.Errorf("%s differ after the move:\n%s\n%s", what, want[:min(len(want), 2000)], got[:min(len(got), 2000)])
		}
	}
	if !strings.Contains(before[topics.DeadLetter(topics.Events)], "nonsense") || !strings.Contains(before[topics.Decisions], "send_now") || before["profiles"] == "" {
		m.t.Error("there was less to move than there should be")
	}
}
