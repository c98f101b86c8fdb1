// Package say puts what Tempismo measured and decided into sentences, in English and Italian: deviations, decisions and
// their rules, and what is known of a customer. The page and the command say the same.
//
// It takes values of the domain and the catalogue of package words, and gives plain text. It computes nothing that is not
// in those values, and knows no page.
package say

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tempismo/tempismo/services/console/words"
)

// Named translates a word of the wire, and shows it as it is where the catalogue does not know it yet.
func Named(l *words.Lang, prefix, word string) string {
	if l.Has(prefix + word) {
		return l.T(prefix + word)
	}
	return word
}

// personaName is how the fit names personas: a weekday, perhaps; a part of the day; hours or a number that tell namesakes
// apart.
var personaName = regexp.MustCompile(`^(?:([A-Za-z]+) )?(all-day|night|early morning|morning|midday|afternoon|evening|late evening) readers(.*)$`)

// Persona is the name of a persona. One that an operator or another fit has named stays as it is.
func Persona(l *words.Lang, name string) string {
	m := personaName.FindStringSubmatch(name)
	if m == nil || m[1] != "" && !l.Has("persona.on."+m[1]) {
		return name
	}
	s := l.T("persona." + m[2])
	if m[1] != "" {
		s = l.T("persona.on", s, l.T("persona.on."+m[1]))
	}
	return s + m[3]
}

// title makes a word of the wire the beginning of a sentence.
func title(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

func round(v float64) int { return int(math.Round(v)) }

// span says days, from four weeks on as weeks.
func span(l *words.Lang, days int) string {
	if days >= 28 {
		return l.N("ev.weeks", (days+3)/7)
	}
	return l.N("ev.days", days)
}

// Hour is an hour of the day, two digits.
func Hour(h int) string { return fmt.Sprintf("%02d", (h%24+24)%24) }

// Days lists dates: "30 Nov and 1 Dec".
func Days(l *words.Lang, days []time.Time) string {
	var list []string
	for _, d := range days {
		list = append(list, l.Date(d))
	}
	return join(l, list)
}

// join makes a list of words a part of a sentence: "a, b and c".
func join(l *words.Lang, list []string) string {
	if n := len(list); n > 1 {
		return l.T("list.and", strings.Join(list[:n-1], ", "), list[n-1])
	}
	return strings.Join(list, "")
}
