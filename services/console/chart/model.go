package chart

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/words"
)

// Strip draws a day's attention as 24 cells in a row, in the bins of the ratio.
func Strip(hours *[timing.Day]float64) template.HTML {
	var p pen
	p.draw(`<svg class="strip" viewBox="0 0 480 18" preserveAspectRatio="none" aria-hidden="true">`)
	for h, a := range hours {
		p.draw(`<rect class="r%d" x="%v" width="19" height="18"/>`, RatioBin(a), float64(20*h))
	}
	p.draw(`</svg>`)
	return p.html()
}

// Bars draws values beside each other from zero, in multiples of 1, which is a dotted line; names stand below those bars
// that have one.
func Bars(values []float64, names []string, label string) template.HTML {
	const w, h, x0, foot, gap = 660., 150., 26., 18., 3.
	top := 1.5
	for _, v := range values {
		top = max(top, v)
	}
	y := func(v float64) float64 { return 4 + (h-foot-4)*(1-v/top) }
	step := (w - x0) / float64(len(values))
	var p pen
	p.draw(`<svg class="fig" viewBox="0 0 %v %v" width="100%%" role="img" aria-label="%v">`, w, h, esc(label))
	for i, v := range values {
		class := "dn"
		switch {
		case v > 1.02:
			class = "up"
		case v >= .98:
			class = "on1"
		}
		x := x0 + float64(i)*step
		p.draw(`<rect class="bar %v" x="%v" y="%v" width="%v" height="%v"/>`, class, x, y(v), step-gap, max(.6, y(0)-y(v)))
		if names[i] != "" {
			p.draw(`<text class="ax" x="%v" y="%v" text-anchor="middle">%v</text>`, x+(step-gap)/2, h-4, esc(names[i]))
		}
	}
	for m := 1.; m <= top; m++ {
		class := "tick"
		if m == 1 {
			class = "one"
		}
		p.draw(`<line class="%v" x1="%v" x2="%v" y1="%v" y2="%v"/><text class="axd" x="%v" y="%v" text-anchor="end">%v×</text>`, class, x0, w-gap, y(m), y(m), x0-6, y(m)+4, m)
	}
	p.draw(`<line class="base" x1="%v" x2="%v" y1="%v" y2="%v"/></svg>`, x0, w-gap, y(0)+.5, y(0)+.5)
	return p.html()
}

// Answers draws how many of all answers to a message have come so many hours after it, with the hour by which half have.
func Answers(kernel *[timing.Response]float64, lang *words.Lang) template.HTML {
	const w, h, x0, foot = 660., 150., 38., 18.
	x := func(hours float64) float64 { return x0 + (w-x0-4)*hours/timing.Response }
	y := func(share float64) float64 { return 6 + (h-foot-6)*(1-share) }
	var p pen
	p.draw(`<svg class="fig" viewBox="0 0 %v %v" width="100%%" role="img" aria-label="%v">`, w, h, esc(lang.T("model.kernel.label")))
	for _, s := range []float64{.25, .5, .75, 1} {
		class := "tick"
		if s == .5 {
			class = "one"
		}
		p.draw(`<line class="%v" x1="%v" x2="%v" y1="%v" y2="%v"/><text class="axd" x="%v" y="%v" text-anchor="end">%v</text>`, class, x0, w-4, y(s), y(s), x0-6, y(s)+4, lang.Pct(s, 0))
	}
	for a := 0; a <= timing.Response; a += 12 {
		p.draw(`<text class="ax" x="%v" y="%v" text-anchor="middle">%d</text>`, x(float64(a)), h-4, a)
	}
	p.draw(`<polyline class="sp" points="%v,%v`, x(0), y(0))
	sum := 0.0
	for a, k := range kernel {
		sum += k
		p.draw(` %v,%v`, x(float64(a+1)), y(min(sum, 1)))
	}
	half := Half(kernel)
	p.draw(`"/><circle class="spd" cx="%v" cy="%v" r="3.5"/><line class="base" x1="%v" x2="%v" y1="%v" y2="%v"/></svg>`, x(half), y(.5), x0, w-4, y(0)+.5, y(0)+.5)
	return p.html()
}

// Half is the number of hours within which half of all answers come.
func Half(kernel *[timing.Response]float64) float64 {
	sum := 0.0
	for a, k := range kernel {
		if k > 0 && sum+k >= .5 {
			return float64(a) + (.5-sum)/k
		}
		sum += k
	}
	return timing.Response
}

// Ends of the calibration's axes, and what is drawn.
const (
	widest  = 1.
	rarest  = 1. / 2048
	fewest  = 5 // tests that must have been expected below a p for its share to be drawn
	quarter = 4 // points to a halving
)

// Calibration draws, for the tests of one kind, the share that came out below each p, on two logarithmic axes: on the
// diagonal, tests mean what they say; below it they are cautious, above it they cry wolf. tails are of that kind, a line
// for each stratum of evidence; p-values too rare for so many tests are left out.
func Calibration(tails []board.Tail, lang *words.Lang, label string) template.HTML {
	const size, x0, foot = 300., 42., 34.
	span := math.Log2(widest / rarest)
	x := func(p float64) float64 { return x0 + (size-x0-8)*math.Log2(p/rarest)/span }
	y := func(s float64) float64 { return 8 + (size-foot-8)*(1-math.Log2(s/rarest)/span) }
	var p pen
	p.draw(`<svg class="fig cal" viewBox="0 0 %v %v" width="100%%" role="img" aria-label="%v">`, size, size, esc(label))
	for _, tick := range []float64{.1, .01, .001} {
		text := lang.Pct(tick, max(0, int(math.Round(-math.Log10(tick)))-2))
		p.draw(`<line class="tick" x1="%v" x2="%v" y1="%v" y2="%v"/><text class="axd" x="%v" y="%v" text-anchor="end">%v</text>`, x0, size-8, y(tick), y(tick), x0-6, y(tick)+4, text)
		p.draw(`<line class="tick" x1="%v" x2="%v" y1="8" y2="%v"/><text class="axd" x="%v" y="%v" text-anchor="middle">%v</text>`, x(tick), x(tick), size-foot, x(tick), size-foot+14, text)
	}
	p.draw(`<line class="base" x1="%v" x2="%v" y1="%v" y2="%v"/><line class="one" x1="%v" x2="%v" y1="%v" y2="%v"/>`, x(rarest), x(widest), y(rarest), y(widest), x(timing.TwoSigma), x(timing.TwoSigma), 8., size-foot)
	p.draw(`<text class="axd" x="%v" y="%v" text-anchor="middle">2σ</text>`, x(timing.TwoSigma), size-foot+28)
	for _, t := range tails {
		i := stratum(t.Stratum)
		var line strings.Builder
		for k := 0; ; k++ {
			at := widest * math.Exp2(-float64(k)/quarter)
			below := t.Below(at)
			if at < rarest || at*float64(t.Tests) < fewest || below < rarest {
				break
			}
			fmt.Fprintf(&line, "%s,%s ", px(x(at)), px(y(below)))
		}
		if line.Len() > 0 {
			p.draw(`<polyline class="st st%d" points="%v"/>`, i, line.String())
		}
	}
	p.draw(`</svg>`)
	return p.html()
}

// Stroke is the legend of a stratum's line.
func Stroke(name string) template.HTML {
	var p pen
	p.draw(`<svg class="cal" viewBox="0 0 26 8" width="26" height="8" aria-hidden="true"><polyline class="st st%d" points="0,4 26,4"/></svg>`, stratum(name))
	return p.html()
}

func stratum(name string) int {
	for i, s := range timing.Strata {
		if s == name {
			return i
		}
	}
	return 0
}
