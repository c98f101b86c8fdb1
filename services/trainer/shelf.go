package trainer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Shelf is the models of a run, as they stand on timing.models.v1: the trainer's memory. Whoever reads models takes the last
// record of its partition, so the last record of all partitions is the model in force; an operator holds a version by
// publishing it again with a mark, which is the last record then.
type Shelf struct {
	Copies     []Copy // every record of one partition, oldest first
	Unreadable int    // records that are no model, which readers set aside
	even       bool   // every partition ends with the same record
	last       Copy   // the newest of the records that partitions end with: where they differ, it is meant for the others too
}

// Copy is one record of the topic.
type Copy struct {
	Model    *timing.Model
	At       time.Time // when it was published
	Operator bool      // published by an operator, to hold a version or to let it go
}

// Sources of records of the topic.
const (
	trainerSource  = "/tempismo/" + Service + "/"
	operatorSource = "/tempismo/operator/"
)

// ErrUnknownVersion says that no model of that version is on the topic.
var ErrUnknownVersion = errors.New("no such model")

// ReadShelf reads the models of a run.
func ReadShelf(ctx context.Context, log *kafka.Log, run stream.Run) (*Shelf, error) {
	topic := run.Topic(topics.Models)
	described, err := log.Topics(ctx, topic)
	if err != nil {
		return nil, err
	}
	read := func(r *stream.Record) (c Copy, ok bool) { // what cannot be read is not in force anywhere
		e, err := stream.ParseEvent(r.Value)
		if err != nil {
			return c, false
		}
		m, err := timing.ParseModelRecord(r.Value)
		return Copy{m, e.Time, strings.HasPrefix(e.Source, operatorSource)}, err == nil
	}
	s := &Shelf{even: true}
	// One partition tells the history, the ends of the others whether they agree.
	first := kafka.Position(func(ctx context.Context, l *kafka.Log, topic string) (map[int32]int64, error) {
		at, err := kafka.Last(1)(ctx, l, topic)
		if err != nil {
			return nil, err
		}
		at[0], _, err = l.Bounds(ctx, topic, 0)
		return at, err
	})
	ends := map[int32]Copy{}
	err = kafka.Range(ctx, log, topic, first, kafka.Latest, func(r *stream.Record) error {
		c, ok := read(r)
		if !ok {
			s.Unreadable++
			return nil
		}
		ends[r.Partition] = c
		if r.Partition == 0 {
			s.Copies = append(s.Copies, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the models: %w", err)
	}
	for _, c := range ends {
		if s.last.Model == nil || c.newer(&s.last) {
			s.last = c
		}
	}
	for p := range described[topic].Partitions {
		c, ok := ends[p]
		s.even = s.even && ok && !c.newer(&s.last) && !s.last.newer(&c)
	}
	return s, nil
}

// newer reports whether c was published after o. Versions decide between what was published at the same instant.
func (c *Copy) newer(o *Copy) bool {
	return cmp.Or(c.At.Compare(o.At), cmp.Compare(c.Model.Version, o.Model.Version)) > 0
}

// InForce is the model in force, or nil where none was ever published.
func (s *Shelf) InForce() *timing.Model { return s.last.Model }

// Find returns the newest copy of a version: a model, held or not. The built-in model is always there.
func (s *Shelf) Find(version string) (*timing.Model, error) {
	for i := len(s.Copies) - 1; i >= 0; i-- {
		if m := s.Copies[i].Model; m.Version == version {
			return m, nil
		}
	}
	if version == timing.BuiltinVersion {
		return timing.Builtin(), nil
	}
	return nil, fmt.Errorf("%w: %q is not on the topic: `tempismo models` lists those that are", ErrUnknownVersion, version)
}

// trained is when the last fitted model was published; zero where there is none.
func (s *Shelf) trained() (at time.Time) {
	for _, c := range s.Copies {
		if !c.Operator && c.Model.Version != timing.BuiltinVersion {
			at = c.At
		}
	}
	return at
}

// fittedSince is when fitted models came in force for good; zero where the one in force is built in.
func (s *Shelf) fittedSince() (at time.Time) {
	for _, c := range s.Copies {
		switch {
		case c.Model.Version == timing.BuiltinVersion:
			at = time.Time{}
		case at.IsZero():
			at = c.At
		}
	}
	return at
}

// next is the version that follows on a day: YYYY-MM-DD.n.
func (s *Shelf) next(day string) string {
	n := 0
	for _, c := range s.Copies {
		if number, ok := strings.CutPrefix(c.Model.Version, day+"."); ok {
			if i, err := strconv.Atoi(number); err == nil {
				n = max(n, i)
			}
		}
	}
	return fmt.Sprintf("%s.%d", day, n+1)
}

// settle brings every partition to the same model: the built-in one where there is none, and the newest where a trainer died
// while it published, or two published at once.
func settle(ctx context.Context, log *kafka.Log, run stream.Run, now time.Time) (*Shelf, error) {
	s, err := ReadShelf(ctx, log, run)
	if err != nil || s.even {
		return s, err
	}
	c := s.last
	if c.Model == nil {
		c = Copy{Model: timing.Builtin(), At: now}
	}
	if err := c.publish(ctx, log, run); err != nil {
		return nil, err
	}
	return ReadShelf(ctx, log, run)
}

// publish writes a model into every partition. The record is the same in each of them, and when it is written again.
func (c *Copy) publish(ctx context.Context, log *kafka.Log, run stream.Run) error {
	data, err := c.Model.Append(nil)
	if err != nil {
		return err
	}
	e := stream.Event{ID: "md-" + c.Model.Version, Source: trainerSource + run.ID, Type: timing.ModelType, Time: c.At, Data: data}
	if c.Operator {
		e.Source = operatorSource + run.ID
		e.ID += "-" + strconv.FormatInt(c.At.UnixMilli(), 10)
	}
	w, err := kafka.NewWriter(ctx, log, run)
	if err != nil {
		return fmt.Errorf("open writer: %w", err)
	}
	defer w.Close()
	if err := w.Broadcast(ctx, topics.Models, e.Append(nil), time.Time{}); err != nil {
		return fmt.Errorf("publish model %q: %w", c.Model.Version, err)
	}
	return nil
}

// Pin puts a version in force and holds it: no newer one is published until Unpin. Every reader switches at a record, as to
// any other model, and the pin lasts as long as the record, whatever is restarted.
func Pin(ctx context.Context, log *kafka.Log, run stream.Run, version string) (*timing.Model, error) {
	s, err := ReadShelf(ctx, log, run)
	if err != nil {
		return nil, err
	}
	m, err := s.Find(version)
	if err != nil {
		return nil, err
	}
	return s.mark(ctx, log, run, m, true)
}

// Unpin lets the version that is held go. It stays in force until the next one is published.
func Unpin(ctx context.Context, log *kafka.Log, run stream.Run) (*timing.Model, error) {
	s, err := ReadShelf(ctx, log, run)
	if err != nil {
		return nil, err
	}
	m := s.InForce()
	if m == nil || !m.Pinned {
		return nil, errors.New("no model is pinned")
	}
	return s.mark(ctx, log, run, m, false)
}

// mark publishes m anew, pinned or not, where it is not in force so already.
func (s *Shelf) mark(ctx context.Context, log *kafka.Log, run stream.Run, m *timing.Model, pinned bool) (*timing.Model, error) {
	if f := s.InForce(); s.even && f != nil && f.Version == m.Version && f.Pinned == pinned {
		return f, nil
	}
	marked := *m
	marked.Pinned = pinned
	c := Copy{Model: &marked, At: time.Now().UTC().Truncate(time.Millisecond), Operator: true}
	return c.Model, c.publish(ctx, log, run)
}
