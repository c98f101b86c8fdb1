package crm

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tempismo/tempismo/pkg/outbound"
)

func TestSort(t *testing.T) {
	rows := []struct {
		code  int
		after string
		want  Answer
	}{
		{200, "", Answer{Verdict: Accepted}},
		{202, "", Answer{Verdict: Accepted}},
		{307, "", Answer{Verdict: Denied, Detail: "HTTP 307"}},
		{400, "", Answer{Verdict: Refused, Detail: "HTTP 400"}},
		{401, "", Answer{Verdict: Denied, Detail: "HTTP 401"}},
		{404, "", Answer{Verdict: Denied, Detail: "HTTP 404"}},
		{408, "", Answer{Verdict: Unknown, Detail: "HTTP 408"}},
		{410, "", Answer{Verdict: Refused, Detail: "HTTP 410"}},
		{429, "9", Answer{Verdict: Retry, Detail: "HTTP 429", After: 9 * time.Second}},
		{429, "999999", Answer{Verdict: Retry, Detail: "HTTP 429", After: time.Hour}},
		{500, "", Answer{Verdict: Unknown, Detail: "HTTP 500"}},
		{503, "9", Answer{Verdict: Unknown, Detail: "HTTP 503", After: 9 * time.Second}},
		{504, "", Answer{Verdict: Unknown, Detail: "HTTP 504"}},
	}
	for _, r := range rows {
		if got := Sort(r.code, http.Header{"Retry-After": {r.after}}, time.Now()); got != r.want {
			t.Errorf("%d: got %+v, want %+v", r.code, got, r.want)
		}
	}
}

func TestClip(t *testing.T) {
	if got := Clip("short"); got != "short" {
		t.Error(got)
	}
	if got := Clip(strings.Repeat("è", 300)); len(got) > 210 || !utf8.ValidString(got) || !strings.HasSuffix(got, "...") {
		t.Error(got)
	}
}

// TestWithoutAnAnswer: what was certainly not taken is told from what may have been.
func TestWithoutAnAnswer(t *testing.T) {
	calls := Calls{Timeout: time.Second, Concurrency: 1, AllowPrivate: true}
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	plain, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	secure.StartTLS()
	nobody := httptest.NewServer(handler)
	nobody.Close()
	defer plain.Close()
	defer secure.Close()
	rows := []struct {
		name   string
		client *http.Client
		url    string
		want   Answer
	}{
		{"the connection breaks", calls.Client("X_", false), plain.URL, Answer{Verdict: Unknown, Detail: "connection lost"}},
		{"nobody listens", calls.Client("X_", false), nobody.URL, Answer{Verdict: Retry, Detail: "no connection"}},
		{"a certificate of nobody", calls.Client("X_", false), secure.URL, Answer{Verdict: Denied, Detail: "its certificate is not valid"}},
		{"an address of this machine", Calls{Timeout: time.Second, Concurrency: 1}.Client("X_", false), plain.URL, Answer{Verdict: Forbidden, Detail: outbound.ErrForbidden.Error()}},
		{"the same in a simulated run", Calls{Timeout: time.Second, Concurrency: 1}.Client("X_", true), plain.URL, Answer{Verdict: Unknown, Detail: "connection lost"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			defer r.client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			got := Do(r.client, req, func(int, http.Header, []byte) Answer { t.Error("there is an answer"); return Answer{} })
			if got != r.want {
				t.Errorf("got %+v, want %+v", got, r.want)
			}
		})
	}
}

// What a CRM answers is read up to a bound, and the rest is left.
func TestALongAnswerIsCut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	var size int
	Do(server.Client(), req, func(_ int, _ http.Header, body []byte) Answer { size = len(body); return Answer{} })
	if size != MaxBody {
		t.Errorf("%d bytes", size)
	}
}
