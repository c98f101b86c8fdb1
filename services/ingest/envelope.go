package ingest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
)

// maxAttribute is how many bytes an id, a source or a customer may have, as in engagement events.
const maxAttribute = 256

// envelope is a CloudEvent as people write them by hand: what is the same for all of an endpoint may be left out.
type envelope struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject"`
	Time        time.Time       `json:"time"`
	Traceparent string          `json:"traceparent"`
	Data        json.RawMessage `json:"data"`
}

// parse reads a CloudEvent of one type. Only the subject and the data must be there: without a source it is this
// endpoint's, without a time it is of now. The subject is the sender's id of the customer.
func (s *server) parse(document []byte, typ, source, traceparent string) (stream.Event, error) {
	var e envelope
	if err := json.Unmarshal(document, &e); err != nil {
		return stream.Event{}, jsonError("", err)
	}
	if e.Source == "" {
		e.Source = source
	}
	switch {
	case e.SpecVersion != "" && e.SpecVersion != "1.0":
		return stream.Event{}, &engagement.FieldError{Field: "specversion", Reason: "must be 1.0"}
	case e.Type != "" && e.Type != typ:
		return stream.Event{}, &engagement.FieldError{Field: "type", Reason: "must be " + typ}
	case e.Subject == "":
		return stream.Event{}, &engagement.FieldError{Field: "subject", Reason: "is required: the customer's id"}
	case s.ahead(e.Time):
		return stream.Event{}, &engagement.FieldError{Field: "time", Reason: errAhead}
	case len(e.Data) == 0:
		return stream.Event{}, &engagement.FieldError{Field: "data", Reason: "is required"}
	}
	for _, a := range [...]struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"subject", e.Subject}} {
		if len(a.value) > maxAttribute || strings.ContainsFunc(a.value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return stream.Event{}, &engagement.FieldError{Field: a.name, Reason: fmt.Sprintf("must be at most %d bytes without control characters", maxAttribute)}
		}
	}
	if e.Time.IsZero() {
		e.Time = s.now()
	}
	if !validTrace(e.Traceparent) {
		e.Traceparent = traceparent
	}
	var data bytes.Buffer
	if err := json.Compact(&data, e.Data); err != nil {
		return stream.Event{}, &engagement.FieldError{Field: "data", Reason: err.Error()}
	}
	return stream.Event{ID: e.ID, Source: e.Source, Type: typ, Subject: e.Subject, Time: e.Time.UTC(), Traceparent: e.Traceparent, Data: data.Bytes()}, nil
}

// jsonError names the field at which reading the JSON of what stands at path came to its end.
func jsonError(path string, err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return &engagement.FieldError{Field: strings.Trim(path+"."+typ.Field, "."), Reason: "has another type than " + typ.Type.String() + ": " + typ.Value}
	}
	return &engagement.FieldError{Field: path, Reason: "is not what it must be: " + err.Error()}
}

// hash names something by its parts: the same parts, the same name.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// readRequests reads messages that are to wait for their moment. A request that has no id gets one: of the Idempotency-Key
// and its place in the body or, without such a key, of what it says, so that one that is sent again is the same request.
func (s *server) readRequests(r *http.Request, body []byte, traceparent string) (batch, error) {
	b := batch{ids: []string{}}
	documents, err := b.documents(r.Header, body)
	if err != nil {
		return b, err
	}
	for i, document := range documents {
		e, unnamed, err := s.request(r.Header.Get("Idempotency-Key"), i, document, traceparent)
		b.ids = append(b.ids, e.ID)
		if err != nil {
			b.refuse(i, err)
			continue
		}
		s.put(&b, e.Subject, func(a alias) stream.Message {
			if e.Subject = a.id; unnamed {
				e.ID = "r-" + hash(a.id, string(e.Data))
			}
			b.ids[i] = e.ID
			return stream.Message{Key: []byte(a.id), Value: e.Append(nil), Headers: headers}
		})
	}
	return b, nil
}

// request reads request i of a call that has the given key, if any. unnamed: it gets its id of what it says.
func (s *server) request(key string, i int, document []byte, traceparent string) (e stream.Event, unnamed bool, err error) {
	if e, err = s.parse(document, decision.RequestType, "/ingest/requests", traceparent); err != nil {
		return e, false, err
	}
	given := e.ID != ""
	switch {
	case given:
	case key != "":
		e.ID = "r-" + hash(key, strconv.Itoa(i))
	default:
		unnamed = true
		e.ID = "r-" // what follows depends on the key under which the customer is known
	}
	var r decision.Request
	if err := r.Parse(e.ID, e.Data); err != nil {
		return e, unnamed, err
	}
	if !given && r.Action != decision.Place {
		return e, unnamed, &engagement.FieldError{Field: "id", Reason: "is required: which request is it that is to be changed?"}
	}
	return e, unnamed, nil
}

// readCustomers reads what is known of customers. Where the data is null nothing is known any more: the record that says so
// is a tombstone.
func (s *server) readCustomers(r *http.Request, body []byte, traceparent string) (batch, error) {
	var b batch
	documents, err := b.documents(r.Header, body)
	if err != nil {
		return b, err
	}
	for i, document := range documents {
		e, err := s.parse(document, customer.Type, "/ingest/customers", traceparent)
		nothing := string(e.Data) == "null"
		if err == nil && !nothing {
			err = new(customer.Attributes).Parse(e.Data)
		}
		if err != nil {
			b.refuse(i, err)
			continue
		}
		unnamed := e.ID == ""
		s.put(&b, e.Subject, func(a alias) stream.Message {
			if nothing {
				return stream.Message{Key: []byte(a.id), Headers: headers}
			}
			if e.Subject = a.id; unnamed {
				e.ID = "c-" + hash(a.id, e.Time.Format(time.RFC3339Nano), string(e.Data))
			}
			return stream.Message{Key: []byte(a.id), Value: e.Append(nil), Headers: headers}
		})
	}
	return b, nil
}
