package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/connector"
	crmattributes "github.com/tempismo/tempismo/services/connector/attributes" // attributes is a function of this package
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/profiler"
)

// exportCmd writes everything that is held of one customer.
type exportCmd struct {
	Customer string `arg:"" help:"Id of the customer, as it stands on the topics: where ingest has a PSEUDONYM_KEY, the pseudonym."`
	Out      string `required:"" placeholder:"FILE" help:"File that is made, which nobody but you may read; - is standard output."`
	Reason   string `help:"What it is for; it is noted."`
	JSON     bool   `help:"Write the report as a JSON object: to standard output or, where the export goes there, to standard error."`
	audit
	target
}

// Help is the example.
func (*exportCmd) Help() string {
	return `Writes one JSON object: what the services hold of the customer, in words and as stored, and every record of every topic, dead letters
included, whose key or subject is the customer's id. The report says where was looked, what was found, how long it is kept, and what cannot
be known; it is the last member of the object, too. A JSON line on standard error, and in the file of --audit, says who did it, when and why.

Where ingest has a PSEUDONYM_KEY, give the pseudonym: the first 32 hexadecimal digits of the HMAC-SHA256 of the id with that key. People
with several ids, such as an address from before, are several customers: export each.

Examples:
  tempismo export C-00042 --out C-00042.json
  tempismo export C-00042 --out - --reason ticket-4711 --audit /var/log/tempismo/audit.jsonl`
}

// Validate checks the arguments.
func (c *exportCmd) Validate() error {
	errs := []error{c.target.Validate()}
	if c.Customer == "" {
		errs = append(errs, errors.New("<customer>: is empty: whom is it about?"))
	}
	if c.Out == "" {
		errs = append(errs, errors.New("--out: is empty: name a file, or - for standard output"))
	}
	return errors.Join(errs...)
}

// exportReport says what was looked at.
type exportReport struct {
	Customer string          `json:"customer"`
	Run      string          `json:"run"`
	Began    time.Time       `json:"began"`
	By       string          `json:"by"`
	Reason   string          `json:"reason,omitempty"`
	States   []exportedState `json:"states"`
	Topics   []exportedTopic `json:"topics"`
	Records  int64           `json:"records"` // found
	Unknown  []string        `json:"not_known"`
}

// exportedState is a service's store, as far as it was looked at.
type exportedState struct {
	Service   string `json:"service"`
	Partition int32  `json:"partition"`
	Bytes     int    `json:"bytes"`             // of what is held; 0: nothing is
	Warning   string `json:"warning,omitempty"` // why more may be held than is found
}

// exportedTopic is a partition of a topic, as far as it was looked at.
type exportedTopic struct {
	Topic     string     `json:"topic"` // on the wire
	Missing   bool       `json:"missing,omitempty"`
	Partition int32      `json:"partition"`
	From      int64      `json:"from"`
	To        int64      `json:"to"`
	Found     int64      `json:"found"`
	Oldest    *time.Time `json:"oldest,omitempty"`
	Newest    *time.Time `json:"newest,omitempty"`
	Kept      string     `json:"kept"`
	Until     *time.Time `json:"until,omitempty"` // at the earliest, of the newest that was found
}

// exportedRecord is a record as it is exported. Of the three bodies it has one; without any its value is null, which deletes what
// was said before.
type exportedRecord struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Time      time.Time         `json:"time"`
	Key       *string           `json:"key"`
	Headers   map[string]string `json:"headers,omitempty"`
	Body      json.RawMessage   `json:"body,omitempty"`
	Text      string            `json:"text,omitempty"`  // where it is no JSON
	Bytes     []byte            `json:"bytes,omitempty"` // where it is no text either
}

// whatCannotBeKnown goes into every report.
var whatCannotBeKnown = []string{
	"Dead letters of ingest are keyed by the provider that told them, or as they were on a topic of others, because what could not be read has no customer: engagement.events.v1.dlq may name this one. They are kept for 30 days.",
	"Records and states under other ids of the same person, such as an address, or an id without its pseudonym.",
	"States of other runs: give --run for each.",
	"What services had in hand and not yet published while this was read.",
	"Backups, and what the CRM, the providers and readers that are not ours hold. Of its sends the connector has no store: what it did is on send.outcomes.v1.",
	"Models, counts of everybody and policies name nobody, so that nothing in them can be told to be of one customer.",
}

// Run exports.
func (c *exportCmd) Run(ctx context.Context, t terminal) error {
	return c.with(ctx, func(sys *system) error {
		if err := sys.needStore(); err != nil {
			return err
		}
		r := &exportReport{Customer: c.Customer, Run: sys.run.ID, Began: time.Now().UTC().Truncate(time.Millisecond), By: c.who(), Reason: c.Reason, Unknown: whatCannotBeKnown}
		note := audited{Action: "export", Customer: c.Customer, Run: sys.run.ID, Simulated: sys.run.Simulated, Reason: c.Reason, Detail: "to " + c.Out}
		if err := c.audit.around(t, note, func() error { return c.export(ctx, sys, t, r) }); err != nil {
			return err
		}
		to := t.err
		if c.JSON {
			if c.Out != "-" {
				to = t.out
			}
			return terminal{out: to}.json(r)
		}
		return r.print(to)
	})
}

// export writes the file, or none.
func (c *exportCmd) export(ctx context.Context, sys *system, t terminal, r *exportReport) (err error) {
	to := t.out
	if c.Out != "-" {
		f, failed := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // it holds everything of a person
		if failed != nil {
			return failed
		}
		to = f
		defer func() {
			// Half of an export would look like all of it, and nobody would know to delete it.
			if err = errors.Join(err, f.Close()); err != nil {
				err = errors.Join(err, os.Remove(c.Out))
			}
		}()
	}
	w := bufio.NewWriterSize(to, 1<<16)
	d := &customerDoc{w: w}
	if err := d.states(ctx, sys, r); err != nil {
		return err
	}
	if err := d.topics(ctx, sys, newProgress(t.err), r); err != nil {
		return err
	}
	if !d.found {
		return fmt.Errorf("nothing is held of %q in run %q, and no topic has a record of it: is that the id as it stands on the topics?", c.Customer, sys.run.ID)
	}
	if err := d.end(r); err != nil {
		return err
	}
	return w.Flush()
}

// customerDoc is the JSON object as it is written: a record is in memory no longer than it takes to write it, and nothing is
// written before something was found.
type customerDoc struct {
	w     *bufio.Writer
	held  []heldState
	found bool
	any   bool // a record was written
}

// heldState is what a service holds.
type heldState struct {
	Service   string          `json:"service"`
	Partition int32           `json:"partition"`
	Summary   json.RawMessage `json:"summary,omitempty"` // what the profile says today
	Held      any             `json:"held"`              // every field of the state that is set
	Stored    []byte          `json:"stored"`            // the same as the store has it, base64
}

// begin writes what stands before the records, once.
func (d *customerDoc) begin(r *exportReport) error {
	if d.found {
		return nil
	}
	d.found = true
	head, err := textOf(map[string]any{"customer": r.Customer, "run": r.Run, "began": r.Began})
	if err != nil {
		return err
	}
	held, err := textOf(d.held)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.w, "%s,\n\"states\":%s,\n\"records\":[", bytes.TrimSuffix(head, []byte("}")), held)
	return err
}

func (d *customerDoc) record(r *exportReport, e *exportedRecord) error {
	if err := d.begin(r); err != nil {
		return err
	}
	line, err := textOf(e)
	if err != nil {
		return err
	}
	between := "\n"
	if d.any {
		between = ",\n"
	}
	d.any = true
	_, err = fmt.Fprintf(d.w, "%s%s", between, line)
	return err
}

func (d *customerDoc) end(r *exportReport) error {
	report, err := textOf(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.w, "\n],\n\"report\":%s}\n", report)
	return err
}

// textOf is v in JSON, on one line, with < and & as they are.
func textOf(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// states reads what the services hold.
func (d *customerDoc) states(ctx context.Context, sys *system, r *exportReport) error {
	n, err := sys.partitions(ctx)
	if err != nil {
		return err
	}
	d.held = []heldState{}
	p := stream.Partition([]byte(r.Customer), n)
	for _, s := range []struct {
		service string
		state   interface{ Decode([]byte) error }
	}{{profiler.Service, new(timing.Profile)}, {detector.Service, new(deviation.Memory)}, {decider.Service, new(decision.State)}, {connector.Sweep, new(crmattributes.Written)}} {
		snap, err := sys.store.Read(ctx, sys.run.Group(s.service), p, []string{r.Customer})
		if err != nil {
			return fmt.Errorf("read what the %s holds of %q: %w", s.service, r.Customer, err)
		}
		looked := exportedState{Service: s.service, Partition: p}
		switch {
		case len(snap.Rebuilding) > 0:
			looked.Warning = "it is being rebuilt from the log and may not be whole yet"
		case snap.Lost:
			looked.Warning = "the store holds nothing of this partition: the service has not run yet, or its state is lost"
		}
		if len(snap.Values) > 0 && snap.Values[0] != nil {
			stored := snap.Values[0]
			looked.Bytes = len(stored)
			if err := s.state.Decode(stored); err != nil {
				return fmt.Errorf("read what the %s holds of %q: %w", s.service, r.Customer, err)
			}
			h := heldState{Service: s.service, Partition: p, Held: legible(s.state), Stored: stored}
			if s.service == profiler.Service {
				if h.Summary, err = profileSummary(stored); err != nil {
					return err
				}
			}
			d.held = append(d.held, h)
		}
		r.States = append(r.States, looked)
	}
	if len(d.held) > 0 {
		return d.begin(r)
	}
	return nil
}

// profileSummary is what a profile says, in the words of `tempismo dump profiles`.
func profileSummary(stored []byte) (json.RawMessage, error) {
	line, err := profileLine("", stored)
	if err != nil {
		return nil, err
	}
	kept, _, err := strip(line, []string{"customer", "state"})
	return kept, err
}

// topics reads the customer's partition of every topic.
func (d *customerDoc) topics(ctx context.Context, sys *system, bars *progress, r *exportReport) error {
	there, err := sys.log.Describe(ctx, sys.run, kafka.Names(sys.run)...)
	if err != nil {
		return err
	}
	var total, done int64
	for _, name := range kafka.Names(sys.run) {
		t, ok := there[name]
		if !ok {
			r.Topics = append(r.Topics, exportedTopic{Topic: name, Missing: true})
			continue
		}
		look := exportedTopic{Topic: name, Partition: stream.Partition([]byte(r.Customer), t.Partitions)}
		if look.From, look.To, err = sys.log.Bounds(ctx, name, look.Partition); err != nil {
			return err
		}
		total += look.To - look.From
		r.Topics = append(r.Topics, look)
	}
	defer bars.wait()
	bar := bars.bar("reading", total)
	defer bar.done()
	for i := range r.Topics {
		look := &r.Topics[i]
		if look.Missing {
			continue
		}
		err := eachRecord(ctx, sys.log, look.Topic, look.Partition, look.To, func(m *stream.Record) error {
			if m.Offset%1024 == 0 {
				bar.set(done + m.Offset - look.From)
			}
			if !concerns(m, r.Customer) {
				return nil
			}
			look.Found++
			r.Records++
			at := m.Time
			if look.Oldest == nil || at.Before(*look.Oldest) {
				look.Oldest = &at
			}
			if look.Newest == nil || at.After(*look.Newest) {
				look.Newest = &at
			}
			return d.record(r, recordOf(m))
		})
		if err == nil {
			err = ctx.Err() // a reader that is told to stop stops without an error, and half an export would be taken for all
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", look.Topic, err)
		}
		look.keep(there[look.Topic])
		done += look.To - look.From
		bar.set(done)
	}
	return nil
}

// keep says how long the topic keeps what was found.
func (e *exportedTopic) keep(t kafka.Topic) {
	retention := t.Retention()
	switch {
	case t.Compacted() && retention < 0:
		e.Kept = "the last of each key for ever"
	case retention < 0:
		e.Kept = "for ever"
	case retention == 0:
		e.Kept = "as long as there is room"
	default:
		e.Kept = days(retention)
		if e.Newest != nil {
			until := e.Newest.Add(retention)
			e.Until = &until
		}
	}
}

// concerns reports whether a record is of the customer: by its key or, where somebody else has written it with another key or
// none, by its subject.
func concerns(m *stream.Record, customer string) bool {
	if string(m.Key) == customer {
		return true
	}
	if !bytes.Contains(m.Value, []byte(customer)) && !bytes.Contains(m.Value, []byte(`\`)) { // neither as it is nor escaped
		return false
	}
	var e struct {
		Subject string `json:"subject"`
	}
	return json.Unmarshal(m.Value, &e) == nil && e.Subject == customer
}

func recordOf(m *stream.Record) *exportedRecord {
	e := &exportedRecord{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Time: m.Time}
	if m.Key != nil {
		key := string(m.Key)
		e.Key = &key
	}
	for _, h := range m.Headers {
		if e.Headers == nil {
			e.Headers = map[string]string{}
		}
		e.Headers[h.Key] = string(h.Value)
	}
	switch {
	case json.Valid(m.Value):
		e.Body = m.Value
	case utf8.Valid(m.Value):
		e.Text = string(m.Value)
	default:
		e.Bytes = m.Value
	}
	return e
}

// print writes the report for a person.
func (r *exportReport) print(to io.Writer) error {
	fmt.Fprintf(to, "%s of %q in run %s, as of %s:\n", plural(int(r.Records), "record"), r.Customer, r.Run, r.Began.Format(time.RFC3339))
	w := tabwriter.NewWriter(to, 0, 0, 3, ' ', 0)
	for _, s := range r.States {
		held := "nothing"
		if s.Bytes > 0 {
			held = fmt.Sprintf("%d bytes", s.Bytes)
		}
		if s.Warning != "" {
			held += "; " + s.Warning
		}
		fmt.Fprintf(w, "  held by the %s\t%s\n", s.Service, held)
	}
	for _, t := range r.Topics {
		switch {
		case t.Missing:
			fmt.Fprintf(w, "  %s\tthere is no such topic\n", t.Topic)
		case t.Until != nil:
			fmt.Fprintf(w, "  %s\t%d\tkept until %s\n", t.Topic, t.Found, t.Until.Format(time.DateOnly))
		case t.Found > 0:
			fmt.Fprintf(w, "  %s\t%d\tkept: %s\n", t.Topic, t.Found, t.Kept)
		default:
			fmt.Fprintf(w, "  %s\t0\n", t.Topic)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(to, "Dates are the earliest: a topic lets go of records together. What cannot be known:")
	for _, s := range r.Unknown {
		if _, err := fmt.Fprintf(to, "  - %s\n", s); err != nil {
			return err
		}
	}
	return nil
}
