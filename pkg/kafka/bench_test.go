package kafka

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

const benchPartitions = 8

// benchMessages are a batch of records like the engagement events of a customer base: about 400 bytes with key.
func benchMessages() []stream.Message {
	value := []byte(`{"specversion":"1.0","id":"sg-14c5d75ce93","source":"/ingest/sendgrid","type":"io.tempismo.engagement.v1","subject":"C-20417","time":"2026-12-03T09:41:52.104Z","datacontenttype":"application/json","data":{"kind":"open","channel":"email","message":"m-81f3","campaign":"weekly-edit","actor":"human","actor_rule":"","link":"","user_agent":"Mozilla/5.0 (Windows NT 10.0; Win64; x64)","provider":"sendgrid"}}`)
	msgs := make([]stream.Message, 1000)
	for i := range msgs {
		msgs[i] = stream.Message{Key: []byte("C-20417"), Value: value, Headers: contentType}
	}
	return msgs
}

// fill produces n records, spread over the partitions, a producer each.
func fill(b *testing.B, l *Log, topic string, n int) {
	b.Helper()
	msgs := benchMessages()
	var all sync.WaitGroup
	for part := range int32(benchPartitions) {
		p, err := l.Producer(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			for done := 0; done < n/benchPartitions; done += len(msgs) {
				if _, err := p.Produce(context.Background(), topic, part, msgs[:min(len(msgs), n/benchPartitions-done)]); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func benchTopic(b *testing.B) (*Log, string) {
	b.Helper()
	l := open(b, realBroker(b))
	return l, create(b, l, "", benchPartitions)
}

// BenchmarkRealProduce: records of 400 bytes, 1,000 a request, 8 partitions at once.
func BenchmarkRealProduce(b *testing.B) {
	l, topic := benchTopic(b)
	b.ReportAllocs()
	b.ResetTimer()
	fill(b, l, topic, max(b.N, benchPartitions))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkRealFetch: the same records read with key, headers and timestamp, 8 partitions at once.
func BenchmarkRealFetch(b *testing.B) {
	l, topic := benchTopic(b)
	n := max(b.N/benchPartitions, 1) * benchPartitions
	fill(b, l, topic, n)
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for part := range int32(benchPartitions) {
		all.Go(func() {
			c, err := l.Open(context.Background(), topic, part, 0)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			for c.Next() < int64(n/benchPartitions) {
				if _, err := c.Fetch(context.Background(), 1<<20, time.Second); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
