package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/tempismo/tempismo/pkg/stream"
)

const (
	heartbeatInterval = 500 * time.Millisecond // a revocation is noticed at a heartbeat
	sessionTimeout    = 6 * time.Second        // Kafka's default minimum; how long a killed member's partitions stand still
	rebalanceTimeout  = 15 * time.Second       // how long the others wait for a member's last batch
	joinBackoff       = 500 * time.Millisecond
	joinGrace         = 2 * time.Second // for a join under way at shutdown
	growthInterval    = 5 * time.Second // how often a member asks whether the topic has got more partitions
)

// Consume joins the consumer group with the range assignor, and calls work for every partition of topic that it is given:
// see stream.Log. It logs what keeps it from joining.
func (l *Log) Consume(ctx context.Context, group, topic string, work func(ctx context.Context, a stream.Assignment)) error {
	known := l.partitions(ctx, topic) // before the group is joined: what comes after it is noticed
	conns := &connSet{open: map[*setConn]struct{}{}}
	dialer := l.dialer
	dialer.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := l.dialer.DialFunc(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conns.add(conn), nil
	}
	cg, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: group, Brokers: l.brokers, Dialer: &dialer, Topics: []string{topic},
		GroupBalancers:    []kafkago.GroupBalancer{kafkago.RangeGroupBalancer{}},
		HeartbeatInterval: heartbeatInterval, SessionTimeout: sessionTimeout, RebalanceTimeout: rebalanceTimeout,
		JoinGroupBackoff: joinBackoff, StartOffset: kafkago.FirstOffset, Timeout: netTimeout,
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", group, err)
	}
	log := l.logger.With("group", group, "topic", topic)
	var working atomic.Int32
	var pause backoff
	for ctx.Err() == nil {
		gen, err := cg.Next(ctx)
		if err != nil {
			// kafka-go pauses between attempts.
			if ctx.Err() == nil && pause.due() {
				log.Warn("cannot join the consumer group, trying again", "error", err)
			}
			continue
		}
		pause.reset()
		log.Info("joined the consumer group", "generation", gen.ID, "partitions", len(gen.Assignments[topic]))
		gen.Start(func(ctx context.Context) { known = l.grown(ctx, topic, known) })
		hints := make(chan struct{}, 1)
		for _, p := range gen.Assignments[topic] {
			a := &assignment{log: l, gen: gen, hints: hints, partition: int32(p.ID)}
			working.Add(1)
			gen.Start(func(ctx context.Context) {
				defer working.Add(-1)
				a.run(ctx, work)
			})
		}
	}
	// Close ends the generation, waits for every work and leaves the group. A join under way would keep it for as long as
	// other members take: after the grace its connection is cut, and the broker drops us at the session's end instead.
	closed := make(chan struct{})
	go func() {
		cg.Close()
		close(closed)
	}()
	for {
		select {
		case <-closed:
			return nil
		case <-time.After(joinGrace):
			if working.Load() == 0 {
				conns.close()
			}
		}
	}
}

// partitions is how many the topic has; 0: it cannot be found out now.
func (l *Log) partitions(ctx context.Context, topic string) int {
	m, err := l.admin.Metadata(ctx, topic)
	if err != nil {
		return 0
	}
	return len(m.Topics[topic].Partitions)
}

// grown returns when the topic has got more partitions than were known before the group was joined (0: nobody knew), or ctx
// ends: kafka-go takes the return for the end of the generation, and the next one gives the new partitions to somebody, who
// refuses them. kafka-go can watch by itself, but on the connection of the heartbeats, where two answers that are due make it spin.
func (l *Log) grown(ctx context.Context, topic string, known int) int {
	tick := time.NewTicker(growthInterval)
	defer tick.Stop()
	for {
		if n := l.partitions(ctx, topic); n > known {
			return n
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return known
		}
	}
}

// assignment is one partition in one generation of the group.
type assignment struct {
	log       *Log
	gen       *kafkago.Generation
	hints     chan struct{} // of the generation: who may write group offsets
	partition int32
}

// run calls work until the generation ends. It must not return before: kafka-go takes that for the end of the generation,
// for all partitions.
func (a *assignment) run(ctx context.Context, work func(ctx context.Context, a stream.Assignment)) {
	var pause backoff
	for ctx.Err() == nil {
		began := time.Now()
		work(ctx, a)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			pause.reset()
		}
		if pause.due() {
			a.log.logger.Warn("work on a partition ended while it is ours, starting it again", "group", a.gen.GroupID, "partition", a.partition)
		}
		for {
			if pause.wait(ctx) != nil {
				return
			}
			if err := a.Confirm(ctx); err == nil {
				break
			}
		}
	}
}

func (a *assignment) Partition() int32 { return a.partition }

// Confirm sends a heartbeat of the generation and waits for the coordinator's answer. During a rebalance the answer is an
// error: the partition is about to be taken.
func (a *assignment) Confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	r, err := a.log.client.Heartbeat(ctx, &kafkago.HeartbeatRequest{GroupID: a.gen.GroupID, GenerationID: a.gen.ID, MemberID: a.gen.MemberID})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return fmt.Errorf("confirm partition %d in generation %d of %s: %w", a.partition, a.gen.ID, a.gen.GroupID, err)
	}
	return nil
}

func (a *assignment) Hinted(ctx context.Context, topic string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	r, err := a.log.client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{GroupID: a.gen.GroupID, Topics: map[string][]int{topic: {int(a.partition)}}})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return 0, fmt.Errorf("read the group offset of %s[%d]: %w", topic, a.partition, err)
	}
	for _, p := range r.Topics[topic] {
		if p.Partition != int(a.partition) {
			continue
		}
		if p.Error != nil {
			return 0, fmt.Errorf("read the group offset of %s[%d]: %w", topic, a.partition, p.Error)
		}
		return p.CommittedOffset, nil
	}
	return -1, nil
}

func (a *assignment) Hint(ctx context.Context, offsets map[string]int64) error {
	if err := ctx.Err(); errors.Is(err, kafkago.ErrGenerationEnded) {
		ctx = context.WithoutCancel(ctx)
	} else if err != nil {
		return err
	}
	by := make(map[string]map[int]int64, len(offsets))
	for topic, next := range offsets {
		by[topic] = map[int]int64{int(a.partition): next}
	}
	// Two requests on the generation's connection make kafka-go spin for as long as the answer that it reads first is not
	// the one it waits for (Conn.waitResponse): one at a time.
	select {
	case a.hints <- struct{}{}:
		defer func() { <-a.hints }()
	case <-ctx.Done():
		return ctx.Err()
	}
	// The generation's connection stays open until every work has returned, so the last batch can still be hinted.
	if err := a.gen.CommitOffsets(by); err != nil {
		return fmt.Errorf("write group offsets of partition %d: %w", a.partition, err)
	}
	return nil
}

// connSet is the open connections of one group member, which kafka-go does not let its users close.
type connSet struct {
	mu   sync.Mutex
	open map[*setConn]struct{}
}

type setConn struct {
	net.Conn
	set *connSet
}

func (s *connSet) add(c net.Conn) net.Conn {
	sc := &setConn{c, s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[sc] = struct{}{}
	return sc
}

func (c *setConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

func (s *connSet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Conn.Close()
	}
}
