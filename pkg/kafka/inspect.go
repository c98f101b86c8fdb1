package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic is a topic as the cluster has it.
type Topic struct {
	Name        string // on the wire
	Partitions  int32
	Replicas    int                // of the partition that has fewest
	InSync      int                // replicas of the partition that has fewest in sync; 0: one has no leader
	Settings    map[string]string  // in force
	Overridden  map[string]*string // those that were set for the topic itself
	Recommended map[string]string  // what package topics declares for it; nil: it is none of ours
}

// Describe tells of the named topics (names on the wire) that exist, by name.
func (l *Log) Describe(ctx context.Context, run stream.Run, names ...string) (map[string]Topic, error) {
	if len(names) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	details, err := l.admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", denied(err))
	}
	wanted := map[string]map[string]string{}
	for _, d := range declare(run) {
		wanted[d.name] = map[string]string{}
		for k, v := range d.config {
			wanted[d.name][k] = *v
		}
	}
	all := map[string]Topic{}
	var there []string
	for _, d := range details.Sorted() {
		if errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			continue
		}
		if d.Err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", d.Topic, denied(d.Err))
		}
		t := Topic{Name: d.Topic, Partitions: int32(len(d.Partitions)), Settings: map[string]string{}, Overridden: map[string]*string{}, Recommended: wanted[d.Topic]}
		for i, p := range d.Partitions.Sorted() {
			replicas, inSync := len(p.Replicas), len(p.ISR)
			if p.Leader < 0 {
				inSync = 0
			}
			if i == 0 {
				t.Replicas, t.InSync = replicas, inSync
			}
			t.Replicas, t.InSync = min(t.Replicas, replicas), min(t.InSync, inSync)
		}
		all[d.Topic] = t
		there = append(there, d.Topic)
	}
	if len(there) == 0 {
		return all, nil
	}
	configs, err := l.admin.DescribeTopicConfigs(ctx, there...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", denied(err))
	}
	for _, c := range configs {
		if c.Err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", c.Name, denied(c.Err))
		}
		for _, kv := range c.Configs {
			all[c.Name].Settings[kv.Key] = kv.MaybeValue()
			if kv.Source == kmsg.ConfigSourceDynamicTopicConfig {
				all[c.Name].Overridden[kv.Key] = kv.Value
			}
		}
	}
	return all, nil
}

// Versions guesses, for each broker, which version of Kafka it is of, by the requests that it knows.
func (l *Log) Versions(ctx context.Context) (map[int32]string, error) {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	all, err := l.admin.ApiVersions(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the brokers for their versions: %w", err)
	}
	versions := map[int32]string{}
	for _, b := range all {
		if b.Err != nil {
			return nil, fmt.Errorf("ask broker %d for its versions: %w", b.NodeID, b.Err)
		}
		versions[b.NodeID] = b.VersionGuess()
	}
	return versions, nil
}

// Group is a consumer group as its coordinator sees it.
type Group struct {
	State   string // Stable, PreparingRebalance, CompletingRebalance, Empty or Dead (which is: there is none)
	Members int
}

// Groups describes consumer groups, by name. One that does not exist is Dead.
func (l *Log) Groups(ctx context.Context, names ...string) (map[string]Group, error) {
	patient, cancel := context.WithTimeout(ctx, coordinatorPatience)
	defer cancel()
	var pause backoff
	for {
		groups, err := l.groups(patient, names)
		if err == nil || !coming(err) || pause.wait(patient) != nil {
			return groups, err
		}
	}
}

func (l *Log) groups(ctx context.Context, names []string) (map[string]Group, error) {
	described, err := l.admin.DescribeGroups(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe consumer groups: %w", err)
	}
	groups := map[string]Group{}
	for _, name := range names {
		d, ok := described[name]
		switch {
		case !ok || errors.Is(d.Err, kerr.GroupIDNotFound):
			d.State = "Dead"
		case d.Err != nil:
			return nil, fmt.Errorf("describe consumer group %s: %w", name, denied(d.Err))
		}
		groups[name] = Group{d.State, len(d.Members)}
	}
	return groups, nil
}

// coming reports whether a coordinator is about to come up.
func coming(err error) bool {
	return errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
}

// GroupOffsets returns the offsets that a group has stored, by topic (on the wire) and partition.
func (l *Log) GroupOffsets(ctx context.Context, group string) (map[string]map[int32]int64, error) {
	stored, err := l.groupOffsets(ctx, group)
	if err != nil {
		return nil, err
	}
	offsets := map[string]map[int32]int64{}
	stored.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.At >= 0 {
			if offsets[o.Topic] == nil {
				offsets[o.Topic] = map[int32]int64{}
			}
			offsets[o.Topic][o.Partition] = o.At
		}
	})
	return offsets, nil
}

// SetGroupOffsets stores offsets for a group that has no members.
func (l *Log) SetGroupOffsets(ctx context.Context, group string, offsets map[string]map[int32]int64) error {
	var all kadm.Offsets
	for topic, by := range offsets {
		for p, at := range by {
			all.AddOffset(topic, p, at, -1)
		}
	}
	patient, cancel := context.WithTimeout(ctx, coordinatorPatience)
	defer cancel()
	var pause backoff
	for {
		err := l.admin.CommitAllOffsets(patient, group, all)
		if err == nil {
			return nil
		}
		if !coming(err) || pause.wait(patient) != nil {
			return fmt.Errorf("store offsets of group %s (it must have no members): %w", group, err)
		}
	}
}

// Create makes a topic, with replicas copies (-1: the broker's default) and the settings given, and returns when it can be
// used. One that is just being deleted under the same name is waited for; one that stays is an error.
func (l *Log) Create(ctx context.Context, name string, partitions int32, replicas int, settings map[string]*string) error {
	patient, cancel := context.WithTimeout(ctx, coordinatorPatience)
	defer cancel()
	var pause backoff
	for {
		_, err := l.admin.CreateTopic(patient, partitions, int16(replicas), settings, name)
		if err == nil {
			break
		}
		if !errors.Is(err, kerr.TopicAlreadyExists) || pause.wait(patient) != nil {
			return fmt.Errorf("create topic %s: %w", name, denied(err))
		}
	}
	l.limits.Delete(name)
	l.transport.CloseIdleConnections() // with them kafka-go forgets a topic of that name that was
	return usable(ctx, l.admin, []string{name}, partitions)
}

// Delete deletes a topic (its name on the wire) and returns when it is gone. One that does not exist is no error.
func (l *Log) Delete(ctx context.Context, name string) error {
	if _, err := l.admin.DeleteTopic(ctx, name); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("delete topic %s: %w", name, denied(err))
	}
	var pause backoff
	for {
		details, err := l.admin.ListTopics(ctx, name)
		if err == nil && errors.Is(details[name].Err, kerr.UnknownTopicOrPartition) {
			return nil
		}
		if err := pause.wait(ctx); err != nil {
			return fmt.Errorf("wait until topic %s is gone: %w", name, err)
		}
	}
}

// ErrNoClock answers Clock where a broker keeps no time of its own, as the embedded one.
var ErrNoClock = errors.New("the broker does not say when it took a record")

// Clock tells how far the clock of a broker is ahead of this machine's, within half of what a request takes. No request
// asks for it: a topic that is made for it, and deleted, says when it took a record.
func (l *Log) Clock(ctx context.Context) (ahead time.Duration, err error) {
	name := fmt.Sprintf("tempismo.doctor.clock.%x", rand.Uint64())
	if err := l.Create(ctx, name, 1, -1, map[string]*string{"message.timestamp.type": kadm.StringPtr("LogAppendTime")}); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Delete(context.WithoutCancel(ctx), name)) }()
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	value := []byte("?")
	var pause backoff
	for {
		before := time.Now()
		r, err := l.client.Produce(ctx, &kafkago.ProduceRequest{
			Topic: name, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(kafkago.Record{Value: protocol.NewBytes(value)}),
		})
		if err == nil {
			err = r.Error
		}
		if err == nil && r.LogAppendTime.UnixMilli() <= 0 {
			return 0, ErrNoClock
		}
		if err == nil {
			return r.LogAppendTime.Sub(before.Add(time.Since(before) / 2)), nil
		}
		if !transient(err) || pause.wait(ctx) != nil {
			return 0, fmt.Errorf("ask a broker for the time: %w", err)
		}
	}
}

// Names lists the topics of a run, dead letters included, as they stand on the wire.
func Names(run stream.Run) []string {
	var names []string
	for _, t := range topics.All {
		names = append(names, run.Topic(t.Name))
		if t.DLQ {
			names = append(names, run.Topic(topics.DeadLetter(t.Name)))
		}
	}
	return names
}

// Retention is how long a topic keeps its records at least; negative: for ever.
func (t Topic) Retention() time.Duration {
	if t.Settings["retention.bytes"] != "-1" && t.Settings["retention.bytes"] != "" && t.deletes() {
		return 0 // as long as there is room: nobody knows
	}
	ms, err := strconv.ParseInt(t.Settings["retention.ms"], 10, 64)
	if err != nil || ms < 0 || !t.deletes() {
		return -1
	}
	return time.Duration(min(ms, int64(1<<63-1)/int64(time.Millisecond))) * time.Millisecond
}

// deletes reports whether records leave the topic by age.
func (t Topic) deletes() bool {
	return slices.Contains(strings.Split(t.Settings["cleanup.policy"], ","), "delete")
}

// Compacted reports whether earlier records of a key leave the topic.
func (t Topic) Compacted() bool {
	return slices.Contains(strings.Split(t.Settings["cleanup.policy"], ","), "compact")
}
