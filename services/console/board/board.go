// Package board is what the console remembers: the last weeks by local hour, the figures by day, the versions of
// the model, how its tests are calibrated, the policy in force, the requests that wait, and the latest deviations
// and decisions, folded from the records of the topics and bounded whatever arrives.
//
// It is a pure value: no clock but the event times in the records, no I/O, no goroutine, and not safe for concurrent use.
// The same records give the same numbers in any order within a partition's own. It keeps no customer's profile and
// judges nothing: what it shows was measured by the profiler, judged by the detector and decided by the decider.
package board

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/decision"
	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/topics"
)

// Bounds of what is kept.
const (
	Days      = 28              // days that the figures show
	History   = (Days + 6) * 24 // hours behind the clock that they need: each shows the seven days before it
	hours     = 1024            // slots of a series, a power of two: History, and exposure that lies ahead
	maxSeries = 64              // channels x segments told apart; more are counted under Other
	maxDays   = Days + 14       // days told apart in the figures
	ahead     = timing.Response // hours that a delivery's exposure reaches
	zoneReach = 14              // hours that a zone can be off UTC
	lateReach = timing.Lateness // hours that a digest can tell of the past
	behind    = lateReach + zoneReach
	_         = uint(168 - behind - ahead - zoneReach) // a digest's hours of the week must be unambiguous
)

// Other is the segment under which cells are counted once maxSeries are told apart.
const Other = "…"

// Topics are those that a Board reads.
var Topics = []string{topics.Digests, topics.Deviations, topics.Decisions, topics.Outcomes, topics.Models, topics.Policies}

// Key names one series of the week.
type Key struct{ Channel, Segment string }

// slot is one local hour of a series.
type slot struct {
	hour               timing.Hour
	delivered, engaged float64
	expected, model    float64
}

type series [hours]slot

// day is one local day of the figures.
type day struct {
	day                  int64
	optimal, engagements uint64
	responses            []uint64
	seconds, answers     uint64
}

// Board is the state of the console. Make it with New.
type Board struct {
	zone    *time.Location
	clock   time.Time
	seen    map[string]string // highest sequence by topic and source: consumers drop what is not above it
	series  map[Key]*series
	keys    []Key // sorted
	days    [maxDays]day
	tails   map[string]*tails // by kind of test
	models  []Version         // oldest first
	inForce inForce
	gaps    []string // days without a feed, 2006-01-02, in order

	events     uint64
	duplicates uint64 // records dropped because they were seen before
	model      string
	policy     string
	calendar   string

	deviations feed
	decisions  feed
	stories    stories
	requests   requests
}

// New makes an empty Board whose days and hours, where they are not a customer's own, are those of zone.
func New(zone *time.Location) *Board {
	return &Board{zone: zone, seen: map[string]string{}, series: map[Key]*series{}}
}

// Apply folds one record of a topic (by its declared name) into the board. What cannot be read is an error and changes
// nothing; a record that was seen before changes nothing either.
func (b *Board) Apply(topic string, value []byte) error {
	ev, err := stream.ParseEvent(value)
	if err != nil {
		return fmt.Errorf("read a record of %s: %w", topic, err)
	}
	if ev.Sequence != "" {
		key := topic + " " + ev.Source
		if !later(ev.Sequence, b.seen[key]) {
			b.duplicates++
			return nil
		}
		defer func() {
			if err == nil {
				b.seen[key] = ev.Sequence
			}
		}()
	}
	switch topic {
	case topics.Digests:
		var d timing.Digest
		if err = json.Unmarshal(ev.Data, &d); err == nil {
			b.digest(&d)
		}
	case topics.Deviations:
		var d deviation.Deviation
		if err = json.Unmarshal(ev.Data, &d); err == nil {
			b.model = d.Model
			row := Row{ID: ev.ID, Customer: ev.Subject, Time: ev.Time, Kind: d.Kind, Deviation: &d}
			b.deviations.add(row)
			b.stories.add(row)
		}
	case topics.Decisions:
		var d decision.Decision
		if err = d.Parse(ev.Type, ev.Data); err == nil {
			b.policy, b.calendar = d.MadeFrom.Policy, d.MadeFrom.Calendar
			row := Row{ID: ev.ID, Customer: ev.Subject, Time: ev.Time, Kind: kindOf(ev.Type), Decision: &d}
			b.decisions.add(row)
			b.requests.add(row, b.zone)
		}
	case topics.Outcomes:
		var o decision.Outcome
		if err = o.Parse(ev.Data); err == nil {
			b.decisions.outcome(&o)
		}
		return err // an outcome's time is a connector's clock, not the customers'
	case topics.Models:
		var m *timing.Model
		if m, err = timing.ParseModel(ev.Data); err == nil {
			b.publish(m, ev.Time)
		}
		return err // a model's time is the trainer's clock
	case topics.Policies:
		p := new(decision.Policy)
		if err = p.Parse(ev.Data); err == nil {
			b.enforce(p, ev.Time)
		}
		return err // and a policy's the operator's
	}
	if err == nil && ev.Time.After(b.clock) {
		b.clock = ev.Time
	}
	return err
}

// kindOf takes the word out of a decision's type: io.tempismo.decision.send_now.v1 is a send_now.
func kindOf(typ string) string {
	typ = strings.TrimPrefix(typ, "io.tempismo.decision.")
	kind, _, _ := strings.Cut(typ, ".")
	return kind
}

func (b *Board) digest(d *timing.Digest) {
	if end := d.Minute.Add(time.Duration(d.Seconds) * time.Second); end.After(b.clock) {
		b.clock = end
	}
	at, _ := calendar.LocalHour(d.Minute, time.UTC)
	for i := range d.Cells {
		c := &d.Cells[i]
		if c.How < 0 || c.How >= timing.Week {
			continue
		}
		s := b.at(Key{c.Channel, c.Segment}, hourOf(at, c.How))
		if s == nil {
			continue
		}
		s.delivered += float64(c.Delivered)
		s.engaged += float64(c.Engaged)
		s.expected += c.Expected
		s.model += c.ModelExpected
	}
	day := b.day(d.Minute)
	if day != nil {
		day.optimal += d.Optimal
		day.engagements += d.Engagements
		day.responses = addBins(day.responses, d.Response)
		day.seconds += d.ResponseSeconds
		day.answers += d.ResponseCount
	}
	b.tail(d)
	b.gap(d)
	b.events += d.Events.Human + d.Events.Probable + d.Events.Machine
}

// maxGaps bounds the days without a feed that are kept.
const maxGaps = 64

// gap notes the days on which the profiler found the feed of engagements down.
func (b *Board) gap(d *timing.Digest) {
	for _, day := range d.Gaps {
		if _, err := time.Parse(time.DateOnly, day); err != nil {
			continue
		}
		if i, found := slices.BinarySearch(b.gaps, day); !found {
			b.gaps = slices.Insert(b.gaps, i, day)
		}
	}
	if over := len(b.gaps) - maxGaps; over > 0 {
		b.gaps = slices.Delete(b.gaps, 0, over)
	}
}

// Gaps are the days of the last seven, in order, on which the feed of engagements was down in some partition.
func (b *Board) Gaps() (days []time.Time) {
	for _, day := range b.gaps {
		if t, err := time.Parse(time.DateOnly, day); err == nil && b.clock.Sub(t) < 8*24*time.Hour {
			days = append(days, t)
		}
	}
	return days
}

// maxBins bounds what a malformed digest can make us keep.
const maxBins = 512

func addBins(sum []uint64, bins []uint32) []uint64 {
	for len(sum) < min(len(bins), maxBins) {
		sum = append(sum, 0)
	}
	for i := range min(len(bins), maxBins) {
		sum[i] += uint64(bins[i])
	}
	return sum
}

// hourOf finds the local hour that a digest of UTC hour at means by hour of the week how. The customer's zone is not on
// the wire, but it need not be: a cell lies at most 62 hours behind its digest (two days late, 14 hours of zone) and 86
// ahead (three days of exposure, 14 hours of zone), which is less than a week.
func hourOf(at int64, how int) timing.Hour {
	d := (int64(how)-int64(timing.HourOfWeek(at))+behind)%timing.Week + timing.Week
	return at + d%timing.Week - behind
}

// at returns the slot of a local hour, nil if it lies too far back.
func (b *Board) at(k Key, h timing.Hour) *slot {
	s := b.series[k]
	if s == nil {
		if len(b.series) >= maxSeries-1 {
			k = Key{k.Channel, Other}
			if len(b.series) >= 2*maxSeries {
				k = Key{Other, Other} // channels without end: none of ours
			}
		}
		if s = b.series[k]; s == nil {
			s = new(series)
			b.series[k] = s
			b.keys = append(b.keys, k)
			slices.SortFunc(b.keys, func(x, y Key) int {
				return strings.Compare(x.Channel+"\x00"+x.Segment, y.Channel+"\x00"+y.Segment)
			})
		}
	}
	c := &s[uint64(h)%hours]
	switch {
	case c.hour > h:
		return nil
	case c.hour < h:
		*c = slot{hour: h}
	}
	return c
}

// day returns the figures of the day of t, nil if it lies too far back.
func (b *Board) day(t time.Time) *day {
	h, _ := calendar.LocalHour(t, b.zone)
	n := floorDiv(h, 24)
	d := &b.days[uint64(n)%maxDays]
	switch {
	case d.day > n:
		return nil
	case d.day < n:
		*d = day{day: n}
	}
	return d
}

func floorDiv(a, n int64) int64 {
	q := a / n
	if a%n < 0 {
		q--
	}
	return q
}

// Clock is the highest event time seen; zero before the first record.
func (b *Board) Clock() time.Time { return b.clock }

// Zone is the zone of the board's own days.
func (b *Board) Zone() *time.Location { return b.zone }

// Events counts the engagement events that the digests tell of.
func (b *Board) Events() uint64 { return b.events }

// Duplicates counts the records that were dropped because they had been seen.
func (b *Board) Duplicates() uint64 { return b.duplicates }

// Versions are those of the latest records.
func (b *Board) Versions() (model, policy, calendar string) { return b.model, b.policy, b.calendar }

// Channels and Segments list what the week can be filtered by.
func (b *Board) Channels() []string { return b.names(func(k Key) string { return k.Channel }) }

// Segments lists the segments; the empty one is customers without any.
func (b *Board) Segments() []string { return b.names(func(k Key) string { return k.Segment }) }

func (b *Board) names(of func(Key) string) []string {
	var out []string
	for _, k := range b.keys {
		out = append(out, of(k))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
