package bench

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// sender makes the requests of one provider, signed as the provider signs, or those of the bare endpoint.
type sender struct {
	name string
	path string
	each int // events in a request
	// request makes one of these events, as it is sent now.
	request func(k *keys, events []*engagement.Event, now time.Time) (body []byte, header map[string]string, err error)
}

// Bare is the endpoint that the providers' are compared with.
const Bare = "bare"

// together is how many events the requests of those have that send several at once: what Marketing Cloud takes for the least, and an example
// for SendGrid and HubSpot. The others send one.
const together = 100

// bare posts CloudEvents in JSON: one, or an array of them.
func bare(each int) sender {
	return sender{Bare, "/v1/events", each, func(k *keys, events []*engagement.Event, _ time.Time) ([]byte, map[string]string, error) {
		header := map[string]string{"Content-Type": "application/cloudevents+json", "Authorization": "Bearer " + k.secret}
		if each == 1 {
			return events[0].Append(nil), header, nil
		}
		body := []byte{'['}
		for i, e := range events {
			if i > 0 {
				body = append(body, ',')
			}
			body = e.Append(body)
		}
		header["Content-Type"] = "application/cloudevents-batch+json"
		return append(body, ']'), header, nil
	}}
}

// senders are the providers, in the order of docs/edges.md. What they send are the members that their documentation shows, with values of ours.
var senders = []sender{
	{"sendgrid", webhooks + "sendgrid", together, func(k *keys, events []*engagement.Event, now time.Time) ([]byte, map[string]string, error) {
		kinds := map[engagement.Kind]string{engagement.Delivered: "delivered", engagement.Open: "open", engagement.Click: "click", engagement.Bounce: "bounce"}
		body, err := array(events, func(e *engagement.Event) object {
			m := object{"email": address(e), "timestamp": e.Time.Unix(), "event": kinds[e.Kind], "sg_event_id": e.ID, "sg_message_id": e.Message + ".recvd-6c4d-1-4F.0", "smtp-id": "<" + e.Message + "@geopod-ismtpd-1>",
				"customer_id": e.Subject, "campaign": e.Campaign, "category": []string{"journal"}, "ip": "198.51.100.23"}
			if e.UserAgent != "" {
				m["useragent"] = e.UserAgent
				m["sg_machine_open"] = false
			}
			if e.Link != "" {
				m["url"] = e.Link
				m["url_offset"] = object{"index": 0, "type": "html"}
			}
			return m
		})
		timestamp := strconv.FormatInt(now.Unix(), 10)
		digest := sha256.Sum256(append([]byte(timestamp), body...))
		signature, no := ecdsa.SignASN1(rand.Reader, k.curve, digest[:])
		return body, map[string]string{"X-Twilio-Email-Event-Webhook-Timestamp": timestamp, "X-Twilio-Email-Event-Webhook-Signature": base64.StdEncoding.EncodeToString(signature)}, errors.Join(err, no)
	}},
	{"ses", webhooks + "ses", 1, func(k *keys, events []*engagement.Event, now time.Time) ([]byte, map[string]string, error) {
		e := events[0]
		kinds := map[engagement.Kind]string{engagement.Delivered: "Delivery", engagement.Open: "Open", engagement.Click: "Click", engagement.Bounce: "Bounce"}
		visit := object{"ipAddress": "198.51.100.23", "timestamp": iso(e), "userAgent": e.UserAgent}
		event := object{"eventType": kinds[e.Kind], "mail": object{"timestamp": iso(e), "messageId": e.Message, "source": "shop@example.com", "sendingAccountId": "123456789012", "destination": []string{address(e)}, "headersTruncated": false,
			"headers":       []object{{"name": "From", "value": "Shop <shop@example.com>"}, {"name": "To", "value": address(e)}, {"name": "Subject", "value": "What is new this week"}, {"name": "MIME-Version", "value": "1.0"}},
			"commonHeaders": object{"from": []string{"Shop <shop@example.com>"}, "to": []string{address(e)}, "messageId": e.Message, "subject": "What is new this week"},
			"tags":          object{"ses:configuration-set": []string{"news"}, "ses:from-domain": []string{"example.com"}, "customer_id": []string{e.Subject}, "campaign": []string{e.Campaign}}}}
		switch e.Kind {
		case engagement.Delivered:
			event["delivery"] = object{"timestamp": iso(e), "recipients": []string{address(e)}, "processingTimeMillis": 546, "smtpResponse": "250 ok", "reportingMTA": "a8-70.smtp-out.amazonses.com"}
		case engagement.Open:
			event["open"] = visit
		case engagement.Click:
			visit["link"] = e.Link
			event["click"] = visit
		default:
			event["bounce"] = object{"bounceType": "Permanent", "bounceSubType": "General", "timestamp": iso(e), "bouncedRecipients": []object{{"emailAddress": address(e), "action": "failed", "status": "5.1.1"}}}
		}
		inner, err := json.Marshal(event)
		at := now.UTC().Format("2006-01-02T15:04:05.000Z")
		digest := sha256.Sum256([]byte("Message\n" + string(inner) + "\nMessageId\n" + e.ID + "\nTimestamp\n" + at + "\nTopicArn\n" + snsTopic + "\nType\nNotification\n"))
		signature, no := rsa.SignPKCS1v15(nil, k.long, crypto.SHA256, digest[:])
		body, wrong := json.Marshal(object{"Type": "Notification", "MessageId": e.ID, "TopicArn": snsTopic, "Message": string(inner), "Timestamp": at, "SignatureVersion": "2",
			"Signature": base64.StdEncoding.EncodeToString(signature), "SigningCertURL": snsCertificate, "UnsubscribeURL": "https://sns.eu-south-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=" + snsTopic + ":2bcfbf39"})
		return body, map[string]string{"X-Amz-Sns-Message-Type": "Notification", "X-Amz-Sns-Topic-Arn": snsTopic, "Content-Type": "text/plain; charset=UTF-8"}, errors.Join(err, no, wrong)
	}},
	{"customerio", webhooks + "customerio", 1, func(k *keys, events []*engagement.Event, now time.Time) ([]byte, map[string]string, error) {
		e := events[0]
		kinds := map[engagement.Kind]string{engagement.Delivered: "delivered", engagement.Open: "opened", engagement.Click: "clicked", engagement.Bounce: "bounced"}
		data := object{"customer_id": e.Subject, "identifiers": object{"id": e.Subject, "email": address(e), "cio_id": "d9c106000001"}, "delivery_id": e.Message, "recipient": address(e), "campaign_id": 12, "action_id": 96, "content_id": 3, "subject": "What is new this week"}
		if e.Link != "" {
			data["href"], data["link_id"] = e.Link, 7
		}
		body, err := json.Marshal(object{"event_id": e.ID, "object_type": "email", "metric": kinds[e.Kind], "timestamp": e.Time.Unix(), "data": data})
		timestamp := strconv.FormatInt(now.Unix(), 10)
		return body, map[string]string{"X-CIO-Timestamp": timestamp, "X-CIO-Signature": hex.EncodeToString(k.mac(sha256.New, "v0:"+timestamp+":", body))}, err
	}},
	{"segment", webhooks + "segment", 1, func(k *keys, events []*engagement.Event, now time.Time) ([]byte, map[string]string, error) {
		e := events[0]
		kinds := map[engagement.Kind]string{engagement.Delivered: "Email Delivered", engagement.Open: "Email Opened", engagement.Click: "Email Link Clicked", engagement.Bounce: "Email Bounced"}
		body, err := json.Marshal(object{"type": "track", "event": kinds[e.Kind], "messageId": e.ID, "userId": e.Subject, "timestamp": iso(e), "receivedAt": now.UTC().Format(time.RFC3339Nano), "sentAt": iso(e), "channel": "server", "version": 2,
			"context":    object{"ip": "198.51.100.23", "userAgent": e.UserAgent, "traits": object{"email": address(e)}, "integration": object{"name": "Mailer", "version": "1.0.0"}},
			"properties": object{"email_id": e.Message, "email_subject": "What is new this week", "campaign_id": e.Campaign, "campaign_name": "Journal", "link_url": e.Link}})
		return body, map[string]string{"X-Signature": hex.EncodeToString(k.mac(sha1.New, "", body))}, err
	}},
	{"hubspot", webhooks + "hubspot", together, func(k *keys, events []*engagement.Event, now time.Time) ([]byte, map[string]string, error) {
		kinds := map[engagement.Kind]string{engagement.Delivered: "hs_email_last_send_date", engagement.Open: "hs_email_last_open_date", engagement.Click: "hs_email_last_click_date", engagement.Bounce: "hs_email_bounce"}
		body, err := array(events, func(e *engagement.Event) object {
			value := strconv.FormatInt(e.Time.UnixMilli(), 10)
			if e.Kind == engagement.Bounce {
				value = "1"
			}
			return object{"eventId": 3816279340, "subscriptionId": 25, "portalId": 33, "appId": 1160452, "occurredAt": e.Time.UnixMilli(), "subscriptionType": "contact.propertyChange", "attemptNumber": 0,
				"objectId": json.Number(e.Subject), "changeSource": "EMAIL", "propertyName": kinds[e.Kind], "propertyValue": value}
		})
		timestamp := strconv.FormatInt(now.UnixMilli(), 10)
		mac := k.mac(sha256.New, http.MethodPost+k.url+webhooks+"hubspot", body, []byte(timestamp))
		return body, map[string]string{"X-HubSpot-Request-Timestamp": timestamp, "X-HubSpot-Signature-v3": base64.StdEncoding.EncodeToString(mac)}, err
	}},
	{"mailgun", webhooks + "mailgun", 1, func(k *keys, events []*engagement.Event, now time.Time) ([]byte, map[string]string, error) {
		e := events[0]
		kinds := map[engagement.Kind]string{engagement.Delivered: "delivered", engagement.Open: "opened", engagement.Click: "clicked", engagement.Bounce: "failed"}
		data := object{"event": kinds[e.Kind], "id": e.ID, "timestamp": float64(e.Time.UnixMilli()) / 1000, "recipient": address(e), "recipient-domain": "example.com", "log-level": "info", "tags": []string{"journal"}, "campaigns": []string{},
			"ip": "198.51.100.23", "geolocation": object{"country": "IT", "region": "Lombardia", "city": "Milano"}, "user-variables": object{"customer_id": e.Subject, "campaign": e.Campaign},
			"client-info": object{"client-type": "browser", "client-os": "Windows", "device-type": "desktop", "client-name": "Firefox", "user-agent": e.UserAgent, "bot": ""},
			"message":     object{"headers": object{"message-id": e.Message + "@mg.example.com", "to": address(e), "from": "shop@example.com", "subject": "What is new this week"}, "size": 8421}}
		if e.Link != "" {
			data["url"] = e.Link
		}
		if e.Kind == engagement.Bounce {
			data["severity"], data["reason"] = "permanent", "bounce"
		}
		timestamp, token := strconv.FormatInt(now.Unix(), 10), fmt.Sprintf("%050s", e.ID)
		body, err := json.Marshal(object{"signature": object{"timestamp": timestamp, "token": token, "signature": hex.EncodeToString(k.mac(sha256.New, timestamp+token))}, "event-data": data})
		return body, map[string]string{}, err
	}},
	{"postmark", webhooks + "postmark", 1, func(k *keys, events []*engagement.Event, _ time.Time) ([]byte, map[string]string, error) {
		e := events[0]
		m := object{"MessageID": e.Message, "ServerID": 23, "MessageStream": "broadcast", "Tag": "journal", "Metadata": object{"customer_id": e.Subject, "campaign": e.Campaign}}
		switch e.Kind {
		case engagement.Delivered:
			m["RecordType"], m["Recipient"], m["DeliveredAt"], m["Details"] = "Delivery", address(e), iso(e), "250 2.0.0 OK"
		case engagement.Bounce:
			m["RecordType"], m["Email"], m["BouncedAt"], m["ID"], m["Type"], m["TypeCode"] = "Bounce", address(e), iso(e), 4323372036854775, "HardBounce", 1
		default:
			m["RecordType"], m["Recipient"], m["ReceivedAt"], m["UserAgent"], m["Platform"] = "Open", address(e), iso(e), e.UserAgent, "Desktop"
			m["Client"], m["OS"] = object{"Name": "Firefox", "Company": "Mozilla", "Family": "Firefox"}, object{"Name": "Windows", "Company": "Microsoft", "Family": "Windows"}
			m["Geo"] = object{"CountryISOCode": "IT", "Country": "Italy", "Region": "Lombardia", "City": "Milano", "Zip": "20100", "Coords": "45.4,9.2", "IP": "198.51.100.23"}
			if e.Kind == engagement.Click {
				m["RecordType"], m["OriginalLink"], m["ClickLocation"] = "Click", e.Link, "HTML"
			}
		}
		body, err := json.Marshal(m)
		return body, map[string]string{"Authorization": k.login()}, err
	}},
	{"brevo", webhooks + "brevo", 1, func(k *keys, events []*engagement.Event, _ time.Time) ([]byte, map[string]string, error) {
		e := events[0]
		kinds := map[engagement.Kind]string{engagement.Delivered: "delivered", engagement.Open: "opened", engagement.Click: "click", engagement.Bounce: "hard_bounce"}
		body, err := json.Marshal(object{"event": kinds[e.Kind], "email": address(e), "id": 803812, "date": e.Time.Format(time.DateTime), "ts": e.Time.Unix(), "ts_event": e.Time.Unix(), "ts_epoch": e.Time.UnixMilli(), "message-id": "<" + e.Message + "@smtp-relay.mailin.fr>",
			"subject": "What is new this week", "X-Mailin-custom": `{"customer_id":"` + e.Subject + `","campaign":"` + e.Campaign + `"}`, "sending_ip": "198.51.100.23", "template_id": 22, "tags": []string{"journal"}, "link": e.Link})
		return body, map[string]string{"Authorization": k.login()}, err
	}},
	{"resend", webhooks + "resend", 1, func(k *keys, events []*engagement.Event, now time.Time) ([]byte, map[string]string, error) {
		e := events[0]
		kinds := map[engagement.Kind]string{engagement.Delivered: "email.delivered", engagement.Open: "email.opened", engagement.Click: "email.clicked", engagement.Bounce: "email.bounced"}
		data := object{"email_id": e.Message, "created_at": iso(e), "from": "Shop <shop@example.com>", "to": []string{address(e)}, "subject": "What is new this week", "broadcast_id": "8b146471-e88e-4322-86af-016cd36fd216", "tags": object{"customer_id": e.Subject, "campaign": e.Campaign}}
		if e.Kind == engagement.Click {
			data["click"] = object{"ipAddress": "198.51.100.23", "link": e.Link, "timestamp": iso(e), "userAgent": e.UserAgent}
		}
		body, err := json.Marshal(object{"type": kinds[e.Kind], "created_at": iso(e), "data": data})
		id, timestamp := "msg_"+e.ID, strconv.FormatInt(now.Unix(), 10)
		return body, map[string]string{"svix-id": id, "svix-timestamp": timestamp, "svix-signature": "v1," + base64.StdEncoding.EncodeToString(k.mac(sha256.New, id+"."+timestamp+".", body))}, err
	}},
	{"sfmc", webhooks + "sfmc", together, func(k *keys, events []*engagement.Event, _ time.Time) ([]byte, map[string]string, error) {
		kinds := map[engagement.Kind]string{engagement.Delivered: "TransactionalSendEvents.EmailSent", engagement.Open: "EngagementEvents.EmailOpen", engagement.Click: "EngagementEvents.EmailClick", engagement.Bounce: "TransactionalSendEvents.EmailBounced"}
		body, err := array(events, func(e *engagement.Event) object {
			return object{"eventCategoryType": kinds[e.Kind], "timestampUTC": e.Time.UnixMilli(), "compositeId": "4711.12.3." + e.Subject, "mid": "510001", "eid": "510000", "definitionKey": "journal",
				"composite": object{"jobId": "4711", "listId": "12", "batchId": "3", "subscriberId": e.Subject},
				"info":      object{"to": address(e), "subscriberKey": address(e), "domain": "example.com", "ipAddress": "198.51.100.23", "userAgent": e.UserAgent, "contentLink": e.Link, "isUnique": true}}
		})
		return body, map[string]string{"X-Sfmc-Ens-Signature": base64.StdEncoding.EncodeToString(k.mac(sha256.New, "", body))}, err
	}},
}

const webhooks = "/v1/webhooks/"

type object = map[string]any

// array is a JSON array of events.
func array(events []*engagement.Event, one func(*engagement.Event) object) ([]byte, error) {
	all := make([]object, len(events))
	for i, e := range events {
		all[i] = one(e)
	}
	return json.Marshal(all)
}

func address(e *engagement.Event) string { return "customer." + e.Subject + "@example.com" }

func iso(e *engagement.Event) string { return e.Time.Format(time.RFC3339Nano) }

// keys are what ingest knows each sender by.
type keys struct {
	url    string // at which ingest is called
	secret string // of all who share one
	curve  *ecdsa.PrivateKey
	long   *rsa.PrivateKey
	page   []byte // at snsCertificate
}

// Topic and certificate of Amazon SNS, of whom ingest fetches nothing here (see Serve).
const (
	snsTopic       = "arn:aws:sns:eu-south-1:123456789012:mail"
	snsCertificate = "https://sns.eu-south-1.amazonaws.com/SimpleNotificationService-bench.pem"
)

func newKeys(url string) (*keys, error) {
	secret := make([]byte, 32)
	_, err := rand.Read(secret)
	k := &keys{url: url, secret: hex.EncodeToString(secret)}
	var problems [4]error
	k.curve, problems[0] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.long, problems[1] = rsa.GenerateKey(rand.Reader, 2048)
	if err = errors.Join(err, problems[0], problems[1]); err != nil {
		return nil, fmt.Errorf("make the keys: %w", err)
	}
	name := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"sns-signing.eu-south-1.amazonaws.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, name, name, &k.long.PublicKey, k.long)
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	k.page = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return k, nil
}

// mac is an HMAC over text and parts.
func (k *keys) mac(with func() hash.Hash, text string, parts ...[]byte) []byte {
	h := hmac.New(with, []byte(k.secret))
	h.Write([]byte(text))
	h.Write(bytes.Join(parts, nil))
	return h.Sum(nil)
}

func (k *keys) login() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("bench:"+k.secret))
}

// certificateVariable carries what stands in for Amazon's host to the process that is measured.
const certificateVariable = "BENCH_SNS_CERTIFICATE"

// environment is what has ingest serve every sender.
func (k *keys) environment() ([]string, error) {
	der, err := x509.MarshalPKIXPublicKey(&k.curve.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("make the keys: %w", err)
	}
	return []string{
		"API_TOKENS=" + k.secret, "SENDGRID_PUBLIC_KEYS=" + base64.StdEncoding.EncodeToString(der), "SES_TOPIC_ARNS=" + snsTopic, "CUSTOMERIO_SIGNING_KEYS=" + k.secret, "SEGMENT_SHARED_SECRETS=" + k.secret,
		"HUBSPOT_CLIENT_SECRETS=" + k.secret, "MAILGUN_SIGNING_KEYS=" + k.secret, "POSTMARK_LOGINS=bench:" + k.secret, "BREVO_LOGINS=bench:" + k.secret,
		"RESEND_SIGNING_SECRETS=whsec_" + base64.StdEncoding.EncodeToString([]byte(k.secret)), "SFMC_SIGNATURE_KEYS=" + k.secret, certificateVariable + "=" + string(k.page),
	}, nil
}

// standIn gives the certificate that the environment carries in place of Amazon.
func standIn(page string) func(context.Context, string) (int, []byte, error) {
	return func(_ context.Context, where string) (int, []byte, error) {
		if where != snsCertificate {
			return http.StatusNotFound, nil, nil
		}
		return http.StatusOK, []byte(page), nil
	}
}

// programs are programs of people.
var programs = []string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
}

// number is the id of a customer.
func number(i int) string { return strconv.Itoa(1_000_000 + i) }

// draw makes an event of just now, of a customer among so many, who have numbers, because HubSpot and Marketing Cloud know them by numbers.
func draw(rng *mathrand.Rand, customers int, now time.Time) *engagement.Event {
	e := &engagement.Event{ID: fmt.Sprintf("%016x", rng.Uint64()), Source: "/bench", Subject: number(rng.IntN(customers)), Time: now.UTC().Add(-time.Duration(1+rng.IntN(120_000)) * time.Millisecond).Truncate(time.Millisecond),
		Kind: engagement.Delivered, Channel: "email", Message: fmt.Sprintf("%08x-7520-42d8-8898-%012x", rng.Uint32(), rng.Uint64()>>16), Campaign: "weekly-edit-48"}
	switch n := rng.IntN(100); {
	case n < 60:
		return e
	case n < 89:
		e.Kind = engagement.Open
	case n < 98:
		e.Kind, e.Link = engagement.Click, "https://shop.example.com/new/this-week?item="+strconv.Itoa(rng.IntN(10_000))+"&utm_source=journal&utm_medium=email"
	default:
		e.Kind = engagement.Bounce
		return e
	}
	e.UserAgent = programs[rng.IntN(len(programs))]
	return e
}
