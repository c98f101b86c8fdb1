package town

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tempismo/tempismo/pkg/domain/calendar"
	"github.com/tempismo/tempismo/pkg/domain/engagement"
	"github.com/tempismo/tempismo/services/tempismo/truth"
)

var monday = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func found(tb testing.TB, c Config) *Town {
	tb.Helper()
	t, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// experiment is half a year of quiet and eight weeks of test, from the first of September on.
func experiment(seed uint64, customers int) Config {
	start := time.Date(2025, 9, 1, 0, 0, 0, 0, time.UTC)
	return Config{Seed: seed, Customers: customers, Start: start, QuietUntil: start.AddDate(0, 0, 182), Until: start.AddDate(0, 0, 238)}
}

// seen is an event that shows a human's attention as far as anybody can tell.
func seen(e *engagement.Event) bool { return e.Kind.Engaged() && e.Actor == engagement.Human }

func TestEventsAreValidAndInOrderOfTime(t *testing.T) {
	town := found(t, Config{Seed: 1, Customers: 60, Start: monday, Stories: monday.AddDate(0, 0, 100)})
	var e engagement.Event
	var last time.Time
	ids := map[string]bool{}
	for range 20_000 {
		town.Next(&e)
		if err := e.Validate(); err != nil {
			t.Fatalf("%+v: %v", e, err)
		}
		if actor, rule := engagement.Classify(e.Kind, e.Actor == engagement.Machine && e.ActorRule == engagement.RuleProvider, e.UserAgent); actor != e.Actor || rule != e.ActorRule {
			t.Fatalf("%+v: the rules say %s by %q", e, actor, rule)
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
	a, b, c := found(t, Config{Seed: 1, Customers: 40, Start: monday}), found(t, Config{Seed: 1, Customers: 40, Start: monday}), found(t, Config{Seed: 2, Customers: 40, Start: monday})
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

// TestAloneOrAmongOthersACustomerIsTheSame holds the stream of a town to the lives of its customers one by one, in a smaller
// town, in any order.
func TestAloneOrAmongOthersACustomerIsTheSame(t *testing.T) {
	many := experiment(3, 30)
	many.Stories = many.Until
	few := many
	few.Customers = 6
	town := found(t, many)
	streamed := map[string][]engagement.Event{}
	var e engagement.Event
	for town.Next(&e); e.Time.Before(many.Until); town.Next(&e) {
		streamed[e.Subject] = append(streamed[e.Subject], e)
	}
	truths := map[string]truth.Customer{}
	for c := range town.Truths() {
		truths[c.Customer] = c
	}
	if len(truths) != 30+len(Stories) {
		t.Errorf("truth of %d people, want 30 and the residents", len(truths))
	}
	other := found(t, few)
	check := func(events []engagement.Event, c truth.Customer) {
		t.Helper()
		if want := streamed[c.Customer]; len(want) < 20 || !slices.Equal(events, want) {
			t.Errorf("%s: %d events alone, %d in the stream, or others", c.Customer, len(events), len(want))
		}
		if !reflect.DeepEqual(c, truths[c.Customer]) {
			t.Errorf("%s: truth alone %+v, in the town %+v", c.Customer, c, truths[c.Customer])
		}
	}
	for i := range few.Customers {
		check(other.Each(few.Customers - 1 - i))
	}
	for i := range Stories {
		check(other.Story(i))
	}
}

func TestATownThatCannotBe(t *testing.T) {
	later := monday.AddDate(0, 0, 100)
	for sentence, c := range map[string]Config{
		"nobody lives there":          {Start: monday},
		"it never begins":             {Customers: 1},
		"it is quiet until nowhere":   {Customers: 1, Start: monday, QuietUntil: later},
		"it ends before it is quiet":  {Customers: 1, Start: monday, QuietUntil: later, Until: monday},
		"it is less lively than dead": {Customers: 1, Start: monday, Lively: -1},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := New(c); err == nil {
				t.Error("it was founded")
			}
		})
	}
}

// TestExperiment holds an experiment to what it promises of its customers. Tolerances: shares of n customers may be five
// standard errors sqrt(p(1-p)/n) off; quantiles of engaged hours are promised as ranges.
func TestExperiment(t *testing.T) {
	const customers = 3000
	c := experiment(11, customers)
	town := found(t, c)
	share := func(what string, got, n int, p float64) {
		t.Helper()
		if f, allowed := float64(got)/float64(n), 5*math.Sqrt(p*(1-p)/float64(n)); math.Abs(f-p) > allowed {
			t.Errorf("%s: %d of %d are %.3f, want %.3f ± %.3f", what, got, n, f, p, allowed)
		}
	}
	kinds := map[engagement.Kind]int{}
	fates := map[string]int{}
	var hours []int
	var nulls, moved, late, machines, night, humans int
	var opened, expected, variance float64 // of messages in ordinary times
	bursts := map[bool]int{}
	for i := range customers {
		events, known := town.Each(i)
		p := town.born(i)
		zone, err := calendar.Zone(known.Zone)
		if err != nil {
			t.Fatal(err)
		}
		past, fate := "", ""
		for _, e := range known.Episodes {
			if e.From.Before(c.QuietUntil) {
				past += e.Kind + " "
				if e.Kind != truth.Holiday && e.Kind != truth.Shift || !e.To.IsZero() && e.To.After(c.QuietUntil) {
					t.Errorf("%s: %s from %s to %s in the quiet time", known.Customer, e.Kind, e.From, e.To)
				}
				if e.Kind == truth.Shift {
					moved++
				}
			} else {
				fate += e.Kind + " "
				if !e.From.Before(c.Until) && e.Kind != truth.Back {
					t.Errorf("%s: %s from %s on, after the end", known.Customer, e.Kind, e.From)
				}
			}
		}
		if *known.Null {
			nulls++
		} else {
			fates[fate]++
		}
		if (fate == "") != *known.Null {
			t.Errorf("%s: null %v, episodes %q", known.Customer, *known.Null, fate)
		}
		if !known.Since.IsZero() {
			late++
			if events[0].Time.Before(known.Since) {
				t.Errorf("%s: an event of %s, exported since %s", known.Customer, events[0].Time, known.Since)
			}
		}
		engaged, inBurst := map[int64]bool{}, map[int64]bool{}
		for _, e := range events {
			if p.scanned && e.Kind == engagement.Click { // some of them are the scanner's
				continue
			}
			kinds[e.Kind]++
			if e.Kind.Engaged() && e.Actor != engagement.Human {
				machines++
			}
			if !seen(&e) {
				continue
			}
			hour, _ := calendar.LocalHour(e.Time, zone)
			for _, ep := range known.Episodes {
				if !ep.Holds(e.Time) {
					continue
				}
				switch ep.Kind {
				case truth.Silent:
					t.Fatalf("%s: %s at %s while silent", known.Customer, e.Kind, e.Time)
				case truth.Burst:
					inBurst[hour] = true
				}
			}
			if !e.Time.Before(c.QuietUntil) {
				continue
			}
			engaged[hour] = true
			humans++
			if h := calendar.HourOfWeek(hour) % 24; h >= 2 && h < 6 {
				night++
			}
		}
		hours = append(hours, len(engaged))
		if fate == "burst " && !p.private {
			bursts[len(inBurst) >= 4]++
		}
		if past == "" && !p.private && !p.scanned && known.Since.IsZero() {
			o, e, v := ordinary(p, events, known.Response, zone)
			opened, expected, variance = opened+o, expected+e, variance+v
		}
	}
	share("nulls", nulls, customers, .5+.5*.02)
	share("habits that moved in the past", moved, customers, .2)
	share("customers whose export starts late", late, customers, .05)
	tested := customers - nulls
	share("bursts", fates["burst "], tested, .25)
	share("silences for good", fates["silent "], tested, .25)
	share("shifts", fates["shift "], tested, .25)
	share("silences that end", fates["silent back "], tested, .25/3)
	share("holidays", fates["holiday "], tested, .25/3)
	share("two bursts", fates["burst burst "], tested, .25/3)

	// Doc: 5 to 100 engaged hours in 26 weeks, the median about 19.
	slices.Sort(hours)
	q := func(f float64) int { return hours[int(f*customers)] }
	t.Logf("engaged hours: 5 %% %d, 50 %% %d, 95 %% %d, 99 %% %d", q(.05), q(.5), q(.95), q(.99))
	if q(.05) < 3 || q(.05) > 7 || q(.5) < 17 || q(.5) > 22 || q(.99) < 70 || q(.99) > 120 {
		t.Error("engaged hours in half a year are not from 5 to 100 with a median of some 19")
	}
	for _, k := range []engagement.Kind{engagement.Open, engagement.Click, engagement.Reply, engagement.Bounce, engagement.Unsubscribe} {
		if kinds[k] == 0 {
			t.Errorf("no %s", k)
		}
	}
	if f := float64(machines) / float64(kinds[engagement.Delivered]); f < .1 || f > .2 { // 15 % of customers
		t.Errorf("%.2f opens by machines for each delivery", f)
	}
	if f := float64(night) / float64(humans); f > .08 {
		t.Errorf("%.0f %% of engagements between 2 and 6", 100*f)
	}
	// Given their issues' appeal, messages share nothing but weeks, whose part in the variance is small against five standard
	// errors. That single messages are opened as said is TestTruthIsWhatIsCounted; here it is that those of a town are, too.
	off, allowed := (opened-expected)/expected, .02+5*math.Sqrt(variance)/expected
	t.Logf("messages in ordinary times: %.0f opened within 24 h, %.0f expected: %+.1f %% ± %.1f %%", opened, expected, 100*off, 100*allowed)
	if math.Abs(off) > allowed {
		t.Error("opens are not as likely as the truth says")
	}
	// A burst is twice 24 hours of five times as many visits.
	if n := bursts[true] + bursts[false]; float64(bursts[true]) < .8*float64(n) {
		t.Errorf("only %d of %d bursts show four engaged hours", bursts[true], n)
	}
}

// ordinary counts a person's messages of the quiet time that were opened within 24 hours, and how many should have been, with
// the variance of that; of messages that no other follows within a day, outside seasons and closed days. What the truth says
// is of all issues; of one with a known appeal, the chance to stay unopened is about its power (within 2 %).
func ordinary(p *person, events []engagement.Event, response truth.Week, zone *time.Location) (opened, expected, variance float64) {
	town := p.town
	first := map[string]time.Time{}
	var delivered []*engagement.Event
	for i := range events {
		e := &events[i]
		if e.Kind == engagement.Delivered && e.Time.Before(town.config.QuietUntil) {
			delivered = append(delivered, e)
		}
		if e.Kind == engagement.Open && first[e.Message].IsZero() {
			first[e.Message] = e.Time
		}
	}
	for i, e := range delivered {
		n := p.dayOf(e.Time)
		plain := e.Campaign != "triggered"
		for k := -1; k <= 2; k++ {
			d := town.almanac.day(p.place, max(0, n+k))
			weekend := d.weekday == time.Saturday || d.weekday == time.Sunday
			plain = plain && d.season == 1 && d.rest == weekend
		}
		if !plain || i+1 < len(delivered) && delivered[i+1].Time.Sub(e.Time) < 24*time.Hour {
			continue
		}
		appeal := 0.
		for _, s := range town.almanac.day(p.place, n).issues {
			if e.Message == campaigns[s.campaign].name+"-"+s.stamp+"-"+p.id {
				appeal = s.appeal
			}
		}
		hour, _ := calendar.LocalHour(e.Time, zone)
		r := 1 - math.Pow(1-response[calendar.HourOfWeek(hour)], appeal)
		expected += r
		variance += r * (1 - r)
		if at := first[e.Message]; !at.IsZero() && at.Sub(e.Time) <= 24*time.Hour {
			opened++
		}
	}
	return opened, expected, variance
}

// TestEndlessTown holds the demo's town to what it claims: things happen, at any time after the first month.
func TestEndlessTown(t *testing.T) {
	const customers, days = 400, 182
	town := found(t, Config{Seed: 7, Customers: customers, Start: monday, Lively: 2})
	end := monday.AddDate(0, 0, days)
	var e engagement.Event
	for town.Next(&e); e.Time.Before(end); town.Next(&e) {
	}
	count := map[string]int{}
	for i := range customers {
		id := "C-" + number(i+1)
		for _, ep := range town.Episodes(id) {
			count[ep.Kind]++
			if ep.From.Before(monday.AddDate(0, 0, 29)) {
				t.Errorf("%s: %s on %s, in the first month", id, ep.Kind, ep.From)
			}
			if !town.Knows(id, ep.Kind, ep.From) || town.Knows(id, ep.Kind, monday) {
				t.Errorf("%s: the town does not know its own %s from %s on", id, ep.Kind, ep.From)
			}
		}
	}
	for _, k := range []string{truth.Burst, truth.Silent, truth.Back, truth.Shift, truth.Holiday} {
		if count[k] < 10 {
			t.Errorf("%d episodes %q in half a year of %d customers", count[k], k, customers)
		}
	}
	if town.Episodes("nobody") != nil {
		t.Error("something is known of nobody")
	}
}

// TestStories holds the residents to what their ids say, by what anybody can see.
func TestStories(t *testing.T) {
	for seed := range uint64(8) {
		c := experiment(seed, 1)
		c.Stories = c.Until.AddDate(0, 0, -16)
		town := found(t, c)
		for i, id := range Stories {
			events, known := town.Story(i)
			last := known.Episodes[len(known.Episodes)-1]
			zone, err := calendar.Zone(known.Zone)
			if err != nil {
				t.Fatal(err)
			}
			before, after := 0, 0                   // engagements before and after it began
			var hoursBefore, hoursAfter [24]int     // by hour of the day
			deliveredAfter, first := 0, time.Time{} // mail, and the first engagement
			for _, e := range events {
				hour, _ := calendar.LocalHour(e.Time, zone)
				h := calendar.HourOfWeek(hour) % 24
				switch {
				case e.Kind == engagement.Delivered && !e.Time.Before(last.From):
					deliveredAfter++
				case !seen(&e):
				case e.Time.Before(last.From):
					before++
					hoursBefore[h]++
				default:
					if after++; after == 1 {
						first = e.Time
					}
					hoursAfter[h]++
				}
			}
			if before < 60 || len(events) > 900 {
				t.Errorf("%s, seed %d: %d engagements before it happens, %d events: want a customer who is well known, in a few hundred lines", id, seed, before, len(events))
			}
			ok := false
			switch id {
			case "anna-moves-by-8-hours":
				ok = most(hoursAfter) == most(hoursBefore)+8 || most(hoursAfter) == most(hoursBefore)+7 || most(hoursAfter) == most(hoursBefore)+9
			case "bruno-falls-silent":
				ok = after == 0 && deliveredAfter >= 15
			case "carla-comes-back":
				ok = last.Kind == truth.Back && !first.IsZero() && first.Before(c.Stories)
			case "dario-bursts":
				ok = after >= 10
			}
			if !ok {
				t.Errorf("%s, seed %d: %d engagements, at %v, and %d messages from %s (%s) on; hours before %v", id, seed, after, hoursAfter, deliveredAfter, last.From, last.Kind, hoursBefore)
			}
		}
	}
}

func most(counts [24]int) int {
	at := 0
	for h, n := range counts {
		if n > counts[at] {
			at = h
		}
	}
	return at
}

// TestTheFeedIsDownForEverybody looks for an hour of an outage in which a town of many has no events, and finds some around it.
func TestTheFeedIsDownForEverybody(t *testing.T) {
	c := experiment(1, 500)
	for ; len(found(t, c).Header().Outages) == 0; c.Seed++ {
	}
	town := found(t, c)
	down := town.Header().Outages[0]
	if h := down.To.Sub(down.From).Hours(); h < 3 || h > 12 {
		t.Errorf("down for %g hours", h)
	}
	during, around := 0, 0
	var e engagement.Event
	for town.Next(&e); e.Time.Before(down.To.Add(24 * time.Hour)); town.Next(&e) {
		if down.Holds(e.Time) {
			during++
		} else if e.Time.After(down.From.Add(-24 * time.Hour)) {
			around++
		}
	}
	if during > 0 || around < 100 {
		t.Errorf("%d events while the feed was down, %d in the days around", during, around)
	}
}

func BenchmarkEach(b *testing.B) {
	town := found(b, experiment(1, 1_000_000))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		town.Each(i)
	}
}

func BenchmarkNext(b *testing.B) {
	town := found(b, Config{Seed: 1, Customers: 2000, Start: monday})
	var e engagement.Event
	b.ReportAllocs()
	for b.Loop() {
		town.Next(&e)
	}
}
