package truth

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schema = "../../../schemas/truth.schema.json"

var monday = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

func week(v float64) Week {
	w := make(Week, 168)
	for h := range w {
		w[h] = v
	}
	return w
}

func yes() *bool { b := true; return &b }

// full is a truth with every field set, and one with none but the id.
func full() (Header, []Customer) {
	quiet := monday.AddDate(0, 0, 182)
	h := Header{Version: 1, Simulator: "tempismo town", Seed: 7, Customers: 2, From: monday, QuietUntil: quiet, To: quiet.AddDate(0, 0, 56),
		Outages: []Span{{monday.Add(31 * time.Hour), monday.Add(40 * time.Hour)}}}
	later := week(1)
	later[3], later[4] = .5, 1.5
	return h, []Customer{
		{Customer: "C-00001", Zone: "Europe/Rome", Persona: "evening readers", Null: yes(), Since: monday.AddDate(0, 0, 9), Attention: week(1), Response: week(.25), Episodes: []Episode{
			{Kind: Holiday, Span: Span{monday.AddDate(0, 0, 30), monday.AddDate(0, 0, 44)}},
			{Kind: Shift, Span: Span{From: monday.AddDate(0, 0, 60)}, Hours: -8, Attention: later, Response: week(.125)},
		}},
		{Customer: "bare"},
	}
}

func written(t *testing.T, h Header, customers []Customer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, h, slices.Values(customers)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	h, customers := full()
	text := written(t, h, customers)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"plain": text, "gzipped": packed.Bytes()} {
		gotHeader, got, err := Read(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(gotHeader, h) {
			t.Errorf("%s: header\ngot  %+v\nwant %+v", name, gotHeader, h)
		}
		if !reflect.DeepEqual(got, customers) {
			t.Errorf("%s: customers\ngot  %+v\nwant %+v", name, got, customers)
		}
	}
}

func TestErrorsNameLineAndField(t *testing.T) {
	const header = `{"truth":1}` + "\n"
	numbers := strings.TrimSuffix(strings.Repeat("1,", 168), ",")
	for _, c := range []struct{ sentence, text, want string }{
		{"an empty file is no truth", "\n\n", "is empty"},
		{"a file of another kind has no header", `{"specversion":"1.0"}`, "line 1: truth: want 1"},
		{"a later version is not guessed at", `{"truth":2}`, "got 2"},
		{"a line that is no JSON", header + "{", "line 2: unexpected end"},
		{"a customer has an id", header + "\n" + `{"zone":"Europe/Rome"}`, "line 3: customer: is required"},
		{"one line a customer", header + `{"customer":"a"}` + "\n" + `{"customer":"a"}`, `line 3: customer: "a" is in line 2 already`},
		{"a number where a name should be", header + `{"customer":"a","zone":7}`, "line 2: zone: want string, got a number"},
		{"a zone that nobody has", header + `{"customer":"a","zone":"Mars"}`, `line 2: zone: zone "Mars"`},
		{"a week has 168 hours", header + `{"customer":"a","attention":[1,2]}`, "line 2: attention: has 2 numbers"},
		{"attention is not negative", header + `{"customer":"a","attention":[-1,` + numbers[2:] + `]}`, "line 2: attention: hour 0 is -1"},
		{"nobody has no attention at all", header + `{"customer":"a","attention":[` + strings.ReplaceAll(numbers, "1", "0") + `]}`, "line 2: attention: is 0 at every hour"},
		{"a response is a probability", header + `{"customer":"a","response":[1.5,` + numbers[2:] + `]}`, "line 2: response: hour 0 is 1.5; want 0 to 1"},
		{"an episode has a kind", header + `{"customer":"a","episodes":[{"from":"2026-01-05T00:00:00Z"}]}`, "line 2: episodes[0].kind: is required"},
		{"an episode has a beginning", header + `{"customer":"a","episodes":[{"kind":"burst"}]}`, "line 2: episodes[0].from: is required"},
		{"an episode ends after it begins", header + `{"customer":"a","episodes":[{"kind":"burst","from":"2026-01-05T00:00:00Z","to":"2026-01-04T00:00:00Z"}]}`, "episodes[0].to: lies before from"},
		{"episodes are in order", header + `{"customer":"a","episodes":[{"kind":"burst","from":"2026-01-05T00:00:00Z"},{"kind":"burst","from":"2026-01-04T00:00:00Z"}]}`, "episodes[1].from: lies before"},
		{"a clock has twelve hours each way", header + `{"customer":"a","episodes":[{"kind":"shift","from":"2026-01-05T00:00:00Z","hours":16}]}`, "episodes[0].hours: 16"},
		{"an episode's habits are checked", header + `{"customer":"a","episodes":[{"kind":"shift","from":"2026-01-05T00:00:00Z","response":[1]}]}`, "episodes[0].response: has 1 numbers"},
		{"a file that was cut off", `{"truth":1,"customers":2}` + "\n" + `{"customer":"a"}`, "line 1: customers: 2, but 1 lines follow"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			if _, _, err := Read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}

func TestWhatAnotherSimulatorLeavesOutIsCopedWith(t *testing.T) {
	_, got, err := Read(strings.NewReader(`{"truth":1,"model":"ours"}
{"customer":"a","episodes":[{"kind":"moved house","from":"2026-07-07T00:00:00Z","street":"Main"}]}
{"customer":"b"}`)) // and no line feed at the end
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Episodes[0].Kind != "moved house" || got[1].Null != nil || got[1].Attention != nil {
		t.Errorf("%+v", got)
	}
}

func TestWhoIsNull(t *testing.T) {
	quiet := monday.AddDate(0, 0, 182)
	before, after := quiet.Add(-time.Hour), quiet.Add(time.Hour)
	no := false
	for _, c := range []struct {
		sentence string
		customer Customer
		want     bool
	}{
		{"who is said to be null is", Customer{Null: yes(), Episodes: []Episode{{Kind: Burst, Span: Span{From: after}}}}, true},
		{"who is said not to be is not", Customer{Null: &no}, false},
		{"who nothing is told of is", Customer{}, true},
		{"a shift of the past is over", Customer{Episodes: []Episode{{Kind: Shift, Span: Span{From: before}}}}, true},
		{"a silence of the past that goes on is not", Customer{Episodes: []Episode{{Kind: Silent, Span: Span{From: before}}}}, false},
		{"nor is one that ends later", Customer{Episodes: []Episode{{Kind: Silent, Span: Span{before, after}}}}, false},
		{"what ended in time is over", Customer{Episodes: []Episode{{Kind: Silent, Span: Span{before, quiet}}}}, true},
		{"a shift that is to come counts", Customer{Episodes: []Episode{{Kind: Shift, Span: Span{From: quiet}}}}, false},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			if got := c.customer.IsNull(quiet); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestHabitsAreThoseOfTheLastShift(t *testing.T) {
	_, customers := full()
	c := &customers[0]
	shift := c.Episodes[1].From
	if a, r := c.At(shift.Add(-time.Second)); a[4] != 1 || r[0] != .25 {
		t.Errorf("before the shift: %v, %v", a[4], r[0])
	}
	if a, r := c.At(shift); a[4] != 1.5 || r[0] != .125 {
		t.Errorf("after the shift: %v, %v", a[4], r[0])
	}
	if a, r := customers[1].At(shift); a != nil || r != nil {
		t.Errorf("of a customer who nothing is known of: %v, %v", a, r)
	}
}

// TestTheSchemaDescribesTheFormat holds the schema to what Write writes: it allows that, names every field of the Go types
// and no other, and refuses lines that Read refuses, as far as a schema can.
func TestTheSchemaDescribesTheFormat(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	s, err := compiler.Compile(schema)
	if err != nil {
		t.Fatal(err)
	}
	validate := func(line string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	h, customers := full()
	lines := strings.Split(strings.TrimSpace(string(written(t, h, customers))), "\n")
	named := map[string]map[string]any{}
	for def, line := range map[string]string{"header": lines[0], "customer": lines[1]} {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatal(err)
		}
		named[def] = object
	}
	named["span"] = named["header"]["outages"].([]any)[0].(map[string]any)
	named["episode"] = named["customer"]["episodes"].([]any)[1].(map[string]any)
	named["episode"]["to"] = "2026-01-05T00:00:00Z"
	for def, object := range named {
		sub, err := compiler.Compile(schema + "#/$defs/" + def)
		if err != nil {
			t.Fatal(err)
		}
		for name := range sub.Properties {
			if _, ok := object[name]; !ok {
				t.Errorf("the schema has %s.%s, Go does not write it", def, name)
			}
		}
		for name := range object {
			if sub.Properties[name] == nil {
				t.Errorf("Go writes %s.%s, which is not in the schema", def, name)
			}
		}
	}
	for _, line := range lines {
		if err := validate(line); err != nil {
			t.Error(err)
		}
	}
	for _, line := range []string{
		`{}`, `{"truth":2}`, `{"customer":""}`, `{"customer":"a","zone":1}`, `{"customer":"a","attention":[1]}`, `{"customer":"a","null":1}`,
		`{"customer":"a","episodes":[{"kind":"burst"}]}`, `{"customer":"a","since":"yesterday"}`,
		fmt.Sprintf(`{"customer":"a","response":[%s2]}`, strings.Repeat("1,", 167)),
	} {
		if validate(line) == nil {
			t.Errorf("the schema allows %s", line)
		}
	}
}

func FuzzRead(f *testing.F) {
	h, customers := full()
	var b bytes.Buffer
	if err := Write(&b, h, slices.Values(customers)); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		h, customers, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Write(&b, h, slices.Values(customers)); err != nil {
			return // a year that RFC 3339 has no digits for
		}
		againHeader, again, err := Read(&b)
		if err != nil {
			t.Fatalf("what was read is written and cannot be read again: %v", err)
		}
		if againHeader.Seed != h.Seed || len(again) != len(customers) {
			t.Errorf("%+v and %d customers, want %+v and %d", againHeader, len(again), h, len(customers))
		}
	})
}
