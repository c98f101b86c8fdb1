package mautic

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector/crm"
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
