package timing

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// TestTail compares with the negative binomial's formula by lgamma.
func TestTail(t *testing.T) {
	m := Builtin()
	for _, mean := range []float64{1e-6, .003, .2, 1, 5, 20} {
		for _, strength := range []float64{3.6, 30, 1000} {
			r := 1 / (1/strength + m.Priors.Dispersion)
			pmf := func(k int) float64 {
				x := float64(k)
				return math.Exp(lgamma(x+r) - lgamma(r) - lgamma(x+1) + r*math.Log(r/(r+mean)) + x*math.Log(mean/(r+mean)))
			}
			for x := range 24 {
				above, at, any := m.tail(x, mean, strength)
				want := 0.0
				for k := x + 1; k < 2000; k++ {
					want += pmf(k)
				}
				if math.Abs(at-pmf(x)) > 1e-9*pmf(x) || math.Abs(above-want) > 1e-9*want || math.Abs(any-(1-pmf(0))) > 1e-9 {
					t.Fatalf("mean %v, strength %v, x %d: P(X>x) %v, want %v; P(X=x) %v, want %v; P(X>0) %v", mean, strength, x, above, want, at, pmf(x), any)
				}
			}
		}
	}
}

// TestSilence compares with the beta-binomial product.
func TestSilence(t *testing.T) {
	m := Builtin()
	s := State{mailDays: 40, readDays: 16, streak: 9}
	test, raised := s.silence(m)
	a, b := m.Priors.Read+16, m.Priors.Ignored+24-.97*9
	want := 1.0
	for j := range 9 {
		want *= (b + float64(j)) / (a + b + float64(j))
	}
	if math.Abs(test.P-want) > 1e-9 || !raised {
		t.Errorf("p %v, want %v; raised %v", test.P, want, raised)
	}
	for _, row := range []struct {
		name string
		s    State
	}{
		{"who never read has not gone silent", State{mailDays: 40, streak: 40}},
		{"one mail day is no habit", State{mailDays: 1, readDays: 1, streak: 0}},
		{"two ignored mails are ordinary", State{mailDays: 40, readDays: 16, streak: 2}},
	} {
		if _, raised := row.s.silence(m); raised {
			t.Error(row.name)
		}
	}
}

func TestHash(t *testing.T) {
	var bins [10]int
	for i := range 100_000 {
		u := Hash(fmt.Sprint("C-", i%1000), int64(i/1000), Burst)
		if u < 0 || u >= 1 {
			t.Fatalf("%v is not in 0..1", u)
		}
		bins[int(10*u)]++
	}
	for i, n := range bins {
		if n < 9700 || n > 10300 {
			t.Errorf("bin %d holds %d of 100,000, want about 10,000", i, n)
		}
	}
	if Hash("a", 1, Burst) == Hash("b", 1, Burst) || Hash("a", 1, Burst) == Hash("a", 2, Burst) || Hash("a", 1, Burst) != Hash("a", 1, Burst) {
		t.Error("the hash does not tell customers and days apart")
	}
}

func TestBins(t *testing.T) {
	for _, p := range []float64{1, .99, .5, .1, TwoSigma, 1e-3, 1e-9, 0} {
		if low, high := TailBounds(TailBin(p)); p < low || p > high*(1+1e-12) {
			t.Errorf("p %v is in the bin from %v to %v", p, low, high)
		}
	}
	for _, s := range []int64{1, 2, 9, 60, 3600, 86400, 1e8} {
		if low, high := ResponseBounds(ResponseBin(s)); float64(s) < low*(1-1e-12) || float64(s) > high {
			t.Errorf("%d s is in the bin from %v to %v", s, low, high)
		}
	}
}

func TestMachineRules(t *testing.T) {
	start := time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC)
	event := func(kind engagement.Kind, message string, after time.Duration) *engagement.Event {
		return &engagement.Event{Kind: kind, Message: message, Time: start.Add(after)}
	}
	rows := []struct {
		name  string
		e     *engagement.Event
		actor engagement.Actor
		rule  string
	}{
		{"an open before its delivery is a machine's", event(engagement.Open, "m-1", -time.Second), engagement.Machine, RuleBeforeDelivery},
		{"an open nine seconds after delivery is a machine's", event(engagement.Open, "m-1", 9*time.Second), engagement.Machine, RuleTooSoon},
		{"an open ten seconds after delivery is probably one's", event(engagement.Open, "m-1", 10*time.Second), engagement.Probable, RuleTooSoon},
		{"an open a minute after delivery is human", event(engagement.Open, "m-1", time.Minute), engagement.Human, ""},
		{"an open of a message that nobody delivered is human", event(engagement.Open, "m-7", time.Second), engagement.Human, ""},
		{"a reply is human however soon", event(engagement.Reply, "m-1", time.Second), engagement.Human, ""},
		{"a machine stays a machine", &engagement.Event{Kind: engagement.Open, Message: "m-1", Time: start.Add(time.Hour), Actor: engagement.Machine, ActorRule: "provider"}, engagement.Machine, "provider"},
	}
	for _, row := range rows {
		var p Profile
		p.Sent(event(engagement.Delivered, "m-1", 0), false)
		if a := p.Answered(row.e); a.Actor != row.actor || a.Rule != row.rule {
			t.Errorf("%s: %s by %q", row.name, a.Actor, a.Rule)
		}
	}

	t.Run("two links of a message within five seconds are a machine's", func(t *testing.T) {
		var p Profile
		click := func(link string, after time.Duration) Answer {
			e := event(engagement.Click, "m-1", after)
			e.Link = link
			return p.Answered(e)
		}
		if a := click("/a", time.Hour); a.Actor != engagement.Human {
			t.Errorf("the first click: %s", a.Actor)
		}
		if a := click("/b", time.Hour+5*time.Second); a.Actor != engagement.Machine || a.Rule != RuleLinkBurst {
			t.Errorf("another link after five seconds: %s by %q", a.Actor, a.Rule)
		}
		if a := click("/b", time.Hour+6*time.Second); a.Actor != engagement.Human {
			t.Errorf("the same link again: %s", a.Actor)
		}
		if a := click("/c", time.Hour+20*time.Second); a.Actor != engagement.Human {
			t.Errorf("another link after fourteen seconds: %s", a.Actor)
		}
	})

	t.Run("a customer whose opens come within two minutes has a machine reading along", func(t *testing.T) {
		var p Profile
		for i := range 6 {
			id := fmt.Sprint("m-", i)
			at := time.Duration(i) * 24 * time.Hour
			p.Sent(event(engagement.Delivered, id, at), false)
			a := p.Answered(event(engagement.Open, id, at+100*time.Second))
			if want := i >= 4; (a.Rule == RuleEarlyOpens) != want {
				t.Errorf("open %d: %s by %q", i+1, a.Actor, a.Rule)
			}
		}
		if a := p.Answered(event(engagement.Click, "m-5", 5*24*time.Hour+time.Hour)); a.Actor != engagement.Human {
			t.Errorf("a click of such a customer: %s", a.Actor)
		}
	})

	t.Run("the response is measured at the first human answer of each of the last four messages", func(t *testing.T) {
		var p Profile
		for i := range 5 {
			p.Sent(event(engagement.Delivered, fmt.Sprint("m-", i), time.Duration(i)*time.Hour), i == 4)
		}
		if a := p.Answered(event(engagement.Open, "m-0", 9*time.Hour)); a.Known {
			t.Error("the fifth but last is still known")
		}
		if a := p.Answered(event(engagement.Open, "m-4", 9*time.Hour)); !a.Known || !a.First || !a.Prime || a.Seconds != 5*3600 {
			t.Errorf("the first answer to the last: %+v", a)
		}
		if a := p.Answered(event(engagement.Click, "m-4", 10*time.Hour)); !a.Known || a.First {
			t.Errorf("the second answer to the last: %+v", a)
		}
		b := p.Append(nil)
		var again Profile
		if err := again.Decode(b); err != nil || again.memory != p.memory {
			t.Errorf("memory %+v became %+v: %v", p.memory, again.memory, err)
		}
	})
}
