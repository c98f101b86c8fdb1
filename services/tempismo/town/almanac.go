package town

import (
	"math"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

// place is where people live; shares add up to 100.
type place struct {
	zone  string
	share int
}

var places = [...]place{{"Europe/Rome", 92}, {"Europe/Berlin", 3}, {"Europe/London", 3}, {"America/New_York", 2}}

// home is the place of the company, by whose clock mail goes out.
const home = 0

// campaign is mail that goes to everybody on its list at about the same moment of the company's clock.
type campaign struct {
	name     string
	days     [7]bool // Sunday first, as time.Weekday counts
	hours    []int   // one of them, changing from week to week, as marketing departments do
	audience float64
	gifts    bool // only in the weeks before Christmas
}

var campaigns = [...]campaign{
	{"weekly-edit", [7]bool{2: true}, []int{9, 12, 17}, .75, false},
	{"offers", [7]bool{4: true}, []int{18, 10, 14}, .5, false},
	{"weekend", [7]bool{6: true}, []int{10, 8}, .3, false},
	{"journal", [7]bool{1: true, 3: true, 5: true}, []int{7, 13}, .12, false},
	{"gifts", [7]bool{1: true, 5: true}, []int{11, 20}, .4, true},
}

// issue is one mailing of a campaign.
type issue struct {
	campaign int
	at       int64   // unix seconds at which the first copies go out
	stamp    string  // of its day
	appeal   float64 // how much better than others it does with everybody
}

// day is what is the same for all people of a place on a day.
type day struct {
	date       time.Time // its midnight
	start, end int64     // unix milliseconds
	weekday    time.Weekday
	rest       bool    // a weekend or a public holiday
	season     float64 // visits against the mean day of the year
	issues     []issue // of the day before, the day and the day after by the company's clock
}

// almanac computes each day of each place once.
type almanac struct {
	seed    uint64
	start   time.Time
	zones   [len(places)]*time.Location
	days    [len(places)][]day
	outages []outage // by quarter of a year
}

// outage is when the feed was down, in unix milliseconds; from == to: not in this quarter.
type outage struct{ from, to int64 }

const quarterOfYear = 91 * 24 * time.Hour

func newAlmanac(c *Config) (*almanac, error) {
	a := &almanac{seed: c.Seed, start: c.Start}
	for i, p := range places {
		z, err := calendar.Zone(p.zone)
		if err != nil {
			return nil, err
		}
		a.zones[i] = z
	}
	return a, nil
}

// day returns the n-th day of the town in a place.
func (a *almanac) day(place, n int) *day {
	for len(a.days[place]) <= n {
		a.days[place] = append(a.days[place], a.compute(place, len(a.days[place])))
	}
	return &a.days[place][n]
}

// midnight is when the n-th day begins in a place.
func (a *almanac) midnight(place, n int) time.Time {
	y, m, d := a.start.Date()
	return time.Date(y, m, d+n, 0, 0, 0, 0, a.zones[place])
}

func (a *almanac) compute(place, n int) day {
	date, end := a.midnight(place, n), a.midnight(place, n+1)
	d := day{date: date, start: date.UnixMilli(), end: end.UnixMilli(), weekday: date.Weekday(), season: season(date)}
	_, closed := calendar.Italy.Closed(calendar.DayOf(date.Add(12*time.Hour), a.zones[place]), calendar.Place{})
	d.rest = d.weekday == time.Saturday || d.weekday == time.Sunday || closed && place == home
	for k := -1; k <= 1; k++ {
		there := a.midnight(home, n+k)
		y, m, dd := there.Date()
		_, week := there.ISOWeek()
		for j := range campaigns {
			c := &campaigns[j]
			gifts := m == time.November && dd >= 20 || m == time.December && dd <= 23
			if !c.days[there.Weekday()] || c.gifts && !gifts {
				continue
			}
			stamp := y*10000 + int(m)*100 + dd
			h := hash(a.seed, 1, uint64(j), uint64(stamp))
			d.issues = append(d.issues, issue{j, time.Date(y, m, dd, c.hours[week%len(c.hours)], 0, 0, 0, a.zones[home]).Unix(), number(stamp), math.Exp(appeal*normal(h) - appeal*appeal/2)})
		}
	}
	return d
}

// appeal is the standard deviation of the logarithm of an issue's appeal, whose mean is 1.
const appeal = .25

// normal turns a hash into a standard normal number (Box and Muller, Annals of Mathematical Statistics 1958).
func normal(h uint64) float64 {
	u, v := 1-share(h), share(hash(h))
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
}

// season is how much of their usual visits people make.
func season(date time.Time) float64 {
	switch _, m, d := date.Date(); {
	case m == time.July:
		return .92
	case m == time.August && d >= 10 && d <= 20:
		return .65
	case m == time.August:
		return .85
	case m == time.December && d < 24:
		return 1.15
	case m == time.December, m == time.January && d <= 6:
		return .8
	}
	return 1
}

// second is the instant, in unix milliseconds, of a second of the day on the wall clock of the place.
func (d *day) second(s int) int64 {
	if d.end-d.start == 24*3600*1000 {
		return d.start + int64(s)*1000
	}
	y, m, dd := d.date.Date()
	return time.Date(y, m, dd, 0, 0, s, 0, d.date.Location()).UnixMilli()
}

// down reports whether the feed was down at an instant, so that nobody ever heard of what happened then.
func (a *almanac) down(at int64) bool {
	n := int((at - a.start.UnixMilli()) / quarterOfYear.Milliseconds())
	if n < 0 {
		return false
	}
	for len(a.outages) <= n {
		a.outages = append(a.outages, a.outage(len(a.outages)))
	}
	o := a.outages[n]
	return at >= o.from && at < o.to
}

// outage is that of the n-th quarter of a year: in three of five, 3 to 12 hours at any time.
func (a *almanac) outage(n int) outage {
	h := hash(a.seed, 2, uint64(n))
	if share(h) >= .6 {
		return outage{}
	}
	last := quarterOfYear - 12*time.Hour
	from := a.start.Add(time.Duration(n)*quarterOfYear + time.Duration(share(hash(h, 1))*float64(last))).Truncate(time.Minute)
	return outage{from.UnixMilli(), from.Add(3*time.Hour + time.Duration(share(hash(h, 2))*float64(9*time.Hour))).Truncate(time.Minute).UnixMilli()}
}

func (a *almanac) outagesUntil(end time.Time) (spans []truth.Span) {
	for n := 0; a.start.Add(time.Duration(n) * quarterOfYear).Before(end); n++ {
		if o := a.outage(n); o.from < o.to && o.from < end.UnixMilli() {
			spans = append(spans, truth.Span{From: time.UnixMilli(o.from).UTC(), To: time.UnixMilli(o.to).UTC()})
		}
	}
	return spans
}
