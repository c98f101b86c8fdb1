package timing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// town is a small simulator for the bars: customers with a daily bump of their own, mail in office hours, answers through
// the kernel, days that differ (Gamma). It is not the inbox simulator that the design was tried on.
type town struct {
	rng   *rand.Rand
	model *Model
}

type resident struct {
	phi   [Week]float64
	rate  float64 // engaged hours per mail
	mails float64 // a week
}

func newTown(seed uint64) *town {
	return &town{rand.New(rand.NewPCG(seed, 1)), Builtin()}
}

func (t *town) resident() (r resident) {
	bump := float64(t.rng.IntN(Day))
	var mean float64
	for how := range r.phi {
		h := how % Day
		r.phi[how] = t.model.Population[h] * t.model.Weekdays[how/Day] * (.25 + math.Exp(1.5*(math.Cos(2*math.Pi*(float64(h)-bump)/Day)-1)))
		mean += r.phi[how] / Week
	}
	for how := range r.phi {
		r.phi[how] /= mean
	}
	r.rate = t.gamma(3.6) / 9.7
	r.mails = 1.5 + 3*t.rng.Float64()
	return r
}

// gamma draws from Gamma(shape, 1) (Marsaglia and Tsang, 2000).
func (t *town) gamma(shape float64) float64 {
	if shape < 1 {
		return t.gamma(shape+1) * math.Pow(t.rng.Float64(), 1/shape)
	}
	d := shape - 1./3
	c := 1 / math.Sqrt(9*d)
	for {
		x := t.rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(t.rng.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

type happening struct {
	hour    Hour
	minute  int
	engaged bool
}

// live produces the events of days days of r in order. boost multiplies the activity of a day.
func (t *town) live(r *resident, start Hour, days int, boost func(day int) float64) (events []happening) {
	hours := days * Day
	exposure := make([]float64, hours+Response)
	for day := range days {
		if t.rng.Float64() < r.mails*t.model.Deliveries.Days[day%7] {
			u, h := t.rng.Float64(), 0
			for ; h < Day-1 && u > t.model.Deliveries.Hours[h]; h++ {
				u -= t.model.Deliveries.Hours[h]
			}
			at := day*Day + h
			events = append(events, happening{start + int64(at), 0, false})
			for a, k := range t.model.Kernel {
				exposure[at+a] += k
			}
		}
	}
	nu := 1 / t.model.Priors.Dispersion
	for day := range days {
		g := t.gamma(nu) / nu * boost(day)
		for h := day * Day; h < day*Day+Day; h++ {
			mean := r.rate * (exposure[h] + t.model.Priors.Organic/Day) * r.phi[h%Week] * g
			if t.rng.Float64() < 1-math.Exp(-mean) {
				events = append(events, happening{start + int64(h), 10 + t.rng.IntN(50), true})
			}
		}
	}
	order(events)
	return events
}

func order(events []happening) {
	slices.SortStableFunc(events, func(a, b happening) int {
		if a.hour != b.hour {
			return int(a.hour - b.hour)
		}
		return a.minute - b.minute
	})
}

const simStart = 2900 * Week // a Monday in 2025

func always(int) float64 { return 1 }

// TestBars holds the statistical bars on a fixed seed: half a year of history, then eight weeks in which nothing happens to
// half of the customers, a quarter reads in four more hours of one day, and a quarter falls silent.
func TestBars(t *testing.T) {
	// The prior of silences was chosen on the town of seed 7; the bar is measured on one that had no say in it.
	tw := newTown(11)
	m := tw.model
	w := &World{Model: m}
	const history, test = 26 * 7, 8 * 7
	var sizes []int
	var tails [len(Strata)][TailBins]int
	var days, flagged [len(Strata)]int
	bursts, found := 0, 0
	streaks, alarms := 0, 0
	silents, noticed, mailsToNotice := 0, 0, []int{}
	for customer := range 1500 {
		r := tw.resident()
		kind := customer % 4 // 0, 1: nothing; 2: burst; 3: silence
		onset := history + 20
		boost := always
		switch kind {
		case 3:
			boost = func(day int) float64 {
				if day >= onset {
					return 0
				}
				return 1
			}
		}
		p := Profile{Zone: "Europe/Rome"}
		c := p.Channel("email")
		id := fmt.Sprint(customer)
		burstDay, sizeTaken := false, false
		mails, gone := 0, false
		events := tw.live(&r, simStart, history+test, boost)
		if kind == 2 {
			for _, hour := range []int64{8, 12, 18, 21} {
				events = append(events, happening{simStart + int64(onset)*Day + hour, 15, true})
			}
			order(events)
		}
		for _, e := range events {
			day := int(e.hour-simStart) / Day
			if !sizeTaken && day >= history {
				sizeTaken = true
				sizes = append(sizes, len(p.Append(nil)))
			}
			if kind < 2 && day >= history {
				everyDay(w, &p, c, id, e.hour, func(d Closed) { tails[d.Stratum][TailBin(d.P)]++ })
			}
			if !e.engaged {
				p.Sent(&engagement.Event{Message: fmt.Sprint(id, e.hour)})
				change := c.Delivered(w, e.hour)
				if kind == 3 && day >= onset && !gone {
					if mails++; silences(change) > 0 {
						gone = true
						noticed++
						mailsToNotice = append(mailsToNotice, mails)
					}
				} else if kind < 2 {
					alarms += silences(change)
				}
				continue
			}
			change := c.Engaged(w, e.hour, e.minute)
			local := dayOf(e.hour)
			if change.Result != Counted || day < history {
				continue
			}
			var v View
			m.Derive(&v, &p, "email", e.hour, local)
			test := m.Burst(&c.State, &v, local)
			hit := test.P < TwoSigma && test.Observed >= 2 && v.Evidence.Enough()
			switch {
			case kind < 2:
				if s := Stratum(v.Evidence.EngagedHours); hit && test.Observed == firstHit(m, &c.State, &v, local) {
					flagged[s]++
				}
			case kind == 2 && hit && day == onset:
				burstDay = true
			}
		}
		switch kind {
		case 2:
			var v View
			m.Derive(&v, &p, "email", simStart+int64(onset)*Day, dayOf(simStart)+int64(onset))
			if v.Evidence.Enough() {
				bursts++
				if burstDay {
					found++
				}
			}
		case 3:
			if c.readDays >= 2 {
				silents++
			}
		default:
			streaks += int(c.readDays) + 1 // every answer begins a new one
			var v View
			m.Derive(&v, &p, "email", c.head, Everything)
			days[Stratum(v.Evidence.EngagedHours)] += test
		}
	}
	slices.Sort(sizes)
	q := func(f float64) int { return sizes[int(f*float64(len(sizes)-1))] }
	t.Logf("bytes: p50 %d, p95 %d, max %d", q(.5), q(.95), q(1))
	if q(.5) > 200 || q(.95) > 256 || q(1) > 352 {
		t.Errorf("profiles are too large")
	}
	var tail, all float64
	for s := range tails {
		var n, beyond float64
		for b, k := range tails[s] {
			n += float64(k)
			low, high := TailBounds(b)
			if high <= TwoSigma {
				beyond += float64(k)
			} else if low < TwoSigma {
				beyond += float64(k) * (TwoSigma - low) / (high - low)
			}
		}
		tail, all = tail+beyond, all+n
		t.Logf("randomised burst p below 2 sigma, evidence %s: %.2f %% of %.0f mail days", Strata[s], 100*beyond/n, n)
		if share := beyond / n; n > 3000 && (share < .014 || share > .028) {
			t.Errorf("evidence %s: %.2f %% of the days of customers with nothing unusual are beyond 2 sigma; want 1.4 to 2.8", Strata[s], 100*share)
		}
		if days[s] > 3000 {
			far := float64(flagged[s]) / float64(days[s])
			t.Logf("burst flags, evidence %s: %.2f %% of customer-days", Strata[s], 100*far)
			if far > TwoSigma {
				t.Errorf("evidence %s: flags on %.2f %% of ordinary days, more than nominal", Strata[s], 100*far)
			}
		}
	}
	if share := tail / all; share < .016 || share > .026 {
		t.Errorf("%.2f %% of ordinary days are beyond 2 sigma; want 1.6 to 2.6", 100*share)
	}
	t.Logf("days with four engaged hours more, found: %d of %d", found, bursts)
	if float64(found) < .8*float64(bursts) {
		t.Errorf("only %d of %d bursts were found", found, bursts)
	}
	slices.Sort(mailsToNotice)
	t.Logf("silence: %d of %d noticed, after %d mails (median); false: %d in %d streaks", noticed, silents, mailsToNotice[len(mailsToNotice)/2], alarms, streaks)
	if far := float64(alarms) / float64(streaks); far > .023 {
		t.Errorf("%.2f %% of ordinary streaks are called a silence", 100*far)
	}
}

func silences(c Change) (n int) {
	for _, t := range c.Alarms {
		if t.Kind == Silence {
			n++
		}
	}
	return n
}

// everyDay is Closing without leaving out any of the days that mail exposes.
func everyDay(w *World, p *Profile, c *Channel, id string, h Hour, each func(Closed)) {
	if !c.seen {
		return
	}
	for d := c.unsettled(); d < min(floorDiv(h-Lateness, Day), dayOf(c.head)+1+Response/Day); d++ {
		day := Closed{Active: c.engaged.day(d, c.head) != 0}
		exposed := day.Active
		for back := range int64(Response/Day + 1) {
			exposed = exposed || c.received.day(d-back, c.head) != 0
		}
		if exposed {
			w.close(&day, p, c, id, d)
			each(day)
		}
	}
}

// firstHit is the smallest count of that day that would be flagged, so that a day counts once.
func firstHit(m *Model, s *State, v *View, day int64) float64 {
	mean := v.expected(s, day)
	for x := 2; ; x++ {
		if above, at, _ := m.tail(x, mean, v.strength); above+at/2 < TwoSigma {
			return float64(x)
		}
	}
}
