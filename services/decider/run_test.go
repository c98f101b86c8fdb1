package decider

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunOnTheEmbeddedPair(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	store, err := redis.StartEmbedded(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	testRun(t, broker.Config(), redis.Config{Addr: store.Addr()}, "r1")
}

func TestRealRun(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") != "1" {
		t.Skip("TEMPISMO_REAL is not set: run it with scripts/real")
	}
	testRun(t, kafka.Config{Brokers: strings.Split(os.Getenv("KAFKA_BROKERS"), ",")}, redis.Config{Addr: os.Getenv("REDIS_ADDR")},
		fmt.Sprintf("decider-%d", time.Now().UnixNano()))
}

// testRun lets 40 customers burst three days in a row, each day in a life of its own of the service: what it remembers of
// a customer must outlive it. The second deviation of each day comes too soon after the first.
func testRun(t *testing.T, brokers kafka.Config, store redis.Config, id string) {
	ctx := t.Context()
	run := stream.Run{ID: id, Simulated: true}
	if err := kafka.EnsureTopics(ctx, brokers, run, 4); err != nil {
		t.Fatal(err)
	}
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

	c := Config{Kafka: brokers, Redis: store, Run: config.Run{ID: id, Mode: "simulated"}}
	if err := config.Parse(&c.Policy, "policy", nil, func(string) (string, bool) { return "", false }); err != nil {
		t.Fatal(err)
	}
	live := func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, c, app.Settings{}) }()
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
				lag += l.Records
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}

	const customers, days = 40, 3
	for day := range days {
		var all []stream.Message
		for hour := range 2 {
			for i := range customers {
				at := engaged.Add(time.Duration(day)*24*time.Hour + time.Duration(hour)*time.Hour + time.Duration(i)*time.Second)
				customer := fmt.Sprintf("C-%d", i)
				r := record(at, func(e *stream.Event, _ *deviation.Deviation) {
					e.ID, e.Subject = fmt.Sprintf("dv-%d-%d-%d", day, hour, i), customer
				})
				all = append(all, stream.Message{Key: []byte(customer), Value: r.Value})
			}
		}
		if err := writer.WriteAll(ctx, topics.Deviations, all); err != nil {
			t.Fatal(err)
		}
		live()
	}

	got := map[decision.Reason]int{}
	ids := map[string]bool{}
	err = kafka.Range(ctx, log, run.Topic(topics.Decisions), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return err
		}
		var d decision.Decision
		if err := d.Parse(e.Type, e.Data); err != nil {
			return err
		}
		got[d.Reason]++
		ids[e.ID] = true
		return nil
	})
	if err != nil || got[decision.Burst] != customers*days || got[decision.FrequencyCap] != customers*days || len(ids) != 2*customers*days {
		t.Errorf("decisions %v, %d ids: %v", got, len(ids), err)
	}
}
