package profiler

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/deviation"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing"
	"github.com/tempismo/tempismo/pkg/topics"
)

// TestOutspot runs real opens (outspot/Outspot-Send-time-optimisation; sends are not known) through the Step.
func TestOutspot(t *testing.T) {
	dir := os.Getenv("TEMPISMO_DATA")
	if dir == "" {
		t.Skip("TEMPISMO_DATA is not set: the test on real opens is skipped")
	}
	f, err := os.Open(filepath.Join(dir, "engagement", "outspot_opens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(rows[1:], func(a, b []string) int {
		if a[1] < b[1] {
			return -1
		} else if a[1] > b[1] {
			return 1
		}
		return 0
	})
	d := driver(t, Config{ScoredBelow: .1})
	memories, told := map[string]*deviation.Memory{}, map[string]int{}
	actionable := 0
	for i, row := range rows[1:] {
		at, err := time.Parse("2006-01-02 15:04:05.000000 MST", row[1])
		if err != nil {
			t.Fatal(err)
		}
		e := engagement.Event{ID: fmt.Sprint("o-", i), Source: "/outspot", Subject: row[0], Time: at, Kind: engagement.Open, Channel: "email", Zone: "Europe/Brussels"}
		for _, o := range pipe(d, &e) {
			if o.Failed != "" {
				t.Fatal(o.Failed)
			}
			if o.Topic != topics.Scored {
				continue
			}
			var s timing.Scored
			if err := json.Unmarshal(o.Event.Data, &s); err != nil {
				t.Fatal(err)
			}
			m := memories[row[0]]
			if m == nil {
				m = new(deviation.Memory)
				memories[row[0]] = m
			}
			for _, test := range s.Tests {
				if dv, v := m.Judge(builtin, &s, test, o.Event.Time); v == deviation.Told {
					told[dv.Kind]++
					if dv.Actionable {
						actionable++
					}
				}
			}
		}
	}
	totals := d.Partition().totals
	var sizes []int
	for _, key := range d.Keys() {
		sizes = append(sizes, len(d.State(key).Append(nil)))
	}
	slices.Sort(sizes)
	t.Logf("totals %+v", totals)
	t.Logf("deviations %v, actionable %d; bytes p50 %d, p99 %d, max %d", told, actionable, sizes[len(sizes)/2], sizes[len(sizes)*99/100], sizes[len(sizes)-1])
	if totals.Accepted != 19_988 || totals.Late != 0 || len(sizes) != 1000 {
		t.Errorf("accepted %d, late %d, customers %d", totals.Accepted, totals.Late, len(sizes))
	}
	if told[timing.Burst] == 0 || told[timing.Silence]+told[timing.Reactivation] != 0 {
		t.Errorf("deviations %v: want bursts, and nothing that needs sends", told)
	}
	if sizes[len(sizes)-1] > 352 || sizes[len(sizes)/2] > 200 {
		t.Errorf("profiles of %d bytes, at most %d", sizes[len(sizes)/2], sizes[len(sizes)-1])
	}
}
