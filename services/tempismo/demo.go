package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/tempismo/town"
	"github.com/tempismo/tempismo/services/tempismo/truth"
	"github.com/tempismo/tempismo/services/trainer"
)

// demo is a simulated town in place of real customers.
type demo struct {
	Demo      bool      `help:"Fill the system with a simulated town: half a year of history at once, then time-lapse."`
	Customers int       `default:"2000" help:"Customers of the demo's town."`
	Pace      float64   `default:"600" help:"Seconds that pass in the town in one of ours."`
	Seed      uint64    `default:"1" help:"Seed of the demo's town: the same seed and start give the same events."`
	Start     time.Time `placeholder:"TIME" help:"When time-lapse begins, RFC 3339. Default: 9:00 in Rome on the last working day."`
}

const (
	// demoSecret signs the calls to the demo's own receiver, on this machine, in this process. It protects nothing.
	demoSecret   = "whsec_ZGVtby1vbmx5LXByb3RlY3RzLW5vdGhpbmctMDE="
	historyDays  = 182
	ahead        = 30_000 // events of the history that may wait for the profiler
	historyBatch = 2_000
	perSecond    = 3 // sentences that a person can follow
	lively       = 2 // visits to the inbox against those of a town that is to be typical
)

func (d *demo) pace() float64 {
	if !d.Demo {
		return 0
	}
	return d.Pace
}

func (d *demo) validate() error {
	var errs []error
	if d.Customers < 1 || d.Customers > 1_000_000 {
		errs = append(errs, errors.New("--customers: want 1 to 1000000"))
	}
	if d.Pace < 1 || d.Pace > 86_400 {
		errs = append(errs, errors.New("--pace: want 1 (real time) to 86400 (a day each second)"))
	}
	return errors.Join(errs...)
}

// begin is when time-lapse begins: a working day's morning, so that something happens.
func (d *demo) begin(now time.Time) (time.Time, error) {
	if !d.Start.IsZero() {
		return d.Start.UTC(), nil
	}
	rome, err := calendar.Zone("Europe/Rome")
	if err != nil {
		return time.Time{}, err
	}
	day := calendar.DayOf(now, rome)
	for day.Weekday() == time.Saturday || day.Weekday() == time.Sunday || day.At(9*60, rome).After(now) {
		day = day.Add(-1)
	}
	return day.At(9*60, rome), nil
}

// founded is what a data folder remembers of its town.
type founded struct {
	Run       string    `json:"run"`
	Customers int       `json:"customers"`
	Seed      uint64    `json:"seed"`
	Start     time.Time `json:"start"`
}

// settle returns when time-lapse begins. A run that has events goes on with the town that it began with; any other town
// would be a different one.
func (d *demo) settle(sys *system, goesOn bool) (time.Time, error) {
	path := ""
	if sys.dir != "" {
		path = filepath.Join(sys.dir, "town.json")
	}
	if goesOn {
		var f founded
		b, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(b, &f)
		}
		if err != nil || f.Run != sys.run.ID {
			if d.Start.IsZero() {
				return time.Time{}, fmt.Errorf("run %q has events of another town: choose another --run, or give the --customers, --seed and --start that it began with", sys.run.ID)
			}
			return d.Start.UTC(), nil
		}
		if f.Customers != d.Customers || f.Seed != d.Seed || !d.Start.IsZero() && !d.Start.Equal(f.Start) {
			return time.Time{}, fmt.Errorf("run %q began with --customers %d --seed %d --start %s: leave these as they are, or choose another --run", sys.run.ID, f.Customers, f.Seed, f.Start.Format(time.RFC3339))
		}
		return f.Start, nil
	}
	begin, err := d.begin(time.Now())
	if err != nil || path == "" {
		return begin, err
	}
	b, err := json.Marshal(founded{sys.run.ID, d.Customers, d.Seed, begin})
	if err != nil {
		return begin, err
	}
	return begin, os.WriteFile(path, append(b, '\n'), 0o600)
}

// play lives the town's history as fast as the services take it, then its present in time-lapse, and tells what the
// services make of it.
func (d *demo) play(ctx context.Context, t terminal, s style, sys *system, partitions int32) error {
	// A town is the same every time, so a demo that is taken up again lives it from the start, and past what is written.
	written, err := kafka.Latest(ctx, sys.log, sys.run.Topic(topics.Events))
	if err != nil {
		return err
	}
	var left int64
	for _, n := range written {
		left += n
	}
	begin, err := d.settle(sys, left > 0)
	if err != nil {
		return err
	}
	people, err := town.New(town.Config{Seed: d.Seed, Customers: d.Customers, Start: begin.AddDate(0, 0, -historyDays), Stories: begin, Lively: lively})
	if err != nil {
		return err
	}
	w, err := kafka.NewWriter(ctx, sys.log, sys.run)
	if err != nil {
		return err
	}
	defer w.Close()
	p := &player{sys: sys, town: people, w: w, written: written, left: left, partitions: partitions}
	p.company = marketing{run: sys.run, w: w, people: map[string]string{}}
	fresh := left == 0
	if err := p.history(ctx, t, s, begin, d.Customers); err != nil {
		return err
	}
	if fresh {
		if err := p.company.introduce(ctx, begin); err != nil {
			return err
		}
	}
	told := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { told <- p.tell(ctx, t, s); cancel() }()
	trained := make(chan error, 1)
	go func() { trained <- p.train(ctx, t, s) }()
	if p.next.Time.After(begin) { // the next event, or where an earlier start stopped
		begin = p.next.Time
	}
	p.company.placed = begin
	if fresh { // the morning of the first day has gone by already
		p.company.placed = begin.Add(-2 * time.Hour)
	}
	err = p.lapse(ctx, begin, d.Pace)
	cancel()
	return errors.Join(err, <-told, <-trained)
}

// train fits a model to the history, beside everything else: until it is in force, the town is held against the built-in one.
// A demo that is taken up again has it already.
func (p *player) train(ctx context.Context, t terminal, s style) error {
	defer p.fitted.Store(true)
	var f trainer.Fitting
	if err := config.Parse(&f, trainer.Service, nil, nil); err != nil {
		return err
	}
	shelf, err := trainer.ReadShelf(ctx, p.sys.log, p.sys.run)
	if err == nil && shelf.InForce() != nil && shelf.InForce().FittedOn != nil {
		return nil
	}
	o := &trainer.Outcome{}
	if err == nil {
		o, err = trainer.Train(ctx, p.sys.log, p.sys.run, f, nil)
	}
	if ctx.Err() != nil {
		return nil
	}
	if err != nil { // the demo goes on without it
		fmt.Fprintf(t.out, "%s  not fitted: %v\n", s.strong.Render("model"), err)
		return nil
	}
	fmt.Fprintf(t.out, "%s  %s\n", s.strong.Render("model"), cameOf(o))
	return nil
}

type player struct {
	sys        *system
	town       *town.Town
	w          *kafka.Writer
	written    map[int32]int64 // events of an earlier start still to be passed over, by partition
	left       int64           // all of them
	partitions int32
	next       engagement.Event // the first that is not written
	msgs       []stream.Message
	n          int64
	company    marketing
	fitted     atomic.Bool // requests wait for the model, so that their hours are not chosen by one that is about to go

	mu sync.Mutex // town is lived by one goroutine and asked by another
}

// queue takes the next event of the town.
func (p *player) queue() {
	key := []byte(p.next.Subject)
	if q := stream.Partition(key, p.partitions); p.written[q] > 0 {
		p.written[q]--
		p.left--
	} else {
		p.msgs = append(p.msgs, stream.Message{Key: key, Value: p.next.Append(nil)})
	}
	p.n++
	p.company.people[p.next.Subject] = p.next.Zone
	p.mu.Lock()
	p.town.Next(&p.next)
	p.mu.Unlock()
}

func (p *player) flush(ctx context.Context) error {
	if len(p.msgs) == 0 {
		return nil
	}
	err := p.w.WriteAll(ctx, topics.Events, p.msgs)
	p.msgs = p.msgs[:0]
	return err
}

// history writes everything before begin, never far ahead of the profiler.
func (p *player) history(ctx context.Context, t terminal, s style, begin time.Time, customers int) error {
	from := time.Now()
	bars := newProgress(t.out)
	defer bars.wait()
	fmt.Fprintf(t.out, "%s  half a year of %s customers, as fast as the services take it\n", s.strong.Render("history"), grouped(int64(customers)))
	bar := bars.bar("history", historyDays*24)
	start := begin.AddDate(0, 0, -historyDays)
	for p.town.Next(&p.next); p.next.Time.Before(begin) || p.left > 0; {
		if p.queue(); p.n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if len(p.msgs) < historyBatch {
			continue
		}
		if err := p.flush(ctx); err != nil {
			return err
		}
		bar.set(int64(p.next.Time.Sub(start).Hours()))
		if err := p.behind(ctx, ahead, profiler.Service); err != nil {
			return err
		}
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	if err := p.behind(ctx, 0, profiler.Service); err != nil {
		return err
	}
	bar.done()
	bars.wait()
	took := time.Since(from)
	fmt.Fprintf(t.out, "%s  %s events in %.1f s, %s a second\n", s.strong.Render("history"), grouped(p.n), took.Seconds(), grouped(int64(float64(p.n)/took.Seconds())))
	return nil
}

// behind waits until services have at most so many records to read.
func (p *player) behind(ctx context.Context, most int64, services ...string) error {
	for {
		lag, err := backlog(ctx, p.sys, services)
		if err != nil {
			return err
		}
		var unread int64
		for _, l := range lag {
			unread += l.Records
		}
		if unread <= most {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// lapse lives the town's time from begin on at the given pace, in steps of about a second of ours. At the end of each step,
// when the profiler and the detector have taken what happened in it, requests are placed and timers told the time: so the
// decider finds profiles that know what had happened by then, and nothing else.
func (p *player) lapse(ctx context.Context, begin time.Time, pace float64) error {
	started := time.Now()
	step := time.Duration(max(pace, 600)) * time.Second
	next := begin.Truncate(step).Add(step)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now := begin.Add(time.Duration(float64(time.Since(started)) * pace))
		whole := !now.Before(next)
		if whole {
			now = next
		}
		for !p.next.Time.After(now) {
			p.queue()
		}
		err := p.flush(ctx)
		if err == nil && whole {
			err = p.step(ctx, next)
			next = next.Add(step)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// step ends a step of the time-lapse.
func (p *player) step(ctx context.Context, at time.Time) error {
	if err := p.behind(ctx, 0, profiler.Service, detector.Service); err != nil {
		return err
	}
	if p.fitted.Load() {
		if err := p.company.place(ctx, at); err != nil {
			return err
		}
	}
	return p.company.clock(ctx, at)
}

// tell writes what the services notice, no more than a person can follow.
func (p *player) tell(ctx context.Context, t terminal, s style) error {
	fmt.Fprintf(t.out, "\n%s\n", s.faint.Render("From here on, live. (yes) marks what the town knows to be true; a few are chance: 2 sigma is 1 in 44."))
	lines := make(chan string)
	follow := func(topic string, make func(*stream.Event) (string, error)) error {
		return kafka.Tail(ctx, p.sys.log, p.sys.run.Topic(topic), kafka.Latest, func(r *stream.Record) error {
			e, err := stream.ParseEvent(r.Value)
			if err != nil {
				return nil // the page and the detector count such a record; a person at a demo can do nothing about it
			}
			text, err := make(&e)
			if err != nil {
				return nil
			}
			select {
			case lines <- text:
			case <-ctx.Done():
			}
			return nil
		})
	}
	done := make(chan error, 2)
	go func() {
		done <- follow(topics.Deviations, func(e *stream.Event) (string, error) { return p.deviation(e, s) })
	}()
	go func() {
		done <- follow(topics.Decisions, func(e *stream.Event) (string, error) { return p.decision(e, s) })
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	shown, passed := 0, 0
	for open := 2; open > 0; {
		select {
		case l := <-lines:
			if shown == perSecond {
				passed++
				continue
			}
			shown++
			fmt.Fprintln(t.out, l)
		case <-tick.C:
			if passed > 0 {
				fmt.Fprintln(t.out, s.faint.Render(fmt.Sprintf("... and %d more", passed)))
			}
			shown, passed = 0, 0
		case err := <-done:
			if open--; err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *player) deviation(e *stream.Event, s style) (string, error) {
	var d deviation.Deviation
	if err := unmarshal(e.Data, &d); err != nil {
		return "", err
	}
	p.mu.Lock()
	known := p.town.Knows(e.Subject, meant[d.Kind], e.Time)
	p.mu.Unlock()
	yes := ""
	if known {
		yes = s.accent.Render(" (yes)")
	}
	return fmt.Sprintf("%s  %s  %-13s%+.1f sigma  %s%s", s.faint.Render(moment(e.Time, d.Zone)), s.strong.Render(e.Subject), d.Kind, d.Z, d.Summary, yes), nil
}

func (p *player) decision(e *stream.Event, s style) (string, error) {
	text, err := tellDecision(e)
	if err != nil {
		return "", err
	}
	return s.accent.Render(text), nil
}

// meant is the episode of the town that a deviation of a kind should have been made of.
var meant = map[string]string{
	timing.Burst: truth.Burst, timing.Silence: truth.Silent, timing.Reactivation: truth.Back, timing.Timing: truth.Shift, timing.Drift: truth.Shift,
}
