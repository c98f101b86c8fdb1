package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/words"
)

// Cadence of the live stream.
const (
	beatEvery   = time.Second
	slowEvery   = 5  // beats between two looks at what changes slowly
	rateWindow  = 60 // beats that the rate is averaged over: digests close by the minute
	rateSamples = 60 // points of the sparkline
	rateStep    = 5  // beats between two points
	maxViewers  = 64 // streams at once; a page beyond them stands still
)

// Names of the parts that the live stream replaces; each is a template and an element's id.
var (
	fastParts = []string{"clock", "rate", "spark", "lag", "notice", "flags-w", "flags-t", "week-table", "flag-table", "head-deviations", "head-decisions"}
	slowParts = []string{"finding", "lead", "margins-w", "margins-t", "kpis", "kpi-table", "key", "versions", "stories", "plan-finding", "plan-lead", "plan-hours", "plan-table", "plan-policy"}
)

// live is the beat of the console: once a second the feeds move, and every viewer is told what changed.
type live struct {
	mu      sync.Mutex
	boot    string // tells streams of this process from those of an earlier one
	seq     uint64
	rows    []liveRow // the latest, oldest first
	beat    chan struct{}
	count   uint64
	events  []uint64 // of the last beats, oldest first
	line    []float64
	viewers int
	fig     board.Figures
	figAt   time.Time
	figSet  bool
}

type liveRow struct {
	seq  uint64
	feed string
	row  board.Row
}

func (l *live) init() {
	l.boot = strconv.FormatInt(time.Now().UnixNano(), 36)
	l.beat = make(chan struct{})
}

// address is where a page listens, from the rows that it has on.
func (l *live) address(lang *words.Lang, q query) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := url.Values{"lang": {lang.Code}, "after": {l.boot + "-" + strconv.FormatUint(l.seq, 10)}}
	if q.segment != "" {
		v.Set("segment", q.segment)
	}
	if q.Filter.Channel != "" {
		v.Set("channel", q.Filter.Channel)
	}
	return "/live?" + v.Encode()
}

// rate is the events per second of the last minute, and the sparkline of the last five.
func (l *live) rate() (float64, []float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := make([]float64, rateSamples)
	for i := range line {
		line[i] = math.NaN()
	}
	copy(line[rateSamples-len(l.line):], l.line)
	return l.perSecond(), line
}

func (l *live) perSecond() float64 {
	if n := len(l.events); n > 1 {
		return float64(l.events[n-1]-l.events[0]) / float64(n-1) / beatEvery.Seconds()
	}
	return 0
}

// figures are computed at most once per minute of event time: they are sums over weeks. The caller holds the board's lock.
func (l *live) figures(b *board.Board) board.Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := b.Clock().Truncate(time.Minute); !l.figSet || !at.Equal(l.figAt) {
		l.fig, l.figAt, l.figSet = b.Figures(), at, true
	}
	return l.fig
}

// pulse runs the beat until ctx ends.
func (s *server) pulse(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.tick()
		}
	}
}

// tick is one beat.
func (s *server) tick() {
	s.state.mu.Lock()
	deviations, decisions := s.state.board.Tick()
	events, catching := s.state.board.Events(), s.state.catchingUp()
	s.state.mu.Unlock()

	l := &s.live
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range []struct {
		feed string
		rows []board.Row
	}{{"deviation", deviations}, {"decision", decisions}} {
		for i := len(f.rows) - 1; i >= 0; i-- { // oldest first, so that the newest ends on top
			l.seq++
			l.rows = append(l.rows, liveRow{l.seq, f.feed, f.rows[i]})
		}
	}
	if over := len(l.rows) - 4*board.Shown; over > 0 {
		l.rows = append(l.rows[:0], l.rows[over:]...)
	}
	if catching {
		l.events = l.events[:0] // the past is not throughput
	}
	l.events = append(l.events, events)
	if over := len(l.events) - rateWindow; over > 0 {
		l.events = append(l.events[:0], l.events[over:]...)
	}
	if l.count%rateStep == 0 && len(l.events) > 1 {
		l.line = append(l.line, l.perSecond())
		if over := len(l.line) - rateSamples; over > 0 {
			l.line = append(l.line[:0], l.line[over:]...)
		}
	}
	l.count++
	close(l.beat)
	l.beat = make(chan struct{})
}

// after returns the rows beyond seq, the latest seq, the beat to wait for and its number.
func (l *live) after(seq uint64) ([]liveRow, uint64, <-chan struct{}, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []liveRow
	for _, r := range l.rows {
		if r.seq > seq {
			out = append(out, r)
		}
	}
	return out, l.seq, l.beat, l.count
}

func (l *live) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.viewers >= maxViewers {
		return false
	}
	l.viewers++
	return true
}

func (l *live) leave() {
	l.mu.Lock()
	l.viewers--
	l.mu.Unlock()
}

// resume reads the position from which a stream goes on. Of an earlier process, or without one, everything that is kept
// is sent again; the page drops rows that it has.
func (l *live) resume(r *http.Request) uint64 {
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = r.URL.Query().Get("after")
	}
	boot, seq, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil || boot != l.boot {
		return 0
	}
	return n
}

// viewer is one stream: what it was sent, so that only changes are.
type viewer struct {
	s       *server
	lang    *words.Lang
	q       query
	parts   map[string]string
	classes map[int]string
	cells   map[int]cellWire
	days    string
	rows    map[string]string
	version uint64
	out     bytes.Buffer
}

// getLive streams named events: parts (id -> HTML), cells, deviation, decision, update.
func (s *server) getLive(w http.ResponseWriter, r *http.Request) {
	if !s.live.enter() {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many viewers at once", http.StatusServiceUnavailable)
		return
	}
	defer s.live.leave()
	v := &viewer{s: s, lang: choose(w, r), q: parseQuery(r.URL.Query()), parts: map[string]string{}, classes: map[int]string{}, cells: map[int]cellWire{}, rows: map[string]string{}}
	seq := s.live.resume(r)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that would hold the stream back
	control := http.NewResponseController(w)
	fmt.Fprint(&v.out, "retry: 2000\n\n")
	for first := true; ; first = false {
		rows, last, beat, count := s.live.after(seq)
		v.step(rows, last, first || count%slowEvery == 0)
		seq = last
		if v.out.Len() > 0 {
			if _, err := v.out.WriteTo(w); err != nil {
				return
			}
			if err := control.Flush(); err != nil {
				return
			}
		}
		select {
		case <-beat:
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		}
	}
}

func (v *viewer) send(event, id string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		panic(err) // strings and finite numbers
	}
	if id != "" {
		fmt.Fprintf(&v.out, "id: %s\n", id)
	}
	fmt.Fprintf(&v.out, "event: %s\ndata: %s\n\n", event, b)
}

type rowWire struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// step writes what changed since the last one.
func (v *viewer) step(rows []liveRow, last uint64, slow bool) {
	s := v.s
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	b := s.state.board
	now := viewNow(s.frame(v.lang, "now", "", nil), b, v.q, s.live.figures(b), s.state.dials, board.Shown)

	names := fastParts
	if slow {
		names = append(append([]string{}, fastParts...), slowParts...)
	}
	changed := map[string]string{}
	for _, name := range names {
		if html := execute(name, now); v.parts[name] != html {
			v.parts[name], changed[name] = html, html
		}
	}
	if len(changed) > 0 {
		v.send("parts", "", changed)
	}
	v.sendCells(now)

	for _, r := range now.Decisions[:min(pageRows, len(now.Decisions))] {
		if _, ok := v.rows[r.ID]; !ok && v.version == 0 && r.Settled { // it may have been without when the page was made
			v.send("update", "", rowWire{r.ID, execute("row", r)})
		}
	}
	for _, r := range rows {
		view := sayRow(v.lang, r.row, b.Clock(), b.Zone())
		html := execute("row", view)
		v.rows[r.row.ID] = html
		v.send(r.feed, s.live.boot+"-"+strconv.FormatUint(r.seq, 10), rowWire{r.row.ID, html})
	}
	if v.version != s.state.version { // outcomes change rows that stand already
		v.version = s.state.version
		fresh := make(map[string]string, len(now.Decisions))
		for _, r := range now.Decisions {
			html := execute("row", r)
			if old, ok := v.rows[r.ID]; ok && old != html {
				v.send("update", "", rowWire{r.ID, html})
			}
			fresh[r.ID] = html
		}
		v.rows = fresh
	}
}

func (v *viewer) sendCells(now *nowView) {
	type change struct {
		Days  []string `json:"days,omitempty"`
		Cells [][3]any `json:"cells"`
	}
	var c change
	if days := strings.Join(now.Cells.Days, "|"); days != v.days {
		v.days, c.Days = days, now.Cells.Days
	}
	for i, cell := range now.Cells.Cells {
		class := now.Week.Class(i)
		if old, ok := v.cells[i]; !ok || old != cell || v.classes[i] != class {
			v.cells[i], v.classes[i] = cell, class
			c.Cells = append(c.Cells, [3]any{i, class, cell})
		}
	}
	if c.Days != nil || len(c.Cells) > 0 {
		v.send("cells", "", c)
	}
}

// execute renders a part. Templates are part of the program, so a failure is a defect, which tests see.
func execute(name string, data any) string {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		panic(err)
	}
	return b.String()
}
