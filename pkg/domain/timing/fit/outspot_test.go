package fit

import (
	"encoding/csv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// session is one sitting of one reader.
type session struct {
	reader int
	hour   timing.Hour
	minute int
}

// outspot reads real opens (outspot/Outspot-Send-time-optimisation; sends are not known), merged into sessions of 30 minutes,
// in time order.
func outspot(t *testing.T) (sessions []session) {
	dir := os.Getenv("TEMPISMO_DATA")
	if dir == "" {
		t.Skip("TEMPISMO_DATA is not set: the test on real opens is skipped")
	}
	f, err := os.Open(filepath.Join(dir, "engagement", "outspot_opens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	zone, err := calendar.Zone("Europe/Brussels")
	if err != nil {
		t.Fatal(err)
	}
	type open struct {
		reader string
		at     time.Time
	}
	var opens []open
	for _, row := range rows[1:] {
		at, err := time.Parse("2006-01-02 15:04:05.000000 MST", row[1])
		if err != nil {
			t.Fatal(err)
		}
		opens = append(opens, open{row[0], at})
	}
	slices.SortStableFunc(opens, func(a, b open) int { return a.at.Compare(b.at) })
	last, readers := map[string]time.Time{}, map[string]int{}
	for _, o := range opens {
		before, known := last[o.reader]
		if !known {
			readers[o.reader] = len(readers)
		}
		if !known || o.at.Sub(before) > 30*time.Minute {
			h, minute := calendar.LocalHour(o.at, zone)
			sessions = append(sessions, session{readers[o.reader], h, minute})
		}
		last[o.reader] = o.at
	}
	return sessions
}

// scores are what predictions came to, by stratum of sessions known.
type scores struct {
	n, bits, population, hits, beyond [len(timing.Strata)]float64
	behind                            []float64 // bits that each reader lost against the population
}

// prequential predicts each session from those before, scores the prediction and learns.
func prequential(l *Learner, sessions []session) (s scores) {
	var p timing.Prediction
	today := int64(math.MinInt64)
	for i, e := range sessions {
		if d := dayOf(e.hour); d != today {
			if today != math.MinInt64 {
				l.Close(d - 1)
			}
			today = d
		}
		l.Predict(e.reader, e.hour, &p)
		y, k := hourOfDay(e.hour), timing.Stratum(float64(l.Known(e.reader)))
		s.n[k]++
		s.bits[k] -= math.Log2(p.Hours[y])
		s.population[k] -= math.Log2(p.Population[y])
		for e.reader >= len(s.behind) {
			s.behind = append(s.behind, 0)
		}
		s.behind[e.reader] -= math.Log2(p.Hours[y] / p.Population[y])
		tail, rank := timing.Hash("reader", int64(i), "hour")*p.Hours[y], 0
		for _, x := range p.Hours {
			if x > p.Hours[y] {
				rank++
			} else if x < p.Hours[y] {
				tail += x
			}
		}
		if rank < 3 {
			s.hits[k]++
		}
		if tail < timing.TwoSigma {
			s.beyond[k]++
		}
		l.Engaged(e.reader, e.hour, e.minute)
	}
	return s
}

// The figures that the design reached on these opens with a prototype, and the bound that holds for every reader.
func TestOutspot(t *testing.T) {
	sessions := outspot(t)
	s := prequential(NewLearner(timing.Builtin(), Config{}), sessions)
	want := [len(timing.Strata)]struct{ bits, hits float64 }{{4.245, 24.3}, {4.090, 29.0}, {4.027, 30.3}}
	for k, name := range timing.Strata {
		if s.n[k] == 0 {
			continue
		}
		bits, hits, beyond := s.bits[k]/s.n[k], 100*s.hits[k]/s.n[k], 100*s.beyond[k]/s.n[k]
		t.Logf("%-6s n %5.0f: %.4f bits (population %.4f), %.1f %% in the best three, %.2f %% beyond two sigma", name, s.n[k], bits, s.population[k]/s.n[k], hits, beyond)
		if bits > want[k].bits {
			t.Errorf("with %s sessions known, %.4f bits; want at most %.3f", name, bits, want[k].bits)
		}
		if hits < want[k].hits {
			t.Errorf("with %s sessions known, %.1f %% are in the best three; want at least %.1f", name, hits, want[k].hits)
		}
		if beyond < 1.5 || beyond > 2.8 {
			t.Errorf("with %s sessions known, %.2f %% are beyond two sigma; want 1.5 to 2.8", name, beyond)
		}
	}
	if worst := slices.Max(s.behind); worst > math.Log2(50)+.01 {
		t.Errorf("a reader is predicted %.3f bits worse than by the population; want at most %.3f", worst, math.Log2(50))
	}
}

// With the hours shuffled among the sessions there is nothing to know of a reader: whoever predicts better than the
// population has seen what it predicts.
func TestOutspotShuffled(t *testing.T) {
	sessions := outspot(t)
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(sessions), func(i, j int) {
		a, b := &sessions[i], &sessions[j]
		ha, hb := int64(hourOfDay(a.hour)), int64(hourOfDay(b.hour))
		a.hour, b.hour = a.hour-ha+hb, b.hour-hb+ha
		a.minute, b.minute = b.minute, a.minute
	})
	s := prequential(NewLearner(timing.Builtin(), Config{}), sessions)
	for k, name := range timing.Strata {
		if s.n[k] == 0 {
			continue
		}
		if gain := (s.population[k] - s.bits[k]) / s.n[k]; gain > .004 {
			t.Errorf("with %s sessions known, shuffled hours are predicted %.4f bits better than by the population", name, gain)
		}
	}
}
