package timing

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// World is what a profile is held against: what is known about everybody, and when the feed was down. It is of one goroutine.
type World struct {
	Model *Model
	Gaps  Gaps

	// What is being worked out, here so that it need not be cleared each time, and flow as long as the customer is the same.
	flow    flow
	exposed [Day]float64
	outline Outline

	own, other State
}

// Gaps are the local days of the recent past on which the feed of engagements was down: mail of such a day that nobody seems
// to have read says nothing about anybody. The zero value has none. Gaps are comparable.
type Gaps struct {
	newest int64
	days   uint64 // bit i: the feed was down on newest-i
}

// gapDays is how many days a gap is remembered, counted back from the newest one.
const gapDays = 64

// Add notes that the feed was down on a local day (Hour/24).
func (g *Gaps) Add(day int64) {
	if g.days == 0 {
		g.newest = day
	}
	if ahead := day - g.newest; ahead > 0 {
		g.newest = day
		g.days <<= uint64(min(ahead, gapDays))
	}
	if age := g.newest - day; age < gapDays {
		g.days |= 1 << age
	}
}

// Merge adds those of o.
func (g *Gaps) Merge(o *Gaps) {
	for day := o.newest - gapDays + 1; day <= o.newest; day++ {
		if o.Has(day) {
			g.Add(day)
		}
	}
}

// Has reports whether the feed was down on a local day, as far as Gaps remember.
func (g *Gaps) Has(day int64) bool {
	age := g.newest - day
	return age >= 0 && age < gapDays && g.days>>age&1 != 0
}

// Len is the number of days remembered.
func (g *Gaps) Len() int { return bits.OnesCount64(g.days) }

// Append encodes g.
func (g *Gaps) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, g.days)
	if g.days != 0 {
		dst = binary.AppendVarint(dst, g.newest)
	}
	return dst
}

// Decode is the inverse of Append; it returns what follows in b.
func (g *Gaps) Decode(b []byte) (rest []byte, err error) {
	*g = Gaps{}
	d := decoder{b: b}
	if g.days = d.uvarint(); g.days != 0 {
		g.newest = d.varint()
	}
	if d.err == nil && (g.newest < -maxHour || g.newest > maxHour || g.days != 0 && g.days&1 == 0) {
		d.fail("gap out of range")
	}
	if d.err != nil {
		return nil, fmt.Errorf("days without a feed: %w", d.err)
	}
	return d.b, nil
}
