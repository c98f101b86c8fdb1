package evaluation

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/tempismo/rows"
)

// outspot reads real opens of a newsletter (outspot/Outspot-Send-time-optimisation); of sends nothing is known.
func outspot(t *testing.T) *Log {
	dir := os.Getenv("TEMPISMO_DATA")
	if dir == "" {
		t.Skip("TEMPISMO_DATA is not set: the test on real opens is skipped")
	}
	f, err := os.Open(filepath.Join(dir, "engagement", "outspot_opens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := rows.Open(f, f.Name(), rows.Mapping{Customer: "user_id", Time: "opened", Kind: "open", Zone: "Europe/Brussels", Channel: "email"})
	if err != nil {
		t.Fatal(err)
	}
	zone, err := calendar.Zone("Europe/Brussels")
	if err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(zone)
	for {
		e, _, err := r.Read()
		if errors.Is(err, io.EOF) {
			return b.Log()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Add(e)
	}
}

// TestOutspot holds the figures that the design reached on these opens, to the third decimal, and that the simple methods come
// out as they did there.
func TestOutspot(t *testing.T) {
	r, err := Run(context.Background(), outspot(t), nil, Settings{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		method, metric string
		at             [3]float64 // by stratum, but for the last, of which there is hardly anybody
		better         float64    // 1: the more the better, -1: the less, 0: as it was
	}{
		{"ours", "day-bits", [3]float64{4.245, 4.090, 4.027}, -1},
		{"ours", "top3", [3]float64{.243, .290, .303}, 1},
		{"population", "day-bits", [3]float64{4.291, 4.253, 4.230}, 0},
		{"personal-kernel", "day-bits", [3]float64{4.279, 4.126, 4.072}, 0},
		{"personal-kernel", "top3", [3]float64{.228, .284, .290}, 0},
	} {
		for st, x := range want.at {
			s := r.score(want.method, want.metric, timing.Strata[st])
			t.Logf("%s, %s, %s: %.4f (%.4f to %.4f) of %d; the design has %v", s.Method, s.Metric, s.Stratum, s.Value, s.Lo, s.Hi, s.N, x)
			if d := want.better * (s.Value - x); d < -.0005 || want.better == 0 && math.Abs(s.Value-x) > .0015 {
				t.Errorf("that is not it")
			}
		}
	}
	for _, b := range r.Bars {
		if !b.Holds {
			t.Errorf("%s is %v, not %s", b.Name, b.Value, b.Range())
		}
	}
	for _, x := range r.Details {
		if strings.HasPrefix(x.Name, "hour-tail") && (x.Value < .015 || x.Value > .028) {
			t.Errorf("%s: %.4f of sittings are beyond two sigma", x.Name, x.Value)
		}
	}
}

// TestShuffledHoursTellNothing takes the hours from the customers and gives them to others: nobody can then do better than the
// population, unless something leaks.
func TestShuffledHoursTellNothing(t *testing.T) {
	l := outspot(t)
	var hours []int64
	for i := range l.people {
		for _, e := range l.people[i].events {
			hours = append(hours, e.at()%24)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	r.Shuffle(len(hours), func(i, j int) { hours[i], hours[j] = hours[j], hours[i] })
	k := 0
	for i := range l.people {
		events := l.people[i].events
		for j := range events {
			e := &events[j]
			moved := e.at() - e.at()%24 + hours[k]
			e.second += 3600 * (moved - e.at())
			e.hour = int32(moved)
			k++
		}
		slices.SortFunc(events, func(a, b event) int { return int(a.second - b.second) })
	}
	s, err := l.scores(context.Background(), []string{"ours", "population"}, 1, ordinary(l, nil), func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	report := Report{Scores: s.report()}
	ours, everybody := report.score("ours", "day-bits", All), report.score("population", "day-bits", All)
	t.Logf("ours %.4f, population %.4f", ours.Value, everybody.Value)
	if ours.Value < everybody.Value-.005 {
		t.Error("ours knows what cannot be known")
	}
}
