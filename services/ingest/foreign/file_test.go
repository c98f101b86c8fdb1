package foreign

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/tempismo/tempismo/pkg/stream"
)

const (
	schemaFile  = "../../../schemas/sources.schema.json"
	exampleFile = "../../../docs/examples/sources.yaml"
	reference   = "../../../docs/sources.md"
)

// fits holds a file against the schema, as an editor does.
func fits(t testing.TB, text string) error {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := yaml.Load([]byte(text), &tree); err != nil {
		return err
	}
	b, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(v)
}

// What the schema allows can be read, and the other way round, as far as a schema can tell.
func TestTheSchemaAgreesWithTheReader(t *testing.T) {
	source := func(fields string) string { return `{"sources":[{` + fields + `}]}` }
	const usual = `"name":"a","topic":"t","kind":"open","customer":"/c","time":{"field":"/t"}`
	without := func(field string) string { return source(regexp.MustCompile(field+`,?`).ReplaceAllString(usual, "")) }
	with := func(fields string) string { return source(usual + "," + fields) }
	timed := func(time string) string { return source(strings.Replace(usual, `{"field":"/t"}`, time, 1)) }
	kind := func(kind string) string { return source(strings.Replace(usual, `"kind":"open"`, `"kind":`+kind, 1)) }
	const events = `"name":"a","topic":"t","format":"cloudevents"`
	for _, row := range []struct {
		sentence, file string
		good           bool
	}{
		{"a kind, a customer and a time", source(usual), true},
		{"the address for a customer", source(strings.Replace(usual, `"customer"`, `"address"`, 1)), true},
		{"everything", with(`"format":"json","address":"/a","message":"/m","campaign":"weekly","link":"/l","user_agent":"/u","ip":"/i","channel":"/ch","zone":"Europe/Rome","id":"/id","machine":"/b"`), true},
		{"words of its own", kind(`{"field":"/k","values":{"a":"open","b":"ignore","":"click"}}`), true},
		{"our words", kind(`{"field":"/k"}`), true},
		{"seconds", timed(`{"field":"/t","format":"unix"}`), true},
		{"a layout", timed(`{"field":"/t","format":"2006-01-02 15:04","zone":"Europe/Rome"}`), true},
		{"a layout with an offset", timed(`{"field":"/t","format":"2006-01-02 15:04 -07:00"}`), true},
		{"escapes in a path", with(`"id":"/a~1b/~0c/0/"`), true},
		{"CloudEvents of our own type", source(events), true},
		{"CloudEvents that are mapped", source(events + `,"kind":{"field":"/type","values":{"a":"open"}},"customer":"/subject"`), true},

		{"no sources", `{}`, false},
		{"an empty list", `{"sources":[]}`, false},
		{"an object for the list", `{"sources":{}}`, false},
		{"a list for the object", `[]`, false},
		{"a field beside the sources", `{"sources":[{` + usual + `}],"version":1}`, false},
		{"a field that nothing reads", with(`"user":"/u"`), false},
		{"text for a source", `{"sources":["shop"]}`, false},
		{"no name", without(`"name":"a"`), false},
		{"no topic", without(`"topic":"t"`), false},
		{"no kind", without(`"kind":"open"`), false},
		{"no customer", without(`"customer":"/c"`), false},
		{"no time", without(`,"time":.*`), false},
		{"no kind of CloudEvents", source(events + `,"customer":"/subject"`), false},
		{"no customer of CloudEvents", source(events + `,"kind":"open"`), false},
		{"a name in capitals", source(strings.Replace(usual, `"a"`, `"A"`, 1)), false},
		{"a name that ends with a hyphen", source(strings.Replace(usual, `"a"`, `"a-"`, 1)), false},
		{"a long name", source(strings.Replace(usual, `"a"`, `"`+strings.Repeat("a", 33)+`"`, 1)), false},
		{"a name that is a number", source(strings.Replace(usual, `"a"`, `7`, 1)), false},
		{"a topic with a slash", source(strings.Replace(usual, `"t"`, `"a/b"`, 1)), false},
		{"a format that is none", with(`"format":"avro"`), false},
		{"a path without its slash", source(strings.Replace(usual, `"/c"`, `"customer.id"`, 1)), false},
		{"an escape that is none", with(`"id":"/a~2"`), false},
		{"an escape that ends", with(`"id":"/a~"`), false},
		{"an empty path", with(`"id":""`), false},
		{"a path that is null", with(`"id":null`), false},
		{"a path that is a list", with(`"id":["a"]`), false},
		{"a message for all records", with(`"message":"m-1"`), false},
		{"a kind that is none", kind(`"opened"`), false},
		{"a kind without a field", kind(`{"values":{"a":"open"}}`), false},
		{"words that mean nothing", kind(`{"field":"/k","values":{"a":"opened"}}`), false},
		{"no words", kind(`{"field":"/k","values":{}}`), false},
		{"words in a list", kind(`{"field":"/k","values":["open"]}`), false},
		{"a kind's field that nothing reads", kind(`{"field":"/k","is":"open"}`), false},
		{"all are ignored", kind(`"ignore"`), false},
		{"a time that is a path", timed(`"/t"`), false},
		{"a time without a field", timed(`{"format":"unix"}`), false},
		{"an empty format", timed(`{"field":"/t","format":""}`), false},
		{"a zone of what names its own", timed(`{"field":"/t","zone":"Europe/Rome"}`), false},
		{"a zone of seconds", timed(`{"field":"/t","format":"unix","zone":"Europe/Rome"}`), false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			if err := fits(t, row.file); (err == nil) != row.good {
				t.Errorf("the schema: %v", err)
			}
			if _, err := Read("f", []byte(row.file)); (err == nil) != row.good {
				t.Errorf("the reader: %v", err)
			}
		})
	}
}

// What a schema cannot tell.
func TestRead(t *testing.T) {
	for _, tt := range []struct{ sentence, file, want string }{
		{"no YAML", "sources: [", `f: `},
		{"nothing", "", `f: `},
		{"a name twice", "sources:\n- {name: a, topic: t, format: cloudevents}\n- {name: a, topic: u, format: cloudevents}", `f:3:3: sources[1].name: "a" is that of the source on line 2 as well: each has its own consumer group`},
		{"a field twice", "sources:\n- {name: a, topic: t, topic: u}", `topic`},
		{"our own topic", "sources:\n- {name: a, topic: engagement.events.v1, format: cloudevents}", `f:2:3: sources[0].topic: "engagement.events.v1" is one of Tempismo's own: whoever writes there needs no source`},
		{"our own dead letters", "sources:\n- {name: a, topic: engagement.events.v1.dlq, format: cloudevents}", `is one of Tempismo's own`},
		{"our own topic of another run", "sources:\n- {name: a, topic: sim.x.engagement.events.v1, format: cloudevents}", `is one of Tempismo's own`},
		{"a directory for a topic", "sources:\n- {name: a, topic: .., format: cloudevents}", `f:2:3: sources[0].topic: "..": Kafka knows no topic of such a name`},
		{"a zone that does not exist", "sources:\n- {name: a, topic: t, kind: open, customer: /c, time: {field: /t}, zone: Rome}", `sources[0].zone: "Rome" is neither a JSON Pointer nor a time zone such as Europe/Rome`},
		{"a zone of times that does not exist", "sources:\n- {name: a, topic: t, kind: open, customer: /c, time: {field: /t, format: 2006-01-02 15:04, zone: Rome}}", `sources[0].time.zone: "Rome": must be an IANA time zone such as Europe/Rome, or UTC`},
		{"a layout without a zone", "sources:\n- {name: a, topic: t, kind: open, customer: /c, time: {field: /t, format: 2006-01-02 15:04}}", `sources[0].time.zone: is required: times written as 2006-01-02 15:04 name none; such as Europe/Rome, or UTC`},
		{"a layout of other languages", "sources:\n- {name: a, topic: t, kind: open, customer: /c, time: {field: /t, format: '%Y-%m-%d %H:%M', zone: UTC}}", `sources[0].time.format: "%Y-%m-%d %H:%M": is rfc3339, unix, unix_ms, or a layout of Go with a day and a time of day, such as 2006-01-02 15:04:05`},
		{"a layout without an hour", "sources:\n- {name: a, topic: t, kind: open, customer: /c, time: {field: /t, format: '2006-01-02', zone: UTC}}", `with a day and a time of day`},
		{"an abbreviation", "sources:\n- {name: a, topic: t, kind: open, customer: /c, time: {field: /t, format: '2006-01-02 15:04 MST'}}", `abbreviations of zones have several meanings`},
		{"a channel that is none", "sources:\n- {name: a, topic: t, kind: open, customer: /c, time: {field: /t}, channel: E-Mail}", `data.channel: must be 1 to 64 of a-z`},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			if _, err := Read("f", []byte(tt.file)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestReadTellsEverythingAtOnce(t *testing.T) {
	_, err := Read("f", []byte("sources:\n  - name: A\n    topic: t\n    format: cloudevents\n  - name: b\n    topic: u\n    kind: opened\n    customer: id\n"))
	if err == nil {
		t.Fatal("was read")
	}
	for _, want := range []string{"f:2:5: sources[0].name: ", "f:7:11: sources[1].kind: ", "f:8:15: sources[1].customer: ", "f:5:5: sources[1].time: is required"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

// An alias stands for what it names, as the words of two sources may be the same.
func TestAliases(t *testing.T) {
	all, err := Read("f", []byte("sources:\n- {name: a, topic: t, kind: &kind {field: /k, values: {x: open}}, customer: /c, time: {field: /t}}\n- {name: b, topic: t, kind: *kind, customer: /c, time: {field: /t}}"))
	if err != nil || len(all) != 2 || len(all[1].kinds) != 1 || all[1].kind.path != "/k" {
		t.Errorf("got %+v, %v", all, err)
	}
	if _, err := Read("f", []byte("sources: &all [*all]")); err == nil {
		t.Error("a list within itself was read")
	}
}

func TestTheExampleIsRead(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := fits(t, string(text)); err != nil {
		t.Error(err)
	}
	if all, err := Read("f", text); err != nil || len(all) != 4 {
		t.Errorf("%d sources, %v", len(all), err)
	}
}

// The reference lists every field, and none that there is not.
func TestTheReferenceListsEveryField(t *testing.T) {
	b, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs map[string]struct{ Properties map[string]any } `json:"$defs"`
	}
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	var want []string
	for def, prefix := range map[string]string{"source": "", "kind": "kind.", "time": "time."} {
		for name := range schema.Defs[def].Properties {
			want = append(want, prefix+name)
		}
	}
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	_, table, _ := strings.Cut(string(text), "<!-- fields -->")
	table, _, _ = strings.Cut(table, "<!-- /fields -->")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		said = append(said, m[1])
	}
	slices.Sort(want)
	slices.Sort(said)
	if !slices.Equal(want, said) {
		t.Errorf("docs/sources.md lists %q, there are %q", said, want)
	}
}

// FuzzRead: whatever the file holds is read or refused with a place, and what is read can be used.
func FuzzRead(f *testing.F) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("sources: &a [*a]")
	f.Add(`{"sources":[{"name":"a","topic":"t","kind":{"field":"/~1","values":{"a":"open"}},"customer":"/c","time":{"field":"/t","format":"Jan _2 15:04:05 2006","zone":"UTC"}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Read("f", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		if len(all) == 0 {
			t.Error("nothing was read, and nobody says why")
		}
		for _, s := range all {
			if m := s.Map(&stream.Record{Value: []byte(`{"c":1,"t":"2026-12-03T09:41:52Z"}`)}); m.Event != nil && m.Event.Validate() != nil {
				t.Errorf("%q makes an event that is none", text)
			}
		}
	})
}
