package calendar

import "time"

// Calendar is a set of closed days with names. The zero Calendar closes no day; None does not either, and has a name.
type Calendar struct {
	Name  string // stands in decisions as the version they were made with
	Place string // where it holds, for sentences
	rules []rule
}

// rule closes one day of every year from since on: a fixed date, or a distance from Easter Sunday.
type rule struct {
	name   string
	month  time.Month
	day    int
	easter int // days after Easter Sunday, where month is zero
	since  int // first year; 0: always
}

// None closes no day.
var None = Calendar{Name: "none"}

// Italy closes the Italian national holidays, as the laws in force in 2026 list them. San Francesco is one of them again
// from 2026 (law 151 of 8 October 2025). The other days are given for every year, although some were suspended for a
// time before 2001; patron-saint days belong to municipalities and are not here.
var Italy = Calendar{
	Name:  "IT-2026.1",
	Place: "Italy",
	rules: []rule{
		{name: "New Year's Day", month: time.January, day: 1},
		{name: "Epiphany", month: time.January, day: 6},
		{name: "Easter Sunday", easter: 0},
		{name: "Easter Monday", easter: 1},
		{name: "Liberation Day", month: time.April, day: 25},
		{name: "Labour Day", month: time.May, day: 1},
		{name: "Republic Day", month: time.June, day: 2},
		{name: "Ferragosto", month: time.August, day: 15},
		{name: "San Francesco", month: time.October, day: 4, since: 2026},
		{name: "All Saints' Day", month: time.November, day: 1},
		{name: "Immaculate Conception", month: time.December, day: 8},
		{name: "Christmas Day", month: time.December, day: 25},
		{name: "Santo Stefano", month: time.December, day: 26},
	},
}

// Closed reports whether d is a closed day, and the name of the first rule that closes it.
func (c *Calendar) Closed(d Day) (name string, closed bool) {
	for i := range c.rules {
		r := &c.rules[i]
		if d.Year < r.since {
			continue
		}
		if r.month == d.Month && r.day == d.Day {
			return r.name, true
		}
		if r.month == 0 && Easter(d.Year).Add(r.easter) == d {
			return r.name, true
		}
	}
	return "", false
}

// Easter returns the Easter Sunday of a year of the Gregorian calendar, by the anonymous computus ("To find Easter",
// Nature 13, 20 April 1876, p. 487; Meeus, Astronomical Algorithms, 2nd edition, chapter 8).
func Easter(year int) Day {
	a, b, c := year%19, year/100, year%100
	d, e := b/4, b%4
	f := (b + 8) / 25
	g := (b - f + 1) / 3
	h := (19*a + b - d - g + 15) % 30
	i, k := c/4, c%4
	l := (32 + 2*e + 2*i - h - k) % 7
	m := (a + 11*h + 22*l) / 451
	n := h + l - 7*m + 114
	return Day{year, time.Month(n / 31), n%31 + 1}
}
