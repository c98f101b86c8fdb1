package console

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/topics"
)

var screenshots = flag.String("screenshots", "", "folder in which the browser tests leave pictures of the pages")

// chromium finds the browser, or skips the test, saying so.
func chromium(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("TEMPISMO_BROWSER") == "required" {
		t.Fatal("no Chromium is installed, and TEMPISMO_BROWSER requires one")
	}
	t.Skip("no Chromium is installed: the page is not tested in a browser (set CHROMIUM to its path)")
	return ""
}

// tab is a page in a real browser.
type tab struct {
	t        *testing.T
	ctx      context.Context
	site     string
	server   *httptest.Server
	stop     chan struct{} // ends the streams, as a shutdown does
	expected atomic.Bool   // what the browser complains about
}

// serve serves the town's console at an address.
func (b *tab) serve(w *town, addr string) {
	b.t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		b.t.Fatal(err)
	}
	stop := make(chan struct{})
	w.s.done, b.stop = stop, stop
	b.server = &httptest.Server{Listener: ln, Config: &http.Server{Handler: w.s.handler()}}
	b.server.Start()
	b.site = "http://" + ln.Addr().String()
}

// browse serves the town's console to a browser. Whatever the browser writes to its console fails the test.
func browse(t *testing.T, w *town) *tab {
	t.Helper()
	path := chromium(t)
	b := &tab{t: t}
	b.serve(w, "127.0.0.1:0")
	t.Cleanup(func() {
		close(b.stop)
		b.server.Close()
	})
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	b.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	messages := chromedp.Console(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for m, err := range messages {
			if err != nil {
				return
			}
			if b.expected.Load() {
				continue
			}
			t.Errorf("the browser's console says %s: %s %s", m.Type, m.Text, m.URL)
		}
	}()
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // the folder of the profile is removed next
		cancel()
		<-read
	})
	b.size(1440, 1000, "light")
	return b
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) size(width, height int64, scheme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 700})
	if err == nil {
		_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.site+path), chromedp.WaitVisible(chromedp.CSS("main")))
}

// eval evaluates a script.
func eval[T any](b *tab, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// wait waits until a script says true, across navigations.
func (b *tab) wait(what, script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	for {
		// An error is a page that is just being left; the next look is at the new one.
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+script+")")); err == nil && ok {
			return
		}
		if err := chromedp.Do(ctx, chromedp.Sleep(20*time.Millisecond)); err != nil {
			b.t.Fatalf("%s: %s never becomes true", what, script)
		}
	}
}

// connected waits until the page says that its stream is open.
func (b *tab) connected() {
	b.t.Helper()
	b.wait("the stream opens", `document.getElementById('live').classList.contains('on')`)
}

// picture leaves a screenshot, where they are asked for.
func (b *tab) picture(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(*screenshots, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestBrowserShowsThePageInEveryForm(t *testing.T) {
	w := newTown(t, Config{Embedded: true, Pace: 60})
	w.history(36)
	w.morning()
	w.tales()
	w.keep("C-10874", evening(w.now))
	w.s.picture(t.Context())
	w.s.tick()
	b := browse(t, w)
	for _, form := range []struct {
		name, path, scheme string
		width              int64
		says               string
	}{
		{"now.light", "/?lang=en", "light", 1440, "Customers read most between 19 and 22"},
		{"now.dark", "/?lang=en", "dark", 1440, "Customers read most between 19 and 22"},
		{"now.it", "/?lang=it", "light", 1440, "I clienti leggono di più fra le 19 e le 22"},
		{"now.engaged", "/?lang=en&view=e", "light", 1440, "Customers read most"},
		{"now.tablet", "/?lang=en", "light", 1024, "Customers read most"},
		{"now.mobile", "/?lang=en", "light", 390, "Customers read most"},
		{"now.mobile.it", "/?lang=it", "dark", 390, "I clienti leggono di più"},
		{"decisions", "/decisions?lang=en", "light", 1440, "Decisions"},
		{"customers", "/customers?lang=en", "light", 390, "Customers"},
	} {
		b.size(form.width, 1000, form.scheme)
		b.open(form.path)
		b.picture(form.name)
		if h1 := eval[string](b, `document.querySelector('h1').textContent`); !strings.Contains(h1, form.says) {
			t.Errorf("%s: the heading says %q, not %q", form.name, h1, form.says)
		}
		if over := eval[int](b, fmt.Sprintf(`document.documentElement.scrollWidth - %d`, form.width)); over > 0 {
			t.Errorf("%s scrolls sideways by %d px: %s", form.name, over, eval[string](b, `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > screen.width + 1 && !e.closest('.scroll')).slice(0, 5).map(e => e.tagName + '.' + (e.className.baseVal ?? e.className)).join(' ')`))
		}
		if !strings.HasPrefix(form.name, "now") {
			continue
		}
		// One of the two drawings, of the same cells.
		if n := eval[int](b, `[...document.querySelectorAll('#week > svg.hm')].filter(e => e.getBoundingClientRect().width > 0).length`); n != 1 {
			t.Errorf("%s shows %d maps, not one", form.name, n)
		}
		if different := eval[int](b, `(([a, b]) => [...a.children].filter((c, i) => c.getAttribute('class') !== b.children[i].getAttribute('class')).length)([...document.querySelectorAll('.cells')])`); different != 0 {
			t.Errorf("%s: %d cells differ between the two drawings", form.name, different)
		}
	}
}

func TestBrowserShowsTheThemesColours(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	b := browse(t, w)
	colour := func(selector, property string) string {
		return eval[string](b, fmt.Sprintf(`getComputedStyle(document.querySelector(%q)).%s`, selector, property))
	}
	for scheme, want := range map[string][4]string{
		// The tokens of the design: page, text, the highest and the lowest bin of the ratio.
		"light": {"rgb(251, 252, 252)", "rgb(18, 24, 29)", "rgb(11, 79, 88)", "rgb(189, 147, 90)"},
		"dark":  {"rgb(15, 19, 22)", "rgb(232, 236, 238)", "rgb(155, 224, 225)", "rgb(133, 100, 47)"},
	} {
		b.size(1440, 1000, scheme)
		b.open("/?lang=en")
		got := [4]string{colour("body", "backgroundColor"), colour("body", "color"), colour(".lg.mr .r8", "fill"), colour(".lg.mr .r0", "fill")}
		if got != want {
			t.Errorf("%s: colours %v, want %v", scheme, got, want)
		}
	}
}

func TestBrowserTakesWhatArrives(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	b := browse(t, w)
	b.open("/?lang=en")
	eval[bool](b, `(() => { window.shift = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) window.shift += e.value; }).observe({type: 'layout-shift', buffered: true}); return true; })()`)
	b.connected()

	w.now = w.now.Add(20 * time.Minute)
	w.deviation("dv-new", "C-90210", 0, burst(6, .7, 3.4, 2900, 40, 300, "premium", true))
	w.decide("d-new", "C-90210", 0, "io.tempismo.decision.send_now.v1", "burst", 88, 90)
	hour := w.now.Truncate(time.Hour).Add(-3 * time.Hour)
	how := timing.HourOfWeek((hour.Unix()-4*86400)/3600 + 1)
	w.emit(topics.Digests, timing.DigestType, "dg-new", "", hour, timing.Digest{Minute: hour, Seconds: 3600,
		Cells: []timing.Cell{{Channel: "email", Segment: "premium", How: how, Delivered: 10, Engaged: 4000, Expected: 100, ModelExpected: 100}}})
	before := eval[string](b, fmt.Sprintf(`document.querySelector('.cells').children[%d].getAttribute('class')`, how))
	w.s.tick()

	b.wait("the deviation arrives", `document.querySelector('[data-feed=deviation] li').dataset.id === 'dv-new'`)
	b.wait("the decision arrives", `document.querySelector('[data-feed=decision] li').dataset.id === 'd-new'`)
	b.wait("the cell changes", fmt.Sprintf(`document.querySelectorAll('.cells')[0].children[%d].getAttribute('class') !== %q && document.querySelectorAll('.cells')[1].children[%d].getAttribute('class') !== %q`, how, before, how, before))
	if row := eval[string](b, `document.querySelector('[data-feed=deviation] li').textContent`); !strings.Contains(row, "C-90210") || !strings.Contains(row, "read in 6 different hours today; the mail received explains 0.7.") || !strings.Contains(row, "+3.4σ") {
		t.Errorf("the new row says %q", row)
	}
	if clock := eval[string](b, `document.querySelector('#clock b').textContent`); clock != "11:02:17" {
		t.Errorf("the clock says %s, want the event time 11:02:17", clock)
	}

	// What becomes of a decision changes its row.
	w.outcome("d-new", "accepted")
	w.s.tick()
	b.wait("the outcome arrives", `document.querySelector('[data-id=d-new] .ev').textContent.includes('Accepted by hubspot.')`)

	// Nothing arrives while paused, and everything afterwards.
	b.do(chromedp.Click(chromedp.CSS("[data-feed=deviation] button")))
	w.deviation("dv-paused", "C-1", -1, burst(3, .4, 2.2, 72, 9, 60, "new", false))
	w.s.tick()
	b.wait("the pause is counted", `document.querySelector('[data-feed=deviation] button').textContent === 'Resume (1)'`)
	if first := eval[string](b, `document.querySelector('[data-feed=deviation] li').dataset.id`); first != "dv-new" {
		t.Errorf("%s arrived in a feed that is paused", first)
	}
	b.do(chromedp.Click(chromedp.CSS("[data-feed=deviation] button")))
	b.wait("the row arrives after the pause", `document.querySelector('[data-feed=deviation] li').dataset.id === 'dv-paused'`)

	if table := tableDiffers(b); table != "" {
		t.Error(table)
	}
	if shift := eval[float64](b, `window.shift`); shift != 0 {
		t.Errorf("the layout shifts by %v", shift)
	}
}

// tableDiffers compares the table behind the map with the cells that the page's script holds.
func tableDiffers(b *tab) string {
	return eval[string](b, `(() => {
		const data = JSON.parse(document.getElementById('cells').textContent);
		const classes = [...document.querySelector('.cells').children].map(c => c.getAttribute('class'));
		const tds = [...document.querySelectorAll('#week-table tbody tr')].flatMap(tr => [...tr.querySelectorAll('td')].slice(0, 24));
		if (tds.length !== 168) return 'the table has ' + tds.length + ' cells';
		for (let i = 0; i < 168; i++) {
			const ratio = parseFloat(tds[i].textContent), edges = [-1.25, -.8, -.4, -.13, .13, .4, .8, 1.25].map(x => 2 ** x);
			const near = edges.some(e => Math.abs(e - ratio) < .006), bin = isNaN(ratio) ? 4 : edges.filter(e => ratio >= e).length;
			if (!near && !classes[i].includes('r' + bin)) return 'cell ' + i + ' is drawn ' + classes[i] + ' and the table says ' + tds[i].textContent;
			if (tds[i].classList.contains('f') !== / f$/.test(classes[i])) return 'cell ' + i + ': flag of the table and of the map differ';
		}
		return data.cells.length === 168 ? '' : 'the page holds ' + data.cells.length + ' cells';
	})()`)
}

func TestBrowserReadsTheMapWithTheKeyboard(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	b := browse(t, w)
	b.open("/?lang=en")
	if table := tableDiffers(b); table != "" {
		t.Error(table)
	}
	read := func() string { return eval[string](b, `document.getElementById('read').textContent`) }
	first := read()
	eval[bool](b, `document.querySelector('svg.hm.wide').focus() ?? true`)
	if now := read(); now != first {
		t.Errorf("the script reads the first cell as %q, the server as %q", now, first)
	}
	at := eval[int](b, `+document.querySelector('svg.hm.wide').dataset.at`)
	b.do(chromedp.KeyEvent(kb.ArrowRight))
	if want := fmt.Sprintf("%02d–", (at+1)%24); !strings.Contains(read(), want) {
		t.Errorf("one to the right of cell %d is read as %q", at, read())
	}
	b.do(chromedp.KeyEvent(kb.ArrowDown))
	moved := eval[[]float64](b, `(c => [c.getAttribute('x'), c.getAttribute('y')].map(Number))(document.querySelector('svg.hm.wide .cur'))`)
	to := (at + 25) % 168
	if want := []float64{52 + float64(to%24)*36 - 1, 70 + float64(to/24)*41 - 1}; moved[0] != want[0] || moved[1] != want[1] {
		t.Errorf("the cursor stands at %v, want %v", moved, want)
	}

	// The view is a class; the address follows, and the page needs no new drawing.
	b.do(chromedp.Click(chromedp.CSS("[data-view=d]")))
	if got := eval[string](b, `document.getElementById('week').className + ' ' + location.search`); !strings.HasPrefix(got, "v-d ?") || !strings.Contains(got, "view=d") {
		t.Errorf("after choosing Delivered: %q", got)
	}
	// A filter is a new page.
	b.do(chromedp.SetValue(chromedp.CSS("select[name=segment]"), "premium"))
	b.wait("the filter is in the address", `location.search.includes('segment=premium') && document.readyState === 'complete'`)
	if got := eval[string](b, `document.querySelector('select[name=segment]').value`); got != "premium" {
		t.Errorf("the control shows %q", got)
	}
}

func TestBrowserChangesTheLanguage(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	b := browse(t, w)
	b.open("/?lang=en")
	b.do(chromedp.Click(chromedp.CSS(".lang a[hreflang=it]")))
	b.wait("the page is Italian", `document.documentElement.lang === 'it' && document.readyState === 'complete'`)
	text := eval[string](b, `document.body.innerText`)
	for _, want := range []string{"I clienti leggono di più", "Deviazioni", "oggi ha letto in 5 ore diverse; gli invii ricevuti ne spiegano 0,8.", "torna a leggere dopo 47 giorni e 12 messaggi ignorati.", "di solito legge 4 messaggi su 10", "Invia ora", "gio 3 dic"} {
		if !strings.Contains(text, want) {
			t.Errorf("the Italian page does not say %q", want)
		}
	}
	b.open("/")
	if got := eval[string](b, `document.documentElement.lang`); got != "it" {
		t.Errorf("the language is forgotten: %s", got)
	}
	b.connected()
	w.deviation("dv-it", "C-7", -1, burst(3, .4, 2.2, 72, 9, 60, "new", true))
	w.s.tick()
	b.wait("live rows are Italian too", `document.querySelector('[data-id=dv-it]')?.textContent.includes('oggi ha letto in 3 ore diverse')`)
}

func TestBrowserSaysThatTheServerIsGoneAndGoesOn(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	b := browse(t, w)
	b.open("/?lang=en")
	b.connected()
	rows := eval[int](b, `document.querySelectorAll('.row').length`)

	b.expected.Store(true) // the browser says itself that nobody answers
	close(b.stop)
	b.server.Close()
	b.wait("the page says so", `document.getElementById('live').classList.contains('off')`)
	if say := eval[string](b, `document.getElementById('live').textContent`); !strings.Contains(say, "Reconnecting, data as of 10:4") {
		t.Errorf("without a server the page says %q", say)
	}
	if n := eval[int](b, `document.querySelectorAll('.row').length`); n != rows {
		t.Errorf("%d of %d rows are left", n, rows)
	}

	w.deviation("dv-meanwhile", "C-4711", -1, burst(3, .4, 2.2, 72, 9, 60, "new", true))
	w.s.tick()
	b.serve(w, strings.TrimPrefix(b.site, "http://"))
	b.connected()
	b.wait("what was missed arrives", `document.querySelector('[data-feed=deviation] li').dataset.id === 'dv-meanwhile'`)
}

func TestThePageIsLight(t *testing.T) {
	w := newTown(t, Config{Embedded: true, Pace: 60})
	w.history(36)
	w.morning()
	w.drive()
	for i := range 40 { // so is the strip of what waits
		w.request(fmt.Sprintf("d-strip-%d", i), "C-1", fmt.Sprintf("r-strip-%d", i), 5, "io.tempismo.decision.wait.v1", "slot", 9+24*(i/10)-24*(i/30)+i%10)
	}
	for i := range 60 { // both feeds are full
		w.deviation(fmt.Sprintf("dv-full-%d", i), fmt.Sprintf("C-%d", 10000+i), i, burst(3, .4, 2.2, 72, 9, 60, "standard", false))
		w.decide(fmt.Sprintf("d-full-%d", i), fmt.Sprintf("C-%d", 10000+i), i, "io.tempismo.decision.blocked.v1", "window", 60, 90)
		w.s.tick()
	}
	site := httptest.NewServer(w.s.handler())
	defer site.Close()
	total := 0
	for _, path := range []string{"/?lang=it", "/static/" + static + "/console.css", "/static/" + static + "/console.js"} {
		resp, err := http.Get(site.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", path, resp.Status, err)
		}
		t.Logf("%s: %d bytes", path, len(body))
		total += len(body)
	}
	if total >= 150_000 {
		t.Errorf("page, style and script are %d bytes, the budget is 150,000", total)
	}
}
