package hubspot

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

const (
	secret = "11111111-2222-3333-4444-555555555555"
	next   = "99999999-2222-3333-4444-555555555555"
	target = "https://in.example.com/v1/webhooks/hubspot"
)

var clock = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func newSource(t testing.TB, secrets string) *Source {
	t.Helper()
	s, err := New(Config{Secrets: config.Secret(secrets)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signed is a request to url as HubSpot signs it, over the URL that it signs.
func signed(secret, url, over, body string, at time.Time) *webhook.Request {
	timestamp := strconv.FormatInt(at.UnixMilli(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("POST" + over + body + timestamp))
	h := http.Header{}
	h.Set(signatureHeader, base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	h.Set(timestampHeader, timestamp)
	return &webhook.Request{Method: http.MethodPost, URL: url, Header: h, Body: []byte(body), Now: clock}
}

func TestSignatures(t *testing.T) {
	const body = `[{"subscriptionType":"contact.creation","objectId":123}]`
	for _, tt := range []struct {
		name      string
		secrets   string
		by        string
		url, over string
		at        time.Time
		bend      func(*webhook.Request)
		want      string // part of the error; empty: verified
	}{
		{name: "good"},
		{name: "the new secret during an exchange", secrets: secret + "," + next, by: next},
		{name: "the old secret during an exchange", secrets: secret + "," + next},
		{name: "a foreign secret", by: next, want: "does not fit"},
		{name: "the listed characters are decoded", url: target + "?a=%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B%2f", over: target + "?a=:/?@!$'()*,;/"},
		{name: "all others are not", url: target + "?a=%20%26%3D%25%2B%C3%A0", over: target + "?a=%20%26%3D%25%2B%C3%A0"},
		{name: "what is encoded twice is decoded once", url: target + "?a=%253A", over: target + "?a=%253A"},
		{name: "another host", over: "https://other.example.com/v1/webhooks/hubspot", want: "does not fit"},
		{name: "another scheme", over: "http://in.example.com/v1/webhooks/hubspot", want: "does not fit"},
		{name: "another method", bend: func(r *webhook.Request) { r.Method = http.MethodPut }, want: "does not fit"},
		{name: "a bit of the body", bend: func(r *webhook.Request) { r.Body[5] ^= 1 }, want: "does not fit"},
		{name: "a bit of the signature", bend: func(r *webhook.Request) {
			raw := webhook.Base64(r.Header.Get(signatureHeader))
			raw[9] ^= 1
			r.Header.Set(signatureHeader, base64.StdEncoding.EncodeToString(raw))
		}, want: "does not fit"},
		{name: "another time", bend: func(r *webhook.Request) {
			r.Header.Set(timestampHeader, strconv.FormatInt(clock.UnixMilli()-1, 10))
		}, want: "does not fit"},
		{name: "almost stale", at: clock.Add(-5 * time.Minute)},
		{name: "stale", at: clock.Add(-5*time.Minute - time.Millisecond), want: "clocks"},
		{name: "from the future", at: clock.Add(5*time.Minute + time.Millisecond), want: "clocks"},
		{name: "a time in words", bend: func(r *webhook.Request) { r.Header.Set(timestampHeader, "now") }, want: "milliseconds"},
		{name: "no signature", bend: func(r *webhook.Request) { r.Header.Del(signatureHeader) }, want: signatureHeader},
		{name: "no time", bend: func(r *webhook.Request) { r.Header.Del(timestampHeader) }, want: timestampHeader},
		{name: "an older signature alone", bend: func(r *webhook.Request) {
			r.Header.Del(signatureHeader)
			r.Header.Set("X-HubSpot-Signature", "abc")
		}, want: signatureHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.secrets == "" {
				tt.secrets = secret
			}
			if tt.by == "" {
				tt.by = secret
			}
			if tt.url == "" {
				tt.url = target
			}
			if tt.over == "" {
				tt.over = tt.url
			}
			if tt.at.IsZero() {
				tt.at = clock
			}
			r := signed(tt.by, tt.url, tt.over, body, tt.at)
			if tt.bend != nil {
				tt.bend(r)
			}
			err := newSource(t, tt.secrets).Verify(context.Background(), r)
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, webhook.ErrUnverified) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// What HubSpot's library for Python expects of the same algorithm, so that it is not only compared with itself.
func TestKnownSignature(t *testing.T) {
	r := &webhook.Request{Method: http.MethodPost, URL: "https://www.example.com/webhook_uri", Header: http.Header{},
		Body: []byte("{'example_field':'example_value'}"), Now: time.UnixMilli(1693657561000)}
	r.Header.Set(signatureHeader, "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y=")
	r.Header.Set(timestampHeader, "1693657560000")
	if err := newSource(t, "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy").Verify(context.Background(), r); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || !(Config{Secrets: secret}).Enabled() {
		t.Error("enabled is whether there is a secret")
	}
	for _, secrets := range []config.Secret{"", ",", "short"} {
		if _, err := New(Config{Secrets: secrets}); err == nil || !strings.Contains(err.Error(), "CLIENT_SECRETS") {
			t.Errorf("%q: got %v", string(secrets), err)
		}
	}
}

func change(property, value string) string {
	return `{"eventId":3029365631,"subscriptionId":686627,"portalId":891472211,"appId":7906213,"occurredAt":1796122800123,"subscriptionType":"contact.propertyChange","attemptNumber":0,` +
		`"objectId":847297356,"propertyName":"` + property + `","propertyValue":"` + value + `","changeSource":"EMAIL"}`
}

var own = []struct{ name, body string }{
	{"sent", change("hs_email_last_send_date", "1796119200000")},
	{"opened", change("hs_email_last_open_date", "1796122799000")},
	{"the same open, told again later", strings.NewReplacer(`"attemptNumber":0`, `"attemptNumber":3`, "1796122800123", "1796122900123", "3029365631", "1").Replace(change("hs_email_last_open_date", "1796122799000"))},
	{"clicked", change("hs_email_last_click_date", "1796122799500")},
	{"answered", change("hs_email_last_reply_date", "1796122799500")},
	{"answered to a salesperson", change("hs_sales_email_last_replied", "2026-12-01T11:00:00.000Z")},
	{"bounced", change("hs_email_bounce", "2")},
	{"the bounces of a new address", change("hs_email_bounce", "0")},
	{"the bounces cleared", change("hs_email_bounce", "")},
	{"left everything", change("hs_email_optout", "true")},
	{"came back", change("hs_email_optout", "false")},
	{"left one type", change("hs_email_optout_7904272", "true")},
	{"the generic form", strings.Replace(change("hs_email_last_open_date", "1796122799000"), `"contact.propertyChange"`, `"object.propertyChange","objectTypeId":"0-1"`, 1)},
	{"of a company", strings.Replace(change("hs_email_last_open_date", "1796122799000"), `"contact.propertyChange"`, `"object.propertyChange","objectTypeId":"0-2"`, 1)},
	{"numbers that are numbers", strings.Replace(change("hs_email_last_open_date", "1796122799000"), `"1796122799000"`, `1796122799000`, 1)},
	{"a date cleared", change("hs_email_last_open_date", "")},
	{"another property", change("firstname", "Anna")},
	{"a contact was made", `{"subscriptionType":"contact.creation","objectId":1}`},
	{"a contact is to be forgotten", `{"eventId":1,"subscriptionId":2,"portalId":891472211,"appId":7906213,"occurredAt":1796122800123,"subscriptionType":"contact.privacyDeletion","attemptNumber":0,"objectId":847297356,"changeFlag":"DELETED"}`},
	{"at a time that nobody knows", `{"subscriptionType":"contact.privacyDeletion","objectId":1}`},
	{"at a time that is none", `{"subscriptionType":"contact.privacyDeletion","objectId":"1","occurredAt":"now"}`},
	{"at a time that has not come", `{"subscriptionType":"contact.privacyDeletion","objectId":1,"occurredAt":1796126400001}`},
	{"nobody is to be forgotten", `{"subscriptionType":"contact.privacyDeletion","occurredAt":1796122800123}`},
	{"somebody who is no contact", `{"subscriptionType":"contact.privacyDeletion","objectId":"anna@example.com","occurredAt":1796122800123}`},
	{"a contact was deleted", `{"subscriptionType":"contact.deletion","objectId":1,"occurredAt":1796122800123}`},
	{"an unknown type", `{"subscriptionType":"contact.teleported"}`},
	{"unknown fields", `{"new":[1],` + change("hs_email_optout", "true")[1:]},
	{"a hidden value", change("hs_email_last_open_date", "REDACTED")},
	{"no contact", `{"subscriptionType":"contact.propertyChange","propertyName":"hs_email_optout","propertyValue":"true","occurredAt":1796122800123}`},
	{"no time", `{"subscriptionType":"contact.propertyChange","propertyName":"hs_email_optout","propertyValue":"true","objectId":1}`},
	{"no property", `{"subscriptionType":"contact.propertyChange","objectId":1}`},
	{"no type", `{"objectId":1}`},
	{"a bad one among good ones", `[` + change("hs_email_optout", "true") + `,[],` + change("hs_email_last_open_date", "1796122799000") + `]`},
}

func TestEventsAreMapped(t *testing.T) {
	s := newSource(t, secret)
	var b strings.Builder
	for _, tt := range own {
		all, err := s.Read(&webhook.Request{Body: []byte(tt.body), Now: clock})
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(all, err))
	}
	webhooktest.Golden(t, "own.golden", b.String())
	for _, body := range []string{"", "{", `"x"`} {
		if _, err := s.Read(&webhook.Request{Body: []byte(body)}); err == nil {
			t.Errorf("%q was read", body)
		}
	}
}

// FuzzRead: whatever is reported, each element is one thing, and every event is valid.
func FuzzRead(f *testing.F) {
	for _, tt := range own {
		f.Add(tt.body)
	}
	s := newSource(f, secret)
	f.Fuzz(func(t *testing.T, body string) {
		all, err := s.Read(&webhook.Request{Body: []byte(body), Now: clock})
		if err != nil {
			return
		}
		webhooktest.Check(t, all)
	})
}

// FuzzVerify: taken are requests that one of the secrets has signed for the URL that was called, lately, and no others.
func FuzzVerify(f *testing.F) {
	now := strconv.FormatInt(clock.UnixMilli(), 10)
	for _, tt := range own {
		f.Add(uint16(1), target, now, "", []byte(tt.body))
	}
	for _, url := range []string{target + "?a=%3A%3a%2F%2f%3F%3f%40%21%24%27%28%29%2A%2a%2C%2c%3B%3b%20%253A%zz&b=%e2%82%ac", target + "?%", ""} {
		f.Add(uint16(1), url, now, "", []byte(`[]`))
	}
	good := signed(next, target, target, `[]`, clock)
	f.Add(uint16(0), target, now, good.Header.Get(signatureHeader), good.Body)
	for _, off := range []time.Duration{-tolerance - time.Millisecond, -tolerance, tolerance, tolerance + time.Millisecond} {
		f.Add(uint16(1), target, strconv.FormatInt(clock.Add(off).UnixMilli(), 10), "", []byte(`[]`))
	}
	f.Add(uint16(2*77+1), target, now, "", []byte(`[]`))
	s := newSource(f, secret+","+next)
	f.Fuzz(func(t *testing.T, by uint16, url, timestamp, signature string, body []byte) {
		mac := func(secret string) []byte {
			h := hmac.New(sha256.New, []byte(secret))
			h.Write([]byte("POST" + plain(url) + string(body) + timestamp))
			return h.Sum(nil)
		}
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			sum := mac(secret)
			tamper.Bend(sum)
			signature = base64.StdEncoding.EncodeToString(sum)
		}
		given := webhook.Base64(signature)
		millis, err := strconv.ParseInt(timestamp, 10, 64)
		want := (bytes.Equal(given, mac(secret)) || bytes.Equal(given, mac(next))) && err == nil &&
			millis >= clock.Add(-5*time.Minute).UnixMilli() && millis <= clock.Add(5*time.Minute).UnixMilli()
		h := http.Header{}
		h.Set(signatureHeader, signature)
		h.Set(timestampHeader, timestamp)
		if got := webhooktest.Verified(t, s, &webhook.Request{Method: http.MethodPost, URL: url, Header: h, Body: body, Now: clock}); got != want {
			t.Fatalf("verified: %v", got)
		}
	})
}

// plain decodes the characters of a URL that HubSpot names, by another way than the package does.
func plain(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if i+3 <= len(text) {
			if c, err := url.PathUnescape(text[i : i+3]); err == nil && len(c) == 1 && strings.Contains(":/?@!$'()*,;", c) {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
