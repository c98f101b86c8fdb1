package board

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// told puts decisions about requests on a board, at a minute of the morning of 3 December.
type told struct {
	t   *testing.T
	b   *Board
	seq int
}

func tellRequests(t *testing.T) *told { return &told{t: t, b: New(rome(t))} }

func (w *told) tell(minute int, customer, request, kind string, reason decision.Reason, due time.Time, change ...func(*decision.Decision)) {
	w.t.Helper()
	w.seq++
	at := time.Date(2026, 12, 3, 8, minute, 0, 0, time.UTC)
	d := decision.Decision{
		Reason: reason, DecidedAt: at, Request: request, Channel: "email", Message: "winter", Zone: "Europe/Rome", Due: due, ExpiresAt: at.AddDate(0, 0, 5),
		Rules: []decision.Rule{{Rule: "window", Passed: true}}, Lookup: new(decision.Lookup),
	}
	if !due.IsZero() {
		d.Slot = &decision.Interval{From: due.Truncate(time.Hour), To: due.Truncate(time.Hour).Add(time.Hour)}
	}
	for _, f := range change {
		f(&d)
	}
	r := Row{ID: fmt.Sprintf("d-%d", w.seq), Customer: customer, Time: at, Kind: kind, Decision: &d}
	w.b.clock = at
	w.b.decisions.add(r)
	w.b.requests.add(r, w.b.zone)
}

// dueIn are the hours of a Waiting in which something is due.
func dueIn(w Waiting) map[int]int {
	m := map[int]int{}
	for i, n := range w.Hours {
		if n > 0 {
			m[i] = n
		}
	}
	return m
}

func TestARequestWaitsFromItsFirstDecisionToTheOneThatEndsIt(t *testing.T) {
	w := tellRequests(t)
	noon := time.Date(2026, 12, 3, 11, 17, 0, 0, time.UTC)
	unplanned := func(d *decision.Decision) { d.Slot = nil }
	for _, end := range []string{"send_now", "held_out", "expired", "cancelled"} {
		w.tell(0, "C-1", "r-"+end, "wait", decision.BestSlot, noon)
	}
	w.tell(0, "C-2", "r-send_now", "wait", decision.BestSlot, noon) // ids are a customer's own
	w.tell(1, "C-3", "r-late", "wait", decision.BestSlot, noon.AddDate(0, 0, 4))
	w.tell(1, "C-3", "r-none", "wait", decision.ClosedDay, noon, unplanned)
	w.tell(1, "C-3", "", "send_now", decision.Burst, time.Time{}) // of no request
	if got := w.b.Waiting(); got.Count != 7 || got.Unplanned != 1 || got.Later != 1 || fmt.Sprint(dueIn(got)) != "map[3:5]" || got.AtLeast || !got.Since.Equal(time.Date(2026, 12, 3, 8, 0, 0, 0, time.UTC)) {
		t.Errorf("seven requests wait: %+v", got)
	}
	w.tell(2, "C-3", "r-none", "wait", decision.BestSlot, noon.Add(time.Hour)) // the day was opened
	w.tell(2, "C-2", "r-send_now", "wait", decision.FrequencyCap, noon.Add(24*time.Hour))
	if got := w.b.Waiting(); got.Count != 7 || got.Unplanned != 0 || fmt.Sprint(dueIn(got)) != "map[3:4 4:1 27:1]" {
		t.Errorf("two were planned anew: %+v", got)
	}
	for i, end := range []string{"send_now", "held_out", "expired", "cancelled"} {
		w.tell(3, "C-1", "r-"+end, end, decision.BestSlot, time.Time{})
		if got := w.b.Waiting(); got.Count != 6-i || got.Hours[3] != 3-i {
			t.Errorf("after a %s: %+v", end, got)
		}
	}
	w.tell(4, "C-9", "r-end", "expired", decision.TooFar, time.Time{}) // it never waited
	if got := w.b.Waiting(); got.Count != 3 {
		t.Errorf("an end of what never waited: %+v", got)
	}
	w.b.clock = noon.AddDate(0, 0, 1).Add(3 * time.Hour)
	if got := w.b.Waiting(); got.Hours[0] != 2 || got.Count != 3 {
		t.Errorf("what is overdue is due now: %+v", got)
	}
}

func TestTheWayOfARequestIsKeptAndBounded(t *testing.T) {
	w := tellRequests(t)
	due := func(h int) time.Time { return time.Date(2026, 12, 4, h, 17, 0, 0, time.UTC) }
	way := func() Request { return w.b.Requests("C-1")[0] }
	w.tell(0, "C-1", "r-1", "wait", decision.BestSlot, due(9))
	w.tell(1, "C-1", "r-1", "wait", decision.BestSlot, due(9))
	if got := way(); len(got.Steps) != 1 || got.Steps[0].ID != "d-2" || got.Steps[0].Time.Minute() != 0 {
		t.Errorf("a look that changed nothing is a step: %+v", got.Steps)
	}
	w.tell(2, "C-1", "r-1", "wait", decision.BestSlot, due(9), func(d *decision.Decision) { d.Deviation = "dv-1" })
	if got := way(); len(got.Steps) != 2 {
		t.Errorf("a deviation that did not release it is no step: %+v", got.Steps)
	}
	if d := way().Steps[0].Decision; d.Rules != nil || d.Lookup != nil || d.Message != "winter" {
		t.Errorf("of a step is kept %+v", d)
	}
	if d, ok := w.b.Decision("d-1"); !ok || len(d.Decision.Rules) != 1 {
		t.Error("the decision itself has lost its rules")
	}
	for i := range 10 {
		w.tell(3+i, "C-1", "r-1", "wait", decision.FrequencyCap, due(10+i))
	}
	w.tell(20, "C-1", "r-1", "send_now", decision.BestSlot, time.Time{})
	got := way()
	var minutes []int
	for _, s := range got.Steps {
		minutes = append(minutes, s.Time.Minute())
	}
	if !got.Ended || got.Left != 7 || !slices.Equal(minutes, []int{0, 9, 10, 11, 12, 20}) {
		t.Errorf("of thirteen steps are kept %v, %d left out", minutes, got.Left)
	}

	w.tell(21, "C-1", "r-3", "wait", decision.BestSlot, due(11))
	w.tell(21, "C-1", "r-2", "wait", decision.BestSlot, due(10))
	w.tell(22, "C-1", "r-0", "cancelled", decision.Requested, time.Time{})
	w.tell(22, "C-10", "r-9", "wait", decision.BestSlot, due(10)) // somebody else
	var ids []string
	for _, q := range w.b.Requests("C-1") {
		ids = append(ids, q.ID)
	}
	if !slices.Equal(ids, []string{"r-2", "r-3", "r-0", "r-1"}) {
		t.Errorf("the requests stand in the order %v", ids)
	}
	w.tell(23, "C-1", "r-1", "wait", decision.BestSlot, due(12)) // the name is used again, for another
	if got := w.b.Requests("C-1")[2]; got.ID != "r-1" || got.Ended || len(got.Steps) != 1 || got.Left != 0 {
		t.Errorf("a request placed again: %+v", got)
	}

	for i := range keptWays {
		w.tell(30, "C-many", fmt.Sprintf("r-%d", i), "wait", decision.BestSlot, due(9))
	}
	if n := len(w.b.requests.ways); n != keptWays || len(w.b.Requests("C-1")) != 0 || len(w.b.Requests("C-many")) != keptWays {
		t.Errorf("%d ways are kept, %d of the first customer, want the latest %d", n, len(w.b.Requests("C-1")), keptWays)
	}
	if got := w.b.Waiting(); got.Count != keptWays+4 {
		t.Errorf("%d requests are counted", got.Count)
	}
}

func TestMoreRequestsThanCanBeCountedAreSaidToBeMore(t *testing.T) {
	w := tellRequests(t)
	w.tell(0, "C-1", "r-1", "wait", decision.BestSlot, time.Date(2026, 12, 3, 11, 0, 0, 0, time.UTC))
	for i := range uint64(maxWaiting - 1) {
		w.b.requests.waiting[i] = due{}
	}
	w.tell(1, "C-1", "r-1", "wait", decision.FrequencyCap, time.Date(2026, 12, 3, 12, 0, 0, 0, time.UTC)) // is counted already
	if got := w.b.Waiting(); got.Count != maxWaiting || got.AtLeast {
		t.Errorf("as many as can be counted: %d, %v", got.Count, got.AtLeast)
	}
	w.tell(2, "C-1", "r-2", "wait", decision.BestSlot, time.Date(2026, 12, 3, 11, 0, 0, 0, time.UTC))
	if got := w.b.Waiting(); got.Count != maxWaiting || !got.AtLeast || got.Hours[2] != 0 {
		t.Errorf("one more: %d, %v", got.Count, got.AtLeast)
	}
}
