package streamtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

type visits struct{ n, forgotten uint64 }

// visitsJob counts records by key and emits every second.
func visitsJob() stream.Job[string, visits, uint64] {
	return stream.Job[string, visits, uint64]{
		Service: "visits", Inputs: []stream.Input{{Topic: "in"}, {Topic: "rules", Broadcast: true}}, Outputs: []string{"out"},
		Decode: func(r *stream.Record, in *string) (stream.Cause, error) {
			if *in = string(r.Value); *in == "bad" {
				return stream.Cause{}, stream.Permanent(errors.New("value: bad"))
			}
			return stream.Cause{ID: *in, Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *visits, p *uint64, in *string) error {
			*p++
			if s == nil {
				return nil
			}
			if s.n++; *in == "forget" {
				s.forgotten++
			}
			if s.n%2 == 0 {
				c.Emit(stream.Emission{Topic: "out", Type: "io.tempismo.visits.v1", Prefix: "v-", Subject: "C-1", Data: fmt.Append(nil, s.n)})
			}
			return nil
		},
		State: stream.Codec[visits]{
			Append: func(dst []byte, s *visits) []byte {
				return binary.AppendUvarint(binary.AppendUvarint(dst, s.n), s.forgotten)
			},
			Decode: func(b []byte, s *visits) error { s.n, _ = binary.Uvarint(b); return nil },
		},
		Partition: stream.Codec[uint64]{
			Append: func(dst []byte, p *uint64) []byte { return binary.AppendUvarint(dst, *p) },
			Decode: func(b []byte, p *uint64) error { *p, _ = binary.Uvarint(b); return nil },
		},
	}
}

func TestDriver(t *testing.T) {
	d := NewDriver(t, visitsJob(), stream.Run{ID: "town", Simulated: true})
	at := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	if out := d.Pipe(stream.Record{Topic: "in", Key: []byte("C-1"), Value: []byte("a"), Time: at}); len(out) != 0 {
		t.Errorf("%+v", out)
	}
	out := d.Pipe(stream.Record{Topic: "in", Key: []byte("C-1"), Value: []byte("b")})
	if len(out) != 1 || out[0].Topic != "out" || string(out[0].Key) != "C-1" || string(out[0].Event.Data) != "2" || out[0].Event.Sequence != "00000000000000000001.000" ||
		out[0].Event.Source != "/tempismo/visits/town/in/0" || !out[0].Event.Time.Equal(at.Add(time.Millisecond)) {
		t.Errorf("%+v", out)
	}
	if out := d.Pipe(stream.Record{Topic: "rules", Value: []byte("r")}); len(out) != 0 || *d.Partition() != 3 {
		t.Errorf("%+v, %d steps", out, *d.Partition())
	}
	out = d.Pipe(stream.Record{Topic: "in", Key: []byte("C-2"), Value: []byte("bad")})
	if len(out) != 1 || out[0].Topic != "in.dlq" || out[0].Failed != "value: bad" || d.State("C-2") != nil || d.State("C-1").n != 2 || len(d.Keys()) != 1 {
		t.Errorf("%+v, keys %v", out, d.Keys())
	}
}

// failing takes the place of a test that is to fail.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

func TestDriverNoticesACodecThatForgets(t *testing.T) {
	f := &failing{TB: t}
	defer func() {
		if recover() != f || !strings.Contains(f.said, "state of C-1 changes when it is stored and loaded") {
			t.Errorf("it said %q", f.said)
		}
	}()
	d := NewDriver(f, visitsJob(), stream.Run{ID: "r"})
	d.Pipe(stream.Record{Topic: "in", Key: []byte("C-1"), Value: []byte("a")})
	d.Pipe(stream.Record{Topic: "in", Key: []byte("C-1"), Value: []byte("forget")})
}
