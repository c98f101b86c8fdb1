package profiler

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

// When customers move, what was counted is counted once, whatever the numbers of partitions; what is known of the feed each new
// partition knows for its share; and what is stored of it can be read.
func TestResettle(t *testing.T) {
	var old []Partition
	for n := range 3 {
		d := driver(t, Config{ScoredBelow: .1})
		rng, at := rand.New(rand.NewPCG(1, uint64(n))), time.Duration(n)*time.Minute
		for i := range 1500 {
			at += time.Duration(rng.ExpFloat64() * float64(40*time.Minute))
			e := event(engagement.Delivered, fmt.Sprint("c-", n, "-", rng.IntN(40)), fmt.Sprint("m-", rng.IntN(9)), at-time.Duration(rng.IntN(50))*time.Hour)
			if i%2 == 0 {
				e.Kind = engagement.Open
			}
			e.Channel = []string{"email", "sms"}[rng.IntN(2)]
			pipe(d, e)
		}
		p := *d.Partition()
		p.world.Gaps.Add(p.clock/86400 - int64(n))
		old = append(old, p)
	}
	old = append(old, Partition{}) // of which no customer was ever heard
	type sums struct {
		totals                       Totals
		delivered, engaged           uint64
		flat, own                    uint64
		tails, acts, response, every uint64
	}
	count := func(all []Partition) (s sums) {
		for i := range all {
			p := &all[i]
			s.totals.Add(p.totals)
			for k := range p.tallies {
				x := &p.tallies[k]
				for _, c := range x.cells {
					s.delivered += uint64(c.delivered)
					s.engaged += uint64(c.engaged)
					s.flat += c.flat
					s.own += c.own
				}
				for _, w := range x.waiting {
					s.flat += w.flat
					s.own += w.own
				}
			}
			for kind := range p.tails {
				for stratum := range p.tails[kind] {
					for _, n := range p.tails[kind][stratum] {
						s.tails += uint64(n)
					}
				}
			}
			for stratum := range p.acts {
				for _, n := range p.acts[stratum] {
					s.acts += uint64(n)
				}
			}
			for _, n := range p.response {
				s.response += uint64(n)
			}
			s.every += p.active + p.everybody + p.responses + p.seconds + p.optimal + p.engagements + p.events.Human + p.events.Late + p.events.Duplicate
		}
		return s
	}
	want := count(old)
	if want.totals.Accepted == 0 || want.flat == 0 || want.every == 0 {
		t.Fatalf("there is nothing to move: %+v", want)
	}
	var usual tide
	for i := range old {
		usual.expected += old[i].feed.usual.expected
	}
	for _, n := range []int32{1, 2, 3, 7} {
		var moved []Partition
		for q := range n {
			p := Resettle(q, n, old)
			var again Partition
			if err := again.decode(p.append(nil)); err != nil {
				t.Fatal(err)
			}
			p.unstored = unstored{}
			if !reflect.DeepEqual(again, p) {
				t.Errorf("partition %d of %d is stored incompletely", q, n)
			}
			for i := range old {
				if o := &old[i]; p.clock < o.clock || p.whole < o.whole || o.world.Gaps.Len() > 0 && !p.world.Gaps.Has(o.clock/86400-int64(i)) {
					t.Errorf("partition %d of %d does not know what %d knew", q, n, i)
				}
			}
			if got := p.feed.usual.expected; got != usual.expected/uint64(n) {
				t.Errorf("partition %d of %d expects %d of %d", q, n, got, usual.expected)
			}
			moved = append(moved, p)
		}
		if got := count(moved); got != want {
			t.Errorf("in %d partitions\n%+v, were\n%+v", n, got, want)
		}
	}
}
