package fit

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// season is by what everybody's days differ: the kind of day (holidays), the week of the year (ISO 8601) and the day of the
// month, each with factors that multiply. A kind of day, a week or a day of the month has a factor only where its engaged
// hours lie beyond what the others scatter by (Bonferroni over all), and then one that is shrunk to 1. What mail happens to
// be about makes one week differ from the next, whereas seasons last: a week may also differ because three weeks in a row
// that it belongs to do, and is then shrunk to what these have in common. A day of the month must differ without its farthest
// day, too: what one day did is no cycle.
//
// A day on which hardly anybody engaged though mail was there is no season but a gap in the feed, and is left out.
type season struct {
	first   int64 // day
	days    [][families]string
	dayType func(int64) string
	factors [families]map[string]float64 // by name; only those that differ
	counted []bool                       // days that are no gap
}

// The families of names that a day has.
const (
	kindOfDay = iota
	weekOfYear
	dayOfMonth
	families
)

const (
	seasonAhead    = 90 // days for which factors are told in advance
	seasonExpected = 30 // engaged hours expected of a name before it may differ
	seasonNames    = 8  // names of a family before one is held against the others
	seasonMonths   = 3  // times that a day of the month must have been seen
	seasonSpread   = .3 // what factors are believed to spread by
	weekSpread     = .1 // and those of a week from what it and its neighbours have in common
	seasonMost     = 5  // largest factor; the smallest is 1 over it
	gapExpected    = 30 // engaged hours expected of a day before their absence is a gap
	gapShare       = .2 // of what is expected: less is a gap
)

func newSeason(first, n int64, dayType func(int64) string) *season {
	s := &season{first: first, dayType: dayType}
	for d := range n {
		s.days = append(s.days, s.names(first+d))
	}
	return s
}

// names are those of a day in each family; kinds of day have "" for ordinary ones.
func (s *season) names(day int64) [families]string {
	const monday = 4 // days are counted from Monday 1970-01-05
	at := time.Unix((day+monday)*24*3600, 0).UTC()
	_, week := at.ISOWeek()
	return [families]string{s.dayType(day), fmt.Sprintf("week %d", week), fmt.Sprintf("day %d", at.Day())}
}

// at is the factor of a day with these names, family without apart.
func (s *season) at(names *[families]string, without int) float64 {
	product := 1.
	for f, name := range names {
		if x, ok := s.factors[f][name]; ok && f != without {
			product *= x
		}
	}
	return min(max(product, 1./seasonMost), seasonMost)
}

// list is the factors of the days of the sample and of so many after them.
func (s *season) list(ahead int64) []float64 {
	list := make([]float64, 0, int64(len(s.days))+ahead)
	for i := range s.days {
		list = append(list, s.at(&s.days[i], families))
	}
	for d := range ahead {
		names := s.names(s.first + int64(len(s.days)) + d)
		list = append(list, s.at(&names, families))
	}
	return list
}

func (s *season) ordinary() bool {
	return len(s.factors[kindOfDay])+len(s.factors[weekOfYear])+len(s.factors[dayOfMonth]) == 0
}

// tally is what was seen of a name.
type tally struct {
	name               string
	observed, expected float64
	days               int
	most               struct{ observed, expected float64 } // the day that lies farthest from what is expected
}

// add counts a day.
func (t *tally) add(observed, expected float64) {
	t.days++
	t.observed += observed
	t.expected += expected
	if math.Abs(observed-expected) > math.Abs(t.most.observed-t.most.expected) {
		t.most.observed, t.most.expected = observed, expected
	}
}

// without is t without its farthest day.
func (t *tally) without() *tally {
	return &tally{observed: t.observed - t.most.observed, expected: t.expected - t.most.expected}
}

func (t *tally) surprise() float64 { // squared, in units of Poisson chance
	return (t.observed - t.expected) * (t.observed - t.expected) / t.expected
}

// fit finds the factors, given the engaged hours of each day and those expected on ordinary days.
func (s *season) fit(observed, expected []float64) {
	s.factors = [families]map[string]float64{{}, {}, {}}
	s.counted = make([]bool, len(s.days))
	tests := 0.
	for f := range families {
		seen := map[string]bool{"": true}
		for i := range s.days {
			if n := s.days[i][f]; !seen[n] {
				seen[n] = true
				if tests++; f == weekOfYear { // alone, and in a row
					tests++
				}
			}
		}
	}
	beyond := quantile(.05 / tests)
	for i := range s.days {
		s.counted[i] = s.days[i][kindOfDay] != "" || expected[i] < gapExpected || observed[i] >= gapShare*expected[i]
	}
	// In turns, kinds of day first: what they explain is no week.
	for range 3 {
		for f := range families {
			list := s.tallies(f, observed, expected)
			scatter := s.scatter(f, list, observed, expected)
			s.factors[f] = map[string]float64{}
			for _, t := range list {
				if t.expected < seasonExpected || f == dayOfMonth && t.days < seasonMonths || scatter == 0 || t.name == "" {
					continue
				}
				weight := scatter / (seasonSpread * seasonSpread)
				if row, ok := strongest(f, list, &t); ok && row.surprise()/scatter >= beyond {
					common := (row.observed + weight) / (row.expected + weight)
					weight = scatter / (weekSpread * weekSpread)
					s.factors[f][t.name] = (t.observed + weight*common) / (t.expected + weight)
					continue
				}
				if t.surprise()/scatter >= beyond && (f != dayOfMonth || t.without().surprise()/scatter >= beyond) {
					s.factors[f][t.name] = (t.observed + weight) / (t.expected + weight)
				}
			}
		}
	}
}

// strongest is the most surprising three weeks in a row that week t belongs to; false for what is no week.
func strongest(family int, list []tally, t *tally) (most tally, ok bool) {
	if family != weekOfYear {
		return most, false
	}
	for k := -1; k <= 1; k++ {
		var row tally
		for i := range list {
			if d := weekNumber(list[i].name) - weekNumber(t.name) - k; d >= -1 && d <= 1 || d <= -51 || d >= 51 {
				row.observed += list[i].observed
				row.expected += list[i].expected
			}
		}
		if !ok || row.surprise() > most.surprise() {
			most, ok = row, true
		}
	}
	return most, ok
}

func weekNumber(name string) (n int) {
	_, _ = fmt.Sscanf(name, "week %d", &n) // our own name
	return n
}

// tallies sums up days by name in a family; expected counts what the other families explain.
func (s *season) tallies(family int, observed, expected []float64) (list []tally) {
	index := map[string]int{}
	for i := range s.days {
		if !s.counted[i] {
			continue
		}
		name := s.days[i][family]
		at, ok := index[name]
		if !ok {
			at = len(list)
			index[name] = at
			list = append(list, tally{name: name})
		}
		list[at].add(observed[i], expected[i]*s.at(&s.days[i], family))
	}
	return list
}

// scatter is how far names of a family lie from what is expected, in units of Poisson chance, as the median of them has it,
// so that the few which differ do not hide themselves. Kinds of day are too few: they are held against ordinary days. It is
// 0 where there is too little to tell.
func (s *season) scatter(family int, list []tally, observed, expected []float64) float64 {
	var surprises []float64
	if family == kindOfDay {
		for i := range s.days {
			t := tally{observed: observed[i], expected: expected[i] * s.at(&s.days[i], families)}
			if s.counted[i] && s.days[i][kindOfDay] == "" && t.expected > 0 {
				surprises = append(surprises, t.surprise())
			}
		}
	} else {
		for _, t := range list {
			if t.expected > 0 {
				surprises = append(surprises, t.surprise())
			}
		}
	}
	if len(surprises) < seasonNames {
		return 0
	}
	const median = .4549 // of chi squared with one degree of freedom
	slices.Sort(surprises)
	return max(1, surprises[len(surprises)/2]/median)
}

// quantile is what chi squared with one degree of freedom exceeds with probability p.
func quantile(p float64) float64 {
	z := math.Erfcinv(p)
	return 2 * z * z
}

// report tells of the factors.
func (s *season) report(r *Report) {
	gaps := 0
	for _, ok := range s.counted {
		if !ok {
			gaps++
		}
	}
	if gaps > 0 {
		r.Estimates["season.gaps"] = float64(gaps)
	}
	if s.ordinary() {
		r.keep("season", "no kind of day, week or day of the month stands out: every day is ordinary")
	}
	for f := range families {
		for name, x := range s.factors[f] {
			r.Estimates["season."+name] = x
		}
	}
}
