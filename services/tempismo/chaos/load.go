package chaos

import (
	"context"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// LoadConfig says what a Load writes.
type LoadConfig struct {
	Kafka     kafka.Config
	Run       stream.Run
	Seed      uint64
	Customers int           // who have a history; 0: 256
	Rate      int           // events a second to begin with; 0: 500
	Ingest    func() string // address (http://host:port) of an ingest to send a share of the events to; nil, or empty: none
}

// Acked is what was acknowledged, and must not be lost.
type Acked struct {
	Topic    string // declared name
	ID       string // of the event or the request
	Customer string
	Time     time.Time // of the event
	At       time.Time // of the acknowledgement
	Kind     string    // of an engagement
	Deadline time.Time // of a request
}

// Load writes what happens to the customers of a round: their history, then engagements, requests and unusual days at a
// steady rate. What was acknowledged stands in its ledger.
type Load struct{}

// NewLoad connects, and writes nothing.
func NewLoad(ctx context.Context, c LoadConfig) (*Load, error) { panic("to be written") }

// Preload writes the policy, what is known of the customers and their history, with record times in the past. It comes
// before the services start.
func (l *Load) Preload(ctx context.Context) error { panic("to be written") }

// Start begins the live load; it goes on until Stop. What fails is tried again under the same id.
func (l *Load) Start(ctx context.Context) { panic("to be written") }

// Stop ends the live load and returns when everything under way is acknowledged, or ctx of Start has ended.
func (l *Load) Stop() { panic("to be written") }

// SetRate changes the events a second.
func (l *Load) SetRate(perSecond int) { panic("to be written") }

// Acked counts what was acknowledged so far.
func (l *Load) Acked() int { panic("to be written") }

// Ledger is everything that was acknowledged so far.
func (l *Load) Ledger() []Acked { panic("to be written") }

// Shape is how the live load differs from the ordinary. The zero Shape is the ordinary load.
type Shape struct {
	Hot        float64       // share of all events that one customer has
	Distinct   float64       // share of events of customers never seen before
	Duplicates float64       // share of events that are written twice
	Reorder    time.Duration // events are written with times up to so long ago, in any order
	Late       float64       // share of events older than a profile remembers
	DST        bool          // events around the changes of daylight saving time, in zones that have it
}

// SetShape changes the load from now on.
func (l *Load) SetShape(s Shape) { panic("to be written") }

// Close gives up what is under way.
func (l *Load) Close() error { panic("to be written") }
