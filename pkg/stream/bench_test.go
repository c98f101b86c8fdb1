package stream_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// BenchmarkProcess drains a partition of 379-byte records of 20,000 keys, of which one in twenty gives an output. One
// operation is one record; log and store are in memory, so what is measured is the runtime (and a copy of everything).
func BenchmarkProcess(b *testing.B) {
	for _, every := range []int{0, 20, 1} {
		b.Run(fmt.Sprintf("output=1of%d", every), func(b *testing.B) { benchmarkProcess(b, every) })
	}
}

type counter struct{ n uint64 }

func benchmarkProcess(b *testing.B, every int) {
	log, store := streamtest.NewLog(), streamtest.NewStore()
	for _, topic := range []string{"in", "in.dlq", "out"} {
		log.Create(topic, stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	}
	value := make([]byte, 372)
	for i := range value {
		value[i] = 'x'
	}
	at := time.Now()
	var messages []stream.Message
	for i := range b.N {
		messages = append(messages, stream.Message{Key: fmt.Appendf(nil, "C-%05d", i*7919%20000), Value: value, Time: at})
		if len(messages) == 2000 || i == b.N-1 {
			log.Append("in", 0, messages[:min(len(messages), 2000)]...)
			messages = messages[:0]
		}
	}
	data := make([]byte, 250)
	for i := range data {
		data[i] = '1'
	}
	job := stream.Job[int, counter, struct{}]{
		Service: "bench", Inputs: []stream.Input{{Topic: "in"}}, Outputs: []string{"out"},
		Decode: func(r *stream.Record, in *int) (stream.Cause, error) {
			return stream.Cause{ID: "id", Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *counter, _ *struct{}, _ *int) error {
			s.n++
			if _, _, offset := c.Position(); every > 0 && offset%int64(every) == 0 {
				c.Emit(stream.Emission{Topic: "out", Type: "io.tempismo.bench.v1", Prefix: "b-", Subject: "C-1", Data: data})
			}
			return nil
		},
		State: stream.Codec[counter]{
			Append: func(dst []byte, s *counter) []byte {
				return append(binary.LittleEndian.AppendUint64(dst, s.n), make([]byte, 100)...)
			},
			Decode: func(p []byte, s *counter) error { s.n = binary.LittleEndian.Uint64(p); return nil },
		},
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	done := &until{end: int64(b.N), stop: cancel}
	done.causes, done.raised = map[string]int{}, map[string]int{}
	b.ReportAllocs()
	b.ResetTimer()
	if err := stream.Process(ctx, job, stream.Runtime{Log: log, Store: store, Run: stream.Run{ID: "r1"}, Observer: done}); err != nil {
		b.Fatal(err)
	}
}

// until stops the worker at a position.
type until struct {
	recorder
	end  int64
	stop context.CancelFunc
}

func (u *until) Batch(r *stream.Report) {
	if r.Inputs[0].Next == u.end {
		u.stop()
	}
}

// BenchmarkFoldTimers sets a timer for each of many keys and fires them. One operation is one timer, set and fired.
func BenchmarkFoldTimers(b *testing.B) {
	type alarm struct{ due time.Time }
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	job := stream.Job[int, alarm, struct{}]{
		Service: "bench", Inputs: []stream.Input{{Topic: "in"}},
		Decode: func(r *stream.Record, in *int) (stream.Cause, error) {
			*in = int(r.Offset)
			return stream.Cause{ID: "id", Time: r.Time}, nil
		},
		Step: func(c *stream.Context, s *alarm, _ *struct{}, in *int) error {
			s.due = start.Add(time.Hour + time.Duration(*in*7919%1_000_003)*time.Second)
			return nil
		},
		Timers: &stream.Timers[alarm, struct{}]{
			Topic:   "ticks",
			Pending: func(s *alarm, each func(string, time.Time)) { each("r", s.due) },
			Fire: func(_ *stream.Context, s *alarm, _ *struct{}, _ string, _ time.Time) error {
				s.due = time.Time{}
				return nil
			},
		},
		State: stream.Codec[alarm]{
			Append: func(dst []byte, _ *alarm) []byte { return dst },
			Decode: func([]byte, *alarm) error { return nil },
		},
	}
	fold, err := stream.NewFold(job, stream.Run{ID: "s", Simulated: true}, 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := range b.N {
		if _, err := fold.Apply(&stream.Record{Topic: "sim.s.in", Offset: int64(i), Time: start, Key: fmt.Appendf(nil, "C-%07d", i), Value: []byte("x")}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/set")
	if _, err := fold.Advance(start.AddDate(1, 0, 0)); err != nil {
		b.Fatal(err)
	}
}
