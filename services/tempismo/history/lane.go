package history

import (
	"context"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// lane reads one partition of a topic in order, from its first retained record to where it ended when reading began.
type lane struct {
	topic   string // declared name
	log     stream.Log
	wire    string
	start   int64 // the first retained offset
	end     int64
	gaps    int64 // offsets from start on without a record: compacted away, or markers of transactions
	next    int64 // offset after the last record that was taken
	cursor  stream.Cursor
	records []stream.Record
}

const (
	fetchBytes = 1 << 20
	fetchWait  = 500 * time.Millisecond
)

func openLane(ctx context.Context, log stream.Log, run stream.Run, topic string, partition int32) (*lane, error) {
	l := &lane{topic: topic, log: log, wire: run.Topic(topic)}
	var err error
	if l.start, l.end, err = log.Bounds(ctx, l.wire, partition); err != nil {
		return nil, fmt.Errorf("bounds of %s: %w", l.wire, err)
	}
	l.next = l.start
	if l.end > l.start {
		if l.cursor, err = log.Open(ctx, l.wire, partition, l.start); err != nil {
			return nil, fmt.Errorf("open %s: %w", l.wire, err)
		}
	}
	return l, nil
}

// head is the next record, nil after the last. It is valid until the record is passed.
func (l *lane) head(ctx context.Context) (*stream.Record, error) {
	for len(l.records) == 0 {
		if l.cursor == nil || l.cursor.Next() >= l.end {
			return nil, nil //nolint:nilnil // the end is no error
		}
		var err error
		if l.records, err = l.cursor.Fetch(ctx, fetchBytes, fetchWait); err != nil {
			return nil, fmt.Errorf("read %s: %w", l.wire, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if l.records[0].Offset >= l.end {
		return nil, nil //nolint:nilnil // written since
	}
	return &l.records[0], nil
}

// pass takes the head.
func (l *lane) pass() {
	l.gaps += l.records[0].Offset - l.next
	l.next = l.records[0].Offset + 1
	l.records = l.records[1:]
}

func (l *lane) close() error {
	if l.cursor == nil {
		return nil
	}
	return l.cursor.Close()
}
