package ingest

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/redis"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/ingest/webhook/segment"
)

// The whole service on an embedded broker: what is answered with 202 stands on the topic, in order, under its key, and what of a
// webhook cannot be mapped on that of the dead letters.
func TestRunOnABroker(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	store, err := redis.StartEmbedded("", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	run := stream.Run{ID: "r1"}
	const secret = "a secret of some length"
	c := Config{Kafka: broker.Config(), Redis: redis.Config{Addr: store.Addr()}, Pixels: config.Pixels{Consent: "assumed"}, Run: config.Run{ID: "r1", Mode: "live"}, Segment: segment.Config{Secrets: secret}}

	if err := Run(t.Context(), c, app.Settings{}); !errors.Is(err, stream.ErrUnknownTopic) {
		t.Fatalf("without topics: %v, want stream.ErrUnknownTopic", err)
	}
	if err := kafka.EnsureTopics(t.Context(), c.Kafka, run, partitions); err != nil {
		t.Fatal(err)
	}
	if c.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- Run(ctx, c, app.Settings{}) }()

	const requests, each = 20, 5
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answers := make(chan error)
	for i := range requests {
		go func() {
			var lines strings.Builder
			for j := range each {
				// A time that has passed, whatever the clock of the machine that runs this.
				lines.WriteString(strings.Replace(event(fmt.Sprintf("%02d-%d", i, j), fmt.Sprintf("C-%d", i)), "2026-12-03", "2020-12-03", 1) + "\n")
			}
			response, err := client.Post("http://"+c.Listener.Addr().String()+"/v1/events", "application/x-ndjson", strings.NewReader(lines.String()))
			if err == nil {
				response.Body.Close()
				if response.StatusCode != http.StatusAccepted {
					err = fmt.Errorf("status %d", response.StatusCode)
				}
			}
			answers <- err
		}()
	}
	for range requests {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}

	log, err := kafka.Open(t.Context(), c.Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	next := map[string]int{}
	err = kafka.Range(t.Context(), log, topics.Events, kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		var e engagement.Event
		if err := e.Parse(r.Value); err != nil {
			return err
		}
		if string(r.Key) != e.Subject || stream.Partition(r.Key, partitions) != r.Partition {
			t.Errorf("event of %s has key %q in partition %d", e.Subject, r.Key, r.Partition)
		}
		subject := strings.Clone(e.Subject)
		if !strings.HasSuffix(e.ID, fmt.Sprintf("-%d", next[subject])) {
			t.Errorf("event %s of %s comes after %d others", e.ID, subject, next[subject])
		}
		next[subject]++
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for i := range requests {
		if n := next[fmt.Sprintf("C-%d", i)]; n != each {
			t.Errorf("C-%d has %d events, want %d", i, n, each)
		}
	}

	// A call that is nobody's, and one that is larger than any record.
	nobody := fmt.Sprintf(`{"type":"track","event":"Email Opened","receivedAt":%q,"timestamp":"2026-03-01T10:00:00Z","more":""}`, time.Now().UTC().Format(time.RFC3339))
	large := strings.Replace(nobody, `"more":"`, `"more":"`+strings.Repeat("x", 3<<20), 1)
	for _, body := range []string{nobody, large} {
		request, err := http.NewRequest(http.MethodPost, "http://"+c.Listener.Addr().String()+"/v1/webhooks/segment", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte(body))
		request.Header.Set("X-Signature", hex.EncodeToString(mac.Sum(nil)))
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusAccepted {
			t.Errorf("a webhook of which nothing can be mapped: status %d", response.StatusCode)
		}
	}
	var letters []string
	err = kafka.Range(t.Context(), log, topics.DeadLetter(topics.Events), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		if string(r.Key) != "segment" || headers["__connect.errors.stage"] != "ingest:segment" || !strings.Contains(headers["__connect.errors.exception.message"], "userId") {
			t.Errorf("dead letter of %q with headers %q", r.Key, headers)
		}
		letters = append(letters, string(r.Value))
		return nil
	})
	if err != nil || len(letters) != 2 || letters[0] != nobody || len(letters[1]) < 1<<20 || !strings.HasPrefix(large, letters[1]) {
		t.Errorf("%d dead letters, %v", len(letters), err)
	}
	stop()
	if err := <-stopped; err != nil {
		t.Errorf("stopped with %v", err)
	}
}
