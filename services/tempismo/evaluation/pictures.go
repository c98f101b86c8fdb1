package evaluation

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Picture is a picture of a report, as SVG and for a terminal.
type Picture struct {
	Name string // of a file, without its ending
	SVG  string
	Text string
}

// curve is how often p was met below each of a row of bounds.
type curve struct {
	name   string
	n      float64
	shares []float64 // by bound of nominals
	p      []float64 // at the bounds of bins, from small to large
	met    []float64 // share of tests at or below
}

// nominals are the tails that are put down in numbers.
var nominals = [...]float64{.2, .1, .05, timing.TwoSigma, .01, .001}

// curves turns a histogram of p by stratum into curves, of strata in which two sigma can be looked for.
func curves(tails *[strata][timing.TailBins]uint32) (list []curve) {
	if tails == nil {
		return nil
	}
	for st := range tails {
		c := curve{name: timing.Strata[st]}
		for _, k := range tails[st] {
			c.n += float64(k)
		}
		if c.n < rare {
			continue
		}
		below := 0.
		for i := timing.TailBins - 1; i >= 0; i-- {
			if k := tails[st][i]; k > 0 || below > 0 {
				below += float64(k)
				_, high := timing.TailBounds(i)
				c.p, c.met = append(c.p, high), append(c.met, below/c.n)
			}
		}
		for _, nominal := range nominals {
			c.shares = append(c.shares, c.at(nominal))
		}
		list = append(list, c)
	}
	return list
}

// at is the share of p at or below x, along straight lines of the logarithms.
func (c *curve) at(x float64) float64 {
	for i, p := range c.p {
		if p < x {
			continue
		}
		if i == 0 {
			return c.met[0] * x / p
		}
		w := math.Log(x/c.p[i-1]) / math.Log(p/c.p[i-1])
		return math.Exp((1-w)*math.Log(c.met[i-1]) + w*math.Log(c.met[i]))
	}
	return 1
}

// kinds are the tests whose calibration is drawn, and what is written above.
var kinds = [...]struct{ name, title string }{
	{timing.Burst, "burst: engaged hours of a day"},
	{timing.Timing, "timing: hour of an answer"},
	{timing.Silence, "silence: mail days left unread"},
	{"hour", "hour of the next sitting"},
}

// calibration is nominal against observed tails, by kind and stratum.
func calibration(tails map[string]*[strata][timing.TailBins]uint32) *Picture {
	var text strings.Builder
	text.WriteString("Calibration: how often a randomised p is met where nothing happens, in %\n")
	const size, gap, left, top = 240., 66., 48., 76.
	s := newSketch(left+2*size+gap+24, top+2*size+gap+50)
	s.title("Calibration: tails expected and observed", "customers to whom nothing happens, by engaged hours of evidence; on the line, two sigma means two sigma")
	any := false
	for i, kind := range kinds {
		list := curves(tails[kind.name])
		if len(list) == 0 {
			continue
		}
		any = true
		fmt.Fprintf(&text, "\n  %-32s", kind.title)
		for _, nominal := range nominals {
			fmt.Fprintf(&text, "%8s", strconv.FormatFloat(100*nominal, 'g', 3, 64))
		}
		x0, y0 := left+float64(i%2)*(size+gap), top+float64(i/2)*(size+gap)
		scale := func(p float64) float64 { return size * (3 + math.Log10(max(p, 1e-3))) / 3 }
		s.text(x0, y0-10, "h", kind.title)
		for _, tick := range []float64{.001, .01, .1, 1} {
			at := scale(tick)
			s.line(x0+at, y0, x0+at, y0+size, "grid")
			s.line(x0, y0+size-at, x0+size, y0+size-at, "grid")
			label := strconv.FormatFloat(100*tick, 'g', 3, 64) + " %"
			s.text(x0+at, y0+size+15, "m", label)
			s.text(x0-6, y0+size-at+4, "e", label)
		}
		s.line(x0, y0+size, x0+size, y0, "diagonal")
		two := scale(timing.TwoSigma)
		s.line(x0+two, y0, x0+two, y0+size, "sigma")
		s.text(x0+two+4, y0+size-6, "s", "two sigma")
		for k, c := range list {
			var path strings.Builder
			for j, p := range c.p {
				if p < 1e-3 {
					continue
				}
				if path.Len() == 0 {
					fmt.Fprintf(&path, "M%s %s", px(x0+scale(p)), px(y0+size-scale(c.met[j])))
					continue
				}
				fmt.Fprintf(&path, "L%s %s", px(x0+scale(p)), px(y0+size-scale(c.met[j])))
			}
			s.path(path.String(), "c"+strconv.Itoa(stratumOf(c.name)))
			y := y0 + 16 + 15*float64(k)
			s.path(fmt.Sprintf("M%s %sh16", px(x0+10), px(y-4)), "c"+strconv.Itoa(stratumOf(c.name)))
			s.text(x0+32, y, "s", fmt.Sprintf("%s (n %s)", c.name, count(c.n)))
			fmt.Fprintf(&text, "\n    %-7s n %-20s", c.name, count(c.n))
			for _, share := range c.shares {
				fmt.Fprintf(&text, "%8s", strconv.FormatFloat(100*share, 'g', 3, 64))
			}
		}
		text.WriteByte('\n')
	}
	if !any {
		return nil
	}
	s.text(left+size+gap/2, top+2*size+gap+40, "m", "nominal (across) and observed (up) share of tests with a p at least as small")
	return &Picture{Name: "calibration", SVG: s.String(), Text: text.String()}
}

func stratumOf(name string) int {
	for i, s := range timing.Strata {
		if s == name {
			return i
		}
	}
	return 0
}

// personas are heat maps of the personas of a model, the largest first, and the last of them for the terminal.
func personas(m *timing.Model) *Picture {
	if len(m.Personas) == 0 {
		return nil
	}
	days := [...]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}
	const cell, left, top, gapX, gapY = 13., 44., 76., 52., 46.
	width, height := 24*cell, 7*cell
	rows := (len(m.Personas) + 1) / 2
	s := newSketch(left+2*width+gapX+20, top+float64(rows)*(height+gapY))
	s.title("Personas: when they pay attention", "attention by local hour and day, against everybody's average hour")
	var text strings.Builder
	for i := range m.Personas {
		p := &m.Personas[i]
		x0, y0 := left+float64(i%2)*(width+gapX), top+float64(i/2)*(height+gapY)
		s.text(x0, y0-8, "h", fmt.Sprintf("%s, %.0f %%", p.Name, 100*p.Share))
		for d, name := range days {
			y := y0 + float64(d)*cell
			s.text(x0-6, y+cell-3, "e", name)
			for from := 0; from < hours; { // hours of one shade in one piece
				shade, to := shadeOf(p.Attention[from]*m.Weekdays[d]), from+1
				for to < hours && shadeOf(p.Attention[to]*m.Weekdays[d]) == shade {
					to++
				}
				s.rect(x0+float64(from)*cell, y, float64(to-from)*cell, cell, "d"+strconv.Itoa(shade))
				from = to
			}
		}
		for _, h := range []int{0, 6, 12, 18} {
			s.text(x0+float64(h)*cell, y0+height+13, "s", strconv.Itoa(h))
		}
	}
	p := &m.Personas[0]
	fmt.Fprintf(&text, "Persona %q, %.0f %% of customers: attention by local hour and day\n\n       0     3     6     9     12    15    18    21\n", p.Name, 100*p.Share)
	for d, name := range days {
		fmt.Fprintf(&text, "  %s  ", name)
		for _, a := range p.Attention {
			text.WriteString(strings.Repeat(blocks[shadeOf(a*m.Weekdays[d])], 2))
		}
		text.WriteByte('\n')
	}
	text.WriteString("\n  " + blocks[8] + " 2.4 times everybody's average hour or more, " + blocks[4] + " like it, blank less than half\n")
	return &Picture{Name: "personas", SVG: s.String(), Text: text.String()}
}

// blocks are the shades for a terminal.
var blocks = [9]string{" ", " ", "·", "·", "░", "▒", "▒", "▓", "█"}

// shadeOf is the bin of a ratio, 4 around 1.
func shadeOf(ratio float64) (bin int) {
	for _, edge := range [...]float64{.42, .57, .76, .91, 1.09, 1.32, 1.74, 2.38} {
		if ratio >= edge {
			bin++
		}
	}
	return bin
}

// reliability is what the scores of the hours of sends are worth, by decile.
func reliability(e *evidence) *Picture {
	type point struct{ score, said, truth, seen, n float64 }
	var points []point
	var answered, all, usual, expected float64
	for i := range e.scores {
		c := &e.scores[i]
		answered, all, usual, expected = answered+c.answered, all+c.n, usual+c.usual, expected+c.response
	}
	if all < 1000 {
		return nil
	}
	for i := range e.scores {
		c := &e.scores[i]
		if c.n < 50 {
			continue
		}
		p := point{score: c.score / c.n, n: c.n, seen: c.answered / c.n / (answered / all)}
		if p.said = math.Exp2((p.score - 50) / 50); c.usual > 0 { // both against the customer's average hour, as the score is
			p.truth = c.response / c.usual
			p.seen *= (expected / usual) * (usual / all) / (c.usual / c.n)
		}
		points = append(points, p)
	}
	const width, height, left, top = 420., 260., 52., 66.
	s := newSketch(left+width+30, top+height+56)
	s.title("Scores: what they say and what comes", "answers within 24 hours, against the customer's average hour")
	at := func(score, ratio float64) (x, y float64) {
		return left + width*score/100, top + height*(1-math.Log2(min(max(ratio, .5), 2)))/2
	}
	var text strings.Builder
	text.WriteString("Scores: answers within 24 hours to messages sent at an hour of that score, against the customer's average hour\n\n   score  messages      said      seen")
	if usual > 0 {
		text.WriteString("      true")
	}
	text.WriteByte('\n')
	for _, tick := range []float64{.5, .71, 1, 1.41, 2} {
		_, y := at(0, tick)
		s.line(left, y, left+width, y, "grid")
		s.text(left-6, y+4, "e", strconv.FormatFloat(tick, 'g', 3, 64))
	}
	for score := 0.; score <= 100; score += 25 {
		x, _ := at(score, 1)
		s.line(x, top, x, top+height, "grid")
		s.text(x, top+height+15, "m", px(score))
	}
	x1, y1 := at(0, .5)
	x2, y2 := at(100, 2)
	s.line(x1, y1, x2, y2, "diagonal")
	for _, p := range points {
		x, y := at(p.score, p.seen)
		s.circle(x, y, 4, "seen")
		fmt.Fprintf(&text, "  %6.0f  %8s  %8.2f  %8.2f", p.score, count(p.n), p.said, p.seen)
		if p.truth > 0 {
			x, y := at(p.score, p.truth)
			s.circle(x, y, 4, "true")
			fmt.Fprintf(&text, "  %8.2f", p.truth)
		}
		text.WriteByte('\n')
	}
	s.circle(left+14, top+12, 4, "seen")
	s.text(left+24, top+16, "s", "seen")
	if usual > 0 {
		s.circle(left+74, top+12, 4, "true")
		s.text(left+84, top+16, "s", "true chance")
	}
	s.text(left+width/2, top+height+38, "m", "score of the hour of the send")
	return &Picture{Name: "reliability", SVG: s.String(), Text: text.String()}
}

func count(n float64) string {
	s := strconv.FormatFloat(n, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// sketch collects the elements of an SVG. Colours are in its style, for light and dark.
type sketch struct {
	strings.Builder
	width, height float64
}

func newSketch(width, height float64) *sketch { return &sketch{width: width, height: height} }

// String is the whole document.
func (s *sketch) String() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img">`,
		px(s.width), px(s.height), px(s.width), px(s.height)) + "\n<style>" + style + "</style>\n" +
		fmt.Sprintf(`<rect class="bg" width="%s" height="%s"/>`, px(s.width), px(s.height)) + "\n" + s.Builder.String() + "</svg>\n"
}

func (s *sketch) title(title, line string) {
	fmt.Fprintf(s, "<title>%s</title>\n", html.EscapeString(title))
	s.text(14, 22, "t", title)
	s.text(14, 40, "s", line)
}

func (s *sketch) text(x, y float64, class, words string) {
	fmt.Fprintf(s, `<text x="%s" y="%s" class="%s">%s</text>`+"\n", px(x), px(y), class, html.EscapeString(words))
}

func (s *sketch) line(x1, y1, x2, y2 float64, class string) {
	s.path(fmt.Sprintf("M%s %sL%s %s", px(x1), px(y1), px(x2), px(y2)), class)
}

func (s *sketch) path(d, class string) { fmt.Fprintf(s, `<path d="%s" class="%s"/>`+"\n", d, class) }

func (s *sketch) rect(x, y, w, h float64, class string) {
	fmt.Fprintf(s, `<rect x="%s" y="%s" width="%s" height="%s" class="%s"/>`+"\n", px(x), px(y), px(w), px(h), class)
}

func (s *sketch) circle(x, y, r float64, class string) {
	fmt.Fprintf(s, `<circle cx="%s" cy="%s" r="%s" class="%s"/>`+"\n", px(x), px(y), px(r), class)
}

// px writes pixels, to a tenth.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// style is that of the console: sand to petrol, which the colour-blind can tell apart.
const style = `
.bg{fill:#fbfcfc}text{font:11px Inter,system-ui,sans-serif;fill:#46525c}.t{font-size:15px;font-weight:600;fill:#12181d}.h{font-size:12px;font-weight:600;fill:#12181d}
.m{text-anchor:middle}.e{text-anchor:end}path{fill:none}.grid{stroke:#dfe4e7}.diagonal{stroke:#808c96;stroke-dasharray:4 3}.sigma{stroke:#8a4b08}
.c0{stroke:#bd935a;stroke-width:2}.c1{stroke:#46929a;stroke-width:2}.c2{stroke:#0b4e58;stroke-width:2}.c3{stroke:#12181d;stroke-width:2;stroke-dasharray:2 2}
.seen{fill:#bd935a}.true{fill:#0b6470}
.d0{fill:#bd935a}.d1{fill:#ceab79}.d2{fill:#dec49f}.d3{fill:#ecddc6}.d4{fill:#eaeeef}.d5{fill:#bfdddc}.d6{fill:#78b6b8}.d7{fill:#2a7c84}.d8{fill:#0b4f58}
@media(prefers-color-scheme:dark){.bg{fill:#0f1316}text{fill:#afb9c0}.t,.h{fill:#e8ecee}.grid{stroke:#262d33}.diagonal{stroke:#66727c}.sigma{stroke:#f0b765}
.c0{stroke:#cdaa70}.c1{stroke:#478f94}.c2{stroke:#a6dede}.c3{stroke:#e8ecee}.seen{fill:#cdaa70}.true{fill:#6cc5cb}
.d0{fill:#85642f}.d1{fill:#6b5330}.d2{fill:#55452d}.d3{fill:#3b3429}.d4{fill:#252c31}.d5{fill:#214549}.d6{fill:#286a71}.d7{fill:#4fa3a9}.d8{fill:#9be0e1}}
`
