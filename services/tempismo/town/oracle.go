package town

import (
	"math"
	"time"

	"github.com/tempismo/tempismo/services/tempismo/truth"
)

const week = 168

// What is left of a message's chance to be opened after a quarter of an hour, and after an hour.
var (
	fadesQuarter = math.Exp(-1 / (4 * buried))
	fadesHour    = math.Exp(-1 / buried)
)

// truth is what is known of the person. The numbers by hour are computed from the mechanism, not counted.
func (p *person) truth() truth.Customer {
	c := truth.Customer{Customer: p.id, Zone: places[p.place].zone, Persona: p.habit.name}
	if !p.town.config.QuietUntil.IsZero() {
		c.Null = &p.null
	}
	if p.since > 0 {
		c.Since = time.UnixMilli(p.since).UTC()
	}
	c.Attention, c.Response = p.oracle(p.habit)
	for i := range p.episodes {
		e := &p.episodes[i]
		told := e.told()
		if e.kind == truth.Shift {
			told.Attention, told.Response = p.oracle(e.habit)
		}
		c.Episodes = append(c.Episodes, told)
	}
	return c
}

// shared are five values of the product of a week's factor and an issue's appeal, and their probabilities (Gauss and Hermite's
// nodes of a lognormal distribution with the product's variance and mean 1): what all visits to a message have in common.
func shared() (values, weights [5]float64) {
	variance := (1+weekVar)*math.Exp(appeal*appeal) - 1
	sigma := math.Sqrt(math.Log1p(variance))
	nodes := [5]float64{-2.8569700138728056, -1.355626179974266, 0, 1.355626179974266, 2.8569700138728056}
	weights = [5]float64{.01125741132772071, .2220759220056126, 8. / 15, .2220759220056126, .01125741132772071}
	for i, z := range nodes {
		values[i] = math.Exp(sigma*z - sigma*sigma/2)
	}
	return values, weights
}

// oracle computes attention and response of a habit in ordinary weeks: no season, no holiday, no other mail in the inbox
// that is newer.
//
// Given the factors of the days, visits are a Poisson process, and those that open a message are one with the chance of that
// as a weight. So the probability that none does is exp(-sum of a day's factor times the day's weight), whose mean over a
// Gamma factor of mean 1 and variance v is (1 + v weight)^(-1/v), and over what the days have in common a sum of five terms.
func (p *person) oracle(h *habit) (attention, response truth.Week) {
	// Visits by quarter of an hour of the week, Monday first, twice, so that no sum has to wrap around.
	const n = 7 * quarters
	var visits [2 * n]float64
	for q := range n {
		weekday := time.Weekday((q/quarters + 1) % 7)
		c := &h.work
		if weekday == time.Saturday || weekday == time.Sunday {
			c = &h.rest
		}
		visits[q] = p.rate(h, weekday) * c.share(q%quarters)
		visits[q+n] = visits[q]
	}

	// Response: discounted[q] is the sum of visits before q, each by its chance for a message delivered at 0.
	var discounted [2*n + 1]float64
	fades := 1.
	for q, v := range visits {
		discounted[q+1] = discounted[q] + v*fades
		fades *= fadesQuarter
	}
	values, weights := shared()
	response = make(truth.Week, week)
	scale := p.interest / math.Sqrt(fadesQuarter) // of a delivery in the middle of quarter q, back to its own time
	for q := range n {
		// Of the quarter itself, half lies before a delivery at a uniform moment of it; the last quarter makes up for that.
		at := func(q int) float64 { return (discounted[q] + discounted[q+1]) / 2 }
		midnight := (q/quarters + 1) * quarters
		today := scale * (discounted[midnight] - at(q))
		tomorrow := scale * (at(q+quarters) - discounted[midnight])
		none := 0.0
		for i, x := range values {
			none += weights[i] * unopened(today*x) * unopened(tomorrow*x)
		}
		response[q/4] += (1 - none) / 4
		scale /= fadesQuarter
	}

	// Attention, by whole hours: first openings of a message delivered in each hour of the week, and later ones.
	var byHour [week]float64
	for q := range n {
		byHour[q/4] += visits[q]
	}
	var opened [week]float64
	for s := range week {
		weight, before, chance, t := 0.0, 1.0, p.interest, s
		for age := range kept {
			v := byHour[t]
			if age == 0 {
				v /= 2
			}
			weight += v * chance
			after := unopened(weight)
			opened[t] += before - after
			if age < again {
				opened[t] += v * reread * (1 - before)
			}
			before = after
			chance *= fadesHour
			if t++; t == week {
				t = 0
			}
		}
	}
	// What is put off is opened one to five hours later, unless the day ends before that.
	sum := 0.0
	attention = make(truth.Week, week)
	for t, v := range opened {
		left := v
		for later := 1; later <= 5; later++ {
			share := putOff / 4
			if later == 1 || later == 5 {
				share /= 2
			}
			if t%24+later < 24 {
				attention[t+later] += v * share
				left -= v * share
			}
		}
		attention[t] += left
		sum += v
	}
	for t := range attention {
		attention[t] = rounded(attention[t] * week / sum)
		response[t] = rounded(response[t])
	}
	return attention, response
}

// unopened is the probability that a message stays unopened on a day whose visits would open it so many times on average.
// The days' factors have shape 2, which spares a power.
func unopened(weight float64) float64 {
	x := 1 + dayVar*weight
	return 1 / (x * x)
}

// rounded leaves four digits after the point: a truth is not known better, and is read by people.
func rounded(v float64) float64 { return math.Round(v*1e4) / 1e4 }
