package evaluation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// Settings are how an evaluation is done.
type Settings struct {
	Seed     uint64   // of the intervals and of the personas' start
	Methods  []string // names; empty: all
	DayType  func(day int64) string
	Progress func(stage string, done, total int)
}

// sample is how many customers the bars' model is fitted on at most.
const fitted = 5000

// Run evaluates a log. Without a truth (nil), bars that need one are left out.
func Run(ctx context.Context, l *Log, t *Truth, s Settings) (*Report, error) {
	if l.Customers() == 0 || l.summary.Engaged == 0 {
		return nil, errors.New("no human engagement in the log: there is nothing to predict")
	}
	progress := func(stage string) func(done, total int) {
		if s.Progress == nil {
			return func(int, int) {}
		}
		return func(done, total int) { s.Progress(stage, done, total) }
	}
	r := &Report{Log: l.summary}
	sc, err := l.scores(ctx, s.Methods, s.Seed, ordinary(l, t), progress("predicting"))
	if err != nil {
		return nil, err
	}
	r.Scores = sc.report()
	ledger, evidence := newLedger(), evidence{}
	why := map[string]string{}
	if t == nil {
		for i := range Promises {
			if !slices.Contains([]string{"guard", "hour-tail"}, Promises[i].Name) {
				why[Promises[i].Name] = "it takes a truth, which says what has happened to the customers"
			}
		}
	} else {
		m, report, err := fit.Fit(l.histories(max(1, (l.Customers()+fitted-1)/fitted), quietUntil(t, l).Unix()), fit.Options{
			Version: "evaluate", Seed: s.Seed, DayType: s.DayType,
		})
		if err != nil {
			return nil, fmt.Errorf("fit the model that the bars are measured with, on what lies before %s: %w", quietUntil(t, l).Format("2006-01-02"), err)
		}
		r.Model = report.String()
		j, err := l.judge(ctx, m, t, s.Seed, progress("judging"))
		if err != nil {
			return nil, err
		}
		ledger, evidence = j.ledger, j.picture
		missing(why, l, t)
	}
	for i := range sc.rows {
		x := &sc.rows[i]
		ledger.note("hour-tail", int(x.customer), int(x.stratum), x.beyond, x.ordinary)
	}
	for i, x := range sc.loss {
		ledger.note("guard", i, strata, x)
	}
	r.Bars, r.Details, r.LeftOut = ledger.bars(s.Seed, l.Customers(), why)
	_ = evidence
	return r, nil
}

// ordinary says of whom nothing unusual is known at a time: of everybody where there is no truth.
func ordinary(l *Log, t *Truth) func(customer int, second int64) bool {
	if t == nil {
		return func(int, int64) bool { return true }
	}
	quiet := quietUntil(t, l)
	null := map[string]bool{}
	for i := range t.Customers {
		null[t.Customers[i].Customer] = t.Customers[i].IsNull(quiet)
	}
	return func(customer int, second int64) bool {
		return second < quiet.Unix() || null[l.people[customer].customer]
	}
}

// missing says which bars this log or this truth cannot tell.
func missing(why map[string]string, l *Log, t *Truth) {
	if l.summary.Deliveries == 0 {
		for _, name := range [...]string{"timing-false-alarms", "silence-false-alarms", "silence-power", "silence-mails-to-alarm", "drift-false-alarms",
			"drift-answers-per-false-alarm", "drift-power", "drift-answers-to-alarm", "response-nats-below-laplace", "response-nats-below-population"} {
			why[name] = "the log knows no deliveries"
		}
	}
	if !slices.ContainsFunc(t.Customers, func(c truth.Customer) bool { return len(c.Response) > 0 }) {
		why["lift-over-naive"], why["lift-above-naive"] = "the truth does not tell when mail is opened (response)", "the truth does not tell when mail is opened (response)"
	}
}
