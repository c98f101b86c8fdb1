// Package hubspot carries decisions out in HubSpot, in one of two ways: it sends a marketing e-mail to one address, or it
// writes the decision into a property of a contact, which enrols the contact in a workflow.
//
// By https://developers.hubspot.com/docs/api-reference/marketing-single-send-v4/guide,
// https://developers.hubspot.com/docs/api-reference/2026-03/crm/objects/contacts/update-contact,
// https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/basic/get-crm-v3-objects-contacts-contactId,
// https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines,
// https://developers.hubspot.com/docs/api-reference/error-handling and
// https://knowledge.hubspot.com/workflows/add-re-enrollment-triggers-to-a-workflow, as of 2026-11-29:
//
//   - message.sendId is the key of a single send: only one e-mail with a given sendId is sent per account. It is the
//     decision's id. How long one is remembered is not said. HubSpot's own client lists IDEMPOTENT_IGNORE among the results of a send,
//     which is read as the answer to a second one; IDEMPOTENT_FAIL is explained nowhere, and leaves the question open.
//   - A single send is asynchronous: statusId is its id, and what became of it is asked for elsewhere. It needs Marketing Hub
//     Enterprise, makes contacts of unknown addresses and sets them to be marketing contacts, which are paid for.
//   - A property has no key. The same value twice enrols nobody twice, but the value before it does, when a call that was
//     believed lost comes after the next decision's, and so does a workflow that empties the property. A call whose
//     answer is lost is therefore not made again.
//   - Whether such a call was taken can be looked up: a contact is read with the values that a property has had
//     (propertiesWithHistory), which takes the scope crm.objects.contacts.read. How many of them are kept, and how soon one can be read, is
//     not said, so a value that is not there proves nothing.
//   - A contact does not enrol in a workflow that it is still in. Without re-enrolment it enrols once in its life.
//   - 100 calls in 10 seconds for an app of a free or starter account, 190 (formerly 150) for others; the smaller one counts. A
//     429 names the limit in policyName, and is not documented to have Retry-After. That of a day ends at midnight.
//   - The fields of an error are optional, all of them. Its message may hold what was sent.
//
// Properties of contacts are written by POST /crm/v3/objects/contacts/batch/update, by
// https://developers.hubspot.com/docs/api-reference/2026-03/crm/objects/contacts/batch/update-contacts, as of the same day:
//
//   - It updates and makes nobody. An empty text empties a property. A property that does not exist is an error of the call; that it says
//     PROPERTY_DOESNT_EXIST is reported by others and not documented, and so is the limit of 100 contacts a call.
//   - A contact is named by HubSpot's id or by a property with unique values. Whether an address will do is disputed: users report that it is refused
//     in a batch. POST .../batch/read takes it, so the ids are read first.
//   - Who is not found is missing in results. 207 says that some are; errors does not have to say which.
//
// It is not the transactional single send of API v3, which ignores subscriptions.
package hubspot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/outbound"
	"github.com/tempismo/tempismo/services/connector/crm"
)

// Name of the target, and what its variables begin with.
const (
	Name   = "hubspot"
	Prefix = "HUBSPOT_"
)

// Config says as whom to call, and what to send or to write.
type Config struct {
	Token           config.Secret `name:"token" env:"TOKEN" help:"Access token of the app, with the scope marketing-email, or crm.objects.contacts.write and crm.objects.contacts.read."`
	EmailID         int64         `name:"email-id" env:"EMAIL_ID" help:"Marketing e-mail that is to be sent, by its number. The customer ids have to be e-mail addresses."`
	Property        string        `name:"property" env:"PROPERTY" help:"Property of contacts that the decision's id is to be written to, in place of an e-mail; a workflow is to enrol by it."`
	MessageProperty string        `name:"message-property" env:"MESSAGE_PROPERTY" help:"Property of contacts that the decision's message is written to in the same call, for the branches of the workflow. Empty: none."`
	IDProperty      string        `name:"id-property" env:"ID_PROPERTY" default:"email" help:"Property of contacts that has the customer ids: email, another one with unique values, or hs_object_id (HubSpot's own)."`
	URL             string        `name:"url" env:"URL" default:"https://api.hubapi.com" help:"Where HubSpot's API is."`
	crm.Calls
}

// Validate names everything that is wrong with the settings for a run of this kind.
func (c Config) Validate(simulated bool) error {
	err := c.Calls.Validate(Prefix, c.URL, "https://api.hubapi.com", simulated)
	if !c.Called(simulated) {
		return err
	}
	need := func(setting string, given bool, say string) {
		if !given {
			err = errors.Join(err, errors.New(setting+": "+say))
		}
	}
	need("HUBSPOT_TOKEN", c.Token != "", "must be set; HubSpot shows it with the app")
	need("HUBSPOT_EMAIL_ID, HUBSPOT_PROPERTY", (c.EmailID > 0) != (c.Property != ""), "give one of them, the number of a marketing e-mail or the name of a property of contacts")
	need("HUBSPOT_MESSAGE_PROPERTY", c.MessageProperty == "" || c.Property != "" && c.Property != c.MessageProperty, "goes with HUBSPOT_PROPERTY, and is another property")
	need("HUBSPOT_ID_PROPERTY", c.IDProperty != "" || c.Property == "", "must be set for a property")
	return err
}

// HubSpot is one account.
type HubSpot struct {
	config Config
	client *http.Client
	url    string
}

var (
	_ crm.CRM    = (*HubSpot)(nil)
	_ crm.Looker = (*HubSpot)(nil)
)

// New makes the account whose API is at url.
func New(c Config, client *http.Client, url string) *HubSpot {
	return &HubSpot{config: c, client: client, url: strings.TrimRight(url, "/")}
}

// Traits of the two ways. 8 calls a second are 80 in 10 seconds, and those under way are less than the other 20.
func (h *HubSpot) Traits() crm.Traits {
	return crm.Traits{Key: h.config.Property == "", Rate: 8, Batch: 1, Breaker: true}
}

type single struct {
	EmailID int64     `json:"emailId"`
	Message message   `json:"message"`
	Custom  crm.Facts `json:"customProperties"` // which HubSpot does not keep
}

type message struct {
	To     string `json:"to"`
	SendID string `json:"sendId"`
}

type contact struct {
	Properties map[string]string `json:"properties"`
}

// Send sends the e-mail, or writes the property.
func (h *HubSpot) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	facts, err := s.Facts()
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision cannot be read"}
	}
	if s.Customer == "" || s.Customer == "." || s.Customer == ".." { // the latter two would lead to another path
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision has no customer"}
	}
	method, to, body := http.MethodPost, h.url+"/marketing/v4/email/single-send", any(nil)
	if h.config.Property == "" {
		if !strings.Contains(s.Customer, "@") {
			return crm.Answer{Verdict: crm.Refused, Detail: "the customer id is no e-mail address, which a single send needs"}
		}
		body = single{EmailID: h.config.EmailID, Message: message{To: s.Customer, SendID: s.ID}, Custom: facts}
	} else {
		method, to = http.MethodPatch, h.contact(s.Customer, url.Values{})
		write := map[string]string{h.config.Property: s.ID}
		if h.config.MessageProperty != "" {
			write[h.config.MessageProperty] = facts.Message
		}
		body = contact{write}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the call cannot be written"}
	}
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(text))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "HUBSPOT_URL is not usable"}
	}
	req.Header.Set("Authorization", "Bearer "+string(h.config.Token))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	return crm.Do(h.client, req, func(code int, header http.Header, body []byte) crm.Answer { return h.sort(code, header, body, now) })
}

// contact is the address of a contact.
func (h *HubSpot) contact(customer string, query url.Values) string {
	to := h.url + "/crm/v3/objects/contacts/" + url.PathEscape(customer)
	if h.config.IDProperty != "hs_object_id" {
		query.Set("idProperty", h.config.IDProperty)
	}
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	return to
}

// Look looks for the decision's id among the values that the property has had. A single send is asked for by its key instead.
func (h *HubSpot) Look(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	to := h.contact(s.Customer, url.Values{"propertiesWithHistory": {h.config.Property}})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return crm.Answer{Verdict: crm.Denied, Detail: "HUBSPOT_URL is not usable"}
	}
	req.Header.Set("Authorization", "Bearer "+string(h.config.Token))
	req.Header.Set("User-Agent", "Tempismo")
	return crm.Do(h.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := h.sort(code, header, body, now)
		if a.Verdict != crm.Accepted {
			return a
		}
		var said struct {
			Had map[string][]struct {
				Value string `json:"value"`
			} `json:"propertiesWithHistory"`
		}
		_ = json.Unmarshal(body, &said) // half an answer says nothing
		for _, v := range said.Had[h.config.Property] {
			if v.Value == s.ID {
				return crm.Answer{Verdict: crm.Accepted}
			}
		}
		return crm.Answer{Verdict: crm.Unknown, Detail: "the contact's property has not had the decision's id"}
	})
}

// sort sorts HubSpot's answers.
func (h *HubSpot) sort(code int, header http.Header, body []byte, now time.Time) crm.Answer {
	var said struct {
		StatusID string `json:"statusId"`
		Status   any    `json:"status"` // of a send, or "error"
		Result   string `json:"sendResult"`
		Category string `json:"category"`
		Policy   string `json:"policyName"`
	}
	_ = json.Unmarshal(body, &said) // the status counts
	a := crm.Sort(code, header, now)
	switch {
	case a.Verdict == crm.Accepted && h.config.Property == "":
		return sent(said.StatusID, said.Status == "CANCELED", said.Result)
	case a.Verdict == crm.Accepted:
		return a
	case code == http.StatusLocked, code == 477: // locked for a moment, and being moved to another data centre
		a.Verdict, a.After = crm.Retry, max(outbound.RetryAfter(header.Get("Retry-After"), now), 2*time.Second)
	case code == http.StatusTooManyRequests && a.After == 0:
		a.After = 10 * time.Second
		if said.Policy == "DAILY" {
			a.After = time.Hour
		}
	case code == http.StatusNotFound && h.config.Property != "" && said.Status == "error":
		// Where nobody knows the address of the API, the answer is no error of the API.
		a.Verdict = crm.Refused
	}
	for _, text := range []string{said.Category, said.Policy} {
		if text != "" {
			a.Detail += ": " + crm.Clip(text)
		}
	}
	return a
}

// sent sorts what was said of a single send that HubSpot has.
func sent(id string, canceled bool, result string) crm.Answer {
	a := crm.Answer{Verdict: crm.Accepted, ID: id}
	switch result {
	case "SENT", "QUEUED", "IDEMPOTENT_IGNORE":
	case "IDEMPOTENT_FAIL", "THROTTLED": // not this time; the time before is left open
		a = crm.Answer{Verdict: crm.Unknown, Detail: result}
	case "":
		if canceled {
			a = crm.Answer{Verdict: crm.Unknown, Detail: "CANCELED"}
		}
	default:
		a = crm.Answer{Verdict: crm.Refused, Detail: crm.Clip(result)}
	}
	return a
}
