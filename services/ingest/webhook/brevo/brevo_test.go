package brevo

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

const (
	login    = "brevo:0123456789abcdef"
	newLogin = "brevo:fedcba9876543210"
	token    = "a-token-that-nobody-guesses"
	newToken = "another-token-nobody-guesses"
)

func basic(login string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
}

func open(t testing.TB, c Config) *Source {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// payloads are written after the documentation, one for each type and trap.
var payloads = []struct{ name, body string }{
	{"request", `{"event":"request","email":"Anna@Example.com","id":7,"date":"2026-12-02 11:01:52","ts":1796205712,"message-id":"<202612021001.1@smtp-relay.mailin.fr>","ts_event":1796205712,"ts_epoch":1796205712345,"subject":"Hello","X-Mailin-custom":"{\"customer_id\":\"C-20417\",\"campaign\":\"spring-26\"}","sending_ip":"203.0.113.5","template_id":22,"tags":["weekly"],"contact_id":8}`},
	{"delivered, without ts_epoch and brackets", `{"event":"delivered","email":"anna@example.com","id":7,"date":"2026-12-02 11:01:53","ts":1796209313,"message-id":"202612021001.1@smtp-relay.mailin.fr","ts_event":1796205713,"X-Mailin-custom":"customer_id:C-20417|campaign: spring-26|other:x","sending_ip":"203.0.113.5","tags":["weekly"]}`},
	{"unique_opened and opened are one open", `[{"event":"unique_opened","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796209312100,"user_agent":"Mozilla/5.0 Firefox/140.0","sending_ip":"192.0.2.7","link":"","tags":["weekly"]},{"event":"opened","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796209312900,"user_agent":"Mozilla/5.0 Firefox/140.0","sending_ip":"192.0.2.7","link":"","tags":["weekly"]}]`},
	{"another open", `{"event":"opened","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796212912900,"sending_ip":"203.0.113.5","ip":"192.0.2.8"}`},
	{"proxies, the second without an address", `[{"event":"unique_proxy_open","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796209312100,"sending_ip":"::","user_agent":"Mozilla/5.0","tag":"[\"this_tag\", \"that_tag\"]"},{"event":"proxy_open","email":"","message-id":"<1@mailin.fr>","ts_epoch":1796209312100}]`},
	{"a proxy, as the page on it has it", `{"event":"proxy_open","email":"anna@example.com","message-id":"1@mailin.fr","s_epoch":1796209312100,"tag":["transactionalTag"]}`},
	{"a click", `{"event":"click","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796209400250,"link":"https://example.com/?a=1&b=2","user_agent":"Mozilla/5.0 Firefox/140.0","tag":"weekly"}`},
	{"seconds in ts_epoch, as in Brevo's example", `{"event":"hard_bounce","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796205713,"ts_event":1796205714,"reason":"server is down"}`},
	{"bounces", `[{"event":"soft_bounce","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796205713000},{"event":"deferred","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796205713000},{"event":"blocked","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796205713000},{"event":"invalid_email","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796205713000},{"event":"error","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796205713000}]`},
	{"complaints", `[{"event":"spam","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_event":1796205713},{"event":"complaint","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_event":1796205713}]`},
	{"unsubscribed, by the name of each page", `[{"event":"unsubscribed","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796205713000,"user_agent":"Mozilla/5.0"},{"event":"unsubscribe","email":"anna@example.com","camp_id":960,"campaign name":"Spring","list_id":[3],"ts_event":1796205713}]`},
	{"a marketing campaign", `[{"event":"delivered","id":7,"camp_id":960,"email":"anna@example.com","campaign name":"Spring","date_sent":"2026-12-02 11:00:00","date_event":"2026-12-02 11:01:53","tag":"","ts_sent":1796205600,"ts_event":1796205713,"ts":1796209313},{"event":"opened","id":7,"camp_id":960,"email":"anna@example.com","campaign name":"Spring","ts_sent":1796205600,"ts_event":1796209312,"ts":1796212912},{"event":"click","id":7,"camp_id":960,"email":"anna@example.com","ts_event":1796209400,"URL":"https://example.com/"}]`},
	{"a custom header that is neither form", `{"event":"opened","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796209312100,"X-Mailin-custom":"some_custom_header"}`},
	{"a customer that is a number, in an object that is no text", `{"event":"opened","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":1796209312100,"X-Mailin-custom":{"customer_id":20417,"campaign":[1]}}`},
	{"a customer of the wrong form", `{"event":"opened","email":"anna@example.com","ts_epoch":1796209312100,"X-Mailin-custom":"{\"customer_id\":{}}"}`},
	{"contacts and lists", `[{"event":"list_addition","email":"anna@example.com","ts_event":1796205713},{"event":"contact_deleted"},{"event":"unique_teleportation"}]`},
	{"an SMS", `{"id":1,"to":"393331234567","msg_status":"delivered","messageId":1001,"ts_event":1796205713}`},
	{"received mail", `{"items":[{"Uuid":["x"]}]}`},
	{"one bad element among good ones", `[{"event":"opened","email":"anna@example.com","ts_epoch":1796209312100},{"event":"opened","email":"anna@example.com"},7,null,{"event":"click","email":"anna@example.com","ts_epoch":1796209313100}]`},
	{"no time but in the zone of the account", `{"event":"opened","email":"anna@example.com","ts":1796209312,"date":"2026-12-02 11:01:53"}`},
	{"a time that is none", `{"event":"opened","email":"anna@example.com","ts_epoch":17,"ts_event":1796205713}`},
	{"a message id that is too long", `{"event":"opened","email":"anna@example.com","ts_epoch":1796209312100,"message-id":"` + strings.Repeat("x", 300) + `"}`},
	{"members of any form that do not matter", `{"event":"opened","email":"anna@example.com","ts_epoch":"1796209312100","message-id":null,"X-Mailin-custom":null,"tags":null,"tag":{},"camp_id":[],"user_agent":7,"sending_ip":{},"new":[[[]]]}`},
	{"no object", `"x"`},
	{"no JSON", `event=opened`},
	{"nothing", ``},
}

func TestEventsAreMapped(t *testing.T) {
	s := open(t, Config{Logins: login})
	var b strings.Builder
	for _, tt := range payloads {
		elements, err := s.Read(&webhook.Request{Body: []byte(tt.body)})
		webhooktest.Check(t, elements)
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(elements, err))
	}
	webhooktest.Golden(t, "events.golden", b.String())
}

// TestOneOpenIsToldOnce: what Brevo reports under two names has one id; what a proxy has fetched, and another open, have others.
func TestOneOpenIsToldOnce(t *testing.T) {
	s := open(t, Config{Logins: login})
	id := func(event, epoch string) string {
		elements, err := s.Read(&webhook.Request{Body: []byte(`{"event":"` + event + `","email":"anna@example.com","message-id":"<1@mailin.fr>","ts_epoch":` + epoch + `}`)})
		if err != nil || len(elements) != 1 || elements[0].Event == nil {
			t.Fatalf("%s: %+v, %v", event, elements, err)
		}
		return elements[0].Event.ID
	}
	first := id("unique_opened", "1796209312100")
	for _, tt := range []struct {
		event, epoch string
		same         bool
	}{
		{"unique_opened", "1796209312100", true},
		{"opened", "1796209312100", true},
		{"opened", "1796209312999", true},
		{"opened", "1796209313000", false},
		{"unique_proxy_open", "1796209312100", false},
		{"click", "1796209312100", false},
	} {
		if same := id(tt.event, tt.epoch) == first; same != tt.same {
			t.Errorf("%s at %s: has the same id: %v, want %v", tt.event, tt.epoch, same, tt.same)
		}
	}
	if id("unique_proxy_open", "1796209312100") != id("proxy_open", "1796209312200") {
		t.Error("one open by a proxy has two ids")
	}
}

// TestPublicPayloads maps the payloads of django-anymail's tests, many of which were copied from Brevo's own.
func TestPublicPayloads(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("TEMPISMO_DATA is not set: the payloads of others are not at hand")
	}
	files, err := filepath.Glob(filepath.Join(data, "esp", "anymail", "brevo", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payloads: %v", err)
	}
	s := open(t, Config{Logins: login})
	var b strings.Builder
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		elements, err := s.Read(&webhook.Request{Body: body})
		webhooktest.Check(t, elements)
		fmt.Fprintf(&b, "# %s\n%s", filepath.Base(file), webhooktest.Show(elements, err))
	}
	webhooktest.Golden(t, "anymail.golden", b.String())
}

func TestVerify(t *testing.T) {
	all := Config{Logins: config.Secret(login + "," + newLogin), Tokens: config.Secret(token + "," + newToken)}
	for _, tt := range []struct {
		name          string
		c             Config
		authorization string
		ok            bool
	}{
		{"the login", Config{Logins: login}, basic(login), true},
		{"the old login while they are exchanged", all, basic(login), true},
		{"the new login while they are exchanged", all, basic(newLogin), true},
		{"the old token while they are exchanged", all, "Bearer " + token, true},
		{"the new token while they are exchanged", all, "bearer  " + newToken, true},
		{"the token", Config{Tokens: token}, "Bearer " + token, true},
		{"a bit of the password", Config{Logins: login}, basic("brevo:0123456789abcdeg"), false},
		{"the beginning of the password", Config{Logins: login}, basic(login[:len(login)-1]), false},
		{"a bit of the token", Config{Tokens: token}, "Bearer a-token-that-nobody-guesset", false},
		{"several tokens are not one", all, "Bearer " + token + "," + newToken, false},
		{"a login as a token", all, "Bearer " + login, false},
		{"a token as a login", all, basic(token), false},
		{"a token where there are logins only", Config{Logins: login}, "Bearer " + token, false},
		{"a login where there are tokens only", Config{Tokens: token}, basic(login), false},
		{"an empty token", Config{Tokens: token}, "Bearer ", false},
		{"an empty login", Config{Logins: login}, basic(":"), false},
		{"another scheme", Config{Tokens: token}, "Token " + token, false},
		{"nothing", all, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tt.c)
			header := http.Header{"Authorization": {tt.authorization}}
			for _, err := range []error{s.Early(header), s.Verify(context.Background(), &webhook.Request{Header: header})} {
				switch {
				case tt.ok && err != nil:
					t.Error(err)
				case !tt.ok && !errors.Is(err, webhook.ErrUnverified):
					t.Errorf("got %v, want ErrUnverified", err)
				}
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || !(Config{Logins: login}).Enabled() || !(Config{Tokens: token}).Enabled() {
		t.Error("the webhook is served if there is a login or a token")
	}
	for _, tt := range []struct {
		c     Config
		named []string
	}{
		{Config{}, []string{"LOGINS", "TOKENS"}},
		{Config{Logins: " , "}, []string{"LOGINS", "TOKENS"}},
		{Config{Logins: "0123456789abcdef0123"}, []string{"LOGINS: login 1"}},
		{Config{Logins: login + ",brevo:short"}, []string{"LOGINS: login 2"}},
		{Config{Tokens: "short"}, []string{"TOKENS"}},
		{Config{Logins: ":x", Tokens: "short"}, []string{"LOGINS", "TOKENS"}},
	} {
		_, err := New(tt.c)
		for _, name := range tt.named {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%#v: got %v, want an error that names %s", tt.c, err, name)
			}
		}
		if err != nil && strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, tt := range payloads {
		f.Add([]byte(tt.body))
	}
	for _, body := range webhooktest.Payloads(f, "brevo") {
		f.Add(body)
	}
	s := open(f, Config{Logins: login})
	f.Fuzz(func(t *testing.T, body []byte) {
		elements, _ := s.Read(&webhook.Request{Body: body})
		webhooktest.Check(t, elements)
	})
}

// FuzzVerify: taken are requests with one of the logins or of the tokens, and no others.
func FuzzVerify(f *testing.F) {
	for _, body := range webhooktest.Payloads(f, "brevo") {
		f.Add(uint16(1), false, "", body)
		f.Add(uint16(1), true, "", body)
	}
	for _, authorization := range []string{basic(newLogin), "bearer  " + newToken, "Bearer " + login, "Basic " + token, basic(token), "Bearer", ""} {
		f.Add(uint16(0), false, authorization, []byte(payloads[0].body))
	}
	f.Add(uint16(2*77+1), true, "", []byte(`{}`))
	s := open(f, Config{Logins: login + "," + newLogin, Tokens: token + "," + newToken})
	f.Fuzz(func(t *testing.T, by uint16, bearer bool, authorization string, body []byte) {
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			given := []byte(login)
			if bearer {
				given = []byte(token)
			}
			tamper.Bend(given)
			if authorization = basic(string(given)); bearer {
				authorization = "Bearer " + string(given)
			}
		}
		scheme, rest, _ := strings.Cut(authorization, " ")
		want := false
		switch strings.ToLower(scheme) {
		case "basic":
			given, err := base64.StdEncoding.DecodeString(rest)
			want = err == nil && (string(given) == login || string(given) == newLogin)
		case "bearer":
			given := strings.TrimSpace(rest)
			want = given == token || given == newToken
		}
		if got := webhooktest.Verified(t, s, &webhook.Request{Method: "POST", Header: http.Header{"Authorization": {authorization}}, Body: body}); got != want {
			t.Fatalf("verified: %v", got)
		}
	})
}
