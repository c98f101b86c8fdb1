package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build compiles the programs of services into dir, with further flags of `go build` (-overlay for a program that lacks a
// rule). It is called within the source tree.
func Build(ctx context.Context, dir string, services []string, flags ...string) error {
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, flags...)
	for _, name := range services {
		args = append(args, "github.com/tempismo/tempismo/services/"+name+"/cmd/"+name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the services: %w\n%s", err, out)
	}
	return nil
}

// Process is one instance of a service.
type Process struct {
	Name string // of the service
	N    int    // counts all instances of the rig
	Log  string // file of what it logs

	Began  time.Time
	admin  string // address of /readyz and /metrics
	listen string // of ingest's API
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	code   int           // once done is closed

	mu   sync.Mutex
	told bool // to end: what ends without being told is a finding
}

// Launch starts the n-th program, bin/name, with nothing of Kafka, Redis and the run in its environment but what env says. It
// logs into a file of the folder logs.
func Launch(bin, logs, name string, n int, env []string) (*Process, error) {
	p := &Process{Name: name, N: n, Began: time.Now(), done: make(chan struct{})}
	p.Log = filepath.Join(logs, p.ID()+".log")
	file, err := os.Create(p.Log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ports, err := freeAddresses(2)
	if err != nil {
		return nil, err
	}
	p.admin, p.listen = ports[0], ports[1]
	p.cmd = exec.Command(filepath.Join(bin, name))
	p.cmd.Stdout, p.cmd.Stderr = file, file
	// A group of its own: a Ctrl-C is for the harness, which then ends its processes in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Env = append(environment(), "ADMIN_LISTEN="+p.admin, "LISTEN="+p.listen)
	p.cmd.Env = append(p.cmd.Env, env...)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the code says it
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.done)
	}()
	return p, nil
}

// environment is this process's, without what would configure a service.
func environment() (env []string) {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "TZ", "LANG", "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "ZONEINFO":
			env = append(env, v)
		}
	}
	return env
}

// ID names the process in samples and logs: "profiler.3".
func (p *Process) ID() string { return p.Name + "." + strconv.Itoa(p.N) }

// Kill ends it as a power failure would, and returns when it is gone.
func (p *Process) Kill() {
	p.signal(true, syscall.SIGKILL)
	<-p.done
}

// Term asks it to stop and waits; after a minute it is killed, and the code is -1.
func (p *Process) Term() (exit time.Duration, code int) {
	began := time.Now()
	p.signal(true, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.Kill()
	}
	return time.Since(began), p.code
}

// Freeze stops it where it stands.
func (p *Process) Freeze() { p.signal(false, syscall.SIGSTOP) }

// Thaw lets it go on.
func (p *Process) Thaw() { p.signal(false, syscall.SIGCONT) }

func (p *Process) signal(last bool, s os.Signal) {
	p.mu.Lock()
	p.told = p.told || last && p.Alive()
	p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // it has ended, which is what Alive says
}

// Alive tells whether it has not ended. A frozen process is alive.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// fell tells whether it has ended without being told to.
func (p *Process) fell() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.Alive() && !p.told
}

// leaving tells whether it was told to end.
func (p *Process) leaving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told
}

// local asks processes on this machine; one that is frozen does not answer.
var local = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Ready tells whether /readyz says so.
func (p *Process) Ready() bool {
	resp, err := local.Get("http://" + p.admin + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Metrics is the text of /metrics; "" if it does not answer.
func (p *Process) Metrics() string {
	resp, err := local.Get("http://" + p.admin + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

// RSS is its resident memory in bytes; 0 if it has ended, or where there is no /proc.
func (p *Process) RSS() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil || !p.Alive() {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// freeAddresses finds addresses of this machine that nobody listens on.
func freeAddresses(n int) (addresses []string, err error) {
	for range n {
		port, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	return addresses, nil
}
