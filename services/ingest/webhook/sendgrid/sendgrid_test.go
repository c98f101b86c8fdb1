package sendgrid

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

// clock is the time of every test.
var clock = time.Date(2026, 12, 3, 9, 42, 0, 0, time.UTC)

// signer signs as SendGrid does.
type signer struct {
	key    *ecdsa.PrivateKey
	public string
}

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, publicText(t, &key.PublicKey)}
}

func publicText(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// sign makes a request of a body that was signed at a time.
func (s signer) sign(t testing.TB, at time.Time, body string) *webhook.Request {
	t.Helper()
	timestamp := strconv.FormatInt(at.Unix(), 10)
	digest := sha256.Sum256([]byte(timestamp + body))
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return request(timestamp, base64.StdEncoding.EncodeToString(signature), body)
}

func request(timestamp, signature, body string) *webhook.Request {
	h := http.Header{}
	h.Set(timestampHeader, timestamp)
	h.Set(signatureHeader, signature)
	return &webhook.Request{Method: http.MethodPost, Header: h, Body: []byte(body), Now: clock}
}

// open makes a Source of keys.
func open(t testing.TB, keys ...string) *Source {
	t.Helper()
	s, err := New(Config{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// one reads a body of one element.
func one(t testing.TB, body string) webhook.Element {
	t.Helper()
	elements, err := (&Source{}).Read(&webhook.Request{Body: []byte(body)})
	if err != nil || len(elements) != 1 {
		t.Fatalf("%d elements, %v", len(elements), err)
	}
	return elements[0]
}

func payload(event, more string) string {
	return `{"email":"Anna@Example.com","timestamp":1796290912,"event":"` + event + `","sg_event_id":"e1","sg_message_id":"m1.filter0.1"` + more + `}`
}

func TestEventsAreMapped(t *testing.T) {
	base := engagement.Event{
		ID: "sg-e1", Source: "/ingest/sendgrid", Subject: "anna@example.com", Time: time.Unix(1796290912, 0).UTC(),
		Channel: "email", Message: "m1.filter0.1", Provider: "sendgrid",
	}
	for _, tt := range []struct {
		name, body string
		want       func(*engagement.Event)
		machine    bool
		address    string
	}{
		{"processed is sent", payload("processed", ""), func(e *engagement.Event) { e.Kind = engagement.Sent }, false, ""},
		{"delivered", payload("delivered", ""), func(e *engagement.Event) { e.Kind = engagement.Delivered }, false, ""},
		{"an open in a browser", payload("open", `,"useragent":"Mozilla/5.0 Firefox/140.0","ip":"192.0.2.1"`), func(e *engagement.Event) {
			e.Kind, e.UserAgent = engagement.Open, "Mozilla/5.0 Firefox/140.0"
		}, false, "192.0.2.1"},
		{"an open whose address is none", payload("open", `,"ip":"unknown"`), func(e *engagement.Event) { e.Kind = engagement.Open }, false, ""},
		{"an open that SendGrid calls a machine's", payload("open", `,"sg_machine_open":true`), func(e *engagement.Event) { e.Kind = engagement.Open }, true, ""},
		{"an open that SendGrid does not call a machine's", payload("open", `,"sg_machine_open":false`), func(e *engagement.Event) { e.Kind = engagement.Open }, false, ""},
		{"a click", payload("click", `,"url":"https://example.com/?a=1&b=2","url_offset":{"index":0,"type":"html"}`), func(e *engagement.Event) {
			e.Kind, e.Link = engagement.Click, "https://example.com/?a=1&b=2"
		}, false, ""},
		{"bounce", payload("bounce", `,"type":"blocked"`), func(e *engagement.Event) { e.Kind = engagement.Bounce }, false, ""},
		{"dropped is a bounce", payload("dropped", ""), func(e *engagement.Event) { e.Kind = engagement.Bounce }, false, ""},
		{"spamreport is a complaint", payload("spamreport", ""), func(e *engagement.Event) { e.Kind = engagement.Complaint }, false, ""},
		{"unsubscribe", payload("unsubscribe", ""), func(e *engagement.Event) { e.Kind = engagement.Unsubscribe }, false, ""},
		{"group_unsubscribe, even by a machine", payload("group_unsubscribe", `,"useragent":"Mozilla/5.0","asm_group_id":10`), func(e *engagement.Event) {
			e.Kind, e.UserAgent = engagement.Unsubscribe, "Mozilla/5.0"
		}, false, ""},
		{"a customer id goes before the address", payload("delivered", `,"customer_id":"C-20417","Email":"else@example.com"`), func(e *engagement.Event) {
			e.Kind, e.Subject = engagement.Delivered, "C-20417"
		}, false, ""},
		{"a customer id may be a number", payload("delivered", `,"customer_id":20417`), func(e *engagement.Event) { e.Kind, e.Subject = engagement.Delivered, "20417" }, false, ""},
		{"the first category is the campaign", payload("delivered", `,"category":["weekly","edit"]`), func(e *engagement.Event) {
			e.Kind, e.Campaign = engagement.Delivered, "weekly"
		}, false, ""},
		{"a campaign goes before a category", payload("delivered", `,"campaign":"spring","category":"weekly","zone":"Europe/Rome"`), func(e *engagement.Event) {
			e.Kind, e.Campaign, e.Zone = engagement.Delivered, "spring", "Europe/Rome"
		}, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := base
			tt.want(&want)
			got := one(t, "["+tt.body+"]\r\n")
			if got.Err != nil || got.Ignored != "" || got.Event == nil || *got.Event != want {
				t.Errorf("got  %+v (%q, %v)\nwant %+v", got.Event, got.Ignored, got.Err, want)
			}
			address, _ := netip.ParseAddr(tt.address)
			if got.Machine != tt.machine || got.Address != address || string(got.Raw) != tt.body {
				t.Errorf("machine %v, address %v, raw %s", got.Machine, got.Address, got.Raw)
			}
		})
	}
}

func TestWhatIsNoEngagementIsIgnored(t *testing.T) {
	for _, name := range []string{"deferred", "group_resubscribe", "account_status_change", "an event that SendGrid adds"} {
		if got := one(t, `[{"event":"`+name+`","unknown":{"a":[1]}}]`); got.Ignored != name || got.Event != nil || got.Err != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestMistakesAreNamedAndTheOthersAreRead(t *testing.T) {
	good := payload("open", "")
	for _, tt := range []struct{ name, body, field string }{
		{"no event", `{"email":"a@example.com"}`, "event"},
		{"an event that is no string", `{"event":true}`, "event"},
		{"no object", `1`, ""},
		{"nothing", `null`, ""},
		{"no timestamp", `{"event":"open","email":"a@example.com","sg_event_id":"e1"}`, "timestamp"},
		{"a timestamp in words", strings.Replace(good, "1796290912", `"soon"`, 1), "timestamp"},
		{"milliseconds", strings.Replace(good, "1796290912", "1796290912000", 1), "timestamp"},
		{"no id", strings.Replace(good, `"e1"`, `""`, 1), "sg_event_id"},
		{"nobody", strings.Replace(good, `"Anna@Example.com"`, "null", 1), "email"},
		{"an empty address", strings.Replace(good, "Anna@Example.com", " ", 1), "customer_id or email"},
		{"an address that is no string", strings.Replace(good, `"Anna@Example.com"`, `{}`, 1), "email"},
		{"a long address", strings.Replace(good, "Anna", strings.Repeat("anna", 100), 1), "customer_id or email"},
		{"a message with a control character", strings.Replace(good, "m1.filter0.1", `m\u0000`, 1), "sg_message_id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			elements, err := (&Source{}).Read(&webhook.Request{Body: []byte("[" + good + "," + tt.body + "," + good + "]")})
			if err != nil || len(elements) != 3 || elements[0].Event == nil || elements[2].Event == nil {
				t.Fatalf("%+v, %v", elements, err)
			}
			var wrong *engagement.FieldError
			if !errors.As(elements[1].Err, &wrong) || wrong.Field != tt.field || wrong.Reason == "" || elements[1].Event != nil || string(elements[1].Raw) != tt.body {
				t.Errorf("got %+v, want field %q", elements[1], tt.field)
			}
		})
	}
}

func TestABodyThatIsNone(t *testing.T) {
	for _, body := range []string{"", "event=open", `"open"`, `[{"event":"open"}`} {
		if elements, err := (&Source{}).Read(&webhook.Request{Body: []byte(body)}); err == nil {
			t.Errorf("%q: %+v", body, elements)
		}
	}
}

func TestSignatures(t *testing.T) {
	old, current, stranger := newSigner(t), newSigner(t), newSigner(t)
	s := open(t, old.public, " "+current.public+"\n")
	body := "[" + payload("open", "") + "]\r\n"
	with := func(r *webhook.Request, key, value string) *webhook.Request {
		r.Header.Set(key, value)
		return r
	}
	of := func(r *webhook.Request, body string) *webhook.Request {
		r.Body = []byte(body)
		return r
	}
	flipped := func(r *webhook.Request) *webhook.Request {
		signature := webhook.Base64(r.Header.Get(signatureHeader))
		signature[len(signature)-1] ^= 1
		return with(r, signatureHeader, base64.StdEncoding.EncodeToString(signature))
	}
	for _, tt := range []struct {
		name        string
		request     *webhook.Request
		early, fits bool
	}{
		{"the current key", current.sign(t, clock, body), true, true},
		{"the old key while both are known", old.sign(t, clock, body), true, true},
		{"a signature of five minutes ago", current.sign(t, clock.Add(-300*time.Second), body), true, true},
		{"somebody else's key", stranger.sign(t, clock, body), true, false},
		{"a tampered body", of(current.sign(t, clock, body), strings.Replace(body, "Anna", "Otto", 1)), true, false},
		{"a bit of the signature", flipped(current.sign(t, clock, body)), true, false},
		{"a body without its last line end", of(current.sign(t, clock, body), strings.TrimSpace(body)), true, false},
		{"a stale timestamp", current.sign(t, clock.Add(-301*time.Second), body), true, false},
		{"a timestamp ahead", current.sign(t, clock.Add(301*time.Second), body), true, false},
		{"a fresh timestamp on an old signature", with(current.sign(t, clock.Add(-time.Hour), body), timestampHeader, strconv.FormatInt(clock.Unix(), 10)), true, false},
		{"no signature", with(current.sign(t, clock, body), signatureHeader, ""), false, false},
		{"no timestamp", with(current.sign(t, clock, body), timestampHeader, ""), false, false},
		{"a signature that is not base64", with(current.sign(t, clock, body), signatureHeader, "%"), true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := s.Early(tt.request.Header); (err == nil) != tt.early || err != nil && !errors.Is(err, webhook.ErrUnverified) {
				t.Errorf("early: %v", err)
			}
			if err := s.Verify(context.Background(), tt.request); (err == nil) != tt.fits || err != nil && !errors.Is(err, webhook.ErrUnverified) {
				t.Errorf("verify: %v", err)
			}
		})
	}
}

func TestKeysThatAreNoneAreNamed(t *testing.T) {
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{Keys: []string{"%", "AAAA", newSigner(t).public, publicText(t, &foreign.PublicKey), publicText(t, &other.PublicKey)}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"PUBLIC_KEYS: key 1 is not base64", "key 2 is not a public key", "key 4 is not an ECDSA key on P-256", "key 5 is not an ECDSA key on P-256"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if (Config{}).Enabled() || !(Config{Keys: []string{"k"}}).Enabled() {
		t.Error("the webhook is served where there are keys")
	}
	if _, err := New(Config{}); err == nil {
		t.Error("without keys anybody could sign")
	}
}

// SendGrid's own vectors, which are old, at their own time.
func TestVectors(t *testing.T) {
	dir := filepath.Join(dataFolder(t), "esp", "vectors", "sendgrid")
	b, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name      string `json:"name"`
			Key       string `json:"public_key_b64"`
			Timestamp string `json:"timestamp"`
			Signature string `json:"signature_b64"`
			Body      string `json:"body_file"`
		} `json:"vectors"`
	}
	if err := json.Unmarshal(b, &file); err != nil || len(file.Vectors) == 0 {
		t.Fatalf("%d vectors, %v", len(file.Vectors), err)
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join(dir, v.Body))
			if err != nil {
				t.Fatal(err)
			}
			seconds, err := strconv.ParseInt(v.Timestamp, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			s, r := open(t, v.Key), request(v.Timestamp, v.Signature, string(body))
			r.Now = time.Unix(seconds, 0)
			if err := s.Verify(t.Context(), r); err != nil {
				t.Error(err)
			}
			r.Now = clock
			if err := s.Verify(t.Context(), r); err == nil {
				t.Error("a stale timestamp is accepted")
			}
			r.Now, r.Body = time.Unix(seconds, 0), append(r.Body, ' ')
			if err := s.Verify(t.Context(), r); err == nil {
				t.Error("a tampered body is accepted")
			}
		})
	}
}

// Payloads as others have recorded them: each is either mapped or ignored, none is refused.
func TestRecordedPayloads(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(dataFolder(t), "esp", "anymail", "sendgrid", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payloads: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := one(t, string(body))
			if ignored := strings.Contains(string(body), `"deferred"`); got.Err != nil || (got.Ignored != "") != ignored || (got.Event == nil) != ignored {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// FuzzRead: whatever is signed, reading never panics, each element is exactly one of three, and what is mapped is a valid event.
func FuzzRead(f *testing.F) {
	f.Add("[" + payload("open", `,"category":["a"],"sg_machine_open":true,"ip":"2001:db8::1"`) + "," + payload("deferred", "") + ",1]")
	f.Add(payload("click", `,"category":[],"customer_id":-1,"url":null`))
	for _, body := range webhooktest.Payloads(f, "sendgrid") {
		f.Add(string(body))
	}
	f.Add(`[{"event":"open","timestamp":1e9,"sg_event_id":"x","email":"é\u0000"}]`)
	f.Fuzz(func(t *testing.T, body string) {
		elements, err := (&Source{}).Read(&webhook.Request{Body: []byte(body)})
		if err != nil {
			return
		}
		for i, x := range elements {
			set := 0
			for _, is := range []bool{x.Event != nil, x.Ignored != "", x.Err != nil} {
				if is {
					set++
				}
			}
			if set != 1 || len(x.Raw) == 0 {
				t.Fatalf("element %d: %+v", i, x)
			}
			if x.Event == nil {
				continue
			}
			if err := x.Event.Validate(); err != nil {
				t.Fatal(err)
			}
			var again engagement.Event
			if b := x.Event.Append(nil); len(b) <= engagement.MaxEvent {
				if err := again.Parse(b); err != nil {
					t.Fatalf("%s: %v", b, err)
				}
			}
		}
	})
}

func dataFolder(t testing.TB) string {
	dir := os.Getenv("TEMPISMO_DATA")
	if dir == "" {
		t.Skip("TEMPISMO_DATA is not set: the vectors of others are not checked")
	}
	return dir
}

// FuzzVerify: taken are requests that the key has signed, lately, and no others.
func FuzzVerify(f *testing.F) {
	now := strconv.FormatInt(clock.Unix(), 10)
	for _, body := range webhooktest.Payloads(f, "sendgrid") {
		f.Add(uint16(1), now, "", body)
	}
	f.Add(uint16(1), now, "", []byte("["+payload("open", "")+",\r\n"+payload("deferred", "")+"]\r\n"))
	for _, off := range []int64{-301, -300, 300, 301} {
		f.Add(uint16(1), strconv.FormatInt(clock.Unix()+off, 10), "", []byte("[]"))
	}
	f.Add(uint16(2*77+1), now, "", []byte("[]"))
	f.Add(uint16(0), now, "MAYCAQECAQE=", []byte("[]"))
	signer := newSigner(f)
	s := open(f, publicText(f, &newSigner(f).key.PublicKey), publicText(f, &signer.key.PublicKey))
	f.Fuzz(func(t *testing.T, by uint16, timestamp, signature string, body []byte) {
		digest := sha256.Sum256(append([]byte(timestamp), body...))
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			sum, err := ecdsa.SignASN1(rand.Reader, signer.key, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			tamper.Bend(sum)
			signature = base64.StdEncoding.EncodeToString(sum)
		}
		var pair struct{ R, S *big.Int }
		rest, err := asn1.Unmarshal(webhook.Base64(signature), &pair)
		fits := err == nil && len(rest) == 0 && ecdsa.Verify(&signer.key.PublicKey, digest[:], pair.R, pair.S)
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		want := fits && err == nil && seconds >= clock.Unix()-300 && seconds <= clock.Unix()+300
		if got := webhooktest.Verified(t, s, request(timestamp, signature, string(body))); got != want {
			t.Fatalf("verified: %v", got)
		}
	})
}
