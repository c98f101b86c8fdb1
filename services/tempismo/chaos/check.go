package chaos

import (
	"context"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Evidence is all that a check reads; it trusts nothing of the services' own words.
type Evidence struct {
	Kafka      kafka.Config
	Redis      redis.Config
	Run        stream.Run
	Partitions int32
	Ledger     []Acked
	Calls      []Call
	Samples    []Sample
	Injections []Injection

	// Env is the environment that the services had, for what changes results (MODEL, SCORED_BELOW, DEFAULT_ZONE).
	Env map[string]string

	// Renewed names services that came back as another version. What they publish is held to the rules, and not computed
	// anew byte by byte.
	Renewed []string

	// MaxRSS is the bound of M for each process; 0: 512 MB.
	MaxRSS int64
}

// Injection is one fault: from when to when it lasted.
type Injection struct {
	From, To time.Time
	What     string
}

// Counts says how much was checked: by name, such as "events", "profiles", "decisions", "calls", "repeated calls".
type Counts map[string]int64

// Check returns what of the invariants in holds (letters of LPOMRNV) is broken. The error says that it could not look.
func Check(ctx context.Context, e *Evidence, holds string) ([]Violation, Counts, error) {
	panic("to be written")
}

// Drained waits until everything on the logs is taken and every request whose deadline is over has ended, or ctx ends.
func Drained(ctx context.Context, e *Evidence) error { panic("to be written") }
