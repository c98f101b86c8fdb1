package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/tempismo/town"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// simulateCmd writes the events of a simulated town, and the truth about its customers.
type simulateCmd struct {
	Out        string    `required:"" placeholder:"FILE" help:"Write the events here, as NDJSON; compressed if the name ends in .gz; - for standard output."`
	Truth      string    `placeholder:"FILE" help:"Write the truth about the customers here. Default: the file of the events with .truth before its ending; none beside standard output."`
	Customers  int       `default:"2000" help:"Customers of the town. A larger town has the smaller one in it."`
	Weeks      int       `default:"34" help:"Length of the whole, in weeks."`
	QuietWeeks int       `default:"26" help:"Weeks at the beginning in which nothing happens that a detector is asked to find. From then on half of the customers are left alone."`
	Seed       uint64    `default:"1" help:"The same seed gives the same town."`
	Start      time.Time `default:"2025-09-01T00:00:00Z" placeholder:"TIME" help:"Its first day, RFC 3339. Summer and December are seasons of their own."`
	Story      string    `placeholder:"ID" help:"Only one resident whose story is known: anna-moves-by-8-hours, bruno-falls-silent, carla-comes-back or dario-bursts."`
	JSON       bool      `help:"Write the summary as one JSON object."`
}

// Help is the example.
func (*simulateCmd) Help() string {
	return `Customers have habits, get mail, look into their inbox a few times a day, and go on holidays; machines open mail, too. After
the quiet weeks, of the half that is not left alone a quarter reads far more than usual for two days, a quarter falls silent,
a quarter moves its habits by 8 hours, and to the rest happens something of everything. What happened, and when each customer
pays attention, stands in the truth (schemas/truth.schema.json), by which "tempismo evaluate" judges.

Examples:
  tempismo simulate --customers 20000 --seed 7 --out town.ndjson.gz
  tempismo import town.ndjson.gz --data ./town`
}

// Validate checks the sizes.
func (c *simulateCmd) Validate() error {
	var errs []error
	if c.Customers < 1 || c.Customers > 1_000_000 {
		errs = append(errs, errors.New("--customers: want 1 to 1000000"))
	}
	if c.Weeks < 2 || c.Weeks > 520 {
		errs = append(errs, errors.New("--weeks: want 2 to 520"))
	}
	if c.QuietWeeks < 1 || c.QuietWeeks >= c.Weeks {
		errs = append(errs, fmt.Errorf("--quiet-weeks: want at least 1, and less than the %d of --weeks", c.Weeks))
	}
	if c.Story != "" && !slices.Contains(town.Stories[:], c.Story) {
		errs = append(errs, fmt.Errorf("--story: nobody is called %q; there are %s", c.Story, strings.Join(town.Stories[:], ", ")))
	}
	if c.Truth != "" && c.Truth == c.Out {
		errs = append(errs, errors.New("--truth: is the file of the events"))
	}
	return errors.Join(errs...)
}

// simulated is what a simulation ends with.
type simulated struct {
	Events     int64            `json:"events"`
	Kinds      map[string]int64 `json:"kinds"`   // events by kind
	Machine    int64            `json:"machine"` // events that a rule on one event alone knows a machine by
	Customers  int64            `json:"customers"`
	Null       int64            `json:"null"`     // customers to whom nothing happens after the quiet time
	Episodes   map[string]int64 `json:"episodes"` // by kind
	From       time.Time        `json:"from"`
	QuietUntil time.Time        `json:"quiet_until"`
	To         time.Time        `json:"to"`
	Out        string           `json:"out"`
	Truth      string           `json:"truth,omitempty"`
}

// Run simulates.
func (c *simulateCmd) Run(ctx context.Context, t terminal) (err error) {
	start := c.Start.UTC()
	conf := town.Config{Seed: c.Seed, Customers: c.Customers, Start: start, QuietUntil: start.AddDate(0, 0, 7*c.QuietWeeks), Until: start.AddDate(0, 0, 7*c.Weeks)}
	if c.Story != "" {
		conf.Customers, conf.Stories = 0, conf.Until.AddDate(0, 0, -16) // so that what follows is there, too
	}
	people, err := town.New(conf)
	if err != nil {
		return err
	}
	sum := simulated{Kinds: map[string]int64{}, Episodes: map[string]int64{}, From: start, QuietUntil: conf.QuietUntil, To: conf.Until, Out: c.Out, Truth: c.truthFile()}
	out, err := create(c.Out, t.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.end(err)) }()
	beside := &outFile{}
	if sum.Truth != "" {
		if beside, err = create(sum.Truth, t.out); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, beside.end(err)) }()
	}
	bars := newProgress(t.err)
	defer bars.wait()
	bar := bars.bar("events", 24*7*int64(c.Weeks))
	header, events, customers := people.Header(), eventsOf(people, conf.Until), people.Truths()
	if c.Story != "" {
		told, known := people.Story(slices.Index(town.Stories[:], c.Story))
		header.Customers, events, customers = 1, pointers(told), slices.Values([]truth.Customer{known})
	}
	var line []byte
	for e := range events {
		if sum.Events%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			bar.set(int64(e.Time.Sub(start).Hours()))
		}
		sum.Events++
		sum.Kinds[e.Kind.String()]++
		if e.Actor != engagement.Human {
			sum.Machine++
		}
		line = append(e.Append(line[:0]), '\n')
		if _, err := out.w.Write(line); err != nil {
			return err
		}
	}
	bar.done()
	bar = bars.bar("truth", int64(header.Customers))
	told := func(yield func(truth.Customer) bool) {
		for k := range customers {
			sum.count(&k)
			bar.set(sum.Customers)
			if ctx.Err() != nil || !yield(k) {
				return
			}
		}
	}
	if beside.w == nil {
		told(func(truth.Customer) bool { return true })
	} else if err := truth.Write(beside.w, header, told); err != nil {
		return err
	}
	bar.done()
	bars.wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	say := t.out
	if c.Out == "-" || c.Truth == "-" {
		say = t.err // standard output holds what was asked for
	}
	if c.JSON {
		return terminal{out: say}.json(sum)
	}
	sum.print(say)
	return nil
}

// truthFile is where the truth goes; empty: nowhere.
func (c *simulateCmd) truthFile() string {
	if c.Truth != "" || c.Out == "-" {
		return c.Truth
	}
	name, packed := strings.CutSuffix(c.Out, ".gz")
	for _, ending := range []string{".ndjson", ".jsonl", ".json"} {
		if base, ok := strings.CutSuffix(name, ending); ok {
			name = base
			break
		}
	}
	if name += ".truth.ndjson"; packed {
		name += ".gz"
	}
	return name
}

// eventsOf is the events of a town up to an end, each valid until the next.
func eventsOf(people *town.Town, end time.Time) iter.Seq[*engagement.Event] {
	return func(yield func(*engagement.Event) bool) {
		var e engagement.Event
		for people.Next(&e); e.Time.Before(end); people.Next(&e) {
			if !yield(&e) {
				return
			}
		}
	}
}

func pointers(events []engagement.Event) iter.Seq[*engagement.Event] {
	return func(yield func(*engagement.Event) bool) {
		for i := range events {
			if !yield(&events[i]) {
				return
			}
		}
	}
}

// outFile is a file that is being written, compressed or not.
type outFile struct {
	w      io.Writer
	finish []func() error
	remove string // if it does not come to an end
}

// create creates a file, which must not exist; the name - is standard output.
func create(name string, stdout io.Writer) (*outFile, error) {
	o := &outFile{}
	w := stdout
	if name != "-" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("%w: remove it or choose another name", err)
		}
		if err != nil {
			return nil, err
		}
		w, o.remove = f, name
		o.finish = append(o.finish, f.Close)
	}
	b := bufio.NewWriterSize(w, 1<<18)
	o.w = b
	o.finish = append(o.finish, b.Flush)
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewWriterLevel(b, gzip.BestSpeed) // the better levels would take longer than the simulation
		if err != nil {
			return nil, errors.Join(err, o.end(err))
		}
		o.w = z
		o.finish = append(o.finish, z.Close)
	}
	return o, nil
}

// end closes the file, and removes it if the simulation failed: half a town would be taken for a whole one.
func (o *outFile) end(failed error) error {
	var errs []error
	for _, f := range slices.Backward(o.finish) {
		errs = append(errs, f())
	}
	err := errors.Join(errs...)
	if o.remove != "" && (failed != nil || err != nil) {
		err = errors.Join(err, os.Remove(o.remove))
	}
	return err
}

func (s *simulated) count(c *truth.Customer) {
	s.Customers++
	if c.IsNull(s.QuietUntil) {
		s.Null++
	}
	for i := range c.Episodes {
		s.Episodes[c.Episodes[i].Kind]++
	}
}

// print writes the summary for people.
func (s *simulated) print(w io.Writer) {
	day := func(t time.Time) string { return t.Format(time.DateOnly) }
	fmt.Fprintf(w, "%-11s%11s   %s; by machines %s\n", "events", grouped(s.Events), listed(s.Kinds), grouped(s.Machine))
	fmt.Fprintf(w, "%-11s%11s   %s to %s, quiet until %s\n", "customers", grouped(s.Customers), day(s.From), day(s.To), day(s.QuietUntil))
	fmt.Fprintf(w, "%-11s%11s   nothing happens to them after that\n", "null", grouped(s.Null))
	fmt.Fprintf(w, "%-11s%11s   %s\n", "episodes", grouped(total(s.Episodes)), listed(s.Episodes))
	fmt.Fprintf(w, "written to %s\n", s.Out)
	if s.Truth != "" {
		fmt.Fprintf(w, "truth in   %s\n", s.Truth)
	}
}
