package klaviyo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/crmtest"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

var (
	at   = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)
	send = &crm.Send{
		ID: "d-1", Type: "io.tempismo.decision.send_now.v1", Customer: "C-1", Time: at,
		Data: []byte(`{"reason":"slot","request":"r-1","channel":"email","message":"winter","expires_at":"2026-12-03T10:11:52Z","rules":[{"rule":"consent"}]}`),
	}
)

// What is called is pinned byte by byte: the key of a retry is the same only if the whole event is.
func TestTheCall(t *testing.T) {
	const facts = `{"tempismo_decision":"d-1","tempismo_reason":"slot","tempismo_request":"r-1","tempismo_channel":"email","tempismo_message":"winter","tempismo_expires_at":"2026-12-03T10:11:52Z"}`
	rows := []struct{ profile, want string }{
		{"external_id", `{"type":"profile","attributes":{"external_id":"C-1"}}`},
		{"email", `{"type":"profile","attributes":{"email":"C-1"}}`},
		{"id", `{"type":"profile","id":"C-1","attributes":{}}`},
	}
	for _, r := range rows {
		t.Run(r.profile, func(t *testing.T) {
			var body string
			var header http.Header
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				text, err := io.ReadAll(req.Body)
				if err != nil || req.Method != http.MethodPost || req.URL.Path != "/api/events" {
					t.Errorf("%s %s: %v", req.Method, req.URL, err)
				}
				body, header = string(text), req.Header
				w.WriteHeader(http.StatusAccepted)
			}))
			defer server.Close()
			k := New(Config{APIKey: "pk_test", Metric: "Send now", Profile: r.profile}, server.Client(), server.URL)
			if a := k.Send(t.Context(), send, at); a != (crm.Answer{Verdict: crm.Accepted}) {
				t.Fatalf("got %+v", a)
			}
			want := `{"data":{"type":"event","attributes":{"properties":` + facts + `,"time":"2026-12-03T09:41:52Z","unique_id":"d-1",` +
				`"metric":{"data":{"type":"metric","attributes":{"name":"Send now"}}},"profile":{"data":` + r.want + `}}}}`
			if body != want {
				t.Errorf("got  %s\nwant %s", body, want)
			}
			for name, want := range map[string]string{"Authorization": "Klaviyo-API-Key pk_test", "Revision": "2026-07-15", "Content-Type": "application/vnd.api+json"} {
				if got := header.Get(name); got != want {
					t.Errorf("%s is %q", name, got)
				}
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	rows := []struct {
		name   string
		bend   func(*Config, *crm.Send)
		fault  sandbox.Fault
		want   crm.Verdict
		detail string
		sent   int
	}{
		{name: "it is taken", want: crm.Accepted, sent: 1},
		{name: "a foreign key", bend: func(c *Config, _ *crm.Send) { c.APIKey = "pk_other" }, want: crm.Denied, detail: "HTTP 401: not_authenticated"},
		{name: "nobody", bend: func(_ *Config, s *crm.Send) { s.Customer = "" }, want: crm.Refused, detail: "HTTP 400: missing_identifier /data/attributes/profile/data"},
		{name: "too much at once", fault: sandbox.TooMany, want: crm.Retry, detail: "HTTP 429: throttled"},
		{name: "an error before", fault: sandbox.ErrorBefore, want: crm.Unknown, detail: "HTTP 500"},
		{name: "an error after", fault: sandbox.ErrorAfter, want: crm.Unknown, detail: "HTTP 500", sent: 1},
		{name: "a lost call", fault: sandbox.LostBefore, want: crm.Unknown, detail: "connection lost"},
		{name: "a lost answer", fault: sandbox.LostAfter, want: crm.Unknown, detail: "connection lost", sent: 1},
		{name: "a late answer", fault: sandbox.Slow, want: crm.Unknown, detail: "no answer in time", sent: 1},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			fake := sandbox.Klaviyo("pk_test")
			fake.Fault, fake.Late = func(*http.Request) sandbox.Fault { return r.fault }, time.Minute
			server := httptest.NewServer(fake)
			defer server.Close()
			client := server.Client()
			client.Timeout = 200 * time.Millisecond
			c, s := Config{APIKey: "pk_test", Metric: "Send now"}, *send
			if r.bend != nil {
				r.bend(&c, &s)
			}
			a := New(c, client, server.URL).Send(t.Context(), &s, at)
			if a.Verdict != r.want || a.Detail != r.detail || (a.After > 0) != (r.fault == sandbox.TooMany) {
				t.Errorf("got %+v", a)
			}
			if got := fake.Sent(); len(got) != r.sent {
				t.Errorf("sent %+v", got)
			}
		})
	}
}

// A second call for a decision creates no second event, and is taken like the first.
func TestTheKey(t *testing.T) {
	fake := sandbox.Klaviyo("pk_test")
	server := httptest.NewServer(fake)
	defer server.Close()
	k := New(Config{APIKey: "pk_test", Metric: "Send now"}, server.Client(), server.URL)
	for range 2 {
		if a := k.Send(t.Context(), send, at); a.Verdict != crm.Accepted {
			t.Errorf("got %+v", a)
		}
	}
	if got := fake.Sent(); len(got) != 1 || got[0].Decision != "d-1" || got[0].Customer != "C-1" {
		t.Errorf("sent %+v", got)
	}
}

func TestConfig(t *testing.T) {
	good := Config{APIKey: "pk_test", Metric: "m", URL: "https://a.klaviyo.com", Calls: crm.Calls{Timeout: time.Second, Concurrency: 1}}
	if err := good.Validate(false); err != nil {
		t.Error(err)
	}
	bad := Config{Metric: strings.Repeat("m", 128), URL: "http://a.klaviyo.com", Calls: crm.Calls{Timeout: time.Minute}}
	err := bad.Validate(false)
	for _, name := range []string{"KLAVIYO_API_KEY", "KLAVIYO_METRIC", "KLAVIYO_URL", "KLAVIYO_TIMEOUT", "KLAVIYO_CONCURRENCY"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}

// FuzzAnswer: whatever Klaviyo answers is sorted.
func FuzzAnswer(f *testing.F) {
	for _, code := range []uint16{200, 201, 202, 302, 400, 401, 403, 404, 405, 408, 423, 429, 477, 500, 503} {
		for _, body := range []string{``, `{"errors":[{"code":"invalid","source":{"pointer":"/data"}}]}`, `{"errors":[{}]}`} {
			f.Add(code-200, "7", "", "C-1", []byte(body))
		}
	}
	f.Add(uint16(229), "Thu, 03 Dec 9999 08:05:00 GMT", "9223372036854775807", "..", []byte(`null`))
	f.Add(uint16(229), "-1", "-1", "a/b?c#d@example.com", []byte(`[`))
	f.Fuzz(func(t *testing.T, code uint16, retry, reset, customer string, body []byte) {
		api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
			crmtest.Call(t, r, 2)
			return crmtest.Codes(code), http.Header{"Retry-After": {retry}, "X-Ratelimit-Reset": {reset}}, body
		})
		s := *send
		s.Customer = customer
		a := New(Config{APIKey: "pk_test", Metric: "Send now"}, api.Client(), "https://crm.example.com").Send(t.Context(), &s, at)
		crmtest.Check(t, crmtest.Codes(code), a)
		if code := crmtest.Codes(code); a.Verdict == crm.Retry != (code == 429 || code == 425) || a.Verdict == crm.Accepted != (code < 300) {
			t.Fatalf("%d: %+v", code, a)
		}
	})
}
