package evaluation

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestSimpleMethodsAreDistributions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, own := newCrowd(), counts{}
		for _, h := range rapid.SliceOfN(rapid.Int64Range(0, 10*week), 0, 60).Draw(t, "hours") {
			c.tried(&own, h)
			c.add(h)
			own.add(h)
			if h%5 == 0 {
				c.close()
			}
		}
		for m := range noExposure {
			var g guess
			c.simple(&g, m, &own)
			for name, v := range map[string][]float64{"day": g.day[:], "week": g.week[:]} {
				sum := 0.
				for _, x := range v {
					if !(x > 0) {
						t.Fatalf("%s: an hour of the %s has probability %v", Methods[m].Name, name, x)
					}
					sum += x
				}
				if math.Abs(sum-1) > 1e-9 {
					t.Fatalf("%s: the hours of the %s add up to %v", Methods[m].Name, name, sum)
				}
			}
		}
	})
}

func TestMedianWindow(t *testing.T) {
	for _, c := range []struct {
		sentence string
		read     []int64
		want     []int
	}{
		{"who has never engaged gets the default", nil, []int{9, 10, 11}},
		{"four engagements are not trusted", []int64{20, 20, 20, 20}, []int{9, 10, 11}},
		{"five are", []int64{20, 20, 20, 20, 20}, []int{19, 20}},
		{"the median is not moved by a few", []int64{3, 7, 20, 20, 20}, []int{19, 20}},
		{"of an even number it is the lower one", []int64{5, 6, 7, 8, 9, 10}, []int{6, 7}},
		{"a window may reach over midnight", []int64{0, 0, 0, 0, 0}, []int{0, 23}},
		{"only the latest 25 count", append(repeat(8, 30), repeat(21, 25)...), []int{20, 21}},
	} {
		var own counts
		for i, h := range c.read {
			own.add(int64(i)*week + h)
		}
		in := newCrowd().named(&own)
		var got []int
		for h, yes := range in {
			if yes {
				got = append(got, h)
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", c.sentence, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.sentence, got, c.want)
			}
		}
	}
}

func repeat(h int64, n int) (v []int64) {
	for range n {
		v = append(v, h)
	}
	return v
}

func TestTheWindowWeighsWhatItHasMet(t *testing.T) {
	c, own := newCrowd(), counts{}
	for range 98 { // nine in ten come at ten o'clock, within the default window, the others at night
		c.tried(&own, 10)
	}
	for range 10 {
		c.tried(&own, 3)
	}
	var g guess
	c.window(&g, &own)
	if in := g.day[9] + g.day[10] + g.day[11]; math.Abs(in-99./110) > 1e-9 {
		t.Errorf("the window has %v, and has met 98 of 108", in)
	}
}
