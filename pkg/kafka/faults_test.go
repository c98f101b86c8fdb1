package kafka

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is a broker that can be made to fail.
func cluster(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, Config) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, Config{Brokers: c.ListenAddrs()}
}

// values reads n values of a partition from its beginning, and fails if there are more.
func values(t *testing.T, l *Log, topic string, partition int32) []string {
	t.Helper()
	var got []string
	err := Range(t.Context(), l, topic, Earliest, Latest, func(r *stream.Record) error {
		if r.Partition == partition {
			got = append(got, string(r.Value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestALostAcknowledgementAppendsNothingTwice(t *testing.T) {
	c, config := cluster(t)
	l := open(t, config)
	topic := create(t, l, "", 1)
	// kfake appends first, then answers with the fault.
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 3})
	defer fault.Remove()
	p, err := l.Producer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 5 {
		if _, err := p.Produce(within(t, time.Minute), topic, 0, []stream.Message{message(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(i))
	}
	if got := values(t, l, topic, 0); !slices.Equal(got, want) || fault.Hits() != 3 {
		t.Errorf("the log holds %q after %d lost acknowledgements", got, fault.Hits())
	}
}

func TestAProducerIsSpentAfterAnError(t *testing.T) {
	c, config := cluster(t)
	l := open(t, config)
	topic := create(t, l, "", 1)
	p, err := l.Producer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed})
	if _, err := p.Produce(within(t, time.Minute), topic, 0, []stream.Message{message("refused")}); err == nil {
		t.Fatal("no error")
	}
	// Its next sequence number is unknown: another record under a number that the broker has seen would vanish.
	if _, err := p.Produce(t.Context(), topic, 0, []stream.Message{message("another")}); !errors.Is(err, errSpent) {
		t.Errorf("%v", err)
	}
}

func TestReadingAndWritingFollowTheLeader(t *testing.T) {
	c, config := cluster(t, kfake.NumBrokers(4))
	l := open(t, config)
	const topic = "moving"
	// One replica: followers answer fetches, too.
	if _, err := l.admin.CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	if err := c.MoveTopicPartition(topic, 0, 0); err != nil {
		t.Fatal(err)
	}
	w := writer(t, l, stream.Run{ID: "r1"})
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	var got []string
	done := make(chan error, 1)
	go func() {
		done <- Tail(ctx, l, topic, Earliest, func(r *stream.Record) error {
			if got = append(got, string(r.Value)); len(got) == 40 {
				cancel()
			}
			return nil
		})
	}()
	leaders := []int32{0, 1, 2, 0, 1, 2, 0, 3} // nobody finds the last by staying where he was
	for i := range 40 {
		if i%5 == 0 {
			if err := c.MoveTopicPartition(topic, 0, leaders[i/5]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Write(within(t, time.Minute), topic, nil, []byte(strconv.Itoa(i)), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i, v := range got {
		if v != strconv.Itoa(i) {
			t.Fatalf("record %d is %q", i, v)
		}
	}
}

func TestAGroupFollowsItsCoordinator(t *testing.T) {
	c, config := cluster(t, kfake.NumBrokers(3))
	l := open(t, config)
	topic := create(t, l, "", 2)
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	defer cancel()
	works := make(chan int32, 16)
	done := make(chan error, 1)
	go func() {
		done <- l.Consume(ctx, "g", topic, func(ctx context.Context, a stream.Assignment) {
			works <- a.Partition()
			<-ctx.Done()
		})
	}()
	for range 3 {
		for range 2 {
			select {
			case <-works:
			case <-ctx.Done():
				t.Fatal("the group did not come back")
			}
		}
		c.RehashCoordinators()
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.NotCoordinator})
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whoever writes with the new number of partitions puts keys elsewhere: the runtime refuses that, as soon as it is told.
func TestAGroupNoticesThatItsTopicHasGrown(t *testing.T) {
	l := open(t, embedded(t))
	topic := create(t, l, "", 1)
	ctx, cancel := context.WithCancel(within(t, time.Minute))
	defer cancel()
	works := make(chan int32, 16)
	done := make(chan error, 1)
	go func() {
		done <- l.Consume(ctx, "g", topic, func(ctx context.Context, a stream.Assignment) {
			works <- a.Partition()
			<-ctx.Done()
		})
	}()
	<-works
	if _, err := l.admin.UpdatePartitions(ctx, 2, topic); err != nil {
		t.Fatal(err)
	}
	for p := int32(0); p != 1; {
		select {
		case p = <-works:
		case <-ctx.Done():
			t.Fatal("nobody was given the new partition")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestATopicThatGrewMeanwhileIsNoticed: between the join and the first look, or while nobody could tell how many there were.
func TestATopicThatGrewMeanwhileIsNoticed(t *testing.T) {
	l := open(t, embedded(t))
	topic := create(t, l, "", 2)
	for _, known := range []int{1, 0} {
		if n := l.grown(within(t, time.Minute), topic, known); n != 2 {
			t.Errorf("%d were known, and %d are", known, n)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if n := l.grown(ctx, topic, 2); n != 2 || ctx.Err() == nil {
		t.Errorf("2 were known, it returned %d before it had to", n)
	}
}

func TestLeavingDoesNotWaitForAJoinThatHangs(t *testing.T) {
	c, config := cluster(t)
	l := open(t, config)
	topic := create(t, l, "", 1)
	asked := make(chan struct{})
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.SleepControl(func() {
			close(asked)
			<-release
		})
		return nil, nil, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- l.Consume(ctx, "g", topic, func(context.Context, stream.Assignment) {})
	}()
	<-asked
	cancel()
	// kafka-go itself would wait 25 s for the answer.
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-within(t, 15*time.Second).Done():
		t.Error("still waiting for the join")
	}
	close(release)
}

func TestATransactionIsReadWhenItIsCommitted(t *testing.T) { testTransactions(t, embedded(t)) }

func TestRealTransactionIsReadWhenItIsCommitted(t *testing.T) { testTransactions(t, realBroker(t)) }

func testTransactions(t *testing.T, config Config) {
	l := open(t, config)
	topic := create(t, l, "", 1)
	tx, err := kgo.NewClient(kgo.SeedBrokers(config.Brokers...), kgo.TransactionalID(topic), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	ctx := within(t, time.Minute)
	write := func(value string, end kgo.TransactionEndTry) {
		t.Helper()
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	write("kept", kgo.TryCommit)
	write("void", kgo.TryAbort)
	c, err := l.Open(ctx, topic, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Four offsets: two records, two markers. The reader passes all of them, so that its lag is 0.
	var got []string
	for c.Next() < 4 {
		records, err := c.Fetch(ctx, 1<<20, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			got = append(got, string(r.Value))
		}
	}
	_, end, err := l.Bounds(ctx, topic, 0)
	if !slices.Equal(got, []string{"kept"}) || c.End() != 4 || end != 4 || err != nil {
		t.Errorf("read %q to %d of %d (%d, %v)", got, c.Next(), c.End(), end, err)
	}
	if err := tx.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := tx.ProduceSync(ctx, kgo.StringRecord("open")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if records, err := c.Fetch(ctx, 1<<20, 50*time.Millisecond); len(records) != 0 || c.End() != 4 || err != nil {
		t.Errorf("an open transaction: %d records, end %d, %v", len(records), c.End(), err)
	}
	if err := tx.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	var records []stream.Record
	for len(records) == 0 && err == nil {
		records, err = c.Fetch(ctx, 1<<20, time.Second)
	}
	if err != nil || string(records[0].Value) != "open" {
		t.Errorf("%+v, %v", records, err)
	}
}

func TestCompressedInput(t *testing.T)     { testCompression(t, embedded(t)) }
func TestRealCompressedInput(t *testing.T) { testCompression(t, realBroker(t)) }

func testCompression(t *testing.T, config Config) {
	l := open(t, config)
	for name, codec := range map[string]kgo.CompressionCodec{
		"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			topic := create(t, l, "", 1)
			other, err := kgo.NewClient(kgo.SeedBrokers(config.Brokers...), kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic))
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			var records []*kgo.Record
			for i := range 2000 {
				records = append(records, kgo.KeyStringRecord(fmt.Sprint("key-", i%7), fmt.Sprintf(`{"number":%d,"text":"the same in every record"}`, i)))
			}
			if err := other.ProduceSync(within(t, time.Minute), records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			i := 0
			err = Range(t.Context(), l, topic, Offsets(map[int32]int64{0: 0}), Latest, func(r *stream.Record) error {
				if string(r.Key) != string(records[i].Key) || string(r.Value) != string(records[i].Value) || r.Offset != int64(i) {
					return fmt.Errorf("record %d is %d %q %q", i, r.Offset, r.Key, r.Value)
				}
				i++
				return nil
			})
			if err != nil || i != len(records) {
				t.Errorf("%d of %d, %v", i, len(records), err)
			}
		})
	}
}

// child is what TestMain becomes in a process of its own: an embedded broker that says where it is, and lives until it is killed.
func child(dir, port string) {
	n, err := strconv.Atoi(port)
	if err != nil {
		panic(err)
	}
	e, err := StartEmbedded(EmbeddedConfig{Dir: dir, Port: n})
	if err != nil {
		panic(err)
	}
	fmt.Println(e.Addr())
	select {}
}

func startChild(t *testing.T, dir, port string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KAFKA_TEST_DIR="+dir, "KAFKA_TEST_PORT="+port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, addr[:len(addr)-1]
}

func TestTheEmbeddedBrokerSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	cmd, addr := startChild(t, dir, "0")
	config := Config{Brokers: []string{addr}}
	l := open(t, config)
	topic := create(t, l, "", 2)
	w := writer(t, l, stream.Run{ID: "r1"})
	ctx := within(t, time.Minute)
	want := map[string]bool{}
	next := 0
	write := func(n int) {
		t.Helper()
		for range n {
			v := strconv.Itoa(next)
			if err := w.Write(ctx, topic, []byte(v), []byte(v), time.Time{}); err != nil {
				t.Fatal(err)
			}
			want[v] = true
			next++
		}
	}
	write(50)
	port := addr[len("127.0.0.1:"):]
	for range 3 {
		// The kill comes in the middle of writing: the writer rides over it.
		killed := make(chan struct{})
		go func() {
			cmd.Process.Kill()
			cmd.Wait()
			close(killed)
		}()
		<-killed
		written := make(chan struct{})
		go func() {
			defer close(written)
			write(20)
		}()
		cmd, _ = startChild(t, dir, port)
		<-written
	}
	got := map[string]bool{}
	for p := range int32(2) {
		for _, v := range values(t, l, topic, p) {
			if got[v] {
				t.Errorf("%s stands in the log twice", v)
			}
			got[v] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%d acknowledged, %d in the log", len(want), len(got))
	}
}

func TestTheEmbeddedBrokerListensOnTheLoopbackOnly(t *testing.T) {
	e := startEmbedded(t, EmbeddedConfig{Dir: t.TempDir()})
	for _, addr := range e.cluster.ListenAddrs() {
		if len(addr) < 10 || addr[:10] != "127.0.0.1:" {
			t.Errorf("it listens on %s", addr)
		}
	}
}

func TestACursorGoesOnAfterItsConnectionBroke(t *testing.T) {
	l := open(t, embedded(t))
	topic := create(t, l, "", 1)
	w := writer(t, l, stream.Run{ID: "r1"})
	ctx := within(t, time.Minute)
	c, err := l.Open(ctx, topic, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range int64(3) {
		if err := w.Write(ctx, topic, nil, []byte("x"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		c.(*cursor).conn.Close()
		if _, err := c.Fetch(ctx, 1<<20, 0); err == nil {
			t.Fatal("a broken connection is no error")
		}
		if records, err := c.Fetch(ctx, 1<<20, time.Minute); err != nil || len(records) != 1 || records[0].Offset != i {
			t.Fatalf("after it: %+v, %v", records, err)
		}
	}
}
