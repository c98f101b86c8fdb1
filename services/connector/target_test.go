package connector

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// TestTheGuardStandsAtTheDial: the name of the target is harmless, what it resolves to is not.
func TestTheGuardStandsAtTheDial(t *testing.T) {
	f := newFixture(t, live(), nil)
	f.webhook.AllowPrivate = false
	f.webhook.URL = strings.Replace(f.webhook.URL, "127.0.0.1", "localhost", 1)
	f.decide("d-1", "C-1", start)
	s := f.serve()
	if got := f.outcomes("d-1"); got != "attempting/1 refused/1" || len(f.receiver.received()) != 0 {
		t.Errorf("outcomes %s, %d calls", got, len(f.receiver.received()))
	}
	if ready, _ := s.health.State(); ready {
		t.Error("an operator has to see it, but the connector says that it is ready")
	}
}

// TestRotation: while a secret is being rotated, a receiver may know either of them.
func TestRotation(t *testing.T) {
	const other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	f := newFixture(t, live(), func(_ int, _ http.ResponseWriter, r *http.Request) {
		if n := len(strings.Fields(r.Header.Get(standardwebhooks.HeaderWebhookSignature))); n != 2 {
			t.Errorf("%d signatures, want one for each secret", n)
		}
	})
	f.webhook.Secret = config.Secret(other + " " + string(secret))
	f.decide("d-1", "C-1", start)
	f.serve()
	if got := f.outcomes("d-1"); got != "attempting/1 accepted/1" {
		t.Errorf("outcomes %s", got)
	}
}

func TestConfig(t *testing.T) {
	rows := []struct {
		name  string
		env   map[string]string
		wrong []string // what the error names; none: it is valid
	}{
		{"a live run needs a target and a secret", nil, []string{"WEBHOOK_URL", "WEBHOOK_SECRET"}},
		{"with both it is valid", map[string]string{"WEBHOOK_URL": "https://crm.example.com/hook", "WEBHOOK_SECRET": string(secret)}, nil},
		{"a simulated run needs neither", map[string]string{"RUN_MODE": "simulated"}, nil},
		{"its own receiver must be on this machine", map[string]string{"RUN_MODE": "simulated", "WEBHOOK_SIMULATED_TARGET": "http://10.0.0.1/", "WEBHOOK_SECRET": string(secret)}, []string{"WEBHOOK_SIMULATED_TARGET"}},
		{"and is signed for like any other", map[string]string{"RUN_MODE": "simulated", "WEBHOOK_SIMULATED_TARGET": "http://[::1]:8089/"}, []string{"WEBHOOK_SECRET"}},
		{"plain http is for one's own network", map[string]string{"WEBHOOK_URL": "http://crm/hook", "WEBHOOK_SECRET": string(secret)}, []string{"WEBHOOK_URL"}},
		{"where it is allowed", map[string]string{"WEBHOOK_URL": "http://crm/hook", "WEBHOOK_SECRET": string(secret), "WEBHOOK_ALLOW_PRIVATE": "true"}, nil},
		{"a short secret is none", map[string]string{"WEBHOOK_URL": "https://crm.example.com/hook", "WEBHOOK_SECRET": "whsec_c2hvcnQ="}, []string{"WEBHOOK_SECRET"}},
		{"nor is one without its prefix", map[string]string{"WEBHOOK_URL": "https://crm.example.com/hook", "WEBHOOK_SECRET": strings.TrimPrefix(string(secret), "whsec_")}, []string{"WEBHOOK_SECRET"}},
		{"another target needs its own settings, and no webhook", map[string]string{"CONNECTOR_TARGET": "klaviyo"}, []string{"KLAVIYO_API_KEY"}},
		{"and nothing else", map[string]string{"CONNECTOR_TARGET": "klaviyo", "KLAVIYO_API_KEY": "pk_1"}, nil},
		{"the target is one that there is", map[string]string{"CONNECTOR_TARGET": "pigeon"}, []string{"webhook"}},
		{"contacts are written with nothing more", map[string]string{"CONNECTOR_TARGET": "klaviyo", "KLAVIYO_API_KEY": "pk_1", "CONNECTOR_ATTRIBUTES": "true"}, nil},
		{"but for what some targets need, and a sound store", map[string]string{"CONNECTOR_TARGET": "sfmc", "SFMC_SUBDOMAIN": "mc123", "SFMC_CLIENT_ID": "i", "SFMC_CLIENT_SECRET": "s", "SFMC_EVENT_KEY": "e", "CONNECTOR_ATTRIBUTES": "true",
			"CONNECTOR_ATTRIBUTES_EVERY": "5m", "CONNECTOR_ATTRIBUTES_CHANNEL": "", "REDIS_ADDR": "redis"}, []string{"SFMC_DATA_EXTENSION", "CONNECTOR_ATTRIBUTES_EVERY", "CONNECTOR_ATTRIBUTES_CHANNEL", "REDIS_ADDR"}},
		{"and a transactional message cannot", map[string]string{"CONNECTOR_TARGET": "customerio", "CUSTOMERIO_APP_KEY": "a", "CUSTOMERIO_TRANSACTIONAL_ID": "3", "CONNECTOR_ATTRIBUTES": "true"}, []string{"CONNECTOR_ATTRIBUTES"}},
		{"a store that nobody needs may be as it likes", map[string]string{"CONNECTOR_TARGET": "klaviyo", "KLAVIYO_API_KEY": "pk_1", "REDIS_ADDR": "redis", "CONNECTOR_ATTRIBUTES_EVERY": "1s"}, nil},
		{"all limits are named at once", map[string]string{"RUN_MODE": "simulated", "WEBHOOK_TIMEOUT": "1m", "WEBHOOK_CONCURRENCY": "0", "WEBHOOK_RATE": "-1"}, []string{"WEBHOOK_TIMEOUT", "WEBHOOK_CONCURRENCY", "WEBHOOK_RATE"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var c Config
			err := config.Parse(&c, "connector", nil, func(name string) (string, bool) { v, ok := r.env[name]; return v, ok })
			if (err == nil) != (len(r.wrong) == 0) {
				t.Fatalf("got %v", err)
			}
			for _, name := range r.wrong {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%s is not named in %v", name, err)
				}
			}
			if err != nil && strings.Contains(err.Error(), strings.TrimPrefix(string(secret), "whsec_")) {
				t.Errorf("the secret stands in the error: %v", err)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	var p progress
	p.start(10)
	for _, o := range []int64{10, 11, 14} { // offsets have gaps
		p.begin(o)
	}
	steps := []struct{ finish, next int64 }{{14, 10}, {10, 11}, {11, 15}}
	for _, s := range steps {
		p.finish(s.finish)
		if next, _ := p.done(); next != s.next {
			t.Errorf("after %d everything before %d is done, want %d", s.finish, next, s.next)
		}
	}
	if _, news := p.done(); !news {
		t.Error("the group has not been told")
	}
	p.told(15)
	if _, news := p.done(); news {
		t.Error("the group has been told")
	}
}

func TestTheLedgerForgets(t *testing.T) {
	l := newLedger()
	l.entries["d-old"] = entry{final: true, forget: start}
	for i := range 2 * 4096 {
		l.entries[strconv.Itoa(i)] = entry{final: true, forget: start.Add(2 * time.Hour)}
	}
	l.note(outcome("d-new"), "C-1", start, start.Add(time.Hour), start.Add(2*time.Hour))
	if l.get("d-old").final {
		t.Error("an entry past its time is still there")
	}
	if !l.get("d-new").final || !l.get("17").final || len(l.entries) != 2*4096+1 {
		t.Error("an entry was forgotten before its time")
	}
}

func outcome(id string) *decision.Outcome {
	return &decision.Outcome{Decision: id, Connector: "webhook", Result: decision.Accepted, Attempts: 1}
}

// TestTheChosenTarget: each target gets the settings that are its own, and a simulated run calls nobody but this machine.
func TestTheChosenTarget(t *testing.T) {
	rows := []struct {
		name string
		env  map[string]string
	}{
		{"webhook", map[string]string{"WEBHOOK_URL": "https://crm.example.com/hook", "WEBHOOK_SECRET": string(secret), "WEBHOOK_NAME": "theirs"}},
		{"klaviyo", map[string]string{"KLAVIYO_API_KEY": "k", "KLAVIYO_NAME": "theirs"}},
		{"braze", map[string]string{"BRAZE_API_KEY": "k", "BRAZE_URL": "https://rest.iad-01.braze.com", "BRAZE_CAMPAIGN_ID": "c", "BRAZE_NAME": "theirs"}},
		{"customerio", map[string]string{"CUSTOMERIO_SITE_ID": "s", "CUSTOMERIO_TRACK_KEY": "k", "CUSTOMERIO_NAME": "theirs"}},
		{"hubspot", map[string]string{"HUBSPOT_TOKEN": "t", "HUBSPOT_EMAIL_ID": "7", "HUBSPOT_NAME": "theirs"}},
		{"mautic", map[string]string{"MAUTIC_URL": "https://mautic.example.com", "MAUTIC_USER": "u", "MAUTIC_PASSWORD": "p", "MAUTIC_EMAIL_ID": "7", "MAUTIC_NAME": "theirs"}},
		{"sfmc", map[string]string{"SFMC_SUBDOMAIN": "mc123", "SFMC_CLIENT_ID": "i", "SFMC_CLIENT_SECRET": "s", "SFMC_EVENT_KEY": "e", "SFMC_NAME": "theirs"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			for _, mode := range []string{"live", "simulated"} {
				for _, name := range []string{r.name, "theirs"} {
					var c Config
					err := config.Parse(&c, "connector", nil, func(v string) (string, bool) {
						switch {
						case v == "CONNECTOR_TARGET":
							return r.name, true
						case v == "RUN_MODE":
							return mode, true
						case strings.HasSuffix(v, "_NAME") && name == r.name:
							return "", false
						}
						value, ok := r.env[v]
						return value, ok
					})
					if err != nil {
						t.Fatal(err)
					}
					to, err := newTarget(c)
					if err != nil {
						t.Fatal(err)
					}
					if (to.crm != nil) != (mode == "live") || c.name() != name {
						t.Errorf("%s: calls %T as %q", mode, to.crm, c.name())
					}
				}
			}
		})
	}
}
