package console

import (
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/console/words"
)

func TestEveryWordOfTheWireIsTranslated(t *testing.T) {
	var keys []string
	for _, k := range []string{timing.Burst, timing.Silence, timing.Reactivation} {
		keys = append(keys, "kind."+k)
	}
	for _, typ := range []string{"send_now", "blocked", "expired", "wait", "held_out", "cancelled"} {
		keys = append(keys, "type."+typ, "dec."+typ)
	}
	for _, r := range []decision.Reason{decision.BetterHourAhead, decision.ClosedDay, decision.OutsideWindow, decision.QuietHours, decision.FrequencyCap, decision.MinimumGap} {
		keys = append(keys, "dec.blocked."+string(r))
	}
	for _, r := range []string{decision.RuleExpiry, decision.RuleBestHour, decision.RuleCalendar, decision.RuleWindow, decision.RuleQuiet, decision.RuleFrequency, decision.RuleGap} {
		keys = append(keys, "rule."+r)
	}
	for _, r := range []decision.Result{decision.Attempting, decision.Accepted, decision.Refused, decision.Unknown, decision.TooLate, decision.Suppressed, decision.NotLive, decision.Delivered, decision.Opened, decision.Clicked, decision.Converted} {
		keys = append(keys, "out."+string(r))
	}
	for _, level := range []string{timing.LevelOwn, timing.LevelPersona, timing.LevelPopulation} {
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

func TestDeviationsAreSaidAsTheDesignSaysThem(t *testing.T) {
	known := timing.Evidence{EngagedHours: 34.2, Days: 203}
	for _, c := range []struct {
		name             string
		d                deviation.Deviation
		en, it, evidence string
	}{
		{"a burst that may act", deviation.Deviation{Kind: timing.Burst, Observed: 5, Expected: .8, OneIn: 270, Segment: "premium", Actionable: true, Evidence: known},
			"read in 5 different hours today; the mail received explains 0.8.", "oggi ha letto in 5 ore diverse; gli invii ricevuti ne spiegano 0,8.", "Premium. 1 normal day in 270 looks like this. 34 engaged hours in 29 weeks."},
		{"a burst short of the gate", deviation.Deviation{Kind: timing.Burst, Observed: 3, Expected: .4, OneIn: 1824, Evidence: timing.Evidence{EngagedHours: 1, Days: 1}},
			"read in 3 different hours today; the mail received explains 0.4.", "oggi ha letto in 3 ore diverse; gli invii ricevuti ne spiegano 0,4.", "1 normal day in 1,824 looks like this. 1 engaged hour in 1 day. Short of the action gate: noted only."},
		{"a burst out of nothing", deviation.Deviation{Kind: timing.Burst, Observed: 3, Expected: .04, OneIn: 2, Actionable: true, Evidence: known},
			"read in 3 different hours today; the mail received explains less than 0.1.", "oggi ha letto in 3 ore diverse; gli invii ricevuti ne spiegano meno di 0,1.", "1 normal day in 2 looks like this. 34 engaged hours in 29 weeks."},
		{"a silence", deviation.Deviation{Kind: timing.Silence, Observed: 9, Expected: 3.6, OneIn: 162, Evidence: known},
			"usually reads 4 of 10 and has ignored 9 in a row: a 1-in-162 chance.", "di solito legge 4 messaggi su 10 e ne ha ignorati 9 di fila: 1 probabilità su 162.", "34 engaged hours in 29 weeks."},
		{"a return", deviation.Deviation{Kind: timing.Reactivation, Observed: 12, Days: 47, OneIn: 1824, Evidence: known},
			"is back after 47 days and 12 ignored messages.", "torna a leggere dopo 47 giorni e 12 messaggi ignorati.", "So long a silence has a 1-in-1,824 chance. 34 engaged hours in 29 weeks."},
		{"a kind of a newer detector", deviation.Deviation{Kind: "mood", Summary: "is in a mood", Evidence: known},
			"is in a mood.", "is in a mood.", "34 engaged hours in 29 weeks."},
	} {
		text, evidence := sayDeviation(words.In("en"), &c.d)
		if text != c.en || evidence != c.evidence {
			t.Errorf("%s is said\n%q\n%q, want\n%q\n%q", c.name, text, evidence, c.en, c.evidence)
		}
		if text, _ := sayDeviation(words.In("it"), &c.d); text != c.it {
			t.Errorf("%s is said %q in Italian, want %q", c.name, text, c.it)
		}
	}
}

func TestDecisionsAreSaidWithTheirReason(t *testing.T) {
	at := time.Date(2026, 12, 3, 9, 41, 0, 0, time.UTC)
	score := timing.Score{Now: 57, Best: 91, BestAt: time.Date(2026, 12, 4, 9, 0, 0, 0, time.UTC)}
	passed := []decision.Rule{{Rule: "window", Passed: true}, {Rule: "calendar", Passed: true}}
	for _, c := range []struct {
		name, kind     string
		d              decision.Decision
		o              *decision.Outcome
		text, evidence string
	}{
		{"send now", "send_now", decision.Decision{Reason: decision.Burst, Zone: "Europe/Rome", Score: timing.Score{Now: 83, Best: 83, BestAt: at}, Rules: passed, ExpiresAt: at.Add(30 * time.Minute)}, nil,
			"unusually attentive, and no better allowed hour lies ahead.", "Now 83, none better in the next 24 hours. All 2 rules passed. Void at 11:11."},
		{"sent", "send_now", decision.Decision{Reason: decision.Reactivation, Zone: "Europe/Rome", Score: score, Rules: passed}, &decision.Outcome{Connector: "hubspot", Result: decision.Accepted},
			"back after a long silence.", "Now 57, best ahead 91 on Fri 4 Dec 10:00. All 2 rules passed. Accepted by hubspot."},
		{"a better hour ahead", "blocked", decision.Decision{Reason: decision.BetterHourAhead, Zone: "Europe/Rome", Score: score, Rules: []decision.Rule{{Rule: "best_hour", Detail: "57 now, 91 ahead"}}}, nil,
			"a clearly better hour lies ahead: Fri 4 Dec 10:00, score 91 then, 57 now.", ""},
		{"at night", "blocked", decision.Decision{Reason: decision.OutsideWindow, Score: timing.Score{Now: 50}, Rules: []decision.Rule{{Rule: "window", Detail: "09:30-14:00 Europe/Rome, now 02:22"}, {Rule: "quiet_hours", Detail: "21:00-08:00, now 02:22"}}}, nil,
			"outside the allowed window; not sent now.", "Against it: window (09:30-14:00 Europe/Rome, now 02:22), quiet hours (21:00-08:00, now 02:22)."},
		{"a reason of a newer decider", "blocked", decision.Decision{Reason: "moon", Score: timing.Score{Now: 50}}, nil, "a rule forbids it now.", ""},
		{"a type of a newer decider", "postponed", decision.Decision{Summary: "put off", Score: timing.Score{Now: 50}}, nil, "put off.", ""},
	} {
		text, evidence := sayDecision(words.In("en"), c.kind, &c.d, c.o)
		if text != c.text || evidence != c.evidence {
			t.Errorf("%s is said\n%q\n%q, want\n%q\n%q", c.name, text, evidence, c.text, c.evidence)
		}
	}
}
