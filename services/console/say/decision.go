package say

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/console/words"
)

// Decision says in a sentence, without its subject, what was decided, and in another what spoke for and against it and
// what became of it. kind is the word of the decision's type; o may be nil.
func Decision(l *words.Lang, kind string, d *decision.Decision, o *decision.Outcome) (text, evidence string) {
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
		default:
			failed = append(failed, failure(l, r))
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

// failure is a rule that spoke against a send, with its numbers.
func failure(l *words.Lang, r decision.Rule) string {
	name, detail := Named(l, "rule.", r.Rule), r.Detail
	if l.Code != "en" { // the decider's own details are English
		detail = translate(l, r)
	}
	if detail == "" {
		return name
	}
	return name + " (" + detail + ")"
}

// details are the shapes of the details that the decider writes, by rule. What is caught fills the catalogue's text.
var details = map[string]*regexp.Regexp{
	decision.RuleExpiry:    regexp.MustCompile(`^(.+) after the engagement, at most (.+)$`),
	decision.RuleWindow:    regexp.MustCompile(`^(.+), now (\d\d:\d\d)$`),
	decision.RuleQuiet:     regexp.MustCompile(`^(.+), now (\d\d:\d\d)$`),
	decision.RuleFrequency: regexp.MustCompile(`^(\d+(?: of \d+|, no cap,)) in 24 hours, (\d+(?: of \d+|, no cap,)) in 7 days$`),
	decision.RuleGap:       regexp.MustCompile(`^last one (.+) ago, at least (.+) apart$`),
}

// phrases are the words in what was caught.
var phrases = regexp.MustCompile(`(\d+) (second|minute|hour|day)s?|(\d+) of (\d+)|(\d+), no cap,`)

// translate says a rule's detail in the language: names of holidays as they are, and nothing where its shape is not known.
func translate(l *words.Lang, r decision.Rule) string {
	if r.Rule == decision.RuleCalendar {
		return r.Detail
	}
	shape := details[r.Rule]
	if shape == nil {
		return ""
	}
	caught := shape.FindStringSubmatch(r.Detail)
	if caught == nil {
		return ""
	}
	args := caught[1:]
	for i, a := range args {
		args[i] = phrases.ReplaceAllStringFunc(a, func(s string) string {
			p := phrases.FindStringSubmatch(s)
			switch {
			case p[2] != "":
				n, _ := strconv.Atoi(p[1]) // digits
				return l.N("lapse."+p[2], n)
			case p[4] != "":
				return l.T("detail.of", p[3], p[4])
			}
			return l.T("detail.nocap", p[5])
		})
	}
	return l.T("detail."+r.Rule, args...)
}
