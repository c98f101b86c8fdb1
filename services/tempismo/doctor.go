package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// doctorCmd checks what Tempismo depends on.
type doctorCmd struct {
	JSON bool `help:"Write a JSON list of the checks."`
	target
}

// Help is the example.
func (*doctorCmd) Help() string {
	return "It checks versions, topics, replication, retention, the settings of Redis, clocks, and of each service its group, its positions and\nits states, and says for each finding what to do. Without addresses and without a data folder it checks this machine only. It fails\nif a check does; warnings are no failure.\n\nTo compare clocks with Kafka it makes a topic of its own, and deletes it.\n\nExample:\n  tempismo doctor --kafka-brokers localhost:9092 --redis-addr localhost:6379"
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
		found = append(found, checkServices(ctx, sys)...)
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
			fmt.Fprintf(t.out, "%s  %-17s %s\n", mark, f.Check, f.Detail)
			if f.Advice != "" {
				fmt.Fprintf(t.out, "         %-17s %s\n", "", s.faint.Render(f.Advice))
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
