package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Disk is what a primary that was killed finds when it starts again.
type Disk int

const (
	Kept     Disk = iota // everything that it wrote, as after a crash of the process alone
	Unsynced             // what it had written a second before: a power failure takes what was not yet synced
	Empty                // nothing
)

// Restart starts the primary again, and waits until it has loaded. extra are arguments of this one process.
func (r *RedisServers) Restart(ctx context.Context, d Disk, extra ...string) error {
	s := r.primary
	switch d {
	case Unsynced:
		if err := s.tape.cut(time.Now().Add(-syncEvery)); err != nil {
			return err
		}
	case Empty:
		if err := os.RemoveAll(filepath.Join(s.dir, "appendonlydir")); err != nil {
			return err
		}
	}
	if err := s.start(extra...); err != nil {
		return err
	}
	return s.ready(ctx)
}

// syncEvery is what everysec means, and so what a power failure may take back.
const syncEvery = time.Second

// tape remembers how long the append-only file was lately.
type tape struct {
	pattern string
	sizes   []mark
	done    chan struct{} // closed when nothing is noted any more
}

type mark struct {
	at   time.Time
	file string
	size int64
}

// watch notes the length until the server has ended.
func watch(dir string, ended <-chan struct{}) *tape {
	t := &tape{pattern: filepath.Join(dir, "appendonlydir", "*.incr.aof"), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		for {
			t.note()
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ended:
				return
			}
		}
	}()
	return t
}

// note looks at the newest file; the ones before it were synced when it was begun.
func (t *tape) note() {
	files, _ := filepath.Glob(t.pattern) // the pattern is well formed
	if len(files) == 0 {
		return
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	file := files[len(files)-1]
	if info, err := os.Stat(file); err == nil {
		t.sizes = append(t.sizes, mark{time.Now(), file, info.Size()})
		t.sizes = t.sizes[max(0, len(t.sizes)-200):]
	}
}

// cut shortens the file to what it was at a time.
func (t *tape) cut(at time.Time) error {
	if len(t.sizes) == 0 {
		return errors.New("redis wrote no append-only file")
	}
	last := t.sizes[len(t.sizes)-1]
	size := int64(-1)
	for _, m := range t.sizes {
		if m.file == last.file && (size < 0 || !m.at.After(at)) {
			size = m.size
		}
	}
	if err := os.Truncate(last.file, size); err != nil {
		return fmt.Errorf("shorten redis's append-only file: %w", err)
	}
	return nil
}

// Replica starts a replica, if there is none, and waits until it has what the primary has now.
func (r *RedisServers) Replica(ctx context.Context) error {
	if r.replica == nil {
		var err error
		if r.feed, err = NewProxy(r.primary.addr()); err != nil {
			return err
		}
		_, port, err := net.SplitHostPort(r.feed.Addr())
		if err != nil {
			return err
		}
		if r.replica, err = r.launch(ctx, "--replicaof", "127.0.0.1", port); err != nil {
			return err
		}
	}
	for {
		n, err := r.primary.client.Wait(ctx, 1, time.Second).Result()
		if err == nil && n >= 1 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for the replica: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// Sever holds back what the primary tells the replica: from now on the replica misses what the primary acknowledges.
func (r *RedisServers) Sever() { r.feed.Hold() }

// Failover kills the primary and promotes the replica, with what it has; the proxy leads there from then on. What it had
// missed is lost, as in any asynchronous replication.
func (r *RedisServers) Failover(ctx context.Context) error {
	r.Proxy.Cut()
	r.primary.kill()
	if err := r.feed.Close(); err != nil {
		return err
	}
	if err := r.replica.client.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		return fmt.Errorf("promote the replica: %w", err)
	}
	old := r.primary
	r.primary, r.replica, r.feed = r.replica, nil, nil
	r.primary.args = nil // when it starts again, it is nobody's replica
	r.Proxy.SetTarget(r.primary.addr())
	r.Proxy.Restore()
	return old.close()
}

// Reload restarts the primary so that it is loading its file until Loaded is called.
func (r *RedisServers) Reload(ctx context.Context) error {
	s := r.primary
	s.kill()
	// It looks at its connections once in 1,024 commands that it has loaded.
	if err := s.start("--key-load-delay", "300"); err != nil {
		return err
	}
	for {
		err := s.client.Ping(ctx).Err()
		if err == nil || goredis.IsLoadingError(err) {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// Loaded lets the primary end its loading.
func (r *RedisServers) Loaded(ctx context.Context) error {
	if err := r.Config(ctx, "key-load-delay", "0"); err != nil {
		return err
	}
	return r.primary.ready(ctx)
}

// Occupy has the primary run a script that does not end: to everybody else it is BUSY.
func (r *RedisServers) Occupy(ctx context.Context) error {
	if err := r.Config(ctx, "busy-reply-threshold", "50"); err != nil {
		return err
	}
	other := goredis.NewClient(&goredis.Options{Addr: r.primary.addr(), MaxRetries: -1, ReadTimeout: time.Minute})
	go func() {
		defer other.Close()
		other.Eval(ctx, "while true do end", nil) // it ends by SCRIPT KILL, with an error
	}()
	for {
		err := r.primary.client.Ping(ctx).Err()
		if err != nil && goredis.HasErrorPrefix(err, "BUSY") {
			return nil
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}
