package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// customerView is the page of one customer.
type customerView struct {
	frame
	Known        bool
	Moved        bool // a drift is known
	Finding, Say string
	Attributes   []string
	Dial         template.HTML
	Map, MapTall template.HTML
	Read         string
	Cells        scoresWire
	HourNames    []string
	HourRows     [][2]string
	Table        [][]string
	Facts        [][2]string
	Best         [][3]string
	Ways         []wayView
	Rows         []rowView
}

// Swatches is for templates.
func (customerView) Swatches(class string, n int) template.HTML { return chart.Swatches(class, n) }

// scoresWire is the score map as the page's script wants it: [score, attention] of each hour, today first. The cells of
// the first row before From have passed; they show the same day of next week, which is the last of Days.
type scoresWire struct {
	Days  []string                `json:"days"`
	From  int                     `json:"from"`
	Cells [timing.Week][2]float64 `json:"cells"`
}

// known is a profile as the store has it.
type known struct {
	profile timing.Profile
	model   *timing.Model
	found   bool
}

// lookup reads a customer's profile, and the model that the profiler has in force in its partition.
func (s *server) lookup(ctx context.Context, id string) (k known, err error) {
	c := s.connection.Load()
	if c == nil {
		return k, errors.New("read the profile: the store is not reached yet")
	}
	snap, err := c.store.Read(ctx, s.config.run().Group("profiler"), stream.Partition([]byte(id), c.partitions), []string{id})
	if err != nil {
		return k, fmt.Errorf("read the profile: %w", err)
	}
	if len(snap.Values) == 0 || snap.Values[0] == nil {
		return k, nil
	}
	if err := k.profile.Decode(snap.Values[0]); err != nil {
		return k, fmt.Errorf("read the profile: %w", err)
	}
	k.model, k.found = timing.Builtin(), true
	if record := snap.Broadcast[topics.Models]; len(record) > 0 {
		if k.model, err = timing.ParseModelRecord(record); err != nil {
			return k, fmt.Errorf("read the profiler's model: %w", err)
		}
	}
	return k, nil
}

func (s *server) getCustomer(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if id == "" {
		http.Redirect(w, r, "/customers", http.StatusSeeOther)
		return
	}
	k, err := s.lookup(r.Context(), id)
	if err != nil {
		s.log.ErrorContext(r.Context(), "a profile is not read", slog.Any("error", err))
		s.message(w, r, http.StatusServiceUnavailable, "error.store")
		return
	}
	l := choose(w, r)
	s.state.mu.Lock()
	f := s.frame(l, "customers", id, r.URL)
	v := &customerView{frame: f, HourNames: hourNames}
	clock := s.state.board.Clock()
	rows := s.state.board.Customer(id)
	for _, row := range rows[:min(len(rows), 20)] {
		v.Rows = append(v.Rows, sayRow(l, row, clock, s.zone))
	}
	ways := s.state.board.Requests(id)
	v.Ways = sayWays(l, ways[:min(len(ways), shownWays)])
	s.state.mu.Unlock()
	v.Stream = s.live.address(l, query{})
	status := http.StatusOK
	if k.found {
		v.fill(id, k, moved(rows), clock, s.zone, s.config.Pixels.Assumed(s.config.Run.Simulated()))
	} else {
		status = http.StatusNotFound
		v.Finding, v.Say = l.T("cust.none", id), l.T("cust.none.lead")
	}
	render(w, status, "customer", v)
}

// moved is where the customer's habit last moved, nil if no row tells of it. rows are newest first.
func moved(rows []board.Row) *say.Moved {
	for _, r := range rows {
		if m := say.MovedBy(r.Deviation); m != nil {
			return m
		}
	}
	return nil
}

// fill puts a profile into pictures and words. The customer's clock is the event time in the customer's zone.
// consented says that whoever has not answered may be observed by tracking pixels.
func (v *customerView) fill(id string, k known, moved *say.Moved, clock time.Time, fallback *time.Location, consented bool) {
	l := v.L
	v.Known = true
	zone, err := calendar.Zone(k.profile.Zone)
	assumed := err != nil || k.profile.Zone == ""
	if assumed {
		zone = fallback
	}
	channel := "email"
	var channels []string
	for i := range k.profile.Channels {
		channels = append(channels, k.profile.Channels[i].Name)
	}
	if len(channels) > 0 && !slices.Contains(channels, channel) {
		channel = channels[0]
	}
	if clock.IsZero() && len(k.profile.Channels) > 0 {
		if head, ok := k.profile.Channels[0].Head(); ok {
			clock = calendar.Instant(head, zone) // nothing has been read from the topics yet
		}
	}
	now, minute := calendar.LocalHour(clock, zone)
	view := k.profile.View(k.model, channel, now)

	silent := false
	if c := k.profile.Find(channel); c != nil {
		silent = c.Silent()
	}
	if k.profile.Segment != "" {
		v.Attributes = append(v.Attributes, k.profile.Segment)
	}
	v.Attributes = append(v.Attributes, zone.String(), l.T("cust.attr.channels", strings.Join(channels, ", ")))
	if view.Evidence.Days > 0 {
		v.Attributes = append(v.Attributes, l.T("cust.attr.since", l.Date(board.DateOf(now-int64(view.Evidence.Days)*24))))
	}
	p := say.Profile(l, say.Subject{
		Customer: id, View: &view, Now: now, Zone: zone.String(), Assumed: assumed, Segment: k.profile.Segment, Silent: silent, Moved: moved,
	})
	if !k.profile.Observable(clock, consented) {
		p.Sentences = append(p.Sentences, l.T("cust.say.pixels"))
	}
	v.Finding, v.Say = p.Finding, strings.Join(p.Sentences, " ")

	if !moved.Recent(now) {
		moved = nil
	}
	v.Moved = moved != nil
	v.Dial = chart.Clock(&view, timing.HourOfWeek(now)%24*60+minute, moved, l)
	v.Map, v.MapTall = chart.Scores(&view, now, l, false), chart.Scores(&view, now, l, true)
	for h, a := range say.ByHour(&view) {
		v.HourRows = append(v.HourRows, [2]string{say.Hour(h) + "–" + say.Hour(h+1), l.Num(a, 2)})
	}
	today := now - int64(timing.HourOfWeek(now)%24)
	for d := range 7 {
		day := l.Day(board.DateOf(today + int64(d)*24))
		v.Cells.Days = append(v.Cells.Days, day)
		row := []string{day}
		for h := range 24 {
			i := d*24 + h
			how := timing.HourOfWeek(today + int64(i))
			v.Cells.Cells[i] = [2]float64{float64(view.Scores[how]), decimals(view.Phi[how])}
			row = append(row, l.Int(int(view.Scores[how])))
		}
		v.Table = append(v.Table, row)
	}
	v.Cells.Days = append(v.Cells.Days, l.Day(board.DateOf(today+timing.Week)))
	v.Cells.From = int(now - today)
	best := say.BestHour(&view, now)
	i := chart.Place(best, now)
	v.Read = l.T("cust.scores.say", l.Day(board.DateOf(best)), say.Hour(i)+":00", l.Num(v.Cells.Cells[i][0], 0), l.Num(v.Cells.Cells[i][1], 1))
	v.best(&view, now)
	v.Facts = [][2]string{
		{l.T("cust.evidence"), l.Num(view.Evidence.EngagedHours, 1)},
		{l.T("cust.deliveries"), l.Int(view.Evidence.Deliveries)},
		{l.T("cust.confidence"), l.Int(view.Confidence)},
		{l.T("cust.level"), say.Level(l, &view, k.profile.Segment)},
		{l.T("cust.zone"), zone.String()},
		{l.T("cust.pixels"), pixels(l, k.profile.Pixel(), zone, consented)},
		{l.T("cust.model"), k.model.Version},
	}
	for _, r := range view.Reasons {
		v.Facts = append(v.Facts, [2]string{l.T("cust.reason", say.Hour(r.Hour)), "×" + l.Num(r.Ratio, 1)})
	}
}

// pixels is what the customer has answered to being observed by tracking pixels.
func pixels(l *words.Lang, a timing.Pixel, zone *time.Location, consented bool) string {
	switch {
	case a.At == 0 && consented:
		return l.T("cust.pixels.assumed")
	case a.At == 0:
		return l.T("cust.pixels.unasked")
	case a.Granted:
		return l.T("cust.pixels.yes", l.Date(time.UnixMilli(a.At).In(zone)))
	default:
		return l.T("cust.pixels.no", l.Date(time.UnixMilli(a.At).In(zone)))
	}
}

// best lists the best hours of the week ahead, at most two of a day.
func (v *customerView) best(view *timing.View, now timing.Hour) {
	l := v.L
	var all []timing.Hour
	for h := now + 1; h <= now+timing.Week; h++ {
		all = append(all, h)
	}
	slices.SortStableFunc(all, func(a, b timing.Hour) int {
		return int(view.Scores[timing.HourOfWeek(b)]) - int(view.Scores[timing.HourOfWeek(a)])
	})
	perDay := map[int]int{}
	for _, h := range all {
		how := timing.HourOfWeek(h)
		if perDay[how/24]++; perDay[how/24] > 2 {
			continue
		}
		prime := ""
		if view.Scores[how] >= chart.Prime {
			prime = l.T("cust.prime")
		}
		v.Best = append(v.Best, [3]string{l.Int(int(view.Scores[how])), l.Day(board.DateOf(h)) + ", " + say.Hour(how) + ":00", prime})
		if len(v.Best) == 6 {
			return
		}
	}
}
