package chaos

import (
	"context"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/topics"
)

// writes tells whose produce a request is: no two of the services that run write to the same of these topics.
var writes = map[string][]string{
	"ingest":    {topics.Events},
	"profiler":  {topics.Scored, topics.Digests},
	"detector":  {topics.Deviations},
	"decider":   {topics.Decisions, topics.Ticks},
	"connector": {topics.Outcomes},
}

// trap waits for a produce request of a service, and does something while the request, or its answer, is held.
type trap struct {
	topics []string
	phase  Phase
	skip   int // so many requests pass before
	spring func() Verdict
	sprung chan struct{}
}

// Trap waits until the service publishes, lets skip requests pass, and calls spring while the next is held in its phase;
// what spring returns becomes of that request. It returns false where nothing was published within patience.
func (r *Rig) Trap(ctx context.Context, service string, phase Phase, skip int, patience time.Duration, spring func() Verdict) bool {
	t := &trap{phase: phase, skip: skip, spring: spring, sprung: make(chan struct{})}
	for _, name := range writes[service] {
		t.topics = append(t.topics, r.Run.Topic(name))
	}
	r.mu.Lock()
	r.traps = append(r.traps, t)
	r.mu.Unlock()
	r.Brokers.OnProduce(r.produced)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-t.sprung:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	// Either it is taken out here and never springs, or it is about to.
	if r.disarm(t) {
		return false
	}
	<-t.sprung
	return true
}

// disarm takes a trap out; false if it is not set any more.
func (r *Rig) disarm(t *trap) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.traps, t)
	if i >= 0 {
		r.traps = slices.Delete(r.traps, i, i+1)
	}
	return i >= 0
}

// produced is the hook of every broker's proxy while rows set traps.
func (r *Rig) produced(topic string, phase Phase) Verdict {
	r.mu.Lock()
	i := slices.IndexFunc(r.traps, func(t *trap) bool { return t.phase == phase && slices.Contains(t.topics, topic) })
	if i < 0 {
		r.mu.Unlock()
		return Forward
	}
	t := r.traps[i]
	if t.skip > 0 {
		t.skip--
		r.mu.Unlock()
		return Forward
	}
	r.traps = slices.Delete(r.traps, i, i+1)
	r.mu.Unlock()
	defer close(t.sprung)
	return t.spring()
}
