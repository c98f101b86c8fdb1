// Package webhook is what ingest wants of an email service provider that reports over HTTP, and what the packages below it,
// one for each provider, have in common: comparing secrets and signatures, the window against replays, JSON of loose forms, times, ids of events that
// have none, names of the provider's fields in errors.
//
// It serves nothing and writes nowhere: the server in package ingest does, and its table of providers says which there are. It
// does not judge who caused an event beyond what one event shows, and remembers no events.
//
// One rule for all: a delay is no bounce. While a provider still tries to deliver, what it tells of that is ignored; once it has
// given up there is a bounce, whatever the reason was.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// Request is a provider's request as it came. The body is raw, because signatures are over its bytes: whoever decodes it before
// it is verified has already trusted it.
type Request struct {
	Method string
	URL    string // as the provider has called it, scheme, host and query included; some sign it
	Header http.Header
	Body   []byte
	Now    time.Time // here, when it came
}

// Source is one configured provider.
type Source interface {
	// Early looks at the headers alone, before room is made for a body. Its error is that of Verify.
	Early(h http.Header) error

	// Verify says whether the provider has sent the request: nil, ErrUnverified with a reason that helps the operator and no
	// attacker, or another error where that cannot be found out now (503: the provider is to try again).
	Verify(ctx context.Context, r *Request) error

	// Read takes a verified request apart, in the order of its elements. Its error, which is for a body that is no such
	// request at all, names what was expected. It needs no settings: what was set aside is read again by a Source that has none.
	Read(r *Request) ([]Element, error)
}

// Wanting is an optional part of a Source whose Read wants more of a request than its body: the headers that it names. They are
// kept with what is set aside.
type Wanting interface {
	Wants() []string
}

// Element is one thing that a request reports. Exactly one of Event, Erase, Ignored and Err is set.
type Element struct {
	Event   *engagement.Event
	Erase   *Erase
	Ignored string // the provider's name for what is no engagement, or what we have never heard of
	Err     error  // why it cannot be mapped; an *engagement.FieldError names the provider's field
	Raw     []byte // as it came, for the dead letters; Read as the body of a request, it gives the element again

	// What the server judges the actor of Event by, beside its UserAgent. A Source leaves Actor and ActorRule alone.
	Machine bool       // the provider says that a machine did it
	Address netip.Addr // from where it was done, if the provider tells; it goes no further
}

// Erase is a customer whom the provider's user has had erased there, and who is to be forgotten here as well.
type Erase struct {
	Customer string
	Before   time.Time // events of before this instant are ignored from now on
}

// Handshake is an optional part of a Source: a request that has to be answered in a certain way for the provider to go on, such
// as the confirmation of a subscription. ok is false for every other one.
type Handshake interface {
	Shake(ctx context.Context, r *Request) (answer []byte, ok bool, err error)
}

// ErrUnverified is wrapped by errors about requests that are not the provider's, or may be replayed.
var ErrUnverified = errors.New("not verified")

// Unverified is ErrUnverified with a reason.
func Unverified(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnverified, fmt.Sprintf(format, args...))
}

// Tolerance is how old a signature may be before the request counts as replayed, where the provider documents no other age, and
// how far any provider's clock may be ahead of ours.
const Tolerance = 300 * time.Second

// Fresh refuses what was made longer ago than oldest, or is ahead of the clock here by more than the tolerance.
func Fresh(made, now time.Time, oldest time.Duration) error {
	if age := now.Sub(made); age > oldest || age < -Tolerance {
		return Unverified("it was made more than %v ago, or in the future: look at the clocks", oldest)
	}
	return nil
}

// LeastSecret keeps out what is no key, and secrets that can be guessed.
const LeastSecret = 16

// Keys are secrets of which any one will do, so that they can be exchanged without a gap.
type Keys [][]byte

// NewKeys takes secrets apart that are separated by commas, and refuses those that are too short to be one.
func NewKeys(list string, least int) (Keys, error) {
	var keys Keys
	for secret := range strings.SplitSeq(list, ",") {
		if secret = strings.TrimSpace(secret); secret == "" {
			continue
		}
		if len(secret) < least {
			return nil, fmt.Errorf("a secret has fewer than %d characters", least)
		}
		keys = append(keys, []byte(secret))
	}
	return keys, nil
}

// Signed reports whether mac is the HMAC of the parts, one after the other, under any of the keys. All are tried, and each
// comparison takes the same time whatever it finds.
func (k Keys) Signed(mac []byte, with func() hash.Hash, parts ...[]byte) bool {
	fits := false
	for _, key := range k {
		h := hmac.New(with, key)
		for _, p := range parts {
			h.Write(p)
		}
		fits = hmac.Equal(h.Sum(nil), mac) || fits
	}
	return fits
}

// NewLogins takes logins apart, each USER:PASSWORD, that are separated by commas. Its error names all that are none, or have a
// short password.
func NewLogins(list string) (Keys, error) {
	logins, _ := NewKeys(list, 0) // any length: the passwords are measured here
	var problems []error
	for i, login := range logins {
		user, password, ok := strings.Cut(string(login), ":")
		if !ok || user == "" || len(password) < LeastSecret {
			problems = append(problems, fmt.Errorf("login %d is not USER:PASSWORD with a password of at least %d characters: use a long random one", i+1, LeastSecret))
		}
	}
	return logins, errors.Join(problems...)
}

// Has reports whether a secret is one of the keys. All are compared, by their sums: each comparison takes the same time whatever
// it finds, and whatever the lengths.
func (k Keys) Has(secret string) bool {
	sum, found := sha256.Sum256([]byte(secret)), 0
	for _, key := range k {
		s := sha256.Sum256(key)
		found |= subtle.ConstantTimeCompare(s[:], sum[:])
	}
	return found == 1
}

// HasLogin reports whether a request carries one of the logins.
func (k Keys) HasLogin(h http.Header) bool {
	user, password, ok := (&http.Request{Header: h}).BasicAuth()
	return ok && k.Has(user+":"+password)
}

// Hex decodes a signature; what is none is an empty one, which fits nothing.
func Hex(s string) []byte {
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil
	}
	return b
}

// Base64 decodes a signature in standard encoding; what is none is an empty one.
func Base64(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil
	}
	return b
}

// ID names an event of a provider that gives it no id: SHA-256 of provider, message, recipient, type, time and link. The same event
// told twice has the same one.
func ID(provider, message, recipient, typ string, at time.Time, link string) string {
	h := sha256.New()
	for _, part := range [...]string{provider, message, recipient, typ, strconv.FormatInt(at.UnixMilli(), 10), link} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Years beyond which a time is a mistake, and most likely one of units.
var earliest, latest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// Seconds is the time of a JSON number of Unix seconds, whole or with a fraction, to the millisecond.
func Seconds(raw json.RawMessage) (time.Time, error) { return number(raw, 1000, "seconds") }

// Millis is the time of a JSON number of Unix milliseconds.
func Millis(raw json.RawMessage) (time.Time, error) { return number(raw, 1, "milliseconds") }

func number(raw json.RawMessage, scale float64, unit string) (time.Time, error) {
	v, err := strconv.ParseFloat(strings.Trim(string(raw), `"`), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return time.Time{}, fmt.Errorf("must be a Unix time in %s", unit)
	}
	if v = math.Round(v * scale); v < float64(earliest.UnixMilli()) || v > float64(latest.UnixMilli()) {
		return time.Time{}, fmt.Errorf("must be a Unix time in %s of this century", unit)
	}
	return time.UnixMilli(int64(v)).UTC(), nil
}

// ISO is the time of ISO 8601 text with a zone, with any number of decimals.
func ISO(s string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, errors.New("must be a time such as 2026-03-01T10:00:00Z, with its zone")
	}
	if at.Before(earliest) || at.After(latest) {
		return time.Time{}, errors.New("must be a time of this century")
	}
	return at.UTC(), nil
}

// Wrong is an error in a field of the provider's.
func Wrong(field, format string, args ...any) error {
	return &engagement.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Failed is an element that cannot be mapped, because of a field of the provider's.
func Failed(field, format string, args ...any) Element {
	return Element{Err: Wrong(field, format, args...)}
}

// Renamed gives an error of Validate the provider's name of the field, which is what the sender can look at: names has it by our
// own name. Other errors, and fields without another name, stay as they are.
func Renamed(err error, names map[string]string) error {
	var wrong *engagement.FieldError
	if !errors.As(err, &wrong) || names[wrong.Field] == "" {
		return err
	}
	return &engagement.FieldError{Field: names[wrong.Field], Reason: wrong.Reason}
}

// Each reads a body that is one JSON object, or an array of them, each object by itself.
func Each(body []byte, read func(raw json.RawMessage) Element) ([]Element, error) {
	objects, err := Objects(body)
	if err != nil {
		return nil, err
	}
	all := make([]Element, len(objects))
	for i, raw := range objects {
		all[i] = read(raw)
		all[i].Raw = raw
	}
	return all, nil
}

// Objects takes a body apart that is one JSON object, or an array of them. Elements that are no object are kept: whoever reads
// them refuses each by itself.
func Objects(body []byte) ([]json.RawMessage, error) {
	var all []json.RawMessage
	err := json.Unmarshal(body, &all)
	if err == nil {
		return all, nil
	}
	var one map[string]json.RawMessage
	if json.Unmarshal(body, &one) != nil {
		return nil, fmt.Errorf("the body is neither a JSON object nor an array of them: %w", err)
	}
	return []json.RawMessage{body}, nil
}

// Object returns the members of a JSON object; nil where raw is none, because members that matter to nobody may have any form.
// It keeps members apart whose names differ in case alone, which decoding into a struct does not.
func Object(raw json.RawMessage) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	return m
}

// Decode decodes a JSON object. Its error names the field whose form is wrong.
func Decode(raw json.RawMessage, into any) error {
	err := json.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return Wrong(wrong.Field, "must not be of type %s", wrong.Value)
	}
	return Wrong("", "must be a JSON object")
}

// Text is a JSON string, or a number as it is written, as ids are; anything else counts as absent.
type Text string

// UnmarshalJSON never fails.
func (t *Text) UnmarshalJSON(raw []byte) error {
	*t = Text(TextOf(raw))
	return nil
}

// TextOf is the Text of a member; empty where there is none.
func TextOf(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case c == '-' || c >= '0' && c <= '9':
		return string(raw)
	}
	return ""
}

// First is the first text of an array.
func First(raw json.RawMessage) string {
	var list []Text
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return ""
	}
	return string(list[0])
}

// True reports whether a member is true.
func True(raw json.RawMessage) bool { return string(raw) == "true" }

// Customer is the id of the customer that the sender has attached to a message; empty where there is none. One that is neither
// text nor a number is an error in that field: the address in its stead would be another customer.
func Customer(raw json.RawMessage, field string) (string, error) {
	if len(raw) > 0 && strings.IndexByte("{[tf", raw[0]) >= 0 {
		return "", Wrong(field, "must be a string or a number")
	}
	return TextOf(raw), nil
}

// Address is an email address as a customer's id: trimmed and in lower case.
func Address(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
