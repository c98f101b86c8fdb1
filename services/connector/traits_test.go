package connector

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/services/connector/crm"
	"github.com/tempismo/tempismo/services/connector/crm/braze"
	"github.com/tempismo/tempismo/services/connector/crm/customerio"
	"github.com/tempismo/tempismo/services/connector/crm/hubspot"
	"github.com/tempismo/tempismo/services/connector/crm/klaviyo"
	"github.com/tempismo/tempismo/services/connector/crm/mautic"
	"github.com/tempismo/tempismo/services/connector/crm/sfmc"
	"github.com/tempismo/tempismo/services/connector/crm/webhook"
)

// docs/connectors.md tells people what happens to their contacts, and what is declared here decides it.
func TestDocsTellTheUpdates(t *testing.T) {
	hook, err := webhook.New(webhook.Config{Secret: secret}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name string
		crm  crm.Updater
	}{
		{"`webhook`", hook},
		{"`klaviyo`", klaviyo.New(klaviyo.Config{}, nil, "")},
		{"`braze`", braze.New(braze.Config{}, nil, "")},
		{"`customerio`, event", customerio.New(customerio.Config{}, nil, "")},
		{"`hubspot`", hubspot.New(hubspot.Config{}, nil, "")},
		{"`mautic`", mautic.New(mautic.Config{}, nil, "")},
		{"`sfmc`", sfmc.New(sfmc.Config{}, nil, "")},
	}
	var want strings.Builder
	want.WriteString("| target | contacts in a call | calls per second | a contact that the CRM does not know | of whom nothing is known any more |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		traits := r.crm.UpdateTraits()
		unknown, gone := "is not made", "is emptied"
		if traits.Creates {
			unknown, gone = "is made", "stays"
		}
		fmt.Fprintf(&want, "| %s | %d | %v | %s | %s |\n", r.name, traits.Batch, traits.Rate, unknown, gone)
	}
	docs(t, "updates", want.String())
}

// docs/connectors.md tells people what a lost answer means, and what is declared here decides it.
func TestDocsTellTheTraits(t *testing.T) {
	hook, err := webhook.New(webhook.Config{Secret: secret}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name, key string
		crm       crm.CRM
	}{
		{"`webhook`", "`webhook-id`", hook},
		{"`klaviyo`", "`unique_id`", klaviyo.New(klaviyo.Config{}, nil, "")},
		{"`braze`, campaign", "none", braze.New(braze.Config{CampaignID: "c"}, nil, "")},
		{"`braze`, Canvas", "none", braze.New(braze.Config{CanvasID: "c"}, nil, "")},
		{"`customerio`, event", "`id` (ULID)", customerio.New(customerio.Config{}, nil, "")},
		{"`customerio`, transactional", "none", customerio.New(customerio.Config{TransactionalID: "3"}, nil, "")},
		{"`hubspot`, single send", "`sendId`", hubspot.New(hubspot.Config{EmailID: 7}, nil, "")},
		{"`hubspot`, property", "none", hubspot.New(hubspot.Config{Property: "p"}, nil, "")},
		{"`mautic`", "none", mautic.New(mautic.Config{}, nil, "")},
		{"`sfmc`, journey", "none", sfmc.New(sfmc.Config{EventKey: "e"}, nil, "")},
		{"`sfmc`, transactional", "`messageKey`", sfmc.New(sfmc.Config{DefinitionKey: "d"}, nil, "")},
	}
	var want strings.Builder
	want.WriteString("| target | key | a lost answer | calls per second | customers in one call |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		traits := r.crm.Traits()
		lost, rate := "ends the decision as `unknown`", "no limit"
		if _, ok := r.crm.(crm.Looker); ok {
			lost = "is looked up, and ends the decision as `unknown` if it is not found"
		}
		if traits.Key {
			lost = "is asked again"
		}
		if traits.Rate > 0 {
			rate = fmt.Sprint(traits.Rate)
		}
		if traits.Key == (r.key == "none") {
			t.Errorf("%s: has a key: %v", r.name, traits.Key)
		}
		fmt.Fprintf(&want, "| %s | %s | %s | %s | %d |\n", r.name, r.key, lost, rate, traits.Batch)
	}
	docs(t, "traits", want.String())
}

// docs holds a table of docs/connectors.md to what it is to be.
func docs(t *testing.T, name, want string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "<!-- "+name+" -->\n")
	table, _, _ = strings.Cut(table, "<!-- /"+name+" -->")
	if table != want {
		t.Errorf("docs/connectors.md says\n%s\nand it is\n%s", table, want)
	}
}
