package calendar

import (
	"fmt"
	"slices"
	"testing"
)

func TestSpans(t *testing.T) {
	named := func(name string, from string, n, step int) (days []Holiday) {
		for k := range n {
			days = append(days, Holiday{Day: day(t, from).Add(k * step), Name: name})
		}
		return days
	}
	rows := []struct {
		name string
		days []Holiday
		want []string
	}{
		{"no day is none", nil, nil},
		{"a day stands alone", named("a", "2026-01-01", 1, 1), []string{"a 2026-01-01 2026-01-01 1"}},
		{"days in a row stand together", named("a", "2026-08-10", 12, 1), []string{"a 2026-08-10 2026-08-21 12"}},
		{"however many, and in their place", append(named("a", "2026-08-01", 31, 1), named("b", "2026-12-25", 1, 1)...), []string{"a 2026-08-01 2026-08-31 31", "b 2026-12-25 2026-12-25 1"}},
		{"days apart do not", named("a", "2026-01-01", 3, 7), []string{"a 2026-01-01 2026-01-01 1", "a 2026-01-08 2026-01-08 1", "a 2026-01-15 2026-01-15 1"}},
		{"unless there are many, which stand last", append(named("a", "2026-01-03", 20, 7), named("b", "2026-12-25", 1, 1)...),
			[]string{"b 2026-12-25 2026-12-25 1", "a 2026-01-03 2026-05-16 20"}},
		{"a day of another name ends a row", slices.Concat(named("a", "2026-08-10", 2, 1), named("b", "2026-08-12", 1, 1), named("a", "2026-08-13", 2, 1)),
			[]string{"a 2026-08-10 2026-08-11 2", "b 2026-08-12 2026-08-12 1", "a 2026-08-13 2026-08-14 2"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			var got []string
			for _, s := range Spans(r.days) {
				got = append(got, fmt.Sprint(s.Name, " ", s.Day, " ", s.Last, " ", s.Days))
				if s.InARow() == (s.Days >= often && s.Last != s.Day.Add(s.Days-1)) {
					t.Errorf("%+v: in a row is %v", s, s.InARow())
				}
			}
			if !slices.Equal(got, r.want) {
				t.Errorf("got %q, want %q", got, r.want)
			}
		})
	}
}
