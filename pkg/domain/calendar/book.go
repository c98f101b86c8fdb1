package calendar

// Book is the closed days of a policy: everything that its calendars come to, as data, so that every reader finds the same
// days whatever version of a library it has.
type Book struct {
	Name string `json:"name"` // stands in decisions as the version they were made with, e.g. IT-2026.4
}

// Kind says which calendar closes a day.
type Kind string

// Kinds, in the order in which they are asked.
const (
	Custom    Kind = "closure"
	Municipal Kind = "municipal"
	Regional  Kind = "regional"
	National  Kind = "national"
	Bank      Kind = "bank"
)

// Holiday is a closed day of a Book.
type Holiday struct {
	Day  Day    `json:"day"`
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	In   string `json:"in"` // where, for sentences: Italy, Milano
}

// Closed reports whether d is closed in a place, and by what.
func (b *Book) Closed(d Day, in Place) (Holiday, bool) { panic("contract") }

// Year lists the closed days of a year in a place, in order.
func (b *Book) Year(year int, in Place) []Holiday { panic("contract") }
