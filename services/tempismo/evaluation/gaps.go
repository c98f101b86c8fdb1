package evaluation

import (
	"maps"
	"slices"
)

// gaps are the local days on which the feed was down, in order: on which fewer than a fifth of the engagements came that the
// mail of the day and of the two before it usually brings. The profiler finds them in a stream (services/profiler, feed), with
// the same share; profiles are told of them two days later, as there.
func (l *Log) gaps() (down []int64) {
	const (
		share    = 5
		least    = 60 // engagements expected, to call a day unusual
		usual    = 7  // days to go by
		remember = 14
		longest  = 14 // days in a row, after which it is how things are
	)
	type tide struct{ mail, engaged float64 }
	days := map[int64]tide{}
	for i := range l.people {
		last := int64(-1)
		for k := range l.people[i].events {
			e := &l.people[i].events[k]
			d := floorDiv(e.at(), hours)
			if !e.delivered() {
				if e.at() == last { // an engaged hour counts once
					continue
				}
				last = e.at()
				t := days[d]
				t.engaged++
				days[d] = t
				continue
			}
			for after, weight := range [...]float64{.6, .3, .1} {
				t := days[d+int64(after)]
				t.mail += weight
				days[d+int64(after)] = t
			}
		}
	}
	var mail, engaged, n float64
	row := 0
	for _, d := range slices.Sorted(maps.Keys(days)) {
		t := days[d]
		if expected := t.mail * engaged / max(mail, 1); n >= usual && expected >= least && share*t.engaged < expected {
			if row++; row <= longest {
				down = append(down, d)
				continue
			}
		} else {
			row = 0
		}
		mail += t.mail - mail/remember
		engaged += t.engaged - engaged/remember
		n++
	}
	return down
}
