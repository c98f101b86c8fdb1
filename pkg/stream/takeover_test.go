package stream_test

import (
	"context"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// slowStore holds every claim back until gate is closed.
type slowStore struct {
	*streamtest.Store
	gate chan struct{}
}

func (s slowStore) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	<-s.gate
	return s.Store.Claim(ctx, group, partition)
}

// tellingLog tells of assignments.
type tellingLog struct {
	*streamtest.Log
	assigned chan stream.Assignment
}

func (l tellingLog) Consume(ctx context.Context, group, topic string, work func(context.Context, stream.Assignment)) error {
	return l.Log.Consume(ctx, group, topic, func(ctx context.Context, a stream.Assignment) {
		l.assigned <- a
		work(ctx, a)
	})
}

// A process is frozen when it is about to claim; another one takes the partition over, works and is acknowledged; the state
// is lost. The first one wakes up and claims: it must know what was acknowledged meanwhile. The simulation found this
// (TestSimulationRegressions).
func TestAClaimThatComesLateKnowsWhatWasAcknowledged(t *testing.T) {
	within(t, func(b *bench) {
		b.echo()
		b.send("a", "0")
		ctx, cancel := context.WithCancel(b.Context())
		late := b.rt
		store, log := slowStore{b.store, make(chan struct{})}, tellingLog{b.log, make(chan stream.Assignment, 10)}
		late.Store, late.Log, late.Observer = store, log, nil
		done := make(chan error)
		go func() { done <- stream.Process(ctx, b.job, late) }()
		b.log.Expel(<-log.assigned)
		b.sleep(time.Second)

		b.start()
		b.expect("outputs", b.ids("out"), []string{`00000000000000000000.000 "0"`})
		b.expect("hint", b.log.Offsets("tempismo.r1.journal", "a"), map[int32]int64{0: 1})
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		b.store.Lose("tempismo.r1.journal", 0)
		close(store.gate)
		b.settle()
		b.expect("state", b.state(), "0")
		b.expect("outputs", b.ids("out"), []string{`00000000000000000000.000 "0"`})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
