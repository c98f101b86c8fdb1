package holidays

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// The provinces and regions of Italy are those of ISTAT, as of 2020.
//
//go:embed provinces.csv
var provincesCSV string

// A day of patrons.csv is MM-DD, or "1 tue 05" for the first Tuesday of May, or "2 sun 05 +4" for four days after the second
// Sunday, or "easter +50".
//
//go:embed patrons.csv
var patronsCSV string

// province is a line of provinces.csv.
type province struct {
	code   string
	region string // both names, where there are two: Valle d'Aosta/Vallée d'Aoste
}

// in reports whether the province lies in a region, by any of the region's names.
func (p *province) in(region string) bool {
	return slices.ContainsFunc(regionNames(p.region), func(name string) bool { return calendar.SameName(name, region) })
}

func regionNames(region string) []string {
	names := []string{region}
	if parts := strings.Split(region, "/"); len(parts) > 1 {
		names = append(names, parts...)
	}
	return names
}

// patron is a line of patrons.csv: a day of a capital. A capital may have several days, and a province several capitals.
type patron struct {
	province  string
	comune    string
	spellings []string
	saint     string
	day       func(year int) calendar.Day
}

// named reports whether a comune is meant, by any of its spellings.
func (p *patron) named(comune string) bool {
	return calendar.SameName(p.comune, comune) || slices.ContainsFunc(p.spellings, func(s string) bool { return calendar.SameName(s, comune) })
}

// places are the comune, by all spellings, and its province.
func (p *patron) places() []calendar.Place {
	return append(p.comuni(), calendar.Place{Country: italy, Province: p.province})
}

func (p *patron) comuni() []calendar.Place {
	list := []calendar.Place{{Country: italy, Comune: p.comune}}
	for _, s := range p.spellings {
		list = append(list, calendar.Place{Country: italy, Comune: s})
	}
	return list
}

// capital is the first line of a comune in patrons.csv, or nil.
func capital(comune string) *patron {
	for i := range patrons {
		if patrons[i].named(comune) {
			return &patrons[i]
		}
	}
	return nil
}

var (
	provinces = mustProvinces(provincesCSV)
	patrons   = mustPatrons(patronsCSV)
)

func mustProvinces(text string) (list []province) {
	for _, f := range mustCSV(text) {
		list = append(list, province{f[0], f[1]})
	}
	return list
}

func mustPatrons(text string) (list []patron) {
	for _, f := range mustCSV(text) {
		day, err := parseYearly(f[4])
		if err != nil {
			panic(fmt.Sprintf("patrons.csv: %s: %v", f[1], err))
		}
		p := patron{province: f[0], comune: f[1], saint: f[3], day: day}
		if f[2] != "" {
			p.spellings = strings.Split(f[2], "|")
		}
		list = append(list, p)
	}
	return list
}

// mustCSV reads an embedded table without its head.
func mustCSV(text string) [][]string {
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		panic(err)
	}
	return rows[1:]
}

// parseYearly reads a day that comes every year.
func parseYearly(rule string) (func(year int) calendar.Day, error) {
	base, plus, shifted := strings.Cut(rule, " +")
	shift := 0
	if shifted {
		var err error
		if shift, err = strconv.Atoi(plus); err != nil {
			return nil, fmt.Errorf("%q: %q is no number of days", rule, plus)
		}
	}
	if base == "easter" {
		return func(y int) calendar.Day { return easter(y).Add(shift) }, nil
	}
	if f := strings.Fields(base); len(f) == 3 {
		n, err := strconv.Atoi(f[0])
		weekday := slices.Index(weekdays, f[1])
		month, err2 := strconv.Atoi(f[2])
		if err != nil || err2 != nil || weekday < 0 || n < 1 || n > 4 || month < 1 || month > 12 {
			return nil, fmt.Errorf("%q: want e.g. 1 tue 05", rule)
		}
		return func(y int) calendar.Day {
			d := calendar.Day{Year: y, Month: time.Month(month), Day: 1}
			d = d.Add((weekday - int(d.Weekday()) + 7) % 7)
			return d.Add(7*(n-1) + shift)
		}, nil
	}
	d, err := calendar.ParseDay("2024-" + base) // a leap year
	if err != nil {
		return nil, fmt.Errorf("%q: want e.g. 12-07", rule)
	}
	return func(y int) calendar.Day { return calendar.Day{Year: y, Month: d.Month, Day: d.Day}.Add(shift) }, nil
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// wide lists the ways in which a customer's place can say that it lies in p: an operator who closes Lombardia means those of
// whom only the province or its capital is known as well.
func wide(p calendar.Place) []calendar.Place {
	list := []calendar.Place{p}
	if p.Country != "" && p.Country != italy {
		return list
	}
	if p.Comune != "" {
		if c := capital(p.Comune); c != nil {
			list = append(list, c.comuni()...)
		}
		return list
	}
	var inside []string // provinces
	for i := range provinces {
		switch q := &provinces[i]; {
		case p.Province != "" && calendar.SameName(q.code, p.Province):
			inside = append(inside, q.code)
		case p.Province == "" && p.Region != "" && q.in(p.Region):
			inside = append(inside, q.code)
			for _, name := range regionNames(q.region) {
				list = add(list, calendar.Place{Country: italy, Region: name})
			}
			list = append(list, calendar.Place{Country: italy, Province: q.code})
		}
	}
	for i := range patrons {
		if slices.Contains(inside, patrons[i].province) {
			for _, c := range patrons[i].comuni() {
				list = add(list, c)
			}
		}
	}
	return list
}

// add appends p unless it is there.
func add(list []calendar.Place, p calendar.Place) []calendar.Place {
	if slices.Contains(list, p) {
		return list
	}
	return append(list, p)
}
