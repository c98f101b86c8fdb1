package board

import (
	"math"
	"slices"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Bounds of what is kept of models and calibration.
const (
	maxVersions = 30 // versions listed
	maxKinds    = 16 // kinds of tests told apart
	tailDays    = 28 // days of event time that calibration is counted over
)

// Version is one version of the model, as it was published.
type Version struct {
	Model *timing.Model
	At    time.Time // the trainer's clock
}

// publish notes a version. It stands in every partition, and each of them is read: the last one told wins, as it does for
// the services that use it, and one that is told again moves to the end.
func (b *Board) publish(m *timing.Model, at time.Time) {
	for i, v := range b.models {
		if v.Model.Version == m.Version {
			if at.Before(v.At) {
				return
			}
			b.models = slices.Delete(b.models, i, i+1)
			break
		}
	}
	i := len(b.models)
	for i > 0 && b.models[i-1].At.After(at) {
		i--
	}
	b.models = slices.Insert(b.models, i, Version{m, at})
	if over := len(b.models) - maxVersions; over > 0 {
		b.models = slices.Delete(b.models, 0, over)
	}
}

// Models lists the versions of the model, the one in force first. The models are read-only.
func (b *Board) Models() []Version {
	out := slices.Clone(b.models)
	slices.Reverse(out)
	return out
}

// tails are the histograms of one kind by day, a ring.
type tails [tailDays]struct {
	day  int64
	bins [len(timing.Strata)][]uint64
}

func (b *Board) tail(d *timing.Digest) {
	day := floorDiv(d.Minute.Unix(), 24*3600)
	for i := range d.Tails {
		t := &d.Tails[i]
		stratum := slices.Index(timing.Strata[:], t.Stratum)
		if t.Kind == timing.Act || stratum < 0 || len(t.Bins) > timing.TailBins {
			continue // the action gate's has other bins, and is no test; or it is of another make
		}
		ring := b.tails[t.Kind]
		if ring == nil {
			if len(b.tails) >= maxKinds {
				continue
			}
			if b.tails == nil {
				b.tails = map[string]*tails{}
			}
			ring = new(tails)
			b.tails[t.Kind] = ring
		}
		slot := &ring[uint64(day)%tailDays]
		switch {
		case slot.day > day:
			continue
		case slot.day < day:
			*slot = tails{}[0]
			slot.day = day
		}
		slot.bins[stratum] = addBins(slot.bins[stratum], t.Bins)
	}
}

// Tail is how many tests of one kind, in one stratum of evidence, came out below each of some p-values. Of tests whose law
// is true, a share p lies below p.
type Tail struct {
	Kind    string
	Stratum string
	Tests   uint64
	Bins    [timing.TailBins]uint64 // by timing.TailBin
}

// Below is the share of tests below p, interpolated within a bin.
func (t *Tail) Below(p float64) float64 {
	if t.Tests == 0 {
		return math.NaN()
	}
	var n float64
	for i, v := range t.Bins {
		low, high := timing.TailBounds(i)
		switch {
		case high <= p:
			n += float64(v)
		case low < p:
			n += float64(v) * (p - low) / (high - low)
		}
	}
	return n / float64(t.Tests)
}

// Tails are the tests of the last four weeks by kind, in order of their names, and by stratum, in order of evidence;
// strata without tests are left out.
func (b *Board) Tails() []Tail {
	var kinds []string
	for kind := range b.tails {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	now := floorDiv(b.clock.Unix(), 24*3600)
	var out []Tail
	for _, kind := range kinds {
		for i, stratum := range timing.Strata {
			t := Tail{Kind: kind, Stratum: stratum}
			for _, slot := range b.tails[kind] {
				if slot.day <= now-tailDays {
					continue
				}
				for j, v := range slot.bins[i] {
					t.Bins[j] += v
					t.Tests += v
				}
			}
			if t.Tests > 0 {
				out = append(out, t)
			}
		}
	}
	return out
}

// Calibration is the share of hash-randomised burst tests, of customers with evidence, that lie beyond 2 sigma, and how
// many tests that is. Nominal is timing.TwoSigma.
func (b *Board) Calibration() (share float64, tests uint64) {
	var beyond float64
	for _, t := range b.Tails() {
		if t.Kind == timing.Burst && t.Stratum != timing.Strata[0] {
			beyond += t.Below(timing.TwoSigma) * float64(t.Tests)
			tests += t.Tests
		}
	}
	if tests == 0 {
		return 0, 0
	}
	return beyond / float64(tests), tests
}
