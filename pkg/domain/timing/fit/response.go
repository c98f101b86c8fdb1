package fit

import (
	"math"
	"math/bits"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// response is when everybody answers: the kernel and the days of the week, as engagements over those that deliveries and the
// attention by hour of the day would explain. Both fade with a half-life of 13 weeks, like what is known of customers.
//
// Which message an engagement answers is mostly not known. It is shared out among the deliveries of the Response hours
// before it, as the kernel of the day has it: one step of expectation maximisation a day (Dempster, Laird and Rubin, 1977).
type response struct {
	from    *timing.Model
	kernel  [timing.Response]float64
	folded  [day]float64             // kernel by hours of the day
	answers [timing.Response]float64 // engagements by hours since the delivery
	sent    [timing.Week]float64     // deliveries
	engaged [7]float64               // engagements by day of the week
	weekday [7]float64
	closed  int64 // latest day that was closed
	begun   bool  // whether one was
	fixed   bool  // whether the kernel is to stay as it is
}

const (
	kernelWeight  = 50 // answers by the kernel that it was started from
	weekdayWeight = 50 // engagements by the days that it was started from
)

func (r *response) start(from *timing.Model) {
	r.from, r.kernel, r.weekday = from, from.Kernel, from.Weekdays
	r.fold()
}

func (r *response) fold() {
	r.folded = [day]float64{}
	for a, k := range r.kernel {
		r.folded[a%day] += k
	}
}

func (r *response) delivered(h timing.Hour) { r.sent[timing.HourOfWeek(h)]++ }

// note adds an engagement in hour h of a customer with recent deliveries.
func (r *response) note(h timing.Hour, recent recent) {
	r.engaged[mod(dayOf(h), 7)]++
	total := 0.0
	recent.ages(h, func(a int) { total += r.kernel[a] })
	recent.ages(h, func(a int) { r.answers[a] += r.kernel[a] / total })
}

// close refits, given the attention by hour of the day.
func (r *response) close(day int64, attention *[timing.Day]float64) {
	if r.begun {
		keep := math.Exp2(-float64(max(0, day-r.closed)) / 91)
		scale(r.answers[:], keep)
		scale(r.sent[:], keep)
		scale(r.engaged[:], keep)
	}
	r.begun, r.closed = true, day
	r.refit(attention)
	r.weekday = r.weekdays(attention)
}

// refit makes the kernel, given the attention by hour of the day.
func (r *response) refit(attention *[day]float64) {
	if r.fixed || sum(r.answers[:]) == 0 || sum(r.sent[:]) == 0 {
		return
	}
	var risk [timing.Response]float64 // attention that the deliveries met at that age
	for how, d := range r.sent {
		for a := range risk {
			risk[a] += d * attention[(how+a)%day]
		}
	}
	r.kernel = ratio(&r.answers, &risk, &r.from.Kernel, kernelWeight)
	r.fold()
}

// ratio is the kernel that explains answers, given what was at risk of them, shrunk to prior.
func ratio(answers, risk, prior *[timing.Response]float64, weight float64) (k [timing.Response]float64) {
	n, mean := sum(answers[:]), sum(risk[:])/timing.Response
	for a := range k {
		k[a] = (answers[a] + weight*prior[a]) / (n*risk[a]/mean + weight)
	}
	normalise(k[:], 1)
	return k
}

// weekdays is the attention by day of the week, mean 1. Where no deliveries are known, every day is as exposed as every
// other.
func (r *response) weekdays(attention *[day]float64) (w [7]float64) {
	var exposed [7]float64
	for how, d := range r.sent {
		if d == 0 {
			continue
		}
		for a, k := range r.kernel {
			at := (how + a) % timing.Week
			exposed[at/day] += d * k * attention[at%day]
		}
	}
	total, n := sum(exposed[:]), sum(r.engaged[:])
	met := 0.0
	for d := range exposed {
		if total == 0 {
			exposed[d] = 1. / 7
		} else {
			exposed[d] /= total
		}
		met += exposed[d] * r.from.Weekdays[d]
	}
	for d, e := range exposed {
		prior := r.from.Weekdays[d]
		if e == 0 {
			w[d] = prior
			continue
		}
		w[d] = (r.engaged[d] + weekdayWeight*e*prior/met) / (n*e + weekdayWeight*e)
	}
	normalise(w[:], 7)
	return w
}

// deliveries are the shares of deliveries by hour of the day and day of the week; even where none are known, since what is
// then called attention holds whatever exposure there was.
func (r *response) deliveries(d timing.Deliveries) timing.Deliveries {
	total := sum(r.sent[:])
	d.Hours, d.Days = [day]float64{}, [7]float64{}
	for how, n := range r.sent {
		if total == 0 {
			n = 1
		}
		d.Hours[how%day] += n
		d.Days[how/day] += n
	}
	normalise(d.Hours[:], 1)
	normalise(d.Days[:], 1)
	return d
}

// recent is the delivery hours of one customer in the Response hours up to the latest: bit a is the one a hours before it.
type recent struct {
	latest timing.Hour
	hours  [2]uint64
}

func (r *recent) add(h timing.Hour) {
	switch ago := r.latest - h; {
	case *r == recent{} || ago <= -128:
		*r = recent{h, [2]uint64{1}}
	case ago <= 0:
		n := uint(-ago)
		if n >= 64 {
			r.hours = [2]uint64{0, r.hours[0] << (n - 64)}
		} else if n > 0 {
			r.hours[1] = r.hours[1]<<n | r.hours[0]>>(64-n)
			r.hours[0] <<= n
		}
		r.latest, r.hours[0] = h, r.hours[0]|1
	case ago < 128: // told late
		r.hours[ago>>6] |= 1 << (ago & 63)
	}
}

// ages calls each with the age of every delivery that an engagement in hour h may answer.
func (r *recent) ages(h timing.Hour, each func(age int)) {
	if *r == (recent{}) {
		return
	}
	// Bit i stands for age i+since.
	since := int(h - r.latest)
	if since >= timing.Response || since <= -len(r.hours)*64 {
		return
	}
	for i, word := range r.hours {
		for ; word != 0; word &= word - 1 {
			if a := i*64 + bits.TrailingZeros64(word) + since; a >= 0 && a < timing.Response {
				each(a)
			}
		}
	}
}
