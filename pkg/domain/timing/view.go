package timing

import (
	"math"
	"math/bits"
)

// View is what a model makes of a profile at one moment: the week of one customer in one channel.
type View struct {
	Phi        [Week]float64 // attention by hour of the week, mean 1
	Scores     [Week]uint8   // how good a send at that hour is, 0..100; filled by Profile.View, not by Model.Derive
	Evidence   Evidence
	Rate       float64  // engaged hours per delivery
	Confidence int      // 0..100
	Level      string   // whose habits contribute most: LevelOwn, LevelPersona, LevelSegment, LevelPopulation or LevelBusinessHours
	Persona    string   // name of the persona that explains the customer best; empty where the model has none
	Likeness   float64  // probability of that persona, 0..1
	Reasons    []Reason // strongest first, at most three; filled by Profile.View

	model    *Model
	ratio    [Day]float64 // engagements at that hour of the day over those that sends and everybody's habits explain
	strength float64      // A: how many engaged hours stand behind Rate, prior included
	reported bool         // whether deliveries are reported
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
	var around [Week + Horizon]float64
	copy(around[copy(around[:], v.Phi[:]):], v.Phi[:Horizon])
	for how := range v.Scores {
		met := 0.0
		for a, k := range m.Kernel[:Horizon] {
			met += k * around[how+a]
		}
		v.Scores[how] = uint8(m.score(met))
	}
	v.reasons()
	return v
}

// counts are the counters of a State at one moment, decayed to it, with the hot hours.
type counts struct {
	engaged     [Day]float64
	n           float64
	engagedDays [7]float64
	sent        [Day]float64
	sends       float64
	sentDays    [7]float64
	days        int // engaged days, without decay
	deliveries  int
	first       int64
	seen        bool
}

// gather adds s to c as it stands at now, without the engagements of day without and of later days.
func (c *counts) gather(s *State, now Hour, without int64) {
	if !s.seen {
		return
	}
	if !c.seen || s.first < c.first {
		c.seen, c.first = true, s.first
	}
	c.days += int(s.days)
	c.deliveries += int(s.deliveries)
	week := weekOf(now)
	if s.settled {
		w := decay(week-s.landmark) / unit
		for h := range c.engaged {
			c.engaged[h] += w * float64(s.fast[h])
			c.sent[h] += w * float64(s.sent[h])
		}
		for d := range c.engagedDays {
			e, r := w*float64(s.engagedDays[d]), w*float64(s.sentDays[d])
			c.engagedDays[d] += e
			c.n += e
			c.sentDays[d] += r
			c.sends += r
		}
	}
	for d := s.unsettled(); d <= dayOf(s.head); d++ {
		w := decay(week - floorDiv(d, 7))
		b := s.received.day(d, s.head)
		if b != 0 {
			n := w * float64(bits.OnesCount32(b))
			c.sends += n
			c.sentDays[mod(d, 7)] += n
			c.deliveries += bits.OnesCount32(b)
			for ; b != 0; b &= b - 1 {
				c.sent[bits.TrailingZeros32(b)] += w
			}
		}
		if d >= without {
			continue
		}
		if b = s.engaged.day(d, s.head); b != 0 {
			n := w * float64(bits.OnesCount32(b))
			c.n += n
			c.engagedDays[mod(d, 7)] += n
			c.days++
			for ; b != 0; b &= b - 1 {
				h := d*Day + int64(bits.TrailingZeros32(b))
				own, near := split(h, int(s.minutes[mod(h, hotHours)]))
				c.engaged[hourOfDay(h)] += w * float64(own) / unit
				c.engaged[hourOfDay(near)] += w * float64(unit-own) / unit
			}
		}
	}
}

// decay is the weight at which weeks-old counts are read: half after 13 weeks.
func decay(weeks int64) float64 {
	if weeks >= 0 && weeks < int64(len(decays)) {
		return decays[weeks]
	}
	return exp2(-float64(weeks) / 13)
}

var decays = func() (w [2*landmarkMax + 1]float64) {
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
	return exp2(-float64(weeks) / 52)
}

var slowDecays = func() (w [2*landmarkMax + 1]float64) {
	for i := range w {
		w[i] = exp2(-float64(i) / 52)
	}
	return w
}()

func exp2(x float64) float64 { return math.Exp2(x) }

// Derive is what m makes of channel of p at local hour now, leaving out the engagements of day without (local day number,
// as in Hour/24) and of later days, so that a day can be tested against a profile that does not hold it. It fills all of v
// but Scores and Reasons.
//
// Attention is what the customer's hours have beyond what the mail received and everybody's habits explain: with q, the
// engagements expected from exposure and population, and p, the customer's own estimate (a Dirichlet posterior around the
// habits), it is population*p/q. The same for the days of the week, as a ratio (a+O)/(a+E) (Clayton and Kaldor, 1987).
func (w *World) Derive(v *View, p *Profile, channel string, now Hour, without int64) {
	w.Model.Derive(v, p, channel, now, without)
}

// Derive is World.Derive in a world without gaps.
func (m *Model) Derive(v *View, p *Profile, channel string, now Hour, without int64) {
	var own, others counts
	for i := range p.Channels {
		if c := &p.Channels[i]; c.Name == channel {
			own.gather(&c.State, now, without)
		} else {
			others.gather(&c.State, now, without)
		}
	}
	attention := m.Population
	if others.n > 0 { // borrow from the customer's other channels before everybody
		m.attention(&attention, &others, &attention, &v.ratio)
	}
	exposure := m.attention(&attention, &own, &attention, &v.ratio)

	days := m.exposureDays(&own)
	weekday := m.weekdays(&own, &days)
	var scale float64
	for _, w := range weekday {
		scale += w / 7
	}
	for d, w := range weekday {
		for h, a := range attention {
			v.Phi[d*Day+h] = a * w / scale
		}
	}

	v.model = m
	v.reported = own.deliveries > 0
	v.Evidence = Evidence{EngagedHours: math.Round(100*own.n) / 100, Deliveries: own.deliveries, EngagedDays: own.days}
	if own.seen {
		v.Evidence.Days = int(max(0, dayOf(now)-own.first))
	}

	// Level: engaged hours per delivery, as a Gamma posterior. Deliveries are weighed by the attention that their answers
	// meet (of this very view), so that what is expected of a day adds up to what was seen.
	var met, meets float64
	for h, r := range exposure {
		met += r * attention[h]
	}
	for d, w := range weekday {
		meets += days[d] * w / scale
	}
	v.strength = m.Priors.EngagedHours + own.n
	v.Rate = v.strength / (m.Priors.Deliveries + m.sends(&own, now)*met*meets)

	borrowed := own.n
	if !v.reported {
		borrowed = own.n / 2 // exposure is a guess: what the hours say of attention is worth half
	}
	v.Confidence = int(math.Round(100 * borrowed / (borrowed + 8)))
	switch {
	case v.Evidence.EngagedHours >= 5:
		v.Level = LevelOwn
	case own.n+others.n >= 1:
		v.Level = LevelPersona
	default:
		v.Level = LevelPopulation
	}
}

// attention estimates the attention by hour of the day, mean 1, from c, around base, and returns the exposure that it was
// corrected for: where answers to the mail received would fall, were every hour like every other, sum 1. base and out may be
// the same.
func (m *Model) attention(base *[Day]float64, c *counts, out, ratio *[Day]float64) (exposure [Day]float64) {
	exposure = m.exposed
	if c.sends > 0 {
		exposure = [Day]float64{}
		for sent, n := range c.sent {
			if n == 0 {
				continue
			}
			n /= c.sends
			for h, k := range m.folded[:Day-sent] {
				exposure[sent+h] += n * k
			}
			for h, k := range m.folded[Day-sent:] {
				exposure[h] += n * k
			}
		}
	}
	var q, p [Day]float64
	for h := range q {
		q[h] = base[h] * exposure[h]
	}
	normalise(q[:], 1)
	m.estimate(&p, c, &q)
	for h := range p {
		ratio[h] = p[h] / q[h]
		out[h] = base[h] * ratio[h]
	}
	normalise(out[:], Day)
	return exposure
}

// estimate is the customer's own distribution of engagements over the hours of the day, given that q is expected: the
// smoothed histogram, shrunk to habits (Dirichlet), which are q bent along the directions in which customers are known to
// differ, as far as so many engagements can be believed.
func (m *Model) estimate(p *[Day]float64, c *counts, q *[Day]float64) {
	bend := [Day]float64{}
	if c.n > 0 {
		for i := range m.Habits {
			u := &m.Habits[i]
			z := 0.0
			for h := range u.Hours {
				z += (c.engaged[h]/c.n - q[h]) * u.Hours[h]
			}
			r := c.n * u.Correlation
			if c.n > 1 {
				r /= 1 + (c.n-1)*u.Correlation
			}
			for h := range bend {
				bend[h] += r * z * u.Hours[h]
			}
		}
	}
	for h := range p {
		p[h] = q[h] * max(.15, 1+bend[h])
	}
	normalise(p[:], 1)
	smoothed := c.engaged
	smooth(&smoothed)
	for h := range p {
		p[h] = (smoothed[h] + m.Priors.Hours*p[h]) / (c.n + m.Priors.Hours)
	}
}

// exposureDays is where the answers to the mail received fall in the week, were every day like every other, sum 1.
func (m *Model) exposureDays(c *counts) (share [7]float64) {
	if c.sends == 0 {
		return m.weekly
	}
	var carry [4]float64 // of this customer's mix of hours
	for h, n := range c.sent {
		if n > 0 {
			for k := range carry {
				carry[k] += n * m.carry[h][k] / c.sends
			}
		}
	}
	for d, n := range c.sentDays {
		for k, part := range carry {
			share[(d+k)%7] += n * part / c.sends
		}
	}
	return share
}

// weekdays is the attention by day of the week.
func (m *Model) weekdays(c *counts, share *[7]float64) (w [7]float64) {
	var total float64
	for d := range w {
		w[d] = share[d] * m.Weekdays[d]
		total += w[d]
	}
	a := m.Priors.Weekdays
	for d := range w {
		w[d] = m.Weekdays[d] * (a + c.engagedDays[d]) / (a + c.n*w[d]/total)
	}
	return w
}

// sends is the decayed number of deliveries: those reported or, where none are, those that everybody got since this customer
// was first seen.
func (m *Model) sends(c *counts, now Hour) float64 {
	if c.deliveries > 0 || !c.seen {
		return c.sends
	}
	const mean = 13 * 7 / math.Ln2 // days
	span := float64(max(0, dayOf(now)-c.first+1))
	return m.Deliveries.PerDay * mean * (1 - math.Exp(-span/mean))
}

// Score says how good a send in hour h is: the attention that its answers meet within Horizon hours, on a logarithmic
// scale. 50 is the customer's average hour, 100 twice as good or better, 0 half as good or worse.
func (v *View) Score(h Hour) int {
	var met float64
	how := HourOfWeek(h)
	for a, k := range v.model.Kernel[:Horizon] {
		i := how + a
		if i >= Week {
			i -= Week
		}
		met += k * v.Phi[i]
	}
	return v.model.score(met)
}

func (m *Model) score(met float64) int {
	return int(math.Round(min(max(50+50*math.Log2(met/m.horizon), 0), 100)))
}

// Best is the hour with the highest score among the Horizon hours from now on; the earliest of equals.
func (v *View) Best(now Hour) (h Hour, score int) {
	h, score = now, v.Score(now)
	for next := now + 1; next < now+Horizon; next++ {
		if s := v.Score(next); s > score {
			h, score = next, s
		}
	}
	return h, score
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
	for range most {
		best := -1
		for h, r := range v.ratio {
			if !taken[h] && r >= much && (best < 0 || r > v.ratio[best]) {
				best = h
			}
		}
		if best < 0 {
			return
		}
		for k := -1; k <= 1; k++ { // neighbours tell the same story
			taken[(best+k+Day)%Day] = true
		}
		v.Reasons = append(v.Reasons, Reason{best, math.Round(100*v.ratio[best]) / 100})
	}
}

// Usual is where the customer's engagements usually fall, by hour of the week, sum 1: attention times the exposure that the
// mail received gives.
func (v *View) Usual() (share [Week]float64) {
	for how, phi := range v.Phi {
		share[how] = phi * v.model.exposed[how%Day]
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
func (v *View) met(h Hour) (met float64) {
	how := HourOfWeek(h)
	for a, k := range v.model.Kernel[:Horizon] {
		met += k * v.Phi[(how+a)%Week]
	}
	return met
}

// Worth is what a send in hour now is worth to a customer who engages right now, as a share of what one in hour best is:
// the attention that its answers meet, raised by how much more everybody engages right after an engagement (Boost).
func (v *View) Worth(now, best Hour) float64 {
	return v.met(now) * v.model.Boost[0] / v.met(best)
}
