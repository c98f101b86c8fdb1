package timing

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// encodingVersion stands first in every encoded Profile. A change to what follows takes a new number; numbers are never
// used twice. Version 2 (without home, consent and erasure) and version 3 (which knew of consents only that there was a refusal)
// are read, too.
const (
	encodingVersion = 4
	oldestVersion   = 2
)

// ErrProfile is wrapped by every error of Decode.
var ErrProfile = errors.New("timing: not a profile")

// Names that are written as one byte. Append only.
var (
	zoneNames    = []string{"", "Europe/Rome", "Europe/Brussels", "Europe/Paris", "Europe/Berlin", "Europe/Madrid", "Europe/London", "Europe/Zurich", "Europe/Vienna", "Europe/Amsterdam", "UTC", "America/New_York"}
	segmentNames = []string{""}
	channelNames = []string{"", "email", "sms", "push", "whatsapp", "web"}
)

// Append encodes p. Equal profiles have equal bytes.
func (p *Profile) Append(dst []byte) []byte {
	dst = append(dst, encodingVersion)
	dst = appendName(dst, p.Zone, zoneNames)
	dst = appendName(dst, p.Segment, segmentNames)
	dst = p.appendTold(dst)
	dst = p.memory.append(dst)
	dst = binary.AppendUvarint(dst, uint64(len(p.Channels)))
	for i := range p.Channels {
		c := &p.Channels[i]
		dst = appendName(dst, c.Name, channelNames)
		dst = c.State.append(dst)
	}
	return dst
}

// Decode is the inverse of Append; it reads the versions before as well. It keeps no view of b. Errors wrap ErrProfile.
func (p *Profile) Decode(b []byte) error {
	channels := p.Channels[:0]
	d := decoder{b: b}
	if err := p.decodeTold(&d); err != nil {
		return err
	}
	p.memory.decode(&d)
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("more channels than bytes")
	}
	for ; n > 0 && d.err == nil; n-- {
		channels = append(channels, Channel{Name: d.name(channelNames)})
		channels[len(channels)-1].decode(&d)
	}
	p.Channels = channels
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes left over")
	}
	return d.err
}

// DecodeTold reads of an encoded profile only what was told from outside, and is much faster than Decode: for those who ask what a
// customer has consented to.
func (p *Profile) DecodeTold(b []byte) error {
	d := decoder{b: b}
	return cmp.Or(p.decodeTold(&d), d.err)
}

// decodeTold reads what stands before all that was learned, and forgets the rest.
func (p *Profile) decodeTold(d *decoder) error {
	*p = Profile{}
	v := d.byte()
	if d.err == nil && (v < oldestVersion || v > encodingVersion) {
		return fmt.Errorf("%w: version %d is unknown to this program, which reads versions %d to %d: run the newer one (docs/operations.md, Upgrades and rollback)", ErrProfile, v, oldestVersion, encodingVersion)
	}
	p.Zone = d.name(zoneNames)
	p.Segment = d.name(segmentNames)
	if v > 2 {
		p.decodeFlags(d, v)
	}
	return nil
}

// Flags of what was told of a customer from outside.
const (
	toldPixel = 1 << iota // in version 3: a refusal, without its time
	toldErasure
	toldHere      // the home is the zone
	toldElsewhere // the home is another one
	toldGranted   // of Told, if there is one
	saidPixel
	saidGranted // of Said, if there is one
	toldNothing // more than all flags

	toldNothingThird = toldGranted // likewise, in version 3
)

// appendTold writes home, answers and erasure: one byte for everybody of whom nobody has asked anything.
func (p *Profile) appendTold(dst []byte) []byte {
	var flags byte
	if p.Told.At != 0 {
		flags |= toldPixel
	}
	if p.Told.Granted {
		flags |= toldGranted
	}
	if p.Said.At != 0 {
		flags |= saidPixel
	}
	if p.Said.Granted {
		flags |= saidGranted
	}
	if p.erased != 0 {
		flags |= toldErasure
	}
	switch p.Home {
	case "":
	case p.Zone:
		flags |= toldHere
	default:
		flags |= toldElsewhere
	}
	dst = append(dst, flags)
	for _, at := range [...]int64{p.Told.At, p.Said.At, p.erased} {
		if at != 0 {
			dst = binary.AppendUvarint(dst, uint64(at))
		}
	}
	if flags&toldElsewhere != 0 {
		dst = appendName(dst, p.Home, zoneNames)
	}
	return dst
}

func (p *Profile) decodeFlags(d *decoder, version byte) {
	flags := d.byte()
	if flags >= toldNothing || version == 3 && flags >= toldNothingThird {
		d.fail("unknown flag")
		return
	}
	at := func(flag byte) (at int64) {
		if flags&flag != 0 {
			if at = int64(d.uvarint()); at <= 0 {
				d.fail("time out of range")
			}
		}
		return at
	}
	if version == 3 {
		p.erased = at(toldErasure)
		if flags&toldPixel != 0 {
			p.Told.At = max(1, p.erased) // which the refusal was
		}
	} else {
		p.Told = Pixel{at(toldPixel), flags&toldGranted != 0}
		p.Said = Pixel{at(saidPixel), flags&saidGranted != 0}
		p.erased = at(toldErasure)
		if p.Told.At == 0 && p.Told.Granted || p.Said.At == 0 && p.Said.Granted {
			d.fail("an answer of no time")
		}
	}
	if flags&toldHere != 0 {
		p.Home = p.Zone
	}
	if flags&toldElsewhere != 0 {
		p.Home = d.name(zoneNames)
	}
}

// Flags of a State.
const (
	flagSettled = 1 << iota
	flagSilent
	flagAnswered
	flagEngaged  // engaged hours were settled
	flagLearned  // there is evidence, or a guard
	flagDrifting // there is a drift
	flagSent     // deliveries were settled
	flagStreak   // mail days are known
)

func (s *State) append(dst []byte) []byte {
	var flags byte
	for i, set := range [...]bool{
		s.settled, s.silent, s.answered, s.n > 0,
		s.evidence != [Experts]int16{} || s.guard != 0,
		s.moved > 0 || s.recent[0] > 0,
		s.deliveries > 0, s.mailDays > 0,
	} {
		if set {
			flags |= 1 << i
		}
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, s.head)
	dst = binary.AppendVarint(dst, dayOf(s.head)-s.first)
	if s.settled {
		dst = binary.AppendVarint(dst, s.landmark/quarter)
	}
	if s.n > 0 {
		dst = s.Rhythm.append(dst, s.landmark)
		dst = binary.AppendUvarint(dst, uint64(s.days))
		dst = pack(dst, s.engagedDays[:])
	}
	if flags&flagLearned != 0 {
		dst = s.appendLearned(dst)
	}
	if s.deliveries > 0 {
		dst = binary.AppendUvarint(dst, uint64(s.deliveries))
		dst = packHours(dst, &s.sent)
		dst = pack(dst, s.sentDays[:])
		dst = binary.AppendVarint(dst, int64(s.seasonal)-int64(s.mail())) // 0 without seasons
		dst = binary.AppendUvarint(dst, uint64(s.answers))
	} else if s.n > 0 {
		dst = binary.AppendUvarint(dst, uint64(s.watched))
		dst = binary.AppendVarint(dst, dayOf(s.head)-s.watchedTo)
	}
	if flags&flagDrifting != 0 {
		dst = binary.AppendUvarint(dst, uint64(s.moved))
		n := 0
		for n < len(s.recent) && s.recent[n] > 0 {
			n++
		}
		dst = append(dst, byte(n))
		dst = append(dst, s.recent[:n]...)
	}
	if s.mailDays > 0 {
		dst = binary.AppendUvarint(dst, uint64(s.mailDays))
		dst = binary.AppendUvarint(dst, uint64(s.readDays))
		dst = binary.AppendUvarint(dst, uint64(s.streak))
	}
	if s.answered {
		dst = binary.AppendUvarint(dst, uint64(s.head-s.last))
	}
	return s.appendHot(dst)
}

// mail is the sum of the counters of deliveries.
func (s *State) mail() (n uint32) {
	for _, c := range s.sentDays {
		n += c
	}
	return n
}

func (s *State) decode(d *decoder) {
	*s = State{seen: true}
	flags := d.byte()
	s.settled, s.silent, s.answered = flags&flagSettled != 0, flags&flagSilent != 0, flags&flagAnswered != 0
	if !s.decodeHead(d) {
		return
	}
	if s.settled {
		s.landmark = d.landmark(s.head, quarter)
	} else if flags&(flagEngaged|flagSent) != 0 {
		d.fail("counters without a landmark")
	}
	if flags&flagEngaged != 0 {
		s.Rhythm.decode(d, s.landmark, s.head)
		s.days = d.uint32()
		d.unpack(s.engagedDays[:])
	}
	if flags&flagLearned != 0 {
		s.decodeLearned(d)
	}
	if flags&flagSent != 0 {
		if s.deliveries = d.uint32(); s.deliveries == 0 {
			d.fail("flag without deliveries")
		}
		d.unpackHours(&s.sent)
		d.unpack(s.sentDays[:])
		s.seasonal = uint32(int64(s.mail()) + d.varint())
		s.answers = d.uint32()
	} else if s.n > 0 {
		s.watched, s.watchedTo = d.uint32(), dayOf(s.head)-d.varint()
	}
	if flags&flagDrifting != 0 {
		v := d.uvarint()
		n := d.byte()
		if v > math.MaxUint16 || int(n) > len(s.recent) || v == 0 && n == 0 {
			d.fail("drift out of range")
			return
		}
		s.moved = uint16(v)
		for i := range s.recent[:n] {
			if s.recent[i] = d.byte(); s.recent[i] < 1 || s.recent[i] > Day {
				d.fail("hour of the day out of range")
			}
		}
	}
	if flags&flagStreak != 0 {
		if s.mailDays = d.uint32(); s.mailDays == 0 {
			d.fail("flag without mail days")
		}
		s.readDays, s.streak = d.uint32(), d.uint32()
	}
	if s.answered {
		s.last = s.head - int64(d.uint32())
	}
	s.decodeHot(d)
}

func (s *State) decodeHead(d *decoder) bool {
	s.head = d.varint()
	if s.head < -maxHour || s.head > maxHour {
		d.fail("hour out of range")
		return false
	}
	s.first = dayOf(s.head) - d.varint()
	return true
}

// appendHot writes the hours that are not settled yet, and their minutes.
func (s *State) appendHot(dst []byte) []byte {
	dst = s.engaged.append(dst, s.head)
	dst = s.received.append(dst, s.head)
	for d := s.unsettled(); d <= dayOf(s.head); d++ {
		for b := s.engaged.day(d, s.head); b != 0; b &= b - 1 {
			dst = append(dst, s.minutes[mod(d*Day+int64(bits.TrailingZeros32(b)), hotHours)])
		}
	}
	return dst
}

func (s *State) decodeHot(d *decoder) {
	s.engaged.decode(d, s.head)
	s.received.decode(d, s.head)
	for day := s.unsettled(); day <= dayOf(s.head); day++ {
		for b := s.engaged.day(day, s.head); b != 0; b &= b - 1 {
			minute := d.byte()
			if minute > 59 {
				d.fail("minute out of range")
			}
			s.minutes[mod(day*Day+int64(bits.TrailingZeros32(b)), hotHours)] = minute
		}
	}
}

// append writes the histograms.
func (r *Rhythm) append(dst []byte, landmark int64) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.n))
	dst = binary.AppendVarint(dst, (r.year-landmark)/quarter)
	dst = binary.AppendVarint(dst, (r.quarter-landmark)/quarter)
	return packHours(dst, &r.slow, &r.fast)
}

func (r *Rhythm) decode(d *decoder, landmark int64, head Hour) {
	if r.n = d.uint32(); r.n == 0 {
		d.fail("flag without engaged hours")
	}
	for _, mark := range []*int64{&r.year, &r.quarter} {
		*mark = landmark + d.varint()*quarter
		if w := weekOf(head) - *mark; w < -1 || w > 2*maxHour/Week {
			d.fail("landmark out of range")
		}
	}
	d.unpackHours(&r.slow, &r.fast)
}

// appendLearned writes evidence, which is never positive, and guard.
func (r *Rhythm) appendLearned(dst []byte) []byte {
	var v [Experts]uint32
	for e, x := range &r.evidence {
		v[e] = uint32(-int32(x))
	}
	return binary.AppendVarint(pack(dst, v[:]), int64(r.guard))
}

func (r *Rhythm) decodeLearned(d *decoder) {
	var v [Experts]uint32
	d.unpack(v[:])
	for e, x := range &v {
		if x > -math.MinInt16 {
			d.fail("evidence out of range")
			return
		}
		r.evidence[e] = int16(-int32(x))
	}
	guard := d.varint()
	if guard < math.MinInt16 || guard > math.MaxInt16 {
		d.fail("guard out of range")
	}
	r.guard = int16(guard)
}

func (d *decoder) landmark(head Hour, step int64) int64 {
	l := d.varint()
	if w := weekOf(head) - l*step; l < -maxHour || l > maxHour || w < -1 || w > 2*maxHour/Week {
		d.fail("landmark out of range")
	}
	return l * step
}

// maxHour bounds what Decode believes: the year 20000, so that no sum of hours can overflow.
const maxHour = 18000 * 366 * Day

// pack writes counters in as many bits each as the largest takes: that number, and the bits, low ones first.
func pack(dst []byte, counters []uint32) []byte {
	var all uint32
	for _, c := range counters {
		all |= c
	}
	width := bits.Len32(all)
	size := (width*len(counters) + 7) / 8
	dst = append(slices.Grow(dst, 1+size+4), byte(width)) // four bytes at a time, of which the last may be too many
	out := dst[len(dst) : len(dst)+size+4]
	var buffer uint64
	held, at := 0, 0
	for _, c := range counters {
		buffer |= uint64(c) << held
		if held += width; held >= 32 {
			binary.LittleEndian.PutUint32(out[at:], uint32(buffer))
			at += 4
			buffer >>= 32
			held -= 32
		}
	}
	binary.LittleEndian.PutUint32(out[at:], uint32(buffer))
	return dst[:len(dst)+size]
}

// packHours writes counters by hour of the day: which hours have any, and these.
func packHours(dst []byte, counters ...*[Day]uint32) []byte {
	var mask uint32
	for _, c := range counters {
		for h, v := range c {
			mask |= (v | -v) >> 31 << h // without a branch: nobody foresees who keeps which hours
		}
	}
	dst = append(dst, byte(mask), byte(mask>>8), byte(mask>>16))
	var some [Day]uint32
	for _, c := range counters {
		n := 0
		for b := mask; b != 0; b &= b - 1 {
			some[n] = c[bits.TrailingZeros32(b)]
			n++
		}
		dst = pack(dst, some[:n])
	}
	return dst
}

// unpack is the inverse of pack.
func (d *decoder) unpack(counters []uint32) {
	width := int(d.byte())
	size := (width*len(counters) + 7) / 8
	if width > 32 || size > len(d.b) {
		d.fail("counters out of range")
		return
	}
	var buffer uint64
	held, at := 0, 0
	for i := range counters {
		for ; held < width; held += 8 {
			buffer |= uint64(d.b[at]) << held
			at++
		}
		counters[i] = uint32(buffer & (1<<width - 1))
		buffer >>= width
		held -= width
	}
	d.b = d.b[size:]
}

// unpackHours is the inverse of packHours.
func (d *decoder) unpackHours(counters ...*[Day]uint32) {
	mask := uint32(d.byte()) | uint32(d.byte())<<8 | uint32(d.byte())<<16
	var some [Day]uint32
	for _, c := range counters {
		d.unpack(some[:bits.OnesCount32(mask)])
		for n, b := 0, mask; b != 0; b &= b - 1 {
			c[bits.TrailingZeros32(b)] = some[n]
			n++
		}
	}
}

// A set of hours is written as the ages of its members, youngest first, or as bits where these are shorter.
const (
	bitmap     = 0xff
	bitmapSize = Memory / 8
)

func (r *hours) append(dst []byte, head Hour) []byte {
	n := r.len()
	if n > bitmapSize {
		at := len(dst) + 1
		dst = append(append(dst, bitmap), make([]byte, bitmapSize)...)
		for age := range int64(Memory) {
			if r.has(head - age) {
				dst[at+int(age/8)] |= 1 << (age % 8)
			}
		}
		return dst
	}
	dst = append(dst, byte(n))
	if n == 0 {
		return dst
	}
	at := int(mod(head, Memory))
	dst = r.ages(dst, at, 0, at)
	return r.ages(dst, Memory-1, at+1, at+Memory)
}

// ages appends how old the members at from down to to in the ring are, where place 0 is that old.
func (r *hours) ages(dst []byte, from, to, age int) []byte {
	for k := from >> 6; k >= to>>6; k-- {
		w := r[k]
		if k == from>>6 {
			w &= 1<<(from&63+1) - 1
		}
		if k == to>>6 {
			w &^= 1<<(to&63) - 1
		}
		for w != 0 {
			i := bits.Len64(w) - 1
			w &^= 1 << i
			dst = append(dst, byte(age-(k<<6|i)))
		}
	}
	return dst
}

func (r *hours) decode(d *decoder, head Hour) {
	n := d.byte()
	if n != bitmap {
		if n > bitmapSize {
			d.fail("set of hours is too long")
			return
		}
		before := -1
		for ; n > 0 && d.err == nil; n-- {
			age := int(d.byte())
			if age <= before || age >= Memory {
				d.fail("hours out of order")
				return
			}
			r.add(head - int64(age))
			before = age
		}
		return
	}
	members := 0
	for i := range int64(bitmapSize) {
		b := d.byte()
		for j := range int64(8) {
			if b>>j&1 != 0 {
				r.add(head - 8*i - j)
				members++
			}
		}
	}
	if members <= bitmapSize {
		d.fail("bits where a list is shorter")
	}
}

// appendName writes the place of name in known, or its length past them and the name itself.
func appendName(dst []byte, name string, known []string) []byte {
	if i := slices.Index(known, name); i >= 0 {
		return append(dst, byte(i))
	}
	dst = append(dst, 0xff)
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	return append(dst, name...)
}

// decoder reads from b until the first error, after which it reads zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(reason string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrProfile, reason)
	}
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("cut off")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.fail("number out of range")
		return 0
	}
	return uint32(v)
}

func (d *decoder) name(known []string) string {
	i := d.byte()
	if int(i) < len(known) {
		return known[i]
	}
	if i != 0xff {
		d.fail("unknown name")
		return ""
	}
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("cut off")
		return ""
	}
	name := string(d.b[:n])
	d.b = d.b[n:]
	return name
}
