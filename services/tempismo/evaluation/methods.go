package evaluation

import (
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Method is a way to predict when a customer engages.
type Method struct {
	Name  string
	About string
}

// Places of the methods in Methods.
const (
	uniform = iota
	population
	histogram
	laplace
	kernel
	median
	noExposure
	noPersonas
	noDecay
	ours
	methods
)

// Methods are what is compared, ours last. Personal counts of the simple methods do not decay.
var Methods = [methods]Method{
	uniform:    {"uniform", "every hour alike"},
	population: {"population", "everybody's engagements so far, closed at midnight, one added to each hour"},
	histogram:  {"personal-histogram", "the customer's own engagements, a hundredth added to each hour"},
	laplace:    {"personal-laplace", "the customer's own engagements, one added to each hour (Laplace)"},
	kernel:     {"personal-kernel", "the customer's own engagements, lent to neighbours by 1/4 1/2 1/4 around the clock, and the population with a weight of 8"},
	median:     {"median-window", "the two hours up to the median hour of the last 25 engagements, 9 to 12 o'clock for who has fewer than five; as likely as such windows were met so far"},
	noExposure: {"ours-without-exposure", "ours, had nobody told of deliveries"},
	noPersonas: {"ours-without-personas", "ours, without its personas"},
	noDecay:    {"ours-without-decay", "ours, of whose hours none is ever forgotten"},
	ours:       {"ours", "what the services run"},
}

// guess is what a method says of the next sitting.
type guess struct {
	day  [hours]float64 // by hour of the day, sum 1
	week [week]float64  // by hour of the week, sum 1

	// attention by hour of the week, of any total: what is held against the kernel when the question is when a message is
	// answered. The simple methods take for attention what they have counted.
	attention [week]float64
}

// counts are what the simple methods know of a customer.
type counts struct {
	n      int
	day    [hours]uint32
	week   [week]uint32
	recent [window]uint8 // hours of the day of the latest engagements, a ring
	last   timing.Hour   // latest engagement
}

const (
	window  = 25 // engagements that the median is taken of
	trusted = 5  // engagements from which on it is
)

func (c *counts) add(h timing.Hour) {
	how := timing.HourOfWeek(h)
	c.day[how%hours]++
	c.week[how]++
	c.recent[c.n%window] = uint8(how % hours)
	c.n, c.last = c.n+1, h
}

// fresh reports whether an engagement in hour h is one in an hour that was not counted yet.
func (c *counts) fresh(h timing.Hour) bool { return c.n == 0 || h > c.last }

// crowd is what the simple methods know of everybody.
type crowd struct {
	n           float64
	dayCounts   [hours]float64
	weekCounts  [week]float64
	today       []uint8 // hours of the week of engagements that wait for midnight
	day         [hours]float64
	week        [week]float64
	inWindow    [2]float64 // sittings within the window, by whether it was the customer's own
	windowTried [2]float64
}

func newCrowd() *crowd {
	c := new(crowd)
	c.close()
	return c
}

func (c *crowd) add(h timing.Hour) { c.today = append(c.today, uint8(timing.HourOfWeek(h))) }

// close ends a day: a part of one is worse than none.
func (c *crowd) close() {
	for _, how := range c.today {
		c.n++
		c.dayCounts[how%hours]++
		c.weekCounts[how]++
	}
	c.today = c.today[:0]
	for h, k := range c.dayCounts {
		c.day[h] = (k + 1) / (c.n + hours)
	}
	for h, k := range c.weekCounts {
		c.week[h] = (k + 1) / (c.n + week)
	}
}

// simple is what one of the simple methods guesses.
func (c *crowd) simple(g *guess, method int, own *counts) {
	n := float64(own.n)
	switch method {
	case uniform:
		fill(g.day[:], 1./hours)
		fill(g.week[:], 1./week)
	case population:
		g.day, g.week = c.day, c.week
	case histogram, laplace:
		add := 1.
		if method == histogram {
			add = .01
		}
		for h, k := range own.day {
			g.day[h] = (float64(k) + add) / (n + hours*add)
		}
		for h, k := range own.week {
			g.week[h] = (float64(k) + add) / (n + week*add)
		}
	case kernel:
		var day, counted [hours]float64
		var how, countedHow [week]float64
		for h, k := range own.day {
			counted[h] = float64(k)
		}
		for h, k := range own.week {
			countedHow[h] = float64(k)
		}
		smooth(day[:], counted[:])
		smooth(how[:], countedHow[:])
		const weight = 8
		for h, k := range day {
			g.day[h] = (k + weight*c.day[h]) / (n + weight)
		}
		for h, k := range how {
			g.week[h] = (k + weight*c.week[h]) / (n + weight)
		}
	case median:
		c.window(g, own)
	}
	g.attention = g.week
}

// window makes a distribution of a rule that only names hours: the hours get, together, the share of sittings that such
// windows have met so far; inside and outside of them, and over the days of the week, the population decides.
func (c *crowd) window(g *guess, own *counts) {
	in := c.named(own)
	mine := personal(own)
	share := (c.inWindow[mine] + 1) / (c.windowTried[mine] + 2)
	var inside, total float64
	for h, p := range c.day {
		if in[h] {
			inside += p
		}
		total += p
	}
	for h, p := range c.day {
		if in[h] {
			g.day[h] = p * share / inside
		} else {
			g.day[h] = p * (1 - share) / (total - inside)
		}
	}
	var folded [hours]float64
	for how, p := range c.week {
		folded[how%hours] += p
	}
	for how, p := range c.week {
		g.week[how] = p * g.day[how%hours] / folded[how%hours]
	}
}

// named is the window of a customer.
func (c *crowd) named(own *counts) (in [hours]bool) {
	if personal(own) == 0 {
		in[9], in[10], in[11] = true, true, true
		return in
	}
	recent := own.recent
	known := recent[:min(own.n, window)]
	slices.Sort(known)
	m := known[(len(known)-1)/2]
	in[m], in[(m+hours-1)%hours] = true, true
	return in
}

func personal(own *counts) int {
	if own.n < trusted {
		return 0
	}
	return 1
}

// tried notes whether a window was met.
func (c *crowd) tried(own *counts, h timing.Hour) {
	in, mine := c.named(own), personal(own)
	c.windowTried[mine]++
	if in[timing.HourOfWeek(h)%hours] {
		c.inWindow[mine]++
	}
}

func fill(v []float64, x float64) {
	for i := range v {
		v[i] = x
	}
}
