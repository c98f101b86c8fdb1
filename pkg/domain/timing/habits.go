package timing

import "math"

// Habits finds the directions in which customers differ, from the table of pairs of hours of one customer (pairs[h] is, over
// customers with an engagement at hour h, where their engagements lie; any total). Along a direction u with eigenvalue l, two
// engagements of one customer have correlation l: so how far n engagements are believed, n*l/(1+(n-1)*l), is measured and
// not chosen (the Spearman-Brown formula). Weak directions are left out.
func Habits(pairs [Day][Day]float64) []Habit {
	const weakest = .002
	symmetric(&pairs)
	var total float64
	for i := range pairs {
		for j := range pairs {
			total += pairs[i][j]
		}
	}
	var g [Day]float64
	for i := range pairs {
		for j := range pairs {
			pairs[i][j] /= total
			g[i] += pairs[i][j]
		}
	}
	for i := range pairs {
		for j := range pairs {
			root := math.Sqrt(g[i] * g[j])
			pairs[i][j] = pairs[i][j]/root - root
		}
	}
	values, vectors := eigen(&pairs)
	var habits []Habit
	for range MaxHabits {
		best := 0
		for k := range values {
			if values[k] > values[best] {
				best = k
			}
		}
		if values[best] <= weakest {
			break
		}
		u := Habit{Correlation: math.Min(values[best], .999)}
		sign := 1.0 // the sign of a vector is arbitrary: make its first large entry positive, so that equal tables give equal habits
		for h := range u.Hours {
			if math.Abs(vectors[h][best]) > .1 {
				sign = math.Copysign(1, vectors[h][best])
				break
			}
		}
		for h := range u.Hours {
			u.Hours[h] = sign * vectors[h][best] / math.Sqrt(g[h])
		}
		habits = append(habits, u)
		values[best] = math.Inf(-1)
	}
	return habits
}

// SmoothPairs makes a counted table of pairs fit for Habits: neighbours lend each other a quarter, and fifty pairs of
// independent hours are added.
func SmoothPairs(pairs [Day][Day]float64) [Day][Day]float64 {
	const independent = 50
	for i := range pairs {
		smooth(&pairs[i])
	}
	for j := range Day {
		var column [Day]float64
		for i := range pairs {
			column[i] = pairs[i][j]
		}
		smooth(&column)
		for i := range pairs {
			pairs[i][j] = column[i]
		}
	}
	symmetric(&pairs)
	var g [Day]float64
	total := 0.0
	for i := range pairs {
		g[i] = 1 // an hour that nobody was seen at is possible nevertheless
		for j := range pairs {
			g[i] += pairs[i][j]
		}
		total += g[i]
	}
	for i := range pairs {
		for j := range pairs {
			pairs[i][j] += independent * g[i] / total * g[j] / total
		}
	}
	return pairs
}

// smooth lends a quarter to each neighbour around the clock.
func smooth(c *[Day]float64) {
	before, first := c[Day-1], c[0]
	for h := range Day - 1 {
		now := c[h]
		c[h] = (before + 2*now + c[h+1]) / 4
		before = now
	}
	c[Day-1] = (before + 2*c[Day-1] + first) / 4
}

func symmetric(m *[Day][Day]float64) {
	for i := range m {
		for j := range i {
			mean := (m[i][j] + m[j][i]) / 2
			m[i][j], m[j][i] = mean, mean
		}
	}
}

// eigen diagonalises the symmetric a by cyclic Jacobi rotations (Golub and Van Loan, Matrix Computations, 8.5); the columns
// of vectors are orthonormal. It overwrites a.
func eigen(a *[Day][Day]float64) (values [Day]float64, vectors [Day][Day]float64) {
	for i := range vectors {
		vectors[i][i] = 1
	}
	for range 30 {
		off := 0.0
		for i := range a {
			for j := range i {
				off += a[i][j] * a[i][j]
			}
		}
		if off < 1e-24 {
			break
		}
		for p := range Day {
			for q := p + 1; q < Day; q++ {
				if a[p][q] == 0 {
					continue
				}
				tau := (a[q][q] - a[p][p]) / (2 * a[p][q])
				t := 1 / (math.Abs(tau) + math.Sqrt(1+tau*tau))
				if tau < 0 {
					t = -t
				}
				c := 1 / math.Sqrt(1+t*t)
				s := t * c
				for k := range Day {
					x, y := a[k][p], a[k][q]
					a[k][p], a[k][q] = c*x-s*y, s*x+c*y
				}
				for k := range Day {
					x, y := a[p][k], a[q][k]
					a[p][k], a[q][k] = c*x-s*y, s*x+c*y
				}
				for k := range Day {
					x, y := vectors[k][p], vectors[k][q]
					vectors[k][p], vectors[k][q] = c*x-s*y, s*x+c*y
				}
			}
		}
	}
	for i := range values {
		values[i] = a[i][i]
	}
	return values, vectors
}
