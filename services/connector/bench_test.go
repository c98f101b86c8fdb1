package connector

import (
	"fmt"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// BenchmarkTakeover is reading a week of a partition: of each send the attempt, the answer, that it was delivered and that it was opened.
func BenchmarkTakeover(b *testing.B) {
	const sends = 50_000
	log := streamtest.NewLog()
	log.Create("outcomes", stream.TopicInfo{Partitions: 1, MaxMessageBytes: 1 << 20})
	now := time.Now()
	for i := range sends {
		at := now.Add(-decision.Memory + decision.Memory/sends*time.Duration(i))
		who := fmt.Sprintf("C-%06d", i%(sends/3))
		for _, result := range []decision.Result{decision.Attempting, decision.Accepted, decision.Delivered, decision.Opened} {
			o := decision.Outcome{Decision: fmt.Sprintf("d-%024x", i), Request: fmt.Sprintf("r-%d", i), Connector: "webhook", Channel: "email", Result: result, Attempts: 1, Detail: "200 OK"}
			e := stream.Event{ID: outcomeID("r1", &o), Source: "/tempismo/connector/r1/webhook", Type: decision.OutcomeType, Subject: who, Time: at, Traceparent: traceparent, Data: o.Append(nil)}
			log.Append("outcomes", 0, stream.Message{Key: []byte(who), Value: e.Append(nil), Time: at})
		}
	}
	for _, far := range []time.Duration{decision.MaxExpiry, decision.Memory} {
		b.Run(far.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				l := newLedger()
				if err := rebuild(b.Context(), log, "outcomes", 0, "webhook", now.Add(-far), now.Add(-decision.MaxExpiry), now, l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
