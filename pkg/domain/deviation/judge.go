package deviation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// CoolDown is how long after a deviation another of the same kind is not worth a word, unless it is a burst that has grown
// so large that it may now move a send: at first, a burst is small. A silence has no such time: it lasts until the next
// engagement, which is a reactivation.
const CoolDown = 24 * time.Hour

// DriftCoolDown is the same for a habit that has moved: a profile that has forgotten the old one needs some time to know
// the new one.
const DriftCoolDown = 14 * 24 * time.Hour

// Memory is what is remembered of a customer's deviations. The zero value is a customer of whom none was told.
type Memory struct {
	// Unix seconds of the engagements that caused the last ones told; 0: none. acting is that of the last actionable burst,
	// last that of any kind.
	burst, acting, reactivation, timing, drift, last int64

	silent []string // channels in which a silence was told and has not ended, sorted
}

// Idle reports whether something was told, and all of it before an instant.
func (m *Memory) Idle(before time.Time) bool { return m.last != 0 && m.last < before.Unix() }

// Verdict says what became of a test.
type Verdict string

// Verdicts.
const (
	Told      Verdict = "told"
	Ordinary  Verdict = "ordinary"  // within two sigma
	Unproven  Verdict = "unproven"  // too little evidence
	Suspended Verdict = "suspended" // everybody is unusual in this hour: it says nothing about this customer
	Cooling   Verdict = "cooling"   // told not long ago
	Unknown   Verdict = "unknown"   // a kind that this version does not judge
)

// Judge says whether a test of s, whose engagement happened at at, is worth a word, and remembers that it was told. model is
// the one in force for the judge: its calibration says what a p means where nothing happens, its PStar is the largest p_act
// that may move a send. Cause's position is the caller's to fill in.
//
// Times are event times, so that a history that comes late, or in one go, is judged as if it had come in its day. The
// judgement does not depend on anything but its arguments.
func (m *Memory) Judge(model *timing.Model, s *timing.Scored, t timing.Test, at time.Time) (d Deviation, v Verdict) {
	second := at.Unix()
	p := model.Calibrated(t.Kind, timing.Stratum(s.Evidence.EngagedHours), t.P)
	act := actionable(s, t, model.PStar)
	switch t.Kind {
	case timing.Burst:
		switch {
		case p >= timing.TwoSigma || t.Observed < 2:
			return d, Ordinary
		case !s.Evidence.Enough():
			return d, Unproven
		case s.Everybody:
			return d, Suspended
		case cooling(m.burst, second, CoolDown) && (!act || cooling(m.acting, second, CoolDown)):
			return d, Cooling
		}
		m.burst = second
		if act {
			m.acting = second
		}
	case timing.Timing:
		switch {
		case p >= timing.TwoSigma:
			return d, Ordinary
		case !s.Evidence.Enough():
			return d, Unproven
		case cooling(m.timing, second, CoolDown):
			return d, Cooling
		}
		m.timing = second
	case timing.Drift: // the profiler has seen to the evidence before it forgot what it knew
		switch {
		case p >= timing.TwoSigma:
			return d, Ordinary
		case cooling(m.drift, second, DriftCoolDown):
			return d, Cooling
		}
		m.drift = second
	case timing.Silence: // the profiler has seen to the evidence before it took note
		switch i, told := m.silence(s.Channel); {
		case p >= timing.TwoSigma:
			return d, Ordinary
		case told:
			return d, Cooling
		default:
			m.silent = append(m.silent, "")
			copy(m.silent[i+1:], m.silent[i:])
			m.silent[i] = strings.Clone(s.Channel)
		}
	case timing.Reactivation:
		if i, told := m.silence(s.Channel); told {
			m.silent = append(m.silent[:i], m.silent[i+1:]...)
		}
		if cooling(m.reactivation, second, CoolDown) {
			return d, Cooling
		}
		m.reactivation = second
	default:
		return d, Unknown
	}
	m.last = max(m.last, second)
	d = Deviation{
		Kind: t.Kind, Z: Z(p), P: t.P, OneIn: int64(math.Round(1 / p)), Observed: t.Observed, Expected: t.Expected, Days: t.Days,
		Channel: s.Channel, Zone: s.Zone, LocalDay: day(s.Local), Evidence: s.Evidence,
		Actionable: act, Gate: Gate{t.PAct, model.PStar}, Score: s.Score,
		Cause: Cause{ID: s.Event}, Segment: s.Segment, Model: s.Model, Calibration: model.Version,
		Summary: Summary(s, t, p),
	}
	if p != t.P {
		d.Calibrated = p
	}
	if t.Kind == timing.Silence {
		d.Z = -d.Z
	}
	return d, Told
}

// actionable is the gate for sends. Bursts must be rarer than what is worth a word, because most two-sigma days are
// chance; a reactivation is as rare as the silence it ends; a silence is no moment to write, and a single odd hour or a new
// habit says when to write, not that it should be now.
func actionable(s *timing.Scored, t timing.Test, pStar float64) bool {
	return !s.Evidence.Partial && (t.Kind == timing.Reactivation || t.Kind == timing.Burst && t.PAct <= pStar)
}

func cooling(last, second int64, within time.Duration) bool {
	d := time.Duration(second-last) * time.Second
	return last != 0 && d < within && d > -within
}

func (m *Memory) silence(channel string) (at int, told bool) {
	for at < len(m.silent) && m.silent[at] < channel {
		at++
	}
	return at, at < len(m.silent) && m.silent[at] == channel
}

// Z is the normal-equivalent of a one-sided p, to two decimals and at most 6 in size.
func Z(p float64) float64 {
	z := math.Sqrt2 * math.Erfcinv(2*p)
	return math.Round(100*min(max(z, -6), 6)) / 100
}

func day(local string) string {
	date, _, _ := strings.Cut(local, "T")
	return date
}

// Summary says in a sentence what was unusual in test t of s, which is met by chance with probability p. Where no deliveries
// are known, a day is held against the customer's other days.
func Summary(s *timing.Scored, t timing.Test, p float64) string {
	switch t.Kind {
	case timing.Burst:
		if s.Evidence.Deliveries == 0 {
			return fmt.Sprintf("read in %d different hours today; the usual is %s", int(t.Observed), number(t.Expected))
		}
		return fmt.Sprintf("read in %d different hours today; the mail received explains %s", int(t.Observed), number(t.Expected))
	case timing.Timing:
		return fmt.Sprintf("%s at %dh; less than 1 in %d of their answers come at such an hour", did(s.Kind), int(t.Observed), int64(1/p))
	case timing.Drift:
		return fmt.Sprintf("the habit has moved: from around %dh to around %dh", int(t.Expected), int(t.Observed))
	case timing.Silence:
		return fmt.Sprintf("usually reads %d of 10 and has ignored %d in a row: a 1-in-%d chance",
			int(math.Round(10*t.Expected/t.Observed)), int(t.Observed), int64(math.Round(1/p)))
	case timing.Reactivation:
		return fmt.Sprintf("is back after %s and %s", count(t.Days, "day", "days"), count(int(t.Observed), "ignored message", "ignored messages"))
	}
	return t.Kind
}

// did says what kind of engagement it was.
func did(kind string) string {
	switch kind {
	case "click":
		return "clicked"
	case "reply":
		return "replied"
	}
	return "opened"
}

func number(v float64) string {
	if v < 0.1 {
		return "less than 0.1"
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// memoryVersion stands first in an encoded Memory. Version 1 knew neither timing nor drift, version 2 not the last of all.
const memoryVersion = 3

// seconds are the times that are encoded, in the order of the versions that brought them.
func (m *Memory) seconds() [6]*int64 {
	return [...]*int64{&m.burst, &m.acting, &m.reactivation, &m.timing, &m.drift, &m.last}
}

// Append encodes m.
func (m *Memory) Append(dst []byte) []byte {
	dst = append(dst, memoryVersion)
	for _, second := range m.seconds() {
		dst = binary.AppendVarint(dst, *second)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.silent)))
	for _, c := range m.silent {
		dst = binary.AppendUvarint(dst, uint64(len(c)))
		dst = append(dst, c...)
	}
	return dst
}

// ErrMemory is wrapped by every error of Decode.
var ErrMemory = errors.New("deviation: not a memory of deviations")

// Decode is the inverse of Append, and reads older versions: of a silence told in those it is not known when. It keeps no view
// of b.
func (m *Memory) Decode(b []byte) error {
	*m = Memory{}
	if len(b) == 0 {
		return fmt.Errorf("%w: cut off", ErrMemory)
	}
	if b[0] == 0 || b[0] > memoryVersion {
		return fmt.Errorf("%w: version %d is unknown to this program, which reads versions 1 to %d: run the newer one (docs/operations.md, Upgrades and rollback)", ErrMemory, b[0], memoryVersion)
	}
	seconds := m.seconds()
	known := seconds[:]
	switch b[0] {
	case 1:
		known = known[:3]
	case 2:
		known = known[:5]
	}
	b = b[1:]
	for _, second := range known {
		v, n := binary.Varint(b)
		if n <= 0 {
			return fmt.Errorf("%w: cut off", ErrMemory)
		}
		*second, b = v, b[n:]
		m.last = max(m.last, v)
	}
	channels, n := binary.Uvarint(b)
	if n <= 0 {
		return fmt.Errorf("%w: cut off", ErrMemory)
	}
	for b = b[n:]; channels > 0; channels-- {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return fmt.Errorf("%w: cut off", ErrMemory)
		}
		m.silent = append(m.silent, string(b[n:n+int(size)]))
		b = b[n+int(size):]
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: bytes left over", ErrMemory)
	}
	return nil
}
