package timing

import (
	"encoding/binary"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// memory is what the machine rules that compare events need: the last deliveries, the last click, and how often this
// customer's opens come too soon to be human.
type memory struct {
	sends [4]send // newest first, by the order of arrival
	n     uint8   // of them in use
	opens uint8   // opens that answer a delivery in memory
	early uint8   // of these, within two minutes of it
	click click
}

type send struct {
	message uint32 // hash of the message id
	second  int64  // Unix time of the delivery
	prime   bool   // whether the hour scored Prime or more for this customer
	read    bool   // whether a human answered it
}

type click struct {
	message, link uint32 // link is a hash, or honeypot
	second        int64
}

// honeypot is what a click on one is remembered by in place of its link's hash.
const honeypot = 0

// Prime is the score from which on a send's hour counts as one of the customer's best.
const Prime = 80

// Names of the rules, as they stand in actor_rule; those that look at one event alone are in package engagement.
const (
	RuleBeforeDelivery = "before_delivery" // engagement dated before the delivery of its message
	RuleTooSoon        = "too_soon"        // within seconds of the delivery
	RuleLinkBurst      = "link_burst"      // another link of the same message within seconds
	RuleEarlyOpens     = "early_opens"     // most opens of this customer come within two minutes: a machine reads along
)

// Limits of the rules, in seconds: what Warmbly uses (honeypots: what users of Mautic do) and, for the wider window, a margin of
// our own.
const (
	machineSeconds   = 10
	probableSeconds  = 60
	sharedSeconds    = 600
	burstSeconds     = 5
	honeypotSeconds  = 10
	earlySeconds     = 120
	earlyMinimum     = 5 // opens before the habit is believed
	memorySeconds    = Memory * 3600
	earlyHalvedAbove = 200
)

// Answer is what the memory knows of an engagement.
type Answer struct {
	Actor   engagement.Actor
	Rule    string // empty for a human, or where the event said so itself
	Known   bool   // whether the delivery of the same message is remembered
	Seconds int64  // since that delivery
	Prime   bool   // whether its hour scored Prime or more
	First   bool   // whether nobody human had answered it before
}

// Sent remembers the delivery of e's message.
func (p *Profile) Sent(e *engagement.Event) {
	if e.Message == "" {
		return
	}
	m := &p.memory
	s := send{message: hash32(e.Message), second: e.Time.Unix()}
	for i := range m.sends[:m.n] {
		if m.sends[i].message == s.message { // the same delivery told twice: the earlier one is true
			m.sends[i].second = min(m.sends[i].second, s.second)
			return
		}
	}
	m.n = min(m.n+1, uint8(len(m.sends)))
	copy(m.sends[1:m.n], m.sends[:m.n])
	m.sends[0] = s
	for m.n > 1 && m.sends[m.n-1].second < s.second-memorySeconds {
		m.n--
		m.sends[m.n] = send{}
	}
}

// Answered classifies an engagement by what came before it, and remembers what later ones are compared with. An actor
// that the event already names is never made more human, but for a click from a network of scanners and of people, which
// ingest cannot tell from each other for want of the delivery. What is a machine's already teaches nothing about the customer,
// so of that a click on a honeypot alone is remembered.
func (p *Profile) Answered(e *engagement.Event) (a Answer) {
	m := &p.memory
	a.Actor, a.Rule = e.Actor, e.ActorRule
	if e.Message == "" {
		return a
	}
	message, second := hash32(e.Message), e.Time.Unix()
	if e.Actor == engagement.Machine {
		if e.Kind == engagement.Click && e.ActorRule == engagement.RuleHoneypot {
			m.click = click{message, honeypot, second}
		}
		return a
	}
	for i := range m.sends[:m.n] {
		if s := &m.sends[i]; s.message == message {
			a.Known, a.Seconds, a.Prime = true, second-s.second, s.prime
			if a.Actor == engagement.Probable && a.Rule == engagement.RuleSharedNetwork && a.Seconds >= sharedSeconds {
				a.Actor, a.Rule = engagement.Human, ""
			}
			m.suspect(&a, e, message, second)
			a.First = a.Actor == engagement.Human && !s.read
			s.read = s.read || a.First
			return a
		}
	}
	m.suspect(&a, e, message, second)
	return a
}

// suspect makes a a machine's where a rule says so.
func (m *memory) suspect(a *Answer, e *engagement.Event, message uint32, second int64) {
	if e.Kind == engagement.Reply { // no machine writes one
		return
	}
	suspect := func(actor engagement.Actor, rule string) {
		if actor > a.Actor {
			a.Actor, a.Rule = actor, rule
		}
	}
	switch {
	case !a.Known:
	case a.Seconds < 0:
		suspect(engagement.Machine, RuleBeforeDelivery)
	case a.Seconds < machineSeconds:
		suspect(engagement.Machine, RuleTooSoon)
	case a.Seconds < probableSeconds:
		suspect(engagement.Probable, RuleTooSoon)
	}
	switch e.Kind {
	case engagement.Click:
		if m.click.link == honeypot && abs(second-m.click.second) <= honeypotSeconds && m.click != (click{}) {
			if m.click.message == message {
				suspect(engagement.Machine, engagement.RuleHoneypot)
			}
			return // it is remembered until these seconds are over, whatever else is clicked
		}
		c := click{message, max(hash32(e.Link), honeypot+1), second}
		if c.message == m.click.message && c.link != m.click.link && abs(c.second-m.click.second) <= burstSeconds {
			suspect(engagement.Machine, RuleLinkBurst)
		}
		m.click = c
	case engagement.Open:
		if a.Known {
			m.opens++
			if a.Seconds < earlySeconds {
				m.early++
			}
			if m.opens > earlyHalvedAbove {
				m.opens, m.early = m.opens/2, m.early/2
			}
		}
		if m.opens >= earlyMinimum && 5*int(m.early) >= 3*int(m.opens) {
			suspect(engagement.Probable, RuleEarlyOpens)
		}
	}
}

// Primed remembers that the delivery of message came in an hour that scored Prime or more.
func (p *Profile) Primed(message string) {
	hash := hash32(message)
	for i := range p.memory.sends[:p.memory.n] {
		if s := &p.memory.sends[i]; s.message == hash {
			s.prime = true
		}
	}
}

func (m *memory) append(dst []byte) []byte {
	head := m.n << 1
	if m.click != (click{}) {
		head |= 1
	}
	dst = append(dst, head, m.opens, m.early)
	var base int64
	for _, s := range m.sends[:m.n] {
		dst = binary.LittleEndian.AppendUint32(dst, s.message)
		d := zigzag(s.second-base) << 2
		if s.prime {
			d |= 1
		}
		if s.read {
			d |= 2
		}
		dst = binary.AppendUvarint(dst, d)
		base = s.second
	}
	if m.click != (click{}) {
		dst = binary.LittleEndian.AppendUint32(dst, m.click.message)
		dst = binary.LittleEndian.AppendUint32(dst, m.click.link)
		dst = binary.AppendVarint(dst, m.click.second-base)
	}
	return dst
}

func (m *memory) decode(d *decoder) {
	*m = memory{}
	head := d.byte()
	if head>>1 > uint8(len(m.sends)) {
		d.fail("too many deliveries")
		return
	}
	m.n, m.opens, m.early = head>>1, d.byte(), d.byte()
	var base int64
	for i := range m.sends[:m.n] {
		s := &m.sends[i]
		s.message = d.word()
		v := d.uvarint()
		s.prime, s.read = v&1 != 0, v&2 != 0
		s.second = base + unzigzag(v>>2)
		base = s.second
	}
	if head&1 != 0 {
		m.click = click{message: d.word(), link: d.word(), second: base + d.varint()}
	}
}

func (d *decoder) word() uint32 {
	if len(d.b) < 4 {
		d.fail("cut off")
		return 0
	}
	v := binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func abs(v int64) int64 { return max(v, -v) }

// hash32 is FNV-1a: 32 bits are plenty to tell four messages of one customer apart.
func hash32(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}
