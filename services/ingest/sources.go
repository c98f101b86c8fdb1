package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/telemetry"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/foreign"
)

// maxSources bounds the file of sources, in bytes.
const maxSources = 1 << 20

// sources reads the file of topics of others.
func (c Config) sources() ([]*foreign.Source, error) {
	if c.Sources == "" {
		return nil, nil
	}
	info, err := os.Stat(c.Sources)
	if err != nil {
		return nil, fmt.Errorf("SOURCES: %w", err)
	}
	if info.Size() > maxSources {
		return nil, fmt.Errorf("SOURCES: %s has %d bytes, at most %d are read: is it the right file?", c.Sources, info.Size(), maxSources)
	}
	text, err := os.ReadFile(c.Sources)
	if err != nil {
		return nil, fmt.Errorf("SOURCES: %w", err)
	}
	sources, err := foreign.Read(c.Sources, text)
	if err != nil {
		return nil, fmt.Errorf("SOURCES: %w", err)
	}
	return sources, nil
}

// feed is a topic of others that is read.
//
// It is no Job of pkg/stream (ADR 016). The group's offset is the position: it is written when Kafka has acknowledged what became
// of every record before it. So a record whose fate is not acknowledged is read again, by whoever has the partition then; its
// event has the same bytes, id included.
type feed struct {
	*server
	source   *foreign.Source
	records  stream.Log
	observer stream.Observer
	health   *app.Health
	counts   map[string]metric.MeasurementOption
	logger   *slog.Logger

	mu     sync.Mutex
	unsaid map[string]bool // kinds that the file does not name, as far as the log has told them
}

// service is what reads a source, in groups and metrics.
func service(s *foreign.Source) string { return "ingest-" + s.Name }

// group is the consumer group that reads a source. All live runs write to the same topic, so that one of them going on where another
// ended, as after a move to other partitions, must not read everything again.
func group(c config.Run, s *foreign.Source) string {
	if c.Simulated() {
		return stream.Run{ID: c.ID, Simulated: true}.Group(service(s))
	}
	return "tempismo." + service(s)
}

// Reader is a consumer group that reads a topic of others.
type Reader struct{ Service, Group, Topic string }

// Readers are those of a run, one for each source that the file names (docs/sources.md).
func Readers(run config.Run, file string) ([]Reader, error) {
	sources, err := Config{Sources: file}.sources()
	var all []Reader
	for _, s := range sources {
		all = append(all, Reader{service(s), group(run, s), s.Topic})
	}
	return all, err
}

// What becomes of a record.
const (
	accepted    = "accepted"
	ignored     = "ignored"
	unconsented = "unconsented" // an open that the customer has not consented to
	unknown     = "unknown"     // ignored as well, and the file does not say so
	dead        = "dead"
	missed      = "missed" // no longer on its topic when it was to be read
)

// feeds are those of all sources, which are on the topics of records.
func (s *server) feeds(records stream.Log, set app.Settings) ([]*feed, error) {
	sources, err := s.config.sources()
	if err != nil {
		return nil, err
	}
	feeds := make([]*feed, len(sources))
	for i, source := range sources {
		if feeds[i], err = s.feed(source, records, set); err != nil {
			return nil, err
		}
	}
	return feeds, nil
}

func (s *server) feed(source *foreign.Source, records stream.Log, set app.Settings) (*feed, error) {
	observer, err := set.Telemetry.Observer(service(source))
	if err != nil {
		return nil, fmt.Errorf("instruments of %s: %w", service(source), err)
	}
	f := &feed{server: s, source: source, records: records, observer: observer, health: set.Health, counts: map[string]metric.MeasurementOption{}, unsaid: map[string]bool{},
		logger: set.Log.With("source", source.Name, "topic", source.Topic)}
	for _, outcome := range []string{accepted, ignored, unknown, unconsented, dead, missed} {
		f.counts[outcome] = metric.WithAttributeSet(attribute.NewSet(attribute.String("source", source.Name), attribute.String("outcome", outcome)))
	}
	return f, nil
}

// run reads every partition that the consumer group assigns to this process, until ctx ends.
func (f *feed) run(ctx context.Context) error {
	// Whoever joins a group for a topic that does not exist asks the broker for it in a way that may make it.
	err := f.retry(ctx, -1, "topic", func() error {
		_, _, err := f.records.Bounds(ctx, f.source.Topic, 0)
		return err
	})
	if err != nil {
		return nil // ctx has ended
	}
	return f.records.Consume(ctx, group(f.config.Run, f.source), f.source.Topic, f.partition)
}

const (
	fetchBytes = 256 << 10              // of a partition at once, and so most of what a crash has written twice; one record may be larger
	fetchWait  = 500 * time.Millisecond // bounds the idle chatter with the broker
	grace      = 5 * time.Second        // for what has been read when the partition is lost or the service is told to stop; less than a group waits for its members
)

// partition reads one partition until ctx ends.
func (f *feed) partition(ctx context.Context, a stream.Assignment) {
	late, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, stop) })()
	p, topic := a.Partition(), f.source.Topic
	f.observer.Takeover(p, stream.TakeoverAssigned)
	var told int64
	err := f.retry(ctx, p, "hinted", func() (err error) {
		told, err = a.Hinted(ctx, topic)
		return err
	})
	if err != nil {
		return
	}
	next, err := f.begin(ctx, p, told)
	if err != nil {
		return
	}
	f.observer.Owned(p, true)
	defer f.observer.Owned(p, false)
	var cursor stream.Cursor
	defer func() {
		if cursor != nil {
			cursor.Close()
		}
	}()
	// A failure waits for the next call: whoever begins too early only writes once more what he finds.
	hint := func() {
		if next == told {
			return
		}
		if err := a.Hint(late, map[string]int64{topic: next}); err != nil {
			f.observer.Retry(p, "hint", err)
			f.logger.Warn("the group offset was not written", "partition", p, "error", err)
			return
		}
		told = next
	}
	defer hint()
	for {
		var records []stream.Record
		err := f.retry(ctx, p, "fetch", func() (err error) {
			if cursor == nil {
				if cursor, err = f.records.Open(ctx, topic, p, next); err != nil {
					return err
				}
			}
			if records, err = cursor.Fetch(ctx, fetchBytes, fetchWait); err != nil {
				cursor.Close()
				cursor = nil
			}
			return err
		})
		if errors.Is(err, stream.ErrOffsetOutOfRange) && ctx.Err() == nil {
			if next, err = f.begin(ctx, p, next); err == nil {
				continue
			}
		}
		if err != nil {
			return
		}
		if len(records) > 0 && f.take(late, records, max(cursor.End()-cursor.Next(), 0)) != nil {
			return
		}
		next = cursor.Next()
		hint()
	}
}

// patient is how often the end of a partition is asked for before it is believed to lie before what was read.
const patient = 5

// begin is where to read on from a stored offset, -1 if there is none. Records that their topic keeps no longer are gone; that is
// told, and no reason not to read the others.
func (f *feed) begin(ctx context.Context, partition int32, stored int64) (next int64, err error) {
	var start, end int64
	bounds := func() (err error) {
		start, end, err = f.records.Bounds(ctx, f.source.Topic, partition)
		return err
	}
	for tries, pause := 0, (backoff{}); ; tries++ {
		if err := f.retry(ctx, partition, "bounds", bounds); err != nil {
			return 0, err
		}
		if stored <= end || tries == patient {
			break
		}
		if !pause.wait(ctx) { // a leader that has just been elected may not know the end yet
			return 0, ctx.Err()
		}
	}
	log := f.logger.With("partition", partition, "offset", stored, "log_start", start, "log_end", end)
	switch {
	case stored < 0:
		return start, nil
	case stored > end:
		log.ErrorContext(ctx, "the topic ends before what was read of it: it has been made anew, or lost its end; reading it from its start")
		return start, nil
	case stored < start:
		f.events.Add(ctx, start-stored, f.counts[missed])
		log.ErrorContext(ctx, "records are gone that were not read: their topic did not keep them for so long; reading on where it starts")
		return start, nil
	}
	return stored, nil
}

// maxUnsaid bounds the kinds that the log tells, and maxKind their length: a field that is no kind at all has many.
const maxUnsaid, maxKind = 32, 64

// tell has the log name a kind that the file does not, once.
func (f *feed) tell(kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unsaid[kind] || len(f.unsaid) == maxUnsaid || len(kind) > maxKind {
		return
	}
	f.unsaid[kind] = true
	f.logger.Info("records of a kind that the file of sources does not name are ignored", "kind", kind)
}

// letter is a record that could not be mapped, and why.
type letter struct {
	record *stream.Record
	why    error
}

// take writes what becomes of records, and returns nil when Kafka has acknowledged all of it; its error is that of ctx.
func (f *feed) take(ctx context.Context, records []stream.Record, lag int64) error {
	report := stream.Report{Service: service(f.source), Partition: records[0].Partition, Start: time.Now(), Records: len(records), LagRecords: lag,
		Inputs: []stream.InputReport{{Topic: f.source.Topic, Records: len(records), Next: records[len(records)-1].Offset + 1, Lag: lag}}}
	var b batch
	var of []*stream.Record // each message of it is of
	var letters []letter
	counts := map[string]int64{}
	for i := range records {
		r := &records[i]
		report.Bytes += len(r.Key) + len(r.Value)
		m := f.source.Map(r)
		switch {
		case m.Err != nil:
			letters = append(letters, letter{r, m.Err})
		case m.Unknown:
			counts[unknown]++
			f.tell(m.Ignored)
		case m.Event == nil:
			counts[ignored]++
		default:
			trace := traceOf(r)
			report.Links = link(report.Links, trace)
			if err := f.add(&b, m.Event, origin{m.Machine, m.Address, !m.Own}, trace); err != nil {
				letters = append(letters, letter{r, f.source.Renamed(err)})
				continue
			}
			of = append(of, r)
		}
	}
	if err := f.retry(ctx, report.Partition, "consents", func() error { return f.empty(ctx, &b) }); err != nil {
		return err
	}
	messages, kept := b.messages[:0], of[:0]
	for i, m := range b.messages {
		if m.Value != nil {
			messages, kept = append(messages, m), append(kept, of[i])
		}
	}
	report.Step = time.Since(report.Start)
	large, err := f.write(ctx, messages, kept)
	if err != nil {
		return err
	}
	letters = append(letters, large...)
	counts[unconsented] = int64(b.unconsented)
	counts[accepted], counts[dead] = int64(len(messages)-len(large)), int64(len(letters))
	if err := f.bury(ctx, letters); err != nil {
		return err
	}
	for outcome, n := range counts {
		f.events.Add(ctx, n, f.counts[outcome])
	}
	report.Outputs, report.DeadLetters, report.Publish = len(messages)-len(large)+len(letters), len(letters), time.Since(report.Start)-report.Step
	if lag > 0 {
		report.Lag = max(time.Since(records[len(records)-1].Time), 0)
	}
	f.observer.Batch(&report)
	return nil
}

// write appends events, until all are acknowledged but those that the topic does not take.
func (f *feed) write(ctx context.Context, messages []stream.Message, of []*stream.Record) (large []letter, err error) {
	if len(messages) == 0 {
		return nil, nil
	}
	err = f.retry(ctx, of[0].Partition, "produce", func() error { return f.out.WriteAll(ctx, topics.Events, messages) })
	if !errors.Is(err, kafka.ErrTooLarge) {
		return nil, err
	}
	for i := range messages {
		err := f.retry(ctx, of[0].Partition, "produce", func() error { return f.out.WriteAll(ctx, topics.Events, messages[i:i+1]) })
		switch {
		case errors.Is(err, kafka.ErrTooLarge):
			large = append(large, letter{of[i], err})
		case err != nil:
			return nil, err
		}
	}
	return large, nil
}

// bury writes dead letters: the records as they are, with headers that say where each stands and what is wrong with it.
func (f *feed) bury(ctx context.Context, letters []letter) error {
	if len(letters) == 0 {
		return nil
	}
	messages := make([]stream.Message, len(letters))
	for i, l := range letters {
		r := l.record
		messages[i] = stream.Message{Key: r.Key, Value: r.Value, Headers: append(r.Headers[:len(r.Headers):len(r.Headers)],
			stream.Header{Key: letterTopic, Value: []byte(r.Topic)},
			stream.Header{Key: letterPartition, Value: strconv.AppendInt(nil, int64(r.Partition), 10)},
			stream.Header{Key: letterOffset, Value: strconv.AppendInt(nil, r.Offset, 10)},
			stream.Header{Key: letterClass, Value: fmt.Appendf(nil, "%T", l.why)},
			stream.Header{Key: letterMessage, Value: []byte(l.why.Error())},
			stream.Header{Key: letterStage, Value: []byte("source:" + f.source.Name)},
		)}
	}
	first := letters[0].record
	err := f.retry(ctx, first.Partition, "bury", func() error { return f.writeLetters(ctx, messages) })
	if err != nil {
		return err
	}
	attrs := []any{"records", len(letters), "partition", first.Partition, "offset", first.Offset}
	if wrong := (*engagement.FieldError)(nil); errors.As(letters[0].why, &wrong) {
		attrs = append(attrs, "field", wrong.Field, "reason", wrong.Reason)
	} else {
		attrs = append(attrs, "reason", letters[0].why.Error())
	}
	f.logger.WarnContext(ctx, "records could not be mapped and went to the dead letters; of the first", attrs...)
	return nil
}

// traceOf is the trace that a record belongs to, or one made of its position: what is read again is written again as it was.
func traceOf(r *stream.Record) string {
	for _, h := range r.Headers {
		if h.Key == "traceparent" && validTrace(string(h.Value)) {
			return string(h.Value)
		}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s:%d:%d", r.Topic, r.Partition, r.Offset))
	return "00-" + hex.EncodeToString(sum[:16]) + "-" + hex.EncodeToString(sum[16:24]) + "-00"
}

// link adds a trace that is sampled, as far as a report has room.
func link(links []string, trace string) []string {
	sc, ok := telemetry.ParseTraceparent(trace)
	if !ok || !sc.IsSampled() || len(links) >= stream.MaxLinks || slices.Contains(links, trace) {
		return links
	}
	return append(links, trace)
}

// retry tries fn until it succeeds, ctx ends, or trying again cannot help.
func (f *feed) retry(ctx context.Context, partition int32, op string, fn func() error) error {
	var pause backoff
	for {
		err := fn()
		if err == nil || errors.Is(err, stream.ErrOffsetOutOfRange) || errors.Is(err, kafka.ErrTooLarge) {
			if pause != (backoff{}) {
				f.health.Set(f.component(), true, "")
			}
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.failed(partition, op, err)
		if !pause.wait(ctx) {
			return ctx.Err()
		}
	}
}

// failed shows an attempt that will be repeated. It makes nobody unready: the API and the webhooks go on without this topic.
func (f *feed) failed(partition int32, op string, err error) {
	f.observer.Retry(partition, op, err)
	detail := "trying again: " + op
	if errors.Is(err, stream.ErrUnknownTopic) {
		detail = "there is no such topic, or it may not be described: " + f.source.Topic
	}
	f.health.Set(f.component(), true, detail)
	f.logger.Warn("a topic of others waits, trying again", "operation", op, "partition", partition, "error", err)
}

func (f *feed) component() string { return "source " + f.source.Name }

// backoff is a pause that doubles from 50 ms to 5 s, each lengthened by up to a quarter by chance so that partitions do not knock in step.
type backoff struct{ pause time.Duration }

// wait pauses before the next attempt. It returns false if ctx ends first.
func (b *backoff) wait(ctx context.Context) bool {
	b.pause = min(max(2*b.pause, 50*time.Millisecond), 5*time.Second)
	t := time.NewTimer(b.pause + rand.N(b.pause/4))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
