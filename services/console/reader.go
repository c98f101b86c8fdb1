package console

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/console/board"
)

// shared is the board between the readers of the topics, the beat and the viewers.
type shared struct {
	mu      sync.Mutex
	board   *board.Board
	version uint64 // grows with every record that changed the board
	dials   dials  // of the stories

	behind     map[string]map[int32]int64 // by topic and partition: the end at the start, until it is reached
	unreadable uint64
	restarts   uint64
}

// from is where the reading of a topic begins: the figures need five weeks of digests and the map the last of them; the
// feeds need the latest records. A simulated run writes months in minutes, so there everything is read, and every request that
// waits is counted; otherwise those that were decided about lately are, and the page says since when.
func from(topic string, run stream.Run, now time.Time) kafka.Position {
	switch {
	case run.Simulated && (topic == topics.Digests || topic == topics.Decisions):
		return kafka.Earliest
	case topic == topics.Digests:
		return kafka.Since(now.Add(-(board.History + 48) * time.Hour))
	case topic == topics.Models:
		return kafka.Last(30) // as many versions as the board keeps
	case topic == topics.Policies:
		return kafka.Last(10) // one is in force; those before it are for the case that the last cannot be read
	default:
		return kafka.Last(1000)
	}
}

// Back-off between two attempts to read a topic.
const (
	firstPause = 250 * time.Millisecond
	maxPause   = 10 * time.Second
)

// read folds a topic into the board until ctx ends. A failure is retried for ever; records that are read again are
// dropped by their source position.
func (s *server) read(ctx context.Context, log *kafka.Log, topic string) error {
	run := s.config.run()
	name := run.Topic(topic)
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		err := s.ends(ctx, log, topic, name)
		if err == nil {
			err = kafka.Tail(ctx, log, name, from(topic, run, s.now()), func(r *stream.Record) error {
				pause = firstPause
				s.apply(topic, r)
				return nil
			})
		}
		if ctx.Err() != nil {
			return nil
		}
		s.health(topic, err)
		s.state.mu.Lock()
		s.state.restarts++
		s.state.mu.Unlock()
		s.log.WarnContext(ctx, "reading is interrupted", slog.String("topic", name), slog.Any("error", err), slog.Duration("pause", pause))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// ends notes where the topic ends now, so that the page can say that it is still catching up.
func (s *server) ends(ctx context.Context, log *kafka.Log, topic, name string) error {
	starts, err := from(topic, s.config.run(), s.now())(ctx, log, name)
	if err != nil {
		return fmt.Errorf("find where to begin in %s: %w", name, err)
	}
	ends, err := kafka.Latest(ctx, log, name)
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", name, err)
	}
	for p, end := range ends {
		if start, ok := starts[p]; !ok || start >= end {
			delete(ends, p)
		}
	}
	s.state.mu.Lock()
	s.state.behind[topic] = ends
	s.state.mu.Unlock()
	s.health(topic, nil)
	return nil
}

func (s *server) apply(topic string, r *stream.Record) {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	if err := s.state.board.Apply(topic, r.Value); err != nil {
		s.state.unreadable++ // the detector and decider set unreadable records aside; here they are counted
	} else {
		s.state.version++
	}
	if end, ok := s.state.behind[topic][r.Partition]; ok && r.Offset+1 >= end {
		delete(s.state.behind[topic], r.Partition)
	}
}

// catchingUp reports whether records of before the start are still to be read. The caller holds the lock.
func (s *shared) catchingUp() bool {
	for _, topic := range board.Topics {
		if b, ok := s.behind[topic]; !ok || len(b) > 0 {
			return true
		}
	}
	return false
}

// connection is what the console reads from, once it is there.
type connection struct {
	log        *kafka.Log
	store      stream.Store
	partitions int32 // of the profiler's state
}

// follow connects to Kafka and the store and reads until ctx ends.
func (s *server) follow(ctx context.Context) error {
	log := again(ctx, s, "kafka", func() (*kafka.Log, error) { return kafka.Open(ctx, s.config.Kafka, kafka.Logger(s.log)) })
	if log == nil {
		return nil
	}
	defer log.Close()
	store := again(ctx, s, "store", func() (*redis.Store, error) { return redis.Open(ctx, s.config.Redis) })
	if store == nil {
		return nil
	}
	defer store.Close()
	events := s.config.run().Topic(topics.Events)
	conn := again(ctx, s, "topics", func() (*connection, error) {
		infos, err := log.Topics(ctx, events)
		return &connection{log, store, infos[events].Partitions}, err
	})
	if conn == nil {
		return nil
	}
	s.connection.Store(conn)
	readers := []func(context.Context) error{func(ctx context.Context) error { return s.watch(ctx, conn) }}
	for _, topic := range board.Topics {
		readers = append(readers, func(ctx context.Context) error { return s.read(ctx, log, topic) })
	}
	return app.Group(ctx, readers...)
}

// again tries to open something until it is there; nil when ctx ends first.
func again[T any](ctx context.Context, s *server, what string, open func() (*T, error)) *T {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		v, err := open()
		if err == nil {
			s.settings.Health.Set(what, true, "")
			return v
		}
		if ctx.Err() != nil {
			return nil
		}
		s.settings.Health.Set(what, false, "is not reached")
		s.log.WarnContext(ctx, "not reached, trying again", slog.String("what", what), slog.Any("error", err), slog.Duration("pause", pause))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// vitals is what is asked for, rather than read from the topics.
type vitals struct {
	lag        time.Duration
	lagKnown   bool
	rebuilding bool
}

const (
	vitalsEvery  = 3 * time.Second
	vitalsWithin = 5 * time.Second
)

// watched are the services whose lag the header shows: the way from an event to a decision.
var watched = []string{"profiler", "detector", "decider"}

// watch asks every few seconds how far the services are behind, and whether a state is being rebuilt.
func (s *server) watch(ctx context.Context, c *connection) error {
	tick := time.NewTicker(vitalsEvery)
	defer tick.Stop()
	for {
		v := s.ask(ctx, c)
		s.vitals.Store(&v)
		if s.config.Run.Simulated() {
			s.picture(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *server) ask(ctx context.Context, c *connection) (v vitals) {
	ctx, cancel := context.WithTimeout(ctx, vitalsWithin)
	defer cancel()
	if all, err := c.log.Lag(ctx, s.config.run(), watched); err == nil {
		v.lagKnown = true
		for _, l := range all {
			if l.Topic != topics.Models { // a service whose model is pinned does not read them
				v.lag = max(v.lag, l.Behind)
			}
		}
	}
	for p := range c.partitions {
		snap, err := c.store.Read(ctx, s.config.run().Group("profiler"), p, nil)
		if err != nil {
			s.settings.Health.Set("store", false, "does not answer")
			return v
		}
		v.rebuilding = v.rebuilding || len(snap.Rebuilding) > 0
	}
	s.settings.Health.Set("store", true, "")
	return v
}

func (s *server) health(topic string, err error) {
	if err != nil {
		s.settings.Health.Set("kafka "+topic, false, "is read again")
		return
	}
	s.settings.Health.Set("kafka "+topic, true, "")
}
