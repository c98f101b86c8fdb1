// Package foreign is how events on topics of others become engagement events: the file in which operators declare such topics
// (SOURCES of ingest), and the mapping of one record.
//
// It consumes nothing and writes nowhere: package ingest does, which also judges who caused an event and knows the time. It asks
// no schema registry: a JSON document behind the framing of one is read, Avro and Protobuf are refused. It never refuses a record
// for fields that the file does not name, nor for kinds of events that it does not name: those are no engagement that anybody has
// declared.
//
// Facts: the Kafka protocol binding of CloudEvents 1.0, sections 3 to 3.3, for the two content modes; RFC 6901 for JSON Pointers;
// the wire format of Confluent's serializers, a zero byte and the schema's id in four bytes, for the framing.
package foreign

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/ingest/webhook"
)

// Source is one topic of others, and how its records are read. Only Read makes one.
type Source struct {
	Name  string // begins the ids of its events, and names its consumer group and its dead letters
	Topic string // on the wire, whatever the run

	cloudEvents bool
	mapped      bool // else a CloudEvent of our own type is the only thing that is read
	kind        value
	kinds       map[string]engagement.Kind // by the source's word; the zero Kind is ignored
	customer    value
	address     value
	at          moment
	message     value
	campaign    value
	link        value
	agent       value
	ip          value
	channel     value
	zone        value
	id          value
	machine     value
	names       map[string]string // of fields in the record, by our own
}

// Mapped is what a record says.
type Mapped struct {
	webhook.Element
	Unknown bool // what is Ignored is a kind that the file does not name
	Own     bool // it came as an event of ours, with its id
}

// Map reads one record. It keeps nothing of it but views, in Raw and in the strings of an event of our own type.
func (s *Source) Map(r *stream.Record) Mapped {
	m := s.mapRecord(r)
	m.Raw = r.Value
	return m
}

func (s *Source) mapRecord(r *stream.Record) Mapped {
	d, err := s.document(r)
	switch {
	case err != nil:
		return Mapped{Element: webhook.Element{Err: err}}
	case d == nil:
		return Mapped{Element: webhook.Element{Ignored: "a record without a value"}}
	}
	typ, _ := d.fields["type"].(string)
	switch {
	case s.cloudEvents && typ == engagement.Type:
		return Mapped{Element: d.own(), Own: true}
	case !s.mapped:
		return Mapped{Element: webhook.Element{Ignored: typ}, Unknown: true}
	}
	word, err := word(s.kind.in(d.fields), s.kind.path)
	if err != nil {
		return Mapped{Element: webhook.Element{Err: err}}
	}
	kind, ok := s.kinds[word]
	if !ok || kind == 0 {
		return Mapped{Element: webhook.Element{Ignored: word}, Unknown: !ok}
	}
	return Mapped{Element: s.event(d.fields, word, kind)}
}

// event maps the fields of a record of a kind that is engagement.
func (s *Source) event(fields map[string]any, word string, kind engagement.Kind) webhook.Element {
	subject, err := s.subject(fields)
	if err != nil {
		return webhook.Element{Err: err}
	}
	at, err := s.at.in(fields)
	if err != nil {
		return webhook.Element{Err: err}
	}
	machine, err := flag(s.machine.in(fields), s.machine.path)
	if err != nil {
		return webhook.Element{Err: err}
	}
	e := &engagement.Event{
		Source: "/ingest/" + s.Name, Subject: subject, Time: at, Kind: kind, Channel: strings.ToLower(text(s.channel.in(fields))),
		Message: text(s.message.in(fields)), Campaign: text(s.campaign.in(fields)), Link: text(s.link.in(fields)),
		UserAgent: text(s.agent.in(fields)), Zone: text(s.zone.in(fields)),
	}
	id := text(s.id.in(fields))
	if id == "" {
		id = webhook.ID(s.Name, cmp.Or(e.Message, e.Campaign), subject, e.Channel+" "+word, at, e.Link)
	}
	e.ID = s.Name + "-" + id // ids are unique within the source, and ours within all
	if err := e.Validate(); err != nil {
		return webhook.Element{Err: s.Renamed(err)}
	}
	address, _ := netip.ParseAddr(text(s.ip.in(fields))) // what is none tells nothing
	return webhook.Element{Event: e, Machine: machine, Address: address}
}

// Renamed gives an error about one of our fields the place in the record where it comes from, which is what the sender can look at.
func (s *Source) Renamed(err error) error { return webhook.Renamed(err, s.names) }

// subject is the id of the customer, else the address in lower case.
func (s *Source) subject(fields map[string]any) (string, error) {
	if v := s.customer.in(fields); v != nil && v != "" {
		return word(v, s.customer.path)
	}
	if s.address.path == "" {
		return "", webhook.Wrong(s.customer.path, "is required")
	}
	address := webhook.Address(text(s.address.in(fields)))
	switch {
	case address != "":
		return address, nil
	case s.customer.path != "":
		return "", webhook.Wrong(s.address.path, "is required where there is no %s", s.customer.path)
	}
	return "", webhook.Wrong(s.address.path, "is required")
}

// value is where something stands in a record or, without a path, what it always is.
type value struct {
	path  string // RFC 6901, not empty
	steps []string
	is    string
}

// in looks the value up; nil where there is none.
func (v value) in(fields map[string]any) any {
	if v.path == "" {
		return v.is
	}
	var at any = fields
	for _, step := range v.steps {
		switch x := at.(type) {
		case map[string]any:
			at = x[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(x) || strconv.Itoa(i) != step {
				return nil
			}
			at = x[i]
		default:
			return nil
		}
	}
	return at
}

// text is a string, or a number as it is written, as ids are; anything else counts as absent.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// word is the text of a field that must be there.
func word(v any, field string) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", webhook.Wrong(field, "is required")
	case string:
		if v == "" {
			return "", webhook.Wrong(field, "is empty")
		}
		return v, nil
	case json.Number:
		return v.String(), nil
	}
	return "", webhook.Wrong(field, "must be a string or a number")
}

// flag reads whether a machine did it. What is neither yes nor no is an error: a guess would be a person's attention.
func flag(v any, field string) (bool, error) {
	switch v := v.(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	}
	switch text(v) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	case "":
		if v == "" {
			return false, nil
		}
	}
	return false, webhook.Wrong(field, "must be true or false, 1 or 0")
}

// moment is where the time stands, and how it is written.
type moment struct {
	value
	format string         // RFC3339, Unix, UnixMillis, or a layout of package time
	zone   *time.Location // of a layout that names none
}

// Formats of times that have a name.
const (
	RFC3339    = "rfc3339" // with any number of decimals
	Unix       = "unix"    // seconds, whole or with a fraction
	UnixMillis = "unix_ms"
)

func (m *moment) in(fields map[string]any) (time.Time, error) {
	s, err := word(m.value.in(fields), m.path)
	if err != nil {
		return time.Time{}, err
	}
	var at time.Time
	switch m.format {
	case RFC3339:
		at, err = webhook.ISO(s)
	case Unix:
		at, err = webhook.Seconds(json.RawMessage(s))
	case UnixMillis:
		at, err = webhook.Millis(json.RawMessage(s))
	default:
		at, err = m.layout(s)
	}
	if err != nil {
		return time.Time{}, webhook.Wrong(m.path, "%v", err)
	}
	return at, nil
}

func (m *moment) layout(s string) (time.Time, error) {
	at, err := time.Parse(m.format, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("must be a time written as %s", m.format)
	}
	if m.zone != nil {
		return calendar.Shown(at, m.zone), nil
	}
	return at.UTC(), nil
}

// document is a record as a JSON object: of a CloudEvent, the event in structured mode whatever the mode was.
type document struct {
	fields map[string]any
	raw    []byte // in structured mode the object as it came; else nil
}

// own reads a CloudEvent of our own type.
func (d *document) own() webhook.Element {
	raw := d.raw
	if raw == nil {
		var err error
		if raw, err = json.Marshal(d.fields); err != nil {
			return webhook.Failed("", "%v", err)
		}
	}
	e := new(engagement.Event)
	if err := e.Parse(raw); err != nil {
		return webhook.Element{Err: err}
	}
	return webhook.Element{Event: e}
}

// Names of headers, see sections 3.2.1 and 3.2.3 of the binding. CloudEvents are told by them and by their media types.
const (
	contentType = "content-type"
	prefix      = "ce_"
	mediaType   = "application/cloudevents"
)

// document decodes the record; nil without an error where it has no value, which deletes something and tells nothing.
func (s *Source) document(r *stream.Record) (*document, error) {
	attributes, media := map[string]any{}, ""
	if s.cloudEvents {
		attributes, media = headers(r)
	}
	// Without a media type of CloudEvents the mode is binary; but a producer of the structured one need not name it (section 3.3.1).
	structured := strings.HasPrefix(media, mediaType)
	if len(attributes) > 0 && !structured {
		return binaryMode(r, attributes, media)
	}
	if len(r.Value) == 0 {
		return nil, nil
	}
	if structured && media != mediaType && media != mediaType+"+json" {
		return nil, webhook.Wrong("", "is %s: of CloudEvents one in JSON is read", media)
	}
	b, err := unframe(r.Value)
	if err != nil {
		return nil, err
	}
	fields, err := decode(b)
	if err != nil {
		return nil, err
	}
	if fields, ok := fields.(map[string]any); ok {
		if s.cloudEvents {
			return &document{fields, b}, cloudEvent(fields)
		}
		return &document{fields, b}, nil
	}
	return nil, webhook.Wrong("", "must be a JSON object")
}

// headers are the attributes of a CloudEvent in a record's headers, by name, and the media type of the value, without parameters.
func headers(r *stream.Record) (attributes map[string]any, media string) {
	attributes = map[string]any{}
	for _, h := range r.Headers {
		name, ok := strings.CutPrefix(h.Key, prefix)
		switch {
		case ok && name != "" && name != "data":
			attributes[name] = string(h.Value)
		case strings.EqualFold(h.Key, contentType):
			media = string(h.Value)
		}
	}
	if plain, _, err := mime.ParseMediaType(media); err == nil {
		media = plain
	}
	return attributes, strings.ToLower(media)
}

// binaryMode makes the event of headers and value what it would be in structured mode.
func binaryMode(r *stream.Record, event map[string]any, media string) (*document, error) {
	if err := cloudEvent(event); err != nil {
		return nil, err
	}
	for name, v := range event {
		if !utf8.ValidString(v.(string)) {
			return nil, webhook.Wrong("/"+name, "is not valid UTF-8")
		}
	}
	if media != "" {
		event["datacontenttype"] = media
	}
	if len(r.Value) == 0 {
		return &document{fields: event}, nil
	}
	if media != "" && media != "application/json" && media != "text/json" && !strings.HasSuffix(media, "+json") {
		return nil, webhook.Wrong("/data", "is %s: of data JSON is read", media)
	}
	b, err := unframe(r.Value)
	if err != nil {
		return nil, err
	}
	if event["data"], err = decode(b); err != nil {
		return nil, err
	}
	return &document{fields: event}, nil
}

// cloudEvent refuses what is no CloudEvent of version 1.0.
func cloudEvent(event map[string]any) error {
	if v := text(event["specversion"]); v != "1.0" {
		return webhook.Wrong("/specversion", "must be 1.0, not %.32q: is it a CloudEvent?", v)
	}
	if typ, _ := event["type"].(string); typ == "" {
		return webhook.Wrong("/type", "is required")
	}
	return nil
}

// frame is how long the framing of a schema registry is.
const frame = 5

// unframe takes off what the serializers of a schema registry put before a JSON document, which itself never begins with a zero byte.
func unframe(b []byte) ([]byte, error) {
	if b[0] != 0 {
		return b, nil
	}
	if len(b) <= frame || !json.Valid(b[frame:]) {
		id := ""
		if len(b) >= frame {
			id = fmt.Sprintf(" (schema %d)", binary.BigEndian.Uint32(b[1:frame]))
		}
		return nil, webhook.Wrong("", "is framed by a schema registry%s, and what follows is not JSON: Avro and Protobuf are not read, have it written with a JSON serializer or converted", id)
	}
	return b[frame:], nil
}

// decode reads one JSON document. Numbers stay as they are written.
func decode(b []byte) (v any, err error) {
	if !utf8.Valid(b) {
		return nil, webhook.Wrong("", "is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, webhook.Wrong("", "is not a JSON document: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, webhook.Wrong("", "holds more than one JSON document")
	}
	return v, nil
}
