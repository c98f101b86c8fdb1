package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

	// Renewed names services that came back as another version. What they keep and publish is counted and held to the rules,
	// and not computed anew byte by byte.
	Renewed []string

	// Forgot says that the store has lost writes that it had acknowledged. What is promised then is less: of the outputs of one
	// record at most one is accepted, but it may be that of the first execution, and the decider, which has several inputs,
	// may decide otherwise in the second. Its decisions are held to the rules, and not made again.
	Forgot bool

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
	f, err := gather(ctx, e)
	if err != nil {
		return nil, nil, fmt.Errorf("gather what is to be checked: %w", err)
	}
	return f.check(holds)
}

// check judges the facts.
func (f *facts) check(holds string) ([]Violation, Counts, error) {
	v := &verdict{counts: Counts{}}
	f.drained(v)
	f.acknowledged(v)
	profiles, err := f.profiles(v)
	if err != nil {
		return nil, nil, err
	}
	if err := f.deviations(v); err != nil {
		return nil, nil, err
	}
	f.counted(v)
	s, err := f.sends(v)
	if err != nil {
		return nil, nil, err
	}
	f.requests(v, s)
	f.calls(v, s)
	f.whole(v, s, profiles)
	f.memory(v)
	f.recovery(v)
	f.seen(v)
	return slices.DeleteFunc(v.list, func(x Violation) bool { return !strings.Contains(holds, x.Invariant) }), v.counts, nil
}

// verdict collects what is found.
type verdict struct {
	list   []Violation
	counts Counts
}

// broken notes that an invariant does not hold, if there are ids that show it.
func (v *verdict) broken(invariant, what string, ids []string) {
	if len(ids) == 0 {
		return
	}
	v.list = append(v.list, Violation{Invariant: invariant, What: what, IDs: ids})
}

func (v *verdict) count(what string, n int) { v.counts[what] += int64(n) }
