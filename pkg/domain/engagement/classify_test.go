package engagement_test

import (
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
		{"an unsubscription is never filtered", engagement.Unsubscribe, true, "Mozilla/5.0", human, ""},
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
