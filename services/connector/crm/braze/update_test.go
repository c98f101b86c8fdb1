package braze

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

var timings = []crm.Contact{
	{Customer: "C-1", Timing: &crm.Timing{BestDay: "tue", BestHour: 0, Confidence: 80, Level: "own", Zone: "Europe/Rome", ComputedAt: at}},
	{Customer: "C-2"},
}

func TestTheUpdate(t *testing.T) {
	rows := []struct {
		name    string
		code    int
		answer  string
		verdict crm.Verdict
		refused map[int]string
	}{
		{"all", 201, `{"message":"success","attributes_processed":2}`, crm.Accepted, map[int]string{}},
		{"but one", 201, `{"message":"success","attributes_processed":1,"errors":[{"type":"bad","input_array":"attributes","index":1}]}`, crm.Accepted, map[int]string{1: "Braze did not take the attributes: bad"}},
		{"an error that names nobody", 201, `{"message":"success","errors":["minor",{"input_array":"events","index":0},{"input_array":"attributes","index":7}]}`, crm.Accepted, map[int]string{}},
		{"none", 400, `{"message":"Attributes exceeds the limit"}`, crm.Refused, map[int]string{}},
		{"no permission", 403, `{"message":"no"}`, crm.Denied, map[int]string{}},
	}
	const want = `{"attributes":[{"_update_existing_only":true,"external_id":"C-1","tempismo_best_day":"tue","tempismo_best_hour":0,"tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":80,"tempismo_level":"own","tempismo_persona":null,"tempismo_zone":"Europe/Rome"},` +
		`{"_update_existing_only":true,"external_id":"C-2","tempismo_best_day":null,"tempismo_best_hour":null,"tempismo_computed_at":null,"tempismo_confidence":null,"tempismo_level":null,"tempismo_persona":null,"tempismo_zone":null}]}`
	for _, r := range rows {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, err := io.ReadAll(req.Body)
			if err != nil || req.Method != http.MethodPost || req.URL.Path != "/users/track" || string(body) != want || req.Header.Get("Authorization") != "Bearer k" {
				t.Errorf("%s %s: %v\ngot  %s\nwant %s", req.Method, req.URL, err, body, want)
			}
			w.WriteHeader(r.code)
			_, _ = io.WriteString(w, r.answer)
		}))
		if a, refused := New(Config{APIKey: "k"}, server.Client(), server.URL+"/").Update(t.Context(), timings, at); a.Verdict != r.verdict || !maps.Equal(refused, r.refused) {
			t.Errorf("%s: %+v, %v", r.name, a, refused)
		}
		server.Close()
	}
}

func TestUpdateAnswers(t *testing.T) {
	fake := sandbox.Braze("key")
	fake.Unknown = func(who string) bool { return who == "C-1" }
	server := httptest.NewServer(fake)
	defer server.Close()
	b := New(Config{APIKey: "key"}, server.Client(), server.URL)
	contacts := append(timings[:1:1], crm.Contact{Customer: "C-3", Timing: timings[0].Timing}, crm.Contact{Timing: timings[0].Timing})
	if a, refused := b.Update(t.Context(), contacts, at); a.Verdict != crm.Accepted || len(refused) != 1 || refused[2] == "" {
		t.Errorf("%+v, %v", a, refused)
	}
	if got := fake.Contacts(); len(got) != 1 || got["C-3"]["tempismo_level"] != "own" {
		t.Errorf("contacts %v", got)
	}
	if _, _ = b.Update(t.Context(), []crm.Contact{{Customer: "C-3"}}, at); len(fake.Contacts()) != 0 {
		t.Errorf("contacts %v after they were emptied", fake.Contacts())
	}
}
