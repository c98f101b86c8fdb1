package stream

import (
	"fmt"
	"slices"
	"time"
)

// Fold is a Job applied to one partition without a Log and a Store: records go in one by one, states and outputs come out.
// It is the same code that Process runs, so what it computes is what a service computes from the same records. Tests and
// explanations use it; it keeps every state in memory and is not safe for concurrent use.
type Fold[I, S, P any] struct {
	step    *stepper[I, S, P]
	entries map[string]*entry[S]
}

// Output is what a Step published for one record.
type Output struct {
	Topic     string // declared name; for a dead letter that of its dead-letter topic
	Partition int32
	Message
}

// NewFold starts with no state. partitions is the number of partitions of every topic.
func NewFold[I, S, P any](job Job[I, S, P], run Run, partition, partitions int32) (*Fold[I, S, P], error) {
	if err := job.validate(); err != nil {
		return nil, err
	}
	var topics []outTopic
	for _, name := range job.outputs() {
		topics = append(topics, outTopic{name: name, wire: name, partitions: partitions})
	}
	f := &Fold[I, S, P]{step: newStepper(&job, run, partition, topics), entries: map[string]*entry[S]{}}
	f.step.ctx.out = newOutbox(topics)
	if job.Timers != nil {
		f.step.alarms = newAgenda()
	}
	return f, nil
}

// Recorded makes the Fold use recorded results of look-ups: result is asked for every record and tick that wants one. The
// records are those given to Apply, and the ticks that Advance makes, whose time is the due time.
func (f *Fold[I, S, P]) Recorded(result func(r *Record) []byte) { f.step.recorded = result }

// Look makes the Fold look up what seen tells of a key. Without it, and without Recorded, look-ups find nothing.
func (f *Fold[I, S, P]) Look(seen func(key string) Seen) {
	f.step.seen = func(r *Record) Seen { return seen(string(r.Key)) }
}

// Apply applies one record, whose Topic is the name on the wire, and returns its outputs. A record that cannot be applied
// gives a dead letter, as it would in a service. An error is one that Process would retry for ever: the Fold must not be
// used after it.
func (f *Fold[I, S, P]) Apply(r *Record) ([]Output, error) {
	s := f.step
	i := slices.IndexFunc(s.inputs, func(in inputInfo) bool { return in.wire == r.Topic })
	if i < 0 {
		return nil, fmt.Errorf("%s is no input of %s", r.Topic, s.job.Service)
	}
	var e *entry[S]
	if !s.inputs[i].broadcast {
		if e = f.entries[string(r.Key)]; e == nil {
			e = &entry[S]{key: string(r.Key)}
		}
	}
	s.ctx.out.reset()
	s.rearmed.reset()
	s.ctx.published = r.Time
	touched, err := s.apply(i, r, e)
	if err != nil {
		return nil, err
	}
	if touched && e != nil {
		f.entries[e.key] = e
	}
	groups, err := parcels(slices.Clone(s.ctx.out.bytes()))
	if err != nil {
		return nil, err
	}
	var out []Output
	for _, g := range groups {
		for _, m := range g.messages {
			out = append(out, Output{g.topic, g.partition, m})
		}
	}
	return out, nil
}

// Next is the timer that fires first; ok is false if none is pending.
func (f *Fold[I, S, P]) Next() (t Timer, ok bool) {
	if f.step.alarms == nil {
		return t, false
	}
	next := f.step.alarms.first()
	if next.due == 0 {
		return t, false
	}
	return Timer{next.key, next.id, time.UnixMilli(next.due).UTC()}, true
}

// Fire applies a tick for the timer that fires first, as a run appends it when the timer is due, and returns its outputs.
// The tick stands after the last one taken, and its record time is the due time.
func (f *Fold[I, S, P]) Fire() ([]Output, error) {
	t, ok := f.Next()
	if !ok {
		return nil, nil
	}
	in := &f.step.inputs[len(f.step.inputs)-1]
	tick := makeTicks(in, []Timer{t}, nil)[0]
	return f.Apply(&Record{Topic: in.wire, Partition: f.step.ctx.partition, Offset: in.taken, Time: t.Due, Key: tick.Key, Value: tick.Value, Headers: tick.Headers})
}

// Advance fires every timer that is due at until, and what becomes due through that, in order of due time, key and id. A
// record that is applied without Advance finds timers pending that a run would have fired before it.
func (f *Fold[I, S, P]) Advance(until time.Time) ([]Output, error) {
	var all []Output
	for {
		t, ok := f.Next()
		if !ok || t.Due.After(until) {
			return all, nil
		}
		out, err := f.Fire()
		if err != nil {
			return nil, err
		}
		all = append(all, out...)
	}
}

// State returns the state of a key, nil if there is none.
func (f *Fold[I, S, P]) State(key string) *S {
	if e := f.entries[key]; e != nil {
		return &e.state
	}
	return nil
}

// Keys lists the keys that have a state, sorted.
func (f *Fold[I, S, P]) Keys() []string {
	keys := make([]string, 0, len(f.entries))
	for k := range f.entries {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Partition returns the partition's state.
func (f *Fold[I, S, P]) Partition() *P { return &f.step.p }

// Context returns what the last Step was given.
func (f *Fold[I, S, P]) Context() *Context { return &f.step.ctx }
