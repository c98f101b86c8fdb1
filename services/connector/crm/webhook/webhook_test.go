package webhook

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
)

// TestSignatureVector compares with the vector of the Standard Webhooks libraries.
func TestSignatureVector(t *testing.T) {
	data := os.Getenv("TEMPISMO_DATA")
	if data == "" {
		t.Skip("TEMPISMO_DATA is not set: the signature vectors are not at hand")
	}
	b, err := os.ReadFile(filepath.Join(data, "esp", "vectors", "standard-webhooks", "vector.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]string
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	s, err := signers(config.Secret(v["secret"]))
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseInt(v["webhook-timestamp"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s[0].Sign(v["webhook-id"], time.Unix(seconds, 0), []byte(v["body"]))
	if err != nil || got != v["webhook-signature"] {
		t.Errorf("got %s, %v, want %s", got, err, v["webhook-signature"])
	}
}
