package profiler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// village makes weeks of events in order of time: customers who get two or three messages a week in office hours, and of whom
// each answers one in three or so, sooner or later, at the hours that they keep, some by a click as well. About 60 % are deliveries.
func village(customers, weeks int) []*engagement.Event {
	rng := rand.New(rand.NewPCG(1, 2))
	var events []*engagement.Event
	for c := range customers {
		id := fmt.Sprintf("C-%05d", c)
		peak, share := 7+rng.Float64()*15, .1+.5*rng.Float64()
		for week := range weeks {
			for _, day := range []int{0, 2, 4} {
				if rng.IntN(6) == 0 {
					continue
				}
				sent := time.Duration(week*7+day)*24*time.Hour + time.Duration(rng.IntN(8*60))*time.Minute
				message := fmt.Sprint("m-", week, "-", day)
				events = append(events, event(engagement.Delivered, id, message, sent))
				if rng.Float64() > share {
					continue
				}
				hour := math.Mod(peak+rng.NormFloat64()*1.5+48, 24)
				read := time.Duration(week*7+day)*24*time.Hour + time.Duration((hour-9)*float64(time.Hour))
				for read < sent+2*time.Minute {
					read += 24 * time.Hour
				}
				events = append(events, event(engagement.Open, id, message, read))
				for rng.IntN(2) == 0 {
					read += time.Duration(rng.IntN(1800)) * time.Second
					events = append(events, event([]engagement.Kind{engagement.Open, engagement.Click}[rng.IntN(2)], id, message, read))
				}
			}
		}
	}
	slices.SortStableFunc(events, func(a, b *engagement.Event) int { return a.Time.Compare(b.Time) })
	return events
}

// BenchmarkStep is the work for one event, from the bytes of its record to those of what it emits, the decoding and encoding
// of states apart: four weeks of a village that was known for fourteen before. step-ns/op is the Step alone, without reading the
// record and without what the runtime does about it.
func BenchmarkStep(b *testing.B) {
	c := Config{ScoredBelow: .1, Model: timing.BuiltinVersion, DefaultZone: "Europe/Rome", Run: config.Run{ID: "bench", Mode: "simulated"}}
	job, err := Job(c)
	if err != nil {
		b.Fatal(err)
	}
	var step time.Duration
	real := job.Step
	job.Step = func(c *stream.Context, p *timing.Profile, part *Partition, in *Input) error {
		began := time.Now()
		err := real(c, p, part, in)
		step += time.Since(began)
		return err
	}
	events := village(4000, 18)
	records, from, deliveries := make([]stream.Record, len(events)), 0, 0
	for i, e := range events {
		records[i] = stream.Record{Topic: run(c).Topic(topics.Events), Offset: int64(i), Key: []byte(e.Subject), Value: e.Append(nil), Time: start}
		if e.Time.Before(start.Add(14 * 7 * 24 * time.Hour)) {
			from = i + 1
		}
		if e.Kind == engagement.Delivered {
			deliveries++
		}
	}
	b.Logf("%d events, %.0f %% of them deliveries, measured from %d on", len(events), 100*float64(deliveries)/float64(len(events)), from)
	var fold *stream.Fold[Input, timing.Profile, Partition]
	emitted, i := 0, len(records)
	var measured time.Duration
	b.ReportAllocs()
	for b.Loop() {
		if i == len(records) {
			b.StopTimer()
			measured, step = measured+step, 0
			if fold, err = stream.NewFold(job, run(c), 0, 1); err != nil {
				b.Fatal(err)
			}
			for i = range from {
				if _, err := fold.Apply(&records[i]); err != nil {
					b.Fatal(err)
				}
			}
			i++
			step = 0 // the weeks before are not measured
			b.StartTimer()
		}
		out, err := fold.Apply(&records[i])
		if err != nil {
			b.Fatal(err)
		}
		emitted += len(out)
		i++
	}
	b.ReportMetric(float64(measured+step)/float64(b.N), "step-ns/op")
	b.ReportMetric(float64(emitted)/float64(b.N), "outputs/op")
}
