package app

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, so that time can be that of a test.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{accept: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.accept <- server
	return client
}

// serving runs fn in a bubble, with a server whose handler takes bodies, and does what its paths say.
func serving(t *testing.T, fn func(t *testing.T, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, "the body ends too early", http.StatusBadRequest)
				return
			}
			_, _ = w.Write(b) // whoever asked may have gone
		})
		mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) })
		mux.HandleFunc("/think", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-time.After(10 * time.Minute):
				_, _ = io.WriteString(w, "thought")
			case <-r.Context().Done():
			}
		})
		mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
			for range 10 {
				if _, err := io.WriteString(w, "beat\n"); err != nil || http.NewResponseController(w).Flush() != nil {
					return
				}
				time.Sleep(time.Minute)
			}
		})
		mux.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		})
		ctx, stop := context.WithCancel(t.Context())
		p, ended := newPipes(), make(chan error)
		go func() { ended <- Serve(ctx, p, mux) }()
		fn(t, p.dial)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// open waits until the server has closed a connection, and says for how long it was open. What it sends is read, or left.
func open(c net.Conn, read bool) time.Duration {
	begin := time.Now()
	if read {
		_, _ = io.Copy(io.Discard, c)
	} else {
		for { // a byte that nobody reads shows that somebody would
			if _, err := c.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
	}
	return time.Since(begin)
}

// Whatever a sender leaves undone, it loses its connection after the time that it has for it.
func TestASlowSenderLosesItsConnection(t *testing.T) {
	for _, tt := range []struct {
		sentence, begin, more string // more is sent each second
		within                time.Duration
	}{
		{"it says nothing", "", "", headerWithin},
		{"its headers do not end", "GET /read HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", headerWithin},
		{"its headers come byte by byte", "GET /read HTTP/1.1\r\nHost: x\r\nX-A: ", "b", headerWithin},
		{"its body does not come", "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", bodyWithin},
		{"its body comes byte by byte", "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "b", bodyWithin},
		{"its body comes in pieces", "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nb\r\n", bodyWithin},
		{"its body comes byte by byte, and nobody wants it", "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "b", bodyWithin},
		{"a body that nobody asked for does not come", "GET /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "", bodyWithin},
		{"it has nothing more to say", "GET /refuse HTTP/1.1\r\nHost: x\r\n\r\n", "", idleWithin},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			serving(t, func(t *testing.T, dial func() net.Conn) {
				c := dial()
				var sender sync.WaitGroup
				defer sender.Wait()
				defer c.Close()
				sender.Go(func() {
					_, err := io.WriteString(c, tt.begin)
					for ; err == nil && tt.more != ""; time.Sleep(time.Second) {
						_, err = io.WriteString(c, tt.more)
					}
				})
				if got := open(c, true); got < tt.within || got > tt.within+time.Second {
					t.Errorf("it kept the connection for %v, want %v", got, tt.within)
				}
			})
		})
	}
}

// Who does not take an answer keeps its handler for no longer than one write may take.
func TestASlowReaderLosesItsConnection(t *testing.T) {
	serving(t, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		if _, err := io.WriteString(c, "GET /flood HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if got := open(c, false); got < writeWithin || got > writeWithin+2*time.Second {
			t.Errorf("it kept the connection for %v, want %v", got, writeWithin)
		}
	})
}

// Limits are the clients': a handler that waits for Kafka, or streams, is not cut off.
func TestNobodyIsCutOffWhoIsBeingAnswered(t *testing.T) {
	for request, want := range map[string]string{
		"POST /think HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody": "thought",
		"GET /think HTTP/1.1\r\nHost: x\r\n\r\n":                           "thought",
		"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n":                          strings.Repeat("beat\n", 10),
	} {
		serving(t, func(t *testing.T, dial func() net.Conn) {
			c := dial()
			defer c.Close()
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatalf("%q: %v", request, err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != want {
				t.Errorf("%q: %q, %v", request, b, err)
			}
		})
	}
}

// A connection is good for more than one request, however long the first one took.
func TestAConnectionIsUsedAgain(t *testing.T) {
	serving(t, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		answers := bufio.NewReader(c)
		for _, path := range []string{"/think", "/refuse", "/read", "/think", "/read"} {
			if _, err := io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			time.Sleep(idleWithin - time.Second)
		}
	})
}

func TestHeadersAreBounded(t *testing.T) {
	serving(t, func(t *testing.T, dial func() net.Conn) {
		c := dial()
		defer c.Close()
		go func() {
			_, _ = io.WriteString(c, "GET /read HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 2*maxHeader)) // it hangs up before
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%v, %v", resp, err)
		}
	})
}

// Beyond the bound connections wait, and are served once others have gone.
func TestConnectionsAreBounded(t *testing.T) {
	serving(t, func(t *testing.T, dial func() net.Conn) {
		held := make([]net.Conn, maxConnections)
		for i := range held {
			held[i] = dial()
		}
		answered := make(chan bool, 1)
		go func() {
			c := dial()
			defer c.Close()
			_, err := io.WriteString(c, "GET /refuse HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if err == nil {
				_, err = http.ReadResponse(bufio.NewReader(c), nil)
			}
			answered <- err == nil
		}()
		synctest.Wait()
		select {
		case <-answered:
			t.Error("one more than the bound was served")
		default:
		}
		held[0].Close()
		if !<-answered {
			t.Error("it was not served when there was room")
		}
		for _, c := range held {
			c.Close()
		}
	})
}
