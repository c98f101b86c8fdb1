package say

import (
	"time"

	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/board"
	"github.com/tempismo/tempismo/services/console/words"
)

// Subject is what is known of a customer in one channel.
type Subject struct {
	Customer string
	View     *timing.View // of the profile at Now
	Now      timing.Hour  // local
	Zone     string       // in which hours are told; empty: the profiler's default
	Assumed  bool         // the customer's zone is not known: it is the operator's
	Segment  string       // empty: none
	Silent   bool         // a silence was told and has not ended
	Moved    *Moved       // the latest drift, if one is known
}

// Moved is a habit that has moved.
type Moved struct {
	At       time.Time // date on the customer's calendar
	From, To int       // hours of the day around which answers fell, and fall
}

// MovedBy is what a deviation tells of a habit, nil if it is no drift.
func MovedBy(d *deviation.Deviation) *Moved {
	if d == nil || d.Kind != timing.Drift {
		return nil
	}
	at, err := time.Parse(time.DateOnly, d.LocalDay)
	if err != nil {
		return nil
	}
	return &Moved{At: at, From: int(d.Expected), To: int(d.Observed)}
}

// recent is for how many days a move is told with a profile: after that, the hours since then say more.
const recent = 56

// Recent reports whether the move is worth telling at local hour now.
func (m *Moved) Recent(now timing.Hour) bool {
	return m != nil && board.DateOf(now).Sub(m.At) <= recent*timing.Day*time.Hour
}

// Portrait is what is said of a subject.
type Portrait struct {
	Finding   string   // in a line
	Sentences []string // what it rests on, and what is not known
}

// Profile explains a profile: the hours that stand out, how often mail is answered, whose habits stand behind it and how
// much is known. What is not known is said.
func Profile(l *words.Lang, s Subject) (p Portrait) {
	v := s.View
	hours := ByHour(v)
	first, second := peaks(hours)
	best := BestHour(v, s.Now)
	score := int(v.Scores[timing.HourOfWeek(best)])
	day, hour := l.Day(board.DateOf(best)), Hour(timing.HourOfWeek(best))+":00"
	stands := hours[first] >= stand
	say := func(key string, args ...string) { p.Sentences = append(p.Sentences, l.T(key, args...)) }
	unknown := v.Level == timing.LevelPopulation || v.Level == timing.LevelBusinessHours || v.Level == timing.LevelSegment

	switch {
	case unknown:
		p.Finding = l.T("prof.finding."+v.Level, s.Customer, s.Segment)
	case !stands:
		p.Finding = l.T("cust.finding.flat", s.Customer)
	case second >= 0:
		p.Finding = l.T("cust.finding.two", s.Customer, Hour(first), Hour(second), day, hour)
	default:
		p.Finding = l.T("cust.finding", s.Customer, Hour(first), day, hour)
	}

	if v.Reported() {
		say("cust.say.compare")
	} else {
		say("prof.nosends")
	}
	switch {
	case len(v.Reasons) > 0:
		var list []string
		for i, r := range v.Reasons {
			key := "prof.reason.more"
			if i == 0 {
				key = "prof.reason"
			}
			list = append(list, l.T(key, l.Num(r.Ratio, 1), l.Int(r.Hour)))
		}
		say("prof.reads", join(l, list))
	case v.Evidence.EngagedHours > 0:
		say("prof.noreason")
	}
	switch {
	case unknown:
	case !stands:
		say("cust.say.flat")
	case second >= 0:
		say("cust.say.peak.two", Hour(first), l.Num(hours[first], 1), Hour(second), l.Num(hours[second], 1))
	default:
		say("cust.say.peak", Hour(first), l.Num(hours[first], 1))
	}
	if !unknown && stands && score > 50 {
		say("cust.say.score", day, hour, l.Int(score))
	}
	p.Sentences = append(p.Sentences, rate(l, v)...)
	p.Sentences = append(p.Sentences, borrows(l, &s)...)
	switch m := s.Moved; {
	case !m.Recent(s.Now):
	case m.From == m.To:
		say("prof.moved.spread", l.Date(m.At), Hour(m.From))
	default:
		say("prof.moved", l.Date(m.At), Hour(m.From), Hour(m.To))
	}
	if s.Silent {
		say("cust.say.silent")
	}
	switch {
	case s.Assumed && s.Zone == "":
		say("prof.zone.default")
	case s.Assumed:
		say("prof.zone", s.Zone)
	}
	if v.Evidence.Partial {
		say("prof.partial")
	}
	return p
}

// rate says how often mail is answered, where mail is known of.
func rate(l *words.Lang, v *timing.View) []string {
	if !v.Reported() {
		return nil
	}
	if v.Rate >= .95 {
		return []string{l.T("prof.rate.high", l.Num(v.Rate, 1))}
	}
	if of := round(10 * v.Rate); of >= 1 {
		return []string{l.T("prof.rate", l.Int(of), "10")}
	}
	return []string{l.T("prof.rate", l.Int(max(1, round(100*v.Rate))), "100")}
}

// borrows says whose habits stand behind the view, and how much is the customer's own.
func borrows(l *words.Lang, s *Subject) (out []string) {
	v := s.View
	known := []string{l.Int(v.Confidence), l.N("prof.hours", round(v.Evidence.EngagedHours))}
	switch {
	case v.Level == timing.LevelOwn && v.Persona != "":
		out = append(out, l.T("prof.level.own", append(known, Persona(l, v.Persona), l.Pct(v.Likeness, 0))...))
	case v.Level == timing.LevelOwn:
		out = append(out, l.T("cust.say.confidence", known...))
	case v.Level == timing.LevelPersona && v.Persona != "":
		out = append(out, l.T("prof.level.persona", append(known, Persona(l, v.Persona), l.Pct(v.Likeness, 0))...))
	case v.Level == timing.LevelSegment:
		out = append(out, l.T("prof.level.segment", append(known, s.Segment)...))
	case v.Level == timing.LevelBusinessHours:
		out = append(out, l.T("prof.level.business_hours", known...))
	default:
		out = append(out, l.T("prof.level.population", known...))
	}
	return out
}

// Level names whose habits contribute most to a view.
func Level(l *words.Lang, v *timing.View, segment string) string {
	switch name := Named(l, "cust.level.", v.Level); {
	case v.Level == timing.LevelPersona && v.Persona != "":
		return name + " “" + Persona(l, v.Persona) + "”"
	case v.Level == timing.LevelSegment && segment != "":
		return name + " “" + segment + "”"
	default:
		return name
	}
}

// stand is the attention, as a multiple of an average hour, from which an hour is worth a word.
const stand = 1.25

// ByHour is the attention by hour of the day: the mean over the days of the week.
func ByHour(v *timing.View) (hours [timing.Day]float64) {
	for i, phi := range v.Phi {
		hours[i%timing.Day] += phi / 7
	}
	return hours
}

// peaks finds the hour of the highest attention, and a second peak, at least four hours away, that is worth a word: well
// above average and above its neighbours; -1 where there is none.
func peaks(hours [timing.Day]float64) (first, second int) {
	for h, a := range hours {
		if a > hours[first] {
			first = h
		}
	}
	second = -1
	for h, a := range hours {
		away := (h - first + 24) % 24
		if away < 4 || away > 20 || a < stand || a < hours[(h+1)%24] || a < hours[(h+23)%24] {
			continue
		}
		if second < 0 || a > hours[second] {
			second = h
		}
	}
	return first, second
}

// BestHour is the first of the best hours in the week that begins after now.
func BestHour(v *timing.View, now timing.Hour) timing.Hour {
	best := now + 1
	for h := now + 1; h <= now+timing.Week; h++ {
		if v.Scores[timing.HourOfWeek(h)] > v.Scores[timing.HourOfWeek(best)] {
			best = h
		}
	}
	return best
}
