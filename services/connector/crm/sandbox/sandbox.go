// Package sandbox imitates CRMs, for tests and for people who want to see what the connector does without an account. A fake
// demands what the CRM's documentation demands, counts as the CRM is documented to count, and keeps a ledger of what it
// would have sent. It can be made to fail in every way in which a CRM can.
//
// It is not the CRM: where the documentation is silent it does what is worst for the caller, and it sends nothing.
package sandbox

import (
	"encoding/json"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is what happens to a call.
type Fault int

// Faults. A caller that is told nothing, or of an error, cannot tell those before from those after the message was taken.
const (
	None        Fault = iota
	TooMany           // 429, not taken
	ErrorBefore       // 500, not taken
	ErrorAfter        // 500, and taken
	LostBefore        // the connection breaks, not taken
	LostAfter         // the connection breaks, and taken
	Slow              // taken, and answered late
	faults
)

// Kinds is how many kinds of faults there are; they are numbered from 1.
const Kinds = int(faults) - 1

// Sent is a message that the CRM would have sent.
type Sent struct {
	CRM      string    `json:"crm"`
	Decision string    `json:"decision"`
	Customer string    `json:"customer"`
	At       time.Time `json:"at"`
}

// Written is a contact whose properties the CRM has written.
type Written struct {
	CRM        string         `json:"crm"`
	Customer   string         `json:"customer"`
	Properties map[string]any `json:"properties"` // those that are there afterwards
	At         time.Time      `json:"at"`
}

// Fake is one CRM.
type Fake struct {
	Now     func() time.Time                            // nil: time.Now
	Fault   func(*http.Request) Fault                   // what happens to a call, whose body is read; nil: nothing
	Late    time.Duration                               // by how much Slow is late
	Rest    time.Duration                               // least that a 429 asks for, where it says how long; 0: a second
	Told    func(Sent)                                  // called for every message, if it is set
	Wrote   func(Written)                               // called for every contact written, if it is set
	Unknown func(customer string) bool                  // nil: it knows everybody
	name    string                                      // of the CRM
	limit   []window                                    // what the account may do
	wait    func(http.Header, time.Duration, time.Time) // says in the headers of a 429 how long to wait from now on; nil: it does not

	// answer answers a call that is within the limits. What it takes it puts into the ledger.
	answer func(f *Fake, r *http.Request, body []byte) reply

	mu       sync.Mutex
	sent     []Sent
	written  []Written
	contacts map[string]map[string]any // properties by customer
	sizes    []int                     // contacts in each call that wrote some
	seen     map[string]bool           // keys
	calls    int
	limited  int
}

// window is a limit in fixed windows.
type window struct {
	path  string // what the calls that it counts begin with; empty: all
	most  int
	per   time.Duration
	since time.Time
	calls int
}

// reply is an answer.
type reply struct {
	code int
	body any // nil: none
}

// Sent returns the ledger.
func (f *Fake) Sent() []Sent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Sent{}, f.sent...)
}

// Contacts returns the properties of all contacts that were written and not emptied, by customer.
func (f *Fake) Contacts() map[string]map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]map[string]any{}
	for who, properties := range f.contacts {
		all[who] = maps.Clone(properties)
	}
	return all
}

// Written returns every write of a contact, and how many contacts there were in each call.
func (f *Fake) Written() (all []Written, sizes []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.written), slices.Clone(f.sizes)
}

// Scale multiplies what the account may do, for who has no hours to wait.
func (f *Fake) Scale(by float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.limit {
		f.limit[i].most = int(by * float64(f.limit[i].most))
	}
}

// Calls are the calls so far, and those of them that were beyond a limit.
func (f *Fake) Calls() (all, limited int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls, f.limited
}

func (f *Fake) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

// ServeHTTP answers a call.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 5<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fault := None
	if f.Fault != nil {
		fault = f.Fault(r)
	}
	if wait := f.count(r.URL.Path); wait > 0 || fault == TooMany {
		if f.wait != nil {
			f.wait(w.Header(), max(wait, f.Rest, time.Second), f.now())
		}
		write(w, reply{http.StatusTooManyRequests, map[string]any{"errors": []any{map[string]string{"code": "throttled", "title": "Request was throttled."}}, "message": "rate limited"}})
		return
	}
	switch fault {
	case LostBefore:
		panic(http.ErrAbortHandler)
	case ErrorBefore:
		write(w, reply{http.StatusInternalServerError, map[string]string{"message": "internal error"}})
		return
	}
	a := f.answer(f, r, body)
	switch fault {
	case LostAfter:
		panic(http.ErrAbortHandler)
	case ErrorAfter:
		a = reply{http.StatusInternalServerError, map[string]string{"message": "internal error"}}
	case Slow:
		t := time.NewTimer(f.Late)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	write(w, a)
}

// count counts a call, and returns how long it has to wait if a window is full.
func (f *Fake) count(path string) (wait time.Duration) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	for i := range f.limit {
		l := &f.limit[i]
		if !strings.HasPrefix(path, l.path) {
			continue
		}
		if since := now.Truncate(l.per); !since.Equal(l.since) {
			l.since, l.calls = since, 0
		}
		if l.calls++; l.calls > l.most {
			wait = max(wait, l.since.Add(l.per).Sub(now))
		}
	}
	if wait > 0 {
		f.limited++
	}
	return wait
}

// take puts a message into the ledger. key is what the CRM knows a second call by; empty: by nothing.
func (f *Fake) take(key, decision, customer string) {
	s := Sent{f.name, decision, customer, f.now()}
	f.mu.Lock()
	if key != "" {
		if f.seen[key] {
			f.mu.Unlock()
			return
		}
		f.seen[key] = true
	}
	f.sent = append(f.sent, s)
	f.mu.Unlock()
	if f.Told != nil {
		f.Told(s)
	}
}

// unknown reports whether the CRM does not know a customer.
func (f *Fake) unknown(customer string) bool { return f.Unknown != nil && f.Unknown(customer) }

// update writes properties of a contact: those that are nil or empty are taken away.
func (f *Fake) update(customer string, properties map[string]any) {
	f.mu.Lock()
	there := f.contacts[customer]
	if there == nil {
		there = map[string]any{}
	}
	for name, v := range properties {
		if v == nil || v == "" {
			delete(there, name)
		} else {
			there[name] = v
		}
	}
	if f.contacts == nil {
		f.contacts = map[string]map[string]any{}
	}
	if f.contacts[customer] = there; len(there) == 0 {
		delete(f.contacts, customer)
	}
	w := Written{f.name, customer, maps.Clone(there), f.now()}
	f.written = append(f.written, w)
	f.mu.Unlock()
	if f.Wrote != nil {
		f.Wrote(w)
	}
}

// batch notes how many contacts a call has.
func (f *Fake) batch(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sizes = append(f.sizes, n)
}

// write writes an answer. Who is gone does not get it.
func write(w http.ResponseWriter, a reply) {
	if a.body == nil {
		w.WriteHeader(a.code)
		return
	}
	text, err := json.Marshal(a.body)
	if err != nil {
		panic(err) // a reply of ours that JSON cannot hold
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.code)
	_, _ = w.Write(text)
}

// retryAfter is the header of RFC 9110, in whole seconds.
func retryAfter(h http.Header, wait time.Duration, _ time.Time) {
	h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
}
