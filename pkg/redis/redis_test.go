package redis

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// embedded starts a server that keeps nothing.
func embedded(t testing.TB) string {
	t.Helper()
	e, err := StartEmbedded("", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e.Addr()
}

// real is the address of the Redis that scripts/real started.
func real(t testing.TB) string {
	t.Helper()
	addr := os.Getenv("REDIS_ADDR")
	if os.Getenv("TEMPISMO_REAL") == "" || addr == "" {
		t.Skip("needs a real Redis: run it with scripts/real")
	}
	return addr
}

func open(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newGroup is a group that no other test uses.
func newGroup() string { return fmt.Sprintf("test.%x", rand.Uint64()) }

// suite runs stream's conformance suite against a server or a cluster. Losses and rollbacks are the work of admin.
func suite(t *testing.T, c, admin Config) {
	ctx := context.Background()
	shared := open(t, admin)
	at := func(t *testing.T, key string) *goredis.Client {
		client, err := shared.node(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	lose := func(t *testing.T, group string, partition int32) {
		meta, state, timers := keys("sim."+group, partition)
		if err := at(t, meta).Del(ctx, meta, state, timers).Err(); err != nil {
			t.Fatal(err)
		}
	}
	streamtest.TestStore(t, streamtest.StoreHarness{
		Open: func(t *testing.T) stream.Store { return simulated{open(t, c)} },
		Lose: lose,
		Snapshot: func(t *testing.T, group string, partition int32) func() {
			meta, state, timers := keys("sim."+group, partition)
			client := at(t, meta)
			due, err := client.ZRangeWithScores(ctx, timers, 0, -1).Result()
			if err != nil {
				t.Fatal(err)
			}
			before := map[string]map[string]string{}
			for _, key := range []string{meta, state} {
				if before[key], err = client.HGetAll(ctx, key).Result(); err != nil {
					t.Fatal(err)
				}
			}
			return func() {
				lose(t, group, partition)
				if len(due) > 0 {
					if err := client.ZAdd(ctx, timers, due...).Err(); err != nil {
						t.Fatal(err)
					}
				}
				for key, fields := range before {
					if len(fields) == 0 {
						continue
					}
					if err := client.HSet(ctx, key, fields).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
	})
}

// simulated gives the suite's groups names as those of a run have them: an ACL knows them by their beginning.
type simulated struct{ *Store }

func (s simulated) Claim(ctx context.Context, group string, partition int32) (stream.Lease, error) {
	return s.Store.Claim(ctx, "sim."+group, partition)
}

func (s simulated) Read(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	return s.Store.Read(ctx, "sim."+group, partition, keys)
}

func (s simulated) Peek(ctx context.Context, group string, partition int32, keys []string) (stream.Snapshot, error) {
	return s.Store.Peek(ctx, "sim."+group, partition, keys)
}

func (s simulated) Scan(ctx context.Context, group string, partition int32, each func(string, []byte) bool) error {
	return s.Store.Scan(ctx, "sim."+group, partition, each)
}

func (s simulated) Page(ctx context.Context, group string, partition int32, cursor uint64, limit int) ([]string, [][]byte, uint64, error) {
	return s.Store.Page(ctx, "sim."+group, partition, cursor, limit)
}

func alone(t *testing.T, c Config) { suite(t, c, c) }

func TestStoreOnEmbedded(t *testing.T) { alone(t, Config{Addr: embedded(t)}) }
func TestRealStore(t *testing.T)       { alone(t, Config{Addr: real(t)}) }

// A program that does not know what a newer one has stored neither takes it over nor reads it, and the newer one is not fenced.
func TestANewerFormatIsRefused(t *testing.T)     { newerFormat(t, Config{Addr: embedded(t)}) }
func TestRealANewerFormatIsRefused(t *testing.T) { newerFormat(t, Config{Addr: real(t)}) }

func newerFormat(t *testing.T, c Config) {
	ctx, s, group := t.Context(), open(t, c), newGroup()
	newer, err := s.Claim(ctx, group, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	at := map[string]int64{"a": 1}
	if err := newer.Commit(ctx, &stream.Commit{Next: at, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	meta, _, _ := keys(group, 0)
	if err := s.single.HSet(ctx, meta, fieldFormat, format+1).Err(); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, stream.ErrFormat) || !strings.Contains(err.Error(), fmt.Sprintf("version %d", format+1)) || !strings.Contains(err.Error(), "docs/operations.md") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = s.Claim(ctx, group, 0)
	refused("claim", err)
	_, err = s.Read(ctx, group, 0, nil)
	refused("read", err)
	_, err = s.Peek(ctx, group, 0, nil)
	refused("peek", err)
	next := &stream.Commit{Base: at, Next: map[string]int64{"a": 2}, Partitions: 1}
	if newer.Commit(ctx, next) == nil { // it watches the hash that we have written to
		t.Error("the newer one did not notice")
	}
	if err := newer.Commit(ctx, next); err != nil {
		t.Errorf("the newer one cannot go on: %v", err)
	}
	// What was written before there was a number is of format 1.
	if err := s.single.HDel(ctx, meta, fieldFormat).Err(); err != nil {
		t.Fatal(err)
	}
	if l, err := s.Claim(ctx, group, 0); err != nil || l.Meta().Positions["a"] != 2 {
		t.Errorf("what has no number: %v", err)
	} else {
		l.Close()
	}
}

// TestALostStateDoesNotComeBack covers what the suite cannot reach: only the meta hash is gone.
func TestALostStateDoesNotComeBack(t *testing.T) {
	ctx, s, group := t.Context(), open(t, Config{Addr: embedded(t)}), newGroup()
	l, err := s.Claim(ctx, group, 0)
	if err != nil {
		t.Fatal(err)
	}
	timers := []stream.Timer{{Key: "ann", ID: "a", Due: time.UnixMilli(1_790_000_000_000)}}
	if err := l.Commit(ctx, &stream.Commit{Next: map[string]int64{"in": 1}, Keys: []string{"ann"}, Values: [][]byte{[]byte("1")}, Timers: timers, Partitions: 8}); err != nil {
		t.Fatal(err)
	}
	meta, _, _ := keys(group, 0)
	if err := s.single.Del(ctx, meta).Err(); err != nil {
		t.Fatal(err)
	}
	if l, err = s.Claim(ctx, group, 0); err != nil || !l.Meta().Lost {
		t.Fatalf("claim: %v", err)
	}
	values := [][]byte{nil}
	if err := l.Load(ctx, []string{"ann"}, values); err != nil || values[0] != nil {
		t.Errorf("a state without a position came back, and a rebuild would count on top of it: %q, %v", values[0], err)
	}
	if due, next, err := l.Due(ctx, timers[0].Due, 1); err != nil || len(due) > 0 || !next.IsZero() {
		t.Errorf("a timer without a position came back: %v, %v, %v", due, next, err)
	}
}

// flaky is a proxy before a server that, when told to, passes a request on, drops the reply and closes the connection.
type flaky struct {
	net.Listener
	server string
	drop   atomic.Bool
}

func startFlaky(t *testing.T, server string) *flaky {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Listener: ln, server: server}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go f.pass(c)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return f
}

func (f *flaky) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", f.server)
	if err != nil {
		return
	}
	go func() {
		io.Copy(server, client)
		server.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err == nil && f.drop.Load() {
			// miniredis answers one command of a pipeline after another: the rest of it has to take place, too.
			server.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, server)
		}
		if err != nil || f.drop.Load() {
			server.Close()
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			server.Close()
			return
		}
	}
}

func lostReply(t *testing.T, addr string) {
	proxy := startFlaky(t, addr)
	ctx, group := t.Context(), newGroup()
	s := open(t, Config{Addr: proxy.Addr().String()})
	l, err := s.Claim(ctx, group, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int64) map[string]int64 { return map[string]int64{"in": n} }
	first := &stream.Commit{Next: at(1), Keys: []string{"ann"}, Values: [][]byte{[]byte("1")}, Partitions: 8}
	if err := l.Commit(ctx, first); err != nil {
		t.Fatal(err)
	}

	second := &stream.Commit{Base: at(1), Next: at(2), Keys: []string{"ann"}, Values: [][]byte{[]byte("2")}, Outbox: []byte("out"), Partitions: 8}
	proxy.drop.Store(true)
	err = l.Commit(ctx, second)
	if err == nil || errors.Is(err, stream.ErrFenced) || errors.Is(err, stream.ErrOffset) || errors.Is(err, stream.ErrLost) {
		t.Fatalf("a lost reply is transient, got %v", err)
	}
	proxy.drop.Store(false)
	if snapshot, err := open(t, Config{Addr: addr}).Read(ctx, group, 0, []string{"ann"}); err != nil || string(snapshot.Values[0]) != "2" {
		t.Fatalf("the commit whose reply was lost should have been applied: %q, %v", snapshot.Values, err)
	}
	if err := l.Commit(ctx, second); err != nil {
		t.Fatalf("the repeated commit: %v", err)
	}
	if err := l.Check(ctx); err != nil {
		t.Errorf("check: %v", err)
	}
	third := &stream.Commit{Base: at(2), Next: at(3), Keys: []string{"ann"}, Values: [][]byte{[]byte("3")}, Partitions: 8}
	if err := l.Commit(ctx, third); err != nil {
		t.Errorf("the commit after: %v", err)
	}
}

func TestALostReplyIsRepeatedUnharmed(t *testing.T)     { lostReply(t, embedded(t)) }
func TestRealALostReplyIsRepeatedUnharmed(t *testing.T) { lostReply(t, real(t)) }

// lateRequest lets the first attempt of a commit arrive when the second one has already begun its watch.
func lateRequest(t *testing.T, addr string) {
	ctx, group := t.Context(), newGroup()
	s := open(t, Config{Addr: addr})
	claimed, err := s.Claim(ctx, group, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer claimed.Close()
	early := claimed.(*lease)
	c := &stream.Commit{Next: map[string]int64{"in": 1}, Keys: []string{"ann"}, Values: [][]byte{[]byte("1")}, Partitions: 8}
	if _, err := early.watch(ctx); err != nil {
		t.Fatal(err)
	}
	early.watching = true
	late := &lease{store: s, metaKey: early.metaKey, stateKey: early.stateKey, token: early.token}
	defer late.Close()
	if _, err := late.watch(ctx); err != nil {
		t.Fatal(err)
	}
	late.watching = true

	if err := early.Commit(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := late.Commit(ctx, c); err != nil {
		t.Fatalf("what the first attempt has written is what the second one wanted: %v", err)
	}
	next := &stream.Commit{Base: c.Next, Next: map[string]int64{"in": 2}, Keys: []string{"ann"}, Values: [][]byte{[]byte("2")}, Partitions: 8}
	if err := late.Commit(ctx, next); err != nil {
		t.Fatalf("the commit after: %v", err)
	}
	if err := early.Commit(ctx, &stream.Commit{Base: c.Next, Next: map[string]int64{"in": 3}, Partitions: 8}); !errors.Is(err, stream.ErrOffset) {
		t.Errorf("a commit from positions that have passed: %v", err)
	}
}

func TestARequestThatArrivesLateIsRecognised(t *testing.T)     { lateRequest(t, embedded(t)) }
func TestRealARequestThatArrivesLateIsRecognised(t *testing.T) { lateRequest(t, real(t)) }

// TestAClaimBetweenTwoCommandsFences puts the heir's claim where no call of ours ends: after the look that begins the
// first commit, and between a commit and the watch for the next one, which are parts of one round trip.
func TestAClaimBetweenTwoCommandsFences(t *testing.T) {
	e, err := StartEmbedded("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, s := t.Context(), open(t, Config{Addr: e.Addr()})
	at := func(n int64) map[string]int64 { return map[string]int64{"in": n} }
	for _, c := range []struct {
		name   string
		before string // the command that the claim comes before, once
		count  int    // of those commands, from the claim on
		want   string // what is stored in the end
	}{
		{"after the look that begins the first commit", "MULTI", 1, ""},
		{"between a commit and the watch for the next one", "WATCH", 2, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			group := newGroup()
			l, err := s.Claim(ctx, group, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			meta, _, _ := keys(group, 0)
			left := c.count
			e.server.Server().SetPreHook(func(_ *server.Peer, cmd string, _ ...string) bool {
				if strings.EqualFold(cmd, c.before) {
					if left--; left == 0 {
						e.server.HSet(meta, fieldOwner, "the heir")
					}
				}
				return false
			})
			defer e.server.Server().SetPreHook(nil)
			first := l.Commit(ctx, &stream.Commit{Next: at(1), Keys: []string{"ann"}, Values: [][]byte{[]byte("1")}, Partitions: 8})
			second := l.Commit(ctx, &stream.Commit{Base: at(1), Next: at(2), Keys: []string{"ann"}, Values: [][]byte{[]byte("2")}, Partitions: 8})
			if c.want == "" && !errors.Is(first, stream.ErrFenced) || c.want != "" && first != nil || !errors.Is(second, stream.ErrFenced) {
				t.Errorf("the commits answered: %v; %v", first, second)
			}
			got, err := s.Read(ctx, group, 0, []string{"ann"})
			if err != nil || string(got.Values[0]) != c.want {
				t.Errorf("stored %q, want %q, %v", got.Values[0], c.want, err)
			}
		})
	}
}

// TestATouchedWatchIsTransient: an operator who looks into the hash with a write must not cost the owner his lease.
func TestATouchedWatchIsTransient(t *testing.T) {
	ctx, group, s := t.Context(), newGroup(), open(t, Config{Addr: embedded(t)})
	l, err := s.Claim(ctx, group, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := func(n int64) map[string]int64 { return map[string]int64{"in": n} }
	if err := l.Commit(ctx, &stream.Commit{Next: at(1), Partitions: 8}); err != nil {
		t.Fatal(err)
	}
	meta, _, _ := keys(group, 0)
	if err := s.single.HSet(ctx, meta, "note", "seen").Err(); err != nil {
		t.Fatal(err)
	}
	c := &stream.Commit{Base: at(1), Next: at(2), Keys: []string{"ann"}, Values: [][]byte{[]byte("2")}, Partitions: 8}
	if err := l.Commit(ctx, c); err == nil || errors.Is(err, stream.ErrOffset) || errors.Is(err, stream.ErrFenced) || errors.Is(err, stream.ErrLost) {
		t.Fatalf("got %v, want a transient error", err)
	}
	if err := l.Commit(ctx, c); err != nil {
		t.Errorf("repeated: %v", err)
	}
}

// TestAFailedWriteIsAnError: a transaction in Redis does not undo what went before a command that fails.
func TestAFailedWriteIsAnError(t *testing.T) {
	ctx, group, s := t.Context(), newGroup(), open(t, Config{Addr: embedded(t)})
	l, err := s.Claim(ctx, group, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, state, _ := keys(group, 0)
	if err := s.single.Set(ctx, state, "not a hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(ctx, &stream.Commit{Next: map[string]int64{"in": 1}, Keys: []string{"ann"}, Values: [][]byte{{}}, Partitions: 8}); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("got %v", err)
	}
}

func TestRealDurableNeedsItsReplicas(t *testing.T) {
	addr := real(t) // a server without replicas
	s, err := Open(t.Context(), Config{Addr: addr, Durable: "replicas:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.patience = 10 * time.Millisecond
	l, err := s.Claim(t.Context(), newGroup(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := &stream.Commit{Next: map[string]int64{"in": 1}, Partitions: 8}
	// Repeated, it is found written, and still no replica has it.
	for range 2 {
		if err := l.Commit(t.Context(), c); err == nil || !strings.Contains(err.Error(), "0 of 1 replicas") {
			t.Errorf("a commit that no replica has: %v", err)
		}
	}
}

func TestRealOpenRefusesAServerThatForgets(t *testing.T) {
	addr := real(t)
	admin := goredis.NewClient(&goredis.Options{Addr: addr})
	defer admin.Close()
	if err := admin.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	defer admin.ConfigSet(context.Background(), "maxmemory-policy", "noeviction")
	if s, err := Open(t.Context(), Config{Addr: addr}); err == nil || !strings.Contains(err.Error(), "noeviction") {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestOpenSaysWhatItCouldNotCheck(t *testing.T) {
	if got := open(t, Config{Addr: embedded(t)}).Unchecked(); len(got) != 1 || !strings.HasPrefix(got[0], "maxmemory-policy") {
		t.Errorf("got %q", got)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		wrong  []string
	}{
		{"an address is enough", Config{Addr: "redis:6379"}, nil},
		{"several are a cluster", Config{Addr: "a:6379,b:6379"}, nil},
		{"each of several is looked at", Config{Addr: "a:6379, b", DB: 1}, []string{"REDIS_ADDR", "REDIS_DB"}},
		{"everything set", Config{Addr: "redis:6379", Username: "u", Password: "p", TLS: true, CAFile: "ca.pem", Durable: "replicas:2"}, nil},
		{"every problem is named", Config{Addr: "redis", DB: -1, CAFile: "ca.pem", Username: "u", Durable: "replicas:0"}, []string{"REDIS_ADDR", "REDIS_DB", "REDIS_CA_FILE", "REDIS_USERNAME", "REDIS_DURABLE"}},
		{"durable needs a number", Config{Addr: "redis:1", Durable: "replicas:"}, []string{"REDIS_DURABLE"}},
		{"durable has one kind", Config{Addr: "redis:1", Durable: "disks:2"}, []string{"REDIS_DURABLE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.config.Validate()
			if (err == nil) != (len(c.wrong) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, w := range c.wrong {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not named in: %v", w, err)
				}
			}
		})
	}
}

func TestEmbeddedKeepsItsStateOverACleanStop(t *testing.T) {
	dir, ctx, group := t.TempDir(), t.Context(), newGroup()
	binary := []byte{0, 255, '\r', '\n', 0}
	start := func() (*Embedded, *Store) {
		e, err := StartEmbedded(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e, open(t, Config{Addr: e.Addr()})
	}

	e, s := start()
	l, err := s.Claim(ctx, group, 2)
	if err != nil {
		t.Fatal(err)
	}
	c := &stream.Commit{Next: map[string]int64{"in": 1}, Keys: []string{"ann", "bob"}, Values: [][]byte{binary, {}}, Partitions: 8, Partition: binary,
		Timers: []stream.Timer{{Key: string(binary), ID: "1", Due: time.UnixMilli(1_790_000_000_001).UTC()}}}
	if err := l.Commit(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	e, s = start()
	got, err := s.Read(ctx, group, 2, []string{"ann", "bob"})
	if err != nil || got.Lost || !bytes.Equal(got.Values[0], binary) || got.Values[1] == nil || !bytes.Equal(got.Partition, binary) {
		t.Fatalf("after a clean stop: %+v, %v", got, err)
	}
	if l, err = s.Claim(ctx, group, 2); err != nil {
		t.Fatal(err)
	}
	if due, _, err := l.Due(ctx, c.Timers[0].Due, 10); err != nil || len(due) != 1 || due[0] != c.Timers[0] {
		t.Errorf("timers after a clean stop: %+v, %v", due, err)
	}

	// This one is killed: it leaves no snapshot, and the old one must not pass for the state.
	if _, err := os.Stat(filepath.Join(dir, snapshotName)); !os.IsNotExist(err) {
		t.Errorf("the snapshot is still there: %v", err)
	}
	e.server.Close()
	_, s = start()
	if got, err = s.Read(ctx, group, 2, nil); err != nil || !got.Lost {
		t.Errorf("after a kill: %+v, %v", got, err)
	}
}

func TestTheServerIsRestarted(t *testing.T) {
	dir, ctx, group := t.TempDir(), t.Context(), newGroup()
	e, err := StartEmbedded(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := net.SplitHostPort(e.Addr())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	restart := func(dir string) *Embedded {
		t.Helper()
		e, err := StartEmbedded(dir, port)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	s := open(t, Config{Addr: e.Addr()})
	l, err := s.Claim(ctx, group, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := func(n int64) map[string]int64 { return map[string]int64{"in": n} }
	if err := l.Commit(ctx, &stream.Commit{Next: at(1), Partitions: 8}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	c := &stream.Commit{Base: at(1), Next: at(2), Keys: []string{"ann"}, Values: [][]byte{[]byte("2")}, Partitions: 8}
	err = l.Commit(ctx, c)
	if err == nil || errors.Is(err, stream.ErrFenced) || errors.Is(err, stream.ErrOffset) || errors.Is(err, stream.ErrLost) {
		t.Fatalf("while nobody serves: %v, want a transient error", err)
	}
	e = restart(dir)
	if err := l.Commit(ctx, c); err != nil {
		t.Fatalf("after a restart that kept the state: %v", err)
	}
	e.Close()
	e = restart("")
	defer e.Close()
	for _, call := range []func() error{func() error { return l.Check(ctx) }, func() error { return l.Commit(ctx, c) }} {
		// A call may meet a connection that ended with the server; the runtime repeats it.
		err := call()
		for range 10 {
			if errors.Is(err, stream.ErrLost) {
				break
			}
			err = call()
		}
		if !errors.Is(err, stream.ErrLost) {
			t.Errorf("after a restart that lost the state: %v", err)
		}
	}
}

func TestTLSAndACL(t *testing.T) {
	https := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer https.Close()
	m := miniredis.NewMiniRedis()
	m.RequireUserAuth("tempismo", "hunter2")
	if err := m.StartTLS(&tls.Config{Certificates: https.TLS.Certificates}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	right := Config{Addr: m.Addr(), Username: "tempismo", Password: "hunter2", TLS: true, CAFile: ca}
	for _, c := range []struct {
		name   string
		change func(*Config)
		wrong  string
	}{
		{"the right user over TLS", func(*Config) {}, ""},
		{"a wrong password", func(c *Config) { c.Password = "guess" }, "WRONGPASS"},
		{"an authority that is not trusted", func(c *Config) { c.CAFile = "" }, "certificate"},
		{"a file that holds no certificate", func(c *Config) { c.CAFile = "redis_test.go" }, "no certificate in PEM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := right
			c.change(&config)
			s, err := Open(t.Context(), config)
			if err == nil {
				defer s.Close()
			}
			if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

func TestEmbeddedRefusesATornSnapshot(t *testing.T) {
	dir := t.TempDir()
	e, err := StartEmbedded(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		e.server.HSet(fmt.Sprint("hash", i), "field", "value")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, snapshotName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, len(b) / 2, len(b) - 1} {
		if err := os.WriteFile(path, b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if e, err := StartEmbedded(dir, 0); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%d of %d bytes: got %v, %v", n, len(b), e, err)
		}
	}
}

// BenchmarkCommit is one batch under backlog: 5,000 states of 110 bytes and an outbox.
func BenchmarkCommit(b *testing.B) {
	run := func(b *testing.B, addr string) {
		ctx := context.Background()
		l, err := open(b, Config{Addr: addr}).Claim(ctx, newGroup(), 0)
		if err != nil {
			b.Fatal(err)
		}
		c := &stream.Commit{Partitions: 8, Outbox: make([]byte, 64<<10), Next: map[string]int64{"in": 0}}
		for i := range 5000 {
			c.Keys, c.Values = append(c.Keys, fmt.Sprintf("customer-%d", i)), append(c.Values, make([]byte, 110))
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := l.Commit(ctx, c); err != nil {
				b.Fatal(err)
			}
			c.Base, c.Next = c.Next, map[string]int64{"in": c.Next["in"] + 1}
		}
	}
	b.Run("embedded", func(b *testing.B) { run(b, embedded(b)) })
	b.Run("real", func(b *testing.B) { run(b, real(b)) })
}
