package profiler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/stream"
)

// Totals counts the events of a partition since its run began.
type Totals struct {
	Accepted uint64                             `json:"accepted"` // neither late nor set aside as unreadable
	Late     uint64                             `json:"late"`     // too old to be counted in a profile
	Repeated uint64                             `json:"repeated"` // of the accepted, in an hour that the profile held already
	Human    uint64                             `json:"human"`    // of all
	Probable uint64                             `json:"probable"`
	Machine  uint64                             `json:"machine"`
	Kinds    [engagement.Unsubscribe + 1]uint64 `json:"kinds"` // of all, by engagement.Kind
}

// Add adds o, for totals over partitions.
func (t *Totals) Add(o Totals) {
	t.Accepted += o.Accepted
	t.Late += o.Late
	t.Repeated += o.Repeated
	t.Human += o.Human
	t.Probable += o.Probable
	t.Machine += o.Machine
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

// Partition is what the profiler keeps of a partition: totals, and the digest that is being filled.
type Partition struct {
	totals Totals

	clock   int64       // highest event time seen, Unix seconds
	open    int64       // beginning of the period that is being counted
	flushed timing.Hour // local hour of the clock in the default zone: later expectations wait in the tallies
	whole   int64       // until this event time profiles that were rebuilt from a shortened log are partial; 0: they are whole

	tallies     []tally
	tails       [len(timing.Strata)][timing.TailBins]uint32
	response    [timing.ResponseBins]uint32
	responses   uint64
	seconds     uint64
	optimal     uint64
	engagements uint64
	events      timing.Events

	// Not stored.
	model    *timing.Model
	zone     *time.Location
	zoneName string
	view     timing.View // scratch
}

// tally is what is counted of one channel. Expectations are kept in millionths, so that sums are exact.
type tally struct {
	channel string
	cells   [timing.Week]cell
	waiting [waitingHours]expectation // of hours after Partition.flushed, by hour modulo waitingHours
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
	// maxTallies bounds what a digest tells apart. Channels beyond it are counted together.
	maxTallies = 16
	others     = "other"
)

// tick moves the clock to an event's time, and returns the digest of the period that this ends, if it counted anything.
func (p *Partition) tick(second int64, s *stepper) (d *timing.Digest) {
	if p.clock != 0 && second <= p.clock {
		return nil
	}
	hour, _ := calendar.LocalHour(time.Unix(second, 0), s.zone)
	period := second - second%s.every
	if p.clock == 0 {
		p.open, p.flushed = period, hour
	}
	p.clock = second
	if period != p.open {
		p.flush(hour - 1) // the hours between belong to the period before
		d = p.digest(s.every)
		p.open = period
	}
	p.flush(hour)
	return d
}

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

// expect adds expected engaged hours at an hour.
func (t *tally) expect(flushed, at timing.Hour, flat, own float64) {
	e := &t.cells[timing.HourOfWeek(at)].expectation
	if at > flushed && at <= flushed+waitingHours {
		e = &t.waiting[at%waitingHours]
	}
	e.flat += uint64(math.Round(flat * millionths))
	e.own += uint64(math.Round(own * millionths))
}

// tally returns the tally of a channel.
func (p *Partition) tally(channel string) *tally {
	for i := range p.tallies {
		if t := &p.tallies[i]; t.channel == channel || len(p.tallies) == maxTallies && t.channel == others {
			return t
		}
	}
	if len(p.tallies) == maxTallies-1 {
		channel = others
	}
	p.tallies = append(p.tallies, tally{channel: strings.Clone(channel)})
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

// answered counts a human engagement for the figures on response.
func (p *Partition) answered(a timing.Answer) {
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
		ResponseCount: p.responses, ResponseSeconds: p.seconds, Optimal: p.optimal, Engagements: p.engagements, Events: p.events,
	}
	for i := range p.tallies {
		t := &p.tallies[i]
		for how := range t.cells {
			c := &t.cells[how]
			if *c == (cell{}) {
				continue
			}
			d.Cells = append(d.Cells, timing.Cell{
				Channel: t.channel, How: how, Delivered: c.delivered, Engaged: c.engaged,
				Expected: float64(c.flat) / millionths, ModelExpected: float64(c.own) / millionths,
			})
			*c = cell{}
		}
	}
	for stratum := range p.tails {
		if bins := trimmed(p.tails[stratum][:]); bins != nil {
			d.Tails = append(d.Tails, timing.Tail{Kind: timing.Burst, Stratum: timing.Strata[stratum], Bins: bins})
		}
		p.tails[stratum] = [timing.TailBins]uint32{}
	}
	d.Response = trimmed(p.response[:])
	p.response = [timing.ResponseBins]uint32{}
	p.responses, p.seconds, p.optimal, p.engagements, p.events = 0, 0, 0, 0, timing.Events{}
	if len(d.Cells) == 0 && d.Events == (timing.Events{}) {
		return nil
	}
	return d
}

// trimmed is a copy of bins without the zeros at its end; nil if there is nothing else.
func trimmed(bins []uint32) []uint32 {
	n := len(bins)
	for n > 0 && bins[n-1] == 0 {
		n--
	}
	return append([]uint32(nil), bins[:n]...)
}

// partitionVersion stands first in an encoded Partition.
const partitionVersion = 1

var errPartition = errors.New("profiler: not a partition's state")

func (p *Partition) append(dst []byte) []byte {
	put := func(v ...uint64) {
		for _, v := range v {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	sparse := func(bins []uint32) {
		n := 0
		for _, v := range bins {
			if v != 0 {
				n++
			}
		}
		put(uint64(n))
		for i, v := range bins {
			if v != 0 {
				put(uint64(i), uint64(v))
			}
		}
	}
	t, e := &p.totals, &p.events
	dst = append(dst, partitionVersion)
	put(t.Accepted, t.Late, t.Repeated, t.Human, t.Probable, t.Machine)
	put(t.Kinds[:]...)
	dst = binary.AppendVarint(dst, p.clock)
	dst = binary.AppendVarint(dst, p.open)
	dst = binary.AppendVarint(dst, p.flushed)
	dst = binary.AppendVarint(dst, p.whole)
	put(e.Human, e.Probable, e.Machine, e.Late, e.Duplicate, p.responses, p.seconds, p.optimal, p.engagements)
	sparse(p.response[:])
	for i := range p.tails {
		sparse(p.tails[i][:])
	}
	put(uint64(len(p.tallies)))
	for i := range p.tallies {
		t := &p.tallies[i]
		put(uint64(len(t.channel)))
		dst = append(dst, t.channel...)
		n := 0
		for how := range t.cells {
			if t.cells[how] != (cell{}) {
				n++
			}
		}
		put(uint64(n))
		for how := range t.cells {
			if c := &t.cells[how]; *c != (cell{}) {
				put(uint64(how), uint64(c.delivered), uint64(c.engaged), c.flat, c.own)
			}
		}
		n = waitingHours // up to the last one that waits
		for ; n > 0 && t.waiting[(p.flushed+int64(n))%waitingHours] == (expectation{}); n-- {
		}
		put(uint64(n))
		for h := p.flushed + 1; h <= p.flushed+int64(n); h++ {
			put(t.waiting[h%waitingHours].flat, t.waiting[h%waitingHours].own)
		}
	}
	return dst
}

func (p *Partition) decode(b []byte) error {
	if len(b) == 0 || b[0] != partitionVersion {
		return fmt.Errorf("%w: unknown version: run the program that wrote it, or start a new run", errPartition)
	}
	b = b[1:]
	bad := false
	fail := func() { bad, b = true, nil }
	get := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			fail()
			return 0
		}
		b = b[n:]
		return v
	}
	signed := func() int64 { // as binary.AppendVarint writes it
		v := get()
		return int64(v>>1) ^ -int64(v&1)
	}
	below := func(n int) int {
		v := get()
		if v >= uint64(n) {
			fail()
			return 0
		}
		return int(v)
	}
	sparse := func(bins []uint32) {
		for n := below(len(bins) + 1); n > 0 && !bad; n-- {
			i := below(len(bins))
			bins[i] = uint32(get())
		}
	}
	*p = Partition{model: p.model}
	t, e := &p.totals, &p.events
	for _, v := range []*uint64{&t.Accepted, &t.Late, &t.Repeated, &t.Human, &t.Probable, &t.Machine} {
		*v = get()
	}
	for i := range t.Kinds {
		t.Kinds[i] = get()
	}
	p.clock, p.open, p.flushed, p.whole = signed(), signed(), signed(), signed()
	for _, v := range []*uint64{&e.Human, &e.Probable, &e.Machine, &e.Late, &e.Duplicate, &p.responses, &p.seconds, &p.optimal, &p.engagements} {
		*v = get()
	}
	sparse(p.response[:])
	for i := range p.tails {
		sparse(p.tails[i][:])
	}
	if p.flushed < 0 || p.flushed > math.MaxInt64/2 {
		fail()
	}
	for n := below(maxTallies + 1); n > 0 && !bad; n-- {
		length := below(len(b) + 1)
		if bad || length > len(b) {
			fail()
			break
		}
		p.tallies = append(p.tallies, tally{channel: string(b[:length])})
		b = b[length:]
		t := &p.tallies[len(p.tallies)-1]
		for m := below(timing.Week + 1); m > 0 && !bad; m-- {
			c := &t.cells[below(timing.Week)]
			c.delivered, c.engaged, c.flat, c.own = uint32(get()), uint32(get()), get(), get()
		}
		m := int64(below(waitingHours + 1))
		for h := p.flushed + 1; h <= p.flushed+m; h++ {
			t.waiting[h%waitingHours] = expectation{get(), get()}
		}
	}
	if bad || len(b) > 0 {
		return fmt.Errorf("%w: damaged: start a new run", errPartition)
	}
	return nil
}
