package chaos

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/twmb/franz-go/pkg/kfake"
)

// advertised is a listener that tells another address than its own, as a broker behind a proxy does.
type advertised struct {
	net.Listener
	addr net.Addr
}

func (a advertised) Addr() net.Addr { return a.addr }

// behindProxy starts a broker behind a proxy.
func behindProxy(t *testing.T) (*KafkaProxy, kafka.Config) {
	t.Helper()
	k, err := NewKafkaProxy("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		k.SetTarget(l.Addr().String())
		return advertised{l, k.listener.Addr()}, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); k.Close() })
	return k, kafka.Config{Brokers: []string{k.Addr()}}
}

// appended writes values one after the other through the proxy, each as often as it takes, and returns what the log holds.
func appended(t *testing.T, config kafka.Config, write ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	run := stream.Run{ID: "r1"}
	if err := kafka.EnsureTopics(ctx, config, run, 1); err != nil {
		t.Fatal(err)
	}
	l, err := kafka.Open(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, err := kafka.NewWriter(ctx, l, run)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, v := range write {
		if err := w.Write(ctx, topics.Events, []byte("k"), []byte(v), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err = kafka.Range(ctx, l, run.Topic(topics.Events), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		got = append(got, string(r.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// script is a hook that gives verdicts in turn, then Forward.
type script struct {
	mu       sync.Mutex
	verdicts []Verdict // of Before and After, alternating, as long as nothing is dropped in Before
	asked    []Phase
	topics   []string
}

func (s *script) hook(topic string, phase Phase) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, phase)
	s.topics = append(s.topics, topic)
	if len(s.verdicts) == 0 {
		return Forward
	}
	v := s.verdicts[0]
	s.verdicts = s.verdicts[1:]
	return v
}

func TestAProduceRequestMeetsItsVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		verdicts []Verdict
		asked    []Phase
	}{
		"forwarded":                        {nil, []Phase{Before, After}},
		"dropped before the broker":        {[]Verdict{DropConnection}, []Phase{Before, Before, After}},
		"appended, and the answer dropped": {[]Verdict{Forward, DropConnection}, []Phase{Before, After, Before, After}},
		"appended, and called a time-out":  {[]Verdict{Forward, AnswerTimeout}, []Phase{Before, After, Before, After}},
		"appended, and called so twice":    {[]Verdict{Forward, AnswerTimeout, Forward, AnswerTimeout}, []Phase{Before, After, Before, After, Before, After}},
	} {
		t.Run(name, func(t *testing.T) {
			k, config := behindProxy(t)
			s := &script{verdicts: c.verdicts}
			k.OnProduce(s.hook)
			// The producer sends again under the same sequence number, so the log holds it once.
			if got := appended(t, config, "a"); !slices.Equal(got, []string{"a"}) {
				t.Errorf("the log holds %q", got)
			}
			if !slices.Equal(s.asked, c.asked) {
				t.Errorf("asked in phases %v, want %v", s.asked, c.asked)
			}
			if slices.ContainsFunc(s.topics, func(topic string) bool { return topic != topics.Events }) {
				t.Errorf("asked about %q", s.topics)
			}
		})
	}
}

func TestASwallowedResponseSilencesTheConnection(t *testing.T) {
	k, config := behindProxy(t)
	s := &script{verdicts: []Verdict{Forward, SwallowResponse}}
	k.OnProduce(s.hook)
	// The client waits until it loses patience, and asks again on another connection.
	if got := appended(t, config, "a", "b"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the log holds %q", got)
	}
	if want := []Phase{Before, After, Before, After, Before, After}; !slices.Equal(s.asked, want) {
		t.Errorf("asked in phases %v, want %v", s.asked, want)
	}
}
