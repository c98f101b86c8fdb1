package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answering starts a server that answers each line with its name and that line, and tells the lines that it got.
func answering(t *testing.T, name string) (addr string, got chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got = make(chan string, 16)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					got <- lines.Text()
					fmt.Fprintf(c, "%s %s\n", name, lines.Text())
				}
			}()
		}
	}()
	return l.Addr().String(), got
}

func proxyTo(t *testing.T, target string) *Proxy {
	t.Helper()
	p, err := NewProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// caller is a connection of a client that reads lines.
type caller struct {
	net.Conn
	lines *bufio.Reader
}

func call(t *testing.T, p *Proxy) *caller {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &caller{c, bufio.NewReader(c)}
}

func (c *caller) say(line string) { fmt.Fprintf(c, "%s\n", line) }

// hears waits for a line.
func (c *caller) hears(t *testing.T, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	got, err := c.lines.ReadString('\n')
	if err != nil || got != want+"\n" {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

// broken waits for the end of the connection.
func (c *caller) broken(t *testing.T) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	rest, err := io.ReadAll(c.lines)
	var ne net.Error
	if len(rest) > 0 || errors.As(err, &ne) && ne.Timeout() {
		t.Fatalf("%q, %v; want a broken connection", rest, err)
	}
}

// refused connects and waits for the end. A reset may come while Dial still waits to hear that it is connected: that is the
// end too.
func refused(t *testing.T, p *Proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if errors.Is(err, syscall.ECONNRESET) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	(&caller{c, bufio.NewReader(c)}).broken(t)
}

func TestAProxyLeadsToItsTarget(t *testing.T) {
	first, _ := answering(t, "first")
	second, _ := answering(t, "second")
	p := proxyTo(t, first)
	c := call(t, p)
	c.say("a")
	c.hears(t, "first a")
	p.SetTarget(second)
	c.broken(t)
	c = call(t, p)
	c.say("b")
	c.hears(t, "second b")
	p.SetTarget("127.0.0.1:1") // nobody listens there
	c.broken(t)
	refused(t, p)
}

func TestACutProxyBreaksAndRefuses(t *testing.T) {
	target, _ := answering(t, "server")
	p := proxyTo(t, target)
	c := call(t, p)
	c.say("a")
	c.hears(t, "server a")
	p.Cut()
	c.broken(t)
	refused(t, p)
	p.Restore()
	c = call(t, p)
	c.say("b")
	c.hears(t, "server b")
}

func TestAHeldProxyKeepsWhatComesAndLosesNothing(t *testing.T) {
	target, got := answering(t, "server")
	p := proxyTo(t, target)
	c := call(t, p)
	p.Hold()
	c.say("a")
	select {
	case line := <-got:
		t.Fatalf("%q has passed", line)
	case <-time.After(50 * time.Millisecond):
	}
	p.Restore()
	c.hears(t, "server a")
	p.Hold()
	c.say("b")
	if err := p.Close(); err != nil { // what is held does not keep it
		t.Fatal(err)
	}
	c.broken(t)
}

func TestAMutedProxyDeliversAndSwallowsTheAnswer(t *testing.T) {
	target, got := answering(t, "server")
	p := proxyTo(t, target)
	c := call(t, p)
	p.Mute()
	c.say("a")
	if line := <-got; line != "a" {
		t.Fatal(line)
	}
	p.Restore()
	c.broken(t)
	c = call(t, p)
	c.say("b")
	c.hears(t, "server b")
}

func TestADelayedProxyDelivers(t *testing.T) {
	target, _ := answering(t, "server")
	p := proxyTo(t, target)
	p.Delay(20 * time.Millisecond)
	c := call(t, p)
	began := time.Now()
	c.say("a")
	c.hears(t, "server a")
	if d := time.Since(began); d < 40*time.Millisecond { // there and back
		t.Errorf("after %s", d)
	}
}
