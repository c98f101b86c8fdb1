package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/kafka"
	tempismoredis "github.com/tempismo/tempismo/pkg/redis"
)

// doctorCmd checks what Tempismo depends on.
type doctorCmd struct {
	JSON bool `help:"Write a JSON list of the checks."`
	target
}

// Help is the example.
func (*doctorCmd) Help() string {
	return "Without addresses and without a data folder it checks this machine only. It fails if a check does.\n\nExample:\n  tempismo doctor --kafka-brokers localhost:9092 --redis-addr localhost:6379"
}

// finding is the result of a check.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warning or failed
	Detail string `json:"detail"`
	Advice string `json:"advice,omitempty"`
}

// Results.
const (
	fine    = "ok"
	warning = "warning"
	failed  = "failed"
)

// Run checks.
func (c *doctorCmd) Run(ctx context.Context, t terminal) error {
	found := machine()
	sys, err := c.open(ctx)
	switch {
	case err == nil:
		found = append(found, checkKafka(ctx, sys)...)
		found = append(found, checkRedis(ctx, sys)...)
		err = sys.Close()
		if err != nil {
			return err
		}
	case c.addressed() || c.Data != "":
		found = append(found, finding{"system", failed, err.Error(), "Start it, or correct the address. Each address alone: nc -vz HOST PORT."})
	default:
		found = append(found, finding{"system", warning, "none to check", err.Error()})
		found = append(found, ports()...)
	}
	bad := 0
	for _, f := range found {
		if f.Result == failed {
			bad++
		}
	}
	if c.JSON {
		err = t.json(found)
	} else {
		s := styleFor(t.out)
		for _, f := range found {
			mark := s.accent.Render(fmt.Sprintf("%-7s", f.Result))
			if f.Result != fine {
				mark = s.warm.Render(fmt.Sprintf("%-7s", f.Result))
			}
			fmt.Fprintf(t.out, "%s  %-14s %s\n", mark, f.Check, f.Detail)
			if f.Advice != "" {
				fmt.Fprintf(t.out, "         %-14s %s\n", "", s.faint.Render(f.Advice))
			}
		}
	}
	if bad > 0 {
		return errors.Join(err, fmt.Errorf("%d checks failed", bad))
	}
	return err
}

// machine checks what the process finds on its own machine.
func machine() (found []finding) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	zone, err := calendar.Zone("Europe/Rome")
	if err != nil {
		return []finding{{"zone data", failed, err.Error(), "The zone database is embedded in the binary: build it anew."}}
	}
	if _, offset := at.In(zone).Zone(); offset != 2*3600 {
		return []finding{{"zone data", failed, fmt.Sprintf("noon UTC of 1 July 2026 is %s in Rome", at.In(zone).Format("15:04")), "The system's zone database is wrong: update tzdata, or remove it so that the embedded one is used."}}
	}
	return []finding{{"zone data", fine, "summer time in Rome is known", ""}}
}

// ports checks whether `up` would find its ports free.
func ports() (found []finding) {
	for _, p := range []struct {
		port  int
		of    string
		fatal bool
	}{{8080, "console", true}, {8081, "ingest", true}, {9092, "broker", false}, {6379, "store", false}} {
		f := finding{"port " + strconv.Itoa(p.port), fine, "free, for the " + p.of, ""}
		if ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p.port)); err != nil {
			f.Result, f.Detail = warning, "taken"
			if f.Advice = "The embedded " + p.of + " will take another."; p.fatal {
				f.Advice = "`tempismo up` needs --" + p.of + "-listen with another port."
			}
		} else {
			ln.Close()
		}
		found = append(found, f)
	}
	return found
}

func checkKafka(ctx context.Context, sys *system) (found []finding) {
	where := strings.Join(sys.kafka.Brokers, ", ")
	found = append(found, finding{"kafka", fine, "reached at " + where, ""})
	lines, err := describe(ctx, sys)
	if err != nil {
		return append(found, finding{"topics", failed, err.Error(), "Check the ACLs: describe and read on the topics of the run."})
	}
	missing, counts := 0, map[int32]int{}
	for _, l := range lines {
		if !l.Exists {
			missing++
			continue
		}
		counts[l.Partitions]++
	}
	switch {
	case missing == len(lines):
		found = append(found, finding{"topics", failed, fmt.Sprintf("none of run %q exists", sys.run.ID), "tempismo topics create"})
	case missing > 0:
		found = append(found, finding{"topics", failed, fmt.Sprintf("%d of %d of run %q are missing", missing, len(lines), sys.run.ID), "tempismo topics create"})
	default:
		found = append(found, finding{"topics", fine, fmt.Sprintf("all %d of run %q", len(lines), sys.run.ID), ""})
	}
	if len(counts) > 1 {
		found = append(found, finding{"partitions", failed, "topics differ in their number of partitions", "Topics of one run must have the same number, since keys are bound to partitions: create a new run, and replay into it (tempismo replay --into)."})
	} else if len(counts) == 1 {
		for n := range counts {
			found = append(found, finding{"partitions", fine, fmt.Sprintf("%d everywhere", n), ""})
		}
	}
	if lag, err := backlog(ctx, sys, working); err == nil {
		var worst kafka.PartitionLag
		for _, l := range lag {
			if l.Behind > worst.Behind {
				worst = l
			}
		}
		if worst.Behind > time.Minute {
			found = append(found, finding{"lag", warning, fmt.Sprintf("%s is %s behind in %s", worst.Service, worst.Behind.Round(time.Second), worst.Topic), "Is it running? tempismo lag shows each partition."})
		} else {
			found = append(found, finding{"lag", fine, "nothing is a minute behind", ""})
		}
	}
	return found
}

func checkRedis(ctx context.Context, sys *system) (found []finding) {
	if sys.store == nil {
		return []finding{{"redis", warning, "no address given", "Give --redis-addr (REDIS_ADDR) to have it checked."}}
	}
	if err := sys.store.Ping(ctx); err != nil {
		return []finding{{"redis", failed, err.Error(), "Start it, or correct REDIS_ADDR."}}
	}
	found = append(found, finding{"redis", fine, "reached at " + sys.redis.Addr + ", and it will not evict", ""})
	for _, u := range sys.store.Unchecked() {
		found[len(found)-1].Detail = "reached at " + sys.redis.Addr
		found = append(found, finding{"redis", warning, u, ""})
	}
	if sys.pair != nil || sys.dir != "" {
		return found
	}
	return append(found, clock(ctx, sys.redis)...)
}

// clock compares this machine's clock with that of Redis, and asks for its version.
func clock(ctx context.Context, c tempismoredis.Config) []finding {
	if c.TLS || c.CAFile != "" {
		return nil // the answer is not worth a second way to build a TLS client
	}
	r := redis.NewClient(&redis.Options{Addr: c.Addr, Username: c.Username, Password: string(c.Password), DB: c.DB, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer r.Close()
	before := time.Now()
	there, err := r.Time(ctx).Result()
	if err != nil {
		return []finding{{"clock", warning, "Redis does not tell the time: " + err.Error(), "Allow the TIME command to have clocks compared."}}
	}
	off := there.Sub(before.Add(time.Since(before) / 2)).Round(time.Millisecond)
	f := finding{"clock", fine, fmt.Sprintf("%s from that of Redis", off), ""}
	if off.Abs() > 5*time.Second {
		f.Result, f.Advice = failed, "Synchronise the clocks (chrony, systemd-timesyncd): events more than a minute ahead are refused."
	}
	found := []finding{f}
	if info, err := r.Info(ctx, "server").Result(); err == nil {
		if _, after, ok := strings.Cut(info, "redis_version:"); ok {
			v, _, _ := strings.Cut(after, "\r\n")
			found = append(found, finding{"redis version", fine, v, ""})
		}
	}
	return found
}
