package engagement_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

func TestParseListsNamesEveryWrongLine(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a wrong actor", "date 2026-11-29\nrobot contains bot", `line 2: "robot contains bot": the first word must be machine`},
		{"a wrong comparison", "date 2026-11-29\n\n# remark\nmachine starts bot", "line 4: \"machine starts bot\": the second word must be is, ends or contains"},
		{"a lonely word", "date 2026-11-29\nmachine", "the second word must be"},
		{"nothing to compare with", "date 2026-11-29\nmachine is", "is missing"},
		{"a text that is in everything", "date 2026-11-29\nmachine contains 5.", "fewer than 3 letters"},
		{"a network that is none", "date 2026-11-29\nmachine network example.com", "give a network such as 192.0.2.0/24"},
		{"an address within a network", "date 2026-11-29\nmachine network 209.222.86.3/24", "did you mean 209.222.86.0/24?"},
		{"half of the Internet", "date 2026-11-29\nmachine network 0.0.0.0/1", "at least 8 bits"},
		{"all of IPv4", "date 2026-11-29\nmachine network ::ffff:0:0/96", "at least 8 bits"},
		{"more than all of IPv4", "date 2026-11-29\nmachine network ::ffff:0:0/95", "not the beginning of one"},
		{"an address with a zone", "date 2026-11-29\nmachine network fe80::1%eth0", "give a network"},
		{"a contradiction", "date 2026-11-29\nmachine network 192.0.2.0/24\nhuman network 192.0.2.0/24", `line 3: "human network 192.0.2.0/24": another line says that 192.0.2.0/24 is machine`},
		{"a contradiction in other words", "date 2026-11-29\nmachine network 192.0.2.1\nhuman network ::ffff:192.0.2.1/128", "another line says that 192.0.2.1/32 is machine"},
		{"a honeypot that is a whole link", "date 2026-11-29\nhoneypot is https://example.com/x", "a honeypot is a part of a link"},
		{"a date in another form", "date 29.11.2026", "give a date as in"},
		{"no date", "machine contains bot", "there is no date"},
		{"nothing at all", "", "there is no date"},
		{"not text", "date 2026-11-29\nmachine contains b\xffot", "is not text in UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := engagement.ParseLists(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want %s", l, err, tt.want)
			}
		})
	}

	t.Run("all at once", func(t *testing.T) {
		_, err := engagement.ParseLists("a\nb\nc\n")
		if err == nil || strings.Count(err.Error(), "\n") != 3 {
			t.Errorf("got %v, want three lines and the date that is missing", err)
		}
	})
	t.Run("but not without end", func(t *testing.T) {
		_, err := engagement.ParseLists("date 2026-11-29\n" + strings.Repeat("x\n", 5000))
		if err == nil || !strings.HasSuffix(err.Error(), "and 4980 more") || len(err.Error()) > 4000 {
			t.Errorf("got %v", err)
		}
	})
}

func TestParseLists(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"lines of another system, tabs, remarks", "# mine\r\ndate\t2026-11-29\r\nmachine\tcontains  curl/ 8\r\n", "of 2026-11-29: 1 user agents, 0 networks, 0 honeypots"},
		{"the older of two dates, for lists put together", "date 2026-11-29\ndate 2026-01-02\ndate 2026-02-03", "of 2026-01-02: 0 user agents, 0 networks, 0 honeypots"},
		{"the same network twice", "date 2026-11-29\nmachine network 192.0.2.0/24\nmachine network 192.0.2.0/24", "of 2026-11-29: 0 user agents, 1 networks, 0 honeypots"},
		{"an operator's own", own, "of 2026-11-29: 3 user agents, 4 networks, 1 honeypots"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := lists(t, tt.text).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// The lists that come with the program can be put together in a file of an operator.
func TestDefaultLists(t *testing.T) {
	text := ""
	for _, name := range []string{"agents.txt", "networks.txt"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lists(t, string(b)) // each by itself
		text += string(b)
	}
	if got, want := lists(t, text).String(), engagement.DefaultLists().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	l := engagement.DefaultLists()
	for _, tt := range []struct {
		name, addr string
		kind       engagement.Kind
		actor      engagement.Actor
	}{
		{"Microsoft's filter of mail, an open", "40.107.1.2", engagement.Open, engagement.Machine},
		{"Microsoft's filter of mail, a click", "2a01:111:f403::25", engagement.Click, engagement.Machine},
		{"the last address of a network", "52.103.255.255", engagement.Click, engagement.Machine},
		{"the first address behind it", "52.104.0.0", engagement.Click, engagement.Human},
		{"the last address before one", "40.91.255.255", engagement.Click, engagement.Human},
		{"Barracuda", "209.222.82.10", engagement.Click, engagement.Machine},
		{"Outlook on the web shows pictures to people", "40.96.0.1", engagement.Open, engagement.Human},
		{"and so does Gmail", "66.249.80.1", engagement.Open, engagement.Human},
	} {
		if actor, _ := l.Classify(tt.kind, false, "", netip.MustParseAddr(tt.addr)); actor != tt.actor {
			t.Errorf("%s: got %v, want %v", tt.name, actor, tt.actor)
		}
	}
}

func TestDefaultsAreAddedBehindOnesOwn(t *testing.T) {
	l := lists(t, `
date 2020-01-01
human    contains  our-bot
human    network   40.92.0.0/15
honeypot contains  trap
defaults`)
	for _, tt := range []struct {
		agent, addr string
		want        engagement.Actor
	}{
		{"our-bot", "203.0.113.1", engagement.Human},
		{"their-bot", "203.0.113.1", engagement.Machine},
		{"", "40.92.0.1", engagement.Human},
		{"", "40.107.0.1", engagement.Machine},
	} {
		if got, _ := l.Classify(engagement.Click, false, tt.agent, netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%q from %s: got %v, want %v", tt.agent, tt.addr, got, tt.want)
		}
	}
	if a, _ := engagement.Classify(engagement.Click, false, "our-bot"); a != engagement.Machine {
		t.Error("the shipped lists have changed")
	}
}

// The table finds what looking at each network in turn finds.
func TestNetworksAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few different bits, so that networks lie in each other and addresses at their edges.
		address := rapid.Custom(func(t *rapid.T) netip.Addr {
			bits := rapid.SampledFrom([]uint32{0, 0x01000000, 0x80000000, 0xff, 0x0100ffff, 0xffffffff, 0x01010101}).Draw(t, "bits") + rapid.Uint32Range(0, 2).Draw(t, "and")
			four := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, bits)))
			switch rapid.IntRange(0, 2).Draw(t, "form") {
			case 0:
				return four
			case 1:
				return netip.AddrFrom16(four.As16()) // IPv4 in IPv6
			}
			var six [16]byte
			six[0], six[15] = 0x20, byte(bits)
			binary.BigEndian.PutUint32(six[2:], bits)
			return netip.AddrFrom16(six)
		})
		type rule struct {
			prefix netip.Prefix
			actor  engagement.Actor
		}
		seen, text := map[netip.Prefix]bool{}, "date 2026-11-29\n"
		var rules []rule
		for range rapid.IntRange(0, 12).Draw(t, "networks") {
			addr := address.Draw(t, "network").Unmap()
			prefix := netip.PrefixFrom(addr, rapid.IntRange(8, addr.BitLen()).Draw(t, "length")).Masked()
			if seen[prefix] {
				continue
			}
			seen[prefix] = true
			r := rule{prefix, engagement.Actor(rapid.IntRange(0, int(engagement.Machine)).Draw(t, "actor"))}
			rules = append(rules, r)
			text += fmt.Sprintf("%v network %v\n", r.actor, r.prefix)
		}
		l, err := engagement.ParseLists(text)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			addr, want, bits := address.Draw(t, "address"), engagement.Human, -1
			for _, r := range rules {
				if r.prefix.Contains(addr.Unmap()) && r.prefix.Bits() > bits {
					want, bits = r.actor, r.prefix.Bits()
				}
			}
			if got, _ := l.Classify(engagement.Click, false, "", addr); got != want {
				t.Fatalf("%v: got %v, want %v by\n%s", addr, got, want, text)
			}
		}
	})
}

func TestAddressesAreLookedUpWithoutAllocation(t *testing.T) {
	l := lists(t, many(10_000))
	for _, addr := range []netip.Addr{{}, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("2001:db8::1")} {
		if n := testing.AllocsPerRun(100, func() { l.Classify(engagement.Click, false, "", addr) }); n != 0 {
			t.Errorf("%v: %v allocations", addr, n)
		}
	}
}

// many is a list of as many networks, some of them in others.
func many(n int) string {
	text := []byte("date 2026-11-29\nmachine network 10.0.0.0/8\n")
	for i := range n {
		text = fmt.Appendf(text, "machine network 10.%d.%d.%d/28\n", i>>12&255, i>>4&255, i&15<<4)
	}
	return string(text)
}

func BenchmarkNetworks(b *testing.B) {
	for _, row := range []struct {
		name string
		l    *engagement.Lists
	}{
		{"shipped", engagement.DefaultLists()},
		{"300000", lists(b, many(300_000))},
	} {
		var addrs []netip.Addr
		for i := range byte(64) {
			addrs = append(addrs, netip.AddrFrom4([4]byte{10, 4 * i, 3 * i, i}), netip.AddrFrom4([4]byte{40 + i, 4 * i, 3 * i, i}))
		}
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				row.l.Classify(engagement.Click, false, "", addrs[i%len(addrs)])
				i++
			}
		})
	}
}

// FuzzParseLists: whatever an operator's file holds, it is read or every problem is told, and what was read can be used.
func FuzzParseLists(f *testing.F) {
	for _, name := range []string{"agents.txt", "networks.txt"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b), "Mozilla/5.0", "40.107.1.2", "/a")
	}
	f.Add(own, "bot", "192.0.2.200", "/not-for-people")
	f.Add(own+"defaults\n", "", "::ffff:192.0.2.1", "")
	f.Add("date 2026-11-29\nmachine network ::ffff:192.0.2.0/120\nhuman network 192.0.2.0/25\nmachine network 2001:db8::/32\r\n", "x", "2001:db8::1%a", "y")
	f.Add("machine network 1.2.3.4/24\ndate 1\nhoneypot contains  \nmachine contains İİ", "İ", "1.2.3.4", "İİ")
	f.Fuzz(func(t *testing.T, text, agent, address, link string) {
		l, err := engagement.ParseLists(text)
		if (l == nil) == (err == nil) {
			t.Fatalf("got %v and %v", l, err)
		}
		if err != nil {
			if len(err.Error()) > 64<<10 {
				t.Fatalf("%d bytes about what is wrong", len(err.Error()))
			}
			return
		}
		addr, _ := netip.ParseAddr(address)
		for kind := engagement.Sent; kind <= engagement.Unsubscribe; kind++ {
			e := engagement.Event{Kind: kind, UserAgent: agent, Link: link}
			l.Judge(&e, false, addr)
			if (e.Actor == engagement.Human) != (e.ActorRule == "") {
				t.Fatalf("%v is %v by %q", kind, e.Actor, e.ActorRule)
			}
			if kind != engagement.Open && kind != engagement.Click && e.Actor != engagement.Human {
				t.Fatalf("%v is filtered by %q", kind, e.ActorRule)
			}
		}
	})
}
