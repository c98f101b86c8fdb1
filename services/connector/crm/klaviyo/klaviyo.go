// Package klaviyo carries decisions out in Klaviyo: it creates an event, and a flow that the event's metric triggers sends
// the message.
//
// By https://developers.klaviyo.com/en/reference/create_event and its OpenAPI document, revision 2026-07-15, and
// https://developers.klaviyo.com/en/docs/rate_limits_and_error_handling, both as of 2026-11-29:
//
//   - unique_id is the key: "If the unique_id is repeated for the same profile and metric, only the first processed event will
//     be recorded". It is the decision's id. The key holds within a profile and a metric, so neither METRIC nor PROFILE may be
//     changed while something is to be sent. For how long an id is remembered is not said.
//   - 202 says that the event is valid and will be processed. Whether the flow sends, to whom and when is Klaviyo's: smart sending,
//     quiet hours of a flow and its filters still apply, and a delay in the flow undoes the timing.
//   - 350 calls a second and 3,500 a minute, in fixed windows, for the account: all integrations with a private key share them.
//   - 429 comes with Retry-After in seconds, in place of the RateLimit headers.
//   - An unknown profile is created. One that is made of an id alone has no address, and nothing is sent to it.
//   - backfill must not be set: such an event triggers no flow.
//
// Properties are written by POST /api/profile-bulk-import-jobs, by https://developers.klaviyo.com/en/reference/bulk_import_profiles and
// https://developers.klaviyo.com/en/docs/use_klaviyos_bulk_profile_import_api, as of the same day:
//
//   - 10,000 profiles and 5 MB a job, 10 jobs a second and 150 a minute, with the scopes profiles:write and lists:write. No list is named here.
//   - 202 says that the job is queued. Which profiles it could not write, it says elsewhere, later; nobody asks.
//   - A profile that is unknown is made. null leaves what stands there, so that nothing can be emptied but by an empty text.
//
// It is not the bulk endpoint, which fails as a whole when one id repeats.
package klaviyo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Name of the target, and what its variables begin with.
const (
	Name   = "klaviyo"
	Prefix = "KLAVIYO_"
)

// Revision of the API that is spoken.
const Revision = "2026-07-15"

// Config says as whom to call, and what to create.
type Config struct {
	APIKey  config.Secret `name:"api-key" env:"API_KEY" placeholder:"pk_..." help:"Private API key of the account, with the scope events:write; for CONNECTOR_ATTRIBUTES also profiles:write and lists:write."`
	Metric  string        `name:"metric" env:"METRIC" default:"Tempismo send now" help:"Name of the metric of the events; a flow is to be triggered by it. Do not change it while something is to be sent."`
	Profile string        `name:"profile" env:"PROFILE" enum:"external_id,email,id" default:"external_id" help:"What the customer ids are to Klaviyo: external_id, email, or id (Klaviyo's own)."`
	URL     string        `name:"url" env:"URL" default:"https://a.klaviyo.com" help:"Where Klaviyo's API is."`
	crm.Calls
}

// Validate names everything that is wrong with the settings for a run of this kind.
func (c Config) Validate(simulated bool) error {
	err := c.Calls.Validate(Prefix, c.URL, "https://a.klaviyo.com", simulated)
	if c.APIKey == "" && c.Called(simulated) {
		err = errors.Join(err, errors.New("KLAVIYO_API_KEY: must be set; Klaviyo shows private keys under Settings > API keys"))
	}
	if n := len(c.Metric); n == 0 || n >= 128 {
		err = errors.Join(err, fmt.Errorf("KLAVIYO_METRIC: %d characters: Klaviyo takes 1 to 127", n))
	}
	return err
}

// Klaviyo is one account.
type Klaviyo struct {
	config Config
	client *http.Client
	url    string
}

var _ crm.CRM = (*Klaviyo)(nil)

// New makes the account whose API is at url.
func New(c Config, client *http.Client, url string) *Klaviyo {
	return &Klaviyo{config: c, client: client, url: strings.TrimRight(url, "/")}
}

// Traits of the endpoint: 50 calls a second are 3,000 a minute, which leaves 500 to whoever shares the limit.
func (k *Klaviyo) Traits() crm.Traits {
	return crm.Traits{Key: true, Rate: 50, Batch: 1, Breaker: true}
}

// The body of a call, in JSON:API.
type (
	body struct {
		Data resource[event] `json:"data"`
	}
	resource[A any] struct {
		Type       string `json:"type"`
		ID         string `json:"id,omitempty"`
		Attributes A      `json:"attributes"`
	}
	related[A any] struct {
		Data resource[A] `json:"data"`
	}
	event struct {
		Properties crm.Facts        `json:"properties"`
		Time       time.Time        `json:"time"`
		UniqueID   string           `json:"unique_id"`
		Metric     related[metric]  `json:"metric"`
		Profile    related[profile] `json:"profile"`
	}
	metric struct {
		Name string `json:"name"`
	}
	profile struct {
		Email      string `json:"email,omitempty"`
		ExternalID string `json:"external_id,omitempty"`
	}
)

// Send creates the event.
func (k *Klaviyo) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	facts, err := s.Facts()
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision cannot be read"}
	}
	text, err := json.Marshal(body{resource[event]{Type: "event", Attributes: event{
		Properties: facts, Time: s.Time, UniqueID: s.ID,
		Metric:  related[metric]{resource[metric]{Type: "metric", Attributes: metric{k.config.Metric}}},
		Profile: related[profile]{k.who(s.Customer)},
	}}})
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the event cannot be written"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.url+"/api/events", bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "KLAVIYO_URL is not usable"}
	}
	return k.call(req, now)
}

// who is a customer as Klaviyo knows one.
func (k *Klaviyo) who(customer string) resource[profile] {
	who := resource[profile]{Type: "profile"}
	switch k.config.Profile {
	case "email":
		who.Attributes.Email = customer
	case "id":
		who.ID = customer
	default:
		who.Attributes.ExternalID = customer
	}
	return who
}

// call makes a call.
func (k *Klaviyo) call(req *http.Request, now time.Time) crm.Answer {
	req.Header.Set("Authorization", "Klaviyo-API-Key "+string(k.config.APIKey))
	req.Header.Set("Revision", Revision)
	req.Header.Set("Content-Type", "application/vnd.api+json")
	req.Header.Set("Accept", "application/vnd.api+json")
	req.Header.Set("User-Agent", "Tempismo")
	return crm.Do(k.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := crm.Sort(code, header, now)
		if code == http.StatusTooManyRequests && a.After == 0 {
			a.After = time.Minute // the longer one of the two windows
		}
		if a.Verdict != crm.Accepted {
			a.Detail += said(body)
		}
		return a
	})
}

// said is what an error says about the call: its code and the field that it points at. The text may hold what was sent.
func said(body []byte) string {
	var e struct {
		Errors []struct {
			Code   string `json:"code"`
			Source struct {
				Pointer string `json:"pointer"`
			} `json:"source"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &e) != nil || len(e.Errors) == 0 || e.Errors[0].Code == "" {
		return ""
	}
	text := ": " + e.Errors[0].Code
	if p := e.Errors[0].Source.Pointer; p != "" {
		text += " " + p
	}
	return crm.Clip(text)
}
