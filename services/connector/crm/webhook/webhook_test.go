package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/crmtest"
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

// FuzzCall: whatever a decision says, what is called for it can be verified as the specification wants, and holds the decision; and whatever is
// answered is sorted, and bounded.
func FuzzCall(f *testing.F) {
	const data = `{"reason":"slot","channel":"email","expires_at":"2026-12-03T10:11:52Z"}`
	for _, code := range []uint16{200, 204, 301, 400, 408, 410, 422, 425, 429, 500, 503} {
		f.Add(code-200, "7", "d-1", "C-1", []byte(data))
	}
	f.Add(uint16(229), "2147483647", "d.1", "a@example.com", []byte(`null`))
	f.Add(uint16(303), "Thu, 03 Dec 9999 08:05:00 GMT", "d\n1", "", []byte(`{`))
	f.Add(uint16(0), "", "", "\xff", []byte(`{"a":"<>&\u2028"}`))
	key, next := []byte("0123456789abcdef0123456789abcdef"), []byte("fedcba9876543210fedcba9876543210")
	c := Config{Secret: config.Secret("whsec_" + base64.StdEncoding.EncodeToString(key) + " whsec_" + base64.StdEncoding.EncodeToString(next))}
	at := time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC)
	f.Fuzz(func(t *testing.T, code uint16, retry, id, customer string, decision []byte) {
		called := 0
		api := crmtest.API(func(r *http.Request) (int, http.Header, []byte) {
			called++
			crmtest.Call(t, r, 1)
			body, err := io.ReadAll(r.Body)
			if err != nil || r.Header.Get("webhook-id") != id || r.Header.Get("webhook-timestamp") != "1796290912" {
				t.Fatalf("%v: %v", r.Header, err)
			}
			var want []string
			for _, key := range [][]byte{key, next} {
				mac := hmac.New(sha256.New, key)
				mac.Write([]byte(id + ".1796290912." + string(body)))
				want = append(want, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
			}
			if got := r.Header.Get("webhook-signature"); got != strings.Join(want, " ") {
				t.Fatalf("signed with %s, not %s", got, want)
			}
			var said struct{ Data struct{ Decision any } }
			var given any
			if json.Unmarshal(decision, &given) != nil || json.Unmarshal(body, &said) != nil || !reflect.DeepEqual(said.Data.Decision, given) {
				t.Fatalf("of %s it says %s", decision, body)
			}
			return crmtest.Codes(code), http.Header{"Retry-After": {retry}}, nil
		})
		w, err := New(c, api.Client(), "https://crm.example.com/hooks")
		if err != nil {
			t.Fatal(err)
		}
		a := w.Send(t.Context(), &crm.Send{ID: id, Type: "io.tempismo.decision.send_now.v1", Customer: customer, Time: at, Data: decision}, at)
		if called == 0 {
			if a.Verdict != crm.Refused {
				t.Fatalf("nobody was called: %+v", a)
			}
			return
		}
		want := crm.Retry // redirects
		switch code := crmtest.Codes(code); {
		case code < 300:
			want = crm.Accepted
		case code == http.StatusGone:
			want = crm.Gone
		case code >= 500, code == http.StatusRequestTimeout: // it may have the message
			want = crm.Unknown
		case code >= 400 && code < 500 && code != 408 && code != 425 && code != 429:
			want = crm.Refused
		}
		if a.Verdict != want || a.After < 0 || a.After > time.Hour || a.ID != "" || len(a.Detail) > 100 {
			t.Fatalf("%d: got %+v, want %s", crmtest.Codes(code), a, want)
		}
	})
}
