package ingest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

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
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, base64.StdEncoding.EncodeToString(der)}
}

func (s signer) sign(t testing.TB, at time.Time, body string) map[string]string {
	t.Helper()
	timestamp := strconv.FormatInt(at.Unix(), 10)
	digest := sha256.Sum256([]byte(timestamp + body))
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"Content-Type": "application/json", timestampHeader: timestamp, signatureHeader: base64.StdEncoding.EncodeToString(signature)}
}

const sendGridPath = "/v1/webhooks/sendgrid"

func sendGridEvent(event, more string) string {
	return `{"email":"Anna@Example.com","timestamp":1796290912,"event":"` + event + `","sg_event_id":"e1","sg_message_id":"m1.filter0.1"` + more + `}`
}

func TestSendGridEventsAreMapped(t *testing.T) {
	base := engagement.Event{
		ID: "sg-e1", Source: "/ingest/sendgrid", Subject: "anna@example.com", Time: time.Unix(1796290912, 0).UTC(),
		Channel: "email", Message: "m1.filter0.1", Provider: "sendgrid",
	}
	for _, tt := range []struct {
		name, body string
		want       func(*engagement.Event)
	}{
		{"processed is sent", sendGridEvent("processed", ""), func(e *engagement.Event) { e.Kind = engagement.Sent }},
		{"delivered", sendGridEvent("delivered", ""), func(e *engagement.Event) { e.Kind = engagement.Delivered }},
		{"an open in a browser", sendGridEvent("open", `,"useragent":"Mozilla/5.0 Firefox/140.0","ip":"192.0.2.1"`), func(e *engagement.Event) {
			e.Kind, e.UserAgent = engagement.Open, "Mozilla/5.0 Firefox/140.0"
		}},
		{"an open that SendGrid calls a machine's", sendGridEvent("open", `,"sg_machine_open":true`), func(e *engagement.Event) {
			e.Kind, e.Actor, e.ActorRule = engagement.Open, engagement.Machine, engagement.RuleProvider
		}},
		{"an open that SendGrid does not call a machine's", sendGridEvent("open", `,"sg_machine_open":false`), func(e *engagement.Event) { e.Kind = engagement.Open }},
		{"an open with a machine's agent", sendGridEvent("open", `,"useragent":"Mozilla/5.0"`), func(e *engagement.Event) {
			e.Kind, e.Actor, e.ActorRule, e.UserAgent = engagement.Open, engagement.Machine, engagement.RuleUserAgent, "Mozilla/5.0"
		}},
		{"a click", sendGridEvent("click", `,"url":"https://example.com/?a=1&b=2","url_offset":{"index":0,"type":"html"}`), func(e *engagement.Event) {
			e.Kind, e.Link = engagement.Click, "https://example.com/?a=1&b=2"
		}},
		{"bounce", sendGridEvent("bounce", `,"type":"blocked"`), func(e *engagement.Event) { e.Kind = engagement.Bounce }},
		{"dropped is a bounce", sendGridEvent("dropped", ""), func(e *engagement.Event) { e.Kind = engagement.Bounce }},
		{"spamreport is a complaint", sendGridEvent("spamreport", ""), func(e *engagement.Event) { e.Kind = engagement.Complaint }},
		{"unsubscribe", sendGridEvent("unsubscribe", ""), func(e *engagement.Event) { e.Kind = engagement.Unsubscribe }},
		{"group_unsubscribe, even by a machine", sendGridEvent("group_unsubscribe", `,"useragent":"Mozilla/5.0","asm_group_id":10`), func(e *engagement.Event) {
			e.Kind, e.UserAgent = engagement.Unsubscribe, "Mozilla/5.0"
		}},
		{"a customer id goes before the address", sendGridEvent("delivered", `,"customer_id":"C-20417","Email":"else@example.com"`), func(e *engagement.Event) {
			e.Kind, e.Subject = engagement.Delivered, "C-20417"
		}},
		{"a customer id may be a number", sendGridEvent("delivered", `,"customer_id":20417`), func(e *engagement.Event) { e.Kind, e.Subject = engagement.Delivered, "20417" }},
		{"the first category is the campaign", sendGridEvent("delivered", `,"category":["weekly","edit"]`), func(e *engagement.Event) {
			e.Kind, e.Campaign = engagement.Delivered, "weekly"
		}},
		{"a campaign goes before a category", sendGridEvent("delivered", `,"campaign":"spring","category":"weekly","zone":"Europe/Rome"`), func(e *engagement.Event) {
			e.Kind, e.Campaign, e.Zone = engagement.Delivered, "spring", "Europe/Rome"
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := base
			tt.want(&want)
			key := newSigner(t)
			r := newRig(t, Config{SendGrid: SendGrid{Keys: []string{key.public}}})
			body := "[" + tt.body + "]\r\n"
			if response := r.send(sendGridPath, key.sign(t, clock, body), body); response.StatusCode != http.StatusAccepted {
				t.Fatalf("got status %d: %+v", response.StatusCode, r.problem(response))
			}
			events := r.events(liveTopic)
			if len(events) != 1 {
				t.Fatalf("%d events, want 1", len(events))
			}
			got := events[0]
			got.Trace = ""
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestSendGridEventsThatAreNoEngagementAreAcknowledged(t *testing.T) {
	key := newSigner(t)
	r := newRig(t, Config{SendGrid: SendGrid{Keys: []string{key.public}}})
	body := "[" + sendGridEvent("deferred", "") + "," + sendGridEvent("open", "") + "," + sendGridEvent("group_resubscribe", "") + `,{"event":"account_status_change"}]`
	response := r.send(sendGridPath, key.sign(t, clock, body), body)
	var answer struct{ Accepted, Ignored int }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusAccepted || answer.Accepted != 1 || answer.Ignored != 3 {
		t.Errorf("got status %d, %+v, %v", response.StatusCode, answer, err)
	}
}

func TestSendGridMistakesAreNamed(t *testing.T) {
	good := sendGridEvent("open", "")
	for _, tt := range []struct {
		name, body string
		index      int
		field      string
	}{
		{"no event", `{"email":"a@example.com"}`, 0, "event"},
		{"an event that is no string", good + `,{"event":true}`, 1, "event"},
		{"no timestamp", `{"event":"open","email":"a@example.com","sg_event_id":"e1"}`, 0, "timestamp"},
		{"milliseconds", strings.Replace(good, "1796290912", "1796290912000", 1), 0, "timestamp"},
		{"a timestamp ahead, behind one that is ignored", sendGridEvent("deferred", "") + "," + strings.Replace(good, "1796290912", "1796299999", 1), 1, "timestamp"},
		{"no id", strings.Replace(good, `"e1"`, `""`, 1), 0, "sg_event_id"},
		{"nobody", strings.Replace(good, "Anna@Example.com", " ", 1), 0, "customer_id or email"},
		{"an address that is no string", strings.Replace(good, `"Anna@Example.com"`, `{}`, 1), 0, "email"},
		{"a long address", strings.Replace(good, "Anna", strings.Repeat("anna", 100), 1), 0, "customer_id or email"},
		{"a zone that does not exist", sendGridEvent("open", `,"zone":"Rome"`), 0, "zone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := newSigner(t)
			r := newRig(t, Config{SendGrid: SendGrid{Keys: []string{key.public}}})
			body := "[" + tt.body + "]"
			response := r.send(sendGridPath, key.sign(t, clock, body), body)
			p := r.problem(response)
			if response.StatusCode != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Field != tt.field || p.Errors[0].Index != tt.index || p.Errors[0].Reason == "" {
				t.Errorf("got status %d, %+v; want field %q of event %d", response.StatusCode, p, tt.field, tt.index)
			}
			if n := len(r.events(liveTopic)); n != 0 {
				t.Errorf("%d events were appended nevertheless", n)
			}
		})
	}
}

func TestSendGridSignatures(t *testing.T) {
	old, current, stranger := newSigner(t), newSigner(t), newSigner(t)
	r := newRig(t, Config{SendGrid: SendGrid{Keys: []string{old.public, current.public}}})
	body := "[" + sendGridEvent("open", "") + "]\r\n"
	with := func(header map[string]string, key, value string) map[string]string {
		header[key] = value
		return header
	}
	for _, tt := range []struct {
		name   string
		header map[string]string
		body   string
		want   int
	}{
		{"the current key", current.sign(t, clock, body), body, 202},
		{"the old key while both are known", old.sign(t, clock, body), body, 202},
		{"a signature of five minutes ago", current.sign(t, clock.Add(-300*time.Second), body), body, 202},
		{"somebody else's key", stranger.sign(t, clock, body), body, 401},
		{"a tampered body", current.sign(t, clock, body), strings.Replace(body, "Anna", "Otto", 1), 401},
		{"a body without its last line end", current.sign(t, clock, body), strings.TrimSpace(body), 401},
		{"a stale timestamp", current.sign(t, clock.Add(-301*time.Second), body), body, 401},
		{"a timestamp ahead", current.sign(t, clock.Add(301*time.Second), body), body, 401},
		{"a fresh timestamp on an old signature", with(current.sign(t, clock.Add(-time.Hour), body), timestampHeader, strconv.FormatInt(clock.Unix(), 10)), body, 401},
		{"no signature", with(current.sign(t, clock, body), signatureHeader, ""), body, 401},
		{"no timestamp", with(current.sign(t, clock, body), timestampHeader, ""), body, 401},
		{"a signature that is not base64", with(current.sign(t, clock, body), signatureHeader, "%"), body, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if response := r.send(sendGridPath, tt.header, tt.body); response.StatusCode != tt.want {
				t.Errorf("got status %d, want %d", response.StatusCode, tt.want)
			}
		})
	}
}

func TestSendGridIsNotServedWithoutKeys(t *testing.T) {
	r := newRig(t, Config{})
	recorder := httptest.NewRecorder()
	r.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, sendGridPath, strings.NewReader("[]")))
	if recorder.Code != http.StatusNotFound {
		t.Errorf("got status %d", recorder.Code)
	}
}

// SendGrid's own vectors, which are old, at their own time.
func TestSendGridVectors(t *testing.T) {
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
			keys, err := publicKeys([]string{v.Key})
			if err != nil {
				t.Fatal(err)
			}
			seconds, err := strconv.ParseInt(v.Timestamp, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			s := &server{keys: keys, now: func() time.Time { return time.Unix(seconds, 0) }}
			header := http.Header{}
			header.Set(timestampHeader, v.Timestamp)
			header.Set(signatureHeader, v.Signature)
			if err := s.verify(header, body); err != nil {
				t.Error(err)
			}
			if err := s.verify(header, append(body, ' ')); err == nil {
				t.Error("a tampered body is accepted")
			}
			s.now = func() time.Time { return clock }
			if err := s.verify(header, body); err == nil {
				t.Error("a stale timestamp is accepted")
			}
		})
	}
}

// Payloads as others have recorded them: each is either mapped or ignored, none is refused.
func TestSendGridRecordedPayloads(t *testing.T) {
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
			key := newSigner(t)
			r := newRig(t, Config{SendGrid: SendGrid{Keys: []string{key.public}}})
			if response := r.send(sendGridPath, key.sign(t, clock, string(body)), string(body)); response.StatusCode != http.StatusAccepted {
				t.Fatalf("got status %d: %+v", response.StatusCode, r.problem(response))
			}
			want := 1
			if strings.Contains(string(body), `"deferred"`) {
				want = 0
			}
			if n := len(r.events(liveTopic)); n != want {
				t.Errorf("%d events, want %d", n, want)
			}
		})
	}
}

// FuzzSendGrid: whatever is signed, mapping never panics, and what it maps is a valid event.
func FuzzSendGrid(f *testing.F) {
	f.Add(sendGridEvent("open", `,"category":["a"],"sg_machine_open":true`))
	f.Add(sendGridEvent("click", `,"category":[],"customer_id":-1,"url":null`))
	f.Add(`{"event":"open","timestamp":1e9,"sg_event_id":"x","email":"é\u0000"}`)
	f.Fuzz(func(t *testing.T, body string) {
		var members map[string]json.RawMessage
		if json.Unmarshal([]byte(body), &members) != nil {
			return
		}
		e, ok, err := fromSendGrid(members)
		if err != nil || !ok {
			return
		}
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		var again engagement.Event
		if b := e.Append(nil); len(b) <= engagement.MaxEvent {
			if err := again.Parse(b); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
		}
	})
}
