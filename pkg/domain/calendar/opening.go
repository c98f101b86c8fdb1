package calendar

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// Opening is a Window on some days of the week. Its text is "09:30-14:00" (every day) or "mon-fri 09:30-14:00" or
// "tue,thu 10:00-12:00". A window that wraps around midnight belongs to the day on which it begins: "fri 22:00-02:00" ends on
// Saturday.
type Opening struct {
	Days   uint8 // bit 0 is Monday; 0 is every day
	Window Window
}

// weekdays are the days of the week as they are written, Monday first.
var weekdays = [7]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

const everyDay = 1<<7 - 1

// ParseOpening reads the text of an Opening. Capitals do not matter, and a range of days may run over Sunday: "sat-mon".
func ParseOpening(s string) (Opening, error) {
	var o Opening
	days, window, found := strings.Cut(s, " ")
	if !found {
		days, window = "", s
	}
	ok := window != ""
	if found && ok {
		o.Days, ok = parseDays(strings.ToLower(days))
	}
	if !ok {
		return Opening{}, fmt.Errorf("opening %q: want hours such as 09:30-14:00, after the days if not every day: mon-fri 09:30-14:00, or tue,thu 10:00-12:00", s)
	}
	var err error
	if o.Window, err = ParseWindow(window); err != nil {
		return Opening{}, fmt.Errorf("opening %q: %w", s, err)
	}
	return o, nil
}

// parseDays reads "mon-fri" or "tue,thu" or both; all days are written as none.
func parseDays(s string) (days uint8, ok bool) {
	for part := range strings.SplitSeq(s, ",") {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		from, to := weekdayOf(first), weekdayOf(last)
		if from < 0 || to < 0 {
			return 0, false
		}
		for d := from; ; d = (d + 1) % 7 {
			days |= 1 << d
			if d == to {
				break
			}
		}
	}
	if days == everyDay {
		days = 0
	}
	return days, true
}

func weekdayOf(name string) int {
	for i, n := range weekdays {
		if n == name {
			return i
		}
	}
	return -1
}

// String returns the opening as ParseOpening reads it.
func (o Opening) String() string {
	if o.Days&everyDay == 0 || o.Days&everyDay == everyDay {
		return o.Window.String()
	}
	var parts []string
	for d := 0; d < 7; d++ {
		n := bits.TrailingZeros8(^(o.Days & everyDay >> d)) // days in a row
		switch {
		case n == 1:
			parts = append(parts, weekdays[d])
		case n > 1:
			parts = append(parts, weekdays[d]+"-"+weekdays[d+n-1])
		}
		d += n
	}
	return strings.Join(parts, ",") + " " + o.Window.String()
}

// Contains reports whether a local minute of a day of the week lies in the opening.
func (o Opening) Contains(day time.Weekday, minute int) bool {
	if !o.Window.Contains(minute) {
		return false
	}
	begun := int(day+6) % 7 // counted from Monday
	if o.Window.From > o.Window.To && minute < o.Window.To {
		begun = (begun + 6) % 7
	}
	return o.Days == 0 || o.Days&(1<<begun) != 0
}

// MarshalText writes the text of String.
func (o Opening) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what ParseOpening reads.
func (o *Opening) UnmarshalText(text []byte) (err error) {
	*o, err = ParseOpening(string(text))
	return err
}
