package console

import (
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/say"
	"github.com/tempismo/tempismo/services/console/words"
)

// rowView is one line of a feed, in words.
type rowView struct {
	ID, Customer, URL         string
	Time, Date, Stamp, Full   string
	Kind, Name, Message, Join string
	Link                      string // to the decision
	Text, Evidence            string
	Glyph, Meter              template.HTML
	Value                     string
	Settled                   bool // an outcome is known
}

// sayRow puts a row into words. Times are in zone; the date is said where it is not that of now.
func sayRow(l *words.Lang, r board.Row, now time.Time, zone *time.Location) rowView {
	at := r.Time.In(zone)
	v := rowView{
		ID: r.ID, Customer: r.Customer, URL: "/customers/" + url.PathEscape(r.Customer), Kind: r.Kind,
		Time: at.Format("15:04:05"), Stamp: r.Time.UTC().Format(time.RFC3339), Full: l.Moment(at) + " " + zone.String(), Glyph: chart.Glyph(r.Kind), Join: " ",
	}
	if calendar.DayOf(r.Time, zone) != calendar.DayOf(now, zone) {
		v.Date = l.Date(at)
	}
	if r.Deviation != nil {
		v.Name = say.Named(l, "kind.", r.Kind)
		v.Value, v.Meter = l.Signed(r.Deviation.Z, 1)+"σ", chart.Meter(r.Deviation.Z, 6, board.Flagged)
		v.Text, v.Evidence = say.Deviation(l, r.Deviation, r.Time)
		return v
	}
	v.Name = say.Named(l, "type.", r.Kind)
	v.Join, v.Message, v.Link = ": ", r.Decision.Message, decisionURL(r.ID)
	threshold := r.Decision.Score.Threshold
	if threshold == 0 {
		threshold = chart.Prime
	}
	v.Value, v.Meter = l.Int(r.Decision.Score.Now), chart.Meter(float64(r.Decision.Score.Now), 100, float64(threshold))
	v.Settled = r.Outcome != nil
	v.Text, v.Evidence = say.Decision(l, r.Kind, r.Decision, r.Outcome)
	return v
}

// decisionURL is where the page of a decision is.
func decisionURL(id string) string { return "/decisions/" + url.PathEscape(id) }

// sayHead is the line beside a feed's title.
func sayHead(l *words.Lang, f board.Feed, decisions bool) string {
	s := []string{l.N("feed.hour", f.LastHour)}
	if decisions {
		s = append(s, l.N("feed.now", f.SentNow))
	}
	if f.OneIn >= 1.5 {
		s = append(s, l.T("feed.share", l.Num(f.OneIn, 0)))
	}
	return strings.Join(s, "; ")
}
