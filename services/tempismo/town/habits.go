package town

import (
	"math"
	"math/rand/v2"
)

// bump is a time of day at which somebody looks at their mail: the hour (with its fraction), its spread in hours, and how
// much of the day's visits it holds.
type bump struct{ hour, spread, weight float64 }

// persona is a kind of habit: bumps, and the visits of each day of the week against each other, Sunday first.
type persona struct {
	name  string
	bumps []bump
	days  [7]float64
}

var personas = [...]persona{
	{"early commuters", []bump{{7.2, .6, .62}, {18.2, .9, .2}}, [7]float64{.5, 1.1, 1.1, 1.1, 1.1, 1, .6}},
	{"desk in the morning", []bump{{9.7, .8, .6}, {14.5, 1.2, .2}}, [7]float64{.25, 1.2, 1.4, 1.2, 1.1, .9, .3}},
	{"lunch readers", []bump{{12.9, .6, .65}, {21, 1.3, .17}}, [7]float64{.8, 1, 1, 1.1, 1, 1, .8}},
	{"afternoon readers", []bump{{15.8, 1, .62}, {10, 1.2, .18}}, [7]float64{.5, 1.1, 1.1, 1.1, 1.2, 1.1, .6}},
	{"on the way home", []bump{{18.3, .8, .62}, {8, .9, .18}}, [7]float64{.6, 1.1, 1.1, 1.1, 1.1, 1, .7}},
	{"evening readers", []bump{{20.8, .9, .7}, {13, 1, .12}}, [7]float64{1.2, 1, 1, 1, 1, .8, 1}},
	{"night owls", []bump{{23.3, 1, .65}, {1.2, .9, .17}}, [7]float64{1, .9, .9, .9, .9, 1.2, 1.3}},
	{"weekend readers", []bump{{10.5, 1.2, .5}, {17, 1.7, .28}}, [7]float64{2.2, .5, .5, .5, .6, .9, 2.2}},
}

// quarters are the quarters of an hour of a day.
const quarters = 96

// curve is the cumulated share of a day's visits by quarter of an hour.
type curve [quarters]float32

// habit is when somebody looks at their mail: on working days, on days of rest, and how often on each day of the week
// against the mean day, Sunday first.
type habit struct {
	name       string
	work, rest curve
	days       [7]float32
}

// take draws a habit: a persona with a bump of one's own near one of the persona's, or, for one person in ten, two bumps
// anywhere in the waking day. On days of rest everything comes later and lasts longer.
func take(r *rand.Rand) *habit {
	h := &habit{}
	var bumps []bump
	var days [7]float64
	if r.Float64() < .1 {
		h.name = "a way of one's own"
		for range 2 {
			bumps = append(bumps, bump{6 + 18*r.Float64(), .8 + 1.2*r.Float64(), .36})
		}
		days = [7]float64{1, 1, 1, 1, 1, 1, 1}
	} else {
		kind := &personas[r.IntN(len(personas))]
		h.name, days = kind.name, kind.days
		for _, b := range kind.bumps {
			b.weight *= .55
			bumps = append(bumps, b)
		}
		near := kind.bumps[r.IntN(len(kind.bumps))].hour
		bumps = append(bumps, bump{math.Mod(near+2.5*r.NormFloat64()+24, 24), .8, .24})
	}
	h.draw(bumps, days, r)
	return h
}

// draw computes the curves, and days that differ from anybody else's by some 15 %.
func (h *habit) draw(bumps []bump, days [7]float64, r *rand.Rand) {
	later := make([]bump, len(bumps))
	for i, b := range bumps {
		later[i] = bump{math.Mod(b.hour+1.2, 24), 1.4 * b.spread, b.weight}
	}
	h.work.draw(bumps)
	h.rest.draw(later)
	sum := 0.0
	for d := range days {
		days[d] *= math.Exp(.15 * r.NormFloat64())
		sum += days[d]
	}
	for d := range days {
		h.days[d] = float32(7 * days[d] / sum)
	}
}

// draw computes a curve. What the bumps leave is spread over the day, and thinly over the night.
func (c *curve) draw(bumps []bump) {
	left := 1.0
	for _, b := range bumps {
		left -= b.weight
	}
	left = max(left, .1)
	const awake, asleep = .93 / 15.5, .07 / 8.5 // an hour
	var sum float64
	var cumulated [quarters]float64
	for q := range c {
		at := (float64(q) + .5) / 4
		v := left * asleep
		if at >= 7.5 && at < 23 {
			v = left * awake
		}
		for _, b := range bumps {
			v += b.height(at)
		}
		sum += v
		cumulated[q] = sum
	}
	for q := range c {
		c[q] = float32(cumulated[q] / sum)
	}
}

// height is the density of a bump an hour, wrapped around midnight.
func (b *bump) height(at float64) float64 {
	d := math.Abs(at - b.hour)
	if d > 12 {
		d = 24 - d
	}
	return b.weight / (b.spread * math.Sqrt(2*math.Pi)) * math.Exp(-d*d/(2*b.spread*b.spread))
}

// share is the part of the day's visits that falls into a quarter of an hour.
func (c *curve) share(quarter int) float64 {
	if quarter == 0 {
		return float64(c[0])
	}
	return float64(c[quarter]) - float64(c[quarter-1])
}

// second is the second of the day at which a share u of the day's visits has passed.
func (c *curve) second(u float64) int {
	lo, hi := 0, len(c)-1
	for lo < hi {
		if mid := (lo + hi) / 2; float64(c[mid]) < u {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	before := 0.0
	if lo > 0 {
		before = float64(c[lo-1])
	}
	s := lo*900 + int(900*(u-before)/(float64(c[lo])-before))
	return min(max(s, lo*900), lo*900+899)
}

// moved returns the habit some hours later in the day, or earlier where that would be at night, and by how many hours.
func (h *habit) moved(hours int) (*habit, int) {
	if peak := (h.peak() + hours) % 24; peak < 6 {
		hours = -hours
	}
	m := *h
	m.work.turn(&h.work, hours)
	m.rest.turn(&h.rest, hours)
	return &m, hours
}

// peak is the hour of a working day with the most visits.
func (h *habit) peak() int {
	best, at := 0.0, 0
	for hour := range 24 {
		v := 0.0
		for q := range 4 {
			v += h.work.share(4*hour + q)
		}
		if v > best {
			best, at = v, hour
		}
	}
	return at
}

func (c *curve) turn(of *curve, hours int) {
	sum := 0.0
	for q := range c {
		sum += of.share(((q-4*hours)%quarters + quarters) % quarters)
		c[q] = float32(sum)
	}
}
