package ingest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

func TestSourcesOnABroker(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	store, err := redis.StartEmbedded("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	testSources(t, broker.Config(), redis.Config{Addr: store.Addr()}, "r1", 1)
}

func TestRealSources(t *testing.T) {
	if os.Getenv("TEMPISMO_REAL") != "1" {
		t.Skip("TEMPISMO_REAL is not set: run it with scripts/real")
	}
	testSources(t, kafka.Config{Brokers: strings.Split(os.Getenv("KAFKA_BROKERS"), ",")}, redis.Config{Addr: os.Getenv("REDIS_ADDR")}, fmt.Sprintf("ingest-%d", time.Now().UnixNano()), 2)
}

// Variables that make TestServesUntilItIsKilled a process that others kill.
const childBrokers, childStore, childRun, childSources = "INGEST_TEST_BROKERS", "INGEST_TEST_STORE", "INGEST_TEST_RUN", "INGEST_TEST_SOURCES"

// TestServesUntilItIsKilled is no test: testSources runs it as a process of its own.
func TestServesUntilItIsKilled(t *testing.T) {
	if os.Getenv(childBrokers) == "" {
		t.Skip("it is the process that TestSourcesOnABroker kills")
	}
	c := Config{Kafka: kafka.Config{Brokers: strings.Split(os.Getenv(childBrokers), ",")}, Redis: redis.Config{Addr: os.Getenv(childStore)}, Run: config.Run{ID: os.Getenv(childRun), Mode: "simulated"}, Sources: os.Getenv(childSources), Listen: "127.0.0.1:0"}
	if err := Run(t.Context(), c, app.Settings{}); err != nil {
		t.Fatal(err)
	}
}

// testSources writes records of four forms, good and bad, to topics of others while the service is killed, stopped and started.
// In the end each good record is an event and each bad one a dead letter: once where nobody was killed, and otherwise with the
// same bytes again. It is a simulated run, so that runs on one broker do not meet.
func testSources(t *testing.T, brokers kafka.Config, store redis.Config, id string, kills int) {
	ctx := t.Context()
	run := stream.Run{ID: id, Simulated: true}
	if err := kafka.EnsureTopics(ctx, brokers, run, partitions); err != nil {
		t.Fatal(err)
	}
	log, err := kafka.Open(ctx, brokers)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	plain, events := id+".shop", id+".app"
	for _, topic := range []string{plain, events} {
		if err := log.Create(ctx, topic, 3, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := kafka.NewWriter(ctx, log, stream.Run{ID: id}) // which writes to names as they are
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	sources := file(t, strings.Replace(declared, theirs, plain, 1)+`
- name: app
  topic: `+events+`
  format: cloudevents
  kind: {field: /type, values: {com.example.opened: open}}
  customer: /data/c
`)

	// write writes rounds of five records: plain JSON, framed JSON, a CloudEvent in each mode, and one that nobody can read.
	good, bad := map[string]bool{}, map[string]bool{}
	write := func(rounds int) {
		var toPlain, toEvents []stream.Message
		for range rounds {
			n := len(bad)
			name := func(form string) string { return fmt.Sprintf("%s-%04d", form, n) }
			key := fmt.Appendf(nil, "k-%d", n%11)
			customer := fmt.Sprintf("C-%d", n%7)
			toPlain = append(toPlain, stream.Message{Key: key, Value: []byte(opened(name("plain"), customer))},
				stream.Message{Key: key, Value: []byte("\x00\x00\x00\x00\x01" + opened(name("framed"), customer))},
				stream.Message{Key: key, Value: []byte("\x00\x00\x00\x00\x01" + name("bad"))})
			binary := []stream.Header{{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(name("binary"))}, {Key: "ce_source", Value: []byte("/app")},
				{Key: "ce_type", Value: []byte("com.example.opened")}, {Key: "ce_time", Value: []byte("2026-12-03T09:41:52Z")}, {Key: "content-type", Value: []byte("application/json")}}
			toEvents = append(toEvents, stream.Message{Key: key, Value: fmt.Appendf(nil, `{"c":%q}`, customer), Headers: binary},
				stream.Message{Key: key, Value: []byte(event(name("own"), customer)), Headers: headers})
			good["shop-"+name("plain")], good["shop-"+name("framed")], good["app-"+name("binary")], good[name("own")] = true, true, true, true
			bad[name("bad")] = true
		}
		for topic, messages := range map[string][]stream.Message{plain: toPlain, events: toEvents} {
			if err := writer.WriteAll(ctx, topic, messages); err != nil {
				t.Fatal(err)
			}
		}
	}
	// behind is how many records the groups have not read.
	behind := func() (n int64) {
		readers, err := Readers(config.Run{ID: id, Mode: "simulated"}, sources)
		if err != nil || len(readers) != 2 {
			t.Fatalf("%d readers, %v", len(readers), err)
		}
		for _, r := range readers {
			lag, err := log.GroupLag(ctx, r.Group, r.Topic)
			if err != nil { // a broker that has just started has no coordinator yet
				t.Log(err)
				return 1
			}
			for _, p := range lag {
				n += p.Records
			}
		}
		return n
	}
	until := func(what string, reached func() bool, ended <-chan error) {
		t.Helper()
		for !reached() {
			select {
			case err := <-ended:
				t.Fatalf("ended by itself before %s: %v", what, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	// live serves until everything is read, then stops in good order.
	live := func() {
		t.Helper()
		c := Config{Kafka: brokers, Redis: store, Run: config.Run{ID: id, Mode: "simulated"}, Sources: sources}
		var err error
		if c.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		write(1) // or it might be told to stop before it has begun
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, c, app.Settings{}) }()
		until("everything was read", func() bool { return behind() == 0 }, ended)
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	appended := func(topic string) (records []stream.Record) {
		t.Helper()
		err := kafka.Range(ctx, log, run.Topic(topic), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			c := *r
			c.Key, c.Value = slices.Clone(r.Key), slices.Clone(r.Value)
			c.Headers = nil
			for _, h := range r.Headers {
				c.Headers = append(c.Headers, stream.Header{Key: h.Key, Value: slices.Clone(h.Value)})
			}
			records = append(records, c)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return records
	}

	write(40)
	live()
	write(40)
	live()
	if n, m := len(appended(topics.Events)), len(appended(topics.DeadLetter(topics.Events))); n != len(good) || m != len(bad) {
		t.Errorf("%d events and %d dead letters after a restart in good order, want %d and %d", n, m, len(good), len(bad))
	}

	for range kills {
		write(500)
		before := behind()
		child := exec.Command(os.Args[0], "-test.run=^TestServesUntilItIsKilled$")
		child.Env = append(os.Environ(), childBrokers+"="+strings.Join(brokers.Brokers, ","), childStore+"="+store.Addr, childRun+"="+id, childSources+"="+sources)
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		until("it began", func() bool { write(1); return behind() < before }, ended)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
	}
	live() // once the broker has given up who was killed

	values, times := map[string]string{}, 0
	for _, r := range appended(topics.Events) {
		var e engagement.Event
		if err := e.Parse(r.Value); err != nil {
			t.Fatal(err)
		}
		if !good[e.ID] || string(r.Key) != e.Subject {
			t.Errorf("event %s has key %q", r.Value, r.Key)
		}
		if other, ok := values[e.ID]; ok && other != string(r.Value) {
			t.Errorf("one event is written in two ways:\n%s\n%s", other, r.Value)
		}
		values[strings.Clone(e.ID)], times = string(r.Value), times+1
	}
	letters := map[string]bool{}
	for _, r := range appended(topics.DeadLetter(topics.Events)) {
		if len(r.Value) < 5 || !bad[string(r.Value[5:])] || header(r, letterStage) != "source:shop" || header(r, letterTopic) != plain {
			t.Errorf("dead letter %q with %q", r.Value, r.Headers)
			continue
		}
		letters[string(r.Value)] = true
	}
	if len(values) != len(good) || len(letters) != len(bad) {
		t.Errorf("%d events and %d dead letters, want %d and %d", len(values), len(letters), len(good), len(bad))
	}
	t.Logf("%d records; %d events were written once more after %d kills", len(good)+len(bad), times-len(values), kills)
}
