package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/trainer"
)

// modelsCmd shows what is known about everybody, and decides which version of it is in force.
type modelsCmd struct {
	List  modelsList  `cmd:"" default:"withargs" help:"List the versions, the newest first."`
	Show  modelsShow  `cmd:"" help:"Draw one version."`
	Train modelsTrain `cmd:"" help:"Fit a model now, and publish it if it is no worse than the one in force."`
	Pin   modelsPin   `cmd:"" help:"Put a version in force, and hold it."`
	Unpin modelsUnpin `cmd:"" help:"Let the version that is held go."`
}

// Help is the example.
func (*modelsCmd) Help() string {
	return "Example:\n  tempismo models\n  tempismo models show\n  tempismo models pin builtin.1"
}

type modelsList struct {
	JSON bool `help:"Write a JSON list."`
	target
}

// Help is the example.
func (*modelsList) Help() string {
	return "Bits are what a version needed to tell the hour of an engagement of customers that it was not fitted on: fewer are better,\nand 4.58 is knowing nothing.\n\nExample:\n  tempismo models --json"
}

// modelLine is one version.
type modelLine struct {
	Version   string           `json:"version"`
	Published time.Time        `json:"published"` // first
	FittedOn  *timing.FittedOn `json:"fitted_on,omitempty"`
	Bits      float64          `json:"bits,omitempty"`        // on customers that are held out
	Before    float64          `json:"bits_before,omitempty"` // of the version in force before
	PStar     float64          `json:"p_star"`
	InForce   bool             `json:"in_force"`
	Pinned    bool             `json:"pinned"`
}

// versions lists the versions on a shelf, the newest first.
func versions(s *trainer.Shelf) []modelLine {
	lines := []modelLine{}
	for i := len(s.Copies) - 1; i >= 0; i-- {
		m := s.Copies[i].Model
		if at := slices.IndexFunc(lines, func(l modelLine) bool { return l.Version == m.Version }); at >= 0 {
			lines[at].Published = s.Copies[i].At
			continue
		}
		f := s.InForce()
		lines = append(lines, modelLine{
			Version: m.Version, Published: s.Copies[i].At, FittedOn: m.FittedOn, Bits: m.Metrics["bits"], Before: m.Metrics["bits_before"], PStar: m.PStar,
			InForce: f.Version == m.Version, Pinned: f.Version == m.Version && f.Pinned,
		})
	}
	slices.SortStableFunc(lines, func(a, b modelLine) int { return b.Published.Compare(a.Published) })
	return lines
}

// state says whether a version is in force.
func (l *modelLine) state() string {
	switch {
	case l.Pinned:
		return "in force, pinned"
	case l.InForce:
		return "in force"
	}
	return ""
}

// Run lists.
func (c *modelsList) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		s, err := trainer.ReadShelf(ctx, sys.log, sys.run)
		if err != nil {
			return err
		}
		lines := versions(s)
		if c.JSON {
			return t.json(lines)
		}
		if len(lines) == 0 {
			fmt.Fprintf(t.out, "no model was published yet: services use %s; a trainer, or `tempismo models train`, publishes one\n", timing.BuiltinVersion)
			return nil
		}
		w := tabwriter.NewWriter(t.out, 0, 0, 3, ' ', 0)
		fmt.Fprintln(w, "VERSION\tPUBLISHED\tFITTED ON\tCUSTOMERS\tBITS\tBEFORE\t")
		for _, l := range lines {
			span, customers, bits, before := "", "", "", ""
			if f := l.FittedOn; f != nil {
				span, customers = f.From.Format(time.DateOnly)+" to "+f.To.Format(time.DateOnly), grouped(int64(f.Customers))
			}
			if l.Bits > 0 {
				bits, before = fmt.Sprintf("%.3f", l.Bits), fmt.Sprintf("%.3f", l.Before)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Version, l.Published.Format("2006-01-02 15:04"), span, customers, bits, before, l.state())
		}
		return w.Flush()
	})
}

// with opens the target for as long as do needs it.
func (t *target) with(ctx context.Context, do func(*system) error) (err error) {
	sys, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	return do(sys)
}

type modelsShow struct {
	Version string `arg:"" optional:"" help:"Version; without it, the one in force."`
	JSON    bool   `help:"Write the model as it stands on the topic."`
	target
}

// Help is the example.
func (*modelsShow) Help() string { return "Example:\n  tempismo models show builtin.1" }

// Run shows.
func (c *modelsShow) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		s, err := trainer.ReadShelf(ctx, sys.log, sys.run)
		if err != nil {
			return err
		}
		m := s.InForce()
		if c.Version != "" || m == nil {
			if c.Version == "" {
				c.Version = timing.BuiltinVersion
			}
			if m, err = s.Find(c.Version); err != nil {
				return err
			}
		}
		if c.JSON {
			return t.json(m)
		}
		line := modelLine{Version: m.Version}
		for _, l := range versions(s) {
			if l.Version == m.Version {
				line = l
			}
		}
		drawModel(t.out, m, &line)
		return nil
	})
}

var dayNames = [7]string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"}

// Sizes of the pictures.
const (
	chartRows   = 4
	hourColumns = 2 // to an hour of the day
	daysAhead   = 90
	daysShown   = 6
)

// drawModel draws a model for people.
func drawModel(w io.Writer, m *timing.Model, l *modelLine) {
	s := styleFor(w)
	head := func(name, text string) { fmt.Fprintf(w, "\n%s  %s\n", s.strong.Render(name), s.faint.Render(text)) }
	fmt.Fprintf(w, "%s  %s\n", s.strong.Render(m.Version), s.accent.Render(l.state()))
	if !l.Published.IsZero() {
		fmt.Fprintf(w, "published %s\n", l.Published.Format("2006-01-02 15:04 MST"))
	}
	if f := m.FittedOn; f != nil {
		fmt.Fprintf(w, "fitted on %s customers, %s to %s\n", grouped(int64(f.Customers)), f.From.Format(time.DateOnly), f.To.Format(time.DateOnly))
	} else {
		fmt.Fprintln(w, "fitted on nothing: what can be assumed of anybody")
	}
	if bits, ok := m.Metrics["bits"]; ok {
		fmt.Fprintf(w, "%.3f bits to tell one of %s engaged hours of %s customers that it was not fitted on; the version before needed %.3f\n",
			bits, grouped(int64(m.Metrics["held_out_engaged_hours"])), grouped(int64(m.Metrics["held_out_customers"])), m.Metrics["bits_before"])
	}

	head("kernel", fmt.Sprintf("when messages are answered, by hours since delivery; half of the answers come within %.0f hours", halfOf(m.Kernel[:])))
	for _, row := range chart(m.Kernel[:], chartRows, 1) {
		fmt.Fprintln(w, " ", s.accent.Render(row))
	}
	fmt.Fprintln(w, " ", axis(timing.Response, 12, 1))

	head("population", "when everybody pays attention, by hour of the day")
	for _, row := range chart(m.Population[:], chartRows, hourColumns) {
		fmt.Fprintln(w, " ", s.accent.Render(row))
	}
	fmt.Fprintln(w, " ", axis(timing.Day, 3, hourColumns))
	fmt.Fprint(w, " ")
	for d, g := range m.Weekdays {
		fmt.Fprintf(w, " %s %.2f ", dayNames[d], g)
	}
	fmt.Fprintln(w)

	group := func(name string, share float64, attention *[timing.Day]float64) {
		fmt.Fprintf(w, "  %s  %3.0f %%  %s\n", s.accent.Render(chart(attention[:], 1, hourColumns)[0]), 100*share, name)
	}
	if len(m.Personas) > 0 {
		head("personas", "groups of customers with like hours")
		for i := range m.Personas {
			group(m.Personas[i].Name, m.Personas[i].Share, &m.Personas[i].Attention)
		}
		fmt.Fprintln(w, " ", axis(timing.Day, 3, hourColumns))
	}
	if len(m.Segments) > 0 {
		head("segments", "groups that you have named")
		for i := range m.Segments {
			group(m.Segments[i].Name, m.Segments[i].Share, &m.Segments[i].Attention)
		}
	}
	if len(m.Habits) > 0 {
		var text []string
		for _, h := range m.Habits {
			text = append(text, fmt.Sprintf("%.3f", h.Correlation))
		}
		head("habits", "directions in which customers differ: correlation between two engagements of one of them")
		fmt.Fprintln(w, " ", strings.Join(text, "  "))
	}
	if days := seasonAhead(m); len(days) > 0 {
		head("season", "days ahead that are unlike others for everybody")
		fmt.Fprintln(w, " ", strings.Join(days, "  "))
	}

	head("what is believed of a customer before the first event", "")
	p := &m.Priors
	fmt.Fprintf(w, "  engages %.2f times for each message, reads %.0f %% of the days with mail\n", p.EngagedHours/p.Deliveries, 100*p.Read/(p.Read+p.Ignored))
	head("calibration", fmt.Sprintf("what a p of %.4f, two sigma, was found to mean, by engaged hours of evidence", timing.TwoSigma))
	calibration := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(calibration, "  \t%s\n", strings.Join(timing.Strata[:], "\t"))
	for _, kind := range []string{timing.Burst, timing.Timing, timing.Silence} {
		fmt.Fprintf(calibration, "  %s", kind)
		for stratum := range timing.Strata {
			text := "as it says"
			if len(m.Calibration[kind][stratum]) > 0 {
				text = fmt.Sprintf("%.4f", m.Calibrated(kind, stratum, timing.TwoSigma))
			}
			fmt.Fprintf(calibration, "\t%s", text)
		}
		fmt.Fprintln(calibration)
	}
	calibration.Flush()
	if m.PStar > 0 {
		fmt.Fprintf(w, "  may act: a p of %.2g or less, 1 in %s\n", m.PStar, grouped(int64(1/m.PStar)))
	} else {
		fmt.Fprintln(w, "  may act: nothing")
	}
	if m.FittedOn != nil && len(m.FittedOn.Defaults) > 0 {
		head("taken from the version before", "because the sample could not tell")
		for _, field := range slices.Sorted(maps.Keys(m.FittedOn.Defaults)) {
			fmt.Fprintf(w, "  %s: %s\n", field, m.FittedOn.Defaults[field])
		}
	}
}

// halfOf is the number of hours within which half of v lies.
func halfOf(v []float64) float64 {
	sum := 0.
	for h, x := range v {
		if sum += x; sum >= .5 {
			return float64(h + 1)
		}
	}
	return float64(len(v))
}

// chart draws values as columns of so many rows and of so many characters each, the largest as high as the chart.
func chart(v []float64, rows, columns int) []string {
	blocks := []rune(" ▁▂▃▄▅▆▇█")
	most := slices.Max(v)
	lines := make([]string, rows)
	for row := range lines {
		var b strings.Builder
		for _, x := range v {
			eighths := 0
			if most > 0 {
				eighths = int(math.Round(x/most*8*float64(rows))) - 8*(rows-1-row)
			}
			b.WriteString(strings.Repeat(string(blocks[min(max(eighths, 0), 8)]), columns))
		}
		lines[row] = b.String()
	}
	return lines
}

// axis numbers every step-th of n columns.
func axis(n, step, columns int) string {
	var b strings.Builder
	for h := 0; h < n; h += step {
		fmt.Fprintf(&b, "%-*d", step*columns, h)
	}
	return strings.TrimRight(b.String(), " ")
}

// seasonAhead names the most unusual days of the weeks after those that the model was fitted on.
func seasonAhead(m *timing.Model) []string {
	if m.FittedOn == nil {
		return nil
	}
	last, _ := calendar.LocalHour(m.FittedOn.To, time.UTC)
	type special struct {
		day    int64
		factor float64
	}
	var days []special
	for i, f := range m.Season.Factors {
		if day := m.Season.First + int64(i); day > last/timing.Day && day <= last/timing.Day+daysAhead && math.Abs(math.Log(f)) > .05 {
			days = append(days, special{day, f})
		}
	}
	slices.SortStableFunc(days, func(a, b special) int {
		return -int(math.Copysign(1, math.Abs(math.Log(a.factor))-math.Abs(math.Log(b.factor))))
	})
	days = days[:min(len(days), daysShown)]
	slices.SortFunc(days, func(a, b special) int { return int(a.day - b.day) })
	var text []string
	for _, d := range days {
		text = append(text, fmt.Sprintf("%s x%.2f", calendar.Instant(d.day*timing.Day, time.UTC).Format("Mon 2 Jan"), d.factor))
	}
	return text
}

type modelsTrain struct {
	JSON bool `help:"Write what came of it as a JSON object."`
	trainer.Fitting
	target
}

// Help is the example.
func (*modelsTrain) Help() string {
	return `Fits in this process what the trainer fits every night, from the same log and by the same rules, and publishes it if it
predicts customers that are held out no worse than the model in force. A pinned version stays in force.

Example:
  tempismo models train --sample-customers 2000`
}

// Validate names everything that is wrong.
func (c *modelsTrain) Validate() error { return errors.Join(c.target.Validate(), c.Fitting.Validate()) }

// Run trains.
func (c *modelsTrain) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		bars := newProgress(t.err)
		shown := map[string]*bar{}
		o, err := trainer.Train(ctx, sys.log, sys.run, c.Fitting, func(p trainer.Progress) {
			b := shown[p.Stage]
			if b == nil {
				for _, before := range shown {
					before.done()
				}
				b = bars.bar(p.Stage, p.Total)
				shown[p.Stage] = b
			}
			b.set(p.Done)
		})
		for _, b := range shown {
			b.done()
		}
		bars.wait()
		if err != nil {
			return err
		}
		if c.JSON {
			return t.json(o)
		}
		fmt.Fprintln(t.out, cameOf(o))
		for _, field := range slices.Sorted(maps.Keys(o.Report.Defaults)) {
			fmt.Fprintf(t.out, "  as in %s: %s: %s\n", o.Before, field, o.Report.Defaults[field])
		}
		return nil
	})
}

// cameOf is what came of a training, as a sentence.
func cameOf(o *trainer.Outcome) string {
	sample := fmt.Sprintf("from %s events of %s customers", grouped(int64(o.Sample.Events)), grouped(int64(o.Sample.Customers)))
	judged := fmt.Sprintf("%.3f bits for an hour of customers that are held out, %.3f by %s", o.Judged.Bits, o.Judged.Before, o.Before)
	switch o.Result {
	case trainer.Published:
		return fmt.Sprintf("%s is in force, fitted %s: %s", o.Model, sample, judged)
	case trainer.Renewed:
		return fmt.Sprintf("refused: %s; %s is in force, which is %s with the gate of the last days", o.Why, o.Model, o.Before)
	case trainer.Held:
		return fmt.Sprintf("fitted %s (%s) and not published: %s", sample, judged, o.Why)
	}
	return fmt.Sprintf("refused, %s stays in force: %s", o.Before, o.Why)
}

type modelsPin struct {
	Version string `arg:"" help:"Version, as listed; builtin.1 is always there."`
	target
}

// Help is the example.
func (*modelsPin) Help() string {
	return "The version is published again with a mark, so every service switches at a record, and so does a replay. The pin outlasts every\nrestart. The trainer goes on fitting, and publishes nothing until `tempismo models unpin`.\n\nExample:\n  tempismo models pin 2026-12-03.1"
}

// Run pins.
func (c *modelsPin) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		m, err := trainer.Pin(ctx, sys.log, sys.run, c.Version)
		if err == nil {
			fmt.Fprintf(t.out, "%s is in force and pinned\n", m.Version)
		}
		return err
	})
}

type modelsUnpin struct{ target }

// Help is the example.
func (*modelsUnpin) Help() string {
	return "The version stays in force until the next one is published.\n\nExample:\n  tempismo models unpin"
}

// Run lets go.
func (c *modelsUnpin) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		m, err := trainer.Unpin(ctx, sys.log, sys.run)
		if err == nil {
			fmt.Fprintf(t.out, "%s is in force until the next one is published\n", m.Version)
		}
		return err
	})
}
