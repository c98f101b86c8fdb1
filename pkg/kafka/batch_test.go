package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"pgregory.net/rapid"
)

var someTime = time.Date(2026, 10, 25, 2, 30, 0, 0, time.UTC)

func drawMessages(t *rapid.T) []stream.Message {
	raw := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 300))
	header := rapid.Custom(func(t *rapid.T) stream.Header {
		return stream.Header{Key: rapid.SampledFrom([]string{"", "source", "sequence", "È"}).Draw(t, "name"), Value: raw.Draw(t, "header")}
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) stream.Message {
		return stream.Message{
			Key: raw.Draw(t, "key"), Value: raw.Draw(t, "value"), Headers: rapid.SliceOfN(header, 0, 4).Draw(t, "headers"),
			Time: someTime.Add(time.Duration(rapid.Int64Range(-1e12, 1e12).Draw(t, "ms")) * time.Millisecond),
		}
	}), 1, 40).Draw(t, "messages")
}

func same(m stream.Message, r stream.Record) bool {
	ok := bytes.Equal(m.Key, r.Key) && (m.Key == nil) == (r.Key == nil) && bytes.Equal(m.Value, r.Value) && (m.Value == nil) == (r.Value == nil)
	return ok && m.Time.Equal(r.Time) && slices.EqualFunc(m.Headers, r.Headers, func(a, b stream.Header) bool {
		return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
	})
}

// offsetBatch is a batch as a broker stores it: with its base offset.
func offsetBatch(base int64, msgs []stream.Message) []byte {
	b := appendBatch(nil, msgs, 0, 7, 0, 0)
	binary.BigEndian.PutUint64(b, uint64(base))
	return b
}

func TestBatchesComeBackFromAnyOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, second := drawMessages(t), drawMessages(t)
		base := rapid.Int64Range(0, 1<<40).Draw(t, "base")
		set := append(offsetBatch(base, first), offsetBatch(base+int64(len(first)), second)...)
		all := slices.Concat(first, second)
		skip := rapid.IntRange(0, len(all)).Draw(t, "skip")
		var d decoder
		next, err := d.decode(set, base+int64(skip), nil)
		if err != nil || len(d.records) != len(all)-skip {
			t.Fatalf("%d of %d records after %d, %v", len(d.records), len(all), skip, err)
		}
		if want := base + int64(len(all)); next != want {
			t.Fatalf("next %d, want %d", next, want)
		}
		for i, r := range d.records {
			if m := all[skip+i]; !same(m, r) || r.Offset != base+int64(skip+i) {
				t.Fatalf("record %d: %+v is not %+v", i, r, m)
			}
		}
		cut := rapid.IntRange(0, len(set)-1).Draw(t, "cut")
		d.reset()
		if _, err := d.decode(set[:cut], base, nil); err != nil {
			t.Fatalf("a response cut off at %d of %d: %v", cut, len(set), err)
		}
	})
}

func TestSizesAreBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msgs := drawMessages(t)
		bound := batchHeader
		for i := range msgs {
			bound += messageBound(&msgs[i])
			body := recordBody(&msgs[i], 0, 0)
			if one := appendBatch(nil, msgs[i:i+1], 0, 1, 0, 0); len(one) != batchHeader+varintLen(int64(body))+body {
				t.Fatalf("a batch of one has %d bytes, its record %d", len(one), body)
			}
		}
		if n := len(appendBatch(nil, msgs, 0, 1, 0, 0)); n > bound {
			t.Fatalf("%d bytes, more than the bound %d", n, bound)
		}
	})
}

func TestDamageIsNoticed(t *testing.T) {
	set := offsetBatch(100, []stream.Message{message("one"), message("two")})
	for at := batchPrefix + 4; at < len(set); at++ { // base offset, length and leader epoch are not under the checksum
		bad := slices.Clone(set)
		bad[at] ^= 0x41
		var d decoder
		if _, err := d.decode(bad, 100, nil); !errors.Is(err, errBatch) {
			t.Errorf("byte %d changed: %d records, %v", at, len(d.records), err)
		}
	}
}

func control(producer int64, base int64, kind uint16) []byte {
	b := offsetBatch(base, []stream.Message{{Key: binary.BigEndian.AppendUint16([]byte{0, 0}, kind), Value: make([]byte, 6)}})
	return seal(b, producer, attrControl|attrTxn)
}

// seal changes producer and attributes of a batch.
func seal(b []byte, producer int64, attributes uint16) []byte {
	binary.BigEndian.PutUint16(b[21:], attributes)
	binary.BigEndian.PutUint64(b[43:], uint64(producer))
	binary.BigEndian.PutUint32(b[17:], crcOf(b))
	return b
}

func TestAbortedTransactionsAreLeftOut(t *testing.T) {
	one := func(producer, base int64, attributes uint16) []byte {
		return seal(offsetBatch(base, []stream.Message{message(fmt.Sprint(producer, "@", base))}), producer, attributes)
	}
	set := slices.Concat(
		one(1, 0, attrTxn), one(2, 1, attrTxn), one(3, 2, 0), control(1, 3, 0), // 1 aborts
		one(1, 4, attrTxn), control(2, 5, 1), control(1, 6, 1), // 2 and the second of 1 commit
		one(1, 7, attrTxn), control(1, 8, 0), // the third of 1 aborts
	)
	var d decoder
	next, err := d.decode(set, 0, []aborted{{1, 0}, {1, 7}})
	var got []string
	for _, r := range d.records {
		got = append(got, string(r.Value))
	}
	if want := []string{"2@1", "3@2", "1@4"}; !slices.Equal(got, want) || next != 9 || err != nil {
		t.Errorf("read %q, next %d, %v; want %q", got, next, err, want)
	}
}

func TestLogAppendTimeIsTheBatchs(t *testing.T) {
	b := offsetBatch(0, []stream.Message{{Value: []byte("x"), Time: someTime}})
	broker := someTime.Add(time.Hour)
	binary.BigEndian.PutUint64(b[35:], uint64(broker.UnixMilli()))
	b = seal(b, -1, attrLogTime)
	var d decoder
	if _, err := d.decode(b, 0, nil); err != nil || !d.records[0].Time.Equal(broker) {
		t.Errorf("%+v, %v", d.records, err)
	}
}

func TestOldFormatsAreNamed(t *testing.T) {
	b := offsetBatch(0, []stream.Message{message("x")})
	b[16] = 1
	var d decoder
	if _, err := d.decode(b, 0, nil); err == nil || !bytes.Contains([]byte(err.Error()), []byte("v1")) {
		t.Errorf("%v", err)
	}
}

// FuzzDecode: whatever a broker sends, no panic, and never a record below the position.
func FuzzDecode(f *testing.F) {
	f.Add(offsetBatch(5, []stream.Message{message("one"), {Key: []byte("k"), Headers: []stream.Header{{Key: "h"}}}}), int64(6), true)
	f.Add(control(1, 0, 0), int64(0), true)
	for codec := range uint16(5) {
		f.Add(seal(offsetBatch(0, []stream.Message{message("x")}), 1, codec), int64(0), true)
	}
	f.Fuzz(func(t *testing.T, set []byte, from int64, fix bool) {
		if fix && len(set) >= batchHeader { // let the fuzzer past the checksum
			if size := int(int32(binary.BigEndian.Uint32(set[8:]))) + batchPrefix; size >= batchHeader && size <= len(set) {
				set = slices.Clone(set)
				set[16] = 2
				binary.BigEndian.PutUint32(set[17:], crcOf(set[:size]))
			}
		}
		var d decoder
		next, err := d.decode(set, from, []aborted{{1, 0}})
		if next < from {
			t.Fatalf("from %d back to %d", from, next)
		}
		for _, r := range d.records {
			if r.Offset < from {
				t.Fatalf("asked for %d, got %d (%v)", from, r.Offset, err)
			}
		}
	})
}

// FuzzParse: a response of any bytes gives an error or a set inside it.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 80))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c cursor
		set, err := c.parse(&response{b: b})
		if err == nil && len(set) > len(b) {
			t.Fatalf("%d bytes out of %d", len(set), len(b))
		}
	})
}
