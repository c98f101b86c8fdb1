// Package customerio carries decisions out in Customer.io, in one of two ways: an event of a person, which triggers a
// campaign, or a transactional message.
//
// By https://docs.customer.io/integrations/api/track/tag/track-events/track/, https://docs.customer.io/journeys/events/
// (deduplicating events), https://docs.customer.io/journeys/transactional-api-examples and
// https://docs.customer.io/journeys/transactional-api-common-api-errors/, as of 2026-11-29:
//
//   - An event has a key: its id, which has to be a ULID. "If an event has the same value as an event we previously received,
//     we won't show or process the duplicate." It is made of the decision's time and id. How long an id is remembered is not said.
//   - A transactional message has none: a call whose answer is lost is not made again.
//   - A transactional message goes out whatever somebody has unsubscribed from, unless send_to_unsubscribed is false, which it
//     is here. It needs an address in "to", so the customer ids have to be addresses. It is for what people expect
//     to get; the event is the right one for marketing.
//   - 100 calls a second. One page says 3,000 in three seconds, for the Track API; the smaller one counts. A 429 has no
//     Retry-After.
//   - The Track API validates little, and answers 200 before it processes. Campaign filters, frequency limits and quiet hours
//     still apply, and a delay in the campaign undoes the timing.
//   - The properties from_address, recipient and reply_to of an event override the campaign's settings; none of ours is
//     called so.
//
// Attributes of people are written by POST /api/v2/batch of the Track API, by https://docs.customer.io/integrations/api/track/, as of the same day:
//
//   - 500 KB a call and 32 KB an element. The limit of 100 calls a second is shared with events.
//   - An identify makes a person who is unknown. No way to update only is documented for it.
//   - 207 says that some elements were refused. That errors name them by batch_index is how others read it; one that does not is taken for
//     a refusal of all, and fewer are sent at a time.
//   - The customer ids are ids, as they are for events.
//
// It is not the API-triggered broadcast, of which one call in ten seconds is allowed.
package customerio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Name of the target, and what its variables begin with.
const (
	Name   = "customerio"
	Prefix = "CUSTOMERIO_"
)

// Config says as whom to call, and what to trigger.
type Config struct {
	Region          string        `name:"region" env:"REGION" enum:"us,eu" default:"us" help:"Region of the account: us or eu."`
	SiteID          config.Secret `name:"site-id" env:"SITE_ID" help:"Site ID of the workspace, for events."`
	TrackKey        config.Secret `name:"track-key" env:"TRACK_KEY" help:"Track API key, for events."`
	Event           string        `name:"event" env:"EVENT" default:"tempismo_send_now" help:"Name of the event that triggers the campaign."`
	AppKey          config.Secret `name:"app-key" env:"APP_KEY" help:"App API key, for a transactional message."`
	TransactionalID string        `name:"transactional-id" env:"TRANSACTIONAL_ID" help:"Transactional message that is to be sent in place of an event, by its id or its trigger name. The customer ids have to be e-mail addresses."`
	URL             string        `name:"url" env:"URL" placeholder:"URL" help:"Where the API is, if it is not where the region has it."`
	crm.Calls
}

// Validate names everything that is wrong with the settings for a run of this kind.
func (c Config) Validate(simulated bool) error {
	err := c.Calls.Validate(Prefix, c.Base(), "https://track.customer.io", simulated)
	if !c.Called(simulated) {
		return err
	}
	need := func(setting string, given bool, say string) {
		if !given {
			err = errors.Join(err, errors.New(setting+": "+say))
		}
	}
	if c.TransactionalID != "" {
		need("CUSTOMERIO_APP_KEY", c.AppKey != "", "must be set for a transactional message; Customer.io shows App API keys under Settings > API credentials")
		need("CUSTOMERIO_SITE_ID, CUSTOMERIO_TRACK_KEY", c.SiteID == "" && c.TrackKey == "", "are for events: leave them out, or CUSTOMERIO_TRANSACTIONAL_ID")
		return err
	}
	need("CUSTOMERIO_SITE_ID", c.SiteID != "", "must be set for events; Customer.io shows it under Settings > API credentials > Track API keys")
	need("CUSTOMERIO_TRACK_KEY", c.TrackKey != "", "must be set for events; it stands beside the site ID")
	need("CUSTOMERIO_EVENT", strings.TrimSpace(c.Event) != "", "must not be empty")
	need("CUSTOMERIO_APP_KEY", c.AppKey == "", "is for a transactional message: leave it out, or give CUSTOMERIO_TRANSACTIONAL_ID")
	return err
}

// Base is where the API is.
func (c Config) Base() string {
	host := "track"
	if c.TransactionalID != "" {
		host = "api"
	}
	if c.Region == "eu" {
		host += "-eu"
	}
	if c.URL != "" {
		return c.URL
	}
	return "https://" + host + ".customer.io"
}

// CustomerIO is one workspace.
type CustomerIO struct {
	config Config
	client *http.Client
	url    string
}

var _ crm.CRM = (*CustomerIO)(nil)

// New makes the workspace whose API is at url.
func New(c Config, client *http.Client, url string) *CustomerIO {
	return &CustomerIO{config: c, client: client, url: strings.TrimRight(url, "/")}
}

// Traits of the two ways. 80 calls a second and those under way are less than 100.
func (c *CustomerIO) Traits() crm.Traits {
	return crm.Traits{Key: c.config.TransactionalID == "", Rate: 80, Batch: 1, Breaker: true}
}

type event struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	Timestamp int64     `json:"timestamp"`
	Data      crm.Facts `json:"data"`
}

type message struct {
	Template       any         `json:"transactional_message_id"`
	To             string      `json:"to"`
	Identifiers    identifiers `json:"identifiers"`
	Data           crm.Facts   `json:"message_data"`
	ToUnsubscribed bool        `json:"send_to_unsubscribed"` // false, and said
}

type identifiers struct {
	Email string `json:"email"`
}

// Send sends the event, or the message.
func (c *CustomerIO) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	facts, err := s.Facts()
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision cannot be read"}
	}
	var to string
	var body any
	if c.config.TransactionalID != "" {
		if !strings.Contains(s.Customer, "@") {
			return crm.Answer{Verdict: crm.Refused, Detail: "the customer id is no e-mail address, which a transactional message needs"}
		}
		to = c.url + "/v1/send/email"
		body = message{Template: template(c.config.TransactionalID), To: s.Customer, Identifiers: identifiers{s.Customer}, Data: facts}
	} else {
		if s.Customer == "" || s.Customer == "." || s.Customer == ".." { // the latter two would lead to another path
			return crm.Answer{Verdict: crm.Refused, Detail: "the decision has no customer"}
		}
		to = c.url + "/api/v1/customers/" + url.PathEscape(s.Customer) + "/events"
		body = event{Name: c.config.Event, ID: ulid(s.Time, s.ID), Timestamp: s.Time.Unix(), Data: facts}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "CUSTOMERIO_URL is not usable"}
	}
	if c.config.TransactionalID != "" {
		req.Header.Set("Authorization", "Bearer "+string(c.config.AppKey))
	} else {
		req.SetBasicAuth(string(c.config.SiteID), string(c.config.TrackKey))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	return crm.Do(c.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := crm.Sort(code, header, now)
		var said struct {
			Delivery string `json:"delivery_id"`
			Meta     struct {
				Error string `json:"error"`
			} `json:"meta"`
		}
		_ = json.Unmarshal(body, &said) // the status counts
		switch {
		case a.Verdict == crm.Accepted:
			a.ID = said.Delivery
		case code == http.StatusTooManyRequests && a.After == 0:
			a.After = 10 * time.Second
		case said.Meta.Error != "":
			a.Detail += ": " + crm.Clip(said.Meta.Error)
		}
		return a
	})
}

// template is a transactional message as the API wants it: a number, or a trigger name.
func template(id string) any {
	if n, err := strconv.ParseInt(id, 10, 64); err == nil {
		return n
	}
	return id
}

// ulid is the decision's id as a ULID (github.com/ulid/spec): its time in milliseconds, and 80 bits of a hash of its id in
// place of the random ones, in Crockford's base 32.
func ulid(t time.Time, id string) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(t.UnixMilli())<<16)
	sum := sha256.Sum256([]byte(id))
	copy(b[6:], sum[:10])
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var out [26]byte
	for i := len(out) - 1; i >= 0; i-- {
		out[i] = digits[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return string(out[:])
}
