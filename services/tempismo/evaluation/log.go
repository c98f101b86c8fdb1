package evaluation

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
)

// Log is what happened to a population: per customer and channel, in order of time, deliveries and human engagements.
type Log struct {
	people  []person
	zone    *time.Location // whose midnight ends the population's day
	summary Summary
}

// person is one customer in one channel.
type person struct {
	customer string
	events   []event
}

// event is a delivery or a human engagement.
type event struct {
	second int64
	hour   int32 // local
	age    int16 // engagement: hours since the delivery of its message; fit.UnknownAge where that is not known
	minute uint8
	kind   engagement.Kind
}

func (e *event) delivered() bool { return e.kind == engagement.Delivered }

func (e *event) at() timing.Hour { return timing.Hour(e.hour) }

// Customers is the number of customers, by channel.
func (l *Log) Customers() int { return len(l.people) }

// Summary says what the log holds.
func (l *Log) Summary() Summary { return l.summary }

// Builder makes a Log of engagement events in any order. It keeps 32 bytes of each.
type Builder struct {
	fallback *time.Location
	index    map[string]int
	people   []*gathered
	zones    []*time.Location
	zoneOf   map[string]uint16
}

type gathered struct {
	customer, channel string
	events            []raw
}

type raw struct {
	second  int64
	message uint32 // hashes; 0: none
	link    uint32
	zone    uint16 // 0: the event names none
	kind    engagement.Kind
	actor   engagement.Actor
	rule    uint8 // index into rules
}

// rules are those that named an actor and that the rules which compare events ask for; of the others the verdict is enough.
var rules = [...]string{"", engagement.RuleHoneypot, engagement.RuleSharedNetwork}

// NewBuilder takes the zone of customers whose events name none.
func NewBuilder(fallback *time.Location) *Builder {
	return &Builder{fallback: fallback, index: map[string]int{}, zones: []*time.Location{fallback}, zoneOf: map[string]uint16{}}
}

// Add notes an event. It keeps nothing of e. Zones that do not exist, which a careful reader does not let through, are
// taken for none.
func (b *Builder) Add(e *engagement.Event) {
	if e.Kind != engagement.Delivered && !e.Kind.Engaged() {
		return
	}
	key := e.Subject + "\x00" + e.Channel
	i, ok := b.index[key]
	if !ok {
		i = len(b.people)
		b.people = append(b.people, &gathered{customer: strings.Clone(e.Subject), channel: strings.Clone(e.Channel)})
		b.index[strings.Clone(key)] = i
	}
	p := b.people[i]
	p.events = append(p.events, raw{
		second: e.Time.Unix(), message: hash(e.Message), link: hash(e.Link), zone: b.zone(e.Zone), kind: e.Kind, actor: e.Actor,
		rule: uint8(max(0, slices.Index(rules[:], e.ActorRule))),
	})
}

func (b *Builder) zone(name string) uint16 {
	if name == "" {
		return 0
	}
	if z, ok := b.zoneOf[name]; ok {
		return z
	}
	var z uint16
	if loc, err := calendar.Zone(name); err == nil && len(b.zones) < math.MaxUint16 {
		z = uint16(len(b.zones))
		b.zones = append(b.zones, loc)
	}
	b.zoneOf[strings.Clone(name)] = z
	return z
}

// hash is FNV-1a, never 0 for a string that is not empty.
func hash(s string) uint32 {
	if s == "" {
		return 0
	}
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return max(h, 1)
}

// Log sorts what was noted, applies the machine rules that compare events (timing.Profile.Answered), as the profiler does,
// and turns instants into local hours. The Builder is spent.
func (b *Builder) Log() *Log {
	l := &Log{}
	slices.SortFunc(b.people, func(x, y *gathered) int {
		return cmp.Or(strings.Compare(x.customer, y.customer), strings.Compare(x.channel, y.channel))
	})
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	used := make([]int, len(b.zones))
	for i, g := range b.people {
		b.people[i] = nil
		p := person{customer: g.customer, events: b.convert(g, &l.summary, used)}
		if len(p.events) == 0 {
			continue
		}
		first, last = min(first, p.events[0].second), max(last, p.events[len(p.events)-1].second)
		l.people = append(l.people, p)
	}
	l.zone = b.fallback
	most := 0
	for z, n := range used { // the zone of most events has the say of when a day ends
		if n > most {
			most, l.zone = n, b.zones[z]
		}
	}
	l.summary.Customers = len(l.people)
	if len(l.people) > 0 {
		l.summary.Days = int((last-first)/86400) + 1
	}
	return l
}

func (b *Builder) convert(g *gathered, sum *Summary, used []int) []event {
	slices.SortStableFunc(g.events, func(x, y raw) int {
		return cmp.Or(cmp.Compare(x.second, y.second), cmp.Compare(x.kind, y.kind), cmp.Compare(x.message, y.message), cmp.Compare(x.link, y.link))
	})
	out := make([]event, 0, len(g.events))
	var memory timing.Profile
	var zone uint16
	sitting := int64(math.MinInt64)
	for i := range g.events {
		r := &g.events[i]
		if i > 0 && *r == g.events[i-1] {
			sum.Repeated++
			continue
		}
		if r.zone != 0 {
			zone = r.zone
		}
		hour, minute := calendar.LocalHour(time.Unix(r.second, 0), b.zones[zone])
		e := event{second: r.second, hour: int32(hour), age: fit.UnknownAge, minute: uint8(minute), kind: r.kind}
		known := engagement.Event{Time: time.Unix(r.second, 0), Kind: r.kind, Actor: r.actor, ActorRule: rules[r.rule], Message: name(r.message), Link: name(r.link)}
		switch {
		case e.delivered():
			memory.Sent(&known)
			sum.Deliveries++
		default:
			a := memory.Answered(&known)
			if a.Actor != engagement.Human {
				sum.Machine++
				continue
			}
			if hours := a.Seconds / 3600; a.Known && hours >= 0 && hours < math.MaxInt16 {
				e.age = int16(hours)
			}
			sum.Engaged++
			if sits(sitting, r.second) {
				sum.Sittings++
			}
			sitting = r.second
		}
		used[zone]++
		out = append(out, e)
	}
	return slices.Clip(out)
}

// name spells a hash: the rules only ask whether two names are the same.
func name(h uint32) string {
	if h == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(h), 36)
}

// sits reports whether an engagement begins a new sitting, the one before having been at second last: engagements less than
// half an hour apart are one.
func sits(last, second int64) bool { return last == math.MinInt64 || second-last > 30*60 }

// histories are the log as package fit wants it, of every step-th customer, up to an instant.
func (l *Log) histories(step int, until int64) []fit.History {
	var all []fit.History
	for i := 0; i < len(l.people); i += step {
		p := &l.people[i]
		h := fit.History{Customer: p.customer}
		for j := range p.events {
			e := &p.events[j]
			if e.second >= until {
				break
			}
			h.Events = append(h.Events, fit.Event{Hour: e.at(), Age: e.age, Minute: e.minute, Delivered: e.delivered()})
		}
		if len(h.Events) > 0 {
			all = append(all, h)
		}
	}
	return all
}
