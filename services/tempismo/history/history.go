// Package history decides again what the decider has decided: it reads one partition of everything that the decider took
// and wrote, and folds the decider's own Job over it.
//
// Every decision names the record that caused it and where all inputs stood then, so what happened between two decisions is
// known as far as it matters, and the fold follows the order that really was rather than one of time. What was seen of a
// profile stands in the decisions, too; nothing is looked up.
//
// It decides nothing by itself, and it writes nowhere.
package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/decider"
)

// Past is one partition of the logs around the decider of a run, from their first retained records to where they ended when
// it was opened. It is read once, from the beginning; it is not safe for concurrent use.
type Past struct {
	run        stream.Run
	partition  int32
	partitions int32
	inputs     []*lane // in order of their declared names: the runtime's order among records of one time
	ticks      *lane
	decided    *lane
	sources    map[string]string // topic by the source of its decisions
	sequences  map[string]string // highest seen by source: whoever takes a partition over repeats the last ones
}

// ErrPartitions answers an Open where decisions do not stand in the partitions of what caused them.
var ErrPartitions = errors.New("the topics of decisions and of what they are made from have different numbers of partitions")

// Open opens the past of a partition.
func Open(ctx context.Context, log stream.Log, run stream.Run, partition int32) (*Past, error) {
	job := decider.Job(run, noop.Int64Counter{})
	names := []string{job.Timers.Topic}
	for _, in := range job.Inputs {
		names = append(names, in.Topic)
	}
	slices.Sort(names)
	infos, err := log.Topics(ctx, run.Topic(job.Inputs[0].Topic), run.Topic(topics.Decisions))
	if err != nil {
		return nil, err
	}
	p := &Past{run: run, partition: partition, partitions: infos[run.Topic(job.Inputs[0].Topic)].Partitions, sources: map[string]string{}, sequences: map[string]string{}}
	if n := infos[run.Topic(topics.Decisions)].Partitions; n != p.partitions {
		return nil, fmt.Errorf("%w: %d and %d", ErrPartitions, n, p.partitions)
	}
	open := func(topic string) (l *lane) {
		if err == nil {
			l, err = openLane(ctx, log, run, topic, partition)
		}
		return l
	}
	for _, name := range names {
		l := open(name)
		p.inputs = append(p.inputs, l)
		if name == job.Timers.Topic {
			p.ticks = l
		}
		p.sources[run.Source(decider.Service, name, partition)] = name
	}
	p.decided = open(topics.Decisions)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close ends reading.
func (p *Past) Close() error {
	var errs []error
	for _, l := range append(slices.Clone(p.inputs), p.decided) {
		if l != nil {
			errs = append(errs, l.close())
		}
	}
	return errors.Join(errs...)
}

// Records is how many records stood on the logs when they were opened, about.
func (p *Past) Records() (n int64) {
	for _, l := range p.inputs {
		n += l.end - l.start
	}
	return n
}

// Read is how many of them have been read.
func (p *Past) Read() (n int64) {
	for _, l := range p.inputs {
		n += l.next - l.start
	}
	return n
}

// Missing says what the logs no longer hold of what was read so far: without it, states may be others than they were.
func (p *Past) Missing() (missing []string) {
	for _, l := range p.inputs {
		switch {
		case l == p.ticks:
		case l.topic == topics.Attributes && l.start+l.gaps > 0:
			missing = append(missing, fmt.Sprintf("%d earlier records of %s were compacted away", l.start+l.gaps, l.topic))
		case l.start > 0:
			missing = append(missing, fmt.Sprintf("%s begins at offset %d: earlier records are beyond its retention", l.topic, l.start))
		}
	}
	return missing
}

// Fold is the decider's Job applied to a partition's records.
type Fold = stream.Fold[decider.Input, decision.State, decider.Partition]

// NewFold is a Fold without states.
func (p *Past) NewFold() (*Fold, error) {
	return stream.NewFold(decider.Job(p.run, noop.Int64Counter{}), p.run, p.partition, p.partitions)
}

// Decision is a record of send.decisions.v1.
type Decision struct {
	stream.Event
	Value []byte // of which Event is a view
}

// Step is what the decider made of one record.
type Step struct {
	Topic     string // of the record; declared name
	Offset    int64
	Decisions []Decision      // as they were published
	Lookup    json.RawMessage // what was seen of the customer's profile; nil: the step did not look
	Again     []Decision      // as the fold decides

	taken map[string]int64 // offset of the last record taken, by input
}

// Agrees reports whether the fold decides, byte for byte, what was published.
func (s *Step) Agrees() bool {
	return slices.EqualFunc(s.Decisions, s.Again, func(a, b Decision) bool { return bytes.Equal(a.Value, b.Value) })
}

// Follow folds everything that was taken, in the order in which it was, and calls each for every step that was, or is now,
// of consequence. It ends at the end of the logs, or with the error of each.
func (p *Past) Follow(ctx context.Context, each func(*Step) error) error {
	fold, err := p.NewFold()
	if err != nil {
		return err
	}
	var at *Step
	fold.Recorded(func(r *stream.Record) []byte {
		if at != nil && at.Lookup != nil && r.Offset == at.Offset && p.run.Base(r.Topic) == at.Topic {
			return at.Lookup
		}
		return nobody
	})
	apply := func(topic string, r *stream.Record) error {
		step := &Step{Topic: topic, Offset: r.Offset}
		if at != nil && topic == at.Topic && r.Offset == at.Offset {
			step = at
		}
		out, err := fold.Apply(r)
		if err != nil {
			return err
		}
		if step.Again, err = decisions(out); err != nil || len(step.Again) == 0 && step != at {
			return err
		}
		return each(step)
	}
	for {
		if at, err = p.nextStep(ctx); err != nil {
			return err
		}
		if err := p.until(ctx, at, apply); err != nil || at == nil {
			return err
		}
	}
}

// nobody is what a step sees that has recorded nothing, because nothing came of it: a profile that triggers nothing.
var nobody = []byte(`{"model":"","partial":true,"channels":{}}`)

// decisions are the outputs without dead letters.
func decisions(out []stream.Output) (list []Decision, err error) {
	for i := range out {
		if out[i].Topic != topics.Decisions {
			continue
		}
		d := Decision{Value: out[i].Value}
		if d.Event, err = stream.ParseEvent(d.Value); err != nil {
			return nil, fmt.Errorf("what the fold decides: %w", err)
		}
		list = append(list, d)
	}
	return list, nil
}

// until applies every record that was taken before the step, in order of time, topic and offset, and last the record of the
// step itself; nil: every record that is left. Ticks of which nothing came are left out: they came too late, or twice.
func (p *Past) until(ctx context.Context, at *Step, apply func(topic string, r *stream.Record) error) error {
	for {
		first, err := p.first(ctx, at)
		if err != nil {
			return err
		}
		if first == nil {
			break
		}
		err = apply(first.topic, &first.records[0])
		first.pass()
		if err != nil {
			return err
		}
	}
	if at == nil {
		return nil
	}
	i := slices.IndexFunc(p.inputs, func(l *lane) bool { return l.topic == at.Topic })
	l := p.inputs[i]
	for {
		r, err := l.head(ctx)
		switch {
		case err != nil:
			return err
		case r == nil || r.Offset > at.Offset: // no longer there, or repeated after a rollback
			return nil
		case r.Offset == at.Offset:
			err := apply(l.topic, r)
			l.pass()
			return err
		}
		l.pass() // a tick of which nothing came
	}
}

// first is the input whose next record comes first among those that were taken before the step; nil: there is none.
func (p *Past) first(ctx context.Context, at *Step) (first *lane, err error) {
	for _, l := range p.inputs {
		if l == p.ticks {
			continue
		}
		r, err := l.head(ctx)
		if err != nil {
			return nil, err
		}
		if r == nil || at != nil && !at.after(l.topic, r.Offset) {
			continue
		}
		if first == nil || r.Time.Before(first.records[0].Time) {
			first = l
		}
	}
	return first, nil
}

// after reports whether the record was taken before that of the step.
func (s *Step) after(topic string, offset int64) bool {
	if topic == s.Topic {
		return offset < s.Offset
	}
	last, ok := s.taken[topic]
	return ok && offset <= last
}

// nextStep reads the decisions of one record; nil after the last.
func (p *Past) nextStep(ctx context.Context) (*Step, error) {
	var step *Step
	for {
		r, err := p.decided.head(ctx)
		if err != nil || r == nil {
			return step, err
		}
		d := Decision{Value: bytes.Clone(r.Value)}
		d.Event, err = stream.ParseEvent(d.Value)
		topic, ours := p.sources[d.Source]
		if err != nil || !ours || d.Sequence <= p.sequences[d.Source] {
			p.decided.pass()
			continue
		}
		offset, err := OffsetOf(d.Sequence)
		if err != nil {
			return nil, fmt.Errorf("decision %s: %w", d.ID, err)
		}
		if step != nil && (topic != step.Topic || offset != step.Offset) {
			return step, nil
		}
		p.decided.pass()
		p.sequences[d.Source] = d.Sequence
		if step == nil {
			if step, err = newStep(topic, offset, &d); err != nil {
				return nil, err
			}
		}
		step.Decisions = append(step.Decisions, d)
	}
}

// newStep reads from the first decision of a step what it was made from.
func newStep(topic string, offset int64, d *Decision) (*Step, error) {
	s := &Step{Topic: topic, Offset: offset, taken: map[string]int64{}}
	var data struct {
		Lookup   json.RawMessage `json:"lookup"`
		MadeFrom struct {
			Positions map[string]string `json:"positions"`
		} `json:"made_from"`
	}
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return nil, fmt.Errorf("decision %s: data: %w", d.ID, err)
	}
	s.Lookup = data.Lookup
	for topic, at := range data.MadeFrom.Positions {
		_, offset, _ := strings.Cut(at, ":")
		n, err := strconv.ParseInt(offset, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("decision %s: made_from.positions: %q is no partition:offset", d.ID, at)
		}
		s.taken[topic] = n
	}
	return s, nil
}

// OffsetOf is the offset in the sequence of an output.
func OffsetOf(sequence string) (int64, error) {
	offset, _, _ := strings.Cut(sequence, ".")
	n, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("sequence: %q is no offset.index", sequence)
	}
	return n, nil
}
