package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/tempismo/evaluation"
	"github.com/tempismo/tempismo/services/tempismo/town"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// evaluateCmd judges timing on a log.
type evaluateCmd struct {
	Simulate   bool      `help:"Judge on a simulated town, of which everything is known."`
	Customers  int       `default:"20000" placeholder:"N" help:"Customers of the town."`
	Seed       uint64    `default:"1" help:"Of the town and of all draws of the evaluation."`
	Weeks      int       `default:"34" help:"Weeks that the town is lived."`
	Start      time.Time `default:"2025-09-01T00:00:00Z" placeholder:"TIME" help:"Its first day, RFC 3339."`
	QuietWeeks int       `default:"26" help:"Weeks of these, from the beginning, in which nothing unusual happens: models are fitted on them."`

	File  string `placeholder:"FILE" help:"Judge on a file: CSV with a header, or NDJSON; .gz for compressed; - for standard input."`
	Truth string `placeholder:"FILE" help:"What is known of the customers of the file, as simulate writes it. Without it, most bars are left out."`
	columns
	DefaultZone string `default:"Europe/Rome" placeholder:"ZONE" help:"Zone of customers whose events name none."`

	Methods []string `placeholder:"NAME,..." help:"Methods to compare; all of them where none is named."`
	JSON    bool     `help:"Write the report as one JSON object."`
	SVG     string   `name:"svg" placeholder:"FOLDER" help:"Draw the pictures into a folder, too."`
}

// Help is what the names stand for.
func (*evaluateCmd) Help() string { return evaluation.Glossary() }

// Validate checks what can be checked before anything is read.
func (c *evaluateCmd) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.Simulate && c.File != "":
		wrong("--simulate and --file: want one of them")
	case !c.Simulate && c.File == "":
		wrong("what is to be judged? give --simulate or --file")
	case c.Simulate && c.Truth != "":
		wrong("--truth: a simulated town has its own")
	}
	if c.Simulate && (c.Customers < 1 || c.Customers > 1_000_000) {
		wrong("--customers: %d; want 1 to 1000000", c.Customers)
	}
	if c.Simulate && (c.QuietWeeks < 1 || c.QuietWeeks >= c.Weeks || c.Weeks > 520) {
		wrong("--quiet-weeks, --weeks: %d of %d; want at least one, and at least one more, and no more than ten years", c.QuietWeeks, c.Weeks)
	}
	if _, err := calendar.Zone(c.DefaultZone); err != nil {
		wrong("--default-zone: %w", err)
	}
	for _, m := range c.Methods {
		if !evaluation.Knows(m) {
			wrong("--methods: no %q; there are %s", m, strings.Join(evaluation.Names(), ", "))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return nil
}

// Run evaluates. A bar that does not hold is a failure.
func (c *evaluateCmd) Run(ctx context.Context, t terminal) error {
	bars := newProgress(t.err)
	defer bars.wait()
	log, known, err := c.gather(ctx, t, bars)
	if err != nil {
		return err
	}
	shown := map[string]*bar{}
	report, err := evaluation.Run(ctx, log, known, evaluation.Settings{
		Seed: c.Seed, Methods: c.Methods, DayType: dayType,
		Progress: func(stage string, done, total int) {
			b := shown[stage]
			if b == nil {
				b = bars.bar(stage, int64(total))
				shown[stage] = b
			}
			if b.set(int64(done)); done == total {
				b.done()
			}
		},
	})
	if err != nil {
		return err
	}
	bars.wait()
	if c.SVG != "" {
		if err := c.draw(report, t); err != nil {
			return err
		}
	}
	if c.JSON {
		err = t.json(report)
	} else {
		err = report.Write(t.out)
	}
	if err != nil {
		return err
	}
	var broken []string
	for _, b := range report.Bars {
		if !b.Holds {
			broken = append(broken, fmt.Sprintf("%s is %.4g, not %s", b.Name, b.Value, b.Range()))
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d of %d bars do not hold: %s", len(broken), len(report.Bars), strings.Join(broken, "; "))
	}
	return nil
}

// dayType tells holidays, which are known beforehand, from other days.
func dayType(day int64) string {
	monday := calendar.Day{Year: 1970, Month: time.January, Day: 5} // from which local days are counted
	if _, closed := calendar.Italy.Closed(monday.Add(int(day)), calendar.Place{}); closed {
		return "holiday"
	}
	return ""
}

// gather makes a log of what is to be judged, and tells the truth about it; nil where it is not known.
func (c *evaluateCmd) gather(ctx context.Context, t terminal, bars *progress) (*evaluation.Log, *evaluation.Truth, error) {
	zone, err := calendar.Zone(c.DefaultZone)
	if err != nil {
		return nil, nil, err
	}
	b := evaluation.NewBuilder(zone)
	if c.Simulate {
		known, err := c.live(ctx, b, bars)
		if err != nil {
			return nil, nil, err
		}
		return b.Log(), known, nil
	}
	if _, _, err := c.each(ctx, c.File, t, bars, func(e *engagement.Event, _ int64) error { b.Add(e); return nil }); err != nil {
		return nil, nil, err
	}
	if c.Truth == "" {
		return b.Log(), nil, nil
	}
	f, err := os.Open(c.Truth)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	header, customers, err := truth.Read(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", c.Truth, err)
	}
	return b.Log(), &evaluation.Truth{Header: header, Customers: customers}, nil
}

// live lets a town live, one customer after the other.
func (c *evaluateCmd) live(ctx context.Context, b *evaluation.Builder, bars *progress) (*evaluation.Truth, error) {
	start := c.Start.UTC()
	tw, err := town.New(town.Config{
		Seed: c.Seed, Customers: c.Customers, Start: start, QuietUntil: start.AddDate(0, 0, 7*c.QuietWeeks), Until: start.AddDate(0, 0, 7*c.Weeks),
	})
	if err != nil {
		return nil, err
	}
	bar := bars.bar("simulating", int64(c.Customers))
	defer bar.done()
	known := &evaluation.Truth{Header: tw.Header()}
	for i := range c.Customers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		events, customer := tw.Each(i)
		for k := range events {
			b.Add(&events[k])
		}
		known.Customers = append(known.Customers, customer)
		bar.set(int64(i))
	}
	return known, nil
}

// draw writes the pictures into files.
func (c *evaluateCmd) draw(r *evaluation.Report, t terminal) error {
	if err := os.MkdirAll(c.SVG, 0o755); err != nil {
		return err
	}
	for _, p := range r.Pictures {
		name := filepath.Join(c.SVG, p.Name+".svg")
		if err := os.WriteFile(name, []byte(p.SVG), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(t.err, "drawn:", name)
	}
	return nil
}
