package town

import (
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
)

var monday = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func found(tb testing.TB, seed uint64, customers int) *Town {
	tb.Helper()
	t, err := New(Config{Seed: seed, Customers: customers, Start: monday})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func TestEventsAreValidAndInOrderOfTime(t *testing.T) {
	town := found(t, 1, 60)
	var e engagement.Event
	var last time.Time
	ids := map[string]bool{}
	for range 20_000 {
		town.Next(&e)
		if err := e.Validate(); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if e.Time.Before(last) {
			t.Fatalf("time goes back from %s to %s", last, e.Time)
		}
		if last = e.Time; ids[e.ID] {
			t.Fatalf("id %q twice", e.ID)
		}
		ids[e.ID] = true
	}
}

func TestSameSeedSameTownOtherSeedAnother(t *testing.T) {
	a, b, c := found(t, 1, 40), found(t, 1, 40), found(t, 2, 40)
	var x, y, z engagement.Event
	differs := false
	for range 5_000 {
		a.Next(&x)
		b.Next(&y)
		c.Next(&z)
		if x != y {
			t.Fatalf("same seed, but %+v and %+v", x, y)
		}
		differs = differs || x != z
	}
	if !differs {
		t.Error("another seed gave the same town")
	}
}

func TestWhatACustomerDoesDependsOnNobodyElse(t *testing.T) {
	var few, many []string
	collect := func(customers int) (lines []string) {
		town := found(t, 3, customers)
		var e engagement.Event
		for len(lines) < 200 {
			if town.Next(&e); e.Subject == "C-00001" {
				lines = append(lines, string(e.Append(nil)))
			}
		}
		return lines
	}
	few, many = collect(1), collect(50)
	for i := range few {
		if few[i] != many[i] {
			t.Fatalf("event %d of the same customer: %s alone, %s among others", i, few[i], many[i])
		}
	}
}

// TestHalfAYear holds the town against what it claims to be.
func TestHalfAYear(t *testing.T) {
	const customers, days = 500, 182
	town := found(t, 7, customers)
	end := monday.AddDate(0, 0, days)
	rome, err := calendar.Zone("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[engagement.Kind]int{}
	machines, night, humans := 0, 0, 0
	perDay := map[string]map[int64]bool{}
	var e engagement.Event
	for town.Next(&e); e.Time.Before(end); town.Next(&e) {
		kinds[e.Kind]++
		if !e.Kind.Engaged() {
			continue
		}
		if e.Actor != engagement.Human {
			machines++
			continue
		}
		humans++
		hour, _ := calendar.LocalHour(e.Time, rome)
		if h := calendar.HourOfWeek(hour) % 24; h >= 2 && h < 6 {
			night++
		}
		if perDay[e.Subject] == nil {
			perDay[e.Subject] = map[int64]bool{}
		}
		perDay[e.Subject][hour] = true
	}
	if n := kinds[engagement.Delivered]; n < customers*days/7 || n > customers*days {
		t.Errorf("%d deliveries to %d customers in %d days: want between one a week and one a day", n, customers, days)
	}
	if share := float64(humans) / float64(kinds[engagement.Delivered]); share < .2 || share > .9 {
		t.Errorf("%.2f human engagements for each delivery", share)
	}
	for _, k := range []engagement.Kind{engagement.Open, engagement.Click, engagement.Reply, engagement.Bounce, engagement.Unsubscribe} {
		if kinds[k] == 0 {
			t.Errorf("no %s in half a year", k)
		}
	}
	if machines == 0 {
		t.Error("no machine opened anything")
	}
	if share := float64(night) / float64(humans); share > .08 {
		t.Errorf("%.0f %% of engagements between 2 and 6", 100*share)
	}
	count := map[string]int{}
	more, bursts := 0, 0
	for i := range customers {
		id := "C-" + pad(i+1, 5)
		for _, ep := range town.Episodes(id) {
			count[ep.Kind]++
			if ep.Kind != Burst || ep.To.After(end) {
				continue
			}
			hours := 0
			for h := range perDay[id] {
				if at := calendar.Instant(h, rome); !at.Before(ep.From) && at.Before(ep.To) {
					hours++
				}
			}
			if bursts++; hours >= 4 {
				more++
			}
			if !town.Knows(id, Burst, ep.From.Add(time.Hour)) || town.Knows(id, Burst, monday) {
				t.Errorf("%s: the town does not know its own burst from %s on", id, ep.From)
			}
		}
	}
	for _, k := range []string{Burst, Silent, Back, Shifted} {
		if count[k] == 0 {
			t.Errorf("no episode %q in half a year", k)
		}
	}
	if bursts == 0 || more*2 < bursts {
		t.Errorf("only %d of %d bursts show at least four engaged hours", more, bursts)
	}
}

func TestSilenceIsSilent(t *testing.T) {
	town := found(t, 11, 300)
	end := monday.AddDate(0, 0, 150)
	var e engagement.Event
	for town.Next(&e); e.Time.Before(end); town.Next(&e) {
		// A scanner's clicks look human to rules that see one event alone, and go on.
		if e.Kind.Engaged() && e.Actor == engagement.Human && !scanned(town, e.Subject) &&
			town.Knows(e.Subject, Silent, e.Time.Add(-time.Hour)) && town.Knows(e.Subject, Silent, e.Time.Add(time.Hour)) {
			t.Fatalf("%s %s of %s while silent", e.Time, e.Kind, e.Subject)
		}
	}
}

func scanned(t *Town, id string) bool {
	for _, p := range t.people {
		if p.id == id {
			return p.scanned
		}
	}
	return false
}

func TestATownNeedsPeople(t *testing.T) {
	if _, err := New(Config{Customers: 0, Start: monday}); err == nil {
		t.Error("a town of nobody was founded")
	}
}

func BenchmarkNext(b *testing.B) {
	town := found(b, 1, 2000)
	var e engagement.Event
	b.ReportAllocs()
	for b.Loop() {
		town.Next(&e)
	}
}
