package fit

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// world is a mechanism to fit models to: customers of known personas, each with hours of their own around them, get mail in
// office hours and answer each message once at most, an hour at a time, with a hazard of which kernel, attention, days and
// season are known. What the model takes for a sum of independent streams is here a race of messages that end.
type world struct {
	customers, weeks int
	seed             uint64
	kernel           [timing.Response]float64
	personas         [4][day]float64 // attention, mean 1
	weekdays         [7]float64
	factor           func(day int64) float64 // season; nil: none
	again            float64                 // how much likelier an answer is in the hours after an engagement; 0: no likelier
	silent           bool                    // deliveries are not told
	tell             bool                    // ages are told
}

const worldStart = 2900 * timing.Week // a Monday in 2025

func newWorld(customers, weeks int, seed uint64) *world {
	w := &world{customers: customers, weeks: weeks, seed: seed}
	for a := range w.kernel {
		w.kernel[a] = math.Exp(-float64(a)/6) + .15*math.Exp(-float64(a)/30)
	}
	normalise(w.kernel[:], 1)
	for k, at := range []float64{7, 12, 17, 21} {
		for h := range day {
			w.personas[k][h] = .15 + math.Exp(4*(math.Cos(2*math.Pi*(float64(h)-at)/day)-1))
		}
		normalise(w.personas[k][:], day)
	}
	w.weekdays = [7]float64{1.2, 1.3, 1.1, 1, 1, .7, .7}
	return w
}

func (w *world) histories() []History {
	rng := rand.New(rand.NewPCG(w.seed, 9))
	all := make([]History, w.customers)
	for i := range all {
		k := i % 4
		if i%10 < 4 { // the personas are not all as large
			k = 0
		}
		h := History{Customer: fmt.Sprint(i), Segment: []string{"north", "south"}[k%2]}
		own := rng.IntN(day)
		var phi [timing.Week]float64
		for how := range phi {
			phi[how] = w.personas[k][how%day] * w.weekdays[how/day] * (1 + .3*math.Cos(2*math.Pi*float64(how%day-own)/day))
		}
		normalise(phi[:], timing.Week)
		rate := .15 + .5*rng.Float64()
		mails := .25 + .35*rng.Float64() // a day
		var open []timing.Hour           // messages that were not answered
		last := int64(math.MinInt64)
		for at := range int64(w.weeks) * timing.Week {
			t := worldStart + at
			if hod := hourOfDay(t); hod >= 7 && hod < 19 && rng.Float64() < mails/12 {
				open = append(open, t)
				h.Events = append(h.Events, Event{Hour: t, Delivered: true})
			}
			for j := 0; j < len(open); j++ {
				age := t - open[j]
				if age >= timing.Response {
					open = append(open[:j], open[j+1:]...)
					j--
					continue
				}
				hazard := rate * w.kernel[age] * phi[timing.HourOfWeek(t)]
				if w.factor != nil {
					hazard *= w.factor(dayOf(t))
				}
				if w.again > 0 && t-last <= 2 {
					hazard *= w.again
				}
				if rng.Float64() < 1-math.Exp(-hazard) {
					e := Event{Hour: t, Minute: uint8(rng.IntN(60)), Age: UnknownAge}
					if w.tell {
						e.Age = int16(age)
					}
					h.Events = append(h.Events, e)
					open = append(open[:j], open[j+1:]...)
					last = t
					break
				}
			}
		}
		if w.silent {
			kept := h.Events[:0]
			for _, e := range h.Events {
				if !e.Delivered {
					kept = append(kept, e)
				}
			}
			h.Events = kept
		}
		all[i] = h
	}
	return all
}
