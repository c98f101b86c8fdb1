package chaos

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

func onReal(t *testing.T) context.Context {
	t.Helper()
	if os.Getenv("TEMPISMO_REAL") == "" {
		t.Skip("needs Java and redis-server: TEMPISMO_REAL=1")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestRealBrokersBehindProxies(t *testing.T) {
	ctx := onReal(t)
	b, err := StartBrokers(ctx, t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	run := stream.Run{ID: "r1"}
	config := kafka.Config{Brokers: b.Addrs()}
	if err := kafka.EnsureTopics(ctx, config, run, 1); err != nil {
		t.Fatal(err)
	}
	if leader, err := b.Leader(ctx, run.Topic(topics.Events), 0); err != nil || leader != 1 {
		t.Errorf("the leader is %d, %v", leader, err)
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
	s := &script{verdicts: []Verdict{Forward, AnswerTimeout}}
	b.OnProduce(s.hook)
	write := func(v string) {
		t.Helper()
		if err := w.Write(ctx, topics.Events, []byte("k"), []byte(v), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	write("a")
	if want := []Phase{Before, After, Before, After}; !slices.Equal(s.asked, want) {
		t.Errorf("asked in phases %v, want %v: does everything go through the proxy?", s.asked, want)
	}
	if err := b.Kill(1); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(ctx, 1); err != nil {
		t.Fatal(err)
	}
	write("b")
	var got []string
	direct, err := kafka.Open(ctx, kafka.Config{Brokers: b.Direct()})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	err = kafka.Range(ctx, direct, run.Topic(topics.Events), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		got = append(got, string(r.Value))
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the log holds %q, %v", got, err)
	}
}

func TestRealRedisServers(t *testing.T) {
	ctx := onReal(t)
	r, err := StartRedis(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	set := func(v string) {
		t.Helper()
		if err := r.Client().Set(ctx, "k", v, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(want string) {
		t.Helper()
		if got := r.Client().Get(ctx, "k").Val(); got != want {
			t.Errorf("it holds %q, want %q", got, want)
		}
	}
	set("killed")
	r.Kill()
	if err := r.Restart(ctx, Kept); err != nil {
		t.Fatal(err)
	}
	holds("killed")
	set("early")
	time.Sleep(2 * syncEvery) // longer than what a power failure takes back
	set("late")
	r.Kill()
	if err := r.Restart(ctx, Unsynced); err != nil {
		t.Fatal(err)
	}
	holds("early")
	if err := r.Replica(ctx); err != nil {
		t.Fatal(err)
	}
	set("replicated")
	if err := r.Replica(ctx); err != nil { // it has it by now
		t.Fatal(err)
	}
	r.Sever()
	set("missed")
	if err := r.Failover(ctx); err != nil {
		t.Fatal(err)
	}
	holds("replicated")
	r.Kill()
	if err := r.Restart(ctx, Empty); err != nil {
		t.Fatal(err)
	}
	holds("")
}

func TestNoPortIsGivenOutTwice(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		port, err := freePorts(3)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if seen[port+10*i] {
				t.Fatalf("port %d, twice", port+10*i)
			}
			seen[port+10*i] = true
		}
	}
}
