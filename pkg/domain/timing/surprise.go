package timing

import (
	"math"
	"math/bits"
)

// TwoSigma is the one-sided tail beyond which a surprise is worth a word: 1 - Phi(2).
const TwoSigma = 0.02275

// Burst tests local day day of s: whether it has more engaged hours than the mail received explains. v must be derived
// without that day. All deliveries known now count, also those later in the day.
//
// The count of a day is negative binomial: Poisson, made wider by what is not known of the customer's rate (1/A) and by
// days being different (Dispersion). The count so far against the whole day's expectation can only grow less surprising
// than it will be, so that looking after every event is no error.
func (m *Model) Burst(s *State, v *View, day int64) Test {
	t := m.day(s, v, day)
	above, at, any := m.tail(int(t.Observed), t.Expected, v.strength)
	t.P, t.PAct = probability(above+at/2), probability((above+at)/any)
	return t
}

// Timing tests an engagement in hour h against when this customer would answer the latest message: the probability that an
// answer comes at an hour of the day at least as unlikely, ties counted half. v must be derived without the day of h. at is
// the mass of the ties: P - at/2 + u*at with u from Hash is uniform where the law is true. The answer is false where no
// message came in the Response hours before.
func (m *Model) Timing(s *State, v *View, h Hour) (t Test, at float64, ok bool) {
	sent, ok := s.latest(h)
	if !ok {
		return t, 0, false
	}
	w := m.answers(sent, &v.weekday)
	for hour := range w {
		w[hour] *= v.hours[hour]
	}
	y, likeliest, below, total := hourOfDay(h), 0, 0., 0.
	for hour, x := range &w {
		total += x
		switch {
		case x < w[y]:
			below += x
		case x == w[y]:
			at += x
		}
		if x > w[likeliest] {
			likeliest = hour
		}
	}
	at /= total
	return Test{Kind: Timing, P: probability(below/total + at/2), Observed: float64(y), Expected: float64(likeliest)}, at, true
}

// drift updates the test for a habit that has moved with the answers of a day: an e-detector of the CUSUM kind (Shin, Ramdas,
// Rinaldo: E-detectors, NEJSDS 2023). With L the product, over the answers of the day, of f1(h)/f0(h),
//
//	M <- max(1, M) min(L, 6),    moved when M >= 44
//
// f0 is when this customer would answer the message, as it was known before the answer: kernel times attention, by hour and day
// of the week; attention is by the slow histogram, which a move does not reach soon, with everybody's behind it like the guard.
// f1 is the same with other hours of the day: the customer's own, moved by any time of three hours or more and, as answers come
// that do not fit the habit, more and more the hours of these. As long as the habit is what it was, f1/f0 has mean
// 1 whatever f1, so that the expected number of days with answers between false alarms is at least 44. P of the Test is 1/M,
// which bounds that number in the same way. What a day can say is limited, so that no habit moves in less than three days with
// answers: a burst of two days at odd hours is a burst.
//
// (The Shiryaev-Roberts form, (1+M) L, has the same bound but comes close to it: it adds one with every answer, so that of
// somebody without any habit it would say again and again that the habit has moved.)
func (s *State) drift(e *day) (t Test, raised bool) {
	if e.n == 0 {
		return t, false
	}
	evidence := math.Exp(float64(s.moved)/driftNat) * min(e.odds, driftMost)
	s.moved = uint16(min(max(0, math.Round(driftNat*math.Log(evidence))), math.MaxUint16))
	if s.moved == 0 {
		s.recent = [recentAnswers]uint8{}
		return t, false
	}
	for _, h := range e.hours[:e.n] {
		copy(s.recent[1:], s.recent[:])
		s.recent[0] = h
	}
	if s.moved < driftAlarm {
		return t, false
	}
	before, now := s.places()
	t = Test{Kind: Drift, P: probability(1 / max(evidence, 1/TwoSigma)), Observed: float64(now), Expected: float64(before)}
	s.moved, s.recent = 0, [recentAnswers]uint8{}
	s.forget(e.week)
	return t, true
}

// hypotheses are f0 and f1 by hour of the day: two attentions, the customer's and the one that they may have moved to, both
// scaled so that the answers to the message sent in hour sent, by kernel and day of the week, meet 1.
func (s *State) hypotheses(m *Model, p *Outline, carried *[4]float64, sent Hour) (usual, other [Day]float64) {
	sum := 0.0
	const everybody = 1. / (1 + guardOdds)
	for h := range usual {
		own := (p.slow[h] + 2*p.hours*p.habits[h]) * p.step[1] // Experts[4]
		usual[h] = (own + everybody*(p.Population[h]-own)) * p.unexposed[h]
		sum += usual[h]
	}
	const spared = 2*nearest - 1 // hours around an hour that a move does not come from
	near := 0.0
	for d := 1 - nearest; d < nearest; d++ {
		near += usual[(d+Day)%Day]
	}
	away := elsewhere * Day / (sum * (Day - spared)) // mean elsewhere
	next, last := nearest, Day+1-nearest
	for h := range usual {
		other[h] = away * (sum - near)
		near += usual[next] - usual[last]
		if next++; next == Day {
			next = 0
		}
		if last++; last == Day {
			last = 0
		}
	}
	for _, at := range s.recent {
		if at == 0 {
			break
		}
		h := (int(at) + Day - 4) % Day                                   // three hours before
		for _, near := range [...]float64{1.5, 3, 4.5, 6, 4.5, 3, 1.5} { // mean 1
			other[h] += near
			if h++; h == Day {
				h = 0
			}
		}
	}

	decayed := s.decayed(sent)
	days := m.exposureDays(s, carried)
	weekday := m.weekdays(s, decayed*float64(s.engagement()), decayed, &days)
	answers := m.answers(sent, &weekday)
	met, metOther := 1/dot(answers[:], usual[:]), 1/dot(answers[:], other[:])
	for h := range usual {
		usual[h] *= met
		other[h] *= metOther
	}
	return usual, other
}

// answers is where answers to a message sent in hour sent fall by hour of the day, by kernel and attention by day of the week.
func (m *Model) answers(sent Hour, weekday *[7]float64) (answers [Day]float64) {
	hour, day := hourOfDay(sent), dayOfWeek(sent)
	for kernel := m.Kernel[:]; len(kernel) > 0; hour = 0 { // day by day
		n := min(Day-hour, len(kernel))
		g := weekday[day]
		to := answers[hour : hour+n]
		for i, k := range kernel[:n] {
			to[i] += g * k
		}
		kernel = kernel[n:]
		if day++; day == 7 {
			day = 0
		}
	}
	return answers
}

const (
	driftNat  = 256 // to the nat
	driftMost = 6.6 // of one day: less than the root of 44
	nearest   = 3   // hours that a habit moves at least
	elsewhere = 8   // answers that the hours which the habit may have moved to weigh, against those of recent answers
)

// driftAlarm is M >= 44 on the scale of State.moved.
var driftAlarm = uint16(math.Ceil(driftNat * math.Log(44)))

// places are the hours of the day around which engagements fell until M began to rise, and since.
func (s *State) places() (before, now int) {
	var recent, slow [Day]float64
	for h, n := range &s.slow {
		slow[h] = float64(n)
	}
	for _, h := range s.recent {
		if h > 0 {
			recent[h-1]++
			slow[h-1] = max(0, slow[h-1]-unit) // it weighs more by now, but what is left of it will not win
		}
	}
	return centre(&slow), centre(&recent)
}

// centre is the hour of the day with most within three hours of it, the nearer the more.
func centre(c *[Day]float64) (best int) {
	most := -1.
	for h := range c {
		sum := 4 * c[h]
		for k := 1; k <= 3; k++ {
			sum += float64(4-k) * (c[(h+k)%Day] + c[(h-k+Day)%Day])
		}
		if sum > most {
			most, best = sum, h
		}
	}
	return best
}

// latest is the latest delivery in the Response hours before h, h itself included.
func (s *State) latest(h Hour) (sent Hour, ok bool) {
	for d := dayOf(h); d*Day+Day > h-Response+1; d-- {
		b := s.received.day(d, s.head)
		if ahead := h - d*Day; ahead < Day-1 {
			b &= 1<<(ahead+1) - 1
		}
		if b != 0 {
			sent = d*Day + int64(bits.Len32(b)) - 1
			return sent, sent > h-Response
		}
	}
	return 0, false
}

// day is what was observed and expected on a day.
func (m *Model) day(s *State, v *View, day int64) Test {
	return Test{Kind: Burst, Observed: float64(bits.OnesCount32(s.engaged.day(day, s.head))), Expected: v.expected(s, day)}
}

// expected is the mean number of engaged hours on a day.
func (v *View) expected(s *State, day int64) float64 {
	m := v.model
	rate := v.Rate * m.season(day)
	weekday := int(mod(day, 7))
	phi := (*[Day]float64)(v.Phi[weekday*Day:])
	if !v.reported {
		return rate * (m.Priors.Organic + m.Deliveries.PerDay*7*m.weekly[weekday]*dot(m.exposed[:], phi[:]))
	}
	sum, start := m.Priors.Organic, day*Day
	for d := day - Response/Day; d <= day; d++ {
		for b := s.received.day(d, s.head); b != 0; b &= b - 1 {
			sent := d*Day + int64(bits.TrailingZeros32(b))
			if from, to := max(sent, start), min(start+Day, sent+Response); from < to {
				sum += dot(m.Kernel[from-sent:to-sent], phi[from-start:to-start])
			}
		}
	}
	return rate * sum
}

// tail is the negative binomial law of a day's count: P(X > x), P(X = x) and P(X >= 1).
func (m *Model) tail(x int, mean, strength float64) (above, at, any float64) {
	r := 1 / (1/strength + m.Priors.Dispersion)
	odds := mean / (r + mean)
	zero := math.Exp(-r * math.Log1p(mean/r))
	p := zero
	for k := range x {
		p *= (float64(k) + r) / float64(k+1) * odds
	}
	at = p
	for k := x; k < x+10000; k++ { // all terms are positive: no cancellation, however small the tail
		p *= (float64(k) + r) / float64(k+1) * odds
		if above += p; p <= above*1e-17 {
			break
		}
	}
	return above, at, -math.Expm1(-r * math.Log1p(mean/r))
}

// silence tests the ignored mail days in a row, against the share of mail days that this customer used to read (beta-
// binomial). The streak itself is taken out of that share, but for the part that ordinary streaks have. Somebody who never
// read anything has not gone silent.
func (s *State) silence(m *Model) (t Test, raised bool) {
	if s.mailDays < 2 || s.readDays < 1 {
		return t, false
	}
	k := float64(s.streak)
	a := m.Priors.Read + float64(s.readDays)
	b := m.Priors.Ignored + float64(s.mailDays-s.readDays) - 0.97*k
	p := 1.
	for j := 0.; j < k && p > 1e-10; j++ { // what is rarer is told as 1e-9
		p *= (b + j) / (a + b + j)
	}
	t = Test{Kind: Silence, P: probability(p), Observed: k, Expected: k * a / (a + b)}
	if s.answered {
		t.Days = int(dayOf(s.head) - dayOf(s.last))
	}
	// What the detector does not tell is not raised: it would be raised once, too early, and then be over.
	evidence := s.decayed(s.head) * float64(s.engagement())
	return t, m.Calibrated(Silence, Stratum(evidence), t.P) < TwoSigma
}

// reactivation is the end of a silence by an engagement in hour h. Its p is that of the silence: it is as rare.
func (s *State) reactivation(m *Model, h Hour) Test {
	t, _ := s.silence(m)
	t.Kind, t.PAct = Reactivation, 1
	if s.answered {
		t.Days = int(max(0, dayOf(h)-dayOf(s.last)))
	}
	return t
}

// probability rounds to 1e-9, so that no threshold depends on the last bit, and never says impossible.
func probability(p float64) float64 { return min(max(math.Round(p*1e9)/1e9, 1e-9), 1) }

// Hash is a hash of customer, local day and kind, uniform over 0..1: the random part of a randomised p-value, the same in
// every replay (FNV-1a, mixed by MurmurHash3's finaliser).
func Hash(customer string, day int64, kind string) float64 {
	h := hash(customer)
	for i := range 8 {
		h = (h ^ uint64(byte(day>>(8*i)))) * fnvPrime
	}
	for i := range len(kind) {
		h = (h ^ uint64(kind[i])) * fnvPrime
	}
	return float64(mixed(h)>>11) / (1 << 53)
}

const fnvPrime = 1099511628211

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

// mixed is MurmurHash3's finaliser: each bit of h decides over all bits of it.
func mixed(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
