package ingest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
