package bench

import (
	"bytes"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a program that runs beside the bench.
type process struct {
	cmd  *exec.Cmd
	dead chan struct{} // closed when it has ended
	out  tail
}

// stopTimeout is how long a process may take to end in order.
const stopTimeout = 20 * time.Second

func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, dead: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		_ = cmd.Wait() // whoever waits for something of it says how it ended
		close(p.dead)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// ended is the error of a process that was not to end.
func (p *process) ended() error {
	return fmt.Errorf("%s has ended: %s\n%s", p.cmd.Path, p.cmd.ProcessState, p.out.String())
}

// stop ends it as an operator does, and if it does not listen, as a kernel does.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.dead:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.dead
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailBytes = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(b)
	if extra := t.b.Len() - tailBytes; extra > 0 {
		t.b.Next(extra)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
