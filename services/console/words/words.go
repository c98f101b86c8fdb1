// Package words says what the console shows in English and Italian: the catalogue of texts, and numbers, dates and
// durations as each language writes them.
//
// It is not a general translation system: two catalogues with the same keys stand beside this file, {0} marks a value
// that was formatted already, and a plural is two keys. What a customer did is put into sentences in the console
// itself, from these texts.
package words

import (
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

//go:embed en.json it.json
var catalogues embed.FS

// Codes are the languages in the order in which the page offers them; the first is the default.
var Codes = []string{"en", "it"}

// Lang is one language. It is immutable and safe for concurrent use.
type Lang struct {
	Code      string
	texts     map[string]string
	thousands string
	decimal   string
	percent   string
}

var langs = func() map[string]*Lang {
	all := map[string]*Lang{
		"en": {Code: "en", thousands: ",", decimal: ".", percent: "%"},
		"it": {Code: "it", thousands: ".", decimal: ",", percent: "\u00a0%"},
	}
	for code, l := range all {
		b, err := catalogues.ReadFile(code + ".json")
		if err == nil {
			err = json.Unmarshal(b, &l.texts)
		}
		if err != nil {
			panic(fmt.Sprintf("words: embedded catalogue %q: %v", code, err)) // a build without it cannot speak
		}
	}
	return all
}()

// In returns the language of a code such as "it" or "it-IT"; the default where it is not spoken here.
func In(code string) *Lang {
	code, _, _ = strings.Cut(strings.ToLower(code), "-")
	if l := langs[code]; l != nil {
		return l
	}
	return langs[Codes[0]]
}

// Spoken reports whether a code, as it stands in an address or a cookie, is one of Codes.
func Spoken(code string) bool { return langs[code] != nil }

// Accepted returns the spoken language that an Accept-Language header wants most (RFC 9110, section 12.5.4).
func Accepted(header string) *Lang {
	best, weight := langs[Codes[0]], -1.0
	for part := range strings.SplitSeq(header, ",") {
		tag, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		params, _, _ = strings.Cut(params, ";")
		if v, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(v, 64); err != nil {
				continue
			}
		}
		code, _, _ := strings.Cut(strings.ToLower(tag), "-")
		if Spoken(code) && q > weight {
			best, weight = langs[code], q
		}
	}
	return best
}

// Has reports whether the catalogue has a key; wire values that are not known yet (a new reason) have none.
func (l *Lang) Has(key string) bool { _, ok := l.texts[key]; return ok }

// T returns the text of a key with {0}, {1} ... replaced by args, which are formatted already. A key that is missing
// shows itself, so that the fault is seen rather than an empty page.
func (l *Lang) T(key string, args ...string) string {
	s, ok := l.texts[key]
	if !ok {
		return key
	}
	for i, a := range args {
		s = strings.ReplaceAll(s, "{"+strconv.Itoa(i)+"}", a)
	}
	return s
}

// N is T for a number of things: it takes key.one or key.other, and {0} is the number. Both languages have just these
// two forms (Unicode CLDR; Italian's third, for millions in words, does not occur here).
func (l *Lang) N(key string, n int, args ...string) string {
	form := ".other"
	if n == 1 {
		form = ".one"
	}
	return l.T(key+form, append([]string{l.Int(n)}, args...)...)
}

// Num writes v with d decimals.
func (l *Lang) Num(v float64, d int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	s := strconv.FormatFloat(math.Abs(v), 'f', d, 64)
	whole, frac, _ := strings.Cut(s, ".")
	var b strings.Builder
	if v < 0 && strings.Trim(s, "0.") != "" {
		b.WriteString("−")
	}
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString(l.thousands)
		}
		b.WriteRune(c)
	}
	if d > 0 {
		b.WriteString(l.decimal)
		b.WriteString(frac)
	}
	return b.String()
}

// Int writes a whole number.
func (l *Lang) Int(n int) string { return l.Num(float64(n), 0) }

// Signed is Num with a plus before what is not negative.
func (l *Lang) Signed(v float64, d int) string {
	s := l.Num(v, d)
	if strings.HasPrefix(s, "−") {
		return s
	}
	return "+" + s
}

// Pct writes a share of 1 as a percentage with d decimals.
func (l *Lang) Pct(share float64, d int) string { return l.Num(100*share, d) + l.percent }

// Compact shortens counts above 10,000 to thousands and above ten million to millions, for axes.
func (l *Lang) Compact(v float64) string {
	switch {
	case v >= 1e7:
		return l.Num(v/1e6, 0) + "\u00a0M"
	case v >= 1e4:
		return l.Num(v/1e3, 0) + "\u00a0k"
	}
	return l.Num(v, 0)
}

// Weekday is the short name, 0 = Monday.
func (l *Lang) Weekday(d int) string { return l.list("days.short", d) }

// LongWeekday is the full name, 0 = Monday.
func (l *Lang) LongWeekday(d int) string { return l.list("days.long", d) }

// Day is a date such as "Thu 3 Dec", in t's own zone.
func (l *Lang) Day(t time.Time) string {
	return l.Weekday(int(t.Weekday()+6)%7) + " " + l.Date(t)
}

// Date is a date without its weekday, such as "3 Dec".
func (l *Lang) Date(t time.Time) string {
	return strconv.Itoa(t.Day()) + " " + l.list("months.short", int(t.Month())-1)
}

// LongMonth is the full name.
func (l *Lang) LongMonth(m time.Month) string { return l.list("months.long", int(m)-1) }

// Moment is a date with its hour and minute, such as "Thu 3 Dec 10:42".
func (l *Lang) Moment(t time.Time) string { return l.Day(t) + " " + t.Format("15:04") }

// Amount is a number with its unit, for figures in which both have sizes of their own.
type Amount struct{ Number, Unit string }

// Percent is the sign that follows a percentage, with its space where the language has one.
func (l *Lang) Percent() string { return l.percent }

// DurationParts says a span in its two largest units.
func (l *Lang) DurationParts(d time.Duration) []Amount {
	parts := func(a int64, ua string, b int64, ub string) []Amount {
		first := Amount{strconv.FormatInt(a, 10), "\u00a0" + ua}
		if b == 0 {
			return []Amount{first}
		}
		return []Amount{first, {strconv.FormatInt(b, 10), "\u00a0" + ub}}
	}
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return parts(s, "s", 0, "")
	case s < 3600:
		return parts((s+30)/60, "min", 0, "")
	case s < 48*3600:
		m := (s + 30) / 60
		return parts(m/60, "h", m%60, "min")
	}
	h := (s + 1800) / 3600
	return parts(h/24, l.T("unit.day"), h%24, "h")
}

// Duration is DurationParts as text: "1 h 52 min", "3 min", "40 s", "2 d 4 h".
func (l *Lang) Duration(d time.Duration) string {
	var s []string
	for _, a := range l.DurationParts(d) {
		s = append(s, a.Number+a.Unit)
	}
	return strings.Join(s, " ")
}

func (l *Lang) list(key string, i int) string {
	names := strings.Fields(l.texts[key])
	if i < 0 || i >= len(names) {
		return key
	}
	return names[i]
}
