package timing

import "strings"

// Profile is all that is kept of one customer: the profiler's key state. The zero value is a customer of whom nothing is known.
type Profile struct {
	Zone     string // IANA name; empty: the operator's default
	Segment  string // as the operator names it; empty: none known
	Channels []Channel

	memory memory
}

// Channel is the profile of one customer in one channel.
type Channel struct {
	Name string
	State
}

// MaxChannels is how many channels a profile may have; Channel does not enforce it.
const MaxChannels = 8

// Channel returns the channel of that name, and makes it where there is none; the caller is about to note an event in it.
// The pointer is good until the next call.
func (p *Profile) Channel(name string) *Channel {
	at := 0
	for ; at < len(p.Channels); at++ {
		switch c := &p.Channels[at]; {
		case c.Name == name:
			return c
		case c.Name > name: // in the order of names, so that the bytes do not tell which channel came first
			goto insert
		}
	}
insert:
	p.Channels = append(p.Channels, Channel{})
	copy(p.Channels[at+1:], p.Channels[at:])
	p.Channels[at] = Channel{Name: strings.Clone(name)}
	return &p.Channels[at]
}

// Find returns the channel of that name, or nil.
func (p *Profile) Find(name string) *Channel {
	for i := range p.Channels {
		if p.Channels[i].Name == name {
			return &p.Channels[i]
		}
	}
	return nil
}

// Head is the latest local hour of which anything is known in the channel; false if nothing is.
func (s *State) Head() (Hour, bool) { return s.head, s.seen }

// Silent reports whether a silence was raised that no engagement has ended.
func (s *State) Silent() bool { return s.silent }

// Dated reports whether the latest hour the profile knows in any channel is after h: whether an event of h is old news.
func (p *Profile) Dated(h Hour) bool {
	for i := range p.Channels {
		if p.Channels[i].seen && p.Channels[i].head > h {
			return true
		}
	}
	return false
}

// Reported reports whether the source tells of deliveries in the channel.
func (s *State) Reported() bool { return s.deliveries > 0 || s.received != (hours{}) }

// Busy reports whether a local day that is not settled has more than one engaged hour.
func (s *State) Busy(day int64) bool {
	b := s.engaged.day(day, s.head)
	return day >= s.unsettled() && b&(b-1) != 0
}
