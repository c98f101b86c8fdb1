package chaos

import (
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Probe is how a process is looked at.
type Probe struct {
	Process string // e.g. profiler-1
	RSS     func() int64
	Ready   func() bool
	Metrics func() string // exposition text; empty: it does not answer
}

// Sample is one look at a process, or (Process is empty) at the lag of all services.
type Sample struct {
	At      time.Time
	Process string
	RSS     int64
	Ready   bool
	Metrics map[string]float64 // chosen ones, summed over labels
	Lag     int64
}

// Sampler looks at every process and at the lag again and again.
type Sampler struct{}

// NewSampler does not look yet. probes tells the processes of the moment.
func NewSampler(c kafka.Config, run stream.Run, probes func() []Probe) *Sampler { panic("to be written") }

// Start looks every so often until Stop.
func (s *Sampler) Start(every time.Duration) { panic("to be written") }

// Stop ends looking.
func (s *Sampler) Stop() { panic("to be written") }

// Samples is what was seen.
func (s *Sampler) Samples() []Sample { panic("to be written") }
