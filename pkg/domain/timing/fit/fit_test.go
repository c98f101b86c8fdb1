package fit

import (
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	w := newWorld(2000, 26, 1)
	h := w.histories()
	start := time.Now()
	m, r, err := Fit(h, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(time.Since(start))
	t.Log(r.String())
	t.Logf("%.3f", m.Kernel[:12])
	t.Logf("%.3f", w.kernel[:12])
	t.Logf("%.2f", m.Weekdays)
	for _, p := range m.Personas {
		t.Logf("%.2f %s %.1f", p.Share, p.Name, p.Attention)
	}
	t.Logf("%.2f", m.Boost)
	for k, c := range m.Calibration {
		for s := range c {
			t.Logf("%s %d %.4f", k, s, c[s][:30])
		}
	}
}
