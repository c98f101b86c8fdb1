package say

import (
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/console/words"
)

// Decision says in a sentence, without its subject, what was decided, and in another what spoke for and against it and
// what became of it. kind is the word of the decision's type; o may be nil.
func Decision(l *words.Lang, kind string, d *decision.Decision, o *decision.Outcome) (text, evidence string) {
	zone := ZoneOf(d)
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return l.Moment(t.In(zone))
	}
	best := moment(d.Score.BestAt)
	text = d.Summary + "."
	if key := form(l, kind, d); l.Has(key) {
		text = l.T(key, best, l.Int(d.Score.Best), l.Int(d.Score.Now), why(l, d), moment(d.Due))
	}
	more := against(l, kind, d)
	if s := scored(l, d, best); s != "" {
		more = append([]string{s}, more...)
	}
	if kind == "send_now" {
		if o != nil && l.Has("out."+string(o.Result)) {
			more = append(more, l.T("out."+string(o.Result), o.Connector))
		} else if !d.ExpiresAt.IsZero() {
			more = append(more, l.T("dec.void", d.ExpiresAt.In(zone).Format("15:04")))
		}
	}
	return text, strings.Join(more, " ")
}

// ZoneOf is where the rules of a decision were applied; UTC where the zone is not known here.
func ZoneOf(d *decision.Decision) *time.Location {
	zone, err := calendar.Zone(d.Zone)
	if err != nil {
		return time.UTC
	}
	return zone
}

// form is the key of a decision's sentence: a wait differs by what it waits for, an end by whether it ever waited.
func form(l *words.Lang, kind string, d *decision.Decision) string {
	key := "dec." + kind
	switch {
	case l.Has(key + "." + string(d.Reason)):
		return key + "." + string(d.Reason)
	case kind == "wait" && d.Slot == nil:
		return key + ".none"
	case kind == "wait" && d.Deviation != "":
		return key + ".kept"
	case kind == "wait" && !releases(d.Reason):
		return key + ".moved"
	}
	return key
}

// releases reports whether a reason is one for which something is sent; any other has moved a slot.
func releases(r decision.Reason) bool {
	switch r {
	case decision.Burst, decision.Reactivation, decision.BestSlot, decision.Preferred, decision.FallBack, decision.Exploration:
		return true
	}
	return false
}

// why says a reason, or what a newer decider says of one that is not known here.
func why(l *words.Lang, d *decision.Decision) string {
	if key := "why." + string(d.Reason); l.Has(key) {
		return l.T(key)
	}
	return d.Summary
}

// scored says how good the hour is, where the sentence has not.
func scored(l *words.Lang, d *decision.Decision, best string) string {
	now := l.Int(d.Score.Now)
	switch {
	case best == "" || d.Reason == decision.BetterHourAhead && d.Request == "": // the sentence says it
		return ""
	case d.Request != "" && d.Score.Threshold == 0:
		return ""
	case d.Reason == decision.BestSlot && d.Score.Now < d.Score.Threshold: // the profile has changed since
		return l.T("dec.score.was", now, l.Int(d.Score.Threshold))
	case d.Request != "" && d.Score.Best > d.Score.Now && d.Score.BestAt.After(d.DecidedAt):
		return l.T("dec.score.better", now, l.Int(d.Score.Threshold), l.Int(d.Score.Best), best)
	case d.Request != "":
		return l.T("dec.score.request", now, l.Int(d.Score.Threshold))
	case d.Score.Best > d.Score.Now:
		return l.T("dec.score", now, l.Int(d.Score.Best), best)
	}
	return l.T("dec.score.none", now)
}

// against lists the rules that failed, or says that all passed, and names the rule that has excluded a better hour.
func against(l *words.Lang, kind string, d *decision.Decision) (more []string) {
	var failed []string
	for _, r := range d.Rules {
		if r.Passed || r.Rule == decision.RuleBestHour && d.Reason == decision.BetterHourAhead && d.Request == "" { // the sentence says it
			continue
		}
		text := Named(l, "rule.", r.Rule)
		if detail := Detail(l, r); detail != "" {
			text += " (" + detail + ")"
		}
		failed = append(failed, text)
	}
	switch {
	case len(failed) > 0:
		more = append(more, l.T("dec.failed", strings.Join(failed, ", ")))
	case len(d.Rules) > 0 && (kind == "send_now" || kind == "held_out"):
		more = append(more, l.T("dec.rules", l.Int(len(d.Rules))))
	}
	if m := excluded.FindStringSubmatch(d.Summary); m != nil {
		more = append(more, l.T("dec.excluded", said(l, m[1]), m[2], Named(l, "rule.", m[3])))
	}
	return more
}
