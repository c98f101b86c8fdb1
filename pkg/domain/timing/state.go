package timing

import "math/bits"

// State is the time profile of one customer in one channel.
//
// Counters change only at settlement: when a local day has left the lateness window, its engaged hours and deliveries are
// added, day by day. Until then they stand in the two sets of hot hours, and a view adds them on the fly. So the counters
// do not depend on the order in which events arrive, as long as none is more than Lateness behind the newest.
//
// Counters decay forward (Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay, ICDE 2009): an hour of week w weighs
// unit*2^((w-landmark)/half-life) for ever, and readers divide by the weight of their own week. Weights are constant within
// a week, therefore integers, therefore exact.
type State struct {
	seen     bool
	head     Hour  // latest hour seen
	first    int64 // day of the first
	landmark int64 // week, a multiple of landmarkStep; meaningless before anything was settled
	settled  bool

	hours      uint32 // engaged hours settled, without decay
	days       uint32 // days with such
	deliveries uint32 // delivery hours settled

	slow, fast  [Day]uint32 // engaged hours by hour of day: half-lives 52 and 13 weeks
	sent        [Day]uint32 // delivery hours by hour of day, 13 weeks
	engagedDays [7]uint32   // engaged hours by day of week, 13 weeks
	sentDays    [7]uint32   // delivery hours by day of week, 13 weeks

	mailDays uint32 // days with deliveries whose answer is known
	readDays uint32 // of these, answered
	streak   uint32 // of these, in a row, unanswered since the last engagement
	silent   bool   // a silence was raised and not ended yet
	answered bool   // last holds an hour
	last     Hour   // latest engaged hour

	engaged  hours
	received hours
	minutes  [hotHours]uint8 // earliest minute of the engaged hours not settled yet, by hour modulo hotHours
}

const (
	unit         = 64
	landmarkStep = 52
	landmarkMax  = 104
	resolution   = 96 // hours after a mail day until its answer counts: 48 to answer and 48 of lateness
	answer       = 48 // a mail day is read if there is an engagement within so many hours of its first delivery
	hotHours     = Lateness + Day
)

// Weights by weeks since the landmark, in 1/65536.
var fastWeight, slowWeight = weights(13), weights(52)

func weights(halfLife float64) (w [landmarkMax]uint64) {
	for i := range w {
		w[i] = uint64(65536*exp2(float64(i)/halfLife) + 0.5)
	}
	return w
}

// Result says what became of an event.
type Result uint8

// Results.
const (
	Counted  Result = iota // an hour that was not known before
	Repeated               // an hour that was: nothing changed
	Late                   // older than what is remembered: nothing changed
)

// Change is what an event did to a State, and the alarms with memory that it raised: silence, reactivation and drift.
type Change struct {
	Result Result
	Alarms []Test // nil for nearly every event
}

// Delivered notes that a message was delivered in hour h, and raises a silence where one more ignored day of mail makes it
// certain enough. Silence is looked for on deliveries only: without mail, nobody is silent.
func (s *State) Delivered(w *World, h Hour) (c Change) {
	if c.Result = s.advance(h); c.Result != Counted {
		return c
	}
	if s.streak > 0 && !s.silent {
		if t, raised := s.silence(w.Model); raised {
			s.silent, c.Alarms = true, append(c.Alarms, t)
		}
	}
	if s.received.has(h) {
		c.Result = Repeated
		return c
	}
	s.received.add(h)
	if dayOf(h) < s.unsettled() {
		s.settleDelivery(h)
	}
	return c
}

// Engaged notes an engagement in hour h at minute, and raises a reactivation where it ends a silence.
func (s *State) Engaged(w *World, h Hour, minute int) (c Change) {
	if c.Result = s.advance(h); c.Result != Counted {
		return c
	}
	if s.silent {
		c.Alarms = append(c.Alarms, s.reactivation(w.Model, h))
	}
	s.silent, s.streak = false, 0
	if !s.answered || h > s.last {
		s.answered, s.last = true, h
	}
	hot := dayOf(h) >= s.unsettled()
	switch at := &s.minutes[mod(h, hotHours)]; {
	case s.engaged.has(h):
		c.Result = Repeated
		if hot {
			*at = min(*at, uint8(minute))
		}
	case hot:
		s.engaged.add(h)
		*at = uint8(minute)
	default: // later than promised, but remembered: count it where it belongs
		if s.engaged.day(dayOf(h), s.head) == 0 {
			s.days++
		}
		s.engaged.add(h)
		s.settleEngagement(h, minute)
	}
	return c
}

// advance moves the newest hour to h, if it is newer: it settles days, resolves mail days and forgets hot hours.
func (s *State) advance(h Hour) Result {
	switch {
	case !s.seen:
		s.seen, s.head, s.first = true, h, dayOf(h)
		return Counted
	case h <= s.head-Memory:
		return Late
	}
	s.first = min(s.first, dayOf(h))
	if h <= s.head {
		return Counted
	}
	last := dayOf(s.head) // nothing is known of later days
	for d, end := s.unsettled(), floorDiv(h-Lateness, Day); d < end && d <= last; d++ {
		s.settle(d)
	}
	for d, end := floorDiv(s.head-resolution, Day), floorDiv(h-resolution, Day); d < end && d <= last; d++ {
		s.resolve(d)
	}
	s.engaged.forget(s.head, h)
	s.received.forget(s.head, h)
	s.head = h
	return Counted
}

// unsettled is the first day that is not settled: one of whose hours an event may still join in order.
func (s *State) unsettled() int64 { return floorDiv(s.head-Lateness, Day) }

func (s *State) settle(d int64) {
	for b := s.received.day(d, s.head); b != 0; b &= b - 1 {
		s.settleDelivery(d*Day + int64(bits.TrailingZeros32(b)))
	}
	b := s.engaged.day(d, s.head)
	if b != 0 {
		s.days++
	}
	for ; b != 0; b &= b - 1 {
		h := d*Day + int64(bits.TrailingZeros32(b))
		s.settleEngagement(h, int(s.minutes[mod(h, hotHours)]))
		s.minutes[mod(h, hotHours)] = 0
	}
}

// settleEngagement adds an engaged hour. It is split between h and the nearer neighbour by the minute, so that a habit at
// the full hour is not torn apart by minutes.
func (s *State) settleEngagement(h Hour, minute int) {
	i := s.age(h)
	own, near := split(h, minute)
	for _, part := range [2]struct {
		h Hour
		k uint64
	}{{h, own}, {near, unit - own}} {
		s.slow[hourOfDay(part.h)] += weigh(part.k, slowWeight[i])
		s.fast[hourOfDay(part.h)] += weigh(part.k, fastWeight[i])
	}
	s.engagedDays[dayOfWeek(h)] += weigh(unit, fastWeight[i])
	s.hours++
}

func (s *State) settleDelivery(h Hour) {
	w := weigh(unit, fastWeight[s.age(h)])
	s.sent[hourOfDay(h)] += w
	s.sentDays[dayOfWeek(h)] += w
	s.deliveries++
}

// split returns how much of the unit an engagement at minute of h leaves to h, and the neighbour that takes the rest.
func split(h Hour, minute int) (own uint64, near Hour) {
	if minute >= 30 {
		return unit - (uint64(minute-30)*unit+30)/60, h + 1
	}
	return unit - (uint64(30-minute)*unit+30)/60, h - 1
}

func weigh(k, weight uint64) uint32 { return uint32((k*weight + 32768) >> 16) }

// age returns the weeks from the landmark to h, and moves the landmark where they become too many for the weights. Moving
// it by 52 weeks divides the counters by exact powers of two.
func (s *State) age(h Hour) int {
	w := weekOf(h)
	if !s.settled {
		s.settled, s.landmark = true, floorDiv(w, landmarkStep)*landmarkStep
	}
	for w-s.landmark >= landmarkMax {
		s.rebase()
	}
	return int(max(0, w-s.landmark))
}

func (s *State) rebase() {
	s.landmark += landmarkStep
	for i := range s.slow {
		s.slow[i] = (s.slow[i] + 1) >> 1
		s.fast[i] = (s.fast[i] + 8) >> 4
		s.sent[i] = (s.sent[i] + 8) >> 4
	}
	for i := range s.sentDays {
		s.engagedDays[i] = (s.engagedDays[i] + 8) >> 4
		s.sentDays[i] = (s.sentDays[i] + 8) >> 4
	}
}

// resolve counts day d as read or ignored, if mail came on it.
func (s *State) resolve(d int64) {
	b := s.received.day(d, s.head)
	if b == 0 {
		return
	}
	s.mailDays++
	first := d*Day + int64(bits.TrailingZeros32(b))
	for h := first; h <= min(first+answer, s.head); h++ {
		if s.engaged.has(h) {
			s.readDays++
			return
		}
	}
	if !s.answered || s.last < first { // ignored, and not answered late either: part of the streak that still runs
		s.streak++
	}
}

// Merge adds o, the state of what turned out to be the same customer: counters are added and hot hours united. It does not
// matter which of two states is merged into the other.
func (s *State) Merge(w *World, o State) {
	if !o.seen {
		return
	}
	if !s.seen {
		*s = o
		return
	}
	s.advance(o.head)
	o.advance(s.head)
	if s.settled && o.settled {
		for s.landmark < o.landmark {
			s.rebase()
		}
		for o.landmark < s.landmark {
			o.rebase()
		}
	}
	s.landmark, s.settled = max(s.landmark, o.landmark), s.settled || o.settled
	s.first = min(s.first, o.first)
	s.hours += o.hours
	s.days += o.days
	s.deliveries += o.deliveries
	for i := range s.slow {
		s.slow[i] += o.slow[i]
		s.fast[i] += o.fast[i]
		s.sent[i] += o.sent[i]
	}
	for i := range s.sentDays {
		s.engagedDays[i] += o.engagedDays[i]
		s.sentDays[i] += o.sentDays[i]
	}
	s.mailDays += o.mailDays
	s.readDays += o.readDays
	s.silent = s.silent && o.silent
	s.streak = min(s.streak, o.streak)
	if o.answered && (!s.answered || o.last > s.last) {
		s.answered, s.last = true, o.last
	}
	for h := max(s.unsettled()*Day, s.head-Memory+1); h <= s.head; h++ {
		i := mod(h, hotHours)
		switch {
		case !o.engaged.has(h):
		case s.engaged.has(h):
			s.minutes[i] = min(s.minutes[i], o.minutes[i])
		default:
			s.minutes[i] = o.minutes[i]
		}
	}
	s.engaged.unite(o.engaged)
	s.received.unite(o.received)
}

// hours is a set of the last Memory hours: a ring of bits, by hour modulo Memory.
type hours [3]uint64

func (r *hours) has(h Hour) bool { i := mod(h, Memory); return r[i>>6]>>(i&63)&1 != 0 }
func (r *hours) add(h Hour)      { i := mod(h, Memory); r[i>>6] |= 1 << (i & 63) }
func (r *hours) drop(h Hour)     { i := mod(h, Memory); r[i>>6] &^= 1 << (i & 63) }

func (r *hours) len() int {
	return bits.OnesCount64(r[0]) + bits.OnesCount64(r[1]) + bits.OnesCount64(r[2])
}

func (r *hours) unite(o hours) {
	for i := range r {
		r[i] |= o[i]
	}
}

// day returns the hours of day d as bits; those that are not within Memory of head are not in the set.
func (r *hours) day(d int64, head Hour) (b uint32) {
	if d*Day > head || d*Day+Day-1 <= head-Memory {
		return 0
	}
	i := mod(d*Day, Memory) // a multiple of 24: a day spans at most two words
	b = uint32(r[i>>6] >> (i & 63))
	if left := 64 - i&63; left < Day {
		b |= uint32(r[i>>6+1] << left)
	}
	b &= 1<<Day - 1
	if stale := head - Memory - d*Day + 1; stale > 0 { // the ring holds newer hours there
		b &^= 1<<stale - 1
	}
	if ahead := head - d*Day; ahead < Day-1 {
		b &= 1<<(ahead+1) - 1
	}
	return b
}

// forget makes room: the hours after from up to to leave the place of those a memory before.
func (r *hours) forget(from, to Hour) {
	if to-from >= Memory {
		*r = hours{}
	}
	if *r == (hours{}) {
		return
	}
	for h := from + 1; h <= to; h++ {
		r.drop(h)
	}
}

func dayOfWeek(h Hour) int { return int(mod(dayOf(h), 7)) }
