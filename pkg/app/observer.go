package app

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/stream"
)

const (
	// readyLag is the age of what a service reads above which it is not ready: what it says would be old.
	readyLag = time.Minute
	// retrying is how long one failed operation makes a service not ready. The runtime's back-off is shorter.
	retrying = 30 * time.Second
)

// Observer returns what a service hands to its stream.Runtime: it feeds the instruments and spans, and the health
// component "stream", which is ok while the process owns a partition, has no standing alarm, is not being answered with
// errors and is not far behind.
func (s Settings) Observer(service string) (stream.Observer, error) {
	o, err := s.Telemetry.Observer(service)
	if err != nil {
		return nil, fmt.Errorf("instruments of %s: %w", service, err)
	}
	h := &streamHealth{Observer: o, now: time.Now, owned: map[int32]time.Duration{}, alarms: map[string]int{}}
	s.Health.Func("stream", h.state)
	return h, nil
}

// streamHealth passes everything on and remembers what readiness depends on.
type streamHealth struct {
	stream.Observer
	now func() time.Time

	mu      sync.Mutex
	owned   map[int32]time.Duration // partition to its lag
	alarms  map[string]int
	retried time.Time
	op      string
}

func (h *streamHealth) Owned(partition int32, owned bool) {
	h.Observer.Owned(partition, owned)
	h.mu.Lock()
	defer h.mu.Unlock()
	if owned {
		h.owned[partition] = 0
	} else {
		delete(h.owned, partition)
	}
}

func (h *streamHealth) Batch(r *stream.Report) {
	h.Observer.Batch(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owned[r.Partition] = r.Lag
}

func (h *streamHealth) Retry(partition int32, op string, err error) {
	h.Observer.Retry(partition, op, err)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retried, h.op = h.now(), op
}

func (h *streamHealth) Alarm(partition int32, kind string, raised bool) {
	h.Observer.Alarm(partition, kind, raised)
	h.mu.Lock()
	defer h.mu.Unlock()
	if raised {
		h.alarms[kind]++
	} else if h.alarms[kind]--; h.alarms[kind] <= 0 {
		delete(h.alarms, kind)
	}
}

func (h *streamHealth) state() Component {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.owned) == 0 {
		return Component{Detail: "no partition assigned"}
	}
	if len(h.alarms) > 0 {
		return Component{Detail: "alarm: " + strings.Join(slices.Sorted(maps.Keys(h.alarms)), ", ")}
	}
	if h.now().Sub(h.retried) < retrying {
		return Component{Detail: "failing and retrying: " + h.op}
	}
	for partition, lag := range h.owned {
		if lag > readyLag {
			return Component{Detail: fmt.Sprintf("partition %d is %s behind", partition, lag.Round(time.Second))}
		}
	}
	return Component{OK: true, Detail: fmt.Sprintf("%d partitions", len(h.owned))}
}
