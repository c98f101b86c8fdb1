package evaluation

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/pkg/domain/timing/fit"
)

var noon = time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC) // a Monday; 12 o'clock in Rome

func in(t testing.TB, name string) *time.Location {
	t.Helper()
	zone, err := calendar.Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func at(minutes int, kind engagement.Kind, message string) engagement.Event {
	return engagement.Event{Subject: "ann", Channel: "email", Time: noon.Add(time.Duration(minutes) * time.Minute), Kind: kind, Message: message}
}

func TestALogKeepsWhatCounts(t *testing.T) {
	b := NewBuilder(in(t, "Europe/Rome"))
	machine := at(30, engagement.Open, "m")
	machine.Actor = engagement.Machine
	abroad := at(300, engagement.Click, "m")
	abroad.Zone = "America/New_York"
	other := at(0, engagement.Open, "")
	other.Channel = "sms"
	for _, e := range []engagement.Event{
		at(600, engagement.Open, ""), // after abroad: the zone is remembered
		abroad,
		at(45, engagement.Open, "m"),
		at(45, engagement.Open, "m"), // told twice
		at(60, engagement.Open, "m"), // the same sitting
		at(0, engagement.Delivered, "m"),
		at(-1, engagement.Open, "m"), // before its delivery, of which nobody knows then
		at(1, engagement.Bounce, "m"),
		at(2, engagement.Sent, "n"),
		machine, other,
	} {
		b.Add(&e)
	}
	l := b.Log()
	if want := (Summary{Customers: 2, Deliveries: 1, Engaged: 6, Sittings: 5, Machine: 1, Repeated: 1, Days: 1}); l.Summary() != want {
		t.Errorf("%+v, want %+v", l.Summary(), want)
	}
	var hours []int
	for _, e := range l.people[0].events {
		hours = append(hours, int(e.at()%24))
	}
	if want := []int{11, 12, 12, 13, 11, 16}; !reflect.DeepEqual(hours, want) { // the click at 17 in Rome is at 11 in New York
		t.Errorf("local hours %v, want %v", hours, want)
	}
	if age := l.people[0].events[4].age; age != 5 {
		t.Errorf("the click came 5 hours after its message, not %d", age)
	}
	if age := l.people[0].events[5].age; age != fit.UnknownAge {
		t.Errorf("an open without a message has age %d", age)
	}
}

// As in the profiler, a click on a link that no person sees gives the clicks around it away, and a click from a network of scanners
// and of people is a person's once some minutes have passed.
func TestALogKeepsTheRulesThatOthersAskFor(t *testing.T) {
	b := NewBuilder(in(t, "Europe/Rome"))
	click := func(seconds int, link string, actor engagement.Actor, rule string) {
		e := at(600, engagement.Click, "m")
		e.Time, e.Link, e.Actor, e.ActorRule = e.Time.Add(time.Duration(seconds)*time.Second), link, actor, rule
		b.Add(&e)
	}
	delivered := at(0, engagement.Delivered, "m")
	b.Add(&delivered)
	click(0, "https://example.com/none", engagement.Machine, engagement.RuleHoneypot)
	click(6, "https://example.com/a", engagement.Human, "")
	click(3600, "https://example.com/b", engagement.Probable, engagement.RuleSharedNetwork)
	click(7200, "https://example.com/c", engagement.Probable, engagement.RuleUserAgent)
	l := b.Log()
	if got := l.people[0].events; len(got) != 2 || got[1].age != 11 || l.Summary().Machine != 3 {
		t.Errorf("%+v, of machines %d; want the delivery, the click 11 hours after it, and 3", got, l.Summary().Machine)
	}
}

func TestALogDoesNotDependOnTheOrderOfItsEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []engagement.Event
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			e := at(rapid.IntRange(0, 20000).Draw(t, "minute"), rapid.SampledFrom([]engagement.Kind{engagement.Delivered, engagement.Open, engagement.Click}).Draw(t, "kind"),
				rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "message"))
			e.Subject = rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "customer")
			events = append(events, e)
		}
		one := NewBuilder(time.UTC)
		for i := range events {
			one.Add(&events[i])
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		other := NewBuilder(time.UTC)
		for i := range events {
			other.Add(&events[i])
		}
		if a, b := one.Log(), other.Log(); !reflect.DeepEqual(a, b) {
			t.Fatalf("%+v\n%+v", a, b)
		}
	})
}

func TestTheDayEndsWhereMostLive(t *testing.T) {
	b := NewBuilder(in(t, "Europe/Rome"))
	for i := range 5 {
		e := at(60*i, engagement.Open, "")
		if i > 1 {
			e.Zone = "Asia/Tokyo"
		}
		b.Add(&e)
	}
	if zone := b.Log().zone.String(); zone != "Asia/Tokyo" {
		t.Errorf("the day ends in %s", zone)
	}
}
