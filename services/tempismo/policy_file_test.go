package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/tempismo/tempismo/pkg/config"
	"github.com/tempismo/tempismo/pkg/domain/decision"
)

// examplePolicy is the file that the documentation shows.
const examplePolicy = "../../docs/examples/policy.yaml"

func TestPolicyFilesSayWhereTheyAreWrong(t *testing.T) {
	for _, row := range []struct{ sentence, text, want string }{
		{"a list that does not end", "zone: Europe/Rome\nquiet: [a, b\nconsent: assumed\n", "p.yaml:3:8: while parsing a flow sequence: did not find expected ',' or ']'"},
		{"a tab", "channels:\n\temail: {}\n", "p.yaml:2:1: while scanning for the next token: found character that cannot start any token"},
		{"an anchor that there is not", "lead: *x\n", "p.yaml:1:7: unknown anchor 'x' referenced"},
		{"nothing", "", "p.yaml:1:1: the file is empty; {} is the default policy"},
		{"only a comment", "# nothing yet\n", "p.yaml:1:1: the file is empty; {} is the default policy"},
		{"two documents", "zone: UTC\n---\nzone: UTC\n", "p.yaml:1:1: there is more than one document: each policy has a file of its own"},
		{"a list instead of fields", "# a policy\n- email\n", "p.yaml:2:1: is a list, not fields with names"},
		{"a field that nothing reads", "zone: Europe/Rome\nquite: 21:00-08:00\n", "p.yaml:2:8: quite: there is no such field: did you mean quiet?"},
		{"a field twice", "zone: Europe/Rome\nquiet: 21:00-08:00\nzone: UTC\n", "p.yaml:3:1: zone: is there twice, first on line 1"},
		{"a field twice, deeper", "channels:\n  email:\n    gap: 1h\n    gap: 2h\n", "p.yaml:4:5: channels.email.gap: is there twice, first on line 3"},
		{"a name that is a list", "? [zone]\n: UTC\n", "p.yaml:1:3: the name of a field is text"},
		{"a merge", "channels:\n  email: &e {gap: 1h}\n  sms: {<<: *e, gap: 2h}\n", "p.yaml:3:9: channels.sms: merge keys (<<) are not read: write the fields out, or use an alias for a whole value"},
		{"an alias that holds itself", "lead: &l [*l]\n", "p.yaml:1:7: there are more than 100000 values, or more than 20 within each other: does an alias hold itself?"},
		{"aliases of aliases", "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n", "there are more than 100000 values"},
		{"a wrong type", "cap_per_day: two\n", `p.yaml:1:14: cap_per_day: "two" is not a whole number`},
		{"a number without an end", "overlap: .inf\n", `p.yaml:1:10: overlap: ".inf" is not a number`},
		{"a value that was forgotten", "quiet:\nzone: UTC\n", "p.yaml:1:1: quiet: is empty: give text, or leave the field out"},
		{"an item of a list", "channels:\n  email:\n    windows:\n      - 09:30-14:00\n      - 25:00-26:00\n", `p.yaml:5:9: channels.email.windows[1]: opening "25:00-26:00": window "25:00-26:00": want two different times of day such as 09:30-14:00, or 00:00-24:00 for the whole day`},
		{"what is missing is missing in what is around it", "channels:\n  email: {}\n  chat:\n    threshold: 70\n", "p.yaml:3:3: channels.chat.windows: there is none, so nothing could ever be sent; use 00:00-24:00 to allow every hour"},
		{"a date that is none", "calendars:\n  closures:\n    - name: August\n      from: 2026-08-32\n", `p.yaml:4:13: calendars.closures[0].from: "2026-08-32" is no date, YYYY-MM-DD`},
		{"a country that there is not", "calendars:\n  national: [IT, QQ]\n", `p.yaml:2:18: calendars.national[1]: `},
		{"what stands behind an alias", "lead: &l [{name: x, before: 13-01, days: 1}]\n", `p.yaml:1:29: lead[0].before: "13-01" is no day of the year, MM-DD, e.g. 12-25`},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			_, err := readPolicy("p.yaml", []byte(row.text), 2026)
			var fs faults
			if !errors.As(err, &fs) || !strings.Contains(fs[0].String(), row.want) || len(fs) != 1 {
				t.Errorf("\n got %v\nwant %s", err, row.want)
			}
			if !errors.Is(err, config.ErrUsage) {
				t.Error("this is no fault of the operator's")
			}
		})
	}
}

func TestPolicyFilesSayEverythingAtOnceInOrder(t *testing.T) {
	_, err := readPolicy("p.yaml", []byte("overlap: 15\nquiet: night\ncalendars:\n  national: [Italy]\nzone: Rome\nchannels:\n  email:\n    thresold: 70\n"), 2026)
	var fs faults
	if !errors.As(err, &fs) {
		t.Fatal(err)
	}
	var lines []int
	for _, f := range fs {
		lines = append(lines, f.Line)
	}
	if !reflect.DeepEqual(lines, []int{1, 2, 4, 5, 8}) {
		t.Errorf("problems on lines %v:\n%v", lines, err)
	}
}

func TestPolicyFilesAreReadAsTheyAreMeant(t *testing.T) {
	p, err := readPolicy("p.yaml", []byte(`
quiet: ""
cap_per_week: 0x10
overlap: 1
channels:
  email: &usual
    windows: ["09:00-12:00", mon-fri 14:00-16:00]
  sms: *usual
segments:
  - name: loyal
    when: {orders: {is: [5, 5.5, true, "no", 2026-01-01]}}
calendars: {closures: [{name: August, from: 2026-08-10, to: 2026-08-21}]}
`), 2026)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Quiet.Empty() || p.CapPerWeek != 16 || p.Overlap != 1 || len(p.Channels) != 2 || len(p.Channels["sms"].Windows) != 2 || p.Channels["sms"].CapPerWeek != 2 {
		t.Errorf("%s", p.Append(nil))
	}
	if is := p.Segments[0].When["orders"].Is; !reflect.DeepEqual(is, []string{"5", "5.5", "true", "no", "2026-01-01"}) {
		t.Errorf("%q", is)
	}
	if c := p.Calendars.Closures[0]; c.From != "2026-08-10" || c.To != "2026-08-21" || p.Closed == nil {
		t.Errorf("%+v, %v", c, p.Closed)
	}
}

func TestPoliciesSurviveBeingShown(t *testing.T) {
	text, err := os.ReadFile(examplePolicy)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"the default": "{}", "the example": string(text)} {
		p, err := readPolicy("p.yaml", []byte(text), 2026)
		if err != nil {
			t.Fatal(err)
		}
		p.Version = "7"
		shown, err := policyYAML(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readPolicy("shown.yaml", shown, 2026)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, shown)
		}
		again.Version = "7"
		if string(again.Append(nil)) != string(p.Append(nil)) {
			t.Errorf("%s\n got %s\nwant %s", name, again.Append(nil), p.Append(nil))
		}
	}
}

func TestTheExamplePolicyIsOne(t *testing.T) {
	if _, err := openPolicy(examplePolicy, 2026); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if _, err := openPolicy(filepath.Join(dir, "none.yaml"), 2026); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxPolicyFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openPolicy(large, 2026); err == nil || !strings.Contains(err.Error(), "is it the right file?") {
		t.Error(err)
	}
}

func FuzzReadPolicy(f *testing.F) {
	text, err := os.ReadFile(examplePolicy)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("channels: {email: &a {gap: 1h}, sms: *a}\nlead: []\n"))
	f.Add([]byte("? [a]\n: !!float x\n<<: 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := readPolicy("p.yaml", text, 2026)
		var fs faults
		switch {
		case err == nil:
			if err := p.Validate(); err != nil {
				t.Errorf("a policy that was read is not valid: %v", err)
			}
		case !errors.As(err, &fs) || len(fs) == 0 || fs[0].Line < 1 || fs[0].Column < 1 || fs[0].What == "":
			t.Errorf("%#v", err)
		}
	})
}

// schemaOf is a schema of the house, as JSON.
func schemaOf(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../schemas", name))
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// fieldsIn lists the fields that a schema describes, as docs/policy.md writes them.
func fieldsIn(defs, schema map[string]any, path string) (fields []string) {
	if ref, ok := schema["$ref"].(string); ok {
		return fieldsIn(defs, defs[filepath.Base(ref)].(map[string]any), path)
	}
	if items, ok := schema["items"].(map[string]any); ok && items["$ref"] != nil {
		return fieldsIn(defs, items, path+"[]")
	}
	if values, ok := schema["additionalProperties"].(map[string]any); ok && values["$ref"] != nil {
		return fieldsIn(defs, values, path+".NAME")
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, property := range properties {
		p := strings.TrimPrefix(path+"."+name, ".")
		fields = append(fields, p)
		if p != "segments[].channels" && p != "calendars.open" { // like others
			fields = append(fields, fieldsIn(defs, property.(map[string]any), p)...)
		}
	}
	return fields
}

// The reference lists every field of the schema, with what the default policy says.
func TestTheReferenceListsEveryField(t *testing.T) {
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:`([^`]*)` )?\\|").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = m[2]
	}
	p := decision.Default()
	schema := schemaOf(t, "policy.schema.json")
	for _, field := range fieldsIn(schema["$defs"].(map[string]any), schema, "") {
		said, listed := rows[field]
		delete(rows, field)
		switch {
		case field == "experiment": // its fields have a section of their own
			continue
		case !listed:
			t.Errorf("docs/policy.md does not list %s", field)
			continue
		case strings.Contains(field, "[]"): // of items that the default does not have, but for Christmas
			continue
		}
		at := tree(&p)
		for name := range strings.SplitSeq(strings.Replace(field, "NAME", "email", 1), ".") {
			fields, _ := at.(map[string]any)
			at = fields[name]
		}
		want := leaf(at)
		if named, ok := fieldsOf(at); ok {
			want = strings.Join(slices.Sorted(maps.Keys(named)), ", ")
		}
		if field == "calendars" {
			want = ""
		}
		if said != want {
			t.Errorf("docs/policy.md says that %s is %q by default, it is %q", field, said, want)
		}
	}
	for field := range rows {
		t.Errorf("docs/policy.md lists %s, which there is not", field)
	}
}

// The command lines of the reference are accepted.
func TestTheReferencesCommandsAreCommands(t *testing.T) {
	alone(t)
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^tempismo ([^>#\n]+)`).FindAllStringSubmatch(string(text), -1)
	if len(lines) < 5 {
		t.Fatalf("%d command lines", len(lines))
	}
	for _, l := range lines {
		k, err := parser(new(commands), io.Discard, io.Discard, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Parse(strings.Fields(l[1])); err != nil {
			t.Errorf("%s: %v", l[0], err)
		}
	}
}

// The example is what editors would take as well.
func TestTheExamplePolicyFitsTheSchema(t *testing.T) {
	text, err := os.ReadFile(examplePolicy)
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Load(text, &root); err != nil {
		t.Fatal(err)
	}
	r := policyReader{marks: map[string]mark{}}
	document, err := json.Marshal(r.tree("", &root))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.NewCompiler().Compile("../../schemas/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Error(err)
	}
}
