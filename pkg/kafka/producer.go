package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/tempismo/tempismo/pkg/stream"
)

// maxBatch is the largest batch of a produce request, also where a topic accepts more: brokers and fetches are sized for
// batches of a megabyte.
const maxBatch = 900 << 10

// ErrTooLarge answers a record that its topic does not accept.
var ErrTooLarge = errors.New("kafka: record is larger than the topic's max.message.bytes")

var errSpent = errors.New("kafka: producer is spent after an error: take a new one")

// Producer takes a new producer id. Sequence numbers start at 0 with it, so it is never shared or reused. A broker that
// has just started has no ids to give for a moment: that is waited for, no longer than a request may take.
func (l *Log) Producer(ctx context.Context) (stream.Producer, error) {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	var pause backoff
	for {
		r, err := l.client.InitProducerID(ctx, &kafkago.InitProducerIDRequest{ProducerID: -1, ProducerEpoch: -1})
		if err == nil {
			err = r.Error
		}
		if err == nil {
			return l.newProducer(r.Producer), nil
		}
		if !errors.Is(err, kafkago.GroupLoadInProgress) || pause.wait(ctx) != nil {
			return nil, fmt.Errorf("take a producer id: %w", err)
		}
	}
}

func (l *Log) newProducer(s *kafkago.ProducerSession) *producer {
	return &producer{log: l, id: int64(s.ProducerID), epoch: int16(s.ProducerEpoch), lanes: map[lane]*sequence{}}
}

type producer struct {
	log   *Log
	id    int64
	epoch int16

	mu    sync.Mutex
	spent bool
	lanes map[lane]*sequence
}

type lane struct {
	topic     string
	partition int32
}

// sequence is the state of one output partition; one Produce at a time uses it.
type sequence struct {
	next int32
	buf  []byte
}

func (p *producer) lane(topic string, partition int32) (*sequence, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spent {
		return nil, errSpent
	}
	k := lane{topic, partition}
	s := p.lanes[k]
	if s == nil {
		s = &sequence{}
		p.lanes[k] = s
	}
	return s, nil
}

// Produce appends msgs in batches of at most maxBatch and the topic's max.message.bytes, one request in flight. A batch
// that may have been appended is sent again with the same sequence numbers, so the broker drops it if it was. After any
// error the producer is spent, because the next sequence number is then unknown.
func (p *producer) Produce(ctx context.Context, topic string, partition int32, msgs []stream.Message) (base int64, err error) {
	s, err := p.lane(topic, partition)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			p.mu.Lock()
			p.spent = true
			p.mu.Unlock()
			err = fmt.Errorf("produce to %s[%d]: %w", topic, partition, err)
		}
	}()
	var limit int
	if err := p.again(ctx, topic, partition, func() (err error) {
		limit, err = p.log.limit(ctx, topic)
		return err
	}); err != nil {
		return 0, err
	}
	limit = min(limit, maxBatch)
	base = -1
	for first := true; len(msgs) > 0; first = false {
		n, size := 1, batchHeader+messageBound(&msgs[0])
		for n < len(msgs) {
			if size += messageBound(&msgs[n]); size > limit {
				break
			}
			n++
		}
		// A request holds the size of the record set, then the record set.
		s.buf = appendBatch(append(s.buf[:0], 0, 0, 0, 0), msgs[:n], time.Now().UnixMilli(), p.id, p.epoch, s.next)
		binary.BigEndian.PutUint32(s.buf, uint32(len(s.buf)-4))
		offset, err := p.send(ctx, topic, partition, s.buf)
		if err != nil {
			return base, err
		}
		if first {
			base = offset
		}
		s.next = int32((int64(s.next) + int64(n)) & math.MaxInt32)
		msgs = msgs[n:]
	}
	return base, nil
}

// send delivers one batch.
func (p *producer) send(ctx context.Context, topic string, partition int32, set []byte) (offset int64, err error) {
	err = p.again(ctx, topic, partition, func() (err error) {
		offset, err = p.log.produce(ctx, topic, partition, set)
		return err
	})
	if errors.Is(err, kafkago.MessageSizeTooLarge) {
		p.log.limits.Delete(topic) // it may have been changed
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return offset, err
}

// again calls try until it succeeds, ctx ends or trying again cannot help.
func (p *producer) again(ctx context.Context, topic string, partition int32, try func() error) error {
	var pause backoff
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !transient(err):
			return err
		}
		if pause.due() {
			p.log.logger.Warn("cannot produce, trying again", "topic", topic, "partition", partition, "error", err)
		}
		// The leader may have moved. kafka-go keeps metadata for seconds; with its connections it forgets that, too.
		p.log.transport.CloseIdleConnections()
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// produce does one request with acks=all. A batch that the broker knows already is a success; its offset may be unknown, -1.
func (l *Log) produce(ctx context.Context, topic string, partition int32, set []byte) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, netTimeout)
	defer cancel()
	r, err := l.client.RawProduce(ctx, &kafkago.RawProduceRequest{
		Topic: topic, Partition: int(partition), RequiredAcks: kafkago.RequireAll,
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(set)},
	})
	if err == nil {
		err = r.Error
	}
	if errors.Is(err, kafkago.DuplicateSequenceNumber) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return r.BaseOffset, nil
}

// transient reports whether the same request may succeed later. What the broker calls retriable is, and whatever is no
// answer of a broker: a connection lost, a leader not known yet.
func transient(err error) bool {
	var code kafkago.Error
	if !errors.As(err, &code) {
		return true
	}
	return code.Temporary() || code == kafkago.BrokerNotAvailable
}

// limit is the topic's max.message.bytes, remembered.
func (l *Log) limit(ctx context.Context, topic string) (int, error) {
	if n, ok := l.limits.Load(topic); ok {
		return n.(int), nil
	}
	infos, err := l.Topics(ctx, topic)
	if err != nil {
		return 0, err
	}
	l.limits.Store(topic, infos[topic].MaxMessageBytes)
	return infos[topic].MaxMessageBytes, nil
}

// Close does nothing: a producer has no connection of its own.
func (p *producer) Close() error { return nil }
