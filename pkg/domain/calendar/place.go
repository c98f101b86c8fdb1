package calendar

import (
	"cmp"
	"unicode"
	"unicode/utf8"
)

// Place is where a customer lives, as far as it is known; closed days hold in places. All fields may be empty.
type Place struct {
	Country  string `json:"country,omitempty"`  // ISO 3166-1 alpha-2, e.g. IT
	Region   string `json:"region,omitempty"`   // e.g. Lombardia
	Province string `json:"province,omitempty"` // its abbreviation, e.g. MI
	Comune   string `json:"comune,omitempty"`   // municipality, e.g. Milano
}

// String is the finest thing that is known of the place, or nothing.
func (p Place) String() string { return cmp.Or(p.Comune, p.Province, p.Region, p.Country) }

// holds reports whether the rule holds for somebody who lives in a place; home is the country of places that name none.
func (r *Rule) holds(in *Place, home string) bool {
	for i := range r.Places {
		if r.Places[i].covers(in, home, r.Kind) {
			return true
		}
	}
	return len(r.Places) == 0
}

// covers reports whether p holds in: the finest field of p must be known of in, and equal; coarser fields must not contradict,
// since somebody whose comune is known need not have said its province.
//
// A patron saint is the comune's own affair. One that is given for a province is that of its capital, and holds for those of
// whom nothing but the province is known.
func (p *Place) covers(in *Place, home string, kind Kind) bool {
	if p.Country != "" && !SameName(p.Country, cmp.Or(in.Country, home)) {
		return false
	}
	if kind == Municipal && p.Comune == "" && in.Comune != "" {
		return false
	}
	known := false
	for _, f := range [...][2]string{{p.Comune, in.Comune}, {p.Province, in.Province}, {p.Region, in.Region}} {
		switch want, has := f[0], f[1]; {
		case want == "":
		case has == "" && known:
		case !SameName(want, has):
			return false
		default:
			known = true
		}
	}
	return true
}

// SameName reports whether two names of a place are the same in the letters that people agree about: capitals, accents,
// apostrophes and spaces do not count, so Forli', FORLÌ and Forlì are one place.
func SameName(a, b string) bool {
	if a == b {
		return true
	}
	for a != "" || b != "" {
		var x, y rune
		x, a = nextLetter(a)
		y, b = nextLetter(b)
		if x != y {
			return false
		}
	}
	return true
}

// nextLetter returns the first letter of s in its plainest form, and what follows it; 0 at the end.
func nextLetter(s string) (letter rune, rest string) {
	for s != "" && letter == 0 {
		r, n := utf8.DecodeRuneInString(s)
		letter, s = plainLetter(r), s[n:]
	}
	return letter, s
}

// plainLetter is a letter or digit in small, without its accent; 0 for every other sign.
func plainLetter(r rune) rune {
	if r < unicode.MaxASCII {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return 0
	}
	if !unicode.IsLetter(r) {
		return 0
	}
	r = unicode.ToLower(r)
	for _, f := range accents {
		for _, accented := range f.accented {
			if r == accented {
				return f.plain
			}
		}
	}
	return r
}

// accents are the letters of Latin-1 that carry one.
var accents = []struct {
	plain    rune
	accented string
}{
	{'a', "àáâãäå"}, {'c', "ç"}, {'e', "èéêë"}, {'i', "ìíîï"}, {'n', "ñ"}, {'o', "òóôõöø"}, {'u', "ùúûü"}, {'y', "ýÿ"},
}
