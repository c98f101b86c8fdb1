package timing

import (
	"bytes"
	"math"
	"math/bits"
)

// State is the time profile of one customer in one channel.
//
// Counters, evidence and drift change only at settlement: when a local day has left the lateness window, its deliveries and
// engaged hours are taken in, in order of time. Until then they stand in the two sets of hot hours, and a view takes them
// into a copy, by the same code. So nothing of it depends on the order in which events arrive, as long as none is more than
// Lateness behind the newest.
//
// Counters decay forward (Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay, ICDE 2009): an hour of week w weighs
// unit*2^((w-landmark)/half-life) for ever, and readers divide by the weight of their own week. Weights are constant within
// a week, therefore integers, therefore exact. All but the slow histogram of Rhythm have a half-life of 13 weeks.
type State struct {
	tally

	seen  bool
	head  Hour  // latest hour seen
	first int64 // day of the first

	moved  uint16               // log M of the drift test where it is above 0, 1/256 nat
	recent [recentAnswers]uint8 // 1 + hour of the day of the answers since M rose above 1, newest first; 0: none

	mailDays uint32 // days with deliveries whose answer is known
	readDays uint32 // of these, answered
	streak   uint32 // of these, in a row, unanswered since the last engagement
	silent   bool   // a silence was raised and not ended yet
	answered bool   // last holds an hour
	last     Hour   // latest engaged hour

	engaged  hours
	received hours
	minutes  [hotHours]uint8 // earliest minute of the engaged hours not settled yet, by hour modulo hotHours

	before *before // nil, or what to remember of the last view
}

// tally is what settling adds to.
type tally struct {
	Rhythm // of the engaged hours settled

	settled  bool
	landmark int64 // week, a multiple of quarter, of the counters below; meaningless before anything was settled

	days        uint32      // days with engaged hours, without decay
	engagedDays [7]uint32   // engaged hours by day of week
	answers     uint32      // engaged hours that may answer a message known
	deliveries  uint32      // delivery hours, without decay
	sent        [Day]uint32 // delivery hours by hour of day
	sentDays    [7]uint32   // delivery hours by day of week
	seasonal    uint32      // delivery hours by how much everybody engages on the days after them (Model.Season)
	watched     uint32      // days between engaged days, holes cut short: exposure while no deliveries are reported
	watchedTo   int64       // the last such day
}

const (
	unit          = 64
	year          = 52 // weeks: the step of landmarks of counters with that half-life
	quarter       = 13
	forgotten     = 33 // halvings after which nothing is left of a counter
	resolution    = 96 // hours after a mail day until its answer counts: 48 to answer and 48 of lateness
	answer        = 48 // a mail day is read if there is an engagement within so many hours of its first delivery
	hotHours      = Lateness + Day
	longestHole   = 56 // days without an event beyond which it is not the customer of whom they tell
	quietSeason   = 0.75
	recentAnswers = 6
)

// Weights by weeks since the landmark, in 1/65536.
var fastWeight, slowWeight = weights(13), weights(52)

func weights(halfLife float64) (w [2 * year]uint64) {
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
// certain enough. Silence is looked for on deliveries only: without mail, nobody is silent. Days that h settles may raise
// drifts.
func (s *State) Delivered(w *World, h Hour) (c Change) {
	if s.advance(w, h, &c); c.Result != Counted {
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
		s.settleDelivery(w, h)
	}
	return c
}

// Engaged notes an engagement in hour h at minute, and raises a reactivation where it ends a silence. Days that h settles
// may raise drifts.
func (s *State) Engaged(w *World, h Hour, minute int) (c Change) {
	if s.advance(w, h, &c); c.Result != Counted {
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
		first := s.engaged.day(dayOf(h), s.head) == 0
		s.engaged.add(h)
		e := day{week: weekOf(h), odds: 1}
		s.settleEngagement(w, h, minute, first, &e)
		if t, raised := s.drift(&e); raised {
			c.Alarms = append(c.Alarms, t)
		}
	}
	return c
}

// advance moves the newest hour to h, if it is newer: it settles days, resolves mail days and forgets hot hours.
func (s *State) advance(w *World, h Hour, c *Change) {
	switch {
	case !s.seen:
		s.seen, s.head, s.first = true, h, dayOf(h)
		return
	case h <= s.head-Memory:
		c.Result = Late
		return
	}
	s.first = min(s.first, dayOf(h))
	if h <= s.head {
		return
	}
	for d, end := s.unsettled(), floorDiv(h-Lateness, Day); d < end && d <= dayOf(s.head); d++ {
		if t, raised := s.settle(w, d); raised {
			t.Days = int(dayOf(h) - d)
			c.Alarms = append(c.Alarms, t)
		}
	}
	s.resolveUntil(w, h)
	s.engaged.forget(s.head, h)
	s.received.forget(s.head, h)
	s.head = h
}

// unsettled is the first day that is not settled: one of whose hours an event may still join in order.
func (s *State) unsettled() int64 { return floorDiv(s.head-Lateness, Day) }

// settle takes in day d, and raises a drift where its answers make it certain enough that the habit has moved.
func (s *State) settle(w *World, d int64) (t Test, raised bool) {
	e := day{week: floorDiv(d, 7), odds: 1}
	s.takeIn(w, d, true, &e)
	return s.drift(&e)
}

// takeIn takes in day d: its deliveries and, unless they are to be left out, its engaged hours. What these say of a habit that
// may have moved is added to e; nil where nobody asks.
func (s *State) takeIn(w *World, d int64, engagements bool, e *day) {
	received := s.received.day(d, s.head)
	engaged := uint32(0)
	if engagements {
		engaged = s.engaged.day(d, s.head)
	}
	first := true
	for b := received | engaged; b != 0; b &= b - 1 {
		h, bit := d*Day+int64(bits.TrailingZeros32(b)), b&-b
		if received&bit != 0 {
			s.settleDelivery(w, h)
		}
		if engaged&bit != 0 {
			minute := &s.minutes[mod(h, hotHours)]
			s.settleEngagement(w, h, int(*minute), first, e)
			*minute, first = 0, false
		}
	}
}

// day is what the answers of a day say of a habit that may have moved.
type day struct {
	week  int64
	odds  float64    // of the answers for a customer whose habit has moved, against one whose has not
	hours [Day]uint8 // 1 + hour of the day of each
	n     int        // of them
}

// settleEngagement takes in an engaged hour, which may be the first of its day, and adds to what e says, if it is there.
func (s *State) settleEngagement(w *World, h Hour, minute int, first bool, e *day) {
	i := s.age(h)
	m, d := w.Model, dayOf(h)
	p, exposure := &w.outline, &w.exposed
	carried := w.exposure(exposure, &s.sent)
	m.outline(p, &s.Rhythm, weekOf(h), exposure, m.base(Bucket(int(s.n))))
	if sent, answers := s.latest(h); !answers {
		s.Learn(p, h, minute, nil)
	} else {
		if e != nil && s.enough(h) {
			usual, other := s.hypotheses(m, p, carried, sent)
			y := hourOfDay(h)
			e.odds *= other[y] / usual[y]
			e.hours[e.n] = uint8(y + 1)
			e.n++
		}
		var folded [Day]float64
		m.fold(&folded, sent)
		s.Learn(p, h, minute, &folded)
		if !w.Gaps.Has(d) { // the deliveries of such a day do not count, so neither do its answers
			s.answers += weigh(unit, fastWeight[i])
		}
	}
	s.engagedDays[dayOfWeek(h)] += weigh(unit, fastWeight[i])
	if !first {
		return
	}
	s.days++
	if s.deliveries == 0 {
		seen := int64(1)
		if s.watched > 0 {
			seen = min(max(0, d-s.watchedTo), longestHole)
		}
		s.watched += weigh(uint64(seen)*unit, fastWeight[i])
		s.watchedTo = max(s.watchedTo, d)
	}
}

func (s *State) settleDelivery(w *World, h Hour) {
	i := s.age(h)
	s.deliveries++
	s.watched, s.watchedTo = 0, 0
	if w.Gaps.Has(dayOf(h)) {
		return
	}
	w.flow.add(w.Model, &s.sent, hourOfDay(h), weigh(unit, fastWeight[i]))
	s.sentDays[dayOfWeek(h)] += weigh(unit, fastWeight[i])
	s.seasonal += weigh(uint64(math.Round(unit*w.Model.seasonAfter(h))), fastWeight[i])
}

// enough is Evidence.Enough as of h, for customers with deliveries.
func (s *State) enough(h Hour) bool {
	if s.deliveries < 8 || dayOf(h)-s.first < 21 {
		return false
	}
	return s.decayed(h)*float64(s.engagement()) >= 5
}

func (s *State) engagement() (n uint32) {
	for _, c := range s.engagedDays {
		n += c
	}
	return n
}

// decayed is what one of the counters (all but those of Rhythm) is worth at h.
func (s *State) decayed(h Hour) float64 { return decay(weekOf(h)-s.landmark) / unit }

// split returns how much of the unit an engagement at minute of h leaves to h, and the neighbour that takes the rest.
func split(h Hour, minute int) (own uint64, near Hour) {
	if minute >= 30 {
		return unit - (uint64(minute-30)*unit+30)/60, h + 1
	}
	return unit - (uint64(30-minute)*unit+30)/60, h - 1
}

func weigh(k, weight uint64) uint32 { return uint32((k*weight + 32768) >> 16) }

// age returns the weeks from the landmark to h, and moves the landmark where they become too many: by 13 weeks, which divides
// the counters by two, so that they stay small.
func (s *State) age(h Hour) int {
	w := weekOf(h)
	if !s.settled {
		s.settled, s.landmark = true, floorDiv(w, quarter)*quarter
	}
	if steps := (w-s.landmark)/quarter - 1; steps > 0 {
		s.rebase(steps)
	}
	return int(max(0, w-s.landmark))
}

func (s *State) rebase(steps int64) {
	s.landmark += steps * quarter
	for range min(steps, forgotten) {
		s.halve()
	}
}

// halve halves every counter that decays, but for those of Rhythm.
func (s *State) halve() {
	for i, c := range &s.sent {
		s.sent[i] = half(c)
	}
	for i := range s.sentDays {
		s.sentDays[i], s.engagedDays[i] = half(s.sentDays[i]), half(s.engagedDays[i])
	}
	s.answers, s.seasonal, s.watched = half(s.answers), half(s.seasonal), half(s.watched)
}

// half rounds what is odd to even.
func half(c uint32) uint32 { return (c + c>>1&1) >> 1 }

// forget halves what is known: the habit has moved. It halves the histograms again as long as more engaged hours are left in
// them than the new habit can outvote soon: of somebody known for years, half is as firm a belief in the old habit as all.
func (s *State) forget(week int64) {
	const left = 32
	n := 0.0
	for _, c := range s.slow {
		n += float64(c)
	}
	n *= decaySlow(week-s.year) / unit
	times := 1
	for n /= 2; n > left; n /= 2 {
		times++
	}
	s.Rhythm.forget(times)
	s.halve()
}

// resolveUntil counts the mail days whose answer is known once an event of hour h is.
func (s *State) resolveUntil(w *World, h Hour) {
	last := dayOf(s.head) // nothing is known of later days
	if h-s.head > longestHole*Day {
		last = floorDiv(s.head-answer, Day) - 1 // nor of mail whose answers were still to come
	}
	for d, end := floorDiv(s.head-resolution, Day), floorDiv(h-resolution, Day); d < end && d <= last; d++ {
		s.resolve(w, d)
	}
}

// resolve counts day d as read or ignored, if mail came on it. It is no trial where the feed was down on it or the day
// after, nor in a season in which everybody engages much less.
func (s *State) resolve(w *World, d int64) {
	b := s.received.day(d, s.head)
	if b == 0 || w.Gaps.Has(d) || w.Gaps.Has(d+1) || w.Model.season(d) < quietSeason {
		return
	}
	s.mailDays++
	first := d*Day + int64(bits.TrailingZeros32(b))
	for k := range int64(answer/Day + 1) { // the days from first to first+answer
		b := s.engaged.day(d+k, s.head)
		switch at := first - d*Day; k {
		case 0:
			b >>= at
		case answer / Day:
			b &= 1<<(at+1) - 1
		}
		if b != 0 {
			s.readDays++
			return
		}
	}
	if !s.answered || s.last < first { // ignored, and not answered late either: part of the streak that still runs
		s.streak++
	}
}

// Merge adds o, the state of what turned out to be the same customer: counters are added, hot hours united, and of the two
// drifts the larger is kept. It does not matter which of two states is merged into the other. What settles in each of them
// on the way raises no drift.
func (s *State) Merge(w *World, o State) {
	if !o.seen {
		return
	}
	if !s.seen {
		*s = o
		s.before = nil
		return
	}
	s.before = nil
	var c Change
	head := s.head
	s.advance(w, o.head, &c)
	o.advance(w, head, &c)
	if s.settled && o.settled {
		s.rebase(max(0, o.landmark-s.landmark) / quarter)
		o.rebase(max(0, s.landmark-o.landmark) / quarter)
	}
	s.landmark, s.settled = max(s.landmark, o.landmark), s.settled || o.settled
	s.first = min(s.first, o.first)
	s.Rhythm.merge(o.Rhythm)
	s.days += o.days
	s.deliveries += o.deliveries
	s.answers += o.answers
	s.seasonal += o.seasonal
	for i := range s.sent {
		s.sent[i] += o.sent[i]
	}
	for i := range s.sentDays {
		s.engagedDays[i] += o.engagedDays[i]
		s.sentDays[i] += o.sentDays[i]
	}
	if s.watched, s.watchedTo = max(s.watched, o.watched), max(s.watchedTo, o.watchedTo); s.deliveries > 0 {
		s.watched, s.watchedTo = 0, 0
	}
	if o.moved > s.moved || o.moved == s.moved && bytes.Compare(o.recent[:], s.recent[:]) > 0 {
		s.moved, s.recent = o.moved, o.recent
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
	if d*Day > head || d*Day+Day-1 <= head-Memory || *r == (hours{}) {
		return 0
	}
	i := Day * mod(d, Memory/Day) // a multiple of 24: a day spans at most two words
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
	for i, left := mod(from+1, Memory), to-from; left > 0; {
		n := min(left, 64-i&63, Memory-i) // to the end of the word
		r[i>>6] &^= (1<<n - 1) << (i & 63)
		left -= n
		if i += n; i == Memory {
			i = 0
		}
	}
}

func dayOfWeek(h Hour) int { return int(mod(dayOf(h), 7)) }
