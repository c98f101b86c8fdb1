package calendar

// Span is closed days of one name that people would name together: those in a row or, where they come again and again such
// as weekends, all of a year.
type Span struct {
	Holiday     // the first day
	Last    Day // equal to Holiday.Day where there is one
	Days    int // how many; fewer than from the first to the last where they are not in a row
}

// InARow reports whether the span holds every day from its first to its last.
func (s *Span) InARow() bool { return s.Last.number()-s.Day.number()+1 == s.Days }

// often is how many days of one name a year has from which they are counted rather than listed.
const often = 20

// Spans gathers the closed days of a year, in order; those that come again and again stand last.
func Spans(days []Holiday) []Span {
	unlike := func(h Holiday) Holiday { h.Day = Day{}; return h } // what days of one name have in common
	all := map[Holiday]Span{}
	for _, h := range days {
		s, begun := all[unlike(h)]
		if !begun {
			s.Holiday = h
		}
		s.Last, s.Days = h.Day, s.Days+1
		all[unlike(h)] = s
	}
	var rows, again []Span
	for _, h := range days {
		s := all[unlike(h)]
		switch last := len(rows) - 1; {
		case s.Days >= often && !s.InARow():
			if s.Day == h.Day {
				again = append(again, s)
			}
		case last >= 0 && unlike(rows[last].Holiday) == unlike(h) && rows[last].Last.Next() == h.Day:
			rows[last].Last, rows[last].Days = h.Day, rows[last].Days+1
		default:
			rows = append(rows, Span{h, h.Day, 1})
		}
	}
	return append(rows, again...)
}
