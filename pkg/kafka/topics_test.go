package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kadm"
)

func TestTopicsAreMadeFromTheirDeclaration(t *testing.T)     { testEnsureTopics(t, embedded(t)) }
func TestRealTopicsAreMadeFromTheirDeclaration(t *testing.T) { testEnsureTopics(t, realBroker(t)) }

// livePartitions is what every test that needs the live topics asks for: there is one set of them on a broker, and the
// end-to-end test, in another process, works on it too.
const livePartitions = 8

// aRun is a run that no other test uses.
func aRun(simulated bool) stream.Run {
	return stream.Run{ID: fmt.Sprintf("t%d", time.Now().UnixNano()), Simulated: simulated}
}

func testEnsureTopics(t *testing.T, config Config) {
	ctx := within(t, time.Minute)
	l := open(t, config)
	simulated := aRun(true)
	for _, run := range []stream.Run{simulated, {ID: "r1"}} {
		for range 2 { // the second finds everything there
			if err := EnsureTopics(ctx, config, run, livePartitions); err != nil {
				t.Fatal(err)
			}
		}
		for _, declared := range topics.All {
			names := map[string]string{run.Topic(declared.Name): "1048576"}
			if declared.DLQ {
				names[run.Topic(topics.DeadLetter(declared.Name))] = "2097152"
			}
			for name, size := range names {
				infos, err := l.Topics(ctx, name)
				if err != nil || infos[name].Partitions != livePartitions {
					t.Fatalf("%s: %+v, %v", name, infos, err)
				}
				got := settings(t, l, name)
				policy, retention := "delete", declared.Retention
				switch {
				case strings.HasSuffix(name, ".dlq"):
					retention = topics.DeadLetterRetention
				case declared.Kind == topics.Table:
					policy = "compact"
				}
				if got["max.message.bytes"] != size || got["cleanup.policy"] != policy || got["message.timestamp.type"] != "CreateTime" ||
					policy == "delete" && got["retention.ms"] != fmt.Sprint(retention.Milliseconds()) ||
					policy == "compact" && got["min.compaction.lag.ms"] != "2592000000" {
					t.Errorf("%s: %v", name, got)
				}
				if ahead := got["message.timestamp.after.max.ms"]; !run.Simulated && ahead != "60000" || run.Simulated && ahead == "60000" {
					t.Errorf("%s: clocks may run ahead by %s ms", name, ahead)
				}
			}
		}
	}
	err := EnsureTopics(ctx, config, simulated, livePartitions+1)
	if err == nil || !strings.Contains(err.Error(), simulated.Topic(topics.Events)+" has 8 partitions, 9 are wanted") {
		t.Errorf("another number of partitions: %v", err)
	}
}

func settings(t *testing.T, l *Log, topic string) map[string]string {
	t.Helper()
	configs, err := l.admin.DescribeTopicConfigs(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	c, err := configs.On(topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range c.Configs {
		all[kv.Key] = kv.MaybeValue()
	}
	return all
}

func TestRealTimestampsMayNotRunAhead(t *testing.T) {
	config, run := realBroker(t), stream.Run{ID: "r1"}
	if err := EnsureTopics(t.Context(), config, run, livePartitions); err != nil {
		t.Fatal(err)
	}
	l := open(t, config)
	p, err := l.Producer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ahead := stream.Message{Value: []byte("tomorrow"), Time: time.Now().Add(24 * time.Hour)}
	if _, err := p.Produce(within(t, time.Minute), run.Topic(topics.Events), 0, []stream.Message{ahead}); err == nil {
		t.Error("a record of tomorrow was taken")
	}
}

func TestLag(t *testing.T)     { testLag(t, embedded(t)) }
func TestRealLag(t *testing.T) { testLag(t, realBroker(t)) }

func testLag(t *testing.T, config Config) {
	ctx, run := within(t, time.Minute), aRun(true)
	if err := EnsureTopics(ctx, config, run, 2); err != nil {
		t.Fatal(err)
	}
	l := open(t, config)
	lag := func(topic string, partition int32) PartitionLag {
		t.Helper()
		lags, err := Lag(ctx, config, run, []string{"profiler"})
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range lags {
			if g.Topic == topic && g.Partition == partition {
				return g
			}
		}
		t.Fatalf("%s[%d] is not among %+v", topic, partition, lags)
		return PartitionLag{}
	}
	none := PartitionLag{Service: "profiler", Topic: topics.Events, Partition: 1, Offset: -1}
	if g := lag(topics.Events, 1); g != none {
		t.Errorf("nothing written: %+v", g)
	}
	p, err := l.Producer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if _, err := p.Produce(ctx, run.Topic(topics.Events), 1, []stream.Message{{Value: []byte("a"), Time: hourAgo}, {Value: []byte("b"), Time: hourAgo.Add(30 * time.Minute)}}); err != nil {
		t.Fatal(err)
	}
	near := func(g PartitionLag, offset, records int64, behind time.Duration) {
		t.Helper()
		if g.Offset != offset || g.Records != records || g.End != 2 || g.Behind < behind || g.Behind > behind+10*time.Minute {
			t.Errorf("%+v; want offset %d, %d records, %v and a little", g, offset, records, behind)
		}
	}
	near(lag(topics.Events, 1), -1, 2, time.Hour)
	hint := func(offset int64) {
		t.Helper()
		var o kadm.Offsets
		o.AddOffset(run.Topic(topics.Events), 1, offset, -1)
		if err := l.admin.CommitAllOffsets(ctx, run.Group("profiler"), o); err != nil {
			t.Fatal(err)
		}
	}
	hint(1)
	near(lag(topics.Events, 1), 1, 1, 30*time.Minute)
	hint(2)
	if g := lag(topics.Events, 1); g.Records != 0 || g.Behind != 0 {
		t.Errorf("all read: %+v", g)
	}
	if _, err := Lag(ctx, config, run, []string{"postman"}); err == nil {
		t.Error("a service that reads nothing has a lag")
	}
}

func TestPositions(t *testing.T)     { testPositions(t, embedded(t)) }
func TestRealPositions(t *testing.T) { testPositions(t, realBroker(t)) }

func testPositions(t *testing.T, config Config) {
	ctx := within(t, time.Minute)
	l := open(t, config)
	topic := create(t, l, "", 2)
	p, err := l.Producer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i := range 10 {
		if _, err := p.Produce(ctx, topic, 0, []stream.Message{{Value: fmt.Append(nil, i), Time: noon.Add(time.Duration(i) * time.Minute)}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name     string
		from, to Position
		want     string
	}{
		{"from the earliest to the latest is everything", Earliest, Latest, "0123456789"},
		{"the last three, of each partition", Last(3), Latest, "789"},
		{"the last of more than there are is everything", Last(100), Latest, "0123456789"},
		{"since a record's time begins with it", Since(noon.Add(4 * time.Minute)), Latest, "456789"},
		{"since a time between records begins with the next", Since(noon.Add(4*time.Minute + 1)), Latest, "56789"},
		{"a range of time has its end outside", Since(noon.Add(2 * time.Minute)), Since(noon.Add(5 * time.Minute)), "234"},
		{"since the future is nothing", Since(noon.Add(24 * time.Hour)), Latest, ""},
		{"offsets are taken as they are", Offsets(map[int32]int64{0: 8}), Latest, "89"},
		{"offsets may end a range", Earliest, Offsets(map[int32]int64{0: 2}), "01"},
		{"an end before the beginning is nothing", Last(1), Offsets(map[int32]int64{0: 2}), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got strings.Builder
			if err := Range(ctx, l, topic, c.from, c.to, func(r *stream.Record) error {
				got.Write(r.Value)
				return nil
			}); err != nil || got.String() != c.want {
				t.Errorf("read %q, %v; want %q", got.String(), err, c.want)
			}
		})
	}
	stop := errors.New("enough")
	if err := Tail(ctx, l, topic, Earliest, func(*stream.Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("what fn returns: %v", err)
	}
	if err := Tail(ctx, l, topic+"-missing", Earliest, nil); !errors.Is(err, stream.ErrUnknownTopic) {
		t.Errorf("a topic that is not there: %v", err)
	}
	// A position that retention has overtaken goes on at what is left.
	var o kadm.Offsets
	o.AddOffset(topic, 0, 6, -1)
	if _, err := l.admin.DeleteRecords(ctx, o); err != nil {
		t.Fatal(err)
	}
	var got []string
	err = Range(ctx, l, topic, Offsets(map[int32]int64{0: 1}), Latest, func(r *stream.Record) error {
		got = append(got, string(r.Value))
		return nil
	})
	if want := []string{"6", "7", "8", "9"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
}
