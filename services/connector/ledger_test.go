package connector

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/stream"
	"github.com/tempismo/tempismo/pkg/stream/streamtest"
)

// TestFirstSince: bisection finds the first record that is not older, whatever retention has taken.
func TestFirstSince(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		log := streamtest.NewLog()
		log.Create("outcomes", stream.TopicInfo{Partitions: 1})
		ages := rapid.SliceOfN(rapid.IntRange(0, 3), 0, 40).Draw(rt, "seconds between records")
		at := start
		for _, s := range ages {
			at = at.Add(time.Duration(s) * time.Second)
			log.Append("outcomes", 0, stream.Message{Key: []byte("C-1"), Value: []byte("{}"), Time: at})
		}
		log.Truncate("outcomes", 0, rapid.Int64Range(0, int64(len(ages))).Draw(rt, "taken by retention"))
		since := start.Add(time.Duration(rapid.IntRange(-1, 60).Draw(rt, "since")) * time.Second)

		_, want, err := log.Bounds(t.Context(), "outcomes", 0)
		if err != nil {
			rt.Fatal(err)
		}
		for _, r := range log.Records("outcomes", 0) {
			if !r.Time.Before(since) {
				want = r.Offset
				break
			}
		}
		got, err := firstSince(t.Context(), log, "outcomes", 0, since)
		if err != nil || got != want {
			rt.Fatalf("got %d, %v, want %d", got, err, want)
		}
	})
}
