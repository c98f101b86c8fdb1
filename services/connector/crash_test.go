package connector

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
	"github.com/tempismo/tempismo/pkg/topics"
)

// TestACrashAtAnyWrite kills the connector at each of its writes, just before and just after the log has taken it, and lets
// a successor go on. Every decision gets exactly one final result, and only one whose call may have been under way is called
// a second time, with the same id.
func TestACrashAtAnyWrite(t *testing.T) {
	const decisions = 4
	for at := 1; at <= 2*decisions; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, after: %v", at, after), func(t *testing.T) {
				t.Parallel() // most of the time is spent waiting for the next fetch
				f := newFixture(t, live(), nil)
				f.webhook.Concurrency = 2
				for i := range decisions {
					f.decide(fmt.Sprintf("d-%d", i), fmt.Sprintf("C-%d", i%3), start)
				}
				first := f.service()
				first.clock = dead{patient{f.clock}}
				log := &crashing{Log: f.log, at: at, after: after, crashed: make(chan struct{})}
				first.log = log
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- first.serve(ctx) }()
				// Writes that were gathered into one make fewer of them than there could be.
				f.await(func() bool {
					select {
					case <-log.crashed:
						return true
					default:
						return f.offset() == decisions
					}
				})
				open := 0
				for i := range decisions {
					if strings.HasSuffix(f.outcomes(fmt.Sprintf("d-%d", i)), "attempting/1") {
						open++
					}
				}
				f.serve()
				cancel()
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				for i := range decisions {
					id := fmt.Sprintf("d-%d", i)
					got := f.outcomes(id)
					if !strings.Contains(got, "accepted") || strings.Count(got, "accepted") != 1 || strings.Count(got, " ") != strings.Count(got, "attempting") {
						t.Errorf("%s: outcomes %s", id, got)
					}
				}
				if calls := len(f.receiver.received()); calls < decisions || calls > decisions+open {
					t.Errorf("%d calls for %d decisions of which %d were open at the crash", calls, decisions, open)
				}
			})
		}
	}
}

// dead is the clock of a process that is killed: no pause ends, and nobody grants it a grace period.
type dead struct{ patient }

func (d dead) Sleep(ctx context.Context, pause time.Duration) error {
	if pause == grace {
		return nil
	}
	return d.patient.Sleep(ctx, pause)
}

// crashing freezes its process at a write for ever, and takes it out of the group.
type crashing struct {
	*streamtest.Log
	at      int
	after   bool // the log has taken the write
	crashed chan struct{}

	mu       sync.Mutex
	n        int
	assigned stream.Assignment
}

func (c *crashing) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return c.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) {
		c.mu.Lock()
		c.assigned = a
		c.mu.Unlock()
		work(ctx, a)
	})
}

func (c *crashing) Producer(ctx context.Context) (stream.Producer, error) {
	p, err := c.Log.Producer(ctx)
	return crashingProducer{p, c}, err
}

type crashingProducer struct {
	stream.Producer
	c *crashing
}

func (p crashingProducer) Produce(ctx context.Context, topic string, pt int32, m []stream.Message) (int64, error) {
	c := p.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if topic == topics.Outcomes {
		c.n++
	}
	if c.n != c.at {
		return p.Producer.Produce(ctx, topic, pt, m)
	}
	if c.after {
		if _, err := p.Producer.Produce(ctx, topic, pt, m); err != nil {
			return 0, err
		}
	}
	c.Expel(c.assigned)
	close(c.crashed)
	<-ctx.Done()
	return 0, ctx.Err()
}
