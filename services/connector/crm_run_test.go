package connector

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/app"
	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
	"github.com/tempismo/tempismo/services/connector/crm/sandbox"
)

// TestACRMOnAnEmbeddedBroker: from the environment to the CRM and back to the topic, for each of them.
func TestACRMOnAnEmbeddedBroker(t *testing.T) {
	broker, err := kafka.StartEmbedded(kafka.EmbeddedConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	rows := []struct {
		target, prefix string
		fake           *sandbox.Fake
		env            map[string]string
		named          bool // the CRM names the send
	}{
		{"klaviyo", "KLAVIYO_", sandbox.Klaviyo("key"), map[string]string{"KLAVIYO_API_KEY": "key", "KLAVIYO_PROFILE": "email"}, false},
		{"braze", "BRAZE_", sandbox.Braze("key"), map[string]string{"BRAZE_API_KEY": "key", "BRAZE_CANVAS_ID": "c"}, true},
		{"customerio", "CUSTOMERIO_", sandbox.CustomerIO("site", "key", "app"), map[string]string{"CUSTOMERIO_APP_KEY": "app", "CUSTOMERIO_TRANSACTIONAL_ID": "3"}, true},
		{"hubspot", "HUBSPOT_", sandbox.HubSpot("token"), map[string]string{"HUBSPOT_TOKEN": "token", "HUBSPOT_EMAIL_ID": "7"}, true},
		{"mautic", "MAUTIC_", sandbox.Mautic("u", "p"), map[string]string{"MAUTIC_USER": "u", "MAUTIC_PASSWORD": "p", "MAUTIC_EMAIL_ID": "7"}, false},
		{"sfmc", "SFMC_", sandbox.SFMC("id", "secret"), map[string]string{"SFMC_CLIENT_ID": "id", "SFMC_CLIENT_SECRET": "secret", "SFMC_EVENT_KEY": "e"}, true},
	}
	for _, r := range rows {
		t.Run(r.target, func(t *testing.T) {
			const decisions = 20
			run := stream.Run{ID: r.target, Simulated: true}
			if err := kafka.EnsureTopics(t.Context(), broker.Config(), run, 2); err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(r.fake)
			defer server.Close()
			env := map[string]string{
				"CONNECTOR_TARGET": r.target, "RUN_ID": run.ID, "RUN_MODE": "simulated",
				"KAFKA_BROKERS": strings.Join(broker.Config().Brokers, ","), r.prefix + "SIMULATED_TARGET": server.URL + "/",
			}
			for name, v := range r.env {
				env[name] = v
			}
			var c Config
			if err := config.Parse(&c, "connector", nil, func(name string) (string, bool) { v, ok := env[name]; return v, ok }); err != nil {
				t.Fatal(err)
			}
			log, err := kafka.Open(t.Context(), c.Kafka)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			var all []stream.Message
			for i := range decisions {
				d := decision.Decision{Reason: decision.BestSlot, NotBefore: start, ExpiresAt: start.Add(30 * time.Minute), Message: "winter"}
				customer := fmt.Sprintf("c%d@example.com", i%7)
				if r.target == "mautic" { // knows numbers only
					customer = fmt.Sprint(1 + i%7)
				}
				e := stream.Event{ID: fmt.Sprintf("d-%d", i), Source: "/test", Type: decision.SendNowType, Subject: customer, Time: start, Data: d.Append(nil)}
				all = append(all, stream.Message{Key: []byte(customer), Value: e.Append(nil)})
			}
			writer, err := kafka.NewWriter(t.Context(), log, run)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			if err := writer.WriteAll(t.Context(), topics.Decisions, all); err != nil {
				t.Fatal(err)
			}

			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, c, app.Settings{Health: &app.Health{}}) }()
			accepted := map[string]string{}
			for range 600 {
				if len(accepted) == decisions {
					break
				}
				time.Sleep(50 * time.Millisecond)
				err := kafka.Range(ctx, log, run.Topic(topics.Outcomes), kafka.Earliest, kafka.Latest, func(r *stream.Record) error {
					e, err := stream.ParseEvent(r.Value)
					if err != nil {
						return err
					}
					var o decision.Outcome
					if err := o.Parse(e.Data); err == nil && o.Result == decision.Accepted {
						accepted[o.Decision] = o.CRMID
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			for i := range decisions {
				if id, ok := accepted[fmt.Sprintf("d-%d", i)]; !ok || (id != "") != r.named {
					t.Errorf("d-%d: accepted: %v, as %q", i, ok, id)
				}
			}
			if sent := r.fake.Sent(); len(sent) != decisions {
				t.Errorf("%d messages for %d decisions", len(sent), decisions)
			}
		})
	}
}
