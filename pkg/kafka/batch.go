package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/segmentio/kafka-go/compress"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Record batches, format v2 (Kafka protocol guide, "Record Batch"; the only one since Kafka 4).
const (
	batchHeader  = 61 // baseOffset 8, length 4, leaderEpoch 4, magic 1, crc 4, attributes 2, lastDelta 4, firstTs 8, maxTs 8, pid 8, epoch 2, sequence 4, count 4
	batchPrefix  = 12 // baseOffset and length, which length does not count
	maxUnpacked  = 256 << 20
	attrCodec    = 0x07
	attrLogTime  = 0x08
	attrTxn      = 0x10
	attrControl  = 0x20
	controlAbort = 0
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errBatch = errors.New("record batch is damaged")
)

// varintLen is the number of bytes of x as a zig-zag varint.
func varintLen(x int64) int {
	u := uint64(x<<1) ^ uint64(x>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

// recordBody is the size of a record without its own length field.
func recordBody(m *stream.Message, offsetDelta int, timeDelta int64) int {
	n := 1 + varintLen(timeDelta) + varintLen(int64(offsetDelta)) + varintLen(int64(len(m.Key))) + len(m.Key)
	n += varintLen(int64(len(m.Value))) + len(m.Value) + varintLen(int64(len(m.Headers)))
	for i := range m.Headers {
		h := &m.Headers[i]
		n += varintLen(int64(len(h.Key))) + len(h.Key) + varintLen(int64(len(h.Value))) + len(h.Value)
	}
	return n
}

// messageBound is at least the size of m in any batch: deltas are taken at their longest.
func messageBound(m *stream.Message) int {
	n := 1 + 10 + 5 + 5 + 5 + 5 + 5 + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += 10 + len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

func millis(t time.Time, now int64) int64 {
	if t.IsZero() {
		return now
	}
	return t.UnixMilli()
}

// appendBatch appends msgs as one uncompressed batch of an idempotent producer.
func appendBatch(dst []byte, msgs []stream.Message, now int64, pid int64, epoch int16, sequence int32) []byte {
	start := len(dst)
	first := millis(msgs[0].Time, now)
	last := first
	dst = append(dst, make([]byte, batchHeader)...)
	for i := range msgs {
		m := &msgs[i]
		t := millis(m.Time, now)
		last = max(last, t)
		dst = binary.AppendVarint(dst, int64(recordBody(m, i, t-first)))
		dst = append(dst, 0)
		dst = binary.AppendVarint(dst, t-first)
		dst = binary.AppendVarint(dst, int64(i))
		dst = appendBytes(dst, m.Key)
		dst = appendBytes(dst, m.Value)
		dst = binary.AppendVarint(dst, int64(len(m.Headers)))
		for j := range m.Headers {
			h := &m.Headers[j]
			dst = binary.AppendVarint(dst, int64(len(h.Key)))
			dst = append(dst, h.Key...)
			dst = appendBytes(dst, h.Value)
		}
	}
	b, be := dst[start:], binary.BigEndian
	be.PutUint32(b[8:], uint32(len(b)-batchPrefix))
	be.PutUint32(b[12:], 0xffffffff) // leader epoch: the broker fills it in
	b[16] = 2
	be.PutUint32(b[23:], uint32(len(msgs)-1))
	be.PutUint64(b[27:], uint64(first))
	be.PutUint64(b[35:], uint64(last))
	be.PutUint64(b[43:], uint64(pid))
	be.PutUint16(b[51:], uint16(epoch))
	be.PutUint32(b[53:], uint32(sequence))
	be.PutUint32(b[57:], uint32(len(msgs)))
	be.PutUint32(b[17:], crcOf(b))
	return dst
}

// crcOf is the checksum of a batch: over everything from the attributes on.
func crcOf(batch []byte) uint32 { return crc32.Checksum(batch[21:], castagnoli) }

// appendBytes appends a length and b; nil is null, length -1, as for a tombstone's value or the key of a broadcast.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

// aborted is one aborted transaction of a fetch response: records of the producer from first on are void until its marker.
type aborted struct{ producer, first int64 }

// decoder turns the batches of one partition into records. What it returns lives until the next reset.
type decoder struct {
	topic     string
	partition int32

	records []stream.Record
	headers []stream.Header
	arena   []byte            // decompressed batches
	names   map[string]string // header keys seen, so that they are allocated once
	void    map[int64]bool    // producers whose transaction is aborted at the point of reading
}

func (d *decoder) reset() {
	d.records, d.headers, d.arena = d.records[:0], d.headers[:0], d.arena[:0]
	clear(d.void)
}

// decode appends the records of set at or after next, leaving out control batches and aborted transactions, and returns
// the offset after the last whole batch. A batch cut off at the end of set is left for the next fetch. abort is in the
// order of first.
func (d *decoder) decode(set []byte, next int64, abort []aborted) (int64, error) {
	be := binary.BigEndian
	for len(set) >= batchHeader {
		size := int64(int32(be.Uint32(set[8:]))) + batchPrefix
		if magic := set[16]; magic != 2 {
			return next, fmt.Errorf("%w: record format v%d at offset %d: Kafka 4 and this reader know v2 only; rewrite the topic with a client that produces v2", errBatch, magic, be.Uint64(set))
		}
		if size < batchHeader {
			return next, fmt.Errorf("%w: length %d", errBatch, size)
		}
		if int64(len(set)) < size {
			return next, nil
		}
		b := set[:size]
		set = set[size:]
		base := int64(be.Uint64(b))
		last := base + int64(int32(be.Uint32(b[23:])))
		if last < base {
			return next, fmt.Errorf("%w: last offset %d before the first, %d", errBatch, last, base)
		}
		if last < next {
			continue
		}
		if crcOf(b) != be.Uint32(b[17:]) {
			return next, fmt.Errorf("%w: checksum at offset %d", errBatch, base)
		}
		attributes, producer := be.Uint16(b[21:]), int64(be.Uint64(b[43:]))
		for len(abort) > 0 && abort[0].first <= last {
			if d.void == nil {
				d.void = map[int64]bool{}
			}
			d.void[abort[0].producer] = true
			abort = abort[1:]
		}
		switch {
		case attributes&attrControl != 0:
			if isAbort(b) {
				delete(d.void, producer)
			}
		case attributes&attrTxn != 0 && d.void[producer]:
		default:
			if err := d.batch(b, attributes, base, next); err != nil {
				return next, err
			}
		}
		next = last + 1
	}
	return next, nil
}

// isAbort reads the type of a control batch's one record: key = version int16, type int16.
func isAbort(b []byte) bool {
	p := parser{b: b[batchHeader:]}
	p.varint()
	p.skip(1)
	p.varint()
	p.varint()
	key := p.bytes()
	return !p.bad && len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == controlAbort
}

func (d *decoder) batch(b []byte, attributes uint16, base, next int64) error {
	be := binary.BigEndian
	first, latest := int64(be.Uint64(b[27:])), int64(be.Uint64(b[35:]))
	count := int(int32(be.Uint32(b[57:])))
	payload := b[batchHeader:]
	if codec := attributes & attrCodec; codec != 0 {
		var err error
		if payload, err = d.unpack(payload, compress.Compression(codec)); err != nil {
			return fmt.Errorf("%w: at offset %d: %w", errBatch, base, err)
		}
	}
	if count < 0 {
		return fmt.Errorf("%w: %d records at offset %d", errBatch, count, base)
	}
	p := parser{b: payload}
	for range count {
		size := p.varint()
		if p.bad || size < 0 || size > int64(len(p.b)) {
			return fmt.Errorf("%w: record of %d bytes in the batch at offset %d", errBatch, size, base)
		}
		rest := p.b[size:]
		p.b = p.b[:size]
		p.skip(1)
		t := first + p.varint()
		if attributes&attrLogTime != 0 {
			t = latest
		}
		r := stream.Record{Topic: d.topic, Partition: d.partition, Offset: base + p.varint(), Time: time.UnixMilli(t).UTC()}
		r.Key, r.Value = p.bytes(), p.bytes()
		if n := p.varint(); n != 0 && !p.bad {
			from := len(d.headers)
			for ; n > 0 && !p.bad; n-- {
				d.headers = append(d.headers, stream.Header{Key: d.name(p.bytes()), Value: p.bytes()})
			}
			r.Headers = d.headers[from:len(d.headers):len(d.headers)]
		}
		if p.bad {
			return fmt.Errorf("%w: record in the batch at offset %d", errBatch, base)
		}
		p.b = rest
		// A fetch from inside a batch brings the whole batch: what was read before is not to be seen again.
		if r.Offset >= next {
			d.records = append(d.records, r)
		}
	}
	return nil
}

// unpack decompresses into the arena; where that has to grow, what it held stays valid in the old one.
func (d *decoder) unpack(b []byte, c compress.Compression) ([]byte, error) {
	codec := c.Codec()
	if codec == nil {
		return nil, fmt.Errorf("unknown compression %d", c)
	}
	r := codec.NewReader(bytes.NewReader(b))
	defer r.Close()
	start := len(d.arena)
	for {
		if len(d.arena) == cap(d.arena) {
			d.arena = append(make([]byte, 0, max(2*cap(d.arena), 4*len(b), 4096)), d.arena...)
		}
		n, err := r.Read(d.arena[len(d.arena):cap(d.arena)])
		d.arena = d.arena[:len(d.arena)+n]
		if errors.Is(err, io.EOF) {
			return d.arena[start:], nil
		}
		if err != nil {
			return nil, fmt.Errorf("decompress %s: %w", c, err)
		}
		if len(d.arena)-start > maxUnpacked {
			return nil, fmt.Errorf("decompress %s: more than %d bytes", c, maxUnpacked)
		}
	}
}

// name returns a header key as a string of its own. Producers use a handful of keys; a topic with ever new ones must not
// fill the memory.
func (d *decoder) name(b []byte) string {
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if d.names == nil {
		d.names = map[string]string{}
	}
	if len(d.names) < 64 {
		d.names[s] = s
	}
	return s
}

// parser reads the fields of a record; after a damaged one, bad is set and everything it returns is zero.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) varint() int64 {
	if len(p.b) > 0 && p.b[0] < 0x80 { // most fields are one byte
		c := p.b[0]
		p.b = p.b[1:]
		return int64(c>>1) ^ -int64(c&1)
	}
	x, n := binary.Varint(p.b)
	if n <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[n:]
	return x
}

func (p *parser) skip(n int) {
	if len(p.b) < n {
		p.bad, p.b = true, nil
		return
	}
	p.b = p.b[n:]
}

// bytes reads a length and as many bytes; nil where the length is -1.
func (p *parser) bytes() []byte {
	n := p.varint()
	if n == -1 || p.bad {
		return nil
	}
	if n < 0 || n > int64(len(p.b)) {
		p.bad, p.b = true, nil
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}
