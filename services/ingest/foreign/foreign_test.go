package foreign

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/services/ingest/webhook"
	"github.com/tempismo/tempismo/services/ingest/webhook/webhooktest"
)

// one reads a file with one source, of which the lines are given.
func one(t testing.TB, lines ...string) *Source {
	t.Helper()
	all, err := Read("sources.yaml", []byte("sources:\n  - "+strings.Join(lines, "\n    ")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

func shop(t testing.TB) *Source {
	return one(t, "name: shop", "topic: shop.mail", "kind: {field: /event, values: {opened: open, clicked: click, 7: bounce, deferred: ignore}}",
		"customer: /customer/id", "address: /to/0", "time: {field: /at}", "message: /mail~1id", "campaign: /campaign", "link: /url", "user_agent: /agent", "ip: /ip", "channel: /channel",
		"zone: /zone", "id: /id", "machine: /bot")
}

// said writes down what a source makes of a record.
func said(s *Source, r *stream.Record) string {
	m := s.Map(r)
	text := strings.TrimSpace(webhooktest.Show([]webhook.Element{m.Element}, nil))
	if m.Unknown {
		text += " (unknown)"
	}
	return text
}

// event is how an event of the shop is written, with changes: pairs of what is to be replaced and by what.
func event(changes ...string) string {
	return strings.NewReplacer(changes...).Replace(`{"specversion":"1.0","id":"shop-e-1","source":"/ingest/shop","type":"io.tempismo.engagement.v1","subject":"C-1","time":"2026-12-03T09:41:52Z","datacontenttype":"application/json","data":{"kind":"open","channel":"email","message":"","campaign":"","actor":"human","actor_rule":"","link":"","user_agent":"","provider":""}}`)
}

func TestMap(t *testing.T) {
	s := shop(t)
	const usual = `"id":"e-1","event":"opened","at":"2026-12-03T09:41:52Z","customer":{"id":"C-1"},"channel":"email"`
	for _, tt := range []struct{ sentence, record, want string }{
		{"what the file names, and nothing else", `{` + usual + `,"more":{"at":[1]},"unheard":null}`, event()},
		{"all that there is", `{` + usual + `,"mail/id":"m-1","campaign":"weekly","url":"https://example.com/?a=1","agent":"Mozilla/5.0 (X11)","ip":"192.0.2.7","zone":"Europe/Rome","bot":true}`,
			event(`"message":"","campaign":""`, `"message":"m-1","campaign":"weekly"`, `"link":"","user_agent":"","provider":""`, `"link":"https://example.com/?a=1","user_agent":"Mozilla/5.0 (X11)","provider":"","zone":"Europe/Rome"`) + " machine from 192.0.2.7"},
		{"a channel in capitals", strings.Replace(`{`+usual+`}`, `"channel":"email"`, `"channel":"SMS"`, 1), event(`"channel":"email"`, `"channel":"sms"`)},
		{"ids that are numbers, as they are written", strings.NewReplacer(`"C-1"`, `9007199254740993`, `"e-1"`, `17`).Replace(`{` + usual + `}`), event(`C-1`, `9007199254740993`, `e-1`, `17`)},
		{"a kind that is a number", strings.Replace(`{`+usual+`}`, `"opened"`, `7`, 1), event(`"open"`, `"bounce"`)},
		{"the address, in lower case, where there is no id", strings.Replace(`{`+usual+`}`, `{"id":"C-1"}`, `{},"to":[" Anna@Example.com "]`, 1), event(`C-1`, `anna@example.com`)},
		{"the address where the id is null", strings.Replace(`{`+usual+`}`, `{"id":"C-1"}`, `{"id":null},"to":["a@b.it"]`, 1), event(`C-1`, `a@b.it`)},
		{"an id that is an object is no reason to take the address", strings.Replace(`{`+usual+`}`, `{"id":"C-1"}`, `{"id":{}},"to":["a@b.it"]`, 1), "error: engagement event: /customer/id: must be a string or a number"},
		{"neither id nor address", strings.Replace(`{`+usual+`}`, `{"id":"C-1"}`, `{},"to":[]`, 1), "error: engagement event: /to/0: is required where there is no /customer/id"},
		{"without an id of the event its own hash", strings.Replace(`{`+usual+`}`, `"id":"e-1",`, ``, 1), event(`e-1`, webhook.ID("shop", "", "C-1", "email opened", time.Date(2026, 12, 3, 9, 41, 52, 0, time.UTC), ""))},
		{"a machine by the number", `{` + usual + `,"bot":1}`, event() + " machine"},
		{"no machine by the text", `{` + usual + `,"bot":"false"}`, event()},
		{"no machine by the empty text", `{` + usual + `,"bot":""}`, event()},
		{"whether a machine is not guessed", `{` + usual + `,"bot":"perhaps"}`, "error: engagement event: /bot: must be true or false, 1 or 0"},
		{"an address that is none tells nothing", `{` + usual + `,"ip":"somewhere"}`, event()},
		{"optional fields of another form count as absent", `{` + usual + `,"campaign":{},"url":[],"agent":true}`, event()},
		{"a kind that is no engagement", strings.Replace(`{`+usual+`}`, `opened`, `deferred`, 1), "ignored: deferred"},
		{"a kind that nobody named", strings.Replace(`{`+usual+`}`, `opened`, `printed`, 1), "ignored: printed (unknown)"},
		{"kinds are compared as they are written", strings.Replace(`{`+usual+`}`, `opened`, `Opened`, 1), "ignored: Opened (unknown)"},
		{"what is ignored may lack everything else", `{"event":"deferred"}`, "ignored: deferred"},
		{"no kind", strings.Replace(`{`+usual+`}`, `"event"`, `"Event"`, 1), "error: engagement event: /event: is required"},
		{"a kind that is a list", strings.Replace(`{`+usual+`}`, `"opened"`, `["opened"]`, 1), "error: engagement event: /event: must be a string or a number"},
		{"no time", strings.Replace(`{`+usual+`}`, `"at"`, `"when"`, 1), "error: engagement event: /at: is required"},
		{"a time without its zone", strings.Replace(`{`+usual+`}`, `52Z`, `52`, 1), "error: engagement event: /at: must be a time such as 2026-03-01T10:00:00Z, with its zone"},
		{"a channel that is none", strings.Replace(`{`+usual+`}`, `"channel":"email"`, `"channel":"e mail"`, 1), "error: engagement event: /channel: must be 1 to 64 of a-z, 0-9, hyphen and underscore"},
		{"a customer that nobody could store", strings.Replace(`{`+usual+`}`, `C-1`, strings.Repeat("c", 257), 1), "error: engagement event: /customer/id or /to/0: must not be longer than 256 bytes"},
		{"a control character in an id", strings.Replace(`{`+usual+`}`, `C-1`, `C\u0000`, 1), "error: engagement event: /customer/id or /to/0: must not contain control characters, but byte 1 is 0x00"},
		{"no object", `["opened"]`, "error: engagement event: must be a JSON object"},
		{"no JSON", `opened`, "error: engagement event: is not a JSON document: invalid character 'o' looking for beginning of value"},
		{"JSON that ends too early", `{"event":"opened"`, "error: engagement event: is not a JSON document: unexpected EOF"},
		{"two documents", `{` + usual + `}{}`, "error: engagement event: holds more than one JSON document"},
		{"no UTF-8", `{` + usual + `,"x":"` + "\xff" + `"}`, "error: engagement event: is not valid UTF-8"},
		{"nothing", "", "ignored: a record without a value"},
		{"JSON behind the framing of a schema registry", "\x00\x00\x00\x01\x02{" + usual + "}", event()},
		{"Avro behind the framing", "\x00\x00\x00\x01\x02\x06C-1\x02", "error: engagement event: is framed by a schema registry (schema 258), and what follows is not JSON: Avro and Protobuf are not read, have it written with a JSON serializer or converted"},
		{"the framing of nothing", "\x00\x00\x00\x01", "error: engagement event: is framed by a schema registry, and what follows is not JSON: Avro and Protobuf are not read, have it written with a JSON serializer or converted"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			r := &stream.Record{Topic: "shop.mail", Value: []byte(tt.record)}
			if got := said(s, r); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if string(s.Map(r).Raw) != tt.record {
				t.Error("the record did not stay as it came")
			}
		})
	}
}

func TestTimes(t *testing.T) {
	for _, tt := range []struct{ sentence, declared, field, want string }{
		{"RFC 3339, any zone", `{field: /at}`, `"2026-12-03T10:41:52.104+01:00"`, "2026-12-03T09:41:52.104Z"},
		{"seconds", `{field: /at, format: unix}`, `1796290912`, "2026-12-03T09:41:52Z"},
		{"seconds with a fraction", `{field: /at, format: unix}`, `1796290912.104`, "2026-12-03T09:41:52.104Z"},
		{"seconds as text", `{field: /at, format: unix}`, `"1796290912"`, "2026-12-03T09:41:52Z"},
		{"milliseconds", `{field: /at, format: unix_ms}`, `1796290912104`, "2026-12-03T09:41:52.104Z"},
		{"milliseconds that are seconds", `{field: /at, format: unix_ms}`, `1796290912`, "error: engagement event: /at: must be a Unix time in milliseconds of this century"},
		{"seconds that are milliseconds", `{field: /at, format: unix}`, `1796290912104`, "error: engagement event: /at: must be a Unix time in seconds of this century"},
		{"a wall clock in winter", `{field: /at, format: "02/01/2006 15:04:05", zone: Europe/Rome}`, `"03/12/2026 10:41:52"`, "2026-12-03T09:41:52Z"},
		{"a wall clock in summer", `{field: /at, format: "02/01/2006 15:04:05", zone: Europe/Rome}`, `"03/07/2026 10:41:52"`, "2026-07-03T08:41:52Z"},
		{"an hour that is skipped", `{field: /at, format: "2006-01-02 15:04", zone: Europe/Rome}`, `"2026-03-29 02:30"`, "2026-03-29T01:00:00Z"},
		{"an hour of which there are two", `{field: /at, format: "2006-01-02 15:04", zone: Europe/Rome}`, `"2026-10-25 02:30"`, "2026-10-25T00:30:00Z"},
		{"a layout with an offset", `{field: /at, format: "2006-01-02 15:04:05 -0700"}`, `"2026-12-03 10:41:52 +0100"`, "2026-12-03T09:41:52Z"},
		{"a time that is written otherwise", `{field: /at, format: "2006-01-02 15:04", zone: UTC}`, `"tomorrow"`, "error: engagement event: /at: must be a time written as 2006-01-02 15:04"},
		{"a truth value", `{field: /at}`, `true`, "error: engagement event: /at: must be a string or a number"},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			s := one(t, "name: shop", "topic: shop.mail", "kind: open", "customer: /c", "time: "+tt.declared, "id: /id")
			got := said(s, &stream.Record{Value: []byte(`{"id":"e-1","c":"C-1","at":` + tt.field + `}`)})
			want := tt.want
			if !strings.HasPrefix(want, "error") {
				want = event("2026-12-03T09:41:52Z", want)
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// Events with an id have it whatever else they say; without one, whatever tells two apart does.
func TestTheHashTellsEventsApart(t *testing.T) {
	s := one(t, "name: shop", "topic: shop.mail", "kind: {field: /event, values: {opened: open, clicked: click}}", "customer: /c", "time: {field: /at, format: unix}", "message: /m",
		"campaign: /k", "link: /l", "channel: /ch", "id: /id")
	seen := map[string]string{}
	for _, record := range []string{
		`{"event":"opened","c":"C-1","at":1796290912,"ch":"email"}`,
		`{"event":"clicked","c":"C-1","at":1796290912,"ch":"email"}`,
		`{"event":"opened","c":"C-2","at":1796290912,"ch":"email"}`,
		`{"event":"opened","c":"C-1","at":1796290913,"ch":"email"}`,
		`{"event":"opened","c":"C-1","at":1796290912,"ch":"push"}`,
		`{"event":"opened","c":"C-1","at":1796290912,"ch":"email","m":"m-1"}`,
		`{"event":"opened","c":"C-1","at":1796290912,"ch":"email","k":"weekly"}`,
		`{"event":"clicked","c":"C-1","at":1796290912,"ch":"email","l":"https://example.com"}`,
	} {
		id := s.Map(&stream.Record{Value: []byte(record)}).Event.ID
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have one id", record, other)
		}
		seen[id] = record
		if again := s.Map(&stream.Record{Offset: 7, Value: []byte(" " + record)}).Event.ID; again != id {
			t.Errorf("%s has another id when it comes again", record)
		}
	}
}

func TestCloudEvents(t *testing.T) {
	mapped := one(t, "name: shop", "topic: shop.mail", "format: cloudevents", "kind: {field: /type, values: {com.example.opened: open}}", "customer: /data/customer", "message: /data/m")
	own := one(t, "name: shop", "topic: shop.mail", "format: cloudevents")
	const structured = `{"specversion":"1.0","id":"e-1","source":"/s","type":"com.example.opened","time":"2026-12-03T09:41:52Z","data":{"customer":"C-1"}}`
	ours := event("shop-e-1", "e-9", "/ingest/shop", "/partner")
	attributes := func(changes ...string) []stream.Header {
		set := map[string]string{"ce_specversion": "1.0", "ce_id": "e-1", "ce_source": "/s", "ce_type": "com.example.opened", "ce_time": "2026-12-03T09:41:52Z", "content-type": "application/json"}
		for i := 0; i < len(changes); i += 2 {
			set[changes[i]] = changes[i+1]
		}
		var headers []stream.Header
		for k, v := range set {
			if v != "" {
				headers = append(headers, stream.Header{Key: k, Value: []byte(v)})
			}
		}
		return headers
	}
	media := func(is string) []stream.Header {
		return []stream.Header{{Key: "Content-Type", Value: []byte(is)}}
	}
	ourAttributes := attributes("ce_type", engagement.Type, "ce_id", "e-9", "ce_source", "/partner", "ce_subject", "C-1")
	for _, tt := range []struct {
		sentence string
		source   *Source
		headers  []stream.Header
		value    string
		want     string
	}{
		{"structured mode", mapped, media("application/cloudevents+json; charset=UTF-8"), structured, event()},
		{"structured mode whose producer does not say so", mapped, nil, structured, event()},
		{"structured mode with the attributes in headers, too", mapped, append(attributes("content-type", "", "ce_type", "other"), media("application/cloudevents+json")...), structured, event()},
		{"structured mode behind the framing of a schema registry", mapped, nil, "\x00\x00\x00\x00\x01" + structured, event()},
		{"binary mode", mapped, attributes(), `{"customer":"C-1"}`, event()},
		{"binary mode behind the framing", mapped, attributes(), "\x00\x00\x00\x00\x01" + `{"customer":"C-1"}`, event()},
		{"binary mode without a media type", mapped, attributes("content-type", ""), `{"customer":"C-1"}`, event()},
		{"a type that nobody named", mapped, attributes("ce_type", "com.example.printed"), `{"customer":"C-1"}`, "ignored: com.example.printed (unknown)"},
		{"our own type, structured", own, nil, ours, ours},
		{"our own type, structured, where others are mapped", mapped, nil, ours, ours},
		{"our own type, binary", own, ourAttributes, `{"kind":"open","channel":"email"}`, ours},
		{"our own type with a mistake", own, ourAttributes, `{"kind":"opened","channel":"email"}`, `error: engagement event: data.kind: must be one of sent, delivered, open, click, reply, bounce, complaint, unsubscribe, not "opened"`},
		{"another type where nothing is mapped", own, nil, structured, "ignored: com.example.opened (unknown)"},
		{"no data at all", own, attributes(), "", "ignored: com.example.opened (unknown)"},
		{"no data that is needed", mapped, attributes(), "", "error: engagement event: /data/customer: is required"},
		{"no record at all", mapped, nil, "", "ignored: a record without a value"},
		{"data in Avro", mapped, attributes("content-type", "application/avro"), "\x02C-1", "error: engagement event: /data: is application/avro: of data JSON is read"},
		{"an event in Avro", mapped, media("application/cloudevents+avro"), "\x02C-1", "error: engagement event: is application/cloudevents+avro: of CloudEvents one in JSON is read"},
		{"a batch", mapped, media("application/cloudevents-batch+json"), "[]", "error: engagement event: is application/cloudevents-batch+json: of CloudEvents one in JSON is read"},
		{"another version", mapped, attributes("ce_specversion", "0.3"), `{"customer":"C-1"}`, `error: engagement event: /specversion: must be 1.0, not "0.3": is it a CloudEvent?`},
		{"no CloudEvent", mapped, nil, `{"customer":"C-1"}`, `error: engagement event: /specversion: must be 1.0, not "": is it a CloudEvent?`},
		{"no type", mapped, attributes("ce_type", ""), `{"customer":"C-1"}`, `error: engagement event: /type: is required`},
		{"an attribute that is no text", mapped, attributes("ce_id", "\xff"), `{"customer":"C-1"}`, `error: engagement event: /id: is not valid UTF-8`},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			if got := said(tt.source, &stream.Record{Headers: tt.headers, Value: []byte(tt.value)}); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// What every source makes of every record: one thing out of three, and an event only that may stand on the topic.
func FuzzMap(f *testing.F) {
	sources := []*Source{shop(f),
		one(f, "name: a", "topic: a", "format: cloudevents", "kind: {field: /type, values: {t: open}}", "customer: /data/c", "channel: /data/ch"),
		one(f, "name: b", "topic: b", "kind: click", "address: /0/~01", "time: {field: /t, format: '2006-01-02 15:04:05', zone: Europe/Rome}"),
		one(f, "name: c", "topic: c", "kind: click", "address: /a", "time: {field: /t, format: unix}", "machine: /m", "ip: /i"),
	}
	f.Add("{\"id\":\"e-1\",\"event\":\"opened\",\"at\":\"2026-12-03T09:41:52Z\",\"customer\":{\"id\":\"C-1\"},\"channel\":\"email\"}", "", "")
	f.Add("\x00\x00\x00\x00\x01{\"c\":1}", "ce_type", "t")
	f.Add(event(), "content-type", "application/cloudevents+json")
	f.Add(`{"a":"A@B.IT","t":1796290912.5,"m":1,"i":"::1"}`, "ce_specversion", "1.0")
	f.Add(`{"specversion":"1.0","type":"t","id":"1","time":"2026-12-03T09:41:52Z","data":{"c":1,"ch":"sms"}}`, "", "")
	f.Fuzz(func(t *testing.T, value, header, is string) {
		r := &stream.Record{Value: []byte(value), Headers: []stream.Header{{Key: header, Value: []byte(is)}, {Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_type", Value: []byte("t")}}}
		for _, headers := range [][]stream.Header{r.Headers, r.Headers[:1], nil} {
			r := &stream.Record{Value: r.Value, Headers: headers}
			for _, s := range sources {
				m := s.Map(r)
				n := 0
				for _, is := range []bool{m.Event != nil, m.Err != nil, m.Event == nil && m.Err == nil} {
					if is {
						n++
					}
				}
				if n != 1 || m.Unknown && (m.Event != nil || m.Err != nil) || string(m.Raw) != value {
					t.Fatalf("%s makes %+v of %q", s.Name, m, value)
				}
				if m.Event == nil {
					continue
				}
				if err := m.Event.Validate(); err != nil {
					t.Fatalf("%s makes an event of %q that is none: %v", s.Name, value, err)
				}
				if b := m.Event.Append(nil); !json.Valid(b) {
					t.Fatalf("%s writes %q", s.Name, b)
				}
			}
		}
	})
}
