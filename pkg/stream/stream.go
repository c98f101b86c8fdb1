// Package stream is the runtime: it drives a pure Step over the records of a partition so that state, position and
// outputs move together, whatever crashes. A service declares a Job; Process does everything else.
//
// Commit, then publish: the changed states, the new positions and the outputs of a batch (the outbox) are written in one
// atomic round trip to the Store; only then are the outputs published to the Log, and only when all are acknowledged may
// the next batch be committed. Whoever takes a partition over publishes the stored outbox again. Consumers drop what they
// have seen by source position. See docs/guarantees.md.
//
// It deliberately knows neither Kafka nor Redis (the adapters in pkg/kafka and pkg/redis implement Log and Store, the
// in-memory pair is in stream/streamtest) nor any record of the domain.
package stream

import (
	"context"
	"errors"
	"time"
)

// Header is one record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a log. Key, Value and Headers are views that stay valid until the next Fetch of the Cursor.
type Record struct {
	Topic     string // name on the wire, with the run's prefix
	Partition int32
	Offset    int64
	Time      time.Time // CreateTime, millisecond precision, UTC
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Message is one record to be produced.
type Message struct {
	Key     []byte // nil for records that belong to a partition, not to a key
	Value   []byte
	Headers []Header
	Time    time.Time // zero: now
}

// TopicInfo is what a topic's configuration says.
type TopicInfo struct {
	Partitions      int32
	MaxMessageBytes int // largest record batch the topic accepts
}

// ErrOffsetOutOfRange answers a Fetch whose offset the log no longer, or does not yet, hold.
var ErrOffsetOutOfRange = errors.New("stream: offset out of range")

// ErrUnknownTopic answers a call that names a topic the log does not have.
var ErrUnknownTopic = errors.New("stream: unknown topic")

// Log is a set of partitioned topics with consumer groups: Kafka, or a memory of one in tests. Every method retries
// nothing by itself unless it says so: the runtime owns back-off, so that it is visible in one place.
type Log interface {
	// Topics describes the named topics. ErrUnknownTopic (wrapped, naming it) if one does not exist.
	Topics(ctx context.Context, names ...string) (map[string]TopicInfo, error)

	// Consume joins the consumer group and calls work, on a goroutine of its own, for every partition of topic that the
	// group assigns to this member; the context of work ends at revocation, and the member rejoins only when every work
	// has returned. A work that returns while its context lives is called again (after a confirmation that the
	// partition is still ours). Consume rejoins for ever with capped back-off and returns nil when ctx ends, after
	// leaving the group.
	Consume(ctx context.Context, group, topic string, work func(ctx context.Context, a Assignment)) error

	// Open starts reading a partition at offset.
	Open(ctx context.Context, topic string, partition int32, offset int64) (Cursor, error)

	// Bounds returns the offset of the earliest retained record and the one after the last record.
	Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error)

	// Producer takes a new producer id. One producer serves one owner of one partition.
	Producer(ctx context.Context) (Producer, error)
}

// Assignment is one partition number that a consumer group gave to this member for the length of work's context.
type Assignment interface {
	Partition() int32
	// Confirm returns nil only after the group's coordinator has acknowledged, since the call began, that the member
	// still belongs to the generation that assigned the partition.
	Confirm(ctx context.Context) error
	// Hinted reads the group's stored offset of topic for this partition number; -1 if there is none.
	Hinted(ctx context.Context, topic string) (int64, error)
	// Hint writes group offsets (topic -> next offset). They serve lag tools; the true position is in the Store.
	Hint(ctx context.Context, offsets map[string]int64) error
}

// Cursor reads one partition in order.
type Cursor interface {
	// Fetch returns the records at hand, at most about maxBytes of them (but at least one record, however large), and
	// waits up to wait for the first. No records and no error means that none came. The slice and what it points to are
	// valid until the next call. ErrOffsetOutOfRange where the log does not hold the position.
	Fetch(ctx context.Context, maxBytes int, wait time.Duration) ([]Record, error)
	// Next is the offset of the next record to be returned (offsets may have gaps).
	Next() int64
	// End is the log's end as the last Fetch saw it.
	End() int64
	Close() error
}

// Producer appends idempotently with acks=all: a batch whose acknowledgement was lost is not appended twice by a retry
// of the same producer. After an error that is not retried inside, the producer is spent: take a new one.
type Producer interface {
	// Produce appends msgs in order to one partition and returns the offset of the first. It retries transient errors
	// until ctx ends. Different partitions may be produced to concurrently, one call at a time for each.
	Produce(ctx context.Context, topic string, partition int32, msgs []Message) (base int64, err error)
	Close() error
}

// Answers of a Store to a claimant who is not, or no longer, what he believes to be. Each of them leads to takeover with
// a new claim, never to going on under the old token.
var (
	ErrFenced = errors.New("stream: fenced: another owner holds the partition")
	ErrOffset = errors.New("stream: stored positions differ: the store rolled back or another owner committed")
	ErrLost   = errors.New("stream: the partition's state is gone from the store")
	ErrFormat = errors.New("stream: what is stored is of a format that this program does not know")
)

// Store keeps, for each (group, partition number), the states by key, the positions and the outbox, so that they change
// together. Redis, or a memory of one in tests.
type Store interface {
	// Claim makes the caller the partition's only writer: epoch + 1 and a new random token, in one atomic step that also
	// returns what is stored. Claiming what was never stored, or was lost, succeeds with Meta.Lost and without states.
	Claim(ctx context.Context, group string, partition int32) (Lease, error)

	// Read returns the values of keys (nil where there is none) and the partition's meta, unfenced, for readers that are
	// not the owner.
	Read(ctx context.Context, group string, partition int32, keys []string) (Snapshot, error)

	// Peek is Read without what may be large: Partition, Broadcast and Outbox are missing.
	Peek(ctx context.Context, group string, partition int32, keys []string) (Snapshot, error)

	// Scan calls each for every key of the partition, in no particular order, until it returns false.
	Scan(ctx context.Context, group string, partition int32, each func(key string, value []byte) bool) error

	// Page is Lease.Page for readers that are not the owner: unfenced, and in as much memory as a page takes. A state that is there from
	// the first page to the last is in one of them at least, as long as the store stays in its place.
	Page(ctx context.Context, group string, partition int32, cursor uint64, limit int) (keys []string, values [][]byte, next uint64, err error)
}

// Snapshot is what a reader that is not the owner sees.
type Snapshot struct {
	Meta
	Values [][]byte
}

// Meta is what is stored of a partition beside the states by key.
type Meta struct {
	Lost       bool              // no positions were stored when the claim came
	Epoch      int64             // number of claims so far
	Partitions int32             // partition count of the inputs when the state began; 0: not stored yet
	Positions  map[string]int64  // next offset by input topic, without the run's prefix
	Partition  []byte            // the runtime's and the job's partition-scoped state
	Broadcast  map[string][]byte // last record value of each broadcast input, by topic
	Outbox     []byte            // outputs of the last commit; empty after a clean shutdown
	Rebuilding []byte            // until where a lost state is being rebuilt; empty when whole
	Partial    bool              // the state was rebuilt from a log that no longer holds its beginning
}

// Lease is the right to write a partition, as long as nobody claims it anew.
type Lease interface {
	// Meta returns what was stored when the claim came.
	Meta() Meta
	// Load fills values[i] with the state of keys[i] (nil where there is none), if token and positions are still ours.
	// Errors: ErrFenced, ErrOffset, ErrLost; everything else is transient.
	Load(ctx context.Context, keys []string, values [][]byte) error
	// Commit applies c atomically if token and positions are still ours. A repeated Commit of the same c after a lost
	// reply answers nil. Errors: ErrFenced, ErrOffset, ErrLost; everything else is transient and may or may not have
	// been applied.
	Commit(ctx context.Context, c *Commit) error
	// Page returns some of the states, about limit of them, in no particular order, if token and positions are still ours. The
	// first page is at cursor 0, the last one has no next. A state that is there from the first page to the last is in one of
	// them at least, as long as the store stays in its place: a cursor says nothing after a failover. Errors as Load.
	Page(ctx context.Context, cursor uint64, limit int) (keys []string, values [][]byte, next uint64, err error)
	// Due returns the earliest timers, at most limit, of those that are due at until, in order of due time, and when the
	// first one that is not among them is due (zero: there is none), if token and positions are still ours. Errors as Load.
	Due(ctx context.Context, until time.Time, limit int) (due []Timer, next time.Time, err error)
	// Check asks whether token and positions are still ours. Errors as Load.
	Check(ctx context.Context) error
	Close() error
}

// Commit is one batch's worth of change. Keys and Values are parallel.
type Commit struct {
	Base       map[string]int64 // positions before; nil or empty: none stored yet
	Next       map[string]int64 // positions after
	Keys       []string
	Values     [][]byte
	Gone       []string // keys whose states are deleted; none of Keys is among them
	Timers     []Timer  // those that changed, each once; one without a due time is no longer pending
	Partition  []byte
	Broadcast  map[string][]byte // only those that changed
	Outbox     []byte            // replaces that of the batch before; may be empty
	Partitions int32
	Rebuilding []byte
	Partial    bool
}

// Timer is a wish of a key's state to be woken up.
type Timer struct {
	Key string
	ID  string    // within the state of Key
	Due time.Time // UTC, in milliseconds
}

// permanent marks an error that the same input will always cause.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err as one that the same record will always cause: the record goes to the dead-letter topic and the
// partition moves on. Any other error is retried for ever with back-off.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether err, or one it wraps, was marked by Permanent.
func IsPermanent(err error) bool { return errors.As(err, new(permanent)) }
