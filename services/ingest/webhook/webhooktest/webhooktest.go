// Package webhooktest is what the tests of the providers' packages have in common: elements written down, files of expected ones,
// the payloads of others to begin from, and the promises of every Read and Verify. Only tests import it; it makes no requests, because each provider signs its own way.
package webhooktest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

var update = flag.Bool("update", false, "rewrite the files of expected events in testdata")

// Show writes down what Read gives: elements, one in a line, with all that a Source says of them but Raw.
func Show(elements []webhook.Element, err error) string {
	if err != nil {
		return fmt.Sprintf("refused: %v\n", err)
	}
	var b strings.Builder
	for _, x := range elements {
		switch {
		case x.Err != nil:
			fmt.Fprintf(&b, "error: %v", x.Err)
		case x.Erase != nil:
			fmt.Fprintf(&b, "erase: %s before %s", x.Erase.Customer, x.Erase.Before.Format(time.RFC3339Nano))
		case x.Event == nil:
			fmt.Fprintf(&b, "ignored: %s", x.Ignored)
		default:
			b.Write(x.Event.Append(nil))
			if x.Machine {
				b.WriteString(" machine")
			}
			if x.Address.IsValid() {
				fmt.Fprintf(&b, " from %v", x.Address)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Golden compares with a file of testdata; -update writes it, and then it is to be looked at.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", path, got)
	}
}

// Check is the promise of Read, whatever the body: every element is one thing, and every event is valid and has no actor yet.
func Check(t *testing.T, elements []webhook.Element) {
	t.Helper()
	for i, x := range elements {
		n := 0
		for _, is := range []bool{x.Event != nil, x.Erase != nil, x.Ignored != "", x.Err != nil} {
			if is {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("element %d is %d things: %+v", i, n, x)
		}
		if x.Erase != nil && (x.Erase.Customer == "" || x.Erase.Before.IsZero()) {
			t.Fatalf("element %d erases %+v", i, x.Erase)
		}
		if x.Event == nil {
			continue
		}
		if err := x.Event.Validate(); err != nil {
			t.Fatalf("element %d is not valid: %v", i, err)
		}
		if x.Event.Actor != engagement.Human || x.Event.ActorRule != "" {
			t.Fatalf("element %d has an actor, which is for the server to say: %+v", i, x.Event)
		}
	}
}

// Verified is the promise of Verify, whatever the request: it finds out, as these requests can be judged without anybody else; it finds
// the same when it is asked again; what Early refuses it refuses; and it leaves the body as it is. What is verified can be read. It
// reports whether the request was taken for the provider's.
func Verified(t *testing.T, s webhook.Source, r *webhook.Request) bool {
	t.Helper()
	body := bytes.Clone(r.Body)
	err := s.Verify(t.Context(), r)
	if err != nil && !errors.Is(err, webhook.ErrUnverified) {
		t.Fatalf("neither the provider's nor not: %v", err)
	}
	if again := s.Verify(t.Context(), r); (again == nil) != (err == nil) {
		t.Fatalf("at first %v, then %v", err, again)
	}
	if early := s.Early(r.Header); err == nil && early != nil {
		t.Fatalf("Early refuses what is verified: %v", early)
	}
	if !bytes.Equal(body, r.Body) {
		t.Fatalf("the body was %q, and is %q", body, r.Body)
	}
	if err != nil {
		return false
	}
	if elements, err := s.Read(r); err == nil {
		Check(t, elements)
	}
	return true
}

// Tamper says how a fuzzer gets at a request that a key signs: odd numbers are the key's own signature, of which some have one bit
// flipped, the others what the fuzzer makes of it.
type Tamper uint16

// Signs reports whether the signature is to be made by the key.
func (n Tamper) Signs() bool { return n&1 == 1 }

// Bend flips the bit of the signature that the fuzzer has chosen, if it has, and reports whether it is still the key's.
func (n Tamper) Bend(signature []byte) (whole bool) {
	bit := int(n >> 1)
	if bit == 0 || len(signature) == 0 {
		return true
	}
	bit %= 8 * len(signature)
	signature[bit/8] ^= 1 << (bit % 8)
	return false
}

// Payloads are what others have published of a provider's requests, where they are at hand; they are not part of the tree.
func Payloads(t testing.TB, provider string) [][]byte {
	t.Helper()
	folder := os.Getenv("TEMPISMO_DATA")
	if folder == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(folder, "esp", "anymail", provider, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no payloads of %s: %v", provider, err)
	}
	var all [][]byte
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, body)
	}
	return all
}
