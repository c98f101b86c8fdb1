// Package crmtest is what the tests of the CRMs' packages have in common: an API that answers everything alike, and the promise of every Send.
// Only tests import it. It imitates no CRM: sandbox does.
package crmtest

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tempismo/tempismo/services/connector/crm"
)

// API answers calls without a network.
type API func(*http.Request) (code int, header http.Header, body []byte)

// RoundTrip is http.RoundTripper's.
func (a API) RoundTrip(r *http.Request) (*http.Response, error) {
	code, header, body := a(r)
	return &http.Response{StatusCode: code, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

// Client calls the API as the connector does, without following redirects.
func (a API) Client() *http.Client {
	c := crm.Calls{}.Client("", false)
	c.Transport = a
	return c
}

// Call fails the test where a call is not one that can be sent, or leads elsewhere than to a place of so many segments.
func Call(t *testing.T, r *http.Request, segments int) {
	t.Helper()
	path := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if r.URL.Host != "crm.example.com" || len(path) != segments || slices.Contains(path, "") || slices.Contains(path, ".") || slices.Contains(path, "..") {
		t.Fatalf("%s is called", r.URL)
	}
	for name, values := range r.Header {
		if strings.ContainsFunc(strings.Join(values, ""), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			t.Fatalf("%s: %q cannot be sent", name, values)
		}
	}
}

// Codes is a status such as servers answer, of whatever a fuzzer makes.
func Codes(n uint16) int { return 200 + int(n%400) }

// Check is the promise of Send where an API has answered, whatever it was: what comes out is bounded; and what the status leaves open is
// never called a yes, a no or an invitation to try again.
func Check(t *testing.T, code int, a crm.Answer) {
	t.Helper()
	if !slices.Contains([]crm.Verdict{crm.Accepted, crm.Refused, crm.Retry, crm.Denied, crm.Unknown}, a.Verdict) {
		t.Fatalf("%d: the verdict is %q", code, a.Verdict)
	}
	if a.After < 0 || a.After > time.Hour || len(a.Detail) > 500 || !utf8.ValidString(a.Detail) || len(a.ID) > crm.MaxID {
		t.Fatalf("%d: it is not bounded: %+v", code, a)
	}
	if a.ID != "" && a.Verdict != crm.Accepted {
		t.Fatalf("%d: the id of what was not taken: %+v", code, a)
	}
	if (code >= 500 || code == http.StatusRequestTimeout) && a.Verdict != crm.Unknown {
		t.Fatalf("%d leaves open what became of the call: %+v", code, a)
	}
	if code == http.StatusUnauthorized && a.Verdict == crm.Refused {
		t.Fatalf("%d is about us and not about the customer: %+v", code, a)
	}
}
