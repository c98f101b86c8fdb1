package timing

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Model is what is known about everybody, versioned: the data of timing.models.v1. It is read-only once it was made by
// Builtin or ParseModel, and may be shared.
type Model struct {
	Version     string             `json:"version"`
	FittedOn    *FittedOn          `json:"fitted_on,omitempty"`
	Kernel      [Response]float64  `json:"kernel"`          // share of a message's engagement by hours since delivery, sum 1
	Population  [Day]float64       `json:"population"`      // attention by hour of the day, mean 1
	Bases       [][Day]float64     `json:"bases,omitempty"` // the same for customers with so much history, recent trends included, by Bucket; empty: Population
	Weekdays    [7]float64         `json:"weekdays"`        // attention by day of the week, Monday first, mean 1
	Deliveries  Deliveries         `json:"deliveries"`
	Habits      []Habit            `json:"habits"`             // at most MaxHabits, strongest first
	Personas    []Persona          `json:"personas"`           // at most MaxPersonas, largest first; may be empty
	Experts     [][Experts]float64 `json:"experts,omitempty"`  // weight of each expert for customers with so much history, by Bucket; empty: equal
	Segments    []Segment          `json:"segments,omitempty"` // attention of customers of a segment, for those of whom little is known
	Season      Season             `json:"season"`             // how days differ for everybody
	Boost       [Day]float64       `json:"boost"`              // engaged hours so many hours after an engagement, over those expected; 1 where nothing is known
	Priors      Priors             `json:"priors"`
	Calibration Calibration        `json:"calibration,omitempty"` // how often a p is met where nothing happens
	PStar       float64            `json:"p_star"`                // largest p_act that may act
	Metrics     map[string]float64 `json:"metrics,omitempty"`
	Pinned      bool               `json:"pinned,omitempty"` // an operator holds this version: no newer one is published until it is let go

	prepared
}

// FittedOn says what a model was fitted on.
type FittedOn struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Customers int       `json:"customers"`

	// Defaults are the fields of the model that the sample could not tell and that stand as they did in the model before: the
	// name, and why.
	Defaults map[string]string `json:"defaults,omitempty"`
}

// Deliveries is when and how often everybody is written to: the exposure of a customer whose source reports no sends.
type Deliveries struct {
	PerDay float64      `json:"per_day"`
	Hours  [Day]float64 `json:"hours"` // share by hour of the day, sum 1
	Days   [7]float64   `json:"days"`  // share by day of the week, Monday first, sum 1
}

// Habit is one direction in which the hours of customers differ.
type Habit struct {
	Correlation float64      `json:"correlation"` // between two engagements of one customer along it
	Hours       [Day]float64 `json:"hours"`       // mean 0 and variance 1 under the population's hours
}

// Persona is a group of customers with like hours.
type Persona struct {
	Name      string       `json:"name"`
	Share     float64      `json:"share"`
	Attention [Day]float64 `json:"attention"` // by hour of the day, mean 1
}

// Segment is a group of customers that the operator has named.
type Segment struct {
	Name      string       `json:"name"`
	Share     float64      `json:"share"`     // of the customers it was fitted on
	Attention [Day]float64 `json:"attention"` // by hour of the day, mean 1
}

// Season is how much more or less than usual everybody engages on a day: holidays, weeks of the year and days of the month,
// multiplied. Days outside are ordinary.
type Season struct {
	First   int64     `json:"first,omitempty"`   // local day number (Hour/24) of the first factor
	Factors []float64 `json:"factors,omitempty"` // by day
}

// Calibration holds, by kind of test and stratum of evidence, the share of tests of ordinary days whose p is below the upper
// bound of each bin (TailBounds), as it was found.
type Calibration map[string][len(Strata)][]float64

// Priors are what is believed of a customer before the first event, and how firmly.
type Priors struct {
	EngagedHours float64 `json:"engaged_hours"` // a0 and b0: engaged hours per delivery are Gamma(a0, b0)
	Deliveries   float64 `json:"deliveries"`
	Read         float64 `json:"read"` // SA and SB: the share of mail days that are read is Beta(SA, SB)
	Ignored      float64 `json:"ignored"`
	Hours        float64 `json:"hours"`      // weight of the habits against the customer's own hours (Dirichlet)
	Weekdays     float64 `json:"weekdays"`   // aD: weight of everybody's weekdays
	Dispersion   float64 `json:"dispersion"` // 1/nu: day-to-day variance beyond Poisson, relative to the squared mean
	Organic      float64 `json:"organic"`    // deliveries per day that nobody reports
}

// MaxPersonas is how many personas a model may have.
const MaxPersonas = 8

// MaxHabits is how many habits a model may have.
const MaxHabits = 8

// prepared is what is derived from a model once, so that views are cheap.
type prepared struct {
	folded  [Day]float64     // kernel by hours of the day since delivery, sum 1
	around  [2 * Day]float64 // the same twice in a row, a little of it spread evenly, so that no hour is impossible
	carry   [Day][4]float64  // share of the answers to a message of that hour by days since
	horizon float64          // share of the kernel within Horizon hours
	exposed [Day]float64     // engagement exposure by hour of the day where no sends are reported, sum 1
	weekly  [7]float64       // the same by day of the week

	directions  [Day][MaxHabits]float64 // the habits by hour
	logPersonas [MaxPersonas][Day]float64
	logShares   [MaxPersonas]float64
}

// ParseModel reads the data of a model record and checks that it can serve. The error lists everything that is wrong.
func ParseModel(data []byte) (*Model, error) {
	m := new(Model)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("model %q: %w", m.Version, err)
	}
	m.prepare()
	return m, nil
}

// ParseModelRecord reads the value of a record of timing.models.v1.
func ParseModelRecord(value []byte) (*Model, error) {
	var e struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(value, &e); err != nil {
		return nil, fmt.Errorf("read model record: %w", err)
	}
	if e.Type != ModelType {
		return nil, fmt.Errorf("read model record: type %q is not %s", e.Type, ModelType)
	}
	return ParseModel(e.Data)
}

// Append encodes m as the data of timing.models.v1.
func (m *Model) Append(dst []byte) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("encode model %q: %w", m.Version, err)
	}
	return append(dst, b...), nil
}

func (m *Model) validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	usable := func(x float64) bool { return x > 0 && x <= math.MaxFloat64 }
	adds := func(name string, to float64, v ...float64) {
		sum := 0.0
		for _, x := range v {
			if !(x >= 0) || math.IsInf(x, 1) {
				wrong("%s: %v is not a weight", name, x)
				return
			}
			sum += x
		}
		if math.Abs(sum-to) > 1e-6*to {
			wrong("%s: adds up to %v, not %v", name, sum, to)
		}
	}
	attention := func(name string, v []float64) {
		adds(name, float64(len(v)), v...)
		for i, x := range v {
			if x == 0 {
				wrong("%s: place %d must not be zero", name, i)
			}
		}
	}
	byBucket := func(name string, n int) {
		if n != 0 && n != Buckets {
			wrong("%s: %d, not none or %d", name, n, Buckets)
		}
	}
	if m.Version == "" {
		wrong("version: is required")
	}
	adds("kernel", 1, m.Kernel[:]...)
	early := 0.0
	for _, k := range m.Kernel[:Horizon] {
		early += k
	}
	if !(early > 0) {
		wrong("kernel: nothing is answered within %d hours", Horizon)
	}
	attention("population", m.Population[:])
	byBucket("bases", len(m.Bases))
	for i := range m.Bases {
		attention(fmt.Sprintf("bases: number %d", i), m.Bases[i][:])
	}
	attention("weekdays", m.Weekdays[:])
	adds("deliveries.hours", 1, m.Deliveries.Hours[:]...)
	adds("deliveries.days", 1, m.Deliveries.Days[:]...)
	if !usable(m.Deliveries.PerDay) {
		wrong("deliveries.per_day: %v must be positive", m.Deliveries.PerDay)
	}
	if len(m.Habits) > MaxHabits {
		wrong("habits: %d, more than %d", len(m.Habits), MaxHabits)
	}
	for i, h := range m.Habits {
		if !(h.Correlation > 0 && h.Correlation < 1) {
			wrong("habits: correlation %v of number %d must lie between 0 and 1", h.Correlation, i)
		}
		for _, x := range h.Hours {
			if !(math.Abs(x) < 1e6) { // mean 0 and variance 1 leave no room for more
				wrong("habits: %v in number %d is out of range", x, i)
				break
			}
		}
	}
	if len(m.Personas) > MaxPersonas {
		wrong("personas: %d, more than %d", len(m.Personas), MaxPersonas)
	}
	for i := range m.Personas {
		p := &m.Personas[i]
		if !usable(p.Share) || p.Share > 1 {
			wrong("personas: share %v of number %d must lie between 0 and 1", p.Share, i)
		}
		attention(fmt.Sprintf("personas: number %d", i), p.Attention[:])
	}
	byBucket("experts", len(m.Experts))
	for i := range m.Experts {
		for _, w := range m.Experts[i] {
			if !usable(w) {
				wrong("experts: weight %v in number %d must be positive", w, i)
				break
			}
		}
	}
	for i := range m.Segments {
		if m.Segments[i].Name == "" {
			wrong("segments: number %d has no name", i)
		}
		attention(fmt.Sprintf("segments: number %d", i), m.Segments[i].Attention[:])
	}
	if m.Season.First < -maxHour/Day || m.Season.First > maxHour/Day {
		wrong("season: first day %d is out of range", m.Season.First)
	}
	for i, f := range m.Season.Factors {
		if !(f >= minSeason && f <= maxSeason) {
			wrong("season: factor %v of day %d must lie between %v and %v", f, i, minSeason, maxSeason)
		}
	}
	for u, b := range m.Boost {
		if !usable(b) {
			wrong("boost: %v after %d hours must be positive", b, u)
		}
	}
	for _, p := range []struct {
		name  string
		value float64
	}{
		{"engaged_hours", m.Priors.EngagedHours}, {"deliveries", m.Priors.Deliveries}, {"read", m.Priors.Read}, {"ignored", m.Priors.Ignored},
		{"hours", m.Priors.Hours}, {"weekdays", m.Priors.Weekdays}, {"dispersion", m.Priors.Dispersion}, {"organic", m.Priors.Organic},
	} {
		if !usable(p.value) {
			wrong("priors.%s: %v must be positive", p.name, p.value)
		}
	}
	for kind, strata := range m.Calibration {
		for i, shares := range strata {
			if len(shares) != 0 && len(shares) != TailBins {
				wrong("calibration.%s: %d bins for evidence of %s, not none or %d", kind, len(shares), Strata[i], TailBins)
			}
			before := 1.
			for b, share := range shares {
				if !(share >= 0 && share <= before) {
					wrong("calibration.%s: share %v in bin %d for evidence of %s is more than the one before, or none", kind, share, b, Strata[i])
					break
				}
				before = share
			}
		}
	}
	if !(m.PStar >= 0 && m.PStar <= 1) {
		wrong("p_star: %v is not a probability", m.PStar)
	}
	return errors.Join(errs...)
}

// Bounds of a season's factors: what lies beyond is a mistake, not a season.
const minSeason, maxSeason = 0.01, 100

// Prepare checks a model that was made by hand, not by Builtin or ParseModel, and makes it fit to use. The error lists
// everything that is wrong.
func (m *Model) Prepare() error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("model %q: %w", m.Version, err)
	}
	m.prepare()
	return nil
}

// Calibrated is what a p of a kind of test in a stratum of evidence (see Stratum) means where nothing happens: how often a p
// at least as small is met there. Of the hour of an answer that share is taken at its word; of bursts and silences, which are
// cautious, p is only ever raised: two sigma of all days, most of which are empty, would be most of the days on which
// anything happened. Between the bounds of the bins shares are drawn as straight lines of the logarithms, and below the last
// p that was met they fall with p.
func (m *Model) Calibrated(kind string, stratum int, p float64) float64 {
	shares := m.Calibration[kind][stratum]
	if len(shares) != TailBins || !(p > 0) {
		return p
	}
	bin := TailBin(p)
	for bin > 0 && shares[bin] == 0 {
		bin--
	}
	low, high := TailBounds(bin)
	share := shares[bin]
	switch {
	case share == 0:
		return p
	case p >= low && bin+1 < TailBins && shares[bin+1] > 0:
		share = math.Exp(math.Log(share) + math.Log(p/high)/math.Log(low/high)*math.Log(shares[bin+1]/share))
	default:
		share *= min(p/high, 1)
	}
	if kind != Timing && share < p {
		return p
	}
	return probability(share)
}

// season is how much more or less than usual everybody engages on a day.
func (m *Model) season(day int64) float64 {
	if i := day - m.Season.First; i >= 0 && i < int64(len(m.Season.Factors)) {
		return m.Season.Factors[i]
	}
	return 1
}

// seasonAfter is the same over the days on which a message sent in hour h is answered.
func (m *Model) seasonAfter(h Hour) (factor float64) {
	if len(m.Season.Factors) == 0 {
		return 1
	}
	for k, part := range &m.carry[hourOfDay(h)] {
		factor += part * m.season(dayOf(h)+int64(k))
	}
	return factor
}

func (m *Model) prepare() {
	m.prepared = prepared{}
	for i := range m.Habits {
		for h, x := range &m.Habits[i].Hours {
			m.directions[h][i] = x
		}
	}
	for k := range m.Personas {
		m.logShares[k] = math.Log(m.Personas[k].Share)
		for h, a := range m.Personas[k].Attention {
			m.logPersonas[k][h] = math.Log(a)
		}
	}
	for a, k := range m.Kernel {
		m.folded[a%Day] += k
		if a < Horizon {
			m.horizon += k
		}
		for h := range Day {
			m.carry[h][(h+a)/Day] += k
		}
	}
	const even = 0.001
	for h := range m.carry {
		for d, part := range &m.carry[h] {
			m.carry[h][d] = exact(part)
		}
	}
	for h := range m.around {
		m.around[h] = exact((1-even)*m.folded[h%Day] + even/Day)
	}
	for h, n := range m.Deliveries.Hours {
		for a, k := range m.around[:Day] {
			m.exposed[(h+a)%Day] += n * k
		}
		for d, share := range m.Deliveries.Days {
			for k, carried := range m.carry[h] {
				m.weekly[(d+k)%7] += n * share * carried
			}
		}
	}
}
