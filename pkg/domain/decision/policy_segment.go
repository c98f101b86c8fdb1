package decision

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/tempismo/tempismo/pkg/domain/customer"
)

// Fits reports whether every condition of s holds for a customer. Of a customer of whom nothing is known none does.
func (s *Segment) Fits(a *customer.Attributes) bool {
	for name, c := range s.When {
		if held, _ := c.Holds(name, a); !held {
			return false
		}
	}
	return true
}

// Holds reports whether the attribute of a name is what c says, and the attribute as it was found, in its JSON form; "" where
// it is not known, and then it is not what c says. The names value, segment, zone, country, region, province and comune are
// the fields of customer.Attributes; all others are those of its field More.
func (c *Condition) Holds(name string, a *customer.Attributes) (held bool, found string) {
	f := factOf(name, a)
	if f.json == "" {
		return false, ""
	}
	held = (len(c.Is) == 0 || slices.ContainsFunc(c.Is, f.is)) &&
		(c.Min == nil || f.numeric && f.number >= *c.Min) &&
		(c.Max == nil || f.numeric && f.number < *c.Max)
	return held, f.json
}

// fact is one thing that is known of a customer.
type fact struct {
	json    string // empty: not known
	text    string // without the quotes
	number  float64
	numeric bool
}

// is compares numbers as numbers, so that 5 is 5.0, and everything else letter by letter.
func (f *fact) is(want string) bool {
	if n, err := strconv.ParseFloat(want, 64); err == nil && f.numeric {
		return n == f.number
	}
	return want == f.text
}

func factOf(name string, a *customer.Attributes) fact {
	if a == nil {
		return fact{}
	}
	switch name {
	case "value":
		if a.Value == nil {
			return fact{}
		}
		text := strconv.FormatFloat(*a.Value, 'f', -1, 64)
		return fact{json: text, text: text, number: *a.Value, numeric: true}
	case "segment":
		return textFact(a.Segment)
	case "zone":
		return textFact(a.Zone)
	case "country":
		return textFact(a.Place.Country)
	case "region":
		return textFact(a.Place.Region)
	case "province":
		return textFact(a.Place.Province)
	case "comune":
		return textFact(a.Place.Comune)
	}
	return factIn(a.More[name])
}

func textFact(s string) fact {
	if s == "" {
		return fact{}
	}
	return fact{json: strconv.Quote(s), text: s}
}

// factIn reads an attribute of the operator's own. Lists and objects say nothing that a condition could ask for.
func factIn(raw json.RawMessage) fact {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return fact{}
	}
	switch v := v.(type) {
	case string:
		return fact{json: string(raw), text: v}
	case bool:
		return fact{json: string(raw), text: strconv.FormatBool(v)}
	case float64:
		return fact{json: string(raw), text: string(raw), number: v, numeric: true}
	}
	return fact{}
}
