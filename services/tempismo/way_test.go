package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
)

// Whichever way a request and what is known of the customer come in, through the API or through the topics, the decisions
// are the same, byte for byte; and the slot is the best of those that the API had told before.
func TestBothWaysInLeadToTheSameDecisions(t *testing.T) {
	brokers, store := embedded(t)
	bothWays(t, brokers, store, "way")
}

func TestRealBothWaysInLeadToTheSameDecisions(t *testing.T) {
	brokers, store := onRealOnes(t)
	bothWays(t, brokers, store, "way-"+strconv.FormatInt(time.Now().UnixNano(), 36))
}

func bothWays(t *testing.T, brokers, redisAddr, id string) {
	api, topic := onTheWay(t, brokers, redisAddr, id+"-api", true), onTheWay(t, brokers, redisAddr, id+"-topic", false)
	if len(api) != 2 || api[0].typ != decision.WaitType || api[1].typ != decision.SendNowType {
		t.Fatalf("through the API came %v", api)
	}
	if !slices.Equal(api, topic) {
		t.Errorf("through the API came\n%v\nthrough the topic\n%v", api, topic)
	}
}

// decided is a decision, without what names the run.
type decided struct{ typ, time, data string }

// Of one customer: when everything happens, who it is, and what is sent to the API or stands on the topic.
var wayBegins = time.Date(2026, 3, 2, 7, 0, 0, 0, time.UTC) // a Monday, 8:00 in Rome

const (
	wayCustomer = `{"specversion":"1.0","id":"c-1","source":"/crm","type":"io.tempismo.customer.v1","subject":"anna","time":"2026-03-02T06:59:00Z","datacontenttype":"application/json","data":{"zone":"Europe/Rome","segment":"premium","channels":["email"],"consents":{"mailing":{"granted":true,"at":"2025-05-12T08:00:00Z"}}}}`
	wayRequest  = `{"specversion":"1.0","id":"r-1","source":"/crm","type":"io.tempismo.send.request.v1","subject":"anna","time":"2026-03-02T07:00:00Z","datacontenttype":"application/json","data":{"action":"place","channel":"email","message":"spring-preview","deadline":"2026-03-06T17:00:00Z"}}`
)

// onTheWay gives one run its services, a reader of ten weeks, what is known of her and a request, and returns what was
// decided.
func onTheWay(t *testing.T, brokers, redisAddr, id string, throughAPI bool) []decided {
	t.Helper()
	env := map[string]string{"KAFKA_BROKERS": brokers, "REDIS_ADDR": redisAddr, "RUN_ID": id, "RUN_MODE": "simulated", "MODEL": "builtin.1"}
	run := stream.Run{ID: id, Simulated: true}
	if err := kafka.EnsureTopics(t.Context(), kafka.Config{Brokers: strings.Split(brokers, ",")}, run, 2); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := parsed[ingest.Config](t, env)
	in.Listener = listener
	set := app.Settings{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- app.Group(ctx,
			func(ctx context.Context) error { return ingest.Run(ctx, in, set) },
			func(ctx context.Context) error { return profiler.Run(ctx, parsed[profiler.Config](t, env), set) },
			func(ctx context.Context) error { return decider.Run(ctx, parsed[decider.Config](t, env), set) },
		)
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("services ended with %v", err)
		}
	}()
	log, err := kafka.Open(t.Context(), kafka.Config{Brokers: strings.Split(brokers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	writer, err := kafka.NewWriter(t.Context(), log, run)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	settle := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			lag, err := log.Lag(t.Context(), run, []string{profiler.Service, decider.Service})
			if err == nil && !slices.ContainsFunc(lag, func(l kafka.PartitionLag) bool { return l.Records > 0 }) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the services do not come to rest: %v, %v", lag, err)
			}
		}
	}
	address := "http://" + listener.Addr().String()
	give := func(path, topic, document string) {
		t.Helper()
		if throughAPI {
			post(t, address+path, map[string]string{"content-type": "application/json"}, []byte(document), http.StatusAccepted)
		} else if err := writer.Write(t.Context(), topic, []byte("anna"), []byte(document), time.Time{}); err != nil {
			t.Fatal(err)
		}
		settle()
	}

	policy := decision.Default()
	policy.Version = "way.1"
	for name, c := range policy.Channels {
		c.Threshold = 60 // so that it does not wait for its last day
		policy.Channels[name] = c
	}
	e := stream.Event{ID: "pl-1", Source: "/test", Type: decision.PolicyType, Time: wayBegins, Data: policy.Append(nil)}
	if err := writer.Broadcast(t.Context(), topics.Policies, e.Append(nil), time.Time{}); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for day := -70; day < 0; day++ {
		at := wayBegins.AddDate(0, 0, day).Add(3 * time.Hour)
		for _, kind := range []string{"delivered", "open"} {
			fmt.Fprintf(&lines, `{"specversion":"1.0","id":"%s%d","source":"/test","type":"io.tempismo.engagement.v1","subject":"anna","time":%q,"data":{"kind":%q,"channel":"email","message":"m%d","zone":"Europe/Rome"}}`+"\n",
				kind, day, at.Format(time.RFC3339), kind, day)
			at = at.Add(20 * time.Minute)
		}
	}
	post(t, address+"/v1/events", map[string]string{"content-type": "application/x-ndjson"}, []byte(lines.String()), http.StatusAccepted)
	settle()
	give("/v1/customers", topics.Attributes, wayCustomer)
	best := bestTimeOf(t, address)
	give("/v1/requests", topics.Requests, wayRequest)
	tick := stream.ClockTick(run, wayBegins.AddDate(0, 0, 7))
	if err := writer.Broadcast(t.Context(), topics.Ticks, tick.Value, time.Time{}); err != nil {
		t.Fatal(err)
	}

	// A clock tick is taken before the ticks that it leads to are written: what counts is that the request has ended.
	var all []decided
	for deadline := time.Now().Add(time.Minute); len(all) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("within a minute came nothing but %v", all)
		}
		all = nil
		if err := kafka.Range(t.Context(), log, run.Topic(topics.Decisions), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			e, err := stream.ParseEvent(r.Value)
			if err != nil {
				return err
			}
			var d decision.Decision
			if err := d.Parse(e.Type, e.Data); err != nil {
				return err
			}
			if d.Type == decision.WaitType && !d.Slot.From.Equal(best) {
				t.Errorf("it was planned for %v, the best time was %v", d.Slot.From, best)
			}
			all = append(all, decided{e.Type, e.Time.Format(time.RFC3339Nano), string(e.Data)})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// bestTimeOf asks the API for the best time of the customer until the request's deadline.
func bestTimeOf(t *testing.T, address string) time.Time {
	t.Helper()
	query := url.Values{"channel": {"email"}, "from": {wayBegins.Format(time.RFC3339)}, "to": {"2026-03-06T17:00:00Z"}}
	answer, err := http.Get(address + "/v1/customers/anna/best-times?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", answer.Status, body, err)
	}
	var best struct {
		Slots    []decision.Slot
		MadeFrom decision.MadeFrom `json:"made_from"`
	}
	if err := json.Unmarshal(body, &best); err != nil || len(best.Slots) == 0 || len(best.Slots[0].Failed) > 0 || best.MadeFrom.Policy != "way.1" {
		t.Fatalf("the best times are %s (%v)", body, err)
	}
	return best.Slots[0].From
}
