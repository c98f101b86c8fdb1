package timing

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

var dispatched = time.Date(2026, 12, 3, 9, 0, 0, 0, time.UTC)

// told is an event so long after the delivery of m-1, judged by these lists as ingest does.
func told(t *testing.T, kind engagement.Kind, message, link string, after time.Duration, addr string) *engagement.Event {
	t.Helper()
	l, err := engagement.ParseLists("date 2026-11-29\nprobable network 198.51.100.0/24\nhoneypot contains /trap\nprobable ends (khtml, like gecko)")
	if err != nil {
		t.Fatal(err)
	}
	e := &engagement.Event{Kind: kind, Message: message, Link: link, Time: dispatched.Add(after)}
	var from netip.Addr
	if addr != "" {
		from = netip.MustParseAddr(addr)
	}
	l.Judge(e, false, from)
	return e
}

func TestClicksAroundAHoneypotAreAMachines(t *testing.T) {
	type click struct {
		link  string
		after time.Duration
		actor engagement.Actor
		rule  string
	}
	const human, machine, hour = engagement.Human, engagement.Machine, time.Hour
	for _, tt := range []struct {
		name   string
		clicks []click
	}{
		{"up to ten seconds later", []click{{"/trap", hour, machine, "honeypot"}, {"/a", hour + 6*time.Second, machine, "honeypot"}, {"/a", hour + 10*time.Second, machine, "honeypot"}, {"/a", hour + 11*time.Second, human, ""}}},
		{"up to ten seconds earlier, if they are told later", []click{{"/trap", hour, machine, "honeypot"}, {"/a", hour - 10*time.Second, machine, "honeypot"}, {"/a", hour - 11*time.Second, human, ""}}},
		{"but what was told earlier cannot be taken back", []click{{"/a", hour - 6*time.Second, human, ""}, {"/trap", hour, machine, "honeypot"}, {"/b", hour + 6*time.Second, machine, "honeypot"}}},
		{"a second honeypot begins anew", []click{{"/trap", hour, machine, "honeypot"}, {"/trap2", hour + 9*time.Second, machine, "honeypot"}, {"/a", hour + 18*time.Second, machine, "honeypot"}}},
		{"afterwards bursts are seen as ever", []click{{"/trap", hour, machine, "honeypot"}, {"/a", 2 * hour, human, ""}, {"/b", 2*hour + time.Second, machine, "link_burst"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Profile
			p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
			for i, c := range tt.clicks {
				if a := p.Answered(told(t, engagement.Click, "m-1", c.link, c.after, "")); a.Actor != c.actor || a.Rule != c.rule {
					t.Errorf("click %d on %s: %v by %q, want %v by %q", i+1, c.link, a.Actor, a.Rule, c.actor, c.rule)
				}
				var again Profile // what is remembered survives its encoding
				if err := again.Decode(p.Append(nil)); err != nil || again.memory != p.memory {
					t.Fatalf("memory %+v became %+v: %v", p.memory, again.memory, err)
				}
			}
		})
	}

	t.Run("of that message alone", func(t *testing.T) {
		var p Profile
		p.Answered(told(t, engagement.Click, "m-1", "/trap", time.Hour, ""))
		if a := p.Answered(told(t, engagement.Click, "m-2", "/a", time.Hour+time.Second, "")); a.Actor != human {
			t.Errorf("a click of another message: %v by %q", a.Actor, a.Rule)
		}
		if a := p.Answered(told(t, engagement.Click, "m-1", "/a", time.Hour+2*time.Second, "")); a.Actor != machine {
			t.Errorf("a click of the message after one of another: %v by %q", a.Actor, a.Rule)
		}
	})
	t.Run("opens and replies are none", func(t *testing.T) {
		var p Profile
		p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
		p.Answered(told(t, engagement.Click, "m-1", "/trap", time.Hour, ""))
		for _, kind := range []engagement.Kind{engagement.Open, engagement.Reply} {
			if a := p.Answered(told(t, kind, "m-1", "", time.Hour+time.Second, "")); a.Actor != human {
				t.Errorf("%v: %v by %q", kind, a.Actor, a.Rule)
			}
		}
	})
}

func TestClicksFromSharedNetworksAreDoubtedForTenMinutes(t *testing.T) {
	const shared = "198.51.100.7"
	for _, tt := range []struct {
		name  string
		e     *engagement.Event
		actor engagement.Actor
		rule  string
	}{
		{"while scanners work", told(t, engagement.Click, "m-1", "/a", 10*time.Minute-time.Second, shared), engagement.Probable, "shared_network"},
		{"then it is a person whose browser runs there", told(t, engagement.Click, "m-1", "/a", 10*time.Minute, shared), engagement.Human, ""},
		{"within seconds it is certain", told(t, engagement.Click, "m-1", "/a", 9*time.Second, shared), engagement.Machine, "too_soon"},
		{"before the delivery it is certain", told(t, engagement.Click, "m-1", "/a", -time.Second, shared), engagement.Machine, "before_delivery"},
		{"without a delivery there is no saying", told(t, engagement.Click, "m-9", "/a", time.Hour, shared), engagement.Probable, "shared_network"},
		{"opens are not doubted", told(t, engagement.Open, "m-1", "", 5*time.Minute, shared), engagement.Human, ""},
		{"another doubt does not pass", &engagement.Event{Kind: engagement.Click, Message: "m-1", Time: dispatched.Add(time.Hour), Actor: engagement.Probable, ActorRule: engagement.RuleUserAgent}, engagement.Probable, "user_agent"},
		{"nor does certainty of a sender that calls it so", &engagement.Event{Kind: engagement.Click, Message: "m-1", Time: dispatched.Add(time.Hour), Actor: engagement.Machine, ActorRule: engagement.RuleSharedNetwork}, engagement.Machine, "shared_network"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Profile
			p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
			if a := p.Answered(tt.e); a.Actor != tt.actor || a.Rule != tt.rule {
				t.Errorf("%v by %q, want %v by %q", a.Actor, a.Rule, tt.actor, tt.rule)
			}
		})
	}

	t.Run("ten minutes later two links at once are a machine's all the same", func(t *testing.T) {
		var p Profile
		p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
		p.Answered(told(t, engagement.Click, "m-1", "/a", time.Hour, shared))
		if a := p.Answered(told(t, engagement.Click, "m-1", "/b", time.Hour+time.Second, shared)); a.Actor != engagement.Machine || a.Rule != RuleLinkBurst {
			t.Errorf("%v by %q", a.Actor, a.Rule)
		}
	})
}

// A message that a machine answered first is a person's from the first human answer on, whatever follows.
func TestALaterHumanAnswerShowsAPerson(t *testing.T) {
	const machine, probable = engagement.Machine, engagement.Probable
	for _, tt := range []struct {
		name  string
		first []*engagement.Event
	}{
		{"after a machine by the delivery", []*engagement.Event{told(t, engagement.Open, "m-1", "", 2*time.Second, "")}},
		{"after a machine by its provider", []*engagement.Event{{Kind: engagement.Open, Message: "m-1", Time: dispatched.Add(time.Hour), Actor: machine, ActorRule: engagement.RuleProvider}}},
		{"after a doubtful open", []*engagement.Event{told(t, engagement.Open, "m-1", "", 30*time.Second, "")}},
		{"after a doubtful agent", []*engagement.Event{{Kind: engagement.Open, Message: "m-1", Time: dispatched.Add(time.Hour), Actor: probable, ActorRule: engagement.RuleUserAgent}}},
		{"after a doubtful network", []*engagement.Event{told(t, engagement.Click, "m-1", "/a", 5*time.Minute, "198.51.100.7")}},
		{"after a honeypot", []*engagement.Event{told(t, engagement.Click, "m-1", "/trap", time.Minute, ""), told(t, engagement.Click, "m-1", "/a", time.Minute, "")}},
		{"after all of them", []*engagement.Event{told(t, engagement.Open, "m-1", "", 2*time.Second, ""), told(t, engagement.Open, "m-1", "", 30*time.Second, ""), told(t, engagement.Click, "m-1", "/trap", time.Minute, "")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Profile
			p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
			for _, e := range tt.first {
				if a := p.Answered(e); a.Actor == engagement.Human || a.First {
					t.Fatalf("%+v was taken for a person's: %+v", e, a)
				}
			}
			if p.memory.sends[0].read {
				t.Fatal("the message counts as read before a person has answered it")
			}
			a := p.Answered(told(t, engagement.Click, "m-1", "/b", 3*time.Hour, ""))
			if a.Actor != engagement.Human || !a.First || a.Seconds != 3*3600 {
				t.Errorf("the first human answer: %+v", a)
			}
			// Later doubts keep their own labels and take nothing back.
			doubtful := told(t, engagement.Open, "m-1", "", 4*time.Hour, "")
			doubtful.Actor, doubtful.ActorRule = probable, engagement.RuleUserAgent
			if a := p.Answered(doubtful); a.Actor != probable || a.First || !p.memory.sends[0].read {
				t.Errorf("a doubtful open afterwards: %+v", a)
			}
			if a := p.Answered(told(t, engagement.Open, "m-1", "", 5*time.Hour, "")); a.Actor != engagement.Human || a.First {
				t.Errorf("a second human answer: %+v", a)
			}
		})
	}
}

// What is a machine's already must not make a customer's own opens look like one: the privacy proxy of a telephone opens at
// once what is read at a desk in the evening.
func TestMachinesTeachNothing(t *testing.T) {
	var p Profile
	for i := range 20 {
		id, at := string(rune('a'+i)), time.Duration(i)*24*time.Hour
		p.Sent(told(t, engagement.Delivered, id, "", at, ""))
		before := p.Append(nil)
		for _, kind := range []engagement.Kind{engagement.Open, engagement.Click} {
			e := told(t, kind, id, "/a", at+20*time.Second, "")
			e.Actor, e.ActorRule = engagement.Machine, engagement.RuleProvider
			if a := p.Answered(e); a.Actor != engagement.Machine || a.Rule != engagement.RuleProvider {
				t.Fatalf("%v: %v by %q", kind, a.Actor, a.Rule)
			}
		}
		if !slices.Equal(before, p.Append(nil)) {
			t.Fatal("a machine was remembered")
		}
		if a := p.Answered(told(t, engagement.Open, id, "", at+9*time.Hour, "")); a.Actor != engagement.Human || !a.First {
			t.Fatalf("the open of message %d: %+v", i+1, a)
		}
	}
}

// A person can click before the picture is fetched, or read with pictures blocked.
func TestAClickWithoutAnOpenIsAPersons(t *testing.T) {
	var p Profile
	p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
	if a := p.Answered(told(t, engagement.Click, "m-1", "/a", 2*time.Minute, "")); a.Actor != engagement.Human || !a.First {
		t.Errorf("%+v", a)
	}
}

func TestRepliesAreNeverFiltered(t *testing.T) {
	for _, after := range []time.Duration{-time.Hour, -time.Second, 0, time.Second, 30 * time.Second, time.Hour} {
		var p Profile
		p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
		p.Answered(told(t, engagement.Click, "m-1", "/trap", after, ""))
		if a := p.Answered(told(t, engagement.Reply, "m-1", "", after, "198.51.100.7")); a.Actor != engagement.Human || !a.First {
			t.Errorf("%v after the delivery: %+v", after, a)
		}
	}
}

// The limits are what docs/machine-opens.md says they are, to the second, for opens and for clicks.
func TestLimitsOfTooSoonAndBurst(t *testing.T) {
	for _, kind := range []engagement.Kind{engagement.Open, engagement.Click} {
		for _, tt := range []struct {
			after time.Duration
			actor engagement.Actor
			rule  string
		}{
			{-time.Second, engagement.Machine, RuleBeforeDelivery}, {0, engagement.Machine, RuleTooSoon}, {9 * time.Second, engagement.Machine, RuleTooSoon},
			{10 * time.Second, engagement.Probable, RuleTooSoon}, {59 * time.Second, engagement.Probable, RuleTooSoon}, {60 * time.Second, engagement.Human, ""},
		} {
			var p Profile
			p.Sent(told(t, engagement.Delivered, "m-1", "", 0, ""))
			if a := p.Answered(told(t, kind, "m-1", "/a", tt.after, "")); a.Actor != tt.actor || a.Rule != tt.rule {
				t.Errorf("%v %v after the delivery: %v by %q, want %v by %q", kind, tt.after, a.Actor, a.Rule, tt.actor, tt.rule)
			}
		}
	}
	for after, actor := range map[time.Duration]engagement.Actor{-6 * time.Second: engagement.Human, -5 * time.Second: engagement.Machine, 0: engagement.Machine, 5 * time.Second: engagement.Machine, 6 * time.Second: engagement.Human} {
		var p Profile
		p.Answered(told(t, engagement.Click, "m-1", "/a", time.Hour, ""))
		if a := p.Answered(told(t, engagement.Click, "m-1", "/b", time.Hour+after, "")); a.Actor != actor {
			t.Errorf("another link %v after the first: %v, want %v", after, a.Actor, actor)
		}
		p = Profile{}
		p.Answered(told(t, engagement.Click, "m-1", "/a", time.Hour, ""))
		if a := p.Answered(told(t, engagement.Click, "m-2", "/b", time.Hour+after, "")); a.Actor != engagement.Human {
			t.Errorf("a link of another message %v after the first: %v", after, a.Actor)
		}
	}
}
