package timing

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// fitted is a model with everything that a fit fills in: bases, personas, experts and segments that differ from everybody.
func fitted() *Model {
	m := Builtin()
	m.Version = "test.1"
	m.FittedOn = &FittedOn{Customers: 1}
	bend := func(at float64, much float64) (a [Day]float64) {
		for h := range a {
			a[h] = m.Population[h] * math.Exp(much*math.Cos(2*math.Pi*(float64(h)-at)/Day))
		}
		normalise(a[:], Day)
		return a
	}
	for b := range Buckets {
		m.Bases = append(m.Bases, bend(12, .02*float64(b)))
		m.Experts = append(m.Experts, [Experts]float64{.1, .2, .1, .1, .1, .1, .1, .1, .1})
	}
	for i, name := range []string{"morning readers", "afternoon readers", "evening readers", "night readers"} {
		m.Personas = append(m.Personas, Persona{name, .25, bend(float64(8+5*i), 1)})
	}
	m.Segments = []Segment{{"night shift", .1, bend(3, 2)}}
	if err := m.Prepare(); err != nil {
		panic(err)
	}
	return m
}

// habitual draws engaged hours that cluster, with gaps of up to years.
func habitual(t *rapid.T) (hours []Hour) {
	at := int64(simStart)
	favourite := rapid.Int64Range(0, 23).Draw(t, "favourite")
	for range rapid.IntRange(0, 80).Draw(t, "n") {
		at += Day * rapid.OneOf(rapid.Int64Range(1, 3), rapid.Int64Range(1, 800)).Draw(t, "gap")
		h := favourite
		if rapid.IntRange(0, 3).Draw(t, "odd") == 0 {
			h = rapid.Int64Range(0, 23).Draw(t, "hour")
		}
		hours = append(hours, floorDiv(at, Day)*Day+h)
	}
	return hours
}

func drawExposure(t *rapid.T) (e [Day]float64) {
	for h := range e {
		e[h] = rapid.Float64Range(.01, 1).Draw(t, "exposure")
	}
	normalise(e[:], 1)
	return e
}

// TestForgotten: of somebody whose histograms have run empty, be it by age or because the habit moved, the customer's hours are
// everybody's again, not no number.
func TestForgotten(t *testing.T) {
	m := fitted()
	r := Rhythm{n: 7, year: simStart / Week / 52 * 52, quarter: simStart / Week / 13 * 13}
	exposure := [Day]float64{}
	for h := range exposure {
		exposure[h] = 1. / Day
	}
	var p Prediction
	m.Predict(&p, &r, simStart/Week, &exposure)
	for h, x := range p.Hours {
		if !(x > 0 && x < 1) {
			t.Fatalf("hour %d: %v", h, x)
		}
		if q := p.Experts[0][h]; math.Abs(p.Experts[2][h]-q) > 1e-12 {
			t.Errorf("hour %d: habits of nothing are %v, expected is %v", h, p.Experts[2][h], q)
		}
	}
}

// TestPrediction: whatever was learned, every part of a prediction is a distribution, the whole is what its parts and weights
// make, and likelihoods are what these say.
func TestPrediction(t *testing.T) {
	models := map[string]*Model{"builtin": Builtin(), "fitted": fitted()}
	rapid.Check(t, func(t *rapid.T) {
		m := models[rapid.SampledFrom([]string{"builtin", "fitted"}).Draw(t, "model")]
		exposure, answer := drawExposure(t), drawExposure(t)
		var r Rhythm
		var p Prediction
		week := int64(simStart / Week)
		for _, h := range habitual(t) {
			week = weekOf(h)
			m.Predict(&p, &r, week, &exposure)
			r.Learn(&p.Outline, h, rapid.IntRange(0, 59).Draw(t, "minute"), rapid.SampledFrom([]*[Day]float64{nil, &answer}).Draw(t, "answer"))
		}
		m.Predict(&p, &r, week, &exposure)
		all := map[string]*[Day]float64{"hours": &p.Hours, "mixed": &p.Mixed, "population": &p.Population}
		for e := range p.Experts {
			all[string(rune('0'+e))] = &p.Experts[e]
		}
		for name, d := range all {
			sum := 0.0
			for _, x := range d {
				if sum += x; !(x > 0) {
					t.Fatalf("%s: %v is no probability", name, x)
				}
			}
			if math.Abs(sum-1) > 1e-9 {
				t.Fatalf("%s adds up to %v", name, sum)
			}
		}
		for h := range Day {
			mixed := 0.0
			for e, w := range p.Weights {
				mixed += w * p.Experts[e][h]
			}
			if math.Abs(mixed-p.Mixed[h]) > 1e-12 || math.Abs((1-p.Guard)*mixed+p.Guard*p.Population[h]-p.Hours[h]) > 1e-12 {
				t.Fatalf("hour %d: mixed %v, told %v; the parts make %v", h, p.Mixed[h], p.Hours[h], mixed)
			}
		}
		told := p.Hours
		p.tell()
		for h := range told {
			if math.Abs(told[h]-p.Hours[h]) > 1e-12 {
				t.Fatalf("hour %d: the short way tells %v, the long one %v", h, p.Hours[h], told[h])
			}
		}

		// The likelihood of an hour is attention there over its mean where answers fall.
		y := rapid.IntRange(0, 23).Draw(t, "y")
		likelihood := func(d *[Day]float64) float64 {
			mean := 0.0
			for h, a := range answer {
				mean += a * d[h] / exposure[h]
			}
			return d[y] / exposure[y] / mean
		}
		experts, mixed, population := p.Likelihoods(y, &answer)
		for e, got := range experts {
			if want := likelihood(&p.Experts[e]); math.Abs(got-want) > 1e-9*want {
				t.Fatalf("expert %d: likelihood %v, want %v", e, got, want)
			}
		}
		if a, b := likelihood(&p.Mixed), likelihood(&p.Population); math.Abs(mixed-a) > 1e-9*a || math.Abs(population-b) > 1e-9*b {
			t.Fatalf("likelihoods %v and %v, want %v and %v", mixed, population, a, b)
		}
		experts, mixed, population = p.Likelihoods(y, nil)
		if experts[8] != p.Experts[8][y] || math.Abs(mixed-p.Mixed[y]) > 1e-12 || population != p.Population[y] {
			t.Fatal("without a message known, likelihoods are not the predictions")
		}
	})
}

// TestGuard: whatever a customer does, however it is aimed at the prediction, the loss against the population never exceeds
// log2(50) bits in total.
func TestGuard(t *testing.T) {
	models := []*Model{Builtin(), fitted()}
	u := uniform()
	rapid.Check(t, func(t *rapid.T) {
		m := models[rapid.IntRange(0, 1).Draw(t, "model")]
		aim := rapid.SampledFrom([]string{"worst", "random", "habit, then worst"}).Draw(t, "aim")
		var r Rhythm
		var p Prediction
		lost, worst := 0.0, 0.0
		at := int64(simStart)
		for i := range rapid.IntRange(1, 600).Draw(t, "n") {
			at += Day
			m.Predict(&p, &r, weekOf(at), &u)
			y := 9
			switch {
			case aim == "random":
				y = int(24 * Hash("guard", int64(i), aim))
			case aim == "worst" || i >= 200:
				for h := range p.Hours {
					if p.Hours[h]/p.Population[h] < p.Hours[y]/p.Population[y] {
						y = h
					}
				}
			}
			lost += math.Log2(p.Population[y] / p.Hours[y])
			worst = max(worst, lost)
			r.Learn(&p.Outline, at+int64(y), 30, nil)
			if i%97 == 96 { // a move of habit does not renew the stake
				r.forget(1)
			}
		}
		if worst > math.Log2(1+guardOdds)+1e-6 {
			t.Fatalf("%.4f bits lost against the population, at most %.4f are at stake", worst, math.Log2(1+guardOdds))
		}
	})
}

func TestExp(t *testing.T) {
	for v := math.MinInt16; v <= math.MaxInt16; v += 7 {
		if got, want := exp(int16(v)), math.Exp(float64(v)/nat); math.Abs(got-want) > 1e-12*want {
			t.Fatalf("exp(%d/%d) = %v, want %v", v, nat, got, want)
		}
	}
}

func TestBucket(t *testing.T) {
	for _, row := range []struct{ n, bucket int }{{0, 0}, {1, 1}, {2, 2}, {3, 3}, {4, 3}, {5, 4}, {8, 5}, {12, 6}, {19, 6}, {20, 7}, {35, 8}, {60, 9}, {100, 10}, {249, 10}, {250, 11}, {1e6, 11}} {
		if b := Bucket(row.n); b != row.bucket {
			t.Errorf("%d engaged hours are in bucket %d, want %d", row.n, b, row.bucket)
		}
	}
}

// TestExperts: who reads at 18 h is best predicted by those who know it, and the evidence says so.
func TestExperts(t *testing.T) {
	m := fitted()
	u := uniform()
	var r Rhythm
	var p Prediction
	for i := range int64(40) {
		m.Predict(&p, &r, weekOf(simStart+i*Day), &u)
		r.Learn(&p.Outline, simStart+i*Day+18, 30, nil)
	}
	m.Predict(&p, &r, weekOf(simStart+40*Day), &u)
	if p.Hours[18] < .4 || p.Weights[0] > .01 || p.Guard > 1e-6 {
		t.Errorf("after forty evenings %.2f are expected at 18 h; the base counts %.3f, the population %.6f", p.Hours[18], p.Weights[0], p.Guard)
	}
	if m.Personas[p.persona].Name != "evening readers" || p.likeness < .99 {
		t.Errorf("the persona is %q with probability %.2f", m.Personas[p.persona].Name, p.likeness)
	}
}

func TestLn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(1e-300, 10).Draw(t, "x")
		if got, want := ln(x), math.Log(x); math.Abs(got-want) > 1e-12*max(1, math.Abs(want)) {
			t.Errorf("ln(%v) is %v, want %v", x, got, want)
		}
	})
	for i := range 4096 { // across the parts of an octave
		if x := 1 + float64(i)/4096; math.Abs(ln(x)-math.Log(x)) > 1e-12 {
			t.Errorf("ln(%v) is %v, want %v", x, ln(x), math.Log(x))
		}
	}
}

// TestHabitsInAnyOrder: what is predicted does not depend on which habit stands first, nor on how many there are of no weight.
func TestHabitsInAnyOrder(t *testing.T) {
	m := fitted()
	table := m.Habits
	for i := range MaxHabits - len(table) {
		u := table[i]
		u.Correlation, u.Hours = u.Correlation/3, [Day]float64{}
		for h := range u.Hours {
			u.Hours[h] = table[i].Hours[(h+5+i)%Day]
		}
		m.Habits = append(m.Habits, u)
	}
	var r Rhythm
	for i := range int64(20) {
		r.add(simStart+i*Day+18+i%3, 40)
	}
	exposure := uniform()
	predict := func(habits []Habit) (p Prediction) {
		n := *m
		n.Habits = habits
		n.prepare()
		n.Predict(&p, &r, simStart/Week, &exposure)
		return p
	}
	backward := slices.Clone(m.Habits)
	slices.Reverse(backward)
	want, got := predict(m.Habits), predict(backward)
	for h, x := range &want.Hours {
		if math.Abs(got.Hours[h]-x) > 1e-12 {
			t.Errorf("hour %d: %v backward, %v forward", h, got.Hours[h], x)
		}
	}
}

func TestHoursBeforeTheFirst(t *testing.T) {
	for _, row := range []struct{ h, day, week int64 }{{-1, -1, -1}, {-24, -1, -1}, {-25, -2, -1}, {-168, -7, -1}, {-169, -8, -2}, {0, 0, 0}, {23, 0, 0}, {168, 7, 1}} {
		if dayOf(row.h) != row.day || weekOf(row.h) != row.week {
			t.Errorf("hour %d is of day %d and week %d, want %d and %d", row.h, dayOf(row.h), weekOf(row.h), row.day, row.week)
		}
	}
}
