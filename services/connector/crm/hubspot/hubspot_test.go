package hubspot

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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
	emails   = Config{Token: "token", EmailID: 7}
	property = Config{Token: "token", Property: "tempismo", MessageProperty: "tempismo_message", IDProperty: "email"}
)

func TestTheCall(t *testing.T) {
	other := property
	other.IDProperty, other.MessageProperty = "hs_object_id", ""
	rows := []struct {
		name     string
		config   Config
		customer string
		call     string
		body     string
		answer   string
		id       string
	}{
		{"a single send", emails, "a@example.com", "POST /marketing/v4/email/single-send",
			`{"emailId":7,"message":{"to":"a@example.com","sendId":"d-1"},"customProperties":{"tempismo_decision":"d-1","tempismo_reason":"slot","tempismo_request":"r-1","tempismo_channel":"email","tempismo_message":"winter","tempismo_expires_at":"2026-12-03T10:11:52Z"}}`,
			`{"statusId":"s-1","status":"PENDING","requestedAt":"2026-12-03T09:41:52Z"}`, "s-1"},
		{"a property, by address", property, "a+b/c@example.com", "PATCH /crm/v3/objects/contacts/a+b%2Fc@example.com?idProperty=email",
			`{"properties":{"tempismo":"d-1","tempismo_message":"winter"}}`, `{"id":"512","properties":{}}`, ""},
		{"a property, by HubSpot's id", other, "512", "PATCH /crm/v3/objects/contacts/512", `{"properties":{"tempismo":"d-1"}}`, `{"id":"512"}`, ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				body, err := io.ReadAll(req.Body)
				if got := req.Method + " " + req.URL.RequestURI(); err != nil || got != r.call || string(body) != r.body {
					t.Errorf("%s %s: %v", got, body, err)
				}
				if got := req.Header.Get("Authorization"); got != "Bearer token" {
					t.Errorf("Authorization is %q", got)
				}
				_, _ = io.WriteString(w, r.answer)
			}))
			defer server.Close()
			if a := New(r.config, server.Client(), server.URL+"/").Send(t.Context(), send(r.customer), at); a != (crm.Answer{Verdict: crm.Accepted, ID: r.id}) {
				t.Errorf("got %+v", a)
			}
		})
	}
}

// What HubSpot documents to answer, and what its client knows.
func TestSort(t *testing.T) {
	rows := []struct {
		name    string
		config  Config
		code    int
		retry   string // Retry-After
		body    string
		verdict crm.Verdict
		detail  string
		after   time.Duration
	}{
		{"pending", emails, 200, "", `{"statusId":"s","status":"PENDING"}`, crm.Accepted, "", 0},
		{"sent before", emails, 200, "", `{"statusId":"s","status":"COMPLETE","sendResult":"IDEMPOTENT_IGNORE"}`, crm.Accepted, "", 0},
		{"what nobody explains", emails, 200, "", `{"statusId":"s","status":"COMPLETE","sendResult":"IDEMPOTENT_FAIL"}`, crm.Unknown, "IDEMPOTENT_FAIL", 0},
		{"canceled", emails, 200, "", `{"statusId":"s","status":"CANCELED"}`, crm.Unknown, "CANCELED", 0},
		{"a no", emails, 200, "", `{"statusId":"s","status":"COMPLETE","sendResult":"PREVIOUSLY_BOUNCED"}`, crm.Refused, "PREVIOUSLY_BOUNCED", 0},
		{"ten seconds", emails, 429, "", `{"status":"error","message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT","policyName":"TEN_SECONDLY_ROLLING"}`, crm.Retry, "HTTP 429: TEN_SECONDLY_ROLLING", 10 * time.Second},
		{"a day", emails, 429, "", `{"status":"error","message":"You have reached your daily limit.","errorType":"RATE_LIMIT","policyName":"DAILY"}`, crm.Retry, "HTTP 429: DAILY", time.Hour},
		{"as long as it says", emails, 429, "3", `{}`, crm.Retry, "HTTP 429", 3 * time.Second},
		{"locked", property, 423, "", `{}`, crm.Retry, "HTTP 423", 2 * time.Second},
		{"being moved", property, 477, "86400", ``, crm.Retry, "HTTP 477", time.Hour},
		{"no permission", property, 403, "", `{"status":"error","category":"MISSING_SCOPES"}`, crm.Denied, "HTTP 403: MISSING_SCOPES", 0},
		{"an unknown contact", property, 404, "", `{"status":"error","message":"resource not found"}`, crm.Refused, "HTTP 404", 0},
		{"another server", property, 404, "", `<html>`, crm.Denied, "HTTP 404", 0},
		{"no such e-mail", emails, 404, "", `{"status":"error"}`, crm.Denied, "HTTP 404", 0},
		{"a gateway", property, 502, "", `{"status":502}`, crm.Unknown, "HTTP 502", 0},
	}
	for _, r := range rows {
		a := New(r.config, nil, "").sort(r.code, http.Header{"Retry-After": {r.retry}}, []byte(r.body), at)
		if a.Verdict != r.verdict || a.Detail != r.detail || a.After != r.after || (a.ID != "") != (r.verdict == crm.Accepted) {
			t.Errorf("%s: got %+v", r.name, a)
		}
	}
}

func TestAnswers(t *testing.T) {
	rows := []struct {
		name     string
		config   Config
		customer string
		fault    sandbox.Fault
		calls    int
		want     crm.Answer
		sent     int
	}{
		{"a single send twice, and one e-mail", emails, "a@example.com", sandbox.None, 2, crm.Answer{Verdict: crm.Accepted, ID: "sandbox-2"}, 1},
		{"a property twice, and one enrolment", property, "a@example.com", sandbox.None, 2, crm.Answer{Verdict: crm.Accepted}, 1},
		{"no address", emails, "C-1", sandbox.None, 1, crm.Answer{Verdict: crm.Refused, Detail: "the customer id is no e-mail address, which a single send needs"}, 0},
		{"an unknown contact", property, "C-1", sandbox.None, 1, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 404: OBJECT_NOT_FOUND"}, 0},
		{"nobody", property, "", sandbox.None, 1, crm.Answer{Verdict: crm.Refused, Detail: "the decision has no customer"}, 0},
		{"a foreign token", Config{Token: "other", EmailID: 7}, "a@example.com", sandbox.None, 1, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 401: INVALID_AUTHENTICATION"}, 0},
		{"no such property", Config{Token: "token", Property: "other", IDProperty: "email"}, "a@example.com", sandbox.None, 1, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 400: VALIDATION_ERROR"}, 0},
		{"too much at once", emails, "a@example.com", sandbox.TooMany, 1, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: 10 * time.Second}, 0},
		{"an error after", property, "a@example.com", sandbox.ErrorAfter, 1, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 500"}, 1},
		{"a lost answer", emails, "a@example.com", sandbox.LostAfter, 1, crm.Answer{Verdict: crm.Unknown, Detail: "connection lost"}, 1},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			fake := sandbox.HubSpot("token")
			fake.Fault = func(*http.Request) sandbox.Fault { return r.fault }
			server := httptest.NewServer(fake)
			defer server.Close()
			h := New(r.config, server.Client(), server.URL)
			var a crm.Answer
			for range r.calls {
				a = h.Send(t.Context(), send(r.customer), at)
			}
			if a != r.want {
				t.Errorf("got %+v", a)
			}
			got := fake.Sent()
			if len(got) != r.sent || r.sent > 0 && (got[0].Decision != "d-1" || got[0].Customer != r.customer) {
				t.Errorf("sent %+v", got)
			}
		})
	}
}

// Why a property is no key: what comes after the next decision enrols for the one before again.
func TestAPropertyIsNoKey(t *testing.T) {
	fake := sandbox.HubSpot("token")
	server := httptest.NewServer(fake)
	defer server.Close()
	h := New(property, server.Client(), server.URL)
	for _, id := range []string{"d-1", "d-2", "d-1"} {
		s := send("a@example.com")
		s.ID = id
		h.Send(t.Context(), s, at)
	}
	if got := fake.Sent(); len(got) != 3 || h.Traits().Key {
		t.Errorf("sent %+v", got)
	}
}

func TestConfig(t *testing.T) {
	rows := []struct {
		name  string
		bend  func(*Config)
		wrong []string
	}{
		{"an e-mail", func(*Config) {}, nil},
		{"a property", func(c *Config) { c.EmailID, c.Property, c.MessageProperty = 0, "p", "m" }, nil},
		{"both", func(c *Config) { c.Property = "p" }, []string{"HUBSPOT_EMAIL_ID, HUBSPOT_PROPERTY"}},
		{"nothing", func(c *Config) { *c = Config{} }, []string{"HUBSPOT_URL", "HUBSPOT_TOKEN", "HUBSPOT_EMAIL_ID, HUBSPOT_PROPERTY", "HUBSPOT_TIMEOUT"}},
		{"a message without a property", func(c *Config) { c.MessageProperty = "m" }, []string{"HUBSPOT_MESSAGE_PROPERTY"}},
		{"two values for one property", func(c *Config) { c.EmailID, c.Property, c.MessageProperty = 0, "p", "p" }, []string{"HUBSPOT_MESSAGE_PROPERTY"}},
		{"contacts by nothing", func(c *Config) { c.EmailID, c.Property, c.IDProperty = 0, "p", "" }, []string{"HUBSPOT_ID_PROPERTY"}},
	}
	for _, r := range rows {
		c := Config{Token: "t", EmailID: 7, IDProperty: "email", URL: "https://api.hubapi.com", Calls: crm.Calls{Timeout: time.Second, Concurrency: 1}}
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

func TestLook(t *testing.T) {
	fake := sandbox.HubSpot("token")
	var fault atomic.Int64
	fake.Fault = func(*http.Request) sandbox.Fault { return sandbox.Fault(fault.Load()) }
	server := httptest.NewServer(fake)
	defer server.Close()
	h := New(Config{Token: "token", Property: "tempismo", IDProperty: "email"}, server.Client(), server.URL)
	first, second, other := crm.Send{ID: "d-1", Customer: "a+b@example.com", Data: []byte(`{}`)}, crm.Send{ID: "d-2", Customer: "a+b@example.com", Data: []byte(`{}`)}, crm.Send{ID: "d-1", Customer: "b@example.com", Data: []byte(`{}`)}
	if a := h.Look(t.Context(), &first, at); a.Verdict != crm.Unknown {
		t.Errorf("before the call: %+v", a)
	}
	for _, s := range []*crm.Send{&first, &second} {
		fault.Store(int64(sandbox.LostAfter))
		if a := h.Send(t.Context(), s, at); a.Verdict != crm.Unknown {
			t.Fatalf("got %+v", a)
		}
	}
	fault.Store(int64(sandbox.None))
	for s, want := range map[*crm.Send]crm.Verdict{&first: crm.Accepted, &second: crm.Accepted, &other: crm.Unknown} {
		if a := h.Look(t.Context(), s, at); a.Verdict != want {
			t.Errorf("%s of %s: %+v, want %s", s.ID, s.Customer, a, want)
		}
	}
	fault.Store(int64(sandbox.TooMany))
	if a := h.Look(t.Context(), &first, at); a.Verdict != crm.Retry || a.After == 0 {
		t.Errorf("too much at once: %+v", a)
	}
	fault.Store(int64(sandbox.None))
	if a := New(Config{Token: "other", Property: "tempismo", IDProperty: "email"}, server.Client(), server.URL).Look(t.Context(), &first, at); a.Verdict != crm.Denied {
		t.Errorf("a foreign token: %+v", a)
	}
}

// FuzzAnswer: whatever HubSpot answers is sorted, and a customer's id leads to no other path.
func FuzzAnswer(f *testing.F) {
	for _, code := range []uint16{200, 201, 202, 302, 400, 401, 403, 404, 405, 408, 423, 429, 477, 500, 503} {
		for _, body := range []string{`{"statusId":"s-1","status":"PENDING"}`, `{"sendResult":"THROTTLED"}`, `{"sendResult":"INVALID_TO_ADDRESS","status":"CANCELED"}`, `{"status":"error","category":"c","policyName":"DAILY"}`} {
			f.Add(code-200, "7", "", "C-1", []byte(body))
		}
	}
	f.Add(uint16(229), "Thu, 03 Dec 9999 08:05:00 GMT", "9223372036854775807", "..", []byte(`null`))
	f.Add(uint16(229), "-1", "-1", "a/b?c#d@example.com", []byte(`[`))
	f.Fuzz(func(t *testing.T, code uint16, retry, reset, customer string, body []byte) {
		for segments, c := range map[int]Config{4: emails, 5: property} {
			called := 0
			api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
				called++
				crmtest.Call(t, r, segments)
				if segments == 5 && (r.URL.Path != "/crm/v3/objects/contacts/"+customer || r.URL.RawQuery != "idProperty=email") {
					t.Fatalf("%s is called for %q", r.URL, customer)
				}
				return crmtest.Codes(code), http.Header{"Retry-After": {retry}, "X-Ratelimit-Reset": {reset}}, body
			})
			a := New(c, api.Client(), "https://crm.example.com").Send(t.Context(), send(customer), at)
			if called == 0 {
				if a.Verdict != crm.Refused {
					t.Fatalf("nobody was called for %q: %+v", customer, a)
				}
				continue
			}
			crmtest.Check(t, crmtest.Codes(code), a)
			untaken := map[int]bool{423: true, 425: true, 429: true, 477: true}
			if code := crmtest.Codes(code); a.Verdict == crm.Retry != untaken[code] || a.Verdict == crm.Accepted && code >= 300 {
				t.Fatalf("%d: %+v", code, a)
			}
		}
	})
}
