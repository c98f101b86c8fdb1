package customer

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

var told = time.Date(2026, 5, 12, 8, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	value := 812.5
	for _, row := range []struct {
		name, data string
		want       Attributes
	}{
		{"nothing is known", `{}`, Attributes{}},
		{"null is as good as absent", `{"zone":null,"place":null,"segment":null,"value":null,"channels":null,"consents":null,"preferred":null,"attributes":null}`, Attributes{}},
		{"fields of a later version are ignored", `{"segment":"premium","later":{"a":true},"consents":{"later":1}}`, Attributes{Segment: "premium"}},
		{"a zone is kept as told, for its readers to know or not", `{"zone":"Europe/Atlantis"}`, Attributes{Zone: "Europe/Atlantis"}},
		{"to be reached by no channel is not the same as not to be known", `{"channels":[]}`, Attributes{Channels: []string{}}},
		{"a consent is a yes or a no of a time", `{"consents":{"mailing":{"granted":false,"at":"2026-05-12T10:00:00+02:00"}}}`, Attributes{Consents: Consents{Mailing: &Consent{At: told}}}},
		{"an attribute that is null is not known", `{"attributes":{"clv":null}}`, Attributes{}},
		{
			"everything", `{"zone":"Europe/Rome","place":{"country":"IT","comune":"Milano"},"segment":"premium","value":812.5,"channels":["email"],
			"consents":{"pixel":{"granted":true,"at":"2026-05-12T08:00:00Z"}},"preferred":[{"days":["tue"],"from":"10:00","to":"12:00"}],"attributes":{"clv":"high","old":true,"n":1e3}}`,
			Attributes{
				Zone: "Europe/Rome", Place: calendar.Place{Country: "IT", Comune: "Milano"}, Segment: "premium", Value: &value, Channels: []string{"email"},
				Consents: Consents{Pixel: &Consent{Granted: true, At: told}}, Preferred: []Preference{{Days: []string{"tue"}, From: "10:00", To: "12:00"}},
				More: map[string]json.RawMessage{"clv": json.RawMessage(`"high"`), "old": json.RawMessage("true"), "n": json.RawMessage("1e3")},
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := Attributes{Zone: "left over"}
			if err := a.Parse([]byte(row.data)); err != nil || !reflect.DeepEqual(a, row.want) {
				t.Errorf("%+v, %v", a, err)
			}
			var again Attributes
			if err := again.Parse(a.Append(nil)); err != nil || !reflect.DeepEqual(a, again) {
				t.Errorf("%s reads as %+v, %v", a.Append(nil), again, err)
			}
		})
	}
}

func TestParseNamesTheField(t *testing.T) {
	long := `"` + strings.Repeat("x", maxName+1) + `"`
	for _, row := range []struct{ name, data, says string }{
		{"no JSON", `{`, "data: unexpected end of JSON input"},
		{"a list", `[]`, "data: is array, want an object"},
		{"nothing at all", `null`, "data: is no object"},
		{"more than is kept", `{"a":"` + strings.Repeat("x", MaxBytes) + `"}`, "data: has 8200 bytes, more than the 8192 allowed"},
		{"a segment that is a number", `{"segment":7}`, "data.segment: is number, want text"},
		{"a segment that is too long", `{"segment":` + long + `}`, "data.segment: has 65 bytes, more than the 64 allowed"},
		{"a zone that is too long", `{"zone":` + long + `}`, "data.zone: has 65 bytes"},
		{"a comune that is a list", `{"place":{"comune":["Milano"]}}`, "data.place.comune: is array, want text"},
		{"a comune that is too long", `{"place":{"comune":` + long + `}}`, "data.place.comune: has 65 bytes"},
		{"a country in words", `{"place":{"country":"Italy"}}`, `data.place.country: "Italy" is not two capital letters`},
		{"a country in three letters", `{"place":{"country":"ITA"}}`, `data.place.country: "ITA" is not`},
		{"a country in small letters", `{"place":{"country":"it"}}`, `data.place.country: "it" is not`},
		{"a value that is no number", `{"value":"high"}`, "data.value: is string, want a number"},
		{"a value beyond all numbers", `{"value":1e999}`, "data.value: is number 1e999, want a number within range"},
		{"a channel with a name that no engagement has", `{"channels":["email","E mail"]}`, `data.channels[1]: "E mail" must be 1 to 64 of a-z`},
		{"a consent that is a word", `{"consents":{"pixel":"yes"}}`, "data.consents.pixel: is string, want an object"},
		{"a consent without an answer", `{"consents":{"pixel":{"at":"2026-05-12T08:00:00Z"}}}`, "data.consents.pixel.granted: is required"},
		{"an answer that is no truth value", `{"consents":{"mailing":{"granted":"no","at":"2026-05-12T08:00:00Z"}}}`, "data.consents.mailing.granted: is string, want true or false"},
		{"a consent of no time", `{"consents":{"pixel":{"granted":false}}}`, "data.consents.pixel.at: is required"},
		{"a consent of a day", `{"consents":{"pixel":{"granted":false,"at":"2026-05-12"}}}`, `data.consents.pixel.at: "2026-05-12" is no time such as`},
		{"a consent before all mail", `{"consents":{"pixel":{"granted":false,"at":"0001-01-01T00:00:00Z"}}}`, "data.consents.pixel.at: must lie in"},
		{"a day that is none", `{"preferred":[{"from":"10:00","to":"12:00"},{"days":["mon","martedì"],"from":"10:00","to":"12:00"}]}`, `data.preferred[1].days[1]: "martedì" is none of mon, tue`},
		{"a time of day that is none", `{"preferred":[{"from":"10:00","to":"25:00"}]}`, `data.preferred[0].from: window "10:00-25:00"`},
		{"half a time of day", `{"preferred":[{"from":"10:00"}]}`, "data.preferred[0].from: and to are required"},
		{"an attribute that is a list", `{"attributes":{"a":1,"tags":["x"]}}`, "data.attributes.tags: is neither text"},
		{"an attribute that is an object", `{"attributes":{"a":{}}}`, "data.attributes.a: is neither text"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var a Attributes
			if err := a.Parse([]byte(row.data)); err == nil || !strings.HasPrefix(err.Error(), row.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpenings(t *testing.T) {
	a := Attributes{Preferred: []Preference{{From: "21:30", To: "00:30"}, {Days: []string{"sun", "mon"}, From: "10:00", To: "12:00"}}}
	want := []calendar.Opening{
		{Window: calendar.Window{From: 1290, To: 30}},
		{Days: 1<<6 | 1, Window: calendar.Window{From: 600, To: 720}},
	}
	if got := a.Openings(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestErasure(t *testing.T) {
	for _, row := range []struct{ name, data, says string }{
		{"what pixels told", `{"signals":["open"],"erased_before":"2026-05-12T08:00:00Z","reason":"pixel consent withdrawn"}`, ""},
		{"no reason need be given", `{"signals":["open","all"],"erased_before":"2026-05-12T08:00:00Z"}`, ""},
		{"no JSON", `erase`, "data: invalid character"},
		{"no signals", `{"erased_before":"2026-05-12T08:00:00Z"}`, "data.signals: is required"},
		{"a signal that is none", `{"signals":["open","click"],"erased_before":"2026-05-12T08:00:00Z"}`, `data.signals[1]: "click" is neither`},
		{"no time", `{"signals":["all"]}`, "data.erased_before: is required"},
		{"a time that is none", `{"signals":["all"],"erased_before":"yesterday"}`, `data.erased_before: "yesterday" is no time`},
		{"a reason that is a story", `{"signals":["all"],"erased_before":"2026-05-12T08:00:00Z","reason":"` + strings.Repeat("x", maxReason+1) + `"}`, "data.reason: has 257 bytes"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := Erasure{Reason: "left over"}
			err := e.Parse([]byte(row.data))
			if row.says != "" {
				if err == nil || !strings.HasPrefix(err.Error(), row.says) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || string(e.Append(nil)) != row.data {
				t.Errorf("%s, %v", e.Append(nil), err)
			}
			if e.All() != strings.Contains(row.data, "all") || !e.Before.Equal(told) {
				t.Errorf("%+v", e)
			}
		})
	}
}

// What is read is written so that it is read again, in bytes that do not change any more, however odd it is.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"zone":"Europe/Rome","value":-0.0,"channels":[],"consents":{"pixel":{"granted":false,"at":"2026-05-12T08:00:00.5+02:00"}},"preferred":[{"days":[],"from":"10:00","to":"09:00"}],"attributes":{"a<b":"\u2028"," ":1e-7}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b Attributes
		if a.Parse(data) != nil {
			return
		}
		written := a.Append(nil)
		if len(written) > MaxBytes { // escapes make longer what was close to the bound
			return
		}
		if err := b.Parse(written); err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if again := b.Append(nil); string(again) != string(written) {
			t.Errorf("%s and then %s", written, again)
		}
		a.Openings()
	})
}

func FuzzErasure(f *testing.F) {
	f.Add([]byte(`{"signals":["all"],"erased_before":"2026-05-12T08:00:00.000000001+02:00","reason":"<&\u2028"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var x, again Erasure
		if x.Parse(data) != nil {
			return
		}
		if err := again.Parse(x.Append(nil)); err != nil || !reflect.DeepEqual(x, again) {
			t.Errorf("%+v is read as %+v, %v", x, again, err)
		}
	})
}
