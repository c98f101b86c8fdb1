// Package fit makes models of customers' hours: what everybody does, in which directions customers differ, how soon they
// answer, and how often a surprise is met where nothing happens.
//
// A Learner goes through events in order of time and knows at every moment only what came before: it is what evaluations
// ask for predictions, and what Fit runs over a sample of histories. Fit adds what needs the whole sample at once.
//
// It is not the trainer, who collects the sample, decides when to fit and whether the outcome is good enough to publish. It
// does no I/O, reads no clock, and draws from a generator of its own whose seed is an argument: the same sample gives the
// same model.
package fit

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// History is what is known of one customer in one channel, in order of time.
type History struct {
	Customer string
	Segment  string // empty: none
	Events   []Event
}

// Event is a delivery or a human engagement.
type Event struct {
	Hour      timing.Hour // local
	Age       int16       // engagement: hours since the delivery of the same message; UnknownAge where that is not known
	Minute    uint8       // engagement: within the hour
	Delivered bool        // false: an engagement
}

// UnknownAge is the Age of an engagement whose message is not known, or when it was delivered.
const UnknownAge = -1

// Options are the settings of Fit. The zero value is fit to use.
type Options struct {
	Version string                 // of the model; empty: "fit"
	From    *timing.Model          // what is taken from where the sample cannot tell; nil: timing.Builtin
	Seed    uint64                 // of the generator that starts the personas
	DayType func(day int64) string // kind of a local day (Hour/24), such as "holiday"; ordinary days are ""; nil: every day is ordinary
}

// Report says what a fit found, and what it could not estimate.
type Report struct {
	Customers    int                `json:"customers"`     // in the sample
	EngagedHours int                `json:"engaged_hours"` // of these
	Deliveries   int                `json:"deliveries"`    // hours with such
	Days         int                `json:"days"`          // from the first event to the last
	Defaults     map[string]string  `json:"defaults"`      // model field: why it was taken from the defaults
	Estimates    map[string]float64 `json:"estimates"`     // numbers that were estimated
}

// String is the report for people: a line for each number.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d customers, %d engaged hours, %d deliveries, %d days\n", r.Customers, r.EngagedHours, r.Deliveries, r.Days)
	for _, name := range slices.Sorted(maps.Keys(r.Estimates)) {
		fmt.Fprintf(&b, "%s: %.4g\n", name, r.Estimates[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Defaults)) {
		fmt.Fprintf(&b, "%s: as before: %s\n", name, r.Defaults[name])
	}
	return b.String()
}

func (r *Report) keep(field, why string) { r.Defaults[field] = why }

// longest is how many days a sample may span: a century. More are no history but a mistake.
const longest = 36525

// ErrEmpty says that a sample holds no engagement to learn from.
var ErrEmpty = errors.New("no engagement in the sample: wait for engagements, or take more customers or a longer time into it")

// Fit makes a model from a sample of customers' histories. The same sample and options give the same model.
//
// What the sample is too small for, or does not hold, is taken from Options.From, and the report says so.
func Fit(histories []History, o Options) (*timing.Model, Report, error) {
	if o.Version == "" {
		o.Version = "fit"
	}
	if o.From == nil {
		o.From = timing.Builtin()
	}
	if o.DayType == nil {
		o.DayType = func(int64) string { return "" }
	}
	s := newSample(histories)
	report := Report{
		Customers: len(histories), EngagedHours: s.engaged, Deliveries: s.deliveries,
		Defaults: map[string]string{}, Estimates: map[string]float64{},
	}
	if s.engaged == 0 {
		return nil, report, fmt.Errorf("fit model %q: %w", o.Version, ErrEmpty)
	}
	if s.days() > longest {
		return nil, report, fmt.Errorf("fit model %q: histories span %d days: hours must be local hours as timing counts them", o.Version, s.days())
	}
	report.Days = int(s.days())

	kernel := s.kernel(o.From, &report)
	from := *o.From
	from.Version, from.Kernel = o.Version, kernel
	from.Season, from.Segments, from.Calibration = timing.Season{}, nil, nil
	l := s.learn(&from, o.Seed, &report)
	m := *l.Model()
	m.FittedOn = &timing.FittedOn{From: instant(s.first), To: instant(s.last + 1), Customers: len(histories)}
	m.Metrics = map[string]float64{}
	m.Pinned = false

	s.levels(&m, o.DayType, &report)
	l.weekdays(&m, &report)
	m.Segments = s.segments(l, &report)
	for _, part := range []func(*timing.Model, *Report) error{s.silence, s.trials} {
		if err := part(&m, &report); err != nil {
			return nil, report, fmt.Errorf("fit: %w", err)
		}
	}
	if err := m.Prepare(); err != nil {
		return nil, report, fmt.Errorf("fit: %w", err)
	}
	maps.Copy(m.Metrics, report.Estimates)
	return &m, report, nil
}

// instant is a local hour as if it were one in UTC: to the hour, when it was for somebody.
func instant(h timing.Hour) time.Time {
	const monday = 4 * 24 * 3600 // hours are counted from Monday 1970-01-05
	return time.Unix(h*3600+monday, 0).UTC()
}

// sample is the histories with repeats left out, and what all parts of a fit need of them.
type sample struct {
	histories           []History
	first, last         timing.Hour
	engaged, deliveries int
}

// newSample copies the histories in order of time, each hour once: an engaged hour counts with its first engagement.
func newSample(histories []History) *sample {
	s := &sample{histories: make([]History, 0, len(histories))}
	any := false
	for _, h := range histories {
		events := slices.Clone(h.Events)
		slices.SortStableFunc(events, func(a, b Event) int {
			if c := cmp.Compare(a.Hour, b.Hour); c != 0 {
				return c
			}
			return inHour(&a, &b)
		})
		h.Events = slices.CompactFunc(events, func(a, b Event) bool { return a.Hour == b.Hour && a.Delivered == b.Delivered })
		for i := range h.Events {
			e := &h.Events[i]
			e.Minute = min(e.Minute, 59)
			if e.Delivered {
				s.deliveries++
			} else {
				s.engaged++
			}
			if !any {
				s.first, s.last, any = e.Hour, e.Hour, true
			}
			s.first, s.last = min(s.first, e.Hour), max(s.last, e.Hour)
		}
		s.histories = append(s.histories, h)
	}
	return s
}

// inHour is the order of events of one hour: a message comes before its answer.
func inHour(a, b *Event) int {
	if a.Delivered != b.Delivered {
		if a.Delivered {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.Minute, b.Minute)
}

func (s *sample) days() int64 { return dayOf(s.last) - dayOf(s.first) + 1 }

// kernel finds when deliveries are answered: expectation maximisation over the deliveries that each engagement may answer,
// in turns with the population's attention. Deliveries whose Response hours are not over are left out.
func (s *sample) kernel(from *timing.Model, report *Report) [timing.Response]float64 {
	const rounds, least = 8, 30
	if s.deliveries == 0 {
		report.keep("kernel", "no deliveries in the sample")
		return from.Kernel
	}
	r := response{}
	r.start(from)
	attention := from.Population
	end := s.last - timing.Response
	told := 0
	for range rounds {
		r.answers, r.sent, told = [timing.Response]float64{}, [timing.Week]float64{}, 0
		var all trend
		for i := range s.histories {
			var recent recent
			for _, e := range s.histories[i].Events {
				switch {
				case e.Delivered:
					recent.add(e.Hour)
					if e.Hour <= end {
						r.sent[timing.HourOfWeek(e.Hour)]++
					}
				case e.Age >= 0 && e.Age < timing.Response:
					told++
					all.engaged[hourOfDay(e.Hour)]++
					if e.Hour-timing.Hour(e.Age) <= end {
						r.answers[e.Age]++
					}
				case e.Age < 0:
					total := 0.0
					recent.ages(e.Hour, func(a int) { total += r.kernel[a] })
					if total == 0 {
						continue
					}
					all.engaged[hourOfDay(e.Hour)]++
					recent.ages(e.Hour, func(a int) {
						if e.Hour-timing.Hour(a) <= end {
							r.answers[a] += r.kernel[a] / total
						}
					})
				}
			}
		}
		for how, n := range r.sent {
			for a, k := range &r.folded {
				all.exposure[(how+a)%day] += n * k
			}
		}
		flat := flat()
		attention = all.over(&flat, day)
		r.refit(&attention)
	}
	if n := sum(r.answers[:]); n < least {
		report.keep("kernel", fmt.Sprintf("only %.0f answers to deliveries in the sample; %d are needed", n, least))
		return from.Kernel
	}
	mean := 0.0
	for a, k := range r.kernel {
		mean += (float64(a) + .5) * k
	}
	report.Estimates["kernel.mean_hours"] = mean
	report.Estimates["kernel.first_hour"] = r.kernel[0]
	report.Estimates["kernel.told_ages"] = float64(told)
	return r.kernel
}

func flat() (f [day]float64) {
	for h := range f {
		f[h] = 1
	}
	return f
}

// moment is an event in the order of all.
type moment struct {
	event    Event
	customer int32
}

// order calls each with every event of everybody in order of time, and closeDay with the days that end: each day with
// events, and the one before the next such day.
func (s *sample) order(each func(customer int, e Event), closeDay func(day int64)) {
	moments := make([]moment, 0, s.engaged+s.deliveries)
	for i := range s.histories {
		for _, e := range s.histories[i].Events {
			moments = append(moments, moment{e, int32(i)})
		}
	}
	slices.SortFunc(moments, func(a, b moment) int {
		if c := cmp.Compare(a.event.Hour, b.event.Hour); c != 0 {
			return c
		}
		if c := cmp.Compare(a.customer, b.customer); c != 0 {
			return c
		}
		return inHour(&a.event, &b.event)
	})
	today := dayOf(s.first)
	for _, m := range moments {
		if d := dayOf(m.event.Hour); d != today {
			closeDay(today)
			if today < d-1 {
				closeDay(d - 1)
			}
			today = d
		}
		each(int(m.customer), m.event)
	}
	closeDay(today)
}

// learn runs a Learner over the sample.
func (s *sample) learn(from *timing.Model, seed uint64, report *Report) *Learner {
	l := NewLearner(from, Config{Seed: seed})
	l.response.fixed = s.deliveries > 0
	l.customers = make([]customer, len(s.histories))
	lately, n, bits, population := s.last-28*day, 0., 0., 0.
	s.order(func(customer int, e Event) {
		if e.Delivered {
			l.Delivered(customer, e.Hour)
			return
		}
		p := l.engaged(customer, e.Hour, int(e.Minute))
		if y := hourOfDay(e.Hour); e.Hour > lately {
			n++
			bits -= math.Log2(p.Hours[y])
			population -= math.Log2(p.Population[y])
		}
	}, l.Close)
	if n > 0 {
		// Of the last four weeks, each engaged hour predicted from those before.
		report.Estimates["bits"], report.Estimates["bits.population"] = bits/n, population/n
	}
	report.keep("priors.hours", "half, once and twice this weight compete, and experts says how much each counts")
	l.personas.settle(l)
	l.publish()
	if len(l.personas.list) == 0 {
		report.keep("personas", fmt.Sprintf("fewer than %d customers with %d engaged hours: there are none", quorum, enough))
	}
	if len(l.pairs.habits) == 0 {
		report.keep("habits", "no two engagements of one customer are more alike than those of two: there are none")
	}
	if s.deliveries == 0 {
		report.keep("deliveries.per_day", "no deliveries in the sample: hours are held to be equally exposed")
	}
	for i, h := range l.pairs.habits {
		report.Estimates[fmt.Sprintf("habits.%d.correlation", i+1)] = h.Correlation
	}
	for i, p := range l.personas.list {
		report.Estimates[fmt.Sprintf("personas.%d.share", i+1)] = p.Share
	}
	return l
}

// Loss is the log-loss of a model on histories that it was not fitted on: the mean number of bits by which it is surprised
// by the hour of the day of the n engaged hours from local hour from on, everything before being known.
func Loss(m *timing.Model, histories []History, from timing.Hour) (bits float64, n int) {
	s := newSample(histories)
	l := &Learner{model: m}
	l.response.start(m)
	l.exposed = l.fold(func(h int) float64 { return m.Deliveries.Hours[h] })
	l.customers = make([]customer, len(s.histories))
	for i := range s.histories {
		for _, e := range s.histories[i].Events {
			if e.Delivered {
				l.Delivered(i, e.Hour)
				continue
			}
			p := l.notice(i, e.Hour, int(e.Minute))
			if e.Hour >= from {
				bits -= math.Log2(p.Hours[hourOfDay(e.Hour)])
				n++
			}
		}
	}
	if n > 0 {
		bits /= float64(n)
	}
	return bits, n
}
