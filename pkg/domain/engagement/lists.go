package engagement

import (
	_ "embed" // the lists
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf8"
)

// Lists are rules about machines that are data: they age faster than programs, so an operator can replace them by a file.
type Lists struct {
	dated     time.Time // of the oldest date line
	agents    []agentRule
	networks  []network // sorted, see arrange
	honeypots []string
}

type agentRule struct {
	actor Actor
	how   string // is, ends, contains
	text  string
}

type network struct {
	prefix netip.Prefix
	actor  Actor
	around int // the smallest other network that holds this one, by index; -1 if there is none
}

var (
	//go:embed agents.txt
	agentsText string
	//go:embed networks.txt
	networksText string

	shipped = mustParse(agentsText + networksText)
)

func mustParse(text string) *Lists {
	l, err := parseLists(text, nil)
	if err != nil {
		panic(fmt.Sprintf("engagement: agents.txt, networks.txt: %v", err))
	}
	return l
}

// DefaultLists are those that come with this version. They are shared: nobody changes them.
func DefaultLists() *Lists { return shipped }

// ParseLists reads lists that stand in place of the shipped ones. A line is empty, a remark that begins with #, or one of
//
//	date     2026-11-29                     when the list was last compared with its sources; at least one
//	machine  is|ends|contains  text         a user agent; also probable and human. The first line that fits decides
//	machine  network           192.0.2.0/24 an address; also probable and human. The smallest network decides
//	honeypot contains          text         a link that no person sees
//	defaults                                the shipped rules as well, after the ones of this file
//
// The error names every line that is wrong, and what is expected of it.
func ParseLists(text string) (*Lists, error) { return parseLists(text, shipped) }

// maxProblems keeps the answer to a file that is something else altogether short.
const maxProblems = 20

func parseLists(text string, defaults *Lists) (*Lists, error) {
	l := &Lists{}
	lines, used, more := map[netip.Prefix]network{}, false, 0
	var problems []error
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line == "defaults" && defaults != nil {
			used = true
			continue
		}
		if err := l.add(line, lines); err != nil {
			if len(problems) == maxProblems {
				more++
				continue
			}
			problems = append(problems, fmt.Errorf("line %d: %.100q: %w", n, line, err))
		}
	}
	if more > 0 {
		problems = append(problems, fmt.Errorf("and %d more", more))
	}
	if l.dated.IsZero() && more == 0 {
		problems = append(problems, errors.New("there is no date: say when the list was compared with its sources, as in: date 2026-11-29"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if used {
		l.agents = append(l.agents, defaults.agents...)
		l.networks = append(l.networks, defaults.networks...)
		l.honeypots = append(l.honeypots, defaults.honeypots...)
	}
	l.arrange()
	return l, nil
}

// add reads one line; seen is of the networks so far.
func (l *Lists) add(line string, seen map[netip.Prefix]network) error {
	if !utf8.ValidString(line) {
		return errors.New("is not text in UTF-8")
	}
	name, rest := word(line)
	if name == "date" {
		at, err := time.Parse(time.DateOnly, rest)
		if err != nil {
			return errors.New("give a date as in: date 2026-11-29")
		}
		if l.dated.IsZero() || at.Before(l.dated) {
			l.dated = at
		}
		return nil
	}
	how, text := word(rest)
	text = strings.ToLower(text)
	if how == "contains" && len(text) < 3 {
		return errors.New("a text of fewer than 3 letters is contained in almost everything")
	}
	if name == "honeypot" {
		if how != "contains" {
			return errors.New("a honeypot is a part of a link, as in: honeypot contains /not-for-people")
		}
		l.honeypots = append(l.honeypots, text)
		return nil
	}
	actor, ok := ParseActor(name)
	if !ok {
		return errors.New("the first word must be machine, probable, human, honeypot, date or defaults")
	}
	switch how {
	case "is", "ends", "contains":
		if text == "" {
			return errors.New("the text to compare user agents with is missing")
		}
		l.agents = append(l.agents, agentRule{actor, how, text})
		return nil
	case "network":
		prefix, err := parseNetwork(text)
		if err != nil {
			return err
		}
		if other, ok := seen[prefix]; ok {
			if other.actor != actor {
				return fmt.Errorf("another line says that %v is %v", prefix, other.actor)
			}
			return nil
		}
		seen[prefix] = network{prefix: prefix, actor: actor}
		l.networks = append(l.networks, seen[prefix])
		return nil
	}
	return errors.New("the second word must be is, ends or contains, of user agents, or network")
}

// parseNetwork takes a prefix or a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New("give a network such as 192.0.2.0/24 or 2001:db8::/32, or one address")
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("is an address within a network, not the beginning of one: did you mean %v?", prefix.Masked())
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, errors.New("holds more than all IPv4 addresses")
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	if prefix.Bits() < 8 {
		return netip.Prefix{}, errors.New("is too large to be that of anybody: give at least 8 bits")
	}
	return prefix, nil
}

// word takes the first word off s.
func word(s string) (first, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// arrange sorts the networks so that whatever a network holds follows it, and says which each of them lies in. Of equal
// networks the first stays.
func (l *Lists) arrange() {
	slices.SortStableFunc(l.networks, func(a, b network) int {
		if c := a.prefix.Addr().Compare(b.prefix.Addr()); c != 0 {
			return c
		}
		return a.prefix.Bits() - b.prefix.Bits()
	})
	l.networks = slices.CompactFunc(l.networks, func(a, b network) bool { return a.prefix == b.prefix })
	for i := range l.networks {
		// Networks lie in each other or apart, so it is the one before or one that holds that.
		j := i - 1
		for j >= 0 && !l.networks[j].prefix.Contains(l.networks[i].prefix.Addr()) {
			j = l.networks[j].around
		}
		l.networks[i].around = j
	}
}

// network says what the smallest network that holds addr is; Human if there is none.
func (l *Lists) network(addr netip.Addr) Actor {
	addr = addr.Unmap().WithZone("")
	after := sort.Search(len(l.networks), func(i int) bool { return l.networks[i].prefix.Addr().Compare(addr) > 0 })
	for i := after - 1; i >= 0; i = l.networks[i].around {
		if n := &l.networks[i]; n.prefix.Contains(addr) {
			return n.actor
		}
	}
	return Human
}

// String says how old the lists are and what is in them.
func (l *Lists) String() string {
	return fmt.Sprintf("of %s: %d user agents, %d networks, %d honeypots", l.dated.Format(time.DateOnly), len(l.agents), len(l.networks), len(l.honeypots))
}
