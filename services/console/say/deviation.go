package say

import (
	"math"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/words"
)

// rarest is the longest odds that are told: what is rarer than one in a million is a question of the model, not of chance.
const rarest = 1_000_000

// Deviation says in a sentence, without its subject, what the customer did, and in another what that rests on. at is the
// time of the engagement behind it.
func Deviation(l *words.Lang, d *deviation.Deviation, at time.Time) (text, evidence string) {
	var more []string
	if d.Segment != "" {
		more = append(more, title(d.Segment)+".")
	}
	known := l.N("ev.evidence", round(d.Evidence.EngagedHours), span(l, d.Evidence.Days))
	oneIn := l.Num(float64(min(d.OneIn, rarest)), 0)
	if d.OneIn > rarest {
		oneIn += "+"
	}
	switch d.Kind {
	case timing.Burst:
		explained := l.Num(d.Expected, 1)
		if d.Expected < .05 {
			explained = l.T("dev.less", l.Num(.1, 1))
		}
		key := "dev.burst"
		if d.Evidence.Deliveries == 0 {
			key = "dev.burst.nosends"
		}
		text = l.T(key, l.Num(d.Observed, 0), explained)
		more = append(more, l.T("ev.normal", oneIn), known)
		if !d.Actionable {
			more = append(more, l.T("ev.noted"))
		}
	case timing.Timing:
		moment := Hour(int(d.Observed)) + ":00"
		if zone, err := calendar.Zone(d.Zone); err == nil && at.In(zone).Hour() == int(d.Observed) {
			moment = at.In(zone).Format("15:04")
		}
		text = l.T("dev.timing", moment, oneIn)
		more = append(more, l.T("ev.usually", Hour(int(d.Expected))), known, l.T("ev.odd"))
	case timing.Drift:
		if text = l.T("dev.drift", Hour(int(d.Observed)), Hour(int(d.Expected))); d.Observed == d.Expected {
			text = l.T("dev.drift.spread", Hour(int(d.Expected)))
		}
		more = append(more, known, l.T("ev.forgets"))
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
