package ingest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// Headers of SendGrid's signed event webhook.
const (
	signatureHeader = "X-Twilio-Email-Event-Webhook-Signature"
	timestampHeader = "X-Twilio-Email-Event-Webhook-Timestamp"
)

// tolerance is how far the time of a signature may be from ours before the request counts as replayed. SendGrid documents
// none; this is the usual one of webhooks.
const tolerance = 300 * time.Second

// publicKeys reads keys as SendGrid shows them: base64 of a DER SubjectPublicKeyInfo, on P-256.
func publicKeys(texts []string) ([]*ecdsa.PublicKey, error) {
	var keys []*ecdsa.PublicKey
	var problems []error
	for i, text := range texts {
		der, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			problems = append(problems, fmt.Errorf("key %d is not base64: %w", i+1, err))
			continue
		}
		key, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			problems = append(problems, fmt.Errorf("key %d is not a public key: %w", i+1, err))
			continue
		}
		public, ok := key.(*ecdsa.PublicKey)
		if !ok || public.Curve != elliptic.P256() {
			problems = append(problems, fmt.Errorf("key %d is not an ECDSA key on P-256", i+1))
			continue
		}
		keys = append(keys, public)
	}
	return keys, errors.Join(problems...)
}

func unauthorized(detail string) error {
	return &refusal{status: http.StatusUnauthorized, detail: detail}
}

// signed asks for the headers of a signature, so that a body without one is not even read.
func signed(h http.Header) error {
	if h.Get(timestampHeader) == "" || h.Get(signatureHeader) == "" {
		return unauthorized("the headers " + signatureHeader + " and " + timestampHeader + " must carry a signature")
	}
	return nil
}

// verify checks an ECDSA signature over the timestamp and the raw body: SendGrid's body has line ends of its own, so it
// must not have been decoded in between. Any of the keys will do, so that they can be exchanged without a gap.
func (s *server) verify(h http.Header, body []byte) error {
	timestamp := h.Get(timestampHeader)
	signature, err := base64.StdEncoding.DecodeString(h.Get(signatureHeader))
	if err != nil {
		return unauthorized("the header " + signatureHeader + " must be base64")
	}
	hash := sha256.New()
	hash.Write([]byte(timestamp))
	hash.Write(body)
	digest := hash.Sum(nil)
	fits := false
	for _, key := range s.keys {
		fits = fits || ecdsa.VerifyASN1(key, digest, signature)
	}
	if !fits {
		return unauthorized("the signature does not fit the body")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return unauthorized("the header " + timestampHeader + " must be a Unix time in seconds")
	}
	if age := s.now().Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return unauthorized(fmt.Sprintf("the signature was not made within %v of the time here", tolerance))
	}
	return nil
}

// readSendGrid reads an event webhook of SendGrid: a JSON array of events.
func (s *server) readSendGrid(r *http.Request, body []byte, traceparent string) (batch, error) {
	if err := s.verify(r.Header, body); err != nil {
		return batch{}, err
	}
	// Custom arguments are members beside SendGrid's own, with names and types of the sender's choice. A map keeps
	// "Email" apart from "email", which decoding into a struct would not.
	var elements []map[string]json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return batch{}, &refusal{status: http.StatusBadRequest, detail: "the body is not a JSON array of objects: " + err.Error()}
	}
	b := batch{rename: sendGridField}
	for i, members := range elements {
		e, ok, err := fromSendGrid(members)
		switch {
		case err != nil:
			b.refuse(i, err)
		case !ok:
			b.ignored++
		default:
			m, err := s.event(&e, traceparent)
			b.take(i, m, err)
		}
	}
	return b, nil
}

// sendGridKinds maps the types of SendGrid's events; what is not in it is no engagement (deferred, group_resubscribe, and
// whatever SendGrid adds) and is acknowledged, or SendGrid would send the whole batch again for a day.
var sendGridKinds = map[string]engagement.Kind{
	"processed": engagement.Sent, "delivered": engagement.Delivered, "open": engagement.Open, "click": engagement.Click,
	"bounce": engagement.Bounce, "dropped": engagement.Bounce, "spamreport": engagement.Complaint,
	"unsubscribe": engagement.Unsubscribe, "group_unsubscribe": engagement.Unsubscribe,
}

// fromSendGrid maps one event; false if it is no engagement. The customer is the custom argument customer_id or, without
// it, the address in lower case. Errors name SendGrid's fields or, from Validate, ours.
func fromSendGrid(m map[string]json.RawMessage) (engagement.Event, bool, error) {
	var e engagement.Event
	name, err := text(m, "event")
	if err != nil {
		return e, false, err
	}
	if name == "" {
		return e, false, &engagement.FieldError{Field: "event", Reason: "is required"}
	}
	kind, ok := sendGridKinds[name]
	if !ok {
		return e, false, nil
	}
	seconds, err := strconv.ParseInt(string(m["timestamp"]), 10, 64)
	if err != nil {
		return e, false, &engagement.FieldError{Field: "timestamp", Reason: "must be a Unix time in whole seconds"}
	}
	e = engagement.Event{Source: "/ingest/sendgrid", Time: time.Unix(seconds, 0).UTC(), Kind: kind, Channel: "email", Provider: "sendgrid"}
	var id, email, category string
	for _, f := range []struct {
		name     string
		into     *string
		required bool
	}{
		{"sg_event_id", &id, true}, {"email", &email, false}, {"customer_id", &e.Subject, false}, {"sg_message_id", &e.Message, false},
		{"useragent", &e.UserAgent, false}, {"url", &e.Link, false}, {"zone", &e.Zone, false},
		{"category", &category, false}, {"singlesend_id", &e.Campaign, false}, {"campaign", &e.Campaign, false},
	} {
		value, err := text(m, f.name)
		if err != nil {
			return e, false, err
		}
		if value == "" && f.required {
			return e, false, &engagement.FieldError{Field: f.name, Reason: "is required"}
		}
		if value != "" {
			*f.into = value
		}
	}
	e.ID = "sg-" + id
	if e.Subject == "" {
		if email == "" {
			return e, false, &engagement.FieldError{Field: "email", Reason: "is required where there is no customer_id"}
		}
		e.Subject = strings.ToLower(strings.TrimSpace(email))
	}
	if e.Campaign == "" {
		e.Campaign = category
	}
	flagged := bytes.Equal(m["sg_machine_open"], []byte("true"))
	e.Actor, e.ActorRule = engagement.Classify(kind, flagged, e.UserAgent)
	if err := e.Validate(); err != nil {
		return e, false, err
	}
	return e, true, nil
}

// text returns a member that is a string, a number or, for categories, the first of several strings; empty if there is none.
func text(m map[string]json.RawMessage, name string) (string, error) {
	raw := m[name]
	if len(raw) == 0 {
		return "", nil
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		return s, json.Unmarshal(raw, &s)
	case c == '-' || c >= '0' && c <= '9':
		return string(raw), nil
	case c == 'n':
		return "", nil
	case c == '[':
		var list []string
		if err := json.Unmarshal(raw, &list); err == nil {
			if len(list) == 0 {
				return "", nil
			}
			return list[0], nil
		}
	}
	return "", &engagement.FieldError{Field: name, Reason: "must be a string"}
}

// sendGridField is SendGrid's name of a field of ours, which is what the sender can look at.
func sendGridField(field string) string {
	switch field {
	case "id":
		return "sg_event_id"
	case "subject":
		return "customer_id or email"
	case "time":
		return "timestamp"
	case "data.message":
		return "sg_message_id"
	case "data.user_agent":
		return "useragent"
	case "data.link":
		return "url"
	case "data.zone":
		return "zone"
	case "data.campaign":
		return "campaign or category"
	}
	return field
}
