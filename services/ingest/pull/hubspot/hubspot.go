// Package hubspot fetches what happened to the mail of a HubSpot account: the list of email events that HubSpot sends to nobody.
//
// It knows the calls, the events, and which stretches of time have been fetched for good. It is not the webhooks of HubSpot, which
// tell other things, name contacts by their numbers, and are in package webhook/hubspot. It writes to no topic, and does not
// remember over its own end: whoever runs it appends what it finds, and keeps the time that it says is settled.
//
// It follows, as of 2026-11-29:
//
//	https://developers.hubspot.com/docs/api-reference/legacy/email-analytics-v1/guide
//	https://developers.hubspot.com/docs/api-reference/legacy/reporting/email-analytics/events/get-email-public-v1-events
//	https://legacydocs.hubspot.com/docs/methods/email/get_events
//	https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines
//	https://developers.hubspot.com/changelog/legacy-apis-and-legacy-apps-whats-going-unsupported-and-when
//
// What the pages say:
//   - GET /email/public/v1/events with a bearer token that has the scope content. startTimestamp and endTimestamp are Unix
//     milliseconds, both inclusive. limit is at most 1000.
//   - Events come newest first. While hasMore is true, offset is where the next page begins: opaque, short-lived, and only
//     good with the same parameters. A stretch of time that was interrupted is therefore fetched anew.
//   - An event is one by its id and created together. Of UNBOUNCE nothing else is certain, not even the type.
//   - An app may make 100 calls in 10 seconds with the smallest subscriptions, and 250,000 a day, which others of the account
//     may share. Beyond it the answer is 429. Retry-After is not documented there, and honoured where it comes.
//   - The numbered versions of HubSpot's interfaces, of which this is one, are unsupported from September 2027 on: they may go on
//     working, or not. Of the migration guide to the dated versions nothing that replaces this list is known. In 2025 HubSpot
//     wrote, when it ended another interface for mail, that this one will continue to function.
//
// What they do not say, and what is done about it:
//   - How late an event appears in the list. Public programs that read HubSpot's lists found the newest part of them incomplete,
//     and stay an hour behind. Every stretch is fetched twice: when it is new, and when it is PULL_LATE old, and only then it is settled.
//   - How long HubSpot keeps events.
//   - filteredEvent, portalSubscriptionStatus and ipAddress, which are known from public programs. filteredEvent is what the
//     account keeps out of its own statistics: bots and, where it says so, its own network. Here it is a machine's.
package hubspot

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/outbound"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Config is set by operators.
type Config struct {
	Token        config.Secret `name:"pull-token" env:"PULL_TOKEN" help:"Access token of a HubSpot app with the scope content, by which the email events of the account are fetched. Empty, or in a simulated run: nothing is fetched."`
	URL          string        `name:"pull-url" env:"PULL_URL" default:"https://api.hubapi.com" placeholder:"URL" help:"Where HubSpot's API is."`
	AllowPrivate bool          `name:"pull-allow-private" env:"PULL_ALLOW_PRIVATE" help:"Allow a HUBSPOT_PULL_URL on this machine or in a private network, and plain http."`
	Every        time.Duration `name:"pull-every" env:"PULL_EVERY" default:"1m" help:"How often new events are asked for; from 10s on."`
	Late         time.Duration `name:"pull-late" env:"PULL_LATE" default:"3h" help:"How late HubSpot may tell of an event: each stretch of time is fetched once more when it is so old. 10m to 168h."`
	Since        time.Duration `name:"pull-since" env:"PULL_SINCE" default:"720h" help:"How far back it begins where nothing says how far it has come: at the first start, and when Kafka has forgotten it."`
}

// Enabled reports whether events are to be fetched.
func (c Config) Enabled() bool { return c.Token != "" }

// WithDefaults fills what is zero because no flags were parsed.
func (c Config) WithDefaults() Config {
	if c.URL == "" {
		c.URL = "https://api.hubapi.com"
	}
	if c.Every == 0 {
		c.Every = time.Minute
	}
	if c.Late == 0 {
		c.Late = 3 * time.Hour
	}
	if c.Since == 0 {
		c.Since = 30 * 24 * time.Hour
	}
	return c
}

// Validate names everything that is wrong with the settings.
func (c Config) Validate() error {
	if !c.Enabled() {
		return nil
	}
	c = c.WithDefaults()
	var problems []error
	wrong := func(setting, format string, args ...any) {
		problems = append(problems, fmt.Errorf("HUBSPOT_PULL_"+setting+": "+format, args...))
	}
	if len(c.Token) < webhook.LeastSecret || strings.ContainsFunc(string(c.Token), func(r rune) bool { return r <= ' ' || r > '~' }) {
		wrong("TOKEN", "is no access token: copy it from the settings of the app")
	}
	switch u, err := url.Parse(c.URL); {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		wrong("URL", "%q: give scheme and host, such as https://api.hubapi.com", c.URL)
	case u.Scheme == "http" && !c.AllowPrivate:
		wrong("URL", "%q: use https, or set HUBSPOT_PULL_ALLOW_PRIVATE=true for one of your own network", c.URL)
	}
	if c.Every < 10*time.Second || c.Every > time.Hour {
		wrong("EVERY", "%v is not between 10s and 1h", c.Every)
	}
	if c.Late < 10*time.Minute || c.Late > 7*24*time.Hour {
		wrong("LATE", "%v is not between 10m and 168h", c.Late)
	}
	if c.Since < c.Late {
		wrong("SINCE", "%v: give at least as long as HUBSPOT_PULL_LATE, %v", c.Since, c.Late)
	}
	return errors.Join(problems...)
}

// timeout is how long a call may take, its answer included.
const timeout = 30 * time.Second

// Client makes the client that calls HubSpot.
func (c Config) Client() *http.Client {
	guard := outbound.Guard(outbound.Public)
	if c.AllowPrivate {
		guard = nil
	}
	return outbound.New(timeout, 1, guard)
}

// Bounds of a page: what HubSpot gives at most, and what is read of it.
const (
	pageLimit = 1000
	maxPage   = 32 << 20 // bytes
)

// Page is a part of the events of a stretch of time, newest first.
type Page struct {
	Elements []webhook.Element
	More     bool
	Offset   string // where the next page begins, if there are more
}

// Refusal is an answer that is no page.
type Refusal struct {
	Status   int
	Category string        // what HubSpot calls it; empty: nothing, or nothing that could be shown
	After    time.Duration // how long it wants to be left alone; zero: it does not say
}

// Denied reports whether nothing will change by itself: the token or the scope is wrong, or HubSpot has ended the interface.
func (r *Refusal) Denied() bool {
	return r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden || r.Status == http.StatusNotFound || r.Status == http.StatusGone
}

func (r *Refusal) Error() string {
	text := "HubSpot answers " + strconv.Itoa(r.Status)
	if r.Category != "" {
		text += " " + r.Category
	}
	switch {
	case r.Status == http.StatusUnauthorized, r.Status == http.StatusForbidden:
		text += ": look at HUBSPOT_PULL_TOKEN, and whether its app has the scope content"
	case r.Denied():
		text += ": the list of email events is not, or no longer, at HUBSPOT_PULL_URL"
	case r.Status == http.StatusTooManyRequests:
		text += ": the account has made as many calls as it may for now"
	}
	return text
}

// page fetches a page of the events that were created from one instant to another, in Unix milliseconds and both inclusive.
// The error is a *Refusal where HubSpot has answered something else.
func (p *Puller) page(ctx context.Context, from, to int64, offset string) (Page, error) {
	query := url.Values{"startTimestamp": {strconv.FormatInt(from, 10)}, "endTimestamp": {strconv.FormatInt(to, 10)}, "limit": {strconv.Itoa(pageLimit)}}
	if offset != "" {
		query.Set("offset", offset)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(p.Config.URL, "/")+"/email/public/v1/events?"+query.Encode(), nil)
	if err != nil {
		return Page{}, err
	}
	request.Header.Set("Authorization", "Bearer "+string(p.Config.Token))
	request.Header.Set("Accept", "application/json")
	response, err := p.Client.Do(request)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // the URL is known, and long
		}
		return Page{}, fmt.Errorf("HubSpot cannot be reached: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPage+1))
	if response.StatusCode != http.StatusOK {
		return Page{}, refusal(response, body)
	}
	switch {
	case err != nil:
		return Page{}, fmt.Errorf("HubSpot's answer breaks off: %w", err)
	case len(body) > maxPage:
		return Page{}, fmt.Errorf("HubSpot's answer has more than %d bytes", maxPage)
	}
	return ReadPage(body)
}

// category is a name that can be shown: HubSpot's messages may hold what nobody should read in a log.
var category = regexp.MustCompile(`^[A-Z][A-Z_]{0,39}$`)

func refusal(response *http.Response, body []byte) *Refusal {
	r := &Refusal{Status: response.StatusCode, After: outbound.RetryAfter(response.Header.Get("Retry-After"), time.Now())}
	var said struct {
		Category webhook.Text `json:"category"`
		Policy   webhook.Text `json:"policyName"`
	}
	if json.Unmarshal(body, &said) == nil {
		for _, name := range []string{string(said.Policy), string(said.Category)} {
			if r.Category == "" && category.MatchString(name) {
				r.Category = name
			}
		}
	}
	return r
}

// ReadPage reads the answer to a call, each event by itself: one that cannot be mapped is an element that says why.
func ReadPage(body []byte) (Page, error) {
	var answer struct {
		Events []json.RawMessage `json:"events"`
		More   *bool             `json:"hasMore"`
		Offset webhook.Text      `json:"offset"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Page{}, fmt.Errorf("HubSpot's answer is no page of events: %w", err)
	}
	switch {
	case answer.Events == nil:
		return Page{}, errors.New("HubSpot's answer is no page of events: events is missing")
	case answer.More == nil: // whether it is the last one must not be guessed
		return Page{}, errors.New("HubSpot's answer is no page of events: hasMore is missing")
	case *answer.More && answer.Offset == "":
		return Page{}, errors.New("HubSpot's answer is no page of events: there are more, but offset is missing")
	}
	page := Page{Elements: make([]webhook.Element, len(answer.Events)), More: *answer.More, Offset: string(answer.Offset)}
	for i, raw := range answer.Events {
		page.Elements[i] = Read(raw)
	}
	return page, nil
}

// emailEvent is as much of an event as matters.
type emailEvent struct {
	ID            webhook.Text    `json:"id"`
	Created       json.RawMessage `json:"created"`
	Type          webhook.Text    `json:"type"`
	Recipient     webhook.Text    `json:"recipient"`
	Message       webhook.Text    `json:"hmid"`
	SentBy        json.RawMessage `json:"sentBy"`
	Campaign      webhook.Text    `json:"emailCampaignId"`
	Link          webhook.Text    `json:"url"`
	UserAgent     webhook.Text    `json:"userAgent"`
	Address       webhook.Text    `json:"ipAddress"`
	Filtered      json.RawMessage `json:"filteredEvent"`
	Status        json.RawMessage `json:"portalSubscriptionStatus"`
	Subscriptions json.RawMessage `json:"subscriptions"`
}

// kinds are what the types of events become, in lower case. What has not been given up on (DEFERRED) is no bounce.
var kinds = map[string]engagement.Kind{
	"sent": engagement.Sent, "delivered": engagement.Delivered, "open": engagement.Open, "click": engagement.Click,
	"bounce": engagement.Bounce, "dropped": engagement.Bounce,
	"spamreport": engagement.Complaint, "statuschange": engagement.Unsubscribe,
}

// Read maps an event as tempismo import does by its preset hubspot, to an event of the same id: what is fetched and what is imported
// is one.
func Read(raw []byte) webhook.Element {
	x := read(raw)
	x.Raw = raw
	return x
}

func read(raw []byte) webhook.Element {
	var h emailEvent
	if err := webhook.Decode(raw, &h); err != nil {
		return webhook.Element{Err: err}
	}
	text := func(t webhook.Text) string { return strings.TrimSpace(string(t)) }
	if text(h.Type) == "" {
		if text(h.Recipient) == "" {
			return webhook.Element{Ignored: "UNBOUNCE"} // nobody else may lack both
		}
		return webhook.Failed("type", "is required")
	}
	kind, known := kinds[strings.ToLower(text(h.Type))]
	if !known || kind == engagement.Unsubscribe && !left(h.Status) && !left(h.Subscriptions) {
		return webhook.Element{Ignored: text(h.Type)}
	}
	at, err := webhook.Millis(h.Created)
	if err != nil {
		return webhook.Failed("created", "%v", err)
	}
	who, err := recipient(text(h.Recipient))
	if err != nil {
		return webhook.Element{Err: err}
	}
	e := engagement.Event{
		Source: "/ingest/hubspot", Provider: "hubspot", Channel: "email", Kind: kind, Time: at, Subject: who,
		Message: text(h.Message), Campaign: text(h.Campaign), UserAgent: text(h.UserAgent),
	}
	if e.Message == "" {
		e.Message = strings.TrimSpace(webhook.TextOf(webhook.Object(h.SentBy)["id"]))
	}
	if kind == engagement.Click {
		e.Link = text(h.Link)
	}
	e.ID = id(text(h.ID), strings.TrimSpace(webhook.TextOf(h.Created)), &e)
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: webhook.Renamed(err, map[string]string{"subject": "recipient", "time": "created"})}
	}
	address, _ := netip.ParseAddr(text(h.Address)) // what is no address proves nothing
	return webhook.Element{Event: &e, Machine: webhook.True(h.Filtered) || strings.EqualFold(webhook.TextOf(h.Filtered), "true"), Address: address}
}

// left reports whether a change of a status is one for the worse.
func left(status json.RawMessage) bool {
	return strings.Contains(strings.ToUpper(string(status)), "UNSUBSCRIBED")
}

// recipient is the customer: the address, in lower case.
func recipient(address string) (string, error) {
	switch {
	case address == "":
		return "", webhook.Wrong("recipient", "is required")
	case !strings.Contains(address, "@"):
		return address, nil
	case strings.Count(address, "@") > 1 || strings.ContainsAny(address, ";, "):
		return "", webhook.Wrong("recipient", "is not one address: whose event it is cannot be told")
	}
	return strings.ToLower(address), nil
}

// id names an event by what HubSpot calls it, id and created together, or else by its message, and by what it is.
func id(id, created string, e *engagement.Event) string {
	parts := []string{"hubspot", id, created}
	if id == "" {
		parts = []string{"hubspot", e.Message, e.Campaign}
	}
	parts = append(parts, e.Subject, e.Kind.String(), strconv.FormatInt(e.Time.UnixMilli(), 10), e.Link)
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return "im-" + hex.EncodeToString(h.Sum(nil)[:12])
}

// inOrder puts elements that came newest first into the order of their times.
func inOrder(elements []webhook.Element) {
	at := func(x *webhook.Element) int64 {
		if x.Event == nil {
			return 0
		}
		return x.Event.Time.UnixMilli()
	}
	slices.Reverse(elements)
	slices.SortStableFunc(elements, func(a, b webhook.Element) int { return cmp.Compare(at(&a), at(&b)) })
}
