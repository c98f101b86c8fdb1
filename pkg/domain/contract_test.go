// Package domain_test holds the wire together: the codecs of the domain, the schemas that others read, and the examples
// that both must accept. It has no package of its own to test, and is not a test of any single codec.
package domain_test

import (
	"encoding"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tempismo/tempismo/pkg/domain/customer"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

var update = flag.Bool("update", false, "rewrite the examples in schemas/examples as the codecs write them")

const schemas = "../../schemas"

// contract says which Go type is the data of a topic, and where its schema stands.
var contract = map[string]struct {
	types []string // CloudEvents types
	data  any      // what Go reads and writes
	def   string   // where the schema describes it
}{
	topics.Events:     {[]string{engagement.Type}, nil, "engagement"},
	topics.Attributes: {[]string{customer.Type}, customer.Attributes{}, "customer"},
	topics.Consents:   {[]string{customer.ConsentType}, customer.Answer{}, "answer"},
	topics.Erasures:   {[]string{customer.ErasureType}, customer.Erasure{}, "erasure"},
	topics.Scored:     {[]string{timing.ScoredType}, timing.Scored{}, "scored"},
	topics.Digests:    {[]string{timing.DigestType}, timing.Digest{}, "digest"},
	topics.Deviations: {[]string{deviation.Type}, deviation.Deviation{}, "deviation"},
	topics.Models:     {[]string{timing.ModelType}, timing.Model{}, "model"},
	topics.Policies:   {[]string{decision.PolicyType}, decision.Policy{}, "policy"},
	topics.Requests:   {[]string{decision.RequestType}, decision.Request{}, "request"},
	topics.Ticks:      {[]string{stream.TickType}, tick{}, "tick"},
	topics.Decisions:  {[]string{decision.SendNowType, decision.WaitType, decision.HeldOutType, decision.BlockedType, decision.ExpiredType, decision.CancelledType}, decision.Decision{}, "decision"},
	topics.Outcomes:   {[]string{decision.OutcomeType}, decision.Outcome{}, "outcome"},
}

// tick is the data of a tick. The runtime keeps its own to itself: nobody else writes or reads them.
type tick struct {
	Timer string           `json:"timer"`
	Due   time.Time        `json:"due"`
	After map[string]int64 `json:"after,omitempty"`
}

func TestAClockTickIsATick(t *testing.T) {
	m := stream.ClockTick(stream.Run{ID: "demo", Simulated: true}, time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC))
	if err := validate(compile(t, topics.Ticks), m.Value); err != nil {
		t.Error(err)
	}
}

func compile(t *testing.T, topic string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join(schemas, topic+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(s *jsonschema.Schema, document []byte) error {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(document)))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// recode reads a record of a topic as its readers do and writes it as its writers do.
func recode(topic string, record []byte) ([]byte, error) {
	if topic == topics.Events {
		var e engagement.Event
		if err := e.Parse(record); err != nil {
			return nil, err
		}
		return e.Append(nil), nil
	}
	e, err := stream.ParseEvent(record)
	if err != nil {
		return nil, err
	}
	switch topic {
	case topics.Attributes:
		var a customer.Attributes
		if err := a.Parse(e.Data); err != nil {
			return nil, err
		}
		e.Data = a.Append(nil)
	case topics.Consents:
		var a customer.Answer
		if err := a.Parse(e.Data); err != nil {
			return nil, err
		}
		e.Data = a.Append(nil)
	case topics.Erasures:
		var x customer.Erasure
		if err := x.Parse(e.Data); err != nil {
			return nil, err
		}
		e.Data = x.Append(nil)
	case topics.Models:
		m, err := timing.ParseModel(e.Data)
		if err != nil {
			return nil, err
		}
		if e.Data, err = m.Append(nil); err != nil {
			return nil, err
		}
	case topics.Policies:
		var p decision.Policy
		if err := p.Parse(e.Data); err != nil {
			return nil, err
		}
		e.Data = p.Append(nil)
	case topics.Decisions:
		var d decision.Decision
		if err := d.Parse(e.Type, e.Data); err != nil {
			return nil, err
		}
		e.Data = d.Append(nil)
	case topics.Outcomes:
		var o decision.Outcome
		if err := o.Parse(e.Data); err != nil {
			return nil, err
		}
		e.Data = o.Append(nil)
	default:
		v := reflect.New(reflect.TypeOf(contract[topic].data)).Interface()
		if err := json.Unmarshal(e.Data, v); err != nil {
			return nil, err
		}
		if e.Data, err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	return e.Append(nil), nil
}

// examples returns the golden records of a topic by file.
func examples(t *testing.T, topic string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(schemas, "examples", topic+".*.json"))
	if err != nil {
		t.Fatal(err)
	}
	records := map[string][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		records[file] = b[:len(b)-1] // one record, one line
	}
	return records
}

// The default policy is the example of a policy: its closed days are too long to be written by hand.
func TestThePolicyExampleIsTheDefaultPolicy(t *testing.T) {
	p := decision.Default()
	p.Version = "1"
	e := stream.Event{ID: "po-1", Source: "/tempismo/operator/r1", Type: decision.PolicyType, Time: time.Date(2026, 12, 3, 4, 0, 0, 0, time.UTC), Data: p.Append(nil)}
	golden(t, topics.Policies+".default.json", e.Append(nil))
}

// golden holds a record to an example that is written by codecs rather than by hand.
func golden(t *testing.T, name string, record []byte) {
	t.Helper()
	file, want := filepath.Join(schemas, "examples", name), append(record, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
		t.Errorf("%s (%v) is another: rewrite it with go test ./domain -update", file, err)
	}
}

// The built-in model is the example of a model: it is too long to be written by hand.
func TestTheModelExampleIsTheBuiltinModel(t *testing.T) {
	data, err := timing.Builtin().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	e := stream.Event{ID: "md-" + timing.BuiltinVersion, Source: "/tempismo/trainer/r1", Type: timing.ModelType, Time: time.Date(2026, 12, 3, 4, 0, 0, 0, time.UTC), Data: data}
	golden(t, topics.Models+".builtin.json", e.Append(nil))
}

func TestExamplesAreWhatCodecsWriteAndSchemasAllow(t *testing.T) {
	for topic, c := range contract {
		t.Run(topic, func(t *testing.T) {
			schema, seen := compile(t, topic), map[string]bool{}
			for file, record := range examples(t, topic) {
				t.Run(filepath.Base(file), func(t *testing.T) {
					again, err := recode(topic, record)
					if err != nil {
						t.Fatal(err)
					}
					if *update && string(again) != string(record) {
						if err := os.WriteFile(file, append(again, '\n'), 0o644); err != nil {
							t.Fatal(err)
						}
						record = again
					}
					if string(again) != string(record) {
						t.Errorf("the codec does not give the example back:\nexample %s\ncodec   %s", record, again)
					}
					if err := validate(schema, record); err != nil {
						t.Error(err)
					}
					var envelope struct{ Type string }
					if err := json.Unmarshal(record, &envelope); err != nil {
						t.Fatal(err)
					}
					seen[envelope.Type] = true
				})
			}
			for _, typ := range c.types {
				if !seen[typ] {
					t.Errorf("there is no example of %s", typ)
				}
			}
		})
	}
}

// A schema that allows everything would pass the test above: it must refuse an example without any one required field,
// and an example of another type, and allow fields that a later version adds.
func TestSchemasRefuseWhatTheyMust(t *testing.T) {
	for topic := range contract {
		schema := compile(t, topic)
		for file, record := range examples(t, topic) {
			var document map[string]any
			if err := json.Unmarshal(record, &document); err != nil {
				t.Fatal(err)
			}
			check := func(what string, refused bool) {
				t.Helper()
				b, err := json.Marshal(document)
				if err != nil {
					t.Fatal(err)
				}
				if err := validate(schema, b); (err != nil) != refused {
					t.Errorf("%s %s: refused: %v, want %v", filepath.Base(file), what, err, refused)
				}
			}
			for _, name := range []string{"specversion", "id", "source", "type", "time", "data"} {
				value := document[name]
				delete(document, name)
				check("without "+name, true)
				document[name] = value
			}
			typ := document["type"]
			document["type"] = "io.tempismo.other.v1"
			check("of another type", true)
			document["type"] = typ
			data := document["data"].(map[string]any)
			for name, value := range data {
				data[name] = map[string]any{}
				if _, isObject := value.(map[string]any); !isObject {
					check("with an object as data."+name, true)
				}
				data[name] = value
			}
			document["later"], data["later"] = true, map[string]any{"x": 1}
			check("with fields of a later version", false)
		}
	}
}

// schemaAt finds what a $ref in the schema file of a topic points to, with the file it stands in.
func schemaAt(t *testing.T, file, ref string) (string, map[string]any) {
	t.Helper()
	name, pointer, _ := strings.Cut(ref, "#")
	if name != "" {
		file = name
	}
	b, err := os.ReadFile(filepath.Join(schemas, file))
	if err != nil {
		t.Fatal(err)
	}
	var node map[string]any
	if err := json.Unmarshal(b, &node); err != nil {
		t.Fatal(err)
	}
	for step := range strings.SplitSeq(strings.Trim(pointer, "/"), "/") {
		next, ok := node[step].(map[string]any)
		if !ok {
			t.Fatalf("%s#%s: nothing at %q", file, pointer, step)
		}
		node = next
	}
	return file, node
}

// compare holds a Go type and a schema to each other: the same fields, required unless omitted when empty, of like types.
func compare(t *testing.T, path, file string, typ reflect.Type, schema map[string]any) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		file, schema = schemaAt(t, file, ref)
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Float64: "number", reflect.Int: "integer", reflect.Int64: "integer", reflect.Uint32: "integer", reflect.Uint64: "integer",
		reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array", reflect.Array: "array",
	}[typ.Kind()]
	switch {
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		want = "string"
	case reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Marshaler]()):
		return // it has a form of its own, which examples and a test of its package show
	}
	if typ == reflect.TypeFor[time.Time]() {
		if schema["format"] != "date-time" {
			t.Errorf("%s: %s is a time, its schema has no format date-time", file, path)
		}
	}
	if schema["type"] != want || want == "" {
		t.Errorf("%s: %s is %v in Go and %v in the schema", file, path, typ, schema["type"])
		return
	}
	if schema["description"] == "" || schema["description"] == nil {
		if _, item := schema["items"]; !item && !strings.HasSuffix(path, "[]") {
			t.Errorf("%s: %s has no description", file, path)
		}
	}
	switch {
	case typ.Kind() == reflect.Map && typ.Elem().Kind() == reflect.Struct:
		values, ok := schema["additionalProperties"].(map[string]any)
		if !ok {
			t.Errorf("%s: %s says nothing about its values", file, path)
			return
		}
		compare(t, path+".*", file, typ.Elem(), values)
	case want == "array":
		items, ok := schema["items"].(map[string]any)
		if !ok {
			t.Errorf("%s: %s says nothing about its items", file, path)
			return
		}
		if typ.Kind() == reflect.Array {
			if n := float64(typ.Len()); schema["minItems"] != n || schema["maxItems"] != n {
				t.Errorf("%s: %s has %v items in Go, %v to %v in the schema", file, path, n, schema["minItems"], schema["maxItems"])
			}
		}
		compare(t, path+"[]", file, typ.Elem(), items)
	case typ.Kind() == reflect.Struct && want == "object":
		properties, _ := schema["properties"].(map[string]any)
		var required []string
		list, _ := schema["required"].([]any)
		for _, r := range list {
			required = append(required, r.(string))
		}
		known := map[string]bool{}
		for i := range typ.NumField() {
			f := typ.Field(i)
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || tag == "-" {
				continue
			}
			known[tag] = true
			property, ok := properties[tag].(map[string]any)
			if !ok {
				t.Errorf("%s: %s.%s is not in the schema", file, path, tag)
				continue
			}
			if optional := options == "omitempty" || options == "omitzero"; slices.Contains(required, tag) == optional {
				t.Errorf("%s: %s.%s: required in the schema: %v, always written by Go: %v", file, path, tag, slices.Contains(required, tag), !optional)
			}
			compare(t, path+"."+tag, file, f.Type, property)
		}
		for name := range properties {
			if !known[name] {
				t.Errorf("%s: %s.%s is not in Go", file, path, name)
			}
		}
	}
}

func TestSchemasDescribeTheGoTypes(t *testing.T) {
	for topic, c := range contract {
		if c.data == nil {
			continue // the engagement event has a codec without struct tags: see below
		}
		file, schema := schemaAt(t, topic+".json", "#/$defs/"+c.def)
		compare(t, c.def, file, reflect.TypeOf(c.data), schema)
	}
}

// Every field of an engagement event that the schema names is read, and nothing else is written.
func TestTheEngagementSchemaNamesWhatTheCodecWrites(t *testing.T) {
	_, schema := schemaAt(t, topics.Events+".json", "#/$defs/engagement")
	properties := schema["properties"].(map[string]any)
	e := engagement.Event{ID: "1", Source: "/x", Subject: "c", Time: time.Unix(1e9, 0), Kind: engagement.Click, Channel: "email", Zone: "Europe/Rome"}
	var document struct{ Data map[string]any }
	if err := json.Unmarshal(e.Append(nil), &document); err != nil {
		t.Fatal(err)
	}
	for name := range properties {
		if _, ok := document.Data[name]; !ok {
			t.Errorf("data.%s is in the schema and not written", name)
		}
	}
	for name := range document.Data {
		if _, ok := properties[name]; !ok {
			t.Errorf("data.%s is written and not in the schema", name)
		}
	}
}

func enum(t *testing.T, topic, pointer string) (names []string) {
	t.Helper()
	_, schema := schemaAt(t, topic+".json", pointer)
	list, ok := schema["enum"].([]any)
	if !ok {
		t.Fatalf("%s%s has no enum", topic, pointer)
	}
	for _, v := range list {
		names = append(names, v.(string))
	}
	return names
}

// constants lists the string constants of a named type in a source file.
func constants(t *testing.T, file, typ string, but ...string) (values []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typ {
			for i, v := range spec.Values {
				if text, err := strconv.Unquote(v.(*ast.BasicLit).Value); err == nil && !slices.Contains(but, spec.Names[i].Name) {
					values = append(values, text)
				}
			}
		}
		return true
	})
	return values
}

func TestClosedListsAreTheSame(t *testing.T) {
	var kinds, actors []string
	for k := engagement.Sent; k.String() != "unknown"; k++ {
		kinds = append(kinds, k.String())
	}
	for a := engagement.Human; a.String() != "unknown"; a++ {
		actors = append(actors, a.String())
	}
	tests := []string{timing.Burst, timing.Timing, timing.Drift, timing.Silence, timing.Reactivation}
	for _, tt := range []struct {
		topic, pointer string
		want           []string
	}{
		{topics.Events, "#/$defs/engagement/properties/kind", kinds},
		{topics.Events, "#/$defs/engagement/properties/actor", actors},
		{topics.Scored, "#/$defs/scored/properties/kind", kinds},
		{topics.Scored, "#/$defs/test/properties/kind", tests},
		{topics.Scored, "profile.v1.json#/$defs/score/properties/level", []string{timing.LevelOwn, timing.LevelPersona, timing.LevelSegment, timing.LevelPopulation, timing.LevelBusinessHours}},
		{topics.Digests, "#/$defs/tail/properties/kind", []string{timing.Burst, timing.Timing, timing.Silence, timing.Act}},
		{topics.Deviations, "#/$defs/deviation/properties/kind", tests},
		{topics.Digests, "#/$defs/tail/properties/stratum", timing.Strata[:]},
		{topics.Decisions, "#/properties/type", contract[topics.Decisions].types},
		{topics.Decisions, "#/$defs/decision/properties/reason", constants(t, "decision/wire.go", "Reason", "NotActionable", "OtherChannel", "NoTrigger", "Incomplete", "AlreadyEnded", "UnknownRequest", "Unchanged")}, // these are counted, never written
		{topics.Policies, "#/$defs/policy/properties/consent", constants(t, "decision/policy.go", "Consent")},
		{topics.Policies, "#/$defs/rule/properties/kind", constants(t, "calendar/book.go", "Kind")},
		{topics.Requests, "#/$defs/request/properties/action", constants(t, "decision/request.go", "Action")},
		{topics.Outcomes, "#/$defs/outcome/properties/result", constants(t, "decision/wire.go", "Result")},
	} {
		got := enum(t, tt.topic, tt.pointer)
		slices.Sort(got)
		want := slices.Sorted(slices.Values(tt.want))
		if !slices.Equal(got, want) {
			t.Errorf("%s%s: the schema has %v, Go %v", tt.topic, tt.pointer, got, want)
		}
	}
}

func TestEveryTopicHasASchemaAndNoneIsLeftOver(t *testing.T) {
	for _, topic := range topics.All {
		if _, ok := contract[topic.Name]; !ok {
			t.Errorf("%s is not in the contract", topic.Name)
		}
	}
	files, err := filepath.Glob(filepath.Join(schemas, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	others := []string{"envelope.v1", "profile.v1", "policy.schema", "truth.schema"} // the last two are files; services/tempismo/truth holds the last
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if _, ok := contract[name]; !ok && !slices.Contains(others, name) {
			t.Errorf("%s describes no topic", file)
		}
	}
	all, err := filepath.Glob(filepath.Join(schemas, "examples", "*"))
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	for topic := range contract {
		used += len(examples(t, topic))
	}
	if used != len(all) {
		t.Errorf("%d examples, %d of them belong to a topic", len(all), used)
	}
}
