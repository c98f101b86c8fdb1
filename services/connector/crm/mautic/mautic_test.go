package mautic

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/crmtest"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

var at = time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)

func send(customer string) *crm.Send {
	return &crm.Send{
		ID: "d-1", Type: "io.tempismo.decision.send_now.v1", Customer: customer, Time: at,
		Data: []byte(`{"reason":"slot","channel":"email","message":"winter","expires_at":"2026-12-03T10:11:52Z","rules":[{"rule":"consent"}]}`),
	}
}

func TestTheCall(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.Method != http.MethodPost || r.URL.Path != "/sub/api/emails/7/contact/512/send" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		want := map[string]string{
			"decision": "d-1", "reason": "slot", "request": "", "channel": "email", "message": "winter", "audience": "", "arm": "", "expires_at": "2026-12-03T10:11:52Z",
		}
		for name, value := range want {
			if got := r.PostForm["tokens[{tempismo_"+name+"}]"]; len(got) != 1 || got[0] != value {
				t.Errorf("%s is %q", name, got)
			}
		}
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" || len(r.PostForm) != len(want) {
			t.Errorf("%q:%q says %v", user, password, r.PostForm)
		}
		_, _ = w.Write([]byte(`{"success":1}`))
	}))
	defer server.Close()
	m := New(Config{User: "u", Password: "p", EmailID: 7}, server.Client(), server.URL+"/sub/")
	if a := m.Send(t.Context(), send("512"), at); a != (crm.Answer{Verdict: crm.Accepted}) {
		t.Errorf("got %+v", a)
	}
}

func TestSort(t *testing.T) {
	const off, failed = "not sent: the contact is not to be contacted, or a frequency rule of Mautic has put the message off", "sending failed; Mautic's log says why"
	rows := []struct {
		code int
		body string
		want crm.Answer
	}{
		{200, `{"success":1}`, crm.Answer{Verdict: crm.Accepted}},
		{200, `{"success":true}`, crm.Answer{Verdict: crm.Accepted}},
		{200, `{"success":false,"failed":[]}`, crm.Answer{Verdict: crm.Refused, Detail: off}},
		{200, `{"success":false}`, crm.Answer{Verdict: crm.Refused, Detail: off}},
		{200, `{"success":false,"failed":"a@example.com: connection refused"}`, crm.Answer{Verdict: crm.Refused, Detail: failed}},
		{200, `{"success":false,"failed":["a@example.com: connection refused"]}`, crm.Answer{Verdict: crm.Refused, Detail: failed}},
		{200, `{"success":false,"failed":{"512":"connection refused"}}`, crm.Answer{Verdict: crm.Refused, Detail: failed}},
		{200, `<html>`, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 200 without success"}},
		{200, `{"succ`, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 200 without success"}},
		{404, `{"errors":[{"code":404,"message":"Item was not found.","details":[]}]}`, crm.Answer{Verdict: crm.Refused, Detail: "HTTP 404: Mautic does not know the e-mail or the contact"}},
		{404, `<html>`, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 404"}},
		{403, `{"errors":[{"code":403,"message":"API is disabled"}]}`, crm.Answer{Verdict: crm.Denied, Detail: "HTTP 403"}},
		{429, ``, crm.Answer{Verdict: crm.Retry, Detail: "HTTP 429", After: 10 * time.Second}},
		{500, `{"errors":[{"code":500}]}`, crm.Answer{Verdict: crm.Unknown, Detail: "HTTP 500"}},
	}
	for _, r := range rows {
		if got := sort(r.code, http.Header{}, []byte(r.body), at); got != r.want {
			t.Errorf("%d %s: got %+v", r.code, r.body, got)
		}
	}
}

func TestAnswers(t *testing.T) {
	rows := []struct {
		name, password, customer string
		fault                    sandbox.Fault
		verdict                  crm.Verdict
		sent                     int
	}{
		{"it is sent", "p", "512", sandbox.None, crm.Accepted, 1},
		{"not to be contacted", "p", "404", sandbox.None, crm.Refused, 0},
		{"an address is no number", "p", "a@example.com", sandbox.None, crm.Refused, 0},
		{"nobody", "p", "", sandbox.None, crm.Refused, 0},
		{"a foreign password", "other", "512", sandbox.None, crm.Denied, 0},
		{"too much at once", "p", "512", sandbox.TooMany, crm.Retry, 0},
		{"an error after", "p", "512", sandbox.ErrorAfter, crm.Unknown, 1},
		{"a lost answer", "p", "512", sandbox.LostAfter, crm.Unknown, 1},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			fake := sandbox.Mautic("u", "p")
			fake.Fault = func(*http.Request) sandbox.Fault { return r.fault }
			server := httptest.NewServer(fake)
			defer server.Close()
			a := New(Config{User: "u", Password: config.Secret(r.password), EmailID: 7}, server.Client(), server.URL).Send(t.Context(), send(r.customer), at)
			if got := fake.Sent(); a.Verdict != r.verdict || len(got) != r.sent || r.sent > 0 && (got[0].Decision != "d-1" || got[0].Customer != r.customer) {
				t.Errorf("got %+v, sent %+v", a, got)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	good := Config{URL: "https://mautic.example.com", User: "u", Password: "p", EmailID: 7, Calls: crm.Calls{Timeout: time.Second, Concurrency: 1}}
	if err := good.Validate(false); err != nil {
		t.Error(err)
	}
	err := Config{URL: "http://mautic.example.com"}.Validate(false)
	for _, name := range []string{"MAUTIC_URL", "MAUTIC_USER", "MAUTIC_PASSWORD", "MAUTIC_EMAIL_ID", "MAUTIC_TIMEOUT"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}

func TestLook(t *testing.T) {
	fake := sandbox.Mautic("u", "p")
	var fault atomic.Int64
	fake.Fault = func(*http.Request) sandbox.Fault { return sandbox.Fault(fault.Load()) }
	server := httptest.NewServer(fake)
	defer server.Close()
	m := New(Config{User: "u", Password: "p", EmailID: 7}, server.Client(), server.URL)
	if a := m.Look(t.Context(), send("512"), at); a.Verdict != crm.Unknown {
		t.Errorf("before the call: %+v", a)
	}
	fault.Store(int64(sandbox.LostAfter))
	if a := m.Send(t.Context(), send("512"), at); a.Verdict != crm.Unknown {
		t.Fatalf("got %+v", a)
	}
	fault.Store(int64(sandbox.None))
	if a := m.Look(t.Context(), send("512"), at); a != (crm.Answer{Verdict: crm.Accepted}) {
		t.Errorf("after it: %+v", a)
	}
	if a := m.Look(t.Context(), send("513"), at); a.Verdict != crm.Unknown {
		t.Errorf("of another contact: %+v", a)
	}
	if a := New(Config{User: "u", Password: "p", EmailID: 8}, server.Client(), server.URL).Look(t.Context(), send("512"), at); a.Verdict != crm.Unknown {
		t.Errorf("of another e-mail: %+v", a)
	}
	if a := New(Config{User: "u", Password: "other", EmailID: 7}, server.Client(), server.URL).Look(t.Context(), send("512"), at); a.Verdict != crm.Denied {
		t.Errorf("a foreign password: %+v", a)
	}
}

func TestHad(t *testing.T) {
	rows := []struct {
		name, body string
		want       bool
	}{
		{"tokens as PHP writes them", `{"total":"1","stats":[{"is_failed":"0","tokens":"a:1:{s:19:\"{tempismo_decision}\";s:3:\"d-1\";}"}]}`, true},
		{"as JSON in a text", `{"stats":[{"is_failed":0,"tokens":"{\"{tempismo_decision}\":\"d-1\"}"}]}`, true},
		{"as an object", `{"stats":[{"is_failed":false,"tokens":{"{tempismo_decision}":"d-1"}}]}`, true},
		{"of the second row", `{"stats":[{"tokens":null},{"tokens":{"{tempismo_decision}":"d-1"}}]}`, true},
		{"of a longer id", `{"stats":[{"tokens":{"{tempismo_decision}":"d-12"}}]}`, false},
		{"of an e-mail that failed", `{"stats":[{"is_failed":"1","tokens":{"{tempismo_decision}":"d-1"}}]}`, false},
		{"that failed, as a number", `{"stats":[{"is_failed":1,"tokens":{"{tempismo_decision}":"d-1"}}]}`, false},
		{"that failed, as a truth value", `{"stats":[{"is_failed":true,"tokens":{"{tempismo_decision}":"d-1"}}]}`, false},
		{"without tokens", `{"stats":[{"is_failed":"0"}]}`, false},
		{"none", `{"total":0,"stats":[]}`, false},
		{"a page", `<html>d-1`, false},
	}
	for _, r := range rows {
		if got := had([]byte(r.body), "d-1"); got != r.want {
			t.Errorf("%s: %v", r.name, got)
		}
	}
}

// FuzzAnswer: whatever Mautic answers is sorted, and none of it is repeated, because it may hold the contact's address.
func FuzzAnswer(f *testing.F) {
	for _, code := range []uint16{200, 201, 202, 302, 400, 401, 403, 404, 405, 408, 423, 429, 477, 500, 503} {
		for _, body := range []string{`{"success":1}`, `{"success":false,"failed":["a@example.com"]}`, `{"errors":[{"message":"a@example.com"}]}`, `<html>`} {
			f.Add(code-200, "7", "", "512", []byte(body))
		}
	}
	f.Add(uint16(229), "Thu, 03 Dec 9999 08:05:00 GMT", "9223372036854775807", "..", []byte(`null`))
	f.Add(uint16(229), "-1", "-1", "a/b?c#d@example.com", []byte(`[`))
	own := regexp.MustCompile(`^(HTTP \d{3}( without success|: Mautic does not know the e-mail or the contact)?|sending failed; Mautic's log says why|not sent: the contact is not to be contacted, or a frequency rule of Mautic has put the message off)?$`)
	f.Fuzz(func(t *testing.T, code uint16, retry, reset, customer string, body []byte) {
		called := 0
		api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
			called++
			crmtest.Call(t, r, 6)
			return crmtest.Codes(code), http.Header{"Retry-After": {retry}, "X-Ratelimit-Reset": {reset}}, body
		})
		a := New(Config{User: "u", Password: "p", EmailID: 7}, api.Client(), "https://crm.example.com").Send(t.Context(), send(customer), at)
		if called == 0 {
			if a.Verdict != crm.Refused {
				t.Fatalf("nobody was called for %q: %+v", customer, a)
			}
			return
		}
		crmtest.Check(t, crmtest.Codes(code), a)
		if code := crmtest.Codes(code); a.Verdict == crm.Retry != (code == 429 || code == 425) || a.Verdict == crm.Accepted && (code >= 300 || !json.Valid(body)) {
			t.Fatalf("%d: %+v", code, a)
		}
		if !own.MatchString(a.Detail) || a.ID != "" {
			t.Fatalf("it says %+v", a)
		}
	})
}
