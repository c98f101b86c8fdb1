package customerio

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

const (
	data  = `{"reason":"slot","request":"r-1","channel":"email","message":"winter","expires_at":"2026-12-03T10:11:52Z","rules":[{"rule":"consent"}]}`
	facts = `{"tempismo_decision":"d-1","tempismo_reason":"slot","tempismo_request":"r-1","tempismo_channel":"email","tempismo_message":"winter","tempismo_expires_at":"2026-12-03T10:11:52Z"}`
)

var (
	at       = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)
	events   = Config{SiteID: "site", TrackKey: "key", Event: "send now"}
	messages = Config{AppKey: "app", TransactionalID: "3"}
)

func send(customer string) *crm.Send {
	return &crm.Send{ID: "d-1", Type: "io.tempismo.decision.send_now.v1", Customer: customer, Time: at, Data: []byte(data)}
}

func TestTheCall(t *testing.T) {
	named := messages
	named.TransactionalID = "winter"
	rows := []struct {
		name                           string
		config                         Config
		customer                       string
		path, authorization, want, her string
	}{
		{"an event", events, "C-1", "/api/v1/customers/C-1/events", "Basic c2l0ZTprZXk=", `{"name":"send now","id":"01M8XMG7R00X0T68762EXAS4VY","timestamp":1796290912,"data":` + facts + `}`, ""},
		{"an id that is no path", events, "a/b?c@d", "/api/v1/customers/a%2Fb%3Fc@d/events", "Basic c2l0ZTprZXk=", `{"name":"send now","id":"01M8XMG7R00X0T68762EXAS4VY","timestamp":1796290912,"data":` + facts + `}`, ""},
		{"a message", messages, "a@example.com", "/v1/send/email", "Bearer app", `{"transactional_message_id":3,"to":"a@example.com","identifiers":{"email":"a@example.com"},"message_data":` + facts + `,"send_to_unsubscribed":false}`, "delivery-1"},
		{"a message by its name", named, "a@example.com", "/v1/send/email", "Bearer app", `{"transactional_message_id":"winter","to":"a@example.com","identifiers":{"email":"a@example.com"},"message_data":` + facts + `,"send_to_unsubscribed":false}`, "delivery-1"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var got string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				text, err := io.ReadAll(req.Body)
				if err != nil || req.Method != http.MethodPost || req.URL.EscapedPath() != r.path || req.Header.Get("Authorization") != r.authorization {
					t.Errorf("%s %s %v: %v", req.Method, req.URL.EscapedPath(), req.Header, err)
				}
				got = string(text)
				if r.her != "" {
					_, _ = io.WriteString(w, `{"delivery_id":"delivery-1","queued_at":1}`)
				}
			}))
			defer server.Close()
			if a := New(r.config, server.Client(), server.URL).Send(t.Context(), send(r.customer), at); a != (crm.Answer{Verdict: crm.Accepted, ID: r.her}) {
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
		name     string
		config   Config
		customer string
		fault    sandbox.Fault
		calls    int
		want     crm.Answer
		sent     int
	}{
		{"an event is taken", events, "C-1", sandbox.None, 1, crm.Answer{Verdict: crm.Accepted}, 1},
		{"and once, however often it is sent", events, "C-1", sandbox.None, 3, crm.Answer{Verdict: crm.Accepted}, 1},
		{"a message is taken", messages, "a@example.com", sandbox.None, 1, crm.Answer{Verdict: crm.Accepted, ID: "sandbox1"}, 1},
		{"and as often as it is sent", messages, "a@example.com", sandbox.None, 2, crm.Answer{Verdict: crm.Accepted, ID: "sandbox2"}, 2},
		{"a message needs an address", messages, "C-1", sandbox.None, 1, crm.Answer{Verdict: crm.Refused, Detail: "the customer id is no e-mail address, which a transactional message needs"}, 0},
		{"a foreign key", Config{SiteID: "site", TrackKey: "other", Event: "e"}, "C-1", sandbox.None, 1, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 401: Unauthorized"}, 0},
		{"a foreign app key", Config{AppKey: "other", TransactionalID: "3"}, "a@example.com", sandbox.None, 1, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 401: Unauthorized"}, 0},
		{"an event without a name", Config{SiteID: "site", TrackKey: "key"}, "C-1", sandbox.None, 1, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 400: name: cannot be blank"}, 0},
		{"nobody", events, "", sandbox.None, 1, crm.Answer{Verdict: crm.Refused, Detail: "the decision has no customer"}, 0},
		{"too much at once", events, "C-1", sandbox.TooMany, 1, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: 10 * time.Second}, 0},
		{"an error after", messages, "a@example.com", sandbox.ErrorAfter, 1, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 500"}, 1},
		{"a lost answer", messages, "a@example.com", sandbox.LostAfter, 1, crm.Answer{Verdict: crm.Unknown, Detail: "connection lost"}, 1},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			fake := sandbox.CustomerIO("site", "key", "app")
			fake.Fault = func(*http.Request) sandbox.Fault { return r.fault }
			server := httptest.NewServer(fake)
			defer server.Close()
			c := New(r.config, server.Client(), server.URL)
			var a crm.Answer
			for range r.calls {
				a = c.Send(t.Context(), send(r.customer), at)
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

// The example of the specification: 1469918176385 ms begin with 01ARYZ6S41.
func TestULID(t *testing.T) {
	got := ulid(time.UnixMilli(1469918176385), "d-1")
	if !strings.HasPrefix(got, "01ARYZ6S41") || len(got) != 26 {
		t.Errorf("got %s", got)
	}
	if ulid(time.UnixMilli(1469918176385), "d-2") == got || ulid(time.UnixMilli(1469918176385), "d-1") != got {
		t.Error("the id of the decision does not decide")
	}
}

func TestConfig(t *testing.T) {
	calls := crm.Calls{Timeout: time.Second, Concurrency: 1}
	rows := []struct {
		name   string
		config Config
		base   string
		wrong  []string
	}{
		{"events", Config{SiteID: "s", TrackKey: "k", Event: "e", Calls: calls}, "https://track.customer.io", nil},
		{"events in Europe", Config{Region: "eu", SiteID: "s", TrackKey: "k", Event: "e", Calls: calls}, "https://track-eu.customer.io", nil},
		{"messages", Config{AppKey: "k", TransactionalID: "3", Calls: calls}, "https://api.customer.io", nil},
		{"messages in Europe", Config{Region: "eu", AppKey: "k", TransactionalID: "3", Calls: calls}, "https://api-eu.customer.io", nil},
		{"both", Config{SiteID: "s", TrackKey: "k", Event: "e", AppKey: "k", TransactionalID: "3", Calls: calls}, "https://api.customer.io", []string{"CUSTOMERIO_SITE_ID"}},
		{"a key too many", Config{SiteID: "s", TrackKey: "k", Event: "e", AppKey: "k", Calls: calls}, "https://track.customer.io", []string{"CUSTOMERIO_APP_KEY"}},
		{"nothing", Config{Calls: calls}, "https://track.customer.io", []string{"CUSTOMERIO_SITE_ID", "CUSTOMERIO_TRACK_KEY", "CUSTOMERIO_EVENT"}},
		{"a message without a key", Config{TransactionalID: "3", Calls: calls}, "https://api.customer.io", []string{"CUSTOMERIO_APP_KEY"}},
	}
	for _, r := range rows {
		if got := r.config.Base(); got != r.base {
			t.Errorf("%s: %s", r.name, got)
		}
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

// FuzzAnswer: whatever Customer.io answers is sorted, and a customer's id leads to no other path.
func FuzzAnswer(f *testing.F) {
	for _, code := range []uint16{200, 201, 202, 302, 400, 401, 403, 404, 405, 408, 423, 429, 477, 500, 503} {
		for _, body := range []string{`{"delivery_id":"x","queued_at":1}`, `{"meta":{"error":"a@example.com"}}`, `{"delivery_id":1}`} {
			f.Add(code-200, "7", "", "C-1", []byte(body))
		}
	}
	f.Add(uint16(229), "Thu, 03 Dec 9999 08:05:00 GMT", "9223372036854775807", "..", []byte(`null`))
	f.Add(uint16(229), "-1", "-1", "a/b?c#d@example.com", []byte(`[`))
	f.Fuzz(func(t *testing.T, code uint16, retry, reset, customer string, body []byte) {
		for segments, c := range map[int]Config{5: events, 3: messages} {
			called := 0
			api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
				called++
				crmtest.Call(t, r, segments)
				if segments == 5 && r.URL.Path != "/api/v1/customers/"+customer+"/events" {
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
			if code := crmtest.Codes(code); a.Verdict == crm.Retry != (code == 429 || code == 425) || a.Verdict == crm.Accepted != (code < 300) {
				t.Fatalf("%d: %+v", code, a)
			}
		}
	})
}
