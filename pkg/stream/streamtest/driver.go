package streamtest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// Driver feeds a Job with records and shows what comes out, without broker, store or goroutine: the way to test a Step.
// It has one partition, with number 0. After every record the states it touched are encoded, decoded and encoded again, so
// a Codec that forgets something fails the test at the record that shows it.
type Driver[I, S, P any] struct {
	t     testing.TB
	job   stream.Job[I, S, P]
	run   stream.Run
	fold  *stream.Fold[I, S, P]
	next  map[string]int64
	clock time.Time
}

// Output is one record that a Step published. Event is its envelope; it is empty for a dead letter, which has Failed.
type Output struct {
	stream.Output
	Event  stream.Event
	Failed string // why the input is a dead letter; empty for other outputs
}

// NewDriver starts with no state.
func NewDriver[I, S, P any](t testing.TB, job stream.Job[I, S, P], run stream.Run) *Driver[I, S, P] {
	t.Helper()
	fold, err := stream.NewFold(job, run, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &Driver[I, S, P]{t: t, job: job, run: run, fold: fold, next: map[string]int64{}, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

// Pipe applies one record and returns what was published for it. Topic is the declared name; the Driver gives the record
// its offset, and, where Time is zero, a record time a millisecond after the last. Timers that would be due fire only in
// Advance.
func (d *Driver[I, S, P]) Pipe(r stream.Record) []Output {
	d.t.Helper()
	declared := r.Topic
	r.Topic = d.run.Topic(declared)
	r.Offset = d.next[declared]
	d.next[declared]++
	if r.Time.IsZero() {
		r.Time = d.clock.Add(time.Millisecond)
	}
	d.clock = r.Time
	out, err := d.fold.Apply(&r)
	if err != nil {
		d.t.Fatalf("record %s:%d: %v", declared, r.Offset, err)
	}
	if len(r.Key) > 0 {
		d.recode(string(r.Key))
	}
	d.recodePartition()
	return d.parse(fmt.Sprintf("record %s:%d", declared, r.Offset), out)
}

// Advance fires every timer that is due at until, in order, and returns what was published.
func (d *Driver[I, S, P]) Advance(until time.Time) []Output {
	d.t.Helper()
	var all []Output
	for {
		timer, ok := d.fold.Next()
		if !ok || timer.Due.After(until) {
			break
		}
		out, err := d.fold.Fire()
		if err != nil {
			d.t.Fatalf("timer %s of %s: %v", timer.ID, timer.Key, err)
		}
		d.recode(timer.Key)
		d.recodePartition()
		all = append(all, d.parse("timer "+timer.ID+" of "+timer.Key, out)...)
	}
	if until.After(d.clock) {
		d.clock = until
	}
	return all
}

// Look sets what look-ups find of a key; until then they find nothing.
func (d *Driver[I, S, P]) Look(seen func(key string) stream.Seen) { d.fold.Look(seen) }

// Next is the timer that fires first; ok is false if none is pending.
func (d *Driver[I, S, P]) Next() (t stream.Timer, ok bool) { return d.fold.Next() }

// parse reads the envelopes of outputs.
func (d *Driver[I, S, P]) parse(cause string, out []stream.Output) []Output {
	d.t.Helper()
	outputs := make([]Output, len(out))
	for i, o := range out {
		outputs[i].Output = o
		if strings.HasSuffix(o.Topic, ".dlq") {
			outputs[i].Failed = header(o.Headers, "__connect.errors.exception.message")
			continue
		}
		var err error
		if outputs[i].Event, err = stream.ParseEvent(o.Value); err != nil {
			d.t.Fatalf("%s: output %d is no CloudEvent: %v\n%s", cause, i, err, o.Value)
		}
	}
	return outputs
}

// recode replaces the key's state by what its codec makes of it, as a restart does.
func (d *Driver[I, S, P]) recode(key string) {
	d.t.Helper()
	s := d.fold.State(key)
	if s == nil {
		return
	}
	stored := d.job.State.Append(nil, s)
	var again S
	if len(stored) > 0 {
		if err := d.job.State.Decode(stored, &again); err != nil {
			d.t.Fatalf("state of %s: its own bytes do not decode: %v", key, err)
		}
	}
	if b := d.job.State.Append(nil, &again); !bytes.Equal(b, stored) {
		d.t.Fatalf("state of %s changes when it is stored and loaded:\n%x\n%x", key, stored, b)
	}
	*s = again
}

// recodePartition checks the partition's codec, but keeps the state: what Adopt made of broadcast records need not be in
// its bytes.
func (d *Driver[I, S, P]) recodePartition() {
	d.t.Helper()
	if d.job.Partition.Append == nil {
		return
	}
	stored := d.job.Partition.Append(nil, d.fold.Partition())
	var again P
	if len(stored) > 0 {
		if err := d.job.Partition.Decode(stored, &again); err != nil {
			d.t.Fatalf("state of the partition: its own bytes do not decode: %v", err)
		}
	}
	if b := d.job.Partition.Append(nil, &again); !bytes.Equal(b, stored) {
		d.t.Fatalf("state of the partition changes when it is stored and loaded:\n%x\n%x", stored, b)
	}
}

// State returns the state of a key, nil if there is none.
func (d *Driver[I, S, P]) State(key string) *S { return d.fold.State(key) }

// Keys lists the keys that have a state, sorted.
func (d *Driver[I, S, P]) Keys() []string { return d.fold.Keys() }

// Partition returns the partition's state.
func (d *Driver[I, S, P]) Partition() *P { return d.fold.Partition() }

// Now is the partition's clock.
func (d *Driver[I, S, P]) Now() time.Time { return d.fold.Context().Now() }

func header(headers []stream.Header, key string) string {
	if i := slices.IndexFunc(headers, func(h stream.Header) bool { return h.Key == key }); i >= 0 {
		return string(headers[i].Value)
	}
	return ""
}
