package profiler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// partitionVersion stands first in an encoded Partition. Version 1 knew no segments, no gaps and no crowd, and of tails only
// those of bursts; version 2 knew no events that are to be ignored.
const partitionVersion = 3

var errPartition = errors.New("profiler: not a partition's state")

// maxGaps bounds the days that a digest tells as gaps: a clock that jumps may judge a few at once.
const maxGaps = 366

func (p *Partition) append(dst []byte) []byte {
	put := func(v ...uint64) {
		for _, v := range v {
			dst = binary.AppendUvarint(dst, v)
		}
	}
	text := func(s string) {
		put(uint64(len(s)))
		dst = append(dst, s...)
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
	for kind := range p.tails {
		for stratum := range p.tails[kind] {
			sparse(p.tails[kind][stratum][:])
		}
	}
	for stratum := range p.acts {
		sparse(p.acts[stratum][:])
	}
	put(t.Gaps, p.active, p.everybody, uint64(len(p.gaps)))
	for _, day := range p.gaps {
		put(uint64(day))
	}
	dst = p.world.Gaps.Append(dst)
	f, c := &p.feed, &p.crowd
	put(uint64(f.judged), uint64(f.ordinary), uint64(f.outed), f.usual.expected, f.usual.engaged)
	for _, tide := range f.days {
		put(tide.expected, tide.engaged)
	}
	put(uint64(c.hour), c.now[0].engaged, c.now[0].bursts, c.now[1].engaged, c.now[1].bursts, c.usual.engaged, c.usual.bursts)
	put(uint64(len(p.tallies)))
	for i := range p.tallies {
		t := &p.tallies[i]
		text(t.channel)
		text(t.segment)
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
	put(t.Erased, t.Unconsented, e.Erased, e.Unconsented)
	return dst
}

func (p *Partition) decode(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("%w: cut off", errPartition)
	}
	if b[0] == 0 || b[0] > partitionVersion {
		return fmt.Errorf("%w: version %d is unknown to this program, which reads versions 1 to %d: run the newer one (docs/operations.md, Upgrades and rollback)", errPartition, b[0], partitionVersion)
	}
	version := b[0]
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
	hours := func() int64 { return int64(below(math.MaxInt32)) } // or days, of times after 1970
	text := func() string {
		n := below(len(b) + 1)
		if bad || n > len(b) {
			fail()
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	sparse := func(bins []uint32) {
		for n := below(len(bins) + 1); n > 0 && !bad; n-- {
			i := below(len(bins))
			bins[i] = uint32(get())
		}
	}
	all := func(to ...*uint64) {
		for _, v := range to {
			*v = get()
		}
	}
	*p = Partition{world: timing.World{Model: p.world.Model}}
	t, e := &p.totals, &p.events
	all(&t.Accepted, &t.Late, &t.Repeated, &t.Human, &t.Probable, &t.Machine)
	for i := range t.Kinds {
		t.Kinds[i] = get()
	}
	p.clock, p.open, p.flushed, p.whole = signed(), signed(), signed(), signed()
	all(&e.Human, &e.Probable, &e.Machine, &e.Late, &e.Duplicate, &p.responses, &p.seconds, &p.optimal, &p.engagements)
	sparse(p.response[:])
	for kind := range p.tails {
		if version == 1 && kind != burstTail {
			continue
		}
		for stratum := range p.tails[kind] {
			sparse(p.tails[kind][stratum][:])
		}
	}
	if version > 1 {
		for stratum := range p.acts {
			sparse(p.acts[stratum][:])
		}
		all(&t.Gaps, &p.active, &p.everybody)
		for n := below(maxGaps + 1); n > 0 && !bad; n-- {
			p.gaps = append(p.gaps, hours())
		}
		var err error
		if b, err = p.world.Gaps.Decode(b); err != nil {
			fail()
		}
		f, c := &p.feed, &p.crowd
		f.judged, f.ordinary, f.outed = hours(), uint8(below(math.MaxUint8+1)), uint8(below(math.MaxUint8+1))
		all(&f.usual.expected, &f.usual.engaged)
		for i := range f.days {
			all(&f.days[i].expected, &f.days[i].engaged)
		}
		c.hour = hours()
		all(&c.now[0].engaged, &c.now[0].bursts, &c.now[1].engaged, &c.now[1].bursts, &c.usual.engaged, &c.usual.bursts)
	}
	if p.flushed < 0 || p.flushed > math.MaxInt64/2 {
		fail()
	}
	for n := below(maxTallies + 1); n > 0 && !bad; n-- {
		p.tallies = append(p.tallies, tally{channel: text()})
		t := &p.tallies[len(p.tallies)-1]
		if version > 1 {
			t.segment = text()
		}
		for m := below(timing.Week + 1); m > 0 && !bad; m-- {
			c := &t.cells[below(timing.Week)]
			c.delivered, c.engaged, c.flat, c.own = uint32(get()), uint32(get()), get(), get()
		}
		m := int64(below(waitingHours + 1))
		for h := p.flushed + 1; h <= p.flushed+m; h++ {
			t.waiting[h%waitingHours] = expectation{get(), get()}
		}
	}
	if version > 2 {
		all(&t.Erased, &t.Unconsented, &e.Erased, &e.Unconsented)
	}
	if bad || len(b) > 0 {
		return fmt.Errorf("%w: damaged: start a new run", errPartition)
	}
	return nil
}
