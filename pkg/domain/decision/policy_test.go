package decision

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/customer"
)

func TestDefaultIsValid(t *testing.T) {
	p := Default()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if again := Default(); &again.Channels == &p.Channels || !reflect.DeepEqual(p, again) {
		t.Error("two defaults are not alike")
	}
	p.Channels["email"] = Channel{}
	if again := Default(); again.Channels["email"].Threshold != 80 {
		t.Error("who changes one default changes the next")
	}
}

// broken are policies with one fault each, and the field that is to be named.
var broken = []struct {
	sentence string
	fault    func(*Policy)
	path     string
	says     string
}{
	{"a zone is an IANA name", func(p *Policy) { p.Zone = "Milano" }, "zone", "Europe/Rome"},
	{"a policy names a zone", func(p *Policy) { p.Zone = "" }, "zone", "Europe/Rome"},
	{"consent is one of two words", func(p *Policy) { p.Consent = "yes" }, "consent", "neither assumed nor required"},
	{"without channels nothing is decided", func(p *Policy) { p.Channels = nil }, "channels", "e.g. email"},
	{"channels are few", func(p *Policy) {
		for i := range MaxChannels {
			p.Channels[strings.Repeat("x", i+1)] = p.Channels["email"]
		}
	}, "channels", "at most 16"},
	{"a channel has a name", func(p *Policy) { p.Channels["E-Mail"] = p.Channels["sms"] }, "channels.E-Mail", "a-z, 0-9"},
	{"a channel has windows", channel(func(c *Channel) { c.Windows = nil }), "channels.email.windows", "00:00-24:00"},
	{"a window is not empty", channel(func(c *Channel) { c.Windows = append(c.Windows, calendar.Opening{Days: 1}) }), "channels.email.windows[1]", "is empty"},
	{"windows are few", channel(func(c *Channel) {
		for range MaxOpenings {
			c.Windows = append(c.Windows, c.Windows[0])
		}
	}), "channels.email.windows", "at most 42"},
	{"windows leave quiet hours", channel(func(c *Channel) { c.Windows, c.Prime = daily(22*60, 7*60), nil }), "channels.email.windows", "within quiet hours"},
	{"quiet hours end", func(p *Policy) { p.Quiet = calendar.Window{From: 0, To: 1440} }, "quiet", "fills the day"},
	{"a golden hour lies in a window", channel(func(c *Channel) { c.Prime = daily(14*60, 15*60) }), "channels.email.prime", "never counts"},
	{"a golden hour is not quiet", channel(func(c *Channel) { c.Windows, c.Prime = daily(0, 24*60), daily(21*60, 22*60) }), "channels.email.prime", "never counts"},
	{"a golden hour lies in a window of its day", channel(func(c *Channel) { c.Windows[0].Days, c.Prime[0].Days = 1, 2 }), "channels.email.prime", "never counts"},
	{"a fall-back lies in a window", channel(func(c *Channel) { c.FallBack = daily(18*60, 19*60) }), "channels.email.fall_back", "no request could end there"},
	{"a threshold is a score", channel(func(c *Channel) { c.Threshold = 101 }), "channels.email.threshold", "0 to 100"},
	{"a threshold is not negative", channel(func(c *Channel) { c.Threshold = -1 }), "channels.email.threshold", "0 to 100"},
	{"a cap can be remembered", channel(func(c *Channel) { c.CapPerDay = MaxCap + 1 }), "channels.email.cap_per_day", "33 is not between 0 (no cap) and 32"},
	{"a weekly cap is not negative", channel(func(c *Channel) { c.CapPerWeek = -1 }), "channels.email.cap_per_week", "-1"},
	{"a cap over all can be remembered", func(p *Policy) { p.CapPerWeek = 33 }, "cap_per_week", "33"},
	{"a gap ends within a week", channel(func(c *Channel) { c.Gap = Duration(week + 1) }), "channels.email.gap", "168h"},
	{"a gap over all is not negative", func(p *Policy) { p.Gap = -1 }, "gap", "between 0 and 168h"},
	{"a collision ends within a week", func(p *Policy) { p.Collision = Duration(2 * week) }, "collision", "168h"},
	{"a decision lives for a while", channel(func(c *Channel) { c.Expiry = 0 }), "channels.email.expiry", "above 0"},
	{"a decision does not live for ever", channel(func(c *Channel) { c.Expiry = Duration(MaxExpiry + 1) }), "channels.email.expiry", "up to 24h"},
	{"a drift is no trigger", channel(func(c *Channel) { c.Triggers = []string{"burst", "drift"} }), "channels.email.triggers[1]", "neither burst nor reactivation"},
	{"a trigger stands once", channel(func(c *Channel) { c.Triggers = []string{"burst", "burst"} }), "channels.email.triggers[1]", "twice"},
	{"a priority has one digit", channel(func(c *Channel) { c.Priority = 10 }), "channels.email.priority", "0 and 9"},
	{"an overlap of nothing sends nothing", func(p *Policy) { p.Overlap = 0 }, "overlap", "0.15"},
	{"an overlap is a share", func(p *Policy) { p.Overlap = 15 }, "overlap", "0.15"},
	{"a feast is a day of the year", func(p *Policy) { p.Lead[0].Before = "25-12" }, "lead[0].before", "12-25"},
	{"a lead is at least a day", func(p *Policy) { p.Lead[0].Days = 0 }, "lead[0].days", "1 and 14"},
	{"a lead is no season", func(p *Policy) { p.Lead[0].Days = 15 }, "lead[0].days", "1 and 14"},
	{"a lead has a name", func(p *Policy) { p.Lead[0].Name = "" }, "lead[0].name", "no name"},
	{"a segment has a name", segment(func(s *Segment) { s.Name = "" }), "segments[0].name", "no name"},
	{"two segments have two names", func(p *Policy) {
		segment(func(*Segment) {})(p)
		p.Segments = append(p.Segments, p.Segments[0])
	}, "segments[1].name", "name of its own"},
	{"a segment has a condition", segment(func(s *Segment) { s.When = nil }), "segments[0].when", "everybody"},
	{"a condition asks for something", segment(func(s *Segment) { s.When["clv"] = Condition{} }), "segments[0].when.clv", "is, min or max"},
	{"a condition can hold", segment(func(s *Segment) { s.When["value"] = Condition{Min: new(2.), Max: new(2.)} }), "segments[0].when.value", "never holds"},
	{"a segment's channel is one of the policy's", segment(func(s *Segment) { s.Channels = map[string]Channel{"fax": {}} }), "segments[0].channels.fax", "under channels first"},
	{"a segment's channel is as good as the policy's", segment(func(s *Segment) {
		s.Channels = map[string]Channel{"sms": {Windows: daily(600, 720), Expiry: 1, Threshold: 101}}
	}), "segments[0].channels.sms.threshold", "0 to 100"},
	{"segments are not without number", func(p *Policy) {
		for i := range MaxSegments + 1 {
			p.Segments = append(p.Segments, Segment{Name: strings.Repeat("x", i%60+1) + strings.Repeat("y", i/60), When: map[string]Condition{"clv": {Is: []string{"high"}}}})
		}
	}, "segments", "at most 64"},
	{"an experiment has a name", func(p *Policy) { p.Experiment.Name = "" }, "experiment.name", "no name"},
	{"not everybody is held out", func(p *Policy) { p.Experiment.Holdout = 1 }, "experiment.holdout", "below 1"},
	{"exploration is a share", func(p *Policy) { p.Experiment.Exploration = 1.1 }, "experiment.exploration", "0 to 1"},
	{"a country is a code", func(p *Policy) { p.Calendars.National = []string{"IT", "Italy"} }, "calendars.national[1]", "e.g. IT"},
	{"a patron has a day", func(p *Policy) { p.Calendars.Patrons = map[string]string{"Milano": "7 dicembre"} }, "calendars.patrons.Milano", "12-07"},
	{"a closure has a name", closure(Closure{From: "2026-08-10"}), "calendars.closures[0].name", "no name"},
	{"a closure has a date", closure(Closure{Name: "x", From: "10-08-2026"}), "calendars.closures[0].from", "YYYY-MM-DD"},
	{"a closure ends on a date", closure(Closure{Name: "x", From: "2026-08-10", To: "2026-08-32"}), "calendars.closures[0].to", "YYYY-MM-DD"},
	{"a closure ends after it begins", closure(Closure{Name: "x", From: "2026-08-10", To: "2026-08-09"}), "calendars.closures[0].to", "is before 2026-08-10"},
	{"a recurrence is a word", closure(Closure{Name: "x", From: "2026-08-10", Every: "fortnight"}), "calendars.closures[0].every", "week, month and year"},
	{"what recurs every week is no longer than it", closure(Closure{Name: "x", From: "2026-08-10", To: "2026-08-17", Every: "week"}), "calendars.closures[0].to", "8 days are more than recur every week"},
	{"what does not recur has no until", closure(Closure{Name: "x", From: "2026-08-10", Until: "2026-08-17"}), "calendars.closures[0].until", "give every"},
	{"what recurs does so until after it begins", closure(Closure{Name: "x", From: "2026-08-10", Every: "week", Until: "2026-08-01"}), "calendars.closures[0].until", "is before 2026-08-10"},
	{"a recurrence ends on a date", closure(Closure{Name: "x", From: "2026-08-10", Every: "week", Until: "soon"}), "calendars.closures[0].until", "YYYY-MM-DD"},
	{"a day that is open is checked too", func(p *Policy) { p.Calendars.Open = []Closure{{Name: "x"}} }, "calendars.open[0].from", "YYYY-MM-DD"},
}

// channel is a fault of the channel email.
func channel(fault func(*Channel)) func(*Policy) {
	return func(p *Policy) {
		c := p.Channels["email"]
		fault(&c)
		p.Channels["email"] = c
	}
}

// segment is a fault of the only segment.
func segment(fault func(*Segment)) func(*Policy) {
	return func(p *Policy) {
		p.Segments = []Segment{{Name: "premium", When: map[string]Condition{"segment": {Is: []string{"premium"}}}}}
		fault(&p.Segments[0])
	}
}

func closure(c Closure) func(*Policy) {
	return func(p *Policy) { p.Calendars.Closures = []Closure{c} }
}

func TestValidateNamesTheFieldAndTheRemedy(t *testing.T) {
	for _, row := range broken {
		t.Run(row.sentence, func(t *testing.T) {
			p := Default()
			row.fault(&p)
			var ps Problems
			if err := p.Validate(); !errors.As(err, &ps) || len(ps) != 1 || ps[0].Path != row.path || !strings.Contains(ps[0].What, row.says) {
				t.Errorf("%v; want one problem at %s that says %q", err, row.path, row.says)
			}
		})
	}
}

// meet looks at few minutes; looking at all of them must find the same.
func TestMeetIsAsGoodAsLookingAtEveryMinute(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opening := rapid.Custom(func(t *rapid.T) calendar.Opening {
			return calendar.Opening{Days: uint8(rapid.IntRange(0, 127).Draw(t, "days")), Window: anyWindow(t)}
		})
		a, b := rapid.SliceOfN(opening, 0, 2).Draw(t, "a"), rapid.SliceOfN(opening, 0, 2).Draw(t, "b")
		quiet := anyWindow(t)
		want := false
		for day := range time.Weekday(7) {
			for minute := range 24 * 60 {
				in := func(o calendar.Opening) bool { return o.Contains(day, minute) }
				want = want || !quiet.Contains(minute) && slices.ContainsFunc(a, in) && slices.ContainsFunc(b, in)
			}
		}
		if meet(quiet, a, b) != want {
			t.Fatalf("%v and %v without %v: %v", a, b, quiet, !want)
		}
	})
}

// anyWindow has few hours, so that two often touch.
func anyWindow(t *rapid.T) calendar.Window {
	return calendar.Window{From: 60 * rapid.IntRange(0, 23).Draw(t, "from"), To: 60 * rapid.IntRange(0, 24).Draw(t, "to")}
}

func TestValidateNamesEverythingAtOnce(t *testing.T) {
	var p Policy
	p.Channels = map[string]Channel{"sms": {Threshold: 200}}
	p.Lead = []Lead{{}}
	got := p.Validate().Error()
	for _, path := range []string{"zone: ", "consent: ", "channels.sms.windows: ", "channels.sms.threshold: ", "channels.sms.expiry: ", "overlap: ", "lead[0].name: ", "lead[0].before: ", "lead[0].days: ", "experiment.name: "} {
		if !strings.Contains("\n"+got, "\n"+path) {
			t.Errorf("nothing is said of %s:\n%s", path, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 10 {
		t.Errorf("%d problems:\n%s", n, got)
	}
}

func attributes(t *testing.T, data string) *customer.Attributes {
	t.Helper()
	if data == "" {
		return nil
	}
	a := new(customer.Attributes)
	if err := a.Parse([]byte(data)); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConditionsOnWhatIsKnown(t *testing.T) {
	const milano = `{"zone":"Europe/Rome","segment":"premium","value":812.5,"place":{"country":"IT","region":"Lombardia","province":"MI","comune":"Milano"},
		"attributes":{"clv":"high","orders":5,"vip":true,"empty":"","country":"FR"}}`
	for _, row := range []struct {
		sentence, attributes, name string
		condition                  Condition
		held                       bool
		found                      string
	}{
		{"a value of at least the least", milano, "value", Condition{Min: new(812.5)}, true, "812.5"},
		{"a value below the least", milano, "value", Condition{Min: new(813.)}, false, "812.5"},
		{"a value of the most is too much", milano, "value", Condition{Max: new(812.5)}, false, "812.5"},
		{"a value between the two", milano, "value", Condition{Min: new(0.), Max: new(1000.)}, true, "812.5"},
		{"a value that is a number in a list", milano, "value", Condition{Is: []string{"1", "812.50"}}, true, "812.5"},
		{"a segment of the list", milano, "segment", Condition{Is: []string{"gold", "premium"}}, true, `"premium"`},
		{"another segment", milano, "segment", Condition{Is: []string{"Premium"}}, false, `"premium"`},
		{"a segment has no size", milano, "segment", Condition{Min: new(0.)}, false, `"premium"`},
		{"a zone", milano, "zone", Condition{Is: []string{"Europe/Rome"}}, true, `"Europe/Rome"`},
		{"a country is the place's, not an attribute of that name", milano, "country", Condition{Is: []string{"IT"}}, true, `"IT"`},
		{"a region", milano, "region", Condition{Is: []string{"Lombardia"}}, true, `"Lombardia"`},
		{"a province", milano, "province", Condition{Is: []string{"MI"}}, true, `"MI"`},
		{"a comune", milano, "comune", Condition{Is: []string{"Milano"}}, true, `"Milano"`},
		{"a text of the operator's", milano, "clv", Condition{Is: []string{"high"}}, true, `"high"`},
		{"a number of the operator's", milano, "orders", Condition{Min: new(5.)}, true, "5"},
		{"a number is compared as one", milano, "orders", Condition{Is: []string{"5.0"}}, true, "5"},
		{"a truth value", milano, "vip", Condition{Is: []string{"true"}}, true, "true"},
		{"everything that is given must hold", milano, "orders", Condition{Is: []string{"5"}, Min: new(6.)}, false, "5"},
		{"an empty text is a text", milano, "empty", Condition{Is: []string{""}}, true, `""`},
		{"a list says nothing", milano, "tags", Condition{Is: []string{"a"}}, false, ""},
		{"what is not known does not hold", milano, "city", Condition{Is: []string{""}}, false, ""},
		{"a value that is not known is not zero", `{}`, "value", Condition{Max: new(10.)}, false, ""},
		{"of a customer of whom nothing is known nothing holds", "", "segment", Condition{Is: []string{"premium"}}, false, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			a := attributes(t, row.attributes)
			if a != nil && a.More != nil {
				a.More["tags"] = json.RawMessage(`["a"]`)
			}
			if held, found := row.condition.Holds(row.name, a); held != row.held || found != row.found {
				t.Errorf("%v, %s", held, found)
			}
		})
	}
}

func TestForTakesTheFirstSegmentThatFits(t *testing.T) {
	p := Default()
	own := p.Channels["email"]
	own.Threshold = 60
	p.Segments = []Segment{
		{Name: "north", When: map[string]Condition{"region": {Is: []string{"Lombardia"}}, "value": {Min: new(100.)}}, Channels: map[string]Channel{"email": own}},
		{Name: "rich", When: map[string]Condition{"value": {Min: new(500.)}}, Channels: map[string]Channel{"sms": own}},
	}
	for _, row := range []struct {
		sentence, channel, attributes string
		threshold                     int
		segment                       string
		ok                            bool
	}{
		{"nobody's segment", "email", `{}`, 80, "", true},
		{"nothing is known", "email", "", 80, "", true},
		{"all conditions hold", "email", `{"value":100,"place":{"region":"Lombardia"}}`, 60, "north", true},
		{"one condition does not", "email", `{"value":99,"place":{"region":"Lombardia"}}`, 80, "", true},
		{"the first counts", "sms", `{"value":900,"place":{"region":"Lombardia"}}`, 80, "north", true},
		{"a segment with other channels", "email", `{"value":900}`, 80, "rich", true},
		{"a segment with this channel", "sms", `{"value":900}`, 60, "rich", true},
		{"a channel that there is not", "fax", `{"value":900}`, 0, "", false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			c, name, ok := p.For(row.channel, attributes(t, row.attributes))
			if ok != row.ok || name != row.segment || ok && c.Threshold != row.threshold {
				t.Errorf("%+v, %q, %v", c, name, ok)
			}
		})
	}
}

func TestLeadCoversTheDaysBefore(t *testing.T) {
	for _, row := range []struct {
		sentence, day string
		lead          Lead
		covers        bool
	}{
		{"the day before", "2026-12-24", Lead{Before: "12-25", Days: 3}, true},
		{"the third day before", "2026-12-22", Lead{Before: "12-25", Days: 3}, true},
		{"the fourth is free", "2026-12-21", Lead{Before: "12-25", Days: 3}, false},
		{"the feast itself", "2026-12-25", Lead{Before: "12-25", Days: 3}, false},
		{"the year before", "2026-12-31", Lead{Before: "01-01", Days: 1}, true},
		{"over the end of February in a leap year", "2028-02-29", Lead{Before: "03-01", Days: 1}, true},
		{"what is no day covers none", "2026-12-24", Lead{Before: "Christmas", Days: 3}, false},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			at, err := time.Parse(time.DateOnly, row.day)
			if err != nil {
				t.Fatal(err)
			}
			if row.lead.Covers(calendar.DayOf(at, time.UTC)) != row.covers {
				t.Errorf("%+v on %s", row.lead, row.day)
			}
		})
	}
}

func TestDurationHasNoZeroUnits(t *testing.T) {
	for _, text := range []string{"0s", "30s", "20m", "1h", "24h", "1h30m", "1h0m5s", "100h", "-2h"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.String() != text {
			t.Errorf("%s is written %s, %v", text, d, err)
		}
	}
	var d Duration
	if err := d.UnmarshalText([]byte("a day")); err == nil || !strings.Contains(err.Error(), "24h") {
		t.Error(err)
	}
}

func TestDraftTakesWhatIsLeftOutFromTheDefault(t *testing.T) {
	email, text := Default().Channels["email"], Default().Channels["sms"]
	for _, row := range []struct {
		sentence, file string
		change         func(*Policy)
	}{
		{"nothing is said", `{}`, func(*Policy) {}},
		{"one field is said", `{"consent":"required"}`, func(p *Policy) { p.Consent = Required }},
		{"quiet hours can be given up", `{"quiet":""}`, func(p *Policy) { p.Quiet = calendar.Window{} }},
		{"part of an object is said", `{"experiment":{"holdout":0.1}}`, func(p *Policy) { p.Experiment.Holdout = .1 }},
		{"a list is said as a whole", `{"lead":[{"name":"Easter sale","before":"04-01","days":1}]}`, func(p *Policy) { p.Lead = []Lead{{"Easter sale", "04-01", 1}} }},
		{"a list can be emptied", `{"lead":[]}`, func(p *Policy) { p.Lead = []Lead{} }},
		{"channels that are not named are none", `{"channels":{"email":{}}}`, func(p *Policy) { p.Channels = map[string]Channel{"email": email} }},
		{"a channel takes from its namesake", `{"channels":{"sms":{"cap_per_week":1}}}`, func(p *Policy) {
			c := text
			c.CapPerWeek = 1
			p.Channels = map[string]Channel{"sms": c}
		}},
		{"golden hours go with windows", `{"channels":{"sms":{"windows":["mon-fri 09:00-10:00"]}}}`, func(p *Policy) {
			c := text
			c.Windows, c.Prime = []calendar.Opening{{Days: 31, Window: calendar.Window{From: 540, To: 600}}}, nil
			p.Channels = map[string]Channel{"sms": c}
		}},
		{"a channel that the default does not have is like email, without triggers", `{"channels":{"chat":{"windows":["09:00-10:00"]}}}`, func(p *Policy) {
			c := email
			c.Windows, c.Prime, c.Triggers = daily(540, 600), nil, []string{}
			p.Channels = map[string]Channel{"chat": c}
		}},
		{"a segment takes from the policy's channel", `{"segments":[{"name":"vip","when":{"orders":{"is":[5,true,"x"]}},"channels":{"email":{"threshold":50}}}],"channels":{"email":{"threshold":70,"gap":"12h"}}}`, func(p *Policy) {
			c := email
			c.Threshold, c.Gap = 70, Duration(12*time.Hour)
			p.Channels = map[string]Channel{"email": c}
			c.Threshold = 50
			p.Segments = []Segment{{"vip", map[string]Condition{"orders": {Is: []string{"5", "true", "x"}}}, map[string]Channel{"email": c}}}
		}},
		{"a segment may only have a name", `{"segments":[{"name":"vip","when":{"value":{"min":500}}}]}`, func(p *Policy) {
			p.Segments = []Segment{{Name: "vip", When: map[string]Condition{"value": {Min: new(500.)}}}}
		}},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			want := Default()
			want.Version, want.Closed = "", nil
			row.change(&want)
			got, err := Draft([]byte(row.file))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("\n got %s\nwant %s", got.Append(nil), want.Append(nil))
			}
		})
	}
}

func TestDraftNamesWhatItCannotRead(t *testing.T) {
	for _, row := range []struct{ sentence, file, want string }{
		{"a field that is nearly one", `{"chanels":{}}`, "chanels: there is no such field: did you mean channels?"},
		{"a field that is none", `{"experiment":{"arms":3}}`, "experiment.arms: there is no such field; there are exploration, holdout, name"},
		{"a field of a channel", `{"channels":{"email":{"window":["09:00-10:00"]}}}`, "channels.email.window: there is no such field: did you mean windows?"},
		{"a version", `{"version":"3"}`, "version: comes when the policy is put into force: leave it out"},
		{"closed days", `{"closed":{}}`, "closed: comes when the policy is put into force: leave it out"},
		{"nothing", `{"channels":null}`, "channels: is empty: give fields with names, or leave the field out"},
		{"a list is no object", `{"channels":["email"]}`, "channels: is a list, not fields with names"},
		{"an object is no list", `{"channels":{"email":{"windows":{}}}}`, "channels.email.windows: has fields, and is to be a list"},
		{"a text is no list", `{"channels":{"email":{"windows":"09:00-10:00"}}}`, `channels.email.windows: "09:00-10:00" is not a list`},
		{"a number is no text", `{"zone":5}`, "zone: 5 is not text: put it in quotes"},
		{"a number is no window", `{"quiet":930}`, "quiet: 930 is not text: put it in quotes"},
		{"a text is no number", `{"cap_per_day":"two"}`, `cap_per_day: "two" is not a whole number`},
		{"a fraction is no whole number", `{"cap_per_day":1.5}`, "cap_per_day: 1.5 is not a whole number"},
		{"a number that is too large", `{"overlap":1e999}`, "overlap: 1e999 is not a number"},
		{"a text is no truth value", `{"calendars":{"bank":"yes"}}`, `calendars.bank: "yes" is not true or false`},
		{"an item of a list", `{"calendars":{"national":["IT",true]}}`, "calendars.national[1]: true is not text: put it in quotes"},
		{"a duration", `{"gap":"1 day"}`, `gap: "1 day" is no duration such as 24h or 1h30m`},
		{"a closure's place", `{"calendars":{"closures":[{"name":"x","from":"2026-01-01","where":{"city":"Milano"}}]}}`, "calendars.closures[0].where.city: there is no such field; there are comune, country, province, region"},
		{"a policy is an object", `[]`, "is a list, not fields with names"},
		{"no JSON", `{`, "read policy: unexpected EOF"},
		{"two objects", `{}{}`, "read policy: something follows the object"},
		{"a channel that could not be read hides no other", `{"channels":{"sms":[],"sms2":{"windows":["09:00-10:00"],"threshold":101}}}`, "channels.sms: is a list, not fields with names\nchannels.sms2.threshold: 101 is no score, 0 to 100"},
		{"what could not be read is not checked as well", `{"quiet":1,"cap_per_week":99}`, "quiet: 1 is not text: put it in quotes\ncap_per_week: 99 is not between 0 (no cap) and 32"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			if _, err := Draft([]byte(row.file)); err == nil || err.Error() != row.want {
				t.Errorf("\n got %v\nwant %v", err, row.want)
			}
		})
	}
}

func TestParseReadsWhatIsInForce(t *testing.T) {
	p := Default()
	data := p.Append(nil)
	var got Policy
	if err := got.Parse(data); err != nil || string(got.Append(nil)) != string(data) {
		t.Errorf("%v\n got %s\nwant %s", err, got.Append(nil), data)
	}
	later := strings.Replace(string(data), "{", `{"later":1,`, 1)
	if err := got.Parse([]byte(later)); err != nil {
		t.Errorf("a field of a later version: %v", err)
	}
	record := func(typ string) []byte { return []byte(`{"type":"` + typ + `","data":` + string(data) + `}`) }
	if q, err := ParsePolicyRecord(record(PolicyType)); err != nil || q.Version != p.Version {
		t.Error(err)
	}
	if _, err := ParsePolicyRecord(record("io.tempismo.model.v1")); err == nil || !strings.Contains(err.Error(), PolicyType) {
		t.Error(err)
	}
	p.Version, p.Closed, p.Overlap = "", nil, 2
	err := got.Parse(p.Append(nil))
	for _, path := range []string{"version: ", "closed: ", "overlap: "} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("nothing is said of %s: %v", path, err)
		}
	}
}

// A policy that is valid is the same when it was written down and read again, on the topic and as a file.
func TestPoliciesSurviveWriting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		if err := p.Validate(); err != nil {
			t.Fatalf("the generator is wrong: %v", err)
		}
		data := p.Append(nil)
		var again Policy
		if err := again.Parse(data); err != nil || string(again.Append(nil)) != string(data) {
			t.Fatalf("%v\n got %s\nwant %s", err, again.Append(nil), data)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "version")
		delete(fields, "closed")
		file, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		draft, err := Draft(file)
		if err != nil {
			t.Fatalf("%v\n%s", err, file)
		}
		draft.Version, draft.Closed = p.Version, p.Closed
		if string(draft.Append(nil)) != string(data) {
			t.Fatalf("as a file\n got %s\nwant %s", draft.Append(nil), data)
		}
	})
}

func anyPolicy(t *rapid.T) Policy {
	p := Default()
	p.Zone = rapid.SampledFrom([]string{"Europe/Rome", "America/New_York", "Asia/Kolkata"}).Draw(t, "zone")
	p.Consent = rapid.SampledFrom([]Consent{Assumed, Required}).Draw(t, "consent")
	p.CapPerDay = rapid.IntRange(0, MaxCap).Draw(t, "cap")
	p.Gap = Duration(rapid.Int64Range(0, int64(week)).Draw(t, "gap"))
	p.Overlap = rapid.Float64Range(.01, 1).Draw(t, "overlap")
	p.Channels = rapid.MapOfN(rapid.StringMatching(`[a-z]{1,5}|email`), rapid.Custom(anyChannel), 1, 3).Draw(t, "channels")
	if rapid.Bool().Draw(t, "no lead") {
		p.Lead = nil
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "segments") {
		s := Segment{Name: strings.Repeat("s", i+1), When: map[string]Condition{"clv": {Is: []string{"high", "7"}}, "value": {Min: new(rapid.Float64Range(-5, 5).Draw(t, "min"))}}}
		for name := range p.Channels {
			s.Channels = map[string]Channel{name: anyChannel(t)}
		}
		p.Segments = append(p.Segments, s)
	}
	p.Experiment = Experiment{rapid.StringMatching(`[a-z é]{1,9}x`).Filter(func(s string) bool { return strings.TrimSpace(s) == s }).Draw(t, "name"), rapid.Float64Range(0, .9).Draw(t, "holdout"), rapid.Float64Range(0, 1).Draw(t, "exploration")}
	p.Calendars.Closures = []Closure{{Name: "inventory", From: "2026-01-31", Every: "month", Where: calendar.Place{Comune: rapid.StringMatching(`[A-Z][a-zàèìòù' ]{0,9}`).Draw(t, "comune")}}}
	return p
}

func anyChannel(t *rapid.T) Channel {
	c := Channel{
		Windows:    rapid.SliceOfN(rapid.Custom(anyOpening), 1, 3).Draw(t, "windows"),
		Threshold:  rapid.IntRange(0, 100).Draw(t, "threshold"),
		CapPerWeek: rapid.IntRange(0, MaxCap).Draw(t, "cap"),
		Gap:        Duration(rapid.Int64Range(0, int64(week)).Draw(t, "gap")),
		Expiry:     Duration(rapid.Int64Range(1, int64(MaxExpiry)).Draw(t, "expiry")),
		Triggers:   rapid.SampledFrom([][]string{nil, {"burst"}, {"reactivation", "burst"}}).Draw(t, "triggers"),
		Priority:   rapid.IntRange(0, MaxPriority).Draw(t, "priority"),
	}
	if rapid.Bool().Draw(t, "prime") {
		c.Prime = c.Windows[:1]
	}
	if rapid.Bool().Draw(t, "fall-back") {
		c.FallBack = c.Windows[:1]
	}
	return c
}

// anyOpening is one by day, so that quiet hours leave some of it.
func anyOpening(t *rapid.T) calendar.Opening {
	from := rapid.IntRange(8*60, 20*60).Draw(t, "from")
	return calendar.Opening{Days: uint8(rapid.IntRange(0, 126).Draw(t, "days")), Window: calendar.Window{From: from, To: rapid.IntRange(from+1, 21*60).Draw(t, "to")}}
}

func FuzzDraft(f *testing.F) {
	p := Default()
	f.Add(p.Append(nil))
	f.Add([]byte(`{"channels":{"email":{"windows":["mon-fri 09:00-10:00"],"gap":"1h"}},"segments":[{"name":"x","when":{"a":{"is":[1,true],"min":1}},"channels":{"email":{}}}]}`))
	f.Add([]byte(`{"lead":[null],"segments":{"a":1},"calendars":{"patrons":{"Milano":"12-07"},"open":[{"from":"2026-01-01","where":{}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Draft(data)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error that says nothing")
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("a draft that was read is not valid: %v", err)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	p := Default()
	f.Add(p.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p, again Policy
		if p.Parse(data) != nil {
			return
		}
		b := p.Append(nil)
		if err := again.Parse(b); err != nil || string(again.Append(nil)) != string(b) {
			t.Errorf("%v\n got %s\nwant %s", err, again.Append(nil), b)
		}
	})
}
