package board

import (
	"math"

	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// StoryDays is how long, in days of event time, a deviation can be the story of its kind.
const StoryDays = 28

// StoryKinds are the kinds of which a story is told, in the order in which the page shows them.
var StoryKinds = [...]string{timing.Drift, timing.Silence, timing.Burst}

// stories are the most telling deviations by kind and day, a ring of days each.
type stories [len(StoryKinds)][StoryDays]struct {
	day int64
	row Row
}

// far is the distance, in hours, beyond which a habit that moved farther is no better story.
const far = 8

// telling orders deviations of one kind: by how unusual it is, or how far a habit moved, and by how well the customer is
// known, of which certainty grows as the square root.
func telling(d *deviation.Deviation) float64 {
	strength := math.Abs(d.Z)
	if d.Kind == timing.Drift {
		away := math.Abs(d.Observed - d.Expected)
		strength = min(away, timing.Day-away, far)
	}
	return strength * math.Sqrt(d.Evidence.EngagedHours)
}

// outdoes reports whether a is the better story: more telling, or as telling and newer.
func outdoes(a, b *Row) bool {
	if x, y := telling(a.Deviation), telling(b.Deviation); x != y {
		return x > y
	}
	return before(*a, *b) < 0
}

func (s *stories) add(r Row) {
	for i, kind := range StoryKinds {
		if kind != r.Kind {
			continue
		}
		day := floorDiv(r.Time.Unix(), 24*3600)
		slot := &s[i][uint64(day)%StoryDays]
		if slot.day < day || slot.day == day && outdoes(&r, &slot.row) {
			slot.day, slot.row = day, r
		}
	}
}

// Stories are the most telling deviations of the last StoryDays, one of each of StoryKinds; one without a Deviation where
// nothing of the kind was told.
func (b *Board) Stories() (out [len(StoryKinds)]Row) {
	oldest := floorDiv(b.clock.Unix(), 24*3600) - StoryDays
	for i := range out {
		for j := range b.stories[i] {
			if slot := &b.stories[i][j]; slot.row.Deviation != nil && slot.day > oldest && (out[i].Deviation == nil || outdoes(&slot.row, &out[i])) {
				out[i] = slot.row
			}
		}
	}
	return out
}
