package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestGuards(t *testing.T) {
	for _, r := range []struct {
		name, address    string
		public, loopback bool
	}{
		{"a public address", "93.184.216.34:443", true, false},
		{"a public address in IPv6", "[2606:2800:220:1::1]:443", true, false},
		{"a public address, IPv4 in IPv6", "[::ffff:93.184.216.34]:443", true, false},
		{"this machine", "127.0.0.1:80", false, true},
		{"this machine by another name", "127.9.8.7:80", false, true},
		{"this machine in IPv6", "[::1]:80", false, true},
		{"this machine, IPv4 in IPv6", "[::ffff:127.0.0.1]:80", false, true},
		{"this machine, IPv4 in IPv6 as of old", "[::127.0.0.1]:80", false, false},
		{"this machine, translated", "[::ffff:0:127.0.0.1]:80", false, false},
		{"no address", "0.0.0.0:80", false, false},
		{"an address of this network", "0.1.2.3:80", false, false},
		{"no address in IPv6", "[::]:80", false, false},
		{"no address, IPv4 in IPv6", "[::ffff:0.0.0.0]:80", false, false},
		{"a private network", "10.1.2.3:80", false, false},
		{"another private network", "192.168.0.1:80", false, false},
		{"a private network, IPv4 in IPv6", "[::ffff:172.16.0.1]:80", false, false},
		{"a private network in IPv6", "[fd00::1]:80", false, false},
		{"a cloud's metadata service", "169.254.169.254:80", false, false},
		{"a cloud's metadata service, IPv4 in IPv6", "[::ffff:169.254.169.254]:80", false, false},
		{"a cloud's metadata service in IPv6", "[fd00:ec2::254]:80", false, false},
		{"link-local with a zone", "[fe80::1%eth0]:80", false, false},
		{"site-local with a zone", "[fec0::1%eth0]:80", false, false},
		{"carrier-grade NAT, its first", "100.64.0.0:80", false, false},
		{"carrier-grade NAT, its last", "100.127.255.255:80", false, false},
		{"behind it", "100.128.0.1:80", true, false},
		{"NAT64 of a private address", "[64:ff9b::a00:1]:80", false, false},
		{"NAT64 of a public address", "[64:ff9b::5db8:d822]:80", false, false},
		{"NAT64 of one's own", "[64:ff9b:1::a00:1]:80", false, false},
		{"6to4 of a private address", "[2002:a00:1::]:80", false, false},
		{"Teredo", "[2001:0:a00:1::]:80", false, false},
		{"multicast", "224.0.0.1:80", false, false},
		{"multicast in IPv6", "[ff02::1]:80", false, false},
		{"broadcast", "255.255.255.255:80", false, false},
		{"reserved", "240.0.0.1:80", false, false},
		{"documentation", "[3fff::1]:80", false, false},
		{"a name that was not resolved", "example.com:80", false, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			if err := Guard(Public).dialled(r.address); (err == nil) != r.public || err != nil && !errors.Is(err, ErrForbidden) {
				t.Errorf("public: %v", err)
			}
			if err := Guard(Loopback).dialled(r.address); (err == nil) != r.loopback || err != nil && !errors.Is(err, ErrForbidden) {
				t.Errorf("loopback: %v", err)
			}
		})
	}
}

// call calls a server, and fails where it was reached although it must not be.
func call(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	t.Helper()
	t.Cleanup(c.CloseIdleConnections)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, err
}

// A name can lead anywhere, and elsewhere the next time: what counts is the address that is dialled, at each connection.
func TestWhatIsDialledIsLookedAt(t *testing.T) {
	reached := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer server.Close()
	byName := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for _, url := range []string{server.URL, byName, strings.Replace(server.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		if _, err := call(t, New(time.Minute, 1, Public), url); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", url, err)
		}
	}
	rebound := false // a name server that says another address at the second time
	guard := func(ip netip.Addr) error {
		if rebound {
			return Public(ip)
		}
		return nil
	}
	c := New(time.Minute, 1, guard)
	if _, err := call(t, c, byName); err != nil {
		t.Fatal(err)
	}
	c.CloseIdleConnections()
	rebound = true
	if _, err := call(t, c, byName); !errors.Is(err, ErrForbidden) {
		t.Errorf("at the second time: %v", err)
	}
	if reached != 1 {
		t.Errorf("it was reached %d times, want once", reached)
	}
}

// A proxy would call for us, and its address alone be looked at.
func TestNoProxyOfTheEnvironmentIsAsked(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	// net/http reads the environment once, maybe before this test, so the transport is looked at, too.
	c := New(time.Minute, 1, Loopback)
	if c.Transport.(*http.Transport).Proxy != nil {
		t.Error("the transport has a proxy")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing leaves this machine if it is wrong
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://192.0.2.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(req); err == nil {
		t.Error("it was answered")
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer inner.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		outer := httptest.NewServer(http.RedirectHandler(inner.URL, status))
		resp, err := call(t, New(time.Minute, 1, Loopback), outer.URL)
		if err != nil || resp.StatusCode != status {
			t.Errorf("%v, %v; want the redirect itself", resp, err)
		}
		outer.Close()
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came") }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	defer server.Close()
	var wrong *tls.CertificateVerificationError
	if _, err := call(t, New(time.Minute, 1, Loopback), server.URL); !errors.As(err, &wrong) {
		t.Errorf("a certificate of nobody: %v", err)
	}
}

func TestHeadersOfAnAnswerAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 2*maxHeader))
		_, _ = io.WriteString(w, "{}") // whoever asked has gone
	}))
	defer server.Close()
	if _, err := call(t, New(time.Minute, 1, Loopback), server.URL); err == nil {
		t.Error("the answer was taken")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC)
	rows := []struct {
		name, header string
		want         time.Duration
	}{
		{"seconds", "120", 2 * time.Minute},
		{"a date", "Thu, 03 Dec 2026 09:05:00 GMT", 5 * time.Minute},
		{"many seconds", "2147483647", time.Hour},
		{"a date that is far away", "Thu, 03 Dec 9999 08:05:00 GMT", time.Hour},
		{"a date that has passed", "Thu, 03 Dec 2026 08:05:00 GMT", 0},
		{"a negative number", "-5", 0},
		{"nonsense", "soon", 0},
		{"nothing", "", 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := RetryAfter(r.header, now); got != r.want {
				t.Errorf("got %v, want %v", got, r.want)
			}
		})
	}
}
