package sfmc

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

// Keys are base64 of 32 bytes, as Marketing Cloud makes them.
var (
	key  = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	next = base64.StdEncoding.EncodeToString([]byte("fedcba9876543210fedcba9876543210"))
)

var clock = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func newSource(t testing.TB, c Config) *Source {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signed(key []byte, body string) *webhook.Request {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(body))
	h := http.Header{}
	h.Set("x-sfmc-ens-signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return &webhook.Request{Method: http.MethodPost, Header: h, Body: []byte(body), Now: clock}
}

const verification = `{"callbackId":"14e2ee5b-8c01-4f9d-916d-29e329945619","verificationKey":"abc123def456"}`

func TestSignatures(t *testing.T) {
	at := func(t time.Time) string { return fmt.Sprintf(`{"timestampUTC":%d}`, t.UnixMilli()) }
	good := "[" + at(clock) + "]\n"
	for _, tt := range []struct {
		name string
		c    Config
		by   []byte
		body string
		bend func(*webhook.Request)
		want string // part of the error; empty: verified
	}{
		{name: "the key as it is", by: []byte(key)},
		{name: "the key decoded", by: webhook.Base64(key)},
		{name: "the new key during an exchange", c: Config{Keys: config.Secret(key + "," + next)}, by: webhook.Base64(next)},
		{name: "the old key during an exchange", c: Config{Keys: config.Secret(key + "," + next)}, by: []byte(key)},
		{name: "a foreign key", by: []byte(next), want: "does not fit"},
		{name: "a bit of the body", bend: func(r *webhook.Request) { r.Body[4] ^= 1 }, want: "does not fit"},
		{name: "a bit of the signature", bend: func(r *webhook.Request) {
			raw := webhook.Base64(r.Header.Get(signatureHeader))
			raw[1] ^= 1
			r.Header.Set(signatureHeader, base64.StdEncoding.EncodeToString(raw))
		}, want: "does not fit"},
		{name: "the end of a line", bend: func(r *webhook.Request) { r.Body = bytes.TrimSpace(r.Body) }, want: "does not fit"},
		{name: "no signature", bend: func(r *webhook.Request) { r.Header.Del(signatureHeader) }, want: "must carry"},
		{name: "tried again for a week, among older ones", body: "[" + at(clock.AddDate(0, -6, 0)) + "," + at(clock.AddDate(0, 0, -7)) + "]"},
		{name: "stale", body: "[" + at(clock.Add(-oldest-time.Second)) + "]", want: "clocks"},
		{name: "from the future", body: "[" + at(clock.Add(5*time.Minute+time.Second)) + "]", want: "clocks"},
		{name: "no time", body: `[{}]`, want: "timestampUTC"},
		{name: "nothing", body: `[]`},
		{name: "a request for verification, signed", body: verification, want: "timestampUTC"},
		{name: "a request for verification outside the setup", body: verification, bend: func(r *webhook.Request) { r.Header.Del(signatureHeader) }, want: "must carry"},
		{name: "a request for verification during the setup", c: Config{Setup: true}, body: verification, bend: func(r *webhook.Request) { r.Header.Del(signatureHeader) }},
		{name: "events during the setup, not signed", c: Config{Setup: true}, bend: func(r *webhook.Request) { r.Header.Del(signatureHeader) }, want: "must carry"},
		{name: "events during the setup, signed with an empty key", c: Config{Setup: true}, by: []byte{}, want: "does not fit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.c == (Config{}) {
				tt.c.Keys = config.Secret(key)
			}
			if tt.by == nil {
				tt.by = []byte(key)
			}
			if tt.body == "" {
				tt.body = good
			}
			r := signed(tt.by, tt.body)
			if tt.bend != nil {
				tt.bend(r)
			}
			s := newSource(t, tt.c)
			err := s.Early(r.Header)
			if err == nil {
				err = s.Verify(context.Background(), r)
			}
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, webhook.ErrUnverified) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCallbackIsSetUp(t *testing.T) {
	bare := &webhook.Request{Method: http.MethodPost, Header: http.Header{}, Body: []byte(verification), Now: clock}
	for _, tt := range []struct {
		name string
		c    Config
		r    *webhook.Request
		want bool
	}{
		{"during the setup", Config{Setup: true}, bare, true},
		{"during the setup of another", Config{Setup: true, Keys: config.Secret(key)}, bare, true},
		{"later", Config{Keys: config.Secret(key)}, bare, false},
		{"events are no handshake", Config{Setup: true}, &webhook.Request{Header: http.Header{}, Body: []byte(`[{}]`)}, false},
		{"without a key", Config{Setup: true}, &webhook.Request{Header: http.Header{}, Body: []byte(`{"callbackId":"a"}`)}, false},
		{"much too long", Config{Setup: true}, &webhook.Request{Header: http.Header{}, Body: []byte(`{"callbackId":"a","verificationKey":"` + strings.Repeat("x", 300) + `"}`)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSource(t, tt.c)
			var told bytes.Buffer
			s.Log = slog.New(slog.NewJSONHandler(&told, nil))
			answer, ok, err := s.Shake(context.Background(), tt.r)
			if len(answer) != 0 || ok != tt.want || err != nil {
				t.Errorf("got %q, %v, %v", answer, ok, err)
			}
			if strings.Contains(told.String(), `"callback_id":"14e2ee5b-8c01-4f9d-916d-29e329945619","verification_key":"abc123def456"`) != tt.want {
				t.Errorf("the log is told %q", told.String())
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || !(Config{Keys: "x"}).Enabled() || !(Config{Setup: true}).Enabled() {
		t.Error("enabled is whether there is a key, or a setup")
	}
	for _, c := range []Config{{}, {Keys: ","}, {Keys: "short"}, {Keys: "short", Setup: true}} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "SIGNATURE_KEYS") {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

// engaged is an event of the family for all email.
func engaged(typ, info string) string {
	return `{"eventCategoryType":"EngagementEvents.` + typ + `","timestampUTC":1796122800000,"compositeId":"2001071.44609.4119.135804581","definitionKey":"NA","definitionId":"NA","channel":"email",` +
		`"mid":1447640,"eid":1447640,"composite":{"jobId":"2001071","batchId":"4119","listId":"44609","subscriberId":"135804581"},"info":{` + info + `}}`
}

// transactional is one of the family for transactional sending, of the same message.
func transactional(typ, info string) string {
	return `{"eventCategoryType":"TransactionalSendEvents.` + typ + `","timestampUTC":1796119200530,"compositeId":"466651f2-9c28-e911-a261-78e3b50b4f00.2001071.44609.4119.135804581","definitionKey":"appointment",` +
		`"mid":1447640,"eid":1447640,"composite":{"jobId":"2001071","batchId":"4119","listId":"44609","subscriberId":"135804581","emailId":"182583"},"info":{"to":"Anna@Example.com","subscriberKey":"C-20417","messageKey":"k-1"` + info + `}}`
}

var own = []struct{ name, body string }{
	{"sent", `[` + transactional("EmailSent", `,"status":"Sent"`) + `]`},
	{"opened: the same customer and message", `[` + engaged("EmailOpen", `"ipAddress":"192.0.2.9","userAgent":"Mozilla/5.0 (iPhone)","location":{}`) + `]`},
	{"clicked", `[` + engaged("EmailClick", `"ipAddress":"192.0.2.9","jobUrlId":"1","contentLink":"https://example.com/?a\u003d1\u0026b=2","userAgent":"Mozilla/5.0 (iPhone)"`) + `]`},
	{"unsubscribed", `[` + engaged("EmailUnsubscribe", `"to":"Anna@Example.com","domain":"example.com","unsubscribeDate":1796101200000,"unsubscribeMethod":"Click"`) + `]`},
	{"bounced", `[` + transactional("EmailBounced", `,"bounceCode":"SOFT"`) + `]`},
	{"not sent", `[` + transactional("EmailNotSent", `,"reason":"unsubscribed"`) + `]`},
	{"not sent, and nobody's number", `[` + strings.Replace(transactional("EmailNotSent", ""), `"subscriberId":"135804581"`, `"subscriberId":"0"`, 1) + `]`},
	{"one that is no array", engaged("EmailOpen", "")},
	{"a composite id alone", `{"eventCategoryType":"EngagementEvents.EmailOpen","timestampUTC":1796122800000,"compositeId":"2001071.44609.4119.135804581","eid":1447640}`},
	{"a longer composite id alone", `{"eventCategoryType":"TransactionalSendEvents.EmailSent","timestampUTC":1796119200530,"compositeId":"466651f2.2001071.44609.4119.135804581","eid":1447640}`},
	{"the address where there is nothing else", `{"eventCategoryType":"EngagementEvents.EmailUnsubscribe","timestampUTC":1796122800000,"info":{"to":"Anna@Example.com"}}`},
	{"a text message", transactional("SmsSent", "")},
	{"an automation", `{"eventCategoryType":"SendEvents.AutomationInstanceCompleted","timestampUTC":1796122800000}`},
	{"unknown fields", strings.Replace(engaged("EmailOpen", `"new":[1]`), `"mid"`, `"newer":{"a":null},"mid"`, 1)},
	{"nobody", `{"eventCategoryType":"EngagementEvents.EmailOpen","timestampUTC":1796122800000}`},
	{"no time", `{"eventCategoryType":"EngagementEvents.EmailOpen"}`},
	{"seconds", `{"eventCategoryType":"EngagementEvents.EmailOpen","timestampUTC":1796122800,"composite":{"jobId":"1","subscriberId":"2"}}`},
	{"no type", `[{"timestampUTC":1796122800000}]`},
	{"info is a list", `[{"eventCategoryType":"EngagementEvents.EmailOpen","info":[]}]`},
	{"a bad one among good ones", `[` + engaged("EmailOpen", "") + `,null,` + engaged("EmailClick", "") + `]`},
}

func TestEventsAreMapped(t *testing.T) {
	s := newSource(t, Config{Keys: config.Secret(key)})
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
		if err := s.Verify(context.Background(), signed([]byte(key), body)); err != nil {
			t.Errorf("%q: %v, but it is signed", body, err)
		}
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
	f.Add(verification)
	s := newSource(f, Config{Keys: config.Secret(key), Setup: true})
	s.Log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, body string) {
		r := signed([]byte(key), body)
		_ = s.Verify(context.Background(), r)
		all, err := s.Read(r)
		if err != nil {
			return
		}
		webhooktest.Check(t, all)
	})
}

// FuzzVerify: taken is what the key has signed, as it is or decoded, and is not old; and while a callback is set up, the request that tries
// it, which is answered and carries no events.
func FuzzVerify(f *testing.F) {
	for _, tt := range own {
		f.Add(uint16(1), false, "", []byte(tt.body))
	}
	f.Add(uint16(1), true, "", []byte(`[{"timestampUTC":1796126400000}]`))
	f.Add(uint16(0), true, "", []byte(verification))
	f.Add(uint16(0), true, "AAAA", []byte(verification))
	f.Add(uint16(0), true, "", []byte(`{"callbackid":"c","VERIFICATIONKEY":"v","eventCategoryType":"EngagementEvents.EmailOpen"}`))
	good := signed([]byte(key), `[]`)
	f.Add(uint16(0), false, good.Header.Get(signatureHeader), good.Body)
	open, closed := newSource(f, Config{Keys: config.Secret(key), Setup: true}), newSource(f, Config{Keys: config.Secret(key)})
	open.Log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, by uint16, decoded bool, signature string, body []byte) {
		text, plain := []byte(key), webhook.Base64(key)
		mac := func(key []byte) []byte {
			h := hmac.New(sha256.New, key)
			h.Write(body)
			return h.Sum(nil)
		}
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			sum := mac(text)
			if decoded {
				sum = mac(plain)
			}
			tamper.Bend(sum)
			signature = base64.StdEncoding.EncodeToString(sum)
		}
		given := webhook.Base64(signature)
		h := http.Header{}
		h.Set(signatureHeader, signature)
		r := &webhook.Request{Method: http.MethodPost, Header: h, Body: body, Now: clock}
		fits := (bytes.Equal(given, mac(text)) || bytes.Equal(given, mac(plain))) && fresh(r) == nil
		if got := webhooktest.Verified(t, closed, r); got != fits {
			t.Fatalf("verified: %v", got)
		}
		if _, shaken, err := closed.Shake(t.Context(), r); shaken || err != nil {
			t.Fatalf("a callback is set up that nobody has asked for: %v", err)
		}
		_, shaken, err := open.Shake(t.Context(), r)
		if err != nil || shaken && signature != "" {
			t.Fatalf("answered, with the signature %q: %v", signature, err)
		}
		if got := webhooktest.Verified(t, open, r); got != (fits || shaken) {
			t.Fatalf("verified during the setup: %v, answered: %v", got, shaken)
		}
	})
}
