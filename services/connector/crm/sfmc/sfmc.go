// Package sfmc carries decisions out in Salesforce Marketing Cloud Engagement, in one of two ways: an entry event of a
// journey, or a transactional message.
//
// By https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/access-token-s2s.html,
// https://developer.salesforce.com/docs/marketing/marketing-cloud/references/mc_rest_transactional_messaging_email/sendMessageSingleRecipient.html,
// https://developer.salesforce.com/docs/marketing/marketing-cloud/guide/transactional-messaging-best-practices.html,
// .../guide/transactional-send-response.html, .../guide/how-to-fire-an-event.html, .../guide/rate-limiting.html and
// https://developer.salesforce.com/docs/atlas.en-us.noversion.mc-apis.meta/mc-apis/postEvent.htm, as of 2026-11-29:
//
//   - A transactional message has a key: messageKey, up to 100 characters. It is the decision's id. It must be "unique among all of the keys used in
//     your business unit over the last 2 days" (72 hours, by another page); after that the same key would be another message.
//     A decision lives for a day at most, and is not sent after it.
//   - A key that repeats is an error, 109110, in place of a yes. It is read as one: the key is nobody else's. Whether it can be
//     that of a message that was never processed is not said.
//   - An entry event has none: a call whose answer is lost is not made again. Its data are checked against the data extension of the event.
//   - Transactional messages know no suppression lists. They are not for marketing; the journey is.
//   - A token lives for 20 minutes, and is asked for by client id and secret. Salesforce wants it to be used again. rest_instance_url, which comes with it, is
//     not followed: it is what the subdomain says, and no answer may say whom to call.
//   - No rate is published. A 429 may have Retry-After (50100) or not (50200).
//   - The server closes connections that are idle for 5 seconds.
//
// Rows of a data extension are written by POST /hub/v1/dataevents/key:{key}/rowset, by
// https://developer.salesforce.com/docs/marketing/marketing-cloud/references/mc_rest_data_extensions/postDataExtensionRowsetByKey.html, as of
// the same day:
//
//   - A row is updated, or made where the primary key is new. At most 50 rows at a time are advised.
//   - What becomes of the other rows where one is wrong is not said. An error is taken for one of all, and fewer are sent at a time.
//
// It is not the legacy triggered send, and it sends one recipient per call.
package sfmc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Name of the target, and what its variables begin with.
const (
	Name   = "sfmc"
	Prefix = "SFMC_"
)

// Config says as whom to call, and what to trigger.
type Config struct {
	Subdomain     string        `name:"subdomain" env:"SUBDOMAIN" help:"Subdomain of the tenant: what stands before .rest.marketingcloudapis.com."`
	ClientID      config.Secret `name:"client-id" env:"CLIENT_ID" help:"Client ID of the server-to-server integration in an installed package."`
	ClientSecret  config.Secret `name:"client-secret" env:"CLIENT_SECRET" help:"Client secret of the same integration."`
	AccountID     string        `name:"account-id" env:"ACCOUNT_ID" placeholder:"MID" help:"Business unit (MID), if it is not the one that the integration belongs to."`
	EventKey      string        `name:"event-key" env:"EVENT_KEY" help:"Event definition key of the entry event of a journey. The customer ids are contact keys."`
	DefinitionKey string        `name:"definition-key" env:"DEFINITION_KEY" help:"Transactional send definition that is to be sent in place of an event. The customer ids have to be e-mail addresses."`
	DataExtension string        `name:"data-extension" env:"DATA_EXTENSION" help:"External key of the data extension that CONNECTOR_ATTRIBUTES writes to."`
	KeyColumn     string        `name:"key-column" env:"KEY_COLUMN" default:"ContactKey" help:"Primary key of that data extension, which has the customer ids."`
	URL           string        `name:"url" env:"URL" placeholder:"URL" help:"Where both the API and its tokens are, if it is not where the subdomain says."`
	crm.Calls
}

// subdomains are what a host name may begin with.
var subdomains = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

// Validate names everything that is wrong with the settings for a run of this kind.
func (c Config) Validate(simulated bool) error {
	err := c.Calls.Validate(Prefix, c.Base(), "https://tenant.rest.marketingcloudapis.com", simulated)
	if c.Subdomain != "" && !subdomains.MatchString(c.Subdomain) {
		err = errors.Join(err, fmt.Errorf("SFMC_SUBDOMAIN: %q: give what stands before .rest.marketingcloudapis.com", c.Subdomain))
	}
	if !c.Called(simulated) {
		return err
	}
	need := func(setting string, given bool, say string) {
		if !given {
			err = errors.Join(err, errors.New(setting+": "+say))
		}
	}
	need("SFMC_SUBDOMAIN", c.Subdomain != "" || c.URL != "" || simulated, "must be set; the installed package shows it in its base URIs")
	need("SFMC_CLIENT_ID, SFMC_CLIENT_SECRET", c.ClientID != "" && c.ClientSecret != "", "must be set; Salesforce shows them in the installed package")
	need("SFMC_EVENT_KEY, SFMC_DEFINITION_KEY", (c.EventKey == "") != (c.DefinitionKey == ""), "give one of them, the entry event of a journey or a transactional send definition")
	need("SFMC_EVENT_KEY", !strings.Contains(c.EventKey, "."), "must have no period, which Salesforce forbids")
	return err
}

// Base is where the API is.
func (c Config) Base() string {
	if c.URL != "" || c.Subdomain == "" {
		return c.URL
	}
	return "https://" + c.Subdomain + ".rest.marketingcloudapis.com"
}

// SFMC is one business unit.
type SFMC struct {
	config Config
	client *http.Client
	url    string
	tokens *tokens
}

var _ crm.CRM = (*SFMC)(nil)

// New makes the business unit whose API is at url. The client has to be of its own.
func New(c Config, client *http.Client, url string) *SFMC {
	if client != nil {
		if t, ok := client.Transport.(*http.Transport); ok {
			t.IdleConnTimeout = 4 * time.Second // less than the server's 5: a call on a connection that it closes may be lost
		}
	}
	url = strings.TrimRight(url, "/")
	// Salesforce has tokens at a host of their own, and whoever imitates it has them at the same.
	auth := strings.Replace(url, ".rest.marketingcloudapis.com", ".auth.marketingcloudapis.com", 1)
	return &SFMC{config: c, client: client, url: url, tokens: newTokens(c, client, auth+"/v2/token")}
}

// Traits of the two ways. 20 calls a second are no limit of Salesforce's, which names none.
func (m *SFMC) Traits() crm.Traits {
	return crm.Traits{Key: m.config.DefinitionKey != "", Rate: 20, Batch: 1, Breaker: true}
}

type message struct {
	DefinitionKey string    `json:"definitionKey"`
	Recipient     recipient `json:"recipient"`
}

type recipient struct {
	ContactKey string    `json:"contactKey"`
	To         string    `json:"to"`
	Attributes crm.Facts `json:"attributes"`
}

type event struct {
	ContactKey         string    `json:"ContactKey"`
	EventDefinitionKey string    `json:"EventDefinitionKey"`
	Data               crm.Facts `json:"Data"`
}

// Send sends the event, or the message. It asks for a token before, if it has none.
func (m *SFMC) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	facts, err := s.Facts()
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision cannot be read"}
	}
	if s.Customer == "" {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision has no customer"}
	}
	to, body := m.url+"/interaction/v1/events", any(event{ContactKey: s.Customer, EventDefinitionKey: m.config.EventKey, Data: facts})
	if m.config.DefinitionKey != "" {
		switch {
		case !strings.Contains(s.Customer, "@"):
			return crm.Answer{Verdict: crm.Refused, Detail: "the customer id is no e-mail address, which a transactional message needs"}
		case len(s.ID) > 100:
			return crm.Answer{Verdict: crm.Refused, Detail: "the decision's id is longer than the 100 characters of a message key"}
		case s.ID == "" || s.ID == "." || s.ID == "..": // which would lead to another path
			return crm.Answer{Verdict: crm.Refused, Detail: "the decision's id is no message key"}
		}
		to = m.url + "/messaging/v1/email/messages/" + url.PathEscape(s.ID)
		body = message{m.config.DefinitionKey, recipient{ContactKey: s.Customer, To: s.Customer, Attributes: facts}}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}
	}
	return m.call(ctx, to, text, now, func(code int, header http.Header, body []byte) crm.Answer { return sort(code, header, body, now) })
}

// call posts text with a token, which it asks for before, if it has none.
func (m *SFMC) call(ctx context.Context, to string, text []byte, now time.Time, sort func(code int, header http.Header, body []byte) crm.Answer) crm.Answer {
	began := time.Now()
	for again := false; ; again = true {
		token, a := m.tokens.get(ctx, now)
		if token == "" {
			return a
		}
		if time.Since(began) > time.Second { // the decision may have expired in the meantime, which the connector checks before it calls
			return crm.Answer{Verdict: crm.Retry, Detail: "the access token took long", After: time.Second}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
		if err != nil {
			return crm.Answer{Verdict: crm.Refused, Detail: "SFMC_URL is not usable"}
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json; charset=UTF-8")
		req.Header.Set("User-Agent", "Tempismo")
		unauthorized := false
		a = crm.Do(m.client, req, func(code int, header http.Header, body []byte) crm.Answer {
			unauthorized = code == http.StatusUnauthorized
			return sort(code, header, body)
		})
		if !unauthorized || again {
			return a
		}
		m.tokens.drop(token) // nothing was taken
	}
}

// duplicate is the code of a message key that was used before.
const duplicate = "109110"

// sort sorts Salesforce's answers. Their texts may hold what was sent; the codes do not.
func sort(code int, header http.Header, body []byte, now time.Time) crm.Answer {
	var said struct {
		RequestID string `json:"requestId"`
		EventID   string `json:"eventInstanceId"`
		Code      any    `json:"errorcode"`
		Responses []struct {
			Code any `json:"errorcode"`
		} `json:"responses"`
	}
	_ = json.Unmarshal(body, &said) // the status counts
	wrong := coded(said.Code)
	for _, r := range said.Responses {
		if c := coded(r.Code); c != "" { // says more than that there is one
			wrong = c
		}
	}
	a := crm.Sort(code, header, now)
	switch {
	case wrong == duplicate && code < 500:
		a = crm.Answer{Verdict: crm.Accepted, Detail: "was taken before"}
	case a.Verdict == crm.Accepted && wrong != "":
		a = crm.Answer{Verdict: crm.Refused, Detail: fmt.Sprintf("HTTP %d: %s", code, wrong)}
	case a.Verdict == crm.Accepted:
		if a.ID = said.EventID; a.ID == "" {
			a.ID = said.RequestID
		}
	default:
		if code == http.StatusTooManyRequests && a.After == 0 {
			a.After = time.Minute
		}
		if wrong != "" {
			a.Detail += ": " + wrong
		}
	}
	return a
}

// coded is an error's code, a number or a text of one; none is empty. What is neither could hold what was sent, and is not repeated.
func coded(c any) string {
	switch c := c.(type) {
	case nil:
		return ""
	case float64:
		if c == 0 {
			return ""
		}
		return crm.Clip(strconv.FormatFloat(c, 'f', -1, 64))
	case string:
		if strings.Trim(c, "0123456789") == "" {
			return crm.Clip(c)
		}
	}
	return "an error without a number"
}
