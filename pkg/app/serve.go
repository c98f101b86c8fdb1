package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Limits of everything that is served. A client that is slower keeps nobody waiting but itself, and then loses its connection.
const (
	headerWithin = 5 * time.Second  // for the headers of a request
	bodyWithin   = 30 * time.Second // for its body, from the end of the headers on
	writeWithin  = 30 * time.Second // for each write of an answer to be taken
	idleWithin   = 2 * time.Minute  // until the next request of a connection

	maxHeader      = 64 << 10 // bytes of headers
	maxConnections = 4096     // of a listener; more wait until one is closed, and descriptors are left for Kafka and Redis
)

// Serve serves HTTP on ln until ctx ends, then lets the requests that are being answered finish, up to half of
// StopTimeout. It closes ln. A handler may take as long as it likes, but one that streams for ever must end by itself when its
// service's context does. How much of a body it reads is for the handler to bound.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	s := &http.Server{Handler: hasty(h), ReadHeaderTimeout: headerWithin, IdleTimeout: idleWithin, MaxHeaderBytes: maxHeader}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(listener{netutil.LimitListener(ln, maxConnections)}) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout/2)
	defer cancel()
	if err := s.Shutdown(grace); err != nil {
		return fmt.Errorf("stop http on %s: %w", ln.Addr(), errors.Join(err, s.Close()))
	}
	return nil
}

// hasty bounds for how long a body may take, whether h reads it or refuses the request before: net/http reads what is left of it
// without a bound. (Its ReadTimeout would end requests that are being answered, too.)
func hasty(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			c := http.NewResponseController(w)
			if c.SetReadDeadline(time.Now().Add(bodyWithin)) == nil { // else it is no connection
				r.Body = &body{r.Body, c}
			}
		}
		h.ServeHTTP(w, r)
	})
}

// body lifts the deadline at its end: later it would end the request.
type body struct {
	io.ReadCloser
	connection *http.ResponseController
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.connection.SetReadDeadline(time.Time{}) // it could be set, so it can be lifted
	}
	return n, err
}

// listener bounds for how long a write may take. A deadline of the whole answer, which net/http has, would end streams.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return connection{c}, nil
}

type connection struct{ net.Conn }

func (c connection) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
