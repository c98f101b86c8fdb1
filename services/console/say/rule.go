package say

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/console/words"
)

// Detail says the numbers behind a rule. The decider's own words are English; in another language they are those of the catalogue,
// and none where their shape is not known.
func Detail(l *words.Lang, r decision.Rule) string {
	if l.Code == "en" {
		return r.Detail
	}
	return detail(l, r.Rule, r.Detail)
}

func detail(l *words.Lang, rule, text string) string {
	if rule == decision.RuleWindow || rule == decision.RuleQuiet {
		rule = "hours"
	}
	for _, s := range shapes {
		if s.rule != rule && s.rule != "" {
			continue
		}
		caught := s.shape.FindStringSubmatch(text)
		if caught == nil {
			continue
		}
		args := caught[1:]
		for i, a := range args {
			if rest := detail(l, s.within[i], a); s.within[i] != "" && rest != "" {
				args[i] = rest
				continue
			}
			args[i] = said(l, a)
		}
		return l.T("detail."+s.key, args...)
	}
	return ""
}

// shape is how the decider writes a detail; what is caught fills the text of the catalogue. within names the rule whose shapes a
// part that was caught has, if it is not a number, a time or a name.
type shape struct {
	rule, key string
	shape     *regexp.Regexp
	within    [4]string
}

func made(rule, key, pattern string, within ...string) shape {
	s := shape{rule: rule, key: key, shape: regexp.MustCompile("^" + pattern + "$")}
	copy(s.within[:], within)
	return s
}

// shapes are those of every rule, the more particular ones first.
var shapes = []shape{
	made(decision.RuleExpiry, "expiry", `(.+) after the engagement, at most (.+)`),
	made(decision.RuleDeadline, "deadline", `until (.+)`),
	made(decision.RuleDeadline, "deadline.from", `from (.+) until (.+)`),
	made(decision.RuleConsent, "consent.required", `never given, and the policy asks for it`),
	made(decision.RuleConsent, "consent.assumed", `never asked for; the policy assumes it`),
	made(decision.RuleConsent, "consent.refused", `refused on (.+)`),
	made(decision.RuleConsent, "consent.given", `given on (.+)`),
	made(decision.RuleChannel, "channel.any", `nothing is known against (.+)`),
	made(decision.RuleChannel, "channel.only", `can be reached by (.+) only`),
	made(decision.RuleChannel, "channel.yes", `can be reached by (.+)`),
	made(decision.RuleChannel, "channel.unknown", `the policy does not have (.+)`),
	made(decision.RuleBestHour, "best_hour.worth", `score (\d+) now, (\d+) on (.+), and reading now it is worth (.+) of that`),
	made(decision.RuleBestHour, "best_hour", `score (\d+) now, (\d+) on (.+)`),
	made(decision.RuleCalendar, "calendar.none", `no day is closed`),
	made(decision.RuleCalendar, "calendar.open", `no closed day in (.+)`),
	made(decision.RuleCalendar, "calendar", `(.+) in (.+)`),
	made(decision.RuleCalendar, "calendar.named", `(.+)`),
	made("hours", "hours.quiet.none", `no quiet hours`),
	made("hours", "hours", `(.+), now (\d\d:\d\d)`),
	made(decision.RuleFrequency, "frequency_cap.all", `(.+); over all channels (.+)`, decision.RuleFrequency, decision.RuleFrequency),
	made(decision.RuleFrequency, "frequency_cap", `(\d+(?: of \d+|, no cap,)) in 24 hours, (\d+(?: of \d+|, no cap,)) in 7 days`),
	made(decision.RuleGap, "gap.none", `none sent before`),
	made(decision.RuleGap, "gap", `(.+), at least (.+) apart`, "distance"),
	made(decision.RuleCollision, "collision.none", `none in another channel`),
	made(decision.RuleCollision, "collision.priority", `of a higher priority, (.+)`, "distance"),
	made(decision.RuleCollision, "collision", `(.+?): (.+), at least (.+) apart`, "", "distance"),
	made("distance", "distance.ago", `last one (.+) ago`),
	made("distance", "distance.before", `(.+) is planned (.+) before`),
	made("distance", "distance.after", `(.+) is planned (.+) after`),
	made(decision.RuleOverlap, "overlap.free", `no limit`),
	made(decision.RuleOverlap, "overlap.none", `no audience named`),
	made(decision.RuleOverlap, "overlap.many", `too many audiences to count this one`),
	made(decision.RuleOverlap, "overlap", `(\d+) of (\d+) in (.+) hold another send in this hour, at most (.+) %`),
	made(decision.RuleLead, "lead.none", `no day before a feast`),
	made(decision.RuleLead, "lead", `before (.+), and no other day is left`),
	made(decision.RuleThreshold, "threshold.was", `score (\d+), threshold (\d+); it was reached when the slot was chosen`),
	made(decision.RuleThreshold, "threshold.but", `score (\d+), threshold (\d+): (.+)`, "", "", "because"),
	made(decision.RuleThreshold, "threshold", `score (\d+), threshold (\d+)`),
	made("because", "because.preferred", `an hour that the customer has asked for`),
	made("because", "because.fall_back", `no allowed hour reaches the threshold: the best of the last day`),
	made("because", "because.exploration", `an hour drawn among all allowed ones`),
}

// excluded is how a wait says which rule has excluded a better hour.
var excluded = regexp.MustCompile(`; a better hour, (.+) with (\d+), is excluded by ([a-z_]+)$`)

// phrases are the words in what was caught.
var phrases = regexp.MustCompile(`\b(\d+) (second|minute|hour|day)s?\b|\b(\d+) of (\d+)\b|\b(\d+), no cap,|\b([A-Z][a-z]{2}) (\d{1,2}) ([A-Z][a-z]{2})\b`)

var english = words.In("en")

// said puts numbers of things and dates into the language.
func said(l *words.Lang, text string) string {
	return phrases.ReplaceAllStringFunc(text, func(s string) string {
		p := phrases.FindStringSubmatch(s)
		switch {
		case p[2] != "":
			n, _ := strconv.Atoi(p[1]) // digits
			return l.N("lapse."+p[2], n)
		case p[4] != "":
			return l.T("detail.of", p[3], p[4])
		case p[5] != "":
			return l.T("detail.nocap", p[5])
		}
		weekday := slices.Index(strings.Fields(english.T("days.short")), p[6])
		month := slices.Index(strings.Fields(english.T("months.short")), p[8])
		if day, _ := strconv.Atoi(p[7]); weekday >= 0 && month >= 0 {
			return l.Weekday(weekday) + " " + l.Date(time.Date(2000, time.Month(month+1), day, 0, 0, 0, 0, time.UTC)) // a leap year
		}
		return s
	})
}
