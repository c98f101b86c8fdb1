package say

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/words"
)

// closed are the lists of words that the schema of decisions closes.
func closed(t *testing.T) (types, reasons, rules []string) {
	t.Helper()
	type list struct {
		Properties map[string]struct{ Enum []string }
	}
	var schema struct {
		list
		Defs map[string]list `json:"$defs"`
	}
	b, err := os.ReadFile("../../../schemas/send.decisions.v1.json")
	if err == nil {
		err = json.Unmarshal(b, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range schema.Properties["type"].Enum {
		types = append(types, strings.TrimSuffix(strings.TrimPrefix(typ, "io.tempismo.decision."), ".v1"))
	}
	reasons, rules = schema.Defs["decision"].Properties["reason"].Enum, schema.Defs["rule"].Properties["rule"].Enum
	if len(types) < 6 || len(reasons) < 24 || len(rules) < 14 {
		t.Fatalf("the schema names %d types, %d reasons and %d rules", len(types), len(reasons), len(rules))
	}
	return types, reasons, rules
}

func TestEveryWordOfTheWireIsTranslated(t *testing.T) {
	var keys []string
	for _, k := range []string{timing.Burst, timing.Timing, timing.Drift, timing.Silence, timing.Reactivation} {
		keys = append(keys, "kind."+k)
	}
	types, reasons, rules := closed(t)
	for _, typ := range types {
		keys = append(keys, "type."+typ, "dec."+typ)
	}
	for _, r := range reasons {
		keys = append(keys, "why."+r)
	}
	for _, r := range rules {
		keys = append(keys, "rule."+r)
	}
	for _, s := range shapes {
		keys = append(keys, "detail."+s.key)
	}
	for _, r := range []decision.Result{decision.Attempting, decision.Accepted, decision.Refused, decision.Unknown, decision.TooLate, decision.Suppressed, decision.NotLive, decision.Delivered, decision.Opened, decision.Clicked, decision.Converted} {
		keys = append(keys, "out."+string(r))
	}
	for _, level := range []string{timing.LevelOwn, timing.LevelPersona, timing.LevelSegment, timing.LevelPopulation, timing.LevelBusinessHours} {
		keys = append(keys, "cust.level."+level)
	}
	for _, code := range words.Codes {
		for _, key := range keys {
			if !words.In(code).Has(key) {
				t.Errorf("%s has no %q", code, key)
			}
		}
	}
}

// TestWhatTheDeciderSaysOfRulesIsUnderstood holds the shapes and the decider together: details that the stories of decisions show
// are all said in Italian, and saying them in English changes nothing but the space before a percent sign.
func TestWhatTheDeciderSaysOfRulesIsUnderstood(t *testing.T) {
	files, err := filepath.Glob("../../../pkg/domain/decision/testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)against it: ([a-z_]+): (.+)$`)
	rules := map[string]bool{}
	check := func(rule, text string) {
		rules[rule] = true
		if got := detail(words.In("it"), rule, text); got == "" {
			t.Errorf("%s: %q is not understood", rule, text)
		}
		if got := detail(words.In("en"), rule, text); got != strings.ReplaceAll(text, " %", "%") {
			t.Errorf("%s: %q is understood as %q", rule, text, got)
		}
	}
	for _, file := range files {
		story, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(story), -1) {
			check(m[1], m[2])
		}
	}
	if len(rules) < 12 {
		t.Errorf("the stories show %d rules that fail: %v", len(rules), rules)
	}
	for _, c := range [][2]string{
		{decision.RuleConsent, "given on 2026-05-12"}, {decision.RuleConsent, "never asked for; the policy assumes it"}, {decision.RuleChannel, "nothing is known against email"},
		{decision.RuleChannel, "can be reached by email"}, {decision.RuleCalendar, "no closed day in IT-2026.f8ea46"}, {decision.RuleCalendar, "no day is closed"}, {decision.RuleQuiet, "no quiet hours"},
		{decision.RuleGap, "none sent before"}, {decision.RuleCollision, "none in another channel"}, {decision.RuleOverlap, "no limit"}, {decision.RuleOverlap, "no audience named"},
		{decision.RuleOverlap, "too many audiences to count this one"}, {decision.RuleLead, "no day before a feast"}, {decision.RuleLead, "before Christmas, and no other day is left"},
		{decision.RuleThreshold, "score 84, threshold 80"}, {decision.RuleThreshold, "score 58, threshold 80; it was reached when the slot was chosen"}, {decision.RuleThreshold, "score 66, threshold 80: an hour that the customer has asked for"},
		{decision.RuleCollision, "push: r-2 is planned 1 hour 10 minutes before, at least 2 hours apart"},
	} {
		check(c[0], c[1])
	}
}

func TestDeviationsAreSaidAsTheDesignSaysThem(t *testing.T) {
	known := timing.Evidence{EngagedHours: 34.2, Deliveries: 118, Days: 203}
	at := time.Date(2026, 12, 3, 3, 20, 0, 0, time.UTC)
	for _, c := range []struct {
		name             string
		d                deviation.Deviation
		en, it, evidence string
	}{
		{"a burst that may act", deviation.Deviation{Kind: timing.Burst, Observed: 5, Expected: .8, OneIn: 270, Segment: "premium", Actionable: true, Evidence: known},
			"read in 5 different hours today; the mail received explains 0.8.", "oggi ha letto in 5 ore diverse; gli invii ricevuti ne spiegano 0,8.", "Premium. 1 normal day in 270 looks like this. 34 engaged hours in 29 weeks."},
		{"a burst short of the gate", deviation.Deviation{Kind: timing.Burst, Observed: 3, Expected: .4, OneIn: 1824, Evidence: timing.Evidence{EngagedHours: 1, Deliveries: 1, Days: 1}},
			"read in 3 different hours today; the mail received explains 0.4.", "oggi ha letto in 3 ore diverse; gli invii ricevuti ne spiegano 0,4.", "1 normal day in 1,824 looks like this. 1 engaged hour in 1 day. Short of the action gate: noted only."},
		{"a burst out of nothing", deviation.Deviation{Kind: timing.Burst, Observed: 3, Expected: .04, OneIn: 2, Actionable: true, Evidence: known},
			"read in 3 different hours today; the mail received explains less than 0.1.", "oggi ha letto in 3 ore diverse; gli invii ricevuti ne spiegano meno di 0,1.", "1 normal day in 2 looks like this. 34 engaged hours in 29 weeks."},
		{"a burst where no sends are reported", deviation.Deviation{Kind: timing.Burst, Observed: 5, Expected: 1.2, OneIn: 270, Actionable: true, Evidence: timing.Evidence{EngagedHours: 34.2, Days: 203}},
			"read in 5 different hours today; the usual is 1.2.", "oggi ha letto in 5 ore diverse; di solito 1,2.", "1 normal day in 270 looks like this. 34 engaged hours in 29 weeks."},
		{"an odd hour", deviation.Deviation{Kind: timing.Timing, Observed: 4, Expected: 20, OneIn: 58, Zone: "Europe/Rome", Evidence: known},
			"read at 04:20; only 1 in 58 of this customer’s reactions falls at such an hour.", "ha letto alle 04:20; solo 1 sua reazione su 58 cade a un’ora così.", "The likeliest hour was 20:00. 34 engaged hours in 29 weeks. One odd hour is weak evidence: noted, never acted on."},
		{"an odd hour in a zone that is not known here", deviation.Deviation{Kind: timing.Timing, Observed: 4, Expected: 20, OneIn: 58, Zone: "Mars/Phobos", Evidence: known},
			"read at 04:00; only 1 in 58 of this customer’s reactions falls at such an hour.", "ha letto alle 04:00; solo 1 sua reazione su 58 cade a un’ora così.", "The likeliest hour was 20:00. 34 engaged hours in 29 weeks. One odd hour is weak evidence: noted, never acted on."},
		{"a habit that moved", deviation.Deviation{Kind: timing.Drift, Observed: 21, Expected: 12, OneIn: 44, Evidence: known},
			"now reads around 21:00, no longer around 12:00.", "ora legge verso le 21:00, non più verso le 12:00.", "34 engaged hours in 29 weeks. The profile now forgets its old hours faster."},
		{"a habit that loosened", deviation.Deviation{Kind: timing.Drift, Observed: 20, Expected: 20, OneIn: 44, Evidence: known},
			"no longer keeps to the hours around 20:00.", "non tiene più le ore verso le 20:00.", "34 engaged hours in 29 weeks. The profile now forgets its old hours faster."},
		{"a silence", deviation.Deviation{Kind: timing.Silence, Observed: 9, Expected: 3.6, OneIn: 162, Evidence: known},
			"usually reads 4 of 10 and has ignored 9 in a row: a 1-in-162 chance.", "di solito legge 4 messaggi su 10 e ne ha ignorati 9 di fila: 1 probabilità su 162.", "34 engaged hours in 29 weeks."},
		{"a return", deviation.Deviation{Kind: timing.Reactivation, Observed: 12, Days: 47, OneIn: 1824, Evidence: known},
			"is back after 47 days and 12 ignored messages.", "torna a leggere dopo 47 giorni e 12 messaggi ignorati.", "So long a silence has a 1-in-1,824 chance. 34 engaged hours in 29 weeks."},
		{"a return from a silence that nobody would believe", deviation.Deviation{Kind: timing.Reactivation, Observed: 34, Days: 43, OneIn: 1e9, Evidence: known},
			"is back after 43 days and 34 ignored messages.", "torna a leggere dopo 43 giorni e 34 messaggi ignorati.", "So long a silence has a 1-in-1,000,000+ chance. 34 engaged hours in 29 weeks."},
		{"a kind of a newer detector", deviation.Deviation{Kind: "mood", Summary: "is in a mood", Evidence: known},
			"is in a mood.", "is in a mood.", "34 engaged hours in 29 weeks."},
	} {
		text, evidence := Deviation(words.In("en"), &c.d, at)
		if text != c.en || evidence != c.evidence {
			t.Errorf("%s is said\n%q\n%q, want\n%q\n%q", c.name, text, evidence, c.en, c.evidence)
		}
		if text, _ := Deviation(words.In("it"), &c.d, at); text != c.it {
			t.Errorf("%s is said %q in Italian, want %q", c.name, text, c.it)
		}
	}
}

func TestDecisionsAreSaidWithTheirReason(t *testing.T) {
	at := time.Date(2026, 12, 3, 9, 41, 0, 0, time.UTC)
	score := decision.Score{Now: 57, Best: 91, BestAt: time.Date(2026, 12, 4, 9, 0, 0, 0, time.UTC)}
	passed := []decision.Rule{{Rule: "window", Passed: true}, {Rule: "calendar", Passed: true}}
	ahead := time.Date(2026, 12, 4, 9, 0, 0, 0, time.UTC)
	waits := decision.Decision{
		Reason: decision.BestSlot, Request: "r-1", Zone: "Europe/Rome", Score: decision.Score{Now: 84, Best: 84, BestAt: ahead, Threshold: 80},
		Slot: &decision.Interval{From: ahead, To: ahead.Add(time.Hour)}, Due: ahead.Add(17 * time.Minute), ExpiresAt: time.Date(2026, 12, 8, 17, 0, 0, 0, time.UTC),
	}
	with := func(change func(*decision.Decision)) decision.Decision {
		d := waits
		change(&d)
		return d
	}
	for _, c := range []struct {
		name, kind     string
		d              decision.Decision
		o              *decision.Outcome
		text, evidence string
	}{
		{"send now", "send_now", decision.Decision{Reason: decision.Burst, Zone: "Europe/Rome", Score: decision.Score{Now: 83, Best: 83, BestAt: at}, Rules: passed, ExpiresAt: at.Add(30 * time.Minute)}, nil,
			"unusually attentive, and no better allowed hour lies ahead.", "Now 83, none better in the next 24 hours. All 2 rules passed. Void at 11:11."},
		{"sent", "send_now", decision.Decision{Reason: decision.Reactivation, Zone: "Europe/Rome", Score: score, Rules: passed}, &decision.Outcome{Connector: "hubspot", Result: decision.Accepted},
			"back after a long silence.", "Now 57, best ahead 91 on Fri 4 Dec 10:00. All 2 rules passed. Accepted by hubspot."},
		{"a better hour ahead", "blocked", decision.Decision{Reason: decision.BetterHourAhead, Zone: "Europe/Rome", Score: score, Rules: []decision.Rule{{Rule: "best_hour", Detail: "57 now, 91 ahead"}}}, nil,
			"a clearly better hour lies ahead: Fri 4 Dec 10:00, score 91 then, 57 now.", ""},
		{"at night", "blocked", decision.Decision{Reason: decision.OutsideWindow, Score: decision.Score{Now: 50}, Rules: []decision.Rule{{Rule: "window", Detail: "09:30-14:00 Europe/Rome, now 02:22"}, {Rule: "quiet_hours", Detail: "21:00-08:00, now 02:22"}}}, nil,
			"outside the allowed window; not sent now.", "Against it: window (09:30-14:00 Europe/Rome, now 02:22), quiet hours (21:00-08:00, now 02:22)."},
		{"a reason of a newer decider", "blocked", decision.Decision{Reason: "moon", Score: decision.Score{Now: 50}, Summary: "the moon is full"}, nil, "the moon is full; not sent now.", ""},
		{"a request that waits", "wait", waits, nil, "until Fri 4 Dec 10:17: the best allowed hour.", "Score 84, threshold 80."},
		{"a request that was moved", "wait", with(func(d *decision.Decision) { d.Reason, d.Score.Best = decision.FrequencyCap, 91 }), nil,
			"until Fri 4 Dec 10:17 now: enough messages already, so it was moved.", "Score 84, threshold 80; best 91 on Fri 4 Dec 10:00."},
		{"a request that is sent when the profile has changed", "send_now", with(func(d *decision.Decision) { d.Score.Now = 56 }), &decision.Outcome{Connector: "crm", Result: decision.Accepted},
			"the best allowed hour.", "Score 56, threshold 80, which it reached when the hour was chosen. Accepted by crm."},
		{"a request whose best hour has passed", "send_now", with(func(d *decision.Decision) {
			d.Reason, d.Score.Now, d.DecidedAt, d.ExpiresAt = decision.FallBack, 56, ahead.Add(time.Hour), time.Time{}
		}), nil, "no allowed hour reaches the threshold, so the best of the last day.", "Score 56, threshold 80."},
		{"a better hour is excluded", "wait", with(func(d *decision.Decision) {
			d.Summary = "the best allowed hour: Fri 4 Dec 10:00; a better hour, Wed 2 Dec 13:00 with 95, is excluded by minimum_gap"
		}), nil, "until Fri 4 Dec 10:17: the best allowed hour.", "Score 84, threshold 80. Better, but excluded: Wed 2 Dec 13:00 with 95, by minimum gap."},
		{"a deviation that did not release a request", "wait", with(func(d *decision.Decision) { d.Reason, d.Deviation = decision.BetterHourAhead, "dv-1" }), nil,
			"until Fri 4 Dec 10:17 still; a deviation did not release it: a clearly better hour lies ahead.", "Score 84, threshold 80."},
		{"a request without a slot", "wait", with(func(d *decision.Decision) { d.Reason, d.Slot = decision.ClosedDay, nil }), nil,
			"no allowed hour as things are: closed days.", "Score 84, threshold 80."},
		{"a request that falls back", "wait", with(func(d *decision.Decision) { d.Reason, d.Score.Now, d.Score.Best = decision.FallBack, 50, 50 }), nil,
			"until Fri 4 Dec 10:17: no allowed hour reaches the threshold, so the best of the last day.", "Score 50, threshold 80."},
		{"a request whose hour was drawn", "wait", with(func(d *decision.Decision) { d.Reason = decision.Exploration }), nil,
			"until Fri 4 Dec 10:17: an hour drawn among all allowed ones, to learn.", "Score 84, threshold 80."},
		{"a request whose hour was asked for", "wait", with(func(d *decision.Decision) { d.Reason, d.Rules = decision.Preferred, passed }), nil,
			"until Fri 4 Dec 10:17: an hour that the customer has asked for.", "Score 84, threshold 80."},
		{"a burst in the control group", "held_out", decision.Decision{Reason: decision.Burst, Score: decision.Score{Now: 83, Best: 83, BestAt: at}, Rules: passed, ExpiresAt: at.Add(30 * time.Minute)}, nil,
			"control group, not sent; would go out now: unusually attentive.", "Now 83, none better in the next 24 hours. All 2 rules passed."},
		{"a request in the control group", "held_out", waits, nil, "control group, not sent; would go out now: the best allowed hour.", "Score 84, threshold 80."},
		{"a request that was never allowed", "expired", with(func(d *decision.Decision) { d.Reason = decision.Overlap }), nil,
			"too many of the audience hold another send then, until the deadline was over; nothing was sent.", "Score 84, threshold 80."},
		{"a request that came too late", "expired", with(func(d *decision.Decision) { d.Reason, d.Score = decision.Deadline, decision.Score{} }), nil,
			"the deadline was over before it could go out; nothing was sent.", ""},
		{"a request that was withdrawn", "cancelled", with(func(d *decision.Decision) { d.Reason, d.Score = decision.Requested, decision.Score{} }), nil,
			"withdrawn by whoever placed it; nothing is sent.", ""},
		{"a type of a newer decider", "postponed", decision.Decision{Summary: "put off", Score: decision.Score{Now: 50}}, nil, "put off.", ""},
	} {
		text, evidence := Decision(words.In("en"), c.kind, &c.d, c.o)
		if text != c.text || evidence != c.evidence {
			t.Errorf("%s is said\n%q\n%q, want\n%q\n%q", c.name, text, evidence, c.text, c.evidence)
		}
	}
}

func TestTheDetailsOfRulesAreSaidInItalian(t *testing.T) {
	for _, c := range []struct{ rule, detail, want string }{
		{decision.RuleExpiry, "31 minutes after the engagement, at most 30 minutes", "scadenza del momento (31 minuti dopo la lettura, al massimo 30 minuti)"}, //nolint:misspell // Italian
		{decision.RuleWindow, "09:30-14:00 Europe/Rome, now 18:02", "fascia (09:30-14:00 Europe/Rome, adesso 18:02)"},
		{decision.RuleQuiet, "21:00-08:00 Europe/Rome, now 02:22", "ore di quiete (21:00-08:00 Europe/Rome, adesso 02:22)"},
		{decision.RuleFrequency, "1 of 1 in 24 hours, 3, no cap, in 7 days", "limite di frequenza (1 su 1 in 24 ore, 3, senza limite, in 7 giorni)"},
		{decision.RuleGap, "last one 2 days 1 hour ago, at least 3 days apart", "distanza minima (l’ultimo 2 giorni 1 ora fa, almeno 3 giorni di distanza)"},
		{decision.RuleDeadline, "from Wed 25 Nov 08:00 until Sun 29 Nov 18:00", "scadenza (da mer 25 nov 08:00 fino a dom 29 nov 18:00)"},
		{decision.RuleFrequency, "0 of 1 in 24 hours, 3 of 3 in 7 days; over all channels 0 of 2 in 24 hours, 3, no cap, in 7 days",
			"limite di frequenza (0 su 1 in 24 ore, 3 su 3 in 7 giorni; su tutti i canali 0 su 2 in 24 ore, 3, senza limite, in 7 giorni)"},
		{decision.RuleCollision, "of a higher priority, r-4 is planned 1 hour 20 minutes after", "collisione (con priorità maggiore, r-4 è previsto 1 ora 20 minuti dopo)"},
		{decision.RuleOverlap, "9 of 50 in spring hold another send in this hour, at most 15 %", "sovrapposizione (9 su 50 in spring hanno un altro invio in quest’ora, al massimo 15 %)"},
		{decision.RuleCalendar, "Sant'Ambrogio in Milano", "chiusure (Sant'Ambrogio, Milano)"},
		{decision.RuleCalendar, "Immacolata Concezione", "chiusure (Immacolata Concezione)"},
		{decision.RuleGap, "words of a newer decider", "distanza minima"},
		{"moon", "full", "moon"},
	} {
		_, got := Decision(words.In("it"), "blocked", &decision.Decision{Reason: "x", Score: decision.Score{Now: 50}, Rules: []decision.Rule{{Rule: c.rule, Detail: c.detail}}}, nil)
		if want := "Contro: " + c.want + "."; got != want {
			t.Errorf("%s, %s: %q, want %q", c.rule, c.detail, got, want)
		}
	}
}

func TestPersonasAreNamedInTheLanguage(t *testing.T) {
	for name, want := range map[string]string{
		"evening readers": "lettori serali", "Tuesday midday readers, 10-12": "lettori di mezzogiorno, martedì, 10-12", "weekend all-day readers (2)": "lettori di tutto il giorno, fine settimana (2)",
		"VIP": "VIP", "Foo evening readers": "Foo evening readers",
	} {
		if got := Persona(words.In("it"), name); got != want {
			t.Errorf("%q is %q in Italian, want %q", name, got, want)
		}
		if got := Persona(words.In("en"), name); got != name {
			t.Errorf("%q is %q in English", name, got)
		}
	}
}

// reader is a customer who for so many days was written to at eight and read at hour.
func reader(days, hour int, sends bool) (*timing.Profile, timing.Hour) {
	w := timing.World{Model: timing.Builtin()}
	p := &timing.Profile{Zone: "Europe/Rome"}
	c := p.Channel("email")
	const start = timing.Hour(498_000) / timing.Week * timing.Week
	for d := range int64(days) {
		if sends {
			c.Delivered(&w, start+24*d+8)
		}
		if d%2 == 0 {
			c.Engaged(&w, start+24*d+int64(hour), 10)
		}
	}
	return p, start + 24*int64(days)
}

func TestAProfileIsExplained(t *testing.T) {
	portrait := func(code string, days, hour int, sends bool, change func(*Subject)) string {
		p, now := reader(days, hour, sends)
		v := p.View(timing.Builtin(), "email", now)
		s := Subject{Customer: "C-1", View: &v, Now: now, Zone: "Europe/Rome"}
		if change != nil {
			change(&s)
		}
		out := Profile(words.In(code), s)
		return out.Finding + "\n" + strings.Join(out.Sentences, "\n")
	}
	for _, c := range []struct {
		name, got string
		want, not []string
	}{
		{"a customer well known", portrait("en", 120, 19, true, nil),
			[]string{"C-1 reads around 19; best hour to write", "We compare when this customer reads with when we mailed.", "× more than expected around 19h", "Answers about 5 of 10 messages.", "Confidence is", "engaged hours; the rest is borrowed"},
			[]string{"No sends known", "time zone is not known", "habit moved", "silence alarm"}},
		{"the same in Italian", portrait("it", 120, 19, true, nil),
			[]string{"C-1 legge verso le 19; ora migliore per scrivere", "× più del previsto verso le 19", "Risponde a circa 5 messaggi su 10.", "La fiducia è"}, nil},
		{"no sends known", portrait("en", 120, 19, false, nil),
			[]string{"No sends known: exposure is everybody’s", "× more than expected around 19h"}, []string{"Answers", "We compare"}},
		{"nobody, and nothing was fitted", portrait("en", 0, 19, true, func(s *Subject) { s.View.Level = timing.LevelBusinessHours }),
			[]string{"C-1: nothing known yet; business hours are assumed", "business hours are assumed."}, []string{"Around"}},
		{"nobody, in a segment", portrait("en", 0, 19, true, func(s *Subject) { s.View.Level, s.Segment = timing.LevelSegment, "premium" }),
			[]string{"borrows from segment “premium”", "those of segment “premium”"}, nil},
		{"little known", portrait("en", 3, 19, true, func(s *Subject) {
			s.View.Level, s.View.Persona, s.View.Likeness = timing.LevelPersona, "evening readers", .62
		}),
			[]string{"most is borrowed from the persona “evening readers”, which explains this customer best (62%)"}, nil},
		{"a habit that moved, and then silence", portrait("en", 120, 19, true, func(s *Subject) {
			s.Silent, s.Assumed, s.View.Evidence.Partial = true, true, true
			s.Moved = MovedBy(&deviation.Deviation{Kind: timing.Drift, LocalDay: "2027-02-12", Expected: 11, Observed: 19})
		}),
			[]string{"On 12 Feb the habit moved: from around 11:00 to around 19:00.", "A silence alarm is standing", "The time zone is not known: hours are those of Europe/Rome.", "The beginning of this profile is lost"}, nil},
		{"a habit that loosened", portrait("en", 120, 19, true, func(s *Subject) {
			s.Moved = MovedBy(&deviation.Deviation{Kind: timing.Drift, LocalDay: "2027-02-12", Expected: 19, Observed: 19})
		}), []string{"On 12 Feb the habit loosened: it no longer keeps to the hours around 19:00."}, []string{"habit moved"}},
		{"a habit that moved long ago", portrait("en", 120, 19, true, func(s *Subject) {
			s.Moved = MovedBy(&deviation.Deviation{Kind: timing.Drift, LocalDay: "2026-11-12", Expected: 11, Observed: 19})
		}), nil, []string{"habit moved"}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.got, want) {
				t.Errorf("%s: nothing says %q in\n%s", c.name, want, c.got)
			}
		}
		for _, not := range c.not {
			if strings.Contains(c.got, not) {
				t.Errorf("%s: %q is said in\n%s", c.name, not, c.got)
			}
		}
	}
	if MovedBy(&deviation.Deviation{Kind: timing.Burst, LocalDay: "2026-11-12"}) != nil || MovedBy(nil) != nil {
		t.Error("a burst moves no habit")
	}
}
