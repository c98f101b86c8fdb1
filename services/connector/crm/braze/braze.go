// Package braze carries decisions out in Braze: it triggers an API-triggered campaign, or a Canvas, for one user.
//
// By https://www.braze.com/docs/api/endpoints/messaging/send_messages/post_send_triggered_campaigns/,
// .../post_send_triggered_canvases/, https://www.braze.com/docs/api/api_limits/ and https://www.braze.com/docs/api/errors/,
// as of 2026-11-29:
//
//   - There is no key. send_id is for analytics, and a second call is a second message. A call whose answer is lost is
//     therefore not made again. Braze asks for 5xx to be tried again; but such an answer may come from a gateway whose
//     server has the message, so that here it leaves the question open.
//   - Without recipients, or with broadcast, a call goes to the whole segment. broadcast is always sent, as false, and
//     recipients has one user.
//   - 250,000 calls an hour for the workspace, which /messages/send and others share; the window begins with the clock's hour.
//     A 429 has no Retry-After: X-RateLimit-Reset says when, in seconds since 1970.
//   - "success" says that the call was well-formed and is queued. The segment, the frequency caps and the quiet hours of
//     the campaign still apply, an unknown user gets nothing, and a delay in a Canvas undoes the timing.
//   - dispatch_id is Braze's id of the send. It is kept, and stands in Currents and in the events of the message.
//
// Custom attributes are written by POST /users/track, by https://www.braze.com/docs/api/endpoints/user_data/post_user_track and
// https://www.braze.com/docs/api/objects_filters/user_attributes_object, as of the same day:
//
//   - 75 objects a call and 3,000 calls in three seconds; less for accounts that are billed by monthly active users. Each attribute written
//     is a data point, which is paid for: Braze asks for changes alone.
//   - With _update_existing_only a user who is unknown is not made. Nothing is said then, so such a contact counts as written.
//   - null takes an attribute away. "success" may come with minor errors. That they name the element by input_array and index is not
//     documented; one that does not is passed over.
package braze

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Name of the target, and what its variables begin with.
const (
	Name   = "braze"
	Prefix = "BRAZE_"
)

// Config says as whom to call, and what to trigger.
type Config struct {
	APIKey     config.Secret `name:"api-key" env:"API_KEY" help:"REST API key, with the permission campaigns.trigger.send or canvas.trigger.send; for CONNECTOR_ATTRIBUTES also users.track."`
	URL        string        `name:"url" env:"URL" placeholder:"URL" help:"REST endpoint of the instance, such as https://rest.iad-01.braze.com."`
	CampaignID string        `name:"campaign-id" env:"CAMPAIGN_ID" help:"API-triggered campaign that is to be sent. The customer ids are external user ids."`
	CanvasID   string        `name:"canvas-id" env:"CANVAS_ID" help:"API-triggered Canvas that is to be entered, in place of a campaign."`
	crm.Calls
}

// Validate names everything that is wrong with the settings for a run of this kind.
func (c Config) Validate(simulated bool) error {
	err := c.Calls.Validate(Prefix, c.URL, "https://rest.iad-01.braze.com", simulated)
	if !c.Called(simulated) {
		return err
	}
	if c.APIKey == "" {
		err = errors.Join(err, errors.New("BRAZE_API_KEY: must be set; Braze shows keys under Settings > APIs and Identifiers"))
	}
	if (c.CampaignID == "") == (c.CanvasID == "") {
		err = errors.Join(err, errors.New("BRAZE_CAMPAIGN_ID, BRAZE_CANVAS_ID: give one of them, the id of an API-triggered campaign or of a Canvas"))
	}
	return err
}

// Braze is one workspace.
type Braze struct {
	config Config
	client *http.Client
	url    string
}

var _ crm.CRM = (*Braze)(nil)

// New makes the workspace whose API is at url.
func New(c Config, client *http.Client, url string) *Braze {
	return &Braze{config: c, client: client, url: strings.TrimRight(url, "/")}
}

// Traits of the endpoints: 50 calls a second are 180,000 an hour, which leaves 70,000 to whoever shares the limit. In one
// call there may be 50 users.
func (b *Braze) Traits() crm.Traits {
	return crm.Traits{Rate: 50, Batch: 50, Breaker: true}
}

type trigger struct {
	CampaignID string      `json:"campaign_id,omitempty"`
	CanvasID   string      `json:"canvas_id,omitempty"`
	Broadcast  bool        `json:"broadcast"` // false, and said
	Recipients []recipient `json:"recipients"`
}

type recipient struct {
	User       string     `json:"external_user_id"`
	Properties *crm.Facts `json:"trigger_properties,omitempty"` // of a campaign
	Context    *crm.Facts `json:"context,omitempty"`            // of a Canvas
}

// Send triggers the campaign or the Canvas.
func (b *Braze) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	facts, err := s.Facts()
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision cannot be read"}
	}
	if s.Customer == "" { // no recipient could be taken for all of them
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision has no customer"}
	}
	path, to := "/campaigns/trigger/send", recipient{User: s.Customer, Properties: &facts}
	if b.config.CanvasID != "" {
		path, to = "/canvas/trigger/send", recipient{User: s.Customer, Context: &facts}
	}
	text, err := json.Marshal(trigger{CampaignID: b.config.CampaignID, CanvasID: b.config.CanvasID, Recipients: []recipient{to}})
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+path, bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "BRAZE_URL is not usable"}
	}
	req.Header.Set("Authorization", "Bearer "+string(b.config.APIKey))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	return crm.Do(b.client, req, func(code int, header http.Header, body []byte) crm.Answer { return sort(code, header, body, now) })
}

// sort sorts Braze's answers.
func sort(code int, header http.Header, body []byte, now time.Time) crm.Answer {
	var said struct {
		Message    string            `json:"message"`
		DispatchID string            `json:"dispatch_id"`
		Errors     []json.RawMessage `json:"errors"`
	}
	_ = json.Unmarshal(body, &said) // the status counts
	a := crm.Sort(code, header, now)
	switch {
	case a.Verdict == crm.Accepted && said.Message != "" && said.Message != "success" && said.Message != "queued":
		// A message that is none of these is a fatal error by the documentation, which does not come with such a status.
		a.Verdict, a.Detail = crm.Unknown, "HTTP "+strconv.Itoa(code)+": "+crm.Clip(said.Message)
	case a.Verdict == crm.Accepted:
		a.ID = said.DispatchID
		if n := len(said.Errors); n > 0 { // which may name the user
			a.Detail = "taken with " + strconv.Itoa(n) + " minor errors; Braze's message activity log shows them"
		}
	case code == http.StatusTooManyRequests && a.After == 0:
		a.After = time.Minute
		if reset, err := strconv.ParseInt(header.Get("X-RateLimit-Reset"), 10, 64); err == nil {
			a.After = min(max(time.Unix(reset, 0).Sub(now), time.Second), time.Hour)
		}
	case said.Message != "":
		a.Detail += ": " + crm.Clip(said.Message)
	}
	return a
}
