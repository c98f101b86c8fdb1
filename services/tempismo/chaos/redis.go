package chaos

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// RedisServers are real redis-server processes: a primary behind a proxy, and a replica when one is asked for. Data is
// appended to a file and synced every second, as an operator would have it.
type RedisServers struct {
	Proxy   *Proxy
	dir     string
	made    int
	primary *redisServer
	replica *redisServer
	feed    *Proxy // between the two
}

// redisServer is one server; its folder and port outlive its process.
type redisServer struct {
	dir    string
	port   int
	args   []string
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has ended
	tape   *tape
	client *goredis.Client
}

// StartRedis starts a primary, with its data in dir/redis.
func StartRedis(ctx context.Context, dir string) (*RedisServers, error) {
	r := &RedisServers{dir: filepath.Join(dir, "redis")}
	var err error
	if r.primary, err = r.launch(ctx); err != nil {
		return nil, err
	}
	if r.Proxy, err = NewProxy(r.primary.addr()); err != nil {
		return nil, errors.Join(err, r.primary.close())
	}
	return r, nil
}

// launch starts one more server.
func (r *RedisServers) launch(ctx context.Context, args ...string) (*redisServer, error) {
	r.made++
	port, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	s := &redisServer{dir: filepath.Join(r.dir, strconv.Itoa(r.made)), port: port, args: args}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	s.client = goredis.NewClient(&goredis.Options{Addr: s.addr(), MaxRetries: -1})
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

func (s *redisServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// start does not wait: a server may be LOADING for a while.
func (s *redisServer) start(extra ...string) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "redis.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--enable-debug-command", "local", "--repl-diskless-sync-delay", "0"}
	s.cmd = exec.Command("redis-server", append(append(args, s.args...), extra...)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C for the harness is not for it
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("redis-server: %w: install it, and see that it is on the PATH", err)
	}
	done, cmd := make(chan struct{}), s.cmd
	s.done = done
	go func() {
		cmd.Wait() //nolint:errcheck // it is killed in most cases
		close(done)
	}()
	s.tape = watch(s.dir, done)
	return nil
}

// ready waits until the server answers and has loaded its data.
func (s *redisServer) ready(ctx context.Context) error {
	for {
		err := s.client.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			text, _ := os.ReadFile(filepath.Join(s.dir, "redis.log"))
			return fmt.Errorf("redis-server has ended: %s", text[max(bytes.LastIndexByte(bytes.TrimSpace(text), '\n'), 0):])
		case <-ctx.Done():
			return fmt.Errorf("wait for redis-server at %s: %w", s.addr(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *redisServer) kill() {
	s.cmd.Process.Signal(syscall.SIGKILL) //nolint:errcheck // it may be dead already
	<-s.done
	<-s.tape.done
}

func (s *redisServer) close() error {
	s.kill()
	return s.client.Close()
}

// Direct is where the primary of the moment is, past the proxy.
func (r *RedisServers) Direct() string { return r.primary.addr() }

// Addr is where the services find it, whichever server it is.
func (r *RedisServers) Addr() string { return r.Proxy.Addr() }

// Client speaks with the primary of the moment, past the proxy.
func (r *RedisServers) Client() *goredis.Client { return r.primary.client }

// Kill ends the primary as a crash of the process would.
func (r *RedisServers) Kill() { r.primary.kill() }

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

// Freeze stops the primary where it stands; Thaw lets it go on.
func (r *RedisServers) Freeze() error { return r.primary.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets the primary go on.
func (r *RedisServers) Thaw() error { return r.primary.cmd.Process.Signal(syscall.SIGCONT) }

// Config sets a parameter of the primary.
func (r *RedisServers) Config(ctx context.Context, name, value string) error {
	if err := r.primary.client.ConfigSet(ctx, name, value).Err(); err != nil {
		return fmt.Errorf("set %s of redis to %s: %w", name, value, err)
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

// Close kills everything.
func (r *RedisServers) Close() error {
	problems := []error{r.Proxy.Close(), r.primary.close()}
	if r.replica != nil {
		problems = append(problems, r.feed.Close(), r.replica.close())
	}
	return errors.Join(problems...)
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
