package timing

import "testing"

func BenchmarkPredict(b *testing.B) {
	m := Builtin()
	var r Rhythm
	for i := range int64(40) {
		r.add(simStart+i*31, 20)
	}
	u := uniform()
	var p Prediction
	b.Run("predict", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Predict(&p, &r, simStart/Week+9, &u)
		}
	})
	answer := u
	b.Run("likelihoods", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Likelihoods(9, &answer)
		}
	})
	b.Run("learn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q := r
			q.Learn(&p, simStart+2000, 20, &answer)
		}
	})
}

func uniform() (p [Day]float64) {
	for h := range p {
		p[h] = 1. / Day
	}
	return p
}
