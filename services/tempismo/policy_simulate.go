package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/services/tempismo/history"
)

// policySimulate tells what another policy would have changed.
type policySimulate struct {
	File      string `arg:"" type:"path" help:"Policy file."`
	From      string `placeholder:"TIME" help:"When it would have come into force: a day (2026-11-01) or a time (RFC 3339), UTC. Default: at the beginning of the log."`
	To        string `placeholder:"TIME" help:"Where to end. Default: with the log."`
	Partition int    `default:"-1" placeholder:"N" help:"Look at this partition only, a sample of the customers. Default: at all."`
	Examples  int    `default:"10" placeholder:"N" help:"How many of those whom it would have changed to name."`
	JSON      bool   `help:"Write a JSON object."`
	target
}

// Help is the example.
func (*policySimulate) Help() string {
	return `Everything that the decider took is folded twice, under the policies that were in force and under the file. Nothing is sent, and nothing
is written. Timers fire when they are due, and a customer's profile is what was last seen of it, so the first fold need not come to what was
decided in truth; how far it does is told in the end.

Example:
  tempismo policy simulate policy.yaml --from 2026-11-01 --to 2026-12-01`
}

// Validate checks the range.
func (c *policySimulate) Validate() error {
	errs := []error{c.target.Validate()}
	from, err := dayOrTime(c.From)
	if err != nil {
		errs = append(errs, fmt.Errorf("--from: %w", err))
	}
	to, err := dayOrTime(c.To)
	if err != nil {
		errs = append(errs, fmt.Errorf("--to: %w", err))
	}
	if !to.IsZero() && !from.Before(to) {
		errs = append(errs, errors.New("--to: must be after --from"))
	}
	if c.Examples < 0 {
		errs = append(errs, errors.New("--examples: must not be negative"))
	}
	return errors.Join(errs...)
}

// dayOrTime reads a day or a time; nothing is the zero time.
func dayOrTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a day such as 2026-11-01 nor a time such as 2026-11-01T00:00:00Z", s)
}

// fate is what became of a request, or of a deviation without one.
type fate struct {
	Type   string    `json:"type"` // the middle of the decision's type; wait: it had not ended
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`

	customer, channel, zone string
	slot                    time.Time
}

// sends reports whether a message goes out, or would to somebody who is not in the control group.
func (f *fate) sends() bool { return f.Type == "send_now" || f.Type == "held_out" }

// fates are those in a range of time, by id of the request or of the deviation.
type fates struct {
	from, to time.Time
	by       map[string]*fate
}

// take notes a decision. What had ended before the range is not of it.
func (f *fates) take(e *history.Decision) error {
	var d decision.Decision
	if err := d.Parse(e.Type, e.Data); err != nil {
		return fmt.Errorf("decision %s: %w", e.ID, err)
	}
	kind, err := decisionKind(&e.Event)
	if err != nil {
		return fmt.Errorf("decision %s: %w", e.ID, err)
	}
	id := cmp.Or(d.Request, d.Deviation)
	switch {
	case !f.to.IsZero() && d.DecidedAt.After(f.to):
		return nil
	case d.DecidedAt.Before(f.from) && e.Type != decision.WaitType:
		delete(f.by, id)
		return nil
	}
	x := &fate{Type: kind, Reason: string(d.Reason), At: d.DecidedAt, customer: e.Subject, channel: d.Channel, zone: d.Zone}
	if d.Slot != nil {
		x.slot = d.Slot.From
	}
	f.by[id] = x
	return nil
}

// changed is a fate that would have been another.
type changed struct {
	ID       string `json:"id"` // of the request or deviation
	Customer string `json:"customer"`
	Channel  string `json:"channel"`
	Before   *fate  `json:"before"` // nil: nothing would have been decided
	After    *fate  `json:"after"`
}

// otherwise is the answer: how it was and how it would have been.
type otherwise struct {
	Policy      string         `json:"policy"` // the file
	From        time.Time      `json:"from,omitzero"`
	To          time.Time      `json:"to,omitzero"`
	Partitions  []int32        `json:"partitions"`
	Records     int64          `json:"records"`
	Before      map[string]int `json:"before"` // by "type", and "type reason"
	After       map[string]int `json:"after"`
	All         int            `json:"all"`     // requests, and deviations without one
	Same        int            `json:"same"`    // that end alike and at the same time
	Earlier     int            `json:"earlier"` // that go out earlier
	Later       int            `json:"later"`
	Shift       float64        `json:"median_shift_hours"` // of those
	Ends        int            `json:"end_otherwise"`
	HoursBefore [24]int        `json:"hours_before"` // sends by local hour
	HoursAfter  [24]int        `json:"hours_after"`
	Examples    []changed      `json:"examples"`
	Decided     int            `json:"decided"`  // how many ends there were in truth
	Faithful    int            `json:"faithful"` // how many of them Before has with the same reason and slot
	Looks       history.Looks  `json:"looks"`
	Missing     []string       `json:"missing,omitempty"`

	shifts []time.Duration
}

// Run simulates.
func (c *policySimulate) Run(ctx context.Context, t terminal) error {
	from, err := dayOrTime(c.From)
	if err != nil {
		return err
	}
	to, err := dayOrTime(c.To)
	if err != nil {
		return err
	}
	year := thisYear()
	if !from.IsZero() {
		year = from.Year()
	}
	policy, err := openPolicy(c.File, year)
	if err != nil {
		return err
	}
	policy.Version = "simulated"
	x := &otherwise{Policy: c.File, From: from, To: to, Before: map[string]int{}, After: map[string]int{}, Examples: []changed{}}
	err = c.with(ctx, func(sys *system) error {
		n, err := sys.partitions(ctx)
		if err != nil {
			return err
		}
		if c.Partition >= int(n) {
			return fmt.Errorf("%w: --partition: there are %d, 0 to %d", config.ErrUsage, n, n-1)
		}
		bars := newProgress(t.err)
		defer bars.wait()
		bar := bars.bar("simulating", int64(n))
		defer bar.done()
		for p := range n {
			if c.Partition >= 0 && p != int32(c.Partition) {
				continue
			}
			bar.set(int64(p))
			if err := x.partition(ctx, sys, p, policy); err != nil {
				return fmt.Errorf("partition %d: %w", p, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.sum(c.Examples)
	if c.JSON {
		return t.json(x)
	}
	return x.print(t.out)
}

// partition simulates one.
func (x *otherwise) partition(ctx context.Context, sys *system, p int32, policy *decision.Policy) error {
	past, err := history.Open(ctx, sys.log, sys.run, p)
	if err != nil {
		return err
	}
	defer past.Close()
	collect := func() *fates { return &fates{from: x.From, to: x.To, by: map[string]*fate{}} }
	was, before, after := collect(), collect(), collect()
	looks, err := past.Simulate(ctx, x.To, was.take,
		history.Scenario{Each: before.take}, history.Scenario{From: x.From, Policy: policy, Each: after.take})
	if err != nil {
		return err
	}
	x.Partitions = append(x.Partitions, p)
	x.Records += past.Read()
	for _, m := range past.Missing() {
		x.Missing = append(x.Missing, fmt.Sprintf("partition %d: %s", p, m))
	}
	x.Looks.Same += looks.Same
	x.Looks.Earlier += looks.Earlier
	x.Looks.Later += looks.Later
	x.Looks.None += looks.None
	x.compare(was, before, after)
	return nil
}

// compare counts what differs.
func (x *otherwise) compare(was, before, after *fates) {
	for id, w := range was.by {
		if w.Type == "wait" {
			continue
		}
		x.Decided++
		if b := before.by[id]; b != nil && b.Type == w.Type && b.Reason == w.Reason && b.slot.Equal(w.slot) {
			x.Faithful++
		}
	}
	ids := maps.Clone(before.by)
	maps.Copy(ids, after.by)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		x.one(id, before.by[id], after.by[id])
	}
}

func (x *otherwise) one(id string, before, after *fate) {
	x.All++
	for _, side := range [...]struct {
		f      *fate
		counts map[string]int
		hours  *[24]int
	}{{before, x.Before, &x.HoursBefore}, {after, x.After, &x.HoursAfter}} {
		if side.f == nil {
			continue
		}
		side.counts[side.f.Type]++
		side.counts[side.f.Type+" "+side.f.Reason]++
		if loc, err := calendar.Zone(side.f.zone); err == nil && side.f.Type == "send_now" {
			side.hours[side.f.At.In(loc).Hour()]++
		}
	}
	known := cmp.Or(before, after)
	switch {
	case before != nil && after != nil && before.sends() && after.sends():
		shift := after.At.Sub(before.At)
		switch {
		case shift < 0:
			x.Earlier++
		case shift > 0:
			x.Later++
		default:
			x.Same++
			return
		}
		x.shifts = append(x.shifts, shift.Abs())
	case before != nil && after != nil && before.Type == after.Type && (before.Reason == after.Reason || before.Type == "wait"):
		x.Same++
		return
	default:
		x.Ends++
	}
	x.Examples = append(x.Examples, changed{id, known.customer, known.channel, before, after})
}

// sum ends the counting. Those who would have ended otherwise are the first examples.
func (x *otherwise) sum(examples int) {
	if n := len(x.shifts); n > 0 {
		slices.Sort(x.shifts)
		x.Shift = x.shifts[n/2].Hours()
	}
	moved := func(c changed) int {
		if c.Before != nil && c.After != nil && c.Before.sends() && c.After.sends() {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(x.Examples, func(a, b changed) int { return moved(a) - moved(b) })
	x.Examples = x.Examples[:min(examples, len(x.Examples))]
}

// print tells it to a person.
func (x *otherwise) print(w io.Writer) error {
	s := styleFor(w)
	span := "over the whole log"
	switch {
	case !x.From.IsZero() && !x.To.IsZero():
		span = fmt.Sprintf("from %s to %s", x.From.Format(time.DateOnly), x.To.Format(time.DateOnly))
	case !x.From.IsZero():
		span = "from " + x.From.Format(time.DateOnly) + " on"
	case !x.To.IsZero():
		span = "until " + x.To.Format(time.DateOnly)
	}
	fmt.Fprintf(w, "%s  against what was in force, %s; %s records of %s\n\n", s.strong.Render(x.Policy), span, grouped(x.Records), plural(len(x.Partitions), "partition"))
	if err := x.table(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nOf %s requests and deviations, %s end alike and at the same time, or wait; %s go out earlier and %s later", grouped(int64(x.All)), grouped(int64(x.Same)), grouped(int64(x.Earlier)), grouped(int64(x.Later)))
	if len(x.shifts) > 0 {
		fmt.Fprintf(w, ", half of them by %.1f hours or less", x.Shift)
	}
	fmt.Fprintf(w, "; %s end otherwise.\n", grouped(int64(x.Ends)))
	x.hours(w, s)
	for i, c := range x.Examples {
		if i == 0 {
			fmt.Fprintf(w, "\n%s\n", s.strong.Render("for example"))
		}
		fmt.Fprintf(w, "  %s of %s, %s: was %s; would be %s\n", c.ID, c.Customer, c.Channel, c.Before, c.After)
	}
	share := 100.
	if x.Decided > 0 {
		share = 100 * float64(x.Faithful) / float64(x.Decided)
	}
	fmt.Fprintln(w)
	for _, line := range [...]string{
		fmt.Sprintf("How far to trust it: of %s in truth, the fold without the file has %s (%.1f %%) for the same reason and in the same slot.", plural(x.Decided, "end"), grouped(int64(x.Faithful)), share),
		fmt.Sprintf("Profiles were as seen in the very step %s times, in an earlier one %s, in a later one %s, in none %s.", grouped(x.Looks.Same), grouped(x.Looks.Earlier), grouped(x.Looks.Later), grouped(x.Looks.None)),
	} {
		fmt.Fprintln(w, s.faint.Render(line))
	}
	for _, m := range x.Missing {
		fmt.Fprintln(w, s.faint.Render(m))
	}
	return nil
}

// table lists ends by type and reason.
func (x *otherwise) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tWAS\tWOULD BE\t")
	names := maps.Clone(x.Before)
	maps.Copy(names, x.After)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		label := plain(name)
		if kind, reason, ok := strings.Cut(name, " "); ok {
			label = "· " + plain(reason)
			if kind == "wait" {
				continue // why it waits says little of how it ends
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", label, grouped(int64(x.Before[name])), grouped(int64(x.After[name])))
	}
	return w.Flush()
}

// hours draws when messages go out.
func (x *otherwise) hours(w io.Writer, s style) {
	most := max(slices.Max(x.HoursBefore[:]), slices.Max(x.HoursAfter[:]))
	if most == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", s.strong.Render("sends by hour of the customer's day"))
	for _, side := range [...]struct {
		name  string
		hours *[24]int
	}{{"was", &x.HoursBefore}, {"would be", &x.HoursAfter}} {
		v := make([]float64, 25) // the last one gives both pictures one scale
		for h, n := range side.hours {
			v[h] = float64(n)
		}
		v[24] = float64(most)
		for i, line := range chart(v, 3, 2) {
			name := ""
			if i == 2 {
				name = side.name
			}
			fmt.Fprintf(w, "  %-9s%s\n", name, s.accent.Render(string([]rune(line)[:48])))
		}
	}
	fmt.Fprintf(w, "  %-9s%s\n", "", axis(24, 3, 2))
}

// String says what became of it.
func (f *fate) String() string {
	if f == nil {
		return "nothing"
	}
	return fmt.Sprintf("%s (%s) %s", plain(f.Type), plain(f.Reason), moment(f.At, f.zone))
}
