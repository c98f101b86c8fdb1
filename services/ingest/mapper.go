package ingest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	pull "github.com/tempismo/tempismo/services/ingest/pull/hubspot"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Mapper maps once more what was set aside of webhooks and of HubSpot's list, as the server would map it if it came now. Nothing is verified: that was
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

// FromProvider reports whether a dead letter is one of what providers tell, by its stage (the header __connect.errors.stage).
func FromProvider(stage string) bool { return strings.HasPrefix(stage, stageOfOurs) }

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
	var stage string
	for _, h := range letter.Headers {
		if field, ok := strings.CutPrefix(h.Key, requestHeader); ok {
			request.Header.Set(field, string(h.Value))
		}
		if h.Key == letterStage {
			stage = string(h.Value)
		}
	}
	var b batch
	var problems []error
	if stage == hubspotList.stage() {
		m.server.gather(&b, hubspotList, []webhook.Element{pull.Read(letter.Value)}, nil, nil, "")
	} else if i := slices.IndexFunc(m.server.providers, func(p provider) bool { return p.stage() == stage }); i >= 0 {
		var err error
		b, err = m.server.mapped(&m.server.providers[i], request, "")
		problems = append(problems, err)
	} else {
		return Mapped{Wrong: fmt.Errorf("there is no provider %q", strings.TrimPrefix(stage, stageOfOurs))}, nil
	}
	for _, w := range b.wrong {
		problems = append(problems, errors.New(strings.TrimPrefix(w.Field+": "+w.Reason, ": ")))
	}
	if err := m.server.withhold(ctx, &b); err != nil {
		return Mapped{}, err
	}
	for _, e := range b.erasures {
		problems = append(problems, fmt.Errorf("it says that a customer is to be forgotten: `tempismo erase %s`", e.Key))
	}
	return Mapped{b.messages, b.ignored, b.unconsented, errors.Join(problems...)}, nil
}
