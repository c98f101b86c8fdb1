package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// Close kills everything.
func (r *RedisServers) Close() error {
	problems := []error{r.Proxy.Close(), r.primary.close()}
	if r.replica != nil {
		problems = append(problems, r.feed.Close(), r.replica.close())
	}
	return errors.Join(problems...)
}
