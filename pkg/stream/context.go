package stream

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// Context is what a Step may know beside its arguments, and where it emits to. One Context serves one partition; it is
// reused from record to record, so a Step must not keep it.
type Context struct {
	run       Run
	service   string
	partition int32

	now     time.Time
	at      time.Time // of the record, on the same clock
	partial bool
	inputs  []inputInfo
	cause   Cause
	lookup  []byte
	record  *Record
	source  string // CloudEvents source of outputs for this input and partition
	topic   string // declared name of the record's input
	letter  int    // index of the input's dead-letter topic in out
	index   int    // outputs of the record so far
	mute    bool   // outputs of this record were published by a run before a rollback or loss

	out        *outbox
	published  time.Time // record time of the batch's outputs
	suppressed int
	letters    int
	scratch    []byte
	sequence   []byte
}

// Now is the partition's clock: in a live run the highest record timestamp seen in the partition, in a simulated run the
// highest event time. It includes the record being stepped. Broadcast records, dead letters and dropped duplicates do not
// move it.
func (c *Context) Now() time.Time { return c.now }

// Time is where the record being stepped stands on that clock: its timestamp in a live run, its event time in a simulated one.
// It is never after Now and, unlike Now, it does not hang on what was taken before: what a Step leaves behind without an output
// to tell of it should be dated by it, for from the log the order of different inputs is known at outputs only. A broadcast
// record has none.
func (c *Context) Time() time.Time { return c.at }

// Run is the lineage of state that the Step belongs to.
func (c *Context) Run() Run { return c.run }

// Cause identifies the record being stepped.
func (c *Context) Cause() Cause { return c.cause }

// Position is where the record being stepped stands: declared topic name, partition, offset.
func (c *Context) Position() (topic string, partition int32, offset int64) {
	return c.topic, c.record.Partition, c.record.Offset
}

// Positions tells, for each input of the Job by declared name, the last record taken as of the record being stepped, that one
// included, as "partition:offset". Inputs of which none was taken are not in it; neither are ticks, which follow from
// the others.
func (c *Context) Positions() map[string]string {
	at := make(map[string]string, len(c.inputs))
	for i := range c.inputs {
		if in := &c.inputs[i]; in.taken > 0 && !in.ticks {
			at[in.topic] = strconv.Itoa(int(c.partition)) + ":" + strconv.FormatInt(in.taken-1, 10)
		}
	}
	return at
}

// Lookup is what the Job's Lookup made of the other service's state for this record; nil where the record did not want it.
// It must not be changed.
func (c *Context) Lookup() []byte { return c.lookup }

// ID is the CloudEvents id that the index-th output of this record will have, dead letters apart.
func (c *Context) ID(prefix string, index int) string {
	return prefix + string(c.appendID(make([]byte, 0, 24), index))
}

// Key is the key of the record being stepped: whose state it is.
func (c *Context) Key() string { return string(c.record.Key) }

// Partial says that the partition's state was lost and rebuilt from a log that no longer holds its beginning: a key seen
// for the first time may have a past that nobody knows.
func (c *Context) Partial() bool { return c.partial }

// Emit publishes one output once the batch is committed. Outputs appear in each output partition in the order in which
// they were emitted. An output that does not fit the topic's largest record becomes a dead letter of the record that
// caused it. Emitting to a topic that the Job does not declare panics: it is a mistake of the program.
func (c *Context) Emit(e Emission) {
	t := c.out.topic(e.Topic)
	index := c.index
	c.index++
	if c.mute {
		c.suppressed++
		return
	}
	partition := c.partition % t.partitions
	var key []byte
	if e.Subject != "" {
		key = append(c.scratch[:0], e.Subject...)
		c.scratch = key
		partition = Partition(key, t.partitions)
	}
	at := e.Time
	if at.IsZero() {
		at = c.cause.Time
	}
	sequence := appendSequence(c.sequence[:0], c.record.Offset, index)
	c.sequence = sequence

	mark := c.out.begin(t, partition, c.published, key)
	c.out.header("content-type", contentType)
	c.out.header("source", c.source)
	c.out.headerBytes("sequence", sequence)
	c.out.value()
	b := append(c.out.buf, `{"specversion":"1.0","id":"`...)
	b = append(b, e.Prefix...) // prefixes are literals of the program: nothing to escape
	b = c.appendID(b, index)
	b = append(b, `","source":`...)
	b = appendString(b, c.source)
	b = append(b, `,"type":`...)
	b = appendString(b, e.Type)
	if e.Subject != "" {
		b = append(b, `,"subject":`...)
		b = appendString(b, e.Subject)
	}
	b = append(b, `,"time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","datacontenttype":"application/json","sequence":"`...)
	b = append(b, sequence...)
	b = append(b, '"')
	if c.cause.Trace != "" {
		b = append(b, `,"traceparent":`...)
		b = appendString(b, c.cause.Trace)
	}
	b = append(b, `,"data":`...)
	b = append(b, e.Data...)
	c.out.buf = append(b, '}')
	if size, fits := c.out.end(mark); !fits {
		c.out.drop(mark)
		c.deadLetter("output", fmt.Errorf("output %s for %s is %d bytes, more than max.message.bytes of the topic (%d): raise it", sequence, e.Topic, size, t.max))
	}
}

// contentType is what the Kafka protocol binding of CloudEvents 1.0.2 (section 3.3.1) prescribes for structured JSON.
const contentType = "application/cloudevents+json"

// appendID appends the hex form of the first 12 bytes of SHA-256(service 0 run 0 cause 0 index): the same however often
// and from wherever the cause was published.
func (c *Context) appendID(dst []byte, index int) []byte {
	b := append(c.scratch[:0], c.service...)
	b = append(b, 0)
	b = append(b, c.run.ID...)
	b = append(b, 0)
	b = append(b, c.cause.ID...)
	b = append(b, 0)
	b = strconv.AppendInt(b, int64(index), 10)
	c.scratch = b
	sum := sha256.Sum256(b)
	return hex.AppendEncode(dst, sum[:12])
}

// begin turns the context to the next record of input in.
func (c *Context) begin(in *inputInfo, r *Record) {
	c.record, c.topic, c.source, c.letter = r, in.topic, in.source, in.letter
	c.index, c.cause, c.lookup, c.at = 0, Cause{}, nil, time.Time{}
	in.taken = r.Offset + 1
	c.mute = r.Offset < in.mute
}

// deadLetter sets the current record aside: original bytes and headers, plus headers that say why, named as Kafka
// Connect names them.
func (c *Context) deadLetter(stage string, why error) {
	c.letters++
	if c.mute {
		c.suppressed++
		return
	}
	t, r := &c.out.topics[c.letter], c.record
	mark := c.out.begin(t, r.Partition%t.partitions, c.published, r.Key)
	for i := range r.Headers {
		c.out.headerBytes(r.Headers[i].Key, r.Headers[i].Value)
	}
	c.blame(stage, why)
	c.out.value()
	c.out.buf = append(c.out.buf, r.Value...)
	if _, fits := c.out.end(mark); fits {
		return
	}
	// The dead-letter topic is set up too small for the original. The position still says where the bytes are.
	c.out.drop(mark)
	mark = c.out.begin(t, r.Partition%t.partitions, c.published, r.Key)
	c.blame(stage, fmt.Errorf("%w (the original does not fit this topic: raise its max.message.bytes)", why))
	c.out.value()
	c.out.end(mark)
}

func (c *Context) blame(stage string, why error) {
	const p = "__connect.errors."
	c.out.header(p+"topic", c.record.Topic)
	c.out.header(p+"partition", strconv.Itoa(int(c.record.Partition)))
	c.out.header(p+"offset", strconv.FormatInt(c.record.Offset, 10))
	c.out.header(p+"class.name", errorClass(why))
	c.out.header(p+"exception.message", why.Error())
	c.out.header(p+"stage", stage)
}
