package timing

import (
	"strings"
	"time"
)

// Profile is all that is kept of one customer: the profiler's key state. The zero value is a customer of whom nothing is known.
type Profile struct {
	Zone     string // IANA name, as told last by an event or from outside; empty: the operator's default
	Home     string // IANA name, as told from outside; empty: it was not
	Segment  string // as the operator names it; empty: none known
	Told     Pixel  // what the customer's attributes say of tracking pixels
	Said     Pixel  // what the customer has answered beside them
	Channels []Channel

	memory memory
	erased int64 // Unix milliseconds; nothing of before may be noted; 0: nothing was erased
}

// Forget forgets all that was learned from events. What was told from outside stays.
func (p *Profile) Forget() {
	*p = Profile{Zone: p.Home, Home: p.Home, Segment: p.Segment, Told: p.Told, Said: p.Said, erased: p.erased}
}

// Pixel is an answer to being observed by tracking pixels. The zero value is none.
type Pixel struct {
	At      int64 // when it was given, Unix milliseconds; 0: there is none
	Granted bool
}

// Pixel is the answer that counts: the one given last and, of two of one instant, the refusal.
func (p *Profile) Pixel() Pixel {
	if p.Said.At > p.Told.At || p.Said.At == p.Told.At && !p.Said.Granted {
		return p.Said
	}
	return p.Told
}

// Say notes an answer of the customer's. In whatever order answers and erasures are told, the last one counts, and none of before
// an erasure.
func (p *Profile) Say(a Pixel) {
	if a.At >= p.erased {
		p.Said = (&Profile{Told: a, Said: p.Said}).Pixel()
	}
}

// EraseAll is Erase, and forgets as well what was told from outside of before that instant. What the attributes say of pixels is not
// among it: that is for them to say.
func (p *Profile) EraseAll(before time.Time) {
	p.Erase(before)
	p.Zone, p.Home, p.Segment = "", "", ""
	if p.Said.At < Millis(before) {
		p.Said = Pixel{}
	}
}

// Millis is an instant that something is to be true from or before, in Unix milliseconds: rounded up, so that nothing of before escapes.
func Millis(at time.Time) int64 { return at.Add(time.Millisecond - 1).UnixMilli() }

// Observable reports whether an open of an instant may be noted. assumed says that whoever has not answered may be observed;
// otherwise only what comes after a consent was consented to.
func (p *Profile) Observable(at time.Time, assumed bool) bool {
	switch a := p.Pixel(); {
	case a.At == 0 || assumed:
		return assumed && (a.At == 0 || a.Granted)
	default:
		return a.Granted && at.UnixMilli() >= a.At
	}
}

// Erase begins the profile anew, and for ever: it forgets all that was learned, because of counters nothing can be taken
// back, and remembers that no event of before an instant may be noted again, whatever its kind: what a profile holds then
// depends on the instant only, and not on whether the erasure or the event came first. It reports false, and changes nothing,
// where as much was erased before.
func (p *Profile) Erase(before time.Time) bool {
	at := Millis(before)
	if at <= p.erased {
		return false
	}
	p.erased = at
	p.Forget()
	return true
}

// Erased reports whether events of an instant may not be noted.
func (p *Profile) Erased(at time.Time) bool { return p.erased != 0 && at.UnixMilli() < p.erased }

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

// Idle reports whether something was learned of the customer, and all of it before or in h.
func (p *Profile) Idle(h Hour) bool { return len(p.Channels) > 0 && !p.Dated(h) }

// Reported reports whether the source tells of deliveries in the channel.
func (s *State) Reported() bool { return s.deliveries > 0 || s.received != (hours{}) }

// Busy reports whether a local day that is not settled has more than one engaged hour.
func (s *State) Busy(day int64) bool {
	b := s.engaged.day(day, s.head)
	return day >= s.unsettled() && b&(b-1) != 0
}
