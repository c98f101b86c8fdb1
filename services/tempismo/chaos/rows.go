package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Row is one row of the fault matrix.
type Row struct {
	ID, Fault string // as in the matrix
	Holds     string // invariants, as in the matrix: "LPOR"
	Brokers   int    // 1 or 3; 0 is 1
	Overlap   int    // injections that come side by side, before the lag must have recovered from them; 0 is 1
	PerRound  int    // most injections of one round; 0 is 10

	// Apart, where it is set, is the time between the beginnings of injections that come side by side; otherwise each has a
	// random moment of its own.
	Apart time.Duration

	// Prepare is called when brokers, Redis and topics are there, and before history is loaded and services start.
	Prepare func(ctx context.Context, r *Rig) error
	// Inject is one injection, under load. It returns when the fault is over, though not yet recovered from; n counts from 0
	// within the round.
	Inject func(ctx context.Context, r *Rig, n int) error
	// Verify finds what only this row promises. It is called after the round has drained.
	Verify func(ctx context.Context, r *Rig, e *Evidence) []Violation
}

// Violation of an invariant.
type Violation struct {
	Invariant string   `json:"invariant"` // one letter of LPOMRNV
	Row       string   `json:"row"`
	What      string   `json:"what"`
	IDs       []string `json:"ids,omitempty"` // that show it
}

func (v Violation) String() string {
	s := fmt.Sprintf("row %s, %s: %s", v.Row, v.Invariant, v.What)
	if len(v.IDs) > 0 {
		shown := v.IDs[:min(len(v.IDs), 5)]
		s += fmt.Sprintf(" (%d: %s", len(v.IDs), strings.Join(shown, ", "))
		if len(shown) < len(v.IDs) {
			s += ", ..."
		}
		s += ")"
	}
	return s
}

// Rows is the matrix, in its order.
func Rows() []Row {
	rows := slices.Concat(serviceRows(), brokerRows(), storeRows(), loadRows())
	at := func(r Row) int { return slices.Index(matrix, r.ID) }
	slices.SortStableFunc(rows, func(a, b Row) int { return at(a) - at(b) })
	return rows
}

// matrix is the order of the rows. Rows 9 and 13 of the matrix need no processes: services/profiler and services/connector
// test them.
var matrix = strings.Fields("1 1b 2 3 4 5 5b 6 7 8 10 11 12 14 15")
