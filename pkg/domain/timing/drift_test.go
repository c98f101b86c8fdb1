package timing

import (
	"math"
	"slices"
	"testing"
)

// TestDrift: of customers whose habit stays, hardly one in 250 answers is taken for a move; of those whose day moves by eight
// hours, half are found by the sixth answer. (What a day can say at most, how far habits move at least and how soon recent answers
// are believed was chosen on the towns of seeds 33 and 34.)
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

// TestDriftLaw: as long as a habit is what it was, an answer is as likely to speak for a move as against it: the ratio of both
// laws has mean 1 under the first, whatever is known, whenever the message came.
func TestDriftLaw(t *testing.T) {
	m := fitted()
	w := &World{Model: m}
	tw := newTown(42)
	for range 50 {
		r := tw.resident()
		var p Profile
		c := p.Channel("email")
		apply(w, c, tw.live(&r, simStart, 100, always))
		c.recent = [recentAnswers]uint8{3, uint8(1 + tw.rng.IntN(24))}
		var prediction Prediction
		var exposure [Day]float64
		carried := w.exposure(&exposure, &c.sent)
		m.Predict(&prediction, &c.Rhythm, weekOf(c.head), &exposure)
		sent := c.head + tw.rng.Int64N(Week)
		usual, other := c.hypotheses(m, &prediction.Outline, carried, sent)

		decayed := c.decayed(sent)
		days := m.exposureDays(&c.State, carried)
		weekday := m.weekdays(&c.State, decayed*float64(c.engagement()), decayed, &days)
		var all, mean float64
		for a, k := range m.Kernel {
			at := sent + int64(a)
			p := k * weekday[dayOfWeek(at)] * usual[hourOfDay(at)]
			all += p
			mean += p * other[hourOfDay(at)] / usual[hourOfDay(at)]
		}
		if math.Abs(all-1) > 1e-9 || math.Abs(mean-1) > 1e-9 {
			t.Fatalf("the law adds up to %v, the ratio has mean %v under it", all, mean)
		}
	}
}

// TestBurstIsNoDrift: two days at odd hours are no habit.
func TestBurstIsNoDrift(t *testing.T) {
	w := &World{Model: Builtin()}
	p := history(200, 9, 20)
	c := p.Channel("email")
	var events []happening
	for _, h := range []int64{9, 33} {
		events = append(events, happening{simStart + 200*Day + h, 0, false})
		for k := range int64(6) {
			events = append(events, happening{simStart + 200*Day + h + k, 10, true})
		}
	}
	events = append(events, happening{simStart + 210*Day, 0, false})
	if n := drifts(apply(w, c, events)); n > 0 {
		t.Error("a burst of two days is taken for a move of habit")
	}
	if c.moved == 0 {
		t.Error("two days of answers at odd hours leave no trace")
	}
}
