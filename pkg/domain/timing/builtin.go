package timing

import "math"

// BuiltinVersion names the model that is in force before anything was fitted, and where it is pinned.
const BuiltinVersion = "builtin.1"

// Builtin is the model of before any fit: assumptions, no measurement. None of its numbers is taken from anybody's data.
//
// Rates, dispersion and the kernel's length are the defaults of the mechanistic simulator that the design was tried on: an
// inbox that is looked at a few times a day, newest mail first, where a message is buried with exp(-age/20 h). The shape
// of the day is drawn by hand in round numbers: a rise after 6, a peak before noon, a hollow after lunch, a second peak in
// the evening, little at night, a somewhat quieter weekend; mail that goes out in office hours, three a week. The share of
// mail days that are read is one in three, and weighs no more than six of a customer's own mail days: before anything was
// fitted, people are to be believed sooner than we are. (Of five priors tried on one simulated town this one kept the
// rate of false silences under its nominal 2.3 %; TestBars holds it on another town.)
//
// The habits are what follows if every customer reads by the population's day times a bump of their own, four hours wide,
// that may lie anywhere: then the hours of one customer are correlated along smooth waves, strongest along the one that
// tells mornings from evenings. Bump and width decide the correlations, and with them how soon a customer is believed.
func Builtin() *Model {
	m := &Model{
		Version: BuiltinVersion,
		Population: [Day]float64{
			0.35, 0.20, 0.15, 0.15, 0.20, 0.40, 0.80, 1.20, 1.50, 1.60, 1.60, 1.50,
			1.40, 1.30, 1.20, 1.15, 1.15, 1.20, 1.25, 1.35, 1.45, 1.40, 1.00, 0.60,
		},
		Weekdays: [7]float64{1.05, 1.10, 1.05, 1.05, 1.00, 0.85, 0.90},
		Deliveries: Deliveries{
			PerDay: 3. / 7,
			Hours:  [Day]float64{7: .04, 8: .10, 9: .16, 10: .16, 11: .12, 12: .07, 13: .05, 14: .07, 15: .07, 16: .06, 17: .05, 18: .05},
			Days:   [7]float64{.16, .19, .18, .18, .15, .07, .07},
		},
		Personas: []Persona{},
		Priors: Priors{
			EngagedHours: 3.6, Deliveries: 9.7, Read: 2, Ignored: 4,
			Hours: 16, Weekdays: 6, Dispersion: 0.3, Organic: 0.002,
		},
		PStar: 0.01,
	}
	for a := range m.Kernel {
		m.Kernel[a] = math.Exp(-float64(a) / 20)
	}
	for u := range m.Boost {
		m.Boost[u] = 1
	}
	normalise(m.Kernel[:], 1)
	normalise(m.Population[:], Day)
	normalise(m.Weekdays[:], 7)
	m.Habits = Habits(bumps(&m.Population))
	m.prepare()
	return m
}

// bumps is the table of pairs of hours of one customer, over customers whose hours are the population's times a bump
// (von Mises, concentration 1.5: four hours to either side is half as high) that lies at any hour with the population's
// weight, over a floor that keeps every hour possible.
func bumps(population *[Day]float64) (pairs [Day][Day]float64) {
	const concentration, floor = 1.5, 0.25
	for at, weight := range population {
		var p [Day]float64
		for h := range p {
			p[h] = population[h] * (floor + math.Exp(concentration*(math.Cos(2*math.Pi*float64(h-at)/Day)-1)))
		}
		normalise(p[:], 1)
		for i := range p {
			for j := range p {
				pairs[i][j] += weight / Day * p[i] * p[j]
			}
		}
	}
	return pairs
}

func normalise(v []float64, to float64) {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	for i := range v {
		v[i] *= to / sum
	}
}
