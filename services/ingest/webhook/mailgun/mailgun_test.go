package mailgun

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

const (
	key     = "key-of-thirty-two-characters-000"
	other   = "another-key-of-32-characters-000"
	foreign = "a-key-of-somebody-else-entirely-"
	token   = "e0b5477167110d68991efc6b9f89f0a11066af27834600e123"
)

var clock = time.Date(2026, 12, 2, 10, 1, 52, 0, time.UTC)

func sign(key, timestamp, token string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(timestamp + token))
	return hex.EncodeToString(mac.Sum(nil))
}

// post is a request about an event, signed with a key at a time.
func post(key string, at time.Time, token, event string) *webhook.Request {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	body := fmt.Sprintf(`{"signature":{"timestamp":%q,"token":%q,"signature":%q},"event-data":%s}`, timestamp, token, sign(key, timestamp, token), event)
	return &webhook.Request{Method: "POST", Body: []byte(body), Now: clock}
}

func open(t testing.TB, keys string) *Source {
	t.Helper()
	s, err := New(Config{Keys: config.Secret(keys)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// events are written after the documentation, one for each type and trap.
var events = []struct{ name, event string }{
	{"accepted", `{"event":"accepted","id":"CCXMjJ7n","timestamp":1796205712.5,"recipient":"Anna@Example.com","message":{"headers":{"message-id":"20261202.1@mg.example.com","to":"Anna <anna@example.com>"},"size":341},"tags":["spring","weekly"],"flags":{"is-authenticated":true,"is-test-mode":false},"user-variables":{},"domain":{"name":"mg.example.com"},"account":{"id":"1"}}`},
	{"accepted of a message that came in", `{"event":"accepted","id":"a","timestamp":1796205712.5,"recipient":"inbox@example.com","flags":{"is-routed":true}}`},
	{"delivered", `{"event":"delivered","id":"D1-_x","timestamp":1796205713,"recipient":"anna@example.com","message":{"headers":{"message-id":"<20261202.1@mg.example.com>"}},"delivery-status":{"code":250},"user-variables":{"customer_id":"C-20417","campaign":"spring-26","other":{"a":1}}}`},
	{"delivered in test mode", `{"event":"delivered","id":"t","timestamp":1796205713,"recipient":"anna@example.com","flags":{"is-test-mode":true}}`},
	{"opened", `{"event":"opened","id":"O1","timestamp":1796209312.089676,"recipient":"anna@example.com","message":{"headers":{"message-id":"20261202.1@mg.example.com"}},"ip":"192.0.2.7","geolocation":{"country":"IT"},"client-info":{"client-type":"browser","user-agent":"Mozilla/5.0 Firefox/140.0","bot":""},"user-variables":{"customer_id":20417}}`},
	{"opened by Apple's proxy", `{"event":"opened","id":"O2","timestamp":1796209312,"recipient":"anna@example.com","ip":"2001:db8::7","client-info":{"user-agent":"Mozilla/5.0","bot":"apple"}}`},
	{"clicked by a bot that is a boolean", `{"event":"clicked","id":"K0","timestamp":1796209312,"recipient":"anna@example.com","url":"https://example.com/","client-info":{"bot":true}}`},
	{"clicked", `{"event":"clicked","id":"K1","timestamp":1796209400.25,"recipient":"anna@example.com","url":"https://example.com/?a=1&b=2","ip":"hidden","message":{"headers":{"message-id":"20261202.1@mg.example.com"}},"client-info":{"user-agent":"Mozilla/5.0 Firefox/140.0","bot":false}}`},
	{"an event without an id", `{"event":"clicked","timestamp":1796209400.25,"recipient":"anna@example.com","url":"https://example.com/?a=1&b=2","message":{"headers":{"message-id":"20261202.1@mg.example.com"}}}`},
	{"a permanent failure", `{"event":"failed","severity":"permanent","reason":"bounce","id":"F1","timestamp":1796205713,"recipient":"anna@example.com","message":{"headers":{"message-id":"20261202.1@mg.example.com"}},"delivery-status":{"code":550}}`},
	{"a temporary failure", `{"event":"failed","severity":"temporary","reason":"generic","id":"F2","timestamp":1796205713,"recipient":"anna@example.com","delivery-status":null}`},
	{"a temporary failure that is the last", `{"event":"failed","severity":"temporary","reason":"old","id":"F3","timestamp":1796205713,"recipient":"anna@example.com","delivery-status":{"code":602,"message":"Too old"}}`},
	{"rejected, with the recipient in a header", `{"event":"rejected","id":"R1","timestamp":1796205713,"reject":{"reason":"Sandbox"},"message":{"headers":{"to":"Anna <Anna@example.com>","message-id":"20261202.1@mg.example.com"}}}`},
	{"rejected, with several recipients in a header", `{"event":"rejected","id":"R2","timestamp":1796205713,"message":{"headers":{"to":"anna@example.com, bruno@example.com"}}}`},
	{"complained", `{"event":"complained","id":"S1","timestamp":1796205713,"recipient":"anna@example.com"}`},
	{"unsubscribed, though by a bot and in test mode", `{"event":"unsubscribed","id":"U1","timestamp":1796205713,"recipient":"anna@example.com","flags":{"is-test-mode":true},"client-info":{"bot":"generic","user-agent":"Mozilla/5.0"}}`},
	{"an unknown event", `{"event":"stored","id":"x"}`},
	{"no event", `{"id":"x"}`},
	{"no timestamp", `{"event":"opened","id":"x","recipient":"anna@example.com"}`},
	{"milliseconds", `{"event":"opened","id":"x","timestamp":1796205713000,"recipient":"anna@example.com"}`},
	{"nobody", `{"event":"opened","id":"x","timestamp":1796205713,"recipient":" "}`},
	{"a customer of the wrong form", `{"event":"opened","id":"x","timestamp":1796205713,"recipient":"anna@example.com","user-variables":{"customer_id":{"id":1}}}`},
	{"an id that is too long", `{"event":"opened","id":"` + strings.Repeat("x", 300) + `","timestamp":1796205713,"recipient":"anna@example.com"}`},
	{"members of any form that do not matter", `{"event":"opened","id":"O3","timestamp":1796205713,"recipient":"anna@example.com","tags":"a","message":[],"user-variables":null,"client-info":"x","ip":{},"flags":7,"new":[[[]]]}`},
	{"no object", `[1]`},
	{"nothing", `null`},
}

func TestEventsAreMapped(t *testing.T) {
	s := open(t, key)
	var b strings.Builder
	for _, tt := range events {
		elements, err := s.Read(post(key, clock, token, tt.event))
		webhooktest.Check(t, elements)
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(elements, err))
	}
	for _, body := range []string{``, `[]`, `"x"`, `{"event-data":`, `{}`} {
		fmt.Fprintf(&b, "# the body %s\n%s", body, webhooktest.Show(s.Read(&webhook.Request{Body: []byte(body)})))
	}
	webhooktest.Golden(t, "events.golden", b.String())
}

// TestPublicPayloads maps the payloads of django-anymail's tests, many of which were copied from Mailgun's own.
func TestPublicPayloads(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("TEMPISMO_DATA is not set: the payloads of others are not at hand")
	}
	files, err := filepath.Glob(filepath.Join(data, "esp", "anymail", "mailgun", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payloads: %v", err)
	}
	s := open(t, key)
	var b strings.Builder
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		elements, err := s.Read(&webhook.Request{Body: body, Now: clock})
		webhooktest.Check(t, elements)
		fmt.Fprintf(&b, "# %s\n%s", filepath.Base(file), webhooktest.Show(elements, err))
	}
	webhooktest.Golden(t, "anymail.golden", b.String())
}

const opened = `{"event":"opened","id":"O1","timestamp":1796205713,"recipient":"anna@example.com"}`

func TestVerify(t *testing.T) {
	stamp := strconv.FormatInt(clock.Unix(), 10)
	signed := func(signature string) *webhook.Request {
		return &webhook.Request{Body: []byte(`{"signature":` + signature + `,"event-data":` + opened + `}`), Now: clock}
	}
	flip := func(s string) string { // one bit of the first byte
		return string(s[0]^1) + s[1:]
	}
	good := sign(key, stamp, token)
	for _, tt := range []struct {
		name string
		keys string
		r    *webhook.Request
		ok   bool
	}{
		{"a signature", key, post(key, clock, token, opened), true},
		{"the old key while keys are exchanged", other + ", " + key, post(key, clock, token, opened), true},
		{"the new key while keys are exchanged", other + ", " + key, post(other, clock, token, opened), true},
		{"a timestamp that is a number", key, signed(`{"timestamp":` + stamp + `,"token":"` + token + `","signature":"` + good + `"}`), true},
		{"a subaccount's own signature fits none of our keys, its parent's does", key, signed(`{"timestamp":"` + stamp + `","token":"` + token + `","signature":"` + sign(foreign, stamp, token) + `","parent-signature":"` + good + `"}`), true},
		{"neither fits", key, signed(`{"timestamp":"` + stamp + `","token":"` + token + `","signature":"` + sign(foreign, stamp, token) + `","parent-signature":"` + sign(foreign, stamp, token) + `"}`), false},
		{"a foreign key", key, post(foreign, clock, token, opened), false},
		{"a bit of the signature", key, signed(`{"timestamp":"` + stamp + `","token":"` + token + `","signature":"` + flip(good) + `"}`), false},
		{"a bit of the token", key, signed(`{"timestamp":"` + stamp + `","token":"` + flip(token) + `","signature":"` + good + `"}`), false},
		{"another second", key, signed(`{"timestamp":"` + strconv.FormatInt(clock.Unix()+1, 10) + `","token":"` + token + `","signature":"` + good + `"}`), false},
		{"half a signature", key, signed(`{"timestamp":"` + stamp + `","token":"` + token + `","signature":"` + good[:32] + `"}`), false},
		{"an empty signature", key, signed(`{"timestamp":"` + stamp + `","token":"` + token + `","signature":""}`), false},
		{"no hex", key, signed(`{"timestamp":"` + stamp + `","token":"` + token + `","signature":"zz"}`), false},
		{"no token", key, signed(`{"timestamp":"` + stamp + `","token":"","signature":"` + sign(key, stamp, "") + `"}`), false},
		{"no signature at all", key, &webhook.Request{Body: []byte(`{"event-data":` + opened + `}`), Now: clock}, false},
		{"a signature that is no object", key, signed(`"x"`), false},
		{"a timestamp that is none", key, signed(`{"timestamp":"soon","token":"` + token + `","signature":"` + sign(key, "soon", token) + `"}`), false},
		{"no JSON", key, &webhook.Request{Body: []byte(`token=x&signature=y`), Now: clock}, false},
		{"the last attempt of eight hours", key, post(key, clock.Add(-8*time.Hour-20*time.Minute), token, opened), true},
		{"stale", key, post(key, clock.Add(-window-time.Second), token, opened), false},
		{"clocks that differ", key, post(key, clock.Add(4*time.Minute), token, opened), true},
		{"in the future", key, post(key, clock.Add(6*time.Minute), token, opened), false},
		{"far in the future", key, post(key, clock.Add(window+time.Hour), token, opened), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tt.keys)
			if err := s.Early(nil); err != nil {
				t.Errorf("Early: %v", err)
			}
			switch err := s.Verify(context.Background(), tt.r); {
			case tt.ok && err != nil:
				t.Error(err)
			case !tt.ok && !errors.Is(err, webhook.ErrUnverified):
				t.Errorf("got %v, want ErrUnverified", err)
			}
		})
	}
}

// TestDerivedVector compares with a signature that was not computed with this code.
func TestDerivedVector(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("TEMPISMO_DATA is not set: the signature vector is not at hand")
	}
	b, err := os.ReadFile(filepath.Join(data, "esp", "vectors", "mailgun", "vector.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Key       string `json:"signing_key"`
		Timestamp string
		Token     string
		Signature string
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"signature":{"timestamp":%q,"token":%q,"signature":%q},"event-data":%s}`, v.Timestamp, v.Token, v.Signature, opened)
	seconds, err := strconv.ParseInt(v.Timestamp, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, v.Key).Verify(context.Background(), &webhook.Request{Body: []byte(body), Now: time.Unix(seconds, 0)}); err != nil {
		t.Error(err)
	}
}

// TestTokens: what is attempted again is taken again, and a token is of no use for another event.
func TestTokens(t *testing.T) {
	s := open(t, key)
	verify := func(event string, later time.Duration) error {
		r := post(key, clock, token, event)
		r.Now = clock.Add(later)
		return s.Verify(context.Background(), r)
	}
	unsubscribed := strings.Replace(opened, "opened", "unsubscribed", 1)
	if err := verify(opened, 0); err != nil {
		t.Errorf("the first attempt: %v", err)
	}
	if err := verify(opened, 7*time.Hour+30*time.Minute); err != nil {
		t.Errorf("the last attempt: %v", err)
	}
	if err := verify(unsubscribed, time.Minute); !errors.Is(err, webhook.ErrUnverified) {
		t.Errorf("another event with the same token: got %v, want ErrUnverified", err)
	}
	if err := s.Verify(context.Background(), post(foreign, clock, "t2", unsubscribed)); !errors.Is(err, webhook.ErrUnverified) {
		t.Errorf("a foreign signature: got %v, want ErrUnverified", err)
	}
	if err := s.Verify(context.Background(), post(key, clock, "t2", opened)); err != nil {
		t.Errorf("a token that only a foreign signature has come with: %v", err)
	}
}

func TestTokensAreBounded(t *testing.T) {
	tokens := tokens{limit: 100}
	for i := range 1000 {
		if !tokens.belongs(strconv.Itoa(i), []byte("event"), clock) {
			t.Fatalf("token %d is new", i)
		}
		if n := len(tokens.young) + len(tokens.old); n > 2*tokens.limit {
			t.Fatalf("%d tokens are kept", n)
		}
	}
	if tokens.belongs("950", []byte("another"), clock) {
		t.Error("one of the last hundred tokens is forgotten")
	}
	if tokens.belongs("950", []byte("another"), clock.Add(window)) {
		t.Error("a token is forgotten while its signature is fresh")
	}
	tokens.belongs("new", []byte("event"), clock.Add(2*window))
	tokens.belongs("newer", []byte("event"), clock.Add(4*window))
	if !tokens.belongs("950", []byte("another"), clock.Add(4*window)) {
		t.Error("a token is kept long after its signature was fresh")
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || !(Config{Keys: key}).Enabled() {
		t.Error("the webhook is served if there is a key")
	}
	for _, keys := range []string{"", " , ", "short", key + ",short"} {
		if _, err := New(Config{Keys: config.Secret(keys)}); err == nil || !strings.Contains(err.Error(), "SIGNING_KEYS") {
			t.Errorf("keys %q: got %v, want an error that names SIGNING_KEYS", keys, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, tt := range events {
		f.Add([]byte(`{"event-data":` + tt.event + `}`))
	}
	for _, body := range webhooktest.Payloads(f, "mailgun") {
		f.Add(body)
	}
	s := open(f, key)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &webhook.Request{Body: body, Now: clock}
		if s.Verify(context.Background(), r) == nil {
			t.Fatal("a body that nobody has signed is verified")
		}
		elements, err := s.Read(r)
		if err == nil && len(elements) != 1 {
			t.Fatalf("%d elements", len(elements))
		}
		webhooktest.Check(t, elements)
		for _, x := range elements {
			if x.Event != nil && (x.Event.Kind == 0 || x.Event.Provider != "mailgun") {
				t.Fatalf("%+v", x.Event)
			}
		}
	})
}

// FuzzVerify: taken is an event with a token that the key has signed, by its own account or by its parent, not long ago; and with the same
// token no other event.
func FuzzVerify(f *testing.F) {
	now := strconv.FormatInt(clock.Unix(), 10)
	for _, tt := range events {
		f.Add(uint16(1), false, now, token, "-", []byte(tt.event))
	}
	for _, body := range webhooktest.Payloads(f, "mailgun") {
		f.Add(uint16(1), true, now, token, "-", body)
	}
	for _, off := range []time.Duration{-window - time.Second, -window, webhook.Tolerance, webhook.Tolerance + time.Second} {
		f.Add(uint16(1), false, strconv.FormatInt(clock.Add(off).Unix(), 10), token, "-", []byte(`{}`))
	}
	f.Add(uint16(2*77+1), false, now, token, "-", []byte(`{}`))
	f.Add(uint16(0), false, now, token, sign(other, now, token), []byte(`{}`))
	f.Add(uint16(0), false, now, token, "-", []byte(`{},"signature":{}`))
	f.Fuzz(func(t *testing.T, by uint16, parent bool, timestamp, token, signature string, event []byte) {
		for _, text := range []string{timestamp, token, signature} {
			if !utf8.ValidString(text) {
				return // no JSON holds it
			}
		}
		ours, others := sign(key, timestamp, token), sign(other, timestamp, token)
		above := ""
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			sum := webhook.Hex(ours)
			tamper.Bend(sum)
			if above = hex.EncodeToString(sum); !parent {
				signature = above
			}
		}
		body := func(event []byte) []byte {
			text, err := json.Marshal(map[string]any{
				"signature":  map[string]string{"timestamp": timestamp, "token": token, "signature": signature, "parent-signature": above},
				"event-data": json.RawMessage(event),
			})
			if err != nil {
				return event // which is no JSON, and then the whole is none
			}
			return text
		}
		fits := false
		for _, given := range []string{signature, above} {
			given = hex.EncodeToString(webhook.Hex(given))
			fits = fits || given == ours || given == others
		}
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		want := json.Valid(event) && fits && token != "" && signature != "" && err == nil && seconds >= clock.Add(-window).Unix() && seconds <= clock.Unix()+300
		s := open(t, key+","+other)
		if got := webhooktest.Verified(t, s, &webhook.Request{Method: "POST", Body: body(event), Now: clock}); got != want {
			t.Fatalf("verified: %v", got)
		}
		if want && webhooktest.Verified(t, s, &webhook.Request{Method: "POST", Body: body([]byte(`[` + string(event) + `]`)), Now: clock}) {
			t.Fatal("a token is good for two events")
		}
	})
}
