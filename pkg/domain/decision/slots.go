package decision

import (
	"cmp"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
)

// Slot is one hour, or the allowed part of it, in which a message could go out.
type Slot struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to"`
	Score  int       `json:"score"`
	Prime  bool      `json:"prime"`
	Failed []Rule    `json:"excluded_by,omitempty"` // rules that exclude it
}

// Slots lists the hours between from and to in a channel, best first, those that a rule excludes last and in order of time.
// It looks at them as at the slots of one more request, of the lowest priority.
func (m *Moment) Slots(s *State, channel string, from, to time.Time) []Slot {
	d := m.open(s, m.Now.UnixMilli(), "")
	defer d.done()
	c, _, ok := m.Policy.For(channel, d.a)
	if !ok {
		return nil
	}
	list := d.commitments(len(s.pending))
	bans := d.bans(channel, c, list)
	r := pending{channel: channel, notBefore: max(from.UnixMilli(), d.now), deadline: to.UnixMilli()}
	h, f := d.hours(c), d.forecast(channel)
	barred := d.barred(&r) != ""
	var today closedDay
	var open, shut []Slot
	var asked weekSet
	asked.add(d.a.Openings())
	rank := map[int64][3]bool{} // by beginning: asked for, not kept free, prime
	eachHour(r.notBefore, r.deadline, d.loc, func(hour, start int64, in minutes) {
		how := calendar.HourOfWeek(hour)
		x := candidate{hour: hour, start: start, in: in & h.windows[how] &^ h.quiet[how], score: f.Scores[how]}
		excluded := x.in == 0 || barred || d.exclude(&x, &r, bans, &today) != ""
		if excluded {
			x.in = in
		}
		slot := Slot{
			From:  instant(max(x.start+int64(x.in.first())*minutely, r.notBefore)),
			To:    instant(min(x.start+int64(x.in.last()+1)*minutely, r.deadline)),
			Score: int(x.score), Prime: x.in&h.prime[how] != 0,
		}
		if excluded {
			slot.Failed = slices.DeleteFunc(d.rules(&r, c, list, slot.From.UnixMilli()), func(x Rule) bool { return x.Passed })
			shut = append(shut, slot)
			return
		}
		wish := x.in&asked[how] != 0
		rank[slot.From.UnixMilli()] = [3]bool{wish, !x.lead, slot.Prime && (wish || slot.Score >= c.Threshold)}
		open = append(open, slot)
	})
	slices.SortStableFunc(open, func(x, y Slot) int {
		a, b := rank[x.From.UnixMilli()], rank[y.From.UnixMilli()]
		for i := range a {
			if a[i] != b[i] {
				if a[i] {
					return -1
				}
				return 1
			}
		}
		return cmp.Compare(y.Score, x.Score)
	})
	return append(open, shut...)
}
