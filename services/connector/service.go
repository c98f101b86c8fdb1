package connector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// clock is the time that calls are made at. Tests have one of their own.
type clock interface {
	Now() time.Time
	// Sleep returns ctx's error if ctx ends first.
	Sleep(ctx context.Context, d time.Duration) error
}

// wall is the machine's clock.
type wall struct{}

func (wall) Now() time.Time { return time.Now().UTC() }

func (wall) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// service is the connector over any log.
type service struct {
	log     stream.Log
	run     stream.Run
	name    string // of the connector, in outcomes
	target  *target
	metrics *metrics
	tracer  trace.Tracer
	health  *app.Health
	logger  *slog.Logger
	clock   clock
}

// serve carries out the decisions of every partition that the group assigns to this process, until ctx ends.
func (s *service) serve(ctx context.Context) error {
	decisions, outcomes, letters := s.run.Topic(topics.Decisions), s.run.Topic(topics.Outcomes), s.run.Topic(topics.DeadLetter(topics.Decisions))
	names := []string{decisions, outcomes, letters}
	alike := []string{outcomes, s.run.Topic(topics.Events), s.run.Topic(topics.Policies)} // those that are read beside the decisions of a partition
	for _, on := range saidOn {
		alike = append(alike, s.run.Topic(on.name))
	}
	infos, err := s.log.Topics(ctx, append(names, alike...)...)
	if err != nil {
		return fmt.Errorf("look at the topics (`tempismo topics create` makes them): %w", err)
	}
	var errs []error
	for _, name := range alike {
		if d, o := infos[decisions].Partitions, infos[name].Partitions; d != o {
			errs = append(errs, fmt.Errorf("%s has %d partitions and %s has %d: they must have the same number, so that what belongs to a partition's decisions is found in one (docs/operations.md says how to change it)", decisions, d, name, o))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return s.log.Consume(ctx, s.run.Group(Service), decisions, func(ctx context.Context, a stream.Assignment) {
		s.target.own(s.clock.Now(), 1, infos[decisions].Partitions)
		defer func() { s.target.own(s.clock.Now(), -1, infos[decisions].Partitions) }()
		w := &worker{
			service: s, assignment: a, decisions: decisions, outcomesTopic: outcomes,
			ledger: newLedger(), last: map[string]chan struct{}{}, room: make(chan struct{}, maxPending),
			logger: s.logger.With("topic", decisions, "partition", a.Partition()),
		}
		w.follow()
		w.outcomes = w.writer(outcomes, a.Partition())
		w.letters = w.writer(letters, a.Partition()%infos[letters].Partitions)
		if err := w.work(ctx); err != nil && ctx.Err() == nil {
			// Consume calls again, after a confirmation that the partition is still ours.
			w.logger.ErrorContext(ctx, "the partition is taken up again", "error", err)
			_ = s.clock.Sleep(ctx, time.Second) // cut short when ctx ends, which Consume sees by itself
		}
	})
}

// grace is how long what is under way may take after the partition is lost or the service is told to stop. It is less
// than a group waits for its members.
const grace = 5 * time.Second

// retry repeats f with back-off until it succeeds or ctx ends, visibly.
func (s *service) retry(ctx context.Context, op string, f func() error) error {
	for b := (backoff{}); ; {
		err := f()
		if err == nil || ctx.Err() != nil || errors.Is(err, stream.ErrOffsetOutOfRange) {
			return errors.Join(err, ctx.Err())
		}
		s.retrying(op, err)
		if err := s.clock.Sleep(ctx, b.next()); err != nil {
			return err
		}
	}
}

// retrying tells that op failed and is tried again. The next successful fetch takes it back.
func (s *service) retrying(op string, err error) {
	count(s.metrics.retries, with("op", op))
	s.health.Set("kafka", false, "trying again: "+op)
	s.logger.Warn("trying again", "op", op, "error", err)
}
