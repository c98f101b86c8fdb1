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

// Closed is one local day of one customer that is being settled.
type Closed struct {
	Active  bool    // whether it has an engaged hour
	Weight  uint32  // how many such days it stands for; 0: it was not looked at, and what follows is empty
	Exposed bool    // whether mail could have been answered on it; where no deliveries are reported, nobody can tell
	Stratum int     // of the customer's evidence, without the day
	P       float64 // randomised p of the day's burst test
	PAct    float64 // the p that the action gate looks at; 0: inactive, or too little evidence for the gate to look at it
}

// One in so many days is looked at: of those without an engaged hour, of which there are many and of which one is like the
// other, and of those with one.
const (
	inactiveDays = 64
	activeDays   = 8
)

// Closing calls each with every local day of channel c of p that an event in hour h will settle, if it is active or exposed.
// A sample of these days, chosen by hash, is looked at, because a view costs as much as all the rest: it counts for as many
// days as it stands for. P is P(X > x) + u*P(X = x) with u from Hash: over many days it is uniform where the law is true, which
// the tests that a customer sees, being cautious, are not. Closing must be called before the event is noted. Days on which the
// feed was down are left out.
func (w *World) Closing(p *Profile, c *Channel, customer string, h Hour, each func(Closed)) {
	s := &c.State
	if !s.seen || h <= s.head {
		return
	}
	d, end := s.unsettled(), min(floorDiv(h-Lateness, Day), dayOf(s.head)+1+Response/Day)
	if d >= end {
		return
	}
	reported, lot := s.Reported(), hash(customer)
	mailed := d - 1 // the latest day with mail that may still be answered
	for mailed >= d-Response/Day && s.received.day(mailed, s.head) == 0 {
		mailed--
	}
	for ; d < end; d++ {
		if s.received.day(d, s.head) != 0 {
			mailed = d
		}
		day := Closed{Active: s.engaged.day(d, s.head) != 0}
		day.Exposed = reported && (day.Active || mailed >= d-Response/Day)
		if !day.Active && !day.Exposed || w.Gaps.Has(d) {
			continue
		}
		weight := uint32(inactiveDays)
		if day.Active {
			weight = activeDays
		}
		if mixed(lot^uint64(d))%uint64(weight) == 0 {
			day.Weight = weight
			w.close(&day, p, c, customer, d)
		}
		each(day)
	}
}

// close looks at a day.
func (w *World) close(day *Closed, p *Profile, c *Channel, customer string, d int64) {
	var v View
	w.Derive(&v, p, c.Name, d*Day+Day-1, d)
	t := w.Model.day(&c.State, &v, d)
	above, at, any := w.Model.tail(int(t.Observed), t.Expected, v.strength)
	day.Stratum = Stratum(v.Evidence.EngagedHours)
	day.P = above + Hash(customer, d, Burst)*at
	if day.Active && v.Evidence.Enough() {
		day.PAct = probability((above + at) / any)
	}
}

// Answerable reports whether an engagement in hour h may be worth a Timing test: whether it answers a message, and there may be
// evidence enough. It costs next to nothing, a view does not.
func (s *State) Answerable(h Hour) bool {
	_, ok := s.latest(h)
	return ok && s.N()+s.engaged.len() >= 5 && int(s.deliveries)+s.received.len() >= 8 && dayOf(h)-s.first >= 21
}

// Ending is the streak of ignored mail days that an engagement in hour h is about to end: the probability of a longer one, given
// that there is one at all, and of one as long. Their sum, the second times u from Hash, is uniform where the law of the silence
// test is true. The answer is false where no streak ends, or none would have been tested.
func (w *World) Ending(s *State, h Hour) (above, at float64, ok bool) {
	if !s.seen || h <= s.head-Memory || s.mailDays < 2 || s.readDays < 1 {
		return 0, 0, false
	}
	r := *s // as the event will find it: with the mail days counted whose answer is known by then
	r.resolveUntil(w, h)
	if r.streak == 0 {
		return 0, 0, false
	}
	k := float64(r.streak)
	a := w.Model.Priors.Read + float64(r.readDays)
	b := w.Model.Priors.Ignored + float64(r.mailDays-r.readDays) - 0.97*k
	before := 1.
	for j := 1.; j < k; j++ {
		before *= (b + j) / (a + b + j)
	}
	above = before * (b + k) / (a + b + k)
	return above, before - above, true
}
