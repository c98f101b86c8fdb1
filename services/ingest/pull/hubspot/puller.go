package hubspot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Puller fetches the events of an account, stretch by stretch, in the order of time. It belongs to one goroutine.
//
// Two hands go over the time: the one behind, settled, at the distance of PULL_LATE, after which HubSpot is believed to tell of
// nothing more; and the one in front, fresh, at now. Each finds a few events that the other has found as well: what was
// appended since the start and lies between them is known by its id and left out. settled alone is kept, and only after everything of
// before it was acknowledged. So a time that is kept, by whomever, is always true, and whoever begins there misses nothing.
type Puller struct {
	Config Config
	Client *http.Client

	// Append appends what elements say, in their order, and returns nil when it is acknowledged.
	Append func(ctx context.Context, elements []webhook.Element) error
	// Save keeps that everything of before settled is appended.
	Save func(ctx context.Context, settled time.Time) error
	// Tell is told how each round ended, nil or what it failed of, and when the next one begins.
	Tell func(ctx context.Context, err error, next time.Duration)
	// Again is told how many events were found that are known.
	Again func(ctx context.Context, events int)

	settled, fresh int64 // everything of before was fetched, late or new; Unix milliseconds
	reached        atomic.Int64
	span           int64 // how long a stretch is now, in milliseconds
	known          map[mark]int64
	called         time.Time
	failures       int
}

// mark is the sum of an event's id, or of an element's bytes where it is no event. Its value is the end of the stretch in which
// it was found: beyond that it does not lie.
type mark [16]byte

const (
	// overlap is how far back new events are asked for again, because the newest part of the list is known to be ragged.
	overlap = int64(5 * time.Minute / time.Millisecond)
	// longest is the longest stretch of time that is fetched at once.
	longest = int64(time.Hour / time.Millisecond)
	// most events of a stretch, or bytes of theirs, are held in memory, to be put in order; of more a shorter stretch is fetched.
	most      = 20_000
	mostBytes = 64 << 20
	// pages bounds a stretch whose pages are almost empty.
	pages = 1000
	// at once appended.
	chunk = 1000
	// mostKnown bounds the memory of what is known, to some 50 MB. What is not remembered is appended again, under the same id.
	mostKnown = 1 << 20
	// pace is the least time between two calls: 50 in 10 seconds, half of what the smallest account may make.
	pace = 200 * time.Millisecond
)

// Pauses after what fails.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	deniedPause  = 5 * time.Minute // of what does not change by itself
	patience     = time.Hour       // the longest that HubSpot may ask to be left alone for
)

// Run fetches everything of from on, until ctx ends. It fails never, and tries again for ever.
func (p *Puller) Run(ctx context.Context, from time.Time) {
	p.settled, p.fresh, p.span, p.known = from.UnixMilli(), from.UnixMilli(), longest, map[mark]int64{}
	p.failures = 0
	p.reached.Store(p.settled)
	for {
		err := p.round(ctx)
		if ctx.Err() != nil {
			return
		}
		next := p.Config.Every
		if p.failures++; err == nil {
			p.failures = 0
		} else {
			next = p.pause(err)
		}
		p.Tell(ctx, err, next)
		if !sleep(ctx, next) {
			return
		}
	}
}

// Reached is the time up to which everything is appended that HubSpot has told of. Any goroutine may ask.
func (p *Puller) Reached() time.Time { return time.UnixMilli(p.reached.Load()).UTC() }

// pause is how long to wait after an error.
func (p *Puller) pause(err error) time.Duration {
	pause := min(longestPause, firstPause<<min(p.failures-1, 20))
	if no := (*Refusal)(nil); errors.As(err, &no) {
		if no.Denied() {
			pause = deniedPause
		}
		pause = max(pause, min(patience, no.After))
	}
	return pause
}

// round brings both hands up to now.
func (p *Puller) round(ctx context.Context) error {
	now := time.Now().UnixMilli()
	err := p.sweep(ctx, p.settled, now-p.Config.Late.Milliseconds()-1, func(next int64) error {
		if err := p.Save(ctx, time.UnixMilli(next)); err != nil {
			return fmt.Errorf("keep how far it has come: %w", err)
		}
		p.settled = next
		p.reached.Store(max(p.fresh, next))
		for m, end := range p.known {
			if end < next {
				delete(p.known, m)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.sweep(ctx, max(p.settled, p.fresh-overlap), now, func(next int64) error {
		p.fresh = max(p.fresh, next)
		p.reached.Store(p.fresh)
		return nil
	})
}

// sweep appends the events of from to to, both inclusive, in stretches; done is told where the next one begins.
func (p *Puller) sweep(ctx context.Context, from, to int64, done func(next int64) error) error {
	for from <= to {
		end := min(to, from+p.span-1)
		elements, err := p.stretch(ctx, from, end)
		if errors.Is(err, errMany) && end > from {
			p.span = (end - from + 1) / 2
			continue
		}
		if err != nil {
			return err
		}
		if err := p.append(ctx, elements, end); err != nil {
			return err
		}
		if err := done(end + 1); err != nil {
			return err
		}
		if len(elements) < most/4 {
			p.span = min(longest, 2*p.span)
		}
		from = end + 1
	}
	return nil
}

// errMany says that a stretch has more events than may be held.
var errMany = errors.New("more events of one instant than can be held")

// stretch fetches the events of from to to, both inclusive, in order.
func (p *Puller) stretch(ctx context.Context, from, to int64) ([]webhook.Element, error) {
	var all []webhook.Element
	size := 0
	for n, offset := 1, ""; ; n++ {
		if !sleep(ctx, time.Until(p.called.Add(pace))) {
			return nil, ctx.Err()
		}
		p.called = time.Now()
		page, err := p.page(ctx, from, to, offset)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Elements...)
		for i := range page.Elements {
			size += len(page.Elements[i].Raw)
		}
		if len(all) > most || size > mostBytes || n >= pages && page.More {
			return nil, fmt.Errorf("%w: from %s to %s", errMany, time.UnixMilli(from).UTC().Format(time.RFC3339Nano), time.UnixMilli(to).UTC().Format(time.RFC3339Nano))
		}
		if !page.More {
			inOrder(all)
			return all, nil
		}
		if page.Offset == offset {
			return nil, errors.New("HubSpot's pages do not go on: the offset is that of the page before")
		}
		offset = page.Offset
	}
}

// append appends those of elements that are not known, which were found in a stretch that ends at end.
func (p *Puller) append(ctx context.Context, elements []webhook.Element, end int64) error {
	all, here := len(elements), map[mark]bool{}
	elements = slices.DeleteFunc(elements, func(x webhook.Element) bool {
		m := marked(&x)
		last, known := p.known[m]
		if known {
			p.known[m] = min(last, end)
		}
		twice := here[m]
		here[m] = true
		return known || twice
	})
	if again := all - len(elements); again > 0 {
		p.Again(ctx, again)
	}
	for some := range slices.Chunk(elements, chunk) {
		marks := make([]mark, len(some)) // Append may give events other ids
		for i := range some {
			marks[i] = marked(&some[i])
		}
		if err := p.Append(ctx, some); err != nil {
			return fmt.Errorf("append events: %w", err)
		}
		for _, m := range marks {
			if len(p.known) < mostKnown {
				p.known[m] = end
			}
		}
	}
	return nil
}

func marked(x *webhook.Element) mark {
	name := x.Raw
	if x.Event != nil {
		name = []byte(x.Event.ID)
	}
	sum := sha256.Sum256(name)
	return mark(sum[:])
}

// sleep waits, and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
