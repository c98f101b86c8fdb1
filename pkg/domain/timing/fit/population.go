package fit

import (
	"math"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// population is the attention of everybody by hour of the day: of all time, and with half-lives of 364, 56 and 7 days; and
// how much each of these counts for customers of whom so much is known, which makes the bases.
//
// All are engagements over exposure, shrunk: all time to a flat day with the weight of an engagement an hour, the year and
// the months to all time (weight 200), the week to the months (100). Days enter when they are over, for a part of a day is
// not like a day.
//
// The base of a bucket of customers with n engagements is the product of the four to the powers w(n), where w is quadratic in
// t = min(ln(1+n)/2-1, 2): twelve numbers, which are the maximum a posteriori of a conditional logit over the days so far,
// updated by one Newton step a day (the recursive, second-order form of: McFadden, Conditional logit analysis, 1974), with
// exposure as offset.
type population struct {
	trends   [trends]trend
	logs     [trends][day]float64 // attention in force
	today    [timing.Buckets][day]float64
	exposure [timing.Buckets][day]float64 // of today's engagements
	last     timing.Hour                  // latest engagement
	closed   int64                        // latest day that was closed
	any      bool                         // whether one was

	weight    [powers]float64
	precision [powers][powers]float64
}

const (
	trends = 4
	terms  = 3 // of a quadratic
	powers = trends * terms
)

// trend is engagements and their exposure by hour of the day, with a half-life.
type trend struct{ engaged, exposure [day]float64 }

var halfLives = [trends]float64{math.Inf(1), 364, 56, 7} // days

func (p *population) start() {
	const variance = .02
	for k, w := range [trends]float64{.4, .2, .2, .2} {
		p.weight[k*terms] = w
	}
	for i := range p.precision {
		p.precision[i][i] = 1 / variance
	}
}

func (p *population) note(bucket, hour int, h timing.Hour, exposure *[day]float64) {
	p.today[bucket][hour]++
	for i, x := range exposure {
		p.exposure[bucket][i] += x
	}
	p.last = h
}

// close ends a day.
func (p *population) close(day int64) {
	p.learn()
	passed := 0.
	if p.any {
		passed = max(0, float64(day-p.closed))
	}
	p.any, p.closed = true, day
	since := max(0, float64(day-dayOf(p.last)))
	for k := range p.trends {
		t, keep, add := &p.trends[k], math.Exp2(-passed/halfLives[k]), math.Exp2(-since/halfLives[k])
		for h := range t.engaged {
			t.engaged[h] *= keep
			t.exposure[h] *= keep
			for b := range p.today {
				t.engaged[h] += add * p.today[b][h]
				t.exposure[h] += add * p.exposure[b][h]
			}
		}
	}
	p.today, p.exposure = [timing.Buckets][24]float64{}, [timing.Buckets][24]float64{}
	for k, a := range p.attention() {
		for h, x := range a {
			p.logs[k][h] = math.Log(x)
		}
	}
}

// attention is the attention of each trend, mean 1.
func (p *population) attention() (a [trends][day]float64) {
	flat := [day]float64{}
	for h := range flat {
		flat[h] = 1
	}
	a[0] = p.trends[0].over(&flat, day)
	a[1] = p.trends[1].over(&a[0], 200)
	a[2] = p.trends[2].over(&a[0], 200)
	a[3] = p.trends[3].over(&a[2], 100)
	return a
}

// over is the attention of t, shrunk to prior with the weight of so many engagements.
func (t *trend) over(prior *[day]float64, weight float64) (a [day]float64) {
	// Where nothing is known, nothing is known of exposure either.
	exposed := sum(t.exposure[:])
	share := func(h int) float64 {
		if exposed == 0 {
			return 1. / day
		}
		return t.exposure[h] / exposed
	}
	met := 0.0
	for h, x := range prior {
		met += x * share(h)
	}
	for h, x := range prior {
		a[h] = (t.engaged[h] + weight*x*share(h)/met) / share(h)
	}
	normalise(a[:], day)
	return a
}

// published is the attention of all time.
func (p *population) published() [day]float64 { return p.attention()[0] }

// quadratic is the terms of a customer with as much history as is in the middle of bucket b.
func quadratic(b int) [terms]float64 {
	edges := [timing.Buckets + 1]float64{0, 1, 2, 3, 5, 8, 12, 20, 35, 60, 100, 250, 500}
	n := (edges[b] + edges[b+1] - 1) / 2
	t := min(math.Log1p(n)/2-1, 2)
	return [terms]float64{1, t, t * t}
}

// features are what the weights are applied to at each hour, for bucket b.
func (p *population) features(b int) (x [day][powers]float64) {
	q := quadratic(b)
	for h := range x {
		for k := range trends {
			for j, t := range q {
				x[h][k*terms+j] = t * p.logs[k][h]
			}
		}
	}
	return x
}

// bases is the attention of the buckets in force, mean 1.
func (p *population) bases() [][day]float64 {
	bases := make([][day]float64, timing.Buckets)
	for b := range bases {
		x := p.features(b)
		bases[b], _ = tilted(&p.weight, &x)
		normalise(bases[b][:], day)
		for h, v := range bases[b] {
			bases[b][h] = max(v, rarest)
		}
		normalise(bases[b][:], day)
	}
	return bases
}

// rarest is the least attention that an hour has, over the mean: what never happened may happen.
const rarest = 1e-6

// tilted is the attention that weight makes of the features x, up to a factor whose logarithm is scale: the largest is 1.
func tilted(weight *[powers]float64, x *[day][powers]float64) (a [day]float64, scale float64) {
	scale = math.Inf(-1)
	for h := range x {
		a[h] = dot(weight, &x[h])
		scale = max(scale, a[h])
	}
	for h, v := range a {
		a[h] = math.Exp(v - scale)
	}
	return a, scale
}

// learn moves the weights by today's engagements, given what was in force.
func (p *population) learn() {
	var gradient [powers]float64
	prior := p.precision
	for b := range p.today {
		n := sum(p.today[b][:])
		if n == 0 {
			continue
		}
		x := p.features(b)
		expected, _ := tilted(&p.weight, &x)
		for h, e := range p.exposure[b] {
			expected[h] *= e
		}
		normalise(expected[:], 1)
		var mean [powers]float64
		for h, e := range expected {
			for i, v := range x[h] {
				mean[i] += e * v
			}
		}
		for h, e := range expected {
			for i := range mean {
				di := x[h][i] - mean[i]
				gradient[i] += (p.today[b][h] - n*e) * di
				for j := range i + 1 {
					p.precision[i][j] += n * e * di * (x[h][j] - mean[j])
				}
			}
		}
	}
	for i := range p.precision {
		for j := range i {
			p.precision[j][i] = p.precision[i][j]
		}
	}
	step := solve(p.precision, gradient)
	// A day unlike all before it, of thousands of customers, bends the likelihood so much that the full step would lead far
	// beyond its top: it is halved until it leads upwards.
	const halvings = 30
	before := p.likelihood(&p.weight)
	for range halvings {
		weight, bet := p.weight, 0.
		for i, x := range step {
			weight[i] += x
			for j, y := range step {
				bet += x * prior[i][j] * y
			}
		}
		if p.likelihood(&weight)-bet/2 >= before {
			p.weight = weight
			return
		}
		for i := range step {
			step[i] /= 2
		}
	}
}

// likelihood is the log-likelihood of today's engagements under weight.
func (p *population) likelihood(weight *[powers]float64) (l float64) {
	for b := range p.today {
		n := sum(p.today[b][:])
		if n == 0 {
			continue
		}
		x := p.features(b)
		a, scale := tilted(weight, &x)
		total := 0.
		for h, e := range p.exposure[b] {
			l += p.today[b][h] * (dot(weight, &x[h]) - scale)
			total += a[h] * e
		}
		l -= n * math.Log(total)
	}
	return l
}

func dot(a, b *[powers]float64) (s float64) {
	for i, x := range a {
		s += x * b[i]
	}
	return s
}

// solve returns x with a x = b, for a positive definite a (Cholesky: Golub and Van Loan, Matrix Computations, 4.2).
func solve(a [powers][powers]float64, b [powers]float64) [powers]float64 {
	for i := range a {
		for j := range i + 1 {
			s := a[i][j]
			for k := range j {
				s -= a[i][k] * a[j][k]
			}
			if i == j {
				a[i][i] = math.Sqrt(s)
			} else {
				a[i][j] = s / a[j][j]
			}
		}
	}
	for i := range b {
		for k := range i {
			b[i] -= a[i][k] * b[k]
		}
		b[i] /= a[i][i]
	}
	for i := powers - 1; i >= 0; i-- {
		for k := i + 1; k < powers; k++ {
			b[i] -= a[k][i] * b[k]
		}
		b[i] /= a[i][i]
	}
	return b
}
