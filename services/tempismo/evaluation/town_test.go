package evaluation

import (
	"context"
	"testing"
	"time"

	"github.com/tempismo/tempismo/services/tempismo/town"
)

// simulated is a town with its truth.
func simulated(t testing.TB, seed uint64, customers, quiet, weeks int) (*Log, *Truth) {
	t.Helper()
	start := time.Date(2025, 9, 1, 0, 0, 0, 0, time.UTC)
	tw, err := town.New(town.Config{Seed: seed, Customers: customers, Start: start, QuietUntil: start.AddDate(0, 0, 7*quiet), Until: start.AddDate(0, 0, 7*weeks)})
	if err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(time.UTC)
	known := &Truth{Header: tw.Header()}
	for i := range customers {
		events, c := tw.Each(i)
		for k := range events {
			b.Add(&events[k])
		}
		known.Customers = append(known.Customers, c)
	}
	return b.Log(), known
}

// TestBars holds what the design promises on a town of a fixed seed, each promise with the tolerance that follows from the
// size of the town. The seed had no part in choosing anything.
func TestBars(t *testing.T) {
	log, truth := simulated(t, 20261124, 3000, 26, 34)
	r, err := Run(context.Background(), log, truth, Settings{Seed: 1, Methods: []string{"ours"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range r.Bars {
		t.Run(b.Name, func(t *testing.T) {
			t.Logf("%s, 99 %% interval %s to %s, of %d; wanted: %s", number(b.Value, b.Unit), number(b.Lo, b.Unit), number(b.Hi, b.Unit), b.N, b.Range())
			if !b.Holds {
				t.Errorf("does not hold")
			}
		})
	}
	if len(r.Bars) < 35 {
		t.Errorf("%d bars were measured, which is too few for the rest to mean much; left out: %v", len(r.Bars), r.LeftOut)
	}
}
