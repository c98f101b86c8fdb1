package words

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBothCataloguesSayTheSameThings(t *testing.T) {
	hole := regexp.MustCompile(`\{\d\}`)
	holes := func(s string) []string {
		h := hole.FindAllString(s, -1)
		slices.Sort(h)
		return slices.Compact(h)
	}
	en, it := langs["en"].texts, langs["it"].texts
	for key, text := range en {
		other, ok := it[key]
		if !ok {
			t.Errorf("Italian has no %q", key)
			continue
		}
		if !slices.Equal(holes(text), holes(other)) {
			t.Errorf("%q: %v in English, %v in Italian", key, holes(text), holes(other))
		}
		if other == text && len(text) > 8 && key != "nav" && !strings.HasPrefix(key, "rule.") {
			t.Errorf("%q is not translated: %q", key, text)
		}
	}
	for key := range it {
		if _, ok := en[key]; !ok {
			t.Errorf("English has no %q", key)
		}
	}
}

func TestNumbersFollowTheLanguage(t *testing.T) {
	for _, c := range []struct {
		name, en, it string
		say          func(*Lang) string
	}{
		{"thousands and decimals", "1,234,567.5", "1.234.567,5", func(l *Lang) string { return l.Num(1234567.5, 1) }},
		{"a percentage", "41.8%", "41,8\u00a0%", func(l *Lang) string { return l.Pct(.418, 1) }},
		{"a true minus", "−2.1", "−2,1", func(l *Lang) string { return l.Signed(-2.1, 1) }},
		{"a plus", "+0.4", "+0,4", func(l *Lang) string { return l.Signed(.4, 1) }},
		{"no minus before a zero", "+0.0", "+0,0", func(l *Lang) string { return l.Signed(-.01, 1) }},
		{"a date", "Thu 3 Dec", "gio 3 dic", func(l *Lang) string { return l.Day(time.Date(2026, 12, 3, 0, 0, 0, 0, time.UTC)) }},
		{"a plural", "2 days", "2 giorni", func(l *Lang) string { return l.N("ev.days", 2) }},
		{"a singular", "1 day", "1 giorno", func(l *Lang) string { return l.N("ev.days", 1) }},
		{"hours and minutes", "1\u00a0h 52\u00a0min", "1\u00a0h 52\u00a0min", func(l *Lang) string { return l.Duration(112 * time.Minute) }},
		{"a whole hour", "2\u00a0h", "2\u00a0h", func(l *Lang) string { return l.Duration(2 * time.Hour) }},
		{"days", "3\u00a0d 4\u00a0h", "3\u00a0g 4\u00a0h", func(l *Lang) string { return l.Duration(76 * time.Hour) }},
		{"shortened counts", "154\u00a0k", "154\u00a0k", func(l *Lang) string { return l.Compact(154321) }},
	} {
		for code, want := range map[string]string{"en": c.en, "it": c.it} {
			if got := c.say(In(code)); got != want {
				t.Errorf("%s in %s: %q, want %q", c.name, code, got, want)
			}
		}
	}
}

func TestTheBrowserChoosesTheLanguage(t *testing.T) {
	for header, want := range map[string]string{
		"":                                "en",
		"it-IT,it;q=0.9,en;q=0.8":         "it",
		"en-GB,en;q=0.9,it;q=0.8":         "en",
		"de,fr;q=0.9,it;q=0.5,en;q=0.4":   "it",
		"de-AT, *;q=0.1":                  "en",
		"en;q=broken, it;q=0.2;level=1, ": "it",
	} {
		if got := Accepted(header).Code; got != want {
			t.Errorf("Accept-Language %q: %s, want %s", header, got, want)
		}
	}
}
