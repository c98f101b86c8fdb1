package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// readEvents reads CloudEvents over HTTP (CloudEvents 1.0, HTTP protocol binding): one in structured or binary mode, many
// as a JSON array or as lines.
func (s *server) readEvents(r *http.Request, body []byte) (batch, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	var documents [][]byte
	switch binary := r.Header.Get("ce-specversion") != ""; {
	case media == "application/json" && binary:
		document, err := unbind(r.Header, body)
		if err != nil {
			b := batch{}
			b.refuse(0, err)
			return b, invalid(&b)
		}
		documents = [][]byte{document}
	case media == "application/cloudevents+json", media == "application/cloudevents-batch+json", media == "application/json":
		if documents, err = split(body); err != nil {
			return batch{}, &refusal{status: http.StatusBadRequest, detail: "the body is not JSON: " + err.Error()}
		}
	case media == "application/x-ndjson":
		for line := range bytes.Lines(body) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				documents = append(documents, line)
			}
		}
	default:
		return batch{}, &refusal{status: http.StatusUnsupportedMediaType,
			detail: "send application/cloudevents+json, application/cloudevents-batch+json, application/json or application/x-ndjson"}
	}
	var b batch
	for i, document := range documents {
		var e engagement.Event
		if err := e.Parse(document); err != nil {
			b.refuse(i, err)
			continue
		}
		b.take(i, e)
	}
	if len(b.wrong) > 0 {
		return b, invalid(&b)
	}
	return b, nil
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

// attributes are the CloudEvents attributes that an engagement event keeps, in the order in which it is written.
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
