package bench

import (
	"context"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// The light job is what the comparison engines do, as a Step: a small state for each customer (deliveries and engagements by
// hour of the day, engagements by day of the week and on this day, mean and variance of the days before), and an output
// where a day has more engagements than its mean and two standard deviations. It stands for the cost of an engine around
// a step that costs nothing.

// LightTopic is where it writes, whatever engine it runs on.
const LightTopic = "bench.light"

// lightState is fixed bytes, as the engines keep it: little-endian numbers at the places below.
type lightState [lightSize]byte

const (
	lightDelivered = 0   // uint32 for each of 24 hours
	lightEngaged   = 96  // uint32 for each of 24 hours
	lightWeekday   = 192 // uint32 for each of 7 days
	lightDay       = 220 // since 1970; 0: the state is new
	lightToday     = 224
	lightFlagged   = 228 // 1: this day has been told
	lightDays      = 232 // active days before this one
	lightMean      = 240
	lightSquares   = 248 // Welford's sum of squares
	lightSize      = 256
)

func (s *lightState) int(at int) uint32    { return binary.LittleEndian.Uint32(s[at:]) }
func (s *lightState) set(at int, v uint32) { binary.LittleEndian.PutUint32(s[at:], v) }
func (s *lightState) float(at int) float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(s[at:]))
}
func (s *lightState) put(at int, v float64) {
	binary.LittleEndian.PutUint64(s[at:], math.Float64bits(v))
}
func (s *lightState) count(at int)     { s.set(at, s.int(at)+1) }
func (s *lightState) days() uint64     { return binary.LittleEndian.Uint64(s[lightDays:]) }
func (s *lightState) setDays(n uint64) { binary.LittleEndian.PutUint64(s[lightDays:], n) }

// deviation is the standard deviation of the days before.
func (s *lightState) deviation() float64 {
	if n := s.days(); n >= 2 {
		return math.Sqrt(s.float(lightSquares) / float64(n-1))
	}
	return 0
}

// note takes an event; true: the day is out of the ordinary.
func (s *lightState) note(second int64, engaged bool) bool {
	day, hour := uint32(second/86400), int(second%86400/3600)
	switch {
	case s.int(lightDay) == 0:
		s.set(lightDay, day)
	case day > s.int(lightDay):
		if x := float64(s.int(lightToday)); x > 0 {
			n := s.days() + 1
			mean := s.float(lightMean)
			delta := x - mean
			mean += delta / float64(n)
			s.setDays(n)
			s.put(lightMean, mean)
			s.put(lightSquares, s.float(lightSquares)+delta*(x-mean))
		}
		s.set(lightDay, day)
		s.set(lightToday, 0)
		s.set(lightFlagged, 0)
	}
	if !engaged {
		s.count(lightDelivered + 4*hour)
		return false
	}
	s.count(lightEngaged + 4*hour)
	s.count(lightWeekday + 4*int((day+3)%7))
	s.count(lightToday)
	if s.days() < 5 || s.int(lightFlagged) != 0 {
		return false
	}
	sd := s.deviation()
	if sd > 0.5 && float64(s.int(lightToday)) > s.float(lightMean)+2*sd {
		s.set(lightFlagged, 1)
		return true
	}
	return false
}

// append writes an output: the same bytes on every engine, but for the envelope that ours has around it.
func (s *lightState) append(b []byte, e *engagement.Event, kind string) []byte {
	b = append(b, `{"event":"`...)
	b = append(b, e.ID...) // ids of the generator need no escapes
	b = append(b, `","customer":"`...)
	b = append(b, e.Subject...)
	b = append(b, `","kind":"`...)
	b = append(b, kind...)
	b = append(b, `","count":`...)
	b = strconv.AppendUint(b, uint64(s.int(lightToday)), 10)
	b = append(b, `,"mean":`...)
	b = strconv.AppendFloat(b, s.float(lightMean), 'f', 6, 64)
	b = append(b, `,"sd":`...)
	b = strconv.AppendFloat(b, s.deviation(), 'f', 6, 64)
	return append(b, '}')
}

// lightJob is the job for our runtime.
func lightJob() stream.Job[engagement.Event, lightState, struct{}] {
	return stream.Job[engagement.Event, lightState, struct{}]{
		Service: "light",
		Inputs:  []stream.Input{{Topic: topics.Events}},
		Outputs: []string{LightTopic},
		Decode: func(r *stream.Record, e *engagement.Event) (stream.Cause, error) {
			if err := e.Parse(r.Value); err != nil {
				return stream.Cause{}, stream.Permanent(err)
			}
			return stream.Cause{ID: e.ID, Time: e.Time}, nil
		},
		Step: func(c *stream.Context, s *lightState, _ *struct{}, e *engagement.Event) error {
			kind := ""
			if s.note(e.Time.Unix(), e.Kind.Engaged()) {
				kind = "deviation"
			}
			if e.Campaign == last {
				kind = last
			}
			if kind != "" {
				c.Emit(stream.Emission{Topic: LightTopic, Type: "io.tempismo.bench.light.v1", Subject: e.Subject, Data: s.append(nil, e, kind)})
			}
			return nil
		},
		State: stream.Codec[lightState]{
			Append: func(b []byte, s *lightState) []byte { return append(b, s[:]...) },
			Decode: func(b []byte, s *lightState) error { copy(s[:], b); return nil },
		},
	}
}

// lightBatch bounds a batch as the profiler's default does.
const lightBatch = 16_384

// runLight runs the job until ctx ends.
func runLight(ctx context.Context, c ServiceConfig, set app.Settings) error {
	observer, err := set.Observer("light")
	if err != nil {
		return err
	}
	log, err := kafka.Open(ctx, c.Kafka, kafka.Logger(set.Log))
	if err != nil {
		return err
	}
	defer log.Close()
	store, err := redis.Open(ctx, c.Redis)
	if err != nil {
		return err
	}
	defer store.Close()
	return stream.Process(ctx, lightJob(), stream.Runtime{Log: log, Store: store, Run: c.run(), Logger: set.Log, Observer: observer, BatchRecords: lightBatch})
}
