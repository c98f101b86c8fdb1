package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Fetch of version 11 (Kafka 2.3 to 4.x; 4.0's minimum is 4) is the last that names topics by name in fixed-width fields.
const (
	fetchKey      = 1
	fetchVersion  = 11
	readCommitted = 1
	maxResponse   = 512 << 20
)

// Open starts reading a partition at offset. Records of aborted transactions and control records are left out, and
// records of open transactions wait (isolation level read_committed).
func (l *Log) Open(ctx context.Context, topic string, partition int32, offset int64) (stream.Cursor, error) {
	c := &cursor{log: l, decoder: decoder{topic: topic, partition: partition}, next: offset}
	if err := c.connect(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// cursor reads one partition over a connection of its own to the leader. Any error closes the connection, and the next
// Fetch looks for the leader again.
type cursor struct {
	decoder
	log    *Log
	conn   net.Conn
	next   int64
	end    int64
	buf    []byte // the response; what the records point into
	req    []byte
	aborts []aborted
	id     int32
}

func (c *cursor) Next() int64 { return c.next }

func (c *cursor) End() int64 { return c.end }

func (c *cursor) Close() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}

func (c *cursor) connect(ctx context.Context) error {
	conn, err := c.log.dialLeader(ctx, c.topic, c.partition)
	if err != nil {
		return fmt.Errorf("open %s[%d]: %w", c.topic, c.partition, err)
	}
	c.conn = conn
	return nil
}

func (c *cursor) Fetch(ctx context.Context, maxBytes int, wait time.Duration) ([]stream.Record, error) {
	c.reset()
	deadline := time.Now().Add(wait)
	for {
		if c.conn == nil {
			if err := c.connect(ctx); err != nil {
				return nil, err
			}
		}
		if err := c.fetch(ctx, maxBytes, wait); err != nil {
			c.Close()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("fetch %s[%d] at offset %d: %w", c.topic, c.partition, c.next, err)
		}
		// A response may hold nothing but control batches, or nothing at all.
		if wait = time.Until(deadline); len(c.records) > 0 || wait <= 0 {
			return c.records, nil
		}
	}
}

// fetch does one round trip.
func (c *cursor) fetch(ctx context.Context, maxBytes int, wait time.Duration) error {
	if err := c.conn.SetDeadline(time.Now().Add(wait + netTimeout)); err != nil {
		return err
	}
	conn := c.conn
	// A deadline in the past wakes whoever reads or writes. It fails only on a closed connection, where nobody does.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.id++
	if _, err := c.conn.Write(c.request(maxBytes, wait)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	body, err := c.receive()
	if err != nil {
		return err
	}
	r := response{b: body}
	set, err := c.parse(&r)
	if err != nil {
		return err
	}
	next, err := c.decode(set, c.next, c.aborts)
	if err != nil {
		return err
	}
	if len(set) > 0 && next == c.next {
		return fmt.Errorf("%w: no whole batch in %d bytes", errBatch, len(set))
	}
	c.next = next
	return nil
}

func (c *cursor) request(maxBytes int, wait time.Duration) []byte {
	be := binary.BigEndian
	q := append(c.req[:0], 0, 0, 0, 0)
	q = be.AppendUint16(q, fetchKey)
	q = be.AppendUint16(q, fetchVersion)
	q = be.AppendUint32(q, uint32(c.id))
	q = appendString(q, clientID)
	q = be.AppendUint32(q, 0xffffffff) // replica: none
	q = be.AppendUint32(q, uint32(wait.Milliseconds()))
	q = be.AppendUint32(q, 1) // answer as soon as there is a byte
	q = be.AppendUint32(q, uint32(maxBytes))
	q = append(q, readCommitted)
	q = be.AppendUint32(q, 0)          // session: none
	q = be.AppendUint32(q, 0xffffffff) // session epoch: none
	q = be.AppendUint32(q, 1)          // topics
	q = appendString(q, c.topic)
	q = be.AppendUint32(q, 1) // partitions
	q = be.AppendUint32(q, uint32(c.partition))
	q = be.AppendUint32(q, 0xffffffff) // leader epoch: unknown
	q = be.AppendUint64(q, uint64(c.next))
	q = be.AppendUint64(q, ^uint64(0)) // log start: followers only
	q = be.AppendUint32(q, uint32(maxBytes))
	q = be.AppendUint32(q, 0) // forgotten topics
	q = appendString(q, "")   // rack
	be.PutUint32(q, uint32(len(q)-4))
	c.req = q
	return q
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// receive reads one response into the buffer. There is no buffered reader in between: the length says how much comes.
func (c *cursor) receive() ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	n := int(int32(binary.BigEndian.Uint32(head[:]))) - 4
	if id := int32(binary.BigEndian.Uint32(head[4:])); id != c.id || n < 0 || n > maxResponse {
		return nil, fmt.Errorf("receive: answer %d of %d bytes to request %d: this is no Kafka broker", id, n, c.id)
	}
	if cap(c.buf) < n {
		c.buf = make([]byte, n+n/4)
	}
	c.buf = c.buf[:n]
	if _, err := io.ReadFull(c.conn, c.buf); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	return c.buf, nil
}

// parse takes the record set, the end and the aborted transactions out of a response to a request for one partition.
func (c *cursor) parse(r *response) ([]byte, error) {
	r.int32() // throttle time
	top := r.int16()
	r.int32() // session
	if topics := r.int32(); top == 0 && !r.bad && topics != 1 {
		return nil, fmt.Errorf("answer names %d topics", topics)
	}
	r.skip(int(r.int16())) // topic
	r.int32()              // partitions
	r.int32()              // partition
	code := r.int16()
	r.int64() // high watermark
	stable := r.int64()
	r.int64() // log start
	c.aborts = c.aborts[:0]
	for n := r.int32(); n > 0 && !r.bad; n-- {
		c.aborts = append(c.aborts, aborted{producer: r.int64(), first: r.int64()})
	}
	r.int32() // preferred replica: only where the request names a rack
	size := r.int32()
	if top != 0 {
		return nil, kafkaError(top)
	}
	if r.bad {
		return nil, fmt.Errorf("receive: %w", io.ErrUnexpectedEOF)
	}
	if code != 0 {
		return nil, kafkaError(code)
	}
	c.end = stable
	if size <= 0 {
		return nil, nil
	}
	return r.take(int(size))
}

// kafkaError makes an error of a code, with the runtime's own where it has one.
func kafkaError(code int16) error {
	err := kafkago.Error(code)
	switch {
	case errors.Is(err, kafkago.OffsetOutOfRange):
		return fmt.Errorf("%w: %w", stream.ErrOffsetOutOfRange, err)
	case errors.Is(err, kafkago.UnknownTopicOrPartition):
		return fmt.Errorf("%w: %w", stream.ErrUnknownTopic, err)
	}
	return err
}

// response reads big-endian fields; after the end, bad is set and everything is zero.
type response struct {
	b   []byte
	bad bool
}

func (r *response) take(n int) ([]byte, error) {
	if r.bad || n < 0 || len(r.b) < n {
		r.bad, r.b = true, nil
		return nil, fmt.Errorf("receive: %w", io.ErrUnexpectedEOF)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v, nil
}

func (r *response) skip(n int) { r.take(n) } //nolint:errcheck // bad remembers it

func (r *response) int16() int16 {
	if b, err := r.take(2); err == nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *response) int32() int32 {
	if b, err := r.take(4); err == nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *response) int64() int64 {
	if b, err := r.take(8); err == nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}
