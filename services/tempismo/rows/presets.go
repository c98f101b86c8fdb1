package rows

import "github.com/tempismo/tempismo/pkg/domain/engagement"

// PresetNames are the names of the presets, in order.
func PresetNames() []string {
	names := make([]string, len(Presets))
	for i, p := range Presets {
		names[i] = p.Name
	}
	return names
}

// Presets are the exports that are known. Columns were looked up on 2026-11-29, where Docs says; docs/import.md says what could
// not be.
var Presets = []Preset{
	{
		Name: "hubspot", Vendor: "HubSpot",
		Layouts: []Layout{{
			What:   "the Email Events API (JSON as it answers, one event a line, or CSV of the same columns)",
			Docs:   "https://developers.hubspot.com/docs/api-reference/legacy/email-analytics-v1/guide",
			Inside: []string{"events"},
			// HubSpot's id of the contact is not in it.
			Customer: Names{"recipient"},
			Kind:     Names{"type", "eventType"},
			Kinds: map[string]engagement.Kind{
				"sent": engagement.Sent, "delivered": engagement.Delivered, "open": engagement.Open, "click": engagement.Click,
				"bounce": engagement.Bounce, "dropped": engagement.Bounce,
				"spamreport": engagement.Complaint, "statuschange": engagement.Unsubscribe,
			},
			// A change of the status is one for the better as well.
			Only:    map[string]Condition{"statuschange": {Columns: Names{"portalSubscriptionStatus", "subscriptions"}, Has: "UNSUBSCRIBED"}},
			Happens: []Happening{{At: Names{"created"}}},
			ID:      []Names{{"id"}, {"created"}}, // HubSpot calls events the same by both together
			// hmid is documented for all types of events, sentBy not for the sending itself.
			Message: []Names{{"hmid", "sentBy.id"}}, Campaign: Names{"emailCampaignId"},
			Link: Names{"url"}, Agent: Names{"userAgent"}, Address: Names{"ipAddress"}, Machine: Names{"filteredEvent"},
			Clock: "UTC",
		}},
	},
	{
		Name: "salesforce", Vendor: "Salesforce",
		Layouts: []Layout{
			{
				What:     "a tracking extract of Marketing Cloud (Sent, Opens, Clicks, Bounces, Unsubs, Complaints)",
				Docs:     "https://help.salesforce.com/s/articleView?id=mktg.mc_as_tracking_extract.htm",
				Customer: Names{"SubscriberKey", "EmailAddress"},
				Kind:     Names{"EventType"}, Kinds: marketingCloud,
				Happens: []Happening{{At: Names{"EventDate"}}},
				Message: []Names{{"SendID", "JobID"}, {"ListID"}, {"BatchID"}, {"SubscriberID"}}, Campaign: Names{"SendID", "JobID"},
				Link: Names{"URL"}, Formats: americanTimes, Clock: marketingCloudClock,
			},
			{
				What:     "the data view _Click of Marketing Cloud",
				Docs:     "https://help.salesforce.com/s/articleView?id=mktg.mc_as_data_view_click.htm",
				Customer: Names{"SubscriberKey"},
				Happens:  []Happening{{At: Names{"EventDate"}, Kind: engagement.Click}}, Needs: []Names{{"JobID"}, {"URL"}},
				Message: dataViewMessage, Campaign: Names{"JobID"},
				Link: Names{"URL"}, Formats: americanTimes, Clock: marketingCloudClock,
			},
			{
				What:     "the data view _Bounce of Marketing Cloud",
				Docs:     "https://help.salesforce.com/s/articleView?id=mktg.mc_as_data_view_bounce.htm",
				Customer: Names{"SubscriberKey"},
				Happens:  []Happening{{At: Names{"EventDate"}, Kind: engagement.Bounce}}, Needs: []Names{{"JobID"}, {"BounceCategory", "BounceCategoryID"}},
				Message: dataViewMessage, Campaign: Names{"JobID"},
				Formats: americanTimes, Clock: marketingCloudClock,
			},
			{
				What:     "a data view of Marketing Cloud (_Sent, _Open, _Unsubscribe, _Complaint)",
				Docs:     "https://help.salesforce.com/s/articleView?id=mktg.mc_as_data_view_open.htm",
				Customer: Names{"SubscriberKey"},
				Happens:  []Happening{{At: Names{"EventDate"}}}, Needs: []Names{{"JobID"}}, // nothing in them says which of them it is
				Message: dataViewMessage, Campaign: Names{"JobID"},
				Formats: americanTimes, Clock: marketingCloudClock,
			},
			{
				What:     "the object EmailMessage (Data Export, Data Loader)",
				Docs:     "https://developer.salesforce.com/docs/platform/field-reference/references/field-reference/salesforce-field-reference-emailmessage.html",
				Customer: Names{"ToAddress"},
				Happens: []Happening{
					{At: Names{"MessageDate"}, Kind: engagement.Sent},
					{At: Names{"FirstOpenedDate"}, Kind: engagement.Open},
					{At: Names{"LastOpenedDate"}, Kind: engagement.Open},
					{At: Names{"FirstLinkClickedDate"}, Kind: engagement.Click},
				},
				Needs: []Names{{"FirstOpenedDate", "LastOpenedDate"}},
				Skip:  Names{"Incoming"}, ID: []Names{{"Id"}},
				Message: []Names{{"Id"}}, Campaign: Names{"EmailTemplateId"}, Clock: "UTC",
			},
			{
				What:     "the object ListEmailSentResult",
				Docs:     "https://developer.salesforce.com/docs/platform/field-reference/references/field-reference/salesforce-field-reference-listemailsentresult.html",
				Customer: Names{"EmailAddress"},
				Happens: []Happening{
					{At: Names{"FirstOpenedDate"}, Kind: engagement.Open},
					{At: Names{"LastOpenedDate"}, Kind: engagement.Open},
					{At: Names{"FirstClickedDate"}, Kind: engagement.Click},
					{At: Names{"LastClickedDate"}, Kind: engagement.Click},
				},
				ID: []Names{{"Id"}}, Message: []Names{{"Id"}}, Clock: "UTC",
			},
			{
				What:     "the object EmailStatus",
				Docs:     "https://developer.salesforce.com/docs/platform/field-reference/references/field-reference/salesforce-field-reference-emailstatus.html",
				Customer: Names{"WhoId"},
				Happens: []Happening{
					{At: Names{"FirstOpenDate"}, Kind: engagement.Open},
					{At: Names{"LastOpenDate"}, Kind: engagement.Open},
				},
				ID: []Names{{"Id"}}, Message: []Names{{"TaskId"}}, Campaign: Names{"EmailTemplateName"}, Clock: "UTC",
			},
		},
	},
	{
		Name: "mailchimp", Vendor: "Mailchimp",
		Layouts: []Layout{
			{
				What:   "the activity of a campaign by the Marketing API (GET /3.0/reports/ID/email-activity)",
				Docs:   "https://mailchimp.com/developer/marketing/api/email-activity-reports/",
				Inside: []string{"emails", "activity"}, Customer: Names{"email_address"},
				Kind: Names{"action"}, Kinds: mailchimp, Happens: []Happening{{At: Names{"timestamp"}}},
				Message: []Names{{"campaign_id"}, {"email_id"}}, Campaign: Names{"campaign_id"},
				Link: Names{"url"}, Address: Names{"ip"}, Clock: "UTC",
			},
			{
				What:   "the opens of a campaign by the Marketing API (GET /3.0/reports/ID/open-details)",
				Docs:   "https://mailchimp.com/developer/marketing/api/open-reports/",
				Inside: []string{"members", "opens"}, Customer: Names{"email_address"},
				Happens: []Happening{{At: Names{"timestamp"}, Kind: engagement.Open}}, Needs: []Names{{"opens_count", "is_proxy_open"}},
				Message: []Names{{"campaign_id"}, {"email_id"}}, Campaign: Names{"campaign_id"},
				Machine: Names{"is_proxy_open"}, Clock: "UTC",
			},
			{
				What:   "the Export API (campaignSubscriberActivity), which Mailchimp ended in 2023: an object a line, by address",
				Docs:   "https://mailchimp.com/developer/marketing/docs/account-exports/",
				Inside: []string{"*"}, Customer: Names{"*"},
				Kind: Names{"action"}, Kinds: mailchimp, Happens: []Happening{{At: Names{"timestamp"}}},
				Link: Names{"url"}, Address: Names{"ip"}, Clock: "UTC",
			},
			{
				What:     "clicks of an account export (granular_activity/clicks, CSV)",
				Docs:     "https://mailchimp.com/developer/marketing/docs/account-exports/",
				Customer: Names{"Email", "Email Address"}, Needs: []Names{{"Url"}},
				Happens: []Happening{{At: Names{"Timestamp"}, Kind: engagement.Click}},
				Link:    Names{"Url"}, Address: Names{"IP", "IP Address"},
			},
			{
				What:     "opens of an account export (granular_activity/opens, CSV)",
				Docs:     "https://mailchimp.com/developer/marketing/docs/account-exports/",
				Customer: Names{"Email", "Email Address"},
				Happens:  []Happening{{At: Names{"Timestamp"}, Kind: engagement.Open}},
				Address:  Names{"IP", "IP Address"},
			},
		},
	},
	{
		Name: "mautic", Vendor: "Mautic",
		Layouts: []Layout{
			{
				What:   "the table email_stats (GET /api/stats/email_stats, or of the database)",
				Docs:   "https://mautic-developer.readthedocs.io/en/latest/rest_api/stats.html",
				Inside: []string{"stats"}, Customer: Names{"lead_id"},
				Happens: mautic("date_sent", "is_failed", "date_read"),
				ID:      []Names{{"id"}}, Message: []Names{{"id"}}, Campaign: Names{"email_id"},
				Clock: "UTC", // as Mautic stores times
			},
			{
				What:     "the report Emails Sent in English (CSV, with the columns Email address, Date sent and Date read)",
				Docs:     "https://github.com/mautic/mautic/blob/5.x/app/bundles/EmailBundle/EventListener/ReportSubscriber.php",
				Customer: Names{"Email address"},
				Happens:  mautic("Date sent", "Is failed", "Date read"), Needs: []Names{{"Date read"}},
				Campaign: Names{"ID", "Subject"},
				// As a Mautic writes them that was not told otherwise. It writes them in the zone of whoever exports, without seconds.
				Formats: []string{"January 2, 2006 3:04 pm", "January 2, 2006 3:04 PM", "January 2, 2006 15:04", "2006-01-02 3:04 pm", "2006-01-02 15:04"},
			},
		},
	},
}

// marketingCloud are the values of EventType.
var marketingCloud = map[string]engagement.Kind{
	"sent": engagement.Sent, "deliveredevent": engagement.Delivered, "open": engagement.Open, "click": engagement.Click,
	"bounce": engagement.Bounce, "hardbounce": engagement.Bounce, "softbounce": engagement.Bounce, "otherbounce": engagement.Bounce, "notsent": engagement.Bounce,
	"unsubscribe": engagement.Unsubscribe, "complaint": engagement.Complaint,
}

// dataViewMessage is the message in the form of Marketing Cloud's notifications, so that all kinds of events share it.
var dataViewMessage = []Names{{"JobID"}, {"ListID"}, {"BatchID"}, {"SubscriberID"}}

// americanTimes are Marketing Cloud's. A day before a month is told apart in some rows only, so whose account has another
// culture has to give --time-format.
var americanTimes = []string{"1/2/2006 3:04:05 PM"}

// marketingCloudClock is the time of Marketing Cloud's systems, which is Central Standard Time all year round
// (https://help.salesforce.com/s/articleView?id=mktg.mc_as_data_view_open.htm).
const marketingCloudClock = "Etc/GMT+6"

// mailchimp are the values of action.
var mailchimp = map[string]engagement.Kind{
	"sent": engagement.Sent, "open": engagement.Open, "click": engagement.Click, "bounce": engagement.Bounce,
	"unsub": engagement.Unsubscribe, "abuse": engagement.Complaint,
}

func mautic(sent, failed, read string) []Happening {
	return []Happening{
		{At: Names{sent}, Kind: engagement.Sent, If: Condition{Columns: Names{failed}, Not: true}},
		{At: Names{sent}, Kind: engagement.Bounce, If: Condition{Columns: Names{failed}}},
		{At: Names{read}, Kind: engagement.Open},
	}
}
