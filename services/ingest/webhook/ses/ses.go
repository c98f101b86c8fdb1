// Package ses takes the events of Amazon SES, which come as notifications of Amazon SNS over HTTPS.
//
// It is the receiving end of an HTTPS subscription to a topic, without AWS's SDK and without AWS credentials. It reads no
// received mail ("Received" notifications are ignored), and takes no raw message delivery, which SNS does not sign.
//
// It follows, as of 2026-11-29:
//
//	https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
//	https://docs.aws.amazon.com/sns/latest/dg/http-header.html
//	https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html
//	https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html
//
// Traps:
//   - The signature is over fields of the JSON document and not over its bytes, so the envelope has to be parsed first. The
//     event in its Message is parsed only after that.
//   - The topic, which is part of what is signed, is all that tells our events from those of any other AWS account: the
//     signature says only that SNS has sent them. Topics are therefore configured one by one, and the hosts that are asked
//     for certificates and confirmations follow from them.
//   - SNS publishes a certificate without those between it and a root. It is trusted for the TLS connection that it came over,
//     for its name and for its dates, as in AWS's own SDK for Java; the chain cannot be checked.
//   - The time in a notification is when it was published. SNS tries again for up to an hour, so it may be that old.
//   - DeliveryDelay is a delay, and ignored: SES tells of a bounce once it tries no more, whatever its type.
//   - Opens and clicks do not say which of several recipients it was: send one message per recipient.
//   - The customer's id is the message tag customer_id, the campaign the message tag campaign. SES reports tags only where
//     events are published through a configuration set; without them the customer is the address.
package ses

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" // signature version 1, which SNS uses unless the topic is set to version 2
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tempismo/tempismo/pkg/outbound"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Headers of SNS.
const (
	typeHeader  = "X-Amz-Sns-Message-Type"
	topicHeader = "X-Amz-Sns-Topic-Arn"
	rawHeader   = "X-Amz-Sns-Rawdelivery"
)

// Types of SNS's messages.
const (
	notification = "Notification"
	confirmation = "SubscriptionConfirmation"
	farewell     = "UnsubscribeConfirmation"
)

// oldest is how long ago a message may have been published: SNS documents 3600 seconds as the hard limit of its retries, and
// its clock may differ from ours by the tolerance.
const oldest = time.Hour + webhook.Tolerance

// Bounds of what is fetched from SNS.
const (
	patience   = 5 * time.Second
	maxFetched = 64 << 10
	maxCerts   = 16 // certificates kept; SNS has one for a region at a time
	maxFetches = 2  // fetches of certificates at once, because requests that nobody has verified cause them
)

// Config is set by operators.
type Config struct {
	Topics []string `name:"topic-arns" env:"TOPIC_ARNS" placeholder:"ARN" help:"ARNs of the Amazon SNS topics to which Amazon SES publishes its events. Subscriptions to them are confirmed, all others are refused. Empty: the webhook is not served."`

	// Get stands in for Amazon, which alone has certificates of SNS: for programs that try the whole way without it. No setting reaches it.
	Get func(ctx context.Context, url string) (status int, body []byte, err error) `kong:"-"`
}

// Enabled reports whether the webhook is to be served.
func (c Config) Enabled() bool { return len(c.topics()) > 0 }

func (c Config) topics() []string {
	var topics []string
	for _, t := range c.Topics {
		if t = strings.TrimSpace(t); t != "" {
			topics = append(topics, t)
		}
	}
	return topics
}

// topic is where messages of a topic may point us to.
type topic struct {
	host  string   // of the certificate and of the confirmation
	names []string // one of which the certificate must have
}

// Source takes SNS's requests.
type Source struct {
	topics map[string]topic
	get    func(ctx context.Context, url string) (status int, body []byte, err error)
	room   chan struct{}

	mu    sync.Mutex
	certs map[string]*x509.Certificate // by URL
}

var (
	_ webhook.Source    = (*Source)(nil)
	_ webhook.Handshake = (*Source)(nil)
)

// New returns the source that c describes.
func New(c Config) (*Source, error) {
	s := &Source{topics: map[string]topic{}, get: c.Get, room: make(chan struct{}, maxFetches), certs: map[string]*x509.Certificate{}}
	if s.get == nil {
		s.get = getter(outbound.Public)
	}
	var problems []error
	for _, arn := range c.topics() {
		t, err := parseTopic(arn)
		if err != nil {
			problems = append(problems, fmt.Errorf("TOPIC_ARNS: %q: %w", arn, err))
			continue
		}
		s.topics[arn] = t
	}
	if len(problems) == 0 && len(s.topics) == 0 {
		problems = append(problems, errors.New("TOPIC_ARNS: is empty: give the ARN of the topic to which SES publishes"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return s, nil
}

var arnForm = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]+)+-[0-9]+):[0-9]{12}:[A-Za-z0-9_-]{1,256}$`)

func parseTopic(arn string) (topic, error) {
	m := arnForm.FindStringSubmatch(arn)
	if m == nil {
		return topic{}, errors.New("is no ARN of a topic: give it as arn:aws:sns:eu-west-1:123456789012:name")
	}
	partition, region := m[1], m[2]
	// The names that AWS's SDK for Java 2 (SnsHostProvider) expects: old regions share one, regions that an account has to
	// opt into have their own, and China and GovCloud follow a form of their own.
	switch partition {
	case "aws-cn":
		return topic{"sns." + region + ".amazonaws.com.cn", []string{"sns-" + region + ".amazonaws.com.cn"}}, nil
	case "aws-us-gov":
		return topic{"sns." + region + ".amazonaws.com", []string{"sns-us-gov-west-1.amazonaws.com"}}, nil
	}
	return topic{"sns." + region + ".amazonaws.com", []string{"sns.amazonaws.com", "sns-signing." + region + ".amazonaws.com"}}, nil
}

// message is SNS's envelope.
type message struct {
	Type             string
	MessageID        string `json:"MessageId"`
	TopicArn         string
	Subject          *string // part of what is signed only where it is there
	Message          string
	Timestamp        string
	Token            string
	SubscribeURL     string
	SignatureVersion string
	Signature        string
	SigningCertURL   string
}

func parse(body []byte) (message, error) {
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("the body is no message of Amazon SNS in JSON: %w", err)
	}
	return m, nil
}

// Early refuses requests without the headers of SNS, those of other topics, and raw message delivery.
func (s *Source) Early(h http.Header) error {
	if strings.EqualFold(h.Get(rawHeader), "true") {
		return webhook.Unverified("raw message delivery is not signed: switch it off in the SNS subscription")
	}
	switch h.Get(typeHeader) {
	case notification, confirmation, farewell:
	default:
		return webhook.Unverified("the header %s must be %s, %s or %s", typeHeader, notification, confirmation, farewell)
	}
	if arn := h.Get(topicHeader); arn != "" {
		if _, ok := s.topics[arn]; !ok {
			return webhook.Unverified("the topic in the header %s is not one of those configured", topicHeader)
		}
	}
	return nil
}

// Verify checks the signature of SNS, and that the message is of a configured topic.
func (s *Source) Verify(ctx context.Context, r *webhook.Request) error {
	m, err := parse(r.Body)
	if err != nil {
		return webhook.Unverified("%v", err)
	}
	return s.verify(ctx, r, &m)
}

func (s *Source) verify(ctx context.Context, r *webhook.Request, m *message) error {
	if err := s.Early(r.Header); err != nil {
		return err
	}
	if m.Type != r.Header.Get(typeHeader) {
		return webhook.Unverified("the header %s and Type differ", typeHeader)
	}
	t, ok := s.topics[m.TopicArn]
	if !ok {
		return webhook.Unverified("TopicArn is not one of the topics configured")
	}
	published, err := webhook.ISO(m.Timestamp)
	if err != nil {
		return webhook.Unverified("Timestamp %v", err)
	}
	if err := webhook.Fresh(published, r.Now, oldest); err != nil {
		return err
	}
	var hash crypto.Hash
	var digest []byte
	switch signed := m.signed(); m.SignatureVersion {
	case "1":
		sum := sha1.Sum(signed)
		hash, digest = crypto.SHA1, sum[:]
	case "2":
		sum := sha256.Sum256(signed)
		hash, digest = crypto.SHA256, sum[:]
	default:
		return webhook.Unverified("SignatureVersion must be 1 or 2")
	}
	signature := webhook.Base64(m.Signature)
	if len(signature) == 0 {
		return webhook.Unverified("Signature must be base64")
	}
	cert, err := s.certificate(ctx, t, m.SigningCertURL)
	if err != nil {
		return err
	}
	if r.Now.Before(cert.NotBefore) || r.Now.After(cert.NotAfter) {
		return webhook.Unverified("the certificate at SigningCertURL is not valid at this time: look at the clocks")
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok {
		return webhook.Unverified("the certificate at SigningCertURL has no RSA key")
	}
	if err := rsa.VerifyPKCS1v15(public, hash, digest, signature); err != nil {
		return webhook.Unverified("the signature does not fit the message")
	}
	return nil
}

// signed is what SNS signs: names and values, each on a line of its own, in the order of the names' bytes.
func (m *message) signed() []byte {
	var b []byte
	put := func(name, value string) { b = append(append(append(append(b, name...), '\n'), value...), '\n') }
	put("Message", m.Message)
	put("MessageId", m.MessageID)
	if m.Type == notification {
		if m.Subject != nil {
			put("Subject", *m.Subject)
		}
		put("Timestamp", m.Timestamp)
	} else {
		put("SubscribeURL", m.SubscribeURL)
		put("Timestamp", m.Timestamp)
		put("Token", m.Token)
	}
	put("TopicArn", m.TopicArn)
	put("Type", m.Type)
	return b
}

// at checks a URL that a message names: it is SNS's own, in the region of the topic.
func (t topic) at(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host != t.host || u.User != nil || u.Opaque != "" || u.Fragment != "" {
		return nil, fmt.Errorf("is not on https://%s", t.host)
	}
	return u, nil
}

// certificate returns the certificate at a URL, which is kept: SNS changes the URL with the certificate.
func (s *Source) certificate(ctx context.Context, t topic, where string) (*x509.Certificate, error) {
	u, err := t.at(where)
	if err != nil || !strings.HasSuffix(u.Path, ".pem") || u.RawQuery != "" {
		return nil, webhook.Unverified("SigningCertURL must be a .pem on https://%s", t.host)
	}
	where = u.String()
	cert := s.kept(where)
	if cert == nil {
		if cert, err = s.fetch(ctx, where); err != nil {
			return nil, err
		}
	}
	for _, name := range t.names {
		if cert.VerifyHostname(name) == nil {
			s.keep(where, cert)
			return cert, nil
		}
	}
	return nil, webhook.Unverified("the certificate at SigningCertURL is not that of SNS: it must be for %s", strings.Join(t.names, " or "))
}

func (s *Source) kept(where string) *x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.certs[where]
}

func (s *Source) keep(where string, cert *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.certs) >= maxCerts && s.certs[where] == nil {
		clear(s.certs) // they are fetched again
	}
	s.certs[where] = cert
}

// fetch fetches a certificate, few at once: when SNS changes its own, many requests want the same one.
func (s *Source) fetch(ctx context.Context, where string) (*x509.Certificate, error) {
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a certificate of SNS: %w", ctx.Err())
	}
	if cert := s.kept(where); cert != nil {
		return cert, nil // which another request has fetched meanwhile
	}
	status, body, err := s.get(ctx, where)
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetch the certificate of SNS: %w", err)
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		return nil, webhook.Unverified("there is no certificate at SigningCertURL")
	case status != http.StatusOK:
		return nil, fmt.Errorf("fetch the certificate of SNS: status %d", status)
	}
	block, _ := pem.Decode(body)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, webhook.Unverified("there is no certificate in PEM at SigningCertURL")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, webhook.Unverified("the certificate at SigningCertURL cannot be read")
	}
	return cert, nil
}

// Shake confirms a subscription to a configured topic, by visiting the URL that SNS has sent. It verifies the message itself, so
// that nobody else can make us visit anything.
func (s *Source) Shake(ctx context.Context, r *webhook.Request) ([]byte, bool, error) {
	if r.Header.Get(typeHeader) != confirmation {
		return nil, false, nil
	}
	m, err := parse(r.Body)
	if err != nil {
		return nil, true, webhook.Unverified("%v", err)
	}
	if err := s.verify(ctx, r, &m); err != nil {
		return nil, true, err
	}
	t := s.topics[m.TopicArn]
	u, err := t.at(m.SubscribeURL)
	if err != nil || u.Query().Get("Action") != "ConfirmSubscription" || u.Query().Get("TopicArn") != m.TopicArn {
		return nil, true, webhook.Unverified("SubscribeURL must confirm a subscription to TopicArn on https://%s", t.host)
	}
	status, _, err := s.get(ctx, u.String())
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return nil, true, fmt.Errorf("confirm the subscription to %s: %w", m.TopicArn, err)
	}
	return nil, true, nil
}

// getter fetches from the hosts that were checked.
func getter(guard outbound.Guard) func(ctx context.Context, url string) (int, []byte, error) {
	client := outbound.New(patience, maxFetches, guard)
	return func(ctx context.Context, url string) (int, []byte, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, nil, err
		}
		response, err := client.Do(request)
		if err != nil {
			return 0, nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, maxFetched))
		return response.StatusCode, body, err
	}
}
