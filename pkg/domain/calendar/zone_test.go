package calendar

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// How a day runs on the wall clocks of the world where it is not 24 hours from midnight to midnight.
func TestDaysThatAreUnlikeOthers(t *testing.T) {
	rows := []struct {
		name, zone, day string
		begins          string // the first instant of the day
		hours           float64
	}{
		{"an ordinary day", "Europe/Rome", "2026-12-03", "2026-12-02T23:00:00Z", 24},
		{"spring in the north", "Europe/Rome", "2026-03-29", "2026-03-28T23:00:00Z", 23},
		{"autumn in the north", "Europe/Rome", "2026-10-25", "2026-10-24T22:00:00Z", 25},
		{"spring in America is another Sunday", "America/New_York", "2026-03-08", "2026-03-08T05:00:00Z", 23},
		{"autumn in America", "America/New_York", "2026-11-01", "2026-11-01T04:00:00Z", 25},
		{"spring in the south is in October", "Australia/Sydney", "2026-10-04", "2026-10-03T14:00:00Z", 23},
		{"autumn in the south is in April", "Australia/Sydney", "2026-04-05", "2026-04-04T13:00:00Z", 25},
		{"a zone of half hours with summer time", "Australia/Adelaide", "2026-10-04", "2026-10-03T14:30:00Z", 23},
		{"a zone of half hours without", "Asia/Kolkata", "2026-10-04", "2026-10-03T18:30:00Z", 24},
		{"a zone of three quarters", "Asia/Kathmandu", "2026-10-04", "2026-10-03T18:15:00Z", 24},
		{"a summer time of half an hour begins", "Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30:00Z", 23.5},
		{"a summer time of half an hour ends", "Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z", 24.5},
		{"a day without midnight begins at one", "America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", 23},
		{"in Cairo too", "Africa/Cairo", "2026-04-24", "2026-04-23T22:00:00Z", 23},
		{"and in Santiago, in its spring", "America/Santiago", "2026-09-06", "2026-09-06T04:00:00Z", 23},
		{"a day whose last hour is lived twice", "America/Sao_Paulo", "2019-02-16", "2019-02-16T02:00:00Z", 25},
		{"begins no earlier on the next", "America/Sao_Paulo", "2019-02-17", "2019-02-17T03:00:00Z", 24},
		{"a day whose midnight is lived twice begins at the first", "America/Havana", "2026-11-01", "2026-11-01T04:00:00Z", 25},
		{"a day that was left out to change sides of the date line", "Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z", 0},
		{"the day before it", "Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z", 24},
		{"the day after it", "Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z", 24},
		{"another island that left out a day", "Pacific/Kwajalein", "1993-08-21", "1993-08-21T12:00:00Z", 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			loc, d := zone(t, r.zone), day(t, r.day)
			begin, end := d.At(0, loc), d.At(minutesPerDay, loc)
			if !begin.Equal(instantOf(t, r.begins)) || end.Sub(begin).Hours() != r.hours {
				t.Errorf("begins at %v and has %v hours, want %s and %v", begin.Format(time.RFC3339), end.Sub(begin).Hours(), r.begins, r.hours)
			}
			if next := d.Next().At(0, loc); !next.Equal(end) {
				t.Errorf("ends at %v, but the next begins at %v", end, next)
			}
		})
	}
}

// What a window holds on such days, as minutes that pass.
func TestWindowsOnDaysThatAreUnlikeOthers(t *testing.T) {
	rows := []struct {
		name, zone, day, window string
		minutes                 int
		first                   string // instant; empty: none
	}{
		{"a window beside the gap is whole", "Europe/Rome", "2026-03-29", "09:30-14:00", 270, "2026-03-29T07:30:00Z"},
		{"a window in the gap holds no minute", "Europe/Rome", "2026-03-29", "02:15-02:45", 0, ""},
		{"a window that begins in the gap begins when it is over", "Europe/Rome", "2026-03-29", "02:30-04:00", 60, "2026-03-29T01:00:00Z"},
		{"a window that ends in the gap ends before it", "Europe/Rome", "2026-03-29", "01:00-02:30", 60, "2026-03-29T00:00:00Z"},
		{"a window around the gap is shorter", "Europe/Rome", "2026-03-29", "01:00-04:00", 120, "2026-03-29T00:00:00Z"},
		{"a window in the hour that is lived twice holds it twice", "Europe/Rome", "2026-10-25", "02:00-03:00", 120, "2026-10-25T00:00:00Z"},
		{"and a part of it in two pieces", "Europe/Rome", "2026-10-25", "02:15-02:45", 60, "2026-10-25T00:15:00Z"},
		{"half an hour that is lived twice", "Australia/Lord_Howe", "2026-04-05", "01:30-02:00", 60, "2026-04-04T14:30:00Z"},
		{"half an hour that is not lived", "Australia/Lord_Howe", "2026-10-04", "02:00-02:30", 0, ""},
		{"a window at a midnight that there is not", "America/Sao_Paulo", "2018-11-04", "00:00-01:00", 0, ""},
		{"a morning where minutes are shifted by half an hour", "Australia/Adelaide", "2026-10-04", "09:30-14:00", 270, "2026-10-03T23:00:00Z"},
		{"no window holds a day that was left out", "Pacific/Apia", "2011-12-30", "00:00-24:00", 0, ""},
		{"quiet hours on a night of 25 hours", "Europe/Rome", "2026-10-25", "21:00-08:00", 12 * 60, "2026-10-24T22:00:00Z"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			w, err := ParseWindow(r.window)
			if err != nil {
				t.Fatal(err)
			}
			loc, d := zone(t, r.zone), day(t, r.day)
			minutes, first := 0, ""
			from := time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
			for at := from.Add(-24 * time.Hour); at.Before(from.Add(48 * time.Hour)); at = at.Add(time.Minute) {
				if DayOf(at, loc) != d || !w.Contains(Minute(at, loc)) {
					continue
				}
				if minutes++; first == "" {
					first = at.Format(time.RFC3339)
				}
			}
			if minutes != r.minutes || first != r.first {
				t.Errorf("%d minutes from %s, want %d from %s", minutes, first, r.minutes, r.first)
			}
			if r.first != "" && !d.At(w.From%minutesPerDay, loc).Equal(instantOf(t, r.first)) && w.From < w.To {
				t.Errorf("At says that it begins at %v", d.At(w.From, loc))
			}
		})
	}
}

// The same instant has the same day, minute and hour whichever of them is asked.
func TestDayMinuteAndHourAgree(t *testing.T) {
	names := []string{"UTC", "Europe/Rome", "America/New_York", "America/Santiago", "America/Havana", "America/Sao_Paulo", "Africa/Cairo", "Africa/Casablanca", "Asia/Kolkata", "Australia/Adelaide", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati"}
	rapid.Check(t, func(rt *rapid.T) {
		loc := zone(t, rapid.SampledFrom(names).Draw(rt, "zone"))
		at := time.Unix(rapid.Int64Range(0, 2e9).Draw(rt, "second"), 0).UTC()
		d, minute := DayOf(at, loc), Minute(at, loc)
		hour, past := LocalHour(at, loc)
		if minute/60 != HourOfWeek(hour)%24 || minute%60 != past {
			rt.Fatalf("%v is minute %d of the day, and minute %d of hour %d", at, minute, past, HourOfWeek(hour))
		}
		if want := (int(d.Weekday()) + 6) % 7; HourOfWeek(hour)/24 != want {
			rt.Fatalf("%v lies on a %v, and in hour %d of the week", at, d.Weekday(), HourOfWeek(hour))
		}
		if begin := d.At(0, loc); begin.After(at) {
			rt.Fatalf("%v lies on %v, which begins later, at %v", at, d, begin)
		}
		if end := d.At(minutesPerDay, loc); !end.After(at) {
			rt.Fatalf("%v lies on %v, which ends at %v", at, d, end)
		}
		if first := d.At(minute, loc); first.After(at) || Minute(first, loc) != minute {
			rt.Fatalf("minute %d of %v begins at %v", minute, d, first)
		}
	})
}

func TestParseDay(t *testing.T) {
	for _, r := range []struct {
		name, text string
		ok         bool
	}{
		{"a day", "2026-12-03", true},
		{"a leap day", "2028-02-29", true},
		{"a leap day of another year", "2026-02-29", false},
		{"one digit", "2026-12-3", false},
		{"a time", "2026-12-03T10:00:00Z", false},
		{"nothing", "", false},
	} {
		t.Run(r.name, func(t *testing.T) {
			d, err := ParseDay(r.text)
			if (err == nil) != r.ok || r.ok && d.String() != r.text {
				t.Errorf("got %v, %v", d, err)
			}
		})
	}
	t.Run("days are in order", func(t *testing.T) {
		for _, pair := range [][2]string{{"2025-12-31", "2026-01-01"}, {"2026-01-31", "2026-02-01"}, {"2026-02-01", "2026-02-02"}} {
			a, b := day(t, pair[0]), day(t, pair[1])
			if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 || a.Next() != b {
				t.Errorf("%v and %v", a, b)
			}
		}
	})
}
