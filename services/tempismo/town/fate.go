package town

import (
	"math"
	"slices"
	"time"

	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// episode is something that happens to a person.
type episode struct {
	kind     string
	from, to int64  // unix milliseconds; to is forever where it does not end
	hours    int    // of a shift
	habit    *habit // of a shift
}

const forever = math.MaxInt64

// holds reports whether any of a span lies in the episode.
func (e *episode) holds(from, to int64) bool { return from < e.to && to > e.from }

func (e *episode) told() truth.Episode {
	t := truth.Episode{Kind: e.kind, Hours: e.hours, Span: truth.Span{From: time.UnixMilli(e.from).UTC()}}
	if e.to != forever {
		t.To = time.UnixMilli(e.to).UTC()
	}
	return t
}

// happens adds an episode. They stay in order of their beginning.
func (p *person) happens(e episode) {
	i := len(p.episodes)
	for i > 0 && p.episodes[i-1].from > e.from {
		i--
	}
	p.episodes = slices.Insert(p.episodes, i, e)
}

// The ways to begin an episode. Days are counted from the town's first.

func (p *person) bursts(from time.Time) {
	p.happens(episode{kind: truth.Burst, from: from.UnixMilli(), to: from.Add(48 * time.Hour).UnixMilli()})
}

// silent is for good where days is 0.
func (p *person) silent(from, days int) {
	e := episode{kind: truth.Silent, from: p.midnight(from).UnixMilli(), to: forever}
	if days > 0 {
		e.to = p.midnight(from + days).UnixMilli()
		p.happens(e)
		p.happens(episode{kind: truth.Back, from: e.to, to: p.midnight(from + days + 14).UnixMilli()})
		return
	}
	p.happens(e)
}

func (p *person) away(from, days int) {
	p.happens(episode{kind: truth.Holiday, from: p.midnight(from).UnixMilli(), to: p.midnight(from + days).UnixMilli()})
}

// shifts gives the person another habit or, where hours are given, the same one at another time of the day.
func (p *person) shifts(from, hours int) {
	e := episode{kind: truth.Shift, from: p.midnight(from).UnixMilli(), to: forever}
	if hours == 0 {
		e.habit = take(p.rnd)
	} else {
		e.habit, e.hours = p.latest.moved(hours)
	}
	p.latest = e.habit
	p.happens(e)
}

// Lengths in days: a habit that moves is old news, and a customer is known, that long before a test begins.
const settled = 56

// plan is the fate of a person in an experiment.
func (p *person) plan(quiet, end int) {
	r := p.rnd
	// What happens in the quiet time, to anybody.
	habits, late, leaves := r.Float64(), r.Float64(), r.Float64()
	when, holiday := r.Float64(), r.Float64()
	if free := quiet - settled - 28; habits < .2 && free > 0 {
		p.shifts(28+int(when*float64(free)), 0)
	}
	if free := quiet - settled - 7; late < .05 && free > 0 {
		p.since = p.midnight(7 + int(when*float64(free))).UnixMilli()
	}
	if free := quiet - 42; holiday < .5 && free > 0 {
		p.vacation(14, free)
	}
	p.null = r.Float64() < .5
	if leaves < .02 && quiet > settled {
		p.leaves, p.null = 14+int(when*float64(quiet-14)), true
	}
	if p.null {
		return
	}
	// What happens in the test. Days are from the first whole one on; what takes time to be noticed begins early.
	window, first := end-quiet-1, quiet+1
	within := func(last int) int { return first + r.IntN(max(1, last)) }
	instant := func(last int) time.Time {
		return p.midnight(within(last)).Add(time.Duration(r.IntN(24)) * time.Hour)
	}
	switch u := r.Float64(); {
	case u < .25:
		p.bursts(instant(window - 3))
	case u < .5:
		p.silent(within(window/4), 0)
	case u < .75:
		p.shifts(within(window/3), 8)
	case u < .75+.25/3:
		p.silent(within(window/4), 21+r.IntN(14))
	case u < .75+.5/3:
		p.away(within(window*2/3), 7+r.IntN(14))
	default:
		p.bursts(instant(window/2 - 3))
		p.bursts(instant(window/2-3).AddDate(0, 0, window/2))
	}
}

// vacation plans a holiday of one or two weeks that begins within so many days, more likely when everybody goes.
func (p *person) vacation(from, within int) {
	at := from + p.rnd.IntN(within)
	for range 3 {
		if p.town.almanac.day(p.place, at).season < .9 {
			break
		}
		at = from + p.rnd.IntN(within)
	}
	p.away(at, 7+p.rnd.IntN(8))
}

// chance begins an episode on a day of a town without a plan. The first month is for getting to know each other.
func (p *person) chance() {
	if p.day < 30 || p.gone || slices.ContainsFunc(p.episodes, func(e episode) bool { return e.kind != truth.Shift && e.to > p.until }) {
		return
	}
	r := p.rnd
	switch u := r.Float64(); {
	case u < .0030:
		p.bursts(p.midnight(p.day).Add(time.Duration(r.IntN(24)) * time.Hour))
	case u < .0045:
		days := 25 + r.IntN(50)
		if r.Float64() < .3 {
			days = 0
		}
		p.silent(p.day, days)
	case u < .0055:
		p.shifts(p.day, 8*r.IntN(2))
	case u < .0057:
		p.leaves = p.day
	case u < .0072:
		p.away(p.day, 7+r.IntN(8))
	}
}

// Stories are residents whose ids tell what happens to them. They read more than others, and on
// one day as on another, so that little is left to chance.
var Stories = [...]string{"anna-moves-by-8-hours", "bruno-falls-silent", "carla-comes-back", "dario-bursts"}

// story is the fate of a resident: so near to the given day that on it the services have just noticed, or are about to.
func (p *person) story(i, told int) {
	switch i {
	case 0:
		p.shifts(told-12, 8)
	case 1:
		p.silent(told-12, 0)
	case 2:
		p.silent(told-45, 42)
	case 3:
		p.bursts(p.midnight(told - 2).Add(12 * time.Hour))
	}
}
