package ses

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tempismo/tempismo/pkg/outbound"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

const (
	topicArn = "arn:aws:sns:eu-south-1:123456789012:mail"
	certURL  = "https://sns.eu-south-1.amazonaws.com/SimpleNotificationService-0123.pem"
)

var clock = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// authority signs as SNS does.
type authority struct {
	key *rsa.PrivateKey
	pem []byte
}

func newAuthority(t testing.TB, name string) authority {
	t.Helper()
	return newAuthorityOf(t, name, 2048)
}

func newAuthorityOf(t testing.TB, name string, bits int) authority {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: clock.Add(-24 * time.Hour), NotAfter: clock.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

var sns = sync.OnceValue(func() authority { return newAuthority(&testing.B{}, "sns-signing.eu-south-1.amazonaws.com") })

func (a authority) sign(m message) message {
	hash, digest := crypto.SHA256, sha256.Sum256(m.signed())
	sum := digest[:]
	if m.SignatureVersion == "1" {
		old := sha1.Sum(m.signed())
		hash, sum = crypto.SHA1, old[:]
	}
	signature, err := rsa.SignPKCS1v15(nil, a.key, hash, sum)
	if err != nil {
		panic(err)
	}
	m.Signature = base64.StdEncoding.EncodeToString(signature)
	return m
}

func notice(inner string) message {
	return message{
		Type: notification, MessageID: "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", TopicArn: topicArn, Message: inner,
		Timestamp: "2026-12-01T11:59:58.123Z", SignatureVersion: "2", SigningCertURL: certURL,
	}
}

func invitation() message {
	m := notice("You have chosen to subscribe.\nTo confirm, visit the SubscribeURL.")
	m.Type, m.Token = confirmation, "2336"
	m.SubscribeURL = "https://sns.eu-south-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + topicArn + "&Token=2336"
	return m
}

func request(t testing.TB, m message) *webhook.Request {
	t.Helper()
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set(typeHeader, m.Type)
	h.Set(topicHeader, m.TopicArn)
	return &webhook.Request{Method: http.MethodPost, URL: "https://in.example.com/v1/webhooks/ses", Header: h, Body: body, Now: clock}
}

// web stands in for SNS's hosts.
type web struct {
	pages  map[string][]byte
	status int
	err    error
	asked  []string
}

func (w *web) get(_ context.Context, where string) (int, []byte, error) {
	w.asked = append(w.asked, where)
	if w.err != nil {
		return 0, nil, w.err
	}
	if page, ok := w.pages[where]; ok {
		return http.StatusOK, page, nil
	}
	if w.status != 0 {
		return w.status, nil, nil
	}
	return http.StatusNotFound, nil, nil
}

func newSource(t testing.TB, w *web, topics ...string) *Source {
	t.Helper()
	if len(topics) == 0 {
		topics = []string{topicArn}
	}
	s, err := New(Config{Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	s.get = w.get
	return s
}

func TestSignatures(t *testing.T) {
	subject := "a subject"
	for _, tt := range []struct {
		name   string
		change func(*message)     // before it is signed
		after  func(*message)     // after
		web    func(*web)         // what SNS's host answers
		bend   func(*http.Header) // headers
		now    time.Duration      // how far our clock is off
		by     func() authority   // who signs
		want   string             // part of the error; empty: verified
		retry  bool               // the error is not one of verification
	}{
		{name: "version 2"},
		{name: "version 1", change: func(m *message) { m.SignatureVersion = "1" }},
		{name: "with a subject", change: func(m *message) { m.Subject = &subject }},
		{name: "an invitation", change: func(m *message) { *m = invitation() }},
		{name: "a farewell", change: func(m *message) { *m = invitation(); m.Type = farewell }},
		{name: "published almost an hour ago, and tried again", now: 59 * time.Minute},
		{name: "stale", now: 66 * time.Minute, want: "ago, or in the future"},
		{name: "from the future", now: -6 * time.Minute, want: "ago, or in the future"},
		{name: "no published time", change: func(m *message) { m.Timestamp = "yesterday" }, want: "Timestamp"},
		{name: "one bit of the message", after: func(m *message) { m.Message = strings.Replace(m.Message, "e", "d", 1) }, want: "does not fit"},
		{name: "one bit of the signature", after: func(m *message) {
			raw, _ := base64.StdEncoding.DecodeString(m.Signature)
			raw[7] ^= 1
			m.Signature = base64.StdEncoding.EncodeToString(raw)
		}, want: "does not fit"},
		{name: "another time", after: func(m *message) { m.Timestamp = "2026-12-01T11:59:58.124Z" }, want: "does not fit"},
		{name: "another id", after: func(m *message) { m.MessageID = "x" }, want: "does not fit"},
		{name: "a subject that was not signed", after: func(m *message) { m.Subject = &subject }, want: "does not fit"},
		{name: "a version that was not signed with", after: func(m *message) { m.SignatureVersion = "1" }, want: "does not fit"},
		{name: "a version we do not know", change: func(m *message) { m.SignatureVersion = "3" }, want: "SignatureVersion"},
		{name: "no signature", after: func(m *message) { m.Signature = "" }, want: "Signature must be base64"},
		{name: "a foreign key", by: func() authority { return newAuthority(t, "sns-signing.eu-south-1.amazonaws.com") }, want: "does not fit"},
		{name: "a topic of somebody else", change: func(m *message) { m.TopicArn = "arn:aws:sns:eu-south-1:999999999999:mail" }, want: "topic"},
		{name: "a topic of somebody else in the body alone", change: func(m *message) { m.TopicArn = "arn:aws:sns:eu-south-1:999999999999:mail" },
			bend: func(h *http.Header) { h.Del(topicHeader) }, want: "TopicArn"},
		{name: "types differ", bend: func(h *http.Header) { h.Set(typeHeader, farewell) }, want: "differ"},
		{name: "no type", bend: func(h *http.Header) { h.Del(typeHeader) }, want: typeHeader},
		{name: "raw delivery", bend: func(h *http.Header) { h.Set(rawHeader, "true") }, want: "raw message delivery"},
		{name: "a certificate over http", after: func(m *message) { m.SigningCertURL = strings.Replace(certURL, "https", "http", 1) }, want: "SigningCertURL"},
		{name: "a certificate of another region", after: func(m *message) { m.SigningCertURL = strings.Replace(certURL, "eu-south-1", "us-east-1", 1) }, want: "SigningCertURL"},
		{name: "a certificate of another host", after: func(m *message) {
			m.SigningCertURL = "https://sns.eu-south-1.amazonaws.com.example.net/SimpleNotificationService-0123.pem"
		}, want: "SigningCertURL"},
		{name: "a certificate behind a user", after: func(m *message) {
			m.SigningCertURL = "https://sns.eu-south-1.amazonaws.com@example.net/SimpleNotificationService-0123.pem"
		}, want: "SigningCertURL"},
		{name: "a certificate on another port", after: func(m *message) { m.SigningCertURL = "https://sns.eu-south-1.amazonaws.com:8443/a.pem" }, want: "SigningCertURL"},
		{name: "a certificate that is none", after: func(m *message) { m.SigningCertURL = "https://sns.eu-south-1.amazonaws.com/?a=.pem" }, want: "SigningCertURL"},
		{name: "a certificate in a bucket of somebody", after: func(m *message) { m.SigningCertURL = "https://s3.amazonaws.com/bucket/a.pem" }, want: "SigningCertURL"},
		{name: "a certificate for another name", web: func(w *web) { w.pages[certURL] = newAuthority(t, "s3.amazonaws.com").pem }, want: "not that of SNS"},
		{name: "a page that is no certificate", web: func(w *web) { w.pages[certURL] = []byte("<html>") }, want: "PEM"},
		{name: "no page", web: func(w *web) { delete(w.pages, certURL) }, want: "no certificate"},
		{name: "an expired certificate", now: 25 * time.Hour, change: func(m *message) { m.Timestamp = "2026-12-02T13:00:00.000Z" }, want: "not valid at this time"},
		{name: "SNS is broken", web: func(w *web) { delete(w.pages, certURL); w.status = 503 }, want: "status 503", retry: true},
		{name: "SNS cannot be reached", web: func(w *web) { w.err = errors.New("no route") }, want: "no route", retry: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := notice(`{"eventType":"Open"}`)
			if tt.change != nil {
				tt.change(&m)
			}
			by := sns()
			if tt.by != nil {
				by = tt.by()
			}
			m = by.sign(m)
			if tt.after != nil {
				tt.after(&m)
			}
			w := &web{pages: map[string][]byte{certURL: sns().pem}}
			if tt.web != nil {
				tt.web(w)
			}
			r := request(t, m)
			r.Now = clock.Add(tt.now)
			if tt.bend != nil {
				tt.bend(&r.Header)
			}
			err := newSource(t, w).Verify(context.Background(), r)
			switch {
			case tt.want == "" && err != nil:
				t.Fatalf("got %v, want it verified", err)
			case tt.want == "":
			case err == nil || !strings.Contains(err.Error(), tt.want):
				t.Fatalf("got %v, want %q", err, tt.want)
			case errors.Is(err, webhook.ErrUnverified) == tt.retry:
				t.Fatalf("%v: unverified %v", err, !tt.retry)
			}
		})
	}
}

func TestMalformedBodyIsNotVerified(t *testing.T) {
	r := request(t, notice("{}"))
	r.Body = []byte(`{"Type":`)
	s := newSource(t, &web{})
	if err := s.Verify(context.Background(), r); !errors.Is(err, webhook.ErrUnverified) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Read(r); err == nil {
		t.Error("Read took a body that is no JSON")
	}
}

// The certificate is changed while old messages are still on their way: both are taken, and each is fetched once.
// TestACertificateThatIsNone: whatever stands at the URL, the request is refused, and nothing falls over.
func TestACertificateThatIsNone(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := "sns-signing.eu-south-1.amazonaws.com"
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: clock.Add(-time.Hour), NotAfter: clock.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &curve.PublicKey, curve)
	if err != nil {
		t.Fatal(err)
	}
	for what, page := range map[string][]byte{
		"no PEM":        []byte("<html>"),
		"no X.509":      pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nonsense")}),
		"another kind":  pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"no key of RSA": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	} {
		s := newSource(t, &web{pages: map[string][]byte{certURL: page}})
		if err := s.Verify(t.Context(), request(t, sns().sign(notice("{}")))); !errors.Is(err, webhook.ErrUnverified) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTwoCertificatesDuringRotation(t *testing.T) {
	const next = "https://sns.eu-south-1.amazonaws.com/SimpleNotificationService-4567.pem"
	younger := newAuthority(t, "sns-signing.eu-south-1.amazonaws.com")
	w := &web{pages: map[string][]byte{certURL: sns().pem, next: younger.pem}}
	s := newSource(t, w)
	for range 3 {
		a, b := sns().sign(notice("{}")), notice("{}")
		b.SigningCertURL = next
		for _, m := range []message{a, younger.sign(b)} {
			if err := s.Verify(context.Background(), request(t, m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(w.asked) != 2 {
		t.Errorf("asked %d times, want once for each certificate: %q", len(w.asked), w.asked)
	}
}

// Whoever sends many URLs of certificates must not grow our memory.
func TestCertificatesAreBounded(t *testing.T) {
	w := &web{pages: map[string][]byte{}}
	s := newSource(t, w)
	for i := range 3 * maxCerts {
		m := notice("{}")
		m.SigningCertURL = fmt.Sprintf("https://sns.eu-south-1.amazonaws.com/SimpleNotificationService-%d.pem", i)
		w.pages[m.SigningCertURL] = sns().pem
		if err := s.Verify(context.Background(), request(t, sns().sign(m))); err != nil {
			t.Fatal(err)
		}
		if len(s.certs) > maxCerts {
			t.Fatalf("%d certificates are kept", len(s.certs))
		}
	}
}

// When SNS has changed its certificate, many requests want the new one at once.
func TestManyWantOneCertificate(t *testing.T) {
	w := &web{pages: map[string][]byte{certURL: sns().pem}}
	s := newSource(t, w)
	var fetching atomic.Int32
	s.get = func(ctx context.Context, where string) (int, []byte, error) {
		if n := fetching.Add(1); n > maxFetches {
			t.Errorf("%d fetches at once", n)
		}
		defer fetching.Add(-1)
		time.Sleep(10 * time.Millisecond)
		return http.StatusOK, sns().pem, nil
	}
	r := request(t, sns().sign(notice("{}")))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := s.Verify(context.Background(), r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for range maxFetches {
		s.room <- struct{}{}
	}
	s.certs = map[string]*x509.Certificate{}
	if err := s.Verify(ended, r); err == nil || errors.Is(err, webhook.ErrUnverified) {
		t.Errorf("got %v where there is no room, which is not the sender's fault", err)
	}
}

func TestSubscriptionIsConfirmed(t *testing.T) {
	good := invitation()
	for _, tt := range []struct {
		name   string
		m      message
		forged bool
		web    web
		want   string // of the error
		visits bool
		ok     bool
	}{
		{name: "confirmed", m: good, visits: true, ok: true},
		{name: "a notification is no handshake", m: notice("{}")},
		{name: "forged", m: good, forged: true, ok: true, want: "does not fit"},
		{name: "another host", m: func() message {
			m := good
			m.SubscribeURL = "https://example.com/?Action=ConfirmSubscription&TopicArn=" + topicArn
			return m
		}(), ok: true, want: "SubscribeURL"},
		{name: "another action", m: func() message {
			m := good
			m.SubscribeURL = "https://sns.eu-south-1.amazonaws.com/?Action=DeleteTopic&TopicArn=" + topicArn
			return m
		}(), ok: true, want: "SubscribeURL"},
		{name: "another topic", m: func() message { m := good; m.TopicArn += "2"; return m }(), ok: true, want: "topic"},
		{name: "SNS refuses", m: good, web: web{status: 403}, visits: true, ok: true, want: "status 403"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := sns().sign(tt.m)
			if tt.forged {
				m.Token = "other"
			}
			w := tt.web
			w.pages = map[string][]byte{certURL: sns().pem}
			if w.status == 0 {
				w.pages[good.SubscribeURL] = []byte("<ConfirmSubscriptionResponse/>")
			}
			answer, ok, err := newSource(t, &w).Shake(context.Background(), request(t, m))
			if ok != tt.ok || len(answer) != 0 {
				t.Errorf("got %q, %v", answer, ok)
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
			visited := false
			for _, where := range w.asked {
				visited = visited || where == good.SubscribeURL
				if !strings.HasPrefix(where, "https://sns.eu-south-1.amazonaws.com/") {
					t.Errorf("visited %s", where)
				}
			}
			if visited != tt.visits {
				t.Errorf("visited %q", w.asked)
			}
		})
	}
}

// Redirects would lead to hosts that nobody has checked, and a page may be long.
func TestFetchStaysWhereItIs(t *testing.T) {
	visited := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited++ }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
			return
		}
		w.Write(make([]byte, 2*maxFetched))
	}))
	defer server.Close()
	get := getter(outbound.Loopback)
	if status, _, err := get(context.Background(), server.URL+"/away"); status != http.StatusFound || err != nil || visited != 0 {
		t.Errorf("got status %d, %v, and %d visits elsewhere", status, err, visited)
	}
	if _, body, err := get(context.Background(), server.URL); len(body) != maxFetched || err != nil {
		t.Errorf("got %d bytes, %v", len(body), err)
	}
	s, err := New(Config{Topics: []string{topicArn}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.get(context.Background(), server.URL); !errors.Is(err, outbound.ErrForbidden) {
		t.Errorf("where a name leads to this machine: %v", err)
	}
}

func TestConfig(t *testing.T) {
	if (Config{}).Enabled() || (Config{Topics: []string{" "}}).Enabled() || !(Config{Topics: []string{topicArn}}).Enabled() {
		t.Error("enabled is whether there is a topic")
	}
	_, err := New(Config{Topics: []string{"mail", "arn:aws:sqs:eu-south-1:123456789012:mail", "arn:aws:sns:evil.example.com/:123456789012:x"}})
	if err == nil || strings.Count(err.Error(), "TOPIC_ARNS") != 3 {
		t.Errorf("got %v, want every wrong topic", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a source without topics")
	}
	for arn, want := range map[string]topic{
		"arn:aws:sns:us-east-1:123456789012:a":            {"sns.us-east-1.amazonaws.com", []string{"sns.amazonaws.com", "sns-signing.us-east-1.amazonaws.com"}},
		"arn:aws-cn:sns:cn-north-1:123456789012:a":        {"sns.cn-north-1.amazonaws.com.cn", []string{"sns-cn-north-1.amazonaws.com.cn"}},
		"arn:aws-us-gov:sns:us-gov-east-1:123456789012:a": {"sns.us-gov-east-1.amazonaws.com", []string{"sns-us-gov-west-1.amazonaws.com"}},
	} {
		got, err := parseTopic(arn)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, %v", arn, got, err)
		}
	}
}

// mail is the mail object of an event.
const mail = `"mail":{"timestamp":"2026-12-01T08:00:00.000Z","messageId":"m-1","source":"shop@example.com","destination":["Anna@Example.com"],"tags":{"ses:configuration-set":["news"],"campaign":["winter"]}}`

const mailTwo = `"mail":{"timestamp":"2026-12-01T08:00:00.000Z","messageId":"m-1","destination":["Anna@Example.com","bob@example.com"],"tags":{"customer_id":["C-1"]}}`

const mailID = `"mail":{"timestamp":"2026-12-01T08:00:00.000Z","messageId":"m-1","destination":["Anna@Example.com"],"tags":{"customer_id":["C-20417"]}}`

var own = []struct{ name, inner string }{
	{"send", `{"eventType":"Send",` + mail + `,"send":{}}`},
	{"send with a customer id", `{"eventType":"Send",` + mailID + `,"send":{}}`},
	{"send to two: the tag tells of neither", `{"eventType":"Send",` + mailTwo + `,"send":{}}`},
	{"delivery to two", `{"eventType":"Delivery",` + mailTwo + `,"delivery":{"timestamp":"2026-12-01T08:00:01.500Z","recipients":["Anna@Example.com","bob@example.com"]}}`},
	{"open", `{"eventType":"Open",` + mail + `,"open":{"ipAddress":"192.0.2.1","timestamp":"2026-12-01T10:00:00.652Z","userAgent":"Mozilla/5.0 (iPhone)"}}`},
	{"open by one of two", `{"eventType":"Open",` + mailTwo + `,"open":{"timestamp":"2026-12-01T10:00:00.652Z"}}`},
	{"click", `{"eventType":"Click",` + mailID + `,"click":{"ipAddress":"2001:db8::1","timestamp":"2026-12-01T10:00:09.100Z","userAgent":"Mozilla/5.0 (iPhone)","link":"https://example.com/?a=1&b=2","linkTags":{"a":["b"]}}}`},
	{"hard bounce", `{"eventType":"Bounce",` + mail + `,"bounce":{"bounceType":"Permanent","bouncedRecipients":[{"emailAddress":"Anna@Example.com","status":"5.1.1"}],"timestamp":"2026-12-01T08:00:02.000Z"}}`},
	{"bounce of two, one of them without an address", `{"eventType":"Bounce",` + mailTwo + `,"bounce":{"bounceType":"Transient","bouncedRecipients":[{},{"emailAddress":"bob@example.com"}],"timestamp":"2026-12-01T08:00:02.000Z"}}`},
	{"delay", `{"eventType":"DeliveryDelay",` + mail + `,"deliveryDelay":{"delayType":"MailboxFull","expirationTime":"2026-12-02T08:00:00.000Z","delayedRecipients":[{"emailAddress":"Anna@Example.com","status":"4.2.2"}],"timestamp":"2026-12-01T08:30:00.000Z"}}`},
	{"complaint", `{"notificationType":"Complaint",` + mail + `,"complaint":{"complainedRecipients":[{"emailAddress":"Anna@Example.com"}],"timestamp":"2026-12-01T09:00:00.000Z","complaintFeedbackType":"abuse"}}`},
	{"a report that it is no spam", `{"eventType":"Complaint",` + mail + `,"complaint":{"complainedRecipients":[{"emailAddress":"Anna@Example.com"}],"timestamp":"2026-12-01T09:00:00.000Z","complaintFeedbackType":"not-spam"}}`},
	{"reject", `{"eventType":"Reject",` + mail + `,"reject":{"reason":"Bad content"}}`},
	{"rendering failure", `{"eventType":"Rendering Failure",` + mail + `,"failure":{"errorMessage":"x"}}`},
	{"left everything", `{"eventType":"Subscription",` + mail + `,"subscription":{"contactList":"l","timestamp":"2026-12-01T10:01:00.000Z","source":"UnsubscribeHeader","newTopicPreferences":{"unsubscribeAll":true,"topicSubscriptionStatus":[{"topicName":"a","subscriptionStatus":"OptOut"}]}}}`},
	{"left a topic", `{"eventType":"Subscription",` + mail + `,"subscription":{"timestamp":"2026-12-01T10:01:00.000Z","newTopicPreferences":{"unsubscribeAll":false,"topicSubscriptionStatus":[{"topicName":"a","subscriptionStatus":"OptOut"}]},"oldTopicPreferences":{"topicSubscriptionStatus":[{"topicName":"a","subscriptionStatus":"OptIn"}]}}}`},
	{"had left before, and has come to another", `{"eventType":"Subscription",` + mail + `,"subscription":{"timestamp":"2026-12-01T10:01:00.000Z","newTopicPreferences":{"topicSubscriptionStatus":[{"topicName":"a","subscriptionStatus":"OptOut"},{"topicName":"b","subscriptionStatus":"OptIn"}]},"oldTopicPreferences":{"topicSubscriptionStatus":[{"topicName":"a","subscriptionStatus":"OptOut"}]}}}`},
	{"received mail", `{"notificationType":"Received","mail":{"destination":["shop@example.com"]}}`},
	{"unknown event", `{"eventType":"Teleported",` + mail + `}`},
	{"unknown fields", `{"eventType":"Send","new":[1],` + strings.Replace(mail, `"source"`, `"newer":{"a":null},"source"`, 1) + `}`},
	{"no type", `{` + mail + `}`},
	{"a wrong type", `{"eventType":"Open",` + mail + `,"open":{"timestamp":7}}`},
	{"no time", `{"eventType":"Open",` + mail + `,"open":{}}`},
	{"no recipient", `{"eventType":"Open","mail":{"messageId":"m"},"open":{"timestamp":"2026-12-01T10:00:00Z"}}`},
	{"a message that is too long", `{"eventType":"Open","mail":{"messageId":"` + strings.Repeat("m", 300) + `","destination":["a@example.com"]},"open":{"timestamp":"2026-12-01T10:00:00Z"}}`},
	{"what SES says when it is set up", `Successfully validated SNS topic for Amazon SES event publishing.`},
	{"what somebody else publishes", `hello`},
}

func TestEventsAreMapped(t *testing.T) {
	s := newSource(t, &web{})
	var b strings.Builder
	for _, tt := range own {
		all, err := s.Read(request(t, notice(tt.inner)))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		fmt.Fprintf(&b, "# %s\n%s", tt.name, webhooktest.Show(all, err))
	}
	for _, m := range []message{invitation(), {Type: farewell}} {
		all, err := s.Read(request(t, m))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n%s", m.Type, webhooktest.Show(all, err))
	}
	webhooktest.Golden(t, "own.golden", b.String())
}

func data(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TEMPISMO_DATA")
	if dir == "" {
		t.Skip("TEMPISMO_DATA is not set: the payloads and signatures of Amazon are not at hand")
	}
	return filepath.Join(dir, "esp")
}

func TestPayloadsOfTheWild(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(data(t), "anymail", "amazon_ses", "*.raw_ses_event.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payloads: %v", err)
	}
	sort.Strings(files)
	s := newSource(t, &web{})
	var b strings.Builder
	for _, file := range files {
		inner, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all, err := s.Read(request(t, notice(string(inner))))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "# %s\n%s", filepath.Base(file), webhooktest.Show(all, err))
	}
	webhooktest.Golden(t, "anymail.golden", b.String())
}

// Messages that SNS has really signed.
func TestSignaturesOfSNS(t *testing.T) {
	const theirs = "arn:aws:sns:us-west-2:131990247566:dongie-standard-topic"
	dir := filepath.Join(data(t), "vectors", "sns")
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages: %v", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(body)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := os.ReadFile(filepath.Join(dir, filepath.Base(m.SigningCertURL)))
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, m.Timestamp)
		if err != nil {
			t.Fatal(err)
		}
		w := &web{pages: map[string][]byte{m.SigningCertURL: cert, m.SubscribeURL: nil}}
		s := newSource(t, w, theirs)
		r := &webhook.Request{Method: http.MethodPost, Header: http.Header{}, Body: body, Now: at.Add(time.Second)}
		r.Header.Set(typeHeader, m.Type)
		if err := s.Verify(context.Background(), r); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		if _, ok, err := s.Shake(context.Background(), r); err != nil || ok != (m.Type == confirmation) {
			t.Errorf("%s: handshake %v, %v", filepath.Base(file), ok, err)
		}
		r.Now = time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
		if err := s.Verify(context.Background(), r); !errors.Is(err, webhook.ErrUnverified) {
			t.Errorf("%s: verified after its time: %v", filepath.Base(file), err)
		}
	}
}

// FuzzRead: whatever SES reports, each element is one thing, and every event is valid.
func FuzzRead(f *testing.F) {
	for _, tt := range own {
		body, err := json.Marshal(notice(tt.inner))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(body), tt.inner)
	}
	for _, inner := range webhooktest.Payloads(f, "amazon_ses") {
		f.Add("", string(inner))
	}
	s := newSource(f, &web{})
	f.Fuzz(func(t *testing.T, body, inner string) {
		wrapped, err := json.Marshal(notice(inner))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{[]byte(body), wrapped} {
			all, err := s.Read(&webhook.Request{Header: http.Header{}, Body: b, Now: clock})
			if err != nil {
				continue
			}
			for _, e := range all {
				n := 0
				if e.Event != nil {
					n++
					if err := e.Event.Validate(); err != nil {
						t.Fatalf("%s: %v", b, err)
					}
				}
				if e.Ignored != "" {
					n++
				}
				if e.Err != nil {
					n++
				}
				if n != 1 {
					t.Fatalf("%s: %+v", b, e)
				}
			}
		}
	})
}

// FuzzVerify: taken are messages of the topic that the key of the certificate has signed, not long ago, and no others; and nobody is asked for
// anything but SNS in the topic's region.
func FuzzVerify(f *testing.F) {
	m := notice(own[0].inner)
	for i, tt := range own {
		f.Add(uint16(1), uint8(0), i%2 == 0, "a subject", m.MessageID, tt.inner, m.Timestamp, "2", topicArn, certURL)
	}
	for _, inner := range webhooktest.Payloads(f, "amazon_ses") {
		f.Add(uint16(1), uint8(0), false, "", m.MessageID, string(inner), m.Timestamp, "1", topicArn, certURL)
	}
	for _, host := range []string{"evil-sns.eu-south-1.amazonaws.com", "sns.eu-south-1.amazonaws.com:8443", "sns.us-east-1.amazonaws.com", "sns.eu-south-1.amazonaws.com.example.net"} {
		f.Add(uint16(1), uint8(0), false, "", m.MessageID, "{}", m.Timestamp, "2", topicArn, "https://"+host+"/SimpleNotificationService-0123.pem")
	}
	for _, at := range []time.Time{clock.Add(-oldest - time.Millisecond), clock.Add(-oldest), clock.Add(webhook.Tolerance), clock.Add(webhook.Tolerance + time.Millisecond)} {
		f.Add(uint16(1), uint8(2), false, "", m.MessageID, "{}", at.Format(time.RFC3339Nano), "2", topicArn, certURL)
	}
	f.Add(uint16(1), uint8(0), false, "", m.MessageID, "{}", m.Timestamp, "2", topicArn+"2", certURL)
	f.Add(uint16(1), uint8(1), false, "", "", "a\nMessageId\nb", m.Timestamp, "2", topicArn, certURL)
	f.Add(uint16(2*77+1), uint8(2), false, "", "", "", m.Timestamp, "2", topicArn+"2", "https://sns.eu-south-1.amazonaws.com@example.net/a.pem")
	f.Add(uint16(0), uint8(0), false, "AAAA", "", "", "2026-12-01T10:55:00+00:00", "2", topicArn, "HTTPS://sns.eu-south-1.amazonaws.com/../a.pem?b#c")
	f.Fuzz(func(t *testing.T, by uint16, kind uint8, titled bool, subject, id, inner, timestamp, version, arn, where string) {
		for _, text := range []string{subject, id, inner, timestamp, version, arn, where} {
			if !utf8.ValidString(text) {
				return // no JSON holds it
			}
		}
		m := message{
			Type: []string{notification, confirmation, farewell}[kind%3], MessageID: id, TopicArn: arn, Message: inner, Timestamp: timestamp, Token: "2336",
			SubscribeURL: invitation().SubscribeURL, SignatureVersion: version, Signature: subject, SigningCertURL: where,
		}
		over := "Message\n" + inner + "\nMessageId\n" + id + "\nSubscribeURL\n" + m.SubscribeURL + "\nTimestamp\n" + timestamp + "\nToken\n2336"
		if m.Type == notification {
			over = "Message\n" + inner + "\nMessageId\n" + id
			if titled {
				m.Subject = &subject
				over += "\nSubject\n" + subject
			}
			over += "\nTimestamp\n" + timestamp
		}
		over += "\nTopicArn\n" + arn + "\nType\n" + m.Type + "\n"
		fits := false
		if tamper := webhooktest.Tamper(by); tamper.Signs() && (version == "1" || version == "2") {
			signature := small().signature(over, version)
			fits = tamper.Bend(signature)
			m.Signature = base64.StdEncoding.EncodeToString(signature)
		}
		published, err := webhook.ISO(timestamp)
		fits = fits && err == nil && arn == topicArn && !published.Before(clock.Add(-oldest)) && !published.After(clock.Add(webhook.Tolerance))
		w := &web{pages: map[string][]byte{certURL: small().pem}}
		got := webhooktest.Verified(t, newSource(t, w), request(t, m))
		if got && !fits || fits && where == certURL && !got {
			t.Fatalf("verified: %v", got)
		}
		for _, asked := range w.asked {
			if !strings.HasPrefix(asked, "https://sns.eu-south-1.amazonaws.com/") {
				t.Fatalf("%s was asked", asked)
			}
		}
	})
}

// small is an authority whose short key signs fast: what is tried is not RSA.
var small = sync.OnceValue(func() authority { return newAuthorityOf(&testing.B{}, "sns-signing.eu-south-1.amazonaws.com", 1024) })

// signature is what SNS makes of what it signs.
func (a authority) signature(over, version string) []byte {
	hash, sum := crypto.SHA256, sha256.Sum256([]byte(over))
	digest := sum[:]
	if version == "1" {
		old := sha1.Sum([]byte(over))
		hash, digest = crypto.SHA1, old[:]
	}
	signature, err := rsa.SignPKCS1v15(nil, a.key, hash, digest)
	if err != nil {
		panic(err)
	}
	return signature
}

// FuzzBody: no body that the key has not signed is verified or answered, whatever it looks like, and nobody is asked for anything but SNS.
func FuzzBody(f *testing.F) {
	for _, m := range []message{notice("{}"), invitation(), {Type: farewell}} {
		m.Signature = "AAAA"
		text, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Type, topicArn, text)
	}
	for _, body := range webhooktest.Payloads(f, "amazon_ses") {
		f.Add(notification, "", body)
	}
	f.Fuzz(func(t *testing.T, typ, arn string, body []byte) {
		w := &web{pages: map[string][]byte{certURL: small().pem}}
		s := newSource(t, w)
		r := &webhook.Request{Method: http.MethodPost, Header: http.Header{typeHeader: {typ}, topicHeader: {arn}}, Body: body, Now: clock}
		if webhooktest.Verified(t, s, r) {
			t.Fatal("verified")
		}
		if _, ok, err := s.Shake(t.Context(), r); ok != (typ == confirmation) || ok && !errors.Is(err, webhook.ErrUnverified) {
			t.Fatalf("answered: %v, %v", ok, err)
		}
		for _, asked := range w.asked {
			if asked != certURL && !strings.HasPrefix(asked, "https://sns.eu-south-1.amazonaws.com/") {
				t.Fatalf("%s was asked", asked)
			}
		}
	})
}

// FuzzHandshake: a subscription is confirmed where the key has signed the invitation to one of the topic, at SNS in the topic's region, and
// nowhere else.
func FuzzHandshake(f *testing.F) {
	for _, where := range []string{
		invitation().SubscribeURL, strings.Replace(invitation().SubscribeURL, topicArn, topicArn+"2", 1), strings.Replace(invitation().SubscribeURL, "ConfirmSubscription", "DeleteTopic", 1),
		"https://evil-sns.eu-south-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + topicArn, "https://sns.eu-south-1.amazonaws.com/?TopicArn=" + topicArn + "&Action=ConfirmSubscription&Action=DeleteTopic",
		"https://sns.eu-south-1.amazonaws.com:443/?Action=ConfirmSubscription&TopicArn=" + topicArn, "https://user@sns.eu-south-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + topicArn,
		"https:sns.eu-south-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=" + topicArn, "//169.254.169.254/?Action=ConfirmSubscription&TopicArn=" + topicArn,
	} {
		f.Add(uint16(1), where, "2336")
	}
	f.Add(uint16(2*77+1), invitation().SubscribeURL, "2336")
	f.Fuzz(func(t *testing.T, by uint16, where, token string) {
		if !utf8.ValidString(where) || !utf8.ValidString(token) {
			return
		}
		m := invitation()
		m.SubscribeURL, m.Token, m.Signature = where, token, "AAAA"
		fits := false
		if tamper := webhooktest.Tamper(by); tamper.Signs() {
			signature := small().signature("Message\n"+m.Message+"\nMessageId\n"+m.MessageID+"\nSubscribeURL\n"+where+"\nTimestamp\n"+m.Timestamp+"\nToken\n"+token+
				"\nTopicArn\n"+topicArn+"\nType\n"+m.Type+"\n", "2")
			fits = tamper.Bend(signature)
			m.Signature = base64.StdEncoding.EncodeToString(signature)
		}
		var visited []string
		s := newSource(t, &web{})
		s.get = func(_ context.Context, where string) (int, []byte, error) {
			if where == certURL {
				return http.StatusOK, small().pem, nil
			}
			visited = append(visited, where)
			return http.StatusOK, nil, nil
		}
		answer, ok, err := s.Shake(t.Context(), request(t, m))
		if !ok || len(answer) != 0 || err != nil && !errors.Is(err, webhook.ErrUnverified) {
			t.Fatalf("got %q, %v, %v", answer, ok, err)
		}
		if err == nil != (len(visited) == 1) || err == nil && !fits || fits && where == invitation().SubscribeURL && err != nil {
			t.Fatalf("signed: %v, visited %q: %v", fits, visited, err)
		}
		for _, where := range visited {
			u, err := url.Parse(where)
			if err != nil || u.Scheme != "https" || u.Host != "sns.eu-south-1.amazonaws.com" || u.User != nil || u.Query().Get("Action") != "ConfirmSubscription" || u.Query().Get("TopicArn") != topicArn {
				t.Fatalf("visited %s", where)
			}
		}
	})
}

// FuzzCertificate: whatever stands at the URL, a message is taken only if it is a certificate of SNS's name that is valid, and its key has signed.
func FuzzCertificate(f *testing.F) {
	f.Add(sns().pem)
	f.Add(small().pem)
	f.Add(append([]byte("a page\n"), small().pem...))
	f.Add(newAuthorityOf(f, "s3.amazonaws.com", 1024).pem)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	m := small().sign(notice("{}"))
	f.Fuzz(func(t *testing.T, page []byte) {
		s := newSource(t, &web{pages: map[string][]byte{certURL: page}})
		if !webhooktest.Verified(t, s, request(t, m)) {
			return
		}
		block, _ := pem.Decode(page)
		want, _ := pem.Decode(small().pem)
		if block == nil {
			t.Fatal("verified without a certificate")
		}
		got, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !small().key.PublicKey.Equal(got.PublicKey) || got.VerifyHostname("sns-signing.eu-south-1.amazonaws.com") != nil && got.VerifyHostname("sns.amazonaws.com") != nil {
			t.Fatalf("verified by %x, not by %x", block.Bytes, want.Bytes)
		}
	})
}
