package decider

import (
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// FuzzRecords: whatever stands on a topic, it is taken or set aside. Nothing is left that would be tried again for ever.
func FuzzRecords(f *testing.F) {
	waiting := preview
	waiting.OnDeviation, waiting.Audience, waiting.Priority = true, "premium-milano", 3
	seeds := []stream.Record{
		request("r-1", engaged.Add(-time.Hour), waiting),
		request("r-1", engaged, decision.Request{Action: decision.Cancel}),
		burst(engaged, nil),
		burst(engaged, func(d *deviation.Deviation) { d.Zone = "Mars/Olympus" }),
		told(engaged, &customer.Attributes{Zone: "America/New_York", Preferred: []customer.Preference{{Days: []string{"tue"}, From: "10:00", To: "12:00"}}}),
		told(engaged, nil),
		record(topics.Erasures, customer.ErasureType, "er-1", engaged, customer.Erasure{Signals: []string{customer.SignalAll}, Before: engaged}, nil),
		record(topics.Outcomes, decision.OutcomeType, "o-1", engaged, decision.Outcome{Decision: "d-1", Result: decision.Refused}, nil),
		policy("7", nil),
	}
	read := []string{topics.Deviations, topics.Requests, topics.Attributes, topics.Erasures, topics.Outcomes, topics.Policies, topics.Models}
	for _, r := range seeds {
		for i, topic := range read {
			if topic == r.Topic {
				f.Add(i, r.Value)
			}
		}
	}
	run := stream.Run{ID: "r1"}
	f.Fuzz(func(t *testing.T, i int, value []byte) {
		fold, err := stream.NewFold(Job(run, noop.Int64Counter{}), run, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		first, then := seeds[0], stream.Record{Topic: read[uint(i)%uint(len(read))], Time: engaged, Key: []byte(anna), Value: value}
		then.Offset = 1
		for _, r := range []*stream.Record{&first, &then} {
			if _, err := fold.Apply(r); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := fold.Advance(waiting.Deadline.AddDate(0, 4, 0)); err != nil {
			t.Fatal(err)
		}
		fold.State(anna).Pending(func(id string, due time.Time) { t.Errorf("%s still waits, until %v", id, due) })
	})
}
