package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// clockBound is by how much clocks may differ. Events more than a minute ahead are refused, and slots are minutes long.
const clockBound = 5 * time.Second

func checkKafka(ctx context.Context, sys *system) (found []finding) {
	found = append(found, finding{"kafka", fine, "reached at " + strings.Join(sys.kafka.Brokers, ", "), ""})
	versions, err := sys.log.Versions(ctx)
	if err != nil {
		return append(found, finding{"kafka version", failed, err.Error(), "See that every broker is up, and reachable from here."})
	}
	if sys.dir == "" { // the embedded broker is of no version of Kafka's
		found = append(found, judgeVersions(versions)...)
	}
	names := kafka.Names(sys.run)
	there, err := sys.log.Describe(ctx, sys.run, names...)
	if err != nil {
		return append(found, finding{"topics", failed, err.Error(), "Check the ACLs: describe and describe configs on the topics of the run."})
	}
	found = append(found, judgeTopics(sys.run, there, names)...)
	if sys.dir != "" {
		return found // one copy on one machine, with one clock, by design
	}
	found = append(found, judgeCopies(there, len(versions))...)
	return append(found, kafkaClock(ctx, sys)...)
}

var versionNumber = regexp.MustCompile(`v(\d+)\.(\d+)`)

// judgeVersions looks at what each broker is.
func judgeVersions(versions map[int32]string) []finding {
	var old, all []string
	for _, id := range slices.Sorted(maps.Keys(versions)) {
		v := versions[id]
		all = append(all, v)
		if m := versionNumber.FindAllStringSubmatch(v, -1); m == nil || len(m[len(m)-1][1]) == 1 && m[len(m)-1][1] < "4" {
			old = append(old, fmt.Sprintf("broker %d is %s", id, v))
		}
	}
	switch all = slices.Compact(all); {
	case len(old) > 0:
		return []finding{{"kafka version", warning, strings.Join(old, ", "), "Tempismo is tested with Apache Kafka 4.0 and newer: upgrade."}}
	case len(all) > 1:
		return []finding{{"kafka version", warning, "brokers differ: " + strings.Join(all, ", "), "Finish the upgrade of the brokers."}}
	}
	return []finding{{"kafka version", fine, strings.Join(all, ", "), ""}}
}

// judgeTopics looks at what the topics of a run are set to.
func judgeTopics(run stream.Run, there map[string]kafka.Topic, names []string) (found []finding) {
	var missing []string
	counts := map[int32][]string{}
	for _, name := range names {
		t, ok := there[name]
		if !ok {
			missing = append(missing, name)
			continue
		}
		counts[t.Partitions] = append(counts[t.Partitions], name)
	}
	switch {
	case len(missing) == len(names):
		return []finding{{"topics", failed, fmt.Sprintf("none of run %q exists", run.ID), "tempismo topics create"}}
	case len(missing) > 0:
		found = append(found, finding{"topics", failed, fmt.Sprintf("%d of %d of run %q are missing: %s", len(missing), len(names), run.ID, strings.Join(missing, ", ")), "tempismo topics create"})
	default:
		found = append(found, finding{"topics", fine, fmt.Sprintf("all %d of run %q", len(names), run.ID), ""})
	}
	if len(counts) == 1 {
		for n := range counts {
			found = append(found, finding{"partitions", fine, fmt.Sprintf("%d everywhere", n), ""})
		}
	} else {
		var parts []string
		for _, n := range slices.Sorted(maps.Keys(counts)) {
			parts = append(parts, fmt.Sprintf("%d: %s", n, strings.Join(counts[n], ", ")))
		}
		found = append(found, finding{"partitions", failed, "topics differ in their number of partitions: " + strings.Join(parts, "; "),
			"Customers are bound to their partition, so topics that are read together must have the same number. Nothing may be added by hand: restore the number, or see docs/operations.md, Changing the number of partitions."})
	}
	before := len(found)
	for _, name := range names {
		if t, ok := there[name]; ok {
			found = append(found, judgeTopic(run, t)...)
		}
	}
	found = append(found, judgeRetention(run, there)...)
	if len(found) == before {
		found = append(found, finding{"topic settings", fine, "as they are declared, or safer", ""})
	}
	return found
}

// judgeTopic compares the settings of one topic with what the design needs.
func judgeTopic(run stream.Run, t kafka.Topic) (found []finding) {
	add := func(result, advice, detail string, args ...any) {
		found = append(found, finding{"topic settings", result, t.Name + ": " + fmt.Sprintf(detail, args...), advice})
	}
	set := func(key string) string {
		return "kafka-configs.sh --alter --entity-type topics --entity-name " + t.Name + " --add-config " + key
	}
	base := run.Base(t.Name)
	table := false
	for _, d := range topics.All {
		table = table || d.Name == base && d.Kind == topics.Table
	}
	switch {
	case table && !t.Compacted():
		add(failed, set("cleanup.policy=compact"), "what is told of a customer ages and is forgotten")
	case table && t.Retention() >= 0:
		add(failed, set("cleanup.policy=compact"), "it is compacted, but also deletes by age or size")
	case !table && t.Compacted():
		add(failed, set("cleanup.policy=delete"), "it is compacted, so that all but the last record of a customer are lost")
	}
	if v := t.Settings["message.timestamp.type"]; v != "CreateTime" {
		add(failed, set("message.timestamp.type=CreateTime"), "message.timestamp.type is %s: a replay would see other times", v)
	}
	if want, err := strconv.ParseInt(t.Recommended["message.timestamp.after.max.ms"], 10, 64); err == nil {
		if have, err := strconv.ParseInt(t.Settings["message.timestamp.after.max.ms"], 10, 64); err == nil && have > want {
			add(warning, set(fmt.Sprintf("message.timestamp.after.max.ms=%d", want)), "a writer whose clock is ahead by more than a minute moves everybody's")
		}
	}
	if strings.HasSuffix(base, topics.DeadLetter("")) {
		want, _ := strconv.Atoi(t.Recommended["max.message.bytes"])
		if have, err := strconv.Atoi(t.Settings["max.message.bytes"]); err == nil && have < want {
			add(warning, set(fmt.Sprintf("max.message.bytes=%d", want)), "max.message.bytes is %d: the largest records do not fit, and only their position would be kept", have)
		}
	}
	if t.Settings["unclean.leader.election.enable"] == "true" {
		add(failed, set("unclean.leader.election.enable=false"), "unclean leader election may lose acknowledged records")
	}
	return found
}

// judgeRetention looks at for how long topics keep what others need.
func judgeRetention(run stream.Run, there map[string]kafka.Topic) (found []finding) {
	kept := func(name string) (time.Duration, bool) {
		t, ok := there[run.Topic(name)]
		if d := t.Retention(); d >= 0 {
			return d, ok
		}
		return 1<<63 - 1, ok
	}
	for _, name := range kafka.Names(run) {
		t, ok := there[name]
		want, err := strconv.ParseInt(t.Recommended["retention.ms"], 10, 64)
		if !ok || err != nil || t.Compacted() {
			continue
		}
		if have, need := t.Retention(), time.Duration(want)*time.Millisecond; have >= 0 && have < need {
			detail, advice := fmt.Sprintf("%s keeps %s, %s are declared", name, spell(have), spell(need)), "kafka-configs.sh --alter --entity-type topics --entity-name "+name+" --add-config retention.ms="+strconv.FormatInt(want, 10)
			if name == run.Topic(topics.Events) {
				detail += "; a lost profile can be rebuilt from no more"
			}
			if v := t.Settings["retention.bytes"]; v != "-1" && v != "" {
				detail, advice = name+" is bounded by retention.bytes, so that nobody knows for how long it keeps records", "Set retention.bytes=-1, and bound it by time."
			}
			found = append(found, finding{"retention", warning, detail, advice})
		}
	}
	for _, pair := range []struct{ longer, shorter, why string }{
		{topics.Erasures, topics.Events, "a replay would learn again what is erased"},
		{topics.Erasures, topics.Consents, "a replay would remember again what an erased customer had answered"},
		{topics.Ticks, topics.Requests, "a rebuilt decider would let timers fire again that have fired"},
		{topics.Ticks, topics.Deviations, "a rebuilt decider would let timers fire again that have fired"},
		{topics.Outcomes, topics.Requests, "a rebuilt decider would not know what was sent"},
	} {
		long, ok := kept(pair.longer)
		short, also := kept(pair.shorter)
		if ok && also && long < short {
			found = append(found, finding{"retention", failed, fmt.Sprintf("%s keeps %s, less than %s with %s: %s", run.Topic(pair.longer), spell(long), run.Topic(pair.shorter), spell(short), pair.why),
				"Raise retention.ms of " + run.Topic(pair.longer) + "."})
		}
	}
	return found
}

func spell(d time.Duration) string {
	switch {
	case d == 1<<63-1:
		return "everything"
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}

// judgeCopies looks at how many brokers hold each record.
func judgeCopies(there map[string]kafka.Topic, brokers int) (found []finding) {
	by := map[finding][]string{}
	note := func(name, result, detail, advice string) {
		f := finding{"replication", result, detail, advice}
		by[f] = append(by[f], name)
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		t := there[name]
		least, err := strconv.Atoi(t.Settings["min.insync.replicas"])
		if err != nil {
			continue
		}
		raise := "kafka-configs.sh --alter --entity-type topics --entity-name TOPIC --add-config min.insync.replicas=2"
		switch {
		case t.InSync == 0:
			note(name, failed, "a partition has no leader", "Bring its brokers back: nothing can be read or written there.")
		case t.InSync < least:
			note(name, failed, fmt.Sprintf("%d replicas in sync, %d are needed for a write", t.InSync, least), "Bring the brokers back: services wait until they are there.")
		case t.Replicas == 1:
			note(name, warning, "one copy: the disk that fails takes it along", "Run three brokers with default.replication.factor=3 and min.insync.replicas=2, and create the topics there; existing ones: kafka-reassign-partitions.sh.")
		case least < 2:
			note(name, warning, fmt.Sprintf("%d replicas, but min.insync.replicas=%d: what is acknowledged may stand on one broker only", t.Replicas, least), raise)
		case least >= t.Replicas:
			note(name, warning, fmt.Sprintf("min.insync.replicas=%d of %d replicas: no broker may be down", least, t.Replicas), "Have one replica more than min.insync.replicas.")
		case t.InSync < t.Replicas:
			note(name, warning, fmt.Sprintf("%d of %d replicas in sync", t.InSync, t.Replicas), "See why a broker lags or is down: the next one that fails stops writes.")
		}
	}
	for f, names := range by {
		which := strings.Join(names, ", ")
		if len(names) == len(there) {
			which = "every topic"
		}
		f.Detail = which + ": " + f.Detail
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b finding) int { return strings.Compare(a.Result+a.Detail, b.Result+b.Detail) })
	if len(found) == 0 {
		return []finding{{"replication", fine, fmt.Sprintf("%d brokers, one may fail", brokers), ""}}
	}
	return found
}

func kafkaClock(ctx context.Context, sys *system) []finding {
	ahead, err := sys.log.Clock(ctx)
	switch {
	case errors.Is(err, kafka.ErrNoClock):
		return nil // an embedded broker in another process: there is one clock
	case err != nil:
		return []finding{{"kafka clock", warning, err.Error(), "To have clocks compared allow the user to create, write and delete topics whose names begin with tempismo."}}
	}
	return []finding{judgeClock("kafka clock", "Kafka", ahead)}
}

func judgeClock(check, whose string, ahead time.Duration) finding {
	f := finding{check, fine, fmt.Sprintf("%s is %s ahead of this machine", whose, ahead.Round(time.Millisecond)), ""}
	if ahead.Abs() > clockBound {
		f.Result, f.Advice = failed, "Synchronise the clocks (chrony, systemd-timesyncd): events more than a minute ahead are refused, and slots are minutes long."
	}
	return f
}
