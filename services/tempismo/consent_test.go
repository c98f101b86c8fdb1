package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
)

// Consent through the front door, in a live run as it is set up by default: nobody is observed who has not said so; who takes it
// back is forgotten, and stays so when everything is replayed, also after another consent.
func TestConsentWithdrawnStaysWithdrawn(t *testing.T) {
	brokers, store := embedded(t)
	consentWithdrawn(t, brokers, store, "consent")
}

func TestRealConsentWithdrawnStaysWithdrawn(t *testing.T) {
	brokers, store := onRealOnes(t)
	consentWithdrawn(t, brokers, store, "consent-"+strconv.FormatInt(time.Now().UnixNano(), 36))
}

// consentRig is a run with its services and a look into it.
type consentRig struct {
	t              *testing.T
	brokers, redis string
	log            *kafka.Log
	store          *redis.Store
	set            app.Settings
}

// serve runs services of a run until the test ends or stop is called.
func (r *consentRig) serve(run stream.Run, env map[string]string, ln net.Listener) (stop func()) {
	r.t.Helper()
	all := map[string]string{"KAFKA_BROKERS": r.brokers, "REDIS_ADDR": r.redis, "RUN_ID": run.ID, "RUN_MODE": "live", "MODEL": "builtin.1", "SCORED_BELOW": "1"}
	if run.Simulated {
		all["RUN_MODE"] = "simulated"
	}
	for k, v := range env {
		all[k] = v
	}
	ctx, cancel := context.WithCancel(context.Background())
	services := []func(context.Context) error{
		func(ctx context.Context) error { return profiler.Run(ctx, parsed[profiler.Config](r.t, all), r.set) },
		func(ctx context.Context) error { return detector.Run(ctx, parsed[detector.Config](r.t, all), r.set) },
	}
	if ln != nil {
		in := parsed[ingest.Config](r.t, all)
		in.Listener = ln
		services = append(services, func(ctx context.Context) error { return ingest.Run(ctx, in, r.set) })
	}
	ended := make(chan error, 1)
	go func() { ended <- app.Group(ctx, services...) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("services ended with %v", err)
		}
	}
	r.t.Cleanup(stop)
	return stop
}

// settle waits until the services of a run have read everything.
func (r *consentRig) settle(run stream.Run) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		lag, err := r.log.Lag(r.t.Context(), run, []string{profiler.Service, detector.Service})
		if err == nil && len(lag) > 0 && !slices.ContainsFunc(lag, func(l kafka.PartitionLag) bool { return l.Records > 0 }) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the services do not come to rest: %v, %v", lag, err)
		}
	}
}

func (r *consentRig) profile(run stream.Run, who string) (p timing.Profile, stored []byte) {
	r.t.Helper()
	snap, err := r.store.Read(r.t.Context(), run.Group(profiler.Service), stream.Partition([]byte(who), 8), []string{who})
	if err != nil {
		r.t.Fatal(err)
	}
	if stored = snap.Values[0]; len(stored) > 0 {
		if err := p.Decode(stored); err != nil {
			r.t.Fatal(err)
		}
	}
	return p, stored
}

// of returns the values of a customer's records on a topic.
func (r *consentRig) of(run stream.Run, topic, who string) (values [][]byte) {
	r.t.Helper()
	err := kafka.Range(r.t.Context(), r.log, run.Topic(topic), kafka.Earliest, kafka.Latest, func(m *stream.Record) error {
		if string(m.Key) == who {
			values = append(values, bytes.Clone(m.Value))
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return values
}

func consentWithdrawn(t *testing.T, brokers, redisAddr, id string) {
	alone(t)
	r := &consentRig{t: t, brokers: brokers, redis: redisAddr, set: app.Settings{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}}
	live := stream.Run{ID: id}
	anna, bert, carl := id+"-anna", id+"-bert", id+"-carl" // topics of live runs are everybody's
	var err error
	if err := kafka.EnsureTopics(t.Context(), kafka.Config{Brokers: []string{brokers}}, live, 8); err != nil {
		t.Fatal(err)
	}
	if r.log, err = kafka.Open(t.Context(), kafka.Config{Brokers: []string{brokers}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.log.Close() })
	if r.store, err = redis.Open(t.Context(), redis.Config{Addr: redisAddr}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.serve(live, nil, ln)

	// taken posts documents and returns what became of them; while the profiler has no state yet it is asked to come again.
	taken := func(path string, documents ...string) (counts struct{ Accepted, Unconsented int }) {
		t.Helper()
		body := "[" + strings.Join(documents, ",") + "]"
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			answer, err := http.Post("http://"+ln.Addr().String()+path, "application/json", strings.NewReader(body))
			if err == nil {
				err = json.NewDecoder(answer.Body).Decode(&counts)
				answer.Body.Close()
				if err == nil && answer.StatusCode == http.StatusAccepted {
					return counts
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v, %v", path, answer, err)
			}
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	ago := func(days int, hour time.Duration) time.Time { return now.AddDate(0, 0, -days).Add(hour) }
	says := func(who string, granted bool, at time.Time) {
		t.Helper()
		taken("/v1/consents", fmt.Sprintf(`{"subject":%q,"data":{"pixel":{"granted":%v,"at":%q}}}`, who, granted, at.Format(time.RFC3339)))
		r.settle(live)
	}
	event := func(kind engagement.Kind, who string, at time.Time) string {
		e := engagement.Event{ID: fmt.Sprint(kind, who, at.Unix()), Source: "/test", Subject: who, Time: at, Kind: kind, Channel: "email", Message: fmt.Sprint("m-", at.YearDay()), UserAgent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"}
		return string(e.Append(nil))
	}

	says(anna, true, ago(100, 0))
	says(bert, true, ago(100, 0))
	var history []string
	const days, everybody = 70, 3
	for day := days; day > 0; day-- {
		for _, who := range []string{anna, bert, carl} { // nobody has asked carl
			history = append(history, event(engagement.Delivered, who, ago(day, 0)), event(engagement.Open, who, ago(day, 3*time.Hour)))
		}
	}
	if got := taken("/v1/events", history...); got.Accepted != 2*everybody*days-days || got.Unconsented != days {
		t.Fatalf("%+v", got)
	}
	r.settle(live)
	for _, value := range r.of(live, topics.Events, carl) {
		if bytes.Contains(value, []byte(`"open"`)) || bytes.Contains(value, []byte("Mozilla")) {
			t.Fatalf("a topic holds what carl has not consented to: %s", value)
		}
	}
	evidence := func(run stream.Run, who string) timing.Evidence {
		p, _ := r.profile(run, who)
		hour := now.Unix() / 3600
		return p.View(timing.Builtin(), "email", hour).Evidence
	}
	if a, c := evidence(live, anna), evidence(live, carl); a.EngagedDays < days-1 || c.EngagedDays != 0 || c.Deliveries == 0 {
		t.Fatalf("anna %+v, carl %+v", a, c)
	}
	if len(r.of(live, topics.Scored, anna)) == 0 {
		t.Fatal("nothing was measured of anna: there is nothing to be forgotten")
	}

	// She takes it back.
	withdrawal := now.Add(-time.Second)
	says(anna, false, withdrawal)
	if p, _ := r.profile(live, anna); len(p.Channels) != 0 || len(r.of(live, topics.Erasures, anna)) != 1 {
		t.Fatalf("after the withdrawal is known: %+v", p)
	}
	if got := taken("/v1/events", event(engagement.Open, anna, now)); got.Accepted != 0 || got.Unconsented != 1 {
		t.Errorf("an open of anna's: %+v", got)
	}
	if got := taken("/v1/events", event(engagement.Click, anna, now)); got.Accepted != 1 {
		t.Errorf("a click of anna's: %+v", got)
	}
	r.settle(live)
	if last := r.of(live, topics.Events, anna); bytes.Contains(last[len(last)-1], []byte("Mozilla")) {
		t.Errorf("the user agent of somebody who is not to be observed is kept: %s", last[len(last)-1])
	}

	replay := func(into string) stream.Run {
		t.Helper()
		again := stream.Run{ID: id + into, Simulated: true}
		must(t, "replay", "--kafka-brokers", brokers, "--redis-addr", redisAddr, "--run", id, "--run-mode", "live", "--into", again.ID)
		stop := r.serve(again, nil, nil)
		r.settle(again)
		stop()
		return again
	}
	gone := func(run stream.Run, clicks int) {
		t.Helper()
		if e := evidence(run, anna); e.EngagedDays != clicks || e.Deliveries != 0 {
			t.Errorf("%s: of anna is known %+v", run.ID, e)
		}
		if !run.Simulated {
			return // its topics still hold what was measured before
		}
		for _, topic := range []string{topics.Scored, topics.Deviations} {
			if n := len(r.of(run, topic, anna)); n > clicks {
				t.Errorf("%s: %s says %d times what anna did", run.ID, topic, n)
			}
		}
	}
	again := replay("-again")
	gone(again, 1)
	_, was := r.profile(live, bert)
	if _, is := r.profile(again, bert); !bytes.Equal(is, was) {
		t.Errorf("bert, who has taken nothing back, is replayed as %x, want %x", is, was)
	}

	// Another consent lets what comes after it be learned, and brings nothing back.
	says(anna, true, time.Now())
	gone(live, 0)
	gone(replay("-later"), 0)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		if got := taken("/v1/events", event(engagement.Open, anna, time.Now().UTC().Truncate(time.Second))); got.Accepted == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("after another consent no open of anna's is taken")
		}
	}
}
