package engagement

import (
	_ "embed" // the list of user agents
	"fmt"
	"strings"
)

// Names of the rules that look at one event alone, as ActorRule carries them.
const (
	RuleProvider  = "provider"   // the provider's own flag
	RuleUserAgent = "user_agent" // the list in agents.txt
)

// agentsText is data, so that the list can be read and amended without reading code.
//
//go:embed agents.txt
var agentsText string

type agentRule struct {
	actor Actor
	how   string // is, ends, contains
	text  string
}

var agents = parseAgents(agentsText)

func parseAgents(text string) []agentRule {
	var rules []agentRule
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		how, pattern, _ := strings.Cut(strings.TrimSpace(rest), " ")
		actor, ok := ParseActor(name)
		pattern = strings.TrimSpace(pattern)
		if !ok || how != "is" && how != "ends" && how != "contains" || pattern == "" {
			panic(fmt.Sprintf("engagement: agents.txt: cannot read %q", line))
		}
		rules = append(rules, agentRule{actor, how, pattern})
	}
	return rules
}

// Classify says who caused an event of that kind, and which rule says so, from the event alone: flagged is the provider's
// own verdict that a machine did it; userAgent is empty where it is not known, which proves nothing. Only opens and clicks
// are in doubt: an unsubscription is a wish whoever carries it out, and must never be filtered.
func Classify(kind Kind, flagged bool, userAgent string) (Actor, string) {
	if kind != Open && kind != Click {
		return Human, ""
	}
	if flagged {
		return Machine, RuleProvider
	}
	if userAgent == "" {
		return Human, ""
	}
	agent := strings.ToLower(strings.TrimSpace(userAgent))
	for _, r := range agents {
		fits := false
		switch r.how {
		case "is":
			fits = agent == r.text
		case "ends":
			fits = strings.HasSuffix(agent, r.text)
		case "contains":
			fits = strings.Contains(agent, r.text)
		}
		if !fits {
			continue
		}
		if r.actor == Human {
			return Human, ""
		}
		return r.actor, RuleUserAgent
	}
	return Human, ""
}
