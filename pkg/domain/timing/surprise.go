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
	var w [Day]float64
	for a, share := range v.Answers(sent) {
		w[hourOfDay(sent+int64(a))] += share
	}
	y, likeliest, below := hourOfDay(h), 0, 0.
	for hour, x := range w {
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
	return Test{Kind: Timing, P: probability(below + at/2), Observed: float64(y), Expected: float64(likeliest)}, at, true
}

// latest is the latest delivery in the Response hours before h, h itself included.
func (s *State) latest(h Hour) (sent Hour, ok bool) {
	for sent = h; sent > h-Response && sent > s.head-Memory; sent-- {
		if s.received.has(sent) {
			return sent, true
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
	if !v.reported {
		sum := 0.0
		for h, r := range m.exposed {
			sum += r * v.Phi[int(mod(day, 7))*Day+h]
		}
		return v.Rate * (m.Priors.Organic + m.Deliveries.PerDay*7*m.weekly[mod(day, 7)]*sum)
	}
	sum, start := m.Priors.Organic, day*Day
	for d := day - Response/Day; d <= day; d++ {
		for b := s.received.day(d, s.head); b != 0; b &= b - 1 {
			sent := d*Day + int64(bits.TrailingZeros32(b))
			for at := max(sent, start); at < start+Day && at < sent+Response; at++ {
				sum += m.Kernel[at-sent] * v.Phi[int(mod(day, 7))*Day+int(at-start)]
			}
		}
	}
	return v.Rate * sum
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
	p := math.Exp(lgamma(b+k) - lgamma(b) + lgamma(a+b) - lgamma(a+b+k))
	t = Test{Kind: Silence, P: probability(p), Observed: k, Expected: k * a / (a + b)}
	if s.answered {
		t.Days = int(dayOf(s.head) - dayOf(s.last))
	}
	return t, t.P < TwoSigma
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

func lgamma(x float64) float64 { v, _ := math.Lgamma(x); return v }

// Hash is a hash of customer, local day and kind, uniform over 0..1: the random part of a randomised p-value, the same in
// every replay (FNV-1a, mixed by MurmurHash3's finaliser).
func Hash(customer string, day int64, kind string) float64 {
	h := uint64(14695981039346656037)
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for i := range len(customer) {
		mix(customer[i])
	}
	for i := range 8 {
		mix(byte(day >> (8 * i)))
	}
	for i := range len(kind) {
		mix(kind[i])
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return float64(h>>11) / (1 << 53)
}
