package domain_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/topics"
)

// policyFile is the schema by which editors help to write a policy file.
const policyFile = "policy.schema.json"

// The two schemas of a policy say the same, but that a file may leave out what the default policy has, holds no field that
// nothing reads, and is neither numbered nor resolved.
func TestThePolicyFileIsDescribedLikeTheRecord(t *testing.T) {
	_, file := schemaAt(t, policyFile, "#/$defs")
	_, record := schemaAt(t, topics.Policies+".json", "#/$defs")
	for name, def := range file {
		def, other := def.(map[string]any), record[name].(map[string]any)
		if def["additionalProperties"] != false {
			t.Errorf("%s allows fields that nothing reads", name)
		}
		fields, others := def["properties"].(map[string]any), maps.Clone(other["properties"].(map[string]any))
		if name == "policy" {
			delete(others, "version")
			delete(others, "closed")
		}
		if name == "condition" {
			delete(others, "is") // a file may hold numbers and truth values as they are
			fields = maps.Clone(fields)
			delete(fields, "is")
		}
		if !reflect.DeepEqual(fields, others) {
			t.Errorf("%s is described in two ways:\n%v\n%v", name, fields, others)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(record)) {
		if _, ok := file[name]; !ok && name != "book" && name != "rule" {
			t.Errorf("%s is not in the file's schema", name)
		}
	}
}

// What the schema of the file allows can be read, and the other way round, as far as a schema can tell.
func TestThePolicyFileSchemaAgreesWithTheReader(t *testing.T) {
	c := jsonschema.NewCompiler()
	schema, err := c.Compile(filepath.Join(schemas, policyFile))
	if err != nil {
		t.Fatal(err)
	}
	p := decision.Default()
	var fields map[string]any
	if err := json.Unmarshal(p.Append(nil), &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "version")
	delete(fields, "closed")
	whole, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		sentence, file string
		good           bool
	}{
		{"the default policy", string(whole), true},
		{"nothing", `{}`, true},
		{"one number", `{"cap_per_day":3}`, true},
		{"no quiet hours", `{"quiet":""}`, true},
		{"hours of some days", `{"channels":{"sms":{"windows":["mon-fri 09:00-12:00","sat 10:00-11:00","tue,thu 10:00-12:00"]}}}`, true},
		{"days of several kinds", `{"channels":{"sms":{"windows":["mon-wed,fri 09:00-12:00"]}}}`, true},
		{"a duration with a fraction", `{"gap":"1.5h"}`, true},
		{"a segment", `{"segments":[{"name":"a","when":{"orders":{"is":[1,true,"x"]},"value":{"min":1,"max":2.5}},"channels":{"email":{"threshold":0}}}]}`, true},
		{"a closure", `{"calendars":{"national":[],"bank":true,"patrons":{"Milano":"12-07"},"closures":[{"name":"a","from":"2026-08-10","to":"2026-08-21","every":"year","until":"2030-01-01","where":{"comune":"Milano"}}]}}`, true},
		{"a version", `{"version":"1"}`, false},
		{"a field that nothing reads", `{"quite":""}`, false},
		{"a channel's field that nothing reads", `{"channels":{"email":{"window":[]}}}`, false},
		{"a channel in capitals", `{"channels":{"E-Mail":{"windows":["09:00-12:00"]}}}`, false},
		{"no channel", `{"channels":{}}`, false},
		{"a channel without windows", `{"channels":{"email":{"windows":[]}}}`, false},
		{"words for hours", `{"channels":{"email":{"windows":["always"]}}}`, false},
		{"words for quiet hours", `{"quiet":"night"}`, false},
		{"words for a time", `{"gap":"a day"}`, false},
		{"a fraction of a cap", `{"cap_per_day":1.5}`, false},
		{"a large cap", `{"cap_per_day":33}`, false},
		{"a negative cap", `{"channels":{"email":{"cap_per_week":-1}}}`, false},
		{"a score that is none", `{"channels":{"email":{"threshold":101}}}`, false},
		{"an overlap of nothing", `{"overlap":0}`, false},
		{"consent that is neither", `{"consent":"yes"}`, false},
		{"a trigger that is none", `{"channels":{"email":{"triggers":["drift"]}}}`, false},
		{"a trigger twice", `{"channels":{"email":{"triggers":["burst","burst"]}}}`, false},
		{"a priority that is none", `{"channels":{"email":{"priority":10}}}`, false},
		{"a lead without days", `{"lead":[{"name":"a","before":"12-25"}]}`, false},
		{"a lead of a season", `{"lead":[{"name":"a","before":"12-25","days":15}]}`, false},
		{"a segment without a condition", `{"segments":[{"name":"a","when":{}}]}`, false},
		{"a condition that asks for nothing", `{"segments":[{"name":"a","when":{"b":{}}}]}`, false},
		{"a segment without a name", `{"segments":[{"when":{"b":{"min":1}}}]}`, false},
		{"everybody held out", `{"experiment":{"holdout":1}}`, false},
		{"exploration above all", `{"experiment":{"exploration":1.1}}`, false},
		{"a country in words", `{"calendars":{"national":["Italy"]}}`, false},
		{"a closure in words", `{"calendars":{"closures":[{"name":"a","from":"August"}]}}`, false},
		{"a recurrence in words", `{"calendars":{"closures":[{"name":"a","from":"2026-08-10","every":"fortnight"}]}}`, false},
		{"a list for an object", `[]`, false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			document, err := jsonschema.UnmarshalJSON(strings.NewReader(row.file))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(document); (err == nil) != row.good {
				t.Errorf("the schema: %v", err)
			}
			if _, err := decision.Draft([]byte(row.file)); (err == nil) != row.good {
				t.Errorf("the reader: %v", err)
			}
		})
	}
}
