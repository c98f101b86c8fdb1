package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
)

// Bounds of what is looked at, and for how long.
const (
	sampledStates = 200             // of each service and partition
	stuckFor      = time.Minute     // unread for longer, and no progress: stuck
	secondLook    = 3 * time.Second // after the first, where somebody may be stuck
)

// readable reads what a service keeps of a customer and of a partition, as the service would.
var readable = map[string]struct{ state, partition func([]byte) error }{
	profiler.Service: {func(b []byte) error { return new(timing.Profile).Decode(b) }, func(b []byte) error {
		_, err := profiler.ReadTotals(stream.Snapshot{Meta: stream.Meta{Partition: b}})
		return err
	}},
	detector.Service: {func(b []byte) error { return new(deviation.Memory).Decode(b) }, nil},
	decider.Service: {func(b []byte) error { return new(decision.State).Decode(b) }, func(b []byte) error {
		own, err := (&stream.Meta{Partition: b}).JobPartition()
		if err != nil || len(own) == 0 {
			return err
		}
		return new(decision.Audiences).Decode(own)
	}},
}

func checkServices(ctx context.Context, sys *system) (found []finding) {
	n, err := sys.partitions(ctx)
	if err != nil {
		return nil // said already
	}
	if sys.store != nil {
		for _, service := range working {
			found = append(found, checkStates(ctx, sys, service, n)...)
		}
	}
	all := append(working[:len(working):len(working)], connector.Service)
	groups := make([]string, len(all))
	for i, service := range all {
		groups[i] = sys.run.Group(service)
	}
	members, err := sys.log.Groups(ctx, groups...)
	if err != nil {
		return append(found, finding{"groups", failed, err.Error(), "Check the ACLs: describe and read on the groups of the run."})
	}
	lag, err := backlog(ctx, sys, all)
	if err != nil {
		return append(found, finding{"groups", failed, err.Error(), "Check the ACLs: describe and read on the groups and topics of the run."})
	}
	again := lag
	if slices.ContainsFunc(lag, func(l kafka.PartitionLag) bool {
		return l.Behind > stuckFor && members[sys.run.Group(l.Service)].Members > 0
	}) {
		select {
		case <-ctx.Done():
		case <-time.After(secondLook):
		}
		if again, err = backlog(ctx, sys, all); err != nil {
			return append(found, finding{"groups", failed, err.Error(), ""})
		}
	}
	for _, service := range all {
		of := func(l []kafka.PartitionLag) []kafka.PartitionLag {
			return slices.DeleteFunc(slices.Clone(l), func(l kafka.PartitionLag) bool { return l.Service != service })
		}
		found = append(found, judgeGroup(service, members[sys.run.Group(service)], n, of(lag), of(again)))
	}
	return found
}

// judgeGroup says whether somebody is at work, and gets on. again is the lag at a second look, a little later.
func judgeGroup(service string, g kafka.Group, partitions int32, lag, again []kafka.PartitionLag) finding {
	f := finding{Check: service, Result: fine}
	var unread int64
	var oldest time.Duration
	var stuck []string
	for _, l := range lag {
		unread += l.Records
		oldest = max(oldest, l.Behind)
		for _, later := range again {
			if l.Topic == later.Topic && l.Partition == later.Partition && l.Behind > stuckFor && later.Offset == l.Offset && later.Records > 0 {
				stuck = append(stuck, fmt.Sprintf("%s %d at %d", l.Topic, l.Partition, later.Offset))
			}
		}
	}
	waiting := fmt.Sprintf("%s records unread, the oldest for %s", grouped(unread), oldest.Round(time.Second))
	switch {
	case g.Members == 0 && oldest > stuckFor:
		f.Result, f.Detail, f.Advice = failed, "nobody is at work: "+waiting, "Start "+service+", or see in its log why it ended."
	case g.Members == 0:
		f.Result, f.Detail, f.Advice = warning, "nobody is at work", "Start "+service+" if it should run."
	case len(stuck) > 0:
		f.Result, f.Detail = failed, fmt.Sprintf("it is stuck: %s; no progress in %s", waiting, strings.Join(stuck, ", "))
		f.Advice = "See its log: `processing fails` is a mistake of the program or a state of a newer version, `trying again` a broker or store that does not answer."
	case g.State != "Stable":
		f.Result, f.Detail, f.Advice = warning, "its group is in state "+g.State, "That passes in seconds. If it stays, members come and go: see their logs."
	case int32(g.Members) > partitions:
		f.Result, f.Detail, f.Advice = warning, fmt.Sprintf("%d members for %d partitions: some have nothing to do", g.Members, partitions), "Run fewer, or see docs/operations.md, Changing the number of partitions."
	case oldest > stuckFor:
		f.Result, f.Detail, f.Advice = warning, fmt.Sprintf("%d members, %s", g.Members, waiting), "It gets on. If it does not catch up, run more of it, up to one for each partition; tempismo lag shows each topic."
	default:
		f.Detail = fmt.Sprintf("%d members, %s records unread", g.Members, grouped(unread))
	}
	return f
}

// checkStates looks at what is stored of a service.
func checkStates(ctx context.Context, sys *system, service string, n int32) (found []finding) {
	check := service + " state"
	group := sys.run.Group(service)
	hinted, err := sys.log.GroupOffsets(ctx, group)
	if err != nil {
		return []finding{{check, failed, err.Error(), "Check the ACLs: describe and read on the groups of the run."}}
	}
	stored, states := 0, 0
	for p := range n {
		snap, err := sys.store.Read(ctx, group, p, nil)
		if err != nil {
			found = append(found, finding{check, failed, fmt.Sprintf("partition %d: %v", p, err), "Run the program that wrote it: see docs/operations.md, Upgrades and rollback."})
			continue
		}
		bounds := map[string][2]int64{}
		for topic := range snap.Positions {
			start, end, err := sys.log.Bounds(ctx, sys.run.Topic(topic), p)
			if errors.Is(err, stream.ErrUnknownTopic) {
				continue // said already
			}
			if err != nil {
				return append(found, finding{check, failed, err.Error(), ""})
			}
			bounds[topic] = [2]int64{start, end}
		}
		hints := map[string]int64{}
		for topic, by := range hinted {
			if at, ok := by[p]; ok {
				hints[sys.run.Base(topic)] = at
			}
		}
		found = append(found, judgeState(service, p, n, &snap.Meta, bounds, hints)...)
		if !snap.Lost {
			stored++
		}
		read, problem := readStates(ctx, sys, service, p, &snap)
		states += read
		found = append(found, problem...)
	}
	if len(found) == 0 {
		detail := fmt.Sprintf("%d of %d partitions, positions inside the log, %s states read", stored, n, grouped(int64(states)))
		if stored == 0 {
			detail = "nothing stored yet"
		}
		found = append(found, finding{check, fine, detail, ""})
	}
	return found
}

// judgeState looks at what is stored of one partition. bounds are those of the log by topic, hints the group's offsets.
func judgeState(service string, p, n int32, m *stream.Meta, bounds map[string][2]int64, hints map[string]int64) (found []finding) {
	add := func(result, advice, detail string, args ...any) {
		found = append(found, finding{service + " state", result, fmt.Sprintf("partition %d: ", p) + fmt.Sprintf(detail, args...), advice})
	}
	if m.Lost {
		if len(hints) > 0 {
			add(warning, "Let "+service+" run: it rebuilds what the log still holds, and says until where. If Redis was to keep it, see its persistence.", "the state is gone, though the service has read before")
		}
		return found
	}
	if m.Partitions != 0 && m.Partitions != n {
		add(failed, "Restore the number of partitions; to change it see docs/operations.md, Changing the number of partitions.", "the state was made with %d partitions, the topics have %d", m.Partitions, n)
	}
	for _, topic := range slices.Sorted(maps.Keys(bounds)) {
		at, start, end := m.Positions[topic], bounds[topic][0], bounds[topic][1]
		switch {
		case at < start:
			add(failed, "Records were dropped unread. "+outside, "%s: position %d, the log begins at %d", topic, at, start)
		case at > end:
			add(failed, "The topic was made anew, or its brokers lost records. "+outside, "%s: position %d, the log ends at %d", topic, at, end)
		case hints[topic] > at:
			add(warning, "Redis lost its last writes. Let "+service+" run: it works the log through again and publishes nothing twice. REDIS_DURABLE=replicas:N avoids it.", "%s: position %d, but %d were acknowledged before", topic, at, hints[topic])
		}
	}
	if len(m.Rebuilding) > 0 {
		add(warning, "Let "+service+" run until it is done: until then nothing acts on what it knows.", "a lost state is being rebuilt, until %s", bytes.ReplaceAll(m.Rebuilding, []byte(" "), []byte(", ")))
	}
	if m.Partial {
		add(warning, "Profiles trigger nothing until they have aged past the gap (13 weeks of event time). Keep "+topics.Events+" as long as a profile should remember.", "it was rebuilt from a log that no longer holds its beginning")
	}
	return found
}

// outside is what to do about a position that the log does not hold.
const outside = "Nothing is processed until somebody decides: start a new run (RUN_ID), or delete the state, so that it is rebuilt from what is left (docs/operations.md, Upgrades and rollback)."

// readStates reads some states of a partition as the service would.
func readStates(ctx context.Context, sys *system, service string, p int32, snap *stream.Snapshot) (read int, found []finding) {
	codec := readable[service]
	advice := "Run the program that wrote it, or rebuild it: see docs/operations.md, Upgrades and rollback."
	if _, err := snap.JobPartition(); err != nil {
		return 0, []finding{{service + " state", failed, fmt.Sprintf("partition %d: %v", p, err), advice}}
	}
	if codec.partition != nil {
		if err := codec.partition(snap.Partition); err != nil {
			return 0, []finding{{service + " state", failed, fmt.Sprintf("partition %d: %v", p, err), advice}}
		}
	}
	var bad int
	var why error
	err := sys.store.Scan(ctx, sys.run.Group(service), p, func(_ string, value []byte) bool {
		if read++; len(value) > 0 {
			if err := codec.state(value); err != nil {
				bad, why = bad+1, err
			}
		}
		return read < sampledStates
	})
	if err != nil {
		return read, []finding{{service + " state", failed, fmt.Sprintf("partition %d: %v", p, err), ""}}
	}
	if bad > 0 {
		return read, []finding{{service + " state", failed, fmt.Sprintf("partition %d: %d of %d states cannot be read: %v", p, bad, read, why), advice}}
	}
	return read, nil
}
