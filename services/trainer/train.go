package trainer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Fitting is how models are fitted, as operators set it.
type Fitting struct {
	Customers  int           `name:"sample-customers" env:"SAMPLE_CUSTOMERS" default:"10000" help:"Most customers that a model is fitted on and judged by, chosen by hash. An event of theirs takes up to 24 bytes while it is fitted."`
	Events     int           `name:"sample-events" env:"SAMPLE_EVENTS" default:"1000" help:"Most events of one of them, the newest."`
	Zone       string        `name:"default-zone" env:"DEFAULT_ZONE" default:"Europe/Rome" placeholder:"ZONE" help:"IANA zone of customers whose events name none, and of the hour at which models are fitted."`
	Pixels     config.Pixels `embed:""`
	ClosedDays string        `name:"closed-days" env:"CLOSED_DAYS" enum:"it,none" default:"it" help:"Days that may be unlike others for everybody: it (Italian national holidays) or none."`
}

// Validate names everything that is wrong with the settings.
func (f Fitting) Validate() error {
	var errs []error
	if f.Customers < 20 || f.Customers > 100_000 {
		errs = append(errs, fmt.Errorf("SAMPLE_CUSTOMERS: %d: choose 20 to 100000", f.Customers))
	}
	if f.Events < 50 || f.Events > 10_000 {
		errs = append(errs, fmt.Errorf("SAMPLE_EVENTS: %d: choose 50 to 10000", f.Events))
	}
	if _, err := calendar.Zone(f.Zone); err != nil {
		errs = append(errs, fmt.Errorf("DEFAULT_ZONE: %w", err))
	}
	return errors.Join(errs...)
}

// Result says what a training came to.
type Result string

// Results.
const (
	Published Result = "published" // a fitted model is in force
	Renewed   Result = "renewed"   // the fitted one was refused: the one before stays, with the gate of the last days
	Refused   Result = "refused"   // nothing new is in force, Why says why
	Held      Result = "held"      // an operator holds the model in force
)

// Outcome is what a training came to.
type Outcome struct {
	Result Result     `json:"result"`
	Why    string     `json:"why,omitempty"`    // why what was fitted is not in force
	Model  string     `json:"model,omitempty"`  // version that was published; empty: none
	Before string     `json:"before,omitempty"` // version that was in force when it began
	Sample Counted    `json:"sample"`
	Judged Judgement  `json:"judged"`
	Gate   Gate       `json:"gate"`
	Report fit.Report `json:"report"` // what was fitted, and what was taken over because it could not be
}

// Judgement is how well the fitted model and the one in force predict the last weeks of customers that neither was fitted on.
type Judgement struct {
	Customers int       `json:"customers"`
	Hours     int       `json:"engaged_hours"` // predicted
	Since     time.Time `json:"since"`         // the first of them, on the customers' own clocks
	Bits      float64   `json:"bits"`          // to tell the hour of the day of one of them, by the fitted model
	Before    float64   `json:"bits_before"`   // by the model in force
}

const (
	judgedDays  = 56  // of the newest history are predicted: long enough to tell, and what a model is for
	judgedHours = 100 // at least: fewer cannot tell one model from another
	seed        = 1   // of the fit. Whoever fits the same log again gets the same model
)

// Progress is told while a training works. Total is 0 where it is not known.
type Progress struct {
	Stage       string // reading, fitting or judging
	Done, Total int64
}

// Train fits a model to what the log holds, judges it, and publishes it if it is no worse than the one in force. It reads
// at most the last 13 months: by the time of publication in a live run, by event time in a simulated one. tell, which may
// be nil, is called now and then, by one goroutine at a time. What Train does not publish it does not remember either.
func Train(ctx context.Context, log *kafka.Log, run stream.Run, f Fitting, tell func(Progress)) (*Outcome, error) {
	if tell == nil {
		tell = func(Progress) {}
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	zone, err := calendar.Zone(f.Zone)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	shelf, err := settle(ctx, log, run, now)
	if err != nil {
		return nil, err
	}
	before := shelf.InForce()
	o := &Outcome{Before: before.Version}

	learn, judge, err := o.read(ctx, log, run, f, zone, now, tell)
	if err != nil {
		return nil, err
	}
	seen, err := readMonitor(ctx, log, run, shelf, now)
	if err != nil {
		return nil, err
	}
	m, err := o.fit(ctx, learn, f, before, tell)
	if err != nil {
		return nil, err
	}
	if m != nil {
		m = o.judge(m, before, judge, tell)
	}
	m = o.renew(m, before, seen)
	if m == nil {
		return o, nil
	}

	// Others publish, too: an operator who pins, or a second trainer. What they did meanwhile goes before.
	if shelf, err = settle(ctx, log, run, now); err != nil {
		return nil, err
	}
	switch current := shelf.InForce(); {
	case current.Pinned:
		o.Result, o.Why = Held, fmt.Sprintf("%s is pinned: `tempismo models unpin` lets it go", current.Version)
		return o, nil
	case current.Version != before.Version:
		o.Result, o.Why = Refused, fmt.Sprintf("%s came in force while this one was fitted", current.Version)
		return o, nil
	}
	day := now
	if run.Simulated {
		day = o.Sample.To
	}
	m.Version = shelf.next(day.In(zone).Format(time.DateOnly))
	m.Pinned = false
	if err := m.Prepare(); err != nil {
		o.Result, o.Why = Refused, fmt.Sprintf("it cannot serve: %v", err)
		return o, nil
	}
	if err := (&Copy{Model: m, At: now}).publish(ctx, log, run); err != nil {
		return nil, err
	}
	o.Model = m.Version
	return o, nil
}

// read reads the sample.
func (o *Outcome) read(ctx context.Context, log *kafka.Log, run stream.Run, f Fitting, zone *time.Location, now time.Time, tell func(Progress)) (learn, judge []fit.History, err error) {
	topic := run.Topic(topics.Events)
	s := newSample(f, zone, time.Time{}, f.Pixels.Assumed(run.Simulated))
	position := kafka.Position(kafka.Earliest)
	if !run.Simulated {
		s.latest = now
		position = kafka.Since(now.AddDate(0, -months, 0))
	}
	from, err := position(ctx, log, topic)
	if err != nil {
		return nil, nil, err
	}
	to, err := kafka.Latest(ctx, log, topic)
	if err != nil {
		return nil, nil, err
	}
	total := int64(0)
	for p, end := range to {
		total += end - from[p]
	}
	err = kafka.Range(ctx, log, topic, kafka.Offsets(from), kafka.Offsets(to), func(r *stream.Record) error {
		if s.add(r); s.counts.Records%(1<<14) == 0 {
			tell(Progress{"reading", s.counts.Records, total})
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the events: %w", err)
	}
	tell(Progress{"reading", total, total})
	for _, told := range [...]struct {
		topic string
		take  func(*stream.Record)
	}{{topics.Attributes, s.know}, {topics.Consents, s.hear}, {topics.Erasures, s.forget}} {
		err = kafka.Range(ctx, log, run.Topic(told.topic), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			told.take(r)
			return nil
		})
		if err != nil {
			return nil, nil, fmt.Errorf("read what is told of customers: %w", err)
		}
	}
	learn, judge, o.Sample = s.histories()
	seen := map[string]bool{}
	for _, h := range judge {
		seen[h.Customer] = true
	}
	o.Judged.Customers = len(seen)
	return learn, judge, nil
}

// fit fits, for as long as ctx lasts; nil where there is nothing to fit to.
func (o *Outcome) fit(ctx context.Context, learn []fit.History, f Fitting, before *timing.Model, tell func(Progress)) (*timing.Model, error) {
	tell(Progress{Stage: "fitting"})
	type fitted struct {
		m      *timing.Model
		r      fit.Report
		err    error
		broken error
	}
	// The fit is pure and knows no context. Whoever ends the process meanwhile is not kept waiting for it.
	done := make(chan fitted, 1)
	go func() {
		defer func() {
			// Its sample is whatever customers do. What it cannot bear must not take down whatever else runs in this process,
			// nor make a service of it that dies every minute.
			if r := recover(); r != nil {
				done <- fitted{broken: fmt.Errorf("fit a model to %d histories: it broke: %v", len(learn), r)}
			}
		}()
		m, r, err := fit.Fit(learn, fit.Options{Version: "fit", From: before, Seed: seed, DayType: f.dayType()})
		done <- fitted{m: m, r: r, err: err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-done:
		if got.broken != nil {
			return nil, got.broken
		}
		if o.Report = got.r; got.err != nil {
			o.Result, o.Why = Refused, got.err.Error()
			return nil, nil
		}
		m := *got.m
		m.FittedOn = &timing.FittedOn{From: o.Sample.From, To: o.Sample.To, Customers: o.Sample.Customers - o.Judged.Customers, Defaults: got.r.Defaults}
		m.Metrics = map[string]float64{}
		maps.Copy(m.Metrics, got.r.Estimates)
		return &m, nil
	}
}

// dayType tells holidays from other days.
func (f Fitting) dayType() func(day int64) string {
	if f.ClosedDays != "it" {
		return nil
	}
	monday := calendar.Day{Year: 1970, Month: time.January, Day: 5} // day 0 of timing.Hour
	return func(day int64) string {
		if _, closed := calendar.Italy.Closed(monday.Add(int(day)), calendar.Place{}); closed {
			return "holiday"
		}
		return ""
	}
}

// judge compares m with the model in force; it returns nil, and says why, where m is worse or cannot be judged.
func (o *Outcome) judge(m, before *timing.Model, judge []fit.History, tell func(Progress)) *timing.Model {
	tell(Progress{Stage: "judging"})
	j := &o.Judged
	newest := timing.Hour(0)
	for _, h := range judge {
		newest = max(newest, h.Events[len(h.Events)-1].Hour)
	}
	from := newest - judgedDays*timing.Day
	if j.Bits, j.Hours = fit.Loss(m, judge, from); j.Hours < judgedHours {
		from = 0
		j.Bits, j.Hours = fit.Loss(m, judge, from)
	}
	j.Before, _ = fit.Loss(before, judge, from)
	for _, h := range judge {
		for _, e := range h.Events {
			if e.Delivered || e.Hour < from {
				continue
			}
			if at := calendar.Instant(e.Hour, time.UTC); j.Since.IsZero() || at.Before(j.Since) {
				j.Since = at
			}
			break
		}
	}
	switch {
	case j.Hours < judgedHours:
		o.Result, o.Why = Refused, fmt.Sprintf("the %d customers that are held out have %d engaged hours, and %d are needed to tell whether a model is any better: wait, or raise SAMPLE_CUSTOMERS", j.Customers, j.Hours, judgedHours)
		return nil
	case !(j.Bits <= j.Before): // what is not a number is not better
		o.Result, o.Why = Refused, fmt.Sprintf("it needs %.4f bits to tell an hour of the %d customers that are held out, %s needs %.4f", j.Bits, j.Customers, before.Version, j.Before)
		return nil
	}
	o.Result = Published
	m.Metrics["bits"], m.Metrics["bits_before"] = j.Bits, j.Before
	m.Metrics["held_out_customers"], m.Metrics["held_out_engaged_hours"] = float64(j.Customers), float64(j.Hours)
	return m
}

// renew sets what has to keep step with the last days: the gate and the calibration. Where the fitted model was refused (m is
// nil), the one in force gets them under a new version, for the gate of yesterday lets through what yesterday's budget
// allowed. It returns nil where nothing is new.
func (o *Outcome) renew(m, before *timing.Model, seen *monitor) *timing.Model {
	o.Gate.Days = seen.active
	pStar, ok := seen.gate()
	switch {
	case m == nil && (!ok || pStar == before.PStar):
		o.Gate.PStar, o.Gate.From = before.PStar, "model"
		return nil
	case m == nil:
		renewed := *before
		m, o.Result = &renewed, Renewed
		m.Calibration = seen.calibrate(before.Calibration)
	default:
		m.Calibration = seen.calibrate(m.Calibration)
		o.Gate.PStar, o.Gate.From = m.PStar, "sample"
	}
	if ok {
		m.PStar = pStar
		o.Gate.PStar, o.Gate.From = pStar, "digests"
	}
	return m
}
