package engagement_test

import (
	"net/netip"
	"testing"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

func TestClassify(t *testing.T) {
	const (
		human, probable, machine = engagement.Human, engagement.Probable, engagement.Machine
		open, click              = engagement.Open, engagement.Click
		firefox                  = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	)
	for _, tt := range []struct {
		name    string
		kind    engagement.Kind
		flagged bool
		agent   string
		actor   engagement.Actor
		rule    string
	}{
		{"a browser is a human", open, false, firefox, human, ""},
		{"an unknown user agent proves nothing", open, false, "", human, ""},
		{"the provider's flag is certain, whatever the user agent", open, true, firefox, machine, "provider"},
		{"the bare agent of mail privacy proxies", open, false, "Mozilla/5.0", machine, "user_agent"},
		{"Gmail's prefetch on receipt", open, false, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0", machine, "user_agent"},
		{"Gmail's image proxy is how Gmail shows an open", open, false, "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", human, ""},
		{"a library", click, false, "python-requests/2.32.3", machine, "user_agent"},
		{"a scanner, in any case", click, false, "Mozilla/5.0 (compatible; BARRACUDA Sentinel)", machine, "user_agent"},
		{"a crawler", click, false, "Mozilla/5.0 (compatible; bingbot/2.0)", machine, "user_agent"},
		{"a telephone called Cubot", click, false, "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/96 Mobile Safari/537.36", human, ""},
		{"a truncated agent may be Apple Mail", open, false, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)", probable, "user_agent"},
		{"a library under its short name", click, false, "Python/3.12 aiohttp/3.9.5", machine, "user_agent"},
		{"a browser without a screen", click, false, "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36", machine, "user_agent"},
		{"white space around an agent", open, false, " Mozilla/5.0\t", machine, "user_agent"},
		{"an unsubscription is never filtered", engagement.Unsubscribe, true, "Mozilla/5.0", human, ""},
		{"nor is a complaint", engagement.Complaint, true, "curl/8.0", human, ""},
		{"nor is a reply", engagement.Reply, true, "curl/8.0", human, ""},
		{"a delivery has no reader", engagement.Delivered, false, "curl/8.0", human, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			actor, rule := engagement.Classify(tt.kind, tt.flagged, tt.agent)
			if actor != tt.actor || rule != tt.rule {
				t.Errorf("got %v by %q, want %v by %q", actor, rule, tt.actor, tt.rule)
			}
		})
	}
}

// own stands for what an operator writes: what the shipped lists lack, and addresses for documentation (RFC 5737, RFC 3849).
const own = `
date 2026-11-29
machine  contains bot
probable ends     (khtml, like gecko)
human    contains googleimageproxy
machine  network  192.0.2.0/24
human    network  192.0.2.128/25
probable network  198.51.100.0/24
machine  network  2001:db8:1::/48
honeypot contains /Not-For-People
`

func lists(t testing.TB, text string) *engagement.Lists {
	t.Helper()
	l, err := engagement.ParseLists(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestClassifyByNetwork(t *testing.T) {
	const (
		human, probable, machine = engagement.Human, engagement.Probable, engagement.Machine
		open, click              = engagement.Open, engagement.Click
		firefox                  = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
		mail                     = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
	)
	l := lists(t, own)
	for _, tt := range []struct {
		name    string
		kind    engagement.Kind
		flagged bool
		agent   string
		addr    string
		actor   engagement.Actor
		rule    string
	}{
		{"no address proves nothing", open, false, firefox, "", human, ""},
		{"an address that no list names", click, false, firefox, "203.0.113.9", human, ""},
		{"an open from machines", open, false, firefox, "192.0.2.7", machine, "network"},
		{"a click from machines, whatever the browser", click, false, firefox, "192.0.2.7", machine, "network"},
		{"an exception in a larger network", click, false, firefox, "192.0.2.200", human, ""},
		{"IPv6", click, false, firefox, "2001:db8:1::1", machine, "network"},
		{"IPv4 in IPv6", click, false, firefox, "::ffff:192.0.2.7", machine, "network"},
		{"an address with a zone", click, false, firefox, "2001:db8:1::1%eth0", machine, "network"},
		{"a click from scanners and people", click, false, firefox, "198.51.100.7", probable, "shared_network"},
		{"an open from scanners and people is a picture that somebody looks at", open, false, firefox, "198.51.100.7", human, ""},
		{"a bot among scanners and people is a bot", click, false, "bingbot/2.0", "198.51.100.7", machine, "user_agent"},
		{"of two doubts the one that lasts is named", click, false, mail, "198.51.100.7", probable, "user_agent"},
		{"an exception of agents does not excuse a network", open, false, "(via ggpht.com GoogleImageProxy)", "192.0.2.7", machine, "network"},
		{"the provider's flag comes first", click, true, firefox, "192.0.2.7", machine, "provider"},
		{"an unsubscription is never filtered", engagement.Unsubscribe, true, "bot", "192.0.2.7", human, ""},
		{"nor is a complaint", engagement.Complaint, true, "bot", "192.0.2.7", human, ""},
		{"nor is a reply", engagement.Reply, true, "bot", "192.0.2.7", human, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var addr netip.Addr
			if tt.addr != "" {
				addr = netip.MustParseAddr(tt.addr)
			}
			actor, rule := l.Classify(tt.kind, tt.flagged, tt.agent, addr)
			if actor != tt.actor || rule != tt.rule {
				t.Errorf("got %v by %q, want %v by %q", actor, rule, tt.actor, tt.rule)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	const human, probable, machine = engagement.Human, engagement.Probable, engagement.Machine
	l := lists(t, own)
	bots := netip.MustParseAddr("192.0.2.7")
	for _, tt := range []struct {
		name    string
		in      engagement.Event
		flagged bool
		addr    netip.Addr
		actor   engagement.Actor
		rule    string
	}{
		{"a person", engagement.Event{Kind: engagement.Click, Link: "https://example.com/shoes"}, false, netip.Addr{}, human, ""},
		{"a honeypot", engagement.Event{Kind: engagement.Click, Link: "https://example.com/not-for-people?m=1"}, false, netip.Addr{}, machine, "honeypot"},
		{"a honeypot in the case that a scanner prefers", engagement.Event{Kind: engagement.Click, Link: "HTTPS://EXAMPLE.COM/NOT-FOR-PEOPLE"}, false, netip.Addr{}, machine, "honeypot"},
		{"a honeypot is named even if the actor is certain", engagement.Event{Kind: engagement.Click, Link: "/not-for-people"}, true, bots, machine, "honeypot"},
		{"an open has no link", engagement.Event{Kind: engagement.Open, Link: "/not-for-people"}, false, netip.Addr{}, human, ""},
		{"an unsubscription by a honeypot stays a wish", engagement.Event{Kind: engagement.Unsubscribe, Link: "/not-for-people"}, true, bots, human, ""},
		{"a complaint stays one", engagement.Event{Kind: engagement.Complaint, UserAgent: "bot"}, true, bots, human, ""},
		{"a reply stays one", engagement.Event{Kind: engagement.Reply, UserAgent: "bot"}, true, bots, human, ""},
		{"a sender that says human may not know the lists", engagement.Event{Kind: engagement.Click, UserAgent: "bot"}, false, netip.Addr{}, machine, "user_agent"},
		{"a sender's doubt becomes certain", engagement.Event{Kind: engagement.Click, Actor: probable, ActorRule: "theirs"}, false, bots, machine, "network"},
		{"a sender's doubt stays", engagement.Event{Kind: engagement.Click, Actor: probable, ActorRule: "theirs"}, false, netip.Addr{}, probable, "theirs"},
		{"a sender's certainty stays", engagement.Event{Kind: engagement.Click, Actor: machine, ActorRule: "theirs"}, false, bots, machine, "theirs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.in
			l.Judge(&e, tt.flagged, tt.addr)
			if e.Actor != tt.actor || e.ActorRule != tt.rule {
				t.Errorf("got %v by %q, want %v by %q", e.Actor, e.ActorRule, tt.actor, tt.rule)
			}
			e.Actor, e.ActorRule = tt.in.Actor, tt.in.ActorRule
			if e != tt.in {
				t.Errorf("something else changed: %+v", e)
			}
		})
	}
}

func TestNamesOfKindsAndActors(t *testing.T) {
	for k := engagement.Sent; k <= engagement.Unsubscribe; k++ {
		if got, ok := engagement.ParseKind(k.String()); !ok || got != k {
			t.Errorf("ParseKind(%q) = %v, %v", k.String(), got, ok)
		}
		if want := k == engagement.Open || k == engagement.Click || k == engagement.Reply; k.Engaged() != want {
			t.Errorf("%v.Engaged() = %v", k, k.Engaged())
		}
	}
	for a := engagement.Human; a <= engagement.Machine; a++ {
		if got, ok := engagement.ParseActor(a.String()); !ok || got != a {
			t.Errorf("ParseActor(%q) = %v, %v", a.String(), got, ok)
		}
	}
	if engagement.Kind(0).String() != "unknown" || engagement.Actor(9).String() != "unknown" {
		t.Error("an unknown kind or actor must say so")
	}
	if _, ok := engagement.ParseKind("unknown"); ok {
		t.Error(`ParseKind("unknown") must fail`)
	}
}
