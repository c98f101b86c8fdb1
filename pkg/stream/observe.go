package stream

import "time"

// Observer is told what the runtime does: once for every batch, never for a record. pkg/telemetry turns it into
// instruments and spans. Calls come from many goroutines at once, one for each owned partition; none may block.
type Observer interface {
	// Owned says that a partition's takeover has ended and records flow, or that this has come to an end. The two
	// alternate.
	Owned(partition int32, owned bool)
	// Takeover says why a partition is being claimed: one of the Takeover constants.
	Takeover(partition int32, cause string)
	// Batch describes a batch whose outputs have all been acknowledged. r is reused after the call.
	Batch(r *Report)
	// Retry says that an operation failed and is being tried again after a pause. op is a short constant word.
	Retry(partition int32, op string, err error)
	// Alarm says that a condition which an operator must know of began (raised) or ended: one of the Alarm constants.
	Alarm(partition int32, kind string, raised bool)
}

// Causes of a takeover.
const (
	TakeoverAssigned = "assigned" // the consumer group gave us the partition
	TakeoverFenced   = "fenced"   // somebody else claimed it
	TakeoverOffset   = "offset"   // the stored positions are not the ones we wrote
	TakeoverLost     = "lost"     // the stored state vanished
	TakeoverRange    = "range"    // the log does not hold the position
	TakeoverStep     = "step"     // Step, Adopt or a codec failed or panicked: the batch is done again from the stored state
)

// Kinds of alarm.
const (
	AlarmRollback = "rollback"     // the group offset is ahead of the stored position: the store went back in time
	AlarmLost     = "lost"         // the state was gone although the group had read before: it is being rebuilt from the log
	AlarmRange    = "out-of-range" // the stored position is outside the log; nothing is processed until somebody acts
	AlarmStep     = "step"         // a record makes Step, Adopt or a codec fail again and again
)

// Report describes one batch.
type Report struct {
	Service     string
	Partition   int32
	Start       time.Time // when its first record was at hand
	Records     int
	Bytes       int // of keys and values
	Outputs     int // records published, dead letters included
	Suppressed  int // outputs not emitted because a run before a rollback or loss had published them
	DeadLetters int
	Duplicates  int           // records dropped because their source position had been seen
	Keys        int           // states written
	Expired     int           // states forgotten: the records of their key came too late, or they were found in the store
	Ticks       int           // appended since the batch before, for timers that were due
	Fired       int           // timers
	Stale       int           // ticks dropped: their timer was no longer pending with that due time, or is of another run
	Late        time.Duration // from a due time to the firing, the largest; 0 in a simulated run
	Misses      int           // states that were not in the cache
	Load        time.Duration
	Step        time.Duration
	Wait        time.Duration // for the acknowledgements of the batch before
	Commit      time.Duration
	Publish     time.Duration
	LagRecords  int64         // of all inputs, as the last fetches saw them
	Lag         time.Duration // age of the newest record of the batch, 0 if none is left behind it
	Inputs      []InputReport
	Links       []string // distinct traceparents of records with the sampled flag, at most MaxLinks
}

// InputReport is what a batch took from one input.
type InputReport struct {
	Topic   string // declared name
	Records int
	Next    int64 // position after the batch
	Lag     int64 // records behind it
}

// MaxLinks bounds Report.Links; it is the OpenTelemetry SDK's default limit of links on a span.
const MaxLinks = 128

// nobody is the Observer of those who set none.
type nobody struct{}

func (nobody) Owned(int32, bool)          {}
func (nobody) Takeover(int32, string)     {}
func (nobody) Batch(*Report)              {}
func (nobody) Retry(int32, string, error) {}
func (nobody) Alarm(int32, string, bool)  {}
