package town

import (
	"math"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// TestTruthIsWhatIsCounted delivers single messages at every hour of ordinary weeks and counts: opens within 24 hours against
// the response, and engaged hours against the attention.
func TestTruthIsWhatIsCounted(t *testing.T) {
	const perHour = 120
	// Chi squared of 168 cells has mean 168 and standard deviation sqrt(336); five of these are passed by chance once in
	// millions. The response of all hours together has a standard error of its own, again five of which are allowed. What the
	// computation leaves out (moods that change with the week, messages put off past the 24th hour) is under 0.004.
	limit := 168 + 5*math.Sqrt(336)
	town, err := New(Config{Seed: 5, Customers: 40, Start: time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := range 40 {
		p := town.born(i)
		if seen[p.habit.name] || p.private || p.scanned {
			continue
		}
		seen[p.habit.name] = true
		attention, response := p.oracle(p.habit)
		var delivered, opened, engaged [week]float64
		var all float64
		for n := range perHour * week {
			s := n % week
			p.inbox, p.pending = p.inbox[:0], p.pending[:0]
			p.mood = gamma(p.rnd, 1/weekVar) * weekVar
			at := town.almanac.day(p.place, s/24).second(s%24*3600+p.rnd.IntN(3600)) / 1000
			mails := []mail{{id: "m", at: at, appeal: math.Exp(appeal*p.rnd.NormFloat64() - appeal*appeal/2)}}
			for k := range 5 {
				d := town.almanac.day(p.place, s/24+k)
				p.spend(d, mails, p.visits(d))
				mails = nil
			}
			hours := map[int64]bool{}
			within := false
			for _, d := range p.pending {
				switch d.kind {
				case engagement.Delivered:
					delivered[s]++
				case engagement.Open:
					hours[(d.at-town.almanac.day(p.place, 0).start)/3600_000] = true
					within = within || d.at <= at*1000+24*3600_000
				}
			}
			for h := range hours {
				engaged[h%week]++
				all++
			}
			if within {
				opened[s]++
			}
		}
		var chi, n, sum, want float64
		for h := range week {
			e := response[h] * delivered[h]
			n += delivered[h]
			chi += (opened[h] - e) * (opened[h] - e) / (e * (1 - response[h]))
			sum += opened[h]
			want += e
		}
		if chi > limit {
			t.Errorf("%s: chi squared of opens by the hour of delivery is %.0f of 168 cells, limit %.0f", p.habit.name, chi, limit)
		}
		if off, allowed := (sum-want)/n, .004+5*math.Sqrt(want/n*(1-want/n)/n); math.Abs(off) > allowed {
			t.Errorf("%s: %.4f of messages opened, %.4f expected, allowed are %.4f", p.habit.name, sum/n, want/n, allowed)
		}
		var spread float64
		for h := range week {
			e := all * attention[h] / week
			spread += (engaged[h] - e) * (engaged[h] - e) / e
		}
		if spread > limit {
			t.Errorf("%s: chi squared of engaged hours is %.0f of 168 cells, limit %.0f", p.habit.name, spread, limit)
		}
		t.Logf("%s: opened %.4f, expected %.4f; chi %.0f, %.0f", p.habit.name, sum/n, want/n, chi, spread)
	}
	if len(seen) < 5 {
		t.Errorf("only %d habits were tried", len(seen))
	}
}
