package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is a CloudEvents 1.0 envelope in structured JSON mode: what every Step's output looks like on the wire.
// Extension attributes other than sequence and traceparent are not kept.
type Event struct {
	ID          string
	Source      string
	Type        string
	Subject     string // the key; empty for records that concern a partition
	Time        time.Time
	Sequence    string // source position (offset.index); empty if the producer is no Step
	Traceparent string // W3C trace context
	Data        json.RawMessage
}

// ParseEvent reads an envelope. Strings are copies, Data is a view into b. It fails for what is no CloudEvent of version
// 1.0 with an id, a source and a type.
func ParseEvent(b []byte) (Event, error) {
	e, ok := parseOwn(b)
	if !ok {
		var err error
		if e, err = parseAny(b); err != nil {
			return Event{}, err
		}
	}
	switch {
	case e.ID == "":
		return Event{}, errors.New("cloudevent: id is missing")
	case e.Source == "":
		return Event{}, errors.New("cloudevent: source is missing")
	case e.Type == "":
		return Event{}, errors.New("cloudevent: type is missing")
	}
	return e, nil
}

// parseOwn reads the layout that Event.Append and Emit write, with one allocation. Anything else is left to parseAny.
func parseOwn(b []byte) (e Event, ok bool) {
	i := bytes.Index(b, []byte(`,"data":`))
	if i < 0 || b[len(b)-1] != '}' {
		return e, false
	}
	data := b[i+len(`,"data":`) : len(b)-1]
	for _, c := range b[:i] {
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			return e, false
		}
	}
	head, ok := strings.CutPrefix(string(b[:i]), `{"specversion":"1.0"`)
	if !ok {
		return e, false
	}
	var at, kind string
	for _, f := range [...]struct {
		prefix   string
		to       *string
		optional bool
	}{
		{`,"id":"`, &e.ID, false},
		{`,"source":"`, &e.Source, false},
		{`,"type":"`, &e.Type, false},
		{`,"subject":"`, &e.Subject, true},
		{`,"time":"`, &at, false},
		{`,"datacontenttype":"`, &kind, false},
		{`,"sequence":"`, &e.Sequence, true},
		{`,"traceparent":"`, &e.Traceparent, true},
	} {
		rest, ok := strings.CutPrefix(head, f.prefix)
		if !ok {
			if f.optional {
				continue
			}
			return e, false
		}
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			return e, false
		}
		*f.to, head = rest[:end], rest[end+1:]
	}
	t, err := time.Parse(time.RFC3339Nano, at)
	if head != "" || err != nil || !json.Valid(data) {
		return e, false
	}
	e.Time, e.Data = t.UTC(), data
	return e, true
}

func parseAny(b []byte) (Event, error) {
	var j struct {
		Specversion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Subject     string          `json:"subject"`
		Time        *time.Time      `json:"time"`
		Sequence    string          `json:"sequence"`
		Traceparent string          `json:"traceparent"`
		Data        json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return Event{}, fmt.Errorf("cloudevent: %w", err)
	}
	if j.Specversion != "1.0" {
		return Event{}, fmt.Errorf("cloudevent: specversion is %q, not 1.0", j.Specversion)
	}
	e := Event{ID: j.ID, Source: j.Source, Type: j.Type, Subject: j.Subject, Sequence: j.Sequence, Traceparent: j.Traceparent, Data: j.Data}
	if j.Time != nil {
		e.Time = j.Time.UTC()
	}
	return e, nil
}

// Append appends the envelope in the order in which Emit writes it; optional attributes that are empty are left out.
func (e *Event) Append(dst []byte) []byte {
	dst = append(dst, `{"specversion":"1.0","id":`...)
	dst = appendString(dst, e.ID)
	dst = append(dst, `,"source":`...)
	dst = appendString(dst, e.Source)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, e.Type)
	if e.Subject != "" {
		dst = append(dst, `,"subject":`...)
		dst = appendString(dst, e.Subject)
	}
	if !e.Time.IsZero() {
		dst = append(dst, `,"time":"`...)
		dst = e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"datacontenttype":"application/json"`...)
	if e.Sequence != "" {
		dst = append(dst, `,"sequence":`...)
		dst = appendString(dst, e.Sequence)
	}
	if e.Traceparent != "" {
		dst = append(dst, `,"traceparent":`...)
		dst = appendString(dst, e.Traceparent)
	}
	if len(e.Data) > 0 {
		dst = append(dst, `,"data":`...)
		dst = append(dst, e.Data...)
	}
	return append(dst, '}')
}

// appendString appends s as a JSON string (RFC 8259, section 7); bytes that are no UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n != 1 {
				i += n
				continue
			}
			dst = append(append(dst, s[start:i]...), "\ufffd"...)
		} else {
			dst = append(dst, s[start:i]...)
			if c == '"' || c == '\\' {
				dst = append(dst, '\\', c)
			} else {
				const hex = "0123456789abcdef"
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// A source position as text: offset with 20 digits, a dot, the index with at least three. It is the `sequence` of an
// output, and sorts as text in the order of emission.
const sequenceDigits = 20

func appendSequence(dst []byte, offset int64, index int) []byte {
	dst = appendPadded(dst, uint64(offset), sequenceDigits)
	dst = append(dst, '.')
	return appendPadded(dst, uint64(index), 3)
}

func appendPadded(dst []byte, v uint64, digits int) []byte {
	var b [20]byte
	s := strconv.AppendUint(b[:0], v, 10)
	for n := len(s); n < digits; n++ {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

// isSequence reports whether b has the form that appendSequence gives.
func isSequence(b []byte) bool {
	if len(b) < sequenceDigits+4 || len(b) > sequenceDigits+20 || b[sequenceDigits] != '.' {
		return false
	}
	for i, c := range b {
		if i != sequenceDigits && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// later reports whether sequence a comes after b, which is empty if nothing was seen. An index of four digits comes after
// one of three.
func later(a, b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if d := bytes.Compare(a[:sequenceDigits], b[:sequenceDigits]); d != 0 {
		return d > 0
	}
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return bytes.Compare(a, b) > 0
}
