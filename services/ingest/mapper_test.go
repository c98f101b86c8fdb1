package ingest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
	pull "github.com/tempismo/tempismo/services/ingest/pull/hubspot"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// early are opens (of HubSpot's two properties one) that lie an hour ahead of the clock, in the words of each provider. SES tells
// it of two customers at once, and everybody but SES as the second of what a request holds, where there may be several.
func early() map[string]string {
	at := clock.Add(time.Hour)
	s, ms, iso := at.Unix(), at.UnixMilli(), at.Format(time.RFC3339)
	inner := fmt.Sprintf(`{"eventType":"Delivery","mail":{"messageId":"m","destination":["anna@example.com","bob@example.com"]},"delivery":{"timestamp":%q,"recipients":["anna@example.com","bob@example.com"]}}`, iso)
	return map[string]string{
		"sendgrid":   fmt.Sprintf(`[{"event":"deferred"},{"email":"anna@example.com","timestamp":%d,"event":"open","sg_event_id":"e1"}]`, s),
		"ses":        fmt.Sprintf(`{"Type":"Notification","MessageId":"22b80b92","Message":%q}`, inner),
		"customerio": fmt.Sprintf(`{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","object_type":"email","metric":"opened","timestamp":%d,"data":{"customer_id":"C-1"}}`, s),
		"segment":    fmt.Sprintf(`{"type":"track","event":"Email Opened","messageId":"s1","timestamp":%q,"userId":"C-1"}`, iso),
		"hubspot":    fmt.Sprintf(`[{"subscriptionType":"contact.creation","objectId":1},{"subscriptionType":"contact.propertyChange","portalId":2,"objectId":1,"propertyName":"hs_email_last_open_date","propertyValue":"%d","occurredAt":%d}]`, ms, ms),
		"mailgun":    fmt.Sprintf(`{"signature":{"token":"not to be kept"},"event-data":{"event":"opened","id":"g1","timestamp":%d,"recipient":"anna@example.com"}}`, s),
		"postmark":   fmt.Sprintf(`{"RecordType":"Open","ReceivedAt":%q,"Recipient":"anna@example.com","MessageID":"p1"}`, iso),
		"brevo":      fmt.Sprintf(`[{"event":"deferred"},{"event":"opened","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":%d}]`, ms),
		"resend":     fmt.Sprintf(`{"type":"email.opened","created_at":%q,"data":{"email_id":"x","to":["anna@example.com"]}}`, iso),
		"sfmc":       fmt.Sprintf(`[{"eventCategoryType":"SendEvents.Other"},{"eventCategoryType":"EngagementEvents.EmailOpen","timestampUTC":%d,"compositeId":"2001071.44609.4119.135804581"}]`, ms),
	}
}

// mapper is one that looks up consents in the rig's store.
func (r *rig) mapper(c Config) *Mapper {
	r.t.Helper()
	m, err := NewMapper(c, nil, partitions)
	if err != nil {
		r.t.Fatal(err)
	}
	m.server.register.store = r.store
	return m
}

// again maps a letter.
func again(t *testing.T, m *Mapper, letter *stream.Record) Mapped {
	t.Helper()
	got, err := m.Map(t.Context(), letter)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What is set aside of a webhook says all that it takes to map it once more: whatever the provider, the events are those that they
// would have been if nothing had been wrong with them, to the byte.
func TestWhatIsSetAsideOfAWebhookCanBeMappedAgain(t *testing.T) {
	bodies := early()
	key := config.Secret("a secret of some length")
	r := newRig(t, Config{Pseudonym: key, Pixels: config.Pixels{Consent: "assumed"}})
	mapper := r.mapper(Config{Run: r.server.config.Run, Pseudonym: key, Pixels: config.Pixels{Consent: "assumed"}})
	for i := range r.server.providers {
		p := &r.server.providers[i]
		t.Run(p.name, func(t *testing.T) {
			request := &webhook.Request{Header: http.Header{"Svix-Id": {"msg_1"}}, Body: []byte(bodies[p.name])}
			r.server.now = func() time.Time { return clock }
			b, err := r.server.mapped(p, request, "")
			if err != nil || len(b.messages) != 0 || len(b.letters) == 0 {
				t.Fatalf("%d events and %d dead letters (%v); want letters alone, of an event that is ahead of the clock", len(b.messages), len(b.letters), err)
			}
			r.server.now = func() time.Time { return clock.Add(2 * time.Hour) }
			want, err := r.server.mapped(p, request, "")
			if err != nil || len(want.messages) != b.dead {
				t.Fatalf("later it is %d events of %d (%v)", len(want.messages), b.dead, err)
			}
			for _, letter := range b.letters {
				if strings.Contains(string(letter.Value), "not to be kept") {
					t.Error("a dead letter has the signature of the request")
				}
				record := &stream.Record{Key: letter.Key, Value: letter.Value, Headers: letter.Headers}
				mapper.server.now = func() time.Time { return clock }
				if still := again(t, mapper, record); len(still.Events) != 0 || still.Wrong == nil || !strings.Contains(still.Wrong.Error(), "ahead") {
					t.Errorf("before its time came %d events, %v", len(still.Events), still.Wrong)
				}
				mapper.server.now = func() time.Time { return clock.Add(2 * time.Hour) }
				got := again(t, mapper, record)
				if got.Wrong != nil {
					t.Fatalf("cannot be mapped: %v", got.Wrong)
				}
				for _, m := range got.Events {
					if !slices.ContainsFunc(want.messages, func(w stream.Message) bool {
						return string(w.Value) == string(m.Value) && string(w.Key) == string(m.Key)
					}) {
						t.Errorf("got %s of %s", m.Value, m.Key)
					}
					var e engagement.Event
					if err := e.Parse(m.Value); err != nil || strings.Contains(e.Subject, "@") {
						t.Errorf("%v, of %q: want a pseudonym", err, e.Subject)
					}
				}
				if len(got.Events) == 0 {
					t.Error("nothing came of it")
				}
			}
		})
	}
}

// What is set aside of HubSpot's list looks otherwise than its webhooks, and is mapped again all the same.
func TestWhatIsSetAsideOfAListCanBeMappedAgain(t *testing.T) {
	r := newRig(t, Config{Pixels: config.Pixels{Consent: "assumed"}})
	mapper := r.mapper(Config{Run: r.server.config.Run, Pixels: config.Pixels{Consent: "assumed"}})
	raw := fmt.Appendf(nil, `{"id":"e-1","created":%d,"type":"CLICK","recipient":"Anna@Example.com","url":"https://example.com/","hmid":"m-1"}`, clock.Add(time.Hour).UnixMilli())
	var b batch
	r.server.gather(&b, hubspotList, []webhook.Element{pull.Read(raw)}, nil, nil, "")
	if len(b.messages) != 0 || len(b.letters) != 1 {
		t.Fatalf("%d events and %d dead letters; want a letter, of an event that is ahead of the clock", len(b.messages), len(b.letters))
	}
	record := &stream.Record{Key: b.letters[0].Key, Value: b.letters[0].Value, Headers: b.letters[0].Headers}
	mapper.server.now = func() time.Time { return clock }
	if still := again(t, mapper, record); len(still.Events) != 0 || still.Wrong == nil || !strings.Contains(still.Wrong.Error(), "ahead") {
		t.Errorf("before its time came %d events, %v", len(still.Events), still.Wrong)
	}
	mapper.server.now = func() time.Time { return clock.Add(2 * time.Hour) }
	var e engagement.Event
	if got := again(t, mapper, record); got.Wrong != nil || len(got.Events) != 1 || e.Parse(got.Events[0].Value) != nil || e.Kind != engagement.Click || e.Subject != "anna@example.com" {
		t.Errorf("%+v", got)
	}
}

// What turns out to be a deletion is no event: it is said what to do.
func TestADeletionAmongDeadLettersSaysWhatToDo(t *testing.T) {
	r := newRig(t, Config{})
	mapper := r.mapper(Config{Run: r.server.config.Run})
	body := fmt.Sprintf(`[{"subscriptionType":"contact.privacyDeletion","objectId":7,"portalId":1,"occurredAt":%d}]`, clock.Add(-time.Minute).UnixMilli())
	got := again(t, mapper, &stream.Record{Value: []byte(body), Headers: []stream.Header{{Key: letterStage, Value: []byte("ingest:hubspot")}}})
	if got.Wrong == nil || !strings.Contains(got.Wrong.Error(), "tempismo erase 7") {
		t.Errorf("%+v", got)
	}
}

func TestWhatStillCannotBeMappedSaysWhy(t *testing.T) {
	r := newRig(t, Config{})
	mapper := r.mapper(Config{Run: r.server.config.Run})
	for _, tt := range []struct{ sentence, stage, value, want string }{
		{"a field is missing", "ingest:sendgrid", `{"event":"open","email":"a@example.com","sg_event_id":"e2"}`, "timestamp: must be"},
		{"it was cut", "ingest:segment", `{"type":"tra`, "this is no webhook of segment"},
		{"a provider of another version", "ingest:pigeon", `{}`, `there is no provider "pigeon"`},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			got := again(t, mapper, &stream.Record{Value: []byte(tt.value), Headers: []stream.Header{{Key: letterStage, Value: []byte(tt.stage)}}})
			if len(got.Events) != 0 || got.Wrong == nil || !strings.Contains(got.Wrong.Error(), tt.want) {
				t.Errorf("%d events, %v; want an error with %q", len(got.Events), got.Wrong, tt.want)
			}
		})
	}
}

// What a customer has answered counts for dead letters, too, whenever they were set aside; where it cannot be looked up they stay.
func TestWhatIsNotConsentedToIsNotMappedAgain(t *testing.T) {
	r := newRig(t, Config{})
	mapper := r.mapper(Config{Run: r.server.config.Run}) // a live run asks first
	letter := func(kind string) *stream.Record {
		return &stream.Record{Value: []byte(`{"type":"track","event":"` + kind + `","messageId":"s1","timestamp":"2026-03-01T10:00:00Z","userId":"anna","context":{"userAgent":"Mail/1"}}`),
			Headers: []stream.Header{{Key: letterStage, Value: []byte("ingest:segment")}}}
	}
	if got, err := mapper.Map(t.Context(), letter("Email Opened")); err == nil || len(got.Events) != 0 {
		t.Errorf("without a register: %+v, %v", got, err)
	}
	r.registered(nil)
	if got := again(t, mapper, letter("Email Opened")); len(got.Events) != 0 || got.Unconsented != 1 || got.Wrong != nil {
		t.Errorf("an open: %+v", got)
	}
	if got := again(t, mapper, letter("Email Link Clicked")); len(got.Events) != 1 || got.Unconsented != 0 || strings.Contains(string(got.Events[0].Value), "Mail/1") {
		t.Errorf("a click: %+v", got)
	}
}
