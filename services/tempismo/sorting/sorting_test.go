package sorting

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSortsStablyHoweverLittleMemoryThereIs(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(rapid.Int64Range(-5, 5), 0, 60).Draw(t, "keys")
		s := New(dir, rapid.SampledFrom([]int{1, 100, 500, 1 << 20}).Draw(t, "limit"))
		defer s.Close()
		type pair struct {
			key   int64
			value string
		}
		var want, got []pair
		for i, k := range keys {
			v := fmt.Sprint("v", i)
			want = append(want, pair{k, v})
			if err := s.Add(k, []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		slices.SortStableFunc(want, func(a, b pair) int { return int(a.key - b.key) })
		if err := s.Each(func(k int64, v []byte) error { got = append(got, pair{k, string(v)}); return nil }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	s := New(dir, 1)
	for i := range 10 {
		if err := s.Add(int64(-i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.runs) != 10 {
		t.Fatalf("%d runs, want 10: nothing was spilled, so nothing is tested", len(s.runs))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStopsAtTheFirstError(t *testing.T) {
	stop := errors.New("stop")
	for _, limit := range []int{1, 1 << 20} {
		s := New(t.TempDir(), limit)
		s.Add(1, []byte("a"))
		s.Add(2, []byte("b"))
		n := 0
		if err := s.Each(func(int64, []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
			t.Errorf("limit %d: %d calls, %v", limit, n, err)
		}
		s.Close()
	}
}

func TestANewSorterSaysWhereItCannotSpill(t *testing.T) {
	s := New("/nonexistent", 1)
	if err := s.Add(1, nil); err == nil {
		t.Error("spilled into a folder that does not exist")
	}
}
