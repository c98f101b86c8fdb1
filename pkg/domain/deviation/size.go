package deviation

import "unsafe"

// Size is how many bytes of memory m refers to, about.
func (m *Memory) Size() int {
	n := cap(m.silent) * int(unsafe.Sizeof(""))
	for _, channel := range m.silent {
		n += len(channel)
	}
	return n
}
