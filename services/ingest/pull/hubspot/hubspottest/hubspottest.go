// Package hubspottest imitates the list of email events of a HubSpot account, as HubSpot documents it, and has it fail. Only tests
// import it; it is no sandbox for people, and what the documentation leaves open it decides in the least convenient way.
package hubspottest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Token is the one that an Account takes.
const Token = "pat-eu1-00000000-0000-0000-0000-000000000000"

// Event is an event of the account.
type Event struct {
	ID      string
	Created time.Time
	Appears time.Time // in the list
	Raw     string    // as the list tells it; empty: an open
}

// Told is e as the list tells it.
func (e Event) Told() string {
	if e.Raw != "" {
		return e.Raw
	}
	return fmt.Sprintf(`{"id":%q,"created":%d,"type":"OPEN","recipient":"Anna@Example.com","emailCampaignId":7,"hmid":"m-1"}`, e.ID, e.Created.UnixMilli())
}

// Account imitates the list of email events as HubSpot documents it: newest first, at most 1000 at once, opaque offsets that are good
// for the same parameters and for a while only, a bearer token, 100 calls in 10 seconds. It is a RoundTripper, so that its clock
// can be that of a test.
type Account struct {
	mu     sync.Mutex
	events []Event // newest first
	calls  []time.Time
	faults []Fault // of the next calls, in order
	broken Fault   // of all calls after them
	offset map[string]opened
	issued int
}

// opened is what an offset stands for.
type opened struct {
	query string
	told  map[string]bool // until then
	at    time.Time
}

// Fault is what a call meets in place of an answer; none where it is nil.
type Fault func(w http.ResponseWriter, r *http.Request)

// Status answers with an error as HubSpot writes them.
func Status(code int, category string, more ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range more {
			name, value, _ := strings.Cut(h, ": ")
			w.Header().Set(name, value)
		}
		refuse(w, code, category)
	}
}

func refuse(w http.ResponseWriter, code int, category string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"status":"error","message":"of anna@example.com","category":%q,"correlationId":"c"}`, category)
}

// Text answers 200 with something.
func Text(body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

// Happen adds events.
func (a *Account) Happen(events ...Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, events...)
	slices.SortStableFunc(a.events, func(x, y Event) int { return y.Created.Compare(x.Created) })
}

// Fail has the next calls fail.
func (a *Account) Fail(faults ...Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, faults...)
}

// Fails has all calls fail from now on; nil: none.
func (a *Account) Fails(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = f
}

// Called is when calls were made.
func (a *Account) Called() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}

// RoundTrip answers at once, in the goroutine of the caller.
func (a *Account) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// ServeHTTP answers a call.
func (a *Account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	a.mu.Lock()
	a.calls = append(a.calls, now)
	f := a.broken
	if len(a.faults) > 0 {
		f, a.faults = a.faults[0], a.faults[1:]
	}
	a.mu.Unlock()
	if f != nil {
		f(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	lately := 0
	for _, at := range slices.Backward(a.calls) {
		if now.Sub(at) >= 10*time.Second {
			break
		}
		lately++
	}
	q := r.URL.Query()
	limit := 10
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			refuse(w, http.StatusBadRequest, "VALIDATION_ERROR")
			return
		}
		limit = n
	}
	from, err1 := strconv.ParseInt(q.Get("startTimestamp"), 10, 64)
	to, err2 := strconv.ParseInt(q.Get("endTimestamp"), 10, 64)
	offset := q.Get("offset")
	q.Del("offset")
	q.Del("limit")
	switch {
	case r.Method != http.MethodGet || r.URL.Path != "/email/public/v1/events":
		refuse(w, http.StatusNotFound, "OBJECT_NOT_FOUND")
		return
	case r.Header.Get("Authorization") != "Bearer "+Token:
		refuse(w, http.StatusUnauthorized, "INVALID_AUTHENTICATION")
		return
	case lately > 100:
		refuse(w, http.StatusTooManyRequests, "RATE_LIMITS")
		return
	case err1 != nil || err2 != nil || from > to:
		refuse(w, http.StatusBadRequest, "VALIDATION_ERROR")
		return
	}
	told := map[string]bool{}
	if offset != "" {
		o, ok := a.offset[offset]
		if !ok || o.query != q.Encode() || now.Sub(o.at) > time.Minute {
			refuse(w, http.StatusBadRequest, "VALIDATION_ERROR")
			return
		}
		told = o.told
	}
	var found []Event // the newest first, and one more than fit
	for _, e := range a.events {
		if len(found) > limit {
			break
		}
		if at := e.Created.UnixMilli(); at >= from && at <= to && !e.Appears.After(now) && !told[e.ID] {
			found = append(found, e)
		}
	}
	answer := struct {
		Events []json.RawMessage `json:"events"`
		More   bool              `json:"hasMore"`
		Offset string            `json:"offset"`
	}{Events: []json.RawMessage{}}
	for _, e := range found[:min(limit, len(found))] {
		answer.Events = append(answer.Events, json.RawMessage(e.Told()))
		told[e.ID] = true
	}
	if len(found) > limit {
		a.issued++
		answer.More, answer.Offset = true, "o-"+strconv.Itoa(a.issued)
		if a.offset == nil {
			a.offset = map[string]opened{}
		}
		a.offset[answer.Offset] = opened{q.Encode(), told, now}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // a test that breaks the connection has gone
}
