package ingest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	stdhash "hash"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/telemetry"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/sendgrid"
	"github.com/tempismo/tempismo/services/ingest/webhook/ses"
	"github.com/tempismo/tempismo/services/ingest/webhook/sfmc"
)

const sendGridPath = "/v1/webhooks/sendgrid"

// sendGrid is a rig that takes SendGrid's webhooks, and signs them.
type sendGrid struct {
	*rig
	key *ecdsa.PrivateKey
}

func newSendGrid(t testing.TB) sendGrid {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return sendGrid{newRig(t, Config{SendGrid: sendgrid.Config{Keys: []string{base64.StdEncoding.EncodeToString(der)}}}), key}
}

// signed posts events in an array.
func (g sendGrid) signed(events ...string) *http.Response {
	g.t.Helper()
	body := "[" + strings.Join(events, ",\r\n") + "]\r\n"
	timestamp := strconv.FormatInt(clock.Unix(), 10)
	digest := sha256.Sum256([]byte(timestamp + body))
	signature, err := ecdsa.SignASN1(rand.Reader, g.key, digest[:])
	if err != nil {
		g.t.Fatal(err)
	}
	return g.send(sendGridPath, map[string]string{"Content-Type": "application/json", "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
		"X-Twilio-Email-Event-Webhook-Signature": base64.StdEncoding.EncodeToString(signature)}, body)
}

// event is one of SendGrid's.
func (sendGrid) event(id, name, more string) string {
	return fmt.Sprintf(`{"email":"Anna@Example.com","timestamp":%d,"event":%q,"sg_event_id":%q%s}`, clock.Unix()-8, name, id, more)
}

// verdict is the answer to a webhook.
type verdict struct {
	Accepted, Ignored, Dead, Erased int
	Refused                         []wrong
}

func (r *rig) verdict(response *http.Response, status int) (v verdict) {
	r.t.Helper()
	if response.StatusCode != status {
		r.t.Fatalf("got status %d, want %d: %+v", response.StatusCode, status, r.problem(response))
	}
	if err := json.NewDecoder(response.Body).Decode(&v); err != nil {
		r.t.Fatal(err)
	}
	return v
}

// letters are the dead letters, with their headers in one line.
func (r *rig) letters() (values, headers []string) {
	r.t.Helper()
	for p := range int32(partitions) {
		for _, record := range r.out.log.Records(topics.DeadLetter(topics.Events), p) {
			var line []string
			for _, h := range record.Headers {
				line = append(line, h.Key+"="+string(h.Value))
			}
			values, headers = append(values, string(record.Value)), append(headers, string(record.Key)+": "+strings.Join(line, "; "))
		}
	}
	return values, headers
}

func TestAWebhookIsTakenAsFarAsItCanBeMapped(t *testing.T) {
	g := newSendGrid(t)
	noTime := `{"event":"open", "email":"a@example.com","sg_event_id":"e2"}`
	ahead := strings.Replace(g.event("e4", "open", ""), strconv.FormatInt(clock.Unix()-8, 10), strconv.FormatInt(clock.Unix()+3600, 10), 1)
	noZone := g.event("e5", "click", `,"zone":"Rome"`)
	got := g.verdict(g.signed(g.event("e1", "open", ""), noTime, g.event("e3", "deferred", ""), ahead, noZone, "1", g.event("e7", "unsubscribe", "")), http.StatusAccepted)
	if got.Accepted != 2 || got.Ignored != 1 || got.Dead != 4 || len(got.Refused) != 4 {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []wrong{{1, "timestamp", "Unix time"}, {3, "time", "ahead"}, {4, "data.zone", "Europe/Rome"}, {5, "", "JSON object"}} {
		if w := got.Refused[i]; w.Index != want.Index || w.Field != want.Field || !strings.Contains(w.Reason, want.Reason) {
			t.Errorf("got %+v, want %+v", w, want)
		}
	}
	var ids []string
	for _, e := range g.events(liveTopic) {
		ids = append(ids, e.ID)
	}
	if !slices.Equal(ids, []string{"sg-e1", "sg-e7"}) {
		t.Errorf("appended %q", ids)
	}
	values, headers := g.letters()
	if !slices.Equal(values, []string{noTime, ahead, noZone, "1"}) {
		t.Errorf("the dead letters are %q", values)
	}
	const want = "sendgrid: __connect.errors.class.name=*engagement.FieldError; __connect.errors.exception.message=engagement event: timestamp: must be a Unix time in seconds; __connect.errors.stage=ingest:sendgrid"
	if len(headers) != 4 || headers[0] != want {
		t.Errorf("got  %q\nwant %q first", headers, want)
	}
}

func TestTheAnswerToAWebhookIsBounded(t *testing.T) {
	g := newSendGrid(t)
	got := g.verdict(g.signed(slices.Repeat([]string{"{}"}, maxWrong+10)...), http.StatusAccepted)
	if got.Accepted != 0 || got.Dead != maxWrong+10 || len(got.Refused) != maxWrong {
		t.Errorf("got %d accepted, %d dead, %d named", got.Accepted, got.Dead, len(got.Refused))
	}
}

func TestNothingOfAWebhookIsAnsweredBeforeKafkaHasIt(t *testing.T) {
	for _, topic := range []string{topics.Events, topics.DeadLetter(topics.Events)} {
		g := newSendGrid(t)
		g.out.away = topic
		response := g.signed(g.event("e1", "open", ""), "{}")
		if p := g.problem(response); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
			t.Errorf("without %s: %+v", topic, p)
		}
		if _, letters := g.letters(); len(letters) != 0 {
			t.Errorf("without %s: there are dead letters, which the next attempt writes again", topic)
		}
		g.out.away = ""
		if got := g.verdict(g.signed(g.event("e1", "open", ""), "{}"), http.StatusAccepted); got.Accepted != 1 || got.Dead != 1 {
			t.Errorf("after %s has come back: %+v", topic, got)
		}
	}
}

func TestADeadLetterThatDoesNotFitIsCutAndSaysSo(t *testing.T) {
	g := newSendGrid(t)
	g.out.largest = map[string]int{topics.DeadLetter(topics.Events): 100}
	large := `{"event":true,"more":"` + strings.Repeat("x", 300) + `"}`
	if got := g.verdict(g.signed("{}", large, "[]"), http.StatusAccepted); got.Dead != 3 {
		t.Errorf("got %+v", got)
	}
	values, headers := g.letters()
	if len(values) != 3 || values[0] != "{}" || values[2] != "[]" || len(values[1]) < 50 || !strings.HasPrefix(large, values[1]) {
		t.Fatalf("got %q", values)
	}
	if !strings.Contains(headers[1], "max.message.bytes") || strings.Contains(headers[0]+headers[2], "max.message.bytes") {
		t.Errorf("got %q", headers)
	}
}

func TestWhoCausedAnEventOfAWebhook(t *testing.T) {
	g := newSendGrid(t)
	g.signed(g.event("flag", "open", `,"sg_machine_open":true`), g.event("agent", "open", `,"useragent":"Mozilla/5.0"`),
		g.event("person", "open", `,"useragent":"Mozilla/5.0 Firefox/140.0","ip":"192.0.2.1"`), g.event("filter", "click", `,"useragent":"Mozilla/5.0 Firefox/140.0","ip":"40.92.0.1"`), g.event("wish", "unsubscribe", `,"useragent":"Mozilla/5.0"`))
	want := map[string]engagement.Event{
		"sg-flag": {Actor: engagement.Machine, ActorRule: engagement.RuleProvider}, "sg-agent": {Actor: engagement.Machine, ActorRule: engagement.RuleUserAgent},
		"sg-filter": {Actor: engagement.Machine, ActorRule: engagement.RuleNetwork}, "sg-person": {}, "sg-wish": {},
	}
	events := g.events(liveTopic)
	if len(events) != len(want) {
		t.Fatalf("%d events", len(events))
	}
	for _, e := range events {
		if w := want[e.ID]; e.Actor != w.Actor || e.ActorRule != w.ActorRule {
			t.Errorf("%s: %v by %q, want %v by %q", e.ID, e.Actor, e.ActorRule, w.Actor, w.ActorRule)
		}
	}
}

func TestAWebhookThatIsNotConfiguredIsNotServed(t *testing.T) {
	r := newRig(t, Config{})
	recorder := httptest.NewRecorder()
	r.handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, sendGridPath, strings.NewReader("[]")))
	if recorder.Code != http.StatusNotFound {
		t.Errorf("got status %d", recorder.Code)
	}
}

// staged is a provider whose answers tests set.
type staged struct {
	early, verify, shake error
	answer               string // of a handshake; empty: there is none
	read                 func(*webhook.Request) ([]webhook.Element, error)
	seen                 *webhook.Request
}

func (s *staged) Early(http.Header) error { return s.early }
func (s *staged) Verify(_ context.Context, r *webhook.Request) error {
	s.seen = r
	return s.verify
}
func (s *staged) Shake(context.Context, *webhook.Request) ([]byte, bool, error) {
	return []byte(s.answer), s.answer != "", s.shake
}
func (s *staged) Read(r *webhook.Request) ([]webhook.Element, error) {
	if s.read == nil {
		return nil, nil
	}
	return s.read(r)
}

// stage makes a rig of which the one provider is s, under a name that the contract knows.
func stage(t testing.TB, c Config, s *staged, p provider) *rig {
	t.Helper()
	r := newRig(t, c)
	p.name, p.source = "sendgrid", s
	r.server.providers = []provider{p}
	r.handler = r.server.handler()
	return r
}

func TestWhatAProviderIsAnswered(t *testing.T) {
	ignored := func(*webhook.Request) ([]webhook.Element, error) { return []webhook.Element{{Ignored: "ping"}}, nil }
	for _, tt := range []struct {
		name         string
		source       staged
		taken, later int
		want         int
		detail       string // of a problem
		plain        string // the whole answer
	}{
		{name: "taken", source: staged{read: ignored}, want: 202},
		{name: "taken, by one that knows 200 alone", source: staged{read: ignored}, taken: 200, want: 200},
		{name: "headers that are not its own", source: staged{early: webhook.Unverified("no signature")}, want: 401, detail: "no signature"},
		{name: "a body that is not its own", source: staged{verify: webhook.Unverified("another key")}, want: 401, detail: "another key"},
		{name: "headers that cannot be judged now", source: staged{early: errors.New("secret trouble")}, want: 503, detail: "later"},
		{name: "a body that cannot be judged now", source: staged{verify: errors.New("secret trouble")}, want: 503, detail: "later"},
		{name: "the same, to one that takes 503 for the end", source: staged{verify: errors.New("secret trouble")}, later: 429, want: 429, detail: "later"},
		{name: "a handshake", source: staged{answer: "yes"}, want: 200, plain: "yes"},
		{name: "a handshake by somebody else", source: staged{shake: webhook.Unverified("a foreign topic")}, want: 401, detail: "a foreign topic"},
		{name: "a handshake that fails", source: staged{shake: errors.New("secret trouble")}, want: 503, detail: "later"},
		{name: "no request of its own", source: staged{read: func(*webhook.Request) ([]webhook.Element, error) { return nil, errors.New("a form was expected") }}, want: 400, detail: "a form was expected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := provider{taken: max(tt.taken, 202), later: 503, challenge: password}
			if tt.taken != 0 {
				p.taken = tt.taken
			}
			if tt.later != 0 {
				p.later = tt.later
			}
			r := stage(t, Config{}, &tt.source, p)
			response := r.send(sendGridPath, nil, "[]")
			if response.StatusCode != tt.want {
				t.Fatalf("got status %d, want %d", response.StatusCode, tt.want)
			}
			if got := response.Header.Get("WWW-Authenticate"); (got == password) != (tt.want == 401) {
				t.Errorf("WWW-Authenticate is %q", got)
			}
			if got := response.Header.Get("Retry-After"); (got != "") != (tt.want == 503 || tt.want == 429) {
				t.Errorf("Retry-After is %q", got)
			}
			switch {
			case tt.plain != "":
				if b, _ := io.ReadAll(response.Body); string(b) != tt.plain {
					t.Errorf("got %q", b)
				}
			case tt.want >= 400:
				if p := r.problem(response); !strings.Contains(p.Detail, tt.detail) || strings.Contains(p.Detail, "secret") {
					t.Errorf("got %+v", p)
				}
			default:
				if v := r.verdict(response, tt.want); v.Ignored != 1 {
					t.Errorf("got %+v", v)
				}
			}
			if used := r.server.room.used.Load(); used != 0 {
				t.Errorf("%d bytes stay reserved", used)
			}
		})
	}
}

func TestTheURLThatAProviderSigns(t *testing.T) {
	for _, tt := range []struct {
		name, public, host string
		tls                bool
		want               string
	}{
		{"as called", "", "ingest:8081", false, "http://ingest:8081/v1/webhooks/sendgrid?a=%20b"},
		{"as called over TLS", "", "mail.example.com", true, "https://mail.example.com/v1/webhooks/sendgrid?a=%20b"},
		{"behind a proxy", "https://mail.example.com/", "ingest:8081", false, "https://mail.example.com/v1/webhooks/sendgrid?a=%20b"},
		{"behind a proxy that takes a path away", "https://mail.example.com/tempismo", "ingest:8081", false, "https://mail.example.com/tempismo/v1/webhooks/sendgrid?a=%20b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &staged{}
			r := stage(t, Config{PublicURL: tt.public}, s, provider{taken: 202, later: 503})
			request := httptest.NewRequest(http.MethodPost, sendGridPath+"?a=%20b", strings.NewReader("[]"))
			request.Host = tt.host
			// Anybody can say so.
			request.Header.Set("X-Forwarded-Proto", "https")
			request.Header.Set("X-Forwarded-Host", "evil.example.com")
			if tt.tls {
				request.TLS = &tls.ConnectionState{}
			}
			r.handler.ServeHTTP(httptest.NewRecorder(), request)
			if s.seen == nil || s.seen.URL != tt.want || s.seen.Method != http.MethodPost || !s.seen.Now.Equal(clock) || string(s.seen.Body) != "[]" {
				t.Errorf("got %+v, want %s", s.seen, tt.want)
			}
		})
	}
	for _, wrong := range []string{"mail.example.com", "ftp://mail.example.com", "https://", "https://user@mail.example.com", "https://mail.example.com/?a", "https://mail.example.com/#a", "%"} {
		if err := (Config{PublicURL: wrong}).Validate(); err == nil || !strings.Contains(err.Error(), "PUBLIC_URL") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestAnElementWithoutBytesIsTheWholeRequest(t *testing.T) {
	r := stage(t, Config{}, &staged{read: func(*webhook.Request) ([]webhook.Element, error) {
		return []webhook.Element{{Err: errors.New("it is odd")}}, nil
	}}, provider{taken: 202, later: 503})
	if v := r.verdict(r.send(sendGridPath, nil, "odd"), 202); v.Dead != 1 || v.Refused[0].Reason != "it is odd" {
		t.Errorf("got %+v", v)
	}
	if values, _ := r.letters(); !slices.Equal(values, []string{"odd"}) {
		t.Errorf("got %q", values)
	}
}

// TestWhatIsAboutSeveralIsOneLetter: elements of the same bytes are counted one by one, and set aside once; those that only say the
// same are not the same.
func TestWhatIsAboutSeveralIsOneLetter(t *testing.T) {
	r := stage(t, Config{}, &staged{read: func(q *webhook.Request) ([]webhook.Element, error) {
		one, copied := q.Body[:3], []byte("odd")
		return []webhook.Element{{Err: errors.New("first"), Raw: one}, {Err: errors.New("second"), Raw: one}, {Ignored: "ping", Raw: one}, {Err: errors.New("third"), Raw: one},
			{Err: errors.New("fourth"), Raw: copied}, {Err: errors.New("fifth"), Raw: q.Body[:2]}}, nil
	}}, provider{taken: 202, later: 503})
	if v := r.verdict(r.send(sendGridPath, nil, "odd"), 202); v.Dead != 5 || len(v.Refused) != 5 || v.Refused[2].Index != 3 || v.Refused[2].Reason != "third" {
		t.Errorf("got %+v", v)
	}
	values, headers := r.letters()
	if !slices.Equal(values, []string{"odd", "odd", "od"}) || !strings.Contains(headers[0], "first") || !strings.Contains(headers[1], "fourth") {
		t.Errorf("got %q, %q", values, headers)
	}
}

// Whatever comes is counted, by provider and outcome.
func TestWebhooksAreCounted(t *testing.T) {
	set := app.Settings{}.WithDefaults()
	var err error
	if set.Telemetry, err = telemetry.New(t.Context(), telemetry.Config{}, "ingest", "test"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = set.Telemetry.Shutdown(context.Background()) }()
	r := newRig(t, Config{})
	if r.server, err = newServer(r.server.config, r.out, r.store, partitions, set, func() time.Time { return clock }); err != nil {
		t.Fatal(err)
	}
	at := engagement.Event{ID: "a", Source: "/test", Subject: "C-1", Time: clock, Kind: engagement.Open, Channel: "email"}
	s := &staged{read: func(*webhook.Request) ([]webhook.Element, error) {
		one, other := at, at
		return []webhook.Element{{Event: &one}, {Event: &other}, {Ignored: "ping"}, {Err: errors.New("odd")}, {Err: errors.New("odd")}, {Err: errors.New("odd")}}, nil
	}}
	r.server.providers = []provider{{name: "sendgrid", taken: 202, later: 503, source: s}}
	r.handler = r.server.handler()
	r.verdict(r.send(sendGridPath, nil, "[]"), 202)
	s.verify = webhook.Unverified("another key")
	r.send(sendGridPath, nil, "[]")
	s.verify, r.out.away = nil, topics.Events
	r.send(sendGridPath, nil, "[]")

	recorder := httptest.NewRecorder()
	set.Telemetry.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	got := map[string]string{}
	for line := range strings.Lines(recorder.Body.String()) {
		if !strings.HasPrefix(line, "tempismo_ingest_events_total{") || !strings.Contains(line, `provider="sendgrid"`) {
			continue
		}
		_, rest, _ := strings.Cut(line, `outcome="`)
		outcome, _, _ := strings.Cut(rest, `"`)
		got[outcome] = strings.TrimSpace(line[strings.LastIndex(line, " "):])
	}
	want := map[string]string{"accepted": "2", "ignored": "1", "dead": "3", "rejected": "1", "unacknowledged": "5"}
	for outcome, n := range want {
		if got[outcome] != n {
			t.Errorf("%s: %s, want %s", outcome, got[outcome], n)
		}
	}
	if t.Failed() {
		t.Log(recorder.Body.String())
	}
}

// The contract, the document for people and the table name the same providers.
func TestTheContractNamesTheProviders(t *testing.T) {
	providers, err := Config{}.providers()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range providers {
		if names = append(names, p.name); p.source != nil || p.taken == 0 || p.later == 0 || p.challenge == "" {
			t.Errorf("%+v", p)
		}
	}
	doc, err := openapi3.NewLoader().LoadFromFile("../../schemas/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, name := range doc.Paths.Find("/v1/webhooks/{provider}").Post.Parameters.GetByInAndName("path", "provider").Schema.Value.Enum {
		said = append(said, fmt.Sprint(name))
	}
	if !slices.Equal(said, names) {
		t.Errorf("openapi.yaml has %q, the table %q", said, names)
	}
	text, err := os.ReadFile("../../docs/edges.md")
	if err != nil {
		t.Fatal(err)
	}
	// Every setting is named where people read how to connect a provider.
	variables, err := config.Variables(&Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(string(text), "`/v1/webhooks/"+name+"`") {
			t.Errorf("docs/edges.md does not name /v1/webhooks/%s", name)
		}
		settings := 0
		for _, v := range variables {
			if !strings.HasPrefix(v.Env, strings.ToUpper(name)+"_") {
				continue
			}
			if settings++; !strings.Contains(string(text), "`"+v.Env+"`") {
				t.Errorf("docs/edges.md does not name %s", v.Env)
			}
		}
		if settings == 0 {
			t.Errorf("%s has no settings", name)
		}
	}
}

// notified is what Amazon SNS sends, signed, and what it has at the URL of its certificate.
func notified(t *testing.T, inner string) (body string, certificate []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	name := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"sns-signing.eu-south-1.amazonaws.com"}, NotBefore: clock.Add(-time.Hour), NotAfter: clock.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, name, name, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	at := clock.Format(time.RFC3339)
	digest := sha256.Sum256([]byte("Message\n" + inner + "\nMessageId\nn1\nTimestamp\n" + at + "\nTopicArn\n" + snsTopic + "\nType\nNotification\n"))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"Type": "Notification", "MessageId": "n1", "TopicArn": snsTopic, "Message": inner, "Timestamp": at, "SignatureVersion": "2",
		"Signature": base64.StdEncoding.EncodeToString(signature), "SigningCertURL": snsCertificate})
	if err != nil {
		t.Fatal(err)
	}
	return string(text), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

const (
	snsTopic       = "arn:aws:sns:eu-south-1:123456789012:mail"
	snsCertificate = "https://sns.eu-south-1.amazonaws.com/SimpleNotificationService-0123.pem"
)

// amazon has one certificate.
func amazon(certificate []byte) func(context.Context, string) (int, []byte, error) {
	return func(_ context.Context, where string) (int, []byte, error) {
		if where != snsCertificate {
			return http.StatusNotFound, nil, nil
		}
		return http.StatusOK, certificate, nil
	}
}

// TestANotificationAboutSeveralRecipients: who can be told apart is taken, and the notification is a dead letter once for all others.
func TestANotificationAboutSeveralRecipients(t *testing.T) {
	body, certificate := notified(t, `{"eventType":"Bounce","mail":{"messageId":"m1","destination":["a","b","c"]},"bounce":{"timestamp":"2026-12-03T09:41:00Z",
		"bouncedRecipients":[{"emailAddress":"anna@example.com"},{},{"emailAddress":"bob@example.com"},{}]}}`)
	r := newRig(t, Config{SES: ses.Config{Topics: []string{snsTopic}, Get: amazon(certificate)}})
	v := r.verdict(r.send("/v1/webhooks/ses", map[string]string{"X-Amz-Sns-Message-Type": "Notification"}, body), http.StatusAccepted)
	if v.Accepted != 2 || v.Dead != 2 || len(v.Refused) != 2 || v.Refused[0].Index != 1 || v.Refused[1].Index != 3 {
		t.Errorf("got %+v", v)
	}
	if values, _ := r.letters(); !slices.Equal(values, []string{body}) {
		t.Errorf("the dead letters are %q", values)
	}
}

// What each provider sends, as its own package knows it in full, comes to the topic by the settings of the environment alone.
// Only what Amazon has at the URL of its certificate is no setting.
func TestEveryProviderFromItsSettingsToTheTopic(t *testing.T) {
	const secret = "a secret of some length"
	mac := func(with func() stdhash.Hash, key, text string) []byte {
		h := hmac.New(with, []byte(key))
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	seconds, millis := strconv.FormatInt(clock.Unix(), 10), strconv.FormatInt(clock.UnixMilli(), 10)
	notification, certificate := notified(t, `{"eventType":"Click","mail":{"messageId":"m1","destination":["anna@example.com"],"tags":{"customer_id":["C-1"],"campaign":["winter"]}},`+
		`"click":{"timestamp":"2026-12-03T09:41:00Z","ipAddress":"192.0.2.1","userAgent":"Mozilla/5.0 Firefox/140.0","link":"https://example.com/"}}`)
	basic := map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("tempismo:"+secret))}
	for _, tt := range []struct {
		provider string
		env      map[string]string
		body     string
		header   func(body string) map[string]string
		want     engagement.Event // of which id and time are its package's business
		taken    int
		later    int
		basic    bool
	}{
		{"mailgun", map[string]string{"MAILGUN_SIGNING_KEYS": secret},
			`{"signature":{"timestamp":"` + seconds + `","token":"t1","signature":"` + hex.EncodeToString(mac(sha256.New, secret, seconds+"t1")) +
				`"},"event-data":{"event":"opened","id":"x","timestamp":` + seconds + `,"recipient":"Anna@example.com","message":{"headers":{"message-id":"m1"}},"client-info":{"bot":"apple"}}}`,
			nil, engagement.Event{Subject: "anna@example.com", Kind: engagement.Open, Message: "m1", Actor: engagement.Machine, ActorRule: engagement.RuleProvider}, 200, 503, false},
		{"ses", map[string]string{"SES_TOPIC_ARNS": snsTopic}, notification,
			func(string) map[string]string {
				return map[string]string{"X-Amz-Sns-Message-Type": "Notification", "X-Amz-Sns-Topic-Arn": snsTopic}
			}, engagement.Event{Subject: "C-1", Kind: engagement.Click, Message: "m1", Campaign: "winter", Link: "https://example.com/", UserAgent: "Mozilla/5.0 Firefox/140.0"}, 202, 503, false},
		{"postmark", map[string]string{"POSTMARK_LOGINS": "tempismo:" + secret},
			`{"RecordType":"Delivery","MessageID":"m1","Recipient":"anna@example.com","DeliveredAt":"2026-12-03T09:41:00.0000000Z","Metadata":{"customer_id":"C-1"}}`,
			func(string) map[string]string { return basic }, engagement.Event{Subject: "C-1", Kind: engagement.Delivered, Message: "m1"}, 200, 503, true},
		{"brevo", map[string]string{"BREVO_LOGINS": "tempismo:" + secret},
			`{"event":"proxy_open","email":"anna@example.com","message-id":"<m1>","ts_epoch":` + millis + `}`,
			func(string) map[string]string { return basic }, engagement.Event{Subject: "anna@example.com", Kind: engagement.Open, Message: "m1", Actor: engagement.Machine, ActorRule: engagement.RuleProvider}, 200, 429, true},
		{"resend", map[string]string{"RESEND_SIGNING_SECRETS": "whsec_" + base64.StdEncoding.EncodeToString([]byte(secret))},
			`{"type":"email.complained","created_at":"2026-12-03T09:41:00Z","data":{"email_id":"m1","to":["anna@example.com"]}}`,
			func(body string) map[string]string {
				return map[string]string{"svix-id": "msg_1", "svix-timestamp": seconds, "svix-signature": "v1," + base64.StdEncoding.EncodeToString(mac(sha256.New, secret, "msg_1."+seconds+"."+body))}
			}, engagement.Event{Subject: "anna@example.com", Kind: engagement.Complaint, Message: "m1"}, 202, 503, false},
		{"customerio", map[string]string{"CUSTOMERIO_SIGNING_KEYS": secret},
			`{"event_id":"e1","object_type":"sms","metric":"clicked","timestamp":` + seconds + `,"data":{"customer_id":"C-1","delivery_id":"m1","href":"https://example.com/"}}`,
			func(body string) map[string]string {
				return map[string]string{"X-CIO-Timestamp": seconds, "X-CIO-Signature": hex.EncodeToString(mac(sha256.New, secret, "v0:"+seconds+":"+body))}
			}, engagement.Event{Subject: "C-1", Kind: engagement.Click, Channel: "sms", Message: "m1", Link: "https://example.com/"}, 202, 503, false},
		{"segment", map[string]string{"SEGMENT_SHARED_SECRETS": secret},
			`{"type":"track","event":"Unsubscribed","messageId":"e1","userId":"C-1","receivedAt":"2026-12-03T09:41:00Z","timestamp":"2026-12-03T09:41:00Z","properties":{"email_id":"m1"}}`,
			func(body string) map[string]string {
				return map[string]string{"X-Signature": hex.EncodeToString(mac(sha1.New, secret, body))}
			}, engagement.Event{Subject: "C-1", Kind: engagement.Unsubscribe, Message: "m1"}, 202, 503, false},
		{"hubspot", map[string]string{"HUBSPOT_CLIENT_SECRETS": secret, "PUBLIC_URL": "https://mail.example.com"},
			`[{"subscriptionType":"contact.propertyChange","objectId":123,"portalId":1,"occurredAt":` + millis + `,"propertyName":"hs_email_optout","propertyValue":"true"}]`,
			func(body string) map[string]string {
				signed := "POSThttps://mail.example.com/v1/webhooks/hubspot" + body + millis
				return map[string]string{"X-HubSpot-Request-Timestamp": millis, "X-HubSpot-Signature-v3": base64.StdEncoding.EncodeToString(mac(sha256.New, secret, signed))}
			}, engagement.Event{Subject: "123", Kind: engagement.Unsubscribe}, 202, 503, false},
		{"sfmc", map[string]string{"SFMC_SIGNATURE_KEYS": secret},
			`[{"eventCategoryType":"EngagementEvents.EmailUnsubscribe","timestampUTC":` + millis + `,"composite":{"jobId":"1","listId":"2","batchId":"3","subscriberId":"4"}}]`,
			func(body string) map[string]string {
				return map[string]string{"x-sfmc-ens-signature": base64.StdEncoding.EncodeToString(mac(sha256.New, secret, body))}
			}, engagement.Event{Subject: "4", Kind: engagement.Unsubscribe, Message: "1.2.3.4", Campaign: "1"}, 202, 503, false},
	} {
		t.Run(tt.provider, func(t *testing.T) {
			var c Config
			if err := config.Parse(&c, "ingest", nil, func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }); err != nil {
				t.Fatal(err)
			}
			c.SES.Get = amazon(certificate)
			r, path := newRig(t, c), "/v1/webhooks/"+tt.provider
			if served := r.server.served(); !slices.Equal(served, []string{tt.provider}) {
				t.Fatalf("served are %q", served)
			}
			header := map[string]string{"Content-Type": "application/json"}
			if tt.header != nil {
				maps.Copy(header, tt.header(tt.body))
			}
			if v := r.verdict(r.send(path, header, tt.body), tt.taken); v.Accepted != 1 || v.Dead != 0 {
				t.Errorf("got %+v", v)
			}
			want := tt.want
			want.Source, want.Provider = "/ingest/"+tt.provider, tt.provider
			if want.Channel == "" {
				want.Channel = "email"
			}
			events := r.events(liveTopic)
			if len(events) != 1 {
				t.Fatalf("%d events", len(events))
			}
			got := events[0]
			if got.ID == "" || got.Time.Before(clock.Add(-time.Hour)) || got.Time.After(clock) {
				t.Errorf("id %q, time %v", got.ID, got.Time)
			}
			got.ID, got.Time, got.Trace = "", time.Time{}, ""
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}

			r.out.away = topics.Events
			if response := r.send(path, header, tt.body); response.StatusCode != tt.later || response.Header.Get("Retry-After") == "" {
				t.Errorf("while Kafka is away: status %d", response.StatusCode)
			}
			r.out.away = ""
			response := r.send(path, nil, `{"event":"open"}`)
			if response.StatusCode != http.StatusUnauthorized || strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Basic") != tt.basic {
				t.Errorf("without a signature: status %d, WWW-Authenticate %q", response.StatusCode, response.Header.Get("WWW-Authenticate"))
			}
		})
	}
}

// Whom HubSpot was told to erase is forgotten here: by a record that says everything of before, and nothing known any more.
// Told again it is the same record, and HubSpot is answered when Kafka has all of it.
func TestADeletionInHubSpotIsAnErasure(t *testing.T) {
	const secret, path = "a secret of some length", "/v1/webhooks/hubspot"
	deletion := func(contact string, at time.Time) string {
		return fmt.Sprintf(`{"subscriptionType":"contact.privacyDeletion","objectId":%s,"portalId":1,"occurredAt":%d}`, contact, at.UnixMilli())
	}
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"as it is called there", Config{}, "847297356"},
		{"under its pseudonym", Config{Pseudonym: secret}, "4580b67ee656d04628d4637b720fce20"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.HubSpot.Secrets, tt.c.PublicURL = secret, "https://mail.example.com"
			r := newRig(t, tt.c)
			send := func(body string) *http.Response {
				millis := strconv.FormatInt(clock.UnixMilli(), 10)
				mac := hmac.New(sha256.New, []byte(secret))
				mac.Write([]byte("POSThttps://mail.example.com" + path + body + millis))
				return r.send(path, map[string]string{"X-HubSpot-Request-Timestamp": millis, "X-HubSpot-Signature-v3": base64.StdEncoding.EncodeToString(mac.Sum(nil))}, body)
			}
			at := clock.Add(-time.Minute)
			body := "[" + deletion("847297356", at) + "," + deletion(`"nobody"`, at) + "]"
			for _, away := range []string{topics.Erasures, topics.Attributes} {
				r.out.away = away
				if response := send(body); response.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("while %s cannot be written to: status %d", away, response.StatusCode)
				}
			}
			r.out.away = ""
			if v := r.verdict(send(body), http.StatusAccepted); v.Erased != 1 || v.Dead != 1 || v.Accepted != 0 || len(v.Refused) != 1 || v.Refused[0].Field != "objectId" {
				t.Errorf("got %+v", v)
			}
			erasures, attributes := r.appended(topics.Erasures), r.appended(topics.Attributes)
			if len(erasures) != 2 || len(attributes) != 1 { // one of the erasures was written before its attributes could be
				t.Fatalf("%d erasures, %d records of attributes", len(erasures), len(attributes))
			}
			if string(attributes[0].Key) != tt.want || len(attributes[0].Value) != 0 {
				t.Errorf("attributes of %q: %q", attributes[0].Key, attributes[0].Value)
			}
			var ids []string
			for _, record := range erasures {
				e, err := stream.ParseEvent(record.Value)
				if err != nil || string(record.Key) != tt.want || e.Subject != tt.want || e.Type != customer.ErasureType || e.Source != "/ingest/hubspot" || !validTrace(e.Traceparent) {
					t.Errorf("%q: %s, %v", record.Key, record.Value, err)
				}
				var x customer.Erasure
				if err := x.Parse(e.Data); err != nil || !x.All() || !x.Before.Equal(at) || x.Reason == "" {
					t.Errorf("%+v, %v", x, err)
				}
				ids = append(ids, strings.Clone(e.ID))
			}
			if ids[0] != ids[1] {
				t.Errorf("told again it is another record: %q", ids)
			}
		})
	}
}

func TestMarketingCloudsCallbackIsSetUp(t *testing.T) {
	var log strings.Builder
	r := newRig(t, Config{SFMC: sfmc.Config{Setup: true}})
	set := app.Settings{Log: slog.New(slog.NewTextHandler(&log, nil))}.WithDefaults()
	var err error
	if r.server, err = newServer(r.server.config, r.out, r.store, partitions, set, func() time.Time { return clock }); err != nil {
		t.Fatal(err)
	}
	r.handler = r.server.handler()
	response := r.send("/v1/webhooks/sfmc", map[string]string{"Content-Type": "application/json"}, `{"callbackId":"c-1","verificationKey":"v-1"}`)
	if response.StatusCode != http.StatusOK || !strings.Contains(log.String(), "v-1") {
		t.Errorf("got status %d, log %s", response.StatusCode, log.String())
	}
	if response := r.send("/v1/webhooks/sfmc", nil, `[{"eventCategoryType":"EngagementEvents.EmailOpen"}]`); response.StatusCode != http.StatusUnauthorized {
		t.Errorf("an event without a signature: status %d", response.StatusCode)
	}
}
