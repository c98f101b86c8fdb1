package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

// crmSandboxCmd imitates CRMs for people who have no account at hand, or do not want to write to anybody.
type crmSandboxCmd struct {
	Listen string        `default:"127.0.0.1:8090" placeholder:"HOST:PORT" help:"Where the CRMs are served."`
	Key    string        `default:"sandbox" help:"The key that all of them want: API keys, Customer.io's site ID, Mautic's user and password, and Salesforce's client ID and secret."`
	Fail   float64       `default:"0" help:"Share of the calls that fail, in one of the ways in which a CRM can: 429, errors and broken connections before and after the message was taken, late answers."`
	Late   time.Duration `default:"20s" help:"By how much a late answer is late."`
}

// Help is the example.
func (*crmSandboxCmd) Help() string {
	return `It demands what Klaviyo, Braze, Customer.io, HubSpot, Mautic and Salesforce Marketing Cloud document, sends nothing, and writes what they would have sent, and
the properties of contacts that they were told, one line each.

Example:
  tempismo crm-sandbox --fail 0.3
  CONNECTOR_TARGET=klaviyo KLAVIYO_API_KEY=sandbox KLAVIYO_URL=http://127.0.0.1:8090 KLAVIYO_ALLOW_PRIVATE=true connector`
}

// Validate checks what a flag can have wrong.
func (c *crmSandboxCmd) Validate() error {
	if !(c.Fail >= 0 && c.Fail <= 1) {
		return fmt.Errorf("--fail: %v is not between 0 and 1", c.Fail)
	}
	return nil
}

// Run serves the CRMs until ctx ends.
func (c *crmSandboxCmd) Run(ctx context.Context, t terminal) error {
	lines := make(chan string)
	show := func(at time.Time, format string, args ...any) {
		select {
		case lines <- at.UTC().Format(time.TimeOnly) + "  " + fmt.Sprintf(format, args...):
		case <-ctx.Done():
		}
	}
	mux := http.NewServeMux()
	add := func(f *sandbox.Fake, paths ...string) {
		f.Late = c.Late
		f.Fault = func(*http.Request) sandbox.Fault {
			if rand.Float64() >= c.Fail {
				return sandbox.None
			}
			return sandbox.Fault(1 + rand.IntN(sandbox.Kinds))
		}
		f.Told = func(s sandbox.Sent) { show(s.At, "%-10s  %s  %s", s.CRM, s.Decision, s.Customer) }
		f.Wrote = func(w sandbox.Written) {
			properties, err := json.Marshal(w.Properties)
			if err != nil {
				properties = nil // it came as JSON
			}
			show(w.At, "%-10s  contact  %s  %s", w.CRM, w.Customer, properties)
		}
		for _, path := range paths {
			mux.Handle(path, f)
		}
	}
	add(sandbox.Klaviyo(c.Key), "/api/events", "/api/profile-bulk-import-jobs")
	add(sandbox.Braze(c.Key), "/campaigns/trigger/send", "/canvas/trigger/send", "/users/track")
	add(sandbox.CustomerIO(c.Key, c.Key, c.Key), "/api/v1/customers/", "/api/v2/batch", "/v1/send/email")
	add(sandbox.HubSpot(c.Key), "/marketing/v4/email/single-send", "/crm/v3/objects/contacts/")
	add(sandbox.Mautic(c.Key, c.Key), "/api/emails/", "/api/contacts/batch/edit")
	add(sandbox.SFMC(c.Key, c.Key), "/v2/token", "/interaction/v1/events", "/messaging/v1/email/messages/", "/hub/v1/dataevents/")

	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- app.Serve(ctx, ln, mux) }()
	fmt.Fprintf(t.err, "Klaviyo, Braze, Customer.io, HubSpot, Mautic and Salesforce Marketing Cloud are imitated at http://%s; their key is %q\n", ln.Addr(), c.Key)
	for {
		select {
		case s := <-lines:
			fmt.Fprintln(t.out, s)
		case err := <-ended:
			if ctx.Err() != nil { // who waits for a late answer waits no longer
				return nil
			}
			return err
		}
	}
}
