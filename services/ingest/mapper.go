package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Mapper maps once more what was set aside of webhooks, as the server would map it if it came now. Nothing is verified: that was
// done when it came. It wants the settings by which events are written (pseudonyms, lists of machines, consent), and none of the
// providers.
type Mapper struct{ server *server }

// NewMapper returns a mapper for the run of c. What customers have answered it looks up in store, for topics of so many partitions.
func NewMapper(c Config, store *redis.Store, partitions int32) (*Mapper, error) {
	s, err := newServer(c.withDefaults(), nil, store, partitions, app.Settings{}.WithDefaults(), time.Now)
	if err != nil {
		return nil, err
	}
	return &Mapper{s}, nil
}

// FromWebhook reports whether a dead letter is one of a webhook, by its stage (the header __connect.errors.stage).
func FromWebhook(stage string) bool { return strings.HasPrefix(stage, stageOfOurs) }

// Mapped is what came of a dead letter. SES sets a request aside whole, so one letter can be several things.
type Mapped struct {
	Events      []stream.Message // for engagement.events.v1; their ids are those that they would have had at first
	Ignored     int              // are no engagement
	Unconsented int              // are opens that the customer has not consented to
	Wrong       error            // why something still cannot be mapped
}

// Map maps a dead letter. Its error says that what customers have answered cannot be looked up now.
func (m *Mapper) Map(ctx context.Context, letter *stream.Record) (Mapped, error) {
	request := &webhook.Request{Method: http.MethodPost, Header: http.Header{}, Body: letter.Value, Now: m.server.now()}
	var name string
	for _, h := range letter.Headers {
		if field, ok := strings.CutPrefix(h.Key, requestHeader); ok {
			request.Header.Set(field, string(h.Value))
		}
		if h.Key == letterStage {
			name = strings.TrimPrefix(string(h.Value), stageOfOurs)
		}
	}
	for i := range m.server.providers {
		if p := &m.server.providers[i]; p.name == name {
			b, err := m.server.mapped(p, request, "")
			problems := []error{err}
			for _, w := range b.wrong {
				problems = append(problems, errors.New(strings.TrimPrefix(w.Field+": "+w.Reason, ": ")))
			}
			if err := m.server.withhold(ctx, &b); err != nil {
				return Mapped{}, err
			}
			return Mapped{b.messages, b.ignored, b.unconsented, errors.Join(problems...)}, nil
		}
	}
	return Mapped{Wrong: fmt.Errorf("there is no provider %q", name)}, nil
}
