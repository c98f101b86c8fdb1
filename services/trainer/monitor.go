package trainer

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
	"github.com/tempismo/tempismo/pkg/kafka"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// What the digests must hold before they are believed rather than the sample, and how long they are counted over.
const (
	calibrationDays = 28
	gateDays        = 7
	fewestTests     = 1000  // in a stratum
	fewestDays      = 1000  // of customers, for the gate
	beliefs         = 300   // tests that a table from the sample is worth
	reliable        = 20    // tests that a tail must hold; beyond, it goes on in proportion to p
	tolerated       = 0.028 // share of ordinary tests beyond two sigma that needs no correction: the nominal 2.28 %, and chance

	discoveries = 0.05  // share of false alarms among those that may act
	budget      = 0.005 // share of the active customer-days that may act
)

// monitor is what the digests tell of the last weeks: every test that the profiler has made, of all customers and before it
// learned from them, where the sample has only some customers' and knows them already.
type monitor struct {
	tails  map[string]*[len(timing.Strata)][timing.TailBins]float64
	act    [timing.ActBins]uint64
	active float64
	passed map[int32]string // highest sequence of each partition
}

// Gate is how the action gate was set.
type Gate struct {
	PStar float64 `json:"p_star"`
	From  string  `json:"from"`          // digests, sample, or model: the one in force
	Days  float64 `json:"customer_days"` // with an engagement, in the digests of the last week
}

// readMonitor reads the digests of the time in which fitted models were in force: tests against the built-in one say nothing
// about another. In a simulated run that time is not known, for events are older than their publication, and nothing is
// read.
func readMonitor(ctx context.Context, log *kafka.Log, run stream.Run, shelf *Shelf, now time.Time) (*monitor, error) {
	m := &monitor{tails: map[string]*[len(timing.Strata)][timing.TailBins]float64{}, passed: map[int32]string{}}
	since := shelf.fittedSince()
	if run.Simulated || since.IsZero() {
		return m, nil
	}
	if start := now.AddDate(0, 0, -calibrationDays); since.Before(start) {
		since = start
	}
	err := kafka.Range(ctx, log, run.Topic(topics.Digests), kafka.Since(since), kafka.Latest, func(r *stream.Record) error {
		e, err := stream.ParseEvent(r.Value)
		if err != nil || e.Sequence != "" && e.Sequence <= m.passed[r.Partition] { // told again after a takeover
			return nil
		}
		m.passed[r.Partition] = e.Sequence
		var d timing.Digest
		if json.Unmarshal(e.Data, &d) == nil && !d.Minute.Before(since) {
			m.add(&d, !d.Minute.Before(now.AddDate(0, 0, -gateDays)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the digests: %w", err)
	}
	return m, nil
}

func (m *monitor) add(d *timing.Digest, lately bool) {
	if lately {
		m.active += float64(d.Active)
	}
	for i := range d.Tails {
		t := &d.Tails[i]
		if t.Kind == timing.Act {
			for bin, n := range t.Bins[:min(len(t.Bins), timing.ActBins)] {
				if lately {
					m.act[bin] += uint64(n)
				}
			}
			continue
		}
		for stratum, name := range timing.Strata {
			if name != t.Stratum {
				continue
			}
			if m.tails[t.Kind] == nil {
				m.tails[t.Kind] = new([len(timing.Strata)][timing.TailBins]float64)
			}
			for bin, n := range t.Bins[:min(len(t.Bins), timing.TailBins)] {
				m.tails[t.Kind][stratum][bin] += float64(n)
			}
		}
	}
}

// gate is the p* of the last days; false where they are too few to tell.
func (m *monitor) gate() (pStar float64, ok bool) {
	days := uint64(0)
	for _, n := range m.act {
		days += n
	}
	if days < fewestDays {
		return 0, false
	}
	return fit.PStar(m.act[:], m.active, discoveries, budget), true
}

// calibrate corrects the tables of a model, which come from its own sample, by what the digests have found. The p of a
// timing test means what it was found to mean. Days and silences hold what really happened, too: their tables are left as
// they are unless more lies beyond two sigma than ordinary days would leave there.
func (m *monitor) calibrate(own timing.Calibration) timing.Calibration {
	tables := timing.Calibration{}
	for kind, t := range own {
		tables[kind] = t
	}
	for kind, strata := range m.tails {
		table := tables[kind]
		changed := false
		for stratum := range strata {
			counts := &strata[stratum]
			if total(counts) < fewestTests || kind != timing.Timing && beyond(counts) <= tolerated {
				continue
			}
			table[stratum] = found(counts, table[stratum])
			changed = true
		}
		if changed {
			tables[kind] = table
		}
	}
	if len(tables) == 0 {
		return nil
	}
	return tables
}

func total(counts *[timing.TailBins]float64) (n float64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// beyond is the share of tests beyond two sigma; a bin in between counts by the part of it that is.
func beyond(counts *[timing.TailBins]float64) (share float64) {
	for bin, n := range counts {
		low, high := timing.TailBounds(bin)
		share += n * min(max((timing.TwoSigma-low)/(high-low), 0), 1)
	}
	return share / max(total(counts), 1)
}

// found is the share of tests below the upper bound of each bin. own is what the sample has found; without it a p means what
// it says.
func found(counts *[timing.TailBins]float64, own []float64) []float64 {
	n, tail, last := total(counts), 0., 0
	share := make([]float64, timing.TailBins)
	for bin := timing.TailBins - 1; bin >= 0; bin-- {
		_, prior := timing.TailBounds(bin)
		if bin < len(own) {
			prior = own[bin]
		}
		if tail += counts[bin]; tail >= reliable && last == 0 {
			last = bin
		}
		share[bin] = (tail + beliefs*prior) / (n + beliefs)
	}
	_, edge := timing.TailBounds(last)
	for bin := last + 1; bin < timing.TailBins; bin++ {
		_, high := timing.TailBounds(bin)
		share[bin] = share[last] * high / edge
	}
	return share
}
