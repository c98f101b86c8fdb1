package console

import (
	"net/http/httptest"
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

func TestAStreamGoesOnWhereItEnded(t *testing.T) {
	var l live
	l.init()
	for id, want := range map[string]uint64{l.boot + "-41": 41, "another-41": 0, "": 0, "nonsense": 0} {
		r := httptest.NewRequest("GET", "/live", nil)
		r.Header.Set("Last-Event-ID", id)
		if got := l.resume(r); got != want {
			t.Errorf("after the event %q the stream goes on from %d, want %d", id, got, want)
		}
	}
	if got := l.resume(httptest.NewRequest("GET", l.address(words.In("en"), query{}), nil)); got != l.seq {
		t.Errorf("a page that was just made goes on from %d, want %d", got, l.seq)
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
