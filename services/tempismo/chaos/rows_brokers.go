package chaos

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/pkg/topics"
)

// brokerRows are the faults of brokers, and of what they answer.
func brokerRows() []Row {
	return []Row{
		{ID: "5", Fault: "the only broker is killed with -9 and starts again", Holds: "LPRV", Inject: killTheBroker},
		{ID: "5b", Fault: "three brokers (RF 3, min ISR 2): the leader of a partition is killed; two of three are dead", Holds: "LPRV", Brokers: 3, Inject: killBrokers},
		{ID: "6", Fault: "produce requests are appended, and answered as a time-out, on a broken connection, or never", Holds: "LPO", Inject: loseAnswers},
		{ID: "10", Fault: "outputs are larger than their topic accepts", Holds: "LPOR", Inject: tighten, Verify: nothingDroppedSilently},
		{ID: "14", Fault: "a stored position is outside of the log, or the number of partitions has changed: a service refuses, says what to do, and publishes nothing", Holds: "LPO", PerRound: 12, Inject: misfit},
	}
}

// killTheBroker kills the only broker, and starts it again a while later.
func killTheBroker(ctx context.Context, r *Rig, _ int) error {
	watching := r.watch(Services...)
	if err := r.Brokers.Kill(1); err != nil {
		return err
	}
	if err := r.Moment(ctx, 3*time.Second); err != nil {
		return err
	}
	watching.noSpin()
	r.Note("kill -9 of the only broker")
	return r.Brokers.Start(ctx, 1)
}

// killBrokers kills the leader of a partition, or two of three brokers.
func killBrokers(ctx context.Context, r *Rig, n int) error {
	topic := []string{topics.Events, topics.Scored, topics.Deviations, topics.Decisions, topics.Outcomes}[r.Rand.IntN(5)]
	leader, err := r.Brokers.Leader(ctx, r.Run.Topic(topic), r.Rand.Int32N(r.Partitions))
	if err != nil {
		return err
	}
	dead := []int{leader}
	what := "kill -9 of a leader, with three brokers"
	if n%2 == 1 {
		dead = append(dead, leader%3+1)
		what = "kill -9 of two of three brokers"
	}
	watching := r.watch(Services...)
	for _, id := range dead {
		if err := r.Brokers.Kill(id); err != nil {
			return err
		}
	}
	// The others notice after some seconds: only then is there another leader, or are there too few replicas.
	if err := sleep(ctx, 2*time.Second+time.Duration(r.Rand.Int64N(int64(8*time.Second)))); err != nil {
		return err
	}
	if len(dead) > 1 {
		watching.noSpin()
	}
	r.Note(what)
	errs := make([]error, len(dead))
	var all sync.WaitGroup
	for i, id := range dead {
		all.Go(func() { errs[i] = r.Brokers.Start(ctx, id) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// loseAnswers spoils a share of the answers to produce requests for a while.
func loseAnswers(ctx context.Context, r *Rig, n int) error {
	verdict, name := AnswerTimeout, "answered as a time-out"
	switch n % 4 {
	case 1:
		verdict, name = DropConnection, "followed by a broken connection"
	case 3:
		verdict, name = SwallowResponse, "not answered"
	}
	share := 0.1 + 0.6*r.Rand.Float64()
	var spoilt atomic.Bool
	r.Brokers.OnProduce(func(_ string, phase Phase) Verdict {
		if phase == Before || r.Rand.Float64() > share {
			return Forward
		}
		r.Note("produce request appended and " + name)
		spoilt.Store(true)
		return verdict
	})
	err := sleep(ctx, time.Second+time.Duration(r.Rand.Int64N(int64(3*time.Second))))
	r.Brokers.OnProduce(nil)
	if err == nil && !spoilt.Load() {
		err = errors.New("no service published within the time of the fault")
	}
	return err
}
