package chart

import (
	"html/template"
	"math"
	"strconv"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/words"
)

// grid is the geometry of a map of 7 days by 24 hours. The same 168 cells are drawn twice, with days as rows and, for
// narrow screens, transposed; the style sheet shows one of them.
type grid struct {
	tall           bool
	cw, ch, x0, y0 float64
	gap            float64
	w, h           float64
}

func (g grid) at(day, hour int) (x, y float64) {
	if g.tall {
		return g.x0 + float64(day)*g.cw, g.y0 + float64(hour)*g.ch
	}
	return g.x0 + float64(hour)*g.cw, g.y0 + float64(day)*g.ch
}

func weekGrid(tall bool) grid {
	if tall {
		return grid{tall: true, cw: 46, ch: 22, x0: 34, y0: 62, gap: 3, w: 358, h: 62 + 24*22 + 6}
	}
	return grid{cw: 36, ch: 41, x0: 52, y0: 70, gap: 3, w: 52 + 24*36 + 100, h: 70 + 7*41 + 22}
}

func scoreGrid(tall bool) grid {
	if tall {
		return grid{tall: true, cw: 46, ch: 22, x0: 34, y0: 34, gap: 2, w: 358, h: 34 + 24*22 + 4}
	}
	return grid{cw: 38, ch: 37, x0: 52, y0: 8, gap: 2, w: 52 + 24*38, h: 8 + 7*37 + 20}
}

// open begins a map: one tab stop whose cursor the page's script moves, by the geometry in data-g.
func (g grid) open(p *pen, label, class string, at int) {
	kind := "wide"
	if g.tall {
		kind = "tall"
	}
	p.draw(`<svg class="hm %v%v" viewBox="0 0 %v %v" width="100%%" role="img" tabindex="0" aria-label="%v" aria-describedby="read" data-at="%d" data-g="%v %v %v %v">`,
		kind, class, g.w, g.h, esc(label), at, g.x0, g.y0, g.cw, g.ch)
}

func (g grid) close(p *pen) {
	p.draw(`<rect class="cur" x="-99" y="-99" width="%v" height="%v"/></svg>`, g.cw-g.gap+2, g.ch-g.gap+2)
}

// Week is a drawing of the last seven days.
type Week struct {
	board.Week
	lang           *words.Lang
	engaged, deliv []float64 // edges
}

// NewWeek prepares the drawing.
func NewWeek(w board.Week, lang *words.Lang) *Week {
	var e, d float64
	for i := range w.Cells {
		e, d = max(e, w.Cells[i].Engaged), max(d, w.Cells[i].Delivered)
	}
	return &Week{w, lang, countEdges(e), countEdges(d)}
}

// Class names the bins of a cell, and its state: w for little mail in reach, f for flagged.
func (w *Week) Class(i int) string {
	c := &w.Cells[i]
	s := "c " + w.bins(c)
	switch {
	case c.Flag() > 0:
		s += " f"
	case c.Weak:
		s += " w"
	}
	return s
}

func (w *Week) bins(c *board.Cell) string {
	return "r" + strconv.Itoa(RatioBin(c.Ratio())) + " e" + strconv.Itoa(bin(c.Engaged, w.engaged)) + " d" + strconv.Itoa(bin(c.Delivered, w.deliv))
}

// Furthest is the cell to read first: the one furthest off the model, or else the highest ratio with evidence.
func (w *Week) Furthest() int {
	best, at := 0.0, timing.HourOfWeek(w.Now)
	for i := range w.Cells {
		if z := math.Abs(w.Cells[i].Z); z > best && z > board.Flagged {
			best, at = z, i
		}
	}
	if best > 0 {
		return at
	}
	for i := range w.Cells {
		if c := &w.Cells[i]; !c.Weak && !c.Filling && c.Ratio() > best {
			best, at = c.Ratio(), i
		}
	}
	return at
}

// SVG draws the whole map. Its margins and flags are groups of their own, which a live page replaces.
func (w *Week) SVG(tall bool) template.HTML {
	g := weekGrid(tall)
	var p pen
	g.open(&p, w.lang.T("map.label"), "", w.Furthest())
	id := "w"
	if tall {
		id = "t"
	}
	p.draw(`<g id="margins-%v">%v</g><g class="cells">`, id, w.Margins(tall))
	for i := range w.Cells {
		x, y := g.at(i/24, i%24)
		p.draw(`<rect class="%v" x="%v" y="%v" width="%v" height="%v"/>`, w.Class(i), x, y, g.cw-g.gap, g.ch-g.gap)
	}
	p.draw(`</g><g id="flags-%v">%v</g>`, id, w.Flags(tall))
	g.close(&p)
	return p.html()
}

// Flags draws the frames of the flagged cells and the seam at which last week begins.
func (w *Week) Flags(tall bool) template.HTML {
	g := weekGrid(tall)
	var p pen
	for i := range w.Cells {
		c := &w.Cells[i]
		if c.Flag() == 0 {
			continue
		}
		x, y := g.at(i/24, i%24)
		heavy := ""
		if c.Flag() == 2 {
			heavy = " hi"
		}
		p.draw(`<rect class="flag%v" x="%v" y="%v" width="%v" height="%v"/><text class="zt %v" x="%v" y="%v">%v</text>`, heavy, x-.5, y-.5, g.cw-g.gap+1, g.ch-g.gap+1,
			w.bins(c), x+(g.cw-g.gap)/2, y+(g.ch-g.gap)/2+4, w.lang.Signed(c.Z, 1))
	}
	if w.Now > 0 {
		at := timing.HourOfWeek(w.Now)
		x, y := g.at(at/24, at%24)
		if tall {
			p.draw(`<line class="now" x1="%v" x2="%v" y1="%v" y2="%v"/>`, x-2, x+g.cw-2, y+g.ch-1.5, y+g.ch-1.5)
		} else {
			p.draw(`<line class="now" x1="%v" x2="%v" y1="%v" y2="%v"/>`, x+g.cw-1.5, x+g.cw-1.5, y-3, y+g.ch)
		}
	}
	return p.html()
}

// Margins draws the bars of days and hours for each of the three views, from zero, and the names on the axes.
func (w *Week) Margins(tall bool) template.HTML {
	g := weekGrid(tall)
	var p pen
	views := []struct {
		class string
		of    func(board.Sum) float64
	}{
		{"mr", board.Sum.Ratio},
		{"me", func(s board.Sum) float64 { return s.Engaged }},
		{"md", func(s board.Sum) float64 { return s.Delivered }},
	}
	bars := func(sums []board.Sum, across bool, base, size float64, labels bool) {
		for _, v := range views {
			p.draw(`<g class="m %v">`, v.class)
			highest := 0.0
			for _, s := range sums {
				if x := v.of(s); x > highest {
					highest = x
				}
			}
			top := highest
			if v.class == "mr" {
				top = max(2, highest)
			}
			for i, s := range sums {
				value := v.of(s)
				length, kind := 0.6, "sq"
				if top > 0 && !math.IsNaN(value) {
					length = max(.6, size*value/top)
				}
				if v.class == "mr" {
					switch {
					case value > 1.02:
						kind = "up"
					case value < .98:
						kind = "dn"
					default:
						kind = "on1"
					}
				}
				if across {
					x, _ := g.at(0, i)
					if tall {
						x, _ = g.at(i, 0)
					}
					p.draw(`<rect class="bar %v" x="%v" y="%v" width="%v" height="%v"/>`, kind, x+5, base+size-length, g.cw-13, length)
					continue
				}
				_, y := g.at(i, 0)
				p.draw(`<rect class="bar %v" x="%v" y="%v" width="%v" height="9"/>`, kind, base, y+g.ch/2-6, length)
				if labels {
					text := w.lang.Compact(value)
					if v.class == "mr" {
						text = w.lang.Num(value, 2)
					}
					p.draw(`<text class="ax" x="%v" y="%v" text-anchor="end">%v</text>`, base+90, y+g.ch/2+3, text)
				}
			}
			if v.class == "mr" {
				one := size / top
				if across {
					x, _ := g.at(0, 0)
					end := g.x0 + 24*g.cw - g.gap
					if tall {
						end = g.x0 + 7*g.cw - g.gap
					}
					p.draw(`<line class="one" x1="%v" x2="%v" y1="%v" y2="%v"/><text class="axd" x="%v" y="%v" text-anchor="end">1×</text>`, x, end, base+size-one, base+size-one, x-8, base+size-one+4)
				} else {
					p.draw(`<line class="one" x1="%v" x2="%v" y1="%v" y2="%v"/><text class="axd" x="%v" y="%v" text-anchor="middle">1×</text>`, base+one, base+one, g.y0-4, g.y0+7*g.ch-g.gap, base+one, g.y0-9)
				}
			}
			p.draw(`</g>`)
		}
	}
	now := timing.HourOfWeek(w.Now)
	on := func(yes bool) string {
		if yes && w.Now > 0 {
			return " on"
		}
		return ""
	}
	date := func(day int) string {
		if w.Now == 0 {
			return ""
		}
		h := w.Cells[day*24].Hour
		return strconv.Itoa(board.DateOf(h).Day())
	}
	if tall {
		bars(w.Days[:], true, 4, 26, false)
		p.draw(`<line class="base" x1="%v" x2="%v" y1="30.5" y2="30.5"/>`, g.x0, g.x0+7*g.cw-g.gap)
		for d := range 7 {
			x, _ := g.at(d, 0)
			x += (g.cw - g.gap) / 2
			p.draw(`<text class="ax%v" x="%v" y="46" text-anchor="middle">%v</text><text class="axd" x="%v" y="58" text-anchor="middle">%v</text>`, on(d == now/24), x, w.lang.Weekday(d), x, date(d))
		}
		for h := range 24 {
			_, y := g.at(0, h)
			p.draw(`<text class="ax%v" x="%v" y="%v" text-anchor="end">%02d</text>`, on(h == now%24), g.x0-8, y+14, h)
		}
		return p.html()
	}
	bars(w.Hours[:], true, 6, 54, false)
	p.draw(`<line class="base" x1="%v" x2="%v" y1="60.5" y2="60.5"/>`, g.x0, g.x0+24*g.cw-g.gap)
	x := g.x0 + 24*g.cw + 10
	bars(w.Days[:], false, x, 52, true)
	p.draw(`<line class="base" x1="%v" x2="%v" y1="%v" y2="%v"/>`, x-.5, x-.5, g.y0, g.y0+7*g.ch-g.gap)
	for h := range 24 {
		x, _ := g.at(0, h)
		p.draw(`<text class="ax%v" x="%v" y="%v" text-anchor="middle">%02d</text>`, on(h == now%24), x+(g.cw-g.gap)/2, g.y0+7*g.ch+13, h)
	}
	for d := range 7 {
		_, y := g.at(d, 0)
		p.draw(`<text class="ax%v" x="0" y="%v">%v</text><text class="axd" x="%v" y="%v" text-anchor="end">%v</text>`, on(d == now/24), y+23, w.lang.Weekday(d), g.x0-8, y+23, date(d))
	}
	return p.html()
}
