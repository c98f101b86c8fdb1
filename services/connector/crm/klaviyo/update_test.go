package klaviyo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

var timings = []crm.Contact{
	{Customer: "a@example.com", Timing: &crm.Timing{BestDay: "tue", BestHour: 0, Confidence: 80, Level: "own", Zone: "Europe/Rome", ComputedAt: at}},
	{Customer: "C-2"},
}

func TestTheUpdate(t *testing.T) {
	const (
		first  = `"properties":{"tempismo_best_day":"tue","tempismo_best_hour":0,"tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":80,"tempismo_level":"own","tempismo_persona":"","tempismo_zone":"Europe/Rome"}`
		second = `"properties":{"tempismo_best_day":"","tempismo_best_hour":"","tempismo_computed_at":"","tempismo_confidence":"","tempismo_level":"","tempismo_persona":"","tempismo_zone":""}`
	)
	rows := []struct {
		profile, profiles string
		refused           int
	}{
		{"external_id", `{"type":"profile","attributes":{"external_id":"a@example.com",` + first + `}},{"type":"profile","attributes":{"external_id":"C-2",` + second + `}}`, 0},
		{"email", `{"type":"profile","attributes":{"email":"a@example.com",` + first + `}}`, 1},
		{"id", `{"type":"profile","id":"a@example.com","attributes":{` + first + `}},{"type":"profile","id":"C-2","attributes":{` + second + `}}`, 0},
	}
	for _, r := range rows {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, err := io.ReadAll(req.Body)
			want := `{"data":{"type":"profile-bulk-import-job","attributes":{"profiles":{"data":[` + r.profiles + `]}}}}`
			if err != nil || req.Method != http.MethodPost || req.URL.Path != "/api/profile-bulk-import-jobs" || string(body) != want || req.Header.Get("Revision") != Revision {
				t.Errorf("%s %s: %v\ngot  %s\nwant %s", req.Method, req.URL, err, body, want)
			}
			w.WriteHeader(http.StatusAccepted)
		}))
		a, refused := New(Config{APIKey: "k", Profile: r.profile}, server.Client(), server.URL).Update(t.Context(), timings, at)
		if a != (crm.Answer{Verdict: crm.Accepted}) || len(refused) != r.refused || r.refused > 0 && refused[1] == "" {
			t.Errorf("%s: %+v, %v", r.profile, a, refused)
		}
		server.Close()
	}
}

func TestUpdateAnswers(t *testing.T) {
	fake := sandbox.Klaviyo("pk_test")
	server := httptest.NewServer(fake)
	defer server.Close()
	k := New(Config{APIKey: "pk_test"}, server.Client(), server.URL)
	if a, refused := k.Update(t.Context(), timings, at); a.Verdict != crm.Accepted || len(refused) != 0 {
		t.Errorf("%+v, %v", a, refused)
	}
	if got := fake.Contacts(); len(got) != 1 || got["a@example.com"]["tempismo_best_day"] != "tue" {
		t.Errorf("contacts %v", got)
	}
	if a, refused := New(Config{APIKey: "other"}, server.Client(), server.URL).Update(t.Context(), timings, at); a.Verdict != crm.Denied || refused != nil {
		t.Errorf("a foreign key: %+v, %v", a, refused)
	}
	if a, _ := k.Update(t.Context(), []crm.Contact{{}}, at); a.Verdict != crm.Refused || a.Detail != "HTTP 400: missing_identifier /data/attributes/profiles/data/0" {
		t.Errorf("nobody: %+v", a)
	}
}
