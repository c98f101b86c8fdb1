package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// limitTopic is where the bare loop says how far it is.
const limitTopic = "bench.limit"

// limitCommit is how often the bare loop writes a group offset: not at every fetch, which no engine does either.
const limitCommit = 100 * time.Millisecond

// runLimit is the bare loop: it fetches with our cursor, reads each event, updates a state in a map as the light job does, and
// writes the group's offset, and nothing else. It keeps no promise: what it had in memory is gone when it ends. No engine
// on this client can be faster, so it is what the others are measured by.
func runLimit(ctx context.Context, c ServiceConfig, set app.Settings) error {
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return err
	}
	defer log.Close()
	run := c.run()
	topic := run.Topic(topics.Events)
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = log.Consume(ctx, run.Group("limit"), topic, func(ctx context.Context, a stream.Assignment) {
		if err := limitPartition(ctx, log, run, a); err != nil && ctx.Err() == nil {
			select {
			case failed <- err:
			default:
			}
			cancel()
		}
		<-ctx.Done()
	})
	select {
	case err = <-failed:
	default:
	}
	return err
}

// limitPartition works one partition off and tells, fifty times, how many records it has read.
func limitPartition(ctx context.Context, log *kafka.Log, run stream.Run, a stream.Assignment) error {
	topic := run.Topic(topics.Events)
	begin, end, err := log.Bounds(ctx, topic, a.Partition())
	if err != nil {
		return err
	}
	cursor, err := log.Open(ctx, topic, a.Partition(), begin)
	if err != nil {
		return err
	}
	defer cursor.Close()
	producer, err := log.Producer(ctx)
	if err != nil {
		return err
	}
	defer producer.Close()
	states := map[string]*lightState{}
	var e engagement.Event
	var read, told int64
	written := time.Now()
	for cursor.Next() < end {
		records, err := cursor.Fetch(ctx, limitFetch, time.Second)
		if err != nil {
			return err
		}
		for i := range records {
			if err := e.Parse(records[i].Value); err != nil {
				return err
			}
			s := states[e.Subject]
			if s == nil {
				s = new(lightState)
				states[string(records[i].Key)] = s // the event's strings live no longer than the fetch
			}
			s.note(e.Time.Unix(), e.Kind.Engaged())
		}
		read += int64(len(records))
		done := cursor.Next() >= end
		if done || time.Since(written) > limitCommit {
			if err := a.Hint(ctx, map[string]int64{topic: cursor.Next()}); err != nil {
				return err
			}
			written = time.Now()
		}
		if step := read * limitSteps / (end - begin); done || step > told {
			told = step
			m := stream.Message{Value: fmt.Appendf(nil, "%d of %d", read, end-begin)}
			if _, err := producer.Produce(ctx, run.Topic(limitTopic), a.Partition(), []stream.Message{m}); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	limitFetch = 4 << 20
	limitSteps = 50 // of progress
)

// byCount is the mark of the bare loop.
func byCount(sizes []int64) mark {
	return func(r *stream.Record) (float64, bool) {
		var read, of int64
		n, err := fmt.Sscanf(string(r.Value), "%d of %d", &read, &of)
		return float64(read) / float64(sizes[r.Partition]), n == 2 && err == nil
	}
}
