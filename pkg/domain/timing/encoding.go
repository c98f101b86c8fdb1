package timing

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// encodingVersion stands first in every encoded Profile. A change to what follows takes a new number; numbers are never
// used twice. The next one is meant for evidence by expert and the guard.
const encodingVersion = 1

// ErrProfile is wrapped by every error of Decode.
var ErrProfile = errors.New("timing: not a profile")

// Names that are written as one byte. Append only.
var (
	zoneNames    = []string{"", "Europe/Rome", "Europe/Brussels", "Europe/Paris", "Europe/Berlin", "Europe/Madrid", "Europe/London", "Europe/Zurich", "Europe/Vienna", "Europe/Amsterdam", "UTC", "America/New_York"}
	channelNames = []string{"", "email", "sms", "push", "whatsapp", "web"}
)

// Append encodes p. Equal profiles have equal bytes.
func (p *Profile) Append(dst []byte) []byte {
	dst = append(dst, encodingVersion)
	dst = appendName(dst, p.Zone, zoneNames)
	dst = p.memory.append(dst)
	dst = binary.AppendUvarint(dst, uint64(len(p.Channels)))
	for i := range p.Channels {
		c := &p.Channels[i]
		dst = appendName(dst, c.Name, channelNames)
		dst = c.State.append(dst)
	}
	return dst
}

// Decode is the inverse of Append. It keeps no view of b. Errors wrap ErrProfile.
func (p *Profile) Decode(b []byte) error {
	channels := p.Channels[:0]
	*p = Profile{}
	d := decoder{b: b}
	if v := d.byte(); d.err == nil && v != encodingVersion {
		return fmt.Errorf("%w: version %d, this program reads version %d: run the program that wrote it, or rebuild the profiles in a new run", ErrProfile, v, encodingVersion)
	}
	p.Zone = d.name(zoneNames)
	p.memory.decode(&d)
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("more channels than bytes")
	}
	for ; n > 0 && d.err == nil; n-- {
		channels = append(channels, Channel{Name: d.name(channelNames)})
		channels[len(channels)-1].State.decode(&d)
	}
	p.Channels = channels
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes left over")
	}
	return d.err
}

// Flags of a State.
const (
	flagSettled = 1 << iota
	flagSilent
	flagAnswered
)

func (s *State) append(dst []byte) []byte {
	var flags byte
	if s.settled {
		flags |= flagSettled
	}
	if s.silent {
		flags |= flagSilent
	}
	if s.answered {
		flags |= flagAnswered
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, s.head)
	dst = binary.AppendVarint(dst, dayOf(s.head)-s.first)
	if s.settled {
		dst = binary.AppendVarint(dst, s.landmark/landmarkStep)
		dst = binary.AppendUvarint(dst, uint64(s.hours))
		dst = binary.AppendUvarint(dst, uint64(s.days))
		dst = binary.AppendUvarint(dst, uint64(s.deliveries))
		if s.hours > 0 {
			dst = appendCounters(dst, s.slow[:])
			dst = appendCounters(dst, s.fast[:])
			dst = appendCounters(dst, s.engagedDays[:])
		}
		if s.deliveries > 0 {
			dst = appendCounters(dst, s.sent[:])
			dst = appendCounters(dst, s.sentDays[:])
		}
	}
	dst = binary.AppendUvarint(dst, uint64(s.mailDays))
	if s.mailDays > 0 {
		dst = binary.AppendUvarint(dst, uint64(s.readDays))
		dst = binary.AppendUvarint(dst, uint64(s.streak))
	}
	if s.answered {
		dst = binary.AppendUvarint(dst, uint64(s.head-s.last))
	}
	dst = s.engaged.append(dst, s.head)
	dst = s.received.append(dst, s.head)
	for d := s.unsettled(); d <= dayOf(s.head); d++ {
		for b := s.engaged.day(d, s.head); b != 0; b &= b - 1 {
			dst = append(dst, s.minutes[mod(d*Day+int64(bits.TrailingZeros32(b)), hotHours)])
		}
	}
	return dst
}

func (s *State) decode(d *decoder) {
	*s = State{seen: true}
	flags := d.byte()
	s.settled, s.silent, s.answered = flags&flagSettled != 0, flags&flagSilent != 0, flags&flagAnswered != 0
	s.head = d.varint()
	if s.head < -maxHour || s.head > maxHour {
		d.fail("hour out of range")
		return
	}
	s.first = dayOf(s.head) - d.varint()
	if s.settled {
		s.landmark = d.varint() * landmarkStep
		s.hours, s.days, s.deliveries = d.uint32(), d.uint32(), d.uint32()
		if s.hours > 0 {
			d.counters(s.slow[:])
			d.counters(s.fast[:])
			d.counters(s.engagedDays[:])
		}
		if s.deliveries > 0 {
			d.counters(s.sent[:])
			d.counters(s.sentDays[:])
		}
		if w := weekOf(s.head) - s.landmark; d.err == nil && (s.landmark < -maxHour || w < -1) {
			d.fail("landmark out of range")
		}
	}
	if s.mailDays = d.uint32(); s.mailDays > 0 {
		s.readDays, s.streak = d.uint32(), d.uint32()
	}
	if s.answered {
		s.last = s.head - int64(d.uint32())
	}
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

// maxHour bounds what Decode believes: the year 20000, so that no sum of hours can overflow.
const maxHour = 18000 * 366 * Day

// appendCounters writes a mask of the counters that are not zero, low byte first, and these.
func appendCounters(dst []byte, c []uint32) []byte {
	at := len(dst)
	for i := 0; i < len(c); i += 8 {
		dst = append(dst, 0)
	}
	for i, v := range c {
		if v != 0 {
			dst[at+i/8] |= 1 << (i % 8)
			dst = binary.AppendUvarint(dst, uint64(v))
		}
	}
	return dst
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
	for d := dayOf(head); n > 0; d-- {
		for b := r.day(d, head); b != 0; n-- {
			i := bits.Len32(b) - 1
			b &^= 1 << i
			dst = append(dst, byte(head-d*Day-int64(i)))
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

func (d *decoder) counters(c []uint32) {
	var mask [3]byte
	for i := range (len(c) + 7) / 8 {
		mask[i] = d.byte()
	}
	for i := range c {
		if mask[i/8]>>(i%8)&1 != 0 {
			c[i] = d.uint32()
		}
	}
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
