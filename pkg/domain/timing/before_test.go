package timing

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// What a State remembers of its last view changes no view: whatever happens, out of order and late, under another model and
// with days that turn out to have been without a feed, a view is that of the same profile read anew.
func TestWhatIsRememberedChangesNoView(t *testing.T) {
	other := *Builtin()
	other.Priors.Hours *= 2
	models := []*Model{Builtin(), &other}
	remembered, used := 0, 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w := &World{Model: models[0]}
		var p Profile
		c := p.Channel("email")
		now := Hour(simStart)
		for range 1500 {
			now += rng.Int64N(4) * rng.Int64N(3)
			h := now
			if rng.IntN(8) == 0 {
				h -= rng.Int64N(80)
			}
			var kept *before
			if c.before != nil {
				b := *c.before
				kept = &b
			}
			switch rng.IntN(60) {
			case 0:
				w.Model = models[rng.IntN(2)]
			case 1:
				w.Gaps.Add(dayOf(now) - rng.Int64N(3))
			case 2:
				var q Profile
				o := q.Channel("email")
				o.Engaged(w, h, 5)
				c.Merge(w, o.State)
			}
			if rng.IntN(3) == 0 {
				c.Delivered(w, h)
			} else {
				c.Engaged(w, h, rng.IntN(60))
			}
			var fresh Profile
			if err := fresh.Decode(p.Append(nil)); err != nil {
				t.Fatal(err)
			}
			for _, without := range []int64{dayOf(c.head), dayOf(h), Everything} {
				var got, want View
				w.Derive(&got, &p, "email", now, without)
				w.Derive(&want, &fresh, "email", now, without)
				fresh.Channels[0].before = nil
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d, hour %d, without %d: a view is another one than that of the profile read anew", seed, now, without)
				}
			}
			if c.before != nil {
				remembered++
				if kept != nil && kept.hot == c.before.hot {
					used++
				}
			}
		}
	}
	if remembered == 0 || used == 0 {
		t.Errorf("remembered %d times, used %d times: nothing was tested", remembered, used)
	}
	t.Logf("remembered at %d moments, still good at %d", remembered, used)
}

// A copy of a profile shares no memory with it: both go their own way, with as many engaged hours but others.
func TestCopiesDoNotShareWhatIsRemembered(t *testing.T) {
	w := &World{Model: Builtin()}
	var p Profile
	c := p.Channel("email")
	start := Hour(simStart)
	for h := start; h < start+20*Day; h += 5 {
		c.Engaged(w, h, 30)
	}
	now := c.head
	var v View
	w.Derive(&v, &p, "email", now, dayOf(now))
	q := p
	q.Channels = slices.Clone(p.Channels)
	late := now - 4*Day
	for i, each := range []*Profile{&p, &q} {
		h := late + Hour(i)*3
		for each.Channels[0].engaged.has(h) {
			h++
		}
		each.Channels[0].Engaged(w, h, 30)
	}
	if p.Channels[0].before == nil || p.Channels[0].n != q.Channels[0].n {
		t.Fatal("nothing is remembered, or the two differ in what it is known by: nothing is tested")
	}
	for _, each := range []*Profile{&p, &q} {
		var fresh Profile
		if err := fresh.Decode(each.Append(nil)); err != nil {
			t.Fatal(err)
		}
		var got, want View
		w.Derive(&got, each, "email", now, dayOf(now))
		w.Derive(&want, &fresh, "email", now, dayOf(now))
		if !reflect.DeepEqual(got, want) {
			t.Error("a view of a copy is another one than that of the profile read anew")
		}
	}
}
