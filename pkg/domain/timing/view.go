package timing

import (
	"math"
	"math/bits"
)

// View is what a model makes of a profile at one moment: the week of one customer in one channel.
type View struct {
	Phi        [Week]float64 // attention by hour of the week, mean 1
	Scores     [Week]uint8   // how good a send at that hour is, 0..100; filled by Profile.View, not by Derive
	Evidence   Evidence
	Rate       float64  // engaged hours per delivery
	Confidence int      // 0..100
	Level      string   // whose habits contribute most: LevelOwn, LevelPersona, LevelSegment, LevelPopulation or LevelBusinessHours
	Persona    string   // name of the persona that explains the customer best; empty where the model has none
	Likeness   float64  // probability of that persona, 0..1
	Reasons    []Reason // strongest first, at most three; filled by Profile.View

	model    *Model
	usual    *[Day]float64 // attention of everybody with as much history, by hour of the day
	hours    [Day]float64  // Phi is the product of attention by hour of the day
	weekday  [7]float64    // and by day of the week, each mean 1
	exposure [Day]float64  // where answers to the mail received fall, were every hour like every other, sum 1
	days     [7]float64    // the same by day of the week
	mail     float64       // how many deliveries say so, decayed
	strength float64       // A: how many engaged hours stand behind Rate, prior included
	reported bool          // whether deliveries are reported
}

// Reason is an hour of the day at which the customer engages more often than the mail received explains.
type Reason struct {
	Hour  int     `json:"hour"`  // 0..23
	Ratio float64 `json:"ratio"` // engagements over those that sends and everybody's habits explain
}

// Everything is the day that Derive leaves out where it is to leave out none.
const Everything = math.MaxInt64

// View is what m makes of the profile in channel at local hour now, complete.
func (p *Profile) View(m *Model, channel string, now Hour) View {
	var v View
	m.Derive(&v, p, channel, now, Everything)
	for hour := range Day {
		today, tomorrow := v.ahead(hour)
		for d := range v.weekday {
			v.Scores[d*Day+hour] = uint8(m.score(v.meets(d, today, tomorrow)))
		}
	}
	v.reasons()
	return v
}

// take makes s a copy of o with everything taken in that is not settled yet, but for the engagements of day without and of
// later days. A drift is not looked for: it is told when it is settled, and until then the habit is what it was.
func (s *State) take(w *World, o *State, without int64) {
	*s = *o
	if !s.seen {
		return
	}
	today := dayOf(s.head)
	end := min(without, today)
	known := o.hot(w, end)
	b := o.before
	if b != nil && b.of != o {
		b = nil // o is a copy of the State that remembers, and goes its own way
	}
	if b != nil && b.hot == known {
		s.tally, w.flow = b.tally, b.flow
	} else {
		for d := s.unsettled(); d < end; d++ {
			s.takeIn(w, d, true, nil)
		}
		if b == nil && bits.OnesCount32(known.engaged[0])+bits.OnesCount32(known.engaged[1]) >= remembered {
			b = &before{of: o}
			o.before = b
		}
		if b != nil {
			w.flow.follow(w.Model, &s.sent)
			b.hot, b.tally, b.flow = known, s.tally, w.flow
		}
	}
	for d := max(end, s.unsettled()); d <= today; d++ {
		s.takeIn(w, d, d < without, nil)
	}
}

// before is what a State comes to with the days before today taken in. Few events change it, and of those who engage in many
// hours of a day it is expensive to work out. It is a memory of this process only, and changes no result.
type before struct {
	of *State
	hot
	tally
	flow
}

// remembered is from how many engaged hours on it is worth its memory.
const remembered = 3

// hot is all that a before depends on.
type hot struct {
	model             *Model
	gaps              Gaps
	unsettled         int64
	n, deliveries     uint32 // of what is settled, which never changes without one of them
	engaged, received [Lateness / Day]uint32
	minutes           [Lateness / Day][Day]uint8
}

func (s *State) hot(w *World, end int64) hot {
	k := hot{model: w.Model, gaps: w.Gaps, unsettled: s.unsettled(), n: s.n, deliveries: s.deliveries}
	for i := range k.engaged {
		if d := k.unsettled + int64(i); d < end {
			k.engaged[i], k.received[i] = s.engaged.day(d, s.head), s.received.day(d, s.head)
			k.minutes[i] = [Day]uint8(s.minutes[Day*mod(d, hotHours/Day):])
		}
	}
	return k
}

// decay is the weight at which weeks-old counts are read: half after 13 weeks.
func decay(weeks int64) float64 {
	if weeks >= 0 && weeks < int64(len(decays)) {
		return decays[weeks]
	}
	return exp2(-float64(max(weeks, -2*year)) / 13) // no event is so late, whatever a channel says of its time
}

var decays = func() (w [4*year + 1]float64) {
	for i := range w {
		w[i] = exp2(-float64(i) / 13)
	}
	return w
}()

// decaySlow is the same with half after 52 weeks.
func decaySlow(weeks int64) float64 {
	if weeks >= 0 && weeks < int64(len(slowDecays)) {
		return slowDecays[weeks]
	}
	return exp2(-float64(max(weeks, -2*year)) / 52)
}

var slowDecays = func() (w [4*year + 1]float64) {
	for i := range w {
		w[i] = exp2(-float64(i) / 52)
	}
	return w
}()

func exp2(x float64) float64 { return math.Exp2(x) }

// Derive is what w makes of channel of p at local hour now, leaving out the engagements of day without (local day number,
// as in Hour/24) and of later days, so that a day can be tested against a profile that does not hold it. It fills all of v
// but Scores and Reasons.
//
// Attention by hour of the day is that of Model.Predict. What little is known of a customer is held against more than
// everybody's: against the customer's segment and the other channel that is known best, where there are such. Attention by
// day of the week is a ratio (a+O)/(a+E) (Clayton and Kaldor, 1987).
func (w *World) Derive(v *View, p *Profile, channel string, now Hour, without int64) {
	m := w.Model
	own, other := &w.own, (*State)(nil)
	if p.Find(channel) == nil {
		*own = State{}
	}
	for i := range p.Channels {
		switch c := &p.Channels[i]; {
		case c.Name == channel:
			own.take(w, &c.State, without)
		case other == nil || c.n > other.n:
			other = &c.State
		}
	}
	everybody := m.base(Bucket(int(own.n)))
	base := *everybody
	segment, borrowed := m.tilt(&base, p.Segment), 0.
	predicted := &w.outline
	if other != nil && other.n > 0 {
		o := &w.other
		o.take(w, other, without)
		w.exposure(&v.exposure, &o.sent)
		m.outline(predicted, &o.Rhythm, weekOf(now), &v.exposure, &base)
		hours := predicted.tell()
		base, borrowed = predicted.attention(&hours), o.decayed(now)*float64(o.engagement())
	}
	carried := w.exposure(&v.exposure, &own.sent)
	m.outline(predicted, &own.Rhythm, weekOf(now), &v.exposure, &base)
	hours := predicted.tell()
	attention := &v.hours
	*attention = predicted.attention(&hours)

	n := 0.0
	if own.settled {
		n = own.decayed(now) * float64(own.engagement())
	}
	v.days = m.exposureDays(own, carried)
	weekday := m.weekdays(own, n, own.decayed(now), &v.days)
	for d, g := range weekday {
		phi := (*[Day]float64)(v.Phi[d*Day:])
		for h, a := range attention {
			phi[h] = a * g
		}
	}

	v.model, v.usual, v.weekday = m, everybody, weekday
	v.reported = own.deliveries > 0
	v.Evidence = Evidence{EngagedHours: math.Round(100*n) / 100, Deliveries: int(own.deliveries), EngagedDays: int(own.days)}
	if own.seen {
		v.Evidence.Days = int(max(0, dayOf(now)-own.first))
	}

	// Level: engaged hours per delivery, as a Gamma posterior. Deliveries are weighed by the attention that their answers
	// meet (of this very view), so that what is expected of a day adds up to what was seen.
	var met, meets float64
	for h, r := range &v.exposure {
		met += r * attention[h]
	}
	for d, g := range weekday {
		meets += v.days[d] * g
	}
	v.mail = own.decayed(now) * float64(own.mail())
	known := n
	if v.reported {
		known = own.decayed(now) * float64(own.answers)
	}
	v.strength = m.Priors.EngagedHours + known
	v.Rate = v.strength / (m.Priors.Deliveries + m.sends(own, now)*met*meets)

	if !v.reported {
		known = n / 2 // exposure is a guess: what the hours say of attention is worth half
	} else {
		known = n
	}
	v.Confidence = int(math.Round(100 * known / (known + 8)))
	switch {
	case v.Evidence.EngagedHours >= 5:
		v.Level = LevelOwn
	case n+borrowed >= 1 && !(segment && borrowed == 0 && v.tilted(&predicted.base, &hours)):
		v.Level = LevelPersona
	case segment:
		v.Level = LevelSegment
	case m.FittedOn != nil:
		v.Level = LevelPopulation
	default:
		v.Level = LevelBusinessHours
	}
	v.Persona, v.Likeness = "", 0
	if len(m.Personas) > 0 {
		v.Persona, v.Likeness = m.Personas[predicted.persona].Name, predicted.likeness
	}
}

// tilted reports whether hours are bent further from everybody's by what was known before the customer, that is base, than by
// what is known of the customer.
func (v *View) tilted(base, hours *[Day]float64) bool {
	var before, since, common float64
	for h, r := range &v.exposure {
		common += r * v.usual[h]
	}
	for h, r := range &v.exposure {
		before += math.Abs(base[h] - v.usual[h]*r/common)
		since += math.Abs(hours[h] - base[h])
	}
	return before > since
}

// Derive is World.Derive in a world without gaps.
func (m *Model) Derive(v *View, p *Profile, channel string, now Hour, without int64) {
	w := World{Model: m}
	w.Derive(v, p, channel, now, without)
}

// tilt bends base as the segment of that name differs from everybody; false where the model does not know the segment.
func (m *Model) tilt(base *[Day]float64, segment string) bool {
	if segment == "" {
		return false
	}
	for i := range m.Segments {
		if m.Segments[i].Name == segment {
			for h, a := range &m.Segments[i].Attention {
				base[h] *= a / m.Population[h]
			}
			normalise(base[:], Day)
			return true
		}
	}
	return false
}

// flow is where the answers to mail sent so fall by hour of the day, were every hour like every other, and how many of them fall
// on the day of the mail and on the days after it. It is the sum over deliveries, and exact (see exact), so it does not matter
// whether another delivery is added or all are added anew.
type flow struct {
	model   *Model
	sent    [Day]uint32 // as State.sent
	hours   [Day]float64
	carried [4]float64
}

// follow makes f that of sent.
func (f *flow) follow(m *Model, sent *[Day]uint32) {
	if f.sent == *sent && f.model == m {
		return
	}
	f.model, f.sent, f.carried = m, *sent, [4]float64{}
	var hours [Day]struct { // with deliveries
		count float64
		fold  *[Day]float64
	}
	n := 0
	for hour, c := range sent {
		if c != 0 {
			x, part := float64(c), &m.carry[hour]
			hours[n].count, hours[n].fold = x, (*[Day]float64)(m.around[Day-hour:])
			f.carried[0] += x * part[0]
			f.carried[1] += x * part[1]
			f.carried[2] += x * part[2]
			f.carried[3] += x * part[3]
			n++
		}
	}
	for h := 0; h < Day-3; h += 4 { // four hours side by side
		var e0, e1, e2, e3 float64
		for i := range hours[:n] {
			x, k := hours[i].count, hours[i].fold
			e0 += x * k[h]
			e1 += x * k[h+1]
			e2 += x * k[h+2]
			e3 += x * k[h+3]
		}
		f.hours[h], f.hours[h+1], f.hours[h+2], f.hours[h+3] = e0, e1, e2, e3
	}
}

// add adds c to an hour of sent, and to f where that is what f is of.
func (f *flow) add(m *Model, sent *[Day]uint32, hour int, c uint32) {
	if f.sent == *sent && f.model == m {
		f.sent[hour] += c
		x, part := float64(c), &m.carry[hour]
		for h, k := range (*[Day]float64)(m.around[Day-hour:]) {
			f.hours[h] += x * k
		}
		for i, k := range part {
			f.carried[i] += x * k
		}
	}
	sent[hour] += c
}

// exposure is where the answers to the mail that a customer has received fall, were every hour like every other, sum 1, and how
// many of them fall on the day of the mail and on the days after it; of customers without deliveries, everybody's, and none.
func (w *World) exposure(exposure *[Day]float64, sent *[Day]uint32) (carried *[4]float64) {
	f := &w.flow
	f.follow(w.Model, sent)
	total := 0.0
	for _, e := range &f.hours {
		total += e
	}
	if total == 0 {
		*exposure = w.Model.exposed
		return &f.carried
	}
	total = 1 / total
	for h, e := range &f.hours {
		exposure[h] = e * total
	}
	return &f.carried
}

// exact rounds to a multiple of 2^-28, so that sums of products with counters are exact in float64, in whatever order.
func exact(x float64) float64 { return math.Round(x*(1<<28)) / (1 << 28) }

// fold is where the answers to a message sent in hour sent fall by hour of the day, were every hour like every other, sum 1.
func (m *Model) fold(answers *[Day]float64, sent Hour) {
	hour := hourOfDay(sent)
	n := copy(answers[hour:], m.folded[:])
	copy(answers[:], m.folded[n:])
}

// exposureDays is where the answers to the mail received fall in the week, were every day like every other, sum 1, given how
// many of them are carried to the days after their mail.
func (m *Model) exposureDays(s *State, carried *[4]float64) (share [7]float64) {
	var days [7 + 3]float64
	mail := 0.0
	for d, n := range &s.sentDays {
		n := float64(n)
		mail += n
		for k, c := range carried {
			days[d+k] += n * c
		}
	}
	total := mail * (carried[0] + carried[1] + carried[2] + carried[3])
	if total == 0 { // there is none, or halving has forgotten the days before the hours
		return m.weekly
	}
	total = 1 / total
	for d := range days {
		share[d%7] += days[d] * total
	}
	return share
}

// weekdays is the attention by day of the week, mean 1, given n engaged hours as of now, when a counter is worth decayed.
func (m *Model) weekdays(s *State, n, decayed float64, share *[7]float64) (w [7]float64) {
	var total, sum float64
	for d := range w {
		w[d] = share[d] * m.Weekdays[d]
		total += w[d]
	}
	a := m.Priors.Weekdays
	for d := range w {
		w[d] = m.Weekdays[d] * (a + decayed*float64(s.engagedDays[d])) / (a + n*w[d]/total)
		sum += w[d]
	}
	for d := range w {
		w[d] *= 7 / sum
	}
	return w
}

// sends is the decayed number of deliveries, weighed by season: those reported or, where none are, those that everybody got
// in the days over which this customer was seen.
func (m *Model) sends(s *State, now Hour) float64 {
	if !s.settled {
		return 0
	}
	if s.deliveries > 0 {
		return s.decayed(now) * float64(s.seasonal)
	}
	since := min(max(0, dayOf(now)-s.watchedTo), longestHole)
	return m.Deliveries.PerDay * (s.decayed(now)*float64(s.watched) + float64(since))
}

// Score says how good a send in hour h is: the attention that its answers meet within Horizon hours, on a logarithmic
// scale. 50 is the customer's average hour, 100 twice as good or better, 0 half as good or worse.
func (v *View) Score(h Hour) int { return v.model.score(v.met(h)) }

func (m *Model) score(met float64) int {
	x := met / m.horizon
	switch {
	case !(x >= points[1]):
		return 0
	case x >= points[100]:
		return 100
	}
	s := int(scores[(math.Float64bits(x)-math.Float64bits(.5))>>scoreShift])
	if x >= points[s+1] {
		s++
	}
	return s
}

// A score is 50 plus 50 times a logarithm, rounded, but a week has 168 of them. So points are where each begins, and scores are
// those at the beginning of each 256th of the numbers from 1/2 to 1 and from 1 to 2: within it at most one other begins.
var points, scores = func() (points [101]float64, scores [512]uint8) {
	for s := range points {
		points[s] = exp2((float64(s) - 50.5) / 50)
	}
	for i := range scores {
		x := math.Float64frombits(math.Float64bits(.5) + uint64(i)<<scoreShift)
		for s := range points {
			if x >= points[s] {
				scores[i] = uint8(s)
			}
		}
	}
	return points, scores
}()

const scoreShift = 52 - 8

// Best is the hour with the highest score among the Horizon hours from now on; the earliest of equals.
func (v *View) Best(now Hour) (h Hour, score int) {
	var met [Horizon]float64
	most := 0.0
	for i := range met {
		met[i] = v.met(now + int64(i))
		most = max(most, met[i])
	}
	score = v.model.score(most)
	least := .98 * most // a point is a factor of 2^(1/50): no less will do, but at the ends of the scale
	if score == 0 || score == 100 {
		least = 0
	}
	for i, m := range met {
		if m >= least && v.model.score(m) == score {
			return now + int64(i), score
		}
	}
	return now, score
}

// Expect calls each with every hour in which a message delivered in hour h may be answered and the engaged hours expected
// there: flat, were every hour like every other, and by the customer's own attention.
func (v *View) Expect(h Hour, each func(at Hour, flat, own float64)) {
	for a, k := range v.model.Kernel {
		at := h + int64(a)
		each(at, v.Rate*k, v.Rate*k*v.Phi[HourOfWeek(at)])
	}
}

// Spread is for a customer whose source reports no deliveries: it calls each with every hour of the local day of h and the
// share of one engaged hour of that day that is expected there.
func (v *View) Spread(h Hour, each func(at Hour, flat, own float64)) {
	day := dayOf(h) * Day
	var total float64
	for i, r := range v.model.exposed {
		total += r * v.Phi[HourOfWeek(day+int64(i))]
	}
	for i, r := range v.model.exposed {
		at := day + int64(i)
		each(at, r, r*v.Phi[HourOfWeek(at)]/total)
	}
}

// Reported reports whether the customer's source tells of deliveries in the channel.
func (v *View) Reported() bool { return v.reported }

// reasons picks the hours of the day that stand out.
func (v *View) reasons() {
	const much, most = 1.25, 3
	var taken [Day]bool
	var own, common float64 // attention that the mail received meets: the customer's and everybody's
	for h, r := range &v.exposure {
		own += r * v.hours[h]
		common += r * v.usual[h]
	}
	ratio := func(h int) float64 { return v.hours[h] / own * common / v.usual[h] }
	for range most {
		best, highest := -1, 0.
		for h := range Day {
			if r := ratio(h); !taken[h] && r >= much && r > highest {
				best, highest = h, r
			}
		}
		if best < 0 {
			return
		}
		for k := -1; k <= 1; k++ { // neighbours tell the same story
			taken[(best+k+Day)%Day] = true
		}
		if v.Reasons == nil {
			v.Reasons = make([]Reason, 0, most)
		}
		v.Reasons = append(v.Reasons, Reason{best, math.Round(100*highest) / 100})
	}
}

// Usual is where the customer's engagements are to be expected, by hour of the week, sum 1: attention times the exposure that
// future mail will give, which is guessed from the mail received and, as long as that was little, everybody's.
func (v *View) Usual() (share [Week]float64) {
	const everybodys = 2 // deliveries
	m := v.model
	own := v.mail / (v.mail + everybodys)
	for how, phi := range v.Phi {
		h, d := how%Day, how/Day
		share[how] = phi * (own*v.exposure[h] + (1-own)*m.exposed[h]) * (own*v.days[d] + (1-own)*m.weekly[d])
	}
	normalise(share[:], 1)
	return share
}

// Answers is when a message delivered in hour sent is answered, if it is: the share of its answers by hours since.
func (v *View) Answers(sent Hour) (share [Response]float64) {
	how := HourOfWeek(sent)
	for a, k := range v.model.Kernel {
		share[a] = k * v.Phi[(how+a)%Week]
	}
	normalise(share[:], 1)
	return share
}

// met is the attention that the answers to a message sent in hour h meet within Horizon hours.
func (v *View) met(h Hour) float64 {
	how := HourOfWeek(h)
	today, tomorrow := v.ahead(how % Day)
	return v.meets(how/Day, today, tomorrow)
}

// ahead is the attention by hour of the day alone that the answers to a message sent in that hour of the day meet within
// Horizon hours: on the day itself and on the next.
func (v *View) ahead(hour int) (today, tomorrow float64) {
	kernel := v.model.Kernel[:Horizon]
	return dot(kernel[:Day-hour], v.hours[hour:]), dot(kernel[Day-hour:], v.hours[:hour])
}

// meets is met of a message sent on a day of the week, given ahead.
func (v *View) meets(day int, today, tomorrow float64) float64 {
	return v.weekday[day]*today + v.weekday[(day+1)%7]*tomorrow
}

// dot is the scalar product.
func dot(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64 // side by side: a single sum would wait for each addition
	i := 0
	for ; i < len(a)-3; i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}

// Worth is what a send in hour now is worth to a customer who engages right now, as a share of what one in hour best is:
// the attention that its answers meet, raised by how much more everybody engages right after an engagement (Boost).
func (v *View) Worth(now, best Hour) float64 {
	return v.met(now) * v.model.Boost[0] / v.met(best)
}
