package stream

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAnOutboxGivesBackWhatWasPutIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics := []outTopic{{name: "x", wire: "sim.r.x", partitions: 3}, {name: "y", wire: "sim.r.y", partitions: 3, max: 5000}}
		o := newOutbox(topics)
		for range rapid.IntRange(0, 2).Draw(t, "batches before") { // reuse leaves nothing behind
			o.reset()
			fill(t, o)
		}
		o.reset()
		want := fill(t, o)
		got, err := parcels(o.bytes())
		for _, p := range got {
			for i := range p.messages {
				if len(p.messages[i].Headers) == 0 {
					p.messages[i].Headers = nil // rather than empty
				}
			}
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("have %v\nwant %v\n%v", got, want, err)
		}
		if (len(want) == 0) != (o.bytes() == nil) {
			t.Fatalf("an empty outbox is stored as nothing, not as %q", o.bytes())
		}
	})
}

func fill(t *rapid.T, o *outbox) (want []parcel) {
	for range rapid.IntRange(0, 12).Draw(t, "outputs") {
		topic := &o.topics[rapid.IntRange(0, 1).Draw(t, "topic")]
		m := Message{Time: time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "time")).UTC()}
		if rapid.Bool().Draw(t, "keyed") {
			m.Key = []byte(rapid.String().Draw(t, "key"))
		}
		p := rapid.Int32Range(0, 2).Draw(t, "partition")
		mark := o.begin(topic, p, m.Time, m.Key)
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			h := Header{rapid.SampledFrom([]string{"source", "sequence", "content-type", "other"}).Draw(t, "hk"), []byte(rapid.String().Draw(t, "hv"))}
			m.Headers = append(m.Headers, h)
			o.headerBytes(h.Key, h.Value)
		}
		o.value()
		m.Value = []byte(rapid.String().Draw(t, "value"))
		o.buf = append(o.buf, m.Value...)
		size, _ := o.end(mark)
		if s := recordSize(&m); s != size {
			t.Fatalf("size %d when it is made, %d when it is sent", size, s)
		}
		if rapid.Bool().Draw(t, "drop") {
			o.drop(mark)
			continue
		}
		i := 0
		for i < len(want) && (want[i].topic != topic.wire || want[i].partition != p) {
			i++
		}
		if i == len(want) {
			want = append(want, parcel{topic: topic.wire, partition: p})
		}
		want[i].messages = append(want[i].messages, m)
	}
	return want
}

func TestADamagedOutboxIsAnErrorNotAPanic(t *testing.T) {
	o := newOutbox([]outTopic{{name: "x", wire: "x", partitions: 1}})
	for i := range 3 {
		mark := o.begin(&o.topics[0], 0, time.UnixMilli(1), []byte("key"))
		o.header("source", "/s")
		o.value()
		o.buf = fmt.Append(o.buf, "value", i)
		o.end(mark)
	}
	whole := bytes.Clone(o.bytes())
	complete := 0
	for n := 1; n < len(whole); n++ {
		if _, err := parcels(whole[:n]); err == nil {
			complete++ // cut exactly between two outputs
		}
	}
	if complete != 3 {
		t.Errorf("%d of the beginnings are readable, want 3: after no, one and two outputs", complete)
	}
	whole[0] = 9
	if _, err := parcels(whole); err == nil {
		t.Error("a version from the future was read")
	}
}

func FuzzParcels(f *testing.F) {
	o := newOutbox([]outTopic{{name: "x", wire: "x", partitions: 1}})
	mark := o.begin(&o.topics[0], 0, time.UnixMilli(1), []byte("key"))
	o.header("source", "/s")
	o.value()
	o.buf = append(o.buf, "value"...)
	o.end(mark)
	f.Add(bytes.Clone(o.bytes()))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parcels(b) })
}
