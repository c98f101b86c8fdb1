package timing

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// session is one sitting of one reader.
type session struct {
	reader string
	at     time.Time // local
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
	zone, err := time.LoadLocation("Europe/Brussels")
	if err != nil {
		t.Fatal(err)
	}
	var opens []session
	for _, row := range rows[1:] {
		at, err := time.Parse("2006-01-02 15:04:05.000000 MST", row[1])
		if err != nil {
			t.Fatal(err)
		}
		opens = append(opens, session{row[0], at.In(zone)})
	}
	slices.SortStableFunc(opens, func(a, b session) int { return a.at.Compare(b.at) })
	last := map[string]time.Time{}
	for _, o := range opens {
		if before, ok := last[o.reader]; !ok || o.at.Sub(before) > 30*time.Minute {
			sessions = append(sessions, o)
		}
		last[o.reader] = o.at
	}
	return sessions
}

// trend is the population's hours with a half-life, closed at the end of each day.
type trend struct {
	halfLife float64 // days; 0: none
	counts   [Day]float64
}

func (tr *trend) close(today *[Day]float64, days float64) {
	keep := 1.0
	if tr.halfLife > 0 {
		keep = math.Exp2(-days / tr.halfLife)
	}
	for h := range tr.counts {
		tr.counts[h] = keep * (tr.counts[h] + today[h])
	}
}

// over is the trend shrunk to q with weight a.
func (tr *trend) over(q *[Day]float64, a float64) (p [Day]float64) {
	n := a
	for _, c := range tr.counts {
		n += c
	}
	for h := range p {
		p[h] = (tr.counts[h] + a*q[h]) / n
	}
	return p
}

// TestOutspot predicts the hour of each session from the past alone, learns it, and compares with what a simple method does.
func TestOutspot(t *testing.T) {
	sessions := outspot(t)
	m := Builtin()
	type person struct {
		n     float64
		all   [Day]float64 // without decay or split, for the simple method
		slow  [Day]float64 // weights of the week of the first session
		fast  [Day]float64
		since int64
	}
	people := map[string]*person{}
	all, year, months, week := trend{}, trend{halfLife: 364}, trend{halfLife: 56}, trend{halfLife: 7}
	var today [Day]float64
	var pairs [Day][Day]float64
	day := int64(math.MinInt64)
	population, base := uniform(), uniform()

	names := [...]string{"population", "personal", "ours"}
	var bits, hits [4][3]float64
	var n, beyond [4]float64
	for i, s := range sessions {
		_, offset := s.at.Zone()
		local := s.at.Unix() + int64(offset) - 4*86400
		h, hour := s.at.Hour(), floorDiv(local, 3600)
		if d := dayOf(hour); d != day {
			if day != math.MinInt64 {
				for _, tr := range []*trend{&all, &year, &months, &week} {
					tr.close(&today, float64(d-day))
				}
				today = [Day]float64{}
				flat := uniform()
				population = all.over(&flat, Day)
				p2, p3 := year.over(&population, 200), months.over(&population, 200)
				p4 := week.over(&p3, 100)
				for h := range base {
					base[h] = math.Exp(.4*math.Log(population[h]) + .2*math.Log(p2[h]) + .2*math.Log(p3[h]) + .2*math.Log(p4[h]))
				}
				normalise(base[:], 1)
				m.Habits = Habits(SmoothPairs(pairs))
			}
			day = d
		}
		p := people[s.reader]
		if p == nil {
			p = &person{since: weekOf(hour)}
			people[s.reader] = p
		}
		weeks := float64(weekOf(hour) - p.since)

		var predictions [3][Day]float64
		predictions[0] = population
		kernel := p.all
		smooth(&kernel)
		for h := range kernel {
			predictions[1][h] = (kernel[h] + 8*population[h]) / (p.n + 8)
		}
		var c counts
		for h := range c.engaged {
			c.engaged[h] = p.fast[h] * math.Exp2(-weeks/13)
			c.n += c.engaged[h]
		}
		m.estimate(&predictions[2], &c, &base)

		stratum := Stratum(p.n)
		n[stratum]++
		for k := range predictions {
			q := &predictions[k]
			bits[stratum][k] -= math.Log2(q[h])
			rank := 0
			for _, other := range q {
				if other > q[h] {
					rank++
				}
			}
			if rank < 3 {
				hits[stratum][k]++
			}
		}
		tail := 0.0
		for _, other := range predictions[2] {
			if other < predictions[2][h] {
				tail += other
			}
		}
		if tail+Hash(s.reader, int64(i), "hour")*predictions[2][h] < TwoSigma {
			beyond[stratum]++
		}

		if p.n > 0 {
			total := 0.0
			for _, c := range p.slow {
				total += c
			}
			for j, c := range p.slow {
				pairs[h][j] += c / total / (1 + p.n/100)
			}
		}
		own, near := split(hour, s.at.Minute())
		for _, part := range [2]struct {
			h Hour
			k float64
		}{{hour, float64(own) / unit}, {near, 1 - float64(own)/unit}} {
			p.slow[hourOfDay(part.h)] += part.k * math.Exp2(weeks/52)
			p.fast[hourOfDay(part.h)] += part.k * math.Exp2(weeks/13)
		}
		p.all[h]++
		p.n++
		today[h]++
	}
	for s, name := range Strata {
		if n[s] == 0 {
			continue
		}
		for k, method := range names {
			t.Logf("%-6s n %5.0f  %-10s %.3f bits, %.1f %% in the best three", name, n[s], method, bits[s][k]/n[s], 100*hits[s][k]/n[s])
		}
		t.Logf("%-6s randomised tail beyond 2 sigma: %.2f %%", name, 100*beyond[s]/n[s])
		if n[s] < 1000 {
			continue
		}
		if bits[s][2] >= bits[s][1] || bits[s][2] >= bits[s][0] {
			t.Errorf("with %s sessions of history the simple methods predict better", name)
		}
		most := .028
		if s == 0 {
			most = .035 // of strangers the base decides, and its trends are not weighed by evidence yet
		}
		if share := beyond[s] / n[s]; share < .015 || share > most {
			t.Errorf("with %s sessions of history %.2f %% of the hours are beyond 2 sigma; want 1.5 to %.1f", name, 100*share, 100*most)
		}
	}
}

func uniform() (p [Day]float64) {
	for h := range p {
		p[h] = 1. / Day
	}
	return p
}
