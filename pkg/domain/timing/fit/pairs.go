package fit

import "github.com/tempismo/tempismo/pkg/domain/timing"

// pairs is the table of pairs of hours of one customer, from which habits are found.
//
// Customers who are written to at different hours engage at different hours without differing in their habits. Where
// deliveries are known, the table is therefore held against the one that exposure and everybody's attention explain, cell by
// cell, and what remains is laid over the hours of everybody.
type pairs struct {
	table     [day][day]float64
	explained [day][day]float64
	usual     [day]float64 // margin of explained
	exposed   bool         // whether any delivery is known; if not, nothing has to be explained
	habits    []timing.Habit
}

// note adds an engagement at hour of a customer whose earlier ones lie as share says, and who was expected to engage as
// expected says. Customers of whom much is known would be all of the table, were theirs not worth less: weight.
func (p *pairs) note(hour int, share, expected *[day]float64, weight float64) {
	for h, x := range share {
		p.table[hour][h] += weight * x
	}
	for h, x := range expected {
		x *= weight
		p.usual[h] += x
		row := &p.explained[h]
		for i, y := range expected {
			row[i] += x * y
		}
	}
}

func (p *pairs) fit() {
	table := p.table
	if total := sum(p.usual[:]); p.exposed && total > 0 {
		for i := range table {
			for j := range table {
				table[i][j] *= p.usual[i] * p.usual[j] / total / p.explained[i][j]
			}
		}
	}
	p.habits = timing.Habits(timing.SmoothPairs(table))
}
