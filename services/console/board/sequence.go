package board

// later reports whether source position a comes after b. Positions are offset.index, the offset padded to 20 digits
// (docs: wire); they sort as text unless the index grows beyond three digits.
func later(a, b string) bool {
	const offset = 20
	if len(a) < offset || len(b) < offset || a[:offset] != b[:offset] || len(a) == len(b) {
		return a > b
	}
	return len(a) > len(b)
}
