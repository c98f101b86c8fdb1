package hubspot

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

func timing(customer string) crm.Contact {
	return crm.Contact{Customer: customer, Timing: &crm.Timing{BestDay: "tue", BestHour: 0, Confidence: 80, Level: "own", Zone: "Europe/Rome", ComputedAt: at}}
}

const (
	known   = `{"tempismo_best_day":"tue","tempismo_best_hour":"0","tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":"80","tempismo_level":"own","tempismo_persona":"","tempismo_zone":"Europe/Rome"}`
	emptied = `{"tempismo_best_day":"","tempismo_best_hour":"","tempismo_computed_at":"","tempismo_confidence":"","tempismo_level":"","tempismo_persona":"","tempismo_zone":""}`
)

func TestTheUpdate(t *testing.T) {
	own := Config{Token: "token", IDProperty: "hs_object_id"}
	const read = "/crm/v3/objects/contacts/batch/read "
	const update = "/crm/v3/objects/contacts/batch/update "
	rows := []struct {
		name     string
		config   Config
		contacts []crm.Contact
		calls    []string // path and body
		answers  []string // status and body
		verdict  crm.Verdict
		refused  map[int]string
	}{
		{"by address: the ids are asked for first, and only who is there is written", property, []crm.Contact{timing("A@example.com"), {Customer: "b@example.com"}, timing("c@example.com")},
			[]string{read + `{"properties":["email"],"idProperty":"email","inputs":[{"id":"A@example.com"},{"id":"b@example.com"},{"id":"c@example.com"}]}`, update + `{"inputs":[{"id":"1","properties":` + known + `},{"id":"2","properties":` + emptied + `}]}`},
			[]string{`207 {"results":[{"id":"2","properties":{"email":"b@example.com"}},{"id":"1","properties":{"email":"a@example.com"}}],"numErrors":1,"errors":[{"category":"OBJECT_NOT_FOUND"}]}`, `200 {"results":[{"id":"1"},{"id":"2"}]}`},
			crm.Accepted, map[int]string{2: "HubSpot does not know the contact"}},
		{"nobody is there, and nothing is written", property, []crm.Contact{timing("a@example.com")},
			[]string{read + `{"properties":["email"],"idProperty":"email","inputs":[{"id":"a@example.com"}]}`}, []string{`207 {"results":[]}`},
			crm.Accepted, map[int]string{0: "HubSpot does not know the contact"}},
		{"by HubSpot's id, and not all of them are written", own, []crm.Contact{timing("512"), timing("513"), timing("512")},
			[]string{update + `{"inputs":[{"id":"512","properties":` + known + `},{"id":"513","properties":` + known + `}]}`}, []string{`207 {"results":[{"id":"512"}]}`},
			crm.Accepted, map[int]string{1: "HubSpot did not write the contact", 2: "HubSpot has one contact for it and for the one at 0 of the batch"}},
		{"a property that is missing is a setting", own, []crm.Contact{timing("512")}, []string{update + `{"inputs":[{"id":"512","properties":` + known + `}]}`},
			[]string{`400 {"status":"error","message":"Property values were not valid: [{\"error\":\"PROPERTY_DOESNT_EXIST\"}]","category":"VALIDATION_ERROR"}`}, crm.Denied, nil},
		{"half an answer tells nothing", own, []crm.Contact{timing("512")}, []string{update + `{"inputs":[{"id":"512","properties":` + known + `}]}`}, []string{`200 {"results":[{"id"`}, crm.Refused, nil},
		{"no such endpoint", own, []crm.Contact{timing("512")}, []string{update + `{"inputs":[{"id":"512","properties":` + known + `}]}`}, []string{`404 {"status":"error"}`}, crm.Denied, nil},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			n := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				body, err := io.ReadAll(req.Body)
				if got := req.URL.Path + " " + string(body); err != nil || req.Method != http.MethodPost || n >= len(r.calls) || got != r.calls[n] {
					t.Errorf("call %d is %s %s: %v", n, req.Method, got, err)
				}
				code, answer, _ := strings.Cut(r.answers[min(n, len(r.answers)-1)], " ")
				n++
				w.WriteHeader(map[string]int{"200": 200, "207": 207, "400": 400, "404": 404}[code])
				_, _ = io.WriteString(w, answer)
			}))
			defer server.Close()
			a, refused := New(r.config, server.Client(), server.URL+"/").Update(t.Context(), r.contacts, at)
			if a.Verdict != r.verdict || !maps.Equal(refused, r.refused) || n != len(r.calls) {
				t.Errorf("%+v, %v after %d calls", a, refused, n)
			}
		})
	}
}

func TestUpdateAnswers(t *testing.T) {
	fake := sandbox.HubSpot("token")
	fake.Unknown = func(who string) bool { return who == "b@example.com" }
	server := httptest.NewServer(fake)
	defer server.Close()
	h := New(property, server.Client(), server.URL)
	if a, refused := h.Update(t.Context(), []crm.Contact{timing("a@example.com"), timing("b@example.com"), timing("C-1")}, at); a.Verdict != crm.Accepted || len(refused) != 2 || refused[1] == "" || refused[2] == "" {
		t.Errorf("%+v, %v", a, refused)
	}
	if got := fake.Contacts(); len(got) != 1 || got["a@example.com"]["tempismo_confidence"] != "80" {
		t.Errorf("contacts %v", got)
	}
	if a, _ := h.Update(t.Context(), []crm.Contact{{Customer: "a@example.com"}}, at); a.Verdict != crm.Accepted || len(fake.Contacts()) != 0 {
		t.Errorf("%+v, and contacts %v after they were emptied", a, fake.Contacts())
	}
	if a, _ := New(Config{Token: "other", IDProperty: "email"}, server.Client(), server.URL).Update(t.Context(), []crm.Contact{timing("a@example.com")}, at); a.Verdict != crm.Denied {
		t.Errorf("a foreign token: %+v", a)
	}
}
