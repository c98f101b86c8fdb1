package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tempismo/tempismo/pkg/topics"
)

// api is patient for as long as ingest waits for Kafka, and a little more.
var api = &http.Client{Timeout: 15 * time.Second}

// post sends items through ingest; nil is its word that Kafka has them.
func post(ctx context.Context, url, topic string, items []item) error {
	route := "/v1/events"
	if topic == topics.Requests {
		route = "/v1/requests"
	}
	var body bytes.Buffer
	for i := range items {
		body.Write(items[i].value)
		body.WriteByte('\n')
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+route, &body)
	if err != nil {
		return err
	}
	r.Header.Set("content-type", "application/x-ndjson")
	answer, err := api.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if answer.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s: %s", route, answer.Status, text)
	}
	return nil
}
