package chaos

import (
	"bufio"
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Probe is how a process is looked at.
type Probe struct {
	Process string // e.g. profiler.1
	RSS     func() int64
	Ready   func() bool
	Metrics func() string // exposition text; empty: it does not answer
}

// Sample is one look at a process, or (Process is empty) at how far all services are behind.
type Sample struct {
	At      time.Time
	Process string
	RSS     int64
	Ready   bool
	Metrics map[string]float64 // those of watched, summed over labels
	Lag     int64              // records; -1: the brokers do not say
	Behind  time.Duration      // age of the oldest unread record
}

// watched are the metrics that move only where something is wrong: what is tried again, alarms, partitions taken over.
var watched = []string{"tempismo_stream_retries_total", "tempismo_stream_alarms", "tempismo_stream_takeovers_total", "tempismo_connector_retries_total"}

// Sampler looks at every process and at the lag again and again.
type Sampler struct {
	kafka  kafka.Config
	run    stream.Run
	probes func() []Probe
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	samples []Sample
}

// NewSampler does not look yet. probes tells the processes of the moment.
func NewSampler(c kafka.Config, run stream.Run, probes func() []Probe) *Sampler {
	return &Sampler{kafka: c, run: run, probes: probes}
}

// Start looks every so often until Stop.
func (s *Sampler) Start(every time.Duration) {
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	s.done.Go(func() { repeat(ctx, every, s.processes) })
	s.done.Go(func() { s.lags(ctx, every) })
}

func repeat(ctx context.Context, every time.Duration, look func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		look()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Stop ends looking.
func (s *Sampler) Stop() {
	if s.cancel != nil {
		s.cancel()
	}
	s.done.Wait()
}

// Samples is what was seen.
func (s *Sampler) Samples() []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Sample(nil), s.samples...)
}

func (s *Sampler) keep(x Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, x)
}

func (s *Sampler) processes() {
	for _, p := range s.probes() {
		s.keep(Sample{At: time.Now(), Process: p.Process, RSS: p.RSS(), Ready: p.Ready(), Metrics: scrape(p.Metrics())})
	}
}

// lags looks at how far the services are behind, for as long as the brokers say.
func (s *Sampler) lags(ctx context.Context, every time.Duration) {
	var log *kafka.Log
	repeat(ctx, every, func() {
		if log == nil {
			var err error
			if log, err = kafka.Open(ctx, s.kafka); err != nil {
				s.keep(Sample{At: time.Now(), Lag: -1})
				return
			}
		}
		s.lag(ctx, log)
	})
	if log != nil {
		log.Close()
	}
}

func (s *Sampler) lag(ctx context.Context, log *kafka.Log) {
	asking, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	lags, err := log.Lag(asking, s.run, working)
	x := Sample{At: time.Now()}
	if err != nil {
		x.Lag = -1
	}
	for i := range lags {
		if works(&lags[i]) {
			x.Lag += lags[i].Records
			x.Behind = max(x.Behind, lags[i].Behind)
		}
	}
	if ctx.Err() == nil {
		s.keep(x)
	}
}

// working are the services that read.
var working = []string{"profiler", "detector", "decider", "connector"}

// scrape reads the watched metrics of an exposition, summed over their labels; nil where there is none.
func scrape(text string) map[string]float64 {
	if text == "" {
		return nil
	}
	found := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		for _, name := range watched {
			rest, ok := strings.CutPrefix(line, name)
			if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
				continue
			}
			if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
				found[name] += v
			}
		}
	}
	return found
}
