package decider

import (
	"bytes"
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

// testRun lets 40 customers burst three days in a row, and 40 others wait for a message, each day in a life of its own of
// the service: what it remembers of a customer, and the timers of what waits, must outlive it. The second deviation of each
// day comes too soon after the first. The timers fire in the last life, once.
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

	profilerKnowsNobody(t, store, run, 4)

	c := Config{Kafka: brokers, Redis: store, Run: config.Run{ID: id, Mode: "simulated"}}
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

	write := func(topic string, customer string, r stream.Record) {
		t.Helper()
		r.Value = bytes.Replace(r.Value, []byte(anna), []byte(customer), 1)
		if err := writer.WriteAll(ctx, topic, []stream.Message{{Key: []byte(customer), Value: r.Value}}); err != nil {
			t.Fatal(err)
		}
	}
	const customers, days = 40, 3
	begin := engaged.Add(-12 * time.Hour)
	for i := range customers {
		waiting := preview
		waiting.Deadline = begin.AddDate(0, 0, days)
		write(topics.Requests, fmt.Sprintf("R-%d", i), request(fmt.Sprintf("r-%d", i), begin, waiting))
	}
	live()
	for day := range days {
		for hour := range 2 {
			for i := range customers {
				at := engaged.Add(time.Duration(day)*24*time.Hour + time.Duration(hour)*time.Hour + time.Duration(i)*time.Second)
				write(topics.Deviations, fmt.Sprintf("C-%d", i), burst(at, nil))
			}
		}
		live()
	}
	tick := stream.ClockTick(run, begin.AddDate(0, 0, days+1))
	if err := writer.Broadcast(ctx, topics.Ticks, tick.Value, time.Time{}); err != nil {
		t.Fatal(err)
	}
	live()

	bursts, ends, ids := map[decision.Reason]int{}, map[string]int{}, map[string]bool{}
	err = kafka.Range(ctx, log, run.Topic(topics.Decisions), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return err
		}
		var d decision.Decision
		if err := d.Parse(e.Type, e.Data); err != nil {
			return err
		}
		switch {
		case d.Request == "":
			bursts[d.Reason]++
		case d.Type != decision.WaitType:
			ends[d.Type]++
		}
		if ids[e.ID] {
			t.Errorf("two decisions have the id %s", e.ID)
		}
		ids[e.ID] = true
		return nil
	})
	if err != nil || bursts[decision.Burst] != customers*days || bursts[decision.FrequencyCap] != customers*days || len(bursts) != 2 {
		t.Errorf("of the bursts came %v: %v", bursts, err)
	}
	if ends[decision.SendNowType] != customers || len(ends) != 1 {
		t.Errorf("the requests ended in %v, want %d sent", ends, customers)
	}
}

// profilerKnowsNobody stores what a profiler has that is up to date and has seen no customer: without any, nothing is
// triggered.
func profilerKnowsNobody(t *testing.T, c redis.Config, run stream.Run, partitions int32) {
	t.Helper()
	store, err := redis.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for p := range partitions {
		lease, err := store.Claim(t.Context(), run.Group(profiler), p)
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Close()
		if err := lease.Commit(t.Context(), &stream.Commit{Next: map[string]int64{topics.Events: 0}, Partitions: partitions}); err != nil {
			t.Fatal(err)
		}
	}
}
