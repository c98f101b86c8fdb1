// Package mautic carries decisions out in Mautic: it sends a template e-mail to one contact.
//
// By https://github.com/mautic/developer-documentation-new (docs/rest_api: emails.rst; stats.rst at 05f93e9) and
// https://github.com/mautic/mautic (app/bundles/EmailBundle: Controller/Api/EmailApiController.php at 06ddb16, Model/EmailModel.php at
// 002d4b6, Entity/Stat.php at 01cc863), as of 2026-11-29.
// What the documentation leaves out is read from the source, which may differ from version to version:
//
//   - There is no key, and no id of a send in the answer. A call whose answer is lost is not made again.
//   - Whether it was taken can be looked up: each e-mail to a contact is a row of the table email_stats, which the API shows to users who may see it, with the
//     tokens that were given, as PHP or JSON writes them. Some versions keep the tokens elsewhere, and the row is written after the sending, so
//     that a row that is not there proves nothing. One with is_failed is not a message sent.
//   - 200 comes with success false, too: because sending failed, which stands in failed, or because the contact is not to be contacted
//     or a frequency rule of Mautic has put the message into its own queue, which look alike.
//   - An e-mail that is not published is sent all the same. One that is set to go to contacts that are not to be contacted
//     does so.
//   - A segment e-mail that a contact has had is not sent again, and success is said all the same. It has to be a template e-mail.
//   - Tokens that are not given stay in the text as they are, so all of them are given, also the empty ones.
//   - 404 says that the e-mail or the contact does not exist, not which. A server that is not Mautic answers so as well,
//     but not with its errors.
//   - No limit is published. Mautic sends while it answers, unless it has a queue, so that a small server is soon busy.
//
// Fields of contacts are edited by PATCH /api/contacts/batch/edit (docs/rest_api/contacts.rst at 0f22a9a; app/bundles/ApiBundle:
// Controller/CommonApiController.php):
//
//   - At most 200 contacts a call (api_batch_max_limit). Mautic edits them while it answers. PATCH makes nobody, unlike PUT.
//   - Empty values are skipped unless overwriteWithBlank is set. A field that does not exist is ignored, and nothing says so.
//   - The answer has contacts, statusCodes and errors, by the place in the batch: lists or objects, as PHP would have it.
//
// It is not the sending of a segment e-mail, and it speaks Basic authentication alone, which Mautic's settings have to allow.
package mautic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	Name   = "mautic"
	Prefix = "MAUTIC_"
)

// Config says as whom to call, and what to send.
type Config struct {
	URL      string        `name:"url" env:"URL" placeholder:"URL" help:"Where Mautic is, such as https://mautic.example.com."`
	User     string        `name:"user" env:"USER" help:"User of Mautic that may send e-mails and edit contacts."`
	Password config.Secret `name:"password" env:"PASSWORD" help:"Password of the user."`
	EmailID  int64         `name:"email-id" env:"EMAIL_ID" help:"Template e-mail that is to be sent, by its number. The customer ids have to be numbers of contacts."`
	crm.Calls
}

// Validate names everything that is wrong with the settings for a run of this kind.
func (c Config) Validate(simulated bool) error {
	err := c.Calls.Validate(Prefix, c.URL, "https://mautic.example.com", simulated)
	if !c.Called(simulated) {
		return err
	}
	if c.User == "" || c.Password == "" {
		err = errors.Join(err, errors.New("MAUTIC_USER, MAUTIC_PASSWORD: must be set; Mautic has to allow basic authentication in Configuration > API settings"))
	}
	if c.EmailID <= 0 {
		err = errors.Join(err, errors.New("MAUTIC_EMAIL_ID: must be set; it is the number of a template e-mail, which its page shows"))
	}
	return err
}

// Mautic is one installation.
type Mautic struct {
	config Config
	client *http.Client
	url    string
}

var (
	_ crm.CRM    = (*Mautic)(nil)
	_ crm.Looker = (*Mautic)(nil)
)

// New makes the installation at url.
func New(c Config, client *http.Client, url string) *Mautic {
	return &Mautic{config: c, client: client, url: strings.TrimRight(url, "/")}
}

// Traits of the endpoint. 10 calls a second spare a small server; it is no limit of Mautic's.
func (m *Mautic) Traits() crm.Traits {
	return crm.Traits{Rate: 10, Batch: 1, Breaker: true}
}

// Send sends the e-mail.
func (m *Mautic) Send(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	f, err := s.Facts()
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "the decision cannot be read"}
	}
	contact := number(s.Customer)
	if contact == 0 {
		return crm.Answer{Verdict: crm.Refused, Detail: "the customer id is no number of a contact"}
	}
	form := url.Values{
		"tokens[{tempismo_decision}]": {f.Decision}, "tokens[{tempismo_reason}]": {f.Reason}, "tokens[{tempismo_request}]": {f.Request}, "tokens[{tempismo_channel}]": {f.Channel},
		"tokens[{tempismo_message}]": {f.Message}, "tokens[{tempismo_audience}]": {f.Audience}, "tokens[{tempismo_arm}]": {f.Arm},
		"tokens[{tempismo_expires_at}]": {f.ExpiresAt.Format(time.RFC3339)},
	}
	to := fmt.Sprintf("%s/api/emails/%d/contact/%d/send", m.url, m.config.EmailID, contact)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader([]byte(form.Encode())))
	if err != nil {
		return crm.Answer{Verdict: crm.Refused, Detail: "MAUTIC_URL is not usable"}
	}
	req.SetBasicAuth(m.config.User, string(m.config.Password))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	return crm.Do(m.client, req, func(code int, header http.Header, body []byte) crm.Answer { return sort(code, header, body, now) })
}

// number is that of a contact; 0 if it is none.
func number(customer string) int64 {
	n, err := strconv.ParseInt(customer, 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// Look looks for the decision's id among the tokens of the last e-mails of this kind that the contact got.
func (m *Mautic) Look(ctx context.Context, s *crm.Send, now time.Time) crm.Answer {
	query := url.Values{"limit": {"10"}, "order[0][col]": {"id"}, "order[0][dir]": {"desc"}}
	for i, by := range [...]struct {
		column string
		value  int64
	}{{"lead_id", number(s.Customer)}, {"email_id", m.config.EmailID}} {
		at := fmt.Sprintf("where[%d]", i)
		query.Set(at+"[col]", by.column)
		query.Set(at+"[expr]", "eq")
		query.Set(at+"[val]", strconv.FormatInt(by.value, 10))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+"/api/stats/email_stats?"+query.Encode(), nil)
	if err != nil {
		return crm.Answer{Verdict: crm.Denied, Detail: "MAUTIC_URL is not usable"}
	}
	req.SetBasicAuth(m.config.User, string(m.config.Password))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "Tempismo")
	return crm.Do(m.client, req, func(code int, header http.Header, body []byte) crm.Answer {
		a := crm.Sort(code, header, now)
		if a.Verdict != crm.Accepted {
			return a
		}
		if had(body, s.ID) {
			return crm.Answer{Verdict: crm.Accepted}
		}
		return crm.Answer{Verdict: crm.Unknown, Detail: "no e-mail to the contact with the decision's id"}
	})
}

// had reports whether one of the rows of email_stats is an e-mail that was sent with the decision's id among its tokens.
func had(body []byte, id string) bool {
	var said struct {
		Stats []struct {
			Failed any             `json:"is_failed"` // a truth value, as a number or a text of one
			Tokens json.RawMessage `json:"tokens"`    // a text, or what it says
		} `json:"stats"`
	}
	_ = json.Unmarshal(body, &said) // half an answer says nothing
	for _, row := range said.Stats {
		text := string(row.Tokens)
		var inner string
		if json.Unmarshal(row.Tokens, &inner) == nil {
			text = inner
		}
		failed := row.Failed == true || row.Failed == 1.0 || row.Failed == "1"
		if !failed && strings.Contains(text, `"`+id+`"`) {
			return true
		}
	}
	return false
}

// sort sorts Mautic's answers. What they say may hold the contact's address, so none of it is passed on.
func sort(code int, header http.Header, body []byte, now time.Time) crm.Answer {
	var said struct {
		Success any               `json:"success"` // 1, true or false
		Failed  any               `json:"failed"`  // a text, or several
		Errors  []json.RawMessage `json:"errors"`
	}
	ours := json.Unmarshal(body, &said) == nil
	a := crm.Sort(code, header, now)
	switch {
	case code == http.StatusNotFound && len(said.Errors) > 0:
		a = crm.Answer{Verdict: crm.Refused, Detail: "HTTP 404: Mautic does not know the e-mail or the contact"}
	case code == http.StatusTooManyRequests && a.After == 0:
		a.After = 10 * time.Second
	case a.Verdict != crm.Accepted || ours && (said.Success == true || said.Success == 1.0):
	case !ours || said.Success == nil: // a page, or half an answer
		a = crm.Answer{Verdict: crm.Unknown, Detail: "HTTP " + strconv.Itoa(code) + " without success"}
	default:
		a = crm.Answer{Verdict: crm.Refused, Detail: "not sent: the contact is not to be contacted, or a frequency rule of Mautic has put the message off"}
		if text, ok := said.Failed.(string); ok && text != "" {
			a.Detail = "sending failed; Mautic's log says why"
		} else if several, ok := said.Failed.([]any); ok && len(several) > 0 {
			a.Detail = "sending failed; Mautic's log says why"
		} else if by, ok := said.Failed.(map[string]any); ok && len(by) > 0 {
			a.Detail = "sending failed; Mautic's log says why"
		}
	}
	return a
}
