package fit

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// segments finds the attention of the customers of each segment that the operator has named, shrunk to everybody's.
func (s *sample) segments(l *Learner, report *Report) (list []timing.Segment) {
	const fewest, weight = 50, 50 // engaged hours: before a segment is told, and of everybody's in each
	population := l.population.published()
	type group struct {
		customers         float64
		n                 float64
		engaged, exposure [day]float64
	}
	groups := map[string]*group{}
	for i := range s.histories {
		if name := s.histories[i].Segment; name != "" {
			if groups[name] == nil {
				groups[name] = &group{}
			}
			groups[name].customers++
		}
	}
	l.members(1, func(i int, m *member) {
		g := groups[s.histories[i].Segment]
		if g == nil {
			return
		}
		w := 1 / (1 + m.n/50) // as for personas: a few who read a lot are not all of a segment
		g.n += m.n
		for h := range m.engaged {
			g.engaged[h] += w * m.engaged[h]
			g.exposure[h] += w * m.n * m.exposure[h]
		}
	})
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if g.n < fewest {
			report.keep("segments."+name, fmt.Sprintf("%.0f engaged hours; %d are needed: everybody's hours", g.n, fewest))
			continue
		}
		t := trend{g.engaged, g.exposure}
		list = append(list, timing.Segment{Name: name, Share: g.customers / float64(len(s.histories)), Attention: t.over(&population, weight)})
	}
	return list
}
