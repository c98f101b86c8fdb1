package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// redoCmd tries dead letters again.
type redoCmd struct {
	Topic     string        `arg:"" optional:"" default:"engagement.events.v1.dlq" help:"Topic of dead letters."`
	Stage     string        `placeholder:"STAGE" help:"Only letters of this stage, such as decode or ingest:sendgrid; ingest: for those of all webhooks."`
	Since     string        `placeholder:"TIME" help:"Only letters that were set aside at this time or later (RFC 3339)."`
	DryRun    bool          `help:"Say what would be tried, and write nothing."`
	Pseudonym config.Secret `name:"pseudonym-key" env:"PSEUDONYM_KEY" help:"As ingest has it."`
	PlainIDs  bool          `name:"plain-ids" help:"Ids of customers are no pseudonyms, though they look like it."`
	Pixels    config.Pixels `embed:""`
	Machines  string        `name:"machine-lists" env:"MACHINE_LISTS" placeholder:"FILE" help:"As ingest has it."`
	JSON      bool          `help:"Write the summary as a JSON object."`
	target
}

// Help is the example.
func (*redoCmd) Help() string {
	return `What a service could not read goes back to the topic that it came from, with its bytes, key and headers: after what has come since, and
for all readers. What ingest could not map of a webhook is mapped anew here, with the settings of ingest that concern events, and only events
that the topic does not have are written. Mend first what was wrong, which mostly means a newer version.

Letters are never deleted. One that was tried and has not come back is not tried again, and one that a newer record of its key or id has
overtaken is not tried at all. The exit code is 3 where letters are left that cannot be tried, or not be mapped; the summary says why.

Examples:
  tempismo redo --dry-run
  tempismo redo --stage ingest:sendgrid --since 2026-11-01T00:00:00Z
  tempismo redo send.requests.v1.dlq --json`
}

// Validate checks the arguments.
func (c *redoCmd) Validate() error {
	errs := []error{c.target.Validate()}
	if !strings.HasSuffix(c.Topic, topics.DeadLetter("")) {
		errs = append(errs, fmt.Errorf("<topic>: %q has no dead letters: give their topic, %s", c.Topic, topics.DeadLetter(c.Topic)))
	} else {
		errs = append(errs, topicName(c.Topic))
	}
	if c.Since != "" {
		if _, err := time.Parse(time.RFC3339, c.Since); err != nil {
			errs = append(errs, fmt.Errorf("--since: %q is no time such as 2026-11-01T00:00:00Z", c.Since))
		}
	}
	return errors.Join(errs...)
}

// redoHeader marks a record that was a dead letter, with the position of the first record that became one. The runtime keeps it
// with the letter if the record becomes one again, which is how both are known.
const redoHeader = "tempismo.redo"

// errorsHeader begins the names of the headers that say why a record was set aside.
const errorsHeader = "__connect.errors."

// letter is what a dead letter says of itself.
type letter struct {
	*stream.Record
	stage, reason string
	partition     int32 // where the record stood that became it
	offset        int64
	root          string // where the first one stood
	back          bool   // whether it had been tried before
}

func letterOf(r *stream.Record) *letter {
	l := &letter{Record: r, partition: -1}
	for _, h := range r.Headers {
		switch h.Key {
		case errorsHeader + "stage":
			l.stage = string(h.Value)
		case errorsHeader + "exception.message":
			l.reason = string(h.Value)
		case errorsHeader + "partition":
			if p, err := strconv.ParseInt(string(h.Value), 10, 32); err == nil {
				l.partition = int32(p)
			}
		case errorsHeader + "offset":
			l.offset, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case redoHeader:
			l.root, l.back = string(h.Value), true
		}
	}
	if !l.back {
		l.root = l.at()
	}
	return l
}

// at is where the record stood that became the letter.
func (l *letter) at() string { return fmt.Sprintf("%d:%d", l.partition, l.offset) }

// message is the record as it was. Its position in another service's output is left out: readers have passed it, and would take
// the record for one that they have seen.
func (l *letter) message() stream.Message {
	m := stream.Message{Key: bytes.Clone(l.Key), Value: bytes.Clone(l.Value)}
	for _, h := range l.Headers {
		if !strings.HasPrefix(h.Key, errorsHeader) && h.Key != redoHeader && h.Key != "source" && h.Key != "sequence" {
			m.Headers = append(m.Headers, stream.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
		}
	}
	m.Headers = append(m.Headers, stream.Header{Key: redoHeader, Value: []byte(l.root)})
	return m
}

// hopeless says why a letter of a service cannot be tried; empty: it can.
func (l *letter) hopeless(t *topics.Topic) string {
	switch {
	case t.Kind == topics.Broadcast:
		return "is of a topic whose last record is in force: apply or publish it anew instead"
	case strings.HasPrefix(l.stage, "source:"):
		return "stood on a topic of somebody else's, to which nothing is written: correct it there (" + l.reason + ")"
	case l.stage == "output":
		return "was read, and changed its customer's state; what did not fit was an output (" + l.reason + ")"
	case l.partition < 0:
		return "does not say where it came from"
	case len(l.Key) == 0:
		return "has no key, and would be set aside again"
	case len(l.Value) == 0:
		return "does not hold the record, which stands at its position for as long as its topic keeps it (" + l.reason + ")"
	}
	return ""
}

// redone is the summary.
type redone struct {
	Topic       string  `json:"topic"`
	Into        string  `json:"into"`
	Letters     int64   `json:"letters"`     // that were asked for
	Tried       int64   `json:"tried"`       // again, now
	Records     int64   `json:"records"`     // that were written as they were
	Events      int64   `json:"events"`      // of webhooks, that were written; of one letter there may be several, or none
	Settled     int64   `json:"settled"`     // were tried before and have not come back, or are a letter of the same record
	Unconsented int64   `json:"unconsented"` // hold nothing but opens that their customers have not consented to
	Overtaken   int64   `json:"overtaken"`   // a newer record of the same key (of a table) or id is there
	Left        []*left `json:"left"`        // cannot be tried, or still not be mapped
	DryRun      bool    `json:"dry_run"`
}

// left are letters that cannot be helped, for one reason.
type left struct {
	Stage   string `json:"stage"`
	Reason  string `json:"reason"`
	Letters int64  `json:"letters"`
	First   string `json:"first"` // where one of them stands: partition:offset
}

// mostReasons bounds the reasons that are told apart.
const mostReasons = 100

// leave counts a letter that cannot be helped.
func (s *redone) leave(l *letter, reason string) {
	i := slices.IndexFunc(s.Left, func(x *left) bool { return x.Stage == l.stage && x.Reason == reason })
	if i < 0 && len(s.Left) >= mostReasons {
		reason = "other reasons"
		i = slices.IndexFunc(s.Left, func(x *left) bool { return x.Stage == l.stage && x.Reason == reason })
	}
	if i < 0 {
		i = len(s.Left)
		s.Left = append(s.Left, &left{Stage: l.stage, Reason: reason, First: fmt.Sprintf("%d:%d", l.Partition, l.Offset)})
	}
	s.Left[i].Letters++
}

// print writes the summary for people.
func (s *redone) print(w io.Writer, readers []string) {
	tried, events := "tried again", "written to "
	if s.DryRun {
		tried, events = "to be tried", "would be written to "
	}
	fmt.Fprintf(w, "%s: %s\n", s.Topic, counted(int(s.Letters), "letter"))
	line := func(name string, n int64, more string) {
		if n > 0 {
			fmt.Fprintf(w, "%-12s%11s   %s\n", name, grouped(n), more)
		}
	}
	line(tried, s.Tried, fmt.Sprintf("%s events of webhooks and %s other records %s%s, read by %s", grouped(s.Events), grouped(s.Records), events, s.Into, strings.Join(readers, ", ")))
	line("settled", s.Settled, "were tried before, and have not come back")
	line("unconsented", s.Unconsented, "hold nothing but opens that their customers have not consented to")
	line("overtaken", s.Overtaken, "newer ones are there")
	for _, x := range s.Left {
		line("left", x.Letters, fmt.Sprintf("%s: %s (one is %s)", x.Stage, x.Reason, x.First))
	}
	if s.Records > 0 && !s.DryRun {
		fmt.Fprintln(w, "What still cannot be read comes back as a letter: the same command, once the services have read it, says so.")
	}
}

// Run tries again.
func (c *redoCmd) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		bars := newProgress(t.err)
		r, err := c.begin(ctx, sys)
		for _, pass := range []func(context.Context, *progress) error{r.look, r.compare, r.write} {
			if err == nil {
				err = pass(ctx, bars)
			}
		}
		bars.wait()
		if err != nil {
			return err
		}
		if c.JSON {
			err = t.json(r.sum)
		} else {
			r.sum.print(t.out, r.topic.Readers)
		}
		if err == nil && len(r.sum.Left) > 0 {
			err = &ending{3, "not all letters can be helped"}
		}
		return err
	})
}
