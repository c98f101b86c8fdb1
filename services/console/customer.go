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
)

// customerView is the page of one customer.
type customerView struct {
	frame
	Known        bool
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
	s.state.mu.Unlock()
	v.Stream = s.live.address(l, query{})
	status := http.StatusOK
	if k.found {
		v.fill(id, k, clock, s.zone)
	} else {
		status = http.StatusNotFound
		v.Finding, v.Say = l.T("cust.none", id), l.T("cust.none.lead")
	}
	render(w, status, "customer", v)
}

// fill puts a profile into pictures and words. The customer's clock is the event time in the customer's zone.
func (v *customerView) fill(id string, k known, clock time.Time, fallback *time.Location) {
	l := v.L
	v.Known = true
	zone, err := calendar.Zone(k.profile.Zone)
	if err != nil {
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
	v.Attributes = append(v.Attributes, zone.String(), l.T("cust.attr.channels", strings.Join(channels, ", ")))
	if view.Evidence.Days > 0 {
		v.Attributes = append(v.Attributes, l.T("cust.attr.since", l.Date(board.DateOf(now-int64(view.Evidence.Days)*24))))
	}
	v.say(id, &view, now, silent)

	v.Dial = chart.Clock(&view, timing.HourOfWeek(now)%24*60+minute, l)
	v.Map, v.MapTall = chart.Scores(&view, now, l, false), chart.Scores(&view, now, l, true)
	for h, a := range chart.ByHour(&view) {
		v.HourRows = append(v.HourRows, [2]string{clockHour(h) + "–" + clockHour(h+1), l.Num(a, 2)})
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
	best := chart.BestHour(&view, now)
	i := chart.Place(best, now)
	v.Read = l.T("cust.scores.say", l.Day(board.DateOf(best)), clockHour(i)+":00", l.Num(v.Cells.Cells[i][0], 0), l.Num(v.Cells.Cells[i][1], 1))
	v.best(&view, now)
	v.Facts = [][2]string{
		{l.T("cust.evidence"), l.Num(view.Evidence.EngagedHours, 1)},
		{l.T("cust.deliveries"), l.Int(view.Evidence.Deliveries)},
		{l.T("cust.confidence"), l.Int(view.Confidence)},
		{l.T("cust.level"), named(l, "cust.level.", view.Level)},
		{l.T("cust.zone"), zone.String()},
		{l.T("cust.model"), k.model.Version},
	}
	for _, r := range view.Reasons {
		v.Facts = append(v.Facts, [2]string{l.T("cust.reason", clockHour(r.Hour)), "×" + l.Num(r.Ratio, 1)})
	}
}

// say explains the profile in words.
func (v *customerView) say(id string, view *timing.View, now timing.Hour, silent bool) {
	l := v.L
	hours := chart.ByHour(view)
	first, second := peaks(hours)
	best := chart.BestHour(view, now)
	score := view.Scores[timing.HourOfWeek(best)]
	day, hour := l.Day(board.DateOf(best)), clockHour(timing.HourOfWeek(best))+":00"
	about := func(h int) string { return clockHour(h) }

	var say []string
	switch {
	case view.Level == timing.LevelPopulation:
		v.Finding = l.T("cust.finding.little", id)
		say = append(say, l.T("cust.say.little"))
	case hours[first] < 1.25:
		v.Finding = l.T("cust.finding.flat", id)
		say = append(say, l.T("cust.say.compare"), l.T("cust.say.flat"))
	case second >= 0:
		v.Finding = l.T("cust.finding.two", id, about(first), about(second), day, hour)
		say = append(say, l.T("cust.say.compare"), l.T("cust.say.peak.two", about(first), l.Num(hours[first], 1), about(second), l.Num(hours[second], 1)))
	default:
		v.Finding = l.T("cust.finding", id, about(first), day, hour)
		say = append(say, l.T("cust.say.compare"), l.T("cust.say.peak", about(first), l.Num(hours[first], 1)))
	}
	if view.Level != timing.LevelPopulation {
		if score > 50 && hours[first] >= 1.25 {
			say = append(say, l.T("cust.say.score", day, hour, l.Int(int(score))))
		}
		say = append(say, l.T("cust.say.confidence", l.Int(view.Confidence), l.Num(view.Evidence.EngagedHours, 0)))
	}
	if silent {
		say = append(say, l.T("cust.say.silent"))
	}
	v.Say = strings.Join(say, " ")
}

// peaks finds the hour of the highest attention, and a second peak, at least four hours away, that is worth a word: well
// above average and above its neighbours; -1 where there is none.
func peaks(hours [24]float64) (first, second int) {
	for h, a := range hours {
		if a > hours[first] {
			first = h
		}
	}
	second = -1
	for h, a := range hours {
		away := (h - first + 24) % 24
		if away < 4 || away > 20 || a < 1.25 || a < hours[(h+1)%24] || a < hours[(h+23)%24] {
			continue
		}
		if second < 0 || a > hours[second] {
			second = h
		}
	}
	return first, second
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
		v.Best = append(v.Best, [3]string{l.Int(int(view.Scores[how])), l.Day(board.DateOf(h)) + ", " + clockHour(how) + ":00", prime})
		if len(v.Best) == 6 {
			return
		}
	}
}
