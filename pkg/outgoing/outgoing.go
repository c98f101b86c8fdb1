// Package outgoing is what calls to machines of others have in common: a client that reaches no address that it must not, does not
// follow redirects and verifies certificates, and how long such a machine wants to be left alone.
//
// It makes no calls and tries nothing again: what an answer means, and whether a call may be repeated, knows who makes it.
package outgoing

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Client makes a client whose calls take up to timeout, and which keeps up to conns connections to a host. Addresses that guard
// (Public, Loopback; nil: none) refuses are refused when the connection is made, after resolving; certificates are verified,
// and redirects are not followed.
func Client(timeout time.Duration, conns int, guard func(address string) error) *http.Client {
	dialer := &net.Dialer{Timeout: timeout}
	if guard != nil {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return guard(address) }
	}
	return &http.Client{
		Timeout: timeout,
		// A redirect could lead past the guard of whoever configured the URL, and the call would not be what was signed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy: the guard must see the address that is really called.
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: conns,
			// Shorter than what usual gateways allow (60 seconds): a call on a connection that the other side is just closing
			// is one of which nobody knows whether it was taken.
			IdleConnTimeout: 30 * time.Second,

			TLSHandshakeTimeout:   timeout,
			ResponseHeaderTimeout: timeout,
		},
	}
}

// ErrForbidden says that an address is none that may be called.
var ErrForbidden = errors.New("the target's address is forbidden")

// Public guards against addresses that a name in somebody else's DNS must not lead us to: this machine, its network and the
// metadata service of a cloud (server-side request forgery). Its errors name the setting that allows them.
func Public(setting string) func(address string) error {
	return func(address string) error {
		ip, err := addressOf(address)
		if err != nil {
			return err
		}
		if !ip.IsGlobalUnicast() || ip.IsPrivate() {
			return fmt.Errorf("%w: %s is not public; set %s=true if it is meant", ErrForbidden, ip, setting)
		}
		for _, p := range special {
			if p.Contains(ip) {
				return fmt.Errorf("%w: %s is in %s; set %s=true if it is meant", ErrForbidden, ip, p, setting)
			}
		}
		return nil
	}
}

// special are networks of the IANA special-purpose registries (RFC 6890) that netip counts among the global ones.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and the limited broadcast
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64, which leads into IPv4 again
	netip.MustParsePrefix("64:ff9b:1::/48"),  // the same, locally used
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4, which leads into IPv4 again
	netip.MustParsePrefix("fec0::/10"),       // site-local, of old
}

// Loopback guards against everything but this machine.
func Loopback(address string) error {
	ip, err := addressOf(address)
	if err != nil {
		return err
	}
	if !ip.IsLoopback() {
		return fmt.Errorf("%w: %s is not this machine, and a simulated run calls nobody else", ErrForbidden, ip)
	}
	return nil
}

func addressOf(address string) (netip.Addr, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	return a.Addr().Unmap().WithZone(""), nil
}

// LoopbackURL reports whether s is a URL of this machine, by its name or address.
func LoopbackURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// RetryAfter reads a Retry-After header, seconds or a date (RFC 9110, section 10.2.3). Zero: there is none, or it has passed.
func RetryAfter(h string, now time.Time) time.Duration {
	if s, err := strconv.ParseInt(h, 10, 32); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
