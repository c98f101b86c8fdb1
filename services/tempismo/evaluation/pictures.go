package evaluation

// Picture is a picture of a report.
type Picture struct{ Name string }

func (p Picture) SVG() string  { return "" }
func (p Picture) Text() string { return "" }
