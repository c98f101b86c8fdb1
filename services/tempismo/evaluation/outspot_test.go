package evaluation

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/services/tempismo/rows"
)

// outspot reads real opens of a newsletter (outspot/Outspot-Send-time-optimisation); of sends nothing is known.
func outspot(t *testing.T) *Log {
	dir := os.Getenv("TEMPISMO_DATA")
	if dir == "" {
		t.Skip("TEMPISMO_DATA is not set: the test on real opens is skipped")
	}
	f, err := os.Open(filepath.Join(dir, "engagement", "outspot_opens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := rows.Open(f, f.Name(), rows.Mapping{Customer: "user_id", Time: "opened", Kind: "open", Zone: "Europe/Brussels", Channel: "email"})
	if err != nil {
		t.Fatal(err)
	}
	zone, err := calendar.Zone("Europe/Brussels")
	if err != nil {
		t.Fatal(err)
	}
	b := NewBuilder(zone)
	for {
		e, _, err := r.Read()
		if errors.Is(err, io.EOF) {
			return b.Log()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Add(e)
	}
}

func TestOutspot(t *testing.T) {
	l := outspot(t)
	t.Logf("%+v", l.Summary())
	s, err := l.scores(context.Background(), nil, 1, ordinary(l, nil), func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range s.report() {
		t.Logf("%-22s %-14s %-6s n %5d %.4f  %.4f..%.4f", x.Method, x.Metric, x.Stratum, x.N, x.Value, x.Lo, x.Hi)
	}
}
