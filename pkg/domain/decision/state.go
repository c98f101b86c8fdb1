package decision

import (
	"encoding/binary"
	"errors"
	"time"
)

// State is what the decider remembers of one customer: when the customer was last written to.
type State struct {
	sent [MaxCap]int64 // Unix seconds of the last send-nows, oldest first
	n    int
}

// stateVersion begins every encoding.
const stateVersion = 1

// Append writes the state: the version, the number of times, the first as a varint and the distances between them.
func (s *State) Append(dst []byte) []byte {
	dst = append(dst, stateVersion, byte(s.n))
	var last int64
	for _, t := range s.sent[:s.n] {
		dst = binary.AppendVarint(dst, t-last)
		last = t
	}
	return dst
}

// Decode reads what Append wrote.
func (s *State) Decode(b []byte) error {
	*s = State{}
	if len(b) < 2 || b[0] != stateVersion || b[1] > MaxCap {
		return errors.New("decode decision state: not an encoding of version 1; was it written by a newer decider?")
	}
	n := int(b[1])
	b = b[2:]
	var last int64
	for i := range n {
		d, k := binary.Varint(b)
		if k <= 0 {
			return errors.New("decode decision state: truncated")
		}
		last += d
		s.sent[i] = last
		b = b[k:]
	}
	if len(b) != 0 {
		return errors.New("decode decision state: bytes left over")
	}
	s.n = n
	return nil
}

// add remembers a send-now at t and forgets what no rule asks for any more.
func (s *State) add(t time.Time) {
	for s.n > 0 && (s.n == MaxCap || s.sent[0] <= t.Add(-week).Unix()) {
		s.n = copy(s.sent[:], s.sent[1:s.n])
	}
	s.sent[s.n] = t.Unix()
	if s.n > 0 {
		s.sent[s.n] = max(s.sent[s.n], s.sent[s.n-1]) // a source's clock that ran ahead must not break the order
	}
	s.n++
}

// since counts the send-nows after t.
func (s *State) since(t time.Time) int {
	n := 0
	for i := s.n; i > 0 && s.sent[i-1] > t.Unix(); i-- {
		n++
	}
	return n
}

// last returns the time of the last send-now.
func (s *State) last() (time.Time, bool) {
	if s.n == 0 {
		return time.Time{}, false
	}
	return time.Unix(s.sent[s.n-1], 0).UTC(), true
}
