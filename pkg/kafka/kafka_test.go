package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/twmb/franz-go/pkg/kadm"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("KAFKA_TEST_DIR"); dir != "" {
		child(dir, os.Getenv("KAFKA_TEST_PORT"))
	}
	goleak.VerifyTestMain(m)
}

func startEmbedded(t *testing.T, c EmbeddedConfig) *Embedded {
	t.Helper()
	e, err := StartEmbedded(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func embedded(t *testing.T) Config { return startEmbedded(t, EmbeddedConfig{}).Config() }

// realBroker is the one that scripts/real has started.
func realBroker(t testing.TB) Config {
	t.Helper()
	if os.Getenv("TEMPISMO_REAL") != "1" {
		t.Skip("no real broker: run this with scripts/real")
	}
	return Config{Brokers: strings.Split(os.Getenv("KAFKA_BROKERS"), ",")}
}

func open(t testing.TB, c Config) *Log {
	t.Helper()
	l, err := Open(t.Context(), c, Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func create(t testing.TB, l *Log, topic string, partitions int32, config ...string) string {
	t.Helper()
	if topic == "" {
		topic = fmt.Sprintf("test.%x", rand.Uint64())
	}
	settings := map[string]*string{}
	for i := 0; i < len(config); i += 2 {
		settings[config[i]] = &config[i+1]
	}
	if _, err := l.admin.CreateTopic(t.Context(), partitions, -1, settings, topic); err != nil {
		t.Fatal(err)
	}
	if err := usable(t.Context(), l.admin, []string{topic}, partitions); err != nil {
		t.Fatal(err)
	}
	return topic
}

func harness(t *testing.T, c Config) streamtest.LogHarness {
	admin := open(t, c)
	return streamtest.LogHarness{
		Open: func(t *testing.T) stream.Log { return open(t, c) },
		Create: func(t *testing.T, topic string, info stream.TopicInfo) {
			create(t, admin, topic, info.Partitions, "max.message.bytes", strconv.Itoa(info.MaxMessageBytes))
		},
		Truncate: func(t *testing.T, topic string, partition int32, start int64) {
			var o kadm.Offsets
			o.AddOffset(topic, partition, start, -1)
			if r, err := admin.admin.DeleteRecords(t.Context(), o); err != nil || r.Error() != nil {
				t.Fatal(err, r.Error())
			}
		},
	}
}

func TestLog(t *testing.T) {
	streamtest.TestLog(t, harness(t, embedded(t)))
}

func TestRealLog(t *testing.T) {
	streamtest.TestLog(t, harness(t, realBroker(t)))
}

func message(value string) stream.Message { return stream.Message{Value: []byte(value)} }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
