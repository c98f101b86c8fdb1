package fit

import (
	"fmt"
	"math"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// readers is how many mail days each customer had whose answer is known, and how many of these they read, as timing counts
// them.
type readers struct{ mail, read []float64 }

// silence finds the prior of the share of mail days that are read (Priors.Read, Priors.Ignored). It begins with the likeliest
// beta-binomial law. Were the days of a customer independent and customers as that law has them, ordinary customers would
// be called silent in fewer than one of 44 streaks, however much is known of them. They are not; therefore the mean is moved
// to where that holds of all of them (who is held to read less is missed later), and the prior made weaker, if it takes that,
// for it to hold in every stratum of evidence.
func (s *sample) silence(m *timing.Model, report *Report) error {
	const fewest = 20
	r := s.readers()
	if len(r.mail) < fewest {
		report.keep("priors.read", fmt.Sprintf("%d customers with mail whose answer is known; %d are needed", len(r.mail), fewest))
		return nil
	}
	likelihood := func(mean, weight float64) (l float64) {
		a, b := mean*weight, (1-mean)*weight
		base := lgamma(weight) - lgamma(a) - lgamma(b)
		for i, n := range r.mail {
			l += base + lgamma(a+r.read[i]) + lgamma(b+n-r.read[i]) - lgamma(weight+n)
		}
		return l
	}
	logit := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	mean, weight := 0., math.Log(m.Priors.Read+m.Priors.Ignored)
	for range 3 {
		mean = peak(-5, 5, func(x float64) float64 { return likelihood(logit(x), math.Exp(weight)) })
		weight = peak(math.Log(.5), math.Log(100), func(x float64) float64 { return likelihood(logit(mean), math.Exp(x)) })
	}
	report.Estimates["priors.read.likeliest"] = logit(mean)
	report.Estimates["priors.read.likeliest_weight"] = math.Exp(weight)

	set := func(mean, weight float64) (streaks, error) {
		m.Priors.Read, m.Priors.Ignored = logit(mean)*math.Exp(weight), (1-logit(mean))*math.Exp(weight)
		if err := m.Prepare(); err != nil {
			return streaks{}, err
		}
		return s.streaks(m, 1000, false), nil
	}
	all, err := set(mean, weight)
	if err != nil {
		return err
	}
	const told, fewestStreaks = .9 * timing.TwoSigma, 1500 // somewhat rarer than told, and no search where alarms are too few to go by
	if all.total() >= fewestStreaks {
		bestMean, bestWeight, least := mean, weight, math.Inf(1)
		for range 4 {
			low, high := mean-2, mean+2
			for range 5 { // halve the distance to the mean at which alarms are as rare as they should be
				middle := (low + high) / 2
				if all, err = set(middle, weight); err != nil {
					return err
				}
				if all.share() > told {
					high = middle
				} else {
					low = middle
				}
			}
			if worst := s.streaks(m, 1000, true).worst(); worst < least {
				bestMean, bestWeight, least = low, weight, worst
			}
			if least <= timing.TwoSigma || weight < math.Ln2 {
				break
			}
			mean, weight = low, weight-math.Ln2 // not far from there
		}
		if all, err = set(bestMean, bestWeight); err != nil {
			return err
		}
	}
	report.Estimates["priors.read"], report.Estimates["priors.ignored"] = m.Priors.Read, m.Priors.Ignored
	report.Estimates["silence.false_alarms"] = all.share()
	return nil
}

// readers counts mail days and those that were read: local days with deliveries, answered within 48 hours of the first of
// them, once 96 hours are over (timing.State).
func (s *sample) readers() (r readers) {
	const answer, resolution = 48, 96
	for i := range s.histories {
		events := s.histories[i].Events
		var mail, read float64
		for at := 0; at < len(events); at++ {
			e := events[at]
			if !e.Delivered || e.Hour+resolution > s.last {
				continue
			}
			mail++
			for _, later := range events[at:] {
				if later.Hour > e.Hour+answer {
					break
				}
				if !later.Delivered {
					read++
					break
				}
			}
			for at+1 < len(events) && dayOf(events[at+1].Hour) == dayOf(e.Hour) {
				at++
			}
		}
		if mail > 0 {
			r.mail, r.read = append(r.mail, mail), append(r.read, read)
		}
	}
	return r
}

// streaks of ignored mail that ended, and those of them that had been called a silence, by stratum of evidence.
type streaks struct{ ended, alarms [len(timing.Strata)]float64 }

func (a streaks) total() float64 { return sum(a.ended[:]) }

func (a streaks) share() float64 { return sum(a.alarms[:]) / max(1, a.total()) }

// worst is the largest share of alarms of a stratum that has enough streaks to tell.
func (a streaks) worst() (share float64) {
	const enough = 500
	for s, n := range a.ended {
		if n >= enough {
			share = max(share, a.alarms[s]/n)
		}
	}
	return share
}

// streaks runs timing's own code over at most so many of the histories, and counts streaks that ended, as false alarms where
// the customer read again within six weeks of the alarm (who hardly ever reads takes that long). Who did not has gone silent,
// for all that is known. Without
// strata, all are in the first.
func (s *sample) streaks(m *timing.Model, most int, strata bool) (all streaks) {
	const back = 42 * day
	w := &timing.World{Model: m}
	step := max(1, (len(s.histories)+most-1)/most)
	var v timing.View
	for i := 0; i < len(s.histories); i += step {
		p := timing.Profile{Segment: s.histories[i].Segment}
		c := p.Channel(channel)
		var raised timing.Hour
		silent := false
		mail := false // whether any came since the last engagement
		for _, e := range s.histories[i].Events {
			if e.Hour > s.last-back {
				break
			}
			if e.Delivered {
				mail = true
				for _, t := range c.Delivered(w, e.Hour).Alarms {
					if t.Kind == timing.Silence {
						silent, raised = true, e.Hour
					}
				}
				continue
			}
			c.Engaged(w, e.Hour, int(e.Minute))
			if mail {
				stratum := 0
				if strata {
					w.Derive(&v, &p, channel, e.Hour, dayOf(e.Hour))
					stratum = timing.Stratum(v.Evidence.EngagedHours)
				}
				all.ended[stratum]++
				if silent && e.Hour <= raised+back {
					all.alarms[stratum]++
				}
			}
			silent, mail = false, false
		}
	}
	return all
}

// table is what p of a silence mean, where ordinary streaks of a stratum are called one more often than p says; false where
// they are not. There is one test that counts in a streak, the alarm, so that only the share of alarms is known: p are in
// proportion to it up to two sigma. Strata are shrunk to all of them.
func (a streaks) table() (table [len(timing.Strata)][]float64, ok bool) {
	const weight = 300
	all := a.share()
	for s := range table {
		share := max(timing.TwoSigma, (a.alarms[s]+weight*all)/(a.ended[s]+weight))
		ok = ok || share > timing.TwoSigma
		table[s] = make([]float64, timing.TailBins)
		for bin := range table[s] {
			_, p := timing.TailBounds(bin)
			if p <= timing.TwoSigma {
				table[s][bin] = p * share / timing.TwoSigma
			} else { // on to 1 of 1, evenly in logarithms
				table[s][bin] = math.Pow(share, math.Log(p)/math.Log(timing.TwoSigma))
			}
		}
	}
	return table, ok
}
