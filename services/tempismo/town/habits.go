package town

import "math"

// place is where people live; shares add up to 100.
type place struct {
	zone  string
	share int
}

var places = []place{{"Europe/Rome", 92}, {"Europe/Berlin", 3}, {"Europe/London", 3}, {"America/New_York", 2}}

// bump is a time of day at which somebody looks at their mail: the hour (with its fraction), its spread in hours, and how
// much of the day's attention it holds.
type bump struct{ hour, spread, weight float64 }

// persona is a kind of habit: bumps, and the weight of a weekend day against a working day.
type persona struct {
	name    string
	bumps   []bump
	weekend float64
}

var personas = []persona{
	{"early commuters", []bump{{7.2, .7, .6}, {18.2, 1, .25}}, .5},
	{"desk in the morning", []bump{{9.7, 1, .55}, {14.5, 1.5, .25}}, .3},
	{"lunch readers", []bump{{12.9, .7, .65}, {21, 1.5, .2}}, .8},
	{"afternoon readers", []bump{{15.8, 1.2, .6}, {10, 1.5, .2}}, .6},
	{"on the way home", []bump{{18.3, .9, .6}, {8, 1, .2}}, .7},
	{"evening readers", []bump{{20.8, 1.1, .7}, {13, 1, .15}}, 1.1},
	{"night owls", []bump{{23.3, 1.3, .65}, {1.2, 1, .2}}, 1.1},
	{"weekend readers", []bump{{10.5, 1.5, .5}, {17, 2, .3}}, 2.6},
}

// curve is the cumulated attention of a day by quarter of an hour.
type curve [96]float64

// draw builds the curve of a persona with a bump of one's own. What the bumps leave is spread over the waking day.
func draw(p *persona, own bump) (c curve) {
	sum := 0.0
	for q := range c {
		at := (float64(q) + .5) / 4
		v := .012
		if at >= 7.5 && at < 23 {
			v = .035
		}
		for _, b := range p.bumps {
			v += height(b, at) * .75
		}
		v += height(own, at)
		sum += v
		c[q] = sum
	}
	for q := range c {
		c[q] /= sum
	}
	return c
}

// height is the density of a bump, wrapped around midnight.
func height(b bump, at float64) float64 {
	d := math.Abs(at - b.hour)
	if d > 12 {
		d = 24 - d
	}
	return b.weight / (b.spread * math.Sqrt(2*math.Pi)) * math.Exp(-d*d/(2*b.spread*b.spread))
}

// second is the second of the day at which a share u of the day's attention has passed.
func (c *curve) second(u float64) int {
	lo, hi := 0, len(c)-1
	for lo < hi {
		if mid := (lo + hi) / 2; c[mid] < u {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	before := 0.0
	if lo > 0 {
		before = c[lo-1]
	}
	return lo*900 + int(900*(u-before)/(c[lo]-before))
}

// campaign is mail that goes to everybody on its list at about the same moment of the company's clock.
type campaign struct {
	name     string
	days     [7]bool // Sunday first, as time.Weekday counts
	hours    []int   // one of them, changing from week to week, as marketing departments do
	audience float64
}

var campaigns = []campaign{
	{"weekly-edit", [7]bool{2: true}, []int{9, 12, 17}, .85},
	{"offers", [7]bool{4: true}, []int{18, 10, 14}, .6},
	{"weekend", [7]bool{6: true}, []int{10, 8}, .4},
	{"journal", [7]bool{1: true, 3: true, 5: true}, []int{7, 13}, .2},
}
