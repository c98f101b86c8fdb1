package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy stands between the services and one server on the loopback. Its address stays the same whatever it leads to, and a
// fault is what it does to the bytes that pass. It knows no protocol: see KafkaProxy.
type Proxy struct {
	listener net.Listener
	relay    func(*link)
	all      sync.WaitGroup

	mu     sync.Mutex
	target string
	cut    bool
	mute   bool
	delay  time.Duration
	open   chan struct{} // closed while bytes may pass
	closed bool
	links  map[*link]struct{}
}

// link is one connection through a proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	done           chan struct{} // closed when the link is
	once           sync.Once
}

// NewProxy listens on a port of its own and leads to target, which need not answer yet.
func NewProxy(target string) (*Proxy, error) { return newProxy(target, (*link).copy) }

func newProxy(target string, relay func(*link)) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for a proxy: %w", err)
	}
	p := &Proxy{listener: l, relay: relay, target: target, open: make(chan struct{}), links: map[*link]struct{}{}}
	close(p.open)
	p.all.Go(p.accept)
	return p, nil
}

// Addr is where the services connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks every connection and refuses new ones, until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.sever()
}

// Break breaks every connection once; new ones are welcome.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sever()
}

// sever breaks every connection; mu is held.
func (p *Proxy) sever() {
	for l := range p.links {
		l.close()
	}
}

// Hold keeps everything that comes, in both directions, until Restore. Connections stay open, also new ones.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

// Mute swallows what the server answers, until Restore, which breaks the connections: nobody gets half of an answer. What
// the services send arrives, so that the server does what they never hear of.
func (p *Proxy) Mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

// Delay holds every piece back for d; 0 ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Restore ends Cut, Hold, Mute and Delay.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mute {
		p.sever()
	}
	p.cut, p.mute, p.delay = false, false, 0
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// Stall holds everything for d.
func (p *Proxy) Stall(d time.Duration) {
	p.Hold()
	time.Sleep(d)
	p.Restore()
}

// SetTarget leads to another server from now on, and breaks what leads to the one of before.
func (p *Proxy) SetTarget(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
	p.sever()
}

// Close breaks every connection and listens no more.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Break()
	p.all.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.all.Go(func() { p.serve(client) })
	}
}

// serve carries one connection until one side ends it or the proxy does.
func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	target, refused := p.target, p.cut || p.closed
	p.mu.Unlock()
	if refused {
		reset(client)
		return
	}
	server, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	l := &link{proxy: p, client: client, server: server, done: make(chan struct{})}
	p.mu.Lock()
	if refused = p.cut || p.closed || p.target != target; !refused {
		p.links[l] = struct{}{}
	}
	p.mu.Unlock()
	if !refused {
		p.relay(l)
	}
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// reset closes a connection as a machine that died would: what has not been read is gone.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // an ordinary close is as good
	}
	c.Close()
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		reset(l.client)
		reset(l.server)
	})
}

// copy relays bytes as they come.
func (l *link) copy() {
	var both sync.WaitGroup
	one := func(to, from net.Conn, answers bool) {
		defer l.close()
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 && !l.pass(to, buf[:n], answers) || err != nil {
				return
			}
		}
	}
	both.Go(func() { one(l.server, l.client, false) })
	both.Go(func() { one(l.client, l.server, true) })
	both.Wait()
}

// pass writes b as soon as the proxy lets it, and reports whether the link still stands.
func (l *link) pass(to io.Writer, b []byte, answers bool) bool {
	for {
		l.proxy.mu.Lock()
		open, delay, mute := l.proxy.open, l.proxy.delay, l.proxy.mute
		l.proxy.mu.Unlock()
		select {
		case <-open:
		default:
			select {
			case <-open:
				continue
			case <-l.done:
				return false
			}
		}
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-l.done:
				return false
			}
		}
		if answers && mute {
			return true
		}
		_, err := to.Write(b)
		return err == nil
	}
}
