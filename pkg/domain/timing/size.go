package timing

import "unsafe"

// Size is how many bytes of memory p refers to, about. It has little to do with how many Append writes: a channel takes as
// much in memory whether little or much is known in it.
func (p *Profile) Size() int {
	n := cap(p.Channels)*int(unsafe.Sizeof(Channel{})) + len(p.Zone) + len(p.Home) + len(p.Segment)
	for i := range p.Channels {
		n += len(p.Channels[i].Name)
		if p.Channels[i].before != nil {
			n += int(unsafe.Sizeof(before{}))
		}
	}
	return n
}
