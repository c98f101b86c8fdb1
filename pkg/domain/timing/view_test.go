package timing

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBuiltin(t *testing.T) {
	m := Builtin()
	if err := m.validate(); err != nil {
		t.Fatal(err)
	}
	data, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseModel(data)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := again.Append(nil)
	if string(other) != string(data) {
		t.Error("a model changes on the wire")
	}
	if len(data) > 15_000 {
		t.Errorf("the model takes %d bytes on the wire", len(data))
	}
	if again.exposed != m.exposed || again.weekly != m.weekly || again.horizon != m.horizon {
		t.Error("what is derived from a model differs after the wire")
	}
	for i, u := range m.Habits {
		t.Logf("habit %d: correlation %.4f", i, u.Correlation)
		if i > 0 && u.Correlation > m.Habits[i-1].Correlation {
			t.Errorf("habit %d is stronger than the one before", i)
		}
		for j, w := range m.Habits[:i+1] { // orthonormal under the hours that they were found with
			sum, want := 0.0, 0.0
			if i == j {
				want = 1
			}
			for h, g := range margin(m) {
				sum += g * u.Hours[h] * w.Hours[h]
			}
			if math.Abs(sum-want) > 1e-9 {
				t.Errorf("habits %d and %d: product %v, want %v", i, j, sum, want)
			}
		}
	}
}

func margin(m *Model) (g [Day]float64) {
	pairs := bumps(&m.Population)
	for i := range pairs {
		for _, v := range pairs[i] {
			g[i] += v
		}
	}
	normalise(g[:], 1)
	return g
}

func TestParseModelNamesEverythingThatIsWrong(t *testing.T) {
	m := Builtin()
	m.Version, m.Kernel[0], m.Population[3], m.Priors.Hours, m.PStar = "", 7, 0, -1, 2
	data, _ := m.Append(nil)
	_, err := ParseModel(data)
	if err == nil {
		t.Fatal("want an error")
	}
	for _, word := range []string{"version", "kernel", "population", "priors.hours", "p_star"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not named in: %v", word, err)
		}
	}
	if _, err := ParseModel([]byte(`{"kernel":`)); err == nil {
		t.Error("half a document is a model")
	}
	if _, err := ParseModelRecord([]byte(`{"type":"io.tempismo.scored.v1","data":{}}`)); err == nil {
		t.Error("a scored event is a model")
	}
}

// TestSpoiltModels: whatever is wrong with a model, it is refused or it serves: nothing panics, and nothing that is told is not
// a number.
func TestSpoiltModels(t *testing.T) {
	clean, err := fitted().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	rapid.Check(t, func(t *rapid.T) {
		var tree map[string]any
		if err := json.Unmarshal(clean, &tree); err != nil {
			t.Fatal(err)
		}
		tree["season"] = map[string]any{"first": 20000, "factors": []any{1.0, 2.0}}
		shares := make([]any, TailBins)
		for i := range shares {
			shares[i] = 1 / float64(i+1)
		}
		tree["calibration"] = map[string]any{"timing": []any{shares, shares, shares, shares}}
		var node any = tree
		for { // somewhere in it
			var keys []string
			parent, list := node, []any(nil)
			switch n := node.(type) {
			case map[string]any:
				for k := range n {
					keys = append(keys, k)
				}
				slices.Sort(keys)
			case []any:
				list = n
			}
			if len(keys)+len(list) == 0 {
				return
			}
			bad := rapid.SampledFrom([]any{0.0, -1.0, 1e300, 1e-300, "x", nil, []any{}, map[string]any{}, 3.0}).Draw(t, "bad")
			if keys != nil {
				k := rapid.SampledFrom(keys).Draw(t, "key")
				if node = parent.(map[string]any)[k]; !nested(node) || rapid.Bool().Draw(t, "here") {
					parent.(map[string]any)[k] = bad
					break
				}
			} else {
				i := rapid.IntRange(0, len(list)-1).Draw(t, "index")
				if node = list[i]; !nested(node) || rapid.Bool().Draw(t, "here") {
					list[i] = bad
					break
				}
			}
		}
		data, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseModel(data)
		if err != nil {
			refused++
			return
		}
		w := &World{Model: m}
		p := Profile{Segment: "night shift"}
		c := p.Channel("email")
		apply(w, c, history200)
		v := p.View(m, "email", c.head)
		for _, x := range append(v.Phi[:], v.Rate, v.Worth(3, 9), m.Burst(&c.State, &v, dayOf(c.head)).P, m.Calibrated(Timing, 1, .01)) {
			if math.IsNaN(x) || math.IsInf(x, 0) || x < 0 {
				t.Fatalf("a model that was accepted tells %v", x)
			}
		}
	})
	if refused == 0 {
		t.Error("no spoilt model was refused")
	}
}

func nested(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) > 0
	case []any:
		return len(v) > 0
	}
	return false
}

// history200 is some life to hold a model against.
var history200 = func() []happening {
	tw := newTown(71)
	r := tw.resident()
	return tw.live(&r, 20000*Day-100*Day, 110, always)
}()

// history is a customer who gets mail at hour sent of every day and reads it at hour read.
func history(days int, sent, read int64) *Profile {
	w := &World{Model: Builtin()}
	p := new(Profile)
	c := p.Channel("email")
	for d := range int64(days) {
		at := simStart + d*Day
		if sent >= 0 {
			c.Delivered(w, at+sent)
		}
		if d%2 == 0 {
			c.Engaged(w, at+read, 30)
		}
	}
	return p
}

func TestViewOfNobody(t *testing.T) {
	m := Builtin()
	v := new(Profile).View(m, "email", simStart)
	if v.Level != LevelBusinessHours || v.Confidence != 0 || len(v.Reasons) > 0 {
		t.Errorf("a customer without events: level %s, confidence %d, reasons %v", v.Level, v.Confidence, v.Reasons)
	}
	if night, noon := v.Scores[2], v.Scores[9]; night >= noon {
		t.Errorf("a send at 02 scores %d, one at 09 %d", night, noon)
	}
}

func TestEveningReader(t *testing.T) {
	m := Builtin()
	p := history(200, 9, 20)
	v := p.View(m, "email", simStart+200*Day)
	if v.Level != LevelOwn || v.Confidence < 80 {
		t.Errorf("level %s, confidence %d", v.Level, v.Confidence)
	}
	if v.Scores[19] < 60 || v.Scores[19] <= v.Scores[8] || v.Scores[19] <= v.Scores[21] {
		t.Errorf("sends at 08, 19 and 21 score %d, %d and %d: the hours before the habit are best", v.Scores[8], v.Scores[19], v.Scores[21])
	}
	if len(v.Reasons) == 0 || v.Reasons[0].Hour != 20 || v.Reasons[0].Ratio < 2 {
		t.Errorf("reasons %v: the first is 20 o'clock", v.Reasons)
	}
	c := &p.Channels[0]
	if rate := v.Rate; rate < .3 || rate > .8 {
		t.Errorf("%v engaged hours per mail, half of the mails were read", rate)
	}
	if mean := v.expected(&c.State, dayOf(c.head)); mean < .35 || mean > .65 {
		t.Errorf("%v engaged hours expected a day, one in two days has one", mean)
	}
}

// TestExposure: who opens at 9 because mail comes at 9 has less of a habit than who opens at 9 although mail comes at 18.
func TestExposure(t *testing.T) {
	m := Builtin()
	now := int64(simStart + 200*Day)
	led, own := history(200, 9, 9).View(m, "email", now), history(200, 18, 9).View(m, "email", now)
	if led.Phi[9] >= own.Phi[9] {
		t.Errorf("attention at 9 is %.2f with mail at 9 and %.2f with mail at 18", led.Phi[9], own.Phi[9])
	}
}

// TestExposureDays: answers fall on the days that kernel and mail put them on.
func TestExposureDays(t *testing.T) {
	m := Builtin()
	rapid.Check(t, func(t *rapid.T) {
		var s State
		for range rapid.IntRange(1, 5).Draw(t, "hours") {
			s.sent[rapid.IntRange(0, Day-1).Draw(t, "hour")] += rapid.Uint32Range(1, 9).Draw(t, "sent at the hour")
		}
		for range rapid.IntRange(1, 3).Draw(t, "days") {
			s.sentDays[rapid.IntRange(0, 6).Draw(t, "day")] += rapid.Uint32Range(1, 9).Draw(t, "sent on the day")
		}
		var want [7]float64
		for day, n := range &s.sentDays {
			for hour, c := range &s.sent {
				for a, k := range &m.Kernel {
					want[(day+(hour+a)/Day)%7] += float64(n) * float64(c) * k
				}
			}
		}
		normalise(want[:], 1)
		w, exposure := World{Model: m}, [Day]float64{}
		for d, got := range m.exposureDays(&s, w.exposure(&exposure, &s.sent)) {
			if math.Abs(got-want[d]) > 1e-8 { // carry is rounded to multiples of 2^-28
				t.Fatalf("day %d: %v of the answers, want %v", d, got, want[d])
			}
		}
	})
}

// TestFlow: it does not matter, to the last bit, whether deliveries are added one after the other or all at once.
func TestFlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Builtin()
		var one flow
		var sent [Day]uint32
		one.follow(m, &sent)
		for _, h := range rapid.SliceOfN(rapid.IntRange(0, Day-1), 0, 500).Draw(t, "hours") {
			one.add(m, &sent, h, uint32(64+h*7%193))
		}
		if one.sent != sent {
			t.Fatalf("it is not followed: %v, %v", one.sent, sent)
		}
		var all flow
		if all.follow(m, &sent); one != all {
			t.Fatalf("one by one\n%v, at once\n%v", one, all)
		}
	})
}

// TestExplained: engagements that fall where mail and population put them say nothing about the customer, however many.
func TestExplained(t *testing.T) {
	m := Builtin()
	var sent [Day]uint32
	sent[9] = unit
	w, exposure := World{Model: m}, [Day]float64{}
	w.exposure(&exposure, &sent) // all mail at 9
	for _, row := range []struct {
		n    float64
		much float64 // beyond which an hour was not explained; smoothing blurs the edge at 9, where mail comes
	}{{2, .1}, {200, .6}} {
		var p Prediction
		r := Rhythm{n: uint32(row.n), year: simStart / Week, quarter: simStart / Week}
		m.Predict(&p, &Rhythm{}, simStart/Week, &exposure)
		for h, q := range p.Population {
			r.slow[h], r.fast[h] = uint32(1e5*row.n*unit*q/1e5), uint32(1e5*row.n*unit*q/1e5)
		}
		m.Predict(&p, &r, simStart/Week, &exposure)
		for h, x := range p.Hours {
			blurred := h == 8 || h == 9
			if ratio := x / p.Population[h]; math.Abs(ratio-1) > row.much && !blurred {
				t.Errorf("%v engagements, hour %d: %.3f times what was expected", row.n, h, ratio)
			}
		}
	}
}

func TestBorrowing(t *testing.T) {
	m := Builtin()
	w := &World{Model: m}
	p := history(200, 9, 20)
	now := int64(simStart + 200*Day)
	p.Channel("sms").Delivered(w, now)
	v := p.View(m, "sms", now)
	if v.Level != LevelPersona || v.Scores[19] <= v.Scores[8] {
		t.Errorf("level %s, sends at 19 and 08 score %d and %d: a new channel borrows the evenings of the old one", v.Level, v.Scores[19], v.Scores[8])
	}
}

// TestOpensWithoutDeliveries: a source that reports no sends.
func TestOpensWithoutDeliveries(t *testing.T) {
	m := Builtin()
	w := &World{Model: m}
	p := history(200, -1, 20)
	v := p.View(m, "email", simStart+200*Day)
	if v.Reported() || !v.Evidence.Enough() || v.Evidence.Deliveries != 0 || v.Evidence.EngagedDays != 100 {
		t.Errorf("reported %v, evidence %+v", v.Reported(), v.Evidence)
	}
	with := history(200, 9, 20).View(m, "email", simStart+200*Day)
	if v.Confidence >= with.Confidence {
		t.Errorf("confidence %d without deliveries, %d with", v.Confidence, with.Confidence)
	}
	c := &p.Channels[0]
	if mean := v.expected(&c.State, dayOf(c.head)); mean < .35 || mean > .65 {
		t.Errorf("%v engaged hours expected a day, one in two days has one", mean)
	}
	if change := c.Delivered(w, simStart+201*Day); len(change.Alarms) > 0 {
		t.Error("a silence without mail days")
	}
}

// TestWithout: a view without a day does not know what happened on it.
func TestWithout(t *testing.T) {
	m := Builtin()
	w := &World{Model: m}
	p, q := history(60, 9, 20), history(60, 9, 20)
	day := dayOf(simStart) + 60
	p.Channel("email").Engaged(w, day*Day+3, 0)
	q.Channel("email").Engaged(w, day*Day+3, 0)
	q.Channel("email").Engaged(w, day*Day+4, 0)
	q.Channel("email").Engaged(w, day*Day+5, 0)
	var a, b View
	m.Derive(&a, p, "email", day*Day+5, day)
	m.Derive(&b, q, "email", day*Day+5, day)
	if a.Phi != b.Phi || a.Evidence != b.Evidence || a.Rate != b.Rate {
		t.Error("the day under test is in the view that tests it")
	}
}

func TestScoreIsBounded(t *testing.T) {
	m := Builtin()
	w := &World{Model: m}
	rapid.Check(t, func(t *rapid.T) {
		events := draw(t)
		var p Profile
		apply(w, p.Channel("email"), events)
		now := p.Channels[0].head + rapid.Int64Range(0, 60*Week).Draw(t, "later")
		v := p.View(m, "email", now)
		mean := 0.0
		for how, phi := range v.Phi {
			mean += phi / Week
			if s := v.Score(int64(how)); s != int(v.Scores[how]) || s < 0 || s > 100 {
				t.Fatalf("score %d and %d", s, v.Scores[how])
			}
			met := 0.
			for a, k := range m.Kernel[:Horizon] {
				met += k * v.Phi[(how+a)%Week]
			}
			if got := v.met(int64(how)); math.Abs(got-met) > 1e-9*met {
				t.Fatalf("answers meet %v, want %v", got, met)
			}
		}
		if math.Abs(mean-1) > 1e-9 {
			t.Fatalf("attention has mean %v", mean)
		}
		best, score := v.Best(now)
		if best < now || best >= now+Horizon || score < v.Score(now) {
			t.Fatalf("best hour %d of %d scores %d, now %d", best, now, score, v.Score(now))
		}
	})
}

// TestScoreIsALogarithm: 50 points to the doubling, rounded, up to the last bit of the numbers at which a score begins.
func TestScoreIsALogarithm(t *testing.T) {
	m := &Model{prepared: prepared{horizon: 1}}
	for i := range 40000 {
		exact := -20 + float64(i)*140/40000
		if _, part := math.Modf(math.Abs(exact)); math.Abs(part-.5) < 1e-6 {
			continue
		}
		if s, want := m.score(exp2((exact-50)/50)), int(min(max(math.Round(exact), 0), 100)); s != want {
			t.Fatalf("score %d of what is worth %v, want %d", s, exact, want)
		}
	}
	for s := 1; s <= 100; s++ {
		if at, below := m.score(points[s]), m.score(math.Nextafter(points[s], 0)); at != s || below != s-1 {
			t.Errorf("score %d where %d begins, %d right below", at, s, below)
		}
	}
	if s := m.score(math.NaN()); s != 0 {
		t.Errorf("score %d of no number", s)
	}
}

// TestBest: the best hour is the first with the highest score, also where scores end.
func TestBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Builtin()
		v := View{model: m}
		scale := rapid.SampledFrom([]float64{1, 1, .2, 6}).Draw(t, "scale")
		for h := range v.hours {
			v.hours[h] = scale * rapid.SampledFrom([]float64{.1, .9, 1, 1.01, 1.1, 3}).Draw(t, "hour")
		}
		for d := range v.weekday {
			v.weekday[d] = rapid.SampledFrom([]float64{.5, 1, 1.2}).Draw(t, "day")
		}
		now := rapid.Int64Range(0, 1000).Draw(t, "now")
		want, most := now, v.Score(now)
		for h := now + 1; h < now+Horizon; h++ {
			if s := v.Score(h); s > most {
				want, most = h, s
			}
		}
		if h, score := v.Best(now); h != want || score != most {
			t.Errorf("best %d with %d, want %d with %d", h-now, score, want-now, most)
		}
	})
}
