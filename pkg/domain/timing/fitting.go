package timing

import "math"

// What follows serves those who make models (package fit), not those who read them.

// Slow is where the engaged hours of r lie, with the half-life of 52 weeks: their share by hour of the day, sum 1; false
// where there are none.
func (r *Rhythm) Slow() (share [Day]float64, ok bool) {
	total := 0.0
	for _, c := range &r.slow {
		total += float64(c)
	}
	if total == 0 {
		return share, false
	}
	for h, c := range &r.slow {
		share[h] = float64(c) / total
	}
	return share, true
}

// ActBins is how many bins the histogram of p_act has from which the action gate is computed: 16 to the halving, down to
// 2^-25. The gate needs a finer and deeper histogram than the calibration monitor, because it looks for the few.
const ActBins = 400

// ActBin is the bin of a p_act, from 1 down.
func ActBin(p float64) int {
	if p >= 1 {
		return 0
	}
	return min(int(-16*math.Log2(max(p, 1e-300))), ActBins-1)
}

// ActBounds are the p between which bin i lies; the last bin reaches down to 0.
func ActBounds(i int) (low, high float64) {
	if high = math.Exp2(-float64(i) / 16); i == ActBins-1 {
		return 0, high
	}
	return math.Exp2(-float64(i+1) / 16), high
}
