package chart

import (
	"html/template"
	"math"
	"strconv"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// Prime is the score from which a slot is a prime one.
const Prime = 80

// Scores draws the score of each hour of the week ahead, today first; what lies before now on the first row is a week
// away. now is a local hour of the customer.
func Scores(v *timing.View, now timing.Hour, lang *words.Lang, tall bool) template.HTML {
	g := scoreGrid(tall)
	var p pen
	best := say.BestHour(v, now)
	today := now - mod24(now)
	g.open(&p, lang.T("cust.scores.label"), " v-r", Place(best, now))
	p.draw(`<g class="cells">`)
	for i := range timing.Week {
		x, y := g.at(i/24, i%24)
		p.draw(`<rect class="c r%d" x="%v" y="%v" width="%v" height="%v"/>`, ScoreBin(float64(v.Scores[timing.HourOfWeek(today+int64(i))])), x, y, g.cw-g.gap, g.ch-g.gap)
	}
	p.draw(`</g>`)
	for i := range timing.Week {
		score := int(v.Scores[timing.HourOfWeek(today+int64(i))])
		if score < Prime {
			continue
		}
		x, y := g.at(i/24, i%24)
		p.draw(`<text class="zt r%d" x="%v" y="%v">%d</text>`, ScoreBin(float64(score)), x+(g.cw-g.gap)/2, y+(g.ch-g.gap)/2+4, score)
	}
	if i := Place(best, now); v.Scores[timing.HourOfWeek(best)] > 50 {
		x, y := g.at(i/24, i%24)
		p.draw(`<rect class="flag hi" x="%v" y="%v" width="%v" height="%v"/>`, x-1, y-1, g.cw-g.gap+2, g.ch-g.gap+2)
	}
	for d := range 7 {
		date := board.DateOf(today + int64(d)*24)
		name, on := lang.Weekday(int(date.Weekday()+6)%7), ""
		if d == 0 {
			on = " on"
		}
		if tall {
			x, _ := g.at(d, 0)
			x += (g.cw - g.gap) / 2
			p.draw(`<text class="ax%v" x="%v" y="12" text-anchor="middle">%v</text><text class="axd" x="%v" y="25" text-anchor="middle">%d</text>`, on, x, name, x, date.Day())
			continue
		}
		_, y := g.at(d, 0)
		p.draw(`<text class="ax%v" x="0" y="%v">%v</text><text class="axd" x="%v" y="%v" text-anchor="end">%d</text>`, on, y+21, name, g.x0-8, y+21, date.Day())
	}
	for h := range 24 {
		x, y := g.at(0, h)
		if tall {
			p.draw(`<text class="ax" x="%v" y="%v" text-anchor="end">%02d</text>`, g.x0-8, y+14, h)
		} else {
			p.draw(`<text class="ax" x="%v" y="%v" text-anchor="middle">%02d</text>`, x+(g.cw-g.gap)/2, g.y0+7*g.ch+12, h)
		}
	}
	x, y := g.at(0, int(mod24(now)))
	if tall {
		p.draw(`<line class="now" x1="%v" x2="%v" y1="%v" y2="%v"/>`, x-2, x+g.cw, y-1, y-1)
	} else {
		p.draw(`<line class="now" x1="%v" x2="%v" y1="%v" y2="%v"/>`, x-1, x-1, y-4, y+g.ch)
	}
	g.close(&p)
	return p.html()
}

func mod24(h timing.Hour) int64 { return (h%24 + 24) % 24 }

// Place is where Scores draws local hour h of the week that begins at now.
func Place(h, now timing.Hour) int {
	i := int(h - (now - mod24(now)))
	return (i%timing.Week + timing.Week) % timing.Week
}

// Clock draws the attention around the 24 hours: midnight on top, radius linear in attention from the inner ring. A habit
// that has moved is an arc outside, from a hollow mark to a full one; moved may be nil.
func Clock(v *timing.View, minute int, moved *say.Moved, lang *words.Lang) template.HTML {
	const r0, unit, cx, cy, far = 46., 31., 158., 156., 132.
	polar := func(h, r float64) (x, y float64) { return dial(cx, cy, r, h) }
	var p pen
	p.draw(`<svg class="radial" viewBox="0 0 316 316" width="316" height="316" role="img" aria-label="%v">`, esc(lang.T("cust.clock.label")))
	p.draw(`<circle class="ring" cx="158" cy="156" r="%v"/><circle class="ring" cx="158" cy="156" r="%v"/>`, r0, r0+2*unit)
	hours := say.ByHour(v)
	peak := 0
	for h, a := range hours {
		if a > hours[peak] {
			peak = h
		}
		class := "bp1"
		if a > 1 {
			class = "bp7"
		}
		r := r0 + unit*min(a, (far-r0)/unit)
		x1, y1 := polar(float64(h)+.07, r0)
		x2, y2 := polar(float64(h)+.07, r)
		x3, y3 := polar(float64(h)+.93, r)
		x4, y4 := polar(float64(h)+.93, r0)
		p.draw(`<path class="%v" d="M%v %vL%v %vA%v %v 0 0 1 %v %vL%v %vA%v %v 0 0 0 %v %vZ"/>`, class, x1, y1, x2, y2, r, r, x3, y3, x4, y4, r0, r0, x1, y1)
	}
	p.draw(`<circle class="one" cx="158" cy="156" r="%v"/>`, r0+unit)
	if moved != nil {
		p.arc(cx, cy, 137, float64(moved.From)+.5, float64(moved.To)+.5, 4.5)
	}
	for h := 0; h < 24; h += 3 {
		x, y := polar(float64(h), 146)
		p.draw(`<text x="%v" y="%v">%02d</text>`, x, y+4, h)
	}
	x1, y1 := polar(float64(minute)/60, r0)
	x2, y2 := polar(float64(minute)/60, 134)
	p.draw(`<line class="halo" x1="%v" y1="%v" x2="%v" y2="%v"/><line class="hand" x1="%v" y1="%v" x2="%v" y2="%v"/>`, x1, y1, x2, y2, x1, y1, x2, y2)
	for m := 1.; m <= 2; m++ {
		x, y := polar(4.5, r0+m*unit)
		p.draw(`<text class="axd rim" x="%v" y="%v">%v×</text>`, x, y+4, strconv.Itoa(int(m)))
	}
	p.draw(`<text class="c2" x="158" y="159">%v×</text><text class="c1" x="158" y="174">%02d–%02d</text></svg>`, lang.Num(hours[peak], 1), peak, (peak+1)%24)
	return p.html()
}

// dial is the place of an hour of the day on a clock of 24 hours, midnight on top.
func dial(cx, cy, r, h float64) (x, y float64) {
	a := 2*math.Pi*h/24 - math.Pi/2
	return cx + r*math.Cos(a), cy + r*math.Sin(a)
}

// arc draws the way of a habit around a clock, the shorter way: from a hollow mark to a full one.
func (p *pen) arc(cx, cy, r, from, to, mark float64) {
	x1, y1 := dial(cx, cy, r, from)
	x2, y2 := dial(cx, cy, r, to)
	sweep := 0
	if math.Mod(to-from+24, 24) <= 12 {
		sweep = 1
	}
	p.draw(`<path class="way" d="M%v %vA%v %v 0 0 %d %v %v"/><circle class="was" cx="%v" cy="%v" r="%v"/><circle class="is" cx="%v" cy="%v" r="%v"/>`, x1, y1, r, r, sweep, x2, y2, x1, y1, mark, x2, y2, mark)
}

// Mini is the small clock of a story: the attention by hour, and what happened as kind says. hours are zero where the
// profile is not at hand.
func Mini(hours [timing.Day]float64, kind string, moved *say.Moved) template.HTML {
	const c, r0, far, unit = 36., 10., 27., 8.
	class := "mini " + kind
	var p pen
	p.draw(`<svg class="%v" viewBox="0 0 72 72" width="72" height="72" aria-hidden="true"><circle class="ring" cx="36" cy="36" r="%v"/><circle class="ring" cx="36" cy="36" r="%v"/>`, class, r0, far)
	for h, a := range hours {
		if a == 0 {
			continue
		}
		bin := "bp1"
		if a > 1 {
			bin = "bp7"
		}
		r := r0 + min(unit*a, far-r0)
		x1, y1 := dial(c, c, r0, float64(h)+.08)
		x2, y2 := dial(c, c, r, float64(h)+.08)
		x3, y3 := dial(c, c, r, float64(h)+.92)
		x4, y4 := dial(c, c, r0, float64(h)+.92)
		p.draw(`<path class="%v" d="M%v %vL%v %vA%v %v 0 0 1 %v %vL%v %vA%v %v 0 0 0 %v %vZ"/>`, bin, x1, y1, x2, y2, r, r, x3, y3, x4, y4, r0, r0, x1, y1)
	}
	if moved != nil {
		p.arc(c, c, 31, float64(moved.From)+.5, float64(moved.To)+.5, 3)
	}
	p.draw(`</svg>`)
	return p.html()
}
