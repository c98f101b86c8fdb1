package fit

import "testing"

// BenchmarkFit fits half a year of 10,000 customers.
func BenchmarkFit(b *testing.B) {
	histories := newWorld(10000, 26, 1).histories()
	for b.Loop() {
		if _, _, err := Fit(histories, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
