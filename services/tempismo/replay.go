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
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/tempismo/sorting"
)

// replayCmd copies records between topics, runs and files.
type replayCmd struct {
	Topic  string  `arg:"" optional:"" default:"engagement.events.v1" help:"Topic."`
	From   string  `default:"start" placeholder:"POSITION" help:"Where to begin: start, an offset (in every partition), or a time (RFC 3339) by which records were published."`
	To     string  `default:"end" placeholder:"POSITION" help:"Where to end, exclusively: end, an offset, or a time."`
	Out    string  `placeholder:"FILE" help:"Write to a file, one record a line; - for standard output."`
	In     string  `placeholder:"FILE" help:"Read from such a file instead of the topic; - for standard input."`
	Into   string  `placeholder:"ID" help:"Write to the same topic of this run, a simulated one. Its services do not run here: start them with RUN_ID and RUN_MODE=simulated."`
	Pace   float64 `default:"0" help:"Time-lapse: seconds of event time in one of ours; 0: as fast as it goes."`
	DryRun bool    `help:"Say what would be copied, and copy nothing."`
	JSON   bool    `help:"Write the summary as a JSON object."`
	target
}

// Help is the example.
func (*replayCmd) Help() string {
	return `Records keep their key, value and partition order; their ids stay the same, so that whoever has seen them can tell.
Events go into a run together with what is told of customers: first all of customer.consents.v1, customer.erasures.v1 and
customer.attributes.v1 as they are now, so that no service learns again what was erased, or what is not consented to any more.

Examples:
  tempismo replay --from 2026-11-01T00:00:00Z --out november.ndjson
  tempismo replay --into again --pace 600
  tempismo replay --in november.ndjson --into again --dry-run`
}

// Validate checks that there is one source and one destination.
func (c *replayCmd) Validate() error {
	errs := []error{c.target.Validate(), topicName(c.Topic)}
	if (c.Out != "") == (c.Into != "") && !c.DryRun {
		errs = append(errs, errors.New("where to? give either --out FILE or --into RUN"))
	}
	if c.In != "" && c.Out != "" {
		errs = append(errs, errors.New("--in FILE goes with --into RUN; copying a file into a file is not for this command"))
	}
	if c.Pace < 0 {
		errs = append(errs, errors.New("--pace: must not be negative"))
	}
	if c.Into != "" {
		errs = append(errs, runOf(stream.Run{ID: c.Into, Simulated: true}).Validate())
	}
	for flag, v := range map[string]string{"--from": c.From, "--to": c.To} {
		if _, err := position(v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
	}
	return errors.Join(errs...)
}

// position reads start, end, an offset or a time.
func position(s string) (kafka.Position, error) {
	switch s {
	case "start":
		return kafka.Earliest, nil
	case "end":
		return kafka.Latest, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return func(ctx context.Context, l *kafka.Log, topic string) (map[int32]int64, error) {
			from, err := kafka.Earliest(ctx, l, topic)
			if err != nil {
				return nil, err
			}
			to, err := kafka.Latest(ctx, l, topic)
			for p := range to {
				to[p] = min(max(n, from[p]), to[p])
			}
			return to, err
		}, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return nil, fmt.Errorf("%q is neither start, end, an offset nor a time such as 2026-11-01T00:00:00Z", s)
	}
	return kafka.Since(at), nil
}

// recordLine is one record in a file.
type recordLine struct {
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Published time.Time         `json:"published"`
	Key       *string           `json:"key"`
	Headers   map[string]string `json:"headers,omitempty"`
	Value     json.RawMessage   `json:"value,omitempty"`
	Raw       []byte            `json:"raw,omitempty"` // base64, where the value is no JSON document
}

// copied is the summary of a replay.
type copied struct {
	Topic      string          `json:"topic"`
	Records    int64           `json:"records"`
	Bytes      int64           `json:"bytes"`
	Partitions map[int32]int64 `json:"partitions"` // records by partition they came from
	Told       int64           `json:"told"`       // records of what is told of customers, which went before
	DryRun     bool            `json:"dry_run"`
}

// Run replays.
func (c *replayCmd) Run(ctx context.Context, t terminal) (err error) {
	sys, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	sum := copied{Topic: sys.run.Topic(c.Topic), Partitions: map[int32]int64{}, DryRun: c.DryRun}
	put, end, err := c.destination(ctx, t, sys)
	if err != nil {
		return err
	}
	if c.Into != "" && c.Topic == topics.Events {
		if sum.Told, err = c.tell(ctx, sys); err != nil {
			return errors.Join(err, end())
		}
	}
	pace := newPacer(c.Pace)
	each := func(l *recordLine) error {
		if !c.DryRun {
			if err := pace.wait(ctx, l); err != nil {
				return err
			}
		}
		sum.Records++
		sum.Bytes += int64(len(l.Value) + len(l.Raw))
		sum.Partitions[l.Partition]++
		return put(l)
	}
	if c.In != "" {
		err = c.file(ctx, each)
	} else {
		err = c.topic(ctx, sys, each)
	}
	if err := errors.Join(err, end()); err != nil {
		return err
	}
	if c.JSON && c.Out != "-" {
		return t.json(sum)
	}
	verb := "copied"
	if c.DryRun {
		verb = "would copy"
	}
	fmt.Fprintf(t.err, "%s %s records, %s bytes, of %s (%d partitions)\n", verb, grouped(sum.Records), grouped(sum.Bytes), sum.Topic, len(sum.Partitions))
	if sum.Told > 0 {
		fmt.Fprintf(t.err, "%s %s answers, erasures and attributes of customers before them\n", verb, grouped(sum.Told))
	}
	return nil
}

// tell copies what is told of customers, whole, and returns how many records that is. Twice does no harm.
func (c *replayCmd) tell(ctx context.Context, sys *system) (n int64, err error) {
	into, err := kafka.NewWriter(ctx, sys.log, stream.Run{ID: c.Into, Simulated: true})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	for _, topic := range [...]string{topics.Consents, topics.Erasures, topics.Attributes} {
		var msgs []stream.Message
		flush := func() error {
			if n += int64(len(msgs)); c.DryRun || len(msgs) == 0 {
				msgs = nil
				return nil
			}
			err := into.WriteAll(ctx, topic, msgs)
			msgs = nil
			return err
		}
		err := kafka.Range(ctx, sys.log, sys.run.Topic(topic), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
			m := stream.Message{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)} // of a tombstone nil
			if msgs = append(msgs, m); len(msgs) < writeBatch {
				return nil
			}
			return flush()
		})
		if errors.Is(err, stream.ErrUnknownTopic) { // of a run that is older than the topic
			continue
		}
		if err := errors.Join(err, flush()); err != nil {
			return n, fmt.Errorf("copy %s: %w", topic, err)
		}
	}
	return n, nil
}

// topic reads the range of the topic in order of event time, so that time-lapse is one for all partitions; within a
// partition the order stays, since its services have seen it so.
func (c *replayCmd) topic(ctx context.Context, sys *system, each func(*recordLine) error) error {
	from, err := position(c.From)
	if err != nil {
		return err
	}
	to, err := position(c.To)
	if err != nil {
		return err
	}
	sorted := sorting.New("", sortMemory)
	defer sorted.Close()
	latest := map[int32]int64{}
	err = kafka.Range(ctx, sys.log, sys.run.Topic(c.Topic), from, to, func(r *stream.Record) error {
		at := r.Time
		if e, err := stream.ParseEvent(r.Value); err == nil {
			at = e.Time
		}
		key := max(latest[r.Partition], at.UnixMicro())
		latest[r.Partition] = key
		b, err := json.Marshal(lineOf(r))
		if err != nil {
			return err
		}
		return sorted.Add(key, b)
	})
	if err != nil {
		return err
	}
	return sorted.Each(func(_ int64, b []byte) error {
		var l recordLine
		if err := json.Unmarshal(b, &l); err != nil {
			return err
		}
		return each(&l)
	})
}

// lineOf copies a record.
func lineOf(r *stream.Record) *recordLine {
	l := &recordLine{Partition: r.Partition, Offset: r.Offset, Published: r.Time.UTC()}
	if r.Key != nil {
		key := string(r.Key)
		l.Key = &key
	}
	for _, h := range r.Headers {
		if l.Headers == nil {
			l.Headers = map[string]string{}
		}
		l.Headers[h.Key] = string(h.Value)
	}
	if json.Valid(r.Value) {
		l.Value = append(l.Value, r.Value...)
	} else {
		l.Raw = append(l.Raw, r.Value...)
	}
	return l
}

// file reads the lines of a file.
func (c *replayCmd) file(ctx context.Context, each func(*recordLine) error) error {
	var in io.Reader = os.Stdin
	if c.In != "-" {
		f, err := os.Open(c.In)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	d := json.NewDecoder(bufio.NewReaderSize(in, 1<<20))
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var l recordLine
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: record %d: %w", c.In, n, err)
		}
		if err := each(&l); err != nil {
			return err
		}
	}
}

// destination returns where records go, and what ends it.
func (c *replayCmd) destination(ctx context.Context, t terminal, sys *system) (put func(*recordLine) error, end func() error, err error) {
	switch {
	case c.DryRun:
		return func(*recordLine) error { return nil }, func() error { return nil }, nil
	case c.Out == "-":
		e := json.NewEncoder(t.out)
		return func(l *recordLine) error { return e.Encode(l) }, func() error { return nil }, nil
	case c.Out != "":
		f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // it holds personal data
		if err != nil {
			return nil, nil, err
		}
		w := bufio.NewWriterSize(f, 1<<20)
		e := json.NewEncoder(w)
		return func(l *recordLine) error { return e.Encode(l) }, func() error { return errors.Join(w.Flush(), f.Close()) }, nil
	}
	into := stream.Run{ID: c.Into, Simulated: true}
	n, err := sys.partitions(ctx)
	if err != nil {
		n = defaultPartitions
	}
	if err := kafka.EnsureTopics(ctx, sys.kafka, into, n); err != nil {
		return nil, nil, err
	}
	w, err := kafka.NewWriter(ctx, sys.log, into)
	if err != nil {
		return nil, nil, err
	}
	var msgs []stream.Message
	flush := func() error {
		if len(msgs) == 0 {
			return nil
		}
		err := w.WriteAll(ctx, c.Topic, msgs)
		msgs = nil
		return err
	}
	var last time.Time
	put = func(l *recordLine) error {
		if l.Key == nil {
			return fmt.Errorf("partition %d, offset %d: a record without a key belongs to its partition and cannot be replayed; the services make such records anew from the events", l.Partition, l.Offset)
		}
		m := stream.Message{Key: []byte(*l.Key), Value: l.Value}
		if len(l.Raw) > 0 {
			m.Value = l.Raw
		}
		msgs = append(msgs, m)
		// Under time-lapse records are wanted when they are due, otherwise many at once.
		if len(msgs) >= 2000 || c.Pace > 0 && time.Since(last) > 50*time.Millisecond {
			last = time.Now()
			return flush()
		}
		return nil
	}
	return put, func() error { return errors.Join(flush(), w.Close()) }, nil
}

// pacer makes event time pass at a factor of ours.
type pacer struct {
	factor  float64
	started time.Time
	first   time.Time
}

func newPacer(factor float64) *pacer { return &pacer{factor: factor} }

func (p *pacer) wait(ctx context.Context, l *recordLine) error {
	if p.factor == 0 {
		return ctx.Err()
	}
	e, err := stream.ParseEvent(l.Value)
	if err != nil {
		return ctx.Err() // what has no time is due at once
	}
	if p.first.IsZero() {
		p.first, p.started = e.Time, time.Now()
	}
	due := p.started.Add(time.Duration(float64(e.Time.Sub(p.first)) / p.factor))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(due)):
		return nil
	}
}
