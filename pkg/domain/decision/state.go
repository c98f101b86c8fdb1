package decision

import (
	"cmp"
	"encoding/json"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
)

// Bounds of what is remembered of one customer.
const (
	maxSent    = 64      // sends of the last 7 days; more are not made, whatever the caps say
	maxEnded   = 128     // requests that have ended
	maxMembers = 32      // audiences
	maxAnswers = 16      // channels that were answered for
	remembered = 7 * day // how long after its deadline an ended request is known as such
	again      = day     // after this long a request without a slot is looked at again
)

// State is what the decider remembers of one customer: what is known of the customer, the requests that wait, those that
// have ended, and when the customer was written to. The zero State is a customer of whom nothing is known.
type State struct {
	attributes []byte    // as customer.Attributes.Append writes them; empty: nothing is known
	pending    []pending // in the order in which they are planned
	sent       []sent    // of the last 7 days, oldest first
	ended      []ended   // whose deadline is not long over, in any order
	members    []member  // audiences that the customer belongs to
	answers    []answer  // to being written to, at most one for a channel

	parsed *customer.Attributes // attributes, once they were asked for; never changed
}

// pending is a request that waits.
type pending struct {
	id, channel, message, audience string
	priority                       int
	notBefore, deadline            int64 // Unix milliseconds, as all times here; notBefore 0: at once
	onDeviation                    bool

	due  int64  // when it is looked at again
	plan        // where it is to go out
	why  Reason // of the plan or, where there is none, of there being none
}

// plan is a slot that was chosen.
type plan struct {
	at         int64 // when it goes out; 0: there is no slot
	from, to   int64 // the slot
	hour       int64 // its local hour
	best       uint8 // score of the best allowed hour
	bestAt     int64
	propensity float64 // of this slot, given that the customer is not held out
}

// sent is a message that went out, or would have.
type sent struct {
	at       int64
	hour     int64  // local
	channel  string // empty: not known
	decision string // id
	audience string
	priority int
}

// ended is a request that is over.
type ended struct {
	request uint64 // hash of its id
	until   int64  // when it may be forgotten
}

// member is an audience that the customer belongs to until a day (days since 1970, UTC).
type member struct {
	audience string
	until    int64
}

// answer is the last that the customer has answered, beside the attributes, to being written to.
type answer struct {
	channel string // empty: in every one
	granted bool
	at      int64
}

// Pending calls each for every request that waits, with the time at which it is to be looked at again.
func (s *State) Pending(each func(request string, due time.Time)) {
	for i := range s.pending {
		each(s.pending[i].id, time.UnixMilli(s.pending[i].due).UTC())
	}
}

// known are the attributes.
func (s *State) known() *customer.Attributes {
	if s.parsed == nil {
		s.parsed = new(customer.Attributes)
		// They were checked when they came, and reading them in one go costs a third of Attributes.Parse.
		if len(s.attributes) > 0 && json.Unmarshal(s.attributes, s.parsed) != nil {
			*s.parsed = customer.Attributes{} // written by a version that knew better: nothing is known
		}
	}
	return s.parsed
}

// mailing is the customer's answer to being written to in a channel; nil: there is none.
func (s *State) mailing(channel string) *customer.Consent {
	last := s.known().Consents.Mailing
	for _, a := range s.answers {
		if a.channel == "" || a.channel == channel {
			last = customer.Latest(last, &customer.Consent{Granted: a.granted, At: instant(a.at)})
		}
	}
	return last
}

// MailingRefused reports whether the customer is known to have said not to want to be written to in a channel.
func (s *State) MailingRefused(channel string) bool {
	c := s.mailing(channel)
	return c != nil && !c.Granted
}

// answer notes what the customer has answered for a channel, and reports whether it is news.
func (s *State) answer(channel string, c *customer.Consent) bool {
	next := answer{channel, c.Granted, c.At.UnixMilli()}
	i := slices.IndexFunc(s.answers, func(a answer) bool { return a.channel == channel })
	switch {
	case i >= 0:
		have := &s.answers[i]
		if next.at < have.at || next.at == have.at && (next.granted || !have.granted) {
			return false
		}
		*have = next
	case len(s.answers) < maxAnswers:
		next.channel = strings.Clone(channel)
		s.answers = append(s.answers, next)
	case c.Granted:
		return false
	default: // rather too few messages than one too many
		s.answers = []answer{{at: next.at}}
	}
	return true
}

// learn replaces the attributes; nil: nothing is known any more.
func (s *State) learn(attributes []byte) { s.attributes, s.parsed = attributes, nil }

func (s *State) find(request string) int {
	return slices.IndexFunc(s.pending, func(p pending) bool { return p.id == request })
}

// insert puts a request into the order of planning: the higher priority first, then the earlier deadline, then the one that
// was placed first.
func (s *State) insert(p pending) {
	at, _ := slices.BinarySearchFunc(s.pending, &p, func(have pending, p *pending) int {
		if c := cmp.Or(cmp.Compare(p.priority, have.priority), cmp.Compare(have.deadline, p.deadline)); c != 0 {
			return c
		}
		return -1
	})
	s.pending = slices.Insert(s.pending, at, p)
}

// end takes a request out of those that wait and remembers that it is over.
func (s *State) end(i int) {
	s.conclude(s.pending[i].id, s.pending[i].deadline)
	s.pending = slices.Delete(s.pending, i, i+1)
}

// conclude remembers that a request is over. Of too many, the one that may be forgotten first is.
func (s *State) conclude(request string, deadline int64) {
	s.ended = append(s.ended, ended{hashID(request), deadline + remembered.Milliseconds()})
	if len(s.ended) > maxEnded {
		first := 0
		for i, e := range s.ended {
			if e.until < s.ended[first].until {
				first = i
			}
		}
		s.ended = slices.Delete(s.ended, first, first+1)
	}
}

// isOver reports whether a request is known at the instant now to have ended.
func (s *State) isOver(request string, now int64) bool {
	h := hashID(request)
	return slices.ContainsFunc(s.ended, func(e ended) bool { return e.request == h && now < e.until })
}

func hashID(request string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(request))
	return h.Sum64()
}

// join makes the customer a member of an audience at least until a day.
func (s *State) join(audience string, until int64) {
	for i := range s.members {
		if m := &s.members[i]; m.audience == audience {
			m.until = max(m.until, until)
			return
		}
	}
	if len(s.members) < maxMembers {
		s.members = append(s.members, member{audience, until})
	}
}

// remember notes a send; of too many, the oldest is forgotten. A clock that steps back must not break the order.
func (s *State) remember(t sent) {
	if n := len(s.sent); n > 0 {
		t.at = max(t.at, s.sent[n-1].at)
	}
	s.sent = append(s.sent, t)
	s.sent = slices.Delete(s.sent, 0, max(0, len(s.sent)-maxSent))
}

// forget drops what no rule asks for any more at the instant now.
func (s *State) forget(now int64) {
	s.sent = slices.DeleteFunc(s.sent, func(t sent) bool { return t.at <= now-week.Milliseconds() })
	s.ended = slices.DeleteFunc(s.ended, func(e ended) bool { return e.until <= now })
	s.members = slices.DeleteFunc(s.members, func(m member) bool { return m.until < dayOf(now) })
}

// dayOf is the day of an instant, in days since 1970, UTC.
func dayOf(ms int64) int64 { return floorDiv(ms, day.Milliseconds()) }

func floorDiv(a, n int64) int64 {
	q := a / n
	if a%n < 0 {
		q--
	}
	return q
}
