package fit

import "github.com/tempismo/tempismo/pkg/domain/timing"

// pairs is the table of pairs of hours of one customer, from which habits are found.
type pairs struct {
	table  [day][day]float64
	habits []timing.Habit
}

// note adds an engagement at hour of a customer whose earlier ones lie as share says. Customers of whom much is known would
// be all of the table, were theirs not worth less: weight.
func (p *pairs) note(hour int, share *[day]float64, weight float64) {
	for h, x := range share {
		p.table[hour][h] += weight * x
	}
}

func (p *pairs) fit() { p.habits = timing.Habits(timing.SmoothPairs(p.table)) }
