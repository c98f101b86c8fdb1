// Package calendar knows civil time: a customer's zone, the local hours that profiles count, the minutes of the day in
// which mail may go out, and the days on which a place is closed.
//
// It is not a clock, for it is told every instant, and not a policy, for it knows which days are closed but not what
// follows from that (package decision). It does not know by itself which days those are either: a Book is told, and the one
// that is built in, Italy, was written by who knows (package holidays of the command). Zone rules come from the system's database, or from the one that is embedded
// where the system has none.
package calendar

import (
	"cmp"
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // containers without a zone database must behave like everybody else
)

// zones caches loaded zones: parsing one costs some 20 microseconds, and every event names one. The database has some
// 600 names; the bound is against spellings such as "Europe/./Rome" that a file system accepts as well.
var zones struct {
	sync.RWMutex
	byName map[string]*time.Location
}

const maxZones = 1024

// Zone returns the zone of an IANA name such as "Europe/Rome". The empty name and "Local", which mean UTC and the
// machine's own zone to package time, are errors here: neither says anything about a customer.
func Zone(name string) (*time.Location, error) {
	zones.RLock()
	loc := zones.byName[name]
	zones.RUnlock()
	if loc != nil {
		return loc, nil
	}
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("zone %q: want an IANA name such as Europe/Rome", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("zone %q: want an IANA name such as Europe/Rome: %w", name, err)
	}
	zones.Lock()
	defer zones.Unlock()
	if zones.byName == nil {
		zones.byName = make(map[string]*time.Location)
	}
	if len(zones.byName) < maxZones {
		zones.byName[clone(name)] = loc
	}
	return loc, nil
}

// clone copies name, which may be a view into a record that is about to be overwritten.
func clone(name string) string { return string([]byte(name)) }

// epoch is Monday 1970-01-05 00:00, from which local hours are counted, in seconds since 1970-01-01 00:00.
const epoch = 4 * 24 * 3600

// civil is the local time of t in seconds since 1970-01-01 00:00 on the customer's wall clock.
func civil(t time.Time, loc *time.Location) int64 {
	_, offset := t.In(loc).Zone()
	return t.Unix() + int64(offset)
}

// LocalHour returns the civil hour of t in loc, counted from the Monday 1970-01-05 00:00 on the wall clock there, and
// the minute within it. An hour that a change to summer time skips has a number that no instant has; an hour that is
// lived through twice has one number.
func LocalHour(t time.Time, loc *time.Location) (hour int64, minute int) {
	s := civil(t, loc) - epoch
	hour = floorDiv(s, 3600)
	return hour, int(s-hour*3600) / 60
}

// HourOfWeek returns the place of a local hour in its week: 0 is Monday 00:00, 167 Sunday 23:00.
func HourOfWeek(hour int64) int { return int(hour - floorDiv(hour, 168)*168) }

// Instant returns when a local hour begins in loc: the first of two beginnings where clocks are put back, and the next
// valid minute where the hour's beginning is skipped.
func Instant(hour int64, loc *time.Location) time.Time { return instant(hour*3600+epoch, loc) }

// instant returns the first instant at which the wall clock in loc shows at least the civil second s.
func instant(s int64, loc *time.Location) time.Time {
	// No zone was ever a day away from Greenwich, so this instant lies before the one that is sought. From there, the
	// periods of constant offset are walked through: the first one that reaches s holds the answer.
	t := time.Unix(s-24*3600, 0).In(loc)
	for {
		start, end := t.ZoneBounds()
		_, offset := t.Zone()
		u := time.Unix(s-int64(offset), 0)
		if !start.IsZero() && u.Before(start) {
			return start.UTC() // s was skipped by the change at start
		}
		if end.IsZero() || u.Before(end) {
			return u.UTC()
		}
		t = end
	}
}

// Day is a day on the wall clock.
type Day struct {
	Year  int
	Month time.Month
	Day   int
}

// DayOf returns the local day of t in loc.
func DayOf(t time.Time, loc *time.Location) Day {
	y, m, d := t.In(loc).Date()
	return Day{y, m, d}
}

// At returns the instant at which day d reaches the given minute after its midnight in loc, by the rules of Instant. The
// minute 1440 is the midnight at its end.
func (d Day) At(minute int, loc *time.Location) time.Time {
	return instant(d.unix()+int64(minute)*60, loc)
}

// Shown returns the instant at which the wall clock of loc shows what t shows in its own zone. Minutes that are skipped, or
// lived through twice, go by the rules of Instant.
func Shown(t time.Time, loc *time.Location) time.Time {
	return DayOf(t, t.Location()).At(t.Hour()*60+t.Minute(), loc).Add(time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond()))
}

// Next returns the day after d.
func (d Day) Next() Day { return d.Add(1) }

// Add returns the day n days after d.
func (d Day) Add(n int) Day {
	y, m, day := time.Date(d.Year, d.Month, d.Day+n, 0, 0, 0, 0, time.UTC).Date()
	return Day{y, m, day}
}

// Weekday returns the day of the week.
func (d Day) Weekday() time.Weekday {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Weekday()
}

// String returns the day as 2006-01-02.
func (d Day) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// ParseDay reads a day that exists as 2006-01-02.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Day{}, fmt.Errorf("%q is no day such as 2026-12-03", s)
	}
	return DayOf(t, time.UTC), nil
}

// MarshalText writes the text of String.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDay reads.
func (d *Day) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDay(string(text))
	return err
}

// Compare orders days.
func (d Day) Compare(e Day) int {
	return cmp.Or(cmp.Compare(d.Year, e.Year), cmp.Compare(d.Month, e.Month), cmp.Compare(d.Day, e.Day))
}

// number counts days from 1970-01-01.
func (d Day) number() int { return int(floorDiv(d.unix(), 24*3600)) }

func (d Day) unix() int64 {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Unix()
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
