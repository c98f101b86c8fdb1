package ingest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// FuzzRequestsAndCustomers: whatever is sent is refused, or appended as a record that its readers can read.
func FuzzRequestsAndCustomers(f *testing.F) {
	for _, body := range []string{placed, `[` + placed + `,` + placed + `]`, `{"id":"r-1","subject":"C-1","data":{"action":"cancel"}}`,
		`{"subject":"C-1","data":{"zone":"Europe/Rome","value":1e3,"attributes":{"clv":"high"}}}`, `{"subject":"C-1","data":null}`, `[{"subject":"\u0000","data":{}}]`, `{"DATA":{},"subject":"C"}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/requests", "/v1/customers"} {
			r := newRig(t, Config{})
			request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
			request.Header.Set("Content-Type", "application/json")
			r.handler.ServeHTTP(httptest.NewRecorder(), request)
			for _, record := range r.appended(topics.Requests) {
				e, err := stream.ParseEvent(record.Value)
				if err != nil || e.Subject != string(record.Key) || e.Subject == "" || e.Type != decision.RequestType {
					t.Fatalf("%s: %v", record.Value, err)
				}
				var q decision.Request
				if err := q.Parse(e.ID, e.Data); err != nil {
					t.Fatalf("%s: %v", record.Value, err)
				}
			}
			for _, record := range r.appended(topics.Attributes) {
				if len(record.Key) == 0 {
					t.Fatal("a record without a key")
				}
				if len(record.Value) == 0 {
					continue
				}
				e, err := stream.ParseEvent(record.Value)
				if err != nil || e.Subject != string(record.Key) || e.Type != customer.Type || !json.Valid(record.Value) {
					t.Fatalf("%s: %v", record.Value, err)
				}
				var a customer.Attributes
				if err := a.Parse(e.Data); err != nil {
					t.Fatalf("%s: %v", record.Value, err)
				}
			}
		}
	})
}

// FuzzEvents: whatever is posted is refused as a whole, or appended as so many valid events as the answer counts, each under its customer; in a
// document, a batch, lines, and with attributes in headers.
func FuzzEvents(f *testing.F) {
	media := []string{"application/json", "application/cloudevents+json", "application/cloudevents-batch+json; charset=utf-8", "application/x-ndjson", "text/plain", ""}
	one := event("e-1", "C-1")
	for kind := range media {
		for _, body := range []string{one, "[" + one + "," + one + "]", one + "\n\r\n" + one + "\n", "[]", "", "[", strings.Replace(one, "open", "sneeze", 1)} {
			f.Add(uint8(kind), "", "", "", "", body)
		}
	}
	for _, binary := range []struct{ id, subject, at, body string }{
		{"e-1", "C-1", "2026-12-03T09:41:52Z", `{"kind":"open","channel":"email"}`},
		{"%00", "C%201", "2026-12-03T09:41:52Z", `{"kind":"open","channel":"email"}`},
		{"e-1", "\xff\"}", "tomorrow", `{"kind":"open","channel":"email"},"subject":"C-2"`},
		{"e-1", "%zz", "2026-12-03T09:41:52+01:00", ` {"kind":"click","channel":"sms","link":"https://example.com/"} `},
	} {
		f.Add(uint8(0), "1.0", binary.id, binary.subject, binary.at, binary.body)
	}
	f.Fuzz(func(t *testing.T, kind uint8, version, id, subject, at, body string) {
		r := newRig(t, Config{})
		request := httptest.NewRequest(http.MethodPost, "/v1/events", strings.NewReader(body))
		request.Header = http.Header{"Content-Type": {media[int(kind)%len(media)]}, "Ce-Specversion": {version}, "Ce-Id": {id}, "Ce-Source": {"/test"},
			"Ce-Type": {"io.tempismo.engagement.v1"}, "Ce-Subject": {subject}, "Ce-Time": {at}}
		recorder := httptest.NewRecorder()
		r.handler.ServeHTTP(recorder, request)
		events := r.events(liveTopic) // which are valid, and under their keys
		var answer struct{ Accepted int }
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s: %v", recorder.Body, err)
		}
		switch recorder.Code {
		case http.StatusAccepted:
			if len(events) != answer.Accepted {
				t.Fatalf("%s, but there are %d", recorder.Body, len(events))
			}
		case http.StatusBadRequest, http.StatusUnsupportedMediaType:
			if len(events) != 0 {
				t.Fatalf("refused (%s), but there are %d", recorder.Body, len(events))
			}
		default:
			t.Fatalf("status %d: %s", recorder.Code, recorder.Body)
		}
		for _, e := range events {
			if err := e.Validate(); err != nil || e.Subject == "" || e.Time.After(clock.Add(2*time.Minute)) {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	})
}
