package evaluation

import (
	"math"
	"math/rand/v2"
	"slices"
)

// replicates is how often a population is drawn anew. The ends of a 99 % interval stand on the outermost two to either side.
const replicates = 400

// resample draws customers with replacement: draw calls each with how often every customer was drawn, replicates times.
// The draws depend on the seed and n alone.
func resample(seed uint64, n int, each func(replicate int, times []uint8)) {
	r := rand.New(rand.NewPCG(seed, 0x7465_6d70))
	times := make([]uint8, n)
	for k := range replicates {
		clear(times)
		for range n {
			if i := r.IntN(n); times[i] < math.MaxUint8 {
				times[i]++
			}
		}
		each(k, times)
	}
}

// interval is the range of the middle share of values; it sorts them. Values that could not be computed are left out.
func interval(values []float64, share float64) (lo, hi float64) {
	values = slices.DeleteFunc(values, math.IsNaN)
	if len(values) == 0 {
		return math.NaN(), math.NaN()
	}
	slices.Sort(values)
	at := func(q float64) float64 {
		i := q * float64(len(values)-1)
		below := int(i)
		if below == len(values)-1 {
			return values[below]
		}
		return values[below] + (i-float64(below))*(values[below+1]-values[below])
	}
	return at((1 - share) / 2), at((1 + share) / 2)
}
