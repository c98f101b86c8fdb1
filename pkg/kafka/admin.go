package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Settings of the topics, beside what package topics declares.
const (
	maxMessage = 1 << 20 // bytes of a batch
	// A dead letter is the largest input and the headers that say why.
	maxDeadLetter = 2 << 20
	// Time in a live run is the highest record timestamp seen: nobody may push it ahead by more than this.
	aheadMillis = 60_000
)

// declared is a topic as it is to be created.
type declared struct {
	name   string
	config map[string]*string
}

// tableHistory is how long a table keeps what is no longer true: as long, a decision can be made again from what was known
// then.
const tableHistory = 30 * 24 * time.Hour

func declare(run stream.Run) []declared {
	var all []declared
	add := func(name string, retention time.Duration, size int) {
		config := map[string]*string{
			"cleanup.policy":         kadm.StringPtr("delete"),
			"retention.ms":           kadm.StringPtr(strconv.FormatInt(retention.Milliseconds(), 10)),
			"max.message.bytes":      kadm.StringPtr(strconv.Itoa(size)),
			"message.timestamp.type": kadm.StringPtr("CreateTime"),
		}
		if !run.Simulated {
			config["message.timestamp.after.max.ms"] = kadm.StringPtr(strconv.Itoa(aheadMillis))
		}
		all = append(all, declared{run.Topic(name), config})
	}
	for _, t := range topics.All {
		add(t.Name, t.Retention, maxMessage)
		if t.Kind == topics.Table {
			config := all[len(all)-1].config
			config["cleanup.policy"] = kadm.StringPtr("compact")
			config["min.compaction.lag.ms"] = kadm.StringPtr(strconv.FormatInt(tableHistory.Milliseconds(), 10))
			delete(config, "retention.ms")
		}
		if t.DLQ {
			add(topics.DeadLetter(t.Name), topics.DeadLetterRetention, maxDeadLetter)
		}
	}
	return all
}

// EnsureTopics creates the topics of a run, dead letters included, that do not exist yet, with the broker's default
// replication factor, and returns when all can be used. It changes no topic that exists: what operators have set stays.
// One that exists with another number of partitions is an error, because keys, and with them states, are bound to their
// partition.
func EnsureTopics(ctx context.Context, c Config, run stream.Run, partitions int32) error {
	if partitions < 1 {
		return fmt.Errorf("create topics: %d partitions: at least 1 is needed", partitions)
	}
	dial, err := c.dialer()
	if err != nil {
		return err
	}
	admin, err := openAdmin(ctx, c, dial)
	if err != nil {
		return err
	}
	defer admin.Close()
	wanted := declare(run)
	names := make([]string, len(wanted))
	for i, t := range wanted {
		names[i] = t.name
	}
	existing, err := admin.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	var problems []error
	for _, t := range wanted {
		switch d := existing[t.name]; {
		case errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			_, err := admin.CreateTopic(ctx, partitions, -1, t.config, t.name)
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				problems = append(problems, fmt.Errorf("create topic %s: %w", t.name, denied(err)))
			}
		case d.Err != nil:
			problems = append(problems, fmt.Errorf("describe topic %s: %w", t.name, denied(d.Err)))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return usable(ctx, admin, names, partitions)
}

// usable waits until every partition of the topics has a leader that answers, and compares their number.
func usable(ctx context.Context, admin *kadm.Client, names []string, partitions int32) error {
	var pause backoff
	for {
		m, err := admin.ListTopics(ctx, names...)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("wait for new topics: %w", err)
		}
		ready := err == nil
		var problems []error
		for _, name := range names {
			d := m[name]
			ready = ready && d.Err == nil && len(d.Partitions) > 0
			for _, p := range d.Partitions {
				ready = ready && p.Err == nil && p.Leader >= 0
			}
			if n := int32(len(d.Partitions)); d.Err == nil && n > 0 && n != partitions {
				problems = append(problems, fmt.Errorf("topic %s has %d partitions, %d are wanted: customers are bound to their partition, so ask for %d, or begin a new run with topics of its own", name, n, partitions, n))
			}
		}
		if len(problems) > 0 {
			return errors.Join(problems...)
		}
		// A leader that is elected does not know it at once: only its own answer shows that it serves the partition.
		if ready {
			var ends kadm.ListedOffsets
			if ends, err = admin.ListEndOffsets(ctx, names...); err == nil && ends.Error() == nil {
				return nil
			}
		}
		if err := pause.wait(ctx); err != nil {
			return fmt.Errorf("wait for new topics: %w", err)
		}
	}
}

// PartitionLag is how far one service is behind in one partition of one of its inputs.
type PartitionLag struct {
	Service   string        `json:"service"`
	Topic     string        `json:"topic"` // declared name
	Partition int32         `json:"partition"`
	Offset    int64         `json:"offset"` // next to be read; -1: nothing read yet
	End       int64         `json:"end"`
	Records   int64         `json:"records"`   // unread; 0 is everything read
	Behind    time.Duration `json:"behind_ns"` // age of the first unread record; 0 where everything is read
}

// Lag tells how far each of the services is behind in a run: see Log.Lag.
func Lag(ctx context.Context, c Config, run stream.Run, services []string) ([]PartitionLag, error) {
	l, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.Lag(ctx, run, services)
}

// Lag tells, by service, topic and partition, how far the services are behind in the topics that they are declared to
// read. It goes by group offsets, which follow the acknowledged outputs; where there is none yet, everything retained is
// unread. The true position is in the Store.
func (l *Log) Lag(ctx context.Context, run stream.Run, services []string) ([]PartitionLag, error) {
	var lags []PartitionLag
	for _, service := range services {
		var names []string
		for _, t := range topics.All {
			if slices.Contains(t.Readers, service) {
				names = append(names, run.Topic(t.Name))
			}
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("lag of %q: no topic is declared to be read by it", service)
		}
		of, err := l.GroupLag(ctx, run.Group(service), names...)
		if err != nil {
			return nil, fmt.Errorf("lag of %s: %w", service, err)
		}
		for i := range of {
			of[i].Service, of[i].Topic = service, run.Base(of[i].Topic)
		}
		lags = append(lags, of...)
	}
	slices.SortFunc(lags, func(a, b PartitionLag) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return lags, nil
}

// GroupLag tells, by topic on the wire and partition, how far a consumer group is behind in topics. The service is left to the caller.
func (l *Log) GroupLag(ctx context.Context, group string, names ...string) ([]PartitionLag, error) {
	stored, err := l.groupOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	var lags []PartitionLag
	for _, name := range names {
		starts, err := l.offsets(ctx, name, l.admin.ListStartOffsets)
		if err != nil {
			return nil, err
		}
		ends, err := l.offsets(ctx, name, l.admin.ListCommittedOffsets)
		if err != nil {
			return nil, err
		}
		for p, end := range ends {
			g := PartitionLag{Topic: name, Partition: p, Offset: -1, End: end}
			if o, ok := stored.Lookup(name, p); ok && o.Err == nil {
				g.Offset = o.At
			}
			// What retention has dropped is not waiting to be read.
			from := max(g.Offset, starts[p])
			if g.Records = max(end-from, 0); g.Records > 0 {
				if g.Behind, err = l.age(ctx, name, p, from); err != nil {
					return nil, err
				}
			}
			lags = append(lags, g)
		}
	}
	slices.SortFunc(lags, func(a, b PartitionLag) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return lags, nil
}

// coordinatorPatience is how long a group's coordinator may take to come up. A broker that has just started makes the topic
// of group offsets when it is first asked for one, and answers COORDINATOR_NOT_AVAILABLE for a few seconds.
const coordinatorPatience = 15 * time.Second

// groupOffsets reads the offsets of a group; a group that does not exist has none.
func (l *Log) groupOffsets(ctx context.Context, group string) (kadm.OffsetResponses, error) {
	patient, cancel := context.WithTimeout(ctx, coordinatorPatience)
	defer cancel()
	var pause backoff
	for {
		stored, err := l.admin.FetchOffsets(ctx, group)
		if err == nil || errors.Is(err, kerr.GroupIDNotFound) {
			return stored, nil
		}
		if !coming(err) || pause.wait(patient) != nil {
			return nil, fmt.Errorf("read the group offsets of %s: %w", group, denied(err))
		}
	}
}

// age is the time since the first record at or after offset was made; 0 if none is left there.
func (l *Log) age(ctx context.Context, topic string, partition int32, offset int64) (time.Duration, error) {
	c, err := l.Open(ctx, topic, partition, offset)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	records, err := c.Fetch(ctx, 1, time.Second)
	if errors.Is(err, stream.ErrOffsetOutOfRange) {
		return 0, nil // dropped by retention since its start was listed
	}
	if err != nil || len(records) == 0 {
		return 0, err
	}
	return max(time.Since(records[0].Time), 0), nil
}
