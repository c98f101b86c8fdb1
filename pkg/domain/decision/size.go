package decision

import (
	"unsafe"

	"github.com/tempismo/tempismo/pkg/domain/customer"
)

// Size is how many bytes of memory s refers to, about.
func (s *State) Size() int {
	n := cap(s.attributes) + cap(s.pending)*int(unsafe.Sizeof(pending{})) + cap(s.sent)*int(unsafe.Sizeof(sent{})) +
		cap(s.ended)*int(unsafe.Sizeof(ended{})) + cap(s.members)*int(unsafe.Sizeof(member{})) + cap(s.answers)*int(unsafe.Sizeof(answer{}))
	for i := range s.pending {
		p := &s.pending[i]
		n += len(p.id) + len(p.channel) + len(p.message) + len(p.audience) + len(p.why)
	}
	for i := range s.sent {
		n += len(s.sent[i].channel) + len(s.sent[i].decision) + len(s.sent[i].audience)
	}
	for i := range s.members {
		n += len(s.members[i].audience)
	}
	for i := range s.answers {
		n += len(s.answers[i].channel)
	}
	if s.parsed != nil {
		n += int(unsafe.Sizeof(customer.Attributes{})) + parsedFactor*len(s.attributes)
	}
	return n
}

// parsedFactor is how many bytes of memory a byte of attributes becomes when they are read: lists and maps of short texts.
const parsedFactor = 4
