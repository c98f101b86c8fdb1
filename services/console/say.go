package console

import (
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/chart"
	"github.com/tempismo/tempismo/services/console/words"
)

// rowView is one line of a feed, in words.
type rowView struct {
	ID, Customer, URL         string
	Time, Date, Stamp, Full   string
	Kind, Name, Message, Join string
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
		v.Name = named(l, "kind.", r.Kind)
		v.Value, v.Meter = l.Signed(r.Deviation.Z, 1)+"σ", chart.Meter(r.Deviation.Z, 6, board.Flagged)
		v.Text, v.Evidence = sayDeviation(l, r.Deviation)
		return v
	}
	v.Name = named(l, "type.", r.Kind)
	v.Join = ": "
	v.Value, v.Meter = l.Int(r.Decision.Score.Now), chart.Meter(float64(r.Decision.Score.Now), 100, chart.Prime)
	v.Settled = r.Outcome != nil
	v.Text, v.Evidence = sayDecision(l, r.Kind, r.Decision, r.Outcome)
	return v
}

// named translates a word of the wire, and shows it as it is where the catalogue does not know it yet.
func named(l *words.Lang, prefix, word string) string {
	if l.Has(prefix + word) {
		return l.T(prefix + word)
	}
	return word
}

func sayDeviation(l *words.Lang, d *deviation.Deviation) (text, evidence string) {
	var more []string
	if d.Segment != "" {
		more = append(more, title(d.Segment)+".")
	}
	known := l.N("ev.evidence", round(d.Evidence.EngagedHours), span(l, d.Evidence.Days))
	oneIn := l.Num(float64(d.OneIn), 0)
	switch d.Kind {
	case timing.Burst:
		explained := l.Num(d.Expected, 1)
		if d.Expected < .05 {
			explained = l.T("dev.less", l.Num(.1, 1))
		}
		text = l.T("dev.burst", l.Num(d.Observed, 0), explained)
		more = append(more, l.T("ev.normal", oneIn), known)
		if !d.Actionable {
			more = append(more, l.T("ev.noted"))
		}
	case timing.Silence:
		if of := 10.; d.Observed > 0 && d.Expected > 0 {
			text = l.T("dev.silence", l.Num(max(1, math.Round(of*d.Expected/d.Observed)), 0), l.Num(of, 0), l.Num(d.Observed, 0), oneIn)
		} else {
			text = l.T("dev.silence.short", l.Num(d.Observed, 0), oneIn)
		}
		more = append(more, known)
	case timing.Reactivation:
		if d.Days > 0 && d.Observed > 0 {
			text = l.T("dev.reactivation", l.N("dev.reactivation.days", d.Days), l.Num(d.Observed, 0))
		} else {
			text = l.T("dev.reactivation.short")
		}
		more = append(more, l.T("ev.silence", oneIn), known)
	default:
		text = d.Summary + "." // a kind of a newer detector: its own words, rather than none
		more = append(more, known)
	}
	return text, strings.Join(more, " ")
}

// title makes a word of the wire the beginning of a sentence.
func title(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

func round(v float64) int { return int(math.Round(v)) }

// span says days, from four weeks on as weeks.
func span(l *words.Lang, days int) string {
	if days >= 28 {
		return l.N("ev.weeks", (days+3)/7)
	}
	return l.N("ev.days", days)
}

func sayDecision(l *words.Lang, kind string, d *decision.Decision, o *decision.Outcome) (text, evidence string) {
	zone, err := calendar.Zone(d.Zone)
	if err != nil {
		zone = time.UTC
	}
	best := ""
	if !d.Score.BestAt.IsZero() {
		best = l.Moment(d.Score.BestAt.In(zone))
	}
	args := []string{best, l.Int(d.Score.Best), l.Int(d.Score.Now)}
	var more []string
	for _, key := range []string{"dec." + kind + "." + string(d.Reason), "dec." + kind} {
		if l.Has(key) {
			text = l.T(key, args...)
			break
		}
	}
	if text == "" {
		text = d.Summary + "."
	}
	switch {
	case best == "" || d.Reason == decision.BetterHourAhead || kind == "wait": // the sentence says it
	case d.Score.Best > d.Score.Now:
		more = append(more, l.T("dec.score", l.Int(d.Score.Now), l.Int(d.Score.Best), best))
	default:
		more = append(more, l.T("dec.score.none", l.Int(d.Score.Now)))
	}
	passed := 0
	var failed []string
	for _, r := range d.Rules {
		switch {
		case r.Passed:
			passed++
		case r.Rule == decision.RuleBestHour && d.Reason == decision.BetterHourAhead: // the sentence says it
		case l.Code == "en" || r.Rule == decision.RuleCalendar: // details are English, and names of holidays everybody's
			failed = append(failed, named(l, "rule.", r.Rule)+" ("+r.Detail+")")
		default:
			failed = append(failed, named(l, "rule.", r.Rule))
		}
	}
	if len(failed) > 0 {
		more = append(more, l.T("dec.failed", strings.Join(failed, ", ")))
	}
	if kind == "send_now" {
		if passed == len(d.Rules) && passed > 0 {
			more = append(more, l.T("dec.rules", l.Int(passed)))
		}
		if o != nil && l.Has("out."+string(o.Result)) {
			more = append(more, l.T("out."+string(o.Result), o.Connector))
		} else if !d.ExpiresAt.IsZero() {
			more = append(more, l.T("dec.void", d.ExpiresAt.In(zone).Format("15:04")))
		}
	}
	return text, strings.Join(more, " ")
}

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

func clockHour(h int) string { return fmt.Sprintf("%02d", (h%24+24)%24) }
