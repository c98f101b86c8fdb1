package calendar

import (
	"fmt"
	"time"
)

const minutesPerDay = 24 * 60

// Window is a part of every local day, from the minute From up to, but without, the minute To, both counted from
// midnight. From > To wraps around midnight, as quiet hours do. The zero Window is empty; 0 to 1440 is the whole day.
type Window struct{ From, To int }

// ParseWindow reads "09:30-14:00". Empty text is the empty window, "00:00-24:00" the whole day.
func ParseWindow(s string) (Window, error) {
	if s == "" {
		return Window{}, nil
	}
	var w Window
	from, to, ok := cut(s)
	if ok {
		w.From, ok = parseClock(from)
	}
	if ok {
		w.To, ok = parseClock(to)
	}
	if !ok || w.From == minutesPerDay || w.From == w.To {
		return Window{}, fmt.Errorf("window %q: want two different times of day such as 09:30-14:00, or 00:00-24:00 for the whole day", s)
	}
	return w, nil
}

func cut(s string) (from, to string, ok bool) {
	if len(s) != len("09:30-14:00") || s[5] != '-' {
		return "", "", false
	}
	return s[:5], s[6:], true
}

func parseClock(s string) (minute int, ok bool) {
	for _, i := range []int{0, 1, 3, 4} {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	h, m := int(s[0]-'0')*10+int(s[1]-'0'), int(s[3]-'0')*10+int(s[4]-'0')
	minute = h*60 + m
	return minute, s[2] == ':' && m < 60 && minute <= minutesPerDay
}

// String returns the window as ParseWindow reads it.
func (w Window) String() string {
	if w.Empty() {
		return ""
	}
	return Clock(w.From) + "-" + Clock(w.To)
}

// MarshalText writes the text of String.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads what ParseWindow reads.
func (w *Window) UnmarshalText(text []byte) (err error) {
	*w, err = ParseWindow(string(text))
	return err
}

// Clock writes a minute of the day as 15:04.
func Clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }

// Empty reports whether the window holds no minute at all.
func (w Window) Empty() bool { return w.From == w.To }

// Whole reports whether the window holds every minute of the day.
func (w Window) Whole() bool { return w.From == 0 && w.To == minutesPerDay }

// Contains reports whether the local minute of the day lies in the window.
func (w Window) Contains(minute int) bool {
	if w.From <= w.To {
		return w.From <= minute && minute < w.To
	}
	return minute >= w.From || minute < w.To
}

// Minute returns the local minute of the day of t in loc.
func Minute(t time.Time, loc *time.Location) int {
	h, m, _ := t.In(loc).Clock()
	return h*60 + m
}
