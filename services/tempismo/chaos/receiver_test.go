package chaos

import (
	"bytes"
	"net/http"
	"strconv"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

func TestReceiver(t *testing.T) {
	h, err := NewReceiver()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	hook, err := standardwebhooks.NewWebhook(h.Secret())
	if err != nil {
		t.Fatal(err)
	}
	call := func(id string, body []byte, signed bool) (status int, err error) {
		now := time.Now()
		signature := "v1,bm8="
		if signed {
			if signature, err = hook.Sign(id, now, body); err != nil {
				t.Fatal(err)
			}
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL(), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(standardwebhooks.HeaderWebhookID, id)
		r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
		r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		return answer.StatusCode, nil
	}
	body := []byte(`{"type":"io.tempismo.decision.send_now.v1","timestamp":"2026-11-29T10:00:00Z","data":{"id":"d-1","customer":"C-1","decision":{"request":"r-1"}}}`)
	if status, err := call("d-1", body, true); err != nil || status != http.StatusOK {
		t.Errorf("a signed call: %d, %v, want 200", status, err)
	}
	if _, err := call("d-1", body, false); err != nil {
		t.Error(err)
	}
	h.Answer(func(c *Call) int {
		if c.WebhookID == "d-2" {
			return 0
		}
		return http.StatusTooManyRequests
	})
	if _, err := call("d-2", body, true); err == nil {
		t.Error("a call whose connection is to be cut was answered")
	}
	if status, err := call("d-3", body, true); err != nil || status != http.StatusTooManyRequests {
		t.Errorf("a call to be refused: %d, %v, want 429", status, err)
	}
	calls := h.Calls()
	if len(calls) != 4 {
		t.Fatalf("%d calls in the log, want 4: %v", len(calls), calls)
	}
	c := calls[0]
	if c.WebhookID != "d-1" || c.Decision != "d-1" || c.Customer != "C-1" || c.Request != "r-1" || c.Time.Hour() != 10 || c.Unsigned || !c.taken() {
		t.Errorf("the first call is logged as %+v", c)
	}
	if !calls[1].Unsigned || calls[1].Body != c.Body {
		t.Errorf("the call without a signature is logged as %+v", calls[1])
	}
	if !calls[2].taken() || calls[3].taken() {
		t.Errorf("a cut call has been taken, a refused one has not: %+v, %+v", calls[2], calls[3])
	}
}
