package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector"
	"github.com/tempismo/tempismo/services/decider"
	"github.com/tempismo/tempismo/services/detector"
	"github.com/tempismo/tempismo/services/ingest"
	"github.com/tempismo/tempismo/services/profiler"
)

// A live run from a provider's signed webhook to the CRM's verified one: the promise of the whole house.
func TestFromSignedWebhookToTheCRM(t *testing.T) {
	brokers, store := embedded(t)
	fromSignedWebhookToTheCRM(t, brokers, store, "e2e")
}

func TestRealFromSignedWebhookToTheCRM(t *testing.T) {
	brokers, store := onRealOnes(t)
	fromSignedWebhookToTheCRM(t, brokers, store, "e2e-"+strconv.FormatInt(time.Now().UnixNano(), 36))
}

// embedded starts a broker and a store for the length of a test and returns their addresses.
func embedded(t *testing.T) (brokers, store string) {
	t.Helper()
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	s, err := redis.StartEmbedded(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return broker.Addr(), s.Addr()
}

// onRealOnes returns the addresses of Apache Kafka and Redis, or skips the test.
func onRealOnes(t *testing.T) (brokers, store string) {
	t.Helper()
	if os.Getenv("TEMPISMO_REAL") == "" {
		t.Skip("needs Apache Kafka and Redis: run it with scripts/real")
	}
	return os.Getenv("KAFKA_BROKERS"), os.Getenv("REDIS_ADDR")
}

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// parsed returns a service's Config with its defaults and the given environment.
func parsed[C any](t *testing.T, env map[string]string) C {
	t.Helper()
	var c C
	if err := config.Parse(&c, "test", nil, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	return c
}

// delivered is one call of the CRM's webhook.
type delivered struct {
	header http.Header
	body   []byte
}

func fromSignedWebhookToTheCRM(t *testing.T, brokers, redisAddr, id string) {
	hook, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan delivered, 16)
	crm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := hook.Verify(body, r.Header); err != nil {
			t.Errorf("the CRM cannot verify the signature: %v", err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		calls <- delivered{r.Header.Clone(), body}
	}))
	t.Cleanup(crm.Close)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	api := "http://" + listener.Addr().String()

	env := map[string]string{
		"KAFKA_BROKERS": brokers, "REDIS_ADDR": redisAddr, "RUN_ID": id, "RUN_MODE": "live", "MODEL": "builtin.1", "PIXEL_CONSENT": "assumed",
		"WEBHOOK_URL": crm.URL, "WEBHOOK_SECRET": webhookSecret, "WEBHOOK_ALLOW_PRIVATE": "true",
		"SENDGRID_PUBLIC_KEYS": base64.StdEncoding.EncodeToString(der),
	}
	ctx, stop := context.WithCancel(context.Background())
	run := stream.Run{ID: id}
	if err := kafka.EnsureTopics(ctx, kafka.Config{Brokers: strings.Split(brokers, ",")}, run, 8); err != nil {
		t.Fatal(err)
	}
	allowAlways(t, brokers, run)
	set := app.Settings{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	in := parsed[ingest.Config](t, env)
	in.Listener = listener
	ended := make(chan error, 1)
	go func() {
		ended <- app.Group(ctx,
			func(ctx context.Context) error { return ingest.Run(ctx, in, set) },
			func(ctx context.Context) error { return profiler.Run(ctx, parsed[profiler.Config](t, env), set) },
			func(ctx context.Context) error { return detector.Run(ctx, parsed[detector.Config](t, env), set) },
			func(ctx context.Context) error { return decider.Run(ctx, parsed[decider.Config](t, env), set) },
			func(ctx context.Context) error { return connector.Run(ctx, parsed[connector.Config](t, env), set) },
		)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("services ended with %v", err)
		}
	})

	// Anna lives where it is about noon now, gets mail every day in the hour before this one, and reads it in this hour, or
	// one or two hours later. It is the middle of the hour each time: what she does at its edge counts for two hours, and
	// this test shall not depend on the minute at which it runs.
	now := time.Now().UTC().Truncate(time.Second)
	zone := aroundNoon(now)
	var history bytes.Buffer
	line := func(id, kind, message string, at time.Time) {
		fmt.Fprintf(&history, `{"specversion":"1.0","id":%q,"source":"/test","type":"io.tempismo.engagement.v1","subject":"anna","time":%q,"data":{"kind":%q,"channel":"email","message":%q,"zone":%q}}`+"\n",
			id, at.Format(time.RFC3339), kind, message, zone)
	}
	for day := 70; day >= 1; day-- {
		at := now.Truncate(time.Hour).Add(30*time.Minute).AddDate(0, 0, -day)
		message := fmt.Sprintf("m-%d", day)
		line(fmt.Sprintf("d%d", day), "delivered", message, at.Add(-time.Hour))
		line(fmt.Sprintf("o%d", day), "open", message, at.Add([]time.Duration{0, 0, time.Hour, 2 * time.Hour}[day%4]))
	}
	post(t, api+"/v1/events", map[string]string{"content-type": "application/x-ndjson"}, history.Bytes(), http.StatusAccepted)

	// Today she has read in the three hours before this one, too, and we learn of all that now, through SendGrid. Her third
	// hour is worth a word, the fourth passes the gate for sends; had the third, its moment would be over.
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	webhook := func(id string, at time.Time, change func(body []byte, header map[string]string) []byte, want int) string {
		body := fmt.Appendf(nil, "[{\"email\":\"anna@example.com\",\"customer_id\":\"anna\",\"event\":\"open\",\"timestamp\":%d,\"sg_event_id\":%q,\"sg_message_id\":\"today-%s\",\"useragent\":\"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\"}]\r\n", at.Unix(), id, id)
		header := map[string]string{
			"content-type": "application/json", "traceparent": "00-" + trace + "-00f067aa0ba902b7-01",
			"X-Twilio-Email-Event-Webhook-Timestamp": strconv.FormatInt(time.Now().Unix(), 10),
		}
		sign := func() {
			digest := sha256.Sum256(append([]byte(header["X-Twilio-Email-Event-Webhook-Timestamp"]), body...))
			signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			header["X-Twilio-Email-Event-Webhook-Signature"] = base64.StdEncoding.EncodeToString(signature)
		}
		sign()
		if change != nil {
			if changed := change(body, header); changed != nil {
				body = changed
				if want != http.StatusUnauthorized {
					sign()
				}
			} else {
				sign()
			}
		}
		return post(t, api+"/v1/webhooks/sendgrid", header, body, want)
	}
	webhook("tampered", now, func(body []byte, _ map[string]string) []byte {
		return bytes.Replace(body, []byte(`"anna"`), []byte(`"eve!"`), 1)
	}, http.StatusUnauthorized)
	webhook("stale", now, func(_ []byte, header map[string]string) []byte {
		header["X-Twilio-Email-Event-Webhook-Timestamp"] = strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
		return nil
	}, http.StatusUnauthorized)
	answer := webhook("malformed", now, func(body []byte, _ map[string]string) []byte {
		return bytes.Replace(body, []byte(`"timestamp":`), []byte(`"timestamp":"soon","was":`), 1)
	}, http.StatusAccepted)
	if !strings.Contains(answer, "timestamp") {
		t.Errorf("the answer to a malformed event does not name the field: %s", answer)
	}
	for back := 3; back >= 0; back-- {
		webhook(fmt.Sprintf("back-%d", back), now.Add(-time.Duration(back)*time.Hour), nil, http.StatusAccepted)
	}

	select {
	case call := <-calls:
		var message struct {
			Type string
			Data struct {
				Customer string
				Reason   string
			}
		}
		if err := json.Unmarshal(call.body, &message); err != nil {
			t.Fatalf("the CRM got no JSON: %v: %s", err, call.body)
		}
		if !strings.Contains(string(call.body), `"anna"`) || !strings.Contains(string(call.body), "burst") {
			t.Errorf("the CRM was not told that anna bursts: %s", call.body)
		}
		if got := call.header.Get("traceparent"); !strings.Contains(got, trace) {
			t.Errorf("the CRM got traceparent %q, want trace %s", got, trace)
		}
		if call.header.Get("webhook-id") == "" {
			t.Error("the call carries no webhook-id")
		}
	case err := <-ended:
		t.Fatalf("services ended: %v", err)
	case <-time.After(time.Minute):
		tell(t, brokers, run)
		t.Fatal("no decision reached the CRM within a minute")
	}
}

// allowAlways puts a policy into force in which every hour is open and no day is closed.
func allowAlways(t *testing.T, brokers string, run stream.Run) {
	t.Helper()
	p := decision.Default()
	p.Version, p.Quiet, p.Lead, p.Closed = "always.1", calendar.Window{}, nil, calendar.None
	for name, c := range p.Channels {
		c.Windows = []calendar.Opening{{Window: calendar.Window{To: 24 * 60}}}
		p.Channels[name] = c
	}
	log, err := kafka.Open(t.Context(), kafka.Config{Brokers: strings.Split(brokers, ",")})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	w, err := kafka.NewWriter(t.Context(), log, run)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e := stream.Event{ID: "pl-1", Source: "/test", Type: decision.PolicyType, Time: time.Now(), Data: p.Append(nil)}
	if err := w.Broadcast(t.Context(), topics.Policies, e.Append(nil), time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// tell logs what stands on the topics behind the events, for whoever has to find out where the flow ended.
func tell(t *testing.T, brokers string, run stream.Run) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	log, err := kafka.Open(ctx, kafka.Config{Brokers: strings.Split(brokers, ",")})
	if err != nil {
		t.Log(err)
		return
	}
	defer log.Close()
	for _, topic := range topics.All {
		names := []string{run.Topic(topic.Name)}
		if topic.DLQ {
			names = append(names, run.Topic(topics.DeadLetter(topic.Name)))
		}
		for _, name := range names {
			n := 0
			if err := kafka.Range(ctx, log, name, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
				if n++; n <= 8 || topic.Name == topics.Scored {
					t.Logf("%s %d:%d %s", name, r.Partition, r.Offset, r.Value)
				}
				return nil
			}); err != nil {
				t.Log(err)
			}
			t.Logf("%s: %d records", name, n)
		}
	}
}

// aroundNoon picks a zone of whole hours in which it is late morning or early afternoon at now.
func aroundNoon(now time.Time) string {
	offset := 12 - now.Hour()
	if offset > 12 {
		offset -= 24
	}
	name := "Etc/GMT"
	switch {
	case offset > 0:
		name = fmt.Sprintf("Etc/GMT-%d", offset) // POSIX: west is positive
	case offset < 0:
		name = fmt.Sprintf("Etc/GMT+%d", -offset)
	}
	return name
}

func post(t *testing.T, url string, header map[string]string, body []byte, want int) string {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range header {
			r.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode == http.StatusServiceUnavailable && want != http.StatusServiceUnavailable {
			if time.Now().After(deadline) {
				t.Fatalf("post %s: no answer within 30 s: %v", url, err)
			}
			if err == nil {
				answer.Body.Close()
			}
			time.Sleep(50 * time.Millisecond) // not up yet
			continue
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Fatalf("post %s: %s, want %d: %s", url, answer.Status, want, text)
		}
		return string(text)
	}
}
