// Package timing is when a customer pays attention: the profile that is kept of each customer, the model that is shared by
// all, the view that both together give of a week, and the scores and surprises that are read from it.
//
// It counts in engaged hours: any number of opens, clicks and replies in one local clock hour is one. What it learns is
// attention, not activity: engagements are held against the engagements that the mail sent would explain.
//
// It is not the judge of what is worth saying (deviation) or doing (decision), knows no time zones (calendar turns instants
// into local hours), reads no clock and draws no random numbers: the same events give the same bytes.
package timing

// Hour is a local civil hour: hours since Monday 1970-01-05 00:00 on the customer's wall clock (calendar.LocalHour).
type Hour = int64

// Lengths that the profile is built on, in hours.
const (
	Day      = 24
	Week     = 168
	Lateness = 48  // an event this late still counts as if it had come in order
	Memory   = 168 // hours kept one by one, for telling repeats; older events are late
	Response = 72  // a message is answered within this many hours or not at all
	Horizon  = 24  // how far ahead the best hour is looked for
)

// HourOfWeek maps an hour to 0..167; 0 is Monday 00:00.
func HourOfWeek(h Hour) int { return int(mod(h, Week)) }

func hourOfDay(h Hour) int { return int(mod(h, Day)) }

func dayOf(h Hour) int64 { return floorDiv(h, Day) }

func weekOf(h Hour) int64 { return floorDiv(h, Week) }

func mod(a, n int64) int64 {
	if a %= n; a < 0 {
		a += n
	}
	return a
}

func floorDiv(a, n int64) int64 {
	q := a / n
	if a < q*n {
		q--
	}
	return q
}
