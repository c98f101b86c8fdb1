package timing

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"pgregory.net/rapid"
)

// TestTail compares with the negative binomial's formula by lgamma.
func TestTail(t *testing.T) {
	m := Builtin()
	for _, mean := range []float64{1e-6, .003, .2, 1, 5, 20} {
		for _, strength := range []float64{3.6, 30, 1000} {
			r := 1 / (1/strength + m.Priors.Dispersion)
			pmf := func(k int) float64 {
				x := float64(k)
				lgamma := func(x float64) float64 { v, _ := math.Lgamma(x); return v }
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

	// What is met more often than it says is raised when it is as rare as it says, not before: a silence is raised once.
	strict := *m
	var table [len(Strata)][]float64
	for bin := range TailBins {
		_, p := TailBounds(bin)
		table[0] = append(table[0], min(1, 3*p))
	}
	strict.Calibration = Calibration{Silence: table}
	if err := strict.Prepare(); err != nil {
		t.Fatal(err)
	}
	first := func(m *Model) uint32 {
		for s.streak = 1; ; s.streak++ {
			if _, raised := s.silence(m); raised {
				return s.streak
			}
		}
	}
	before, after := first(m), first(&strict)
	if after <= before {
		t.Errorf("raised after %d ignored mail days, and after %d where such a p is met three times as often", before, after)
	}
	s.streak = after
	if test, _ := s.silence(&strict); strict.Calibrated(Silence, 0, test.P) >= TwoSigma {
		t.Errorf("raised at %v, which is met as often as %v", test.P, strict.Calibrated(Silence, 0, test.P))
	}
}

// TestTiming: of customers who answer as the law says, the randomised p of an answer's hour is uniform; and nobody is tested
// without a message to answer.
func TestTiming(t *testing.T) {
	m := fitted()
	w := &World{Model: m}
	tw := newTown(61)
	var bins [10]float64
	var n, beyond float64
	var v View
	for customer := range 300 {
		r := tw.resident()
		var p Profile
		c := p.Channel("email")
		apply(w, c, tw.live(&r, simStart, 150, always))
		sent := simStart + 150*Day + tw.rng.Int64N(Week)
		c.Delivered(w, sent)
		m.Derive(&v, &p, "email", sent, Everything)
		for range 50 { // answers by the view's own law
			u, age := tw.rng.Float64(), 0
			for a, share := range v.Answers(sent) {
				if age = a; u < share {
					break
				}
				u -= share
			}
			h := sent + int64(age)
			moment := c.State
			moment.Engaged(w, h, 30)
			test, at, ok := m.Timing(&moment, &v, h)
			if !ok || int64(test.Observed) != mod(h, Day) {
				t.Fatalf("an answer after %d hours: %+v, %v", age, test, ok)
			}
			x := test.P - at/2 + Hash("timing", int64(n), fmt.Sprint(customer))*at
			bins[min(int(10*x), 9)]++
			if n++; x < TwoSigma {
				beyond++
			}
		}
	}
	chi := 0.0
	for _, k := range bins {
		chi += (k - n/10) * (k - n/10) / (n / 10)
	}
	if chi > 27.9 { // 9 degrees of freedom: one in a thousand
		t.Errorf("chi-squared %.1f, tenths %v", chi, bins)
	}
	if share := beyond / n; math.Abs(share-TwoSigma) > 4*math.Sqrt(TwoSigma/n) {
		t.Errorf("%.2f %% of %v answers are beyond two sigma", 100*share, n)
	}

	var s State
	s.Engaged(w, simStart, 0)
	if _, _, ok := m.Timing(&s, &v, simStart); ok {
		t.Error("an engagement without a message is tested")
	}
	s.Delivered(w, simStart-Response)
	if _, _, ok := m.Timing(&s, &v, simStart); ok {
		t.Error("an engagement three days after the message is tested")
	}
	s.Delivered(w, simStart-Response+1)
	if _, _, ok := m.Timing(&s, &v, simStart); !ok {
		t.Error("an engagement almost three days after the message is not tested")
	}
}

// TestOddHour: an evening reader who answers at 4 in the night is told of, one who answers at 21 h is not.
func TestOddHour(t *testing.T) {
	m := Builtin()
	w := &World{Model: m}
	for _, row := range []struct {
		hour int64
		odd  bool
	}{{21, false}, {20, false}, {28, true}} {
		p := history(200, 9, 20)
		c := p.Channel("email")
		at := int64(simStart + 200*Day)
		c.Delivered(w, at+9)
		c.Engaged(w, at+row.hour, 30)
		var v View
		m.Derive(&v, p, "email", at+row.hour, dayOf(at+row.hour))
		test, _, ok := m.Timing(&c.State, &v, at+row.hour)
		if !ok || (test.P < TwoSigma) != row.odd || test.Expected != 20 || test.Observed != float64(row.hour%Day) {
			t.Errorf("an answer at %d h: %+v", row.hour%Day, test)
		}
	}
}

func TestCalibrated(t *testing.T) {
	m := Builtin()
	if p := m.Calibrated(Timing, 1, .0123); p != .0123 {
		t.Errorf("without a table, %v", p)
	}
	// Half as many small p as there should be: a cautious test. Twice as many: a careless one. None below 2^-8.
	cautious, careless := make([]float64, TailBins), make([]float64, TailBins)
	for i := range cautious {
		_, high := TailBounds(i)
		cautious[i], careless[i] = min(1, high/2), min(1, 2*high)
		if i == 0 {
			cautious[i] = 1
		}
		if high < 1./256 {
			cautious[i], careless[i] = 0, 0
		}
	}
	var table [len(Strata)][]float64
	table[1], table[2] = cautious, careless
	m.Calibration = Calibration{Timing: table, Burst: table, Silence: table}
	if err := m.Prepare(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		kind    string
		stratum int
		p, want float64
	}{
		{Timing, 1, .1, .05},
		{Timing, 1, .02275, .011375},
		{Timing, 2, .1, .2},
		{Timing, 1, 1. / 4096, 1. / 8192}, // below what was met, in proportion
		{Timing, 0, .1, .1},
		{Burst, 1, .1, .1}, // never lowered
		{Burst, 2, .1, .2},
		{Silence, 2, .03, .06},
		{Drift, 2, .1, .1},
		{Timing, 1, 1, 1},
	} {
		if got := m.Calibrated(row.kind, row.stratum, row.p); math.Abs(got-row.want) > 1e-9 {
			t.Errorf("%s, evidence %s: %v is calibrated to %v, want %v", row.kind, Strata[row.stratum], row.p, got, row.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // more unusual stays more unusual
		kind, stratum := rapid.SampledFrom([]string{Timing, Burst}).Draw(t, "kind"), rapid.IntRange(0, 3).Draw(t, "stratum")
		p, q := rapid.Float64Range(1e-9, 1).Draw(t, "p"), rapid.Float64Range(1e-9, 1).Draw(t, "q")
		a, b := m.Calibrated(kind, stratum, min(p, q)), m.Calibrated(kind, stratum, max(p, q))
		if a > b+2e-9 || a <= 0 || b > 1 {
			t.Fatalf("%v and %v are calibrated to %v and %v", min(p, q), max(p, q), a, b)
		}
	})
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
		p.Sent(event(engagement.Delivered, "m-1", 0))
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
			p.Sent(event(engagement.Delivered, id, at))
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
			p.Sent(event(engagement.Delivered, fmt.Sprint("m-", i), time.Duration(i)*time.Hour))
		}
		if a := p.Answered(event(engagement.Open, "m-0", 9*time.Hour)); a.Known {
			t.Error("the fifth but last is still known")
		}
		if a := p.Answered(event(engagement.Open, "m-4", 9*time.Hour)); !a.Known || !a.First || a.Prime || a.Seconds != 5*3600 {
			t.Errorf("the first answer to the last: %+v", a)
		}
		p.Primed("m-4")
		if a := p.Answered(event(engagement.Click, "m-4", 10*time.Hour)); !a.Known || a.First || !a.Prime {
			t.Errorf("the second answer to the last: %+v", a)
		}
		b := p.Append(nil)
		var again Profile
		if err := again.Decode(b); err != nil || again.memory != p.memory {
			t.Errorf("memory %+v became %+v: %v", p.memory, again.memory, err)
		}
	})
}
