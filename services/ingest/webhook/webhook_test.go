package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

var clock = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func TestFresh(t *testing.T) {
	const hour = time.Hour
	for _, tt := range []struct {
		name   string
		made   time.Time
		oldest time.Duration
		fresh  bool
	}{
		{"now", clock, Tolerance, true},
		{"just old enough", clock.Add(-Tolerance), Tolerance, true},
		{"stale", clock.Add(-Tolerance - 1), Tolerance, false},
		{"our clock is behind", clock.Add(Tolerance), Tolerance, true},
		{"from the future", clock.Add(Tolerance + 1), Tolerance, false},
		{"within a longer window", clock.Add(-hour), hour, true},
		{"a longer window is of the past alone", clock.Add(Tolerance + 1), hour, false},
		{"beyond what a duration can tell, in the past", time.Unix(-1<<60, 0), hour, false},
		{"beyond what a duration can tell, in the future", time.Unix(1<<60, 0), hour, false},
		{"no time", time.Time{}, hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Fresh(tt.made, clock, tt.oldest)
			if (err == nil) != tt.fresh || err != nil && !errors.Is(err, ErrUnverified) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewKeys(t *testing.T) {
	for _, tt := range []struct {
		name, list string
		least      int
		want       []string
		err        string
	}{
		{"none", "", 4, nil, ""},
		{"nothing but commas", " , ,", 4, nil, ""},
		{"one", "secret", 4, []string{"secret"}, ""},
		{"two, with room around them", " secret ,\tother\n", 4, []string{"secret", "other"}, ""},
		{"as short as can be", "four", 4, []string{"four"}, ""},
		{"one that is too short", "secret,abc", 4, nil, "fewer than 4 characters"},
		{"any length", "a,b", 0, []string{"a", "b"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := NewKeys(tt.list, tt.least)
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got error %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "abc") {
				t.Errorf("the error tells the secret: %v", err)
			}
			var got []string
			for _, key := range keys {
				got = append(got, string(key))
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestSigned(t *testing.T) {
	mac := func(key, text string) []byte {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	two := Keys{[]byte("old"), []byte("new")}
	flipped := mac("old", "time.body")
	flipped[len(flipped)-1] ^= 1
	for _, tt := range []struct {
		name string
		keys Keys
		mac  []byte
		want bool
	}{
		{"the first of two keys", two, mac("old", "time.body"), true},
		{"the second of two keys", two, mac("new", "time.body"), true},
		{"a foreign key", two, mac("foreign", "time.body"), false},
		{"another text", two, mac("new", "time.bodi"), false},
		{"one bit flipped", two, flipped, false},
		{"cut short", two, mac("old", "time.body")[:31], false},
		{"no signature", two, nil, false},
		{"no keys", nil, mac("", "time.body"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.keys.Signed(tt.mac, sha256.New, []byte("time."), []byte("body")); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestLogins(t *testing.T) {
	const anna, bruno = "anna:0123456789abcdef", "bruno:with:colons:in:it"
	for _, tt := range []struct {
		name, list string
		err        string // empty: none
	}{
		{"none", "", ""},
		{"two", anna + " , " + bruno, ""},
		{"no colon", anna + ",0123456789abcdef0123", "login 2 is not USER:PASSWORD"},
		{"no user", ":0123456789abcdef", "login 1 is not"},
		{"a short password", "anna:0123456789abcde", "at least 16 characters"},
		{"all problems at once", "a," + anna + ",b", "login 1 is not USER:PASSWORD with a password of at least 16 characters: use a long random one\nlogin 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewLogins(tt.list)
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got error %v", err)
			}
		})
	}
	logins, err := NewLogins(anna + "," + bruno)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		logins Keys
		login  string
		want   bool
	}{
		{"the first", logins, anna, true},
		{"the second", logins, bruno, true},
		{"another password", logins, "anna:0123456789abcdee", false},
		{"another user", logins, "bruno:0123456789abcdef", false},
		{"the beginning of a password", logins, "anna:0123456789abcde", false},
		{"nothing", logins, ":", false},
		{"nobody may", nil, anna, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.logins.Has(tt.login); got != tt.want {
				t.Errorf("Has: got %v", got)
			}
			r := http.Request{Header: http.Header{}}
			user, password, _ := strings.Cut(tt.login, ":")
			r.SetBasicAuth(user, password)
			if got := tt.logins.HasLogin(r.Header); got != tt.want {
				t.Errorf("HasLogin: got %v", got)
			}
		})
	}
	for _, header := range []string{"", "Basic", "Basic !", "Bearer " + anna} {
		if logins.HasLogin(http.Header{"Authorization": {header}}) {
			t.Errorf("%q is taken for a login", header)
		}
	}
}

func TestEncodings(t *testing.T) {
	for _, tt := range []struct {
		name     string
		decode   func(string) []byte
		in, want string
	}{
		{"hex", Hex, " 6D61c3ff\n", "ma\xc3\xff"},
		{"hex of odd length", Hex, "6d6", ""},
		{"hex of garbage", Hex, "zz", ""},
		{"no hex", Hex, "", ""},
		{"base64", Base64, " bWHD/w==\n", "ma\xc3\xff"},
		{"base64 without padding", Base64, "bWHD/w", ""},
		{"base64 of the alphabet for URLs", Base64, "bWHD_w==", ""},
		{"base64 of garbage", Base64, "not base64!", ""},
		{"no base64", Base64, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.decode(tt.in); string(got) != tt.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestID: consumers remember ids, so they must not change with a version.
func TestID(t *testing.T) {
	at := time.Date(2026, 12, 1, 12, 0, 0, 123_000_000, time.UTC)
	id := ID("postmark", "m-1", "anna@example.com", "open", at, "")
	if want := "641323f49572fe43558eddb18e0b1a0f"; id != want {
		t.Errorf("got %s, want %s", id, want)
	}
	if same := ID("postmark", "m-1", "anna@example.com", "open", at.Add(999).In(time.FixedZone("", 3600)), ""); same != id {
		t.Errorf("in another zone, and with less than a millisecond more, it is %s", same)
	}
	for name, other := range map[string]string{
		"provider":                       ID("brevo", "m-1", "anna@example.com", "open", at, ""),
		"message":                        ID("postmark", "m-2", "anna@example.com", "open", at, ""),
		"recipient":                      ID("postmark", "m-1", "bruno@example.com", "open", at, ""),
		"type":                           ID("postmark", "m-1", "anna@example.com", "click", at, ""),
		"time":                           ID("postmark", "m-1", "anna@example.com", "open", at.Add(time.Millisecond), ""),
		"link":                           ID("postmark", "m-1", "anna@example.com", "open", at, "https://example.com"),
		"where one ends, and one begins": ID("postmark", "m-1a", "nna@example.com", "open", at, ""),
	} {
		if other == id {
			t.Errorf("another %s has the same id", name)
		}
	}
}

func TestTimes(t *testing.T) {
	iso := func(raw json.RawMessage) (time.Time, error) { return ISO(string(raw)) }
	for _, tt := range []struct {
		name string
		read func(json.RawMessage) (time.Time, error)
		in   string
		want string // empty: an error
	}{
		{"seconds", Seconds, "1796205713", "2026-12-02T10:01:53Z"},
		{"seconds in a string", Seconds, `"1796205713"`, "2026-12-02T10:01:53Z"},
		{"seconds with a fraction", Seconds, "1796205713.0896761", "2026-12-02T10:01:53.09Z"},
		{"seconds with an exponent", Seconds, "1.796205713e9", "2026-12-02T10:01:53Z"},
		{"the first second", Seconds, "946684800", "2000-01-01T00:00:00Z"},
		{"before the first second", Seconds, "946684799", ""},
		{"the last second", Seconds, "4102444800", "2100-01-01T00:00:00Z"},
		{"after the last second", Seconds, "4102444801", ""},
		{"milliseconds that are said to be seconds", Seconds, "1796205713000", ""},
		{"no seconds", Seconds, "", ""},
		{"null", Seconds, "null", ""},
		{"true", Seconds, "true", ""},
		{"an object", Seconds, "{}", ""},
		{"not a number", Seconds, `"NaN"`, ""},
		{"infinity", Seconds, `"Inf"`, ""},
		{"beyond all numbers", Seconds, "1e999", ""},
		{"milliseconds", Millis, "1796205713089", "2026-12-02T10:01:53.089Z"},
		{"seconds that are said to be milliseconds", Millis, "1796205713", ""},
		{"the first millisecond", Millis, "946684800000", "2000-01-01T00:00:00Z"},
		{"before the first millisecond", Millis, "946684799999", ""},
		{"ISO", iso, "2026-12-02T10:01:53Z", "2026-12-02T10:01:53Z"},
		{"ISO with decimals and an offset", iso, "2026-12-02T12:01:53.1234567+02:00", "2026-12-02T10:01:53.1234567Z"},
		{"ISO without a zone", iso, "2026-12-02T10:01:53", ""},
		{"ISO before its time", iso, "1999-12-31T23:59:59Z", ""},
		{"ISO after its time", iso, "2100-01-01T00:00:00.001Z", ""},
		{"no date", iso, "2026-02-30T10:01:53Z", ""},
		{"no ISO", iso, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at, err := tt.read(json.RawMessage(tt.in))
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %v", at)
				}
				return
			}
			if got := at.Format(time.RFC3339Nano); err != nil || got != tt.want {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

func TestEach(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       []string // nil: an error
	}{
		{"an array", ` [ {"a":1}, {"b":[2]} ]`, []string{`{"a":1}`, `{"b":[2]}`}},
		{"one object", `{"a":1}`, []string{`{"a":1}`}},
		{"elements that are no object", `[1,null,{},"x"]`, []string{"1", "null", "{}", `"x"`}},
		{"nothing in it", `[]`, []string{}},
		{"text", `"x"`, nil},
		{"a number", `1`, nil},
		{"no JSON", `{"a":`, nil},
		{"two documents", `{}{}`, nil},
		{"an empty body", ``, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var read []string
			all, err := Each([]byte(tt.body), func(raw json.RawMessage) Element {
				read = append(read, string(raw))
				return Failed("a", "is number %d", len(read))
			})
			if tt.want == nil {
				if err == nil {
					t.Errorf("got %v", read)
				}
				return
			}
			if err != nil || len(all) != len(tt.want) {
				t.Fatalf("got %v, %v", all, err)
			}
			for i, e := range all {
				var field *engagement.FieldError
				if string(e.Raw) != tt.want[i] || read[i] != tt.want[i] || !errors.As(e.Err, &field) || field.Field != "a" {
					t.Errorf("element %d: got %s, %v", i, e.Raw, e.Err)
				}
			}
		})
	}
}

func TestRenamed(t *testing.T) {
	names := map[string]string{"subject": "customer_id or email"}
	plain := errors.New("plain")
	for _, tt := range []struct {
		name string
		err  error
		want string // empty: no error
	}{
		{"no error", nil, ""},
		{"a field with another name", Wrong("subject", "is required"), "engagement event: customer_id or email: is required"},
		{"a field without one", Wrong("data.link", "is too long"), "engagement event: data.link: is too long"},
		{"another error", plain, "plain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Renamed(tt.err, names)
			if (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      string // the field, or "ok"
	}{
		{"an object", `{"inner":{"id":7},"other":1}`, "ok"},
		{"a member of another form", `{"inner":[1]}`, "inner"},
		{"a member of a member", `{"inner":{"flag":1}}`, "inner.flag"},
		{"an array", `[]`, ""},
		{"no JSON", `{`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m struct {
				Inner struct {
					ID   Text `json:"id"`
					Flag bool `json:"flag"`
				} `json:"inner"`
			}
			err := Decode(json.RawMessage(tt.raw), &m)
			if tt.want == "ok" {
				if err != nil || m.Inner.ID != "7" {
					t.Errorf("got %+v, %v", m, err)
				}
				return
			}
			var field *engagement.FieldError
			if !errors.As(err, &field) || field.Field != tt.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestLooseForms: what a member is, by each function that reads one.
func TestLooseForms(t *testing.T) {
	for _, tt := range []struct {
		raw      string
		text     string
		first    string
		is       bool
		members  int // of an object; -1: it is none
		customer bool
	}{
		{raw: ``, members: -1, customer: true},
		{raw: `null`, members: -1, customer: true},
		{raw: `"C-1"`, text: "C-1", members: -1, customer: true},
		{raw: `"\u0041\n"`, text: "A\n", members: -1, customer: true},
		{raw: `20417`, text: "20417", members: -1, customer: true},
		{raw: `-1.50e3`, text: "-1.50e3", members: -1, customer: true},
		{raw: `12345678901234567890`, text: "12345678901234567890", members: -1, customer: true},
		{raw: `true`, is: true, members: -1},
		{raw: `false`, members: -1},
		{raw: `"true"`, text: "true", members: -1, customer: true},
		{raw: `["a","b"]`, first: "a", members: -1},
		{raw: `[7]`, first: "7", members: -1},
		{raw: `[{},"b"]`, members: -1},
		{raw: `[]`, members: -1},
		{raw: `{}`, members: 0},
		{raw: `{"email":"a","Email":"b"}`, members: 2},
		{raw: `{"a":`, members: -1},
		{raw: `"a`, members: -1, customer: true},
	} {
		t.Run(tt.raw, func(t *testing.T) {
			raw := json.RawMessage(tt.raw)
			if got := TextOf(raw); got != tt.text {
				t.Errorf("TextOf: got %q", got)
			}
			if json.Valid(raw) {
				text := Text("something else")
				if err := json.Unmarshal(raw, &text); err != nil || string(text) != tt.text {
					t.Errorf("Text: got %q, %v", text, err)
				}
			}
			if got := First(raw); got != tt.first {
				t.Errorf("First: got %q", got)
			}
			if got := True(raw); got != tt.is {
				t.Errorf("True: got %v", got)
			}
			if m := Object(raw); (m == nil) != (tt.members < 0) || m != nil && len(m) != tt.members {
				t.Errorf("Object: got %v", m)
			}
			id, err := Customer(raw, "vars.customer_id")
			var field *engagement.FieldError
			switch {
			case tt.customer && (err != nil || id != tt.text):
				t.Errorf("Customer: got %q, %v", id, err)
			case !tt.customer && (!errors.As(err, &field) || field.Field != "vars.customer_id"):
				t.Errorf("Customer: got %q, %v", id, err)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	if got := Address(" Anna@Example.COM\n"); got != "anna@example.com" {
		t.Errorf("got %q", got)
	}
}
