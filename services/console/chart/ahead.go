package chart

import (
	"html/template"
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// Ahead draws how many fall into each local hour from a first one on: a bar for each, a line at midnight, and the number above the
// highest of each day. label says what is counted.
func Ahead(hours []int, from timing.Hour, l *words.Lang, label string, tall bool) template.HTML {
	const height, top, base = 118., 34., 98.
	width, class, every := 1016., "wide", 6
	if tall {
		width, class, every = 358, "tall", 12
	}
	step := width / float64(len(hours))
	highest := max(slices.Max(hours), 1)
	var p pen
	p.draw(`<svg class="fig ahead %v" viewBox="0 0 %v %v" width="%v" height="%v" role="img" aria-label="%v">`, class, width, height, width, height, esc(label))
	for i, n := range hours {
		x, hour := float64(i)*step, int(mod24(from+int64(i)))
		if i > 0 && hour == 0 {
			p.draw(`<line class="tick" x1="%v" x2="%v" y1="0" y2="%v"/>`, x-1, x-1, height)
		}
		if left := min(24-hour, len(hours)-i); (i == 0 || hour == 0) && float64(left)*step > 64 {
			p.draw(`<text class="ax" x="%v" y="10">%v</text>`, x+4, esc(l.Day(board.DateOf(from+int64(i)))))
		}
		if hour%every == 0 && hour > 0 {
			p.draw(`<text class="axd" x="%v" y="%v" text-anchor="middle">%v</text>`, x+step/2, height-4, say.Hour(hour))
		}
		if n == 0 {
			continue
		}
		h := max((base-top)*float64(n)/float64(highest), 1.5)
		p.draw(`<rect class="bar up" x="%v" y="%v" width="%v" height="%v"/>`, x+.5, base-h, step-min(2, step/4), h)
		if n == slices.Max(sameDay(hours, i, hour)) && first(sameDay(hours, i, hour), n) == min(i, hour) {
			p.draw(`<text class="ax" x="%v" y="%v" text-anchor="middle">%v</text>`, min(max(x+step/2, 14), width-14), base-h-5, l.Int(n))
		}
	}
	p.draw(`<line class="base" x1="0" x2="%v" y1="%v" y2="%v"/></svg>`, width, base, base)
	return p.html()
}

// sameDay are the hours of the day of the i-th, which is the given hour of it.
func sameDay(hours []int, i, hour int) []int {
	return hours[max(i-hour, 0):min(i-hour+24, len(hours))]
}

func first(hours []int, n int) int { return slices.Index(hours, n) }
