package decision

import (
	"math/bits"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// minutes is a set of the minutes of one hour: bit m is minute m.
type minutes uint64

// between is the minutes from a up to, but without, b, as far as they lie in the hour.
func between(a, b int64) minutes {
	a, b = max(a, 0), min(b, 60)
	if a >= b {
		return 0
	}
	return (1<<b - 1) &^ (1<<a - 1)
}

func (m minutes) first() int     { return bits.TrailingZeros64(uint64(m)) }
func (m minutes) last() int      { return bits.Len64(uint64(m)) - 1 }
func (m minutes) has(i int) bool { return m>>i&1 != 0 }

// weekSet is a set of the minutes of a week, hour by hour from Monday 00.
type weekSet [7 * 24]minutes

// add puts the minutes of some openings into w.
func (w *weekSet) add(openings []calendar.Opening) {
	for _, o := range openings {
		for d := range 7 {
			if o.Days != 0 && o.Days&(1<<d) == 0 {
				continue
			}
			to := o.Window.To
			if to < o.Window.From {
				to += 24 * 60
			}
			w.fill(d*24*60+o.Window.From, d*24*60+to)
		}
	}
}

// fill puts the minutes from up to, but without, to into w, both counted from Monday 00:00. What goes beyond Sunday goes on
// on Monday.
func (w *weekSet) fill(from, to int) {
	for h := from / 60; h*60 < to; h++ {
		w[h%len(w)] |= between(int64(from-h*60), int64(to-h*60))
	}
}

// everyDay is the openings of a window that holds every day.
func everyDay(window calendar.Window) []calendar.Opening {
	if window.Empty() {
		return nil
	}
	return []calendar.Opening{{Window: window}}
}

// Milliseconds.
const (
	hourly   = int64(time.Hour / time.Millisecond)
	minutely = int64(time.Minute / time.Millisecond)
	epoch    = 4 * 24 * hourly // Monday 1970-01-05 00:00, from which package calendar counts local hours
)

// eachHour calls visit with every local hour that has instants in [from, to), in order: its number as calendar.LocalHour counts it,
// the instant at which its minute 0 is or would be, and its minutes of which any part lies in [from, to). Of an hour that is
// lived through twice, because clocks are put back, only the first pass is visited; one that is skipped is not.
func eachHour(from, to int64, loc *time.Location, visit func(hour, start int64, in minutes)) {
	var last int64
	visited := false
	for t := from; t < to; {
		at := time.UnixMilli(t).In(loc)
		_, seconds := at.Zone()
		offset := int64(seconds)*1000 - epoch // from an instant to local time since epoch
		until := to
		if _, end := at.ZoneBounds(); !end.IsZero() {
			until = min(until, end.UnixMilli())
		}
		for h := floorDiv(t+offset, hourly); ; h++ {
			start := h*hourly - offset
			if start >= until {
				break
			}
			if visited && h <= last {
				continue
			}
			visit(h, start, between(floorDiv(t-start, minutely), floorDiv(until-start+minutely-1, minutely)))
			last, visited = h, true
		}
		t = until
	}
}

// localDay is the day of a local hour.
func localDay(hour int64) calendar.Day {
	return calendar.DayOf(time.UnixMilli(hour*hourly+epoch).UTC(), time.UTC)
}
