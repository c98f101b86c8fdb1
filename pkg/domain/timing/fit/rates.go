package fit

import (
	"fmt"
	"math"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// levels is how much customers engage, and on which days everybody engages more or less than usual.
type levels struct {
	first    int64                   // day
	met      [timing.Week][4]float64 // attention that the answers to a message of that hour meet, by days since
	observed []float64               // engaged hours of everybody by day, where there was mail to answer
	expected []float64               // the same as deliveries and rates have it on ordinary days
	season   *season
	factors  []float64 // of the season, by day
	rates    []rate    // of each customer
	shape    float64   // engaged hours per delivery are Gamma(shape, mail)
	mail     float64
}

// rate is what is known of how much one customer engages.
type rate struct {
	reported bool                               // whether there are deliveries
	engaged  float64                            // engaged hours that may answer one
	mail     float64                            // deliveries, weighed by the attention that their answers met
	alone    float64                            // engaged hours that answer none
	free     float64                            // days without any to answer
	weeks    [2]struct{ engaged, mail float64 } // the same in even and in odd weeks
}

func (r *rate) add(day int64, engaged, mail float64) {
	r.engaged += engaged
	r.mail += mail
	week := &r.weeks[mod(floorDiv(day, 7), 2)]
	week.engaged += engaged
	week.mail += mail
}

// levels finds how much customers engage: the days on which everybody's differ (Season), the rate of a customer of whom
// nothing is known (Priors.EngagedHours, Priors.Deliveries), and engagement without mail (Organic).
func (s *sample) levels(m *timing.Model, dayType func(int64) string, report *Report) {
	v := levels{
		first: dayOf(s.first), rates: make([]rate, len(s.histories)),
		shape: m.Priors.EngagedHours, mail: m.Priors.Deliveries,
	}
	phi := func(how int) float64 { return m.Population[how%day] * m.Weekdays[how/day%7] }
	for how := range v.met {
		for a, k := range m.Kernel {
			v.met[how][(how%day+a)/day] += k * phi((how+a)%timing.Week)
		}
	}
	v.season = newSeason(v.first, s.days(), dayType)
	v.factors = v.season.list(0)
	if s.deliveries > 0 {
		m.Deliveries.PerDay = s.perDay()
		report.Estimates["deliveries.per_day"] = m.Deliveries.PerDay
	}
	for range 3 { // the season needs rates, and the rates the season
		s.count(&v, m)
		v.fit(report)
		s.expect(&v, m)
		v.season.fit(v.observed, v.expected)
		v.factors = v.season.list(0)
	}
	v.season.report(report)
	if !v.season.ordinary() {
		m.Season = timing.Season{First: v.first, Factors: v.season.list(seasonAhead)}
	}
	m.Priors.EngagedHours, m.Priors.Deliveries = v.shape, v.mail
	if _, kept := report.Defaults["priors.engaged_hours"]; !kept {
		report.Estimates["priors.engaged_hours"], report.Estimates["priors.deliveries"] = v.shape, v.mail
	}
	if s.deliveries == 0 {
		report.keep("priors.organic", "no deliveries in the sample")
		return
	}
	var alone, free float64
	for _, r := range v.rates {
		if r.reported {
			alone += r.alone
			free += r.free * (v.shape + r.engaged) / (v.mail + r.mail)
		}
	}
	const weight = 20 // engaged hours by what was believed before
	m.Priors.Organic *= (alone + weight) / (free*m.Priors.Organic + weight)
	report.Estimates["priors.organic"] = m.Priors.Organic
}

// perDay is how many hours with deliveries a customer of whom any are known has in a day.
func (s *sample) perDay() float64 {
	var mail, span float64
	for i := range s.histories {
		n := 0.0
		for _, e := range s.histories[i].Events {
			if e.Delivered {
				n++
			}
		}
		if n > 0 {
			mail += n
			span += float64(dayOf(s.last) - dayOf(s.histories[i].Events[0].Hour) + 1)
		}
	}
	return mail / span
}

// count goes through the histories for the rates.
func (s *sample) count(v *levels, m *timing.Model) {
	for i := range s.histories {
		r := &v.rates[i]
		*r = rate{}
		events := s.histories[i].Events
		var covered timing.Hour // until then there is mail to answer
		for _, e := range events {
			at := dayOf(e.Hour) - v.first
			switch {
			case e.Delivered:
				if !r.reported {
					r.reported, covered = true, e.Hour
				}
				if gap := e.Hour - covered; gap > 0 {
					r.free += float64(gap) / day
				}
				covered = e.Hour + timing.Response
				for k, met := range v.met[timing.HourOfWeek(e.Hour)] {
					if d := at + int64(k); d < int64(len(v.factors)) {
						r.add(v.first+d, 0, met*v.factors[d])
					}
				}
			case !r.reported: // before the first delivery that is known
			case e.Hour < covered:
				r.add(v.first+at, 1, 0)
			default:
				r.alone++
			}
		}
		if gap := s.last - covered; r.reported && gap > 0 {
			r.free += float64(gap) / day
		}
		if !r.reported && len(events) > 0 {
			for _, e := range events {
				r.add(dayOf(e.Hour), 1, 0)
			}
			for d := dayOf(events[0].Hour); d <= dayOf(events[len(events)-1].Hour); d++ {
				r.add(d, 0, m.Deliveries.PerDay*m.Weekdays[mod(d, 7)]*v.factors[d-v.first])
			}
		}
	}
}

// fit finds the prior of the rates: its mean is everybody's, and its variance the covariance of what customers do in even
// weeks with what they do in odd ones. Chance, which in a customer's days may be more or less than Poisson's (an answered
// message is not answered again), has no part in that.
func (v *levels) fit(report *Report) {
	const fewest = 20
	n, engaged, mail := 0, 0., 0.
	for i := range v.rates {
		if r := &v.rates[i]; r.weeks[0].mail > 0 && r.weeks[1].mail > 0 {
			n++
			engaged += r.engaged
			mail += r.mail
		}
	}
	if n < fewest || engaged == 0 {
		report.keep("priors.engaged_hours", fmt.Sprintf("only %d customers with mail in several weeks; %d are needed", n, fewest))
		return
	}
	mean := engaged / mail
	var covariance, squares float64
	for i := range v.rates {
		even, odd := &v.rates[i].weeks[0], &v.rates[i].weeks[1]
		covariance += (even.engaged - mean*even.mail) * (odd.engaged - mean*odd.mail)
		squares += even.mail * odd.mail
	}
	shape := 50. // customers who hardly differ
	if variance := covariance / squares; variance > 0 {
		shape = min(max(mean*mean/variance, .3), 50)
	}
	v.shape, v.mail = shape, shape/mean
}

// peak is where f, which has one peak between low and high, is largest (golden section: Kiefer, 1953).
func peak(low, high float64, f func(float64) float64) float64 {
	const golden = .6180339887498949
	a, b := high-golden*(high-low), low+golden*(high-low)
	fa, fb := f(a), f(b)
	for high-low > .01 {
		if fa > fb {
			high, b, fb = b, a, fa
			a = high - golden*(high-low)
			fa = f(a)
		} else {
			low, a, fa = a, b, fb
			b = low + golden*(high-low)
			fb = f(b)
		}
	}
	return (low + high) / 2
}

// expect counts engagements by day and lays those that rates and deliveries explain beside them.
func (s *sample) expect(v *levels, m *timing.Model) {
	v.observed, v.expected = make([]float64, len(v.factors)), make([]float64, len(v.factors))
	for i := range s.histories {
		r := &v.rates[i]
		if r.mail == 0 {
			continue
		}
		own := (v.shape + r.engaged) / (v.mail + r.mail)
		events := s.histories[i].Events
		if !r.reported {
			for d := dayOf(events[0].Hour); d <= dayOf(events[len(events)-1].Hour); d++ {
				v.expected[d-v.first] += own * m.Deliveries.PerDay * m.Weekdays[mod(d, 7)]
			}
		}
		var covered timing.Hour
		known := false
		for _, e := range events {
			at := dayOf(e.Hour) - v.first
			switch {
			case e.Delivered:
				known, covered = true, e.Hour+timing.Response
				for k, met := range v.met[timing.HourOfWeek(e.Hour)] {
					if d := at + int64(k); d < int64(len(v.expected)) {
						v.expected[d] += own * met
					}
				}
			case !r.reported || known && e.Hour < covered:
				v.observed[at]++
			}
		}
	}
}

// weekdays finds how firmly everybody's days of the week are held against a customer's own: the likeliest weight of a
// Dirichlet prior.
func (l *Learner) weekdays(m *timing.Model, report *Report) {
	const fewest, most, each = 50, 3000, 3
	type known struct {
		share [7]float64 // of engagements, as everybody's days and own mail have it
		days  [7]float64
		n     float64
	}
	var all []known
	for i := range l.customers {
		c := &l.customers[i]
		var t known
		for d, n := range c.days {
			t.days[d] = float64(n)
			t.n += float64(n)
		}
		if t.n < each {
			continue
		}
		for d := range t.share {
			if !c.reported {
				t.share[d] = m.Weekdays[d]
				continue
			}
			for after, part := range l.carry {
				at := (d + after) % 7
				t.share[at] += float64(c.sentDays[d]) * part * m.Weekdays[at]
			}
		}
		normalise(t.share[:], 1)
		if all = append(all, t); len(all) == most {
			break
		}
	}
	if len(all) < fewest {
		report.keep("priors.weekdays", "too few customers with engagements on several days")
		return
	}
	m.Priors.Weekdays = math.Exp(peak(math.Log(2), math.Log(200), func(x float64) (likelihood float64) {
		a := math.Exp(x)
		for i := range all {
			t := &all[i]
			likelihood += lgamma(a) - lgamma(a+t.n)
			for d, n := range t.days {
				if n > 0 {
					likelihood += lgamma(a*t.share[d]+n) - lgamma(a*t.share[d])
				}
			}
		}
		return likelihood
	}))
	report.Estimates["priors.weekdays"] = m.Priors.Weekdays
}

func lgamma(x float64) float64 { v, _ := math.Lgamma(x); return v }
