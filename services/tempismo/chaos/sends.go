package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// decided is one decision as our consumers accept it.
type decided struct {
	decision.Decision
	id, customer string
	at           time.Time
	partition    int
}

// sends reads the decisions as a consumer does: what is not above the highest position seen of its source is dropped.
func (f *facts) sends(v *verdict) ([]decided, error) {
	var list []decided
	ids := map[string]bool{}
	var twice []string
	for p, records := range f.records[topics.Decisions] {
		highest := map[string]string{}
		for i := range records {
			source, sequence := headerOf(records[i].Headers, "source"), headerOf(records[i].Headers, "sequence")
			if source != "" && sequence <= highest[source] {
				v.count("repeated outputs of decider", 1)
				continue
			}
			highest[source] = sequence
			e, err := stream.ParseEvent(records[i].Value)
			if err != nil {
				return nil, fmt.Errorf("decision %d:%d: %w", p, records[i].Offset, err)
			}
			d := decided{id: e.ID, customer: e.Subject, at: e.Time, partition: p}
			if err := d.Parse(e.Type, e.Data); err != nil {
				return nil, fmt.Errorf("decision %s: %w", e.ID, err)
			}
			if ids[d.id] {
				twice = append(twice, d.id)
			}
			ids[d.id] = true
			list = append(list, d)
			v.count("decided: "+kindOf(d.Type), 1)
		}
	}
	v.count("decisions", len(list))
	v.count("decisions made again", f.remade)
	v.broken("L", "decided twice, at different positions", twice)
	v.broken("L", "what the decider took at these positions leads to other decisions than it has published", f.differs)
	f.overtaken(v, "decider", []string{topics.Decisions})
	return list, nil
}

// kindOf is the word of a decision's type.
func kindOf(typ string) string {
	return strings.TrimSuffix(strings.TrimPrefix(typ, "io.tempismo.decision."), ".v1")
}

// ends are the decisions in which a request ends.
var ends = []string{decision.SendNowType, decision.HeldOutType, decision.ExpiredType, decision.CancelledType}

// requests finds requests that have not ended, or more than once.
func (f *facts) requests(v *verdict, list []decided) {
	over, of := map[string][]string{}, map[string][]string{}
	for i := range list {
		d := &list[i]
		if d.Request != "" && slices.Contains(ends, d.Type) {
			over[d.Request] = append(over[d.Request], d.id)
			v.count("requests ended: "+kindOf(d.Type), 1)
		}
		if d.Deviation != "" && d.Type == decision.SendNowType {
			of[d.Deviation] = append(of[d.Deviation], d.id)
			v.count("sends for deviations", 1)
		}
	}
	waits := map[string]bool{}
	for _, k := range f.kept["decider"] {
		for _, b := range k.states {
			var s decision.State
			if s.Decode(b) == nil {
				s.Pending(func(request string, _ time.Time) { waits[request] = true })
			}
		}
	}
	var lost, revived []string
	for i := range f.Ledger {
		a := &f.Ledger[i]
		if a.Topic != topics.Requests {
			continue
		}
		v.count("requests", 1)
		switch ended := len(over[a.ID]) > 0; {
		case !ended && !waits[a.ID]:
			lost = append(lost, a.ID)
		case !ended:
			v.count("requests that wait", 1)
		case waits[a.ID]:
			revived = append(revived, a.ID)
		}
	}
	v.broken("L", "requests that neither wait nor have ended", lost)
	v.broken("L", "requests that have ended and wait again", revived)
	if again := many(over); f.Forgot { // see docs/guarantees.md: whoever reads decisions drops the second end by the request's id
		v.count("requests that ended again after the store had forgotten it", len(again))
	} else {
		v.broken("P", "requests that have ended more than once", again)
	}
	v.broken("P", "deviations for which more than one message was sent", many(of))
}

// many lists what has more than one id, with them.
func many(by map[string][]string) (list []string) {
	for _, key := range slices.Sorted(maps.Keys(by)) {
		if ids := by[key]; len(ids) > 1 {
			list = append(list, key+" by "+strings.Join(ids, " and "))
		}
	}
	return list
}

// calls holds the receiver's log against the decisions.
func (f *facts) calls(v *verdict, list []decided) {
	send := map[string]*decided{}
	for i := range list {
		if list[i].Type == decision.SendNowType {
			send[list[i].id] = &list[i]
		}
	}
	first := map[string]*Call{}
	taken := map[string]bool{}
	results, accepted := f.results()
	requests := map[string][]string{}
	var invented, forged, changed, foreign []string
	for i := range f.Calls {
		c := &f.Calls[i]
		v.count("calls", 1)
		d := send[c.WebhookID]
		switch {
		case c.Unsigned:
			forged = append(forged, c.WebhookID)
			continue
		case d == nil:
			invented = append(invented, c.WebhookID)
			continue
		case c.Decision != c.WebhookID || c.Customer != d.customer || c.Request != d.Request:
			foreign = append(foreign, c.WebhookID)
		}
		taken[c.WebhookID] = taken[c.WebhookID] || c.taken()
		if before := first[c.WebhookID]; before != nil {
			v.count("repeated calls, of one webhook-id", 1)
			if at, known := accepted[c.WebhookID]; known && c.Arrived.After(at.Add(answered)) {
				v.count("repeated calls after their result stood on the topic", 1)
			}
			if before.Body != c.Body {
				changed = append(changed, c.WebhookID)
			}
			continue
		}
		if first[c.WebhookID] = c; !c.Arrived.Before(d.ExpiresAt) {
			v.count("calls that arrived after the decision had expired", 1)
		}
		if c.Request != "" {
			requests[c.Request] = append(requests[c.Request], c.WebhookID)
		}
	}
	var never, unanswered []string
	for id, d := range send {
		switch result := results[id]; {
		case taken[id]:
			v.count("sends that reached the receiver", 1)
			if result == "" || result == decision.TooLate {
				unanswered = append(unanswered, id)
			}
		case result == decision.TooLate || result == decision.Unknown || result == decision.Refused:
			v.count("sends that ended as "+string(result), 1)
		case result == "" && time.Now().Before(d.ExpiresAt):
			never = append(never, id+", which may still go out")
		default:
			never = append(never, id)
		}
	}
	slices.Sort(never)
	slices.Sort(unanswered)
	v.broken("P", "sent, and never called for", never)
	v.broken("P", "called for, and the outcome does not say so", unanswered)
	v.broken("P", "called for what was never decided", invented)
	v.broken("P", "calls whose signature does not fit", forged)
	v.broken("P", "calls that say something else than their decision", foreign)
	v.broken("P", "a repeated call said something else than the first", changed)
	v.broken("P", "requests for which the receiver was called under more than one id", many(requests))
	f.callOrder(v, list, first)
}

// answered is how long it may take from the time that an outcome bears to its acknowledgement.
const answered = time.Second

// results are the final outcomes by decision, and when the first was written that says accepted.
func (f *facts) results() (results map[string]decision.Result, accepted map[string]time.Time) {
	results, accepted = map[string]decision.Result{}, map[string]time.Time{}
	for _, records := range f.records[topics.Outcomes] {
		for i := range records {
			e, err := stream.ParseEvent(records[i].Value)
			if err != nil {
				continue
			}
			var o decision.Outcome
			if o.Parse(e.Data) != nil || !o.Result.Final() || results[o.Decision] == decision.Accepted {
				continue
			}
			if results[o.Decision] = o.Result; o.Result == decision.Accepted {
				accepted[o.Decision] = records[i].Time
			}
		}
	}
	return results, accepted
}

// callOrder finds customers whose calls came in another order than what was decided.
func (f *facts) callOrder(v *verdict, list []decided, first map[string]*Call) {
	last := map[string]*Call{}
	var ids []string
	for i := range list {
		c := first[list[i].id]
		if c == nil {
			continue
		}
		if before := last[c.Customer]; before != nil && c.Arrived.Before(before.Arrived) {
			ids = append(ids, fmt.Sprintf("%s: %s before %s", c.Customer, c.WebhookID, before.WebhookID))
		}
		last[c.Customer] = c
	}
	v.broken("O", "calls for these customers came in another order than what was decided", ids)
}

// looked are the customers whose profiles were looked up, by the position that the decision names.
func (f *facts) looked() map[string][]string {
	by := map[string][]string{}
	for _, records := range f.records[topics.Decisions] {
		for i := range records {
			if l := lookupIn(records[i].Value); l != nil && l.Profile != "" {
				by[l.Profile] = append(by[l.Profile], string(records[i].Key))
			}
		}
	}
	return by
}

func lookupIn(value []byte) *decision.Lookup {
	if !bytes.Contains(value, []byte(`"lookup"`)) {
		return nil
	}
	e, err := stream.ParseEvent(value)
	if err != nil {
		return nil
	}
	var d decision.Decision
	if d.Parse(e.Type, e.Data) != nil {
		return nil
	}
	return d.Lookup
}

// whole finds decisions that were made with less than a whole profile. profiles are those of a fold, by position and customer.
func (f *facts) whole(v *verdict, list []decided, profiles map[string][]byte) {
	partial := map[string]bool{}
	var acting, partly, other []string
	for _, records := range f.records[topics.Deviations] {
		for i := range records {
			e, err := stream.ParseEvent(records[i].Value)
			if err != nil {
				continue
			}
			var d struct {
				Actionable bool
				Evidence   timing.Evidence
			}
			if json.Unmarshal(e.Data, &d) == nil && d.Evidence.Partial {
				if partial[e.ID] = true; d.Actionable {
					acting = append(acting, e.ID)
				}
			}
		}
	}
	for i := range list {
		d := &list[i]
		if d.Deviation != "" && (d.Type == decision.SendNowType || d.Type == decision.HeldOutType) && (partial[d.Deviation] || d.Lookup != nil && d.Lookup.Partial) {
			partly = append(partly, d.id)
		}
		if d.Lookup == nil || d.Lookup.Partial || d.Lookup.Profile == "" || len(f.records[topics.Models][d.partition]) > 0 {
			continue
		}
		v.count("look-ups made again", 1)
		if !sameLookup(d, profiles[d.Lookup.Profile+" "+d.customer]) {
			other = append(other, d.id)
		}
	}
	v.broken("N", "deviations of partial profiles that may move a send", acting)
	v.broken("N", "sent because of a deviation, with a partial profile", partly)
	if !slices.Contains(f.Renewed, "profiler") && !slices.Contains(f.Renewed, "decider") {
		v.broken("N", "decided with another profile than the log makes up to the position that the decision names", other)
	}
}

func sameLookup(d *decided, stored []byte) bool {
	var p timing.Profile
	if stored == nil || p.Decode(stored) != nil {
		return false
	}
	again := decision.NewLookup(&p, timing.Builtin(), slices.Sorted(maps.Keys(d.Lookup.Channels)), d.DecidedAt)
	again.Profile = d.Lookup.Profile
	a, err := json.Marshal(again)
	if err != nil {
		return false
	}
	b, err := json.Marshal(d.Lookup)
	return err == nil && bytes.Equal(a, b)
}
