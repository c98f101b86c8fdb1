// Package kafka is Kafka as a stream.Log, and what else Tempismo needs of a broker: topics made from their declaration,
// lag, a Writer and readers for programs that are no Job, and an embedded broker for laptops.
//
// Groups, produce requests and SASL are kafka-go's low level. Fetching is a request of our own over kafka-go's
// connections: it gives keys, headers and timestamps without an allocation, leaves out aborted transactions, and meets
// none of the traps of kafka-go's batch reader. Metadata and administration are kadm's.
//
// It deliberately uses neither kafka-go's Reader and Writer (they can commit for another generation and append twice) nor
// transactions of its own. It decodes no record and keeps no position: positions live in the Store.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientID is what the broker's logs and quotas see.
const clientID = "tempismo"

// netTimeout bounds every wait for a broker that has nothing to wait for itself.
const netTimeout = 10 * time.Second

// Log is a Kafka cluster. It implements stream.Log and is safe for concurrent use.
type Log struct {
	brokers   []string
	logger    *slog.Logger
	dialer    kafkago.Dialer // with SASL; TLS is in its DialFunc
	transport *kafkago.Transport
	client    *kafkago.Client
	admin     *kadm.Client
	limits    sync.Map // topic -> largest batch, for producers
}

var _ stream.Log = (*Log)(nil)

// Option changes a Log as it is opened.
type Option func(*Log)

// Logger sets the logger for what the Log retries by itself: joining a group, producing. The default is slog.Default().
func Logger(l *slog.Logger) Option { return func(g *Log) { g.logger = l } }

// Open connects to the cluster that c names. It asks for the cluster's metadata once, so that a wrong address or password
// is an error here and not a retry for ever later.
func Open(ctx context.Context, c Config, opts ...Option) (*Log, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	dial, err := c.dialer()
	if err != nil {
		return nil, err
	}
	mechanism, err := c.mechanism()
	if err != nil {
		return nil, fmt.Errorf("prepare SASL: %w", err)
	}
	admin, err := openAdmin(ctx, c, dial)
	if err != nil {
		return nil, err
	}
	l := &Log{
		brokers:   c.Brokers,
		logger:    slog.Default(),
		dialer:    kafkago.Dialer{ClientID: clientID, Timeout: netTimeout, DialFunc: dial, SASLMechanism: mechanism},
		transport: &kafkago.Transport{ClientID: clientID, Dial: dial, DialTimeout: netTimeout, IdleTimeout: 5 * time.Minute, SASL: mechanism},
		admin:     admin,
	}
	l.client = &kafkago.Client{Addr: kafkago.TCP(c.Brokers...), Transport: l.transport, Timeout: netTimeout}
	for _, o := range opts {
		o(l)
	}
	return l, nil
}

// openAdmin makes a kadm client and asks it for the brokers.
func openAdmin(ctx context.Context, c Config, dial dialFunc) (*kadm.Client, error) {
	client, err := kgo.NewClient(c.options(dial)...)
	if err != nil {
		return nil, fmt.Errorf("prepare the Kafka client: %w", err)
	}
	admin := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	if _, err := admin.BrokerMetadata(ctx); err != nil {
		admin.Close()
		return nil, fmt.Errorf("ask Kafka at %v for its brokers: %w: %s", c.Brokers, err, c.advice(err))
	}
	return admin, nil
}

// Close closes the Log's own connections. Whoever opened cursors, producers and writers closes them first.
func (l *Log) Close() error {
	l.transport.CloseIdleConnections()
	l.admin.Close()
	return nil
}

// Topics describes the named topics. ErrUnknownTopic (wrapped, naming it) if one does not exist.
func (l *Log) Topics(ctx context.Context, names ...string) (map[string]stream.TopicInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	details, err := l.admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", denied(err))
	}
	infos := make(map[string]stream.TopicInfo, len(names))
	for _, name := range names {
		d, ok := details[name]
		if !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			return nil, fmt.Errorf("%w: %s: create it with `tempismo topics create`", stream.ErrUnknownTopic, name)
		}
		if d.Err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", name, denied(d.Err))
		}
		infos[name] = stream.TopicInfo{Partitions: int32(len(d.Partitions))}
	}
	configs, err := l.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", denied(err))
	}
	for _, c := range configs {
		if c.Err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", c.Name, c.Err)
		}
		for _, kv := range c.Configs {
			if kv.Key != "max.message.bytes" || kv.Value == nil {
				continue
			}
			n, err := strconv.Atoi(*kv.Value)
			if err != nil {
				return nil, fmt.Errorf("describe topic %s: max.message.bytes: %w", c.Name, err)
			}
			info := infos[c.Name]
			info.MaxMessageBytes = n
			infos[c.Name] = info
		}
	}
	for name, info := range infos {
		if info.MaxMessageBytes == 0 {
			return nil, fmt.Errorf("describe topic %s: the broker does not tell max.message.bytes", name)
		}
	}
	return infos, nil
}

// Bounds returns the offset of the earliest retained record and the one after the last record that a reader of committed
// records may see.
func (l *Log) Bounds(ctx context.Context, topic string, partition int32) (start, end int64, err error) {
	if start, err = l.offset(ctx, topic, partition, l.admin.ListStartOffsets); err != nil {
		return 0, 0, err
	}
	end, err = l.offset(ctx, topic, partition, l.admin.ListCommittedOffsets)
	return start, end, err
}

type listOffsets func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error)

func (l *Log) offset(ctx context.Context, topic string, partition int32, list listOffsets) (int64, error) {
	all, err := l.offsets(ctx, topic, list)
	if err != nil {
		return 0, err
	}
	o, ok := all[partition]
	if !ok {
		return 0, fmt.Errorf("list offsets: %w: %s has no partition %d", stream.ErrUnknownTopic, topic, partition)
	}
	return o, nil
}

// offsets asks for one offset of every partition of topic.
func (l *Log) offsets(ctx context.Context, topic string, list listOffsets) (map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	listed, err := list(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		err = fmt.Errorf("%w: %w", stream.ErrUnknownTopic, err)
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	offsets := make(map[int32]int64, len(listed[topic]))
	for p, o := range listed[topic] {
		offsets[p] = o.Offset
	}
	return offsets, nil
}

// dialLeader opens a connection to the broker that leads a partition now: authenticated, with nothing read ahead.
func (l *Log) dialLeader(ctx context.Context, topic string, partition int32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	m, err := l.admin.Metadata(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("find the leader: %w", err)
	}
	p, ok := m.Topics[topic].Partitions[partition]
	switch err := m.Topics[topic].Err; {
	case errors.Is(err, kerr.UnknownTopicOrPartition) || err == nil && !ok:
		return nil, fmt.Errorf("find the leader: %w", stream.ErrUnknownTopic)
	case err != nil:
		return nil, fmt.Errorf("find the leader: %w", err)
	case p.Err != nil:
		return nil, fmt.Errorf("find the leader: %w", p.Err)
	}
	for _, b := range m.Brokers {
		if b.NodeID == p.Leader {
			return l.dial(ctx, net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))))
		}
	}
	return nil, fmt.Errorf("find the leader: %w", kerr.LeaderNotAvailable)
}

// dial opens a connection through kafka-go, which authenticates, and keeps the net.Conn below it.
func (l *Log) dial(ctx context.Context, address string) (net.Conn, error) {
	var conn net.Conn
	stop := func() bool { return true }
	defer func() { stop() }()
	d := l.dialer
	d.DialFunc = func(dctx context.Context, network, address string) (net.Conn, error) {
		c, err := l.dialer.DialFunc(dctx, network, address)
		if err == nil {
			conn = c
			stop = context.AfterFunc(ctx, func() { c.Close() }) // kafka-go exchanges SASL without a look at the context
		}
		return c, err
	}
	if _, err := d.DialContext(ctx, "tcp", address); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return conn, nil
}

// backoff is a pause that doubles from 50 ms to 2 s, each with up to a quarter taken off by chance so that members do not
// march in step.
type backoff struct {
	pause  time.Duration
	logged time.Time
}

// wait sleeps; the error is that of ctx.
func (b *backoff) wait(ctx context.Context) error {
	b.pause = min(max(2*b.pause, 50*time.Millisecond), 2*time.Second)
	t := time.NewTimer(b.pause - rand.N(b.pause/4))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// due reports whether a failure is to be logged: the first of a row, and then one in half a minute.
func (b *backoff) due() bool {
	if now := time.Now(); now.Sub(b.logged) > 30*time.Second {
		b.logged = now
		return true
	}
	return false
}

func (b *backoff) reset() { *b = backoff{} }
