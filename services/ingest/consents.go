package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
)

// readConsents reads what customers have answered. An answer without a time was given when it came.
func (s *server) readConsents(r *http.Request, body []byte, traceparent string) (batch, error) {
	var b batch
	documents, err := b.documents(r.Header, body)
	if err != nil {
		return b, err
	}
	for i, document := range documents {
		m, err := s.consent(document, traceparent)
		b.take(i, m, err)
	}
	return b, nil
}

func (s *server) consent(document []byte, traceparent string) (stream.Message, error) {
	e, err := s.parse(document, customer.ConsentType, "/ingest/consents", traceparent)
	if err != nil {
		return stream.Message{}, err
	}
	if e.ID == "" {
		e.ID = "co-" + hash(e.Subject, string(e.Data))
	}
	if e.Data, err = dated(e.Data, e.Time); err != nil {
		return stream.Message{}, err
	}
	var a customer.Answer
	if err := a.Parse(e.Data); err != nil {
		return stream.Message{}, err
	}
	for field, c := range map[string]*customer.Consent{"data.mailing.at": a.Mailing, "data.pixel.at": a.Pixel} {
		if c != nil && s.ahead(c.At) {
			return stream.Message{}, &engagement.FieldError{Field: field, Reason: errAhead}
		}
	}
	e.Data = a.Append(nil)
	return stream.Message{Key: []byte(e.Subject), Value: e.Append(nil), Headers: headers}, nil
}

// dated gives answers that have no time this one. What is no answer it leaves to others to refuse.
func dated(data []byte, at time.Time) ([]byte, error) {
	var signals map[string]json.RawMessage
	if json.Unmarshal(data, &signals) != nil {
		return data, nil
	}
	for _, name := range [...]string{"mailing", "pixel"} {
		var answer map[string]json.RawMessage
		if json.Unmarshal(signals[name], &answer) != nil || answer == nil || answer["at"] != nil {
			continue
		}
		answer["at"] = fmt.Appendf(nil, "%q", at.UTC().Format(time.RFC3339Nano))
		var err error
		if signals[name], err = json.Marshal(answer); err != nil {
			return nil, err
		}
	}
	return json.Marshal(signals)
}

// register knows what customers have answered to being observed by tracking pixels: the profiler's table, which it only reads.
type register struct {
	store      snapshots
	run        stream.Run
	partitions int32
	assumed    bool // who has not answered may be observed
}

// errUnanswered says that nobody can tell now what customers have answered.
var errUnanswered = errors.New("what customers have answered is not known: the profiler has no state yet, or is rebuilding it")

// observable reports of each event whether an open by its customer, at its time, may be taken.
func (g *register) observable(ctx context.Context, events []watched) ([]bool, error) {
	all := make([]bool, len(events))
	of := map[int32][]int{} // places in events, by partition
	for i := range events {
		p := stream.Partition([]byte(events[i].event.Subject), g.partitions)
		of[p] = append(of[p], i)
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for partition, places := range of {
		group.Go(func() {
			if err := g.ask(ctx, partition, places, events, all); err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return all, failed
}

// ask is observable for the events of one partition.
func (g *register) ask(ctx context.Context, partition int32, places []int, events []watched, all []bool) error {
	told := map[string]*timing.Profile{}
	for _, i := range places {
		told[events[i].event.Subject] = new(timing.Profile)
	}
	keys := slices.Collect(maps.Keys(told))
	snap, err := g.store.Peek(ctx, g.run.Group(profilerService), partition, keys)
	switch {
	case err != nil:
		return fmt.Errorf("look up consents: %w", err)
	case len(snap.Rebuilding) > 0, snap.Lost && !g.assumed:
		return errUnanswered
	}
	for i, who := range keys {
		if len(snap.Values) <= i || len(snap.Values[i]) == 0 { // a lost state has none
			continue
		}
		if err := told[who].DecodeTold(snap.Values[i]); err != nil {
			return fmt.Errorf("look up consents: %w", err)
		}
	}
	for _, i := range places {
		all[i] = told[events[i].event.Subject].Observable(events[i].event.Time, g.assumed)
	}
	return nil
}

// watched is an event that tells of an observation.
type watched struct {
	at    int // place of its message in the batch
	event *engagement.Event
}

// observed reports whether an event tells what a tracking pixel or a browser has told of the customer.
func observed(e *engagement.Event) bool { return e.Kind == engagement.Open || e.UserAgent != "" }

// withhold takes out of a batch what customers have not consented to: opens, and the user agents of everything else. The error is a
// *refusal: what they have answered cannot be found out now, and the sender is to keep it meanwhile.
func (s *server) withhold(ctx context.Context, b *batch) error {
	if len(b.watched) == 0 {
		return nil
	}
	may, err := s.register.observable(ctx, b.watched)
	if was := s.blind.Swap(err != nil); was != (err != nil) {
		s.log.WarnContext(ctx, "whether customers have consented to pixels can be looked up no more, or again", "there", err == nil, "error", err)
	}
	if err != nil {
		return &refusal{status: http.StatusServiceUnavailable, detail: "whether the customers have consented to tracking pixels cannot be looked up now; nothing of this was taken, send it again later"}
	}
	for i := len(b.watched) - 1; i >= 0; i-- {
		switch w := b.watched[i]; {
		case may[i]:
		case w.event.Kind == engagement.Open:
			b.messages = slices.Delete(b.messages, w.at, w.at+1)
			b.unconsented++
		default:
			w.event.UserAgent = ""
			b.messages[w.at].Value = w.event.Append(nil)
		}
	}
	return nil
}
