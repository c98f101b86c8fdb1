package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t testing.TB, h http.Handler, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://localhost:8080"+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAConfigurationThatOpensTheConsoleToTheWorldIsRefused(t *testing.T) {
	for _, c := range []struct{ name, listen, token, zone, want string }{
		{"loopback needs no token", "127.0.0.1:8080", "", "Europe/Rome", ""},
		{"loopback has a name", "localhost:8080", "", "Europe/Rome", ""},
		{"IPv6 has a loopback too", "[::1]:8080", "", "Europe/Rome", ""},
		{"every address needs a token", ":8080", "", "Europe/Rome", "CONSOLE_TOKEN"},
		{"an address of the network needs a token", "10.0.0.7:8080", "", "Europe/Rome", "CONSOLE_TOKEN"},
		{"with a token it may be anywhere", ":8080", "0123456789abcdef", "Europe/Rome", ""},
		{"a short token can be guessed", ":8080", "secret", "Europe/Rome", "CONSOLE_TOKEN"},
		{"a port alone is no address", "8080", "", "Europe/Rome", "CONSOLE_LISTEN"},
		{"a zone has a name", "127.0.0.1:8080", "", "Rome", "CONSOLE_ZONE"},
	} {
		var cfg Config
		err := config.Parse(&cfg, "console", []string{"--listen", c.listen, "--token", c.token, "--zone", c.zone}, func(string) (string, bool) { return "", false })
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: the error is %v, want one about %s", c.name, err, c.want)
		}
	}
}

func TestAnEmptyConsoleSaysWhatIsMissing(t *testing.T) {
	w := newTown(t, Config{})
	h := w.s.handler()
	page := body(t, get(t, h, "/?lang=en"))
	for _, want := range []string{"No data yet: run “tempismo up --demo”", "no event yet", `class="c r4 e0 d0"`, "Monday", "No customer has stepped out", "Needs deliveries and reactions."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(page, `<rect class="c r4 e0 d0"`); n != 2*168 {
		t.Errorf("%d empty cells are drawn, want 2 x 168", n)
	}
	var now apiNow
	if err := json.Unmarshal([]byte(body(t, get(t, h, "/api/now"))), &now); err != nil || now.Clock != "" || len(now.Week.Cells) != 168 {
		t.Errorf("the API says %+v %v", now, err)
	}
	if r := get(t, h, "/customers/C-1"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a profile without a store: %s", r.Status)
	}
	if r := get(t, h, "/nothing"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a page that does not exist: %s", r.Status)
	}
}

func TestTheAPISaysWhatThePageSays(t *testing.T) {
	w := newTown(t, Config{})
	w.history(36)
	w.morning()
	h := w.s.handler()
	page := body(t, get(t, h, "/?lang=en"))
	var now apiNow
	if err := json.Unmarshal([]byte(body(t, get(t, h, "/api/now"))), &now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("between %d and %d: %.1f times", now.Week.Best, now.Week.Best+3, now.Week.Peak),
		fmt.Sprintf("%d of 168 cells", now.Week.Flags),
		fmt.Sprintf(`%.1f<small>%%</small>`, 100*now.Figures.Optimal.Value),
		fmt.Sprintf("%d in the last hour", now.Deviations.LastHour),
		fmt.Sprintf("%d sent now", now.Decisions.SentNow),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q, the API does", want)
		}
	}
	if len(now.Deviations.Rows) != 13 || now.Decisions.Rows[0].Outcome != "accepted" || now.Clock != "2026-12-03T09:41:53Z" || now.Events == 0 {
		t.Errorf("the API: %d deviations, first decision %+v, clock %s, %d events", len(now.Deviations.Rows), now.Decisions.Rows[0], now.Clock, now.Events)
	}
	var premium apiNow
	if err := json.Unmarshal([]byte(body(t, get(t, h, "/api/now?segment=premium"))), &premium); err != nil || premium.Week.All.Engaged >= now.Week.All.Engaged/2 || premium.Week.All.Engaged == 0 {
		t.Errorf("premium has %v of %v engaged hours", premium.Week.All.Engaged, now.Week.All.Engaged)
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	w := newTown(t, Config{})
	h := w.s.handler()
	for _, path := range []string{"/", "/customers", "/decisions", "/api/now", "/static/" + static + "/console.js"} {
		r := get(t, h, path)
		if csp := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		if page := body(t, r); strings.Contains(page, "<style") || strings.Contains(page, " style=") || strings.Contains(page, " onclick") {
			t.Errorf("%s needs what its own policy forbids", path)
		}
		if r := get(t, h, path, "Host", "rebound.example"); r.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s answers %s to a name that is not this machine's", path, r.Status)
		}
	}
	if r := get(t, h, "/static/x/../../server.go"); r.StatusCode == http.StatusOK {
		t.Error("a file beside the page is served")
	}
}

func TestATokenIsAskedForAndRemembered(t *testing.T) {
	const token = "0123456789abcdef"
	w := newTown(t, Config{Token: token})
	h := w.s.handler()
	for _, path := range []string{"/", "/api/now", "/live", "/customers/C-1"} {
		if r := get(t, h, path); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without the token: %s", path, r.Status)
		}
	}
	if r := get(t, h, "/api/now", "Authorization", "Bearer "+token, "Host", "console.example"); r.StatusCode != http.StatusOK {
		t.Errorf("with the bearer: %s", r.Status)
	}
	if r := get(t, h, "/api/now", "Authorization", "Bearer wrong"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("with a wrong bearer: %s", r.Status)
	}
	enter := func(token string) *http.Response {
		r := httptest.NewRequest(http.MethodPost, "http://console.example/login", strings.NewReader(url.Values{"token": {token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Result()
	}
	if r := enter("wrong"); r.StatusCode != http.StatusUnauthorized || len(r.Cookies()) != 0 || !strings.Contains(body(t, r), "That is not the token.") {
		t.Errorf("a wrong token: %s, cookies %v", r.Status, r.Cookies())
	}
	r := enter(token)
	if r.StatusCode != http.StatusSeeOther || len(r.Cookies()) != 1 || !r.Cookies()[0].HttpOnly || strings.Contains(r.Cookies()[0].Value, token) {
		t.Fatalf("the token: %s, cookies %v", r.Status, r.Cookies())
	}
	if r := get(t, h, "/", "Cookie", r.Cookies()[0].String()); r.StatusCode != http.StatusOK {
		t.Errorf("with the session: %s", r.Status)
	}
}

// keep stores a profile as the profiler does.
func (w *town) keep(id string, p *timing.Profile) {
	w.t.Helper()
	const partitions = 8
	store := streamtest.NewStore()
	n := stream.Partition([]byte(id), partitions)
	lease, err := store.Claim(w.t.Context(), w.s.config.run().Group("profiler"), n)
	if err == nil {
		err = lease.Commit(w.t.Context(), &stream.Commit{Next: map[string]int64{topics.Events: 1}, Keys: []string{id}, Values: [][]byte{p.Append(nil)}, Partitions: partitions})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.s.connection.Store(&connection{store: store, partitions: partitions})
}

// evening is a customer who has read at half past eight in the evening, and at times at eleven, for half a year.
func evening(now time.Time) *timing.Profile {
	zone, _ := calendar.Zone("Europe/Rome")
	w := &timing.World{Model: timing.Builtin()}
	p := &timing.Profile{Zone: "Europe/Rome"}
	c := p.Channel("email")
	for d := 180; d > 0; d-- {
		day := now.AddDate(0, 0, -d)
		at := func(h, min int) int64 {
			hour, _ := calendar.LocalHour(time.Date(day.Year(), day.Month(), day.Day(), h, min, 0, 0, zone), zone)
			return hour
		}
		if d%2 == 0 {
			c.Delivered(w, at(9, 0))
		}
		if d%4 == 0 {
			c.Engaged(w, at(11, 10), 10)
		}
		if d%2 == 0 {
			c.Engaged(w, at(20, 30), 30)
		}
	}
	return p
}

func TestACustomersPageExplainsTheProfile(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	w.keep("C-20417", evening(w.now))
	h := w.s.handler()
	page := body(t, get(t, h, "/customers/C-20417?lang=en"))
	for _, want := range []string{"C-20417 reads around 20", "We compare when this customer reads with when we mailed.", "Confidence is", "Europe/Rome", "builtin.1", "own rhythm", "read in 5 different hours today", "Accepted by hubspot."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(page, `<rect class="c r`); n != 2*168 {
		t.Errorf("%d cells are drawn, want 2 x 168", n)
	}
	if page := body(t, get(t, h, "/customers/C-20417?lang=it")); !strings.Contains(page, "C-20417 legge verso le 20") {
		t.Error("the Italian page has no Italian finding")
	}
	r := get(t, h, "/customers/nobody")
	if page := body(t, r); r.StatusCode != http.StatusNotFound || !strings.Contains(page, "No profile of nobody") {
		t.Errorf("an unknown customer: %s", r.Status)
	}
	if r := get(t, h, "/customers?id=C%2F1+x"); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/customers/C%2F1%20x" {
		t.Errorf("the search leads to %s %q", r.Status, r.Header.Get("Location"))
	}
	if page := body(t, get(t, h, `/customers/%3Cscript%3Ealert(1)%3C%2Fscript%3E`)); strings.Contains(page, "<script>alert") {
		t.Error("an id is taken for markup")
	}
	lost := evening(w.now)
	lost.Zone, lost.Segment = "", "premium"
	w.keep("C-2", lost)
	if page := body(t, get(t, h, "/customers/C-2?lang=en")); !strings.Contains(page, "The time zone is not known: hours are those of Europe/Rome.") || !strings.Contains(page, "<span>premium</span>") {
		t.Error("a customer without a zone is not said to have none")
	}
}

func TestACustomerWhoseHabitMovedShowsBeforeAndAfter(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	w.tales()
	w.keep("C-10874", evening(w.now))
	page := body(t, get(t, w.s.handler(), "/customers/C-10874?lang=en"))
	for _, want := range []string{"On 24 Nov the habit moved: from around 12:00 to around 20:00.", `class="way"`, "from the hollow mark to the full one", "now reads around 20:00, no longer around 12:00."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	w.keep("C-1", evening(w.now))
	if page := body(t, get(t, w.s.handler(), "/customers/C-1?lang=en")); strings.Contains(page, "way") && strings.Contains(page, `class="way"`) || strings.Contains(page, "habit moved") {
		t.Error("a habit that did not move is drawn as if it had")
	}
}

func TestTheModelPageShowsWhatIsInForce(t *testing.T) {
	w := newTown(t, Config{})
	h := w.s.handler()
	page := func(lang string) string { return body(t, get(t, h, "/model?lang="+lang)) }
	says := func(page string, want ...string) {
		t.Helper()
		for _, s := range want {
			if !strings.Contains(page, s) {
				t.Errorf("the page does not say %q", s)
			}
		}
	}
	says(page("en"), "No model has been published yet", "tempismo models")
	w.publish(false)
	says(page("en"), "The built-in model is in force", "Model builtin.1", "No personas have been fitted yet")
	w.now = w.now.Add(time.Minute)
	w.publish(true)
	en := page("en")
	says(en, "Everybody reads most around", "in 4 different ways", "Fitted on 4 Jun 2026 to 3 Dec 2026", "10,000 customers", "costs 4.020 bits; the model before it would have cost 4.110",
		"Tuesday morning readers, 10-12", "40%", "Segment “premium”", "Seasons and holidays", "builtin.1", "Half come within", "held_out_customers", "<span>Calibration: ", "1 field that the sample could not tell", "only 7 engaged hours")
	if n := strings.Count(en, `class="strip"`); n != 1+4+1 {
		t.Errorf("%d strips, want everybody's, four personas' and a segment's", n)
	}
	if n := strings.Count(en, `class="fig cal"`); n != 3 {
		t.Errorf("%d pictures of calibration, want one a kind", n)
	}
	// A table stands behind the picture: what is drawn from uniform p-values is close to them.
	says(en, "<th scope=\"row\">Burst</th><td>0-4</td><td>400,000</td><td>10%</td><td>5.0%</td><td>2.3%</td>")
	says(page("it"), "Tutti leggono di più verso le", "lettori del mattino, martedì, 10-12", "400.000")
}

func TestDaysWithoutAFeedAreSaid(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	at := w.now.Add(-time.Hour)
	w.emit(topics.Digests, timing.DigestType, "dg-gap", "", at, timing.Digest{Minute: at, Seconds: 3600, Gaps: []string{"2026-12-01", "2026-11-30", "2026-12-01", "2026-10-01", "yesterday"}})
	for lang, want := range map[string]string{
		"en": "The feed of engagements was down on 30 Nov and 1 Dec: nobody’s silence counts there.",
		"it": "Il flusso delle letture si è interrotto il 30 nov e 1 dic: lì il silenzio non conta per nessuno.",
	} {
		if page := body(t, get(t, w.s.handler(), "/?lang="+lang)); !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestOnlyASimulatedRunTellsStories(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	page := body(t, get(t, w.s.handler(), "/?lang=en"))
	for _, want := range []string{"Three stories", "No habit has moved yet.", "Nobody has fallen silent yet.", "Nobody has read far more than usual yet."} {
		if !strings.Contains(page, want) {
			t.Errorf("before anything happened the page does not say %q", want)
		}
	}
	w.morning()
	w.tales()
	w.keep("C-10874", evening(w.now))
	w.s.picture(t.Context())
	_, page, _ = strings.Cut(body(t, get(t, w.s.handler(), "/?lang=en")), `id="stories"`)
	page, _, _ = strings.Cut(page, "</section>")
	for _, want := range []string{`<a href="/customers/C-10874">C-10874</a> now reads around 20:00, no longer around 12:00.`, `<a href="/customers/C-31962">`, `<a href="/customers/C-64250">`, `class="way"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the stories do not say %q", want)
		}
	}
	if n := strings.Count(page, `class="bp`); n != 24 {
		t.Errorf("%d hours are drawn, want those of the one profile that is kept", n)
	}
	live := newTown(t, Config{Run: config.Run{ID: "r1", Mode: "live"}})
	live.history(9)
	live.morning()
	if page := body(t, get(t, live.s.handler(), "/?lang=en")); strings.Contains(page, "stories") {
		t.Error("a live run tells stories")
	}
}

func TestBrowserShowsTheModel(t *testing.T) {
	w := newTown(t, Config{Embedded: true, Pace: 60})
	w.history(9)
	w.publish(true)
	b := browse(t, w)
	for _, form := range []struct {
		name, lang, scheme string
		width              int64
	}{{"model.light", "en", "light", 1440}, {"model.dark", "it", "dark", 1440}, {"model.mobile", "en", "light", 390}} {
		b.size(form.width, 1000, form.scheme)
		b.open("/model?lang=" + form.lang)
		b.picture(form.name)
		if over := eval[int](b, fmt.Sprintf(`document.documentElement.scrollWidth - %d`, form.width)); over > 0 {
			t.Errorf("%s scrolls sideways by %d px", form.name, over)
		}
		if n := eval[int](b, `[...document.querySelectorAll('.strip')].filter(s => s.getBoundingClientRect().width > 200).length`); n != 6 {
			t.Errorf("%s: %d of 6 strips are wide enough to be read", form.name, n)
		}
	}
}

func TestBrowserShowsACustomer(t *testing.T) {
	w := newTown(t, Config{Embedded: true, Pace: 60})
	w.history(9)
	w.morning()
	w.tales()
	w.keep("C-20417", evening(w.now))
	b := browse(t, w)
	for _, form := range []struct {
		name, lang, scheme string
		width              int64
	}{{"customer.light", "en", "light", 1440}, {"customer.dark", "it", "dark", 1440}, {"customer.mobile", "en", "light", 390}} {
		b.size(form.width, 1000, form.scheme)
		b.open("/customers/C-20417?lang=" + form.lang)
		b.picture(form.name)
		if over := eval[int](b, fmt.Sprintf(`document.documentElement.scrollWidth - %d`, form.width)); over > 0 {
			t.Errorf("%s scrolls sideways by %d px", form.name, over)
		}
	}
	b.size(1440, 1000, "light")
	b.open("/customers/C-20417?lang=en")
	first := eval[string](b, `document.getElementById('read').textContent`)
	eval[bool](b, `document.querySelector('svg.hm.wide').focus() ?? true`)
	if now := eval[string](b, `document.getElementById('read').textContent`); now != first {
		t.Errorf("the script reads the best hour as %q, the server as %q", now, first)
	}
}

// events reads named events off a stream.
func events(t *testing.T, r io.Reader, n int) (out []string) {
	t.Helper()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for len(out) < n && lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			out = append(out, name)
		}
	}
	return out
}

func TestTheStreamBeginsWithEverythingAndEndsWithTheServer(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	stop := make(chan struct{})
	w.s.done = stop
	site := httptest.NewServer(w.s.handler())
	defer site.Close()
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get(site.URL + "/live?lang=en")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	if got := strings.Join(events(t, resp.Body, 4), " "); got != "parts cells update deviation" {
		t.Errorf("the stream begins with %s", got)
	}
	close(stop)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream does not end cleanly: %v", err)
	}
}

func TestViewersAreBounded(t *testing.T) {
	w := newTown(t, Config{})
	for range maxViewers {
		if !w.s.live.enter() {
			t.Fatal("a viewer is refused too early")
		}
	}
	if r := get(t, w.s.handler(), "/live"); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("one viewer too many: %s", r.Status)
	}
}

// TestTheConsoleReadsTheTopics runs the service as it is, on an embedded broker and store.
func TestTheConsoleReadsTheTopics(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	redisServer, err := redis.StartEmbedded("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer redisServer.Close()
	ctx := t.Context()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Kafka: broker.Config(), Redis: redis.Config{Addr: redisServer.Addr()}, Run: config.Run{ID: "t1", Mode: "simulated"}, Zone: "Europe/Rome", Listener: ln}
	if err := kafka.EnsureTopics(ctx, c.Kafka, c.run(), 2); err != nil {
		t.Fatal(err)
	}
	log, err := kafka.Open(ctx, c.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	out, err := kafka.NewWriter(ctx, log, c.run())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	at := time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC)
	put := func(topic, id, typ, subject string, seq int, data any) {
		t.Helper()
		b, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		ev := stream.Event{ID: id, Source: "/tempismo/x/t1/in/0", Type: typ, Subject: subject, Time: at, Sequence: fmt.Sprintf("%020d.000", seq), Data: b}
		if err := out.Write(ctx, topic, []byte(subject), ev.Append(nil), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	put(topics.Digests, "dg-1", timing.DigestType, "", 1, timing.Digest{Minute: at, Seconds: 60, Cells: []timing.Cell{{Channel: "email", How: 82, Delivered: 3, Engaged: 2, Expected: 1, ModelExpected: 1}}, Events: timing.Events{Human: 5}})
	put(topics.Deviations, "dv-1", deviation.Type, "C-1", 1, deviation.Deviation{Kind: timing.Burst, Z: 2.5, OneIn: 160})

	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	health := &app.Health{}
	go func() { done <- Run(running, c, app.Settings{Health: health}) }()
	defer http.DefaultClient.CloseIdleConnections()
	// ask polls the API until the page has caught up and says what is wanted.
	ask := func(want func(apiNow) bool) apiNow {
		t.Helper()
		for {
			resp, err := http.Get("http://" + ln.Addr().String() + "/api/now")
			if err != nil {
				t.Fatal(err)
			}
			var now apiNow
			if err := json.Unmarshal([]byte(body(t, resp)), &now); err != nil {
				t.Fatal(err)
			}
			if want(now) {
				return now
			}
			select {
			case err := <-done:
				t.Fatalf("the console ends: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	now := ask(func(n apiNow) bool { return !n.CatchingUp && len(n.Deviations.Rows) == 1 && n.LagSeconds != nil })
	if now.Events != 5 || now.Week.All.Engaged != 2 || now.Run != "t1" || now.Unreadable != 0 {
		t.Errorf("after the start: %+v", now)
	}
	if ready, parts := health.State(); !ready {
		t.Errorf("not ready: %+v", parts)
	}
	put(topics.Deviations, "dv-2", deviation.Type, "C-2", 2, deviation.Deviation{Kind: timing.Burst, Z: 2.5, OneIn: 160})
	if err := out.Write(ctx, topics.Decisions, []byte("C-2"), []byte("not a record"), time.Now()); err != nil {
		t.Fatal(err)
	}
	ask(func(n apiNow) bool { return len(n.Deviations.Rows) == 2 && n.Unreadable == 1 })
	stop()
	if err := <-done; err != nil {
		t.Errorf("a clean stop says %v", err)
	}
}
