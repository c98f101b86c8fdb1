package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/profiler"
	"github.com/tempismo/tempismo/services/tempismo/local"
	"github.com/tempismo/tempismo/services/tempismo/sorting"
)

// importCmd brings a file of events through the services.
type importCmd struct {
	Files []string `arg:"" optional:"" name:"file" help:"CSV with a header, or NDJSON; .gz for compressed; - for standard input. Files that belong together, such as those of opens and of clicks, belong into one import."`
	columns
	consent
	AsIs bool `help:"Keep the order of the files instead of sorting by time."`

	target
	Partitions int32 `default:"8" help:"Partitions of topics that do not exist yet."`
	NoServices bool  `help:"Run no services in this process: somebody else runs them for this run."`
	JSON       bool  `help:"Write the summary as one JSON object."`
}

// Help is the example.
func (*importCmd) Help() string {
	return `The run is a simulated one (default "import"), so it touches nothing of a live one, and its model is pinned to builtin.1.
Without --data or addresses the system lives in a temporary folder and is gone afterwards. Otherwise, events that the run has
already, by their ids, are not written again: an import that was interrupted goes on when it is started again, and files
may overlap.

Example:
  tempismo import opens.csv --customer user_id --time opened --kind open --zone Europe/Rome --data ./opens
  tempismo import --preset hubspot events.ndjson --data ./hubspot
  tempismo import --preset list`
}

// Validate checks what can be checked before anything is started.
func (c *importCmd) Validate() error {
	if c.Mode == "live" {
		return errors.New("--run-mode=live: an import is a simulated run, because its events lie in the past; send live events to ingest")
	}
	if c.Preset == "list" {
		return nil
	}
	if err := c.columns.check(); err != nil {
		return err
	}
	if len(c.Files) == 0 {
		return errors.New("which file? name it, or - for standard input")
	}
	if i := slices.Index(c.Files, "-"); i >= 0 && slices.Contains(c.Files[i+1:], "-") {
		return errors.New("standard input can be read once only")
	}
	if c.NoServices && !c.addressed() && c.Data == "" {
		return errors.New("--no-services needs a running system: give --kafka-brokers and --redis-addr, or --data")
	}
	return c.target.Validate()
}

// summary is what an import ends with.
type summary struct {
	Read        int64            `json:"read"`     // events, and lines that are none
	Accepted    int64            `json:"accepted"` // by the profiler
	Rejected    int64            `json:"rejected"` // lines that are no event
	Ignored     int64            `json:"ignored"`  // lines that a preset knows to be no engagement
	Known       int64            `json:"known"`    // events that the run has already, or that are twice in the files
	Late        int64            `json:"late"`     // events more than a week older than the customer's newest
	Customers   int64            `json:"customers"`
	Deviations  map[string]int64 `json:"deviations"`
	Decisions   map[string]int64 `json:"decisions"`
	DeadLetters int64            `json:"dead_letters"`
}

const (
	maxNamed   = 10       // bad lines that are named one by one
	sortMemory = 64 << 20 // bytes that the sort holds in memory
	writeBatch = 4096     // events that are written with one call
)

// Run imports.
func (c *importCmd) Run(ctx context.Context, t terminal) error {
	if c.Preset == "list" {
		listPresets(t.out)
		return nil
	}
	sys, temporary, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	if temporary != "" {
		defer os.RemoveAll(temporary)
	}
	err = c.through(ctx, t, sys)
	return errors.Join(err, sys.Close())
}

// prepare connects to the system, or starts one. temporary is a folder to be removed afterwards.
func (c *importCmd) prepare(ctx context.Context) (sys *system, temporary string, err error) {
	id := c.target.Run
	if id == "" {
		id = "import"
	}
	sys = &system{kafka: c.Kafka, redis: c.Redis, run: stream.Run{ID: id, Simulated: true}}
	if err := (runOf(sys.run)).Validate(); err != nil {
		return nil, "", err
	}
	if c.addressed() {
		if c.Redis.Addr == "" {
			return nil, "", errors.New("where is Redis? give --redis-addr (REDIS_ADDR)")
		}
	} else if a, ok := local.Running(c.Data); ok {
		sys.dir = c.Data
		sys.at(a.Kafka, a.Redis)
	} else {
		dir := c.Data
		if dir == "" {
			if temporary, err = os.MkdirTemp("", "tempismo-import-"); err != nil {
				return nil, "", err
			}
			dir = temporary
		}
		if pair, err := local.Start(dir, local.Ports{}); err != nil {
			return nil, "", err
		} else {
			sys.dir, sys.pair = dir, pair
			sys.at(pair.Broker.Addr(), pair.Store.Addr())
		}
		err = local.Save(dir, local.System{Run: id, Simulated: true, Partitions: c.Partitions})
		if err == nil && temporary == "" {
			err = local.Remember(dir)
		}
	}
	if err == nil {
		err = sys.connect(ctx)
	}
	if err == nil {
		err = kafka.EnsureTopics(ctx, sys.kafka, sys.run, c.Partitions)
	}
	if err != nil {
		err = errors.Join(err, sys.Close())
		if temporary != "" {
			os.RemoveAll(temporary)
		}
	}
	return sys, temporary, err
}

// through runs the services beside the import proper.
func (c *importCmd) through(ctx context.Context, t terminal, sys *system) error {
	var run []func(context.Context) error
	if !c.NoServices {
		crew := newCrew(sys, slog.New(slog.NewJSONHandler(t.err, &slog.HandlerOptions{Level: slog.LevelError})), map[string]string{"MODEL": "builtin.1", "PIXEL_CONSENT": c.Consent})
		crew.pipeline()
		var err error
		if run, err = crew.ready(); err != nil {
			return err
		}
	}
	done := errors.New("imported")
	run = append(run, func(ctx context.Context) error {
		if err := c.bring(ctx, t, sys); err != nil {
			return err
		}
		return done // a failure to the group, so that it stops the services
	})
	if err := app.Group(ctx, run...); !errors.Is(err, done) {
		if ctx.Err() != nil && (c.Data != "" || c.addressed()) {
			return errors.New("interrupted: the same command goes on where this one stopped")
		}
		return err
	}
	return nil
}

// bring reads, sorts, writes, waits and reports.
func (c *importCmd) bring(ctx context.Context, t terminal, sys *system) error {
	bars := newProgress(t.err)
	defer bars.wait()
	sorted := sorting.New("", sortMemory)
	defer sorted.Close()
	var sum summary
	print, err := c.read(ctx, t, bars, sorted, &sum)
	if err != nil {
		return err
	}
	n, err := sys.partitions(ctx)
	if err != nil {
		return err
	}
	before, err := totals(ctx, sys, n)
	if err != nil {
		return err
	}
	book, err := openLedger(sys, print, before)
	if err != nil {
		return err
	}
	if sum.Known, err = c.write(ctx, bars, sys, sorted, sum.Read-sum.Rejected-sum.Ignored); err != nil {
		return err
	}
	if err := drain(ctx, sys, working, bars); err != nil {
		return err
	}
	if err := sum.count(ctx, sys, n, book); err != nil {
		return err
	}
	bars.wait()
	if c.JSON {
		return t.json(sum)
	}
	sum.print(t.out)
	return nil
}

// read reads the files into the sorter and returns a fingerprint of what they held.
func (c *importCmd) read(ctx context.Context, t terminal, bars *progress, sorted *sorting.Sorter, sum *summary) (string, error) {
	print := sha256.New()
	fmt.Fprintf(print, "as-is=%v\n", c.AsIs)
	var value []byte
	var key int64
	for _, file := range c.Files {
		n, err := c.columns.read(ctx, file, t, bars, func(e *engagement.Event, _ int64) error {
			value = e.Append(value[:0])
			print.Write(value)
			if key++; !c.AsIs {
				key = e.Time.UnixMicro()
			}
			return sorted.Add(key, value)
		})
		sum.Read, sum.Rejected, sum.Ignored = sum.Read+n.events+n.rejected+n.ignored, sum.Rejected+n.rejected, sum.Ignored+n.ignored
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(print.Sum(nil)), nil
}

// write appends the events to the topic in order, except for those that are there already, by their ids: of an import that was
// interrupted, or of files that overlap with these. It returns how many those were.
func (c *importCmd) write(ctx context.Context, bars *progress, sys *system, sorted *sorting.Sorter, total int64) (known int64, err error) {
	there, err := written(ctx, bars, sys)
	if err != nil {
		return 0, err
	}
	w, err := kafka.NewWriter(ctx, sys.log, sys.run)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	bar := bars.bar("writing", total)
	defer bar.done()
	var msgs []stream.Message
	var e engagement.Event
	var n int64
	flush := func() error {
		err := w.WriteAll(ctx, topics.Events, msgs)
		msgs = msgs[:0]
		bar.set(n)
		return err
	}
	err = sorted.Each(func(_ int64, value []byte) error {
		n++
		value = append([]byte(nil), value...) // the sorter's bytes change before they are written
		if err := e.Parse(value); err != nil {
			return fmt.Errorf("read back an event: %w", err)
		}
		if !there.add(&e) {
			known++
			return nil
		}
		if msgs = append(msgs, stream.Message{Key: []byte(e.Subject), Value: value}); len(msgs) == writeBatch {
			return flush()
		}
		return nil
	})
	if err == nil && len(msgs) > 0 {
		err = flush()
	}
	return known, err
}

// eventIDs are events by their sources and ids, as hashes: some 40 bytes in memory for each.
type eventIDs map[[16]byte]struct{}

// add reports whether the event is new.
func (s eventIDs) add(e *engagement.Event) bool {
	h := sha256.Sum256([]byte(e.Source + "\x00" + e.ID))
	key := [16]byte(h[:16])
	if _, ok := s[key]; ok {
		return false
	}
	s[key] = struct{}{}
	return true
}

// written are the events that the run has. No ledger beside the topic could know them as surely: it could be lost, or be older or
// newer than the topic after a crash.
func written(ctx context.Context, bars *progress, sys *system) (eventIDs, error) {
	bar := bars.bar("comparing", 0)
	defer bar.done()
	there := eventIDs{}
	var e engagement.Event
	err := kafka.Range(ctx, sys.log, sys.run.Topic(topics.Events), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		if e.Parse(r.Value) == nil { // what is no event is no event of ours
			there.add(&e)
		}
		return nil
	})
	return there, err
}

// drain waits until the services have read everything and what they wrote is on the topics.
func drain(ctx context.Context, sys *system, services []string, bars *progress) error {
	bar := bars.bar("settling", 0)
	defer bar.done()
	var before map[string]int64
	for {
		lag, err := backlog(ctx, sys, services)
		if err != nil {
			return err
		}
		var unread, all int64
		ends := map[string]int64{}
		for _, l := range lag {
			unread += l.Records
			if l.Service == profiler.Service && l.Topic == topics.Events {
				all += l.End
			}
			ends[fmt.Sprint(l.Topic, ":", l.Partition)] = l.End
		}
		bar.total(max(all, unread))
		bar.set(max(0, all-unread))
		// A service's group offset follows its acknowledged outputs, so when all offsets are at the ends and the ends have
		// not moved since the last look, nothing is under way.
		if unread == 0 && same(before, ends) {
			return nil
		}
		before = nil
		if unread == 0 {
			before = ends
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(150 * time.Millisecond):
		}
	}
}

func same(a, b map[string]int64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// totals adds up what the profiler has counted in its partitions.
func totals(ctx context.Context, sys *system, partitions int32) (all profiler.Totals, err error) {
	for p := range partitions {
		snap, err := sys.store.Read(ctx, sys.run.Group(profiler.Service), p, nil)
		if err != nil {
			return all, fmt.Errorf("read the profiler's totals: %w", err)
		}
		t, err := profiler.ReadTotals(snap)
		if err != nil {
			return all, fmt.Errorf("read the profiler's totals: %w", err)
		}
		all.Add(t)
	}
	return all, nil
}

// count fills in what the services made of the file.
func (s *summary) count(ctx context.Context, sys *system, partitions int32, book *ledger) error {
	before, after := &book.entry.Before, book.entry.After
	if after == nil {
		now, err := totals(ctx, sys, partitions)
		if err != nil {
			return err
		}
		if err := book.finish(now); err != nil {
			return err
		}
		after = &now
	}
	s.Accepted, s.Late = int64(after.Accepted-before.Accepted), int64(after.Late-before.Late)
	for p := range partitions {
		if err := sys.store.Scan(ctx, sys.run.Group(profiler.Service), p, func(string, []byte) bool { s.Customers++; return true }); err != nil {
			return fmt.Errorf("count the customers: %w", err)
		}
	}
	var err error
	if s.Deviations, err = tally(ctx, sys, topics.Deviations, deviationKind); err != nil {
		return err
	}
	if s.Decisions, err = tally(ctx, sys, topics.Decisions, decisionKind); err != nil {
		return err
	}
	s.DeadLetters, err = deadLetters(ctx, sys)
	return err
}

// tally counts the records of a topic by kind, repeats left out.
func tally(ctx context.Context, sys *system, topic string, kind func(*stream.Event) (string, error)) (map[string]int64, error) {
	counts := map[string]int64{}
	seen := map[string]bool{}
	err := kafka.Range(ctx, sys.log, sys.run.Topic(topic), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return fmt.Errorf("%s:%d:%d: %w", topic, r.Partition, r.Offset, err)
		}
		if seen[e.ID] {
			return nil
		}
		seen[e.ID] = true
		k, err := kind(&e)
		if err != nil {
			return fmt.Errorf("%s:%d:%d: %w", topic, r.Partition, r.Offset, err)
		}
		counts[k]++
		return nil
	})
	return counts, err
}

// deadLetters counts what was set aside in the run.
func deadLetters(ctx context.Context, sys *system) (n int64, err error) {
	for _, t := range topics.All {
		if !t.DLQ {
			continue
		}
		name := sys.run.Topic(topics.DeadLetter(t.Name))
		from, err := kafka.Earliest(ctx, sys.log, name)
		if err != nil {
			return 0, err
		}
		to, err := kafka.Latest(ctx, sys.log, name)
		if err != nil {
			return 0, err
		}
		for p, end := range to {
			n += end - from[p]
		}
	}
	return n, nil
}

// print writes the summary for people.
func (s *summary) print(w io.Writer) {
	line := func(name string, n int64, more string) {
		fmt.Fprintf(w, "%-13s%11s", name, grouped(n))
		if more != "" {
			fmt.Fprintf(w, "   %s", more)
		}
		fmt.Fprintln(w)
	}
	line("read", s.Read, "")
	line("accepted", s.Accepted, "")
	line("rejected", s.Rejected, "")
	if s.Ignored > 0 {
		line("ignored", s.Ignored, "")
	}
	line("known", s.Known, "")
	line("late", s.Late, "")
	line("customers", s.Customers, "")
	line("deviations", total(s.Deviations), listed(s.Deviations))
	line("decisions", total(s.Decisions), listed(s.Decisions))
	line("dead letters", s.DeadLetters, "")
}

// ledger remembers, in a data folder, what the profiler had counted before files were imported and after, so that the summary of
// an import that goes on, or is repeated, is that of the whole. What is written it leaves to the topic.
type ledger struct {
	path    string // empty: brokers elsewhere, where nothing is remembered
	entries []ledgerEntry
	entry   *ledgerEntry
}

type ledgerEntry struct {
	Print  string           `json:"print"`
	Run    string           `json:"run"`
	Before profiler.Totals  `json:"before"`
	After  *profiler.Totals `json:"after,omitempty"`
}

func openLedger(sys *system, print string, before profiler.Totals) (*ledger, error) {
	l := &ledger{}
	if sys.dir != "" {
		l.path = filepath.Join(sys.dir, "imports.json")
		b, err := os.ReadFile(l.path)
		if err == nil {
			err = json.Unmarshal(b, &l.entries)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("read what was imported before: %w", err)
		}
	}
	for i := range l.entries {
		if e := &l.entries[i]; e.Print == print && e.Run == sys.run.ID {
			l.entry = e
			return l, nil
		}
	}
	l.entries = append(l.entries, ledgerEntry{Print: print, Run: sys.run.ID, Before: before})
	l.entry = &l.entries[len(l.entries)-1]
	return l, l.save()
}

// finish notes what the profiler has counted when it had everything.
func (l *ledger) finish(after profiler.Totals) error {
	l.entry.After = &after
	return l.save()
}

func (l *ledger) save() error {
	if l.path == "" {
		return nil
	}
	b, err := json.MarshalIndent(l.entries, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(l.path+".new", l.path)
}
