package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
)

// one expects that a single finding is not fine, and what it says.
func one(t *testing.T, found []finding, result, detail string) {
	t.Helper()
	found = slices.DeleteFunc(slices.Clone(found), func(f finding) bool { return f.Result == fine })
	if result == fine {
		if len(found) > 0 {
			t.Errorf("it finds %+v", found)
		}
		return
	}
	if len(found) != 1 || found[0].Result != result || !strings.Contains(found[0].Detail, detail) || found[0].Advice == "" {
		t.Errorf("it finds %+v, not %s: %s", found, result, detail)
	}
}

// proper are the topics of a live run as `tempismo topics create` makes them on three brokers.
func proper(run stream.Run) map[string]kafka.Topic {
	all := map[string]kafka.Topic{}
	for _, d := range topics.All {
		add := func(name string, retention time.Duration, size int) {
			settings := map[string]string{
				"cleanup.policy": "delete", "retention.ms": fmt.Sprint(retention.Milliseconds()), "retention.bytes": "-1", "max.message.bytes": fmt.Sprint(size),
				"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": "60000", "min.insync.replicas": "2", "unclean.leader.election.enable": "false",
			}
			recommended := map[string]string{"retention.ms": settings["retention.ms"], "max.message.bytes": settings["max.message.bytes"], "message.timestamp.after.max.ms": "60000"}
			if d.Kind == topics.Table && size == 1<<20 {
				settings["cleanup.policy"], settings["retention.ms"] = "compact", "604800000"
				delete(recommended, "retention.ms")
			}
			all[run.Topic(name)] = kafka.Topic{Name: run.Topic(name), Partitions: 8, Replicas: 3, InSync: 3, Settings: settings, Recommended: recommended}
		}
		add(d.Name, d.Retention, 1<<20)
		if d.DLQ {
			add(topics.DeadLetter(d.Name), topics.DeadLetterRetention, 2<<20)
		}
	}
	return all
}

func TestDoctorJudgesTopics(t *testing.T) {
	run := stream.Run{ID: "r1"}
	set := func(topic, key, value string) func(map[string]kafka.Topic) {
		return func(all map[string]kafka.Topic) { all[topic].Settings[key] = value }
	}
	change := func(topic string, do func(*kafka.Topic)) func(map[string]kafka.Topic) {
		return func(all map[string]kafka.Topic) { x := all[topic]; do(&x); all[topic] = x }
	}
	for name, c := range map[string]struct {
		change         func(map[string]kafka.Topic)
		result, detail string
	}{
		"as they should be":          {func(map[string]kafka.Topic) {}, fine, ""},
		"one is missing":             {func(all map[string]kafka.Topic) { delete(all, topics.Scored) }, failed, "engagement.scored.v1"},
		"all are missing":            {func(all map[string]kafka.Topic) { clear(all) }, failed, "none of run"},
		"one has more partitions":    {change(topics.Ticks, func(x *kafka.Topic) { x.Partitions = 12 }), failed, "12: send.ticks.v1"},
		"a table that deletes":       {set(topics.Attributes, "cleanup.policy", "delete"), failed, "forgotten"},
		"a table that does both":     {set(topics.Attributes, "cleanup.policy", "compact,delete"), failed, "also deletes"},
		"a log that is compacted":    {set(topics.Scored, "cleanup.policy", "compact"), failed, "all but the last record"},
		"times of the broker":        {set(topics.Events, "message.timestamp.type", "LogAppendTime"), failed, "LogAppendTime"},
		"times far ahead":            {set(topics.Events, "message.timestamp.after.max.ms", "9223372036854775807"), warning, "clock is ahead"},
		"small dead letters":         {set(topics.DeadLetter(topics.Events), "max.message.bytes", "1000"), warning, "1000"},
		"unclean leaders":            {set(topics.Events, "unclean.leader.election.enable", "true"), failed, "unclean"},
		"events are kept for a week": {set(topics.Events, "retention.ms", "604800000"), warning, "7 days, 400 days are declared; a lost profile"},
		"decisions bounded by size":  {set(topics.Decisions, "retention.bytes", "1000000"), warning, "retention.bytes"},
		"events kept for ever":       {set(topics.Events, "retention.ms", "-1"), failed, "customer.erasures.v1 keeps 3650 days, less than engagement.events.v1 with everything"},
		"requests outlive ticks":     {set(topics.Requests, "retention.ms", fmt.Sprint((100 * 24 * time.Hour).Milliseconds())), failed, "send.ticks.v1 keeps 90 days, less than send.requests.v1"},
		"deviations outlive ticks":   {set(topics.Deviations, "retention.ms", fmt.Sprint((100 * 24 * time.Hour).Milliseconds())), failed, "send.ticks.v1 keeps 90 days, less than timing.deviations.v1"},
		"outcomes for less than requests": {func(all map[string]kafka.Topic) {
			all[topics.Outcomes].Settings["retention.ms"] = "86400000"
			all[topics.Outcomes].Recommended["retention.ms"] = "86400000"
		}, failed, "what was sent"},
	} {
		t.Run(name, func(t *testing.T) {
			all := proper(run)
			c.change(all)
			one(t, judgeTopics(run, all, kafka.Names(run)), c.result, c.detail)
		})
	}
	for name, c := range map[string]struct {
		change         func(map[string]kafka.Topic)
		result, detail string
	}{
		"as it should be":     {func(map[string]kafka.Topic) {}, fine, ""},
		"one copy":            {change(topics.Events, func(x *kafka.Topic) { x.Replicas, x.InSync = 1, 1; x.Settings["min.insync.replicas"] = "1" }), warning, "engagement.events.v1: one copy"},
		"acknowledged by one": {set(topics.Events, "min.insync.replicas", "1"), warning, "one broker only"},
		"none may be down":    {set(topics.Events, "min.insync.replicas", "3"), warning, "no broker may be down"},
		"one lags":            {change(topics.Events, func(x *kafka.Topic) { x.InSync = 2 }), warning, "2 of 3"},
		"too few":             {change(topics.Events, func(x *kafka.Topic) { x.InSync = 1 }), failed, "1 replicas in sync, 2 are needed"},
		"no leader":           {change(topics.Events, func(x *kafka.Topic) { x.InSync = 0 }), failed, "no leader"},
		"every topic has a copy": {func(all map[string]kafka.Topic) {
			for n := range all {
				change(n, func(x *kafka.Topic) { x.Settings["min.insync.replicas"] = "1" })(all)
			}
		}, warning, "every topic"},
	} {
		t.Run("copies: "+name, func(t *testing.T) {
			all := proper(run)
			c.change(all)
			one(t, judgeCopies(all, 3), c.result, c.detail)
		})
	}
}

func TestDoctorJudgesVersionsAndClocks(t *testing.T) {
	one(t, judgeVersions(map[int32]string{1: "v4.1", 2: "v4.1"}), fine, "")
	one(t, judgeVersions(map[int32]string{1: "at least v4.3"}), fine, "")
	one(t, judgeVersions(map[int32]string{1: "v10.0"}), fine, "")
	one(t, judgeVersions(map[int32]string{1: "v3.9", 2: "v4.1"}), warning, "broker 1 is v3.9")
	one(t, judgeVersions(map[int32]string{1: "v4.0", 2: "v4.1"}), warning, "differ")
	one(t, []finding{judgeClock("clock", "Kafka", -3*time.Second)}, fine, "")
	one(t, []finding{judgeClock("clock", "Kafka", 6*time.Second)}, failed, "6s ahead")
	one(t, []finding{judgeClock("clock", "Kafka", -time.Minute)}, failed, "-1m0s ahead")
}

func TestDoctorJudgesRedis(t *testing.T) {
	server := func(change ...string) redis.Server {
		s := redis.Server{Clock: true,
			Info:     map[string]string{"redis_version": "7.4.1", "role": "master", "used_memory": "50", "maxmemory": "100", "connected_slaves": "1", "aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok"},
			Settings: map[string]string{"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}}
		for i := 0; i < len(change); i += 2 {
			if _, ok := s.Settings[change[i]]; ok {
				s.Settings[change[i]] = change[i+1]
			} else {
				s.Info[change[i]] = change[i+1]
			}
		}
		return s
	}
	one(t, judgeServer(server(), "replicas:1"), fine, "")
	one(t, judgeServer(server("maxmemory", "0"), ""), fine, "")
	one(t, judgeServer(server("redis_version", ""), ""), warning, "INFO")
	one(t, judgeServer(server("redis_version", "5.0.7"), ""), warning, "5.0.7")
	one(t, judgeServer(server("role", "slave"), ""), failed, "replica")
	one(t, judgeServer(server("loading", "1"), ""), failed, "loading")
	one(t, judgeServer(server("maxmemory-policy", "allkeys-lru"), ""), failed, "allkeys-lru")
	one(t, judgeServer(server("used_memory", "95"), ""), failed, "95 of 100")
	one(t, judgeServer(server("used_memory", "75"), ""), warning, "75 of 100")
	one(t, judgeServer(server("appendonly", "no"), ""), warning, "nothing is written to disk")
	one(t, judgeServer(server("appendonly", "no", "save", "3600 1"), ""), warning, "snapshots only")
	one(t, judgeServer(server("appendonly", ""), ""), warning, "CONFIG")
	one(t, judgeServer(server("appendfsync", "no"), ""), warning, "appendfsync is no")
	one(t, judgeServer(server("aof_last_write_status", "err"), ""), failed, "aof_last_write_status is err")
	one(t, judgeServer(server("rdb_last_bgsave_status", "err"), ""), failed, "rdb_last_bgsave_status is err")
	one(t, judgeServer(server("connected_slaves", "0"), ""), warning, "none")
	one(t, judgeServer(server("connected_slaves", "1"), "replicas:2"), failed, "REDIS_DURABLE waits for 2")
	late := server()
	late.Ahead = -time.Minute
	one(t, judgeServer(late, ""), failed, "-1m0s ahead")
	mute := server()
	mute.Clock = false
	one(t, judgeServer(mute, ""), warning, "does not tell the time")
}

func TestDoctorJudgesStates(t *testing.T) {
	bounds := map[string][2]int64{topics.Events: {10, 50}}
	at := func(n int64) *stream.Meta {
		return &stream.Meta{Partitions: 8, Positions: map[string]int64{topics.Events: n}}
	}
	judge := func(m *stream.Meta, hint int64) []finding {
		return judgeState("profiler", 3, 8, m, bounds, map[string]int64{topics.Events: hint})
	}
	one(t, judge(at(10), 10), fine, "")
	one(t, judge(at(50), 40), fine, "")
	one(t, judge(at(9), 9), failed, "partition 3: engagement.events.v1: position 9, the log begins at 10")
	one(t, judge(at(51), 51), failed, "position 51, the log ends at 50")
	one(t, judge(at(20), 30), warning, "position 20, but 30 were acknowledged")
	one(t, judge(&stream.Meta{Lost: true}, 30), warning, "state is gone")
	one(t, judgeState("profiler", 3, 8, &stream.Meta{Lost: true}, bounds, nil), fine, "")
	other := at(20)
	other.Partitions = 4
	one(t, judge(other, 20), failed, "made with 4 partitions, the topics have 8")
	rebuilding := at(20)
	rebuilding.Rebuilding = []byte(topics.Events + "=50")
	one(t, judge(rebuilding, 20), warning, "being rebuilt, until engagement.events.v1=50")
	partial := at(20)
	partial.Partial = true
	one(t, judge(partial, 20), warning, "no longer holds its beginning")
}

func TestDoctorJudgesGroups(t *testing.T) {
	lag := func(offset, unread int64, behind time.Duration) []kafka.PartitionLag {
		return []kafka.PartitionLag{{Service: "detector", Topic: topics.Scored, Partition: 2, Offset: offset, Records: unread, Behind: behind}}
	}
	judge := func(state string, members int, before, after []kafka.PartitionLag) []finding {
		return []finding{judgeGroup("detector", kafka.Group{State: state, Members: members}, 8, before, after)}
	}
	one(t, judge("Stable", 2, lag(10, 5, time.Second), lag(10, 5, time.Second)), fine, "")
	one(t, judge("Dead", 0, nil, nil), warning, "nobody")
	one(t, judge("Empty", 0, lag(10, 5, time.Hour), lag(10, 5, time.Hour)), failed, "nobody is at work: 5 records unread")
	one(t, judge("Stable", 2, lag(10, 5, time.Hour), lag(10, 9, time.Hour)), failed, "stuck: 5 records unread, the oldest for 1h0m0s; no progress in engagement.scored.v1 2 at 10")
	one(t, judge("Stable", 2, lag(10, 5, time.Hour), lag(12, 7, time.Hour)), warning, "2 members, 5 records unread")
	one(t, judge("PreparingRebalance", 2, lag(10, 0, 0), lag(10, 0, 0)), warning, "PreparingRebalance")
	one(t, judge("Stable", 9, lag(10, 0, 0), lag(10, 0, 0)), warning, "9 members for 8 partitions")
}

// doctored runs the doctor and returns what it finds by check, results other than ok only.
func doctored(t *testing.T, wantCode int, where ...string) map[string][]finding {
	t.Helper()
	out, errs, code := tempismo(t, append([]string{"doctor", "--json"}, where...)...)
	var all []finding
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != wantCode {
		t.Fatalf("exit code %d: %v\n%s%s", code, err, out, errs)
	}
	by := map[string][]finding{}
	for _, f := range all {
		if f.Result != fine {
			by[f.Check] = append(by[f.Check], f)
		}
	}
	return by
}

func TestDoctor(t *testing.T) {
	brokers, store := embedded(t)
	doctorOn(t, brokers, store, "doctor")
}

func TestRealDoctor(t *testing.T) {
	brokers, store := onRealOnes(t)
	doctorOn(t, brokers, store, fmt.Sprintf("doctor-%d", time.Now().UnixNano()))
}

// doctorOn makes things go wrong with a system that is well, one after the other.
func doctorOn(t *testing.T, brokers, storeAddr, id string) {
	alone(t)
	where := []string{"--kafka-brokers", brokers, "--redis-addr", storeAddr, "--run", id}
	has := func(by map[string][]finding, check, detail string) {
		t.Helper()
		for _, f := range by[check] {
			if strings.Contains(f.Detail, detail) && f.Advice != "" {
				return
			}
		}
		t.Errorf("nothing is said of %s: %s, but %+v", check, detail, by)
	}
	simulated := append(slices.Clone(where), "--run-mode", "simulated")
	has(doctored(t, 1, simulated...), "topics", "none of run")

	must(t, importArgs(readers(t, 12, 40), where...)...)
	well := doctored(t, 0, where...)
	for _, service := range []string{profiler.Service, detector.Service, decider.Service} {
		if bad := well[service+" state"]; bad != nil {
			t.Errorf("a system that is well: %+v", bad)
		}
		has(well, service, "nobody is at work")
	}

	run := stream.Run{ID: id, Simulated: true}
	log, err := kafka.Open(t.Context(), kafka.Config{Brokers: strings.Split(brokers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	states, err := redis.Open(t.Context(), redis.Config{Addr: storeAddr})
	if err != nil {
		t.Fatal(err)
	}
	defer states.Close()
	// spoil commits to what is stored of a service's first partition.
	spoil := func(service string, change func(*stream.Meta, *stream.Commit)) {
		t.Helper()
		lease, err := states.Claim(t.Context(), run.Group(service), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Close()
		m := lease.Meta()
		c := &stream.Commit{Base: m.Positions, Next: m.Positions, Partition: m.Partition, Partitions: m.Partitions}
		change(&m, c)
		if err := lease.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	spoil(profiler.Service, func(_ *stream.Meta, c *stream.Commit) {
		c.Keys, c.Values = []string{"spoilt"}, [][]byte{{250, 1, 2}}
	})
	spoil(detector.Service, func(m *stream.Meta, c *stream.Commit) {
		c.Next = map[string]int64{topics.Scored: m.Positions[topics.Scored] + 1000, topics.Erasures: 0}
		c.Rebuilding, c.Partial = []byte(topics.Scored+"=7"), true
	})
	spoil(decider.Service, func(_ *stream.Meta, c *stream.Commit) { c.Partitions = 3 })
	sick := doctored(t, 1, where...)
	has(sick, "profiler state", "states cannot be read")
	has(sick, "detector state", "the log ends at")
	has(sick, "detector state", "being rebuilt")
	has(sick, "detector state", "no longer holds its beginning")
	has(sick, "decider state", "made with 3 partitions, the topics have 8")

	spoil(decider.Service, func(m *stream.Meta, c *stream.Commit) { c.Partition = append([]byte{99}, m.Partition...) })
	has(doctored(t, 1, where...), "decider state", "version 99")

	if err := log.Delete(t.Context(), run.Topic(topics.DeadLetter(topics.Scored))); err != nil {
		t.Fatal(err)
	}
	if err := log.Create(t.Context(), run.Topic(topics.DeadLetter(topics.Scored)), 3, -1, nil); err != nil {
		t.Fatal(err)
	}
	has(doctored(t, 1, where...), "partitions", "3: "+run.Topic(topics.DeadLetter(topics.Scored)))
	if err := log.Delete(t.Context(), run.Topic(topics.DeadLetter(topics.Scored))); err != nil {
		t.Fatal(err)
	}
	has(doctored(t, 1, where...), "topics", "1 of ")
	out, _, _ := tempismo(t, append([]string{"doctor"}, where...)...)
	if !strings.Contains(out, "tempismo topics create") {
		t.Errorf("to a person it says\n%s", out)
	}
}
