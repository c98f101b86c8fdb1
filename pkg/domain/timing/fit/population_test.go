package fit

import (
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/timing"
)

// TestADayUnlikeAllBefore: thousands of customers who all engage in one hour, and weeks later in another, are learned without
// a number running away.
func TestADayUnlikeAllBefore(t *testing.T) {
	l := NewLearner(timing.Builtin(), Config{})
	for d, hour := range []timing.Hour{9, 9, 9, 20, 20, 3, 20} {
		for c := range 5000 {
			h := timing.Hour(24*(20_000+3*d)) + hour
			l.Delivered(c, h-hour+9)
			l.Engaged(c, h+24*max(0, (9-hour)/24+1), 30)
		}
		l.Close(int64(20_000 + 3*d + 1))
	}
	m := l.Model()
	if err := m.Prepare(); err != nil {
		t.Fatal(err)
	}
	if b := m.Bases[timing.Buckets/2]; b[20] < 2*b[12] {
		t.Errorf("everybody engages at 20, and is expected %v", b)
	}
}
