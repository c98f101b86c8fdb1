package fit

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"pgregory.net/rapid"
)

// Half of the customers are written to in the morning and half in the evening, and nobody prefers any hour: what differs is
// exposure, and hardly anything of it may become attention or habit, though the learner begins with a kernel that is wrong.
func TestExposureIsNoAttention(t *testing.T) {
	kernel := timing.Builtin().Kernel
	for a := range kernel {
		kernel[a] = math.Exp(-float64(a) / 5)
	}
	normalise(kernel[:], 1)
	answer := func(told bool) *Learner {
		rng := rand.New(rand.NewPCG(5, 6))
		l := NewLearner(timing.Builtin(), Config{})
		const customers, days = 300, 120
		var open [customers][timing.Response + day]float64 // engagements to come, by hours from the day's beginning
		for d := range int64(days) {
			for i := range open {
				sent := 6 + 11*(i%2) + rng.IntN(6)
				for a, k := range kernel[:timing.Response-day] {
					open[i][sent+a] += .3 * k
				}
				for h := range int64(day) {
					if told && int(h) == sent {
						l.Delivered(i, d*day+h)
					}
					if rng.Float64() < open[i][h] {
						l.Engaged(i, d*day+h, 30)
					}
				}
				clear(open[i][copy(open[i][:], open[i][day:]):])
			}
			l.Close(d)
		}
		return l
	}
	spread := func(l *Learner) float64 {
		p := l.Model().Population
		return slices.Max(p[:]) / slices.Min(p[:])
	}
	correlation := func(l *Learner) float64 {
		if len(l.Model().Habits) == 0 {
			return 0
		}
		return l.Model().Habits[0].Correlation
	}
	told, blind := answer(true), answer(false)
	if x := spread(told); x > 1.5 {
		t.Errorf("attention of people who prefer no hour differs by a factor of %.2f: %.2f", x, told.Model().Population)
	}
	t.Logf("told: attention by a factor of %.2f, habit %.3f; blind: %.2f, %.3f", spread(told), correlation(told), spread(blind), correlation(blind))
	if x := spread(blind); x < 2 {
		t.Errorf("the world is too even to tell: without deliveries, attention differs by a factor of %.2f", x)
	}
	if c := correlation(told); c > .06 {
		t.Errorf("people who prefer no hour have a habit of correlation %.3f", c)
	}
	if c := correlation(blind); c < .1 {
		t.Errorf("the world is too even to tell: without deliveries there is a habit of correlation %.3f only", c)
	}
	apart := 0.
	for a, k := range told.Model().Kernel {
		apart += math.Abs(k-kernel[a]) / 2
	}
	if apart > .1 {
		t.Errorf("%.0f %% of the kernel lies elsewhere: %.3f", 100*apart, told.Model().Kernel)
	}
}

// A model that was handed out stays as it was.
func TestModelInForceIsNotChangedLater(t *testing.T) {
	w := newWorld(100, 6, 2)
	s := newSample(w.histories())
	l := NewLearner(timing.Builtin(), Config{})
	var handed []*timing.Model
	var as [][]byte
	s.order(func(customer int, e Event) {
		if e.Delivered {
			l.Delivered(customer, e.Hour)
		} else {
			l.Engaged(customer, e.Hour, int(e.Minute))
		}
	}, func(d int64) {
		l.Close(d)
		handed = append(handed, l.Model())
		as = append(as, encode(t, l.Model()))
	})
	for i, m := range handed {
		if string(encode(t, m)) != string(as[i]) {
			t.Fatalf("model %d of %d has changed since it was in force", i, len(handed))
		}
		if i > 0 && m == handed[i-1] {
			t.Fatalf("model %d is the one before", i)
		}
	}
	if string(as[len(as)-1]) == string(as[len(as)/2]) {
		t.Error("nothing was learned")
	}
}

// Days on which nothing happens need not be closed one by one.
func TestDaysWithoutEventsMayBeLeftOut(t *testing.T) {
	w := newWorld(60, 4, 3)
	w.silent = true
	histories := w.histories()
	run := func(every bool) *timing.Model {
		l := NewLearner(timing.Builtin(), Config{})
		s := newSample(histories)
		today := dayOf(s.first)
		s.order(func(customer int, e Event) {
			for d := dayOf(e.Hour); every && today < d; today++ {
				l.Close(today)
			}
			l.Engaged(customer, e.Hour, int(e.Minute))
		}, func(d int64) {
			if !every {
				l.Close(d)
			}
		})
		l.Close(dayOf(s.last) + 40)
		return l.Model()
	}
	a, b := run(true), run(false)
	for h := range a.Population {
		if math.Abs(a.Bases[5][h]-b.Bases[5][h]) > 1e-9 {
			t.Fatalf("bases differ: %v and %v", a.Bases[5], b.Bases[5])
		}
	}
}

// Whatever customers do, none is predicted worse than by the population by more than 5.64 bits in total.
func TestNobodyIsPredictedMuchWorseThanByThePopulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := NewLearner(timing.Builtin(), Config{})
		const customers = 4
		var behind [customers]float64
		mail := rapid.Bool().Draw(t, "mail")
		var p timing.Prediction
		h := int64(1000 * day)
		for range rapid.IntRange(1, 60).Draw(t, "engagements") {
			step := rapid.SampledFrom([]int64{0, 1, 5, 12, 13, 24, 24, 24, 100}).Draw(t, "hours later")
			if d := dayOf(h); dayOf(h+step) != d {
				l.Close(d)
			}
			h += step
			i := rapid.IntRange(0, customers-1).Draw(t, "customer")
			if mail && rapid.IntRange(0, 3).Draw(t, "delivered") == 0 {
				l.Delivered(i, h)
			}
			l.Predict(i, h, &p)
			if _, ok := l.Answer(i, h); !ok { // the guard bets on what is asked: when this message is answered, where there is one
				behind[i] -= math.Log2(p.Hours[hourOfDay(h)] / p.Population[hourOfDay(h)])
			}
			l.Engaged(i, h, rapid.IntRange(0, 59).Draw(t, "minute"))
			if !mail && behind[i] > math.Log2(50)+.1 {
				t.Fatalf("customer %d is %.2f bits behind the population", i, behind[i])
			}
		}
	})
}

func TestRecentKnowsTheDeliveriesOfThreeDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r recent
		var all []timing.Hour
		now := rapid.Int64Range(-200, 500000).Draw(t, "start")
		for range rapid.IntRange(0, 30).Draw(t, "deliveries") {
			now += rapid.SampledFrom([]int64{0, 1, 2, 10, 63, 64, 65, 71, 72, 73, 127, 128, 129, 1000, -1, -3}).Draw(t, "hours later")
			r.add(now)
			all = append(all, now)
		}
		at := now + rapid.Int64Range(-5, 100).Draw(t, "hours until the engagement")
		var got, want []int
		r.ages(at, func(a int) { got = append(got, a) })
		for _, s := range all {
			if a := at - s; a >= 0 && a < timing.Response {
				want = append(want, int(a))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Fatalf("ages %v; want %v", got, want)
		}
	})
}

func TestNamesTellWhatSetsPersonasApart(t *testing.T) {
	var flat [day]float64
	for h := range flat {
		flat[h] = 1
	}
	at := func(hours ...int) (a [day]float64) {
		for h := range a {
			a[h] = .5
		}
		for _, h := range hours {
			a[h%day] = 3
		}
		normalise(a[:], day)
		return a
	}
	for _, c := range []struct {
		attention [day]float64
		engaged   [7]float64
		want      string
	}{
		{at(18, 19, 20), [7]float64{10, 10, 10, 10, 10, 10, 10}, "evening readers"},
		{at(23, 24, 25), [7]float64{10, 10, 10, 10, 10, 10, 10}, "night readers"},
		{at(9, 10), [7]float64{30, 100, 30, 30, 30, 20, 20}, "Tuesday morning readers"},
		{at(9, 10), [7]float64{10, 20, 10, 10, 10, 10, 10}, "morning readers"}, // twice as often on Tuesdays may be chance
		{at(12, 13), [7]float64{10, 10, 10, 10, 10, 100, 100}, "weekend midday readers"},
		{flat, [7]float64{10, 10, 10, 10, 10, 10, 10}, "all-day readers"},
	} {
		usual := c.engaged
		for d := range usual {
			usual[d] = sum(c.engaged[:]) / 7
		}
		if got := name(&c.attention, &flat, weekdayOf(&c.engaged, &usual)); got != c.want {
			t.Errorf("%q; want %q", got, c.want)
		}
	}
	twins := []timing.Persona{{Name: "evening readers", Attention: at(17, 18)}, {Name: "evening readers", Attention: at(19, 20)}, {Name: "evening readers", Attention: at(19, 20)}, {Name: "night readers"}}
	distinguish(twins, &flat)
	for i, want := range []string{"evening readers, 17-19", "evening readers, 19-21", "evening readers, 19-21 (2)", "night readers"} {
		if twins[i].Name != want {
			t.Errorf("%q; want %q", twins[i].Name, want)
		}
	}
}

func TestSolve(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var a, root [powers][powers]float64
	var x, b [powers]float64
	for i := range root {
		x[i] = rng.NormFloat64()
		for j := range root {
			root[i][j] = rng.NormFloat64()
		}
	}
	for i := range a {
		for j := range a {
			for k := range root {
				a[i][j] += root[i][k] * root[j][k]
			}
			b[i] += a[i][j] * x[j]
		}
		a[i][i] += 1
		b[i] += x[i]
	}
	for i, got := range solve(a, b) {
		if math.Abs(got-x[i]) > 1e-6 {
			t.Errorf("x[%d] = %v; want %v", i, got, x[i])
		}
	}
}

func TestBinomialTail(t *testing.T) {
	if p := binomialTail(2, 3, .5); math.Abs(p-.5) > 1e-9 {
		t.Errorf("at least two heads of three: %v", p)
	}
	if p := binomialTail(0, 9, .2); math.Abs(p-1) > 1e-9 {
		t.Errorf("at least none: %v", p)
	}
}

func BenchmarkPredict(b *testing.B) {
	_, histories := ordinary()
	l := NewLearner(timing.Builtin(), Config{})
	s := newSample(histories[:200])
	s.order(func(customer int, e Event) {
		if e.Delivered {
			l.Delivered(customer, e.Hour)
		} else {
			l.Engaged(customer, e.Hour, int(e.Minute))
		}
	}, l.Close)
	var p timing.Prediction
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Predict(i%200, s.last, &p)
	}
}
