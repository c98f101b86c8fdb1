package timing

import (
	"slices"
	"testing"
)

// TestDrift: of customers whose habit stays, hardly one in 250 answers is taken for a move; of those whose day moves by eight
// hours, half are found by the sixth answer. (Whether moves of at least two hours are looked for, and how soon recent answers
// are believed, was chosen on the towns of seeds 33 and 34.)
func TestDrift(t *testing.T) {
	tw := newTown(41)
	w := &World{Model: tw.model}
	var answers, alarms, moves, found int
	var delays []int
	for customer := range 1600 {
		r := tw.resident()
		var p Profile
		c := p.Channel("email")
		if customer%2 == 0 {
			for _, e := range tw.live(&r, simStart, 52*7, always) {
				if c.seen && e.engaged && c.enough(c.head) {
					answers++
				}
				alarms += drifts(apply(w, c, []happening{e}))
			}
			continue
		}
		const before = 26 * 7
		apply(w, c, tw.live(&r, simStart, before, always))
		moved := r
		for how := range moved.phi {
			moved.phi[how] = r.phi[how/Day*Day+(how+16)%Day]
		}
		var after []happening
		engaged := 0
		for _, e := range tw.live(&moved, simStart+before*Day, 8*7, always) {
			if after = append(after, e); e.engaged {
				engaged++
			}
		}
		if c.Delivered(w, simStart+before*Day); !c.enough(c.head) || engaged < 6 {
			continue
		}
		moves++
		for _, e := range append(after, happening{simStart + (before+60)*Day, 0, false}) {
			alarms := apply(w, c, []happening{e})
			if drifts(alarms) == 0 {
				continue
			}
			found++
			answers := 0
			for _, a := range after {
				if a.engaged && dayOf(a.hour) <= dayOf(e.hour)-int64(alarms[slices.IndexFunc(alarms, func(t Test) bool { return t.Kind == Drift })].Days) {
					answers++
				}
			}
			delays = append(delays, answers)
			break
		}
	}
	slices.Sort(delays)
	median := delays[len(delays)/2]
	t.Logf("false: %d in %d answers; found: %d of %d, after %d answers (median)", alarms, answers, found, moves, median)
	if answers < 250*alarms {
		t.Errorf("one answer in %d is taken for a move; want one in 250 at most", answers/alarms)
	}
	if 2*found < moves || median > 6 {
		t.Errorf("%d of %d moves are found, after %d answers; want half of them, after 6", found, moves, median)
	}
}
