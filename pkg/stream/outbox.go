package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// outbox holds the outputs of one batch in the form in which they are stored and, later, published: final bytes, in the
// order of emission. Layout: version 1, number of topics and their names on the wire; then for each output topic index,
// partition, record time in ms, key length + 1 (0: no key) and key, all varints; number of headers (2 bytes), headers as
// length-prefixed pairs; value length (4 bytes), value. Fixed-size integers are little-endian.
type outbox struct {
	buf     []byte
	head    int // length of the part that every batch has in common
	topics  []outTopic
	count   int
	nheader int // where the current output counts its headers
	valueAt int // where the current output's value begins
	size    int // of the current output, as the broker will count it
}

// outTopic is a topic that a Job writes to.
type outTopic struct {
	name       string // declared
	wire       string
	partitions int32
	max        int // largest record batch
}

const outboxVersion = 1

func newOutbox(topics []outTopic) *outbox {
	o := &outbox{topics: topics}
	o.buf = append(o.buf, outboxVersion)
	o.buf = binary.AppendUvarint(o.buf, uint64(len(topics)))
	for _, t := range topics {
		o.buf = binary.AppendUvarint(o.buf, uint64(len(t.wire)))
		o.buf = append(o.buf, t.wire...)
	}
	o.head = len(o.buf)
	return o
}

func (o *outbox) reset() { o.buf, o.count = o.buf[:o.head], 0 }

// bytes is what is stored: nothing if there are no outputs.
func (o *outbox) bytes() []byte {
	if o.count == 0 {
		return nil
	}
	return o.buf
}

// topic finds a declared output topic. There are few: a linear search is the fastest.
func (o *outbox) topic(name string) *outTopic {
	for i := range o.topics {
		if o.topics[i].name == name {
			return &o.topics[i]
		}
	}
	panic(fmt.Sprintf("stream: Step emits to %q, which the Job does not declare among its Outputs", name))
}

// begin starts an output; header, value and end must follow in this order. It returns a mark for drop.
func (o *outbox) begin(t *outTopic, partition int32, at time.Time, key []byte) (mark int) {
	mark = len(o.buf)
	index := 0
	for &o.topics[index] != t {
		index++
	}
	b := binary.AppendUvarint(o.buf, uint64(index))
	b = binary.AppendUvarint(b, uint64(partition))
	b = binary.AppendVarint(b, at.UnixMilli())
	if key == nil {
		b = append(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(len(key))+1)
		b = append(b, key...)
	}
	o.nheader = len(b)
	o.buf = append(b, 0, 0)
	o.size = recordOverhead + len(key)
	return mark
}

// recordOverhead bounds from above what Kafka adds to a record that is alone in its batch: the batch header (61 bytes)
// and the varints of the record. headerOverhead is the same for a header. A little too much is right here.
const (
	recordOverhead = 61 + 40
	headerOverhead = 10
)

func (o *outbox) header(key, value string) {
	o.count16()
	b := binary.AppendUvarint(o.buf, uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(len(value)))
	o.buf = append(b, value...)
	o.size += headerOverhead + len(key) + len(value)
}

func (o *outbox) headerBytes(key string, value []byte) {
	o.count16()
	b := binary.AppendUvarint(o.buf, uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(len(value)))
	o.buf = append(b, value...)
	o.size += headerOverhead + len(key) + len(value)
}

func (o *outbox) count16() {
	binary.LittleEndian.PutUint16(o.buf[o.nheader:], binary.LittleEndian.Uint16(o.buf[o.nheader:])+1)
}

// value says that the bytes appended to buf from here to end are the value.
func (o *outbox) value() {
	o.buf = append(o.buf, 0, 0, 0, 0)
	o.valueAt = len(o.buf)
}

// end completes the output begun at mark. fits is false if the topic refuses records of that size.
func (o *outbox) end(mark int) (size int, fits bool) {
	n := len(o.buf) - o.valueAt
	binary.LittleEndian.PutUint32(o.buf[o.valueAt-4:], uint32(n))
	o.count++
	var t uint64
	t, _ = binary.Uvarint(o.buf[mark:])
	o.size += n
	return o.size, o.topics[t].max <= 0 || o.size <= o.topics[t].max
}

// drop takes back the output that ended last, which began at mark.
func (o *outbox) drop(mark int) {
	o.buf = o.buf[:mark]
	o.count--
}

// rewind takes back everything since mark and count were noted.
func (o *outbox) rewind(mark, count int) { o.buf, o.count = o.buf[:mark], count }

// parcel is the outputs of a batch for one partition of one topic, in order.
type parcel struct {
	topic     string // on the wire
	partition int32
	messages  []Message
	end       int64 // offset after what was acknowledged
}

// parcels reads stored outbox bytes. Messages are views into b.
func parcels(b []byte) ([]parcel, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := reader{b: b}
	if v := r.byte(); v != outboxVersion {
		return nil, fmt.Errorf("outbox: version %d is unknown to this program, which reads version %d: run the newer one (docs/operations.md, Upgrades and rollback)", v, outboxVersion)
	}
	topics := make([]string, 0, 8)
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		topics = append(topics, string(r.bytes(r.uvarint())))
	}
	var out []parcel
	var headers []Header
	for len(r.b) > 0 && !r.bad {
		t, p := r.uvarint(), int32(r.uvarint())
		m := Message{Time: time.UnixMilli(r.varint()).UTC()}
		if n := r.uvarint(); n > 0 {
			m.Key = r.bytes(n - 1)
		}
		first := len(headers)
		for n := r.uint16(); n > 0 && !r.bad; n-- {
			k := headerKey(r.bytes(r.uvarint()))
			headers = append(headers, Header{k, r.bytes(r.uvarint())})
		}
		m.Headers = headers[first:len(headers):len(headers)]
		m.Value = r.bytes(uint64(r.uint32()))
		if r.bad || t >= uint64(len(topics)) {
			break
		}
		i := slices.IndexFunc(out, func(x parcel) bool { return x.partition == p && x.topic == topics[t] })
		if i < 0 {
			i = len(out)
			out = append(out, parcel{topic: topics[t], partition: p})
		}
		out[i].messages = append(out[i].messages, m)
	}
	if r.bad || len(r.b) > 0 {
		return nil, errors.New("outbox: stored bytes are damaged")
	}
	return out, nil
}

// headerKey avoids an allocation for the keys that nearly every output has.
func headerKey(b []byte) string {
	switch string(b) {
	case "content-type":
		return "content-type"
	case "source":
		return "source"
	case "sequence":
		return "sequence"
	}
	return string(b)
}

// reader takes values off the front of b; after a value that is not there, bad is set and everything is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.bytes(1); !r.bad {
		return v[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if v := r.bytes(2); !r.bad {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.bytes(4); !r.bad {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}
