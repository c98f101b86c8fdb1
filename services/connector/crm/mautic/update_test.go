package mautic

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

func timing(customer string) crm.Contact {
	return crm.Contact{Customer: customer, Timing: &crm.Timing{BestDay: "tue", BestHour: 0, Confidence: 80, Level: "own", Zone: "Europe/Rome", ComputedAt: at}}
}

func TestTheUpdate(t *testing.T) {
	const known = `,"overwriteWithBlank":true,"tempismo_best_day":"tue","tempismo_best_hour":0,"tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":80,"tempismo_level":"own","tempismo_persona":"","tempismo_zone":"Europe/Rome"}`
	const want = `[{"id":512` + known + `,{"id":513` + known + `,{"id":514` + known + `]`
	rows := []struct {
		name    string
		code    int
		answer  string
		verdict crm.Verdict
		refused map[int]string // beside the one that has no number
	}{
		{"all, as lists", 200, `{"contacts":[{},{},{}],"statusCodes":[200,200,200]}`, crm.Accepted, nil},
		{"but the first, as objects", 200, `{"contacts":{"1":{},"2":{}},"statusCodes":[404,200,200],"errors":[{"code":404,"message":"of 512"}]}`, crm.Accepted, map[int]string{0: "Mautic did not edit the contact: 404"}},
		{"but the last, whose place is after the one without a number", 200, `{"contacts":[{},{}],"statusCodes":[200,200,403],"errors":{"2":{"code":403}}}`, crm.Accepted, map[int]string{3: "Mautic did not edit the contact: 403"}},
		{"none of them", 200, `{"contacts":[],"statusCodes":[404,404,404],"errors":[{"code":404},{"code":404},{"code":404}]}`, crm.Accepted,
			map[int]string{0: "Mautic did not edit the contact: 404", 2: "Mautic did not edit the contact: 404", 3: "Mautic did not edit the contact: 404"}},
		{"a page", 200, `<html>`, crm.Refused, nil},
		{"no permission", 403, `{"errors":[{}]}`, crm.Denied, nil},
		{"an error", 500, `{"errors":[{}]}`, crm.Unknown, nil},
	}
	for _, r := range rows {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, err := io.ReadAll(req.Body)
			user, password, _ := req.BasicAuth()
			if err != nil || req.Method != http.MethodPatch || req.URL.Path != "/api/contacts/batch/edit" || string(body) != want || user != "u" || password != "p" {
				t.Errorf("%s %s: %v\ngot  %s\nwant %s", req.Method, req.URL, err, body, want)
			}
			w.WriteHeader(r.code)
			_, _ = io.WriteString(w, r.answer)
		}))
		a, refused := New(Config{User: "u", Password: "p"}, server.Client(), server.URL+"/").Update(t.Context(), []crm.Contact{timing("512"), timing("anna"), timing("513"), timing("514")}, at)
		wants := map[int]string{1: "the customer id is no number of a contact"}
		maps.Copy(wants, r.refused)
		if a.Verdict != r.verdict || a.Verdict == crm.Accepted && !maps.Equal(refused, wants) {
			t.Errorf("%s: %+v, %v", r.name, a, refused)
		}
		server.Close()
	}
}

func TestUpdateAnswers(t *testing.T) {
	fake := sandbox.Mautic("u", "p")
	fake.Unknown = func(who string) bool { return who == "513" }
	server := httptest.NewServer(fake)
	defer server.Close()
	m := New(Config{User: "u", Password: "p"}, server.Client(), server.URL)
	if a, refused := m.Update(t.Context(), []crm.Contact{timing("512"), timing("513"), timing("514")}, at); a.Verdict != crm.Accepted || len(refused) != 1 || refused[1] == "" {
		t.Errorf("%+v, %v", a, refused)
	}
	if a, _ := m.Update(t.Context(), []crm.Contact{{Customer: "514"}}, at); a.Verdict != crm.Accepted {
		t.Errorf("%+v", a)
	}
	if got := fake.Contacts(); len(got) != 1 || got["512"]["tempismo_best_day"] != "tue" {
		t.Errorf("contacts %v", got)
	}
}
