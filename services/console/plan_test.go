package console

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/words"
)

// request emits a decision about a request, so many minutes before now. due is an hour of the day after; 0: it has no slot, 24 and more: on a later day.
func (w *town) request(id, customer, request string, ago int, typ string, reason decision.Reason, due int, rules ...decision.Rule) {
	at := w.now.Add(-time.Duration(ago) * time.Minute)
	d := decision.Decision{
		Reason: reason, DecidedAt: at, Request: request, Channel: "email", Message: "winter-preview", Audience: "premium", Zone: "Europe/Rome", Segment: "premium",
		Score:     decision.Score{Now: 84, Best: 84, BestAt: at, Threshold: 80, Confidence: 81, Level: "own"},
		NotBefore: at, ExpiresAt: at.AddDate(0, 0, 5), Rules: rules, Summary: "as the rules say",
		MadeFrom: decision.MadeFrom{Positions: map[string]string{topics.Requests: "7:66120"}, Model: "builtin.1", Policy: "14", Calendar: "IT-2026.1"},
	}
	if typ == decision.WaitType {
		d.Due = time.Date(2026, 12, 4, due-1, 17, 24, 0, time.UTC)
	}
	if due != 0 {
		from := time.Date(2026, 12, 4, due-1, 0, 0, 0, time.UTC)
		d.Slot = &decision.Interval{From: from, To: from.Add(time.Hour)}
	}
	if typ == decision.SendNowType || typ == decision.HeldOutType {
		d.Arm, d.Propensity, d.Experiment = decision.Treatment, .855, "winter"
		if typ == decision.HeldOutType {
			d.Arm, d.Propensity = decision.Holdout, .1
		}
	}
	w.emit(topics.Decisions, typ, id, customer, at, d)
}

// drive emits what becomes of a message to a few customers.
func (w *town) drive() {
	window := decision.Rule{Rule: decision.RuleWindow, Passed: true, Detail: "09:30-14:00 Europe/Rome, now 10:17"}
	capped := decision.Rule{Rule: decision.RuleFrequency, Detail: "1 of 1 in 24 hours, 3 of 3 in 7 days; over all channels 1 of 2 in 24 hours, 3 of 6 in 7 days"}
	w.request("d-r1", "C-20417", "r-1", 90, decision.WaitType, decision.BestSlot, 10, window)
	w.request("d-r2", "C-20417", "r-1", 60, decision.WaitType, decision.FrequencyCap, 12, window)
	w.request("d-r3", "C-20417", "r-2", 80, decision.WaitType, decision.Preferred, 12, window)
	w.request("d-r4", "C-20417", "r-2", 40, decision.SendNowType, decision.Preferred, 12, window)
	w.request("d-r5", "C-31962", "r-3", 50, decision.WaitType, decision.BestSlot, 12, window)
	w.request("d-r6", "C-58810", "r-4", 45, decision.WaitType, decision.ClosedDay, 0, window)
	w.request("d-r7", "C-58810", "r-5", 30, decision.HeldOutType, decision.BestSlot, 10, window)
	w.request("d-r8", "C-15530", "r-6", 20, decision.ExpiredType, decision.FrequencyCap, 0, window, capped)
	w.request("d-r9", "C-15530", "r-7", 10, decision.CancelledType, decision.NoConsent, 0)
	w.s.tick()
}

// says checks what stands on a page.
func says(t *testing.T, page string, want ...string) {
	t.Helper()
	for _, s := range want {
		if !strings.Contains(page, s) {
			t.Errorf("the page does not say %q", s)
		}
	}
}

func TestTheNowPageShowsWhatWaitsAndThePolicy(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	h := w.s.handler()
	page := body(t, get(t, h, "/?lang=en"))
	says(t, page, "No request waits", "A message that is placed with a deadline waits here", "Policy default.2", "built in", "<dt>sms</dt><dd>14:30-18:00</dd>", "<dd>21:00-08:00</dd>", "2 a day, 6 a week", "0% of customers")
	w.drive()
	page = body(t, get(t, h, "/?lang=en"))
	says(t, page, "3 requests wait for their moment", "Most in an hour: 2, on Fri 4 Dec, 12–13.", "1 has no allowed hour as things are.", `<th scope="row">Fri 4 Dec</th><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>0</td><td>2</td>`,
		"control group, not sent; would go out now: the best allowed hour.", "no consent to mailing; nothing is sent.", "“winter-preview”: until Fri 4 Dec 12:17 now: enough messages already, so it was moved.")
	if strings.Contains(page, "Counted from the decisions") {
		t.Error("a simulated run is read from its beginning")
	}
	if n := strings.Count(page, `<svg class="fig ahead`); n != 2 {
		t.Errorf("the hours are drawn %d times, want once for wide and once for narrow", n)
	}
	says(t, body(t, get(t, h, "/?lang=it")), "3 richieste attendono", "Al massimo 2 in un’ora: ven 4 dic, 12–13.", "0\u00a0% dei clienti", "manca il consenso all’invio; nessun invio.")

	p := decision.Default()
	p.Version, p.Experiment.Holdout, p.Experiment.Exploration, p.CapPerDay = "14", .1, .05, 0
	p.Quiet.To = p.Quiet.From
	w.emit(topics.Policies, decision.PolicyType, "p-14", "", w.now, &p)
	page = body(t, get(t, h, "/?lang=en"))
	says(t, page, "Policy 14", "10% of customers", "5% of requests", "no cap, 6 a week", "<dt>quiet hours</dt><dd>none</dd>", `<a href="/calendar">Closed days</a>`)
	if strings.Contains(page, "built in</p>") {
		t.Error("a policy that was applied is called built in")
	}

	live := newTown(t, Config{})
	live.s.config.Run.Mode = "live"
	live.history(9)
	live.drive()
	says(t, body(t, get(t, live.s.handler(), "/?lang=en")), "Counted from the decisions since Thu 3 Dec 09:12.")
}

func TestWhatWaitsIsSaidInFull(t *testing.T) {
	l := words.In("en")
	for _, c := range []struct {
		w    board.Waiting
		want string
	}{
		{board.Waiting{}, "No request waits"}, {board.Waiting{Count: 1}, "1 request waits for its moment"},
		{board.Waiting{Count: 1 << 20, AtLeast: true}, "At least 1,048,576 requests wait for their moment"},
	} {
		if got := sayWaiting(l, &c.w); got != c.want {
			t.Errorf("%+v is said %q, want %q", c.w, got, c.want)
		}
	}
	w := newTown(t, Config{})
	w.history(9)
	w.request("d-1", "C-1", "r-1", 60, decision.WaitType, decision.BestSlot, 5*24)
	w.request("d-2", "C-1", "r-2", 60, decision.WaitType, decision.BestSlot, -16) // is overdue
	v := viewPlan(l, w.s.state.board, true)
	if v.Lead != "Most in an hour: 1, on Thu 3 Dec, 10–11. 1 goes out later than shown." {
		t.Errorf("the lead is %q", v.Lead)
	}
	now := slices.Index(v.Rows[0].Cells, tableCell{Text: "1"})
	if len(v.Rows) != 4 || v.Rows[0].Name != "Thu 3 Dec" || now != 10 || v.Rows[0].Cells[9].Text != "" || v.Rows[3].Cells[9].Text != "0" || v.Rows[3].Cells[10].Text != "" {
		t.Errorf("the table has %d rows, first %+v, last %+v", len(v.Rows), v.Rows[0], v.Rows[len(v.Rows)-1])
	}

	for i := range shownWays + 3 {
		w.request("d-more", "C-20417", fmt.Sprintf("r-%d", i), 5, decision.WaitType, decision.MinimumGap, 13)
	}
	w.keep("C-20417", evening(w.now))
	if n := strings.Count(body(t, get(t, w.s.handler(), "/customers/C-20417")), "<article>"); n != shownWays {
		t.Errorf("%d requests of a customer are shown", n)
	}
	d := decision.Decision{Reason: decision.BestSlot, Request: "r-1", Score: decision.Score{Now: 70, Threshold: 60}}
	if r := sayRow(l, board.Row{Kind: "wait", Decision: &d}, w.now, w.zone); !strings.Contains(string(r.Meter), `x1="33.6"`) {
		t.Errorf("the meter's tick is not at the threshold of 60: %s", r.Meter)
	}
	simulated, live := from(topics.Decisions, stream.Run{Simulated: true}, w.now), from(topics.Decisions, stream.Run{}, w.now)
	if at := reflect.ValueOf(kafka.Earliest).Pointer(); reflect.ValueOf(simulated).Pointer() != at || reflect.ValueOf(live).Pointer() == at {
		t.Error("decisions are read from the beginning in a simulated run, and only there")
	}
}

func TestACustomersPageTellsTheWayOfEachRequest(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.drive()
	w.keep("C-20417", evening(w.now))
	page := body(t, get(t, w.s.handler(), "/customers/C-20417?lang=en"))
	says(t, page, "“winter-preview”, email <span>r-1</span>", "until Fri 4 Dec 10:17: the best allowed hour.", "until Fri 4 Dec 12:17 now: enough messages already, so it was moved.", "an hour that the customer has asked for.",
		`<time datetime="2026-12-03T08:12:17Z">Thu 3 Dec 09:12</time><a href="/decisions/d-r1">Wait</a>`)
	if waits, sent := strings.Index(page, "/decisions/d-r1"), strings.Index(page, "/decisions/d-r4"); waits < 0 || sent < waits {
		t.Error("what waits does not come before what has ended")
	}
	for range 9 {
		w.request("d-rx", "C-20417", "r-1", 5, decision.WaitType, decision.MinimumGap, 13)
		w.request("d-ry", "C-20417", "r-1", 4, decision.WaitType, decision.FrequencyCap, 12)
	}
	says(t, body(t, get(t, w.s.handler(), "/customers/C-20417?lang=en")), "14 changes in between")
	if page := body(t, get(t, w.s.handler(), "/customers/C-1?lang=en")); strings.Contains(page, "The way of each message") {
		t.Error("a customer without a request has ways")
	}
}

func TestADecisionHasAPage(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	w.drive()
	h := w.s.handler()
	says(t, body(t, get(t, h, "/decisions/d-r8?lang=en")), "<h1>Expired: enough messages already, until the deadline was over; nothing was sent.</h1>",
		`<tr><td>window</td><td>passed</td><td class="w">09:30-14:00 Europe/Rome, now 10:17</td></tr>`, `<tr class="not"><td>frequency cap</td><td>failed</td>`,
		"tempismo explain d-r8", "<dt>Request</dt><dd>r-6</dd>", "<dt>send.requests.v1</dt><dd>7:66120</dd>", `<a href="/customers/C-15530">C-15530</a>`)
	says(t, body(t, get(t, h, "/decisions/d-r8?lang=it")), "<td>limite di frequenza</td><td>non superata</td>", "1 su 1 in 24 ore, 3 su 3 in 7 giorni; su tutti i canali 1 su 2 in 24 ore, 3 su 6 in 7 giorni")
	says(t, body(t, get(t, h, "/decisions/d-r7?lang=en")), "control group, 10%", "<dt>Planned for</dt><dd>Fri 4 Dec 10:00–11:00</dd>")
	says(t, body(t, get(t, h, "/decisions/d-1?lang=en")), "Accepted by hubspot.", "unusually attentive")
	r := get(t, h, "/decisions/d-gone?lang=en")
	if page := body(t, r); r.StatusCode != http.StatusNotFound || !strings.Contains(page, "This decision is not among the latest") || !strings.Contains(page, "tempismo explain d-gone") {
		t.Errorf("a decision that is not remembered: %s", r.Status)
	}
	if page := body(t, get(t, h, "/decisions/%3Cscript%3E")); strings.Contains(page, "explain <script>") {
		t.Error("an id is taken for markup")
	}
	says(t, body(t, get(t, h, "/decisions?lang=en")), `<a href="/decisions/d-r8">Expired</a>`)
}

func TestBrowserShowsWhatWaits(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	w.drive()
	w.keep("C-20417", evening(w.now))
	b := browse(t, w)
	for _, form := range []struct {
		name, path, scheme string
		width              int64
	}{
		{"plan.light", "/?lang=en", "light", 1440}, {"plan.dark.it", "/?lang=it", "dark", 1440}, {"plan.tablet", "/?lang=en", "light", 1024}, {"plan.mobile", "/?lang=it", "light", 390},
		{"decision", "/decisions/d-r8?lang=en", "light", 1440}, {"decision.dark.it", "/decisions/d-r8?lang=it", "dark", 1440}, {"decision.mobile", "/decisions/d-r8?lang=en", "light", 390},
		{"ways", "/customers/C-20417?lang=en", "light", 1440}, {"ways.mobile", "/customers/C-20417?lang=it", "dark", 390},
	} {
		b.size(form.width, 1000, form.scheme)
		b.open(form.path)
		b.picture(form.name)
		if over := eval[int](b, fmt.Sprintf(`document.documentElement.scrollWidth - %d`, form.width)); over > 0 {
			t.Errorf("%s scrolls sideways by %d px", form.name, over)
		}
		if !strings.HasPrefix(form.name, "plan") {
			continue
		}
		if n := eval[int](b, `[...document.querySelectorAll('svg.ahead')].filter(e => e.getBoundingClientRect().width > 0).length`); n != 1 {
			t.Errorf("%s shows %d drawings of the hours, not one", form.name, n)
		}
		if bars := eval[int](b, `document.querySelectorAll('svg.ahead.wide .bar').length`); bars != 1 {
			t.Errorf("%s: %d bars, want the one hour in which something is due", form.name, bars)
		}
	}

	// Another request arrives; the table that is open stays so, and nothing moves.
	b.size(1440, 1000, "light")
	b.open("/?lang=en")
	b.connected()
	b.do(chromedp.Click(chromedp.CSS(".plan summary")))
	eval[bool](b, `(() => { window.shift = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) window.shift += e.value; }).observe({type: 'layout-shift'}); return true; })()`)
	w.request("d-new", "C-7", "r-new", 0, decision.WaitType, decision.BestSlot, 13)
	w.request("d-new2", "C-7", "r-more", 0, decision.WaitType, decision.BestSlot, 12)
	ctx, stop := context.WithCancel(t.Context())
	beating := make(chan error)
	go func() { beating <- w.s.pulse(ctx) }()
	t.Cleanup(func() {
		stop()
		<-beating
	})
	b.wait("the count follows", `document.getElementById('plan-finding').textContent === '5 requests wait for their moment'`)
	b.wait("the table follows, open", `document.getElementById('plan-table').innerText.includes('3') && document.getElementById('plan-table').closest('details').open`)
	b.wait("the picture follows", `document.querySelectorAll('svg.ahead.wide .bar').length === 2`)
	if shift := eval[float64](b, `window.shift`); shift != 0 {
		t.Errorf("the layout shifts by %v", shift)
	}

	// The keyboard reaches a decision from its row.
	eval[bool](b, `document.querySelector('[data-id=d-r8] .k a').focus() ?? true`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait("the decision opens", `document.readyState === 'complete' && document.querySelector('h1').textContent.startsWith('Expired: enough messages already')`)
}
