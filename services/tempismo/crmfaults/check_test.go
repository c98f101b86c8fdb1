package crmfaults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

var noon = time.Date(2026, 12, 3, 12, 0, 0, 0, time.UTC)

// sound is the evidence of a run in which everything held: twenty decisions, each called once, the first six with a fault of
// each kind. The first one, which was answered with 429, was called again.
func sound() *Evidence {
	e := &Evidence{Key: true, Rate: 10, Ahead: 2, Processes: 1, Patience: time.Second, Gap: 10 * time.Second, Requests: 1, Ended: map[string]int{"r-1": 1}, Passed: []string{"d-passed"}}
	for i := range 20 {
		d := Decided{ID: fmt.Sprintf("d-%d", i), Customer: fmt.Sprintf("c%d", i%10), Time: noon, Expires: noon.Add(20 * time.Minute)}
		if i == 1 {
			d.Request = "r-1"
		}
		e.Decided = append(e.Decided, d)
		at := noon.Add(time.Duration(10+i) * time.Second)
		c := Call{Decision: d.ID, Arrived: at, Attempt: 1}
		if i > 0 && i < 7 {
			c.Fault = sandbox.Fault(i)
		}
		e.Calls = append(e.Calls, c)
		e.Sent = append(e.Sent, sandbox.Sent{Decision: d.ID, Customer: d.Customer, At: at})
		e.Outcomes = append(e.Outcomes, Outcome{at, d.ID, decision.Attempting, 1}, Outcome{at, d.ID, decision.Accepted, 1})
	}
	return e
}

func TestASoundRunHasNoFindings(t *testing.T) {
	found, counts := sound().check()
	if len(found) > 0 {
		t.Errorf("found %v", found)
	}
	if counts["sent once"] != 20 || counts["calls"] != 20 || counts["ended as accepted"] != 20 || counts["429"] != 1 {
		t.Errorf("counted %v", counts)
	}
}

// TestCheckNotices: each promise is broken once, and that it is broken is found, and nothing else.
func TestCheckNotices(t *testing.T) {
	rows := []struct {
		finds string
		spoil func(e *Evidence)
	}{
		{sentTwice, func(e *Evidence) { e.Sent = append(e.Sent, e.Sent[4]) }},
		{requestTwice, func(e *Evidence) { e.Decided[2].Request = "r-1" }},
		{undecided, func(e *Evidence) {
			e.Sent = append(e.Sent, sandbox.Sent{Decision: "d-passed", Customer: "c1", At: noon})
		}},
		{customerWrong, func(e *Evidence) { e.Sent[4].Customer = sandbox.Everybody }},
		{late, func(e *Evidence) { e.Sent[4].At = e.Decided[4].Expires.Add(e.Patience) }},
		{notSent, func(e *Evidence) {
			e.Sent = slices.Delete(e.Sent, 4, 5)
			e.Outcomes[2*4+1].Result = decision.TooLate
		}},
		{unspoken, func(e *Evidence) { e.Outcomes = slices.Delete(e.Outcomes, 9, 10) }},
		{spokenTwice, func(e *Evidence) { e.Outcomes = append(e.Outcomes, e.Outcomes[9]) }},
		{invented, func(e *Evidence) { e.Outcomes = append(e.Outcomes, Outcome{noon, "d-passed", decision.Attempting, 1}) }},
		{untrue, func(e *Evidence) { e.Sent = slices.Delete(e.Sent, 4, 5) }},
		{denied, func(e *Evidence) { e.Outcomes[9].Result = decision.TooLate }},
		{unknownResult, func(e *Evidence) {
			e.Sent = slices.Delete(e.Sent, 4, 5)
			e.Outcomes[9] = Outcome{noon, "d-4", decision.Suppressed, 3}
		}},
		{disorder, func(e *Evidence) { e.Calls = append(e.Calls, Call{Decision: "d-3", Arrived: noon.Add(time.Minute)}) }},
		{crowded, func(e *Evidence) { e.Calls[14].Arrived = e.Calls[4].Arrived.Add(7 * time.Second) }},
		{tooFast, func(e *Evidence) {
			e.Gap = 0
			for i := range e.Calls {
				e.Calls[i].Arrived = noon.Add(10*time.Second + time.Duration(i)*time.Millisecond)
			}
		}},
		{overLimit, func(e *Evidence) { e.Limited = 1 }},
		{impatient, func(e *Evidence) {
			e.Calls[1].Answered, e.Calls[1].Until = e.Calls[1].Arrived, e.Calls[1].Arrived.Add(4*time.Second)
		}},
		{requestForgot, func(e *Evidence) { e.Ended = nil }},
		{requestEndings, func(e *Evidence) { e.Ended["r-1"] = 2 }},
		{harmless, func(e *Evidence) { e.Calls[3].Fault = sandbox.None }},
	}
	for _, r := range rows {
		t.Run(r.finds, func(t *testing.T) {
			e := sound()
			r.spoil(e)
			found, _ := e.check()
			if len(found) != 1 || found[0].What != r.finds {
				t.Errorf("found %v", found)
			}
		})
	}
}

// A call that was made before the expiry may arrive a little after it; where there is no key, what became of a call may stay
// unknown; a process that was killed forgets what it was asked for.
func TestWhatIsNoFinding(t *testing.T) {
	e := sound()
	e.Sent[4].At = e.Decided[4].Expires.Add(e.Patience - 1)
	e.Key = false
	e.Sent = slices.Delete(e.Sent, 7, 8)
	e.Outcomes[2*7+1].Result = decision.Unknown
	e.Outcomes[2*8+1].Result = decision.Unknown
	e.Calls[1].Answered, e.Calls[1].Until = e.Calls[1].Arrived, e.Calls[1].Arrived.Add(1500*time.Millisecond)
	e.Calls[9].Answered, e.Calls[9].Until = e.Calls[9].Arrived, e.Calls[9].Arrived.Add(time.Minute)
	e.Kills = []time.Time{e.Calls[9].Arrived.Add(10 * time.Millisecond)}
	if found, _ := e.check(); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// A decision is suppressed where there is no room for it while it lives, and what was certainly not taken leaves room.
func TestWhatIsSuppressed(t *testing.T) {
	for _, r := range []struct {
		life   time.Duration
		before decision.Result
		want   int
	}{{20 * time.Second, decision.Accepted, 0}, {25 * time.Second, decision.Accepted, 1}, {20 * time.Second, decision.TooLate, 1}} {
		e := sound()
		e.Decided[14].Expires = noon.Add(r.life)
		e.Sent = slices.Delete(e.Sent, 14, 15)
		e.Outcomes[2*14+1].Result = decision.Suppressed
		e.Calls = slices.Delete(e.Calls, 14, 15)
		if r.before == decision.TooLate {
			e.Sent = slices.Delete(e.Sent, 4, 5)
			e.Decided[4].Expires = noon.Add(time.Minute)
			e.Outcomes[2*4+1].Result = r.before
		}
		if found, _ := e.check(); len(found) != r.want || r.want > 0 && found[0].What != unknownResult {
			t.Errorf("%+v: found %v", r, found)
		}
	}
}

// TestDealer: a tenth of the calls gets each kind of fault, 429 many at a time, and of the others never more than a few come
// in a row.
func TestDealer(t *testing.T) {
	d, counts, row := dealer{random: rand.New(rand.NewPCG(1, 1))}, map[sandbox.Fault]int{}, 0
	var mu sync.Mutex
	const calls = 10_000
	for range calls {
		mu.Lock()
		fault, gate := d.next(&mu)
		mu.Unlock()
		counts[fault]++
		if (gate != nil) != (fault == sandbox.TooMany) {
			t.Fatalf("fault %d waits: %v", fault, gate != nil)
		}
		switch row++; {
		case fault == sandbox.None:
			row = 0
		case fault == sandbox.TooMany:
			row--
		case row > inARow:
			t.Fatalf("%d failures in a row", row)
		}
	}
	for kind := 1; kind <= sandbox.Kinds; kind++ {
		if n := counts[sandbox.Fault(kind)]; n < calls*9/100 || n > calls*11/100 {
			t.Errorf("%d of %d calls got fault %d", n, calls, kind)
		}
	}
}

// A customer's second decision has its turn when the first has ended, and what is left of its life then may be too little.
func TestALifeBeginsWithItsTurn(t *testing.T) {
	for after, want := range map[time.Duration]int{7 * time.Minute: 1, 9 * time.Minute: 0} {
		e := sound()
		e.Outcomes[2*4+1].At = noon.Add(after) // d-14 is of the same customer
		e.Sent = slices.Delete(e.Sent, 14, 15)
		e.Outcomes[2*14+1].Result = decision.TooLate
		if found, _ := e.check(); len(found) != want {
			t.Errorf("after %v found %v", after, found)
		}
	}
}
