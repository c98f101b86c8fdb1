package deviation

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

var noon = time.Date(2026, 12, 3, 11, 0, 0, 0, time.UTC)

func scored() *timing.Scored {
	return &timing.Scored{
		Event: "sg-1", Kind: "open", Channel: "email", Local: "2026-12-03T12:00:00", Zone: "Europe/Rome",
		Evidence: timing.Evidence{EngagedHours: 34.2, Deliveries: 118, Days: 203, EngagedDays: 60}, Model: "builtin.1",
	}
}

// model is a builtin one with another threshold.
func model(pStar float64) *timing.Model {
	m := timing.Builtin()
	m.PStar = pStar
	return m
}

func burst(p, act float64) timing.Test {
	return timing.Test{Kind: timing.Burst, P: p, PAct: act, Observed: 5, Expected: .8}
}

var (
	silence      = timing.Test{Kind: timing.Silence, P: 1. / 162, Observed: 9, Expected: 3.6, Days: 40}
	reactivation = timing.Test{Kind: timing.Reactivation, P: 1. / 162, PAct: 1, Observed: 12, Expected: 4.8, Days: 47}
	oddHour      = timing.Test{Kind: timing.Timing, P: 1. / 60, Observed: 3, Expected: 20}
	moved        = timing.Test{Kind: timing.Drift, P: 1. / 50, Observed: 16, Expected: 8}
)

func TestJudge(t *testing.T) {
	const pStar = .0131
	type told struct {
		test timing.Test
		at   time.Duration
		want Verdict
	}
	rows := []struct {
		name   string
		change func(s *timing.Scored)
		tests  []told
	}{
		{"a burst beyond two sigma is told", nil, []told{{burst(.0227, .1), 0, Told}}},
		{"one within is not", nil, []told{{burst(.02275, .1), 0, Ordinary}}},
		{"one engaged hour is no burst, however rare", nil, []told{{timing.Test{Kind: timing.Burst, P: 1e-6, PAct: 1, Observed: 1}, 0, Ordinary}}},
		{"without five engaged hours nothing is told", func(s *timing.Scored) { s.Evidence.EngagedHours = 4.9 }, []told{{burst(1e-6, 1e-6), 0, Unproven}}},
		{"without eight deliveries nothing is told", func(s *timing.Scored) { s.Evidence.Deliveries = 7 }, []told{{burst(1e-6, 1e-6), 0, Unproven}}},
		{"without three weeks nothing is told", func(s *timing.Scored) { s.Evidence.Days = 20 }, []told{{burst(1e-6, 1e-6), 0, Unproven}}},
		{"where no deliveries are reported eight engaged days are enough", func(s *timing.Scored) { s.Evidence.Deliveries, s.Evidence.EngagedDays = 0, 8 }, []told{{burst(1e-6, 1e-6), 0, Told}}},
		{"seven are not", func(s *timing.Scored) { s.Evidence.Deliveries, s.Evidence.EngagedDays = 0, 7 }, []told{{burst(1e-6, 1e-6), 0, Unproven}}},
		{"a burst is told once a day", nil, []told{{burst(.01, .1), 0, Told}, {burst(.005, .05), 23 * time.Hour, Cooling}, {burst(.01, .1), 24 * time.Hour, Told}}},
		{"one that has become actionable is told again, once", nil, []told{{burst(.01, .1), 0, Told}, {burst(.001, .01), time.Hour, Told}, {burst(.0001, .001), 2 * time.Hour, Cooling}}},
		{"an older event does not open the cool-down", nil, []told{{burst(.01, .1), 0, Told}, {burst(.01, .1), -time.Hour, Cooling}}},
		{"a silence is told until it ends", nil, []told{{silence, 0, Told}, {silence, 999 * time.Hour, Cooling}, {reactivation, 1000 * time.Hour, Told}, {silence, 3000 * time.Hour, Told}}},
		{"kinds cool down apart", nil, []told{{burst(.01, .1), 0, Told}, {reactivation, time.Hour, Told}, {silence, 2 * time.Hour, Told}, {oddHour, 2 * time.Hour, Told}, {moved, 3 * time.Hour, Told}}},
		{"an odd hour is told once a day", nil, []told{{oddHour, 0, Told}, {oddHour, 23 * time.Hour, Cooling}, {oddHour, 24 * time.Hour, Told}}},
		{"one that is odd within two sigma is not", nil, []told{{timing.Test{Kind: timing.Timing, P: .03, Observed: 3}, 0, Ordinary}}},
		{"an odd hour of a stranger is not told", func(s *timing.Scored) { s.Evidence.EngagedHours = 4.9 }, []told{{oddHour, 0, Unproven}}},
		{"a habit that has moved is told once a fortnight", nil, []told{{moved, 0, Told}, {moved, 13 * 24 * time.Hour, Cooling}, {moved, 14 * 24 * time.Hour, Told}}},
		{"one that moved has had evidence when it was raised, which is halved by then", func(s *timing.Scored) { s.Evidence.EngagedHours = 2.5 }, []told{{moved, 0, Told}}},
		{"a burst in an hour in which everybody is unusual is not told", func(s *timing.Scored) { s.Everybody = true }, []told{{burst(1e-6, 1e-6), 0, Suspended}}},
		{"anything else in such an hour is", func(s *timing.Scored) { s.Everybody = true }, []told{{silence, 0, Told}, {reactivation, 0, Told}, {oddHour, 0, Told}, {moved, 0, Told}}},
		{"a kind of a later version is left alone", nil, []told{{timing.Test{Kind: "later", P: 1e-9}, 0, Unknown}}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var m Memory
			s := scored()
			if row.change != nil {
				row.change(s)
			}
			for i, x := range row.tests {
				d, v := m.Judge(model(pStar), s, x.test, noon.Add(x.at))
				if v != x.want {
					t.Errorf("test %d: %s, want %s", i, v, x.want)
				}
				if (v == Told) != (d.Kind == x.test.Kind) {
					t.Errorf("test %d: %s with %+v", i, v, d)
				}
				var again Memory
				b := m.Append(nil)
				if err := again.Decode(b); err != nil || !bytes.Equal(again.Append(nil), b) {
					t.Errorf("memory %+v became %+v: %v", m, again, err)
				}
				m = again
			}
		})
	}
}

func TestDeviation(t *testing.T) {
	s := scored()
	s.Score = timing.Score{Now: 83, Best: 84, Confidence: 81, Level: timing.LevelOwn}
	d, _ := new(Memory).Judge(model(.0131), s, burst(.0037, .0114), noon)
	if d.Z != 2.68 || d.OneIn != 270 || !d.Actionable || d.Gate != (Gate{.0114, .0131}) || d.LocalDay != "2026-12-03" || d.Zone != "Europe/Rome" || d.Score != s.Score || d.Cause.ID != "sg-1" || d.Model != "builtin.1" {
		t.Errorf("%+v", d)
	}
	if d.Summary != "read in 5 different hours today; the mail received explains 0.8" {
		t.Error(d.Summary)
	}
	if d, _ := new(Memory).Judge(model(.0131), s, burst(.0037, .0132), noon); d.Actionable {
		t.Error("a burst beyond the gate is actionable")
	}
	if d, _ = new(Memory).Judge(model(.0131), s, silence, noon); d.Z >= 0 || d.Actionable || d.Summary != "usually reads 4 of 10 and has ignored 9 in a row: a 1-in-162 chance" {
		t.Errorf("%+v", d)
	}
	if d, _ = new(Memory).Judge(model(.0131), s, reactivation, noon); !d.Actionable || d.Summary != "is back after 47 days and 12 ignored messages" {
		t.Errorf("%+v", d)
	}
	if d, _ = new(Memory).Judge(model(.0131), s, oddHour, noon); d.Actionable || d.Z <= 0 || d.Summary != "opened at 3h; less than 1 in 60 of their answers come at such an hour" {
		t.Errorf("%+v", d)
	}
	if d, _ = new(Memory).Judge(model(.0131), s, moved, noon); d.Actionable || d.Summary != "the habit has moved: from around 8h to around 16h" {
		t.Errorf("%+v", d)
	}
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"kind", "z", "p", "one_in", "observed", "expected", "local_day", "evidence", "actionable", "gate", "score", "cause", "model", "calibration", "summary"} {
		if !strings.Contains(string(data), `"`+field+`":`) {
			t.Errorf("%s is missing in %s", field, data)
		}
	}
}

// What a p means is said by the model of the judge: it decides, and is told beside what was measured.
func TestCalibration(t *testing.T) {
	m := model(.01)
	m.Version = "2026-12-03.1"
	m.Calibration = timing.Calibration{}
	var table [len(timing.Strata)][]float64
	for stratum := range table {
		for i := range timing.TailBins { // ordinary answers are met at odd hours less often than they should be by half
			_, high := timing.TailBounds(i)
			table[stratum] = append(table[stratum], high/2)
		}
	}
	m.Calibration[timing.Timing] = table
	odd := oddHour
	odd.P = .04
	d, v := new(Memory).Judge(m, scored(), odd, noon)
	if v != Told || d.P != .04 || math.Abs(d.Calibrated-.02) > 1e-6 || d.OneIn != 50 || d.Z != 2.05 || d.Calibration != m.Version || d.Model != "builtin.1" || !strings.Contains(d.Summary, "1 in 50 ") {
		t.Errorf("%s: %+v", v, d)
	}
	odd.P = .05
	if d, v := new(Memory).Judge(m, scored(), odd, noon); v != Ordinary {
		t.Errorf("%s: %+v", v, d)
	}
	if d, _ := new(Memory).Judge(m, scored(), burst(.01, .1), noon); d.Calibrated != 0 {
		t.Errorf("a kind without a table was calibrated: %+v", d)
	}
}

// Memories of before there were timing and drift, and of before the last of all was remembered, are still read.
func TestMemoryOfOldVersions(t *testing.T) {
	v1 := []byte("\x01\x02\x04\x06\x01\x05email")
	var m Memory
	if err := m.Decode(v1); err != nil || m.burst != 1 || m.acting != 2 || m.reactivation != 3 || m.timing != 0 || m.drift != 0 || len(m.silent) != 1 || m.silent[0] != "email" {
		t.Errorf("%+v, %v", m, err)
	}
	for stored, last := range map[string]int64{"\x02\x02\x04\x06\x0a\x08\x01\x05email": 5, "\x02\x00\x00\x00\x00\x00\x01\x05email": 0} {
		if err := m.Decode([]byte(stored)); err != nil || m.last != last {
			t.Errorf("%+v, %v", m, err)
		}
	}
}

// What was told is idle when the last of it is: silences count like everything, and nothing at all is never idle.
func TestIdle(t *testing.T) {
	for _, test := range []timing.Test{burst(1e-6, 1e-6), silence, reactivation} {
		var m Memory
		if m.Idle(noon.AddDate(9, 0, 0)) {
			t.Error("nothing was told, and it is idle")
		}
		if _, v := m.Judge(model(.0131), scored(), test, noon); v != Told {
			t.Fatal(v)
		}
		var again Memory
		if err := again.Decode(m.Append(nil)); err != nil {
			t.Fatal(err)
		}
		if again.Idle(noon) || !again.Idle(noon.Add(time.Second)) {
			t.Errorf("%s: %+v", test.Kind, again)
		}
	}
}

// A profile whose beginning is lost may be wrong about what is usual: it is shown, and moves nothing.
func TestNothingActsOnAPartialProfile(t *testing.T) {
	for _, test := range []timing.Test{burst(1e-6, 1e-6), reactivation} {
		for _, partial := range []bool{false, true} {
			s := scored()
			s.Evidence.Partial = partial
			d, v := new(Memory).Judge(model(.0131), s, test, noon)
			if v != Told || d.Actionable == partial {
				t.Errorf("%s, partial %v: %s, actionable %v", test.Kind, partial, v, d.Actionable)
			}
		}
	}
}

func TestZ(t *testing.T) {
	for _, row := range []struct{ p, z float64 }{{timing.TwoSigma, 2}, {.5, 0}, {1e-9, 6}, {1e-12, 6}, {1, -6}, {.001349898, 3}} {
		if got := Z(row.p); math.Abs(got-row.z) > 1e-9 {
			t.Errorf("p %v is %v sigma, want %v", row.p, got, row.z)
		}
	}
}

// TestQuiet: whatever comes, of one kind no more is told than cool-downs allow.
func TestQuiet(t *testing.T) {
	judge := model(.01)
	rapid.Check(t, func(t *rapid.T) {
		var m Memory
		var bursts, acting int
		at := noon
		for range rapid.IntRange(1, 100).Draw(t, "events") {
			at = at.Add(time.Duration(rapid.IntRange(0, 6*3600).Draw(t, "gap")) * time.Second)
			p := rapid.Float64Range(1e-9, .05).Draw(t, "p")
			if d, v := m.Judge(judge, scored(), burst(p, math.Min(1, 3*p)), at); v == Told {
				bursts++
				if d.Actionable {
					acting++
				}
			}
		}
		days := int(at.Sub(noon)/CoolDown) + 1
		if bursts > 2*days || acting > days {
			t.Fatalf("%d bursts told in %d days, %d of them actionable", bursts, days, acting)
		}
	})
}

func FuzzDecode(f *testing.F) {
	m := Memory{burst: 1, acting: 1 << 40, drift: 5, silent: []string{"email", "sms"}}
	f.Add(m.Append(nil))
	f.Add([]byte("\x01\x02\x04\x06\x01\x05email"))
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m, again Memory
		if m.Decode(b) != nil {
			return
		}
		if err := again.Decode(m.Append(nil)); err != nil || !bytes.Equal(again.Append(nil), m.Append(nil)) {
			t.Fatalf("%+v became %+v: %v", m, again, err)
		}
	})
}
