package timing

import "math"

// Sizes of the predictor of hours.
const (
	Buckets = 12 // of engaged hours known, see Bucket
	Experts = 9  // ways to guess a customer's hours, see Prediction
)

// Rhythm is which hours of the day one customer keeps: two histograms of engaged hours with forward decay, half-lives 52 and
// 13 weeks, and how well each expert and the whole have done for this customer so far. The zero value knows nothing.
//
// It is order-free but for evidence and guard, which are learned in the order in which engaged hours are.
type Rhythm struct {
	n        uint32 // engaged hours, without decay
	landmark int64  // week, a multiple of landmarkStep; meaningless while n is 0
	slow     [Day]uint32
	fast     [Day]uint32
	evidence [Experts]int16 // log-likelihood by expert, decayed by .98 at each engaged hour, the best one 0; 1/1024 nat
	guard    int16          // log-likelihood of the experts together against the population's; 1/1024 nat
}

const nat = 1024

// N is the number of engaged hours learned, without decay.
func (r *Rhythm) N() int { return int(r.n) }

// Bucket is the place of n engaged hours among the edges 1 2 3 5 8 12 20 35 60 100 250.
func Bucket(n int) int {
	for i, edge := range [...]int{1, 2, 3, 5, 8, 12, 20, 35, 60, 100, 250} {
		if n < edge {
			return i
		}
	}
	return Buckets - 1
}

// Prediction is where the next engaged hour of a customer is expected, by hour of the day. Every distribution adds up to 1.
//
// The experts, in order: what everybody with as much history does; the personas; habits of the slow histogram; and six
// Dirichlet posteriors of the smoothed histograms around habits (histogram, weight, habits): slow 16 slow, slow 32 slow,
// fast 16 fast, fast 32 fast, fast 8 slow, fast 16 slow.
type Prediction struct {
	Hours      [Day]float64          // what is told: the experts behind the guard
	Mixed      [Day]float64          // the experts together
	Experts    [Experts][Day]float64 // each
	Weights    [Experts]float64      // how much each counts, sum 1
	Population [Day]float64          // everybody, under this customer's exposure
	Guard      float64               // how much the population counts in Hours

	base *[Day]float64 // attention that Experts[0] stands on
}

// Predict is what m expects of a customer with rhythm r in a week (Hour/Week), given where this customer's mail lets
// engagements fall: exposure, by hour of the day, sum 1, nowhere zero; uniform where nothing is known of sends.
//
// Each expert is an estimate around q, base times exposure. They are mixed by pi*exp(evidence), pi being how well each does
// for everybody with as much history. The guard keeps a fiftieth of the bet, at the start, on the population, so that no
// customer is ever predicted worse than by the population by more than log2(50) = 5.64 bits in total (a Bayesian mixture
// never loses more to a part than the part's prior weight).
func (m *Model) Predict(p *Prediction, r *Rhythm, week int64, exposure *[Day]float64) {
	bucket := Bucket(int(r.n))
	p.base = m.base(bucket)
	q := &p.Experts[0]
	for h, e := range exposure {
		q[h] = p.base[h] * e
		p.Population[h] = m.Population[h] * e
	}
	normalise(q[:], 1)
	normalise(p.Population[:], 1)

	var slow, fast [Day]float64
	var ns, nf float64
	if r.n > 0 {
		age := float64(week - r.landmark)
		ws, wf := exp2(-age/52)/unit, decay(week-r.landmark)/unit
		for h := range slow {
			slow[h], fast[h] = ws*float64(r.slow[h]), wf*float64(r.fast[h])
			ns += slow[h]
			nf += fast[h]
		}
	}
	m.personas(&p.Experts[1], &slow, ns, q, exposure)
	var habitsFast [Day]float64
	habitsSlow := &p.Experts[2]
	m.habits(habitsSlow, &slow, ns, q)
	m.habits(&habitsFast, &fast, nf, q)
	smooth(&slow)
	smooth(&fast)
	for h := range q {
		s, f, hs, hf := slow[h], fast[h], habitsSlow[h], habitsFast[h]
		p.Experts[3][h] = (s + 16*hs) / (ns + 16)
		p.Experts[4][h] = (s + 32*hs) / (ns + 32)
		p.Experts[5][h] = (f + 16*hf) / (nf + 16)
		p.Experts[6][h] = (f + 32*hf) / (nf + 32)
		p.Experts[7][h] = (f + 8*hs) / (nf + 8)
		p.Experts[8][h] = (f + 16*hs) / (nf + 16)
	}

	sum := 0.0
	for e := range p.Weights {
		w := 1.
		if len(m.Experts) > 0 {
			w = m.Experts[bucket][e]
		}
		if r.evidence[e] != 0 {
			w *= math.Exp(float64(r.evidence[e]) / nat)
		}
		p.Weights[e] = w
		sum += w
	}
	p.Mixed = [Day]float64{}
	for e := range p.Weights {
		p.Weights[e] /= sum
		w := p.Weights[e]
		for h, x := range &p.Experts[e] {
			p.Mixed[h] += w * x
		}
	}
	p.Guard = 1 / (1 + 49*math.Exp(float64(r.guard)/nat))
	for h, x := range &p.Mixed {
		p.Hours[h] = (1-p.Guard)*x + p.Guard*p.Population[h]
	}
}

// Attention is the attention by hour of the day, mean 1, that p stands for.
func (p *Prediction) Attention() (phi [Day]float64) {
	for h := range phi {
		phi[h] = p.base[h] * p.Hours[h] / p.Experts[0][h]
	}
	normalise(phi[:], Day)
	return phi
}

// Likelihoods are the densities of an engagement at hour y of the day: by each expert, by all of them and by the population.
// answer is where answers to the latest message would fall, were every hour like every other; nil where none is known of.
// Then the question is not which hours the customer keeps but when this message is answered: with attention phi, that is
// phi(y) over the mean of phi where the answers may fall (what does not depend on the expert is left out).
func (p *Prediction) Likelihoods(y int, answer *[Day]float64) (experts [Experts]float64, mixed, population float64) {
	for e := range p.Experts {
		experts[e] = p.likelihood(&p.Experts[e], y, answer)
	}
	return experts, p.likelihood(&p.Mixed, y, answer), p.likelihood(&p.Population, y, answer)
}

func (p *Prediction) likelihood(hours *[Day]float64, y int, answer *[Day]float64) float64 {
	if answer == nil {
		return hours[y]
	}
	// Hours are attention times exposure, and exposure is Experts[0] over base.
	met := 0.0
	for h, a := range answer {
		met += a * hours[h] * p.base[h] / p.Experts[0][h]
	}
	return hours[y] * p.base[y] / p.Experts[0][y] / met
}

// Learn notes an engaged hour, given what was predicted of it: first how well each expert did, then the hour itself, split
// between h and the nearer neighbour by the minute, so that a habit at the full hour is not torn apart by minutes.
// Engaged hours are to be learned in order of time; answer is as in Likelihoods.
func (r *Rhythm) Learn(p *Prediction, h Hour, minute int, answer *[Day]float64) {
	experts, mixed, population := p.Likelihoods(hourOfDay(h), answer)
	var evidence [Experts]float64
	best := math.Inf(-1)
	for e, l := range experts {
		evidence[e] = .98*float64(r.evidence[e]) + nat*math.Log(l)
		best = max(best, evidence[e])
	}
	for e, v := range evidence {
		r.evidence[e] = int16(max(math.Round(v-best), math.MinInt16))
	}
	r.guard = int16(min(max(math.Round(float64(r.guard)+nat*math.Log(mixed/population)), math.MinInt16), math.MaxInt16))
	r.add(h, minute)
}

func (r *Rhythm) add(h Hour, minute int) {
	w := weekOf(h)
	if r.n == 0 {
		r.landmark = floorDiv(w, landmarkStep) * landmarkStep
	}
	for w-r.landmark >= landmarkMax {
		r.rebase()
	}
	i := max(0, w-r.landmark)
	own, near := split(h, minute)
	for _, part := range [2]struct {
		h Hour
		k uint64
	}{{h, own}, {near, unit - own}} {
		r.slow[hourOfDay(part.h)] += weigh(part.k, slowWeight[i])
		r.fast[hourOfDay(part.h)] += weigh(part.k, fastWeight[i])
	}
	r.n++
}

// rebase moves the landmark by a year, which divides the counters by exact powers of two.
func (r *Rhythm) rebase() {
	r.landmark += landmarkStep
	for i := range r.slow {
		r.slow[i] = (r.slow[i] + 1) >> 1
		r.fast[i] = (r.fast[i] + 8) >> 4
	}
}

// forget halves what is known, and what was learned of the experts: the habit has moved.
func (r *Rhythm) forget() {
	for i := range r.slow {
		r.slow[i] >>= 1
		r.fast[i] >>= 1
	}
	r.evidence, r.guard = [Experts]int16{}, 0
}

// merge adds o, whose landmark must be the same.
func (r *Rhythm) merge(o *Rhythm) {
	for i := range r.slow {
		r.slow[i] += o.slow[i]
		r.fast[i] += o.fast[i]
	}
	r.n += o.n
	r.evidence, r.guard = [Experts]int16{}, 0
}

// base is the attention of customers with so much history.
func (m *Model) base(bucket int) *[Day]float64 {
	if len(m.Bases) > 0 {
		return &m.Bases[bucket]
	}
	return &m.Population
}

// habits bends q along the directions in which customers are known to differ, as far as n engagements c can be believed.
func (m *Model) habits(p *[Day]float64, c *[Day]float64, n float64, q *[Day]float64) {
	if n == 0 {
		*p = *q
		return
	}
	bend := [Day]float64{}
	for i := range m.Habits {
		u := &m.Habits[i]
		z := 0.0
		for h, x := range &u.Hours {
			z += (c[h]/n - q[h]) * x
		}
		r := n * u.Correlation
		if n > 1 {
			r /= 1 + (n-1)*u.Correlation
		}
		z *= r
		for h, x := range &u.Hours {
			bend[h] += z * x
		}
	}
	for h := range p {
		p[h] = q[h] * max(.15, 1+bend[h])
	}
	normalise(p[:], 1)
}

// personas mixes the personas by how well each explains the engagements c (n of them).
func (m *Model) personas(p *[Day]float64, c *[Day]float64, n float64, q, exposure *[Day]float64) {
	if len(m.Personas) == 0 {
		*p = *q
		return
	}
	var weight, mass [MaxPersonas]float64
	best := math.Inf(-1)
	for k := range m.Personas {
		a, logs := &m.Personas[k].Attention, &m.logPersonas[k]
		met, l := 0.0, m.logShares[k]
		for h, e := range exposure {
			met += a[h] * e
			l += c[h] * logs[h]
		}
		mass[k] = met
		weight[k] = l - n*math.Log(met)
		best = max(best, weight[k])
	}
	sum := 0.0
	for k := range m.Personas {
		weight[k] = math.Exp(weight[k] - best)
		sum += weight[k]
	}
	*p = [Day]float64{}
	for k := range m.Personas {
		w := weight[k] / sum / mass[k]
		for h, a := range &m.Personas[k].Attention {
			p[h] += w * a * exposure[h]
		}
	}
}
