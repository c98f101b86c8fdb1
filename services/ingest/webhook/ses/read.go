package ses

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// event is what SES publishes, as far as it concerns us. Which of the objects is there depends on the type.
type event struct {
	EventType        string // of event publishing
	NotificationType string // of the older feedback notifications
	Mail             struct {
		Timestamp   string
		MessageID   string `json:"messageId"`
		Destination []string
		Tags        map[string][]string
	}
	Delivery struct {
		Timestamp  string
		Recipients []string
	}
	Bounce struct {
		Timestamp         string
		BouncedRecipients []recipient
	}
	Complaint struct {
		Timestamp             string
		ComplaintFeedbackType string
		ComplainedRecipients  []recipient
	}
	Open  visit
	Click struct {
		visit
		Link string
	}
	Subscription struct {
		Timestamp           string
		NewTopicPreferences preferences
		OldTopicPreferences preferences
	}
}

type recipient struct{ EmailAddress string }

type visit struct {
	Timestamp, UserAgent string
	IPAddress            string `json:"ipAddress"`
}

type preferences struct {
	UnsubscribeAll          bool
	TopicSubscriptionStatus []struct{ TopicName, SubscriptionStatus string }
}

// Read takes the event out of a notification. One event can be about several recipients, and gives an element for each.
func (s *Source) Read(r *webhook.Request) ([]webhook.Element, error) {
	m, err := parse(r.Body)
	if err != nil {
		return nil, err
	}
	if m.Type != notification {
		// A confirmation that gets here was answered already; a farewell says that an operator has unsubscribed us.
		name := m.Type
		if name == "" {
			return nil, webhook.Wrong("Type", "is required")
		}
		return []webhook.Element{{Ignored: name, Raw: r.Body}}, nil
	}
	all := m.read()
	for i := range all {
		all[i].Raw = r.Body
	}
	return all, nil
}

// camel is a path of fields in Go as SES writes it.
func camel(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		if p != "" {
			parts[i] = strings.ToLower(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, ".")
}

func (m *message) read() []webhook.Element {
	if strings.HasPrefix(m.Message, "Successfully validated SNS topic") {
		return []webhook.Element{{Ignored: "Successfully validated SNS topic"}} // what SES says when it is set up
	}
	var e event
	if err := json.Unmarshal([]byte(m.Message), &e); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return []webhook.Element{webhook.Failed(camel(wrong.Field), "must not be of type %s", wrong.Value)}
		}
		return []webhook.Element{webhook.Failed("Message", "must be an event of SES in JSON")}
	}
	name := e.EventType
	if name == "" {
		name = e.NotificationType
	}
	if name == "" {
		return []webhook.Element{webhook.Failed("eventType", "is required, or notificationType")}
	}
	c := engagement.Event{
		Source: "/ingest/ses", Channel: "email", Provider: "ses", Message: e.Mail.MessageID, Campaign: e.tag("campaign"),
	}
	var at, field string // when, and SES's name for it
	var by visit
	to, toField := e.Mail.Destination, "mail.destination"
	single := false // SES does not say which of the recipients it was
	switch name {
	case "Send":
		c.Kind, at, field = engagement.Sent, e.Mail.Timestamp, "mail.timestamp"
	case "Reject", "Rendering Failure":
		// Never sent, the one for a virus, the other for the template. Neither has a time of its own.
		c.Kind, at, field = engagement.Bounce, e.Mail.Timestamp, "mail.timestamp"
	case "Delivery":
		c.Kind, at, field = engagement.Delivered, e.Delivery.Timestamp, "delivery.timestamp"
		to, toField = e.Delivery.Recipients, "delivery.recipients"
	case "Bounce":
		c.Kind, at, field = engagement.Bounce, e.Bounce.Timestamp, "bounce.timestamp"
		to, toField = addresses(e.Bounce.BouncedRecipients), "bounce.bouncedRecipients"
	case "Complaint":
		// SES names all who may have complained, where the receiving provider hides who did. All of them count: to spare one
		// too many is the lesser harm. A report that mail is no spam is no complaint.
		if e.Complaint.ComplaintFeedbackType == "not-spam" {
			return []webhook.Element{{Ignored: "Complaint not-spam"}}
		}
		c.Kind, at, field = engagement.Complaint, e.Complaint.Timestamp, "complaint.timestamp"
		to, toField = addresses(e.Complaint.ComplainedRecipients), "complaint.complainedRecipients"
	case "Open":
		c.Kind, at, field, by, single = engagement.Open, e.Open.Timestamp, "open.timestamp", e.Open, true
	case "Click":
		c.Kind, at, field, by, single = engagement.Click, e.Click.Timestamp, "click.timestamp", e.Click.visit, true
		c.Link = e.Click.Link
	case "Subscription":
		if !e.leaves() {
			return []webhook.Element{{Ignored: name}}
		}
		c.Kind, at, field, single = engagement.Unsubscribe, e.Subscription.Timestamp, "subscription.timestamp", true
	default:
		return []webhook.Element{{Ignored: name}}
	}
	when, err := webhook.ISO(at)
	switch {
	case m.MessageID == "":
		return []webhook.Element{webhook.Failed("MessageId", "is required")}
	case err != nil:
		return []webhook.Element{webhook.Failed(field, "%v", err)}
	case len(to) == 0:
		return []webhook.Element{webhook.Failed(toField, "must have a recipient")}
	case single && len(to) > 1:
		return []webhook.Element{webhook.Failed(toField, "has %d recipients, and SES does not say which of them it was: send one message per recipient", len(to))}
	}
	c.Time, c.UserAgent = when, by.UserAgent
	address, _ := netip.ParseAddr(by.IPAddress) // what is none tells nothing
	var all []webhook.Element
	for i, who := range to {
		one := c
		one.ID = "ses-" + m.MessageID
		if i > 0 {
			one.ID += "-" + strconv.Itoa(i+1)
		}
		one.Subject = webhook.Address(who)
		if id := e.tag("customer_id"); id != "" && len(e.Mail.Destination) <= 1 {
			one.Subject = id // tags are the message's: of several recipients they tell nothing
		}
		if err := one.Validate(); err != nil {
			all = append(all, webhook.Element{Err: webhook.Renamed(err, map[string]string{
				"id": "MessageId", "subject": "mail.tags.customer_id or " + toField, "time": field, "data.message": "mail.messageId",
				"data.campaign": "mail.tags.campaign", "data.link": "click.link", "data.user_agent": "userAgent",
			})})
			continue
		}
		all = append(all, webhook.Element{Event: &one, Address: address})
	}
	return all
}

func addresses(all []recipient) []string {
	var list []string
	for _, r := range all {
		list = append(list, r.EmailAddress)
	}
	return list
}

func (e *event) tag(name string) string {
	if values := e.Mail.Tags[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// leaves reports whether the customer has left everything, or a topic that was not left before.
func (e *event) leaves() bool {
	now, before := e.Subscription.NewTopicPreferences, e.Subscription.OldTopicPreferences
	if now.UnsubscribeAll {
		return true
	}
	left := map[string]bool{}
	for _, t := range before.TopicSubscriptionStatus {
		left[t.TopicName] = t.SubscriptionStatus == "OptOut"
	}
	for _, t := range now.TopicSubscriptionStatus {
		if t.SubscriptionStatus == "OptOut" && !left[t.TopicName] {
			return true
		}
	}
	return false
}
