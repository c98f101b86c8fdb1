package chaos

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Receiver is the CRM of a round: a webhook that verifies signatures, answers as it is told, and keeps a log of every call.
type Receiver struct {
	hook   *standardwebhooks.Webhook
	url    string
	server *http.Server

	mu     sync.Mutex
	calls  []Call
	status func(*Call) int
}

// Call is one call that the receiver saw.
type Call struct {
	WebhookID string
	Decision  string // id in the body
	Request   string // that the decision releases; empty: none
	Customer  string
	Body      string    // hash: every attempt must say the same
	Time      time.Time // of the body
	Arrived   time.Time
	Unsigned  bool // the signature does not fit
	Status    int  // what it answered; 0: it cut the connection
}

// secret signs the calls of every round; nothing of it is secret.
const secret = "whsec_Y2hhb3MtY2hhb3MtY2hhb3MtY2hhb3MtY2hhb3M="

// NewReceiver starts a receiver on a free port of this machine.
func NewReceiver() (*Receiver, error) {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &Receiver{hook: hook, url: "http://" + l.Addr().String() + "/hook"}
	h.server = &http.Server{Handler: http.HandlerFunc(h.serve), ReadHeaderTimeout: time.Minute}
	go func() { _ = h.server.Serve(l) }() // it returns at Close
	return h, nil
}

// URL is WEBHOOK_URL of the connector, Secret its WEBHOOK_SECRET. WEBHOOK_ALLOW_PRIVATE must be true.
func (h *Receiver) URL() string { return h.url }

// Secret is the signing secret.
func (h *Receiver) Secret() string { return secret }

// Calls is the log so far, in order of arrival.
func (h *Receiver) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// Answer sets what is answered from now on: an HTTP status; nil: 200. What it returns as 0 cuts the connection after the
// call was taken.
func (h *Receiver) Answer(status func(c *Call) int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

// Close ends it.
func (h *Receiver) Close() error { return h.server.Close() }

func (h *Receiver) serve(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now().UTC()
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return // the caller is gone: nothing was taken
	}
	c := readCall(r.Header, body)
	c.Arrived, c.Unsigned = arrived, h.hook.Verify(body, r.Header) != nil
	h.mu.Lock()
	if c.Status = http.StatusOK; h.status != nil {
		c.Status = h.status(&c)
	}
	h.calls = append(h.calls, c)
	h.mu.Unlock()
	if c.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(c.Status)
}

func readCall(header http.Header, body []byte) Call {
	var message struct {
		Timestamp time.Time
		Data      struct {
			ID       string
			Customer string
			Decision struct{ Request string }
		}
	}
	sum := sha256.Sum256(body)
	c := Call{WebhookID: header.Get(standardwebhooks.HeaderWebhookID), Body: hex.EncodeToString(sum[:8])}
	if err := json.Unmarshal(body, &message); err != nil {
		return c // it names no decision, which the checker finds
	}
	c.Decision, c.Customer, c.Time = message.Data.ID, message.Data.Customer, message.Timestamp
	c.Request = message.Data.Decision.Request
	return c
}

// taken reports whether the receiver has the message: it cut the connection after it had read it, or said yes.
func (c *Call) taken() bool { return c.Status == 0 || c.Status >= 200 && c.Status < 300 }
