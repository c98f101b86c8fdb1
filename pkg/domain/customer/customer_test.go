package customer

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, row := range []struct {
		name, data string
		want       Attributes
		says       string
	}{
		{"both fields", `{"zone":"Europe/Rome","segment":"premium"}`, Attributes{Zone: "Europe/Rome", Segment: "premium"}, ""},
		{"fields of a later version are ignored", `{"segment":"premium","later":{"a":true}}`, Attributes{Segment: "premium"}, ""},
		{"nothing is known", `{}`, Attributes{}, ""},
		{"no JSON", `{`, Attributes{}, "data:"},
		{"a segment that is a number", `{"segment":7}`, Attributes{}, "segment"},
		{"a segment that is too long", `{"segment":"` + strings.Repeat("x", 65) + `"}`, Attributes{}, "data.segment: has 65 bytes"},
	} {
		a := Attributes{Zone: "left over"}
		err := a.Parse([]byte(row.data))
		switch {
		case row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)):
			t.Errorf("%s: %v", row.name, err)
		case row.says == "" && (err != nil || !reflect.DeepEqual(a, row.want)):
			t.Errorf("%s: %+v, %v", row.name, a, err)
		}
	}
}
