package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/profiler"
)

// eraseCmd has a customer forgotten.
type eraseCmd struct {
	Customer string `arg:"" help:"Id of the customer, as it stands on the topics: where ingest has a PSEUDONYM_KEY, the pseudonym."`
	Signals  string `enum:"open,all" default:"all" help:"all: everything that is held of the customer, attributes and pending requests as well; open: what was learned with the help of tracking pixels."`
	Before   string `placeholder:"TIME" help:"Events of before this time (RFC 3339) are ignored from now on. Default: now. A simulated run needs it, as its time is not ours."`
	Reason   string `default:"request of the customer" help:"Stands in the record, for those who have to account for it."`
	JSON     bool   `help:"Write a JSON object."`
	audit
	target
}

// Help is the example.
func (*eraseCmd) Help() string {
	return `The services forget when they read the record that this writes. What Kafka holds cannot be deleted one by one: the summary says
which topics hold records of the customer until when. No reader takes them into account any more, also in a replay, as long as
customer.erasures.v1 is replayed with them. A JSON line on standard error, and in the file of --audit, says who did it, when and why.

Examples:
  tempismo erase C-00042
  tempismo erase C-00042 --signals open --before 2026-11-01T00:00:00Z`
}

// Validate checks the arguments.
func (c *eraseCmd) Validate() error {
	errs := []error{c.target.Validate()}
	if c.Customer == "" {
		errs = append(errs, errors.New("<customer>: is empty: whom is it about?"))
	}
	if c.Before != "" {
		if at, err := time.Parse(time.RFC3339, c.Before); err != nil {
			errs = append(errs, fmt.Errorf("--before: %q is no time such as 2026-11-01T00:00:00Z", c.Before))
		} else if at.After(time.Now()) {
			errs = append(errs, fmt.Errorf("--before: %s has not come yet: what a customer will do cannot be erased", c.Before))
		}
	}
	// What no reader can read would erase nothing.
	x := customer.Erasure{Signals: []string{c.Signals}, Reason: c.Reason, Before: time.Unix(0, 0)}
	if err := new(customer.Erasure).Parse(x.Append(nil)); err != nil {
		errs = append(errs, fmt.Errorf("--reason: %w", err))
	}
	return errors.Join(errs...)
}

// erased is the summary of an erasure.
type erased struct {
	Customer string           `json:"customer"`
	Run      string           `json:"run"`
	Erasure  customer.Erasure `json:"erasure"`
	Records  []string         `json:"records"` // that were written: topic:partition
	Remains  []remains        `json:"remains"`
}

// remains is a topic that may hold records of the customer.
type remains struct {
	Topic string    `json:"topic"`
	Until time.Time `json:"until"` // at the latest
}

// Run erases.
func (c *eraseCmd) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		now := time.Now().UTC().Truncate(time.Millisecond)
		x := customer.Erasure{Signals: []string{c.Signals}, Before: now, Reason: c.Reason}
		if c.Before != "" {
			x.Before, _ = time.Parse(time.RFC3339, c.Before) // checked by Validate
			x.Before = x.Before.UTC()
		} else if sys.run.Simulated {
			return fmt.Errorf("run %q is a simulated one, whose time is not ours: say with --before up to when events are erased", sys.run.ID)
		}
		var e *erased
		note := audited{Action: "erase", Customer: c.Customer, Run: sys.run.ID, Simulated: sys.run.Simulated, Reason: c.Reason,
			Detail: fmt.Sprintf("%s of before %s", c.Signals, x.Before.Format(time.RFC3339Nano))}
		err := c.audit.around(t, note, func() (err error) {
			e, err = erase(ctx, sys, c.Customer, x, now)
			return err
		})
		if err != nil {
			return err
		}
		if sys.store != nil && !c.known(ctx, sys) {
			fmt.Fprintf(t.err, "no profile of %q is held: is that the id as it stands on the topics?\n", c.Customer)
		}
		if c.JSON {
			return t.json(e)
		}
		return e.print(t.out, now)
	})
}

// known reports whether a profile of the customer is held. Where Redis does not answer, it says nothing against it.
func (c *eraseCmd) known(ctx context.Context, sys *system) bool {
	n, err := sys.partitions(ctx)
	if err != nil {
		return true
	}
	snap, err := sys.store.Read(ctx, sys.run.Group(profiler.Service), stream.Partition([]byte(c.Customer), n), []string{c.Customer})
	return err != nil || snap.Values[0] != nil
}

// erase writes the erasure and, where everything goes, that nothing is known of the customer. Both can be written again.
func erase(ctx context.Context, sys *system, id string, x customer.Erasure, now time.Time) (*erased, error) {
	partitions, err := sys.partitions(ctx)
	if err != nil {
		return nil, err
	}
	w, err := kafka.NewWriter(ctx, sys.log, sys.run)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	e := &erased{Customer: id, Run: sys.run.ID, Erasure: x}
	write := func(topic string, value []byte) error {
		if err := w.Write(ctx, topic, []byte(id), value, time.Time{}); err != nil {
			return fmt.Errorf("%w; nothing is half erased: give the command again", err)
		}
		e.Records = append(e.Records, fmt.Sprintf("%s:%d", sys.run.Topic(topic), stream.Partition([]byte(id), partitions)))
		return nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", id, x.Signals, x.Before.UnixNano()))
	record := stream.Event{ID: "er-" + hex.EncodeToString(sum[:12]), Source: "/tempismo/erase", Type: customer.ErasureType, Subject: id, Time: now, Data: x.Append(nil)}
	if err := write(topics.Erasures, record.Append(nil)); err != nil {
		return nil, err
	}
	if x.All() {
		if err := write(topics.Attributes, nil); err != nil {
			return nil, err
		}
	}
	for _, topic := range topics.All {
		if topic.Kind == topics.Broadcast || topic.Name == topics.Digests { // these name nobody
			continue
		}
		if topic.Kind == topics.Log {
			e.Remains = append(e.Remains, remains{sys.run.Topic(topic.Name), now.Add(topic.Retention)})
		}
		if topic.DLQ {
			e.Remains = append(e.Remains, remains{sys.run.Topic(topics.DeadLetter(topic.Name)), now.Add(topics.DeadLetterRetention)})
		}
	}
	slices.SortStableFunc(e.Remains, func(a, b remains) int { return cmp.Compare(a.Until.Unix(), b.Until.Unix()) })
	return e, nil
}

func (e *erased) print(to io.Writer, now time.Time) error {
	what := "what was learned of " + e.Customer + " by pixels, and from whatever was learned together with it,"
	if e.Erasure.All() {
		what = "everything of " + e.Customer
	}
	fmt.Fprintf(to, "%s of before %s is erased: the services forget it as they read\n", what, e.Erasure.Before.Format(time.RFC3339))
	fmt.Fprintf(to, "  %s\n\n", strings.Join(e.Records, "\n  "))
	fmt.Fprintln(to, "Kafka keeps what was published before. No reader of ours takes it into account any more, and it is gone at the latest")
	w := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	for _, r := range e.Remains {
		fmt.Fprintf(w, "  %s\t%s\tin %s\n", r.Topic, r.Until.Format(time.DateOnly), days(r.Until.Sub(now)))
	}
	return w.Flush()
}
