// Package chart draws the console's pictures as SVG on the server: the week, the score map, the clock, the lines of the
// figures, and the small marks of the feeds.
//
// A drawing carries bin classes (r0..r8 for the ratio, e0..e6 and d0..d6 for counts) and no colour: the style sheet gives
// those, so that dark mode and the view toggle need no new drawing. Whatever is drawn stands in a table as well; that is
// the page's part. Nothing here decides what a number means.
package chart

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// pen collects the elements of one drawing.
type pen struct{ strings.Builder }

// draw writes one element; floats are cut to a tenth of a pixel, strings must be escaped where they are not ours.
func (p *pen) draw(format string, args ...any) {
	for i, a := range args {
		if v, ok := a.(float64); ok {
			args[i] = px(v)
		}
	}
	fmt.Fprintf(p, format, args...)
}

func (p *pen) html() template.HTML { return template.HTML(p.String()) }

func px(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}

func esc(s string) string { return html.EscapeString(s) }

// bin counts the edges that v reaches.
func bin(v float64, edges []float64) int {
	n := 0
	for _, e := range edges {
		if v >= e {
			n++
		}
	}
	return n
}

var ratioEdges = func() []float64 {
	var e []float64
	for _, x := range []float64{-1.25, -.8, -.4, -.13, .13, .4, .8, 1.25} {
		e = append(e, math.Exp2(x))
	}
	return e
}()

var scoreEdges = []float64{8, 20, 32, 44, 56, 68, 80, 92}

// RatioBin is the diverging bin, 0 to 8, of a ratio; the middle one where there is none.
func RatioBin(v float64) int {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 4
	}
	return bin(v, ratioEdges)
}

// ScoreBin is the diverging bin of a score from 0 to 100; the two highest begin at the prime threshold, 80.
func ScoreBin(v float64) int { return bin(v, scoreEdges) }

// countEdges are the six edges of a count's seven bins: fixed shares of the next round number above the highest, so that
// they stay put while a week fills.
func countEdges(highest float64) []float64 {
	top := 10.0
	for step := 0; top < highest; step++ {
		top *= []float64{2, 2.5, 2}[step%3]
	}
	var e []float64
	for _, s := range []float64{.04, .12, .22, .36, .52, .72} {
		e = append(e, math.Ceil(s*top))
	}
	return e
}

// Line draws a series with its band and a dashed reference line; points that are not known leave a gap.
type Line struct {
	Values, Low, High []float64 // NaN where nothing is known; Low and High may be nil
	Ref               float64   // NaN: none
	W, H              float64
	Zero              bool // the axis begins at zero
	Label             string
}

// SVG draws the line.
func (l Line) SVG() template.HTML {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, vs := range [][]float64{l.Values, l.Low, l.High, {l.Ref}} {
		for _, v := range vs {
			if !math.IsNaN(v) {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
	}
	if l.Zero {
		lo = min(lo, 0)
	}
	if hi <= lo || math.IsInf(lo, 0) {
		lo, hi = lo-1, lo+1
	}
	x := func(i int) float64 { return 1 + float64(i)*(l.W-6)/float64(max(1, len(l.Values)-1)) }
	y := func(v float64) float64 { return 2 + (l.H-4)*(1-(v-lo)/(hi-lo)) }
	var p pen
	aria := `aria-hidden="true"`
	if l.Label != "" {
		aria = `role="img" aria-label="` + esc(l.Label) + `"`
	}
	p.draw(`<svg viewBox="0 0 %v %v" width="%v" height="%v" %v>`, l.W, l.H, l.W, l.H, aria)
	if !math.IsInf(lo, 0) {
		for from := 0; from < len(l.Values); from++ {
			if math.IsNaN(l.Values[from]) {
				continue
			}
			to := from
			for to+1 < len(l.Values) && !math.IsNaN(l.Values[to+1]) {
				to++
			}
			if l.Low != nil && to > from {
				p.draw(`<polygon class="spb" points="`)
				for i := from; i <= to; i++ {
					p.draw("%v,%v ", x(i), y(l.High[i]))
				}
				for i := to; i >= from; i-- {
					p.draw("%v,%v ", x(i), y(l.Low[i]))
				}
				p.draw(`"/>`)
			}
			p.draw(`<polyline class="sp" points="`)
			for i := from; i <= to; i++ {
				p.draw("%v,%v ", x(i), y(l.Values[i]))
			}
			p.draw(`"/>`)
			from = to
		}
		if !math.IsNaN(l.Ref) {
			p.draw(`<line class="sph" x1="1" x2="%v" y1="%v" y2="%v"/>`, l.W-5, y(l.Ref), y(l.Ref))
		}
		if n := len(l.Values); n > 0 && !math.IsNaN(l.Values[n-1]) {
			p.draw(`<circle class="spd" cx="%v" cy="%v" r="2.6"/>`, x(n-1), y(l.Values[n-1]))
		}
	}
	p.draw(`</svg>`)
	return p.html()
}

// Meter is a 56 px rule with the threshold marked: |z| on 0..6, a score on 0..100.
func Meter(v, top, tick float64) template.HTML {
	var p pen
	class := "qf"
	if math.Abs(v) < tick {
		class = "qf lo"
	}
	p.draw(`<svg viewBox="0 0 56 8" width="56" height="8" aria-hidden="true"><rect class="qb" y="3" width="56" height="3"/><rect class="%v" y="3" width="%v" height="3"/><line class="qt" x1="%v" x2="%v" y1="1" y2="8"/></svg>`,
		class, max(1, 56*min(math.Abs(v), top)/top), 56*tick/top, 56*tick/top)
	return p.html()
}

// glyphs draw each kind as the pattern that it names.
var glyphs = map[string]string{
	"burst":        `<path class="g" d="M1 13.5h14"/><path d="M2.5 13v-1.5M5.5 13v-2M8.5 13V2.5M11.5 13V5M13.8 13v-2"/>`,
	"timing":       `<path class="g" d="M1 13.5h14"/><path d="M2 13c1.6 0 2-7 3.6-7s2 7 3.6 7"/><circle class="s" cx="13" cy="7" r="2.1"/>`,
	"drift":        `<path class="g" d="M1 13.5h14M1.5 12.5c1.6 0 1.8-8 3.3-8s1.7 8 3.3 8"/><path d="M7.5 12.5c1.6 0 1.8-9.5 3.3-9.5s1.7 9.5 3.3 9.5"/>`,
	"silence":      `<path class="g" d="M1 13.5h14"/><path d="M2 13V7M4.5 13V5M7 13V8"/><path class="g" d="M10 13v-1.2M12.2 13v-1.2M14.4 13v-1.2"/>`,
	"reactivation": `<path class="g" d="M1 13.5h14"/><path d="M1.8 13V8"/><path class="g" d="M4.2 13v-1.2M6.5 13v-1.2M8.8 13v-1.2"/><path d="M11.4 13V5M14 13V2.5"/>`,
	"send_now":     `<circle class="s" cx="8" cy="8" r="6.6"/><path class="n" d="M5.2 8h5.2M8.2 5.6 10.6 8l-2.4 2.4"/>`,
	"wait":         `<circle cx="8" cy="8" r="6"/><path d="M8 4.6V8l2.4 1.6"/>`,
	"held_out":     `<circle cx="8" cy="8" r="6"/><path class="s" d="M8 2a6 6 0 0 1 0 12z"/>`,
	"expired":      `<circle cx="8" cy="8" r="6" stroke-dasharray="2.2 2.4"/><path d="M5.4 8h5.2"/>`,
	"blocked":      `<circle cx="8" cy="8" r="6"/><path d="M3.9 12.1 12.1 3.9"/>`,
	"cancelled":    `<path d="M4 4l8 8M12 4l-8 8"/>`,
}

// Glyph is the 16 px mark of a kind of deviation or decision; the word always stands beside it.
func Glyph(kind string) template.HTML {
	return template.HTML(`<svg class="gl" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">` + glyphs[kind] + `</svg>`)
}

// Swatches draws the legend of n bins of a class.
func Swatches(class string, n int) template.HTML {
	var p pen
	p.draw(`<svg viewBox="0 0 %d 12" width="%d" height="12" aria-hidden="true">`, n*20, n*20)
	for i := range n {
		p.draw(`<rect class="%v%d" x="%d" width="19" height="12"/>`, class, i, i*20)
	}
	p.draw(`</svg>`)
	return p.html()
}
