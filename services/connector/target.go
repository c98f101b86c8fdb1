package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/propagation"
	"golang.org/x/time/rate"

	"github.com/tempismo/tempismo/pkg/config"
)

// target is the endpoint that is called. It is shared by all partitions: what it says about itself, that it is gone or
// wants to be left alone for a while, holds for all of them.
type target struct {
	url     string // empty: nobody is called
	signers []*standardwebhooks.Webhook
	client  *http.Client
	slots   chan struct{} // calls under way
	limiter *rate.Limiter

	mu     sync.Mutex
	gone   bool      // it answered 410
	paused time.Time // it asked, with Retry-After, not to be called before
}

// validate names everything that is wrong with the webhook's settings for a run of this kind.
func (w Webhook) validate(simulated bool) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !simulated || w.URL != "" {
		switch u, err := url.Parse(w.URL); {
		case w.URL == "":
			wrong("WEBHOOK_URL: must be set for a live run, e.g. https://crm.example.com/hooks/tempismo")
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			wrong("WEBHOOK_URL: %q: give a URL such as https://crm.example.com/hooks/tempismo", w.URL)
		case u.Scheme == "http" && !w.AllowPrivate:
			wrong("WEBHOOK_URL: %q: use https, or set WEBHOOK_ALLOW_PRIVATE=true for a target of your own network", w.URL)
		}
	}
	if w.SimulatedTarget != "" && !loopbackURL(w.SimulatedTarget) {
		wrong("WEBHOOK_SIMULATED_TARGET: %q: a simulated run may only call this machine, e.g. http://127.0.0.1:8089/", w.SimulatedTarget)
	}
	if w.Secret != "" || !simulated || w.SimulatedTarget != "" {
		if _, err := signers(w.Secret); err != nil {
			errs = append(errs, err)
		}
	}
	if w.Name == "" {
		wrong("WEBHOOK_NAME: must not be empty, it stands in every outcome")
	}
	if w.Timeout < time.Second || w.Timeout > 30*time.Second {
		wrong("WEBHOOK_TIMEOUT: %v is not between 1s and 30s", w.Timeout)
	}
	if w.Concurrency < 1 || w.Concurrency > 1000 {
		wrong("WEBHOOK_CONCURRENCY: %d is not between 1 and 1000", w.Concurrency)
	}
	if !(w.Rate >= 0) {
		wrong("WEBHOOK_RATE: %v: give a number of calls per second, or 0 for no limit", w.Rate)
	}
	return errors.Join(errs...)
}

// signers reads the secrets. The specification asks for 24 to 64 random bytes in base64 after "whsec_".
func signers(secrets config.Secret) ([]*standardwebhooks.Webhook, error) {
	var all []*standardwebhooks.Webhook
	for i, text := range strings.Fields(string(secrets)) {
		encoded, ok := strings.CutPrefix(text, "whsec_")
		w, err := standardwebhooks.NewWebhook(encoded)
		// Three bytes stand in four characters.
		if size := len(strings.TrimRight(encoded, "=")) * 3 / 4; !ok || err != nil || size < 24 || size > 64 {
			return nil, fmt.Errorf("WEBHOOK_SECRET: secret %d is not whsec_ and 24 to 64 bytes in base64; `echo whsec_$(openssl rand -base64 32)` makes one", i+1)
		}
		all = append(all, w)
	}
	if len(all) == 0 {
		return nil, errors.New("WEBHOOK_SECRET: must be set; `echo whsec_$(openssl rand -base64 32)` makes one")
	}
	return all, nil
}

// newTarget makes the target of a run. A simulated one is never the CRM.
func newTarget(w Webhook, simulated bool) (*target, error) {
	t := &target{url: w.URL, slots: make(chan struct{}, w.Concurrency), limiter: rate.NewLimiter(rate.Inf, 1)}
	guard := public
	switch {
	case simulated:
		t.url, guard = w.SimulatedTarget, loopback
	case w.AllowPrivate:
		guard = nil
	}
	if t.url == "" {
		return t, nil
	}
	if w.Rate > 0 {
		t.limiter = rate.NewLimiter(rate.Limit(w.Rate), 1)
	}
	var err error
	if t.signers, err = signers(w.Secret); err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: w.Timeout}
	if guard != nil {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return guard(address) }
	}
	t.client = &http.Client{
		Timeout: w.Timeout,
		// A redirect could lead past the guard of whoever configured the URL, and the specification counts it a failure.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy: the guard must see the address that is really called.
		Transport: &http.Transport{
			DialContext:           dialer.DialContext,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   w.Concurrency,
			IdleConnTimeout:       time.Minute,
			TLSHandshakeTimeout:   w.Timeout,
			ResponseHeaderTimeout: w.Timeout,
		},
	}
	return t, nil
}

// errForbidden says that an address is none that may be called.
var errForbidden = errors.New("the target's address is forbidden")

// public refuses addresses that a name in somebody else's DNS must not lead us to: this machine, its network and the
// metadata service of a cloud (server-side request forgery). It is asked when the connection is made, after resolving.
func public(address string) error {
	ip, err := addressOf(address)
	if err != nil {
		return err
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return fmt.Errorf("%w: %s is not public; set WEBHOOK_ALLOW_PRIVATE=true if it is meant", errForbidden, ip)
	}
	for _, p := range special {
		if p.Contains(ip) {
			return fmt.Errorf("%w: %s is in %s; set WEBHOOK_ALLOW_PRIVATE=true if it is meant", errForbidden, ip, p)
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

// answer is what became of one call.
type answer struct {
	verdict verdict
	detail  string        // without personal data
	after   time.Duration // the target's wish (Retry-After); 0: none
}

// verdict sorts answers by what has to be done next.
type verdict string

const (
	took      verdict = "accepted"
	refuses   verdict = "refused"   // will never take this message
	gone      verdict = "gone"      // will never take any message
	failed    verdict = "failed"    // did not take it; try again
	silent    verdict = "silent"    // may have taken it; try again with the same id
	forbidden verdict = "forbidden" // was not called: the guard forbids the address
)

// call makes one attempt to hand the message over. now is the time that is signed.
func (t *target) call(ctx context.Context, id string, body []byte, now time.Time) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, strings.NewReader(string(body)))
	if err != nil {
		return answer{verdict: refuses, detail: "the target's URL is not usable"}
	}
	signatures := make([]string, len(t.signers))
	for i, s := range t.signers {
		if signatures[i], err = s.Sign(id, now, body); err != nil {
			return answer{verdict: refuses, detail: "the message cannot be signed"}
		}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))

	resp, err := t.client.Do(req)
	if err != nil {
		return unanswered(err)
	}
	defer resp.Body.Close()
	// Reading the rest lets the connection be used again; what it says is of no interest.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	a := answer{detail: "HTTP " + strconv.Itoa(resp.StatusCode)}
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		a.verdict = took
	case code == http.StatusGone:
		a.verdict = gone
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		a.verdict = failed
	case code >= 400 && code < 500:
		a.verdict = refuses
	default: // redirects and server errors
		a.verdict = failed
	}
	if a.verdict == failed {
		a.after = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	return a
}

// unanswered sorts errors by whether the target can have taken the message.
func unanswered(err error) answer {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which may hold a key
	}
	var dial *net.OpError
	switch {
	case errors.Is(err, errForbidden):
		return answer{verdict: forbidden, detail: errForbidden.Error()}
	case errors.As(err, &dial) && dial.Op == "dial":
		return answer{verdict: failed, detail: "no connection"}
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return answer{verdict: silent, detail: "no answer in time"}
	}
	return answer{verdict: silent, detail: "connection lost"}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// retryAfter reads a Retry-After header, seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(h string, now time.Time) time.Duration {
	if s, err := strconv.ParseInt(h, 10, 32); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// pause notes that the target wants to be left alone until then.
func (t *target) pause(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if until.After(t.paused) {
		t.paused = until
	}
}

// pausedUntil is when the target may be called again; long ago if it has no wish.
func (t *target) pausedUntil() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.paused
}

// close notes that the target is gone, and reports whether that is new.
func (t *target) close() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.gone
	t.gone = true
	return !was
}

func (t *target) isGone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone
}
