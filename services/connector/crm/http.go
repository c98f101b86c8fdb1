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
	"time"

	"github.com/tempismo/tempismo/pkg/outbound"
)

// Calls are the settings that every CRM has.
type Calls struct {
	Name            string        `name:"name" env:"NAME" help:"Name of this connector in outcomes. Empty: the target's. It is what the connector knows its own calls by after a restart: do not change it while something is to be sent."`
	Timeout         time.Duration `name:"timeout" env:"TIMEOUT" default:"15s" help:"How long one call may take; 1s to 30s."`
	Concurrency     int           `name:"concurrency" env:"CONCURRENCY" default:"16" help:"Most calls at once; those for one customer always come one after the other."`
	Rate            float64       `name:"rate" env:"RATE" default:"0" help:"Most calls per second of all connectors of the run together; 0: as many as the target is known to allow one account."`
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

// Client makes the client for a run, which refuses addresses that the run must not reach (package outbound).
func (c Calls) Client(prefix string, simulated bool) *http.Client {
	var guard outbound.Guard
	switch {
	case simulated:
		guard = outbound.Loopback
	case !c.AllowPrivate:
		guard = func(ip netip.Addr) error {
			if err := outbound.Public(ip); err != nil {
				return fmt.Errorf("%w; set %sALLOW_PRIVATE=true if it is meant", err, prefix)
			}
			return nil
		}
	}
	return outbound.New(c.Timeout, c.Concurrency, guard)
}

// MaxBody bounds what is read of an answer. The rest of a longer one is left, with its connection.
const MaxBody = 64 << 10

// MaxID bounds a CRM's id of a send. No documented one is longer than a UUID; one that is too long is left out, because half of it is none.
const MaxID = 256

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
	a := sort(resp.StatusCode, resp.Header, body)
	if len(a.ID) > MaxID {
		a.ID = ""
	}
	return a
}

// Sort is how the answers of a CRM's API are sorted by their status: only what says that nothing was taken may be tried
// again where the CRM has no key. What a gateway answers in place of a CRM that may have the message is no such thing, and
// it cannot be told from an error of the CRM itself: every 5xx leaves it open.
func Sort(code int, header http.Header, now time.Time) Answer {
	a := Answer{Detail: "HTTP " + strconv.Itoa(code)}
	switch {
	case code >= 200 && code < 300:
		a.Verdict, a.Detail = Accepted, ""
	case code == http.StatusTooManyRequests, code == http.StatusTooEarly:
		a.Verdict, a.After = Retry, outbound.RetryAfter(header.Get("Retry-After"), now)
	case code == http.StatusRequestTimeout, code >= 500:
		a.Verdict, a.After = Unknown, outbound.RetryAfter(header.Get("Retry-After"), now)
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
	case errors.Is(err, outbound.ErrForbidden):
		return Answer{Verdict: Forbidden, Detail: outbound.ErrForbidden.Error()}
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

func loopbackURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
