package sfmc

import (
	"io"
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

func TestTheUpdate(t *testing.T) {
	rows := []struct {
		name    string
		code    int
		answer  string
		verdict crm.Verdict
	}{
		{"the rows come back", 200, `[{"keys":{"ContactKey":"C-1"},"values":{"errorcode":"a column of theirs"}}]`, crm.Accepted},
		{"a row that is wrong", 400, `{"message":"of C-1","errorcode":10006}`, crm.Refused},
		{"no such data extension", 404, `{"errorcode":10000}`, crm.Denied},
		{"too many", 429, `{"errorcode":50200}`, crm.Retry},
	}
	const want = `[{"keys":{"Key":"C-1"},"values":{"tempismo_best_day":"tue","tempismo_best_hour":0,"tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":80,"tempismo_level":"own","tempismo_persona":"","tempismo_zone":"Europe/Rome"}}]`
	for _, r := range rows {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/v2/token" {
				_, _ = io.WriteString(w, `{"access_token":"t","expires_in":1079}`)
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil || req.Method != http.MethodPost || req.URL.EscapedPath() != "/hub/v1/dataevents/key:the%20key/rowset" || string(body) != want || req.Header.Get("Authorization") != "Bearer t" {
				t.Errorf("%s %s: %v\ngot  %s\nwant %s", req.Method, req.URL, err, body, want)
			}
			w.WriteHeader(r.code)
			_, _ = io.WriteString(w, r.answer)
		}))
		m := New(Config{ClientID: "i", ClientSecret: "s", DataExtension: "the key", KeyColumn: "Key"}, server.Client(), server.URL+"/")
		if a, refused := m.Update(t.Context(), []crm.Contact{timing("C-1")}, at); a.Verdict != r.verdict || len(refused) != 0 || strings.Contains(a.Detail, "C-1") {
			t.Errorf("%s: %+v, %v", r.name, a, refused)
		}
		server.Close()
	}
}

func TestUpdateAnswers(t *testing.T) {
	fake := sandbox.SFMC("id", "secret")
	server := httptest.NewServer(fake)
	defer server.Close()
	m := New(Config{ClientID: "id", ClientSecret: "secret", DataExtension: "timing", KeyColumn: "ContactKey"}, server.Client(), server.URL)
	if a, _ := m.Update(t.Context(), []crm.Contact{timing("C-1"), timing("C-2")}, at); a.Verdict != crm.Accepted || len(fake.Contacts()) != 2 {
		t.Errorf("%+v, contacts %v", a, fake.Contacts())
	}
	if a, _ := m.Update(t.Context(), []crm.Contact{timing("C-3"), timing(strings.Repeat("x", 300))}, at); a.Verdict != crm.Refused || len(fake.Contacts()) != 2 {
		t.Errorf("%+v, contacts %v", a, fake.Contacts())
	}
}

func TestUpdatesNeedADataExtension(t *testing.T) {
	if err := (Config{}).ValidateUpdates(); err == nil || !strings.Contains(err.Error(), "SFMC_DATA_EXTENSION") || !strings.Contains(err.Error(), "SFMC_KEY_COLUMN") {
		t.Errorf("%v", err)
	}
	if err := (Config{DataExtension: "d", KeyColumn: "k"}).ValidateUpdates(); err != nil {
		t.Error(err)
	}
}
