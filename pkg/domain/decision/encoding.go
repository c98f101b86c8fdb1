package decision

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// stateVersion begins every encoding of a State. Version 1 held the seconds of sends alone, version 2 no answers.
const stateVersion = 3

// Append writes the state: numbers as varints, times as distances from those before them.
func (s *State) Append(dst []byte) []byte {
	e := encoder{append(dst, stateVersion)}
	e.text(string(s.attributes))
	e.count(len(s.pending))
	for i := range s.pending {
		e.pending(&s.pending[i])
	}
	e.count(len(s.sent))
	var last int64
	for i := range s.sent {
		t := &s.sent[i]
		e.number(t.at - last)
		last = t.at
		e.number(t.hour)
		e.text(t.channel)
		e.text(t.decision)
		e.text(t.audience)
		e.number(int64(t.priority))
	}
	e.count(len(s.ended))
	for _, o := range s.ended {
		e.b = binary.LittleEndian.AppendUint64(e.b, o.request)
		e.number(o.until)
	}
	e.count(len(s.members))
	for _, m := range s.members {
		e.text(m.audience)
		e.number(m.until)
	}
	e.count(len(s.answers))
	for _, a := range s.answers {
		e.text(a.channel)
		e.number(a.at)
		var granted int
		if a.granted {
			granted = 1
		}
		e.count(granted)
	}
	return e.b
}

func (e *encoder) pending(p *pending) {
	for _, text := range [...]string{p.id, p.channel, p.message, p.audience, string(p.why)} {
		e.text(text)
	}
	e.number(int64(p.priority))
	e.number(p.notBefore)
	e.number(p.deadline)
	var flags int64
	if p.onDeviation {
		flags |= 1
	}
	if p.at != 0 {
		flags |= 2
	}
	e.number(flags)
	e.number(p.due - p.deadline)
	if p.at == 0 {
		return
	}
	e.number(p.at - p.due)
	e.number(p.from - p.at)
	e.number(p.to - p.from)
	e.number(p.hour)
	e.number(int64(p.best))
	e.number(p.bestAt - p.from)
	e.b = binary.LittleEndian.AppendUint64(e.b, math.Float64bits(p.propensity))
}

// Decode reads what Append wrote, and what the versions before did.
func (s *State) Decode(b []byte) error {
	*s = State{}
	if len(b) == 0 {
		return errors.New("decode decision state: cut off")
	}
	if b[0] < 1 || b[0] > stateVersion {
		return fmt.Errorf("decode decision state: version %d is unknown to this program, which reads versions 1 to %d: run the newer one (docs/operations.md, Upgrades and rollback)", b[0], stateVersion)
	}
	d := decoder{b: b[1:]}
	if b[0] == 1 {
		d.first(s)
	} else {
		d.state(s)
	}
	if b[0] > 2 {
		d.answers(s)
	}
	if err := d.end(); err != nil {
		*s = State{}
		return fmt.Errorf("decode decision state: %w", err)
	}
	return nil
}

// first reads version 1, which had one byte for their number and then the seconds of the last sends.
func (d *decoder) first(s *State) {
	var at int64
	for range d.byte() {
		at += d.number()
		s.sent = append(s.sent, sent{at: at * 1000, hour: math.MinInt32})
	}
}

func (d *decoder) state(s *State) {
	if attributes := d.text(); attributes != "" {
		s.attributes = []byte(attributes)
	}
	for range d.count(MaxPending) {
		s.pending = append(s.pending, d.pending())
	}
	var last int64
	for range d.count(maxSent) {
		last += d.number()
		s.sent = append(s.sent, sent{at: last, hour: d.number(), channel: d.text(), decision: d.text(), audience: d.text(), priority: int(d.number())})
	}
	for range d.count(maxEnded) {
		s.ended = append(s.ended, ended{d.uint64(), d.number()})
	}
	for range d.count(maxMembers) {
		s.members = append(s.members, member{d.text(), d.number()})
	}
}

func (d *decoder) answers(s *State) {
	for range d.count(maxAnswers) {
		a := answer{channel: d.text(), at: d.number()}
		a.granted = d.count(1) == 1
		s.answers = append(s.answers, a)
	}
}

func (d *decoder) pending() (p pending) {
	p.id, p.channel, p.message, p.audience, p.why = d.text(), d.text(), d.text(), d.text(), Reason(d.text())
	p.priority = int(d.number())
	p.notBefore, p.deadline = d.number(), d.number()
	flags := d.number()
	p.onDeviation = flags&1 != 0
	p.due = p.deadline + d.number()
	if flags&2 == 0 {
		return p
	}
	p.at = p.due + d.number()
	p.from = p.at + d.number()
	p.to = p.from + d.number()
	p.hour, p.best = d.number(), uint8(d.number())
	p.bestAt = p.from + d.number()
	p.propensity = math.Float64frombits(d.uint64())
	if p.at == 0 {
		d.fail("a slot at no time")
	}
	return p
}

// encoder appends.
type encoder struct{ b []byte }

func (e *encoder) number(n int64) { e.b = binary.AppendVarint(e.b, n) }
func (e *encoder) count(n int)    { e.b = binary.AppendUvarint(e.b, uint64(n)) }
func (e *encoder) text(s string)  { e.count(len(s)); e.b = append(e.b, s...) }

// decoder reads. After its first failure it reads zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = errors.New(what)
	}
	d.b = nil
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) != 0 {
		d.fail("bytes left over")
	}
	return d.err
}

func (d *decoder) number() int64 {
	n, k := binary.Varint(d.b)
	if k <= 0 {
		d.fail("truncated")
		return 0
	}
	d.b = d.b[k:]
	return n
}

func (d *decoder) count(limit int) int {
	n, k := binary.Uvarint(d.b)
	if k <= 0 || n > uint64(limit) {
		d.fail("truncated, or too many entries")
		return 0
	}
	d.b = d.b[k:]
	return int(n)
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("truncated")
		return make([]byte, 8)
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) text() string {
	n := d.count(len(d.b))
	if n == 0 {
		return ""
	}
	return strings.Clone(string(d.take(n)))
}

func (d *decoder) byte() byte     { return d.take(1)[0] }
func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

// instant is a time of the wire.
func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
