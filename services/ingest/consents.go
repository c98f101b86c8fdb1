package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		who, as, err := s.consent(document, traceparent)
		if err != nil {
			b.refuse(i, err)
			continue
		}
		s.put(&b, who, as)
	}
	return b, nil
}

// consent reads an answer, and returns whose it is and its record under whatever id the topics know him by.
func (s *server) consent(document []byte, traceparent string) (who string, as func(alias) stream.Message, err error) {
	e, err := s.parse(document, customer.ConsentType, "/ingest/consents", traceparent)
	if err != nil {
		return "", nil, err
	}
	unnamed, said := e.ID == "", string(e.Data)
	if e.Data, err = dated(e.Data, e.Time); err != nil {
		return "", nil, err
	}
	var a customer.Answer
	if err := a.Parse(e.Data); err != nil {
		return "", nil, err
	}
	for field, c := range map[string]*customer.Consent{"data.mailing.at": a.Mailing, "data.pixel.at": a.Pixel} {
		if c != nil && s.ahead(c.At) {
			return "", nil, &engagement.FieldError{Field: field, Reason: errAhead}
		}
	}
	e.Data = a.Append(nil)
	return e.Subject, func(a alias) stream.Message {
		if e.Subject = a.id; unnamed {
			e.ID = "co-" + hash(a.id, said)
		}
		return stream.Message{Key: []byte(a.id), Value: e.Append(nil), Headers: headers}
	}, nil
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
	who := make([]string, len(events))
	for i := range events {
		who[i] = events[i].event.Subject
	}
	states, lost, err := g.states(ctx, who)
	if err != nil {
		return nil, fmt.Errorf("look up consents: %w", err)
	}
	if lost && !g.assumed {
		return nil, errUnanswered
	}
	told := make(map[string]*timing.Profile, len(states))
	all := make([]bool, len(events))
	for i, id := range who {
		if told[id] == nil {
			told[id] = new(timing.Profile)
			if state := states[id]; len(state) > 0 {
				if err := told[id].DecodeTold(state); err != nil {
					return nil, fmt.Errorf("look up consents: %w", err)
				}
			}
		}
		all[i] = told[id].Observable(events[i].event.Time, g.assumed)
	}
	return all, nil
}

// states looks up what the profiler has of customers; of those whom it does not know, nothing. lost: it has nothing of some
// partition at all.
func (g *register) states(ctx context.Context, customers []string) (states map[string][]byte, lost bool, err error) {
	of := map[int32][]string{}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(customers))) {
		p := stream.Partition([]byte(id), g.partitions)
		of[p] = append(of[p], id)
	}
	states = map[string][]byte{}
	var group sync.WaitGroup
	var mu sync.Mutex
	for partition, ids := range of {
		group.Go(func() {
			snap, failed := g.store.Peek(ctx, g.run.Group(profilerService), partition, ids)
			if failed == nil && len(snap.Rebuilding) > 0 {
				failed = errUnanswered
			}
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = failed
				return
			}
			lost = lost || snap.Lost
			for i, state := range snap.Values { // a lost state has none
				if len(state) > 0 {
					states[ids[i]] = state
				}
			}
		})
	}
	group.Wait()
	return states, lost, err
}

// watched is an event that tells of an observation.
type watched struct {
	at    int // place of its message in the batch
	event *engagement.Event
}

// observed reports whether an event tells what a tracking pixel or a browser has told of the customer.
func observed(e *engagement.Event) bool { return e.Kind == engagement.Open || e.UserAgent != "" }

// asked has the log say that customers can be looked up no more, or again, and returns err.
func (s *server) asked(ctx context.Context, err error) error {
	if was := s.blind.Swap(err != nil); was != (err != nil) {
		s.log.WarnContext(ctx, "customers can be looked up no more, or again", "there", err == nil, "error", err)
	}
	return err
}

// withhold takes out of a batch what customers have not consented to: opens, and the user agents of everything else; before, it finds
// out under which key each is known. The error is a *refusal: it cannot be found out now, and the sender is to keep all of it meanwhile.
func (s *server) withhold(ctx context.Context, b *batch) error {
	if err := s.empty(ctx, b); err != nil {
		return err
	}
	if b.unconsented > 0 {
		b.messages = slices.DeleteFunc(b.messages, func(m stream.Message) bool { return m.Value == nil })
	}
	return nil
}

// empty is withhold, and leaves what is taken out as messages without a value in their places.
func (s *server) empty(ctx context.Context, b *batch) error {
	if err := s.settle(ctx, b); err != nil {
		return err
	}
	if len(b.watched) == 0 {
		return nil
	}
	may, err := s.register.observable(ctx, b.watched)
	if s.asked(ctx, err) != nil {
		return &refusal{status: http.StatusServiceUnavailable, detail: "whether the customers have consented to tracking pixels cannot be looked up now; nothing of this was taken, send it again later"}
	}
	for i, w := range b.watched {
		switch {
		case may[i]:
		case w.event.Kind == engagement.Open:
			b.messages[w.at].Value = nil
			b.unconsented++
		default:
			w.event.UserAgent = ""
			b.messages[w.at].Value = w.event.Append(nil)
		}
	}
	return nil
}
