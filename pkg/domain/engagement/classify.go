package engagement

import (
	"net/netip"
	"strings"
)

// Names of the rules that look at one event alone, as ActorRule carries them. The rules that compare events are in
// domain/timing. docs/machine-opens.md has them all.
const (
	RuleProvider      = "provider"       // the provider's own flag
	RuleHoneypot      = "honeypot"       // a link that no person sees, or another click of the message within seconds of it
	RuleNetwork       = "network"        // an address from which machines alone come
	RuleUserAgent     = "user_agent"     // a user agent that is a machine's, or may be
	RuleSharedNetwork = "shared_network" // a click from an address of scanners and of people: a verdict for the minutes after the delivery, see timing.Profile.Answered
)

// Judge names the actor of e by all that one event shows: flagged is the provider's own verdict that a machine did it, addr from
// where it was done, invalid where that is not known. An actor that e already names is never made more human.
func (l *Lists) Judge(e *Event, flagged bool, addr netip.Addr) {
	if e.Kind == Click && l.honeypot(e.Link) {
		// Even if the actor is a machine for another reason: the rule is what tells the profile to distrust the clicks around it.
		e.Actor, e.ActorRule = Machine, RuleHoneypot
		return
	}
	if actor, rule := l.Classify(e.Kind, flagged, e.UserAgent, addr); actor > e.Actor {
		e.Actor, e.ActorRule = actor, rule
	}
}

// Classify says who caused an event of that kind, and which rule says so: flagged is the provider's own verdict that a machine
// did it; userAgent is empty and addr invalid where they are not known, which proves nothing. Only opens and clicks are in
// doubt: an unsubscription is a wish whoever carries it out, and must never be filtered.
func (l *Lists) Classify(kind Kind, flagged bool, userAgent string, addr netip.Addr) (Actor, string) {
	if kind != Open && kind != Click {
		return Human, ""
	}
	if flagged {
		return Machine, RuleProvider
	}
	actor, rule := l.network(addr), RuleNetwork
	switch {
	case actor == Machine:
		return actor, rule
	case actor == Probable && kind == Click:
		rule = RuleSharedNetwork
	default: // people's pictures are fetched by the same networks
		actor, rule = Human, ""
	}
	// Of two doubts the agent's is named, for that of the network ends some minutes after the delivery.
	if a := l.agent(userAgent); a != Human && a >= actor {
		return a, RuleUserAgent
	}
	return actor, rule
}

// Classify is that of the lists that come with this version, for an event whose address is not known.
func Classify(kind Kind, flagged bool, userAgent string) (Actor, string) {
	return shipped.Classify(kind, flagged, userAgent, netip.Addr{})
}

func (l *Lists) agent(userAgent string) Actor {
	if userAgent == "" {
		return Human
	}
	agent := strings.ToLower(strings.TrimSpace(userAgent))
	for _, r := range l.agents {
		fits := false
		switch r.how {
		case "is":
			fits = agent == r.text
		case "ends":
			fits = strings.HasSuffix(agent, r.text)
		case "contains":
			fits = strings.Contains(agent, r.text)
		}
		if fits {
			return r.actor
		}
	}
	return Human
}

// honeypot compares in lower case, because some scanners lower the case of links.
func (l *Lists) honeypot(link string) bool {
	if len(l.honeypots) == 0 {
		return false
	}
	link = strings.ToLower(link)
	for _, marker := range l.honeypots {
		if strings.Contains(link, marker) {
			return true
		}
	}
	return false
}
