package crm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Calls are the settings that every CRM has.
type Calls struct {
	Name            string        `name:"name" env:"NAME" help:"Name of this connector in outcomes. Empty: the target's. It is what the connector knows its own calls by after a restart: do not change it while something is to be sent."`
	Timeout         time.Duration `name:"timeout" env:"TIMEOUT" default:"15s" help:"How long one call may take; 1s to 30s."`
	Concurrency     int           `name:"concurrency" env:"CONCURRENCY" default:"16" help:"Most calls at once; those for one customer always come one after the other."`
	Rate            float64       `name:"rate" env:"RATE" default:"0" help:"Most calls per second of this process; 0: as many as the target is known to allow one account."`
	AllowPrivate    bool          `name:"allow-private" env:"ALLOW_PRIVATE" help:"Allow a target on this machine or in a private network, and plain http."`
	SimulatedTarget string        `name:"simulated-target" env:"SIMULATED_TARGET" placeholder:"URL" help:"Receiver on this machine (a loopback address) that a simulated run calls. Empty: a simulated run calls nobody."`
}

// Called reports whether a run of this kind calls anybody.
func (c Calls) Called(simulated bool) bool { return !simulated || c.SimulatedTarget != "" }

// Validate names everything that is wrong with the settings and with the target's URL, which is to be one like example.
// Their variables begin with prefix.
func (c Calls) Validate(prefix, target, example string, simulated bool) error {
	var errs []error
	wrong := func(setting, format string, args ...any) {
		errs = append(errs, fmt.Errorf(prefix+setting+": "+format, args...))
	}
	if !simulated || target != "" {
		switch u, err := url.Parse(target); {
		case target == "":
			wrong("URL", "must be set for a live run, e.g. %s", example)
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			wrong("URL", "%q: give a URL such as %s", target, example)
		case u.Scheme == "http" && !c.AllowPrivate:
			wrong("URL", "%q: use https, or set %sALLOW_PRIVATE=true for a target of your own network", target, prefix)
		}
	}
	if c.SimulatedTarget != "" && !loopbackURL(c.SimulatedTarget) {
		wrong("SIMULATED_TARGET", "%q: a simulated run may only call this machine, e.g. http://127.0.0.1:8089/", c.SimulatedTarget)
	}
	if c.Timeout < time.Second || c.Timeout > 30*time.Second {
		wrong("TIMEOUT", "%v is not between 1s and 30s", c.Timeout)
	}
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		wrong("CONCURRENCY", "%d is not between 1 and 1000", c.Concurrency)
	}
	if !(c.Rate >= 0) {
		wrong("RATE", "%v: give a number of calls per second, or 0", c.Rate)
	}
	return errors.Join(errs...)
}

// Client makes the client for a run. Addresses that the run must not reach are refused when the connection is made, after
// resolving; certificates are verified, and redirects are not followed.
func (c Calls) Client(prefix string, simulated bool) *http.Client {
	dialer := &net.Dialer{Timeout: c.Timeout}
	switch {
	case simulated:
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return loopback(address) }
	case !c.AllowPrivate:
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return public(prefix, address) }
	}
	return &http.Client{
		Timeout: c.Timeout,
		// A redirect could lead past the guard of whoever configured the URL, and the call would not be what was signed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy: the guard must see the address that is really called.
		Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: c.Concurrency,
			// Shorter than what usual gateways allow (60 seconds): a call on a connection that the other side is just closing
			// is one of which nobody knows whether it was taken.
			IdleConnTimeout: 30 * time.Second,

			TLSHandshakeTimeout:   c.Timeout,
			ResponseHeaderTimeout: c.Timeout,
		},
	}
}

// MaxBody bounds what is read of an answer. The rest of a longer one is left, with its connection.
const MaxBody = 64 << 10

// MaxBatchBody is MaxBody of an answer about many contacts, which says something of each.
const MaxBatchBody = 4 << 20

// Do makes a call and has its answer sorted. body is what MaxBody allows of the answer's, and may be cut short.
func Do(client *http.Client, req *http.Request, sort func(code int, header http.Header, body []byte) Answer) Answer {
	return do(client, req, MaxBody, sort)
}

// DoBatch is Do for a call about many contacts.
func DoBatch(client *http.Client, req *http.Request, sort func(code int, header http.Header, body []byte) Answer) Answer {
	return do(client, req, MaxBatchBody, sort)
}

func do(client *http.Client, req *http.Request, most int64, sort func(code int, header http.Header, body []byte) Answer) Answer {
	resp, err := client.Do(req)
	if err != nil {
		return unanswered(err)
	}
	defer resp.Body.Close()
	// Reading it lets the connection be used again. The status counts even where the body breaks off.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	return sort(resp.StatusCode, resp.Header, body)
}

// longest is the longest that a CRM may ask to be left alone for. No documented window is longer.
const longest = time.Hour

// Sort is how the answers of a CRM's API are sorted by their status: only what says that nothing was taken may be tried
// again where the CRM has no key. What a gateway answers in place of a CRM that may have the message is no such thing, and
// it cannot be told from an error of the CRM itself: every 5xx leaves it open.
func Sort(code int, header http.Header, now time.Time) Answer {
	a := Answer{Detail: "HTTP " + strconv.Itoa(code)}
	switch {
	case code >= 200 && code < 300:
		a.Verdict, a.Detail = Accepted, ""
	case code == http.StatusTooManyRequests, code == http.StatusTooEarly:
		a.Verdict, a.After = Retry, min(longest, RetryAfter(header.Get("Retry-After"), now))
	case code == http.StatusRequestTimeout, code >= 500:
		a.Verdict, a.After = Unknown, min(longest, RetryAfter(header.Get("Retry-After"), now))
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code < 400:
		a.Verdict = Denied
	default:
		a.Verdict = Refused
	}
	return a
}

// Clip bounds what a CRM says about itself, for an outcome's detail.
func Clip(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	end := 0
	for i := range text { // at a whole character
		if i > most {
			break
		}
		end = i
	}
	return text[:end] + "..."
}

// unanswered sorts errors by whether the target can have taken the message.
func unanswered(err error) Answer {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which may hold a key
	}
	var dial *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errForbidden):
		return Answer{Verdict: Forbidden, Detail: errForbidden.Error()}
	case errors.As(err, &dial) && dial.Op == "dial":
		return Answer{Verdict: Retry, Detail: "no connection"}
	case errors.As(err, &certificate): // before anything was said
		return Answer{Verdict: Denied, Detail: "its certificate is not valid"}
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return Answer{Verdict: Unknown, Detail: "no answer in time"}
	}
	return Answer{Verdict: Unknown, Detail: "connection lost"}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// RetryAfter reads a Retry-After header, seconds or a date (RFC 9110, section 10.2.3).
func RetryAfter(h string, now time.Time) time.Duration {
	if s, err := strconv.ParseInt(h, 10, 32); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// errForbidden says that an address is none that may be called.
var errForbidden = errors.New("the target's address is forbidden")

// public refuses addresses that a name in somebody else's DNS must not lead us to: this machine, its network and the
// metadata service of a cloud (server-side request forgery). It is asked when the connection is made, after resolving.
func public(prefix, address string) error {
	ip, err := addressOf(address)
	if err != nil {
		return err
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return fmt.Errorf("%w: %s is not public; set %sALLOW_PRIVATE=true if it is meant", errForbidden, ip, prefix)
	}
	for _, p := range special {
		if p.Contains(ip) {
			return fmt.Errorf("%w: %s is in %s; set %sALLOW_PRIVATE=true if it is meant", errForbidden, ip, p, prefix)
		}
	}
	return nil
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

// loopback refuses everything but this machine.
func loopback(address string) error {
	ip, err := addressOf(address)
	if err != nil {
		return err
	}
	if !ip.IsLoopback() {
		return fmt.Errorf("%w: %s is not this machine, and a simulated run calls nobody else", errForbidden, ip)
	}
	return nil
}

func addressOf(address string) (netip.Addr, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errForbidden, err)
	}
	return a.Addr().Unmap().WithZone(""), nil
}

func loopbackURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
