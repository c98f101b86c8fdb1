package customerio

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tempismo/tempismo/services/connector/crm"
)

var timings = []crm.Contact{
	{Customer: "C-1", Timing: &crm.Timing{BestDay: "tue", BestHour: 0, Confidence: 80, Level: "own", Zone: "Europe/Rome", ComputedAt: at}},
	{Customer: "C-2", Timing: &crm.Timing{BestDay: "sun", BestHour: 23, Confidence: 10, Level: "persona", Persona: "late", ComputedAt: at}},
}

func TestTheUpdate(t *testing.T) {
	rows := []struct {
		name    string
		code    int
		answer  string
		want    crm.Answer
		refused map[int]string
	}{
		{"all", 200, `{}`, crm.Answer{Verdict: crm.Accepted}, map[int]string{}},
		{"but one", 207, `{"errors":[{"batch_index":1,"reason":"invalid","field":"id","message":"of C-2"}]}`, crm.Answer{Verdict: crm.Accepted}, map[int]string{1: "Customer.io did not take the person: invalid id"}},
		{"some, and it is not said which", 207, `{"errors":[{"reason":"invalid"}]}`, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 207, and an answer that cannot be read"}, nil},
		{"some, and half an answer", 207, `{"errors":[{"batch_ind`, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 207, and an answer that cannot be read"}, nil},
		{"none", 400, `{"errors":[]}`, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 400"}, nil},
		{"too many", 429, ``, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: 10e9}, nil},
	}
	const want = `{"batch":[{"type":"person","action":"identify","identifiers":{"id":"C-1"},"attributes":{"tempismo_best_day":"tue","tempismo_best_hour":0,"tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":80,"tempismo_level":"own","tempismo_persona":"","tempismo_zone":"Europe/Rome"}},` +
		`{"type":"person","action":"identify","identifiers":{"id":"C-2"},"attributes":{"tempismo_best_day":"sun","tempismo_best_hour":23,"tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":10,"tempismo_level":"persona","tempismo_persona":"late","tempismo_zone":""}}]}`
	for _, r := range rows {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, err := io.ReadAll(req.Body)
			user, password, _ := req.BasicAuth()
			if err != nil || req.Method != http.MethodPost || req.URL.Path != "/api/v2/batch" || string(body) != want || user != "site" || password != "key" {
				t.Errorf("%s %s: %v\ngot  %s\nwant %s", req.Method, req.URL, err, body, want)
			}
			w.WriteHeader(r.code)
			_, _ = io.WriteString(w, r.answer)
		}))
		a, refused := New(Config{SiteID: "site", TrackKey: "key"}, server.Client(), server.URL+"/").Update(t.Context(), timings, at)
		if a != r.want || a.Verdict == crm.Accepted && !maps.Equal(refused, r.refused) {
			t.Errorf("%s: %+v, %v", r.name, a, refused)
		}
		server.Close()
	}
}

// A transactional message has another key, which the Track API does not take.
func TestUpdatesNeedATrackKey(t *testing.T) {
	if err := (Config{TransactionalID: "3"}).ValidateUpdates(); err == nil {
		t.Error("a transactional message will do")
	}
	if err := (Config{}).ValidateUpdates(); err != nil {
		t.Error(err)
	}
}
