package crmfaults

import (
	"fmt"
	"strconv"

	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

// Mode is one way to carry decisions out: a row of the table in docs/connectors.md.
type Mode struct {
	Name string
	Key  bool    // the CRM drops a second call for the same decision
	Rate float64 // calls a second that are declared; 0: no limit

	prefix   string   // of the target's settings
	env      []string // settings, without the URL
	fake     func() *sandbox.Fake
	customer func(int) string // the i-th customer, as the CRM wants them
}

// Modes are all.
var Modes = []Mode{
	{"webhook", true, 0, "WEBHOOK_", []string{"CONNECTOR_TARGET=webhook", "WEBHOOK_SECRET=" + signing}, receiver, address},
	{"klaviyo", true, 50, "KLAVIYO_", []string{"CONNECTOR_TARGET=klaviyo", "KLAVIYO_API_KEY=key", "KLAVIYO_PROFILE=email"}, klaviyo, address},
	{"braze-campaign", false, 50, "BRAZE_", []string{"CONNECTOR_TARGET=braze", "BRAZE_API_KEY=key", "BRAZE_CAMPAIGN_ID=c"}, braze, address},
	{"braze-canvas", false, 50, "BRAZE_", []string{"CONNECTOR_TARGET=braze", "BRAZE_API_KEY=key", "BRAZE_CANVAS_ID=c"}, braze, address},
	{"customerio-event", true, 80, "CUSTOMERIO_", []string{"CONNECTOR_TARGET=customerio", "CUSTOMERIO_SITE_ID=site", "CUSTOMERIO_TRACK_KEY=key"}, customerIO, address},
	{"customerio-transactional", false, 80, "CUSTOMERIO_", []string{"CONNECTOR_TARGET=customerio", "CUSTOMERIO_APP_KEY=app", "CUSTOMERIO_TRANSACTIONAL_ID=3"}, customerIO, address},
	{"hubspot-single-send", true, 8, "HUBSPOT_", []string{"CONNECTOR_TARGET=hubspot", "HUBSPOT_TOKEN=key", "HUBSPOT_EMAIL_ID=7"}, hubSpot, address},
	{"hubspot-property", false, 8, "HUBSPOT_", []string{"CONNECTOR_TARGET=hubspot", "HUBSPOT_TOKEN=key", "HUBSPOT_PROPERTY=tempismo"}, hubSpot, address},
	{"mautic", false, 10, "MAUTIC_", []string{"CONNECTOR_TARGET=mautic", "MAUTIC_USER=user", "MAUTIC_PASSWORD=key", "MAUTIC_EMAIL_ID=7"}, mautic, number},
	{"sfmc-journey", false, 20, "SFMC_", []string{"CONNECTOR_TARGET=sfmc", "SFMC_CLIENT_ID=id", "SFMC_CLIENT_SECRET=key", "SFMC_EVENT_KEY=e"}, sfmc, address},
	{"sfmc-transactional", true, 20, "SFMC_", []string{"CONNECTOR_TARGET=sfmc", "SFMC_CLIENT_ID=id", "SFMC_CLIENT_SECRET=key", "SFMC_DEFINITION_KEY=d"}, sfmc, address},
}

// signing signs the calls of the webhook; nothing of it is secret.
const signing = "whsec_Y3JtZmF1bHRzLWNybWZhdWx0cy1jcm1mYXVsdHMtMDA="

func receiver() *sandbox.Fake {
	f, err := sandbox.Webhook(signing)
	if err != nil {
		panic(err) // the constant above
	}
	return f
}

func klaviyo() *sandbox.Fake    { return sandbox.Klaviyo("key") }
func braze() *sandbox.Fake      { return sandbox.Braze("key") }
func customerIO() *sandbox.Fake { return sandbox.CustomerIO("site", "key", "app") }
func hubSpot() *sandbox.Fake    { return sandbox.HubSpot("key") }
func mautic() *sandbox.Fake     { return sandbox.Mautic("user", "key") }
func sfmc() *sandbox.Fake       { return sandbox.SFMC("id", "key") }

func address(i int) string { return fmt.Sprintf("c%d@example.com", i) }

// number leaves out those that Mautic's fake does not write to.
func number(i int) string { return strconv.Itoa(1000 + i) }
