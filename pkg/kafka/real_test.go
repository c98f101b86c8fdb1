package kafka

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// TestRealBrokerIsKilled kills a Kafka broker of its own while records are written and read: each acknowledged one stands
// in the log exactly once, and the reader has seen it exactly once.
func TestRealBrokerIsKilled(t *testing.T) {
	realBroker(t)
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no Java: this test starts and kills a broker by deployments/kafka/brokers")
	}
	dir := t.TempDir()
	brokers := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("../../deployments/kafka/brokers", args...).CombinedOutput(); err != nil {
			t.Fatalf("brokers %v: %v\n%s", args, err, out)
		}
	}
	port := strconv.Itoa(freePorts(t))
	t.Cleanup(func() { brokers("down", dir) })
	brokers("up", dir, "1", port)
	l := open(t, Config{Brokers: []string{"127.0.0.1:" + port}})
	topic := create(t, l, "", 4)
	w := writer(t, l, stream.Run{ID: "r1"})
	const writers, each = 4, 300
	ctx := within(t, 5*time.Minute)
	seen := map[string]int{}
	read := make(chan error, 1)
	tail, stop := context.WithCancel(ctx)
	go func() {
		read <- Tail(tail, l, topic, Earliest, func(r *stream.Record) error {
			if seen[string(r.Value)]++; len(seen) == writers*each {
				stop()
			}
			return nil
		})
	}()
	var all sync.WaitGroup
	half := make(chan struct{}, writers)
	for k := range writers {
		all.Go(func() {
			for i := range each {
				if i == each/2 {
					half <- struct{}{}
				}
				v := []byte(strconv.Itoa(k*each + i))
				if err := w.Write(ctx, topic, v, v, time.Time{}); err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	<-half
	brokers("kill", dir, "1")
	brokers("start", dir, "1")
	all.Wait()
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	got := 0
	for p := range int32(4) {
		got += len(values(t, l, topic, p))
	}
	if got != writers*each || len(seen) != writers*each {
		t.Errorf("%d acknowledged, %d in the log, %d seen", writers*each, got, len(seen))
	}
	for v, n := range seen {
		if n != 1 {
			t.Errorf("%s was seen %d times", v, n)
		}
	}
}

// freePorts returns a port that is free, as is the one above it.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := a.Addr().(*net.TCPAddr).Port
		b, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		a.Close()
		if err == nil {
			b.Close()
			return port
		}
	}
	t.Fatal("no two free ports in a row")
	return 0
}
