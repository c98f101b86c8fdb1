package board

import (
	"math"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// Point is a value with its 95 % interval.
type Point struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Known bool    `json:"known"`
}

// Figure is one figure over the last Days days: each point is the seven days that end with it.
type Figure struct {
	Points [Days]Point
	Mean   float64 // of the known points
}

// Last is the figure as it stands.
func (f *Figure) Last() Point { return f.Points[Days-1] }

// Figures are the three of the page.
type Figures struct {
	Optimal   Figure  // share of engagements that answer a send whose hour scored 80 or more for the customer
	Response  Figure  // median seconds between delivery and reaction
	Deviation Figure  // of the daily engaged hours per 1,000 delivered, over eight 3-hour bands
	Mean      float64 // seconds between delivery and reaction, over the last seven days; 0: not known
	Today     int64   // local day of the last point, in days since 1970-01-05
}

const z95 = 1.959964

// Figures computes the three figures of all customers.
func (b *Board) Figures() Figures {
	now, _ := calendar.LocalHour(b.clock, b.zone)
	today := floorDiv(now, 24)
	f := Figures{Today: today}
	if b.clock.IsZero() {
		return f
	}
	for i := range Days {
		last := today - int64(Days-1-i)
		var optimal, engagements uint64
		var responses []uint64
		var bands [8]float64
		delivered := 0.0
		var seconds, answers uint64
		for n := last - 6; n <= last; n++ {
			if d := &b.days[uint64(n)%maxDays]; d.day == n {
				optimal += d.optimal
				engagements += d.engagements
				seconds += d.seconds
				answers += d.answers
				for len(responses) < len(d.responses) {
					responses = append(responses, 0)
				}
				for j, v := range d.responses {
					responses[j] += v
				}
			}
			for h := n * 24; h < n*24+24; h++ {
				for _, k := range b.keys {
					if s := &b.series[k][uint64(h)%hours]; s.hour == h {
						delivered += s.delivered
						bands[(h-n*24)/3] += s.engaged
					}
				}
			}
		}
		f.Optimal.Points[i] = share(optimal, engagements)
		f.Response.Points[i] = median(responses)
		f.Deviation.Points[i] = spread(bands, delivered)
		if answers > 0 {
			f.Mean = float64(seconds) / float64(answers)
		}
	}
	for _, g := range []*Figure{&f.Optimal, &f.Response, &f.Deviation} {
		n := 0.0
		for _, p := range g.Points {
			if p.Known {
				g.Mean += p.Value
				n++
			}
		}
		if n > 0 {
			g.Mean /= n
		}
	}
	return f
}

// share is k of n with the interval of Wilson (JASA 22, 1927).
func share(k, n uint64) Point {
	if n == 0 {
		return Point{}
	}
	p, m := float64(k)/float64(n), float64(n)
	mid := (p + z95*z95/(2*m)) / (1 + z95*z95/m)
	half := z95 / (1 + z95*z95/m) * math.Sqrt(p*(1-p)/m+z95*z95/(4*m*m))
	return Point{Value: p, Low: max(0, mid-half), High: min(1, mid+half), Known: true}
}

// median reads the median off the histogram, with the distribution-free interval of its order statistics (ranks
// n/2 +- 1.96 sqrt(n)/2), log-linear within a bin.
func median(bins []uint64) Point {
	var n uint64
	for _, v := range bins {
		n += v
	}
	if n < 5 {
		return Point{}
	}
	m, half := float64(n)/2, z95*math.Sqrt(float64(n))/2
	return Point{Value: quantile(bins, m), Low: quantile(bins, max(0, m-half)), High: quantile(bins, min(float64(n), m+half)), Known: true}
}

// quantile is the response time in seconds below which rank answers lie.
func quantile(bins []uint64, rank float64) float64 {
	sum := 0.0
	for i, v := range bins {
		if v > 0 && sum+float64(v) >= rank {
			low, high := timing.ResponseBounds(i)
			if math.IsInf(high, 1) {
				return low
			}
			return math.Exp(math.Log(max(low, 1)) + (math.Log(high)-math.Log(max(low, 1)))*(rank-sum)/float64(v))
		}
		sum += float64(v)
	}
	return math.NaN()
}

// spread is the standard deviation over the bands of engaged hours per 1,000 delivered; its variance by the delta method,
// with each band a Poisson count.
func spread(bands [8]float64, delivered float64) Point {
	mean := 0.0
	for i := range bands {
		mean += bands[i] / 8
	}
	if delivered <= 0 || mean == 0 {
		return Point{}
	}
	per := 1000 / delivered
	var s2 float64
	for _, v := range bands {
		s2 += (v - mean) * (v - mean) / 8
	}
	s := math.Sqrt(s2)
	if s == 0 {
		return Point{Known: true}
	}
	var variance float64
	for _, v := range bands {
		g := (v - mean) / (8 * s)
		variance += g * g * v
	}
	half := z95 * math.Sqrt(variance) * per
	return Point{Value: s * per, Low: max(0, s*per-half), High: s*per + half, Known: true}
}
