package trainer

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// spread puts n tests into bins so that the share below any p is p^power: 1 is what ordinary tests look like.
func spread(bins int, bounds func(int) (low, high float64), n, power float64) []uint32 {
	out := make([]uint32, bins)
	for i := range out {
		low, high := bounds(i)
		out[i] = uint32(math.Round(n * (math.Pow(high, power) - math.Pow(low, power))))
	}
	return out
}

func newMonitor(d ...timing.Digest) *monitor {
	m := &monitor{tails: map[string]*[len(timing.Strata)][timing.TailBins]float64{}, passed: map[int32]string{}}
	for i := range d {
		m.add(&d[i], true)
	}
	return m
}

func TestCalibrate(t *testing.T) {
	digest := func(kind string, n, power float64) timing.Digest {
		return timing.Digest{Tails: []timing.Tail{{Kind: kind, Stratum: timing.Strata[1], Bins: spread(timing.TailBins, timing.TailBounds, n, power)}}}
	}
	bin := timing.TailBin(.02)
	_, high := timing.TailBounds(bin)
	for _, row := range []struct {
		sentence string
		digest   timing.Digest
		want     float64 // the share below high in that stratum; 0: there is no table
	}{
		{"timing means what was found, be it more", digest(timing.Timing, 1e6, .9), math.Pow(high, .9)},
		{"or less", digest(timing.Timing, 1e6, 1.2), math.Pow(high, 1.2)},
		{"too few tests say nothing", digest(timing.Timing, 900, .9), 0},
		{"bursts that are as rare as they should be need no table", digest(timing.Burst, 1e6, 1), 0},
		{"nor do those that are rarer", digest(timing.Burst, 1e6, 1.3), 0},
		{"those that are too frequent do", digest(timing.Burst, 1e6, .8), math.Pow(high, .8)},
		{"so do silences", digest(timing.Silence, 1e6, .8), math.Pow(high, .8)},
	} {
		tables := newMonitor(row.digest).calibrate(nil)
		got := 0.
		if table, ok := tables[row.digest.Tails[0].Kind]; ok {
			if len(table[0])+len(table[2])+len(table[3]) > 0 {
				t.Errorf("%s: strata without tests have tables", row.sentence)
			}
			got = table[1][bin]
			for i := 1; i < len(table[1]); i++ {
				if !(table[1][i] <= table[1][i-1]) || !(table[1][i] > 0) {
					t.Errorf("%s: the share below a smaller p is larger: %v", row.sentence, table[1])
					break
				}
			}
		}
		if math.Abs(got-row.want) > .01*row.want {
			t.Errorf("%s: %v, want %v", row.sentence, got, row.want)
		}
	}

	// A table from the sample is a start that many tests outweigh, and stays where there are none.
	own := timing.Calibration{timing.Timing: {}}
	table := own[timing.Timing]
	for s := range table {
		table[s] = found(new([timing.TailBins]float64), nil)
		for i := range table[s] {
			table[s][i] = math.Sqrt(table[s][i])
		}
	}
	own[timing.Timing] = table
	got := newMonitor(digest(timing.Timing, 2000, 1)).calibrate(own)[timing.Timing]
	if lo, hi := high, math.Sqrt(high); !(got[1][bin] > 1.2*lo && got[1][bin] < .6*hi) || got[2][bin] != hi {
		t.Errorf("between %v found and %v from the sample: %v, and where nothing was found %v", lo, hi, got[1][bin], got[2][bin])
	}
	m := version("x")
	m.Calibration = map[string][4][]float64{timing.Timing: got}
	if err := m.Prepare(); err != nil {
		t.Errorf("the table cannot serve: %v", err)
	}
}

func TestGate(t *testing.T) {
	act := func(n, power float64) timing.Digest {
		return timing.Digest{Active: uint64(n), Tails: []timing.Tail{{Kind: timing.Act, Stratum: timing.Strata[2], Bins: spread(timing.ActBins, timing.ActBounds, n, power)}}}
	}
	if _, ok := newMonitor(act(900, 1)).gate(); ok {
		t.Error("900 days of customers are enough for a gate")
	}
	ordinary, ok := newMonitor(act(1e6, 1)).gate()
	if !ok || ordinary > 1e-5 {
		t.Errorf("where nothing happens %v may act", ordinary)
	}
	if busy, ok := newMonitor(act(1e6, .5)).gate(); !ok || !(busy > 1e-5 && busy < .005) {
		t.Errorf("where much happens %v may act", busy)
	}
}

// digests publishes a digest a day of event time, the newest at at.
func digests(t *testing.T, log *kafka.Log, run stream.Run, at time.Time, days int, d timing.Digest) {
	t.Helper()
	w, err := kafka.NewWriter(t.Context(), log, run)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d.Cells = []timing.Cell{}
	for i := range days {
		d.Minute = at.AddDate(0, 0, i+1-days)
		data, err := json.Marshal(&d)
		if err != nil {
			t.Fatal(err)
		}
		e := stream.Event{ID: fmt.Sprint("dg-", i), Source: "/tempismo/profiler/r1/engagement.events.v1/0", Type: timing.DigestType, Time: d.Minute, Sequence: fmt.Sprintf("%020d.000", i), Data: data}
		for range 2 { // a takeover publishes its last outputs again
			if err := w.Write(t.Context(), topics.Digests, nil, e.Append(nil), d.Minute); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestAGateIsRenewedWhereTheModelIsRefused: the budget of acts is kept by the gate of the next day, whatever becomes of the
// model; it counts the digests of the last week, each once, from when on fitted models were in force.
func TestAGateIsRenewedWhereTheModelIsRefused(t *testing.T) {
	run := stream.Run{ID: "r1"}
	log, _ := broker(t, run)
	now := time.Now().UTC()
	held := version("2026-01-01.1")
	if err := (&Copy{Model: held, At: now.AddDate(0, 0, -10)}).publish(t.Context(), log, run); err != nil {
		t.Fatal(err)
	}
	digests(t, log, run, now.Add(-time.Hour), 15, timing.Digest{Active: 1000, Tails: []timing.Tail{{Kind: timing.Act, Stratum: timing.Strata[2], Bins: spread(timing.ActBins, timing.ActBounds, 1000, .5)}}})

	seen, err := readMonitor(t.Context(), log, run, shelfOf(t, log, run), now)
	if err != nil || seen.active != 7000 {
		t.Fatalf("%v active days of customers in the last week, %v", seen.active, err)
	}
	want, ok := seen.gate()
	if !ok || want == held.PStar {
		t.Fatalf("gate %v, %v", want, ok)
	}
	o := train(t, log, run, fitting(t)) // there is nothing to learn from
	if o.Result != Renewed || o.Model == "" || o.Gate != (Gate{want, "digests", 7000}) {
		t.Errorf("%+v", o)
	}
	m := shelfOf(t, log, run).InForce()
	if m.Version != o.Model || m.PStar != want || m.Population != held.Population {
		t.Errorf("in force is %s with a gate of %v", m.Version, m.PStar)
	}
	if o = train(t, log, run, fitting(t)); o.Result != Refused || o.Model != "" || o.Gate.From != "model" {
		t.Errorf("the same gate again: %+v", o)
	}
	if s, err := readMonitor(t.Context(), log, run, &Shelf{}, now); err != nil || s.active != 0 {
		t.Errorf("digests of the built-in model count: %v, %v", s.active, err)
	}
}
