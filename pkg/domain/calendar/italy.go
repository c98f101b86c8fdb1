package calendar

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed italy.json
var italy []byte

// Italy closes the Italian national holidays of the years 2015 to 2040, as the laws in force in 2026 list them; San Francesco is
// one of them again from 2026 (law 151 of 8 October 2025). Patron-saint days belong to municipalities and are not here. The
// package that turns a policy's calendars into a Book writes the file, and holds it to its library.
var Italy = mustRead(italy)

func mustRead(data []byte) *Book {
	b := new(Book)
	if err := json.Unmarshal(data, b); err != nil {
		panic(fmt.Sprintf("the embedded calendar of Italy: %v", err))
	}
	return b
}
