package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
)

// readEvents reads engagement events.
func (s *server) readEvents(r *http.Request, body []byte, traceparent string) (batch, error) {
	var b batch
	documents, err := b.documents(r.Header, body)
	if err != nil {
		return b, err
	}
	for i, document := range documents {
		e := new(engagement.Event)
		if err := e.Parse(document); err != nil {
			b.refuse(i, err)
			continue
		}
		if err := s.add(&b, e, origin{}, traceparent); err != nil {
			b.refuse(i, err)
		}
	}
	return b, nil
}

// origin is what is known of an event beside what it says.
type origin struct {
	machine bool       // its provider's own verdict: a machine did it
	from    netip.Addr // the address where it was caused, if that is known
	told    bool       // by a provider or on a topic of others, which know nothing of our ids; else by a sender who has named it himself
}

// add adds an event to a batch.
func (s *server) add(b *batch, e *engagement.Event, o origin, traceparent string) error {
	if err := s.judge(e, o, traceparent); err != nil {
		return err
	}
	name, at := e.ID, len(b.messages)
	s.put(b, e.Subject, func(a alias) stream.Message {
		if e.Subject = a.id; o.told {
			e.ID = a.event(name)
		}
		return stream.Message{Key: []byte(a.id), Value: e.Append(make([]byte, 0, 1024)), Headers: headers}
	})
	if size := len(b.messages[at].Value); size > engagement.MaxEvent {
		b.drop()
		return &engagement.FieldError{Reason: fmt.Sprintf("has %d bytes, more than the %d allowed", size, engagement.MaxEvent)}
	}
	if observed(e) {
		b.watched = append(b.watched, watched{at, e})
	}
	return nil
}

// judge checks what only a live system can check, and names the actor.
func (s *server) judge(e *engagement.Event, o origin, traceparent string) error {
	if s.ahead(e.Time) {
		return &engagement.FieldError{Field: "time", Reason: errAhead}
	}
	if e.Zone != "" {
		if _, err := calendar.Zone(e.Zone); err != nil {
			return &engagement.FieldError{Field: "data.zone", Reason: "must be an IANA time zone such as Europe/Rome"}
		}
	}
	// A sender that says human may not know the lists of machines; the cautious verdict stands.
	s.machines.Judge(e, o.machine, o.from)
	if !validTrace(e.Trace) {
		e.Trace = traceparent
	}
	return nil
}

// documents takes a request apart into CloudEvents (CloudEvents 1.0, HTTP protocol binding): one in structured or binary
// mode, many as a JSON array or as lines. The error is a *refusal.
func (b *batch) documents(h http.Header, body []byte) ([][]byte, error) {
	media, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	switch binary := h.Get("ce-specversion") != ""; {
	case media == "application/json" && binary:
		document, err := unbind(h, body)
		if err != nil {
			b.refuse(0, err)
			return nil, nil
		}
		return [][]byte{document}, nil
	case media == "application/cloudevents+json", media == "application/cloudevents-batch+json", media == "application/json":
		documents, err := split(body)
		if err != nil {
			return nil, &refusal{status: http.StatusBadRequest, detail: "the body is not JSON: " + err.Error()}
		}
		return documents, nil
	case media == "application/x-ndjson":
		var documents [][]byte
		for line := range bytes.Lines(body) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				documents = append(documents, line)
			}
		}
		return documents, nil
	}
	return nil, &refusal{status: http.StatusUnsupportedMediaType,
		detail: "send application/cloudevents+json, application/cloudevents-batch+json, application/json or application/x-ndjson"}
}

// split returns the elements of a JSON array, or the document itself if it is no array.
func split(body []byte) ([][]byte, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil, fmt.Errorf("it is empty")
	}
	if body[0] != '[' {
		return [][]byte{body}, nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return nil, err
	}
	documents := make([][]byte, len(elements))
	for i, e := range elements {
		documents[i] = e
	}
	return documents, nil
}

// attributes are the CloudEvents attributes that are kept, in the order in which it is written.
var attributes = []string{"specversion", "id", "source", "type", "subject", "time", "traceparent"}

// unbind makes a structured document of a request in binary mode: attributes in ce- headers, the data as the body.
func unbind(h http.Header, body []byte) ([]byte, error) {
	// Else something behind the data could set attributes.
	if !json.Valid(body) {
		return nil, &engagement.FieldError{Field: "data", Reason: "is not a JSON document"}
	}
	document := []byte{'{'}
	for _, name := range attributes {
		value := h.Get("ce-" + name)
		if value == "" {
			continue
		}
		// Header values are percent-encoded (HTTP protocol binding, section 3.1.3.2).
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
		quoted, err := json.Marshal(value)
		if err != nil {
			return nil, &engagement.FieldError{Field: name, Reason: "is not text"}
		}
		document = append(document, fmt.Sprintf("%q:%s,", name, quoted)...)
	}
	document = append(document, `"data":`...)
	document = append(document, body...)
	return append(document, '}'), nil
}
