package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kadm"
)

// ample is the ordinary max.message.bytes of a topic.
const ample = 1 << 20

// tighten has a topic accept a part of what its service writes, for a while: known to the service from its start, which
// makes dead letters of what does not fit, or unknown to it, which makes it wait.
func tighten(ctx context.Context, r *Rig, n int) error {
	service, topic := "profiler", topics.Scored
	if n%2 == 1 {
		service, topic = "detector", topics.Deviations
	}
	limit, err := r.middling(ctx, topic)
	if err != nil {
		return err
	}
	lasts := 2*time.Second + time.Duration(r.Rand.Int64N(int64(3*time.Second)))
	if r.Rand.IntN(3) == 0 {
		r.Note("max.message.bytes of " + topic + " lowered while it is written")
		watching := r.watch(service)
		if err := r.accept(ctx, topic, limit); err != nil {
			return err
		}
		err := sleep(ctx, lasts)
		watching.noSpin()
		return errors.Join(err, r.accept(context.WithoutCancel(ctx), topic, ample))
	}
	r.Note("max.message.bytes of " + topic + " too small for a part of what is written")
	// What is committed fits the limit of its time: the service publishes that, and stops, before another limit holds.
	r.retire(service)
	if err := r.accept(ctx, topic, limit); err != nil {
		return err
	}
	r.restore(service)
	// Half of the time passes until the group has formed again.
	err = sleep(ctx, 2*time.Second+lasts)
	r.retire(service)
	err = errors.Join(err, r.accept(context.WithoutCancel(ctx), topic, ample))
	r.restore(service)
	return err
}

// retire tells all instances of a service to stop, and waits for them.
func (r *Rig) retire(service string) {
	var all sync.WaitGroup
	for _, p := range r.Service(service) {
		all.Go(func() {
			if exit, code := p.Term(); code != 0 || exit > stopIn {
				r.Found(Violation{Invariant: "V", What: fmt.Sprintf("SIGTERM: it ended with code %d after %s: see %s", code, exit.Round(time.Millisecond), p.Log), IDs: []string{p.ID()}})
			}
		})
	}
	all.Wait()
}

// accept sets the largest batch that a topic takes.
func (r *Rig) accept(ctx context.Context, topic string, limit int) error {
	admin, err := r.Brokers.admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	value := strconv.Itoa(limit)
	answers, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &value}}, r.Run.Topic(topic))
	if err == nil && len(answers) == 1 {
		err = answers[0].Err
	}
	if err != nil {
		return fmt.Errorf("set max.message.bytes of %s: %w", topic, err)
	}
	return nil
}

// middling is a size that some of the records of a topic exceed, and others do not.
func (r *Rig) middling(ctx context.Context, topic string) (int, error) {
	var sizes []int
	err := kafka.Range(ctx, r.log, r.Run.Topic(topic), kafka.Last(200), kafka.Latest, func(rec *stream.Record) error {
		size := 100 + len(rec.Key) + len(rec.Value)
		for _, h := range rec.Headers {
			size += 10 + len(h.Key) + len(h.Value)
		}
		sizes = append(sizes, size)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look at the sizes of %s: %w", topic, err)
	}
	if len(sizes) == 0 {
		return 800, nil
	}
	slices.Sort(sizes)
	return sizes[len(sizes)/4+r.Rand.IntN((len(sizes)+1)/2)], nil
}

// nothingDroppedSilently reads what the dead letters of outputs name: inputs that stand on their topic.
func nothingDroppedSilently(ctx context.Context, r *Rig, _ *Evidence) (found []Violation) {
	letters := 0
	var unnamed []string
	for _, topic := range []string{topics.Events, topics.Scored} {
		inputs, err := read(ctx, r.log, r.Run.Topic(topic))
		if err != nil {
			return []Violation{{Invariant: "L", What: fmt.Sprintf("what was read could not be read again: %v", err)}}
		}
		err = kafka.Range(ctx, r.log, r.Run.Topic(topics.DeadLetter(topic)), kafka.Earliest, kafka.Latest, func(rec *stream.Record) error {
			if headerOf(rec.Headers, "__connect.errors.stage") != "output" {
				return nil
			}
			letters++
			partition, err1 := strconv.Atoi(headerOf(rec.Headers, "__connect.errors.partition"))
			offset, err2 := strconv.ParseInt(headerOf(rec.Headers, "__connect.errors.offset"), 10, 64)
			named := err1 == nil && err2 == nil && headerOf(rec.Headers, "__connect.errors.topic") == topic && partition < len(inputs) &&
				slices.ContainsFunc(inputs[partition], func(in stream.Record) bool { return in.Offset == offset })
			if !named {
				unnamed = append(unnamed, fmt.Sprintf("%s %d:%d", rec.Topic, rec.Partition, rec.Offset))
			}
			return nil
		})
		if err != nil {
			return []Violation{{Invariant: "L", What: fmt.Sprintf("the dead letters could not be read: %v", err)}}
		}
	}
	r.count("dead letters of outputs that did not fit", letters)
	if len(unnamed) > 0 {
		found = append(found, Violation{Invariant: "L", What: "dead letters of outputs that name no input", IDs: unnamed})
	}
	for what := range r.noted {
		if letters == 0 && what == "max.message.bytes of "+topics.Scored+" too small for a part of what is written" {
			found = append(found, Violation{Invariant: "L", What: "outputs were too large, and there is no dead letter"})
		}
	}
	return found
}
