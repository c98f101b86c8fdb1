package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

// TestStoreByTheMapOfACluster: the embedded server says that it is a cluster of one.
func TestStoreByTheMapOfACluster(t *testing.T) { alone(t, Config{Addr: embedded(t), Cluster: true}) }

func TestRealClusterStore(t *testing.T) {
	c := startCluster(t, 0)
	alone(t, Config{Addr: c.addrs()})
}

func TestRealClusterIsFoundFromOneNode(t *testing.T) {
	c := startCluster(t, 0)
	config := Config{Addr: c.servers[0].addr, Cluster: true}
	s := open(t, config)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	servers, err := s.Servers(t.Context(), "maxmemory-policy")
	if err != nil || len(servers) != 3 {
		t.Fatalf("%d servers, %v", len(servers), err)
	}
	for _, one := range servers {
		if one.Info["cluster_enabled"] != "1" || one.Settings["maxmemory-policy"] != "noeviction" || !one.Clock {
			t.Errorf("%s says of itself: %v, %v, clock %v", one.Addr, one.Info["cluster_enabled"], one.Settings, one.Clock)
		}
	}
	for _, wrong := range []struct {
		config Config
		says   string
	}{
		{Config{Addr: c.servers[0].addr}, "set REDIS_CLUSTER=true"},
		{Config{Addr: c.addrs(), DB: 1}, "database 0 only"},
		{Config{Addr: real(t), Cluster: true}, "leave REDIS_CLUSTER out"},
	} {
		if s, err := Open(t.Context(), wrong.config); err == nil || !strings.Contains(err.Error(), wrong.says) {
			t.Errorf("%+v: got %v, %v, want %q", wrong.config, s, err, wrong.says)
		}
	}
}

// committer commits one record after the other to a partition, as the runtime does: what fails is tried again, and any answer
// that says that the partition is not ours is a mistake here, where nobody else claims it.
type committer struct {
	lease stream.Lease
	tag   string
	done  int64 // commits acknowledged
	tried int   // failures on the way
}

func (w *committer) work(ctx context.Context, until func() bool) error {
	for !until() {
		c := commitAt(w.done)
		if err := w.retry(ctx, func() error { return w.lease.Commit(ctx, c) }); err != nil {
			return fmt.Errorf("%s: commit %d: %w", w.tag, w.done, err)
		}
		w.done++
		values := make([][]byte, 1)
		if err := w.retry(ctx, func() error { return w.lease.Load(ctx, c.Keys[:1], values) }); err != nil {
			return fmt.Errorf("%s: load after commit %d: %w", w.tag, w.done, err)
		}
		if string(values[0]) != fmt.Sprint(w.done) {
			return fmt.Errorf("%s: loaded %q, want %d", w.tag, values[0], w.done)
		}
	}
	return nil
}

// commitAt is the commit after n: a state that counts, one of its own, and a timer in place of that of the commit before.
func commitAt(n int64) *stream.Commit {
	at := func(n int64) map[string]int64 {
		if n == 0 {
			return nil
		}
		return map[string]int64{"in": n}
	}
	value := fmt.Append(nil, n+1)
	return &stream.Commit{Base: at(n), Next: at(n + 1), Partitions: 8, Keys: []string{"count", fmt.Sprint("own-", n)}, Values: [][]byte{value, value},
		Outbox: value, Timers: []stream.Timer{{Key: "count", ID: "next", Due: time.UnixMilli(1_790_000_000_000 + n).UTC()}}}
}

func (w *committer) retry(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		if err == nil || errors.Is(err, stream.ErrFenced) || errors.Is(err, stream.ErrOffset) || errors.Is(err, stream.ErrLost) || ctx.Err() != nil {
			return err
		}
		w.tried++
		time.Sleep(20 * time.Millisecond)
	}
}

// verify compares what is stored with what was acknowledged.
func (w *committer) verify(t *testing.T, s *Store, group string, partition int32) {
	t.Helper()
	names := []string{"count"}
	for i := range w.done {
		names = append(names, fmt.Sprint("own-", i))
	}
	var snapshot stream.Snapshot
	wait(t, "the partition is read", func() (ok bool) {
		var err error
		snapshot, err = s.Read(t.Context(), group, partition, names)
		return err == nil
	})
	if snapshot.Positions["in"] != w.done || string(snapshot.Values[0]) != fmt.Sprint(w.done) || string(snapshot.Outbox) != fmt.Sprint(w.done) {
		t.Errorf("%s: stored position %v, count %q, outbox %q, acknowledged %d", w.tag, snapshot.Positions, snapshot.Values[0], snapshot.Outbox, w.done)
	}
	for i, v := range snapshot.Values[1:] {
		if string(v) != fmt.Sprint(i+1) {
			t.Fatalf("%s: what commit %d wrote is %q", w.tag, i, v)
		}
	}
	if due, _, err := w.lease.Due(t.Context(), time.UnixMilli(1_800_000_000_000), 10); err != nil || len(due) != 1 || due[0].Due.UnixMilli() != 1_790_000_000_000+w.done-1 {
		t.Errorf("%s: timers %v, %v", w.tag, due, err)
	}
}

// fleet claims eight partitions and has each worked on until stop; what happens meanwhile is up to the test.
func fleet(t *testing.T, s *Store, group string) (workers []*committer, stop func()) {
	t.Helper()
	var over atomic.Bool
	var all sync.WaitGroup
	var finish sync.Once
	errs := make([]error, 8)
	for p := range int32(8) {
		w := &committer{tag: fmt.Sprintf("partition %d", p)}
		if err := w.retry(t.Context(), func() (err error) { w.lease, err = s.Claim(t.Context(), group, p); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.lease.Close() })
		workers = append(workers, w)
	}
	for i, w := range workers {
		all.Go(func() { errs[i] = w.work(t.Context(), over.Load) })
	}
	stop = func() {
		finish.Do(func() {
			over.Store(true)
			all.Wait()
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { over.Store(true); all.Wait() })
	return workers, stop
}

// slotOf asks the cluster.
func (c *trio) slotOf(t *testing.T, group string, partition int32) int {
	t.Helper()
	meta, _, _ := keys(group, partition)
	n, ok := c.do(t, 0, "cluster", "keyslot", meta).(int64)
	if !ok {
		t.Fatal("keyslot answered no number")
	}
	return int(n)
}

// TestRealClusterReshards moves the slots of partitions from server to server while they are committed to. Nothing is lost,
// nothing is applied twice, and a zombie of before is fenced wherever the partition has gone.
func TestRealClusterReshards(t *testing.T) {
	c := startCluster(t, 0)
	s, group := open(t, Config{Addr: c.addrs()}), newGroup()
	zombie, err := open(t, Config{Addr: c.addrs()}).Claim(t.Context(), group, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer zombie.Close()
	workers, stop := fleet(t, s, group)
	for round := range 3 {
		for p := range int32(8) {
			slot := c.slotOf(t, group, p)
			c.move(t, slot, (c.owner(t, slot)+1)%3, func() {
				if round == 0 {
					time.Sleep(100 * time.Millisecond) // meta and states are on different servers
				}
			})
		}
	}
	stop()
	tried := 0
	for p, w := range workers {
		w.verify(t, s, group, int32(p))
		if w.done == 0 {
			t.Errorf("partition %d was never committed to", p)
		}
		tried += w.tried
	}
	if tried == 0 {
		t.Error("no request ever met a slot that was moving: this test proves nothing")
	}
	t.Logf("%d commits acknowledged by the first partition; %d requests of all had to be repeated", workers[0].done, tried)
	late := &committer{}
	next := commitAt(workers[0].done)
	if err := late.retry(t.Context(), func() error { return zombie.Commit(t.Context(), next) }); !errors.Is(err, stream.ErrFenced) {
		t.Errorf("the zombie's commit: %v", err)
	}
}

// TestRealClusterFailsOver kills a primary whose replica takes over. With REDIS_DURABLE nothing that was acknowledged is lost.
func TestRealClusterFailsOver(t *testing.T) {
	c := startCluster(t, 3)
	s, group := open(t, Config{Addr: c.addrs(), Durable: "replicas:1"}), newGroup()
	s.patience = 500 * time.Millisecond
	workers, stop := fleet(t, s, group)
	victim := c.owner(t, c.slotOf(t, group, 0))
	progress := func(p int32) {
		t.Helper()
		peek := func() int64 {
			snapshot, err := s.Peek(t.Context(), group, p, nil)
			if err != nil {
				return -1
			}
			return snapshot.Positions["in"]
		}
		var from int64 = -1
		wait(t, fmt.Sprintf("partition %d goes on", p), func() bool {
			at := peek()
			if from < 0 {
				from = at
			}
			return from >= 0 && at > from
		})
	}
	progress(0)
	// By hand first: the replica becomes the primary, and the primary its replica.
	c.do(t, 3+victim, "cluster", "failover")
	wait(t, "the replica is primary", func() bool {
		return strings.Contains(c.admin[3+victim].Info(context.Background(), "replication").Val(), "role:master")
	})
	wait(t, "the primary is its replica", func() bool {
		return strings.Contains(c.admin[victim].Info(context.Background(), "replication").Val(), "master_link_status:up")
	})
	progress(0)
	// Then the hard way. Nobody is left to confirm its commits, so the lease waits; what was confirmed must be there.
	c.servers[3+victim].kill()
	wait(t, "the other one is primary again", func() bool {
		return strings.Contains(c.admin[victim].Info(context.Background(), "replication").Val(), "role:master")
	})
	for p := range int32(8) {
		if c.owns(t, victim, c.slotOf(t, group, p)) {
			continue // waits for a replica that is dead
		}
		progress(p)
	}
	c.servers[3+victim].start(t) // and is a replica again
	progress(0)
	stop()
	for p, w := range workers {
		w.verify(t, s, group, int32(p))
	}
}
