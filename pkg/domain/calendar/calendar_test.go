package calendar

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func instantOf(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}

func TestZone(t *testing.T) {
	rows := []struct {
		name, zone string
		ok         bool
	}{
		{"an IANA name is a zone", "Europe/Rome", true},
		{"UTC is a zone", "UTC", true},
		{"no name is no zone, although package time reads it as UTC", "", false},
		{"the machine's own zone says nothing about a customer", "Local", false},
		{"a name that nobody knows is an error", "Europe/Atlantis", false},
		{"a path out of the database is an error", "../../etc/passwd", false},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			loc, err := Zone(r.zone)
			if (err == nil) != r.ok || (loc != nil) != r.ok {
				t.Fatalf("Zone(%q) = %v, %v", r.zone, loc, err)
			}
		})
	}
	t.Run("a cached name survives the reuse of the bytes it was a view of", func(t *testing.T) {
		if a, b := zone(t, "Asia/Tokyo"), zone(t, "Asia/Tokyo"); a != b {
			t.Fatal("the second call loaded the zone again")
		}
	})
}

func TestLocalHour(t *testing.T) {
	rows := []struct {
		name, zone, at string
		hour           int64
		minute         int
	}{
		{"hours are counted from the Monday of the first week of 1970", "UTC", "1970-01-05T00:00:00Z", 0, 0},
		{"the minute before belongs to the hour before", "UTC", "1970-01-04T23:59:59Z", -1, 59},
		{"the count follows the customer's wall clock", "Europe/Rome", "1970-01-05T00:30:00Z", 1, 30},
		{"a half-hour zone shifts minutes too", "Asia/Kolkata", "1970-01-05T00:00:00Z", 5, 30},
		{"west of Greenwich the week begins later", "America/New_York", "1970-01-05T04:59:00Z", -1, 59},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			hour, minute := LocalHour(instantOf(t, r.at), zone(t, r.zone))
			if hour != r.hour || minute != r.minute {
				t.Errorf("got hour %d minute %d, want %d and %d", hour, minute, r.hour, r.minute)
			}
		})
	}
}

func TestHourOfWeek(t *testing.T) {
	rows := []struct {
		name string
		hour int64
		want int
	}{
		{"the first hour is Monday 00", 0, 0},
		{"the last hour of a week is Sunday 23", 167, 167},
		{"weeks repeat", 168, 0},
		{"the hour before the epoch is a Sunday 23", -1, 167},
		{"a whole week before the epoch is a Monday 00", -168, 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := HourOfWeek(r.hour); got != r.want {
				t.Errorf("HourOfWeek(%d) = %d, want %d", r.hour, got, r.want)
			}
		})
	}
	t.Run("Thursday 3 December 2026, 10:41 in Rome is hour 82", func(t *testing.T) {
		hour, minute := LocalHour(instantOf(t, "2026-12-03T09:41:52Z"), zone(t, "Europe/Rome"))
		if HourOfWeek(hour) != 3*24+10 || minute != 41 {
			t.Errorf("got hour of week %d, minute %d", HourOfWeek(hour), minute)
		}
	})
}

func TestInstant(t *testing.T) {
	rows := []struct {
		name, zone string
		day        Day
		minute     int
		want       string
	}{
		{"an ordinary winter hour in Rome is an hour ahead of UTC", "Europe/Rome", Day{2026, 12, 3}, 600, "2026-12-03T09:00:00Z"},
		{"an ordinary summer hour in Rome is two hours ahead", "Europe/Rome", Day{2026, 7, 3}, 600, "2026-07-03T08:00:00Z"},
		{"an hour that summer time skips begins at the next valid minute", "Europe/Rome", Day{2026, 3, 29}, 120, "2026-03-29T01:00:00Z"},
		{"the hour after the gap begins at the same instant", "Europe/Rome", Day{2026, 3, 29}, 180, "2026-03-29T01:00:00Z"},
		{"of an hour that is lived twice the first beginning counts", "Europe/Rome", Day{2026, 10, 25}, 120, "2026-10-25T00:00:00Z"},
		{"the hour after a repeated one begins once", "Europe/Rome", Day{2026, 10, 25}, 180, "2026-10-25T02:00:00Z"},
		{"Lord Howe skips half an hour only", "Australia/Lord_Howe", Day{2026, 10, 4}, 120, "2026-10-03T15:30:00Z"},
		{"a day that Samoa skipped begins when it is over", "Pacific/Apia", Day{2011, 12, 30}, 600, "2011-12-30T10:00:00Z"},
		{"minute 1440 is the midnight at the end of the day", "UTC", Day{2026, 12, 31}, 1440, "2027-01-01T00:00:00Z"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got := r.day.At(r.minute, zone(t, r.zone))
			if want := instantOf(t, r.want); !got.Equal(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestInstantIsTheFirstMomentOfItsHour states what Instant is for every zone and hour: the earliest instant whose wall
// clock shows that hour or, in a gap, a later one.
func TestInstantIsTheFirstMomentOfItsHour(t *testing.T) {
	names := []string{"UTC", "Europe/Rome", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns", "Asia/Kathmandu", "Africa/Casablanca"}
	rapid.Check(t, func(rt *rapid.T) {
		loc := zone(t, rapid.SampledFrom(names).Draw(rt, "zone"))
		at := time.Unix(rapid.Int64Range(0, 2e9).Draw(rt, "second"), 0).UTC()
		hour, _ := LocalHour(at, loc)
		begin := Instant(hour, loc)
		if begin.After(at) {
			rt.Fatalf("%v lies in hour %d, which begins later, at %v", at, hour, begin)
		}
		if h, _ := LocalHour(begin, loc); h != hour {
			rt.Fatalf("hour %d begins at %v, which lies in hour %d", hour, begin, h)
		}
		if h, _ := LocalHour(begin.Add(-time.Second), loc); h >= hour {
			rt.Fatalf("hour %d begins at %v, but the second before lies in hour %d", hour, begin, h)
		}
		if next := Instant(hour+1, loc); next.Before(begin) {
			rt.Fatalf("hour %d begins at %v, before hour %d does", hour+1, next, hour)
		}
	})
}

func TestShown(t *testing.T) {
	rome, err := Zone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ sentence, shows, want string }{
		{"in winter", "2026-12-03T10:41:52.25Z", "2026-12-03T09:41:52.25Z"},
		{"in summer", "2026-07-03T10:41:52Z", "2026-07-03T08:41:52Z"},
		{"whatever the zone is in which it was read", "2026-07-03T10:41:52+09:00", "2026-07-03T08:41:52Z"},
		{"a minute that is skipped is the next one that there is", "2026-03-29T02:30:15Z", "2026-03-29T01:00:15Z"},
		{"of two the first", "2026-10-25T02:30:15Z", "2026-10-25T00:30:15Z"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			shows, err := time.Parse(time.RFC3339Nano, row.shows)
			if err != nil {
				t.Fatal(err)
			}
			if got := Shown(shows, rome).Format(time.RFC3339Nano); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
		})
	}
}

func TestParseWindow(t *testing.T) {
	rows := []struct {
		name, text string
		want       Window
		ok         bool
	}{
		{"a morning", "09:30-14:00", Window{570, 840}, true},
		{"a night wraps around midnight", "21:00-08:00", Window{1260, 480}, true},
		{"the whole day", "00:00-24:00", Window{0, 1440}, true},
		{"nothing is the empty window", "", Window{}, true},
		{"an empty span is a mistake", "10:00-10:00", Window{}, false},
		{"hours end at 24", "09:00-24:01", Window{}, false},
		{"minutes end at 59", "09:60-10:00", Window{}, false},
		{"no window begins at 24:00", "24:00-08:00", Window{}, false},
		{"one-digit hours are a mistake", "9:30-14:00", Window{}, false},
		{"words are a mistake", "always", Window{}, false},
		{"other letters are a mistake", "0a:30-14:00", Window{}, false},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, err := ParseWindow(r.text)
			if got != r.want || (err == nil) != r.ok {
				t.Fatalf("got %v, %v", got, err)
			}
			if r.ok && got.String() != r.text {
				t.Errorf("String() = %q", got.String())
			}
		})
	}
}

func TestWindowContains(t *testing.T) {
	rows := []struct {
		name, window, zone, at string
		in                     bool
	}{
		{"inside a morning", "09:30-14:00", "Europe/Rome", "2026-12-03T09:41:52Z", true},
		{"the first minute is inside", "09:30-14:00", "Europe/Rome", "2026-12-03T08:30:00Z", true},
		{"the last minute is not", "09:30-14:00", "Europe/Rome", "2026-12-03T13:00:00Z", false},
		{"the second before the morning is not", "09:30-14:00", "Europe/Rome", "2026-12-03T08:29:59Z", false},
		{"a night holds the hours before midnight", "21:00-08:00", "UTC", "2026-12-03T22:00:00Z", true},
		{"a night holds the hours after midnight", "21:00-08:00", "UTC", "2026-12-03T02:00:00Z", true},
		{"a night holds no noon", "21:00-08:00", "UTC", "2026-12-03T12:00:00Z", false},
		{"the whole day holds every minute", "00:00-24:00", "UTC", "2026-12-03T00:00:00Z", true},
		{"the empty window holds none", "", "UTC", "2026-12-03T00:00:00Z", false},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			w, err := ParseWindow(r.window)
			if err != nil {
				t.Fatal(err)
			}
			if in := w.Contains(Minute(instantOf(t, r.at), zone(t, r.zone))); in != r.in {
				t.Errorf("Contains = %v", in)
			}
		})
	}
}

func BenchmarkLocalHour(b *testing.B) {
	loc := zone(b, "Europe/Rome")
	at := time.Unix(1_796_000_000, 0)
	for b.Loop() {
		LocalHour(at, loc)
	}
}
