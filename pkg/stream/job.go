package stream

import "time"

// Cause identifies the record that a Step works on: what its outputs inherit.
type Cause struct {
	ID    string    // CloudEvents id; outputs derive theirs from it
	Time  time.Time // event time; the clock of a simulated run
	Trace string    // W3C traceparent, or empty
}

// Codec turns a state into bytes and back. Decode of what Append wrote gives the same state. Decode(nil) is not called:
// a key without stored bytes starts from the zero value.
type Codec[T any] struct {
	Append func(dst []byte, v *T) []byte
	Decode func(b []byte, v *T) error
}

// Input is one co-partitioned input topic of a Job.
type Input struct {
	Topic     string // declared name, without the run's prefix
	Broadcast bool   // every version stands in every partition; it concerns the partition, not a key
}

// Job declares a stateful service: inputs, one state per key, one state per partition, outputs, and a pure Step. I is the
// decoded input record, S the state of a key, P the state of a partition.
type Job[I, S, P any] struct {
	Service string
	Inputs  []Input  // co-partitioned; ownership follows the first
	Outputs []string // declared names of every topic that Step emits to

	// Decode reads a record into in (reused from record to record; views into r are allowed, they live until the batch
	// is committed). A Permanent error sends the record to its dead-letter topic. It must not look at anything but r.
	Decode func(r *Record, in *I) (Cause, error)

	// Step applies one record: it changes s and p in place and emits through c. It is pure: no clock but c.Now, no
	// randomness, no map order, and the result does not depend on where batches begin. s is nil for a broadcast input.
	// A Permanent error must be returned before anything was changed or emitted.
	Step func(c *Context, s *S, p *P, in *I) error

	State     Codec[S]
	Partition Codec[P]

	// Adopt puts a broadcast record in force in p: before Step sees such a record, and at takeover for the stored last
	// one of each broadcast topic (p holds decoded forms that Partition need not encode). May be nil without broadcast inputs.
	Adopt func(p *P, topic string, value []byte) error
}

// Emission is one output of a Step, to be wrapped in a CloudEvents envelope (structured JSON) whose id, source and
// sequence the runtime fills in.
type Emission struct {
	Topic   string    // declared name
	Type    string    // CloudEvents type
	Prefix  string    // of the id, e.g. "dv-"
	Subject string    // the key: decides the partition by murmur2. Empty: the record's own partition number, no key
	Time    time.Time // zero: the cause's
	Data    []byte    // a JSON value; copied
}
