package fit

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// personas are groups of customers with like hours: a mixture of multinomials under each customer's exposure, found by
// expectation maximisation from a k-means start (k-means++: Arthur and Vassilvitskii, 2007, on square roots of shares, whose
// distance does not overrate rare hours). A customer with n engagements weighs 1/(1+n/50) each, so that a few who read a lot
// are not all of a persona, and each persona holds 30 engagements of everybody's besides.
type personas struct {
	list  []timing.Persona
	since int // engagements since the last step
	known int // customers at the start
	rng   generator
}

const (
	enough      = 5  // engagements before a customer takes part in a start
	quorum      = 50 // such customers before there is one
	startSample = 4000
	lent        = 30 // engagements of everybody's in each persona
)

// member is what the personas see of a customer.
type member struct {
	engaged  [day]float64
	n        float64
	exposure [day]float64
}

// fit takes a step. Its cost is in proportion to customers: with many of whom little was learned, it waits.
func (p *personas) fit(l *Learner, fresh int) {
	if p.since += fresh; p.since*2 < len(l.customers) {
		return
	}
	p.since = 0
	known := 0
	for i := range l.customers {
		if l.customers[i].rhythm.N() >= enough {
			known++
		}
	}
	population := l.population.published()
	switch {
	case known < quorum:
		return
	case len(p.list) == 0 || known >= 4*p.known:
		p.known = known
		p.begin(l, &population)
	}
	p.step(l, &population)
}

// settle starts anew from everybody, goes on until little changes, and makes one of personas that nobody could tell apart:
// prediction does not miss them, and people would ask what the difference is.
func (p *personas) settle(l *Learner) {
	const same = .85 // of attention in common
	if len(p.list) == 0 {
		return
	}
	population := l.population.published()
	p.begin(l, &population)
	for p.converge(l, &population); ; p.converge(l, &population) {
		most, a, b := same, 0, 0
		for i := range p.list {
			for j := range i {
				common := 0.
				for h, x := range &p.list[i].Attention {
					common += min(x, p.list[j].Attention[h]) / day
				}
				if common > most {
					most, a, b = common, j, i
				}
			}
		}
		if a == b {
			return
		}
		into, from := &p.list[a], &p.list[b]
		for h, x := range &from.Attention {
			into.Attention[h] = (into.Share*into.Attention[h] + from.Share*x) / (into.Share + from.Share)
		}
		into.Share += from.Share
		p.list = slices.Delete(p.list, b, b+1)
	}
}

func (p *personas) converge(l *Learner, population *[day]float64) {
	const steps, little = 40, 1e-3
	for range steps {
		before := p.list
		p.step(l, population)
		change := 0.0
		for k := range p.list {
			change += math.Abs(p.list[k].Share - before[k].Share)
		}
		if change < little {
			return
		}
	}
}

// members calls each with every customer who has at least so many engagements.
func (l *Learner) members(least int, each func(i int, m *member)) {
	var m member
	for i := range l.customers {
		c := &l.customers[i]
		if c.rhythm.N() < max(1, least) {
			continue
		}
		m.n = float64(c.rhythm.N())
		m.engaged, _ = c.rhythm.Slow()
		scale(m.engaged[:], m.n)
		m.exposure = l.exposure(c)
		each(i, &m)
	}
}

// begin makes personas of clusters of customers.
func (p *personas) begin(l *Learner, population *[day]float64) {
	type point struct {
		at [day]float64
		m  member
	}
	var points []point
	l.members(enough, func(_ int, m *member) {
		if len(points) == startSample {
			return
		}
		const weight = 8 // engagements of everybody's: a customer is not where five engagements happen to lie
		q := expect(population, &m.exposure)
		pt := point{m: *m}
		for h := range pt.at {
			pt.at[h] = population[h] * (m.engaged[h] + weight*q[h]) / q[h]
		}
		normalise(pt.at[:], 1)
		for h, x := range pt.at {
			pt.at[h] = math.Sqrt(x)
		}
		points = append(points, pt)
	})
	k := min(timing.MaxPersonas, len(points))
	var best []int
	least := math.Inf(1)
	for range 4 { // k-means finds the nearest optimum only: keep the best of a few starts
		centres := make([][day]float64, 0, k)
		far := make([]float64, len(points))
		for i := range far {
			far[i] = 1
		}
		for len(centres) < k { // k-means++: far points are likely centres
			u, at := p.rng.uniform()*sum(far), 0
			for ; at < len(far)-1 && u >= far[at]; at++ {
				u -= far[at]
			}
			centres = append(centres, points[at].at)
			for i := range points {
				d := distance(&points[i].at, &points[at].at)
				if len(centres) == 1 || d < far[i] {
					far[i] = d
				}
			}
		}
		own := make([]int, len(points))
		var total float64
		for range 12 {
			total = 0
			var next [timing.MaxPersonas][day]float64
			var n [timing.MaxPersonas]float64
			for i := range points {
				nearest := math.Inf(1)
				for j := range centres {
					if d := distance(&points[i].at, &centres[j]); d < nearest {
						nearest, own[i] = d, j
					}
				}
				total += nearest
				n[own[i]]++
				for h, x := range points[i].at {
					next[own[i]][h] += x
				}
			}
			for j := range centres {
				if n[j] > 0 {
					scale(next[j][:], 1/n[j])
					centres[j] = next[j]
				}
			}
		}
		if total < least {
			least, best = total, own
		}
	}
	all := newClusters(k)
	for i := range points {
		all.add(best[i], 1, &points[i].m, population)
	}
	p.list = all.personas(population)
}

func distance(a, b *[day]float64) (d float64) {
	for h, x := range a {
		d += (x - b[h]) * (x - b[h])
	}
	return d
}

// step is one step of expectation maximisation.
func (p *personas) step(l *Learner, population *[day]float64) {
	var logs [timing.MaxPersonas][day]float64
	for k := range p.list {
		for h, a := range p.list[k].Attention {
			logs[k][h] = math.Log(a)
		}
	}
	all := newClusters(len(p.list))
	l.members(1, func(i int, m *member) {
		weights := p.belong(m, &logs)
		for k := range p.list {
			all.add(k, weights[k], m, &p.list[k].Attention)
		}
		all.note(&weights, &l.customers[i], l)
	})
	p.list = all.personas(population)
}

// belong is the probability that a customer belongs to each persona.
func (p *personas) belong(m *member, logs *[timing.MaxPersonas][day]float64) (w [timing.MaxPersonas]float64) {
	best := math.Inf(-1)
	for k := range p.list {
		met, l := 0.0, math.Log(p.list[k].Share)
		for h, e := range &m.exposure {
			met += e * p.list[k].Attention[h]
			l += m.engaged[h] * logs[k][h]
		}
		w[k] = l - m.n*math.Log(met)
		best = max(best, w[k])
	}
	total := 0.0
	for k := range p.list {
		w[k] = math.Exp(w[k] - best)
		total += w[k]
	}
	for k := range p.list {
		w[k] /= total
	}
	return w
}

// expect is where engagements fall, given attention and exposure, sum 1.
func expect(attention, exposure *[day]float64) (q [day]float64) {
	for h, e := range exposure {
		q[h] = attention[h] * e
	}
	normalise(q[:], 1)
	return q
}

// clusters gathers what customers say of the personas that they belong to.
type clusters struct {
	k        int
	share    [timing.MaxPersonas]float64
	engaged  [timing.MaxPersonas][day]float64
	exposure [timing.MaxPersonas][day]float64 // engagements there, were every hour like every other
	days     [timing.MaxPersonas][7]float64   // engagements by day of the week
	usual    [timing.MaxPersonas][7]float64   // the same as everybody's
	all      [day]float64                     // exposure of everybody
}

func newClusters(k int) *clusters { return &clusters{k: k} }

// add adds a part of customer m to cluster k, whose attention is believed to be attention.
func (c *clusters) add(k int, part float64, m *member, attention *[day]float64) {
	c.share[k] += part
	w, met := part/(1+m.n/50), 0.0
	for h, e := range &m.exposure {
		met += e * attention[h]
	}
	for h, e := range &m.exposure {
		c.engaged[k][h] += w * m.engaged[h]
		c.exposure[k][h] += w * m.n * e / met
		c.all[h] += w * e
	}
}

// note adds the days of the week, for the names.
func (c *clusters) note(weights *[timing.MaxPersonas]float64, who *customer, l *Learner) {
	var expected [7]float64
	if who.reported {
		for d, n := range who.sentDays {
			for after, part := range l.carry {
				at := (d + after) % 7
				expected[at] += float64(n) * part * l.response.weekday[at]
			}
		}
	} else {
		expected = l.days
	}
	n := 0.0
	for _, x := range who.days {
		n += float64(x)
	}
	w := n / sum(expected[:]) / (1 + n/50)
	for k := range c.k {
		for d, x := range who.days {
			c.days[k][d] += weights[k] * float64(x) / (1 + n/50)
			c.usual[k][d] += weights[k] * expected[d] * w
		}
	}
}

// personas makes them, largest first, each with a name of its own.
func (c *clusters) personas(population *[day]float64) []timing.Persona {
	q := c.all
	normalise(q[:], 1)
	met := 0.0
	for h, e := range &q {
		met += e * population[h]
	}
	list := make([]timing.Persona, c.k)
	order := make([]int, c.k)
	for k := range list {
		order[k] = k
		for h, e := range &q {
			list[k].Attention[h] = (c.engaged[k][h] + lent*population[h]*e/met) / (c.exposure[k][h] + lent*e/met)
		}
		normalise(list[k].Attention[:], day)
		list[k].Share = (c.share[k] + 1) / (sum(c.share[:]) + float64(c.k))
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(list[b].Share, list[a].Share) })
	sorted := make([]timing.Persona, c.k)
	for i, k := range order {
		sorted[i] = list[k]
		sorted[i].Name = name(&sorted[i].Attention, population, weekdayOf(&c.days[k], &c.usual[k]))
	}
	distinguish(sorted, population)
	return sorted
}

var weekdays = [...]string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

// weekdayOf names the days of the week that stand out, beyond chance: "" if none do.
func weekdayOf(engaged, usual *[7]float64) string {
	const much = 1.4
	stands := func(o, e float64) bool { return o > much*e && o-e > 3*math.Sqrt(e) && e > 0 }
	best := 0
	for d := range engaged {
		if usual[d] > 0 && (usual[best] == 0 || engaged[d]/usual[d] > engaged[best]/usual[best]) {
			best = d
		}
	}
	switch {
	case stands(engaged[5]+engaged[6], usual[5]+usual[6]) && stands(engaged[5], usual[5]) && stands(engaged[6], usual[6]):
		return "weekend"
	case stands(engaged[best], usual[best]):
		return weekdays[best]
	}
	return ""
}

// window is the hours of the day, from and to (exclusive, may be less than from), in which attention exceeds everybody's
// most, by how much of all of it, and the middle of them.
func window(attention, population *[day]float64) (from, to int, excess float64, middle int) {
	const longest = 12
	for start := range day {
		s, moment := 0.0, 0.0
		for n := range longest {
			x := (attention[(start+n)%day] - population[(start+n)%day]) / day
			s += x
			moment += float64(n) * x
			if s > excess {
				from, to, excess = start, (start+n+1)%day, s
				middle = (start + int(math.Round(moment/s))) % day
			}
		}
	}
	return from, to, excess, middle
}

// name tells what sets a persona apart.
func name(attention, population *[day]float64, weekday string) string {
	const even = .08 // of all attention: less is no difference that a name should tell
	_, _, excess, middle := window(attention, population)
	part := "all-day"
	if excess >= even {
		switch {
		case middle < 5:
			part = "night"
		case middle < 8:
			part = "early morning"
		case middle < 11:
			part = "morning"
		case middle < 14:
			part = "midday"
		case middle < 17:
			part = "afternoon"
		case middle < 21:
			part = "evening"
		default:
			part = "late evening"
		}
	}
	if weekday != "" {
		part = weekday + " " + part
	}
	return part + " readers"
}

// distinguish adds the hours to names that several personas have, and a number where that does not tell them apart.
func distinguish(list []timing.Persona, population *[day]float64) {
	for pass := range 2 {
		count := map[string]int{}
		for i := range list {
			count[list[i].Name]++
		}
		number := map[string]int{}
		for i := range list {
			n := list[i].Name
			if count[n] < 2 {
				continue
			}
			if pass == 0 {
				from, to, _, _ := window(&list[i].Attention, population)
				list[i].Name = fmt.Sprintf("%s, %d-%d", n, from, (to+day-1)%day+1)
			} else if number[n]++; number[n] > 1 {
				list[i].Name = fmt.Sprintf("%s (%d)", n, number[n])
			}
		}
	}
}

// generator is SplitMix64 (Steele, Lea and Flood, 2014).
type generator uint64

func (g *generator) uniform() float64 {
	*g += 0x9e3779b97f4a7c15
	z := uint64(*g)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11) / (1 << 53)
}
