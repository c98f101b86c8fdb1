package chaos

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Phase says where a produce request is when the hook of a KafkaProxy is asked.
type Phase int

const (
	Before Phase = iota // it has come from the client, and not gone to the broker
	After               // the broker has answered, and the client does not know yet
)

// Verdict says what becomes of a produce request.
type Verdict int

const (
	Forward Verdict = iota
	// DropConnection breaks the client's connection: Before, the request never reaches the broker; After, it has been
	// appended, and the answer is lost.
	DropConnection
	// SwallowResponse leaves the client without this answer, and without any other on the same connection.
	SwallowResponse
	// AnswerTimeout tells the client REQUEST_TIMED_OUT although the broker has appended.
	AnswerTimeout
)

// ProduceHook is asked about every produce request, in Before and in After, from the goroutine of its connection: until it
// returns, nothing passes on that connection in that direction. topic is the name on the wire.
type ProduceHook func(topic string, phase Phase) Verdict

// KafkaProxy is a Proxy before a broker that advertises the proxy's address. It reads the frames of what passes.
type KafkaProxy struct {
	*Proxy
	mu   sync.Mutex
	hook ProduceHook
}

// NewKafkaProxy listens on a port of its own and leads to the broker at target.
func NewKafkaProxy(target string) (*KafkaProxy, error) {
	k := &KafkaProxy{}
	var err error
	k.Proxy, err = newProxy(target, k.relay)
	return k, err
}

// OnProduce sets the hook; nil takes it away.
func (k *KafkaProxy) OnProduce(h ProduceHook) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hook = h
}

func (k *KafkaProxy) ask(topics []string, phase Phase) Verdict {
	k.mu.Lock()
	h := k.hook
	k.mu.Unlock()
	verdict := Forward
	if h == nil {
		return verdict
	}
	for _, t := range topics {
		verdict = max(verdict, h(t, phase))
	}
	return verdict
}

// sent is a produce request whose answer is awaited.
type sent struct {
	version int16
	topics  []string
	mute    bool // the verdict of Before
}

// relay passes whole frames.
func (k *KafkaProxy) relay(l *link) {
	var (
		both    sync.WaitGroup
		mu      sync.Mutex
		waiting = map[int32]sent{} // by correlation id
	)
	both.Go(func() {
		defer l.close()
		frames(l.client, func(f []byte) bool {
			if len(f) < 12 || kmsg.Key(binary.BigEndian.Uint16(f[4:])) != kmsg.Produce {
				return l.pass(l.server, f, false)
			}
			s, err := readProduce(f)
			if err != nil {
				panic(err) // a client of ours that this proxy cannot read would go unnoticed by every fault
			}
			switch v := k.ask(s.topics, Before); v {
			case DropConnection:
				return false
			case SwallowResponse:
				s.mute = true
			}
			mu.Lock()
			waiting[int32(binary.BigEndian.Uint32(f[8:]))] = s
			mu.Unlock()
			return l.pass(l.server, f, false)
		})
	})
	both.Go(func() {
		defer l.close()
		muted := false
		frames(l.server, func(f []byte) bool {
			if muted || len(f) < 8 {
				return true
			}
			id := int32(binary.BigEndian.Uint32(f[4:]))
			mu.Lock()
			s, ok := waiting[id]
			delete(waiting, id)
			mu.Unlock()
			if ok {
				v := k.ask(s.topics, After)
				if s.mute {
					v = SwallowResponse
				}
				switch v {
				case DropConnection:
					return false
				case SwallowResponse:
					muted = true
					return true
				case AnswerTimeout:
					f = timedOut(f, s.version)
				}
			}
			return l.pass(l.client, f, true)
		})
	})
	both.Wait()
}

// frames reads frames, each with the four bytes of its length, until each returns false or the connection ends. A frame is
// valid until the next.
func frames(from net.Conn, each func(frame []byte) bool) {
	var frame []byte
	for {
		frame = append(frame[:0], 0, 0, 0, 0)
		if _, err := io.ReadFull(from, frame); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(frame))
		if n > 128<<20 {
			return
		}
		if cap(frame) < 4+n {
			frame = append(make([]byte, 0, 4+n), frame...)
		}
		frame = frame[:4+n]
		if _, err := io.ReadFull(from, frame[4:]); err != nil || !each(frame) {
			return
		}
	}
}

// readProduce reads the topics of a produce request.
func readProduce(frame []byte) (sent, error) {
	r := kmsg.NewPtrProduceRequest()
	r.Version = int16(binary.BigEndian.Uint16(frame[6:]))
	body := frame[12:]
	client := int(int16(binary.BigEndian.Uint16(body)))
	body = body[2+max(client, 0):]
	if r.IsFlexible() {
		body = body[1:] // no tags in a header, of any client
	}
	if err := r.ReadFrom(body); err != nil {
		return sent{}, fmt.Errorf("a produce request of version %d cannot be read: %w", r.Version, err)
	}
	s := sent{version: r.Version}
	for _, t := range r.Topics {
		if t.Topic == "" {
			return sent{}, fmt.Errorf("a produce request of version %d names its topic by id: limit the client to version 12", r.Version)
		}
		s.topics = append(s.topics, t.Topic)
	}
	return s, nil
}

// timedOut is the answer in frame with REQUEST_TIMED_OUT in place of every success.
func timedOut(frame []byte, version int16) []byte {
	r := kmsg.NewPtrProduceResponse()
	r.Version = version
	head := frame[4:8]
	body := frame[8:]
	if r.IsFlexible() {
		head, body = frame[4:9], frame[9:]
	}
	if err := r.ReadFrom(body); err != nil {
		panic(fmt.Errorf("the answer to a produce request of version %d cannot be read: %w", version, err))
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			p := &r.Topics[i].Partitions[j]
			p.ErrorCode, p.BaseOffset = kerr.RequestTimedOut.Code, -1
		}
	}
	out := r.AppendTo(append([]byte{0, 0, 0, 0}, head...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out
}
