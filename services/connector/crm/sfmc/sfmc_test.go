package sfmc

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/crmtest"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

var at = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)

func send(customer string) *crm.Send {
	return &crm.Send{
		ID: "d-1", Type: "io.tempismo.decision.send_now.v1", Customer: customer, Time: at,
		Data: []byte(`{"reason":"slot","request":"r-1","channel":"email","message":"winter","expires_at":"2026-12-03T10:11:52Z","rules":[{"rule":"consent"}]}`),
	}
}

var (
	events   = Config{ClientID: "id", ClientSecret: "secret", EventKey: "APIEvent-1"}
	messages = Config{ClientID: "id", ClientSecret: "secret", DefinitionKey: "winter"}
)

func TestTheCall(t *testing.T) {
	const facts = `{"tempismo_decision":"d-1","tempismo_reason":"slot","tempismo_request":"r-1","tempismo_channel":"email","tempismo_message":"winter","tempismo_expires_at":"2026-12-03T10:11:52Z"}`
	unit := events
	unit.AccountID = "510001"
	rows := []struct {
		name, path, body, token string
		config                  Config
		code                    int
		answer                  string
		want                    crm.Answer
	}{
		{"an event", "/interaction/v1/events", `{"ContactKey":"a@example.com","EventDefinitionKey":"APIEvent-1","Data":` + facts + `}`,
			`{"grant_type":"client_credentials","client_id":"id","client_secret":"secret","account_id":"510001"}`, unit, 201, `{"eventInstanceId":"e-1"}`, crm.Answer{Verdict: crm.Accepted, ID: "e-1"}},
		{"a message", "/messaging/v1/email/messages/d-1", `{"definitionKey":"winter","recipient":{"contactKey":"a@example.com","to":"a@example.com","attributes":` + facts + `}}`,
			`{"grant_type":"client_credentials","client_id":"id","client_secret":"secret"}`, messages, 202, `{"requestId":"r-1","errorcode":0,"responses":[{"messageKey":"d-1"}]}`, crm.Answer{Verdict: crm.Accepted, ID: "r-1"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				text, err := io.ReadAll(req.Body)
				want := r.body
				if req.URL.Path == "/v2/token" {
					want = r.token
					_, _ = io.WriteString(w, `{"access_token":"token","expires_in":1079}`)
				} else {
					if req.URL.Path != r.path || req.Header.Get("Authorization") != "Bearer token" {
						t.Errorf("%s as %s", req.URL, req.Header.Get("Authorization"))
					}
					w.WriteHeader(r.code)
					_, _ = io.WriteString(w, r.answer)
				}
				if err != nil || string(text) != want {
					t.Errorf("got  %s\nwant %s", text, want)
				}
			}))
			defer server.Close()
			if a := New(r.config, server.Client(), server.URL+"/").Send(t.Context(), send("a@example.com"), at); a != r.want {
				t.Errorf("got %+v", a)
			}
		})
	}
}

// Tokens are at a host of their own, and only Salesforce's own host is changed.
func TestWhereTheTokensAre(t *testing.T) {
	m := New(Config{}, nil, Config{Subdomain: "mc123"}.Base())
	if m.url != "https://mc123.rest.marketingcloudapis.com" || m.tokens.url != "https://mc123.auth.marketingcloudapis.com/v2/token" {
		t.Errorf("%s, %s", m.url, m.tokens.url)
	}
	if m := New(Config{}, nil, "http://127.0.0.1:8090/"); m.url != "http://127.0.0.1:8090" || m.tokens.url != "http://127.0.0.1:8090/v2/token" {
		t.Errorf("%s, %s", m.url, m.tokens.url)
	}
}

// salesforce issues tokens and takes those that are valid.
type salesforce struct {
	mu             sync.Mutex
	issued, called int
	valid          string // the only token that is
	refuses        bool   // every token
}

func (s *salesforce) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/v2/token" {
		s.issued++
		s.valid = fmt.Sprintf("token-%d", s.issued)
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":1079}`, s.valid)
		return
	}
	s.called++
	if s.refuses || r.Header.Get("Authorization") != "Bearer "+s.valid {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// TestTokens: a token is used again, renewed before it ends and by one call alone, and a 401 renews it once.
func TestTokens(t *testing.T) {
	s := &salesforce{}
	server := httptest.NewServer(s)
	defer server.Close()
	m := New(events, server.Client(), server.URL)
	step := func(name string, now time.Time, want crm.Verdict, issued, called int) {
		t.Helper()
		if a := m.Send(t.Context(), send("C-1"), now); a.Verdict != want || s.issued != issued || s.called != called {
			t.Errorf("%s: got %+v, %d tokens, %d calls", name, a, s.issued, s.called)
		}
	}
	step("the first call", at, crm.Accepted, 1, 1)
	step("the token is used again", at.Add(1018*time.Second), crm.Accepted, 1, 2)
	step("it is renewed a minute before it ends", at.Add(1019*time.Second), crm.Accepted, 2, 3)
	later := at.Add(1020 * time.Second)
	s.valid = "another"
	step("it was withdrawn", later, crm.Accepted, 3, 5)
	s.refuses = true
	step("no token works", later, crm.Denied, 4, 7)

	s.refuses, s.valid, s.called = false, "another", 0
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if a := m.Send(t.Context(), send("C-1"), later); a.Verdict != crm.Accepted {
				t.Errorf("got %+v", a)
			}
		})
	}
	all.Wait()
	if s.issued != 5 {
		t.Errorf("%d tokens for those who found it withdrawn at once", s.issued-4)
	}
}

// TestNoToken: without a token nothing was sent, and that may be tried again.
func TestNoToken(t *testing.T) {
	rows := []struct {
		name  string
		code  int
		retry string
		body  string
		want  crm.Answer
	}{
		{"a wrong secret", 401, "", `{"error":"invalid_client"}`, crm.Answer{Verdict: crm.Denied, Detail: "access token: HTTP 401"}},
		{"a wrong account", 400, "", `{"error":"invalid_request"}`, crm.Answer{Verdict: crm.Denied, Detail: "access token: HTTP 400"}},
		{"too many", 429, "", ``, crm.Answer{Verdict: crm.Retry, Detail: "access token: HTTP 429", After: time.Minute}},
		{"an outage", 503, "7", ``, crm.Answer{Verdict: crm.Retry, Detail: "access token: HTTP 503", After: 7 * time.Second}},
		{"a page", 200, "", `<html>`, crm.Answer{Verdict: crm.Retry, Detail: "access token: an answer without one"}},
		{"nothing in time", 0, "", ``, crm.Answer{Verdict: crm.Retry, Detail: "access token: connection lost"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/v2/token" {
					t.Errorf("%s is called", req.URL)
				}
				if r.code == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Retry-After", r.retry)
				w.WriteHeader(r.code)
				_, _ = io.WriteString(w, r.body)
			}))
			defer server.Close()
			if a := New(messages, server.Client(), server.URL).Send(t.Context(), send("a@example.com"), at); a != r.want {
				t.Errorf("got %+v", a)
			}
		})
	}
}

// A decision could expire while its token is fetched, so that it has to be looked at again.
func TestASlowToken(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/v2/token" {
			t.Errorf("%s is called", req.URL)
		}
		time.Sleep(1100 * time.Millisecond)
		_, _ = io.WriteString(w, `{"access_token":"token","expires_in":1079}`)
	}))
	defer server.Close()
	want := crm.Answer{Verdict: crm.Retry, Detail: "the access token took long", After: time.Second}
	if a := New(messages, server.Client(), server.URL).Send(t.Context(), send("a@example.com"), at); a != want {
		t.Errorf("got %+v", a)
	}
}

func TestSort(t *testing.T) {
	rows := []struct {
		code        int
		retry, body string
		want        crm.Answer
	}{
		{400, "", `{"message":"DuplicateMessageKey","errorcode":109110}`, crm.Answer{Verdict: crm.Accepted, Detail: "was taken before"}},
		{400, "", `{"errorcode":109001,"responses":[{"messageKey":"d-1","errorcode":109110}]}`, crm.Answer{Verdict: crm.Accepted, Detail: "was taken before"}},
		{202, "", `{"requestId":"r","errorcode":109001,"responses":[{"messageKey":"d-1","errorcode":"109121"}]}`, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 202: 109121"}},
		{400, "", `{"message":"a@example.com","errorcode":109121}`, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 400: 109121"}},
		{403, "", `{"errorcode":40001}`, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 403: 40001"}},
		{429, "5", `{"message":"Rate limit exceeded","errorcode":50100,"retryAfter":5}`, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429: 50100", After: 5 * time.Second}},
		{429, "", `{"errorcode":50200}`, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429: 50200", After: time.Minute}},
		{500, "", `{"errorcode":109110}`, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 500: 109110"}},
		{502, "", `<html>`, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 502"}},
	}
	for _, r := range rows {
		if got := sort(r.code, http.Header{"Retry-After": {r.retry}}, []byte(r.body), at); got != r.want {
			t.Errorf("%d %s: got %+v", r.code, r.body, got)
		}
	}
}

func TestAnswers(t *testing.T) {
	long := send("a@example.com")
	long.ID = strings.Repeat("d", 101)
	rows := []struct {
		name   string
		config Config
		send   *crm.Send
		calls  int
		want   crm.Answer
		sent   int
	}{
		{"an event", events, send("C-1"), 1, crm.Answer{Verdict: crm.Accepted, ID: "event-2"}, 1},
		{"a message twice, and one is sent", messages, send("a@example.com"), 2, crm.Answer{Verdict: crm.Accepted, Detail: "was taken before"}, 1},
		{"no address", messages, send("C-1"), 1, crm.Answer{Verdict: crm.Refused, Detail: "the customer id is no e-mail address, which a transactional message needs"}, 0},
		{"a long id", messages, long, 1, crm.Answer{Verdict: crm.Refused, Detail: "the decision's id is longer than the 100 characters of a message key"}, 0},
		{"nobody", events, send(""), 1, crm.Answer{Verdict: crm.Refused, Detail: "the decision has no customer"}, 0},
		{"a foreign secret", Config{ClientID: "id", ClientSecret: "other", EventKey: "e"}, send("C-1"), 1, crm.Answer{Verdict: crm.Denied, Detail: "access token: HTTP 401"}, 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			fake := sandbox.SFMC("id", "secret")
			server := httptest.NewServer(fake)
			defer server.Close()
			m := New(r.config, server.Client(), server.URL)
			var a crm.Answer
			for range r.calls {
				a = m.Send(t.Context(), r.send, at)
			}
			got := fake.Sent()
			if a != r.want || len(got) != r.sent || r.sent > 0 && (got[0].Decision != "d-1" || got[0].Customer != r.send.Customer) {
				t.Errorf("got %+v, sent %+v", a, got)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	rows := []struct {
		name  string
		bend  func(*Config)
		wrong []string
	}{
		{"a journey", func(*Config) {}, nil},
		{"a message", func(c *Config) { c.EventKey, c.DefinitionKey = "", "d" }, nil},
		{"an address in place of a subdomain", func(c *Config) { c.Subdomain, c.URL = "", "https://sfmc.example.com" }, nil},
		{"both", func(c *Config) { c.DefinitionKey = "d" }, []string{"SFMC_EVENT_KEY, SFMC_DEFINITION_KEY"}},
		{"a subdomain that leads elsewhere", func(c *Config) { c.Subdomain = "evil.example.com/" }, []string{"SFMC_SUBDOMAIN"}},
		{"a period", func(c *Config) { c.EventKey = "a.b" }, []string{"SFMC_EVENT_KEY"}},
		{"nothing", func(c *Config) { *c = Config{} }, []string{"SFMC_URL", "SFMC_SUBDOMAIN", "SFMC_CLIENT_ID, SFMC_CLIENT_SECRET", "SFMC_EVENT_KEY, SFMC_DEFINITION_KEY", "SFMC_TIMEOUT"}},
	}
	for _, r := range rows {
		c := Config{Subdomain: "mc123", ClientID: "i", ClientSecret: "s", EventKey: "e", Calls: crm.Calls{Timeout: time.Second, Concurrency: 1}}
		r.bend(&c)
		err := c.Validate(false)
		if (err == nil) != (r.wrong == nil) {
			t.Errorf("%s: %v", r.name, err)
		}
		for _, name := range r.wrong {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %s is not named in %v", r.name, name, err)
			}
		}
	}
}

// FuzzAnswer: whatever Salesforce answers is sorted, and of its texts, which may hold what was sent, only numbers are repeated.
func FuzzAnswer(f *testing.F) {
	for _, code := range []uint16{200, 201, 202, 302, 400, 401, 403, 404, 405, 408, 423, 429, 477, 500, 503} {
		for _, body := range []string{`{"eventInstanceId":"e"}`, `{"requestId":"r","errorcode":0,"responses":[{"errorcode":"109121"}]}`, `{"errorcode":109110}`, `{"errorcode":{"to":"a@example.com"}}`, `{"errorcode":1e300}`} {
			f.Add(code-200, "7", "", "a@example.com", []byte(body))
		}
	}
	f.Add(uint16(229), "Thu, 03 Dec 9999 08:05:00 GMT", "9223372036854775807", "..", []byte(`null`))
	f.Add(uint16(229), "-1", "-1", "a/b?c#d@example.com", []byte(`[`))
	own := regexp.MustCompile(`^(was taken before|HTTP \d{3}(: (-?[\d.]+|an error without a number))?)?$`)
	f.Fuzz(func(t *testing.T, code uint16, retry, reset, customer string, body []byte) {
		for segments, c := range map[int]Config{3: events, 5: messages} {
			called := 0
			api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
				if r.URL.Path == "/v2/token" {
					return http.StatusOK, nil, []byte(`{"access_token":"token","expires_in":1079}`)
				}
				called++
				crmtest.Call(t, r, segments)
				return crmtest.Codes(code), http.Header{"Retry-After": {retry}, "X-Ratelimit-Reset": {reset}}, body
			})
			a := New(c, api.Client(), "https://crm.example.com").Send(t.Context(), send(customer), at)
			if called == 0 {
				if a.Verdict != crm.Refused && a.Detail != "the access token took long" { // on a machine that is very busy
					t.Fatalf("nobody was called for %q: %+v", customer, a)
				}
				continue
			}
			if called > 2 || called == 2 && crmtest.Codes(code) != http.StatusUnauthorized {
				t.Fatalf("%d calls", called)
			}
			code := crmtest.Codes(code)
			if a.Detail != "was taken before" || code >= 500 { // which the API alone can say, whatever the status
				crmtest.Check(t, code, a)
			}
			if a.Verdict == crm.Retry && code != 429 && code != 425 && a.Detail != "the access token took long" || a.Verdict == crm.Accepted && code >= 300 && a.Detail != "was taken before" {
				t.Fatalf("%d: %+v", code, a)
			}
			if !own.MatchString(a.Detail) && a.Detail != "the access token took long" {
				t.Fatalf("it says %+v", a)
			}
		}
	})
}

// FuzzToken: whatever is answered in place of a token, nothing was sent without one, which may be tried again; one that was given is used, and not
// for longer than a day.
func FuzzToken(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"token","expires_in":1079}`, `{"access_token":"a\nb","expires_in":1079}`, `{"access_token":"token","expires_in":-10000000000}`,
		`{"access_token":"token","expires_in":9223372036854775807}`, `{"access_token":"","expires_in":1}`, `{"access_token":"token","expires_in":"x"}`, `<html>`,
	} {
		f.Add(uint16(0), "", []byte(body))
	}
	for _, code := range []uint16{302, 400, 401, 408, 429, 500} {
		f.Add(code-200, "7", []byte(`{"error":"invalid_client"}`))
	}
	f.Fuzz(func(t *testing.T, code uint16, retry string, body []byte) {
		called, asked := 0, 0
		api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
			crmtest.Call(t, r, len(strings.Split(r.URL.Path, "/"))-1)
			if r.URL.Path == "/v2/token" {
				asked++
				return crmtest.Codes(code), http.Header{"Retry-After": {retry}}, body
			}
			called++
			return http.StatusCreated, nil, nil
		})
		m := New(events, api.Client(), "https://crm.example.com")
		a := m.Send(t.Context(), send("C-1"), at)
		switch {
		case asked != 1:
			t.Fatalf("%d tokens were asked for", asked)
		case called == 0 && (a.Verdict != crm.Retry && a.Verdict != crm.Denied || a.After < 0 || a.After > time.Hour || len(a.Detail) > 100):
			t.Fatalf("nothing was sent: %+v", a)
		case called > 0 && (a.Verdict != crm.Accepted || crmtest.Codes(code) >= 300):
			t.Fatalf("it was sent: %+v", a)
		}
		m.Send(t.Context(), send("C-1"), at.Add(24*time.Hour))
		if asked != 2 {
			t.Fatal("a token is used for a day")
		}
	})
}
