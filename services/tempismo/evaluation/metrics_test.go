package evaluation

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// distribution draws hours of the day, sum 1.
func distribution(t *rapid.T) (p [hours]float64) {
	for h := range p {
		p[h] = rapid.Float64Range(0, 1).Draw(t, "weight")
	}
	p[rapid.IntRange(0, hours-1).Draw(t, "never nowhere")] += .1
	normalise(p[:])
	return p
}

func TestHit(t *testing.T) {
	flat := [hours]float64{}
	fill(flat[:], 1./hours)
	peaked := flat
	peaked[7], peaked[8], peaked[9] = .3, .2, .2
	for _, c := range []struct {
		sentence string
		p        *[hours]float64
		y, k     int
		want     float64
	}{
		{"where all hours are alike, three of 24 are drawn by lot", &flat, 5, 3, 3. / 24},
		{"the best hour is the best", &peaked, 7, 1, 1},
		{"the second is not", &peaked, 8, 1, 0},
		{"two seconds share what is left of the best two", &peaked, 9, 2, .5},
		{"the best three have room for both", &peaked, 9, 3, 1},
		{"and for nobody else", &peaked, 10, 3, 0},
	} {
		if got := hit(c.p, c.y, c.k); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.sentence, got, c.want)
		}
	}
}

func TestCRPSIsTheExpectedDistanceLessHalfTheSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, y := distribution(t), rapid.IntRange(0, hours-1).Draw(t, "y")
		away := func(a, b int) float64 { d := (a - b + hours) % hours; return float64(min(d, hours-d)) }
		want := 0.
		for i, x := range p {
			want += x * away(i, y)
			for j, z := range p {
				want -= .5 * x * z * away(i, j)
			}
		}
		if got := crps(&p, y); math.Abs(got-want) > 1e-9 || got < -1e-9 {
			t.Fatalf("%v, want %v", got, want)
		}
	})
	var sure [hours]float64
	sure[23] = 1
	if got := crps(&sure, 23); got != 0 {
		t.Errorf("a certain and true prediction scores %v", got)
	}
	if got := crps(&sure, 1); got != 2 {
		t.Errorf("two hours past midnight score %v", got)
	}
}

func TestIntervalsCoverWhatTheyAreOf(t *testing.T) {
	// A thousand customers of whom three in ten do something: the interval of the share is about as wide as the normal law has it.
	const n = 1000
	var drawn []float64
	resample(1, n, func(_ int, times []uint8) {
		sum := 0.
		total := 0
		for i, k := range times {
			total += int(k)
			if i%10 < 3 {
				sum += float64(k)
			}
		}
		if total != n {
			t.Fatalf("%d customers are drawn, not %d", total, n)
		}
		drawn = append(drawn, sum/n)
	})
	lo, hi := interval(drawn, .95)
	want := 1.96 * math.Sqrt(.3*.7/n)
	if math.Abs((hi-lo)/2-want) > .2*want || lo > .3 || hi < .3 {
		t.Errorf("%v to %v; want .3, more or less %v", lo, hi, want)
	}
	if lo, hi := interval([]float64{math.NaN()}, .95); !math.IsNaN(lo) || !math.IsNaN(hi) {
		t.Error("an interval of nothing is something")
	}
}
