package ingest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/brevo"
	"github.com/tempismo/tempismo/services/ingest/webhook/customerio"
	"github.com/tempismo/tempismo/services/ingest/webhook/hubspot"
	"github.com/tempismo/tempismo/services/ingest/webhook/mailgun"
	"github.com/tempismo/tempismo/services/ingest/webhook/postmark"
	"github.com/tempismo/tempismo/services/ingest/webhook/resend"
	"github.com/tempismo/tempismo/services/ingest/webhook/segment"
	"github.com/tempismo/tempismo/services/ingest/webhook/sendgrid"
	"github.com/tempismo/tempismo/services/ingest/webhook/ses"
	"github.com/tempismo/tempismo/services/ingest/webhook/sfmc"
)

// provider is one of whom webhooks are taken, at /v1/webhooks/ and its name.
type provider struct {
	name      string
	list      bool           // not its webhooks, but what is fetched from it
	challenge string         // of a 401
	taken     int            // the status that the provider takes for success
	later     int            // the status upon which it tries again
	source    webhook.Source // nil: not configured
	bare      webhook.Source // one without settings, which reads all the same
}

// stage is what dead letters say of where they failed. Elements of a list look otherwise than those of a webhook.
func (p *provider) stage() string {
	if p.list {
		return stageOfOurs + p.name + ".list"
	}
	return stageOfOurs + p.name
}

// reader is the source, for reading alone.
func (p *provider) reader() webhook.Source {
	if p.source != nil {
		return p.source
	}
	return p.bare
}

// Challenges. HTTP knows no scheme for signatures, but a 401 has to name one.
const (
	signature = "Signature"
	password  = `Basic realm="tempismo"`
)

// providers is the table of those that there are. The error says everything that is wrong with the settings of any.
//
// Success is 202, and what is to come again 503, where a provider's documentation does not speak against it.
func (c Config) providers() ([]provider, error) {
	const accepted, unavailable = http.StatusAccepted, http.StatusServiceUnavailable
	t := table{}
	add(&t, provider{name: "sendgrid", challenge: signature, taken: accepted, later: unavailable}, c.SendGrid, sendgrid.New)
	// SNS takes a 4xx for an answer like any other, and does not send the message again.
	add(&t, provider{name: "ses", challenge: signature, taken: accepted, later: unavailable}, c.SES, ses.New)
	add(&t, provider{name: "customerio", challenge: signature, taken: accepted, later: unavailable}, c.CustomerIO, customerio.New)
	add(&t, provider{name: "segment", challenge: signature, taken: accepted, later: unavailable}, c.Segment, segment.New)
	add(&t, provider{name: "hubspot", challenge: signature, taken: accepted, later: unavailable}, c.HubSpot, hubspot.New)
	// Mailgun takes 200 alone for success, and sends anything else again for eight hours.
	add(&t, provider{name: "mailgun", challenge: signature, taken: http.StatusOK, later: unavailable}, c.Mailgun, mailgun.New)
	// Postmark's page speaks of 200; whether another 2xx will do it does not say.
	add(&t, provider{name: "postmark", challenge: password, taken: http.StatusOK, later: unavailable}, c.Postmark, postmark.New)
	// Whether Brevo sends again after a 5xx can be read both ways. After 429 it does.
	add(&t, provider{name: "brevo", challenge: password, taken: http.StatusOK, later: http.StatusTooManyRequests}, c.Brevo, brevo.New)
	add(&t, provider{name: "resend", challenge: signature, taken: accepted, later: unavailable}, c.Resend, resend.New)
	add(&t, provider{name: "sfmc", challenge: signature, taken: accepted, later: unavailable}, c.SFMC, sfmc.New)
	return t.rows, errors.Join(t.problems...)
}

// table is the table while it is made.
type table struct {
	rows     []provider
	problems []error
}

// add adds p, with a source where its settings are there.
func add[C interface{ Enabled() bool }, S webhook.Source](t *table, p provider, c C, open func(C) (S, error)) {
	var bare S
	p.bare = bare
	if c.Enabled() {
		source, err := open(c)
		if err != nil {
			t.problems = append(t.problems, named(p.name, err)...)
		} else {
			p.source = source
		}
	}
	t.rows = append(t.rows, p)
}

// named gives a provider's errors the whole names of its settings.
func named(provider string, err error) []error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for i, err := range all {
		all[i] = fmt.Errorf("%s_%w", strings.ToUpper(provider), err)
	}
	return all
}

// served names the providers whose webhooks are served.
func (s *server) served() []string {
	var names []string
	for _, p := range s.providers {
		if p.source != nil {
			names = append(names, p.name)
		}
	}
	return names
}
