package decision

import (
	"cmp"
	"slices"
	"time"
)

// Sent is a message that went out to a customer, or may have.
type Sent struct {
	At      time.Time
	Channel string // empty: not known, so it counts in each
}

// Memory is how far back sends count for any Policy: as far as the longest cap.
const Memory = week

// Again is the first instant, not before at, at which caps, gaps and collisions allow one more send to a customer of a segment
// who has got these, and the rule that is in the way until then; at itself and an empty rule if none is. Only those rules are asked that
// depend on what was sent; a channel that the policy does not have is under those over all channels alone.
func (p *Policy) Again(channel, segment string, got []Sent, at time.Time) (again time.Time, rule string) {
	list := make([]commitment, len(got))
	for i, s := range got {
		list[i] = commitment{at: s.At.UnixMilli(), channel: s.Channel}
	}
	slices.SortFunc(list, func(a, b commitment) int { return cmp.Compare(a.at, b.at) })
	c := p.Channels[channel]
	if i := slices.IndexFunc(p.Segments, func(s Segment) bool { return s.Name == segment }); i >= 0 {
		if own, ok := p.Segments[i].Channels[channel]; ok {
			c = own
		}
	}
	bans, _ := p.bans(channel, &c, list)
	now := at.UnixMilli()
	for free := now; ; {
		i := slices.IndexFunc(bans, func(b ban) bool { return b.from < free && free < b.to })
		switch {
		case i >= 0:
			free, rule = bans[i].to, bans[i].rule
		case free == now:
			return at, ""
		default:
			return time.UnixMilli(free).UTC(), rule
		}
	}
}
