// Package webhooktest is what the tests of the providers' packages have in common: elements written down, files of expected ones,
// and the promise of every Read. Only tests import it; it makes no requests, because each provider signs its own way.
package webhooktest

import (
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
