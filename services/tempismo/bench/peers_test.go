package bench

import (
	"strings"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

func TestOutputsThatDifferAreNamed(t *testing.T) {
	want := map[string]int{"a": 1, "b": 2}
	if err := sameOutputs(want, map[string]int{"b": 2, "a": 1}); err != nil {
		t.Errorf("the same outputs: %v", err)
	}
	for _, test := range []struct {
		name string
		got  map[string]int
		says string
	}{
		{"one is missing", map[string]int{"b": 2}, "1 are missing, such as a"},
		{"one came once of two", map[string]int{"a": 1, "b": 1}, "1 are missing, such as b"},
		{"one came twice", map[string]int{"a": 2, "b": 2}, "1 are too many, such as a"},
		{"one is another", map[string]int{"a": 1, "b": 2, "c": 1}, "1 are too many, such as c"},
	} {
		if err := sameOutputs(want, test.got); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
	}
}

// scripts/peers/job/Job.java writes the same text.
func TestOutputOfTheLightJob(t *testing.T) {
	var s lightState
	day := int64(20_000 * 86_400)
	for d := range int64(6) {
		for range 1 + 2*(d%2) {
			s.note(day+d*86_400, true)
		}
	}
	deviates := false
	for range 5 {
		deviates = s.note(day+6*86_400, true) || deviates
	}
	if !deviates {
		t.Error("five engagements after 1, 3, 1, 3, 1, 3 are no deviation")
	}
	e := engagement.Event{ID: "e-1", Subject: "C-1"}
	const want = `{"event":"e-1","customer":"C-1","kind":"deviation","count":5,"mean":2.000000,"sd":1.095445}`
	if got := string(s.append(nil, &e, "deviation")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
