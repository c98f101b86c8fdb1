package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/console/words"
)

// calendarView is a year of the policy in force, in a place.
type calendarView struct {
	frame
	Finding, Say, None string
	Attributes         []string
	Place              string // as it was asked for
	Places             []string
	Year               int
	Turns              []turn
	Kinds              []option
	Weekdays           []string
	Months             []month
	Days               [][]string // when, name, kind, where
}

// turn leads to another year.
type turn struct{ Name, Title, URL string }

type month struct {
	Name  string
	Weeks [][]dayView
}

// dayView is a cell of a month; the zero dayView is one before its first day, or after its last.
type dayView struct {
	Number       int
	Class, Title string
}

// kinds of closed days, as they come first.
var kinds = []calendar.Kind{calendar.Custom, calendar.Municipal, calendar.Regional, calendar.National, calendar.Bank}

// maxPlace is how many bytes a place may have that is asked for.
const maxPlace = 64

func (s *server) getCalendar(w http.ResponseWriter, r *http.Request) {
	l, q := choose(w, r), r.URL.Query()
	s.state.mu.Lock()
	v := &calendarView{frame: s.frame(l, "calendar", l.T("nav.calendar"), r.URL)}
	p, applied := s.state.board.Policy()
	s.state.mu.Unlock()
	v.Stream = s.live.address(l, query{})
	if v.Place = q.Get("place"); len(v.Place) > maxPlace {
		v.Place = ""
	}
	today := v.Clock
	if today.IsZero() {
		today = s.now().In(s.zone)
	}
	v.Year = today.Year()
	if year, err := strconv.Atoi(q.Get("year")); err == nil && year >= 1 && year <= 9999 {
		v.Year = year
	}
	v.fill(p, applied, calendar.DayOf(today, today.Location()))
	render(w, http.StatusOK, "calendar", v)
}

// fill draws the year.
func (v *calendarView) fill(p *decision.Policy, applied bool, today calendar.Day) {
	l, b := v.L, p.Closed
	place := b.Find(v.Place)
	days := b.Year(v.Year, place)
	v.Attributes = []string{l.T("foot.policy", p.Version), l.T("foot.calendar", b.Name)}
	v.say(b, place, days, applied, today)
	for _, known := range b.Places() {
		v.Places = append(v.Places, known.String())
	}
	first, last := b.Years()
	for _, year := range []int{v.Year - 1, v.Year + 1} {
		if first <= year && year <= last {
			n := strconv.Itoa(year)
			v.Turns = append(v.Turns, turn{n, l.T("cal.before", n), "/calendar?" + url.Values{"place": {v.Place}, "year": {n}}.Encode()})
		}
	}
	for _, k := range kinds {
		v.Kinds = append(v.Kinds, option{Code: string(k), Name: l.T("cal.kind." + string(k))})
	}
	for d := range 7 {
		v.Weekdays = append(v.Weekdays, l.Weekday(d))
	}
	closed := map[calendar.Day]calendar.Holiday{}
	for _, h := range days {
		closed[h.Day] = h
	}
	for m := time.January; m <= time.December; m++ {
		v.Months = append(v.Months, monthOf(l, calendar.Day{Year: v.Year, Month: m, Day: 1}, closed, today))
	}
	v.list(days)
}

// say is the finding, and what follows from it.
func (v *calendarView) say(b *calendar.Book, place calendar.Place, days []calendar.Holiday, applied bool, today calendar.Day) {
	l, year := v.L, strconv.Itoa(v.Year)
	where := l.T("cal.anywhere")
	if v.Place != "" {
		where = place.String()
	}
	v.None = l.T("cal.finding.none", where, year)
	if v.Finding = v.None; len(days) > 0 {
		v.Finding = l.N("cal.finding", len(days), where, year)
	}
	if !applied {
		v.Say = l.T("cal.default") + " "
	}
	if first, last := b.Years(); first != 0 && (v.Year < first || v.Year > last) {
		v.Finding = l.T("cal.outside", strconv.Itoa(first), strconv.Itoa(last))
		v.None = v.Finding
		return
	}
	for _, h := range days {
		if today.Compare(h.Day) <= 0 && today.Year == v.Year {
			v.Say += l.T("cal.next", dated(l, h.Day), h.Name) + " "
			break
		}
	}
	if v.Place != "" && slices.Equal(days, b.Year(v.Year, calendar.Place{})) {
		v.Say += l.T("cal.ordinary", where) + " "
	}
	v.Say += l.T("cal.say")
}

func monthOf(l *words.Lang, d calendar.Day, closed map[calendar.Day]calendar.Holiday, today calendar.Day) month {
	m := month{Name: l.LongMonth(d.Month)}
	week := make([]dayView, int(d.Weekday()+6)%7, 7)
	for first := d; d.Month == first.Month; d = d.Next() {
		cell := dayView{Number: d.Day}
		if h, is := closed[d]; is {
			cell.Class, cell.Title = "k-"+string(h.Kind), titled(l, &h)
		}
		if d == today {
			cell.Class += " today"
		}
		if week = append(week, cell); len(week) == 7 {
			m.Weeks, week = append(m.Weeks, week), make([]dayView, 0, 7)
		}
	}
	if len(week) > 0 {
		m.Weeks = append(m.Weeks, append(week, make([]dayView, 7-len(week))...))
	}
	return m
}

// titled is what a closed day is called, by which calendar and where.
func titled(l *words.Lang, h *calendar.Holiday) string {
	text := h.Name + ", " + l.T("cal.kind."+string(h.Kind))
	if h.In != "" {
		text += ", " + h.In
	}
	return text
}

// list names the closed days.
func (v *calendarView) list(days []calendar.Holiday) {
	l := v.L
	for _, h := range calendar.Spans(days) {
		when := dated(l, h.Day)
		switch {
		case !h.InARow():
			when = l.N("cal.often", h.Days)
		case h.Days > 1:
			when = l.T("cal.span", when, dated(l, h.Last))
		}
		v.Days = append(v.Days, []string{when, h.Name, l.T("cal.kind." + string(h.Kind)), h.In})
	}
}

// dated is a day of the year in view.
func dated(l *words.Lang, d calendar.Day) string { return l.Day(d.At(0, time.UTC)) }
