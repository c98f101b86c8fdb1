package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	console "github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

var pictures = flag.Bool("pictures", false, "draw the pictures of docs/timing.md again, but for those of evaluate --svg")

const docs = "../../docs"

// TestPicturesOfTheMethod: what docs/timing.md shows is there and can be drawn.
func TestPicturesOfTheMethod(t *testing.T) {
	if *pictures {
		draw(t)
	}
	text, err := os.ReadFile(filepath.Join(docs, "timing.md"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\((timing/[^)]+)\)`).FindAllStringSubmatch(string(text), -1)
	if len(links) < 5 {
		t.Fatalf("only %d pictures are shown", len(links))
	}
	shown := map[string]bool{}
	for _, l := range links {
		shown[filepath.Base(l[1])] = true
		b, err := os.ReadFile(filepath.Join(docs, l[1]))
		if err != nil {
			t.Error(err)
			continue
		}
		for d := xml.NewDecoder(strings.NewReader(string(b))); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v", l[1], err)
				break
			}
			if e, ok := token.(xml.StartElement); ok && (e.Name.Local == "script" || e.Name.Local == "image") {
				t.Errorf("%s has a %s", l[1], e.Name.Local)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(docs, "timing", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !shown[filepath.Base(f)] {
			t.Errorf("%s is not shown", f)
		}
	}
}

// draw writes the pictures that are drawn by the code that they explain: an invented customer, and the three stories.
func draw(t *testing.T) {
	p, now := anna()
	v := p.View(timing.Builtin(), "email", now)
	l := words.In("en")
	put(t, "exposure", exposure(&v))
	put(t, "scores", doc(964, 287, `<g class="v-r">`+string(console.Scores(&v, now, l, false))+`</g>`))
	put(t, "stories", tales(t, l))
}

// The mail and the answers of the invented customer, by hour of the day, in half a year.
var mailed, answered [timing.Day]int

// anna is written to three times a week in the course of the morning. Two messages in five she sees when they come; two
// more she finds in the evening, when she goes through her mail.
func anna() (*timing.Profile, timing.Hour) {
	w := timing.World{Model: timing.Builtin()}
	p := &timing.Profile{Zone: "Europe/Rome"}
	c := p.Channel("email")
	const monday = timing.Hour(2944) * timing.Week
	mailed, answered = [timing.Day]int{}, [timing.Day]int{}
	n := int64(0)
	for week := range int64(26) {
		for i := range int64(3) {
			n++
			h, sent := monday+week*timing.Week+(2*i+week)%7*timing.Day, 8+(week+i)%4
			c.Delivered(&w, h+sent)
			mailed[sent]++
			read := int64(-1)
			switch n % 5 {
			case 0, 2:
				read = sent + n%10/5 // at once, or an hour later
			case 1, 3:
				read = 19 + n%4/2
			}
			if read >= 0 {
				c.Engaged(&w, h+read, 20)
				answered[read]++
			}
		}
	}
	return p, monday + 26*timing.Week + 9
}

// exposure shows what mail explains and what it does not.
func exposure(v *timing.View) string {
	var s strings.Builder
	const left, width = 16., 27.
	row := func(y float64, title string, value func(h int) float64, class func(h int) string, label func(h int) string) {
		fmt.Fprintf(&s, `<text class="h" x="%g" y="%g">%s</text><line class="base" x1="%g" x2="%g" y1="%g" y2="%g"/>`, left, y-84, html.EscapeString(title), left, left+24*width, y+.5, y+.5)
		for h := range timing.Day {
			x, v := left+float64(h)*width, 66*min(value(h), 1)
			if v > 0 {
				fmt.Fprintf(&s, `<rect class="%s" x="%.1f" y="%.1f" width="%g" height="%.1f"/>`, class(h), x+1, y-v, width-3, v)
			}
			if text := label(h); text != "" {
				fmt.Fprintf(&s, `<text class="m" x="%.1f" y="%.1f">%s</text>`, x+width/2, y-v-4, text)
			}
			fmt.Fprintf(&s, `<text class="m" x="%.1f" y="%.1f">%02d</text>`, x+width/2, y+14, h)
		}
	}
	count := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	one := func(class string) func(int) string { return func(int) string { return class } }
	row(112, "When we mailed: messages in half a year", func(h int) float64 { return float64(mailed[h]) / 30 }, one("sent"), func(h int) string { return count(mailed[h]) })
	row(242, "When Anna read: engaged hours", func(h int) float64 { return float64(answered[h]) / 20 }, one("bp4"), func(h int) string { return count(answered[h]) })
	hours := say.ByHour(v)
	row(372, "What is Anna’s own: attention, as multiples of an average hour", func(h int) float64 { return hours[h] / 5 }, func(h int) string {
		if hours[h] > 1 {
			return "bp7"
		}
		return "bp1"
	}, func(h int) string {
		if hours[h] < 1 {
			return ""
		}
		return fmt.Sprintf("%.1f×", hours[h])
	})
	return doc(left+24*width+16, 398, s.String())
}

// tales draws the three stories as the pipeline told them: mail, engaged hours and deviations.
func tales(t *testing.T, l *words.Lang) string {
	alone(t)
	var s strings.Builder
	const left, width, height, weeks = 40., 820., 150., 9
	top := 40.
	for _, story := range []struct{ file, title string }{
		{"moves-by-8-hours", "Anna’s habit moves by eight hours on 5 January"},
		{"falls-silent", "Bruno falls silent on 5 January"},
		{"bursts", "Dario reads everything for two days, from 15 January on"},
	} {
		path := "testdata/stories/" + story.file + ".ndjson"
		data := t.TempDir()
		must(t, "import", path, "--data", data)
		zone, err := calendar.Zone("Europe/Rome")
		if err != nil {
			t.Fatal(err)
		}
		var last time.Time
		var events []engagement.Event
		for line := range strings.Lines(string(read(t, path))) {
			var e engagement.Event
			if err := e.Parse([]byte(line)); err != nil {
				t.Fatal(err)
			}
			events, last = append(events, e), e.Time
		}
		begin := last.AddDate(0, 0, -7*weeks)
		at := func(when time.Time) (x, y float64) {
			when = when.In(zone)
			return left + width*float64(when.Sub(begin))/float64(last.Sub(begin)), top + height*(float64(when.Hour())+float64(when.Minute())/60)/24
		}
		fmt.Fprintf(&s, `<text class="h" x="16" y="%g">%s</text>`, top-20, html.EscapeString(story.title))
		for h := 0; h <= 24; h += 6 {
			y := top + height*float64(h)/24
			fmt.Fprintf(&s, `<line class="grid" x1="%g" x2="%g" y1="%g" y2="%g"/><text class="e" x="%g" y="%g">%02d</text>`, left, left+width, y, y, left-6, y+4, h)
		}
		for d := begin.In(zone); d.Before(last); d = d.AddDate(0, 0, 1) {
			if d.Weekday() == time.Monday {
				midnight := time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, zone)
				x, _ := at(midnight)
				fmt.Fprintf(&s, `<text class="m" x="%.1f" y="%g">%s</text>`, x, top+height+15, l.Date(midnight))
			}
		}
		seen := map[timing.Hour]bool{}
		for _, e := range events {
			if e.Time.Before(begin) {
				continue
			}
			x, y := at(e.Time)
			switch h, _ := calendar.LocalHour(e.Time, zone); {
			case e.Kind == engagement.Delivered:
				fmt.Fprintf(&s, `<circle class="sent" cx="%.1f" cy="%.1f" r="2.6"/>`, x, y)
			case e.Actor == engagement.Human && !seen[h]:
				seen[h] = true
				fmt.Fprintf(&s, `<circle class="read" cx="%.1f" cy="%.1f" r="3.2"/>`, x, y)
			}
		}
		var notes []string
		said := map[string]int{} // by kind and day: of a burst that grows, the last word
		for line := range strings.Lines(must(t, "dump", "timing.deviations.v1", "--data", data)) {
			_, value, _ := strings.Cut(line, "{")
			e, err := stream.ParseEvent([]byte("{" + value))
			if err != nil {
				t.Fatal(err)
			}
			if e.Time.Before(begin) {
				continue
			}
			var d deviation.Deviation
			if err := json.Unmarshal(e.Data, &d); err != nil {
				t.Fatal(err)
			}
			x, y := at(e.Time)
			if d.Kind == timing.Timing { // one odd hour: a ring is enough
				fmt.Fprintf(&s, `<circle class="flag" cx="%.1f" cy="%.1f" r="6.5"/>`, x, y)
				continue
			}
			text, _ := say.Deviation(l, &d, e.Time)
			note := say.Named(l, "kind.", d.Kind) + ", " + l.Moment(e.Time.In(zone)) + ": " + text
			if i, told := said[d.Kind+d.LocalDay]; told {
				notes[i] = note
				continue
			}
			said[d.Kind+d.LocalDay] = len(notes)
			notes = append(notes, note)
			fmt.Fprintf(&s, `<line class="flag" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/><text class="m n" x="%.1f" y="%g">%d</text>`, x, x, top, top+height, x, top-3, len(notes))
		}
		for i, note := range notes {
			fmt.Fprintf(&s, `<text x="%g" y="%g"><tspan class="n">%d</tspan> %s</text>`, left, top+height+34+15*float64(i), i+1, html.EscapeString(note))
		}
		top += height + 34 + 15*float64(len(notes)) + 36
	}
	fmt.Fprintf(&s, `<g transform="translate(0 %g)"><circle class="sent" cx="44" cy="0" r="2.6"/><text x="52" y="4">delivered</text><circle class="read" cx="124" cy="0" r="3.2"/><text x="132" y="4">engaged hour</text><circle class="flag" cx="230" cy="0" r="6.5"/><text x="242" y="4">odd hour: noted, never acted on</text></g>`, top-36)
	return doc(left+width+20, top-16, s.String())
}

// doc is an SVG that carries its colours, those of the console, for light and dark.
func doc(width, height float64, body string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img"><style>%s</style><rect class="bg" width="%g" height="%g"/>%s</svg>`+"\n",
		width, height, width, height, tokens()+look, width, height, strings.ReplaceAll(body, `width="100%"`, fmt.Sprintf(`width="%g"`, width)))
}

// tokens are the console's colours.
func tokens() string {
	css, err := os.ReadFile("../console/page/static/console.css")
	if err != nil {
		panic(err) // it is part of the workspace
	}
	s := string(css)
	return s[strings.Index(s, ":root"):strings.Index(s, "/* base */")]
}

// look is how the pictures are drawn: the console's rules for its own drawings, and a few for these.
const look = `svg{overflow:visible}
text{font:11px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink2)} .bg{fill:var(--bg)} .h{font-weight:600;font-size:13px;fill:var(--ink)} .m{text-anchor:middle} .e{text-anchor:end} .n{fill:var(--ink);font-weight:600}
.grid,.ring{stroke:var(--line);fill:none} .base{stroke:var(--line2)} .sent{fill:none;stroke:var(--ink3)} rect.sent{fill:var(--line2);stroke:none} .read{fill:var(--d7)} .flag{fill:none;stroke:var(--ink);stroke-width:1.5}
.one{fill:none;stroke:var(--ink3);stroke-dasharray:2 3} .halo{stroke:var(--bg);stroke-width:6} .hand{stroke:var(--ink);stroke-width:2} .radial text,.zt{text-anchor:middle} .c2{font-size:20px;font-weight:600;fill:var(--ink)} .c1{font-size:12px}
.r0{fill:var(--d0)} .r1,.bp1{fill:var(--d1)} .r2{fill:var(--d2)} .r3{fill:var(--d3)} .r4{fill:var(--d4)} .r5{fill:var(--d5)} .r6{fill:var(--d6)} .r7,.bp7{fill:var(--d7)} .r8{fill:var(--d8)} .bp4{fill:var(--s3)}
text.zt{fill:var(--ink);font-weight:600} text.zt.r7,text.zt.r8{fill:var(--bg)} .flag.hi{stroke-width:2.5} .now{stroke:var(--ink);stroke-width:1.5} .cur{display:none} .axd{fill:var(--ink3)} .on{font-weight:600;fill:var(--ink)}`

func put(t *testing.T, name, svg string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(docs, "timing", name+".svg"), []byte(svg), 0o644); err != nil {
		t.Fatal(err)
	}
}
