package customerio

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

const key, next = "755781b5e03a973f3405a85474d5a032a60fd56fabaad66039b12eadd83955fa", "55781b5e03a973f3405a85474d5a032a60fd56fabaad66039b12eadd83955fa7"

var clock = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func newSource(t testing.TB, keys string) *Source {
	t.Helper()
	s, err := New(Config{Keys: config.Secret(keys)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signed is a request as Customer.io signs it.
func signed(key, body string, at time.Time) *webhook.Request {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("v0:" + timestamp + ":" + body))
	h := http.Header{}
	h.Set(signatureHeader, hex.EncodeToString(mac.Sum(nil)))
	h.Set(timestampHeader, timestamp)
	return &webhook.Request{Method: http.MethodPost, Header: h, Body: []byte(body), Now: clock}
}

func TestSignatures(t *testing.T) {
	const body = `{"event_id":"e1","object_type":"email","metric":"sent"}`
	for _, tt := range []struct {
		name string
		keys string
		by   string
		at   time.Time
		bend func(*webhook.Request)
		want string // part of the error; empty: verified
	}{
		{name: "good"},
		{name: "the new key during an exchange", keys: key + ", " + next, by: next},
		{name: "the old key during an exchange", keys: key + ", " + next, by: key},
		{name: "a foreign key", by: next, want: "does not fit"},
		{name: "a bit of the body", bend: func(r *webhook.Request) { r.Body[3] ^= 1 }, want: "does not fit"},
		{name: "a bit of the signature", bend: func(r *webhook.Request) {
			raw := webhook.Hex(r.Header.Get(signatureHeader))
			raw[0] ^= 1
			r.Header.Set(signatureHeader, hex.EncodeToString(raw))
		}, want: "does not fit"},
		{name: "another time", bend: func(r *webhook.Request) { r.Header.Set(timestampHeader, strconv.FormatInt(clock.Unix()-1, 10)) }, want: "does not fit"},
		{name: "no hexadecimal", bend: func(r *webhook.Request) { r.Header.Set(signatureHeader, "xyz") }, want: "does not fit"},
		{name: "almost stale", at: clock.Add(-5 * time.Minute)},
		{name: "stale", at: clock.Add(-5*time.Minute - time.Second), want: "clocks"},
		{name: "from the future", at: clock.Add(5*time.Minute + time.Second), want: "clocks"},
		{name: "no signature", bend: func(r *webhook.Request) { r.Header.Del(signatureHeader) }, want: signatureHeader},
		{name: "no time", bend: func(r *webhook.Request) { r.Header.Del(timestampHeader) }, want: timestampHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.keys == "" {
				tt.keys = key
			}
			if tt.by == "" {
				tt.by = key
			}
			if tt.at.IsZero() {
				tt.at = clock
			}
			r := signed(tt.by, body, tt.at)
			if tt.bend != nil {
				tt.bend(r)
			}
			err := newSource(t, tt.keys).Verify(context.Background(), r)
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, webhook.ErrUnverified) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || !(Config{Keys: key}).Enabled() {
		t.Error("enabled is whether there is a key")
	}
	for _, keys := range []config.Secret{"", " , ", "short", key + ",short"} {
		if _, err := New(Config{Keys: keys}); err == nil || !strings.Contains(err.Error(), "SIGNING_KEYS") {
			t.Errorf("%q: got %v", string(keys), err)
		}
	}
}

func event(objectType, metric, data string) string {
	return `{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","object_type":"` + objectType + `","metric":"` + metric + `","timestamp":1796290912,"data":{` + data + `}}`
}

const person = `"customer_id":"C-20417","delivery_id":"RPILAgUBcRhIBqSbvEZotk16z5A=","recipient":"Anna@Example.com","identifiers":{"id":"C-20417","email":"Anna@Example.com","cio_id":"d9c1"}`

var own = []struct{ name, body string }{
	{"sent", event("email", "sent", person+`,"campaign_id":12,"subject":"hello"`)},
	{"delivered", event("email", "delivered", person+`,"newsletter_id":7`)},
	{"opened", event("email", "opened", person+`,"broadcast_id":8,"proxied":true,"prefetched":false`)},
	{"opened by a machine", event("email", "opened", person+`,"transactional_message_id":3,"proxied":true,"prefetched":true`)},
	{"clicked", event("email", "clicked", person+`,"href":"https://example.com/?a=1&b=2","link_id":1,"machine":false`)},
	{"clicked by a machine", event("email", "clicked", person+`,"href":"https://example.com/","machine":true`)},
	{"bounced", event("email", "bounced", person+`,"failure_message":"550 5.1.1"`)},
	{"dropped", event("email", "dropped", person)},
	{"failed", event("email", "failed", person)},
	{"attempted, to be tried again", event("email", "attempted", person+`,"failure_message":"451 4.7.1"`)},
	{"undeliverable", event("email", "undeliverable", person)},
	{"spammed", event("email", "spammed", person)},
	{"unsubscribed by a link", event("email", "unsubscribed", person)},
	{"a person unsubscribed", event("customer", "unsubscribed", `"customer_id":"C-20417","email_address":"Anna@Example.com"`)},
	{"a person subscribed", event("customer", "subscribed", `"customer_id":"C-20417"`)},
	{"left a topic", event("customer", "cio_subscription_preferences_changed", `"customer_id":"C-20417","content":"{\"topics\":{\"topic_7\":false,\"topic_8\":true}}"`)},
	{"left two channels", event("customer", "cio_subscription_preferences_changed", `"customer_id":"C-20417","content":"{\"channels\":{\"sms\":false,\"email\":false,\"push\":true}}"`)},
	{"came back to all", event("customer", "cio_subscription_preferences_changed", `"customer_id":"C-20417","content":"{\"topics\":{\"topic_7\":true}}"`)},
	{"preferences that cannot be read", event("customer", "cio_subscription_preferences_changed", `"customer_id":"C-20417","content":"7"`)},
	{"sms clicked, no id", event("sms", "clicked", `"delivery_id":"d","recipient":"+390212345","href":"https://example.com/"`)},
	{"sms replied", event("sms", "replied", `"customer_id":42,"delivery_id":"d"`)},
	{"push opened", event("push", "opened", `"customer_id":"42","delivery_id":"d","recipients":[{"device_id":"x"}]`)},
	{"slack is not a customer's", event("slack", "sent", person)},
	{"before sending", event("email", "drafted", person)},
	{"a goal", event("email", "converted", person)},
	{"an unknown metric", event("email", "teleported", person)},
	{"the address where there is no id", event("email", "sent", `"customer_id":null,"identifiers":{"id":null,"email":" Anna@Example.com "},"delivery_id":"d"`)},
	{"no event id", `{"object_type":"email","metric":"sent","timestamp":1796290912,"data":{` + person + `}}`},
	{"unknown fields", `{"new":[1],` + event("email", "sent", `"newer":{"a":null},`+person)[1:]},
	{"nobody", event("email", "sent", `"delivery_id":"d"`)},
	{"no time", `{"event_id":"e","object_type":"email","metric":"sent","data":{` + person + `}}`},
	{"milliseconds", `{"event_id":"e","object_type":"email","metric":"sent","timestamp":1796290912000,"data":{` + person + `}}`},
	{"no metric", `{"object_type":"email"}`},
	{"no object type", `{"metric":"sent"}`},
	{"data is a list", `{"object_type":"email","metric":"sent","timestamp":1796290912,"data":[]}`},
	{"a bad one among good ones", `[` + event("email", "sent", person) + `,7,` + event("email", "opened", person) + `]`},
}

func TestEventsAreMapped(t *testing.T) {
	s := newSource(t, key)
	var b strings.Builder
	for _, tt := range own {
		all, err := s.Read(signed(key, tt.body, clock))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		for _, e := range all {
			if len(e.Raw) == 0 {
				t.Errorf("%s: an element is not kept as it came", tt.name)
			}
		}
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(all, err))
	}
	webhooktest.Golden(t, "own.golden", b.String())
	for _, body := range []string{"", "{", `"x"`} {
		if _, err := s.Read(signed(key, body, clock)); err == nil {
			t.Errorf("%q was read", body)
		}
	}
}

// FuzzRead: whatever is reported, each element is one thing, and every event is valid.
func FuzzRead(f *testing.F) {
	for _, tt := range own {
		f.Add(tt.body)
	}
	s := newSource(f, key)
	f.Fuzz(func(t *testing.T, body string) {
		all, err := s.Read(&webhook.Request{Body: []byte(body), Now: clock})
		if err != nil {
			return
		}
		webhooktest.Check(t, all)
	})
}

// FuzzVerify: taken are requests that one of the keys has signed, lately, and no others.
func FuzzVerify(f *testing.F) {
	for _, tt := range own {
		f.Add(uint16(1), strconv.FormatInt(clock.Unix(), 10), "", []byte(tt.body))
	}
	good := signed(next, `{}`, clock)
	f.Add(uint16(0), good.Header.Get(timestampHeader), good.Header.Get(signatureHeader), good.Body)
	for _, off := range []int64{-301, -300, 300, 301} {
		f.Add(uint16(1), strconv.FormatInt(clock.Unix()+off, 10), "", []byte(`{}`))
	}
	f.Add(uint16(2*77+1), good.Header.Get(timestampHeader), "", []byte(`{}`))
	s := newSource(f, key+","+next)
	f.Fuzz(func(t *testing.T, by uint16, timestamp, signature string, body []byte) {
		mac := func(key string) []byte {
			h := hmac.New(sha256.New, []byte(key))
			h.Write([]byte("v0:" + timestamp + ":" + string(body)))
			return h.Sum(nil)
		}
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			sum := mac(key)
			tamper.Bend(sum)
			signature = hex.EncodeToString(sum)
		}
		given := webhook.Hex(signature)
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		want := (bytes.Equal(given, mac(key)) || bytes.Equal(given, mac(next))) && err == nil && seconds >= clock.Unix()-300 && seconds <= clock.Unix()+300
		h := http.Header{}
		h.Set(signatureHeader, signature)
		h.Set(timestampHeader, timestamp)
		if got := webhooktest.Verified(t, s, &webhook.Request{Method: http.MethodPost, Header: h, Body: body, Now: clock}); got != want {
			t.Fatalf("verified: %v", got)
		}
	})
}
