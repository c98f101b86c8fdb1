package connector

import (
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// week is what a partition's customers were called about lately, as far back as caps go: the times are those of the calls, where the
// decider knows those of its decisions. What was refused, and what was never called for, is not in it. It has no lock: a ledger's
// covers it.
type week struct {
	customers map[string][]called // in the order of the first call of each
	latest    time.Time           // of all calls
	sweepAt   int                 // number of customers at which those are taken out who were not called about for a week
}

// called is a decision that the CRM was called for.
type called struct {
	decision string
	decision.Sent
}

func newWeek() week { return week{customers: map[string][]called{}, sweepAt: 4096} }

// note keeps an outcome of a time in mind.
func (w *week) note(o *decision.Outcome, customer string, at time.Time) {
	all := w.customers[customer]
	i := slices.IndexFunc(all, func(c called) bool { return c.decision == o.Decision })
	switch o.Result {
	case decision.Attempting: // of several calls the last one counts: the others were not taken, or it was the same message
		if i >= 0 {
			all[i].At = at
			break
		}
		w.add(o, customer, at)
	case decision.Accepted, decision.Unknown:
		if i < 0 { // the call itself is further back than the ledger was read
			w.add(o, customer, at)
		}
	case decision.Refused, decision.TooLate, decision.Suppressed:
		if i >= 0 {
			w.customers[customer] = slices.Delete(all, i, i+1)
		}
	}
}

func (w *week) add(o *decision.Outcome, customer string, at time.Time) {
	if at.After(w.latest) {
		w.latest = at
	}
	since := w.latest.Add(-decision.Memory)
	old := func(c called) bool { return c.At.Before(since) }
	all, known := w.customers[customer]
	if !known {
		customer = strings.Clone(customer)
	}
	w.customers[customer] = append(slices.DeleteFunc(all, old), called{strings.Clone(o.Decision), decision.Sent{At: at, Channel: strings.Clone(o.Channel)}})
	if len(w.customers) < w.sweepAt {
		return
	}
	for name, all := range w.customers {
		if !slices.ContainsFunc(all, func(c called) bool { return !old(c) }) {
			delete(w.customers, name)
		}
	}
	w.sweepAt = max(4096, 2*len(w.customers))
}

// but is what a customer has got, or may have, but for one decision.
func (w *week) but(id, customer string) (got []decision.Sent) {
	for _, c := range w.customers[customer] {
		if c.decision != id {
			got = append(got, c.Sent)
		}
	}
	return got
}
