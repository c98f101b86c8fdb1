package chaos

// Sabotage takes one rule out of the program, by another text for one of its files.
type Sabotage struct {
	Name string // fence, compare-and-set, outbox, position-filter
	Row  string // of the fault matrix, in which it must show
}

// Sabotages are all.
var Sabotages []Sabotage

// Overlay writes what `go build -overlay` takes into dir and returns its path. It fails where the text to be replaced is
// not found exactly once: the program has changed, and the sabotage must follow.
func (s *Sabotage) Overlay(dir string) (path string, err error) { panic("to be written") }
