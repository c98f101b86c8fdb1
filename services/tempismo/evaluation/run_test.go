package evaluation

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

func TestAReportIsTheSameEveryTime(t *testing.T) {
	var first []byte
	for range 2 {
		log, known := simulated(t, 5, 150, 14, 20)
		r, err := Run(context.Background(), log, known, Settings{Seed: 9})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Pictures {
			b = append(append(b, p.SVG...), p.Text...)
			for d := xml.NewDecoder(strings.NewReader(p.SVG)); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%s is no XML: %v", p.Name, err)
				}
			}
		}
		var text bytes.Buffer
		if err := r.Write(&text); err != nil {
			t.Fatal(err)
		}
		b = append(b, text.Bytes()...)
		if first == nil {
			first = b
		} else if !bytes.Equal(first, b) {
			t.Error("the same log and seed, another report")
		}
	}
}

// TestWhatATruthDoesNotTell drops from a truth what is optional: everything else is measured as before.
func TestWhatATruthDoesNotTell(t *testing.T) {
	log, known := simulated(t, 5, 400, 20, 26)
	whole, err := Run(context.Background(), log, known, Settings{Methods: []string{"ours"}})
	if err != nil {
		t.Fatal(err)
	}
	bare := &Truth{Header: truth.Header{Version: truth.Version, QuietUntil: known.Header.QuietUntil}}
	for _, c := range known.Customers {
		c := truth.Customer{Customer: c.Customer, Null: c.Null, Episodes: c.Episodes}
		for i := range c.Episodes {
			c.Episodes[i].Response, c.Episodes[i].Attention = nil, nil
		}
		bare.Customers = append(bare.Customers, c)
	}
	less, err := Run(context.Background(), log, bare, Settings{Methods: []string{"ours"}})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, x := range less.LeftOut {
		left[x.Name] = true
	}
	got := map[string]float64{}
	for _, b := range less.Bars {
		got[b.Name] = b.Value
	}
	compared := 0
	for _, b := range whole.Bars {
		switch v, ok := got[b.Name]; {
		case strings.HasPrefix(b.Name, "lift"):
			if ok || !left[b.Name] {
				t.Errorf("%s is measured against a chance that nobody told", b.Name)
			}
		case strings.HasPrefix(b.Name, "bytes"): // the name of the zone is part of a profile
		case !ok || v != b.Value:
			t.Errorf("%s is %v, and was %v with the whole truth", b.Name, v, b.Value)
		default:
			compared++
		}
	}
	if compared < 15 {
		t.Errorf("only %d bars were compared", compared)
	}

	bare.Header = truth.Header{Version: truth.Version}
	for i := range bare.Customers {
		bare.Customers[i].Null = nil
	}
	first := time.Time{}
	for _, c := range known.Customers {
		for _, e := range c.Episodes {
			if (e.Kind == truth.Burst || e.Kind == truth.Silent) && (first.IsZero() || e.From.Before(first)) {
				first = e.From
			}
		}
	}
	if quiet := quietUntil(bare, log); !quiet.Equal(first.AddDate(0, 0, -1)) {
		t.Errorf("it is quiet until %s, but the first episode begins at %s", quiet, first)
	}
}

func TestOpensAlone(t *testing.T) {
	b := NewBuilder(time.UTC)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 4000 {
		e := engagement.Event{
			Subject: string(rune('a' + r.IntN(20))), Channel: "email", Kind: engagement.Open,
			Time: noon.Add(time.Duration(i)*time.Hour + time.Duration(r.IntN(3600))*time.Second),
		}
		b.Add(&e)
	}
	log := b.Log()
	report, err := Run(context.Background(), log, nil, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if s := report.score("ours", "response-bits", All); s != nil {
		t.Errorf("a response to no message: %+v", s)
	}
	a, o := report.score("ours", "day-bits", All), report.score("ours-without-exposure", "day-bits", All)
	if a.Value != o.Value {
		t.Errorf("without deliveries exposure makes a difference: %v, %v", a.Value, o.Value)
	}
	for _, b := range report.Bars {
		switch b.Name {
		case "bytes-p50", "bytes-p95", "bytes-max", "any-order", "any-split", "guard":
		default:
			t.Errorf("%s takes a truth, and there is none", b.Name)
		}
	}
	if len(report.LeftOut) == 0 {
		t.Error("nothing is said to be left out")
	}

	// The same with a truth: the kinds that need deliveries are left out, and it is said why.
	known := log.unknown()
	known.Header.QuietUntil = noon.Add(3000 * time.Hour)
	if report, err = Run(context.Background(), log, known, Settings{Methods: []string{"ours"}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range report.LeftOut {
		if x.Name == "drift-power" && x.Why != "the log knows no deliveries" {
			t.Errorf("drift-power: %s", x.Why)
		}
	}
}

func TestAnEmptyLog(t *testing.T) {
	b := NewBuilder(time.UTC)
	e := at(0, engagement.Delivered, "m")
	b.Add(&e)
	if _, err := Run(context.Background(), b.Log(), nil, Settings{}); err == nil {
		t.Error("a log without engagement is judged")
	}
}

// TestAnyLogIsJudged throws at it what files may hold: strangers, heaps, holes of years, zones at the ends of the world.
func TestAnyLogIsJudged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBuilder(time.UTC)
		engaged := false
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			e := engagement.Event{
				Subject: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "who"),
				Channel: rapid.SampledFrom([]string{"email", "sms"}).Draw(t, "channel"),
				Time:    time.Unix(rapid.Int64Range(946684800, 4102444800).Draw(t, "second")/rapid.SampledFrom([]int64{1, 100000}).Draw(t, "near")+946684800, 0),
				Kind:    engagement.Kind(rapid.IntRange(1, int(engagement.Unsubscribe)).Draw(t, "kind")),
				Actor:   engagement.Actor(rapid.IntRange(0, 2).Draw(t, "actor")),
				Message: rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "message"),
				Zone:    rapid.SampledFrom([]string{"", "Pacific/Kiritimati", "Pacific/Midway", "Asia/Kathmandu", "Mars/Base"}).Draw(t, "zone"),
			}
			b.Add(&e)
			engaged = engaged || e.Kind.Engaged() && e.Actor == engagement.Human
		}
		log := b.Log()
		r, err := Run(context.Background(), log, nil, Settings{})
		if err != nil {
			if !engaged || log.summary.Engaged == 0 || strings.Contains(err.Error(), "no engagement in the sample") {
				return
			}
			t.Fatal(err)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Scores {
			if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func TestAStreakCutOffStandsForNothing(t *testing.T) {
	// Of 1,000 streaks a tenth goes on for ten days and raises an alarm; half of all are cut off by the end of the log on the fifth
	// day. Those that were not stand for them.
	j := &judge{ledger: newLedger()}
	for i := range 1000 {
		r := streak{customer: int32(i), stratum: 1, days: 3, over: true}
		if i%10 == 0 {
			r = streak{customer: int32(i), stratum: 1, days: 10, alarm: true}
			if i%20 == 0 {
				r = streak{customer: int32(i), stratum: 1, days: 5}
			}
		}
		j.streaks = append(j.streaks, r)
	}
	j.silences()
	for _, s := range j.ledger.index["silence-false-alarms"] {
		if s.stratum != 1 && s.stratum != strata {
			continue
		}
		if got := s.draw(nil); math.Abs(got-.1) > 1e-9 {
			t.Errorf("%s: %v, want .1", s.name, got)
		}
	}
}

func TestABarHoldsWithinWhatChanceExplains(t *testing.T) {
	measure := func(customers, alarms int) Bar {
		l := newLedger()
		for i := range customers {
			l.note("timing-false-alarms", i, 1, one(i < alarms), 10)
		}
		bars, _, _ := l.bars(1, customers, nil)
		for _, b := range bars {
			if b.Name == "timing-false-alarms-all" {
				return b
			}
		}
		t.Fatal("not measured")
		return Bar{}
	}
	for _, c := range []struct {
		sentence          string
		customers, alarms int
		holds             bool
	}{
		{"a share within the bounds holds", 1000, 220, true},
		{"a share a little below holds where few were asked", 200, 32, true},
		{"and does not where many were", 20000, 3200, false},
		{"a share far above never does", 200, 90, false},
	} {
		b := measure(c.customers, c.alarms)
		if b.Holds != c.holds {
			t.Errorf("%s: %+v", c.sentence, b)
		}
		if b.Lo > b.Value || b.Hi < b.Value || b.N != 10*c.customers {
			t.Errorf("%s: %+v", c.sentence, b)
		}
	}
}

func TestTheGateFollowsTheWeekBefore(t *testing.T) {
	quiet := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	day := int32(floorDiv(quiet.Unix()-4*86400, 86400))
	j := &judge{ledger: newLedger(), quiet: quiet, log: &Log{zone: time.UTC}, active: map[int32]float64{}}
	for c := range int32(1000) {
		for d := day - 7; d < day+4; d++ {
			p := (float64(c) + .5) / 1000 // as it is where nothing happens
			a := act{customer: c, day: d, last: p, least: p, ordinary: true}
			if c >= 996 && d >= day { // then four burst every day, which nobody could know of on the first
				a.last, a.least, a.burst = 1e-5, 1e-5, true
			}
			j.acts = append(j.acts, a)
			j.active[d]++
		}
	}
	j.gate()
	if power := j.ledger.index["action-gate-power"][0].draw(nil); power != .75 {
		t.Errorf("%v of the bursts act; want those of the last three days of four", power)
	}
	gate := j.ledger.index["action-gate-false-share"][0]
	if got, n := gate.draw(nil), gate.n(); got > .06 || n != 12 {
		t.Errorf("of %v actions %v are false", n, got)
	}
}

func TestTheGlossaryKnowsEverything(t *testing.T) {
	text := Glossary()
	for _, m := range Methods {
		if !strings.Contains(text, "  "+m.Name+": ") || !Knows(m.Name) {
			t.Errorf("no method %s", m.Name)
		}
	}
	for _, p := range Promises {
		if !p.explain && !strings.Contains(text, "  "+p.Name+": ") {
			t.Errorf("no bar %s", p.Name)
		}
	}
	for name := range newLedger().index {
		for _, s := range newLedger().index[name] {
			if s.stratum < strata && !strings.HasSuffix(s.name, timing.Strata[s.stratum]) {
				t.Errorf("%s is of stratum %s", s.name, timing.Strata[s.stratum])
			}
		}
	}
	for want, b := range map[string]Bar{
		"at most 2.27 %":   {Low: 0, High: timing.TwoSigma, Unit: "share"},
		"1.60 % to 2.60 %": {Low: .016, High: .026, Unit: "share"},
		"at least 80.00 %": {Low: .8, High: 1, Unit: "share"},
		"at least 250":     {Low: 250, High: Unbounded, Unit: "answers"},
		"at most 5.645":    {Low: -Unbounded, High: 5.645, Unit: "bits"},
		"100.00 %":         {Low: 1, High: 1, Unit: "share"},
		"at least 0.00 %":  {Low: 0, High: Unbounded, Unit: "share"},
		"at most 6":        {Low: 0, High: 6, Unit: "answers"},
		"at least 0.250":   {Low: .25, High: Unbounded, Unit: "nats"},
	} {
		if got := b.Range(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
