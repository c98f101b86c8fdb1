package decision

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Audiences counts, for each audience, the customers of the partition and those of them who hold another send in an hour:
// what bounds overlap. It is the decider's partition state.
//
// A customer belongs to an audience from the first request for it until the day of the last such request's deadline. Another
// send is one that is not for this audience, planned or made. Hours are local ones: customers of different zones who read a
// message at ten of their clocks are in the same hour.
type Audiences struct {
	byName map[string]*audience
}

// audience is the count of one.
type audience struct {
	members []leaving // in order of days
	held    []held    // in order of hours and then priorities; none is zero in both
}

// leaving is how many members leave after a day (days since 1970, UTC).
type leaving struct{ day, n int64 }

// held is how many members hold sends of a priority in a local hour.
type held struct{ hour, priority, own, other int64 } // own: for this audience

// maxAudiences is how many are counted in a partition. Of any more none is bounded; the rule says so.
const maxAudiences = 64

// Bounds of one audience's counts: every day and every hour up to MaxWait, and an hour twice for what lies behind.
const (
	maxLeaving = 2 + int(MaxWait/day)
	maxHeld    = (MaxPriority + 1) * 24 * (4 + int(MaxWait/day))
)

// behind is how many hours ago an hour may be in use: civil hours of the same instant are up to 26 apart.
const behind = 14

// count adds n times what s holds to the counts, of each audience while the customer belongs to it.
func (a *Audiences) count(s *State, now, n int64) {
	if a == nil || len(s.members) == 0 {
		return
	}
	first := floorDiv(now-epoch, hourly) - behind
	for _, m := range s.members {
		c := a.audience(m.audience)
		if c == nil {
			continue
		}
		c.join(m.until, n)
		last := (m.until+2)*24 - epoch/hourly // the day is one of UTC: it may be the next one where the customer is
		each := func(audience string, hour int64, priority int) {
			switch {
			case hour < first || hour >= last:
			case audience == m.audience:
				c.hold(hour, int64(priority), n, 0)
			default:
				c.hold(hour, int64(priority), 0, n)
			}
		}
		for i := range s.sent {
			each(s.sent[i].audience, s.sent[i].hour, s.sent[i].priority)
		}
		for i := range s.pending {
			if p := &s.pending[i]; p.at != 0 {
				each(p.audience, p.hour, p.priority)
			}
		}
	}
	a.forget(dayOf(now), first)
}

// Admit counts a customer who has come from another partition.
func (a *Audiences) Admit(s *State, now time.Time) { a.count(s, now.UnixMilli(), 1) }

// audience is the count of that name, made where there is none; nil where there are too many.
func (a *Audiences) audience(name string) *audience {
	c := a.byName[name]
	if c == nil && len(a.byName) < maxAudiences {
		if a.byName == nil {
			a.byName = make(map[string]*audience)
		}
		c = new(audience)
		a.byName[name] = c
	}
	return c
}

// forget drops what is over.
func (a *Audiences) forget(today, first int64) {
	for name, c := range a.byName {
		c.members = slices.DeleteFunc(c.members, func(l leaving) bool { return l.day < today || l.n == 0 })
		c.held = slices.DeleteFunc(c.held, func(h held) bool { return h.hour < first || h.own == 0 && h.other == 0 })
		if len(c.members) == 0 && len(c.held) == 0 {
			delete(a.byName, name)
		}
	}
}

// join counts members that leave after a day. Counts never fall below none: what was not counted, because there were too many
// audiences then, is not taken back either.
func (c *audience) join(day, n int64) {
	i, found := slices.BinarySearchFunc(c.members, day, func(l leaving, day int64) int { return cmp.Compare(l.day, day) })
	if !found {
		c.members = slices.Insert(c.members, i, leaving{day: day})
	}
	c.members[i].n = max(0, c.members[i].n+n)
}

// hold counts sends.
func (c *audience) hold(hour, priority, own, other int64) {
	i, found := c.search(hour, priority)
	if !found {
		c.held = slices.Insert(c.held, i, held{hour: hour, priority: priority})
	}
	h := &c.held[i]
	h.own, h.other = max(0, h.own+own), max(0, h.other+other)
}

func (c *audience) search(hour, priority int64) (int, bool) {
	return slices.BinarySearchFunc(c.held, held{hour: hour, priority: priority}, func(x, y held) int {
		return cmp.Or(cmp.Compare(x.hour, y.hour), cmp.Compare(x.priority, y.priority))
	})
}

// sharing is what the members of an audience hold in a local hour: sends for it of at least a priority, other sends of at least
// that priority, and other sends of any. It is false where the audience is not counted.
func (a *Audiences) sharing(name string, hour int64, priority int) (x sharing, ok bool) {
	if a == nil {
		return x, false
	}
	c := a.byName[name]
	if c == nil {
		return x, len(a.byName) < maxAudiences
	}
	for _, l := range c.members {
		x.members += l.n
	}
	for i, _ := c.search(hour, 0); i < len(c.held) && c.held[i].hour == hour; i++ {
		h := &c.held[i]
		if x.others += h.other; h.priority >= int64(priority) {
			x.own, x.competing = x.own+h.own, x.competing+h.other
		}
	}
	return x, true
}

type sharing struct{ members, own, competing, others int64 }

// audiencesVersion begins every encoding of Audiences.
const audiencesVersion = 1

// Append writes the counts.
func (a *Audiences) Append(dst []byte) []byte {
	e := encoder{append(dst, audiencesVersion)}
	e.count(len(a.byName))
	for _, name := range slices.Sorted(maps.Keys(a.byName)) {
		c := a.byName[name]
		e.text(name)
		e.count(len(c.members))
		var last int64
		for _, l := range c.members {
			e.number(l.day - last)
			last = l.day
			e.number(l.n)
		}
		e.count(len(c.held))
		last = 0
		for _, h := range c.held {
			e.number(h.hour - last)
			last = h.hour
			e.number(h.priority)
			e.number(h.own)
			e.number(h.other)
		}
	}
	return e.b
}

// Decode reads what Append wrote.
func (a *Audiences) Decode(b []byte) error {
	*a = Audiences{}
	if len(b) == 0 {
		return errors.New("decode audiences: cut off")
	}
	if b[0] != audiencesVersion {
		return fmt.Errorf("decode audiences: version %d is unknown to this program, which reads version %d: run the newer one (docs/operations.md, Upgrades and rollback)", b[0], audiencesVersion)
	}
	d := decoder{b: b[1:]}
	for range d.count(maxAudiences) {
		name := d.text()
		c := a.audience(name)
		if len(c.members) > 0 || len(c.held) > 0 {
			d.fail("an audience twice")
		}
		var last int64
		for range d.count(maxLeaving) {
			last += d.number()
			c.members = append(c.members, leaving{last, d.number()})
		}
		last = 0
		for range d.count(maxHeld) {
			last += d.number()
			c.held = append(c.held, held{last, d.number(), d.number(), d.number()})
		}
	}
	if err := d.end(); err != nil {
		*a = Audiences{}
		return fmt.Errorf("decode audiences: %w", err)
	}
	return nil
}
