package console

import (
	"testing"

	"github.com/tempismo/tempismo/services/console/words"
)

func newViewer(w *town) *viewer {
	return &viewer{s: w.s, lang: words.In("en"), q: query{View: "r"}, parts: map[string]string{}, classes: map[int]string{}, cells: map[int]cellWire{}, rows: map[string]string{}}
}

func TestAViewerIsSentWhatChangedAndNothingElse(t *testing.T) {
	w := newTown(t, Config{})
	w.history(9)
	w.morning()
	v := newViewer(w)
	v.step(nil, 0, true)
	if v.out.Len() < 10_000 {
		t.Errorf("the first step sends %d bytes, want the whole page's parts", v.out.Len())
	}
	v.out.Reset()
	v.step(nil, 0, true)
	if v.out.Len() != 0 {
		t.Errorf("nothing changed, and yet it sends %.200s", v.out.String())
	}
}

// BenchmarkBeat is what one viewer costs each second while records arrive.
func BenchmarkBeat(b *testing.B) {
	w := newTown(b, Config{})
	w.history(36)
	w.morning()
	v := newViewer(w)
	for i := 0; b.Loop(); i++ {
		w.s.state.version++
		v.step(nil, 0, i%slowEvery == 0)
		v.out.Reset()
	}
}
