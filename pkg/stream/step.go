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

	seen     func(r *Record) Seen   // what the look-up for a record has read
	recorded func(r *Record) []byte // or what its result was, where it is not looked up again

	alarms  *agenda // the pending timers of all keys, where somebody asks for the first
	rearmed changes // since the last commit
	pending []alarm // scratch of rearm
	horizon horizon
	fired   int
	expired int
	stale   int
	late    time.Duration // the largest distance from a due time to the firing, in a live run
}

// inputInfo is what the stepper knows of an input in one partition.
type inputInfo struct {
	topic     string // declared name
	wire      string
	rank      int // in the order of declared names: breaks ties between equal record times
	broadcast bool
	table     bool
	ticks     bool // the tick log
	source    string
	letter    int   // index of its dead-letter topic among the outbox's topics
	mute      int64 // outputs of records below this offset are not emitted again
	taken     int64 // the offset after that of the last record taken; 0: none was

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
	inputs := job.inputs()
	var names []string
	for _, in := range inputs {
		names = append(names, in.Topic)
	}
	slices.Sort(names)
	for i, in := range inputs {
		rank, _ := slices.BinarySearch(names, in.Topic)
		s.inputs = append(s.inputs, inputInfo{
			topic: in.Topic, wire: run.Topic(in.Topic), rank: rank, broadcast: in.Broadcast, table: in.Table, ticks: i == len(job.Inputs),
			source: run.Source(job.Service, in.Topic, partition), letter: len(topics) - len(inputs) + i, seen: map[string]string{},
		})
	}
	s.ctx = Context{run: run, service: job.Service, partition: partition, inputs: s.inputs}
	return s
}

// PanicError is a panic of a Step, Adopt, Decode or codec, turned into an error: a mistake of the program, which the
// runtime shows and tries again rather than skip the record.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// apply brings one record of input i to bear on e, the entry of its key (nil for a broadcast input). touched says that
// its state may have changed. An error means that it and the partition's state are spoilt and nothing of the batch may be kept.
func (s *stepper[I, S, P]) apply(i int, r *Record, e *entry[S]) (touched bool, err error) {
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
	sequence, fresh := in.fresh(r)
	if !fresh {
		s.duplicates++
		return false, nil
	}
	in.accept(sequence)
	mark, count := len(c.out.buf), c.out.count
	var stage string
	if in.ticks {
		touched, stage, err = s.tick(in, r, e)
	} else {
		stage, err = s.step(in, r, e)
		touched = err == nil || stage == "step"
	}
	switch {
	case err == nil:
	case IsPermanent(err):
		c.out.rewind(mark, count)
		c.deadLetter(stage, err)
	default:
		return false, fmt.Errorf("%s: %w", stage, err)
	}
	if touched && e != nil && s.job.Timers != nil && !in.ticks {
		s.rearm(e)
	}
	return touched, nil
}

var (
	errNoKey   = Permanent(errors.New("key: empty"))
	errNoValue = Permanent(errors.New("value: empty"))
	errNoID    = Permanent(errors.New("id: empty"))
)

func (s *stepper[I, S, P]) step(in *inputInfo, r *Record, e *entry[S]) (stage string, err error) {
	c := &s.ctx
	if c.cause, stage, err = s.decode(in, r); err != nil {
		return stage, err
	}
	if in.broadcast {
		if err := s.adopt(in.topic, r.Value); err != nil {
			return "adopt", err
		}
		s.broadcast[in.topic] = append([]byte(nil), r.Value...)
		return "step", s.job.Step(c, nil, &s.p, &s.in)
	}
	s.advance(r)
	s.expire(e)
	if l := s.job.Lookup; l != nil && l.Wanted(&s.in) {
		c.lookup = s.lookup(r, &e.state, &s.in)
	}
	return "step", s.job.Step(c, &e.state, &s.p, &s.in)
}

// decode reads the record into s.in.
func (s *stepper[I, S, P]) decode(in *inputInfo, r *Record) (cause Cause, stage string, err error) {
	tombstone := in.table && len(r.Value) == 0
	switch {
	case len(r.Key) == 0 && !in.broadcast:
		return cause, "key", errNoKey
	case len(r.Value) == 0 && !tombstone:
		return cause, "value", errNoValue
	}
	if cause, err = s.job.Decode(r, &s.in); err != nil {
		return cause, "decode", err
	}
	if tombstone && cause.ID == "" {
		cause.ID = fmt.Sprintf("%s:%d:%d", in.topic, r.Partition, r.Offset)
	}
	switch {
	case !cause.Time.IsZero():
	case s.ctx.run.Simulated: // the time at which it was written is not of the run's time
		cause.Time = s.ctx.now
	default:
		cause.Time = r.Time
	}
	if cause.ID == "" {
		return cause, "decode", errNoID
	}
	return cause, "", nil
}

// advance moves the partition's clock to the record at hand, whose cause is known.
func (s *stepper[I, S, P]) advance(r *Record) {
	t := r.Time
	if s.ctx.run.Simulated {
		t = s.ctx.cause.Time
	}
	if s.ctx.at = t; t.After(s.ctx.now) {
		s.ctx.now = t
	}
}

// lookup is what the Job makes of the other service's state for the record at hand. in is nil for a tick.
func (s *stepper[I, S, P]) lookup(r *Record, st *S, in *I) []byte {
	if s.recorded != nil {
		return s.recorded(r)
	}
	var seen Seen
	if s.seen != nil {
		seen = s.seen(r)
	}
	return s.job.Lookup.Result(&s.ctx, st, &s.p, in, seen)
}

func (s *stepper[I, S, P]) adopt(topic string, value []byte) error {
	if s.job.Adopt == nil {
		return nil
	}
	return s.job.Adopt(&s.p, topic, value)
}

// fresh reports whether the record's source position is higher than every one seen of its source. Records without a
// source position are always fresh. accept notes it.
func (in *inputInfo) fresh(r *Record) (sequence []byte, fresh bool) {
	var source []byte
	for i := range r.Headers {
		switch h := &r.Headers[i]; h.Key {
		case "source":
			source = h.Value
		case "sequence":
			sequence = h.Value
		}
	}
	if len(source) == 0 || !isSequence(sequence) {
		return nil, true
	}
	if in.last != string(source) {
		in.note()
		in.last = string(source)
		in.lastSeen = append(in.lastSeen[:0], in.seen[in.last]...)
	}
	return sequence, later(sequence, in.lastSeen)
}

func (in *inputInfo) accept(sequence []byte) {
	if sequence != nil {
		in.lastSeen = append(in.lastSeen[:0], sequence...)
	}
}

func (in *inputInfo) note() {
	if in.last != "" && len(in.lastSeen) > 0 {
		in.seen[in.last] = string(in.lastSeen)
	}
}

// partitionVersion starts the stored partition state. Layout: version, flags (1: partial, 2: the clock is set, 4: the horizon
// is), clock as Unix seconds and nanoseconds, the horizon's two times in Unix ms (varints), number of inputs and each as topic
// (length-prefixed) and what was taken of it, number of source positions and each as topic, source, sequence
// (length-prefixed), sorted; then the job's own bytes. Version 1 had neither horizon nor inputs.
const partitionVersion = 2

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
	if s.horizon != (horizon{}) {
		flags |= 4
	}
	dst = append(dst, partitionVersion, flags)
	dst = binary.AppendVarint(dst, now.Unix())
	dst = binary.AppendUvarint(dst, uint64(now.Nanosecond()))
	if flags&4 != 0 {
		dst = binary.AppendVarint(dst, s.horizon.until)
		dst = binary.AppendVarint(dst, s.horizon.written)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.inputs)))
	for i := range s.inputs {
		dst = binary.AppendUvarint(dst, uint64(len(s.inputs[i].topic)))
		dst = append(dst, s.inputs[i].topic...)
		dst = binary.AppendUvarint(dst, uint64(s.inputs[i].taken))
	}
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
	stored, err := readPartition(b)
	if err != nil {
		return err
	}
	for i := range s.inputs {
		in := &s.inputs[i]
		in.taken = stored.taken[in.topic]
		for source, sequence := range stored.seen[in.topic] {
			in.seen[source] = sequence
		}
	}
	s.ctx.partial, s.ctx.now, s.horizon = stored.partial, stored.now, stored.horizon
	if s.job.Partition.Decode != nil && len(stored.own) > 0 {
		if err := s.job.Partition.Decode(stored.own, &s.p); err != nil {
			return fmt.Errorf("partition state: %w", err)
		}
	}
	return nil
}

// storedPartition is what appendPartition wrote, read.
type storedPartition struct {
	partial bool
	now     time.Time
	horizon horizon
	taken   map[string]int64             // by topic
	seen    map[string]map[string]string // sequence by topic and source
	own     []byte                       // the job's
}

func readPartition(b []byte) (storedPartition, error) {
	p := storedPartition{taken: map[string]int64{}, seen: map[string]map[string]string{}}
	r := reader{b: b}
	version := r.byte()
	if version < 1 || version > partitionVersion {
		return p, fmt.Errorf("partition state: version %d is unknown to this program, which reads versions 1 to %d: run the newer one (docs/operations.md, Upgrades and rollback)", version, partitionVersion)
	}
	flags, seconds, nanos := r.byte(), r.varint(), r.uvarint()
	p.partial = flags&1 != 0
	if flags&2 != 0 {
		p.now = time.Unix(seconds, int64(nanos)).UTC()
	}
	if flags&4 != 0 {
		p.horizon = horizon{until: r.varint(), written: r.varint()}
	}
	if version > 1 {
		for n := r.uvarint(); n > 0 && !r.bad; n-- {
			topic := string(r.bytes(r.uvarint()))
			p.taken[topic] = int64(r.uvarint())
		}
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		topic, source, sequence := string(r.bytes(r.uvarint())), string(r.bytes(r.uvarint())), string(r.bytes(r.uvarint()))
		if p.seen[topic] == nil {
			p.seen[topic] = map[string]string{}
		}
		p.seen[topic][source] = sequence
	}
	if r.bad {
		return p, errors.New("partition state: stored bytes are damaged")
	}
	p.own = r.b
	return p, nil
}

// JobPartition returns the job's own partition-scoped state within m.Partition, as the job's Partition codec wrote it, for
// readers that are not the owner. Nil if nothing is stored.
func (m *Meta) JobPartition() ([]byte, error) {
	if len(m.Partition) == 0 {
		return nil, nil
	}
	p, err := readPartition(m.Partition)
	return p.own, err
}
