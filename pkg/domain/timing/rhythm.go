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
	year     int64  // landmark of slow: week, a multiple of 52; meaningless while n is 0
	quarter  int64  // landmark of fast: week, a multiple of 13
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
// Dirichlet posteriors of the smoothed histograms around habits (histogram, weight in Priors.Hours, habits): slow 1 slow,
// slow 2 slow, fast 1 fast, fast 2 fast, fast 1/2 slow, fast 1 slow.
type Prediction struct {
	Hours   [Day]float64          // what is told: the experts behind the guard
	Mixed   [Day]float64          // the experts together
	Experts [Experts][Day]float64 // each
	Outline
}

// Outline is all that a Prediction is drawn from, and all that likelihoods need: the experts are made of a few parts.
type Outline struct {
	Weights    [Experts]float64 // how much each expert counts, sum 1
	Population [Day]float64     // everybody, under this customer's exposure
	Guard      float64          // how much the population counts in Hours

	base, personas, habits [Day]float64 // the first three experts
	habitsFast             [Day]float64 // habits of the fast histogram
	slow, fast             [Day]float64 // smoothed histograms
	step                   [6]float64   // 1/(n+weight) of the Dirichlet posteriors
	hours                  float64      // Priors.Hours
	unexposed              [Day]float64 // 1/exposure
	persona                int          // the likeliest one
	likeness               float64      // its probability
}

// Predict is what m expects of a customer with rhythm r in a week (Hour/Week), given where this customer's mail lets
// engagements fall: exposure, by hour of the day, sum 1, nowhere zero; uniform where nothing is known of sends.
//
// Each expert is an estimate around q, base times exposure. They are mixed by pi*exp(evidence/2), pi being how well each does
// for everybody with as much history. The guard keeps a fiftieth of the bet, at the start, on the population, so that no
// customer is ever predicted worse than by the population by more than log2(50) = 5.64 bits in total (a Bayesian mixture
// never loses more to a part than the part's prior weight).
func (m *Model) Predict(p *Prediction, r *Rhythm, week int64, exposure *[Day]float64) {
	m.outline(&p.Outline, r, week, exposure, m.base(Bucket(int(r.n))))
	p.draw()
}

// outline fills in p, around a base attention.
func (m *Model) outline(p *Outline, r *Rhythm, week int64, exposure, base *[Day]float64) {
	q := &p.base
	var sumQ, sumP float64
	for h, e := range exposure {
		q[h], p.Population[h] = base[h]*e, m.Population[h]*e
		sumQ += q[h]
		sumP += p.Population[h]
		p.unexposed[h] = 1 / e
	}
	sumQ, sumP = 1/sumQ, 1/sumP
	for h := range q {
		q[h] *= sumQ
		p.Population[h] *= sumP
	}
	m.weigh(p, r)
	a := m.Priors.Hours
	p.hours = a
	if r.n == 0 {
		p.slow, p.fast, p.habits, p.habitsFast = [Day]float64{}, [Day]float64{}, *q, *q
		p.step = [6]float64{1 / a, 1 / (2 * a), 1 / a, 1 / (2 * a), 2 / a, 1 / a}
		m.personas(p, 0, exposure)
		return
	}
	ws, wf := decaySlow(week-r.year)/unit, decay(week-r.quarter)/unit
	var slow, fast uint64
	for h := range q {
		s, f := r.slow[h], r.fast[h]
		slow, fast = slow+uint64(s), fast+uint64(f)
		p.slow[h], p.fast[h] = ws*float64(s), wf*float64(f)
	}
	ns, nf := ws*float64(slow), wf*float64(fast)
	p.step = [6]float64{1 / (ns + a), 1 / (ns + 2*a), 1 / (nf + a), 1 / (nf + 2*a), 1 / (nf + a/2), 1 / (nf + a)}
	m.personas(p, ns, exposure)
	m.habits(p, ns, nf)
	smooth(&p.slow)
	smooth(&p.fast)
}

// weigh fills in how much each expert counts, and the guard.
func (m *Model) weigh(p *Outline, r *Rhythm) {
	p.Weights = [Experts]float64{1, 1, 1, 1, 1, 1, 1, 1, 1}
	if len(m.Experts) > 0 {
		p.Weights = m.Experts[Bucket(int(r.n))]
	}
	sum := 0.0
	for e := range p.Weights {
		p.Weights[e] *= exp(r.evidence[e] / tempered)
		sum += p.Weights[e]
	}
	sum = 1 / sum
	for e := range p.Weights {
		p.Weights[e] *= sum
	}
	p.Guard = 1 / (1 + guardOdds*exp(r.guard))
}

// tempered is what evidence is divided by. The experts are all wrong, and much alike: which of them is ahead over the fifty
// engaged hours that evidence remembers is as much luck as merit, and a posterior over wrong models is the better for being
// tempered (Grünwald and van Ommen, Bayesian Analysis 2017).
const tempered = 2

// exp is the exponential of v/nat.
func exp(v int16) float64 {
	if v > 0 {
		return 1 / (coarse[int(v)>>8] * fine[v&255])
	}
	return coarse[-int(v)>>8] * fine[-int(v)&255]
}

// exp(-v/nat), by the upper and the lower byte of v.
var coarse, fine = func() (c [129]float64, f [256]float64) {
	for i := range c {
		c[i] = math.Exp(-256 * float64(i) / nat)
	}
	for i := range f {
		f[i] = math.Exp(-float64(i) / nat)
	}
	return c, f
}()

// ln is the natural logarithm of a positive number to within 1e-12, which is far more than 1/1024 nat asks for and less than
// math.Log costs: by the 128th of its octave, at whose middle the logarithm is known, and the series around it.
func ln(x float64) float64 {
	const mantissa = 1<<52 - 1
	b := math.Float64bits(x)
	part := &octave[b>>45&127]
	r := math.Float64frombits(b&mantissa|1023<<52)*part.inverse - 1
	return (float64(int(b>>52)-1023)*math.Ln2 + part.ln) + r*(1-r*(1./2-r*(1./3-r*(1./4))))
}

var octave = func() (parts [128]struct{ inverse, ln float64 }) {
	for i := range parts {
		middle := 1 + (float64(i)+.5)/128
		parts[i].inverse, parts[i].ln = 1/middle, math.Log(middle)
	}
	return parts
}()

// guardOdds is how much more the experts count than the population, before anything is known of either.
const guardOdds = 49

// posteriors are the Dirichlet posteriors, given smoothed histograms and habits at an hour, or sums of these over hours.
func (p *Outline) posteriors(slow, fast, habitsSlow, habitsFast float64) [6]float64 {
	habitsSlow *= p.hours
	habitsFast *= p.hours
	return [6]float64{
		(slow + habitsSlow) * p.step[0],
		(slow + 2*habitsSlow) * p.step[1],
		(fast + habitsFast) * p.step[2],
		(fast + 2*habitsFast) * p.step[3],
		(fast + habitsSlow/2) * p.step[4],
		(fast + habitsSlow) * p.step[5],
	}
}

// mix is how much each of the parts counts in Mixed: base, personas, habits, habits of the fast histogram, slow, fast.
func (p *Outline) mix() [6]float64 {
	var w [6]float64 // of the posteriors
	for i := range w {
		w[i] = p.Weights[3+i] * p.step[i]
	}
	return [6]float64{
		p.Weights[0], p.Weights[1],
		p.Weights[2] + p.hours*(w[0]+2*w[1]+w[4]/2+w[5]), p.hours * (w[2] + 2*w[3]),
		w[0] + w[1], w[2] + w[3] + w[4] + w[5],
	}
}

// draw fills in the rest of p.
func (p *Prediction) draw() {
	p.Experts[0], p.Experts[1], p.Experts[2] = p.base, p.personas, p.habits
	w, a := p.mix(), p.hours
	s1, s2, f1, f2, f0, f3 := p.step[0], p.step[1], p.step[2], p.step[3], p.step[4], p.step[5]
	for h := range p.Hours {
		s, f, hs, hf := p.slow[h], p.fast[h], p.habits[h], p.habitsFast[h]
		p.Experts[3][h], p.Experts[4][h] = (s+a*hs)*s1, (s+2*a*hs)*s2
		p.Experts[5][h], p.Experts[6][h] = (f+a*hf)*f1, (f+2*a*hf)*f2
		p.Experts[7][h], p.Experts[8][h] = (f+a/2*hs)*f0, (f+a*hs)*f3
		mixed := w[0]*p.base[h] + w[1]*p.personas[h] + w[2]*hs + w[3]*hf + (w[4]*s + w[5]*f)
		p.Mixed[h], p.Hours[h] = mixed, mixed+p.Guard*(p.Population[h]-mixed)
	}
}

// tell is Hours of the Prediction that would be drawn.
func (p *Outline) tell() (hours [Day]float64) {
	w := p.mix()
	for i := range w {
		w[i] *= 1 - p.Guard
	}
	for h := range hours {
		hours[h] = w[0]*p.base[h] + w[1]*p.personas[h] + w[2]*p.habits[h] + w[3]*p.habitsFast[h] + w[4]*p.slow[h] + w[5]*p.fast[h] + p.Guard*p.Population[h]
	}
	return hours
}

// Attention is the attention by hour of the day, mean 1, that p stands for.
func (p *Prediction) Attention() [Day]float64 { return p.attention(&p.Hours) }

// attention is the attention by hour of the day, mean 1, that hours under the customer's exposure stand for.
func (p *Outline) attention(hours *[Day]float64) (phi [Day]float64) {
	sum := 0.0
	for h, x := range hours {
		phi[h] = x * p.unexposed[h]
		sum += phi[h]
	}
	sum = Day / sum
	for h := range phi {
		phi[h] *= sum
	}
	return phi
}

// Likelihoods are the densities of an engagement at hour y of the day: by each expert, by all of them and by the population.
// answer is where answers to the latest message would fall, were every hour like every other; nil where none is known of.
// Then the question is not which hours the customer keeps but when this message is answered: with attention phi, that is
// phi(y) over the mean of phi where the answers may fall (what does not depend on the expert is left out).
func (p *Outline) Likelihoods(y int, answer *[Day]float64) (experts [Experts]float64, mixed, population float64) {
	base, personas, habits := &p.base, &p.personas, &p.habits
	experts[0], experts[1], experts[2], population = base[y], personas[y], habits[y], p.Population[y]
	at := p.posteriors(p.slow[y], p.fast[y], habits[y], p.habitsFast[y])
	copy(experts[3:], at[:])
	for e, l := range &experts {
		mixed += p.Weights[e] * l
	}
	if answer == nil {
		return experts, mixed, population
	}
	// Hours are attention times exposure.
	var met [Experts]float64
	var slow, fast, habitsFast, metPopulation float64
	for h, a := range answer {
		a *= p.unexposed[h]
		met[0] += a * base[h]
		met[1] += a * personas[h]
		met[2] += a * habits[h]
		habitsFast += a * p.habitsFast[h]
		slow += a * p.slow[h]
		fast += a * p.fast[h]
		metPopulation += a * p.Population[h]
	}
	at = p.posteriors(slow, fast, met[2], habitsFast)
	copy(met[3:], at[:])
	own, metMixed := p.unexposed[y], 0.
	for e, x := range &met {
		metMixed += p.Weights[e] * x
		experts[e] *= own / x
	}
	return experts, mixed * own / metMixed, population * own / metPopulation
}

// Learn notes an engaged hour, given what was predicted of it: first how well each expert did, then the hour itself, split
// between h and the nearer neighbour by the minute, so that a habit at the full hour is not torn apart by minutes.
// Engaged hours are to be learned in order of time; answer is as in Likelihoods.
func (r *Rhythm) Learn(p *Outline, h Hour, minute int, answer *[Day]float64) {
	experts, mixed, population := p.Likelihoods(hourOfDay(h), answer)
	var evidence [Experts]float64
	best := math.Inf(-1)
	for e, l := range experts {
		evidence[e] = .98*float64(r.evidence[e]) + nat*ln(l)
		if evidence[e] > best {
			best = evidence[e]
		}
	}
	for e, v := range evidence {
		r.evidence[e] = int16(max(v-best-.5, math.MinInt16)) // rounded, since it is not positive
	}
	// Rounded down: a guard that believes the experts too little keeps its bound, one that believes them too much does not.
	r.guard = int16(min(max(math.Floor(float64(r.guard)+nat*ln(mixed/population)), math.MinInt16), math.MaxInt16))
	r.add(h, minute)
}

func (r *Rhythm) add(h Hour, minute int) {
	w := weekOf(h)
	if r.n == 0 {
		r.year, r.quarter = floorDiv(w, year)*year, floorDiv(w, quarter)*quarter
	}
	r.rebase((w-r.year)/year-1, (w-r.quarter)/quarter-1)
	i, j := max(0, w-r.year), max(0, w-r.quarter)
	own, near := split(h, minute)
	for _, part := range [2]struct {
		h Hour
		k uint64
	}{{h, own}, {near, unit - own}} {
		r.slow[hourOfDay(part.h)] += weigh(part.k, slowWeight[i])
		r.fast[hourOfDay(part.h)] += weigh(part.k, fastWeight[j])
	}
	r.n++
}

// rebase moves the landmarks by so many years and quarters, if by any, which halves the counters as often, so that they stay
// small. An hour that slow has once held it never loses.
func (r *Rhythm) rebase(years, quarters int64) {
	r.year += max(0, years) * year
	r.quarter += max(0, quarters) * quarter
	for range min(years, forgotten) {
		for h, c := range &r.slow {
			r.slow[h] = (c + 1) >> 1
		}
	}
	for range min(quarters, forgotten) {
		for h, c := range &r.fast {
			r.fast[h] = half(c)
		}
	}
}

// forget halves what is known so many times, and drops what was learned of the experts: the habit has moved. The guard is never
// raised by it: what a customer lost against the population stays lost, or the bound would hold between two moves only.
func (r *Rhythm) forget(times int) {
	for i := range r.slow {
		r.slow[i] >>= times
		r.fast[i] >>= times
	}
	r.evidence, r.guard = [Experts]int16{}, min(r.guard, 0)
}

// merge adds o. Neither's experts and guard say anything of both together, but for what was lost.
func (r *Rhythm) merge(o Rhythm) {
	switch {
	case o.n == 0:
	case r.n == 0:
		r.year, r.quarter = o.year, o.quarter
	default:
		r.rebase((o.year-r.year)/year, (o.quarter-r.quarter)/quarter)
		o.rebase((r.year-o.year)/year, (r.quarter-o.quarter)/quarter)
	}
	for i := range r.slow {
		r.slow[i] += o.slow[i]
		r.fast[i] += o.fast[i]
	}
	r.n += o.n
	r.evidence, r.guard = [Experts]int16{}, min(r.guard, o.guard, 0)
}

// base is the attention of customers with so much history.
func (m *Model) base(bucket int) *[Day]float64 {
	if len(m.Bases) > 0 {
		return &m.Bases[bucket]
	}
	return &m.Population
}

// habits bends the base along the directions in which customers are known to differ, as far as so many engagements can be
// believed: once for each histogram (ns and nf engagements).
func (m *Model) habits(p *Outline, ns, nf float64) {
	q := &p.base
	var offSlow, offFast [Day]float64 // from what is expected
	for h, x := range q {
		offSlow[h], offFast[h] = p.slow[h]-ns*x, p.fast[h]-nf*x
	}
	var zs, zf [MaxHabits]float64
	for i := range m.Habits {
		u := &m.Habits[i].Hours
		var s0, s1, f0, f1 float64 // two sums each, so that one addition need not wait for the other
		for h := 0; h < Day-1; h += 2 {
			s0 += offSlow[h] * u[h]
			s1 += offSlow[h+1] * u[h+1]
			f0 += offFast[h] * u[h]
			f1 += offFast[h+1] * u[h+1]
		}
		l := m.Habits[i].Correlation
		zs[i], zf[i] = (s0+s1)*believed(ns, l), (f0+f1)*believed(nf, l)
	}
	const least = .15
	var sumSlow, sumFast float64
	for h, x := range q {
		u := &m.directions[h]
		s := 1 + zs[0]*u[0] + zs[1]*u[1] + zs[2]*u[2] + zs[3]*u[3]
		f := 1 + zf[0]*u[0] + zf[1]*u[1] + zf[2]*u[2] + zf[3]*u[3]
		if len(m.Habits) > 4 {
			s += zs[4]*u[4] + zs[5]*u[5] + zs[6]*u[6] + zs[7]*u[7]
			f += zf[4]*u[4] + zf[5]*u[5] + zf[6]*u[6] + zf[7]*u[7]
		}
		if s < least {
			s = least
		}
		if f < least {
			f = least
		}
		s *= x
		f *= x
		p.habits[h], p.habitsFast[h] = s, f
		sumSlow += s
		sumFast += f
	}
	sumSlow, sumFast = 1/sumSlow, 1/sumFast
	for h := range q {
		p.habits[h] *= sumSlow
		p.habitsFast[h] *= sumFast
	}
}

// believed is how far each of n engagements tells a customer from others, where two of them have that correlation
// (Spearman-Brown, over n).
func believed(n, correlation float64) float64 {
	return correlation / max(1, 1+(n-1)*correlation)
}

// personas mixes the personas, by how well each explains the slow histogram (n engagements, not smoothed yet), into the
// second expert; where the model has none, that is the first.
func (m *Model) personas(p *Outline, n float64, exposure *[Day]float64) {
	out := &p.personas
	if len(m.Personas) == 0 {
		*out, p.persona, p.likeness = p.base, 0, 0
		return
	}
	var weight, mass [MaxPersonas]float64
	best := math.Inf(-1)
	for k := range m.Personas {
		a, logs := &m.Personas[k].Attention, &m.logPersonas[k]
		var met, l float64
		for h, e := range exposure {
			met += a[h] * e
			l += p.slow[h] * logs[h]
		}
		mass[k] = met
		weight[k] = m.logShares[k]
		if n > 0 {
			weight[k] += l - n*math.Log(met)
		}
		if weight[k] > best {
			best, p.persona = weight[k], k
		}
	}
	sum := 0.0
	for k := range m.Personas {
		weight[k] = math.Exp(weight[k] - best)
		sum += weight[k]
	}
	p.likeness = 1 / sum
	*out = [Day]float64{}
	for k := range m.Personas {
		w := weight[k] / (sum * mass[k])
		if w < 1e-12 {
			continue
		}
		for h, a := range &m.Personas[k].Attention {
			out[h] += w * a
		}
	}
	for h, e := range exposure {
		out[h] *= e
	}
}
