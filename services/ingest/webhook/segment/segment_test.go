package segment

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

const secret, next = "a secret that nobody can guess", "another that nobody can guess"

var clock = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func newSource(t testing.TB, secrets string) *Source {
	t.Helper()
	s, err := New(Config{Secrets: config.Secret(secrets)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(body, signed, secret string) *webhook.Request {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(signed))
	h := http.Header{}
	h.Set(signatureHeader, hex.EncodeToString(mac.Sum(nil)))
	return &webhook.Request{Method: http.MethodPost, Header: h, Body: []byte(body), Now: clock}
}

// track is a call as Segment sends it.
func track(event, more string) string {
	return `{"channel":"server","type":"track","event":"` + event + `","messageId":"msg-1","userId":"C-20417","timestamp":"2026-12-01T11:00:00.250Z",` +
		`"sentAt":"2026-12-01T11:59:58.000Z","receivedAt":"2026-12-01T11:59:59.000Z","context":{"ip":"192.0.2.7","userAgent":"Mozilla/5.0 Firefox/140.0","traits":{"email":"Anna@Example.com"}},` +
		`"properties":{"email_id":"18vzF7u3z","email_subject":"hello","campaign_id":"123","campaign_name":"winter"` + more + `}}`
}

func TestSignatures(t *testing.T) {
	good := track("Email Opened", "")
	old := func(with, to string) string { return strings.Replace(good, with, to, 1) }
	for _, tt := range []struct {
		name    string
		body    string
		signed  string // empty: the body
		secrets string
		by      string
		bend    func(*webhook.Request)
		want    string // part of the error; empty: verified
	}{
		{name: "good", body: good},
		{name: "the new secret during an exchange", body: good, secrets: secret + "," + next, by: next},
		{name: "the old secret during an exchange", body: good, secrets: secret + "," + next},
		{name: "a foreign secret", body: good, by: next, want: "does not fit"},
		{name: "a bit of the body", body: good, bend: func(r *webhook.Request) { r.Body[20] ^= 1 }, want: "does not fit"},
		{name: "a bit of the signature", body: good, bend: func(r *webhook.Request) {
			raw := webhook.Hex(r.Header.Get(signatureHeader))
			raw[3] ^= 1
			r.Header.Set(signatureHeader, hex.EncodeToString(raw))
		}, want: "does not fit"},
		{name: "no signature", body: good, bend: func(r *webhook.Request) { r.Header.Del(signatureHeader) }, want: signatureHeader},
		{name: "a batch that is signed as a whole", body: "[" + good + "," + good + "]"},
		{name: "a batch of one, of which the event is signed", body: "[" + good + "]", signed: good},
		{name: "a batch of which only the first is signed", body: "[" + good + "," + good + "]", signed: good, want: "switch off batching"},
		{name: "an event behind a signed one", body: good + good, signed: good, want: "does not fit"},
		{name: "Segment has tried for hours", body: old("2026-12-01T11:59:59.000Z", "2026-11-30T12:00:01.000Z")},
		{name: "stale", body: old("2026-12-01T11:59:59.000Z", "2026-11-30T11:59:59.000Z"), want: "clocks"},
		{name: "from the future", body: old("2026-12-01T11:59:59.000Z", "2026-12-01T12:05:01.000Z"), want: "clocks"},
		{name: "stale by when it was sent", body: `{"type":"track","sentAt":"2026-11-30T11:00:00Z"}`, want: "clocks"},
		{name: "stale by when it happened", body: `{"type":"track","timestamp":"2026-11-30T11:00:00Z"}`, want: "clocks"},
		{name: "one of a batch is stale", body: `[` + good + `,{"receivedAt":"2026-11-30T11:00:00Z"}]`, want: "clocks"},
		{name: "no time", body: `{"type":"track"}`, want: "receivedAt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.signed == "" {
				tt.signed = tt.body
			}
			if tt.secrets == "" {
				tt.secrets = secret
			}
			if tt.by == "" {
				tt.by = secret
			}
			r := request(tt.body, tt.signed, tt.by)
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

// A published example of the algorithm (RFC 2202, section 3, test case 2), so that it is not only compared with itself.
func TestKnownSignature(t *testing.T) {
	keys := webhook.Keys{[]byte("Jefe")}
	if !keys.Signed(webhook.Hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"), sha1.New, []byte("what do ya want for nothing?")) {
		t.Error("does not fit")
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || !(Config{Secrets: secret}).Enabled() {
		t.Error("enabled is whether there is a secret")
	}
	for _, secrets := range []config.Secret{"", ",", "short"} {
		if _, err := New(Config{Secrets: secrets}); err == nil || !strings.Contains(err.Error(), "SHARED_SECRETS") {
			t.Errorf("%q: got %v", string(secrets), err)
		}
	}
}

var own = []struct{ name, body string }{
	{"delivered", track("Email Delivered", "")},
	{"opened", track("Email Opened", "")},
	{"clicked", track("Email Link Clicked", `,"link_id":"101","link_url":"https://example.com/?a=1&b=2"`)},
	{"bounced", track("Email Bounced", "")},
	{"spam", track("Email Marked as Spam", "")},
	{"unsubscribed", track("Unsubscribed", `,"list_id":"1425"`)},
	{"unsubscribed, as Customer.io calls it", track("Email Unsubscribed", "")},
	{"another event", track("Order Completed", "")},
	{"another call", strings.Replace(track("Email Opened", ""), `"track"`, `"identify"`, 1)},
	{"as the email specification writes it", `{"user_id":"019mr8mf4r","action":"track","event":"Email Opened","timestamp":"2026-12-01T11:00:00Z","context":{"ip":"67.207.109.102","user_agent":"Mozilla/5.0","traits":{"email":"p@example.com"}},"properties":{"email_id":"18vzF7u3z","campaign_name":"New Customer Discount"}}`},
	{"the address where there is no id", strings.Replace(track("Email Opened", ""), `"userId":"C-20417",`, `"userId":null,"anonymousId":"x",`, 1)},
	{"nobody", `{"type":"track","event":"Email Opened","timestamp":"2026-12-01T11:00:00Z"}`},
	{"no time", `{"type":"track","event":"Email Opened","userId":"C"}`},
	{"no zone", `{"type":"track","event":"Email Opened","userId":"C","timestamp":"2026-12-01T11:00:00"}`},
	{"no type", `{"event":"Email Opened"}`},
	{"no event", `{"type":"track"}`},
	{"properties are a list", `{"type":"track","event":"Email Opened","properties":[]}`},
	{"unknown fields", strings.Replace(track("Email Opened", `,"new":{"a":[1]}`), `"channel"`, `"newer":null,"channel"`, 1)},
	{"a bad one among good ones", `[` + track("Email Opened", "") + `,"x",` + track("Email Delivered", "") + `]`},
}

func TestEventsAreMapped(t *testing.T) {
	s := newSource(t, secret)
	var b strings.Builder
	for _, tt := range own {
		all, err := s.Read(request(tt.body, tt.body, secret))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(all, err))
	}
	webhooktest.Golden(t, "own.golden", b.String())
	for _, body := range []string{"", "{", `"x"`} {
		if err := s.Verify(context.Background(), request(body, body, secret)); err != nil {
			t.Errorf("%q: %v, but it is signed", body, err)
		}
		if _, err := s.Read(request(body, body, secret)); err == nil {
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
		r := request(body, body, secret)
		_ = s.Verify(context.Background(), r)
		all, err := s.Read(r)
		if err != nil {
			return
		}
		webhooktest.Check(t, all)
	})
}

// FuzzVerify: taken is what one of the secrets has signed, as a whole or the one event of a batch, and is not old.
func FuzzVerify(f *testing.F) {
	for _, tt := range own {
		f.Add(uint16(1), false, "", []byte(tt.body))
		f.Add(uint16(1), true, "", []byte(" ["+tt.body+"]\n"))
	}
	f.Add(uint16(1), true, "", []byte(`[{"receivedAt":"2026-12-01T11:00:00Z"},{"receivedAt":"2026-12-01T11:00:00Z"}]`))
	good := request(`{"sentAt":"2026-12-01T11:00:00Z"}`, `{"sentAt":"2026-12-01T11:00:00Z"}`, next)
	f.Add(uint16(0), false, good.Header.Get(signatureHeader), good.Body)
	s := newSource(f, secret+","+next)
	f.Fuzz(func(t *testing.T, by uint16, first bool, signature string, body []byte) {
		var batch []json.RawMessage
		_ = json.Unmarshal(body, &batch) // no batch then
		mac := func(secret string, over []byte) []byte {
			h := hmac.New(sha1.New, []byte(secret))
			h.Write(over)
			return h.Sum(nil)
		}
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			sum := mac(secret, body)
			if first && len(batch) > 0 {
				sum = mac(secret, batch[0])
			}
			tamper.Bend(sum)
			signature = hex.EncodeToString(sum)
		}
		given, fits := webhook.Hex(signature), false
		for _, secret := range []string{secret, next} {
			fits = fits || bytes.Equal(given, mac(secret, body)) || len(batch) == 1 && bytes.Equal(given, mac(secret, batch[0]))
		}
		h := http.Header{}
		h.Set(signatureHeader, signature)
		r := &webhook.Request{Method: http.MethodPost, Header: h, Body: body, Now: clock}
		if got, want := webhooktest.Verified(t, s, r), fits && fresh(r) == nil; got != want {
			t.Fatalf("verified: %v", got)
		}
	})
}
