package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"
)

// stepper applies records of one partition to states: everything that happens between a record and its outputs, without
// a log, a store or a clock.
type stepper[I, S, P any] struct {
	job    *Job[I, S, P]
	ctx    Context
	inputs []inputInfo
	in     I
	p      P

	broadcast  map[string][]byte // values adopted since the last commit, by declared topic
	duplicates int
}

// inputInfo is what the stepper knows of an input in one partition.
type inputInfo struct {
	topic     string // declared name
	wire      string
	rank      int // in the order of declared names: breaks ties between equal record times
	broadcast bool
	source    string
	letter    int   // index of its dead-letter topic among the outbox's topics
	mute      int64 // outputs of records below this offset are not emitted again

	// Highest position seen by source. Nearly every record has the source of the one before, whose position stands in
	// lastSeen until another source comes or the state is written.
	seen     map[string]string
	last     string
	lastSeen []byte
}

// newStepper starts with the zero state of a partition. topics are those of the Job's outputs, followed by the
// dead-letter topic of each input.
func newStepper[I, S, P any](job *Job[I, S, P], run Run, partition int32, topics []outTopic) *stepper[I, S, P] {
	s := &stepper[I, S, P]{job: job, broadcast: map[string][]byte{}}
	s.ctx = Context{run: run, service: job.Service, partition: partition}
	var names []string
	for _, in := range job.Inputs {
		names = append(names, in.Topic)
	}
	slices.Sort(names)
	for i, in := range job.Inputs {
		rank, _ := slices.BinarySearch(names, in.Topic)
		s.inputs = append(s.inputs, inputInfo{
			topic: in.Topic, wire: run.Topic(in.Topic), rank: rank, broadcast: in.Broadcast, source: run.Source(job.Service, in.Topic, partition),
			letter: len(topics) - len(job.Inputs) + i, seen: map[string]string{},
		})
	}
	return s
}

// PanicError is a panic of a Step, Adopt, Decode or codec, turned into an error: a mistake of the program, which the
// runtime shows and tries again rather than skip the record.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// apply brings one record of input i to bear on st, the state of its key (nil for a broadcast input). touched says that
// st may have changed. An error means that st and the partition's state are spoilt and nothing of the batch may be kept.
func (s *stepper[I, S, P]) apply(i int, r *Record, st *S) (touched bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			touched, err = false, &PanicError{v, debug.Stack()}
		}
		if err != nil {
			err = fmt.Errorf("%s %d:%d: %w", r.Topic, r.Partition, r.Offset, err)
		}
	}()
	c, in := &s.ctx, &s.inputs[i]
	c.begin(in, r)
	if !s.fresh(in, r) {
		s.duplicates++
		return false, nil
	}
	mark, count := len(c.out.buf), c.out.count
	stage, err := s.step(in, r, st)
	switch {
	case err == nil:
		return true, nil
	case IsPermanent(err):
		c.out.rewind(mark, count)
		c.deadLetter(stage, err)
		return stage == "step", nil
	}
	return false, fmt.Errorf("%s: %w", stage, err)
}

var (
	errNoKey   = Permanent(errors.New("key: empty"))
	errNoValue = Permanent(errors.New("value: empty"))
	errNoID    = Permanent(errors.New("id: empty"))
)

func (s *stepper[I, S, P]) step(in *inputInfo, r *Record, st *S) (stage string, err error) {
	c := &s.ctx
	switch {
	case len(r.Key) == 0 && !in.broadcast:
		return "key", errNoKey
	case len(r.Value) == 0:
		return "value", errNoValue
	}
	c.cause, err = s.job.Decode(r, &s.in)
	switch {
	case err != nil:
		return "decode", err
	case c.cause.ID == "":
		return "decode", errNoID
	}
	if in.broadcast {
		if err := s.adopt(in.topic, r.Value); err != nil {
			return "adopt", err
		}
		s.broadcast[in.topic] = append([]byte(nil), r.Value...)
	} else if t := s.clock(r); t.After(c.now) {
		c.now = t
	}
	return "step", s.job.Step(c, st, &s.p, &s.in)
}

func (s *stepper[I, S, P]) clock(r *Record) time.Time {
	if s.ctx.run.Simulated {
		return s.ctx.cause.Time
	}
	return r.Time
}

func (s *stepper[I, S, P]) adopt(topic string, value []byte) error {
	if s.job.Adopt == nil {
		return nil
	}
	return s.job.Adopt(&s.p, topic, value)
}

// fresh reports whether the record's source position is higher than every one seen of its source, and notes it. Records
// without a source position are always fresh.
func (s *stepper[I, S, P]) fresh(in *inputInfo, r *Record) bool {
	var source, sequence []byte
	for i := range r.Headers {
		switch h := &r.Headers[i]; h.Key {
		case "source":
			source = h.Value
		case "sequence":
			sequence = h.Value
		}
	}
	if len(source) == 0 || !isSequence(sequence) {
		return true
	}
	if in.last != string(source) {
		in.note()
		in.last = string(source)
		in.lastSeen = append(in.lastSeen[:0], in.seen[in.last]...)
	}
	if !later(sequence, in.lastSeen) {
		return false
	}
	in.lastSeen = append(in.lastSeen[:0], sequence...)
	return true
}

func (in *inputInfo) note() {
	if in.last != "" {
		in.seen[in.last] = string(in.lastSeen)
	}
}

// partitionVersion starts the stored partition state. Layout: version, flags (1: partial, 2: the clock is set), clock as
// Unix seconds and nanoseconds (varints), number of source positions and each as topic, source, sequence (length-prefixed), sorted;
// then the job's own bytes.
const partitionVersion = 1

// appendPartition appends what is stored of the partition beside the states by key.
func (s *stepper[I, S, P]) appendPartition(dst []byte) []byte {
	c := &s.ctx
	var flags byte
	if c.partial {
		flags |= 1
	}
	var now time.Time
	if !c.now.IsZero() {
		flags |= 2
		now = c.now
	}
	dst = append(dst, partitionVersion, flags)
	dst = binary.AppendVarint(dst, now.Unix())
	dst = binary.AppendUvarint(dst, uint64(now.Nanosecond()))
	n := 0
	for i := range s.inputs {
		in := &s.inputs[i]
		in.note()
		n += len(in.seen)
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	for i := range s.inputs {
		in := &s.inputs[i]
		for _, source := range slices.Sorted(maps.Keys(in.seen)) {
			for _, f := range [...]string{in.topic, source, in.seen[source]} {
				dst = binary.AppendUvarint(dst, uint64(len(f)))
				dst = append(dst, f...)
			}
		}
	}
	if s.job.Partition.Append != nil {
		dst = s.job.Partition.Append(dst, &s.p)
	}
	return dst
}

// setPartition restores what appendPartition wrote.
func (s *stepper[I, S, P]) setPartition(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	partial, now, own, err := readPartition(b, func(topic, source, sequence []byte) {
		for i := range s.inputs {
			if s.inputs[i].topic == string(topic) {
				s.inputs[i].seen[string(source)] = string(sequence)
			}
		}
	})
	if err != nil {
		return err
	}
	s.ctx.partial, s.ctx.now = partial, now
	if s.job.Partition.Decode != nil && len(own) > 0 {
		if err := s.job.Partition.Decode(own, &s.p); err != nil {
			return fmt.Errorf("partition state: %w", err)
		}
	}
	return nil
}

// readPartition reads stored partition state; own is the job's part of it.
func readPartition(b []byte, seen func(topic, source, sequence []byte)) (partial bool, now time.Time, own []byte, err error) {
	r := reader{b: b}
	if v := r.byte(); v != partitionVersion {
		return false, now, nil, fmt.Errorf("partition state: version %d is unknown to this binary: start the newer one", v)
	}
	flags, seconds, nanos := r.byte(), r.varint(), r.uvarint()
	if flags&2 != 0 {
		now = time.Unix(seconds, int64(nanos)).UTC()
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		seen(r.bytes(r.uvarint()), r.bytes(r.uvarint()), r.bytes(r.uvarint()))
	}
	if r.bad {
		return false, now, nil, errors.New("partition state: stored bytes are damaged")
	}
	return flags&1 != 0, now, r.b, nil
}

// JobPartition returns the job's own partition-scoped state within m.Partition, as the job's Partition codec wrote it, for
// readers that are not the owner. Nil if nothing is stored.
func (m *Meta) JobPartition() ([]byte, error) {
	if len(m.Partition) == 0 {
		return nil, nil
	}
	_, _, own, err := readPartition(m.Partition, func(_, _, _ []byte) {})
	return own, err
}
