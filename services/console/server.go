package console

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/words"
)

//go:embed page
var page embed.FS

var templates = template.Must(template.ParseFS(page, "page/*.html"))

// static names the style sheet and the script by their content, so that browsers may keep them for ever.
var static = func() string {
	h := sha256.New()
	files, err := fs.Glob(page, "page/static/*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, name := range files {
		b, err := page.ReadFile(name)
		if err != nil {
			panic(err) // embedded files are always there
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}()

// server answers the browser.
type server struct {
	config     Config
	settings   app.Settings
	log        *slog.Logger
	zone       *time.Location
	now        func() time.Time // wall clock: where to begin reading, and the rate; everything else is event time
	state      shared
	connection atomic.Pointer[connection] // nil until Kafka and the store are reached
	vitals     atomic.Pointer[vitals]
	live       live
	done       <-chan struct{} // ends streams at shutdown
}

func newServer(c Config, s app.Settings, zone *time.Location) *server {
	v := &server{config: c, settings: s, log: s.Log, zone: zone, now: time.Now}
	v.state.board = board.New(zone)
	v.state.behind = map[string]map[int32]int64{}
	v.vitals.Store(&vitals{})
	v.live.init()
	return v
}

// frame is what every page has around its content.
type frame struct {
	L                 *words.Lang
	Page, Title       string
	Static            string
	Stream            string // address of the live stream; empty: the page stands still
	Badge, BadgeTitle string
	Filled            bool
	Languages         []language
	Clock             time.Time
	Zone              string
	Rate              float64
	Spark             template.HTML
	Lag               float64
	LagKnown, Behind  bool
	Notice            string
	Run               string
	Simulated         bool
	Model             string
	Policy            string
	Calendar          string
	Calibration       string
}

type language struct {
	Code, Name, URL string
	Current         bool
}

// RateDecimals and LagDecimals keep small numbers readable and large ones calm.
func (f frame) RateDecimals() int {
	if f.Rate > 0 && f.Rate < 10 {
		return 1
	}
	return 0
}

// LagDecimals is one below ten seconds.
func (f frame) LagDecimals() int {
	if f.Lag < 10 {
		return 1
	}
	return 0
}

// behindFrom is the lag, in seconds, from which it is shown as a warning: a burst's moment is half an hour.
const behindFrom = 30

// frame builds the frame; the caller holds the board's lock.
func (s *server) frame(l *words.Lang, pageName, title string, at *url.URL) frame {
	b := s.state.board
	f := frame{L: l, Page: pageName, Title: "Tempismo", Static: static, Zone: s.zone.String(), Run: s.config.Run.ID, Simulated: s.config.Run.Simulated()}
	if title != "" {
		f.Title = title + ", Tempismo"
	}
	f.Badge, f.BadgeTitle, f.Filled = s.badge(l)
	if at != nil {
		for _, code := range words.Codes {
			q := at.Query()
			q.Set("lang", code)
			f.Languages = append(f.Languages, language{code, strings.ToUpper(code), at.Path + "?" + q.Encode(), code == l.Code})
		}
	}
	if c := b.Clock(); !c.IsZero() {
		f.Clock = c.In(s.zone)
	}
	rate, line := s.live.rate()
	f.Rate = rate
	f.Spark = chart.Line{Values: line, W: 76, H: 26, Ref: math.NaN(), Zero: true, Label: l.T("vital.rate.chart")}.SVG()
	v := s.vitals.Load()
	f.Lag, f.LagKnown = v.lag.Seconds(), v.lagKnown
	f.Behind = f.Lag >= behindFrom
	f.Model, f.Policy, f.Calendar = b.Versions()
	if share, n := b.Calibration(); n >= 1000 {
		f.Calibration = l.T("foot.calibration", l.Pct(share, 1), l.Pct(.02275, 1))
	}
	switch {
	case v.rebuilding:
		f.Notice = l.T("rebuilding")
	case s.state.catchingUp() && !b.Clock().IsZero():
		f.Notice = l.T("catching")
	}
	return f
}

// badge says where the numbers come from: outlined for a laptop, filled for a cluster.
func (s *server) badge(l *words.Lang) (name, title string, filled bool) {
	mode := ""
	if s.config.Run.Simulated() {
		mode, title = l.T("badge.simulated"), l.T("badge.simulated.title")
		if s.config.Pace > 0 {
			mode += " ×" + l.Num(s.config.Pace, 0)
		}
	}
	switch {
	case s.config.Name != "":
		name = s.config.Name
	case s.config.Embedded:
		name = l.T("badge.embedded")
	case mode == "":
		name = l.T("badge.live")
	}
	if s.config.Embedded {
		title = strings.TrimSpace(l.T("badge.embedded.title") + ". " + title)
	}
	if name != "" && mode != "" {
		return l.T("badge.join", name, strings.ToLower(mode)), title, false
	}
	return name + mode, title, !s.config.Embedded && mode == ""
}

// handler is the whole site.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.getNow)
	mux.HandleFunc("GET /live", s.getLive)
	mux.HandleFunc("GET /api/now", s.getAPI)
	mux.HandleFunc("GET /customers", s.getCustomers)
	mux.HandleFunc("GET /customers/{id...}", s.getCustomer)
	mux.HandleFunc("GET /decisions", s.getDecisions)
	mux.HandleFunc("GET /decisions/{id}", s.getDecision)
	mux.HandleFunc("GET /model", s.getModel)
	mux.HandleFunc("GET /calendar", s.getCalendar)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.message(w, r, http.StatusNotFound, "error.missing")
	})
	site := s.authenticated(mux)
	open := http.NewServeMux()
	open.HandleFunc("GET /static/{version}/{file}", getStatic)
	open.HandleFunc("POST /login", s.postLogin)
	open.Handle("/", site)
	return s.guarded(open)
}

// policy lets the page load what it brings itself, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded sets the headers of every answer, and on loopback refuses names that are not this machine's: a page of another
// site must not read the console through a name that it points at 127.0.0.1.
func (s *server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if s.config.Token == "" && !loopback(strings.Trim(host, "[]")) {
			http.Error(w, "open the console as localhost, or set CONSOLE_TOKEN", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

const (
	sessionCookie  = "tempismo_session"
	languageCookie = "tempismo_lang"
)

// session is what the cookie holds: not the token, but what only the token gives.
func (s *server) session() string {
	h := sha256.Sum256([]byte("tempismo console session\x00" + string(s.config.Token)))
	return hex.EncodeToString(h[:])
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// authenticated asks for the token, if there is one: as a session cookie, or as a bearer for tools.
func (s *server) authenticated(next http.Handler) http.Handler {
	if s.config.Token == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(sessionCookie); err == nil && same(c.Value, s.session()) {
			next.ServeHTTP(w, r)
			return
		}
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && same(bearer, string(s.config.Token)) {
			next.ServeHTTP(w, r)
			return
		}
		s.login(w, r, false)
	})
}

func (s *server) login(w http.ResponseWriter, r *http.Request, wrong bool) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="tempismo console"`)
	if strings.HasPrefix(r.URL.Path, "/api/") {
		http.Error(w, "send Authorization: Bearer with the CONSOLE_TOKEN", http.StatusUnauthorized)
		return
	}
	render(w, http.StatusUnauthorized, "login", struct {
		L      *words.Lang
		Static string
		Wrong  bool
	}{choose(w, r), static, wrong})
}

func (s *server) postLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if s.config.Token == "" || !same(r.PostFormValue("token"), string(s.config.Token)) {
		s.login(w, r, true)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: s.session(), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https", MaxAge: 7 * 24 * 3600})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// choose finds the language: of the address, which is remembered; of the cookie; of the browser.
func choose(w http.ResponseWriter, r *http.Request) *words.Lang {
	w.Header().Add("Vary", "Accept-Language, Cookie")
	if code := r.URL.Query().Get("lang"); words.Spoken(code) {
		http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: code, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600})
		return words.In(code)
	}
	if c, err := r.Cookie(languageCookie); err == nil && words.Spoken(c.Value) {
		return words.In(c.Value)
	}
	return words.Accepted(r.Header.Get("Accept-Language"))
}

var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func getStatic(w http.ResponseWriter, r *http.Request) {
	b, err := page.ReadFile("page/static/" + path.Base(r.PathValue("file")))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentTypes[path.Ext(r.PathValue("file"))])
	if r.PathValue("version") == static {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	_, _ = w.Write(b) // the viewer is gone
}

// render writes a page only when it is complete.
func render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // the viewer is gone
}

// pageRows is how many rows of each feed are in the page as it arrives; the live stream brings the list to board.Shown.
const pageRows = 20

func (s *server) getNow(w http.ResponseWriter, r *http.Request) {
	l, q := choose(w, r), parseQuery(r.URL.Query())
	s.state.mu.Lock()
	f := s.frame(l, "now", "", r.URL)
	v := viewNow(f, s.state.board, q, s.live.figures(s.state.board), s.state.dials, pageRows)
	s.state.mu.Unlock()
	v.Stream = s.live.address(l, q)
	render(w, http.StatusOK, "now", v)
}

func (s *server) getDecisions(w http.ResponseWriter, r *http.Request) {
	l := choose(w, r)
	s.state.mu.Lock()
	f := s.frame(l, "decisions", l.T("dec.title"), r.URL)
	feed := s.state.board.Decisions()
	v := struct {
		frame
		HeadDecisions string
		Rows          []rowView
	}{f, sayHead(l, feed, true), sayRows(l, feed.Rows, board.Shown, s.state.board)}
	s.state.mu.Unlock()
	v.Stream = s.live.address(l, query{})
	render(w, http.StatusOK, "decisions", v)
}

// message is a page that only says something.
func (s *server) message(w http.ResponseWriter, r *http.Request, status int, key string) {
	l := choose(w, r)
	s.state.mu.Lock()
	f := s.frame(l, "", l.T("error.title"), r.URL)
	s.state.mu.Unlock()
	render(w, status, "message", struct {
		frame
		Finding, Say string
	}{f, l.T("error.title"), l.T(key)})
}

// getAPI answers the numbers of the Now page as JSON, for tools and tests.
func (s *server) getAPI(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r.URL.Query())
	s.state.mu.Lock()
	b := s.state.board
	week := b.Week(q.Filter)
	fig := s.live.figures(b)
	rate, _ := s.live.rate()
	v := s.vitals.Load()
	dev, dec := b.Deviations(), b.Decisions()
	out := apiNow{
		Run: s.config.Run.ID, Mode: s.config.Run.Mode, Events: b.Events(), EventsPerSecond: rate, CatchingUp: s.state.catchingUp(), Unreadable: s.state.unreadable,
		Week:       apiWeek{All: week.All, Flags: week.Flags, Cells: week.Cells[:], Best: week.Best},
		Figures:    apiFigures{fig.Optimal.Last(), fig.Response.Last(), fig.Deviation.Last()},
		Deviations: apiFeed{dev.LastHour, 0, apiRows(dev.Rows)}, Decisions: apiFeed{dec.LastHour, dec.SentNow, apiRows(dec.Rows)},
		Segments: b.Segments(), Channels: b.Channels(),
	}
	if c := b.Clock(); !c.IsZero() {
		out.Clock = c.UTC().Format(time.RFC3339Nano)
	}
	if !math.IsNaN(week.Peak) {
		out.Week.Peak = week.Peak
	}
	s.state.mu.Unlock()
	if v.lagKnown {
		seconds := v.lag.Seconds()
		out.LagSeconds = &seconds
	}
	out.Rebuilding = v.rebuilding
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	if err := e.Encode(out); err != nil {
		s.log.WarnContext(r.Context(), "the viewer is gone", slog.Any("error", err))
	}
}

type apiNow struct {
	Run             string     `json:"run"`
	Mode            string     `json:"mode"`
	Clock           string     `json:"clock,omitempty"`
	Events          uint64     `json:"events"`
	EventsPerSecond float64    `json:"events_per_second"`
	LagSeconds      *float64   `json:"lag_seconds"` // null: not known
	CatchingUp      bool       `json:"catching_up"`
	Rebuilding      bool       `json:"rebuilding"`
	Unreadable      uint64     `json:"unreadable"`
	Week            apiWeek    `json:"week"`
	Figures         apiFigures `json:"figures"`
	Deviations      apiFeed    `json:"deviations"`
	Decisions       apiFeed    `json:"decisions"`
	Segments        []string   `json:"segments"`
	Channels        []string   `json:"channels"`
}

type apiWeek struct {
	All   board.Sum    `json:"all"`
	Flags int          `json:"flags"`
	Best  int          `json:"best"` // first of the three hours of the finding; -1: none yet
	Peak  float64      `json:"peak"` // their ratio
	Cells []board.Cell `json:"cells"`
}

type apiFigures struct {
	Optimal   board.Point `json:"optimal"`
	Response  board.Point `json:"response_seconds"`
	Deviation board.Point `json:"deviation"`
}

type apiFeed struct {
	LastHour int      `json:"last_hour"`
	SentNow  int      `json:"sent_now"`
	Rows     []apiRow `json:"rows"`
}

type apiRow struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Time     string `json:"time"`
	Kind     string `json:"kind"`
	Outcome  string `json:"outcome,omitempty"`
}

func apiRows(rows []board.Row) []apiRow {
	out := make([]apiRow, 0, len(rows))
	for _, r := range rows {
		a := apiRow{ID: r.ID, Customer: r.Customer, Time: r.Time.UTC().Format(time.RFC3339Nano), Kind: r.Kind}
		if r.Outcome != nil {
			a.Outcome = string(r.Outcome.Result)
		}
		out = append(out, a)
	}
	return out
}

func (s *server) getCustomers(w http.ResponseWriter, r *http.Request) {
	if id := strings.TrimSpace(r.URL.Query().Get("id")); id != "" {
		http.Redirect(w, r, "/customers/"+url.PathEscape(id), http.StatusSeeOther)
		return
	}
	l := choose(w, r)
	s.state.mu.Lock()
	f := s.frame(l, "customers", l.T("cust.title"), r.URL)
	recent := s.state.board.Recent(24)
	s.state.mu.Unlock()
	v := struct {
		frame
		Recent []option
	}{frame: f}
	slices.Sort(recent)
	for _, id := range recent {
		v.Recent = append(v.Recent, option{Name: id, URL: "/customers/" + url.PathEscape(id)})
	}
	v.Stream = s.live.address(l, query{})
	render(w, http.StatusOK, "customers", v)
}
