package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

var errStub = errors.New("not yet")

func (l *Log) Topics(ctx context.Context, names ...string) (map[string]stream.TopicInfo, error) {
	return nil, errStub
}
func (l *Log) Consume(ctx context.Context, group, topic string, work func(ctx context.Context, a stream.Assignment)) error {
	return errStub
}
func (l *Log) Open(ctx context.Context, topic string, partition int32, offset int64) (stream.Cursor, error) {
	return nil, errStub
}
func (l *Log) Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	return 0, 0, errStub
}
func (l *Log) Producer(ctx context.Context) (stream.Producer, error) { return nil, errStub }

// EnsureTopics creates the topics of a run that do not exist yet.
func EnsureTopics(ctx context.Context, c Config, run stream.Run, partitions int32) error {
	return errStub
}

// PartitionLag is how far one service is behind in one partition of one of its inputs.
type PartitionLag struct {
	Service   string        `json:"service"`
	Topic     string        `json:"topic"` // declared name
	Partition int32         `json:"partition"`
	Offset    int64         `json:"offset"` // next to be read; -1: none stored yet
	End       int64         `json:"end"`
	Records   int64         `json:"records"`
	Behind    time.Duration `json:"behind_ns"` // age of the first unread record; 0 where everything is read
}

// Lag tells how far each of services is behind, by the group offsets (which follow the acknowledged outputs).
func Lag(ctx context.Context, c Config, run stream.Run, services []string) ([]PartitionLag, error) {
	return nil, errStub
}

// Writer writes records of a run from programs that are no Job.
type Writer struct{}

// NewWriter opens a writer for a run.
func NewWriter(ctx context.Context, l *Log, run stream.Run) (*Writer, error) { return nil, errStub }

// Write writes one record and returns when it is acknowledged by all in-sync replicas. topic is a declared name.
func (w *Writer) Write(ctx context.Context, topic string, key, value []byte, t time.Time) error {
	return errStub
}

// WriteAll writes msgs, each to the partition of its key, and returns when all are acknowledged.
func (w *Writer) WriteAll(ctx context.Context, topic string, msgs []stream.Message) error {
	return errStub
}

// Broadcast writes value, without a key, into every partition of topic.
func (w *Writer) Broadcast(ctx context.Context, topic string, value []byte, t time.Time) error {
	return errStub
}

// Close waits for what is being written.
func (w *Writer) Close() error { return nil }

// Position says, for each partition of a topic, an offset: where a reader begins or ends. topic is a name on the wire.
type Position func(ctx context.Context, l *Log, topic string) (map[int32]int64, error)

// Earliest is the first retained record.
func Earliest(ctx context.Context, l *Log, topic string) (map[int32]int64, error) { return nil, errStub }

// Latest is the end as it stands.
func Latest(ctx context.Context, l *Log, topic string) (map[int32]int64, error) { return nil, errStub }

// Since is the first record with a timestamp (CreateTime) at or after t.
func Since(t time.Time) Position { return nil }

// Last is n records before the end of each partition.
func Last(n int64) Position { return nil }

// Offsets gives offsets outright; partitions that are not named are at their end.
func Offsets(by map[int32]int64) Position { return nil }

// Tail calls fn with the records of every partition of topic (name on the wire), beginning at from, until ctx ends (then
// nil) or fn returns an error. fn is called by one goroutine at a time; r lives until fn returns.
func Tail(ctx context.Context, l *Log, topic string, from Position, fn func(r *stream.Record) error) error {
	return errStub
}

// Range is Tail that ends (nil) when to is reached in every partition; Latest means the ends at the time of the call.
func Range(ctx context.Context, l *Log, topic string, from, to Position, fn func(r *stream.Record) error) error {
	return errStub
}

// EmbeddedConfig says where the embedded broker keeps its log.
type EmbeddedConfig struct {
	Dir  string // data folder; created where missing
	Port int    // on the loopback interface; 0: any free one
}

// Embedded is a broker inside this process, for laptops and tests.
type Embedded struct{}

// StartEmbedded starts a broker on what Dir holds.
func StartEmbedded(c EmbeddedConfig) (*Embedded, error) { return nil, errStub }

// Addr is where it listens.
func (e *Embedded) Addr() string { return "" }

// Config is the configuration of a client of it.
func (e *Embedded) Config() Config { return Config{} }

// Close stops it.
func (e *Embedded) Close() error { return nil }
