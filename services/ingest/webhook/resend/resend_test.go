package resend

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

var (
	secret  = secretOf("a key of twenty-four bytes")
	other   = secretOf("another key of 24 or more bytes")
	foreign = secretOf("the key of somebody else")

	clock = time.Date(2026, 12, 2, 10, 1, 52, 0, time.UTC)
)

func secretOf(key string) string { return "whsec_" + base64.StdEncoding.EncodeToString([]byte(key)) }

// sign is the signature of Standard Webhooks.
func sign(secret, id, timestamp, body string) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "." + body))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func headers(id, timestamp, signature string) http.Header {
	return http.Header{"Svix-Id": {id}, "Svix-Timestamp": {timestamp}, "Svix-Signature": {signature}}
}

func open(t testing.TB, secrets string) *Source {
	t.Helper()
	s, err := New(Config{Secrets: config.Secret(secrets)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// payloads are written after the documentation, one for each type and trap.
var payloads = []struct{ name, body string }{
	{"sent to several", `{"type":"email.sent","created_at":"2026-12-02T10:01:52.126Z","data":{"broadcast_id":"8b146471-e88e-4322-86af-016cd36fd216","created_at":"2026-12-02T10:01:51.894719+00:00","email_id":"56761188-7520-42d8-8898-ff6fc54ce618","from":"Shop <shop@example.org>","to":["Anna <Anna@Example.com>","bruno@example.com"],"subject":"Hello","tags":{"category":"news"}}}`},
	{"sent to several of one customer", `{"type":"email.sent","created_at":"2026-12-02T10:01:52.126Z","data":{"email_id":"56761188","to":["anna@example.com","office@example.com"],"tags":{"customer_id":"C-20417","campaign":"spring-26"}}}`},
	{"delivered", `{"type":"email.delivered","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"56761188","to":["anna@example.com"],"tags":[{"name":"customer_id","value":"C-20417"},{"name":"campaign","value":"spring-26"}]}}`},
	{"opened", `{"type":"email.opened","created_at":"2026-12-02T11:01:52.126Z","data":{"created_at":"2026-12-02T10:01:51Z","email_id":"56761188","to":["anna@example.com"]}}`},
	{"opened by one of several", `{"type":"email.opened","created_at":"2026-12-02T11:01:52.126Z","data":{"email_id":"56761188","to":["anna@example.com","bruno@example.com"]}}`},
	{"opened by one of several of one customer", `{"type":"email.opened","created_at":"2026-12-02T11:01:52.126Z","data":{"email_id":"56761188","to":["anna@example.com","office@example.com"],"tags":{"customer_id":20417}}}`},
	{"clicked", `{"type":"email.clicked","created_at":"2026-12-02T11:03:21.126Z","data":{"email_id":"56761188","to":["anna@example.com"],"click":{"ipAddress":"192.0.2.7","link":"https://example.com/?a=1&b=2","timestamp":"2026-12-02T11:03:20.25Z","userAgent":"Mozilla/5.0 Firefox/140.0"}}}`},
	{"clicked, without more", `{"type":"email.clicked","created_at":"2026-12-02T11:03:21.126Z","data":{"email_id":"56761188","to":["anna@example.com"],"click":{"timestamp":"soon"}}}`},
	{"bounced", `{"type":"email.bounced","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"56761188","to":["anna@example.com"],"bounce":{"message":"no such user","type":"Permanent","subType":"General"}}}`},
	{"delivery_delayed", `{"type":"email.delivery_delayed","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"56761188","to":["anna@example.com"]}}`},
	{"failed", `{"type":"email.failed","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"56761188","to":["anna@example.com"],"failed":{"reason":"reached_daily_quota"}}}`},
	{"suppressed", `{"type":"email.suppressed","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"56761188","to":["anna@example.com"]}}`},
	{"complained, by one of several", `{"type":"email.complained","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"56761188","to":["anna@example.com","bruno@example.com"]}}`},
	{"a contact unsubscribes", `{"type":"contact.updated","created_at":"2026-12-02T10:01:53.126Z","data":{"id":"e169aa45","audience_id":"78261eea","created_at":"2026-07-10T15:11:94.110Z","updated_at":"2026-12-02T10:01:53Z","email":"Anna@Example.com","first_name":"Anna","unsubscribed":true}}`},
	{"a contact is updated", `{"type":"contact.updated","created_at":"2026-12-02T10:01:53.126Z","data":{"email":"anna@example.com","unsubscribed":false}}`},
	{"a contact without an address", `{"type":"contact.updated","created_at":"2026-12-02T10:01:53.126Z","data":{"unsubscribed":true}}`},
	{"received mail", `{"type":"email.received","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"x","to":["inbox@example.com"]}}`},
	{"something new", `{"type":"email.teleported"}`},
	{"no type", `{"created_at":"2026-12-02T10:01:53.126Z","data":{}}`},
	{"no time", `{"type":"email.opened","data":{"email_id":"56761188","to":["anna@example.com"]}}`},
	{"no data", `{"type":"email.opened","created_at":"2026-12-02T10:01:53.126Z"}`},
	{"nobody", `{"type":"email.opened","created_at":"2026-12-02T10:01:53.126Z","data":{"email_id":"56761188","to":[]}}`},
	{"a customer of the wrong form", `{"type":"email.opened","created_at":"2026-12-02T10:01:53.126Z","data":{"to":["anna@example.com"],"tags":{"customer_id":["x"]}}}`},
	{"one bad recipient among good ones", `{"type":"email.sent","created_at":"2026-12-02T10:01:53.126Z","data":{"to":["anna@example.com",7,"` + strings.Repeat("x", 300) + `@example.com","bruno@example.com"]}}`},
	{"a single recipient that is no list", `{"type":"email.opened","created_at":"2026-12-02T10:01:53.126Z","data":{"to":"anna@example.com"}}`},
	{"members of any form that do not matter", `{"type":"email.clicked","created_at":"2026-12-02T10:01:53.126Z","new":[[[]]],"data":{"to":["anna@example.com"],"tags":"x","click":[],"email_id":{},"broadcast_id":null,"subject":7}}`},
	{"data that is no object", `{"type":"email.opened","created_at":"2026-12-02T10:01:53.126Z","data":"x"}`},
	{"no object", `[{"type":"email.opened"}]`},
	{"no JSON", `type=email.opened`},
	{"nothing", ``},
}

func TestEventsAreMapped(t *testing.T) {
	s := open(t, secret)
	var b strings.Builder
	for _, tt := range payloads {
		elements, err := s.Read(&webhook.Request{Header: headers("msg_1", "1", "v1,"), Body: []byte(tt.body)})
		webhooktest.Check(t, elements)
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(elements, err))
	}
	webhooktest.Golden(t, "events.golden", b.String())
}

// TestPublicPayloads maps the payloads of django-anymail's tests, many of which were copied from Resend's own.
func TestPublicPayloads(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("TEMPISMO_DATA is not set: the payloads of others are not at hand")
	}
	files, err := filepath.Glob(filepath.Join(data, "esp", "anymail", "resend", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payloads: %v", err)
	}
	s := open(t, secret)
	var b strings.Builder
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		elements, err := s.Read(&webhook.Request{Header: headers("msg_1", "1", "v1,"), Body: body})
		webhooktest.Check(t, elements)
		fmt.Fprintf(&b, "# %s\n%s", filepath.Base(file), webhooktest.Show(elements, err))
	}
	webhooktest.Golden(t, "anymail.golden", b.String())
}

// TestSignatureVector compares with the vector of the Standard Webhooks libraries.
func TestSignatureVector(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("TEMPISMO_DATA is not set: the signature vector is not at hand")
	}
	b, err := os.ReadFile(filepath.Join(data, "esp", "vectors", "standard-webhooks", "vector.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]string
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseInt(v["webhook-timestamp"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, v["secret"])
	for signature, ok := range map[string]bool{v["webhook-signature"]: true, v["invalid_signature_example"]: false} {
		r := &webhook.Request{Header: headers(v["webhook-id"], v["webhook-timestamp"], signature), Body: []byte(v["body"]), Now: time.Unix(seconds, 0)}
		if err := s.Verify(context.Background(), r); (err == nil) != ok {
			t.Errorf("%s: %v", signature, err)
		}
	}
}

func TestVerify(t *testing.T) {
	const id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", `{"type":"email.opened"}`
	stamp := strconv.FormatInt(clock.Unix(), 10)
	good := sign(secret, id, stamp, body)
	at := func(d time.Duration) http.Header {
		stamp := strconv.FormatInt(clock.Add(d).Unix(), 10)
		return headers(id, stamp, sign(secret, id, stamp, body))
	}
	many := strings.Repeat("v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))+" ", maxSignatures)
	for _, tt := range []struct {
		name    string
		secrets string
		header  http.Header
		body    string
		ok      bool
	}{
		{"a signature", secret, headers(id, stamp, good), body, true},
		{"the old secret while they are exchanged", other + ", " + secret, headers(id, stamp, good), body, true},
		{"the new secret while they are exchanged", other + ", " + secret, headers(id, stamp, sign(other, id, stamp, body)), body, true},
		{"several signatures", secret, headers(id, stamp, sign(foreign, id, stamp, body)+" "+good), body, true},
		{"signatures of other versions beside it", secret, headers(id, stamp, strings.Repeat("v1a,AAAA ", 100)+good), body, true},
		{"a signature behind more than anybody sends", secret, headers(id, stamp, many+good), body, false},
		{"a foreign secret", secret, headers(id, stamp, sign(foreign, id, stamp, body)), body, false},
		{"a bit of the body", secret, headers(id, stamp, good), `{"type":"email.openee"}`, false},
		{"white space in the body", secret, headers(id, stamp, good), body + "\n", false},
		{"a bit of the signature", secret, headers(id, stamp, "v1,"+string(good[3]^1)+good[4:]), body, false},
		{"another id", secret, headers("msg_q", stamp, good), body, false},
		{"another second", secret, headers(id, strconv.FormatInt(clock.Unix()+1, 10), good), body, false},
		{"another version", secret, headers(id, stamp, "v2,"+good[3:]), body, false},
		{"no version", secret, headers(id, stamp, good[3:]), body, false},
		{"no base64", secret, headers(id, stamp, "v1,?"), body, false},
		{"an empty signature", secret, headers(id, stamp, "v1,"), body, false},
		{"half a signature", secret, headers(id, stamp, good[:20]), body, false},
		{"a timestamp that is none", secret, headers(id, "soon", sign(secret, id, "soon", body)), body, false},
		{"no id", secret, headers("", stamp, sign(secret, "", stamp, body)), body, false},
		{"no headers", secret, http.Header{}, body, false},
		{"clocks that differ, behind", secret, at(-299 * time.Second), body, true},
		{"clocks that differ, ahead", secret, at(299 * time.Second), body, true},
		{"stale", secret, at(-301 * time.Second), body, false},
		{"in the future", secret, at(301 * time.Second), body, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tt.secrets)
			err := s.Verify(context.Background(), &webhook.Request{Header: tt.header, Body: []byte(tt.body), Now: clock})
			switch {
			case tt.ok && err != nil:
				t.Error(err)
			case !tt.ok && !errors.Is(err, webhook.ErrUnverified):
				t.Errorf("got %v, want ErrUnverified", err)
			}
			if early := s.Early(tt.header); early != nil && err == nil {
				t.Errorf("Early refuses what Verify takes: %v", early)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || !(Config{Secrets: config.Secret(secret)}).Enabled() {
		t.Error("the webhook is served if there is a secret")
	}
	for _, tt := range []struct{ secrets, named string }{
		{"", "SIGNING_SECRETS: there is none"},
		{" , ", "SIGNING_SECRETS: there is none"},
		{strings.TrimPrefix(secret, "whsec_"), "SIGNING_SECRETS: secret 1"},
		{secret + ",whsec_short", "SIGNING_SECRETS: secret 2"},
		{secret + ",whsec_????????????????????????????????", "SIGNING_SECRETS: secret 2"},
	} {
		_, err := New(Config{Secrets: config.Secret(tt.secrets)})
		if err == nil || !strings.Contains(err.Error(), tt.named) {
			t.Errorf("%q: got %v, want an error that says %s", tt.secrets, err, tt.named)
		}
		if err != nil && strings.Contains(err.Error(), strings.TrimPrefix(secret, "whsec_")) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, tt := range payloads {
		f.Add("msg_1", []byte(tt.body))
	}
	for _, body := range webhooktest.Payloads(f, "resend") {
		f.Add("msg_1", body)
	}
	s := open(f, secret)
	f.Fuzz(func(t *testing.T, id string, body []byte) {
		elements, err := s.Read(&webhook.Request{Header: headers(id, "1", "v1,"), Body: body})
		if err == nil && len(elements) == 0 {
			t.Fatal("a request about nothing")
		}
		webhooktest.Check(t, elements)
		ids := map[string]bool{}
		for _, x := range elements {
			if x.Event != nil && ids[x.Event.ID] {
				t.Fatalf("two events have the id %s", x.Event.ID)
			}
			if x.Event != nil {
				ids[x.Event.ID] = true
			}
		}
	})
}

// FuzzVerify: taken are requests that one of the secrets has signed, lately, with a signature among the first few, and no others.
func FuzzVerify(f *testing.F) {
	now := strconv.FormatInt(clock.Unix(), 10)
	for _, tt := range payloads {
		f.Add(uint16(1), "msg_1", now, "", []byte(tt.body))
	}
	for _, body := range webhooktest.Payloads(f, "resend") {
		f.Add(uint16(1), "msg_1", now, "v1,AAAA v1a,AAAA", body)
	}
	f.Add(uint16(1), "a.b", now, strings.Repeat("v1,AA== ", maxSignatures-1), []byte(`{}`))
	f.Add(uint16(1), "a.b", now, strings.Repeat("v1,AA== ", maxSignatures), []byte(`{}`))
	for _, off := range []int64{-301, -300, 300, 301} {
		f.Add(uint16(1), "msg_1", strconv.FormatInt(clock.Unix()+off, 10), "", []byte(`{}`))
	}
	f.Add(uint16(2*77+1), "msg_1", now, "", []byte(`{}`))
	f.Add(uint16(0), "msg_1", now, sign(other, "msg_1", now, `{}`), []byte(`{}`))
	s := open(f, secret+","+other)
	f.Fuzz(func(t *testing.T, by uint16, id, timestamp, signatures string, body []byte) {
		ours, others := sign(secret, id, timestamp, string(body)), sign(other, id, timestamp, string(body))
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			sum := webhook.Base64(strings.TrimPrefix(ours, "v1,"))
			tamper.Bend(sum)
			signatures += " v1," + base64.StdEncoding.EncodeToString(sum)
		}
		fits, n := false, 0
		for _, one := range strings.Fields(signatures) {
			if !strings.HasPrefix(one, "v1,") {
				continue
			}
			if n++; n <= maxSignatures {
				given := "v1," + base64.StdEncoding.EncodeToString(webhook.Base64(one[len("v1,"):]))
				fits = fits || given == ours || given == others
			}
		}
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		want := fits && id != "" && err == nil && seconds >= clock.Unix()-300 && seconds <= clock.Unix()+300
		if got := webhooktest.Verified(t, s, &webhook.Request{Method: http.MethodPost, Header: headers(id, timestamp, signatures), Body: body, Now: clock}); got != want {
			t.Fatalf("verified: %v", got)
		}
	})
}
