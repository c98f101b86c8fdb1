package chaos

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// Plan says what is to be broken, how often, and with which programs.
type Plan struct {
	Rows     []string // ids; empty: all
	Runs     int      // injections of each row
	Seed     uint64   // of the first round of each row; the next rounds count on
	Bin      string   // folder of the service programs, see Build
	Previous string   // folder of the programs of another version, for row 1b; empty: none
	Dir      string   // of the rounds; a broken round stays there
	Tell     func(format string, args ...any)
}

// Run plays the plan's rows one after the other. The report says what was found until ctx ended or all was played; the
// error is a plan that cannot be played.
func (p Plan) Run(ctx context.Context) (*Report, error) {
	if p.Runs < 1 {
		return nil, fmt.Errorf("runs: %d: choose a positive number", p.Runs)
	}
	var rows []Row
	all := Rows()
	for _, id := range p.Rows {
		i := slices.IndexFunc(all, func(r Row) bool { return r.ID == id })
		if i < 0 {
			var known []string
			for _, r := range all {
				known = append(known, r.ID)
			}
			return nil, fmt.Errorf("rows: there is no row %q: choose of %v", id, known)
		}
		rows = append(rows, all[i])
	}
	if len(p.Rows) == 0 {
		rows = all
	}
	if err := os.MkdirAll(p.Dir, 0o755); err != nil {
		return nil, err
	}
	rep := &Report{Began: time.Now().UTC(), Seed: p.Seed, Runs: p.Runs, Machine: machine()}
	for _, row := range rows {
		rr := RowReport{ID: row.ID, Fault: row.Fault, Holds: row.Holds, Noted: map[string]int{}, Counts: Counts{}}
		most := row.PerRound
		if most == 0 {
			most = perRound
		}
		for seed := p.Seed; rr.Runs < p.Runs && ctx.Err() == nil; seed++ {
			n := min(most, p.Runs-rr.Runs)
			p.Tell("row %s (%s): runs %d to %d of %d, seed %d", row.ID, row.Fault, rr.Runs+1, rr.Runs+n, p.Runs, seed)
			out := play(ctx, row, n, seed, p)
			if ctx.Err() != nil {
				break // half a round says nothing
			}
			rr.add(out)
			if out.err != nil {
				break // it would fail again
			}
		}
		rep.Rows = append(rep.Rows, rr)
		if ctx.Err() != nil {
			rep.Interrupted = true
			break
		}
		p.Tell("%s", rr.line())
	}
	rep.Took = Seconds(time.Since(rep.Began))
	return rep, nil
}
