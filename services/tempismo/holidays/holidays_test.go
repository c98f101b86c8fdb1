package holidays

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
)

//go:generate go test -run TestTheEmbeddedItalyIsThatOfTheLibrary -update .

var update = flag.Bool("update", false, "write pkg/domain/calendar/italy.json")

// The domain imports no library, so its calendar of Italy is a file that is written here.
func TestTheEmbeddedItalyIsThatOfTheLibrary(t *testing.T) {
	b, err := between(decision.Calendars{National: []string{"IT"}}, 2026, 2010, 2045)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("../../../pkg/domain/calendar/italy.json", append(want, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := json.MarshalIndent(calendar.Italy, "", " "); err != nil || string(got) != string(want) {
		t.Errorf("the embedded calendar is not that of the library: go generate ./...\n%s\n%v", got, err)
	}
}

func resolved(t testing.TB, c decision.Calendars) *calendar.Book {
	t.Helper()
	b, err := Resolve(c, 2026)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func day(t testing.TB, text string) calendar.Day {
	t.Helper()
	d, err := calendar.ParseDay(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestResolve(t *testing.T) {
	type cal = decision.Calendars
	type place = calendar.Place
	closure := func(name, from, to, every, until string, where place) decision.Closure {
		return decision.Closure{Name: name, From: from, To: to, Every: every, Until: until, Where: where}
	}
	closed := func(c ...decision.Closure) cal { return cal{Closures: c} }
	var nowhere place
	it, all := cal{National: []string{"IT"}}, cal{National: []string{"IT"}, Regional: true, Municipal: true, Bank: true}
	municipal := cal{National: []string{"IT"}, Municipal: true}
	rows := []struct {
		name  string
		c     cal
		day   string
		place place
		want  string // name, kind and place; empty: open
	}{
		{"a nation's day", it, "2026-06-02", place{Country: "IT"}, "Festa della Repubblica, national, Italy"},
		{"is none of another nation", it, "2026-06-02", place{Country: "FR"}, ""},
		{"a customer without a country lives in the first", cal{National: []string{"FR", "IT"}}, "2026-07-14", nowhere, "Fête Nationale, national, France"},
		{"and not in the second", cal{National: []string{"FR", "IT"}}, "2026-06-02", nowhere, ""},
		{"Germany", cal{National: []string{"DE"}}, "2026-10-03", nowhere, "Tag der Deutschen Einheit, national, Germany"},
		{"Austria", cal{National: []string{"AT"}}, "2026-10-26", nowhere, "Nationalfeiertag, national, Austria"},
		{"Switzerland closes what every canton does", cal{National: []string{"CH"}}, "2026-08-01", nowhere, "Bundesfeiertag, national, Switzerland"},
		{"and not what one does", cal{National: []string{"CH"}}, "2026-03-19", nowhere, ""},
		{"a British holiday on a Saturday", cal{National: []string{"GB"}}, "2026-12-26", nowhere, "Boxing Day, national, United Kingdom"},
		{"and the Monday on which it is made up for", cal{National: []string{"GB"}}, "2026-12-28", nowhere, "Boxing Day, national, United Kingdom"},
		{"an American New Year that is made up for in the year before", cal{National: []string{"US"}}, "2021-12-31", nowhere, "New Year's Day, national, United States"},

		{"Whit Monday is closed in the province of Bolzano", cal{National: []string{"IT"}, Regional: true}, "2026-05-25", place{Province: "BZ"}, "Lunedì di Pentecoste, regional, Bolzano"},
		{"and where only the comune is known", cal{National: []string{"IT"}, Regional: true}, "2026-05-25", place{Comune: "bozen"}, "Lunedì di Pentecoste, regional, Bolzano"},
		{"and in its other comuni", cal{National: []string{"IT"}, Regional: true}, "2026-05-25", place{Province: "BZ", Comune: "Merano"}, "Lunedì di Pentecoste, regional, Bolzano"},
		{"and not in Trento", cal{National: []string{"IT"}, Regional: true}, "2026-05-25", place{Province: "TN"}, ""},
		{"nor where nothing is known", cal{National: []string{"IT"}, Regional: true}, "2026-05-25", nowhere, ""},
		{"nor if regions are not asked for", it, "2026-05-25", place{Province: "BZ"}, ""},

		{"a patron saint of the comune", municipal, "2026-12-07", place{Comune: "Milano"}, "Sant'Ambrogio, municipal, Milano"},
		{"by its English name", municipal, "2026-12-07", place{Country: "IT", Comune: "MILAN"}, "Sant'Ambrogio, municipal, Milano"},
		{"of the capital, where only the province is known", municipal, "2026-12-07", place{Province: "MI"}, "Sant'Ambrogio, municipal, Milano"},
		{"but not for another comune of the province", municipal, "2026-12-07", place{Province: "MI", Comune: "Sesto San Giovanni"}, ""},
		{"nor where nothing is known", municipal, "2026-12-07", nowhere, ""},
		{"nor if municipalities are not asked for", it, "2026-12-07", place{Comune: "Milano"}, ""},
		{"a name with an accent, and without", municipal, "2026-02-04", place{Comune: "Forli'"}, "Madonna del Fuoco, municipal, Forlì"},
		{"a name with a longer form", municipal, "2026-11-24", place{Comune: "Reggio nell’Emilia"}, "San Prospero Vescovo, municipal, Reggio Emilia"},
		{"a province of two capitals keeps the days of both", municipal, "2026-06-24", place{Province: "FC"}, "San Giovanni Battista, municipal, Cesena"},
		{"and its capitals only their own", municipal, "2026-06-24", place{Comune: "Forlì"}, ""},
		{"the first Tuesday of May in Asti", municipal, "2026-05-05", place{Province: "AT"}, "San Secondo di Asti, municipal, Asti"},
		{"which may be the first of May", municipal, "2029-05-01", place{Province: "AT"}, "San Secondo di Asti, municipal, Asti"},
		{"the third Sunday of September in Andria", municipal, "2026-09-20", place{Comune: "Andria"}, "San Riccardo di Andria, municipal, Andria"},
		{"the Thursday after the second Sunday of May in Carbonia", municipal, "2026-05-14", place{Comune: "Carbonia"}, "San Ponziano, municipal, Carbonia"},
		{"a municipality's day has its name although the nation is closed", municipal, "2026-10-04", place{Comune: "Bologna"}, "San Petronio, municipal, Bologna"},
		{"the operator's table outranks the built-in one", cal{Municipal: true, Patrons: map[string]string{"Milan": "12-09"}}, "2026-12-09", place{Comune: "Milano"}, "Santo patrono, municipal, Milan"},
		{"so the built-in day is open", cal{Municipal: true, Patrons: map[string]string{"Milan": "12-09"}}, "2026-12-07", place{Comune: "Milano"}, ""},
		{"and holds for the province as well", cal{Municipal: true, Patrons: map[string]string{"Milan": "12-09"}}, "2026-12-09", place{Province: "MI"}, "Santo patrono, municipal, Milan"},
		{"and may know comuni that the built-in one does not", cal{Municipal: true, Patrons: map[string]string{"Sesto San Giovanni": "06-24"}}, "2026-06-24", place{Province: "MI", Comune: "sesto san giovanni"}, "Santo patrono, municipal, Sesto San Giovanni"},

		{"T2 is closed on Good Friday", cal{Bank: true}, "2026-04-03", nowhere, "Good Friday, bank, T2"},
		{"and on Saturdays", cal{Bank: true}, "2026-12-05", nowhere, "weekend, bank, T2"},
		{"and Sundays", cal{Bank: true}, "2026-12-06", nowhere, "weekend, bank, T2"},
		{"and not on Italian holidays", cal{Bank: true}, "2026-06-02", nowhere, ""},
		{"all calendars, and a day that is open", all, "2026-12-03", place{Comune: "Milano"}, ""},

		{"a closure of one day", closed(closure("inventory", "2026-12-30", "", "", "", nowhere)), "2026-12-30", nowhere, "inventory, closure, "},
		{"is over on the next", closed(closure("inventory", "2026-12-30", "", "", "", nowhere)), "2026-12-31", nowhere, ""},
		{"and does not recur", closed(closure("inventory", "2026-12-30", "", "", "", nowhere)), "2027-12-30", nowhere, ""},
		{"a span includes its last day", closed(closure("summer", "2026-08-10", "2026-08-21", "", "", nowhere)), "2026-08-21", nowhere, "summer, closure, "},
		{"and no more", closed(closure("summer", "2026-08-10", "2026-08-21", "", "", nowhere)), "2026-08-22", nowhere, ""},
		{"a span recurs each year", closed(closure("winter", "2025-12-30", "2026-01-02", "year", "", nowhere)), "2031-01-02", nowhere, "winter, closure, "},
		{"a span that begins before what is known", closed(closure("winter", "2010-12-30", "2011-01-02", "year", "", nowhere)), "2016-01-02", nowhere, "winter, closure, "},
		{"not before it first did", closed(closure("winter", "2025-12-30", "2026-01-02", "year", "", nowhere)), "2025-01-02", nowhere, ""},
		{"a closure that began long ago", closed(closure("feast", "1901-05-05", "", "year", "", nowhere)), "2026-05-05", nowhere, "feast, closure, "},
		{"each week", closed(closure("Monday", "2026-01-05", "", "week", "", nowhere)), "2026-12-07", nowhere, "Monday, closure, "},
		{"until a day", closed(closure("Monday", "2026-01-05", "", "week", "2026-12-01", nowhere)), "2026-12-07", nowhere, ""},
		{"until the very day", closed(closure("Monday", "2026-01-05", "", "week", "2026-12-07", nowhere)), "2026-12-07", nowhere, "Monday, closure, "},
		{"until the middle of a span", closed(closure("days", "2026-01-05", "2026-01-07", "week", "2026-12-07", nowhere)), "2026-12-08", nowhere, ""},
		{"each month", closed(closure("pay", "2026-01-31", "", "month", "", nowhere)), "2026-03-31", nowhere, "pay, closure, "},
		{"left out where the month is too short", closed(closure("pay", "2026-01-31", "", "month", "", nowhere)), "2026-03-03", nowhere, ""},
		{"a leap day", closed(closure("leap", "2020-02-29", "", "year", "", nowhere)), "2028-02-29", nowhere, "leap, closure, "},
		{"is no other day in other years", closed(closure("leap", "2020-02-29", "", "year", "", nowhere)), "2026-03-01", nowhere, ""},
		{"a closure of a place", closed(closure("works", "2026-12-03", "", "", "", place{Comune: "Milano"})), "2026-12-03", place{Comune: "Milan"}, "works, closure, Milano"},
		{"not elsewhere", closed(closure("works", "2026-12-03", "", "", "", place{Comune: "Milano"})), "2026-12-03", place{Comune: "Monza"}, ""},
		{"a closure of a region, where only the capital is known", closed(closure("works", "2026-12-03", "", "", "", place{Region: "Lombardia"})), "2026-12-03", place{Comune: "Monza"}, "works, closure, Lombardia"},
		{"or only the province", closed(closure("works", "2026-12-03", "", "", "", place{Region: "Valle d'Aosta"})), "2026-12-03", place{Province: "AO"}, "works, closure, Valle d'Aosta"},
		{"or another name of the region", closed(closure("works", "2026-12-03", "", "", "", place{Region: "Valle d'Aosta"})), "2026-12-03", place{Region: "Vallée d’Aoste"}, "works, closure, Valle d'Aosta"},
		{"not in another region", closed(closure("works", "2026-12-03", "", "", "", place{Region: "Lombardia"})), "2026-12-03", place{Province: "TO"}, ""},
		{"a closure of a province, where only the capital is known", closed(closure("works", "2026-12-03", "", "", "", place{Province: "MB"})), "2026-12-03", place{Comune: "Monza"}, "works, closure, MB"},
		{"a closure abroad is not taken for an Italian one", closed(closure("works", "2026-12-03", "", "", "", place{Country: "FR", Province: "MI"})), "2026-12-03", place{Comune: "Milano"}, ""},

		{"an open day outranks a nation's", cal{National: []string{"IT"}, Open: []decision.Closure{closure("shop", "2026-12-08", "", "", "", nowhere)}}, "2026-12-08", nowhere, ""},
		{"and a closure", cal{Closures: []decision.Closure{closure("inventory", "2026-12-30", "", "", "", nowhere)}, Open: []decision.Closure{closure("shop", "2026-12-30", "", "", "", nowhere)}}, "2026-12-30", nowhere, ""},
		{"each year", cal{National: []string{"IT"}, Open: []decision.Closure{closure("shop", "2020-12-08", "", "year", "", nowhere)}}, "2026-12-08", nowhere, ""},
		{"only where it holds", cal{National: []string{"IT"}, Open: []decision.Closure{closure("shop", "2026-12-08", "", "", "", place{Province: "MI"})}}, "2026-12-08", place{Province: "TO"}, "Immacolata Concezione, national, Italy"},
		{"no calendars close nothing", cal{}, "2026-12-25", nowhere, ""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := ""
			if h, closed := resolved(t, r.c).Closed(day(t, r.day), r.place); closed {
				got = h.Name + ", " + string(h.Kind) + ", " + h.In
			}
			if got != r.want {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
}

// The last New Year of what is known is made up for in it, though it lies in the year after.
func TestAHolidayThatIsMadeUpForInTheYearBefore(t *testing.T) {
	b, err := Resolve(decision.Calendars{National: []string{"US"}}, 2022)
	if err != nil {
		t.Fatal(err)
	}
	if h, closed := b.Closed(day(t, "2032-12-31"), calendar.Place{}); !closed || h.Name != "New Year's Day" {
		t.Errorf("%+v, %v", h, closed)
	}
}

func TestTheDaysOfAYearWithEverything(t *testing.T) {
	b := resolved(t, decision.Calendars{National: []string{"IT"}, Regional: true, Municipal: true, Bank: true})
	counts := map[calendar.Kind]int{}
	for _, h := range b.Year(2026, calendar.Place{Province: "BZ"}) {
		counts[h.Kind]++
	}
	// Twelve national holidays, Whit Monday which is Bolzano's patron day as well, Good Friday, and what is left of 104 weekend
	// days: Easter Sunday, 25 April, 15 August, 4 October, 1 November and 26 December fall on them.
	for kind, want := range map[calendar.Kind]int{calendar.National: 13, calendar.Municipal: 1, calendar.Regional: 0, calendar.Bank: 1 + 104 - 6} {
		if counts[kind] != want {
			t.Errorf("%s: %d days, want %d", kind, counts[kind], want)
		}
	}
}

func TestWhatCannotBeResolved(t *testing.T) {
	_, err := Resolve(decision.Calendars{
		National: []string{"IT", "XX", "IT"}, Municipal: true, Patrons: map[string]string{"Milano": "13-07", "Monza": "1 tue 05"},
		Closures: []decision.Closure{{Name: "a", From: "2026-02-30"}, {Name: "b", From: "2026-01-01", Every: "decade"}},
		Open:     []decision.Closure{{Name: "c", From: "2026-01-01", To: "soon", Until: "later"}},
	}, 2026)
	problems := decision.Problems{}
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	var paths []string
	for _, p := range problems {
		paths = append(paths, strings.TrimPrefix(p.Path, "calendars."))
	}
	want := []string{"national[1]", "national[2]", "patrons.Milano", "patrons.Monza", "closures[0].from", "closures[0].to", "closures[1].every", "open[0].to", "open[0].until"}
	if !slices.Equal(paths, want) {
		t.Errorf("got problems with %q, want %q", paths, want)
	}
}

func TestDoubts(t *testing.T) {
	at := func(p calendar.Place) decision.Calendars {
		return decision.Calendars{Closures: []decision.Closure{{Name: "x", From: "2026-01-01", Where: p}}}
	}
	rows := []struct {
		name string
		c    decision.Calendars
		want string // path; empty: no doubt
	}{
		{"a capital", at(calendar.Place{Comune: "Milano"}), ""},
		{"a capital in capitals", at(calendar.Place{Comune: "FORLI'"}), ""},
		{"a comune that is no capital may well be one", at(calendar.Place{Comune: "Sesto San Giovanni"}), ""},
		{"a letter that was left out", at(calendar.Place{Comune: "Miano"}), "closures[0].where.comune"},
		{"a letter too many", at(calendar.Place{Comune: "Millano"}), "closures[0].where.comune"},
		{"another letter", at(calendar.Place{Comune: "Milaco"}), "closures[0].where.comune"},
		{"two letters are another name", at(calendar.Place{Comune: "Milazzo"}), ""},
		{"a short name is another name", at(calendar.Place{Comune: "Rema"}), ""},
		{"a province", at(calendar.Place{Province: "mi"}), ""},
		{"a province that nobody knows", at(calendar.Place{Province: "XY"}), "closures[0].where.province"},
		{"a province abroad", at(calendar.Place{Country: "FR", Province: "XY"}), ""},
		{"a region by one of its names", at(calendar.Place{Region: "sudtirol"}), ""},
		{"a region that nobody knows", at(calendar.Place{Region: "Padania"}), "closures[0].where.region"},
		{"patrons for nothing", decision.Calendars{Patrons: map[string]string{"Milano": "12-07"}}, "patrons"},
		{"patrons for something", decision.Calendars{Municipal: true, Patrons: map[string]string{"Milano": "12-07"}}, ""},
		{"a patron of a comune that is nearly a capital", decision.Calendars{Municipal: true, Patrons: map[string]string{"Milamo": "12-07"}}, "patrons.Milamo"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := ""
			for _, p := range Doubts(r.c) {
				got += strings.TrimPrefix(p.Path, "calendars.")
			}
			if got != r.want {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
}

func TestABookOfEverythingIsSmall(t *testing.T) {
	b := resolved(t, decision.Calendars{National: []string{"IT"}, Regional: true, Municipal: true, Bank: true,
		Closures: []decision.Closure{{Name: "Mondays", From: "2020-01-06", Every: "week"}}})
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 40<<10 { // it travels in every record of a policy
		t.Errorf("has %d bytes", len(text))
	}
	again := new(calendar.Book)
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatal(err)
	}
	for _, p := range b.Places() {
		if x, y := b.Year(2026, p), again.Year(2026, p); !slices.Equal(x, y) {
			t.Errorf("%v: %v became %v", p, x, y)
		}
	}
}

// Every province has a capital with a day, each day exists in every year, and each line says something of its own.
func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range provinces {
		if !slices.ContainsFunc(patrons, func(q patron) bool { return q.province == p.code }) {
			t.Errorf("%s has no capital in patrons.csv", p.code)
		}
	}
	for _, p := range patrons {
		if !slices.ContainsFunc(provinces, func(q province) bool { return q.code == p.province }) {
			t.Errorf("%s lies in %s, which is not in provinces.csv", p.comune, p.province)
		}
		line := p.comune + " " + p.day(2026).String()
		if seen[line] || p.saint == "" {
			t.Errorf("%s: twice, or without a name", line)
		}
		seen[line] = true
		for y := 2016; y <= 2036; y++ {
			if d := p.day(y); d.Year != y || d.Add(0) != d {
				t.Errorf("%s: %v in %d", p.comune, d, y)
			}
		}
	}
}

// The table was carried over from public data, except where it is known to be another town's.
func TestTheTableAgreesWithThePublicData(t *testing.T) {
	folder := os.Getenv("TEMPISMO_DATA")
	if folder == "" {
		t.Skip("TEMPISMO_DATA is not set: the days of patron saints are not compared with public data")
	}
	text, err := os.ReadFile(filepath.Join(folder, "italy", "patroni_province_vacanza.csv"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, f := range mustCSV(string(text)) {
		province, name, date := f[0], f[1], f[3]
		if date == "" || province == "PG" { // Assisi's days; Perugia's is San Costanzo
			continue
		}
		compared++
		if !slices.ContainsFunc(patrons, func(p patron) bool {
			return (p.province == province || p.named(name)) && p.day(2026).String() == "2026-"+date
		}) {
			t.Errorf("%s (%s) keeps %s", name, province, date)
		}
	}
	if compared < 100 {
		t.Errorf("compared %d days only", compared)
	}
}

func BenchmarkClosedInMilano(b *testing.B) {
	book := resolved(b, decision.Calendars{National: []string{"IT"}, Regional: true, Municipal: true, Bank: true})
	d, in := day(b, "2026-12-07"), calendar.Place{Country: "IT", Region: "Lombardia", Province: "MI", Comune: "Milano"}
	b.ReportAllocs()
	for b.Loop() {
		book.Closed(d, in)
	}
}
