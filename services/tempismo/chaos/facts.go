package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/history"
)

// facts are the evidence with everything that stands on the topics and in Redis.
type facts struct {
	*Evidence
	records map[string][][]stream.Record // by declared topic and partition
	kept    map[string][]kept            // by service and partition
	differs []string                     // decisions that are made otherwise when they are made again
	remade  int                          // decisions that were made again
}

// kept is what Redis holds of a partition of a service.
type kept struct {
	meta   stream.Meta
	states map[string][]byte
}

// stateful are the services whose states are in Redis.
var stateful = []string{"profiler", "detector", "decider"}

// gather reads everything.
func gather(ctx context.Context, e *Evidence) (*facts, error) {
	log, err := kafka.Open(ctx, e.Kafka)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	store, err := redis.Open(ctx, e.Redis)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	f := &facts{Evidence: e, records: map[string][][]stream.Record{}, kept: map[string][]kept{}}
	for _, t := range topics.All {
		names := []string{t.Name}
		if t.DLQ {
			names = append(names, topics.DeadLetter(t.Name))
		}
		for _, name := range names {
			if f.records[name], err = read(ctx, log, e.Run.Topic(name)); err != nil {
				return nil, err
			}
		}
	}
	for _, service := range stateful {
		for p := range e.Partitions {
			k, err := keep(ctx, store, e.Run.Group(service), p)
			if err != nil {
				return nil, err
			}
			f.kept[service] = append(f.kept[service], k)
		}
	}
	return f, f.decideAgain(ctx, log)
}

// read returns all records of a topic by partition.
func read(ctx context.Context, log *kafka.Log, topic string) ([][]stream.Record, error) {
	infos, err := log.Topics(ctx, topic)
	if err != nil {
		return nil, err
	}
	all := make([][]stream.Record, infos[topic].Partitions)
	return all, kafka.Range(ctx, log, topic, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		c := *r
		c.Key, c.Value, c.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
		for i := range c.Headers {
			c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
		}
		all[r.Partition] = append(all[r.Partition], c)
		return nil
	})
}

// keep reads what is kept of a partition.
func keep(ctx context.Context, store *redis.Store, group string, partition int32) (kept, error) {
	snapshot, err := store.Read(ctx, group, partition, nil)
	if err != nil {
		return kept{}, err
	}
	k := kept{snapshot.Meta, map[string][]byte{}}
	return k, store.Scan(ctx, group, partition, func(key string, value []byte) bool {
		k.states[key] = bytes.Clone(value)
		return true
	})
}

// decideAgain makes every decision again from what it was made from.
func (f *facts) decideAgain(ctx context.Context, log *kafka.Log) error {
	if f.Forgot || slices.Contains(f.Renewed, "decider") {
		return nil
	}
	for p := range f.Partitions {
		past, err := history.Open(ctx, log, f.Run, p)
		if err != nil {
			return err
		}
		err = past.Follow(ctx, func(s *history.Step) error {
			f.remade += len(s.Decisions)
			if !s.Agrees() {
				f.differs = append(f.differs, fmt.Sprintf("%s:%d:%d", s.Topic, p, s.Offset))
			}
			return nil
		})
		if err := errors.Join(err, past.Close()); err != nil {
			return fmt.Errorf("decide again what was decided in partition %d: %w", p, err)
		}
	}
	return nil
}

// settled waits no longer than this for what is behind.
const settled = 250 * time.Millisecond

// Drained waits until everything on the logs is taken and every request has ended, or ctx ends.
func Drained(ctx context.Context, e *Evidence) error {
	log, err := kafka.Open(ctx, e.Kafka)
	if err != nil {
		return err
	}
	defer log.Close()
	store, err := redis.Open(ctx, e.Redis)
	if err != nil {
		return err
	}
	defer store.Close()
	waiting := "nothing was seen"
	for calm := 0; ; {
		busy, err := behind(ctx, log, store, e)
		if err != nil {
			busy = err.Error()
		}
		if calm++; busy != "" {
			calm, waiting = 0, busy
		}
		if calm == 2 { // what one service published last may have come between two looks
			return nil
		}
		select {
		case <-time.After(settled):
		case <-ctx.Done():
			return fmt.Errorf("not drained: %s: %w", waiting, ctx.Err())
		}
	}
}

// works reports whether a service works a topic off. The connector reads outcomes only to remember.
func works(l *kafka.PartitionLag) bool {
	return l.Service != "connector" || l.Topic == topics.Decisions
}

// behind says what is still to be done.
func behind(ctx context.Context, log *kafka.Log, store *redis.Store, e *Evidence) (string, error) {
	lags, err := log.Lag(ctx, e.Run, working)
	if err != nil {
		return "", err
	}
	for _, l := range lags {
		if l.Records > 0 && works(&l) {
			return fmt.Sprintf("%s is %d records behind in %s %d", l.Service, l.Records, l.Topic, l.Partition), nil
		}
	}
	for p := range e.Partitions {
		k, err := keep(ctx, store, e.Run.Group("decider"), p)
		if err != nil {
			return "", err
		}
		for customer, b := range k.states {
			var s decision.State
			if err := s.Decode(b); err != nil {
				return "", fmt.Errorf("state of %s: %w", customer, err)
			}
			waits := ""
			s.Pending(func(request string, due time.Time) { waits = request + " waits until " + due.Format(time.TimeOnly) })
			if waits != "" {
				return waits, nil
			}
		}
	}
	return "", nil
}
