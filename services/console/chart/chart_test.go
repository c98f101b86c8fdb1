package chart

import (
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// elements counts the elements of a drawing by name, and fails where it is not well formed.
func elements(t *testing.T, svg template.HTML) map[string]int {
	t.Helper()
	n := map[string]int{}
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatalf("%v in %.300s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			n[e.Name.Local]++
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || strings.Contains(a.Value, "%!") {
					t.Fatalf("%s has %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestBinsHaveTheDesignsEdges(t *testing.T) {
	for _, c := range []struct {
		name  string
		ratio float64
		want  int
	}{
		{"nothing was read", 0, 0}, {"less than half", .42, 0}, {"half", .5, 1}, {"as many as sends explain", 1, 4}, {"just above one", 1.09, 4}, {"a tenth more", 1.1, 5}, {"twice as many", 2, 7}, {"far more", 2.4, 8}, {"nothing was expected", math.NaN(), 4},
	} {
		if got := RatioBin(c.ratio); got != c.want {
			t.Errorf("%s: ratio %v is in bin %d, want %d", c.name, c.ratio, got, c.want)
		}
	}
	for score, want := range map[float64]int{0: 0, 7: 0, 8: 1, 43: 3, 50: 4, 56: 5, 79: 6, 80: 7, 91: 7, 92: 8, 100: 8} {
		if got := ScoreBin(score); got != want {
			t.Errorf("score %v is in bin %d, want %d", score, got, want)
		}
	}
}

func TestCountsHaveSevenBinsThatStayPut(t *testing.T) {
	for _, highest := range []float64{0, 3, 10, 11, 99, 2784, 1e6} {
		e := countEdges(highest)
		if len(e) != 6 || bin(0, e) != 0 || highest > 10 && bin(highest, e) < 4 {
			t.Errorf("the highest of %v is in bin %d of edges %v", highest, bin(highest, e), e)
		}
		for i := 1; i < len(e); i++ {
			if e[i] <= e[i-1] && highest > 20 {
				t.Errorf("highest %v: edges %v", highest, e)
			}
		}
	}
	if a, b := countEdges(1100), countEdges(1900); a[5] != b[5] {
		t.Errorf("a week that fills from 1100 to 1900 moves its edges from %v to %v", a, b)
	}
}

func TestALineLeavesAGapWhereNothingIsKnown(t *testing.T) {
	nan := math.NaN()
	n := elements(t, Line{Values: []float64{nan, 1, 2, nan, 3, 4, 5}, Low: []float64{nan, 0, 1, nan, 2, 3, 4}, High: []float64{nan, 2, 3, nan, 4, 5, 6}, Ref: 2, W: 100, H: 40}.SVG())
	if n["polyline"] != 2 || n["polygon"] != 2 || n["line"] != 1 || n["circle"] != 1 {
		t.Errorf("two pieces with bands, one reference and one dot are drawn as %v", n)
	}
	if n := elements(t, Line{Values: []float64{nan, nan}, Ref: nan, W: 100, H: 40}.SVG()); n["polyline"] != 0 || n["circle"] != 0 {
		t.Errorf("nothing is drawn as %v", n)
	}
	elements(t, Line{Values: []float64{5}, Ref: nan, W: 100, H: 40}.SVG())
	elements(t, Line{Ref: nan, W: 100, H: 40}.SVG())
}

func TestTheMapIsWellFormedInEveryForm(t *testing.T) {
	var w board.Week
	w.Best = -1
	fill := func() {
		w.Now = 498_000
		for i := range w.Cells {
			c := &w.Cells[i]
			c.Hour = w.Now - int64((timing.HourOfWeek(w.Now)-i+168)%168)
			c.Engaged, c.Expected, c.Model, c.Delivered = float64(i), 80, 80, 3
			c.Weak = i < 5
		}
		w.Cells[30].Z, w.Cells[31].Z = -2.4, 5
	}
	for _, what := range []string{"empty", "full"} {
		for _, code := range words.Codes {
			d := NewWeek(w, words.In(code))
			for _, tall := range []bool{false, true} {
				n := elements(t, d.SVG(tall))
				flags := 0
				if what == "full" {
					flags = 2
				}
				if got := strings.Count(string(d.Flags(tall)), `class="flag`); got != flags {
					t.Errorf("%s: %d flags, want %d", what, got, flags)
				}
				if n["rect"] < 168 {
					t.Errorf("%s: %d rectangles", what, n["rect"])
				}
			}
		}
		fill()
	}
	d := NewWeek(w, words.In("en"))
	for i, want := range map[int]string{0: "c r0 e0 d3 w", 30: "c r0 e2 d3 f", 80: "c r4 e4 d3"} {
		if got := d.Class(i); got != want {
			t.Errorf("cell %d is %q, want %q", i, got, want)
		}
	}
	if d.Furthest() != 31 {
		t.Errorf("cell %d is read first, want the one furthest off, 31", d.Furthest())
	}
}

func TestACustomersDrawingsAreWellFormed(t *testing.T) {
	view := (&timing.Profile{}).View(timing.Builtin(), "email", 498_000)
	l := words.In("it")
	for _, tall := range []bool{false, true} {
		if n := elements(t, Scores(&view, 498_000, l, tall)); n["rect"] < 168 {
			t.Errorf("%d rectangles", n["rect"])
		}
	}
	if n := elements(t, Clock(&view, 642, nil, l)); n["path"] != 24 {
		t.Errorf("the clock has %d hours", n["path"])
	}
	for _, svg := range []template.HTML{Clock(&view, 642, &say.Moved{From: 22, To: 6}, l), Mini(say.ByHour(&view), timing.Drift, &say.Moved{From: 22, To: 6})} {
		if n := elements(t, svg); n["path"] != 25 || !strings.Contains(string(svg), " 0 0 1 ") {
			t.Errorf("a habit that moved from 22 to 6, over midnight: %d paths", n["path"])
		}
	}
	if n := elements(t, Mini([timing.Day]float64{}, timing.Burst, nil)); n["path"] != 0 {
		t.Errorf("without a profile the small clock has %d hours", n["path"])
	}
	for kind := range glyphs {
		elements(t, Glyph(kind))
	}
	elements(t, Glyph("of a newer version"))
	elements(t, Meter(-2.4, 6, 2))
	elements(t, Swatches("r", 9))
}

func TestTheBestHourLiesAhead(t *testing.T) {
	var v timing.View
	for i := range v.Scores {
		v.Scores[i] = 50
	}
	now := timing.Hour(498_000)
	v.Scores[timing.HourOfWeek(now-3)] = 90
	best := say.BestHour(&v, now)
	if best != now-3+168 || Place(best, now) != Place(now-3, now) {
		t.Errorf("three hours ago was best: the best hour is %+d, drawn at %d", best-now, Place(best, now))
	}
}

func TestTheModelsDrawingsAreWellFormed(t *testing.T) {
	m, l := timing.Builtin(), words.In("it")
	if n := elements(t, Strip(&m.Population)); n["rect"] != 24 {
		t.Errorf("a day has %d hours", n["rect"])
	}
	if n := elements(t, Bars(m.Weekdays[:], make([]string, 7), "<label>")); n["rect"] != 7 || n["text"] < 1 {
		t.Errorf("seven bars are drawn as %v", n)
	}
	elements(t, Bars([]float64{0, 5}, []string{"a", "<b>"}, ""))
	elements(t, Answers(&m.Kernel, l))
	elements(t, Stroke("of a newer version"))
	if half := Half(&[timing.Response]float64{.2, .6, .2}); math.Abs(half-1.5) > 1e-9 {
		t.Errorf("half of the answers come within %v hours, want 1.5", half)
	}
	if half := Half(&[timing.Response]float64{}); half != timing.Response {
		t.Errorf("of no answers, half come within %v hours", half)
	}
}

func TestCalibrationLiesOnTheLineWhereTestsMeanWhatTheySay(t *testing.T) {
	tail := board.Tail{Kind: timing.Burst, Stratum: timing.Strata[1], Tests: 1 << 20}
	for i := range tail.Bins {
		low, high := timing.TailBounds(i)
		tail.Bins[i] = uint64(math.Round((high - low) * float64(tail.Tests)))
	}
	few := board.Tail{Kind: timing.Burst, Stratum: timing.Strata[3], Tests: 20}
	few.Bins[0] = 20
	svg := Calibration([]board.Tail{tail, few, {Kind: timing.Burst, Stratum: timing.Strata[2]}}, words.In("en"), "label")
	elements(t, svg)
	if strings.Contains(string(svg), "st st2") {
		t.Error("a stratum without tests is drawn")
	}
	_, points, ok := strings.Cut(string(svg), `class="st st1" points="`)
	points, _, _ = strings.Cut(points, `"`)
	if !ok || len(strings.Fields(points)) < 44 { // four to the halving, from 1 to 1/2048
		t.Fatalf("the line is %q", points)
	}
	for _, point := range strings.Fields(points) {
		var x, y float64
		if _, err := fmt.Sscanf(point, "%f,%f", &x, &y); err != nil {
			t.Fatal(err)
		}
		if across, up := (x-42)/250, (266-y)/258; math.Abs(across-up) > .002 {
			t.Errorf("uniform p-values are drawn off the line, at %v,%v", x, y)
		}
	}
}

func TestTheHoursAheadAreDrawn(t *testing.T) {
	from := timing.Hour(498_000)/timing.Week*timing.Week + 3*24 + 9 // a Thursday, 9:00
	hours := make([]int, 72)
	hours[0], hours[1], hours[5], hours[24], hours[25] = 2, 7, 7, 1, 3
	for _, tall := range []bool{false, true} {
		svg := Ahead(hours, from, words.In("en"), `what <is> "counted"`, tall)
		n := elements(t, svg)
		if n["rect"] != 5 {
			t.Errorf("%d bars, want one for each hour in which something is due", n["rect"])
		}
		s := string(svg)
		if strings.Count(s, `<line class="tick"`) != 3 {
			t.Error("midnight is not drawn three times")
		}
		// The highest of a day has its number, once.
		if strings.Count(s, ">7</text>") != 1 || strings.Count(s, ">3</text>") != 1 || strings.Contains(s, ">2</text>") || strings.Contains(s, ">1</text>") {
			t.Errorf("the highest bars of the days are not those that are numbered: %s", s)
		}
		for _, day := range []string{">Thu ", ">Fri ", ">Sat "} {
			if strings.Count(s, day) != 1 {
				t.Errorf("tall %v: %q is named %d times", tall, day, strings.Count(s, day))
			}
		}
		if n := elements(t, Ahead(make([]int, 72), from, words.In("it"), "", tall)); n["rect"] != 0 {
			t.Errorf("%d bars where nothing is due", n["rect"])
		}
	}
	if s := string(Ahead(hours, from-9, words.In("en"), "", false)); strings.Count(s, `<line class="tick"`) != 2 || strings.Count(s, ">06</text>") != 3 || strings.Contains(s, ">00</text>") {
		t.Errorf("from midnight on, two midnights lie ahead, and three times six o'clock: %s", s)
	}
	wide := string(Ahead(hours, from, words.In("en"), "", false))
	if !strings.Contains(wide, `<rect class="bar up" x="14.6" y="34" width="12.1" height="64"/>`) || !strings.Contains(wide, `<rect class="bar up" x="0.5" y="79.7" width="12.1" height="18.3"/>`) {
		t.Errorf("bars are not as high as their share of the highest: %s", wide)
	}
}
