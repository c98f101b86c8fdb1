package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

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
	return `It demands what Klaviyo, Braze, Customer.io, HubSpot, Mautic and Salesforce Marketing Cloud document, sends nothing, and writes what they would have sent, one line each.

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
	lines := make(chan sandbox.Sent)
	mux := http.NewServeMux()
	add := func(f *sandbox.Fake, paths ...string) {
		f.Late = c.Late
		f.Fault = func(*http.Request) sandbox.Fault {
			if rand.Float64() >= c.Fail {
				return sandbox.None
			}
			return sandbox.Fault(1 + rand.IntN(sandbox.Kinds))
		}
		f.Told = func(s sandbox.Sent) {
			select {
			case lines <- s:
			case <-ctx.Done():
			}
		}
		for _, path := range paths {
			mux.Handle(path, f)
		}
	}
	add(sandbox.Klaviyo(c.Key), "/api/events")
	add(sandbox.Braze(c.Key), "/campaigns/trigger/send", "/canvas/trigger/send")
	add(sandbox.CustomerIO(c.Key, c.Key, c.Key), "/api/v1/customers/", "/v1/send/email")
	add(sandbox.HubSpot(c.Key), "/marketing/v4/email/single-send", "/crm/v3/objects/contacts/")
	add(sandbox.Mautic(c.Key, c.Key), "/api/emails/")
	add(sandbox.SFMC(c.Key, c.Key), "/v2/token", "/interaction/v1/events", "/messaging/v1/email/messages/")

	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	fmt.Fprintf(t.err, "Klaviyo, Braze, Customer.io, HubSpot, Mautic and Salesforce Marketing Cloud are imitated at http://%s; their key is %q\n", ln.Addr(), c.Key)
	for {
		select {
		case s := <-lines:
			fmt.Fprintf(t.out, "%s  %-10s  %s  %s\n", s.At.UTC().Format(time.TimeOnly), s.CRM, s.Decision, s.Customer)
		case err := <-ended:
			return err
		case <-ctx.Done():
			if err := server.Close(); err != nil {
				return err
			}
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		}
	}
}
