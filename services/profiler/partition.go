package profiler

import (
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Totals counts the events of a partition since its run began.
type Totals struct {
	Accepted    uint64                             `json:"accepted"` // neither late nor set aside as unreadable
	Late        uint64                             `json:"late"`     // too old to be counted in a profile
	Repeated    uint64                             `json:"repeated"` // of the accepted, in an hour that the profile held already
	Human       uint64                             `json:"human"`    // of all
	Probable    uint64                             `json:"probable"`
	Machine     uint64                             `json:"machine"`
	Erased      uint64                             `json:"erased"`      // not accepted, because an erasure is later
	Unconsented uint64                             `json:"unconsented"` // opens that were not accepted, because the customer has refused pixels
	Gaps        uint64                             `json:"gaps"`        // local days on which the feed of engagements was down
	Kinds       [engagement.Unsubscribe + 1]uint64 `json:"kinds"`       // of all, by engagement.Kind
}

// Add adds o, for totals over partitions.
func (t *Totals) Add(o Totals) {
	t.Accepted += o.Accepted
	t.Late += o.Late
	t.Repeated += o.Repeated
	t.Human += o.Human
	t.Probable += o.Probable
	t.Machine += o.Machine
	t.Erased += o.Erased
	t.Unconsented += o.Unconsented
	t.Gaps += o.Gaps
	for i := range t.Kinds {
		t.Kinds[i] += o.Kinds[i]
	}
}

// ReadTotals finds the totals in what a Store holds of one of the profiler's partitions.
func ReadTotals(snap stream.Snapshot) (Totals, error) {
	b, err := snap.JobPartition()
	if err != nil || len(b) == 0 {
		return Totals{}, err
	}
	var p Partition
	err = p.decode(b)
	return p.totals, err
}

// Partition is what the profiler keeps of a partition: totals, when the feed was down, how many burst, and the digest that is
// being filled.
type Partition struct {
	totals Totals

	clock   int64       // highest event time seen, Unix seconds
	open    int64       // beginning of the period that is being counted
	flushed timing.Hour // local hour of the clock in the default zone: later expectations wait in the tallies
	whole   int64       // until this event time profiles that were rebuilt from a shortened log are partial; 0: they are whole

	world timing.World // the model is not stored
	feed  feed
	crowd crowd

	tallies     []tally
	tails       [len(tailKinds)][len(timing.Strata)][timing.TailBins]uint32
	acts        [len(timing.Strata)][timing.ActBins]uint32
	active      uint64
	gaps        []int64 // local days found in this period
	everybody   uint64
	response    [timing.ResponseBins]uint32
	responses   uint64
	seconds     uint64
	optimal     uint64
	engagements uint64
	events      timing.Events

	unstored
}

// unstored is what a Partition can do without.
type unstored struct {
	steady   int64 // event time up to which neither the hour of the clock nor the period changes
	zone     *time.Location
	zoneName string
	view     timing.View    // scratch
	tests    [4]timing.Test // scratch
	data     []byte         // scratch
}

// tailKinds are the kinds whose randomised p-values are monitored.
var tailKinds = [...]string{timing.Burst, timing.Timing, timing.Silence}

const (
	burstTail = iota
	timingTail
	silenceTail
)

// tally is what is counted of one channel and segment. Expectations are kept in millionths, so that sums are exact.
type tally struct {
	channel, segment string
	cells            [timing.Week]cell
	waiting          [waitingHours]expectation // of hours after Partition.flushed, by hour modulo waitingHours
}

type cell struct {
	delivered, engaged uint32
	expectation
}

type expectation struct{ flat, own uint64 }

const (
	millionths = 1e6
	// waitingHours holds 72 hours of answers to a message that comes in the zone farthest ahead of the default one.
	waitingHours = 104
	// maxTallies bounds what a digest tells apart. What lies beyond is counted together.
	maxTallies = 32
	others     = "other"
)

// tick moves the clock to an event's time, and returns the digest of the period that this ends, if it counted anything.
func (p *Partition) tick(second int64, s *stepper) (d *timing.Digest) {
	if p.clock != 0 && second <= p.clock {
		return nil
	}
	if second < p.steady {
		p.clock = second
		return nil
	}
	hour, _ := calendar.LocalHour(time.Unix(second, 0), s.zone)
	period := second - second%s.every
	if p.clock == 0 {
		p.open, p.flushed = period, hour
	}
	p.clock = second
	p.steady = min(period+s.every, second-second%quarter+quarter) // zones differ by quarters of an hour
	if period != p.open {
		p.flush(hour - 1) // the hours between belong to the period before
		d = p.digest(s.every)
		p.open = period
	}
	p.flush(hour)
	p.crowd.tick(hour)
	p.feed.judge(hour, func(day int64) {
		p.world.Gaps.Add(day)
		p.gaps = append(p.gaps, day)
		p.totals.Gaps++
	})
	return d
}

const quarter = 900

// flush moves the expectations of the hours up to to from waiting into cells.
func (p *Partition) flush(to timing.Hour) {
	if to <= p.flushed {
		return
	}
	for i := range p.tallies {
		t := &p.tallies[i]
		for h := p.flushed + 1; h <= min(to, p.flushed+waitingHours); h++ {
			w := &t.waiting[h%waitingHours]
			c := &t.cells[timing.HourOfWeek(h)]
			c.flat += w.flat
			c.own += w.own
			*w = expectation{}
		}
	}
	p.flushed = to
}

// at is where expectations of an hour are added.
func (p *Partition) at(t *tally, h timing.Hour) *expectation {
	if h > p.flushed && h <= p.flushed+waitingHours {
		return &t.waiting[h%waitingHours]
	}
	return &t.cells[timing.HourOfWeek(h)].expectation
}

// expect adds the engaged hours that so many deliveries in hour h like this one explain, every hour being like every other
// and by the customer's own attention.
func (p *Partition) expect(t *tally, v *timing.View, h timing.Hour, weight float64) {
	scale, day, own := weight*v.Rate*millionths, h/timing.Day, uint64(0)
	for a, k := range &p.world.Model.Kernel {
		at := h + int64(a)
		if d := at / timing.Day; d != day {
			p.feed.expect(day, own)
			day, own = d, 0
		}
		e := p.at(t, at)
		mine := uint64(scale*k*v.Phi[timing.HourOfWeek(at)] + .5)
		e.flat += uint64(scale*k + .5)
		e.own += mine
		own += mine
	}
	p.feed.expect(day, own)
}

// spread adds one engaged hour of a customer whose source reports no deliveries, that stands for so many, to the hours of its
// local day: expected is that it falls where those of everybody do, and by the customer's own attention.
func (p *Partition) spread(t *tally, v *timing.View, h timing.Hour, weight float64) {
	v.Spread(h, func(at timing.Hour, flat, own float64) {
		e := p.at(t, at)
		e.flat += uint64(weight*millionths*flat + .5)
		e.own += uint64(weight*millionths*own + .5)
	})
}

// tally returns the tally of a channel and segment.
func (p *Partition) tally(channel, segment string) *tally {
	for i := range p.tallies {
		if t := &p.tallies[i]; t.channel == channel && t.segment == segment || len(p.tallies) == maxTallies && t.channel == others && t.segment == others {
			return t
		}
	}
	if len(p.tallies) == maxTallies-1 {
		channel, segment = others, others
	}
	p.tallies = append(p.tallies, tally{channel: strings.Clone(channel), segment: strings.Clone(segment)})
	return &p.tallies[len(p.tallies)-1]
}

// count counts an event.
func (p *Partition) count(kind engagement.Kind, actor engagement.Actor, r timing.Result) {
	t, e := &p.totals, &p.events
	t.Kinds[kind]++
	switch actor {
	case engagement.Human:
		t.Human++
		e.Human++
	case engagement.Probable:
		t.Probable++
		e.Probable++
	case engagement.Machine:
		t.Machine++
		e.Machine++
	}
	switch r {
	case timing.Late:
		t.Late++
		e.Late++
		return
	case timing.Repeated:
		t.Repeated++
		e.Duplicate++
	}
	t.Accepted++
}

// ignore counts an event that leaves no other trace: one that an erasure is later than, or an unconsented open.
func (p *Partition) ignore(kind engagement.Kind, erased bool) {
	p.totals.Kinds[kind]++
	if erased {
		p.totals.Erased++
		p.events.Erased++
		return
	}
	p.totals.Unconsented++
	p.events.Unconsented++
}

// answered counts a human engagement for the figures on response.
func (p *Partition) answered(a *timing.Answer) {
	p.engagements++
	if a.Known && a.Prime {
		p.optimal++
	}
	if a.First && a.Seconds >= 0 {
		p.response[timing.ResponseBin(a.Seconds)]++
		p.responses++
		p.seconds += uint64(a.Seconds)
	}
}

// digest takes what was counted; nil if nothing was.
func (p *Partition) digest(every int64) *timing.Digest {
	d := &timing.Digest{
		Minute: time.Unix(p.open, 0).UTC(), Seconds: int(every), Cells: []timing.Cell{},
		Active: p.active, Everybody: p.everybody, ResponseCount: p.responses, ResponseSeconds: p.seconds, Optimal: p.optimal, Engagements: p.engagements, Events: p.events,
	}
	for i := range p.tallies {
		t := &p.tallies[i]
		for how := range t.cells {
			c := &t.cells[how]
			if *c == (cell{}) {
				continue
			}
			d.Cells = append(d.Cells, timing.Cell{
				Channel: t.channel, Segment: t.segment, How: how, Delivered: c.delivered, Engaged: c.engaged,
				Expected: float64(c.flat) / millionths, ModelExpected: float64(c.own) / millionths,
			})
			*c = cell{}
		}
	}
	for kind := range p.tails {
		for stratum := range p.tails[kind] {
			take(d, tailKinds[kind], stratum, p.tails[kind][stratum][:])
		}
	}
	for stratum := range p.acts {
		take(d, timing.Act, stratum, p.acts[stratum][:])
	}
	for _, day := range p.gaps {
		d.Gaps = append(d.Gaps, calendar.Instant(day*timing.Day, time.UTC).Format(time.DateOnly))
	}
	p.gaps, p.active, p.everybody = nil, 0, 0
	d.Response = trimmed(p.response[:])
	p.response = [timing.ResponseBins]uint32{}
	p.responses, p.seconds, p.optimal, p.engagements, p.events = 0, 0, 0, 0, timing.Events{}
	if len(d.Cells) == 0 && d.Events == (timing.Events{}) {
		return nil
	}
	return d
}

// take moves bins into a tail of d, if there is anything in them.
func take(d *timing.Digest, kind string, stratum int, bins []uint32) {
	if b := trimmed(bins); b != nil {
		d.Tails = append(d.Tails, timing.Tail{Kind: kind, Stratum: timing.Strata[stratum], Bins: b})
		clear(bins)
	}
}

// trimmed is a copy of bins without the zeros at its end; nil if there is nothing else.
func trimmed(bins []uint32) []uint32 {
	n := len(bins)
	for n > 0 && bins[n-1] == 0 {
		n--
	}
	return append([]uint32(nil), bins[:n]...)
}
