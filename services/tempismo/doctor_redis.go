package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/tempismo/tempismo/pkg/redis"
)

func checkRedis(ctx context.Context, sys *system) (found []finding) {
	if sys.store == nil {
		return []finding{{"redis", warning, "no address given", "Give --redis-addr (REDIS_ADDR) to have it checked."}}
	}
	servers, err := sys.store.Servers(ctx, "appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy")
	if err != nil {
		return []finding{{"redis", failed, err.Error(), "Start it, or correct REDIS_ADDR."}}
	}
	for _, s := range servers {
		found = append(found, finding{"redis", fine, "reached at " + s.Addr, ""})
		if sys.dir == "" {
			found = append(found, judgeServer(s, sys.redis.Durable)...)
		}
	}
	for _, u := range sys.store.Unchecked() {
		found = append(found, finding{"redis", warning, u, ""})
	}
	return found
}

var waits = regexp.MustCompile(`^replicas:(\d+)$`)

// judgeServer looks at what one server says of itself. durable is REDIS_DURABLE.
func judgeServer(s redis.Server, durable string) (found []finding) {
	add := func(check, result, detail, advice string) {
		found = append(found, finding{check, result, detail, advice})
	}
	info := func(field string) int64 {
		n, _ := strconv.ParseInt(s.Info[field], 10, 64)
		return n
	}
	switch v := s.Info["redis_version"]; {
	case v == "":
		add("redis version", warning, "INFO is not answered", "Allow the user INFO to have the server checked.")
		return found
	case len(v) > 1 && v[1] == '.' && v < "6.2":
		add("redis version", warning, v, "Tempismo is tested with Redis 7: upgrade.")
	default:
		add("redis version", fine, v, "")
	}
	if s.Info["role"] == "slave" {
		add("redis role", failed, "it is a replica", "Name the primary in REDIS_ADDR.")
	}
	if s.Info["loading"] == "1" {
		add("redis role", failed, "it is loading its data", "Wait; services do.")
	}
	switch policy := s.Settings["maxmemory-policy"]; policy {
	case "", "noeviction": // what cannot be asked is said elsewhere
	default:
		add("redis memory", failed, "maxmemory-policy is "+policy+": profiles are forgotten when memory is full", "CONFIG SET maxmemory-policy noeviction, and in the configuration file")
	}
	used, limit := info("used_memory"), info("maxmemory")
	switch {
	case limit > 0 && used > limit/10*9:
		add("redis memory", failed, fmt.Sprintf("%s of %s bytes are used", grouped(used), grouped(limit)), "Raise maxmemory, or add servers (Redis Cluster): when it is full, services wait.")
	case limit > 0 && used > limit/10*7:
		add("redis memory", warning, fmt.Sprintf("%s of %s bytes are used", grouped(used), grouped(limit)), "Raise maxmemory before it is full: services would wait.")
	default:
		add("redis memory", fine, grouped(used)+" bytes are used", "")
	}
	switch aof, save := s.Settings["appendonly"], s.Settings["save"]; {
	case aof == "":
		add("redis persistence", warning, "CONFIG is not answered", "See that appendonly is yes; allow the user CONFIG GET to have it checked.")
	case aof == "no" && save == "":
		add("redis persistence", warning, "nothing is written to disk: after a restart every state is rebuilt from the log, and until then nothing acts", "appendonly yes, appendfsync everysec")
	case aof == "no":
		add("redis persistence", warning, "snapshots only (save "+save+"): a restart goes back to the last one, and what came since is worked through again", "appendonly yes, appendfsync everysec")
	case s.Settings["appendfsync"] == "no":
		add("redis persistence", warning, "appendfsync is no: a power failure takes back as much as the system has not written", "appendfsync everysec")
	default:
		add("redis persistence", fine, "append-only file, fsync "+s.Settings["appendfsync"], "")
	}
	for _, field := range []string{"aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"} {
		if v := s.Info[field]; v != "" && v != "ok" {
			add("redis persistence", failed, field+" is "+v, "See the log of Redis: its disk is full or broken, most likely.")
		}
	}
	replicas := info("connected_slaves")
	wanted := int64(0)
	if m := waits.FindStringSubmatch(durable); m != nil {
		wanted, _ = strconv.ParseInt(m[1], 10, 64)
	}
	switch {
	case replicas < wanted:
		add("redis replicas", failed, fmt.Sprintf("%d are connected, REDIS_DURABLE waits for %d: no commit succeeds", replicas, wanted), "Bring the replicas back, or lower REDIS_DURABLE.")
	case replicas == 0:
		add("redis replicas", warning, "none: while it is down, everything waits", "Run a replica, with Sentinel, in a cluster or managed; REDIS_DURABLE=replicas:1 then loses nothing in a failover.")
	case wanted == 0:
		add("redis replicas", fine, fmt.Sprintf("%d; a failover may lose the last writes, which are then worked through again (REDIS_DURABLE=replicas:N would not)", replicas), "")
	default:
		add("redis replicas", fine, fmt.Sprintf("%d, %d of which have every commit before it is published", replicas, wanted), "")
	}
	if s.Clock {
		found = append(found, judgeClock("redis clock", "Redis", s.Ahead))
	} else {
		add("redis clock", warning, "it does not tell the time", "Allow the user TIME to have clocks compared.")
	}
	return found
}
