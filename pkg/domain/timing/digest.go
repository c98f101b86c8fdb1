package timing

import "math"

// Sizes of a digest's histograms.
const (
	ResponseBins = 80 // up to 12 days
	TailBins     = 64 // down to 2^-16
)

// ResponseBin is the bin of a response time: four to the doubling, from one second.
func ResponseBin(seconds int64) int {
	if seconds <= 1 {
		return 0
	}
	return min(int(4*math.Log2(float64(seconds))), ResponseBins-1)
}

// ResponseBounds are the seconds between which bin i lies; the last bin has no upper bound.
func ResponseBounds(i int) (low, high float64) {
	if low = math.Exp2(float64(i) / 4); i == ResponseBins-1 {
		return low, math.Inf(1)
	}
	return low, math.Exp2(float64(i+1) / 4)
}

// TailBin is the bin of a p-value: four to the halving, from 1 down.
func TailBin(p float64) int {
	if p >= 1 {
		return 0
	}
	return min(int(-4*math.Log2(max(p, 1e-300))), TailBins-1)
}

// TailBounds are the p-values between which bin i lies; the last bin reaches down to 0.
func TailBounds(i int) (low, high float64) {
	if high = math.Exp2(-float64(i) / 4); i == TailBins-1 {
		return 0, high
	}
	return math.Exp2(-float64(i+1) / 4), high
}

// Closing calls each with every local day of channel c of p that an event in hour h will settle and on which mail could
// have been answered: the stratum of the customer's evidence, and the randomised p of that day's burst test,
// P(X > x) + u*P(X = x) with u from Hash. Over many days these are uniform where the law is true, which the tests that a
// customer sees, being cautious, are not. It must be called before the event is noted.
func (w *World) Closing(p *Profile, c *Channel, customer string, h Hour, each func(stratum int, p float64)) {
	s, m := &c.State, w.Model
	if !s.seen || h <= s.head || !s.Reported() {
		return
	}
	end := min(floorDiv(h-Lateness, Day), dayOf(s.head)+1+Response/Day)
	for d := s.unsettled(); d < end; d++ {
		exposed := s.engaged.day(d, s.head) != 0
		for back := int64(0); back <= Response/Day && !exposed; back++ {
			exposed = s.received.day(d-back, s.head) != 0
		}
		if !exposed {
			continue
		}
		var v View
		w.Derive(&v, p, c.Name, d*Day+Day-1, d)
		t := m.day(s, &v, d)
		above, at, _ := m.tail(int(t.Observed), t.Expected, v.strength)
		each(Stratum(v.Evidence.EngagedHours), above+Hash(customer, d, Burst)*at)
	}
}
