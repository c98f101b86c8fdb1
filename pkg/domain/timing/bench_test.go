package timing

import (
	"slices"
	"testing"
)

// The bars: update 1 us and at most one allocation, derive 5 us, scores of a week 15 us, each test 1 us, predict 3 us.

// long is a resident of many years: what the benchmarks go through.
func long() (events []happening, m *Model) {
	tw := newTown(3)
	r := tw.resident()
	return tw.live(&r, simStart, 200*7, always), tw.model
}

// note notes the i-th event of a life that repeats for ever.
func note(w *World, c *Channel, events []happening, i int) {
	e := events[i%len(events)]
	e.hour += int64(i/len(events)) * 200 * Week
	if e.engaged {
		c.Engaged(w, e.hour, e.minute)
	} else {
		c.Delivered(w, e.hour)
	}
}

func BenchmarkUpdate(b *testing.B) {
	events, m := long()
	w := &World{Model: m}
	var p Profile
	c := p.Channel("email")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		note(w, c, events, i)
	}
}

func BenchmarkEncodeDecode(b *testing.B) {
	events, m := long()
	w := &World{Model: m}
	var p Profile
	c := p.Channel("email")
	for i := range events {
		note(w, c, events, i)
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = p.Append(buf[:0])
		if err := p.Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncode is over all the moments of a life, so that no branch is foreseen for knowing the profile.
func BenchmarkEncode(b *testing.B) {
	events, m := long()
	w := &World{Model: m}
	var p Profile
	c := p.Channel("email")
	moments := make([]Profile, len(events))
	for i := range events {
		note(w, c, events, i)
		moments[i] = p
		moments[i].Channels = slices.Clone(p.Channels)
	}
	var buf []byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		buf = moments[i*7919%len(moments)].Append(buf[:0])
	}
}

// BenchmarkRead is over all the moments of a life, in which more or less is not settled yet.
func BenchmarkRead(b *testing.B) {
	events, m := long()
	w := &World{Model: m}
	var p Profile
	c := p.Channel("email")
	moments := make([]Profile, len(events))
	for i := range events {
		note(w, c, events, i)
		moments[i].Decode(p.Append(nil))
	}
	var v View
	each := func(name string, read func(p *Profile, c *Channel)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := &moments[i%len(moments)]
				read(p, &p.Channels[0])
			}
		})
	}
	each("derive", func(p *Profile, c *Channel) { w.Derive(&v, p, "email", c.head, dayOf(c.head)) })
	each("view with scores of a week", func(p *Profile, c *Channel) { v = p.View(m, "email", c.head) })
	m.Derive(&v, &p, "email", c.head, dayOf(c.head))
	each("burst", func(_ *Profile, c *Channel) { m.Burst(&c.State, &v, dayOf(c.head)) })
	each("timing", func(_ *Profile, c *Channel) { m.Timing(&c.State, &v, c.head) })
}

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
	b.Run("learn", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q := r
			q.Learn(&p.Outline, simStart+2000, 20, &u)
		}
	})
}

func uniform() (p [Day]float64) {
	for h := range p {
		p[h] = 1. / Day
	}
	return p
}
