package stream

import "time"

// Cause identifies the record that a Step works on: what its outputs inherit.
type Cause struct {
	ID    string    // CloudEvents id; outputs derive theirs from it
	Time  time.Time // event time; the clock of a simulated run. Zero: the record is of no time of its own, and of that at which it is read
	Trace string    // W3C traceparent, or empty
}

// Codec turns a state into bytes and back. Decode of what Append wrote gives the same state. Decode(nil) is not called:
// a key without stored bytes starts from the zero value.
type Codec[T any] struct {
	Append func(dst []byte, v *T) []byte
	Decode func(b []byte, v *T) error

	// Size is how many bytes of memory v refers to, about, so that a cache of states knows what it holds. Nil: none.
	Size func(v *T) int
}

// Input is one co-partitioned input topic of a Job.
type Input struct {
	Topic     string // declared name, without the run's prefix
	Broadcast bool   // every version stands in every partition; it concerns the partition, not a key
	Table     bool   // a record without value is a tombstone: Decode and Step see it, and its Cause may be left empty
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

	// Expiry lets states be forgotten. Nil: they never are.
	Expiry *Expiry[S]

	// Timers lets states be woken up. Nil: they never are.
	Timers *Timers[S, P]

	// Lookup lets records be stepped with what another service knows of their key. Nil: they are not.
	Lookup *Lookup[I, S, P]
}

// Timers declares how the states of a Job are woken up. The due times of all states stand in an index that is part of every
// commit. The owner of a partition appends a tick to Topic for each timer of committed state that is due; the tick is a
// record like any other, with a position and a place in the order, so a timer fires once whatever crashes. A tick is not
// taken before the positions at which it was made are reached, fires only the timer it names, only where that is still
// pending with the same due time, and only in its own run; any other tick is dropped and counted. Due times count in
// milliseconds, rounded up; a zero time is no timer.
//
// In a live run a timer is due when the wall clock says so. In a simulated run it is due when the partition's clock has
// reached it or the next record would take the clock there, or when everything published is taken and a ClockTick has said
// that nothing earlier will come. Whatever is due then fires before any other record, in order of due time, key and id;
// the clock stands at the due time.
type Timers[S, P any] struct {
	Topic string // the tick log, co-partitioned with the inputs and not among them

	// Pending calls each for every timer of s. An id is unique within a state.
	Pending func(s *S, each func(id string, due time.Time))

	// Fire is Step for the timer id of s. The context's Cause is the tick's: its id derives from key, timer and due, its
	// time is the due time. It must leave the timer no longer pending, or pending with another due time, and it cannot
	// refuse: any error is one of the program.
	Fire func(c *Context, s *S, p *P, id string, due time.Time) error
}

// Lookup declares a read-only look at the state of another service of the same run under the key of the record. It is
// read by the runtime once for a batch, before its first Step, and unfenced: what it sees depends on how far the other service is. So
// its result is part of the record's input: Step must write Context.Lookup into what it emits wherever the states or the outputs
// depend on it, and a Fold is given the recorded result instead of looking again.
type Lookup[I, S, P any] struct {
	Service string // whose state is read
	Input   string // declared name of the input of that service whose position says how far it was

	// Wanted says which records need it. Every tick does.
	Wanted func(in *I) bool

	// Result boils down what was read to what Step uses. It is pure, and runs right before Step or Fire: s and p are as
	// they will find them. in is nil for a tick.
	Result func(c *Context, s *S, p *P, in *I, seen Seen) []byte
}

// Seen is what a Lookup has read.
type Seen struct {
	Value      []byte // the key's stored state; nil: none
	Position   string // "topic:partition:offset" of the last record of Lookup.Input that the other service had taken; empty: none
	Rebuilding bool   // there is no state of the service, or it was lost and is not whole again: Value may know less than it did
	Partial    bool   // the state was rebuilt from a log that no longer holds its beginning
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
