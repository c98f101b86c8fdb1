package crmfaults

import (
	"fmt"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

// Evidence is what a run leaves.
type Evidence struct {
	Key       bool    // the CRM drops a second call for the same decision
	Rate      float64 // calls a second of all processes together; 0: no limit
	Ahead     int     // calls that may come beyond it in a window: those that had their turn while Kafka stood still
	Processes int
	Patience  time.Duration // how long a call may be under way
	Gap       time.Duration // least time between two messages to a customer
	Requests  int           // that were placed

	Decided  []Decided // every record that may be carried out, in the order of the topic, without copies
	Passed   []string  // ids of what is on the topic beside
	Sent     []sandbox.Sent
	Limited  int // calls that were beyond a limit of the CRM
	Calls    []Call
	Outcomes []Outcome // in the order of the topic
	Kills    []time.Time
	Ended    map[string]int // requests, by how many decisions end them
}

// Decided is a decision to send.
type Decided struct {
	ID, Request, Customer string
	Time, Expires         time.Time
}

// Outcome is what the connector says of a decision.
type Outcome struct {
	At       time.Time
	Decision string
	Result   decision.Result
	Attempts int
}

// Finding is a promise that does not hold.
type Finding struct {
	What string   `json:"what"`
	IDs  []string `json:"ids"` // at most ten of those that show it
	All  int      `json:"all"` // how many there are
}

func (f Finding) String() string { return fmt.Sprintf("%s (%d): %v", f.What, f.All, f.IDs) }

// What can be found.
const (
	sentTwice      = "sent more than once"
	requestTwice   = "a request was sent for more than once"
	undecided      = "sent, and nobody has decided to"
	customerWrong  = "sent to somebody else"
	late           = "sent after its expiry"
	notSent        = "lived long enough, could be asked for again, and was not sent"
	unspoken       = "has no final outcome"
	spokenTwice    = "has more than one final outcome"
	invented       = "has an outcome, and nobody has decided to send it"
	untrue         = "is said to be accepted, and was not sent"
	denied         = "was sent, and is said not to be"
	unknownResult  = "has an outcome that none of this can lead to"
	disorder       = "called after a later decision for the same customer"
	crowded        = "called too soon after another message to the customer"
	tooFast        = "calls came faster than the rate"
	overLimit      = "calls were beyond the CRM's limit"
	impatient      = "called while the CRM had asked to be left alone"
	requestForgot  = "requests that did not end"
	requestEndings = "requests that ended more than once"
	harmless       = "too few faults to show anything"
)

// lived is how long a decision has to live, from its turn among those of its customer, for every schedule of attempts that the faults allow.
const lived = 12 * time.Minute

// flight is how long after an answer was given calls may arrive that were made before it was read.
const flight = time.Second

// check judges the evidence.
func (e *Evidence) check() (found []Finding, counts map[string]int) {
	broken := func(what string, ids []string) {
		if n := len(ids); n > 0 {
			found = append(found, Finding{what, ids[:min(n, 10)], n})
		}
	}
	counts = map[string]int{"decisions": len(e.Decided), "sent": len(e.Sent), "kills": len(e.Kills), "passed over": len(e.Passed)}
	order, byID := map[string]int{}, map[string]*Decided{}
	for i := range e.Decided {
		order[e.Decided[i].ID], byID[e.Decided[i].ID] = i, &e.Decided[i]
	}

	sent, forRequest := map[string]int{}, map[string]int{}
	var strange, elsewhere, tooLate []string
	for _, s := range e.Sent {
		sent[s.Decision]++
		d := byID[s.Decision]
		if d == nil {
			strange = append(strange, s.Decision)
			continue
		}
		if d.Request != "" {
			forRequest[d.Request]++
		}
		if s.Customer != d.Customer {
			elsewhere = append(elsewhere, d.ID)
		}
		// A call is made before the expiry, and may be under way for as long as the connector waits for it.
		if over := s.At.Sub(d.Expires); over >= e.Patience {
			tooLate = append(tooLate, d.ID)
		} else if over >= 0 {
			counts["arrived while they expired"]++
		}
	}
	broken(undecided, strange)
	broken(customerWrong, elsewhere)
	broken(late, tooLate)
	broken(sentTwice, several(sent))
	broken(requestTwice, several(forRequest))

	final, finals, attempts, ended := map[string]decision.Result{}, map[string]int{}, map[string]int{}, map[string]time.Time{}
	intent := map[string]time.Time{} // of decisions: the last one
	room := map[string]time.Time{}   // of customers: from when on the policy has room for another message
	var unasked, wrong []string
	for _, o := range e.Outcomes {
		if byID[o.Decision] == nil {
			unasked = append(unasked, o.Decision)
			continue
		}
		attempts[o.Decision] = max(attempts[o.Decision], o.Attempts)
		if !o.Result.Final() {
			intent[o.Decision] = o.At
			continue
		}
		final[o.Decision], ended[o.Decision] = o.Result, o.At
		finals[o.Decision]++
		switch o.Result {
		case decision.Accepted, decision.Unknown:
			room[byID[o.Decision].Customer] = intent[o.Decision].Add(e.Gap)
		case decision.TooLate:
		case decision.Suppressed:
			if d := byID[o.Decision]; room[d.Customer].Before(d.Expires) {
				wrong = append(wrong, o.Decision+": suppressed, and there was room for it")
			}
		default:
			wrong = append(wrong, o.Decision+": "+string(o.Result))
		}
	}
	broken(invented, unasked)
	broken(unknownResult, wrong)
	broken(spokenTwice, several(finals))
	var silent, lost, lie, deny []string
	turn := map[string]time.Time{} // of customers: when there is room after their last decision, for one comes after the other
	for i := range e.Decided {
		d := &e.Decided[i]
		result, n, begins := final[d.ID], sent[d.ID], d.Time
		if turn[d.Customer].After(begins) {
			begins = turn[d.Customer]
		}
		turn[d.Customer] = ended[d.ID].Add(e.Gap)
		switch {
		case finals[d.ID] == 0:
			silent = append(silent, d.ID)
			continue
		case result == decision.Accepted && n == 0:
			lie = append(lie, d.ID)
		case n > 0 && result != decision.Accepted && result != decision.Unknown:
			deny = append(deny, d.ID+": "+string(result))
		case e.Key && n == 0 && d.Expires.Sub(begins) >= lived && attempts[d.ID] <= 2:
			lost = append(lost, d.ID+": "+string(result))
		}
		counts["ended as "+string(result)]++
		if n == 1 {
			counts["sent once"]++
			if result == decision.Unknown {
				counts["sent, unknown"]++
			}
		}
	}
	broken(unspoken, silent)
	broken(untrue, lie)
	broken(denied, deny)
	broken(notSent, lost)

	e.calls(broken, counts, order, byID)
	e.gaps(broken, byID, final)

	var open, again []string
	for id, n := range e.Ended {
		if n == 0 {
			open = append(open, id)
		}
		if n > 1 {
			again = append(again, id)
		}
	}
	for range e.Requests - len(e.Ended) {
		open = append(open, "one of which nothing was said")
	}
	slices.Sort(open)
	slices.Sort(again)
	broken(requestForgot, open)
	broken(requestEndings, again)
	return found, counts
}

// calls judges when calls came.
func (e *Evidence) calls(broken func(string, []string), counts map[string]int, order map[string]int, byID map[string]*Decided) {
	var at []time.Time
	var overtaken, alone []string
	latest := map[string]int{} // by customer
	faults := map[sandbox.Fault]int{}
	var until, since time.Time
	for i := range e.Calls {
		c := &e.Calls[i]
		if c.Decision == "" {
			counts["other calls"]++
			continue
		}
		at = append(at, c.Arrived)
		faults[c.Fault]++
		if d := byID[c.Decision]; d != nil {
			if before, ok := latest[d.Customer]; ok && order[d.ID] < before {
				overtaken = append(overtaken, d.ID)
			}
			latest[d.Customer] = max(latest[d.Customer], order[d.ID])
		}
		killed := slices.ContainsFunc(e.Kills, func(t time.Time) bool { return t.After(since) && t.Before(c.Arrived) })
		if e.Processes == 1 && !killed && c.Arrived.Before(until) && c.Arrived.After(since.Add(flight)) {
			alone = append(alone, fmt.Sprintf("%s, %v too early", c.Decision, until.Sub(c.Arrived).Round(time.Millisecond)))
		}
		if c.Until.After(until) {
			until, since = c.Until, c.Answered
			counts["rests"]++
		}
	}
	counts["calls"] = len(at)
	counts["no fault"] = faults[sandbox.None]
	for kind, name := range [...]string{"", "429", "error before", "error after", "lost before", "lost after", "slow"} {
		if kind > 0 {
			counts[name] = faults[sandbox.Fault(kind)]
		}
	}
	var few []string
	for kind := 1; kind <= sandbox.Kinds; kind++ {
		if n := faults[sandbox.Fault(kind)]; n*20 < len(e.Decided) {
			few = append(few, fmt.Sprintf("kind %d: %d", kind, n))
		}
	}
	broken(harmless, few)
	broken(disorder, overtaken)
	broken(impatient, alone)
	var fast []string
	slices.SortFunc(at, time.Time.Compare)
	for _, window := range []time.Duration{time.Second, 10 * time.Second} {
		most := busiest(at, window)
		counts["most calls in "+window.String()] = most
		if e.Rate > 0 && float64(most) > e.Rate*window.Seconds()+1+float64(e.Ahead) {
			fast = append(fast, fmt.Sprintf("%d in %v", most, window))
		}
	}
	broken(tooFast, fast)
	if e.Limited > 0 {
		broken(overLimit, slices.Repeat([]string{"a call"}, e.Limited))
	}
}

// gaps judges how long after the last call for another message to the customer one came, of those that went out or may have. It goes by
// when calls arrived; from the intent, by which the connector goes, to that it may take a little, for which there is a quarter of the gap.
func (e *Evidence) gaps(broken func(string, []string), byID map[string]*Decided, final map[string]decision.Result) {
	type call struct {
		decision string
		at       time.Time
	}
	last, other := map[string]call{}, map[string]call{} // by customer: the last call of all, and the last one that counts of a decision before
	var soon []string
	for i := range e.Calls {
		c := &e.Calls[i]
		d := byID[c.Decision]
		if d == nil {
			continue
		}
		if before := last[d.Customer]; before.decision != d.ID && (final[before.decision] == decision.Accepted || final[before.decision] == decision.Unknown) {
			other[d.Customer] = before
		}
		last[d.Customer] = call{d.ID, c.Arrived}
		if before := other[d.Customer]; before.decision != "" && before.decision != d.ID && c.Arrived.Sub(before.at) < e.Gap*3/4 {
			soon = append(soon, fmt.Sprintf("%s, %v after %s", d.ID, c.Arrived.Sub(before.at).Round(time.Millisecond), before.decision))
		}
	}
	broken(crowded, soon)
}

// busiest is the most of the times, which are sorted, that a window holds, wherever it begins.
func busiest(at []time.Time, window time.Duration) (most int) {
	first := 0
	for i := range at {
		for at[i].Sub(at[first]) >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// several are the ids that were counted more than once.
func several(counted map[string]int) (ids []string) {
	for id, n := range counted {
		if n > 1 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
