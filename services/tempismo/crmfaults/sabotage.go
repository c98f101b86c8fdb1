package crmfaults

import "github.com/tempismo/tempismo/services/tempismo/chaos"

// Sabotage takes one rule out of the connector: the checker must find what it was for.
type Sabotage struct {
	Name    string
	Mode    string
	Finds   string
	changes []chaos.Change
}

// Sabotages are all.
var Sabotages = []Sabotage{
	{"intent", "braze-campaign", sentTwice, []chaos.Change{
		{File: "delivery.go", Old: "if !live() || !w.write(late, d, &decision.Outcome{Decision: d.id, Request: d.request, Connector: w.name, Channel: d.channel, Result: decision.Attempting, Attempts: n}) {", With: "if !live() {"},
	}},
	{"unknown", "customerio-transactional", sentTwice, []chaos.Change{
		{File: "delivery.go", Old: "case crm.Unknown:\n\t\t\tif !w.target.traits.Key {", With: "case crm.Unknown:\n\t\t\tif false {"},
	}},
	{"key", "webhook", sentTwice, []chaos.Change{
		{File: "crm/webhook/webhook.go", Old: "req.Header.Set(standardwebhooks.HeaderWebhookID, id)", With: "req.Header.Set(standardwebhooks.HeaderWebhookID, id+now.String())"},
		{File: "crm/webhook/webhook.go", Old: "signer.Sign(id, now, body)", With: "signer.Sign(id+now.String(), now, body)"},
	}},
	{"expiry", "klaviyo", late, []chaos.Change{
		{File: "delivery.go", Old: "if !now.Before(d.expires) {\n\t\t\treturn tooLate()", With: "if false {\n\t\t\treturn tooLate()"},
		{File: "delivery.go", Old: "w.now(d, n-1).Before(d.expires)", With: "true"},
	}},
	{"order", "mautic", disorder, []chaos.Change{
		{File: "worker.go", Old: "if before != nil {", With: "if before != nil && false {"},
	}},
	{"gap", "klaviyo", crowded, []chaos.Change{
		{File: "delivery.go", Old: "if why := w.told.forbids(d); why != \"\" || w.run.Simulated {", With: "if why := w.told.forbids(d); true {"},
	}},
	{"rate", "hubspot-property", tooFast, []chaos.Change{
		{File: "gate.go", Old: "limit = rate.Limit(most)", With: "_ = most"},
		{File: "gate.go", Old: "if g == nil || g.most <= 0 {", With: "if true {"},
	}},
	{"rest", "sfmc-journey", impatient, []chaos.Change{
		{File: "gate.go", Old: "if until.After(g.paused) {", With: "if false {"},
	}},
}

// Overlay is chaos.Overlay for the connector.
func (s *Sabotage) Overlay(dir string) (path string, err error) {
	return chaos.Overlay(dir, s.Name, "services/connector", s.changes)
}
