package braze

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
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
	campaign = Config{APIKey: "key", CampaignID: "campaign-1"}
	canvas   = Config{APIKey: "key", CanvasID: "canvas-1"}
)

func TestTheCall(t *testing.T) {
	const facts = `{"tempismo_decision":"d-1","tempismo_reason":"slot","tempismo_request":"r-1","tempismo_channel":"email","tempismo_message":"winter","tempismo_expires_at":"2026-12-03T10:11:52Z"}`
	rows := []struct {
		name       string
		config     Config
		path, want string
	}{
		{"a campaign", campaign, "/campaigns/trigger/send", `{"campaign_id":"campaign-1","broadcast":false,"recipients":[{"external_user_id":"C-1","trigger_properties":` + facts + `}]}`},
		{"a Canvas", canvas, "/canvas/trigger/send", `{"canvas_id":"canvas-1","broadcast":false,"recipients":[{"external_user_id":"C-1","context":` + facts + `}]}`},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				text, err := io.ReadAll(req.Body)
				if err != nil || req.Method != http.MethodPost || req.URL.Path != r.path || req.Header.Get("Authorization") != "Bearer key" {
					t.Errorf("%s %s %v: %v", req.Method, req.URL, req.Header, err)
				}
				got = string(text)
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, `{"dispatch_id":"dispatch-1","message":"success"}`)
			}))
			defer server.Close()
			if a := New(r.config, server.Client(), server.URL).Send(t.Context(), send, at); a != (crm.Answer{Verdict: crm.Accepted, ID: "dispatch-1"}) {
				t.Errorf("got %+v", a)
			}
			if got != r.want {
				t.Errorf("got  %s\nwant %s", got, r.want)
			}
		})
	}
}

func TestAnswersOfTheFake(t *testing.T) {
	rows := []struct {
		name   string
		bend   func(*Config, *crm.Send)
		fault  sandbox.Fault
		want   crm.Verdict
		detail string
		sent   int
	}{
		{name: "it is taken", want: crm.Accepted, sent: 1},
		{name: "a foreign key", bend: func(c *Config, _ *crm.Send) { c.APIKey = "other" }, want: crm.Denied, detail: "HTTP 401: Invalid API key"},
		{name: "nobody is not everybody", bend: func(_ *Config, s *crm.Send) { s.Customer = "" }, want: crm.Refused, detail: "the decision has no customer"},
		{name: "too much at once", fault: sandbox.TooMany, want: crm.Retry, detail: "HTTP 429"},
		{name: "an error before", fault: sandbox.ErrorBefore, want: crm.Unknown, detail: "HTTP 500: internal error"},
		{name: "an error after", fault: sandbox.ErrorAfter, want: crm.Unknown, detail: "HTTP 500: internal error", sent: 1},
		{name: "a lost answer", fault: sandbox.LostAfter, want: crm.Unknown, detail: "connection lost", sent: 1},
		{name: "a late answer", fault: sandbox.Slow, want: crm.Unknown, detail: "no answer in time", sent: 1},
	}
	for _, r := range rows {
		for kind, c := range map[string]Config{"campaign": campaign, "canvas": canvas} {
			t.Run(r.name+", "+kind, func(t *testing.T) {
				fake := sandbox.Braze("key")
				fake.Fault, fake.Late = func(*http.Request) sandbox.Fault { return r.fault }, time.Minute
				fake.Now = func() time.Time { return at }
				server := httptest.NewServer(fake)
				defer server.Close()
				client, s := server.Client(), *send
				client.Timeout = 200 * time.Millisecond
				if r.bend != nil {
					r.bend(&c, &s)
				}
				a := New(c, client, server.URL).Send(t.Context(), &s, at)
				if a.Verdict != r.want || a.Detail != r.detail || (a.ID != "") != (r.want == crm.Accepted) {
					t.Errorf("got %+v", a)
				}
				if r.fault == sandbox.TooMany && a.After != 2*time.Second {
					t.Errorf("to be left alone for %v", a.After)
				}
				got := fake.Sent()
				if len(got) != r.sent || r.sent == 1 && (got[0].Decision != "d-1" || got[0].Customer != "C-1") {
					t.Errorf("sent %+v", got)
				}
			})
		}
	}
}

func TestSort(t *testing.T) {
	reset := func(d time.Duration) http.Header {
		return http.Header{"X-Ratelimit-Reset": {strconv.FormatInt(at.Add(d).Unix(), 10)}}
	}
	rows := []struct {
		name   string
		code   int
		header http.Header
		body   string
		want   crm.Answer
	}{
		{"queued during maintenance", 202, nil, `{"message":"queued"}`, crm.Answer{Verdict: crm.Accepted}},
		{"an answer that cannot be read", 201, nil, `{`, crm.Answer{Verdict: crm.Accepted}},
		{"minor errors", 201, nil, `{"message":"success","dispatch_id":"x","errors":["C-1 is odd"]}`, crm.Answer{Verdict: crm.Accepted, ID: "x", Detail: "taken with 1 minor errors; Braze's message activity log shows them"}},
		{"a fatal error that calls itself a success", 201, nil, `{"message":"no"}`, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 201: no"}},
		{"a fatal error", 400, nil, `{"message":"Invalid campaign ID"}`, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 400: Invalid campaign ID"}},
		{"the window ends", 429, reset(40 * time.Minute), ``, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: 40 * time.Minute}},
		{"the window has ended", 429, reset(-time.Minute), ``, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: time.Second}},
		{"the window is longer than any", 429, reset(24 * time.Hour), ``, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: time.Hour}},
		{"no window is told", 429, nil, ``, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: time.Minute}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := sort(r.code, r.header, []byte(r.body), at); got != r.want {
				t.Errorf("got %+v, want %+v", got, r.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	calls := crm.Calls{Timeout: time.Second, Concurrency: 1}
	rows := []struct {
		name   string
		config Config
		wrong  []string
	}{
		{"a campaign", Config{APIKey: "k", URL: "https://rest.iad-01.braze.com", CampaignID: "c", Calls: calls}, nil},
		{"a Canvas", Config{APIKey: "k", URL: "https://rest.iad-01.braze.com", CanvasID: "c", Calls: calls}, nil},
		{"both", Config{APIKey: "k", URL: "https://rest.iad-01.braze.com", CampaignID: "c", CanvasID: "c", Calls: calls}, []string{"BRAZE_CAMPAIGN_ID", "BRAZE_CANVAS_ID"}},
		{"nothing", Config{Calls: calls}, []string{"BRAZE_URL", "BRAZE_API_KEY", "BRAZE_CAMPAIGN_ID"}},
	}
	for _, r := range rows {
		err := r.config.Validate(false)
		if (err == nil) != (r.wrong == nil) {
			t.Errorf("%s: %v", r.name, err)
		}
		for _, name := range r.wrong {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %s is not named in %v", r.name, name, err)
			}
		}
	}
}

// FuzzAnswer: whatever Braze answers is sorted, and what is not known to be untaken is never tried again.
func FuzzAnswer(f *testing.F) {
	for _, code := range []uint16{200, 201, 202, 302, 400, 401, 403, 404, 405, 408, 423, 429, 477, 500, 503} {
		for _, body := range []string{`{"message":"success","dispatch_id":"x"}`, `{"message":"no","errors":[1,{}]}`, `{`} {
			f.Add(code-200, "7", "", "C-1", []byte(body))
		}
	}
	f.Add(uint16(229), "Thu, 03 Dec 9999 08:05:00 GMT", "9223372036854775807", "..", []byte(`null`))
	f.Add(uint16(1), "", "", "C-1", []byte(`{"dispatch_id":"`+strings.Repeat("x", crm.MaxID+1)+`"}`))
	f.Add(uint16(229), "-1", "-1", "a/b?c#d@example.com", []byte(`[`))
	f.Fuzz(func(t *testing.T, code uint16, retry, reset, customer string, body []byte) {
		for _, c := range []Config{campaign, canvas} {
			called := 0
			api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
				called++
				crmtest.Call(t, r, 3)
				return crmtest.Codes(code), http.Header{"Retry-After": {retry}, "X-Ratelimit-Reset": {reset}}, body
			})
			s := *send
			s.Customer = customer
			a := New(c, api.Client(), "https://crm.example.com").Send(t.Context(), &s, at)
			if called == 0 {
				if a.Verdict != crm.Refused || customer != "" {
					t.Fatalf("nobody was called for %q: %+v", customer, a)
				}
				continue
			}
			crmtest.Check(t, crmtest.Codes(code), a)
			if code := crmtest.Codes(code); a.Verdict == crm.Retry != (code == 429 || code == 425) || a.Verdict == crm.Accepted && code >= 300 {
				t.Fatalf("%d: %+v", code, a)
			}
		}
	})
}
