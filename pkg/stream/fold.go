package stream

import (
	"fmt"
	"slices"
)

// Fold is a Job applied to one partition without a Log and a Store: records go in one by one, states and outputs come out.
// It is the same code that Process runs, so what it computes is what a service computes from the same records. Tests and
// explanations use it; it keeps every state in memory and is not safe for concurrent use.
type Fold[I, S, P any] struct {
	step   *stepper[I, S, P]
	states map[string]*S
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
	f := &Fold[I, S, P]{step: newStepper(&job, run, partition, topics), states: map[string]*S{}}
	f.step.ctx.out = newOutbox(topics)
	return f, nil
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
	var st *S
	if !s.inputs[i].broadcast {
		if st = f.states[string(r.Key)]; st == nil {
			st = new(S)
		}
	}
	s.ctx.out.reset()
	s.ctx.published = r.Time
	touched, err := s.apply(i, r, st)
	if err != nil {
		return nil, err
	}
	if touched && st != nil {
		f.states[string(r.Key)] = st
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

// State returns the state of a key, nil if there is none.
func (f *Fold[I, S, P]) State(key string) *S { return f.states[key] }

// Keys lists the keys that have a state, sorted.
func (f *Fold[I, S, P]) Keys() []string {
	keys := make([]string, 0, len(f.states))
	for k := range f.states {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Partition returns the partition's state.
func (f *Fold[I, S, P]) Partition() *P { return &f.step.p }

// Context returns what the last Step was given.
func (f *Fold[I, S, P]) Context() *Context { return &f.step.ctx }
