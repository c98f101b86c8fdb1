package kafka

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kadm"
)

func TestWhatOperatorsAsk(t *testing.T)     { whatOperatorsAsk(t, embedded(t), ErrNoClock) }
func TestRealWhatOperatorsAsk(t *testing.T) { whatOperatorsAsk(t, realBroker(t), nil) }

func whatOperatorsAsk(t *testing.T, config Config, clock error) {
	ctx, l := within(t, 2*time.Minute), open(t, config)
	run := aRun(true)
	if err := EnsureTopics(ctx, config, run, 2); err != nil {
		t.Fatal(err)
	}
	name := run.Topic(topics.Events)
	all, err := l.Describe(ctx, run, name, run.Topic(topics.Attributes), "there.is.none")
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	day := 24 * time.Hour
	events, table := all[name], all[run.Topic(topics.Attributes)]
	if events.Partitions != 2 || events.Replicas != 1 || events.InSync != 1 || events.Retention() != 400*day || events.Compacted() || events.Recommended["retention.ms"] != strconv.FormatInt((400*day).Milliseconds(), 10) {
		t.Errorf("events: %+v", events)
	}
	if table.Retention() >= 0 || !table.Compacted() || table.Overridden["cleanup.policy"] == nil || table.Overridden["segment.bytes"] != nil {
		t.Errorf("attributes: %+v", table)
	}
	if versions, err := l.Versions(ctx); err != nil || len(versions) != 1 {
		t.Errorf("versions: %v, %v", versions, err)
	}
	if ahead, err := l.Clock(ctx); !errors.Is(err, clock) || ahead.Abs() > time.Minute {
		t.Errorf("the broker on this machine is %v ahead, %v", ahead, err)
	}

	group := run.Group("nobody")
	if groups, err := l.Groups(ctx, group); err != nil || groups[group] != (Group{State: "Dead"}) {
		t.Errorf("a group that does not exist: %v, %v", groups, err)
	}
	if err := l.SetGroupOffsets(ctx, group, map[string]map[int32]int64{name: {0: 0, 1: 0}}); err != nil {
		t.Fatal(err)
	}
	if groups, err := l.Groups(ctx, group); err != nil || groups[group] != (Group{State: "Empty"}) {
		t.Errorf("a group without members: %v, %v", groups, err)
	}
	if offsets, err := l.GroupOffsets(ctx, group); err != nil || len(offsets[name]) != 2 {
		t.Errorf("offsets: %v, %v", offsets, err)
	}
}

// A topic can be made anew under its name, with another number of partitions, and be written to at once by who knew it.
func TestATopicIsMadeAnew(t *testing.T)     { aTopicIsMadeAnew(t, embedded(t)) }
func TestRealATopicIsMadeAnew(t *testing.T) { aTopicIsMadeAnew(t, realBroker(t)) }

func aTopicIsMadeAnew(t *testing.T, config Config) {
	ctx, l := within(t, 2*time.Minute), open(t, config)
	name := create(t, l, "", 1)
	write := func(partition int32) {
		t.Helper()
		p, err := l.Producer(ctx)
		if err != nil {
			t.Fatal(err)
		}
		at := time.UnixMilli(1_700_000_000_000)
		if base, err := p.Produce(ctx, name, partition, []stream.Message{{Key: []byte("k"), Value: []byte("v"), Time: at}}); err != nil || base != 0 {
			t.Fatalf("offset %d, %v", base, err)
		}
	}
	write(0)
	for range 2 { // the second finds nothing to delete
		if err := l.Delete(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Create(ctx, name, 3, -1, map[string]*string{"retention.ms": kadm.StringPtr("-1")}); err != nil {
		t.Fatal(err)
	}
	write(2)
	if got := values(t, l, name, 2); len(got) != 1 {
		t.Errorf("it holds %q", got)
	}
}
