// Package outbound is the HTTP client for addresses that somebody else names: an operator's setting, a request, a name server.
//
// What it guards against is server-side request forgery: that a name leads us to this machine, into its network or to the
// metadata service of a cloud. The address is therefore looked at when a connection is made, after resolving: what was
// resolved before may have changed. Redirects are not followed, no proxy is asked (the address that it calls would not be
// looked at), certificates are verified. It decides nothing about what is called or how often, and it is not for Kafka,
// Redis and telemetry, which live where private addresses are.
package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// ErrForbidden is wrapped by errors about addresses that may not be called. Nothing was said to them.
var ErrForbidden = errors.New("the target's address is forbidden")

// Guard says whether an address may be called: nil, or ErrForbidden with a reason.
type Guard func(netip.Addr) error

// Public allows what everybody can reach, and refuses the networks of the IANA special-purpose address registries (RFC 6890).
func Public(ip netip.Addr) error {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return fmt.Errorf("%w: %s is not public", ErrForbidden, ip)
	}
	for _, p := range special {
		if p.Contains(ip) {
			return fmt.Errorf("%w: %s is in %s", ErrForbidden, ip, p)
		}
	}
	return nil
}

// Loopback allows this machine alone.
func Loopback(ip netip.Addr) error {
	if ip = ip.Unmap(); !ip.IsLoopback() {
		return fmt.Errorf("%w: %s is not this machine", ErrForbidden, ip)
	}
	return nil
}

// special are networks that netip counts among the global ones.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // relays of 6to4, of old
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and the limited broadcast
	netip.MustParsePrefix("::/96"),           // IPv4 in IPv6 of old, which leads into IPv4 again
	netip.MustParsePrefix("::ffff:0:0:0/96"), // the same, translated (RFC 2765)
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64, which leads into IPv4 again
	netip.MustParsePrefix("64:ff9b:1::/48"),  // the same, locally used
	netip.MustParsePrefix("100::/64"),        // discarded
	netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo among them, which leads into IPv4 again
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4, which leads into IPv4 again
	netip.MustParsePrefix("3fff::/20"),       // documentation
	netip.MustParsePrefix("5f00::/16"),       // segment routing
	netip.MustParsePrefix("fec0::/10"),       // site-local, of old
}

// maxHeader bounds the headers of an answer; net/http would read 10 MiB of them.
const maxHeader = 64 << 10

// New makes a client whose calls take at most timeout, from resolving to the last byte of the answer, and which keeps at most
// conns connections to a host for the next call. Where guard is nil every address may be called. Whoever reads an answer
// bounds it.
func New(timeout time.Duration, conns int, guard Guard) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	if guard != nil {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return guard.dialled(address) }
	}
	return &http.Client{
		Timeout: timeout,
		// A redirect could lead past the guard of whoever configured the URL, and the call would not be what was signed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:               nil, // not that of the environment
			DialContext:         dialer.DialContext,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: conns,
			// Shorter than what usual gateways allow (60 seconds): a call on a connection that the other side is just closing
			// is one of which nobody knows whether it was taken.
			IdleConnTimeout: 30 * time.Second,

			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
}

// dialled asks the guard about an address as the dialer has it, which is resolved.
func (g Guard) dialled(address string) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	return g(a.Addr())
}

// RetryAfter reads a Retry-After header, seconds or a date (RFC 9110, section 10.2.3), of an hour at most: nothing documented is longer, and a mistake must not stop everything.
func RetryAfter(h string, now time.Time) time.Duration {
	if s, err := strconv.ParseInt(h, 10, 32); err == nil {
		return min(time.Hour, max(0, time.Duration(s)*time.Second))
	}
	if t, err := http.ParseTime(h); err == nil {
		return min(time.Hour, max(0, t.Sub(now)))
	}
	return 0
}
