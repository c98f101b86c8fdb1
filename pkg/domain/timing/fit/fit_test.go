package fit

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"pgregory.net/rapid"
)

// ordinary is a world in which nothing happens, its histories, and the model that is fitted to them.
var ordinary = sync.OnceValues(func() (*world, []History) {
	w := newWorld(1000, 20, 1)
	return w, w.histories()
})

var fitted = sync.OnceValues(func() (*timing.Model, Report) {
	_, histories := ordinary()
	m, report, err := Fit(histories, Options{Version: "2026-01-01.1"})
	if err != nil {
		panic(err)
	}
	return m, report
})

func encode(t *testing.T, m *timing.Model) []byte {
	t.Helper()
	data, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRecoversWhatWorksInTheWorld(t *testing.T) {
	w, histories := ordinary()
	m, report := fitted()
	t.Log("\n" + report.String())
	if report.Customers != len(histories) || report.Days != 140 {
		t.Errorf("the report is of %d customers and %d days", report.Customers, report.Days)
	}

	// A message is answered once: what comes late had to wait for the answer not to come before. That makes the kernel that
	// is seen somewhat steeper than the hazard.
	apart := 0.
	for a, k := range m.Kernel {
		apart += math.Abs(k-w.kernel[a]) / 2
	}
	if apart > .12 {
		t.Errorf("%.0f %% of the kernel lies elsewhere: %.3f", 100*apart, m.Kernel)
	}
	for d, g := range m.Weekdays {
		if math.Abs(g-w.weekdays[d]) > .1 {
			t.Errorf("day %d of the week has attention %.2f; want %.2f", d, g, w.weekdays[d])
		}
	}
	if len(m.Personas) != len(w.personas) {
		t.Errorf("%d personas; want %d", len(m.Personas), len(w.personas))
	}
	names := []string{"early morning readers", "midday readers", "evening readers", "late evening readers"}
	shares := []float64{.55, .15, .15, .15}
	for k := range w.personas {
		best, most := 0, 0.
		for i := range m.Personas {
			common := 0.
			for h, x := range m.Personas[i].Attention {
				common += min(x, w.personas[k][h]) / day
			}
			if common > most {
				best, most = i, common
			}
		}
		p := m.Personas[best]
		if most < .8 || math.Abs(p.Share-shares[k]) > .06 || p.Name != names[k] {
			t.Errorf("persona %d has %.2f in common with %q, share %.2f; want %q, share %.2f", k, most, p.Name, p.Share, names[k], shares[k])
		}
	}
	// Engaged hours a delivery: rates are even from .15 to .65, of attention 1 on average, and answers end messages.
	if mean := m.Priors.EngagedHours / m.Priors.Deliveries; mean < .25 || mean > .42 {
		t.Errorf("%.2f engaged hours are expected of a delivery; want about a third", mean)
	}
	if share := report.Estimates["silence.false_alarms"]; share > timing.TwoSigma {
		t.Errorf("%.2f %% of ordinary streaks are a silence", 100*share)
	}
	if perDay := m.Deliveries.PerDay; perDay < .38 || perDay > .46 {
		t.Errorf("%.2f deliveries a day; want .42", perDay)
	}
	if len(m.Habits) < 2 || m.Habits[0].Correlation < .1 {
		t.Errorf("customers of four personas differ along %d habits", len(m.Habits))
	}
	if !strings.Contains(report.String(), "season: as before") || len(m.Season.Factors) > 0 {
		t.Errorf("in a world without seasons there are some: %v", m.Season)
	}
	if _, err := timing.ParseModel(encode(t, m)); err != nil {
		t.Error(err)
	}
}

// The message that an engagement answers is known where sources tell it: the kernel comes out as without.
func TestTakesAgesWhereTheyAreTold(t *testing.T) {
	w := newWorld(250, 9, 4)
	unknown, _, err := Fit(w.histories(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.tell = true
	known, report, err := Fit(w.histories(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Estimates["kernel.told_ages"] == 0 {
		t.Error("no age was told")
	}
	apart := 0.
	for a, k := range known.Kernel {
		apart += math.Abs(k-unknown.Kernel[a]) / 2
	}
	if apart == 0 || apart > .15 {
		t.Errorf("%.1f %% of the kernel lie elsewhere where ages are told", 100*apart)
	}
}

func TestSeasonsAndHolidaysAreFoundWhereTheyAre(t *testing.T) {
	const low, holiday = .6, .4
	w := newWorld(400, 26, 3)
	start := dayOf(worldStart)
	isHoliday := func(d int64) bool { return (d-start)%53 == 17 }
	away := func(d int64) bool { return d-start >= 15*7 && d-start < 18*7 }
	w.factor = func(d int64) float64 {
		switch {
		case isHoliday(d):
			return holiday
		case away(d):
			return low
		}
		return 1
	}
	m, report, err := Fit(w.histories(), Options{DayType: func(d int64) string {
		if isHoliday(d) {
			return "holiday"
		}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.Season.Factors); m.Season.First != start || n != 26*7+seasonAhead {
		t.Fatalf("%d factors from day %d on; want %d from %d on", n, m.Season.First, 26*7+seasonAhead, start)
	}
	mean := func(which func(int64) bool) (x, n float64) {
		for i, f := range m.Season.Factors {
			if which(start + int64(i)) {
				x += f
				n++
			}
		}
		return x / n, n
	}
	if x, n := mean(isHoliday); math.Abs(x-holiday) > .12 || n != 5 {
		t.Errorf("%.0f holidays have the factor %.2f; want %.2f, ahead too\n%v", n, x, holiday, report)
	}
	if x, _ := mean(away); math.Abs(x-low) > .12 {
		t.Errorf("weeks away have the factor %.2f; want %.2f\n%v", x, low, report)
	}
	if x, _ := mean(func(d int64) bool { return !away(d) && !isHoliday(d) }); math.Abs(x-1) > .05 {
		t.Errorf("ordinary days have the factor %.2f\n%v", x, report)
	}
}

func TestBoostIsWhatFollowsAnEngagement(t *testing.T) {
	w := newWorld(300, 14, 5)
	w.again = 6
	m, report, err := Fit(w.histories(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	calm, _ := fitted()
	if m.Boost[0] != m.Boost[1] || m.Boost[1] < 2*calm.Boost[1] || m.Boost[2] < 2*calm.Boost[2] {
		t.Errorf("six times as much in two hours is boosted by %.2f\n%v", m.Boost, report)
	}
	if m.Boost[12] > 1.5*calm.Boost[12] {
		t.Errorf("half a day later there is nothing to boost: %.2f", m.Boost)
	}
}

func TestTheSameSampleGivesTheSameModel(t *testing.T) {
	w := newWorld(250, 10, 6)
	histories := w.histories()
	before := slices.Clone(histories[7].Events)
	a, ra, err := Fit(histories, Options{Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(histories[7].Events, before) {
		t.Error("the sample was changed")
	}
	// Repeats and the order within a customer do not matter.
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range histories {
		e := &histories[i].Events
		*e = append(*e, (*e)[:len(*e)/3]...)
		rng.Shuffle(len(*e), func(i, j int) { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] })
	}
	b, rb, err := Fit(histories, Options{Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encode(t, a), encode(t, b)) {
		t.Error("the same sample gives two models")
	}
	if ra.String() != rb.String() {
		t.Errorf("the same sample gives two reports:\n%v\n%v", ra, rb)
	}
}

func TestWorksWithLittle(t *testing.T) {
	for _, c := range []struct {
		name     string
		world    *world
		defaults []string // that the report must name
		not      []string // that it must not
	}{
		{"two hundred customers", newWorld(200, 13, 7), nil, []string{"kernel", "personas", "priors.dispersion"}},
		{"no deliveries", func() *world { w := newWorld(300, 16, 8); w.silent = true; return w }(), []string{"kernel", "deliveries.per_day", "priors.organic", "priors.read"}, []string{"personas"}},
		{"three customers in two weeks", newWorld(3, 2, 9), []string{"kernel", "personas", "priors.read", "priors.weekdays", "priors.dispersion", "boost", "calibration.timing", "calibration.burst"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			histories := c.world.histories()
			m, report, err := Fit(histories, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := timing.ParseModel(encode(t, m)); err != nil {
				t.Error(err)
			}
			for _, field := range c.defaults {
				if report.Defaults[field] == "" {
					t.Errorf("the report does not say that %s is as before:\n%v", field, report)
				}
			}
			for _, field := range c.not {
				if why := report.Defaults[field]; why != "" {
					t.Errorf("%s is as before: %s", field, why)
				}
			}
			builtin := timing.Builtin()
			if report.Defaults["kernel"] != "" && m.Kernel != builtin.Kernel {
				t.Error("the kernel is not as it was before")
			}
		})
	}
}

// Without deliveries the population is the counted one with one engaged hour more for each hour of the day.
func TestWithoutDeliveriesEveryHourIsExposed(t *testing.T) {
	w := newWorld(100, 10, 10)
	w.silent = true
	histories := w.histories()
	m, _, err := Fit(histories, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var count [day]float64
	n := 0.
	for _, h := range histories {
		for _, e := range h.Events {
			count[hourOfDay(e.Hour)]++
			n++
		}
	}
	for h, x := range m.Population {
		if want := (count[h] + 1) / (n + day) * day; math.Abs(x-want) > 1e-9 {
			t.Errorf("population at %d is %.4f; want %.4f", h, x, want)
		}
		if x := m.Deliveries.Hours[h]; math.Abs(x-1./day) > 1e-12 {
			t.Errorf("exposure at %d is %.4f", h, x)
		}
	}
}

func TestAnEmptySampleSaysWhatToDo(t *testing.T) {
	if _, _, err := Fit([]History{{Customer: "a", Events: []Event{{Hour: -5}, {Hour: 1 << 40}}}}, Options{}); err == nil || !strings.Contains(err.Error(), "local hours") {
		t.Errorf("a sample of more than a century: %v", err)
	}
	for _, histories := range [][]History{nil, {{Customer: "a"}}, {{Customer: "a", Events: []Event{{Hour: 5, Delivered: true}}}}} {
		m, report, err := Fit(histories, Options{})
		if m != nil || !errors.Is(err, ErrEmpty) || !strings.Contains(err.Error(), "take more customers") {
			t.Errorf("a sample without engagements: %v", err)
		}
		if report.Customers != len(histories) {
			t.Errorf("the report is of %d customers", report.Customers)
		}
	}
}

// Whatever is in a sample: the outcome is a model that can serve and a report that can be written, or an error.
func TestAnySampleGivesAModelOrAnError(t *testing.T) {
	event := rapid.Custom(func(t *rapid.T) Event {
		return Event{
			Hour:      rapid.SampledFrom([]timing.Hour{399990, 400000, 400000, 400001, 400024, 400025, 400300, 401000, 402000}).Draw(t, "hour"),
			Minute:    rapid.Uint8().Draw(t, "minute"),
			Age:       rapid.Int16Range(-3, 100).Draw(t, "age"),
			Delivered: rapid.Bool().Draw(t, "delivered"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		histories := make([]History, rapid.IntRange(0, 70).Draw(t, "customers"))
		some := rapid.SliceOfN(event, 0, 12).Draw(t, "events")
		for i := range histories {
			histories[i] = History{Customer: string(rune('a' + i)), Events: some[min(i%3, len(some)):]}
			if i == 0 {
				histories[i].Segment = "first"
			}
		}
		m, report, err := Fit(histories, Options{})
		if err != nil {
			if m != nil {
				t.Fatalf("a model and an error: %v", err)
			}
			return
		}
		data, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := timing.ParseModel(data); err != nil {
			t.Fatal(err)
		}
		if _, err := json.Marshal(report); err != nil {
			t.Fatal(err)
		}
		if bits, _ := Loss(m, histories, 0); math.IsNaN(bits) || math.IsInf(bits, 0) {
			t.Fatalf("%v bits", bits)
		}
	})
}

func TestSilenceTableOnlySpeaksWhereAlarmsAreTooMany(t *testing.T) {
	rare := streaks{ended: [...]float64{1000, 9000, 2000, 0}, alarms: [...]float64{20, 180, 40, 0}}
	if _, ok := rare.table(); ok {
		t.Error("one alarm in fifty streaks is fewer than p say")
	}
	often := streaks{ended: [...]float64{9000, 9000, 2000, 0}, alarms: [...]float64{450, 180, 40, 0}}
	table, ok := often.table()
	m := *timing.Builtin()
	m.Calibration = timing.Calibration{timing.Silence: table}
	if err := m.Prepare(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if p := m.Calibrated(timing.Silence, 0, .02); p < .03 || p > .05 {
		t.Errorf("with an alarm in twenty streaks of few engagements, p .02 means %.4f", p)
	}
	for _, p := range []float64{1e-6, .01, .02, .2, 1} {
		if got := m.Calibrated(timing.Silence, 1, p); p < timing.TwoSigma && math.Abs(got-p) > .4*p || got < p-1e-9 || got > 1 {
			t.Errorf("where alarms are rare, p %v means %v", p, got)
		}
	}
}

func TestLossTellsModelsApart(t *testing.T) {
	w := newWorld(200, 20, 11) // other customers of the same world
	histories := w.histories()
	from := timing.Hour(worldStart + 14*timing.Week)
	m, _ := fitted()
	ours, n := Loss(m, histories, from)
	builtin, same := Loss(timing.Builtin(), histories, from)
	if n < 500 || n != same {
		t.Errorf("%d and %d engaged hours", n, same)
	}
	if ours > builtin-.05 {
		t.Errorf("the fitted model needs %.3f bits, the builtin one %.3f", ours, builtin)
	}
	all, most := Loss(m, histories, worldStart)
	if most <= n || all < ours {
		t.Errorf("with less history before, %d engaged hours cost %.3f bits, later ones %.3f", most, all, ours)
	}
	wrong := *m
	wrong.Bases = slices.Clone(m.Bases)
	slices.Reverse(wrong.Population[:])
	for b := range wrong.Bases {
		slices.Reverse(wrong.Bases[b][:])
	}
	if err := wrong.Prepare(); err != nil {
		t.Fatal(err)
	}
	if worse, _ := Loss(&wrong, histories, worldStart); worse < all+.02 {
		t.Errorf("the day turned around costs %.3f bits, the right one %.3f", worse, all)
	}
}

// The tables are for ordinary days: some customers whose habits have gone must not make everybody's odd hours ordinary.
func TestCalibrationLeavesOutWhoIsOddAgainAndAgain(t *testing.T) {
	_, histories := ordinary()
	m, _ := fitted()
	moved := slices.Clone(histories)
	since := timing.Hour(worldStart + 12*timing.Week)
	for i := 0; i < len(moved); i += 20 {
		events := slices.Clone(moved[i].Events)
		for j := range events {
			if e := &events[j]; !e.Delivered && e.Hour >= since {
				e.Hour += 12 - 24*(e.Hour/12%2)
			}
		}
		moved[i].Events = events
	}
	odd, report, err := Fit(moved, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{timing.Timing, timing.Burst} {
		for s := range 3 {
			bin := timing.TailBin(.01)
			a, b := m.Calibration[kind][s][bin], odd.Calibration[kind][s][bin]
			if b > 1.35*a {
				t.Errorf("%s, stratum %s: p below .01 in %.2f %% of tests; without the odd customers %.2f %%\n%v", kind, timing.Strata[s], 100*b, 100*a, report)
			}
		}
	}
}

func TestCalibrationTablesAreDistributions(t *testing.T) {
	m, _ := fitted()
	for _, kind := range []string{timing.Timing, timing.Burst} {
		for s, f := range m.Calibration[kind] {
			if len(f) != timing.TailBins || math.Abs(f[0]-1) > 1e-9 {
				t.Fatalf("%s, stratum %s: %d bins from %.3f", kind, timing.Strata[s], len(f), f[0])
			}
			for bin := 1; bin < len(f); bin++ {
				if f[bin] > f[bin-1]+1e-12 || f[bin] <= 0 {
					t.Errorf("%s, stratum %s: bin %d holds %v after %v", kind, timing.Strata[s], bin, f[bin], f[bin-1])
				}
			}
		}
	}
	// Ordinary answers: the hour of an answer is as unlikely as told, within the chance of some thousand tests.
	bin := timing.TailBin(timing.TwoSigma)
	_, p := timing.TailBounds(bin)
	if f := m.Calibration[timing.Timing][1][bin]; f < .7*p || f > 1.5*p {
		t.Errorf("answers at hours with p below %.3f: %.3f of all", p, f)
	}
}

func TestPStar(t *testing.T) {
	at := func(p ...float64) []uint64 {
		bins := make([]uint64, timing.ActBins)
		for _, x := range p {
			bins[timing.ActBin(x)]++
		}
		return bins
	}
	even := func(n int) (p []float64) {
		for i := range n {
			p = append(p, (float64(i)+.5)/float64(n))
		}
		return p
	}
	many := func(n int, p float64) (all []float64) {
		for range n {
			all = append(all, p)
		}
		return all
	}
	for _, c := range []struct {
		name      string
		p         []float64
		active    float64
		low, high float64
	}{
		{"nobody engaged", nil, 0, 0, 0},
		{"nothing happened: a single one would have to pass alone", even(1000), 1e9, .05 / 1000, .05/1000 + 1e-12},
		{"fifty in a thousand beyond chance: 50*.05/1000 and what chance adds", append(even(1000), many(50, 1e-6)...), 1e9, .0024, .003},
		{"the same, where no more than two in a thousand may act", append(even(1000), many(50, 1e-6)...), 4000, .05 / 1050, 1e-4},
		{"all are beyond chance", many(100, 1e-6), 1e9, .04, .05},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p := PStar(at(c.p...), c.active, .05, .005); p < c.low || p > c.high {
				t.Errorf("p* = %v; want %v to %v", p, c.low, c.high)
			}
		})
	}
}
