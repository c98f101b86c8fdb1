package crmfaults

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

// Call is a call as it arrived at the CRM.
type Call struct {
	Decision string // empty: it names none, such as one for a token
	Arrived  time.Time
	Attempt  int // of the decision, from 1
	Fault    sandbox.Fault
	Answered time.Time // of a 429 that asks to be left alone
	Until    time.Time // until when
}

// front stands before a fake: it keeps a log of the calls, and says which of them fail and how.
type front struct {
	fake   *sandbox.Fake
	faulty int // attempts of a decision that may fail; later ones do not, so that a schedule of hours ends

	mu       sync.Mutex
	calls    []*Call
	attempts map[string]int // by decision
	dealer   dealer
}

func newFront(fake *sandbox.Fake, faulty int, random *rand.Rand) *front {
	f := &front{fake: fake, faulty: faulty, attempts: map[string]int{}, dealer: dealer{random: random}}
	fake.Fault = func(r *http.Request) sandbox.Fault {
		c := r.Context().Value(callKey{}).(*Call)
		return f.deal(r.Context(), c)
	}
	return f
}

type callKey struct{}

// decisionID is what ids of decisions look like, those of the decider and ours.
var decisionID = regexp.MustCompile(`\bd-[0-9a-f]{24}\b`)

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 5<<20))
	if err != nil {
		panic(http.ErrAbortHandler) // it was not said in full: nothing was taken
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c := &Call{Decision: string(decisionID.Find(append([]byte(r.URL.Path+"\n"), body...))), Arrived: time.Now()}
	f.mu.Lock()
	f.calls = append(f.calls, c)
	if c.Decision != "" {
		f.attempts[c.Decision]++
		c.Attempt = f.attempts[c.Decision]
	}
	f.mu.Unlock()
	f.fake.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, err := strconv.Atoi(w.Header().Get("Retry-After")); err == nil {
		c.Answered, c.Until = now, now.Add(time.Duration(s)*time.Second)
	}
	if s, err := strconv.ParseInt(w.Header().Get("X-RateLimit-Reset"), 10, 64); err == nil {
		c.Answered, c.Until = now, time.Unix(s, 0)
	}
}

// log is a copy of the calls so far, in the order of their arrival.
func (f *front) log() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Call, len(f.calls))
	for i, c := range f.calls {
		all[i] = *c
	}
	return all
}

// counted is how many calls for a decision there were.
func (f *front) counted() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c.Decision != "" {
			n++
		}
	}
	return n
}

// deal says what happens to a call.
func (f *front) deal(ctx context.Context, c *Call) sandbox.Fault {
	f.mu.Lock()
	fault, gate := sandbox.None, (chan struct{})(nil)
	if c.Attempt > 0 && c.Attempt <= f.faulty {
		fault, gate = f.dealer.next(&f.mu)
	}
	c.Fault = fault
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	return fault
}

// dealer deals faults, a tenth of each kind. An account that has called too often is told so for a while, whoever calls, so a
// 429 comes to many calls at once; the other kinds are mixed. Never do more than a few of them come in a row: the connector
// would take that for an outage, and what an outage is for it is tested elsewhere, on a clock that can be turned.
type dealer struct {
	random *rand.Rand
	block  []sandbox.Fault // to be dealt next
	row    int             // failures dealt last, in a row

	owed  float64       // calls that are still to be answered with 429
	storm int           // calls of the storm that are still to come
	gate  chan struct{} // closed when the storm's calls have come: they are answered together
}

const (
	storm     = 40                      // calls that are answered with 429 together
	gathering = 1500 * time.Millisecond // how long they are waited for
	inARow    = 3
)

// next is called with mu, and returns what the answer has to wait for.
func (d *dealer) next(mu *sync.Mutex) (fault sandbox.Fault, gate chan struct{}) {
	d.owed += 0.1
	if d.storm == 0 && d.owed >= storm {
		g := make(chan struct{})
		d.storm, d.gate = storm, g
		time.AfterFunc(gathering, func() {
			mu.Lock()
			defer mu.Unlock()
			d.end(g)
		})
	}
	if d.storm > 0 {
		d.storm--
		d.owed--
		gate = d.gate
		if d.storm == 0 {
			d.end(gate)
		}
		return sandbox.TooMany, gate
	}
	if len(d.block) == 0 {
		d.shuffle()
	}
	fault, d.block = d.block[0], d.block[1:]
	if d.row++; fault == sandbox.None {
		d.row = 0
	}
	return fault, nil
}

// end ends a storm, if it is that of the gate.
func (d *dealer) end(gate chan struct{}) {
	if d.gate == gate {
		close(gate)
		d.storm, d.gate = 0, nil
	}
}

func (d *dealer) shuffle() {
	d.block = []sandbox.Fault{
		sandbox.ErrorBefore, sandbox.ErrorAfter, sandbox.LostBefore, sandbox.LostAfter, sandbox.Slow,
		sandbox.None, sandbox.None, sandbox.None, sandbox.None, // with the tenth of 429 they are ten
	}
	for {
		d.random.Shuffle(len(d.block), func(i, j int) { d.block[i], d.block[j] = d.block[j], d.block[i] })
		row, most := d.row, 0
		for _, f := range d.block {
			if row++; f == sandbox.None {
				row = 0
			}
			most = max(most, row)
		}
		if most <= inARow {
			return
		}
	}
}
