package connector

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/webhook"
)

func TestRunOnAnEmbeddedBroker(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	testRun(t, broker.Config(), "r1")
}

func TestRealRun(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") != "1" {
		t.Skip("TEMPISMO_REAL is not set: run it with scripts/real")
	}
	testRun(t, kafka.Config{Brokers: strings.Split(os.Getenv("KAFKA_BROKERS"), ",")}, fmt.Sprintf("connector-%d", time.Now().UnixNano()))
}

// testRun carries the decisions of 50 customers out over two lives of the service on a broker, and counts the calls; between
// the two somebody refuses mail, and a provider tells of a delivery. It is
// a simulated run with a receiver, so that decisions live by their own time and not by the machine's.
func testRun(t *testing.T, brokers kafka.Config, id string) {
	ctx := t.Context()
	run := stream.Run{ID: id, Simulated: true}
	if err := kafka.EnsureTopics(ctx, brokers, run, 4); err != nil {
		t.Fatal(err)
	}
	verify, err := standardwebhooks.NewWebhook(string(secret))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	calls := map[string]int{}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verify.Verify(body, r.Header)
		}
		if err != nil {
			t.Errorf("a call that does not verify: %v", err)
		}
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
	decide := func(from, to int) {
		var all []stream.Message
		for i := from; i < to; i++ {
			at := start.Add(time.Duration(i) * time.Second)
			d := decision.Decision{Reason: decision.Burst, NotBefore: at, ExpiresAt: at.Add(30 * time.Minute)}
			who := fmt.Sprintf("C-%d", i%50)
			e := stream.Event{ID: fmt.Sprintf("d-%d", i), Source: "/test", Type: decision.SendNowType, Subject: who, Time: at, Data: d.Append(nil)}
			all = append(all, stream.Message{Key: []byte(who), Value: e.Append(nil)})
		}
		if err := writer.WriteAll(ctx, topics.Decisions, all); err != nil {
			t.Fatal(err)
		}
	}
	tell := func(topic, typ, who string, data []byte) {
		long := time.Now().Add(-time.Hour)
		e := stream.Event{ID: "t-" + who, Source: "/test", Type: typ, Subject: who, Time: long, Data: data}
		if err := writer.WriteAll(ctx, topic, []stream.Message{{Key: []byte(who), Value: e.Append(nil), Time: long}}); err != nil {
			t.Fatal(err)
		}
	}
	live := func() {
		c := Config{
			Kafka: brokers, Run: config.Run{ID: id, Mode: "simulated"},
			Webhook: webhook.Config{Secret: secret, Calls: crm.Calls{SimulatedTarget: receiver.URL, Name: "webhook", Timeout: 15 * time.Second, Concurrency: 8}},
		}
		carryOut(t, log, run, c, topics.Decisions, topics.Events)
	}
	decide(0, 100)
	live()
	decide(50, 150) // half of them are copies
	refusal := customer.Answer{Mailing: &customer.Consent{At: start}}
	tell(topics.Consents, customer.ConsentType, "C-7", refusal.Append(nil))
	tell(topics.Events, engagement.Type, "C-3", []byte(`{"kind":"delivered","channel":"email","message":"d-3"}`))
	live()

	mu.Lock()
	defer mu.Unlock()
	for i := range 150 {
		want := 1
		if i == 107 { // the refusal came before it
			want = 0
		}
		if n := calls[fmt.Sprintf("d-%d", i)]; n != want {
			t.Errorf("d-%d was called %d times", i, n)
		}
	}
	results := map[decision.Result]int{}
	err = kafka.Range(ctx, log, run.Topic(topics.Outcomes), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return err
		}
		var o decision.Outcome
		if err := o.Parse(e.Data); err != nil {
			return err
		}
		results[o.Result]++
		return nil
	})
	if err != nil || results[decision.Attempting] != 149 || results[decision.Accepted] != 149 || results[decision.Suppressed] != 1 || results[decision.Delivered] != 1 || len(results) != 4 {
		t.Errorf("outcomes %v: %v", results, err)
	}
}

// carryOut runs a connector until it has read the topics to their ends.
func carryOut(t *testing.T, log *kafka.Log, run stream.Run, c Config, to ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	health := &app.Health{}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c, app.Settings{Health: health}) }()
	for lag := int64(1); lag > 0; {
		select {
		case err := <-ended:
			t.Fatalf("ended by itself: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		lags, err := log.Lag(ctx, run, []string{Service})
		if err != nil { // a broker that has just started has no coordinator yet
			t.Log(err)
			continue
		}
		lag = 0
		for _, l := range lags {
			if slices.Contains(to, l.Topic) {
				lag += l.Records
			}
		}
	}
	if ready, components := health.State(); !ready {
		t.Errorf("not ready: %v", components)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
