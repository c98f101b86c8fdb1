package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/tempismo/history"
	"github.com/tempismo/tempismo/services/tempismo/local"
)

// The same request of the same customer under the same policy is decided alike whether it came by the topic or by the API, and
// policy simulate and explain decide what the services did.
func TestOneRequestByEveryWay(t *testing.T) {
	alone(t)
	dir := t.TempDir()
	pair, err := local.Start(dir, local.Ports{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pair.Close() })
	oneRequestByEveryWay(t, pair.Broker.Addr(), pair.Store.Addr(), "", "--data", dir)
	whatWasNotDecided(t, pair.Broker.Addr(), pair.Store.Addr(), "--data", dir)
}

// whatWasNotDecided copies the run in which the request came by the topic, but for a word of a decision, and asks.
func whatWasNotDecided(t *testing.T, brokers, redisAddr string, where ...string) {
	from := &ways{t: t, run: stream.Run{ID: "topic", Simulated: true}}
	from.open(brokers, redisAddr)
	w := &ways{t: t, run: stream.Run{ID: "forged", Simulated: true}, where: append([]string{"--run", "forged"}, where...)}
	w.open(brokers, redisAddr)
	anna := stream.Partition([]byte("anna"), 2)
	for _, topic := range []string{topics.Policies, topics.Attributes, topics.Requests, topics.Ticks, topics.Decisions} {
		var msgs []stream.Message
		err := kafka.Range(t.Context(), w.log, from.run.Topic(topic), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			if r.Partition != anna {
				return nil
			}
			value := bytes.ReplaceAll(bytes.Clone(r.Value), []byte("/tempismo/decider/topic/"), []byte("/tempismo/decider/forged/"))
			value = bytes.Replace(value, []byte(`"channel":"email","message":"winter"`), []byte(`"channel":"email","message":"spring"`), 1)
			if topic == topics.Requests {
				value = r.Value
			}
			msgs = append(msgs, stream.Message{Key: []byte("anna"), Value: bytes.Clone(value)})
			return nil
		})
		if err == nil {
			err = w.w.WriteAll(t.Context(), topic, msgs)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first := from.decisions()[0]
	for _, tt := range []struct {
		sentence, id string
		code         int
		says         []string
	}{
		{"a decision that comes out otherwise ends with 1 and names what differs", first.ID, 1, []string{"computed again: differs", `data.message: was "spring", is "winter"`}},
		{"a request that comes out otherwise ends with 1, too", "r-1", 1, []string{"request r-1", "data.message"}},
		{"what nobody has decided is an error that says where to look", "r-2", 1, []string{"no decision", "watch decisions"}},
		{"somebody else's request is another", "r-1 --customer bruno", 1, []string{"no decision"}},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			out, errs, code := tempismo(t, append(append([]string{"explain"}, strings.Fields(tt.id)...), w.where...)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, errs)
			}
			for _, says := range tt.says {
				if !strings.Contains(out+errs, says) {
					t.Errorf("does not say %q:\n%s%s", says, out, errs)
				}
			}
		})
	}
	t.Run("a decision whose cause is gone cannot be made again and ends with 2", func(t *testing.T) {
		lost := first
		lost.ID, lost.Source, lost.Sequence = "d-lost", w.run.Source(decider.Service, topics.Requests, anna), "00000000000000000077.000"
		if err := w.w.WriteAll(t.Context(), topics.Decisions, []stream.Message{{Key: []byte("anna"), Value: lost.Append(nil)}}); err != nil {
			t.Fatal(err)
		}
		out, errs, code := tempismo(t, append([]string{"explain", "d-lost"}, w.where...)...)
		if code != 2 || !strings.Contains(out, "cannot be computed again") {
			t.Errorf("exit code %d: %s%s", code, out, errs)
		}
	})
}

func TestRealOneRequestByEveryWay(t *testing.T) {
	brokers, redisAddr := onRealOnes(t)
	oneRequestByEveryWay(t, brokers, redisAddr, strconv.FormatInt(time.Now().UnixNano(), 36), "--kafka-brokers", brokers, "--redis-addr", redisAddr)
}

const policyOfTheTest = `
channels:
  email:
    windows: ["09:30-14:00"]
    prime: ["10:00-12:00"]
    threshold: 40
experiment:
  name: ways
  exploration: 0.1
`

func oneRequestByEveryWay(t *testing.T, brokers, redisAddr, suffix string, where ...string) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policyOfTheTest), 0o600); err != nil {
		t.Fatal(err)
	}
	var decided [2][]stream.Event
	for i, way := range []string{"topic", "api"} {
		w := &ways{t: t, run: stream.Run{ID: way + suffix, Simulated: true}, where: append([]string{"--run", way + suffix, "--run-mode", "simulated"}, where...)}
		w.open(brokers, redisAddr)
		w.tell("policy", "apply", file)
		api := w.serve(brokers, redisAddr)
		w.prepare()
		w.request(way, api)
		w.clock()
		decided[i] = w.decisions()
		w.again(file)
	}
	a, b := decided[0], decided[1]
	if len(a) != 2 || len(b) != 2 || a[0].Type != decision.WaitType || a[1].Type != decision.SendNowType {
		t.Fatalf("%d and %d decisions, want a wait and a send_now of each", len(a), len(b))
	}
	for i := range a {
		if a[i].Type != b[i].Type || !bytes.Equal(a[i].Data, b[i].Data) {
			t.Errorf("decision %d: by the topic and by the API\n%s\n%s", i, a[i].Data, b[i].Data)
		}
	}
}

// ways is a run in which one request is made.
type ways struct {
	t     *testing.T
	run   stream.Run
	where []string // flags that lead to it
	log   *kafka.Log
	store *redis.Store
	w     *kafka.Writer
}

var (
	placedAt = time.Date(2026, 11, 24, 7, 15, 0, 0, time.UTC) // a Tuesday
	before   = placedAt.Add(-24 * time.Hour)
	theOne   = decision.Request{Action: decision.Place, Channel: "email", Message: "winter", Audience: "all", Deadline: placedAt.AddDate(0, 0, 3)}
)

func (w *ways) open(brokers, redisAddr string) {
	t := w.t
	config := kafka.Config{Brokers: strings.Split(brokers, ",")}
	err := kafka.EnsureTopics(t.Context(), config, w.run, 2)
	if err == nil {
		w.log, err = kafka.Open(t.Context(), config)
	}
	if err == nil {
		w.store, err = redis.Open(t.Context(), redis.Config{Addr: redisAddr})
	}
	if err == nil {
		w.w, err = kafka.NewWriter(t.Context(), w.log, w.run)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.w.Close(); w.store.Close(); w.log.Close() })
}

// tell runs a command on the run.
func (w *ways) tell(args ...string) string {
	w.t.Helper()
	return must(w.t, append(args, w.where...)...)
}

// serve runs the services and returns the address of the API.
func (w *ways) serve(brokers, redisAddr string) string {
	t := w.t
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"KAFKA_BROKERS": brokers, "REDIS_ADDR": redisAddr, "RUN_ID": w.run.ID, "RUN_MODE": "simulated", "MODEL": "builtin.1"}
	set := app.Settings{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	in := parsed[ingest.Config](t, env)
	in.Listener = listener
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.Group(ctx,
			func(ctx context.Context) error { return ingest.Run(ctx, in, set) },
			func(ctx context.Context) error { return profiler.Run(ctx, parsed[profiler.Config](t, env), set) },
			func(ctx context.Context) error { return decider.Run(ctx, parsed[decider.Config](t, env), set) },
		)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("services ended with %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

// prepare lets the customer be known: a few opens, and where she lives.
func (w *ways) prepare() {
	t := w.t
	var msgs []stream.Message
	for day := range 30 {
		e := engagement.Event{ID: fmt.Sprint("e-", day), Source: "/test", Subject: "anna", Time: before.AddDate(0, 0, day-30), Kind: engagement.Open, Channel: "email", Message: fmt.Sprint("m-", day), Zone: "Europe/Rome"}
		msgs = append(msgs, stream.Message{Key: []byte("anna"), Value: e.Append(nil)})
	}
	if err := w.w.WriteAll(t.Context(), topics.Events, msgs); err != nil {
		t.Fatal(err)
	}
	w.write(topics.Attributes, "a-1", customer.Type, before, map[string]any{"zone": "Europe/Rome", "segment": "premium"})
	eventually(t, "the profiler does not get on", func() bool {
		snap, err := w.store.Read(t.Context(), w.run.Group(profiler.Service), stream.Partition([]byte("anna"), 2), nil)
		return err == nil && snap.Positions[topics.Events] == 30 && snap.Positions[topics.Attributes] == 1
	})
}

func (w *ways) write(topic, id, typ string, at time.Time, data any) {
	w.t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		w.t.Fatal(err)
	}
	e := stream.Event{ID: id, Source: "/test", Type: typ, Subject: "anna", Time: at, Data: b}
	if err := w.w.WriteAll(w.t.Context(), topic, []stream.Message{{Key: []byte("anna"), Value: e.Append(nil)}}); err != nil {
		w.t.Fatal(err)
	}
}

// request makes the request.
func (w *ways) request(way, api string) {
	if way == "topic" {
		w.write(topics.Requests, "r-1", decision.RequestType, placedAt, theOne)
		return
	}
	body, err := json.Marshal(map[string]any{"id": "r-1", "subject": "anna", "time": placedAt, "data": theOne})
	if err != nil {
		w.t.Fatal(err)
	}
	post(w.t, api+"/v1/requests", map[string]string{"content-type": "application/json"}, body, 202)
}

// clock lets three days pass.
func (w *ways) clock() {
	tick := stream.ClockTick(w.run, theOne.Deadline)
	if err := w.w.Broadcast(w.t.Context(), topics.Ticks, tick.Value, time.Time{}); err != nil {
		w.t.Fatal(err)
	}
}

// decisions waits for the end of the request.
func (w *ways) decisions() (list []stream.Event) {
	w.t.Helper()
	eventually(w.t, "the request does not end", func() bool {
		list = nil
		err := kafka.Range(w.t.Context(), w.log, w.run.Topic(topics.Decisions), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			e, err := stream.ParseEvent(bytes.Clone(r.Value))
			list = append(list, e)
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
		return len(list) > 0 && list[len(list)-1].Type != decision.WaitType
	})
	return list
}

// again decides it again, as explain and as policy simulate do.
func (w *ways) again(file string) {
	t := w.t
	var x explanation
	if err := json.Unmarshal([]byte(w.tell("explain", "r-1", "--json")), &x); err != nil {
		t.Fatal(err)
	}
	if x.Verdict != agrees || len(x.Decisions) != 2 || x.Customer != "anna" || x.Request != "r-1" {
		t.Errorf("explained: %s of %d decisions about %s", x.Verdict, len(x.Decisions), x.Customer)
	}
	var s otherwise
	if err := json.Unmarshal([]byte(w.tell("policy", "simulate", file, "--json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.All != 1 || s.Same != 1 || s.Decided != 1 || s.Faithful != 1 || s.After["send_now"] != 1 {
		t.Errorf("simulated: %+v", s)
	}
	past, err := history.Open(t.Context(), w.log, w.run, stream.Partition([]byte("anna"), 2))
	if err != nil {
		t.Fatal(err)
	}
	defer past.Close()
	var was, is [][]byte
	keep := func(list *[][]byte) func(*history.Decision) error {
		return func(d *history.Decision) error { *list = append(*list, d.Data); return nil }
	}
	if _, err := past.Simulate(t.Context(), time.Time{}, keep(&was), history.Scenario{Each: keep(&is)}); err != nil {
		t.Fatal(err)
	}
	if len(was) != 2 || !bytes.Equal(bytes.Join(was, nil), bytes.Join(is, nil)) {
		t.Errorf("simulated\n%s\n%s", bytes.Join(was, []byte("\n")), bytes.Join(is, []byte("\n")))
	}
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
