package evaluation

import "math"

const (
	hours = 24
	week  = 168
)

// bits is the surprise of something that was given probability p.
func bits(p float64) float64 { return -math.Log2(max(p, 1e-300)) }

func nats(p float64) float64 { return math.Log(max(p, 1e-300)) }

// hit is the chance that hour y is among the k best hours of p, ties being broken by lot.
func hit(p *[hours]float64, y, k int) float64 {
	above, ties := 0, 0
	for _, x := range p {
		switch {
		case x > p[y]:
			above++
		case x == p[y]:
			ties++
		}
	}
	return min(max(float64(k-above)/float64(ties), 0), 1)
}

// crps is the circular continuous ranked probability score of p where y came, in hours: 0 for a certain and true
// prediction. It is the expected distance to y around the clock, less half of that between two draws of p (Grimit, Gneiting,
// Berrocal, Johnson: The continuous ranked probability score for circular variables, 2006).
func crps(p *[hours]float64, y int) float64 {
	var distance, spread float64
	for h, x := range p {
		distance += x * apart[(h-y+hours)%hours]
	}
	for lag := 1; lag < hours; lag++ {
		same := 0.0
		for h, x := range p[:hours-lag] {
			same += x * p[h+lag]
		}
		spread += 2 * same * apart[lag]
	}
	return distance - spread/2
}

// apart is the distance around the clock of hours that differ by so many.
var apart = func() (d [hours]float64) {
	for h := range d {
		d[h] = float64(min(h, hours-h))
	}
	return d
}()

func normalise(v []float64) {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	for i := range v {
		v[i] /= sum
	}
}

// smooth lends a quarter to each neighbour around the circle.
func smooth(to, from []float64) {
	n := len(from)
	for i := range from {
		to[i] = (from[(i+n-1)%n] + 2*from[i] + from[(i+1)%n]) / 4
	}
}
