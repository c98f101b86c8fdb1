package webhook

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tempismo/tempismo/services/connector/crm"
)

// The message is signed like any other, and one that says the same at the same time has the same id.
func TestTheUpdate(t *testing.T) {
	const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	verify, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 12, 3, 9, 41, 52, 7, time.UTC)
	const want = `{"type":"tempismo.attributes","timestamp":"2026-12-03T09:41:52Z","data":{"contacts":[` +
		`{"customer":"C-1","attributes":{"tempismo_best_day":"tue","tempismo_best_hour":0,"tempismo_computed_at":"2026-12-03T09:41:52Z","tempismo_confidence":80,"tempismo_level":"own","tempismo_persona":null,"tempismo_zone":"Europe/Rome"}},` +
		`{"customer":"C-2","attributes":{"tempismo_best_day":null,"tempismo_best_hour":null,"tempismo_computed_at":null,"tempismo_confidence":null,"tempismo_level":null,"tempismo_persona":null,"tempismo_zone":null}}]}}`
	ids := map[string]int{}
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || string(body) != want {
			t.Errorf("%v\ngot  %s\nwant %s", err, body, want)
		}
		if err := verify.VerifyIgnoringTimestamp(body, req.Header); err != nil {
			t.Error(err)
		}
		ids[req.Header.Get("webhook-id")]++
		w.WriteHeader(status)
	}))
	defer server.Close()
	hook, err := New(Config{Secret: secret}, server.Client(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	contacts := []crm.Contact{{Customer: "C-1", Timing: &crm.Timing{BestDay: "tue", BestHour: 0, Confidence: 80, Level: "own", Zone: "Europe/Rome", ComputedAt: at}}, {Customer: "C-2"}}
	for range 2 {
		if a, refused := hook.Update(t.Context(), contacts, at); a.Verdict != crm.Accepted || len(refused) != 0 {
			t.Errorf("%+v, %v", a, refused)
		}
	}
	status = http.StatusGone
	if a, _ := hook.Update(t.Context(), contacts, at); a.Verdict != crm.Gone || len(ids) != 1 {
		t.Errorf("%+v, ids %v", a, ids)
	}
}
