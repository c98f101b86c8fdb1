package postmark

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
	login    = "postmark:0123456789abcdef"
	newLogin = "postmark:fedcba9876543210:with-a-colon"
	value    = "a-value-that-nobody-guesses"
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
	{"a delivery", `{"RecordType":"Delivery","ServerID":23,"MessageStream":"outbound","MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","Recipient":"Anna@Example.com","Tag":"welcome","DeliveredAt":"2026-12-02T11:01:52.2735393+01:00","Details":"250 OK","Metadata":{}}`},
	{"an open, with a customer and a campaign", `{"RecordType":"Open","FirstOpen":true,"Platform":"Desktop","UserAgent":"Mozilla/5.0 Firefox/140.0","Geo":{"City":"Novara","IP":"192.0.2.7"},"MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","MessageStream":"broadcast","ReceivedAt":"2026-12-02T10:21:41.2493688Z","Recipient":"anna@example.com","Tag":"welcome","Metadata":{"customer_id":"C-20417","campaign":"spring-26"}}`},
	{"an open without an address", `{"RecordType":"Open","FirstOpen":false,"UserAgent":"Mozilla/5.0","Geo":{},"MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","ReceivedAt":"2026-12-02T10:21:41Z","Recipient":"anna@example.com","Metadata":{"customer_id":20417}}`},
	{"a click", `{"RecordType":"Click","ClickLocation":"HTML","UserAgent":"Mozilla/5.0 Firefox/140.0","OriginalLink":"https://example.com/?a=1&b=2","Geo":{"IP":"2001:db8::7"},"MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","ReceivedAt":"2026-12-02T10:21:41.9065619Z","Recipient":"anna@example.com"}`},
	{"a hard bounce", `{"RecordType":"Bounce","ID":901542550,"Type":"HardBounce","TypeCode":1,"MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","Email":"anna@example.com","From":"shop@example.org","BouncedAt":"2026-12-02T05:01:52.3963933-05:00","Inactive":true}`},
	{"a bounce for now", `{"RecordType":"Bounce","ID":901542551,"Type":"Transient","TypeCode":2,"MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52Z"}`},
	{"a bounce of a type that is new", `{"RecordType":"Bounce","ID":901542552,"Type":"QuantumBounce","Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52Z"}`},
	{"a bounce without an id", `{"RecordType":"Bounce","ID":0,"Type":"SoftBounce","MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52Z"}`},
	{"a bounce that says that somebody is away", `{"RecordType":"Bounce","ID":901542553,"Type":"AutoResponder","Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52Z"}`},
	{"a bounce that asks for no more", `{"RecordType":"Bounce","ID":901542554,"Type":"Unsubscribe","TypeCode":16,"Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52Z"}`},
	{"a bounce that is a complaint", `{"RecordType":"Bounce","ID":901542555,"Type":"SpamComplaint","Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52Z"}`},
	{"a complaint", `{"RecordType":"SpamComplaint","ID":901542556,"Type":"SpamComplaint","TypeCode":100001,"MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52.3963933Z","Metadata":{"customer_id":"C-20417"}}`},
	{"a recipient unsubscribes", `{"RecordType":"SubscriptionChange","MessageID":"883953f4-6105-42a2-a16a-77a8eac79483","ServerID":23,"MessageStream":"broadcast","ChangedAt":"2026-12-02T10:53:34.416071Z","Recipient":"anna@example.com","Origin":"Recipient","SuppressSending":true,"SuppressionReason":"ManualSuppression","Tag":"my-tag","Metadata":{"customer_id":"C-20417"}}`},
	{"a recipient unsubscribes for a reason that is new", `{"RecordType":"SubscriptionChange","MessageID":null,"ChangedAt":"2026-12-02T10:53:34Z","Recipient":"anna@example.com","Origin":"Recipient","SuppressSending":true,"SuppressionReason":null}`},
	{"the sender suppresses", `{"RecordType":"SubscriptionChange","MessageID":null,"ChangedAt":"2026-12-02T10:53:34Z","Recipient":"anna@example.com","Origin":"Customer","SuppressSending":true,"SuppressionReason":"ManualSuppression"}`},
	{"a suppression for a complaint", `{"RecordType":"SubscriptionChange","ChangedAt":"2026-12-02T10:53:34Z","Recipient":"anna@example.com","Origin":"Recipient","SuppressSending":true,"SuppressionReason":"SpamComplaint"}`},
	{"a suppression for a bounce", `{"RecordType":"SubscriptionChange","ChangedAt":"2026-12-02T10:53:34Z","Recipient":"anna@example.com","Origin":"Recipient","SuppressSending":true,"SuppressionReason":"HardBounce"}`},
	{"an address that may be written to again", `{"RecordType":"SubscriptionChange","MessageID":null,"ChangedAt":"2026-12-02T10:53:34Z","Recipient":"anna@example.com","Origin":"Recipient","SuppressSending":false,"SuppressionReason":null,"Tag":null,"Metadata":{}}`},
	{"a record that is new", `{"RecordType":"Teleportation"}`},
	{"no record type, as received mail", `{"FromFull":{"Email":"anna@example.com"},"MessageID":"x"}`},
	{"no time", `{"RecordType":"Open","Recipient":"anna@example.com"}`},
	{"a time without a zone", `{"RecordType":"Bounce","ID":1,"Type":"HardBounce","Email":"anna@example.com","BouncedAt":"2026-12-02T10:01:52"}`},
	{"nobody", `{"RecordType":"Open","ReceivedAt":"2026-12-02T10:21:41Z","Recipient":""}`},
	{"nobody has bounced", `{"RecordType":"Bounce","ID":1,"Type":"HardBounce","BouncedAt":"2026-12-02T10:01:52Z"}`},
	{"a customer of the wrong form", `{"RecordType":"Open","ReceivedAt":"2026-12-02T10:21:41Z","Recipient":"anna@example.com","Metadata":{"customer_id":["C-1"]}}`},
	{"a message id that is too long", `{"RecordType":"Open","ReceivedAt":"2026-12-02T10:21:41Z","Recipient":"anna@example.com","MessageID":"` + strings.Repeat("x", 300) + `"}`},
	{"members of any form that do not matter", `{"RecordType":"Open","ReceivedAt":"2026-12-02T10:21:41Z","Recipient":"anna@example.com","Geo":null,"Metadata":[],"Tag":{},"UserAgent":7,"Client":"x","New":[[[]]]}`},
	{"one bad element among good ones", `[{"RecordType":"Open","ReceivedAt":"2026-12-02T10:21:41Z","Recipient":"anna@example.com"},7,{"RecordType":"Open","ReceivedAt":"2026-12-02T10:21:42Z","Recipient":"anna@example.com"}]`},
	{"no object", `"x"`},
	{"no JSON", `RecordType=Open`},
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

// TestPublicPayloads maps the payloads of django-anymail's tests, many of which were copied from Postmark's documentation.
func TestPublicPayloads(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("TEMPISMO_DATA is not set: the payloads of others are not at hand")
	}
	files, err := filepath.Glob(filepath.Join(data, "esp", "anymail", "postmark", "*.json"))
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
	both := Config{Logins: config.Secret(login + "," + newLogin)}
	withHeader := Config{Logins: login, Header: "x-webhook-token", Values: value + ",another-value-that-nobody-guesses"}
	for _, tt := range []struct {
		name   string
		c      Config
		header http.Header
		ok     bool
	}{
		{"the login", Config{Logins: login}, http.Header{"Authorization": {basic(login)}}, true},
		{"the old login while they are exchanged", both, http.Header{"Authorization": {basic(login)}}, true},
		{"the new login while they are exchanged", both, http.Header{"Authorization": {basic(newLogin)}}, true},
		{"another user", Config{Logins: login}, http.Header{"Authorization": {basic("Postmark:0123456789abcdef")}}, false},
		{"a bit of the password", Config{Logins: login}, http.Header{"Authorization": {basic("postmark:0123456789abcdeg")}}, false},
		{"the beginning of the password", Config{Logins: login}, http.Header{"Authorization": {basic(login[:len(login)-1])}}, false},
		{"more than the password", Config{Logins: login}, http.Header{"Authorization": {basic(login + "0")}}, false},
		{"several logins are not one", both, http.Header{"Authorization": {basic(login + "," + newLogin)}}, false},
		{"an empty login", Config{Logins: login}, http.Header{"Authorization": {basic(":")}}, false},
		{"a login that is a token", Config{Logins: login}, http.Header{"Authorization": {"Bearer " + login}}, false},
		{"no base64", Config{Logins: login}, http.Header{"Authorization": {"Basic " + login}}, false},
		{"no login", Config{Logins: login}, http.Header{}, false},
		{"login and header", withHeader, http.Header{"Authorization": {basic(login)}, "X-Webhook-Token": {value}}, true},
		{"login and the other value of the header", withHeader, http.Header{"Authorization": {basic(login)}, "X-Webhook-Token": {"another-value-that-nobody-guesses"}}, true},
		{"login without header", withHeader, http.Header{"Authorization": {basic(login)}}, false},
		{"login with another value", withHeader, http.Header{"Authorization": {basic(login)}, "X-Webhook-Token": {"a-value-that-nobody-guesset"}}, false},
		{"header without login", withHeader, http.Header{"X-Webhook-Token": {value}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tt.c)
			for _, err := range []error{s.Early(tt.header), s.Verify(context.Background(), &webhook.Request{Header: tt.header})} {
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
	if (Config{}).Enabled() || !(Config{Logins: login}).Enabled() || !(Config{Header: "X-Token"}).Enabled() {
		t.Error("the webhook is served, or what is missing is said, if there is any setting")
	}
	for _, tt := range []struct {
		c     Config
		named []string
	}{
		{Config{}, []string{"LOGINS"}},
		{Config{Logins: "0123456789abcdef0123"}, []string{"LOGINS: login 1"}},
		{Config{Logins: ":0123456789abcdef"}, []string{"LOGINS: login 1"}},
		{Config{Logins: login + ",postmark:short"}, []string{"LOGINS: login 2"}},
		{Config{Logins: login, Values: value}, []string{"HEADER:"}},
		{Config{Logins: login, Header: "X-Token"}, []string{"HEADER_VALUES"}},
		{Config{Logins: login, Header: "authorization", Values: value}, []string{"HEADER:"}},
		{Config{Header: "X-Token", Values: "short"}, []string{"LOGINS", "HEADER_VALUES"}},
	} {
		_, err := New(tt.c)
		for _, name := range tt.named {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%#v: got %v, want an error that names %s", tt.c, err, name)
			}
		}
		if err != nil && (strings.Contains(err.Error(), "0123456789abcdef") || strings.Contains(err.Error(), value)) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, tt := range payloads {
		f.Add([]byte(tt.body))
	}
	for _, body := range webhooktest.Payloads(f, "postmark") {
		f.Add(body)
	}
	s := open(f, Config{Logins: login})
	f.Fuzz(func(t *testing.T, body []byte) {
		elements, _ := s.Read(&webhook.Request{Body: body})
		webhooktest.Check(t, elements)
	})
}

// FuzzVerify: taken are requests with one of the logins and, where a header is wanted, one of its values, and no others.
func FuzzVerify(f *testing.F) {
	for _, body := range webhooktest.Payloads(f, "postmark") {
		f.Add(uint16(1), "", value, body)
	}
	for _, authorization := range []string{basic(newLogin), "basic " + basic(login)[6:], basic(login) + "=", basic("postmark"), "Bearer " + login, "", "Basic"} {
		f.Add(uint16(0), authorization, value+" ", []byte(payloads[0].body))
	}
	f.Add(uint16(2*77+1), "", "", []byte(`{}`))
	without := open(f, Config{Logins: login + "," + newLogin})
	with := open(f, Config{Logins: login + "," + newLogin, Header: "x-ours", Values: value})
	f.Fuzz(func(t *testing.T, by uint16, authorization, extra string, body []byte) {
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			given := []byte(login)
			tamper.Bend(given)
			authorization = basic(string(given))
		}
		scheme, encoded := authorization[:min(6, len(authorization))], authorization[min(6, len(authorization)):]
		given, err := base64.StdEncoding.DecodeString(encoded)
		want := strings.ToLower(scheme) == "basic " && err == nil && (string(given) == login || string(given) == newLogin)
		r := &webhook.Request{Method: "POST", Header: http.Header{"Authorization": {authorization}, "X-Ours": {extra}}, Body: body}
		if got := webhooktest.Verified(t, without, r); got != want {
			t.Fatalf("verified: %v", got)
		}
		if got := webhooktest.Verified(t, with, r); got != (want && strings.TrimSpace(extra) == value) {
			t.Fatalf("verified with the header %q: %v", extra, got)
		}
	})
}
