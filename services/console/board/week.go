package board

import (
	"math"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Floor is the evidence floor of a cell, in expected engaged hours: below it the ratio's standard error is more than a
// third, and the cell is drawn small.
const Floor = 10

// Flagged is the |z| from which a cell is framed, Heavy that of the heavy frame.
const (
	Flagged = 2.0
	Heavy   = 3.0
)

// Filter says what a week counts. Empty fields take everything.
type Filter struct {
	Channel string
	Segment string
	Unnamed bool // only customers without a segment; goes before Segment
}

func (f Filter) takes(k Key) bool {
	if f.Channel != "" && f.Channel != k.Channel {
		return false
	}
	if f.Unnamed {
		return k.Segment == ""
	}
	return f.Segment == "" || f.Segment == k.Segment
}

// Sum is what was counted in some hours.
type Sum struct {
	Delivered float64 `json:"delivered"`
	Engaged   float64 `json:"engaged"`
	Expected  float64 `json:"expected"` // from when mail was sent, as if every hour were like every other
	Model     float64 `json:"model"`    // the same with each customer's own attention
}

// Ratio is engaged over expected; not a number where nothing was expected.
func (s Sum) Ratio() float64 {
	if s.Expected <= 0 {
		return math.NaN()
	}
	return s.Engaged / s.Expected
}

func (s *Sum) add(o Sum) {
	s.Delivered += o.Delivered
	s.Engaged += o.Engaged
	s.Expected += o.Expected
	s.Model += o.Model
}

// Cell is one hour of the last seven days.
type Cell struct {
	Sum
	Hour    timing.Hour `json:"hour"`
	Z       float64     `json:"z"`       // how far off the model, in units of its usual misfit; 0 where it is not said
	Weak    bool        `json:"weak"`    // little mail in reach
	Filling bool        `json:"filling"` // not over yet
}

// Flag is 0, 1 beyond Flagged or 2 beyond Heavy.
func (c *Cell) Flag() int {
	switch z := math.Abs(c.Z); {
	case z >= Heavy:
		return 2
	case z > Flagged:
		return 1
	}
	return 0
}

// Week is the last seven days by hour of the week, Monday first.
type Week struct {
	Cells [timing.Week]Cell
	Days  [7]Sum  // by weekday
	Hours [24]Sum // by hour of the day
	All   Sum
	Now   timing.Hour // the hour of the clock in the board's zone, 0 before the first record; the cells after it in their row are last week's
	Flags int
	Best  int     // first of the three hours of the day with the highest ratio; -1: not known yet
	Peak  float64 // their ratio
	Flat  bool    // the three do not stand out
}

// Week sums the last seven days. Expectations are scaled to what was engaged in all, so that a ratio of 1 is the average
// hour and a cell is compared with the shape that the model expects, not with its level.
func (b *Board) Week(f Filter) Week {
	if b.clock.IsZero() {
		return Week{Best: -1}
	}
	now, _ := calendar.LocalHour(b.clock, b.zone)
	w := Week{Now: now, Best: -1}
	first := now - timing.Week + 1
	for h := first; h <= now; h++ {
		c := &w.Cells[timing.HourOfWeek(h)]
		c.Hour = h
		for _, k := range b.keys {
			if s := &b.series[k][uint64(h)%hours]; s.hour == h && f.takes(k) {
				c.add(Sum{s.delivered, s.engaged, s.expected, s.model})
			}
		}
		w.All.add(c.Sum)
	}
	w.scale()
	for i := range w.Cells {
		c := &w.Cells[i]
		w.Days[i/24].add(c.Sum)
		w.Hours[i%24].add(c.Sum)
		c.Filling = c.Hour >= now-1 // digests close by the hour in a simulated run
		c.Weak = c.Expected < Floor
	}
	w.judge()
	w.find()
	return w
}

func (w *Week) scale() {
	e, m := 0.0, 0.0
	if w.All.Expected > 0 {
		e = w.All.Engaged / w.All.Expected
	}
	if w.All.Model > 0 {
		m = w.All.Engaged / w.All.Model
	}
	for i := range w.Cells {
		w.Cells[i].Expected *= e
		w.Cells[i].Model *= m
	}
	w.All.Expected *= e
	w.All.Model *= m
}

// judge compares each cell with the model by the variance-stabilising transform of Anscombe (Biometrika 35, 1948), under
// which a Poisson count has variance 1, and divides by the median absolute deviation of this week's cells where it is
// above the normal one: customers are not Poisson and the model is not the truth, so what is unusual is measured against
// what is usual here (an empirical null: Efron, JASA 99, 2004). Chance alone then gives about 4.55 % of the cells.
func (w *Week) judge() {
	var zs []float64
	root := func(v float64) float64 { return 2 * math.Sqrt(v+3./8) }
	for i := range w.Cells {
		if c := &w.Cells[i]; !c.Filling && c.Model >= 5 {
			c.Z = root(c.Engaged) - root(c.Model)
			zs = append(zs, math.Abs(c.Z))
		}
	}
	if len(zs) < 24 {
		for i := range w.Cells {
			w.Cells[i].Z = 0 // too few cells to know what is usual
		}
		return
	}
	slices.Sort(zs)
	// The median of |z| of a standard normal is 0.6745.
	usual := max(1, zs[len(zs)/2]/0.6745)
	for i := range w.Cells {
		c := &w.Cells[i]
		c.Z = max(-6, min(6, c.Z/usual))
		if c.Flag() > 0 {
			w.Flags++
		}
	}
}

// find looks for the three hours of the day with the highest ratio, by its lower bound of two standard errors, so that
// a few nightly reactions to hardly any exposure do not make the headline.
func (w *Week) find() {
	if w.All.Engaged < 50 {
		return
	}
	best := 0.0
	for h := range 24 {
		var s Sum
		for i := range 3 {
			s.add(w.Hours[(h+i)%24])
		}
		if s.Expected < 3*Floor {
			continue
		}
		if low := (s.Engaged - 2*math.Sqrt(s.Engaged)) / s.Expected; low > best {
			best, w.Best, w.Peak = low, h, s.Ratio()
		}
	}
	w.Flat = best <= 1
}

// DateOf is midnight of the day of a local hour, as a UTC time that shows the wall clock's date.
func DateOf(h timing.Hour) time.Time { return time.Unix(h*3600+4*24*3600, 0).UTC() }
