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
	why := map[string]string{}
	if t == nil {
		for _, name := range happened {
			why[name] = "it takes a truth, which says what has happened to the customers"
		}
		t = l.unknown()
	}
	told := len(why) == 0
	missing(why, l, t)
	quiet := quietUntil(t, l)
	m, report, err := fit.Fit(l.histories(max(1, (l.Customers()+fitted-1)/fitted), quiet.Unix()), fit.Options{Version: "evaluate", Seed: s.Seed, DayType: s.DayType})
	if err != nil {
		return nil, fmt.Errorf("fit the model that the bars are measured with, on what lies before %s: %w", quiet.Format("2006-01-02"), err)
	}
	r.Model = report.String()
	judge, err := l.judge(ctx, m, t, s.Seed, progress("judging"))
	if err != nil {
		return nil, err
	}
	ledger := judge.ledger
	for i := range sc.rows {
		x := &sc.rows[i]
		ledger.note("hour-tail", int(x.customer), int(x.stratum), x.beyond, x.ordinary)
	}
	for i, x := range sc.loss {
		ledger.note("guard", i, strata, x)
	}
	if !told { // who is to say that everybody is ordinary?
		for _, x := range ledger.index["hour-tail"] {
			x.explain = true
		}
	}
	r.Bars, r.Details, r.LeftOut = ledger.bars(s.Seed, l.Customers(), why)
	judge.picture.tails["hour"] = &sc.tails
	for _, p := range [...]*Picture{calibration(judge.picture.tails), personas(m), reliability(&judge.picture)} {
		if p != nil {
			r.Pictures = append(r.Pictures, *p)
		}
	}
	return r, nil
}

// happened are the bars that need to know what has happened to the customers.
var happened = []string{
	"burst-false-alarms", "burst-tail", "timing-false-alarms", "silence-false-alarms", "drift-false-alarms", "drift-answers-per-false-alarm", "drift-power",
	"drift-answers-to-alarm", "burst-power", "silence-power", "silence-mails-to-alarm", "action-gate-false-share", "week-nats-below-laplace",
	"week-nats-below-population", "response-nats-below-laplace", "response-nats-below-population", "top3-above-histogram", "lift-over-naive",
	"lift-above-naive",
}

// unknown stands for a truth where there is none: customers of whom nothing is known, most of whom are ordinary at most times.
func (l *Log) unknown() *Truth {
	var t Truth
	for i := range l.people {
		t.Customers = append(t.Customers, truth.Customer{Customer: l.people[i].customer})
	}
	return &t
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
