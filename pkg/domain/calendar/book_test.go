package calendar

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func day(t testing.TB, text string) Day {
	t.Helper()
	d, err := ParseDay(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// book makes a Book of 2025 to 2028 whose rules are lines such as "municipal Sant'Ambrogio 2026-12-07 IT/Lombardia/MI/Milano".
func book(t testing.TB, lines ...string) *Book {
	t.Helper()
	var rules []Rule
	for _, line := range lines {
		f := strings.Fields(line)
		r := Rule{Kind: Kind(f[0]), Name: f[1], Days: []Day{day(t, f[2])}}
		for _, place := range f[3:] {
			r.Places = append(r.Places, placeOf(place))
		}
		rules = append(rules, r)
	}
	b, err := NewBook("test", "IT", 2025, 2028, rules)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// placeOf reads country/region/province/comune.
func placeOf(s string) Place {
	f := strings.SplitN(s+"///", "/", 5)
	return Place{f[0], f[1], f[2], f[3]}
}

func TestItaly(t *testing.T) {
	rows := []struct {
		name, day, want string
	}{
		{"New Year is closed", "2026-01-01", "Capodanno"},
		{"Easter is closed", "2026-04-05", "Pasqua"},
		{"Easter Monday is closed", "2026-04-06", "Pasquetta"},
		{"Good Friday is not a holiday", "2026-04-03", ""},
		{"the middle of August is closed", "2026-08-15", "Assunzione"},
		{"San Francesco is closed from 2026", "2026-10-04", "San Francesco d'Assisi"},
		{"San Francesco was open in 2025", "2025-10-04", ""},
		{"the eighth of December is closed", "2026-12-08", "Immacolata Concezione"},
		{"Sant'Ambrogio is Milan's own affair", "2026-12-07", ""},
		{"Christmas Eve is a working day", "2026-12-24", ""},
		{"of two holidays on one day the first has the name", "2011-04-25", "Pasquetta"},
		{"nothing is known of the time before the book", "2009-12-25", ""},
		{"nothing is known of the time after it", "2046-01-01", ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, closed := Italy.Closed(day(t, r.day), Place{})
			if got.Name != r.want || closed != (r.want != "") {
				t.Errorf("Closed(%v) = %+v, %v; want %q", r.day, got, closed, r.want)
			}
			if closed && (got.Kind != National || got.In != "Italy" || got.Day != day(t, r.day)) {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("a year has twelve holidays before 2026 and thirteen since", func(t *testing.T) {
		for year, want := range map[int]int{2012: 12, 2025: 12, 2026: 13, 2044: 13} {
			if got := Italy.Year(year, Place{Country: "IT"}); len(got) != want {
				t.Errorf("%d has %d holidays, want %d: %v", year, len(got), want, got)
			}
		}
	})
	t.Run("somebody who lives in Germany works on its days", func(t *testing.T) {
		if h, closed := Italy.Closed(day(t, "2026-06-02"), Place{Country: "DE"}); closed {
			t.Errorf("closed by %+v", h)
		}
	})
}

func TestABookThatIsNotThereClosesNoDay(t *testing.T) {
	christmas := day(t, "2026-12-25")
	for name, b := range map[string]*Book{"nil": nil, "zero": {}, "none": None} {
		if h, closed := b.Closed(christmas, Place{}); closed {
			t.Errorf("%s: closed by %+v", name, h)
		}
		if len(b.Year(2026, Place{})) > 0 || len(b.Places()) > 0 {
			t.Errorf("%s: has days or places", name)
		}
		if p := b.Find("MI"); p != (Place{Province: "MI"}) {
			t.Errorf("%s: found %+v", name, p)
		}
	}
}

// Every pair of kinds that meet on a day: the one that is asked first has the name, and an open day outranks all.
func TestPrecedence(t *testing.T) {
	for i, first := range kinds {
		for _, second := range kinds[i+1:] {
			t.Run(fmt.Sprintf("%s outranks %s", first, second), func(t *testing.T) {
				b := book(t, string(second)+" second 2026-12-07", string(first)+" first 2026-12-07")
				h, closed := b.Closed(day(t, "2026-12-07"), Place{})
				if closed != (first != Open) || closed && (h.Name != "first" || h.Kind != first) {
					t.Errorf("got %+v, %v", h, closed)
				}
			})
		}
	}
	t.Run("what outranks only does so where it holds", func(t *testing.T) {
		b := book(t, "national Immacolata 2026-12-08 IT", "open shop 2026-12-08 ///Milano")
		if _, closed := b.Closed(day(t, "2026-12-08"), Place{Comune: "Milano"}); closed {
			t.Error("Milano is closed")
		}
		if _, closed := b.Closed(day(t, "2026-12-08"), Place{Comune: "Monza"}); !closed {
			t.Error("Monza is open")
		}
	})
	t.Run("of one kind the first has the name", func(t *testing.T) {
		b := book(t, "closure first 2026-12-07", "closure second 2026-12-07")
		if h, _ := b.Closed(day(t, "2026-12-07"), Place{}); h.Name != "first" {
			t.Errorf("got %+v", h)
		}
	})
}

func TestWhereARuleHolds(t *testing.T) {
	rows := []struct {
		name, kind, rule, customer string
		closed                     bool
	}{
		{"a closure without a place holds everywhere", "closure", "", "DE", true},
		{"a nation's day holds for those of that country", "national", "IT", "IT", true},
		{"and for those of whom no country is known, if theirs is the first", "national", "IT", "", true},
		{"and not for others", "national", "IT", "DE", false},
		{"nor does one of another country hold where none is known", "national", "DE", "", false},
		{"a comune in small letters is the same", "municipal", "IT///Milano", "IT///milano", true},
		{"a comune without its accent is the same", "municipal", "IT///Forlì", "IT///FORLI'", true},
		{"a comune with the accent apart is the same", "municipal", "IT///Forlì", "IT///Forli\u0300", true},
		{"spaces and apostrophes do not count", "municipal", "IT///Reggio nell'Emilia", "IT///reggio-nell emilia", true},
		{"another comune is another", "municipal", "IT///Milano", "IT///Monza", false},
		{"a longer name is another", "municipal", "IT///Milano", "IT///Milano Marittima", false},
		{"a shorter name is another", "municipal", "IT///Milano Marittima", "IT///Milano", false},
		{"a comune of the same name abroad is another", "municipal", "IT///Milano", "DE///Milano", false},
		{"a comune says nothing of those whose comune is not known", "municipal", "IT///Milano", "IT//MI", false},
		{"a patron of a province holds where nothing finer is known", "municipal", "IT//MI", "IT//mi", true},
		{"and not where the comune is, which has its own", "municipal", "IT//MI", "IT//MI/Monza", false},
		{"a closure of a province holds in all its comuni", "closure", "IT//MI", "IT/Lombardia/MI/Monza", true},
		{"a closure of a region holds in its provinces, if the region is known", "closure", "IT/Lombardia", "IT/Lombardia/MI", true},
		{"and says nothing of those whose region is not", "closure", "IT/Lombardia", "IT//MI", false},
		{"a comune need not have said its province", "closure", "IT/Lombardia/MI/Milano", "IT///Milano", true},
		{"but must not contradict it", "closure", "IT//MI/Milano", "IT//RA/Milano", false},
		{"no letters are no name", "closure", "///Milano", "///--", false},
		{"invalid bytes are no letters", "closure", "///Milano", "///Mil\xffano", true},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			b := book(t, "national other 2026-01-01")
			rule := Rule{Name: "x", Kind: Kind(r.kind), Days: []Day{day(t, "2026-12-07")}}
			if r.rule != "" {
				rule.Places = []Place{placeOf(r.rule)}
			}
			b, err := NewBook("test", b.home, 2025, 2028, []Rule{rule})
			if err != nil {
				t.Fatal(err)
			}
			if _, closed := b.Closed(day(t, "2026-12-07"), placeOf(r.customer)); closed != r.closed {
				t.Errorf("closed = %v", closed)
			}
			if _, closed := b.Closed(day(t, "2026-12-06"), placeOf(r.customer)); closed {
				t.Error("the day before is closed")
			}
		})
	}
}

func TestFind(t *testing.T) {
	b := book(t, "national x 2026-01-01 IT", "national x 2026-01-01 FR", "closure x 2026-01-01 /Lombardia")
	rows := []struct {
		name, text string
		want       Place
	}{
		{"nothing is no place in particular", "", Place{}},
		{"a comune", "Milano", Place{Comune: "Milano"}},
		{"a province", "mi", Place{Province: "MI"}},
		{"a country of the book", "it", Place{Country: "IT"}},
		{"a country whose letters are a province's as well", "FR", Place{Country: "FR"}},
		{"and the province", "it-fr", Place{Country: "IT", Province: "FR"}},
		{"two letters that are no country of the book are a province", "DE", Place{Province: "DE"}},
		{"a region of the book", "lombardia", Place{Region: "lombardia"}},
		{"a name with a dash", "Forlì-Cesena", Place{Comune: "Forlì-Cesena"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := b.Find(r.text); got != r.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	b := book(t, "municipal a 2026-01-01 IT///Milano IT///Milan", "national b 2026-01-01 IT", "municipal c 2026-01-02 IT///Milano", "closure d 2026-01-01")
	want := []Place{{Country: "IT"}, {Country: "IT", Comune: "Milano"}}
	if got := b.Places(); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestTheSameDaysHaveTheSameName(t *testing.T) {
	a, again := book(t, "national x 2026-01-01 IT"), book(t, "national x 2026-01-01 IT")
	if a.Name != again.Name || !strings.HasPrefix(a.Name, "test.") {
		t.Errorf("%s and %s", a.Name, again.Name)
	}
	for _, other := range []string{"national x 2026-01-02 IT", "national x 2026-01-01 DE", "bank x 2026-01-01 IT", "national y 2026-01-01 IT"} {
		if b := book(t, other); b.Name == a.Name {
			t.Errorf("%s has the name of another book, %s", other, a.Name)
		}
	}
	t.Run("days that are outside of the years, or there twice, change nothing", func(t *testing.T) {
		b, err := NewBook("test", "IT", 2025, 2028, []Rule{
			{Name: "x", Kind: National, Places: []Place{{Country: "IT"}}, Days: []Day{{2029, 1, 1}, {2026, 1, 1}, {2024, 12, 31}, {2026, 1, 1}}},
			{Name: "z", Kind: Custom, Days: []Day{{2029, 1, 1}}},
		})
		if err != nil || b.Name != a.Name {
			t.Errorf("%v, %v", b, err)
		}
	})
}

func TestBooksThatCannotBeMade(t *testing.T) {
	for name, make := range map[string]func() (*Book, error){
		"a kind that nobody knows": func() (*Book, error) {
			return NewBook("x", "IT", 2025, 2026, []Rule{{Kind: "moon", Days: []Day{{2025, 1, 1}}}})
		},
		"years in the wrong order": func() (*Book, error) { return NewBook("x", "IT", 2026, 2025, nil) },
		"too many years":           func() (*Book, error) { return NewBook("x", "IT", 1, 2025, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := make(); err == nil {
				t.Errorf("made %+v", b)
			}
		})
	}
}

func TestDaysAreWrittenShortly(t *testing.T) {
	rows := []struct {
		name string
		days []string
		want []string
	}{
		{"a day of each year", []string{"2025-12-25", "2026-12-25", "2027-12-25", "2028-12-25"}, []string{"12-25"}},
		{"a day of all years but one", []string{"2026-12-25", "2027-12-25", "2028-12-25"}, []string{"2026-12-25", "2027-12-25", "2028-12-25"}},
		{"a span", []string{"2026-12-30", "2026-12-31", "2027-01-01"}, []string{"2026-12-30..2027-01-01"}},
		{"two days are no span", []string{"2026-12-30", "2026-12-31"}, []string{"2026-12-30", "2026-12-31"}},
		{"every week", []string{"2026-12-05", "2026-12-12", "2026-12-19"}, []string{"2026-12-05..2026-12-19/7"}},
		{"weekends", []string{"2026-12-05", "2026-12-06", "2026-12-12", "2026-12-13", "2026-12-19", "2026-12-20"}, []string{"2026-12-05..2026-12-19/7", "2026-12-06..2026-12-20/7"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var days []Day
			for _, s := range r.days {
				days = append(days, day(t, s))
			}
			if got := writeDays(days, 2025, 2028); !slices.Equal(got, r.want) {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
}

func TestABookSurvivesItsJSON(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.IntRange(1990, 2030).Draw(rt, "first")
		last := first + rapid.IntRange(0, 5).Draw(rt, "more")
		anyDay := rapid.Custom(func(rt *rapid.T) Day {
			return Day{first, 1, 1}.Add(rapid.IntRange(0, 366*(last-first+1)-1).Draw(rt, "day"))
		})
		rules := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) Rule {
			r := Rule{Name: rapid.String().Draw(rt, "name"), Kind: rapid.SampledFrom(kinds).Draw(rt, "kind")}
			switch d := anyDay.Draw(rt, "from"); rapid.IntRange(0, 3).Draw(rt, "shape") {
			case 0:
				r.Days = rapid.SliceOf(anyDay).Draw(rt, "days")
			case 1:
				for k := range rapid.IntRange(1, 60).Draw(rt, "span") {
					r.Days = append(r.Days, d.Add(k))
				}
			case 2:
				for k := range rapid.IntRange(1, 60).Draw(rt, "weeks") {
					r.Days = append(r.Days, d.Add(7*k))
				}
			case 3:
				for y := first; y <= last; y++ {
					r.Days = append(r.Days, Day{y, d.Month, min(d.Day, 28)})
				}
			}
			if rapid.Bool().Draw(rt, "local") {
				r.Places = []Place{{Country: "IT", Comune: rapid.SampledFrom([]string{"Milano", "Monza"}).Draw(rt, "comune")}}
			}
			return r
		}), 0, 6).Draw(rt, "rules")
		want, err := NewBook("x", "IT", first, last, rules)
		if err != nil {
			rt.Fatal(err)
		}
		text, err := json.Marshal(want)
		if err != nil {
			rt.Fatal(err)
		}
		got := new(Book)
		if err := json.Unmarshal(text, got); err != nil {
			rt.Fatalf("%s: %v", text, err)
		}
		// Asked day by day, and against the rules themselves, so that a mistake of the index shows as well.
		for _, in := range []Place{{}, {Comune: "Milano"}, {Comune: "Roma"}} {
			for d := (Day{first - 1, 12, 30}); d.Year <= last+1; d = d.Next() {
				a, closedA := want.Closed(d, in)
				b, closedB := got.Closed(d, in)
				if a != b || closedA != closedB {
					rt.Fatalf("%v in %q: %+v, %v became %+v, %v", d, in, a, closedA, b, closedB)
				}
				if naive := asRulesSay(rules, d, in, first, last); naive != closedA {
					rt.Fatalf("%v in %q: closed = %v, but the rules say %v", d, in, closedA, naive)
				}
			}
		}
		if again, err := json.Marshal(got); err != nil || string(again) != string(text) {
			rt.Fatalf("%s became %s, %v", text, again, err)
		}
	})
}

// asRulesSay asks rule after rule.
func asRulesSay(rules []Rule, d Day, in Place, first, last int) (closed bool) {
	for _, r := range rules {
		holds := len(r.Places) == 0 || r.Places[0].Comune == in.Comune
		if !holds || d.Year < first || d.Year > last || !slices.Contains(r.Days, d) {
			continue
		}
		if r.Kind == Open {
			return false
		}
		closed = true
	}
	return closed
}

func FuzzBook(f *testing.F) {
	f.Add([]byte(`{"name":"x","home":"IT","years":[2025,2028],"rules":[{"name":"a","kind":"national","places":[{"country":"IT"}],"days":["12-25","2026-04-05","2026-08-10..2026-08-21","2026-01-03..2028-12-30/7"]}]}`))
	f.Add([]byte(`{"name":"none","years":[0,0]}`))
	f.Add([]byte(`{"years":[2025,2028],"rules":[{"kind":"bank","days":["02-29","0001-01-01..9999-12-31"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := new(Book)
		if json.Unmarshal(data, b) != nil {
			return
		}
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again := new(Book)
		if err := json.Unmarshal(text, again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		first, _ := b.Years()
		if a, b := b.Year(first, Place{}), again.Year(first, Place{}); !slices.Equal(a, b) {
			t.Errorf("%v became %v", a, b)
		}
	})
}

func TestABookThatCannotBeReadNamesTheField(t *testing.T) {
	for _, r := range []struct{ text, want string }{
		{`{"years":[2025,2028],"rules":[{"kind":"bank","days":["12-25","2026-02-30"]}]}`, `rules[0].days[1]: "2026-02-30"`},
		{`{"years":[2025,2028],"rules":[{"kind":"bank","days":["13-25"]}]}`, `rules[0].days[0]: "13-25"`},
		{`{"years":[2025,2028],"rules":[{"kind":"bank","days":["2026-01-01..soon"]}]}`, `"soon"`},
		{`{"years":[2025,2028],"rules":[{"kind":"bank","days":["0001-01-01..2026-01-01"]}]}`, "rules[0].days[0]"},
		{`{"years":[2025,2028],"rules":[{"name":"x","kind":"moon","days":["12-25"]}]}`, `rule "x": kind "moon"`},
		{`{"years":[1901,2000],"rules":[` + strings.Repeat(`{"kind":"bank","days":["1901-01-01..2000-12-31"]},`, 28) + `{"kind":"bank","days":["1901-01-01..2000-12-31"]}]}`, "rules[28].days[0]: there are more than 1048576 days"},
		{`{"years":[2028,2025],"rules":[{"kind":"bank","days":["12-25"]}]}`, "years 2028 to 2025"},
		{`{"years":[0,0],"rules":[{"kind":"bank","days":["12-25"]}]}`, "years 0 to 0"},
	} {
		if err := json.Unmarshal([]byte(r.text), new(Book)); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v, want %s", r.text, err, r.want)
		}
	}
}

func BenchmarkClosed(b *testing.B) {
	d, in := Day{2026, time.December, 8}, Place{Country: "IT", Region: "Lombardia", Province: "MI", Comune: "Milano"}
	b.ReportAllocs()
	for b.Loop() {
		Italy.Closed(d, in)
	}
}
