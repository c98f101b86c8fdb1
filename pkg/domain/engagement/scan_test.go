package engagement

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// FuzzParse holds the scanner to encoding/json: what the scanner accepts, encoding/json accepts with the same result.
func FuzzParse(f *testing.F) {
	stories, err := filepath.Glob("testdata/events/*.json")
	if err != nil || len(stories) == 0 {
		f.Fatalf("no seeds in testdata/events: %v", err)
	}
	for _, name := range stories {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			f.Add([]byte(strings.TrimSuffix(line, "\n")))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var usual, fast, slow Event
		if usual.usual(b) {
			if err := slow.decode(b); err != nil || usual != slow {
				t.Fatalf("in the usual order %+v\nencoding/json      %+v, %v", usual, slow, err)
			}
			slow = Event{}
		}
		if fast.scan(b) {
			if err := slow.decode(b); err != nil {
				t.Fatalf("the scanner accepts what encoding/json does not: %v", err)
			}
			if fast != slow {
				t.Fatalf("scanner       %+v\nencoding/json %+v", fast, slow)
			}
			if a, b := fast.check(), slow.Validate(); (a == nil) != (b == nil) {
				t.Fatalf("check says %v, Validate %v", a, b)
			}
		}
		// What Parse accepts survives its own encoding.
		var first, second Event
		if first.Parse(b) == nil {
			again := first.Append(nil)
			if len(again) > MaxEvent {
				return
			}
			if err := second.Parse(again); err != nil || first != second {
				t.Fatalf("read   %+v\nagain  %+v (%v)\nthrough %s", first, second, err, again)
			}
		}
	})
}

// strict is the grammar of RFC 3339, section 5.6, in the upper case that CloudEvents uses.
var strict = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// FuzzTime holds the parser of times to package time, which is more generous (it takes a comma for a point, one digit for
// two, any offset) but refuses leap seconds.
func FuzzTime(f *testing.F) {
	for _, s := range []string{
		"2026-12-03T09:41:52.104Z", "2026-12-03T10:41:52+01:00", "2000-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z",
		"2026-12-03T09:41:52.1234567899Z", "2026-12-03T09:41:52,5Z", "2026-12-03T9:41:52Z", "2026-12-03t09:41:52z", "2026-12-03T24:00:00Z", "2026-13-03T09:41:52Z",
		"2026-04-31T09:41:52Z", "2026-12-03T09:41:52+24:00", "2026-12-03T09:41:52-00:60", "2026-12-03T09:41:52.Z", "2026-12-03 09:41:52Z", "+026-12-03T09:41:52Z", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want time.Time
		err := want.UnmarshalText([]byte(s))
		got, ok := parseTime(s)
		if ok && len(s) > 19 && s[17:19] == "60" {
			return
		}
		if ok != (err == nil && strict.MatchString(s)) || ok && !got.Equal(want) {
			t.Fatalf("%q: got %v, %v; time.Time says %v, %v", s, got, ok, want, err)
		}
	})
}

func TestLeapSecondIsTheSecondThatFollows(t *testing.T) {
	want := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, s := range []string{"2016-12-31T23:59:60Z", "2017-01-01T00:59:60+01:00"} {
		if got, ok := parseTime(s); !ok || !got.Equal(want) {
			t.Errorf("%s: got %v, %v; want %v", s, got, ok, want)
		}
	}
	if got, ok := parseTime("2016-12-31T12:00:60Z"); ok {
		t.Errorf("a sixtieth second at noon was read as %v", got)
	}
}

// The usual forms must not take the slow way, or the hot path is slow without anybody noticing.
func TestUsualEventsAreScanned(t *testing.T) {
	b, err := os.ReadFile("testdata/events/usual.json")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		var e Event
		if !e.scan([]byte(line)) {
			t.Errorf("line %d needs encoding/json: %s", n, line)
		}
		if written := e.Append(nil); !new(Event).usual(written) {
			t.Errorf("line %d needs names looked up once it is written by Append: %s", n, written)
		}
	}
	if n == 0 {
		t.Error("no events")
	}
}
