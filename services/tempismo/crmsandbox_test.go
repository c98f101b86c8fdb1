package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	crms "github.com/tempismo/tempismo/services/connector/crm" // crm is a function of this package
	"github.com/tempismo/tempismo/services/connector/crm/braze"
	"github.com/tempismo/tempismo/services/connector/crm/customerio"
	"github.com/tempismo/tempismo/services/connector/crm/hubspot"
	"github.com/tempismo/tempismo/services/connector/crm/klaviyo"
	"github.com/tempismo/tempismo/services/connector/crm/mautic"
	"github.com/tempismo/tempismo/services/connector/crm/sfmc"
)

// TestCRMSandbox: each connector reaches its CRM at the one address, and what it sends is shown.
func TestCRMSandbox(t *testing.T) {
	var c crmSandboxCmd
	k, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Parse([]string{"--listen", "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, show := io.Pipe()
	told, tell := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, terminal{out: show, err: tell}) }()
	first, err := bufio.NewReader(told).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://[0-9.:]+`).FindString(first)
	shown := bufio.NewReader(out)

	send := &crms.Send{ID: "d-1", Customer: "a@example.com", Time: time.Now(), Data: []byte(`{"reason":"slot"}`)}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	rows := []struct {
		name string
		crm  crms.CRM
	}{
		{"klaviyo", klaviyo.New(klaviyo.Config{APIKey: "sandbox", Metric: "m"}, client, url)},
		{"braze", braze.New(braze.Config{APIKey: "sandbox", CampaignID: "c"}, client, url)},
		{"braze", braze.New(braze.Config{APIKey: "sandbox", CanvasID: "c"}, client, url)},
		{"customerio", customerio.New(customerio.Config{SiteID: "sandbox", TrackKey: "sandbox", Event: "e"}, client, url)},
		{"customerio", customerio.New(customerio.Config{AppKey: "sandbox", TransactionalID: "3"}, client, url)},
		{"hubspot", hubspot.New(hubspot.Config{Token: "sandbox", EmailID: 7}, client, url)},
		{"hubspot", hubspot.New(hubspot.Config{Token: "sandbox", Property: "tempismo", IDProperty: "email"}, client, url)},
		{"mautic", mautic.New(mautic.Config{User: "sandbox", Password: "sandbox", EmailID: 7}, client, url)},
		{"sfmc", sfmc.New(sfmc.Config{ClientID: "sandbox", ClientSecret: "sandbox", EventKey: "e"}, client, url)},
		{"sfmc", sfmc.New(sfmc.Config{ClientID: "sandbox", ClientSecret: "sandbox", DefinitionKey: "d"}, client, url)},
	}
	for _, r := range rows {
		send.Customer = "a@example.com"
		if r.name == "mautic" { // knows numbers only
			send.Customer = "512"
		}
		answered := make(chan crms.Answer, 1)
		go func() { answered <- r.crm.Send(ctx, send, time.Now()) }()
		line, err := shown.ReadString('\n')
		if err != nil || !regexp.MustCompile(`^\d\d:\d\d:\d\d  `+r.name+` +d-1  `+send.Customer+`\n$`).MatchString(line) {
			t.Errorf("%s shows %q: %v", r.name, line, err)
		}
		if a := <-answered; a.Verdict != crms.Accepted {
			t.Errorf("%s answers %+v", r.name, a)
		}
	}
	books := []struct {
		name, customer string
		crm            crms.Updater
	}{
		{"klaviyo", "a@example.com", klaviyo.New(klaviyo.Config{APIKey: "sandbox"}, client, url)},
		{"braze", "a@example.com", braze.New(braze.Config{APIKey: "sandbox"}, client, url)},
		{"customerio", "a@example.com", customerio.New(customerio.Config{SiteID: "sandbox", TrackKey: "sandbox"}, client, url)},
		{"hubspot", "a@example.com", hubspot.New(hubspot.Config{Token: "sandbox", IDProperty: "email"}, client, url)},
		{"mautic", "512", mautic.New(mautic.Config{User: "sandbox", Password: "sandbox"}, client, url)},
		{"sfmc", "a@example.com", sfmc.New(sfmc.Config{ClientID: "sandbox", ClientSecret: "sandbox", DataExtension: "d", KeyColumn: "ContactKey"}, client, url)},
	}
	for _, b := range books {
		answered := make(chan crms.Answer, 1)
		go func() {
			a, _ := b.crm.Update(ctx, []crms.Contact{{Customer: b.customer, Timing: &crms.Timing{BestDay: "tue", BestHour: 10, Level: "own"}}}, time.Now())
			answered <- a
		}()
		line, err := shown.ReadString('\n')
		if err != nil || !regexp.MustCompile(`^\d\d:\d\d:\d\d  `+b.name+` +contact  `+b.customer+`  \{"tempismo_best_day":"tue",.*"tempismo_level":"own"\}\n$`).MatchString(line) {
			t.Errorf("%s shows %q: %v", b.name, line, err)
		}
		if a := <-answered; a.Verdict != crms.Accepted {
			t.Errorf("%s answers %+v", b.name, a)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	c.Fail = 1.5
	if c.Validate() == nil {
		t.Error("more calls fail than there are")
	}
}
